package checkpoint

import "strings"

// architecture says what one model family asks of its config and of its tensors. A family is one row of
// architectures and one file that holds it.
type architecture struct {
	name      string // class name in config.json's architectures
	modelType string // config.json's model_type
	// normEpsilon is rms_norm_eps where the config leaves it out.
	normEpsilon float64
	ropeTypes   []string // keys of ropeKeys
	// ropeAliases maps other names of rotary embedding types to those of ropeTypes.
	ropeAliases map[string]string
	// partialRotary says that partial_rotary_factor counts. Where it does not, it must be 1.
	partialRotary bool
	// read fills in what the families differ in.
	read func(f *configFields, c *Config)
	// neutral lists keys that would change the computation, with the values under which they do not.
	neutral []neutralKey
	// optional maps the ending of a tensor name within a layer to the key that says whether it exists.
	optional map[string]string
	// tensors lists the tensors of a model. The shapes are those of the file: [outputs, inputs].
	tensors func(c Config) tensorSet
}

// architectures is the table of supported model families.
var architectures = []*architecture{
	&llama,
	&qwen2,
	&mistral,
	&phi3,
}

// tensorSet lists the tensors of a model: those that exist once, and those of one layer with the name after
// "model.layers.N.".
type tensorSet struct {
	outer, layer []tensorSpec
}

type tensorSpec struct {
	name  string
	shape []int
	// parts are the names under which a fused matrix is offered instead of its own, in the order of its rows.
	parts []tensorPart
}

// tensorPart is a range of rows of a fused matrix.
type tensorPart struct {
	name string
	rows int
}

// Names of tensors that checks speak about.
const (
	embeddingName = "model.embed_tokens.weight"
	headName      = "lm_head.weight"
	layerPrefix   = "model.layers."
)

func architectureByName(name string) (*architecture, bool) {
	for _, a := range architectures {
		if a.name == name {
			return a, true
		}
	}
	return nil, false
}

func architectureByModelType(modelType string) (*architecture, bool) {
	for _, a := range architectures {
		if a.modelType == modelType {
			return a, true
		}
	}
	return nil, false
}

func supportedArchitectures() string { return strings.Join(Architectures(), ", ") }

// neutralKey is a key of config.json that must be absent, null, or such that ok accepts its value.
type neutralKey struct {
	key  string
	ok   func(v value) bool
	want string // what ok accepts, for the message
}

// Kinds of neutral values.
var (
	onlyNull  = func(value) bool { return false }
	onlyFalse = func(v value) bool { return string(v) == "false" }
	onlyOne   = func(v value) bool { return v.isNumber() && v.equal(value("1")) }
)

// denseNeutral lists the keys of related families that no family of the table computes.
var denseNeutral = []neutralKey{
	{"attention_chunk_size", onlyNull, "null"},
	{"no_rope_layers", onlyNull, "null"},
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
}

// refuseUnsupported reports keys whose values ask for something that the decoder does not compute. It knows
// the keys of related families, which a config may carry under a supported architecture; keys it does not
// know are left alone, since most of them mean nothing for the computation.
func (f *configFields) refuseUnsupported(arch *architecture) {
	for _, n := range arch.neutral {
		if v := f.keys[n.key]; !v.isNull() && !n.ok(v) {
			f.fail("%s %s is not supported for %s (supported: %s)", n.key, v.plain(), arch.name, n.want)
		}
	}
}

// Architectures lists the class names that Open accepts.
func Architectures() []string {
	var names []string
	for _, a := range architectures {
		names = append(names, a.name)
	}
	return names
}
