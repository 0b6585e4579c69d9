package world

import (
	"cmp"
	"slices"
)

// Goods and beasts with coined names make the long tail of the world: what they are has to be learned from few mentions, as with rare names
// in real text. The counts are per material and per kind of animal.
const (
	coinedGoods  = 192
	coinedBeasts = 48
)

// headRank sets the tail's weight: a member of rank r is mentioned headRank/(headRank+r) times as often as one with an ordinary name, whose
// rank is 0.
const headRank = 8

// coined returns the names of goods or beasts (kind "good" or "beast") for classes of equal size, the same for every seed and in the order of
// their ranks. No name is a word of the tables, and none is both a good's and a beast's.
func coined(kind string, classes, size int) [][]string {
	taken := map[string]bool{}
	for _, table := range [][][]string{objects, animals, substances, {shapes, vessels, materials, professions}} {
		for _, words := range table {
			for _, w := range words {
				taken[w] = true
			}
		}
	}
	var all []string
	for _, first := range []string{"b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"} {
		for _, vowel := range vowels {
			for _, middle := range []string{"b", "d", "f", "k", "lb", "m", "nd", "p", "rt", "sk", "v", "z"} {
				for _, second := range vowels {
					for _, last := range []string{"b", "f", "g", "k", "x", "z"} {
						if w := first + vowel + middle + second + last; !taken[w] {
							all = append(all, w)
						}
					}
				}
			}
		}
	}
	rank := func(w string) uint64 { return hash(0, "coined", w) }
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	if kind == "beast" { // from the other end, so that goods and beasts differ
		slices.Reverse(all)
	}
	out := make([][]string, classes)
	for i, w := range all[:classes*size] {
		out[i%classes] = append(out[i%classes], w)
	}
	return out
}

var vowels = []string{"a", "e", "i", "o", "u"}

// member draws one of some members, those of the tail the more rarely the higher their rank.
func (g *generator) member(members []member) member {
	for {
		if m := pick(g.random, members); g.below(headRank+m.rank) < headRank {
			return m
		}
	}
}
