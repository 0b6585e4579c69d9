package quantise

import (
	"context"
	"slices"
	"testing"

	"splitbench/models/backend/cpu"
	"splitbench/models/quantize"
)

// dense is the sink of a model that keeps all weights in float32.
type dense struct {
	assembly
	packed, linears int
}

func (d *dense) Block(k int, b *Block) error {
	plain := *b
	for i := range plain.Linears {
		l := &plain.Linears[i]
		if _, ok := l.packed(); ok {
			d.packed++
		}
		d.linears++
		l.Body, l.Outlier = nil, nil // the values alone
	}
	return d.assembly.Block(k, &plain)
}

// TestPackedScores compares models whose weights are packed where they can be,
// as stored and as quantized, with the same ones in float32: the losses have
// the same bits, with every kernel. Where all weights are packed, the memory is
// that of the codes and the scales.
func TestPackedScores(t *testing.T) {
	g := openGolden(t, "tiny/mha")
	atom := quantize.NewAtom(4, 4, 32, 32)
	rows := quantize.NewAtom(4, 16, 32, 0) // scales of rows beside outliers
	rows.Weight, rows.Activation, rows.Attention, rows.GPTQ = quantize.Precision{Bits: 4}, quantize.Precision{Bits: 16}, quantize.Attention{}, nil
	for _, c := range []struct {
		name   string
		m      quantize.Method
		packed int     // linear maps of a block
		bits   float64 // of a weight, scales and zeros included
	}{
		{"rtn-2", quantize.NewRTN(2, 0, false), 7, 2 + 40./128},
		{"rtn-3-g32", quantize.NewRTN(3, 32, false), 7, 3 + 40./32},
		{"rtn-4-g64", quantize.NewRTN(4, 64, true), 7, 4 + 40./64},
		{"rtn-6", quantize.NewRTN(6, 0, false), 7, 8 + 40./128},
		{"rtn-g16", quantize.NewRTN(4, 16, false), 0, 32},
		{"smoothquant-8", quantize.NewSmoothQuant(8, 8, 0.5, true), 7, 8 + 40./128},
		{"gptq-static-order", quantize.NewGPTQ(4, 32, false, quantize.GPTQOptions{ActOrder: true, StaticGroups: true}), 7, 4 + 40./32},
		{"gptq-order", quantize.NewGPTQ(4, 32, false, quantize.GPTQOptions{ActOrder: true}), 0, 32},
		{"omniquant", quantize.NewOmniQuant(4, 4, 0, quantize.OmniOptions{LWC: true, LET: true}), 7, 4 + 40./128},
		{"awq", quantize.NewAWQ(3, 32), 7, 3 + 40./32},
		{"atom", atom, 7, 8 + 40./32},
		{"atom-rows", rows, 7, 8 + 40./32},
		{"atom-keep-fp", quantize.AtomLadder(4, 4, 32, 32)[1], 0, 32},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			d := &dense{assembly: assembly{m: c.m, be: g.be}}
			if _, err := Quantize(ctx, g.c, g.be, c.m, g.calibration[:2], Options{}, d); err != nil {
				t.Fatal(err)
			}
			model, err := d.model()
			if err != nil {
				t.Fatal(err)
			}
			want := losses(t, model, g.evaluation)
			if d.packed != c.packed*g.c.Config.Layers {
				t.Errorf("%d of %d linear maps are packed, expected %d of 7", d.packed, d.linears, c.packed)
			}
			dir := t.TempDir()
			if _, err := Quantize(ctx, g.c, g.be, c.m, g.calibration[:2], Options{}, NewWriter(dir, g.dir, NewHeader("", c.m, g.calibration[:2]))); err != nil {
				t.Fatal(err)
			}
			s, err := OpenStored(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, kernel := range cpu.Kernels() {
				be, err := cpu.New(cpu.Options{Kernel: kernel})
				if err != nil {
					t.Fatal(err)
				}
				defer be.Close()
				back, err := s.Model(be)
				if err != nil {
					t.Fatal(err)
				}
				if have := losses(t, back, g.evaluation); !slices.Equal(have, want) {
					t.Errorf("%s: the packed model scores differently", kernel)
				}
				var bytes int64
				for k := range g.c.Config.Layers {
					bytes += back.Layer(k + 1).Bytes()
				}
				block, _ := Sizes(g.c.Config)
				bits := 8 * float64(bytes) / float64(block/4*int64(g.c.Config.Layers))
				if bits > c.bits+1e-9 || bits < 0.7*c.bits { // down has rows of twice the length
					t.Errorf("%s: %.3f bits per weight, expected %.3f", kernel, bits, c.bits)
				}
			}
		})
	}
}
