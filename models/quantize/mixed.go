package quantize

import "fmt"

// Mixed quantizes the last Outliers columns of a matrix apart from the others
// (Atom's mixed precision, its keeper columns).
type Mixed struct {
	Body     Quantizer
	Outliers int // columns at the end of each row
	// Outlier quantizes them; Bits 0 leaves them as they are.
	Outlier Quantizer
}

// Simulate writes the quantized and dequantized matrix to dst, which may be x.
// A group of Body ends at the first outlier: the original sets the outliers to
// zero instead, which gives the same scales.
func (m Mixed) Simulate(dst, x []float32, rows, cols int) error {
	if m.Outliers < 0 || m.Outliers > cols {
		return fmt.Errorf("quantizer: %d outliers of %d columns", m.Outliers, cols)
	}
	if len(x) != rows*cols || len(dst) != len(x) {
		return fmt.Errorf("quantizer: %d numbers into %d: want %d x %d", len(x), len(dst), rows, cols)
	}
	body := cols - m.Outliers
	if body > 0 {
		if err := m.Body.simulate(dst, x, rows, body, cols); err != nil {
			return err
		}
	}
	if m.Outliers == 0 || rows == 0 {
		return nil
	}
	if m.Outlier.Bits == 0 {
		for r := range rows {
			copy(dst[r*cols+body:(r+1)*cols], x[r*cols+body:(r+1)*cols])
		}
		return nil
	}
	return m.Outlier.simulate(dst[body:], x[body:], rows, m.Outliers, cols)
}

// Quantize returns the integers of the body and of the outliers; the second is
// nil where they stay as they are.
func (m Mixed) Quantize(x []float32, rows, cols int) (body, outlier *Tensor, err error) {
	if m.Outliers < 0 || m.Outliers > cols || len(x) != rows*cols {
		return nil, nil, fmt.Errorf("quantizer: %d outliers of %d columns, %d numbers in %d rows", m.Outliers, cols, len(x), rows)
	}
	if body, err = m.Body.part(x, rows, 0, cols-m.Outliers, cols); err != nil {
		return nil, nil, err
	}
	if m.Outliers > 0 && m.Outlier.Bits > 0 {
		outlier, err = m.Outlier.part(x, rows, cols-m.Outliers, cols, cols)
	}
	return body, outlier, err
}

// part quantizes columns c0..c1 of a matrix with stride columns.
func (q Quantizer) part(x []float32, rows, c0, c1, stride int) (*Tensor, error) {
	n, err := q.Groups(rows, c1-c0)
	if err != nil {
		return nil, err
	}
	t := &Tensor{Quantizer: q, Rows: rows, Cols: c1 - c0, Scale: make([]float32, n), Zero: make([]float32, n)}
	if rows == 0 || c0 == c1 {
		return t, nil
	}
	if err := q.fit(x[c0:], rows, t.Cols, stride, nil, t.Scale, t.Zero); err != nil {
		return nil, err
	}
	return t, t.encode(x[c0:], stride)
}
