// Package train learns the parameters of quantizers by gradient descent on one
// decoder block after the other: OmniQuant (arXiv 2308.13137), learnable weight
// clipping (LWC) and learnable equivalent transformation (LET).
package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// Values are the parameters of a block in float32.
type Values = decoder.BlockValues[float32]

// Source delivers the weights of the model that is quantized.
type Source interface {
	// Embedding returns the embedding, (vocabulary, hidden).
	Embedding() ([]float32, error)
	// Block returns block k, from 0; the caller may change it.
	Block(k int) (*Values, error)
}

// FromCheckpoint reads the weights from a checkpoint.
type FromCheckpoint struct{ *checkpoint.Checkpoint }

// Embedding returns the embedding.
func (s FromCheckpoint) Embedding() ([]float32, error) {
	t, err := s.Tensor("model.embed_tokens.weight")
	if err != nil {
		return nil, err
	}
	return t.Float32(nil)
}

// Block returns block k.
func (s FromCheckpoint) Block(k int) (*Values, error) {
	return decoder.BlockValuesOf(s.Checkpoint, k+1)
}

// Parameters are what OmniQuant learns of one block.
//
// The scales are those of the equivalent transformation, nil without it: QKV
// (hidden) between the attention norm and q, k, v; FC1 (hidden) between the
// other norm and gate, up; Out (kvHeads*headDim) between v and o; QK (kvHeads*
// headDim) between q and k. With grouped queries the query heads of a group
// share the scales of their key head, as the product needs (the original stops
// there).
type Parameters struct {
	QKV, FC1, Out, QK []float32
	// Clip holds the clipping factors of the linear maps in the order of
	// decoder.LinearNames, nil without LWC.
	Clip [7]*quantize.Clipping
}

// Result is a block as OmniQuant leaves it.
type Result struct {
	Parameters *Parameters
	// Values are the transformed block with dequantized weights.
	Values *Values
	// Codes are the integers of the linear maps in the order of
	// decoder.LinearNames.
	Codes [7]*quantize.Tensor
	// Losses holds the loss of every step, sequence after sequence, epoch after
	// epoch; empty without training.
	Losses []float64
}

// Step is the state of a block after one step of its training.
type Step struct {
	Block, Epoch, Sequence int // from 0
	Loss                   float64
	// Parameters and Gradients are the trainer's own, valid during the call.
	Parameters, Gradients *Parameters
}

// Options of OmniQuant; all may be nil.
type Options struct {
	// Estimate is told, after the first step of a run, how long its training
	// will take in all.
	Estimate func(time.Duration)
	// Step is called after every step.
	Step func(Step)
	// Learned returns the parameters of block k of an interrupted run, or nil:
	// such a block is not trained again. The blocks after it get the bits that
	// the whole run would give.
	Learned func(k int) (*Parameters, error)

	rotations func(positions int) *backend.RopeTable // of the blocks, nil: their own
}

// OmniQuant quantizes the blocks of a model of configuration c one after the
// other and hands them to sink, from 0. Calibration sequences are run one at a
// time, in order, in every epoch; results do not depend on the number of
// workers.
//
// With 0 epochs the blocks keep the initial parameters, as in the original.
func OmniQuant(ctx context.Context, c checkpoint.Config, src Source, m quantize.Method, do decoder.Arithmetic[float32], calibration [][]int32, o Options, sink func(k int, r *Result) error) error {
	if m.Omni == nil {
		return fmt.Errorf("method %q: omniquant: the settings of the training are missing", m.Name)
	}
	if err := m.Validate(); err != nil {
		return err
	}
	q, ok := m.WeightQuantizer()
	if !ok || q.Scheme != quantize.Asym {
		return fmt.Errorf("method %q: weight: want the asymmetric quantizer of OmniQuant, whose gradient is known", m.Name)
	}
	t := &trainer{config: c, method: m, options: *m.Omni, do: do, ctx: ctx, hooks: o, weight: q}
	if t.options.LWCRate == 0 {
		t.options.LWCRate = quantize.DefaultLWCRate
	}
	if t.options.LETRate == 0 {
		t.options.LETRate = quantize.DefaultLETRate
	}
	if t.options.Alpha == 0 {
		t.options.Alpha = quantize.DefaultOmniAlpha
	}
	needs := t.options.LET || t.options.Epochs > 0
	if needs {
		if len(calibration) == 0 {
			return fmt.Errorf("method %q: needs calibration sequences", m.Name)
		}
		if err := t.embed(src, calibration); err != nil {
			return err
		}
	}
	for k := range c.Layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := t.block(src, k)
		if err != nil {
			return fmt.Errorf("layer %d: %w", k+1, err)
		}
		if err := sink(k, r); err != nil {
			return err
		}
	}
	return nil
}

// trainer is one run of OmniQuant.
type trainer struct {
	ctx       context.Context
	config    checkpoint.Config
	method    quantize.Method
	options   quantize.OmniOptions
	do        decoder.Arithmetic[float32]
	hooks     Options
	weight    quantize.Quantizer
	estimated bool

	full, quant [][]float32 // residual streams of the original and the quantized model, a matrix per sequence
	tape        decoder.Tape[float32]
}

