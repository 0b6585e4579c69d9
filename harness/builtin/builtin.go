// Package builtin holds the model and the data that need no download. small is a
// model trained on the text of package tasks/world by the training file beside its
// weights; small-rotated computes the same in another basis; world and its other
// splits are written by that package. random-tiny and toy are small, random, and
// labelled so: they show that the program works, and say nothing about accuracy.
package builtin

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"splitbench/models/checkpoint"
	"splitbench/tasks/world"
)

// Prefix marks a path as one of this package.
const Prefix = "builtin:"

// version changes whenever the bytes made by code change. Those of the embedded
// files are part of their folder's name by themselves.
const version = "4"

// made are the SHA-256 digests of folders that code makes (TestMade says of what): a changed digest asks
// for a new version, as caches hold folders of the old bytes.
var made = map[string]string{
	"world":            "d989403288d63e95e334789e4123ee0e166647a7c4e0dbaa6ab505af78d398b8",
	"world-validation": "20d2f176a087e8fdf75e73f37ecb35cdffde131138f26bc299e4ab13b2e0ffd3",
	"random-tiny":      "0c43b199d0855f9511e2fcdea7b1101b34312b32dd732718769ee71a174af032",
	"toy":              "f7145010b4d8c920c6722e6504310591cfab157b659712d128223690174516c1",
}

// maker makes one of what can be asked for.
type maker struct {
	name, about string
	digest      func() string // of what the bytes come from, beside version; nil: nothing
	make        func(dir string) error
}

// makers is the table of what can be asked for.
func makers() []maker {
	return []maker{
		{"small", smallAbout, smallDigest, makeSmall},
		{"small-rotated", "the same function as small in another basis of the residual stream, where its energy lies in few channels: a LABELLED VARIANT, not a model of its own", smallDigest, makeRotated},
		{"world", "the six question sets, a WikiText-like and a C4-like text of the small world, in the layout of the real ones: the test split", nil, makeWorld(world.Test, world.Options{})},
		{"world-validation", "the validation split of the small world, of other facts, and calibration.jsonl, its documents as calibration sequences", nil, makeValidation},
		{"world-train", "the train split of the small world, of other facts again: what small learned from", nil, makeWorld(world.Train, worldTrain)},
		{"random-tiny", "Llama of 8 layers, width 64, RANDOM weights and a character tokenizer: accuracy is chance", nil, makeModel},
		{"toy", "question pairs and a text made by a seeded generator, for piqa and wikitext2", nil, makeTasks},
	}
}

// worldTrain is the extent of the train split.
var worldTrain = world.Options{Questions: 40000, Documents: 20000, Articles: 10000}

// Names lists what Resolve knows, with one line about each.
func Names() (names, about []string) {
	for _, m := range makers() {
		names = append(names, Prefix+m.name)
		about = append(about, m.about)
	}
	return names, about
}

// Resolve returns path itself, or for builtin:NAME a folder that holds it,
// made on first use in the user's cache folder; builtin:NAME/FILE is a file
// in it.
func Resolve(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, Prefix)
	if !ok {
		return path, nil
	}
	name, file, inside := strings.Cut(rest, "/")
	if inside {
		if !filepath.IsLocal(filepath.FromSlash(file)) {
			return "", fmt.Errorf("%q: expected a file within builtin:%s", path, name)
		}
		dir, err := Resolve(Prefix + name)
		return filepath.Join(dir, filepath.FromSlash(file)), err
	}
	for _, m := range makers() {
		if m.name != name {
			continue
		}
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir()
		}
		base = filepath.Join(base, "splitbench", "builtin-"+version)
		dir := filepath.Join(base, name)
		if m.digest != nil {
			dir += "-" + m.digest()
		}
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
		if err := os.MkdirAll(base, 0o755); err != nil {
			return "", err
		}
		tmp, err := os.MkdirTemp(base, name+"-*")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(tmp)
		if err := m.make(tmp); err != nil {
			return "", err
		}
		if err := os.Chmod(tmp, 0o755); err != nil {
			return "", err
		}
		if err := os.Rename(tmp, dir); err != nil {
			// Another process was faster.
			if _, serr := os.Stat(dir); serr != nil {
				return "", err
			}
		}
		return dir, nil
	}
	names, _ := Names()
	return "", fmt.Errorf("unknown built-in %q, expected one of %s", path, strings.Join(names, ", "))
}

const (
	hidden       = 64
	layers       = 8
	heads        = 4
	kvHeads      = 2
	intermediate = 176
)

