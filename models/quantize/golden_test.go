package quantize

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"splitbench/models/checkpoint"
)

// shared returns a path below the shared data folder, or skips the test without it.
func shared(t testing.TB, parts ...string) string {
	t.Helper()
	root := os.Getenv("SPLITBENCH_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	if _, err := os.Stat(root); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data required but missing: %v", err)
		}
		t.Skipf("needs the shared data folder (set SPLITBENCH_SHARED): %v", err)
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

// array is a tensor of a golden file, rows of its last dimension.
type array struct {
	x          []float32
	i          []int64
	shape      []int
	rows, cols int
}

func loadArrays(t testing.TB, path string) map[string]array {
	t.Helper()
	f, err := checkpoint.OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string]array{}
	for _, name := range f.Names() {
		v, _ := f.Tensor(name)
		a := array{shape: append([]int(nil), v.Shape...)}
		a.rows, a.cols = v.Matrix()
		switch v.DType {
		case checkpoint.I8:
			for r := range a.rows {
				for _, b := range v.RowBytes(r) {
					a.x = append(a.x, float32(int8(b)))
				}
			}
		case "I64":
			a.i, err = v.Int64(nil)
		case "F64":
			var d []float64
			d, err = v.Float64(nil)
			for _, y := range d {
				a.x = append(a.x, float32(y))
			}
		default:
			a.x, err = v.Float32Unchecked(nil) // QuaRot's outputs hold NaN
		}
		if err != nil {
			t.Fatal(err)
		}
		m[name] = a
	}
	return m
}

func loadJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// goldenParams are the parameters of all libraries' cases.
type goldenParams struct {
	Bits      int     `json:"bits"`
	NBits     int     `json:"n_bits"`
	NBit      int     `json:"n_bit"`
	ABits     int     `json:"abits"`
	WBits     int     `json:"wbits"`
	Group     int     `json:"group_size"`
	GroupSize int     `json:"groupsize"`
	QGroup    int     `json:"q_group_size"`
	ActGroup  int     `json:"act_group_size"`
	WGroup    int     `json:"weight_group_size"`
	Shared    int     `json:"channel_group"`
	WShared   int     `json:"weight_channel_group"`
	Clip      float64 `json:"clip_ratio"`
	AClip     float64 `json:"a_clip_ratio"`
	WClip     float64 `json:"w_clip_ratio"`
	KVClip    float64 `json:"kv_clip_ratio"`
	Keeper    int     `json:"keeper"`
	KeeperAs  int     `json:"keeper_precision"`
	Sym       bool    `json:"sym"`
	Symmetric bool    `json:"symmetric"`
	NoZero    bool    `json:"disable_zero_point"`
	ZeroPoint bool    `json:"zero_point"`
	LWC       string  `json:"lwc"`
	MSE       bool    `json:"mse"`
	Channel   bool    `json:"perchannel"`
	ActOrder  bool    `json:"actorder"`
	Static    bool    `json:"static_groups"`
	Block     int     `json:"blocksize"`
	Damp      float64 `json:"percdamp"`
	K         int     `json:"K"`
	N         int     `json:"n"`
	HadDim    int     `json:"had_dim"`
	Output    bool    `json:"output"`
}

type goldenCase struct {
	ID        string
	Fn        string
	Input     json.RawMessage
	Params    goldenParams
	Outputs   map[string]string
	Error     float64
	OutputMSE float64 `json:"output_mse"`
	// out holds the case's own tensors, in those of the inputs it names.
	out map[string]array
	in  []array
}

// verdict is the outcome of one case: exact, or its share of the tolerance
// (above 1 is a failure).
type verdict struct {
	exact bool
	share float64
	what  string
}

func equal(got, want []float32) int {
	bad := 0
	for i := range want {
		if got[i] != want[i] {
			bad++
		}
	}
	if len(got) != len(want) {
		return max(len(got), len(want))
	}
	return bad
}

