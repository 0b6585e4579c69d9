package compress

import (
	"encoding/binary"
	"math"
	"slices"
)

// valueType is the type in which values travel that are not quantised. The
// numbers are those of the message.
type valueType uint8

const (
	typeFloat16 valueType = iota
	typeBfloat16
	typeFloat32
)

func (t valueType) String() string { return valueTypeNames[t] }

// size returns the bytes of one value.
func (t valueType) size() int {
	if t == typeFloat32 {
		return 4
	}
	return 2
}

// round returns v as t holds it.
func (t valueType) round(v float32) float32 {
	switch t {
	case typeFloat16:
		return fromFloat16(toFloat16(v))
	case typeBfloat16:
		return fromBfloat16(toBfloat16(v))
	}
	return v
}

// append appends v, rounded to t, in little-endian order.
func (t valueType) append(dst []byte, v float32) []byte {
	switch t {
	case typeFloat16:
		return binary.LittleEndian.AppendUint16(dst, toFloat16(v))
	case typeBfloat16:
		return binary.LittleEndian.AppendUint16(dst, toBfloat16(v))
	}
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
}

// value returns value i of the array b.
func (t valueType) value(b []byte, i int) float32 {
	switch t {
	case typeFloat16:
		return fromFloat16(binary.LittleEndian.Uint16(b[2*i:]))
	case typeBfloat16:
		return fromBfloat16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
}

// smallestExact returns the first of float16, bfloat16 and float32 that holds
// all values bit for bit, the payloads of NaNs included.
func smallestExact(values []float32) valueType {
	for t := typeFloat16; t < typeFloat32; t++ {
		if !slices.ContainsFunc(values, func(v float32) bool { return math.Float32bits(t.round(v)) != math.Float32bits(v) }) {
			return t
		}
	}
	return typeFloat32
}

// firstInfinite holds, for each type, the bits of the least magnitude that
// rounds to infinity.
var firstInfinite = [...]uint32{0x477ff000, 0x7f7f8000, 0x7f800000} // 65520, 3.396e38, infinity

// becomesInfinite reports whether rounding the finite v to t overflows.
func (t valueType) becomesInfinite(v float32) bool {
	m := math.Float32bits(v) &^ (1 << 31)
	return m >= firstInfinite[t] && m < 0x7f800000
}

// toFloat16 rounds f to IEEE binary16, nearest, ties to even. Magnitudes of
// 65520 and more become infinite; a NaN stays a NaN with the leading bits of its
// payload.
func toFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		m := uint16(b >> 13 & 0x3ff)
		if m == 0 {
			m = 0x200
		}
		return sign | 0x7c00 | m
	case b >= 0x47800000: // 65536
		return sign | 0x7c00
	case b < 0x38800000: // 2^-14: the spacing at 0.5 is the smallest subnormal, so the sum rounds to it
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	return sign | uint16((b+0xc8000fff+b>>13&1)>>13)
}

// fromFloat16 returns the value of an IEEE binary16.
func fromFloat16(h uint16) float32 {
	sign, m := uint32(h&0x8000)<<16, uint32(h&0x7fff)
	switch {
	case m >= 0x7c00:
		return math.Float32frombits(sign | 0x7f800000 | m&0x3ff<<13)
	case m < 0x400:
		return math.Float32frombits(sign | math.Float32bits(float32(m)*0x1p-24))
	}
	return math.Float32frombits(sign | (m<<13 + 0x38000000))
}

// toBfloat16 rounds f to the upper half of a float32, nearest, ties to even. A
// NaN stays a NaN with the leading bits of its payload.
func toBfloat16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		if b>>16&0x7f == 0 {
			return uint16(b>>16 | 0x40)
		}
		return uint16(b >> 16)
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// fromBfloat16 returns the value of a bfloat16.
func fromBfloat16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