// makeModel writes a random Llama in the Hugging Face layout. Two channels of
// the residual stream are made large, as in trained models, so that the
// threshold has something to catch.
func makeModel(dir string) error {
	tokens := makeTokens()
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.model"), sentencePiece(tokens), 0o644); err != nil {
		return err
	}
	config := map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": hidden, "intermediate_size": intermediate,
		"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kvHeads, "vocab_size": len(tokens),
		"max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
		"tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(20251104, 1))
	normal := func(rows, cols int, scale float64) []float32 {
		v := make([]float32, rows*cols)
		for i := range v {
			v[i] = float32(random.NormFloat64() * scale)
		}
		return v
	}
	ones := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = 1
		}
		return v
	}
	var all []checkpoint.NamedTensor
	add := func(name string, data []float32, shape ...int) {
		all = append(all, checkpoint.NamedTensor{Name: name, Shape: shape, Data: data})
	}
	embedding := normal(len(tokens), hidden, .6)
	for t := range tokens {
		embedding[t*hidden+11] += 9
		embedding[t*hidden+40] -= 14
	}
	add("model.embed_tokens.weight", embedding, len(tokens), hidden)
	dim, kv := hidden, kvHeads*hidden/heads
	for i := 0; i < layers; i++ {
		p := fmt.Sprintf("model.layers.%d.", i)
		in := 1 / math.Sqrt(hidden)
		add(p+"input_layernorm.weight", ones(hidden), hidden)
		add(p+"post_attention_layernorm.weight", ones(hidden), hidden)
		add(p+"self_attn.q_proj.weight", normal(dim, hidden, in), dim, hidden)
		add(p+"self_attn.k_proj.weight", normal(kv, hidden, in), kv, hidden)
		add(p+"self_attn.v_proj.weight", normal(kv, hidden, in), kv, hidden)
		add(p+"self_attn.o_proj.weight", normal(hidden, dim, .7*in), hidden, dim)
		add(p+"mlp.gate_proj.weight", normal(intermediate, hidden, in), intermediate, hidden)
		add(p+"mlp.up_proj.weight", normal(intermediate, hidden, in), intermediate, hidden)
		add(p+"mlp.down_proj.weight", normal(hidden, intermediate, .7/math.Sqrt(intermediate)), hidden, intermediate)
	}
	norm := ones(hidden)
	for i := range norm {
		norm[i] = .25 // mild logits: guesses of a model that knows nothing
	}
	norm[11], norm[40] = .005, .005 // the large channels do not drown the head
	add("model.norm.weight", norm, hidden)
	var out bytes.Buffer
	if err := checkpoint.WriteSafetensors(&out, all, map[string]string{"format": "pt", "note": "random weights made by splitbench"}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "model.safetensors"), out.Bytes(), 0o644)
}

// makeTokens lists the pieces: three special ones, the 256 bytes, the space
// mark and ASCII.
func makeTokens() []string {
	tokens := []string{"<unk>", "<s>", "</s>"}
	for b := 0; b < 256; b++ {
		tokens = append(tokens, fmt.Sprintf("<0x%02X>", b))
	}
	tokens = append(tokens, "\u2581")
	for c := '!'; c <= '~'; c++ {
		tokens = append(tokens, string(c))
	}
	return tokens
}

// sentencePiece writes a SentencePiece model (protobuf) of BPE type without
// merges: every character is a token, others fall back to bytes.
func sentencePiece(tokens []string) []byte {
	const (
		typeUnknown = 2
		typeControl = 3
		typeByte    = 6
		modelBPE    = 2
	)
	field := func(dst []byte, number int, data []byte) []byte {
		dst = binary.AppendUvarint(dst, uint64(number)<<3|2)
		dst = binary.AppendUvarint(dst, uint64(len(data)))
		return append(dst, data...)
	}
	flag := func(dst []byte, number int, v uint64) []byte {
		return binary.AppendUvarint(binary.AppendUvarint(dst, uint64(number)<<3), v)
	}
	var model []byte
	for i, t := range tokens {
		piece := field(nil, 1, []byte(t))
		piece = append(piece, 2<<3|5) // score, fixed32
		piece = binary.LittleEndian.AppendUint32(piece, math.Float32bits(-float32(i)))
		switch {
		case i == 0:
			piece = flag(piece, 3, typeUnknown)
		case i < 3:
			piece = flag(piece, 3, typeControl)
		case i < 259:
			piece = flag(piece, 3, typeByte)
		}
		model = field(model, 1, piece)
	}
	trainer := flag(nil, 3, modelBPE)
	trainer = flag(trainer, 35, 1) // byte_fallback
	model = field(model, 2, trainer)
	normalizer := field(nil, 1, []byte("identity"))
	normalizer = flag(normalizer, 3, 1) // add_dummy_prefix
	normalizer = flag(normalizer, 4, 0) // remove_extra_whitespaces
	return field(model, 3, normalizer)
}

// makeTasks writes 60 two-choice questions in PIQA's layout and a text in
// WikiText's.
func makeTasks(dir string) error {
	random := rand.New(rand.NewPCG(20251104, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	things := []string{"cup", "door", "lamp", "rope", "boat", "clock", "kettle", "ladder"}
	var rows, labels strings.Builder
	for i := 0; i < 60; i++ {
		thing := pick(things...)
		other := pick(things...)
		row := map[string]string{
			"goal": fmt.Sprintf("How do I %s the %s?", pick("find", "clean", "move", "mend"), thing),
			"sol1": fmt.Sprintf("%s at the %s and %s it.", pick("Look", "Point"), thing, pick("lift", "take", "turn")),
			"sol2": fmt.Sprintf("%s at the %s and %s it.", pick("Look", "Point"), other, pick("paint", "leave", "sink")),
		}
		text, err := json.Marshal(row)
		if err != nil {
			return err
		}
		rows.Write(append(text, '\n'))
		fmt.Fprintln(&labels, random.IntN(2))
	}
	var wiki strings.Builder
	for page := 0; page < 4; page++ {
		fmt.Fprintf(&wiki, " \n = The %s = \n \n", pick(things...))
		for line := 0; line < 6; line++ {
			for w := 0; w < 12; w++ {
				fmt.Fprintf(&wiki, " the %s is %s the %s .", pick(things...), pick("near", "under", "behind", "like"), pick(things...))
			}
			wiki.WriteString(" \n")
		}
	}
	for name, text := range map[string]string{"piqa/valid.jsonl": rows.String(), "piqa/valid-labels.lst": labels.String(), "wikitext2/wiki.test.raw": wiki.String()} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
