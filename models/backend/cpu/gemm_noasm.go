//go:build !amd64 || noasm

package cpu

// microKernels returns the kernels this CPU can run, fastest first.
func microKernels() []kernel { return []kernel{genericKernel} }

// Without assembly no kernel and no element-wise function has an instruction
// set: the calls below do not happen.

func (tileKernel) run(*tileCall) {}

func (elementwise) scaleMax(*float32, int, float32) float32              { return 0 }
func (elementwise) expSum(*float32, int, float32, *float32, *[8]float64) {}
func (elementwise) softmaxRows(*softmaxCall)                             {}
func (elementwise) siluMul(_, _ *float32, _ int)                         {}
func (elementwise) normRows(*normCall)                                   {}
