package decoder

import (
	"fmt"
	"math"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
)

// rope makes the rotation tables of a configuration, as long as needed.
type rope struct {
	short rotations
	// long holds the rotations of sequences of more than limit positions,
	// where the type has a second table (longrope), else nil.
	long  *rotations
	limit int
}

// rotations is one set of frequencies with its table.
type rotations struct {
	frequencies []float64 // radians per position, float64: the exact table, not the float32 one of some implementations
	factor      float64   // on cosine and sine
	table       *backend.RopeTable
	positions   int // rows of table
}

func newRope(c checkpoint.Config) (*rope, error) {
	r := c.Rope
	width := c.RotaryWidth()
	base := make([]float64, width/2)
	for i := range base {
		base[i] = math.Pow(r.Theta, -2*float64(i)/float64(width))
	}
	// scaled divides frequency i by by(i).
	scaled := func(by func(i int) float64) rotations {
		f := make([]float64, len(base))
		for i, w := range base {
			f[i] = w / by(i)
		}
		return rotations{frequencies: f, factor: 1}
	}
	switch r.Type {
	case "default":
		return &rope{short: scaled(func(int) float64 { return 1 })}, nil
	case "linear":
		return &rope{short: scaled(func(int) float64 { return r.Factor })}, nil
	case "llama3":
		return &rope{short: rotations{frequencies: llama3Frequencies(base, r), factor: 1}}, nil
	case "yarn":
		return &rope{short: rotations{frequencies: yarnFrequencies(base, width, r), factor: r.AttentionFactor}}, nil
	case "longrope":
		short := scaled(func(i int) float64 { return r.ShortFactors[i] })
		long := scaled(func(i int) float64 { return r.LongFactors[i] })
		short.factor, long.factor = r.AttentionFactor, r.AttentionFactor
		return &rope{short: short, long: &long, limit: r.OriginalMaxPositions}, nil
	}
	return nil, fmt.Errorf("rope type %q is not computed", r.Type)
}

// llama3Frequencies slows long wavelengths by the factor, keeps short ones
// and interpolates between.
func llama3Frequencies(base []float64, r checkpoint.RopeConfig) []float64 {
	f := make([]float64, len(base))
	original := float64(r.OriginalMaxPositions)
	for i, w := range base {
		wavelength := 2 * math.Pi / w
		switch {
		case wavelength > original/r.LowFreqFactor:
			f[i] = w / r.Factor
		case wavelength >= original/r.HighFreqFactor:
			s := (original/wavelength - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			f[i] = float64((1-s)*w/r.Factor) + float64(s*w)
		default:
			f[i] = w
		}
	}
	return f
}

// yarnFrequencies mixes kept and slowed frequencies along a ramp between the
// dimensions that turn BetaFast and BetaSlow times within the original length
// (arXiv 2309.00071, section 3.2, with the ramp over dimensions and the whole
// numbers of the transformers library).
func yarnFrequencies(base []float64, width int, r checkpoint.RopeConfig) []float64 {
	dimension := func(turns float64) float64 {
		return float64(width) * math.Log(float64(r.OriginalMaxPositions)/(turns*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low := math.Max(math.Floor(dimension(r.BetaFast)), 0)
	high := math.Min(math.Ceil(dimension(r.BetaSlow)), float64(width-1))
	if low == high {
		high += 0.001
	}
	f := make([]float64, len(base))
	for i, w := range base {
		slow := math.Min(math.Max((float64(i)-low)/(high-low), 0), 1)
		f[i] = float64(w/r.Factor*slow) + float64(w*(1-slow))
	}
	return f
}

// span is a run of rows of a batch that one table turns.
type span struct {
	from, to int
	table    *backend.RopeTable
}

// spans appends the tables of the batch's rows to dst.
func (r *rope) spans(dst []span, b *Batch) ([]span, error) {
	longest := 0 // positions
	for i, s := range b.Sequences {
		longest = max(longest, s.Start+s.Count)
		if length, declared := b.length(i); declared && length < s.Start+s.Count {
			return nil, fmt.Errorf("a sequence declared to have %d positions has a row at position %d", length, s.Start+s.Count-1)
		}
	}
	if r.long == nil {
		return append(dst, span{0, b.Rows(), r.short.upTo(longest)}), nil
	}
	for i, s := range b.Sequences {
		length, declared := b.length(i)
		if !declared && s.Start > 0 && s.Start <= r.limit && length > r.limit {
			return nil, fmt.Errorf("rope type longrope: a sequence grows beyond %d positions, where its rotations change, without its full length declared (Batch.AddPart)", r.limit)
		}
		set := &r.short
		if length > r.limit {
			set = r.long
		}
		table := set.upTo(longest)
		if n := len(dst); n > 0 && dst[n-1].table == table {
			dst[n-1].to = s.Row + s.Count
		} else {
			dst = append(dst, span{s.Row, s.Row + s.Count, table})
		}
	}
	return dst, nil
}

// upTo returns the rotations of at least the given number of positions.
func (r *rotations) upTo(positions int) *backend.RopeTable {
	if r.table != nil && positions <= r.positions {
		return r.table
	}
	n := max(positions, 2*r.positions, 256)
	half := len(r.frequencies)
	t := &backend.RopeTable{Half: half, Cos: make([]float32, n*half), Sin: make([]float32, n*half)}
	for p := 0; p < n; p++ {
		for i, w := range r.frequencies {
			s, c := math.Sincos(float64(p) * w)
			t.Cos[p*half+i], t.Sin[p*half+i] = float32(c*r.factor), float32(s*r.factor)
		}
	}
	r.table, r.positions = t, n
	return t
}
