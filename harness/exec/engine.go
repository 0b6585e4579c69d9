// Package exec runs a model the way a method says: whole, with quantised
// weights, or split between an edge and a cloud with the activation at the
// split layer sent through a codec (arXiv 2511.04002, sections 2.1-2.3; the
// order of events is the split evaluation of a likelihood item).
//
//	Engine   one model on one backend, its quantised layers kept for reuse
//	Session  an Engine with one Method
//	Score    log-probabilities of many requests, in ragged batches
//	Generate token by token with a cache
package exec

import (
	"context"
	"fmt"
	"sort"
	"time"

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
	MaxTokens   int            // W-bar: rows that the edge serves; 0 = all
	IncludeKV   bool           // I_kv: when the edge stops before the end, its keys and values are sent (through Codec), else the cloud recomputes them from the token ids
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
	quantised map[quantisedKey]decoder.Layer
	caches    map[int][]backend.Cache // free caches by capacity
	work      decoder.Workspace
	batch     decoder.Batch
	joined    backend.Matrix // residual rows of edge and cloud put together
	scored    backend.Matrix
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
	return &Engine{model: m, batchRows: batchRows, quantised: map[quantisedKey]decoder.Layer{}, caches: map[int][]backend.Cache{}}
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
}

// cacheStep rounds capacities so that caches are reused.
const cacheStep = 64

func cacheCapacity(positions int) int { return (positions + cacheStep - 1) / cacheStep * cacheStep }

func (e *Engine) takeCache(positions int) (backend.Cache, error) {
	n := cacheCapacity(positions)
	if free := e.caches[n]; len(free) > 0 {
		c := free[len(free)-1]
		e.caches[n] = free[:len(free)-1]
		return c, nil
	}
	return e.model.NewCache(n)
}

func (e *Engine) giveCache(c backend.Cache) {
	n := c.Shape().Capacity
	e.caches[n] = append(e.caches[n], c)
}

// keepCaches bounds the memory of free caches, in bytes.
const keepCaches = 64 << 20

// trimCaches drops the free caches of other capacities than the next batch
// needs once they hold much memory.
func (e *Engine) trimCaches(needed map[int]bool) {
	var held int64
	for _, free := range e.caches {
		for _, c := range free {
			held += c.Shape().Bytes()
		}
	}
	if held <= keepCaches {
		return
	}
	for n := range e.caches {
		if !needed[n] {
			delete(e.caches, n)
		}
	}
}

// Session is an engine with a method.
type Session struct {
	engine *Engine
	method Method
	edge   *decoder.Model // layers as the edge has them
	layers int
	// Histogram, when set, counts the magnitudes of the boundary tensor
	// before the codec.
	Histogram *compress.Histogram
	// Boundary, when set, sees every boundary tensor before and after the
	// codec; both are valid during the call only.
	Boundary func(before, after compress.Matrix)

	host []float32 // boundary rows of one batch
	back []float32 // restored rows
	msg  []byte
	kv   [2][]float32
	seen Times
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
	e.forget(m)
	edge, err := e.variant(m, m.EdgeLayers(layers))
	if err != nil {
		return nil, err
	}
	return &Session{engine: e, method: m, edge: edge, layers: layers}, nil
}

// Times returns the seconds spent since the session began.
func (s *Session) Times() Times { return s.seen }

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

// sequence is the state of one text on both sides of the link.
type sequence struct {
	ids     []int32
	length  int // positions in all: edge and cloud choose rotations by it
	done    int // rows computed
	cache   backend.Cache
	crossed bool // the cloud has taken over
	payload Payload
	edgeSeconds, cloudSeconds,
	codecSeconds float64
}

