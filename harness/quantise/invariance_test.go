package quantise

import (
	"context"
	"testing"

	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
	"splitbench/models/quantize/train"
)

// TestTransformationsKeepLogits checks that SmoothQuant's scales, Atom's orders,
// OmniQuant's equivalent transformation and QuaRot's rotations alone leave the
// logits of float32 models within 1e-4, and prints how far they move them.
func TestTransformationsKeepLogits(t *testing.T) {
	unquantized := quantize.Precision{Bits: 16}
	methods := []struct {
		name string
		m    quantize.Method
	}{
		{"smoothing, alpha 0.5", quantize.Method{Algorithm: quantize.SmoothQuant, Weight: unquantized, Smooth: &quantize.SmoothOptions{Alpha: 0.5}}},
		{"smoothing, alpha 0.8", quantize.Method{Algorithm: quantize.SmoothQuant, Weight: unquantized, Smooth: &quantize.SmoothOptions{Alpha: 0.8}}},
		{"Atom's orders", quantize.Method{Algorithm: quantize.Atom, Weight: unquantized, Reorder: true}},
		{"QuaRot's rotations", quantize.Method{Algorithm: quantize.QuaRot, Weight: unquantized, QuaRot: &quantize.QuaRotOptions{}}},
	}
	for _, name := range []string{"tiny/mha", "tiny/gqa", "babyllama"} {
		t.Run(name, func(t *testing.T) {
			g := openGolden(t, name)
			ctx := context.Background()
			calibration, evaluation := g.calibration[:4], g.evaluation[:4]
			original, err := decoder.Load(g.c, g.be)
			if err != nil {
				t.Fatal(err)
			}
			compare := func(what string, m *decoder.Model) {
				t.Helper()
				a, err := Compare(ctx, original, m, evaluation)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%-10s %-22s moves logits of up to %.1f by %.2g at most", name, what, a.Scale, a.Logit)
				if !(a.Logit <= 1e-4) || a.Scale < 1 {
					t.Errorf("%s moves a logit by %v", what, a.Logit)
				}
			}
			for _, c := range methods {
				if c.m.QuaRot != nil && name != "tiny/mha" {
					continue // their intermediate sizes have no Hadamard matrix
				}
				m, _, err := Model(ctx, g.c, g.be, c.m, calibration, Options{})
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				compare(c.name, m)
			}
			m := quantize.NewOmniQuant(8, 16, 0, quantize.OmniOptions{LET: true, TieQK: true})
			a := &assembly{m: quantize.Method{Algorithm: quantize.RTN}, be: g.be}
			e, err := loadEnds(g.c)
			if err == nil {
				err = a.Ends(g.c.Config, e)
			}
			if err != nil {
				t.Fatal(err)
			}
			err = train.OmniQuant(ctx, g.c.Config, train.FromCheckpoint{Checkpoint: g.c}, m, g.be, calibration, train.Options{}, func(k int, r *train.Result) error {
				b, err := loadBlock(g.c, k)
				if err != nil {
					return err
				}
				equivalent(b, g.c.Config, r.Parameters)
				return a.Block(k, b)
			})
			if err != nil {
				t.Fatal(err)
			}
			model, err := a.model()
			if err != nil {
				t.Fatal(err)
			}
			compare("LET", model)
		})
	}
}

// equivalent applies the scales of OmniQuant's transformation to a block, with
// others between queries and keys than the ones that training starts from.
func equivalent(b *Block, c checkpoint.Config, p *train.Parameters) {
	for i := range p.QK {
		p.QK[i] = 1 + 0.5*float32(i%c.HeadDim%(c.RotaryWidth()/2)%5)/4
	}
	shared := func(s []float32) []float32 { // of a query head's key head
		var wide []float32
		for h := range c.Heads {
			from := h / (c.Heads / c.KVHeads) * c.HeadDim
			wide = append(wide, s[from:from+c.HeadDim]...)
		}
		return wide
	}
	l := &b.Linears
	quantize.ScaleColumns(b.Norms[0], p.QKV, true)
	for _, i := range []int{decoder.QueryMap, decoder.KeyMap, decoder.ValueMap} {
		quantize.ScaleColumns(l[i].Values, p.QKV, false)
	}
	quantize.ScaleColumns(b.Norms[1], p.FC1, true)
	for _, i := range []int{decoder.GateMap, decoder.UpMap} {
		quantize.ScaleColumns(l[i].Values, p.FC1, false)
	}
	quantize.ScaleRows(l[decoder.ValueMap].Values, p.Out, true)
	quantize.ScaleColumns(l[decoder.OutputMap].Values, shared(p.Out), false)
	quantize.ScaleRows(l[decoder.QueryMap].Values, shared(p.QK), true)
	quantize.ScaleRows(l[decoder.KeyMap].Values, p.QK, false)
}
