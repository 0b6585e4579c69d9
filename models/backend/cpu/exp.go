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

// elementwise is the assembly of one instruction set; nil means plain Go.
type elementwise struct {
	scaleMax func(x *float32, n int, scale float32) float32
	expSum   func(x *float32, n int, top float32, y *float32, lanes *[8]float64)
	siluMul  func(g, u *float32, n int)
}

// scaleMax multiplies x by scale and returns the largest product; x must not
// be empty.
func (e *elementwise) max(x []float32, scale float32) float32 {
	top := float32(math.Inf(-1))
	n := 0
	if e != nil {
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
func (e *elementwise) sum(x []float32, top float32, keep []float32) float64 {
	var l [8]float64
	n := 0
	if e != nil {
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
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

// silu computes g*sigmoid(g)*u into g.
func (e *elementwise) silu(g, u []float32) {
	n := 0
	if e != nil {
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
