package runner

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"splitbench/compress"
	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/results"
)

// loadText reads a spec from its text.
func loadText(t *testing.T, text string) *spec.Spec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spec.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := spec.Load(path, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const sharingSpec = `name: sharing
models: [{name: tiny, path: "builtin:random-tiny"}]
tasks: [{name: piqa, path: "builtin:toy", limit: 12}]
methods:
  - {name: fp32}
  - {name: split, split_layer: 2, front: {weight_bits: 4, group: 32}, boundary: {codec: literal}}
  - {name: sent, split_layer: 3, max_tokens: 9}
sweep:
  codec: [literal, packed]
  tau: [0.5, 5]
  max_activation_bits: [3, 8]
  max_tokens: [0, 9, 5000]
  include_kv: [true, false]
  delta: [0.1, 0.2]
`

// TestSweepSharing: every cell of a sweep equals that cell computed by itself,
// byte for byte, and most of them cost less.
func TestSweepSharing(t *testing.T) {
	s := loadText(t, sharingSpec)
	dir := filepath.Join(t.TempDir(), "run")
	sum, err := Run(context.Background(), s, Options{Out: dir, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	store, err := results.OpenRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	cells, err := store.Cells()
	if err != nil {
		t.Fatal(err)
	}
	if len(cells) != sum.Cells {
		t.Fatalf("%d cells are stored, expected %d", len(cells), sum.Cells)
	}
	w := NewWorkbench(Compute{})
	defer w.Close()
	jobs, err := jobsOf(w, s)
	if err != nil {
		t.Fatal(err)
	}
	shared, twins := 0, 0
	for i, j := range jobs {
		c := cells[i]
		if c.Key != j.key {
			t.Fatalf("cell %d of the results is %s, expected %s: not in the spec's order", i, c.Label, j.cell.Label())
		}
		if c.Measured.SharedEdge {
			shared++
		}
		if c.Measured.Twin != "" {
			twins++
		}
		p, err := w.Prepare(j.cell)
		if err != nil {
			t.Fatal(err)
		}
		l, err := w.Open(j.cell.Model)
		if err != nil {
			t.Fatal(err)
		}
		m, err := w.Method(j.cell)
		if err != nil {
			t.Fatal(err)
		}
		session, err := l.Engine.NewSession(m)
		if err != nil {
			t.Fatal(err)
		}
		session.Unshared = true
		var h compress.Histogram
		session.Histogram = &h
		want, err := scoreBlock(context.Background(), session, p.Units, j.key, Point(j.cell, j.extra), false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Rows(j.key)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s (twin %.8s, shared edge %v): rows differ from those of the cell alone", c.Label, c.Measured.Twin, c.Measured.SharedEdge)
		}
		if m.SplitLayer > 0 && !reflect.DeepEqual(c.Activations, histogramOf(countsOf(&h))) {
			t.Errorf("%s: histogram of %d values differs from that of the cell alone, %d values", c.Label, c.Activations.Total(), h.Total())
		}
	}
	// One whole, 2 codecs x 2 tau x 2 widths x 3 W-bar x 2 I_kv x 2 delta, and 3 W-bar x 2 I_kv of exact rows.
	t.Logf("%d cells, %d with the edge of another, %d with the scores of another", len(cells), shared, twins)
	if len(cells) != 1+96+6 || shared+twins < len(cells)*3/4 || twins < len(cells)/3 || sum.Twins != twins {
		t.Errorf("of %d cells %d share an edge pass and %d are twins (summary: %d)", len(cells), shared, twins, sum.Twins)
	}
}

// TestTwinAcrossRuns: a cell takes the scores of its twin that an earlier run
// finished; timing keeps cells apart.
func TestTwinAcrossRuns(t *testing.T) {
	text := `name: twins
models: [{name: tiny, path: "builtin:random-tiny"}]
tasks: [{name: piqa, path: "builtin:toy", limit: 5}]
methods: [{name: split, split_layer: 3, boundary: {codec: packed}}]
sweep: {max_tokens: [700, 800]}
`
	dir := filepath.Join(t.TempDir(), "run")
	s := loadText(t, text)
	sum, err := Run(context.Background(), s, Options{Out: dir, Version: "test"})
	if err != nil || sum.Cells != 2 || sum.Twins != 1 {
		t.Fatalf("%+v, error %v", sum, err)
	}
	want := fingerprint(t, dir)
	store, err := results.OpenRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	first := store.Manifest().Cells[0].Key
	if err := os.Remove(filepath.Join(dir, "cells", first+".json")); err != nil {
		t.Fatal(err)
	}
	if sum, err = Run(context.Background(), s, Options{Out: dir, Version: "test"}); err != nil || sum.Computed != 1 || sum.Twins != 1 {
		t.Fatalf("%+v, error %v", sum, err)
	}
	sameFiles(t, fingerprint(t, dir), want)
	sum, err = Run(context.Background(), loadText(t, "timing: true\n"+text), Options{Out: filepath.Join(t.TempDir(), "timed"), Version: "test"})
	if err != nil || sum.Twins != 0 || sum.Cells != 2 {
		t.Errorf("%d of %d timed cells took the scores of another (error %v), expected none of 2", sum.Twins, sum.Cells, err)
	}
}

// TestTimeoutKeepsBlocks: a cell that ran out of time goes on behind its last
// block in the next run.
func TestTimeoutKeepsBlocks(t *testing.T) {
	path := longSpec(t)
	s, err := spec.Load(path, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	calm, out := filepath.Join(t.TempDir(), "calm"), filepath.Join(t.TempDir(), "run")
	if _, err := Run(context.Background(), s, Options{Out: calm, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	// A cell in the state that a timeout leaves: some blocks and the status.
	w := NewWorkbench(Compute{})
	defer w.Close()
	jobs, err := jobsOf(w, s)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := results.OpenRun(calm)
	if err != nil {
		t.Fatal(err)
	}
	store, err := results.Create(out, s.YAML(), results.Manifest{Name: s.Name, Cells: whole.Manifest().Cells})
	if err != nil {
		t.Fatal(err)
	}
	j := jobs[0]
	p, err := w.Prepare(j.cell)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := whole.Rows(j.key)
	if err != nil {
		t.Fatal(err)
	}
	journal, _, _, err := store.Journal(j.key)
	if err != nil {
		t.Fatal(err)
	}
	first := rowsOf(blocksOf(p.Units, blockTokens)[0])
	if err := journal.Append(0, rows[:first]); err != nil || first == len(rows) {
		t.Fatal(err, first)
	}
	journal.Close()
	if err := store.Commit(j.key, nil, results.CellResult{Status: results.StatusTimeout, Error: "not done"}); err != nil {
		t.Fatal(err)
	}
	store.Close()
	var log bytes.Buffer
	sum, err := Run(context.Background(), s, Options{Out: out, Version: "test", Progress: &log})
	if err != nil || sum.Computed != sum.Cells || len(sum.Failed) > 0 {
		t.Fatalf("%+v, error %v", sum, err)
	}
	if n := strings.Count(log.String(), "going on after"); n != 1 {
		t.Errorf("%d cells went on behind their blocks, expected 1:\n%s", n, log.String())
	}
	sameFiles(t, fingerprint(t, out), fingerprint(t, calm))
}

// TestPreparationFails: a task that cannot be turned into tokens ends the run
// with one line that says why, and keeps what was done.
func TestPreparationFails(t *testing.T) {
	s := loadText(t, `name: fails
models: [{name: tiny, path: "builtin:random-tiny"}]
tasks: [{name: piqa, path: "builtin:toy", limit: 4}]
methods: [{name: fp32}]
`)
	s.Models[0].MaxLength = 4 // no document fits
	_, err := Run(context.Background(), s, Options{Out: filepath.Join(t.TempDir(), "run"), Version: "test"})
	if err == nil || !strings.Contains(err.Error(), "task piqa: nothing to score") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

// TestOutcomes: methods of one outcome send the same bytes.
func TestOutcomes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	m := compress.Matrix{Rows: 7, Cols: 96, Data: make([]float32, 7*96)}
	for i := range m.Data {
		m.Data[i] = float32(random.NormFloat64() * 2)
	}
	clear(m.Row(3))
	base := spec.Boundary{Codec: "literal", Tau: spec.Tau{By: spec.TauValue, Value: 3}, MaxActivationBits: 5, Delta: .2, Search: "tabq", StopRule: "last_ok", Comparison: "floor", LowerBound: 3, Granularity: "per_token", AboveType: "exact", SparseIndex: "compact", ScaleType: "float16", Restore: "center"}
	messages := map[string]string{} // by outcome
	points := map[string]int{}
	for _, codec := range []string{"literal", "raw16", "split1"} {
		for _, tau := range []float64{-1, 0, 3} {
			for _, bits := range []int{3, 4, 6} {
				for _, search := range []string{"tabq", "fixed"} {
					for _, lower := range []int{1, 3, 5, 7} {
						for _, delta := range []float64{0, .2, 3} {
							for _, stop := range []string{"last_ok", "first_exceed"} {
								for _, granularity := range []string{"per_token", "per_tensor"} {
									b := base
									b.Codec, b.Tau.Value, b.MaxActivationBits, b.Search, b.LowerBound, b.Delta, b.StopRule, b.Granularity = codec, tau, bits, search, lower, delta, stop, granularity
									key := exec.OutcomeKey(spec.Method{SplitLayer: 1, Boundary: &b}, 4, 100, exec.Tables{})
									c, err := compress.NewCodec(codec, exec.Options(b))
									if err != nil {
										t.Fatal(err)
									}
									msg, _, err := c.Encode(nil, m)
									if err != nil {
										t.Fatal(err)
									}
									if before, ok := messages[key]; ok && before != string(msg) {
										t.Fatalf("two messages for the outcome %s", key)
									}
									messages[key] = string(msg)
									points[key]++
								}
							}
						}
					}
				}
			}
		}
	}
	if len(points) < 20 || len(points) > 300 {
		t.Errorf("%d outcomes", len(points))
	}
	// What may not differ, and what must.
	key := func(m spec.Method) string {
		return exec.OutcomeKey(m, 4, 100, exec.Tables{})
	}
	q4 := spec.WeightCoder{Bits: 4, Group: 32}
	clamped := func(codec string, limit float64) spec.Method {
		b := base
		b.Codec, b.Clamp = codec, limit
		return spec.Method{SplitLayer: 2, Boundary: &b}
	}
	for _, c := range []struct {
		a, b spec.Method
		same bool
	}{
		{spec.Method{SplitLayer: 2, MaxTokens: 100}, spec.Method{SplitLayer: 2}, true},
		{spec.Method{SplitLayer: 2, MaxTokens: 99}, spec.Method{SplitLayer: 2}, false},
		{spec.Method{SplitLayer: 2, MaxTokens: 9, IncludeKV: true}, spec.Method{SplitLayer: 2, MaxTokens: 9}, true},
		{spec.Method{SplitLayer: 2, MaxTokens: 9, IncludeKV: true, Front: q4}, spec.Method{SplitLayer: 2, MaxTokens: 9, Front: q4}, false},
		{spec.Method{SplitLayer: 2, IncludeKV: true, Front: q4}, spec.Method{SplitLayer: 2, Front: q4}, true},
		{spec.Method{SplitLayer: 2, PrecisionLayer: 2, Front: q4, Back: q4}, spec.Method{SplitLayer: 2, Front: q4}, true},
		{spec.Method{SplitLayer: 2, PrecisionLayer: 1, Front: q4, Back: q4}, spec.Method{SplitLayer: 2, Front: q4}, true},
		{spec.Method{SplitLayer: 2, PrecisionLayer: 1, Front: q4}, spec.Method{SplitLayer: 2, Front: q4}, false},
		{spec.Method{SplitLayer: 2}, spec.Method{SplitLayer: 3}, false},
		{spec.Method{Front: q4, Back: q4, PrecisionLayer: 4}, spec.Method{Front: q4}, true},
		{spec.Method{Front: q4}, spec.Method{}, false},
		{spec.Method{SplitLayer: 4}, spec.Method{}, false},
		{clamped("none", 0), spec.Method{SplitLayer: 2}, true},
		{clamped("none", 3), spec.Method{SplitLayer: 2}, false},
		{clamped("none", 3), clamped("none", 4), false},
		{clamped("literal", 3), clamped("literal", 0), false},
		{clamped("literal", 1), clamped("literal", 1+1e-12), true}, // one limit in float32
	} {
		if same := key(c.a) == key(c.b); same != c.same {
			t.Errorf("%+v and %+v: same outcome %v, expected %v", c.a, c.b, same, c.same)
		}
	}
}

// TestTablesInOutcomes: other tables are another outcome where they are used.
func TestTablesInOutcomes(t *testing.T) {
	b := spec.Boundary{Codec: "split1", Tau: spec.Tau{By: spec.TauValue, Value: 3}, MaxActivationBits: 4, Search: "fixed"}
	base := spec.Method{SplitLayer: 2, MaxTokens: 9, IncludeKV: true, Boundary: &b}
	alone := base
	alone.IncludeKV = false
	one, two := exec.Tables{HiddenDigest: "a", KVDigest: "k"}, exec.Tables{HiddenDigest: "b", KVDigest: "k"}
	three := exec.Tables{HiddenDigest: "a", KVDigest: "l"}
	key := func(m spec.Method, t exec.Tables) string { return exec.OutcomeKey(m, 4, 100, t) }
	if key(base, one) == key(base, two) || key(base, one) == key(base, three) {
		t.Error("the files of tables do not tell outcomes apart")
	}
	if key(alone, one) != key(alone, three) {
		t.Error("tables of keys and values tell outcomes apart where none are sent")
	}
	for _, change := range []func(b *spec.Boundary){
		func(b *spec.Boundary) { b.Tau.By = spec.TauRMS },
		func(b *spec.Boundary) { b.Lanes = 4 },
		func(b *spec.Boundary) { b.Restore = "centroid" },
		func(b *spec.Boundary) { b.Codec = "packed" },
	} {
		other, m := b, base
		change(&other)
		m.Boundary = &other
		if key(m, one) == key(base, one) {
			t.Errorf("%+v has the outcome of %+v", other, b)
		}
	}
}

// TestRecentTexts: remembered encodings are those of the tokenizer.
func TestRecentTexts(t *testing.T) {
	w := bench(t)
	tok, err := w.Tokenizer(spec.Model{Path: "builtin:random-tiny"})
	if err != nil {
		t.Fatal(err)
	}
	r := &recentTexts{Tokenizer: tok}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		text := fmt.Sprintf("the lamp %d", random.IntN(6))
		special := random.IntN(2) == 0
		if got, want := r.Encode(text, special), tok.Encode(text, special); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v, expected %v", text, got, want)
		}
	}
}
