package runner

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"testing"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/models/checkpoint"
	"splitbench/sim"
)

// writeRandom writes a Llama of random weights in a type, and returns its
// folder and the bytes of its tensors. Tensors share values, so that the test
// itself takes little memory.
func writeRandom(t *testing.T, dims sim.Dimensions, heads int64, dtype checkpoint.DType) (dir string, bytes int64) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	values := make([]float32, max(dims.Vocab, dims.Intermediate)*dims.Hidden)
	for i := range values {
		values[i] = float32(r.NormFloat64() * .02)
	}
	var tensors []checkpoint.NamedTensor
	add := func(name string, shape ...int64) {
		n, s := int64(1), []int{}
		for _, d := range shape {
			n *= d
			s = append(s, int(d))
		}
		tensors = append(tensors, checkpoint.NamedTensor{Name: name, DType: dtype, Shape: s, Data: values[:n]})
		bytes += n * int64(dtype.Bits()) / 8
	}
	d, kv, inner := dims.Hidden, dims.KVWidth, dims.Intermediate
	add("model.embed_tokens.weight", dims.Vocab, d)
	add("model.norm.weight", d)
	add("lm_head.weight", dims.Vocab, d)
	for l := range dims.Layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm.weight", d)
		add(p+"post_attention_layernorm.weight", d)
		add(p+"self_attn.q_proj.weight", d, d)
		add(p+"self_attn.k_proj.weight", kv, d)
		add(p+"self_attn.v_proj.weight", kv, d)
		add(p+"self_attn.o_proj.weight", d, d)
		add(p+"mlp.gate_proj.weight", inner, d)
		add(p+"mlp.up_proj.weight", inner, d)
		add(p+"mlp.down_proj.weight", d, inner)
	}
	dir = t.TempDir()
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := checkpoint.WriteSafetensors(f, tensors, nil); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": %d, "intermediate_size": %d,
		"num_hidden_layers": %d, "num_attention_heads": %d, "num_key_value_heads": %d, "vocab_size": %d, "max_position_embeddings": 256,
		"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false}`,
		d, inner, dims.Layers, heads, heads*kv/d, dims.Vocab)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, bytes
}

// resident reads a line of /proc/self/status in bytes.
func resident(t *testing.T, line string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc/self/status here")
	}
	m := regexp.MustCompile(line + `:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Skipf("/proc/self/status has no %s", line)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// restartPeak makes VmHWM count from now on and returns what is resident.
func restartPeak(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skip("the peak of resident memory cannot be reset here")
	}
	return resident(t, "VmRSS")
}

// TestResidentMemory loads a model and quantises all its layers: the process
// holds the weights as they are stored, once, and the codes that Eq. 1 counts.
func TestResidentMemory(t *testing.T) {
	dims := sim.Dimensions{Layers: 6, Hidden: 512, KVWidth: 256, Intermediate: 1408, Vocab: 4096}
	shape, err := dims.Shape()
	if err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []checkpoint.DType{checkpoint.F32, checkpoint.BF16} {
		t.Run(string(dtype), func(t *testing.T) {
			dir, stored := writeRandom(t, dims, 8, dtype)
			before := restartPeak(t)
			l, err := exec.Open(exec.Source{Path: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			// Read buffers, a few MiB of the file and the runtime's own come on top.
			const slack = 24 << 20
			if peak := resident(t, "VmHWM") - before; peak > stored+slack {
				t.Errorf("loading took %.1f MiB at its peak, the weights are %.1f MiB", float64(peak)/(1<<20), float64(stored)/(1<<20))
			}
			const bits = 4
			s, err := l.Engine.NewSession(exec.Method{SplitLayer: int(dims.Layers), WeightLayer: int(dims.Layers), Front: exec.Weights{Bits: bits, Group: sim.GroupSize}})
			if err != nil {
				t.Fatal(err)
			}
			// Eq. 1 counts 16 bits per group, here they are 40: a float32 scale and an 8-bit zero. Norms are not packed.
			counted, err := sim.WeightBits(shape, sim.Uniform(shape, bits, 16), dims.Layers, sim.Readings{Weights: sim.Grouped})
			if err != nil {
				t.Fatal(err)
			}
			want := counted + dims.Layers*(24*shape.LayerGroups-16*(shape.LayerParameters-shape.LayerLinear))
			if got := 8 * s.EdgeWeightBytes(); got != want {
				t.Errorf("the packed weights are %d bits, expected %d (Eq. 1 with its own scales: %d)", got, want, counted)
			}
			if peak := resident(t, "VmHWM") - before; peak > stored+want/8+2*slack {
				t.Errorf("quantising took %.1f MiB at its peak, the weights and codes are %.1f MiB", float64(peak)/(1<<20), float64(stored+want/8)/(1<<20))
			}
			t.Logf("weights %.1f MiB, codes %.1f MiB, peak %.1f MiB", float64(stored)/(1<<20), float64(want)/(8<<20), float64(resident(t, "VmHWM")-before)/(1<<20))
		})
	}
}

// TestModelsTakeTurns: a model's memory goes before the next one's comes.
func TestModelsTakeTurns(t *testing.T) {
	dims := sim.Dimensions{Layers: 3, Hidden: 512, KVWidth: 256, Intermediate: 4096, Vocab: 4096}
	var dirs [3]string
	var stored int64
	for i := range dirs {
		dirs[i], stored = writeRandom(t, dims, 8, checkpoint.F32)
	}
	w := NewWorkbench(Compute{})
	defer w.Close()
	before := restartPeak(t)
	for _, dir := range dirs {
		if _, err := w.Open(spec.Model{Name: "random", Path: dir}); err != nil {
			t.Fatal(err)
		}
	}
	if peak := resident(t, "VmHWM") - before; peak > stored*3/2 {
		t.Errorf("models of %.1f MiB, one at a time, took %.1f MiB at their peak", float64(stored)/(1<<20), float64(peak)/(1<<20))
	}
}
