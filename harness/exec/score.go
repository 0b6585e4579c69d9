package exec

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"splitbench/models/backend"
)

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

// Score answers all requests, in their order. Equal inputs are computed once,
// and so is the beginning of inputs that start alike; they go longest first in
// batches of the engine's rows. No answer depends on the others or on what was
// shared. Cancelling ctx stops between batches.
func (s *Session) Score(ctx context.Context, reqs []Request) ([]Answer, error) {
	total := 0
	for i, r := range reqs {
		if len(r.Targets) == 0 || len(r.Targets) > len(r.Input) {
			return nil, fmt.Errorf("request %d has %d targets for %d input tokens", i, len(r.Targets), len(r.Input))
		}
		total += len(r.Targets)
	}
	w := scoring{cloud: s.method.Cloud, reqs: reqs, answers: make([]Answer, len(reqs)), scores: make([][]backend.TokenScore, len(reqs))}
	scores := make([]backend.TokenScore, total)
	for i, r := range reqs {
		n := len(r.Targets)
		w.scores[i], scores = scores[:n:n], scores[n:]
	}
	for fams := s.families(reqs); len(fams) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows, n := 0, 0
		for n < len(fams) && (n == 0 || rows+fams[n].longest() <= s.engine.batchRows) {
			rows += fams[n].longest()
			n++
		}
		if err := s.scoreBatch(&w, fams[:n]); err != nil {
			return nil, err
		}
		fams = fams[n:]
	}
	logProbs, argmax := make([]float64, total), make([]int32, total)
	for i, r := range reqs {
		a, n := &w.answers[i], len(r.Targets)
		a.TokenLogProbs, logProbs = logProbs[:n:n], logProbs[n:]
		a.Argmax, argmax = argmax[:n:n], argmax[n:]
		a.Greedy = true
		for j, t := range w.scores[i] {
			a.LogProb += t.LogProb
			a.TokenLogProbs[j], a.Argmax[j] = t.LogProb, t.Argmax
			a.Greedy = a.Greedy && t.Argmax == r.Targets[j]
		}
	}
	return w.answers, nil
}

// scoring is one call of Score.
type scoring struct {
	cloud   string // Method.Cloud
	reqs    []Request
	answers []Answer
	scores  [][]backend.TokenScore // per request and target
	targets []target
	sorted  []backend.Target
	got     []backend.TokenScore
}

// target is a token to score and the place of its score.
type target struct {
	backend.Target
	score *backend.TokenScore
}

// longest is the number of rows of a family's longest text.
func (f *family) longest() int { return f.leaves[0].to }

// maxLeaves bounds the leaves of a family: they are computed one after the
// other, beside those of the batch's other families.
const maxLeaves = 16

// families finds the different inputs of the requests and puts those together
// that share a beginning worth it, longest first.
func (s *Session) families(reqs []Request) []*family {
	texts := s.texts(reqs)
	var fams []*family
	if s.Unshared {
		for _, g := range texts {
			fams = append(fams, &family{leaves: []*segment{g}})
		}
	} else {
		common := make([]int, len(texts)) // tokens that a text has in common with the one before
		for i := 1; i < len(texts); i++ {
			common[i] = s.common(texts[i-1], texts[i])
		}
		runs, _ := s.cut(nil, texts, common, 0, len(texts))
		for _, r := range runs {
			fams = s.appendFamilies(fams, texts[r.from:r.to], r.shared)
		}
	}
	for _, f := range fams {
		slices.SortStableFunc(f.leaves, func(a, b *segment) int { return b.to - a.to })
		f.first = len(reqs)
		for _, g := range f.leaves {
			f.first = min(f.first, g.requests[0])
			g.edgeEnd = s.method.served(g.to)
		}
		s.join(f)
	}
	slices.SortFunc(fams, func(a, b *family) int {
		return cmp.Or(b.longest()-a.longest(), a.first-b.first)
	})
	return fams
}

