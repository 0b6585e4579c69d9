package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// rx matches a regular expression at s[i] by trying all ways in order, as a backtracking engine does, and calls k with each
// end until k is content. It is the oracle for the scanners: it reads the pattern itself.
type rx func(s []rune, i int, k func(end int) bool) bool

// rxParser reads the part of the syntax that the patterns of published tokenizers use.
type rxParser struct {
	p    string
	fold bool
}

func compileRX(pattern string) rx {
	p := &rxParser{p: pattern}
	r := p.alternatives()
	if p.p != "" {
		panic("pattern left: " + p.p)
	}
	return r
}

func (p *rxParser) eat(s string) bool {
	rest, ok := strings.CutPrefix(p.p, s)
	if ok {
		p.p = rest
	}
	return ok
}

func (p *rxParser) alternatives() rx {
	var alts []rx
	for {
		var seq []rx
		for p.p != "" && p.p[0] != '|' && p.p[0] != ')' {
			seq = append(seq, p.repeated())
		}
		alts = append(alts, sequence(seq))
		if !p.eat("|") {
			break
		}
	}
	return func(s []rune, i int, k func(int) bool) bool {
		return slices.ContainsFunc(alts, func(a rx) bool { return a(s, i, k) })
	}
}

func sequence(seq []rx) rx {
	if len(seq) == 0 {
		return func(_ []rune, i int, k func(int) bool) bool { return k(i) }
	}
	rest := sequence(seq[1:])
	return func(s []rune, i int, k func(int) bool) bool {
		return seq[0](s, i, func(j int) bool { return rest(s, j, k) })
	}
}

func (p *rxParser) repeated() rx {
	atom := p.atom()
	low, high := 1, 1
	switch {
	case p.eat("+"):
		high = 1 << 30
	case p.eat("*"):
		low, high = 0, 1<<30
	case p.eat("?"):
		low = 0
	case p.eat("{"):
		var bounds string
		bounds, p.p, _ = strings.Cut(p.p, "}")
		a, b, _ := strings.Cut(bounds, ",")
		low, _ = strconv.Atoi(a)
		high, _ = strconv.Atoi(b)
	default:
		return atom
	}
	var times func(s []rune, i, n int, k func(int) bool) bool
	times = func(s []rune, i, n int, k func(int) bool) bool {
		return n < high && atom(s, i, func(j int) bool { return j > i && times(s, j, n+1, k) }) || n >= low && k(i)
	}
	greedy := func(s []rune, i int, k func(int) bool) bool { return times(s, i, 0, k) }
	if !p.eat("+") {
		return greedy
	}
	return func(s []rune, i int, k func(int) bool) bool { // possessive: the first way or none
		end := -1
		return greedy(s, i, func(j int) bool { end = j; return true }) && k(end)
	}
}

func (p *rxParser) atom() rx {
	switch {
	case p.eat("(?i:"):
		p.fold = true
		a := p.alternatives()
		p.fold = false
		p.eat(")")
		return a
	case p.eat("(?!"):
		a := p.alternatives()
		p.eat(")")
		return func(s []rune, i int, k func(int) bool) bool {
			return !a(s, i, func(int) bool { return true }) && k(i)
		}
	}
	in := p.class()
	return func(s []rune, i int, k func(int) bool) bool { return i < len(s) && in(s[i]) && k(i+1) }
}

func (p *rxParser) class() func(rune) bool {
	switch {
	case p.eat("["):
		not := p.eat("^")
		var all []func(rune) bool
		for !p.eat("]") {
			all = append(all, p.class())
		}
		return func(r rune) bool {
			return slices.ContainsFunc(all, func(f func(rune) bool) bool { return f(r) }) != not
		}
	case p.eat(`\p{`):
		var name string
		name, p.p, _ = strings.Cut(p.p, "}")
		return func(r rune) bool { return unicode.Is(unicode.Categories[name], r) }
	case p.eat(`\s`):
		return func(r rune) bool { return unicode.Is(unicode.White_Space, r) }
	case p.eat(`\S`):
		return func(r rune) bool { return !unicode.Is(unicode.White_Space, r) }
	case p.eat(`\r`):
		return func(r rune) bool { return r == '\r' }
	case p.eat(`\n`):
		return func(r rune) bool { return r == '\n' }
	}
	c, fold := rune(p.p[0]), p.fold
	p.p = p.p[1:]
	return func(r rune) bool {
		for f := r; fold; {
			if f = unicode.SimpleFold(f); f == c {
				return true
			} else if f == r {
				break
			}
		}
		return r == c
	}
}

