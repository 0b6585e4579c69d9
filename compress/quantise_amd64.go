//go:build amd64 && !noasm

package compress

import (
	"math"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:noescape
func splitRowavx512(row *float32, n, first, tauBits int, col *uint32, val *float32) (count, largest int)

//go:noescape
func signedCodesavx512(dst *int16, row *float32, n, tauBits, scaleBits, top int) (sum int)

//go:noescape
func magnitudeCodesavx512(dst *uint8, row *float32, n, tauBits, scaleBits, top int)

//go:noescape
func distortionavx512(topCodes *uint8, row *float32, n, tauBits, scaleBits, top, half, shift int) (sum int)

//go:noescape
func restoreCodesavx512(dst *float32, codes *int16, n, scaleBits int)

//go:noescape
func restoreSymbolsavx512(dst *float32, symbols *byte, n, scaleBits, zero int) (worst int)

//go:noescape
func codeSymbolsavx512(dst *byte, codes *int16, n, zero int)

//go:noescape
func countavx512(b *byte, n, first int, counts *[8]int)

// splitSlack is how many elements behind its results a kernel may write.
const splitSlack = 16

var avx512RowLoop = rowLoop{
	name: "avx512",
	split: func(row []float32, first, tauBits uint32, above *CSR) uint32 {
		have := len(above.Col)
		above.Col = slices.Grow(above.Col, len(row)+splitSlack)
		above.Val = slices.Grow(above.Val, len(row)+splitSlack)
		col, val := above.Col[have:have+1], above.Val[have:have+1]
		n, largest := splitRowavx512(unsafe.SliceData(row), len(row), int(first), int(tauBits), &col[0], &val[0])
		above.Col, above.Val = above.Col[:have+n], above.Val[:have+n]
		return uint32(largest)
	},
	magnitudes: func(dst []uint8, row []float32, tauBits uint32, s float32, top uint32) {
		magnitudeCodesavx512(unsafe.SliceData(dst[:len(row)]), unsafe.SliceData(row), len(row), int(tauBits), scaleBits(s), int(top))
	},
	distortion: func(topCodes []uint8, row []float32, tauBits uint32, s float32, top, half uint32, shift uint) uint64 {
		return uint64(distortionavx512(unsafe.SliceData(topCodes[:len(row)]), unsafe.SliceData(row), len(row), int(tauBits), scaleBits(s), int(top), int(half), int(shift&7)))
	},
	codes: func(dst []int16, row []float32, tauBits uint32, s float32, top uint32) uint64 {
		return uint64(signedCodesavx512(unsafe.SliceData(dst[:len(row)]), unsafe.SliceData(row), len(row), int(tauBits), scaleBits(s), int(top)))
	},
	restore: func(dst []float32, codes []int16, s float32) {
		restoreCodesavx512(unsafe.SliceData(dst[:len(codes)]), unsafe.SliceData(codes), len(codes), scaleBits(s))
	},
	restoreSymbols: func(dst []float32, symbols []byte, zero int32, s float32) uint32 {
		return uint32(restoreSymbolsavx512(unsafe.SliceData(dst[:len(symbols)]), unsafe.SliceData(symbols), len(symbols), scaleBits(s), int(zero)))
	},
	symbols: func(dst []byte, codes []int16, zero int32) {
		codeSymbolsavx512(unsafe.SliceData(dst[:len(codes)]), unsafe.SliceData(codes), len(codes), int(zero))
	},
	count: countSymbols512,
}

// countSymbols512 counts by comparing 64 bytes with one symbol after another, a
// part of the row that stays in the nearest cache at a time, up to the last symbol
// that occurs. Bytes of 32 or more are counted the plain way.
func countSymbols512(b []byte) (counts [256]uint32) {
	const part = 4096
	var sums [laneSymbols / 8][8]int
	whole := len(b) &^ 63
	for at := 0; at < whole; at += part {
		left := min(part, whole-at)
		n := left
		for i := range sums {
			before := sums[i]
			countavx512(&b[at], n, 8*i, &sums[i])
			for s, c := range sums[i] {
				left -= c - before[s]
			}
			if left == 0 {
				break
			}
		}
		if left > 0 {
			return countBytes(b)
		}
	}
	for i, sum := range sums {
		for s, n := range sum {
			counts[8*i+s] = uint32(n)
		}
	}
	for _, s := range b[whole:] {
		counts[s]++
	}
	return counts
}

func scaleBits(s float32) int { return int(math.Float32bits(s)) }

// availableRowLoops returns the loops this CPU can run, fastest first, ending
// with plain Go.
func availableRowLoops() []rowLoop {
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL && cpu.X86.HasBMI2 && cpu.X86.HasPOPCNT {
		return []rowLoop{avx512RowLoop, plainRowLoop}
	}
	return []rowLoop{plainRowLoop}
}
