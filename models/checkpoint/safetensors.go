package checkpoint

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// maxHeader is the longest safetensors header accepted, in bytes. The reference library has the same limit.
const maxHeader = 100_000_000

// metadataKey is the header entry that is no tensor.
const metadataKey = "__metadata__"

// File is an open safetensors file: a checked header over mapped bytes. Its methods may be called from
// several goroutines; Close ends the life of every tensor it returned.
type File struct {
	m        *mapping
	tensors  map[string]Tensor
	names    []string // sorted
	metadata map[string]string
}

// OpenSafetensors maps the safetensors file at path and checks its header: the JSON is strict (UTF-8, no
// key twice), shapes and offsets agree, and the tensors cover the data without overlap, gap or rest. The
// values of the tensors are not read.
func OpenSafetensors(path string) (*File, error) {
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	var f *File
	if err := m.guard(func() (err error) { f, err = parseSafetensors(m); return err }); err != nil {
		m.close()
		return nil, err
	}
	return f, nil
}

// Path returns the path the file was opened by.
func (f *File) Path() string { return f.m.path }

// Names returns the names of all tensors, sorted.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Tensor returns the tensor called name, and whether the file has it.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Metadata returns a copy of the free text entries of the header; empty when there are none.
func (f *File) Metadata() map[string]string {
	m := make(map[string]string, len(f.metadata))
	maps.Copy(m, f.metadata)
	return m
}

// Close releases the mapping. Calling it again does nothing.
func (f *File) Close() error { return f.m.close() }

// extent is the place of one tensor in the data part of a file, as the header says.
type extent struct {
	name       string
	begin, end uint64
}

// parseSafetensors reads and checks the header of m.
func parseSafetensors(m *mapping) (*File, error) {
	fail := func(format string, args ...any) (*File, error) {
		return nil, fmt.Errorf("%s: %w", m.path, fmt.Errorf(format, args...))
	}
	size := uint64(len(m.data))
	switch {
	case size == 0:
		return fail("the file is empty, expected a safetensors header")
	case size < 8:
		return fail("%d bytes are too few for a safetensors header (it needs 8 for its length)", size)
	case isGitLFS(m.data):
		return fail("%w", errGitLFS)
	}
	length := binary.LittleEndian.Uint64(m.data)
	switch {
	case length == 0:
		return fail("a header of 0 bytes is not JSON: not a safetensors file")
	case length > size-8:
		return fail("the header says %d bytes, but only %d follow: the file is truncated or not safetensors", length, size-8)
	case length > maxHeader:
		return fail("the header has %d bytes, expected at most %d", length, maxHeader)
	}
	header, data := m.data[8:8+length], m.data[8+length:]

	f := &File{m: m, tensors: make(map[string]Tensor)}
	var extents []extent
	s := &scanner{data: header}
	err := s.document(func() error {
		if strings.IndexByte(`["-0123456789tfn`, s.peek()) >= 0 {
			return errors.New("the header must be a JSON object")
		}
		return s.object(func(name string) error {
			if name == metadataKey {
				return f.readMetadata(s)
			}
			t, e, err := readTensorInfo(s, name, uint64(len(data)))
			if err != nil {
				return fmt.Errorf("tensor %s: %w", printable(name), err)
			}
			t.m = m
			f.tensors[name] = t
			extents = append(extents, e)
			return nil
		})
	})
	var syntax *syntaxError
	switch duplicate, top := err.(*duplicateKeyError); {
	case top:
		return fail("tensor %s is declared twice in the header", printable(duplicate.key))
	case errors.As(err, &syntax):
		return fail("the header %w", err)
	case err != nil:
		return fail("%w", err)
	}
	if err := checkExtents(extents, uint64(len(data))); err != nil {
		return fail("%w", err)
	}
	for _, e := range extents {
		t := f.tensors[e.name]
		t.data = data[e.begin:e.end:e.end]
		f.tensors[e.name] = t
	}
	f.names = slices.Sorted(maps.Keys(f.tensors))
	return f, nil
}

