package compress

import "math"

// rowLoop is a set of loops over the values of a row, each the fastest that the
// processor has; they give the same bits on all. In those that take tauBits, a
// value that is not below the threshold counts as 0.
type rowLoop struct {
	name string
	// split is splitPlain.
	split func(row []float32, first, tauBits uint32, above *CSR) (largest uint32)
	// magnitudes writes magnitudeCode of the magnitudes.
	magnitudes func(dst []uint8, row []float32, tauBits uint32, s float32, top uint32)
	// distortion sums |(topCode+half)>>shift - magnitudeCode| over a row.
	distortion func(topCodes []uint8, row []float32, tauBits uint32, s float32, top, half uint32, shift uint) (sum uint64)
	// codes writes the magnitudes' codes with the signs of the values and
	// returns their sum without.
	codes func(dst []int16, row []float32, tauBits uint32, s float32, top uint32) (sum uint64)
	// restore writes code * s (Eq. 7).
	restore func(dst []float32, codes []int16, s float32)
	// restoreSymbols writes (symbol - zero) * s and returns the greatest
	// |symbol - zero|.
	restoreSymbols func(dst []float32, symbols []byte, zero int32, s float32) (worst uint32)
	// symbols writes code + zero.
	symbols func(dst []byte, codes []int16, zero int32)
	// count is countBytes, fastest where all bytes are below 32.
	count func(b []byte) (counts [256]uint32)
}

// rowLoops are the loops in use.
var rowLoops = availableRowLoops()[0]

var plainRowLoop = rowLoop{
	"plain", splitPlain, magnitudesPlain, distortionPlain, codesPlain, restorePlain, restoreSymbolsPlain, symbolsPlain, countBytes,
}

// below returns the magnitude of v, or 0 when it is not below the threshold.
func below(v float32, tauBits uint32) float32 {
	m := math.Float32bits(v) &^ (1 << 31)
	if m >= tauBits {
		m = 0
	}
	return math.Float32frombits(m)
}

func magnitudesPlain(dst []uint8, row []float32, tauBits uint32, s float32, top uint32) {
	dst = dst[:len(row)]
	for j, v := range row {
		dst[j] = uint8(magnitudeCode(below(v, tauBits), s, top))
	}
}

func distortionPlain(topCodes []uint8, row []float32, tauBits uint32, s float32, top, half uint32, shift uint) (sum uint64) {
	topCodes = topCodes[:len(row)]
	for j, v := range row {
		d := int32((uint32(topCodes[j])+half)>>(shift&7)) - int32(magnitudeCode(below(v, tauBits), s, top))
		sign := d >> 31
		sum += uint64((d ^ sign) - sign)
	}
	return sum
}

// codesPlain gives code 0 no sign, so that -0 restores as +0.
func codesPlain(dst []int16, row []float32, tauBits uint32, s float32, top uint32) (sum uint64) {
	dst = dst[:len(row)]
	for j, v := range row {
		sign := int32(math.Float32bits(v)) >> 31
		c := int32(magnitudeCode(below(v, tauBits), s, top))
		sum += uint64(c)
		dst[j] = int16((c ^ sign) - sign)
	}
	return sum
}

func restorePlain(dst []float32, codes []int16, s float32) {
	dst = dst[:len(codes)]
	for j, c := range codes {
		dst[j] = float32(c) * s
	}
}

func restoreSymbolsPlain(dst []float32, symbols []byte, zero int32, s float32) (worst uint32) {
	dst = dst[:len(symbols)]
	for j, sym := range symbols {
		c := int32(sym) - zero
		worst = max(worst, uint32(max(c, -c)))
		dst[j] = float32(c) * s
	}
	return worst
}

func symbolsPlain(dst []byte, codes []int16, zero int32) {
	dst = dst[:len(codes)]
	for j, c := range codes {
		dst[j] = byte(int32(c) + zero)
	}
}