// exactly is the verdict of a case that must be equal.
func exactly(what string, got, want []float32) verdict {
	n := equal(got, want)
	if n == 0 {
		return verdict{exact: true}
	}
	return verdict{share: math.Inf(1), what: fmt.Sprintf("%s: %d of %d differ", what, n, len(want))}
}

// within joins verdicts of the parts of one case.
func join(vs ...verdict) verdict {
	v := verdict{exact: true}
	for _, w := range vs {
		v.exact = v.exact && w.exact
		if w.share >= v.share && w.what != "" {
			v.share, v.what = w.share, w.what
		}
	}
	return v
}

// few is the verdict of a case where a share of the numbers may differ.
func few(what string, got, want []float32, limit float64) verdict {
	n := equal(got, want)
	if n == 0 {
		return verdict{exact: true}
	}
	share := float64(n) / float64(len(want))
	return verdict{share: share / limit, what: fmt.Sprintf("%s: %d of %d differ (%.3g %%)", what, n, len(want), 100*share)}
}

// flips is the verdict of a case where a share of the weights may be on
// another grid point: more than half a typical step of its row away.
func flips(what string, got, want []float32, cols, bits int, limit float64) verdict {
	if equal(got, want) == 0 {
		return verdict{exact: true}
	}
	n := 0
	for r := 0; r < len(want); r += cols {
		var a float64
		for _, v := range want[r : r+cols] {
			a = max(a, math.Abs(float64(v)))
		}
		half := 0.5 * max(a/float64(int(1)<<bits), 1e-8)
		for i, v := range want[r : r+cols] {
			if math.Abs(float64(v)-float64(got[r+i])) > half {
				n++
			}
		}
	}
	share := float64(n) / float64(len(want))
	return verdict{share: share / limit, what: fmt.Sprintf("%s: %d of %d on another grid point (%.3g %%)", what, n, len(want), 100*share)}
}

// near is the verdict of a case with a tolerance relative to the largest
// number; exact is claimed only for equality.
func near(what string, got, want []float32, limit float64) verdict {
	if equal(got, want) == 0 {
		return verdict{exact: true}
	}
	if len(got) != len(want) {
		return verdict{share: math.Inf(1), what: fmt.Sprintf("%s: %d numbers, want %d", what, len(got), len(want))}
	}
	var worst, top float64
	for i, v := range want {
		worst = max(worst, math.Abs(float64(v)-float64(got[i])))
		top = max(top, math.Abs(float64(v)))
	}
	rel := worst / max(top, 1e-30)
	return verdict{share: rel / limit, what: fmt.Sprintf("%s: %.3g of the largest", what, rel)}
}

// fails is the verdict of an error.
func fails(err error) verdict { return verdict{share: math.Inf(1), what: err.Error()} }

// both checks that Simulate and the stored integers give want.
func both(q Quantizer, a array, want []float32) verdict {
	got := make([]float32, len(a.x))
	if err := q.Simulate(got, a.x, a.rows, a.cols); err != nil {
		return fails(err)
	}
	s, err := q.Quantize(a.x, a.rows, a.cols)
	if err != nil {
		return fails(err)
	}
	stored := make([]float32, len(a.x))
	if err := s.Dequantize(stored); err != nil {
		return fails(err)
	}
	return join(exactly("out", got, want), exactly("integers", stored, want))
}

// params checks the scales and zeros of a case that stores them.
func params(q Quantizer, a array, c goldenCase) verdict {
	s, err := q.Quantize(a.x, a.rows, a.cols)
	if err != nil {
		return fails(err)
	}
	v := verdict{exact: true}
	if w, ok := c.out["scale"]; ok {
		v = join(v, exactly("scale", byColumns(s.Scale, a, w), w.x))
	}
	if w, ok := c.out["zero"]; ok {
		v = join(v, exactly("zero", byColumns(s.Zero, a, w), w.x))
	}
	return v
}

// byColumns repeats the one number of a tensor quantizer for every row where
// the original does.
func byColumns(x []float32, a, want array) []float32 {
	if len(x) == 1 && len(want.x) == a.rows {
		y := make([]float32, a.rows)
		for i := range y {
			y[i] = x[0]
		}
		return y
	}
	return x
}

