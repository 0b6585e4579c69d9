package main

import (
	"os"
	"testing"
)

// TestPackedCheckedIn regenerates the kernels and compares them with the file
// that is built.
func TestPackedCheckedIn(t *testing.T) {
	have, err := os.ReadFile("../packed_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != PackedAMD64() {
		t.Error("packed_amd64.s differs from the generator's output: run go generate ./models/backend/cpu")
	}
}
