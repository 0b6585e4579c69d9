package compress

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// workedRow is x of codec-notes B: one value above tau = 5.
var workedRow = []float32{0.30, -0.90, 1.30, -2.60, 0.00, 3.50, -7.25, 0.70}

// TestWorkedExample checks the example of codec-notes B under each reading. The
// distortions are 0.125 at Q = 2 and 0 at Q = 1 with floor, 0.5 and 0.375 with
// round, so tolerances beside them tell the rules apart.
func TestWorkedExample(t *testing.T) {
	q3 := []int16{1, -2, 3, -5, 0, 7, 0, 1}
	q2 := []int16{0, -1, 1, -2, 0, 3, 0, 1}
	q1 := []int16{0, 0, 0, -1, 0, 1, 0, 0}
	third := float32(3.5) / 3
	for _, c := range []struct {
		name   string
		change func(o *Options)
		q      uint8
		codes  []int16
		scale  float32
	}{
		{"default", func(o *Options) {}, 3, q3, .5},
		{"bound 2", func(o *Options) { o.LowerBound = 2 }, 2, q2, 1.1669921875},
		{"bound 2, float32 scale", func(o *Options) { o.LowerBound = 2; o.ScaleType = "float32" }, 2, q2, third},
		{"bound 1", func(o *Options) { o.LowerBound = 1 }, 1, q1, 3.5},
		{"bound 1, fixed", func(o *Options) { o.LowerBound = 1; o.Search = "fixed" }, 3, q3, .5},
		{"tolerance equal to the distortion", func(o *Options) { o.LowerBound = 2; o.Delta = .125 }, 2, q2, 1.1669921875},
		{"tolerance below it, last_ok", func(o *Options) { o.LowerBound = 1; o.Delta = .1 }, 3, q3, .5},
		{"tolerance below it, first_exceed", func(o *Options) { o.LowerBound = 1; o.Delta = .1; o.StopRule = "first_exceed" }, 2, q2, 1.1669921875},
		{"no break, first_exceed", func(o *Options) { o.LowerBound = 1; o.StopRule = "first_exceed" }, 1, q1, 3.5},
		{"round, last_ok", func(o *Options) { o.LowerBound = 2; o.Comparison = "round" }, 3, q3, .5},
		{"round, first_exceed", func(o *Options) { o.LowerBound = 2; o.Comparison = "round"; o.StopRule = "first_exceed" }, 2, q2, 1.1669921875},
		{"round, delta .49", func(o *Options) { o.LowerBound = 1; o.Comparison = "round"; o.Delta = .49 }, 3, q3, .5},
		{"round, delta .5", func(o *Options) { o.LowerBound = 1; o.Comparison = "round"; o.Delta = .5 }, 1, q1, 3.5},
		{"2 bits", func(o *Options) { o.MaxActivationBits = 2 }, 1, q1, 3.5},
		{"3 bits", func(o *Options) { o.MaxActivationBits = 3 }, 2, q2, 1.1669921875},
		{"bound above top", func(o *Options) { o.LowerBound = 7 }, 3, q3, .5},
		{"per tensor", func(o *Options) { o.LowerBound = 2; o.Granularity = "per_tensor" }, 2, q2, 1.1669921875},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := DefaultOptions()
			c.change(&o)
			q, err := Quantise(Matrix{1, 8, workedRow}, o)
			if err != nil {
				t.Fatal(err)
			}
			if q.Q[0] != c.q || !slices.Equal(q.Codes, c.codes) || q.Scale[0] != c.scale {
				t.Errorf("Q %d, codes %v, scale %v, want %d, %v, %v", q.Q[0], q.Codes, q.Scale[0], c.q, c.codes, c.scale)
			}
			if !slices.Equal(q.Above.Col, []uint32{6}) || !slices.Equal(q.Above.Val, []float32{-7.25}) {
				t.Errorf("above: columns %v, values %v", q.Above.Col, q.Above.Val)
			}
		})
	}
}