// searchCase is the check of a range search: near ties may fall to the other
// side when the sums are rounded otherwise.
func searchCase(q Quantizer, a array, c goldenCase) verdict {
	v := join(both(q, a, c.out["out"].x), params(q, a, c))
	if v.exact {
		return v
	}
	s, err := q.Quantize(a.x, a.rows, a.cols)
	if err != nil {
		return fails(err)
	}
	got := make([]float32, len(a.x))
	if err := s.Dequantize(got); err != nil {
		return fails(err)
	}
	return join(flips("out", got, c.out["out"].x, a.cols, q.Bits, 0.02), few("scale", s.Scale, c.out["scale"].x, 0.05))
}

// keeperOf is the quantizer of Atom's outliers in a case.
func keeperOf(p goldenParams) Mixed {
	m := Mixed{Outliers: p.Keeper}
	if p.KeeperAs == 3 {
		m.Outlier = AtomOutlier(8)
	}
	return m
}

func mixedCase(m Mixed, a array, want []float32) verdict {
	got := make([]float32, len(a.x))
	if err := m.Simulate(got, a.x, a.rows, a.cols); err != nil {
		return fails(err)
	}
	body, out, err := m.Quantize(a.x, a.rows, a.cols)
	if err != nil {
		return fails(err)
	}
	stored, err := joinTensors(body, out, a.x, a.cols)
	if err != nil {
		return fails(err)
	}
	return join(exactly("out", got, want), exactly("integers", stored, want))
}

// joinTensors puts the body and the outliers (or x where they are nil) side by side.
func joinTensors(body, out *Tensor, x []float32, cols int) ([]float32, error) {
	y := append([]float32(nil), x...)
	c0 := 0
	for _, t := range []*Tensor{body, out} {
		if t == nil {
			continue
		}
		d := make([]float32, t.Rows*t.Cols)
		if err := t.Dequantize(d); err != nil {
			return nil, err
		}
		for r := range t.Rows {
			copy(y[r*cols+c0:], d[r*t.Cols:(r+1)*t.Cols])
		}
		c0 += t.Cols
	}
	return y, nil
}

// permuted returns the columns of a in the order of index.
func permuted(a array, index []int64) array {
	b := a
	b.x = make([]float32, len(a.x))
	for r := range a.rows {
		for c, i := range index {
			b.x[r*a.cols+c] = a.x[r*a.cols+int(i)]
		}
	}
	return b
}

// lwcFactors are u and l of an OmniQuant case.
func lwcFactors(c goldenCase, n int) *Clipping {
	switch c.Params.LWC {
	case "init":
		return NewClipping(n)
	case "random":
		return &Clipping{Up: c.out["up"].x, Low: c.out["low"].x}
	}
	return nil
}

func omniCase(c goldenCase) verdict {
	p, a := c.Params, c.in[0]
	q := OmniQuantWeight(p.NBits, p.Group)
	if p.Symmetric {
		q = OmniQuantSymmetric(p.NBits, p.Group, !p.NoZero)
	}
	if p.LWC == "" {
		return join(both(q, a, c.out["out"].x), params(q, a, c))
	}
	n, err := q.Groups(a.rows, a.cols)
	if err != nil {
		return fails(err)
	}
	s, err := q.QuantizeClipped(a.x, a.rows, a.cols, lwcFactors(c, n))
	if err != nil {
		return fails(err)
	}
	got := make([]float32, len(a.x))
	if err := s.Dequantize(got); err != nil {
		return fails(err)
	}
	// The sigmoid may differ in its last bit: 0.2 % of the numbers on another grid point.
	return join(flips("out", got, c.out["out"].x, a.cols, p.NBits, 0.002), near("scale", s.Scale, c.out["scale"].x, 1e-6))
}