// advance computes n new rows of every sequence (n[i] of sequence i, whose
// ids are there already) through all layers. It returns the residual stream
// after the last layer, rows of sequence 0 first; the matrix is valid until
// the next call.
func (s *Session) advance(seqs []*sequence, n []int) (backend.Matrix, error) {
	e, l := s.engine, s.method.SplitLayer
	if l == 0 {
		start := time.Now()
		b := &e.batch
		b.Reset()
		for i, q := range seqs {
			b.AddPart(q.ids[q.done:q.done+n[i]], q.done, q.length, q.cache)
			q.done += n[i]
		}
		x, err := s.edge.Embed(&e.work, b)
		if err != nil {
			return nil, err
		}
		err = s.edge.Blocks(&e.work, x, b, 1, s.layers)
		share(seqs, n, time.Since(start), &s.seen.Cloud, func(q *sequence) *float64 { return &q.cloudSeconds })
		return x, err
	}

	onEdge, rest := make([]int, len(seqs)), make([]int, len(seqs))
	total, restTotal := 0, 0
	for i, q := range seqs {
		onEdge[i] = n[i]
		if w := s.method.MaxTokens; w > 0 {
			onEdge[i] = max(0, min(n[i], w-q.done))
		}
		rest[i] = n[i] - onEdge[i]
		total += n[i]
		restTotal += rest[i]
	}
	if err := e.reserve(&e.joined, total); err != nil {
		return nil, err
	}
	x := e.joined.Slice(0, total)

	// Edge: layers 1..l of the rows it serves.
	start := time.Now()
	b := &e.batch
	b.Reset()
	for i, q := range seqs {
		if onEdge[i] > 0 {
			b.AddPart(q.ids[q.done:q.done+onEdge[i]], q.done, q.length, q.cache)
		}
	}
	if b.Rows() > 0 {
		h, err := s.edge.Embed(&e.work, b)
		if err != nil {
			return nil, err
		}
		if err := s.edge.Blocks(&e.work, h, b, 1, l); err != nil {
			return nil, err
		}
		share(seqs, onEdge, time.Since(start), &s.seen.Edge, func(q *sequence) *float64 { return &q.edgeSeconds })
		start = time.Now()
		if err := s.send(x, h, seqs, onEdge, n); err != nil {
			return nil, err
		}
		share(seqs, onEdge, time.Since(start), &s.seen.Codec, func(q *sequence) *float64 { return &q.codecSeconds })
	}

	// Handover: the cloud goes on where the edge stopped.
	start = time.Now()
	cloud := e.model
	if restTotal > 0 {
		if err := s.handOver(seqs, onEdge, rest); err != nil {
			return nil, err
		}
		b.Reset()
		for i, q := range seqs {
			if rest[i] > 0 {
				from := q.done + onEdge[i]
				b.AddPart(q.ids[from:from+rest[i]], from, q.length, q.cache)
			}
		}
		h, err := cloud.Embed(&e.work, b)
		if err != nil {
			return nil, err
		}
		if err := cloud.Blocks(&e.work, h, b, 1, l); err != nil {
			return nil, err
		}
		row, src := 0, 0
		for i := range seqs {
			row += onEdge[i]
			if rest[i] > 0 {
				e.model.Backend.Copy(x.Slice(row, row+rest[i]), h.Slice(src, src+rest[i]))
			}
			row += rest[i]
			src += rest[i]
		}
	}

	// Cloud: layers l+1..L of all rows.
	b.Reset()
	for i, q := range seqs {
		b.AddPart(q.ids[q.done:q.done+n[i]], q.done, q.length, q.cache)
		q.done += n[i]
	}
	if err := cloud.Blocks(&e.work, x, b, l+1, s.layers); err != nil {
		return nil, err
	}
	share(seqs, n, time.Since(start), &s.seen.Cloud, func(q *sequence) *float64 { return &q.cloudSeconds })
	return x, nil
}

// share adds d to a total and to the sequences in proportion to their rows.
func share(seqs []*sequence, rows []int, d time.Duration, total *float64, of func(*sequence) *float64) {
	all := 0
	for _, n := range rows {
		all += n
	}
	if all == 0 {
		return
	}
	*total += d.Seconds()
	for i, q := range seqs {
		*of(q) += d.Seconds() * float64(rows[i]) / float64(all)
	}
}

