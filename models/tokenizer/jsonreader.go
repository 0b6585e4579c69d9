package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds the nesting of a value; a tokenizer.json needs 7.
const maxJSONDepth = 64

// jsonReader walks through JSON text (RFC 8259) without building a tree: a vocabulary of 100,000 tokens would make one of
// as many nodes. Strings without escapes are parts of the text itself.
type jsonReader struct {
	s     string
	pos   int
	line  int // lines of the file before s
	depth int
}

// fail returns an error that names the line of the current position.
func (r *jsonReader) fail(format string, args ...any) error {
	line := r.line + 1 + strings.Count(r.s[:min(r.pos, len(r.s))], "\n")
	return fmt.Errorf("line %d: %s", line, fmt.Sprintf(format, args...))
}

// peek skips white space and returns the next byte, 0 at the end.
func (r *jsonReader) peek() byte {
	for ; r.pos < len(r.s); r.pos++ {
		switch c := r.s[r.pos]; c {
		case ' ', '\n', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

// found describes the next byte for an error.
func (r *jsonReader) found() string {
	if r.peek() == 0 && r.pos >= len(r.s) {
		return "the end of the text"
	}
	c, _ := utf8.DecodeRuneInString(r.s[r.pos:])
	return strconv.QuoteRune(c)
}

func (r *jsonReader) want(c byte) error {
	if r.peek() != c {
		return r.fail("%s, expected %q", r.found(), c)
	}
	r.pos++
	return nil
}

// object calls f for every key, which must read the value.
func (r *jsonReader) object(f func(key string) error) error {
	return r.sequence('{', '}', func(int) error {
		key, err := r.str()
		if err != nil {
			return err
		}
		if err := r.want(':'); err != nil {
			return err
		}
		return f(key)
	})
}

// array calls f for every element, which must read it.
func (r *jsonReader) array(f func(i int) error) error { return r.sequence('[', ']', f) }

func (r *jsonReader) sequence(begin, end byte, f func(i int) error) error {
	if err := r.want(begin); err != nil {
		return err
	}
	if r.depth++; r.depth > maxJSONDepth {
		return r.fail("nested deeper than %d", maxJSONDepth)
	}
	defer func() { r.depth-- }()
	if r.peek() == end {
		r.pos++
		return nil
	}
	for i := 0; ; i++ {
		if err := f(i); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.pos++
		case end:
			r.pos++
			return nil
		default:
			return r.fail("%s, expected ',' or %q", r.found(), end)
		}
	}
}

// str reads a string.
func (r *jsonReader) str() (string, error) {
	if err := r.want('"'); err != nil {
		return "", err
	}
	start := r.pos
	for ; r.pos < len(r.s); r.pos++ {
		switch c := r.s[r.pos]; {
		case c == '"':
			s := r.s[start:r.pos]
			if !utf8.ValidString(s) {
				return "", r.fail("a string that is not UTF-8")
			}
			r.pos++
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < 0x20:
			return "", r.fail("a bare control character 0x%02X in a string", c)
		}
	}
	return "", r.fail("a string without end")
}

// escaped reads the rest of a string from its first escape.
func (r *jsonReader) escaped(start int) (string, error) {
	b := []byte(r.s[start:r.pos])
	for r.pos < len(r.s) {
		c := r.s[r.pos]
		r.pos++
		switch {
		case c == '"':
			if !utf8.Valid(b) {
				return "", r.fail("a string that is not UTF-8")
			}
			return view(b), nil
		case c < 0x20:
			return "", r.fail("a bare control character 0x%02X in a string", c)
		case c != '\\':
			b = append(b, c)
			continue
		}
		if r.pos >= len(r.s) {
			break
		}
		c = r.s[r.pos]
		r.pos++
		if c != 'u' {
			i := strings.IndexByte(`"\/bfnrt`, c)
			if i < 0 {
				return "", r.fail("an unknown escape of %q", c)
			}
			b = append(b, "\"\\/\b\f\n\r\t"[i])
			continue
		}
		u, err := r.hex4()
		if err != nil {
			return "", err
		}
		if utf16.IsSurrogate(u) {
			if !strings.HasPrefix(r.s[r.pos:], `\u`) {
				return "", r.fail("half a surrogate pair in a string")
			}
			r.pos += 2
			low, err := r.hex4()
			if err != nil {
				return "", err
			}
			if u = utf16.DecodeRune(u, low); u == utf8.RuneError {
				return "", r.fail("half a surrogate pair in a string")
			}
		}
		b = utf8.AppendRune(b, u)
	}
	return "", r.fail("a string without end")
}

func (r *jsonReader) hex4() (rune, error) {
	if len(r.s)-r.pos >= 4 {
		if u, err := strconv.ParseUint(r.s[r.pos:r.pos+4], 16, 16); err == nil {
			r.pos += 4
			return rune(u), nil
		}
	}
	return 0, r.fail(`a broken \u escape`)
}

// scalar reads a word that is no string: a number, true, false or null.
func (r *jsonReader) scalar() string {
	r.peek()
	start := r.pos
	for ; r.pos < len(r.s); r.pos++ {
		c := r.s[r.pos]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'E') {
			break
		}
	}
	return r.s[start:r.pos]
}

// id reads a token id.
func (r *jsonReader) id() (int64, error) {
	at := *r
	w := r.scalar()
	n, err := strconv.ParseUint(w, 10, 31)
	if err != nil || len(w) > 1 && w[0] == '0' {
		return 0, at.fail("%s, expected a token id", at.foundScalar())
	}
	return int64(n), nil
}

// boolean reads true or false.
func (r *jsonReader) boolean() (bool, error) {
	at := *r
	switch r.scalar() {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, at.fail("%s, expected true or false", at.foundScalar())
}

// null reads null if that is what comes next.
func (r *jsonReader) null() bool {
	if r.peek() == 'n' && strings.HasPrefix(r.s[r.pos:], "null") {
		r.pos += 4
		return true
	}
	return false
}

func (r *jsonReader) foundScalar() string {
	at := *r
	if w := at.scalar(); w != "" {
		return w
	}
	return r.found()
}

// skip passes over a value of any kind.
func (r *jsonReader) skip() error {
	switch r.peek() {
	case '{':
		return r.object(func(string) error { return r.skip() })
	case '[':
		return r.array(func(int) error { return r.skip() })
	case '"':
		_, err := r.str()
		return err
	}
	at := *r
	switch w := r.scalar(); w {
	case "true", "false", "null":
		return nil
	default:
		if _, err := strconv.ParseFloat(w, 64); err != nil || w[0] == '+' || w[0] == '.' {
			return at.fail("%s, expected a value", at.foundScalar())
		}
		return nil
	}
}

// sub passes over a value and returns a reader of it, which has to be read: of an object or an array only the brackets and
// strings are looked at here.
func (r *jsonReader) sub() (*jsonReader, error) {
	c := r.peek()
	start := r.pos
	if c == '{' || c == '[' {
		if !r.brackets() {
			// Where it is broken is better told by reading it.
			r.pos = start
		}
	}
	if r.pos == start {
		if err := r.skip(); err != nil {
			return nil, err
		}
	}
	return &jsonReader{s: r.s[start:r.pos], line: r.line + strings.Count(r.s[:start], "\n")}, nil
}

// brackets passes over an object or an array, and reports false if it has no end.
func (r *jsonReader) brackets() bool {
	depth := 0
	for i := r.pos; i < len(r.s); i++ {
		switch r.s[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				r.pos = i + 1
				return true
			}
		case '"':
			for i++; i < len(r.s) && r.s[i] != '"'; i++ {
				if r.s[i] == '\\' {
					i++
				}
			}
		}
	}
	return false
}

// end checks that nothing follows.
func (r *jsonReader) end() error {
	if r.peek(); r.pos < len(r.s) {
		return r.fail("%s behind the end, expected nothing", r.found())
	}
	return nil
}
