package tokenizer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// maxTokenBytes bounds a token of a rank file, since all of its splits are looked at. The longest of published files has
// 128.
const maxTokenBytes = 1024

// knownVocabulary is what the files of a published vocabulary leave to the code of its model: how text is cut into words,
// and which special tokens there are.
type knownVocabulary struct {
	name string
	next scanner
	nfc  bool
	// whole: a word that is a token needs no merges. It changes ids only for the merges of Llama-3, and is always so for
	// ranks.
	whole    bool
	specials func() []hfAdded // nil if the models that use the vocabulary differ in them
	addBOS   bool
	bos, eos string
}

// knownVocabularies are found by the SHA-256 of their tokens (see digestOf), since no file says which they are.
var knownVocabularies = map[string]*knownVocabulary{
	"fd378f24b83806489c73286ce283dac9eddaf8a34615261ea47f1590231e0f29": vocabularyGPT2, // vocab.json, with <|endoftext|>
	"46072b5a404897fa6a1f2168141a11bcaeee1cdc47b55bd689f2fd489f56a38e": vocabularyGPT2, // its ranks (r50k_base)
	"c1b1bb7bddc9c6f85ca22b038f449bc0729089e6281164aa3af3b03bcd83bd5a": vocabularyLlama3,
	"ed525d9984323a3d8d3775fb37ded4a707463720778ee18ae8bc92eba8d06b2d": vocabularyQwen2,
	"3997166c77cdcae9e641edf22da440f76874d9f1cbaa578d22c5585b0b91804d": vocabularyCL100K,
}

var (
	vocabularyGPT2   = &knownVocabulary{name: "GPT-2", next: scanGPT2, specials: specialsGPT2, bos: "<|endoftext|>", eos: "<|endoftext|>"}
	vocabularyLlama3 = &knownVocabulary{name: "Llama-3", next: scanLlama3, whole: true, specials: specialsLlama3, addBOS: true, bos: "<|begin_of_text|>", eos: "<|end_of_text|>"}
	vocabularyQwen2  = &knownVocabulary{name: "Qwen", next: scanQwen2, nfc: true}
	vocabularyCL100K = &knownVocabulary{name: "cl100k_base", next: scanLlama3}
)

// digestOf is the SHA-256 of the bytes of all tokens in the order of their ids, each with its length before it.
func digestOf(tokens []string) string {
	sum, buf := sha256.New(), make([]byte, 0, 4096)
	for _, t := range tokens {
		if len(buf)+len(t)+binary.MaxVarintLen64 > cap(buf) {
			sum.Write(buf)
			buf = buf[:0]
		}
		buf = binary.AppendUvarint(buf, uint64(len(t)))
		buf = append(buf, t...)
	}
	sum.Write(buf)
	return hex.EncodeToString(sum.Sum(nil))
}

func specialToken(id int, content string) hfAdded {
	n := int64(id)
	return hfAdded{ID: &n, Content: &content, Special: true}
}

func specialsGPT2() []hfAdded { return []hfAdded{specialToken(50256, "<|endoftext|>")} }

// specialsLlama3 are the 256 special tokens of Llama-3.1, by the names of its Hugging Face form.
func specialsLlama3() []hfAdded {
	names := []string{
		"<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>",
		"<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
	}
	var out []hfAdded
	for i := range 256 {
		if i >= len(names) {
			names = append(names, fmt.Sprintf("<|reserved_special_token_%d|>", i-8))
		}
		out = append(out, specialToken(128000+i, names[i]))
	}
	return out
}

// describeVocabulary decides what kind of vocabulary tokens (by id) are. merges says that they come with a list of merges.
func describeVocabulary(tokens []string, merges bool, side settings) (*knownVocabulary, error) {
	if k := knownVocabularies[digestOf(tokens)]; k != nil {
		return k, nil
	}
	class := strings.TrimSuffix(side.class, "Fast")
	if class == "" && side.modelType == "qwen2" {
		class = "Qwen2Tokenizer"
	} else if class == "" && side.modelType == "gpt2" {
		class = "GPT2Tokenizer"
	}
	switch {
	case class == "Qwen2Tokenizer":
		return vocabularyQwen2, nil
	case class == "GPT2Tokenizer" && merges: // with ranks, the class is named for want of a better one (Phi-4)
		return &knownVocabulary{name: "GPT-2", next: scanGPT2}, nil
	}
	about := "nothing beside it says how text is cut into words"
	if class != "" {
		about = fmt.Sprintf("tokenizer_class %.40q beside it does not say how text is cut into words", side.class)
	}
	return nil, fmt.Errorf("%d tokens of an unknown vocabulary, and %s, expected a tokenizer.json, a published vocabulary (GPT-2, Llama-3, Qwen, cl100k_base), or tokenizer_class Qwen2Tokenizer in tokenizer_config.json", len(tokens), about)
}

