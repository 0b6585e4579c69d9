package checkpoint

import "slices"

// phi3 is the row of Phi-3 and Phi-4: Llama whose query, key and value weights are stored as one matrix, and gate
// and up as another, and whose heads may rotate in part.
var phi3 = architecture{
	name:        "Phi3ForCausalLM",
	modelType:   "phi3",
	normEpsilon: 1e-5,
	ropeTypes:   []string{"default", "longrope"},
	// The names under which longrope was first published. A real yarn scaling lacks the two lists.
	ropeAliases:   map[string]string{"su": "longrope", "yarn": "longrope"},
	partialRotary: true,
	read: func(f *configFields, c *Config) {
		c.KVHeads = f.kvHeads(c.Heads, c.Heads)
		c.HeadDim = f.sizeOr("head_dim", maxWidth, 0)
		c.Windows = f.uniformWindows(c.Layers, f.slidingWindow(0))
	},
	neutral: slices.Concat(denseNeutral, []neutralKey{
		{"attention_bias", onlyFalse, "false"},
		{"mlp_bias", onlyFalse, "false"},
		{"lm_head_bias", onlyFalse, "false"},
	}),
	tensors: phi3Tensors,
}

// phi3Tensors lists the tensors of llamaTensors with the fused matrices, which offer their rows under the Llama
// names.
func phi3Tensors(c Config) tensorSet {
	d, inner, q, kv := c.HiddenSize, c.IntermediateSize, c.QueryWidth(), c.KVWidth()
	return tensorSet{
		outer: outerTensors(c),
		layer: []tensorSpec{
			{name: "input_layernorm.weight", shape: []int{d}},
			{name: "self_attn.qkv_proj.weight", shape: []int{q + 2*kv, d}, parts: []tensorPart{
				{"self_attn.q_proj.weight", q},
				{"self_attn.k_proj.weight", kv},
				{"self_attn.v_proj.weight", kv},
			}},
			{name: "self_attn.o_proj.weight", shape: []int{d, q}},
			{name: "post_attention_layernorm.weight", shape: []int{d}},
			{name: "mlp.gate_up_proj.weight", shape: []int{2 * inner, d}, parts: []tensorPart{
				{"mlp.gate_proj.weight", inner},
				{"mlp.up_proj.weight", inner},
			}},
			{name: "mlp.down_proj.weight", shape: []int{d, inner}},
		},
	}
}
