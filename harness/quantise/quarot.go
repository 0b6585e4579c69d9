package quantise

import (
	"fmt"
	"runtime"
	"sync"

	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// rotation turns the residual stream of a model by an orthogonal matrix, with
// the norms folded into the linear maps.
type rotation struct {
	q []float64 // (hidden, hidden) by rows: rows of the stream are multiplied by it
	n int
	// once says that the weights are rounded to float32 once. QuaRot rounds them
	// after folding, too.
	once bool
}

func newRotation(c checkpoint.Config, o *quantize.QuaRotOptions) (*rotation, error) {
	q, err := quantize.RandomHadamard(quantize.TorchSigns(o.Seed, c.HiddenSize))
	if err != nil {
		return nil, fmt.Errorf("quarot: hidden_size: %w", err)
	}
	return &rotation{q: q, n: c.HiddenSize}, nil
}

// take folds a norm's gains into the columns of w, whose inputs the norm gives,
// and rotates these.
func (r *rotation) take(w, gain []float32) {
	if !r.once {
		fold(w, gain)
		gain = nil
	}
	r.right(w, gain)
}

// right multiplies the columns of w by gain, unless it is nil, and its rows by q.
func (r *rotation) right(w, gain []float32) {
	inParts(len(w)/r.n, func(from, to int) {
		sum := make([]float64, r.n)
		for ; from < to; from++ {
			row := w[from*r.n : (from+1)*r.n]
			clear(sum)
			for j, v := range row {
				x := float64(v)
				if gain != nil {
					x = float64(x * float64(gain[j])) // exact
				}
				for c, y := range r.q[j*r.n : (j+1)*r.n] {
					sum[c] += float64(x * y)
				}
			}
			for c, v := range sum {
				row[c] = float32(v)
			}
		}
	})
}

// left multiplies w, n rows, by qᵀ.
func (r *rotation) left(w []float32) {
	cols := len(w) / r.n
	inParts(cols, func(from, to int) {
		width := to - from
		sum := make([]float64, r.n*width)
		for i := range r.n {
			row := w[i*cols+from : i*cols+to]
			for j, y := range r.q[i*r.n : (i+1)*r.n] {
				d := sum[j*width : (j+1)*width]
				for c, v := range row {
					d[c] += float64(y * float64(v))
				}
			}
		}
		for j := range r.n {
			for c, v := range sum[j*width : (j+1)*width] {
				w[j*cols+from+c] = float32(v)
			}
		}
	})
}

// inParts calls f for parts of 0 .. n, one for each processor.
func inParts(n int, f func(from, to int)) {
	parts := min(n, runtime.GOMAXPROCS(0))
	var w sync.WaitGroup
	for k := range parts {
		w.Go(func() { f(n*k/parts, n*(k+1)/parts) })
	}
	w.Wait()
}

// fold multiplies columns by a norm's gains, in float64 as the original.
func fold(w, gain []float32) {
	for i := 0; i < len(w); i += len(gain) {
		for j, g := range gain {
			w[i+j] = float32(float64(w[i+j]) * float64(g))
		}
	}
}

func ones(x []float32) {
	for i := range x {
		x[i] = 1
	}
}

// ends folds the final norm into the head, which gets a matrix of its own, and
// rotates head and embedding.
func (r *rotation) ends(c *checkpoint.Config, e *Ends, subtractMean bool) {
	if e.Head == nil {
		e.Head = append([]float32(nil), e.Embedding...)
		c.TiedEmbeddings = false
	}
	if subtractMean {
		for i := 0; i < len(e.Embedding); i += r.n {
			row := e.Embedding[i : i+r.n]
			var sum float64
			for _, v := range row {
				sum += float64(v)
			}
			for j, v := range row {
				row[j] = float32(float64(v) - sum/float64(r.n))
			}
		}
	}
	r.take(e.Head, e.FinalNorm)
	ones(e.FinalNorm)
	r.right(e.Embedding, nil)
}

// block folds the norms of a block and rotates what it reads and writes.
func (r *rotation) block(b *Block) {
	for n, input := range [2]int{0, 2} {
		for _, i := range fed[input] {
			r.take(b.Linears[i].Values, b.Norms[n])
		}
		ones(b.Norms[n])
	}
	for _, i := range []int{decoder.OutputMap, decoder.DownMap} {
		r.left(b.Linears[i].Values)
		if b.Linears[i].Bias != nil {
			r.left(b.Linears[i].Bias)
		}
	}
}

// hadamard puts QuaRot's Hadamard transforms, whose counterparts act at run
// time, into v, o and down.
func (b *Block) hadamard(headDim int) error {
	for _, i := range []int{decoder.OutputMap, decoder.DownMap} {
		l := &b.Linears[i]
		h, err := quantize.NewRotation(l.In, false)
		if err != nil {
			return err
		}
		if err := h.ApplyOnline(l.Values); err != nil {
			return err
		}
	}
	v := &b.Linears[decoder.ValueMap]
	return quantize.HadamardHeads(v.Values, v.Out, v.In, headDim)
}
