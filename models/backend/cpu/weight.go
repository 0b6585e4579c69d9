package cpu

import (
	"fmt"
	"runtime"

	"splitbench/models/backend"
)

// denseWeight keeps the (out, in) weight transposed in panels: output
// channels are the columns of the product.
type denseWeight struct {
	out, in int
	panels  panels
}

func (w *denseWeight) Out() int     { return w.out }
func (w *denseWeight) In() int      { return w.in }
func (w *denseWeight) Bytes() int64 { return 4 * int64(len(w.panels.data)) }

// NewWeight packs the rows that d.Fill or d.Fill16 delivers; no second copy of
// them exists at any time.
func (b *Backend) NewWeight(d backend.Dense) (backend.Weight, error) {
	if d.Out <= 0 || d.In <= 0 {
		return nil, fmt.Errorf("cpu backend: weight of %d x %d", d.Out, d.In)
	}
	if d.Element != backend.Float32 && d.Fill16 != nil {
		return b.newHalfWeight(d)
	}
	np := (d.Out + panelWidth - 1) / panelWidth
	w := &denseWeight{out: d.Out, in: d.In}
	w.panels = panels{allocate[float32](w, np*panelWidth*d.In), d.Out, d.In * panelWidth}
	err := b.fillPanels(d.Out, d.In, func(worker, p, from, to int) error {
		s := &b.scratch[worker]
		s.rows = grow(s.rows, panelWidth*d.In)
		rows := s.rows[:(to-from)*d.In]
		if err := d.Fill(rows, from, to); err != nil {
			return err
		}
		transpose(w.panels.data[p*w.panels.stride:], rows, to-from, d.In, d.In)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Embed copies rows of the table.
func (b *Backend) Embed(dst backend.Matrix, table backend.Weight, ids []int32) {
	d := dst.(*matrix)
	mustEqual("Embed rows", d.rows, len(ids))
	mustEqual("Embed columns", d.cols, table.In())
	switch t := table.(type) {
	case *denseWeight:
		b.rows(rowJob{kind: embedRow, d: d, ids: ids, dense: t}, d.rows, float64(d.cols))
	case narrow:
		b.rowLoop(d.rows, 64, 4*float64(d.cols), func(_, from, to int) {
			for r := from; r < to; r++ {
				widenRow(d.row(r), t, int(ids[r]))
			}
		})
	}
	runtime.KeepAlive(table)
}

// MatMul multiplies by blocks of rows and panels; each task owns a disjoint
// part of dst.
func (b *Backend) MatMul(dst, src backend.Matrix, w backend.Weight, bias backend.Vector, accumulate bool) {
	d, s := dst.(*matrix), src.(*matrix)
	mustEqual("MatMul rows", d.rows, s.rows)
	mustEqual("MatMul columns", d.cols, w.Out())
	mustEqual("MatMul terms", s.cols, w.In())
	if s.rows == 0 {
		return
	}
	if bias != nil {
		v := bias.(vector)
		mustEqual("MatMul bias", len(v), d.cols)
		for r := 0; r < d.rows; r++ {
			if accumulate {
				for i, x := range v {
					d.data[r*d.cols+i] += x
				}
			} else {
				copy(d.row(r), v)
			}
		}
		accumulate = true
	}
	b.matMul(d, s, w, accumulate)
}

func (b *Backend) matMul(d, s *matrix, weight backend.Weight, accumulate bool) {
	switch w := weight.(type) {
	case *denseWeight:
		b.product.dense = w
		b.multiplyWeight(d, s, w, accumulate)
	case narrow:
		if s.rows <= fewRows {
			b.multiplyFew(d, s, w, accumulate)
			break
		}
		b.product.narrow = w
		b.multiplyWeight(d, s, w, accumulate)
	}
	b.product = productJob{}
	runtime.KeepAlive(weight)
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
