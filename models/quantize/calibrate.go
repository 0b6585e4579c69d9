package quantize

import (
	"fmt"
	"math"
	"sort"
)

// Statistics gathers, per input channel of a linear, what the methods need of
// its calibration inputs. It is not safe for concurrent use.
type Statistics struct {
	// AbsMax is the largest |x| (SmoothQuant, OmniQuant).
	AbsMax []float32
	// Squares is the sum of x² (Atom), Abs the sum of |x| (AWQ).
	Squares, Abs []float64
	// AbsMean is the largest mean |x| of a sequence (Atom's metric abs_mean).
	AbsMean           []float32
	Tokens, Sequences int
}

// NewStatistics returns empty statistics of n channels.
func NewStatistics(n int) *Statistics {
	return &Statistics{AbsMax: make([]float32, n), AbsMean: make([]float32, n), Squares: make([]float64, n), Abs: make([]float64, n)}
}

// Add gathers one sequence x, (tokens, n) by rows.
func (s *Statistics) Add(x []float32, tokens int) error {
	n := len(s.AbsMax)
	if tokens < 1 || len(x) != tokens*n {
		return fmt.Errorf("statistics: %d numbers for %d tokens of %d channels", len(x), tokens, n)
	}
	abs := make([]float64, n)
	for t := range tokens {
		for c, v := range x[t*n : (t+1)*n] {
			a := abs32(v)
			if a-a != 0 {
				return fmt.Errorf("statistics: token %d, channel %d: %v is not finite", t, c, v)
			}
			s.AbsMax[c] = max(s.AbsMax[c], a)
			s.Squares[c] += float64(a) * float64(a)
			abs[c] += float64(a)
		}
	}
	for c, a := range abs {
		s.Abs[c] += a
		s.AbsMean[c] = max(s.AbsMean[c], float32(a/float64(tokens)))
	}
	s.Tokens += tokens
	s.Sequences++
	return nil
}

// HessianDiagonal returns D = (2/n) sum x² over n sequences (Atom's metric
// hessian).
func (s *Statistics) HessianDiagonal() []float32 {
	d := make([]float32, len(s.Squares))
	for i, v := range s.Squares {
		d[i] = float32(2 * v / float64(max(1, s.Sequences)))
	}
	return d
}

// AbsAverage returns the mean |x| over all tokens (AWQ).
func (s *Statistics) AbsAverage() []float32 {
	d := make([]float32, len(s.Abs))
	for i, v := range s.Abs {
		d[i] = float32(v / float64(max(1, s.Tokens)))
	}
	return d
}

// ReorderIndex returns the channels by ascending metric, equal ones by number:
// position i of the reordered input holds channel index[i], the outliers are
// the last (Atom).
func ReorderIndex(metric []float32) []int32 {
	index := make([]int32, len(metric))
	for i := range index {
		index[i] = int32(i)
	}
	sort.SliceStable(index, func(i, j int) bool { return metric[index[i]] < metric[index[j]] })
	return index
}

// InvertIndex returns the inverse of a permutation, or an error when index is
// none.
func InvertIndex(index []int32) ([]int32, error) {
	inv := make([]int32, len(index))
	for i := range inv {
		inv[i] = -1
	}
	for i, c := range index {
		if c < 0 || int(c) >= len(index) || inv[c] >= 0 {
			return nil, fmt.Errorf("reorder: position %d holds channel %d: want a permutation of 0..%d", i, c, len(index)-1)
		}
		inv[c] = int32(i)
	}
	return inv, nil
}

// GatherColumns writes the columns of x, (rows, len(index)) by rows, in the
// order of index to dst, which is not x.
func GatherColumns(dst, x []float32, index []int32) {
	n := len(index)
	for r := 0; r+n <= len(x); r += n {
		d, s := dst[r:r+n], x[r:r+n]
		for i, c := range index {
			d[i] = s[c]
		}
	}
}

// GatherRows writes the rows of x, (len(index), cols) by rows, in the order of
// index to dst, which is not x.
func GatherRows(dst, x []float32, cols int, index []int32) {
	for i, r := range index {
		copy(dst[i*cols:(i+1)*cols], x[int(r)*cols:])
	}
}

// ColumnAbsMax raises dst to the largest magnitude of each column of a weight
// w, rows of len(dst).
func ColumnAbsMax(dst, w []float32) {
	for r := 0; r+len(dst) <= len(w); r += len(dst) {
		for c, v := range w[r : r+len(dst)] {
			dst[c] = max(dst[c], abs32(v))
		}
	}
}

// least is the floor of SmoothQuant's and OmniQuant's statistics and scales.
const least = 1e-5

