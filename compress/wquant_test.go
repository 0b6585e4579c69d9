package compress

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestWeightsByHand works the formula of WeightScheme on short rows.
func TestWeightsByHand(t *testing.T) {
	for _, c := range []struct {
		name    string
		w       []float32
		s       WeightScheme
		scales  []float32
		zeros   []uint8
		codes   []uint8
		packed  []byte
		weights []float32
	}{
		// lo -1, hi 2: scale 1, zero 1; 0.5 and 1.5 are ties to even.
		{"2 bits", []float32{-1, 0, .5, 1.5, 2}, WeightScheme{2, 0}, []float32{1}, []uint8{1}, []uint8{0, 1, 1, 3, 3},
			[]byte{0 | 1<<2 | 1<<4 | 3<<6, 3}, []float32{-1, 0, 0, 2, 2}},
		// lo is widened to 0: scale 1, zero 0.
		{"3 bits", []float32{3, 7, 1}, WeightScheme{3, 0}, []float32{1}, []uint8{0}, []uint8{3, 7, 1},
			[]byte{3 | 7<<3 | 1<<6, 0}, []float32{3, 7, 1}},
		// hi is widened to 0: zero is the top.
		{"4 bits", []float32{-15, -1}, WeightScheme{4, 2}, []float32{1}, []uint8{15}, []uint8{0, 14}, []byte{0 | 14<<4}, []float32{-15, -1}},
		// groups of 2, 2 and 1.
		{"short group", []float32{15, 1, -30, 0, 7.5}, WeightScheme{4, 2}, []float32{1, 2, .5}, []uint8{0, 15, 0}, []uint8{15, 1, 0, 15, 15},
			[]byte{15 | 1<<4, 0 | 15<<4, 15}, []float32{15, 1, -30, 0, 7.5}},
		{"8 bits", []float32{-127, 128}, WeightScheme{8, 0}, []float32{1}, []uint8{127}, []uint8{0, 255}, []byte{0, 255}, []float32{-127, 128}},
		// zeros: lo -1, hi 1, scale 2/3, zero round(1.5) = 2.
		{"zeros", []float32{0, 0}, WeightScheme{2, 0}, []float32{float32(2) / 3}, []uint8{2}, []uint8{2, 2}, []byte{2 | 2<<2}, []float32{0, 0}},
		// A range of 22 steps of 2^-149: the scale rounds to one step, the zero
		// point stays within the codes.
		{"subnormal", []float32{-22 * math.SmallestNonzeroFloat32, 0}, WeightScheme{4, 0}, []float32{math.SmallestNonzeroFloat32}, []uint8{15},
			[]uint8{0, 15}, []byte{0xf0}, []float32{-15 * math.SmallestNonzeroFloat32, 0}},
		{"smallest", []float32{math.SmallestNonzeroFloat32, 0}, WeightScheme{4, 0}, []float32{math.SmallestNonzeroFloat32}, []uint8{0},
			[]uint8{1, 0}, []byte{1}, []float32{math.SmallestNonzeroFloat32, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cols := len(c.w)
			q, err := QuantiseWeights(append(slices.Clone(c.w), c.w...), 2, cols, c.s)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(q.Scales, append(slices.Clone(c.scales), c.scales...)) || !slices.Equal(q.Zeros, append(slices.Clone(c.zeros), c.zeros...)) {
				t.Errorf("scales %v, zeros %v, want twice %v, %v", q.Scales, q.Zeros, c.scales, c.zeros)
			}
			if !bytes.Equal(q.Codes, append(slices.Clone(c.packed), c.packed...)) {
				t.Errorf("packed %x, want twice %x", q.Codes, c.packed)
			}
			if q.RowBytes() != len(c.packed) || q.Groups() != len(c.scales) || q.Bytes() != 2*len(c.packed)+10*len(c.scales) {
				t.Errorf("%d bytes per row, %d groups, %d bytes", q.RowBytes(), q.Groups(), q.Bytes())
			}
			codes, weights := make([]uint8, cols), make([]float32, cols)
			for row := range 2 {
				q.RowCodes(codes, row)
				q.Dequantise(weights, row)
				if !slices.Equal(codes, c.codes) || !slices.Equal(weights, c.weights) {
					t.Errorf("row %d: codes %v, weights %v, want %v, %v", row, codes, weights, c.codes, c.weights)
				}
			}
		})
	}
}

// TestWeightErrorBound: a weight is restored within half a step of its group,
// and codes fill their range, for every width and odd shapes.
func TestWeightErrorBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, bits := range []int{2, 3, 4, 8} {
		for _, group := range []int{0, 1, 7, 32, 45} {
			const rows, cols = 3, 45
			w := make([]float32, rows*cols)
			for i := range w {
				w[i] = float32(rng.NormFloat64())
			}
			q, err := QuantiseWeights(w, rows, cols, WeightScheme{bits, group})
			if err != nil {
				t.Fatal(err)
			}
			got, codes := make([]float32, cols), make([]uint8, cols)
			for r := range rows {
				q.Dequantise(got, r)
				q.RowCodes(codes, r)
				for c, v := range got {
					s := q.Scales[r*q.Groups()+c/q.Group]
					if e := math.Abs(float64(v - w[r*cols+c])); e > float64(s)*1.001 {
						t.Fatalf("%d bits, group %d: weight %d,%d is off by %v, scale %v", bits, group, r, c, e, s)
					}
					if int(codes[c]) >= 1<<bits {
						t.Fatalf("%d bits: code %d", bits, codes[c])
					}
				}
			}
		}
	}
}

func TestWeightErrors(t *testing.T) {
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	for _, c := range []struct {
		w          []float32
		rows, cols int
		s          WeightScheme
		want       string
	}{
		{make([]float32, 4), 2, 2, WeightScheme{5, 0}, "weight bits is 5, expected 2, 3, 4 or 8"},
		{make([]float32, 4), 2, 2, WeightScheme{16, 0}, "weight bits is 16"},
		{make([]float32, 4), 2, 2, WeightScheme{4, -1}, "weight group is -1"},
		{make([]float32, 4), 2, 2, WeightScheme{4, 3}, "weight group is 3, expected 1 to the 2 columns"},
		{nil, 2, 0, WeightScheme{4, 0}, "weight rows have 0 columns"},
		{make([]float32, 5), 2, 2, WeightScheme{4, 0}, "5 weights, expected 2 rows x 2 columns"},
		{make([]float32, 2), 2, 2, WeightScheme{4, 0}, "2 weights, expected 2 rows x 2 columns"},
		{[]float32{1, 2, 3, nan}, 2, 2, WeightScheme{4, 0}, "weight row 1, column 1: NaN"},
		{[]float32{1, 2, inf, 4}, 2, 2, WeightScheme{4, 1}, "weight row 1, column 0: -Inf"},
		{[]float32{1, 2, 3e38, -3e38}, 2, 2, WeightScheme{4, 0}, "weight row 1, column 1: -3e+38"},
	} {
		_, err := QuantiseWeights(c.w, c.rows, c.cols, c.s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	if q, err := QuantiseWeights(nil, 0, 4, WeightScheme{4, 0}); err != nil || q.Bytes() != 0 {
		t.Errorf("no rows: %v, %v", q, err)
	}
}
