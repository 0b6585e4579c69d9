package compress

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
)

// The codec "split1": the values of the paper's quantiser, in a message made for
// one token. FORMAT.md is its definition. A message is
//
//	0xA1             codec and version
//	flags            1 byte
//	tables           uint16, little-endian: Tables.ID, when the flags say so
//	rows             uvarint
//	columns          uvarint, when there are no tables
//	length           uvarint: bytes of the body
//	body             side, sparse, codes
//	CRC-32C          uint32, little-endian, over all before it
const (
	split1Magic = 0xA1

	split1TypeMask   = 3 << 0 // valueType of the sparse part
	split1Trained    = 1 << 2 // a tables number follows
	split1CodesShift = 3      // form of the codes
	split1CodesMask  = 3 << split1CodesShift
	split1SparseBits = 5 // form of the sparse part
	split1SparseMask = 3 << split1SparseBits
	split1Centroids  = 1 << 7 // codes stand for the centroids of their bins
)

// Forms of the codes.
const (
	codesNone = iota // no row has codes
	codesPacked
	codesLanes
)

// Forms of the sparse part.
const (
	sparseNone   = iota // no value is above the threshold
	sparseGaps          // per row: count, gaps between columns
	sparseMask          // per row: a bit for each hot channel of the tables, then the others as gaps
	sparseBitmap        // per row: a bit for each column
)

// split1Lanes are the numbers of lanes that a message may have.
var split1Lanes = [...]int{1, 2, 4, 8, 16, 32, 64, 96}

// split1Codec is "split1".
type split1Codec struct {
	reading reading
	tables  *Tables // nil: built in
}

func (c *split1Codec) Name() string { return codecNames[codecSplit1-codecLiteral] }

func (c *split1Codec) Encode(dst []byte, m Matrix) ([]byte, Parts, error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	if err := s.quantised.quantise(m, &c.reading); err != nil {
		return dst, Parts{}, err
	}
	if err := c.checkCols(m.Cols); err != nil {
		return dst, Parts{}, fmt.Errorf("compress: %w", err)
	}
	dst, parts := s.appendSplit1(dst, c.tables, &c.reading)
	return dst, parts, nil
}

func (c *split1Codec) checkCols(cols int) error {
	if c.tables != nil && cols != c.tables.cols {
		return fmt.Errorf("matrix of %d columns, the tables are for %d", cols, c.tables.cols)
	}
	return nil
}

func (c *split1Codec) Decode(dst []float32, msg []byte) (Matrix, error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	return decodeSplit1(dst, msg, c.tables, s, MaxValues)
}

// appendSplit1 appends the message of s.quantised.
func (s *scratch) appendSplit1(dst []byte, t *Tables, r *reading) ([]byte, Parts) {
	q := &s.quantised
	var parts Parts
	var flags byte
	s.body, flags, parts = s.appendBody(s.body[:0], t, r)
	start := len(dst)
	if t != nil {
		flags |= split1Trained
	}
	dst = append(dst, split1Magic, flags)
	if t != nil {
		dst = binary.LittleEndian.AppendUint16(dst, t.id)
	}
	dst = binary.AppendUvarint(dst, uint64(q.Rows))
	if t == nil {
		dst = binary.AppendUvarint(dst, uint64(q.Cols))
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.body)))
	parts.Header = len(dst) - start + crc32.Size
	dst = append(dst, s.body...)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return dst, parts
}

