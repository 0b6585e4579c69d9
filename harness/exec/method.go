package exec

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"splitbench/compress"
	"splitbench/experiments/spec"
	"splitbench/models/checkpoint"
)

// Names of codecs in a spec that mean something here: a boundary that is sent
// exactly, and the codec with tables.
const (
	CodecNone   = "none"
	codecSplit1 = "split1"
)

// Precision returns the runnable form of one method point of a spec for a model
// of the given number of layers, without its codec: what is computed where, and
// with which weights.
func Precision(m spec.Method, layers int) Method {
	front, back := m.Segments()
	out := Method{
		SplitLayer:  m.SplitLayer,
		WeightLayer: m.PrecisionLayer,
		Front:       Weights{m.Front.Bits, m.Front.Group, QuantizerName(front, m.Calibration)},
		Back:        Weights{m.Back.Bits, m.Back.Group, QuantizerName(back, m.Calibration)},
		MaxTokens:   m.MaxTokens,
		IncludeKV:   m.IncludeKV,
	}
	if out.SplitLayer > 0 {
		out.Cloud = out.Back.Quantizer
	}
	if out.WeightLayer == 0 {
		if out.WeightLayer = out.SplitLayer; out.SplitLayer == 0 {
			out.WeightLayer = layers
		}
	}
	return out
}

// QuantizerName is the name by which methods refer to a quantizer of a spec in
// Weights.Quantizer, "" for none. Within one run equal names mean equal weights.
func QuantizerName(q spec.Quantizer, c spec.Calibration) string {
	if !q.Set() {
		return ""
	}
	b, err := json.Marshal([]any{q, c})
	if err != nil {
		panic("exec: " + err.Error()) // of strings and integers
	}
	return string(b)
}

// FromSpec returns the runnable form of one method point of a spec for a model
// of the given configuration. The tables are those of the method's boundary.
func FromSpec(m spec.Method, c checkpoint.Config, t Tables) (Method, error) {
	out := Precision(m, c.Layers)
	b := m.Boundary
	if b != nil {
		if out.Clamp = float32(b.Clamp); b.Clamp > 0 && out.Clamp == 0 {
			return Method{}, fmt.Errorf("clamp %v: expected 0 (none), or at least %v", b.Clamp, math.SmallestNonzeroFloat32)
		}
	}
	if b == nil || b.Codec == CodecNone {
		return out, nil
	}
	if err := t.Fit(m, c); err != nil {
		return Method{}, err
	}
	o := Options(*b)
	o.Tables = t.Hidden
	codec, err := compress.NewCodec(b.Codec, o)
	if err != nil {
		return Method{}, err
	}
	out.Codec = codec
	if b.Codec == codecSplit1 {
		if out.KVCodec, err = compress.NewKVCodec(o, t.KV); err != nil {
			return Method{}, err
		}
	}
	return out, nil
}

// OutcomeKey names what a method computes on inputs of at most longest tokens,
// for a model of the given number of layers: methods with equal keys give
// equal scores, payloads and boundary tensors. Knobs that cannot act are not
// part of it: a W-bar that no input reaches, I_kv where nothing is handed over
// or what is handed over is what the cloud would compute, weights of layers
// that are not there, the search of TAB-Q where it has no choice, and tables of
// keys and values that are not sent. The tables are those of the method.
func OutcomeKey(m spec.Method, layers, longest int, t Tables) string {
	r := Precision(m, layers)
	coded := m.Boundary != nil && m.Boundary.Codec != CodecNone
	exact := true // the edge has the cloud's weights
	var b strings.Builder
	for k := 1; k <= r.EdgeLayers(layers); k++ {
		w, quantised := r.LayerWeights(k)
		if !quantised {
			w = Weights{Bits: FullPrecision}
		}
		exact = exact && w.Quantizer == r.Cloud && (w.Quantizer != "" || !quantised)
		if w.Quantizer != "" {
			fmt.Fprintf(&b, "%q ", w.Quantizer)
		} else {
			fmt.Fprintf(&b, "%d/%d ", w.Bits, w.Group)
		}
	}
	if r.Cloud != "" {
		fmt.Fprintf(&b, "cloud %q ", r.Cloud)
	}
	if r.SplitLayer == 0 {
		return b.String()
	}
	if r.MaxTokens >= longest {
		r.MaxTokens = 0
	}
	if r.MaxTokens == 0 || !coded && exact {
		r.IncludeKV = false
	}
	fmt.Fprintf(&b, "l=%d W=%d kv=%v", r.SplitLayer, r.MaxTokens, r.IncludeKV)
	if m.Boundary != nil && m.Boundary.Clamp > 0 {
		fmt.Fprintf(&b, " clamp=%v", float32(m.Boundary.Clamp))
	}
	if coded {
		o := compress.Options{}
		if m.Boundary.Codec != "raw16" {
			o = acting(Options(*m.Boundary))
		}
		fmt.Fprintf(&b, " %s %+v", m.Boundary.Codec, o)
	}
	if coded && m.Boundary.Codec == codecSplit1 {
		fmt.Fprintf(&b, " %s", t.HiddenDigest)
		if r.IncludeKV {
			fmt.Fprintf(&b, " %s", t.KVDigest)
		}
	}
	return b.String()
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

// Options returns the codec options of a spec's boundary, without tables.
func Options(b spec.Boundary) compress.Options {
	return compress.Options{
		Threshold: b.Tau.Value, ThresholdBy: b.Tau.By, MaxActivationBits: b.MaxActivationBits, Delta: b.Delta,
		Search: b.Search, StopRule: b.StopRule, Comparison: b.Comparison, LowerBound: b.LowerBound, Granularity: b.Granularity,
		AboveType: b.AboveType, SparseIndex: b.SparseIndex, ScaleType: b.ScaleType, Lanes: b.Lanes, Restore: b.Restore,
	}
}

// Fit says whether the tables fit the model and the split of a method.
func (t Tables) Fit(m spec.Method, c checkpoint.Config) error {
	if t.Hidden != nil && t.Hidden.Cols() != c.HiddenSize {
		return fmt.Errorf("tables %s: for %d columns, the model's hidden state has %d", m.Boundary.Tables, t.Hidden.Cols(), c.HiddenSize)
	}
	if t.KV == nil {
		return nil
	}
	if t.KV.Cols() != c.KVWidth() {
		return fmt.Errorf("kv_tables %s: for %d columns, the model's keys and values have %d", m.Boundary.KVTables, t.KV.Cols(), c.KVWidth())
	}
	if t.KV.Layers() < m.SplitLayer {
		return fmt.Errorf("kv_tables %s: for %d layers, split_layer is %d", m.Boundary.KVTables, t.KV.Layers(), m.SplitLayer)
	}
	return nil
}
