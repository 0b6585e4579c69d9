package spec

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const trainingText = `name: stories
seed: 3
model: {hidden_size: 64, intermediate_size: 160, layers: 2, heads: 4, kv_heads: 2}
tokenizer: {vocabulary: 300}
data:
  train:
    - {text: a/*.txt, separator: "\n\n", weight: 0.5}
    - {name: questions, task: piqa, path: world, limit: 10, context_weight: 0.1}
  validation:
    - {task: wikitext2, path: "builtin:toy"}
training: {tokens: 1000000, learning_rate: 3e-3, average: 0.99}
`

func TestTraining(t *testing.T) {
	s, err := ParseTraining("dir/t.yaml", []byte(trainingText), LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("dir")
	if err != nil {
		t.Fatal(err)
	}
	want := &Training{
		Name: "stories", Seed: 3,
		Model: TrainedModel{HiddenSize: 64, IntermediateSize: 160, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 16, MaxPositions: 512,
			RopeTheta: 10000, NormEpsilon: 1e-5, TiedEmbeddings: true, InitDeviation: 0.02},
		Tokenizer: TrainedTokenizer{Vocabulary: 300, MinFrequency: 2},
		Train: []TrainingSource{
			{Text: filepath.Join(dir, "a/*.txt"), Separator: "\n\n", Weight: 0.5, ContextWeight: 1},
			{Name: "questions", Task: "piqa", Path: filepath.Join(dir, "world"), Limit: Limit{Docs: 10}, Weight: 1, ContextWeight: 0.1},
		},
		Validation: []TrainingSource{{Task: "wikitext2", Path: "builtin:toy", Weight: 1, ContextWeight: 1}},
		Steps: TrainingSteps{Tokens: 1000000, BatchTokens: 4096, SequenceLength: 256, LearningRate: 3e-3, MinimumRate: 0.1, WarmupSteps: 100,
			WeightDecay: 0.1, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8, ClipNorm: 1, Average: 0.99,
			ValidationEvery: 200, ValidationTokens: 65536, CheckpointEvery: 100, LogEvery: 10, DType: "bfloat16"},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("read\n%+v, expected\n%+v", s, want)
	}
	again, err := ParseTraining("other/t.yaml", s.YAML(), LoadOptions{})
	if err != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("the resolved file is read as\n%+v (%v), expected\n%+v", again, err, s)
	}
}

// TestTrainingFaults compares every fault with its place and text.
func TestTrainingFaults(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"seed: 3", "sed: 3", `t.yaml:2:1: unknown key "sed", expected "seed"`},
		{"layers: 2", "layers: two", `t.yaml:3:58: model.layers is "two", expected a decimal integer from 1 to 1024`},
		{"heads: 4", "heads: 5", `t.yaml:3:68: model.heads 5 does not divide hidden_size 64, expected a divisor of it, or head_dim`},
		{"kv_heads: 2", "kv_heads: 3", `t.yaml:3:81: model.kv_heads 3 does not divide heads 4, expected a divisor of it`},
		{"kv_heads: 2", "kv_heads: 2, head_dim: 3", `t.yaml:3:94: the width of a head is 3, expected an even number`},
		{"{vocabulary: 300}", "{vocabulary: 300, path: x}", `t.yaml:4:12: tokenizer needs one of path and vocabulary, expected path: FILE, or vocabulary: N`},
		{"text: a/*.txt, ", "", `t.yaml:7:7: a source needs one of text and task, expected text: FILE, or task: NAME with path`},
		{"task: piqa, path: world", "task: piqa", `t.yaml:8:7: the source of task piqa has no path, expected path: FOLDER or FILE`},
		{"weight: 0.5", "context_weight: 0.5", `t.yaml:7:58: a source of text has no context_weight, expected context_weight only with task`},
		{"weight: 0.5", "weight: 0", `t.yaml:7:50: data.train.weight is 0, expected a decimal number from 0.001 to 1000`},
		{"weight: 0.5", "weight: 1e-12", `t.yaml:7:50: data.train.weight is 1e-12, expected a decimal number from 0.001 to 1000`},
		{"limit: 10", `separator: "x"`, `t.yaml:8:61: a source of a task has no separator, expected separator only with text`},
		{"task: piqa", "task: piqua", `t.yaml:8:31: data.train.task is "piqua", expected one of hellaswag, piqa,`},
		{"tokens: 1000000, ", "", `t.yaml:11:11: training needs one of steps and tokens, expected steps: N, or tokens: N`},
		{"average: 0.99", "sequence_length: 600", `t.yaml:11:67: training.sequence_length is 600, model.max_positions 512, expected at most max_positions`},
		{"learning_rate: 3e-3", "learning_rate: 0", `t.yaml:11:44: training.learning_rate is 0, expected a decimal number`},
		{"training: {", "training: [", `t.yaml:11:1: did not find expected ',' or ']', expected valid YAML`},
		{"  validation:\n", "  validation: []\n  other:\n", `t.yaml:9:15: data.validation is an empty list, expected at least one entry`},
	} {
		text := strings.Replace(trainingText, c.from, c.to, 1)
		if text == trainingText {
			t.Fatalf("no %q in the text", c.from)
		}
		_, err := ParseTraining("t.yaml", []byte(text), LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, expected %s", c.to, err, c.want)
		}
	}
	if _, err := LoadTraining(filepath.Join(t.TempDir(), "none.yaml"), LoadOptions{}); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestTrainingKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range TrainingKeys() {
		if k.Doc == "" || k.Type == "" || seen[k.Path] {
			t.Errorf("key %s has no text or comes twice", k.Path)
		}
		seen[k.Path] = true
	}
	if !seen["training.learning_rate"] || !seen["data.train.weight"] {
		t.Error("keys are missing")
	}
}

func FuzzParseTraining(f *testing.F) {
	f.Add([]byte(trainingText))
	f.Add([]byte("name: x\ndata: {train: [1, {}], validation: 2}\nmodel: {heads: 0}\n"))
	f.Add([]byte("training: &a {steps: 1}\nmodel: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseTraining(filepath.Join(os.TempDir(), "t.yaml"), data, LoadOptions{Env: func(string) (string, bool) { return "", false }})
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without text")
			}
			return
		}
		again, err := ParseTraining("t.yaml", s.YAML(), LoadOptions{})
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("the resolved file is read as %+v (%v), expected %+v\n%s", again, err, s, s.YAML())
		}
	})
}
