package tokenizer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// The types of a SentencePiece (sentencepiece_model.proto, ModelProto.SentencePiece.Type).
const (
	spmNormal      = 1
	spmUnknown     = 2
	spmControl     = 3
	spmUserDefined = 4
	spmUnused      = 5
	spmByte        = 6
)

var spmTypeNames = map[uint64]string{spmNormal: "NORMAL", spmUnknown: "UNKNOWN", spmControl: "CONTROL", spmUserDefined: "USER_DEFINED", spmUnused: "UNUSED", spmByte: "BYTE"}

// spmModel is what a SentencePiece file says.
type spmModel struct {
	pieces []spmPiece

	modelType    uint64
	byteFallback bool
	suffixSpace  bool
	unkSurface   string
	bosPiece     string
	eosPiece     string

	normalizer     string
	charsmap       int // bytes
	addDummyPrefix bool
	removeExtra    bool
	escapeSpaces   bool
	denormalizer   int // bytes of its charsmap
}

type spmPiece struct {
	text  string
	score float32
	typ   uint64
}

// spmTokenizer encodes by SentencePiece's BPE (sentencepiece/src/bpe_model.cc and normalizer.cc).
type spmTokenizer struct {
	core
	m           *bpe
	userDefined *matcher
	specials    *matcher
	dummyPrefix bool
	removeExtra bool
}

