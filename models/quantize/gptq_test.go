package quantize

import (
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// correlated returns inputs whose channels depend on each other.
func correlated(r *Random, tokens, n int) []float32 {
	x := randomMatrix(r, tokens, n)
	for t := range tokens {
		row := x[t*n : (t+1)*n]
		for c := 1; c < n; c++ {
			row[c] += 0.8 * row[c-1]
		}
	}
	return x
}

func hessianOf(t testing.TB, x []float32, tokens, n, workers int) *Hessian {
	t.Helper()
	h, err := NewHessian(n, workers)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Add(x, tokens); err != nil {
		t.Fatal(err)
	}
	return h
}

// columnLoop is GPTQ without blocks in float64: one column, then the update of
// all others, with U from gonum's Cholesky, inverse, Cholesky.
func columnLoop(t *testing.T, w []float32, rows, n int, h *Hessian, damp float64, q Quantizer) []float32 {
	t.Helper()
	s := mat.NewSymDense(n, nil)
	var mean float64
	for i := range n {
		for j := range i + 1 {
			s.SetSym(i, j, h.At(i, j))
		}
		mean += h.At(i, i) / float64(n)
	}
	for i := range n {
		s.SetSym(i, i, s.At(i, i)+damp*mean)
	}
	var c, c2 mat.Cholesky
	var inv mat.SymDense
	if !c.Factorize(s) || c.InverseTo(&inv) != nil || !c2.Factorize(&inv) {
		t.Fatal("not positive definite")
	}
	var u mat.TriDense
	c2.UTo(&u)
	cur := wide(w)
	out := make([]float32, len(w))
	group := n
	if q.Group > 0 {
		group = q.Group
	}
	per := q
	per.Granularity, per.Group = PerChannel, 0
	scale, zero := make([]float32, rows), make([]float32, rows)
	for i := range n {
		if i%group == 0 {
			part := make([]float32, 0, rows*group)
			for r := range rows {
				for _, v := range cur[r*n+i : r*n+i+group] {
					part = append(part, float32(v))
				}
			}
			if err := per.Fit(part, rows, group, scale, zero); err != nil {
				t.Fatal(err)
			}
		}
		for r := range rows {
			v := cur[r*n+i]
			lo, hi := q.Range()
			k := min(max(math.RoundToEven(v/float64(scale[r]))+float64(zero[r]), float64(lo)), float64(hi)) - float64(zero[r])
			g := k * float64(scale[r])
			out[r*n+i] = float32(g)
			e := (v - g) / u.At(i, i)
			for j := i; j < n; j++ {
				cur[r*n+j] -= e * u.At(i, j)
			}
		}
	}
	return out
}

func outputError(w, q, x []float32, rows, n int) float64 {
	var sum float64
	for t := 0; t < len(x); t += n {
		for r := range rows {
			var d float64
			for c := range n {
				d += float64(x[t+c]) * (float64(w[r*n+c]) - float64(q[r*n+c]))
			}
			sum += d * d
		}
	}
	return sum
}

// Groups as wide as a block equal a naive column loop; for correlated inputs
// the output error is below that of rounding to nearest; sizes do not fit tiles.
func TestGPTQColumnLoop(t *testing.T) {
	const rows, n, tokens, damp = 6, 100, 300, 0.01
	r := NewRandom(9)
	x, w := correlated(r, tokens, n), randomMatrix(r, rows, n)
	for _, q := range []Quantizer{GPTQWeight(4, 0, false, false), GPTQWeight(3, 20, false, false), GPTQWeight(4, 20, true, false), QuaRotWeight(4, true, false)} {
		h := hessianOf(t, x, tokens, n, 2)
		want := columnLoop(t, w, rows, n, h, damp, q)
		f, err := h.Factor(damp, false)
		if err != nil {
			t.Fatal(err)
		}
		g, err := GPTQ{Quantizer: q, Block: 20}.Quantize(w, rows, n, f)
		if err != nil {
			t.Fatal(err)
		}
		if v := flips("weight", g.Weight, want, n, q.Bits, 0.005); v.share > 1 {
			t.Errorf("%s group %d: %s", q.Scheme, q.Group, v.what)
		}
		nearest := make([]float32, len(w))
		if err := q.Simulate(nearest, w, rows, n); err != nil {
			t.Fatal(err)
		}
		a, b := outputError(w, g.Weight, x, rows, n), outputError(w, nearest, x, rows, n)
		if a >= b {
			t.Errorf("%s group %d: output error %v, rounding to nearest %v", q.Scheme, q.Group, a, b)
		}
	}
}

// The result is independent of the workers, and of MatMul up to rounding; the
// order of activations changes it and its integers stand for it.
func TestGPTQVariants(t *testing.T) {
	const rows, n, tokens = 70, 150, 200
	r := NewRandom(4)
	x, w := correlated(r, tokens, n), randomMatrix(r, rows, n)
	solve := func(workers int, act bool, g GPTQ) *GPTQResult {
		t.Helper()
		f, err := hessianOf(t, x, tokens, n, workers).Factor(0.01, act)
		if err != nil {
			t.Fatal(err)
		}
		res, err := g.Quantize(w, rows, n, f)
		if err != nil {
			t.Fatal(err)
		}
		s, err := res.stored(n)
		if err != nil {
			t.Fatal(err)
		}
		if k := equal(s, res.Weight); k != 0 {
			t.Errorf("%d of %d integers stand for something else", k, len(s))
		}
		return res
	}
	g := GPTQ{Quantizer: GPTQWeight(4, 30, false, false), Block: 64}
	one, three := solve(1, false, g), solve(3, false, g)
	if equal(one.Weight, three.Weight) != 0 || one.Loss != three.Loss || string(one.Body.Code) != string(three.Body.Code) {
		t.Error("one and three workers differ")
	}
	withMatMul := g
	calls := 0
	withMatMul.MatMul = func(dst, a, b []float32, m, n, k int) {
		calls++
		for i := range m {
			for j := range n {
				var s float64
				for l := range k {
					s += float64(a[i*k+l]) * float64(b[j*k+l])
				}
				dst[i*n+j] = float32(s)
			}
		}
	}
	other := solve(2, false, withMatMul)
	if v := flips("weight", other.Weight, one.Weight, n, 4, 0.01); v.share > 1 || calls == 0 {
		t.Errorf("own product, %d calls: %s", calls, v.what)
	}
	act := solve(2, true, g)
	if equal(act.Weight, one.Weight) == 0 || act.Body.GroupOf == nil {
		t.Error("act-order changes nothing")
	}
	static := g
	static.StaticGroups = true
	if s := solve(2, true, static); s.Body.GroupOf != nil {
		t.Error("static groups are not consecutive")
	}
	atom := GPTQ{Quantizer: AtomGPTQWeight(4, 32, 2, 0.85), Outliers: 22, Outlier: AtomOutlier(8)}
	res := solve(2, false, atom)
	for i := 0; i < rows; i += 2 {
		for k := range 4 {
			// One set of scales per pair: those of Tensor.Scale.
			if len(res.Body.Scale) != rows/2*4 || res.Body.Scale[i/2*4+k] <= 0 {
				t.Fatalf("%d scales for %d pairs", len(res.Body.Scale), rows/2)
			}
		}
	}
	// INT8: within half a step, absmax/254, of the compensated columns, which
	// the same run without an outlier quantizer returns.
	atom.Outlier = Quantizer{}
	kept := solve(2, false, atom)
	for i := range rows {
		var top float64
		a, b := kept.Weight[i*n+n-22:(i+1)*n], res.Weight[i*n+n-22:(i+1)*n]
		for _, v := range a {
			top = max(top, math.Abs(float64(v)))
		}
		for j := range a {
			if math.Abs(float64(a[j]-b[j])) > top/254*1.001 {
				t.Fatalf("row %d, outlier %d: %v became %v", i, j, a[j], b[j])
			}
		}
	}
}

// Products handed in block by block give the Hessian of Add; dead inputs count.
func TestHessianAddProduct(t *testing.T) {
	const n, tokens = 130, 77
	x := correlated(NewRandom(2), tokens, n)
	for i := 5; i < len(x); i += n {
		x[i] = 0
	}
	a := hessianOf(t, x, tokens, n, 2)
	b, _ := NewHessian(n, 2)
	for first := 0; first < n; first += 50 {
		rows := min(50, n-first)
		cols := n - first
		p := make([]float32, rows*cols)
		for r := range rows {
			for c := range cols {
				var s float64
				for k := 0; k < len(x); k += n {
					s += float64(x[k+first+r]) * float64(x[k+first+c])
				}
				p[r*cols+c] = float32(s)
			}
		}
		if err := b.AddProduct(first, rows, p); err != nil {
			t.Fatal(err)
		}
	}
	b.Count(1)
	for i := range n {
		for j := range n {
			var want float64
			for k := 0; k < len(x); k += n {
				want += 2 * float64(x[k+i]) * float64(x[k+j])
			}
			if math.Abs(a.At(i, j)-want) > 1e-9*(1+math.Abs(want)) || math.Abs(b.At(i, j)-want) > 1e-5*(1+math.Abs(want)) {
				t.Fatalf("H[%d][%d] = %v and %v, want %v", i, j, a.At(i, j), b.At(i, j), want)
			}
		}
	}
	f, err := a.Factor(0.01, false)
	if err != nil || f.Dead() != 1 || f.Damp() != 0.01 {
		t.Errorf("dead %d, damp %v, %v", f.Dead(), f.Damp(), err)
	}
	if _, err := a.Factor(0.01, false); err == nil {
		t.Error("a used Hessian: no error")
	}
}

// matMul32 is a plain MatMul.
func matMul32(dst, a, b []float32, m, n, k int) {
	for i := range m {
		for j := range n {
			var s float32
			for t := range k {
				s += float32(a[i*k+t] * b[j*k+t])
			}
			dst[i*n+j] = s
		}
	}
}

// Products in float32 move the factor by rounding errors alone, whatever part
// of a group of columns or of a tile the order fills.
func TestFactorProducts(t *testing.T) {
	for _, n := range []int{59, 241, 500} {
		x := correlated(NewRandom(uint64(n)), 2*n, n)
		plain, err := hessianOf(t, x, 2*n, n, 2).Factor(0.01, true)
		if err != nil {
			t.Fatal(err)
		}
		h := hessianOf(t, x, 2*n, n, 3)
		calls := 0
		h.MatMul = func(dst, a, b []float32, m, n, k int) {
			calls++
			matMul32(dst, a, b, m, n, k)
		}
		fast, err := h.Factor(0.01, true)
		if err != nil {
			t.Fatal(err)
		}
		if (n > columnTiles*side) != (calls > 0) {
			t.Errorf("n %d: %d products", n, calls)
		}
		for i := range n {
			var norm, off float64
			for j := range i + 1 {
				a, b := plain.inverse.get(i, j), fast.inverse.get(i, j)
				norm += a * a
				off += (a - b) * (a - b)
			}
			if !(off <= 1e-10*norm) {
				t.Fatalf("n %d: row %d differs by %.2g of its length", n, i, math.Sqrt(off/norm))
			}
		}
	}
}

// Without damping a matrix of rank 3 fails; it is restored and the damping
// raised. The factor is then that of the damped matrix, UᵀU its inverse.
func TestFactorRaisesDamping(t *testing.T) {
	t.Run("plain", func(t *testing.T) { factorRaisesDamping(t, 200, 3, nil) })
	// The failure comes behind the first groups of columns.
	t.Run("products", func(t *testing.T) { factorRaisesDamping(t, 600, 400, matMul32) })
}

func factorRaisesDamping(t *testing.T, n, tokens int, matMul func(dst, a, b []float32, m, n, k int)) {
	x := randomMatrix(NewRandom(6), tokens, n)
	// Equal channels make the failure certain.
	for i := range x {
		if i%n >= n/2 {
			x[i] = x[i-n/2]
		}
	}
	h := hessianOf(t, x, tokens, n, 2)
	h.MatMul = matMul
	at := make([]float64, n*n)
	var mean float64
	for i := range n {
		for j := range n {
			at[i*n+j] = h.At(i, j)
		}
		mean += at[i*n+i] / float64(n)
	}
	f, err := h.Factor(0, false)
	if err != nil {
		t.Fatal(err)
	}
	if f.Damp() <= 0 {
		t.Fatalf("damp %v", f.Damp())
	}
	// H⁻¹ = UᵀU, so (H + dI) UᵀU = I; look at a few columns.
	u := make([]float32, n*n)
	f.columns(u, 0, n, 0, n) // u[j*n+i] = U[i][j]
	for _, c := range []int{0, 63, 64, n - 50, n - 1} {
		v := make([]float64, n) // UᵀU column c
		for i := range n {
			for k := range n {
				v[i] += float64(u[i*n+k]) * float64(u[c*n+k])
			}
		}
		for i := range n {
			var s float64
			for k := range n {
				s += at[i*n+k] * v[k]
			}
			s += f.Damp() * mean * v[i]
			want := 0.0
			if i == c {
				want = 1
			}
			if math.Abs(s-want) > 1e-3 {
				t.Fatalf("(H+dI) H⁻¹ [%d][%d] = %v", i, c, s)
			}
		}
	}
}

func TestGPTQRefuses(t *testing.T) {
	const rows, n = 4, 32
	r := NewRandom(1)
	x, w := correlated(r, 64, n), randomMatrix(r, rows, n)
	f, err := hessianOf(t, x, 64, n, 1).Factor(0.01, false)
	if err != nil {
		t.Fatal(err)
	}
	act, err := hessianOf(t, x, 64, n, 1).Factor(0.01, true)
	if err != nil {
		t.Fatal(err)
	}
	ok := GPTQ{Quantizer: GPTQWeight(4, 8, false, false)}
	for want, try := range map[string]func() error{
		"for 4 rows of 31":  func() error { _, err := ok.Quantize(w, rows, 31, f); return err },
		"Hessian 32":        func() error { _, err := ok.Quantize(w, 8, 16, f); return err },
		"40 outliers":       func() error { g := ok; g.Outliers = 40; _, err := g.Quantize(w, rows, n, f); return err },
		"block -1":          func() error { g := ok; g.Block = -1; _, err := g.Quantize(w, rows, n, f); return err },
		"outliers with act": func() error { g := ok; g.Outliers = 8; _, err := g.Quantize(w, rows, n, act); return err },
		"static groups without": func() error {
			g := GPTQ{Quantizer: GPTQWeight(4, 0, false, false), StaticGroups: true}
			_, err := g.Quantize(w, rows, n, f)
			return err
		},
		`granularity "token"`: func() error { g := GPTQ{Quantizer: AtomOutlier(8)}; _, err := g.Quantize(w, rows, n, f); return err },
		"shared_rows 3": func() error {
			g := GPTQ{Quantizer: AtomGPTQWeight(4, 8, 3, 1)}
			_, err := g.Quantize(w, rows, n, f)
			return err
		},
		"row 2, column 1": func() error {
			bad := append([]float32(nil), w...)
			bad[2*n+1] = float32(math.NaN())
			_, err := ok.Quantize(bad, rows, n, f)
			return err
		},
		"want at least 1": func() error { _, err := NewHessian(0, 0); return err },
		"no calibration":  func() error { h, _ := NewHessian(4, 0); _, err := h.Factor(0.01, false); return err },
		"damp -1":         func() error { _, err := hessianOf(t, x, 64, n, 1).Factor(-1, false); return err },
		"sum of squares": func() error {
			bad := append([]float32(nil), x...)
			bad[7] = float32(math.Inf(1))
			_, err := hessianOf(t, bad, 64, n, 1).Factor(0.01, false)
			return err
		},
		"for 3 tokens": func() error { h, _ := NewHessian(4, 0); return h.Add(x, 3) },
		"product":      func() error { h, _ := NewHessian(4, 0); return h.AddProduct(2, 3, x[:12]) },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
