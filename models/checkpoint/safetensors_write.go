package checkpoint

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// NamedTensor is a tensor to be written.
type NamedTensor struct {
	Name  string
	DType DType // when empty: the type of Data's elements
	Shape []int
	// Data holds the elements in row-major order: []float32 (stored as F32, or rounded to nearest even
	// as F16 or BF16), []float64 (F64), []int64 (I64), []int32 (I32), []int16 (I16), []int8 (I8), or
	// []byte with the stored little-endian bytes of any DType (U8 when DType is empty).
	Data any
}

// WriteSafetensors writes tensors to w as one safetensors file. The bytes depend on the arguments alone,
// and not on the order of tensors: they are those that the reference library writes, sorted by type with
// the larger elements first, then by name, so that each tensor starts at a multiple of its element size. A name used twice, data that do not fit the shape or the type,
// and a finite value that F16 or BF16 cannot hold are errors; the last one is found while writing.
func WriteSafetensors(w io.Writer, tensors []NamedTensor, metadata map[string]string) error {
	sorted := slices.Clone(tensors)
	for i := range sorted {
		t := &sorted[i]
		natural, bytes, err := elementType(t.Data)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", printable(t.Name), err)
		}
		t.DType = cmp.Or(t.DType, natural)
		if err := checkNamed(*t, natural, bytes); err != nil {
			return fmt.Errorf("tensor %s: %w", printable(t.Name), err)
		}
	}
	slices.SortFunc(sorted, func(a, b NamedTensor) int {
		return cmp.Or(cmp.Compare(dtypeRank[b.DType], dtypeRank[a.DType]), cmp.Compare(a.Name, b.Name))
	})

	seen := make(map[string]bool)
	header := []byte{'{'}
	if len(metadata) > 0 {
		header = append(header, `"`+metadataKey+`":{`...)
		for i, key := range slices.Sorted(maps.Keys(metadata)) {
			if !utf8.ValidString(key) || !utf8.ValidString(metadata[key]) {
				return fmt.Errorf("metadata %s is not UTF-8", printable(key))
			}
			if i > 0 {
				header = append(header, ',')
			}
			header = appendJSON(append(appendJSON(header, key), ':'), metadata[key])
		}
		header = append(header, '}')
	}
	var offset int64
	for _, t := range sorted {
		if seen[t.Name] {
			return fmt.Errorf("tensor %s is given twice", printable(t.Name))
		}
		seen[t.Name] = true
		if len(header) > 1 {
			header = append(header, ',')
		}
		size := int64(Tensor{Shape: t.Shape}.Len()) * int64(t.DType.Bits()) / 8
		header = append(appendJSON(header, t.Name), `:{"dtype":`...)
		header = append(appendJSON(header, t.DType), `,"shape":`...)
		header = append(appendJSON(header, append([]int{}, t.Shape...)), `,"data_offsets":`...)
		header = append(appendJSON(header, []int64{offset, offset + size}), '}')
		offset += size
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if len(header) > maxHeader {
		return fmt.Errorf("the header would have %d bytes, at most %d are allowed", len(header), maxHeader)
	}

	out := bufio.NewWriterSize(w, 1<<16)
	out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) // errors stick to out until Flush
	out.Write(header)
	for _, t := range sorted {
		if err := writeData(out, t); err != nil {
			return fmt.Errorf("tensor %s: %w", printable(t.Name), err)
		}
	}
	return out.Flush()
}

// dtypeRank orders the types as the reference library does, by rising alignment.
var dtypeRank = func() map[DType]int {
	rank := make(map[DType]int)
	for i, d := range []DType{
		Bool, F4, F6E2M3, F6E3M2, U8, I8, F8E5M2, F8E4M3, F8E8M0, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64,
	} {
		rank[d] = i
	}
	return rank
}()

// elementType returns the type that data is stored as by itself, and its size in bytes then.
func elementType(data any) (DType, int, error) {
	switch d := data.(type) {
	case []float32:
		return F32, 4 * len(d), nil
	case []float64:
		return F64, 8 * len(d), nil
	case []int64:
		return I64, 8 * len(d), nil
	case []int32:
		return I32, 4 * len(d), nil
	case []int16:
		return I16, 2 * len(d), nil
	case []int8:
		return I8, len(d), nil
	case []byte:
		return U8, len(d), nil
	}
	return "", 0, fmt.Errorf("data of type %T cannot be written", data)
}

// checkNamed verifies the name, the type and the shape of t, whose Data are natural elements in size bytes.
func checkNamed(t NamedTensor, natural DType, size int) error {
	if t.Name == metadataKey || !utf8.ValidString(t.Name) {
		return errors.New("not a name that a tensor can have")
	}
	if t.DType.Bits() == 0 {
		return fmt.Errorf("unknown dtype %s", printable(string(t.DType)))
	}
	elements := size * 8 / natural.Bits()
	if natural == U8 { // stored bytes of any type
		if size*8%t.DType.Bits() != 0 {
			return fmt.Errorf("%d bytes are no whole number of %s elements", size, t.DType)
		}
		elements = size * 8 / t.DType.Bits()
	} else if t.DType != natural && (natural != F32 || t.DType != F16 && t.DType != BF16) {
		return fmt.Errorf("%T cannot be stored as %s", t.Data, t.DType)
	}
	want := 1
	for _, d := range t.Shape {
		if d < 0 || d > 0 && want > math.MaxInt/d {
			return fmt.Errorf("shape %s is not possible", shapeText(t.Shape))
		}
		want *= d
	}
	if want != elements {
		return fmt.Errorf("shape %s has %d elements, but %d are given", shapeText(t.Shape), want, elements)
	}
	return nil
}

// writeData writes the elements of t. Errors of the writer stay in out until its Flush.
func writeData(out *bufio.Writer, t NamedTensor) error {
	switch d := t.Data.(type) {
	case []float32:
		if t.DType != F32 {
			return writeNarrow(out, d, t.DType)
		}
		writeElements(out, d)
	case []float64:
		writeElements(out, d)
	case []int64:
		writeElements(out, d)
	case []int32:
		writeElements(out, d)
	case []int16:
		writeElements(out, d)
	case []int8:
		writeElements(out, d)
	case []byte:
		out.Write(d)
	}
	return nil
}

func writeElements[T any](out *bufio.Writer, elements []T) {
	for part := range slices.Chunk(elements, 1<<12) { // binary.Write makes a copy of what it is given
		binary.Write(out, binary.LittleEndian, part)
	}
}

// writeNarrow writes values as F16 or BF16.
func writeNarrow(out *bufio.Writer, values []float32, dtype DType) error {
	convert, infinity := Float32ToFloat16, uint16(0x7c00)
	if dtype == BF16 {
		convert, infinity = Float32ToBFloat16, 0x7f80
	}
	var buf [2]byte
	for i, v := range values {
		h := convert(v)
		if h&0x7fff == infinity && !math.IsInf(float64(v), 0) {
			return fmt.Errorf("element %d is %g, beyond %s", i, v, dtype)
		}
		binary.LittleEndian.PutUint16(buf[:], h)
		out.Write(buf[:])
	}
	return nil
}

// appendJSON appends v, a string or numbers, which always have a JSON form.
func appendJSON[T ~string | []int | []int64](dst []byte, v T) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
