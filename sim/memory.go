package sim

import (
	"fmt"
	"math"
	"math/bits"
)

// WeightFormat is how the quantised weights of Eq. 1 are counted.
type WeightFormat uint8

const (
	// Plain counts every parameter of a block at the segment's width.
	Plain WeightFormat = iota
	// Grouped counts linear weights at the segment's width plus 16 bits for each group of GroupSize inputs,
	// and norms and biases at 16 bits. At 16 bits nothing is quantised and there are no groups.
	Grouped
)

// EdgeHolds is which layers the edge stores.
type EdgeHolds uint8

const (
	// Full is Eq. 1 as printed: the edge stores all L layers.
	Full EdgeHolds = iota
	// FrontOnly is a true split: the edge stores layers 1..splitLayer and no cache of later ones.
	FrontOnly
)

// CacheBoundary is which layers have the front activation width (Eq. 2).
type CacheBoundary uint8

const (
	// Printed gives layer k the front width if k < precisionLayer.
	Printed CacheBoundary = iota
	// Inclusive gives it if k <= precisionLayer, in line with the weights of Eq. 1.
	Inclusive
)

// HiddenRows is how many rows of the hidden state cross the split without the cache (Eq. 3).
type HiddenRows uint8

const (
	// AllRows sends the rows of all tokens, as printed: the server keeps no state.
	AllRows HiddenRows = iota
	// LastRow sends one row: the server keeps a cache of its own.
	LastRow
)

// Readings are the choices the paper leaves open. The zero value holds the defaults.
type Readings struct {
	Weights           WeightFormat
	EdgeHolds         EdgeHolds
	CacheBoundary     CacheBoundary
	Hidden            HiddenRows
	IncludeEmbeddings bool  // count embedding and output head at 16 bits in the footprint
	ReserveBytes      int64 // memory taken by other things: operating system, workspace
}

// A Precision is one mixed-precision choice of OPSC: the decision variables of Eq. 8 but for the split.
// All widths are in bits, 1 to 16; 16 bits are not quantised.
type Precision struct {
	PrecisionLayer      int64 // l_w, 1..L: last layer with front weights
	FrontWeightBits     int64 // Qw1
	BackWeightBits      int64 // Qw2
	FrontActivationBits int64 // Qa1
	BackActivationBits  int64 // Qa2
}

// Uniform is a precision with the same widths in all layers of a model.
func Uniform(s Shape, weightBits, activationBits int64) Precision {
	return Precision{s.Layers, weightBits, weightBits, activationBits, activationBits}
}

func (p Precision) check(s Shape, splitLayer int64) error {
	switch {
	case s.Layers < 1 || s.Hidden < 1 || s.KVWidth < 1:
		return fmt.Errorf("sim: the shape has %d layers of width %d with %d values of K, expected a model", s.Layers, s.Hidden, s.KVWidth)
	case splitLayer < 1 || splitLayer > s.Layers:
		return fmt.Errorf("sim: split layer is %d, expected 1 to %d", splitLayer, s.Layers)
	case p.PrecisionLayer < 1 || p.PrecisionLayer > s.Layers:
		return fmt.Errorf("sim: precision layer is %d, expected 1 to %d", p.PrecisionLayer, s.Layers)
	}
	for _, w := range []struct {
		name string
		bits int64
	}{{"front weight", p.FrontWeightBits}, {"back weight", p.BackWeightBits}, {"front activation", p.FrontActivationBits}, {"back activation", p.BackActivationBits}} {
		if w.bits < 1 || w.bits > 16 {
			return fmt.Errorf("sim: %s width is %d bits, expected 1 to 16", w.name, w.bits)
		}
	}
	return nil
}

// LayerWeightBits returns Bw(Q) of Eq. 1: the size of the weights of one block at a width, in bits.
func LayerWeightBits(s Shape, weightBits int64, format WeightFormat) (int64, error) {
	if weightBits < 1 || weightBits > 16 {
		return 0, fmt.Errorf("sim: weight width is %d bits, expected 1 to 16", weightBits)
	}
	var c counter
	n := c.mul(s.LayerParameters, weightBits)
	if format == Grouped && weightBits < 16 {
		n = c.add(c.mul(s.LayerLinear, weightBits), c.mul(s.LayerGroups, 16), c.mul(s.LayerParameters-s.LayerLinear, 16))
	}
	return n, c.err
}