// words cuts a text by repeated search.
func (m rx) words(s string) (out []string) {
	r := []rune(s)
	for i := 0; i < len(r); {
		end := -1
		m(r, i, func(j int) bool { end = j; return j > i })
		if end <= i {
			out = append(out, "no match")
			break
		}
		out = append(out, string(r[i:end]))
		i = end
	}
	return out
}

func scanAll(next scanner, s string) (out []string) {
	for i := 0; i < len(s); {
		end := next(s, i)
		out = append(out, s[i:end])
		i = end
	}
	return out
}

// older reports whether all characters of s are in the Unicode version of Go's tables, which the oracle uses.
func older(s string) bool {
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf, unicode.Co) && classOf(r) != classOther {
			return false
		}
	}
	return true
}

func TestScanners(t *testing.T) {
	// Every class that a pattern tells apart, more than once.
	chars := []rune("aBsStTdDrReEvVlLmMſ''' \t\n\r\u00a0\u3000\u0085019٣½日本ʰǅàÀ\u0301\u0302//.,!—😀\u200b\u001c\u180e\ufeff")
	pcg := rand.New(rand.NewPCG(1, 2))
	for pattern, next := range scanners {
		m, n := compileRX(pattern), 0
		for range 6000 {
			s := make([]rune, pcg.IntN(12))
			for i := range s {
				s[i] = chars[pcg.IntN(len(chars))]
				if i > 0 && pcg.IntN(3) == 0 {
					s[i] = s[i-1]
				}
			}
			if got, want := scanAll(next, string(s)), m.words(string(s)); !slices.Equal(got, want) {
				t.Fatalf("%s\n%q\n got %q\nwant %q", pattern, string(s), got, want)
			}
			n++
		}
		if n == 0 {
			t.Error("nothing compared")
		}
	}
	// The characters that both know, among letters.
	for pattern, next := range scanners {
		m := compileRX(pattern)
		for r := rune(0); r < 0x20000; r++ {
			if r >= 0x3400 {
				r += 12 // there classes come in blocks
			}
			if s := fmt.Sprintf("A %ca1%c\n", r, r); r&^0x7FF != 0xD800 && older(s) && !slices.Equal(scanAll(next, s), m.words(s)) {
				t.Fatalf("%s\n%U\n got %q\nwant %q", pattern, r, scanAll(next, s), m.words(s))
			}
		}
	}
}

// TestScannerExamples are splits worked out by hand from the patterns.
func TestScannerExamples(t *testing.T) {
	for _, c := range []struct {
		next scanner
		text string
		want []string
	}{
		{scanGPT2, "I'LL don't  go\n\n 12345", []string{"I", "'", "LL", " don", "'t", " ", " go", "\n\n", " 12345"}},
		{scanLlama3, "I'LL don't  go\n\n 12345", []string{"I", "'LL", " don", "'t", " ", " go", "\n\n", " ", "123", "45"}},
		{scanQwen2, "x12 \n \n  y", []string{"x", "1", "2", " \n \n", " ", " y"}},
		{scanLlama3, "'ſa\t\tb.\r\n", []string{"'ſ", "a", "\t", "\tb", ".\r\n"}},
		{scanTekken, "HelloWORLDabc/\n/日B", []string{"Hello", "WORLDabc", "/\n/", "日", "B"}},
		{scanTekken, " X\u0301y", []string{" X\u0301y"}},
		{scanLlama3, "end   ", []string{"end", "   "}},
	} {
		if got := scanAll(c.next, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
