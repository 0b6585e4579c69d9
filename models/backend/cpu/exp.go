package cpu

import "math"

// exp32 is e^x in float32, at most about one unit in the last place off,
// made of single-rounded operations so that every CPU gives the same bits.
// Below the smallest normal result it returns 0, above the largest +Inf.
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
	if !(x > -87.336540) {
		if x != x {
			return x
		}
		return 0
	}
	if x > 88.722835 {
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
	k := int32(n)
	if k > 127 { // 2^128 is no float32: scale in two steps
		return float32(y*math.Float32frombits(uint32(k-1+127)<<23)) * 2
	}
	return y * math.Float32frombits(uint32(k+127)<<23)
}
