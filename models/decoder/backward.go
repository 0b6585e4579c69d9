package decoder

import (
	"fmt"
	"math"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
)

// Real is the number type of a backward pass: float32 to train, float64 to
// check gradients by finite differences.
type Real interface{ float32 | float64 }

// Arithmetic does the heavy part of a backward pass. A cpu.Backend is one of
// float32, Plain one of either type.
type Arithmetic[T Real] interface {
	// Product computes p with all workers.
	Product(p backend.Product[T])
	// ProductOn is Product on the calling goroutine, from within Parallel.
	ProductOn(worker int, p backend.Product[T])
	// Parallel calls f for items 0 .. n-1; cost is the work of the whole loop
	// in floating-point operations. Items write disjoint memory; worker is
	// below Workers and no two calls at a time share it.
	Parallel(n int, cost float64, f func(worker, item int))
	Workers() int
	// The rest runs on the calling goroutine, from within Parallel.

	// ExpSum writes exp(x[i]-top) to dst, which may be x, and returns the sum.
	ExpSum(dst, x []T, top T) float64
	// Softmax turns rows of scores at distance padded, a multiple of 16, into
	// weights: row r keeps exp(scale*x[i]-top) of the keys i below first+r, of
	// which window bounds the number (0: it does not), and 0 for all others of
	// its padded ones. inverse[r] becomes 1 / the sum of its weights.
	Softmax(x []T, rows, padded, first, window int, scale T, inverse []T)
	// SoftmaxBack writes weight*(x-mean)*scale to rows of x at distance padded,
	// a multiple of 16; mean is one number a row.
	SoftmaxBack(x, weights []T, rows, padded int, mean []T, scale T)
	// Silu writes gate*sigmoid(gate)*up to dst.
	Silu(dst, gate, up []T)
	// SiluBack writes the gradients of gate and up from that of
	// gate*sigmoid(gate)*up, d, which may be dGate or dUp.
	SiluBack(dGate, dUp, gate, up, d []T)
	// Norm writes rows of x, as wide as gain, scaled to unit root mean square,
	// times gain, to y, and the factor of each row to inverse.
	Norm(y, x, gain, inverse []T, epsilon float64)
	// NormBack adds the gradient of x to dx, from dy, that of the rows that Norm
	// wrote with the factors scale.
	NormBack(dx, dy, x, gain, scale []T)
	// Adam moves values by one step of AdamW and updates their moments.
	Adam(values, gradient, first, second []T, k backend.AdamFactors[T])
}

// LinearValues are a weight (out, in) by rows and a bias (out), nil without.
type LinearValues[T Real] struct{ Weight, Bias []T }

// BlockValues are the parameters of one block on host memory, or their
// gradients.
type BlockValues[T Real] struct {
	AttentionNorm, MLPNorm    []T // (hidden)
	Query, Key, Value, Output LinearValues[T]
	Gate, Up, Down            LinearValues[T]
}

// linearValues are the linear maps of v in the order of linears.
func (v *BlockValues[T]) linearValues() [7]*LinearValues[T] {
	return [7]*LinearValues[T]{&v.Query, &v.Key, &v.Value, &v.Output, &v.Gate, &v.Up, &v.Down}
}

// LinearNames are the names of a block's linear maps in the checkpoint, in the
// order in which Linears returns them.
func LinearNames() []string {
	names := make([]string, len(linears))
	for i, l := range linears {
		names[i] = l.name
	}
	return names
}

// Linears returns the linear maps in the order of LinearNames.
func (v *BlockValues[T]) Linears() []*LinearValues[T] {
	l := v.linearValues()
	return l[:]
}

// Each calls f with every parameter that is there, in a fixed order, under its
// name in the checkpoint less the prefix of the block.
func (v *BlockValues[T]) Each(f func(name string, values []T)) {
	f("input_layernorm.weight", v.AttentionNorm)
	f("post_attention_layernorm.weight", v.MLPNorm)
	for i, l := range v.linearValues() {
		f(linears[i].name+".weight", l.Weight)
		if l.Bias != nil {
			f(linears[i].name+".bias", l.Bias)
		}
	}
}

