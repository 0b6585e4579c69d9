package compress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// The entropy coder is range asymmetric numeral systems (Duda, arXiv 1311.2540)
// with 32-bit states and 16-bit words, so that a symbol moves at most one word.
// Symbol i belongs to lane i mod lanes; all lanes share one stream of words, in
// the order in which the decoder takes them, which is the order of the symbols.
// A state is in [stateLow, 2^32) between symbols; encoding runs from the last
// symbol to the first and starts every lane at stateLow, where the decoder must
// end.
const (
	probBits = 12            // bits of a frequency
	probOne  = 1 << probBits // sum of the frequencies
	stateLow = 1 << 16
	maxLanes = 32
)

// errRANS is the cause of every failure to decode a stream: it does not end in
// the states in which encoding began, or has a wrong number of words.
var errRANS = errors.New("entropy-coded stream is inconsistent")

// ransPush encodes one symbol of the given frequency and start, of a total of
// 2^scale: it returns the new state and the word to emit, if any.
// ransEncodeBlock is this step without branches and division.
func ransPush(x, freq, start uint32, scale uint) (state uint32, word uint16, emit bool) {
	if uint64(x) >= uint64(freq)<<(32-scale) {
		word, emit = uint16(x), true
		x >>= 16
	}
	return x/freq<<scale + x%freq + start, word, emit
}

// frequencies is a static model of bytes: freq sums to probOne over the symbols
// that occur, and start is its running sum.
type frequencies struct {
	freq, start [256]uint16
}

// countBytes counts the bytes of each value. Four counts of each value, since one
// waits for the last store to it.
func countBytes(b []byte) (counts [256]uint32) {
	var part [4][256]uint32
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		part[0][byte(v)]++
		part[1][byte(v>>8)]++
		part[2][byte(v>>16)]++
		part[3][byte(v>>24)]++
		part[0][byte(v>>32)]++
		part[1][byte(v>>40)]++
		part[2][byte(v>>48)]++
		part[3][byte(v>>56)]++
	}
	for _, s := range b {
		part[0][s]++
	}
	for s := range counts {
		counts[s] = part[0][s] + part[1][s] + part[2][s] + part[3][s]
	}
	return counts
}

// normalise scales counts to frequencies that sum to probOne, each symbol that
// occurs getting at least 1. Rounding leaves a difference, which goes step by
// step to the symbol where it costs least; all in integers, the first symbol
// winning ties. At least one count must be positive.
func (f *frequencies) normalise(counts *[256]uint32) {
	var total uint64
	for _, n := range counts {
		total += uint64(n)
	}
	sum := 0
	for s, n := range counts {
		f.freq[s] = 0
		if n > 0 {
			f.freq[s] = uint16(max(1, (uint64(n)*probOne+total/2)/total))
			sum += int(f.freq[s])
		}
	}
	for sum != probOne {
		best := -1
		var bestN, bestD uint64 // the gain of one step more or less is close to n / (f +- 1/2)
		for s, n := range counts {
			fr := uint64(f.freq[s])
			switch {
			case n == 0:
			case sum < probOne:
				if d := 2*fr + 1; best < 0 || uint64(n)*bestD > bestN*d {
					best, bestN, bestD = s, uint64(n), d
				}
			case fr > 1:
				if d := 2*fr - 1; best < 0 || uint64(n)*bestD < bestN*d {
					best, bestN, bestD = s, uint64(n), d
				}
			}
		}
		if sum < probOne {
			f.freq[best]++
			sum++
		} else {
			f.freq[best]--
			sum--
		}
	}
	f.accumulate()
}

func (f *frequencies) accumulate() {
	var sum uint16
	for s, n := range f.freq {
		f.start[s] = sum
		sum += n
	}
}

// append appends the model: first and last symbol that occur, then 12 bits per
// symbol from one to the other, least significant bits first, 0 where a symbol
// does not occur. With two symbols or more none reaches probOne; with one, its
// frequency is probOne and no bits follow.
func (f *frequencies) append(dst []byte) []byte {
	lo, hi := f.bounds()
	dst = append(dst, byte(lo), byte(hi))
	if lo == hi {
		return dst
	}
	var w bitWriter
	for s := lo; s <= hi; s++ {
		dst = w.write(dst, uint32(f.freq[s]), probBits)
	}
	return w.flush(dst)
}

// bounds returns the first and last symbol that occur.
func (f *frequencies) bounds() (lo, hi int) {
	hi = 255
	for f.freq[lo] == 0 {
		lo++
	}
	for f.freq[hi] == 0 {
		hi--
	}
	return lo, hi
}

