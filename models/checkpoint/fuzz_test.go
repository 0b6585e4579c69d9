package checkpoint

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// seedFiles adds the files of that name in the corrupt set, when it is there.
func seedFiles(f *testing.F, name string) {
	dir := os.Getenv("SPLITBENCH_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	files, err := filepath.Glob(filepath.Join(dir, "golden", "models", "corrupt", "*", name))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 1000 { // larger ones cost the fuzzer seconds each
			f.Add(data)
		}
	}
}

// fuzzError checks that an error is one bounded line.
func fuzzError(t *testing.T, err error) {
	if err == nil {
		return
	}
	if message := err.Error(); len(message) > 2000 || slices.ContainsFunc([]byte(message), func(b byte) bool { return b < ' ' }) {
		t.Fatalf("not one short line: %q", message)
	}
}

func FuzzSafetensorsHeader(f *testing.F) {
	seedFiles(f, weightsFile)
	for _, header := range []string{
		`{}`,
		`{"__metadata__":{"format":"pt","\u00e9\n":"\ud83d\ude00"}}`,
		`{"a":{"dtype":"F4","shape":[2,0],"data_offsets":[0,0]}}`,
		`{"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[4,8]},"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   `,
		`{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"I8","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"I8","shape":[8],"data_offsets":[4611686018427387904,4611686018427387912]}}`,
		`{"a":{"data_offsets":[1,8],"dtype":"U8","shape":[7]},"b":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}`,
		`{"a":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}`,
	} {
		f.Add(blob(header, 1, 2, 3, 4, 5, 6, 7, 8))
		f.Add(blob(header))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(data)
		fuzzError(t, err)
		if err != nil {
			return
		}
		// The header is JSON for the standard library too, and says the same.
		length := int64(len(data)) - 8
		var total int64
		for _, name := range file.Names() {
			w, _ := file.Tensor(name)
			total += w.Bytes()
			if int64(w.Len())*int64(w.DType.Bits()) != 8*w.Bytes() {
				t.Fatalf("tensor %q: %v %s in %d bytes", name, w.Shape, w.DType, w.Bytes())
			}
			if w.DType.IsFloat() {
				_, err := w.Float32(nil)
				fuzzError(t, err)
			} else {
				_, err := w.Int64(nil)
				fuzzError(t, err)
			}
		}
		header := data[8 : 8+length-total]
		var want map[string]json.RawMessage
		if err := json.Unmarshal(header, &want); err != nil {
			t.Fatalf("accepted a header that is not JSON: %v", err)
		}
		delete(want, metadataKey)
		if len(want) != len(file.Names()) {
			t.Fatalf("%d tensors, want %d", len(file.Names()), len(want))
		}
	})
}

func FuzzConfig(f *testing.F) {
	seedFiles(f, "config.json")
	for _, keys := range []string{
		`"architectures":["Qwen2ForCausalLM"],"use_sliding_window":true,"max_window_layers":1,"sliding_window":8`,
		`"architectures":["Qwen2ForCausalLM"],"rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":64}`,
		`"architectures":["MistralForCausalLM"],"head_dim":8,"layer_types":["sliding_attention","sliding_attention"]`,
		`"architectures":["Phi3ForCausalLM"],"partial_rotary_factor":0.5,"original_max_position_embeddings":16,"rope_scaling":{"type":"su","short_factor":[1],"long_factor":[2]}`,
	} {
		f.Add([]byte(`{"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":48,"max_position_embeddings":128,` + keys + `}`))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data, "config.json")
		fuzzError(t, err)
		var syntax *syntaxError
		if errors.As(err, &syntax) || !json.Valid(data) {
			if err == nil {
				t.Fatal("accepted what is not JSON")
			}
			return
		}
		if err != nil {
			return
		}
		layer, total := c.ParameterCount()
		if layer <= 0 || total <= layer || c.Heads%c.KVHeads != 0 || c.HeadDim%2 != 0 || c.Rope.Theta < 1 || c.NormEpsilon <= 0 {
			t.Fatalf("accepted %+v", c)
		}
		if c.Windows != nil && (len(c.Windows) != c.Layers || slices.Min(c.Windows) < 0 || slices.Max(c.Windows) == 0) {
			t.Fatalf("accepted windows %v", c.Windows)
		}
		half := c.RotaryWidth() / 2
		if half < 1 || 2*half > c.HeadDim || c.Rope.Type == "longrope" && (len(c.Rope.ShortFactors) != half || len(c.Rope.LongFactors) != half) {
			t.Fatalf("accepted %+v", c.Rope)
		}
	})
}

func FuzzIndex(f *testing.F) {
	seedFiles(f, indexFile)
	f.Fuzz(func(t *testing.T, data []byte) {
		shards, err := parseIndex(data, "index.json")
		fuzzError(t, err)
		if err != nil {
			return
		}
		var want struct {
			WeightMap map[string]string `json:"weight_map"`
		}
		var keys map[string]json.RawMessage // exact key, where a struct would take any case
		if err := json.Unmarshal(data, &keys); err != nil {
			t.Fatalf("accepted what is not JSON: %v", err)
		}
		if err := json.Unmarshal(keys["weight_map"], &want.WeightMap); err != nil {
			t.Fatal(err)
		}
		if len(want.WeightMap) != len(shards) {
			t.Fatalf("%d entries, want %d", len(shards), len(want.WeightMap))
		}
		for name, shard := range shards {
			if want.WeightMap[name] != shard || filepath.Base(shard) != shard {
				t.Fatalf("%q is in %q, want %q", name, shard, want.WeightMap[name])
			}
		}
	})
}

func FuzzLlama2c(f *testing.F) {
	for _, version1 := range []bool{false, true} {
		for _, tied := range []bool{false, true} {
			f.Add(tinyLlama2c(version1, tied))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, weights, err := parseLlama2c(&mapping{path: "m.bin", data: data})
		fuzzError(t, err)
		if err != nil {
			return
		}
		var total int64
		for _, w := range weights {
			total += int64(w.Len())
			_, err := w.Float32(nil)
			fuzzError(t, err)
		}
		if _, want := c.ParameterCount(); total != want {
			t.Fatalf("%d values, want %d", total, want)
		}
	})
}
