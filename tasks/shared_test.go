package tasks

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shared returns a path below the shared data folder, or skips the test without it.
func shared(t testing.TB, parts ...string) string {
	t.Helper()
	root := os.Getenv("SPLITBENCH_SHARED")
	if root == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
			if filepath.Dir(dir) == dir {
				t.Fatal("no go.mod above the test")
			}
			dir = filepath.Dir(dir)
		}
		root = filepath.Join(filepath.Dir(dir), "shared")
	}
	if _, err := os.Stat(root); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data required but missing: %v", err)
		}
		t.Skipf("needs the shared data folder (set SPLITBENCH_SHARED): %v", err)
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

type loadKey struct {
	name  string
	p     Protocol
	limit Limit
}

// loaded keeps data sets that several tests read; none changes the documents.
var loaded = make(map[loadKey]*Dataset)

// loadShared loads a task from the shared data. The data set is the caller's, its documents are shared.
func loadShared(t testing.TB, name string, p Protocol, limit Limit) *Dataset {
	t.Helper()
	key := loadKey{name, p, limit}
	if ds := loaded[key]; ds != nil {
		own := *ds
		return &own
	}
	path, err := DefaultPath(shared(t, "data"), name)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := Load(name, Options{Path: path, Protocol: p, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	loaded[key] = ds
	own := *ds
	return &own
}

// readJSON decodes one JSON file, gzipped if its name says so.
func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	for _, raw := range readLines(t, path, true) {
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

// readLines returns the lines of a file (as one if whole).
func readLines(t testing.TB, path string, whole bool) [][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	if whole {
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{data}
	}
	var out [][]byte
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadBytes('\n')
		if len(line) > 0 {
			out = append(out, line)
		}
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// jsonLines decodes every line of a JSON lines file.
func jsonLines[T any](t testing.TB, path string) []T {
	t.Helper()
	var out []T
	for _, line := range readLines(t, path, false) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, v)
	}
	return out
}

// write puts files into a new folder and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
