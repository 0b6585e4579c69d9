package compress

import "encoding/binary"

// bitWriter appends numbers of few bits, least significant bits first. The zero
// value is ready.
type bitWriter struct {
	acc  uint64
	have uint
}

// write appends the low n <= 32 bits of v, whose other bits are 0.
func (w *bitWriter) write(dst []byte, v uint32, n uint) []byte {
	w.acc |= uint64(v) << w.have
	w.have += n
	if w.have >= 32 {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(w.acc))
		w.acc >>= 32
		w.have -= 32
	}
	return dst
}

// flush appends the bits that are left, filled up to a byte with zeros.
func (w *bitWriter) flush(dst []byte) []byte {
	for i := uint(0); i < w.have; i += 8 {
		dst = append(dst, byte(w.acc>>i))
	}
	*w = bitWriter{}
	return dst
}

// bitReader reads what bitWriter wrote. The caller reads no more bits than b
// holds.
type bitReader struct {
	b    []byte
	acc  uint64
	have uint
}

// read returns the next n <= 32 bits.
func (r *bitReader) read(n uint) uint32 {
	if r.have < n {
		if len(r.b) >= 4 {
			r.acc |= uint64(binary.LittleEndian.Uint32(r.b)) << r.have
			r.b = r.b[4:]
			r.have += 32
		} else {
			for r.have < n {
				r.acc |= uint64(r.b[0]) << r.have
				r.b = r.b[1:]
				r.have += 8
			}
		}
	}
	v := uint32(r.acc & (1<<n - 1))
	r.acc >>= n
	r.have -= n
	return v
}

// restIsZero reports whether less than a byte is left and all of it is padding.
func (r *bitReader) restIsZero() bool { return len(r.b) == 0 && r.have < 8 && r.acc == 0 }
