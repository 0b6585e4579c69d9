package compress

import (
	"encoding/binary"
)

// A lane coder codes rows of symbols 0..31 with N interleaved rANS states
// ("lanes"): the step of ransPush with frequencies of 12 bits, 32-bit states and
// 16-bit words. Symbol i of a row belongs to round i/N and lane i%N, and a row
// starts a new round, so that its last round may be partial. The words of all
// lanes form one stream in the order of the symbols.
//
// A symbol is coded under the table of its context, 0..3; a nil slice of
// contexts means context 0 everywhere. The number of states is the number of
// lanes: a power of two up to 32, or 64 or 96.
const (
	laneSymbols  = 32 // largest alphabet
	laneContexts = 4
	laneLimit    = 96 // largest number of lanes
	blockLanes   = maxLanes
)

// laneLoop is an instruction set that the lane coder has loops for; they give the
// same bits on all.
type laneLoop uint8

const (
	lanePlain laneLoop = iota
	laneAVX2
	laneAVX512
)

// laneLoops are the loops in use.
var laneLoops = availableLaneLoops()[0]

// laneModel holds one table of frequencies per context in the forms that the
// loops need. It is read-only after build, so that any number of calls may share
// it; the states and words belong to one call.
type laneModel struct {
	alphabet int // symbols above all that occur: 1..32
	classes  int // contexts with a table of their own
	// freq and start are indexed by context*32 + symbol. A symbol that does not
	// occur has frequency 0 and the start of the next one that does.
	freq, start [laneContexts * laneSymbols]uint16
	encode      encoderTable // the same index
	slots       *[laneContexts]decoderTable
	vector      laneTables
}

// build fills m from tables of frequencies, freq[class][symbol], each summing to
// 4096; 0 says that a symbol cannot occur. The tables from classes on, 1..4, are
// taken as copies of the first.
func (m *laneModel) build(freq *[laneContexts][laneSymbols]uint16, classes int) {
	m.classes = classes
	m.alphabet = 1
	for c := range laneContexts {
		f := &freq[0]
		if c < classes {
			f = &freq[c]
		}
		var sum uint16
		for s, n := range f {
			i := c*laneSymbols + s
			m.freq[i], m.start[i] = n, sum
			sum += n
			m.encode[i] = encoderSymbol{}
			if n > 0 {
				m.encode[i] = newEncoderSymbol(n, m.start[i])
				m.alphabet = max(m.alphabet, s+1)
			}
		}
	}
	if laneLoops == lanePlain {
		m.buildSlots()
	} else {
		m.slots = nil
		m.buildVector()
	}
}

// buildSlots makes the tables that the plain decoder looks slots up in.
func (m *laneModel) buildSlots() {
	if m.slots == nil {
		m.slots = new([laneContexts]decoderTable)
	}
	for c := range m.slots {
		if c > 0 && c >= m.classes {
			if m.classes > 1 {
				m.slots[c] = m.slots[0]
			}
			continue
		}
		for s, n := range m.freq[c*laneSymbols : (c+1)*laneSymbols] {
			m.slots[c].fill(byte(s), m.start[c*laneSymbols+s], n)
		}
	}
}

// wordStack holds the words of a stream that is written from its end to its
// front.
type wordStack struct {
	buf []byte
	at  int // the words are buf[at:]
}

// wordSlack is how many bytes below its words an encoder may write to.
const wordSlack = 2 * blockLanes

// reset empties w and makes room for the words of the given number of symbols, so
// that pushing them does not allocate.
func (w *wordStack) reset(symbols int) {
	w.buf = resize(w.buf, wordSlack+2*symbols)
	w.at = len(w.buf)
}

// reserve makes room for the words of so many symbols more.
func (w *wordStack) reserve(symbols int) {
	if need := wordSlack + 2*symbols; w.at < need {
		grown := make([]byte, 2*len(w.buf)+need)
		at := len(grown) - copy(grown[len(grown)-len(w.words()):], w.words())
		w.buf, w.at = grown, at
	}
}

// words returns the words, two bytes each, in the order of decoding. They stay
// valid until the next push or reset.
func (w *wordStack) words() []byte { return w.buf[w.at:] }

