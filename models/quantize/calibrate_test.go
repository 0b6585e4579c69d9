package quantize

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

var blockLinears = []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}

// relative returns the largest |a-b|/|b|.
func relative(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	var worst float64
	for i := range b {
		worst = max(worst, math.Abs(float64(a[i])-float64(b[i]))/max(math.Abs(float64(b[i])), 1e-12))
	}
	return worst
}

// The smoothing scales and the initial scales of OmniQuant, from the stored
// statistics and the models' weights.
func TestGoldenScales(t *testing.T) {
	for _, model := range []string{"mha", "gqa"} {
		dir := shared(t, "golden", "quant", "tiny", model)
		w := loadArrays(t, filepath.Join(dir, "model.safetensors"))
		for _, alpha := range []float64{0.5, 0.8} {
			g := loadArrays(t, filepath.Join(dir, fmt.Sprintf("smoothquant_smooth_a%v_fp32.safetensors", alpha)))
			stat := loadArrays(t, filepath.Join(dir, "smoothquant_smooth_a0.5_fp32.safetensors"))
			n := 0
			for key, want := range g {
				norm, ok := strings.CutPrefix(key, "smooth/")
				if !ok {
					continue
				}
				n++
				block, name, _ := strings.Cut(norm, ".")
				fed := blockLinears[:3]
				if name != "input_layernorm" {
					fed = blockLinears[4:6]
				}
				var weights [][]float32
				for _, l := range fed {
					weights = append(weights, w["model.layers."+block+"."+l+".weight"].x)
				}
				s, err := SmoothScales(stat["act_scales/model.layers."+block+"."+fed[0]].x, alpha, weights...)
				if err != nil {
					t.Fatal(err)
				}
				// The stored value is old norm weight / new: two more roundings.
				if r := relative(s, want.x); r > 3e-7 {
					t.Errorf("%s %s alpha %v: relative difference %.3g", model, key, alpha, r)
				}
			}
			if n == 0 {
				t.Errorf("%s: no smoothing scales in the golden file", model)
			}
		}
	}
	dir := shared(t, "golden", "quant", "tiny", "mha")
	w := loadArrays(t, filepath.Join(dir, "model.safetensors"))
	stat := loadArrays(t, filepath.Join(dir, "omniquant_w4a4_let_lwc_e5.safetensors"))
	for name, linear := range map[string]string{"qkv": "self_attn.q_proj", "fc1": "mlp.up_proj", "out": "self_attn.o_proj"} {
		for block := range 3 {
			key := fmt.Sprintf("model.layers.%d.%s", block, linear)
			s, err := EquivalentScales(stat["act_scales/"+key].x, 0.5, w[key+".weight"].x)
			if err != nil {
				t.Fatal(err)
			}
			if r := relative(s, stat[fmt.Sprintf("init/%d.%s_smooth_scale", block, name)].x); r > 3e-7 {
				t.Errorf("%s of block %d: relative difference %.3g", name, block, r)
			}
		}
	}
}

// Atom's order of channels from its stored statistic: equal statistics (dead
// channels) may change places, so compare what the order gives.
func TestGoldenReorder(t *testing.T) {
	for _, model := range []string{filepath.Join("tiny", "mha"), filepath.Join("tiny", "gqa"), "babyllama"} {
		g := loadArrays(t, shared(t, "golden", "quant", model, "atom_w4a4_6kv.safetensors"))
		n, moved := 0, 0
		for key, want := range g {
			name, ok := strings.CutPrefix(key, "index/")
			if !ok {
				continue
			}
			n++
			d := g["stat/"+name].x
			index := ReorderIndex(d)
			if _, err := InvertIndex(index); err != nil {
				t.Fatal(err)
			}
			for i, c := range index {
				if int64(c) != want.i[i] {
					moved++
					if d[c] != d[want.i[i]] {
						t.Errorf("%s %s: position %d holds %d (%v), want %d (%v)", model, name, i, c, d[c], want.i[i], d[want.i[i]])
						break
					}
				}
			}
		}
		if n == 0 {
			t.Errorf("%s: no index", model)
		}
		t.Logf("%s: %d orders, %d channels moved among equal ones", model, n, moved)
	}
}

