package quantise

import (
	"cmp"
	"context"
	"math"
	"slices"

	"splitbench/models/decoder"
)

// Magnitudes describe the values of the residual stream after a block: what a
// split there would send.
type Magnitudes struct {
	Layer int // 0 is the embeddings
	Rows  int // positions counted
	RMS   float64
	// Kurtosis is the fourth central moment of all values together over the square
	// of their variance: 3 for normal ones.
	Kurtosis float64
	Max      float64 // largest |x|
	Above    []float64
	// Energy is the share of each channel in the sum of x², in falling order.
	Energy []float64
	// Reached holds, for each of MagnitudeOptions.Shares, the magnitude that this
	// share of the values reaches: the largest number of 8 significant bits for
	// which |x| >= it still holds for that many.
	Reached []float64
	// First is the share of the first positions in the sum of x², those left out
	// of everything else included.
	First float64
}

// Top is the share of the largest channels in the energy.
func (m *Magnitudes) Top(channels int) float64 {
	var sum float64
	for _, e := range m.Energy[:min(channels, len(m.Energy))] {
		sum += e
	}
	return sum
}

// MagnitudeOptions say what Measure counts.
type MagnitudeOptions struct {
	// Thresholds give Above: the share of values with |x| >= threshold, compared
	// in float32 as the threshold splitting of package compress does.
	Thresholds []float64
	Shares     []float64 // give Reached
	// SkipFirst leaves the first position of every sequence out.
	SkipFirst bool
}

// moments are sums over the values of a layer, in float64.
type moments struct {
	sum     [4]float64 // of x, x², x³, x⁴
	channel []float64  // of x²
	first   float64    // of x² at first positions
	max     float32
	above   []int
	upper   []int // values by the upper 16 bits of |x|, a bfloat16
	rows    int
}

// Measure measures the residual stream of sequences at every layer, from 0 (the
// embeddings) to the last. Sums follow the order of the sequences.
func Measure(ctx context.Context, m *decoder.Model, sequences [][]int32, o MagnitudeOptions) ([]Magnitudes, error) {
	n := m.Config.HiddenSize
	layers := make([]moments, m.Config.Layers+1)
	for k := range layers {
		layers[k] = newMoments(n, o)
	}
	err := eachStream(ctx, m, sequences, func(k int, rows []float32) error {
		layers[k].add(rows, n, o)
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := make([]Magnitudes, len(layers))
	for k := range all {
		all[k] = layers[k].magnitudes(k, n, o)
	}
	return all, nil
}

func newMoments(n int, o MagnitudeOptions) moments {
	return moments{channel: make([]float64, n), above: make([]int, len(o.Thresholds)), upper: make([]int, 1<<15)}
}

// add counts the rows of one sequence.
func (l *moments) add(rows []float32, n int, o MagnitudeOptions) {
	for _, v := range rows[:n] {
		l.first += float64(float64(v) * float64(v))
	}
	if o.SkipFirst {
		rows = rows[n:]
	}
	l.rows += len(rows) / n
	for i, v := range rows {
		x := float64(v)
		square := float64(x * x)
		l.sum[0] += x
		l.sum[1] += square
		l.sum[2] += float64(square * x)
		l.sum[3] += float64(square * square)
		l.channel[i%n] += square
		a := float32(math.Abs(x))
		l.max = max(l.max, a)
		l.upper[math.Float32bits(a)>>16]++
		for j, t := range o.Thresholds {
			if !(a < float32(t)) {
				l.above[j]++
			}
		}
	}
}

func (l *moments) magnitudes(layer, channels int, o MagnitudeOptions) Magnitudes {
	m := Magnitudes{Layer: layer, Rows: l.rows, Max: float64(l.max)}
	count := float64(max(1, l.rows*channels))
	mean, raw2, raw3, raw4 := l.sum[0]/count, l.sum[1]/count, l.sum[2]/count, l.sum[3]/count
	m.RMS = math.Sqrt(raw2)
	square := float64(mean * mean)
	variance := raw2 - square
	if variance > 0 {
		fourth := raw4 - float64(4*mean*raw3) + float64(6*square*raw2) - float64(3*square*square)
		m.Kurtosis = fourth / float64(variance*variance)
	}
	for _, n := range l.above {
		m.Above = append(m.Above, float64(n)/count)
	}
	for _, share := range o.Shares {
		m.Reached = append(m.Reached, l.reached(share*count))
	}
	for _, e := range l.channel {
		m.Energy = append(m.Energy, share(e, l.sum[1]))
	}
	slices.SortFunc(m.Energy, func(a, b float64) int { return cmp.Compare(b, a) })
	total := l.sum[1]
	if o.SkipFirst {
		total += l.first
	}
	m.First = share(l.first, total)
	return m
}

// reached is the largest bfloat16 that at least so many magnitudes reach, 0 when
// there are fewer.
func (l *moments) reached(values float64) float64 {
	sum := 0
	for i := len(l.upper) - 1; i > 0; i-- {
		if sum += l.upper[i]; sum > 0 && float64(sum) >= values {
			return float64(math.Float32frombits(uint32(i) << 16))
		}
	}
	return 0
}

// share is part of whole, 0 of nothing.
func share(part, whole float64) float64 {
	if whole == 0 {
		return 0
	}
	return part / whole
}
