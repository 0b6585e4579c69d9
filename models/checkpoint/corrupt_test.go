package checkpoint

import (
	"path/filepath"
	"strings"
	"testing"
)

// refusals gives for each case to be refused what the error line must name, taken from the wanted line of
// cases.json: the file, the tensor or key, and the numbers.
var refusals = map[string][]string{
	"truncated-data":             {"model.safetensors", "lm_head.weight", "262 bytes are missing"},
	"truncated-header":           {"model.safetensors", "header says", "bytes"},
	"empty-file":                 {"model.safetensors", "empty"},
	"short-file":                 {"model.safetensors", "5 bytes", "needs 8"},
	"header-length-zero":         {"model.safetensors", "header of 0 bytes is not JSON"},
	"header-length-beyond-file":  {"model.safetensors", "header says 1099511627776 bytes"},
	"header-length-max":          {"model.safetensors", "header says 18446744073709551615 bytes"},
	"header-not-json":            {"model.safetensors", "header is not JSON"},
	"header-not-object":          {"model.safetensors", "header must be a JSON object"},
	"header-not-utf8":            {"model.safetensors", "header is not UTF-8"},
	"header-deep-nesting":        {"model.safetensors", "header"},
	"header-duplicate-name":      {"model.safetensors", "model.layers.0.mlp.gate_proj.weight is declared twice"},
	"git-lfs-pointer":            {"model.safetensors", "Git LFS pointer", "not downloaded"},
	"offsets-overlap":            {"model.layers.0.mlp.gate_proj.weight overlaps model.layers.0.mlp.down_proj.weight", "32 bytes"},
	"offsets-out-of-range":       {"lm_head.weight", "ends 64 bytes after the end of the data"},
	"offsets-huge":               {"lm_head.weight lies outside the file"},
	"offsets-gap":                {"16 bytes before tensor model.layers.0.mlp.gate_proj.weight belong to no tensor"},
	"trailing-bytes":             {"16 bytes after the last tensor belong to no tensor"},
	"offsets-reversed":           {"model.layers.0.mlp.gate_proj.weight", "end before they begin"},
	"offsets-negative":           {"model.embed_tokens.weight", "negative offset"},
	"offsets-fractional":         {"model.layers.0.mlp.gate_proj.weight", "offset is not an integer"},
	"dtype-unknown":              {"model.layers.0.mlp.gate_proj.weight", "unknown dtype F12"},
	"dtype-not-a-weight":         {"model.layers.0.mlp.gate_proj.weight", "dtype I16", "is not a float type (F64, F32, F16, BF16)"},
	"shape-product-mismatch":     {"model.layers.0.mlp.gate_proj.weight", "shape [24, 17] of F16 needs 816 bytes", "768"},
	"shape-overflow":             {"model.layers.0.mlp.gate_proj.weight", "too large", "overflows 64 bits"},
	"shape-negative":             {"model.layers.0.mlp.gate_proj.weight", "negative dimension"},
	"missing-tensor":             {"model.safetensors", "model.layers.0.mlp.up_proj.weight is missing"},
	"missing-lm-head":            {"model.safetensors", "lm_head.weight is missing", "tie_word_embeddings is false"},
	"extra-tensor":               {"model.layers.0.self_attn.k_norm.weight", "is not used by LlamaForCausalLM: the architecture is probably another one"},
	"extra-bias":                 {"model.layers.0.self_attn.q_proj.bias", "exists, but attention_bias is false"},
	"transposed-tensor":          {"model.layers.0.mlp.gate_proj.weight has shape [16, 24], expected [24, 16]"},
	"flat-tensor":                {"model.layers.1.self_attn.q_proj.weight has shape [256], expected [16, 16]"},
	"nan-weight":                 {"model.safetensors", "model.layers.0.mlp.gate_proj.weight contains NaN (row 1, column 3)"},
	"inf-weight":                 {"model.safetensors", "model.layers.0.mlp.gate_proj.weight contains +Inf (row 0, column 2)"},
	"index-missing-shard":        {"index.json", "shard model-00002-of-00002.safetensors named by the index does not exist"},
	"duplicate-tensor-in-shards": {"index.json", "model.layers.0.self_attn.v_proj.weight is in both shards", "different values"},
	"index-wrong-shard":          {"index.json", "model.layers.0.self_attn.v_proj.weight is not in model-00002-of-00002.safetensors, where the index puts it"},
	"index-missing-entry":        {"index.json", "model.layers.0.self_attn.v_proj.weight is missing in the index (it is in model-00001-of-00002.safetensors)"},
	"index-path-traversal":       {"index.json", "must be a plain file name"},
	"index-absolute-path":        {"index.json", "must be a plain file name"},
	"index-no-weight-map":        {"index.json", "no weight_map"},
	"index-not-json":             {"index.json", "is not JSON"},
	"pickle-only":                {"no safetensors weights; pytorch_model.bin is not supported, convert it"},
	"no-weights":                 {"no model.safetensors and no model.safetensors.index.json in the folder"},
	"config-unsupported-arch":    {"config.json", "architecture GPTNeoXForCausalLM is not supported", "LlamaForCausalLM"},
	"config-unknown-arch":        {"config.json", "architecture FooForCausalLM is not supported"},
	"config-arch-disagrees":      {"config.json", "architectures says Qwen2ForCausalLM but model_type says llama"},
	"config-rope-type-unknown":   {"config.json", "rope_scaling", "spiral is not supported"},
	"config-rope-factor-missing": {"config.json", "rope_scaling.factor is missing"},
	"config-rope-keys-disagree":  {"config.json", "rope_scaling.rope_type dynamic", "type linear", "contradict each other"},
	"config-vocab-larger":        {"model.embed_tokens.weight", "48 rows", "vocab_size", "64"},
	"config-vocab-smaller":       {"model.embed_tokens.weight", "48 rows", "vocab_size", "32"},
	"config-layers-more":         {"model.layers.2.*", "missing", "the file has 2 layers", "says 3"},
	"config-layers-fewer":        {"the file has 2 layers", "says 1"},
	"config-heads-not-divisor":   {"config.json", "hidden_size 16 is no multiple of num_attention_heads 5"},
	"config-kv-not-divisor":      {"config.json", "num_attention_heads 4 is no multiple of num_key_value_heads 3"},
	"config-missing-hidden-size": {"config.json", "hidden_size is missing"},
	"config-string-number":       {"config.json", "hidden_size must be an integer"},
	"config-negative":            {"config.json", "num_hidden_layers must be positive", "-2"},
	"config-absurd":              {"config.json", "num_hidden_layers", "absurd"},
	"config-gelu":                {"config.json", "hidden_act gelu is not supported for llama", "silu"},
	"config-quantized":           {"config.json", "the checkpoint is quantized (gptq): not supported"},
	"config-not-json":            {"config.json is not JSON"},
	"config-absent":              {"config.json is missing"},
	"config-tied-but-head-stored": {"lm_head.weight", "is stored and differs from model.embed_tokens.weight",
		"tie_word_embeddings is true"},
}

