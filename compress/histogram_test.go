package compress

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestHistogramEdges compares the table of edges with powers of two computed in
// float64 and rounded.
func TestHistogramEdges(t *testing.T) {
	edges := HistogramEdges()
	if len(edges) != 321 || edges[0] != 0x1p-24 || edges[320] != 0x1p16 || edges[8] != 0x1p-23 {
		t.Fatalf("%d edges from %v to %v", len(edges), edges[0], edges[len(edges)-1])
	}
	for i, e := range edges {
		if want := float64(float32(math.Exp2(-24 + float64(i)/8))); e != want {
			t.Errorf("edge %d is %v, want %v", i, e, want)
		}
	}
}

func TestHistogram(t *testing.T) {
	edges := HistogramEdges()
	var h Histogram
	var values []float32
	for _, e := range edges {
		values = append(values, float32(e), -math.Nextafter32(float32(e), 0))
	}
	h.Add(Matrix{1, len(values), values})
	// Each edge opens its bin and the value before it closes the one below.
	for i, n := range h.Counts() {
		if n != 2 {
			t.Errorf("bin %d has %d values, want 2", i, n)
		}
	}
	if h.Underflow() != 1 || h.Overflow() != 1 || h.Zero() != 0 || h.NonFinite() != 0 || h.Total() != 642 {
		t.Errorf("%d below, %d over, %d in all", h.Underflow(), h.Overflow(), h.Total())
	}
	negZero := float32(math.Copysign(0, -1))
	rest := []float32{0, negZero, math.SmallestNonzeroFloat32, math.MaxFloat32, float32(math.Inf(1)), float32(math.NaN()), float32(math.Inf(-1))}
	var g Histogram
	g.Add(Matrix{7, 1, rest})
	if g.Zero() != 2 || g.Underflow() != 1 || g.Overflow() != 1 || g.NonFinite() != 3 || g.Total() != 7 {
		t.Errorf("zero %d, under %d, over %d, not finite %d", g.Zero(), g.Underflow(), g.Overflow(), g.NonFinite())
	}
	// Against a search in the edges.
	rng := rand.New(rand.NewPCG(8, 8))
	var many Histogram
	want := make([]uint64, 320)
	for range 20000 {
		v := float32(math.Exp2(rng.Float64()*40-24) * (1 - 2*float64(rng.IntN(2))))
		many.Add(Matrix{1, 1, []float32{v}})
		i, found := slices.BinarySearch(edges, math.Abs(float64(v)))
		if !found {
			i--
		}
		want[i]++
	}
	if !slices.Equal(many.Counts(), want) {
		t.Error("counts differ from a search in the edges")
	}
	h.Merge(&g)
	h.Merge(&many)
	if h.Total() != 20649 || h.Zero() != 2 || h.NonFinite() != 3 || h.Underflow() != 2 || h.Overflow() != 2 {
		t.Errorf("merged: %d in all", h.Total())
	}

	b, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	var back Histogram
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back != h {
		t.Error("JSON does not bring the histogram back")
	}
	var form struct {
		Edges  []float64
		Counts []uint64
		Zero   uint64
	}
	if err := json.Unmarshal(b, &form); err != nil || !slices.Equal(form.Edges, edges) || !slices.Equal(form.Counts, h.Counts()) || form.Zero != 2 {
		t.Errorf("JSON form: %v", err)
	}
	for _, bad := range []string{`{}`, `{"counts":[1],"edges":[1,2]}`, `[]`, `{"counts":[-1]}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if back != h {
		t.Error("a failed read changes the histogram")
	}
}
