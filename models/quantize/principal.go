package quantize

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// A SecondMoment sums the products of the channels of rows, x xᵀ, in float64:
// uncentred, as RMSNorm knows no mean. Every sum adds its rows in the order in
// which they come, whatever the number of processors.
type SecondMoment struct {
	n    int
	sum  []float64 // (n, n) by rows; the lower triangle
	rows int
}

// NewSecondMoment returns that of rows of n numbers, without rows so far.
func NewSecondMoment(n int) *SecondMoment {
	return &SecondMoment{n: n, sum: make([]float64, n*n)}
}

// Rows is the number of rows added.
func (m *SecondMoment) Rows() int { return m.rows }

// Add adds rows, n numbers each. A number that is not finite is an error.
func (m *SecondMoment) Add(rows []float32) error {
	if len(rows)%m.n != 0 {
		return fmt.Errorf("second moment: %d numbers: want rows of %d", len(rows), m.n)
	}
	x := make([]float64, len(rows))
	for i, v := range rows {
		x[i] = float64(v)
		if math.IsInf(x[i], 0) || math.IsNaN(x[i]) {
			return fmt.Errorf("second moment: channel %d of row %d is %v: want finite numbers", i%m.n, m.rows+i/m.n, v)
		}
	}
	// Shares of 8 channels: each sum belongs to one of them.
	const share = 8
	parallel((m.n+share-1)/share, 0, func(s int) {
		for r := 0; r < len(x); r += m.n {
			row := x[r : r+m.n]
			for i := s * share; i < min(m.n, (s+1)*share); i++ {
				a := row[i]
				sum := m.sum[i*m.n : i*m.n+i+1]
				for j := range sum {
					sum[j] += float64(a * row[j])
				}
			}
		}
	})
	m.rows += len(rows) / m.n
	return nil
}

// Matrix returns the mean of x xᵀ over the rows, (n, n) by rows.
func (m *SecondMoment) Matrix() []float64 {
	all := make([]float64, m.n*m.n)
	count := float64(max(1, m.rows))
	for i := range m.n {
		for j := range i + 1 {
			v := m.sum[i*m.n+j] / count
			all[i*m.n+j], all[j*m.n+i] = v, v
		}
	}
	return all
}

// SymmetricEigen returns the eigenvalues of a symmetric matrix a, (n, n) by
// rows, in falling order, and q, (n, n) by rows, whose column j is the unit
// eigenvector of value j with its component of largest magnitude (the first of
// equals) positive: a = q diag(values) qᵀ. Only the numbers of a, never the
// processor, decide the bits: every operation rounds by itself.
//
// It is Householder's reduction to tridiagonal form and the implicit QL
// algorithm (Bowdler, Martin, Reinsch, Wilkinson, Numerische Mathematik 11,
// 1968: tred2 and tql2), about 8 n³ operations.
func SymmetricEigen(a []float64, n int) (values, q []float64, err error) {
	if n < 1 || len(a) != n*n {
		return nil, nil, fmt.Errorf("eigenvectors: %d numbers: want a square matrix of order %d", len(a), n)
	}
	for i := range n {
		for j := range i + 1 {
			v := a[i*n+j]
			if math.IsNaN(v) || math.IsInf(v, 0) || v != a[j*n+i] {
				return nil, nil, fmt.Errorf("eigenvectors: entries (%d, %d) are %v and %v: want a symmetric matrix of finite numbers", i, j, v, a[j*n+i])
			}
		}
	}
	d, e, z := tridiagonal(slices.Clone(a), n)
	if err := implicitQL(d, e, z); err != nil {
		return nil, nil, err
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(d[j], d[i]) })
	values, q = make([]float64, n), make([]float64, n*n)
	for j, from := range order {
		values[j] = d[from]
		row := z[from*n : (from+1)*n]
		largest := 0
		for i, v := range row {
			if math.Abs(v) > math.Abs(row[largest]) {
				largest = i
			}
		}
		sign := math.Copysign(1, row[largest])
		for i, v := range row {
			q[i*n+j] = sign * v
		}
	}
	return values, q, nil
}

