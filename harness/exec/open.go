package exec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"splitbench/harness/builtin"
	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/hub"
	"splitbench/models/tokenizer"
)

// Source says where a model lies and how to run it.
type Source struct {
	Path      string // Hugging Face folder, or a llama2.c file
	Tokenizer string // file or folder; empty: found beside the model
	MaxLength int    // tokens that one input may have; 0: the model's own limit
	BatchRows int    // rows of one forward pass; 0: DefaultBatchRows
	Workers   int    // CPU workers; 0: all cores
	Kernel    string // CPU kernel; empty: the fastest
}

// Loaded is a model ready to run, with its tokenizer.
type Loaded struct {
	Checkpoint *checkpoint.Checkpoint
	Tokenizer  tokenizer.Tokenizer // nil when none was found and none was asked for by name
	Engine     *Engine
	MaxLength  int
	backend    backend.Backend
}

// Open loads the model of s. The tokenizer's absence is no error here:
// requests may come as token ids; RequireTokenizer makes it one.
func Open(s Source) (*Loaded, error) {
	c, err := checkpoint.Open(s.Path)
	if err != nil {
		return nil, err
	}
	l := &Loaded{Checkpoint: c, MaxLength: s.MaxLength}
	fail := func(err error) (*Loaded, error) {
		l.Close()
		return nil, err
	}
	if l.MaxLength == 0 {
		l.MaxLength = c.Config.MaxPositions
	}
	if l.Tokenizer, err = OpenTokenizer(s.Path, s.Tokenizer); err != nil {
		return fail(err)
	}
	if t := l.Tokenizer; t != nil && t.Size() > c.Config.VocabSize {
		return fail(fmt.Errorf("%s: the tokenizer has %d tokens, the model only %d", tokenizerPath(s), t.Size(), c.Config.VocabSize))
	}
	b, err := cpu.New(cpu.Options{Workers: s.Workers, Kernel: s.Kernel})
	if err != nil {
		return fail(err)
	}
	l.backend = b
	m, err := decoder.Load(c, b)
	if err != nil {
		return fail(err)
	}
	l.Engine = NewEngine(m, s.BatchRows)
	l.Engine.workers = b.Workers()
	return l, nil
}

func tokenizerPath(s Source) string {
	if s.Tokenizer != "" {
		return s.Tokenizer
	}
	return s.Path
}

// Kernels lists the CPU kernels that run here, fastest first.
func Kernels() []string { return cpu.Kernels() }

// HubPrefix marks a model path of a spec as a name on the hub.
const HubPrefix = "hub:"

// Locate turns a model name into a path: builtin:NAME into the folder of the
// built-in, hub:ORG/NAME or ORG/NAME (with @REVISION; a path of that name on
// disk comes first) into its snapshot in the local hub cache, anything else
// into itself. It never downloads.
func Locate(name string) (string, error) {
	if strings.HasPrefix(name, builtin.Prefix) || name == "" {
		return builtin.Resolve(name)
	}
	if repo, ok := strings.CutPrefix(name, HubPrefix); ok {
		r, err := hub.ParseRepo(repo)
		if err != nil {
			return "", err
		}
		return hub.Resolve(r.String())
	}
	if _, err := os.Stat(name); err == nil || filepath.IsAbs(name) || strings.Count(name, "/") != 1 || strings.HasPrefix(name, ".") {
		return name, nil
	}
	if _, err := hub.ParseRepo(name); err != nil {
		return name, nil // no name on the hub: a path that does not exist
	}
	return hub.Resolve(name)
}

// OpenTokenizer reads the tokenizer file or folder at path, or looks beside
// the model when path is empty; nil when there is none beside the model.
func OpenTokenizer(model, path string) (tokenizer.Tokenizer, error) {
	if path != "" {
		return tokenizer.Load(path)
	}
	dir := model
	if info, err := os.Stat(model); err == nil && !info.IsDir() {
		dir = filepath.Dir(model)
	}
	for _, pattern := range []string{"tokenizer.json", "*.model", "tokenizer.bin", "tekken.json", "vocab.json", "encoder.json", "*.tiktoken"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return tokenizer.Load(dir)
		}
	}
	return nil, nil
}

// RequireTokenizer returns the tokenizer or says how to name one.
func (l *Loaded) RequireTokenizer() (tokenizer.Tokenizer, error) {
	if l.Tokenizer == nil {
		return nil, fmt.Errorf("%s: no tokenizer beside the model (tokenizer.json, tokenizer.model, tekken.json, ...), name one with --tokenizer", l.Checkpoint.Dir)
	}
	return l.Tokenizer, nil
}

// Close frees the model.
func (l *Loaded) Close() error {
	if l.backend != nil {
		l.backend.Close()
	}
	return l.Checkpoint.Close()
}
