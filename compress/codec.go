package compress

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Codec turns a matrix of activations into one message and back. Decoding gives
// the matrix that a receiver works with, which need not be the one encoded.
// Codecs are safe for concurrent use.
type Codec interface {
	// Name returns the name under which users choose the codec.
	Name() string
	// Encode appends one message with all rows of m to dst and returns the
	// extended slice and the bytes of each part of the message. The same m
	// gives the same bytes. On an error dst comes back as it was.
	Encode(dst []byte, m Matrix) ([]byte, Parts, error)
	// Decode restores one whole message of this codec, in dst's memory when
	// its capacity suffices. Bytes after the message are an error. Errors about
	// the message wrap ErrMessage; the contents of dst are then unspecified.
	Decode(dst []float32, msg []byte) (Matrix, error)
}

// Numbers of the codecs in messages.
const (
	codecLiteral = 1 + iota
	codecPacked
	codecRaw16
	codecSplit1
)

var codecNames = [...]string{"literal", "packed", "raw16", "split1"}

// CodecNames returns the names that [NewCodec] knows.
func CodecNames() []string { return slices.Clone(codecNames[:]) }

// NewCodec returns the codec of the given name: "literal" (TS, TAB-Q, CSR and
// rANS, the pipeline of arXiv 2511.04002, section 2.3), "packed" (the same
// values, codes at fixed width), "raw16" (two bytes per value) or "split1" (the
// same values as literal, coded with static tables, FORMAT.md). The options must
// be valid for any of them.
func NewCodec(name string, o Options) (Codec, error) {
	r, err := o.reading()
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	switch i := slices.Index(codecNames[:], name); i + codecLiteral {
	case codecLiteral, codecPacked:
		return &quantisingCodec{number: uint8(i + codecLiteral), reading: r}, nil
	case codecRaw16:
		return raw16{}, nil
	case codecSplit1:
		return &split1Codec{reading: r, tables: o.Tables}, nil
	}
	return nil, fmt.Errorf("compress: codec is %q, expected %s", name, strings.Join(codecNames[:], ", "))
}

// Decode restores one whole message of any codec, in dst's memory when its
// capacity suffices. It fails as [Codec].Decode does, and on messages that were
// made with trained tables: those need the codec that has the tables.
func Decode(dst []float32, msg []byte) (Matrix, error) { return decode(dst, msg, 0, MaxValues) }

// decode restores a message of the given codec, any if 0, of at most limit
// values.
func decode(dst []float32, msg []byte, codec uint8, limit int) (Matrix, error) {
	if codec == 0 && isSplit1(msg) {
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		return decodeSplit1(dst, msg, nil, s, limit)
	}
	o, err := open(msg)
	if err != nil {
		return Matrix{}, err
	}
	if codec != 0 && o.codec != codec {
		return Matrix{}, messageError("codec %s, expected %s", codecNames[o.codec-codecLiteral], codecNames[codec-codecLiteral])
	}
	if o.rows*o.cols > limit {
		return Matrix{}, messageError("shape %d x %d, expected at most %d values", o.rows, o.cols, limit)
	}
	if o.codec == codecRaw16 {
		return o.decodeRaw16(dst)
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	side, sparse, err := o.parseRows(s.side)
	s.side = side
	if err != nil {
		return Matrix{}, err
	}
	m := Matrix{Rows: o.rows, Cols: o.cols}
	if o.codec == codecLiteral {
		m.Data, err = o.decodeLiteral(dst, s, side)
	} else {
		m.Data, err = o.decodePacked(dst, s, side)
	}
	if err == nil {
		err = sparse.overwrite(m)
	}
	if err != nil {
		return Matrix{}, messageError("%w", err)
	}
	return m, nil
}

// quantisingCodec is "literal" or "packed".
type quantisingCodec struct {
	number  uint8
	reading reading
}

func (c *quantisingCodec) Name() string { return codecNames[c.number-codecLiteral] }

func (c *quantisingCodec) Encode(dst []byte, m Matrix) ([]byte, Parts, error) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	r, q := &c.reading, &s.quantised
	if err := q.quantise(m, r); err != nil {
		return dst, Parts{}, err
	}
	h := header{codec: c.number, rows: m.Rows, cols: m.Cols}
	h.flags = uint16(r.top+1)<<flagBitsShift | uint16(q.aboveType)
	if r.torchIndex {
		h.flags |= flagTorch
	}
	if r.scale32 {
		h.flags |= flagScale32
	}
	if r.perTensor {
		h.flags |= flagPerTensor
	}
	body := s.body[:0]
	if c.number == codecLiteral {
		body = s.appendLiteral(body, &h.parts)
	} else {
		body = appendPacked(body, q)
		h.parts.Codes = len(body)
	}
	at := len(body)
	body = appendSide(body, q.Q, q.Scale, r.scale32)
	h.parts.Side = len(body) - at
	at = len(body)
	body = h.csrForm().append(body, &q.Above)
	h.parts.Sparse = len(body) - at
	s.body = body
	dst, parts := appendMessage(dst, &h, body)
	return dst, parts, nil
}

func (c *quantisingCodec) Decode(dst []float32, msg []byte) (Matrix, error) {
	return decode(dst, msg, c.number, MaxValues)
}

// scratch is the memory of one call.
type scratch struct {
	quantised Quantised
	body      []byte
	bodies    []byte // of a KVCodec
	side      []rowSide
	symbols   []byte
	words     []byte
	freq      frequencies
	enc       encoderTable
	dec       decoderTable

	// Of split1.
	classes     []uint8 // token class of each row
	codes       []int16 // of one row
	stack       wordStack
	hot, others []uint32
	keepCodes   bool // decoding leaves the codes in quantised
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}
