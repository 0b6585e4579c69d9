package exec

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"splitbench/compress"
	"splitbench/harness/quantise"
	"splitbench/models/backend"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// baselineMethods are baselines with every kind of run-time part.
func baselineMethods() map[string]quantize.Method {
	weights := quantize.NewAtom(4, 16, 16, 16)
	weights.Activation, weights.Attention = quantize.Precision{Bits: 16}, quantize.Attention{}
	quarot := quantize.NewQuaRot(4, 4, 4)
	quarot.Weight.MSE = false // its search takes long
	return map[string]quantize.Method{
		"atom":         quantize.NewAtom(4, 4, 16, 16),
		"atom weights": weights,
		"smoothquant":  quantize.NewSmoothQuant(4, 4, 0.5, true),
		"omniquant":    quantize.NewOmniQuant(4, 4, 0, quantize.OmniOptions{LET: true}),
		"rtn":          quantize.NewRTN(3, 16, false),
		"quarot":       quarot,
	}
}

// quantized puts baselines on the engine of a model and returns the whole
// models, as harness/quantise gives them.
func quantized(t *testing.T, l *Loaded, methods map[string]quantize.Method) map[string]*decoder.Model {
	t.Helper()
	var calibration [][]int32
	for _, r := range requests(t, l) {
		calibration = append(calibration, r.Input)
	}
	out := map[string]*decoder.Model{}
	for name, m := range methods {
		model, _, err := quantise.Model(context.Background(), l.Checkpoint, l.Engine.Model().Backend, m, calibration, quantise.Options{})
		if err != nil {
			t.Fatal(err)
		}
		q := Quantized{Bits: make([]int64, model.Config.Layers)}
		for k := range model.Config.Layers {
			q.Layers, q.Bits[k] = append(q.Layers, model.Layer(k+1)), int64(1000+k)
		}
		if m.QuaRot != nil {
			q.Model = model
		}
		if err := l.Engine.AddQuantized(name, q); err != nil {
			t.Fatal(err)
		}
		out[name] = model
	}
	return out
}

// TestQuantizedWhole: a method with a baseline for all layers scores as the
// model of harness/quantise does, token by token and bit for bit; so does a
// split of it that sends the hidden state exactly.
func TestQuantizedWhole(t *testing.T) {
	l := tiny(t, Source{})
	reqs := requests(t, l)
	layers := l.Checkpoint.Config.Layers
	for name, model := range quantized(t, l, baselineMethods()) {
		w := Weights{Quantizer: name}
		for _, m := range []Method{
			{WeightLayer: layers, Front: w},
			{SplitLayer: 3, WeightLayer: 3, Front: w, Back: w, Cloud: name},
			{SplitLayer: 3, WeightLayer: 1, Front: w, Back: w, Cloud: name, MaxTokens: 16},
			{SplitLayer: 3, WeightLayer: 3, Front: w, Back: w, Cloud: name, MaxTokens: 16, IncludeKV: true},
		} {
			for i, a := range score(t, l, m, reqs) {
				r := reqs[i]
				ids := append(append([]int32(nil), r.Input...), r.Targets[len(r.Targets)-1])
				if i == 7 { // its targets are not those of its text
					continue
				}
				all, err := quantise.TokenLoss(context.Background(), model, [][]int32{ids})
				if err != nil {
					t.Fatal(err)
				}
				want := all[0][len(all[0])-len(r.Targets):]
				for j, v := range a.TokenLogProbs {
					if -v != want[j] {
						t.Fatalf("%s, l=%d W=%d: request %d token %d: loss %v, expected %v", name, m.SplitLayer, m.MaxTokens, i, j, -v, want[j])
					}
				}
			}
		}
	}
}

