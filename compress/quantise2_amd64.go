//go:build amd64 && !noasm

package compress

import (
	"slices"
	"unsafe"
)

//go:noescape
func splitRowavx2(row *float32, n, first, tauBits int, col *uint32, val *float32) (count, largest int)

//go:noescape
func signedCodesavx2(dst *int16, row *float32, n, tauBits, scaleBits, top int) (sum int)

//go:noescape
func magnitudeCodesavx2(dst *uint8, row *float32, n, tauBits, scaleBits, top int)

//go:noescape
func distortionavx2(topCodes *uint8, row *float32, n, tauBits, scaleBits, top, half, shift int) (sum int)

//go:noescape
func restoreCodesavx2(dst *float32, codes *int16, n, scaleBits int)

//go:noescape
func restoreSymbolsavx2(dst *float32, symbols *byte, n, scaleBits, zero int) (worst int)

//go:noescape
func codeSymbolsavx2(dst *byte, codes *int16, n, zero int)

//go:noescape
func countavx2(b *byte, n, first int, counts *[8]int)

// avx2RowLoop runs the kernels on whole blocks and plain Go on the rest of a row.
var avx2RowLoop = rowLoop{
	name: "avx2",
	split: func(row []float32, first, tauBits uint32, above *CSR) uint32 {
		n := len(row) &^ 7
		have := len(above.Col)
		above.Col = slices.Grow(above.Col, len(row)+splitSlack)
		above.Val = slices.Grow(above.Val, len(row)+splitSlack)
		col, val := above.Col[have:have+1], above.Val[have:have+1]
		count, largest := splitRowavx2(unsafe.SliceData(row), n, int(first), int(tauBits), &col[0], &val[0])
		above.Col, above.Val = above.Col[:have+count], above.Val[:have+count]
		return max(uint32(largest), splitPlain(row[n:], first+uint32(n), tauBits, above))
	},
	magnitudes: func(dst []uint8, row []float32, tauBits uint32, s float32, top uint32) {
		dst = dst[:len(row)]
		n := len(row) &^ 15
		magnitudeCodesavx2(unsafe.SliceData(dst), unsafe.SliceData(row), n, int(tauBits), scaleBits(s), int(top))
		magnitudesPlain(dst[n:], row[n:], tauBits, s, top)
	},
	distortion: func(topCodes []uint8, row []float32, tauBits uint32, s float32, top, half uint32, shift uint) uint64 {
		topCodes = topCodes[:len(row)]
		n := len(row) &^ 15
		sum := distortionavx2(unsafe.SliceData(topCodes), unsafe.SliceData(row), n, int(tauBits), scaleBits(s), int(top), int(half), int(shift&7))
		return uint64(sum) + distortionPlain(topCodes[n:], row[n:], tauBits, s, top, half, shift)
	},
	codes: func(dst []int16, row []float32, tauBits uint32, s float32, top uint32) uint64 {
		dst = dst[:len(row)]
		n := len(row) &^ 15
		sum := signedCodesavx2(unsafe.SliceData(dst), unsafe.SliceData(row), n, int(tauBits), scaleBits(s), int(top))
		return uint64(sum) + codesPlain(dst[n:], row[n:], tauBits, s, top)
	},
	restore: func(dst []float32, codes []int16, s float32) {
		dst = dst[:len(codes)]
		n := len(codes) &^ 15
		restoreCodesavx2(unsafe.SliceData(dst), unsafe.SliceData(codes), n, scaleBits(s))
		restorePlain(dst[n:], codes[n:], s)
	},
	restoreSymbols: func(dst []float32, symbols []byte, zero int32, s float32) uint32 {
		dst = dst[:len(symbols)]
		n := len(symbols) &^ 15
		worst := restoreSymbolsavx2(unsafe.SliceData(dst), unsafe.SliceData(symbols), n, scaleBits(s), int(zero))
		return max(uint32(worst), restoreSymbolsPlain(dst[n:], symbols[n:], zero, s))
	},
	symbols: func(dst []byte, codes []int16, zero int32) {
		dst = dst[:len(codes)]
		n := len(codes) &^ 15
		codeSymbolsavx2(unsafe.SliceData(dst), unsafe.SliceData(codes), n, int(zero))
		symbolsPlain(dst[n:], codes[n:], zero)
	},
	count: countSymbols2,
}

// countSymbols2 counts by comparing 32 bytes with one symbol after another, a
// part of the row that stays in the nearest cache at a time, up to the last symbol
// that occurs. Bytes of 32 or more are counted the plain way.
func countSymbols2(b []byte) (counts [256]uint32) {
	const part = 4096
	var sums [laneSymbols / 8][8]int
	whole := len(b) &^ 31
	for at := 0; at < whole; at += part {
		left := min(part, whole-at)
		n := left
		for i := range sums {
			before := sums[i]
			countavx2(&b[at], n, 8*i, &sums[i])
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
