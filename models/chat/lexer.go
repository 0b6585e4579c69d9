package chat

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEOF tokenKind = iota
	tokenData
	tokenVarBegin
	tokenVarEnd
	tokenBlockBegin
	tokenBlockEnd
	tokenName
	tokenString
	tokenInt
	tokenFloat
	tokenOp
)

type token struct {
	kind tokenKind
	text string
	line int
}

// describe names a token in an error.
func (t token) describe() string {
	switch t.kind {
	case tokenEOF:
		return "end of template"
	case tokenData:
		return "text"
	case tokenString:
		return "string " + shortQuote(t.text)
	}
	return shortQuote(t.text)
}

// shortQuote quotes s on one line and cuts it.
func shortQuote(s string) string {
	const limit = 40
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit]) + "..."
	}
	return strconv.Quote(s)
}

// lineError is an error at a line of a template; Parse and Render put the template's name before it.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

func errorAt(line int, format string, args ...any) error {
	return &lineError{line, fmt.Sprintf(format, args...)}
}

// isSpace is Python's str.isspace, which both strip and \s of a str pattern use: White_Space and U+001C..U+001F.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func isWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)
}

type lexer struct {
	src    string
	pos    int
	line   int
	tokens []token
	// lineStart says that the last thing consumed ended in a newline, so that lstrip_blocks applies to the text that follows.
	lineStart bool
}

// lex splits a template into tokens as Jinja's lexer does with trim_blocks and lstrip_blocks set.
func lex(src string) ([]token, error) {
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	src = strings.TrimSuffix(src, "\n") // keep_trailing_newline is off
	l := &lexer{src: src, line: 1, lineStart: true}
	for l.pos < len(l.src) {
		if err := l.text(); err != nil {
			return nil, err
		}
	}
	l.emit(tokenEOF, "")
	return l.tokens, nil
}

func (l *lexer) emit(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind, text, l.line})
}

// advance consumes n bytes.
func (l *lexer) advance(n int) {
	if n == 0 {
		return
	}
	s := l.src[l.pos : l.pos+n]
	l.line += strings.Count(s, "\n")
	l.lineStart = s[n-1] == '\n'
	l.pos += n
}

// nextTag returns the offset of the first opening delimiter of s, or -1.
func nextTag(s string) int {
	for i := 0; ; {
		j := strings.IndexByte(s[i:], '{')
		if j < 0 || i+j+1 >= len(s) {
			return -1
		}
		i += j
		switch s[i+1] {
		case '{', '%', '#':
			return i
		}
		i++
	}
}

// text consumes text up to the next tag, and that tag.
func (l *lexer) text() error {
	rest := l.src[l.pos:]
	at := nextTag(rest)
	if at < 0 {
		l.emit(tokenData, rest)
		l.advance(len(rest))
		return nil
	}
	data, tag := rest[:at], rest[at:at+2]
	sign := byte(0)
	if at+2 < len(rest) && (rest[at+2] == '-' || rest[at+2] == '+') {
		sign = rest[at+2]
	}
	switch {
	case sign == '-':
		data = strings.TrimRightFunc(data, isSpace)
	case sign == 0 && tag != "{{":
		from := strings.LastIndexByte(data, '\n') + 1
		if (from > 0 || l.lineStart) && strings.TrimFunc(data[from:], isSpace) == "" {
			data = data[:from]
		}
	}
	if data != "" {
		l.emit(tokenData, data)
	}
	l.advance(at)
	open := 2
	if sign != 0 {
		open++
	}
	switch tag {
	case "{#":
		return l.comment(open)
	case "{{":
		l.emit(tokenVarBegin, tag)
		l.advance(open)
		return l.expression("}}", tokenVarEnd)
	}
	l.emit(tokenBlockBegin, tag)
	l.advance(open)
	if name, found := strings.CutPrefix(strings.TrimLeftFunc(l.src[l.pos:], isSpace), "raw"); found {
		if r, _ := utf8.DecodeRuneInString(name); !isWord(r) { // what follows is no tokens, so the parser would not get there
			return errorAt(l.line, "tag \"raw\" is not supported")
		}
	}
	return l.expression("%}", tokenBlockEnd)
}

func (l *lexer) comment(open int) error {
	line := l.line
	l.advance(open)
	end := strings.Index(l.src[l.pos:], "#}")
	if end < 0 {
		return errorAt(line, "comment without #}")
	}
	sign := byte(0)
	if end > 0 {
		sign = l.src[l.pos+end-1]
	}
	l.advance(end + 2)
	l.afterTag(sign, true)
	return nil
}

// afterTag consumes the white space that belongs to a closing delimiter: all of it after "-", one newline of a block.
func (l *lexer) afterTag(sign byte, block bool) {
	rest := l.src[l.pos:]
	switch {
	case sign == '-':
		l.advance(len(rest) - len(strings.TrimLeftFunc(rest, isSpace)))
	case sign != '+' && block && strings.HasPrefix(rest, "\n"):
		l.advance(1)
	}
}

var operators = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ":", "|", ",", ";", "(", ")", "[", "]", "{", "}"}