// TestSegmentPolicies computes the two readings of the paper's own method as
// the sum of their parts: the model's blocks up to l, the codec, the blocks
// after it, each by itself.
func TestSegmentPolicies(t *testing.T) {
	l := tiny(t, Source{})
	reqs := requests(t, l)
	models := quantized(t, l, baselineMethods())
	full := l.Engine.Model()
	const split = 3
	c := codec(t, "literal", func(o *compress.Options) { o.Threshold, o.MaxActivationBits = 1, 3 })
	for _, policy := range []struct {
		name          string
		front, back   *decoder.Model
		frontQ, backQ string
	}{
		{"ours-boundary", models["atom weights"], models["atom weights"], "atom weights", "atom weights"},
		{"ours-front", models["atom"], full, "atom", ""},
		{"two baselines", models["smoothquant"], models["omniquant"], "smoothquant", "omniquant"},
		{"back alone", full, models["rtn"], "", "rtn"},
	} {
		m := Method{SplitLayer: split, WeightLayer: split, Front: Weights{Quantizer: policy.frontQ}, Back: Weights{Quantizer: policy.backQ}, Cloud: policy.backQ, Codec: c}
		got := score(t, l, m, reqs)
		for i, r := range reqs {
			want := inParts(t, policy.front, policy.back, split, c, r)
			for j, v := range got[i].TokenLogProbs {
				if v != want[j].LogProb || got[i].Argmax[j] != want[j].Argmax {
					t.Fatalf("%s: request %d token %d: %v, expected %v", policy.name, i, j, v, want[j].LogProb)
				}
			}
		}
	}
}

// inParts scores a request with layers 1..split of front and the others of
// back, and a codec between.
func inParts(t *testing.T, front, back *decoder.Model, split int, c compress.Codec, r Request) []backend.TokenScore {
	t.Helper()
	n := len(r.Input)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var w decoder.Workspace
	cache, err := front.NewCache(n)
	must(err)
	var b decoder.Batch
	b.Add(r.Input, 0, cache)
	x, err := front.Embed(&w, &b)
	must(err)
	must(front.Blocks(&w, x, &b, 1, split))
	rows := make([]float32, n*x.Cols())
	front.Backend.Download(rows, x)
	msg, _, err := c.Encode(nil, compress.Matrix{Rows: n, Cols: x.Cols(), Data: rows})
	must(err)
	restored, err := c.Decode(nil, msg)
	must(err)
	back.Backend.Upload(x, restored.Data)
	must(back.Blocks(&w, x, &b, split+1, back.Config.Layers))
	norm, err := back.Backend.Alloc(n, x.Cols())
	must(err)
	back.Normalise(norm, x)
	var targets []backend.Target
	for j, id := range r.Targets {
		targets = append(targets, backend.Target{Row: int32(n - len(r.Targets) + j), ID: id})
	}
	scores := make([]backend.TokenScore, len(targets))
	must(back.LogProbs(scores, norm, targets))
	return scores
}

