package tasks

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// isSpace is Python's str.isspace for one character. It is wider than unicode.IsSpace by the separators U+001C to U+001F.
func isSpace(r rune) bool {
	return r >= 0x1c && r <= 0x1f || unicode.IsSpace(r)
}

// strip is Python's str.strip().
func strip(s string) string { return strings.TrimFunc(s, isSpace) }

// rstrip is Python's str.rstrip().
func rstrip(s string) string { return strings.TrimRightFunc(s, isSpace) }

// capitalize is Python's str.capitalize: the first character in title case, all others in lower case, by the full Unicode mappings
// (one character may become several; a capital sigma ending a word becomes a final sigma).
func capitalize(s string) string {
	if s == "" {
		return ""
	}
	_, n := utf8.DecodeRuneInString(s)
	lower := cases.Lower(language.Und)
	head := cases.Title(language.Und, cases.NoLower).String(s[:n])
	// The rest is cut from the lower case of the whole, because a sigma looks at the characters before it.
	return head + lower.String(s)[len(lower.String(s[:n])):]
}

// isLower is Python's str.islower for one character.
func isLower(r rune) bool { return unicode.IsLower(r) || unicode.Is(unicode.Other_Lowercase, r) }

// wordCount is len(re.split(r"\s+", s)) in Python: white-space runs plus one, so empty edges count.
func wordCount(s string) int {
	n, inside := 1, false
	for _, r := range s {
		space := isSpace(r)
		if space && !inside {
			n++
		}
		inside = space
	}
	return n
}

// AppendJSONString appends s as a JSON string with ASCII escapes, exactly as Python's json.dumps writes it: short escapes for quote,
// backslash, newline, return, tab, backspace and form feed, lower-case \uXXXX (surrogate pairs above U+FFFF) for everything else outside
// U+0020 to U+007E.
func AppendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	escape := func(v rune) {
		dst = append(dst, '\\', 'u', hex[v>>12&15], hex[v>>8&15], hex[v>>4&15], hex[v&15])
	}
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= ' ' && r <= '~':
			dst = append(dst, byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r == '\b':
			dst = append(dst, '\\', 'b')
		case r == '\f':
			dst = append(dst, '\\', 'f')
		case r > 0xffff:
			escape(0xd800 + (r-0x10000)>>10)
			escape(0xdc00 + (r-0x10000)&0x3ff)
		default:
			escape(r)
		}
	}
	return append(dst, '"')
}
