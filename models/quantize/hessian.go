package quantize

import (
	"fmt"
	"math"
	"sort"
)

// Hessian is the matrix H = (2/n) sum XᵀX of a linear's inputs over n
// sequences (GPTQ), kept as one triangle in float64. Its memory is that of the
// full matrix in float32. It is not safe for concurrent use.
type Hessian struct {
	// MatMul computes dst = a bᵀ, a (m, k), b (n, k), dst (m, n) by rows, for
	// Factor: its large products are then float32, their sums float64. Nil means
	// plain Go in float64.
	MatMul func(dst, a, b []float32, m, n, k int)

	n         int
	sequences int
	sum       *triangle // of XᵀX, rows and columns in reverse: see Factor
	workers   int
	rows      []tile // scratch of Add
}

// NewHessian returns the empty Hessian of a linear with n inputs. Workers
// bounds the goroutines that compute with it, 0 means one per processor; the
// numbers do not depend on it.
func NewHessian(n, workers int) (*Hessian, error) {
	if n < 1 {
		return nil, fmt.Errorf("hessian: %d inputs: want at least 1", n)
	}
	return &Hessian{n: n, sum: newTriangle(n), workers: workers}, nil
}

// Inputs returns the number of rows and columns.
func (h *Hessian) Inputs() int { return h.n }

// Sequences returns the number of sequences.
func (h *Hessian) Sequences() int { return h.sequences }

// Add accumulates one sequence of tokens inputs x, (tokens, n) by rows.
func (h *Hessian) Add(x []float32, tokens int) error {
	if len(x) != tokens*h.n {
		return fmt.Errorf("hessian: %d numbers for %d tokens of %d inputs", len(x), tokens, h.n)
	}
	nt := h.sum.across()
	if h.rows == nil {
		h.rows = make([]tile, nt)
	}
	for t0 := 0; t0 < tokens; t0 += side {
		k := min(side, tokens-t0)
		parallel(nt, h.workers, func(i int) {
			h.rows[i] = tile{}
			for t := range k {
				row := x[(t0+t)*h.n : (t0+t+1)*h.n]
				for r := range min(side, h.n-i*side) {
					h.rows[i][r*side+t] = float64(row[h.n-1-(i*side+r)])
				}
			}
		})
		parallel(nt, h.workers, func(i int) {
			i = nt - 1 - i
			for j := range i + 1 {
				addMul(h.sum.at(i, j), &h.rows[i], &h.rows[j], 1)
			}
		})
	}
	h.sequences++
	return nil
}

// AddProduct accumulates rows first .. first+rows-1 and columns first .. n-1 of
// a product XᵀX that the caller computed, (rows, n-first) by rows; of it only
// the part on and above the diagonal is read. When all rows of the products are
// in, Count tells how many sequences they hold. This is the way for a fast
// float32 kernel: products of a few thousand tokens, summed here in float64.
func (h *Hessian) AddProduct(first, rows int, product []float32) error {
	cols := h.n - first
	if first < 0 || rows < 0 || rows > cols || len(product) != rows*cols {
		return fmt.Errorf("hessian: product of rows %d to %d with %d numbers: want rows of %d", first, first+rows, len(product), cols)
	}
	parallel(rows, h.workers, func(i int) {
		// Reversed, element (r, c), c >= r, lies at row n-1-r, column n-1-c.
		a := cols - 1 - i
		p := product[i*cols : (i+1)*cols]
		for j := 0; j <= a/side; j++ {
			d := h.sum.at(a/side, j)[a%side*side:]
			d = d[:min(side, a+1-j*side)]
			from := cols - j*side - len(d)
			for k, v := range p[from : from+len(d)] {
				d[len(d)-1-k] += float64(v)
			}
		}
	})
	return nil
}

// Count adds to the number of sequences after AddProduct.
func (h *Hessian) Count(sequences int) { h.sequences += sequences }

// At returns element (r, c) of H.
func (h *Hessian) At(r, c int) float64 {
	a, b := h.n-1-min(r, c), h.n-1-max(r, c)
	return h.sum.get(a, b) * 2 / float64(max(1, h.sequences))
}

// Factor is what GPTQ needs of a Hessian: the upper Cholesky factor U of the
// inverse of the damped matrix. Linears with the same input share one. It is
// read-only and safe for concurrent use.
type Factor struct {
	n       int
	inverse *triangle // of the reversed matrix: U(i,j) at (n-1-i, n-1-j)
	order   []int32   // original column of each position; nil without act-order
	dead    []bool    // by original column
	damp    float64
	workers int
}

