package quantise

import (
	"context"
	"fmt"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// TokenLoss returns -log p, natural logarithm, of the second and later tokens
// of every sequence, each sequence computed by itself.
func TokenLoss(ctx context.Context, m *decoder.Model, sequences [][]int32) ([][]float64, error) {
	var all [][]float64
	var w decoder.Workspace
	longest := 0
	for _, ids := range sequences {
		longest = max(longest, len(ids))
	}
	cache, err := m.NewCache(longest)
	if err != nil {
		return nil, err
	}
	norm, err := m.Backend.Alloc(longest, m.Config.HiddenSize)
	if err != nil {
		return nil, err
	}
	for _, ids := range sequences {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var b decoder.Batch
		b.Add(ids, 0, cache)
		x, err := m.Embed(&w, &b)
		if err != nil {
			return nil, err
		}
		if err := m.Blocks(&w, x, &b, 1, m.Config.Layers); err != nil {
			return nil, err
		}
		n := norm.Slice(0, len(ids))
		m.Normalise(n, x)
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
