package exec

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"splitbench/compress"
	"splitbench/models/backend"
)

// questions makes requests as tasks do: contexts with several continuations,
// some of them a beginning of another, equal inputs with other targets, a text
// alone, more continuations than one family holds, and contexts that share a
// beginning themselves.
func questions(vocab int, lengths ...int) []Request {
	r := rand.New(rand.NewPCG(11, 7))
	text := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(1 + r.IntN(vocab-1))
		}
		return ids
	}
	var out []Request
	add := func(context, continuation []int32) {
		all := append(append([]int32(nil), context...), continuation...)
		out = append(out, Request{Input: all[:len(all)-1], Targets: all[len(context):]})
	}
	first := text(9)
	for q, n := range lengths {
		context := append(append([]int32(nil), first...), text(max(1, n-len(first)))...)
		for c := range 2 + q%4 {
			add(context, text(1+(5*c+q)%13))
		}
		more := text(6)
		add(context, more[:2])
		add(context, more) // goes on where the one before stops
		add(context, more)
		add(append(append([]int32(nil), context...), more[:3]...), text(1)) // its input is a beginning of the last
	}
	many := text(30)
	for range maxLeaves + 3 {
		add(many, text(4))
	}
	add(text(40), text(8))
	add(text(1), text(1))
	return out
}

// sharingMethods are points of every kind.
func sharingMethods(t *testing.T, layers int) map[string]Method {
	q4, q8 := Weights{Bits: 4, Group: 32}, Weights{Bits: 8, Group: 0}
	split := max(1, layers/2)
	codecs := map[string]compress.Codec{
		"none":    nil,
		"literal": codec(t, "literal", nil),
		"packed":  codec(t, "packed", func(o *compress.Options) { o.Threshold, o.MaxActivationBits = .5, 8 }),
		"raw16":   codec(t, "raw16", nil),
		"tensor": codec(t, "literal", func(o *compress.Options) {
			o.Granularity, o.MaxActivationBits, o.LowerBound, o.Delta, o.Threshold = "per_tensor", 8, 1, .29, 20
		}),
	}
	out := map[string]Method{"whole": {}, "weights": {WeightLayer: split, Front: q4, Back: q8}}
	for name, c := range codecs {
		for _, w := range []int{0, 1, 16, 34, 1000} {
			if w == 34 && name != "literal" {
				continue
			}
			for _, kv := range []bool{false, true} {
				out[fmt.Sprintf("%s W=%d I_kv=%v", name, w, kv)] = Method{SplitLayer: split, WeightLayer: split, Front: q4, Codec: c, MaxTokens: w, IncludeKV: kv}
			}
		}
	}
	for name, c := range map[string]compress.Codec{"none": nil, "literal": codecs["literal"], "tensor": codecs["tensor"]} {
		for _, w := range []int{0, 16} {
			out[fmt.Sprintf("clamped %s W=%d", name, w)] = Method{SplitLayer: split, WeightLayer: split, Front: q4, Codec: c, MaxTokens: w, IncludeKV: true, Clamp: .4}
		}
	}
	out["all layers"] = Method{SplitLayer: layers, WeightLayer: 1, Front: q4, Back: q8, Codec: codecs["literal"]}
	return out
}

func scoreUnshared(t *testing.T, l *Loaded, m Method, reqs []Request) []Answer {
	t.Helper()
	s, err := l.Engine.NewSession(m)
	if err != nil {
		t.Fatal(err)
	}
	s.Unshared = true
	a, err := s.Score(context.Background(), reqs)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func sameAnswers(t *testing.T, what string, have, want []Answer) {
	t.Helper()
	sameScores(t, what, have, want)
	for i := range want {
		if have[i].Payload != want[i].Payload {
			t.Fatalf("%s: request %d sent %+v, expected %+v", what, i, have[i].Payload, want[i].Payload)
		}
		for j, id := range want[i].Argmax {
			if have[i].Argmax[j] != id {
				t.Fatalf("%s: request %d token %d: most probable is %d, expected %d", what, i, j, have[i].Argmax[j], id)
			}
		}
	}
}

// sharedPath returns a path below the shared data folder, or skips the test
// without it.
func sharedPath(t *testing.T, parts ...string) string {
	t.Helper()
	root := os.Getenv("SPLITBENCH_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(append([]string{root}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatal(err)
		}
		t.Skipf("shared data missing (set SPLITBENCH_SHARED): %v", err)
	}
	return path
}

// sharedModel opens a model of the golden data.
func sharedModel(t *testing.T, name string) *Loaded { return openShared(t, "golden", "models", name) }

