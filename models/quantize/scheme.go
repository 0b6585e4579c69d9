package quantize

import (
	"fmt"
	"math"
)

// Scheme is the rule that turns the smallest and largest number of a group
// into a scale and a zero point, with the integers it may use at b bits.
type Scheme string

// The schemes. q rounds half to even, absmax is the largest magnitude.
const (
	// SymNarrow: integers ±(2^(b-1)-1), scale absmax/(2^(b-1)-1) (SmoothQuant).
	SymNarrow Scheme = "sym-narrow"
	// SymFull: integers -2^(b-1) .. 2^(b-1)-1, scale as SymNarrow (Atom,
	// QuaRot, AWQ without zero points).
	SymFull Scheme = "sym-full"
	// SymShift: integers 0 .. 2^b-1 with zero 2^(b-1) and scale
	// 2*absmax/(2^b-1); absmax/(2^b-1) for a group without a negative number,
	// whose lower end the original does not mirror (GPTQ, Atom's GPTQ).
	SymShift Scheme = "sym-shift"
	// SymOffset: integers 0 .. 2^b-1 with zero 2^(b-1)-1 and the scale of
	// SymNarrow (OmniQuant with its switch symmetric).
	SymOffset Scheme = "sym-offset"
	// Asym: integers 0 .. 2^b-1, scale (max-min)/(2^b-1), zero q(-min/scale).
	Asym Scheme = "asym"
)

// Granularity says which numbers share one scale. A matrix is stored by rows:
// a row is an output channel of a weight or a token of an activation.
type Granularity string

// The granularities. Those of weights and of activations are the same in
// memory; both names exist so that a description reads as the papers do.
const (
	PerTensor     Granularity = "tensor"
	PerChannel    Granularity = "channel"     // a row of a weight
	PerGroup      Granularity = "group"       // Group consecutive columns of a weight row
	PerToken      Granularity = "token"       // a row of an activation
	PerTokenGroup Granularity = "token-group" // Group consecutive channels of a token
	PerHead       Granularity = "head"        // Group = head_dim channels of a token
)

// Tail says what happens to the last group of a row when Group does not
// divide the columns.
type Tail string

// The tails.
const (
	TailError Tail = ""      // an error
	TailPad   Tail = "pad"   // the group is filled up with zeros (OmniQuant)
	TailShort Tail = "short" // the group has fewer columns (GPTQ)
)

// Empty says what a group of zeros gets.
type Empty string

// The rules for a group of zeros.
const (
	EmptyFloor Empty = ""      // nothing of its own: a floor must hold
	EmptyRange Empty = "range" // min -1, max +1 (GPTQ, QuaRot ASYM)
	EmptyScale Empty = "scale" // scale 1 (QuaRot SYM activations)
)

// Zeros says how the zero point of ASYM is bounded.
type Zeros string

// The bounds of a zero point.
const (
	ZeroFree  Zeros = ""      // not at all (GPTQ, QuaRot)
	ZeroClamp Zeros = "clamp" // into the integer range (Atom, AWQ)
	ZeroWide  Zeros = "wide"  // into ±10000 (OmniQuant)
)

