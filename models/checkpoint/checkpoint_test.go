package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestGoldenCheckpoints runs the shared checkpoints in float64. That the logits agree shows that every
// tensor has its right name, type, order and shape, and every setting its right value.
func TestGoldenCheckpoints(t *testing.T) {
	dir := sharedDir(t, "golden", "models")
	for model := range goldenModels {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			c := mustOpen(t, filepath.Join(dir, model))
			golden := mustOpenFile(t, filepath.Join(dir, model, "golden.safetensors"))
			for _, s := range []string{"s0", "s1", "s2"} {
				ids := mustIDs(t, golden, s+".ids")
				_, want := mustTensor(t, golden, s+".logits_true") // float64 rounded to float32
				_, states := mustTensor(t, golden, s+".hidden")
				got, hidden := forward(t, c, ids)
				if d := maxDifference(got, want); d > 1e-6 {
					t.Errorf("%s: logits differ by %g", s, d)
				}
				// The first state is rows of the embedding: the decoded weights themselves, bit for bit.
				if d := maxDifference(hidden[0], states[:len(hidden[0])]); d != 0 {
					t.Errorf("%s: embedding differs by %g", s, d)
				}
			}
			// The longest sequence, beyond windows and original lengths.
			ids := mustIDs(t, golden, "s3.ids")
			_, want := mustTensor(t, golden, "s3.logprobs_true")
			logits, _ := forward(t, c, ids)
			for i := range want {
				row := logits[i*c.Config.VocabSize : (i+1)*c.Config.VocabSize]
				sum, top := 0.0, slices.Max(row)
				for _, v := range row {
					sum += math.Exp(v - top)
				}
				if got := row[ids[i+1]] - top - math.Log(sum); math.Abs(got-want[i]) > 1e-9 {
					t.Errorf("s3: log-probability %d is %.12f, want %.12f", i, got, want[i])
				}
			}
		})
	}
}

// TestShardsEqualWhole joins the shards of the shared checkpoints into one file.
func TestShardsEqualWhole(t *testing.T) {
	dir := sharedDir(t, "golden", "models")
	for _, model := range []string{"llama2-mha-f16", "llama31-gqa"} {
		sharded := mustOpen(t, filepath.Join(dir, model))
		var tensors []NamedTensor
		for _, name := range sharded.Names() {
			w := must(sharded.Tensor(name))
			tensors = append(tensors, NamedTensor{name, w.DType, w.Shape, w.data})
		}
		folder := t.TempDir()
		writeFile(t, filepath.Join(folder, weightsFile), tensors)
		copyFile(t, filepath.Join(dir, model, "config.json"), filepath.Join(folder, "config.json"))
		whole := mustOpen(t, folder)
		if !slices.Equal(sharded.Names(), whole.Names()) {
			t.Errorf("%s: other tensors", model)
		}
		for _, name := range sharded.Names() {
			a, b := must(sharded.Tensor(name)), must(whole.Tensor(name))
			if a.DType != b.DType || !slices.Equal(must(a.Float32(nil)), must(b.Float32(nil))) {
				t.Errorf("%s: tensor %s differs", model, name)
			}
		}
		if a, b := must(sharded.Digest()), must(whole.Digest()); a != b {
			t.Errorf("%s: digests %s and %s", model, a, b)
		}
	}
}