// TestCorruptCheckpoints opens every broken or odd checkpoint of the shared set and runs the good ones.
func TestCorruptCheckpoints(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "corrupt")
	var table struct {
		IDs   []int32
		Cases []struct{ Case, Kind, Want string }
	}
	readJSON(t, filepath.Join(dir, "cases.json"), &table)
	if len(table.Cases) != 81 {
		t.Errorf("%d cases, want 81", len(table.Cases))
	}
	_, logits := mustTensor(t, mustOpenFile(t, filepath.Join(dir, "base", "golden.safetensors")), "logits_true")
	_, tiedLogits := mustTensor(t, mustOpenFile(t, filepath.Join(dir, "ok-tied", "golden.safetensors")), "logits")

	refused := 0
	for _, c := range table.Cases {
		t.Run(c.Case, func(t *testing.T) {
			model, err := Open(filepath.Join(dir, c.Case))
			if err == nil {
				defer model.Close()
				err = readAll(model)
			}
			if c.Kind == "refuse" {
				refused++
				parts, ok := refusals[c.Case]
				if !ok {
					t.Fatal("the test does not know what this case must say")
				}
				wantError(t, err, append(parts, c.Case)...)
				if err != nil {
					t.Logf("\n  want: %s\n  got:  %s", c.Want, strings.ReplaceAll(err.Error(), dir, "corrupt"))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want, tolerance := logits, 1e-12
			if strings.HasPrefix(c.Case, "ok-tied") { // float32 reference
				want, tolerance = tiedLogits, 1e-5
			}
			got, _ := forward(t, model, table.IDs)
			if d := maxDifference(got, want); d > tolerance {
				t.Errorf("logits differ from the reference by %g, want at most %g", d, tolerance)
			} else {
				t.Logf("logits within %.1e of the reference", d)
			}
		})
	}
	if refused != 65 || len(refusals) != 65 {
		t.Errorf("%d cases refused (%d known), want 65", refused, len(refusals))
	}
}
