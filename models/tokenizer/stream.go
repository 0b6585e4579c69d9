package tokenizer

import (
	"strings"
	"unicode/utf8"
)

const (
	mark        = "\u2581" // SentencePiece's visible space
	replacement = "\uFFFD"
)

// decodeRules says how the pieces of a file become text.
type decodeRules struct {
	// byteLevel: a piece stands for bytes, and the text of a sequence is that of all its bytes. No other rule applies.
	byteLevel bool
	// markIsSpace: U+2581 in a piece is a space.
	markIsSpace bool
	// firstBare: the very first piece loses every U+2581 (the Metaspace decoder).
	firstBare bool
	// byteRuns: a piece <0xNN> is a byte.
	byteRuns bool
	// strip is how many leading spaces the whole text loses.
	strip int
	// sentencePiece selects the library's own rules: control pieces are nothing, unknown is unkSurface, a piece at the
	// start of the text loses one U+2581, and the good characters in a run of byte pieces survive its bad bytes.
	sentencePiece bool
	// everyLeading: not just the first piece but every piece loses one U+2581 until there is text.
	everyLeading bool
	// keepLeading: no piece loses one.
	keepLeading bool
	unkSurface  string
}

// textState decodes a sequence of ids step by step.
type textState struct {
	c *core
	// wholeRuns holds back a run of byte pieces until it ends, as a Hugging Face decoder does: if any part of it is bad,
	// every byte of it becomes U+FFFD. Without it characters come out as soon as they are whole.
	wholeRuns bool

	run      []byte // byte pieces not yet written
	bad      int    // byte pieces of a run that can no longer be valid
	pieces   int    // ids seen
	stripped int    // leading spaces dropped so far
	text     bool   // some text was written
	leadDone bool   // SentencePiece: the leading U+2581 was consumed
	// plainUnknown writes the unknown piece as the file spells it, not as its surface.
	plainUnknown bool
}

// push appends the text that id adds. An id without a token adds nothing.
func (s *textState) push(dst []byte, id int32) []byte {
	if !s.c.has(id) {
		return dst
	}
	piece, kind, r := s.c.pieces[id], s.c.kinds[id], &s.c.rules
	if r.byteLevel {
		return s.pushBytes(dst, s.c.raw[id])
	}
	start := len(dst)
	switch {
	case kind == pieceByte:
		dst = s.pushByte(dst, unhex(piece[3])<<4|unhex(piece[4]))
	case !r.sentencePiece:
		dst = s.endRun(dst)
		if kind == pieceShown {
			piece = s.c.shown[id]
		}
		switch {
		case r.firstBare && s.pieces == 0:
			dst = append(dst, strings.ReplaceAll(piece, mark, "")...)
		case r.markIsSpace:
			dst = appendSpaced(dst, piece)
		default:
			dst = append(dst, piece...)
		}
	case kind == pieceControl:
		dst = s.endRun(dst)
	case kind == pieceUnknown && !s.plainUnknown:
		dst = append(s.endRun(dst), r.unkSurface...)
	default:
		dst = s.endRun(dst)
		if !r.keepLeading && !s.leadDone && !s.text && len(dst) == start {
			if rest, ok := strings.CutPrefix(piece, mark); ok {
				piece, s.leadDone = rest, !r.everyLeading
			}
		}
		dst = appendSpaced(dst, piece)
	}
	s.pieces++
	return s.trim(dst, start)
}

// pushBytes appends what is certain once the bytes of piece have followed those held back: characters, and U+FFFD for
// every maximal subpart that nothing can complete any more.
func (s *textState) pushBytes(dst []byte, piece string) []byte {
	s.run = append(s.run, piece...)
	i := 0
	for i < len(s.run) && utf8.FullRune(s.run[i:]) {
		r, n := utf8.DecodeRune(s.run[i:])
		if r == utf8.RuneError && n == 1 {
			n = subpart(view(s.run[i:]))
			dst = append(dst, replacement...)
		} else {
			dst = append(dst, s.run[i:i+n]...)
		}
		i += n
	}
	s.run = s.run[:copy(s.run, s.run[i:])]
	return dst
}

// trim drops leading spaces of the whole text from what was appended after start.
func (s *textState) trim(dst []byte, start int) []byte {
	if len(dst) == start || s.text {
		return dst
	}
	n := start
	for n < len(dst) && dst[n] == ' ' && s.stripped < s.c.rules.strip {
		n++
		s.stripped++
	}
	if n < len(dst) || s.stripped == s.c.rules.strip {
		s.text = true
	}
	return append(dst[:start], dst[n:]...)
}