// texts returns the different inputs, those with one set of rotations side by
// side in the order of their tokens.
func (s *Session) texts(reqs []Request) []*segment {
	order := make([]int, len(reqs))
	for i := range order {
		order[i] = i
	}
	model := s.engine.model
	slices.SortFunc(order, func(i, j int) int {
		a, b := reqs[i].Input, reqs[j].Input
		return cmp.Or(model.LengthClass(len(a))-model.LengthClass(len(b)), slices.Compare(a, b), i-j)
	})
	var texts []*segment
	for _, i := range order {
		in := reqs[i].Input
		if n := len(texts); n == 0 || !slices.Equal(texts[n-1].ids, in) {
			texts = append(texts, &segment{ids: in, to: len(in), length: len(in)})
		}
		g := texts[len(texts)-1]
		g.requests = append(g.requests, i)
		g.span = max(g.span, len(reqs[i].Targets))
	}
	return texts
}

// common is how many leading rows of two texts are equal.
func (s *Session) common(a, b *segment) int {
	if s.engine.model.LengthClass(a.length) != s.engine.model.LengthClass(b.length) {
		return 0
	}
	n := min(len(a.ids), len(b.ids))
	for i := range n {
		if a.ids[i] != b.ids[i] {
			return i
		}
	}
	return n
}

// run is texts [from, to) with a common beginning.
type run struct{ from, to, shared int }

// cut appends the runs of texts [from, to) that save most rows, with one level
// of sharing, and returns how many they save.
func (s *Session) cut(runs []run, texts []*segment, common []int, from, to int) ([]run, int) {
	if from == to {
		return runs, 0
	}
	if to-from == 1 {
		return append(runs, run{from, to, 0}), 0
	}
	shared := slices.Min(common[from+1 : to])
	before, parts := len(runs), 0
	start := from
	for i := from + 1; i <= to; i++ {
		if i == to || common[i] == shared {
			var saved int
			runs, saved = s.cut(runs, texts, common, start, i)
			parts += saved
			start = i
		}
	}
	if whole := s.saving(texts[from:to], shared); whole > parts {
		return append(runs[:before], run{from, to, shared}), whole
	}
	return runs, parts
}

// saving is how many rows texts need not compute when they share their first
// rows. Less than a quarter of the longest text is not worth the smaller
// batches.
func (s *Session) saving(texts []*segment, shared int) int {
	n, longest := 0, 0
	for _, g := range texts {
		longest = max(longest, g.to)
		if s.mayShare(g, shared) {
			n++
		}
	}
	if 4*shared < longest || n == 0 {
		return 0
	}
	return (n - (n+maxLeaves-1)/maxLeaves) * shared
}

// mayShare says whether a text can go on behind a prefix in the prefix's
// cache. It cannot when the edge serves it beyond the prefix and then stops:
// what the cloud gets of keys and values would take the prefix's place.
func (s *Session) mayShare(g *segment, prefix int) bool {
	w := s.method.served(g.to)
	return w == 0 || w == g.to || prefix >= w
}

// appendFamilies makes families of texts whose first shared rows are equal.
func (s *Session) appendFamilies(fams []*family, texts []*segment, shared int) []*family {
	var open *family
	for _, g := range texts {
		if shared == 0 || !s.mayShare(g, shared) {
			fams = append(fams, &family{leaves: []*segment{g}})
			continue
		}
		if open == nil || len(open.leaves) == maxLeaves {
			open = &family{prefix: &segment{ids: g.ids, to: shared, length: g.length}}
			fams = append(fams, open)
		}
		open.leaves = append(open.leaves, g)
	}
	return fams
}

// join settles which segment of a family computes what; the leaves know what
// the edge serves of them.
func (s *Session) join(f *family) {
	if len(f.leaves) == 1 {
		f.prefix = nil
	}
	p := f.prefix
	if p == nil {
		g := f.leaves[0]
		g.crosses = s.method.SplitLayer > 0 && g.to > g.edgeEnd
		return
	}
	p.edgeEnd = s.method.served(p.to)
	p.leaves = len(f.leaves)
	f.prefixSends = s.method.MaxTokens > 0 && p.to >= s.method.MaxTokens
	for _, g := range f.leaves {
		g.from = p.to
		if f.prefixSends {
			p.crosses = p.crosses || g.to > g.edgeEnd
		} else {
			g.parent = p
		}
	}
}

