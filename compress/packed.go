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
func (o *opened) decodePacked(dst []float32, side []rowSide) ([]float32, error) {
	want := 0
	for _, s := range side {
		want += packedRowBytes(o.cols, s.bits)
	}
	if len(o.tables) != 0 || len(o.codes) != want {
		return nil, fmt.Errorf("tables and codes have %d and %d bytes, expected 0 and %d", len(o.tables), len(o.codes), want)
	}
	dst = resize(dst, o.rows*o.cols)
	b := o.codes
	for r, s := range side {
		row := dst[r*o.cols : (r+1)*o.cols]
		if s.bits == 0 {
			clear(row)
			continue
		}
		size := packedRowBytes(o.cols, s.bits)
		in := bitReader{b: b[:size]}
		b = b[size:]
		offset := int32(1)<<s.bits - 1
		for j := range row {
			c := int32(in.read(uint(s.bits)+1)) - offset
			if c > offset {
				return nil, fmt.Errorf("row %d, column %d: code %d does not fit Q %d", r, j, c, s.bits)
			}
			row[j] = float32(c) * s.scale
		}
		if !in.restIsZero() {
			return nil, fmt.Errorf("row %d: padding bits are not zero", r)
		}
	}
	return dst, nil
}
