package tokenizer

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// byteTokenizer encodes by byte-level BPE: a scanner cuts the text into words, and the bytes of a word are merged. This is
// the form of GPT-2, Llama-3, Qwen2, Phi-4 and Tekken, from any of the files that such a vocabulary is stored in.
type byteTokenizer struct {
	core
	m           *bpe
	added       addedTokens
	next        scanner
	nfc         bool
	prefixSpace bool // a part that does not begin with a space gets one
}

// byteAlphabet is GPT-2's map of bytes to printable characters (openai/gpt-2, encoder.py, bytes_to_unicode): a byte that is
// no printable character of Latin-1 is written as one of the characters from U+0100 on.
var byteAlphabet = func() (a [256]rune) {
	n := rune(0x100)
	for b := range rune(256) {
		if '!' <= b && b <= '~' || 0xA1 <= b && b <= 0xAC || 0xAE <= b && b <= 0xFF {
			a[b] = b
		} else {
			a[b] = n
			n++
		}
	}
	return a
}()

// alphabetByte is the inverse of byteAlphabet, -1 for other characters.
var alphabetByte = func() (a [0x144]int16) {
	for i := range a {
		a[i] = -1
	}
	for b, r := range byteAlphabet {
		a[r] = int16(b)
	}
	return a
}()