// openShared opens a model of the shared data.
func openShared(t *testing.T, parts ...string) *Loaded {
	t.Helper()
	l, err := Open(Source{Path: sharedPath(t, parts...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestSharing: computing a shared beginning once changes no bit of a score and
// no byte of a message, with any method, batch size and kind of model:
// rotations that depend on the length of the text, sliding windows.
func TestSharing(t *testing.T) {
	for _, c := range []struct {
		model   string
		lengths []int
	}{
		{"", []int{12, 31, 33, 70}},
		{"phi3-longrope", []int{20, 57, 62, 66, 80}}, // the rotations change beyond 64 positions
		{"mistral-swa", []int{12, 30, 50}},           // windows of 16 positions
		{"qwen2-swa", []int{12, 50}},
	} {
		t.Run("model "+c.model, func(t *testing.T) {
			var l *Loaded
			if c.model == "" {
				l = tiny(t, Source{})
			} else {
				l = sharedModel(t, c.model)
			}
			reqs := questions(l.Checkpoint.Config.VocabSize, c.lengths...)
			for name, m := range sharingMethods(t, l.Checkpoint.Config.Layers) {
				want := scoreUnshared(t, l, m, reqs)
				sameAnswers(t, name, score(t, l, m, reqs), want)
				if c.model == "" && (m.MaxTokens == 16 || m.MaxTokens == 0 && m.SplitLayer > 0) {
					l.Engine.batchRows = 90
					sameAnswers(t, name+", small batches", score(t, l, m, reqs), want)
					l.Engine.batchRows = DefaultBatchRows
				}
			}
		})
	}
}

// TestDetached: with one width for a whole message, texts that differ behind
// the shared beginning get other values for it, and the cloud sees them.
func TestDetached(t *testing.T) {
	l := tiny(t, Source{})
	reqs := questions(l.Checkpoint.Config.VocabSize, 12, 31, 33, 70)
	for name, m := range sharingMethods(t, l.Checkpoint.Config.Layers) {
		if m.MaxTokens != 0 || m.SplitLayer == 0 {
			continue
		}
		s, err := l.Engine.NewSession(m)
		if err != nil {
			t.Fatal(err)
		}
		fams := s.families(reqs)
		w := scoring{reqs: reqs, answers: make([]Answer, len(reqs))}
		for _, r := range reqs {
			w.scores = append(w.scores, make([]backend.TokenScore, len(r.Targets)))
		}
		if err := s.scoreBatch(&w, fams); err != nil {
			t.Fatal(err)
		}
		detached := 0
		for _, f := range fams {
			detached += len(f.detached)
		}
		if tensor := strings.HasPrefix(name, "tensor"); (detached > 0) != tensor {
			t.Errorf("%s: %d texts are computed apart", name, detached)
		}
	}
}

// TestFamilies checks what is shared, against a hand count.
func TestFamilies(t *testing.T) {
	l := tiny(t, Source{})
	request := func(ids ...int32) Request { return Request{Input: ids, Targets: ids[:1]} }
	reqs := []Request{
		request(1, 2, 3, 4, 5, 6),
		request(1, 2, 3, 4, 7),
		request(1, 9, 9, 9),
		request(1, 2, 3, 4),
		request(1, 9, 9, 9),
		request(1, 9, 9, 8),
		request(1, 7, 7, 7, 7),
	}
	for _, c := range []struct {
		m    Method
		rows int // in all
		want string
	}{
		// 1 2 3 4 is the prefix of three texts, 1 9 9 of two; 1 alone is too short to share.
		{Method{}, 4 + 2 + 1 + 0 + 3 + 1 + 1 + 5, "[4: 6 5 4] [0: 5] [3: 4 4]"},
		{Method{SplitLayer: 2}, 17, "[4: 6 5 4] [0: 5] [3: 4 4]"},
		// The edge stops behind row 5: the text of 6 rows leaves it beyond the prefix.
		{Method{SplitLayer: 2, MaxTokens: 5}, 6 + 4 + 1 + 0 + 3 + 1 + 1 + 5, "[0: 6] [4: 5 4] [0: 5] [3: 4 4]"},
		// It stops within the prefix of three texts, behind that of the two others.
		{Method{SplitLayer: 2, MaxTokens: 4}, 17, "[4: 6 5 4] [0: 5] [3: 4 4]"},
		{Method{SplitLayer: 2, MaxTokens: 1}, 17, "[4: 6 5 4] [0: 5] [3: 4 4]"},
	} {
		s, err := l.Engine.NewSession(c.m)
		if err != nil {
			t.Fatal(err)
		}
		text, rows := "", 0
		for i, f := range s.families(reqs) {
			if i > 0 {
				text += " "
			}
			shared := 0
			if f.prefix != nil {
				shared = f.prefix.to
			}
			text += fmt.Sprintf("[%d:", shared)
			for _, g := range f.leaves {
				text += fmt.Sprintf(" %d", g.to)
			}
			text += "]"
			for _, g := range f.segments() {
				rows += g.rows()
			}
		}
		if text != c.want || rows != c.rows {
			t.Errorf("%+v: families %s of %d rows, expected %s of %d", c.m, text, rows, c.want, c.rows)
		}
	}
}

// TestHeldBoundaries: going on from the boundary tensors of an earlier session
// changes no bit, runs no edge pass, and no cloud pass where the cloud gets
// what it got before.
func TestHeldBoundaries(t *testing.T) {
	l := tiny(t, Source{})
	reqs := questions(l.Checkpoint.Config.VocabSize, 12, 31, 33, 70)
	codecs := []compress.Codec{
		codec(t, "literal", nil),
		codec(t, "literal", func(o *compress.Options) { o.Threshold = .3 }),
		codec(t, "packed", nil), // the values of the first
		codec(t, "literal", func(o *compress.Options) { o.Threshold = math.Inf(1) }),
		nil,
	}
	for _, w := range []int{0, 16, 34} {
		for _, kv := range []bool{false, true} {
			l.Engine.HoldBoundaries(64 << 20)
			var counts compress.Histogram
			for i, c := range codecs {
				name := fmt.Sprintf("W=%d I_kv=%v codec %d", w, kv, i)
				m := Method{SplitLayer: 3, WeightLayer: 3, Front: Weights{Bits: 4, Group: 32}, Codec: c, MaxTokens: w, IncludeKV: kv}
				want := scoreUnshared(t, l, m, reqs)
				s, err := l.Engine.NewSession(m)
				if err != nil {
					t.Fatal(err)
				}
				s.Keep = true
				var h compress.Histogram
				s.Histogram = &h
				got, err := s.Score(context.Background(), reqs)
				if err != nil {
					t.Fatal(err)
				}
				sameAnswers(t, name, got, want)
				if edge := s.Times().Edge; (edge > 0) != (i == 0) {
					t.Errorf("%s: %v s of edge passes", name, edge)
				}
				if cloud := s.Times().Cloud; i == 2 && cloud > 0 {
					t.Errorf("%s: %v s of cloud passes for values that the cloud had before", name, cloud)
				} else if i < 2 && cloud == 0 {
					t.Errorf("%s: no cloud pass", name)
				}
				// The histogram is that of a run without sharing.
				alone, err := l.Engine.NewSession(m)
				if err != nil {
					t.Fatal(err)
				}
				alone.Unshared, alone.Histogram = true, &counts
				if i > 0 {
					counts = compress.Histogram{}
				}
				if _, err := alone.Score(context.Background(), reqs); err != nil {
					t.Fatal(err)
				}
				if h != counts || h.Total() == 0 {
					t.Errorf("%s: histogram of %d values differs from that of %d without sharing", name, h.Total(), counts.Total())
				}
			}
			// Another edge, or other inputs, are not taken for these.
			m := Method{SplitLayer: 3, WeightLayer: 2, Front: Weights{Bits: 4, Group: 32}, MaxTokens: w, IncludeKV: kv}
			sameAnswers(t, "another edge", score(t, l, m, reqs), scoreUnshared(t, l, m, reqs))
			m.WeightLayer = 3
			sameAnswers(t, "other inputs", score(t, l, m, reqs[3:9]), scoreUnshared(t, l, m, reqs[3:9]))
		}
	}
	// Other targets of the same inputs are not taken for these.
	l.Engine.HoldBoundaries(64 << 20)
	others := make([]Request, len(reqs))
	for i, r := range reqs {
		others[i] = Request{Input: r.Input, Targets: append([]int32(nil), r.Targets...)}
		others[i].Targets[0]++
	}
	exact := Method{SplitLayer: 3}
	for _, asked := range [][]Request{reqs, others} {
		s, err := l.Engine.NewSession(exact)
		if err != nil {
			t.Fatal(err)
		}
		s.Keep = true
		got, err := s.Score(context.Background(), asked)
		if err != nil {
			t.Fatal(err)
		}
		sameAnswers(t, "other targets", got, scoreUnshared(t, l, exact, asked))
	}
	// A store that is too small holds what fits.
	l.Engine.HoldBoundaries(20_000)
	l.Engine.batchRows = 64
	defer func() { l.Engine.batchRows = DefaultBatchRows }()
	m := Method{SplitLayer: 3, WeightLayer: 3, Codec: codecs[0]}
	for range 2 {
		s, err := l.Engine.NewSession(m)
		if err != nil {
			t.Fatal(err)
		}
		s.Keep = true
		got, err := s.Score(context.Background(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		sameAnswers(t, "small store", got, scoreUnshared(t, l, m, reqs))
		if st := l.Engine.store; st.used > st.limit || len(st.batches) == 0 {
			t.Errorf("%d batches of %d bytes are held, allowed %d bytes", len(st.batches), st.used, st.limit)
		}
	}
	l.Engine.HoldBoundaries(0)
}
