package quantize

import (
	"fmt"
	"math"
)

// Clipping holds the factors u and l of learnable weight clipping (OmniQuant,
// LWC), one pair per group in the order of Quantizer.Fit: the range of a group
// is sigmoid(u)*max .. sigmoid(l)*min before the scheme sees it. Nil factors
// stand for sigmoid = 1 (plain min-max).
type Clipping struct {
	Up, Low []float32
}

// ClippingStart is the value that u and l start from: sigmoid(4) = 0.982.
const ClippingStart = 4

// NewClipping returns n pairs at ClippingStart.
func NewClipping(n int) *Clipping {
	c := &Clipping{Up: make([]float32, n), Low: make([]float32, n)}
	for i := range n {
		c.Up[i], c.Low[i] = ClippingStart, ClippingStart
	}
	return c
}

func (c *Clipping) check(g grid) error {
	if len(c.Up) != g.groups() || len(c.Low) != g.groups() {
		return fmt.Errorf("clipping: %d upper and %d lower factors: want %d", len(c.Up), len(c.Low), g.groups())
	}
	return nil
}

func sigmoid(u float64) float64 { return 1 / (1 + math.Exp(-u)) }

// sigmoid32 rounds every operation to float32, as torch does.
func sigmoid32(u float32) float32 { return 1 / (1 + float32(math.Exp(-float64(u)))) }

// FitClipped is Fit with the clipping factors of LWC.
func (q Quantizer) FitClipped(x []float32, rows, cols int, c *Clipping, scale, zero []float32) error {
	return q.fit(x, rows, cols, cols, c, scale, zero)
}

// QuantizeClipped is Quantize with the clipping factors of LWC.
func (q Quantizer) QuantizeClipped(x []float32, rows, cols int, c *Clipping) (*Tensor, error) {
	n, err := q.Groups(rows, cols)
	if err != nil {
		return nil, err
	}
	t := &Tensor{Quantizer: q, Rows: rows, Cols: cols, Scale: make([]float32, n), Zero: make([]float32, n)}
	if err := q.FitClipped(x, rows, cols, c, t.Scale, t.Zero); err != nil {
		return nil, err
	}
	return t, t.encode(x, cols)
}

// Backward is the straight-through gradient of ASYM quantization (OmniQuant):
// with dOut the gradient of the dequantized matrix, it writes the gradient of
// the matrix to dX (which may be dOut) and, when c is not nil, those of u and l
// to dUp and dLow. Scale and zero are those of Fit or FitClipped.
//
// Rounding passes the gradient, the zero point is a constant, and the clamp of
// the integer passes it for 0 <= integer <= 2^b-1, both ends included. The
// scale depends on the largest and the least number of the group; equal
// extremes share their part evenly. A scale at its bounds gets none beyond
// them: the bound is inclusive too. Sums are float64.
func (q Quantizer) Backward(dX, dOut, x []float32, rows, cols int, c *Clipping, scale, zero, dUp, dLow []float32) error {
	g, err := q.grid(rows, cols, cols)
	if err != nil {
		return err
	}
	switch {
	case q.Scheme != Asym || q.Widen || q.SearchMSE || q.Zeros == ZeroClamp || q.Tail == TailPad || q.Clip != 0 && q.Clip != 1:
		return fmt.Errorf("quantizer: gradients exist for asym without widening, search, clip, padding and zero clamp")
	case len(x) != rows*cols || len(dOut) != len(x) || len(dX) != len(x):
		return fmt.Errorf("quantizer: gradient of %d and %d numbers for a matrix of %d x %d", len(dOut), len(dX), rows, cols)
	case len(scale) != g.groups() || len(zero) != g.groups():
		return fmt.Errorf("quantizer: %d scales and %d zeros: want %d", len(scale), len(zero), g.groups())
	}
	if c != nil {
		if err := c.check(g); err != nil {
			return err
		}
		if len(dUp) != g.groups() || len(dLow) != g.groups() {
			return fmt.Errorf("clipping: gradients of %d upper and %d lower factors: want %d", len(dUp), len(dLow), g.groups())
		}
	}
	_, top := q.Range()
	levels := float32(top)
	for i, s := range scale {
		start, n := g.window(i)
		mn, mx, _ := g.extremes(x, start, n, false)
		z := zero[i]
		var dh float64
		var nMin, nMax int
		for r := range g.share {
			at := start + r*g.stride
			for j, v := range x[at:][:n] {
				t := v / s
				k := round32(t) + z
				d := float64(dOut[at+j])
				e := float64(clamp32(k, 0, levels) - z)
				if k >= 0 && k <= levels {
					e -= float64(t)
				}
				dh += d * e
				if v == mn {
					nMin++
				}
				if v == mx {
					nMax++
				}
			}
		}
		hi, lo := 1.0, 1.0
		if c != nil {
			hi, lo = sigmoid(float64(c.Up[i])), sigmoid(float64(c.Low[i]))
		}
		// The unbounded scale decides whether the bound lets the gradient through.
		h := float32(float32(float32(hi)*mx)-float32(float32(lo)*mn)) / levels
		if h < float32(q.ScaleMin) || q.ScaleMax > 0 && h > float32(q.ScaleMax) || float32(h*levels) < float32(q.Floor) {
			dh = 0
		}
		dh /= float64(levels)
		if c != nil {
			dUp[i] = float32(dh * float64(mx) * hi * (1 - hi))
			dLow[i] = float32(-dh * float64(mn) * lo * (1 - lo))
		}
		toMax, toMin := dh*hi/float64(max(1, nMax)), -dh*lo/float64(max(1, nMin))
		for r := range g.share {
			at := start + r*g.stride
			for j, v := range x[at:][:n] {
				var d float64
				if k := round32(v/s) + z; k >= 0 && k <= levels {
					d = float64(dOut[at+j])
				}
				if v == mx {
					d += toMax
				}
				if v == mn {
					d += toMin
				}
				dX[at+j] = float32(d)
			}
		}
	}
	return nil
}
