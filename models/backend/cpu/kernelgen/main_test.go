package main

import (
	"os"
	"testing"
)

// TestCheckedIn regenerates the kernels and compares them with the files that
// are built.
func TestCheckedIn(t *testing.T) {
	for name, generate := range outputs {
		have, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != generate() {
			t.Errorf("%s differs from the generator's output: run go generate ./models/backend/cpu", name)
		}
	}
}
