package exec

import (
	"time"

	"splitbench/compress"
	"splitbench/models/backend"
	"splitbench/models/decoder"
)

// segment is a run of rows [from, to) of one text. The rows before from were
// computed by other segments in the same cache: by earlier steps of a
// generation, or by the beginning that several texts share.
type segment struct {
	ids      []int32 // of the text, to rows at least
	from, to int
	length   int // positions of the text in all: edge and cloud choose rotations by it
	edgeEnd  int // rows before it are the edge's
	cache    backend.Cache
	// crosses says that the cloud takes over behind row edgeEnd of this text
	// now and needs the keys and values of the rows before.
	crosses bool

	before  []float32 // boundary rows [from, edgeEnd) as the edge has them
	after   []float32 // the same as the cloud gets them
	kv      []float32 // keys and values that are handed over: per layer those of rows [0, edgeEnd)
	kvAfter []float32 // the same as the cloud gets them
	payload Payload

	parent   *segment // whose boundary rows come before this one's in the message; nil: none do
	leaves   int      // segments that go on behind this one and share its time
	requests []int    // of Score: requests with this text as their input
	span     int      // of Score: last rows that are scored

	edgeSeconds, codecSeconds, cloudSeconds float64
}

// edgeRows is how many of the segment's rows the edge computes.
func (g *segment) edgeRows() int { return max(0, g.edgeEnd-g.from) }

// served is how many leading rows of a text of n rows the edge serves.
func (m Method) served(n int) int {
	switch {
	case m.SplitLayer == 0:
		return 0
	case m.MaxTokens == 0:
		return n
	}
	return min(n, m.MaxTokens)
}

// edgePass computes layers 1..l of the segments' edge rows and writes them to
// dst, which becomes the segments' before. It returns what is left of dst.
func (s *Session) edgePass(segs []*segment, dst []float32) ([]float32, error) {
	e := s.engine
	b := &e.batch
	b.Reset()
	for _, g := range segs {
		if g.edgeRows() > 0 {
			b.AddPart(g.ids[g.from:g.edgeEnd], g.from, g.length, g.cache)
		}
	}
	if b.Rows() == 0 {
		s.sliceBoundary(segs, nil)
		return dst, nil
	}
	start := time.Now()
	h, err := s.edge.Embed(&e.work, b)
	if err != nil {
		return nil, err
	}
	if err := s.edge.Blocks(&e.work, h, b, 1, s.method.SplitLayer); err != nil {
		return nil, err
	}
	n := h.Rows() * h.Cols()
	e.model.Backend.Download(dst[:n], h)
	s.sliceBoundary(segs, dst[:n])
	share(segs, (*segment).edgeRows, time.Since(start), &s.seen.Edge, func(g *segment) *float64 { return &g.edgeSeconds })
	return dst[n:], nil
}

// sliceBoundary gives the segments their boundary rows out of rows, in order.
func (s *Session) sliceBoundary(segs []*segment, rows []float32) (rest []float32) {
	for _, g := range segs {
		n := g.edgeRows() * s.engine.model.Config.HiddenSize
		g.before, rows = rows[:n:n], rows[n:]
	}
	return rows
}

