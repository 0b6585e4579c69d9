package exec

import (
	"fmt"
	"strings"

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

// OutcomeKey names what a method computes on inputs of at most longest tokens,
// for a model of the given number of layers: methods with equal keys give
// equal scores, payloads and boundary tensors. Knobs that cannot act are not
// part of it: a W-bar that no input reaches, I_kv where nothing is handed over
// or what is handed over is what the cloud would compute, weights of layers
// that are not there, and the search of TAB-Q where it has no choice.
func OutcomeKey(m spec.Method, layers, longest int) (string, error) {
	r, err := FromSpec(m, layers)
	if err != nil {
		return "", err
	}
	exact := true // the edge has the cloud's weights
	var b strings.Builder
	for k := 1; k <= r.EdgeLayers(layers); k++ {
		w, quantised := r.LayerWeights(k)
		if !quantised {
			w = Weights{Bits: FullPrecision}
		}
		exact = exact && !quantised
		fmt.Fprintf(&b, "%d/%d ", w.Bits, w.Group)
	}
	if r.SplitLayer == 0 {
		return b.String(), nil
	}
	if r.MaxTokens >= longest {
		r.MaxTokens = 0
	}
	if r.MaxTokens == 0 || r.Codec == nil && exact {
		r.IncludeKV = false
	}
	fmt.Fprintf(&b, "l=%d W=%d kv=%v", r.SplitLayer, r.MaxTokens, r.IncludeKV)
	if r.Codec != nil {
		o := compress.Options{}
		if r.Codec.Name() != "raw16" {
			o = acting(Options(*m.Boundary))
		}
		fmt.Fprintf(&b, " %s %+v", r.Codec.Name(), o)
	}
	return b.String(), nil
}

// acting clears the options that have no effect beside the others.
func acting(o compress.Options) compress.Options {
	top := o.MaxActivationBits - 1
	if o.ThresholdBy == "value" {
		o.Threshold = max(0, float64(float32(o.Threshold)))
	}
	o.Delta = float64(float32(o.Delta))
	o.LowerBound = min(o.LowerBound, top)
	if o.Search == "fixed" || o.LowerBound == top {
		o.Search, o.LowerBound, o.Delta, o.StopRule, o.Comparison = "fixed", 0, 0, "", ""
	}
	return o
}

// Options returns the codec options of a spec's boundary.
func Options(b spec.Boundary) compress.Options {
	return compress.Options{
		Threshold: b.Tau, ThresholdBy: "value", MaxActivationBits: b.MaxActivationBits, Delta: b.Delta,
		Search: b.Search, StopRule: b.StopRule, Comparison: b.Comparison, LowerBound: b.LowerBound, Granularity: b.Granularity,
		AboveType: b.AboveType, SparseIndex: b.SparseIndex, ScaleType: b.ScaleType, Restore: "center",
	}
}
