package compress

import (
	"encoding/binary"
	"fmt"
)

// raw16 sends every value in two bytes: float16 when every finite value stays
// finite in it, bfloat16 otherwise, rounded to nearest with ties to even. The
// message says which. Infinities and NaNs are kept, NaNs with the leading bits
// of their payload. A finite value that overflows bfloat16 too (3.396e38 and
// more) is an error.
type raw16 struct{}

func (raw16) Name() string { return codecNames[codecRaw16-codecLiteral] }

func (raw16) Encode(dst []byte, m Matrix) ([]byte, Parts, error) {
	if err := m.check(); err != nil {
		return dst, Parts{}, err
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	t := typeFloat16
	for i, v := range m.Data {
		if t == typeFloat16 && typeFloat16.becomesInfinite(v) {
			t = typeBfloat16
		}
		if t == typeBfloat16 && typeBfloat16.becomesInfinite(v) {
			return dst, Parts{}, fmt.Errorf("compress: row %d, column %d: %v overflows bfloat16", i/m.Cols, i%m.Cols, v)
		}
	}
	s.body = resize(s.body, 2*len(m.Data))
	body := s.body
	if t == typeFloat16 {
		for i, v := range m.Data {
			binary.LittleEndian.PutUint16(body[2*i:], toFloat16(v))
		}
	} else {
		for i, v := range m.Data {
			binary.LittleEndian.PutUint16(body[2*i:], toBfloat16(v))
		}
	}
	dst, parts := appendMessage(dst, &header{
		codec: codecRaw16, flags: uint16(t), rows: m.Rows, cols: m.Cols, parts: Parts{Codes: len(body)},
	}, body)
	return dst, parts, nil
}

func (raw16) Decode(dst []float32, msg []byte) (Matrix, error) {
	return decode(dst, msg, codecRaw16, MaxValues)
}

func (o *opened) checkRaw16() error {
	if want := 2 * o.rows * o.cols; len(o.codes) != want || len(o.tables)+len(o.side)+len(o.sparse) != 0 {
		return messageError("codes have %d bytes and other parts %d, expected %d and 0", len(o.codes), len(o.tables)+len(o.side)+len(o.sparse), want)
	}
	return nil
}

func (o *opened) decodeRaw16(dst []float32) (Matrix, error) {
	if err := o.checkRaw16(); err != nil {
		return Matrix{}, err
	}
	m := Matrix{Rows: o.rows, Cols: o.cols, Data: resize(dst, o.rows*o.cols)}
	if o.valueType() == typeFloat16 {
		for i := range m.Data {
			m.Data[i] = fromFloat16(binary.LittleEndian.Uint16(o.codes[2*i:]))
		}
	} else {
		for i := range m.Data {
			m.Data[i] = fromBfloat16(binary.LittleEndian.Uint16(o.codes[2*i:]))
		}
	}
	return m, nil
}
