package cpu

import "splitbench/models/backend"

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
	// fewRows is up to how many rows a product widens the weight in registers;
	// beyond, once for all rows through memory.
	fewRows = 2
	// widenTerms is how many terms of maxPanels panels are widened at a time:
	// 48 KiB, which stay in the second-level cache.
	widenTerms = 8 * blockK
)

// multiplyWidened computes c (+)= a · w over the terms [k0, k), k0 a multiple
// of blockK, of panels [from, to). Column 0 of c is column 0 of w.
func (b *Backend) multiplyWidened(sc *scratch, a rows, k0, k int, w narrow, from, to int, c []float32, ldc int, accumulate bool) {
	kr := &b.kernel
	sc.unpack = grow(sc.unpack, maxPanels*panelWidth*widenTerms)
	height := maxRows
	if kr.tiles != nil {
		height = kr.tiles[0].rows
	}
	for p, n := from, 0; p < to; p += n {
		n = min(to-p, kr.wide)
		cols := min(w.Out()-p*panelWidth, n*panelWidth)
		for k0 := k0; k0 < k; k0 += widenTerms {
			kn := min(widenTerms, k-k0)
			stride := kn * panelWidth
			for q := range n {
				w.widen(sc.unpack[q*stride:], p+q, k0, kn)
			}
			part := a.from(k0, height)
			if cols%panelWidth == 0 {
				kr.run(part, k, cols, kn, sc.unpack, stride, nil, c[p*panelWidth:], ldc, accumulate || k0 > 0)
				continue
			}
			part.packed = nil
			kr.multiplyRows(part, kn, panels{sc.unpack[:n*stride], cols, stride}, 0, n, c[p*panelWidth:], ldc, accumulate || k0 > 0, sc.edge[:])
		}
	}
}

// fewJob is one product of at most fewRows rows, shared by the workers.
type fewJob struct {
	b          *Backend
	d, s       *matrix
	w          narrow
	panels     int
	step       int // panels of a task, even
	accumulate bool
}

func (b *Backend) multiplyFew(d, s *matrix, w narrow, accumulate bool) {
	j := &b.few
	*j = fewJob{b: b, d: d, s: s, w: w, panels: (w.Out() + panelWidth - 1) / panelWidth, accumulate: accumulate}
	j.step = max(2, j.panels/(8*b.pool.workers)/2*2)
	b.pool.run((j.panels+j.step-1)/j.step, 2*float64(s.rows)*float64(s.cols)*float64(w.Out()), j)
	*j = fewJob{}
}

func (j *fewJob) item(worker, i int) {
	for p := i * j.step; p < min(j.panels, (i+1)*j.step); p += 2 {
		j.pair(&j.b.scratch[worker], p, min(2, j.panels-p))
	}
}

// pair computes the columns of one or two panels.
func (j *fewJob) pair(sc *scratch, p, n int) {
	d, s := j.d, j.s
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
		case !j.accumulate:
			clear(row) // a partial sum is never -0: zero plus it has its bits
		case aside:
			copy(row, d.row(r)[col:])
		}
	}
	done := j.w.few(s.rows, s.data, s.cols, p, n, c, ldc)
	if aside {
		for r := range s.rows {
			copy(d.row(r)[col:], c[r*ldc:][:width])
		}
	}
	if done < s.cols {
		j.b.multiplyWidened(sc, rows{n: s.rows, data: s.data, ld: s.cols}, done, s.cols, j.w, p, p+n, d.data, d.cols, j.accumulate || done > 0)
	}
}
