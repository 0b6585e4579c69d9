package quantise

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// losses are the token losses of a model on two sequences.
func losses(t *testing.T, m *decoder.Model, sequences [][]int32) []float64 {
	t.Helper()
	all, err := TokenLoss(context.Background(), m, sequences[:2])
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(all...)
}

// storeMethods are methods of all shapes that a checkpoint can have.
func storeMethods() map[string]quantize.Method {
	m := map[string]quantize.Method{
		"rtn-asym-g32":   quantize.NewRTN(3, 32, false),
		"rtn-sym":        quantize.NewRTN(4, 0, true),
		"gptq-act-order": quantize.NewGPTQ(2, 32, false, quantize.GPTQOptions{ActOrder: true}),
		"smoothquant":    quantize.NewSmoothQuant(8, 8, 0.5, true),
		"omniquant-rtn":  quantize.NewOmniQuant(4, 4, 0, quantize.OmniOptions{}),
		"omniquant":      quantize.NewOmniQuant(4, 4, 0, quantize.OmniOptions{LWC: true, LET: true, Epochs: 1}),
		"omniquant-lwc":  quantize.NewOmniQuant(3, 16, 32, quantize.OmniOptions{LWC: true, Epochs: 1}),
		"atom":           quantize.NewAtom(4, 4, 16, 16),
		"atom-keep-fp":   quantize.AtomLadder(4, 4, 16, 16)[1],
		"awq":            quantize.NewAWQ(3, 32),
		"quarot":         quantize.NewQuaRot(4, 4, 4),
		"activations":    {Algorithm: quantize.SmoothQuant, Weight: quantize.Precision{Bits: 16}, Activation: quantize.Precision{Bits: 8}},
	}
	w := quantize.NewAtom(4, 16, 16, 16)
	w.Activation, w.Attention = quantize.Precision{Bits: 16}, quantize.Attention{}
	m["atom-weights"] = w
	q := quantize.NewQuaRot(4, 16, 16)
	q.Activation, q.Attention = quantize.Precision{Bits: 16}, quantize.Attention{}
	m["quarot-weights"] = q
	for _, name := range []string{"quarot", "quarot-weights"} {
		x := m[name]
		x.Weight.MSE = false // its search takes long
		m[name] = x
	}
	return m
}

// TestStore writes checkpoints and reads them back: the model scores as the one
// that was quantized, bit for bit. The ordinary checkpoint of a method that
// leaves activations alone scores the same, but for the order of sums where
// channels were in another order or basis.
func TestStore(t *testing.T) {
	g := openGolden(t, "tiny/mha")
	calibration := g.calibration[:3]
	for name, m := range storeMethods() {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			model, _, err := Model(ctx, g.c, g.be, m, calibration, Options{})
			if err != nil {
				t.Fatal(err)
			}
			want := losses(t, model, g.evaluation)
			digest, err := g.c.Digest()
			if err != nil {
				t.Fatal(err)
			}
			h := NewHeader(digest, m, calibration)
			dir := t.TempDir()
			if _, err := Quantize(ctx, g.c, g.be, m, calibration, Options{}, NewWriter(dir, g.dir, h)); err != nil {
				t.Fatal(err)
			}
			s, err := OpenStored(dir)
			if err != nil {
				t.Fatal(err)
			}
			if s.Header.Calibration != h.Calibration || s.Header.Model != digest || s.Header.Method.Algorithm != m.Algorithm {
				t.Errorf("header %+v, written %+v", s.Header, h)
			}
			back, err := s.Model(g.be)
			if err != nil {
				t.Fatal(err)
			}
			if have := losses(t, back, g.evaluation); !slices.Equal(have, want) {
				t.Error("the stored model scores differently")
			}
			if m.Activation.On() || m.Attention.On() {
				return
			}
			plain := t.TempDir()
			if _, err := Quantize(ctx, g.c, g.be, m, calibration, Options{}, NewSimulated(plain, g.dir, m)); err != nil {
				t.Fatal(err)
			}
			c, err := checkpoint.Open(plain)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ordinary, err := decoder.Load(c, g.be)
			if err != nil {
				t.Fatal(err)
			}
			tolerance := 0.0
			if m.Reorder || m.QuaRot != nil {
				tolerance = 5e-5
			}
			for i, v := range losses(t, ordinary, g.evaluation) {
				if !(math.Abs(v-want[i]) <= tolerance) {
					t.Fatalf("token %d: the ordinary checkpoint's loss is %v, the method's %v", i, v, want[i])
				}
			}
		})
	}
}

// TestStoreFaults checks that damaged checkpoints are refused in one line that
// names the file.
func TestStoreFaults(t *testing.T) {
	g := openGolden(t, "tiny/gqa")
	m := quantize.NewRTN(4, 32, false)
	write := func(t *testing.T) string {
		dir := t.TempDir()
		if _, err := Quantize(context.Background(), g.c, g.be, m, nil, Options{}, NewWriter(dir, g.dir, NewHeader("", m, nil))); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, damage := range map[string]func(t *testing.T, dir string) error{
		"does not exist": func(_ *testing.T, dir string) error { return os.Remove(filepath.Join(dir, blockFile(1))) },
		"expected \"splitbench": func(t *testing.T, dir string) error {
			return writeFile(filepath.Join(dir, endsFile), nil, map[string]string{"format": "other"})
		},
		"metadata header": func(t *testing.T, dir string) error {
			return writeFile(filepath.Join(dir, endsFile), nil, map[string]string{"format": storedFormat, "header": `{"method":{"method":"rtn","weight":{"bits":1}}}`})
		},
		"no tensor": func(t *testing.T, dir string) error {
			return writeFile(filepath.Join(dir, blockFile(0)), nil, nil)
		},
		"has the shape": func(t *testing.T, dir string) error {
			return writeFile(filepath.Join(dir, blockFile(0)), []checkpoint.NamedTensor{{Name: normNames[0], Shape: []int{1}, Data: []float32{1}}}, nil)
		},
		"is not used": func(t *testing.T, dir string) error {
			b, err := loadBlock(g.c, 0)
			if err == nil {
				err = b.round(m)
			}
			if err != nil {
				return err
			}
			b.Order[1] = []int32{0}
			return NewWriter(dir, g.dir, Header{}).Block(0, b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t)
			if err := damage(t, dir); err != nil {
				t.Fatal(err)
			}
			s, err := OpenStored(dir)
			if err == nil {
				_, err = s.Model(g.be)
			}
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
		})
	}
}
