package compress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrMessage is wrapped by every error about bytes that are not a message of
// this package: cut short, damaged, of another version, or inconsistent.
var ErrMessage = errors.New("compress: bad message")

func messageError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMessage, fmt.Errorf(format, args...))
}

// A message is a header and four parts without gaps:
//
//	"SBM"            3 bytes
//	version          1 byte
//	codec            1 byte
//	flags            uint16, little-endian
//	CRC-32C          uint32, little-endian, over all other bytes of the message
//	rows, columns    uvarint each
//	tables, codes, side, sparse: lengths in bytes, uvarint each
//	the parts, in this order
//
// Uvarints take the least bytes that hold them. The length of a message is that
// of its header and the four lengths.
const (
	magic   = "SBM"
	version = 1

	crcAt     = 7
	fixedSize = crcAt + 4
)

// Flags of a message.
const (
	flagTypeMask   = 3 << 0 // valueType of the sparse part, or of all values in raw16
	flagTorch      = 1 << 2
	flagScale32    = 1 << 3
	flagPerTensor  = 1 << 4
	flagBitsShift  = 8 // max_activation_bits in four bits; 0 in raw16
	flagBitsMask   = 15 << flagBitsShift
	flagsQuantised = flagTypeMask | flagTorch | flagScale32 | flagPerTensor | flagBitsMask
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Parts are the bytes of each part of one message, or of several added up. They
// sum to the length of the message.
type Parts struct {
	Header int `json:"header"` // bytes of the header, checksum included
	Tables int `json:"tables"` // bytes of the entropy coder's model
	Codes  int `json:"codes"`  // bytes of the codes
	Side   int `json:"side"`   // bytes of Q and scale of every row
	Sparse int `json:"sparse"` // bytes of the values above the threshold and their indices
}

// Total returns the sum of the parts in bytes.
func (p Parts) Total() int { return p.Header + p.Tables + p.Codes + p.Side + p.Sparse }

// Add adds the bytes of q to p.
func (p *Parts) Add(q Parts) {
	p.Header += q.Header
	p.Tables += q.Tables
	p.Codes += q.Codes
	p.Side += q.Side
	p.Sparse += q.Sparse
}

// header is the parsed start of a message.
type header struct {
	codec      uint8
	flags      uint16
	rows, cols int
	parts      Parts
}

func (h *header) maxActivationBits() int { return int(h.flags & flagBitsMask >> flagBitsShift) }
func (h *header) valueType() valueType   { return valueType(h.flags & flagTypeMask) }
func (h *header) scale32() bool          { return h.flags&flagScale32 != 0 }
func (h *header) perTensor() bool        { return h.flags&flagPerTensor != 0 }
func (h *header) csrForm() csrForm {
	return newCSRForm(h.flags&flagTorch != 0, h.cols, h.valueType())
}

// appendMessage appends the message of header h around body, which holds the
// parts in order, and returns the parts with the header's own length.
func appendMessage(dst []byte, h *header, body []byte) ([]byte, Parts) {
	start := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, version, h.codec)
	dst = binary.LittleEndian.AppendUint16(dst, h.flags)
	dst = append(dst, 0, 0, 0, 0)
	for _, n := range [...]int{h.rows, h.cols, h.parts.Tables, h.parts.Codes, h.parts.Side, h.parts.Sparse} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	parts := h.parts
	parts.Header = len(dst) - start
	dst = append(dst, body...)
	msg := dst[start:]
	binary.LittleEndian.PutUint32(msg[crcAt:], checksum(msg))
	return dst, parts
}

// checksum returns the CRC-32C of a message without its checksum field.
func checksum(msg []byte) uint32 {
	return crc32.Update(crc32.Checksum(msg[:crcAt], castagnoli), castagnoli, msg[fixedSize:])
}

// parseHeader reads the header at the start of b and checks that b is long
// enough for the message. It does not look at the checksum.
func parseHeader(b []byte) (h header, err error) {
	if len(b) < fixedSize {
		return h, messageError("%d bytes, expected a header of at least %d", len(b), fixedSize+6)
	}
	if string(b[:len(magic)]) != magic {
		return h, messageError("starts with %q, expected %q", b[:len(magic)], magic)
	}
	if b[3] != version {
		return h, messageError("version %d, expected %d", b[3], version)
	}
	h.codec = b[4]
	h.flags = binary.LittleEndian.Uint16(b[5:])
	if h.codec < codecLiteral || h.codec > codecRaw16 {
		return h, messageError("codec number %d, expected %d to %d", h.codec, codecLiteral, codecRaw16)
	}
	if err := h.checkFlags(); err != nil {
		return h, err
	}
	var n [6]uint64
	at := fixedSize
	for i := range n {
		v, size := binary.Uvarint(b[at:])
		if size <= 0 || size > 1 && b[at+size-1] == 0 {
			return h, messageError("length %d of the header is cut short or not in its shortest form", i)
		}
		n[i], at = v, at+size
	}
	if err := checkShape(n[0], n[1]); err != nil {
		return h, messageError("%w", err)
	}
	h.rows, h.cols = int(n[0]), int(n[1])
	h.parts.Header = at
	left := uint64(len(b) - at)
	for i, p := range []*int{&h.parts.Tables, &h.parts.Codes, &h.parts.Side, &h.parts.Sparse} {
		if n[2+i] > left {
			return h, messageError("%d bytes, the header asks for more", len(b))
		}
		*p = int(n[2+i])
		left -= n[2+i]
	}
	return h, nil
}