func writeFile(t *testing.T, path string, tensors []NamedTensor) {
	t.Helper()
	var out bytes.Buffer
	if err := WriteSafetensors(&out, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDigest recomputes the documented recipe with other means, and checks what does and does not change it.
func TestDigest(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "corrupt")
	raw, err := os.ReadFile(filepath.Join(dir, "base", weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	length := binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		DType   string
		Shape   []int
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw[8:8+length], &header); err != nil {
		t.Fatal(err)
	}
	delete(header, metadataKey)
	h := sha256.New()
	h.Write([]byte("splitbench checkpoint 1\narchitecture LlamaForCausalLM\nhidden_size 16\nintermediate_size 24\nlayers 2\nheads 4\n" +
		"kv_heads 2\nhead_dim 4\nvocab_size 48\nmax_positions 128\nnorm_epsilon 1e-05\nrope_theta 10000\nrope_type default\nbos 1\neos 2\n"))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		e := header[name]
		fmt.Fprintf(h, "tensor %s %s %s\n", name, e.DType, strings.ReplaceAll(strings.Trim(fmt.Sprint(e.Shape), "[]"), " ", "x"))
		h.Write(raw[8+int(length)+e.Offsets[0] : 8+int(length)+e.Offsets[1]])
	}
	want := hex.EncodeToString(h.Sum(nil))

	digest := func(model string) string {
		c := mustOpen(t, filepath.Join(dir, model))
		a, b := must(c.Digest()), must(c.Digest())
		if a != b {
			t.Errorf("%s: two digests", model)
		}
		return a
	}
	for _, same := range []string{"base", "ok-two-shards", "ok-header-padding", "ok-header-unaligned", "ok-shuffled-order", "ok-metadata",
		"ok-no-metadata", "ok-escaped-names", "ok-inv-freq", "ok-index-one-shard", "ok-beside-consolidated"} {
		if got := digest(same); got != want {
			t.Errorf("%s: digest %s, want %s", same, got, want)
		}
	}
	if digest("ok-tied") != digest("ok-tied-head-equal") {
		t.Error("a stored copy of the embedding changes the digest")
	}
	for _, other := range []string{"ok-tied", "ok-mixed-dtypes", "ok-one-f64", "ok-config-extra-keys"} { // the last has other end tokens
		if digest(other) == want {
			t.Errorf("%s: has the digest of base", other)
		}
	}
	folder := t.TempDir()
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(filepath.Join(folder, weightsFile), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(dir, "base", "config.json"), filepath.Join(folder, "config.json"))
	if must(mustOpen(t, folder).Digest()) == want {
		t.Error("a changed weight has the digest of base")
	}
}

func TestCheckpointAccess(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "corrupt")
	c := mustOpen(t, filepath.Join(dir, "ok-tied"))
	if c.Dir != filepath.Join(dir, "ok-tied") {
		t.Errorf("Dir is %s", c.Dir)
	}
	head, err := c.Tensor("lm_head.weight")
	if err != nil || head.Name != embeddingName || !slices.Equal(head.Shape, []int{48, 16}) {
		t.Errorf("tied head: %s %v, %v", head.Name, head.Shape, err)
	}
	if slices.Contains(c.Names(), headName) {
		t.Error("a tied head is among the names")
	}
	// 48x16 embedding, 16 final norm, and per layer 2x16 norms, 16x16 q and o, 8x16 k and v, three 24x16.
	if got, want := c.Parameters(), int64(48*16+16+2*(2*16+2*16*16+2*8*16+3*24*16)); got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
	_, err = c.Tensor("model.layers.9.mlp.up_proj.weight")
	wantError(t, err, c.Dir, "LlamaForCausalLM has no tensor model.layers.9.mlp.up_proj.weight")
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err = c.Digest()
	wantError(t, err, "read after Close")
	_, err = Open(filepath.Join(dir, "no such folder"))
	wantError(t, err, "does not exist")
	_, err = Open(filepath.Join(dir, "base", weightsFile))
	wantError(t, err, "folder that holds this file and config.json")
}