// expression consumes the tokens of one tag and its closing delimiter.
func (l *lexer) expression(closing string, kind tokenKind) error {
	start := l.line
	var open []byte
	for {
		rest := strings.TrimLeftFunc(l.src[l.pos:], isSpace)
		l.advance(len(l.src) - l.pos - len(rest))
		if rest == "" {
			return errorAt(start, "tag without %s", closing)
		}
		if len(open) == 0 {
			sign := byte(0)
			if rest[0] == '-' || rest[0] == '+' && closing == "%}" {
				sign = rest[0]
			}
			n := 0
			if sign != 0 {
				n = 1
			}
			if strings.HasPrefix(rest[n:], closing) {
				l.emit(kind, closing)
				l.advance(n + 2)
				l.afterTag(sign, closing == "%}")
				return nil
			}
		}
		r, _ := utf8.DecodeRuneInString(rest)
		switch {
		case r == '"' || r == '\'':
			if err := l.str(rest); err != nil {
				return err
			}
			continue
		case r >= '0' && r <= '9':
			if err := l.number(rest); err != nil {
				return err
			}
			continue
		case isWord(r):
			n := strings.IndexFunc(rest, func(r rune) bool { return !isWord(r) })
			if n < 0 {
				n = len(rest)
			}
			l.emit(tokenName, rest[:n])
			l.advance(n)
			continue
		}
		op := ""
		for _, o := range operators {
			if strings.HasPrefix(rest, o) {
				op = o
				break
			}
		}
		switch op {
		case "":
			return errorAt(l.line, "unexpected character %q", r)
		case "(", "[", "{":
			open = append(open, op[0])
		case ")", "]", "}":
			want := map[string]byte{")": '(', "]": '[', "}": '{'}[op]
			if len(open) == 0 || open[len(open)-1] != want {
				return errorAt(l.line, "unexpected %q", op)
			}
			open = open[:len(open)-1]
		}
		l.emit(tokenOp, op)
		l.advance(len(op))
	}
}

// number consumes an integer or a float in decimal notation.
func (l *lexer) number(rest string) error {
	digits := func(i int) int {
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		return i
	}
	kind, n := tokenInt, digits(0)
	if n+1 < len(rest) && rest[n] == '.' && digits(n+1) > n+1 {
		kind, n = tokenFloat, digits(n+1)
	}
	if n < len(rest) && (rest[n] == 'e' || rest[n] == 'E') {
		m := n + 1
		if m < len(rest) && (rest[m] == '+' || rest[m] == '-') {
			m++
		}
		if end := digits(m); end > m {
			kind, n = tokenFloat, end
		}
	}
	next, _ := utf8.DecodeRuneInString(rest[n:])
	if n < len(rest) && isWord(next) || kind == tokenInt && n > 1 && rest[0] == '0' {
		return errorAt(l.line, "number %s is not supported: decimal digits expected", shortQuote(rest[:min(len(rest), n+1)]))
	}
	l.emit(kind, rest[:n])
	l.advance(n)
	return nil
}

// str consumes a string literal; its escapes are Python's.
func (l *lexer) str(rest string) error {
	quote := rest[0]
	var b strings.Builder
	for i := 1; i < len(rest); {
		c := rest[i]
		if c == quote {
			l.emit(tokenString, b.String())
			l.advance(i + 1)
			return nil
		}
		if c != '\\' {
			b.WriteByte(c)
			i++
			continue
		}
		if i+1 >= len(rest) {
			break
		}
		n, err := l.escape(&b, rest[i:])
		if err != nil {
			return err
		}
		i += n
	}
	return errorAt(l.line, "string without closing quote: %s", shortQuote(rest))
}

// escape writes what the escape sequence at the start of s means and returns its length.
func (l *lexer) escape(b *strings.Builder, s string) (int, error) {
	const names, values = `\'"abfnrtv`, "\\'\"\a\b\f\n\r\t\v"
	c := s[1]
	if i := strings.IndexByte(names, c); i >= 0 {
		b.WriteByte(values[i])
		return 2, nil
	}
	width := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	switch {
	case c == '\n':
		return 2, nil
	case c >= '0' && c <= '7':
		n, v := 1, rune(0)
		for ; n < 4 && n < len(s) && s[n] >= '0' && s[n] <= '7'; n++ {
			v = v*8 + rune(s[n]-'0')
		}
		b.WriteRune(v)
		return n, nil
	case c == 'N':
		return 0, errorAt(l.line, `escape \N is not supported`)
	case width > 0:
		if len(s) < 2+width {
			return 0, errorAt(l.line, `escape \%c needs %d hexadecimal digits`, c, width)
		}
		v, err := strconv.ParseUint(s[2:2+width], 16, 32)
		if err != nil {
			return 0, errorAt(l.line, `escape \%c needs %d hexadecimal digits`, c, width)
		}
		if v > unicode.MaxRune || !utf8.ValidRune(rune(v)) {
			return 0, errorAt(l.line, `escape %s is no character`, shortQuote(s[:2+width]))
		}
		b.WriteRune(rune(v))
		return 2 + width, nil
	}
	b.WriteByte('\\') // an unknown escape stays as it is
	return 1, nil
}
