package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"splitbench/models/backend"
)

// shape is the size of a decoder.
type shape struct {
	name                                        string
	hidden, layers, heads, kv, dh, inner, vocab int
}

var shapes = []shape{
	{"260K", 64, 5, 8, 4, 8, 172, 512},
	{"15M", 288, 6, 6, 6, 48, 768, 32000},
	{"110M", 768, 12, 12, 12, 64, 2048, 32000},
}

// forward is a model of random weights and the memory of one pass.
type forward struct {
	shape
	b                                  *Backend
	norm                               backend.Vector
	q, k, v, o, gate, up, down         backend.Weight // of every layer
	table                              backend.Weight
	x, n, qm, km, vm, attended, gm, um backend.Matrix
	rope                               *backend.RopeTable
	seqs                               []backend.Sequence
	positions, ids                     []int32
	targets                            []backend.Target
	scores                             []backend.TokenScore
}

func newForward(t testing.TB, b *Backend, s shape, lengths []int) *forward {
	f := &forward{shape: s, b: b}
	r := rand.New(rand.NewPCG(5, 5))
	ok := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	weight := func(out, in int) backend.Weight {
		w, err := b.NewWeight(backend.Dense{Out: out, In: in, Fill: func(dst []float32, from, to int) error {
			for i := range dst {
				dst[i] = float32(math.Sin(float64(from*in+i))) / float32(math.Sqrt(float64(in)))
			}
			return nil
		}})
		ok(err)
		return w
	}
	f.q, f.k, f.v, f.o = weight(s.heads*s.dh, s.hidden), weight(s.kv*s.dh, s.hidden), weight(s.kv*s.dh, s.hidden), weight(s.hidden, s.heads*s.dh)
	f.gate, f.up, f.down = weight(s.inner, s.hidden), weight(s.inner, s.hidden), weight(s.hidden, s.inner)
	f.table = weight(s.vocab, s.hidden)
	gain := make([]float32, s.hidden)
	for i := range gain {
		gain[i] = 1
	}
	f.norm, _ = b.NewVector(gain)
	rows, longest := 0, 0
	for _, n := range lengths {
		c, err := b.NewCache(backend.CacheShape{Layers: s.layers, KVHeads: s.kv, HeadDim: s.dh, Capacity: n})
		ok(err)
		f.seqs = append(f.seqs, backend.Sequence{Row: rows, Count: n, Cache: c})
		for p := range n {
			f.positions = append(f.positions, int32(p))
			f.ids = append(f.ids, int32(r.IntN(s.vocab)))
			if p >= n*3/4 { // a fourth of the rows is scored; which does not matter here
				f.targets = append(f.targets, backend.Target{Row: int32(len(f.targets)), ID: int32(r.IntN(s.vocab))})
			}
		}
		rows += n
		longest = max(longest, n)
	}
	f.scores = make([]backend.TokenScore, len(f.targets))
	f.rope = &backend.RopeTable{Half: s.dh / 2}
	for p := range longest {
		for i := range f.rope.Half {
			sin, cos := math.Sincos(float64(p) * math.Pow(10000, -float64(i)/float64(f.rope.Half)))
			f.rope.Cos, f.rope.Sin = append(f.rope.Cos, float32(cos)), append(f.rope.Sin, float32(sin))
		}
	}
	for _, m := range []struct {
		m    *backend.Matrix
		cols int
	}{{&f.x, s.hidden}, {&f.n, s.hidden}, {&f.qm, s.heads * s.dh}, {&f.km, s.kv * s.dh}, {&f.vm, s.kv * s.dh}, {&f.attended, s.heads * s.dh}, {&f.gm, s.inner}, {&f.um, s.inner}} {
		var err error
		*m.m, err = b.Alloc(rows, m.cols)
		ok(err)
	}
	return f
}

func (f *forward) pass() error {
	b := f.b
	a := backend.AttentionShape{Heads: f.heads, KVHeads: f.kv, HeadDim: f.dh, Scale: float32(1 / math.Sqrt(float64(f.dh)))}
	b.Embed(f.x, f.table, f.ids)
	for l := range f.layers {
		b.RMSNorm(f.n, f.x, f.norm, 1e-5)
		b.MatMul(f.qm, f.n, f.q, nil, false)
		b.MatMul(f.km, f.n, f.k, nil, false)
		b.MatMul(f.vm, f.n, f.v, nil, false)
		b.Rope(f.qm, f.heads, f.dh, f.positions, f.rope)
		b.Rope(f.km, f.kv, f.dh, f.positions, f.rope)
		b.Append(l, f.km, f.vm, f.seqs)
		b.Attention(f.attended, f.qm, l, f.seqs, a)
		b.MatMul(f.x, f.attended, f.o, nil, true)
		b.RMSNorm(f.n, f.x, f.norm, 1e-5)
		b.MatMul(f.gm, f.n, f.gate, nil, false)
		b.MatMul(f.um, f.n, f.up, nil, false)
		b.SiluMul(f.gm, f.um)
		b.MatMul(f.x, f.gm, f.down, nil, true)
	}
	b.RMSNorm(f.n, f.x, f.norm, 1e-5)
	return b.LogProbs(f.scores, f.n.Slice(0, len(f.targets)), f.table, f.targets)
}

// ragged are n sequence lengths of 40 to 160.
func ragged(n int) []int {
	r := rand.New(rand.NewPCG(8, 8))
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = 40 + r.IntN(121)
	}
	return lengths
}

// TestNoAllocation: a pass over shapes seen before allocates nothing.
func TestNoAllocation(t *testing.T) {
	for _, workers := range []int{1, 2} {
		b := open(t, Options{Workers: workers})
		f := newForward(t, b, shapes[0], ragged(6))
		if n := testing.AllocsPerRun(5, func() {
			if err := f.pass(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%d workers: %v allocations in a pass", workers, n)
		}
	}
}

// BenchmarkForward is a pass over short sequences, about 100 rows each, a
// fourth of them scored. best-rows/s is the fastest pass of the run.
func BenchmarkForward(b *testing.B) {
	for _, s := range shapes {
		for _, sequences := range []int{5, 20} {
			for _, workers := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s-sequences%d-workers%d", s.name, sequences, workers), func(b *testing.B) {
					f := newForward(b, open(b, Options{Workers: workers}), s, ragged(sequences))
					b.ReportAllocs()
					best := math.Inf(1)
					for b.Loop() {
						t := time.Now()
						if err := f.pass(); err != nil {
							b.Fatal(err)
						}
						best = min(best, time.Since(t).Seconds())
					}
					b.ReportMetric(float64(len(f.ids))/best, "best-rows/s")
				})
			}
		}
	}
}
