package quantize

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// symmetric returns a symmetric matrix of entries f(i, j), i >= j.
func symmetric(n int, f func(i, j int) float64) []float64 {
	a := make([]float64, n*n)
	for i := range n {
		for j := range i + 1 {
			a[i*n+j] = f(i, j)
			a[j*n+i] = a[i*n+j]
		}
	}
	return a
}

func matrices() map[string][]float64 {
	r := NewRandom(7)
	all := map[string][]float64{
		"zero":     make([]float64, 25),
		"identity": symmetric(6, func(i, j int) float64 { return map[bool]float64{true: 1}[i == j] }),
		"diagonal": symmetric(5, func(i, j int) float64 { return map[bool]float64{true: float64(i) - 2}[i == j] }),
		"ones":     symmetric(40, func(int, int) float64 { return 1 }),
		"graded":   symmetric(30, func(i, j int) float64 { return (r.Float64() - .5) * math.Pow(10, -float64(i+j)/4) }),
		"large":    symmetric(9, func(i, j int) float64 { return (r.Float64() - .5) * 1e100 }),
		"small":    symmetric(9, func(i, j int) float64 { return (r.Float64() - .5) * 1e-100 }),
		"twins":    symmetric(20, func(i, j int) float64 { return map[bool]float64{true: 2}[i/2 == j/2] }),
	}
	for _, n := range []int{1, 2, 3, 17, 64, 131} {
		all[fmt.Sprintf("random %d", n)] = symmetric(n, func(int, int) float64 { return r.Float64() - .5 })
	}
	x := make([]float64, 50*12) // of rank 12
	for i := range x {
		x[i] = r.Float64() - .5
	}
	all["rank 12"] = symmetric(50, func(i, j int) float64 { return dot(x[i*12:(i+1)*12], x[j*12:(j+1)*12]) })
	return all
}

// TestSymmetricEigen compares with gonum's decomposition and with the
// definition.
func TestSymmetricEigen(t *testing.T) {
	for name, a := range matrices() {
		t.Run(name, func(t *testing.T) {
			n := int(math.Sqrt(float64(len(a))))
			values, q, err := SymmetricEigen(a, n)
			if err != nil {
				t.Fatal(err)
			}
			var e mat.EigenSym
			if !e.Factorize(mat.NewSymDense(n, slices.Clone(a)), false) {
				t.Fatal("no decomposition to compare with")
			}
			want := e.Values(nil)
			slices.Reverse(want)
			norm := max(math.Abs(want[0]), math.Abs(want[n-1]))
			tolerance := 1e-14 * float64(n+10)
			for i, v := range values {
				if !(math.Abs(v-want[i]) <= tolerance*norm) || i > 0 && v > values[i-1] {
					t.Errorf("value %d is %v, expected %v", i, v, want[i])
				}
			}
			column := make([]float64, n)
			for j := range n {
				largest := 0
				for i := range n {
					if column[i] = q[i*n+j]; math.Abs(column[i]) > math.Abs(column[largest]) {
						largest = i
					}
				}
				if column[largest] <= 0 {
					t.Errorf("the largest component of vector %d is %v", j, column[largest])
				}
				for i := range n {
					if have := dot(a[i*n:(i+1)*n], column); !(math.Abs(have-values[j]*column[i]) <= tolerance*norm) {
						t.Fatalf("row %d times vector %d is %v, expected %v", i, j, have, values[j]*column[i])
					}
				}
				for k := range j + 1 {
					var have float64
					for i := range n {
						have += q[i*n+k] * column[i]
					}
					if k == j {
						have--
					}
					if !(math.Abs(have) <= tolerance) {
						t.Fatalf("vectors %d and %d: product off by %v", k, j, have)
					}
				}
			}
		})
	}
}

// TestSymmetricEigenByHand: 5 2 / 2 2 has the values 6 and 1, with the vectors
// (2, 1) and (-1, 2) over the root of 5.
func TestSymmetricEigenByHand(t *testing.T) {
	values, q, err := SymmetricEigen([]float64{5, 2, 2, 2}, 2)
	if err != nil {
		t.Fatal(err)
	}
	root := math.Sqrt(5)
	for i, want := range []float64{6, 1, 2 / root, -1 / root, 1 / root, 2 / root} {
		if have := append(values, q...)[i]; !(math.Abs(have-want) < 1e-15*10) {
			t.Errorf("number %d is %v, expected %v", i, have, want)
		}
	}
	for want, a := range map[string][]float64{"square": {1, 2}, "symmetric": {1, 2, 3, 4}, "finite": {math.NaN(), 0, 0, 1}} {
		if _, _, err := SymmetricEigen(a, 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, expected %q", a, err, want)
		}
	}
}

// TestSymmetricEigenBits holds the bits that every processor must give.
func TestSymmetricEigenBits(t *testing.T) {
	const want = "226b7398e86bc13cf1618490415ffba26f5d9f198b343b45b960e838a0d3e378"
	h := sha256.New()
	r := NewRandom(3)
	for _, n := range []int{2, 33, 150} {
		values, q, err := SymmetricEigen(symmetric(n, func(int, int) float64 { return r.Float64() - .5 }), n)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range append(values, q...) {
			h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
		}
	}
	if have := hex.EncodeToString(h.Sum(nil)); have != want {
		t.Errorf("digest %s, expected %s", have, want)
	}
}

// TestSecondMoment compares with sums by the definition, in one call and row by
// row.
func TestSecondMoment(t *testing.T) {
	const n, rows = 19, 23
	r := NewRandom(5)
	x := make([]float32, n*rows)
	for i := range x {
		x[i] = float32(r.Float64() - .5)
	}
	whole, single := NewSecondMoment(n), NewSecondMoment(n)
	if err := whole.Add(x); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(x); i += n {
		if err := single.Add(x[i : i+n]); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(whole.Matrix(), single.Matrix()) || whole.Rows() != rows {
		t.Error("rows by themselves give other bits")
	}
	for i, have := range whole.Matrix() {
		var want float64
		for t := range rows {
			want += float64(x[t*n+i/n]) * float64(x[t*n+i%n])
		}
		if !(math.Abs(have-want/rows) < 1e-15) {
			t.Fatalf("entry %d is %v, expected %v", i, have, want/rows)
		}
	}
	if err := whole.Add(x[:n+1]); err == nil {
		t.Error("a part of a row is no error")
	}
	x[3] = float32(math.Inf(1))
	if err := whole.Add(x[:n]); err == nil || !strings.Contains(err.Error(), "channel 3 of row 23") {
		t.Errorf("infinity: error %v", err)
	}
}

func BenchmarkSymmetricEigen(b *testing.B) {
	r := NewRandom(3)
	const n = 512
	a := symmetric(n, func(int, int) float64 { return r.Float64() - .5 })
	for b.Loop() {
		if _, _, err := SymmetricEigen(a, n); err != nil {
			b.Fatal(err)
		}
	}
}
