package decoder

import (
	"fmt"
	"math"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
)

// ModelValues are the parameters of a model on host memory, or their gradients.
type ModelValues[T Real] struct {
	Embedding []T // (vocabulary, hidden)
	Blocks    []*BlockValues[T]
	FinalNorm []T // (hidden)
	Head      []T // (vocabulary, hidden); nil: the embedding
}

// Each calls f with every parameter in a fixed order, under its name in a
// checkpoint.
func (v *ModelValues[T]) Each(f func(name string, values []T)) {
	f("model.embed_tokens.weight", v.Embedding)
	for i, b := range v.Blocks {
		b.Each(func(name string, values []T) { f(fmt.Sprintf("model.layers.%d.%s", i, name), values) })
	}
	f("model.norm.weight", v.FinalNorm)
	if v.Head != nil {
		f("lm_head.weight", v.Head)
	}
}

// Like returns zeros of the shape of v.
func (v *ModelValues[T]) Like() *ModelValues[T] {
	g := &ModelValues[T]{Embedding: make([]T, len(v.Embedding)), FinalNorm: make([]T, len(v.FinalNorm))}
	for _, b := range v.Blocks {
		g.Blocks = append(g.Blocks, b.Like())
	}
	if v.Head != nil {
		g.Head = make([]T, len(v.Head))
	}
	return g
}

// NewModelValues returns zeros of the shapes of configuration c, which has no
// biases, and the one piece of memory that they lie in, in the order of Spans.
// Maps that read the same input lie side by side, in which case one product
// serves them all.
func NewModelValues[T Real](c checkpoint.Config) (v *ModelValues[T], memory []T) {
	n := 0
	spans := Spans(c)
	for _, s := range spans {
		n += s.Len()
	}
	memory = make([]T, n)
	rest := memory
	take := func() []T {
		n := spans[0].Len()
		x := rest[:n:len(rest)]
		rest, spans = rest[n:], spans[1:]
		return x
	}
	v = &ModelValues[T]{Embedding: take()}
	for range c.Layers {
		b := &BlockValues[T]{AttentionNorm: take(), MLPNorm: take()}
		for _, l := range b.linearValues() {
			l.Weight = take()
		}
		v.Blocks = append(v.Blocks, b)
	}
	v.FinalNorm = take()
	if !c.TiedEmbeddings {
		v.Head = take()
	}
	return v, memory
}

// Span is a parameter in the memory of NewModelValues.
type Span struct {
	Name  string // in a checkpoint
	Shape []int
}

// Len is the number of values.
func (s Span) Len() int {
	n := 1
	for _, d := range s.Shape {
		n *= d
	}
	return n
}

// Spans lists the parameters of configuration c, which has no biases, in the
// order of Each.
func Spans(c checkpoint.Config) []Span {
	all := []Span{{"model.embed_tokens.weight", []int{c.VocabSize, c.HiddenSize}}}
	for k := range c.Layers {
		in := fmt.Sprintf("model.layers.%d.", k)
		all = append(all, Span{in + "input_layernorm.weight", []int{c.HiddenSize}}, Span{in + "post_attention_layernorm.weight", []int{c.HiddenSize}})
		for _, l := range linears {
			rows, cols := shapeOf(c, l.name)
			all = append(all, Span{in + l.name + ".weight", []int{rows, cols}})
		}
	}
	all = append(all, Span{"model.norm.weight", []int{c.HiddenSize}})
	if !c.TiedEmbeddings {
		all = append(all, Span{"lm_head.weight", []int{c.VocabSize, c.HiddenSize}})
	}
	return all
}

// ModelValuesOf reads all parameters of a checkpoint as float32.
func ModelValuesOf(c *checkpoint.Checkpoint) (*ModelValues[float32], error) {
	v := &ModelValues[float32]{}
	read := func(name string) ([]float32, error) {
		t, err := c.Tensor(name)
		if err != nil {
			return nil, err
		}
		return t.Float32(nil)
	}
	var err error
	if v.Embedding, err = read("model.embed_tokens.weight"); err != nil {
		return nil, err
	}
	for k := range c.Config.Layers {
		b, err := BlockValuesOf(c, k+1)
		if err != nil {
			return nil, err
		}
		v.Blocks = append(v.Blocks, b)
	}
	if v.FinalNorm, err = read("model.norm.weight"); err != nil {
		return nil, err
	}
	if !c.Config.TiedEmbeddings {
		v.Head, err = read("lm_head.weight")
	}
	return v, err
}

