package decoder

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
)

var (
	_ Arithmetic[float32] = (*cpu.Backend)(nil)
	_ Arithmetic[float32] = Plain[float32]{}
)

// TestBackwardForward compares the forward pass of training, block by block
// and as a whole, with the one that scores.
func TestBackwardForward(t *testing.T) {
	for _, name := range []string{"llama2-mha", "llama31-gqa", "llama-tied-linear-bias", "qwen2-untied", "qwen2-swa", "qwen2-yarn", "phi3-partial", "phi3-longrope", "mistral-nemo"} {
		t.Run(name, func(t *testing.T) {
			dir := shared(t, "golden", "models", name)
			m := load(t, dir, cpu.Options{})
			g := openGolden(t, dir, 0)
			be := m.Backend.(*cpu.Backend)
			n, err := NewNetwork[float32](m.Config, be)
			if err != nil {
				t.Fatal(err)
			}
			w, err := ModelValuesOf(m.source)
			if err != nil {
				t.Fatal(err)
			}
			var x []float32
			worst := 0.0
			var ids []int32 // the longest
			for i := range 4 {
				if s := g.ids(t, i); len(s) > len(ids) {
					ids = s
				}
			}
			_, logits, _ := forward(t, m, ids, nil, func(k int, h []float32, _ int) {
				if k == 0 {
					x = h
					return
				}
				// Each block from the rows of the other pass: deviations do not add up.
				y := make([]float32, len(x))
				if err := n.Blocks[k-1].Forward(y, x, []int{len(ids)}, w.Blocks[k-1], new(Tape[float32])); err != nil {
					t.Fatal(err)
				}
				for i := range h {
					d := math.Abs(float64(h[i]-y[i])) / max(1, math.Abs(float64(h[i])))
					worst = max(worst, d)
				}
				x = h
			})
			if worst > 1e-5 {
				t.Errorf("a block differs by %.2g", worst)
			}
			var want float64
			for r, id := range ids[1:] {
				row := logits[r*m.Config.VocabSize:][:m.Config.VocabSize]
				var sum float64
				for _, v := range row {
					sum += math.Exp(float64(v))
				}
				want += math.Log(sum) - float64(row[id])
			}
			if m.rope.long != nil && len(ids) > m.rope.limit && len(ids)-1 <= m.rope.limit {
				return // without its last token the sequence has other rotations
			}
			have, err := n.Loss(w, nil, [][]int32{ids})
			t.Logf("%d positions, largest deviation of a block %.2g", len(ids), worst)
			if want /= float64(len(ids) - 1); err != nil || math.Abs(have-want) > 1e-5 {
				t.Errorf("loss %v, expected %v (%v)", have, want, err)
			}
		})
	}
}

// toy is a small configuration that has everything: grouped queries, biases,
// partial rotation, a window, head width apart from the hidden size.
func toy(tied bool) checkpoint.Config {
	return checkpoint.Config{
		HiddenSize: 12, IntermediateSize: 10, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 4, VocabSize: 11, MaxPositions: 64,
		NormEpsilon: 1e-5, TiedEmbeddings: tied, AttentionBias: true, OutputBias: true, MLPBias: true,
		Windows: []int{0, 3}, Rope: checkpoint.RopeConfig{Type: "default", Theta: 100},
	}
}

func toyValues[T Real](c checkpoint.Config, seed uint64) *ModelValues[T] {
	r := rand.New(rand.NewPCG(seed, 1))
	random := func(n int, mean, deviation float64) []T {
		x := make([]T, n)
		for i := range x {
			x[i] = T(mean + deviation*r.NormFloat64())
		}
		return x
	}
	v := &ModelValues[T]{Embedding: random(c.VocabSize*c.HiddenSize, 0, 1), FinalNorm: random(c.HiddenSize, 1, 0.2)}
	for range c.Layers {
		b := &BlockValues[T]{AttentionNorm: random(c.HiddenSize, 1, 0.2), MLPNorm: random(c.HiddenSize, 1, 0.2)}
		for i, l := range b.linearValues() {
			out, in := shapeOf(c, linears[i].name)
			*l = LinearValues[T]{random(out*in, 0, 0.5), random(out, 0, 0.3)}
		}
		v.Blocks = append(v.Blocks, b)
	}
	if !c.TiedEmbeddings {
		v.Head = random(c.VocabSize*c.HiddenSize, 0, 0.5)
	}
	return v
}