// TestWorkedExampleErrors checks the restored values and errors that codec-notes
// B gives, to the digits printed there.
func TestWorkedExampleErrors(t *testing.T) {
	for _, c := range []struct {
		bound         int
		restored      []float32
		largest, mean float64
	}{
		{3, []float32{.5, -1, 1.5, -2.5, 0, 3.5, -7.25, .5}, .2, .1143},
		{2, []float32{0, -1.1667, 1.1667, -2.3333, 0, 3.5, -7.25, 1.1667}, .4667, .2048},
		{1, []float32{0, 0, 0, -3.5, 0, 3.5, -7.25, 0}, 1.3, .5857},
	} {
		o := DefaultOptions()
		o.LowerBound, o.ScaleType = c.bound, "float32" // the notes do not round the scale there
		q, err := Quantise(Matrix{1, 8, workedRow}, o)
		if err != nil {
			t.Fatal(err)
		}
		var largest, sum float64
		for j, v := range q.Restore(nil).Data {
			if math.Abs(float64(v-c.restored[j])) > 5e-5 {
				t.Errorf("bound %d: value %d is %v, want %v", c.bound, j, v, c.restored[j])
			}
			e := math.Abs(float64(v - workedRow[j]))
			largest, sum = max(largest, e), sum+e
		}
		if math.Abs(largest-c.largest) > 5e-5 || math.Abs(sum/7-c.mean) > 5e-5 {
			t.Errorf("bound %d: largest error %.4f, mean %.4f, want %v, %v", c.bound, largest, sum/7, c.largest, c.mean)
		}
	}
}

