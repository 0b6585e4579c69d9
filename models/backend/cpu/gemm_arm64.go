//go:build !noasm

package cpu

//go:noescape
func peakneon(n int)

//go:noescape
func readMemoryneon(x *float32, n int)

//go:noescape
func scaleMaxneon(x *float32, n int, scale float32) float32

//go:noescape
func expSumneon(x *float32, n int, top float32, y *float32, lanes *[8]float64)

//go:noescape
func softmaxRowsneon(t *softmaxCall)

//go:noescape
func siluMulneon(gate, up *float32, n int)

//go:noescape
func normRowsneon(t *normCall)

//go:noescape
func rotateRowneon(t *rotateCall)

// neon is the instruction set of the element-wise functions.
const neon elementwise = 1

func (elementwise) scaleMax(x *float32, n int, scale float32) float32 {
	return scaleMaxneon(x, n, scale)
}

func (elementwise) expSum(x *float32, n int, top float32, y *float32, lanes *[8]float64) {
	expSumneon(x, n, top, y, lanes)
}

func (elementwise) softmaxRows(t *softmaxCall) { softmaxRowsneon(t) }

func (elementwise) siluMul(gate, up *float32, n int) { siluMulneon(gate, up, n) }

func (elementwise) normRows(t *normCall) { normRowsneon(t) }

func (elementwise) rotateRow(t *rotateCall) { rotateRowneon(t) }

// trains says whether there are kernels of training; they are plain Go here,
// so that the calls below do not happen.
func (elementwise) trains() bool { return false }

func (elementwise) siluBack(*siluBackCall)       {}
func (elementwise) softmaxBack(*softmaxBackCall) {}
func (elementwise) normBack(*normBackCall)       {}
func (elementwise) adamStep(*adamCall)           {}

// microKernels returns the kernels this CPU can run, fastest first, ending
// with plain Go. Every arm64 CPU has the vector instructions.
func microKernels() []kernel {
	return []kernel{{
		name: "neon", wide: 1, elements: neon,
		tiles: []tile{
			{6, [maxPanels]tileKernel{idtile6x16neon}},
			{4, [maxPanels]tileKernel{idtile4x16neon}},
			{2, [maxPanels]tileKernel{idtile2x16neon}},
			{1, [maxPanels]tileKernel{idtile1x16neon}},
		},
		limits: limits{peak: peakneon, peakFlop: 24 * 4 * 2, read: readMemoryneon},
	}, genericKernel}
}

// packRows is never called: no kernel here has it.
func packRows(*float32, int, *float32, int, int) {}
