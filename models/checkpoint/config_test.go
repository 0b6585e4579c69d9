package checkpoint

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// goldenModels are the shared checkpoints that open, with the number of other spellings of their configs.
var goldenModels = map[string]int{
	"llama2-mha": 5, "llama2-mha-f16": 1, "llama2-mha-bf16": 1, "llama31-gqa": 2, "llama-tied-linear-bias": 3,
	"qwen2-untied": 3, "qwen2-tied": 1, "qwen2-swa": 2, "qwen2-yarn": 2, "mistral-nemo": 2, "mistral-swa": 1,
	"phi4": 2, "phi3-partial": 1, "phi3-longrope": 3,
}

// TestConfigSpellings reads all spellings of the shared checkpoints: those of one folder are one model.
func TestConfigSpellings(t *testing.T) {
	dir := sharedDir(t, "golden", "models")
	for model, spellings := range goldenModels {
		want, err := ReadConfig(filepath.Join(dir, model))
		if err != nil {
			t.Error(err)
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, model, "config.*.json"))
		if err != nil || len(files) != spellings {
			t.Errorf("%s: %d spellings, want %d, %v", model, len(files), spellings, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseConfig(data, file)
			if err != nil {
				t.Error(err)
				continue
			}
			if filepath.Base(file) == "config.131072.json" { // a spelling of the published file with another limit
				if got.MaxPositions != 131072 || want.MaxPositions != 1024000 {
					t.Errorf("%s: %d positions, config.json %d", file, got.MaxPositions, want.MaxPositions)
				}
				got.MaxPositions = want.MaxPositions
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: differs from config.json (-config.json +this):\n%s", file, diff)
			}
		}
	}
}

// TestConfigValues checks configs of the shared set against their text, typed again.
func TestConfigValues(t *testing.T) {
	dir := sharedDir(t, "golden", "models")
	for model, want := range map[string]Config{
		"llama31-gqa": {
			Architecture: "LlamaForCausalLM", HiddenSize: 64, IntermediateSize: 160, Layers: 4, Heads: 4, KVHeads: 2, HeadDim: 16,
			VocabSize: 320, MaxPositions: 131072, NormEpsilon: 1e-5,
			Rope: RopeConfig{Theta: 500000, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 64},
			BOS:  []int32{1}, EOS: []int32{2, 3, 4}, StoredDType: "bfloat16",
		},
		"llama-tied-linear-bias": {
			Architecture: "LlamaForCausalLM", HiddenSize: 48, IntermediateSize: 112, Layers: 4, Heads: 6, KVHeads: 3, HeadDim: 8,
			VocabSize: 272, MaxPositions: 256, NormEpsilon: 1e-5, TiedEmbeddings: true, AttentionBias: true, OutputBias: true, MLPBias: true,
			Rope: RopeConfig{Theta: 10000, Type: "linear", Factor: 2}, BOS: []int32{1}, EOS: []int32{2}, StoredDType: "float16",
		},
		"qwen2-swa": {
			Architecture: "Qwen2ForCausalLM", HiddenSize: 64, IntermediateSize: 128, Layers: 4, Heads: 4, KVHeads: 2, HeadDim: 16,
			VocabSize: 272, MaxPositions: 131072, NormEpsilon: 1e-6, AttentionBias: true, Windows: []int{0, 0, 16, 16},
			Rope: RopeConfig{Theta: 1000000, Type: "default"}, BOS: []int32{1}, EOS: []int32{2}, StoredDType: "bfloat16",
		},
		"qwen2-yarn": {
			Architecture: "Qwen2ForCausalLM", HiddenSize: 64, IntermediateSize: 112, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 16,
			VocabSize: 272, MaxPositions: 128, NormEpsilon: 1e-5, AttentionBias: true,
			Rope: RopeConfig{Theta: 10000, Type: "yarn", Factor: 4, BetaFast: 32, BetaSlow: 1, OriginalMaxPositions: 32, AttentionFactor: 1.138629436111989},
			BOS:  []int32{1}, EOS: []int32{2}, StoredDType: "bfloat16",
		},
		"mistral-swa": {
			Architecture: "MistralForCausalLM", HiddenSize: 64, IntermediateSize: 128, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 16,
			VocabSize: 288, MaxPositions: 32768, NormEpsilon: 1e-5, Windows: []int{16, 16, 16},
			Rope: RopeConfig{Theta: 10000, Type: "default"}, BOS: []int32{1}, EOS: []int32{2}, StoredDType: "bfloat16",
		},
		"phi3-partial": {
			Architecture: "Phi3ForCausalLM", HiddenSize: 64, IntermediateSize: 112, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 16,
			VocabSize: 288, MaxPositions: 16384, NormEpsilon: 1e-5, Windows: []int{262144, 262144, 262144},
			Rope: RopeConfig{Theta: 10000, Type: "default", Width: 8}, BOS: []int32{1}, EOS: []int32{2}, StoredDType: "bfloat16",
		},
		"phi3-longrope": {
			Architecture: "Phi3ForCausalLM", HiddenSize: 64, IntermediateSize: 112, Layers: 3, Heads: 4, KVHeads: 4, HeadDim: 16,
			VocabSize: 272, MaxPositions: 2048, NormEpsilon: 1e-5, Windows: []int{262144, 262144, 262144},
			Rope: RopeConfig{
				Theta: 10000, Type: "longrope", OriginalMaxPositions: 64, AttentionFactor: 1.3540064007726602,
				ShortFactors: []float64{1, 1.03, 1.06, 1.09, 1.12, 1.15, 1.18, 1.21},
				LongFactors:  []float64{1.05, 1.95, 3.5956, 5.7265, 8.25, 11.1123, 14.2772, 17.7182},
			},
			BOS: []int32{1}, EOS: []int32{2}, StoredDType: "bfloat16",
		},
	} {
		got, err := ReadConfig(filepath.Join(dir, model))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", model, diff)
		}
	}
}

