package builtin_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"splitbench/experiments/spec"
	"splitbench/harness/builtin"
	"splitbench/harness/train"
)

// TestSmallIdentity: the training file, the tokenizer that is trained anew and the data of the world as code makes
// them now are those that the embedded model's summary names. SPLITBENCH_FULL=1 runs it.
func TestSmallIdentity(t *testing.T) {
	if os.Getenv("SPLITBENCH_FULL") != "1" {
		t.Skip("makes and encodes the training text: set SPLITBENCH_FULL=1")
	}
	s, err := spec.LoadTraining(filepath.Join("..", "..", "experiments", "train-small.yaml"), spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("HOME", cache)
	t.Setenv("LocalAppData", cache)
	source, err := builtin.Resolve("builtin:small")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	// A summary of another identity is an error, a folder without one would be trained.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := train.Run(ctx, s, train.Options{Dir: dir})
	if err != nil || !r.Done {
		t.Errorf("%+v, %v, want the folder to be whole", r, err)
	}
}
