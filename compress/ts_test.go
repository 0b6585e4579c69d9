package compress

import (
	"math"
	"slices"
	"testing"
)

func TestThresholdSplitting(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	negZero := float32(math.Copysign(0, -1))
	row := []float32{1, -2, 2, -1.9999999, negZero, nan, -inf, 3}
	for _, c := range []struct {
		tau   float64
		above []uint32
		mag   []float32
		most  float32
	}{
		{2, []uint32{1, 2, 5, 6, 7}, []float32{1, 0, 0, 1.9999999, 0, 0, 0, 0}, 1.9999999},
		{2.5, []uint32{5, 6, 7}, []float32{1, 2, 2, 1.9999999, 0, 0, 0, 0}, 2},
		{math.Inf(1), []uint32{5, 6}, []float32{1, 2, 2, 1.9999999, 0, 0, 0, 3}, 3},
		{1e300, []uint32{5, 6}, []float32{1, 2, 2, 1.9999999, 0, 0, 0, 3}, 3}, // infinite in float32
		{0, []uint32{0, 1, 2, 3, 4, 5, 6, 7}, make([]float32, 8), 0},
		{-3, []uint32{0, 1, 2, 3, 4, 5, 6, 7}, make([]float32, 8), 0},
		{math.Inf(-1), []uint32{0, 1, 2, 3, 4, 5, 6, 7}, make([]float32, 8), 0},
		{math.SmallestNonzeroFloat32, []uint32{0, 1, 2, 3, 5, 6, 7}, make([]float32, 8), 0},
	} {
		o := DefaultOptions()
		o.Threshold = c.tau
		r, err := o.reading()
		if err != nil {
			t.Fatal(err)
		}
		var csr CSR
		csr.reset(1)
		most := splitRow(row, r.tauBits, &csr)
		if !slices.Equal(csr.Col, c.above) || most != c.most {
			t.Errorf("tau %v: above %v, largest %v, want %v, %v", c.tau, csr.Col, most, c.above, c.most)
		}
		for i, v := range row {
			if mag := below(v, r.tauBits); mag != c.mag[i] {
				t.Errorf("tau %v: %v counts as %v, want %v", c.tau, v, mag, c.mag[i])
			}
		}
		if want := []uint32{0, uint32(len(c.above))}; !slices.Equal(csr.RowPtr, want) {
			t.Errorf("tau %v: row pointers %v, want %v", c.tau, csr.RowPtr, want)
		}
		for i, j := range csr.Col {
			if math.Float32bits(csr.Val[i]) != math.Float32bits(row[j]) {
				t.Errorf("tau %v: value of column %d is %v, want %v", c.tau, j, csr.Val[i], row[j])
			}
		}
	}
}
