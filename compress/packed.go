package compress

import "fmt"

// The codes part of a packed message holds the rows with Q > 0 in order, each
// from a byte boundary: per code Q+1 bits, least significant bits first, of
// code + 2^Q - 1. The last value of that width, 2^(Q+1)-1, stands for nothing.

// packedRowBytes returns the bytes of a row with the given Q.
func packedRowBytes(cols, bits int) int {
	if bits == 0 {
		return 0
	}
	return (cols*(bits+1) + 7) / 8
}

// appendPacked appends the codes part.
func appendPacked(dst []byte, q *Quantised) []byte {
	for r, b := range q.Q {
		if b == 0 {
			continue
		}
		var w bitWriter
		offset := int16(1)<<b - 1
		for _, c := range q.Codes[r*q.Cols : (r+1)*q.Cols] {
			dst = w.write(dst, uint32(c+offset), uint(b)+1)
		}
		dst = w.flush(dst)
	}
	return dst
}

// decodePacked restores the values below the threshold into dst's memory.
func (o *opened) decodePacked(dst []float32, s *scratch, side []rowSide) ([]float32, error) {
	want := 0
	for _, r := range side {
		want += packedRowBytes(o.cols, r.bits)
	}
	if len(o.tables) != 0 || len(o.codes) != want {
		return nil, fmt.Errorf("tables and codes have %d and %d bytes, expected 0 and %d", len(o.tables), len(o.codes), want)
	}
	m := Matrix{Rows: o.rows, Cols: o.cols, Data: resize(dst, o.rows*o.cols)}
	if want > 0 { // the codes of a row take no more than the message allows
		s.codes = resize(s.codes, o.cols)
	}
	err := unpackRows(m, o.codes, side, s.codes, func(r int, codes []int16) {
		rowLoops.restore(m.Row(r), codes, side[r].scale)
	})
	return m.Data, err
}

// unpackRows reads the rows of a codes part of fixed width into codes and gives
// each to restore; rows without codes become zeros. b has the length that the
// rows' bits ask for.
func unpackRows(m Matrix, b []byte, side []rowSide, codes []int16, restore func(r int, codes []int16)) error {
	for r, s := range side {
		if s.bits == 0 {
			clear(m.Row(r))
			continue
		}
		size := packedRowBytes(m.Cols, s.bits)
		in := bitReader{b: b[:size]}
		b = b[size:]
		offset := int32(1)<<s.bits - 1
		for j := range codes {
			c := int32(in.read(uint(s.bits)+1)) - offset
			if c > offset {
				return fmt.Errorf("row %d, column %d: code %d does not fit Q %d", r, j, c, s.bits)
			}
			codes[j] = int16(c)
		}
		if !in.restIsZero() {
			return fmt.Errorf("row %d: padding bits are not zero", r)
		}
		restore(r, codes)
	}
	return nil
}