func (f *File) readMetadata(s *scanner) error {
	if s.peek() != '{' {
		return fmt.Errorf("%s must be an object", metadataKey)
	}
	f.metadata = make(map[string]string)
	err := s.object(func(key string) error {
		if s.peek() != '"' {
			return fmt.Errorf("value of %s must be a string", printable(key))
		}
		text, err := s.text()
		f.metadata[key] = text
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", metadataKey, err)
	}
	return nil
}

// readTensorInfo reads one entry of the header. dataSize is the number of bytes after the header.
func readTensorInfo(s *scanner, name string, dataSize uint64) (Tensor, extent, error) {
	t := Tensor{Name: name, Shape: []int{}}
	e := extent{name: name}
	if s.peek() != '{' {
		return t, e, errors.New("its entry must be an object with dtype, shape and data_offsets")
	}
	var hasDType, hasShape bool
	var offsets []uint64
	err := s.object(func(key string) error {
		switch key {
		case "dtype":
			if s.peek() != '"' {
				return errors.New("dtype must be a string")
			}
			text, err := s.text()
			if err != nil {
				return err
			}
			t.DType, hasDType = DType(text), true
			if t.DType.Bits() == 0 {
				return fmt.Errorf("unknown dtype %s", printable(text))
			}
			return nil
		case "shape":
			hasShape = true
			if s.peek() != '[' {
				return errors.New("shape must be a list of integers")
			}
			return s.array(func() error {
				d, err := readSize(s, "dimension")
				if err == nil && d > math.MaxInt {
					err = fmt.Errorf("shape too large: dimension %d", d)
				}
				t.Shape = append(t.Shape, int(d))
				return err
			})
		case "data_offsets":
			if s.peek() != '[' {
				return errors.New("data_offsets must be a list of two integers")
			}
			return s.array(func() error {
				at, err := readSize(s, "offset")
				if len(offsets) == 2 {
					return errors.New("data_offsets must be two integers, got more")
				}
				offsets = append(offsets, at)
				return err
			})
		}
		return fmt.Errorf("unknown key %s, expected dtype, shape and data_offsets", printable(key))
	})
	switch {
	case err != nil:
		return t, e, err
	case !hasDType:
		return t, e, errors.New("dtype is missing")
	case !hasShape:
		return t, e, errors.New("shape is missing")
	case len(offsets) != 2:
		return t, e, errors.New("data_offsets must be two integers")
	}
	e.begin, e.end = offsets[0], offsets[1]
	if e.end < e.begin {
		return t, e, fmt.Errorf("data_offsets end before they begin (%d, %d)", e.begin, e.end)
	}
	want := uint64(1)
	for _, d := range append([]int{t.DType.Bits()}, t.Shape...) {
		var high uint64
		if high, want = bits.Mul64(want, uint64(d)); high != 0 || want > math.MaxInt64 {
			return t, e, fmt.Errorf("shape %s is too large: its size overflows 64 bits", shapeText(t.Shape))
		}
	}
	switch {
	case want%8 != 0:
		return t, e, fmt.Errorf("shape %s of dtype %s is no whole number of bytes", shapeText(t.Shape), t.DType)
	case want/8 == e.end-e.begin:
		return t, e, nil
	case e.end > dataSize:
		return t, e, fmt.Errorf("ends %d bytes after the end of the data, and its shape %s of %s needs %d bytes but the offsets span %d",
			e.end-dataSize, shapeText(t.Shape), t.DType, want/8, e.end-e.begin)
	}
	return t, e, fmt.Errorf("shape %s of %s needs %d bytes, but its data_offsets span %d", shapeText(t.Shape), t.DType, want/8, e.end-e.begin)
}

// readSize reads an integer from 0 to 2^63-1.
func readSize(s *scanner, what string) (uint64, error) {
	v, err := s.raw()
	if err != nil {
		return 0, err
	}
	if !v.isNumber() || strings.ContainsAny(string(v), ".eE") {
		return 0, fmt.Errorf("%s is not an integer: %s", what, v)
	}
	if v[0] == '-' {
		return 0, fmt.Errorf("negative %s %s", what, v)
	}
	n, err := strconv.ParseUint(string(v), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s %s is too large", what, v)
	}
	return n, nil
}

// checkExtents verifies that the tensors cover the dataSize bytes of data exactly.
func checkExtents(extents []extent, dataSize uint64) error {
	slices.SortFunc(extents, func(a, b extent) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), strings.Compare(a.name, b.name))
	})
	var covered uint64 // bytes from the start that belong to tensors
	var last string
	for _, e := range extents {
		name := printable(e.name)
		switch {
		case e.begin < covered && e.begin != e.end:
			return fmt.Errorf("tensor %s overlaps %s by %d bytes", name, last, min(covered, e.end)-e.begin)
		case e.begin > covered && e.begin > dataSize:
			return fmt.Errorf("tensor %s lies outside the file: it begins at byte %d of %d bytes of data", name, e.begin, dataSize)
		case e.begin > covered && e.end > dataSize:
			return fmt.Errorf("tensor %s ends %d bytes after the end of the data", name, e.end-dataSize)
		case e.begin > covered:
			return fmt.Errorf("%d bytes before tensor %s belong to no tensor", e.begin-covered, name)
		}
		if e.end > covered {
			covered, last = e.end, name
		}
	}
	switch {
	case covered > dataSize:
		return fmt.Errorf("the file is truncated: tensor %s ends at byte %d of the data, which has %d: %d bytes are missing", last, covered, dataSize, covered-dataSize)
	case covered < dataSize:
		return fmt.Errorf("%d bytes after the last tensor belong to no tensor", dataSize-covered)
	}
	return nil
}