// TestPerTensor: the first row's distortion at Q = 2 is 1/8, the second's 0.
// With delta 0.1 the rows part when each is alone; over both it is 1/16.
func TestPerTensor(t *testing.T) {
	m := Matrix{3, 8, append(slices.Clone(workedRow), 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0)}
	o := DefaultOptions()
	o.Threshold, o.LowerBound, o.Delta = 7.1, 2, .1
	for _, c := range []struct {
		granularity string
		q           []uint8
	}{{"per_token", []uint8{3, 2, 0}}, {"per_tensor", []uint8{2, 2, 0}}} {
		o.Granularity = c.granularity
		q, err := Quantise(m, o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(q.Q, c.q) {
			t.Errorf("%s: Q %v, want %v", c.granularity, q.Q, c.q)
		}
		if q.Scale[1] != float32(referenceFloat16(7./3)) || q.Scale[2] != 0 {
			t.Errorf("%s: scales %v, want one per row", c.granularity, q.Scale)
		}
	}
	// A row of 16 zeros more in the divisor: 1/24 for three rows.
	o.Delta = 1. / 24
	if q, err := Quantise(m, o); err != nil || q.Q[0] != 2 {
		t.Errorf("delta 1/24 over three rows: Q %v, %v, want 2", q.Q, err)
	}
	o.Delta = 1. / 25
	if q, err := Quantise(m, o); err != nil || q.Q[0] != 3 {
		t.Errorf("delta 1/25 over three rows: Q %v, %v, want 3", q.Q, err)
	}
}

// TestDegenerateRows checks rows that codec-notes A 14 and 15 single out.
func TestDegenerateRows(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	negZero := float32(math.Copysign(0, -1))
	for _, c := range []struct {
		name     string
		tau      float64
		row      []float32
		q        uint8
		codes    []int16
		restored []float32
	}{
		{"zeros", 5, []float32{0, negZero}, 0, []int16{0, 0}, []float32{0, 0}},
		{"all above", 5, []float32{6, -7}, 0, []int16{0, 0}, []float32{6, -7}},
		{"exactly tau", 5, []float32{5, -5, 3.5}, 3, []int16{0, 0, 7}, []float32{5, -5, 3.5}},
		{"next to tau", 3.5, []float32{math.Nextafter32(3.5, 0), 3.5}, 3, []int16{7, 0}, []float32{3.5, 3.5}},
		{"not finite", 5, []float32{nan, inf, -inf, 3.5, -.5}, 3, []int16{0, 0, 0, 7, -1}, []float32{nan, inf, -inf, 3.5, -.5}},
		{"tau zero", 0, []float32{0, negZero, 1}, 0, []int16{0, 0, 0}, []float32{0, negZero, 1}},
		{"tau negative", -1, []float32{0, 2}, 0, []int16{0, 0}, []float32{0, 2}},
		{"tau infinite", math.Inf(1), []float32{7 * 0x1p100, inf}, 3, []int16{7, 0}, []float32{7 * 0x1p100, inf}},
		{"constant", 5, []float32{-3.5, -3.5}, 3, []int16{-7, -7}, []float32{-3.5, -3.5}},
		{"one value", 5, []float32{1.75}, 3, []int16{7}, []float32{1.75}},
		{"ties", 5, []float32{.5, 1.5, 2.5, -.5, -1.5, -2.5, 3.5}, 3, []int16{1, 3, 5, -1, -3, -5, 7}, []float32{.5, 1.5, 2.5, -.5, -1.5, -2.5, 3.5}},
		{"ties at step 1", 8, []float32{.5, 1.5, 2.5, -.5, -1.5, -2.5, 7}, 3, []int16{0, 2, 2, 0, -2, -2, 7}, []float32{0, 2, 2, 0, -2, -2, 7}},
		// 7 steps of 2^-149 each: the float32 scale is exact.
		{"subnormal", 5, []float32{7 * math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32}, 3, []int16{7, -1}, []float32{7 * math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32}},
		// 1/7 of the smallest float32 is 0; the scale stays at the smallest.
		{"scale below float32", 5, []float32{math.SmallestNonzeroFloat32, 0}, 3, []int16{1, 0}, []float32{math.SmallestNonzeroFloat32, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := DefaultOptions()
			o.Threshold = c.tau
			m := Matrix{1, len(c.row), c.row}
			q, err := Quantise(m, o)
			if err != nil {
				t.Fatal(err)
			}
			if q.Q[0] != c.q || !slices.Equal(q.Codes, c.codes) {
				t.Errorf("Q %d, codes %v, want %d, %v", q.Q[0], q.Codes, c.q, c.codes)
			}
			for _, name := range []string{"literal", "packed"} {
				msg, _, err := mustCodec(t, name, o).Encode(nil, m)
				if err != nil {
					t.Fatal(err)
				}
				out, err := Decode(nil, msg)
				if err != nil {
					t.Fatal(err)
				}
				for j, v := range out.Data {
					if !sameValue(v, c.restored[j]) {
						t.Errorf("%s: value %d is %v, want %v", name, j, v, c.restored[j])
					}
				}
			}
		})
	}
}

// TestReadingsAgainstReference runs random rows of several spreads through all
// readings and compares with the reference of reference_test.go bit for bit,
// before and after the message.
func TestReadingsAgainstReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rows := func(n, cols int) Matrix {
		m := Matrix{n, cols, make([]float32, n*cols)}
		for r := range n {
			spread := math.Exp2(float64(rng.IntN(12) - 8))
			for c := range cols {
				m.Row(r)[c] = float32(spread * rng.NormFloat64() * math.Exp(rng.NormFloat64()))
			}
		}
		return m
	}
	matrices := []Matrix{rows(1, 1), rows(3, 31), rows(2, 257), rows(5, 64)}
	seen := map[uint8]int{}
	for _, search := range []string{"tabq", "fixed"} {
		for _, stop := range []string{"last_ok", "first_exceed"} {
			for _, comparison := range []string{"floor", "round"} {
				for _, granularity := range granularityNames {
					for _, scale := range scaleTypeNames {
						for bits := 2; bits <= 8; bits++ {
							o := DefaultOptions()
							o.MaxActivationBits, o.Search, o.StopRule, o.Comparison, o.Granularity, o.ScaleType = bits, search, stop, comparison, granularity, scale
							o.LowerBound = 1 + rng.IntN(7)
							o.Delta = []float64{0, .05, .1, .2, .3, .5}[rng.IntN(6)]
							o.Threshold = []float64{.01, .5, 2, 5}[rng.IntN(4)]
							o.SparseIndex = sparseIndexNames[rng.IntN(2)]
							m := matrices[rng.IntN(len(matrices))]
							if err := compareWithReference(m, o); err != nil {
								t.Fatalf("%+v: %v", o, err)
							}
							for _, q := range referenceQuantise(m, o).q {
								seen[q]++
							}
						}
					}
				}
			}
		}
	}
	for q := uint8(1); q <= 7; q++ {
		if seen[q] == 0 {
			t.Errorf("no row came to Q %d: %v", q, seen)
		}
	}
}

