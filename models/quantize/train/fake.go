package train

import (
	"fmt"

	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// rounded is a matrix through a quantizer, with what its gradient needs.
type rounded struct {
	rows, cols  int
	x           []float32 // what was quantized
	scale, zero []float32
}

// rowsAtOnce is the number of rows that a worker quantizes at a time.
const rowsAtOnce = 16

// each calls f with runs of rows: their part of the matrix and of the scales.
func (r *rounded) each(do decoder.Arithmetic[float32], f func(rows, x0, x1, s0, s1 int) error) error {
	n := (r.rows + rowsAtOnce - 1) / rowsAtOnce
	failed := make([]error, n)
	groups := len(r.scale) / r.rows
	do.Parallel(n, 40*float64(r.rows)*float64(r.cols), func(_, i int) {
		from, to := i*rowsAtOnce, min(r.rows, (i+1)*rowsAtOnce)
		failed[i] = f(to-from, from*r.cols, to*r.cols, from*groups, to*groups)
	})
	for i, err := range failed {
		if err != nil {
			return fmt.Errorf("rows from %d: %w", i*rowsAtOnce, err)
		}
	}
	return nil
}

func part(c *quantize.Clipping, from, to int) *quantize.Clipping {
	if c == nil {
		return nil
	}
	return &quantize.Clipping{Up: c.Up[from:to], Low: c.Low[from:to]}
}

// forward writes the quantized and dequantized x to y.
func (r *rounded) forward(do decoder.Arithmetic[float32], q quantize.Quantizer, y, x []float32, rows, cols int, c *quantize.Clipping) error {
	n, err := q.Groups(rows, cols)
	if err != nil {
		return err
	}
	if len(r.scale) != n {
		r.scale, r.zero = make([]float32, n), make([]float32, n)
	}
	r.rows, r.cols, r.x = rows, cols, x
	return r.each(do, func(rows, x0, x1, s0, s1 int) error {
		scale, zero := r.scale[s0:s1], r.zero[s0:s1]
		if err := q.FitClipped(x[x0:x1], rows, cols, part(c, s0, s1), scale, zero); err != nil {
			return err
		}
		return q.Apply(y[x0:x1], x[x0:x1], rows, cols, scale, zero)
	})
}

// backward turns d, the gradient of the result, into that of x, and writes the
// gradients of the clipping factors to g where there are any.
func (r *rounded) backward(do decoder.Arithmetic[float32], q quantize.Quantizer, d []float32, c, g *quantize.Clipping) error {
	return r.each(do, func(rows, x0, x1, s0, s1 int) error {
		var dUp, dLow []float32
		if c != nil {
			dUp, dLow = g.Up[s0:s1], g.Low[s0:s1]
		}
		return q.Backward(d[x0:x1], d[x0:x1], r.x[x0:x1], rows, r.cols, part(c, s0, s1), r.scale[s0:s1], r.zero[s0:s1], dUp, dLow)
	})
}

// Activations quantizes activations inside a block as a method says, with
// straight-through gradients: a decoder.Alteration.
type Activations struct {
	do             decoder.Arithmetic[float32]
	linear, head   quantize.Quantizer
	linears, heads bool
	place          [decoder.Places]rounded
}

// NewActivations returns the quantizers of a method's activations, nil when it
// has none. Queries, keys and values are quantized after RoPE.
func NewActivations(m quantize.Method, c checkpoint.Config, do decoder.Arithmetic[float32]) *Activations {
	a := &Activations{do: do}
	x, ok := m.ActivationQuantizer()
	a.linear, a.linears = x.Body, ok
	a.head, a.heads = m.AttentionQuantizer(c.HeadDim)
	if !a.linears && !a.heads {
		return nil
	}
	return a
}

func (a *Activations) at(s decoder.Place) (quantize.Quantizer, bool) {
	switch s {
	case decoder.QueryRotated, decoder.KeyRotated, decoder.ValueOutput:
		return a.head, a.heads
	}
	return a.linear, a.linears
}

// Forward quantizes x to y.
func (a *Activations) Forward(s decoder.Place, y, x []float32, rows, cols int) error {
	q, ok := a.at(s)
	if !ok {
		copy(y, x)
		return nil
	}
	return a.place[s].forward(a.do, q, y, x, rows, cols, nil)
}

// Backward is the straight-through gradient.
func (a *Activations) Backward(s decoder.Place, d, x []float32, rows, cols int) error {
	q, ok := a.at(s)
	if !ok {
		return nil
	}
	return a.place[s].backward(a.do, q, d, nil, nil)
}

// fake is a block with transformed, clipped and quantized weights.
type fake struct {
	*trainer
	source *Values
	p      *Parameters
	shown  *Values // the block as it computes
	linear [7]rounded
}

// factors returns the column and row factors of linear map i, nil for ones:
// the transformed weight is weight * column * row, a row factor divides where
// divide says so.
func (f *fake) factors(i int) (column, row []float32, divide bool) {
	if !f.options.LET {
		return nil, nil, false
	}
	switch i {
	case decoder.QueryMap:
		return f.p.QKV, f.spread(f.p.QK), true
	case decoder.KeyMap:
		return f.p.QKV, f.p.QK, false
	case decoder.ValueMap:
		return f.p.QKV, f.p.Out, true
	case decoder.OutputMap:
		return f.spread(f.p.Out), nil, false
	case decoder.GateMap, decoder.UpMap:
		return f.p.FC1, nil, false
	}
	return nil, nil, false
}

// spread repeats the scales of a key head for the query heads of its group.
func (f *fake) spread(s []float32) []float32 {
	if f.config.Heads == f.config.KVHeads {
		return s
	}
	x := make([]float32, f.config.QueryWidth())
	for i := range x {
		x[i] = s[f.keyChannel(i)]
	}
	return x
}

// transform makes the norms and biases of shown, and the weights before they
// are quantized, of source and p, in the original's order of operations.
func (f *fake) transform() {
	if f.options.LET {
		for _, s := range [][]float32{f.p.QKV, f.p.FC1, f.p.Out, f.p.QK} {
			for i, v := range s {
				s[i] = quantize.TruncateScale(v)
			}
		}
	}
	copy(f.shown.AttentionNorm, f.source.AttentionNorm)
	copy(f.shown.MLPNorm, f.source.MLPNorm)
	if f.options.LET {
		quantize.ScaleRows(f.shown.AttentionNorm, f.p.QKV, true)
		quantize.ScaleRows(f.shown.MLPNorm, f.p.FC1, true)
	}
	to := f.shown.Linears()
	for i, l := range f.source.Linears() {
		x := append(f.linear[i].x[:0], l.Weight...)
		f.linear[i].x = x
		copy(to[i].Bias, l.Bias)
		column, row, divide := f.factors(i)
		if column != nil {
			quantize.ScaleColumns(x, column, false)
		}
		if row != nil {
			quantize.ScaleRows(x, row, divide)
			if l.Bias != nil {
				quantize.ScaleRows(to[i].Bias, row, divide)
			}
		}
	}
}

// forward makes shown of source and p.
func (f *fake) forward() error {
	f.transform()
	to := f.shown.Linears()
	for i, l := range f.source.Linears() {
		rows, cols := f.shape(i, l)
		r := &f.linear[i]
		if err := r.forward(f.do, f.weight, to[i].Weight, r.x, rows, cols, f.p.Clip[i]); err != nil {
			return fmt.Errorf("%s: %w", decoder.LinearNames()[i], err)
		}
	}
	return nil
}

// backward writes the gradients of the parameters to g; d, the gradients of
// shown, is used up.
func (f *fake) backward(d *Values, g *Parameters) error {
	from := d.Linears()
	for i := range f.linear {
		if err := f.linear[i].backward(f.do, f.weight, from[i].Weight, f.p.Clip[i], g.Clip[i]); err != nil {
			return fmt.Errorf("%s: %w", decoder.LinearNames()[i], err)
		}
	}
	if f.options.LET {
		f.transformBack(d, g)
	}
	return nil
}

// transformBack turns d, the gradients of the transformed block, into those of
// the scales.
func (f *fake) transformBack(d *Values, g *Parameters) {
	from := d.Linears()
	qkv, fc1 := make([]float64, len(f.p.QKV)), make([]float64, len(f.p.FC1))
	out, qk := make([]float64, len(f.p.Out)), make([]float64, len(f.p.QK))
	for i, l := range f.source.Linears() {
		column, row, divide := f.factors(i)
		if row != nil {
			to := qk
			if i == decoder.ValueMap {
				to = out
			}
			f.rowGradient(to, i, from[i], f.shown.Linears()[i].Bias, row, divide)
		}
		switch i {
		case decoder.QueryMap, decoder.KeyMap, decoder.ValueMap:
			columnGradient(qkv, l.Weight, from[i].Weight, row, divide)
		case decoder.GateMap, decoder.UpMap:
			columnGradient(fc1, l.Weight, from[i].Weight, nil, false)
		case decoder.OutputMap:
			wide := make([]float64, len(column))
			columnGradient(wide, l.Weight, from[i].Weight, nil, false)
			for c, v := range wide {
				out[f.keyChannel(c)] += v
			}
		}
	}
	normGradient(qkv, f.source.AttentionNorm, d.AttentionNorm, f.p.QKV)
	normGradient(fc1, f.source.MLPNorm, d.MLPNorm, f.p.FC1)
	if f.options.TieQK {
		f.tie(qk)
	}
	for _, v := range []struct {
		to   []float32
		from []float64
	}{{g.QKV, qkv}, {g.FC1, fc1}, {g.Out, out}, {g.QK, qk}} {
		for i, x := range v.from {
			v.to[i] = float32(x)
		}
	}
}

// columnGradient adds sum_r d * weight * (row factor) to the columns.
func columnGradient(to []float64, weight, d, row []float32, divide bool) {
	cols := len(to)
	for r := range len(weight) / cols {
		k := 1.0
		if row != nil {
			k = float64(row[r])
			if divide {
				k = 1 / k
			}
		}
		for c, w := range weight[r*cols : (r+1)*cols] {
			to[c] += float64(float64(d[r*cols+c]) * float64(float64(w)*k))
		}
	}
}

// rowGradient adds the gradient of row factors s: the sum of d * transformed /
// s over a row and its bias, negative where s divides.
func (f *fake) rowGradient(to []float64, i int, d *decoder.LinearValues[float32], bias, row []float32, divide bool) {
	x := f.linear[i].x
	cols := len(x) / len(row)
	for o, s := range row {
		var sum float64
		for c, v := range x[o*cols : (o+1)*cols] {
			sum += float64(v) * float64(d.Weight[o*cols+c])
		}
		if bias != nil {
			sum += float64(bias[o]) * float64(d.Bias[o])
		}
		sum /= float64(s)
		if divide {
			sum = -sum
		}
		if len(row) != len(to) {
			to[f.keyChannel(o)] += sum
		} else {
			to[o] += sum
		}
	}
}

// normGradient subtracts d * norm / s² of a norm that s divides.
func normGradient(to []float64, norm, d, s []float32) {
	for i, v := range norm {
		k := float64(s[i])
		to[i] -= float64(float64(d[i]) * float64(v) / (k * k))
	}
}

// tie gives both channels that RoPE turns together the sum of their gradients.
func (f *fake) tie(d []float64) {
	half := f.config.RotaryWidth() / 2
	for h := 0; h < len(d); h += f.config.HeadDim {
		for i := h; i < h+half; i++ {
			sum := d[i] + d[i+half]
			d[i], d[i+half] = sum, sum
		}
	}
}

var _ decoder.Alteration[float32] = (*Activations)(nil)
