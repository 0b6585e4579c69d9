package compress

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
)

// symbolLanes are the numbers of lanes that a stream of symbols may have; the
// stream names one by its index.
var symbolLanes = [...]int{1, 2, 4, 8, 16, 32, 64, 96}

// symbolLanesFor returns the index of the number of lanes of n symbols: few in
// short streams, where the states would outweigh the words, and more than 32 in
// long ones, where several vectors of states hide each other's waits.
func symbolLanesFor(n int) int {
	switch {
	case n >= 1<<16:
		return len(symbolLanes) - 1
	case n >= 1<<14:
		return len(symbolLanes) - 2
	}
	return bits.TrailingZeros(uint(lanesFor(n)))
}

// symbolScratch is the memory of one call.
type symbolScratch struct {
	freq   frequencies
	tables [laneContexts][laneSymbols]uint16
	model  laneModel
	words  wordStack
	states [laneLimit]uint32
}

var symbolScratches = sync.Pool{New: func() any { return new(symbolScratch) }}

func (s *symbolScratch) build() {
	copy(s.tables[0][:], s.freq.freq[:])
	s.model.build(&s.tables, 1)
}

// AppendSymbols appends a stream that holds symbols, each below 32, coded by
// rANS under their own frequencies, and returns the extended slice. It panics on
// a symbol of 32 or more. The same symbols give the same bytes. It may be called
// concurrently.
//
// The stream is: the number of symbols (unsigned varint); if there are any, one
// byte, the index of the number of lanes in 1, 2, 4, 8, 16, 32, 64, 96; the first
// and last symbol that occur, one byte each; unless they are the same, 12 bits for
// each symbol from one to the other, its frequency of 4096, least significant bits
// first; the states of the lanes, four bytes each; the words, two bytes each.
// Numbers are little-endian.
func AppendSymbols(dst, symbols []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(symbols)))
	if len(symbols) == 0 {
		return dst
	}
	counts := countBytes(symbols)
	for s, n := range counts[laneSymbols:] {
		if n > 0 {
			panic(fmt.Sprintf("compress: symbol %d, expected 0 to %d", s+laneSymbols, laneSymbols-1))
		}
	}
	s := symbolScratches.Get().(*symbolScratch)
	defer symbolScratches.Put(s)
	s.freq.normalise(&counts)
	s.build()
	index := symbolLanesFor(len(symbols))
	dst = append(dst, byte(index))
	dst = s.freq.append(dst)
	states := s.states[:symbolLanes[index]]
	for k := range states {
		states[k] = stateLow
	}
	s.words.reset(len(symbols))
	s.model.push(states, symbols, nil, &s.words)
	for _, x := range states {
		dst = binary.LittleEndian.AppendUint32(dst, x)
	}
	return append(dst, s.words.words()...)
}

// DecodeSymbols restores the symbols of one whole stream of [AppendSymbols], in
// dst's memory when its capacity suffices, at most [MaxValues]. Errors wrap
// [ErrMessage]; the contents of dst are then unspecified. It may be called
// concurrently.
func DecodeSymbols(dst, src []byte) ([]byte, error) { return decodeSymbols(dst, src, MaxValues) }

func decodeSymbols(dst, src []byte, limit uint64) ([]byte, error) {
	n, size := binary.Uvarint(src)
	if size <= 0 || size > 1 && src[size-1] == 0 {
		return nil, messageError("symbols: stream does not start with a number of symbols")
	}
	if n > limit {
		return nil, messageError("symbols: %d symbols, expected at most %d", n, limit)
	}
	src = src[size:]
	if n == 0 {
		if len(src) > 0 {
			return nil, messageError("symbols: %d bytes after the end", len(src))
		}
		return dst[:0], nil
	}
	if len(src) < 3 || int(src[0]) >= len(symbolLanes) || src[1] > src[2] || src[2] >= laneSymbols {
		return nil, messageError("symbols: expected an index of lanes below %d and first and last symbol up to %d", len(symbolLanes), laneSymbols-1)
	}
	lanes := symbolLanes[src[0]]
	table := 2
	if src[1] < src[2] {
		table += (int(src[2]-src[1]+1)*probBits + 7) / 8
	}
	src = src[1:]
	if len(src) < table+4*lanes {
		return nil, messageError("symbols: %d bytes for frequencies and states, expected at least %d", len(src), table+4*lanes)
	}
	s := symbolScratches.Get().(*symbolScratch)
	defer symbolScratches.Put(s)
	if err := s.freq.parse(src[:table]); err != nil {
		return nil, messageError("symbols: %w", err)
	}
	states, words := src[table:table+4*lanes], src[table+4*lanes:]
	if uint64(len(words)) > 2*n {
		return nil, messageError("symbols: %d bytes of words for %d symbols", len(words), n)
	}
	s.build()
	local := s.states[:lanes]
	for k := range local {
		local[k] = binary.LittleEndian.Uint32(states[4*k:])
		if local[k] < stateLow {
			return nil, messageError("symbols: state %d of lane %d is below %d", local[k], k, stateLow)
		}
	}
	dst = resize(dst, int(n))
	used, ok := s.model.pop(local, dst, nil, 0, rounds(len(dst), lanes), words, true)
	if err := checkEnd(local, len(words)-used, ok); err != nil {
		return nil, messageError("symbols: %w", err)
	}
	return dst, nil
}

// checkEnd returns nil if decoding ended where encoding began, with no words left.
func checkEnd(states []uint32, left int, ok bool) error {
	switch {
	case !ok:
		return fmt.Errorf("%w: words end too early", errRANS)
	case left != 0:
		return fmt.Errorf("%w: %d bytes left over", errRANS, left)
	}
	for k, x := range states {
		if x != stateLow {
			return fmt.Errorf("%w: lane %d ends in state %d, expected %d", errRANS, k, x, stateLow)
		}
	}
	return nil
}
