package decoder

import (
	"fmt"
	"math"
	"slices"

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
	losses                                      []float64
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

// Loss returns the mean of -log p(next token), natural, over all positions of
// the sequences but the last of each. With g, gradients of that mean are added
// to it. Sequences have at least two tokens.
func (n *Network[T]) Loss(w, g *ModelValues[T], sequences [][]int32) (float64, error) {
	c, do, hidden := n.Config, n.do, n.Config.HiddenSize
	if len(w.Blocks) != c.Layers || len(w.Embedding) != c.VocabSize*hidden || len(w.FinalNorm) != hidden || (w.Head != nil && len(w.Head) != len(w.Embedding)) {
		return 0, fmt.Errorf("parameters do not fit the configuration: %d blocks, embedding of %d", len(w.Blocks), len(w.Embedding))
	}
	var ids, next []int32
	var lengths []int
	for i, s := range sequences {
		if len(s) < 2 {
			return 0, fmt.Errorf("sequence %d has %d tokens, expected at least 2", i, len(s))
		}
		for _, id := range s {
			if id < 0 || int(id) >= c.VocabSize {
				return 0, fmt.Errorf("sequence %d: token id %d is outside the vocabulary of %d", i, id, c.VocabSize)
			}
		}
		ids, next = append(ids, s[:len(s)-1]...), append(next, s[1:]...)
		lengths = append(lengths, len(s)-1)
	}
	rows := len(ids)
	if rows == 0 {
		return 0, fmt.Errorf("no sequences")
	}
	x := sized(&n.x, rows*hidden)
	for r, id := range ids {
		copy(x[r*hidden:(r+1)*hidden], w.Embedding[int(id)*hidden:])
	}
	for k, b := range n.Blocks {
		if err := b.Forward(x, x, lengths, w.Blocks[k], &n.tapes[k]); err != nil {
			return 0, fmt.Errorf("block %d: %w", k+1, err)
		}
	}
	normed := sized(&n.normed, rows*hidden)
	normalise(do, normed, x, w.FinalNorm, sized(&n.scale, rows), rows, c.NormEpsilon)

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
	losses := sized(&n.losses, rows)
	for from := 0; from < rows; from += chunk {
		m := min(chunk, rows-from)
		logits := sized(&n.logits, m*c.VocabSize)
		part := normed[from*hidden : (from+m)*hidden]
		project(do, logits, part, m, head, false)
		eachRow(do, m, 40*float64(c.VocabSize), func(r int) {
			row := logits[r*c.VocabSize : (r+1)*c.VocabSize]
			id := next[from+r]
			top := slices.Max(row)
			logit := row[id]
			sum := do.ExpSum(row, row, top)
			losses[from+r] = math.Log(sum) - float64(logit-top)
			k := T(1 / (sum * float64(rows)))
			for i := range row {
				row[i] *= k
			}
			row[id] -= T(1 / float64(rows))
		})
		if g != nil {
			projectBack(do, n.dNormed[from*hidden:(from+m)*hidden], logits, part, m, head, dHead, false)
		}
	}
	var loss float64
	for _, l := range losses {
		loss += l
	}
	loss /= float64(rows)
	if g == nil {
		return loss, nil
	}
	d := sized(&n.gradient, rows*hidden)
	clear(d)
	normaliseBack(do, d, g.FinalNorm, n.dNormed, x, w.FinalNorm, n.scale, rows)
	for k := c.Layers - 1; k >= 0; k-- {
		if err := n.Blocks[k].Backward(d, d, w.Blocks[k], g.Blocks[k], &n.tapes[k]); err != nil {
			return 0, fmt.Errorf("block %d: %w", k+1, err)
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
	c1 := 1 - math.Pow(a.Beta1, float64(a.Steps))
	root := math.Sqrt(1 - math.Pow(a.Beta2, float64(a.Steps)))
	step, keep := T(rate/c1), T(1-float64(rate*a.Decay))
	b1, b2, epsilon := T(1-a.Beta1), T(a.Beta2), T(a.Epsilon)
	b2rest := T(1 - a.Beta2)
	for i, d := range g {
		m[i] += T(b1 * (d - m[i]))
		v[i] = T(v[i]*b2) + T(T(d*d)*b2rest)
		denominator := T(math.Sqrt(float64(v[i])))/T(root) + epsilon
		values[i] = T(values[i]*keep) - T(step*T(m[i]/denominator))
	}
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
