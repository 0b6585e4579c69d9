package decoder

import (
	"fmt"
	"math"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
)

// rope makes the rotation table of a configuration, as long as needed.
type rope struct {
	frequencies []float64 // radians per position, float64: the exact table, not the float32 one of some implementations
	cache       *backend.RopeTable
	positions   int
}

func newRope(c checkpoint.Config) (*rope, error) {
	half := c.HeadDim / 2
	f := make([]float64, half)
	for i := range f {
		f[i] = math.Pow(c.Rope.Theta, -2*float64(i)/float64(c.HeadDim))
	}
	switch c.Rope.Type {
	case "default":
	case "linear":
		for i := range f {
			f[i] /= c.Rope.Factor
		}
	case "llama3":
		// Long wavelengths are slowed by the factor, short ones kept, those
		// between interpolated.
		r := c.Rope
		original := float64(r.OriginalMaxPositions)
		for i, w := range f {
			wavelength := 2 * math.Pi / w
			switch {
			case wavelength > original/r.LowFreqFactor:
				f[i] = w / r.Factor
			case wavelength >= original/r.HighFreqFactor:
				s := (original/wavelength - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
				f[i] = (1-s)*w/r.Factor + s*w
			}
		}
	default:
		return nil, fmt.Errorf("rope type %q is not computed", c.Rope.Type)
	}
	return &rope{frequencies: f}, nil
}

// table returns the rotations of at least the given number of positions.
func (r *rope) table(positions int) *backend.RopeTable {
	if r.cache != nil && positions <= r.positions {
		return r.cache
	}
	n := max(positions, 2*r.positions, 256)
	half := len(r.frequencies)
	t := &backend.RopeTable{Half: half, Cos: make([]float32, n*half), Sin: make([]float32, n*half)}
	for p := 0; p < n; p++ {
		for i, w := range r.frequencies {
			s, c := math.Sincos(float64(p) * w)
			t.Cos[p*half+i], t.Sin[p*half+i] = float32(c), float32(s)
		}
	}
	r.cache, r.positions = t, n
	return t
}
