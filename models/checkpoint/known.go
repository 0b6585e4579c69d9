package checkpoint

// KnownModel is a model of the paper's experiments (arXiv 2511.04002, section 3) as it is published.
type KnownModel struct {
	Name    string // as in the paper's tables
	Hub     string // repository on the Hugging Face hub
	Config  Config // what ReadConfig gives for the published config.json
	Licence string // of the weights
	Gated   bool   // the hub gives the files only to accounts that have accepted the licence on the repository's page
	Note    string // what else to know before a download; may be empty
}

// Parameters is the number of weights.
func (m KnownModel) Parameters() int64 {
	_, total := m.Config.ParameterCount()
	return total
}

// KnownModels returns the models of the paper's experiments, as a new slice.
func KnownModels() []KnownModel {
	llama2 := func(hidden, intermediate, layers, heads int) Config {
		return Config{
			Architecture: llama.name, HiddenSize: hidden, IntermediateSize: intermediate, Layers: layers, Heads: heads, KVHeads: heads, HeadDim: 128,
			VocabSize: 32000, MaxPositions: 4096, NormEpsilon: 1e-5, Rope: RopeConfig{Theta: 10000, Type: "default"},
			BOS: []int32{1}, EOS: []int32{2}, StoredDType: "float16",
		}
	}
	const llama2Licence, llama2Note = "Llama 2 Community License", "accepted once for the whole Llama 2 family"
	return []KnownModel{
		{
			Name: "Llama-2-7B", Hub: "meta-llama/Llama-2-7b-hf", Config: llama2(4096, 11008, 32, 32),
			Licence: llama2Licence, Gated: true, Note: llama2Note,
		},
		{
			Name: "Llama-2-13B", Hub: "meta-llama/Llama-2-13b-hf", Config: llama2(5120, 13824, 40, 40),
			Licence: llama2Licence, Gated: true, Note: llama2Note,
		},
		{
			Name: "Llama-3.1-8B", Hub: "meta-llama/Llama-3.1-8B-Instruct",
			Config: Config{
				Architecture: llama.name, HiddenSize: 4096, IntermediateSize: 14336, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128,
				VocabSize: 128256, MaxPositions: 131072, NormEpsilon: 1e-5,
				Rope: RopeConfig{Theta: 500000, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 8192},
				BOS:  []int32{128000}, EOS: []int32{128001, 128008, 128009}, StoredDType: "bfloat16",
			},
			Licence: "Llama 3.1 Community License", Gated: true, Note: "instruct model",
		},
		{
			Name: "Mistral-Nemo-2407", Hub: "mistralai/Mistral-Nemo-Instruct-2407",
			Config: Config{
				Architecture: mistral.name, HiddenSize: 5120, IntermediateSize: 14336, Layers: 40, Heads: 32, KVHeads: 8, HeadDim: 128,
				VocabSize: 131072, MaxPositions: 131072, NormEpsilon: 1e-5, Rope: RopeConfig{Theta: 1000000, Type: "default"},
				BOS: []int32{1}, EOS: []int32{2}, StoredDType: "bfloat16",
			},
			Licence: "Apache-2.0", Note: "instruct model; the hub may ask to share contact details",
		},
		{
			Name: "Qwen2.5-14B", Hub: "Qwen/Qwen2.5-14B",
			Config: Config{
				Architecture: qwen2.name, HiddenSize: 5120, IntermediateSize: 13824, Layers: 48, Heads: 40, KVHeads: 8, HeadDim: 128,
				VocabSize: 152064, MaxPositions: 131072, NormEpsilon: 1e-5, AttentionBias: true, Rope: RopeConfig{Theta: 1000000, Type: "default"},
				BOS: []int32{151643}, EOS: []int32{151643}, StoredDType: "bfloat16",
			},
			Licence: "Apache-2.0", Note: "base model: the instruct one has rms_norm_eps 1e-06",
		},
		{
			Name: "Phi-4", Hub: "microsoft/phi-4",
			Config: Config{
				Architecture: phi3.name, HiddenSize: 5120, IntermediateSize: 17920, Layers: 40, Heads: 40, KVHeads: 10, HeadDim: 128,
				VocabSize: 100352, MaxPositions: 16384, NormEpsilon: 1e-5, Rope: RopeConfig{Theta: 250000, Type: "default"},
				BOS: []int32{100257}, EOS: []int32{100265}, StoredDType: "bfloat16",
			},
			Licence: "MIT", Note: "instruct model",
		},
	}
}
