package quantize

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// side is the side of a tile: three of them fit the caches next to the core,
// and addMul's block of 3 x 2 sums divides it.
const side = 60

// tile is a square block of a matrix, by rows.
type tile [side * side]float64

// triangle is the lower triangle of a symmetric or lower triangular matrix of
// order n in float64, as tiles: as large as the full matrix in float32. Rows
// and columns beyond n are those of the identity.
type triangle struct {
	n    int
	rows [][]tile // row i has i+1 tiles; apart, so that they fit where others were freed
}

func newTriangle(n int) *triangle {
	nt := (n + side - 1) / side
	t := &triangle{n: n, rows: make([][]tile, nt)}
	for i := range t.rows {
		t.rows[i] = make([]tile, i+1)
	}
	for i := n; i < nt*side; i++ {
		t.set(i, i, 1)
	}
	return t
}

// across is the number of tiles of a side.
func (t *triangle) across() int { return (t.n + side - 1) / side }

// at is tile (i, j), i >= j.
func (t *triangle) at(i, j int) *tile { return &t.rows[i][j] }

func (t *triangle) get(r, c int) float64 {
	return t.at(r/side, c/side)[r%side*side+c%side]
}

func (t *triangle) set(r, c int, v float64) {
	t.at(r/side, c/side)[r%side*side+c%side] = v
}

// parallel calls f(0) .. f(n-1) from several goroutines; workers 0 means one
// per processor.
func parallel(n, workers int, f func(i int)) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, n)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// addMul adds sign * a bᵀ to c. The sum over the columns is one chain per
// element, so the result does not depend on how tiles are shared out. Six sums
// at a time are what the registers hold.
func addMul(c, a, b *tile, sign float64) {
	for i := 0; i < side; i += 3 {
		a0 := (*[side]float64)(a[i*side:])
		a1 := (*[side]float64)(a[(i+1)*side:])
		a2 := (*[side]float64)(a[(i+2)*side:])
		for j := 0; j < side; j += 2 {
			b0 := (*[side]float64)(b[j*side:])
			b1 := (*[side]float64)(b[(j+1)*side:])
			var c00, c01, c10, c11, c20, c21 float64
			for k := range side {
				x, y := b0[k], b1[k]
				v := a0[k]
				c00 += float64(v * x)
				c01 += float64(v * y)
				v = a1[k]
				c10 += float64(v * x)
				c11 += float64(v * y)
				v = a2[k]
				c20 += float64(v * x)
				c21 += float64(v * y)
			}
			d := c[i*side+j:]
			d = d[:2*side+2]
			d[0] += float64(sign * c00)
			d[1] += float64(sign * c01)
			d[side] += float64(sign * c10)
			d[side+1] += float64(sign * c11)
			d[2*side] += float64(sign * c20)
			d[2*side+1] += float64(sign * c21)
		}
	}
}

func dot(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1 float64
	i := 0
	for ; i+1 < len(a); i += 2 {
		s0 += float64(a[i] * b[i])
		s1 += float64(a[i+1] * b[i+1])
	}
	if i < len(a) {
		s0 += float64(a[i] * b[i])
	}
	return s0 + s1
}

// factor replaces a tile by its lower Cholesky factor; false means that it is
// not positive definite.
func (t *tile) factor() bool {
	for j := range side {
		row := t[j*side : j*side+side]
		d := row[j] - dot(row[:j], row[:j])
		if !(d > 0) || math.IsInf(d, 1) {
			return false
		}
		d = math.Sqrt(d)
		row[j] = d
		for i := j + 1; i < side; i++ {
			r := t[i*side : i*side+side]
			r[j] = (r[j] - dot(r[:j], row[:j])) / d
		}
		clear(row[j+1:])
	}
	return true
}

// solve replaces t by t L⁻ᵀ, L the lower triangle of l.
func (t *tile) solve(l *tile) {
	for i := range side {
		r := t[i*side : i*side+side]
		for j := range side {
			lj := l[j*side : j*side+side]
			r[j] = (r[j] - dot(r[:j], lj[:j])) / lj[j]
		}
	}
}