// compareWithReference compares Quantise, and both quantising codecs, with the
// reference, for an above type that keeps the values.
func compareWithReference(m Matrix, o Options) error {
	want := referenceQuantise(m, o)
	q, err := Quantise(m, o)
	if err != nil {
		return err
	}
	if !slices.Equal(q.Codes, want.codes) || !slices.Equal(q.Scale, want.scale) || !slices.Equal(q.Q, want.q) {
		return fmt.Errorf("codes, scales or Q differ: Q %v, want %v", q.Q, want.q)
	}
	for _, name := range []string{"literal", "packed"} {
		c, err := NewCodec(name, o)
		if err != nil {
			return err
		}
		msg, parts, err := c.Encode(nil, m)
		if err != nil {
			return err
		}
		if parts.Total() != len(msg) {
			return fmt.Errorf("%s: parts sum to %d of %d bytes", name, parts.Total(), len(msg))
		}
		out, err := c.Decode(nil, msg)
		if err != nil {
			return err
		}
		for i, v := range out.Data {
			if math.Float32bits(v) != math.Float32bits(want.restored[i]) {
				return fmt.Errorf("%s: value %d is %v, want %v", name, i, v, want.restored[i])
			}
		}
		info, err := Inspect(msg)
		if err != nil {
			return err
		}
		rows := make([]int, 8)
		for _, b := range want.q {
			rows[b]++
		}
		if !slices.Equal(info.QRows, rows) || info.Above != len(q.Above.Val) || info.Parts != parts {
			return fmt.Errorf("%s: Inspect says %+v", name, info)
		}
	}
	return nil
}