// appendBytes appends the bytes that a piece written in GPT-2's alphabet stands for. A piece with any other character
// stands for its own UTF-8, as in the decoder of the Hugging Face library; known is false then.
func appendBytes(dst []byte, piece string) (out []byte, known bool) {
	start := len(dst)
	for i := 0; i < len(piece); {
		r, n := rune(piece[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(piece[i:])
		}
		if int(r) >= len(alphabetByte) || alphabetByte[r] < 0 {
			return append(dst[:start], piece...), false
		}
		dst = append(dst, byte(alphabetByte[r]))
		i += n
	}
	return dst, true
}

// loadByteLevel makes a tokenizer from the components of a byte-level tokenizer.json.
func loadByteLevel(f *hfFile, data []byte, side settings) (*byteTokenizer, error) {
	t := &byteTokenizer{}
	if err := t.setNormalizer(f.normalizer); err != nil {
		return nil, err
	}
	if err := t.setPreTokenizer(f.preTokenizer); err != nil {
		return nil, err
	}
	if d := f.decoder.list(); len(d) != 1 || d[0].Type != "ByteLevel" {
		return nil, fmt.Errorf("decoder %s is not supported with a byte-level pre_tokenizer, expected ByteLevel", f.decoder.describe())
	}
	model, v := f.model, f.model.vocab
	if err := t.setVocabulary(v, model.ignoreMerges); err != nil {
		return nil, fmt.Errorf("model.vocab: %w", err)
	}
	if err := t.m.setMerges(model.merges, v); err != nil {
		return nil, err
	}
	if model.ignoreMerges && slices.ContainsFunc(f.added, func(a hfAdded) bool { return a.fills(v) }) {
		t.m.whole = v.whole()
	}
	var err error
	if t.added, err = t.setAdded(f.added, v, t.normalize, len(data)); err != nil {
		return nil, err
	}
	t.setRaw()
	t.kind = "tokenizer.json"
	t.bos, t.eos = -1, -1
	post := f.post.list()
	for i := 0; i < len(post); {
		if post[i].Type == "ByteLevel" { // it changes offsets only
			post = slices.Delete(slices.Clone(post), i, i+1)
		} else {
			i++
		}
	}
	given, err := t.setPost(post)
	if err != nil {
		return nil, err
	}
	return t, t.setSpecials(data, v, side, given)
}

// fills reports whether an added token takes an id that the vocabulary leaves out.
func (a *hfAdded) fills(v *vocabulary) bool {
	return a.ID != nil && *a.ID >= 0 && *a.ID < int64(len(v.pieces)) && v.kinds[*a.ID] == pieceAbsent
}

func (t *byteTokenizer) setNormalizer(norm *hfPart) error {
	for _, p := range norm.list() {
		if p.Type != "NFC" {
			return fmt.Errorf("normalizer %s: %s is not supported with a byte-level pre_tokenizer, expected null or NFC", norm.describe(), p.detail())
		}
		t.nfc = true
	}
	return nil
}

// setPreTokenizer accepts ByteLevel with its own pattern, or Split by a known pattern and ByteLevel without its own.
func (t *byteTokenizer) setPreTokenizer(pre *hfPart) error {
	const forms = "expected ByteLevel, or Sequence[Split(Regex), ByteLevel with use_regex false]"
	parts := pre.list()
	if len(parts) == 0 || len(parts) > 2 || parts[len(parts)-1].Type != "ByteLevel" || len(parts) == 2 && parts[0].Type != "Split" {
		return fmt.Errorf("pre_tokenizer %s is not supported, %s", pre.describe(), forms)
	}
	last := parts[len(parts)-1]
	useRegex := last.UseRegex == nil || *last.UseRegex
	t.prefixSpace = last.AddPrefixSpace == nil || *last.AddPrefixSpace
	if len(parts) == 1 {
		if !useRegex {
			return fmt.Errorf("pre_tokenizer %s with use_regex false and no Split is not supported, %s", pre.describe(), forms)
		}
		t.next = scanGPT2
		return nil
	}
	split := parts[0]
	switch {
	case useRegex:
		return fmt.Errorf("pre_tokenizer %s with use_regex true is not supported, %s", pre.describe(), forms)
	case t.prefixSpace:
		return fmt.Errorf("pre_tokenizer %s with add_prefix_space true is not supported, expected false", pre.describe())
	case !(split.Behavior == "Isolated" || split.Behavior == "Removed" && split.Invert):
		// All known patterns match every character, so that nothing lies between two matches.
		return fmt.Errorf("pre_tokenizer Split with behavior %.40q and invert %t is not supported, expected \"Isolated\", or \"Removed\" with invert true", split.Behavior, split.Invert)
	}
	pattern, ok := split.Pattern["Regex"]
	if !ok || len(split.Pattern) != 1 {
		return fmt.Errorf("pre_tokenizer %s is not supported, expected a Regex", split.detail())
	}
	var err error
	if t.next, err = scannerOf(pattern); err != nil {
		err = fmt.Errorf("pre_tokenizer Split: %w", err)
	}
	return err
}

// setVocabulary starts the merge engine on the tokens of v, which are written in GPT-2's alphabet. With whole, a word that
// is a token needs no merges.
func (t *byteTokenizer) setVocabulary(v *vocabulary, whole bool) error {
	m := newBPE(len(v.pieces))
	t.m = m
	m.byteLevel = true
	var one [1]byte
	for id, piece := range v.pieces {
		m.longest = max(m.longest, len(piece)) // in bytes of the alphabet, of which a word has no more
		if piece == "" || len(piece) > 2 {
			continue
		}
		if b, known := appendBytes(one[:0], piece); known && len(b) == 1 {
			m.bytes[b[0]] = int32(id)
		}
	}
	if whole {
		m.whole, m.spelled = &v.pieceSet, true // later tokens have larger ids (see fills)
	}
	return m.checkBytes()
}

// checkBytes makes sure that every byte can be written.
func (m *bpe) checkBytes() error {
	if b := slices.Index(m.bytes[:], noSymbol); b >= 0 {
		return fmt.Errorf("no token of the byte 0x%02X, expected one for each of the 256", b)
	}
	return nil
}

// setRaw fills in the bytes of all tokens once they are known, written in GPT-2's alphabet. It also copies the surfaces,
// so that the file itself need not be kept.
func (t *byteTokenizer) setRaw() {
	total := 0
	for _, p := range t.pieces {
		total += len(p)
	}
	t.rules.byteLevel = true
	t.raw = make([]string, len(t.pieces))
	arena := make([]byte, 0, 2*total)
	for id, piece := range t.pieces {
		if t.kinds[id] == pieceShown {
			piece = t.shown[int32(id)]
		}
		start := len(arena)
		arena, _ = appendBytes(arena, piece)
		t.raw[id] = view(arena[start:len(arena):len(arena)])
		if t.raw[id] == t.pieces[id] {
			t.pieces[id] = t.raw[id]
			continue
		}
		start = len(arena)
		arena = append(arena, t.pieces[id]...)
		t.pieces[id] = view(arena[start:len(arena):len(arena)])
	}
}

func (t *byteTokenizer) Encode(text string, special bool) []int32 {
	return t.encode(text, special, false)
}

func (t *byteTokenizer) EncodeParsed(text string, special bool) []int32 {
	return t.encode(text, special, true)
}

func (t *byteTokenizer) encode(text string, special, parse bool) []int32 {
	dst := t.begin(len(text), special)
	inside := t.added.inside(parse)
	t.added.raw.split(repair(text), parse, func(part string, _ int, id int32) {
		if id >= 0 {
			dst = append(dst, id)
			return
		}
		part = t.normalize(part)
		if !inside {
			dst = t.part(dst, part)
			return
		}
		t.added.normalized.split(part, parse, func(part string, _ int, id int32) {
			if id >= 0 {
				dst = append(dst, id)
			} else {
				dst = t.part(dst, part)
			}
		})
	})
	return t.end(dst, special)
}

// part appends the ids of a part that holds no added token.
func (t *byteTokenizer) part(dst []int32, s string) []int32 {
	if t.prefixSpace && s != "" && !strings.HasPrefix(s, " ") {
		s = " " + s
	}
	for i := 0; i < len(s); {
		end := t.next(s, i)
		dst = t.m.word(dst, s[i:end])
		i = end
	}
	return dst
}

func (t *byteTokenizer) normalize(s string) string {
	if t.nfc {
		return nfc(s)
	}
	return s
}
