package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Checkpoint is an open model: its Config, and a view of every tensor that the Config asks for. Its methods
// may be called from several goroutines; Close ends the life of every tensor it returned.
type Checkpoint struct {
	Config Config
	Dir    string // the folder or file it was opened by

	weights map[string]Tensor // the stored tensors, by name
	files   []*mapping
	digest  func() (string, error)
}

// Open opens the checkpoint at path: a folder in the Hugging Face layout (config.json with model.safetensors,
// or with model.safetensors.index.json and the shards it names), or a llama2.c file (legacy or version 1,
// float32). It checks that the files hold exactly the tensors that the config asks for, in the shapes it
// asks for, of a float type. It reads no weights, save for one comparison when the head of a tied model is
// stored beside the embedding; NaN and infinities are found when a tensor is read.
func Open(path string) (*Checkpoint, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, missing(path, err)
	}
	c := &Checkpoint{Dir: path, weights: make(map[string]Tensor)}
	c.digest = sync.OnceValues(c.computeDigest)
	if st.IsDir() {
		err = c.openFolder()
	} else {
		err = c.openLlama2c()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Tensor returns the weight called name, for example model.layers.0.self_attn.q_proj.weight. All families have the
// names of Llama: where a checkpoint stores several weights as one matrix, each is a view of its rows. For a tied
// model lm_head.weight is the embedding, under the embedding's own name.
func (c *Checkpoint) Tensor(name string) (Tensor, error) {
	t, ok := c.weights[name]
	if !ok && name == headName && c.Config.TiedEmbeddings {
		t, ok = c.weights[embeddingName]
	}
	if !ok {
		return Tensor{}, fmt.Errorf("%s: %s has no tensor %s", c.Dir, c.Config.Architecture, printable(name))
	}
	return t, nil
}

// Names returns the names of all weights, sorted. A tied head is not among them.
func (c *Checkpoint) Names() []string { return slices.Sorted(maps.Keys(c.weights)) }

// Parameters returns the number of weights. A tied head is not counted twice.
func (c *Checkpoint) Parameters() int64 {
	_, total := c.Config.ParameterCount()
	return total
}

// Close releases all files. Calling it again does nothing.
func (c *Checkpoint) Close() error {
	var err error
	for _, m := range c.files {
		err = errors.Join(err, m.close())
	}
	return err
}

// Digest returns the SHA-256, in hexadecimal, of the model's settings and weights. It reads all weights on
// the first call and remembers the result. Equal digests mean equal models: how the weights are divided
// among files, the order in them, the spelling of the config and the container make no difference. It is the
// hash of these bytes:
//
//	"splitbench checkpoint 1\n"
//	"<key> <value>\n" for each setting of the Config that is not zero or empty, StoredDType excepted, with
//	    the keys and in the order of Config.settings, integers in decimal, other numbers in the shortest
//	    decimal form, the elements of a list joined by ","
//	for each tensor of Names: "tensor <name> <dtype> <dimensions joined by "x">\n" and the stored
//	    little-endian bytes, row by row in the order that Tensor.Rows gives
func (c *Checkpoint) Digest() (string, error) { return c.digest() }

func (c *Checkpoint) computeDigest() (string, error) {
	h := sha256.New()
	fmt.Fprint(h, "splitbench checkpoint 1\n", c.Config.settings())
	for _, name := range c.Names() {
		t := c.weights[name]
		dims := make([]string, len(t.Shape))
		for i, d := range t.Shape {
			dims[i] = strconv.Itoa(d)
		}
		fmt.Fprintf(h, "tensor %s %s %s\n", name, t.DType, strings.Join(dims, "x"))
		err := t.m.guard(func() error {
			if t.interleavedHead == 0 {
				const piece = 16 << 20
				for part := range slices.Chunk(t.data, piece) {
					h.Write(part)
					t.m.release(part)
				}
				return nil
			}
			for r := range t.Shape[0] {
				h.Write(t.RowBytes(r))
			}
			t.m.release(t.data)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// settings writes the settings that are not zero or empty, one line each, for Digest. A new setting is a new line, so
// that models without it keep their digest.
func (c Config) settings() string {
	var b strings.Builder
	line := func(key, v string) { fmt.Fprintf(&b, "%s %s\n", key, v) }
	integer := func(key string, n int) {
		if n != 0 {
			line(key, strconv.Itoa(n))
		}
	}
	number := func(key string, f float64) {
		if f != 0 {
			line(key, strconv.FormatFloat(f, 'g', -1, 64))
		}
	}
	flag := func(key string, set bool) {
		if set {
			line(key, "true")
		}
	}
	list := func(key string, n int, text func(i int) string) {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = text(i)
		}
		if n > 0 {
			line(key, strings.Join(texts, ","))
		}
	}
	tokens := func(key string, ids []int32) {
		list(key, len(ids), func(i int) string { return strconv.Itoa(int(ids[i])) })
	}
	factors := func(key string, f []float64) {
		list(key, len(f), func(i int) string { return strconv.FormatFloat(f[i], 'g', -1, 64) })
	}
	line("architecture", c.Architecture)
	integer("hidden_size", c.HiddenSize)
	integer("intermediate_size", c.IntermediateSize)
	integer("layers", c.Layers)
	integer("heads", c.Heads)
	integer("kv_heads", c.KVHeads)
	integer("head_dim", c.HeadDim)
	integer("vocab_size", c.VocabSize)
	integer("max_positions", c.MaxPositions)
	number("norm_epsilon", c.NormEpsilon)
	flag("tied_embeddings", c.TiedEmbeddings)
	flag("attention_bias", c.AttentionBias)
	flag("output_bias", c.OutputBias)
	flag("mlp_bias", c.MLPBias)
	list("windows", len(c.Windows), func(i int) string { return strconv.Itoa(c.Windows[i]) })
	number("rope_theta", c.Rope.Theta)
	line("rope_type", c.Rope.Type)
	number("rope_factor", c.Rope.Factor)
	number("rope_low_freq_factor", c.Rope.LowFreqFactor)
	number("rope_high_freq_factor", c.Rope.HighFreqFactor)
	number("rope_beta_fast", c.Rope.BetaFast)
	number("rope_beta_slow", c.Rope.BetaSlow)
	factors("rope_short_factors", c.Rope.ShortFactors)
	factors("rope_long_factors", c.Rope.LongFactors)
	integer("rope_original_max_positions", c.Rope.OriginalMaxPositions)
	number("rope_attention_factor", c.Rope.AttentionFactor)
	integer("rope_width", c.Rope.Width)
	tokens("bos", c.BOS)
	tokens("eos", c.EOS)
	return b.String()
}

// Names of the files of a folder.
const (
	weightsFile = "model.safetensors"
	indexFile   = "model.safetensors.index.json"
)

// openFolder opens a folder in the Hugging Face layout.
func (c *Checkpoint) openFolder() error {
	var err error
	if c.Config, err = ReadConfig(c.Dir); err != nil {
		return err
	}
	exists := func(name string) bool {
		_, err := os.Lstat(filepath.Join(c.Dir, name)) // a dangling link is there, and an error later
		return err == nil
	}
	var stored map[string]Tensor
	weights, index := filepath.Join(c.Dir, weightsFile), filepath.Join(c.Dir, indexFile)
	source := weights
	switch {
	case exists(indexFile):
		source = index
		stored, err = c.openShards(index, exists(weightsFile))
	case exists(weightsFile):
		var f *File
		if f, err = c.openFile(weights); err == nil {
			stored = f.tensors
		}
	default:
		for _, name := range []string{"pytorch_model.bin", "pytorch_model.bin.index.json"} {
			if exists(name) {
				return fmt.Errorf("%s: no safetensors weights; %s is not supported, convert it", c.Dir, name)
			}
		}
		return fmt.Errorf("%s: no %s and no %s in the folder", c.Dir, weightsFile, indexFile)
	}
	if err != nil {
		return err
	}
	return c.selectWeights(stored, source)
}

// openFile opens one safetensors file that Close shall close.
func (c *Checkpoint) openFile(path string) (*File, error) {
	f, err := OpenSafetensors(path)
	if err == nil {
		c.files = append(c.files, f.m)
	}
	return f, err
}

// ignoredTensor reports whether a stored tensor is a buffer that old files carry: the rotary frequencies,
// which follow from the config.
func ignoredTensor(name string) bool { return strings.HasSuffix(name, "rotary_emb.inv_freq") }

// selectWeights takes from stored the tensors that the config asks for. source is the file to name where
// something is missing.
func (c *Checkpoint) selectWeights(stored map[string]Tensor, source string) error {
	arch, _ := architectureByName(c.Config.Architecture)
	set := arch.tensors(c.Config)
	used := make(map[string]bool)
	take := func(prefix string, spec tensorSpec) error {
		name := prefix + spec.name
		t, ok := stored[name]
		if !ok {
			if name == headName {
				return fmt.Errorf("%s: tensor %s is missing, and tie_word_embeddings is false", source, name)
			}
			return fmt.Errorf("%s: tensor %s is missing", source, name)
		}
		if err := checkWeight(t, spec.shape); err != nil {
			return err
		}
		used[name] = true
		if spec.parts == nil {
			c.weights[name] = t
		}
		first := 0
		for _, part := range spec.parts {
			c.weights[prefix+part.name] = t.part(prefix+part.name, first, first+part.rows)
			first += part.rows
		}
		return nil
	}
	for _, spec := range set.outer {
		if err := take("", spec); err != nil {
			return err
		}
	}
	layers := storedLayers(stored)
	switch {
	case layers < c.Config.Layers:
		return fmt.Errorf("%s: tensors %s%d.* are missing: the file has %d layers, num_hidden_layers in config.json says %d", source, layerPrefix, layers, layers, c.Config.Layers)
	case layers > c.Config.Layers:
		return fmt.Errorf("%s: tensors %s%d.* are not used: the file has %d layers, num_hidden_layers in config.json says %d", source, layerPrefix, c.Config.Layers, layers, c.Config.Layers)
	}
	for layer := range c.Config.Layers {
		for _, spec := range set.layer {
			if err := take(layerPrefix+strconv.Itoa(layer)+".", spec); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if used[name] || ignoredTensor(name) {
			continue
		}
		t := stored[name]
		if name == headName && c.Config.TiedEmbeddings {
			if err := checkStoredHead(t, c.weights[embeddingName]); err != nil {
				return err
			}
			continue
		}
		if _, ending, ok := splitLayerName(name); ok {
			if key := arch.optional[ending]; key != "" {
				return t.errorf("exists, but %s is false in config.json", key)
			}
		}
		return t.errorf("is not used by %s: the architecture is probably another one", arch.name)
	}
	return nil
}

// checkWeight verifies type and shape of a stored weight.
func checkWeight(t Tensor, shape []int) error {
	if !t.DType.IsFloat() {
		return t.errorf("has dtype %s, which is not a float type (F64, F32, F16, BF16)", t.DType)
	}
	if slices.Equal(t.Shape, shape) {
		return nil
	}
	if (t.Name == embeddingName || t.Name == headName) && len(t.Shape) == 2 && t.Shape[1] == shape[1] {
		return t.errorf("has %d rows, but vocab_size in config.json is %d", t.Shape[0], shape[0])
	}
	return t.errorf("has shape %s, expected %s", shapeText(t.Shape), shapeText(shape))
}

// checkStoredHead verifies that the head stored in a tied model is the embedding. Implementations differ in
// which of the two they use, so a difference would be two models in one folder.
func checkStoredHead(head, embedding Tensor) error {
	if err := checkWeight(head, embedding.Shape); err != nil {
		return err
	}
	if head.DType == embedding.DType {
		same := false
		err := head.m.guard(func() error { same = bytes.Equal(head.data, embedding.data); return nil })
		if err != nil || same {
			return err
		}
	} else if same, err := sameValues(head, embedding); err != nil || same {
		return err
	}
	return head.errorf("is stored and differs from %s, but tie_word_embeddings is true", embeddingName)
}

// storedLayers returns one more than the highest layer number among the stored weights.
func storedLayers(stored map[string]Tensor) int {
	layers := 0
	for name := range stored {
		if layer, _, ok := splitLayerName(name); ok && !ignoredTensor(name) {
			layers = max(layers, layer+1)
		}
	}
	return layers
}

// splitLayerName splits model.layers.N.ending.
func splitLayerName(name string) (layer int, ending string, ok bool) {
	rest, ok := strings.CutPrefix(name, layerPrefix)
	if !ok {
		return 0, "", false
	}
	number, ending, ok := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	if !ok || err != nil || layer < 0 || strconv.Itoa(layer) != number {
		return 0, "", false
	}
	return layer, ending, true
}