// appendBody appends the three parts of s.quantised and returns the flags that
// describe them.
func (s *scratch) appendBody(dst []byte, t *Tables, r *reading) ([]byte, byte, Parts) {
	q := &s.quantised
	var parts Parts
	if t == nil {
		t = builtinTables()
	}
	s.classes = resize(s.classes, q.Rows)
	expected := uint64(0) // 1/64 bits
	coded := 0            // rows with codes
	start := len(dst)
	for row, b := range q.Q {
		if b == 0 {
			dst = append(dst, 0)
			continue
		}
		sec, _ := t.of(int(b))
		class := sec.tokenClass(statistic(q.sum[row], q.Cols))
		s.classes[row] = uint8(class)
		expected += uint64(q.Cols) * uint64(sec.rate[class])
		coded++
		tag := b | uint8(class)<<3
		if h := toFloat16(q.Scale[row]); !r.scale32 && h >= 0x400 && h < 0x7c00 {
			dst = append(dst, tag)
			dst = binary.LittleEndian.AppendUint16(dst, h)
		} else {
			dst = append(dst, tag|sideFloat32)
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(q.Scale[row]))
		}
	}
	parts.Side = len(dst) - start
	start = len(dst)
	var form byte
	dst, form = s.appendSparse(dst, t)
	flags := byte(q.aboveType) | form<<split1SparseBits
	parts.Sparse = len(dst) - start
	start = len(dst)
	if coded > 0 {
		lanes := r.lanes
		if lanes == 0 {
			lanes = lanesBySize(expected/64, q.Cols)
		}
		packed := 0
		for _, b := range q.Q {
			packed += packedRowBytes(q.Cols, int(b))
		}
		dst = s.appendLanes(dst, t, lanes)
		form = codesLanes
		if len(dst)-start >= packed {
			dst = appendPacked(dst[:start], q)
			form = codesPacked
		}
		flags |= form << split1CodesShift
		if r.centroids && t.cols > 0 {
			flags |= split1Centroids
		}
	}
	parts.Codes = len(dst) - start
	return dst, flags, parts
}

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

// appendSparse appends the values above the threshold in the form that takes the
// fewest bytes: per row where they are, then all values.
func (s *scratch) appendSparse(dst []byte, t *Tables) ([]byte, byte) {
	a, rows, cols := &s.quantised.Above, s.quantised.Rows, s.quantised.Cols
	if len(a.Val) == 0 {
		return dst, sparseNone
	}
	gaps, mask := 0, rows*((len(t.hot)+7)/8)
	for r := range rows {
		at := a.Col[a.RowPtr[r]:a.RowPtr[r+1]]
		gaps += gapsSize(at)
		if len(t.hot) > 0 {
			s.others = t.others(s.others[:0], at)
			mask += gapsSize(s.others)
		}
	}
	form := byte(sparseGaps)
	if len(t.hot) > 0 && mask < gaps {
		form = sparseMask
	}
	if bitmap := rows * ((cols + 7) / 8); bitmap < gaps && (form == sparseGaps || bitmap < mask) {
		form = sparseBitmap
	}
	for r := range rows {
		at := a.Col[a.RowPtr[r]:a.RowPtr[r+1]]
		switch form {
		case sparseGaps:
			dst = appendGaps(dst, at)
		case sparseMask:
			start := len(dst)
			dst = append(dst, make([]byte, (len(t.hot)+7)/8)...)
			for _, j := range at {
				if h := t.hotIndex[j]; h > 0 {
					dst[start+int(h-1)/8] |= 1 << ((h - 1) % 8)
				}
			}
			dst = appendGaps(dst, t.others(s.others[:0], at))
		case sparseBitmap:
			start := len(dst)
			dst = append(dst, make([]byte, (cols+7)/8)...)
			for _, j := range at {
				dst[start+int(j/8)] |= 1 << (j % 8)
			}
		}
	}
	for _, v := range a.Val {
		dst = s.quantised.aboveType.append(dst, v)
	}
	return dst, form
}

// others appends the columns of at that are not hot.
func (t *Tables) others(dst, at []uint32) []uint32 {
	for _, j := range at {
		if t.hotIndex[j] == 0 {
			dst = append(dst, j)
		}
	}
	return dst
}

// isSplit1 says whether b begins like a split1 message.
func isSplit1(b []byte) bool { return len(b) > 0 && b[0] == split1Magic }