// parse is the inverse of append; b must hold exactly one model.
func (f *frequencies) parse(b []byte) error {
	if len(b) < 2 {
		return fmt.Errorf("frequency table has %d bytes, expected at least 2", len(b))
	}
	lo, hi := int(b[0]), int(b[1])
	*f = frequencies{}
	if lo > hi {
		return fmt.Errorf("frequency table runs from symbol %d to %d", lo, hi)
	}
	b = b[2:]
	if lo == hi {
		if len(b) > 0 {
			return fmt.Errorf("frequency table of one symbol has %d bytes too many", len(b))
		}
		f.freq[lo] = probOne
		f.accumulate()
		return nil
	}
	if want := ((hi-lo+1)*probBits + 7) / 8; len(b) != want {
		return fmt.Errorf("frequency table has %d bytes of frequencies, expected %d", len(b), want)
	}
	r := bitReader{b: b}
	sum := 0
	for s := lo; s <= hi; s++ {
		f.freq[s] = uint16(r.read(probBits))
		sum += int(f.freq[s])
	}
	if sum != probOne || f.freq[lo] == 0 || f.freq[hi] == 0 || !r.restIsZero() {
		return fmt.Errorf("frequency table sums to %d, expected %d with the first and last symbol above 0 and no padding", sum, probOne)
	}
	f.accumulate()
	return nil
}

// encoderSymbol is what the encoder's inner loop needs of a symbol: with
// q = floor(x/freq) the new state is x + start + q*(probOne-freq).
type encoderSymbol struct {
	reciprocal uint64 // ceil(2^63 / freq): floor(x/freq) = 2x * reciprocal >> 64, exact for x < 2^32
	freq       uint32
	start      uint32
}

func newEncoderSymbol(freq, start uint16) encoderSymbol {
	return encoderSymbol{(1<<63 + uint64(freq) - 1) / uint64(freq), uint32(freq), uint32(start)}
}

type encoderTable [256]encoderSymbol

func (t *encoderTable) build(f *frequencies) {
	for s, n := range f.freq {
		if n > 0 {
			t[s] = newEncoderSymbol(n, f.start[s])
		}
	}
}

// ransEncode appends the states of the lanes, 4 bytes each, and the words that
// encode syms. Every symbol must have a frequency; lanes is a power of two, at
// most maxLanes. buf is scratch, returned for the next call.
func ransEncode(dst, syms []byte, t *encoderTable, lanes int, buf []byte) (out, scratch []byte) {
	buf = resize(buf, 2*len(syms))
	var states [maxLanes]uint32
	for k := range states {
		states[k] = stateLow
	}
	mask := uint(lanes-1) & (maxLanes - 1)
	i, p := len(syms), len(buf)
	for ; i%maxLanes != 0; i-- {
		e := &t[syms[i-1]]
		k := uint(i-1) & mask
		x, word, emit := ransPush(states[k], e.freq, e.start, probBits)
		if emit {
			p -= 2
			binary.LittleEndian.PutUint16(buf[p:], word)
		}
		states[k] = x
	}
	for ; i > 0; i -= maxLanes {
		words := (*[2 * maxLanes]byte)(buf[p-2*maxLanes:])
		p += ransEncodeBlock((*[maxLanes]byte)(syms[i-maxLanes:]), words, &states, t, mask) - 2*maxLanes
	}
	for _, x := range states[:lanes] {
		dst = binary.LittleEndian.AppendUint32(dst, x)
	}
	return append(dst, buf[p:]...), buf
}

// ransEncodeBlock encodes a block of symbols from the last to the first and
// writes their words at the end of words. It returns how many of its bytes stay
// free. A function of its own, so that its variables stay in registers.
func ransEncodeBlock(syms *[maxLanes]byte, words *[2 * maxLanes]byte, states *[maxLanes]uint32, t *encoderTable, mask uint) int {
	// Looking at each once keeps the checks for nil out of the loop.
	_, _, _, _ = syms[0], words[0], states[0], t[0].freq
	free := uint(2 * maxLanes)
	for j := uint(maxLanes - 1); j < maxLanes; j-- {
		e := &t[syms[j]]
		x := states[j&mask&(maxLanes-1)]
		// A word leaves when x >= freq << 20. It is stored in any case and
		// counted only then: a branch here would be taken at random.
		emit := (e.freq - 1 - x>>(32-probBits)) >> 31
		at := (free - 2) & (2*maxLanes - 2) // free is 2 or more: a symbol emits at most one word
		words[at], words[at+1] = byte(x), byte(x>>8)
		free -= uint(2 * emit)
		x ^= (x ^ x>>16) & -emit
		q, _ := bits.Mul64(uint64(x)<<1, e.reciprocal)
		states[j&mask&(maxLanes-1)] = x + e.start + uint32(q)*(probOne-e.freq)
	}
	return int(free)
}

// decoderTable gives for each slot, that is for each value of the low bits of a
// state, the symbol, its frequency and slot - start.
type decoderTable struct {
	step   [probOne]slotStep
	symbol [probOne]byte
}

