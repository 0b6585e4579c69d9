package decoder

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
)

// hooked is m with hooks in one block.
func hooked(m *Model, k int, h *Hooks) *Model {
	var layers []Layer
	for i := 1; i <= k; i++ {
		layers = append(layers, m.Layer(i))
	}
	layers[k-1].Hooks = h
	return m.WithLayers(layers)
}

// TestHooks compares with the model without hooks: maps that do nothing change
// no bit, factors of two that later places take back change none either, and
// every place is seen in order, with its rows as Map left them.
func TestHooks(t *testing.T) {
	m := load(t, shared(t, "golden", "models", "llama31-gqa"), cpu.Options{})
	c := m.Config
	ids := make([]int32, 21)
	for i := range ids {
		ids[i] = int32(7*i+3) % int32(c.VocabSize)
	}
	forward := func(m *Model) []float32 {
		return run(t, m, 0, func(b *Batch) { b.Add(ids, 0, newCache(t, m, len(ids))) })
	}
	want := forward(m)
	scale := func(f float32) func([]float32) error {
		return func(rows []float32) error {
			for i := range rows {
				rows[i] *= f
			}
			return nil
		}
	}
	var h Hooks
	for p := range h {
		h[p].Map = scale(1)
	}
	if !slices.Equal(forward(hooked(m, 2, &h)), want) {
		t.Error("hooks that change nothing change the result")
	}
	// Scores keep their bits when queries double and keys halve, attended values
	// when values double and the input of o halves.
	h = Hooks{}
	h[QueryOutput].Map, h[KeyRotated].Map = scale(2), scale(.5)
	h[ValueOutput].Map, h[OutputInput].Map = scale(2), scale(.5)
	if !slices.Equal(forward(hooked(m, 1, &h)), want) {
		t.Error("factors that cancel change the result")
	}
	h = Hooks{}
	h[KeyOutput].Map, h[QueryRotated].Map = scale(4), scale(.25)
	if !slices.Equal(forward(hooked(m, 1, &h)), want) {
		t.Error("factors of keys and queries that cancel change the result")
	}
	widths := [Places]int{c.HiddenSize, c.QueryWidth(), c.KVWidth(), c.KVWidth(), c.QueryWidth(), c.KVWidth(), c.QueryWidth(), c.HiddenSize, c.IntermediateSize}
	var seen []Place
	h = Hooks{}
	for p := range h {
		h[p].Map = func(rows []float32) error {
			for i := range rows {
				rows[i] = float32(p)
			}
			return nil
		}
		h[p].See = func(x backend.Matrix) error {
			seen = append(seen, Place(p))
			v := make([]float32, x.Rows()*x.Cols())
			m.Backend.Download(v, x)
			if x.Rows() != len(ids) || x.Cols() != widths[p] || v[0] != float32(p) || v[len(v)-1] != float32(p) {
				t.Errorf("place %d: %d x %d, from %v to %v", p, x.Rows(), x.Cols(), v[0], v[len(v)-1])
			}
			return nil
		}
	}
	forward(hooked(m, 1, &h))
	if want := []Place{AttentionInput, QueryOutput, KeyOutput, ValueOutput, QueryRotated, KeyRotated, OutputInput, MLPInput, DownInput}; !slices.Equal(seen, want) {
		t.Errorf("places seen: %v, expected %v", seen, want)
	}
	h = Hooks{}
	h[MLPInput].Map = func([]float32) error { return errors.New("no row today") }
	failing := hooked(m, 2, &h)
	var w Workspace
	var b Batch
	b.Add(ids, 0, newCache(t, m, len(ids)))
	x, err := failing.Embed(&w, &b)
	if err != nil {
		t.Fatal(err)
	}
	if err := failing.Blocks(&w, x, &b, 1, c.Layers); err == nil || !strings.Contains(err.Error(), "layer 2: no row today") {
		t.Errorf("error %v", err)
	}
}