// Network is the loss of a whole model with its gradients: embedding, blocks,
// final norm, head and cross-entropy. One Network serves one pass at a time.
type Network[T Real] struct {
	Config checkpoint.Config
	Blocks []*Block[T]
	do     Arithmetic[T]
	tapes  []Tape[T]

	x, normed, scale, gradient, dNormed, logits []T
	losses, squares                             []float64
	ids, next                                   []int32
	weights                                     []float32
	lengths                                     []int
}

// NewNetwork returns the passes of a model of configuration c.
func NewNetwork[T Real](c checkpoint.Config, a Arithmetic[T]) (*Network[T], error) {
	n := &Network[T]{Config: c, do: a, tapes: make([]Tape[T], c.Layers)}
	for k := range c.Layers {
		b, err := NewBlock(c, k+1, a)
		if err != nil {
			return nil, err
		}
		n.Blocks = append(n.Blocks, b)
	}
	return n, nil
}

// logitBytes bounds the memory of the logits that exist at a time.
const logitBytes = 32 << 20

// Objective is what a training minimises.
type Objective struct {
	// Weights are those of the predictions of each sequence, one less than its
	// tokens, none negative; nil: all 1.
	Weights [][]float32
	// ZLoss is the factor of the mean of log²(sum of exponentials of the logits)
	// (Chowdhery et al., PaLM, arXiv 2204.02311, section 5); 0: none.
	ZLoss float64
}

// Losses are the parts of an objective: their sum is what gradients belong to.
type Losses struct {
	CrossEntropy float64 // mean of -log p(next token), natural, by weight
	Z            float64
	Weight       float64 // sum of the weights
}

// Loss returns the mean of -log p(next token), natural, over all positions of
// the sequences but the last of each. With g, gradients of that mean are added
// to it. Sequences have at least two tokens.
func (n *Network[T]) Loss(w, g *ModelValues[T], sequences [][]int32) (float64, error) {
	l, err := n.Losses(w, g, sequences, Objective{})
	return l.CrossEntropy, err
}