// Quantizer describes one uniform quantizer. The zero value of every field
// but Scheme, Bits and Granularity means "without". All arithmetic is float32
// in the order of the original code, so results are equal to its bit for bit;
// a zero is always +0.
type Quantizer struct {
	Scheme      Scheme      `yaml:"scheme" json:"scheme"`
	Bits        int         `yaml:"bits" json:"bits"` // 2..8
	Granularity Granularity `yaml:"granularity" json:"granularity"`
	// Group is the number of consecutive columns that share a scale.
	Group int  `yaml:"group,omitempty" json:"group,omitempty"`
	Tail  Tail `yaml:"tail,omitempty" json:"tail,omitempty"`
	// SharedRows consecutive rows share their scales (Atom's channel group); 0 means 1.
	SharedRows int `yaml:"shared_rows,omitempty" json:"shared_rows,omitempty"`
	// Clip multiplies the range, 0 < Clip <= 1; 0 means 1.
	Clip float64 `yaml:"clip,omitempty" json:"clip,omitempty"`
	// Widen makes min and max of ASYM contain 0. A constant group is widened
	// anyway where no floor gives it a scale: the original's result is NaN.
	Widen bool  `yaml:"widen,omitempty" json:"widen,omitempty"`
	Zeros Zeros `yaml:"zeros,omitempty" json:"zeros,omitempty"`
	// Floor is the least absmax (symmetric) or max-min (ASYM); the first is
	// applied before Clip, the second after it.
	Floor float64 `yaml:"floor,omitempty" json:"floor,omitempty"`
	// ScaleMin and ScaleMax bound the scale; ScaleMax 0 means no bound.
	ScaleMin float64 `yaml:"scale_min,omitempty" json:"scale_min,omitempty"`
	ScaleMax float64 `yaml:"scale_max,omitempty" json:"scale_max,omitempty"`
	Empty    Empty   `yaml:"empty,omitempty" json:"empty,omitempty"`
	// SearchMSE tries the ranges p*[min,max], p = 1, 0.99 .. 0.21, and takes the
	// one with the least sum of |error|^2.4 (GPTQ's and QuaRot's mse; weights).
	// It ignores Clip.
	SearchMSE bool `yaml:"search_mse,omitempty" json:"search_mse,omitempty"`
}

// Validate says what is wrong with the description, naming the field.
func (q Quantizer) Validate() error {
	switch q.Scheme {
	case SymNarrow, SymFull, SymShift, SymOffset, Asym:
	default:
		return fmt.Errorf("quantizer: scheme %q: want sym-narrow, sym-full, sym-shift, sym-offset or asym", q.Scheme)
	}
	if q.Bits < 2 || q.Bits > 8 {
		return fmt.Errorf("quantizer: bits %d: want 2..8", q.Bits)
	}
	switch q.Granularity {
	case PerTensor, PerChannel, PerToken:
		if q.Group != 0 {
			return fmt.Errorf("quantizer: group %d with granularity %s: want no group", q.Group, q.Granularity)
		}
	case PerGroup, PerTokenGroup, PerHead:
		if q.Group < 1 {
			return fmt.Errorf("quantizer: group %d with granularity %s: want at least 1", q.Group, q.Granularity)
		}
	default:
		return fmt.Errorf("quantizer: granularity %q: want tensor, channel, group, token, token-group or head", q.Granularity)
	}
	switch q.Tail {
	case TailError, TailPad, TailShort:
	default:
		return fmt.Errorf("quantizer: tail %q: want pad, short or nothing", q.Tail)
	}
	switch q.Empty {
	case EmptyFloor:
	case EmptyScale:
		if q.Scheme == Asym || q.Scheme == SymShift {
			return fmt.Errorf("quantizer: empty scale with scheme %s: it belongs to the symmetric schemes", q.Scheme)
		}
	case EmptyRange:
		if q.Scheme != Asym && q.Scheme != SymShift {
			return fmt.Errorf("quantizer: empty range with scheme %s: it belongs to asym and sym-shift", q.Scheme)
		}
	default:
		return fmt.Errorf("quantizer: empty %q: want range, scale or nothing", q.Empty)
	}
	switch q.Zeros {
	case ZeroFree, ZeroClamp, ZeroWide:
	default:
		return fmt.Errorf("quantizer: zeros %q: want clamp, wide or nothing", q.Zeros)
	}
	switch {
	case q.SharedRows < 0:
		return fmt.Errorf("quantizer: shared_rows %d: want 1 or more", q.SharedRows)
	case q.SharedRows > 1 && q.Granularity == PerTensor:
		return fmt.Errorf("quantizer: shared_rows %d with granularity tensor", q.SharedRows)
	case !(q.Clip >= 0 && q.Clip <= 1):
		return fmt.Errorf("quantizer: clip %v: want more than 0, at most 1", q.Clip)
	case !(q.Floor >= 0) || math.IsInf(q.Floor, 0):
		return fmt.Errorf("quantizer: floor %v: want 0 or more", q.Floor)
	case !(q.ScaleMin >= 0) || !(q.ScaleMax >= 0) || q.ScaleMax > 0 && q.ScaleMax < q.ScaleMin:
		return fmt.Errorf("quantizer: scale between %v and %v: want 0 <= scale_min <= scale_max", q.ScaleMin, q.ScaleMax)
	case q.Floor == 0 && q.ScaleMin == 0 && q.Empty == EmptyFloor:
		return fmt.Errorf("quantizer: a group of zeros has no scale: want floor, scale_min or empty")
	case q.SearchMSE && q.Scheme != SymShift && q.Scheme != Asym && q.Scheme != SymFull:
		return fmt.Errorf("quantizer: search_mse with scheme %s: want sym-shift, sym-full or asym", q.Scheme)
	}
	return nil
}

