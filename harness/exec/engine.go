// Package exec runs a model the way a method says: whole, with quantised
// weights, or split between an edge and a cloud with the activation at the
// split layer sent through a codec (arXiv 2511.04002, sections 2.1-2.3; the
// order of events is the split evaluation of a likelihood item).
//
//	Engine   one model on one backend, its quantised layers kept for reuse
//	Session  an Engine with one Method
//	Score    log-probabilities of many requests, in ragged batches that compute
//	         a shared beginning once
//	Generate token by token with a cache
package exec

import (
	"fmt"
	"runtime"
	"slices"

	"splitbench/compress"
	"splitbench/models/backend"
	"splitbench/models/decoder"
)

// DefaultBatchRows is how many rows (tokens) one forward pass holds unless
// told otherwise. Results do not depend on it.
const DefaultBatchRows = 2048

// FullPrecision is the weight width that means "the checkpoint's own values".
const FullPrecision = 16

// Weights is the precision of a segment of layers.
type Weights struct {
	Bits  int // 2, 3, 4, 8, or FullPrecision
	Group int // consecutive inputs that share a scale; 0 = one scale per output channel
	// Quantizer names what Engine.AddQuantized was given, in the place of Bits
	// and Group; "" for none.
	Quantizer string
}

// Method is one point of an experiment, resolved for a model of L layers.
type Method struct {
	SplitLayer  int     // l: layers 1..l run on the edge; 0 = not split
	WeightLayer int     // l_w: layers 1..l_w carry Front weights, the edge's others Back weights
	Front, Back Weights // zero value = full precision
	// Cloud names the quantizer of the cloud's model, all layers of it, as
	// Weights.Quantizer does; "" = full precision. Only for a split.
	Cloud string
	Codec compress.Codec // what the boundary tensor goes through; nil = sent exactly, without a message
	// KVCodec, of split1, sends the keys and values of all layers in one message;
	// nil = a message of Codec for each tensor.
	KVCodec *compress.KVCodec
	// Clamp is the largest magnitude of a value of the boundary tensor: what lies
	// beyond is set to it on its way to the codec; 0 = no limit.
	Clamp     float32
	MaxTokens int  // W-bar: rows that the edge serves; 0 = all
	IncludeKV bool // I_kv: when the edge stops before the end, its keys and values are sent (through KVCodec or Codec), else the cloud recomputes them from the token ids
}

// EdgeLayers is how many layers the edge holds of a model's: 1..l of a split,
// all of them else.
func (m Method) EdgeLayers(layers int) int {
	if m.SplitLayer > 0 {
		return m.SplitLayer
	}
	return layers
}

// LayerWeights is the precision of the edge's layer k, and whether it is a
// quantised one.
func (m Method) LayerWeights(k int) (w Weights, quantised bool) {
	w = m.Front
	if k > m.WeightLayer {
		w = m.Back
	}
	return w, w.Quantizer != "" || w.Bits != 0 && w.Bits != FullPrecision
}

// Engine holds one model. Its methods must not be called concurrently.
type Engine struct {
	model     *decoder.Model
	batchRows int
	workers   int // goroutines of the codec
	quantised map[quantisedKey]decoder.Layer
	baselines map[string]Quantized // by Weights.Quantizer
	caches    []backend.Cache      // free, by capacity
	held      int64                // bytes of the free caches
	work      decoder.Workspace
	batch     decoder.Batch
	joined    backend.Matrix // residual rows of edge and cloud put together
	scored    backend.Matrix
	store     boundaryStore
}

type quantisedKey struct {
	layer int
	Weights
}

// NewEngine wraps a loaded model; batchRows 0 means DefaultBatchRows.
func NewEngine(m *decoder.Model, batchRows int) *Engine {
	if batchRows <= 0 {
		batchRows = DefaultBatchRows
	}
	return &Engine{model: m, batchRows: batchRows, workers: runtime.GOMAXPROCS(0), quantised: map[quantisedKey]decoder.Layer{}, baselines: map[string]Quantized{}}
}

// Model returns the full-precision model.
func (e *Engine) Model() *decoder.Model { return e.model }

// variant returns the model whose layers 1..upTo have the widths of m.
func (e *Engine) variant(m Method, upTo int) (*decoder.Model, error) {
	base := e.model
	layers := make([]decoder.Layer, upTo)
	for k := 1; k <= upTo; k++ {
		w, quantised := m.LayerWeights(k)
		if !quantised {
			layers[k-1] = e.model.Layer(k)
			continue
		}
		if w.Quantizer != "" {
			q := e.baselines[w.Quantizer]
			layers[k-1] = q.Layers[k-1]
			if q.Model != nil {
				base = q.Model
			}
			continue
		}
		key := quantisedKey{k, w}
		l, ok := e.quantised[key]
		if !ok {
			var err error
			l, err = e.model.QuantisedLayer(k, func(values []float32, out, in int) (backend.Packed, error) {
				q, err := compress.QuantiseWeights(values, out, in, compress.WeightScheme{Bits: w.Bits, Group: w.Group})
				if err != nil {
					return backend.Packed{}, err
				}
				return backend.Packed{Out: out, In: in, Bits: q.Bits, Group: q.Group, Codes: q.Codes, Scales: q.Scales, Zeros: q.Zeros}, nil
			})
			if err != nil {
				return nil, err
			}
			e.quantised[key] = l
		}
		layers[k-1] = l
	}
	return base.WithLayers(layers), nil
}

