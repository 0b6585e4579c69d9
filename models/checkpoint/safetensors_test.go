package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// blob puts a header before data.
func blob(header string, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

// parse reads a file from memory.
func parse(data []byte) (*File, error) {
	m := &mapping{path: "x.safetensors", data: data}
	return parseSafetensors(m)
}

func TestHeaderRefusals(t *testing.T) {
	entry := func(s string) string { return `{"a":` + s + `}` }
	for _, c := range []struct {
		name, header string
		data         int // bytes after the header
		want         []string
	}{
		{"spaces only", "    ", 0, []string{"not JSON", "unexpected end"}},
		{"text after the object", `{} x`, 0, []string{"not JSON", "'x'"}},
		{"metadata number", `{"__metadata__":{"a":1}}`, 0, []string{"__metadata__", "a must be a string"}},
		{"metadata list", `{"__metadata__":[]}`, 0, []string{"__metadata__ must be an object"}},
		{"metadata twice", `{"__metadata__":{},"__metadata__":{}}`, 0, []string{"__metadata__", "twice"}},
		{"metadata key twice", `{"__metadata__":{"k":"1","k":"2"}}`, 0, []string{"__metadata__", "key k is declared twice"}},
		{"entry null", entry(`null`), 0, []string{"tensor a", "object"}},
		{"no dtype", entry(`{"shape":[],"data_offsets":[0,0]}`), 0, []string{"tensor a", "dtype is missing"}},
		{"no shape", entry(`{"dtype":"U8","data_offsets":[0,0]}`), 0, []string{"tensor a", "shape is missing"}},
		{"no offsets", entry(`{"dtype":"U8","shape":[0]}`), 0, []string{"tensor a", "data_offsets"}},
		{"one offset", entry(`{"dtype":"U8","shape":[0],"data_offsets":[0]}`), 0, []string{"tensor a", "two integers"}},
		{"three offsets", entry(`{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}`), 0, []string{"tensor a", "got more"}},
		{"offset text", entry(`{"dtype":"U8","shape":[0],"data_offsets":["0",0]}`), 0, []string{"tensor a", "offset is not an integer"}},
		{"offset exponent", entry(`{"dtype":"U8","shape":[0],"data_offsets":[0e0,0]}`), 0, []string{"tensor a", "offset is not an integer"}},
		{"offset 2^64", entry(`{"dtype":"U8","shape":[0],"data_offsets":[0,18446744073709551616]}`), 0, []string{"tensor a", "too large"}},
		{"dtype number", entry(`{"dtype":8,"shape":[0],"data_offsets":[0,0]}`), 0, []string{"tensor a", "dtype must be a string"}},
		{"dtype twice", entry(`{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}`), 0, []string{"tensor a", "key dtype is declared twice"}},
		{"shape number", entry(`{"dtype":"U8","shape":0,"data_offsets":[0,0]}`), 0, []string{"tensor a", "shape must be a list"}},
		{"unknown key", entry(`{"dtype":"U8","shape":[0],"data_offsets":[0,0],"scale":1}`), 0, []string{"tensor a", "unknown key scale"}},
		{"overflow before a zero", entry(`{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}`), 0, []string{"tensor a", "too large"}},
		{"half bytes", entry(`{"dtype":"F4","shape":[3],"data_offsets":[0,1]}`), 1, []string{"tensor a", "no whole number of bytes"}},
		{"deep", entry(`{"dtype":` + strings.Repeat(`{"a":`, 500)), 0, []string{"tensor a", "dtype must be a string"}},
		{"deep in metadata", `{"__metadata__":{"a":` + strings.Repeat("[", 500), 0, []string{"a must be a string"}},
		{"control character in a name", "{\"a\nb\":1}", 0, []string{"not JSON", "control character"}},
		{"hostile name", `{"a\nb":1}`, 0, []string{`tensor "a\nb"`}},
		{"long name", `{"` + strings.Repeat("n", 1<<16) + `":1}`, 0, []string{"nnn..."}},
		{"half a surrogate pair", `{"\ud800":1}`, 0, []string{"not JSON", "surrogate"}},
		{"inside another", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 4,
			[]string{"tensor b overlaps a by 1 bytes"}},
		{"same place", `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4,
			[]string{"tensor b overlaps a by 4 bytes"}},
	} {
		_, err := parse(blob(c.header, make([]byte, c.data)...))
		t.Run(c.name, func(t *testing.T) {
			wantError(t, err, append(c.want, "x.safetensors: ")...)
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestHeaderLimit(t *testing.T) {
	data := make([]byte, maxHeader+9)
	binary.LittleEndian.PutUint64(data, maxHeader+1)
	_, err := parse(data)
	wantError(t, err, "expected at most 100000000")
}

// TestTensorViews checks every dtype against values written by hand.
func TestTensorViews(t *testing.T) {
	header := `{"f4":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},` +
		`"i8":{"dtype":"I8","shape":[2],"data_offsets":[1,3]},` +
		`"u16":{"dtype":"U16","shape":[1],"data_offsets":[3,5]},` +
		`"f16":{"dtype":"F16","shape":[2,1],"data_offsets":[5,9]},` +
		`"bf16":{"dtype":"BF16","shape":[1,2],"data_offsets":[9,13]},` +
		`"i32":{"dtype":"I32","shape":[],"data_offsets":[13,17]},` +
		`"f64":{"dtype":"F64","shape":[2],"data_offsets":[17,33]},` +
		`"u64":{"dtype":"U64","shape":[1],"data_offsets":[33,41]},` +
		`"bool":{"dtype":"BOOL","shape":[2],"data_offsets":[41,43]},` +
		`"i64":{"dtype":"I64","shape":[1],"data_offsets":[43,51]},` +
		`"none":{"dtype":"F32","shape":[0,7],"data_offsets":[51,51]},` +
		`"u32":{"dtype":"U32","shape":[1],"data_offsets":[51,55]},` +
		`"i16":{"dtype":"I16","shape":[1],"data_offsets":[55,57]},` +
		`"u8":{"dtype":"U8","shape":[1],"data_offsets":[57,58]}}`
	data := []byte{0x21, 0xff, 0x7f, 0xff, 0xff}
	data = append(data, 0x00, 0x3c, 0x00, 0xc0) // 1, -2
	data = append(data, 0x80, 0x3f, 0x49, 0xc0) // 1, -3.140625
	data = append(data, 0xfe, 0xff, 0xff, 0xff) // -2
	data = binary.LittleEndian.AppendUint64(data, math.Float64bits(1.0/3))
	data = binary.LittleEndian.AppendUint64(data, math.Float64bits(-1e300))
	data = binary.LittleEndian.AppendUint64(data, 1<<63)
	data = append(data, 0, 1)
	data = binary.LittleEndian.AppendUint64(data, 1<<63)
	data = append(data, 0xff, 0xff, 0xff, 0xff, 0x00, 0x80, 0xff)
	f, err := parse(blob(header, data...))
	if err != nil {
		t.Fatal(err)
	}
	get := func(name string) Tensor {
		v, ok := f.Tensor(name)
		if !ok {
			t.Fatalf("no tensor %s", name)
		}
		return v
	}
	for name, want := range map[string][]int64{
		"i8": {-1, 127}, "u16": {65535}, "i32": {-2}, "bool": {0, 1}, "i64": {math.MinInt64}, "u32": {math.MaxUint32}, "i16": {-32768}, "u8": {255},
	} {
		if got, err := get(name).Int64(nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	for name, want := range map[string][]float32{"f16": {1, -2}, "bf16": {1, -3.140625}, "none": {}} {
		if got, err := get(name).Float32(nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	if got, err := get("f64").Float64(nil); err != nil || got[0] != 1.0/3 || got[1] != -1e300 {
		t.Errorf("f64: %v, %v", got, err)
	}
	if got, err := get("f64").Float32Unchecked(nil); err != nil || got[0] != float32(1.0/3) || !math.IsInf(float64(got[1]), -1) {
		t.Errorf("f64 unchecked: %v, %v", got, err)
	}
	_, err = get("f64").Float32(nil)
	wantError(t, err, "tensor f64 contains -1e+300, beyond float32 (row 0, column 1)")
	_, err = get("u64").Int64(nil)
	wantError(t, err, "tensor u64", "9223372036854775808", "int64")
	_, err = get("u32").Int32(nil)
	wantError(t, err, "tensor u32", "4294967295", "int32")
	_, err = get("f16").Int64(nil)
	wantError(t, err, "tensor f16", "not an integer type")
	_, err = get("i8").Float32(nil)
	wantError(t, err, "tensor i8", "not a float type")
	_, err = get("f4").Float64(nil)
	wantError(t, err, "tensor f4", "not a float type")
	if v := get("f4"); v.Len() != 2 || v.Bytes() != 1 {
		t.Errorf("f4 has %d elements in %d bytes, want 2 in 1", v.Len(), v.Bytes())
	}

	// Rows and columns.
	if r, c := get("f16").Matrix(); r != 2 || c != 1 {
		t.Errorf("f16 is %dx%d", r, c)
	}
	if r, c := get("i32").Matrix(); r != 1 || c != 1 {
		t.Errorf("a scalar is %dx%d", r, c)
	}
	dst := []float32{7, 7}
	if err := get("f16").Rows(dst, 1, 2); err != nil || dst[0] != -2 || dst[1] != 7 {
		t.Errorf("row 1: %v, %v", dst, err)
	}
	if got := get("f16").RowBytes(1); !bytes.Equal(got, []byte{0, 0xc0}) {
		t.Errorf("bytes of row 1: %v", got)
	}
	halves := []uint16{7, 7}
	if err := get("f16").Rows16(halves, 1, 2); err != nil || halves[0] != 0xc000 || halves[1] != 7 {
		t.Errorf("patterns of row 1: %#x, %v", halves, err)
	}
	wantError(t, get("f16").Rows16(halves, 1, 3), "has 2 rows, 1 to 3 asked for")
	wantError(t, get("f16").Rows16(halves[:1], 0, 2), "the destination holds 1")
	wantError(t, get("f64").Rows16(halves, 0, 1), "tensor f64 has dtype F64, which has no 16-bit patterns")
	wantError(t, get("f16").Rows(dst, 1, 3), "has 2 rows, 1 to 3 asked for")
	wantError(t, get("f16").Rows(dst, -1, 1), "asked for")
	wantError(t, get("f16").Rows(dst[:1], 0, 2), "the destination holds 1")
	if big := make([]float32, 100); &big[0] != &must(get("f16").Float32(big))[0] {
		t.Error("Float32 does not use the destination's capacity")
	}
	want := []string{"bf16", "bool", "f16", "f4", "f64", "i16", "i32", "i64", "i8", "none", "u16", "u32", "u64", "u8"}
	if got := f.Names(); !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNotFiniteIsNamed(t *testing.T) {
	for dtype, bad := range map[DType][]byte{
		F16:  {0x01, 0x7c},
		BF16: {0xc0, 0xff},
		F32:  {0, 0, 0xc0, 0x7f},
		F64:  {0, 0, 0, 0, 0, 0, 0xf8, 0x7f},
	} {
		size := len(bad)
		data := make([]byte, 6*size)
		copy(data[5*size:], bad)
		var out bytes.Buffer
		if err := WriteSafetensors(&out, []NamedTensor{{Name: "w", DType: dtype, Shape: []int{1, 2, 3}, Data: data}}, nil); err != nil {
			t.Fatal(err)
		}
		w, _ := must(parse(out.Bytes())).Tensor("w")
		_, err := w.Float32(nil)
		wantError(t, err, "tensor w contains NaN (row 1, column 2)")
		_, err = w.Float64(nil)
		wantError(t, err, "tensor w contains NaN (row 1, column 2)")
		wantError(t, w.Rows(make([]float32, 3), 1, 2), "tensor w contains NaN (row 1, column 2)")
		if err := w.Rows(make([]float32, 3), 0, 1); err != nil {
			t.Error(err)
		}
		if size == 2 {
			wantError(t, w.Rows16(make([]uint16, 3), 1, 2), "tensor w contains NaN (row 1, column 2)")
			if err := w.Rows16(make([]uint16, 3), 0, 1); err != nil {
				t.Error(err)
			}
		}
		if got, err := w.Float32Unchecked(nil); err != nil || got[5] == got[5] {
			t.Errorf("%s unchecked: %v, %v", dtype, got, err)
		}
	}
}

// TestReferenceFilesRoundTrip reads every safetensors file of the shared data and writes it again. Files with a
// plain header were written by the reference library, and must come out byte for byte.
func TestReferenceFilesRoundTrip(t *testing.T) {
	files, identical := 0, 0
	err := filepath.WalkDir(sharedDir(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".safetensors" || strings.Contains(path, "corrupt") {
			return err
		}
		files++
		original, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := OpenSafetensors(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var header map[string]json.RawMessage // the outside reader
		length := binary.LittleEndian.Uint64(original)
		if err := json.Unmarshal(original[8:8+length], &header); err != nil {
			return err
		}
		delete(header, metadataKey)
		if len(header) != len(f.Names()) {
			t.Errorf("%s: %d tensors, want %d", path, len(f.Names()), len(header))
		}
		var tensors []NamedTensor
		for name, raw := range header {
			var want struct {
				DType   DType
				Shape   []int
				Offsets [2]uint64 `json:"data_offsets"`
			}
			if err := json.Unmarshal(raw, &want); err != nil {
				return err
			}
			got, ok := f.Tensor(name)
			content := original[8+length+want.Offsets[0] : 8+length+want.Offsets[1]]
			if !ok || got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(got.data, content) {
				t.Errorf("%s: tensor %s differs", path, name)
			}
			tensors = append(tensors, NamedTensor{name, want.DType, want.Shape, content})
		}
		var out bytes.Buffer
		if err := WriteSafetensors(&out, tensors, f.Metadata()); err != nil {
			return err
		}
		if bytes.Equal(out.Bytes(), original) {
			identical++
		} else {
			t.Logf("%s: written differently", path)
		}
		again, err := parse(out.Bytes())
		if err != nil {
			return err
		}
		for _, name := range f.Names() {
			a, _ := f.Tensor(name)
			b, ok := again.Tensor(name)
			if !ok || a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) || !bytes.Equal(a.data, b.data) {
				t.Errorf("%s: tensor %s does not survive the round trip", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files, %d written byte for byte", files, identical)
	if files < 200 || identical < 200 {
		t.Errorf("%d files, %d written byte for byte, want at least 200", files, identical)
	}
}

func TestWriteSafetensors(t *testing.T) {
	tensors := []NamedTensor{
		{Name: "u8", Shape: []int{3}, Data: []byte{1, 2, 3}},
		{Name: "b", Shape: []int{2}, Data: []float32{1, -2}},
		{Name: "half", DType: F16, Shape: []int{1}, Data: []float32{1}},
		{Name: "brain", DType: BF16, Shape: []int{1}, Data: []float32{1}},
		{Name: "a", Shape: []int{}, Data: []float32{0.5}},
		{Name: "long", Shape: []int{1}, Data: []int64{-1}},
		{Name: "q\"<", Shape: []int{1}, Data: []int32{2}},
	}
	want := `{"__metadata__":{"k":"<v>"},"long":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},` +
		`"a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]},` +
		`"q\"<":{"dtype":"I32","shape":[1],"data_offsets":[20,24]},"brain":{"dtype":"BF16","shape":[1],"data_offsets":[24,26]},` +
		`"half":{"dtype":"F16","shape":[1],"data_offsets":[26,28]},"u8":{"dtype":"U8","shape":[3],"data_offsets":[28,31]}}`
	want += strings.Repeat(" ", (8-len(want)%8)%8)
	data := []byte{255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0x3f, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 2, 0, 0, 0, 0x80, 0x3f, 0, 0x3c, 1, 2, 3}
	for range 2 {
		var out bytes.Buffer
		if err := WriteSafetensors(&out, tensors, map[string]string{"k": "<v>"}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(blob(want, data...)), out.String()); diff != "" {
			t.Error(diff)
		}
		slices.Reverse(tensors) // the order of the argument must not matter
	}

	one := func(n NamedTensor) error { return WriteSafetensors(&bytes.Buffer{}, []NamedTensor{n}, nil) }
	f32 := []float32{1, 2}
	wantError(t, one(NamedTensor{"x", "", []int{3}, f32}), "tensor x", "shape [3] has 3 elements, but 2")
	wantError(t, one(NamedTensor{"x", "", []int{-1, -2}, f32}), "tensor x", "not possible")
	wantError(t, one(NamedTensor{"x", I32, []int{2}, f32}), "tensor x", "cannot be stored as I32")
	wantError(t, one(NamedTensor{"x", "F12", []int{2}, f32}), "tensor x", "unknown dtype F12")
	wantError(t, one(NamedTensor{"x", "", []int{2}, []string{"a", "b"}}), "tensor x", "[]string")
	wantError(t, one(NamedTensor{"x", F32, []int{1}, []byte{1, 2, 3}}), "tensor x", "no whole number")
	wantError(t, one(NamedTensor{"x", F16, []int{2}, []float32{1, 65520}}), "tensor x", "element 1 is 65520, beyond F16")
	wantError(t, one(NamedTensor{metadataKey, "", []int{2}, f32}), "not a name")
	wantError(t, one(NamedTensor{"\xff", "", []int{2}, f32}), "not a name")
	wantError(t, WriteSafetensors(&bytes.Buffer{}, []NamedTensor{tensors[0], tensors[0]}, nil), "given twice")
	wantError(t, WriteSafetensors(&bytes.Buffer{}, nil, map[string]string{"k": "\xff"}), "metadata k is not UTF-8")
	full := errors.New("disk full")
	if err := WriteSafetensors(failingWriter{full}, tensors, nil); !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
	if err := one(NamedTensor{"x", F16, []int{1}, []float32{float32(math.Inf(1))}}); err != nil {
		t.Errorf("an infinity that is given must be written: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestWrittenTypes writes every kind of data and reads it back.
func TestWrittenTypes(t *testing.T) {
	many := make([]float32, 10_000) // more than one chunk
	for i := range many {
		many[i] = float32(i)
	}
	in := map[string]any{
		"f32": many, "f64": []float64{math.Pi}, "i64": []int64{math.MinInt64}, "i32": []int32{math.MinInt32},
		"i16": []int16{-5}, "i8": []int8{-5}, "u8": []byte{200},
	}
	var tensors []NamedTensor
	for name, data := range in {
		tensors = append(tensors, NamedTensor{Name: name, Shape: []int{reflect.ValueOf(data).Len()}, Data: data})
	}
	path := filepath.Join(t.TempDir(), "t.safetensors")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteSafetensors(out, tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	f := mustOpenFile(t, path)
	if f.Path() != path || !reflect.DeepEqual(f.Metadata(), map[string]string{"format": "pt"}) {
		t.Errorf("path %q, metadata %v", f.Path(), f.Metadata())
	}
	tensor := func(name string) Tensor { v, _ := f.Tensor(name); return v }
	if got := must(tensor("f32").Float32(nil)); !slices.Equal(got, many) {
		t.Error("f32 differs")
	}
	if got := must(tensor("f64").Float64(nil)); got[0] != math.Pi {
		t.Errorf("f64: %v", got)
	}
	for name, want := range map[string]int64{"i64": math.MinInt64, "i32": math.MinInt32, "i16": -5, "i8": -5, "u8": 200} {
		if got := must(tensor(name).Int64(nil)); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v, want %d", name, got, want)
		}
	}
	if got := must(tensor("i32").Int32(nil)); got[0] != math.MinInt32 {
		t.Errorf("i32: %v", got)
	}
}

func TestOpenSafetensorsPaths(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenSafetensors(filepath.Join(dir, "none.safetensors"))
	wantError(t, err, "none.safetensors does not exist")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	_, err = OpenSafetensors(dir)
	wantError(t, err, "not a regular file")
}

// TestReadWithoutMapping reads a file on a system that cannot map it.
func TestReadWithoutMapping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	want := blob(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 1, 2)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := openWith(path, func(*os.File, int) ([]byte, func() error, error) { return nil, nil, errors.ErrUnsupported })
	if err != nil || !bytes.Equal(m.data, want) {
		t.Fatalf("%v, %v", m, err)
	}
	if _, err := parseSafetensors(m); err != nil {
		t.Error(err)
	}
	if err := m.close(); err != nil {
		t.Error(err)
	}
}

// TestReadAfterChange reads a tensor whose pages are gone, and one whose file is closed.
func TestReadAfterChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	data := make([]byte, 1<<20)
	if err := os.WriteFile(path, blob(`{"a":{"dtype":"F32","shape":[512,512],"data_offsets":[0,1048576]}}`, data...), 0o600); err != nil {
		t.Fatal(err)
	}
	f := mustOpenFile(t, path)
	a, _ := f.Tensor("a")
	if f.m.unmap != nil {
		if err := os.Truncate(path, 4096); err != nil {
			t.Fatal(err)
		}
		_, err := a.Float32(nil)
		wantError(t, err, path, "cannot be read")
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := a.Float32(nil)
	wantError(t, err, path, "read after Close")
}

// TestWidenFindsEverySpecialValue puts each 16-bit pattern, and float32 patterns, at every place of a row.
func TestWidenFindsEverySpecialValue(t *testing.T) {
	for _, c := range []struct {
		dtype DType
		value func(uint16) float64
	}{{F16, float16Value}, {BF16, bfloat16Value}} {
		data := make([]byte, 7*2) // a full block of four, and three more
		tensor := Tensor{Name: "w", DType: c.dtype, Shape: []int{7}, m: &mapping{path: "x"}, data: data}
		dst := make([]float32, 7)
		for i := range 1 << 16 {
			place := i % 7
			clear(data)
			binary.LittleEndian.PutUint16(data[2*place:], uint16(i))
			want := c.value(uint16(i))
			err := tensor.widen(dst, data, 0, true)
			if special := math.IsNaN(want) || math.IsInf(want, 0); special != (err != nil) {
				t.Fatalf("%s %#04x at %d: %v", c.dtype, i, place, err)
			} else if special {
				wantError(t, err, "(row 0, column "+strconv.Itoa(place)+")")
			} else if float64(dst[place]) != want {
				t.Fatalf("%s %#04x at %d: %v, want %v", c.dtype, i, place, dst[place], want)
			}
		}
	}
	data := make([]byte, 3*4)
	tensor := Tensor{Name: "w", DType: F32, Shape: []int{3}, m: &mapping{path: "x"}, data: data}
	dst := make([]float32, 3)
	for _, f := range []float32{0, 1, -1, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())} {
		for place := range 3 {
			clear(data)
			binary.LittleEndian.PutUint32(data[4*place:], math.Float32bits(f))
			err := tensor.widen(dst, data, 0, true)
			if special := math.IsNaN(float64(f)) || math.IsInf(float64(f), 0); special != (err != nil) || !special && dst[place] != f {
				t.Errorf("%g at %d: %v, %v", f, place, dst, err)
			}
		}
	}
}

func BenchmarkRows(b *testing.B) {
	const rows, columns = 1024, 4096
	for _, dtype := range []DType{F32, BF16, F16} {
		b.Run(string(dtype), func(b *testing.B) {
			size := rows * columns * dtype.Bits() / 8
			var out bytes.Buffer
			if err := WriteSafetensors(&out, []NamedTensor{{"w", dtype, []int{rows, columns}, make([]byte, size)}}, nil); err != nil {
				b.Fatal(err)
			}
			w, _ := must(parse(out.Bytes())).Tensor("w")
			dst := make([]float32, rows*columns)
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := w.Rows(dst, 0, rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
