package train

import (
	"math"
	"math/rand/v2"
)

// order hands out the sequences of a set, pass after pass. Pass p is a shuffle that the seed and p decide alone.
type order struct {
	set  *set
	seed uint64
	pass int   // the one in hand, from 0
	next int   // sequences of it that were handed out
	list []int // the pass in hand
}

func newOrder(s *set, seed uint64, pass, next int) *order {
	o := &order{set: s, seed: seed, pass: pass, next: next}
	o.shuffle()
	return o
}

// shuffle makes the list of a pass. A sequence of a source with weight w comes floor(w) times, and once more with the
// probability of the rest.
func (o *order) shuffle() {
	r := rand.New(rand.NewPCG(o.seed, uint64(o.pass)+1))
	o.list = o.list[:0]
	for i, from := range o.set.from {
		w := o.set.sources[from].weight
		n := int(math.Floor(w))
		if rest := w - math.Floor(w); rest > 0 && r.Float64() < rest {
			n++
		}
		for range n {
			o.list = append(o.list, i)
		}
	}
	r.Shuffle(len(o.list), func(i, j int) { o.list[i], o.list[j] = o.list[j], o.list[i] })
}

// batch appends the indices of the next sequences, at least one, that together have at most the given number of
// predictions.
func (o *order) batch(dst []int, tokens int) []int {
	for n := 0; ; o.next++ {
		for o.next == len(o.list) {
			o.pass++
			o.next = 0
			o.shuffle()
		}
		i := o.list[o.next]
		n += len(o.set.sequence(i)) - 1
		if n > tokens && len(dst) > 0 {
			return dst
		}
		dst = append(dst, i)
	}
}