func (t *trainer) embed(src Source, calibration [][]int32) error {
	e, err := src.Embedding()
	if err != nil {
		return err
	}
	n := t.config.HiddenSize
	if len(e) != t.config.VocabSize*n {
		return fmt.Errorf("embedding of %d numbers, expected %d x %d", len(e), t.config.VocabSize, n)
	}
	for i, s := range calibration {
		if len(s) == 0 {
			return fmt.Errorf("calibration sequence %d is empty", i+1)
		}
		x := make([]float32, len(s)*n)
		for r, id := range s {
			if id < 0 || int(id) >= t.config.VocabSize {
				return fmt.Errorf("calibration sequence %d: token id %d is outside the vocabulary of %d", i+1, id, t.config.VocabSize)
			}
			copy(x[r*n:(r+1)*n], e[int(id)*n:])
		}
		t.full = append(t.full, x)
		if t.options.Epochs > 0 {
			t.quant = append(t.quant, slices.Clone(x))
		}
	}
	return nil
}

// block quantizes block k and moves both streams on.
func (t *trainer) block(src Source, k int) (*Result, error) {
	w, err := src.Block(k)
	if err != nil {
		return nil, err
	}
	plain, err := decoder.NewBlock(t.config, k+1, t.do)
	if err != nil {
		return nil, err
	}
	altered, err := decoder.NewBlock(t.config, k+1, t.do)
	if err != nil {
		return nil, err
	}
	plain.Rotations, altered.Rotations = t.hooks.rotations, t.hooks.rotations
	if a := NewActivations(t.method, t.config, t.do); a != nil {
		altered.Alteration = a
	}
	hidden := t.config.HiddenSize
	var augmented [][]float32 // outputs of the original block on the quantized stream
	var maxima [3][]float32   // largest magnitudes of the inputs of qkv, o, up
	for i, x := range t.full {
		if err := t.ctx.Err(); err != nil {
			return nil, err
		}
		if t.options.AugLoss && t.options.Epochs > 0 {
			y := make([]float32, len(x))
			if err := plain.Forward(y, t.quant[i], []int{len(x) / hidden}, w, &t.tape); err != nil {
				return nil, err
			}
			augmented = append(augmented, y)
		}
		if err := plain.Forward(x, x, []int{len(x) / hidden}, w, &t.tape); err != nil {
			return nil, err
		}
		for j, s := range []decoder.Place{decoder.AttentionInput, decoder.OutputInput, decoder.MLPInput} {
			in := t.tape.Input(s)
			if maxima[j] == nil {
				maxima[j] = make([]float32, len(in)*hidden/len(x))
			}
			quantize.ColumnAbsMax(maxima[j], in)
		}
	}
	var p *Parameters
	if t.hooks.Learned != nil {
		if p, err = t.hooks.Learned(k); err != nil {
			return nil, err
		}
	}
	resumed := p != nil
	if resumed {
		if err := t.checkParameters(p, w); err != nil {
			return nil, err
		}
	} else if p, err = t.start(w, maxima); err != nil {
		return nil, err
	}
	f := &fake{trainer: t, source: w, p: p, shown: w.Like()}
	r := &Result{Parameters: p}
	if !resumed && t.options.Epochs > 0 {
		if r.Losses, err = t.train(k, f, altered, augmented); err != nil {
			return nil, err
		}
	}
	if err := f.forward(); err != nil {
		return nil, err
	}
	r.Values = f.shown
	for i := range f.linear {
		l := &f.linear[i]
		if r.Codes[i], err = t.weight.QuantizeClipped(l.x, l.rows, l.cols, p.Clip[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", decoder.LinearNames()[i], err)
		}
	}
	for _, x := range t.quant {
		if err := altered.Forward(x, x, []int{len(x) / hidden}, r.Values, &t.tape); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// start returns the initial parameters.
func (t *trainer) start(w *Values, maxima [3][]float32) (*Parameters, error) {
	p := &Parameters{}
	lin := w.Linears()
	if t.options.LWC {
		for i, l := range lin {
			rows, cols := t.shape(i, l)
			n, err := t.weight.Groups(rows, cols)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", decoder.LinearNames()[i], err)
			}
			p.Clip[i] = quantize.NewClipping(n)
		}
	}
	if !t.options.LET {
		return p, nil
	}
	// The output map sees the channels of a key head once per query head.
	kv := t.config.KVWidth()
	input, columns := make([]float32, kv), make([]float32, t.config.QueryWidth())
	quantize.ColumnAbsMax(columns, w.Output.Weight)
	weight := make([]float32, kv)
	for i, v := range maxima[1] {
		j := t.keyChannel(i)
		input[j], weight[j] = max(input[j], v), max(weight[j], columns[i])
	}
	var err error
	for _, s := range []struct {
		to            *[]float32
		maxima, shape []float32
	}{{&p.QKV, maxima[0], w.Query.Weight}, {&p.FC1, maxima[2], w.Up.Weight}, {&p.Out, input, weight}} {
		if *s.to, err = quantize.EquivalentScales(s.maxima, t.options.Alpha, s.shape); err != nil {
			return nil, err
		}
	}
	p.QK = make([]float32, kv)
	for i := range p.QK {
		p.QK[i] = 1
	}
	return p, nil
}

// keyChannel is the channel of keys and values that channel i of the queries
// meets.
func (t *trainer) keyChannel(i int) int {
	d := t.config.HeadDim
	return i/d/(t.config.Heads/t.config.KVHeads)*d + i%d
}

// shape is (out, in) of linear map i.
func (t *trainer) shape(i int, l *decoder.LinearValues[float32]) (rows, cols int) {
	cols = t.config.HiddenSize
	switch i {
	case decoder.OutputMap:
		cols = t.config.QueryWidth()
	case decoder.DownMap:
		cols = t.config.IntermediateSize
	}
	return len(l.Weight) / cols, cols
}

// checkParameters says whether parameters of an interrupted run fit.
func (t *trainer) checkParameters(p *Parameters, w *Values) error {
	for _, s := range []struct {
		name string
		x    []float32
		n    int
	}{{"qkv_smooth_scale", p.QKV, t.config.HiddenSize}, {"fc1_smooth_scale", p.FC1, t.config.HiddenSize}, {"out_smooth_scale", p.Out, t.config.KVWidth()}, {"qkt_smooth_scale", p.QK, t.config.KVWidth()}} {
		if !t.options.LET {
			s.n = 0
		}
		if len(s.x) != s.n {
			return fmt.Errorf("learned %s has %d numbers, expected %d", s.name, len(s.x), s.n)
		}
	}
	for i, l := range w.Linears() {
		if (p.Clip[i] != nil) != t.options.LWC {
			return fmt.Errorf("learned clipping of %s: %v, the method says %v", decoder.LinearNames()[i], p.Clip[i] != nil, t.options.LWC)
		}
		if p.Clip[i] == nil {
			continue
		}
		rows, cols := t.shape(i, l)
		if n, err := t.weight.Groups(rows, cols); err != nil || len(p.Clip[i].Up) != n || len(p.Clip[i].Low) != n {
			return fmt.Errorf("learned clipping of %s has %d and %d factors, expected %d", decoder.LinearNames()[i], len(p.Clip[i].Up), len(p.Clip[i].Low), n)
		}
	}
	return nil
}

// train runs the epochs of block k.
func (t *trainer) train(k int, f *fake, b *decoder.Block[float32], augmented [][]float32) ([]float64, error) {
	var losses []float64
	optimiser := decoder.NewAdamW[float32]()
	gradients := f.p.like()
	weights := f.source.Like()
	var y []float32
	started := time.Now()
	for epoch := range t.options.Epochs {
		for j, x := range t.quant {
			if err := t.ctx.Err(); err != nil {
				return nil, err
			}
			if err := f.forward(); err != nil {
				return nil, fmt.Errorf("epoch %d, sequence %d: %w", epoch+1, j+1, err)
			}
			y = append(y[:0], x...)
			if err := b.Forward(y, x, []int{len(x) / t.config.HiddenSize}, f.shown, &t.tape); err != nil {
				return nil, err
			}
			var augment []float32
			if augmented != nil {
				augment = augmented[j]
			}
			loss := meanSquares(y, t.full[j], augment)
			if math.IsNaN(loss) || math.IsInf(loss, 0) {
				return nil, fmt.Errorf("epoch %d, sequence %d: the loss is %v: want a smaller learning rate", epoch+1, j+1, loss)
			}
			losses = append(losses, loss)
			weights.Each(func(_ string, v []float32) { clear(v) })
			if err := b.Backward(y, y, f.shown, weights, &t.tape); err != nil {
				return nil, err
			}
			if err := f.backward(weights, gradients); err != nil {
				return nil, err
			}
			optimiser.Begin()
			from := gradients.all()
			for i, v := range f.p.all() {
				rate := t.options.LWCRate
				if v.scale {
					rate = t.options.LETRate
				}
				optimiser.Update(v.name, v.values, from[i].values, rate)
			}
			if t.hooks.Step != nil {
				t.hooks.Step(Step{k, epoch, j, loss, f.p, gradients})
			}
			if !t.estimated {
				t.estimated = true
				if t.hooks.Estimate != nil {
					t.hooks.Estimate(time.Since(started) * time.Duration(t.options.Epochs*len(t.quant)*(t.config.Layers-k)))
				}
			}
		}
	}
	return losses, nil
}

// meanSquares returns the mean of (y-target)², plus that of (y-augment)² when
// there is one, and puts its gradient in the place of y.
func meanSquares(y, target, augment []float32) float64 {
	var sum, second float64
	k := 2 / float32(len(y))
	for i, v := range y {
		d := v - target[i]
		sum += float64(d) * float64(d)
		if augment != nil {
			e := v - augment[i]
			second += float64(e) * float64(e)
			d += e
		}
		y[i] = d * k
	}
	return sum/float64(len(y)) + second/float64(len(y))
}