// WeightBits returns M(l_w, Qw) of Eq. 1: the weights the edge stores, in bits, without embedding, output
// head and final norm. With FrontOnly only layers 1..splitLayer count.
func WeightBits(s Shape, p Precision, splitLayer int64, r Readings) (int64, error) {
	if err := p.check(s, splitLayer); err != nil {
		return 0, err
	}
	front, err := LayerWeightBits(s, p.FrontWeightBits, r.Weights)
	if err != nil {
		return 0, err
	}
	back, err := LayerWeightBits(s, p.BackWeightBits, r.Weights)
	if err != nil {
		return 0, err
	}
	held := s.Layers
	if r.EdgeHolds == FrontOnly {
		held = splitLayer
	}
	fronts := min(held, p.PrecisionLayer)
	var c counter
	n := c.add(c.mul(fronts, front), c.mul(held-fronts, back))
	return n, c.err
}

// ActivationBits returns q(k) of Eq. 2: the width of the keys, values and hidden state of layer k, in bits.
func (p Precision) ActivationBits(layer int64, b CacheBoundary) int64 {
	if layer < p.PrecisionLayer || b == Inclusive && layer == p.PrecisionLayer {
		return p.FrontActivationBits
	}
	return p.BackActivationBits
}

// sumActivationBits is the sum of q(k) over layers 1..last.
func (p Precision) sumActivationBits(c *counter, last int64, b CacheBoundary) int64 {
	fronts := p.PrecisionLayer - 1
	if b == Inclusive {
		fronts = p.PrecisionLayer
	}
	fronts = min(fronts, last)
	return c.add(c.mul(fronts, p.FrontActivationBits), c.mul(last-fronts, p.BackActivationBits))
}

// TotalActivationBits returns Psi(Qa) of Eq. 8: the sum of q(k) over all layers, in bits.
func TotalActivationBits(s Shape, p Precision, r Readings) (int64, error) {
	if err := p.check(s, s.Layers); err != nil {
		return 0, err
	}
	var c counter
	n := p.sumActivationBits(&c, s.Layers, r.CacheBoundary)
	return n, c.err
}

// CacheBits returns Bkv(w, l; Qa) of Eq. 2 in bits: the cache of tokens 1..tokens in layers 1..splitLayer
// and of the tokens before the last in the later layers, and the hidden state of the last token:
//
//	2·d_kv·( w·Σ_{k≤l} q(k) + (w-1)·Σ_{k>l} q(k) ) + d·q(l)
//
// No token needs no memory. With FrontOnly the edge has no cache of the later layers.
func CacheBits(s Shape, p Precision, tokens, splitLayer int64, r Readings) (int64, error) {
	if err := p.check(s, splitLayer); err != nil {
		return 0, err
	}
	if tokens < 0 {
		return 0, fmt.Errorf("sim: there are %d tokens, expected 0 or more", tokens)
	}
	if tokens == 0 {
		return 0, nil
	}
	var c counter
	front := p.sumActivationBits(&c, splitLayer, r.CacheBoundary)
	back := p.sumActivationBits(&c, s.Layers, r.CacheBoundary) - front
	if c.err != nil {
		return 0, c.err
	}
	if r.EdgeHolds == FrontOnly {
		back = 0
	}
	values := c.add(c.mul(tokens, front), c.mul(tokens-1, back))
	n := c.add(c.mul(2, s.KVWidth, values), c.mul(s.Hidden, p.ActivationBits(splitLayer, r.CacheBoundary)))
	return n, c.err
}

// PayloadBits returns Bio(w, l, Ikv; Qa) of Eq. 3 in bits: what crosses the split after a number of tokens,
// either the cache of Eq. 2 or the hidden state alone.
func PayloadBits(s Shape, p Precision, tokens, splitLayer int64, includeKV bool, r Readings) (int64, error) {
	if includeKV {
		return CacheBits(s, p, tokens, splitLayer, r)
	}
	if err := p.check(s, splitLayer); err != nil {
		return 0, err
	}
	if tokens < 0 {
		return 0, fmt.Errorf("sim: there are %d tokens, expected 0 or more", tokens)
	}
	rows := tokens
	if r.Hidden == LastRow {
		rows = min(rows, 1)
	}
	var c counter
	n := c.mul(rows, s.Hidden, p.ActivationBits(splitLayer, r.CacheBoundary))
	return n, c.err
}

