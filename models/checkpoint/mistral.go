package checkpoint

import "slices"

// mistral is the row of Mistral and Mistral-Nemo: Llama with one sliding window for all layers.
var mistral = architecture{
	name:        "MistralForCausalLM",
	modelType:   "mistral",
	normEpsilon: 1e-6,
	ropeTypes:   []string{"default", "linear", "llama3", "yarn"},
	read: func(f *configFields, c *Config) {
		c.KVHeads = f.kvHeads(c.Heads, 8)
		c.HeadDim = f.sizeOr("head_dim", maxWidth, 0)
		c.Windows = f.uniformWindows(c.Layers, f.slidingWindow(4096))
	},
	neutral: slices.Concat(denseNeutral, []neutralKey{
		{"attention_bias", onlyFalse, "false"},
		{"mlp_bias", onlyFalse, "false"},
	}),
	tensors: llamaTensors,
}