type slotStep struct{ freq, rest uint16 }

func (t *decoderTable) build(f *frequencies) {
	for s, n := range f.freq {
		t.fill(byte(s), f.start[s], n)
	}
}

// fill writes the slots of one symbol.
func (t *decoderTable) fill(symbol byte, start, freq uint16) {
	steps, symbols := t.step[start:start+freq], t.symbol[start:start+freq]
	for i := range steps {
		steps[i] = slotStep{freq, uint16(i)}
		symbols[i] = symbol
	}
}

// ransDecodeBlock decodes a block of symbols and returns the bytes of the words
// taken. It is a function of its own so that its variables stay in registers, and
// takes four symbols at a time to save the arithmetic of indices: there are at
// least four lanes.
func ransDecodeBlock(syms *[maxLanes]byte, words *[2 * maxLanes]byte, states *[maxLanes]uint32, t *decoderTable, mask uint) int {
	_, _, _, _ = syms[0], words[0], states[0], t.symbol[0]
	at := uint(0)
	for j := uint(0); j <= maxLanes-4; j += 4 {
		s, o := (*[4]uint32)(states[j&mask:]), (*[4]byte)(syms[j:])
		var x uint32
		x, o[0] = t.pop(s[0])
		s[0], at = renormalise(x, words, at)
		x, o[1] = t.pop(s[1])
		s[1], at = renormalise(x, words, at)
		x, o[2] = t.pop(s[2])
		s[2], at = renormalise(x, words, at)
		x, o[3] = t.pop(s[3])
		s[3], at = renormalise(x, words, at)
	}
	return int(at)
}

// pop returns the state without its symbol, and the symbol.
func (t *decoderTable) pop(x uint32) (state uint32, symbol byte) {
	slot := x & (probOne - 1)
	e := &t.step[slot]
	return uint32(e.freq)*(x>>probBits) + uint32(e.rest), t.symbol[slot]
}

// renormalise takes the word at the given place if x is below stateLow. It is in
// the form that compiles to a selection; a branch would be taken at random.
func renormalise(x uint32, words *[2 * maxLanes]byte, at uint) (state uint32, next uint) {
	at &= 2*maxLanes - 2 // changes nothing: a symbol takes at most one word
	word := uint32(words[at]) | uint32(words[at+1])<<8
	take := uint(uint64(x)-stateLow) >> 63
	with := x<<16 | word
	if x < stateLow {
		x = with
	}
	return x, at + 2*take
}

// ransDecode fills syms from src, which must hold exactly the states and words
// that encode it.
func ransDecode(syms, src []byte, t *decoderTable, lanes int) error {
	var states [maxLanes]uint32
	if err := parseStates(states[:lanes], src); err != nil {
		return err
	}
	words := src[4*lanes:]
	mask := uint(lanes-1) & (maxLanes - 1)
	i, p := 0, 0
	// While a word is left for every symbol of a block, no look at the length
	// is needed between them.
	for lanes >= 4 && len(syms)-i >= maxLanes && len(words)-p >= 2*maxLanes {
		p += ransDecodeBlock((*[maxLanes]byte)(syms[i:]), (*[2 * maxLanes]byte)(words[p:]), &states, t, mask)
		i += maxLanes
	}
	for ; i < len(syms); i++ {
		k := uint(i) & mask
		x := states[k]
		x, syms[i] = t.pop(x)
		if x < stateLow {
			if p == len(words) {
				return fmt.Errorf("%w: words end at symbol %d of %d", errRANS, i, len(syms))
			}
			x = x<<16 | uint32(binary.LittleEndian.Uint16(words[p:]))
			p += 2
		}
		states[k] = x
	}
	return checkEnd(states[:lanes], len(words)-p)
}

// parseStates reads the states that a stream begins with.
func parseStates(states []uint32, src []byte) error {
	if len(src) < 4*len(states) || len(src)%2 != 0 {
		return fmt.Errorf("%w: %d bytes for %d states and words", errRANS, len(src), len(states))
	}
	for k := range states {
		states[k] = binary.LittleEndian.Uint32(src[4*k:])
		if states[k] < stateLow {
			return fmt.Errorf("%w: state %d of lane %d is below %d", errRANS, states[k], k, stateLow)
		}
	}
	return nil
}

// checkEnd returns nil if decoding ended in the states in which encoding began,
// with no bytes of words left.
func checkEnd(states []uint32, left int) error {
	if left != 0 {
		return fmt.Errorf("%w: %d bytes left over", errRANS, left)
	}
	for k, x := range states {
		if x != stateLow {
			return fmt.Errorf("%w: lane %d ends in state %d, expected %d", errRANS, k, x, stateLow)
		}
	}
	return nil
}