// parseSPM reads a SentencePiece model. Errors name the field and the byte offset.
func parseSPM(data []byte) (*spmModel, error) {
	m := &spmModel{
		modelType: 1, unkSurface: " \u2047 ", bosPiece: "<s>", eosPiece: "</s>",
		addDummyPrefix: true, removeExtra: true, escapeSpaces: true,
	}
	err := eachField(data, 0, "model", func(f field) error {
		switch f.number {
		case 1:
			p, err := parseSPMPiece(f, len(m.pieces))
			m.pieces = append(m.pieces, p)
			return err
		case 2:
			return m.parseTrainer(f)
		case 3:
			return m.parseNormalizer(f)
		case 5:
			return eachMessage(f, "denormalizer_spec", func(g field) error {
				if g.number == 2 {
					b, err := g.bytes("denormalizer_spec.precompiled_charsmap")
					m.denormalizer = len(b)
					return err
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, m.check()
}

func parseSPMPiece(f field, i int) (p spmPiece, err error) {
	p.typ = spmNormal
	err = eachMessage(f, "piece", func(g field) (err error) {
		switch g.number {
		case 1:
			p.text, err = g.text("piece")
		case 2:
			p.score, err = g.float("score")
		case 3:
			p.typ, err = g.varint("type")
		}
		return err
	})
	switch {
	case err != nil:
	case p.text == "":
		err = errors.New("piece is empty, expected at least one character")
	case math.IsNaN(float64(p.score)):
		err = fmt.Errorf("score of %.40q is not a number", p.text)
	case p.typ == spmUnused || spmTypeNames[p.typ] == "":
		err = fmt.Errorf("type of %.40q is %d (%s), expected NORMAL, UNKNOWN, CONTROL, USER_DEFINED or BYTE", p.text, p.typ, cmp.Or(spmTypeNames[p.typ], "unknown"))
	}
	if err != nil {
		err = fmt.Errorf("pieces[%d]: %w", i, err)
	}
	return p, err
}

func (m *spmModel) parseTrainer(f field) error {
	return eachMessage(f, "trainer_spec", func(g field) (err error) {
		switch g.number {
		case 3:
			m.modelType, err = g.varint("trainer_spec.model_type")
		case 24:
			m.suffixSpace, err = g.bool("trainer_spec.treat_whitespace_as_suffix")
		case 35:
			m.byteFallback, err = g.bool("trainer_spec.byte_fallback")
		case 44:
			m.unkSurface, err = g.text("trainer_spec.unk_surface")
		case 46:
			m.bosPiece, err = g.text("trainer_spec.bos_piece")
		case 47:
			m.eosPiece, err = g.text("trainer_spec.eos_piece")
		}
		return err
	})
}

func (m *spmModel) parseNormalizer(f field) error {
	return eachMessage(f, "normalizer_spec", func(g field) (err error) {
		switch g.number {
		case 1:
			m.normalizer, err = g.text("normalizer_spec.name")
		case 2:
			var b []byte
			b, err = g.bytes("normalizer_spec.precompiled_charsmap")
			m.charsmap = len(b)
		case 3:
			m.addDummyPrefix, err = g.bool("normalizer_spec.add_dummy_prefix")
		case 4:
			m.removeExtra, err = g.bool("normalizer_spec.remove_extra_whitespaces")
		case 5:
			m.escapeSpaces, err = g.bool("normalizer_spec.escape_whitespaces")
		}
		return err
	})
}

// check refuses what the encoder does not do.
func (m *spmModel) check() error {
	types := [...]string{0: "0", 1: "UNIGRAM", 2: "BPE", 3: "WORD", 4: "CHAR"}
	switch {
	case len(m.pieces) == 0:
		return errors.New("no pieces, expected a SentencePiece model")
	case m.modelType != 2:
		name := fmt.Sprint(m.modelType)
		if m.modelType < uint64(len(types)) {
			name = types[m.modelType]
		}
		return fmt.Errorf("trainer_spec.model_type is %s, which is not supported, expected BPE", name)
	case m.charsmap > 0:
		return fmt.Errorf("normalizer_spec %q with a precompiled_charsmap of %d bytes is not supported, expected identity", m.normalizer, m.charsmap)
	case m.denormalizer > 0:
		return fmt.Errorf("denormalizer_spec with a precompiled_charsmap of %d bytes is not supported, expected none", m.denormalizer)
	case !m.escapeSpaces:
		return errors.New("normalizer_spec.escape_whitespaces is false, which is not supported, expected true")
	case m.suffixSpace:
		return errors.New("trainer_spec.treat_whitespace_as_suffix is true, which is not supported, expected false")
	}
	return nil
}

// build makes the tokenizer of a model, without template and digest.
func (m *spmModel) build() (*spmTokenizer, error) {
	n := len(m.pieces)
	v := newVocabulary(n)
	t := &spmTokenizer{m: newBPE(n), userDefined: newMatcher(), specials: newMatcher(), dummyPrefix: m.addDummyPrefix, removeExtra: m.removeExtra}
	t.bos, t.eos = -1, -1
	t.m.latePieces, t.m.fuseUnk, t.m.byteFallback = true, true, m.byteFallback
	for i, p := range m.pieces {
		kind := pieceText
		switch p.typ {
		case spmUnknown:
			kind = pieceUnknown
			if t.m.unk != noSymbol {
				return nil, fmt.Errorf("pieces %d and %d are both UNKNOWN, expected one", t.m.unk, i)
			}
			t.m.unk = int32(i)
		case spmControl:
			kind = pieceControl
		case spmUserDefined:
			t.userDefined.add(p.text, matched{id: int32(i)})
		case spmByte:
			kind = pieceByte
			b, ok := byteOf(p.text)
			if !ok || !m.byteFallback {
				return nil, fmt.Errorf("pieces[%d] %.40q is a BYTE piece, expected the form <0xNN> and trainer_spec.byte_fallback", i, p.text)
			}
			t.m.bytes[b] = int32(i)
		}
		if kind == pieceControl || kind == pieceUnknown {
			t.specials.add(p.text, matched{id: int32(i), special: true})
		}
		if err := v.add(p.text, int64(i), kind, n); err != nil {
			return nil, err
		}
	}
	if t.m.unk == noSymbol {
		return nil, errors.New("no piece of type UNKNOWN, expected one")
	}
	if b := slices.Index(t.m.bytes[:], noSymbol); m.byteFallback && b >= 0 {
		return nil, fmt.Errorf("trainer_spec.byte_fallback without the piece <0x%02X>", b)
	}
	t.pieces, t.kinds = v.pieces, v.kinds
	if id, ok := v.find(m.bosPiece); ok && v.kinds[id] == pieceControl {
		t.bos, t.bosText = id, m.bosPiece
	}
	if id, ok := v.find(m.eosPiece); ok && v.kinds[id] == pieceControl {
		t.eos = id
	}
	t.rules = decodeRules{sentencePiece: true, everyLeading: m.removeExtra, keepLeading: !m.addDummyPrefix && !m.removeExtra, unkSurface: m.unkSurface}
	return t, m.merges(t.m, v)
}

// merges derives the merge of every split of every piece into two symbols. SentencePiece merges two neighbours whenever
// they spell a piece, best score first; equal scores have equal rank, so that the leftmost pair comes first.
func (m *spmModel) merges(b *bpe, v *vocabulary) error {
	mergeable := func(i int32) bool { return m.pieces[i].typ == spmNormal || m.pieces[i].typ == spmUserDefined }
	var order []int32
	lengths := make(map[int]bool) // of the pieces, so that a piece of a hostile length is not hashed at every split
	for i, p := range m.pieces {
		if r, ok := oneRune(p.text); ok {
			b.setSymbol(r, int32(i))
		}
		if mergeable(int32(i)) {
			order = append(order, int32(i))
			lengths[len(p.text)] = true
		}
	}
	slices.SortFunc(order, func(x, y int32) int {
		return cmp.Or(cmp.Compare(m.pieces[y].score, m.pieces[x].score), cmp.Compare(x, y))
	})
	// A character inside a piece takes part in merges even if it is no piece itself.
	for _, i := range order {
		for _, r := range m.pieces[i].text {
			if b.symbol(r) == noSymbol {
				b.setSymbol(r, int32(b.n+len(b.extra)))
				b.extra = append(b.extra, r)
			}
		}
	}
	if n := b.n + len(b.extra); n > maxSymbols {
		return fmt.Errorf("%d pieces and characters, expected at most %d", n, maxSymbols)
	}
	side := func(s string, first rune, chars int) int32 {
		if chars == 1 {
			return b.symbol(first)
		}
		if i, ok := v.find(s); ok && mergeable(i) {
			return i
		}
		return noSymbol
	}
	b.pairs = newPairTable(2 * len(order))
	rank := uint32(0)
	for k, i := range order {
		p := m.pieces[i]
		if k > 0 && p.score != m.pieces[order[k-1]].score {
			rank++
		}
		chars := utf8.RuneCountInString(p.text)
		first, _ := utf8.DecodeRuneInString(p.text)
		for at, c := 0, 0; c+1 < chars; c++ {
			_, size := utf8.DecodeRuneInString(p.text[at:])
			at += size
			left, right := p.text[:at], p.text[at:]
			if c > 0 && !lengths[len(left)] || c+2 < chars && !lengths[len(right)] {
				continue
			}
			r, _ := utf8.DecodeRuneInString(right)
			l := side(left, first, c+1)
			if l == noSymbol {
				continue
			}
			if s := side(right, r, chars-c-1); s != noSymbol {
				b.pairs.set(l, s, rank, i)
			}
		}
	}
	b.finish(func(yield func(string) bool) {
		for _, i := range order {
			if !yield(m.pieces[i].text) {
				return
			}
		}
	})
	return b.pairs.check()
}

func (t *spmTokenizer) Encode(text string, special bool) []int32 {
	dst := t.begin(len(text), special)
	return t.end(t.segment(dst, repair(text)), special)
}

// EncodeParsed cuts text at control and unknown pieces and encodes what lies between as texts of their own, each with its
// dummy prefix, as llama.cpp does and as the Hugging Face form with normalized: false.
func (t *spmTokenizer) EncodeParsed(text string, special bool) []int32 {
	dst := t.begin(len(text), special)
	t.specials.split(repair(text), true, func(part string, _ int, id int32) {
		if id >= 0 {
			dst = append(dst, id)
		} else {
			dst = t.segment(dst, part)
		}
	})
	return t.end(dst, special)
}

// segment appends the ids of a text without special tokens.
func (t *spmTokenizer) segment(dst []int32, text string) []int32 {
	lead := t.dummyPrefix
	if t.removeExtra {
		text = t.squeeze(text)
	}
	if t.userDefined.empty() {
		return t.m.encode(dst, text, lead)
	}
	if text == "" {
		return dst
	}
	text = strings.ReplaceAll(text, " ", mark)
	if lead {
		text = mark + text
	}
	t.userDefined.split(text, true, func(part string, _ int, id int32) {
		if id >= 0 {
			dst = append(dst, id)
		} else {
			dst = t.m.encode(dst, part, false)
		}
	})
	return dst
}

// squeeze removes leading and trailing spaces and makes one of several, as Normalizer::Normalize does with
// remove_extra_whitespaces. Only spaces count, but at the end a literal U+2581 goes too. A user-defined piece keeps the
// spaces inside it.
func (t *spmTokenizer) squeeze(text string) string {
	if t.userDefined.empty() {
		text = trimRightMarks(strings.TrimLeft(text, " "))
		if !strings.Contains(text, "  ") {
			return text
		}
	}
	var b strings.Builder
	b.Grow(len(text))
	afterSpace := true
	for i := 0; i < len(text); {
		n := max(1, t.userDefined.longest(text[i:]))
		part := text[i : i+n]
		i += n
		if afterSpace {
			part = strings.TrimLeft(part, " ")
		}
		if part != "" {
			b.WriteString(part)
			afterSpace = strings.HasSuffix(part, " ")
		}
	}
	return trimRightMarks(b.String())
}

func trimRightMarks(s string) string {
	for {
		n := len(s)
		s = strings.TrimSuffix(strings.TrimRight(s, " "), mark)
		if len(s) == n {
			return s
		}
	}
}

// loadSPM makes a tokenizer from a SentencePiece model.
func loadSPM(data []byte, side settings) (*spmTokenizer, error) {
	m, err := parseSPM(data)
	if err != nil {
		return nil, err
	}
	t, err := m.build()
	if err != nil {
		return nil, err
	}
	t.kind = "sentencepiece"
	return t, t.setTemplate(data, side)
}

// loadBin makes a tokenizer from llama2.c's tokenizer.bin: an int32 with the length of the longest token, then for each
// token a float32 score, an int32 length and its bytes, all little-endian (llama2.c, tokenizer.py, export). The format
// writes U+2581 as a space, and ids 0, 1 and 2 are the unknown token, BOS and EOS.
//
// It has no flag for the removal of extra white space: as in run.c there is a dummy prefix and nothing is removed. A
// U+2581 in the text is a space, as for the model that the file was made from (run.c would spell its bytes). Without
// byte tokens a run of unknown characters is one unknown token (run.c would write ids of other tokens).
func loadBin(data []byte, side settings) (*spmTokenizer, error) {
	m, err := parseBin(data)
	if err != nil {
		return nil, err
	}
	t, err := m.build()
	if err != nil {
		return nil, err
	}
	t.kind = "llama2.c"
	return t, t.setTemplate(data, side)
}

func parseBin(data []byte) (*spmModel, error) {
	m := &spmModel{modelType: 2, addDummyPrefix: true, escapeSpaces: true, normalizer: "identity"}
	if len(data) < 4 {
		return nil, fmt.Errorf("%d bytes, expected at least the 4 of the length of the longest token", len(data))
	}
	longest, at := int64(int32(binary.LittleEndian.Uint32(data))), 4
	seen := int64(0)
	for at < len(data) {
		i := len(m.pieces)
		if len(data)-at < 8 {
			return nil, fmt.Errorf("token %d: %d bytes left at byte %d, expected a score and a length of 8", i, len(data)-at, at)
		}
		p := spmPiece{score: math.Float32frombits(binary.LittleEndian.Uint32(data[at:])), typ: spmNormal}
		n := int64(int32(binary.LittleEndian.Uint32(data[at+4:])))
		at += 8
		switch {
		case n < 1 || n > int64(len(data)-at):
			return nil, fmt.Errorf("token %d: length %d at byte %d, expected 1 to the %d bytes left", i, n, at-4, len(data)-at)
		case n > longest:
			return nil, fmt.Errorf("token %d: length %d at byte %d, expected at most the %d of the head of the file", i, n, at-4, longest)
		case math.IsNaN(float64(p.score)):
			return nil, fmt.Errorf("token %d: the score at byte %d is not a number", i, at-8)
		}
		p.text = string(data[at : at+int(n)])
		if !utf8.ValidString(p.text) {
			return nil, fmt.Errorf("token %d: the bytes at byte %d are not UTF-8", i, at)
		}
		at += int(n)
		seen = max(seen, n)
		p.text = strings.ReplaceAll(p.text, " ", mark)
		switch i {
		case 0:
			p.typ = spmUnknown
		case 1, 2:
			p.typ = spmControl
			p.text = strings.Trim(p.text, "\n")
		}
		m.pieces = append(m.pieces, p)
	}
	if len(m.pieces) < 3 {
		return nil, fmt.Errorf("%d tokens, expected at least the unknown token, BOS and EOS", len(m.pieces))
	}
	if seen != longest {
		return nil, fmt.Errorf("the longest token has %d bytes, expected the %d of the head of the file", seen, longest)
	}
	m.bosPiece, m.eosPiece, m.unkSurface = m.pieces[1].text, m.pieces[2].text, strings.ReplaceAll(m.pieces[0].text, mark, " ")
	m.byteFallback = len(m.pieces) >= 3+256
	for b := 0; b < 256 && m.byteFallback; b++ {
		m.byteFallback = m.pieces[3+b].text == fmt.Sprintf("<0x%02X>", b)
	}
	if m.byteFallback {
		for b := range 256 {
			m.pieces[3+b].typ = spmByte
		}
	}
	return m, nil
}
