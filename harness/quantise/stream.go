package quantise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// passRows is how many rows one pass of calibration holds at most, unless a
// sequence is longer.
const passRows = 2048

// stream is the calibration set on its way through the blocks: a model of one
// block on a backend, and the residual rows before it.
type stream struct {
	config  checkpoint.Config
	be      backend.Backend
	embed   backend.Weight
	norm    backend.Vector
	batches []decoder.Batch
	longest int // rows of a batch
	work    decoder.Workspace
	spare   backend.Matrix
	host    []float32
	product []float32
}

// newStream checks the calibration set and lays it out.
func newStream(c checkpoint.Config, be backend.Backend, e *Ends, calibration [][]int32) (*stream, error) {
	s := &stream{config: c, be: be}
	var err error
	if s.embed, err = newWeight(be, e.Embedding, c.VocabSize, c.HiddenSize); err != nil {
		return nil, err
	}
	if s.norm, err = be.NewVector(e.FinalNorm); err != nil {
		return nil, err
	}
	longest := 0
	for i, ids := range calibration {
		if len(ids) == 0 {
			return nil, fmt.Errorf("calibration sequence %d is empty", i+1)
		}
		for _, id := range ids {
			if id < 0 || int(id) >= c.VocabSize {
				return nil, fmt.Errorf("calibration sequence %d: token id %d is outside the vocabulary of %d", i+1, id, c.VocabSize)
			}
		}
		longest = max(longest, len(ids))
	}
	var caches []backend.Cache
	for from := 0; from < len(calibration); {
		to, rows := from, 0
		for to < len(calibration) && (to == from || rows+len(calibration[to]) <= passRows) {
			rows += len(calibration[to])
			to++
		}
		var b decoder.Batch
		for i, ids := range calibration[from:to] {
			if i == len(caches) {
				cache, err := be.NewCache(backend.CacheShape{Layers: 1, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Capacity: longest})
				if err != nil {
					return nil, err
				}
				caches = append(caches, cache)
			}
			b.Add(ids, 0, caches[i])
		}
		s.batches = append(s.batches, b)
		s.longest = max(s.longest, rows)
		from = to
	}
	if s.longest > 0 {
		s.spare, err = be.Alloc(s.longest, c.HiddenSize)
	}
	return s, err
}

// model returns the model of one block, block k of the whole.
func (s *stream) model(k int, l decoder.Layer) (*decoder.Model, error) {
	c := s.config
	c.Layers = 1
	if c.Windows != nil {
		c.Windows = []int{c.WindowOf(k)}
	}
	return decoder.Assemble(c, s.be, decoder.Parts{Embedding: s.embed, Layers: []decoder.Layer{l}, FinalNorm: s.norm})
}

// embedded returns the residual rows before the first block, by batch.
func (s *stream) embedded() ([]backend.Matrix, error) {
	var all []backend.Matrix
	for i := range s.batches {
		x, err := s.be.Alloc(s.batches[i].Rows(), s.config.HiddenSize)
		if err != nil {
			return nil, err
		}
		s.be.Embed(x, s.embed, s.batches[i].IDs)
		all = append(all, x)
	}
	return all, s.be.Sync()
}

// run takes residual rows through block k. With advance they are replaced by
// the results, else they stay.
func (s *stream) run(ctx context.Context, k int, l decoder.Layer, rows []backend.Matrix, advance bool) error {
	return s.observe(ctx, k, l, rows, advance, nil, nil)
}

// errSeen ends a pass whose results nobody needs.
var errSeen = errors.New("all inputs were seen")

// observe is run that shows the rows of inputs (ascending indices of the list
// inputs), batch by batch: x holds whole sequences of the given lengths, for the
// call. Without advance the pass ends with the last of them.
func (s *stream) observe(ctx context.Context, k int, l decoder.Layer, rows []backend.Matrix, advance bool, which []int, see func(input int, x []float32, lengths []int) error) error {
	h := decoder.Hooks{}
	if l.Hooks != nil {
		h = *l.Hooks
	}
	batch := 0
	for _, i := range which {
		h[inputs[i]].See = func(x backend.Matrix) error {
			n := x.Rows() * x.Cols()
			if cap(s.host) < n {
				s.host = make([]float32, n)
			}
			s.be.Download(s.host[:n], x)
			var lengths []int
			for _, q := range s.batches[batch].Sequences {
				lengths = append(lengths, q.Count)
			}
			err := see(i, s.host[:n], lengths)
			if err == nil && !advance && i == which[len(which)-1] {
				err = errSeen
			}
			return err
		}
	}
	l.Hooks = &h
	m, err := s.model(k, l)
	if err != nil {
		return err
	}
	for i, x := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch = i
		if !advance {
			y := s.spare.Slice(0, x.Rows())
			s.be.Copy(y, x)
			x = y
		}
		if err := m.Blocks(&s.work, x, &s.batches[i], 1, 1); err != nil && !errors.Is(err, errSeen) {
			return err
		}
	}
	return s.be.Sync()
}

