//go:build amd64 && !noasm

package compress

import (
	"math/bits"
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate go run ./kernelgen

// availableLaneLoops returns the loops this CPU can run, fastest first, ending
// with plain Go.
func availableLaneLoops() []laneLoop {
	x := &cpu.X86
	var loops []laneLoop
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI2 && x.HasBMI2 && x.HasPOPCNT {
		loops = append(loops, laneAVX512)
	}
	if x.HasAVX2 && x.HasPOPCNT {
		loops = append(loops, laneAVX2)
	}
	return append(loops, lanePlain)
}

// laneTables are the tables of a laneModel as vectors of 16-bit words. kernelgen
// knows the offsets of the fields.
type laneTables struct {
	// The search for a slot by differences: starts of the groups of 4 symbols
	// after the first, by context; starts of the symbols of a group and its
	// end, by groupIndex.
	groups [7][32]uint16
	bounds [5][32]uint16
	// The search by comparisons, of context 0: starts of the quarters of the
	// alphabet after the first; in a quarter those of its quarters, and in
	// these that of the second half.
	quarter [32]uint16
	split   [3][32]uint16
	half    [32]uint16
	// Frequency and start of the symbols of context 0.
	freq, start [32]uint16
	// The fields of encodeFields, indexed by context*16 + symbol, or context*32
	// + symbol with more than 16 symbols.
	encode [4][128]uint16

	shuffle shuffleTables
}

// shuffleTables are those of the AVX2 kernels, which look up bytes in 16.
// kernelgen knows the offsets of the fields.
type shuffleTables struct {
	// Starts of the groups of 4 symbols after the first less 1: of context 0,
	// repeated, and by context.
	reach   [7][16]uint16
	reachBy [7][8]uint16
	// Starts of the symbols of a group and its end, four groups or eight for
	// each context in turn.
	bounds [5][4 * 8]uint16
	// The bytes of encodeFields, with the index of laneTables.encode.
	encode [8][128]byte
}

func (m *laneModel) buildVector() {
	if laneLoops == laneAVX512 {
		m.vector.build(m)
		return
	}
	m.vector.shuffle.build(m)
	m.buildSlots() // for rounds of fewer lanes than the kernels have
}

func (t *shuffleTables) build(m *laneModel) {
	size := m.vectorAlphabet()
	for c := range laneContexts {
		for group := range size / 4 {
			if group > 0 {
				reach := m.startIn(c, 4*group) - 1
				t.reachBy[group-1][c] = reach
				for i := range t.reach[0] {
					if c == 0 {
						t.reach[group-1][i] = reach
					}
				}
			}
			for i := range t.bounds {
				t.bounds[i][size/4*c+group] = m.startIn(c, 4*group+i)
			}
		}
		for s := range size {
			i := c*laneSymbols + s
			for field, v := range encodeFields(m.freq[i], m.start[i]) {
				t.encode[2*field][size*c+s] = byte(v)
				t.encode[2*field+1][size*c+s] = byte(v >> 8)
			}
		}
	}
}

// vectorAlphabet returns the size of the alphabet in the kernels.
func (m *laneModel) vectorAlphabet() int {
	if m.alphabet > 16 {
		return laneSymbols
	}
	return 16
}

// startIn returns the start of a symbol in a context; behind the last symbol that
// is the end.
func (m *laneModel) startIn(context, symbol int) uint16 {
	if symbol >= laneSymbols {
		return probOne
	}
	return m.start[context*laneSymbols+symbol]
}

func (t *laneTables) build(m *laneModel) {
	size := m.vectorAlphabet()
	for c := range laneContexts {
		start := func(symbol int) uint16 { return m.startIn(c, symbol) }
		for group := range size / 4 {
			if group > 0 {
				t.groups[group-1][c] = start(4 * group)
			}
			at := groupIndex(c, size/4-1-group, size)
			for i := range t.bounds {
				t.bounds[i][at] = start(4*group + i)
			}
		}
		for s := range size {
			i := c*laneSymbols + s
			for field, v := range encodeFields(m.freq[i], m.start[i]) {
				t.encode[field][size*c+s] = v
			}
		}
		if c > 0 {
			continue
		}
		copy(t.freq[:], m.freq[:])
		copy(t.start[:], m.start[:])
		step := size / 16
		for i := range 3 {
			t.quarter[i] = start(4 * step * (i + 1))
			for q := range 4 {
				t.split[i][q] = start(step * (4*q + i + 1))
			}
		}
		for i := range 16 {
			t.half[i] = start(2*i + 1)
		}
	}
}

// groupIndex is where the kernels look up a group of 4 symbols, given how many
// groups come after it and the size of the alphabet.
func groupIndex(context, after, size int) int {
	return context&1 | after<<1 | context>>1<<bits.TrailingZeros(uint(size/2))
}

// encodeFields returns what an encoder kernel needs of a symbol, as the low and
// high words of two dwords: start | inc<<12 | shift<<15 | (4096-freq)<<20, and the
// reciprocal, with
//
//	floor(x/freq) = (x + inc) * reciprocal >> 32+shift  for all x < freq<<20.
//
// With 2^shift < freq <= 2^(shift+1) the reciprocal of 32 bits is either
// 2^(32+shift)/freq rounded up, exact while freq<<20 times its error, freq*
// reciprocal - 2^(32+shift), is at most 2^(32+shift); or rounded down, exact in
// the same range of its error when x+1 is multiplied. The two errors sum to
// freq, so that one is small enough. The reciprocal of 1 has only the second.
func encodeFields(freq, start uint16) [4]uint16 {
	if freq == 0 {
		return [4]uint16{}
	}
	f := uint64(freq)
	shift := uint(max(bits.Len(uint(freq-1)), 1) - 1)
	one := uint64(1) << (32 + shift)
	r, inc := (one+f-1)/f, uint32(0)
	if freq == 1 {
		r, inc = 1<<32-1, 1
	} else if (f<<20)*(r*f-one) > one {
		r, inc = one/f, 1
	}
	d := uint32(start) | inc<<12 | uint32(shift)<<15 | uint32(probOne-freq)<<20
	return [4]uint16{uint16(d), uint16(d >> 16), uint16(r), uint16(r >> 16)}
}

//go:noescape
func laneDecodeavx512(kernel int, states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneEncodeavx512(kernel int, states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneDecodeavx2(kernel int, states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *shuffleTables) (left, used int)

//go:noescape
func laneEncodeavx2(kernel int, states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *shuffleTables) (left, down int)

// startKernels is the number of the first AVX-512 kernel without words. The AVX2
// kernels without words, of 32 lanes, stand where AVX-512 has those of few lanes.
const startKernels = 16

// decodeRounds runs a decoder kernel.
func (m *laneModel) decodeRounds(kernel int, states *uint32, symbols, contexts, words *byte, room, rounds, lanes int) (left, used int) {
	if laneLoops == laneAVX2 {
		return laneDecodeavx2(kernel, states, symbols, contexts, words, room, rounds, lanes, &m.vector.shuffle)
	}
	return laneDecodeavx512(kernel, states, symbols, contexts, words, room, rounds, lanes, &m.vector)
}

// encodeRounds runs an encoder kernel.
func (m *laneModel) encodeRounds(kernel int, states *uint32, symbols, contexts, words *byte, at, rounds, lanes int) (left, down int) {
	if laneLoops == laneAVX2 {
		return laneEncodeavx2(kernel, states, symbols, contexts, words, at, rounds, lanes, &m.vector.shuffle)
	}
	return laneEncodeavx512(kernel, states, symbols, contexts, words, at, rounds, lanes, &m.vector)
}

// kernel returns the number of the kernel for so many lanes: less than a group of
// 32, or whole groups.
func (m *laneModel) kernel(contexts []byte, lanes int) int {
	return 4*m.shape(contexts) + lanes/blockLanes
}

// startKernel returns the number of the kernel without words.
func (m *laneModel) startKernel(contexts []byte) int {
	if laneLoops == laneAVX2 {
		return 4 * m.shape(contexts)
	}
	return startKernels + m.shape(contexts)
}

// shape tells the kernels by contexts and symbols.
func (m *laneModel) shape(contexts []byte) int {
	shape := 0
	if contexts != nil && m.classes > 1 {
		shape = 2
	}
	if m.alphabet > 16 {
		shape++
	}
	return shape
}

// kernelRuns says whether rounds of so many lanes have a kernel, with words or
// without.
func kernelRuns(lanes int, words bool) bool {
	switch laneLoops {
	case laneAVX512:
		return words || lanes <= blockLanes
	case laneAVX2:
		return lanes == blockLanes || words && lanes > blockLanes
	}
	return false
}

// pushVector encodes the symbols from hi-1 down to lo, the first of a round, and
// returns where it stopped: at lo, or at hi where no kernel runs.
func (m *laneModel) pushVector(states []uint32, symbols, contexts []byte, lo, hi int, w *wordStack) int {
	n := len(states)
	if lo >= hi || !kernelRuns(n, true) {
		return hi
	}
	full := hi - (hi-lo)%n
	if laneLoops == laneAVX2 {
		m.pushPlain(states, symbols, contexts, full, hi, w)
		hi = full
	}
	for rest := (hi - full + blockLanes - 1) / blockLanes * blockLanes; rest > 0; {
		rest -= blockLanes
		m.pushKernel(states[rest:], symbols, contexts, full+rest, 1, min(blockLanes, hi-full-rest), w)
	}
	if full > lo {
		m.pushKernel(states, symbols, contexts, lo, (full-lo)/n, n, w)
	}
	return lo
}

// pushKernel encodes rounds of so many lanes, the first symbol being at.
func (m *laneModel) pushKernel(states []uint32, symbols, contexts []byte, at, rounds, lanes int, w *wordStack) {
	var context *byte
	if contexts != nil {
		context = &contexts[at]
	}
	var local [blockLanes]uint32
	first := &local[0]
	if len(states) >= blockLanes {
		first = &states[0]
	} else {
		copy(local[:], states)
	}
	_, w.at = m.encodeRounds(m.kernel(contexts, lanes), first, &symbols[at], context, &w.buf[0], w.at, rounds, lanes)
	if len(states) < blockLanes {
		copy(states, local[:])
	}
}

// pushStartVector encodes whole rounds before the given one, the last ones
// first, until a lane would emit, and returns how many it did; or false where no
// kernel runs.
func (m *laneModel) pushStartVector(states []uint32, symbols, contexts []byte, before int) (done int, ok bool) {
	n := len(states)
	if before == 0 || !kernelRuns(n, false) {
		return 0, false
	}
	var local [blockLanes]uint32
	copy(local[:], states)
	left, _ := m.encodeRounds(m.startKernel(contexts), &local[0], &symbols[0], unsafe.SliceData(contexts), nil, 0, before, n)
	copy(states, local[:])
	return before - left, true
}

// popVector decodes symbols lo..hi-1, the first being that of a round, and
// returns where it stopped: at lo where no kernel runs, before a last round that
// is partial where none has few lanes, otherwise at hi.
func (m *laneModel) popVector(states []uint32, symbols, contexts []byte, lo, hi int, src []byte, renormalise bool) (at, used int, ok bool) {
	n := len(states)
	if lo >= hi || !kernelRuns(n, renormalise) {
		return lo, 0, true
	}
	full := hi - (hi-lo)%n
	if full > lo {
		if used, ok = m.popKernel(states, symbols, contexts, lo, (full-lo)/n, n, src, renormalise); !ok {
			return hi, used, false
		}
	}
	if laneLoops == laneAVX2 {
		return full, used, true
	}
	for at := full; at < hi; at += blockLanes {
		more, ok := m.popKernel(states[at-full:], symbols, contexts, at, 1, min(blockLanes, hi-at), src[used:], renormalise)
		used += more
		if !ok {
			return hi, used, false
		}
	}
	return hi, used, true
}

// popKernel decodes rounds of so many lanes, the first symbol being at. A kernel
// reads 64 bytes for each group of lanes of a round, whatever it takes of them;
// the last of src are therefore read from a copy with zeros behind.
func (m *laneModel) popKernel(states []uint32, symbols, contexts []byte, at, rounds, lanes int, src []byte, renormalise bool) (used int, ok bool) {
	var context *byte
	if contexts != nil {
		context = &contexts[at]
	}
	kernel := m.kernel(contexts, lanes)
	reads := 2 * max(lanes, blockLanes)
	if !renormalise {
		kernel = m.startKernel(contexts)
		src, reads = nil, 0
	}
	var local [blockLanes]uint32
	first := &local[0]
	if len(states) >= blockLanes {
		first = &states[0]
	} else {
		copy(local[:], states)
	}
	left := rounds
	if room := len(src) - reads; room >= 0 {
		left, used = m.decodeRounds(kernel, first, &symbols[at], context, unsafe.SliceData(src), room, rounds, lanes)
	}
	if left > 0 {
		var tail [4 * laneLimit]byte
		room := copy(tail[:reads], src[used:])
		next := at + (rounds-left)*lanes
		if contexts != nil {
			context = &contexts[next]
		}
		var more int
		left, more = m.decodeRounds(kernel, first, &symbols[next], context, &tail[0], room, left, lanes)
		if used += more; left > 0 || more > room {
			return used, false
		}
	}
	if len(states) < blockLanes {
		copy(states, local[:])
	}
	return used, true
}
