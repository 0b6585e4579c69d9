package compress

import (
	"fmt"
	"math"
	"slices"
)

// Quantised is a matrix after threshold splitting and TAB-Q, before any entropy
// coding. All slices belong to it.
type Quantised struct {
	Rows, Cols int
	// Codes are the signed codes, (Rows, Cols): |code| < 2^Q of the row, and 0
	// at the positions above the threshold.
	Codes []int16
	// Scale is the step of each row, 0 in rows with Q = 0.
	Scale []float32 // (Rows)
	// Q is the number of magnitude bits of each row, 0 when the row has no
	// value but zero below the threshold.
	Q []uint8 // (Rows)
	// Above holds the values above the threshold as they travel.
	Above CSR

	aboveType valueType
	mag       []float32 // scratch
	largest   []float32 // scratch
	topCodes  []uint8   // scratch
}

// Quantise runs threshold splitting and TAB-Q on m. It fails on invalid options,
// on a shape that no message holds, and when a value above the threshold
// overflows the type chosen for it; the last names row and column.
func Quantise(m Matrix, o Options) (*Quantised, error) {
	r, err := o.reading()
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	q := new(Quantised)
	if err := q.quantise(m, &r); err != nil {
		return nil, err
	}
	q.mag, q.largest, q.topCodes = nil, nil, nil
	return q, nil
}

// quantise fills q from m, reusing its slices.
func (q *Quantised) quantise(m Matrix, r *reading) error {
	if err := m.check(); err != nil {
		return err
	}
	q.Rows, q.Cols = m.Rows, m.Cols
	q.Codes = resize(q.Codes, len(m.Data))
	q.Scale = resize(q.Scale, m.Rows)
	q.Q = resize(q.Q, m.Rows)
	q.Above.reset(m.Rows)
	q.largest = resize(q.largest, m.Rows)
	group := min(m.Rows, 1) // rows that share a Q
	if r.perTensor {
		group = m.Rows
	}
	q.mag = resize(q.mag, group*m.Cols)
	q.topCodes = resize(q.topCodes, group*m.Cols)
	for first := 0; first < m.Rows; first += group {
		for i := range group {
			tauBits := r.tauBits
			if r.thresholdBy != byValue {
				tauBits = r.rowThreshold(m.Row(first + i))
			}
			q.largest[first+i] = splitRow(q.mag[i*m.Cols:(i+1)*m.Cols], m.Row(first+i), tauBits, &q.Above)
		}
		bits := r.search(q.mag, m.Cols, q.largest[first:first+group], q.topCodes)
		for i := range group {
			row := first + i
			codes := q.Codes[row*m.Cols : (row+1)*m.Cols]
			if q.largest[row] == 0 {
				q.Q[row], q.Scale[row] = 0, 0
				clear(codes)
				continue
			}
			s := magnitudeScale(q.largest[row], bits, r.scale32)
			q.Q[row], q.Scale[row] = uint8(bits), s
			signedCodes(codes, m.Row(row), q.mag[i*m.Cols:(i+1)*m.Cols], s, 1<<bits-1)
		}
	}
	return q.roundAbove(r)
}

// signedCodes writes the codes of the magnitudes with the signs of row. Code 0
// has no sign, so -0 restores as +0.
func signedCodes(dst []int16, row, mag []float32, scale float32, top uint32) {
	dst, mag = dst[:len(row)], mag[:len(row)]
	for j, v := range row {
		sign := int32(math.Float32bits(v)) >> 31
		c := int32(magnitudeCode(mag[j], scale, top))
		dst[j] = int16((c ^ sign) - sign)
	}
}

// roundAbove settles the type of the values above and rounds them to it.
func (q *Quantised) roundAbove(r *reading) error {
	if r.exactAbove {
		q.aboveType = smallestExact(q.Above.Val)
		return nil
	}
	q.aboveType = r.above
	for i, v := range q.Above.Val {
		if r.above.becomesInfinite(v) {
			row, _ := slices.BinarySearch(q.Above.RowPtr, uint32(i)+1)
			return fmt.Errorf("compress: row %d, column %d: %v overflows above_type %s", row-1, q.Above.Col[i], v, r.above)
		}
		q.Above.Val[i] = r.above.round(v)
	}
	return nil
}

// Restore returns the matrix that a receiver gets (Eq. 7): code times scale, and
// the values above the threshold in their places. It uses dst's memory when its
// capacity suffices.
func (q *Quantised) Restore(dst []float32) Matrix {
	m := Matrix{Rows: q.Rows, Cols: q.Cols, Data: resize(dst, q.Rows*q.Cols)}
	for r := range q.Rows {
		row, codes, s := m.Row(r), q.Codes[r*q.Cols:(r+1)*q.Cols], q.Scale[r]
		for j, c := range codes {
			row[j] = float32(c) * s
		}
		for i := q.Above.RowPtr[r]; i < q.Above.RowPtr[r+1]; i++ {
			row[q.Above.Col[i]] = q.Above.Val[i]
		}
	}
	return m
}