// send moves the edge's boundary rows h to their places in x, through the
// codec when there is one: one message per sequence.
func (s *Session) send(x, h backend.Matrix, seqs []*sequence, onEdge, n []int) error {
	be, width := s.engine.model.Backend, h.Cols()
	exact := s.method.Codec == nil
	if !exact || s.Histogram != nil || s.Boundary != nil {
		s.host = grow(s.host, h.Rows()*width)
		be.Download(s.host, h)
	}
	row, src := 0, 0
	for i, q := range seqs {
		if c := onEdge[i]; c > 0 {
			dst := x.Slice(row, row+c)
			before := compress.Matrix{Rows: c, Cols: width}
			if s.host != nil {
				before.Data = s.host[src*width : (src+c)*width]
			}
			if s.Histogram != nil {
				s.Histogram.Add(before)
			}
			after := before
			if exact {
				be.Copy(dst, h.Slice(src, src+c))
			} else {
				restored, parts, err := s.transmit(before)
				if err != nil {
					return fmt.Errorf("boundary tensor at layer %d: %w", s.method.SplitLayer, err)
				}
				q.payload.Hidden.Add(parts)
				after = restored
				be.Upload(dst, restored.Data)
			}
			q.payload.Tokens += c
			if s.Boundary != nil {
				s.Boundary(before, after)
			}
		}
		row += n[i]
		src += onEdge[i]
	}
	return nil
}

// transmit encodes m and returns what the receiver decodes; the matrix is
// valid until the next call.
func (s *Session) transmit(m compress.Matrix) (compress.Matrix, compress.Parts, error) {
	msg, parts, err := s.method.Codec.Encode(s.msg[:0], m)
	if err != nil {
		return compress.Matrix{}, parts, err
	}
	s.msg = msg
	s.back = grow(s.back, len(m.Data))
	r, err := s.method.Codec.Decode(s.back, msg)
	return r, parts, err
}

// handOver gives the cloud the keys and values of layers 1..l for the rows
// that the edge served, of every sequence that leaves the edge now.
func (s *Session) handOver(seqs []*sequence, onEdge, rest []int) error {
	e, l := s.engine, s.method.SplitLayer
	b := &e.batch
	b.Reset()
	for i, q := range seqs {
		if rest[i] == 0 || q.crossed {
			continue
		}
		q.crossed = true
		rows := q.done + onEdge[i]
		if rows == 0 {
			continue
		}
		if !s.method.IncludeKV {
			b.AddPart(q.ids[:rows], 0, q.length, q.cache)
			continue
		}
		if s.method.Codec == nil {
			continue // sent exactly: the cache already holds them
		}
		c := e.model.Config
		width := c.KVHeads * c.HeadDim
		k, v := grow(s.kv[0], rows*width), grow(s.kv[1], rows*width)
		s.kv = [2][]float32{k, v}
		for layer := 0; layer < l; layer++ {
			q.cache.ReadKV(layer, 0, rows, k, v)
			for _, t := range [][]float32{k, v} {
				r, parts, err := s.transmit(compress.Matrix{Rows: rows, Cols: width, Data: t})
				if err != nil {
					return fmt.Errorf("keys and values of layer %d: %w", layer+1, err)
				}
				q.payload.KV.Add(parts)
				copy(t, r.Data)
			}
			q.cache.WriteKV(layer, 0, rows, k, v)
		}
	}
	if b.Rows() == 0 {
		return nil
	}
	h, err := e.model.Embed(&e.work, b)
	if err != nil {
		return err
	}
	return e.model.Blocks(&e.work, h, b, 1, l)
}

func (e *Engine) reserve(m *backend.Matrix, rows int) error {
	if *m != nil && (*m).Rows() >= rows {
		return nil
	}
	a, err := e.model.Backend.Alloc(rows, e.model.Config.HiddenSize)
	if err == nil {
		*m = a
	}
	return err
}

func grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

// Request asks for the log-probabilities of Targets, predicted by the last
// len(Targets) rows of Input.
type Request struct {
	Input   []int32
	Targets []int32
}

// Answer is the score of a Request.
type Answer struct {
	LogProb       float64   // sum over the targets, natural logarithm
	TokenLogProbs []float64 // per target
	Argmax        []int32   // most probable token at each target's place
	Greedy        bool      // every target is the most probable token
	Payload       Payload
	EdgeSeconds, CodecSeconds,
	CloudSeconds float64 // measured; a batch's time is shared out by rows
}

