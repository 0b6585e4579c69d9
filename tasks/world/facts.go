package world

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Split names one of the three parts of the world's facts.
type Split int

// The splits. Every fact belongs to exactly one of them.
const (
	Train Split = iota
	Validation
	Test
)

// String returns the usual name of the split.
func (s Split) String() string { return [...]string{"train", "validation", "test"}[s] }

// random draws numbers; the same seed gives the same draws on every platform.
type random struct{ *rand.PCG }

func newRandom(seed uint64, stream string) random {
	return random{rand.NewPCG(seed, hash(seed, stream))}
}

// below returns a number from 0 to n-1.
func (r random) below(n int) int {
	high, _ := bits.Mul64(r.Uint64(), uint64(n))
	return int(high)
}

// chance is true in percent of 100 draws.
func (r random) chance(percent int) bool { return r.below(100) < percent }

// distinct returns k different numbers from 0 to n-1 in random order.
func (r random) distinct(n, k int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := range k {
		j := i + r.below(n-i)
		p[i], p[j] = p[j], p[i]
	}
	return p[:k]
}

// weighted returns an index with a probability proportional to its weight.
func (r random) weighted(weights ...int) int {
	total := 0
	for _, w := range weights {
		total += w
	}
	x := r.below(total)
	for i, w := range weights {
		if x -= w; x < 0 {
			return i
		}
	}
	return len(weights) - 1
}

func pick[T any](r random, s []T) T { return s[r.below(len(s))] }

// hash is a number that depends on the seed and the words alone.
func hash(seed uint64, words ...string) uint64 {
	h := fnv.New64a()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], seed)
	h.Write(b[:])
	for _, w := range words {
		h.Write([]byte(w))
		h.Write([]byte{0})
	}
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// member is a thing, a substance, an animal or a person. Its class decides every answer about it.
type member struct {
	adjective, noun string
	class           int
}

// full is the member with the word that states its material.
func (m member) full() string {
	if m.adjective == "" {
		return m.noun
	}
	return m.adjective + " " + m.noun
}

func (m member) a() string   { return withArticle(m.full()) }
func (m member) the() string { return "the " + m.noun }

func withArticle(s string) string {
	if strings.IndexByte("aeiou", s[0]) >= 0 {
		return "an " + s
	}
	return "a " + s
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// domain holds the facts (relation, member) of members of one sort, parted into splits.
type domain struct {
	parts [][][3][]member // by relation, class and split
}

// newDomain parts the facts. The members of a class stand in the order of their hashes; each relation leaves out the next eighth of them
// (at least one) for test and the next for validation, round and round, so that every member and every relation keeps most of its facts in
// train.
func newDomain(seed uint64, name string, relations int, classes [][]member) domain {
	d := domain{parts: make([][][3][]member, relations)}
	for r := range relations {
		d.parts[r] = make([][3][]member, len(classes))
	}
	for c, members := range classes {
		rank := func(m member) uint64 { return hash(seed, name, strconv.Itoa(c), m.full()) }
		sorted := slices.SortedFunc(slices.Values(members), func(a, b member) int { return cmp.Compare(rank(a), rank(b)) })
		size := len(sorted)
		n := max(1, size/8)
		for r := range relations {
			first := 2*n*r + 2*n*r/size // the last term swaps test and validation from round to round
			p := &d.parts[r][c]
			for i := range size {
				s := Train
				switch {
				case i < n:
					s = Test
				case i < 2*n:
					s = Validation
				}
				p[s] = append(p[s], sorted[(first+i)%size])
			}
		}
	}
	return d
}

// world holds every fact with its split.
type world struct {
	things     domain // relations: actions, then thingMethods
	shapes     domain // the same for things whose material is stated
	substances domain // relations: substanceMethods
	animals    domain // relations: animalLookups
	people     domain // one relation: who has which profession
	persons    [][3][][2]string
	vessels    [][3][][2]string
}

func newWorld(seed uint64) *world {
	stated := make([][]member, len(materials))
	for c := range materials {
		for _, s := range shapes {
			stated[c] = append(stated[c], member{adjective: materialAdjectives[c], noun: s, class: c})
		}
	}
	everyone := make([][]string, len(professions))
	for c := range professions {
		everyone[c] = names
	}
	return &world{
		things:     newDomain(seed, "thing", len(actions)+len(thingMethods), plainMembers(objects)),
		shapes:     newDomain(seed, "shape", len(actions)+len(thingMethods), stated),
		substances: newDomain(seed, "substance", len(substanceMethods), plainMembers(substances)),
		animals:    newDomain(seed, "animal", len(animalLookups), plainMembers(animals)),
		people:     newDomain(seed, "person", 1, plainMembers(everyone)),
		persons:    newPairs(seed, personRoles, names),
		vessels:    newPairs(seed, vesselRoles, vessels),
	}
}

func plainMembers(classes [][]string) [][]member {
	out := make([][]member, len(classes))
	for c, nouns := range classes {
		for _, n := range nouns {
			out[c] = append(out[c], member{noun: n, class: c})
		}
	}
	return out
}

// newPairs parts the facts (role, pair of words in any order) by the ranks of their hashes: a tenth to test, a tenth to validation.
func newPairs(seed uint64, roles []role, words []string) [][3][][2]string {
	out := make([][3][][2]string, len(roles))
	for i, role := range roles {
		var pairs [][2]string
		for j, a := range words {
			for _, b := range words[j+1:] {
				pairs = append(pairs, [2]string{a, b})
			}
		}
		rank := func(p [2]string) uint64 { return hash(seed, "pair", role.name, p[0], p[1]) }
		slices.SortFunc(pairs, func(a, b [2]string) int { return cmp.Compare(rank(a), rank(b)) })
		n := len(pairs) / 10
		out[i] = [3][][2]string{Test: pairs[:n], Validation: pairs[n : 2*n], Train: pairs[2*n:]}
	}
	return out
}
