package tasks

import (
	"math/bits"
)

const (
	mtSize  = 624
	mtShift = 397
)

// PyRandom is Python's random.Random: a Mersenne Twister MT19937 with CPython's way of drawing integers, so that the document orders and
// window starts of published recipes can be repeated. It is not safe for concurrent use.
type PyRandom struct {
	state [mtSize]uint32
	next  int
}

// NewPyRandom returns the generator that random.Random(seed) is. Seeds are taken by absolute value, as in Python.
func NewPyRandom(seed int64) *PyRandom {
	u := uint64(seed)
	if seed < 0 {
		u = -u
	}
	key := []uint32{uint32(u)}
	if u>>32 != 0 {
		key = append(key, uint32(u>>32))
	}
	r := &PyRandom{next: mtSize}
	r.initByArray(key)
	return r
}

// initByArray is init_by_array of the reference mt19937ar.c.
func (r *PyRandom) initByArray(key []uint32) {
	s := &r.state
	s[0] = 19650218
	for i := 1; i < mtSize; i++ {
		s[i] = 1812433253*(s[i-1]^s[i-1]>>30) + uint32(i)
	}
	i, j := 1, 0
	for range max(mtSize, len(key)) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key[j] + uint32(j)
		i++
		j++
		if i == mtSize {
			s[0] = s[mtSize-1]
			i = 1
		}
		if j == len(key) {
			j = 0
		}
	}
	for range mtSize - 1 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		i++
		if i == mtSize {
			s[0] = s[mtSize-1]
			i = 1
		}
	}
	s[0] = 0x80000000
}

// Uint32 returns the next 32 bits.
func (r *PyRandom) Uint32() uint32 {
	if r.next == mtSize {
		s := &r.state
		for i := range mtSize {
			y := s[i]&0x80000000 | s[(i+1)%mtSize]&0x7fffffff
			v := s[(i+mtShift)%mtSize] ^ y>>1
			if y&1 != 0 {
				v ^= 0x9908b0df
			}
			s[i] = v
		}
		r.next = 0
	}
	y := r.state[r.next]
	r.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Bits returns k random bits, Python's getrandbits(k). It panics unless 0 <= k <= 64.
func (r *PyRandom) Bits(k int) uint64 {
	switch {
	case k < 0 || k > 64:
		panic("tasks: PyRandom.Bits wants 0 to 64 bits")
	case k == 0:
		return 0
	case k <= 32:
		return uint64(r.Uint32() >> (32 - k))
	}
	low := uint64(r.Uint32())
	return low | uint64(r.Uint32()>>(64-k))<<32
}

// Below returns an integer in [0, n), Python's randrange(n). It panics if n < 1.
func (r *PyRandom) Below(n int) int {
	if n < 1 {
		panic("tasks: PyRandom.Below wants n > 0")
	}
	k := bits.Len(uint(n))
	v := r.Bits(k)
	for v >= uint64(n) {
		v = r.Bits(k)
	}
	return int(v)
}

// Int returns an integer in [a, b], Python's randint(a, b). It panics if b < a.
func (r *PyRandom) Int(a, b int) int { return a + r.Below(b-a+1) }

// Float64 returns a number in [0, 1) with 53 random bits, Python's random().
func (r *PyRandom) Float64() float64 {
	a, b := r.Uint32()>>5, r.Uint32()>>6
	return float64(uint64(a)<<26|uint64(b)) / (1 << 53)
}

// Shuffle puts n elements in the order of Python's shuffle, given the exchange of two of them.
func (r *PyRandom) Shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i >= 1; i-- {
		swap(i, r.Below(i+1))
	}
}
