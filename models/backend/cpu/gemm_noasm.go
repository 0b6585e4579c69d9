//go:build (!amd64 && !arm64) || noasm

package cpu

// microKernels returns the kernels this CPU can run, fastest first.
func microKernels() []kernel { return []kernel{genericKernel} }

// run is never called: plain Go has no tiles.
func (tileKernel) run(*tileCall) {}

// Without assembly no element-wise function has an instruction set: the calls
// below do not happen.

func (elementwise) scaleMax(*float32, int, float32) float32              { return 0 }
func (elementwise) expSum(*float32, int, float32, *float32, *[8]float64) {}
func (elementwise) softmaxRows(*softmaxCall)                             {}
func (elementwise) siluMul(_, _ *float32, _ int)                         {}
func (elementwise) rotateRow(*rotateCall)                                {}
func (elementwise) normRows(*normCall)                                   {}
func (elementwise) trains() bool                                         { return false }
func (elementwise) siluBack(*siluBackCall)                               {}
func (elementwise) softmaxBack(*softmaxBackCall)                         {}
func (elementwise) normBack(*normBackCall)                               {}
func (elementwise) adamStep(*adamCall)                                   {}

// packRows is never called: no kernel here has it.
func packRows(*float32, int, *float32, int, int) {}
