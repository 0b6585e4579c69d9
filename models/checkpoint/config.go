package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Config is the architecture of a model. Every spelling of one model's config.json gives the same Config.
type Config struct {
	Architecture string // by its class name, e.g. "LlamaForCausalLM"

	HiddenSize       int // width of the residual stream
	IntermediateSize int // width inside the feed-forward block
	Layers           int
	Heads            int // query heads
	KVHeads          int // key/value heads; Heads is a multiple of it
	HeadDim          int // width of one head, even; Heads*HeadDim may differ from HiddenSize
	VocabSize        int
	MaxPositions     int // the longest sequence the model was made for, in tokens

	NormEpsilon    float64 // added to the mean square in RMSNorm
	TiedEmbeddings bool    // the head is the embedding matrix
	AttentionBias  bool    // query, key and value projections have a bias
	OutputBias     bool    // the attention output projection has a bias
	MLPBias        bool    // gate, up and down projections have a bias
	// Windows holds, for each layer, the number of keys that a query sees, itself included, 0 for all. It is nil
	// when every layer sees all; WindowOf reads it.
	Windows []int

	Rope RopeConfig

	BOS, EOS []int32 // token ids as stated; nil when none is

	// StoredDType is the weight type the config states (float32, float16, bfloat16, float64), "" when it
	// states none. It is for information: each tensor has its own type.
	StoredDType string
}

// RopeConfig describes the rotary position embedding. Fields that Type does not use are 0. Frequency i of a head is
// Theta^(-2i/d) radians per position, where d is Config.RotaryWidth, changed as Type says:
//
//   - "default": not at all.
//   - "linear": divided by Factor.
//   - "llama3": divided by Factor where the wavelength is above OriginalMaxPositions/LowFreqFactor, kept where it is
//     below OriginalMaxPositions/HighFreqFactor, and mixed linearly between.
//   - "yarn" (arXiv 2309.00071, section 3.2): divided by Factor for dimensions that turn less than BetaSlow times
//     within OriginalMaxPositions, kept for those that turn more than BetaFast times, mixed between.
//   - "longrope" (arXiv 2402.13753): divided by ShortFactors[i] in sequences of at most OriginalMaxPositions
//     positions, by LongFactors[i] in longer ones. The length is that of the whole sequence.
type RopeConfig struct {
	Theta                         float64
	Type                          string
	Factor                        float64
	LowFreqFactor, HighFreqFactor float64
	BetaFast, BetaSlow            float64
	ShortFactors, LongFactors     []float64 // RotaryWidth/2 each
	OriginalMaxPositions          int
	AttentionFactor               float64 // multiplies cosine and sine; yarn and longrope have it, short sequences included
	Width                         int     // leading dimensions of a head that rotate, even; 0 means all. See Config.RotaryWidth
}

// QueryWidth is the number of outputs of the query projection, all heads together.
func (c Config) QueryWidth() int { return c.Heads * c.HeadDim }

// KVWidth is the number of outputs of the key projection, and of the value projection.
func (c Config) KVWidth() int { return c.KVHeads * c.HeadDim }

// RotaryWidth is the number of leading dimensions of each head that the rotary embedding turns.
func (c Config) RotaryWidth() int {
	if c.Rope.Width == 0 {
		return c.HeadDim
	}
	return c.Rope.Width
}

// KVBytesPerToken is the size of the keys and values of one token in all layers, for values of the given size in
// bytes (2 for float16).
func (c Config) KVBytesPerToken(valueBytes int) int64 {
	return 2 * int64(c.Layers) * int64(c.KVWidth()) * int64(valueBytes)
}

// ParameterCount returns the number of weights in one decoder layer and in the whole model. A tied head
// is not counted twice.
func (c Config) ParameterCount() (perLayer, total int64) {
	arch, ok := architectureByName(c.Architecture)
	if !ok {
		return 0, 0
	}
	set := arch.tensors(c)
	count := func(specs []tensorSpec) (n int64) {
		for _, spec := range specs {
			n += int64(Tensor{Shape: spec.shape}.Len())
		}
		return n
	}
	perLayer = count(set.layer)
	return perLayer, perLayer*int64(c.Layers) + count(set.outer)
}

// The largest sizes accepted. They lie far above every model, and low enough that no product of them
// overflows 63 bits.
const (
	maxWidth     = 1 << 20
	maxInner     = 1 << 22 // feed-forward width; query heads x head dim
	maxLayers    = 1 << 13
	maxVocab     = 1 << 26
	maxPositions = 1 << 30
)

// maxConfigBytes bounds config.json, which has a few kilobytes.
const maxConfigBytes = 16 << 20

// ReadConfig reads the architecture of the checkpoint at path without its weights: from config.json when
// path is a folder, from the header when it is a llama2.c file. A setting that this package does not
// support is an error that names the key; so is a missing size, for which no default is right.
func ReadConfig(path string) (Config, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Config{}, missing(path, err)
	}
	if !st.IsDir() {
		c, err := Open(path)
		if err != nil {
			return Config{}, err
		}
		return c.Config, c.Close()
	}
	name := filepath.Join(path, "config.json")
	data, err := readSmall(name, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, &absentError{name + " is missing"}
	}
	if err != nil {
		return Config{}, err
	}
	return parseConfig(data, name)
}