// split1Header is the parsed start of a message.
type split1Header struct {
	flags      byte
	trained    bool
	id         uint16
	rows, cols int // cols 0: those of the tables
	size       int // bytes of the header, without the checksum
	body       int // bytes
}

func (h *split1Header) total() int { return h.size + h.body + crc32.Size }

// parseSplit1Header reads the header at the start of b and checks that b holds
// the whole message. It does not look at the checksum.
func parseSplit1Header(b []byte) (h split1Header, err error) {
	if len(b) < 2 || b[0] != split1Magic {
		return h, messageError("%d bytes that do not begin a split1 message", len(b))
	}
	h.flags = b[1]
	if err := checkSplit1Flags(h.flags); err != nil {
		return h, messageError("%w", err)
	}
	h.trained = h.flags&split1Trained != 0
	in := parser{b: b[2:]}
	if h.trained {
		if id := in.take(2); id != nil {
			h.id = binary.LittleEndian.Uint16(id)
		}
	}
	rows, cols := in.uvarint(), uint64(1)
	if !h.trained {
		cols = in.uvarint()
	}
	length := in.uvarint()
	if in.bad {
		return h, messageError("header is cut short or a number is not in its shortest form")
	}
	if err := checkShape(rows, cols); err != nil {
		return h, messageError("%w", err)
	}
	h.size = len(b) - len(in.b)
	if length > uint64(len(in.b)) || uint64(len(in.b))-length < crc32.Size {
		return h, messageError("%d bytes, the header asks for more", len(b))
	}
	h.rows, h.body = int(rows), int(length)
	if !h.trained {
		h.cols = int(cols)
	}
	return h, nil
}

// checkSplit1Flags checks that flags name a value type and a form of the codes.
func checkSplit1Flags(flags byte) error {
	if valueType(flags&split1TypeMask) > typeFloat32 || flags&split1CodesMask>>split1CodesShift > codesLanes {
		return fmt.Errorf("flags %#02x name no form", flags)
	}
	return nil
}

// openSplit1 checks that msg is one whole split1 message, undamaged, and returns
// its header and body.
func openSplit1(msg []byte) (h split1Header, body []byte, err error) {
	if h, err = parseSplit1Header(msg); err != nil {
		return h, nil, err
	}
	if n := h.total(); n != len(msg) {
		return h, nil, messageError("%d bytes after the end of the message", len(msg)-n)
	}
	at := h.size + h.body
	if want, got := binary.LittleEndian.Uint32(msg[at:]), crc32.Checksum(msg[:at], castagnoli); want != got {
		return h, nil, messageError("checksum %08x, expected %08x", got, want)
	}
	return h, msg[h.size:at], nil
}

// tablesOf checks the tables number of a message against the tables at hand and
// returns those that the message was coded with.
func (h *split1Header) tablesOf(t *Tables) (*Tables, error) {
	switch {
	case !h.trained && t == nil:
		return builtinTables(), nil
	case !h.trained:
		return nil, messageError("made with the built-in tables, the receiver has tables %04x", t.id)
	case t == nil:
		return nil, messageError("needs tables %04x, the receiver has none", h.id)
	case h.id != t.id:
		return nil, messageError("needs tables %04x, the receiver has %04x", h.id, t.id)
	}
	h.cols = t.cols
	if err := checkShape(uint64(h.rows), uint64(h.cols)); err != nil {
		return nil, messageError("%w", err)
	}
	return t, nil
}

// decodeSplit1 restores a message of at most limit values. The codes and the
// side information stay in s.
func decodeSplit1(dst []float32, msg []byte, t *Tables, s *scratch, limit int) (Matrix, error) {
	h, body, err := openSplit1(msg)
	if err != nil {
		return Matrix{}, err
	}
	if t, err = h.tablesOf(t); err != nil {
		return Matrix{}, err
	}
	if h.rows*h.cols > limit {
		return Matrix{}, messageError("shape %d x %d, expected at most %d values", h.rows, h.cols, limit)
	}
	b := split1Body{s: s, t: t, flags: h.flags, rows: h.rows, cols: h.cols}
	m, err := b.decode(dst, body)
	if err != nil {
		return Matrix{}, messageError("%w", err)
	}
	return m, nil
}

