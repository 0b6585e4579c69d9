package checkpoint

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// family returns the keys that turn baseConfig into one of another family.
func family(name, modelType string, change map[string]string) map[string]string {
	keys := map[string]string{"architectures": `["` + name + `"]`, "model_type": `"` + modelType + `"`}
	maps.Copy(keys, change)
	return keys
}

func asQwen2(change map[string]string) map[string]string {
	return family("Qwen2ForCausalLM", "qwen2", change)
}

func asMistral(change map[string]string) map[string]string {
	return family("MistralForCausalLM", "mistral", change)
}

func asPhi3(change map[string]string) map[string]string {
	return family("Phi3ForCausalLM", "phi3", change)
}

// longropeScaling is a good scaling for the four dimensions of a head of baseConfig.
const longropeScaling = `{"type":"longrope","short_factor":[1,1.5],"long_factor":[2,4]}`

// TestFamilyDefaults checks what an absent key and null mean: the trap list of golden/models/README.md.
func TestFamilyDefaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		change map[string]string
		see    func(c Config) bool
	}{
		{"Mistral without sliding_window", asMistral(nil), func(c Config) bool { return slices.Equal(c.Windows, []int{4096, 4096}) }},
		{"Mistral with null", asMistral(map[string]string{"sliding_window": "null"}), func(c Config) bool { return c.Windows == nil }},
		{"Mistral, other families' keys agree", asMistral(map[string]string{"sliding_window": "8", "use_sliding_window": "true",
			"layer_types": `["sliding_attention","sliding_attention"]`}), func(c Config) bool { return c.WindowOf(0) == 8 && c.WindowOf(1) == 8 }},
		{"Mistral, null kv heads", asMistral(map[string]string{"num_key_value_heads": "null"}), func(c Config) bool { return c.KVHeads == 4 }},
		{"Mistral, absent kv heads", asMistral(map[string]string{"num_key_value_heads": "", "num_attention_heads": "16", "hidden_size": "32"}),
			func(c Config) bool { return c.KVHeads == 8 }},
		{"Mistral, head_dim", asMistral(map[string]string{"head_dim": "8"}), func(c Config) bool { return c.QueryWidth() == 32 && c.HiddenSize == 16 }},
		{"Mistral, epsilon absent", asMistral(map[string]string{"rms_norm_eps": ""}), func(c Config) bool { return c.NormEpsilon == 1e-6 }},
		{"Qwen2 without any window key", asQwen2(nil), func(c Config) bool { return c.Windows == nil && c.AttentionBias && !c.OutputBias && !c.MLPBias }},
		{"Qwen2, window not in use", asQwen2(map[string]string{"sliding_window": "8", "max_window_layers": "0"}), func(c Config) bool { return c.Windows == nil }},
		{"Qwen2, window without its size", asQwen2(map[string]string{"use_sliding_window": "true", "max_window_layers": "1"}),
			func(c Config) bool {
				return slices.Equal(c.Windows, []int{0, 4096}) && c.WindowOf(0) == 0 && c.WindowOf(1) == 4096
			}},
		{"Qwen2, max_window_layers absent", asQwen2(map[string]string{"use_sliding_window": "true", "num_hidden_layers": "30", "sliding_window": "8"}),
			func(c Config) bool { return c.WindowOf(27) == 0 && c.WindowOf(28) == 8 && c.WindowOf(29) == 8 }},
		{"Qwen2, max_window_layers 0", asQwen2(map[string]string{"use_sliding_window": "true", "max_window_layers": "0", "sliding_window": "8"}),
			func(c Config) bool { return slices.Equal(c.Windows, []int{8, 8}) }},
		{"Qwen2, max_window_layers beyond the model", asQwen2(map[string]string{"use_sliding_window": "true", "max_window_layers": "70", "sliding_window": "8"}),
			func(c Config) bool { return c.Windows == nil }},
		{"Qwen2, null window in use", asQwen2(map[string]string{"use_sliding_window": "true", "max_window_layers": "0", "sliding_window": "null"}),
			func(c Config) bool { return c.Windows == nil }},
		{"Qwen2, layer_types before max_window_layers", asQwen2(map[string]string{"use_sliding_window": "true", "max_window_layers": "0", "sliding_window": "8",
			"layer_types": `["sliding_attention","full_attention"]`}), func(c Config) bool { return slices.Equal(c.Windows, []int{8, 0}) }},
		{"Qwen2, null kv heads", asQwen2(map[string]string{"num_key_value_heads": "null"}), func(c Config) bool { return c.KVHeads == 4 }},
		{"Qwen2, absent kv heads", asQwen2(map[string]string{"num_key_value_heads": "", "num_attention_heads": "32", "hidden_size": "64"}),
			func(c Config) bool { return c.KVHeads == 32 }},
		{"Qwen2, yarn in full", asQwen2(map[string]string{"rope_parameters": `{"rope_type":"yarn","type":"yarn","factor":1,"original_max_position_embeddings":64,
			"beta_fast":16,"beta_slow":2,"attention_factor":1.5,"truncate":true,"rope_theta":10000,"partial_rotary_factor":1.0}`}), func(c Config) bool {
			return cmp.Equal(c.Rope, RopeConfig{Theta: 10000, Type: "yarn", Factor: 1, BetaFast: 16, BetaSlow: 2, OriginalMaxPositions: 64, AttentionFactor: 1.5})
		}},
		{"Qwen2, yarn that does not stretch", asQwen2(map[string]string{"rope_scaling": `{"type":"yarn","factor":1,"original_max_position_embeddings":64}`}),
			func(c Config) bool { return c.Rope.AttentionFactor == 1 }},
		{"Phi3 without sliding_window", asPhi3(nil), func(c Config) bool { return c.Windows == nil && c.Rope.Width == 0 && c.RotaryWidth() == 4 }},
		{"Phi3, absent kv heads", asPhi3(map[string]string{"num_key_value_heads": ""}), func(c Config) bool { return c.KVHeads == 4 }},
		{"Phi3, epsilon absent", asPhi3(map[string]string{"rms_norm_eps": ""}), func(c Config) bool { return c.NormEpsilon == 1e-5 }},
		{"Phi3, half of a head", asPhi3(map[string]string{"partial_rotary_factor": "0.5"}), func(c Config) bool { return c.RotaryWidth() == 2 && c.HeadDim == 4 }},
		{"Phi3, longrope", asPhi3(map[string]string{"rope_scaling": longropeScaling, "original_max_position_embeddings": "16"}), func(c Config) bool {
			// sqrt(1 + ln(128/16)/ln(16)) = sqrt(1.75)
			return cmp.Equal(c.Rope, RopeConfig{Theta: 10000, Type: "longrope", ShortFactors: []float64{1, 1.5}, LongFactors: []float64{2, 4},
				OriginalMaxPositions: 16, AttentionFactor: 1.3228756555322954})
		}},
		{"Phi3, longrope that does not stretch", asPhi3(map[string]string{"rope_scaling": longropeScaling, "original_max_position_embeddings": "128"}),
			func(c Config) bool { return c.Rope.AttentionFactor == 1 }},
		{"Phi3, longrope on half of a head", asPhi3(map[string]string{"partial_rotary_factor": "0.5", "original_max_position_embeddings": "16",
			"rope_scaling": `{"type":"su","rope_type":"longrope","short_factor":[1],"long_factor":[2],"factor":8,"attention_factor":1.25}`}),
			func(c Config) bool {
				return len(c.Rope.LongFactors) == 1 && c.Rope.AttentionFactor == 1.25 && c.Rope.Type == "longrope"
			}},
		{"Phi3, longrope under the name yarn", asPhi3(map[string]string{"original_max_position_embeddings": "16",
			"rope_scaling": strings.Replace(longropeScaling, "longrope", "yarn", 1)}), func(c Config) bool { return c.Rope.Type == "longrope" }},
		{"Llama, yarn", map[string]string{"rope_scaling": `{"type":"yarn","factor":4,"original_max_position_embeddings":32}`},
			func(c Config) bool { return c.Rope.Type == "yarn" && c.Rope.BetaFast == 32 && c.Rope.BetaSlow == 1 }},
	} {
		got, err := parseConfig(with(t, c.change), "config.json")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !c.see(got) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestFamilyRefusals(t *testing.T) {
	scaling := func(text string) map[string]string {
		return asPhi3(map[string]string{"rope_scaling": text, "original_max_position_embeddings": "16"})
	}
	for _, c := range []struct {
		change map[string]string
		want   string
	}{
		{asQwen2(map[string]string{"model_type": `"phi3"`}), "architectures says Qwen2ForCausalLM but model_type says phi3"},
		{asQwen2(map[string]string{"num_key_value_heads": ""}), "num_key_value_heads is absent, which means 32, and num_attention_heads 4 is no multiple of it"},
		{asMistral(map[string]string{"num_key_value_heads": ""}), "num_key_value_heads is absent, which means 8"},
		{asQwen2(map[string]string{"layer_types": `["full_attention","sliding_attention"]`}), "layer_types names sliding_attention, but use_sliding_window is false"},
		{asQwen2(map[string]string{"use_sliding_window": "true", "sliding_window": "null", "layer_types": `["full_attention","sliding_attention"]`}),
			"layer_types names sliding_attention, but sliding_window is null"},
		{asQwen2(map[string]string{"layer_types": `["full_attention"]`}), "layer_types must be a list of 2 kinds of attention"},
		{asQwen2(map[string]string{"layer_types": `"full_attention"`}), "layer_types must be a list of 2 kinds of attention"},
		{asQwen2(map[string]string{"layer_types": `["full_attention","chunked_attention"]`}), "layer_types names chunked_attention, which is not supported"},
		{asQwen2(map[string]string{"layer_types": `["full_attention",3]`}), "layer_types names 3, which is not supported"},
		{asQwen2(map[string]string{"use_sliding_window": "null"}), "use_sliding_window must be true or false, got null"},
		{asQwen2(map[string]string{"use_sliding_window": "true", "max_window_layers": "-1"}), "max_window_layers must not be negative, got -1"},
		{asQwen2(map[string]string{"use_sliding_window": "true", "max_window_layers": "null"}), "max_window_layers must be an integer, got null"},
		{asQwen2(map[string]string{"use_sliding_window": "true", "sliding_window": "0"}), "sliding_window must be positive, got 0"},
		{asQwen2(map[string]string{"partial_rotary_factor": "0.5"}), "partial_rotary_factor 0.5 is not supported for Qwen2ForCausalLM"},
		{asQwen2(map[string]string{"mlp_bias": "true"}), "mlp_bias true is not supported for Qwen2ForCausalLM (supported: false)"},
		{asQwen2(map[string]string{"num_experts": "60"}), "num_experts 60 is not supported"},
		{asQwen2(map[string]string{"rope_scaling": `{"type":"longrope"}`}), "rope_scaling.type longrope is not supported for Qwen2ForCausalLM"},
		{asQwen2(map[string]string{"rope_scaling": `{"type":"dynamic","factor":2}`}), "rope_scaling.type dynamic is not supported: its frequencies depend on the length"},
		{asQwen2(map[string]string{"rope_scaling": `{"type":"yarn","factor":4,"original_max_position_embeddings":64,"mscale":1}`}), "rope_scaling.mscale is not supported"},
		{asQwen2(map[string]string{"rope_scaling": `{"type":"yarn","factor":4,"original_max_position_embeddings":64,"truncate":false}`}),
			"rope_scaling.truncate false is not supported"},
		{asQwen2(map[string]string{"rope_scaling": `{"type":"yarn","factor":4,"original_max_position_embeddings":64,"beta_fast":0}`}), "rope_scaling.beta_fast must be positive"},
		{asQwen2(map[string]string{"rope_scaling": `{"type":"yarn","factor":4,"original_max_position_embeddings":64,"beta_fast":0.5}`}), "beta_fast 0.5 is less than beta_slow 1"},
		{asQwen2(map[string]string{"rope_theta": "1", "rope_scaling": `{"type":"yarn","factor":4,"original_max_position_embeddings":64}`}), "rope_theta must be greater than 1"},
		{asMistral(map[string]string{"attention_bias": "true"}), "attention_bias true is not supported for MistralForCausalLM"},
		{asMistral(map[string]string{"use_sliding_window": "false"}), "use_sliding_window is false, but sliding_window is absent, which means a window"},
		{asMistral(map[string]string{"use_sliding_window": "true", "sliding_window": "null"}), "use_sliding_window is true, but sliding_window is null"},
		{asMistral(map[string]string{"layer_types": `["full_attention","sliding_attention"]`, "sliding_window": "8"}),
			"layer_types is not sliding_attention in all layers, but sliding_window is 8"},
		{asMistral(map[string]string{"sliding_window": `"8"`}), "sliding_window must be an integer"},
		{asPhi3(map[string]string{"layer_types": `["full_attention","sliding_attention"]`}), "layer_types is not full_attention in all layers, but sliding_window is absent"},
		{asPhi3(map[string]string{"lm_head_bias": "true"}), "lm_head_bias true is not supported for Phi3ForCausalLM"},
		{asPhi3(map[string]string{"partial_rotary_factor": "1.5"}), "partial_rotary_factor 1.5 of head_dim 4 is not an even number"},
		{asPhi3(map[string]string{"partial_rotary_factor": "0.25"}), "partial_rotary_factor 0.25 of head_dim 4 is not an even number"},
		{asPhi3(map[string]string{"partial_rotary_factor": "0.75"}), "partial_rotary_factor 0.75 of head_dim 4 is not an even number"},
		{asPhi3(map[string]string{"partial_rotary_factor": "0"}), "partial_rotary_factor must be positive, got 0"},
		{asPhi3(map[string]string{"partial_rotary_factor": "0.5", "rope_parameters": `{"partial_rotary_factor":1}`}),
			"partial_rotary_factor 0.5 and rope_parameters.partial_rotary_factor 1 contradict each other"},
		{scaling(`{"type":"yarn","factor":4}`), "rope_scaling.short_factor is missing, rope type longrope needs it"},
		{scaling(`{"type":"linear","factor":4}`), "rope_scaling.type linear is not supported for Phi3ForCausalLM (supported: default, longrope)"},
		{scaling(`{"type":"su","short_factor":[1,1],"long_factor":[1]}`), "rope_scaling.long_factor must be a list of 2 numbers"},
		{scaling(`{"type":"su","short_factor":{},"long_factor":[1,1]}`), "rope_scaling.short_factor must be a list of 2 numbers"},
		{scaling(`{"type":"su","short_factor":[1,0],"long_factor":[1,1]}`), "rope_scaling.short_factor must be positive numbers, got 0"},
		{scaling(`{"type":"su","short_factor":[1,"2"],"long_factor":[1,1]}`), "rope_scaling.short_factor must be a number"},
		{scaling(`{"type":"su","short_factor":[1,2],"long_factor":[1,1],"long_mscale":1.2}`), "rope_scaling.long_mscale is not supported"},
		{scaling(`{"type":"su","short_factor":[1,2],"long_factor":[1,1],"factor":4}`),
			"rope_scaling.factor 4 is not max_position_embeddings 128 over original_max_position_embeddings 16"},
		{asPhi3(map[string]string{"rope_scaling": longropeScaling}), "original_max_position_embeddings is missing, rope type longrope needs it"},
		{asPhi3(map[string]string{"rope_scaling": longropeScaling, "original_max_position_embeddings": "1"}), "original_max_position_embeddings must be greater than 1"},
		{asPhi3(map[string]string{"original_max_position_embeddings": "16", "rope_scaling": `{"original_max_position_embeddings":32}`}), "contradict each other"},
	} {
		_, err := parseConfig(with(t, c.change), "config.json")
		wantError(t, err, "config.json: ", c.want)
	}
}

// TestFusedWeights checks that the views of a fused matrix are its rows, in place, and that an error says where.
func TestFusedWeights(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "phi4")
	c := mustOpen(t, dir)
	file := mustOpenFile(t, filepath.Join(dir, weightsFile))
	var views int64
	for _, name := range c.Names() {
		w := must(c.Tensor(name))
		if strings.Contains(name, "qkv_proj") || strings.Contains(name, "gate_up_proj") || w.Name != name {
			t.Errorf("%s is offered as %s", w.Name, name)
		}
		views += w.Bytes()
	}
	var stored int64
	for _, name := range file.Names() {
		w, _ := file.Tensor(name)
		stored += w.Bytes()
	}
	if views != stored || len(c.Names()) != 3+4*9 {
		t.Errorf("%d tensors with %d bytes, want 39 with %d", len(c.Names()), views, stored)
	}
	_, err := c.Tensor("model.layers.0.self_attn.qkv_proj.weight")
	wantError(t, err, "has no tensor model.layers.0.self_attn.qkv_proj.weight")
	fused, _ := file.Tensor("model.layers.3.self_attn.qkv_proj.weight")
	rows := must(fused.Float32(nil))
	_, columns := fused.Matrix()
	q, kv := c.Config.QueryWidth(), c.Config.KVWidth()
	for name, span := range map[string][2]int{"q_proj": {0, q}, "k_proj": {q, q + kv}, "v_proj": {q + kv, q + 2*kv}} {
		w := must(c.Tensor("model.layers.3.self_attn." + name + ".weight"))
		if !slices.Equal(w.Shape, []int{span[1] - span[0], columns}) || !slices.Equal(must(w.Float32(nil)), rows[span[0]*columns:span[1]*columns]) {
			t.Errorf("%s is not rows %v", name, span)
		}
		if !slices.Equal(w.RowBytes(1), fused.RowBytes(span[0]+1)) {
			t.Errorf("row 1 of %s is another one", name)
		}
	}
	if a, b := must(c.Digest()), must(mustOpen(t, dir).Digest()); a != b {
		t.Error("two digests")
	}

	// The same file with a NaN in the second row of k.
	folder := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(dir, weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	k := must(c.Tensor("model.layers.3.self_attn.k_proj.weight"))
	place := strings.Index(string(raw), string(k.RowBytes(1)))
	binary.LittleEndian.PutUint16(raw[place+2*5:], 0x7fc0)
	if err := os.WriteFile(filepath.Join(folder, weightsFile), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(dir, "config.json"), filepath.Join(folder, "config.json"))
	err = readAll(mustOpen(t, folder))
	wantError(t, err, "tensor model.layers.3.self_attn.k_proj.weight (rows 64 to 79 of model.layers.3.self_attn.qkv_proj.weight) contains NaN (row 1, column 5)")

	// A fused matrix of another size names the stored tensor.
	rewrite(t, filepath.Join(folder, "config.json"), `"num_key_value_heads": 2`, `"num_key_value_heads": 4`)
	_, err = Open(folder)
	wantError(t, err, "tensor model.layers.0.self_attn.qkv_proj.weight has shape [96, 64], expected [128, 64]")
}

// TestScoringCheckpoints opens the checkpoints of the shared scoring set.
func TestScoringCheckpoints(t *testing.T) {
	dir := sharedDir(t, "golden", "lmeval", "models")
	for model, architecture := range map[string]string{"rand_llama2": "LlamaForCausalLM", "rand_llama3": "LlamaForCausalLM", "rand_qwen2": "Qwen2ForCausalLM"} {
		c := mustOpen(t, filepath.Join(dir, model))
		if c.Config.Architecture != architecture {
			t.Errorf("%s is a %s", model, c.Config.Architecture)
		}
		if err := readAll(c); err != nil {
			t.Error(err)
		}
	}
}
