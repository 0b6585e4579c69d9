package cpu

import "math"

// exp32 is e^x in float32, at most about one unit in the last place off,
// made of single-rounded operations so that every CPU gives the same bits.
// At and below -87.33654 it returns 0, above 88.37626 +Inf.
//
// Method: x = n·ln2 + r with |r| <= ln2/2 (ln2 in two parts), a polynomial of
// degree 6 for e^r (Cephes expf coefficients), scaled by 2^n.
func exp32(x float32) float32 {
	const (
		log2e = 1.44269504088896341
		ln2hi = 0.693359375
		ln2lo = -2.12194440e-4
		magic = 12582912 // 1.5·2^23: adding and taking it away rounds to an integer
	)
	if x <= -87.336540 {
		return 0
	}
	if x > 88.376260 {
		return float32(math.Inf(1))
	}
	n := float32(x * log2e)
	n = float32(n+magic) - magic
	r := x - float32(n*ln2hi)
	r -= float32(n * ln2lo)
	p := float32(1.9875691500e-4)
	p = float32(p*r) + 1.3981999507e-3
	p = float32(p*r) + 8.3334519073e-3
	p = float32(p*r) + 4.1665795894e-2
	p = float32(p*r) + 1.6666665459e-1
	p = float32(p*r) + 5.0000001201e-1
	y := float32(float32(p*float32(r*r))+r) + 1
	return y * math.Float32frombits(uint32(int32(n)+127)<<23)
}

// vectorStep is the multiple of elements that the assembly of the functions
// below takes; the rest of a slice goes through plain Go.
const vectorStep = 16

// elementwise names the instruction set of the functions below; the zero
// value is plain Go. Its methods give the same bits on all of them.
type elementwise uint8

const plainGo elementwise = 0

// max multiplies x by scale and returns the largest product; x must not be
// empty.
func (e elementwise) max(x []float32, scale float32) float32 {
	top := negativeInfinity
	n := 0
	if e != plainGo {
		if n = len(x) &^ (vectorStep - 1); n > 0 {
			top = e.scaleMax(&x[0], n, scale)
		}
	}
	for i, v := range x[n:] {
		v *= scale
		x[n+i] = v
		if v > top {
			top = v
		}
	}
	return top
}

// sum returns the sum of exp(x[i]-top) and stores the terms in keep when that
// is not nil: a float64 sum in eight interleaved lanes, the lanes in pairs.
func (e elementwise) sum(x []float32, top float32, keep []float32) float64 {
	var l [8]float64
	n := 0
	if e != plainGo {
		if n = len(x) &^ (vectorStep - 1); n > 0 {
			var y *float32
			if keep != nil {
				y = &keep[0]
			}
			e.expSum(&x[0], n, top, y, &l)
		}
	}
	for i, v := range x[n:] {
		p := exp32(v - top)
		if keep != nil {
			keep[n+i] = p
		}
		l[i&7] += float64(p) // n is a multiple of 8
	}
	return addLanes(&l)
}