// TestFolderLayouts checks faults of a folder that the shared set has not.
func TestFolderLayouts(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "corrupt")
	one, two := "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	for _, c := range []struct {
		name  string
		build func(t *testing.T, folder string)
		want  []string
	}{
		{"index beside another whole file", func(t *testing.T, folder string) {
			copyFile(t, filepath.Join(dir, "base", weightsFile), filepath.Join(folder, weightsFile))
		}, []string{indexFile, "does not name model.safetensors, which is in the folder too"}},
		{"index names a tensor no shard has", func(t *testing.T, folder string) {
			rewrite(t, filepath.Join(folder, indexFile), `"lm_head.weight"`, `"lm_head.bias"`)
		}, []string{indexFile, "tensor lm_head.bias is not in " + two, "no shard has it"}},
		{"index names another kind of file", func(t *testing.T, folder string) {
			rewrite(t, filepath.Join(folder, indexFile), `"`+two+`"`, `"config.json"`)
		}, []string{indexFile, "must be a .safetensors file, got config.json"}},
		{"index names the parent", func(t *testing.T, folder string) {
			rewrite(t, filepath.Join(folder, indexFile), `"`+two+`"`, `".."`)
		}, []string{indexFile, "must be a plain file name, got .."}},
		{"index with a list", func(t *testing.T, folder string) {
			rewrite(t, filepath.Join(folder, indexFile), `"`+two+`"`, `["`+two+`"]`)
		}, []string{indexFile, "must be a string, got a list"}},
		{"equal tensor in two shards", func(t *testing.T, folder string) {
			copyFile(t, filepath.Join(folder, one), filepath.Join(folder, two))
		}, []string{indexFile, "is in both shards", "with equal values"}},
		{"index is a Git LFS pointer", func(t *testing.T, folder string) {
			copyFile(t, filepath.Join(dir, "git-lfs-pointer", weightsFile), filepath.Join(folder, indexFile))
		}, []string{indexFile, "Git LFS pointer"}},
		{"broken shard", func(t *testing.T, folder string) {
			if err := os.Truncate(filepath.Join(folder, two), 5); err != nil {
				t.Fatal(err)
			}
		}, []string{two, "5 bytes are too few"}},
		{"shard is a folder", func(t *testing.T, folder string) {
			if err := os.Remove(filepath.Join(folder, two)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(folder, two), 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{two, "not a regular file"}},
		{"tied, head of another shape", func(t *testing.T, folder string) {
			rewrite(t, filepath.Join(folder, "config.json"), `"tie_word_embeddings": false`, `"tie_word_embeddings": true`)
			reshapeHead(t, folder, one, two)
		}, []string{weightsFile, "tensor lm_head.weight has shape [16, 48], expected [48, 16]"}},
		{"config wants biases", func(t *testing.T, folder string) {
			rewrite(t, filepath.Join(folder, "config.json"), `"attention_bias": false`, `"attention_bias": true`)
		}, []string{indexFile, "tensor model.layers.0.self_attn.q_proj.bias is missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			for _, name := range []string{"config.json", one, two, indexFile} {
				copyFile(t, filepath.Join(dir, "ok-two-shards", name), filepath.Join(folder, name))
			}
			c.build(t, folder)
			_, err := Open(folder)
			wantError(t, err, c.want...)
		})
	}
	for text, want := range map[string]string{
		`{"weight_map":{}}`: "weight_map is empty",
		`{"weight_map":[]}`: "weight_map must be an object",
		`[]`:                "expected a JSON object",
		`{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}`:       "tensor a is declared twice",
		`{"weight_map":{"a":"x.safetensors"},"weight_map":{}}`:           "key weight_map is declared twice",
		`{"metadata":{"total_size":1,"total_size":1}, "weight_map": {}}`: "key total_size is declared twice",
	} {
		_, err := parseIndex([]byte(text), "index.json")
		wantError(t, err, "index.json", want)
	}
}

// rewrite replaces text in a file.
func rewrite(t *testing.T, path, from, to string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), from) {
		t.Fatalf("%s lacks %s", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), from, to)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reshapeHead joins two shards into one file with the head stored [hidden, vocabulary].
func reshapeHead(t *testing.T, folder string, shards ...string) {
	t.Helper()
	var tensors []NamedTensor
	for _, shard := range shards {
		f := mustOpenFile(t, filepath.Join(folder, shard))
		for _, name := range f.Names() {
			w, _ := f.Tensor(name)
			shape := slices.Clone(w.Shape)
			if name == headName {
				slices.Reverse(shape)
			}
			tensors = append(tensors, NamedTensor{name, w.DType, shape, w.data})
		}
	}
	writeFile(t, filepath.Join(folder, weightsFile), tensors)
	if err := os.Remove(filepath.Join(folder, indexFile)); err != nil {
		t.Fatal(err)
	}
}

