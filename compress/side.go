package compress

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The side part of a message holds, for each row, one byte with Q in its low
// four bits and sideFloat32 when the scale follows as float32, then the scale in
// 2 or 4 bytes. A row with Q = 0 has only the byte.
const sideFloat32 = 0x80

// appendSide appends the side part.
func appendSide(dst []byte, q []uint8, scale []float32, scale32 bool) []byte {
	for r, bits := range q {
		h := toFloat16(scale[r])
		switch {
		case bits == 0:
			dst = append(dst, 0)
		case !scale32 && h >= 0x400 && h < 0x7c00:
			// The scale was rounded to float16 before it was used.
			dst = append(dst, bits)
			dst = binary.LittleEndian.AppendUint16(dst, h)
		default:
			dst = append(dst, bits|sideFloat32)
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(scale[r]))
		}
	}
	return dst
}

// rowSide is what the side part says of one row.
type rowSide struct {
	bits  int // Q
	scale float32
}

// parseSide reads a side part of exactly the given rows into dst's memory. Its
// allocation is in proportion to len(b). top is the largest Q allowed; with
// oneQ all rows that have codes share theirs.
func parseSide(dst []rowSide, b []byte, rows, top int, scale32, oneQ bool) ([]rowSide, error) {
	if len(b) < rows {
		return dst, fmt.Errorf("side part has %d bytes for %d rows", len(b), rows)
	}
	dst = resize(dst, rows)
	shared := 0
	for r := range dst {
		if len(b) == 0 {
			return dst, fmt.Errorf("side part ends at row %d of %d", r, rows)
		}
		tag := b[0]
		b = b[1:]
		if tag == 0 {
			dst[r] = rowSide{}
			continue
		}
		s := rowSide{bits: int(tag &^ sideFloat32)}
		if s.bits == 0 || s.bits > top || scale32 && tag&sideFloat32 == 0 {
			return dst, fmt.Errorf("side part: row %d has tag %#02x, expected Q of 1 to %d", r, tag, top)
		}
		if shared == 0 {
			shared = s.bits
		}
		if oneQ && s.bits != shared {
			return dst, fmt.Errorf("side part: row %d has Q %d, expected %d in all rows", r, s.bits, shared)
		}
		size := 2
		if tag&sideFloat32 != 0 {
			size = 4
		}
		if len(b) < size {
			return dst, fmt.Errorf("side part ends at row %d of %d", r, rows)
		}
		if size == 4 {
			s.scale = math.Float32frombits(binary.LittleEndian.Uint32(b))
		} else {
			s.scale = fromFloat16(binary.LittleEndian.Uint16(b))
		}
		if !(s.scale > 0 && s.scale <= math.MaxFloat32) {
			return dst, fmt.Errorf("side part: row %d has scale %v, expected a finite number above 0", r, s.scale)
		}
		b = b[size:]
		dst[r] = s
	}
	if len(b) > 0 {
		return dst, fmt.Errorf("side part has %d bytes too many", len(b))
	}
	return dst, nil
}
