//go:build !noasm

package cpu

//go:noescape
func peakneon(n int)

//go:noescape
func readMemoryneon(x *float32, n int)

// microKernels returns the kernels this CPU can run, fastest first, ending
// with plain Go. Every arm64 CPU has the vector instructions.
func microKernels() []kernel {
	return []kernel{{
		name: "neon", wide: 1,
		tiles: []tile{
			{6, [maxPanels]tileKernel{idtile6x16neon}},
			{4, [maxPanels]tileKernel{idtile4x16neon}},
			{2, [maxPanels]tileKernel{idtile2x16neon}},
			{1, [maxPanels]tileKernel{idtile1x16neon}},
		},
		limits: limits{peak: peakneon, peakFlop: 24 * 4 * 2, read: readMemoryneon},
	}, genericKernel}
}
