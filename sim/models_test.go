package sim

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func shapeOf(t *testing.T, name string) Shape {
	t.Helper()
	for _, m := range Models() {
		if m.Name == name {
			s, err := m.Dimensions.Shape()
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Fatalf("no model %s", name)
	return Shape{}
}

// TestModels compares with the published totals of the checkpoints; the KV sizes are 2·L·d_kv values of 2 bytes.
func TestModels(t *testing.T) {
	for _, want := range []struct {
		name                                             string
		layers, hidden, kv, vocab, layer, total, kvBytes int64
	}{
		{"Llama-2-7B", 32, 4096, 4096, 32000, 202383360, 6738415616, 524288},
		{"Llama-2-13B", 40, 5120, 5120, 32000, 317204480, 13015864320, 819200},
		{"Llama-3.1-8B", 32, 4096, 1024, 128256, 218112000, 8030261248, 131072},
		{"Mistral-Nemo-2407", 40, 5120, 1024, 131072, 272640000, 12247782400, 163840},
		{"Qwen2.5-14B", 48, 5120, 1024, 152064, 275268608, 14770033664, 196608},
		{"Phi-4", 40, 5120, 1280, 100352, 340797440, 14659507200, 204800},
	} {
		s := shapeOf(t, want.name)
		kv, err := s.KVBits(16)
		if err != nil {
			t.Fatal(err)
		}
		got := [...]int64{s.Layers, s.Hidden, s.KVWidth, s.Vocab, s.LayerParameters, s.TotalParameters, kv / 8}
		if got != [...]int64{want.layers, want.hidden, want.kv, want.vocab, want.layer, want.total, want.kvBytes} {
			t.Errorf("%s: got %v, want %v", want.name, got, want)
		}
	}
}

// TestModelConfigs compares with counts taken from the published configurations, tensor by tensor.
func TestModelConfigs(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(sharedFolder(t), "golden", "models", "configs", "facts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var facts struct {
		Models map[string]struct {
			Layers, Hidden, Vocab int64
			DKV                   int64 `json:"d_kv"`
			Parameters            int64
			PerLayer              int64 `json:"parameters_per_layer"`
			LinearPerLayer        int64 `json:"linear_parameters_per_layer"`
			Embedding             int64 `json:"embedding_parameters"`
			Head                  int64 `json:"head_parameters"`
		}
	}
	if err := json.Unmarshal(data, &facts); err != nil {
		t.Fatal(err)
	}
	for ours, theirs := range map[string]string{
		"Llama-2-7B": "Llama-2-7b-hf", "Llama-2-13B": "Llama-2-13b-hf", "Llama-3.1-8B": "Llama-3.1-8B-Instruct",
		"Mistral-Nemo-2407": "Mistral-Nemo-Instruct-2407", "Qwen2.5-14B": "Qwen2.5-14B", "Phi-4": "phi-4",
	} {
		f, ok := facts.Models[theirs]
		if !ok {
			t.Errorf("no facts of %s", theirs)
			continue
		}
		s := shapeOf(t, ours)
		got := [...]int64{s.Layers, s.Hidden, s.Vocab, s.KVWidth, s.TotalParameters, s.LayerParameters, s.LayerLinear, s.EmbeddingRows * s.Hidden}
		want := [...]int64{f.Layers, f.Hidden, f.Vocab, f.DKV, f.Parameters, f.PerLayer, f.LinearPerLayer, f.Embedding + f.Head}
		if got != want {
			t.Errorf("%s: got %v, want %v", ours, got, want)
		}
	}
}

// TestSmallShape counts a model of the size of stories260K by hand: width 64, 8 heads and 4 key-value heads of
// 8, feed-forward width 172, 5 blocks, vocabulary 512, tied.
func TestSmallShape(t *testing.T) {
	s, err := Dimensions{Layers: 5, Hidden: 64, KVWidth: 32, Intermediate: 172, Vocab: 512, Tied: true}.Shape()
	if err != nil {
		t.Fatal(err)
	}
	// q, o: 2·64·64 = 8192; k, v: 2·64·32 = 4096; gate, up, down: 3·64·172 = 33024. Norms 128.
	// Groups: rows of 64 inputs (64+32+32+172+172) and of q width (64) have one, the 64 rows of 172 inputs two.
	want := Shape{Layers: 5, Hidden: 64, KVWidth: 32, Vocab: 512, LayerLinear: 45312, LayerParameters: 45440, LayerGroups: 472 + 64 + 128,
		EmbeddingRows: 512, TotalParameters: 5*45440 + 512*64 + 64}
	if s != want {
		t.Errorf("shape %+v, want %+v", s, want)
	}
	if want.TotalParameters != 260032 { // as the checkpoint's authors count
		t.Errorf("the hand count is %d", want.TotalParameters)
	}
}

func TestShapeFaults(t *testing.T) {
	if _, err := (Dimensions{Layers: 1, Hidden: 8, KVWidth: 8, Vocab: 8}).Shape(); err == nil || err.Error() != "sim: intermediate is 0, expected 1 or more" {
		t.Errorf("no intermediate width: %v", err)
	}
	if _, err := (Dimensions{Layers: 1, Hidden: math.MaxInt64, KVWidth: 8, Intermediate: 8, Vocab: 8}).Shape(); !errors.Is(err, ErrOverflow) {
		t.Errorf("too wide: %v", err)
	}
	if _, err := (Shape{Layers: math.MaxInt64, KVWidth: 1}).KVBits(1); !errors.Is(err, ErrOverflow) {
		t.Errorf("too many layers: %v", err)
	}
}

// sharedFolder returns the folder of shared reference data or skips the test.
func sharedFolder(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("SPLITBENCH_SHARED")
	if folder == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if filepath.Dir(root) == root {
				t.Fatal("no go.mod above the test")
			}
			root = filepath.Dir(root)
		}
		folder = filepath.Join(root, "..", "shared")
	}
	if _, err := os.Stat(folder); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("the shared data are required: %v", err)
		}
		t.Skipf("no shared data: %v", err)
	}
	return folder
}
