package compress

// search is TAB-Q (arXiv 2511.04002, Algorithm 1) over a group of rows that
// share one Q: one row per token, or all rows of a tensor. It returns the number
// of magnitude bits for the group, 0 when it has no value other than zero.
//
// mag holds the magnitudes of the rows in order, each row cols long, largest the
// greatest of each row. topCodes is scratch of the length of mag.
func (r *reading) search(mag []float32, cols int, largest []float32, topCodes []uint8) int {
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
			quantiseMagnitudes(topCodes[i*cols:(i+1)*cols], mag[i*cols:(i+1)*cols], magnitudeScale(l, r.top, r.scale32), 1<<r.top-1)
		}
	}
	q := r.top
	for candidate := r.top - 1; candidate >= r.lowest; candidate-- {
		var sum uint64
		for i, l := range largest {
			if l > 0 {
				sum += r.distortion(mag[i*cols:(i+1)*cols], topCodes[i*cols:(i+1)*cols], magnitudeScale(l, candidate, r.scale32), candidate)
			}
		}
		if float32(sum)/float32(len(mag)) > r.delta {
			if r.firstExceed {
				return candidate
			}
			return q
		}
		q = candidate
	}
	return q
}

// quantiseMagnitudes writes the codes of mag.
func quantiseMagnitudes(dst []uint8, mag []float32, scale float32, top uint32) {
	dst = dst[:len(mag)]
	for j, m := range mag {
		dst[j] = uint8(magnitudeCode(m, scale, top))
	}
}

// distortion returns the sum over a row of |topCode / 2^(top-bits) - code|, the
// numerator of delta in Algorithm 1, with code a fresh quantisation at bits.
func (r *reading) distortion(mag []float32, topCodes []uint8, scale float32, bits int) uint64 {
	shift := uint(r.top-bits) & 7
	var half int32
	if r.roundCompare {
		half = 1 << shift >> 1
	}
	topCodes = topCodes[:len(mag)]
	top := uint32(1)<<bits - 1
	var sum uint64
	for j, m := range mag {
		d := (int32(topCodes[j])+half)>>shift - int32(magnitudeCode(m, scale, top))
		sign := d >> 31
		sum += uint64((d ^ sign) - sign)
	}
	return sum
}
