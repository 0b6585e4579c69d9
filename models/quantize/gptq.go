package quantize

import (
	"fmt"
)

// GPTQ quantizes a weight column by column and moves the error of each column
// into those not yet quantized (Frantar et al., GPTQ, algorithm 1), as
// gptq.py's fasterquant does; with Outliers as Atom's does.
type GPTQ struct {
	// Quantizer is per channel or per group of columns. The scales of channels
	// are fitted once, before dead columns become 0; those of a group when its
	// first column is reached, on weights that carry the errors of the blocks
	// before it but not of its own.
	Quantizer Quantizer
	Block     int // columns between two updates of the rest; 0 means 128
	// StaticGroups fits all groups beforehand, on the weight without dead columns.
	StaticGroups bool
	// The last Outliers columns take part in the error compensation but not in
	// Quantizer; Outlier quantizes them in the end, Bits 0 leaves them.
	Outliers int
	Outlier  Quantizer
	// MatMul computes dst = a bᵀ, a (m, k), b (n, k), dst (m, n) by rows, for
	// the update of the rest; nil means plain Go.
	MatMul func(dst, a, b []float32, m, n, k int)
	// Overwrite lets Quantize work in the memory of the weight, which then is
	// that of GPTQResult.Weight.
	Overwrite bool
}

// GPTQResult is a weight quantized by GPTQ.
type GPTQResult struct {
	// Weight is the dequantized weight, (rows, cols) by rows, columns in their
	// original order.
	Weight []float32
	// Body holds the integers of all but the outliers, Outlier those of the
	// outliers (nil where they are not quantized).
	Body, Outlier *Tensor
	// Loss is the sum of (w-q)²/(2 U_ii²), the "error" that gptq.py prints.
	Loss float64
}

// DefaultBlock is GPTQ's block size in columns.
const DefaultBlock = 128

// strip is the number of rows that one worker takes at a time.
const strip = 30

// Quantize quantizes w, (rows, cols) by rows, with the factor of its inputs'
// Hessian. Rows are independent of each other (but for SharedRows), so workers
// share them out and the result does not depend on their number.
func (g GPTQ) Quantize(w []float32, rows, cols int, f *Factor) (*GPTQResult, error) {
	q := g.Quantizer
	body := cols - g.Outliers
	block := g.Block
	if block == 0 {
		block = DefaultBlock
	}
	switch {
	case len(w) != rows*cols || rows < 1:
		return nil, fmt.Errorf("gptq: %d numbers for %d rows of %d", len(w), rows, cols)
	case f.n != cols:
		return nil, fmt.Errorf("gptq: weight has %d columns, Hessian %d", cols, f.n)
	case g.Outliers < 0 || body < 1:
		return nil, fmt.Errorf("gptq: %d outliers of %d columns", g.Outliers, cols)
	case block < 1:
		return nil, fmt.Errorf("gptq: block %d: want at least 1", block)
	case q.Granularity != PerChannel && q.Granularity != PerGroup && q.Granularity != PerTensor:
		return nil, fmt.Errorf("gptq: granularity %q: want tensor, channel or group", q.Granularity)
	case g.StaticGroups && q.Granularity != PerGroup:
		return nil, fmt.Errorf("gptq: static groups without groups")
	case g.Outliers > 0 && f.order != nil:
		return nil, fmt.Errorf("gptq: outliers with act-order: the last columns would not be the last")
	}
	q.Tail = TailShort
	grd, err := q.grid(rows, body, body)
	if err != nil {
		return nil, err
	}
	group := grd.group
	if q.Granularity == PerTensor {
		group = body
	}
	t := &Tensor{Quantizer: q, Rows: rows, Cols: body, Scale: make([]float32, grd.groups()), Zero: make([]float32, grd.groups())}
	dynamic := q.Granularity == PerGroup && !g.StaticGroups
	fit := func(x []float32) error {
		if q.Granularity == PerTensor && body != cols {
			return fmt.Errorf("gptq: outliers with granularity tensor")
		}
		return q.fit(x, rows, body, cols, nil, t.Scale, t.Zero)
	}
	// The check of finite numbers comes with the fit of the whole weight.
	if err := fit(w); err != nil {
		return nil, err
	}
	work := w
	if !g.Overwrite {
		work = append([]float32(nil), w...)
	}
	for c, dead := range f.dead {
		if dead {
			for r := range rows {
				work[r*cols+c] = 0
			}
		}
	}
	if g.StaticGroups {
		if err := fit(work); err != nil {
			return nil, err
		}
	}
	if f.order != nil {
		gather(work, rows, cols, f.order, f.workers)
		if dynamic {
			t.GroupOf = make([]int32, cols)
			for i, c := range f.order {
				t.GroupOf[c] = int32(i / group)
			}
		}
	}
	t.Code = make([]uint8, rows*body)
	s := &sweep{g: g, q: q, f: f, t: t, w: work, rows: rows, cols: cols, body: body, group: group, across: grd.across, share: grd.share, dynamic: dynamic}
	if q.Granularity == PerTensor {
		s.share = rows
	}
	s.losses = make([]float64, rows)
	for i := 0; i < body; i += block {
		s.block(i, min(i+block, body))
	}
	res := &GPTQResult{Weight: work, Body: t}
	for _, l := range s.losses {
		res.Loss += l
	}
	if g.Outliers > 0 && g.Outlier.Bits > 0 {
		if res.Outlier, err = g.Outlier.part(work, rows, body, cols, cols); err != nil {
			return nil, err
		}
		if err := g.Outlier.simulate(work[body:], work[body:], rows, g.Outliers, cols); err != nil {
			return nil, err
		}
	}
	if f.order != nil {
		back := make([]int32, cols)
		for i, c := range f.order {
			back[c] = int32(i)
		}
		gather(work, rows, cols, back, f.workers)
	}
	return res, nil
}

