package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// DType is the element type of a stored tensor, by its name in the safetensors format.
type DType string

// The element types of the safetensors format. All are little-endian; booleans are one byte.
const (
	Bool   DType = "BOOL"
	U8     DType = "U8"
	I8     DType = "I8"
	I16    DType = "I16"
	U16    DType = "U16"
	I32    DType = "I32"
	U32    DType = "U32"
	I64    DType = "I64"
	U64    DType = "U64"
	F16    DType = "F16"
	BF16   DType = "BF16"
	F32    DType = "F32"
	F64    DType = "F64"
	C64    DType = "C64"
	F8E4M3 DType = "F8_E4M3"
	F8E5M2 DType = "F8_E5M2"
	F8E8M0 DType = "F8_E8M0"
	F6E2M3 DType = "F6_E2M3"
	F6E3M2 DType = "F6_E3M2"
	F4     DType = "F4"
)

var dtypeBits = map[DType]int{
	Bool: 8, U8: 8, I8: 8, I16: 16, U16: 16, I32: 32, U32: 32, I64: 64, U64: 64,
	F16: 16, BF16: 16, F32: 32, F64: 64, C64: 64,
	F8E4M3: 8, F8E5M2: 8, F8E8M0: 8, F6E2M3: 6, F6E3M2: 6, F4: 4,
}

// Bits returns the size of one element in bits, 0 for a name that the format does not know.
func (d DType) Bits() int { return dtypeBits[d] }

// IsFloat reports whether elements of type d can be read as float32, as weights must be.
func (d DType) IsFloat() bool { return d == F64 || d == F32 || d == F16 || d == BF16 }

// Tensor is a view of one tensor in a mapped file. It is a small value; copies share the bytes, which
// belong to the File or Checkpoint and are valid until its Close. All methods may be called from
// several goroutines.
//
// Methods that speak of rows and columns see a tensor of any rank as a matrix in row-major order: the
// columns are its last dimension, the rows all others (a vector is one row).
type Tensor struct {
	Name  string
	DType DType
	Shape []int // must not be changed

	m    *mapping
	data []byte
	// within describes the place in the stored tensor where this is a part of one, for messages.
	within string
	// interleavedHead is the number of rows of one attention head where these rows are stored in pairs
	// (the rotary embedding turns row 2i against 2i+1), 0 where they are stored as they are read.
	interleavedHead int
}

// Len returns the number of elements.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes returns the stored size in bytes.
func (t Tensor) Bytes() int64 { return int64(len(t.data)) }

// Matrix returns the number of rows and columns.
func (t Tensor) Matrix() (rows, columns int) {
	rows, columns = 1, 1
	for i, d := range t.Shape {
		if i < len(t.Shape)-1 {
			rows *= d
		} else {
			columns = d
		}
	}
	return rows, columns
}

// RowBytes returns the stored little-endian bytes of row r, without a copy and at any alignment. The
// caller must not change them. It panics when r is out of range or when a row is no whole number of bytes.
func (t Tensor) RowBytes(r int) []byte {
	rows, columns := t.Matrix()
	size := columns * t.DType.Bits()
	if r < 0 || r >= rows || size%8 != 0 {
		panic(fmt.Sprintf("checkpoint: RowBytes(%d) of a tensor of %d rows of %d bits", r, rows, size))
	}
	size /= 8
	r = t.storedRow(r)
	return t.data[r*size : (r+1)*size : (r+1)*size]
}

// storedRow maps row r in rotate-half order to its place in the file. Within a head of n rows, row i < n/2
// and row i + n/2 form the pair i, which llama2.c stores at 2i and 2i+1.
func (t Tensor) storedRow(r int) int {
	n := t.interleavedHead
	if n == 0 {
		return r
	}
	head, i := r-r%n, r%n
	if i < n/2 {
		return head + 2*i
	}
	return head + 2*(i-n/2) + 1
}

// Float32 widens the whole tensor to float32 in row-major order (F64 is rounded to nearest). It uses dst
// when that has the capacity, else a new slice, and returns the slice of Len values. An integer tensor,
// a NaN, an infinity, or an F64 value beyond float32 is an error.
func (t Tensor) Float32(dst []float32) ([]float32, error) {
	dst = resize(dst, t.Len())
	return dst, t.read(dst, 0, math.MaxInt, true)
}