// TestTiedHeadOfAnotherType stores the embedding again as float32 beside float16.
func TestTiedHeadOfAnotherType(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "corrupt", "ok-tied")
	c := mustOpen(t, dir)
	for _, change := range []float32{0, 1} {
		var tensors []NamedTensor
		for _, name := range c.Names() {
			w := must(c.Tensor(name))
			tensors = append(tensors, NamedTensor{name, w.DType, w.Shape, w.data})
		}
		embedding := must(must(c.Tensor(embeddingName)).Float32(nil))
		embedding[len(embedding)-1] += change
		tensors = append(tensors, NamedTensor{headName, F32, []int{48, 16}, embedding})
		folder := t.TempDir()
		writeFile(t, filepath.Join(folder, weightsFile), tensors)
		copyFile(t, filepath.Join(dir, "config.json"), filepath.Join(folder, "config.json"))
		again, err := Open(folder)
		if change != 0 {
			wantError(t, err, "lm_head.weight is stored and differs")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSparseLargeCheckpoint opens a file of the size of Llama-2-7B in float16 without reading it: the file has
// no blocks on disk beyond its header, and the memory of the process does not grow by its size.
func TestSparseLargeCheckpoint(t *testing.T) {
	if strconv.IntSize < 64 {
		t.Skip("needs a 64-bit address space")
	}
	config := filepath.Join(sharedDir(t, "golden", "models", "configs", "Llama-2-7b-hf"), "config.json")
	folder := t.TempDir()
	copyFile(t, config, filepath.Join(folder, "config.json"))
	c, err := ReadConfig(folder)
	if err != nil {
		t.Fatal(err)
	}
	header := map[string]any{}
	var offset int64
	add := func(name string, shape []int) {
		size := 2 * int64(Tensor{Shape: shape}.Len())
		header[name] = map[string]any{"dtype": "F16", "shape": shape, "data_offsets": []int64{offset, offset + size}}
		offset += size
	}
	set := llamaTensors(c)
	for _, spec := range set.outer {
		add(spec.name, spec.shape)
	}
	for layer := range c.Layers {
		for _, spec := range set.layer {
			add(fmt.Sprintf("model.layers.%d.%s", layer, spec.name), spec.shape)
		}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, weightsFile)
	if err := os.WriteFile(path, blob(string(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(8+len(text))+offset); err != nil {
		t.Skipf("no sparse file of %d bytes here: %v", offset, err)
	}
	before, measured := residentBytes()
	model := mustOpen(t, folder)
	after, _ := residentBytes()
	if offset != 13_476_831_232 || model.Parameters() != 6_738_415_616 { // facts.json
		t.Errorf("%d bytes, %d parameters", offset, model.Parameters())
	}
	if model.files[0].unmap == nil {
		t.Skip("this system does not map files")
	}
	if measured && after-before > 64<<20 {
		t.Errorf("opening took %d bytes of memory", after-before)
	}
	row := make([]float32, 4096)
	last := must(model.Tensor("model.layers.31.self_attn.o_proj.weight"))
	if err := last.Rows(row, 4095, 4096); err != nil || slices.Max(row) != 0 {
		t.Errorf("the last row: %v", err)
	}
}

// residentBytes returns the resident memory of this process where the system tells it.
func residentBytes() (int64, bool) {
	runtime.GC()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, false
	}
	return resident * int64(os.Getpagesize()), true
}

func TestMaxSizesDoNotOverflow(t *testing.T) {
	c := Config{Architecture: llama.name, HiddenSize: maxWidth, IntermediateSize: maxInner, Layers: maxLayers, Heads: 1, KVHeads: 1,
		HeadDim: maxInner, VocabSize: maxVocab, AttentionBias: true, OutputBias: true, MLPBias: true}
	layer, total := c.ParameterCount()
	// 4 projections of inner x width, 3 of the feed-forward block, in float64, which cannot overflow.
	want := 7 * float64(maxInner) * float64(maxWidth)
	if math.Abs(float64(layer)/want-1) > 1e-3 || math.Abs(float64(total)/(want*maxLayers)-1) > 1e-2 {
		t.Errorf("%d per layer, %d in all, want about %g and %g", layer, total, want, want*maxLayers)
	}
}

// TestDanglingLinks opens folders like those of an interrupted download into a cache of linked files.
func TestDanglingLinks(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "corrupt", "base")
	folder := t.TempDir()
	link := func(name, to string) {
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(weightsFile, filepath.Join(folder, "blobs", "none"))
	_, err := Open(folder)
	wantError(t, err, "config.json is missing")
	link("config.json", filepath.Join(dir, "config.json"))
	_, err = Open(folder)
	wantError(t, err, weightsFile+" is a link to a file that does not exist")
	if err := os.Remove(filepath.Join(folder, weightsFile)); err != nil {
		t.Fatal(err)
	}
	link(weightsFile, filepath.Join(dir, weightsFile))
	mustOpen(t, folder)
}
