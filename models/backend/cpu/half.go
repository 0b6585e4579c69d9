package cpu

import (
	"math"
	"runtime"

	"splitbench/models/backend"
)

// halfWeight keeps a weight whose values exist in 16 bits in panels of 16-bit
// patterns, laid out as those of denseWeight. The product widens them, which
// is exact.
type halfWeight struct {
	out, in int
	element backend.Element
	kernels *halfKernels // nil = plain Go
	data    []uint16     // panel p starts at p*in*panelWidth
}

// halfKernels are the assembly kernels of one 16-bit type.
type halfKernels struct {
	// widen converts n values, a multiple of panelWidth.
	widen func(n int, b *uint16, dst *float32)
	// tiles lists products of few rows, most rows first, of one panel and of
	// two at distance stride: c (rows, 16*panels) += a (rows, k) · b, in
	// partial sums of blockK terms. A nil entry means none.
	tiles []halfTile
}

type halfTile struct {
	rows int
	fn   [2]func(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)
}

func (w *halfWeight) Out() int     { return w.out }
func (w *halfWeight) In() int      { return w.in }
func (w *halfWeight) Bytes() int64 { return 2 * int64(len(w.data)) }

// newHalfWeight packs the rows that d.Fill16 delivers.
func (b *Backend) newHalfWeight(d backend.Dense) (backend.Weight, error) {
	np := (d.Out + panelWidth - 1) / panelWidth
	w := &halfWeight{out: d.Out, in: d.In, element: d.Element, kernels: halfKernelsOf(b.kernel.name, d.Element)}
	w.data = allocate[uint16](w, np*panelWidth*d.In)
	err := b.fillPanels(d.Out, d.In, func(worker, p, from, to int) error {
		s := &b.scratch[worker]
		s.rows16 = grow(s.rows16, panelWidth*d.In)
		rows := s.rows16[:(to-from)*d.In]
		if err := d.Fill16(rows, from, to); err != nil {
			return err
		}
		transpose(w.data[p*d.In*panelWidth:], rows, to-from, d.In)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// fillPanels calls fill for the rows of each panel and returns the error of
// the first panel that has one.
func (b *Backend) fillPanels(out, in int, fill func(worker, panel, from, to int) error) error {
	np := (out + panelWidth - 1) / panelWidth
	errs := make([]error, np)
	b.pool.do(np, 2*float64(out)*float64(in), func(worker, p int) {
		errs[p] = fill(worker, p, p*panelWidth, min(out, (p+1)*panelWidth))
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// transpose writes n rows of cols values as columns of a panel, in blocks that
// stay in cache.
func transpose[T any](panel, rows []T, n, cols int) {
	const block = 64
	for k0 := 0; k0 < cols; k0 += block {
		k1 := min(cols, k0+block)
		for r := range n {
			out := panel[k0*panelWidth+r:]
			for k, v := range rows[r*cols+k0 : r*cols+k1] {
				out[k*panelWidth] = v
			}
		}
	}
}

func (w *halfWeight) widen(dst []float32, p, k0, kn int) {
	src := w.data[(p*w.in+k0)*panelWidth:][:kn*panelWidth]
	dst = dst[:len(src)]
	if w.kernels != nil {
		w.kernels.widen(len(src), &src[0], &dst[0])
		return
	}
	widenHalves(w.element, dst, src)
}

// widenHalves converts len(dst) values.
func widenHalves(e backend.Element, dst []float32, src []uint16) {
	src = src[:len(dst)]
	if e == backend.BFloat16 {
		for i, v := range src {
			dst[i] = math.Float32frombits(uint32(v) << 16)
		}
		return
	}
	for i, h := range src {
		sign, magnitude := uint32(h&0x8000)<<16, uint32(h&0x7fff)<<13
		// As a binary32 the value is too small by 2^(127-15); the product is exact.
		v := math.Float32bits(math.Float32frombits(magnitude) * 0x1p112)
		if magnitude >= 0x1f<<23 { // infinity, or NaN, which becomes quiet as VCVTPH2PS makes it
			v = magnitude | 0xff<<23
			if magnitude > 0x1f<<23 {
				v |= 1 << 22
			}
		}
		dst[i] = math.Float32frombits(sign | v)
	}
}

func (w *halfWeight) few(rows int, a []float32, lda, p, panels int, c []float32, ldc int) int {
	if w.kernels == nil {
		return 0
	}
	stride := w.in * panelWidth
	// The kernels read and write through pointers: prove the bounds here.
	b := w.data[p*stride : (p+panels)*stride]
	_ = a[(rows-1)*lda+w.in-1]
	_ = c[(rows-1)*ldc+panels*panelWidth-1]
	i := 0
	for _, t := range w.kernels.tiles {
		for i+t.rows <= rows {
			n := 1
			if panels == 2 && t.fn[1] != nil {
				n = 2
			}
			for q := 0; q < panels; q += n {
				t.fn[n-1](w.in, &a[i*lda], lda, &b[q*stride], stride, &c[i*ldc+q*panelWidth], ldc)
			}
			i += t.rows
		}
	}
	return w.in
}

func (w *halfWeight) row(dst []float32, r int) {
	var v [1]uint16
	panel := w.data[r/panelWidth*w.in*panelWidth+r%panelWidth:]
	for k := range dst {
		v[0] = panel[k*panelWidth]
		widenHalves(w.element, dst[k:k+1], v[:])
	}
	runtime.KeepAlive(w)
}
