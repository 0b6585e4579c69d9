package checkpoint

// llama is the row of Llama, Llama-2 and Llama-3: RMSNorm, rotary embedding, grouped-query attention and a
// gated feed-forward block with SiLU.
var llama = architecture{
	name:        "LlamaForCausalLM",
	modelType:   "llama",
	normEpsilon: 1e-6,
	ropeTypes:   []string{"default", "linear", "llama3"},
	read: func(f *configFields, c *Config) {
		c.KVHeads = f.sizeOr("num_key_value_heads", maxWidth, c.Heads)
		c.HeadDim = f.sizeOr("head_dim", maxWidth, 0)
		c.AttentionBias = f.flag("attention_bias", false)
		c.OutputBias = c.AttentionBias
		c.MLPBias = f.flag("mlp_bias", false)
	},
	neutral: []neutralKey{
		{"sliding_window", onlyNull, "null"},
		{"use_sliding_window", onlyFalse, "false"},
		{"layer_types", onlyFullAttention, "full_attention in all layers"},
		{"attention_chunk_size", onlyNull, "null"},
		{"no_rope_layers", onlyNull, "null"},
		{"partial_rotary_factor", onlyOne, "1"},
		{"attn_logit_softcapping", onlyNull, "null"},
		{"final_logit_softcapping", onlyNull, "null"},
		{"embedding_multiplier", onlyOne, "1"},
		{"residual_multiplier", onlyOne, "1"},
		{"attention_multiplier", onlyNull, "null"},
		{"logits_scaling", onlyOne, "1"},
		{"logit_scale", onlyOne, "1"},
		{"use_qk_norm", onlyFalse, "false"},
		{"qk_layernorm", onlyFalse, "false"},
		{"num_local_experts", onlyNull, "null"},
		{"num_experts", onlyNull, "null"},
		{"n_routed_experts", onlyNull, "null"},
		{"is_encoder_decoder", onlyFalse, "false"},
		{"add_cross_attention", onlyFalse, "false"},
	},
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
		if t, isText := e.text(); !isText || t != "full_attention" {
			return false
		}
	}
	return ok
}

func llamaTensors(c Config) tensorSet {
	d, inner, q, kv := c.HiddenSize, c.IntermediateSize, c.QueryWidth(), c.KVWidth()
	set := tensorSet{
		outer: []tensorSpec{
			{embeddingName, []int{c.VocabSize, d}},
			{"model.norm.weight", []int{d}},
		},
	}
	if !c.TiedEmbeddings {
		set.outer = append(set.outer, tensorSpec{headName, []int{c.VocabSize, d}})
	}
	linear := func(name string, bias bool, outputs, inputs int) {
		set.layer = append(set.layer, tensorSpec{name + ".weight", []int{outputs, inputs}})
		if bias {
			set.layer = append(set.layer, tensorSpec{name + ".bias", []int{outputs}})
		}
	}
	set.layer = append(set.layer, tensorSpec{"input_layernorm.weight", []int{d}})
	linear("self_attn.q_proj", c.AttentionBias, q, d)
	linear("self_attn.k_proj", c.AttentionBias, kv, d)
	linear("self_attn.v_proj", c.AttentionBias, kv, d)
	linear("self_attn.o_proj", c.OutputBias, d, q)
	set.layer = append(set.layer, tensorSpec{"post_attention_layernorm.weight", []int{d}})
	linear("mlp.gate_proj", c.MLPBias, inner, d)
	linear("mlp.up_proj", c.MLPBias, inner, d)
	linear("mlp.down_proj", c.MLPBias, d, inner)
	return set
}
