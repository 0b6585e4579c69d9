package checkpoint

import "slices"

// llama is the row of Llama, Llama-2 and Llama-3: RMSNorm, rotary embedding, grouped-query attention and a
// gated feed-forward block with SiLU.
var llama = architecture{
	name:        "LlamaForCausalLM",
	modelType:   "llama",
	normEpsilon: 1e-6,
	ropeTypes:   []string{"default", "linear", "llama3", "yarn"},
	read: func(f *configFields, c *Config) {
		c.KVHeads = f.kvHeads(c.Heads, c.Heads)
		c.HeadDim = f.sizeOr("head_dim", maxWidth, 0)
		c.AttentionBias = f.flag("attention_bias", false)
		c.OutputBias = c.AttentionBias
		c.MLPBias = f.flag("mlp_bias", false)
	},
	neutral: slices.Concat(denseNeutral, []neutralKey{
		{"sliding_window", onlyNull, "null"},
		{"use_sliding_window", onlyFalse, "false"},
		{"layer_types", onlyFullAttention, "full_attention in all layers"},
	}),
	optional: map[string]string{
		"self_attn.q_proj.bias": "attention_bias",
		"self_attn.k_proj.bias": "attention_bias",
		"self_attn.v_proj.bias": "attention_bias",
		"self_attn.o_proj.bias": "attention_bias",
		"mlp.gate_proj.bias":    "mlp_bias",
		"mlp.up_proj.bias":      "mlp_bias",
		"mlp.down_proj.bias":    "mlp_bias",
	},
	tensors: llamaTensors,
}

// onlyFullAttention accepts a list of layer types without any other kind of attention.
func onlyFullAttention(v value) bool {
	list, ok := v.elements()
	for _, e := range list {
		if t, isText := e.text(); !isText || t != fullAttention {
			return false
		}
	}
	return ok
}

// outerTensors lists the tensors outside the layers, which all families share.
func outerTensors(c Config) []tensorSpec {
	specs := []tensorSpec{
		{name: embeddingName, shape: []int{c.VocabSize, c.HiddenSize}},
		{name: "model.norm.weight", shape: []int{c.HiddenSize}},
	}
	if !c.TiedEmbeddings {
		specs = append(specs, tensorSpec{name: headName, shape: []int{c.VocabSize, c.HiddenSize}})
	}
	return specs
}

func llamaTensors(c Config) tensorSet {
	d, inner, q, kv := c.HiddenSize, c.IntermediateSize, c.QueryWidth(), c.KVWidth()
	var layer []tensorSpec
	norm := func(name string) {
		layer = append(layer, tensorSpec{name: name + ".weight", shape: []int{d}})
	}
	linear := func(name string, bias bool, outputs, inputs int) {
		layer = append(layer, tensorSpec{name: name + ".weight", shape: []int{outputs, inputs}})
		if bias {
			layer = append(layer, tensorSpec{name: name + ".bias", shape: []int{outputs}})
		}
	}
	norm("input_layernorm")
	linear("self_attn.q_proj", c.AttentionBias, q, d)
	linear("self_attn.k_proj", c.AttentionBias, kv, d)
	linear("self_attn.v_proj", c.AttentionBias, kv, d)
	linear("self_attn.o_proj", c.OutputBias, d, q)
	norm("post_attention_layernorm")
	linear("mlp.gate_proj", c.MLPBias, inner, d)
	linear("mlp.up_proj", c.MLPBias, inner, d)
	linear("mlp.down_proj", c.MLPBias, d, inner)
	return tensorSet{outer: outerTensors(c), layer: layer}
}