// scoreBatch computes families and fills in the answers of their requests.
func (s *Session) scoreBatch(w *scoring, fams []*family) error {
	e := s.engine
	defer func() {
		for _, f := range fams {
			if c := f.leaves[0].cache; c != nil {
				e.giveCache(c)
			}
		}
	}()
	var prefixes []*segment
	var rounds [][]*segment // the first leaf of every family, the second, ...
	for _, f := range fams {
		c, err := e.takeCache(f.longest())
		if err != nil {
			return err
		}
		for _, g := range f.segments() {
			g.cache = c
		}
		if f.prefix != nil {
			prefixes = append(prefixes, f.prefix)
		}
		for i, g := range f.leaves {
			if i == len(rounds) {
				rounds = append(rounds, nil)
			}
			if g.rows() > 0 {
				rounds[i] = append(rounds[i], g)
			}
		}
	}
	var held *heldBatch
	known := false
	if s.method.SplitLayer > 0 {
		var err error
		if held, err = s.crossBoundary(fams, prefixes, rounds); err != nil {
			return err
		}
		known = held.recall(w, fams)
	}
	if !known {
		if err := s.finish(w, fams, prefixes, rounds); err != nil {
			return err
		}
		e.store.remember(held, w, fams)
	}
	for _, f := range fams {
		for _, g := range f.leaves {
			edge, codec, cloud := g.edgeSeconds, g.codecSeconds, g.cloudSeconds
			if p := f.prefix; p != nil {
				n := float64(p.leaves)
				edge, codec, cloud = edge+p.edgeSeconds/n, codec+p.codecSeconds/n, cloud+p.cloudSeconds/n
			}
			n := float64(len(g.requests))
			for _, r := range g.requests {
				a := &w.answers[r]
				a.Payload, a.EdgeSeconds, a.CodecSeconds, a.CloudSeconds = g.payload, edge/n, codec/n, cloud/n
			}
		}
	}
	return nil
}

// crossBoundary runs the edge, or takes what an earlier session kept of it,
// and sends the boundary rows. It returns what is kept of the batch, nil when
// nothing is.
func (s *Session) crossBoundary(fams []*family, prefixes []*segment, rounds [][]*segment) (held *heldBatch, err error) {
	e := s.engine
	values, kv := 0, 0
	var crossing []*segment
	for _, f := range fams {
		for _, g := range f.segments() {
			values += g.edgeRows() * e.model.Config.HiddenSize
			if n := s.kvSize(g); n > 0 {
				kv += n
				crossing = append(crossing, g)
			}
		}
	}
	hit := false
	if !s.Unshared && (s.Keep || len(e.store.batches) > 0) {
		held, hit = e.store.find(s.batchKey(fams), values, kv, s.Keep)
	}
	switch {
	case hit:
		s.sharedEdge = true
		rows := s.sliceBoundary(prefixes, held.rows)
		for _, r := range rounds {
			rows = s.sliceBoundary(r, rows)
		}
		kept := held.kv
		for _, g := range crossing {
			n := s.kvSize(g)
			g.kv, kept = kept[:n:n], kept[n:]
		}
	default:
		var rows, kept []float32
		if held != nil {
			rows, kept = held.rows, held.kv
		} else {
			s.host = grow(s.host, values)
			rows = s.host
		}
		if rows, err = s.edgePass(prefixes, rows); err != nil {
			return nil, err
		}
		for _, r := range rounds {
			if rows, err = s.edgePass(r, rows); err != nil {
				return nil, err
			}
		}
		if kv > 0 && (held != nil || s.method.Codec != nil) {
			if held == nil {
				s.kv = grow(s.kv, kv)
				kept = s.kv
			}
			s.readKV(crossing, kept)
		}
	}
	histogram := s.Histogram
	if held != nil {
		histogram = &held.histogram
		if hit {
			histogram = nil // counted already
		}
	}
	if err := s.send(fams, histogram, held != nil); err != nil {
		return nil, err
	}
	if held != nil && s.Histogram != nil {
		s.Histogram.Merge(&held.histogram)
	}
	if hit || s.method.Codec != nil {
		s.writeKV(crossing)
	}
	return held, nil
}