// statistics runs block k and gathers the statistics of its inputs.
func (s *stream) statistics(ctx context.Context, k int, l decoder.Layer, rows []backend.Matrix, advance bool) ([4]*quantize.Statistics, error) {
	var all [4]*quantize.Statistics
	c := s.config
	for i, n := range [4]int{c.HiddenSize, c.QueryWidth(), c.HiddenSize, c.IntermediateSize} {
		all[i] = quantize.NewStatistics(n)
	}
	err := s.observe(ctx, k, l, rows, advance, []int{0, 1, 2, 3}, func(i int, x []float32, lengths []int) error {
		n := len(all[i].AbsMax)
		for _, t := range lengths {
			if err := all[i].Add(x[:t*n], t); err != nil {
				return fmt.Errorf("input of %s: %w", inputNames[i], err)
			}
			x = x[t*n:]
		}
		return nil
	})
	return all, err
}

// productRows bounds the rows of one part of a Hessian's product.
const productRows = 256

// products is a backend that multiplies matrices in host memory.
type products interface {
	Product(p backend.Product[float32])
}

// hessian runs block k as far as an input and returns the Hessian of the input.
// Its products come from the backend, a batch of sequences at a time, and are
// summed in float64; seconds is the time that they took.
func (s *stream) hessian(ctx context.Context, k int, l decoder.Layer, rows []backend.Matrix, input, n int) (h *quantize.Hessian, seconds float64, err error) {
	if h, err = quantize.NewHessian(n, 0); err != nil {
		return nil, 0, err
	}
	do, fast := s.be.(products)
	if fast {
		h.MatMul = s.matMul(do)
	}
	err = s.observe(ctx, k, l, rows, false, []int{input}, func(_ int, x []float32, lengths []int) error {
		defer func(started time.Time) { seconds += time.Since(started).Seconds() }(time.Now())
		if !fast {
			for _, t := range lengths {
				if err := h.Add(x[:t*n], t); err != nil {
					return err
				}
				x = x[t*n:]
			}
			return nil
		}
		if err := addProducts(h, do, &s.product, x, n); err != nil {
			return err
		}
		h.Count(len(lengths))
		return nil
	})
	return h, seconds, err
}

// flops returns the rows of the calibration set, and the products and sums of
// taking them through a block as far as an input, or with an input more than
// there are through the whole block.
func (s *stream) flops(b *Block, input int) (rows, flops float64) {
	var pairs float64
	for i := range s.batches {
		for _, q := range s.batches[i].Sequences {
			n := float64(q.Count)
			rows += n
			pairs += n * (n + 1) / 2
		}
	}
	for i := range b.Linears {
		if inputOf[i] < input {
			flops += 2 * rows * float64(b.Linears[i].Out) * float64(b.Linears[i].In)
		}
	}
	if input > 0 {
		flops += 4 * pairs * float64(s.config.QueryWidth())
	}
	return rows, flops
}

// addProducts adds xᵀx on and above the diagonal to h, x of rows of n.
func addProducts(h *quantize.Hessian, do products, buffer *[]float32, x []float32, n int) error {
	tokens := len(x) / n
	for r := 0; r < n; r += productRows {
		count, cols := min(productRows, n-r), n-r
		if cap(*buffer) < count*cols {
			*buffer = make([]float32, count*cols)
		}
		p := (*buffer)[:count*cols]
		do.Product(backend.Product[float32]{
			Rows: count, Cols: cols, Terms: tokens,
			A: backend.Operand[float32]{Data: x[r:], Stride: n, Transposed: true},
			B: backend.Operand[float32]{Data: x[r:], Stride: n},
			C: p, Stride: cols,
		})
		if err := h.AddProduct(r, count, p); err != nil {
			return err
		}
	}
	return nil
}

// matMul is dst = a bᵀ on the backend, for package quantize.
func (s *stream) matMul(do products) func(dst, a, b []float32, m, n, k int) {
	return func(dst, a, b []float32, m, n, k int) {
		do.Product(backend.Product[float32]{
			Rows: m, Cols: n, Terms: k,
			A: backend.Operand[float32]{Data: a, Stride: k},
			B: backend.Operand[float32]{Data: b, Stride: k, Transposed: true},
			C: dst, Stride: n,
		})
	}
}

// multiply computes dst = x wᵀ on the backend, x of rows rows.
func (s *stream) multiply(dst, x []float32, w backend.Weight, rows int) error {
	a, err := s.be.Alloc(rows, w.In())
	if err != nil {
		return err
	}
	d, err := s.be.Alloc(rows, w.Out())
	if err != nil {
		return err
	}
	s.be.Upload(a, x)
	s.be.MatMul(d, a, w, nil, false)
	s.be.Download(dst, d)
	return s.be.Sync()
}
