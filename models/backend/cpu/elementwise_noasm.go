//go:build !amd64 || noasm

package cpu

// Without assembly no element-wise function has an instruction set: the calls
// below do not happen.

func (elementwise) scaleMax(*float32, int, float32) float32              { return 0 }
func (elementwise) expSum(*float32, int, float32, *float32, *[8]float64) {}
func (elementwise) softmaxRows(*softmaxCall)                             {}
func (elementwise) siluMul(_, _ *float32, _ int)                         {}
func (elementwise) normRows(*normCall)                                   {}
