package quantize

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// Hand vectors of the schemes: half to even, a group of zeros, a group of one
// sign. Every line was computed by hand from section 0 of the formulas.
func TestSchemesByHand(t *testing.T) {
	const tiny = float32(1e-5)
	cases := []struct {
		name string
		q    Quantizer
		in   []float32
		want []float32
	}{
		// 3 bits: scale 3/3 = 1; 0.5 and 2.5 go to the even neighbour, -1.5 too.
		{"sym-narrow 3", SmoothQuantWeight(3), []float32{3, 0.5, 2.5, -1.5, -2.5}, []float32{3, 0, 2, -2, -2}},
		{"sym-narrow 8", SmoothQuantWeight(8), []float32{127, 0.5, 1.5, -127}, []float32{127, 0, 2, -127}},
		// Clip 0.5: scale 7*0.5/7 = 0.5, integers -8..7.
		{"sym-full 4 clipped", AtomActivation(4, 0, 0.5), []float32{7, -7, 1, 0.25}, []float32{3.5, -4, 1, 0}},
		{"sym-full zeros", AtomActivation(4, 0, 0.9), []float32{0, 0}, []float32{0, 0}},
		// Scale 2*7.5/15 = 1, zero 8: -7.5 is 7.5 steps below, a tie to -8; 7.5 clamps to 7.
		{"sym-shift 4", GPTQWeight(4, 0, true, false), []float32{7.5, -7.5, 0.5, 1.5}, []float32{7, -8, 0, 2}},
		// No negative number: scale 15/15 = 1 with zero 8, so 7 is the largest.
		{"sym-shift 4 one sign", GPTQWeight(4, 0, true, false), []float32{15, 3, 8}, []float32{7, 3, 7}},
		{"sym-shift zeros", GPTQWeight(4, 0, true, false), []float32{0, 0}, []float32{0, 0}},
		// Widened to 0..15: scale 1, zero 0.
		{"asym 4 widened", GPTQWeight(4, 0, false, false), []float32{15, 10, 10.5}, []float32{15, 10, 10}},
		// Not widened: 10..14.5, scale 0.3, zero q(-33.3) = -33; the integers of
		// 10 and 14.5 are 0 and 15.
		{"asym 4 as it is", OmniQuantWeight(4, 0), []float32{10, 14.5}, []float32{33 * float32(0.3), 48 * float32(0.3)}},
		// The zero point clamped to 0: scale 4.5/15 = 0.3, everything above 15 steps clips.
		{"asym 4 zero clamp", AtomKV(4, 0, 1), []float32{10, 14.5}, []float32{15 * float32(0.3), 15 * float32(0.3)}},
		// A constant group: scale 1e-5, zero -1e4, so 0.3 is 10015 steps.
		{"asym constant", OmniQuantWeight(4, 0), []float32{0.3, 0.3}, []float32{10015 * tiny, 10015 * tiny}},
		{"asym zeros", GPTQWeight(4, 0, false, false), []float32{0, 0, 0}, []float32{0, 0, 0}},
		{"quarot constant group", QuaRotActivation(4, 2, false, 1), []float32{15, 15}, []float32{15, 15}},
		{"quarot zero token", QuaRotActivation(4, 0, true, 1), []float32{0, 0}, []float32{0, 0}},
		// absmax 4, scale 4/7, zero 7, integers 0..15: -4 is 0, 4 is 14.
		{"sym-offset 4", OmniQuantSymmetric(4, 0, true), []float32{4, -4}, []float32{7 * float32(float32(4)/7), -7 * float32(float32(4)/7)}},
	}
	for _, c := range cases {
		got := make([]float32, len(c.in))
		if err := c.q.Simulate(got, c.in, 1, len(c.in)); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for i := range got {
			if math.Abs(float64(got[i]-c.want[i])) > 1e-6*math.Abs(float64(c.want[i])) {
				t.Errorf("%s: %v of %v, want %v", c.name, got, c.in, c.want)
				break
			}
		}
	}
}