// FootprintBits returns the left side of the memory constraint (Eq. 8c) in bits: weights (Eq. 1), cache at
// maxTokens (Eq. 2), and with the readings also embedding, output head and reserve.
func FootprintBits(s Shape, p Precision, maxTokens, splitLayer int64, r Readings) (int64, error) {
	weights, err := WeightBits(s, p, splitLayer, r)
	if err != nil {
		return 0, err
	}
	cache, err := CacheBits(s, p, maxTokens, splitLayer, r)
	if err != nil {
		return 0, err
	}
	if r.ReserveBytes < 0 {
		return 0, fmt.Errorf("sim: the reserve is %d bytes, expected 0 or more", r.ReserveBytes)
	}
	var c counter
	n := c.add(weights, cache, c.mul(r.ReserveBytes, 8))
	if r.IncludeEmbeddings {
		n = c.add(n, c.mul(s.EmbeddingRows, s.Hidden, 16))
	}
	return n, c.err
}

// Compression are the parameters of the planning bound.
type Compression struct {
	MaxActivationBits int64   // Qa-bar, sign included
	AboveShare        float64 // measured share of values at or above the threshold, 0..1
}

// TensorBoundBits returns an upper bound on the size of one compressed tensor, in bits:
//
//	rows·(columns·Qa-bar + 48) + 32·nnz + 32·(rows+1) + 64,  nnz = ceil(share·rows·columns)
//
// that is a float32 scale, an 8-bit zero point and an 8-bit width per row; a 16-bit column and a 16-bit value
// per value above; 32-bit row pointers; a 64-bit header. It serves planning only: results report the length
// of real messages.
func TensorBoundBits(rows, columns int64, k Compression) (int64, error) {
	switch {
	case rows < 0 || columns < 0:
		return 0, fmt.Errorf("sim: the tensor is %d by %d, expected 0 or more", rows, columns)
	case k.MaxActivationBits < 1 || k.MaxActivationBits > 16:
		return 0, fmt.Errorf("sim: activation width is %d bits, expected 1 to 16", k.MaxActivationBits)
	case !(k.AboveShare >= 0 && k.AboveShare <= 1):
		return 0, fmt.Errorf("sim: share above the threshold is %v, expected 0 to 1", k.AboveShare)
	}
	var c counter
	values := c.mul(rows, columns)
	above := shareOf(k.AboveShare, values)
	n := c.add(c.mul(rows, c.add(c.mul(columns, k.MaxActivationBits), 48)), c.mul(above, 32), c.mul(32, c.add(rows, 1)), 64)
	return n, c.err
}

// shareOf is ceil(share·n), at most n. A product that is whole but for rounding is not rounded up.
func shareOf(share float64, n int64) int64 {
	x := share * float64(n)
	up := math.Ceil(x - 1e-12*x)
	if up >= float64(n) {
		return n
	}
	return int64(up)
}

// PayloadBoundBits bounds the size of Bio (Eq. 3) after compression, in bits. The cache is two tensors (K
// and V) per layer with one row per token, the hidden state one tensor.
func PayloadBoundBits(s Shape, tokens, splitLayer int64, includeKV bool, k Compression, r Readings) (int64, error) {
	if err := Uniform(s, 16, 16).check(s, splitLayer); err != nil {
		return 0, err
	}
	switch {
	case tokens < 0:
		return 0, fmt.Errorf("sim: there are %d tokens, expected 0 or more", tokens)
	case tokens == 0:
		return 0, nil
	}
	rows := tokens
	if includeKV || r.Hidden == LastRow {
		rows = 1 // the cache brings the hidden state of the last token only
	}
	hidden, err := TensorBoundBits(rows, s.Hidden, k)
	if err != nil || !includeKV {
		return hidden, err
	}
	front, err := TensorBoundBits(tokens, s.KVWidth, k)
	if err != nil {
		return 0, err
	}
	back := int64(0)
	if r.EdgeHolds == Full && tokens > 1 {
		if back, err = TensorBoundBits(tokens-1, s.KVWidth, k); err != nil {
			return 0, err
		}
	}
	var c counter
	n := c.add(hidden, c.mul(2, splitLayer, front), c.mul(2, s.Layers-splitLayer, back))
	return n, c.err
}

// A counter adds and multiplies counts of zero or more and remembers whether a result did not fit.
type counter struct{ err error }

func (c *counter) mul(factors ...int64) int64 {
	product := int64(1)
	for _, f := range factors {
		high, low := bits.Mul64(uint64(product), uint64(f))
		if f < 0 || high != 0 || low > math.MaxInt64 {
			c.err = ErrOverflow
			return 0
		}
		product = int64(low)
	}
	return product
}

func (c *counter) add(terms ...int64) int64 {
	sum := int64(0)
	for _, t := range terms {
		if t < 0 || sum > math.MaxInt64-t {
			c.err = ErrOverflow
			return 0
		}
		sum += t
	}
	return sum
}