func omniGradient(c goldenCase) verdict {
	p, a := c.Params, c.in[0]
	q := OmniQuantWeight(p.NBits, p.Group)
	if strings.HasPrefix(c.ID, "uaq_act") {
		q = OmniQuantActivation(p.NBits, 0)
	}
	n, _ := q.Groups(a.rows, a.cols)
	k := lwcFactors(c, n)
	scale, zero := make([]float32, n), make([]float32, n)
	if err := q.FitClipped(a.x, a.rows, a.cols, k, scale, zero); err != nil {
		return fails(err)
	}
	dx, up, low := make([]float32, len(a.x)), make([]float32, n), make([]float32, n)
	if err := q.Backward(dx, c.out["r"].x, a.x, a.rows, a.cols, k, scale, zero, up, low); err != nil {
		return fails(err)
	}
	if k == nil {
		return near("d_x", dx, c.out["d_x"].x, 1e-5)
	}
	return join(near("d_w", dx, c.out["d_w"].x, 1e-5), near("d_up", up, c.out["d_up"].x, 1e-5), near("d_low", low, c.out["d_low"].x, 1e-5))
}

// checkers maps the original's function to the check of a case of it.
var checkers = map[string]func(c goldenCase) verdict{
	"quantize_weight_per_channel_absmax": func(c goldenCase) verdict {
		return both(SmoothQuantWeight(c.Params.NBits), c.in[0], c.out["out"].x)
	},
	"quantize_weight_per_tensor_absmax": func(c goldenCase) verdict {
		q := SmoothQuantWeight(c.Params.NBits)
		q.Granularity = PerTensor
		return both(q, c.in[0], c.out["out"].x)
	},
	"quantize_activation_per_token_absmax": func(c goldenCase) verdict {
		return both(SmoothQuantActivation(c.Params.NBits), c.in[0], c.out["out"].x)
	},
	"quantize_activation_per_tensor_absmax": func(c goldenCase) verdict {
		q := SmoothQuantActivation(c.Params.NBits)
		q.Granularity = PerTensor
		return both(q, c.in[0], c.out["out"].x)
	},
	"UniformAffineQuantizer":                     omniCase,
	"UniformAffineQuantizer, deficiency padding": omniCase,
	"UniformAffineQuantizer, activation per_token": func(c goldenCase) verdict {
		q := OmniQuantActivation(c.Params.NBits, 0)
		return join(both(q, c.in[0], c.out["out"].x), params(q, c.in[0], c))
	},
	"UniformAffineQuantizer, gradients of sum(out*r)": omniGradient,
	"activation quantizer, gradient of sum(out*r)":    omniGradient,
	"quantize_tensor": func(c goldenCase) verdict {
		p := c.Params
		q := AtomActivation(p.NBits, p.Group, p.Clip)
		if !p.Sym {
			q = AtomKV(p.NBits, p.Group, p.Clip)
		}
		return both(q, c.in[0], c.out["out"].x)
	},
	"quantize_tensor_channel_group": func(c goldenCase) verdict {
		p := c.Params
		return both(AtomWeight(p.NBits, p.Group, p.Shared, p.Clip), c.in[0], c.out["out"].x)
	},
	"quantize_activation_wrapper": func(c goldenCase) verdict {
		p := c.Params
		m := keeperOf(p)
		m.Body = AtomActivation(p.ABits, p.ActGroup, p.AClip)
		return mixedCase(m, c.in[0], c.out["out"].x)
	},
	"quantize_attn_k_wrapper (asym, per token and head)": func(c goldenCase) verdict {
		a := c.in[0]
		// The heads of a token lie side by side in the decoder: see them as such.
		a.rows, a.cols = a.rows/2, 2*a.cols
		return both(AtomKV(c.Params.ABits, a.cols/2, c.Params.KVClip), a, c.out["out"].x)
	},
	"QLinearLayer.quant on columns permuted by `index`": func(c goldenCase) verdict {
		p := c.Params
		m := keeperOf(p)
		m.Body = AtomWeight(p.WBits, p.WGroup, p.WShared, p.WClip)
		return mixedCase(m, permuted(c.in[0], c.out["index"].i), c.out["out"].x)
	},
	"Quantizer.find_params+quantize": func(c goldenCase) verdict {
		p, a := c.Params, c.in[0]
		q := GPTQWeight(p.Bits, p.GroupSize, p.Sym, p.MSE)
		if !p.Channel {
			q.Granularity, q.Group = PerTensor, 0
		}
		if p.MSE {
			return searchCase(q, a, c)
		}
		return join(both(q, a, c.out["out"].x), params(q, a, c))
	},
	"pseudo_quantize_tensor": func(c goldenCase) verdict {
		p := c.Params
		q := AWQWeight(p.NBit, p.QGroup, p.ZeroPoint)
		return join(both(q, c.in[0], c.out["out"].x), params(q, c.in[0], c))
	},
	"ActQuantizer": func(c goldenCase) verdict {
		p := c.Params
		// A constant group has the scale 0 in the original, and its result is NaN:
		// ours is the group widened to contain 0.
		q, a, want := QuaRotActivation(p.Bits, p.GroupSize, p.Sym, p.Clip), c.in[0], append([]float32(nil), c.out["out"].x...)
		widened := q
		widened.Widen = true
		ours := make([]float32, len(a.x))
		if err := widened.Simulate(ours, a.x, a.rows, a.cols); err != nil {
			return fails(err)
		}
		for i, v := range want {
			if v != v {
				want[i] = ours[i]
			}
		}
		return both(q, a, want)
	},
	"WeightQuantizer": func(c goldenCase) verdict {
		p := c.Params
		q := QuaRotWeight(p.Bits, p.Sym, p.MSE)
		if p.MSE {
			return searchCase(q, c.in[0], c)
		}
		return join(both(q, c.in[0], c.out["out"].x), params(q, c.in[0], c))
	},
}

