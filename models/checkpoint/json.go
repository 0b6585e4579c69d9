package checkpoint

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds the nesting of arrays and objects, and so the recursion of the scanner.
const maxJSONDepth = 64

// syntaxError says that the input is not JSON (RFC 8259) within the limits of this package. The message is a
// verb phrase, to follow the name of the text.
type syntaxError struct {
	offset int
	what   string // "" for text that is not UTF-8
}

func (e *syntaxError) Error() string {
	if e.what == "" {
		return fmt.Sprintf("is not UTF-8 (byte %d)", e.offset)
	}
	return fmt.Sprintf("is not JSON: %s (byte %d)", e.what, e.offset)
}

// duplicateKeyError says that an object declares a key twice, which other readers resolve silently.
type duplicateKeyError struct{ key string }

func (e *duplicateKeyError) Error() string {
	return fmt.Sprintf("key %s is declared twice", printable(e.key))
}

// scanner reads JSON in one pass without building a tree. What it allocates is bounded by the input.
type scanner struct {
	data  []byte
	pos   int
	depth int
}

func (s *scanner) fail(format string, args ...any) error {
	return &syntaxError{s.pos, fmt.Sprintf(format, args...)}
}

// peek skips white space and returns the next byte, or 0 at the end of the input.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch b := s.data[s.pos]; b {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return b
		}
	}
	return 0
}

// unexpected reports the byte at the current position where want should be.
func (s *scanner) unexpected(want string) error {
	if s.pos >= len(s.data) {
		return s.fail("unexpected end, expected %s", want)
	}
	r, _ := utf8.DecodeRune(s.data[s.pos:])
	return s.fail("unexpected %q, expected %s", r, want)
}

// document reads one value with read and allows only white space after it.
func (s *scanner) document(read func() error) error {
	for i := 0; i < len(s.data); {
		r, n := utf8.DecodeRune(s.data[i:])
		if r == utf8.RuneError && n == 1 {
			return &syntaxError{offset: i}
		}
		i += n
	}
	if err := read(); err != nil {
		return err
	}
	if s.peek() != 0 || s.pos < len(s.data) {
		return s.unexpected("the end")
	}
	return nil
}

// object reads an object and calls field at every value, which field must consume.
func (s *scanner) object(field func(key string) error) error {
	if s.peek() != '{' {
		return s.unexpected("an object")
	}
	if s.depth++; s.depth > maxJSONDepth {
		return s.fail("nested deeper than %d levels", maxJSONDepth)
	}
	s.pos++
	if s.peek() == '}' {
		s.pos++
		s.depth--
		return nil
	}
	seen := make(map[string]struct{})
	for {
		key, err := s.text()
		if err != nil {
			return err
		}
		if _, twice := seen[key]; twice {
			return &duplicateKeyError{key}
		}
		seen[key] = struct{}{}
		if s.peek() != ':' {
			return s.unexpected("':'")
		}
		s.pos++
		if err := field(key); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			s.depth--
			return nil
		default:
			return s.unexpected("',' or '}'")
		}
	}
}

// array reads an array and calls element at every value, which element must consume.
func (s *scanner) array(element func() error) error {
	if s.peek() != '[' {
		return s.unexpected("an array")
	}
	if s.depth++; s.depth > maxJSONDepth {
		return s.fail("nested deeper than %d levels", maxJSONDepth)
	}
	s.pos++
	if s.peek() == ']' {
		s.pos++
		s.depth--
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			s.depth--
			return nil
		default:
			return s.unexpected("',' or ']'")
		}
	}
}

// text reads a string.
func (s *scanner) text() (string, error) {
	if s.peek() != '"' {
		return "", s.unexpected("a string")
	}
	s.pos++
	start := s.pos
	var out []byte // unescaped text; nil until the first escape
	for s.pos < len(s.data) {
		switch b := s.data[s.pos]; {
		case b == '"':
			raw := s.data[start:s.pos]
			s.pos++
			if out != nil {
				return string(append(out, raw...)), nil
			}
			return string(raw), nil
		case b < 0x20:
			return "", s.fail("control character 0x%02x in a string", b)
		case b != '\\':
			s.pos++
		default:
			out = append(out, s.data[start:s.pos]...)
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
			start = s.pos
		}
	}
	return "", s.fail("unexpected end inside a string")
}

// escape reads one escape sequence, both halves of a surrogate pair included.
func (s *scanner) escape() (rune, error) {
	s.pos++ // the backslash
	if s.pos >= len(s.data) {
		return 0, s.fail("unexpected end inside a string")
	}
	b := s.data[s.pos]
	s.pos++
	switch b {
	case '"', '\\', '/':
		return rune(b), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, err := s.hex4()
		if err != nil || !utf16.IsSurrogate(r) {
			return r, err
		}
		if s.pos+1 < len(s.data) && s.data[s.pos] == '\\' && s.data[s.pos+1] == 'u' {
			s.pos += 2
			low, err := s.hex4()
			if err != nil {
				return 0, err
			}
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, nil
			}
		}
		return 0, s.fail("half of a surrogate pair in a string")
	}
	s.pos--
	return 0, s.fail("unknown escape in a string")
}