// split1Body decodes the body of one message.
type split1Body struct {
	s          *scratch
	t          *Tables
	flags      byte
	rows, cols int
}

func (b *split1Body) codesForm() byte  { return b.flags & split1CodesMask >> split1CodesShift }
func (b *split1Body) sparseForm() byte { return b.flags & split1SparseMask >> split1SparseBits }
func (b *split1Body) valueType() valueType {
	return valueType(b.flags & split1TypeMask)
}

// parse reads side and sparse part into b.s and returns the codes.
func (b *split1Body) parse(body []byte) (codes []byte, parts Parts, err error) {
	if err := checkSplit1Flags(b.flags); err != nil {
		return nil, parts, err
	}
	in := parser{b: body}
	if err := b.parseSide(&in); err != nil {
		return nil, parts, err
	}
	parts.Side = len(body) - len(in.b)
	if err := b.parseSparse(&in); err != nil {
		return nil, parts, err
	}
	parts.Sparse = len(body) - len(in.b) - parts.Side
	parts.Codes = len(in.b)
	return in.b, parts, b.checkCodes(in.b)
}

// checkCodes checks the flags about the codes and, as far as it follows from the
// side part, their length. Memory for the values is taken after that.
func (b *split1Body) checkCodes(codes []byte) error {
	form, any, packed, low := b.codesForm(), false, 0, 0
	for _, r := range b.s.side {
		any = any || r.bits > 0
		packed += packedRowBytes(b.cols, r.bits)
		low += lowBitsBytes(b.cols, r.bits)
	}
	switch {
	case any != (form != codesNone), b.flags&split1Centroids != 0 && (!any || b.t.cols == 0):
		return fmt.Errorf("flags %#02x do not fit the rows' bits or the tables", b.flags)
	case form == codesNone && len(codes) > 0:
		return fmt.Errorf("codes without a row that has any")
	case form == codesPacked && len(codes) != packed:
		return fmt.Errorf("codes have %d bytes, expected %d", len(codes), packed)
	case form == codesLanes && len(codes) < low:
		return fmt.Errorf("codes have %d bytes, expected more than the %d of the low bits", len(codes), low)
	}
	return nil
}

// parseSide reads the side part; s.side and s.classes get an entry per row.
func (b *split1Body) parseSide(in *parser) error {
	if b.rows > len(in.b) {
		return fmt.Errorf("side part has at most %d bytes for %d rows", len(in.b), b.rows)
	}
	s := b.s
	s.side, s.classes = resize(s.side, b.rows), resize(s.classes, b.rows)
	for r := range s.side {
		tag := in.byte()
		q := int(tag & 7)
		if q == 0 {
			if tag != 0 || in.bad {
				return fmt.Errorf("side part: row %d has tag %#02x", r, tag)
			}
			s.side[r] = rowSide{}
			continue
		}
		class := int(tag >> 3 & 15)
		if sec, _ := b.t.of(q); class >= sec.tokenClasses() {
			return fmt.Errorf("side part: row %d has token class %d of %d", r, class, sec.tokenClasses())
		}
		var scale float32
		if tag&sideFloat32 != 0 {
			if v := in.take(4); v != nil {
				scale = math.Float32frombits(binary.LittleEndian.Uint32(v))
			}
		} else if v := in.take(2); v != nil {
			scale = fromFloat16(binary.LittleEndian.Uint16(v))
		}
		if in.bad || !(scale > 0 && scale <= math.MaxFloat32) {
			return fmt.Errorf("side part: row %d has scale %v, expected a finite number above 0", r, scale)
		}
		s.side[r], s.classes[r] = rowSide{q, scale}, uint8(class)
	}
	return nil
}

