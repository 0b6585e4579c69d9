package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCheckedIn regenerates the kernels and compares them with the files that
// are built.
func TestCheckedIn(t *testing.T) {
	for name, text := range files {
		have, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != text() {
			t.Errorf("%s differs from the generator's output: run go generate ./compress", name)
		}
	}
}