// TestAboveType checks the types in which values above the threshold travel.
func TestAboveType(t *testing.T) {
	half, brain, full := float32(6.25), float32(0x1.02p100), float32(6.1)
	for _, c := range []struct {
		above  string
		values []float32
		as     string // the type in the message
		want   []float32
	}{
		{"exact", []float32{half, -7}, "float16", nil},
		{"exact", []float32{brain, -7}, "bfloat16", nil},
		{"exact", []float32{half, brain, -7, 2049}, "float32", nil}, // 2049 needs 12 bits, brain the range
		{"exact", []float32{full, half}, "float32", nil},
		{"exact", []float32{math.Float32frombits(0x7fc00000)}, "float16", nil},
		{"exact", []float32{math.Float32frombits(0xff812345)}, "float32", nil}, // payload of a NaN
		{"float16", []float32{full, 2049, 2051, 65519}, "float16", []float32{6.1015625, 2048, 2052, 65504}},
		{"float16", []float32{math.Float32frombits(0x7f800001)}, "float16", []float32{math.Float32frombits(0x7fc00000)}},
		{"bfloat16", []float32{full, 65519, -257, -259}, "bfloat16", []float32{6.09375, 65536, -256, -260}},
		{"bfloat16", []float32{math.Float32frombits(0x7f800001)}, "bfloat16", []float32{math.Float32frombits(0x7fc00000)}},
		{"float32", []float32{half}, "float32", nil},
		{"exact", nil, "float16", nil},
	} {
		o := DefaultOptions()
		o.AboveType = c.above
		m := Matrix{2, 5, make([]float32, 10)}
		copy(m.Data[3:], c.values)
		want := slices.Clone(m.Data)
		if c.want != nil {
			copy(want[3:], c.want)
		}
		for _, name := range []string{"literal", "packed"} {
			msg, parts, err := mustCodec(t, name, o).Encode(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			info, err := Inspect(msg)
			if err != nil {
				t.Fatal(err)
			}
			size := 2
			if c.as == "float32" {
				size = 4
			}
			if n := len(c.values); info.ValueType != c.as || info.Above != n || parts.Sparse != 3*4+n*(2+size) {
				t.Errorf("%s %v: %d values as %s in %d bytes, want %d as %s", c.above, c.values, info.Above, info.ValueType, parts.Sparse, n, c.as)
			}
			out, err := Decode(nil, msg)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range out.Data {
				if math.Float32bits(v) != math.Float32bits(want[i]) {
					t.Errorf("%s %v: value %d is %v (%08x), want %v", c.above, c.values, i, v, math.Float32bits(v), want[i])
				}
			}
		}
	}
	for _, c := range []struct {
		above string
		v     float32
		want  string
	}{
		{"float16", 65520, "compress: row 2, column 1: 65520 overflows above_type float16"},
		{"float16", -1e6, "compress: row 2, column 1: -1e+06 overflows above_type float16"},
		{"bfloat16", math.MaxFloat32, "compress: row 2, column 1: 3.4028235e+38 overflows above_type bfloat16"},
	} {
		o := DefaultOptions()
		o.AboveType = c.above
		m := Matrix{3, 3, []float32{6, 6, 6, 0, 0, 0, float32(math.Inf(1)), c.v, 6}}
		if _, err := Quantise(m, o); err == nil || err.Error() != c.want {
			t.Errorf("%s: error %v, want %s", c.above, err, c.want)
		}
		dst, parts, err := mustCodec(t, "literal", o).Encode([]byte("x"), m)
		if err == nil || err.Error() != c.want || string(dst) != "x" || parts != (Parts{}) {
			t.Errorf("%s: Encode gives %q, %v, %v", c.above, dst, parts, err)
		}
	}
}

// TestOptionErrors checks that each error names its key.
func TestOptionErrors(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Fatal(err)
	}
	if err := (Options{}).Validate(); err == nil {
		t.Error("the zero value is valid")
	}
	for key, change := range map[string]func(o *Options){
		"tau":                 func(o *Options) { o.Threshold = math.NaN() },
		"max_activation_bits": func(o *Options) { o.MaxActivationBits = 9 },
		"delta":               func(o *Options) { o.Delta = math.NaN() },
		"search":              func(o *Options) { o.Search = "grid" },
		"stop_rule":           func(o *Options) { o.StopRule = "" },
		"comparison":          func(o *Options) { o.Comparison = "ceil" },
		"lower_bound":         func(o *Options) { o.LowerBound = 0 },
		"granularity":         func(o *Options) { o.Granularity = "per_row" },
		"above_type":          func(o *Options) { o.AboveType = "float64" },
		"sparse_index":        func(o *Options) { o.SparseIndex = "csr" },
		"scale_type":          func(o *Options) { o.ScaleType = "bfloat16" },
	} {
		o := DefaultOptions()
		change(&o)
		err := o.Validate()
		oe, ok := err.(*OptionError)
		if !ok || oe.Key != key || err.Error()[:len(key)+1] != key+" " {
			t.Errorf("%s: error %v", key, err)
		}
		for _, name := range CodecNames() {
			if _, err := NewCodec(name, o); err == nil {
				t.Errorf("%s: NewCodec(%s) takes it", key, name)
			}
		}
		if _, err := Quantise(Matrix{}, o); err == nil {
			t.Errorf("%s: Quantise takes it", key)
		}
	}
	for _, change := range []func(o *Options){
		func(o *Options) { o.MaxActivationBits = 1 }, func(o *Options) { o.Delta = -1 },
		func(o *Options) { o.Delta = math.Inf(1) }, func(o *Options) { o.LowerBound = 8 },
	} {
		o := DefaultOptions()
		change(&o)
		if o.Validate() == nil {
			t.Errorf("%+v is valid", o)
		}
	}
	if _, err := NewCodec("zip", DefaultOptions()); err == nil || err.Error() != `compress: codec is "zip", expected literal, packed, raw16, split1` {
		t.Errorf("unknown codec: %v", err)
	}
	if _, err := Quantise(Matrix{1, 2, nil}, DefaultOptions()); err == nil {
		t.Error("Quantise takes a matrix without its values")
	}
}
