package quantise

import (
	"context"

	"splitbench/models/backend"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// awq searches the scales and clips of a block (AWQ) on the inputs that the
// original model gives, and takes these through the block as it was.
func (r *run) awq(ctx context.Context, k int, b *Block) (loss float64, err error) {
	q, ok := r.m.WeightQuantizer()
	if !ok {
		return 0, nil
	}
	l, err := b.layer(r.be, nil)
	if err != nil {
		return 0, err
	}
	stats, features, err := r.features(ctx, k, l)
	if err != nil {
		return 0, err
	}
	s := &scaleSearch{run: r, ctx: ctx, k: k, b: b, layer: l, q: q, features: features}
	if r.m.AWQ.Scale {
		if loss, err = s.scale(stats); err != nil {
			return 0, err
		}
	}
	if err := r.s.run(ctx, k, l, r.full, true); err != nil {
		return 0, err
	}
	if r.m.AWQ.Clip {
		return loss, s.clip()
	}
	return loss, nil
}

// features gathers the inputs of the linear maps, all tokens by rows.
func (r *run) features(ctx context.Context, k int, l decoder.Layer) (stats [4]*quantize.Statistics, features [4][]float32, err error) {
	for i, n := range [4]int{r.config.HiddenSize, r.config.QueryWidth(), r.config.HiddenSize, r.config.IntermediateSize} {
		stats[i] = quantize.NewStatistics(n)
	}
	err = r.s.observe(ctx, k, l, r.full, false, []int{0, 1, 2, 3}, func(i int, x []float32, _ []int) error {
		features[i] = append(features[i], x...)
		return stats[i].Add(x, len(x)/len(stats[i].AbsMax))
	})
	return stats, features, err
}

// scaleSearch is the search of one block.
type scaleSearch struct {
	*run
	ctx      context.Context
	k        int
	b        *Block
	layer    decoder.Layer
	q        quantize.Quantizer
	features [4][]float32
}

// trial puts AWQ's trial weight of linear map i on the backend.
func (s *scaleSearch) trial(i int, scales []float32) (backend.Weight, error) {
	l := &s.b.Linears[i]
	w := make([]float32, len(l.Values))
	if err := quantize.AWQTrial(w, l.Values, scales, s.q); err != nil {
		return nil, err
	}
	return newWeight(s.be, w, l.Out, l.In)
}

// scale searches the scales of the four inputs, all on the block as it is, then
// applies them: to the norms, to the rows of v where they match the inputs of o
// one to one, and to the rows of up.
func (s *scaleSearch) scale(stats [4]*quantize.Statistics) (loss float64, err error) {
	v, o := &s.b.Linears[decoder.ValueMap], &s.b.Linears[decoder.OutputMap]
	var found [4][]float32
	for input, outputs := range [4]func(w []backend.Weight) ([]float32, error){s.attention, s.linear(1), s.mlp, s.linear(3)} {
		if input == 1 && (v.Out != o.Out || v.In != o.In) {
			continue // the original asks for equal shapes: with fewer KV heads there is no scale
		}
		var original []backend.Weight
		for _, i := range fed[input] {
			original = append(original, of(&s.layer, i).Weight)
		}
		want, err := outputs(original)
		if err != nil {
			return 0, err
		}
		var least float64
		found[input], _, least, err = quantize.SearchAWQScale(stats[input].AbsAverage(), func(scales []float32) (float64, error) {
			var w []backend.Weight
			for _, i := range fed[input] {
				t, err := s.trial(i, scales)
				if err != nil {
					return 0, err
				}
				w = append(w, t)
			}
			have, err := outputs(w)
			if err != nil {
				return 0, err
			}
			var sum float64
			for i, v := range have {
				d := float64(v - want[i])
				sum += float64(d * d)
			}
			return sum / float64(len(have)), nil
		})
		if err != nil {
			return 0, err
		}
		loss += least
	}
	for input, scales := range found {
		if scales == nil {
			continue
		}
		switch input {
		case 0, 2:
			quantize.ScaleColumns(s.b.Norms[input/2], scales, true)
		default:
			before := &s.b.Linears[decoder.ValueMap]
			if input == 3 {
				before = &s.b.Linears[decoder.UpMap]
			}
			quantize.ScaleRows(before.Values, scales, true)
			if before.Bias != nil {
				quantize.ScaleRows(before.Bias, scales, true)
			}
		}
		for _, i := range fed[input] {
			quantize.ScaleColumns(s.b.Linears[i].Values, scales, false)
		}
		quantize.ScaleColumns(s.features[input], scales, true)
	}
	return loss, nil
}

// attention returns the residual rows after attention with other weights of q,
// k and v: their change is that of the attention's output.
func (s *scaleSearch) attention(w []backend.Weight) ([]float32, error) {
	l := s.layer
	l.Query.Weight, l.Key.Weight, l.Value.Weight = w[0], w[1], w[2]
	var all []float32
	h := decoder.Hooks{}
	c := s.config
	c.IntermediateSize, c.MLPBias, c.Layers = 1, false, 1
	if c.Windows != nil {
		c.Windows = []int{c.WindowOf(s.k)}
	}
	var err error
	for _, m := range []struct {
		l       *decoder.Linear
		out, in int
	}{{&l.Gate, 1, c.HiddenSize}, {&l.Up, 1, c.HiddenSize}, {&l.Down, c.HiddenSize, 1}} {
		*m.l = decoder.Linear{}
		if m.l.Weight, err = newWeight(s.be, make([]float32, m.out*m.in), m.out, m.in); err != nil {
			return nil, err
		}
	}
	l.Hooks = &h
	m, err := decoder.Assemble(c, s.be, decoder.Parts{Embedding: s.s.embed, Layers: []decoder.Layer{l}, FinalNorm: s.s.norm})
	if err != nil {
		return nil, err
	}
	var work decoder.Workspace
	for i, x := range s.full {
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
		y := s.s.spare.Slice(0, x.Rows())
		s.be.Copy(y, x)
		if err := m.Blocks(&work, y, &s.s.batches[i], 1, 1); err != nil {
			return nil, err
		}
		at := len(all)
		all = append(all, make([]float32, x.Rows()*x.Cols())...)
		s.be.Download(all[at:], y)
	}
	return all, nil
}

// pieces calls f for runs of an input's rows, at most passRows at a time.
func (s *scaleSearch) pieces(input int, f func(x []float32, rows int) error) error {
	n := s.b.Linears[fed[input][0]].In
	x := s.features[input]
	for len(x) > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		rows := min(passRows, len(x)/n)
		if err := f(x[:rows*n], rows); err != nil {
			return err
		}
		x = x[rows*n:]
	}
	return nil
}