// Like returns zeros of the shape of v.
func (v *BlockValues[T]) Like() *BlockValues[T] {
	zeros := func(x []T) []T {
		if x == nil {
			return nil
		}
		return make([]T, len(x))
	}
	g := &BlockValues[T]{AttentionNorm: zeros(v.AttentionNorm), MLPNorm: zeros(v.MLPNorm)}
	to := g.linearValues()
	for i, l := range v.linearValues() {
		*to[i] = LinearValues[T]{zeros(l.Weight), zeros(l.Bias)}
	}
	return g
}

// BlockValuesOf reads block k, 1 <= k <= L, of a checkpoint as float32.
func BlockValuesOf(c *checkpoint.Checkpoint, k int) (*BlockValues[float32], error) {
	read := func(name string) ([]float32, error) {
		t, err := c.Tensor(fmt.Sprintf("model.layers.%d.%s", k-1, name))
		if err != nil {
			return nil, err
		}
		defer t.Release(0, t.Shape[0])
		return t.Float32(nil)
	}
	v := &BlockValues[float32]{}
	var err error
	if v.AttentionNorm, err = read("input_layernorm.weight"); err != nil {
		return nil, err
	}
	if v.MLPNorm, err = read("post_attention_layernorm.weight"); err != nil {
		return nil, err
	}
	m := Model{Config: c.Config}
	for i, l := range v.linearValues() {
		if l.Weight, err = read(linears[i].name + ".weight"); err != nil {
			return nil, err
		}
		if m.hasBias(linears[i].name) {
			if l.Bias, err = read(linears[i].name + ".bias"); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// Alteration replaces activations inside a block, such as by quantised ones. It
// is asked at every place but the two before the rotary embedding.
type Alteration[T Real] interface {
	// Forward writes what flows on at a place instead of x, (rows, cols), to y.
	Forward(s Place, y, x []T, rows, cols int) error
	// Backward turns d, the gradient of y, into that of x, in place.
	Backward(s Place, d, x []T, rows, cols int) error
}

// Block is the forward and backward pass of one decoder block on host memory.
// It computes what Model.Blocks does, with gradients; results do not depend on
// the number of workers. One Block serves one pass at a time.
type Block[T Real] struct {
	Config     checkpoint.Config
	Window     int           // keys a position sees, itself included; 0 = all earlier ones
	Alteration Alteration[T] // nil: none
	// Rotations returns the rotations of a sequence of the given number of
	// positions, for tables that others computed; nil: those of Config.
	Rotations func(positions int) *backend.RopeTable
	do        Arithmetic[T]
	rope      *rope
	scratch   []blockScratch[T] // of each worker
	gradients passGradients[T]
}

type blockScratch[T Real] struct{ weights, other, out, inverse, mean []T }

// passGradients are the gradients inside a backward pass.
type passGradients[T Real] struct{ norm, q, k, v, attended, gate, up, down []T }

// Tape keeps what Backward needs of a Forward. It is reused from pass to pass.
type Tape[T Real] struct {
	rows    int
	lengths []int
	x, mid  []T // residual stream before attention and before the feed-forward part
	// scale is 1/rms of each row, of both norms.
	scale, midScale []T
	gate, up        []T
	raw, altered    [Places][]T
	turns           []backend.RopeTable // of each sequence
}

// NewBlock returns the passes of block k, 1 <= k <= L, of configuration c.
func NewBlock[T Real](c checkpoint.Config, k int, a Arithmetic[T]) (*Block[T], error) {
	if k < 1 || k > c.Layers {
		return nil, fmt.Errorf("block %d of %d", k, c.Layers)
	}
	r, err := newRope(c)
	if err != nil {
		return nil, err
	}
	return &Block[T]{Config: c, Window: c.WindowOf(k - 1), do: a, rope: r, scratch: make([]blockScratch[T], a.Workers())}, nil
}

func sized[T any](x *[]T, n int) []T {
	if cap(*x) < n {
		*x = make([]T, n)
	}
	*x = (*x)[:n]
	return *x
}

// alter returns what flows on at a place from t.raw.
func (b *Block[T]) alter(t *Tape[T], s Place, cols int) ([]T, error) {
	if b.Alteration == nil {
		return t.raw[s], nil
	}
	y := sized(&t.altered[s], len(t.raw[s]))
	return y, b.Alteration.Forward(s, y, t.raw[s], t.rows, cols)
}

// flowing is what alter returned.
func (b *Block[T]) flowing(t *Tape[T], s Place) []T {
	if b.Alteration == nil {
		return t.raw[s]
	}
	return t.altered[s]
}

func (b *Block[T]) undo(t *Tape[T], s Place, d []T, cols int) error {
	if b.Alteration == nil {
		return nil
	}
	return b.Alteration.Backward(s, d, t.raw[s], t.rows, cols)
}

// check says what does not fit.
func (b *Block[T]) check(w *BlockValues[T]) error {
	c := b.Config
	for i, l := range w.linearValues() {
		out, in := shapeOf(c, linears[i].name)
		if len(l.Weight) != out*in || l.Bias != nil && len(l.Bias) != out {
			return fmt.Errorf("%s has %d weights and %d biases, expected %d x %d", linears[i].name, len(l.Weight), len(l.Bias), out, in)
		}
	}
	if len(w.AttentionNorm) != c.HiddenSize || len(w.MLPNorm) != c.HiddenSize {
		return fmt.Errorf("norms of %d and %d values, expected %d", len(w.AttentionNorm), len(w.MLPNorm), c.HiddenSize)
	}
	return nil
}

// project computes y (rows, out) = x (rows, in) · wᵀ + bias.
func project[T Real](do Arithmetic[T], y, x []T, rows int, l *LinearValues[T], accumulate bool) {
	out, in := len(y)/rows, len(x)/rows
	if l.Bias != nil {
		for r := range rows {
			row := y[r*out : (r+1)*out]
			if !accumulate {
				copy(row, l.Bias)
				continue
			}
			for i, v := range l.Bias {
				row[i] += v
			}
		}
		accumulate = true
	}
	do.Product(backend.Product[T]{Rows: rows, Cols: out, Terms: in, Accumulate: accumulate,
		A: backend.Operand[T]{Data: x, Stride: in}, B: backend.Operand[T]{Data: l.Weight, Stride: in, Transposed: true}, C: y, Stride: out})
}

// projectBack adds the gradients of a linear map to g and writes dy·W to dx,
// or adds it. g or dx may be nil.
func projectBack[T Real](do Arithmetic[T], dx, dy, x []T, rows int, l, g *LinearValues[T], accumulate bool) {
	out := len(dy) / rows
	in := len(l.Weight) / out
	if dx != nil {
		do.Product(backend.Product[T]{Rows: rows, Cols: in, Terms: out, Accumulate: accumulate,
			A: backend.Operand[T]{Data: dy, Stride: out}, B: backend.Operand[T]{Data: l.Weight, Stride: in}, C: dx, Stride: in})
	}
	if g == nil {
		return
	}
	do.Product(backend.Product[T]{Rows: out, Cols: in, Terms: rows, Accumulate: true,
		A: backend.Operand[T]{Data: dy, Stride: out, Transposed: true}, B: backend.Operand[T]{Data: x, Stride: in}, C: g.Weight, Stride: in})
	if g.Bias != nil {
		sumColumns(do, g.Bias, rows, func(sums []float64, r, from int) {
			for i, v := range dy[r*out+from:][:len(sums)] {
				sums[i] += float64(v)
			}
		})
	}
}

// sumColumns adds the sums of columns over all rows to dst; add adds the
// columns of row r from the given one on to sums.
func sumColumns[T Real](do Arithmetic[T], dst []T, rows int, add func(sums []float64, r, from int)) {
	const columns = 64
	n := len(dst)
	do.Parallel((n+columns-1)/columns, 16*float64(rows)*float64(n), func(_, i int) {
		var sums [columns]float64
		from, to := i*columns, min(n, (i+1)*columns)
		for r := range rows {
			add(sums[:to-from], r, from)
		}
		for c := from; c < to; c++ {
			dst[c] += T(sums[c-from])
		}
	})
}

// rowsAtOnce is how many rows an item of a loop over rows takes.
const rowsAtOnce = 16

// eachRows calls f for blocks of rows, from..to-1; cost is that of one row.
func eachRows[T Real](do Arithmetic[T], rows int, cost float64, f func(from, to int)) {
	do.Parallel((rows+rowsAtOnce-1)/rowsAtOnce, cost*float64(rows), func(_, i int) {
		f(i*rowsAtOnce, min(rows, (i+1)*rowsAtOnce))
	})
}

// normalise writes RMSNorm of x to y and 1/rms of each row to scale. With kept
// not nil x is copied there.
func normalise[T Real](do Arithmetic[T], y, x, gain, scale []T, rows int, epsilon float64, kept []T) {
	n := len(gain)
	eachRows(do, rows, 16*float64(n), func(from, to int) {
		do.Norm(y[from*n:to*n], x[from*n:to*n], gain, scale[from:to], epsilon)
		if kept != nil {
			copy(kept[from*n:to*n], x[from*n:to*n])
		}
	})
}

// normaliseBack writes dx plus the gradient of x to sum, which may be dx, and
// adds that of the gain to dGain, which may be nil.
func normaliseBack[T Real](do Arithmetic[T], sum, dx, dGain, dy, x, gain, scale []T, rows int) {
	n := len(gain)
	eachRows(do, rows, 32*float64(n), func(from, to int) {
		copy(sum[from*n:to*n], dx[from*n:to*n])
		do.NormBack(sum[from*n:to*n], dy[from*n:to*n], x[from*n:to*n], gain, scale[from:to])
	})
	if dGain != nil {
		sumColumns(do, dGain, rows, func(sums []float64, r, from int) {
			x, s := x[r*n+from:][:len(sums)], scale[r]
			for i, d := range dy[r*n+from:][:len(sums)] {
				sums[i] += float64(float64(d) * float64(T(x[i]*s)))
			}
		})
	}
}

// rotate turns the heads of x by the angles of their positions, back with sign -1.
func (b *Block[T]) rotate(t *Tape[T], x []T, heads int, sign T) {
	d := b.Config.HeadDim
	first := 0
	for i, n := range t.lengths {
		table, row0 := t.turns[i], first
		first += n
		eachRows(b.do, n, 8*float64(heads*d), func(from, to int) {
			for p := from; p < to; p++ {
				row := x[(row0+p)*heads*d:][:heads*d]
				cos, sin := table.Cos[p*table.Half:][:table.Half], table.Sin[p*table.Half:][:table.Half]
				for h := 0; h < len(row); h += d {
					lower, upper := row[h:][:table.Half], row[h+table.Half:][:table.Half]
					for j, u := range lower {
						v, c, s := upper[j], T(cos[j]), sign*T(sin[j])
						lower[j] = T(u*c) - T(v*s)
						upper[j] = T(v*c) + T(u*s)
					}
				}
			}
		})
	}
}

// Forward computes the block on sequences that lie end to end in the rows of x
// (rows, hidden), each from position 0 with the given length, and writes the
// residual stream to y, which may be x. t keeps what Backward needs.
func (b *Block[T]) Forward(y, x []T, lengths []int, w *BlockValues[T], t *Tape[T]) error {
	c := b.Config
	rows := 0
	for _, n := range lengths {
		if n < 1 {
			return fmt.Errorf("a sequence of %d positions", n)
		}
		rows += n
	}
	hidden, qWidth, kvWidth := c.HiddenSize, c.QueryWidth(), c.KVWidth()
	if rows == 0 || len(x) != rows*hidden || len(y) != len(x) {
		return fmt.Errorf("%d and %d values for %d positions of width %d", len(x), len(y), rows, hidden)
	}
	if err := b.check(w); err != nil {
		return err
	}
	t.rows, t.lengths, t.turns = rows, append(t.lengths[:0], lengths...), t.turns[:0]
	for _, n := range lengths {
		if b.Rotations != nil {
			t.turns = append(t.turns, *b.Rotations(n))
			continue
		}
		set := &b.rope.short
		if b.rope.long != nil && n > b.rope.limit {
			set = b.rope.long
		}
		t.turns = append(t.turns, *set.upTo(n))
	}
	normalise(b.do, sized(&t.raw[AttentionInput], len(x)), x, w.AttentionNorm, sized(&t.scale, rows), rows, c.NormEpsilon, sized(&t.x, len(x)))
	in, err := b.alter(t, AttentionInput, hidden)
	if err != nil {
		return err
	}
	project(b.do, sized(&t.raw[QueryRotated], rows*qWidth), in, rows, &w.Query, false)
	project(b.do, sized(&t.raw[KeyRotated], rows*kvWidth), in, rows, &w.Key, false)
	project(b.do, sized(&t.raw[ValueOutput], rows*kvWidth), in, rows, &w.Value, false)
	b.rotate(t, t.raw[QueryRotated], c.Heads, 1)
	b.rotate(t, t.raw[KeyRotated], c.KVHeads, 1)
	for _, s := range []Place{QueryRotated, KeyRotated, ValueOutput} {
		if _, err := b.alter(t, s, len(t.raw[s])/rows); err != nil {
			return err
		}
	}
	sized(&t.raw[OutputInput], rows*qWidth)
	b.attend(t)
	in, err = b.alter(t, OutputInput, qWidth)
	if err != nil {
		return err
	}
	copyRows(b.do, sized(&t.mid, len(x)), t.x)
	project(b.do, t.mid, in, rows, &w.Output, true)

	normalise(b.do, sized(&t.raw[MLPInput], len(x)), t.mid, w.MLPNorm, sized(&t.midScale, rows), rows, c.NormEpsilon, y)
	if in, err = b.alter(t, MLPInput, hidden); err != nil {
		return err
	}
	width := c.IntermediateSize
	project(b.do, sized(&t.gate, rows*width), in, rows, &w.Gate, false)
	project(b.do, sized(&t.up, rows*width), in, rows, &w.Up, false)
	product := sized(&t.raw[DownInput], rows*width)
	eachRows(b.do, rows, 100*float64(width), func(from, to int) {
		b.do.Silu(product[from*width:to*width], t.gate[from*width:to*width], t.up[from*width:to*width])
	})
	if in, err = b.alter(t, DownInput, width); err != nil {
		return err
	}
	project(b.do, y, in, rows, &w.Down, true)
	return nil
}

// copyRows copies src to dst with all workers.
func copyRows[T Real](do Arithmetic[T], dst, src []T) {
	const at = 1 << 13
	do.Parallel((len(src)+at-1)/at, float64(len(src)), func(_, i int) {
		copy(dst[i*at:min(len(src), (i+1)*at)], src[i*at:])
	})
}

// attentionRows is the number of query rows whose scores exist at a time.
const attentionRows = 64

// headTask names the sequence and key head of a task of attention.
type headTask struct{ first, length, kvHead int }

func (b *Block[T]) heads(t *Tape[T], cost float64, f func(worker int, h headTask)) {
	kv := b.Config.KVHeads
	var tasks []headTask
	first, work := 0, 0.0
	for _, n := range t.lengths {
		for h := range kv {
			tasks = append(tasks, headTask{first, n, h})
		}
		first += n
		work += cost * float64(n) * float64(n) * float64(b.Config.QueryWidth())
	}
	b.do.Parallel(len(tasks), work, func(worker, i int) { f(worker, tasks[i]) })
}

// view is the part of one head, rows from.. of (rows, width) at column col.
func view[T Real](x []T, width, col, from int) backend.Operand[T] {
	return backend.Operand[T]{Data: x[from*width+col:], Stride: width}
}

func transposed[T Real](x backend.Operand[T]) backend.Operand[T] {
	x.Transposed = !x.Transposed
	return x
}

// attentionUnit is what rows of scores are padded to.
const attentionUnit = 16

// attend computes causal attention to the place OutputInput.
func (b *Block[T]) attend(t *Tape[T]) {
	c := b.Config
	d, qw, kvw := c.HeadDim, c.QueryWidth(), c.KVWidth()
	q, k, v, out := b.flowing(t, QueryRotated), b.flowing(t, KeyRotated), b.flowing(t, ValueOutput), t.raw[OutputInput]
	group := c.Heads / c.KVHeads
	b.heads(t, 4, func(worker int, h headTask) {
		s := &b.scratch[worker]
		for head := h.kvHead * group; head < (h.kvHead+1)*group; head++ {
			for r0 := 0; r0 < h.length; r0 += attentionRows {
				n := min(attentionRows, h.length-r0)
				keys := r0 + n
				weights := b.weights(worker, q, k, h, head, r0, n)
				at := view(out, qw, head*d, h.first+r0)
				b.do.ProductOn(worker, backend.Product[T]{Rows: n, Cols: d, Terms: keys, A: weights, B: view(v, kvw, h.kvHead*d, h.first), C: at.Data, Stride: qw})
				for r, inverse := range s.inverse {
					scale(at.Data[r*qw:][:d], inverse)
				}
			}
		}
	})
}

// weights writes the weights of n rows from r0 of a head, times the sums of
// their rows, to the worker's scratch, and the inverses of the sums beside
// them. It returns them as (n, r0+n).
func (b *Block[T]) weights(worker int, q, k []T, h headTask, head, r0, n int) backend.Operand[T] {
	d := b.Config.HeadDim
	s := &b.scratch[worker]
	padded := (r0 + n + attentionUnit - 1) / attentionUnit * attentionUnit
	p := sized(&s.weights, n*padded)
	b.do.ProductOn(worker, backend.Product[T]{Rows: n, Cols: r0 + n, Terms: d,
		A: view(q, b.Config.QueryWidth(), head*d, h.first+r0), B: transposed(view(k, b.Config.KVWidth(), h.kvHead*d, h.first)), C: p, Stride: padded})
	b.do.Softmax(p, n, padded, r0+1, b.Window, T(1/math.Sqrt(float64(d))), sized(&s.inverse, n))
	return backend.Operand[T]{Data: p, Stride: padded}
}

// attendBack turns the gradient of the place OutputInput into those of the
// places QueryRotated, KeyRotated and ValueOutput.
func (b *Block[T]) attendBack(t *Tape[T], dq, dk, dv, dOut []T) {
	c := b.Config
	d, qw, kvw := c.HeadDim, c.QueryWidth(), c.KVWidth()
	q, k, v, out := b.flowing(t, QueryRotated), b.flowing(t, KeyRotated), b.flowing(t, ValueOutput), t.raw[OutputInput]
	group := c.Heads / c.KVHeads
	b.heads(t, 10, func(worker int, h headTask) {
		s := &b.scratch[worker]
		for r := h.first; r < h.first+h.length; r++ {
			clear(dk[r*kvw+h.kvHead*d:][:d])
			clear(dv[r*kvw+h.kvHead*d:][:d])
		}
		for head := h.kvHead * group; head < (h.kvHead+1)*group; head++ {
			for r0 := 0; r0 < h.length; r0 += attentionRows {
				n := min(attentionRows, h.length-r0)
				keys := r0 + n
				weights := b.weights(worker, q, k, h, head, r0, n)
				// The gradient of the output over the sum of its row's weights, and
				// the mean of the gradients of the weights.
				rows, mean := sized(&s.out, n*d), sized(&s.mean, n)
				for r, inverse := range s.inverse {
					at := (h.first+r0+r)*qw + head*d
					o, row := out[at:at+d], rows[r*d:(r+1)*d]
					var dot float64
					for i, g := range dOut[at : at+d] {
						g *= inverse
						row[i] = g
						dot += float64(float64(o[i]) * float64(g))
					}
					mean[r] = T(dot)
				}
				rowsOut := backend.Operand[T]{Data: rows, Stride: d}
				b.do.ProductOn(worker, backend.Product[T]{Rows: keys, Cols: d, Terms: n, Accumulate: true,
					A: transposed(weights), B: rowsOut, C: view(dv, kvw, h.kvHead*d, h.first).Data, Stride: kvw})
				gradient := backend.Operand[T]{Data: sized(&s.other, n*weights.Stride), Stride: weights.Stride}
				b.do.ProductOn(worker, backend.Product[T]{Rows: n, Cols: keys, Terms: d,
					A: rowsOut, B: transposed(view(v, kvw, h.kvHead*d, h.first)), C: gradient.Data, Stride: gradient.Stride})
				b.do.SoftmaxBack(gradient.Data, weights.Data, n, gradient.Stride, mean, T(1/math.Sqrt(float64(d))))
				b.do.ProductOn(worker, backend.Product[T]{Rows: n, Cols: d, Terms: keys,
					A: gradient, B: view(k, kvw, h.kvHead*d, h.first), C: view(dq, qw, head*d, h.first+r0).Data, Stride: qw})
				b.do.ProductOn(worker, backend.Product[T]{Rows: keys, Cols: d, Terms: n, Accumulate: true,
					A: transposed(gradient), B: view(q, qw, head*d, h.first+r0), C: view(dk, kvw, h.kvHead*d, h.first).Data, Stride: kvw})
			}
		}
	})
}

// Input returns what reached a place in the Forward that t kept, before the
// Alteration, by rows. It is t's own.
func (t *Tape[T]) Input(s Place) []T { return t.raw[s] }

// Backward turns dy, the gradient of the Forward that t kept, into that of its
// input, dx, which may be dy, and adds the gradients of the parameters to g.
// g may be nil. w is what Forward had.
func (b *Block[T]) Backward(dx, dy []T, w, g *BlockValues[T], t *Tape[T]) error {
	c, do, rows := b.Config, b.do, t.rows
	hidden, qWidth, kvWidth, width := c.HiddenSize, c.QueryWidth(), c.KVWidth(), c.IntermediateSize
	if len(dy) != rows*hidden || len(dx) != len(dy) {
		return fmt.Errorf("gradients of %d and %d values for %d positions of width %d", len(dy), len(dx), rows, hidden)
	}
	if g == nil {
		g = &BlockValues[T]{}
	}
	of := func(l *LinearValues[T]) *LinearValues[T] {
		if l.Weight == nil {
			return nil
		}
		return l
	}
	s := &b.gradients
	down := sized(&s.down, rows*width)
	projectBack(do, down, dy, b.flowing(t, DownInput), rows, &w.Down, of(&g.Down), false)
	if err := b.undo(t, DownInput, down, width); err != nil {
		return err
	}
	gate, up := sized(&s.gate, rows*width), sized(&s.up, rows*width)
	eachRows(do, rows, 200*float64(width), func(from, to int) {
		i, n := from*width, to*width
		do.SiluBack(gate[i:n], up[i:n], t.gate[i:n], t.up[i:n], down[i:n])
	})
	norm, in := sized(&s.norm, rows*hidden), b.flowing(t, MLPInput)
	projectBack(do, norm, gate, in, rows, &w.Gate, of(&g.Gate), false)
	projectBack(do, norm, up, in, rows, &w.Up, of(&g.Up), true)
	if err := b.undo(t, MLPInput, norm, hidden); err != nil {
		return err
	}
	normaliseBack(do, dx, dy, g.MLPNorm, norm, t.mid, w.MLPNorm, t.midScale, rows)

	attended := sized(&s.attended, rows*qWidth)
	projectBack(do, attended, dx, b.flowing(t, OutputInput), rows, &w.Output, of(&g.Output), false)
	if err := b.undo(t, OutputInput, attended, qWidth); err != nil {
		return err
	}
	dq, dk, dv := sized(&s.q, rows*qWidth), sized(&s.k, rows*kvWidth), sized(&s.v, rows*kvWidth)
	b.attendBack(t, dq, dk, dv, attended)
	for _, p := range []struct {
		place Place
		d     []T
	}{{QueryRotated, dq}, {KeyRotated, dk}, {ValueOutput, dv}} {
		if err := b.undo(t, p.place, p.d, len(p.d)/rows); err != nil {
			return err
		}
	}
	b.rotate(t, dq, c.Heads, -1)
	b.rotate(t, dk, c.KVHeads, -1)
	in = b.flowing(t, AttentionInput)
	projectBack(do, norm, dq, in, rows, &w.Query, of(&g.Query), false)
	projectBack(do, norm, dk, in, rows, &w.Key, of(&g.Key), true)
	projectBack(do, norm, dv, in, rows, &w.Value, of(&g.Value), true)
	if err := b.undo(t, AttentionInput, norm, hidden); err != nil {
		return err
	}
	normaliseBack(do, dx, dx, g.AttentionNorm, norm, t.x, w.AttentionNorm, t.scale, rows)
	return nil
}

// Plain is Arithmetic in plain Go on one goroutine, for checks.
type Plain[T Real] struct{}

// Product computes p.
func (Plain[T]) Product(p backend.Product[T]) {
	at := func(x backend.Operand[T], i, j int) T {
		if x.Transposed {
			i, j = j, i
		}
		return x.Data[i*x.Stride+j]
	}
	for i := range p.Rows {
		for j := range p.Cols {
			var sum T
			for k := range p.Terms {
				sum += T(at(p.A, i, k) * at(p.B, k, j))
			}
			if p.Accumulate {
				sum += p.C[i*p.Stride+j]
			}
			p.C[i*p.Stride+j] = sum
		}
	}
}

// ProductOn computes p.
func (a Plain[T]) ProductOn(_ int, p backend.Product[T]) { a.Product(p) }

// Parallel calls f for one item after the other.
func (Plain[T]) Parallel(n int, _ float64, f func(worker, item int)) {
	for i := range n {
		f(0, i)
	}
}

// Workers is 1.
func (Plain[T]) Workers() int { return 1 }

// ExpSum writes exp(x[i]-top) to dst and returns the sum.
func (Plain[T]) ExpSum(dst, x []T, top T) float64 {
	var sum float64
	for i, v := range x {
		e := math.Exp(float64(v - top))
		dst[i] = T(e)
		sum += e
	}
	return sum
}

// Softmax is that of Arithmetic.
func (a Plain[T]) Softmax(x []T, rows, padded, first, window int, scale T, inverse []T) {
	for r := range rows {
		row := x[r*padded : (r+1)*padded]
		low, high := 0, first+r
		if window > 0 {
			low = max(0, high-window)
		}
		seen := row[low:high]
		for i := range seen {
			seen[i] *= scale
		}
		inverse[r] = T(1 / a.ExpSum(seen, seen, largest(seen)))
		clear(row[:low])
		clear(row[high:])
	}
}

// SoftmaxBack is that of Arithmetic.
func (Plain[T]) SoftmaxBack(x, weights []T, rows, padded int, mean []T, scale T) {
	for r := range rows {
		for i := r * padded; i < (r+1)*padded; i++ {
			x[i] = weights[i] * (x[i] - mean[r]) * scale
		}
	}
}

func sigmoid[T Real](x T) T { return T(1 / (1 + math.Exp(-float64(x)))) }

// Silu is that of Arithmetic.
func (Plain[T]) Silu(dst, gate, up []T) {
	for i, x := range gate {
		dst[i] = x * sigmoid(x) * up[i]
	}
}

// SiluBack is that of Arithmetic.
func (Plain[T]) SiluBack(dGate, dUp, gate, up, d []T) {
	for i, x := range gate {
		s, g := sigmoid(x), d[i]
		dUp[i] = g * x * s
		dGate[i] = g * up[i] * s * (1 + x*(1-s))
	}
}

// Norm is that of Arithmetic.
func (Plain[T]) Norm(y, x, gain, inverse []T, epsilon float64) {
	n := len(gain)
	for r := range inverse {
		row := x[r*n : (r+1)*n]
		var sum float64
		for _, v := range row {
			sum += float64(v) * float64(v)
		}
		inverse[r] = T(1 / math.Sqrt(sum/float64(n)+epsilon))
		for i, v := range row {
			y[r*n+i] = v * inverse[r] * gain[i]
		}
	}
}

// NormBack is that of Arithmetic.
func (Plain[T]) NormBack(dx, dy, x, gain, scale []T) {
	n := len(gain)
	for r, s := range scale {
		var dot T
		for i, g := range gain {
			dot += dy[r*n+i] * g * x[r*n+i]
		}
		for i, g := range gain {
			dx[r*n+i] += s * (dy[r*n+i]*g - x[r*n+i]*dot*s*s/T(n))
		}
	}
}

// Adam is that of Arithmetic.
func (Plain[T]) Adam(values, gradient, first, second []T, k backend.AdamFactors[T]) {
	k.Move(values, gradient, first, second)
}

// largest returns the largest of x, which is not empty; a NaN may be passed over.
func largest[T Real](x []T) T {
	top := x[0]
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	return top
}