// parseSparse reads the sparse part into s.quantised.Above.
func (b *split1Body) parseSparse(in *parser) error {
	a := &b.s.quantised.Above
	a.reset(b.rows)
	form := b.sparseForm()
	for r := 0; r < b.rows && form != sparseNone; r++ {
		var err error
		switch form {
		case sparseGaps:
			a.Col, err = in.gaps(a.Col, b.cols, b.cols)
		case sparseMask:
			err = b.parseMask(in, a)
		case sparseBitmap:
			a.Col, err = in.bitmap(a.Col, b.cols)
		}
		if err != nil {
			return fmt.Errorf("sparse part: row %d: %w", r, err)
		}
		a.RowPtr = append(a.RowPtr, uint32(len(a.Col)))
	}
	if form == sparseNone {
		for range b.rows {
			a.RowPtr = append(a.RowPtr, 0)
		}
		return nil
	}
	if len(a.Col) == 0 {
		return fmt.Errorf("sparse part holds nothing")
	}
	t := b.valueType()
	values := in.take(len(a.Col) * t.size())
	if in.bad {
		return fmt.Errorf("sparse part: the values of %d columns are cut short", len(a.Col))
	}
	a.Val = resize(a.Val, len(a.Col))
	for i := range a.Val {
		a.Val[i] = t.value(values, i)
	}
	return nil
}

// bitmap reads a bit for each column and appends those set.
func (p *parser) bitmap(dst []uint32, cols int) ([]uint32, error) {
	mask := p.take((cols + 7) / 8)
	if p.bad {
		return dst, fmt.Errorf("a bit for each of %d columns is cut short", cols)
	}
	for i, byte := range mask {
		for ; byte != 0; byte &= byte - 1 {
			j := 8*i + bits.TrailingZeros8(byte)
			if j >= cols {
				return dst, fmt.Errorf("bit %d of %d is set", j, cols)
			}
			dst = append(dst, uint32(j))
		}
	}
	return dst, nil
}

// parseMask reads a row of the form sparseMask: the hot channels set, merged with
// the others in rising order.
func (b *split1Body) parseMask(in *parser, a *CSR) (err error) {
	if len(b.t.hot) == 0 {
		return fmt.Errorf("a mask of hot channels, the tables have none")
	}
	s := b.s
	if s.hot, err = in.bitmap(s.hot[:0], len(b.t.hot)); err != nil {
		return err
	}
	if s.others, err = in.gaps(s.others[:0], b.cols, b.cols); err != nil {
		return err
	}
	hot, others := s.hot, s.others
	for len(hot)+len(others) > 0 {
		if len(others) == 0 || len(hot) > 0 && b.t.hot[hot[0]] < others[0] {
			a.Col = append(a.Col, b.t.hot[hot[0]])
			hot = hot[1:]
			continue
		}
		if b.t.hotIndex[others[0]] > 0 {
			return fmt.Errorf("hot channel %d is not in the mask", others[0])
		}
		a.Col = append(a.Col, others[0])
		others = others[1:]
	}
	return nil
}

// decode restores the matrix of a body. s.quantised holds its codes then.
func (b *split1Body) decode(dst []float32, body []byte) (Matrix, error) {
	codes, _, err := b.parse(body)
	if err != nil {
		return Matrix{}, err
	}
	s := b.s
	m := Matrix{Rows: b.rows, Cols: b.cols, Data: resize(dst, b.rows*b.cols)}
	if s.keepCodes {
		q := &s.quantised
		q.Rows, q.Cols = b.rows, b.cols
		q.Q, q.Codes = resize(q.Q, b.rows), resize(q.Codes, b.rows*b.cols)
		for r, side := range s.side {
			q.Q[r] = uint8(side.bits)
		}
	}
	switch b.codesForm() {
	case codesNone:
		clear(m.Data)
	case codesPacked:
		err = b.decodePackedCodes(m, codes)
	case codesLanes:
		err = b.decodeLanes(m, codes)
	}
	if err != nil {
		return Matrix{}, err
	}
	a := &s.quantised.Above
	for r := range b.rows {
		row := m.Row(r)
		for i := a.RowPtr[r]; i < a.RowPtr[r+1]; i++ {
			if j := a.Col[i]; row[j] != 0 {
				return Matrix{}, fmt.Errorf("row %d, column %d has both a code and a value above the threshold", r, j)
			} else {
				row[j] = a.Val[i]
			}
		}
	}
	return m, nil
}