// presetsAt lists every library's quantizers for a matrix of 8 x 48 numbers.
func presetsAt(bits int) map[string]Quantizer {
	tensor := SmoothQuantWeight(bits)
	tensor.Granularity = PerTensor
	return map[string]Quantizer{
		"smoothquant": SmoothQuantWeight(bits), "smoothquant tensor": tensor,
		"gptq sym": GPTQWeight(bits, 0, true, false), "gptq asym": GPTQWeight(bits, 16, false, false), "gptq short": GPTQWeight(bits, 20, false, false),
		"gptq mse": GPTQWeight(bits, 0, false, true), "omniquant": OmniQuantWeight(bits, 12), "omniquant padded": OmniQuantSymmetric(bits, 20, true),
		"omniquant no zero": OmniQuantSymmetric(bits, 16, false), "atom pairs": AtomWeight(bits, 16, 2, 0.85), "atom gptq": AtomGPTQWeight(bits, 16, 2, 0.85),
		"atom kv": AtomKV(bits, 24, 1), "awq": AWQWeight(bits, 16, true), "quarot": QuaRotActivation(bits, 16, false, 0.95), "quarot w": QuaRotWeight(bits, true, true),
	}
}

// Stored integers stand for what Simulate gives, a second quantization with the
// same scales changes nothing, and without clipping no number moves by more
// than half a step (a whole one where a tie or a rounded zero point is at the
// end of the range).
func TestQuantizerProperties(t *testing.T) {
	const rows, cols = 8, 48
	r := NewRandom(3)
	for bits := 2; bits <= 8; bits++ {
		for name, q := range presetsAt(bits) {
			for trial := range 20 {
				x := randomMatrix(r, rows, cols)
				for i := range x {
					switch trial % 4 {
					case 1:
						x[i] = float32(math.Pow(float64(x[i]), 9))
					case 2:
						x[i] *= 1e-7
					case 3:
						x[i] *= 1e6
					}
				}
				got := make([]float32, len(x))
				if err := q.Simulate(got, x, rows, cols); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				s, err := q.Quantize(x, rows, cols)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				stored := make([]float32, len(x))
				if err := s.Dequantize(stored); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				again := make([]float32, len(x))
				if err := q.Apply(again, got, rows, cols, s.Scale, s.Zero); err != nil {
					t.Fatal(err)
				}
				lo, hi := q.Range()
				for i := range x {
					if math.Float32bits(got[i]) != math.Float32bits(stored[i]) {
						t.Fatalf("%s, %d bits: number %d is %v, its integer stands for %v", name, bits, i, got[i], stored[i])
					}
					if again[i] != got[i] {
						t.Fatalf("%s, %d bits: %v becomes %v, then %v", name, bits, x[i], got[i], again[i])
					}
					if int(s.Code[i]) > hi-lo {
						t.Fatalf("%s, %d bits: integer %d", name, bits, s.Code[i])
					}
				}
				if q.Clip == 0 && !q.SearchMSE && q.Zeros != ZeroClamp && trial%4 != 2 {
					bound(t, name, q, x, got, rows, cols, s.Scale)
				}
			}
		}
	}
}

func bound(t *testing.T, name string, q Quantizer, x, got []float32, rows, cols int, scale []float32) {
	t.Helper()
	g, err := q.grid(rows, cols, cols)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range scale {
		start, n := g.window(i)
		for r := range g.share {
			for j := range n {
				at := start + r*g.stride + j
				e := math.Abs(float64(got[at]) - float64(x[at]))
				// OmniQuant bounds the scale: larger numbers are clipped.
				if e > 1.01*float64(s) && (q.ScaleMax == 0 || s < float32(q.ScaleMax)) {
					t.Fatalf("%s, %d bits: %v becomes %v with scale %v", name, q.Bits, x[at], got[at], s)
				}
			}
		}
	}
}

