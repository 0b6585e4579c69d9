package compress

import (
	"errors"
	"fmt"
	"math/bits"
)

// symbolZero is the byte that stands for code 0: bytes are code + symbolZero.
const symbolZero = 128

// The tables part of a literal message is one byte, the logarithm of the number
// of lanes, and the frequencies, one set for all rows. The codes part is the
// rANS stream of the codes of all rows with Q > 0, in order. Both are empty when
// there is no such row.

// lanesFor returns how many lanes code n symbols: 32 from 4096 symbols on, as
// one warp has, fewer in shorter messages, where the states would outweigh the
// codes.
func lanesFor(n int) int { return 1 << min(max(bits.Len(uint(n))-8, 0), 5) }

// gather writes code + zero of the codes of all rows with Q > 0 to s.symbols and
// returns how many there are.
func (s *scratch) gather(zero int32) (n int) {
	q := &s.quantised
	s.symbols = resize(s.symbols, len(q.Codes))
	for r, b := range q.Q {
		if b > 0 {
			rowLoops.symbols(s.symbols[n:n+q.Cols], q.Codes[r*q.Cols:(r+1)*q.Cols], zero)
			n += q.Cols
		}
	}
	return n
}

// appendLiteral appends the tables and codes parts of s.quantised and sets
// their lengths.
func (s *scratch) appendLiteral(dst []byte, parts *Parts) []byte {
	n := s.gather(symbolZero)
	if n == 0 {
		return dst
	}
	start := len(dst)
	lanes := lanesFor(n)
	counts := countBytes(s.symbols[:n])
	s.freq.normalise(&counts)
	dst = append(dst, byte(bits.TrailingZeros(uint(lanes))))
	dst = s.freq.append(dst)
	parts.Tables = len(dst) - start
	start = len(dst)
	if lo, hi := s.freq.bounds(); asLanes(lo, hi) {
		l := symbolScratches.Get().(*symbolScratch)
		defer symbolScratches.Put(l)
		l.build(s.freq.freq[lo : hi+1])
		s.gather(symbolZero - int32(lo))
		dst = l.push(dst, s.symbols[:n], lanes)
	} else {
		s.enc.build(&s.freq)
		dst, s.words = ransEncode(dst, s.symbols[:n], &s.enc, lanes, s.words)
	}
	parts.Codes = len(dst) - start
	return dst
}

// asLanes reports whether the lane coder, which gives the same bytes for an
// alphabet that is small enough, is the faster one.
func asLanes(lo, hi int) bool { return hi-lo < laneSymbols && laneLoops != lanePlain }

// decodeLiteral restores the values below the threshold into dst's memory.
func (o *opened) decodeLiteral(dst []float32, s *scratch, side []rowSide) ([]float32, error) {
	n, zero := 0, int32(symbolZero)
	for _, r := range side {
		if r.bits > 0 {
			n += o.cols
		}
	}
	if n == 0 {
		if len(o.tables) != 0 || len(o.codes) != 0 {
			return nil, errors.New("tables or codes without a row that has codes")
		}
	} else {
		if len(o.tables) == 0 || o.tables[0] > 5 {
			return nil, errors.New("tables do not start with a number of lanes up to 32")
		}
		lanes := 1 << o.tables[0]
		if err := s.freq.parse(o.tables[1:]); err != nil {
			return nil, err
		}
		if len(o.codes) < 4*lanes || (len(o.codes)-4*lanes)/2 > n {
			return nil, fmt.Errorf("%w: %d bytes for %d symbols", errRANS, len(o.codes), n)
		}
		s.symbols = resize(s.symbols, n)
		if lo, hi := s.freq.bounds(); asLanes(lo, hi) {
			l := symbolScratches.Get().(*symbolScratch)
			defer symbolScratches.Put(l)
			l.build(s.freq.freq[lo : hi+1])
			if err := l.pop(s.symbols, o.codes, lanes); err != nil {
				return nil, err
			}
			zero -= int32(lo)
		} else {
			s.dec.build(&s.freq)
			if err := ransDecode(s.symbols, o.codes, &s.dec, lanes); err != nil {
				return nil, err
			}
		}
	}
	dst = resize(dst, o.rows*o.cols)
	syms := s.symbols[:n]
	for r, sd := range side {
		row := dst[r*o.cols : (r+1)*o.cols]
		if sd.bits == 0 {
			clear(row)
			continue
		}
		if c, ok := dequantise(row, syms[:o.cols], zero, sd); !ok {
			return nil, fmt.Errorf("row %d, column %d: code %d does not fit Q %d", r, c, int32(syms[c])-zero, sd.bits)
		}
		syms = syms[o.cols:]
	}
	return dst, nil
}

// dequantise writes the values of the codes, symbol - zero, (Eq. 7). If one needs
// more than the row's Q bits it returns its column and false.
func dequantise(row []float32, syms []byte, zero int32, sd rowSide) (col int, ok bool) {
	limit := uint32(1)<<sd.bits - 1
	if rowLoops.restoreSymbols(row, syms, zero, sd.scale) <= limit {
		return 0, true
	}
	for col = range syms {
		if c := int32(syms[col]) - zero; uint32(max(c, -c)) > limit {
			break
		}
	}
	return col, false
}