// gather puts the columns of a matrix in an order, in place.
func gather(x []float32, rows, cols int, order []int32, workers int) {
	parallel(rows, workers, func(r int) {
		row := x[r*cols : (r+1)*cols]
		old := append([]float32(nil), row...)
		for i, c := range order {
			row[i] = old[c]
		}
	})
}

// sweep is the state of one run over the columns.
type sweep struct {
	g                    GPTQ
	q                    Quantizer
	f                    *Factor
	t                    *Tensor
	w                    []float32 // updated weight; quantized columns hold their result
	rows, cols, body     int
	group, across, share int
	dynamic              bool
	losses               []float64 // by row

	turned, inner, outer, err, prod []float32
	part, across32                  []float32 // of an inner block
}

func sized(x *[]float32, n int) []float32 {
	if cap(*x) < n {
		*x = make([]float32, n)
	}
	return (*x)[:n]
}

// innerBlock is the number of columns between two updates of the rest of a
// block where products come from MatMul: an update column by column is plain Go.
const innerBlock = 32

// block quantizes columns i1 .. i2-1 and updates those after them.
func (s *sweep) block(i1, i2 int) {
	k, rest := i2-i1, s.cols-i2
	// turned holds columns of U within the block, inner rows of it, outer columns
	// after it.
	turned := sized(&s.turned, k*k)
	s.f.columns(turned, i1, k, i1, i2)
	inner := sized(&s.inner, k*k)
	for i := range k {
		for j := range k {
			inner[i*k+j] = turned[j*k+i]
		}
	}
	outer := sized(&s.outer, rest*k)
	s.f.columns(outer, i1, k, i2, s.cols)
	errs := sized(&s.err, s.rows*k)
	if s.dynamic {
		units := s.rows / s.share
		parallel(units, s.f.workers, func(u int) { s.fitGroups(u, i1, i2) })
	}
	strips := (s.rows + strip - 1) / strip
	if s.g.MatMul == nil {
		parallel(strips, s.f.workers, func(n int) {
			for r := n * strip; r < min((n+1)*strip, s.rows); r++ {
				s.row(r, i1, 0, k, k, inner, errs[r*k:(r+1)*k])
			}
			for r := n * strip; r < min((n+1)*strip, s.rows); r += 3 {
				subMul(s.w, r, min(r+3, s.rows), s.cols, i2, errs, outer, k)
			}
		})
		return
	}
	for j1 := 0; j1 < k; j1 += innerBlock {
		j2 := min(j1+innerBlock, k)
		n := j2 - j1
		part, across := sized(&s.part, s.rows*n), sized(&s.across32, (k-j2)*n)
		for j := j2; j < k; j++ {
			copy(across[(j-j2)*n:][:n], turned[j*k+j1:][:n])
		}
		parallel(strips, s.f.workers, func(i int) {
			for r := i * strip; r < min((i+1)*strip, s.rows); r++ {
				e := errs[r*k : (r+1)*k]
				s.row(r, i1, j1, j2, k, inner, e)
				copy(part[r*n:(r+1)*n], e[j1:j2])
			}
		})
		s.update(part, across, i1+j2, k-j2, n)
	}
	s.update(errs, outer, i2, rest, k)
}

