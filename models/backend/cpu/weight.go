package cpu

import (
	"fmt"

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

// packedWeight keeps the codes as they came; blocks of it are dequantised
// inside the product.
type packedWeight struct {
	backend.Packed
	rowBytes, groups int
}

func (w *packedWeight) Out() int { return w.Packed.Out }
func (w *packedWeight) In() int  { return w.Packed.In }
func (w *packedWeight) Bytes() int64 {
	return int64(len(w.Codes)) + 4*int64(len(w.Scales)) + int64(len(w.Zeros))
}

// NewWeight packs the rows that d.Fill delivers.
func (b *Backend) NewWeight(d backend.Dense) (backend.Weight, error) {
	if d.Out <= 0 || d.In <= 0 {
		return nil, fmt.Errorf("cpu backend: weight of %d x %d", d.Out, d.In)
	}
	np := (d.Out + panelWidth - 1) / panelWidth
	w := &denseWeight{d.Out, d.In, panels{make([]float32, np*panelWidth*d.In), d.Out, d.In * panelWidth}}
	const rowsAtOnce = panelWidth
	errs := make([]error, np)
	b.pool.do(np, 2*float64(d.Out)*float64(d.In), func(worker, p int) {
		from, to := p*rowsAtOnce, min(d.Out, (p+1)*rowsAtOnce)
		s := &b.scratch[worker]
		s.rows = grow(s.rows, rowsAtOnce*d.In)
		rows := s.rows[:(to-from)*d.In]
		if err := d.Fill(rows, from, to); err != nil {
			errs[p] = err
			return
		}
		panel := w.panels.data[p*w.panels.stride:]
		for r := 0; r < to-from; r++ {
			for k, v := range rows[r*d.In : (r+1)*d.In] {
				panel[k*panelWidth+r] = v
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// NewPackedWeight keeps p's slices; the caller must not change them.
func (b *Backend) NewPackedWeight(p backend.Packed) (backend.Weight, error) {
	if p.Bits < 1 || p.Bits > 8 {
		return nil, fmt.Errorf("cpu backend: packed weight of %d bits, expected 1..8", p.Bits)
	}
	group := p.Group
	if group == 0 {
		group = p.In
	}
	w := &packedWeight{Packed: p, rowBytes: (p.In*p.Bits + 7) / 8}
	w.Group = group
	w.groups = (p.In + group - 1) / group
	if len(p.Codes) != p.Out*w.rowBytes || len(p.Scales) != p.Out*w.groups || len(p.Zeros) != p.Out*w.groups {
		return nil, fmt.Errorf("cpu backend: packed weight %d x %d: %d code bytes, %d scales, %d zeros, expected %d, %d, %d",
			p.Out, p.In, len(p.Codes), len(p.Scales), len(p.Zeros), p.Out*w.rowBytes, p.Out*w.groups, p.Out*w.groups)
	}
	return w, nil
}

// dequantise writes columns [from, to) of row r: scale * (code - zero).
func (w *packedWeight) dequantise(dst []float32, r, from, to int) {
	codes := w.Codes[r*w.rowBytes : (r+1)*w.rowBytes]
	mask := uint32(1)<<w.Bits - 1
	for c := from; c < to; {
		g := c / w.Group
		end := min(to, (g+1)*w.Group)
		scale, zero := w.Scales[r*w.groups+g], float32(w.Zeros[r*w.groups+g])
		for ; c < end; c++ {
			bit := c * w.Bits
			v := uint32(codes[bit>>3])
			if bit&7+w.Bits > 8 {
				v |= uint32(codes[bit>>3+1]) << 8
			}
			dst[c-from] = scale * (float32(v>>(bit&7)&mask) - zero)
		}
	}
}

// unpackBlock writes panels [from, to) of terms [k0, k0+kn) to dst, panel
// after panel.
func (w *packedWeight) unpackBlock(dst, row []float32, from, to, k0, kn int) {
	for p := from; p < to; p++ {
		panel := dst[(p-from)*kn*panelWidth:][:kn*panelWidth]
		for j := 0; j < panelWidth; j++ {
			r := p*panelWidth + j
			if r >= w.Packed.Out {
				for k := 0; k < kn; k++ {
					panel[k*panelWidth+j] = 0
				}
				continue
			}
			w.dequantise(row[:kn], r, k0, k0+kn)
			for k, v := range row[:kn] {
				panel[k*panelWidth+j] = v
			}
		}
	}
}

// Embed copies rows of the table.
func (b *Backend) Embed(dst backend.Matrix, table backend.Weight, ids []int32) {
	d := dst.(*matrix)
	mustEqual("Embed rows", d.rows, len(ids))
	mustEqual("Embed columns", d.cols, table.In())
	switch t := table.(type) {
	case *denseWeight:
		b.rowLoop(d.rows, 64, float64(d.cols), func(_, from, to int) {
			for r := from; r < to; r++ {
				id := int(ids[r])
				panel := t.panels.data[id/panelWidth*t.panels.stride+id%panelWidth:]
				for k := range d.row(r) {
					d.data[r*d.cols+k] = panel[k*panelWidth]
				}
			}
		})
	case *packedWeight:
		b.rowLoop(d.rows, 64, 4*float64(d.cols), func(_, from, to int) {
			for r := from; r < to; r++ {
				t.dequantise(d.row(r), int(ids[r]), 0, t.Packed.In)
			}
		})
	}
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

func (b *Backend) matMul(d, s *matrix, w backend.Weight, accumulate bool) {
	switch w := w.(type) {
	case *denseWeight:
		b.denseMatMul(d, s, w, accumulate)
	case *packedWeight:
		b.packedMatMul(d, s, w, accumulate)
	}
}

func (b *Backend) packedMatMul(d, s *matrix, w *packedWeight, accumulate bool) {
	const colsPerTask = 2 * maxPanels // panels
	np := (w.Out() + panelWidth - 1) / panelWidth
	colTasks := (np + colsPerTask - 1) / colsPerTask
	cost := 2 * float64(s.rows) * float64(w.In()) * float64(w.Out())
	b.pool.do(colTasks, cost, func(worker, task int) {
		from := task * colsPerTask
		to := min(np, from+colsPerTask)
		sc := &b.scratch[worker]
		sc.unpack = grow(sc.unpack, colsPerTask*panelWidth*blockK)
		sc.rows = grow(sc.rows, blockK)
		for k0 := 0; k0 < s.cols; k0 += blockK {
			kn := min(blockK, s.cols-k0)
			w.unpackBlock(sc.unpack, sc.rows, from, to, k0, kn)
			// The block starts at panel `from`: shift columns so that panel 0 of the call is that one.
			b.kernel.multiplyBlock(s.rows, kn, s.data[k0:], s.cols, sc.unpack, kn*panelWidth, d.cols-from*panelWidth, 0, to-from, d.data[from*panelWidth:], d.cols, accumulate || k0 > 0, sc.edge[:])
		}
	})
}

func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}
