package quantise

import (
	"context"
	"fmt"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// walk takes sequences through a model, each by itself.
type walk struct {
	model *decoder.Model
	work  decoder.Workspace
	cache backend.Cache
	norm  backend.Matrix // of the longest sequence
}

// newWalk returns a walk for sequences up to the longest of those given.
func newWalk(m *decoder.Model, sequences [][]int32) (*walk, error) {
	longest := 1
	for _, ids := range sequences {
		longest = max(longest, len(ids))
	}
	w := &walk{model: m}
	var err error
	if w.cache, err = m.NewCache(longest); err != nil {
		return nil, err
	}
	w.norm, err = m.Backend.Alloc(longest, m.Config.HiddenSize)
	return w, err
}

// blocks takes a sequence through the blocks. It shows the residual stream
// before the first block, as layer 0, and after each; see may be nil.
func (w *walk) blocks(ctx context.Context, ids []int32, see func(layer int, x backend.Matrix) error) (backend.Matrix, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("a sequence without tokens")
	}
	var b decoder.Batch
	b.Add(ids, 0, w.cache)
	x, err := w.model.Embed(&w.work, &b)
	if err != nil {
		return nil, err
	}
	if see == nil {
		return x, w.model.Blocks(&w.work, x, &b, 1, w.model.Config.Layers)
	}
	for k := 0; ; k++ {
		if err := see(k, x); err != nil || k == w.model.Config.Layers {
			return x, err
		}
		if err := w.model.Blocks(&w.work, x, &b, k+1, k+1); err != nil {
			return nil, err
		}
	}
}

// final takes a sequence through the blocks and the final norm. The rows are
// valid until the next call.
func (w *walk) final(ctx context.Context, ids []int32) (backend.Matrix, error) {
	x, err := w.blocks(ctx, ids, nil)
	if err != nil {
		return nil, err
	}
	n := w.norm.Slice(0, len(ids))
	w.model.Normalise(n, x)
	return n, nil
}

// TokenLoss returns -log p, natural logarithm, of the second and later tokens
// of every sequence, each sequence computed by itself.
func TokenLoss(ctx context.Context, m *decoder.Model, sequences [][]int32) ([][]float64, error) {
	var all [][]float64
	w, err := newWalk(m, sequences)
	if err != nil {
		return nil, err
	}
	for _, ids := range sequences {
		n, err := w.final(ctx, ids)
		if err != nil {
			return nil, err
		}
		var targets []backend.Target
		for i, id := range ids[1:] {
			targets = append(targets, backend.Target{Row: int32(i), ID: id})
		}
		scores := make([]backend.TokenScore, len(targets))
		if err := m.LogProbs(scores, n, targets); err != nil {
			return nil, err
		}
		loss := make([]float64, len(scores))
		for i, s := range scores {
			loss[i] = -s.LogProb
		}
		all = append(all, loss)
	}
	return all, nil
}

// MeanLoss is the mean of TokenLoss over all tokens: the logarithm of the
// perplexity.
func MeanLoss(ctx context.Context, m *decoder.Model, sequences [][]int32) (float64, error) {
	all, err := TokenLoss(ctx, m, sequences)
	var sum float64
	n := 0
	for _, s := range all {
		for _, v := range s {
			sum += v
		}
		n += len(s)
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("no token to predict: want sequences of at least 2 tokens")
	}
	return sum / float64(max(1, n)), err
}

// sweep returns the alpha of a sweep with the least loss on the calibration
// sequences, the first of equals.
func sweep(ctx context.Context, c *checkpoint.Checkpoint, be backend.Backend, m quantize.Method, calibration [][]int32) (float64, error) {
	var best, least float64
	for i, alpha := range m.Smooth.Sweep {
		m.Smooth = &quantize.SmoothOptions{Alpha: alpha}
		model, _, err := Model(ctx, c, be, m, calibration, Options{})
		if err != nil {
			return 0, err
		}
		loss, err := MeanLoss(ctx, model, calibration)
		if err != nil {
			return 0, fmt.Errorf("alpha %v: %w", alpha, err)
		}
		if i == 0 || loss < least {
			best, least = alpha, loss
		}
	}
	return best, nil
}
