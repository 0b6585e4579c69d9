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
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL &&
		cpu.X86.HasAVX512VBMI2 && cpu.X86.HasBMI2 && cpu.X86.HasPOPCNT {
		return []laneLoop{laneAVX512, lanePlain}
	}
	return []laneLoop{lanePlain}
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
}

func (m *laneModel) buildVector() { m.vector.build(m) }

func (t *laneTables) build(m *laneModel) {
	size := 16 // of the alphabet in the kernels
	if m.alphabet > size {
		size = laneSymbols
	}
	for c := range laneContexts {
		start := func(symbol int) uint16 {
			if symbol >= laneSymbols {
				return probOne
			}
			return m.start[c*laneSymbols+symbol]
		}
		for group := range size / 4 {
			if group > 0 {
				t.groups[group-1][c] = start(4 * group)
			}
			at := groupIndex(c, size/4-1-group)
			if size == 16 {
				at |= (c & 1) << 3
			}
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
// groups come after it.
func groupIndex(context, after int) int { return context&1 | after<<1 | context>>1<<4 }

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

type (
	decodeKernel func(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)
	encodeKernel func(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)
)

//go:noescape
func laneDecode32x1x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode64x1x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode96x1x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeFewx1x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeStartFewx1x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode32x1x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode64x1x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode96x1x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeFewx1x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeStartFewx1x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode32x4x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode64x4x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode96x4x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeFewx4x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeStartFewx4x16avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode32x4x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode64x4x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecode96x4x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeFewx4x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneDecodeStartFewx4x32avx512(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)

//go:noescape
func laneEncode32x1x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode64x1x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode96x1x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeFewx1x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeStartFewx1x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode32x1x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode64x1x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode96x1x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeFewx1x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeStartFewx1x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode32x4x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode64x4x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode96x4x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeFewx4x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeStartFewx4x16avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode32x4x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode64x4x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncode96x4x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeFewx4x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

//go:noescape
func laneEncodeStartFewx4x32avx512(states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)

// The kernels by contexts (one, four), symbols (16, 32) and groups of 32 lanes,
// 0 for less than a group.
var (
	decodeKernels = [2][2][4]decodeKernel{
		{
			{laneDecodeFewx1x16avx512, laneDecode32x1x16avx512, laneDecode64x1x16avx512, laneDecode96x1x16avx512},
			{laneDecodeFewx1x32avx512, laneDecode32x1x32avx512, laneDecode64x1x32avx512, laneDecode96x1x32avx512},
		},
		{
			{laneDecodeFewx4x16avx512, laneDecode32x4x16avx512, laneDecode64x4x16avx512, laneDecode96x4x16avx512},
			{laneDecodeFewx4x32avx512, laneDecode32x4x32avx512, laneDecode64x4x32avx512, laneDecode96x4x32avx512},
		},
	}
	encodeKernels = [2][2][4]encodeKernel{
		{
			{laneEncodeFewx1x16avx512, laneEncode32x1x16avx512, laneEncode64x1x16avx512, laneEncode96x1x16avx512},
			{laneEncodeFewx1x32avx512, laneEncode32x1x32avx512, laneEncode64x1x32avx512, laneEncode96x1x32avx512},
		},
		{
			{laneEncodeFewx4x16avx512, laneEncode32x4x16avx512, laneEncode64x4x16avx512, laneEncode96x4x16avx512},
			{laneEncodeFewx4x32avx512, laneEncode32x4x32avx512, laneEncode64x4x32avx512, laneEncode96x4x32avx512},
		},
	}
	decodeStartKernels = [2][2]decodeKernel{
		{laneDecodeStartFewx1x16avx512, laneDecodeStartFewx1x32avx512},
		{laneDecodeStartFewx4x16avx512, laneDecodeStartFewx4x32avx512},
	}
	encodeStartKernels = [2][2]encodeKernel{
		{laneEncodeStartFewx1x16avx512, laneEncodeStartFewx1x32avx512},
		{laneEncodeStartFewx4x16avx512, laneEncodeStartFewx4x32avx512},
	}
)

// shape returns the indices into the tables of kernels.
func (m *laneModel) shape(contexts []byte) (c, s int) {
	if contexts != nil && m.classes > 1 {
		c = 1
	}
	if m.alphabet > 16 {
		s = 1
	}
	return c, s
}

// groupKernel is the index of the kernel of so many lanes: less than a group, or
// whole groups.
func groupKernel(lanes int) int { return lanes / blockLanes }

// pushVector encodes the symbols from hi-1 down to lo, the first of a round, and
// returns where it stopped: at lo, or at hi where no kernel runs.
func (m *laneModel) pushVector(states []uint32, symbols, contexts []byte, lo, hi int, w *wordStack) int {
	if laneLoops != laneAVX512 || lo >= hi {
		return hi
	}
	n := len(states)
	full := hi - (hi-lo)%n
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
	c, s := m.shape(contexts)
	var context *byte
	if c > 0 {
		context = &contexts[at]
	}
	kernel := encodeKernels[c][s][groupKernel(lanes)]
	var local [blockLanes]uint32
	first := &local[0]
	if len(states) >= blockLanes {
		first = &states[0]
	} else {
		copy(local[:], states)
	}
	_, w.at = kernel(first, &symbols[at], context, &w.buf[0], w.at, rounds, lanes, &m.vector)
	if len(states) < blockLanes {
		copy(states, local[:])
	}
}

// pushStartVector encodes whole rounds before the given one, the last ones
// first, until a lane would emit, and returns how many it did.
func (m *laneModel) pushStartVector(states []uint32, symbols, contexts []byte, before int) int {
	n := len(states)
	if laneLoops != laneAVX512 || n > blockLanes || before == 0 {
		return 0
	}
	c, s := m.shape(contexts)
	var context *byte
	if c > 0 {
		context = &contexts[0]
	}
	var local [blockLanes]uint32
	copy(local[:], states)
	left, _ := encodeStartKernels[c][s](&local[0], &symbols[0], context, nil, 0, before, n, &m.vector)
	copy(states, local[:])
	return before - left
}

// popVector decodes symbols lo..hi-1, the first being that of a round, and
// returns where it stopped, which is lo where no kernel runs and hi otherwise.
func (m *laneModel) popVector(states []uint32, symbols, contexts []byte, lo, hi int, src []byte, renormalise bool) (at, used int, ok bool) {
	if laneLoops != laneAVX512 || lo >= hi {
		return lo, 0, true
	}
	n := len(states)
	if !renormalise && n > blockLanes {
		return lo, 0, true
	}
	full := hi - (hi-lo)%n
	if full > lo {
		if used, ok = m.popKernel(states, symbols, contexts, lo, (full-lo)/n, n, src, renormalise); !ok {
			return hi, used, false
		}
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
	c, s := m.shape(contexts)
	var context *byte
	if c > 0 {
		context = &contexts[at]
	}
	kernel := decodeKernels[c][s][groupKernel(lanes)]
	reads := 2 * max(lanes, blockLanes)
	if !renormalise {
		kernel = decodeStartKernels[c][s]
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
		left, used = kernel(first, &symbols[at], context, unsafe.SliceData(src), room, rounds, lanes, &m.vector)
	}
	if left > 0 {
		var tail [4 * laneLimit]byte
		room := copy(tail[:reads], src[used:])
		next := at + (rounds-left)*lanes
		if c > 0 {
			context = &contexts[next]
		}
		var more int
		left, more = kernel(first, &symbols[next], context, &tail[0], room, left, lanes, &m.vector)
		if used += more; left > 0 || more > room {
			return used, false
		}
	}
	if len(states) < blockLanes {
		copy(states, local[:])
	}
	return used, true
}
