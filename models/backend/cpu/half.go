package cpu

import (
	"math"

	"splitbench/models/backend"
)

// halfWeight keeps a weight whose values exist in 16 bits in panels of 16-bit
// patterns. The product widens them, which is exact. Panels of binary16 are
// laid out as those of denseWeight. Panels of bfloat16 interleave two terms,
// so that either is one instruction away from 16 float32: the value of term k
// and column j is at (k/2*16+j)*2 + k%2, and an odd last term has a partner of
// zeros.
type halfWeight struct {
	out, in int
	element backend.Element
	kernels *halfKernels // nil = plain Go
	stride  int          // values of a panel
	data    []uint16
}

// halfKernels are the assembly kernels of one 16-bit type.
type halfKernels struct {
	// widen converts n terms of a panel, an even number, from an even one on.
	widen func(n int, b *uint16, dst *float32)
	// tiles lists products of few rows, most rows first, of one panel and of
	// two at distance stride: c (rows, 16*panels) += a (rows, k) · b, in
	// partial sums of blockK terms.
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
	w.stride = d.In * panelWidth
	if d.Element == backend.BFloat16 {
		w.stride = (d.In + 1) / 2 * 2 * panelWidth
	}
	w.data = allocate[uint16](w, np*w.stride)
	err := b.fillPanels(d.Out, d.In, func(worker, p, from, to int) error {
		s := &b.scratch[worker]
		s.rows16 = grow(s.rows16, panelWidth*d.In)
		rows := s.rows16[:(to-from)*d.In]
		if err := d.Fill16(rows, from, to); err != nil {
			return err
		}
		panel := w.data[p*w.stride:]
		if d.Element == backend.Float16 {
			transpose(panel, rows, to-from, d.In, d.In)
			return nil
		}
		for r := range to - from {
			for k, v := range rows[r*d.In : (r+1)*d.In] {
				panel[(k>>1*panelWidth+r)<<1|k&1] = v
			}
		}
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

// transpose writes n rows of cols values, stride apart, as columns of a panel,
// in blocks that stay in cache.
func transpose[T any](panel, rows []T, n, cols, stride int) {
	const block = 64
	for k0 := 0; k0 < cols; k0 += block {
		k1 := min(cols, k0+block)
		for r := range n {
			out := panel[k0*panelWidth+r:]
			for k, v := range rows[r*stride+k0 : r*stride+k1] {
				out[k*panelWidth] = v
			}
		}
	}
}

func (w *halfWeight) widen(dst []float32, p, k0, kn int) {
	src := w.data[p*w.stride:][:w.stride][k0*panelWidth:]
	dst = dst[:kn*panelWidth]
	if even := kn &^ 1; w.kernels != nil && even > 0 {
		w.kernels.widen(even, &src[:even*panelWidth][0], &dst[0])
		src, dst = src[even*panelWidth:], dst[even*panelWidth:]
	}
	widenHalves(w.element, dst, src)
}

// widenHalves is the plain form of halfKernels.widen for any number of terms.
func widenHalves(e backend.Element, dst []float32, src []uint16) {
	if e == backend.BFloat16 {
		for ; len(dst) > 0; src = src[2*panelWidth:] {
			pairs := (*[2 * panelWidth]uint16)(src)
			for c := range panelWidth {
				dst[c] = math.Float32frombits(uint32(pairs[2*c]) << 16)
			}
			dst = dst[panelWidth:]
			if len(dst) == 0 {
				return
			}
			for c := range panelWidth {
				dst[c] = math.Float32frombits(uint32(pairs[2*c+1]) << 16)
			}
			dst = dst[panelWidth:]
		}
		return
	}
	src = src[:len(dst)]
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
	stride := w.stride
	// The kernels read and write through pointers: prove the bounds here.
	b := w.data[p*stride : (p+panels)*stride]
	_ = a[(rows-1)*lda+w.in-1]
	_ = c[(rows-1)*ldc+panels*panelWidth-1]
	i := 0
	for _, t := range w.kernels.tiles {
		for i+t.rows <= rows {
			t.fn[panels-1](w.in, &a[i*lda], lda, &b[0], stride, &c[i*ldc], ldc)
			i += t.rows
		}
	}
	return w.in
}
