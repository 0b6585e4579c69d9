package quantise

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
	"splitbench/models/quantize/train"
)

// Ends are the weights of a model beside its blocks.
type Ends struct {
	Embedding []float32 // (vocabulary, hidden)
	FinalNorm []float32
	Head      []float32 // (vocabulary, hidden); nil: the embedding
}

// Sink takes the parts of a quantized model as they get ready: first the
// configuration (QuaRot unties the embeddings) and the ends, then the blocks in
// order, from 0. The slices are the sink's.
type Sink interface {
	Ends(c checkpoint.Config, e *Ends) error
	Block(k int, b *Block) error
}

// Step tells of the progress of Quantize.
type Step struct {
	Block, Blocks int     // blocks done, of how many
	Kept          bool    // the last of them by an earlier run: see Writer
	Loss          float64 // GPTQ: sum of the squared errors of the block's weights; AWQ: of the scale searches; OmniQuant: of the last step; else 0
}

// Part is a piece of GPTQ's work on a block, as it was measured: "pass" to the
// inputs of linear maps, "hessian" and "factor" of an input, "quantize" of a
// linear map, and "load" of the quantized weights.
type Part struct {
	Kind    string
	Name    string  // of the input or the linear map
	Out, In int     // of the linear map or the Hessian
	Flops   float64 // products and sums
	Seconds float64
}

// Options of Quantize.
type Options struct {
	Part     func(Part)          // told of every part of GPTQ's work; may be nil
	Progress func(Step)          // called before the first block, with Block 0, and after every block; may be nil
	Estimate func(time.Duration) // told after the first step of a training how long it will take in all; may be nil
}

// NeedsCalibration says whether a method looks at activations.
func NeedsCalibration(m quantize.Method) bool {
	return trains(m) || m.Smooth != nil || m.Reorder || m.GPTQ != nil && m.Weight.On() || m.AWQ != nil && (m.AWQ.Scale || m.AWQ.Clip)
}

// trains says whether OmniQuant's transformation or clipping is at work.
func trains(m quantize.Method) bool { return m.Omni != nil && (m.Omni.LWC || m.Omni.LET) }

// run is one call of Quantize.
type run struct {
	m       quantize.Method
	c       *checkpoint.Checkpoint
	config  checkpoint.Config
	be      backend.Backend
	s       *stream
	full    []backend.Matrix // residual rows of the original model, nil when nobody needs them
	quant   []backend.Matrix // those of the quantized one; the same
	rotated *rotation
	part    func(Part)
}

// Resolve returns the method with what is chosen on the calibration set filled
// in: the alpha of a sweep, by perplexity.
func Resolve(ctx context.Context, c *checkpoint.Checkpoint, be backend.Backend, m quantize.Method, calibration [][]int32) (quantize.Method, error) {
	if m.Smooth == nil || len(m.Smooth.Sweep) == 0 {
		return m, nil
	}
	if err := check(m, c.Config, calibration); err != nil {
		return m, err
	}
	best, err := sweep(ctx, c, be, m, calibration)
	if err != nil {
		return m, err
	}
	m.Smooth = &quantize.SmoothOptions{Alpha: best}
	return m, nil
}

// Quantize quantizes the model of a checkpoint on a backend with calibration
// sequences of token ids, and hands its parts to sink. It returns the method as
// Resolve does.
//
// A method that does not fit the model is an error that names the linear map.
func Quantize(ctx context.Context, c *checkpoint.Checkpoint, be backend.Backend, m quantize.Method, calibration [][]int32, o Options, sink Sink) (quantize.Method, error) {
	if err := check(m, c.Config, calibration); err != nil {
		return m, err
	}
	m, err := Resolve(ctx, c, be, m, calibration)
	if err != nil {
		return m, err
	}
	if trains(m) {
		return m, trained(ctx, c, be, m, calibration, o, sink)
	}
	r := &run{m: m, c: c, config: c.Config, be: be, part: o.Part}
	if r.part == nil {
		r.part = func(Part) {}
	}
	e, err := loadEnds(c)
	if err != nil {
		return m, err
	}
	if m.QuaRot != nil {
		if r.rotated, err = newRotation(c.Config, m.QuaRot); err != nil {
			return m, err
		}
		r.rotated.ends(&r.config, e, m.QuaRot.SubtractMean)
	}
	if NeedsCalibration(m) {
		if r.s, err = newStream(r.config, be, e, calibration); err != nil {
			return m, err
		}
		if m.Smooth != nil || m.Reorder || m.AWQ != nil {
			if r.full, err = r.s.embedded(); err != nil {
				return m, err
			}
		}
		if m.GPTQ != nil {
			if r.quant, err = r.s.embedded(); err != nil {
				return m, err
			}
		}
	}
	if err := sink.Ends(r.config, e); err != nil {
		return m, err
	}
	w, _ := sink.(*Writer)
	o.progress(Step{Blocks: r.config.Layers})
	for k := range r.config.Layers {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		step := Step{Block: k + 1, Blocks: r.config.Layers}
		var b *Block
		if w != nil {
			b = w.kept(k, r.config)
		}
		if b != nil {
			step.Kept = true
			err = r.pass(ctx, k, b)
		} else if b, step.Loss, err = r.block(ctx, k); err == nil {
			err = sink.Block(k, b)
		}
		if err != nil {
			return m, fmt.Errorf("layer %d: %w", k+1, err)
		}
		o.progress(step)
	}
	return m, nil
}