// cloudPass computes what is left of the segments' rows: all layers of those
// that the edge did not serve, the layers after l of the others, from their
// restored boundary rows. It returns the residual stream after the last
// layer, the rows of the segments end to end, valid until the next pass.
func (s *Session) cloudPass(segs []*segment) (backend.Matrix, error) {
	e, l := s.engine, s.method.SplitLayer
	start := time.Now()
	model := s.cloud
	if err := s.recompute(model, segs); err != nil {
		return nil, err
	}
	b := &e.batch
	b.Reset()
	total, edgeRows := 0, 0
	for _, g := range segs {
		total += g.to - g.from
		n := g.edgeRows()
		edgeRows += n
		if from := g.from + n; from < g.to {
			b.AddPart(g.ids[from:g.to], from, g.length, g.cache)
		}
	}
	if total == 0 {
		return nil, nil
	}
	var h backend.Matrix
	if b.Rows() > 0 {
		var err error
		if h, err = model.Embed(&e.work, b); err != nil {
			return nil, err
		}
		upTo := l
		if edgeRows == 0 {
			upTo = s.layers
		}
		if err := model.Blocks(&e.work, h, b, 1, upTo); err != nil {
			return nil, err
		}
	}
	x := h
	if edgeRows > 0 {
		if err := e.reserve(&e.joined, total); err != nil {
			return nil, err
		}
		x = e.joined.Slice(0, total)
		b.Reset()
		row, src := 0, 0
		for _, g := range segs {
			if n := g.edgeRows(); n > 0 {
				model.Backend.Upload(x.Slice(row, row+n), g.after)
				row += n
			}
			if n := g.to - g.from - g.edgeRows(); n > 0 {
				model.Backend.Copy(x.Slice(row, row+n), h.Slice(src, src+n))
				row, src = row+n, src+n
			}
			b.AddPart(g.ids[g.from:g.to], g.from, g.length, g.cache)
		}
		if err := model.Blocks(&e.work, x, b, l+1, s.layers); err != nil {
			return nil, err
		}
	}
	share(segs, (*segment).rows, time.Since(start), &s.seen.Cloud, func(g *segment) *float64 { return &g.cloudSeconds })
	return x, nil
}

func (g *segment) rows() int { return g.to - g.from }

// recompute makes the keys and values of layers 1..l of the rows that the edge
// served anew from the token ids, for the texts that leave the edge without
// bringing them (I_kv = 0).
func (s *Session) recompute(model *decoder.Model, segs []*segment) error {
	if s.method.IncludeKV {
		return nil
	}
	e := s.engine
	b := &e.batch
	b.Reset()
	for _, g := range segs {
		if g.crosses && g.edgeEnd > 0 {
			b.AddPart(g.ids[:g.edgeEnd], 0, g.length, g.cache)
		}
	}
	if b.Rows() == 0 {
		return nil
	}
	h, err := model.Embed(&e.work, b)
	if err != nil {
		return err
	}
	return model.Blocks(&e.work, h, b, 1, s.method.SplitLayer)
}

// readKV copies the keys and values that cross with the segments out of their
// caches: dst has room for them and becomes their kv.
func (s *Session) readKV(segs []*segment, dst []float32) {
	for _, g := range segs {
		n := s.kvSize(g)
		g.kv, dst = dst[:n:n], dst[n:]
		s.eachKV(g, g.kv, func(layer int, k, v []float32) { g.cache.ReadKV(layer, 0, g.edgeEnd, k, v) })
	}
}

// writeKV puts the keys and values that the cloud received into its caches.
func (s *Session) writeKV(segs []*segment) {
	for _, g := range segs {
		s.eachKV(g, g.kvAfter, func(layer int, k, v []float32) { g.cache.WriteKV(layer, 0, g.edgeEnd, k, v) })
	}
}

// kvSize is how many values of keys and values are sent with a segment.
func (s *Session) kvSize(g *segment) int {
	if !g.crosses || !s.method.IncludeKV {
		return 0
	}
	return 2 * s.method.SplitLayer * g.edgeEnd * s.engine.model.Config.KVWidth()
}

// eachKV calls do with the keys and the values of every layer (0-based) in
// kv; nothing when the segment sends none.
func (s *Session) eachKV(g *segment, kv []float32, do func(layer int, k, v []float32)) {
	n := s.kvSize(g) / 2 / max(1, s.method.SplitLayer)
	for layer := 0; n > 0 && layer < s.method.SplitLayer; layer++ {
		do(layer, kv[2*layer*n:(2*layer+1)*n], kv[(2*layer+1)*n:(2*layer+2)*n])
	}
}

// share adds d to a total and to the segments in proportion to their rows.
func share(segs []*segment, rows func(*segment) int, d time.Duration, total *float64, of func(*segment) *float64) {
	all := 0
	for _, g := range segs {
		all += rows(g)
	}
	if all == 0 {
		return
	}
	*total += d.Seconds()
	for _, g := range segs {
		*of(g) += d.Seconds() * float64(rows(g)) / float64(all)
	}
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

// hiddenMatrix is rows of the residual stream as the codec sees them.
func (s *Session) hiddenMatrix(data []float32) compress.Matrix {
	width := s.engine.model.Config.HiddenSize
	return compress.Matrix{Rows: len(data) / width, Cols: width, Data: data}
}
