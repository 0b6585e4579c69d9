package checkpoint

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLlama2cEqualsHuggingFace compares the llama2.c files with the same weights in the other container, which
// was converted elsewhere: same settings, same names, same bits, same digest.
func TestLlama2cEqualsHuggingFace(t *testing.T) {
	dir := sharedDir(t, "data")
	for _, c := range []struct {
		hf         string
		files      []string
		parameters int64
	}{
		{"stories260k/hf", []string{"stories260k/stories260K.bin", "stories260k/stories260K_v1.bin"}, 260_032},
		{"babyllama105/hf", []string{"babyllama105/model5000.bin"}, 936_448},
	} {
		hf := mustOpen(t, filepath.Join(dir, c.hf))
		for _, file := range c.files {
			t.Run(file, func(t *testing.T) {
				path := filepath.Join(dir, file)
				model := mustOpen(t, path)
				if diff := cmp.Diff(hf.Config, model.Config); diff != "" {
					t.Errorf("config (-hf +llama2.c):\n%s", diff)
				}
				if config, err := ReadConfig(path); err != nil || !cmp.Equal(config, hf.Config) {
					t.Errorf("ReadConfig: %+v, %v", config, err)
				}
				if diff := cmp.Diff(hf.Names(), model.Names()); diff != "" {
					t.Fatalf("names (-hf +llama2.c):\n%s", diff)
				}
				if model.Parameters() != c.parameters {
					t.Errorf("%d parameters, want %d", model.Parameters(), c.parameters)
				}
				for _, name := range hf.Names() {
					a, b := must(hf.Tensor(name)), must(model.Tensor(name))
					x, y := must(a.Float32(nil)), must(b.Float32(nil))
					if !slices.Equal(a.Shape, b.Shape) || len(x) != len(y) {
						t.Fatalf("%s: shapes %v and %v", name, a.Shape, b.Shape)
					}
					for i := range x {
						if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
							t.Fatalf("%s: value %d is %g and %g", name, i, x[i], y[i])
						}
					}
					// By rows, and by their bytes.
					rows, columns := b.Matrix()
					row := make([]float32, columns)
					for r := range rows {
						if err := b.Rows(row, r, r+1); err != nil || !slices.Equal(row, x[r*columns:(r+1)*columns]) {
							t.Fatalf("%s: row %d differs, %v", name, r, err)
						}
						if !slices.Equal(a.RowBytes(r), b.RowBytes(r)) {
							t.Fatalf("%s: bytes of row %d differ", name, r)
						}
						a.Release(r, r+1) // the next rows, and all of them below, are read again
						b.Release(0, rows)
					}
				}
				if a, b := must(hf.Digest()), must(model.Digest()); a != b {
					t.Errorf("digests %s and %s", a, b)
				}
			})
		}
	}
}

// tinyLlama2c makes a llama2.c file of dim 4, hidden_dim 3, 1 layer, 2 heads, 1 kv head, 5 tokens and 3 positions,
// whose value i is i.
func tinyLlama2c(version1, tied bool) []byte {
	var b []byte
	word := func(v int32) { b = binary.LittleEndian.AppendUint32(b, uint32(v)) }
	if version1 {
		word(llama2cMagic)
		word(1)
	}
	vocab := int32(5)
	if !version1 && !tied {
		vocab = -5
	}
	for _, v := range []int32{4, 3, 1, 2, 1, vocab, 3} {
		word(v)
	}
	if version1 {
		b = append(b, map[bool]byte{true: 1, false: 0}[tied])
		b = append(b, make([]byte, 256-len(b))...)
	}
	values := 5*4 + 4 + 4 + 4 + 4*4 + 2*4 + 2*4 + 4*4 + 3*4*3
	if !version1 {
		values += 2 * 3 * 1 // cosines and sines
	}
	if !tied {
		values += 5 * 4
	}
	for i := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(i)))
	}
	return b
}