// Damp returns the damping that was used, a share of the mean diagonal.
func (f *Factor) Damp() float64 { return f.damp }

// Dead returns the number of inputs that were always 0.
func (f *Factor) Dead() int {
	n := 0
	for _, d := range f.dead {
		if d {
			n++
		}
	}
	return n
}

// maxDamp ends the raising of the damping.
const maxDamp = 1

// Factor turns the Hessian into its factor, in its memory: h is empty
// afterwards. The diagonal of dead inputs becomes 1, then damp times the mean
// of the diagonal is added to it; when the matrix is still not positive
// definite, ten times as much, up to 1. With actOrder the columns go by
// descending diagonal (this copies the matrix once).
//
// For H = R Rᵀ with R upper triangular, U = R⁻¹ satisfies UᵀU = H⁻¹: one
// factorization of the matrix with rows and columns reversed and one inversion
// of a triangle replace GPTQ's Cholesky, inverse, Cholesky.
func (h *Hessian) Factor(damp float64, actOrder bool) (*Factor, error) {
	if !(damp >= 0) || damp > maxDamp {
		return nil, fmt.Errorf("hessian: damp %v: want 0..%v", damp, maxDamp)
	}
	if h.sum == nil || h.sequences == 0 {
		return nil, fmt.Errorf("hessian: no calibration inputs")
	}
	f := &Factor{n: h.n, dead: make([]bool, h.n), workers: h.workers, damp: damp}
	s := h.sum
	h.sum, h.rows = nil, nil
	scale := 2 / float64(h.sequences)
	for _, row := range s.rows {
		for i := range row {
			for j := range row[i] {
				row[i][j] *= scale
			}
		}
	}
	diagonal := make([]float64, h.n)
	var mean float64
	for c := range h.n {
		r := h.n - 1 - c
		d := s.get(r, r)
		if !(d >= 0) || math.IsInf(d, 1) {
			return nil, fmt.Errorf("hessian: input %d has a sum of squares of %v", c, d)
		}
		if d == 0 {
			f.dead[c], d = true, 1
			s.set(r, r, 1)
		}
		diagonal[c] = d
		mean += d
	}
	mean /= float64(h.n)
	for i := h.n; i < s.across()*side; i++ { // undo the scaling of the padding
		s.set(i, i, 1)
	}
	if actOrder {
		f.order = make([]int32, h.n)
		for i := range f.order {
			f.order[i] = int32(i)
		}
		sort.SliceStable(f.order, func(i, j int) bool { return diagonal[f.order[i]] > diagonal[f.order[j]] })
		s = s.permuted(f.order, h.workers)
	}
	var p *products
	if h.MatMul != nil {
		p = &products{matMul: h.MatMul, workers: h.workers}
	}
	for added := 0.0; ; f.damp = min(max(10*f.damp, 0.01), maxDamp) {
		for i := range h.n {
			s.set(i, i, s.get(i, i)+(f.damp-added)*mean)
		}
		if s.cholesky(h.workers, p) {
			break
		}
		if added = f.damp; f.damp >= maxDamp {
			return nil, fmt.Errorf("hessian: not positive definite with damp %v", f.damp)
		}
	}
	s.inverse(h.workers, p)
	f.inverse = s
	return f, nil
}

// permuted returns the matrix with its rows and columns in an order, both
// reversed as Hessian keeps them.
func (t *triangle) permuted(order []int32, workers int) *triangle {
	p := newTriangle(t.n)
	parallel(t.n, workers, func(r int) {
		a := t.n - 1 - int(order[t.n-1-r])
		for c := range r + 1 {
			b := t.n - 1 - int(order[t.n-1-c])
			p.set(r, c, t.get(max(a, b), min(a, b)))
		}
	})
	return p
}

// columns writes U[first:first+rows, c0:c1] transposed to dst, (c1-c0, rows).
func (f *Factor) columns(dst []float32, first, rows, c0, c1 int) {
	parallel(c1-c0, f.workers, func(j int) {
		b := f.n - 1 - (c0 + j)
		d := dst[j*rows : (j+1)*rows]
		for i := range d {
			a := f.n - 1 - (first + i)
			d[i] = 0
			if a >= b {
				d[i] = float32(f.inverse.get(a, b))
			}
		}
	})
}
