package quantize

import (
	"fmt"
	"math"
)

// factorOf accumulates the calibration sequences of a case, columns in the
// order of index when there is one.
func factorOf(x array, index []int64, damp float64, act bool) (*Factor, *Hessian, error) {
	h, err := NewHessian(x.cols, 2)
	if err != nil {
		return nil, nil, err
	}
	if index != nil {
		x = permuted(x, index)
	}
	tokens := x.shape[1]
	for s := range x.shape[0] {
		if err := h.Add(x.x[s*tokens*x.cols:(s+1)*tokens*x.cols], tokens); err != nil {
			return nil, nil, err
		}
	}
	seen := *h
	if seen.sum != nil {
		seen.sum = newTriangle(h.n)
		for i, row := range h.sum.rows {
			copy(seen.sum.rows[i], row)
		}
	}
	f, err := h.Factor(damp, act)
	return f, &seen, err
}

// stored dequantizes the integers of a GPTQ result.
func (r *GPTQResult) stored(cols int) ([]float32, error) {
	return joinTensors(r.Body, r.Outlier, r.Weight, cols)
}

func gptqCase(c goldenCase) verdict {
	p, w := c.Params, c.in[0]
	f, h, err := factorOf(c.in[1], nil, p.Damp, p.ActOrder)
	if err != nil {
		return fails(err)
	}
	g := GPTQ{Quantizer: GPTQWeight(p.Bits, p.GroupSize, p.Sym, p.MSE), Block: p.Block, StaticGroups: p.Static}
	r, err := g.Quantize(w.x, w.rows, w.cols, f)
	if err != nil {
		return fails(err)
	}
	s, err := r.stored(w.cols)
	if err != nil {
		return fails(err)
	}
	v := join(
		flips("out", r.Weight, c.out["out"].x, w.cols, p.Bits, 0.02),
		exactly("integers", s, r.Weight),
	)
	e := math.Abs(r.Loss/c.Error-1) / 0.01
	v = join(v, verdict{exact: v.exact, share: e, what: fmt.Sprintf("error sum: %.3g %% off", e)})
	if want, ok := c.out["H"]; ok {
		got := make([]float32, len(want.x))
		for i := range got {
			got[i] = float32(h.At(i/w.cols, i%w.cols))
		}
		n := near("H", got, want.x, 1e-6)
		n.exact = v.exact
		v = join(v, n)
	}
	return v
}

func gptqIdentity(c goldenCase) verdict {
	p, w := c.Params, c.in[0]
	h, err := NewHessian(w.cols, 2)
	if err != nil {
		return fails(err)
	}
	eye := make([]float32, w.cols*w.cols)
	for i := range w.cols {
		eye[i*w.cols+i] = 1
	}
	if err := h.AddProduct(0, w.cols, eye); err != nil {
		return fails(err)
	}
	h.Count(2)
	f, err := h.Factor(p.Damp, false)
	if err != nil {
		return fails(err)
	}
	r, err := GPTQ{Quantizer: GPTQWeight(p.Bits, p.GroupSize, p.Sym, p.MSE), Block: p.Block}.Quantize(w.x, w.rows, w.cols, f)
	if err != nil {
		return fails(err)
	}
	e := math.Abs(r.Loss/c.Error-1) / 1e-5
	return join(exactly("out", r.Weight, c.out["out"].x), verdict{exact: true, share: e, what: "error sum"})
}

func atomGPTQ(c goldenCase) verdict {
	p := c.Params
	index := c.out["index"].i
	w := permuted(c.in[0], index)
	f, _, err := factorOf(c.in[1], index, p.Damp, false)
	if err != nil {
		return fails(err)
	}
	k := keeperOf(p)
	g := GPTQ{Quantizer: AtomGPTQWeight(p.WBits, p.WGroup, p.WShared, p.WClip), Block: p.Block, Outliers: k.Outliers, Outlier: k.Outlier}
	r, err := g.Quantize(w.x, w.rows, w.cols, f)
	if err != nil {
		return fails(err)
	}
	s, err := r.stored(w.cols)
	if err != nil {
		return fails(err)
	}
	v := flips("out", r.Weight, c.out["out"].x, w.cols, p.WBits, 0.02)
	if v.share == 0 && !v.exact {
		// Nothing on another grid point: what is left is the rounding of outliers.
		v = join(v, near("out", r.Weight, c.out["out"].x, 1e-5))
	}
	return join(v, exactly("integers", s, r.Weight))
}

func hadamardCase(c goldenCase) verdict {
	x := c.out["x"]
	v := verdict{exact: true}
	for _, transpose := range []bool{false, true} {
		name := "out"
		if transpose {
			name = "out_transpose"
		}
		r, err := NewRotation(x.cols, transpose)
		if err != nil {
			return fails(err)
		}
		if r.Order() != c.Params.K {
			return verdict{share: math.Inf(1), what: fmt.Sprintf("K %d, want %d", r.Order(), c.Params.K)}
		}
		got := append([]float32(nil), x.x...)
		if err := r.Apply(got); err != nil {
			return fails(err)
		}
		online := append([]float32(nil), x.x...)
		if err := r.ApplyOnline(online); err != nil {
			return fails(err)
		}
		n := near("online", online, c.out[name].x, 1e-6)
		n.exact = true // the golden output is that of the other order of operations
		v = join(v, near(name, got, c.out[name].x, 1e-6), n)
	}
	return v
}

func init() {
	checkers["GPTQ.add_batch+fasterquant"] = gptqCase
	checkers["GPTQ.fasterquant, H = I"] = gptqIdentity
	checkers["GPTQ.fasterquant (Atom's) on columns permuted by `index`"] = atomGPTQ
	checkers["get_had"] = func(c goldenCase) verdict {
		h, err := HadamardMatrix(c.Params.K)
		if err != nil {
			return fails(err)
		}
		got := make([]float32, len(h))
		for i, v := range h {
			got[i] = float32(v)
		}
		return exactly("matrix", got, c.out["out"].x)
	}
	checkers["matmul_hadU (= matmul_hadU_cuda)"] = hadamardCase
	checkers["random_hadamard_matrix, torch.manual_seed(0)"] = func(c goldenCase) verdict {
		signs := TorchSigns(0, c.Params.N)
		q, err := RandomHadamard(signs)
		if err != nil {
			return fails(err)
		}
		got := make([]float32, len(q))
		for i, v := range q {
			got[i] = float32(v)
		}
		return join(exactly("signs", signs, c.out["signs"].x), near("out", got, c.out["out"].x, 2e-7))
	}
	checkers["apply_exact_had_to_linear"] = func(c goldenCase) verdict {
		a := c.in[0]
		got := append([]float32(nil), a.x...)
		if c.Params.Output {
			if err := HadamardHeads(got, a.rows, a.cols, c.Params.HadDim); err != nil {
				return fails(err)
			}
		} else {
			r, err := NewRotation(a.cols, false)
			if err != nil {
				return fails(err)
			}
			if err := r.ApplyOnline(got); err != nil {
				return fails(err)
			}
		}
		return exactly("out", got, c.out["out"].x)
	}
	checkers["auto_clip_layer(n_grid=20, max_shrink=0.5, n_sample_token=256)"] = func(c goldenCase) verdict {
		w, x, p := c.in[0], c.in[1], c.Params
		a := DefaultAWQClip
		a.Tokens = 256
		got, err := a.Search(w.x, w.rows, w.cols, x.x, x.rows, AWQWeight(p.NBit, p.QGroup, p.ZeroPoint))
		if err != nil {
			return fails(err)
		}
		return exactly("max_val", got, c.out["max_val"].x)
	}
}
