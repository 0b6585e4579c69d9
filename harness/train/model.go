package train

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"splitbench/experiments/spec"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
)

// config is the architecture of a training for a tokenizer of the given size.
func config(m spec.TrainedModel, tokens int) (checkpoint.Config, error) {
	if m.Vocabulary == 0 {
		m.Vocabulary = tokens
	}
	if m.Vocabulary < tokens {
		return checkpoint.Config{}, fmt.Errorf("model.vocabulary is %d, the tokenizer has %d tokens, expected at least as many", m.Vocabulary, tokens)
	}
	c := checkpoint.Config{
		Architecture: "LlamaForCausalLM", HiddenSize: m.HiddenSize, IntermediateSize: m.IntermediateSize, Layers: m.Layers,
		Heads: m.Heads, KVHeads: m.KVHeads, HeadDim: m.HeadDim, VocabSize: m.Vocabulary, MaxPositions: m.MaxPositions,
		NormEpsilon: m.NormEpsilon, TiedEmbeddings: m.TiedEmbeddings, Rope: checkpoint.RopeConfig{Type: "default", Theta: m.RopeTheta},
	}
	all := int64(0)
	for _, s := range decoder.Spans(c) {
		n := int64(1)
		for _, d := range s.Shape {
			n *= int64(d)
		}
		all += n
	}
	if all > maxParameters {
		return checkpoint.Config{}, fmt.Errorf("model has %d parameters, expected at most %d", all, int64(maxParameters))
	}
	return c, nil
}

// Limits on the memory of a training, which holds four float32 for each parameter, and several for each activation.
const (
	maxParameters  = 1 << 31
	maxActivations = 1 << 32
)

// checkActivations refuses steps of so many tokens that the values that the blocks keep for the gradients would not fit
// in any memory. longest is the number of tokens of the longest sequence.
func checkActivations(c checkpoint.Config, batch, longest int) error {
	tokens := int64(max(batch, longest))
	width := int64(c.HiddenSize) + int64(c.IntermediateSize) + int64(c.Heads)*int64(c.HeadDim)
	if n := tokens * int64(c.Layers) * width; n > maxActivations {
		return fmt.Errorf("training.batch_tokens %d and sequences of up to %d tokens give a step %d values to keep in %d layers of width %d, expected at most %d", batch, longest, n, c.Layers, width, int64(maxActivations))
	}
	return nil
}

// initialise draws the first weights: norms are 1, matrices normal with the given deviation, which is divided by the
// root of twice the layers for the maps that write to the residual stream (Radford et al. 2019, GPT-2).
func initialise(memory []float32, c checkpoint.Config, deviation float64, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	for _, s := range decoder.Spans(c) {
		part := memory[:s.Len()]
		memory = memory[s.Len():]
		if len(s.Shape) == 1 {
			for i := range part {
				part[i] = 1
			}
			continue
		}
		d := deviation
		if strings.HasSuffix(s.Name, "o_proj.weight") || strings.HasSuffix(s.Name, "down_proj.weight") {
			d /= math.Sqrt(float64(2 * c.Layers))
		}
		for i := range part {
			part[i] = float32(r.NormFloat64() * d)
		}
	}
}

// decays says whether weight decay acts on a parameter: on the matrices of the blocks and an untied head.
func decays(s decoder.Span) bool {
	return len(s.Shape) == 2 && s.Name != "model.embed_tokens.weight"
}

// products is the number of multiplications of matrices with one token in a forward pass, attention scores not
// counted: 6 floating-point operations each in a step of training.
func products(c checkpoint.Config) int {
	n := 0
	for _, s := range decoder.Spans(c) {
		if decays(s) {
			n += s.Len()
		}
	}
	if c.TiedEmbeddings {
		n += c.VocabSize * c.HiddenSize
	}
	return n
}

// named are the parameters in memory as tensors of a checkpoint.
func named(memory []float32, c checkpoint.Config, dtype string) []checkpoint.NamedTensor {
	stored := checkpoint.F32
	if dtype == "bfloat16" {
		stored = checkpoint.BF16
	}
	var all []checkpoint.NamedTensor
	for _, s := range decoder.Spans(c) {
		all = append(all, checkpoint.NamedTensor{Name: s.Name, DType: stored, Shape: s.Shape, Data: memory[:s.Len()]})
		memory = memory[s.Len():]
	}
	return all
}

// rounded returns the values that a type keeps of x, as a copy.
func rounded(x []float32, dtype string) []float32 {
	y := append([]float32(nil), x...)
	if dtype == "bfloat16" {
		for i, v := range y {
			y[i] = checkpoint.BFloat16ToFloat32(checkpoint.Float32ToBFloat16(v))
		}
	}
	return y
}

// configJSON is config.json as the loaders of the family expect it.
func configJSON(c checkpoint.Config, dtype string, bos, eos int32) []byte {
	return indented(map[string]any{
		"architectures": []string{c.Architecture}, "model_type": "llama", "hidden_size": c.HiddenSize, "intermediate_size": c.IntermediateSize,
		"num_hidden_layers": c.Layers, "num_attention_heads": c.Heads, "num_key_value_heads": c.KVHeads, "head_dim": c.HeadDim,
		"vocab_size": c.VocabSize, "max_position_embeddings": c.MaxPositions, "rms_norm_eps": c.NormEpsilon, "rope_theta": c.Rope.Theta,
		"hidden_act": "silu", "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": c.TiedEmbeddings,
		"bos_token_id": bos, "eos_token_id": eos, "torch_dtype": dtype, "use_cache": true,
	})
}

// indented is v as JSON of several lines. Keys are sorted.
func indented(v any) []byte {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("train: " + err.Error()) // v is made of strings and finite numbers
	}
	return append(text, '\n')
}