// SmoothScales returns s_j = max(A_j^alpha / w_j^(1-alpha), 1e-5) of
// SmoothQuant, equation 4: absMax holds A_j, weights the linears that the norm
// feeds, each with rows of len(absMax). The norm's weight is divided by s, the
// columns of the linears are multiplied by it.
func SmoothScales(absMax []float32, alpha float64, weights ...[]float32) ([]float32, error) {
	w, err := columnMaxima(absMax, alpha, weights)
	if err != nil {
		return nil, err
	}
	s := make([]float32, len(absMax))
	for j, a := range absMax {
		s[j] = max(power(a, alpha)/power(max(w[j], least), 1-alpha), least)
	}
	return s, nil
}

// EquivalentScales returns the initial scales of OmniQuant's learnable
// equivalent transformation: SmoothScales with A_j floored at 1e-5 and the
// weight of one linear alone, q_proj for qkv, up_proj for fc1, o_proj for out.
func EquivalentScales(absMax []float32, alpha float64, weight []float32) ([]float32, error) {
	w, err := columnMaxima(absMax, alpha, [][]float32{weight})
	if err != nil {
		return nil, err
	}
	s := make([]float32, len(absMax))
	for j, a := range absMax {
		s[j] = max(power(max(a, least), alpha)/power(max(w[j], least), 1-alpha), least)
	}
	return s, nil
}

func columnMaxima(absMax []float32, alpha float64, weights [][]float32) ([]float32, error) {
	if !(alpha >= 0 && alpha <= 1) {
		return nil, fmt.Errorf("smoothing: alpha %v: want 0..1", alpha)
	}
	w := make([]float32, len(absMax))
	for _, x := range weights {
		if len(absMax) == 0 || len(x)%len(absMax) != 0 {
			return nil, fmt.Errorf("smoothing: weight of %d numbers: want rows of %d", len(x), len(absMax))
		}
		ColumnAbsMax(w, x)
	}
	return w, nil
}

func power(x float32, e float64) float32 { return float32(math.Pow(float64(x), e)) }

// TruncateScale keeps a scale of the equivalent transformation at a magnitude
// of 0.01 or more, with its sign (0 stays 0). Its gradient is 1 (OmniQuant).
func TruncateScale(s float32) float32 {
	const threshold = 1e-2
	switch {
	case s == 0 || abs32(s) >= threshold:
		return s
	case s < 0:
		return -threshold
	}
	return threshold
}

// ScaleColumns multiplies column j of w, rows of len(s), by s_j, or divides by it.
func ScaleColumns(w, s []float32, divide bool) {
	for r := 0; r+len(s) <= len(w); r += len(s) {
		for j, v := range s {
			if divide {
				w[r+j] /= v
			} else {
				w[r+j] *= v
			}
		}
	}
}

// ScaleRows multiplies row i of w, len(s) rows, by s_i, or divides by it.
func ScaleRows(w, s []float32, divide bool) {
	if len(s) == 0 {
		return
	}
	cols := len(w) / len(s)
	for i, v := range s {
		for j := range w[i*cols : (i+1)*cols] {
			if divide {
				w[i*cols+j] /= v
			} else {
				w[i*cols+j] *= v
			}
		}
	}
}

// AWQGrid is the number of exponents of AWQ's scale search: 0, 1/20 .. 19/20.
const AWQGrid = 20

// AWQScales returns the trial scales of AWQ for one exponent: s = max(x^ratio,
// 1e-4) divided by sqrt(max s * min s), x the mean |x| per channel.
func AWQScales(mean []float32, ratio float64) []float32 {
	s := make([]float32, len(mean))
	hi, lo := float32(0), float32(math.Inf(1))
	for j, x := range mean {
		s[j] = max(power(x, ratio), 1e-4)
		hi, lo = max(hi, s[j]), min(lo, s[j])
	}
	root := float32(math.Sqrt(float64(float32(hi * lo))))
	for j := range s {
		s[j] /= root
	}
	return s
}

// AWQTrial writes what AWQ's search tries as weight to dst: q of w diag(s),
// times diag(1/s). w has rows of len(s); dst may be w.
func AWQTrial(dst, w, s []float32, q Quantizer) error {
	if len(s) == 0 || len(w)%len(s) != 0 || len(dst) != len(w) {
		return fmt.Errorf("awq: weight of %d numbers into %d: want rows of %d", len(w), len(dst), len(s))
	}
	copy(dst, w)
	ScaleColumns(dst, s, false)
	if err := q.Simulate(dst, dst, len(w)/len(s), len(s)); err != nil {
		return err
	}
	ScaleColumns(dst, s, true)
	return nil
}

