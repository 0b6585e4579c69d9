package compress

import (
	"encoding/binary"
	"fmt"
)

// CSR holds the values above the threshold by rows: those of row r are
// Val[RowPtr[r]:RowPtr[r+1]], with their columns, strictly increasing, in the
// same places of Col.
type CSR struct {
	RowPtr []uint32 // (rows + 1)
	Col    []uint32
	Val    []float32
}

// Mask returns which of the columns of row r are above, in dst's memory when
// its capacity suffices.
func (c *CSR) Mask(dst []bool, r, cols int) []bool {
	dst = resize(dst, cols)
	clear(dst)
	for _, j := range c.Col[c.RowPtr[r]:c.RowPtr[r+1]] {
		dst[j] = true
	}
	return dst
}

// reset empties c and makes it ready for the given number of rows.
func (c *CSR) reset(rows int) {
	if cap(c.RowPtr) < rows+1 {
		c.RowPtr = make([]uint32, 0, rows+1)
	}
	c.RowPtr, c.Col, c.Val = append(c.RowPtr[:0], 0), c.Col[:0], c.Val[:0]
}

// csrForm is the layout of the sparse part of a message: row pointers, columns,
// values, each an array of little-endian numbers.
type csrForm struct {
	ptrBytes, colBytes int
	values             valueType
}

// newCSRForm returns the layout named by sparse_index: "torch" has int64 for
// both indices, "compact" uint32 row pointers and uint16 columns, uint32 when a
// row has more than 65536 columns.
func newCSRForm(torch bool, cols int, values valueType) csrForm {
	switch {
	case torch:
		return csrForm{8, 8, values}
	case cols <= 1<<16:
		return csrForm{4, 2, values}
	}
	return csrForm{4, 4, values}
}

// append appends c in the layout f.
func (f csrForm) append(dst []byte, c *CSR) []byte {
	for _, p := range c.RowPtr {
		dst = appendIndex(dst, p, f.ptrBytes)
	}
	for _, j := range c.Col {
		dst = appendIndex(dst, j, f.colBytes)
	}
	for _, v := range c.Val {
		dst = f.values.append(dst, v)
	}
	return dst
}

func appendIndex(dst []byte, v uint32, size int) []byte {
	switch size {
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(v))
	case 4:
		return binary.LittleEndian.AppendUint32(dst, v)
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(v))
}

func index(b []byte, i, size int) uint64 {
	switch size {
	case 2:
		return uint64(binary.LittleEndian.Uint16(b[2*i:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return binary.LittleEndian.Uint64(b[8*i:])
}

// csrView reads a checked sparse part in place.
type csrView struct {
	form       csrForm
	count      int // values
	ptrs, cols []byte
	vals       []byte
}

// parse checks that b is a sparse part for the given shape: lengths that agree,
// row pointers from 0 to the count that never fall, columns in range that rise
// within each row. It allocates nothing.
func (f csrForm) parse(b []byte, rows, cols int) (csrView, error) {
	head := (rows + 1) * f.ptrBytes
	each := f.colBytes + f.values.size()
	if len(b) < head || (len(b)-head)%each != 0 {
		return csrView{}, fmt.Errorf("sparse part has %d bytes, expected %d and a multiple of %d more", len(b), head, each)
	}
	v := csrView{form: f, count: (len(b) - head) / each, ptrs: b[:head]}
	v.cols = b[head : head+v.count*f.colBytes]
	v.vals = b[head+v.count*f.colBytes:]
	if p := index(v.ptrs, 0, f.ptrBytes); p != 0 {
		return csrView{}, fmt.Errorf("sparse part: first row pointer is %d, expected 0", p)
	}
	var at uint64
	for r := range rows {
		end := index(v.ptrs, r+1, f.ptrBytes)
		if end < at || end > uint64(v.count) {
			return csrView{}, fmt.Errorf("sparse part: row pointer %d is %d, expected %d to %d", r+1, end, at, v.count)
		}
		for next := uint64(0); at < end; at++ {
			j := index(v.cols, int(at), f.colBytes)
			if j < next || j >= uint64(cols) {
				return csrView{}, fmt.Errorf("sparse part: row %d has column %d, expected %d to %d", r, j, next, cols-1)
			}
			next = j + 1
		}
	}
	if at != uint64(v.count) {
		return csrView{}, fmt.Errorf("sparse part: rows hold %d values, expected all %d", at, v.count)
	}
	return v, nil
}

// overwrite puts the values into their places in m. A place that holds a
// quantised value other than zero is an error: no encoder leaves one there.
func (v csrView) overwrite(m Matrix) error {
	i := 0
	for r := range m.Rows {
		row := m.Row(r)
		for end := int(index(v.ptrs, r+1, v.form.ptrBytes)); i < end; i++ {
			j := index(v.cols, i, v.form.colBytes)
			if row[j] != 0 {
				return fmt.Errorf("row %d, column %d has both a code and a value above the threshold", r, j)
			}
			row[j] = v.form.values.value(v.vals, i)
		}
	}
	return nil
}