func (s *scanner) hex4() (rune, error) {
	if s.pos+4 > len(s.data) {
		return 0, s.fail("unexpected end inside a string")
	}
	v, err := strconv.ParseUint(string(s.data[s.pos:s.pos+4]), 16, 16)
	if err != nil {
		return 0, s.fail("\\u needs four hexadecimal digits")
	}
	s.pos += 4
	return rune(v), nil
}

// number reads a number and returns its literal, so that integers keep all their digits.
func (s *scanner) number() (string, error) {
	s.peek()
	start := s.pos
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
			s.pos++
		}
		return s.pos > from
	}
	accept := func(set string) bool {
		for i := 0; i < len(set); i++ {
			if s.pos < len(s.data) && s.data[s.pos] == set[i] {
				s.pos++
				return true
			}
		}
		return false
	}
	accept("-")
	if !accept("0") && !digits() {
		return "", s.unexpected("a value")
	}
	if accept(".") && !digits() {
		return "", s.unexpected("a digit")
	}
	if accept("eE") {
		accept("+-")
		if !digits() {
			return "", s.unexpected("a digit")
		}
	}
	return string(s.data[start:s.pos]), nil
}

// skip reads any value and checks it like the others.
func (s *scanner) skip() error {
	switch s.peek() {
	case '{':
		return s.object(func(string) error { return s.skip() })
	case '[':
		return s.array(s.skip)
	case '"':
		_, err := s.text()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	_, err := s.number()
	return err
}

func (s *scanner) word(w string) error {
	if len(s.data)-s.pos < len(w) || string(s.data[s.pos:s.pos+len(w)]) != w {
		return s.unexpected("a value")
	}
	s.pos += len(w)
	return nil
}

// value is one JSON value whose syntax has been checked already.
type value []byte

// raw returns the bytes of the next value without interpreting them.
func (s *scanner) raw() (value, error) {
	s.peek()
	start := s.pos
	err := s.skip()
	return value(s.data[start:s.pos]), err
}

// fields reads an object into its values by key.
func (s *scanner) fields() (map[string]value, error) {
	keys := make(map[string]value)
	err := s.object(func(key string) error {
		v, err := s.raw()
		keys[key] = v
		return err
	})
	return keys, err
}

func (v value) isNull() bool   { return len(v) == 0 || v[0] == 'n' }
func (v value) isNumber() bool { return len(v) > 0 && (v[0] == '-' || v[0] >= '0' && v[0] <= '9') }

// text returns the string of v, and whether v is one.
func (v value) text() (string, bool) {
	if len(v) == 0 || v[0] != '"' {
		return "", false
	}
	t, err := (&scanner{data: v}).text()
	return t, err == nil
}

// elements returns the values of the array v, and whether v is one.
func (v value) elements() ([]value, bool) {
	if len(v) == 0 || v[0] != '[' {
		return nil, false
	}
	var out []value
	s := &scanner{data: v}
	err := s.array(func() error {
		e, err := s.raw()
		out = append(out, e)
		return err
	})
	return out, err == nil
}

// String describes v for an error message.
func (v value) String() string {
	switch {
	case v.isNull():
		return "null"
	case v[0] == '{':
		return "an object"
	case v[0] == '[':
		return "a list"
	case v[0] == '"':
		if t, ok := v.text(); ok {
			return "the string " + shorten(strconv.Quote(t))
		}
	}
	return shorten(string(v))
}

// maxShown bounds a name or value from outside in an error message.
const maxShown = 160

// printable returns name itself when it is plain text, else quoted, so that a message stays one line.
func printable(name string) string {
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] >= 0x7f {
			return shorten(strconv.Quote(name))
		}
	}
	if name == "" {
		return `""`
	}
	return shorten(name)
}

func shorten(t string) string {
	if len(t) <= maxShown {
		return t
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(t[cut]) {
		cut--
	}
	return t[:cut] + "..."
}

// plain is String without the quotes and the kind of a string.
func (v value) plain() string {
	if t, ok := v.text(); ok {
		return printable(t)
	}
	return v.String()
}

// equal reports whether v and w are the same number, or the same text, or written the same.
func (v value) equal(w value) bool {
	if a, ok := v.text(); ok {
		b, ok := w.text()
		return ok && a == b
	}
	if v.isNumber() && w.isNumber() {
		a, errA := strconv.ParseFloat(string(v), 64)
		b, errB := strconv.ParseFloat(string(w), 64)
		return errA == nil && errB == nil && a == b
	}
	return string(v) == string(w)
}
