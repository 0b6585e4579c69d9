package compress

import "math"

// rowThreshold returns the bits of a row's own threshold, for the readings
// "quantile" and "rms" of Options.ThresholdBy. It is never zero: values of zero
// stay below.
func (r *reading) rowThreshold(row []float32) uint32 {
	if r.thresholdBy == byRMS {
		return max(1, math.Float32bits(float32(r.threshold*rootMeanSquare(row))))
	}
	rank := int(math.Ceil(r.threshold * float64(len(row))))
	if rank >= len(row) {
		return math.Float32bits(float32(math.Inf(1)))
	}
	return max(1, magnitudeOfRank(row, rank))
}

// rootMeanSquare is over the finite values, added in their order.
func rootMeanSquare(row []float32) float64 {
	var sum float64
	n := 0
	for _, v := range row {
		if f := float64(v); !math.IsNaN(f) && !math.IsInf(f, 0) {
			sum += float64(f * f)
			n++
		}
	}
	return math.Sqrt(sum / float64(max(n, 1)))
}

// magnitudeOfRank returns the bits of the magnitude that stands at place rank,
// from 0, when the magnitudes of row are sorted; NaNs come last. It narrows the
// bits down in three digits of 11, 11 and 9.
func magnitudeOfRank(row []float32, rank int) uint32 {
	var prefix, known uint32 // bits of the answer, and which of them are known
	for _, d := range [...]struct{ shift, bits uint32 }{{20, 11}, {9, 11}, {0, 9}} {
		var counts [1 << 11]int
		for _, v := range row {
			m := math.Float32bits(v) &^ (1 << 31)
			if m&known == prefix {
				counts[m>>d.shift&(1<<d.bits-1)]++
			}
		}
		digit := uint32(0)
		for rank >= counts[digit] {
			rank -= counts[digit]
			digit++
		}
		prefix |= digit << d.shift
		known |= (1<<d.bits - 1) << d.shift
	}
	return prefix
}