// invert replaces a lower triangular tile by its inverse.
func (t *tile) invert() {
	var inv tile
	for c := range side {
		inv[c*side+c] = 1 / t[c*side+c]
		for r := c + 1; r < side; r++ {
			var s float64
			for k := c; k < r; k++ {
				s += float64(t[r*side+k] * inv[k*side+c])
			}
			inv[r*side+c] = -s / t[r*side+r]
		}
	}
	*t = inv
}

func (t *tile) transposed(of *tile) {
	for r := range side {
		for c := range side {
			t[r*side+c] = of[c*side+r]
		}
	}
}

// columnTiles is the number of columns of tiles that are brought up to date together
// where the products come from a MatMul.
const columnTiles = 4

// products is float32 arithmetic on parts of a triangle, by a MatMul: what it
// multiplies is rounded to float32, what it adds up stays float64.
type products struct {
	matMul     func(dst, a, b []float32, m, n, k int)
	workers    int
	a, b, prod []float32
}

// The bounds of one product, in tiles: the rows bound its memory, the terms the
// length of a float32 sum.
const (
	productTiles = 16
	termTiles    = 8
)

// gather writes tiles [i0, i1) x [k0, k1) to dst by rows, or their transposed
// by columns.
func (p *products) gather(dst *[]float32, t *triangle, i0, i1, k0, k1 int, transposed bool) []float32 {
	rows, cols := (i1-i0)*side, (k1-k0)*side
	x := sized(dst, rows*cols)
	parallel((i1-i0)*(k1-k0), p.workers, func(n int) {
		i, k := n/(k1-k0), n%(k1-k0)
		if i0+i < k0+k { // above the diagonal of a lower triangle
			if transposed {
				for r := range side {
					clear(x[(k*side+r)*rows+i*side:][:side])
				}
			} else {
				for r := range side {
					clear(x[(i*side+r)*cols+k*side:][:side])
				}
			}
			return
		}
		from := t.at(i0+i, k0+k)
		for r := range side {
			if transposed {
				for c, v := range from[r*side : (r+1)*side] {
					x[(k*side+c)*rows+i*side+r] = float32(v)
				}
				continue
			}
			d := x[(i*side+r)*cols+k*side:][:side]
			for c, v := range from[r*side : (r+1)*side] {
				d[c] = float32(v)
			}
		}
	})
	return x
}

// subtract takes sign times the products of the first s columns of tiles with
// themselves from columns [from, e): what they owe to the columns on their left.
func (p *products) subtract(t *triangle, s, from, e int, sign float64) {
	nt := t.across()
	n := (e - from) * side
	for k0 := 0; k0 < s; k0 += termTiles {
		k1 := min(k0+termTiles, s)
		b := p.gather(&p.b, t, from, e, k0, k1, false)
		for i0 := from; i0 < nt; i0 += productTiles {
			i1 := min(i0+productTiles, nt)
			a := p.gather(&p.a, t, i0, i1, k0, k1, false)
			m := (i1 - i0) * side
			c := sized(&p.prod, m*n)
			p.matMul(c, a, b, m, n, (k1-k0)*side)
			parallel((i1-i0)*(e-from), p.workers, func(u int) {
				i, j := i0+u/(e-from), from+u%(e-from)
				if i >= j {
					addTile(t.at(i, j), c[(i-i0)*side*n+(j-from)*side:], n, -sign)
				}
			})
		}
	}
}

// addTile adds sign times a block of a matrix with rows of stride numbers.
func addTile(t *tile, x []float32, stride int, sign float64) {
	for r := range side {
		d := t[r*side : (r+1)*side]
		for c, v := range x[r*stride:][:side] {
			d[c] += float64(sign * float64(v))
		}
	}
}