func (o Options) progress(s Step) {
	if o.Progress != nil {
		o.Progress(s)
	}
}

// last says whether no block comes after block k, from 0.
func (r *run) last(k int) bool { return k+1 == r.config.Layers }

// pass takes the residual rows through block k, which is quantized already.
func (r *run) pass(ctx context.Context, k int, b *Block) error {
	if r.last(k) {
		return nil
	}
	if r.full != nil {
		original, err := loadBlock(r.c, k)
		if err != nil {
			return err
		}
		l, err := original.layer(r.be, nil)
		if err != nil {
			return err
		}
		if err := r.s.run(ctx, k, l, r.full, true); err != nil {
			return err
		}
	}
	if r.quant != nil {
		l, err := b.layer(r.be, b.calibrationHooks(r.m, r.config))
		if err != nil {
			return err
		}
		return r.s.run(ctx, k, l, r.quant, true)
	}
	return nil
}

// trained is Quantize for OmniQuant with parameters to learn.
func trained(ctx context.Context, c *checkpoint.Checkpoint, be backend.Backend, m quantize.Method, calibration [][]int32, o Options, sink Sink) error {
	do, ok := be.(decoder.Arithmetic[float32])
	if !ok {
		return fmt.Errorf("omniquant: backend %s cannot train", be.Name())
	}
	e, err := loadEnds(c)
	if err != nil {
		return err
	}
	if err := sink.Ends(c.Config, e); err != nil {
		return err
	}
	o.progress(Step{Blocks: c.Config.Layers})
	w, _ := sink.(*Writer)
	kept := map[int]bool{}
	t := train.Options{Estimate: o.Estimate}
	if w != nil {
		t.Learned = func(k int) (*train.Parameters, error) {
			p := w.learned(k)
			kept[k] = p != nil
			return p, nil
		}
	}
	return train.OmniQuant(ctx, c.Config, train.FromCheckpoint{Checkpoint: c}, m, do, calibration, t, func(k int, r *train.Result) error {
		if w != nil && !kept[k] {
			if err := w.learn(k, r.Parameters); err != nil {
				return err
			}
		}
		b := &Block{Norms: [2][]float32{r.Values.AttentionNorm, r.Values.MLPNorm}}
		for i, v := range r.Values.Linears() {
			in := [4]int{c.Config.HiddenSize, c.Config.QueryWidth(), c.Config.HiddenSize, c.Config.IntermediateSize}[inputOf[i]]
			b.Linears[i] = Linear{Out: len(v.Weight) / in, In: in, Values: v.Weight, Body: r.Codes[i], Bias: v.Bias}
		}
		if err := sink.Block(k, b); err != nil {
			return err
		}
		s := Step{Block: k + 1, Blocks: c.Config.Layers, Kept: kept[k]}
		if n := len(r.Losses); n > 0 {
			s.Loss = r.Losses[n-1]
		}
		o.progress(s)
		return nil
	})
}

// check says whether a method can be run on a model.
func check(m quantize.Method, c checkpoint.Config, calibration [][]int32) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if NeedsCalibration(m) && len(calibration) == 0 {
		return fmt.Errorf("method %q: needs calibration sequences", m.Algorithm)
	}
	kv, q := c.KVWidth(), c.QueryWidth()
	for i, s := range [decoder.LinearMaps][2]int{{q, c.HiddenSize}, {kv, c.HiddenSize}, {kv, c.HiddenSize}, {c.HiddenSize, q}, {c.IntermediateSize, c.HiddenSize}, {c.IntermediateSize, c.HiddenSize}, {c.HiddenSize, c.IntermediateSize}} {
		if err := m.CheckLinear(linearNames[i], s[0], s[1]); err != nil {
			return err
		}
	}
	if m.QuaRot != nil {
		switch {
		case c.HeadDim&(c.HeadDim-1) != 0:
			return fmt.Errorf("quarot: head_dim %d: want a power of two", c.HeadDim)
		case c.AttentionBias || c.OutputBias || c.MLPBias:
			return fmt.Errorf("quarot: the model has biases, which its rotations do not carry")
		}
	}
	return nil
}

