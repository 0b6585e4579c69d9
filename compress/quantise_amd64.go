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
func countavx512(b *byte, n, first int, counts *[4][32]uint16) (all int)

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
	count: countSymbols2,
}

// countSymbols512 counts 16 symbols at a time, a part of the row that stays in the
// nearest cache after another. Rows with bytes of 32 or more are counted the plain
// way.
func countSymbols512(b []byte) (counts [256]uint32) {
	const part = 1 << 14
	whole := len(b) &^ 63
	for at := 0; at < whole; at += part {
		n := min(part, whole-at)
		for first := 0; first < laneSymbols; first += 16 {
			var sums [4][32]uint16
			all := uint64(countavx512(&b[at], n, first, &sums))
			for i, sum := range sums {
				for j, s := range sum {
					counts[first+i/2*8+j%4*2+i%2] += uint32(s)
				}
			}
			if all&0xe0e0e0e0e0e0e0e0 != 0 {
				return countBytes(b)
			}
			if all&0x1010101010101010 == 0 {
				break
			}
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
	x := &cpu.X86
	var loops []rowLoop
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasBMI2 && x.HasPOPCNT {
		if x.HasAVX512VBMI && x.HasAVX512GFNI && x.HasAVX512BITALG {
			l := avx512RowLoop
			l.name, l.count = "avx512gfni", countSymbols512
			loops = append(loops, l)
		}
		loops = append(loops, avx512RowLoop)
	}
	if x.HasAVX2 && x.HasPOPCNT {
		loops = append(loops, avx2RowLoop)
	}
	return append(loops, plainRowLoop)
}