// addLanes is the sum of interleaved partial sums.
func addLanes(l *[8]float64) float64 {
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

// softmaxCall is the operand of softmaxRows.
type softmaxCall struct {
	x       *float32 // scores, in place
	ld      int      // bytes from row to row
	rows    int
	seen    int // keys of the first row, more than 0; each further row sees one more
	padded  int // elements of a row, a multiple of vectorStep
	inverse *float32
	scale   float32
}

// softmax turns rows of scores at distance padded into weights: row r keeps
// exp(scale*(x[i])-top) of keys i in [low, first+r), every other weight of its
// padded ones becomes 0. inverse[r] is 1 / the sum of its weights. window
// bounds the keys of a row: low = first+r-window (0: no bound).
func (e elementwise) softmax(x []float32, rows, padded, first, window int, scale float32, inverse []float32) {
	if e != plainGo && (window == 0 || first+rows-1 <= window) {
		_, _ = x[rows*padded-1], inverse[rows-1]
		if first <= 0 || first+rows-1 > padded {
			panic("cpu backend: softmax rows see more keys than there are")
		}
		e.softmaxRows(&softmaxCall{&x[0], 4 * padded, rows, first, padded, &inverse[0], scale})
		return
	}
	for r := range rows {
		w := x[r*padded : (r+1)*padded]
		seen := first + r
		low := 0
		if window > 0 {
			low = max(0, seen-window)
		}
		// Keys that the row does not see weigh exp(-Inf) = 0: that fills the
		// last vector without changing a bit of the sum.
		end := seen
		if fill := low + (seen-low+vectorStep-1)/vectorStep*vectorStep; fill <= padded {
			for i := seen; i < fill; i++ {
				w[i] = negativeInfinity
			}
			end = fill
		}
		weights := w[low:end]
		top := e.max(weights, scale)
		inverse[r] = float32(1 / e.sum(weights, top, weights))
		clear(w[:low])
		clear(w[end:])
	}
}

// silu computes g*sigmoid(g)*u into g.
func (e elementwise) silu(g, u []float32) {
	n := 0
	if e != plainGo {
		if n = len(g) &^ (vectorStep - 1); n > 0 {
			_ = u[n-1]
			e.siluMul(&g[0], &u[0], n)
		}
	}
	for i := n; i < len(g); i++ {
		v := g[i]
		g[i] = float32(v/(1+exp32(-v))) * u[i]
	}
}

// normCall is the operand of normRows.
type normCall struct {
	x, y       *float32
	rows, cols int // cols is a multiple of vectorStep
	gain       *float32
	epsilon    float64
	inverse    *float32 // of each row; nil: not wanted
}

// norm writes rows of x scaled to unit root mean square, times gain, to y; the
// mean is a float64 sum in eight interleaved lanes. y may be x. inverse becomes
// the factor of each row; nil: it is not wanted.
func (e elementwise) norm(y, x []float32, rows, cols int, gain []float32, epsilon float64, inverse []float32) {
	if rows == 0 {
		return
	}
	if e != plainGo && cols%vectorStep == 0 {
		_, _, _ = y[rows*cols-1], x[rows*cols-1], gain[cols-1]
		c := normCall{&x[0], &y[0], rows, cols, &gain[0], epsilon, nil}
		if inverse != nil {
			_ = inverse[rows-1]
			c.inverse = &inverse[0]
		}
		e.normRows(&c)
		return
	}
	for r := range rows {
		x, y := x[r*cols:][:cols], y[r*cols:][:cols]
		inv := float32(1 / math.Sqrt(sumSquares(x)/float64(cols)+epsilon))
		if inverse != nil {
			inverse[r] = inv
		}
		for i, v := range x {
			y[i] = float32(v*inv) * gain[i]
		}
	}
}

// sumSquares adds x[i]² in lanes i mod 8, then the lanes in pairs.
func sumSquares(x []float32) float64 {
	var l [8]float64
	i := 0
	for ; i+8 <= len(x); i += 8 {
		v := (*[8]float32)(x[i:])
		for j := range l {
			f := float64(v[j])
			l[j] += f * f // exact product: no fused difference
		}
	}
	for j := 0; i < len(x); i, j = i+1, j+1 {
		f := float64(x[i])
		l[j] += f * f
	}
	return addLanes(&l)
}

// rotateCall is the operand of rotateRow.
type rotateCall struct {
	x         *float32
	heads     int
	headBytes int // from head to head
	half      int // pairs of a head, a positive multiple of 4
	cos, sin  *float32
}

// rotate turns the pairs (i, i+half) of every head of a row by the angles of
// its position; half is the length of cos and sin.
func (e elementwise) rotate(row []float32, heads, headDim int, cos, sin []float32) {
	half := len(cos)
	sin = sin[:half]
	if e != plainGo && half > 0 && half%4 == 0 && heads > 0 {
		_ = row[(heads-1)*headDim+2*half-1]
		e.rotateRow(&rotateCall{&row[0], heads, 4 * headDim, half, &cos[0], &sin[0]})
		return
	}
	for h := 0; h < heads; h++ {
		lo, hi := row[h*headDim:][:half], row[h*headDim+half:][:half]
		for i, c := range cos {
			s := sin[i]
			u, v := lo[i], hi[i]
			lo[i] = float32(u*c) - float32(v*s)
			hi[i] = float32(v*c) + float32(u*s)
		}
	}
}
