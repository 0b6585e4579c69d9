package train

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// toy is a block with grouped queries and biases, and random scales.
func toy(tie bool, seed uint64) (checkpoint.Config, *fake, func(n int, mean, deviation float64) []float32) {
	r := rand.New(rand.NewPCG(seed, 3))
	random := func(n int, mean, deviation float64) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(mean + deviation*r.NormFloat64())
		}
		return x
	}
	c := checkpoint.Config{HiddenSize: 12, IntermediateSize: 10, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 4, VocabSize: 5, MaxPositions: 32,
		NormEpsilon: 1e-5, AttentionBias: true, Rope: checkpoint.RopeConfig{Type: "default", Theta: 100}}
	w := &Values{AttentionNorm: random(12, 1, 0.2), MLPNorm: random(12, 1, 0.2)}
	for i, l := range w.Linears() {
		shape := [7][2]int{{16, 12}, {8, 12}, {8, 12}, {12, 16}, {10, 12}, {10, 12}, {12, 10}}[i]
		l.Weight = random(shape[0]*shape[1], 0, 0.5)
		if i < 3 {
			l.Bias = random(shape[0], 0, 0.5)
		}
	}
	p := &Parameters{QKV: random(12, 1, 0.2), FC1: random(12, 1, 0.2), Out: random(8, 1, 0.2), QK: random(8, 1, 0.2)}
	if tie {
		for h := 0; h < 8; h += 4 {
			copy(p.QK[h+2:h+4], p.QK[h:h+2])
		}
	}
	t := &trainer{config: c, options: quantize.OmniOptions{LET: true, TieQK: tie}}
	return c, &fake{trainer: t, source: w, p: p, shown: w.Like()}, random
}

// TestTransformationIsExact checks that the equivalent transformation alone
// leaves a block as it was, with the scales of RoPE partners tied, and that it
// does not where they are not.
func TestTransformationIsExact(t *testing.T) {
	for _, tie := range []bool{true, false} {
		c, f, random := toy(tie, 1)
		f.transform()
		for i, l := range f.shown.Linears() {
			copy(l.Weight, f.linear[i].x)
		}
		b, err := decoder.NewBlock[float32](c, 1, decoder.Plain[float32]{})
		if err != nil {
			t.Fatal(err)
		}
		x := random(9*c.HiddenSize, 0, 1)
		var tape decoder.Tape[float32]
		worst := 0.0
		var y [2][]float32
		for i, w := range []*Values{f.source, f.shown} {
			y[i] = make([]float32, len(x))
			if err := b.Forward(y[i], x, []int{6, 3}, w, &tape); err != nil {
				t.Fatal(err)
			}
		}
		for i, v := range y[0] {
			worst = max(worst, math.Abs(float64(v-y[1][i])))
		}
		t.Logf("scales of RoPE partners tied: %v; the transformation moves the block's output by %.2g at most", tie, worst)
		if tie != (worst < 1e-5) {
			t.Errorf("tied %v: the block moves by %.2g", tie, worst)
		}
	}
}

// TestTransformationGradients compares the gradients of the scales of grouped
// heads with central differences of sum(d * transformed).
func TestTransformationGradients(t *testing.T) {
	for _, tie := range []bool{false, true} {
		_, f, random := toy(tie, 2)
		d := f.source.Like()
		d.Each(func(_ string, v []float32) { copy(v, random(len(v), 0, 1)) })
		sum := func() float64 {
			f.transform()
			for i, l := range f.shown.Linears() {
				copy(l.Weight, f.linear[i].x)
			}
			var total float64
			var all [][]float32
			d.Each(func(_ string, v []float32) { all = append(all, v) })
			f.shown.Each(func(_ string, v []float32) {
				for i, x := range v {
					total += float64(x) * float64(all[0][i])
				}
				all = all[1:]
			})
			return total
		}
		g := f.p.like()
		f.transform()
		f.transformBack(d, g)
		gradients := g.all()
		for n, v := range f.p.all() {
			for i := range v.values {
				const h = 4e-3
				move := []int{i}
				if tie && v.name == "qkt_smooth_scale" {
					move = []int{i/4*4 + i%2, i/4*4 + i%2 + 2}
				}
				start := v.values[i]
				at := func(x float32) float64 {
					for _, j := range move {
						v.values[j] = x
					}
					return sum()
				}
				want := (at(start+h) - at(start-h)) / (2 * h)
				at(start)
				if have := float64(gradients[n].values[i]); math.Abs(have-want) > 2e-3*max(1, math.Abs(want)) {
					t.Errorf("tied %v: gradient of %s[%d] is %v, expected %v", tie, v.name, i, have, want)
				}
			}
		}
	}
}