// loadRanks makes a tokenizer from a tiktoken file: a line for each token, its bytes in base64 and its rank, which is its
// id. Two neighbours merge whenever they spell a token, lowest rank first (tiktoken, src/lib.rs).
func loadRanks(data []byte, side settings) (*byteTokenizer, error) {
	v, err := parseRanks(data)
	if err != nil {
		return nil, err
	}
	k, err := describeVocabulary(v.pieces, false, side)
	if err != nil {
		return nil, err
	}
	t := &byteTokenizer{next: k.next, nfc: k.nfc}
	t.kind = "tiktoken"
	if err := t.setRanks(v, v.pieces, 0); err != nil {
		return nil, err
	}
	return t, t.finishRanks(v, k, data, side)
}

// parseRanks reads a tiktoken file. The pieces of the vocabulary are the bytes themselves.
func parseRanks(data []byte) (*vocabulary, error) {
	n := bytes.Count(data, []byte("\n")) + 1
	v := newVocabulary(n)
	arena := make([]byte, 0, base64.StdEncoding.DecodedLen(len(data)))
	text := view(bytes.TrimPrefix(data, []byte("\ufeff")))
	for line := 1; text != ""; line++ {
		var l string
		l, text, _ = strings.Cut(text, "\n")
		l = strings.TrimSuffix(l, "\r")
		if l == "" {
			continue
		}
		token, number, ok := strings.Cut(l, " ")
		rank, err := strconv.ParseUint(number, 10, 31)
		if !ok || err != nil {
			return nil, fmt.Errorf("line %d is %.60q, expected a token in base64, a space and a rank", line, l)
		}
		start := len(arena)
		arena, err = base64.StdEncoding.AppendDecode(arena, []byte(token))
		if err != nil {
			return nil, fmt.Errorf("line %d: %.60q is not base64", line, token)
		}
		piece := arena[start:len(arena):len(arena)]
		if len(piece) > maxTokenBytes {
			return nil, fmt.Errorf("line %d: a token of %d bytes, expected at most %d", line, len(piece), maxTokenBytes)
		}
		// A hole in the numbering is not forbidden, but a file of n lines has no use for many.
		if err := v.add(view(piece), int64(rank), pieceText, 2*n+1024); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	return v, nil
}

// setRanks fills the merge engine from ranks: tokens[i] has the rank i and is v.pieces[i+offset].
func (t *byteTokenizer) setRanks(v *vocabulary, tokens []string, offset int32) error {
	m := newBPE(len(v.pieces))
	t.m = m
	m.byteLevel = true
	splits := 0
	for i, piece := range tokens {
		if len(piece) == 1 {
			m.bytes[piece[0]] = int32(i) + offset
		}
		m.longest = max(m.longest, len(piece))
		splits += max(len(piece)-1, 0)
	}
	if err := m.checkBytes(); err != nil {
		return err
	}
	m.pairs = newPairTable(min(splits, 2*len(tokens)+len(tokens)/4))
	f, b := newSplitFilter(tokens), &mergeBatch{m: m, v: v, skip: true}
	for i, piece := range tokens {
		for _, at := range f.candidates(piece) {
			b.add(mergeItem{left: piece[:at], right: piece[at:], to: int32(i) + offset, rank: uint32(i)})
		}
	}
	b.flush()
	m.whole = &v.pieceSet
	m.finish(nil)
	return m.pairs.check()
}

// splitFilter finds the splits of a token whose halves may both be tokens. It has a bit for the hash of each token, and
// the hashes of all halves of a token follow from one another, so that most splits need no look into the vocabulary.
type splitFilter struct {
	bits  []uint64
	shift uint
	power [maxTokenBytes + 1]uint64
	head  [maxTokenBytes + 1]uint64 // hash of the first bytes of a token
	out   []int
}

const splitBase = 0x9E3779B97F4A7C15

func newSplitFilter(tokens []string) *splitFilter {
	n := max(bits.Len(uint(16*len(tokens))), 6)
	f := &splitFilter{bits: make([]uint64, 1<<(n-6)), shift: uint(64 - n)}
	f.power[0] = 1
	for i := range maxTokenBytes {
		f.power[i+1] = f.power[i] * splitBase
	}
	for _, t := range tokens {
		k := f.slot(f.hash(t))
		f.bits[k>>6] |= 1 << (k & 63)
	}
	return f
}

// hash fills in head and returns the hash of the whole token.
func (f *splitFilter) hash(t string) uint64 {
	h := uint64(0)
	for i := range len(t) {
		h = h*splitBase + uint64(t[i]) + 1
		f.head[i+1] = h
	}
	return h
}

func (f *splitFilter) slot(h uint64) uint64 { return (h ^ h>>32) * splitBase >> f.shift }

func (f *splitFilter) has(h uint64) bool {
	k := f.slot(h)
	return f.bits[k>>6]>>(k&63)&1 != 0
}

// candidates returns the lengths of the left halves. The slice is good until the next call.
func (f *splitFilter) candidates(t string) []int {
	f.out = f.out[:0]
	whole := f.hash(t)
	for at := 1; at < len(t); at++ {
		left := f.head[at]
		if f.has(whole-left*f.power[len(t)-at]) && f.has(left) {
			f.out = append(f.out, at)
		}
	}
	return f.out
}

// finishRanks enters the special tokens of a rank file, which are not looked up among its tokens: a special token and a
// token of text may be spelled alike. Then it settles template and digest.
func (t *byteTokenizer) finishRanks(v *vocabulary, k *knownVocabulary, data []byte, side settings) error {
	added, note, err := k.added(side)
	if err != nil {
		return err
	}
	names := newVocabulary(len(added))
	if t.added, err = t.setAdded(added, names, t.normalize, 2*len(v.pieces)+1024); err != nil {
		return err
	}
	t.pieces, t.kinds = slices.Grow(v.pieces, max(0, len(names.pieces)-len(v.pieces))), v.kinds
	for id, name := range names.pieces {
		switch {
		case id >= len(t.pieces):
			t.pieces, t.kinds = append(t.pieces, name), append(t.kinds, names.kinds[id])
		case names.kinds[id] == pieceAbsent:
		case t.kinds[id] != pieceAbsent:
			return fmt.Errorf("id %d belongs to a token of text, %.40q, and to the special token %.40q", id, t.pieces[id], name)
		default:
			t.pieces[id], t.kinds[id] = name, names.kinds[id]
		}
	}
	t.rules.byteLevel = true
	t.raw = t.pieces
	if len(t.shown) > 0 {
		t.raw = slices.Clone(t.pieces)
	}
	for id, text := range t.shown {
		t.raw[id] = text
	}
	names.pieces, names.kinds = t.pieces, t.kinds
	return t.setBare(data, names, k, side, note)
}

// added returns the special tokens of a file that names none itself: those of tokenizer_config.json, or the model's own.
// note is what a file beside the tokenizer file changed.
func (k *knownVocabulary) added(side settings) (added []hfAdded, note string, err error) {
	switch {
	case side.added != nil:
		if added, err = addedDecoder(side.added); err != nil {
			return nil, "", fmt.Errorf("tokenizer_config.json: %w", err)
		}
		sum := sha256.New()
		for _, a := range added {
			fmt.Fprintf(sum, "%d %q %t %t %t %t\n", *a.ID, *a.Content, a.LStrip, a.RStrip, a.Normalized, a.Special)
		}
		return added, fmt.Sprintf(" added_tokens_decoder=%x", sum.Sum(nil)), nil
	case k.specials != nil:
		return k.specials(), "", nil
	}
	return nil, "", fmt.Errorf("the special tokens of a %s vocabulary differ between the models that use it, expected a tokenizer.json, or a tokenizer_config.json with added_tokens_decoder beside the file", k.name)
}

// loadVocabulary makes a tokenizer from a JSON object of tokens and ids and its list of merges: GPT-2's vocab.json and
// merges.txt, or encoder.json and vocab.bpe.
func loadVocabulary(data, merges []byte, mergesName string, side settings) (*byteTokenizer, error) {
	r := &jsonReader{s: view(bytes.TrimPrefix(data, []byte("\ufeff")))}
	v := newVocabulary(len(r.s) / 20)
	if err := v.read(r, "the vocabulary", len(data)); err != nil {
		return nil, err
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	tokens := make([]string, len(v.pieces))
	arena := make([]byte, 0, len(data))
	for id, piece := range v.pieces {
		start := len(arena)
		arena, _ = appendBytes(arena, piece)
		tokens[id] = view(arena[start:])
	}
	k, err := describeVocabulary(tokens, true, side)
	if err != nil {
		return nil, err
	}
	t := &byteTokenizer{next: k.next, nfc: k.nfc}
	t.kind = "vocab+merges"
	if err := t.setVocabulary(v, k.whole); err != nil {
		return nil, err
	}
	if err := t.m.readMerges(merges, v); err != nil {
		return nil, fmt.Errorf("%s: %w", mergesName, err)
	}
	added, note, err := k.added(side)
	if err != nil {
		return nil, err
	}
	if t.added, err = t.setAdded(added, v, t.normalize, 2*len(v.pieces)+1024); err != nil {
		return nil, err
	}
	t.setRaw()
	note = fmt.Sprintf(" merges=%x", sha256.Sum256(merges)) + note
	return t, t.setBare(data, v, k, side, note)
}

// readMerges reads a list of merges, one a line: two tokens with a space between, the first merge first.
func (m *bpe) readMerges(data []byte, v *vocabulary) error {
	m.pairs = newPairTable(bytes.Count(data, []byte("\n")))
	b := &mergeBatch{m: m, v: v}
	rank := uint32(0)
	unknown := func(it *mergeItem) error {
		return fmt.Errorf("line %d: %.40q, %.40q and %.40q are not all in the vocabulary", it.at, it.left, it.right, it.left+it.right)
	}
	text := view(bytes.TrimPrefix(data, []byte("\ufeff")))
	for line := 1; text != ""; line++ {
		var l string
		l, text, _ = strings.Cut(text, "\n")
		l = strings.TrimSuffix(l, "\r")
		if l == "" || strings.HasPrefix(l, "#version") {
			continue
		}
		left, right, ok := strings.Cut(l, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return fmt.Errorf("line %d is %.60q, expected two tokens with one space between", line, l)
		}
		if bad := b.add(mergeItem{left: left, right: right, to: noSymbol, rank: rank, at: line}); bad != nil {
			return unknown(bad)
		}
		rank++
	}
	if bad := b.flush(); bad != nil {
		return unknown(bad)
	}
	m.finish(nil)
	return m.pairs.check()
}

// tekkenFile is a tekken.json (mistral_common, tokens/tokenizers/tekken.py), without its vocabulary.
type tekkenFile struct {
	Config struct {
		Pattern            *string `json:"pattern"`
		NumVocabTokens     *int    `json:"num_vocab_tokens"`
		DefaultVocabSize   *int    `json:"default_vocab_size"`
		DefaultNumSpecials *int    `json:"default_num_special_tokens"`
		Version            *string `json:"version"`
	}
	Specials []tekkenSpecial
}

type tekkenSpecial struct {
	Rank *int    `json:"rank"`
	Text *string `json:"token_str"`
}

// tekkenNames are the first special tokens of the files that list none (version v3, Mistral-Nemo); <SPECIAL_14> and so on
// follow.
var tekkenNames = []string{
	"<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]",
	"<pad>", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
}

var vocabularyTekken = &knownVocabulary{name: "Tekken", addBOS: true, bos: "<s>", eos: "</s>"}

// loadTekken makes a tokenizer from a tekken.json. Special tokens have the first ids; those of the vocabulary follow, as
// many as default_vocab_size leaves room for.
func loadTekken(data []byte, side settings) (*byteTokenizer, error) {
	var f tekkenFile
	var vocab *jsonReader
	r := &jsonReader{s: view(bytes.TrimPrefix(data, []byte("\ufeff")))}
	seen := make(map[string]bool)
	err := r.object(func(key string) error {
		if seen[key] {
			return r.fail("%.40q appears twice", key)
		}
		seen[key] = true
		part, err := r.sub()
		if err != nil {
			return err
		}
		switch key {
		case "config":
			return part.decode(key, &f.Config)
		case "special_tokens":
			return part.decode(key, &f.Specials)
		case "vocab":
			vocab = part
			return nil
		case "type", "image", "multimodal", "audio": // no part of the mapping from text to ids
			return nil
		}
		return r.fail("unknown key %.40q", key)
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	c := &f.Config
	switch {
	case vocab == nil:
		return nil, errors.New(`no key "vocab", expected a tekken.json`)
	case c.Pattern == nil || c.DefaultVocabSize == nil || c.DefaultNumSpecials == nil:
		return nil, errors.New("config without pattern, default_vocab_size or default_num_special_tokens, expected a tekken.json")
	}
	t := &byteTokenizer{}
	t.kind = "tekken.json"
	if t.next, err = scannerOf(*c.Pattern); err != nil {
		return nil, fmt.Errorf("config.pattern: %w", err)
	}
	// An entry of the vocabulary takes at least 20 bytes, one of the special tokens may be no more than a number here.
	specials, size := *c.DefaultNumSpecials, *c.DefaultVocabSize
	if specials < 0 || specials > 1<<16 || size <= specials || size-specials > len(data)/20 {
		return nil, fmt.Errorf("config.default_vocab_size %d with default_num_special_tokens %d, expected more than the special tokens, at most 65536 of them, and no more than %d others in a file of this size", size, specials, len(data)/20)
	}
	v, err := parseTekken(vocab, specials, size)
	if err != nil {
		return nil, err
	}
	added, err := f.added()
	if err != nil {
		return nil, err
	}
	if err := t.setRanks(v, v.pieces[specials:], int32(specials)); err != nil {
		return nil, fmt.Errorf("vocab: %w", err)
	}
	k := *vocabularyTekken
	k.specials = func() []hfAdded { return added }
	side.added = nil // this file names its own
	return t, t.finishRanks(v, &k, data, side)
}

// added returns the special tokens: those that the file lists, the usual names if it has no list, and <SPECIAL_n> for the
// rest.
func (f *tekkenFile) added() ([]hfAdded, error) {
	n := *f.Config.DefaultNumSpecials
	names := make([]string, n)
	if f.Specials == nil {
		copy(names, tekkenNames)
	}
	for i, s := range f.Specials {
		if s.Rank == nil || s.Text == nil || *s.Text == "" {
			return nil, fmt.Errorf("special_tokens[%d] without rank or token_str", i)
		}
		if *s.Rank < 0 || *s.Rank >= n || names[*s.Rank] != "" {
			return nil, fmt.Errorf("special_tokens[%d] %.40q has rank %d, expected one of its own below %d", i, *s.Text, *s.Rank, n)
		}
		names[*s.Rank] = *s.Text
	}
	out := make([]hfAdded, n)
	for i := range names {
		out[i] = specialToken(i, cmp.Or(names[i], fmt.Sprintf("<SPECIAL_%d>", i)))
	}
	return out, nil
}

// parseTekken reads the vocabulary of a tekken.json of size ids, of which the first are special tokens.
func parseTekken(r *jsonReader, specials, size int) (*vocabulary, error) {
	v := newVocabulary(size)
	arena := make([]byte, 0, 8*size)
	n := 0
	err := r.array(func(i int) error {
		rank, token, hasToken := int64(-1), "", false
		err := r.object(func(key string) (err error) {
			switch key {
			case "rank":
				rank, err = r.id()
			case "token_bytes":
				token, err = r.str()
				hasToken = true
			case "token_str":
				err = r.skip()
			default:
				err = r.fail("unknown key vocab[%d].%.40q", i, key)
			}
			return err
		})
		if err != nil {
			return err
		}
		if rank != int64(i) || !hasToken {
			return r.fail("vocab[%d] has rank %d, expected %d, and token_bytes", i, rank, i)
		}
		if n++; i >= size-specials {
			return nil
		}
		start := len(arena)
		if arena, err = base64.StdEncoding.AppendDecode(arena, []byte(token)); err != nil {
			return r.fail("vocab[%d].token_bytes %.60q is not base64", i, token)
		}
		piece := arena[start:len(arena):len(arena)]
		if len(piece) > maxTokenBytes {
			return r.fail("vocab[%d] has %d bytes, expected at most %d", i, len(piece), maxTokenBytes)
		}
		if err := v.add(view(piece), int64(specials+i), pieceText, size); err != nil {
			return r.fail("vocab: %v", err)
		}
		return nil
	})
	if err == nil && n < size-specials {
		err = r.fail("vocab has %d entries, expected at least the %d of config.default_vocab_size without special tokens", n, size-specials)
	}
	return v, err
}

// addedDecoder reads added_tokens_decoder of a tokenizer_config.json, in the order of the ids.
func addedDecoder(object json.RawMessage) ([]hfAdded, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(object, &raw); err != nil {
		return nil, fmt.Errorf("added_tokens_decoder is %.40q, expected an object", object)
	}
	out := make([]hfAdded, 0, len(raw))
	for key, data := range raw {
		id, err := strconv.ParseUint(key, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("added_tokens_decoder has the key %.40q, expected an id", key)
		}
		var a hfAdded
		if err := json.Unmarshal(data, &a); err != nil || a.Content == nil || *a.Content == "" {
			return nil, fmt.Errorf("added_tokens_decoder %d is %.60q, expected an object with content", id, data)
		}
		n := int64(id)
		a.ID = &n
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b hfAdded) int { return cmp.Compare(*a.ID, *b.ID) })
	return out, nil
}
