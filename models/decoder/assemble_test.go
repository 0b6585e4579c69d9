package decoder

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
)

const assembledConfig = `{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,
"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":11,"max_position_embeddings":64,"rms_norm_eps":1e-5,"rope_theta":10000.0,
"hidden_act":"silu","tie_word_embeddings":false,"torch_dtype":"float32"}`

// TestAssemble compares with the model that is loaded from a checkpoint of the
// same weights.
func TestAssemble(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(assembledConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	stored := map[string][]float32{}
	var all []checkpoint.NamedTensor
	add := func(name string, shape ...int) {
		var v []float32
		n := 1
		for _, d := range shape {
			n *= d
		}
		for range n {
			x := float32(.3 * rng.NormFloat64())
			if len(shape) == 1 {
				x = 1
			}
			v = append(v, x)
		}
		stored[name] = v
		all = append(all, checkpoint.NamedTensor{Name: name, Shape: shape, Data: v})
	}
	add("model.embed_tokens.weight", 11, 16)
	for _, p := range []string{"model.layers.0.", "model.layers.1."} {
		add(p+"input_layernorm.weight", 16)
		add(p+"post_attention_layernorm.weight", 16)
		add(p+"self_attn.q_proj.weight", 16, 16)
		add(p+"self_attn.k_proj.weight", 8, 16)
		add(p+"self_attn.v_proj.weight", 8, 16)
		add(p+"self_attn.o_proj.weight", 16, 16)
		add(p+"mlp.gate_proj.weight", 24, 16)
		add(p+"mlp.up_proj.weight", 24, 16)
		add(p+"mlp.down_proj.weight", 16, 24)
	}
	add("model.norm.weight", 16)
	add("lm_head.weight", 11, 16)
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.WriteSafetensors(f, all, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want := load(t, dir, cpu.Options{Workers: 1})

	be := want.Backend
	put := func(name string, out, in int) (backend.Weight, error) {
		return be.NewWeight(backend.Dense{Out: out, In: in, Fill: func(dst []float32, from, to int) error {
			copy(dst, stored[name][from*in:to*in])
			return nil
		}})
	}
	must := func(w backend.Weight, err error) backend.Weight {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	c := want.Config
	p := Parts{Embedding: must(put("model.embed_tokens.weight", 11, 16)), Head: must(put("lm_head.weight", 11, 16))}
	for _, prefix := range []string{"model.layers.0.", "model.layers.1."} {
		l, err := BuildLayer(c, be, func(name string, out, in int) (backend.Weight, error) { return put(prefix+name+".weight", out, in) })
		if err != nil {
			t.Fatal(err)
		}
		p.Layers = append(p.Layers, l)
		p.FinalNorm = l.AttentionNorm
	}
	got, err := Assemble(c, be, p)
	if err != nil {
		t.Fatal(err)
	}
	none := func(int, []float32, int) {}
	ids := []int32{1, 5, 10, 2, 2}
	_, a, _ := forward(t, want, ids, nil, none)
	_, b, _ := forward(t, got, ids, nil, none)
	if !slices.Equal(a, b) {
		t.Error("the assembled model gives other logits than the loaded one")
	}
	if _, err := got.QuantisedLayer(1, nil); err == nil || !strings.Contains(err.Error(), "model without checkpoint") {
		t.Errorf("QuantisedLayer without reference weights: error %v", err)
	}

	wrong := p
	wrong.Layers = p.Layers[:1]
	if _, err := Assemble(c, be, wrong); err == nil || err.Error() != "1 layers of weights, the configuration has 2" {
		t.Errorf("one layer: error %v", err)
	}
	wrong = p
	wrong.Layers = slices.Clone(p.Layers)
	wrong.Layers[1].Down = wrong.Layers[1].Up
	if _, err := Assemble(c, be, wrong); err == nil || err.Error() != "layer 2: mlp.down_proj is 24 x 16, expected 16 x 24" {
		t.Errorf("wrong map: error %v", err)
	}
	wrong = p
	wrong.Head = p.Layers[0].Up.Weight
	if _, err := Assemble(c, be, wrong); err == nil || err.Error() != "the head is 24 x 16, expected 11 x 16" {
		t.Errorf("wrong head: error %v", err)
	}
}