// finish runs the cloud on a batch and scores its targets.
func (s *Session) finish(w *scoring, fams []*family, prefixes []*segment, rounds [][]*segment) error {
	attached := func(f *family) []*segment {
		var out []*segment
		for _, g := range f.leaves {
			if !slices.Contains(f.detached, g) {
				out = append(out, g)
			}
		}
		return out
	}
	var texts [][]*segment
	apart := map[*segment]bool{}
	var late [][]*segment
	for _, f := range fams {
		if f.prefix != nil {
			texts = append(texts, attached(f))
		}
		for i, g := range f.detached {
			apart[g] = true
			if i == len(late) {
				late = append(late, nil)
			}
			late[i] = append(late[i], g)
		}
	}
	if err := s.scoreSegments(w, prefixes, texts); err != nil {
		return err
	}
	for _, r := range rounds {
		var segs []*segment
		for _, g := range r {
			if !apart[g] {
				segs = append(segs, g)
			}
		}
		if err := s.scoreSegments(w, segs, nil); err != nil {
			return err
		}
	}
	// What does not share the prefix's boundary rows overwrites its keys and
	// values, so it comes last.
	for _, segs := range late {
		for _, g := range segs {
			g.from = 0
		}
		if err := s.scoreSegments(w, segs, nil); err != nil {
			return err
		}
	}
	return nil
}

// scoreSegments runs the cloud on segments and scores the targets that their
// rows predict: those of texts[i] for segment i, or its own without texts.
func (s *Session) scoreSegments(w *scoring, segs []*segment, texts [][]*segment) error {
	if len(segs) == 0 {
		return nil
	}
	x, err := s.cloudPass(segs)
	if err != nil {
		return err
	}
	start := time.Now()
	e := s.engine
	textsOf := func(i int) []*segment {
		if texts != nil {
			return texts[i]
		}
		return segs[i : i+1]
	}
	firstScored := func(i int) int { // row of the text
		g, first := segs[i], segs[i].to
		for _, t := range textsOf(i) {
			first = min(first, max(g.from, t.to-t.span))
		}
		return first
	}
	rows := 0
	for i, g := range segs {
		rows += g.to - firstScored(i)
	}
	if rows == 0 {
		return nil
	}
	if err := e.reserve(&e.scored, rows); err != nil {
		return err
	}
	scored := e.scored.Slice(0, rows)
	w.targets = w.targets[:0]
	row, src := 0, 0
	for i, g := range segs {
		first := firstScored(i)
		n := g.to - first
		if n > 0 {
			e.model.Backend.Copy(scored.Slice(row, row+n), x.Slice(src+first-g.from, src+g.rows()))
		}
		for _, t := range textsOf(i) {
			for _, r := range t.requests {
				ids := w.reqs[r].Targets
				for j, id := range ids {
					if at := t.to - len(ids) + j; at >= first && at < g.to {
						w.targets = append(w.targets, target{backend.Target{Row: int32(row + at - first), ID: id}, &w.scores[r][j]})
					}
				}
			}
		}
		row += n
		src += g.rows()
	}
	slices.SortStableFunc(w.targets, func(a, b target) int { return int(a.Row - b.Row) })
	w.sorted, w.got = w.sorted[:0], w.got[:0]
	for _, t := range w.targets {
		w.sorted, w.got = append(w.sorted, t.Target), append(w.got, backend.TokenScore{})
	}
	s.cloud.Normalise(scored, scored)
	if err := s.cloud.LogProbs(w.got, scored, w.sorted); err != nil {
		return err
	}
	for i, t := range w.targets {
		*t.score = w.got[i]
	}
	share(segs, (*segment).rows, time.Since(start), &s.seen.Cloud, func(g *segment) *float64 { return &g.cloudSeconds })
	return nil
}
