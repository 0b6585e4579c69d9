//go:build amd64 && !noasm

package cpu

import "golang.org/x/sys/cpu"

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
func softmaxRowsavx512(t *softmaxCall)

//go:noescape
func normRowsavx512(t *normCall)

//go:noescape
func softmaxRowsavx2(t *softmaxCall)

//go:noescape
func normRowsavx2(t *normCall)

//go:noescape
func siluBackavx512(t *siluBackCall)

//go:noescape
func siluBackavx2(t *siluBackCall)

//go:noescape
func softmaxBackavx512(t *softmaxBackCall)

//go:noescape
func softmaxBackavx2(t *softmaxBackCall)

//go:noescape
func normBackavx512(t *normBackCall)

//go:noescape
func normBackavx2(t *normBackCall)

//go:noescape
func adamStepavx512(t *adamCall)

//go:noescape
func adamStepavx2(t *adamCall)

//go:noescape
func peakavx512(n int)

//go:noescape
func readMemoryavx512(x *float32, n int)

//go:noescape
func peakavx2(n int)

//go:noescape
func readMemoryavx2(x *float32, n int)

//go:noescape
func packRowsavx2(dst *float32, k int, a *float32, lda, step int)

// packRows writes eight rows of k terms, a positive multiple of 8, side by side;
// terms are step floats apart.
func packRows(dst *float32, k int, a *float32, lda, step int) { packRowsavx2(dst, k, a, lda, step) }

//go:noescape
func rotateRowavx2(t *rotateCall)

// The instruction sets of the element-wise functions; their methods call the
// assembly directly, so that operands stay on the caller's stack.
const (
	avx512 elementwise = 1
	avx2   elementwise = 2
)

func (e elementwise) scaleMax(x *float32, n int, scale float32) float32 {
	if e == avx512 {
		return scaleMaxavx512(x, n, scale)
	}
	return scaleMaxavx2(x, n, scale)
}

func (e elementwise) expSum(x *float32, n int, top float32, y *float32, lanes *[8]float64) {
	if e == avx512 {
		expSumavx512(x, n, top, y, lanes)
	} else {
		expSumavx2(x, n, top, y, lanes)
	}
}

func (e elementwise) softmaxRows(t *softmaxCall) {
	if e == avx512 {
		softmaxRowsavx512(t)
	} else {
		softmaxRowsavx2(t)
	}
}

func (e elementwise) siluMul(gate, up *float32, n int) {
	if e == avx512 {
		siluMulavx512(gate, up, n)
	} else {
		siluMulavx2(gate, up, n)
	}
}

func (e elementwise) normRows(t *normCall) {
	if e == avx512 {
		normRowsavx512(t)
	} else {
		normRowsavx2(t)
	}
}

// rotateRow is one for both: four pairs fill a register of 16 bytes.
func (elementwise) rotateRow(t *rotateCall) { rotateRowavx2(t) }

// trains says whether there are kernels of training.
func (e elementwise) trains() bool { return e != plainGo }

func (e elementwise) siluBack(t *siluBackCall) {
	if e == avx512 {
		siluBackavx512(t)
	} else {
		siluBackavx2(t)
	}
}

func (e elementwise) softmaxBack(t *softmaxBackCall) {
	if e == avx512 {
		softmaxBackavx512(t)
	} else {
		softmaxBackavx2(t)
	}
}

func (e elementwise) normBack(t *normBackCall) {
	if e == avx512 {
		normBackavx512(t)
	} else {
		normBackavx2(t)
	}
}

func (e elementwise) adamStep(t *adamCall) {
	if e == avx512 {
		adamStepavx512(t)
	} else {
		adamStepavx2(t)
	}
}

// microKernels returns the kernels this CPU can run, fastest first, ending
// with plain Go.
func microKernels() []kernel {
	var ks []kernel
	if cpu.X86.HasAVX2 && cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL {
		ks = append(ks, kernel{
			name: "avx512", wide: 3,
			elements: avx512, masks: true,
			tiles: []tile{
				{8, [maxPanels]tileKernel{idtile8x16avx512, idtile8x32avx512, idtile8x48avx512}},
				{4, [maxPanels]tileKernel{idtile4x16avx512, idtile4x32avx512, idtile4x48avx512}},
				{2, [maxPanels]tileKernel{idtile2x16avx512, idtile2x32avx512, idtile2x48avx512}},
				{1, [maxPanels]tileKernel{idtile1x16avx512, idtile1x32avx512, idtile1x48avx512}},
			},
			turned: []tile{
				{8, [maxPanels]tileKernel{idtile8x16turnedavx512, idtile8x32turnedavx512, idtile8x48turnedavx512}},
				{4, [maxPanels]tileKernel{idtile4x16turnedavx512, idtile4x32turnedavx512, idtile4x48turnedavx512}},
				{2, [maxPanels]tileKernel{idtile2x16turnedavx512, idtile2x32turnedavx512, idtile2x48turnedavx512}},
				{1, [maxPanels]tileKernel{idtile1x16turnedavx512, idtile1x32turnedavx512, idtile1x48turnedavx512}},
			},
			packed: idtile8x48packedavx512, packs: true,
			limits: limits{peak: peakavx512, peakFlop: 24 * 16 * 2, read: readMemoryavx512},
		})
	}
	if cpu.X86.HasAVX2 {
		ks = append(ks, kernel{
			name: "avx2", wide: 1,
			elements: avx2,
			tiles: []tile{
				{6, [maxPanels]tileKernel{idtile6x16avx2}},
				{4, [maxPanels]tileKernel{idtile4x16avx2}},
				{2, [maxPanels]tileKernel{idtile2x16avx2}},
				{1, [maxPanels]tileKernel{idtile1x16avx2}},
			},
			turned: []tile{
				{6, [maxPanels]tileKernel{idtile6x16turnedavx2}},
				{4, [maxPanels]tileKernel{idtile4x16turnedavx2}},
				{2, [maxPanels]tileKernel{idtile2x16turnedavx2}},
				{1, [maxPanels]tileKernel{idtile1x16turnedavx2}},
			},
			packed: idtile6x16packedavx2,
			limits: limits{peak: peakavx2, peakFlop: 12 * 8 * 2, read: readMemoryavx2},
		})
	}
	return append(ks, genericKernel)
}
