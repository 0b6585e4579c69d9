package checkpoint

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sharedDir returns the folder of shared data and skips the test when it is absent.
func sharedDir(t testing.TB, parts ...string) string {
	t.Helper()
	dir := os.Getenv("SPLITBENCH_SHARED")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if filepath.Dir(root) == root {
				t.Fatal("no go.mod above the working directory")
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared")
	}
	path := filepath.Join(append([]string{dir}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data are required: %v", err)
		}
		t.Skipf("shared data are absent (set SPLITBENCH_SHARED): %v", err)
	}
	// The folder may be a link, into which a walk does not go by itself.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func mustOpen(t testing.TB, path string) *Checkpoint {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustOpenFile(t testing.TB, path string) *File {
	t.Helper()
	f, err := OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// mustTensor returns a tensor of f as float64.
func mustTensor(t testing.TB, f *File, name string) (Tensor, []float64) {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("%s: no tensor %s", f.Path(), name)
	}
	values, err := tensor.Float64(nil)
	if err != nil {
		t.Fatal(err)
	}
	return tensor, values
}

func mustIDs(t testing.TB, f *File, name string) []int32 {
	t.Helper()
	tensor, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("%s: no tensor %s", f.Path(), name)
	}
	ids, err := tensor.Int32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// readAll reads every weight of c, as running the model would.
func readAll(c *Checkpoint) error {
	for _, name := range c.Names() {
		w, err := c.Tensor(name)
		if err != nil {
			return err
		}
		if _, err := w.Float32(nil); err != nil {
			return err
		}
	}
	return nil
}

// wantError checks that err is one line that holds every part.
func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("the error has more than one line: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// forward computes the logits of all positions in float64, from the description of the architecture alone, to
// compare a loaded checkpoint with reference outputs. It returns the residual stream before each layer too.
func forward(t testing.TB, c *Checkpoint, ids []int32) (logits []float64, hidden [][]float64) {
	t.Helper()
	cfg := c.Config
	T, D, H, K, hd := len(ids), cfg.HiddenSize, cfg.Heads, cfg.KVHeads, cfg.HeadDim
	weight := func(name string) []float64 {
		w, err := c.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := w.Float64(nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	linear := func(x []float64, in int, name string, bias bool) []float64 { // x is (tokens, in)
		w := weight(name + ".weight")
		out := len(w) / in
		y := make([]float64, len(x)/in*out)
		var b []float64
		if bias {
			b = weight(name + ".bias")
		}
		for i := range len(x) / in {
			for o := range out {
				s := 0.0
				for k := range in {
					s += x[i*in+k] * w[o*in+k]
				}
				if bias {
					s += b[o]
				}
				y[i*out+o] = s
			}
		}
		return y
	}
	norm := func(x []float64, name string) []float64 {
		w := weight(name)
		y := make([]float64, len(x))
		for i := range len(x) / D {
			s := 0.0
			for k := range D {
				s += x[i*D+k] * x[i*D+k]
			}
			for k := range D {
				y[i*D+k] = x[i*D+k] / math.Sqrt(s/float64(D)+cfg.NormEpsilon) * w[k]
			}
		}
		return y
	}
	r, width := cfg.Rope, cfg.RotaryWidth()
	// turn is the dimension that turns n times within the original length.
	turn := func(n float64) float64 {
		return float64(width) * math.Log(float64(r.OriginalMaxPositions)/(2*math.Pi*n)) / math.Log(r.Theta) / 2
	}
	frequency := func(i int) float64 {
		f := 1 / math.Pow(r.Theta, float64(2*i)/float64(width))
		switch r.Type {
		case "linear":
			return f / r.Factor
		case "llama3":
			wave, orig := 2*math.Pi/f, float64(r.OriginalMaxPositions)
			switch {
			case wave > orig/r.LowFreqFactor:
				return f / r.Factor
			case wave >= orig/r.HighFreqFactor:
				s := (orig/wave - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
				return (1-s)*f/r.Factor + s*f
			}
		case "yarn":
			low, high := max(0, math.Floor(turn(r.BetaFast))), min(float64(width-1), math.Ceil(turn(r.BetaSlow)))
			slow := min(1, max(0, (float64(i)-low)/(high-low)))
			return f * (slow/r.Factor + 1 - slow)
		case "longrope":
			if T > r.OriginalMaxPositions {
				return f / r.LongFactors[i]
			}
			return f / r.ShortFactors[i]
		}
		return f
	}
	factor := max(r.AttentionFactor, 1)
	rotate := func(x []float64, heads int) {
		for p := range T {
			for h := range heads {
				v := x[(p*heads+h)*hd:][:hd]
				for i := range width / 2 {
					sin, cos := math.Sincos(float64(p) * frequency(i))
					a, b := v[i]*factor, v[i+width/2]*factor
					v[i], v[i+width/2] = a*cos-b*sin, b*cos+a*sin
				}
			}
		}
	}
	x := make([]float64, 0, T*D)
	embedding := weight(embeddingName)
	for _, id := range ids {
		x = append(x, embedding[int(id)*D:int(id+1)*D]...)
	}
	for layer := range cfg.Layers {
		hidden = append(hidden, append([]float64(nil), x...))
		p := layerPrefix + string(rune('0'+layer)) + "."
		n := norm(x, p+"input_layernorm.weight")
		q := linear(n, D, p+"self_attn.q_proj", cfg.AttentionBias)
		k := linear(n, D, p+"self_attn.k_proj", cfg.AttentionBias)
		v := linear(n, D, p+"self_attn.v_proj", cfg.AttentionBias)
		rotate(q, H)
		rotate(k, K)
		mixed := make([]float64, T*H*hd)
		for h := range H {
			kv := h / (H / K)
			for i := range T {
				scores, sum, top := make([]float64, i+1), 0.0, math.Inf(-1)
				for j := range scores {
					if w := cfg.WindowOf(layer); w > 0 && j <= i-w {
						scores[j] = math.Inf(-1)
						continue
					}
					for e := range hd {
						scores[j] += q[(i*H+h)*hd+e] * k[(j*K+kv)*hd+e] / math.Sqrt(float64(hd))
					}
					top = max(top, scores[j])
				}
				for j := range scores {
					scores[j] = math.Exp(scores[j] - top)
					sum += scores[j]
				}
				for j := range scores {
					for e := range hd {
						mixed[(i*H+h)*hd+e] += scores[j] / sum * v[(j*K+kv)*hd+e]
					}
				}
			}
		}
		for i, o := range linear(mixed, H*hd, p+"self_attn.o_proj", cfg.OutputBias) {
			x[i] += o
		}
		n = norm(x, p+"post_attention_layernorm.weight")
		gate, up := linear(n, D, p+"mlp.gate_proj", cfg.MLPBias), linear(n, D, p+"mlp.up_proj", cfg.MLPBias)
		for i, g := range gate {
			gate[i] = g / (1 + math.Exp(-g)) * up[i]
		}
		for i, o := range linear(gate, cfg.IntermediateSize, p+"mlp.down_proj", cfg.MLPBias) {
			x[i] += o
		}
	}
	hidden = append(hidden, append([]float64(nil), x...))
	return linear(norm(x, "model.norm.weight"), D, strings.TrimSuffix(headName, ".weight"), false), hidden
}

// maxDifference returns the largest absolute difference, infinite when the lengths differ.
func maxDifference(a, b []float64) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range a {
		if d := math.Abs(a[i] - b[i]); !(d <= worst) {
			worst = d
		}
	}
	return worst
}
