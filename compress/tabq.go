package compress

// search is TAB-Q (arXiv 2511.04002, Algorithm 1) over a group of rows that
// share one Q: one row per token, or all rows of a tensor. It returns the number
// of magnitude bits for the group, 0 when it has no value other than zero.
//
// m has the rows in order, tau the bits of their thresholds, largest the greatest
// magnitude below the threshold of each. topCodes is scratch for a code of every value.
func (r *reading) search(m Matrix, tau []uint32, largest []float32, topCodes []uint8) int {
	some := false
	for _, l := range largest {
		some = some || l > 0
	}
	if !some {
		return 0
	}
	if r.fixed || r.lowest >= r.top {
		return r.top
	}
	for i, l := range largest {
		if l > 0 {
			rowLoops.magnitudes(topCodes[i*m.Cols:(i+1)*m.Cols], m.Row(i), tau[i], magnitudeScale(l, r.top, r.scale32), 1<<r.top-1)
		}
	}
	q := r.top
	for candidate := r.top - 1; candidate >= r.lowest; candidate-- {
		var sum uint64
		for i, l := range largest {
			if l > 0 {
				sum += r.distortion(m.Row(i), tau[i], topCodes[i*m.Cols:(i+1)*m.Cols], magnitudeScale(l, candidate, r.scale32), candidate)
			}
		}
		if float32(sum)/float32(len(m.Data)) > r.delta {
			if r.firstExceed {
				return candidate
			}
			return q
		}
		q = candidate
	}
	return q
}

// distortion returns the sum over a row of |topCode / 2^(top-bits) - code|, the
// numerator of delta in Algorithm 1, with code a fresh quantisation at bits.
func (r *reading) distortion(row []float32, tauBits uint32, topCodes []uint8, scale float32, bits int) uint64 {
	shift := uint(r.top - bits)
	var half uint32
	if r.roundCompare {
		half = 1 << shift >> 1
	}
	return rowLoops.distortion(topCodes, row, tauBits, scale, 1<<bits-1, half, shift)
}
