package exec

import (
	"splitbench/compress"
	"splitbench/experiments/spec"
)

// CodecNone is the spec's name for a boundary that is sent exactly.
const CodecNone = "none"

// FromSpec returns the runnable form of one method point of a spec for a
// model of the given number of layers.
func FromSpec(m spec.Method, layers int) (Method, error) {
	out := Method{
		SplitLayer:  m.SplitLayer,
		WeightLayer: m.PrecisionLayer,
		Front:       Weights{m.Front.Bits, m.Front.Group},
		Back:        Weights{m.Back.Bits, m.Back.Group},
		MaxTokens:   m.MaxTokens,
		IncludeKV:   m.IncludeKV,
	}
	if out.WeightLayer == 0 {
		if out.WeightLayer = out.SplitLayer; out.SplitLayer == 0 {
			out.WeightLayer = layers
		}
	}
	if b := m.Boundary; b != nil && b.Codec != CodecNone {
		c, err := compress.NewCodec(b.Codec, Options(*b))
		if err != nil {
			return Method{}, err
		}
		out.Codec = c
	}
	return out, nil
}

// Options returns the codec options of a spec's boundary.
func Options(b spec.Boundary) compress.Options {
	return compress.Options{
		Threshold: b.Tau, ThresholdBy: "value", MaxActivationBits: b.MaxActivationBits, Delta: b.Delta,
		Search: b.Search, StopRule: b.StopRule, Comparison: b.Comparison, LowerBound: b.LowerBound, Granularity: b.Granularity,
		AboveType: b.AboveType, SparseIndex: b.SparseIndex, ScaleType: b.ScaleType, Restore: "center",
	}
}