// cholesky replaces a symmetric matrix by its lower Cholesky factor. When the
// matrix is not positive definite, it is restored up to rounding and the
// result is false. Large products come from p unless it is nil.
func (t *triangle) cholesky(workers int, p *products) bool {
	nt := t.across()
	first := 0 // columns before it are in what the current ones are up to date with
	for k := range nt {
		if p != nil && k%columnTiles == 0 {
			first = k
			p.subtract(t, k, k, min(k+columnTiles, nt), 1)
		}
		// The columns on the left are final: bring column k up to date. Its
		// diagonal tile is tried first, so that a failure leaves the column alone.
		d := *t.at(k, k)
		for m := first; m < k; m++ {
			addMul(&d, t.at(k, m), t.at(k, m), -1)
		}
		if !d.factor() {
			if p != nil {
				p.subtract(t, first, k, min(first+columnTiles, nt), -1)
			}
			t.restore(k, workers)
			return false
		}
		*t.at(k, k) = d
		parallel(nt-k-1, workers, func(i int) {
			i += k + 1
			c := t.at(i, k)
			for m := first; m < k; m++ {
				addMul(c, t.at(i, m), t.at(k, m), -1)
			}
			c.solve(&d)
		})
	}
	return true
}

// restore multiplies the first k columns of tiles of a factor out again, from
// the last to the first: column j needs only those on its left.
func (t *triangle) restore(k, workers int) {
	nt := t.across()
	for j := k - 1; j >= 0; j-- {
		l := *t.at(j, j)
		parallel(nt-j, workers, func(i int) {
			i += j
			var c tile
			addMul(&c, t.at(i, j), &l, 1)
			for m := range j {
				lm := t.at(j, m)
				addMul(&c, t.at(i, m), lm, 1)
			}
			*t.at(i, j) = c
		})
	}
}

// inverse replaces a lower triangular matrix by its inverse, from the last
// column of tiles to the first. Large products come from p unless it is nil.
func (t *triangle) inverse(workers int, p *products) {
	nt := t.across()
	column := make([]tile, nt)
	var owed []tile // products of p for a group of columns, rows from e on
	e := nt         // the end of the group
	for j := nt - 1; j >= 0; j-- {
		s := 0
		if p != nil {
			if s = j / columnTiles * columnTiles; j == nt-1 || j%columnTiles == columnTiles-1 {
				e = j + 1
				owed = p.inverseProducts(t, s, e, owed)
			}
		}
		for m := j + 1; m < e; m++ {
			column[m].transposed(t.at(m, j))
		}
		t.at(j, j).invert()
		var last tile
		last.transposed(t.at(j, j))
		parallel(nt-j-1, workers, func(i int) {
			i = nt - 1 - i // the longest first
			var c tile
			top := i
			if i >= e {
				c = owed[(i-e)*(e-s)+j-s]
				top = e - 1
			}
			for m := j + 1; m <= top; m++ {
				addMul(&c, t.at(i, m), &column[m], 1)
			}
			x := t.at(i, j)
			*x = tile{}
			addMul(x, &c, &last, -1)
		})
	}
}

// inverseProducts returns the products of rows from e on of the inverse, which
// are there, with columns [s, e) of the triangle, by rows of tiles.
func (p *products) inverseProducts(t *triangle, s, e int, owed []tile) []tile {
	nt := t.across()
	n := (e - s) * side
	if owed == nil {
		owed = make([]tile, nt*columnTiles) // once for all groups
	}
	owed = owed[:(nt-e)*(e-s)]
	clear(owed)
	for k0 := e; k0 < nt; k0 += termTiles {
		k1 := min(k0+termTiles, nt)
		b := p.gather(&p.b, t, k0, k1, s, e, true)
		for i0 := k0; i0 < nt; i0 += productTiles {
			i1 := min(i0+productTiles, nt)
			a := p.gather(&p.a, t, i0, i1, k0, k1, false)
			m := (i1 - i0) * side
			c := sized(&p.prod, m*n)
			p.matMul(c, a, b, m, n, (k1-k0)*side)
			parallel((i1-i0)*(e-s), p.workers, func(u int) {
				i, j := u/(e-s), u%(e-s)
				addTile(&owed[(i0-e+i)*(e-s)+j], c[i*side*n+j*side:], n, 1)
			})
		}
	}
	return owed
}
