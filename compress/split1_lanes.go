package compress

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// lanesBySize returns how many lanes code a message that is expected to take the
// given bits: every lane costs about 4 bits, which shall stay near one percent.
// More lanes than 32 only where rows fill them.
func lanesBySize(expected uint64, cols int) int {
	switch {
	case expected >= 1<<16 && cols%96 == 0 && cols >= 8*96:
		return 96
	case expected >= 1<<15 && cols%64 == 0 && cols >= 8*64:
		return 64
	}
	n := 1
	for n < 32 && 2*n <= cols && uint64(2*n)*256 <= expected {
		n *= 2
	}
	return n
}

// The lane coder would lose two bytes in every lane if all lanes began in the
// lowest state. So the last codes of the last row begin the states instead
// ("start rounds"): from state 0, without giving words away, as many rounds as
// every lane can take. And as a state gains nothing before it has some ten bits,
// an eighth of the lanes begins, and each state is then cut in two until there are
// as many as wanted.
const (
	startShare  = 8  // lanes at the end for one at the beginning
	startRounds = 15 // limit of the rounds after a cut
	cutBits     = 12 // a state is cut into its low bits and the rest
)

// startLanes returns how many lanes begin, for the number at the end.
func startLanes(lanes int) int {
	if lanes > 64 {
		return lanes // a long message: the loss does not matter
	}
	return max(1, lanes/startShare)
}

// start is the beginning of a lane-coded message: the rounds with each number of
// lanes, startLanes first.
type start struct {
	rounds [4]int
	steps  int // of rounds
	used   int // symbols
}

// push codes the end of a row as start rounds, the last step of at most the
// given rounds, and leaves the states ready for the other rounds. It reports
// false when a state came out too large for that.
func (s *start) push(m *laneModel, states []uint32, symbols, class []byte, limit int) bool {
	*s = start{}
	clear(states)
	end := len(symbols)
	for n := startLanes(len(states)); ; n *= 2 {
		most := end / n
		if s.steps > 0 {
			most = min(most, startRounds)
		}
		if n == len(states) {
			most = min(most, limit)
		}
		from := end - most*n
		k := m.pushStart(states[:n], symbols[from:end], sub(class, from, end))
		s.rounds[s.steps] = k
		s.steps++
		end -= k * n
		if n == len(states) {
			break
		}
		for i := range n {
			states[n+i] = states[i] >> cutBits
			states[i] &= 1<<cutBits - 1
		}
	}
	s.used = len(symbols) - end
	for k := range states {
		if states[k] > math.MaxUint32-stateLow {
			return false
		}
		states[k] += stateLow
	}
	return true
}

// pop is the inverse of push, once the other rounds are decoded.
func (s *start) pop(m *laneModel, states []uint32, symbols, class []byte) error {
	for k, x := range states {
		if x < stateLow {
			return fmt.Errorf("%w: lane %d is in state %d, expected at least %d", errRANS, k, x, stateLow)
		}
		states[k] = x - stateLow
	}
	at := len(symbols) - s.used
	for n := len(states); ; n /= 2 {
		s.steps--
		end := at + s.rounds[s.steps]*n
		m.pop(states[:n], symbols[at:end], sub(class, at, end), 0, s.rounds[s.steps], nil, false)
		at = end
		if s.steps == 0 {
			break
		}
		for i := range n / 2 {
			lo, hi := states[i], states[n/2+i]
			if lo >= 1<<cutBits || hi >= 1<<(32-cutBits) {
				return fmt.Errorf("%w: lanes %d and %d of %d do not join", errRANS, i, n/2+i, n)
			}
			states[i] = hi<<cutBits | lo
		}
	}
	for k, x := range states[:startLanes(len(states))] {
		if x != 0 {
			return fmt.Errorf("%w: lane %d ends in state %d, expected 0", errRANS, k, x)
		}
	}
	return nil
}

// sub returns class[from:to], nil when class is.
func sub(class []byte, from, to int) []byte {
	if class == nil {
		return nil
	}
	return class[from:to]
}

