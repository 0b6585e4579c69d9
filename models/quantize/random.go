package quantize

import (
	"fmt"
	"math/bits"
)

// twister is MT19937 (Matsumoto and Nishimura).
type twister struct {
	state [624]uint32
	next  int
}

// seedLinear is init_genrand, the seeding of torch.manual_seed on the CPU.
func (m *twister) seedLinear(seed uint32) {
	m.state[0] = seed
	for i := uint32(1); i < 624; i++ {
		p := m.state[i-1]
		m.state[i] = 1812433253*(p^p>>30) + i
	}
	m.next = 624
}

// seedArray is init_by_array.
func (m *twister) seedArray(key []uint32) {
	m.seedLinear(19650218)
	i, j := 1, 0
	turn := func() {
		if i++; i == 624 {
			m.state[0], i = m.state[623], 1
		}
	}
	for range max(624, len(key)) {
		p := m.state[i-1]
		m.state[i] = m.state[i] ^ (p^p>>30)*1664525
		m.state[i] += key[j] + uint32(j)
		turn()
		if j++; j == len(key) {
			j = 0
		}
	}
	for range 623 {
		p := m.state[i-1]
		m.state[i] = m.state[i] ^ (p^p>>30)*1566083941
		m.state[i] -= uint32(i)
		turn()
	}
	m.state[0] = 1 << 31
	m.next = 624
}

func (m *twister) uint32() uint32 {
	if m.next == 624 {
		s := &m.state
		for k := range 624 {
			y := s[k]&(1<<31) | s[(k+1)%624]&(1<<31-1)
			v := s[(k+397)%624] ^ y>>1
			if y&1 != 0 {
				v ^= 0x9908b0df
			}
			s[k] = v
		}
		m.next = 0
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Random draws what Python's random.Random draws after the same seed: the
// generator by which all the original repositories pick calibration windows.
type Random struct {
	mt twister
}

// NewRandom is random.Random(seed) for a seed of 0 or more.
func NewRandom(seed uint64) *Random {
	key := []uint32{uint32(seed)}
	if seed>>32 != 0 {
		key = append(key, uint32(seed>>32))
	}
	r := &Random{}
	r.mt.seedArray(key)
	return r
}

// Float64 is random(): a number in [0, 1) of 53 bits.
func (r *Random) Float64() float64 {
	a, b := r.mt.uint32()>>5, r.mt.uint32()>>6
	return (float64(a)*(1<<26) + float64(b)) / (1 << 53)
}

// Bits is getrandbits(k) for k of 0 to 64.
func (r *Random) Bits(k int) uint64 {
	switch {
	case k <= 0:
		return 0
	case k <= 32:
		return uint64(r.mt.uint32() >> (32 - k))
	}
	low := uint64(r.mt.uint32())
	return uint64(r.mt.uint32()>>(64-min(k, 64)))<<32 | low
}

// Below is _randbelow(n): a number of 0 .. n-1 by rejection; n 0 gives 0
// without a draw. Below(1) draws until a bit is 0.
func (r *Random) Below(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	k := bits.Len64(n)
	for {
		if v := r.Bits(k); v < n {
			return v
		}
	}
}

// Int is randint(a, b): a number of a .. b, both included.
func (r *Random) Int(a, b int) (int, error) {
	if b < a {
		return 0, fmt.Errorf("random: empty range %d to %d", a, b)
	}
	return a + int(r.Below(uint64(b)-uint64(a)+1)), nil
}

// Shuffle is shuffle of n elements.
func (r *Random) Shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, int(r.Below(uint64(i)+1)))
	}
}

// Windows returns the starts of count calibration windows of length tokens
// within a stream of tokens: randint(0, N-L-1), as GPTQ, OmniQuant and Atom
// draw them.
func Windows(seed uint64, tokens, length, count int) ([]int, error) {
	if length < 1 || tokens <= length {
		return nil, fmt.Errorf("calibration: %d tokens: want more than the window of %d", tokens, length)
	}
	r := NewRandom(seed)
	starts := make([]int, count)
	for i := range starts {
		starts[i], _ = r.Int(0, tokens-length-1)
	}
	return starts, nil
}

// DocumentWindow is a calibration window within a document.
type DocumentWindow struct {
	Document, Start int
}

// DocumentWindows draws count windows of length tokens by the rule of the
// repositories' C4 loaders: a random document, drawn anew until it has length
// tokens, then a random window inside it. In a document of exactly length
// tokens the original's second draw fails, so that is an error here; so is a
// list without a longer document.
func DocumentWindows(seed uint64, lengths []int, length, count int) ([]DocumentWindow, error) {
	long := 0
	for _, n := range lengths {
		if n > length {
			long++
		}
	}
	if length < 1 || long == 0 {
		return nil, fmt.Errorf("calibration: none of %d documents has more than %d tokens", len(lengths), length)
	}
	r := NewRandom(seed)
	w := make([]DocumentWindow, count)
	for i := range w {
		d, _ := r.Int(0, len(lengths)-1)
		for lengths[d] < length {
			d, _ = r.Int(0, len(lengths)-1)
		}
		if lengths[d] == length {
			return nil, fmt.Errorf("calibration: document %d has exactly %d tokens: the drawing rule needs one more", d, length)
		}
		start, _ := r.Int(0, lengths[d]-length-1)
		w[i] = DocumentWindow{d, start}
	}
	return w, nil
}

// Draw returns the windows of the plan, as token ids that share memory with
// the documents: of one document by the rule of Windows, of several by that of
// DocumentWindows.
func (p CalibrationPlan) Draw(documents [][]int32) ([][]int32, error) {
	var picks []DocumentWindow
	if len(documents) == 1 {
		starts, err := Windows(p.Seed, len(documents[0]), p.Tokens, p.Sequences)
		if err != nil {
			return nil, err
		}
		for _, s := range starts {
			picks = append(picks, DocumentWindow{0, s})
		}
	} else {
		lengths := make([]int, len(documents))
		for i, d := range documents {
			lengths[i] = len(d)
		}
		var err error
		if picks, err = DocumentWindows(p.Seed, lengths, p.Tokens, p.Sequences); err != nil {
			return nil, err
		}
	}
	all := make([][]int32, len(picks))
	for i, w := range picks {
		all[i] = documents[w.Document][w.Start:][:p.Tokens:p.Tokens]
	}
	return all, nil
}

// TorchSigns returns n random signs: torch.randint(0, 2, (n,))*2 - 1 on the CPU
// after torch.manual_seed(seed).
func TorchSigns(seed uint32, n int) []float32 {
	var m twister
	m.seedLinear(seed)
	s := make([]float32, n)
	for i := range s {
		s[i] = float32(m.uint32()&1)*2 - 1
	}
	return s
}