// SearchAWQScale tries the exponents of AWQ in ascending order and returns the
// scales with the least loss, the first of equals. The loss is the mean square
// of the change of the inspected module's output when its weights are those of
// AWQTrial.
func SearchAWQScale(mean []float32, loss func(scales []float32) (float64, error)) (best []float32, ratio, least float64, err error) {
	least = math.Inf(1)
	for i := range AWQGrid {
		r := float64(i) / AWQGrid
		s := AWQScales(mean, r)
		l, err := loss(s)
		if err != nil {
			return nil, 0, 0, err
		}
		if l < least {
			best, ratio, least = s, r, l
		}
	}
	if best == nil {
		return nil, 0, 0, fmt.Errorf("awq: no exponent gives a finite loss")
	}
	return best, ratio, least, nil
}

// AWQClip says how AWQ's clip search runs.
type AWQClip struct {
	Grid    int     // steps of a whole range, 20
	Shrink  float64 // largest share taken away, 0.5
	Tokens  int     // tokens sampled at equal distance, 512
	Workers int     // 0 means one per processor
}

// DefaultAWQClip is the setting of auto_clip_layer.
var DefaultAWQClip = AWQClip{Grid: 20, Shrink: 0.5, Tokens: 512}

// Search returns the magnitude at which to clip each group of the weight w,
// (rows, cols) by rows: of the trial ranges the one with the least mean square
// change of the group's part of the output, for inputs x (tokens, cols) by
// rows. The change is computed from the Gram matrix of the group's inputs.
func (a AWQClip) Search(w []float32, rows, cols int, x []float32, tokens int, q Quantizer) ([]float32, error) {
	group := cols
	if q.Group > 0 {
		group = q.Group
	}
	switch {
	case a.Grid < 1 || a.Tokens < 1 || !(a.Shrink > 0 && a.Shrink < 1):
		return nil, fmt.Errorf("awq: clip search with grid %d, shrink %v, %d tokens", a.Grid, a.Shrink, a.Tokens)
	case rows < 1 || cols < 1 || tokens < 1 || len(w) != rows*cols || len(x) != tokens*cols:
		return nil, fmt.Errorf("awq: weight of %d numbers (%d x %d), inputs of %d (%d tokens)", len(w), rows, cols, len(x), tokens)
	case cols%group != 0:
		return nil, fmt.Errorf("awq: group %d does not divide %d columns", group, cols)
	}
	if _, err := q.Groups(rows, cols); err != nil {
		return nil, err
	}
	q.Granularity, q.Group = PerChannel, 0
	every := max(1, tokens/a.Tokens)
	across := cols / group
	best := make([]float32, rows*across)
	lo, hi := q.Range()
	l, h := float32(lo), float32(hi)
	for g := range across {
		c0 := g * group
		gram := make([]float64, group*group)
		parallel(group, a.Workers, func(i int) {
			d := gram[i*group : (i+1)*group]
			for t := 0; t < tokens; t += every {
				row := x[t*cols+c0:][:group]
				v := float64(row[i])
				for j, u := range row {
					d[j] += float64(v * float64(u))
				}
			}
		})
		parallel(rows, a.Workers, func(r int) {
			row := w[r*cols+c0:][:group]
			var top float32
			for _, v := range row {
				top = max(top, abs32(v))
			}
			least := math.Inf(1)
			best[r*across+g] = top
			cur, d := make([]float32, group), make([]float64, group)
			for i := range int(a.Shrink * float64(a.Grid)) {
				clip := float32(top * float32(1-float64(i)/float64(a.Grid)))
				mn, mx := float32(math.Inf(1)), float32(math.Inf(-1))
				for j, v := range row {
					cur[j] = clamp32(v, -clip, clip)
					mn, mx = min(mn, cur[j]), max(mx, cur[j])
				}
				scale, zero, _, _ := q.params(mn, mx)
				for j, v := range cur {
					d[j] = float64(step(v, scale, zero, l, h)) - float64(row[j])
				}
				var e float64
				for j, v := range d {
					e += float64(v * dot(gram[j*group:(j+1)*group], d))
				}
				if e < least {
					least, best[r*across+g] = e, clip
				}
			}
		})
	}
	return best, nil
}

// ClampGroups clamps each group of a weight, (rows, cols) by rows, to the
// magnitudes of Search, in place.
func ClampGroups(w []float32, rows, cols int, limits []float32) error {
	if rows < 1 || len(limits) == 0 || len(limits)%rows != 0 || len(w) != rows*cols || cols%(len(limits)/rows) != 0 {
		return fmt.Errorf("awq: %d limits for a weight of %d x %d", len(limits), rows, cols)
	}
	group := len(w) / len(limits)
	for i, l := range limits {
		for j, v := range w[i*group : (i+1)*group] {
			w[i*group+j] = clamp32(v, -l, l)
		}
	}
	return nil
}