// update subtracts a bᵀ from columns first .. first+n-1, a (rows, k), b (n, k).
func (s *sweep) update(a, b []float32, first, n, k int) {
	if n == 0 {
		return
	}
	at := s.rowsAtOnce(n)
	for r := 0; r < s.rows; r += at {
		m := min(at, s.rows-r)
		p := sized(&s.prod, m*n)
		s.g.MatMul(p, a[r*k:(r+m)*k], b, m, n, k)
		parallel((m+strip-1)/strip, s.f.workers, func(part int) {
			for i := part * strip; i < min((part+1)*strip, m); i++ {
				d := s.w[(r+i)*s.cols+first:][:n]
				for j, v := range p[i*n : (i+1)*n] {
					d[j] -= v
				}
			}
		})
	}
}

// rowsAtOnce bounds the numbers of a product of n columns.
func (s *sweep) rowsAtOnce(n int) int { return min(s.rows, max(64, 1<<18/n)) }

// fitGroups fits the groups that begin within a block for one unit of rows.
func (s *sweep) fitGroups(unit, i1, i2 int) {
	first := (i1 + s.group - 1) / s.group * s.group
	g := grid{rows: s.share, stride: s.cols, share: s.share}
	for c := first; c < i2; c += s.group {
		n := min(s.group, s.body-c)
		start := unit*s.share*s.cols + c
		mn, mx, _ := g.extremes(s.w, start, n, false)
		scale, zero, lo, hi := s.q.params(mn, mx)
		if s.q.SearchMSE {
			scale, zero = s.q.search(g, s.w, start, n, scale, zero, lo, hi)
		}
		i := unit*s.across + c/s.group
		s.t.Scale[i], s.t.Zero[i] = scale, zero
	}
}

// row quantizes columns i1+from .. i1+to-1 of one row, of a block of k columns
// from i1 on, and updates the others of these; errs receives (w-q)/U_ii.
func (s *sweep) row(r, i1, from, to, k int, inner, errs []float32) {
	w := s.w[r*s.cols+i1:][:to]
	base := r / s.share * s.across
	l, h := s.q.Range()
	lo, hi := float32(l), float32(h)
	var loss float64
	for i := from; i < to; i++ {
		at := i1 + i
		column := at
		if s.f.order != nil {
			column = int(s.f.order[at])
		}
		group := base
		switch {
		case s.across == 1:
		case s.dynamic:
			group += at / s.group
		default:
			group += column / s.group
		}
		scale, zero := s.t.Scale[group], s.t.Zero[group]
		u := inner[i*k:][:to]
		d := u[i]
		code := clamp32(round32(w[i]/scale)+zero, lo, hi)
		v := float32((code - zero) * scale)
		e := (w[i] - v) / d
		loss += float64(e) * float64(e)
		errs[i] = e
		tail := w[i+1:]
		for j, x := range u[i+1:] {
			tail[j] -= float32(e * x)
		}
		w[i] = v
		s.t.Code[r*s.body+column] = uint8(code - lo)
	}
	s.losses[r] += loss / 2
}

// subMul subtracts errs[r0:r1] outerᵀ from columns i2.. of rows r0..r1-1 of w,
// at most three rows.
func subMul(w []float32, r0, r1, cols, i2 int, errs, outer []float32, k int) {
	rest := cols - i2
	row := func(r int) (e, d []float32) { return errs[r*k:][:k], w[r*cols+i2:][:rest] }
	if r1-r0 < 3 {
		for r := r0; r < r1; r++ {
			e, d := row(r)
			for j := range d {
				o := outer[j*k:][:len(e)]
				var sum float32
				for i, x := range e {
					sum += float32(x * o[i])
				}
				d[j] -= sum
			}
		}
		return
	}
	e0, d0 := row(r0)
	e1, d1 := row(r0 + 1)
	e2, d2 := row(r0 + 2)
	for j := 0; j < rest; j += 2 {
		o0 := outer[j*k:][:k]
		o1 := o0
		if j+1 < rest {
			o1 = outer[(j+1)*k:][:k]
		}
		o1, e0, e1, e2 := o1[:len(o0)], e0[:len(o0)], e1[:len(o0)], e2[:len(o0)]
		var c00, c01, c10, c11, c20, c21 float32
		for i, x := range o0 {
			y := o1[i]
			v := e0[i]
			c00 += float32(v * x)
			c01 += float32(v * y)
			v = e1[i]
			c10 += float32(v * x)
			c11 += float32(v * y)
			v = e2[i]
			c20 += float32(v * x)
			c21 += float32(v * y)
		}
		d0[j] -= c00
		d1[j] -= c10
		d2[j] -= c20
		if j+1 < rest {
			d0[j+1] -= c01
			d1[j+1] -= c11
			d2[j+1] -= c21
		}
	}
}