// tridiagonal reduces a to d on the diagonal and e below it (e[i] in row i+1)
// by reflections, and returns their product zᵀ, by rows: a = zᵀᵀ T zᵀ. It uses
// up a.
func tridiagonal(a []float64, n int) (d, e, z []float64) {
	d, e, z = make([]float64, n), make([]float64, n), make([]float64, n*n)
	// Reflection k, I - scale[k] v vᵀ with v in vectors[k*n+k+1:(k+1)*n], clears
	// column k below the subdiagonal.
	vectors, scale := make([]float64, n*n), make([]float64, n)
	p := make([]float64, n)
	for k := 0; k < n-1; k++ {
		d[k] = a[k*n+k]
		v := vectors[k*n+k+1 : (k+1)*n]
		var largest float64
		for i := range v {
			v[i] = a[(k+1+i)*n+k]
			largest = max(largest, math.Abs(v[i]))
		}
		e[k] = v[0]
		if len(v) == 1 || largest == 0 {
			continue
		}
		var norm float64
		for i := range v { // in units of the largest, which cannot overflow
			v[i] /= largest
			norm += float64(v[i] * v[i])
		}
		norm = math.Copysign(math.Sqrt(norm), v[0])
		e[k] = -float64(norm * largest)
		v[0] += norm
		beta := 1 / float64(norm*v[0]) // 2 / vᵀv
		scale[k] = beta
		w := p[:len(v)]
		block := func(i int) []float64 { return a[(k+1+i)*n+k+1 : (k+2+i)*n] }
		inRuns(len(v), func(i int) { w[i] = float64(beta * dot(block(i), v)) })
		half := float64(float64(beta*dot(w, v)) / 2)
		for i := range w {
			w[i] -= float64(half * v[i])
		}
		inRuns(len(v), func(i int) {
			row, vi, wi := block(i), v[i], w[i]
			for j := range row {
				row[j] -= float64(vi*w[j]) + float64(wi*v[j])
			}
		})
	}
	d[n-1] = a[n*n-1]
	for i := range n {
		z[i*n+i] = 1
	}
	for k := n - 3; k >= 0; k-- {
		if scale[k] == 0 {
			continue
		}
		v := vectors[k*n+k+1 : (k+1)*n]
		inRuns(len(v), func(i int) {
			row := z[(k+1+i)*n+k+1 : (k+2+i)*n]
			s := float64(scale[k] * dot(row, v))
			for j := range row {
				row[j] -= float64(s * v[j])
			}
		})
	}
	return d, e, z
}

// inRuns is parallel for calls that cost little, in runs of 64.
func inRuns(n int, f func(i int)) {
	runs := max(1, n/64)
	parallel(runs, 0, func(k int) {
		for i := n * k / runs; i < n*(k+1)/runs; i++ {
			f(i)
		}
	})
}

// implicitQL turns the tridiagonal matrix of diagonal d and subdiagonal e into
// its eigenvalues, in d, and rotates the rows of z along. It uses up e.
func implicitQL(d, e, z []float64) error {
	n := len(d)
	const epsilon = 0x1p-52
	var shift, size float64
	for l := range n {
		size = max(size, math.Abs(d[l])+math.Abs(e[l]))
		m := l
		for ; m < n-1 && math.Abs(e[m]) > float64(epsilon*size); m++ {
		}
		for turn := 0; m > l; turn++ {
			if turn == 100 { // two or three are usual
				return fmt.Errorf("eigenvectors: no convergence at value %d of %d", l, n)
			}
			g := d[l]
			p := (d[l+1] - g) / float64(2*e[l])
			r := math.Copysign(hypotenuse(p, 1), p)
			d[l] = e[l] / (p + r)
			d[l+1] = float64(e[l] * (p + r))
			next := d[l+1]
			h := g - d[l]
			for i := l + 2; i < n; i++ {
				d[i] -= h
			}
			shift += h
			p = d[m]
			c, c2, c3 := 1.0, 1.0, 1.0
			var s, s2 float64
			first := e[l+1]
			for i := m - 1; i >= l; i-- {
				c3, c2, s2 = c2, c, s
				g, h = float64(c*e[i]), float64(c*p)
				r = hypotenuse(p, e[i])
				e[i+1] = float64(s * r)
				s, c = e[i]/r, p/r
				p = float64(c*d[i]) - float64(s*g)
				d[i+1] = h + float64(s*(float64(c*g)+float64(s*d[i])))
				turnRows(z[i*n:(i+1)*n], z[(i+1)*n:(i+2)*n], c, s)
			}
			p = -float64(float64(float64(float64(s*s2)*c3)*first)*e[l]) / next
			e[l], d[l] = float64(s*p), float64(c*p)
			if math.Abs(e[l]) <= float64(epsilon*size) {
				break
			}
		}
		d[l] += shift
		e[l] = 0
	}
	return nil
}

// turnRows turns the plane of two rows.
func turnRows(a, b []float64, c, s float64) {
	b = b[:len(a)]
	for k, u := range a {
		v := b[k]
		b[k] = float64(s*u) + float64(c*v)
		a[k] = float64(c*u) - float64(s*v)
	}
}

// hypotenuse is math.Hypot without the processor's own rounding.
func hypotenuse(a, b float64) float64 {
	a, b = math.Abs(a), math.Abs(b)
	if a < b {
		a, b = b, a
	}
	if a == 0 {
		return 0
	}
	b /= a
	return float64(a * math.Sqrt(1+float64(b*b)))
}