// loadEnds reads the ends of a checkpoint.
func loadEnds(c *checkpoint.Checkpoint) (*Ends, error) {
	var e Ends
	var err error
	if e.Embedding, _, err = loadTensor(c, "model.embed_tokens.weight"); err != nil {
		return nil, err
	}
	if e.FinalNorm, _, err = loadTensor(c, "model.norm.weight"); err != nil {
		return nil, err
	}
	if !c.Config.TiedEmbeddings {
		e.Head, _, err = loadTensor(c, "lm_head.weight")
	}
	return &e, err
}

// block quantizes block k and takes the residual rows through it.
func (r *run) block(ctx context.Context, k int) (*Block, float64, error) {
	runtime.GC() // the block before goes before the next one comes
	b, err := loadBlock(r.c, k)
	if err != nil {
		return nil, 0, err
	}
	if r.rotated != nil {
		r.rotated.block(b)
		if err := b.hadamard(r.config.HeadDim); err != nil {
			return nil, 0, err
		}
	}
	var loss float64
	switch {
	case r.full == nil:
	case r.m.AWQ != nil:
		if loss, err = r.awq(ctx, k, b); err != nil {
			return nil, 0, err
		}
	default:
		l, err := b.layer(r.be, nil)
		if err != nil {
			return nil, 0, err
		}
		stats, err := r.s.statistics(ctx, k, l, r.full, true)
		if err != nil {
			return nil, 0, err
		}
		l = decoder.Layer{}
		runtime.GC() // the layer goes
		if r.m.Smooth != nil {
			if err := b.smooth(stats, r.m.Smooth.Alpha); err != nil {
				return nil, 0, err
			}
		}
		if r.m.Reorder {
			b.reorder(stats, r.m.Outliers)
		}
	}
	if !r.m.Weight.On() {
		return b, loss, nil
	}
	if r.quant == nil {
		return b, loss, b.round(r.m)
	}
	loss, err = r.gptq(ctx, k, b)
	return b, loss, err
}

// smooth divides the norms by SmoothQuant's scales and multiplies the columns
// of the linear maps that they feed.
func (b *Block) smooth(stats [4]*quantize.Statistics, alpha float64) error {
	for n, input := range [2]int{0, 2} {
		var weights [][]float32
		for _, i := range fed[input] {
			weights = append(weights, b.Linears[i].Values)
		}
		s, err := quantize.SmoothScales(stats[input].AbsMax, alpha, weights...)
		if err != nil {
			return err
		}
		quantize.ScaleColumns(b.Norms[n], s, true)
		for _, w := range weights {
			quantize.ScaleColumns(w, s, false)
		}
	}
	return nil
}

// reorder sorts the channels of every input as Atom does.
func (b *Block) reorder(stats [4]*quantize.Statistics, o *quantize.Outliers) {
	for i, s := range stats {
		metric := s.HessianDiagonal()
		if o != nil && o.Metric == "abs_mean" {
			metric = s.AbsMean
		}
		b.Order[i] = quantize.ReorderIndex(metric)
	}
	b.permute(b.Order)
}

// permute gathers columns by the orders of the inputs, and the rows of gate and
// up by that of down's.
func (b *Block) permute(order [4][]int32) {
	var old []float32
	for i := range b.Linears {
		l := &b.Linears[i]
		for r := range l.Out {
			row := l.Values[r*l.In : (r+1)*l.In]
			old = append(old[:0], row...)
			quantize.GatherColumns(row, old, order[inputOf[i]])
		}
		if i != decoder.GateMap && i != decoder.UpMap {
			continue
		}
		old = append(old[:0], l.Values...)
		quantize.GatherRows(l.Values, old, l.In, order[3])
		if l.Bias != nil {
			bias := make([]float32, l.Out)
			quantize.GatherRows(bias, l.Bias, 1, order[3])
			l.Bias = bias
		}
	}
}

// round quantizes all linear maps to nearest.
func (b *Block) round(m quantize.Method) error {
	x, _ := m.WeightMixed()
	for i := range b.Linears {
		l := &b.Linears[i]
		var err error
		if l.Body, l.Outlier, err = x.Quantize(l.Values, l.Out, l.In); err == nil {
			err = l.settle()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", linearNames[i], err)
		}
	}
	return nil
}

