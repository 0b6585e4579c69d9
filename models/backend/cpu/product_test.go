package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"splitbench/models/backend"
)

// TestProduct compares the products of training with a float64 sum over all
// shapes and layouts, and their bits between kernels and numbers of workers.
func TestProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		return x
	}
	var backends []*Backend
	for _, k := range Kernels() {
		for _, w := range []int{1, 2, 3} {
			b, err := New(Options{Workers: w, Kernel: k})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			backends = append(backends, b)
		}
	}
	for _, s := range [][3]int{{1, 1, 1}, {3, 17, 5}, {33, 40, 64}, {64, 128, 96}, {70, 800, 33}, {600, 30, 20}, {29, 71, 300}, {40, 64, 261}} {
		for form := range 8 {
			rows, cols, terms := s[0], s[1], s[2]
			pad := form >> 2 * 3
			operand := func(rows, cols int, transposed bool) backend.Operand[float32] {
				if transposed {
					rows, cols = cols, rows
				}
				return backend.Operand[float32]{Data: random(rows * (cols + pad)), Stride: cols + pad, Transposed: transposed}
			}
			at := func(x backend.Operand[float32], i, j int) float64 {
				if x.Transposed {
					i, j = j, i
				}
				return float64(x.Data[i*x.Stride+j])
			}
			p := backend.Product[float32]{Rows: rows, Cols: cols, Terms: terms, Stride: cols + pad, Accumulate: pad > 0,
				A: operand(rows, terms, form&1 != 0), B: operand(terms, cols, form&2 != 0)}
			start := random(rows * p.Stride)
			var first []float32
			for _, b := range backends {
				for _, alone := range []bool{false, true} {
					p.C = slices.Clone(start)
					if alone {
						b.ProductOn(b.Workers()-1, p)
					} else {
						b.Product(p)
					}
					if first == nil {
						first = p.C
					} else if !slices.Equal(first, p.C) {
						t.Fatalf("%v form %d: %s with %d workers (alone %v) gives other bits", s, form, b.Name(), b.Workers(), alone)
					}
				}
			}
			for i := range rows {
				for j := range p.Stride {
					want := float64(start[i*p.Stride+j])
					if j < cols {
						if !p.Accumulate {
							want = 0
						}
						for k := range terms {
							want += at(p.A, i, k) * at(p.B, k, j)
						}
					}
					if d := math.Abs(want - float64(first[i*p.Stride+j])); d > 1e-5*math.Sqrt(float64(terms)) {
						t.Fatalf("%v form %d: [%d, %d] is %v, expected %v", s, form, i, j, first[i*p.Stride+j], want)
					}
				}
			}
		}
	}
}

func BenchmarkProduct(b *testing.B) {
	be, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer be.Close()
	for _, s := range [][3]int{{256, 128, 128}, {512, 512, 512}, {512, 1408, 512}} {
		for form, name := range []string{"x·Wᵀ", "dy·W", "dyᵀ·x"} {
			b.Run(fmt.Sprintf("%s/%dx%dx%d", name, s[0], s[1], s[2]), func(b *testing.B) {
				rows, cols, terms := s[0], s[1], s[2]
				p := backend.Product[float32]{Rows: rows, Cols: cols, Terms: terms, Stride: cols, C: make([]float32, rows*cols),
					A: backend.Operand[float32]{Data: make([]float32, rows*terms), Stride: terms},
					B: backend.Operand[float32]{Data: make([]float32, cols*terms), Stride: cols}}
				if form == 0 {
					p.B.Transposed, p.B.Stride = true, terms
				}
				if form == 2 {
					p.A.Transposed, p.A.Stride = true, rows
				}
				for b.Loop() {
					be.Product(p)
				}
				b.ReportMetric(2*float64(rows)*float64(cols)*float64(terms)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
