package quantise

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// TestFamilies runs on models with biases, fused matrices, fewer KV heads,
// windows, partial rotation and heads that do not fill the hidden size.
// Smoothing and reordering alone leave the losses as they were to
// 1e-4; stored and ordinary checkpoints score as the method.
func TestFamilies(t *testing.T) {
	be, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	unquantized := quantize.Precision{Bits: 16}
	equivalent := map[string]quantize.Method{
		"smoothing": {Algorithm: quantize.SmoothQuant, Weight: unquantized, Smooth: &quantize.SmoothOptions{Alpha: 0.5}},
		"reorder":   {Algorithm: quantize.Atom, Weight: unquantized, Reorder: true},
	}
	for _, name := range []string{"llama31-gqa", "llama-tied-linear-bias", "qwen2-untied", "qwen2-swa", "mistral-nemo", "phi4", "phi3-partial"} {
		t.Run(name, func(t *testing.T) {
			dir := shared(t, "golden", "models", name)
			c, err := checkpoint.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			original, err := decoder.Load(c, be)
			if err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			r := quantize.NewRandom(1)
			var sequences [][]int32
			for range 3 {
				var ids []int32
				for range 24 {
					ids = append(ids, int32(r.Below(uint64(c.Config.VocabSize))))
				}
				sequences = append(sequences, ids)
			}
			want := losses(t, original, sequences)
			for method, m := range equivalent {
				model, _, err := Model(ctx, c, be, m, sequences, Options{})
				if err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				for i, v := range losses(t, model, sequences) {
					if !(math.Abs(v-want[i]) < 1e-4) {
						t.Fatalf("%s: loss of token %d is %v, the original's %v", method, i, v, want[i])
					}
				}
			}
			m := quantize.NewGPTQ(4, 0, false, quantize.GPTQOptions{TrueSequential: true})
			model, _, err := Model(ctx, c, be, m, sequences, Options{})
			if err != nil {
				t.Fatal(err)
			}
			quantized := losses(t, model, sequences)
			if slices.Equal(quantized, want) {
				t.Error("quantization changed nothing")
			}
			stored, plain := t.TempDir(), t.TempDir()
			for _, s := range []Sink{NewWriter(stored, dir, NewHeader("", m, sequences)), NewSimulated(plain, dir, m)} {
				if _, err := Quantize(ctx, c, be, m, sequences, Options{}, s); err != nil {
					t.Fatal(err)
				}
			}
			s, err := OpenStored(stored)
			if err != nil {
				t.Fatal(err)
			}
			if model, err = s.Model(be); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(losses(t, model, sequences), quantized) {
				t.Error("the stored model scores differently")
			}
			o, err := checkpoint.Open(plain)
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			if model, err = decoder.Load(o, be); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(losses(t, model, sequences), quantized) {
				t.Error("the ordinary checkpoint scores differently")
			}
		})
	}
}

// TestSweep compares the alpha of a sweep with losses that are measured one by
// one on the calibration set.
func TestSweep(t *testing.T) {
	g := openGolden(t, "tiny/gqa")
	ctx := context.Background()
	calibration := g.calibration[:4]
	m := quantize.NewSmoothQuant(4, 4, 0, false)
	m.Smooth.Sweep = []float64{0.1, 0.5, 0.8}
	var best, least float64
	for i, alpha := range m.Smooth.Sweep {
		model, _, err := Model(ctx, g.c, g.be, quantize.NewSmoothQuant(4, 4, alpha, false), calibration, Options{})
		if err != nil {
			t.Fatal(err)
		}
		loss, err := MeanLoss(ctx, model, calibration)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 || loss < least {
			best, least = alpha, loss
		}
	}
	have, err := Resolve(ctx, g.c, g.be, m, calibration)
	if err != nil || have.Smooth.Alpha != best || have.Smooth.Sweep != nil {
		t.Errorf("sweep gives %+v, %v, expected alpha %v", have.Smooth, err, best)
	}
}

// TestRefused checks that a method that does not fit is one clear error.
func TestRefused(t *testing.T) {
	g := openGolden(t, "tiny/gqa")
	for want, m := range map[string]quantize.Method{
		"self_attn.q_proj: weight group 48 does not divide 128 inputs": quantize.NewRTN(4, 48, false),
		"needs calibration sequences":                                  quantize.NewGPTQ(4, 0, false, quantize.GPTQOptions{}),
	} {
		_, _, err := Model(context.Background(), g.c, g.be, m, nil, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Model(ctx, g.c, g.be, quantize.NewRTN(4, 0, false), nil, Options{}); err != context.Canceled {
		t.Errorf("error %v after cancelling", err)
	}
	for _, bad := range [][][]int32{{{1}, {}}, {{256}}, {{-1}}} {
		if _, _, err := Model(context.Background(), g.c, g.be, quantize.NewAWQ(4, 32), bad, Options{}); err == nil || !strings.Contains(err.Error(), "calibration sequence") {
			t.Errorf("calibration %v: error %v", bad, err)
		}
	}
}
