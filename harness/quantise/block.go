package quantise

import (
	"fmt"
	"sync"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// Linear is a linear map of a quantized block.
type Linear struct {
	Out, In int
	// Values are the numbers that it multiplies by, (Out, In) by rows; quantized
	// ones are those of Body and Outlier. A sink gets them filled in.
	Values []float32
	// Body holds the integers, of all columns but the outliers; nil when the
	// weight is not quantized. Outlier holds those of the outliers; nil without,
	// and when they stay as they are.
	Body, Outlier *quantize.Tensor
	Bias          []float32 // nil without
}

// forget drops the values that settle makes again of the integers.
func (l *Linear) forget() {
	if l.Body != nil && (l.Outlier != nil || l.Body.Cols == l.In) {
		l.Values = nil
	}
}

// settle makes Values what the integers stand for.
func (l *Linear) settle() error {
	if l.Body == nil {
		return nil
	}
	if l.Values == nil {
		l.Values = make([]float32, l.Out*l.In)
	}
	offset := 0
	for _, t := range []*quantize.Tensor{l.Body, l.Outlier} {
		if t == nil {
			continue
		}
		if err := t.DequantizeColumns(l.Values[offset:], l.In); err != nil {
			return err
		}
		offset += t.Cols
	}
	return nil
}

// linearNames are the names of a block's linear maps in a checkpoint.
var linearNames = decoder.LinearNames()

// normNames are those of its norms.
var normNames = [2]string{"input_layernorm", "post_attention_layernorm"}

// Block is one decoder block as a method leaves it, its linear maps by their
// place in decoder.LinearNames. The rows of gate and up and the columns of all
// weights are in the order that Order gives their inputs.
type Block struct {
	Norms   [2][]float32 // before attention, before the MLP
	Linears [decoder.LinearMaps]Linear
	// Order holds, for the inputs of qkv, o, gate/up and down, the channel at
	// each position (Atom); nil: as they come. The inputs of down come in order,
	// the others are gathered at run time.
	Order [4][]int32
}

// inputOf is the place of the input of each linear map, an index of inputs.
var inputOf = [decoder.LinearMaps]int{0, 0, 0, 1, 2, 2, 3}

// inputs are the places of the inputs of linear maps.
var inputs = [4]decoder.Place{decoder.AttentionInput, decoder.OutputInput, decoder.MLPInput, decoder.DownInput}

// inputNames name them in tensors and messages.
var inputNames = [4]string{"qkv", "o", "mlp", "down"}

// fed lists the linear maps of each input.
var fed = [4][]int{{decoder.QueryMap, decoder.KeyMap, decoder.ValueMap}, {decoder.OutputMap}, {decoder.GateMap, decoder.UpMap}, {decoder.DownMap}}

// loadBlock reads block k, from 0, of a checkpoint.
func loadBlock(c *checkpoint.Checkpoint, k int) (*Block, error) {
	b := &Block{}
	prefix := fmt.Sprintf("model.layers.%d.", k)
	for i, n := range normNames {
		v, _, err := loadTensor(c, prefix+n+".weight")
		if err != nil {
			return nil, err
		}
		b.Norms[i] = v
	}
	for i, n := range linearNames {
		v, shape, err := loadTensor(c, prefix+n+".weight")
		if err != nil {
			return nil, err
		}
		l := Linear{Out: shape[0], In: shape[1], Values: v}
		if hasBias(c.Config, i) {
			if l.Bias, _, err = loadTensor(c, prefix+n+".bias"); err != nil {
				return nil, err
			}
		}
		b.Linears[i] = l
	}
	return b, nil
}

func hasBias(c checkpoint.Config, linear int) bool {
	switch linear {
	case decoder.QueryMap, decoder.KeyMap, decoder.ValueMap:
		return c.AttentionBias
	case decoder.OutputMap:
		return c.OutputBias
	}
	return c.MLPBias
}

func loadTensor(c *checkpoint.Checkpoint, name string) ([]float32, []int, error) {
	t, err := c.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	v, err := t.Float32(nil)
	if len(t.Shape) == 2 {
		t.Release(0, t.Shape[0])
	}
	return v, t.Shape, err
}

// Sizes returns the bytes of a block's linear maps and of the largest Hessian of
// its inputs, both in float32: the measure of what quantizing takes beyond the
// embeddings and the calibration set.
func Sizes(c checkpoint.Config) (block, hessian int64) {
	h, q, kv, f := int64(c.HiddenSize), int64(c.QueryWidth()), int64(c.KVWidth()), int64(c.IntermediateSize)
	n := max(h, q, f)
	return 4 * (2*h*(q+kv) + 3*h*f), 4 * n * n
}

// newWeight puts a matrix on a backend.
func newWeight(be backend.Backend, values []float32, out, in int) (backend.Weight, error) {
	return be.NewWeight(backend.Dense{Out: out, In: in, Fill: func(dst []float32, from, to int) error {
		copy(dst, values[from*in:to*in])
		return nil
	}})
}

// load puts a linear map on a backend, packed where that gives the same bits.
func (l *Linear) load(be backend.Backend) (d decoder.Linear, err error) {
	if p, ok := l.packed(); ok {
		d.Weight, err = be.NewPackedWeight(p)
	} else {
		if err := l.settle(); err != nil {
			return d, err
		}
		d.Weight, err = newWeight(be, l.Values, l.Out, l.In)
	}
	if err != nil || l.Bias == nil {
		return d, err
	}
	d.Bias, err = be.NewVector(l.Bias)
	return d, err
}

// settle settles all linear maps.
func (b *Block) settle() error {
	for i := range b.Linears {
		if err := b.Linears[i].settle(); err != nil {
			return fmt.Errorf("%s: %w", linearNames[i], err)
		}
	}
	return nil
}

// of returns the place of a linear map in a layer.
func of(l *decoder.Layer, i int) *decoder.Linear {
	return [decoder.LinearMaps]*decoder.Linear{&l.Query, &l.Key, &l.Value, &l.Output, &l.Gate, &l.Up, &l.Down}[i]
}

// Layer puts the block on a backend, with the run-time part of the method.
func (b *Block) Layer(be backend.Backend, m quantize.Method, c checkpoint.Config) (decoder.Layer, error) {
	return b.layer(be, b.hooks(m, c))
}

func (b *Block) layer(be backend.Backend, h *decoder.Hooks) (decoder.Layer, error) {
	l := decoder.Layer{Hooks: h}
	var err error
	for i := range b.Linears {
		if *of(&l, i), err = b.Linears[i].load(be); err != nil {
			return l, fmt.Errorf("%s: %w", linearNames[i], err)
		}
	}
	if l.AttentionNorm, err = be.NewVector(b.Norms[0]); err != nil {
		return l, err
	}
	l.MLPNorm, err = be.NewVector(b.Norms[1])
	return l, err
}

// chain joins what happens to rows, in order; nil parts are left out.
func chain(parts ...func(rows []float32) error) func(rows []float32) error {
	var all []func(rows []float32) error
	for _, f := range parts {
		if f != nil {
			all = append(all, f)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return func(rows []float32) error {
		for _, f := range all {
			if err := f(rows); err != nil {
				return err
			}
		}
		return nil
	}
}

// arrange is what happens to the inputs of linear maps besides quantization:
// the orders of the block, and the rotations of QuaRot. Nil for nothing.
func (b *Block) arrange(m quantize.Method, c checkpoint.Config, input int) func(rows []float32) error {
	if o := b.Order[input]; o != nil && input != 3 {
		return gather(o)
	}
	if m.Algorithm != quantize.QuaRot {
		return nil
	}
	switch input {
	case 1:
		return func(rows []float32) error { return quantize.HadamardAcrossHeads(rows, c.Heads, c.HeadDim) }
	case 3:
		r, err := quantize.NewRotation(c.IntermediateSize, false)
		return func(rows []float32) error {
			if err != nil {
				return err
			}
			return r.ApplyOnline(rows)
		}
	}
	return nil
}

// gather puts the channels of rows in an order.
func gather(order []int32) func(rows []float32) error {
	old := sync.Pool{New: func() any { return new([]float32) }}
	return func(rows []float32) error {
		p := old.Get().(*[]float32)
		*p = append((*p)[:0], rows...)
		quantize.GatherColumns(rows, *p, order)
		old.Put(p)
		return nil
	}
}

// calibrationHooks are what acts while the weights are calibrated: everything
// for Atom, the rotations alone for QuaRot, nothing for the others.
func (b *Block) calibrationHooks(m quantize.Method, c checkpoint.Config) *decoder.Hooks {
	if m.Algorithm == quantize.Atom {
		return b.hooks(m, c)
	}
	var h decoder.Hooks
	for i, p := range inputs {
		h[p].Map = b.arrange(m, c, i)
	}
	return &h
}

// hooks are the run-time part of the method; nil for none.
func (b *Block) hooks(m quantize.Method, c checkpoint.Config) *decoder.Hooks {
	var h decoder.Hooks
	x, quantized := m.ActivationQuantizer()
	for i, p := range inputs {
		var f func(rows []float32) error
		if quantized {
			n := b.Linears[fed[i][0]].In
			f = func(rows []float32) error { return x.Simulate(rows, rows, len(rows)/n, n) }
		}
		h[p].Map = chain(b.arrange(m, c, i), f)
	}
	if q, ok := m.AttentionQuantizer(c.HeadDim); ok {
		simulate := func(n int) func(rows []float32) error {
			return func(rows []float32) error { return q.Simulate(rows, rows, len(rows)/n, n) }
		}
		queries, keys := simulate(c.QueryWidth()), simulate(c.KVWidth())
		h[decoder.ValueOutput].Map = keys
		switch m.Attention.Place {
		case quantize.AttentionOutputs:
			h[decoder.QueryOutput].Map, h[decoder.KeyOutput].Map = queries, keys
		case quantize.AttentionHeads:
			h[decoder.QueryRotated].Map, h[decoder.KeyRotated].Map = queries, keys
		case quantize.AttentionCache:
			h[decoder.KeyOutput].Map = keys
		case quantize.AttentionRotated:
			r, err := quantize.NewRotation(c.HeadDim, false)
			rotate := func(rows []float32) error {
				if err != nil {
					return err
				}
				return r.ApplyOnline(rows)
			}
			h[decoder.QueryRotated].Map, h[decoder.KeyRotated].Map = rotate, chain(rotate, keys)
		}
	}
	for _, f := range h {
		if f.Map != nil {
			return &h
		}
	}
	return nil
}
