package compress

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// The bins of a Histogram: histogramOctave per factor of two, from
// 2^histogramLow up to 2^histogramHigh.
const (
	histogramOctave = 8
	histogramLow    = -24
	histogramHigh   = 16
	histogramBins   = (histogramHigh - histogramLow) * histogramOctave
)

// octaveEdges are the mantissa bits of 2^(k/8) rounded to float32, k = 0..7.
// They are written out because a power function may differ between processors.
var octaveEdges = [histogramOctave]uint32{0, 0x0b95c2, 0x1837f0, 0x25fed7, 0x3504f3, 0x45672a, 0x5744fd, 0x6ac0c7}

// Histogram counts values by magnitude in bins of equal ratio, eight per
// octave. The zero value is empty and ready. It holds counts only, so merging
// in any order gives the same histogram.
type Histogram struct {
	counts    [histogramBins]uint64
	zero      uint64 // values equal to 0
	underflow uint64 // 0 < |x| < 2^-24
	overflow  uint64 // 2^16 <= |x|, finite
	nonFinite uint64 // NaN and infinity
}

// HistogramEdges returns the edges of the bins: bin i counts
// edges[i] <= |x| < edges[i+1]. Each is exact as a float32.
func HistogramEdges() []float64 {
	edges := make([]float64, histogramBins+1)
	for i := range edges {
		exponent := uint32(histogramLow+i/histogramOctave) + 127
		edges[i] = float64(math.Float32frombits(exponent<<23 | octaveEdges[i%histogramOctave]))
	}
	return edges
}

// Add counts the values of m.
func (h *Histogram) Add(m Matrix) {
	for _, v := range m.Data {
		b := math.Float32bits(v) &^ (1 << 31)
		e := int(b>>23) - 127
		switch {
		case b == 0:
			h.zero++
		case e < histogramLow:
			h.underflow++
		case e >= histogramHigh:
			if e == 128 {
				h.nonFinite++
			} else {
				h.overflow++
			}
		default:
			bin := (e-histogramLow)*histogramOctave - 1
			for _, edge := range octaveEdges {
				if b&0x7fffff >= edge {
					bin++
				}
			}
			h.counts[bin]++
		}
	}
}

// Merge adds the counts of o.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.zero += o.zero
	h.underflow += o.underflow
	h.overflow += o.overflow
	h.nonFinite += o.nonFinite
}

// Counts returns the count of each bin, with the edges of [HistogramEdges].
func (h *Histogram) Counts() []uint64 { return slices.Clone(h.counts[:]) }

// Zero returns the count of values equal to 0.
func (h *Histogram) Zero() uint64 { return h.zero }

// Underflow returns the count of values other than 0 below the first edge.
func (h *Histogram) Underflow() uint64 { return h.underflow }

// Overflow returns the count of finite values at or above the last edge.
func (h *Histogram) Overflow() uint64 { return h.overflow }

// NonFinite returns the count of NaNs and infinities.
func (h *Histogram) NonFinite() uint64 { return h.nonFinite }

// Total returns the count of all values.
func (h *Histogram) Total() uint64 {
	n := h.zero + h.underflow + h.overflow + h.nonFinite
	for _, c := range h.counts {
		n += c
	}
	return n
}

// histogramJSON is the stored form.
type histogramJSON struct {
	Edges     []float64 `json:"edges"`
	Counts    []uint64  `json:"counts"`
	Zero      uint64    `json:"zero"`
	Underflow uint64    `json:"underflow"`
	Overflow  uint64    `json:"overflow"`
	NonFinite uint64    `json:"non_finite"`
}

// MarshalJSON writes the counts with the edges of the bins.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	return json.Marshal(histogramJSON{HistogramEdges(), h.counts[:], h.zero, h.underflow, h.overflow, h.nonFinite})
}

// UnmarshalJSON reads what MarshalJSON wrote. Other edges or another number of
// bins are an error.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var j histogramJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("compress: histogram: %w", err)
	}
	if len(j.Counts) != histogramBins || !slices.Equal(j.Edges, HistogramEdges()) {
		return fmt.Errorf("compress: histogram: %d counts and %d edges, expected %d bins from 2^%d to 2^%d",
			len(j.Counts), len(j.Edges), histogramBins, histogramLow, histogramHigh)
	}
	*h = Histogram{zero: j.Zero, underflow: j.Underflow, overflow: j.Overflow, nonFinite: j.NonFinite}
	copy(h.counts[:], j.Counts)
	return nil
}
