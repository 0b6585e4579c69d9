package exec

import (
	"fmt"

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
	return out
}

// FromSpec returns the runnable form of one method point of a spec for a model
// of the given configuration. The tables are those of the method's boundary.
func FromSpec(m spec.Method, c checkpoint.Config, t Tables) (Method, error) {
	out := Precision(m, c.Layers)
	b := m.Boundary
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