// gptq quantizes the block by GPTQ on the inputs that the quantized blocks
// before it give, one Hessian at a time, and takes these inputs through it.
//
// The block is on the backend once. On the host the numbers of a linear map go
// as soon as their integers are there, so that beside one Hessian there is no
// second block in float32.
func (r *run) gptq(ctx context.Context, k int, b *Block) (loss float64, err error) {
	g, damp, _ := r.m.GPTQSettings()
	g.Overwrite = true
	if do, ok := r.be.(products); ok {
		g.MatMul = r.s.matMul(do)
	}
	runtime.GC() // what smoothing and reordering needed
	l, err := b.layer(r.be, b.calibrationHooks(r.m, r.config))
	if err != nil {
		return 0, err
	}
	reload := func(i int) (err error) {
		lin := &b.Linears[i]
		if err = lin.settle(); err == nil {
			of(&l, i).Weight, err = newWeight(r.be, lin.Values, lin.Out, lin.In)
		}
		return err
	}
	for input, maps := range fed {
		runtime.GC() // the memory of weights is outside of the heap and waits for it
		n := b.Linears[maps[0]].In
		part := Part{Name: inputNames[input], Out: n, In: n}
		told := func(kind string, flops, seconds float64) {
			part.Kind, part.Flops, part.Seconds = kind, flops, seconds
			r.part(part)
		}
		started := time.Now()
		h, products, err := r.s.hessian(ctx, k, l, r.quant, input, n)
		if err != nil {
			return 0, err
		}
		rows, pass := r.s.flops(b, input)
		told("pass", pass, time.Since(started).Seconds()-products)
		told("hessian", rows*float64(n)*float64(n), products)
		started = time.Now()
		if input+1 == len(fed) { // nothing passes the block any more as it is
			for i := range b.Linears {
				of(&l, i).Weight = nil
			}
			runtime.GC()
		}
		f, err := h.Factor(damp, r.m.GPTQ.ActOrder)
		if err != nil {
			return 0, fmt.Errorf("input of %s: %w", inputNames[input], err)
		}
		told("factor", 2./3*float64(n)*float64(n)*float64(n), time.Since(started).Seconds())
		runtime.GC()
		for _, i := range maps {
			lin := &b.Linears[i]
			started = time.Now()
			res, err := g.Quantize(lin.Values, lin.Out, lin.In, f)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", linearNames[i], err)
			}
			part.Name, part.Out = linearNames[i], lin.Out
			told("quantize", float64(lin.Out)*float64(n)*float64(n), time.Since(started).Seconds())
			loss += res.Loss
			lin.Body, lin.Outlier = res.Body, res.Outlier
			if r.m.GPTQ.TrueSequential && input+1 < len(fed) {
				if err := reload(i); err != nil {
					return 0, err
				}
			}
			lin.forget()
		}
	}
	runtime.GC()
	started := time.Now()
	for i := range b.Linears {
		if err := reload(i); err != nil {
			return 0, err
		}
	}
	r.part(Part{Kind: "load", Seconds: time.Since(started).Seconds()})
	if r.last(k) {
		return loss, nil
	}
	started = time.Now()
	err = r.s.run(ctx, k, l, r.quant, true)
	_, flops := r.s.flops(b, len(fed))
	r.part(Part{Kind: "pass", Name: "next layer", Flops: flops, Seconds: time.Since(started).Seconds()})
	return loss, err
}

// assembly is the Sink that makes a model on a backend.
type assembly struct {
	m      quantize.Method
	be     backend.Backend
	config checkpoint.Config
	parts  decoder.Parts
}

func (a *assembly) Ends(c checkpoint.Config, e *Ends) (err error) {
	a.config = c
	if a.parts.Embedding, err = newWeight(a.be, e.Embedding, c.VocabSize, c.HiddenSize); err != nil {
		return err
	}
	if e.Head != nil {
		if a.parts.Head, err = newWeight(a.be, e.Head, c.VocabSize, c.HiddenSize); err != nil {
			return err
		}
	}
	a.parts.FinalNorm, err = a.be.NewVector(e.FinalNorm)
	return err
}

func (a *assembly) Block(_ int, b *Block) error {
	l, err := b.Layer(a.be, a.m, a.config)
	a.parts.Layers = append(a.parts.Layers, l)
	return err
}

func (a *assembly) model() (*decoder.Model, error) {
	return decoder.Assemble(a.config, a.be, a.parts)
}

// Model is Quantize to a model on the backend, ready to run.
func Model(ctx context.Context, c *checkpoint.Checkpoint, be backend.Backend, m quantize.Method, calibration [][]int32, o Options) (*decoder.Model, quantize.Method, error) {
	a := &assembly{m: m, be: be}
	m, err := Quantize(ctx, c, be, m, calibration, o, a)
	if err != nil {
		return nil, m, err
	}
	model, err := a.model()
	return model, m, err
}
