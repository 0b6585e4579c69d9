package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"splitbench/models/backend"
)

// trainingCase runs the kernels of training of every instruction set on rows
// between guard zones and compares them with plain Go bit for bit.
func trainingCase(t *testing.T, rows, cols int, large bool, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	n := rows * cols
	inside := func(x []float32) []float32 { return x[guard : len(x)-guard] }
	take := func(n int) []float32 {
		x := guarded(r, n)
		if large {
			for i := range inside(x) {
				inside(x)[i] *= float32(math.Exp(30 * r.NormFloat64()))
			}
		}
		return x
	}
	gate, up, d, x, dx, gain, mean := take(n), take(n), take(n), take(n), take(n), take(cols), take(rows)
	second := take(n)
	for i, v := range inside(second) {
		inside(second)[i] = v * v
	}
	scale := guarded(r, rows)
	padded := roundUp(cols, vectorStep)
	scores, weights := take(rows*padded), take(rows*padded)
	k := backend.AdamFactors[float32]{Scale: 0.7, First: 0.1, Second: 0.95, Rest: 0.05, Epsilon: 1e-8, Root: 0.4, Step: 3e-3, Keep: 0.999}
	type outcome struct {
		what string
		x    []float32
	}
	run := func(e elementwise) []outcome {
		dGate, dUp := slices.Clone(gate), slices.Clone(d) // dUp is d itself
		e.siluBackRow(inside(dGate), inside(dUp), inside(gate), inside(up), inside(dUp))
		s := slices.Clone(scores)
		e.softmaxBackRows(inside(s), inside(weights), rows, padded, inside(mean), 0.3)
		sum := slices.Clone(dx)
		e.normBackRows(inside(sum), inside(d), inside(x), inside(gain), inside(scale))
		values, first, v := slices.Clone(x), slices.Clone(up), slices.Clone(second)
		e.adam(inside(values), inside(d), inside(first), inside(v), k)
		y, inverse := slices.Clone(x), slices.Clone(scale)
		e.norm(inside(y), inside(y), rows, cols, inside(gain), 1e-5, inside(inverse))
		return []outcome{{"dGate", dGate}, {"dUp", dUp}, {"scores", s}, {"dx", sum}, {"values", values}, {"first", first}, {"second", v}, {"norm", y}, {"inverse", inverse}}
	}
	want := run(plainGo)
	for _, kr := range microKernels() {
		for i, o := range run(kr.elements) {
			for j, v := range o.x {
				if w := want[i].x[j]; math.Float32bits(v) != math.Float32bits(w) && (v == v || w == w) {
					t.Fatalf("%s, %d x %d, seed %d: %s %d (guards %d) is %v, plain Go has %v", kr.name, rows, cols, seed, o.what, j, guard, v, w)
				}
			}
		}
	}
}

func TestTrainingEqualsPlainGo(t *testing.T) {
	for rows := 1; rows < 5; rows++ {
		for _, cols := range []int{1, 7, 15, 16, 17, 31, 32, 48, 96, 100} {
			trainingCase(t, rows, cols, rows%2 == 0, uint64(cols))
		}
	}
}

func FuzzTraining(f *testing.F) {
	f.Add(uint8(2), uint8(48), false, uint64(1))
	f.Add(uint8(3), uint8(33), true, uint64(2))
	f.Fuzz(func(t *testing.T, rows, cols uint8, large bool, seed uint64) {
		trainingCase(t, int(rows)%9+1, int(cols)+1, large, seed)
	})
}