func TestQuantizerRefuses(t *testing.T) {
	ok := AtomWeight(4, 16, 2, 0.85)
	with := func(f func(q *Quantizer)) Quantizer {
		q := ok
		f(&q)
		return q
	}
	for want, q := range map[string]Quantizer{
		`scheme "float"`:                  with(func(q *Quantizer) { q.Scheme = "float" }),
		"bits 9":                          with(func(q *Quantizer) { q.Bits = 9 }),
		"bits 1":                          with(func(q *Quantizer) { q.Bits = 1 }),
		`granularity "row"`:               with(func(q *Quantizer) { q.Granularity = "row" }),
		"group 0":                         with(func(q *Quantizer) { q.Group = 0 }),
		"want no group":                   with(func(q *Quantizer) { q.Granularity = PerChannel }),
		"clip 1.5":                        with(func(q *Quantizer) { q.Clip = 1.5 }),
		"clip NaN":                        with(func(q *Quantizer) { q.Clip = math.NaN() }),
		"no scale":                        with(func(q *Quantizer) { q.Floor = 0 }),
		`tail "cut"`:                      with(func(q *Quantizer) { q.Tail = "cut" }),
		`zeros "x"`:                       with(func(q *Quantizer) { q.Zeros = "x" }),
		`empty "x"`:                       with(func(q *Quantizer) { q.Empty = "x" }),
		"belongs to asym":                 with(func(q *Quantizer) { q.Empty = EmptyRange }),
		"search_mse with scheme sym-narr": with(func(q *Quantizer) { q.Scheme, q.SearchMSE = SymNarrow, true }),
		"shared_rows -1":                  with(func(q *Quantizer) { q.SharedRows = -1 }),
	} {
		if err := q.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", q, err, want)
		}
	}
	x := make([]float32, 3*32)
	if err := ok.Simulate(x, x, 3, 32); err == nil || !strings.Contains(err.Error(), "does not divide 3 rows") {
		t.Errorf("odd rows: %v", err)
	}
	if err := AWQWeight(4, 20, true).Simulate(x, x, 3, 32); err == nil || !strings.Contains(err.Error(), "group 20 does not divide 32") {
		t.Errorf("group: %v", err)
	}
	if err := SmoothQuantWeight(4).Simulate(x, x, 4, 32); err == nil {
		t.Error("short matrix: no error")
	}
	x[40] = float32(math.Inf(1))
	if err := SmoothQuantWeight(4).Simulate(x, x, 3, 32); err == nil || !strings.Contains(err.Error(), "row 1, column 8") {
		t.Errorf("infinity: %v", err)
	}
	x[40] = float32(math.NaN())
	if err := OmniQuantWeight(4, 0).Simulate(x, x, 3, 32); err == nil || !strings.Contains(err.Error(), "row 1, column 8") {
		t.Errorf("NaN: %v", err)
	}
	bad := &Tensor{Quantizer: ok, Rows: 2, Cols: 16, Code: make([]uint8, 32), Scale: make([]float32, 2), Zero: make([]float32, 2)}
	if err := bad.Dequantize(make([]float32, 32)); err == nil {
		t.Error("too many scales: no error")
	}
	bad.Scale, bad.Zero, bad.GroupOf = bad.Scale[:1], bad.Zero[:1], make([]int32, 16)
	bad.GroupOf[5] = 1
	if err := bad.Dequantize(make([]float32, 32)); err == nil || !strings.Contains(err.Error(), "column 5") {
		t.Errorf("group out of range: %v", err)
	}
}

