package exec

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"splitbench/models/backend"
)

// Sampling chooses the next token. Temperature 0 is greedy: the most probable
// token, the smallest id among equals.
type Sampling struct {
	Temperature float64
	TopP        float64 // nucleus mass in (0, 1]; 0 means 1
	Seed        uint64
}

// Token is one generated token.
type Token struct {
	ID      int32
	LogProb float64 // under the model's own distribution (temperature 1)
	Payload Payload // what was sent to compute it; the first token carries the prompt
}

// Generate continues prompt by up to maxNew tokens with a cache, and calls
// each for every token; it stops after a token for which stop is true. With a
// split method every step sends its row through the codec until MaxTokens
// rows were served.
func (s *Session) Generate(ctx context.Context, prompt []int32, maxNew int, sampling Sampling, stop func(int32) bool, each func(Token) error) error {
	if len(prompt) == 0 {
		return fmt.Errorf("the prompt has no tokens")
	}
	e := s.engine
	cache, err := e.takeCache(len(prompt) + maxNew)
	if err != nil {
		return err
	}
	defer e.giveCache(cache)
	q := &segment{ids: append([]int32(nil), prompt...), length: len(prompt) + maxNew, cache: cache}
	crossed := s.method.SplitLayer == 0
	if err := e.reserve(&e.scored, 1); err != nil {
		return err
	}
	vocab := e.model.Config.VocabSize
	out, err := e.model.Backend.Alloc(1, vocab)
	if err != nil {
		return err
	}
	logits := make([]float32, vocab)
	random := rand.New(rand.NewPCG(sampling.Seed, 0))
	for i := 0; i < maxNew; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		q.payload = Payload{}
		q.to = len(q.ids)
		q.edgeEnd = s.method.served(q.to)
		q.crosses = !crossed && q.to > q.edgeEnd
		crossed = crossed || q.crosses
		x, err := s.step(q)
		if err != nil {
			return err
		}
		q.from = q.to
		last := e.scored.Slice(0, 1)
		e.model.Backend.Copy(last, x.Slice(x.Rows()-1, x.Rows()))
		s.cloud.Normalise(last, last)
		s.cloud.Logits(out, last)
		e.model.Backend.Download(logits, out)
		if err := e.model.Backend.Sync(); err != nil {
			return err
		}
		id := sampling.pick(logits, random)
		score := make([]backend.TokenScore, 1)
		if err := s.cloud.LogProbs(score, last, []backend.Target{{Row: 0, ID: id}}); err != nil {
			return err
		}
		if err := each(Token{ID: id, LogProb: score[0].LogProb, Payload: q.payload}); err != nil {
			return err
		}
		if stop(id) {
			return nil
		}
		q.ids = append(q.ids, id)
	}
	return nil
}

// step computes the rows of one segment on both sides of the link; what the
// edge serves of them is one message. It returns the residual stream after the
// last layer.
func (s *Session) step(g *segment) (backend.Matrix, error) {
	segs := []*segment{g}
	if s.method.SplitLayer > 0 {
		s.host = grow(s.host, g.edgeRows()*s.engine.model.Config.HiddenSize)
		if _, err := s.edgePass(segs, s.host); err != nil {
			return nil, err
		}
		g.kv = nil
		if n := s.kvSize(g); n > 0 && s.method.Codec != nil {
			s.kv = grow(s.kv, n)
			s.readKV(segs, s.kv)
		}
		if err := s.send([]*family{{leaves: segs}}, s.Histogram, false); err != nil {
			return nil, err
		}
		if g.kv != nil {
			s.writeKV(segs)
		}
	}
	return s.cloudPass(segs)
}

// pick draws from softmax(logits/temperature) cut to the nucleus; ties in the
// order fall to the smaller id, so a seed gives one text.
func (sa Sampling) pick(logits []float32, random *rand.Rand) int32 {
	if sa.Temperature == 0 {
		best := 0
		for i, v := range logits {
			if v > logits[best] {
				best = i
			}
		}
		return int32(best)
	}
	ids := make([]int, len(logits))
	top := float32(math.Inf(-1))
	for i, v := range logits {
		ids[i] = i
		top = max(top, v)
	}
	sort.SliceStable(ids, func(i, j int) bool { return logits[ids[i]] > logits[ids[j]] })
	weights, sum := make([]float64, len(ids)), 0.0
	for i, id := range ids {
		weights[i] = math.Exp(float64(logits[id]-top) / sa.Temperature)
		sum += weights[i]
	}
	limit := sum
	if sa.TopP > 0 && sa.TopP < 1 {
		mass := 0.0
		for i, w := range weights {
			mass += w
			if mass >= sa.TopP*sum {
				ids, limit = ids[:i+1], mass
				break
			}
		}
	}
	u := random.Float64() * limit
	for i, id := range ids {
		u -= weights[i]
		if u < 0 {
			return int32(id)
		}
	}
	return int32(ids[len(ids)-1])
}
