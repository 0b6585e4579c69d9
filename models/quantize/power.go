package quantize

import "math"

// The power of searchNorm for float32 numbers, e = 2^x m with 1 <= m < 2:
//
//	e^2.4 = e² 2^(0.4 x) c^0.4 (1+t)^0.4,  t = m/c - 1,
//
// with c the middle of one of 128 intervals, |t| <= 2^-8, and six terms of the
// binomial series. Its relative error is below 1e-15, that of math.Pow below
// 1e-14: where both neighbours at powerError of the result round to the same
// float32, math.Pow does as well.
const (
	powerIntervals = 128
	powerError     = 1e-13
)

var powerTables = func() (t struct {
	exponent      [280]float64 // 2^(0.4 x), x from -149 on
	inverse, root [powerIntervals]float64
}) {
	for i := range t.exponent {
		t.exponent[i] = math.Pow(2, 0.4*float64(i-149))
	}
	for i := range t.root {
		c := 1 + (float64(i)+0.5)/powerIntervals
		t.inverse[i], t.root[i] = 1/c, math.Pow(c, 0.4)
	}
	return t
}()

// searchPower is float32(math.Pow(e, searchNorm)) for e >= 0, bit for bit.
func searchPower(e float32) float32 {
	x := float64(e)
	bits := math.Float64bits(x)
	exponent := int(bits>>52) - 1023 + 149
	if exponent < 0 || exponent >= len(powerTables.exponent) { // 0, infinity, NaN
		return float32(math.Pow(x, searchNorm))
	}
	i := bits >> (52 - 7) & (powerIntervals - 1)
	m := math.Float64frombits(bits&(1<<52-1) | 1023<<52)
	t := m*powerTables.inverse[i] - 1
	// Binomial coefficients of 0.4.
	s := 1 + t*(0.4+t*(-0.12+t*(0.064+t*(-0.0416+t*(0.029952-t*0.0229632)))))
	p := x * x * powerTables.exponent[exponent] * powerTables.root[i] * s
	low, high := float32(p*(1-powerError)), float32(p*(1+powerError))
	if low != high {
		return float32(math.Pow(x, searchNorm))
	}
	return low
}