// The gradient of LWC equals finite differences of the surrogate
// h*(clamp(W/h + r + z) - z) with the rounding r, z and the side of the clamp
// frozen (an integer at a bound counts as inside), and so does that of an
// activation; u = l = 20 is plain min-max.
func TestBackwardFiniteDifferences(t *testing.T) {
	const rows, cols = 3, 8
	q := OmniQuantWeight(3, 4)
	rnd := NewRandom(11)
	w, out := randomMatrix(rnd, rows, cols), randomMatrix(rnd, rows, cols)
	n, _ := q.Groups(rows, cols)
	c := &Clipping{Up: randomMatrix(rnd, 1, n), Low: randomMatrix(rnd, 1, n)}
	for _, k := range []*Clipping{c, nil} {
		scale, zero := make([]float32, n), make([]float32, n)
		if err := q.FitClipped(w, rows, cols, k, scale, zero); err != nil {
			t.Fatal(err)
		}
		dw, up, low := make([]float32, len(w)), make([]float32, n), make([]float32, n)
		if err := q.Backward(dw, out, w, rows, cols, k, scale, zero, up, low); err != nil {
			t.Fatal(err)
		}
		// The surrogate in float64, of weights and factors.
		x, u, l := wide(w), make([]float64, n), make([]float64, n)
		for i := range u {
			u[i], l[i] = math.Inf(1), math.Inf(1)
			if k != nil {
				u[i], l[i] = float64(k.Up[i]), float64(k.Low[i])
			}
		}
		frozen, past, inside := make([]float64, len(w)), make([]float64, len(w)), make([]bool, len(w))
		loss := func(freeze bool) float64 {
			var sum float64
			for g := range n {
				at := g * 4
				mn, mx := math.Inf(1), math.Inf(-1)
				for _, v := range x[at : at+4] {
					mn, mx = min(mn, v), max(mx, v)
				}
				h := (sigmoid(u[g])*mx - sigmoid(l[g])*mn) / 7
				for j, v := range x[at : at+4] {
					if freeze {
						frozen[at+j] = math.RoundToEven(v/h) - v/h
					}
					z := float64(zero[g])
					e := v/h + frozen[at+j]
					if freeze {
						e = math.RoundToEven(v / h)
						inside[at+j] = e+z >= 0 && e+z <= 7
						past[at+j] = min(max(e+z, 0), 7) - z
					}
					if !inside[at+j] {
						e = past[at+j]
					}
					sum += h * e * float64(out[at+j])
				}
			}
			return sum
		}
		loss(true)
		check := func(name string, p *float64, got float32) {
			t.Helper()
			const e = 1e-6
			v := *p
			*p = v + e
			a := loss(false)
			*p = v - e
			b := loss(false)
			*p = v
			if d := (a - b) / (2 * e); math.Abs(d-float64(got)) > 2e-3*(1+math.Abs(d)) {
				t.Errorf("lwc %v, %s: gradient %v, finite difference %v", k != nil, name, got, d)
			}
		}
		for i := range x {
			check(fmt.Sprintf("w[%d]", i), &x[i], dw[i])
		}
		if k != nil {
			for g := range n {
				check(fmt.Sprintf("u[%d]", g), &u[g], up[g])
				check(fmt.Sprintf("l[%d]", g), &l[g], low[g])
			}
		}
	}
	full := &Clipping{Up: make([]float32, n), Low: make([]float32, n)}
	for i := range n {
		full.Up[i], full.Low[i] = 20, 20
	}
	a, err := q.QuantizeClipped(w, rows, cols, full)
	if err != nil {
		t.Fatal(err)
	}
	b, err := q.Quantize(w, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	if equal(a.Scale, b.Scale) != 0 || string(a.Code) != string(b.Code) {
		t.Error("u = l = 20 differs from min-max")
	}
	if _, err := q.QuantizeClipped(w, rows, cols, &Clipping{}); err == nil {
		t.Error("no factors: no error")
	}
	if err := SmoothQuantWeight(4).Backward(w, w, w, rows, cols, nil, nil, nil, nil, nil); err == nil {
		t.Error("gradient of a symmetric scheme: no error")
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// Equal extremes share the gradient of the scale evenly: of a row 3, 3, 0 at 2
// bits the scale is 1 and the maximum occurs twice.
func TestBackwardTies(t *testing.T) {
	q := OmniQuantWeight(2, 0)
	w := []float32{3, 3, 0, 1.4}
	scale, zero := make([]float32, 1), make([]float32, 1)
	if err := q.Fit(w, 1, 4, scale, zero); err != nil {
		t.Fatal(err)
	}
	d := make([]float32, 4)
	if err := q.Backward(d, []float32{0, 0, 0, 1}, w, 1, 4, nil, scale, zero, nil, nil); err != nil {
		t.Fatal(err)
	}
	// dh = integer - w/h = 1 - 1.4 = -0.4, over 3 levels and two maxima; the
	// minimum receives the opposite.
	want := []float32{-0.4 / 6, -0.4 / 6, 0.4 / 3, 1}
	for i := range d {
		if math.Abs(float64(d[i]-want[i])) > 1e-6 {
			t.Errorf("gradient %v, want %v", d, want)
			break
		}
	}
}

// TestSearchPower compares the power of the range search with math.Pow on
// numbers of all magnitudes, and on the neighbours of its intervals' ends.
func TestSearchPower(t *testing.T) {
	check := func(e float32) {
		t.Helper()
		if have, want := searchPower(e), float32(math.Pow(float64(e), searchNorm)); have != want {
			t.Fatalf("%v to the power of %v is %v, expected %v", e, searchNorm, have, want)
		}
	}
	for _, e := range []float32{0, math.SmallestNonzeroFloat32, 1, 2, math.MaxFloat32, float32(math.Inf(1))} {
		check(e)
	}
	for i := range 2 * powerIntervals {
		e := 1 + float32(i)/(2*powerIntervals)
		check(e)
		check(math.Nextafter32(e, 0))
	}
	r := NewRandom(11)
	for range 400_000 {
		check(math.Float32frombits(uint32(r.Bits(31)) % 0x7f800000))
		check(float32(r.Float64()))
	}
}