// turnedCase computes a sum over terms that are rows of both operands, which end
// where their memory ends, and compares it with plain Go bit for bit.
func turnedCase(t *testing.T, rows, cols, terms, pad int, accumulate bool, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 6))
	operand := func(cols int) backend.Operand[float32] {
		x := backend.Operand[float32]{Stride: cols + pad}
		x.Data = guarded(r, (terms-1)*x.Stride+cols)
		x.Data = x.Data[guard : len(x.Data)-guard]
		return x
	}
	a, b := operand(rows), operand(cols)
	a.Transposed = true
	c := guarded(r, (rows-1)*(cols+pad)+cols)
	var want []float32
	for _, name := range slices.Backward(Kernels()) { // plain Go first
		be := open(t, Options{Kernel: name, Workers: 2})
		got := slices.Clone(c)
		be.Product(backend.Product[float32]{Rows: rows, Cols: cols, Terms: terms, A: a, B: b, C: got[guard : len(got)-guard], Stride: cols + pad, Accumulate: accumulate})
		if want == nil {
			want = got
		}
		for i, v := range got {
			if math.Float32bits(v) != math.Float32bits(want[i]) {
				t.Fatalf("%s: %d x %d of %d terms, %d apart, accumulate %v: float %d (guards %d) is %v, plain Go has %v", name, rows, cols, terms, pad, accumulate, i, guard, v, want[i])
			}
		}
	}
}

func TestTurnedEqualsPlainGo(t *testing.T) {
	for rows := 1; rows < 20; rows += 3 {
		for _, cols := range []int{1, 15, 16, 33, 48, 64, 100} {
			for _, terms := range []int{1, 31, 32, 129, 300} {
				turnedCase(t, rows, cols, terms, rows%3, terms%2 == 0, uint64(rows))
			}
		}
	}
}

func FuzzTurned(f *testing.F) {
	f.Add(uint8(9), uint8(50), uint8(200), uint8(1), true, uint64(1))
	f.Fuzz(func(t *testing.T, rows, cols, terms, pad uint8, accumulate bool, seed uint64) {
		turnedCase(t, int(rows)%30+1, int(cols)%120+1, int(terms)+1, int(pad)%4, accumulate, seed)
	})
}

// TestTrainingByHand compares the functions of training with values worked out
// by hand.
func TestTrainingByHand(t *testing.T) {
	near := func(what string, have, want float32) {
		if math.Abs(float64(have-want)) > 1e-6*max(1, math.Abs(float64(want))) {
			t.Errorf("%s is %v, expected %v", what, have, want)
		}
	}
	b := open(t, Options{})
	// silu(0)*up: sigmoid 1/2, so the gradients are up*d/2 and 0.
	dGate, dUp := make([]float32, 1), make([]float32, 1)
	b.SiluBack(dGate, dUp, []float32{0}, []float32{3}, []float32{5})
	near("dGate", dGate[0], 7.5)
	near("dUp", dUp[0], 0)
	// x = (3, 4): root mean square 5/sqrt(2). dy along x changes nothing.
	x, inverse, y := []float32{3, 4}, make([]float32, 1), make([]float32, 2)
	b.Norm(y, x, []float32{1, 2}, inverse, 0)
	near("y0", y[0], 3*math.Sqrt2/5)
	near("y1", y[1], 8*math.Sqrt2/5)
	near("inverse", inverse[0], math.Sqrt2/5)
	dx := []float32{10, 20}
	b.NormBack(dx, []float32{3, 4}, x, []float32{1, 1}, inverse)
	near("dx0", dx[0], 10)
	near("dx1", dx[1], 20)
	b.NormBack(dx, []float32{4, -3}, x, []float32{1, 1}, inverse) // across x: times the factor
	near("dx0", dx[0], 10+4*math.Sqrt2/5)
	near("dx1", dx[1], 20-3*math.Sqrt2/5)
	// One step of Adam from zero moments is step*sign of the gradient.
	v, m, s := []float32{1}, []float32{0}, []float32{0}
	b.Adam(v, []float32{-4}, m, s, backend.AdamFactors[float32]{Scale: 0.5, First: 0.1, Second: 0.9, Rest: 0.1, Root: float32(math.Sqrt(0.1)), Step: 0.01 / 0.1, Keep: 1})
	near("value", v[0], 1.01)
	near("first", m[0], -0.2)
	near("second", s[0], 0.4)
}