var toySequences = [][]int32{{1, 5, 3, 5, 9, 0, 2}, {4, 4}, {7, 10, 6, 1, 1, 8}}

// TestGradients compares every gradient with a central difference in float64,
// of the plain loss and of an objective with weights and z-loss.
func TestGradients(t *testing.T) {
	weighted := Objective{ZLoss: 0.3, Weights: [][]float32{{1, 0, 0.5, 2, 1, 1}, {0.25}, {1, 1, 0, 3, 1}}}
	testGradients(t, true, Objective{})
	testGradients(t, false, weighted)
}

func testGradients(t *testing.T, tied bool, o Objective) {
	c := toy(tied)
	n, err := NewNetwork[float64](c, Plain[float64]{})
	if err != nil {
		t.Fatal(err)
	}
	w := toyValues[float64](c, 5)
	g := w.Like()
	if _, err := n.Losses(w, g, toySequences, o); err != nil {
		t.Fatal(err)
	}
	gradients := map[string][]float64{}
	g.Each(func(name string, v []float64) { gradients[name] = v })
	count := 0
	w.Each(func(name string, v []float64) {
		for i := range v {
			const h = 1e-5
			start := v[i]
			at := func(x float64) float64 {
				v[i] = x
				l, err := n.Losses(w, nil, toySequences, o)
				if err != nil {
					t.Fatal(err)
				}
				return l.CrossEntropy + l.Z
			}
			want := (at(start+h) - at(start-h)) / (2 * h)
			v[i] = start
			if have := gradients[name][i]; math.Abs(have-want) > 1e-7*max(1, math.Abs(want)) {
				t.Fatalf("tied %v: gradient of %s[%d] is %v, expected %v", tied, name, i, have, want)
			}
			count++
		}
	})
	if count < 1500 {
		t.Errorf("only %d gradients were compared", count)
	}
}

// TestObjective compares an objective with its definition, worked out from the
// logits of a plain loss per position.
func TestObjective(t *testing.T) {
	c := toy(false)
	n, err := NewNetwork[float64](c, Plain[float64]{})
	if err != nil {
		t.Fatal(err)
	}
	w := toyValues[float64](c, 5)
	// A head of zeros gives every token the probability 1/11 and logits whose
	// exponentials add up to 11.
	clear(w.Head)
	l, err := n.Losses(w, nil, toySequences[:1], Objective{ZLoss: 0.5, Weights: [][]float32{{1, 0, 0, 0, 0, 3}}})
	log := math.Log(11)
	if err != nil || math.Abs(l.CrossEntropy-log) > 1e-12 || math.Abs(l.Z-0.5*log*log) > 1e-12 || l.Weight != 4 {
		t.Errorf("%+v (%v), expected %v, %v and 4", l, err, log, 0.5*log*log)
	}
	w = toyValues[float64](c, 5)
	// Weights of one position each add up to the plain loss.
	plain, err := n.Loss(w, nil, toySequences[:1])
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i := range 6 {
		one := make([]float32, 6)
		one[i] = 2
		l, err := n.Losses(w, nil, toySequences[:1], Objective{Weights: [][]float32{one}})
		if err != nil {
			t.Fatal(err)
		}
		sum += l.CrossEntropy
	}
	if math.Abs(sum/6-plain) > 1e-12 {
		t.Errorf("the positions have a mean of %v, expected %v", sum/6, plain)
	}
	for _, o := range []Objective{{Weights: [][]float32{}}, {Weights: [][]float32{{1}}}, {Weights: [][]float32{{0, 0, 0, 0, 0, 0}}}, {Weights: [][]float32{{1, 1, 1, 1, 1, -1}}}} {
		if _, err := n.Losses(w, nil, toySequences[:1], o); err == nil {
			t.Errorf("no error for the weights %v", o.Weights)
		}
	}
}

