package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// scanner returns the end of the word that begins at s[i]; i < len(s), and s is valid UTF-8. It does what the repeated
// search for a regular expression does, which Go's regexp cannot, since the patterns look ahead. Every scanner here reads a
// character a bounded number of times.
type scanner func(s string, i int) int

// The patterns that are known, as they stand in published files.
const (
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternTekken = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

var scanners = map[string]scanner{
	patternGPT2:   scanGPT2,
	patternLlama3: scanLlama3,
	patternQwen2:  scanQwen2,
	patternTekken: scanTekken,
	// The same language as Llama-3's, written with possessive quantifiers (tiktoken 0.5, cl100k_base).
	`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`: scanLlama3,
}

// scannerOf returns the scanner of a pattern.
func scannerOf(pattern string) (scanner, error) {
	if s, ok := scanners[pattern]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("the pattern %.1000q is not known, expected that of GPT-2, Llama-3, Qwen2, cl100k or Tekken", pattern)
}

// decodeRune is utf8.DecodeRuneInString with the first byte's case at hand.
func decodeRune(s string, i int) (rune, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	return utf8.DecodeRuneInString(s[i:])
}

// classAt returns the classes of the character at s[i] and its length; none and 0 at the end.
func classAt(s string, i int) (charClass, int) {
	if i >= len(s) {
		return 0, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return classOf(r), n
}

// span returns the end of the longest run of characters of the given classes that begins at s[i].
func span(s string, i int, classes charClass) int {
	for i < len(s) {
		if c := s[i]; c < utf8.RuneSelf {
			if asciiClass[c]&classes == 0 {
				return i
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if classOf(r)&classes == 0 {
			return i
		}
		i += n
	}
	return i
}

// contraction returns the end of 's, 't, 're, 've, 'm, 'll or 'd behind the apostrophe at s[i], -1 if there is none.
// Without regard to case, U+017F is an s too.
func contraction(s string, i int, anyCase bool) int {
	if i+1 >= len(s) {
		return -1
	}
	fold := byte(0)
	if anyCase {
		fold = 0x20
	}
	switch a := s[i+1] | fold; a {
	case 's', 't', 'm', 'd':
		return i + 2
	case 'r', 'v', 'l':
		second := byte('e')
		if a == 'l' {
			second = 'l'
		}
		if i+2 < len(s) && s[i+2]|fold == second {
			return i + 3
		}
	}
	if anyCase && i+2 < len(s) && s[i+1] == 0xC5 && s[i+2] == 0xBF {
		return i + 3
	}
	return -1
}

// scanSpace is the common end of the patterns, for a text that has white space at i: \s*[\r\n]+ if newlines, then
// \s+(?!\S), then \s+.
func scanSpace(s string, i int, newlines bool) int {
	last, newline := i, -1 // start of the last character; end of the last newline
	end := i
	for end < len(s) {
		c, n := classAt(s, end)
		if c&classSpace == 0 {
			break
		}
		last, end = end, end+n
		if c&classNewline != 0 {
			newline = end
		}
	}
	switch {
	case newlines && newline >= 0:
		return newline
	case end < len(s) && last > i:
		return last // the next word begins with it
	}
	return end
}

func scanGPT2(s string, i int) int {
	if s[i] == '\'' {
		if end := contraction(s, i, false); end >= 0 {
			return end
		}
	}
	at := i
	if s[i] == ' ' {
		at++
	}
	c, _ := classAt(s, at)
	if kind := c & (classLetter | classNumber | classOther); kind != 0 {
		return span(s, at, kind)
	}
	return scanSpace(s, i, false)
}

func scanLlama3(s string, i int) int { return scanWords(s, i, 3) }

func scanQwen2(s string, i int) int { return scanWords(s, i, 1) }

// scanWords is the pattern of Llama-3, with words of at most so many digits.
func scanWords(s string, i, digits int) int {
	c, n := classAt(s, i)
	switch {
	case c&classLetter != 0:
		return span(s, i+n, classLetter)
	case c&classNumber != 0:
		end := i + n
		for ; digits > 1; digits-- {
			c, n := classAt(s, end)
			if c&classNumber == 0 {
				break
			}
			end += n
		}
		return end
	case s[i] == '\'':
		if end := contraction(s, i, true); end >= 0 {
			return end
		}
	}
	next, _ := classAt(s, i+n)
	switch {
	case next&classLetter != 0 && c&classNewline == 0:
		return span(s, i+n, classLetter)
	case c&classOther != 0 || s[i] == ' ' && next&classOther != 0:
		return span(s, span(s, i+n, classOther), classNewline)
	}
	return scanSpace(s, i, true)
}

// scanTekken tells upper from lower case; a character without case is both, and so is a mark.
func scanTekken(s string, i int) int {
	c, n := classAt(s, i)
	prefix := -1 // where the word begins behind [^\r\n\p{L}\p{N}]
	if c&(classNewline|classLetter|classNumber) == 0 {
		prefix = i + n
		if end := upperLower(s, prefix); end >= 0 {
			return end
		}
	}
	if c&(classUpper|classLower) != 0 {
		if end := upperLower(s, i); end >= 0 {
			return end
		}
	}
	// No word with a lower case letter begins here, so that what follows the upper case ones is none.
	if prefix >= 0 {
		if end := span(s, prefix, classUpper); end > prefix {
			return end
		}
	}
	switch {
	case c&classUpper != 0:
		return span(s, i, classUpper)
	case c&classNumber != 0:
		return i + n
	}
	next, _ := classAt(s, i+n)
	if c&classOther != 0 || s[i] == ' ' && next&classOther != 0 {
		end := span(s, i+n, classOther)
		for end < len(s) && (s[end] == '\r' || s[end] == '\n' || s[end] == '/') {
			end++
		}
		return end
	}
	return scanSpace(s, i, true)
}

// upperLower matches upper case letters and at least one lower case letter behind them, -1 if there is no match. A
// character that is both goes to the first run as far as the second is not left empty.
func upperLower(s string, i int) int {
	both := -1 // end of the last character of the first run that is of both kinds
	for i < len(s) {
		c, n := classAt(s, i)
		if c&classUpper == 0 {
			if c&classLower != 0 {
				return span(s, i+n, classLower)
			}
			break
		}
		i += n
		if c&classLower != 0 {
			both = i
		}
	}
	return both
}