// Float32Unchecked is Float32 for tensors that are no weights, such as captured activations: NaN and
// infinities pass, and F64 values beyond float32 become infinite.
func (t Tensor) Float32Unchecked(dst []float32) ([]float32, error) {
	dst = resize(dst, t.Len())
	return dst, t.read(dst, 0, math.MaxInt, false)
}

// Rows widens rows r0 to r1-1 into dst, which must hold (r1-r0) x columns values. Errors are those of
// Float32; a range outside the tensor and a short dst are errors too.
func (t Tensor) Rows(dst []float32, r0, r1 int) error {
	if err := t.checkRows(len(dst), r0, r1); err != nil {
		return err
	}
	return t.read(dst, r0, r1, true)
}

// Rows16 copies rows r0 to r1-1 of a BF16 or F16 tensor into dst as bit patterns, without widening them.
// Errors are those of Rows, and that of another type.
func (t Tensor) Rows16(dst []uint16, r0, r1 int) error {
	if t.DType != BF16 && t.DType != F16 {
		return t.errorf("has dtype %s, which has no 16-bit patterns (BF16, F16)", t.DType)
	}
	_, columns := t.Matrix()
	if err := t.checkRows(len(dst), r0, r1); err != nil {
		return err
	}
	infinity := uint16(0x7f80)
	if t.DType == F16 {
		infinity = 0x7c00
	}
	return t.m.guard(func() error {
		for r := r0; r < r1; r++ {
			row, out := t.RowBytes(r), dst[(r-r0)*columns:][:columns]
			special := false
			for i := range out {
				v := binary.LittleEndian.Uint16(row[2*i:])
				special = special || v&infinity == infinity
				out[i] = v
			}
			if special {
				return t.notFinite(row, slices.IndexFunc(out, func(v uint16) bool { return v&infinity == infinity }), r*columns)
			}
		}
		return nil
	})
}

// checkRows is the error of a range outside the tensor or of room for fewer values than it has.
func (t Tensor) checkRows(room, r0, r1 int) error {
	rows, columns := t.Matrix()
	if r0 < 0 || r1 < r0 || r1 > rows {
		return t.errorf("has %d rows, %d to %d asked for", rows, r0, r1)
	}
	if room < (r1-r0)*columns {
		return t.errorf("has %d values in rows %d to %d, the destination holds %d", (r1-r0)*columns, r0, r1, room)
	}
	return nil
}

// Release says that rows r0 to r1-1 are not needed for now: where the file is mapped, its pages that hold nothing else
// leave the process's resident memory. Reading them again gives the same values.
func (t Tensor) Release(r0, r1 int) {
	rows, columns := t.Matrix()
	bits := columns * t.DType.Bits()
	if n := t.interleavedHead; n > 0 { // rows change places within a head
		r0, r1 = r0-r0%n, min(rows, (r1+n-1)/n*n)
	}
	if r0 < 0 || r1 <= r0 || r1 > rows {
		return
	}
	t.m.release(t.data[r0*bits/8 : min(len(t.data), (r1*bits+7)/8)])
}

// read widens rows r0 to r1-1, at most the last one, into dst. With finite set, NaN and infinities are errors.
func (t Tensor) read(dst []float32, r0, r1 int, finite bool) error {
	if !t.DType.IsFloat() {
		return t.errorf("has dtype %s, which is not a float type (F64, F32, F16, BF16)", t.DType)
	}
	rows, columns := t.Matrix()
	r1 = min(r1, rows)
	return t.m.guard(func() error {
		if t.interleavedHead == 0 {
			size := columns * t.DType.Bits() / 8
			return t.widen(dst[:(r1-r0)*columns], t.data[r0*size:r1*size], r0*columns, finite)
		}
		for r := r0; r < r1; r++ {
			if err := t.widen(dst[(r-r0)*columns:(r-r0+1)*columns], t.RowBytes(r), r*columns, finite); err != nil {
				return err
			}
		}
		return nil
	})
}