// toySource delivers the toy block as a model.
type toySource struct {
	embedding []float32
	block     *Values
}

func (s toySource) Embedding() ([]float32, error) { return s.embedding, nil }

func (s toySource) Block(int) (*Values, error) { return s.block, nil }

// TestTrainingHelps trains grouped queries with everything on: the loss falls,
// tied scales stay tied.
func TestTrainingHelps(t *testing.T) {
	c, f, random := toy(true, 4)
	m := quantize.NewOmniQuant(3, 4, 0, quantize.OmniOptions{LWC: true, LET: true, TieQK: true, Epochs: 30})
	src := toySource{random(c.VocabSize*c.HiddenSize, 0, 1), f.source}
	calibration := [][]int32{{0, 1, 2, 3, 4, 0, 2}, {3, 3, 1}}
	err := OmniQuant(context.Background(), c, src, m, newBackend(t, 0), calibration, Options{}, func(_ int, r *Result) error {
		n := len(r.Losses)
		if first, last := r.Losses[0]+r.Losses[1], r.Losses[n-2]+r.Losses[n-1]; n != 60 || !(last < 0.8*first) {
			t.Errorf("%d losses, from %v to %v", n, first, last)
		}
		for h := 0; h < 8; h += 4 {
			for i := h; i < h+2; i++ {
				if s := r.Parameters.QK; s[i] != s[i+2] || s[i] == 1 {
					t.Errorf("scales of RoPE partners: %v", s)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOmniQuantRefuses checks that bad input is one clear error.
func TestOmniQuantRefuses(t *testing.T) {
	c, f, random := toy(false, 4)
	good := quantize.NewOmniQuant(4, 4, 0, quantize.OmniOptions{LWC: true, LET: true, Epochs: 1})
	src := toySource{random(c.VocabSize*c.HiddenSize, 0, 1), f.source}
	calibration := [][]int32{{0, 1, 2}}
	for _, x := range []struct {
		want        string
		m           func(m *quantize.Method)
		src         toySource
		calibration [][]int32
	}{
		{"settings of the training", func(m *quantize.Method) { m.Omni = nil }, src, calibration},
		{"asymmetric", func(m *quantize.Method) { m.Weight.Sym = true; m.Omni.LWC = false }, src, calibration},
		{"needs calibration", func(*quantize.Method) {}, src, nil},
		{"sequence 1 is empty", func(*quantize.Method) {}, src, [][]int32{{}}},
		{"outside the vocabulary", func(*quantize.Method) {}, src, [][]int32{{0, 5}}},
		{"embedding of", func(*quantize.Method) {}, toySource{nil, f.source}, calibration},
		{"does not divide", func(m *quantize.Method) { m.Weight.Group = 5 }, src, calibration},
		{"epoch 1, sequence 2: self_attn", func(m *quantize.Method) { m.Omni.LETRate, m.Omni.Epochs = 1e30, 2 }, src, [][]int32{{0, 1, 2}, {1, 2}}},
	} {
		m := good
		o := *good.Omni
		m.Omni = &o
		x.m(&m)
		err := OmniQuant(context.Background(), c, x.src, m, newBackend(t, 1), x.calibration, Options{}, func(int, *Result) error { return nil })
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q, expected one about %q", err, x.want)
		}
	}
}