// rounds returns the number of rounds of a row of n symbols.
func rounds(n, lanes int) int { return (n + lanes - 1) / lanes }

// push encodes a row from its last round to its first.
func (m *laneModel) push(states []uint32, symbols, contexts []byte, w *wordStack) {
	m.pushRounds(states, symbols, contexts, 0, rounds(len(symbols), len(states)), w)
}

// pushRounds encodes rounds to-1 down to from of a row.
func (m *laneModel) pushRounds(states []uint32, symbols, contexts []byte, from, to int, w *wordStack) {
	lo, hi := from*len(states), min(to*len(states), len(symbols))
	w.reserve(hi - lo)
	hi = m.pushVector(states, symbols, contexts, lo, hi, w)
	m.pushPlain(states, symbols, contexts, lo, hi, w)
}

// pushPlain encodes the symbols from hi-1 down to lo, the first of a round.
func (m *laneModel) pushPlain(states []uint32, symbols, contexts []byte, lo, hi int, w *wordStack) {
	if lo >= hi {
		return
	}
	mask := uint(len(states)-1) & (blockLanes - 1)
	var local [laneLimit]uint32
	copy(local[:], states)
	i := hi
	for ; (i-lo)%blockLanes != 0; i-- {
		e := &m.encode[laneIndex(symbols, contexts, i-1)]
		k := (i - 1) % len(states)
		x, word, emit := ransPush(local[k], e.freq, e.start, probBits)
		if emit {
			w.at -= 2
			binary.LittleEndian.PutUint16(w.buf[w.at:], word)
		}
		local[k] = x
	}
	var block [blockLanes]byte
	for ; i > lo; i -= blockLanes {
		at := i - blockLanes
		syms := (*[blockLanes]byte)(symbols[at:])
		if contexts != nil {
			joinContexts(&block, syms, (*[blockLanes]byte)(contexts[at:]))
			syms = &block
		}
		words := (*[2 * blockLanes]byte)(w.buf[w.at-2*blockLanes:])
		w.at += ransEncodeBlock(syms, words, laneBlock(&local, at, len(states)), &m.encode, mask) - 2*blockLanes
	}
	copy(states, local[:])
}

// laneIndex returns context*32 + symbol.
func laneIndex(symbols, contexts []byte, i int) uint {
	s := uint(symbols[i]) & (laneSymbols - 1)
	if contexts != nil {
		s |= uint(contexts[i]) & (laneContexts - 1) * laneSymbols
	}
	return s
}

// joinContexts writes context*32 + symbol, eight at a time.
func joinContexts(dst, symbols, contexts *[blockLanes]byte) {
	for j := 0; j < blockLanes; j += 8 {
		s := binary.LittleEndian.Uint64(symbols[j:]) & 0x1f1f1f1f1f1f1f1f
		c := binary.LittleEndian.Uint64(contexts[j:]) & 0x0303030303030303
		binary.LittleEndian.PutUint64(dst[j:], s|c<<5)
	}
}

// laneBlock returns the states of the 32 symbols from symbol i of a row on. With
// fewer lanes it returns all, and the index is masked.
func laneBlock(states *[laneLimit]uint32, i, lanes int) *[blockLanes]uint32 {
	if lanes <= blockLanes {
		return (*[blockLanes]uint32)(states[:])
	}
	return (*[blockLanes]uint32)(states[i%lanes:])
}

// pushStart encodes rounds of a row from the last one on towards the first as
// long as no lane of the round would emit a word, and returns how many it did.
// The states of the first call are 0.
func (m *laneModel) pushStart(states []uint32, symbols, contexts []byte) int {
	all := rounds(len(symbols), len(states))
	left := all
	if len(symbols)%len(states) != 0 && m.pushStartRound(states, symbols, contexts, left-1) {
		left--
	}
	if left*len(states) <= len(symbols) {
		if done, ok := m.pushStartVector(states, symbols, contexts, left); ok {
			return all - left + done
		}
	}
	for left > 0 && m.pushStartRound(states, symbols, contexts, left-1) {
		left--
	}
	return all - left
}

