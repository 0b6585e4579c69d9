package cpu

import (
	"runtime"

	"splitbench/models/backend"
)

// narrow is a weight stored in fewer bits than float32. Products widen its
// panels to float32, exactly as its definition says, and then have the bits of
// the product with the widened weight.
type narrow interface {
	backend.Weight
	// widen writes terms [k0, k0+kn) of panel p to dst, panelWidth per term;
	// k0 is a multiple of blockK.
	widen(dst []float32, p, k0, kn int)
	// few computes c (rows, 16*panels) += a · w over the leading terms of the
	// panels [p, p+panels), one or two, without a widened copy in memory. It
	// returns how many terms that were, a multiple of blockK or all; 0 where
	// there is no kernel.
	few(rows int, a []float32, lda, p, panels int, c []float32, ldc int) int
}

// widenRow writes row r of w to dst, of In values.
func widenRow(dst []float32, w narrow, r int) {
	var panel [blockK * panelWidth]float32
	for k := 0; k < len(dst); k += blockK {
		n := min(blockK, len(dst)-k)
		w.widen(panel[:n*panelWidth], r/panelWidth, k, n)
		for i := range n {
			dst[k+i] = panel[i*panelWidth+r%panelWidth]
		}
	}
}

const (
	// fewRows is up to how many rows a product widens the weight in registers,
	// once for each 4, 2 or 1 rows; beyond, once for all rows through memory.
	fewRows = 4
	// widenTerms is how many terms of maxPanels panels are widened at a time:
	// 48 KiB, which stay in the second-level cache.
	widenTerms = 8 * blockK
)

// multiplyNarrow computes d (+)= s · wᵀ.
func (b *Backend) multiplyNarrow(d, s *matrix, w narrow, accumulate bool) {
	np := (w.Out() + panelWidth - 1) / panelWidth
	cost := 2 * float64(s.rows) * float64(w.In()) * float64(w.Out())
	if s.rows <= fewRows {
		// Tasks of whole pairs of panels, several per worker.
		step := max(2, np/(8*b.pool.workers)/2*2)
		b.pool.do((np+step-1)/step, cost, func(worker, task int) {
			for p := task * step; p < min(np, (task+1)*step); p += 2 {
				b.multiplyFew(&b.scratch[worker], d, s, w, p, min(2, np-p), accumulate)
			}
		})
		runtime.KeepAlive(w)
		return
	}
	b.pool.do((np+maxPanels-1)/maxPanels, cost, func(worker, task int) {
		from := task * maxPanels
		to := min(np, from+maxPanels)
		b.multiplyWidened(&b.scratch[worker], d, s, w, from, to, 0, accumulate)
	})
	runtime.KeepAlive(w)
}

// multiplyWidened computes columns of panels [from, to), at most maxPanels,
// over the terms from k0 on, a multiple of blockK.
func (b *Backend) multiplyWidened(sc *scratch, d, s *matrix, w narrow, from, to, k0 int, accumulate bool) {
	sc.unpack = grow(sc.unpack, maxPanels*panelWidth*widenTerms)
	for ; k0 < s.cols; k0 += widenTerms {
		kn := min(widenTerms, s.cols-k0)
		stride := kn * panelWidth
		for p := from; p < to; p++ {
			w.widen(sc.unpack[(p-from)*stride:], p, k0, kn)
		}
		// The block is a matrix whose first column is column from*panelWidth of d.
		cols := min(d.cols-from*panelWidth, (to-from)*panelWidth)
		b.kernel.multiply(s.rows, kn, s.data[k0:], s.cols, panels{sc.unpack, cols, stride}, 0, to-from, d.data[from*panelWidth:], d.cols, accumulate, sc.edge[:])
		accumulate = true
	}
}

// multiplyFew computes the columns of one or two panels for at most fewRows
// rows.
func (b *Backend) multiplyFew(sc *scratch, d, s *matrix, w narrow, p, n int, accumulate bool) {
	col := p * panelWidth
	width := min(n*panelWidth, d.cols-col)
	c, ldc := d.data[col:], d.cols
	aside := width < n*panelWidth // the last panel sticks out of d
	if aside {
		c, ldc = sc.edge[:], n*panelWidth
	}
	for r := range s.rows {
		row := c[r*ldc:][:n*panelWidth]
		switch {
		case !accumulate:
			clear(row) // a partial sum is never -0: zero plus it has its bits
		case aside:
			copy(row, d.row(r)[col:])
		}
	}
	done := w.few(s.rows, s.data, s.cols, p, n, c, ldc)
	if aside {
		for r := range s.rows {
			copy(d.row(r)[col:], c[r*ldc:][:width])
		}
	}
	if done < s.cols {
		b.multiplyWidened(sc, d, s, w, p, p+n, done, accumulate || done > 0)
	}
}
