package quantize

import (
	"math"
	"strings"
	"testing"
)

// Every matrix has orthogonal rows: the eleven orders of QuaRot, powers of two
// and orders that only the constructions give.
func TestHadamardMatrixOrthogonal(t *testing.T) {
	for _, k := range []int{1, 2, 8, 12, 20, 24, 28, 36, 40, 44, 52, 60, 68, 76, 84, 108, 124, 140, 148, 156, 172} {
		h, err := HadamardMatrix(k)
		if err != nil {
			t.Errorf("order %d: %v", k, err)
			continue
		}
		for a := range k {
			for b := range a + 1 {
				s := 0
				for j := range k {
					s += int(h[a*k+j]) * int(h[b*k+j])
				}
				if a == b && s != k || a != b && s != 0 {
					t.Fatalf("order %d: rows %d and %d have product %d", k, a, b, s)
				}
			}
		}
	}
	for _, k := range []int{0, 3, 6, 92, 1 << 20} {
		if _, err := HadamardMatrix(k); err == nil {
			t.Errorf("order %d: no error", k)
		}
	}
}

// Sizes of models: those QuaRot names, and those it refuses.
func TestHadamardOrder(t *testing.T) {
	for n, want := range map[int]int{11008: 172, 13824: 108, 14336: 28, 5120: 40, 4096: 1, 8: 1, 17920: 140, 352: 44, 5632: 44, 18944: 148, 7680: 60} {
		if k, err := HadamardOrder(n); err != nil || k != want {
			t.Errorf("%d: order %d (%v), want %d", n, k, err, want)
		}
	}
	for _, n := range []int{0, 3, 92, 7} {
		if _, err := HadamardOrder(n); err == nil {
			t.Errorf("%d: no error", n)
		}
	}
}

// A rotation and its transpose cancel, keep the length, and equal the product
// with RandomHadamard of signs +1.
func TestRotation(t *testing.T) {
	for _, n := range []int{16, 56, 352, 24} {
		r, err := NewRotation(n, false)
		if err != nil {
			t.Fatal(err)
		}
		back, err := NewRotation(n, true)
		if err != nil {
			t.Fatal(err)
		}
		x := randomMatrix(NewRandom(uint64(n)), 3, n)
		y := append([]float32(nil), x...)
		if err := r.Apply(y); err != nil {
			t.Fatal(err)
		}
		ones := make([]float32, n)
		for i := range ones {
			ones[i] = 1
		}
		q, err := RandomHadamard(ones)
		if err != nil {
			t.Fatal(err)
		}
		for row := range 3 {
			for j := range n {
				var s float64
				for i := range n {
					s += float64(x[row*n+i]) * q[i*n+j]
				}
				if math.Abs(s-float64(y[row*n+j])) > 1e-5 {
					t.Fatalf("size %d: row %d, column %d is %v, want %v", n, row, j, y[row*n+j], s)
				}
			}
		}
		if err := back.ApplyOnline(y); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if math.Abs(float64(x[i]-y[i])) > 1e-5 {
				t.Fatalf("size %d: %v came back as %v", n, x[i], y[i])
			}
		}
		if err := r.Apply(x[:n-1]); err == nil {
			t.Error("short row: no error")
		}
	}
}

// Hadamard within heads on the outputs of v, across heads on the input of o,
// and the whole transform of the input columns of o cancel: the rotation that
// QuaRot runs online.
func TestHadamardAcrossHeads(t *testing.T) {
	for _, heads := range []int{4, 12} {
		const headDim, rows = 8, 5
		n := heads * headDim
		r := NewRandom(8)
		x, o := randomMatrix(r, 1, n), randomMatrix(r, rows, n)
		want := make([]float64, rows)
		for i := range rows {
			for c := range n {
				want[i] += float64(x[c]) * float64(o[i*n+c])
			}
		}
		y := append([]float32(nil), x...)
		if err := HadamardHeads(y, n, 1, headDim); err != nil { // as a column: the output of v
			t.Fatal(err)
		}
		if err := HadamardAcrossHeads(y, heads, headDim); err != nil {
			t.Fatal(err)
		}
		rot, err := NewRotation(n, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := rot.ApplyOnline(o); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			var s float64
			for c := range n {
				s += float64(y[c]) * float64(o[i*n+c])
			}
			if math.Abs(s-want[i]) > 1e-5 {
				t.Errorf("%d heads: output %d is %v, want %v", heads, i, s, want[i])
			}
		}
	}
	if err := HadamardHeads(make([]float32, 12), 12, 1, 6); err == nil || !strings.Contains(err.Error(), "power of two") {
		t.Errorf("head of 6: %v", err)
	}
	if err := HadamardAcrossHeads(make([]float32, 9), 3, 3); err == nil {
		t.Error("3 heads: no error")
	}
}

func TestRandomOrthogonal(t *testing.T) {
	const n = 37
	q := RandomOrthogonal(n, 1)
	for a := range n {
		for b := range n {
			d := dot(q[a*n:(a+1)*n], q[b*n:(b+1)*n])
			if a == b {
				d--
			}
			if math.Abs(d) > 1e-12 {
				t.Fatalf("rows %d and %d: %v", a, b, d)
			}
		}
	}
	if p := RandomOrthogonal(n, 2); p[0] == q[0] {
		t.Error("two seeds, one matrix")
	}
}