// Losses is Loss for an objective.
func (n *Network[T]) Losses(w, g *ModelValues[T], sequences [][]int32, o Objective) (Losses, error) {
	c, do, hidden := n.Config, n.do, n.Config.HiddenSize
	if len(w.Blocks) != c.Layers || len(w.Embedding) != c.VocabSize*hidden || len(w.FinalNorm) != hidden || (w.Head != nil && len(w.Head) != len(w.Embedding)) {
		return Losses{}, fmt.Errorf("parameters do not fit the configuration: %d blocks, embedding of %d", len(w.Blocks), len(w.Embedding))
	}
	ids, next, weights, lengths := n.ids[:0], n.next[:0], n.weights[:0], n.lengths[:0]
	if o.Weights != nil && len(o.Weights) != len(sequences) {
		return Losses{}, fmt.Errorf("weights of %d sequences, expected %d", len(o.Weights), len(sequences))
	}
	total := 0.0
	for i, s := range sequences {
		if len(s) < 2 {
			return Losses{}, fmt.Errorf("sequence %d has %d tokens, expected at least 2", i, len(s))
		}
		for _, id := range s {
			if id < 0 || int(id) >= c.VocabSize {
				return Losses{}, fmt.Errorf("sequence %d: token id %d is outside the vocabulary of %d", i, id, c.VocabSize)
			}
		}
		ids, next = append(ids, s[:len(s)-1]...), append(next, s[1:]...)
		lengths = append(lengths, len(s)-1)
		if o.Weights == nil {
			total += float64(len(s) - 1)
			continue
		}
		if len(o.Weights[i]) != len(s)-1 {
			return Losses{}, fmt.Errorf("sequence %d has %d weights, expected %d", i, len(o.Weights[i]), len(s)-1)
		}
		for _, w := range o.Weights[i] {
			if !(w >= 0) {
				return Losses{}, fmt.Errorf("sequence %d has the weight %v, expected 0 or more", i, w)
			}
			total += float64(w)
		}
		weights = append(weights, o.Weights[i]...)
	}
	n.ids, n.next, n.weights, n.lengths = ids, next, weights, lengths
	rows := len(ids)
	if rows == 0 {
		return Losses{}, fmt.Errorf("no sequences")
	}
	if !(total > 0) {
		return Losses{}, fmt.Errorf("all weights are 0")
	}
	x := sized(&n.x, rows*hidden)
	for r, id := range ids {
		copy(x[r*hidden:(r+1)*hidden], w.Embedding[int(id)*hidden:])
	}
	for k, b := range n.Blocks {
		if err := b.Forward(x, x, lengths, w.Blocks[k], &n.tapes[k]); err != nil {
			return Losses{}, fmt.Errorf("block %d: %w", k+1, err)
		}
	}
	normed := sized(&n.normed, rows*hidden)
	normalise(do, normed, x, w.FinalNorm, sized(&n.scale, rows), rows, c.NormEpsilon, nil)

	head := &LinearValues[T]{Weight: w.Head}
	var dHead *LinearValues[T]
	if w.Head == nil {
		head.Weight = w.Embedding
	}
	if g != nil {
		dHead = &LinearValues[T]{Weight: g.Head}
		if w.Head == nil {
			dHead.Weight = g.Embedding
		}
		sized(&n.dNormed, rows*hidden)
	}
	chunk := max(1, min(rows, logitBytes/8/c.VocabSize))
	losses, squares := sized(&n.losses, rows), sized(&n.squares, rows)
	for from := 0; from < rows; from += chunk {
		m := min(chunk, rows-from)
		logits := sized(&n.logits, m*c.VocabSize)
		part := normed[from*hidden : (from+m)*hidden]
		project(do, logits, part, m, head, false)
		eachRows(do, m, 40*float64(c.VocabSize), func(first, end int) {
			for r := first; r < end; r++ {
				row := logits[r*c.VocabSize : (r+1)*c.VocabSize]
				id := next[from+r]
				top := largest(row)
				logit := row[id]
				sum := do.ExpSum(row, row, top)
				weight := 1.0
				if o.Weights != nil {
					weight = float64(weights[from+r])
				}
				log := math.Log(sum)
				losses[from+r] = weight * (log - float64(logit-top))
				log += float64(top)
				squares[from+r] = weight * log * log
				if g == nil {
					continue
				}
				scale(row, T(weight/total*(1+2*o.ZLoss*log)/sum))
				row[id] -= T(weight / total)
			}
		})
		if g != nil {
			projectBack(do, n.dNormed[from*hidden:(from+m)*hidden], logits, part, m, head, dHead, false)
		}
	}
	loss := Losses{Weight: total}
	for r, l := range losses {
		loss.CrossEntropy += l
		loss.Z += squares[r]
	}
	loss.CrossEntropy /= total
	loss.Z *= o.ZLoss / total
	if g == nil {
		return loss, nil
	}
	d := sized(&n.gradient, rows*hidden)
	clear(d)
	normaliseBack(do, d, d, g.FinalNorm, n.dNormed, x, w.FinalNorm, n.scale, rows)
	for k := c.Layers - 1; k >= 0; k-- {
		if err := n.Blocks[k].Backward(d, d, w.Blocks[k], g.Blocks[k], &n.tapes[k]); err != nil {
			return Losses{}, fmt.Errorf("block %d: %w", k+1, err)
		}
	}
	for r, id := range ids { // one after the other: rows of one token add up in order
		to := g.Embedding[int(id)*hidden:][:hidden]
		for i, v := range d[r*hidden : (r+1)*hidden] {
			to[i] += v
		}
	}
	return loss, nil
}

// scale multiplies x by k.
func scale[T Real](x []T, k T) {
	for i := range x {
		x[i] *= k
	}
}