// TestGolden compares every case of the original code's outputs.
func TestGolden(t *testing.T) {
	dir := shared(t, "golden", "quant", "scheme")
	inputs := loadArrays(t, filepath.Join(dir, "inputs.safetensors"))
	libraries := []struct {
		name  string
		cases int
	}{{"smoothquant", 19}, {"omniquant", 70}, {"atom", 170}, {"gptq", 77}, {"awq", 20}, {"quarot", 73}}
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-12s %6s %6s %10s %6s  %s\n", "library", "cases", "exact", "tolerance", "failed", "largest share of a tolerance")
	for _, lib := range libraries {
		var cases []goldenCase
		loadJSON(t, filepath.Join(dir, lib.name+".json"), &cases)
		tensors := loadArrays(t, filepath.Join(dir, lib.name+".safetensors"))
		if len(cases) != lib.cases {
			t.Errorf("%s: %d cases, want %d", lib.name, len(cases), lib.cases)
		}
		var exact, tolerated, failed int
		var worst verdict
		for _, c := range cases {
			c.out = map[string]array{}
			for name, key := range c.Outputs {
				c.out[name] = tensors[key]
			}
			var names []string
			var one string
			if json.Unmarshal(c.Input, &one) == nil && one != "" {
				names = []string{one}
			} else if err := json.Unmarshal(c.Input, &names); err != nil {
				t.Fatalf("%s: input: %v", c.ID, err)
			}
			for _, n := range names {
				c.in = append(c.in, inputs[n])
			}
			fn := c.Fn
			if strings.HasPrefix(fn, "get_had") {
				fn = "get_had"
			}
			check, ok := checkers[fn]
			if !ok {
				t.Errorf("%s: no check of %q", c.ID, c.Fn)
				continue
			}
			switch v := check(c); {
			case v.exact && v.share <= 1:
				exact++
			case v.share <= 1:
				tolerated++
				if v.share >= worst.share {
					worst = v
					worst.what = c.ID + ": " + v.what
				}
			default:
				failed++
				t.Errorf("%s: %s", c.ID, v.what)
			}
		}
		fmt.Fprintf(&table, "%-12s %6d %6d %10d %6d  %.3g %s\n", lib.name, len(cases), exact, tolerated, failed, worst.share, worst.what)
	}
	t.Log(table.String())
}
