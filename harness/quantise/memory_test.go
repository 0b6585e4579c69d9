package quantise

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"testing"

	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

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

// writeModel writes a checkpoint of random weights with few tokens.
func writeModel(t *testing.T, hidden, inner, layers int) string {
	t.Helper()
	const vocab = 64
	dir := t.TempDir()
	r := quantize.NewRandom(3)
	var all []checkpoint.NamedTensor
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.Float64()-0.5) / 16
		}
		if len(shape) == 1 {
			for i := range v {
				v[i] = 1
			}
		}
		all = append(all, checkpoint.NamedTensor{Name: name, Shape: shape, Data: v})
	}
	add("model.embed_tokens.weight", vocab, hidden)
	add("model.norm.weight", hidden)
	for k := range layers {
		p := fmt.Sprintf("model.layers.%d.", k)
		add(p+normNames[0]+".weight", hidden)
		add(p+normNames[1]+".weight", hidden)
		for i, n := range linearNames {
			out, in := hidden, hidden
			switch i {
			case decoder.GateMap, decoder.UpMap:
				out = inner
			case decoder.DownMap:
				in = inner
			}
			add(p+n+".weight", out, in)
		}
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := checkpoint.WriteSafetensors(f, all, nil); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": %d, "intermediate_size": %d, "num_hidden_layers": %d,
		"num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": %d, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
		"rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true}`, hidden, inner, layers, vocab)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPeakMemory quantizes layers that are large beside everything else: beyond
// the weights, those of the embedding and of the layer at hand, the process
// holds at most one more layer and one Hessian in float32.
func TestPeakMemory(t *testing.T) {
	const hidden, inner, layers = 512, 3072, 2
	dir := writeModel(t, hidden, inner, layers)
	debug.FreeOSMemory()
	be, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	calibration := make([][]int32, 2)
	for i := range calibration {
		for j := range 32 {
			calibration[i] = append(calibration[i], int32((7*i+j*j)%64))
		}
	}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	for name, m := range map[string]quantize.Method{
		"rtn": quantize.NewRTN(4, 0, false), "smoothquant": quantize.NewSmoothQuant(4, 4, 0.5, true),
		"atom": quantize.NewAtom(4, 4, 64, 64), // its GPTQ is that of the others
	} {
		t.Run(name, func(t *testing.T) {
			c, err := checkpoint.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			block, hessian := Sizes(c.Config)
			if want := int64(4 * (4*hidden*hidden + 3*hidden*inner)); block != want || hessian != 4*inner*inner {
				t.Fatalf("a layer of %d bytes and a Hessian of %d, expected %d and %d", block, hessian, want, 4*inner*inner)
			}
			var before int64
			o := Options{Progress: func(s Step) {
				if s.Block == 0 {
					debug.FreeOSMemory()
					if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
						t.Skip("the peak of resident memory cannot be reset here")
					}
					before = resident(t, "VmRSS")
				}
			}}
			out := t.TempDir()
			if _, err := Quantize(context.Background(), c, be, m, calibration, o, NewWriter(out, dir, NewHeader("", m, calibration))); err != nil {
				t.Fatal(err)
			}
			beyond := resident(t, "VmHWM") - before
			limit := 2*block + hessian
			const slack = 8 << 20 // the runtime's own
			t.Logf("peak %.1f MiB beyond the embedding; a layer is %.1f MiB, its Hessian %.1f MiB", mib(beyond), mib(block), mib(hessian))
			if beyond > limit+slack {
				t.Errorf("peak of %.1f MiB, expected at most %.1f MiB", mib(beyond), mib(limit))
			}
		})
	}
}
