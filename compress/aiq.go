package compress

import "math"

// grid is the asymmetric integer quantiser of arXiv 2511.04002, Eq. 5 to 7: a
// value x has the code round(x/scale) + zero, clamped to 0..top, and a code q
// stands for (q - zero) * scale. All arithmetic is float32, rounding is to
// nearest with ties to even.
//
// The printed Eq. 6 has zero = +round(lo/scale), which moves codes out of range
// by twice that; the sign here is the one for which lo has code 0.
type grid struct {
	scale float32
	zero  int32
	top   int32 // 2^bits - 1
}

// newGrid returns the grid of the given bits over [lo, hi], lo < hi, both
// finite and hi-lo finite.
func newGrid(lo, hi float32, bits int) grid {
	g := grid{top: 1<<bits - 1}
	g.scale = max((hi-lo)/float32(g.top), math.SmallestNonzeroFloat32)
	g.zero = -roundEven(lo / g.scale)
	return g
}

// code returns the code of x (Eq. 5).
func (g grid) code(x float32) int32 {
	return min(max(roundEven(x/g.scale)+g.zero, 0), g.top)
}

// value returns what code q stands for (Eq. 7).
func (g grid) value(q int32) float32 { return float32(q-g.zero) * g.scale }

// signedValue returns what code q of a magnitude stands for when the value was
// negative or not. The sign belongs outside the inverse: subtracting zero from
// a signed code, as the printed order of line 12 and Eq. 7 does, gives another
// number whenever zero is not 0.
func (g grid) signedValue(q int32, negative bool) float32 {
	if negative {
		return -g.value(q)
	}
	return g.value(q)
}

// roundEven rounds |x| < 2^22 to the nearest integer, ties to even, by letting
// the addition do the rounding.
func roundEven(x float32) int32 {
	const shift = 3 << 22
	return int32(math.Float32bits(x+shift)) - int32(math.Float32bits(shift))
}

// magnitudeScale returns the scale of a row whose largest magnitude is largest,
// at the given magnitude bits (Eq. 6 with minimum 0, hence zero point 0): a
// float32 quotient, then rounded to float16 so that both ends use the number
// that travels. Where float16 gives zero, a subnormal or infinity, or scale32
// asks for it, the float32 stays. It is never zero: below the smallest float32
// the codes count that.
func magnitudeScale(largest float32, bits int, scale32 bool) float32 {
	s := largest / float32(int32(1)<<bits-1)
	if !scale32 {
		if h := toFloat16(s); h >= 0x400 && h < 0x7c00 {
			return fromFloat16(h)
		}
	}
	return max(s, math.SmallestNonzeroFloat32)
}

// magnitudeCode returns the code of magnitude m >= 0 under scale s with largest
// code top. Adding 2^23 rounds to an integer, which the low bits then hold.
func magnitudeCode(m, s float32, top uint32) uint32 {
	return min(math.Float32bits(m/s+(1<<23))&(1<<23-1), top)
}
