package decoder

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
)

// goldens are the checkpoints of golden/models that are run, with what its
// README.md allows between two float32 implementations, on every tensor.
// llama-dynamic-ntk is refused when its config is read.
var goldens = []struct {
	name      string
	tolerance float64
}{
	{"llama2-mha", 1e-4}, {"llama2-mha-f16", 1e-4}, {"llama2-mha-bf16", 1e-4}, {"llama31-gqa", 1e-4}, {"llama-tied-linear-bias", 1e-4},
	{"qwen2-untied", 1e-4}, {"qwen2-tied", 1e-4}, {"qwen2-swa", 1e-4}, {"qwen2-yarn", 1e-4},
	{"mistral-nemo", 1e-4}, {"mistral-swa", 1e-4},
	{"phi4", 1e-4}, {"phi3-partial", 1e-4}, {"phi3-longrope", 3e-4},
}

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
	file      *checkpoint.File
	tolerance float64
	worst     float64 // largest deviation that compare met
	meta      struct {
		Sequences []struct {
			KVLayer    int `json:"kv_layer"`
			TraceLayer int `json:"trace_layer"`
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

// ids returns sequence i, 0 to 3.
func (g *golden) ids(t *testing.T, i int) []int32 {
	t.Helper()
	x, ok := g.file.Tensor(fmt.Sprintf("s%d.ids", i))
	if !ok {
		t.Fatalf("s%d.ids is missing", i)
	}
	ids, err := x.Int32(nil)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func openGolden(t *testing.T, dir string, tolerance float64) *golden {
	t.Helper()
	g := &golden{tolerance: tolerance}
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

func (g *golden) compare(t *testing.T, what string, have, want []float32) {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("%s has %d values, expected %d", what, len(have), len(want))
	}
	for i := range have {
		d := math.Abs(float64(have[i]) - float64(want[i]))
		if !(d <= g.tolerance) {
			t.Fatalf("%s[%d] = %v, expected %v", what, i, have[i], want[i])
		}
		g.worst = math.Max(g.worst, d)
	}
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
		if len(cuts) == 0 {
			b.Add(ids, 0, cache)
		} else {
			b.AddPart(ids[from:to], from, len(ids), cache)
		}
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
	for _, model := range goldens {
		t.Run(model.name, func(t *testing.T) {
			dir := shared(t, "golden", "models", model.name)
			m := load(t, dir, cpu.Options{})
			g := openGolden(t, dir, model.tolerance)
			for i := 0; i < 4; i++ {
				ids := g.ids(t, i)
				hidden := g.tensor(t, fmt.Sprintf("s%d.hidden", i))
				size := len(ids) * m.Config.HiddenSize
				for _, cuts := range [][]int{nil, {1}, {3, 4, 20}} {
					if len(cuts) > 0 && cuts[len(cuts)-1] >= len(ids) {
						continue
					}
					final, logits, cache := forward(t, m, ids, cuts, func(k int, rows []float32, from int) {
						want := hidden[k*size+from*m.Config.HiddenSize:][:len(rows)]
						if k == 0 && !slices.Equal(rows, want) { // the stored values, widened: exact
							t.Fatalf("s%d: the embedding differs", i)
						}
						g.compare(t, fmt.Sprintf("s%d.hidden.%d", i, k), rows, want)
					})
					g.compare(t, fmt.Sprintf("s%d.final_norm", i), final, g.tensor(t, fmt.Sprintf("s%d.final_norm", i)))
					want := g.tensor(t, fmt.Sprintf("s%d.logits", i))
					g.compare(t, fmt.Sprintf("s%d.logits", i), logits, want)
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
						g.compare(t, "s2.k", headMajor(k, n, kvh, dh), g.tensor(t, "s2.k"))
						g.compare(t, "s2.v", headMajor(v, n, kvh, dh), g.tensor(t, "s2.v"))
					}
				}
			}
			t.Logf("largest deviation %.1e, allowed %.0e", g.worst, g.tolerance)
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
// Where longrope changes its rotations, the reference computes the cache anew.
func TestGoldenGreedy(t *testing.T) {
	for _, model := range goldens {
		t.Run(model.name, func(t *testing.T) {
			dir := shared(t, "golden", "models", model.name)
			m := load(t, dir, cpu.Options{})
			g := openGolden(t, dir, model.tolerance)
			if len(g.meta.Greedy) != 2 {
				t.Fatalf("golden.json has %d greedy runs, expected 2", len(g.meta.Greedy))
			}
			crossings := 0
			for i, run := range g.meta.Greedy {
				if len(run.Prompt) == 0 || len(run.Tokens) != 32 {
					t.Fatalf("greedy run %d has a prompt of %d and %d tokens", i, len(run.Prompt), len(run.Tokens))
				}
				ids := append([]int32(nil), run.Prompt...)
				cache, err := m.NewCache(len(ids) + len(run.Tokens))
				if err != nil {
					t.Fatal(err)
				}
				var w Workspace
				done := 0
				for step, want := range run.Tokens {
					if limit := m.rope.limit; m.rope.long != nil && done <= limit && len(ids) > limit {
						done = 0
						crossings++
					}
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
					if step == len(run.Tokens)-1 {
						out, err := m.Backend.Alloc(1, m.Config.VocabSize)
						if err != nil {
							t.Fatal(err)
						}
						m.Logits(out, x.Slice(n-1, n))
						logits := make([]float32, m.Config.VocabSize)
						m.Backend.Download(logits, out)
						name := fmt.Sprintf("g%d.last_logits", i)
						g.compare(t, name, logits, g.tensor(t, name))
					}
					ids = append(ids, want)
				}
			}
			if m.rope.long != nil && crossings != 1 {
				t.Errorf("%d runs crossed the original length, expected 1", crossings)
			}
		})
	}
}

// recorder keeps what the operations of one forward pass read and wrote.
type recorder struct {
	backend.Backend
	t                        *testing.T
	norms, inputs, projected [][]float32 // in the order of the calls
}

func (r *recorder) rows(m backend.Matrix) []float32 {
	v := make([]float32, m.Rows()*m.Cols())
	r.Download(v, m)
	return v
}

func (r *recorder) RMSNorm(dst, src backend.Matrix, gain backend.Vector, epsilon float64) {
	r.Backend.RMSNorm(dst, src, gain, epsilon)
	r.norms = append(r.norms, r.rows(dst))
}

func (r *recorder) MatMul(dst, src backend.Matrix, w backend.Weight, bias backend.Vector, accumulate bool) {
	alone, err := r.Alloc(dst.Rows(), dst.Cols())
	if err != nil {
		r.t.Fatal(err)
	}
	r.Backend.MatMul(alone, src, w, bias, false)
	r.inputs = append(r.inputs, r.rows(src))
	r.projected = append(r.projected, r.rows(alone))
	r.Backend.MatMul(dst, src, w, bias, accumulate)
}

// TestGoldenTrace checks what happens inside one layer.
func TestGoldenTrace(t *testing.T) {
	for _, model := range goldens {
		t.Run(model.name, func(t *testing.T) {
			dir := shared(t, "golden", "models", model.name)
			m := load(t, dir, cpu.Options{})
			g := openGolden(t, dir, model.tolerance)
			ids := g.ids(t, 1)
			layer := g.meta.Sequences[1].TraceLayer + 1
			cache, err := m.NewCache(len(ids))
			if err != nil {
				t.Fatal(err)
			}
			var w Workspace
			var b Batch
			b.Add(ids, 0, cache)
			x, err := m.Embed(&w, &b)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Blocks(&w, x, &b, 1, layer-1); err != nil {
				t.Fatal(err)
			}
			r := &recorder{Backend: m.Backend, t: t}
			watched := *m
			watched.Backend = r
			if err := watched.Blocks(&w, x, &b, layer, layer); err != nil {
				t.Fatal(err)
			}
			if len(r.norms) != 2 || len(r.projected) != 7 {
				t.Fatalf("a layer has %d norms and %d linear maps, expected 2 and 7", len(r.norms), len(r.projected))
			}
			trace := map[string][]float32{
				"attn_norm": r.norms[0], "mlp_norm": r.norms[1],
				"o_proj_in": r.inputs[3], "o_proj": r.projected[3],
				"down_proj_in": r.inputs[6], "down_proj": r.projected[6],
			}
			if m.Config.Architecture == "Phi3ForCausalLM" { // fused in the reference
				trace["qkv_proj"] = beside(len(ids), r.projected[0], r.projected[1], r.projected[2])
				trace["gate_up_proj"] = beside(len(ids), r.projected[4], r.projected[5])
			} else {
				trace["q_proj"], trace["k_proj"], trace["v_proj"] = r.projected[0], r.projected[1], r.projected[2]
				trace["gate_proj"], trace["up_proj"] = r.projected[4], r.projected[5]
			}
			for name, have := range trace {
				g.compare(t, name, have, g.tensor(t, "s1.trace."+name))
			}
		})
	}
}

// beside joins matrices of equal rows column by column.
func beside(rows int, parts ...[]float32) []float32 {
	var out []float32
	for r := range rows {
		for _, p := range parts {
			n := len(p) / rows
			out = append(out, p[r*n:(r+1)*n]...)
		}
	}
	return out
}
