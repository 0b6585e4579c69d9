package builtin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"splitbench/experiments/spec"
	"splitbench/harness/quantise"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/tokenizer"
	"splitbench/tasks"
)

// cache sends Resolve to a folder of the test's own.
func cache(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("HOME", dir)
	t.Setenv("LocalAppData", dir)
}

func load(t *testing.T, name string) (*checkpoint.Checkpoint, *decoder.Model, string) {
	t.Helper()
	dir, err := Resolve(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	be, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	m, err := decoder.Load(c, be)
	if err != nil {
		t.Fatal(err)
	}
	return c, m, dir
}

// TestSmall holds the promises about the embedded model: its form, its size,
// and that the rotated variant is the same function with other values at a
// split.
func TestSmall(t *testing.T) {
	cache(t)
	c, small, dir := load(t, "builtin:small")
	cfg := c.Config
	if cfg.Architecture != "LlamaForCausalLM" || cfg.Layers < 8 || cfg.KVHeads >= cfg.Heads {
		t.Errorf("%s of %d layers, %d heads and %d KV heads, expected a Llama of at least 8 layers with grouped queries", cfg.Architecture, cfg.Layers, cfg.Heads, cfg.KVHeads)
	}
	var bytes int64
	if err := eachSmall(func(_ string, data []byte) error { bytes += int64(len(data)); return nil }); err != nil {
		t.Fatal(err)
	}
	if bytes > 8e6 {
		t.Errorf("%d bytes embedded, expected at most 8 MB", bytes)
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Size() != cfg.VocabSize {
		t.Errorf("%d tokens, the model has %d", tok.Size(), cfg.VocabSize)
	}
	root, err := Resolve("builtin:world")
	if err != nil {
		t.Fatal(err)
	}
	path, err := tasks.DefaultPath(root, "c4_documents")
	if err != nil {
		t.Fatal(err)
	}
	ds, err := tasks.Load("c4_documents", tasks.Options{Path: path, Protocol: tasks.JointBOS})
	if err != nil {
		t.Fatal(err)
	}
	var sequences [][]int32
	for _, d := range ds.Docs[:20] {
		sequences = append(sequences, tok.Encode(d.Text, true))
	}
	rc, rotated, rdir := load(t, "builtin:small-rotated")
	ctx := context.Background()
	same, err := quantise.Compare(ctx, small, rotated, sequences)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("largest difference of a logit %.3g, of the mean loss %.3g", same.Logit, same.Losses[1]-same.Losses[0])
	if !(same.Logit < 1e-4) {
		t.Errorf("logits of the rotated model differ by %.3g, expected less than 1e-4", same.Logit)
	}
	// A model that knows nothing of the text has a loss of log 1024 = 6.9.
	if loss := same.Losses[0]; !(loss < 1.5) {
		t.Errorf("mean loss %.3f per token of the world's text: the weights are not those of this tokenizer and world", loss)
	}
	config, err := os.ReadFile(filepath.Join(rdir, "config.json"))
	if err != nil || !strings.Contains(string(config), "function-preserving change of basis") {
		t.Errorf("config.json of the variant does not say what it is: %v", err)
	}
	if rc.Config.TiedEmbeddings {
		t.Error("the head of the variant is tied to its embedding")
	}
	before, err := quantise.Measure(ctx, small, sequences, quantise.MagnitudeOptions{SkipFirst: true})
	if err != nil {
		t.Fatal(err)
	}
	after, err := quantise.Measure(ctx, rotated, sequences, quantise.MagnitudeOptions{SkipFirst: true})
	if err != nil {
		t.Fatal(err)
	}
	for k := range before {
		// An orthogonal change of basis keeps the norm of every row.
		if d := math.Abs(after[k].RMS/before[k].RMS - 1); d > 1e-4 {
			t.Errorf("layer %d: the root mean square differs by %.2g of itself", k, d)
		}
	}
	if before[4].Top(13) >= after[4].Top(13) {
		t.Errorf("layer 4: a tenth of the channels hold %.3f of the energy, rotated %.3f", before[4].Top(13), after[4].Top(13))
	}
}

func TestResolve(t *testing.T) {
	cache(t)
	if p, err := Resolve("some/path"); p != "some/path" || err != nil {
		t.Errorf("a path became %q, %v", p, err)
	}
	file, err := Resolve("builtin:world-validation/wikitext2/wiki.test.raw")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Size() == 0 {
		t.Errorf("%s: %v", file, err)
	}
	for path, want := range map[string]string{
		"builtin:nothing":        `unknown built-in "builtin:nothing", expected one of builtin:small, builtin:small-rotated, `,
		"builtin:world/../small": "expected a file within builtin:world",
	} {
		if _, err := Resolve(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	names, about := Names()
	for i, n := range names {
		if about[i] == "" || !strings.HasPrefix(n, Prefix) {
			t.Errorf("%s: %q", n, about[i])
		}
	}
}

// TestMade ties version to the bytes that code makes.
func TestMade(t *testing.T) {
	dir := t.TempDir()
	for _, m := range makers() {
		want, ok := made[m.name]
		if !ok {
			if m.digest == nil && m.name != "world-train" { // which is made by the code of world, and takes longer
				t.Errorf("no digest of %s", m.name)
			}
			continue
		}
		at := filepath.Join(dir, m.name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := m.make(at); err != nil {
			t.Fatal(err)
		}
		got, err := folderDigest(at)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s: the files have SHA-256 %s, version %s has %s: count version up and put the digest here", m.name, got, version, want)
		}
	}
}

// folderDigest is the SHA-256 of the names, lengths and bytes of all files below a folder, by name.
func folderDigest(dir string) (string, error) {
	h := sha256.New()
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(b))
		h.Write(b)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// TestTrainingFile: the training file beside the weights is the resolved one of the experiments.
func TestTrainingFile(t *testing.T) {
	s, err := spec.LoadTraining("../../experiments/train-small.yaml", spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := small.ReadFile("small/training.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(embedded), string(s.YAML())); d != "" {
		t.Errorf("experiments/train-small.yaml is not what the model was trained by (-embedded +resolved):\n%s", d)
	}
}