// Range returns the least and largest integer.
func (q Quantizer) Range() (lo, hi int) {
	switch half := 1 << (q.Bits - 1); q.Scheme {
	case SymNarrow:
		return 1 - half, half - 1
	case SymFull:
		return -half, half - 1
	default:
		return 0, 2*half - 1
	}
}

// grid is how a Quantizer divides a matrix of some shape.
type grid struct {
	rows, cols int // of the matrix; PerTensor: 1 row of all numbers
	stride     int // numbers from one row to the next
	share      int // rows of a group
	group      int // columns of a group
	across     int // groups side by side
}

// grid checks the description and the shape.
func (q Quantizer) grid(rows, cols, stride int) (grid, error) {
	if err := q.Validate(); err != nil {
		return grid{}, err
	}
	if rows < 0 || cols < 0 || stride < cols {
		return grid{}, fmt.Errorf("quantizer: matrix of %d rows and %d columns", rows, cols)
	}
	g := grid{rows: rows, cols: cols, stride: stride, share: max(1, q.SharedRows), group: cols, across: 1}
	if q.Granularity == PerTensor {
		if stride != cols {
			return grid{}, fmt.Errorf("quantizer: granularity tensor needs the whole matrix")
		}
		g.rows, g.cols = 1, rows*cols
		g.stride, g.group = g.cols, g.cols
	}
	if q.Group > 0 {
		if cols%q.Group != 0 && q.Tail == TailError {
			return grid{}, fmt.Errorf("quantizer: group %d does not divide %d columns", q.Group, cols)
		}
		g.group, g.across = q.Group, (cols+q.Group-1)/q.Group
	}
	if g.rows%g.share != 0 {
		return grid{}, fmt.Errorf("quantizer: shared_rows %d does not divide %d rows", g.share, rows)
	}
	return g, nil
}

func (g grid) groups() int { return g.rows / g.share * g.across }

// checkLen says whether x holds the matrix.
func (g grid) checkLen(what string, n int) error {
	if g.rows > 0 && n < (g.rows-1)*g.stride+g.cols {
		return fmt.Errorf("quantizer: %s has %d numbers: want %d rows of %d", what, n, g.rows, g.cols)
	}
	return nil
}

// window returns the pieces of group i: row r of the group is
// x[start+r*stride:][:n].
func (g grid) window(i int) (start, n int) {
	c := i % g.across * g.group
	return i/g.across*g.share*g.stride + c, min(g.group, g.cols-c)
}

// Groups returns the number of scales of a matrix.
func (q Quantizer) Groups(rows, cols int) (int, error) {
	g, err := q.grid(rows, cols, cols)
	if err != nil {
		return 0, err
	}
	return g.groups(), nil
}

// extremes returns the least and largest number of a group; a NaN or an
// infinity makes finite false.
func (g grid) extremes(x []float32, start, n int, pad bool) (mn, mx float32, finite bool) {
	mn, mx = float32(math.Inf(1)), float32(math.Inf(-1))
	if pad && n < g.group {
		mn, mx = 0, 0
	}
	var bad float32
	for r := range g.share {
		for _, v := range x[start+r*g.stride:][:n] {
			bad += float32(v * 0)
			mn, mx = min(mn, v), max(mx, v)
		}
	}
	return mn, mx, bad == 0
}

