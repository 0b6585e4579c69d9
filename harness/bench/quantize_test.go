package bench

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"splitbench/harness/quantise"
	"splitbench/models/checkpoint"
)

// TestQuantize runs the benchmark on a small shape: every part of a layer is
// there with its operations, counted here by hand, and every method with its
// bits.
func TestQuantize(t *testing.T) {
	s := Shape{"small", 64, 1, 4, 2, 96, 300, false}
	dir := t.TempDir()
	model := s
	model.Layers, model.Tied = 2, true
	if err := model.write(dir); err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const sequences, tokens = 2, 24
	r, err := Quantize(context.Background(), QuantizeOptions{
		Shape: s, Bits: 4, Group: 32, Sequences: sequences, Tokens: tokens, Threads: 1, Rounds: 2, Peak: time.Millisecond, Buffer: 1 << 20,
		Model: c, ModelName: "model", Methods: QuantizeMethods(32, 32),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) != 2 || len(r.Tables[1].Rows) != len(QuantizeMethods(32, 32)) {
		t.Fatalf("%d tables", len(r.Tables))
	}
	rows, pairs := float64(sequences*tokens), float64(sequences*tokens*(tokens+1)/2)
	want := map[string]float64{ // operations
		"hessian qkv": rows * 64 * 64, "hessian down": rows * 96 * 96, "factor down": 2. / 3 * 96 * 96 * 96,
		"quantize self_attn.k_proj": 32 * 64 * 64, "quantize mlp.down_proj": 64 * 96 * 96,
		"pass o": 2*rows*64*(64+32+32) + 4*pairs*64, "pass down": 2*rows*64*(64+32+32+64+96+96) + 4*pairs*64,
	}
	var total float64
	for _, row := range r.Tables[0].Rows {
		name := strings.TrimSpace(row[0].Text + " " + row[1].Text)
		if row[5].Number == nil {
			continue
		}
		have := *row[5].Number * 1e9
		if w, ok := want[name]; ok && math.Abs(have-w) > 1e-6*w {
			t.Errorf("%s: %v operations, expected %v", name, have, w)
		}
		delete(want, name)
		if name == "layer" {
			if math.Abs(have-total) > 1e-6*total {
				t.Errorf("the layer has %v operations, its parts %v", have, total)
			}
			continue
		}
		total += have
	}
	if len(want) > 0 {
		t.Errorf("no rows for %v", want)
	}
	for _, m := range r.Measurements {
		if m.Bench != "quantize" || m.Metric == "time" && !(m.Value > 0) {
			t.Errorf("measurement %+v", m)
		}
	}
	names := []string{}
	for _, row := range r.Tables[1].Rows {
		names = append(names, row[0].Text)
	}
	if !slices.Contains(names, "atom") || !slices.Contains(names, "omniquant, 1 epoch") {
		t.Errorf("methods %v", names)
	}
	if block, hessian := quantise.Sizes(c.Config); block != 4*(2*64*64+2*32*64+3*64*96) || hessian != 4*96*96 {
		t.Errorf("a layer of %d bytes, a Hessian of %d", block, hessian)
	}
}