// parseConfig reads a config.json. path is for messages.
func parseConfig(data []byte, path string) (Config, error) {
	if isGitLFS(data) {
		return Config{}, fmt.Errorf("%s: %w", path, errGitLFS)
	}
	f := new(configFields)
	s := &scanner{data: data}
	err := s.document(func() (err error) {
		if b := s.peek(); b != '{' && b != 0 {
			return errors.New("expected a JSON object")
		}
		f.keys, err = s.fields()
		return err
	})
	var syntax *syntaxError
	switch {
	case errors.As(err, &syntax):
		return Config{}, fmt.Errorf("%s %w", path, err)
	case err != nil:
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	c := f.config()
	if f.err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, f.err)
	}
	return c, nil
}

// config reads the whole Config; f.err tells whether that worked.
func (f *configFields) config() Config {
	arch := f.architecture()
	f.refuseQuantized()
	if f.err != nil {
		return Config{}
	}
	c := Config{
		Architecture:     arch.name,
		HiddenSize:       f.size("hidden_size", maxWidth),
		IntermediateSize: f.size("intermediate_size", maxInner),
		Layers:           f.size("num_hidden_layers", maxLayers),
		Heads:            f.size("num_attention_heads", maxWidth),
		VocabSize:        f.size("vocab_size", maxVocab),
		MaxPositions:     f.size("max_position_embeddings", maxPositions),
		NormEpsilon:      f.real("rms_norm_eps", arch.normEpsilon),
		TiedEmbeddings:   f.flag("tie_word_embeddings", false),
		StoredDType:      f.storedDType(),
		BOS:              f.tokenIDs("bos_token_id"),
		EOS:              f.tokenIDs("eos_token_id"),
	}
	arch.read(f, &c)
	if f.err != nil {
		return Config{}
	}
	if act, ok := f.text("hidden_act"); ok && act != "silu" && act != "swish" {
		f.fail("hidden_act %s is not supported for %s (supported: silu)", printable(act), arch.modelType)
	}
	if c.NormEpsilon <= 0 || c.NormEpsilon >= 1 {
		f.fail("rms_norm_eps must be between 0 and 1, got %g", c.NormEpsilon)
	}
	f.heads(&c)
	if f.err == nil {
		c.Rope = f.rope(arch, c)
	}
	f.refuseUnsupported(arch)
	return c
}

// kvHeads reads num_key_value_heads, where null means one per query head. absent is the value of an absent key, which
// the families differ in.
func (f *configFields) kvHeads(heads, absent int) int {
	if _, stated := f.keys["num_key_value_heads"]; stated {
		return f.sizeOr("num_key_value_heads", maxWidth, heads)
	}
	if f.err == nil && heads%absent != 0 {
		f.fail("num_key_value_heads is absent, which means %d, and num_attention_heads %d is no multiple of it", absent, heads)
	}
	return absent
}

// heads checks how the width is divided among the heads, and fills in HeadDim where the config leaves it out.
func (f *configFields) heads(c *Config) {
	if c.HeadDim == 0 {
		if c.HiddenSize%c.Heads != 0 {
			f.fail("hidden_size %d is no multiple of num_attention_heads %d, and head_dim is absent", c.HiddenSize, c.Heads)
			return
		}
		c.HeadDim = c.HiddenSize / c.Heads
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		f.fail("num_attention_heads %d is no multiple of num_key_value_heads %d", c.Heads, c.KVHeads)
	case c.HeadDim%2 != 0:
		f.fail("head_dim %d is odd: the rotary embedding needs pairs", c.HeadDim)
	case c.HeadDim > maxInner/c.Heads:
		f.fail("num_attention_heads %d times head_dim %d is absurd, at most %d", c.Heads, c.HeadDim, maxInner)
	}
}

// architecture finds the row of the table that the config asks for.
func (f *configFields) architecture() *architecture {
	modelType, hasType := f.text("model_type")
	name, hasName := "", false
	if v := f.keys["architectures"]; !v.isNull() {
		list, ok := v.elements()
		if ok && len(list) == 1 {
			name, hasName = list[0].text()
		}
		if !hasName {
			f.fail("architectures must be a list of one name, got %s", v)
			return nil
		}
	}
	byName, knownName := architectureByName(name)
	byType, knownType := architectureByModelType(modelType)
	switch {
	case !hasName && !hasType:
		f.fail("architectures is missing, and model_type too")
	case hasName && hasType && (knownName || knownType) && byName != byType:
		f.fail("architectures says %s but model_type says %s", printable(name), printable(modelType))
	}
	if f.err != nil {
		return nil
	}
	switch {
	case knownName:
		return byName
	case !hasName && knownType:
		return byType
	case hasName:
		f.fail("architecture %s is not supported (supported: %s)", printable(name), supportedArchitectures())
	default:
		f.fail("model_type %s is not supported (supported: %s)", printable(modelType), supportedArchitectures())
	}
	return nil
}

