package quantize

import (
	"fmt"
	"math"
	"math/bits"
)

// williamson holds the first rows of the four symmetric circulant blocks of
// Hadamard matrices of order 4m, each without its second, mirrored half. The
// rows are those of N. J. A. Sloane's library (had.52.will, had.156.will,
// had.172.will), the source that QuaRot and QuIP# name.
var williamson = map[int][4]string{
	52: {"+-+--++", "+---+++", "++-+--+", "+----+-"},
	156: {
		"+++--+-+-----+--++--", "++++---+--++----+-+-",
		"+++--++-+---+-+--+--", "+---++-+-+-----+++-+",
	},
	172: {
		"+---++--++++-+-+++-++-", "++-++++++----+-+--++-+",
		"+++-+-++--+-+-++++-+--", "++---++++-+--+--++----",
	},
}

// knownOrders are the orders QuaRot knows, in the order it tries them.
var knownOrders = []int{172, 156, 140, 108, 60, 52, 36, 28, 40, 20, 12}

func isPrime(n int) bool {
	if n < 2 {
		return false
	}
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}

// legendre returns chi(0) .. chi(q-1) of a prime q.
func legendre(q int) []int8 {
	chi := make([]int8, q)
	for i := 1; i < q; i++ {
		chi[i] = -1
	}
	for i := 1; i < q; i++ {
		chi[i*i%q] = 1
	}
	return chi
}

// constructible says whether HadamardMatrix knows an order that is not a power
// of two.
func constructible(k int) bool {
	if _, ok := williamson[k]; ok || k == 40 {
		return true
	}
	return paley1(k) || paley2(k)
}

func paley1(k int) bool { return k%4 == 0 && isPrime(k-1) }

func paley2(k int) bool { return k%4 == 0 && (k/2-1)%4 == 1 && isPrime(k/2-1) }

// HadamardMatrix returns a Hadamard matrix of order k, (k, k) by rows of ±1, H
// Hᵀ = k I. The eleven orders of QuaRot are its matrices: Paley's first
// construction for 12, 20, 60, 108, 140, his second for 28 and 36, Sylvester's
// doubling for 40, Williamson's for 52, 156, 172. Beyond them it knows every
// order q+1 and 2(q+1) that Paley gives for a prime q, and powers of two.
func HadamardMatrix(k int) ([]int8, error) {
	if k < 1 || k > 1<<14 {
		return nil, fmt.Errorf("hadamard: order %d: want 1..%d", k, 1<<14)
	}
	h := make([]int8, k*k)
	rows, ok := williamson[k]
	switch {
	case ok:
		fillWilliamson(h, k, rows)
	case k == 40 || k&(k-1) == 0 && k > 1:
		half, err := HadamardMatrix(k / 2)
		if err != nil {
			return nil, err
		}
		n := k / 2
		for r := range n {
			for c := range n {
				v := half[r*n+c]
				h[r*k+c], h[r*k+n+c], h[(n+r)*k+c], h[(n+r)*k+n+c] = v, v, v, -v
			}
		}
	case k == 1:
		h[0] = 1
	case (k == 28 || k == 36 || !paley1(k)) && paley2(k):
		fillPaley2(h, k)
	case paley1(k):
		fillPaley1(h, k)
	default:
		return nil, fmt.Errorf("hadamard: no construction of order %d", k)
	}
	return h, nil
}

// fillPaley1: a border of ones and a circulant core chi(j-i)+I; the first row
// is negative but for its corner.
func fillPaley1(h []int8, k int) {
	q := k - 1
	chi := legendre(q)
	h[0] = 1
	for i := range q {
		h[1+i], h[(1+i)*k] = -1, 1
		for j := range q {
			// chi(-1) = -1: the core is chi(i-j) = -chi(j-i).
			h[(1+i)*k+1+j] = chi[((i-j)%q+q)%q]
		}
		h[(1+i)*k+1+i] = 1
	}
}

// fillPaley2: [[C+I, C-I], [C-I, -C-I]] with the symmetric conference matrix C.
func fillPaley2(h []int8, k int) {
	n := k / 2
	q := n - 1
	chi := legendre(q)
	for r := range n {
		for c := range n {
			var v int8
			switch {
			case r == 0 && c == 0:
			case r == 0 || c == 0:
				v = 1
			default:
				v = chi[((r-c)%q+q)%q]
			}
			var e int8
			if r == c {
				e = 1
			}
			h[r*k+c], h[r*k+n+c], h[(n+r)*k+c], h[(n+r)*k+n+c] = v+e, v-e, v-e, -v-e
		}
	}
}

