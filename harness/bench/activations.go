package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"splitbench/compress"
	"splitbench/models/checkpoint"
)

// Activations are rows of a boundary tensor to measure on.
type Activations struct {
	Name string
	Rows compress.Matrix
	// Train holds other rows of the same origin, for codecs that are trained;
	// it may have none.
	Train compress.Matrix
}

// trainAbove is the number of rows from which a tensor is divided into rows to
// train on and rows to measure.
const trainAbove = 64

// Divide gives the first half of the rows to training when there are more than
// 64 and none to train on are there yet, and says whether it did.
func (a *Activations) Divide() bool {
	n := a.Rows.Rows
	if n <= trainAbove || a.Train.Rows > 0 {
		return false
	}
	half := n / 2 * a.Rows.Cols
	a.Train = compress.Matrix{Rows: n / 2, Cols: a.Rows.Cols, Data: a.Rows.Data[:half]}
	a.Rows = compress.Matrix{Rows: n - n/2, Cols: a.Rows.Cols, Data: a.Rows.Data[half:]}
	return true
}

// SplitName cuts FILE[:TENSOR], the form in which users name tensors.
func SplitName(name string) (file, tensor string) {
	if i := strings.LastIndex(name, ".safetensors:"); i >= 0 {
		i += len(".safetensors")
		return name[:i], name[i+1:]
	}
	return name, ""
}

// ReadActivations reads FILE[:TENSOR] of a safetensors file, where TENSOR may be
// a pattern of path.Match: the rows of all tensors that match follow each other
// in the order of their names, numbers in them by value. The last dimension is
// the row. Without TENSOR the file must hold one tensor.
func ReadActivations(name string) (Activations, error) {
	file, pattern := SplitName(name)
	f, err := checkpoint.OpenSafetensors(file)
	if err != nil {
		return Activations{}, err
	}
	defer f.Close()
	names := f.Names()
	if pattern == "" {
		if len(names) != 1 {
			return Activations{}, fmt.Errorf("%s holds %d tensors, choose with %s:TENSOR among %s", file, len(names), file, some(names))
		}
		pattern = names[0]
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return Activations{}, fmt.Errorf("%s: pattern %q: %w", file, pattern, err)
	}
	var found []string
	for _, n := range names {
		// A name may hold the characters of patterns itself.
		if ok, _ := path.Match(pattern, n); ok || n == pattern {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return Activations{}, fmt.Errorf("%s: no tensor %q, expected one of %s", file, pattern, some(names))
	}
	slices.SortFunc(found, compareNumbered)
	a := Activations{Name: path.Base(file) + ":" + pattern}
	for _, n := range found {
		t, _ := f.Tensor(n)
		rows, cols := t.Matrix()
		switch {
		case !t.DType.IsFloat():
			return Activations{}, fmt.Errorf("%s: tensor %s: dtype %s, expected a float type", file, n, t.DType)
		case rows == 0 || cols == 0:
			return Activations{}, fmt.Errorf("%s: tensor %s: shape %v, expected at least one row and one column", file, n, t.Shape)
		case a.Rows.Rows > 0 && cols != a.Rows.Cols:
			return Activations{}, fmt.Errorf("%s: tensor %s: rows of %d values, expected %d as in %s", file, n, cols, a.Rows.Cols, found[0])
		case len(a.Rows.Data)+t.Len() > compress.MaxValues:
			return Activations{}, fmt.Errorf("%s: %s: more than %d values, the most that one message holds", file, pattern, compress.MaxValues)
		}
		v, err := t.Float32Unchecked(nil)
		if err != nil {
			return Activations{}, err
		}
		a.Rows.Cols = cols
		a.Rows.Rows += rows
		a.Rows.Data = append(a.Rows.Data, v...)
	}
	return a, nil
}

// compareNumbered orders names with the numbers in them by value, so that
// 10.hidden.3 comes behind 9.hidden.3.
func compareNumbered(a, b string) int {
	digits := func(s string) int {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		return n
	}
	for a != "" && b != "" {
		m, n := digits(a), digits(b)
		if m > 0 && n > 0 {
			x, y := strings.TrimLeft(a[:m], "0"), strings.TrimLeft(b[:n], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if c := strings.Compare(x, y); c != 0 {
				return c
			}
			a, b = a[m:], b[n:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

// some joins at most ten names.
func some(names []string) string {
	if len(names) > 10 {
		return strings.Join(names[:10], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

// Synthetic returns activations with the heavy tails of a language model's
// residual stream: a spread of .5 to 1 per token, channel factors exp(.25 N),
// one hot channel in 512 (x6 to x12), and a massive value of 500 to 1200 in one
// token of 80. They are rounded to float16, the type in which such streams are
// usual. The same rows to train on come from another part of the same stream.
// The seed decides every value.
func Synthetic(rows, train, cols int, seed uint64) Activations {
	rng := rand.New(rand.NewPCG(seed, 5))
	channel := make([]float64, cols)
	for c := range channel {
		channel[c] = math.Exp(.25 * rng.NormFloat64())
	}
	for range (cols + 511) / 512 {
		channel[rng.IntN(cols)] *= 6 + 6*rng.Float64()
	}
	draw := func(rows int) compress.Matrix {
		m := compress.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
		for r := range rows {
			spread := .5 + .5*rng.Float64()
			row := m.Row(r)
			for c := range row {
				row[c] = half(spread * channel[c] * rng.NormFloat64())
			}
			if rng.IntN(80) == 0 {
				row[rng.IntN(cols)] = half(500 + 700*rng.Float64())
			}
		}
		return m
	}
	a := Activations{Name: fmt.Sprintf("synthetic %dx%d", rows, cols)}
	a.Train = draw(train)
	a.Rows = draw(rows)
	return a
}

func half(v float64) float32 {
	return checkpoint.Float16ToFloat32(checkpoint.Float32ToFloat16(float32(v)))
}
