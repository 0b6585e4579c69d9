package train

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// order hands out the sequences of a set, pass after pass. Pass p is a shuffle that the seed and p decide alone.
type order struct {
	set  *set
	seed uint64
	pass int     // the one in hand, from 0
	next int     // sequences of it that were handed out
	list []int32 // the pass in hand
}

// maxPass bounds the sequences of a pass.
const maxPass = 1 << 28

// checkPass refuses weights that make a pass too long to hold.
func checkPass(s *set) error {
	counts := make([]float64, len(s.sources))
	for _, from := range s.from {
		counts[from]++
	}
	all := 0.0
	for k, n := range counts {
		all += n * math.Ceil(s.sources[k].weight)
	}
	if all > maxPass {
		return fmt.Errorf("the weights of the training sources give a pass of up to %.0f sequences, expected at most %d; smaller weights have the same proportions", all, maxPass)
	}
	return nil
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
			o.list = append(o.list, int32(i))
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
		i := int(o.list[o.next])
		n += len(o.set.sequence(i)) - 1
		if n > tokens && len(dst) > 0 {
			return dst
		}
		dst = append(dst, i)
	}
}
