//go:build !amd64 || noasm

package cpu

// microKernels returns the kernels this CPU can run, fastest first.
func microKernels() []kernel { return []kernel{genericKernel} }