// widen converts len(dst) elements of src. first is the index of the first one in the tensor.
func (t Tensor) widen(dst []float32, src []byte, first int, finite bool) error {
	var special bool // an element is NaN or infinite
	switch t.DType {
	case F32:
		special = widenF32(dst, src)
	case BF16:
		special = widenBF16(dst, src)
	case F16:
		special = widenF16(dst, src)
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
			special = special || math.Float32bits(dst[i])&0x7f800000 == 0x7f800000
		}
	}
	if !special || !finite {
		return nil
	}
	at := slices.IndexFunc(dst, func(f float32) bool { return math.Float32bits(f)&0x7f800000 == 0x7f800000 })
	return t.notFinite(src, at, first)
}

// The three functions below convert len(dst) elements, 8 bytes at a time, and report whether one is NaN or
// infinite. Adding 1 to the exponent field carries into the sign bit exactly when the exponent is all ones.

func widenF32(dst []float32, src []byte) bool {
	var carry uint64
	for len(dst) >= 2 && len(src) >= 8 {
		w := binary.LittleEndian.Uint64(src)
		carry |= w&0x7f800000_7f800000 + 0x00800000_00800000
		dst[0] = math.Float32frombits(uint32(w))
		dst[1] = math.Float32frombits(uint32(w >> 32))
		dst, src = dst[2:], src[8:]
	}
	for i := range dst {
		bits := binary.LittleEndian.Uint32(src[4*i:])
		carry |= uint64(bits&0x7f800000 + 0x00800000)
		dst[i] = math.Float32frombits(bits)
	}
	return carry&0x80000000_80000000 != 0
}

func widenBF16(dst []float32, src []byte) bool {
	var carry uint64
	for len(dst) >= 4 && len(src) >= 8 {
		w := binary.LittleEndian.Uint64(src)
		carry |= w&0x7f80_7f80_7f80_7f80 + 0x0080_0080_0080_0080
		dst[0] = BFloat16ToFloat32(uint16(w))
		dst[1] = BFloat16ToFloat32(uint16(w >> 16))
		dst[2] = BFloat16ToFloat32(uint16(w >> 32))
		dst[3] = BFloat16ToFloat32(uint16(w >> 48))
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		b := binary.LittleEndian.Uint16(src[2*i:])
		carry |= uint64(b&0x7f80 + 0x0080)
		dst[i] = BFloat16ToFloat32(b)
	}
	return carry&0x8000_8000_8000_8000 != 0
}

func widenF16(dst []float32, src []byte) bool {
	var carry uint64
	for len(dst) >= 4 && len(src) >= 8 {
		w := binary.LittleEndian.Uint64(src)
		carry |= w&0x7c00_7c00_7c00_7c00 + 0x0400_0400_0400_0400
		dst[0] = Float16ToFloat32(uint16(w))
		dst[1] = Float16ToFloat32(uint16(w >> 16))
		dst[2] = Float16ToFloat32(uint16(w >> 32))
		dst[3] = Float16ToFloat32(uint16(w >> 48))
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		h := binary.LittleEndian.Uint16(src[2*i:])
		carry |= uint64(h&0x7c00 + 0x0400)
		dst[i] = Float16ToFloat32(h)
	}
	return carry&0x8000_8000_8000_8000 != 0
}

// notFinite makes the error for element at of src, which is element first+at of the tensor.
func (t Tensor) notFinite(src []byte, at, first int) error {
	var f float64
	switch t.DType {
	case F32:
		f = float64(math.Float32frombits(binary.LittleEndian.Uint32(src[4*at:])))
	case BF16:
		f = float64(BFloat16ToFloat32(binary.LittleEndian.Uint16(src[2*at:])))
	case F16:
		f = float64(Float16ToFloat32(binary.LittleEndian.Uint16(src[2*at:])))
	case F64:
		f = math.Float64frombits(binary.LittleEndian.Uint64(src[8*at:]))
	}
	_, columns := t.Matrix()
	what := strconv.FormatFloat(f, 'g', -1, 64)
	if !math.IsNaN(f) && !math.IsInf(f, 0) {
		what += ", beyond float32"
	}
	return t.errorf("contains %s (row %d, column %d)", what, (first+at)/columns, (first+at)%columns)
}

