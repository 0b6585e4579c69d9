package runner

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"splitbench/models/checkpoint"
	"splitbench/results"
	"splitbench/sim"
)

// servedSpec has requests of one length, so that what is computed by hand can be compared.
const servedSpec = `
name: served
models: [{name: tiny, path: "builtin:random-tiny"}]
tasks: [{name: piqa, path: "builtin:toy", limit: 1}]
methods: [{name: fp32}]
outputs: [server_time_vs_devices, server_tokens_vs_limit]
server:
  shapes: [Llama-2-7B]
  devices: [1, 2]
  max_tokens: [105]
  limits: [0, 105, 200]
  panels: [burst, poisson, static]
  seeds: 2
  workload: {jobs: 1, think_seconds: 0, prompt: {mean: 100, cv: 0}, output: {mean: 10, cv: 0, min: 1}}
`

func runServed(t *testing.T, text, out string) *Summary {
	t.Helper()
	sum, err := Run(context.Background(), loadText(t, text), Options{Out: out, Progress: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestServedRun: through a run come the hand-computed residences of Llama-2-7B, with tables and figures marked
// as modelled; the dimensions of the spec's model count; and a second run, or one with another number of
// workers, gives the same.
func TestServedRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "run")
	sum := runServed(t, servedSpec, out)
	r, err := results.OpenRun(out)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Server()
	if err != nil || s == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	if len(s.Times) != 2*3*2*2 || len(s.Tokens) != 3 {
		t.Fatalf("%d times, %d tokens", len(s.Times), len(s.Tokens))
	}
	for _, p := range s.Times {
		if p.Residence.Stderr > 1e-12 || p.Seeds != 2 {
			t.Errorf("equal requests, yet %+v", p)
		}
		if p.Model != "Llama-2-7B" {
			// Ten steps of 2 ms, and next to nothing for a model of this size.
			if p.MaxTokens == 0 && p.Devices == 1 && math.Abs(p.Residence.Mean-10*2.05e-3) > 1e-4 {
				t.Errorf("%+v, want 0.0205 s of residence", p)
			}
			continue
		}
		want := map[[2]int]float64{{0, 1}: 0.236389200, {105, 1}: 0.118158333, {0, 2}: 0.500667597}[[2]int{p.MaxTokens, p.Devices}]
		if want > 0 && p.Panel != "static" && math.Abs(p.Residence.Mean-want) > 1e-8 {
			t.Errorf("%+v, want a residence of %v s", p, want)
		}
	}
	for i, want := range []float64{10, 5, 0} {
		if math.Abs(s.Tokens[i].Tokens-want) > 1e-9 {
			t.Errorf("limit %d: %v tokens, want %v", s.Tokens[i].MaxTokens, s.Tokens[i].Tokens, want)
		}
	}
	if len(sum.FigureProblems) > 0 {
		t.Errorf("figures: %v", sum.FigureProblems)
	}
	want := map[string]string{ // and a word that each holds
		"tables/server_time.md": "| modelled | Llama-2-7B | poisson", "tables/server_time.csv": "modelled,tiny,burst,cloud-only,1,2,", "tables/server_time.tex": "modelled",
		"tables/server_tokens.md": "modelled", "figures/server_time_vs_devices-tiny.svg": "modelled, not measured", "figures/server_time_vs_devices-Llama-2-7B.svg": "NVIDIA RTX A6000, 768 GB/s",
		"figures/server_tokens_vs_limit.svg": "modelled, not measured", "figures/server_tokens_vs_limit.png": "PNG", "figures/server_tokens_vs_limit.pdf": "PDF",
	}
	for name, word := range want {
		if b, err := os.ReadFile(filepath.Join(out, name)); err != nil || !strings.Contains(string(b), word) {
			t.Errorf("%s: %v, or no %q in it", name, err, word)
		}
	}
	file := filepath.Join(out, "server.json")
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	runServed(t, servedSpec, out)
	if after, err := os.Stat(file); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("a second run simulates again: %v", err)
	}
	workers := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(workers)
	other := filepath.Join(t.TempDir(), "run")
	runServed(t, servedSpec, other)
	if b, err := os.ReadFile(filepath.Join(other, "server.json")); err != nil || string(b) != string(first) {
		t.Errorf("one worker gives other results: %v", err)
	}
}

// TestServerFits: a model that does not fit the server is told before anything runs.
func TestServerFits(t *testing.T) {
	s := loadText(t, servedSpec)
	s.Server.MemoryBytes = 14e9
	w := bench(t)
	if _, err := w.Validate(s); err == nil || !strings.Contains(err.Error(), "served: server, model Llama-2-7B: sim: the model's 6738415616 parameters in 16 bits leave no memory") || strings.Contains(err.Error(), "model tiny") {
		t.Errorf("a server of 14 GB: %v", err)
	}
	out := filepath.Join(t.TempDir(), "run")
	if _, err := Run(context.Background(), s, Options{Out: out, Progress: io.Discard}); err == nil {
		t.Error("it runs")
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a folder was made")
	}
}

// TestServerRequestFits: so is a request that does not fit beside the model.
func TestServerRequestFits(t *testing.T) {
	s := loadText(t, servedSpec)
	s.Server.MemoryBytes = (2*6738415616 + 1e9 + 1000.5*524288) / s.Server.Utilization
	s.Server.Workload.Prompt.Max = 600
	s.Server.Workload.Output.Max = 400
	w := bench(t)
	if _, err := w.Validate(s); err != nil {
		t.Errorf("requests of at most 1000 tokens: %v", err)
	}
	s.Server.Workload.Output.Max = 401
	if _, err := w.Validate(s); err == nil || !strings.Contains(err.Error(), "served: server, model Llama-2-7B: the longest request has 1001 tokens, expected at most the 1000 ") || strings.Contains(err.Error(), "model tiny") {
		t.Errorf("requests of 1001 tokens: %v", err)
	}
}

// TestServerCancelled: a simulation that is interrupted writes nothing.
func TestServerCancelled(t *testing.T) {
	r, err := results.Create(filepath.Join(t.TempDir(), "run"), []byte("name: x\n"), results.Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := loadText(t, servedSpec)
	if err := simulateServer(ctx, bench(t), s, r); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if stored, err := r.Server(); stored != nil || err != nil {
		t.Errorf("it wrote %+v, %v", stored, err)
	}
	var p results.ServerTime
	p.Devices, p.Seeds, p.Panel = 1, 1, "closed"
	if err := simulatePoint(ctx, s, sim.Shape{}, &p); !errors.Is(err, context.Canceled) {
		t.Errorf("a point that is interrupted: %v", err)
	}
}

// TestShapeOf: a tied head is counted once, and read with every token.
func TestShapeOf(t *testing.T) {
	c := checkpoint.Config{Architecture: "LlamaForCausalLM", Layers: 5, HiddenSize: 64, Heads: 8, KVHeads: 4, HeadDim: 8, IntermediateSize: 172, VocabSize: 512, TiedEmbeddings: true}
	want, err := sim.Dimensions{Layers: 5, Hidden: 64, KVWidth: 32, Intermediate: 172, Vocab: 512, Tied: true}.Shape()
	if err != nil {
		t.Fatal(err)
	}
	got := shapeOf(c)
	want.LayerLinear, want.LayerGroups = 0, 0 // which only the grouped reading of Eq. 1 counts
	if got != want {
		t.Errorf("shape %+v, want %+v", got, want)
	}
}
