package checkpoint

import "slices"

// qwen2 is the row of Qwen2 and Qwen2.5: Llama with biases on query, key and value in every model, and a sliding
// window that is off unless use_sliding_window says otherwise.
var qwen2 = architecture{
	name:        "Qwen2ForCausalLM",
	modelType:   "qwen2",
	normEpsilon: 1e-6,
	ropeTypes:   []string{"default", "linear", "llama3", "yarn"},
	read: func(f *configFields, c *Config) {
		c.KVHeads = f.kvHeads(c.Heads, 32)
		c.HeadDim = f.sizeOr("head_dim", maxWidth, 0)
		c.AttentionBias = true // whatever attention_bias says: the family has no such key
		c.Windows = f.qwen2Windows(c.Layers)
	},
	neutral: slices.Concat(denseNeutral, []neutralKey{
		{"mlp_bias", onlyFalse, "false"},
	}),
	tensors: llamaTensors,
}

// qwen2Windows reads the window of every layer. With use_sliding_window, layers from max_window_layers on
// (counted from 0) slide, or those that layer_types names; without it sliding_window means nothing.
func (f *configFields) qwen2Windows(layers int) []int {
	use := f.flag("use_sliding_window", false)
	types := f.layerTypes(layers)
	if !use {
		if slices.Contains(types, slidingAttention) {
			f.fail("layer_types names %s, but use_sliding_window is false", slidingAttention)
		}
		return nil
	}
	window := f.slidingWindow(4096)
	full := f.countOr("max_window_layers", 28)
	return perLayer(layers, func(layer int) int {
		switch {
		case types == nil && layer < full, types != nil && types[layer] == fullAttention:
			return 0
		case types != nil && window == 0:
			f.fail("layer_types names %s, but sliding_window is null", slidingAttention)
		}
		return window
	})
}