// appendLanes appends the codes in the form codesLanes: the number of lanes, the
// start rounds, the states, the words, the low bits.
func (s *scratch) appendLanes(dst []byte, t *Tables, lanes int) []byte {
	q := &s.quantised
	s.symbols = resize(s.symbols, q.Cols)
	s.stack.reset(q.Rows * q.Cols)
	var memory [laneLimit]uint32
	states := memory[:lanes]
	row := q.Rows - 1
	for q.Q[row] == 0 {
		row--
	}
	m, symbols, class := s.rowSymbols(t, row)
	var begin start
	for limit := len(symbols); !begin.push(m, states, symbols, class, limit); {
		limit = begin.rounds[begin.steps-1] - 1
	}
	left := len(symbols) - begin.used
	m.pushRounds(states, symbols[:left], sub(class, 0, left), 0, rounds(left, lanes), &s.stack)
	for row--; row >= 0; row-- {
		if q.Q[row] > 0 {
			m, symbols, class := s.rowSymbols(t, row)
			m.push(states, symbols, class, &s.stack)
		}
	}

	for i, n := range split1Lanes {
		if n == lanes {
			dst = append(dst, byte(i))
		}
	}
	dst = binary.AppendUvarint(dst, uint64(begin.rounds[0]))
	var w bitWriter
	for _, n := range begin.rounds[1:begin.steps] {
		dst = w.write(dst, uint32(n), 4)
	}
	for _, x := range states {
		e := uint(bits.Len32(x) - 1)
		dst = w.write(dst, uint32(e-16), 4)
		dst = w.write(dst, x&(1<<e-1), e)
	}
	dst = w.flush(dst)
	dst = append(dst, s.stack.words()...)
	for r, b := range q.Q {
		if n := rawBits(int(b)); n > 0 {
			dst = appendLowBits(dst, q.Codes[r*q.Cols:(r+1)*q.Cols], n)
		}
	}
	return dst
}

// rowSymbols makes the symbols of a row with codes and returns them with the
// model and the channel classes for them.
func (s *scratch) rowSymbols(t *Tables, row int) (m *laneModel, symbols, class []byte) {
	q := &s.quantised
	b := int(q.Q[row])
	sec, class := t.of(b)
	codesToSymbols(s.symbols, q.Codes[row*q.Cols:(row+1)*q.Cols], b)
	return sec.model(int(s.classes[row])), s.symbols, class
}

// codesToSymbols writes (code + 2^q) / 2^rawBits.
func codesToSymbols(dst []byte, codes []int16, q int) {
	offset, shift := int16(1)<<q, uint(rawBits(q))
	dst = dst[:len(codes)]
	if shift == 0 {
		rowLoops.symbols(dst, codes, int32(offset))
		return
	}
	for j, c := range codes {
		dst[j] = byte((c + offset) >> shift)
	}
}

// appendLowBits appends the n lowest bits of the codes of a row.
func appendLowBits(dst []byte, codes []int16, n int) []byte {
	var w bitWriter
	mask := int16(1)<<n - 1
	for _, c := range codes {
		dst = w.write(dst, uint32(c&mask), uint(n))
	}
	return w.flush(dst)
}

func lowBitsBytes(cols, q int) int { return (cols*rawBits(q) + 7) / 8 }

// decodeLanes restores codes from the lane coder.
func (b *split1Body) decodeLanes(m Matrix, codes []byte) error {
	s := b.s
	coded, low := 0, 0
	for _, r := range s.side {
		if r.bits > 0 {
			coded++
			low += lowBitsBytes(b.cols, r.bits)
		}
	}
	in := parser{b: codes}
	which := in.byte()
	first := in.uvarint()
	if in.bad || int(which) >= len(split1Lanes) || first > uint64(b.cols) {
		return fmt.Errorf("codes do not begin with a number of lanes and of start rounds")
	}
	lanes := split1Lanes[which]
	var memory [laneLimit]uint32
	states := memory[:lanes]
	var begin start
	if err := in.start(&begin, int(first), states); err != nil {
		return err
	}
	if begin.used > b.cols {
		return fmt.Errorf("start rounds of %d codes in rows of %d", begin.used, b.cols)
	}
	if len(in.b) < low || (len(in.b)-low)%2 != 0 {
		return fmt.Errorf("%w: %d bytes of words and low bits, expected %d and an even number", errRANS, len(in.b), low)
	}
	words, rest := in.b[:len(in.b)-low], in.b[len(in.b)-low:]
	s.symbols, s.codes = resize(s.symbols, b.cols), resize(s.codes, b.cols)
	for r, side := range s.side {
		if side.bits == 0 {
			clear(m.Row(r))
			continue
		}
		sec, class := b.t.of(side.bits)
		model := sec.model(int(s.classes[r]))
		coded--
		n := b.cols
		if coded == 0 {
			n -= begin.used
		}
		used, ok := model.pop(states, s.symbols[:n], sub(class, 0, n), 0, rounds(n, lanes), words, true)
		if !ok {
			return fmt.Errorf("%w: words end in row %d", errRANS, r)
		}
		words = words[used:]
		if coded == 0 {
			if len(words) > 0 {
				return fmt.Errorf("%w: %d bytes left over", errRANS, len(words))
			}
			if err := begin.pop(model, states, s.symbols, class); err != nil {
				return err
			}
		}
		if b.plainRow(r) {
			if rowLoops.restoreSymbols(m.Row(r), s.symbols, 1<<side.bits, side.scale) >= 1<<side.bits {
				return fmt.Errorf("row %d: a code does not fit Q %d", r, side.bits)
			}
			continue
		}
		size := lowBitsBytes(b.cols, side.bits)
		if c, ok := symbolsToCodes(s.codes, s.symbols, rest[:size], side.bits, rawBits(side.bits)); !ok {
			return fmt.Errorf("row %d, column %d: code does not fit Q %d, or padding is not zero", r, c, side.bits)
		}
		rest = rest[size:]
		b.restoreRow(m.Row(r), r)
	}
	return nil
}

