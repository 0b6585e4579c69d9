package quantize

import (
	"fmt"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// syntheticHessian is a Hessian of n inputs with correlated columns.
func syntheticHessian(b testing.TB, n, tokens int) *Hessian {
	h, err := NewHessian(n, 0)
	if err != nil {
		b.Fatal(err)
	}
	r := NewRandom(5)
	x := randomMatrix(r, tokens, n)
	for i := 1; i < len(x); i++ {
		x[i] += 0.7 * x[i-1]
	}
	if err := h.Add(x, tokens); err != nil {
		b.Fatal(err)
	}
	return h
}

// BenchmarkTile is the rate of the kernel of everything in float64: the GEMM
// rate that the others are a share of.
func BenchmarkTile(b *testing.B) {
	var x, y, z tile
	for i := range x {
		x[i], y[i] = float64(i%7), float64(i%5)
	}
	for b.Loop() {
		addMul(&z, &x, &y, 1)
	}
	b.ReportMetric(2*side*side*side*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// BenchmarkHessian accumulates one sequence of 256 tokens.
func BenchmarkHessian(b *testing.B) {
	for _, n := range []int{2048, 5632} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := randomMatrix(NewRandom(1), 256, n)
			h, _ := NewHessian(n, 0)
			for b.Loop() {
				if err := h.Add(x, 256); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(256*float64(n)*float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// BenchmarkFactor is Cholesky and inverse of a Hessian: 2/3 n³ operations.
func BenchmarkFactor(b *testing.B) {
	for _, n := range []int{2048, 5632} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := syntheticHessian(b, n, 64)
			for b.Loop() {
				b.StopTimer()
				g := &Hessian{n: n, sequences: 1, sum: newTriangle(n)}
				for i, row := range h.sum.rows {
					copy(g.sum.rows[i], row)
				}
				b.StartTimer()
				if _, err := g.Factor(0.01, false); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(2./3*float64(n)*float64(n)*float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// BenchmarkGonumCholesky is the rival: gonum's Cholesky alone, n³/3 operations.
func BenchmarkGonumCholesky(b *testing.B) {
	const n = 2048
	h := syntheticHessian(b, n, 64)
	s := mat.NewSymDense(n, nil)
	for i := range n {
		for j := range i + 1 {
			s.SetSym(i, j, h.At(i, j))
		}
		s.SetSym(i, i, s.At(i, i)+1)
	}
	for b.Loop() {
		var c mat.Cholesky
		if !c.Factorize(s) {
			b.Fatal("not positive definite")
		}
	}
	b.ReportMetric(1./3*n*n*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// BenchmarkGPTQ quantizes a weight of a 1.1B-parameter model's shape with a
// given factor: rows*n² operations of updates.
func BenchmarkGPTQ(b *testing.B) {
	for _, shape := range [][2]int{{2048, 2048}, {2048, 5632}} {
		rows, n := shape[0], shape[1]
		b.Run(fmt.Sprintf("%dx%d", rows, n), func(b *testing.B) {
			// The time does not depend on the factor's numbers.
			f := &Factor{n: n, inverse: newTriangle(n), dead: make([]bool, n)}
			for i := range n {
				f.inverse.set(i, i, 1)
			}
			w := randomMatrix(NewRandom(2), rows, n)
			g := GPTQ{Quantizer: GPTQWeight(4, 128, false, false)}
			for b.Loop() {
				if _, err := g.Quantize(w, rows, n, f); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)*float64(n)*float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// BenchmarkActivation is the dynamic quantization of 128 tokens of 4096
// channels.
func BenchmarkActivation(b *testing.B) {
	names := []string{"smoothquant", "omniquant", "atom"}
	for i, q := range []Quantizer{SmoothQuantActivation(4), OmniQuantActivation(4, 0), AtomActivation(4, 128, 0.9)} {
		name := names[i]
		b.Run(name, func(b *testing.B) {
			x := randomMatrix(NewRandom(1), 128, 4096)
			y := make([]float32, len(x))
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				if err := q.Simulate(y, x, 128, 4096); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
