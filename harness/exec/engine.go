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
}

// Method is one point of an experiment, resolved for a model of L layers.
type Method struct {
	SplitLayer  int            // l: layers 1..l run on the edge; 0 = not split
	WeightLayer int            // l_w: layers 1..l_w carry Front weights, the edge's others Back weights
	Front, Back Weights        // zero value = full precision
	Codec       compress.Codec // what the boundary tensor goes through; nil = sent exactly, without a message
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
	return w, w.Bits != 0 && w.Bits != FullPrecision
}

// Engine holds one model. Its methods must not be called concurrently.
type Engine struct {
	model     *decoder.Model
	batchRows int
	workers   int // goroutines of the codec
	quantised map[quantisedKey]decoder.Layer
	caches    []backend.Cache // free, by capacity
	held      int64           // bytes of the free caches
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
	return &Engine{model: m, batchRows: batchRows, workers: runtime.GOMAXPROCS(0), quantised: map[quantisedKey]decoder.Layer{}}
}

// Model returns the full-precision model.
func (e *Engine) Model() *decoder.Model { return e.model }

// variant returns the model whose layers 1..upTo have the widths of m.
func (e *Engine) variant(m Method, upTo int) (*decoder.Model, error) {
	layers := make([]decoder.Layer, upTo)
	for k := 1; k <= upTo; k++ {
		w, quantised := m.LayerWeights(k)
		if !quantised {
			layers[k-1] = e.model.Layer(k)
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
	return e.model.WithLayers(layers), nil
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
	edge   *decoder.Model // layers as the edge has them
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
	e.forget(m)
	edge, err := e.variant(m, m.EdgeLayers(layers))
	if err != nil {
		return nil, err
	}
	return &Session{engine: e, method: m, edge: edge, layers: layers}, nil
}

// Times returns the seconds spent since the session began.
func (s *Session) Times() Times { return s.seen }

// SharedEdge says whether Score went on from boundary tensors of an earlier
// session.
func (s *Session) SharedEdge() bool { return s.sharedEdge }

// EdgeWeightBytes is what the linear weights of the edge's layers occupy.
func (s *Session) EdgeWeightBytes() int64 {
	var n int64
	for k := 1; k <= s.method.EdgeLayers(s.layers); k++ {
		n += s.edge.Layer(k).Bytes()
	}
	return n
}

// Payload is what one request sent over the link.
type Payload struct {
	Hidden compress.Parts // messages of the residual stream, bytes
	KV     compress.Parts // messages of keys and values, bytes
	Tokens int            // rows of the residual stream sent
}
