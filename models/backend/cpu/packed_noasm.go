//go:build !amd64 || noasm

package cpu

import "splitbench/models/backend"

// halfKernelsOf returns nil: there are no kernels here.
func halfKernelsOf(string, backend.Element) *halfKernels { return nil }

// packedKernelsOf returns nil: there are no kernels here.
func packedKernelsOf(string, int, bool) *packedKernels { return nil }
