package tokenizer

import (
	"cmp"
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nfc is Unicode's normalization form C as the Hugging Face library has it, whose data are of about Unicode 9: the marks
// of lateMarks have no combining class there, and characters that later versions made composable do not compose. Nor does
// it break up long runs of marks, as the Stream-Safe format of package norm does. So norm tells what is normal anyway and
// gives the data, and what is not normal is done here.
func nfc(s string) string {
	n := norm.NFC.QuickSpanString(s)
	if n == len(s) {
		return s
	}
	out := make([]byte, 0, len(s)+len(s)/8)
	var seg segment
	for {
		out = append(out, s[:n]...)
		if s = s[n:]; s == "" {
			return view(out)
		}
		// A segment ends before the next character that nothing before it can change.
		_, end := decodeRune(s, 0)
		for end < len(s) && !norm.NFC.PropertiesString(s[end:]).BoundaryBefore() {
			_, size := decodeRune(s, end)
			end += size
		}
		out = seg.appendNFC(out, s[:end])
		s = s[end:]
		n = norm.NFC.QuickSpanString(s)
	}
}

// lateComposites are the characters with a decomposition that are younger than the library's data (Unicode 13 and 16).
var lateComposites = []rune{
	0x105C9, 0x105E4, 0x11383, 0x11385, 0x1138E, 0x11391, 0x113C5, 0x113C7, 0x113C8, 0x11938,
	0x16121, 0x16122, 0x16123, 0x16124, 0x16125, 0x16126, 0x16127, 0x16128, 0x16D68, 0x16D69, 0x16D6A,
}

// segment normalizes a short text by the definition (Unicode 16, section 3.11).
type segment struct{ chars []classed }

// classed is a character with its canonical combining class.
type classed struct {
	r   rune
	ccc uint8
}

func (g *segment) appendNFC(dst []byte, s string) []byte {
	g.chars = g.chars[:0]
	for i := 0; i < len(s); {
		r, n := decodeRune(s, i)
		p := norm.NFC.PropertiesString(s[i:])
		d := p.Decomposition()
		switch {
		case isSyllable(r):
			k := r - syllables
			g.chars = append(g.chars, classed{r: jamoL + k/(vowels*tails)}, classed{r: jamoV + k%(vowels*tails)/tails})
			if t := k % tails; t > 0 {
				g.chars = append(g.chars, classed{r: jamoT + t})
			}
		case d != nil && !slices.Contains(lateComposites, r):
			for len(d) > 0 {
				r, size := utf8.DecodeRune(d)
				g.chars = append(g.chars, classed{r, combiningClass(norm.NFC.Properties(d), r)})
				d = d[size:]
			}
		default:
			g.chars = append(g.chars, classed{r, combiningClass(p, r)})
		}
		i += n
	}
	g.reorder()
	g.compose()
	for _, c := range g.chars {
		dst = utf8.AppendRune(dst, c.r)
	}
	return dst
}

func combiningClass(p norm.Properties, r rune) uint8 {
	c := p.CCC()
	if c != 0 && isLateMark(r) {
		return 0
	}
	return c
}

func isLateMark(r rune) bool {
	_, ok := slices.BinarySearch(lateMarks[:], r)
	return ok
}

// reorder sorts every run of marks by class.
func (g *segment) reorder() {
	for i := 0; i < len(g.chars); i++ {
		if g.chars[i].ccc == 0 {
			continue
		}
		end := i
		for end < len(g.chars) && g.chars[end].ccc != 0 {
			end++
		}
		slices.SortStableFunc(g.chars[i:end], func(a, b classed) int { return cmp.Compare(a.ccc, b.ccc) })
		i = end
	}
}

// compose joins characters with the last starter before them, unless something between is in the way.
func (g *segment) compose() {
	starter, out := -1, 0
	last := uint8(0) // class of the character before, since the starter
	for _, c := range g.chars {
		if starter >= 0 && (out == starter+1 || last < c.ccc) {
			if r, ok := composite(g.chars[starter].r, c.r); ok {
				g.chars[starter].r = r
				continue
			}
		}
		if c.ccc == 0 {
			starter = out
		}
		last = c.ccc
		g.chars[out] = c
		out++
	}
	g.chars = g.chars[:out]
}

// Hangul syllables are composed by arithmetic (Unicode 16, section 3.12).
const (
	syllables, jamoL, jamoV, jamoT = 0xAC00, 0x1100, 0x1161, 0x11A7
	leads, vowels, tails           = 19, 21, 28
)

func isSyllable(r rune) bool { return r >= syllables && r < syllables+leads*vowels*tails }

// composite returns the primary composite of two characters.
func composite(a, b rune) (rune, bool) {
	switch {
	case a >= jamoL && a < jamoL+leads && b >= jamoV && b < jamoV+vowels:
		return syllables + ((a-jamoL)*vowels+b-jamoV)*tails, true
	case isSyllable(a) && (a-syllables)%tails == 0 && b > jamoT && b < jamoT+tails:
		return a + b - jamoT, true
	}
	var buf [2 * utf8.UTFMax]byte
	pair := utf8.AppendRune(utf8.AppendRune(buf[:0], a), b)
	var out [4 * utf8.UTFMax]byte
	one := norm.NFC.Append(out[:0], pair...)
	r, n := utf8.DecodeRune(one)
	return r, n == len(one) && !slices.Contains(lateComposites, r)
}
