package compress

import (
	"fmt"
	"math"
)

// WeightScheme is a group-wise round-to-nearest quantiser of weights, the
// asymmetric min-max form of GPTQ's "nearest" (arXiv 2210.17323): per group of
// consecutive inputs of an output row,
//
//	lo = min(weights, 0), hi = max(weights, 0), or -1 and 1 when both are 0
//	scale = (hi - lo) / (2^Bits - 1), zero = round(-lo / scale)
//	code = clamp(round(weight / scale) + zero, 0, 2^Bits - 1)
//
// in float32 with ties to even; a weight becomes scale * (code - zero).
type WeightScheme struct {
	Bits  int `json:"bits"`  // 2, 3, 4 or 8
	Group int `json:"group"` // inputs that share a scale, 0 for the whole row
}

// Validate reports whether the scheme can quantise rows of the given columns.
// When Group does not divide cols the last group of each row is shorter; a
// group longer than the row is an error.
func (s WeightScheme) Validate(cols int) error {
	switch s.Bits {
	case 2, 3, 4, 8:
	default:
		return fmt.Errorf("compress: weight bits is %d, expected 2, 3, 4 or 8", s.Bits)
	}
	if cols < 1 || cols > MaxValues {
		return fmt.Errorf("compress: weight rows have %d columns, expected 1 to %d", cols, MaxValues)
	}
	if s.Group < 0 || s.Group > cols {
		return fmt.Errorf("compress: weight group is %d, expected 1 to the %d columns, or 0 for all", s.Group, cols)
	}
	return nil
}

// QuantisedWeights is a weight matrix of output rows and input columns as
// integer codes, with a scale and a zero point for each group of a row.
type QuantisedWeights struct {
	Rows, Cols int
	Bits       int // width of a code
	Group      int // columns per group, at least 1; the last may be shorter
	// Codes are packed row by row: each row starts on a byte boundary, and code
	// c of a row occupies bits [c*Bits, (c+1)*Bits) of the row, least
	// significant bits first. The bits that fill a row's last byte are 0.
	Codes  []byte
	Scales []float32 // (Rows, groups)
	Zeros  []uint8   // (Rows, groups)
}

// Groups returns the groups per row.
func (q *QuantisedWeights) Groups() int { return (q.Cols + q.Group - 1) / q.Group }

// RowBytes returns the bytes of one row in Codes.
func (q *QuantisedWeights) RowBytes() int { return (q.Cols*q.Bits + 7) / 8 }

// Bytes returns the stored size in bytes: codes, scales and zero points.
func (q *QuantisedWeights) Bytes() int { return len(q.Codes) + 4*len(q.Scales) + len(q.Zeros) }

// QuantiseWeights quantises w, (rows, cols). It fails on a scheme that does not
// fit, on a length other than rows x cols, and on a group with a value that is
// not finite or a range beyond float32; the last two name row and column.
func QuantiseWeights(w []float32, rows, cols int, s WeightScheme) (*QuantisedWeights, error) {
	if err := s.Validate(cols); err != nil {
		return nil, err
	}
	if rows < 0 || len(w)/cols != rows || len(w)%cols != 0 {
		return nil, fmt.Errorf("compress: %d weights, expected %d rows x %d columns", len(w), rows, cols)
	}
	q := &QuantisedWeights{Rows: rows, Cols: cols, Bits: s.Bits, Group: s.Group}
	if q.Group == 0 {
		q.Group = cols
	}
	q.Codes = make([]byte, 0, rows*q.RowBytes()+4) // the writer appends words of four bytes
	q.Scales = make([]float32, 0, rows*q.Groups())
	q.Zeros = make([]uint8, 0, rows*q.Groups())
	for r := range rows {
		var bits bitWriter
		for c := 0; c < cols; c += q.Group {
			group := w[r*cols+c : r*cols+min(c+q.Group, cols)]
			g, bad := weightGrid(group, s.Bits)
			if bad >= 0 {
				return nil, fmt.Errorf("compress: weight row %d, column %d: %v, expected finite weights whose range float32 holds", r, c+bad, group[bad])
			}
			q.Scales = append(q.Scales, g.scale)
			q.Zeros = append(q.Zeros, uint8(g.zero))
			for _, x := range group {
				q.Codes = bits.write(q.Codes, uint32(g.code(x)), uint(s.Bits))
			}
		}
		q.Codes = bits.flush(q.Codes)
	}
	return q, nil
}

// weightGrid returns the grid of a group, or the place of a weight that makes
// one impossible, which is -1 otherwise.
func weightGrid(group []float32, bits int) (g grid, bad int) {
	var lo, hi float32
	at := 0
	for i, x := range group {
		if !(math.Abs(float64(x)) <= math.MaxFloat32) {
			return grid{}, i
		}
		if x < lo || x > hi {
			at = i
		}
		lo, hi = min(lo, x), max(hi, x)
	}
	if lo == 0 && hi == 0 {
		lo, hi = -1, 1
	}
	if math.IsInf(float64(hi-lo), 1) {
		return grid{}, at
	}
	g = newGrid(lo, hi, bits)
	// Only a range of a few subnormals, where the scale itself is rounded, can
	// put the zero point out of range.
	g.zero = min(g.zero, g.top)
	return g, -1
}

// RowCodes writes the codes of a row to dst, whose length is at least Cols.
func (q *QuantisedWeights) RowCodes(dst []uint8, row int) {
	in := q.row(row)
	dst = dst[:q.Cols]
	if q.Bits == 8 {
		copy(dst, in.b)
		return
	}
	for c := range dst {
		dst[c] = uint8(in.read(uint(q.Bits)))
	}
}

// Dequantise writes the weights of a row, scale * (code - zero), to dst, whose
// length is at least Cols.
func (q *QuantisedWeights) Dequantise(dst []float32, row int) {
	in := q.row(row)
	dst = dst[:q.Cols]
	n := q.Groups()
	scales, zeros := q.Scales[row*n:(row+1)*n], q.Zeros[row*n:(row+1)*n]
	for i, scale := range scales {
		g := grid{scale: scale, zero: int32(zeros[i])}
		for c := i * q.Group; c < min((i+1)*q.Group, q.Cols); c++ {
			dst[c] = g.value(int32(in.read(uint(q.Bits))))
		}
	}
}

func (q *QuantisedWeights) row(row int) bitReader {
	n := q.RowBytes()
	return bitReader{b: q.Codes[row*n : (row+1)*n]}
}