func (s *textState) pushByte(dst []byte, b byte) []byte {
	if s.bad > 0 {
		s.bad++
		return dst
	}
	s.run = append(s.run, b)
	switch {
	case s.c.rules.sentencePiece:
		for len(s.run) > 0 && utf8.FullRune(s.run) {
			if r, n := utf8.DecodeRune(s.run); r == utf8.RuneError && n == 1 {
				dst = append(dst, replacement...)
				s.run = s.run[:copy(s.run, s.run[1:])]
			} else {
				dst = append(dst, s.run[:n]...)
				s.run = s.run[:copy(s.run, s.run[n:])]
			}
		}
	case !s.wholeRuns && utf8.FullRune(s.run):
		if r, n := utf8.DecodeRune(s.run); r == utf8.RuneError && n == 1 {
			s.bad = len(s.run)
		} else {
			dst = append(dst, s.run...)
		}
		s.run = s.run[:0]
	}
	return dst
}

// endRun writes what is left of a run of byte pieces.
func (s *textState) endRun(dst []byte) []byte {
	if s.wholeRuns && !s.c.rules.sentencePiece && utf8.Valid(s.run) {
		dst = append(dst, s.run...)
		s.run = s.run[:0]
		return dst
	}
	for range s.bad + len(s.run) {
		dst = append(dst, replacement...)
	}
	s.run, s.bad = s.run[:0], 0
	return dst
}

func (s *textState) flush(dst []byte) []byte {
	if s.c.rules.byteLevel {
		if len(s.run) > 0 { // one subpart, or it would not be held back
			dst = append(dst, replacement...)
			s.run = s.run[:0]
		}
		return dst
	}
	start := len(dst)
	return s.trim(s.endRun(dst), start)
}

// appendSpaced appends piece with every U+2581 as a space.
func appendSpaced(dst []byte, piece string) []byte {
	for {
		i := strings.Index(piece, mark)
		if i < 0 {
			return append(dst, piece...)
		}
		dst = append(append(dst, piece[:i]...), ' ')
		piece = piece[i+len(mark):]
	}
}

// byteOf returns the byte that a piece of the form <0xNN> stands for.
func byteOf(piece string) (byte, bool) {
	if len(piece) != 6 || piece[:3] != "<0x" || piece[5] != '>' || unhex(piece[3]) > 15 || unhex(piece[4]) > 15 {
		return 0, false
	}
	return unhex(piece[3])<<4 | unhex(piece[4]), true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// A Stream decodes ids one by one, as they are generated. It never gives out half a UTF-8 character.
//
// The pieces it returns join to what Decode gives for the whole sequence, with two exceptions. In the Hugging Face form,
// where a run of byte tokens turns out bad after some of its characters were complete, Decode replaces those too, and
// the Stream has already given them out. The unknown piece of a SentencePiece model is given out as the file spells it,
// where Decode writes its unk_surface.
type Stream struct {
	state textState
	buf   []byte
	other *prefixStream
}

// NewStream returns a Stream for t at the start of a text. It is for one goroutine.
func NewStream(t Tokenizer) *Stream {
	if c, ok := t.(interface{ base() *core }); ok {
		return &Stream{state: textState{c: c.base(), plainUnknown: true}}
	}
	return &Stream{other: &prefixStream{t: t}}
}

// Push returns the text that id completes, which may be empty. An id outside the vocabulary adds nothing.
func (s *Stream) Push(id int32) string {
	if s.other != nil {
		return s.other.push(id)
	}
	s.buf = s.state.push(s.buf[:0], id)
	return string(s.buf)
}

// Flush returns the text still held back, with U+FFFD for bytes that no longer can become a character, and starts a new
// text.
func (s *Stream) Flush() string {
	if s.other != nil {
		return s.other.flush()
	}
	s.buf = s.state.flush(s.buf[:0])
	s.state = textState{c: s.state.c, run: s.state.run[:0], plainUnknown: true}
	return string(s.buf)
}

// prefixStream streams a Tokenizer of another package by decoding the whole sequence at every step.
type prefixStream struct {
	t    Tokenizer
	ids  []int32
	text string
}

func (p *prefixStream) push(id int32) string {
	if _, ok := p.t.Token(id); !ok {
		return ""
	}
	p.ids = append(p.ids, id)
	whole, err := p.t.Decode(p.ids)
	if err != nil || strings.HasSuffix(whole, replacement) {
		return ""
	}
	return p.upTo(whole)
}

func (p *prefixStream) upTo(whole string) string {
	rest, ok := strings.CutPrefix(whole, p.text)
	if !ok {
		return ""
	}
	p.text = whole
	return rest
}

func (p *prefixStream) flush() string {
	whole, err := p.t.Decode(p.ids)
	rest := ""
	if err == nil {
		rest = p.upTo(whole)
	}
	p.ids, p.text = nil, ""
	return rest
}

func (c *core) base() *core { return c }