// Whole weights of the tiny models that no calibration pass stands before:
// Atom's round-to-nearest rung in the stored order, SmoothQuant's from the
// stored smoothed weights, AWQ's from its stored scales and clips, OmniQuant's
// from its learned factors.
func TestGoldenWeights(t *testing.T) {
	compared := 0
	for _, model := range []string{"mha", "gqa"} {
		dir := shared(t, "golden", "quant", "tiny", model)
		load := func(file string) map[string]array { return loadArrays(t, filepath.Join(dir, file+".safetensors")) }
		w, order := load("model"), load("atom_w4a4_6kv")
		check := func(file string, m Method, limit float64, input func(name string) array) {
			t.Helper()
			if err := m.Validate(); err != nil {
				t.Errorf("%s: %v", file, err)
				return
			}
			q, ok := m.WeightMixed()
			if !ok {
				t.Fatalf("%s: no weight quantizer", file)
			}
			g := load(file)
			for key, want := range g {
				name, ok := strings.CutPrefix(key, "w/")
				if !ok || strings.Contains(name, "norm") {
					continue
				}
				a := input(name)
				got := make([]float32, len(a.x))
				if up, ok := g["learned/"+name+".weight_quantizer.upbound_factor"]; ok {
					c := &Clipping{Up: up.x, Low: g["learned/"+name+".weight_quantizer.lowbound_factor"].x}
					s, err := q.Body.QuantizeClipped(a.x, a.rows, a.cols, c)
					if err != nil {
						t.Fatal(err)
					}
					if err := s.Dequantize(got); err != nil {
						t.Fatal(err)
					}
				} else if err := q.Simulate(got, a.x, a.rows, a.cols); err != nil {
					t.Fatal(err)
				}
				v := exactly("weight", got, want.x)
				if limit > 0 {
					v = flips("weight", got, want.x, a.cols, m.Weight.Bits, limit)
				}
				if v.share > 1 {
					t.Errorf("%s %s %s: %s", model, file, name, v.what)
				}
				compared++
			}
		}
		weight := func(name string) array { return w["model.layers."+name+".weight"] }
		for _, a := range []int{4, 3} {
			rung := AtomLadder(4, a, 16, 16)[4]
			check(fmt.Sprintf("atom_w4a%d_4clip", a), rung, 0, func(name string) array { return reordered(weight(name), name, order) })
		}
		smoothed := load("smoothquant_smooth_a0.5_fp32")
		check("smoothquant_a0.5_w4a4_bmm", NewSmoothQuant(4, 4, 0.5, true), 0, func(name string) array { return smoothed["w/"+name] })
		check("omniquant_w4a16_g32_lwc_e5", NewOmniQuant(4, Unquantized, 32, OmniOptions{LWC: true, Epochs: 5}), 0.002, weight)
		if model != "mha" {
			continue
		}
		g := load("awq_w4_g32_scale_clip")
		check("awq_w4_g32_scale_clip", NewAWQ(4, 32), 0, func(name string) array { return awqInput(t, g, weight(name), name) })
		l := load("omniquant_w4a4_let_lwc_e5")
		check("omniquant_w4a4_let_lwc_e5", NewOmniQuant(4, 4, 0, OmniOptions{LWC: true, LET: true, Epochs: 5}), 0.002, func(name string) array {
			a := weight(name)
			a.x = append([]float32(nil), a.x...)
			switch block, linear, _ := strings.Cut(name, "."); linear {
			case "self_attn.k_proj":
				ScaleColumns(a.x, l["learned/"+block+".qkv_smooth_scale"].x, false)
				ScaleRows(a.x, l["learned/"+block+".qkt_smooth_scale"].x, false)
			case "self_attn.o_proj":
				ScaleColumns(a.x, l["learned/"+block+".out_smooth_scale"].x, false)
			}
			return a
		})
	}
	if compared != 26 {
		t.Errorf("%d weights compared, want 26", compared)
	}
	t.Logf("%d weights agree", compared)
}

// awqInput applies AWQ's stored scales and clips to a linear.
func awqInput(t *testing.T, g map[string]array, a array, name string) array {
	a.x = append([]float32(nil), a.x...)
	block, linear, _ := strings.Cut(name, ".")
	_, short, _ := strings.Cut(linear, ".")
	for key, s := range g {
		what, to, ok := strings.Cut(key, "->")
		if !ok || !strings.HasPrefix(what, "scale/") || !strings.Contains(what, "layers."+block+".") {
			continue
		}
		for _, l := range strings.Split(to, ",") {
			if l == short {
				ScaleColumns(a.x, s.x, false)
			}
		}
		// v_proj->o_proj and up_proj->down_proj divide the rows of the first.
		if strings.HasSuffix(what, linear) {
			ScaleRows(a.x, s.x, true)
		}
	}
	for key, limit := range g {
		if strings.HasPrefix(key, "clip/") && strings.HasSuffix(key, "layers."+name) {
			if err := ClampGroups(a.x, a.rows, a.cols, limit.x); err != nil {
				t.Fatal(err)
			}
		}
	}
	return a
}

