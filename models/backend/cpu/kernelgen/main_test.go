package main

import (
	"os"
	"testing"
)

// TestCheckedIn regenerates the kernels and compares them with the file that
// is built.
func TestCheckedIn(t *testing.T) {
	have, err := os.ReadFile("../gemm_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != AMD64() {
		t.Error("gemm_amd64.s differs from the generator's output: run go generate ./models/backend/cpu")
	}
}
