//go:build amd64 && !noasm

package cpu

import "golang.org/x/sys/cpu"

//go:generate go run ./kernelgen gemm_amd64.s

// The kernels equal microGeneric for their tile; see kernelgen.

//go:noescape
func micro8x48avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro4x48avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro2x48avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro1x48avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro8x16avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro4x16avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro2x16avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro1x16avx512(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro4x16avx2(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro2x16avx2(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

//go:noescape
func micro1x16avx2(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

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

// microKernels returns the kernels this CPU can run, fastest first, ending
// with plain Go.
func microKernels() []kernel {
	var ks []kernel
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL {
		ks = append(ks, kernel{
			name: "avx512", wide: 3,
			elements: &elementwise{scaleMaxavx512, expSumavx512, siluMulavx512},
			tiles: []tile{
				{8, [2]microAsm{micro8x16avx512, micro8x48avx512}},
				{4, [2]microAsm{micro4x16avx512, micro4x48avx512}},
				{2, [2]microAsm{micro2x16avx512, micro2x48avx512}},
				{1, [2]microAsm{micro1x16avx512, micro1x48avx512}},
			},
		})
	}
	if cpu.X86.HasAVX2 {
		ks = append(ks, kernel{
			name: "avx2", wide: 1,
			elements: &elementwise{scaleMaxavx2, expSumavx2, siluMulavx2},
			tiles: []tile{
				{4, [2]microAsm{micro4x16avx2, micro4x16avx2}},
				{2, [2]microAsm{micro2x16avx2, micro2x16avx2}},
				{1, [2]microAsm{micro1x16avx2, micro1x16avx2}},
			},
		})
	}
	return append(ks, genericKernel)
}
