package tasks

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// Every expected value in this file was computed by CPython 3.11 from the reference's own expressions, unless a comment says otherwise.

func TestSpaceIsPythonSpace(t *testing.T) {
	want := map[rune]bool{0x85: true, 0xa0: true, 0x1680: true, 0x2028: true, 0x2029: true, 0x202f: true, 0x205f: true, 0x3000: true, 0x20: true}
	for r := rune(0x9); r <= 0xd; r++ {
		want[r] = true
	}
	for r := rune(0x1c); r <= 0x1f; r++ {
		want[r] = true
	}
	for r := rune(0x2000); r <= 0x200a; r++ {
		want[r] = true
	}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if isSpace(r) != want[r] {
			t.Errorf("isSpace(%U) = %v", r, isSpace(r))
		}
	}
	if got := rstrip("a b \x1f\u3000\u0085\n"); got != "a b" {
		t.Errorf("rstrip: %q", got)
	}
	if got := strip("\x1c\u00a0 a\u200b "); got != "a\u200b" { // the zero-width space is no white space
		t.Errorf("strip: %q", got)
	}
}

func TestCapitalize(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "hELLO World": "Hello world", "\u00e9COLE \u00c0\u00c9": "\u00c9cole \u00e0\u00e9", "\u00dfTRASSE": "Sstrasse",
		"\u0149A": "\u02bcNa", "\u01c6 \u01c4X": "\u01c5 \u01c6x", "\u0391\u03a3 \u03a3\u0391\u03a3": "\u0391\u03c2 \u03c3\u03b1\u03c2",
		"\u0130I": "\u0130i", "\ufb01N": "Fin", "1ABC": "1abc", " leading": " leading", "\u1ffcx": "\u1ffcx",
	} {
		if got := capitalize(in); got != want {
			t.Errorf("capitalize(%+q) = %+q, want %+q", in, got, want)
		}
	}
}

func TestWordCount(t *testing.T) {
	for in, want := range map[string]int{"": 1, " ": 2, "a b": 2, " a\u00a0b\x1cc ": 5, "a \n\t b\u2003": 3} {
		if got := wordCount(in); got != want {
			t.Errorf("wordCount(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestPreprocess(t *testing.T) {
	for in, want := range map[string]string{
		"a   b": "a  b", "a    b": "a  b", "x [y\nz] w": "x [y\nz] w", "[[a]b] c": "b] c", "no [end": "no [end",
		"\u3000[step] A  [substeps] b \x1f": " A  b",
		// The two examples of the reference's section 10.
		"Home and Garden: [header] How to fix a tap [title] Turn off the water. [step] Find the valve. ": "Home and Garden: How to fix a tap. Turn off the water. Find the valve.",
		"[step] Use a wrench. [substeps] Turn left.":                                                     " Use a wrench. Turn left.",
	} {
		if got := preprocess(in); got != want {
			t.Errorf("preprocess(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDetokenize(t *testing.T) {
	for in, want := range map[string]string{
		"the dogs ' bones /' 5/ x":                    "the dogs'bones /'[0-9]/ x",
		"1 @,@ 000 @.@ 5 a @-@ b":                     "1,000.5 a-b",
		`( a ( b ) c ) [  x ] {y } " q " ' z ' "open`: `(a ( b) c ) [x] {y} "q" 'z' "open`,
		"= = = = T = = = =\n = = S = =\n = H = ":      "==== T ====\n== S ==\n= H = ",
		"5 \u00b0 N x 's ( \u3000\x1c ) ":             "5\u00b0N x's () ",
		"(unclosed [ a ) ]":                           "(unclosed [a)]",
		"'' a ' b '  c":                               "'' a 'b'  c",
		"a ; b : c ! d ? e , f . g . h":               "a; b: c! d? e, f. g. h",
	} {
		if got := detokenize(in); got != want {
			t.Errorf("detokenize(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAppendJSONString(t *testing.T) {
	in := "a\"\\/\b\f\n\r\t\x00\x1f\x7f\u00e9\u2028\U0001f600<>&'"
	want := `"a\"\\/\b\f\n\r\t\u0000\u001f\u007f\u00e9\u2028\ud83d\ude00<>&'"`
	if got := string(AppendJSONString(nil, in)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// By hand: rows are lines with their newline, blank lines become the empty row, rows are joined by two newlines.
func TestGPTQTextByHand(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		" \n = A = \n \n b c \n": "\n\n = A = \n\n\n\n\n b c \n",
		"x\n\ny":                 "x\n\n\n\n\ny",
	} {
		if got := GPTQText(in); got != want {
			t.Errorf("GPTQText(%q) = %q, want %q", in, got, want)
		}
	}
}

// By hand, after the rule in llama.cpp's list: what is and what is not a ctx_b.
func TestHellaswagRestore(t *testing.T) {
	for in, want := range map[string]string{
		"Roof: A man sits. he":         "Roof: A man sits. He",
		"Roof: A man sits! an IBM man": "Roof: A man sits! An ibm man",
		"Roof: A man sits.":            "Roof: A man sits.",
		"Roof: A man sits. He":         "Roof: A man sits. He",
		"Roof: One. two. Three":        "Roof: One. two. Three",
		"Roof: a man":                  "Roof: a man",
		"Roof: One?  two three":        "Roof: One?  Two three",
		"Roof: One. two three ":        "Roof: One. Two three ",
		"Roof: One. \u00e9t\u00e9":     "Roof: One. \u00c9t\u00e9",
		"Roof: . x":                    "Roof: . X",
	} {
		if got, err := hellaswagRestore(in); err != nil || got != want {
			t.Errorf("restore(%q) = %q %v, want %q", in, got, err, want)
		}
	}
	if _, err := hellaswagRestore("no colon"); err == nil {
		t.Error("a line without activity was taken")
	}
}

func TestWikitextPages(t *testing.T) {
	// By hand: two pages, the second with a section; text before the first title that is blank is dropped.
	raw := " \n = One = \n \n text \n = Two = \n = = Section = = \n = = = Deep = = = \n last \n"
	got := wikitextPages(raw)
	want := []string{" = One = \n \n text ", " = Two = \n = = Section = = \n = = = Deep = = = \n last \n"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q, want %q", got, want)
	}
}

// The reference's regular expressions, with Python's white space spelled out.
const pySpace = `[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]`

var (
	spaceRun  = regexp.MustCompile(pySpace + `+`)
	bracketed = regexp.MustCompile(`\[.*?\]`)
	brackets  = []struct {
		open, close byte
		re          *regexp.Regexp
		to          string
	}{
		{'(', ')', regexp.MustCompile(`\(` + pySpace + `*([^\)]*?)` + pySpace + `*\)`), "($1)"},
		{'[', ']', regexp.MustCompile(`\[` + pySpace + `*([^\]]*?)` + pySpace + `*\]`), "[$1]"},
		{'{', '}', regexp.MustCompile(`{` + pySpace + `*([^}]*?)` + pySpace + `*}`), "{$1}"},
		{'"', '"', regexp.MustCompile(`"` + pySpace + `*([^"]*?)` + pySpace + `*"`), `"$1"`},
		{'\'', '\'', regexp.MustCompile(`'` + pySpace + `*([^']*?)` + pySpace + `*'`), "'$1'"},
	}
)

// decodeError says whether quoted is a JSON string.
func decodeError(quoted []byte) error {
	var s string
	return json.Unmarshal(quoted, &s)
}
