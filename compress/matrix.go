package compress

import "fmt"

// MaxValues is the largest number of values (rows x columns) that one message
// may hold. A row of zeros has no symbols and a row of equal codes costs no bits
// under rANS, so the size of a message does not bound the size of what it
// restores; this limit does. Decoding needs at most 4 bytes per value for the
// result and, of the values of a row, 3 bytes each of scratch (in "literal" 1 byte
// of those of the matrix), that is 1.75 GiB at the limit.
// A receiver that knows its shapes checks [Inspect] before it decodes.
const MaxValues = 1 << 28

// Matrix is a row-major matrix of float32 activations: Data[r*Cols+c] belongs to
// token r and channel c. It does not own Data.
type Matrix struct {
	Rows, Cols int
	Data       []float32 // (Rows, Cols)
}

// Row returns row r of m, sharing its memory.
func (m Matrix) Row(r int) []float32 { return m.Data[r*m.Cols : (r+1)*m.Cols : (r+1)*m.Cols] }

// check reports whether the shape of m is one that a message can hold.
func (m Matrix) check() error {
	if err := checkShape(uint64(m.Rows), uint64(m.Cols)); err != nil {
		return fmt.Errorf("compress: matrix: %w", err)
	}
	if len(m.Data) != m.Rows*m.Cols {
		return fmt.Errorf("compress: matrix: %d values, expected %d rows x %d columns = %d", len(m.Data), m.Rows, m.Cols, m.Rows*m.Cols)
	}
	return nil
}

// checkShape takes unsigned numbers so that a negative int, converted, is found
// too large.
func checkShape(rows, cols uint64) error {
	switch {
	case rows > MaxValues || cols > MaxValues || rows*cols > MaxValues:
		return fmt.Errorf("shape %d x %d, expected at most %d values", rows, cols, MaxValues)
	case cols == 0 && rows > 0:
		return fmt.Errorf("%d rows without columns", rows)
	}
	return nil
}

// resize returns a slice of length n, in s's memory when that is large enough.
// The contents are unspecified.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
