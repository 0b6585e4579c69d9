package cli

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/compress"
	"splitbench/models/checkpoint"
)

// TestLagCorrelation compares with sums made by hand. The rows of the first
// matrix, scaled to a root mean square of 1, are (1, 1), (1, -1), (-1, -1): the
// products of neighbours are 0 and 0. Those of the second are the same row three
// times: 1 before, nothing left without the means.
func TestLagCorrelation(t *testing.T) {
	m := func(rows int, v ...float32) compress.Matrix {
		return compress.Matrix{Rows: rows, Cols: len(v) / rows, Data: v}
	}
	nan := float32(math.NaN())
	for _, tc := range []struct {
		name         string
		ms           []compress.Matrix
		raw, centred float64
	}{
		// Means 1/3 and -1/3: (2/3, 4/3), (2/3, -2/3), (-4/3, -2/3). Products -4/9 and
		// -4/9; squares 20/9 + 8/9 and 8/9 + 20/9.
		{"scaled", []compress.Matrix{m(3, 2, 2, 5, -5, -.5, -.5)}, 0, (-8. / 9) / (28. / 9)},
		{"constant", []compress.Matrix{m(3, 1, 2, 2, 4, 3, 6)}, 1, 0},
		{"no neighbours", []compress.Matrix{m(1, 1, 2), m(1, 2, 1)}, 0, 0},
		{"not finite", []compress.Matrix{m(2, 3, nan, 3, float32(math.Inf(1)))}, 1, 0},
		{"zeros", []compress.Matrix{m(2, 0, 0, 0, 0)}, 0, 0},
		{"nothing", nil, 0, 0},
	} {
		raw, centred := lagCorrelation(tc.ms)
		if math.Abs(raw-tc.raw) > 1e-12 || math.Abs(centred-tc.centred) > 1e-12 {
			t.Errorf("%s: %v and %v, want %v and %v", tc.name, raw, centred, tc.raw, tc.centred)
		}
	}
	// The first: -log2(1 - (2/7)^2)/2 = 0.0615.
	line := rhoLine("rho", []compress.Matrix{m(3, 2, 2, 5, -5, -.5, -.5)})
	if want := "rho       0.00 between consecutive tokens, -0.29 without the channels' means: prediction would save at most 0.061 bits per value\n"; line != want {
		t.Errorf("line %q, want %q", line, want)
	}
}

// TestReadKV: tensors (heads, tokens, head dimension) become a row per token, and
// what is missing or of another shape is told with its name.
func TestReadKV(t *testing.T) {
	file := func(tensors ...checkpoint.NamedTensor) string {
		var b bytes.Buffer
		if err := checkpoint.WriteSafetensors(&b, tensors, nil); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "d.safetensors")
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	tensor := func(name string, shape ...int) checkpoint.NamedTensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(i)
		}
		return checkpoint.NamedTensor{Name: name, Shape: shape, Data: v}
	}
	kv, err := readKV(file(tensor("4.k.0", 2, 3, 2), tensor("4.v.0", 2, 3, 2), tensor("4.hidden.0", 3, 4)))
	if err != nil {
		t.Fatal(err)
	}
	got := kv[4].Keys[0]
	if want := []float32{0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11}; len(kv) != 1 || got.Rows != 3 || got.Cols != 4 || !slices.Equal(got.Data, want) {
		t.Errorf("%d x %d: %v, want 3 x 4: %v", got.Rows, got.Cols, got.Data, want)
	}
	for want, f := range map[string]string{
		"no tensor 0.v.0":                            file(tensor("0.k.0", 1, 1, 1)),
		"no tensor 0.k.0":                            file(tensor("0.k.1", 1, 1, 1), tensor("0.v.1", 1, 1, 1)),
		"no tensor 0.k.1, expected":                  file(tensor("0.k.0", 1, 1, 1), tensor("0.v.0", 1, 1, 1), tensor("0.k.99999", 1, 1, 1)),
		"tensor 0.k.0 has shape [2 2]":               file(tensor("0.k.0", 2, 2), tensor("0.v.0", 2, 2)),
		"tensor 0.v.0 has 1 tokens of 1 values, exp": file(tensor("0.k.0", 1, 2, 1), tensor("0.v.0", 1, 1, 1)),
	} {
		if _, err := readKV(f); err == nil || !strings.Contains(err.Error(), f+": "+want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