// fillWilliamson: [[A, B, C, D], [-B, A, -D, C], [-C, D, A, -B], [-D, -C, B, A]].
func fillWilliamson(h []int8, k int, rows [4]string) {
	m := k / 4
	layout := [4][4]int8{{1, 2, 3, 4}, {-2, 1, -4, 3}, {-3, 4, 1, -2}, {-4, -3, 2, 1}}
	for bi, line := range layout {
		for bj, which := range line {
			sign := int8(1)
			if which < 0 {
				sign, which = -1, -which
			}
			row := rows[which-1]
			for i := range m {
				for j := range m {
					d := ((j-i)%m + m) % m
					v := sign
					if row[min(d, m-d)] == '-' {
						v = -sign
					}
					h[(bi*m+i)*k+bj*m+j] = v
				}
			}
		}
	}
}

// HadamardOrder splits n into k*2^m with a matrix of order k: for the sizes
// QuaRot supports its k, else the smallest that Paley's constructions give.
func HadamardOrder(n int) (int, error) {
	if n < 1 {
		return 0, fmt.Errorf("hadamard: size %d: want at least 1", n)
	}
	for _, k := range knownOrders {
		if n%k == 0 && bits.OnesCount(uint(n/k)) == 1 {
			return k, nil
		}
	}
	if bits.OnesCount(uint(n)) == 1 {
		return 1, nil
	}
	for k := n >> bits.TrailingZeros(uint(n)); k <= n; k *= 2 {
		if constructible(k) {
			return k, nil
		}
	}
	return 0, fmt.Errorf("hadamard: no matrix of order %d: want k*2^m with k-1 or k/2-1 a suitable prime", n)
}

// A Rotation multiplies rows of n numbers by the orthonormal Hadamard matrix
// (H_k ⊗ H_2^m)/sqrt(n) as QuaRot's matmul_hadU. It is read-only.
type Rotation struct {
	n, k      int
	h         []int8 // H_k, nil when k is 1
	transpose bool
}

// NewRotation returns the rotation of rows of n numbers, or its transpose.
func NewRotation(n int, transpose bool) (*Rotation, error) {
	k, err := HadamardOrder(n)
	if err != nil {
		return nil, err
	}
	r := &Rotation{n: n, k: k, transpose: transpose}
	if k > 1 {
		r.h, err = HadamardMatrix(k)
	}
	return r, err
}

// Size returns n, Order the k of its factor.
func (r *Rotation) Size() int { return r.n }

// Order returns the order of the factor that is not a power of two, or 1.
func (r *Rotation) Order() int { return r.k }

// Apply rotates rows of x in place and divides by sqrt(n): matmul_hadU.
func (r *Rotation) Apply(x []float32) error {
	return r.rows(x, func(row []float32) {
		r.mix(row)
		root := float32(math.Sqrt(float64(r.n)))
		for i := range row {
			row[i] /= root
		}
	})
}

// ApplyOnline rotates rows of x in place in the order of matmul_hadU_cuda,
// which QuaRot runs before down_proj and on weights: butterflies, times
// 1/sqrt(n), then H_k.
func (r *Rotation) ApplyOnline(x []float32) error {
	scale := 1 / float32(math.Sqrt(float64(r.n)))
	return r.rows(x, func(row []float32) {
		for i := 0; i < r.n; i += r.n / r.k {
			butterflies(row[i : i+r.n/r.k])
		}
		for i := range row {
			row[i] *= scale
		}
		r.factor(row)
	})
}

func (r *Rotation) rows(x []float32, f func(row []float32)) error {
	if len(x)%r.n != 0 {
		return fmt.Errorf("hadamard: %d numbers: want rows of %d", len(x), r.n)
	}
	for i := 0; i < len(x); i += r.n {
		f(x[i : i+r.n])
	}
	return nil
}

func (r *Rotation) mix(row []float32) {
	for i := 0; i < r.n; i += r.n / r.k {
		butterflies(row[i : i+r.n/r.k])
	}
	r.factor(row)
}

// factor multiplies the k parts of a row by H_k.
func (r *Rotation) factor(row []float32) {
	if r.k == 1 {
		return
	}
	m := r.n / r.k
	old := append([]float32(nil), row...)
	for a := range r.k {
		d := row[a*m : (a+1)*m]
		clear(d)
		for b := range r.k {
			s := r.h[a*r.k+b]
			if r.transpose {
				s = r.h[b*r.k+a]
			}
			for j, v := range old[b*m : (b+1)*m] {
				if s > 0 {
					d[j] += v
				} else {
					d[j] -= v
				}
			}
		}
	}
}

