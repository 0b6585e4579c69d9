package tasks

import (
	"regexp"
	"strings"
)

// wikitextPages cuts the raw text of a WikiText split into the documents of EleutherAI/wikitext_document_level: a line is a page's title
// if, with "= = =" and "= =" closed up, it stands between single equals signs. Blank pages are dropped.
func wikitextPages(raw string) []string {
	var pages, page []string
	flush := func() {
		if text := strings.Join(page, "\n"); strip(text) != "" {
			pages = append(pages, text)
		}
		page = page[:0]
	}
	for line := range strings.SplitSeq(raw, "\n") {
		t := strip(strings.ReplaceAll(strings.ReplaceAll(line, "= = =", "==="), "= =", "=="))
		if strings.HasPrefix(t, "= ") && strings.HasSuffix(t, " =") {
			flush()
		}
		page = append(page, line)
	}
	flush()
	return pages
}

// GPTQText returns the text that the block perplexity of WikiText2 tokenises: the rows of the Hugging Face dataset (the lines of the raw
// file with their newline; a line of white space only is the empty row) joined by two newlines.
func GPTQText(raw string) string {
	var b strings.Builder
	b.Grow(len(raw) + 2*strings.Count(raw, "\n"))
	for first := true; raw != ""; first = false {
		line, rest, found := strings.Cut(raw, "\n")
		raw = rest
		if !first {
			b.WriteString("\n\n")
		}
		if strip(line) == "" {
			continue
		}
		b.WriteString(line)
		if found {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// wikitextRaw undoes the split into dataset rows: empty rows were lines " \n" of the raw file.
func wikitextRaw(rows []string) string {
	var b strings.Builder
	for _, r := range rows {
		if r == "" {
			r = " \n"
		}
		b.WriteString(r)
	}
	return b.String()
}

var slashNumber = regexp.MustCompile(`/' [0-9]/`)

// detokenize undoes WikiText's spaced punctuation as lm-eval's wikitext_detokenizer does, in its order and with its slips.
func detokenize(s string) string {
	replace := func(pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
		}
	}
	replace("s '", "s'")
	if strings.Contains(s, "/' ") {
		s = slashNumber.ReplaceAllLiteralString(s, "/'[0-9]/")
	}
	replace(" @-@ ", "-", " @,@ ", ",", " @.@ ", ".")
	replace(" : ", ": ", " ; ", "; ", " . ", ". ", " ! ", "! ", " ? ", "? ", " , ", ", ")
	s = tighten(s, '(', ')')
	s = tighten(s, '[', ']')
	s = tighten(s, '{', '}')
	s = tighten(s, '"', '"')
	s = tighten(s, '\'', '\'')
	replace("= = = =", "====", "= = =", "===", "= =", "==", " \u00b0 ", "\u00b0", " \n", "\n", "\n ", "\n", " N ", " 1 ", " 's", "'s")
	return s
}

// tighten removes the white space just inside each pair of brackets. It equals the regular expression open \s* ([^close]*?) \s* close:
// an opening bracket always pairs with the first closing one after it.
func tighten(s string, open, close byte) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, open)
		if i < 0 {
			break
		}
		n := strings.IndexByte(s[i+1:], close)
		if n < 0 {
			break
		}
		b.WriteString(s[:i+1])
		b.WriteString(strip(s[i+1 : i+1+n]))
		b.WriteByte(close)
		s = s[i+n+2:]
	}
	b.WriteString(s)
	return b.String()
}
