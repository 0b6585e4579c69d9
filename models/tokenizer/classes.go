package tokenizer

import "unicode/utf8"

// charClass is a set of the character classes that the split patterns name.
type charClass uint8

const (
	classLetter  charClass = 1 << iota // \p{L}
	classUpper                         // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
	classLower                         // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
	classNumber                        // \p{N}
	classSpace                         // \s: Unicode's White_Space
	classNewline                       // [\r\n]
	classOther                         // [^\s\p{L}\p{N}]
)

// The classes are those of Unicode 16, as the reference libraries have them; the tables of Go's package unicode are older.
// They are filled in from classRuns.
var (
	classIndex [(utf8.MaxRune + 1) >> 8]uint8 // page of a block of 256 characters
	classPages [][256]charClass               // the blocks of one class share a page
	asciiClass [utf8.RuneSelf]charClass
)

func init() {
	var plain [256]uint8 // page of one class only, plus one
	run := 0
	for b := range classIndex {
		first := uint32(b << 8)
		for run+1 < len(classRuns) && classRuns[run+1]>>8 <= first {
			run++
		}
		class := charClass(classRuns[run])
		whole := run+1 == len(classRuns) || classRuns[run+1]>>8 >= first+256
		if whole && plain[class] > 0 {
			classIndex[b] = plain[class] - 1
			continue
		}
		var page [256]charClass
		for c := range page {
			if run+1 < len(classRuns) && classRuns[run+1]>>8 <= first+uint32(c) {
				run++
			}
			page[c] = charClass(classRuns[run])
		}
		classIndex[b] = uint8(len(classPages))
		classPages = append(classPages, page)
		if whole {
			plain[class] = uint8(len(classPages))
		}
	}
	copy(asciiClass[:], classPages[classIndex[0]][:])
}

// classOf returns the classes of a character.
func classOf(r rune) charClass { return classPages[classIndex[r>>8]][r&255] }

// isWhiteSpace is Unicode's White_Space, which is what \s means to the reference library.
func isWhiteSpace(r rune) bool { return classOf(r)&classSpace != 0 }