func (h *header) checkFlags() error {
	allowed := uint16(flagsQuantised)
	if h.codec == codecRaw16 {
		allowed = flagTypeMask
	}
	t, bits := h.valueType(), h.maxActivationBits()
	switch {
	case h.flags&^allowed != 0,
		t > typeFloat32,
		h.codec == codecRaw16 && t == typeFloat32,
		h.codec != codecRaw16 && (bits < 2 || bits > 8):
		return messageError("flags %#04x are not those of codec %s", h.flags, codecNames[h.codec-codecLiteral])
	}
	return nil
}

// Frame cuts the first message off a concatenation of messages: msg is that
// message, rest what follows it, both in b's memory. It reads the header only;
// the checksum is for [Decode] and [Inspect].
func Frame(b []byte) (msg, rest []byte, err error) {
	if isSplit1(b) {
		h, err := parseSplit1Header(b)
		if err != nil {
			return nil, nil, err
		}
		n := h.total()
		return b[:n:n], b[n:], nil
	}
	if len(b) > 0 && b[0] == kvMagic {
		h, err := parseKVHeader(b)
		if err != nil {
			return nil, nil, err
		}
		n := h.total()
		return b[:n:n], b[n:], nil
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, nil, err
	}
	n := h.parts.Total()
	return b[:n:n], b[n:], nil
}

// opened is a message whose header and checksum are right, cut into its parts.
type opened struct {
	header
	tables, codes, side, sparse []byte
}

// open parses msg, which must be one whole message and no more.
func open(msg []byte) (o opened, err error) {
	if o.header, err = parseHeader(msg); err != nil {
		return o, err
	}
	if n := o.parts.Total(); n != len(msg) {
		return o, messageError("%d bytes after the end of the message", len(msg)-n)
	}
	if want, got := binary.LittleEndian.Uint32(msg[crcAt:]), checksum(msg); want != got {
		return o, messageError("checksum %08x, expected %08x", got, want)
	}
	at := o.parts.Header
	for _, p := range []struct {
		dst  *[]byte
		size int
	}{{&o.tables, o.parts.Tables}, {&o.codes, o.parts.Codes}, {&o.side, o.parts.Side}, {&o.sparse, o.parts.Sparse}} {
		*p.dst = msg[at : at+p.size]
		at += p.size
	}
	return o, nil
}

// Info describes a message.
type Info struct {
	Codec   string `json:"codec"`
	Version int    `json:"version"`
	Rows    int    `json:"rows"`
	Cols    int    `json:"cols"`
	Bytes   int    `json:"bytes"` // length of the message
	Parts   Parts  `json:"parts"` // bytes
	// Tables is the number of the trained tables that split1 needs to decode the
	// message; Cols is 0 and only header and body are told apart then.
	Tables string `json:"tables,omitempty"`
	// ValueType is the type of the values that are not quantised: those above
	// the threshold, or all of them in raw16.
	ValueType string `json:"value_type"`
	// The readings that a message carries; empty in raw16.
	MaxActivationBits int    `json:"max_activation_bits,omitempty"`
	Granularity       string `json:"granularity,omitempty"`
	SparseIndex       string `json:"sparse_index,omitempty"`
	ScaleType         string `json:"scale_type,omitempty"`
	// QRows[q] is the number of rows with q magnitude bits, 0 to 7; empty in
	// raw16.
	QRows []int `json:"q_rows,omitempty"`
	// Above is the number of values above the threshold.
	Above int `json:"above"`
}

// Inspect describes one whole message. It checks everything but the codes, and
// allocates in proportion to the message, never to the shape it declares.
func Inspect(msg []byte) (Info, error) {
	if isSplit1(msg) {
		return inspectSplit1(msg)
	}
	o, err := open(msg)
	if err != nil {
		return Info{}, err
	}
	info := Info{
		Codec: codecNames[o.codec-codecLiteral], Version: version, Rows: o.rows, Cols: o.cols,
		Bytes: len(msg), Parts: o.parts, ValueType: o.valueType().String(),
	}
	if o.codec == codecRaw16 {
		if err := o.checkRaw16(); err != nil {
			return Info{}, err
		}
		return info, nil
	}
	info.MaxActivationBits = o.maxActivationBits()
	info.Granularity = granularityNames[o.flags&flagPerTensor/flagPerTensor]
	info.SparseIndex = sparseIndexNames[o.flags&flagTorch/flagTorch]
	info.ScaleType = scaleTypeNames[o.flags&flagScale32/flagScale32]
	side, sparse, err := o.parseRows(nil)
	if err != nil {
		return Info{}, err
	}
	info.QRows = make([]int, 8)
	for _, s := range side {
		info.QRows[s.bits]++
	}
	info.Above = sparse.count
	return info, nil
}

// parseRows reads the side and sparse parts, which literal and packed share.
func (o *opened) parseRows(buf []rowSide) ([]rowSide, csrView, error) {
	side, err := parseSide(buf, o.side, o.rows, o.maxActivationBits()-1, o.scale32(), o.perTensor())
	if err != nil {
		return side, csrView{}, messageError("%w", err)
	}
	sparse, err := o.csrForm().parse(o.sparse, o.rows, o.cols)
	if err != nil {
		return side, csrView{}, messageError("%w", err)
	}
	return side, sparse, nil
}