func (f *configFields) refuseQuantized() {
	for _, key := range []string{"quantization_config", "compression_config"} {
		v := f.keys[key]
		if v.isNull() {
			continue
		}
		method := "no quant_method given"
		if inner, err := (&scanner{data: v}).fields(); err == nil {
			if m, ok := inner["quant_method"].text(); ok {
				method = printable(m)
			}
		}
		f.fail("%s: the checkpoint is quantized (%s): not supported, use the unquantized one", key, method)
	}
}

// storedDType reads the weight type in its two spellings.
func (f *configFields) storedDType() string {
	var found string
	for _, key := range []string{"torch_dtype", "dtype"} {
		t, ok := f.text(key)
		if !ok || t == "auto" {
			continue
		}
		t = strings.TrimPrefix(t, "torch.")
		switch t {
		case "float32", "float16", "bfloat16", "float64":
		default:
			f.fail("%s %s is not supported (supported: float32, float16, bfloat16, float64)", key, printable(t))
		}
		if found != "" && found != t {
			f.fail("torch_dtype %s and dtype %s contradict each other", found, t)
		}
		found = t
	}
	return found
}

// tokenIDs reads a token id or a list of them.
func (f *configFields) tokenIDs(key string) []int32 {
	v := f.keys[key]
	if v.isNull() {
		return nil
	}
	list, ok := v.elements()
	if !ok {
		list = []value{v}
	}
	var ids []int32
	for _, e := range list {
		n, ok := f.integer(key, e)
		if !ok {
			return nil
		}
		if n < 0 || n > math.MaxInt32 {
			f.fail("%s must be a token id, got %d", key, n)
			return nil
		}
		ids = append(ids, int32(n))
	}
	return ids
}

// configFields reads typed values by key. The first fault stays in err, and later ones are dropped, so that
// the caller checks once.
type configFields struct {
	keys map[string]value
	err  error
}

func (f *configFields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

// integer reads the integer v of key.
func (f *configFields) integer(key string, v value) (int64, bool) {
	if !v.isNumber() || strings.ContainsAny(string(v), ".eE") {
		f.fail("%s must be an integer, got %s", key, v)
		return 0, false
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		f.fail("%s is %s, which is absurd", key, v)
		return 0, false
	}
	return n, true
}

// size reads a positive integer of at most limit, which must be stated.
func (f *configFields) size(key string, limit int) int {
	if v, stated := f.keys[key]; !stated {
		f.fail("%s is missing", key)
	} else if v.isNull() {
		f.fail("%s must be an integer, got null", key)
	}
	return f.sizeOr(key, limit, 0)
}

// sizeOr is size for a key that may be absent or null; def is the value then.
func (f *configFields) sizeOr(key string, limit, def int) int {
	v := f.keys[key]
	if v.isNull() {
		return def
	}
	n, ok := f.integer(key, v)
	switch {
	case !ok:
	case n <= 0:
		f.fail("%s must be positive, got %d", key, n)
	case n > int64(limit):
		f.fail("%s is %d, which is absurd (at most %d)", key, n, limit)
	default:
		return int(n)
	}
	return def
}

// countOr reads a number of things, which may be none; def is the value of an absent key.
func (f *configFields) countOr(key string, def int) int {
	v, stated := f.keys[key]
	if !stated {
		return def
	}
	n, ok := f.integer(key, v)
	if ok && n < 0 {
		f.fail("%s must not be negative, got %d", key, n)
	}
	return int(min(n, math.MaxInt32))
}

// real reads a finite number; def is the value of an absent key.
func (f *configFields) real(key string, def float64) float64 {
	v, stated := f.keys[key]
	if !stated {
		return def
	}
	return f.number(key, v)
}

// number reads the finite number v of key.
func (f *configFields) number(key string, v value) float64 {
	if !v.isNumber() {
		f.fail("%s must be a number, got %s", key, v)
		return 0
	}
	n, err := strconv.ParseFloat(string(v), 64)
	if err != nil {
		f.fail("%s is %s, beyond float64", key, v)
		return 0
	}
	return n
}

// flag reads true or false; def is the value of an absent key.
func (f *configFields) flag(key string, def bool) bool {
	v, stated := f.keys[key]
	switch {
	case !stated:
		return def
	case string(v) == "true":
		return true
	case string(v) != "false":
		f.fail("%s must be true or false, got %s", key, v)
	}
	return false
}

// text reads a string; ok is false when the key is absent or null.
func (f *configFields) text(key string) (t string, ok bool) {
	v := f.keys[key]
	if v.isNull() {
		return "", false
	}
	if t, ok = v.text(); !ok {
		f.fail("%s must be a string, got %s", key, v)
	}
	return t, ok
}