// TestNewModelValues compares the names and shapes with those of Each.
func TestNewModelValues(t *testing.T) {
	for _, tied := range []bool{false, true} {
		c := toy(tied)
		v, memory := NewModelValues[float32](c)
		for i := range memory {
			memory[i] = float32(i)
		}
		spans, at := Spans(c), 0
		v.Each(func(name string, values []float32) {
			s := spans[0]
			if name != s.Name || len(values) != s.Len() || values[0] != float32(at) {
				t.Errorf("%s of %d values from %v, expected %s of %d from %d", name, len(values), values[0], s.Name, s.Len(), at)
			}
			spans, at = spans[1:], at+s.Len()
		})
		if len(spans) != 0 || at != len(memory) {
			t.Errorf("%d spans and %d values are left", len(spans), len(memory)-at)
		}
	}
}

// TestUpdateParts compares steps on the kernels, in parts, with those of Update,
// and the sum of squares with a plain one.
func TestUpdateParts(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	const n = 3*updateAtOnce + 13
	var first []float32
	for _, workers := range []int{1, 2} {
		be, err := cpu.New(cpu.Options{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		defer be.Close()
		a, plain := NewAdamW[float32](), NewAdamW[float32]()
		plain.Decay = 0.1
		x, m, v, want := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = float32(i%17) - 8
		}
		copy(want, x)
		g, scaled := make([]float32, n), make([]float32, n)
		for range 3 {
			var sum float64
			for i := range g {
				g[i] = float32(r.NormFloat64())
				scaled[i] = float32(g[i] * 0.25)
				sum += float64(g[i]) * float64(g[i])
			}
			if have := SumSquares(be, g); math.Abs(have-sum) > 1e-9*sum {
				t.Errorf("sum of squares %v, expected %v", have, sum)
			}
			a.Begin()
			a.UpdateParts(be, []Part[float32]{{x[:n-50], g, m, v, 0.1}, {x[n-50:], g[n-50:], m[n-50:], v[n-50:], 0.1}}, 0.25, 0.01)
			plain.Begin()
			plain.Update("x", want, scaled, 0.01)
			if !slices.Equal(x, want) {
				t.Fatal("the parts differ from the whole")
			}
		}
		if r = rand.New(rand.NewPCG(4, 4)); first == nil {
			first = x
		} else if !slices.Equal(first, x) {
			t.Error("other bits with another number of workers")
		}
	}
}

// TestGradientsOfBackend compares the float32 gradients on the kernels with
// those in float64, and their bits between numbers of workers. The sequences
// are longer than the rows that attention takes at a time.
func TestGradientsOfBackend(t *testing.T) {
	c := toy(false)
	r := rand.New(rand.NewPCG(1, 2))
	var sequences [][]int32
	for _, n := range []int{150, 33, 2} {
		s := make([]int32, n)
		for i := range s {
			s[i] = int32(r.IntN(c.VocabSize))
		}
		sequences = append(sequences, s)
	}
	exact, err := NewNetwork[float64](c, Plain[float64]{})
	if err != nil {
		t.Fatal(err)
	}
	w64 := toyValues[float64](c, 6)
	w := toyValues[float32](c, 6)
	g64 := w64.Like()
	want, err := exact.Loss(w64, g64, sequences)
	if err != nil {
		t.Fatal(err)
	}
	gradients := map[string][]float64{}
	g64.Each(func(name string, v []float64) { gradients[name] = v })
	first := map[string][]float32{}
	for _, workers := range []int{1, 2, 3} {
		be, err := cpu.New(cpu.Options{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		defer be.Close()
		n, err := NewNetwork[float32](c, be)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // once more on used memory
			g := w.Like()
			loss, err := n.Loss(w, g, sequences)
			if err != nil || math.Abs(loss-want) > 1e-6 {
				t.Fatalf("loss %v, expected %v (%v)", loss, want, err)
			}
			g.Each(func(name string, v []float32) {
				if first[name] == nil {
					first[name] = v
				} else if !slices.Equal(first[name], v) {
					t.Fatalf("%d workers give other bits in %s", workers, name)
				}
				var norm, off float64
				for i, x := range gradients[name] {
					norm += x * x
					off += (float64(v[i]) - x) * (float64(v[i]) - x)
				}
				if math.Sqrt(off) > 2e-5*math.Sqrt(norm)+1e-8 {
					t.Errorf("gradient of %s is off by %.2g of %.2g", name, math.Sqrt(off), math.Sqrt(norm))
				}
			})
		}
	}
}

// scaled is an alteration with a known gradient.
type scaled struct{ by float64 }

func (s scaled) Forward(place Place, y, x []float64, rows, cols int) error {
	for i, v := range x {
		y[i] = v*s.by + float64(place)*math.Sin(v)/9
	}
	return nil
}

func (s scaled) Backward(place Place, d, x []float64, rows, cols int) error {
	for i, v := range x {
		d[i] *= s.by + float64(place)*math.Cos(v)/9
	}
	return nil
}

// TestAlteration checks gradients through altered activations.
func TestAlteration(t *testing.T) {
	c := toy(false)
	n, err := NewNetwork[float64](c, Plain[float64]{})
	if err != nil {
		t.Fatal(err)
	}
	b := n.Blocks[1]
	b.Alteration = scaled{0.9}
	w := toyValues[float64](c, 8).Blocks[1]
	r := rand.New(rand.NewPCG(9, 9))
	lengths := []int{5, 3}
	x, k := make([]float64, 8*c.HiddenSize), make([]float64, 8*c.HiddenSize)
	for i := range x {
		x[i], k[i] = r.NormFloat64(), r.NormFloat64()
	}
	var tape Tape[float64]
	loss := func() float64 {
		y := make([]float64, len(x))
		if err := b.Forward(y, x, lengths, w, &tape); err != nil {
			t.Fatal(err)
		}
		var sum float64
		for i, v := range y {
			sum += v * k[i]
		}
		return sum
	}
	loss()
	g, dx := w.Like(), make([]float64, len(x))
	if err := b.Backward(dx, k, w, g, &tape); err != nil {
		t.Fatal(err)
	}
	compare := func(name string, v, g []float64) {
		for i := range v {
			const h = 1e-5
			start := v[i]
			v[i] = start + h
			up := loss()
			v[i] = start - h
			want := (up - loss()) / (2 * h)
			v[i] = start
			if math.Abs(g[i]-want) > 1e-6*max(1, math.Abs(want)) {
				t.Fatalf("gradient of %s[%d] is %v, expected %v", name, i, g[i], want)
			}
		}
	}
	compare("the input", x, dx)
	var gradients [][]float64
	g.Each(func(_ string, v []float64) { gradients = append(gradients, v) })
	w.Each(func(name string, v []float64) { compare(name, v, gradients[0]); gradients = gradients[1:] })
}

// TestAdamW compares two steps with values worked out by hand: the first is
// rate*g/(|g|+epsilon).
func TestAdamW(t *testing.T) {
	a := NewAdamW[float64]()
	x := []float64{1, -2, 3}
	a.Begin()
	a.Update("x", x, []float64{0.5, -1e-8, 0}, 0.1)
	want := []float64{1 - 0.1*0.5/(0.5+1e-8), -2 + 0.1*0.5, 3}
	for i := range x {
		if math.Abs(x[i]-want[i]) > 1e-12 {
			t.Errorf("step 1: %v, expected %v", x, want)
		}
	}
	a.Begin()
	a.Update("x", x, []float64{-0.25, 0, 0}, 0.1)
	m, v := 0.9*0.05-0.1*0.25, 0.999*0.00025+0.001*0.0625
	next := want[0] - 0.1*(m/(1-0.81))/(math.Sqrt(v/(1-0.998001))+1e-8)
	if math.Abs(x[0]-next) > 1e-12 {
		t.Errorf("step 2: %v, expected %v", x[0], next)
	}
	decay := NewAdamW[float64]()
	decay.Decay = 0.5
	decay.Begin()
	y := []float64{2}
	decay.Update("y", y, []float64{0}, 0.1)
	if y[0] != 1.9 {
		t.Errorf("decay alone gives %v, expected 1.9", y[0])
	}
}

// TestBackwardRefuses checks that bad input is an error.
func TestBackwardRefuses(t *testing.T) {
	c := toy(false)
	n, err := NewNetwork[float64](c, Plain[float64]{})
	if err != nil {
		t.Fatal(err)
	}
	w := toyValues[float64](c, 1)
	for _, s := range [][][]int32{nil, {{1}}, {{1, 11}}, {{-1, 1}}} {
		if _, err := n.Loss(w, nil, s); err == nil {
			t.Errorf("no error for the sequences %v", s)
		}
	}
	w.Blocks[0].Up.Weight = w.Blocks[0].Up.Weight[1:]
	if _, err := n.Loss(w, nil, toySequences); err == nil {
		t.Error("no error for a short weight")
	}
	if _, err := NewBlock[float64](c, 3, Plain[float64]{}); err == nil {
		t.Error("no error for a block that is not there")
	}
}

// BenchmarkTraining measures steps of training (loss, gradients, their norm,
// AdamW) on sequences of 30 to 80 tokens, about 4096 in a step, and compares
// 6 operations per weight and token with what the machine can do.
func BenchmarkTraining(b *testing.B) {
	for _, shape := range []struct {
		name                                                string
		hidden, intermediate, layers, heads, kv, vocabulary int
	}{{"1.6M", 128, 352, 8, 4, 2, 1024}, {"3.5M", 192, 512, 8, 6, 2, 2048}} {
		b.Run(shape.name, func(b *testing.B) {
			c := checkpoint.Config{HiddenSize: shape.hidden, IntermediateSize: shape.intermediate, Layers: shape.layers, Heads: shape.heads, KVHeads: shape.kv,
				HeadDim: 32, VocabSize: shape.vocabulary, MaxPositions: 256, NormEpsilon: 1e-5, TiedEmbeddings: true, Rope: checkpoint.RopeConfig{Type: "default", Theta: 10000}}
			be, err := cpu.New(cpu.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer be.Close()
			n, err := NewNetwork[float32](c, be)
			if err != nil {
				b.Fatal(err)
			}
			w, memory := NewModelValues[float32](c)
			g, gradient := NewModelValues[float32](c)
			r := rand.New(rand.NewPCG(1, 1))
			for i := range memory {
				memory[i] = float32(0.05 * r.NormFloat64())
			}
			first, second := make([]float32, len(memory)), make([]float32, len(memory))
			var sequences [][]int32
			tokens := 0
			for tokens < 4096-80 {
				s := make([]int32, 31+r.IntN(51))
				for i := range s {
					s[i] = int32(r.IntN(c.VocabSize))
				}
				tokens += len(s) - 1
				sequences = append(sequences, s)
			}
			a := NewAdamW[float32]()
			fastest := math.Inf(1)
			for b.Loop() {
				start := time.Now()
				clear(gradient)
				if _, err := n.Loss(w, g, sequences); err != nil {
					b.Fatal(err)
				}
				SumSquares(be, gradient)
				a.Begin()
				a.UpdateParts(be, []Part[float32]{{memory, gradient, first, second, 0.1}}, 1, 1e-4)
				fastest = min(fastest, time.Since(start).Seconds())
			}
			rate := float64(tokens) / fastest
			flops := 6 * float64(len(memory)) * rate
			b.ReportMetric(rate, "tokens/s")
			b.ReportMetric(flops/1e9, "GFLOP/s")
			b.ReportMetric(100*flops/be.MeasurePeak(50*time.Millisecond, 1<<20).Flops, "%peak")
		})
	}
}
