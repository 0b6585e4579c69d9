package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// imports says which packages of ours each package may import; a package that
// is missing here must not exist. Leaves import nothing of ours, parts meet
// only in harness.
var imports = map[string][]string{
	"compress":                     {},
	"compress/codectest":           {"compress"},
	"compress/kernelgen":           {},
	"sim":                          {},
	"tasks":                        {},
	"tasks/world":                  {},
	"results":                      {},
	"experiments/spec":             {},
	"models/backend":               {},
	"models/backend/backendtest":   {"models/backend"},
	"models/backend/cpu":           {"models/backend"},
	"models/backend/cpu/kernelgen": {},
	"models/chat":                  {},
	"models/checkpoint":            {},
	"models/tokenizer":             {},
	"models/quantize":              {},
	"models/hub":                   {},
	"models/decoder":               {"models/backend", "models/checkpoint"},
	"models/quantize/train":        {"models/backend", "models/checkpoint", "models/decoder", "models/quantize"},
	"figures":                      {"results"},
	"harness":                      {"harness/cli"},
	"harness/bench":                {"compress", "harness/exec", "harness/quantise", "models/backend", "models/backend/cpu", "models/checkpoint", "models/decoder", "models/quantize", "models/tokenizer", "results", "tasks"},
	"harness/builtin":              {"harness/quantise", "models/checkpoint", "tasks", "tasks/world"},
	"harness/exec":                 {"compress", "experiments/spec", "harness/builtin", "harness/quantise", "models/backend", "models/backend/cpu", "models/checkpoint", "models/decoder", "models/hub", "models/tokenizer"},
	"harness/quantise":             {"models/backend", "models/checkpoint", "models/decoder", "models/quantize", "models/quantize/train"},
	"harness/runner":               {"compress", "experiments/spec", "figures", "harness/builtin", "harness/exec", "harness/quantise", "models/backend", "models/backend/cpu", "models/chat", "models/checkpoint", "models/quantize", "models/tokenizer", "results", "sim", "tasks"},
	"harness/train":                {"experiments/spec", "figures", "harness/builtin", "models/backend/cpu", "models/checkpoint", "models/decoder", "models/tokenizer", "results", "tasks"},
	"harness/cli":                  {"compress", "experiments/spec", "figures", "harness/bench", "harness/builtin", "harness/exec", "harness/quantise", "harness/runner", "harness/train", "models/backend/cpu", "models/checkpoint", "models/hub", "models/quantize", "models/tokenizer", "results", "tasks"},
}

// testImports may be used in addition by a package's tests.
var testImports = map[string][]string{
	"compress":              {"compress/codectest"},
	"models/backend/cpu":    {"models/backend/backendtest"},
	"tasks/world":           {"tasks"},
	"models/decoder":        {"models/backend/cpu"},
	"models/quantize":       {"models/checkpoint"},
	"models/quantize/train": {"models/backend/cpu"},
	"harness/builtin":       {"experiments/spec", "harness/train", "models/backend/cpu", "models/decoder", "models/tokenizer", "tasks"},
	"harness/exec":          {"models/quantize"},
	"harness/quantise":      {"models/backend/cpu"},
}

// TestImports holds the direction of the architecture.
func TestImports(t *testing.T) {
	const module = "splitbench/"
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		allowed, ok := imports[pkg]
		if !ok {
			t.Errorf("%s: package %s is not in the import table", rel, pkg)
			return nil
		}
		seen[pkg] = true
		if strings.HasSuffix(file, "_test.go") {
			allowed = append(append([]string{pkg}, allowed...), testImports[pkg]...)
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			ours, ok := strings.CutPrefix(p, module)
			if !ok {
				continue
			}
			found := false
			for _, a := range allowed {
				found = found || a == ours
			}
			if !found {
				t.Errorf("%s imports %s, which the table forbids", rel, ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range imports {
		if !seen[pkg] {
			t.Errorf("package %s of the import table does not exist", pkg)
		}
	}
}
