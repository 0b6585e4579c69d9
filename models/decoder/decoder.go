// Package decoder is the transformer decoder of every supported model family,
// by configuration, over a backend.Backend.
//
// One forward pass over a ragged Batch is
//
//	Embed -> Blocks(1, L) -> Normalise -> LogProbs or Logits
//
// and split computing cuts Blocks at any layer: the residual stream after
// Blocks(1, l) is what crosses the link (arXiv 2511.04002, section 2.1).
// Layers are numbered from 1 as in the paper.
package decoder

import (
	"fmt"
	"math"
	"sync"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
)

// Linear is a weight (out, in) with an optional bias.
type Linear struct {
	Weight backend.Weight
	Bias   backend.Vector // nil without bias
}

// Layer is one decoder block.
type Layer struct {
	AttentionNorm, MLPNorm    backend.Vector
	Query, Key, Value, Output Linear
	Gate, Up, Down            Linear
	// Hooks act on the rows within the block; nil means none.
	Hooks *Hooks
}

// Bytes is the memory of the block's linear weights.
func (l Layer) Bytes() int64 {
	var n int64
	for _, w := range []Linear{l.Query, l.Key, l.Value, l.Output, l.Gate, l.Up, l.Down} {
		n += w.Weight.Bytes()
	}
	return n
}

// Model is a decoder with its weights on one backend. Its methods must not
// be called concurrently: they share the backend.
type Model struct {
	Config    checkpoint.Config
	Backend   backend.Backend
	embedding backend.Weight
	layers    []Layer
	finalNorm backend.Vector
	head      backend.Weight
	rope      *rope
	source    *checkpoint.Checkpoint
}

// linears names the linear maps of a block in the checkpoint, in the order in
// which they are loaded and quantised.
var linears = []struct {
	name string
	of   func(*Layer) *Linear
}{
	{"self_attn.q_proj", func(l *Layer) *Linear { return &l.Query }},
	{"self_attn.k_proj", func(l *Layer) *Linear { return &l.Key }},
	{"self_attn.v_proj", func(l *Layer) *Linear { return &l.Value }},
	{"self_attn.o_proj", func(l *Layer) *Linear { return &l.Output }},
	{"mlp.gate_proj", func(l *Layer) *Linear { return &l.Gate }},
	{"mlp.up_proj", func(l *Layer) *Linear { return &l.Up }},
	{"mlp.down_proj", func(l *Layer) *Linear { return &l.Down }},
}

