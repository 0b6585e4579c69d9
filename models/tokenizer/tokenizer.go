// Package tokenizer turns text into token ids and back, exactly as the tokenizer file on disk says.
//
// These files are read. What a file holds is decided by its content, not its name, and the forms of one vocabulary may
// give different ids: each form is followed as it stands.
//
//   - A Hugging Face tokenizer.json with a BPE model, of the SentencePiece kind (Llama-2, Mistral) or byte-level (GPT-2,
//     Llama-3, Qwen2, Phi-4, Tekken). Byte-level text is cut into words by one of the patterns that published files have,
//     each of which is a scanner made by hand; another pattern is an error that prints it.
//   - A SentencePiece model of BPE type (tokenizer.model), and llama2.c's tokenizer.bin.
//   - Mistral's tekken.json.
//   - A tiktoken file of ranks (Llama-3's tokenizer.model, *.tiktoken), and GPT-2's vocab.json with merges.txt, also named
//     encoder.json with vocab.bpe. Neither says how text is cut into words, nor which special tokens there are. The
//     vocabularies of GPT-2, Llama-3, Qwen and cl100k_base are known by the SHA-256 of their tokens; another one needs
//     tokenizer_class Qwen2Tokenizer (or, with merges, GPT2Tokenizer) in tokenizer_config.json. Special tokens are those
//     of added_tokens_decoder in tokenizer_config.json; without it Llama-3 and GPT-2 have their own, and for the others,
//     in which models differ, it is an error.
//
// Text that is not valid UTF-8 is repaired first: every maximal subpart of an ill-formed sequence becomes one U+FFFD
// (the WHATWG rule, Unicode 16, section 3.9).
//
// TrainBPE makes a byte-level tokenizer.json from texts.
package tokenizer

import "fmt"

// A Tokenizer maps text to token ids and back. All methods may be called from several goroutines at once.
type Tokenizer interface {
	// Encode returns the token ids of text. With special, the tokenizer's own template of special tokens (BOS for the
	// Llama families) is put around them. The text of a special token inside text is ordinary text; tokens that the
	// file adds without marking them special, and user-defined SentencePiece pieces, are always recognised.
	Encode(text string, special bool) []int32
	// EncodeParsed is Encode, except that special tokens written in text become their ids.
	EncodeParsed(text string, special bool) []int32
	// Decode returns the text of ids, with the rules of the file's own library: a tokenizer.json and the other byte-level
	// files keep the text of special tokens, a SentencePiece model drops control pieces. Bytes that are no UTF-8 become
	// U+FFFD. An id that names no token is an error.
	Decode(ids []int32) (string, error)
	// Size is the vocabulary size: the largest id plus one.
	Size() int
	// Token returns the surface piece of id as the file spells it, in GPT-2's alphabet of bytes where the file uses that,
	// and whether there is such a token. Where a file has base64 the piece is the bytes, which may not be UTF-8.
	Token(id int32) (string, bool)
	// BOS returns the id that begins a text, and false if the tokenizer has none.
	BOS() (int32, bool)
	// EOS returns the id that ends a text, and false if the tokenizer has none.
	EOS() (int32, bool)
	// BOSText is the text of the BOS token, or "" if there is none.
	BOSText() string
	// Kind is "sentencepiece", "tokenizer.json", "llama2.c", "tiktoken", "tekken.json" or "vocab+merges".
	Kind() string
	// Digest is a SHA-256 in hex. It is that of the tokenizer file itself, unless a file beside it changes the ids
	// (its template, BOS or EOS, its merges or special tokens): then it covers the file and what those say.
	Digest() string
}

// SkipSpecial returns ids without those of special tokens, in a new slice. Special are the tokens that a tokenizer.json
// or tokenizer_config.json marks so, those of a tekken.json, and the control and unknown pieces of the SentencePiece
// formats. Decoding the result is what the Hugging Face
// libraries call decoding with skip_special_tokens. As there (tokenizers 0.23), a token with normalized: true that the
// file's normalizer changes is not skipped.
func SkipSpecial(t Tokenizer, ids []int32) []int32 {
	out := make([]int32, 0, len(ids))
	s, ok := t.(interface{ Special(id int32) bool })
	for _, id := range ids {
		if !ok || !s.Special(id) {
			out = append(out, id)
		}
	}
	return out
}

// core holds what all tokenizers of this package share: the vocabulary and the special ids.
type core struct {
	kind    string
	digest  string
	pieces  []string // surface by id; "" where there is no token
	kinds   []pieceKind
	bos     int32 // -1: none
	eos     int32 // -1: none
	bosText string
	prefix  []int32  // template before the text
	suffix  []int32  // template after the text
	raw     []string // bytes by id, of byte-level tokenizers
	rules   decodeRules
	shown   map[int32]string // text of the tokens of kind pieceShown
}

// pieceKind says what a token is when it is decoded.
type pieceKind uint8

const (
	pieceAbsent  pieceKind = iota // a hole in the numbering
	pieceText                     // its surface
	pieceByte                     // one byte, written <0xNN>
	pieceControl                  // a special token
	pieceUnknown                  // the token of text that the vocabulary cannot spell
	pieceShown                    // an added token that is decoded to other text than its own
)

func (c *core) Size() int      { return len(c.pieces) }
func (c *core) Kind() string   { return c.kind }
func (c *core) Digest() string { return c.digest }

func (c *core) Token(id int32) (string, bool) {
	if !c.has(id) {
		return "", false
	}
	return c.pieces[id], true
}

func (c *core) has(id int32) bool {
	return id >= 0 && int(id) < len(c.pieces) && c.kinds[id] != pieceAbsent
}

func (c *core) BOS() (int32, bool) { return max(c.bos, 0), c.bos >= 0 }
func (c *core) EOS() (int32, bool) { return max(c.eos, 0), c.eos >= 0 }
func (c *core) BOSText() string    { return c.bosText }

// Special reports whether id is a special token (see SkipSpecial).
func (c *core) Special(id int32) bool {
	return c.has(id) && (c.kinds[id] == pieceControl || c.kinds[id] == pieceUnknown)
}

func (c *core) Decode(ids []int32) (string, error) {
	for i, id := range ids {
		if !c.has(id) {
			return "", fmt.Errorf("decode: id %d at position %d is not in the vocabulary, expected 0 to %d", id, i, len(c.pieces)-1)
		}
	}
	if c.rules.byteLevel {
		n := 0
		for _, id := range ids {
			n += len(c.raw[id])
		}
		out := make([]byte, 0, n)
		for _, id := range ids {
			out = append(out, c.raw[id]...)
		}
		return repair(view(out)), nil
	}
	s := textState{c: c, wholeRuns: true}
	out := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		out = s.push(out, id)
	}
	return string(s.flush(out)), nil
}

// begin returns an empty id slice for a text of n bytes, starting with the template's prefix if special.
func (c *core) begin(n int, special bool) []int32 {
	dst := make([]int32, 0, n/3+len(c.prefix)+len(c.suffix)+4)
	if special {
		dst = append(dst, c.prefix...)
	}
	return dst
}

func (c *core) end(dst []int32, special bool) []int32 {
	if special {
		dst = append(dst, c.suffix...)
	}
	return dst
}