// TestQuantizedSharing: quantizers act row by row, so that sharing beginnings,
// batch sizes and boundary tensors of earlier sessions change no bit.
func TestQuantizedSharing(t *testing.T) {
	l := tiny(t, Source{})
	reqs := questions(l.Checkpoint.Config.VocabSize, 12, 31, 33, 70)
	quantized(t, l, baselineMethods())
	layers := l.Checkpoint.Config.Layers
	c := codec(t, "literal", nil)
	q := func(name string) Weights { return Weights{Quantizer: name} }
	methods := map[string]Method{
		"whole":   {WeightLayer: layers, Front: q("atom")},
		"rotated": {SplitLayer: 4, WeightLayer: 4, Front: q("quarot"), Back: q("quarot"), Cloud: "quarot", Codec: c},
	}
	for _, w := range []int{0, 16, 34} {
		for _, kv := range []bool{false, true} {
			methods[fmt.Sprintf("atom in front, W=%d I_kv=%v", w, kv)] = Method{SplitLayer: 4, WeightLayer: 4, Front: q("atom"), Codec: c, MaxTokens: w, IncludeKV: kv}
			methods[fmt.Sprintf("both, W=%d I_kv=%v", w, kv)] = Method{SplitLayer: 4, WeightLayer: 2, Front: q("smoothquant"), Back: q("omniquant"), Cloud: "omniquant", Codec: c, MaxTokens: w, IncludeKV: kv}
		}
	}
	for name, m := range methods {
		want := scoreUnshared(t, l, m, reqs)
		sameAnswers(t, name, score(t, l, m, reqs), want)
		l.Engine.batchRows = 90
		sameAnswers(t, name+", small batches", score(t, l, m, reqs), want)
		l.Engine.batchRows = DefaultBatchRows
	}
	// Sessions with one edge and other clouds use its boundary tensors, and no
	// scores of each other.
	l.Engine.HoldBoundaries(64 << 20)
	defer l.Engine.HoldBoundaries(0)
	for i, cloud := range []string{"", "atom", "rtn", ""} {
		m := Method{SplitLayer: 4, WeightLayer: 4, Front: q("atom"), Back: q(cloud), Cloud: cloud, Codec: c}
		want := scoreUnshared(t, l, m, reqs)
		s, err := l.Engine.NewSession(m)
		if err != nil {
			t.Fatal(err)
		}
		s.Keep = true
		got, err := s.Score(context.Background(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		sameAnswers(t, "cloud "+cloud, got, want)
		if s.SharedEdge() != (i > 0) {
			t.Errorf("cloud %q: edge shared: %v", cloud, s.SharedEdge())
		}
	}
}

// TestStoredWeights counts bits by hand: those of the baselines as they were
// given, packed codes of 4 bits with a scale of 4 bytes and a zero of 1 per row,
// and float32.
func TestStoredWeights(t *testing.T) {
	l := tiny(t, Source{})
	quantized(t, l, map[string]quantize.Method{"rtn": quantize.NewRTN(4, 0, false)})
	c := l.Checkpoint.Config
	perLayer := int64(2*c.HiddenSize*c.QueryWidth() + 2*c.HiddenSize*c.KVWidth() + 3*c.HiddenSize*c.IntermediateSize)
	layers := int64(c.Layers)
	rows := int64(c.QueryWidth() + 2*c.KVWidth() + 2*c.HiddenSize + 2*c.IntermediateSize)
	rtn := func(from, to int) (n int64) {
		for k := from; k <= to; k++ {
			n += int64(1000 + k - 1)
		}
		return n
	}
	for _, test := range []struct {
		m    Method
		want int64
	}{
		{Method{}, 32 * perLayer * layers},
		{Method{WeightLayer: 1, Front: Weights{Bits: 4}}, 4*perLayer + 40*rows + 32*perLayer*(layers-1)},
		{Method{WeightLayer: c.Layers, Front: Weights{Quantizer: "rtn"}}, rtn(1, c.Layers)},
		{Method{SplitLayer: 3, WeightLayer: 3, Front: Weights{Quantizer: "rtn"}}, rtn(1, 3) + 32*perLayer*(layers-3)},
		{Method{SplitLayer: 3, WeightLayer: 3, Back: Weights{Quantizer: "rtn"}, Cloud: "rtn"}, 32*perLayer*3 + rtn(4, c.Layers)},
	} {
		s, err := l.Engine.NewSession(test.m)
		if err != nil {
			t.Fatal(err)
		}
		if bits, weights := s.StoredWeights(); bits != test.want || weights != perLayer*layers {
			t.Errorf("%+v: %d bits of %d weights, expected %d of %d", test.m, bits, weights, test.want, perLayer*layers)
		}
	}
}

// TestQuantizerFaults asks for what cannot be.
func TestQuantizerFaults(t *testing.T) {
	l := tiny(t, Source{})
	quarot := baselineMethods()["quarot"]
	quantized(t, l, map[string]quantize.Method{"quarot": quarot, "rtn": quantize.NewRTN(4, 0, false)})
	for want, m := range map[string]Method{
		"has not been quantized by it":       {WeightLayer: 8, Front: Weights{Quantizer: "nobody"}},
		"all layers need it":                 {SplitLayer: 3, WeightLayer: 3, Front: Weights{Quantizer: "quarot"}},
		"quarot changes the basis":           {SplitLayer: 3, WeightLayer: 3, Front: Weights{Quantizer: "rtn"}, Back: Weights{Quantizer: "quarot"}, Cloud: "quarot"},
		"cloud's model needs a split_layer":  {Cloud: "rtn"},
		"quantizer nobody: the model has no": {SplitLayer: 3, WeightLayer: 3, Cloud: "nobody"},
	} {
		if _, err := l.Engine.NewSession(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, expected %q", m, err, want)
		}
	}
	if err := l.Engine.AddQuantized("short", Quantized{}); err == nil || !strings.Contains(err.Error(), "of 0 layers, the model has 8") {
		t.Errorf("a model without layers: %v", err)
	}
}
