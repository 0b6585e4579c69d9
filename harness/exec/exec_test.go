package exec

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"splitbench/compress"
	"splitbench/harness/builtin"
)

// tiny opens the built-in random model, which needs no data.
func tiny(t testing.TB, s Source) *Loaded {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", cacheDir)
	path, err := builtin.Resolve("builtin:random-tiny")
	if err != nil {
		t.Fatal(err)
	}
	s.Path = path
	l, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

var cacheDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "splitbench-exec")
	if err != nil {
		panic(err)
	}
	cacheDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// requests makes ragged inputs, two of them equal, from a fixed text.
func requests(t testing.TB, l *Loaded) []Request {
	t.Helper()
	text := strings.Repeat("The kettle is near the lamp, and the rope is under the boat. ", 4)
	var out []Request
	for i, n := range []int{1, 5, 17, 16, 33, 64, 90, 17, 2, 120} {
		ids := l.Tokenizer.Encode(text[i:], true)[:n+1]
		scored := min(n, 3+i)
		out = append(out, Request{Input: ids[:n], Targets: ids[n+1-scored:]})
	}
	out[7].Input = out[2].Input // same input, other targets
	out[7].Targets = []int32{5, 300}
	return out
}

func codec(t testing.TB, name string, change func(*compress.Options)) compress.Codec {
	t.Helper()
	o := compress.DefaultOptions()
	if change != nil {
		change(&o)
	}
	c, err := compress.NewCodec(name, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func score(t testing.TB, l *Loaded, m Method, reqs []Request) []Answer {
	t.Helper()
	s, err := l.Engine.NewSession(m)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Score(context.Background(), reqs)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func sameScores(t *testing.T, what string, have, want []Answer) {
	t.Helper()
	for i := range want {
		if have[i].LogProb != want[i].LogProb || have[i].Greedy != want[i].Greedy || len(have[i].TokenLogProbs) != len(want[i].TokenLogProbs) {
			t.Fatalf("%s: request %d: %v, expected %v", what, i, have[i].LogProb, want[i].LogProb)
		}
		for j := range want[i].TokenLogProbs {
			if have[i].TokenLogProbs[j] != want[i].TokenLogProbs[j] {
				t.Fatalf("%s: request %d token %d: %v, expected %v", what, i, j, have[i].TokenLogProbs[j], want[i].TokenLogProbs[j])
			}
		}
	}
}

// TestExactSplit: with the codec off and full-precision weights on the edge,
// a split changes no bit, for every l, W-bar and I_kv; nor does a codec that
// keeps every value (tau 0, all above).
func TestExactSplit(t *testing.T) {
	l := tiny(t, Source{})
	reqs := requests(t, l)
	want := score(t, l, Method{}, reqs)
	layers := l.Checkpoint.Config.Layers
	lossless := codec(t, "literal", func(o *compress.Options) { o.Threshold = 0 })
	for split := 1; split <= layers; split++ {
		for _, w := range []int{0, 1, 2, 16, 50, 1000} {
			for _, kv := range []bool{false, true} {
				for _, c := range []compress.Codec{nil, lossless} {
					m := Method{SplitLayer: split, WeightLayer: split, Codec: c, MaxTokens: w, IncludeKV: kv}
					got := score(t, l, m, reqs)
					sameScores(t, fmt.Sprintf("l=%d W=%d I_kv=%v codec=%v", split, w, kv, c != nil), got, want)
					for i, a := range got {
						n := len(reqs[i].Input)
						rows := n
						if w > 0 {
							rows = min(n, w)
						}
						if a.Payload.Tokens != rows {
							t.Fatalf("l=%d W=%d: request %d sent %d rows, expected %d", split, w, i, a.Payload.Tokens, rows)
						}
						sentKV := c != nil && kv && rows < n
						if (a.Payload.KV.Total() > 0) != sentKV {
							t.Fatalf("l=%d W=%d I_kv=%v: request %d of %d tokens sent %d bytes of keys and values", split, w, kv, i, n, a.Payload.KV.Total())
						}
						if (a.Payload.Hidden.Total() > 0) != (c != nil) {
							t.Fatalf("request %d sent %d bytes", i, a.Payload.Hidden.Total())
						}
					}
				}
			}
		}
	}
}

// TestSplit1: split1 restores what packed does of the same quantiser, so that the
// scores are the same bit for bit, for every l, W-bar and I_kv, with the built-in
// tables and with trained ones; its messages are shorter, and those of keys and
// values are one.
func TestSplit1(t *testing.T) {
	l := tiny(t, Source{})
	reqs := requests(t, l)
	o := compress.DefaultOptions()
	o.Threshold = 1.5
	packed, err := compress.NewCodec("packed", o)
	if err != nil {
		t.Fatal(err)
	}
	hidden, kv := trainedTables(t, l, o, reqs)
	for split := 1; split <= l.Checkpoint.Config.Layers; split += 3 {
		for _, trained := range []bool{false, true} {
			var kvTables *compress.KVTables
			if o.Tables = nil; trained {
				o.Tables, kvTables = hidden[split], kv
			}
			split1, err := compress.NewCodec("split1", o)
			if err != nil {
				t.Fatal(err)
			}
			kvCodec, err := compress.NewKVCodec(o, kvTables)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range []int{0, 1, 2, 16, 50, 1000} {
				for _, send := range []bool{false, true} {
					what := fmt.Sprintf("l=%d W=%d I_kv=%v trained=%v", split, w, send, trained)
					m := Method{SplitLayer: split, WeightLayer: split, Codec: packed, MaxTokens: w, IncludeKV: send}
					want := score(t, l, m, reqs)
					m.Codec, m.KVCodec = split1, kvCodec
					got := score(t, l, m, reqs)
					sameScores(t, what, got, want)
					for i := range got {
						g, p := got[i].Payload, want[i].Payload
						if g.Tokens != p.Tokens || g.Hidden.Total() >= p.Hidden.Total() || (g.KV.Total() > 0) != (p.KV.Total() > 0) || g.KV.Total() > p.KV.Total() {
							t.Fatalf("%s: request %d sent %+v, packed %+v", what, i, g, p)
						}
						// One header: marks, tables, layers, rows, width and position, length, checksum; flags
						// and length of each matrix.
						if most := 2 + 2 + 4 + 3 + 4 + 2*split*(1+2); g.KV.Header > most {
							t.Fatalf("%s: request %d has %d bytes of headers for keys and values, one message has at most %d", what, i, g.KV.Header, most)
						}
					}
				}
			}
		}
	}
}

// trainedTables learns tables for the hidden state after each layer, and for keys
// and values, from the requests.
func trainedTables(t testing.TB, l *Loaded, o compress.Options, reqs []Request) ([]*compress.Tables, *compress.KVTables) {
	t.Helper()
	c := l.Checkpoint.Config
	train := func(cols int, rows func(r Request) []float32) *compress.Tables {
		trainer, err := compress.NewTrainer(cols, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range reqs {
			data := rows(r)
			if err := trainer.Add(compress.Matrix{Rows: len(data) / cols, Cols: cols, Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		tables, err := trainer.Tables()
		if err != nil {
			t.Fatal(err)
		}
		return tables
	}
	var all []int
	for k := range c.Layers {
		all = append(all, k)
	}
	trace := func(r Request) *Trace {
		got, err := l.Engine.Trace(r.Input, all)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var hidden []*compress.Tables
	for k := range c.Layers + 1 {
		hidden = append(hidden, train(c.HiddenSize, func(r Request) []float32 { return trace(r).Hidden[k] }))
	}
	kv := new(compress.KVTables)
	for k := range c.Layers {
		kv.Keys = append(kv.Keys, train(c.KVWidth(), func(r Request) []float32 { return tokenMajor(trace(r).Keys[k], c.KVHeads, c.HeadDim) }))
		kv.Values = append(kv.Values, train(c.KVWidth(), func(r Request) []float32 { return tokenMajor(trace(r).Values[k], c.KVHeads, c.HeadDim) }))
	}
	return hidden, kv
}

// tokenMajor is the inverse of headMajor.
func tokenMajor(x []float32, heads, dim int) []float32 {
	tokens := len(x) / (heads * dim)
	return headMajor(x, heads, tokens, dim)
}

// TestIndependence: no score depends on batch size, workers, kernel or on the
// other requests.
func TestIndependence(t *testing.T) {
	q4 := func(t *testing.T) Method {
		return Method{SplitLayer: 3, WeightLayer: 2, Front: Weights{Bits: 4, Group: 32}, Back: Weights{Bits: 8, Group: 0}, Codec: codec(t, "literal", nil), MaxTokens: 20, IncludeKV: true}
	}
	base := tiny(t, Source{})
	reqs := requests(t, base)
	for _, split := range []bool{false, true} {
		m := Method{}
		if split {
			m = q4(t)
		}
		want := score(t, base, m, reqs)
		for _, s := range []Source{{BatchRows: 1}, {BatchRows: 40}, {Workers: 1}, {Workers: 5}, {Kernel: "go"}, {Kernel: "go", BatchRows: 7, Workers: 3}} {
			l := tiny(t, s)
			sameScores(t, fmt.Sprintf("split %v, %+v", split, s), score(t, l, m, reqs), want)
		}
		var alone []Answer
		for _, r := range reqs {
			alone = append(alone, score(t, base, m, []Request{r})...)
		}
		sameScores(t, "alone", alone, want)
		for i := range want {
			if alone[i].Payload != want[i].Payload {
				t.Errorf("request %d alone sent %+v, in company %+v", i, alone[i].Payload, want[i].Payload)
			}
		}
	}
}

// TestRowsAreIndependent: the boundary is compressed row by row, so one token
// at a time gives the restored values of the whole text at once.
func TestRowsAreIndependent(t *testing.T) {
	l := tiny(t, Source{})
	c := codec(t, "literal", nil)
	s, err := l.Engine.NewSession(Method{SplitLayer: 4, WeightLayer: 4, Codec: c})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	s.Boundary = func(before, after compress.Matrix) {
		for r := 0; r < before.Rows; r++ {
			msg, _, err := c.Encode(nil, compress.Matrix{Rows: 1, Cols: before.Cols, Data: before.Row(r)})
			if err != nil {
				t.Fatal(err)
			}
			one, err := c.Decode(nil, msg)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range one.Data {
				if v != after.Row(r)[i] {
					t.Fatalf("row %d column %d: %v alone, %v in company", r, i, v, after.Row(r)[i])
				}
			}
			rows++
		}
	}
	if _, err := s.Score(context.Background(), requests(t, l)); err != nil {
		t.Fatal(err)
	}
	if rows == 0 {
		t.Error("no boundary was seen")
	}
}

// TestKVHandover: with I_kv the cloud uses the edge's keys and values, without
// it recomputes them; only the first depends on the edge's low-bit weights
// beyond the boundary tensor. The recomputed form with exact boundary equals
// a cloud that was given the boundary rows.
func TestKVHandover(t *testing.T) {
	l := tiny(t, Source{})
	reqs := requests(t, l)
	m := Method{SplitLayer: 4, WeightLayer: 4, Front: Weights{Bits: 2, Group: 0}, MaxTokens: 8}
	with, without := m, m
	with.IncludeKV = true
	a, b := score(t, l, with, reqs), score(t, l, without, reqs)
	whole := score(t, l, Method{}, reqs)
	differ := 0
	for i, r := range reqs {
		scoredLate := len(r.Input)-len(r.Targets) >= 8
		if len(r.Input) > 8 && scoredLate && a[i].LogProb != b[i].LogProb {
			differ++
		}
		if len(r.Input) <= 8 && a[i].LogProb != b[i].LogProb {
			t.Errorf("request %d never leaves the edge, yet I_kv changes its score", i)
		}
		if len(r.Input) > 8 && a[i].LogProb == whole[i].LogProb {
			t.Errorf("request %d: 2-bit weights on the edge changed nothing", i)
		}
	}
	if differ == 0 {
		t.Error("I_kv changes no score")
	}
}

// TestGenerate: cached decoding equals scoring of what it produced, whole and
// split, and a split reports every row sent once.
func TestGenerate(t *testing.T) {
	l := tiny(t, Source{})
	prompt := l.Tokenizer.Encode("The lamp is", true)
	for _, m := range []Method{{}, {SplitLayer: 3, WeightLayer: 3, Front: Weights{Bits: 4, Group: 32}, Codec: codec(t, "packed", nil)}, {SplitLayer: 3, WeightLayer: 3, Front: Weights{Bits: 4, Group: 32}, Codec: codec(t, "packed", nil), MaxTokens: 15, IncludeKV: true}} {
		s, err := l.Engine.NewSession(m)
		if err != nil {
			t.Fatal(err)
		}
		ids := append([]int32(nil), prompt...)
		var logProbs []float64
		rows, kv := 0, 0
		err = s.Generate(context.Background(), prompt, 12, Sampling{}, func(int32) bool { return false }, func(k Token) error {
			ids = append(ids, k.ID)
			logProbs = append(logProbs, k.LogProb)
			rows += k.Payload.Tokens
			kv += k.Payload.KV.Total()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		a := score(t, l, m, []Request{{Input: ids[:len(ids)-1], Targets: ids[len(prompt):]}})[0]
		if !a.Greedy {
			t.Errorf("%+v: the generated tokens are not the most probable ones when scored", m)
		}
		for i, lp := range logProbs {
			if lp != a.TokenLogProbs[i] {
				t.Errorf("%+v: token %d has log-probability %v generated, %v scored", m, i, lp, a.TokenLogProbs[i])
			}
		}
		if rows != a.Payload.Tokens || (kv > 0) != (a.Payload.KV.Total() > 0) {
			t.Errorf("%+v: generation sent %d rows and %d bytes of keys and values, scoring %d rows and %d bytes", m, rows, kv, a.Payload.Tokens, a.Payload.KV.Total())
		}
	}
	// Sampling: a seed gives one text, another seed another.
	texts := map[string]bool{}
	for _, seed := range []uint64{1, 1, 2} {
		s, err := l.Engine.NewSession(Method{})
		if err != nil {
			t.Fatal(err)
		}
		var ids []int32
		if err := s.Generate(context.Background(), prompt, 20, Sampling{Temperature: 1, TopP: .95, Seed: seed}, func(int32) bool { return false }, func(k Token) error { ids = append(ids, k.ID); return nil }); err != nil {
			t.Fatal(err)
		}
		texts[fmt.Sprint(ids)] = true
	}
	if len(texts) != 2 {
		t.Errorf("three samplings with seeds 1, 1, 2 gave %d different texts, expected 2", len(texts))
	}
}

// TestPick checks the nucleus by hand: probabilities .5, .25, .125, .125.
func TestPick(t *testing.T) {
	logits := []float32{float32(math.Log(.25)), float32(math.Log(.5)), float32(math.Log(.125)), float32(math.Log(.125))}
	if id := (Sampling{}).pick(logits, nil); id != 1 {
		t.Errorf("greedy took %d, expected 1", id)
	}
}

// TestOPSC: packed edge weights take the memory that their widths say.
func TestOPSC(t *testing.T) {
	l := tiny(t, Source{})
	full, err := l.Engine.NewSession(Method{SplitLayer: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, bits := range []int{2, 3, 4, 8} {
		s, err := l.Engine.NewSession(Method{SplitLayer: 4, WeightLayer: 4, Front: Weights{Bits: bits, Group: 32}})
		if err != nil {
			t.Fatal(err)
		}
		// Codes at their width and 5 bytes (float32 scale, 8-bit zero) per 32 weights; rows of 64 and 176 inputs fill whole bytes and groups, except that 176/32 leaves a short group.
		want := float64(full.EdgeWeightBytes()) / 32 * (float64(bits) + 5*8./32)
		if got := float64(s.EdgeWeightBytes()); math.Abs(got/want-1) > .03 {
			t.Errorf("%d bits: %v bytes, expected about %v", bits, got, want)
		}
	}
}

func TestBadMethods(t *testing.T) {
	l := tiny(t, Source{})
	for _, c := range []struct {
		m    Method
		want string
	}{
		{Method{SplitLayer: 9}, "split_layer 9"},
		{Method{SplitLayer: -1}, "split_layer -1"},
		{Method{SplitLayer: 1, WeightLayer: 10}, "l_w 10"},
		{Method{SplitLayer: 1, MaxTokens: -1}, "max_tokens -1"},
		{Method{Codec: codec(t, "packed", nil)}, "needs a split_layer"},
		{Method{SplitLayer: 1, Clamp: -1}, "clamp -1"},
		{Method{SplitLayer: 1, Clamp: float32(math.NaN())}, "clamp NaN"},
		{Method{Clamp: 1}, "clamp 1: expected 0 (none), or a positive number with a split_layer"},
		{Method{SplitLayer: 2, WeightLayer: 2, Front: Weights{Bits: 4, Group: 4096}}, "group"},
	} {
		if _, err := l.Engine.NewSession(c.m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, expected one that names %q", c.m, err, c.want)
		}
	}
	s, err := l.Engine.NewSession(Method{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Request{{Input: []int32{1}}, {Input: []int32{1}, Targets: []int32{1, 2}}, {Input: []int32{100000}, Targets: []int32{1}}, {Input: []int32{1}, Targets: []int32{100000}}} {
		if _, err := s.Score(context.Background(), []Request{r}); err == nil {
			t.Errorf("request %+v was scored", r)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Score(cancelled, requests(t, l)); err == nil {
		t.Error("a cancelled context scored")
	}
}

// TestOpenErrors: the model and tokenizer must exist and agree.
func TestOpenErrors(t *testing.T) {
	if _, err := Open(Source{Path: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a missing model was opened")
	}
	l := tiny(t, Source{})
	small := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(small, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Source{Path: l.Checkpoint.Dir, Tokenizer: small}); err == nil {
		t.Error("a file that is no tokenizer was opened")
	}
}

// TestLongRope: a model whose rotations depend on the length of the sequence
// uses one table on the edge, on the cloud and in the handover, beyond the
// original length as below it.
func TestLongRope(t *testing.T) {
	l := sharedModel(t, "phi3-longrope")
	var reqs []Request
	for _, n := range []int{20, 64, 65, 100} { // the original length is 64
		ids := make([]int32, n+1)
		for i := range ids {
			ids[i] = int32(i * 37 % l.Checkpoint.Config.VocabSize)
		}
		reqs = append(reqs, Request{Input: ids[:n], Targets: ids[n-9:]})
	}
	want := score(t, l, Method{}, reqs)
	for _, w := range []int{0, 10, 64, 90} {
		for _, kv := range []bool{false, true} {
			m := Method{SplitLayer: 2, WeightLayer: 2, MaxTokens: w, IncludeKV: kv}
			sameScores(t, fmt.Sprintf("W=%d I_kv=%v", w, kv), score(t, l, m, reqs), want)
		}
	}
}
