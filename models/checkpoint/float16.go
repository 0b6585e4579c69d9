package checkpoint

import "math"

// Float16ToFloat32 widens an IEEE 754 binary16 value, given as its bits. The result is exact for every
// value; a NaN stays a NaN with its payload.
func Float16ToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	magnitude := uint32(h&0x7fff) << 13
	if magnitude >= 0x1f<<23 { // infinity or NaN: only the exponent changes
		return math.Float32frombits(sign | magnitude | 0xff<<23)
	}
	// With the exponent field read as binary32's the value is too small by 2^(127-15); the product is
	// exact for normal and subnormal values alike.
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(magnitude)*0x1p112))
}

// Float32ToFloat16 narrows to IEEE 754 binary16 bits, rounding to nearest, ties to even. Values of
// magnitude 65520 and more become infinite; a NaN stays a NaN.
func Float32ToFloat16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits>>16) & 0x8000
	magnitude := bits & 0x7fffffff
	switch {
	case magnitude > 0xff<<23: // NaN: keep the upper payload bits and set the quiet bit
		return sign | 0x7e00 | uint16(magnitude>>13)&0x3ff
	case magnitude >= 143<<23: // 2^16 and more
		return sign | 0x7c00
	case magnitude >= 113<<23: // normal in binary16: 2^-14 and more
		magnitude -= 112 << 23
		return sign | uint16((magnitude+0xfff+magnitude>>13&1)>>13)
	case magnitude < 102<<23: // below half of the smallest subnormal, 2^-25
		return sign
	}
	// Subnormal in binary16: the significand in units of 2^-24.
	shift := 126 - magnitude>>23
	significand := magnitude&0x7fffff | 0x800000
	half := uint32(1)<<(shift-1) - 1
	return sign | uint16((significand+half+significand>>shift&1)>>shift)
}

// BFloat16ToFloat32 widens a bfloat16 value, given as its bits. The result is exact for every value.
func BFloat16ToFloat32(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// Float32ToBFloat16 narrows to bfloat16 bits, rounding to nearest, ties to even. Values that round
// beyond the largest finite bfloat16 become infinite; a NaN stays a NaN.
func Float32ToBFloat16(f float32) uint16 {
	bits := math.Float32bits(f)
	if bits&0x7fffffff > 0xff<<23 {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
