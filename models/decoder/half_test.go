package decoder

import (
	"math"
	"testing"

	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
)

// widening is a backend that asks every weight for its float32 values.
type widening struct{ backend.Backend }

func (b widening) NewWeight(d backend.Dense) (backend.Weight, error) {
	d.Element, d.Fill16 = backend.Float32, nil
	return b.Backend.NewWeight(d)
}

// TestHalfCheckpoint scores 16-bit checkpoints with weights kept in 16 bits
// and widened on loading: the same bits, half the memory.
func TestHalfCheckpoint(t *testing.T) {
	for _, name := range []string{"llama2-mha-bf16", "llama2-mha-f16", "qwen2-tied", "phi4", "llama2-mha"} {
		t.Run(name, func(t *testing.T) {
			c, err := checkpoint.Open(shared(t, "golden", "models", name))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			be, err := cpu.New(cpu.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer be.Close()
			ids := []int32{1, 5, 9, 2, 44, 17, 3, 8, 21}
			run := func(b backend.Backend) ([]float32, *Model) {
				m, err := Load(c, b)
				if err != nil {
					t.Fatal(err)
				}
				cache, err := m.NewCache(len(ids))
				if err != nil {
					t.Fatal(err)
				}
				var w Workspace
				var logits []float32
				for from, n := 0, 7; from < len(ids); from, n = from+n, 1 { // a prompt, then token by token
					var batch Batch
					batch.AddPart(ids[from:from+n], from, len(ids), cache)
					x, err := m.Embed(&w, &batch)
					if err != nil {
						t.Fatal(err)
					}
					if err := m.Blocks(&w, x, &batch, 1, m.Config.Layers); err != nil {
						t.Fatal(err)
					}
					m.Normalise(x, x)
					dst, err := b.Alloc(n, m.Config.VocabSize)
					if err != nil {
						t.Fatal(err)
					}
					m.Logits(dst, x)
					v := make([]float32, n*m.Config.VocabSize)
					b.Download(v, dst)
					logits = append(logits, v...)
				}
				return logits, m
			}
			have, narrow := run(be)
			want, wide := run(widening{be})
			for i, v := range want {
				if math.Float32bits(have[i]) != math.Float32bits(v) {
					t.Fatalf("logit %d is %v in 16 bits, %v widened", i, have[i], v)
				}
			}
			times := int64(2)
			if name == "llama2-mha" { // a float32 checkpoint stays what it is
				times = 1
			}
			if h, w := narrow.Layer(1).Bytes(), wide.Layer(1).Bytes(); times*h != w {
				t.Errorf("layer 1 occupies %d bytes, %d widened", h, w)
			}
		})
	}
}
