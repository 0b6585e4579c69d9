//go:build amd64 && !noasm

package cpu

import "golang.org/x/sys/cpu"

//go:generate go run ./kernelgen gemm_amd64.s

// The kernels equal microGeneric for their tiles; see kernelgen.

//go:noescape
func tile8x48packedavx512(t *tileCall)

//go:noescape
func tile8x48avx512(t *tileCall)

//go:noescape
func tile8x32avx512(t *tileCall)

//go:noescape
func tile8x16avx512(t *tileCall)

//go:noescape
func tile4x48avx512(t *tileCall)

//go:noescape
func tile4x32avx512(t *tileCall)

//go:noescape
func tile4x16avx512(t *tileCall)

//go:noescape
func tile2x48avx512(t *tileCall)

//go:noescape
func tile2x32avx512(t *tileCall)

//go:noescape
func tile2x16avx512(t *tileCall)

//go:noescape
func tile1x48avx512(t *tileCall)

//go:noescape
func tile1x32avx512(t *tileCall)

//go:noescape
func tile1x16avx512(t *tileCall)

//go:noescape
func tile6x16packedavx2(t *tileCall)

//go:noescape
func tile6x16avx2(t *tileCall)

//go:noescape
func tile4x16avx2(t *tileCall)

//go:noescape
func tile2x16avx2(t *tileCall)

//go:noescape
func tile1x16avx2(t *tileCall)

//go:noescape
func scaleMaxavx512(x *float32, n int, scale float32) float32

//go:noescape
func expSumavx512(x *float32, n int, top float32, y *float32, lanes *[8]float64)

//go:noescape
func siluMulavx512(gate, up *float32, n int)

//go:noescape
func scaleMaxavx2(x *float32, n int, scale float32) float32

//go:noescape
func expSumavx2(x *float32, n int, top float32, y *float32, lanes *[8]float64)

//go:noescape
func siluMulavx2(gate, up *float32, n int)

//go:noescape
func peakavx512(n int)

//go:noescape
func readMemoryavx512(x *float32, n int)

//go:noescape
func peakavx2(n int)

//go:noescape
func readMemoryavx2(x *float32, n int)

// microKernels returns the kernels this CPU can run, fastest first, ending
// with plain Go.
func microKernels() []kernel {
	var ks []kernel
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL {
		ks = append(ks, kernel{
			name: "avx512", wide: 3,
			elements: &elementwise{scaleMaxavx512, expSumavx512, siluMulavx512},
			tiles: []tile{
				{8, [maxPanels]tileAsm{tile8x16avx512, tile8x32avx512, tile8x48avx512}},
				{4, [maxPanels]tileAsm{tile4x16avx512, tile4x32avx512, tile4x48avx512}},
				{2, [maxPanels]tileAsm{tile2x16avx512, tile2x32avx512, tile2x48avx512}},
				{1, [maxPanels]tileAsm{tile1x16avx512, tile1x32avx512, tile1x48avx512}},
			},
			packed: tile8x48packedavx512,
			limits: limits{peak: peakavx512, peakFlop: 24 * 16 * 2, read: readMemoryavx512},
		})
	}
	if cpu.X86.HasAVX2 {
		ks = append(ks, kernel{
			name: "avx2", wide: 1,
			elements: &elementwise{scaleMaxavx2, expSumavx2, siluMulavx2},
			tiles: []tile{
				{6, [maxPanels]tileAsm{tile6x16avx2}},
				{4, [maxPanels]tileAsm{tile4x16avx2}},
				{2, [maxPanels]tileAsm{tile2x16avx2}},
				{1, [maxPanels]tileAsm{tile1x16avx2}},
			},
			packed: tile6x16packedavx2,
			limits: limits{peak: peakavx2, peakFlop: 12 * 8 * 2, read: readMemoryavx2},
		})
	}
	return append(ks, genericKernel)
}