// pushStartRound encodes one round unless a lane would emit.
func (m *laneModel) pushStartRound(states []uint32, symbols, contexts []byte, round int) bool {
	lo, hi := round*len(states), min((round+1)*len(states), len(symbols))
	for i := lo; i < hi; i++ {
		if states[i-lo]>>(32-probBits) >= m.encode[laneIndex(symbols, contexts, i)].freq {
			return false
		}
	}
	for i := lo; i < hi; i++ {
		e := &m.encode[laneIndex(symbols, contexts, i)]
		states[i-lo], _, _ = ransPush(states[i-lo], e.freq, e.start, probBits)
	}
	return true
}

// pop decodes rounds from..to-1 of a row into their places in symbols. Within a
// round it takes words from the front of src in the order of the lanes, one for
// each lane whose state falls below 65536; without renormalise it takes none,
// the counterpart of pushStart. It returns the bytes taken, and false when src
// ends too early; symbols and states are then unspecified. src is of any
// content, but a pop of states that no push made may give any symbols.
func (m *laneModel) pop(states []uint32, symbols, contexts []byte, from, to int, src []byte, renormalise bool) (used int, ok bool) {
	lo, hi := from*len(states), min(to*len(states), len(symbols))
	lo, used, ok = m.popVector(states, symbols, contexts, lo, hi, src, renormalise)
	if !ok || lo >= hi {
		return used, ok
	}
	n, ok := m.popPlain(states, symbols, contexts, lo, hi, src[used:], renormalise)
	return used + n, ok
}

// popPlain decodes symbols lo..hi-1, lo being the first of a round.
func (m *laneModel) popPlain(states []uint32, symbols, contexts []byte, lo, hi int, src []byte, renormalise bool) (used int, ok bool) {
	mask := uint(len(states)-1) & (blockLanes - 1)
	var local [laneLimit]uint32
	copy(local[:], states)
	i, p := lo, 0
	if renormalise && m.slots != nil && len(states) >= 4 {
		for ; hi-i >= blockLanes && len(src)-p >= 2*blockLanes; i += blockLanes {
			syms := (*[blockLanes]byte)(symbols[i:])
			words := (*[2 * blockLanes]byte)(src[p:])
			block := laneBlock(&local, i, len(states))
			if contexts == nil || m.classes == 1 {
				p += ransDecodeBlock(syms, words, block, &m.slots[0], mask)
			} else {
				p += laneDecodeBlock(syms, (*[blockLanes]byte)(contexts[i:]), words, block, m.slots, mask)
			}
		}
	}
	for ; i < hi; i++ {
		k := i % len(states)
		x := local[k]
		slot := uint16(x & (probOne - 1))
		s := m.find(slot, contexts, i)
		symbols[i] = byte(s % laneSymbols)
		x = uint32(m.freq[s])*(x>>probBits) + uint32(slot-m.start[s])
		if renormalise && x < stateLow {
			if len(src)-p < 2 {
				return p, false
			}
			x = x<<16 | uint32(binary.LittleEndian.Uint16(src[p:]))
			p += 2
		}
		local[k] = x
	}
	copy(states, local[:])
	return p, true
}

// find returns the index, context*32 + symbol, of the symbol that has the slot
// in the context of symbol i: the last one that starts at or before it.
func (m *laneModel) find(slot uint16, contexts []byte, i int) uint {
	base := uint(0)
	if contexts != nil {
		base = uint(contexts[i]) & (laneContexts - 1) * laneSymbols
	}
	s := base
	for step := uint(laneSymbols / 2); step > 0; step /= 2 {
		if m.start[s+step] <= slot {
			s += step
		}
	}
	return s
}

// laneDecodeBlock is ransDecodeBlock with a table per context.
func laneDecodeBlock(syms, contexts *[blockLanes]byte, words *[2 * blockLanes]byte, states *[blockLanes]uint32, t *[laneContexts]decoderTable, mask uint) int {
	_, _, _, _, _ = syms[0], contexts[0], words[0], states[0], t[0].symbol[0]
	at := uint(0)
	for j := range uint(blockLanes) {
		var x uint32
		x, syms[j] = t[contexts[j]&(laneContexts-1)].pop(states[j&mask&(blockLanes-1)])
		states[j&mask&(blockLanes-1)], at = renormalise(x, words, at)
	}
	return int(at)
}
