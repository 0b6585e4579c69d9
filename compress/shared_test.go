package compress

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// sharedDir returns the directory of the shared data and goldens.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("SPLITBENCH_SHARED")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if filepath.Dir(root) == root {
				t.Fatal("no go.mod above the working directory")
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared")
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data required: %v", err)
		}
		t.Skipf("no shared data: %v (set SPLITBENCH_SHARED)", err)
	}
	return dir
}

// tensor is one tensor of a safetensors file.
type tensor struct {
	dtype string
	shape []int
	data  []byte
}

// readTensors reads a safetensors file whole.
func readTensors(t testing.TB, path string) map[string]tensor {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 8 {
		t.Fatalf("%s: too short", path)
	}
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(b)-8) {
		t.Fatalf("%s: header of %d bytes in a file of %d", path, n, len(b))
	}
	var head map[string]json.RawMessage
	if err := json.Unmarshal(b[8:8+n], &head); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	data := b[8+n:]
	out := map[string]tensor{}
	for name, raw := range head {
		if name == "__metadata__" {
			continue
		}
		var e struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatalf("%s: %s: %v", path, name, err)
		}
		out[name] = tensor{e.DType, e.Shape, data[e.Offsets[0]:e.Offsets[1]]}
	}
	return out
}

// floats returns the values of an F32 or F16 tensor.
func (x tensor) floats(t testing.TB) []float32 {
	t.Helper()
	switch x.dtype {
	case "F32":
		out := make([]float32, len(x.data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(x.data[4*i:]))
		}
		return out
	case "F16":
		out := make([]float32, len(x.data)/2)
		for i := range out {
			out[i] = fromFloat16(binary.LittleEndian.Uint16(x.data[2*i:]))
		}
		return out
	}
	t.Fatalf("tensor of type %s, expected F32 or F16", x.dtype)
	return nil
}

// matrix returns a tensor of two dimensions.
func (x tensor) matrix(t testing.TB) Matrix {
	t.Helper()
	if len(x.shape) != 2 {
		t.Fatalf("tensor of shape %v, expected two dimensions", x.shape)
	}
	return Matrix{x.shape[0], x.shape[1], x.floats(t)}
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
}

// littleEndian returns the bytes of v as its safetensors file has them.
func littleEndian[T float32 | int16 | int32 | uint8](v []T) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}