// Float64 returns the whole tensor as float64 in row-major order, exactly. Errors and dst are as in Float32.
func (t Tensor) Float64(dst []float64) ([]float64, error) {
	if t.DType != F64 {
		narrow, err := t.Float32(nil)
		if err != nil {
			return nil, err
		}
		dst = resize(dst, len(narrow))
		for i, f := range narrow {
			dst[i] = float64(f)
		}
		return dst, nil
	}
	dst = resize(dst, t.Len())
	return dst, t.m.guard(func() error {
		for i := range dst {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(t.data[8*i:]))
			if math.IsNaN(dst[i]) || math.IsInf(dst[i], 0) {
				return t.notFinite(t.data, i, 0)
			}
		}
		return nil
	})
}

// Int64 returns the whole tensor of any integer type (BOOL as 0 and 1) in row-major order. It uses dst
// when that has the capacity. A float tensor and a U64 value beyond int64 are errors.
func (t Tensor) Int64(dst []int64) ([]int64, error) {
	dst = resize(dst, t.Len())
	err := t.m.guard(func() error {
		for i := range dst {
			switch t.DType {
			case I64:
				dst[i] = int64(binary.LittleEndian.Uint64(t.data[8*i:]))
			case U64:
				u := binary.LittleEndian.Uint64(t.data[8*i:])
				if u > math.MaxInt64 {
					return t.errorf("contains %d (element %d), beyond int64", u, i)
				}
				dst[i] = int64(u)
			case I32:
				dst[i] = int64(int32(binary.LittleEndian.Uint32(t.data[4*i:])))
			case U32:
				dst[i] = int64(binary.LittleEndian.Uint32(t.data[4*i:]))
			case I16:
				dst[i] = int64(int16(binary.LittleEndian.Uint16(t.data[2*i:])))
			case U16:
				dst[i] = int64(binary.LittleEndian.Uint16(t.data[2*i:]))
			case I8:
				dst[i] = int64(int8(t.data[i]))
			case U8, Bool:
				dst[i] = int64(t.data[i])
			default:
				return t.errorf("has dtype %s, which is not an integer type", t.DType)
			}
		}
		return nil
	})
	return dst, err
}

// Int32 is Int64 for values that fit int32; others are errors.
func (t Tensor) Int32(dst []int32) ([]int32, error) {
	wide, err := t.Int64(nil)
	if err != nil {
		return nil, err
	}
	dst = resize(dst, len(wide))
	for i, v := range wide {
		if dst[i] = int32(v); int64(dst[i]) != v {
			return nil, t.errorf("contains %d (element %d), beyond int32", v, i)
		}
	}
	return dst, nil
}

// errorf makes an error that names the file and the tensor. The format is a verb phrase that follows the name.
func (t Tensor) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: tensor %s%s %s", t.m.path, printable(t.Name), t.within, fmt.Sprintf(format, args...))
}

// part returns rows r0 to r1-1 of the matrix t under another name, without a copy. t is stored in rotate-half order,
// and a row is a whole number of bytes.
func (t Tensor) part(name string, r0, r1 int) Tensor {
	_, columns := t.Matrix()
	size := columns * t.DType.Bits() / 8
	return Tensor{
		Name:   name,
		DType:  t.DType,
		Shape:  []int{r1 - r0, columns},
		m:      t.m,
		data:   t.data[r0*size : r1*size : r1*size],
		within: fmt.Sprintf(" (rows %d to %d of %s)", r0, r1-1, printable(t.Name)),
	}
}

func resize[T any](s []T, n int) []T {
	if cap(s) >= n {
		return s[:n]
	}
	return make([]T, n)
}

// shapeText writes a shape as [rows, columns].
func shapeText(shape []int) string {
	b := []byte{'['}
	for i, d := range shape {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	return shorten(string(append(b, ']')))
}

// sameValues reports whether a and b hold the same numbers, bit for bit where the types agree.
func sameValues(a, b Tensor) (bool, error) {
	if !slices.Equal(a.Shape, b.Shape) {
		return false, nil
	}
	rows, columns := a.Matrix()
	x, y := make([]float32, columns), make([]float32, columns)
	for r := range rows {
		if err := a.Rows(x, r, r+1); err != nil {
			return false, err
		}
		if err := b.Rows(y, r, r+1); err != nil {
			return false, err
		}
		if !slices.Equal(x, y) {
			return false, nil
		}
	}
	return true, nil
}