// TestLlama2cLayout checks the places of all tensors in files small enough to count by hand.
func TestLlama2cLayout(t *testing.T) {
	layer := "model.layers.0."
	for _, c := range []struct {
		name           string
		version1, tied bool
		first          map[string]float32 // first value of each tensor
	}{
		{"legacy", false, true, map[string]float32{embeddingName: 0, layer + "input_layernorm.weight": 20, layer + "self_attn.q_proj.weight": 24,
			layer + "self_attn.k_proj.weight": 40, layer + "self_attn.v_proj.weight": 48, layer + "self_attn.o_proj.weight": 56,
			layer + "post_attention_layernorm.weight": 72, layer + "mlp.gate_proj.weight": 76, layer + "mlp.down_proj.weight": 88,
			layer + "mlp.up_proj.weight": 100, "model.norm.weight": 112}},
		{"legacy untied", false, false, map[string]float32{headName: 122}},
		{"version 1", true, true, map[string]float32{layer + "input_layernorm.weight": 0, layer + "post_attention_layernorm.weight": 4,
			"model.norm.weight": 8, embeddingName: 12, layer + "self_attn.q_proj.weight": 32, layer + "mlp.gate_proj.weight": 80}},
		{"version 1 untied", true, false, map[string]float32{headName: 116}},
	} {
		path := filepath.Join(t.TempDir(), "m.bin")
		if err := os.WriteFile(path, tinyLlama2c(c.version1, c.tied), 0o600); err != nil {
			t.Fatal(err)
		}
		m := mustOpen(t, path)
		if m.Config.TiedEmbeddings != c.tied || m.Config.HeadDim != 2 || m.Config.MaxPositions != 3 {
			t.Errorf("%s: %+v", c.name, m.Config)
		}
		for name, want := range c.first {
			if got := must(must(m.Tensor(name)).Float32(nil)); got[0] != want {
				t.Errorf("%s: %s begins with %g, want %g", c.name, name, got[0], want)
			}
		}
	}
	// Heads of 4 rows: the pairs (0,1) and (2,3) of the file are the pairs (0,2) and (1,3) here.
	rotary := Tensor{Shape: []int{8, 1}, interleavedHead: 4}
	var order []int
	for r := range 8 {
		order = append(order, rotary.storedRow(r))
	}
	if want := []int{0, 2, 1, 3, 4, 6, 5, 7}; !slices.Equal(order, want) {
		t.Errorf("rows are stored at %v, want %v", order, want)
	}
}

func TestLlama2cRefusals(t *testing.T) {
	set := func(b []byte, word int, v int32) []byte {
		b = slices.Clone(b)
		binary.LittleEndian.PutUint32(b[4*word:], uint32(v))
		return b
	}
	legacy, v1 := tinyLlama2c(false, true), tinyLlama2c(true, true)
	nan := set(legacy, 7+24+3, int32(0x7fc00000)) // last value of the first row of q
	for _, c := range []struct {
		name string
		data []byte
		want []string
	}{
		{"empty", nil, []string{"0 bytes are too few"}},
		{"short", legacy[:27], []string{"27 bytes are too few"}},
		{"truncated", legacy[:len(legacy)-4], []string{"the file has 512 bytes, but a llama2.c model of these sizes has 516"}},
		{"longer", append(slices.Clone(legacy), 0), []string{"the file has 517 bytes, but a llama2.c model of these sizes has 516"}},
		{"short version 1", v1[:255], []string{"255 bytes are too few", "version 1"}},
		{"truncated version 1", v1[:len(v1)-1], []string{"the file has", "but a llama2.c model of these sizes has"}},
		{"version 2", set(v1, 1, 2), []string{"version 2 (int8 quantized) is not supported"}},
		{"version 9", set(v1, 1, 9), []string{"version 9 is not supported"}},
		{"shared flag", set(v1, 9, 2), []string{"shared classifier flag is 2"}},
		{"dim zero", set(legacy, 0, 0), []string{"dim is 0, expected 1 to"}},
		{"dim huge", set(legacy, 0, math.MaxInt32), []string{"dim is 2147483647"}},
		{"hidden_dim", set(legacy, 1, -1), []string{"hidden_dim is -1"}},
		{"layers", set(legacy, 2, 1<<20), []string{"n_layers is 1048576"}},
		{"many layers", set(legacy, 2, 8192), []string{"the file has 516 bytes, but"}},
		{"heads", set(legacy, 3, 4), []string{"dim 4 is no even multiple of n_heads 4"}},
		{"kv heads", set(legacy, 4, 3), []string{"n_heads 2 is no multiple of n_kv_heads 3"}},
		{"vocab", set(legacy, 5, math.MinInt32), []string{"vocab_size is 2147483648"}},
		{"seq_len", set(legacy, 6, 0), []string{"seq_len is 0"}},
		{"gguf", []byte("GGUF\x03\x00\x00\x00"), []string{"GGUF"}},
		{"zip", []byte("PK\x03\x04"), []string{"torch.save"}},
		{"lfs", []byte("version https://git-lfs.github.com/spec/v1\noid"), []string{"Git LFS pointer"}},
		{"nan", nan, []string{"tensor model.layers.0.self_attn.q_proj.weight contains NaN (row 0, column 3)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.bin")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := Open(path)
			if err == nil {
				defer m.Close()
				err = readAll(m)
			}
			wantError(t, err, append(c.want, "m.bin: ")...)
		})
	}
	shared := sharedDir(t, "data", "stories260k")
	_, err := Open(filepath.Join(shared, "stories260K_q8.bin"))
	wantError(t, err, "stories260K_q8.bin", "version 2 (int8 quantized) is not supported")
	_, err = Open(filepath.Join(shared, "tok512.bin"))
	wantError(t, err, "tok512.bin", "is this a llama2.c model?")
}