// plainRow says whether a row's values follow from its symbols alone and its
// codes are not asked for.
func (b *split1Body) plainRow(r int) bool {
	return b.flags&split1Centroids == 0 && !b.s.keepCodes && rawBits(b.s.side[r].bits) == 0
}

// start reads the rounds and states as appendLanes wrote them; first is the
// number of rounds of the first step.
func (p *parser) start(s *start, first int, states []uint32) error {
	in := bitCursor{b: p.b}
	s.rounds[0], s.steps = first, 1
	n := startLanes(len(states))
	s.used = first * n
	for n *= 2; n <= len(states); n *= 2 {
		s.rounds[s.steps] = int(in.read(4))
		s.used += s.rounds[s.steps] * n
		s.steps++
	}
	for k := range states {
		e := in.read(4) + 16
		states[k] = 1<<e | in.read(uint(e))
	}
	size, ok := in.done()
	if !ok {
		return fmt.Errorf("the states of %d lanes are cut short, or their padding is not zero", len(states))
	}
	p.take(size)
	return nil
}

// bitCursor reads numbers of few bits from bytes that may end too early.
type bitCursor struct {
	b  []byte
	at uint // bits read
}

// read returns the next n <= 32 bits, zeros behind the end.
func (c *bitCursor) read(n uint) uint32 {
	var v uint64
	i := c.at / 8
	if i+8 <= uint(len(c.b)) {
		v = binary.LittleEndian.Uint64(c.b[i:])
	} else {
		for k := uint(0); i+k < uint(len(c.b)) && k < 8; k++ {
			v |= uint64(c.b[i+k]) << (8 * k)
		}
	}
	v >>= c.at % 8
	c.at += n
	return uint32(v & (1<<n - 1))
}

// done returns the bytes that were read from, and whether they were there and
// padded with zeros.
func (c *bitCursor) done() (bytes int, ok bool) {
	n := (c.at + 7) / 8
	if n > uint(len(c.b)) {
		return 0, false
	}
	return int(n), c.at%8 == 0 || c.b[n-1]>>(c.at%8) == 0
}

// symbolsToCodes is the inverse of codesToSymbols and appendLowBits. If a code
// needs more than q bits it returns its column and false.
func symbolsToCodes(dst []int16, symbols, low []byte, q, n int) (col int, ok bool) {
	offset := int16(1) << q
	dst = dst[:len(symbols)]
	if n == 0 {
		worst := int16(0)
		for j, sym := range symbols {
			c := int16(sym) - offset
			dst[j] = c
			worst = max(worst, c, -c)
		}
		if worst < offset {
			return 0, true
		}
	} else {
		in := bitReader{b: low}
		for j, sym := range symbols {
			dst[j] = int16(sym)<<n + int16(in.read(uint(n))) - offset
		}
		if !in.restIsZero() {
			return len(symbols), false
		}
	}
	for j, c := range dst {
		if c >= offset || -c >= offset {
			return j, false
		}
	}
	return 0, true
}