// butterflies is the Walsh-Hadamard transform of a power of two of numbers,
// nearest neighbours first.
func butterflies[T float32 | float64](x []T) {
	for h := 1; h < len(x); h *= 2 {
		for i := 0; i < len(x); i += 2 * h {
			a, b := x[i:i+h], x[i+h:i+2*h]
			for j, v := range a {
				w := b[j]
				a[j], b[j] = v+w, v-w
			}
		}
	}
}

// HadamardHeads applies the Walsh-Hadamard transform to every head of the
// outputs of a linear, W (rows, cols) by rows with rows = heads*headDim, in
// place: apply_exact_had_to_linear with had_dim and output. headDim is a power
// of two.
func HadamardHeads(w []float32, rows, cols, headDim int) error {
	if headDim < 1 || headDim&(headDim-1) != 0 || rows%headDim != 0 || len(w) != rows*cols {
		return fmt.Errorf("hadamard: weight of %d x %d with heads of %d: want a power of two that divides the rows", rows, cols, headDim)
	}
	scale := float32(1 / math.Sqrt(float64(headDim)))
	x := make([]float32, headDim)
	for h := 0; h < rows; h += headDim {
		for c := range cols {
			for i := range x {
				x[i] = w[(h+i)*cols+c]
			}
			butterflies(x)
			for i, v := range x {
				w[(h+i)*cols+c] = v * scale
			}
		}
	}
	return nil
}

// HadamardAcrossHeads applies the transform across heads to the input of
// o_proj: x (tokens, heads*headDim) by rows, in place, channel i of all heads
// together, times 1/sqrt(heads) (QuaRot's online partial Hadamard).
func HadamardAcrossHeads(x []float32, heads, headDim int) error {
	k, err := HadamardOrder(heads)
	if err != nil {
		return err
	}
	r := &Rotation{n: heads, k: k}
	if k > 1 {
		if r.h, err = HadamardMatrix(k); err != nil {
			return err
		}
	}
	n := heads * headDim
	if headDim < 1 || len(x)%n != 0 {
		return fmt.Errorf("hadamard: %d numbers: want rows of %d heads of %d", len(x), heads, headDim)
	}
	root := float32(math.Sqrt(float64(heads)))
	v := make([]float32, heads)
	for t := 0; t < len(x); t += n {
		for i := range headDim {
			for h := range v {
				v[h] = x[t+h*headDim+i]
			}
			r.mix(v)
			for h, y := range v {
				if k == 1 {
					x[t+h*headDim+i] = y * (1 / root)
				} else {
					x[t+h*headDim+i] = y / root
				}
			}
		}
	}
	return nil
}

// RandomHadamard returns diag(signs) times the orthonormal Hadamard matrix of
// order len(signs), (n, n) by rows: QuaRot's random_hadamard_matrix, with the
// signs of TorchSigns after the same seed.
func RandomHadamard(signs []float32) ([]float64, error) {
	n := len(signs)
	r, err := NewRotation(n, false)
	if err != nil {
		return nil, err
	}
	// sqrt(n) is a float32 in the original, the rest float64.
	v := 1 / float64(float32(math.Sqrt(float64(n))))
	q := make([]float64, n*n)
	m := n / r.k
	row := make([]float64, m)
	for i, s := range signs {
		clear(row)
		row[i%m] = float64(s)
		butterflies(row)
		for a := range r.k {
			sign := 1.0
			if r.h != nil {
				sign = float64(r.h[a*r.k+i/m])
			}
			for j, x := range row {
				q[i*n+a*m+j] = x * sign * v
			}
		}
	}
	return q, nil
}

// RandomOrthogonal returns a random orthogonal matrix, (n, n) by rows, for
// sizes without a Hadamard matrix: Gram-Schmidt of normal numbers that depend
// on the seed alone.
func RandomOrthogonal(n int, seed uint64) []float64 {
	r := NewRandom(seed)
	q := make([]float64, n*n)
	for i := range q {
		u, v := 1-r.Float64(), r.Float64()
		q[i] = math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
	}
	for i := range n {
		row := q[i*n : (i+1)*n]
		for range 2 { // the second pass removes what rounding left
			for j := range i {
				o := q[j*n : (j+1)*n]
				d := dot(row, o)
				for k, v := range o {
					row[k] -= float64(d * v)
				}
			}
			norm := math.Sqrt(dot(row, row))
			for k := range row {
				row[k] /= norm
			}
		}
	}
	return q
}