// linear returns the outputs of the one linear map of an input.
func (s *scaleSearch) linear(input int) func(w []backend.Weight) ([]float32, error) {
	return func(w []backend.Weight) (all []float32, err error) {
		err = s.pieces(input, func(x []float32, rows int) error {
			at := len(all)
			all = append(all, make([]float32, rows*w[0].Out())...)
			return s.s.multiply(all[at:], x, w[0], rows)
		})
		return all, err
	}
}

// mlp returns the outputs of the MLP with other weights of gate and up.
func (s *scaleSearch) mlp(w []backend.Weight) (all []float32, err error) {
	l := s.layer
	l.Gate.Weight, l.Up.Weight = w[0], w[1]
	err = s.pieces(2, func(x []float32, rows int) error {
		var m [4]backend.Matrix // input, gate, up, output
		for i, cols := range [4]int{s.config.HiddenSize, s.config.IntermediateSize, s.config.IntermediateSize, s.config.HiddenSize} {
			var err error
			if m[i], err = s.be.Alloc(rows, cols); err != nil {
				return err
			}
		}
		s.be.Upload(m[0], x)
		s.be.MatMul(m[1], m[0], l.Gate.Weight, l.Gate.Bias, false)
		s.be.MatMul(m[2], m[0], l.Up.Weight, l.Up.Bias, false)
		s.be.SiluMul(m[1], m[2])
		s.be.MatMul(m[3], m[1], l.Down.Weight, l.Down.Bias, false)
		at := len(all)
		all = append(all, make([]float32, rows*s.config.HiddenSize)...)
		s.be.Download(all[at:], m[3])
		return s.be.Sync()
	})
	return all, err
}

// clip clamps the weights of all but q and k to the ranges of AWQ's search.
func (s *scaleSearch) clip() error {
	for i := decoder.ValueMap; i < decoder.LinearMaps; i++ {
		l := &s.b.Linears[i]
		x := s.features[inputOf[i]]
		limits, err := quantize.DefaultAWQClip.Search(l.Values, l.Out, l.In, x, len(x)/l.In, s.q)
		if err != nil {
			return err
		}
		if err := quantize.ClampGroups(l.Values, l.Out, l.In, limits); err != nil {
			return err
		}
	}
	return nil
}