func abs32(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

func round32(v float32) float32 { return float32(math.RoundToEven(float64(v))) }

func clamp32(v, lo, hi float32) float32 { return min(max(v, lo), hi) }

// params is the rule of the scheme: scale and zero of a group from its
// extremes; it also returns the ends from which a search starts.
func (q Quantizer) params(mn, mx float32) (scale, zero, lo, hi float32) {
	_, top := q.Range()
	levels := float32(top)
	clip := float32(1)
	if q.Clip > 0 {
		clip = float32(q.Clip)
	}
	switch q.Scheme {
	case SymNarrow, SymFull, SymOffset:
		half := float32(int(1)<<(q.Bits-1) - 1)
		a := max(abs32(mn), abs32(mx))
		a = max(a, float32(q.Floor))
		hi = a
		a = float32(a * clip)
		if a == 0 && q.Empty == EmptyScale {
			scale = 1
		} else {
			scale = q.bound(a / half)
		}
		if q.Scheme == SymOffset {
			zero = half
		}
	case SymShift:
		lo, hi = min(mn, 0), max(mx, 0)
		hi = max(abs32(lo), hi)
		if lo < 0 {
			lo = -hi
		}
		if lo == 0 && hi == 0 {
			lo, hi = -1, 1
		}
		scale = q.bound(float32(float32(hi-lo)*clip) / levels)
		zero = float32(int(1) << (q.Bits - 1))
	case Asym:
		if q.Widen {
			mn, mx = min(mn, 0), max(mx, 0)
		}
		lo, hi = float32(mn*clip), float32(mx*clip)
		if lo == 0 && hi == 0 && q.Empty == EmptyRange {
			lo, hi = -1, 1
		}
		if lo == hi && q.Floor == 0 && q.ScaleMin == 0 {
			lo, hi = min(lo, 0), max(hi, 0)
		}
		scale = q.bound(max(float32(hi-lo), float32(q.Floor)) / levels)
		zero = q.zero(lo, scale, levels)
	}
	return scale, zero, lo, hi
}

func (q Quantizer) bound(scale float32) float32 {
	scale = max(scale, float32(q.ScaleMin))
	if q.ScaleMax > 0 {
		scale = min(scale, float32(q.ScaleMax))
	}
	return scale
}

// zero is the zero point of ASYM.
func (q Quantizer) zero(lo, scale, levels float32) float32 {
	z := -lo / scale
	switch q.Zeros {
	case ZeroWide:
		z = clamp32(z, -1e4, 1e4)
	case ZeroClamp:
		return clamp32(round32(z), 0, levels)
	}
	return round32(z)
}

// step is the quantize-dequantize of one number.
func step(v, scale, zero, lo, hi float32) float32 {
	return float32((clamp32(round32(v/scale)+zero, lo, hi) - zero) * scale)
}

// searchSteps and searchNorm are GPTQ's maxshrink*grid and norm.
const (
	searchSteps = 80
	searchGrid  = 100
	searchNorm  = 2.4
)

// search replaces scale and zero by those of the shrunk range with the least
// error over the group.
func (q Quantizer) search(g grid, x []float32, start, n int, scale, zero, lo, hi float32) (float32, float32) {
	l, h := q.Range()
	ql, qh := float32(l), float32(h)
	best := math.Inf(1)
	for i := range searchSteps {
		p := float32(1 - float64(i)/searchGrid)
		lo1, hi1 := float32(p*lo), float32(p*hi)
		zero1 := zero
		var scale1 float32
		switch q.Scheme {
		case SymFull:
			scale1 = hi1 / qh
		case SymShift:
			scale1 = float32(hi1-lo1) / qh
		case Asym:
			scale1 = float32(hi1-lo1) / qh
			zero1 = round32(-lo1 / scale1)
		}
		var sum float64
		for at := 0; at < g.share*n && sum < best; at++ {
			v := x[start+at/n*g.stride+at%n]
			if e := abs32(step(v, scale1, zero1, ql, qh) - v); e != 0 {
				sum += float64(searchPower(e))
			}
		}
		if sum < best {
			best, scale, zero = sum, scale1, zero1
		}
	}
	return scale, zero
}

// Fit finds the scales and zeros of a matrix x of rows x cols numbers. Scale
// and zero have one number per group: the groups of the first SharedRows rows
// from left to right, then those of the next rows. A number that is not finite
// is an error.
func (q Quantizer) Fit(x []float32, rows, cols int, scale, zero []float32) error {
	return q.fit(x, rows, cols, cols, nil, scale, zero)
}

// fit is Fit on a matrix whose rows lie stride numbers apart, with the clipping
// factors of LWC when c is not nil.
func (q Quantizer) fit(x []float32, rows, cols, stride int, c *Clipping, scale, zero []float32) error {
	g, err := q.grid(rows, cols, stride)
	if err != nil {
		return err
	}
	if err := g.checkLen("matrix", len(x)); err != nil {
		return err
	}
	if len(scale) != g.groups() || len(zero) != g.groups() {
		return fmt.Errorf("quantizer: %d scales and %d zeros: want %d", len(scale), len(zero), g.groups())
	}
	if c != nil {
		if q.SearchMSE {
			return fmt.Errorf("quantizer: search_mse with learned clipping")
		}
		if err := c.check(g); err != nil {
			return err
		}
	}
	for i := range scale {
		start, n := g.window(i)
		mn, mx, ok := g.extremes(x, start, n, q.Tail == TailPad)
		if !ok {
			return notFinite(g, x, start, n)
		}
		if n == 0 {
			mn, mx = 0, 0
		}
		if c != nil {
			mx = float32(sigmoid32(c.Up[i]) * mx)
			mn = float32(sigmoid32(c.Low[i]) * mn)
		}
		if !q.SearchMSE {
			scale[i], zero[i], _, _ = q.params(mn, mx)
		}
	}
	if q.SearchMSE {
		parallel(len(scale), 0, func(i int) {
			start, n := g.window(i)
			var mn, mx float32
			if n > 0 {
				mn, mx, _ = g.extremes(x, start, n, q.Tail == TailPad)
			}
			s, z, lo, hi := q.params(mn, mx)
			scale[i], zero[i] = q.search(g, x, start, n, s, z, lo, hi)
		})
	}
	return nil
}

// notFinite names the first number of a group that is not finite.
func notFinite(g grid, x []float32, start, n int) error {
	for r := range g.share {
		for j, v := range x[start+r*g.stride:][:n] {
			if v-v != 0 {
				at := start + r*g.stride + j
				return fmt.Errorf("quantizer: row %d, column %d: %v is not finite", at/g.stride, at%g.stride, v)
			}
		}
	}
	return fmt.Errorf("quantizer: a number is not finite")
}

// Simulate writes the quantized and dequantized matrix to dst, which may be x.
func (q Quantizer) Simulate(dst, x []float32, rows, cols int) error {
	return q.simulate(dst, x, rows, cols, cols)
}

func (q Quantizer) simulate(dst, x []float32, rows, cols, stride int) error {
	n, err := q.Groups(rows, cols)
	if err != nil {
		return err
	}
	params := make([]float32, 2*n)
	scale, zero := params[:n], params[n:]
	if err := q.fit(x, rows, cols, stride, nil, scale, zero); err != nil {
		return err
	}
	return q.apply(dst, x, rows, cols, stride, scale, zero)
}

// Apply writes the quantized and dequantized matrix to dst, which may be x,
// with scales and zeros of Fit.
func (q Quantizer) Apply(dst, x []float32, rows, cols int, scale, zero []float32) error {
	return q.apply(dst, x, rows, cols, cols, scale, zero)
}

func (q Quantizer) apply(dst, x []float32, rows, cols, stride int, scale, zero []float32) error {
	lo, hi := q.Range()
	l, h := float32(lo), float32(hi)
	return q.each(x, len(dst), rows, cols, stride, scale, zero, func(start, n int, s, z float32) {
		d := dst[start:][:n]
		for i, v := range x[start:][:n] {
			d[i] = step(v, s, z, l, h)
		}
	})
}

// each calls f for every piece of a row that has one scale.
func (q Quantizer) each(x []float32, dst, rows, cols, stride int, scale, zero []float32, f func(start, n int, s, z float32)) error {
	g, err := q.grid(rows, cols, stride)
	if err != nil {
		return err
	}
	if err := g.checkLen("matrix", len(x)); err != nil {
		return err
	}
	if err := g.checkLen("result", dst); err != nil {
		return err
	}
	if len(scale) != g.groups() || len(zero) != g.groups() {
		return fmt.Errorf("quantizer: %d scales and %d zeros: want %d", len(scale), len(zero), g.groups())
	}
	for i, s := range scale {
		start, n := g.window(i)
		for r := range g.share {
			f(start+r*g.stride, n, s, zero[i])
		}
	}
	return nil
}

// Tensor is a quantized matrix as it is stored: one integer per number, and
// the scales and zeros of its groups.
type Tensor struct {
	Quantizer  Quantizer
	Rows, Cols int
	// Code holds, by rows, integer - lo with lo of Quantizer.Range: 0 .. 2^b-1.
	Code []uint8
	// Scale and Zero are laid out as Fit says.
	Scale, Zero []float32
	// GroupOf is the group of each column where groups are not consecutive
	// columns (GPTQ that quantizes in the order of activations); nil otherwise.
	GroupOf []int32
}

// Quantize finds scales and zeros of a matrix and its integers.
func (q Quantizer) Quantize(x []float32, rows, cols int) (*Tensor, error) {
	n, err := q.Groups(rows, cols)
	if err != nil {
		return nil, err
	}
	t := &Tensor{Quantizer: q, Rows: rows, Cols: cols, Scale: make([]float32, n), Zero: make([]float32, n)}
	if err := q.Fit(x, rows, cols, t.Scale, t.Zero); err != nil {
		return nil, err
	}
	return t, t.encode(x, cols)
}

// encode fills Code from a matrix and the scales.
func (t *Tensor) encode(x []float32, stride int) error {
	code := make([]uint8, t.Rows*t.Cols)
	lo, hi := t.Quantizer.Range()
	l, h := float32(lo), float32(hi)
	err := t.Quantizer.each(x, len(x), t.Rows, t.Cols, stride, t.Scale, t.Zero, func(start, n int, s, z float32) {
		d := code[start/stride*t.Cols+start%stride:][:n]
		for i, v := range x[start:][:n] {
			d[i] = uint8(clamp32(round32(v/s)+z, l, h) - l)
		}
	})
	t.Code = code
	return err
}

// Dequantize writes the numbers that the integers stand for to dst, by rows:
// bit for bit what Simulate gives.
func (t *Tensor) Dequantize(dst []float32) error { return t.DequantizeColumns(dst, t.Cols) }

// DequantizeColumns is Dequantize to the first columns of a matrix whose rows
// lie stride numbers apart.
func (t *Tensor) DequantizeColumns(dst []float32, stride int) error {
	q := t.Quantizer
	g, err := q.grid(t.Rows, t.Cols, t.Cols)
	if err != nil {
		return err
	}
	if len(t.Code) != t.Rows*t.Cols || stride < t.Cols || t.Rows > 0 && len(dst) < (t.Rows-1)*stride+t.Cols || stride == t.Cols && len(dst) != len(t.Code) || len(t.Zero) != len(t.Scale) {
		return fmt.Errorf("quantizer: %d integers, %d scales, %d zeros, result of %d: want a matrix of %d x %d", len(t.Code), len(t.Scale), len(t.Zero), len(dst), t.Rows, t.Cols)
	}
	if len(t.Scale) != g.groups() {
		return fmt.Errorf("quantizer: %d scales: want %d", len(t.Scale), g.groups())
	}
	if q.Granularity == PerTensor && stride != t.Cols {
		return fmt.Errorf("quantizer: granularity tensor needs the whole matrix")
	}
	low, _ := q.Range()
	if t.GroupOf != nil {
		if len(t.GroupOf) != t.Cols {
			return fmt.Errorf("quantizer: groups of %d columns: want %d", len(t.GroupOf), t.Cols)
		}
		for r := range t.Rows {
			base := r / g.share * g.across
			for c, i := range t.GroupOf {
				if i < 0 || int(i) >= g.across {
					return fmt.Errorf("quantizer: column %d is of group %d: want less than %d", c, i, g.across)
				}
				dst[r*stride+c] = value(t.Code[r*t.Cols+c], low, t.Scale[base+int(i)], t.Zero[base+int(i)])
			}
		}
		return nil
	}
	for i, s := range t.Scale {
		start, n := g.window(i)
		for r := range g.share {
			at := start + r*g.stride
			d := dst[at+at/max(1, g.stride)*(stride-t.Cols):][:n]
			for j, c := range t.Code[at:][:n] {
				d[j] = value(c, low, s, t.Zero[i])
			}
		}
	}
	return nil
}

func value(code uint8, low int, scale, zero float32) float32 {
	return float32((float32(int(code)+low) - zero) * scale)
}