// reordered puts a linear's columns, and the rows of gate and up, in Atom's
// stored order.
func reordered(a array, name string, order map[string]array) array {
	a = permuted(a, order["index/layers."+name+".input"].i)
	block, linear, _ := strings.Cut(name, ".")
	if linear != "mlp.gate_proj" && linear != "mlp.up_proj" {
		return a
	}
	var index []int32
	for _, i := range order["index/layers."+block+".mlp.down_proj.input"].i {
		index = append(index, int32(i))
	}
	x := make([]float32, len(a.x))
	GatherRows(x, a.x, a.cols, index)
	a.x = x
	return a
}

// QuaRot's rotation of the tiny model is the one of seed 0.
func TestGoldenRotation(t *testing.T) {
	g := loadArrays(t, shared(t, "golden", "quant", "tiny", "mha", "quarot_rotated_fp32_nomean.safetensors"))
	want := g["Q"]
	q, err := RandomHadamard(TorchSigns(0, want.cols))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, len(q))
	for i, v := range q {
		got[i] = float32(v)
	}
	if n := equal(got, want.x); n != 0 || len(want.x) == 0 {
		t.Errorf("%d of %d differ", n, len(want.x))
	}
}

// Statistics of a hand-made pair of sequences.
func TestStatistics(t *testing.T) {
	s := NewStatistics(2)
	if err := s.Add([]float32{1, -2, -3, 0}, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Add([]float32{5, 1}, 1); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(s.AbsMax, s.HessianDiagonal(), s.AbsAverage(), s.AbsMean) != "[5 2] [35 5] [3 1] [5 1]" {
		t.Error(s.AbsMax, s.HessianDiagonal(), s.AbsAverage(), s.AbsMean)
	}
	if err := s.Add([]float32{1, float32(math.NaN())}, 1); err == nil || !strings.Contains(err.Error(), "channel 1") {
		t.Errorf("NaN: %v", err)
	}
	if err := s.Add([]float32{1}, 1); err == nil {
		t.Error("short input: no error")
	}
}

// AWQ's scales for exponent 1/2 of 4 and 1/4: roots 2 and 1/2 over sqrt(1);
// exponent 0 gives ones.
func TestAWQScales(t *testing.T) {
	if s := AWQScales([]float32{4, 0.25}, 0.5); fmt.Sprint(s) != "[2 0.5]" {
		t.Error(s)
	}
	best, ratio, loss, err := SearchAWQScale([]float32{4, 0.25}, func(s []float32) (float64, error) {
		return math.Abs(float64(s[0]) - 2), nil
	})
	if err != nil || ratio != 0.5 || loss > 1e-6 || best[0] != 2 {
		t.Error(best, ratio, loss, err)
	}
	if _, _, _, err := SearchAWQScale([]float32{1}, func([]float32) (float64, error) { return math.NaN(), nil }); err == nil {
		t.Error("no finite loss: no error")
	}
	// A trial with so many bits that rounding hardly matters returns the weight.
	w := []float32{1, -2, -3, 4}
	got := make([]float32, 4)
	if err := AWQTrial(got, w, []float32{2, 0.5}, AWQWeight(8, 0, true)); err != nil {
		t.Fatal(err)
	}
	for i := range w {
		if math.Abs(float64(got[i]-w[i])) > 0.04 {
			t.Error(got)
		}
	}
	if s := []float32{TruncateScale(0.001), TruncateScale(-0.001), TruncateScale(0), TruncateScale(-3)}; fmt.Sprint(s) != "[0.01 -0.01 0 -3]" {
		t.Error(s)
	}
}

// SmoothQuant's scaling leaves the product of the normed input and the weight.
func TestSmoothingKeepsProduct(t *testing.T) {
	r := NewRandom(1)
	const n, rows = 16, 5
	norm, w, x := randomMatrix(r, 1, n), randomMatrix(r, rows, n), randomMatrix(r, 1, n)
	s, err := SmoothScales([]float32{9, 1, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1, 0, 1, 100}, 0.5, w)
	if err != nil {
		t.Fatal(err)
	}
	before := product(x, norm, w, rows)
	ScaleColumns(w, s, false)
	ScaleColumns(norm, s, true)
	after := product(x, norm, w, rows)
	for i := range before {
		if math.Abs(before[i]-after[i]) > 1e-5 {
			t.Errorf("output %d: %v became %v", i, before[i], after[i])
		}
	}
}

func randomMatrix(r *Random, rows, cols int) []float32 {
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(2*r.Float64() - 1)
	}
	return x
}

func product(x, norm, w []float32, rows int) []float64 {
	y := make([]float64, rows)
	for r := range rows {
		for c, v := range x {
			y[r] += float64(v) * float64(norm[c]) * float64(w[r*len(x)+c])
		}
	}
	return y
}
