//go:build (!amd64 && !arm64) || noasm

package cpu

// microKernels returns the kernels this CPU can run, fastest first.
func microKernels() []kernel { return []kernel{genericKernel} }

// run is never called: plain Go has no tiles.
func (tileKernel) run(*tileCall) {}
