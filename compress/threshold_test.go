package compress

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRowThreshold(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	smallest := float64(math.SmallestNonzeroFloat32)
	for _, c := range []struct {
		by   string
		tau  float64
		row  []float32
		want float64
	}{
		// Sorted magnitudes 1 2 3 4 5: the one of rank ceil(tau * 5), from 0.
		{"quantile", .2, []float32{-5, 2, -1, 4, 3}, 2},
		{"quantile", .21, []float32{-5, 2, -1, 4, 3}, 3},
		{"quantile", .8, []float32{-5, 2, -1, 4, 3}, 5},
		{"quantile", .81, []float32{-5, 2, -1, 4, 3}, math.Inf(1)},
		{"quantile", 1, []float32{-5, 2, -1, 4, 3}, math.Inf(1)},
		{"quantile", .5, []float32{2, 2, 2, 7}, 2}, // equal ones are all above
		{"quantile", .5, []float32{0, 0, 0, 7}, smallest},
		{"quantile", .5, []float32{1, 2, inf, -inf}, math.Inf(1)},
		{"quantile", .5, []float32{nan, -nan, inf, 1}, math.Inf(1)}, // the rank falls on a NaN
		{"quantile", .5, []float32{1e-45, 3e-45}, float64(float32(3e-45))},
		{"quantile", .1, []float32{7}, math.Inf(1)},
		{"rms", 2, []float32{3, -4, 0, 0}, 5}, // sqrt(25/4) * 2
		{"rms", 1, []float32{3, 4, inf, nan}, float64(float32(math.Sqrt(12.5)))},
		{"rms", 1, []float32{0, 0}, smallest},
		{"rms", 3, []float32{nan, inf}, smallest},
		{"rms", 1e6, []float32{3e38}, math.Inf(1)},
		{"rms", 1e-6, []float32{1e-45}, smallest},
	} {
		o := DefaultOptions()
		o.ThresholdBy, o.Threshold = c.by, c.tau
		r, err := o.reading()
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(math.Float32frombits(r.rowThreshold(c.row))); got != c.want {
			t.Errorf("%s %v of %v: %v, want %v", c.by, c.tau, c.row, got, c.want)
		}
	}
	for _, c := range []struct {
		by  string
		tau float64
	}{{"quantile", 0}, {"quantile", 1.01}, {"quantile", -1}, {"rms", 0}, {"rms", 2e6}, {"rms", math.Inf(1)}, {"median", 1}} {
		o := DefaultOptions()
		o.ThresholdBy, o.Threshold = c.by, c.tau
		if o.Validate() == nil {
			t.Errorf("threshold %v by %s is accepted", c.tau, c.by)
		}
	}
}

// TestMagnitudeOfRank compares with sorting.
func TestMagnitudeOfRank(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for n := 1; n < 60; n++ {
		row, sorted := make([]float32, n), make([]uint32, n)
		for i := range row {
			bits := rng.Uint32()
			if n%2 == 0 { // many that agree in their first digits
				bits = bits&0x800003ff | 0x3f800000
			}
			row[i], sorted[i] = math.Float32frombits(bits), bits&^(1<<31)
		}
		slices.Sort(sorted)
		for rank, want := range sorted {
			if got := magnitudeOfRank(row, rank); got != want {
				t.Fatalf("%d values, rank %d: %08x, want %08x", n, rank, got, want)
			}
		}
	}
}

// TestThresholdAbove checks, for rows with values that are not finite, that those
// and the values that reach the row's own threshold travel exactly, and no more.
func TestThresholdAbove(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range 300 {
		m := Matrix{2, 40, make([]float32, 80)}
		for j := range m.Data {
			m.Data[j] = float32(rng.NormFloat64())
			if rng.IntN(3) == 0 {
				m.Data[j] = []float32{0, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[rng.IntN(4)]
			}
		}
		o := DefaultOptions()
		o.ThresholdBy, o.Threshold = "quantile", float64(1+rng.IntN(100))/100
		if i%2 == 0 {
			o.ThresholdBy, o.Threshold = "rms", 3*rng.Float64()+.01
		}
		c := mustCodec(t, "split1", o)
		msg, _, err := c.Encode(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Decode(nil, msg)
		if err != nil {
			t.Fatalf("%s %v: %v", o.ThresholdBy, o.Threshold, err)
		}
		for r := range m.Rows {
			row := m.Row(r)
			below := 0
			tau := math.Inf(1)
			if i%2 == 0 {
				var sum, n float64
				for _, v := range row {
					if x := float64(v); !math.IsNaN(x) && !math.IsInf(x, 0) {
						sum, n = sum+x*x, n+1
					}
				}
				tau = o.Threshold * math.Sqrt(sum/max(n, 1))
			}
			for j, v := range row {
				x := math.Abs(float64(v))
				exact := math.Float32bits(out.Row(r)[j]) == math.Float32bits(v)
				if (math.IsNaN(x) || x >= tau*1.000001) && !exact {
					t.Fatalf("%s %v: %v is restored as %v", o.ThresholdBy, o.Threshold, v, out.Row(r)[j])
				}
				if v != 0 && !exact {
					below++
				}
			}
			if i%2 == 1 && below > int(math.Ceil(o.Threshold*40)) {
				t.Fatalf("%d of 40 values below the quantile %v", below, o.Threshold)
			}
		}
	}
}

func ExampleOptions_quantile() {
	o := DefaultOptions()
	o.ThresholdBy, o.Threshold = "quantile", .75 // a quarter of a row travels exactly
	q, err := Quantise(Matrix{1, 8, []float32{.1, -.2, .3, 9, -.1, 8, .2, .3}}, o)
	if err != nil {
		panic(err)
	}
	fmt.Println(q.Above.Col, q.Above.Val)
	// Output: [3 5] [9 8]
}