// TestDynamicIsRefused reads the configs of the one shared checkpoint that has no defined result on a cache.
func TestDynamicIsRefused(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "llama-dynamic-ntk")
	files, err := filepath.Glob(filepath.Join(dir, "config*.json"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parseConfig(data, file)
		wantError(t, err, file, "rope_", "type dynamic is not supported: its frequencies depend on the length of every call", "default, linear, llama3")
	}
	_, err = Open(dir)
	wantError(t, err, "config.json: rope_scaling.type dynamic is not supported")
}

// baseConfig is a good config as JSON values.
func baseConfig() map[string]string {
	return map[string]string{
		"architectures": `["LlamaForCausalLM"]`, "model_type": `"llama"`, "hidden_size": "16", "intermediate_size": "24",
		"num_hidden_layers": "2", "num_attention_heads": "4", "num_key_value_heads": "2", "vocab_size": "48",
		"max_position_embeddings": "128", "rms_norm_eps": "1e-5", "hidden_act": `"silu"`, "rope_theta": "10000.0",
		"tie_word_embeddings": "false", "bos_token_id": "1", "eos_token_id": "2", "torch_dtype": `"float16"`,
	}
}

// with returns baseConfig with keys changed; a value "" removes the key.
func with(t *testing.T, change map[string]string) []byte {
	t.Helper()
	c := baseConfig()
	maps.Copy(c, change)
	raw := make(map[string]json.RawMessage)
	for key, v := range c {
		if v != "" {
			raw[key] = json.RawMessage(v)
		}
	}
	data, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestConfigRefusals(t *testing.T) {
	for _, c := range []struct {
		change map[string]string
		want   []string
	}{
		{map[string]string{"hidden_size": "16.0"}, []string{"hidden_size must be an integer, got 16.0"}},
		{map[string]string{"hidden_size": "1e2"}, []string{"hidden_size must be an integer, got 1e2"}},
		{map[string]string{"hidden_size": "null"}, []string{"hidden_size must be an integer, got null"}},
		{map[string]string{"hidden_size": "true"}, []string{"hidden_size must be an integer, got true"}},
		{map[string]string{"hidden_size": "[16]"}, []string{"hidden_size must be an integer, got a list"}},
		{map[string]string{"hidden_size": "{}"}, []string{"hidden_size must be an integer, got an object"}},
		{map[string]string{"hidden_size": "0"}, []string{"hidden_size must be positive, got 0"}},
		{map[string]string{"hidden_size": "99999999999999999999"}, []string{"hidden_size is 99999999999999999999, which is absurd"}},
		{map[string]string{"intermediate_size": ""}, []string{"intermediate_size is missing"}},
		{map[string]string{"num_hidden_layers": ""}, []string{"num_hidden_layers is missing"}},
		{map[string]string{"num_attention_heads": ""}, []string{"num_attention_heads is missing"}},
		{map[string]string{"vocab_size": ""}, []string{"vocab_size is missing"}},
		{map[string]string{"max_position_embeddings": ""}, []string{"max_position_embeddings is missing"}},
		{map[string]string{"max_position_embeddings": "4000000000"}, []string{"max_position_embeddings is 4000000000, which is absurd"}},
		{map[string]string{"num_key_value_heads": "8"}, []string{"num_attention_heads 4 is no multiple of num_key_value_heads 8"}},
		{map[string]string{"num_key_value_heads": "-1"}, []string{"num_key_value_heads must be positive"}},
		{map[string]string{"head_dim": "3"}, []string{"head_dim 3 is odd"}},
		{map[string]string{"hidden_size": "20", "num_attention_heads": "4"}, []string{"head_dim 5 is odd"}},
		{map[string]string{"head_dim": "1048576", "num_attention_heads": "1048576"}, []string{"num_attention_heads 1048576 times head_dim 1048576 is absurd"}},
		{map[string]string{"rms_norm_eps": "0"}, []string{"rms_norm_eps must be between 0 and 1"}},
		{map[string]string{"rms_norm_eps": "null"}, []string{"rms_norm_eps must be a number, got null"}},
		{map[string]string{"rms_norm_eps": "1e999"}, []string{"rms_norm_eps is 1e999, beyond float64"}},
		{map[string]string{"rms_norm_eps": `"1e-5"`}, []string{`rms_norm_eps must be a number, got the string "1e-5"`}},
		{map[string]string{"tie_word_embeddings": "1"}, []string{"tie_word_embeddings must be true or false, got 1"}},
		{map[string]string{"tie_word_embeddings": "null"}, []string{"tie_word_embeddings must be true or false, got null"}},
		{map[string]string{"attention_bias": `"no"`}, []string{"attention_bias must be true or false"}},
		{map[string]string{"hidden_act": "3"}, []string{"hidden_act must be a string, got 3"}},
		{map[string]string{"bos_token_id": "-1"}, []string{"bos_token_id must be a token id, got -1"}},
		{map[string]string{"eos_token_id": "[2, 3.5]"}, []string{"eos_token_id must be an integer, got 3.5"}},
		{map[string]string{"torch_dtype": `"int8"`}, []string{"torch_dtype int8 is not supported"}},
		{map[string]string{"dtype": `"float32"`}, []string{"torch_dtype float16 and dtype float32 contradict each other"}},
		{map[string]string{"architectures": "", "model_type": ""}, []string{"architectures is missing"}},
		{map[string]string{"architectures": "null", "model_type": `"gpt_neox"`},
			[]string{"model_type gpt_neox is not supported (supported: LlamaForCausalLM, Qwen2ForCausalLM, MistralForCausalLM, Phi3ForCausalLM)"}},
		{map[string]string{"architectures": `["LlamaForCausalLM","FooForCausalLM"]`}, []string{"architectures must be a list of one name"}},
		{map[string]string{"architectures": `"LlamaForCausalLM"`}, []string{"architectures must be a list of one name"}},
		{map[string]string{"architectures": `[3]`}, []string{"architectures must be a list of one name"}},
		{map[string]string{"model_type": `"mistral"`}, []string{"architectures says LlamaForCausalLM but model_type says mistral"}},
		{map[string]string{"model_type": "7"}, []string{"model_type must be a string"}},
		{map[string]string{"architectures": `["a\nb"]`, "model_type": `"x"`}, []string{`architecture "a\nb" is not supported`}},
		{map[string]string{"quantization_config": "{}"}, []string{"quantization_config", "is quantized"}},
		{map[string]string{"quantization_config": `"fp8"`}, []string{"quantization_config", "is quantized"}},
		{map[string]string{"compression_config": `{"quant_method":"compressed-tensors"}`}, []string{"compression_config", "compressed-tensors"}},
		{map[string]string{"sliding_window": "4096"}, []string{"sliding_window 4096 is not supported"}},
		{map[string]string{"use_sliding_window": "true"}, []string{"use_sliding_window true is not supported"}},
		{map[string]string{"partial_rotary_factor": "0.5"}, []string{"partial_rotary_factor 0.5 is not supported"}},
		{map[string]string{"layer_types": `["full_attention","sliding_attention"]`}, []string{"layer_types a list is not supported", "full_attention in all layers"}},
		{map[string]string{"residual_multiplier": "0.22"}, []string{"residual_multiplier 0.22 is not supported", "supported: 1"}},

		{map[string]string{"rope_theta": "0"}, []string{"rope_theta must be at least 1"}},
		{map[string]string{"rope_theta": "true"}, []string{"rope_theta must be a number"}},
		{map[string]string{"rope_scaling": "2"}, []string{"rope_scaling must be an object, got 2"}},
		{map[string]string{"rope_scaling": `{"factor":2}`}, []string{"rope_scaling.factor 2 is not supported", "rope type default"}},
		{map[string]string{"rope_scaling": `{"type":3}`}, []string{"rope_scaling.type must be a string"}},
		{map[string]string{"rope_scaling": `{"type":"linear","factor":0.5}`}, []string{"rope_scaling.factor must be at least 1"}},
		{map[string]string{"rope_scaling": `{"type":"linear","factor":"2"}`}, []string{"rope_scaling.factor must be a number"}},
		{map[string]string{"rope_scaling": `{"type":"linear","factor":null}`}, []string{"rope_scaling.factor is missing"}},
		{map[string]string{"rope_parameters": `{"rope_type":"linear"}`}, []string{"rope_parameters.factor is missing"}},
		{map[string]string{"rope_scaling": `{"type":"linear","factor":2,"beta_fast":32}`}, []string{"rope_scaling.beta_fast is not supported", "rope type linear"}},
		{map[string]string{"rope_scaling": `{"type":"yarn","factor":4}`}, []string{"rope_scaling.original_max_position_embeddings is missing, rope type yarn needs it"}},
		{map[string]string{"rope_scaling": `{"type":"longrope"}`}, []string{"rope_scaling.type longrope is not supported"}},
		{map[string]string{"rope_scaling": `{"type":"linear","factor":2}`, "rope_parameters": `{"rope_type":"llama3","factor":2}`},
			[]string{"rope_scaling.type linear and rope_parameters.rope_type llama3 contradict each other"}},
		{map[string]string{"rope_scaling": `{"type":"linear","factor":2}`, "rope_parameters": `{"rope_type":"linear","factor":4}`},
			[]string{"rope_scaling.factor 2 and rope_parameters.factor 4 contradict each other"}},
		{map[string]string{"rope_parameters": `{"rope_type":"default","rope_theta":500000}`},
			[]string{"rope_theta 10000.0 and rope_parameters.rope_theta 500000 contradict each other"}},
		{map[string]string{"rope_parameters": `{"full_attention":{"rope_type":"default"}}`}, []string{"rope_parameters.full_attention is not supported"}},
		{map[string]string{"rope_parameters": `{"rope_type":"default","partial_rotary_factor":0.5}`}, []string{"rope_parameters.partial_rotary_factor 0.5 is not supported"}},
		{map[string]string{"rope_scaling": `{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}`},
			[]string{"rope_scaling.original_max_position_embeddings is missing"}},
		{map[string]string{"rope_scaling": `{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,"original_max_position_embeddings":64}`},
			[]string{"rope_scaling.high_freq_factor must be greater than low_freq_factor 4, got 4"}},
		{map[string]string{"rope_scaling": `{"rope_type":"llama3","factor":8,"low_freq_factor":0,"high_freq_factor":4,"original_max_position_embeddings":64}`},
			[]string{"rope_scaling.low_freq_factor must be positive, got 0"}},
		{map[string]string{"rope_scaling": `{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":64.5}`},
			[]string{"rope_scaling.original_max_position_embeddings must be an integer"}},
		{map[string]string{"original_max_position_embeddings": "9999999999"}, []string{"original_max_position_embeddings must be between 1 and"}},
	} {
		_, err := parseConfig(with(t, c.change), "config.json")
		t.Run(fmt.Sprint(c.change), func(t *testing.T) { wantError(t, err, append(c.want, "config.json: ")...) })
	}

	for text, want := range map[string]string{
		"":                                  "config.json is not JSON: unexpected end",
		"[]":                                "config.json: expected a JSON object",
		`{"a":1,"a":2}`:                     "config.json: key a is declared twice",
		`{"rope_scaling":{"a":1,"a":2}}`:    "config.json: key a is declared twice",
		`{"a":1}{}`:                         "config.json is not JSON: unexpected '{', expected the end",
		"{\"a\":\"\xff\"}":                  "config.json is not UTF-8 (byte 6)",
		"\ufeff{}":                          "config.json: expected a JSON object",
		`{"a":NaN}`:                         "config.json is not JSON: unexpected 'N'",
		`{"a":01}`:                          "config.json is not JSON",
		`{"a":` + strings.Repeat("[", 1000): "nested deeper than 64 levels",
		"version https://git-lfs.github.com/spec/v1\noid x": "Git LFS pointer",
	} {
		_, err := parseConfig([]byte(text), "config.json")
		wantError(t, err, want)
	}
}

func TestConfigDefaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		change map[string]string
		see    func(c Config) bool
	}{
		{"kv heads absent", map[string]string{"num_key_value_heads": ""}, func(c Config) bool { return c.KVHeads == 4 }},
		{"kv heads null", map[string]string{"num_key_value_heads": "null"}, func(c Config) bool { return c.KVHeads == 4 }},
		{"head dim absent", nil, func(c Config) bool { return c.HeadDim == 4 }},
		{"head dim null", map[string]string{"head_dim": "null"}, func(c Config) bool { return c.HeadDim == 4 }},
		{"head dim stated", map[string]string{"head_dim": "6"}, func(c Config) bool { return c.HeadDim == 6 && c.QueryWidth() == 24 && c.KVWidth() == 12 }},
		{"epsilon absent", map[string]string{"rms_norm_eps": ""}, func(c Config) bool { return c.NormEpsilon == 1e-6 }},
		{"theta absent", map[string]string{"rope_theta": ""}, func(c Config) bool { return cmp.Equal(c.Rope, RopeConfig{Theta: 10000, Type: "default"}) }},
		{"theta integer", map[string]string{"rope_theta": "250000"}, func(c Config) bool { return c.Rope.Theta == 250000 }},
		{"tied absent", map[string]string{"tie_word_embeddings": ""}, func(c Config) bool { return !c.TiedEmbeddings }},
		{"act absent", map[string]string{"hidden_act": ""}, func(c Config) bool { return true }},
		{"tokens absent", map[string]string{"bos_token_id": "", "eos_token_id": "null"}, func(c Config) bool { return c.BOS == nil && c.EOS == nil }},
		{"architectures absent", map[string]string{"architectures": ""}, func(c Config) bool { return c.Architecture == "LlamaForCausalLM" }},
		{"model type absent", map[string]string{"model_type": ""}, func(c Config) bool { return c.Architecture == "LlamaForCausalLM" }},
		{"dtype prefix", map[string]string{"torch_dtype": `"torch.bfloat16"`}, func(c Config) bool { return c.StoredDType == "bfloat16" }},
		{"dtype auto", map[string]string{"torch_dtype": `"auto"`}, func(c Config) bool { return c.StoredDType == "" }},
		{"both rope places agree", map[string]string{"rope_scaling": `{"type":"linear","factor":2}`,
			"rope_parameters": `{"rope_type":"linear","factor":2.0,"rope_theta":1e4}`},
			func(c Config) bool { return cmp.Equal(c.Rope, RopeConfig{Theta: 10000, Type: "linear", Factor: 2}) }},
		{"original length beside", map[string]string{"original_max_position_embeddings": "64",
			"rope_scaling": `{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}`},
			func(c Config) bool { return c.Rope.OriginalMaxPositions == 64 }},
		{"nulls state nothing", map[string]string{"rope_scaling": `{"rope_type":"linear","factor":2,"attention_factor":null}`, "sliding_window": "null",
			"quantization_config": "null"}, func(c Config) bool { return c.Rope.Type == "linear" }},
		{"neutral values", map[string]string{"layer_types": `["full_attention","full_attention"]`, "partial_rotary_factor": "1.0",
			"use_sliding_window": "false"}, func(c Config) bool { return c.Windows == nil }},
		{"default with factor 1", map[string]string{"rope_scaling": `{"rope_type":"default","factor":1.0}`}, func(c Config) bool { return c.Rope.Type == "default" }},
	} {
		got, err := parseConfig(with(t, c.change), "config.json")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !c.see(got) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestReadConfigPaths(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadConfig(dir)
	wantError(t, err, "config.json is missing")
	_, err = ReadConfig(filepath.Join(dir, "none"))
	wantError(t, err, "none does not exist")
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.Repeat(" ", maxConfigBytes+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = ReadConfig(dir)
	wantError(t, err, "config.json", "expected at most 16777216")
}
