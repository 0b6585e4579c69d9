package decoder

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
)

// tolerance is what golden/models/README.md allows between two float32
// implementations, on every tensor.
const tolerance = 1e-4

// llamaGoldens are the checkpoints of golden/models that this version runs.
var llamaGoldens = []string{"llama2-mha", "llama2-mha-f16", "llama2-mha-bf16", "llama31-gqa", "llama-tied-linear-bias"}

func shared(t *testing.T, elements ...string) string {
	t.Helper()
	root := os.Getenv("SPLITBENCH_SHARED")
	if root == "" {
		root = "../../../shared"
	}
	path := filepath.Join(append([]string{root}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data missing: %v", err)
		}
		t.Skipf("shared data missing (set SPLITBENCH_SHARED): %v", err)
	}
	return path
}

func load(t *testing.T, dir string, o cpu.Options) *Model {
	t.Helper()
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := cpu.New(o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(c, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); c.Close() })
	return m
}

type golden struct {
	file *checkpoint.File
	meta struct {
		Sequences []struct {
			KVLayer int `json:"kv_layer"`
		} `json:"sequences"`
		Greedy []struct {
			Prompt []int32 `json:"prompt"`
			Tokens []int32 `json:"tokens"`
		} `json:"greedy"`
	}
}

func (g *golden) tensor(t *testing.T, name string) []float32 {
	t.Helper()
	x, ok := g.file.Tensor(name)
	if !ok {
		t.Fatalf("golden tensor %s is missing", name)
	}
	v, err := x.Float32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func openGolden(t *testing.T, dir string) *golden {
	t.Helper()
	g := &golden{}
	var err error
	if g.file, err = checkpoint.OpenSafetensors(filepath.Join(dir, "golden.safetensors")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.file.Close() })
	data, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g.meta); err != nil {
		t.Fatal(err)
	}
	return g
}

func compare(t *testing.T, what string, have, want []float32) float64 {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("%s has %d values, expected %d", what, len(have), len(want))
	}
	worst := 0.0
	for i := range have {
		d := math.Abs(float64(have[i]) - float64(want[i]))
		if !(d <= tolerance) {
			t.Fatalf("%s[%d] = %v, expected %v", what, i, have[i], want[i])
		}
		worst = math.Max(worst, d)
	}
	return worst
}

// forward runs ids through layers one by one, with cuts: positions at which a
// new call continues on the cache.
func forward(t *testing.T, m *Model, ids []int32, cuts []int, layer func(k int, rows []float32, from int)) (final, logits []float32, cache backend.Cache) {
	t.Helper()
	cache, err := m.NewCache(len(ids))
	if err != nil {
		t.Fatal(err)
	}
	from := 0
	for _, to := range append(append([]int{}, cuts...), len(ids)) {
		var w Workspace
		var b Batch
		b.Add(ids[from:to], from, cache)
		x, err := m.Embed(&w, &b)
		if err != nil {
			t.Fatal(err)
		}
		n := to - from
		report := func(k int) {
			h := make([]float32, n*m.Config.HiddenSize)
			m.Backend.Download(h, x)
			layer(k, h, from)
		}
		report(0)
		for k := 1; k <= m.Config.Layers; k++ {
			if err := m.Blocks(&w, x, &b, k, k); err != nil {
				t.Fatal(err)
			}
			report(k)
		}
		m.Normalise(x, x)
		f := make([]float32, n*m.Config.HiddenSize)
		m.Backend.Download(f, x)
		final = append(final, f...)
		out, err := m.Backend.Alloc(n, m.Config.VocabSize)
		if err != nil {
			t.Fatal(err)
		}
		m.Logits(out, x)
		l := make([]float32, n*m.Config.VocabSize)
		m.Backend.Download(l, out)
		logits = append(logits, l...)
		from = to
	}
	return final, logits, cache
}

