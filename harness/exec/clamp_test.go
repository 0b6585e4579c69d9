package exec

import (
	"context"
	"fmt"
	"math"
	"testing"

	"splitbench/compress"
	"splitbench/experiments/spec"
	"splitbench/models/checkpoint"
)

// TestClampByHand limits a small matrix; zero as the limit leaves all.
func TestClampByHand(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	m := compress.Matrix{Rows: 2, Cols: 4, Data: []float32{1, -1, 2.5, -7, 0, inf, -inf, nan}}
	var c coder
	got := c.clamp(m, 2)
	want := []float32{1, -1, 2, -2, 0, 2, -2, nan}
	if !sameBits(got.Data, want) || got.Rows != 2 || got.Cols != 4 {
		t.Errorf("clamped %v, want %v", got, want)
	}
	if m.Data[3] != -7 {
		t.Error("the rows of the edge were changed")
	}
	if got := c.clamp(m, 0); &got.Data[0] != &m.Data[0] {
		t.Error("no limit copies")
	}
}

// boundaries scores with a method and returns the scores and, end to end, what
// the boundary tensors were before and after.
func boundaries(t *testing.T, l *Loaded, m Method, reqs []Request) (a []Answer, before, after []float32, h *compress.Histogram) {
	t.Helper()
	s, err := l.Engine.NewSession(m)
	if err != nil {
		t.Fatal(err)
	}
	h = new(compress.Histogram)
	s.Histogram = h
	s.Boundary = func(b, a compress.Matrix) { before, after = append(before, b.Data...), append(after, a.Data...) }
	if a, err = s.Score(context.Background(), reqs); err != nil {
		t.Fatal(err)
	}
	return a, before, after, h
}

// TestClamp: a limit above the largest magnitude changes no bit of a score; below
// it what the cloud gets is the edge's values limited, then coded, and the
// histogram counts what was there before.
func TestClamp(t *testing.T) {
	l := tiny(t, Source{})
	reqs := requests(t, l)
	for name, c := range map[string]compress.Codec{"none": nil, "raw16": codec(t, "raw16", nil), "literal": codec(t, "literal", func(o *compress.Options) { o.Threshold = .5 })} {
		for _, w := range []int{0, 12} {
			name := fmt.Sprintf("%s W=%d", name, w)
			m := Method{SplitLayer: 3, WeightLayer: 3, Front: Weights{Bits: 4, Group: 32}, Codec: c, MaxTokens: w, IncludeKV: true}
			want, before, plain, counts := boundaries(t, l, m, reqs)
			top := float32(0)
			for _, v := range before {
				top = max(top, float32(math.Abs(float64(v))))
			}
			m.Clamp = math.Nextafter32(top, 2*top)
			got, _, _, _ := boundaries(t, l, m, reqs)
			sameAnswers(t, name+", limit above all", got, want)

			m.Clamp = top / 3
			got, same, after, again := boundaries(t, l, m, reqs)
			if !sameBits(before, same) || fmt.Sprint(*counts) != fmt.Sprint(*again) {
				t.Errorf("%s: the clamp changes what is before it", name)
			}
			limited, changed := make([]float32, len(before)), 0
			for i, v := range before {
				if limited[i] = v; math.Abs(float64(v)) > float64(m.Clamp) {
					limited[i] = float32(math.Copysign(float64(m.Clamp), float64(v)))
					changed++
				}
			}
			if changed == 0 {
				t.Fatalf("%s: nothing is beyond %v", name, m.Clamp)
			}
			if c != nil { // row by row, as nothing here looks beyond a row
				width := l.Checkpoint.Config.HiddenSize
				for i := 0; i < len(limited); i += width {
					msg, _, err := c.Encode(nil, compress.Matrix{Rows: 1, Cols: width, Data: limited[i : i+width]})
					if err != nil {
						t.Fatal(err)
					}
					one, err := c.Decode(nil, msg)
					if err != nil {
						t.Fatal(err)
					}
					copy(limited[i:], one.Data)
				}
			}
			if !sameBits(after, limited) {
				t.Errorf("%s: the cloud does not get the limited values", name)
			}
			if sameBits(after, plain) {
				t.Errorf("%s: the clamp changes nothing", name)
			}
			differ := false
			for i := range got {
				differ = differ || got[i].LogProb != want[i].LogProb
				if c == nil && got[i].Payload != want[i].Payload {
					t.Errorf("%s: request %d sent %+v, unclamped %+v", name, i, got[i].Payload, want[i].Payload)
				}
			}
			if !differ {
				t.Errorf("%s: no score changes", name)
			}
		}
	}
}

// TestClampSharing: sessions with other limits go on from one edge pass.
func TestClampSharing(t *testing.T) {
	l := tiny(t, Source{})
	reqs := questions(l.Checkpoint.Config.VocabSize, 12, 31, 33, 70)
	m := Method{SplitLayer: 3, WeightLayer: 3, Front: Weights{Bits: 4, Group: 32}, MaxTokens: 34}
	l.Engine.HoldBoundaries(64 << 20)
	for i, limit := range []float32{0, .2, 1, .2, 0} {
		m.Clamp = limit
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
		sameAnswers(t, fmt.Sprintf("limit %v", limit), got, want)
		if edge, cloud := s.Times().Edge, s.Times().Cloud; (edge > 0) != (i == 0) || (cloud > 0) != (i < 3) {
			t.Errorf("session %d, limit %v: %v s of edge passes, %v s of cloud passes", i, limit, edge, cloud)
		}
	}
}

// TestClampOfSpec: a spec's limit reaches the executor with every codec, and one
// that float32 cannot hold is an error.
func TestClampOfSpec(t *testing.T) {
	b := spec.Boundary{Codec: CodecNone, Clamp: 2.5}
	m, err := FromSpec(spec.Method{SplitLayer: 1, Boundary: &b}, checkpoint.Config{Layers: 2}, Tables{})
	if err != nil || m.Clamp != 2.5 || m.Codec != nil {
		t.Errorf("clamp %v, codec %v, %v", m.Clamp, m.Codec, err)
	}
	b.Clamp = 1e-60
	if _, err := FromSpec(spec.Method{SplitLayer: 1, Boundary: &b}, checkpoint.Config{Layers: 2}, Tables{}); err == nil {
		t.Error("a limit of 1e-60 is taken for none")
	}
}