// Quantized is the engine's model as a quantization baseline leaves it, on the
// same backend.
type Quantized struct {
	Layers []decoder.Layer // all blocks
	Bits   []int64         // of each block: what its linear weights take as they are stored
	// Model is nil unless the baseline changes the basis of the residual stream
	// (QuaRot), and with it the embedding and the head: then it is all of it, and
	// every layer of a method must come from it.
	Model *decoder.Model
}

// keepBaselines bounds the bytes of quantized layers that no session in use
// needs.
const keepBaselines = 1 << 30

// AddQuantized lets methods name a quantized model.
func (e *Engine) AddQuantized(name string, q Quantized) error {
	if n := e.model.Config.Layers; len(q.Layers) != n || len(q.Bits) != n {
		return fmt.Errorf("quantized model of %d layers, the model has %d", len(q.Layers), n)
	}
	e.baselines[name] = q
	return nil
}

// HasQuantized says whether AddQuantized was given a name and its layers are
// held still.
func (e *Engine) HasQuantized(name string) bool { _, ok := e.baselines[name]; return ok }

// checkQuantizers says whether the quantized models that m names are there and
// go together.
func (e *Engine) checkQuantizers(m Method) error {
	var names []string // of all layers
	for k := 1; k <= m.EdgeLayers(e.model.Config.Layers); k++ {
		w, _ := m.LayerWeights(k)
		names = append(names, w.Quantizer)
	}
	if m.SplitLayer > 0 {
		names = append(names, m.Cloud)
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		q, ok := e.baselines[name]
		if !ok {
			return fmt.Errorf("quantizer %s: the model has not been quantized by it", name)
		}
		if q.Model == nil {
			continue
		}
		for _, other := range names {
			if other != name {
				return fmt.Errorf("quantizer %s changes the basis of the residual stream, so that all layers need it", name)
			}
		}
	}
	return nil
}

// forgetQuantized drops quantized models that m does not use when they are
// large, those that come first by name.
func (e *Engine) forgetQuantized(m Method) {
	bytes := func(q Quantized) (n int64) {
		for _, l := range q.Layers {
			n += l.Bytes()
		}
		return n
	}
	var idle []string
	held := int64(0)
	for name, q := range e.baselines {
		if name != m.Front.Quantizer && name != m.Back.Quantizer && name != m.Cloud {
			idle = append(idle, name)
			held += bytes(q)
		}
	}
	slices.Sort(idle)
	for _, name := range idle {
		if held <= keepBaselines {
			return
		}
		held -= bytes(e.baselines[name])
		delete(e.baselines, name)
		runtime.GC() // its memory goes before that of others comes
	}
}

// keepWidths is how many weight precisions an engine keeps quantised.
const keepWidths = 3

// forget drops the quantised layers that m does not use when there are many.
func (e *Engine) forget(m Method) {
	widths := map[Weights]bool{}
	for k := range e.quantised {
		widths[k.Weights] = true
	}
	if len(widths) <= keepWidths {
		return
	}
	for k := range e.quantised {
		if k.Weights != m.Front && k.Weights != m.Back {
			delete(e.quantised, k)
		}
	}
	runtime.GC() // their memory goes before that of others comes
}

// cacheStep rounds capacities so that caches are reused.
const cacheStep = 64

func byCapacity(c backend.Cache, n int) int { return c.Shape().Capacity - n }

// takeCache returns the smallest free cache that has the positions, or a new
// one.
func (e *Engine) takeCache(positions int) (backend.Cache, error) {
	if i, _ := slices.BinarySearchFunc(e.caches, positions, byCapacity); i < len(e.caches) {
		c := e.caches[i]
		e.caches = slices.Delete(e.caches, i, i+1)
		e.held -= c.Shape().Bytes()
		return c, nil
	}
	return e.model.NewCache((positions + cacheStep - 1) / cacheStep * cacheStep)
}

// keepCaches is how many bytes of free caches stay at least; a batch's worth
// stays always.
const keepCaches = 256 << 20

// giveCache keeps a cache for reuse; beyond the bound the smallest go.
func (e *Engine) giveCache(c backend.Cache) {
	shape := c.Shape()
	i, _ := slices.BinarySearchFunc(e.caches, shape.Capacity, byCapacity)
	e.caches = slices.Insert(e.caches, i, c)
	e.held += shape.Bytes()
	shape.Capacity = max(e.batchRows, e.caches[len(e.caches)-1].Shape().Capacity)
	for bound := max(keepCaches, shape.Bytes()); e.held > bound; {
		e.held -= e.caches[0].Shape().Bytes()
		e.caches = slices.Delete(e.caches, 0, 1)
	}
}

