package compress

import "math"

// reference computes the restored values, codes, scales and Q of m one value at
// a time as codec-notes A and B work them by hand, in float64 where the reading
// does not say float32. It shares no arithmetic with the package.
type reference struct {
	restored []float32
	codes    []int16
	scale    []float32
	q        []uint8
}

func referenceScale(largest float32, bits int, scaleType string) float32 {
	s := largest / float32(math.Pow(2, float64(bits))-1)
	if scaleType == "float16" {
		if h := referenceFloat16(float64(s)); h >= 0x1p-14 && !math.IsInf(h, 0) {
			return float32(h)
		}
	}
	if s == 0 {
		return math.SmallestNonzeroFloat32
	}
	return s
}

// referenceFloat16 rounds x to binary16 by the definition: to a multiple of the
// spacing at its magnitude, ties to even.
func referenceFloat16(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return x
	}
	_, e := math.Frexp(x)
	step := math.Ldexp(1, max(e-1, -14)-10)
	if x = math.RoundToEven(x/step) * step; math.Abs(x) >= 65536 {
		return math.Copysign(math.Inf(1), x)
	}
	return x
}

// referenceBfloat16 does the same for bfloat16.
func referenceBfloat16(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return x
	}
	_, e := math.Frexp(x)
	step := math.Ldexp(1, max(e-1, -126)-7)
	if x = math.RoundToEven(x/step) * step; math.Abs(x) >= 0x1p128 {
		return math.Copysign(math.Inf(1), x)
	}
	return x
}

func referenceAbove(x float32, tau float64) bool {
	return !(math.Abs(float64(x)) < float64(float32(tau)))
}

// referenceQuantise covers every reading but the types of the values above,
// which it keeps.
func referenceQuantise(m Matrix, o Options) reference {
	ref := reference{
		restored: make([]float32, len(m.Data)), codes: make([]int16, len(m.Data)),
		scale: make([]float32, m.Rows), q: make([]uint8, m.Rows),
	}
	top := o.MaxActivationBits - 1
	magnitude := func(x float32) float32 {
		if referenceAbove(x, o.Threshold) {
			return 0
		}
		return float32(math.Abs(float64(x)))
	}
	largest := make([]float32, m.Rows)
	for r := range largest {
		for _, x := range m.Row(r) {
			largest[r] = max(largest[r], magnitude(x))
		}
	}
	code := func(x float32, row, bits int) float64 {
		if largest[row] == 0 {
			return 0
		}
		ratio := magnitude(x) / referenceScale(largest[row], bits, o.ScaleType)
		return min(math.RoundToEven(float64(ratio)), math.Pow(2, float64(bits))-1)
	}
	// delta of Algorithm 1 over rows first..last-1.
	delta := func(first, last, bits int) float32 {
		half := 0.0
		if o.Comparison == "round" {
			half = math.Pow(2, float64(top-bits)) / 2
		}
		sum := 0.0
		for r := first; r < last; r++ {
			for _, x := range m.Row(r) {
				sum += math.Abs(math.Floor((code(x, r, top)+half)/math.Pow(2, float64(top-bits))) - code(x, r, bits))
			}
		}
		return float32(sum) / float32((last-first)*m.Cols)
	}
	search := func(first, last int) int {
		chosen := top
		if o.Search == "fixed" {
			return chosen
		}
		for bits := top - 1; bits >= min(top, o.LowerBound); bits-- {
			if delta(first, last, bits) > float32(o.Delta) {
				if o.StopRule == "first_exceed" {
					return bits
				}
				break
			}
			chosen = bits
		}
		return chosen
	}
	for r := range m.Rows {
		first, last := r, r+1
		if o.Granularity == "per_tensor" {
			first, last = 0, m.Rows
		}
		if largest[r] > 0 {
			bits := search(first, last)
			ref.q[r] = uint8(bits)
			ref.scale[r] = referenceScale(largest[r], bits, o.ScaleType)
		}
		for c, x := range m.Row(r) {
			i := r*m.Cols + c
			if referenceAbove(x, o.Threshold) {
				ref.restored[i] = x
				continue
			}
			if largest[r] == 0 {
				continue
			}
			k := code(x, r, int(ref.q[r]))
			if x < 0 && k > 0 {
				k = -k
			}
			ref.codes[i] = int16(k)
			ref.restored[i] = float32(k) * ref.scale[r]
		}
	}
	return ref
}
