package compress

import "math"

// splitRow is threshold splitting (arXiv 2511.04002, Eq. 4) of one row: values
// for which |x| < tau does not hold are appended to above with their columns,
// and mag receives the magnitudes of the others, with 0 in the places of those
// above. It returns the largest magnitude in mag. mag is as long as row.
//
// Magnitudes are compared as bit patterns, which order like the values. A NaN
// lies over every threshold, so it is above, as is infinity.
func splitRow(mag, row []float32, tauBits uint32, above *CSR) (largest float32) {
	mag = mag[:len(row)]
	var top uint32
	for j, v := range row {
		m := math.Float32bits(v) &^ (1 << 31)
		if m >= tauBits {
			above.Col = append(above.Col, uint32(j))
			above.Val = append(above.Val, v)
			m = 0
		}
		mag[j] = math.Float32frombits(m)
		top = max(top, m)
	}
	above.RowPtr = append(above.RowPtr, uint32(len(above.Col)))
	return math.Float32frombits(top)
}
