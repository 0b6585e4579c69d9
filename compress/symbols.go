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

// build makes the model of symbols with these frequencies, at most 32.
func (s *symbolScratch) build(freq []uint16) {
	clear(s.tables[0][copy(s.tables[0][:], freq):])
	s.model.build(&s.tables, 1)
}

// push appends the states of the lanes, 4 bytes each, and the words, as
// ransEncode does.
func (s *symbolScratch) push(dst, symbols []byte, lanes int) []byte {
	states := s.states[:lanes]
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

// pop fills symbols from src, which must hold exactly the states and words that
// encode them, as ransDecode does.
func (s *symbolScratch) pop(symbols, src []byte, lanes int) error {
	states := s.states[:lanes]
	if err := parseStates(states, src); err != nil {
		return err
	}
	words := src[4*lanes:]
	used, ok := s.model.pop(states, symbols, nil, 0, rounds(len(symbols), lanes), words, true)
	if !ok {
		return fmt.Errorf("%w: words end too early", errRANS)
	}
	return checkEnd(states, len(words)-used)
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
	counts := rowLoops.count(symbols)
	for s, n := range counts[laneSymbols:] {
		if n > 0 {
			panic(fmt.Sprintf("compress: symbol %d, expected 0 to %d", s+laneSymbols, laneSymbols-1))
		}
	}
	s := symbolScratches.Get().(*symbolScratch)
	defer symbolScratches.Put(s)
	s.freq.normalise(&counts)
	s.build(s.freq.freq[:laneSymbols])
	index := symbolLanesFor(len(symbols))
	dst = append(dst, byte(index))
	dst = s.freq.append(dst)
	return s.push(dst, symbols, symbolLanes[index])
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
	src = src[table:]
	if uint64(len(src)-4*lanes) > 2*n {
		return nil, messageError("symbols: %d bytes of words for %d symbols", len(src)-4*lanes, n)
	}
	s.build(s.freq.freq[:laneSymbols])
	dst = resize(dst, int(n))
	if err := s.pop(dst, src, lanes); err != nil {
		return nil, messageError("symbols: %w", err)
	}
	return dst, nil
}