// Session is an engine with a method.
type Session struct {
	engine *Engine
	method Method
	edge   *decoder.Model // layers as the edge has them; of a method without a split, as they are
	cloud  *decoder.Model // layers as the cloud has them
	layers int
	// Histogram, when set, counts the magnitudes of the boundary tensor
	// before the codec: every row of every different input.
	Histogram *compress.Histogram
	// Boundary, when set, sees the boundary tensor of every different input
	// before and after the codec; both are valid during the call only.
	Boundary func(before, after compress.Matrix)
	// Unshared makes Score compute every different input by itself: no
	// shared beginnings, no boundary tensors of earlier sessions. Scores are
	// the same; measured times are those of requests that come alone.
	Unshared bool
	// Keep puts the boundary tensors that Score computes into the engine's
	// store, for sessions with the same EdgeKey.
	Keep bool

	host  []float32 // boundary rows of one batch before the codec
	back  []float32 // messages of one batch as the cloud decodes them
	kv    []float32 // keys and values of one batch that are handed over
	kvOut []float32 // the same as the cloud decodes them
	coder []coder   // per worker
	seen  Times

	sharedEdge bool
}

// Times are measured wall-clock seconds by stage.
type Times struct {
	Edge, Codec, Cloud float64
}

// NewSession checks the method against the model and quantises what it needs.
func (e *Engine) NewSession(m Method) (*Session, error) {
	layers := e.model.Config.Layers
	if m.SplitLayer < 0 || m.SplitLayer > layers {
		return nil, fmt.Errorf("split_layer %d: the model has %d layers, expected 1..%d", m.SplitLayer, layers, layers)
	}
	if m.WeightLayer < 0 || m.WeightLayer > layers {
		return nil, fmt.Errorf("l_w %d: the model has %d layers, expected 0..%d", m.WeightLayer, layers, layers)
	}
	if m.MaxTokens < 0 {
		return nil, fmt.Errorf("max_tokens %d: expected 0 (all) or a positive number", m.MaxTokens)
	}
	if m.SplitLayer == 0 && m.Codec != nil {
		return nil, fmt.Errorf("a boundary codec needs a split_layer")
	}
	if !(m.Clamp >= 0) || m.Clamp > 0 && m.SplitLayer == 0 {
		return nil, fmt.Errorf("clamp %v: expected 0 (none), or a positive number with a split_layer", m.Clamp)
	}
	if m.SplitLayer == 0 && m.Cloud != "" {
		return nil, fmt.Errorf("a quantizer of the cloud's model needs a split_layer")
	}
	if err := e.checkQuantizers(m); err != nil {
		return nil, err
	}
	e.forget(m)
	e.forgetQuantized(m)
	edge, err := e.variant(m, m.EdgeLayers(layers))
	if err != nil {
		return nil, err
	}
	cloud := edge // one place that holds all layers
	if m.SplitLayer > 0 {
		all := Method{WeightLayer: layers, Front: Weights{Quantizer: m.Cloud}}
		if cloud, err = e.variant(all, layers); err != nil {
			return nil, err
		}
	}
	return &Session{engine: e, method: m, edge: edge, cloud: cloud, layers: layers}, nil
}

// Times returns the seconds spent since the session began.
func (s *Session) Times() Times { return s.seen }

// SharedEdge says whether Score went on from boundary tensors of an earlier
// session.
func (s *Session) SharedEdge() bool { return s.sharedEdge }

// EdgeWeightBytes is what the linear weights of the edge's layers occupy in
// this process.
func (s *Session) EdgeWeightBytes() int64 {
	var n int64
	for k := 1; k <= s.method.EdgeLayers(s.layers); k++ {
		n += s.edge.Layer(k).Bytes()
	}
	return n
}

// StoredWeights returns the bits that the linear weights of all layers take as
// edge and cloud store them, scales, zeros, orders and outliers included, and
// the number of these weights. Weights that are not quantised have the width of
// the checkpoint.
func (s *Session) StoredWeights() (bits, weights int64) {
	width := int64(32)
	if d := s.engine.model.Config.StoredDType; d == "float16" || d == "bfloat16" {
		width = 16
	}
	for k := 1; k <= s.layers; k++ {
		l, w, quantised := s.cloud.Layer(k), Weights{Quantizer: s.method.Cloud}, s.method.Cloud != ""
		if k <= s.method.EdgeLayers(s.layers) {
			l = s.edge.Layer(k)
			w, quantised = s.method.LayerWeights(k)
		}
		n := int64(0)
		for _, m := range []decoder.Linear{l.Query, l.Key, l.Value, l.Output, l.Gate, l.Up, l.Down} {
			n += int64(m.Weight.Out()) * int64(m.Weight.In())
		}
		weights += n
		switch {
		case w.Quantizer != "":
			bits += s.engine.baselines[w.Quantizer].Bits[k-1]
		case quantised:
			bits += 8 * l.Bytes()
		default:
			bits += width * n
		}
	}
	return bits, weights
}

// Payload is what one request sent over the link.
type Payload struct {
	Hidden compress.Parts // messages of the residual stream, bytes
	KV     compress.Parts // messages of keys and values, bytes
	Tokens int            // rows of the residual stream sent
}
