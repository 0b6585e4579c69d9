package checkpoint

import (
	"path"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKnownModels compares with the published configs and the counts of the reference implementation, and with
// section 1 of the mathematical spec, typed again.
func TestKnownModels(t *testing.T) {
	dir := sharedDir(t, "golden", "models", "configs")
	var facts struct {
		Models map[string]struct {
			Layers, Hidden, Intermediate, Heads, Vocab int
			KVHeads                                    int `json:"kv_heads"`
			DKV                                        int `json:"d_kv"`
			HeadDim                                    int `json:"head_dim"`
			Parameters                                 int64
			ParametersPerLayer                         int64            `json:"parameters_per_layer"`
			KVBytes                                    int64            `json:"kv_bytes_per_token_fp16"`
			Layer0Tensors                              map[string][]int `json:"layer_0_tensors"`
			Tensors                                    int
		}
	}
	readJSON(t, filepath.Join(dir, "facts.json"), &facts)
	type row struct{ layers, hidden, kv, vocab, layer, total, kvBytes int64 }
	table := map[string]row{
		"Llama-2-7B":        {32, 4096, 4096, 32000, 202_383_360, 6_738_415_616, 524_288},
		"Llama-2-13B":       {40, 5120, 5120, 32000, 317_204_480, 13_015_864_320, 819_200},
		"Llama-3.1-8B":      {32, 4096, 1024, 128256, 218_112_000, 8_030_261_248, 131_072},
		"Mistral-Nemo-2407": {40, 5120, 1024, 131072, 272_640_000, 12_247_782_400, 163_840},
		"Qwen2.5-14B":       {48, 5120, 1024, 152064, 275_268_608, 14_770_033_664, 196_608},
		"Phi-4":             {40, 5120, 1280, 100352, 340_797_440, 14_659_507_200, 204_800},
	}
	known := KnownModels()
	if len(known) != 6 || len(facts.Models) != 6 {
		t.Fatalf("%d known models, %d in facts.json, want 6", len(known), len(facts.Models))
	}
	for _, m := range known {
		published := path.Base(m.Hub)
		fact, ok := facts.Models[published]
		if !ok {
			t.Errorf("%s is not in facts.json", published)
			continue
		}
		c, err := ReadConfig(filepath.Join(dir, published))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(c, m.Config); diff != "" {
			t.Errorf("%s (-published +known):\n%s", m.Name, diff)
		}
		perLayer, total := c.ParameterCount()
		got := row{int64(c.Layers), int64(c.HiddenSize), int64(c.KVWidth()), int64(c.VocabSize), perLayer, m.Parameters(), c.KVBytesPerToken(2)}
		if got != table[m.Name] {
			t.Errorf("%s: %+v, want %+v", m.Name, got, table[m.Name])
		}
		want := row{int64(fact.Layers), int64(fact.Hidden), int64(fact.DKV), int64(fact.Vocab), fact.ParametersPerLayer, fact.Parameters, fact.KVBytes}
		if got != want || total != fact.Parameters {
			t.Errorf("%s: %+v, facts.json says %+v", m.Name, got, want)
		}
		if c.IntermediateSize != fact.Intermediate || c.Heads != fact.Heads || c.KVHeads != fact.KVHeads || c.HeadDim != fact.HeadDim {
			t.Errorf("%s: %+v, facts.json says %+v", m.Name, c, fact)
		}
		arch, _ := architectureByName(c.Architecture)
		set := arch.tensors(c)
		shapes := make(map[string][]int)
		for _, spec := range set.layer {
			shapes[spec.name] = spec.shape
		}
		if diff := cmp.Diff(fact.Layer0Tensors, shapes); diff != "" {
			t.Errorf("%s: tensors of a layer (-want +got):\n%s", m.Name, diff)
		}
		if n := len(set.outer) + c.Layers*len(set.layer); n != fact.Tensors {
			t.Errorf("%s: %d tensors, want %d", m.Name, n, fact.Tensors)
		}
		if m.Licence == "" {
			t.Errorf("%s has no licence", m.Name)
		}
	}
	if layer, total := (Config{Architecture: "Foo"}).ParameterCount(); layer != 0 || total != 0 {
		t.Errorf("an unknown architecture has %d and %d parameters", layer, total)
	}
}
