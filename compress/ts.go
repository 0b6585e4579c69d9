package compress

import "math"

// splitChunk is how many columns splitRow looks at before it makes room for more
// values above.
const splitChunk = 4096

// splitRow is threshold splitting (arXiv 2511.04002, Eq. 4) of one row: values
// for which |x| < tau does not hold are appended to above with their columns. It
// returns the largest magnitude of the others, 0 if there are none.
func splitRow(row []float32, tauBits uint32, above *CSR) (largest float32) {
	var top uint32
	for at := 0; at < len(row); at += splitChunk {
		top = max(top, rowLoops.split(row[at:min(at+splitChunk, len(row))], uint32(at), tauBits, above))
	}
	above.RowPtr = append(above.RowPtr, uint32(len(above.Col)))
	return math.Float32frombits(top)
}

// splitPlain splits the values of a row from column first on and returns the bits
// of the largest magnitude below tau. Magnitudes are compared as bit patterns,
// which order like the values. A NaN lies over every threshold, so it is above,
// as is infinity.
func splitPlain(row []float32, first, tauBits uint32, above *CSR) (largest uint32) {
	for j, v := range row {
		m := math.Float32bits(v) &^ (1 << 31)
		if m >= tauBits {
			above.Col = append(above.Col, first+uint32(j))
			above.Val = append(above.Val, v)
			continue
		}
		largest = max(largest, m)
	}
	return largest
}