// Score answers all requests, in their order. Requests are computed longest
// first in batches of the engine's rows; equal inputs once. No answer depends
// on the others. Cancelling ctx stops between batches.
func (s *Session) Score(ctx context.Context, reqs []Request) ([]Answer, error) {
	answers := make([]Answer, len(reqs))
	// Requests with one input are computed together.
	groups := map[string][]int{}
	var order []string
	for i, r := range reqs {
		if len(r.Targets) == 0 || len(r.Targets) > len(r.Input) {
			return nil, fmt.Errorf("request %d has %d targets for %d input tokens", i, len(r.Targets), len(r.Input))
		}
		k := inputKey(r.Input)
		if _, ok := groups[k]; !ok {
			order = append(order, k)
		}
		groups[k] = append(groups[k], i)
	}
	sort.SliceStable(order, func(i, j int) bool { return len(order[i]) > len(order[j]) })
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows, n := 0, 0
		for n < len(order) && (n == 0 || rows+len(order[n])/4 <= s.engine.batchRows) {
			rows += len(order[n]) / 4
			n++
		}
		batch := make([][]int, n)
		for i, k := range order[:n] {
			batch[i] = groups[k]
		}
		order = order[n:]
		if err := s.scoreBatch(reqs, batch, answers); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// inputKey has four bytes per id.
func inputKey(ids []int32) string {
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = append(b, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	return string(b)
}

func (s *Session) scoreBatch(reqs []Request, batch [][]int, answers []Answer) error {
	e := s.engine
	seqs, n := make([]*sequence, len(batch)), make([]int, len(batch))
	defer func() {
		for _, q := range seqs {
			if q != nil {
				e.giveCache(q.cache)
			}
		}
	}()
	needed := map[int]bool{}
	for _, g := range batch {
		needed[cacheCapacity(len(reqs[g[0]].Input))] = true
	}
	e.trimCaches(needed)
	scoredRows := 0
	span := make([]int, len(batch)) // rows to score: the longest target list of the group
	for i, g := range batch {
		c, err := e.takeCache(len(reqs[g[0]].Input))
		if err != nil {
			return err
		}
		seqs[i] = &sequence{ids: reqs[g[0]].Input, length: len(reqs[g[0]].Input), cache: c}
		n[i] = len(seqs[i].ids)
		for _, r := range g {
			span[i] = max(span[i], len(reqs[r].Targets))
		}
		scoredRows += span[i]
	}
	x, err := s.advance(seqs, n)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := e.reserve(&e.scored, scoredRows); err != nil {
		return err
	}
	scored := e.scored.Slice(0, scoredRows)
	var targets []backend.Target
	row, src := 0, 0
	for i, g := range batch {
		src += n[i]
		e.model.Backend.Copy(scored.Slice(row, row+span[i]), x.Slice(src-span[i], src))
		for _, r := range g {
			skip := span[i] - len(reqs[r].Targets)
			for j, id := range reqs[r].Targets {
				targets = append(targets, backend.Target{Row: int32(row + skip + j), ID: id})
			}
		}
		row += span[i]
	}
	index := make([]int, len(targets))
	for i := range index {
		index[i] = i
	}
	sort.SliceStable(index, func(i, j int) bool { return targets[index[i]].Row < targets[index[j]].Row })
	sorted := make([]backend.Target, len(targets))
	for i, j := range index {
		sorted[i] = targets[j]
	}
	e.model.Normalise(scored, scored)
	got := make([]backend.TokenScore, len(targets))
	if err := e.model.LogProbs(got, scored, sorted); err != nil {
		return err
	}
	scores := make([]backend.TokenScore, len(targets))
	for i, j := range index {
		scores[j] = got[i]
	}
	share(seqs, n, time.Since(start), &s.seen.Cloud, func(q *sequence) *float64 { return &q.cloudSeconds })
	next := 0
	for i, g := range batch {
		q := seqs[i]
		for _, r := range g {
			a := Answer{Greedy: true, Payload: q.payload, EdgeSeconds: q.edgeSeconds / float64(len(g)), CodecSeconds: q.codecSeconds / float64(len(g)), CloudSeconds: q.cloudSeconds / float64(len(g))}
			for _, id := range reqs[r].Targets {
				t := scores[next]
				next++
				a.LogProb += t.LogProb
				a.TokenLogProbs = append(a.TokenLogProbs, t.LogProb)
				a.Argmax = append(a.Argmax, t.Argmax)
				a.Greedy = a.Greedy && t.Argmax == id
			}
			answers[r] = a
		}
	}
	return nil
}