// AdamW is the optimiser of Loshchilov and Hutter (arXiv 1711.05101) in the
// order of operations of PyTorch. The zero value of a field is not a default:
// NewAdamW sets them.
type AdamW[T Real] struct {
	Beta1, Beta2, Epsilon, Decay float64
	Steps                        int // taken
	first, second                map[string][]T
}

// NewAdamW returns betas 0.9 and 0.999, epsilon 1e-8 and no decay.
func NewAdamW[T Real]() *AdamW[T] {
	return &AdamW[T]{Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, first: map[string][]T{}, second: map[string][]T{}}
}

// Begin starts a step; Update then moves each parameter once.
func (a *AdamW[T]) Begin() { a.Steps++ }

// Update moves the values of one parameter against its gradient g.
func (a *AdamW[T]) Update(name string, values, g []T, rate float64) {
	m, v := a.Moments(name, len(values))
	a.factors(1, rate, a.Decay).Move(values, g, m, v)
}

// updateAtOnce is how many values one item of UpdateParts moves.
const updateAtOnce = 8192

// Part is a stretch of parameters that UpdateParts moves.
type Part[T Real] struct {
	Values, Gradient []T
	// First and Second are the moments of the values, zeros at first.
	First, Second []T
	Decay         float64
}

// UpdateParts moves parts with all workers; Begin comes before it. Gradients
// count times scale. The caller keeps the moments, those of Update are others.
func (a *AdamW[T]) UpdateParts(do Arithmetic[T], parts []Part[T], scale, rate float64) {
	var items []Part[T]
	n := 0
	for _, p := range parts {
		for len(p.Values) > 0 {
			k := min(updateAtOnce, len(p.Values))
			items = append(items, Part[T]{p.Values[:k], p.Gradient[:k], p.First[:k], p.Second[:k], p.Decay})
			p.Values, p.Gradient, p.First, p.Second = p.Values[k:], p.Gradient[k:], p.First[k:], p.Second[k:]
			n += k
		}
	}
	do.Parallel(len(items), 20*float64(n), func(_, i int) {
		p := items[i]
		do.Adam(p.Values, p.Gradient, p.First, p.Second, a.factors(scale, rate, p.Decay))
	})
}

// factors are the numbers of the step at hand for gradients times scale.
func (a *AdamW[T]) factors(scale, rate, decay float64) backend.AdamFactors[T] {
	c1 := 1 - math.Pow(a.Beta1, float64(a.Steps))
	return backend.AdamFactors[T]{
		Scale: T(scale), First: T(1 - a.Beta1), Second: T(a.Beta2), Rest: T(1 - a.Beta2), Epsilon: T(a.Epsilon),
		Root: T(math.Sqrt(1 - math.Pow(a.Beta2, float64(a.Steps)))), Step: T(rate / c1), Keep: T(1 - float64(rate*decay)),
	}
}

// squaresAtOnce is how many values share a partial sum of SumSquares.
const squaresAtOnce = 8192

// SumSquares returns the sum of the squares of x in float64, the same with any
// number of workers: sums of squaresAtOnce values in eight interleaved lanes,
// one after the other.
func SumSquares[T Real](do Arithmetic[T], x []T) float64 {
	sums := make([]float64, (len(x)+squaresAtOnce-1)/squaresAtOnce)
	do.Parallel(len(sums), 8*float64(len(x)), func(_, i int) {
		part := x[i*squaresAtOnce : min(len(x), (i+1)*squaresAtOnce)]
		var l [8]float64
		for ; len(part) >= 8; part = part[8:] {
			for j, v := range (*[8]T)(part) {
				l[j] += float64(float64(v) * float64(v))
			}
		}
		for j, v := range part {
			l[j] += float64(float64(v) * float64(v))
		}
		sums[i] = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
	})
	var sum float64
	for _, s := range sums {
		sum += s
	}
	return sum
}

// Moments returns the running means of the gradient and of its square, n
// numbers each, zeros at first: what a checkpoint keeps beside Steps. They are
// the optimiser's own.
func (a *AdamW[T]) Moments(name string, n int) (first, second []T) {
	if a.first[name] == nil {
		a.first[name], a.second[name] = make([]T, n), make([]T, n)
	}
	return a.first[name], a.second[name]
}
