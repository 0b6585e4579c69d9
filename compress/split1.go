package compress

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
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
	b.s.codes = resize(b.s.codes, b.cols)
	return unpackRows(m, codes, b.s.side, b.s.codes, func(r int, _ []int16) { b.restoreRow(m.Row(r), r) })
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