// decodePackedCodes restores codes of fixed width, of the length that checkCodes
// asks for.
func (b *split1Body) decodePackedCodes(m Matrix, codes []byte) error {
	s := b.s
	s.codes = resize(s.codes, b.cols)
	for r, side := range s.side {
		if side.bits == 0 {
			clear(m.Row(r))
			continue
		}
		size := packedRowBytes(b.cols, side.bits)
		in := bitReader{b: codes[:size]}
		codes = codes[size:]
		offset := int32(1)<<side.bits - 1
		for j := range s.codes {
			c := int32(in.read(uint(side.bits)+1)) - offset
			if c > offset {
				return fmt.Errorf("row %d, column %d: code %d does not fit Q %d", r, j, c, side.bits)
			}
			s.codes[j] = int16(c)
		}
		if !in.restIsZero() {
			return fmt.Errorf("row %d: padding bits are not zero", r)
		}
		b.restoreRow(m.Row(r), r)
	}
	return nil
}

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

// restoreRow writes the values of the codes in s.codes (Eq. 7).
func (b *split1Body) restoreRow(row []float32, r int) {
	side := b.s.side[r]
	if b.s.keepCodes {
		copy(b.s.quantised.Codes[r*b.cols:], b.s.codes)
	}
	if b.flags&split1Centroids != 0 {
		if sec, _ := b.t.of(side.bits); sec.centroids != nil {
			restoreCentroids(row, b.s.codes, side.scale, &sec.centroids[b.s.classes[r]])
			return
		}
	}
	rowLoops.restore(row, b.s.codes, side.scale)
}

// restoreCentroids writes sign(code) * (|code| + centroid/256) * scale. A
// magnitude other than 0 stays a finite number above 0.
func restoreCentroids(row []float32, codes []int16, scale float32, centroids *[1 << 4]int8) {
	var values [1 << 5]float32 // by code + 16
	for k := 1; k < len(centroids); k++ {
		v := float32(int32(k)*256+int32(centroids[k])) / 256 * scale
		v = min(max(v, math.SmallestNonzeroFloat32), math.MaxFloat32)
		values[1<<4+k], values[1<<4-k] = v, -v
	}
	for j, c := range codes {
		row[j] = values[(c+1<<4)&31]
	}
}

// inspectSplit1 describes a message; what depends on trained tables is left out
// when t is nil.
func inspectSplit1(msg []byte, t *Tables) (Info, error) {
	h, body, err := openSplit1(msg)
	if err != nil {
		return Info{}, err
	}
	info := Info{
		Codec: codecNames[codecSplit1-codecLiteral], Version: 1, Rows: h.rows, Cols: h.cols, Bytes: len(msg),
		ValueType: valueType(h.flags & split1TypeMask).String(),
	}
	header := len(msg) - len(body)
	if h.trained {
		info.Tables = fmt.Sprintf("%04x", h.id)
		info.Parts = Parts{Header: header, Codes: len(body)}
	}
	if h.trained && t == nil {
		return info, nil
	}
	if t, err = h.tablesOf(t); err != nil {
		return Info{}, err
	}
	info.Cols = h.cols
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	b := split1Body{s: s, t: t, flags: h.flags, rows: h.rows, cols: h.cols}
	if _, info.Parts, err = b.parse(body); err != nil {
		return Info{}, messageError("%w", err)
	}
	info.Parts.Header = header
	info.QRows = make([]int, largestBits+1)
	for _, r := range s.side {
		info.QRows[r.bits]++
	}
	info.Above = len(s.quantised.Above.Col)
	return info, nil
}
