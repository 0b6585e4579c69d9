package cpu

import "splitbench/models/backend"

// The functions below are those of training, on host memory. They run on the
// calling goroutine, from within Parallel; their results are the same bits on
// every instruction set.

// siluBackCall is the operand of siluBack.
type siluBackCall struct {
	gate, up, d, dGate, dUp *float32
	n                       int
}

// Silu writes gate*sigmoid(gate)*up to dst, which may be neither.
func (b *Backend) Silu(dst, gate, up []float32) {
	mustEqual("Silu length", len(up), len(gate))
	copy(dst[:len(gate)], gate)
	b.kernel.elements.silu(dst[:len(gate)], up)
}

// SiluBack writes the gradients of gate and up to dGate and dUp, from that of
// gate*sigmoid(gate)*up, d, which may be one of them.
func (b *Backend) SiluBack(dGate, dUp, gate, up, d []float32) {
	mustEqual("SiluBack length", len(up), len(gate))
	mustEqual("SiluBack length", len(d), len(gate))
	mustEqual("SiluBack length", len(dGate), len(gate))
	mustEqual("SiluBack length", len(dUp), len(gate))
	b.kernel.elements.siluBackRow(dGate, dUp, gate, up, d)
}

func (e elementwise) siluBackRow(dGate, dUp, gate, up, d []float32) {
	n := 0
	if e.trains() {
		if n = len(gate) &^ (vectorStep - 1); n > 0 {
			e.siluBack(&siluBackCall{&gate[0], &up[0], &d[0], &dGate[0], &dUp[0], n})
		}
	}
	for i := n; i < len(gate); i++ {
		x, y, g := gate[i], up[i], d[i]
		s := 1 / (1 + exp32(-x))
		xs := float32(x * s)
		dUp[i] = float32(g * xs)
		dGate[i] = float32(g*y) * (s + float32(xs*(1-s)))
	}
}

// Softmax turns rows of scores at distance padded, a multiple of 16, into
// weights: row r keeps exp(scale*x[i]-top) of the keys i below first+r, of
// which window bounds the number (0: it does not), and 0 for all others of its
// padded ones. inverse[r] becomes 1 / the sum of its weights.
func (b *Backend) Softmax(x []float32, rows, padded, first, window int, scale float32, inverse []float32) {
	b.kernel.elements.softmax(x, rows, padded, first, window, scale, inverse)
}

// softmaxBackCall is the operand of softmaxBack.
type softmaxBackCall struct {
	x, weights   *float32
	rows, padded int
	mean         *float32
	scale        float32
}

// SoftmaxBack writes weight*(x-mean)*scale to rows of x at distance padded, a
// multiple of 16; mean is one number a row.
func (b *Backend) SoftmaxBack(x, weights []float32, rows, padded int, mean []float32, scale float32) {
	b.kernel.elements.softmaxBackRows(x, weights, rows, padded, mean, scale)
}

func (e elementwise) softmaxBackRows(x, weights []float32, rows, padded int, mean []float32, scale float32) {
	x, weights, mean = x[:rows*padded], weights[:rows*padded], mean[:rows]
	if e.trains() && padded > 0 && padded%vectorStep == 0 {
		e.softmaxBack(&softmaxBackCall{&x[0], &weights[0], rows, padded, &mean[0], scale})
		return
	}
	for r, m := range mean {
		row, w := x[r*padded:(r+1)*padded], weights[r*padded:(r+1)*padded]
		for i, v := range row {
			row[i] = float32(float32((v-m)*w[i]) * scale)
		}
	}
}

// Norm writes rows of x scaled to unit root mean square, times gain, to y, and
// the factor of each row to inverse. Rows are as wide as gain.
func (b *Backend) Norm(y, x, gain, inverse []float32, epsilon float64) {
	rows, cols := len(inverse), len(gain)
	mustEqual("Norm length", len(x), rows*cols)
	mustEqual("Norm length", len(y), rows*cols)
	b.kernel.elements.norm(y, x, rows, cols, gain, epsilon, inverse)
}

// normBackCall is the operand of normBack.
type normBackCall struct {
	x, dx, dy, gain *float32
	rows, cols      int
	scale           *float32
}

// NormBack adds the gradient of x to dx, from dy, that of the rows that Norm
// wrote with the factors scale.
func (b *Backend) NormBack(dx, dy, x, gain, scale []float32) {
	rows, cols := len(scale), len(gain)
	mustEqual("NormBack length", len(x), rows*cols)
	mustEqual("NormBack length", len(dx), rows*cols)
	mustEqual("NormBack length", len(dy), rows*cols)
	b.kernel.elements.normBackRows(dx, dy, x, gain, scale)
}

func (e elementwise) normBackRows(dx, dy, x, gain, scale []float32) {
	cols := len(gain)
	if len(scale) == 0 || cols == 0 {
		return
	}
	if e.trains() && cols%vectorStep == 0 {
		e.normBack(&normBackCall{&x[0], &dx[0], &dy[0], &gain[0], len(scale), cols, &scale[0]})
		return
	}
	for r, s := range scale {
		x, dx, dy := x[r*cols:][:cols], dx[r*cols:][:cols], dy[r*cols:][:cols]
		var l [8]float64
		for i, v := range x {
			l[i&7] += float64(float64(float32(dy[i]*gain[i])) * float64(v))
		}
		f := float64(s)
		k := float32(addLanes(&l) / float64(cols) * f * f * f)
		for i, v := range x {
			dx[i] += float32(float32(dy[i]*gain[i])*s) - float32(v*k)
		}
	}
}

// adamCall is the operand of adamStep.
type adamCall struct {
	values, gradient, first, second *float32
	n                               int
	k                               backend.AdamFactors[float32]
}

// Adam moves values by one step of AdamW and updates their moments.
func (b *Backend) Adam(values, gradient, first, second []float32, k backend.AdamFactors[float32]) {
	n := len(gradient)
	mustEqual("Adam length", len(values), n)
	mustEqual("Adam length", len(first), n)
	mustEqual("Adam length", len(second), n)
	b.kernel.elements.adam(values, gradient, first, second, k)
}

func (e elementwise) adam(values, gradient, first, second []float32, k backend.AdamFactors[float32]) {
	n := 0
	if e.trains() {
		if n = len(gradient) &^ (vectorStep - 1); n > 0 {
			e.adamStep(&adamCall{&values[0], &gradient[0], &first[0], &second[0], n, k})
		}
	}
	k.Move(values[n:], gradient[n:], first[n:], second[n:])
}