// Load copies the weights of c to the backend, those that exist in 16 bits as
// such; the pages of c's files do not stay resident. c must stay open while
// the model is in use: quantised variants read the reference weights again.
func Load(c *checkpoint.Checkpoint, b backend.Backend) (*Model, error) {
	m := &Model{Config: c.Config, Backend: b, source: c}
	r, err := newRope(c.Config)
	if err != nil {
		return nil, err
	}
	m.rope = r
	if m.embedding, err = m.weight("model.embed_tokens.weight"); err != nil {
		return nil, err
	}
	m.layers = make([]Layer, c.Config.Layers)
	for i := range m.layers {
		if m.layers[i], err = m.loadLayer(i); err != nil {
			return nil, err
		}
	}
	if m.finalNorm, err = m.vector("model.norm.weight"); err != nil {
		return nil, err
	}
	m.head = m.embedding
	if !c.Config.TiedEmbeddings {
		if m.head, err = m.weight("lm_head.weight"); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Model) weight(name string) (backend.Weight, error) {
	t, err := m.source.Tensor(name)
	if err != nil {
		return nil, err
	}
	return LoadWeight(m.Backend, t)
}

// LoadWeight copies a stored matrix to a backend, in 16 bits where it exists in
// 16 bits; its pages do not stay resident.
func LoadWeight(b backend.Backend, t checkpoint.Tensor) (backend.Weight, error) {
	defer t.Release(0, t.Shape[0])
	d := backend.Dense{Out: t.Shape[0], In: t.Shape[1], Fill: releasing(t, t.Rows)}
	switch t.DType {
	case checkpoint.BF16:
		d.Element = backend.BFloat16
	case checkpoint.F16:
		d.Element = backend.Float16
	default:
		return b.NewWeight(d)
	}
	d.Fill16 = releasing(t, t.Rows16)
	return b.NewWeight(d)
}

// releasing is read, which reads rows of t, with the stored bytes leaving
// memory a few MiB at a time: a tensor is never there twice.
func releasing[T any](t checkpoint.Tensor, read func(dst []T, from, to int) error) func(dst []T, from, to int) error {
	const piece = 4 << 20
	rows := max(1, int(piece*int64(t.Shape[0])/max(1, t.Bytes())))
	return func(dst []T, from, to int) error {
		err := read(dst, from, to)
		if done := to / rows * rows; done > from {
			t.Release(from/rows*rows, done)
		}
		return err
	}
}

func (m *Model) vector(name string) (backend.Vector, error) {
	t, err := m.source.Tensor(name)
	if err != nil {
		return nil, err
	}
	v, err := t.Float32(nil)
	if err != nil {
		return nil, err
	}
	return m.Backend.NewVector(v)
}

// hasBias says whether the architecture has a bias beside a linear map.
func (m *Model) hasBias(name string) bool {
	switch name {
	case "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj":
		return m.Config.AttentionBias
	case "self_attn.o_proj":
		return m.Config.OutputBias
	default:
		return m.Config.MLPBias
	}
}

func (m *Model) loadLayer(i int) (Layer, error) {
	var l Layer
	var err error
	prefix := fmt.Sprintf("model.layers.%d.", i)
	if l.AttentionNorm, err = m.vector(prefix + "input_layernorm.weight"); err != nil {
		return l, err
	}
	if l.MLPNorm, err = m.vector(prefix + "post_attention_layernorm.weight"); err != nil {
		return l, err
	}
	for _, lin := range linears {
		w := lin.of(&l)
		if w.Weight, err = m.weight(prefix + lin.name + ".weight"); err != nil {
			return l, err
		}
		if m.hasBias(lin.name) {
			if w.Bias, err = m.vector(prefix + lin.name + ".bias"); err != nil {
				return l, err
			}
		}
	}
	return l, nil
}

// Quantiser turns the reference values (out, in) of one linear map into
// packed codes. The values are its own during the call only.
type Quantiser func(values []float32, out, in int) (backend.Packed, error)

// widened keeps the float32 values of a linear map from one QuantisedLayer to
// the next, until the garbage collector wants them.
var widened = sync.Pool{New: func() any { return new([]float32) }}

// Layer returns block k, 1 <= k <= L.
func (m *Model) Layer(k int) Layer { return m.layers[k-1] }

// QuantisedLayer returns block k with its linear maps quantised from the
// checkpoint's values; norms and biases are shared with m.
//
// Besides the codes it needs the float32 values of one linear map at a time.
func (m *Model) QuantisedLayer(k int, quantise Quantiser) (Layer, error) {
	l := m.layers[k-1]
	values := widened.Get().(*[]float32)
	defer widened.Put(values)
	for _, lin := range linears {
		name := fmt.Sprintf("model.layers.%d.%s.weight", k-1, lin.name)
		t, err := m.source.Tensor(name)
		if err != nil {
			return l, err
		}
		if *values, err = t.Float32(*values); err != nil {
			return l, err
		}
		t.Release(0, t.Shape[0])
		p, err := quantise(*values, t.Shape[0], t.Shape[1])
		if err != nil {
			return l, fmt.Errorf("%s: %w", name, err)
		}
		w, err := m.Backend.NewPackedWeight(p)
		if err != nil {
			return l, fmt.Errorf("%s: %w", name, err)
		}
		lin.of(&l).Weight = w
	}
	return l, nil
}

// WithLayers returns a model that shares everything with m except that its
// blocks 1..len(layers) are the given ones.
func (m *Model) WithLayers(layers []Layer) *Model {
	v := *m
	v.layers = append(append([]Layer(nil), layers...), m.layers[len(layers):]...)
	return &v
}

// NewCache returns a cache for one sequence of up to capacity positions.
func (m *Model) NewCache(capacity int) (backend.Cache, error) {
	return m.Backend.NewCache(backend.CacheShape{Layers: m.Config.Layers, KVHeads: m.Config.KVHeads, HeadDim: m.Config.HeadDim, Capacity: capacity})
}

// Batch is a ragged batch: rows of several sequences end to end.
type Batch struct {
	IDs       []int32            // token of each row
	Positions []int32            // position of each row in its sequence
	Sequences []backend.Sequence // appended by Add and AddPart only
	lengths   []int              // positions of each sequence in all, 0 where that was not declared
}

// Add appends a sequence's rows; ids are its positions start, start+1, ...
// The sequence is taken to end with them, which matters to longrope only:
// see AddPart.
func (b *Batch) Add(ids []int32, start int, cache backend.Cache) { b.add(ids, start, 0, cache) }

// AddPart is Add for rows of a sequence that has length positions in all,
// its later rows included. The rotations of the rope type "longrope" follow
// from that length: whoever computes one sequence in several calls, in
// several batches or on both sides of a split, declares the same length in
// all of them (the input length when scoring, prompt and budget of new tokens
// when generating), and so all use one table. With other rope types the
// length changes nothing. Blocks reports rows beyond the declared length.
func (b *Batch) AddPart(ids []int32, start, length int, cache backend.Cache) {
	b.add(ids, start, length, cache)
}

func (b *Batch) add(ids []int32, start, length int, cache backend.Cache) {
	b.lengths = append(b.lengths, length)
	b.Sequences = append(b.Sequences, backend.Sequence{Row: len(b.IDs), Count: len(ids), Start: start, Cache: cache})
	for i, id := range ids {
		b.IDs = append(b.IDs, id)
		b.Positions = append(b.Positions, int32(start+i))
	}
}

// length is the number of positions of sequence i in all, and whether it was
// declared; else the sequence ends with its rows.
func (b *Batch) length(i int) (positions int, declared bool) {
	if n := b.lengths[i]; n > 0 {
		return n, true
	}
	s := b.Sequences[i]
	return s.Start + s.Count, false
}

// LengthClass tells apart the lengths of sequences that are rotated
// differently: sequences of one class that begin with the same tokens have the
// same rows there, whatever follows. All lengths are of one class except with
// the rope type longrope.
func (m *Model) LengthClass(length int) int {
	if m.rope.long != nil && length > m.rope.limit {
		return 1
	}
	return 0
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.IDs, b.Positions, b.Sequences, b.lengths = b.IDs[:0], b.Positions[:0], b.Sequences[:0], b.lengths[:0]
}

// Rows is the number of rows.
func (b *Batch) Rows() int { return len(b.IDs) }

// Workspace is the memory of one forward pass. It grows to the largest batch
// it has seen and is reused; the matrices that a Model's methods return live
// in it and are valid until the next call with the same workspace.
type Workspace struct {
	rows                                 int
	x, norm, q, k, v, attended, gate, up backend.Matrix
	spans                                []span
}

func (m *Model) reserve(w *Workspace, rows int) error {
	if rows <= w.rows {
		return nil
	}
	c := m.Config
	for _, a := range []struct {
		m    *backend.Matrix
		cols int
	}{
		{&w.x, c.HiddenSize}, {&w.norm, c.HiddenSize},
		{&w.q, c.Heads * c.HeadDim}, {&w.k, c.KVHeads * c.HeadDim}, {&w.v, c.KVHeads * c.HeadDim}, {&w.attended, c.Heads * c.HeadDim},
		{&w.gate, c.IntermediateSize}, {&w.up, c.IntermediateSize},
	} {
		var err error
		if *a.m, err = m.Backend.Alloc(rows, a.cols); err != nil {
			return err
		}
	}
	w.rows = rows
	return nil
}

// Embed returns the embeddings of the batch's tokens, (rows, hidden).
func (m *Model) Embed(w *Workspace, b *Batch) (backend.Matrix, error) {
	for i, id := range b.IDs {
		if id < 0 || int(id) >= m.Config.VocabSize {
			return nil, fmt.Errorf("token id %d (input %d) is outside the vocabulary of %d", id, i, m.Config.VocabSize)
		}
	}
	if err := m.reserve(w, b.Rows()); err != nil {
		return nil, err
	}
	x := w.x.Slice(0, b.Rows())
	m.Backend.Embed(x, m.embedding, b.IDs)
	return x, nil
}

// Blocks runs layers from..to (1-based, inclusive; none when from > to) on
// the residual stream x, (rows, hidden), in place, and stores their keys and
// values in the batch's caches.
func (m *Model) Blocks(w *Workspace, x backend.Matrix, b *Batch, from, to int) error {
	n := b.Rows()
	if n == 0 || from > to {
		return nil
	}
	if err := m.reserve(w, n); err != nil {
		return err
	}
	c, be := m.Config, m.Backend
	spans, err := m.rope.spans(w.spans[:0], b)
	if err != nil {
		return err
	}
	w.spans = spans
	norm, q, k, v := w.norm.Slice(0, n), w.q.Slice(0, n), w.k.Slice(0, n), w.v.Slice(0, n)
	attended, gate, up := w.attended.Slice(0, n), w.gate.Slice(0, n), w.up.Slice(0, n)
	shape := backend.AttentionShape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Scale: float32(1 / math.Sqrt(float64(c.HeadDim)))}
	project := func(dst, src backend.Matrix, l Linear, accumulate bool) {
		be.MatMul(dst, src, l.Weight, l.Bias, accumulate)
	}
	rotate := func(x backend.Matrix, heads int) {
		for _, s := range spans {
			be.Rope(x.Slice(s.from, s.to), heads, c.HeadDim, b.Positions[s.from:s.to], s.table)
		}
	}
	var failed error // of the blocks' hooks, the first
	stopped := func(i int) error { return fmt.Errorf("layer %d: %w", i, failed) }
	for i := from; i <= to; i++ {
		l := &m.layers[i-1]
		hook := func(p Place, x backend.Matrix) {
			if l.Hooks != nil && failed == nil {
				failed = l.Hooks.apply(p, be, x)
			}
		}
		be.RMSNorm(norm, x, l.AttentionNorm, c.NormEpsilon)
		if hook(AttentionInput, norm); failed != nil {
			return stopped(i)
		}
		project(q, norm, l.Query, false)
		project(k, norm, l.Key, false)
		project(v, norm, l.Value, false)
		hook(QueryOutput, q)
		hook(KeyOutput, k)
		hook(ValueOutput, v)
		rotate(q, c.Heads)
		rotate(k, c.KVHeads)
		hook(QueryRotated, q)
		hook(KeyRotated, k)
		be.Append(i-1, k, v, b.Sequences)
		shape.Window = c.WindowOf(i - 1)
		be.Attention(attended, q, i-1, b.Sequences, shape)
		if hook(OutputInput, attended); failed != nil {
			return stopped(i)
		}
		project(x, attended, l.Output, true)

		be.RMSNorm(norm, x, l.MLPNorm, c.NormEpsilon)
		if hook(MLPInput, norm); failed != nil {
			return stopped(i)
		}
		project(gate, norm, l.Gate, false)
		project(up, norm, l.Up, false)
		be.SiluMul(gate, up)
		if hook(DownInput, gate); failed != nil {
			return stopped(i)
		}
		project(x, gate, l.Down, true)
	}
	return be.Sync()
}

// Normalise writes the final norm of x to dst, both (rows, hidden).
func (m *Model) Normalise(dst, x backend.Matrix) {
	m.Backend.RMSNorm(dst, x, m.finalNorm, m.Config.NormEpsilon)
}

// LogProbs scores targets, sorted by row, from normalised rows.
func (m *Model) LogProbs(dst []backend.TokenScore, normalised backend.Matrix, targets []backend.Target) error {
	return m.Backend.LogProbs(dst, normalised, m.head, targets)
}

// Logits writes the logits of normalised rows to dst, (rows, vocabulary).
func (m *Model) Logits(dst, normalised backend.Matrix) {
	m.Backend.MatMul(dst, normalised, m.head, nil, false)
}