// TestGoldenModels checks hidden states of every layer, final norm, logits
// and the cache, in one call and in chunks on the cache.
func TestGoldenModels(t *testing.T) {
	for _, name := range llamaGoldens {
		t.Run(name, func(t *testing.T) {
			dir := shared(t, "golden", "models", name)
			m := load(t, dir, cpu.Options{})
			g := openGolden(t, dir)
			worst := 0.0
			for i := 0; i < 4; i++ {
				id, ok := g.file.Tensor(fmt.Sprintf("s%d.ids", i))
				if !ok {
					t.Fatalf("s%d.ids is missing", i)
				}
				wide, err := id.Int64(nil)
				if err != nil {
					t.Fatal(err)
				}
				ids := make([]int32, len(wide))
				for j, v := range wide {
					ids[j] = int32(v)
				}
				hidden := g.tensor(t, fmt.Sprintf("s%d.hidden", i))
				size := len(ids) * m.Config.HiddenSize
				for _, cuts := range [][]int{nil, {1}, {3, 4, 20}} {
					if len(cuts) > 0 && cuts[len(cuts)-1] >= len(ids) {
						continue
					}
					final, logits, cache := forward(t, m, ids, cuts, func(k int, rows []float32, from int) {
						worst = math.Max(worst, compare(t, fmt.Sprintf("s%d.hidden.%d", i, k), rows, hidden[k*size+from*m.Config.HiddenSize:][:len(rows)]))
					})
					worst = math.Max(worst, compare(t, fmt.Sprintf("s%d.final_norm", i), final, g.tensor(t, fmt.Sprintf("s%d.final_norm", i))))
					want := g.tensor(t, fmt.Sprintf("s%d.logits", i))
					worst = math.Max(worst, compare(t, fmt.Sprintf("s%d.logits", i), logits, want))
					v := m.Config.VocabSize
					for r := range ids {
						if a, b := argmax(logits[r*v:(r+1)*v]), argmax(want[r*v:(r+1)*v]); a != b {
							t.Errorf("s%d row %d: argmax %d, expected %d", i, r, a, b)
						}
					}
					if i == 2 {
						n, kvh, dh := len(ids), m.Config.KVHeads, m.Config.HeadDim
						k, v := make([]float32, n*kvh*dh), make([]float32, n*kvh*dh)
						cache.ReadKV(g.meta.Sequences[i].KVLayer, 0, n, k, v)
						worst = math.Max(worst, compare(t, "s2.k", headMajor(k, n, kvh, dh), g.tensor(t, "s2.k")))
						worst = math.Max(worst, compare(t, "s2.v", headMajor(v, n, kvh, dh), g.tensor(t, "s2.v")))
					}
				}
			}
			t.Logf("largest deviation %.1e, allowed %.0e", worst, tolerance)
		})
	}
}

func headMajor(x []float32, tokens, heads, dim int) []float32 {
	y := make([]float32, 0, len(x))
	for h := 0; h < heads; h++ {
		for r := 0; r < tokens; r++ {
			y = append(y, x[(r*heads+h)*dim:][:dim]...)
		}
	}
	return y
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// TestGoldenGreedy repeats the reference's continuations token by token.
func TestGoldenGreedy(t *testing.T) {
	for _, name := range llamaGoldens {
		t.Run(name, func(t *testing.T) {
			dir := shared(t, "golden", "models", name)
			m := load(t, dir, cpu.Options{})
			g := openGolden(t, dir)
			if len(g.meta.Greedy) == 0 {
				t.Fatal("golden.json has no greedy runs")
			}
			for i, run := range g.meta.Greedy {
				if len(run.Prompt) == 0 || len(run.Tokens) == 0 {
					t.Fatalf("greedy run %d is empty", i)
				}
				ids := append([]int32(nil), run.Prompt...)
				cache, err := m.NewCache(len(ids) + len(run.Tokens))
				if err != nil {
					t.Fatal(err)
				}
				var w Workspace
				done := 0
				for step, want := range run.Tokens {
					var b Batch
					b.Add(ids[done:], done, cache)
					done = len(ids)
					x, err := m.Embed(&w, &b)
					if err != nil {
						t.Fatal(err)
					}
					if err := m.Blocks(&w, x, &b, 1, m.Config.Layers); err != nil {
						t.Fatal(err)
					}
					m.Normalise(x, x)
					n := b.Rows()
					score := make([]backend.TokenScore, 1)
					if err := m.LogProbs(score, x, []backend.Target{{Row: int32(n - 1)}}); err != nil {
						t.Fatal(err)
					}
					if score[0].Argmax != want {
						t.Fatalf("run %d step %d: token %d, expected %d", i, step, score[0].Argmax, want)
					}
					ids = append(ids, want)
				}
			}
		})
	}
}
