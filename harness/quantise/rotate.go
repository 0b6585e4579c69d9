package quantise

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// Axes are the principal axes of the residual stream after a block.
type Axes struct {
	// Rotation is (hidden, hidden) by rows: rows of the stream times it are in the
	// axes' basis. Its columns are the unit eigenvectors of the mean of x xᵀ, the
	// component of largest magnitude positive.
	Rotation []float64
	// Eigenvalues are the mean squares along the axes, in falling order.
	Eigenvalues []float64
	Rows        int // how many rows the mean is of
}

// PrincipalAxes finds the axes after block layer, 1 to the number of layers, on
// sequences of token ids. The mean is not centred, since RMSNorm knows no mean.
// With skipFirst the first position of every sequence, whose values may be
// extreme, does not count.
//
// Equal weights and sequences give the same bits wherever the backend does.
func PrincipalAxes(ctx context.Context, m *decoder.Model, sequences [][]int32, layer int, skipFirst bool) (*Axes, error) {
	if layer < 1 || layer > m.Config.Layers {
		return nil, fmt.Errorf("principal axes after layer %d: the model has %d layers, expected 1..%d", layer, m.Config.Layers, m.Config.Layers)
	}
	n := m.Config.HiddenSize
	moment := quantize.NewSecondMoment(n)
	err := eachStream(ctx, m, sequences, func(k int, rows []float32) error {
		if k != layer {
			return nil
		}
		if skipFirst {
			rows = rows[n:]
		}
		return moment.Add(rows)
	})
	if err != nil {
		return nil, err
	}
	if moment.Rows() == 0 {
		return nil, fmt.Errorf("principal axes: no tokens in %d sequences", len(sequences))
	}
	a := &Axes{Rows: moment.Rows()}
	a.Eigenvalues, a.Rotation, err = quantize.SymmetricEigen(moment.Matrix(), n)
	for i, v := range a.Eigenvalues {
		a.Eigenvalues[i] = max(0, v) // of fewer rows than channels: no energy but rounding
	}
	return a, err
}

// eachStream shows the residual stream of every sequence, layer by layer from 0
// (the embeddings); the rows are valid during the call.
func eachStream(ctx context.Context, m *decoder.Model, sequences [][]int32, see func(layer int, rows []float32) error) error {
	w, err := newWalk(m, sequences)
	if err != nil {
		return err
	}
	var host []float32
	for i, ids := range sequences {
		host = append(host[:0], make([]float32, len(ids)*m.Config.HiddenSize)...)
		_, err := w.blocks(ctx, ids, func(layer int, x backend.Matrix) error {
			m.Backend.Download(host, x)
			if err := m.Backend.Sync(); err != nil {
				return err
			}
			return see(layer, host)
		})
		if err != nil {
			return fmt.Errorf("sequence %d: %w", i+1, err)
		}
	}
	return nil
}

// rotationTolerance bounds the entries of QᵀQ-I of a matrix that counts as a
// rotation; float32 leaves about 1e-7.
const rotationTolerance = 1e-6

// checkRotation says whether q, (n, n) by rows, is orthogonal.
func checkRotation(q []float64, n int) error {
	if len(q) != n*n {
		return fmt.Errorf("rotation of %d numbers, expected (%d, %d)", len(q), n, n)
	}
	product := make([]float64, n*n)
	for r := 0; r < len(q); r += n {
		row := q[r : r+n]
		for i, a := range row {
			p := product[i*n : i*n+i+1]
			for j := range p {
				p[j] += float64(a * row[j])
			}
		}
	}
	for i := range n {
		for j := range i + 1 {
			want := 0.0
			if i == j {
				want = 1
			}
			if !(math.Abs(product[i*n+j]-want) <= rotationTolerance) {
				return fmt.Errorf("no rotation: columns %d and %d have the product %.9g, expected %v", j, i, product[i*n+j], want)
			}
		}
	}
	return nil
}

// Rotate hands the model of a checkpoint to sink in another basis of the
// residual stream: the same function, rows of the stream times q, (hidden,
// hidden) by rows and orthogonal. Norm weights are folded into the linear maps
// that they feed and are 1 after, so the head is a matrix of its own. Every
// weight is computed in float64 and rounded to float32 once, the same bits on
// every processor.
//
// The model has the same accuracy; only the values that cross a split differ.
func Rotate(ctx context.Context, c *checkpoint.Checkpoint, q []float64, sink Sink) error {
	if err := checkRotation(q, c.Config.HiddenSize); err != nil {
		return err
	}
	r := &rotation{q: q, n: c.Config.HiddenSize, once: true}
	e, err := loadEnds(c)
	if err != nil {
		return err
	}
	config := c.Config
	r.ends(&config, e, false)
	if err := sink.Ends(config, e); err != nil {
		return err
	}
	for k := range config.Layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := loadBlock(c, k)
		if err != nil {
			return err
		}
		r.block(b)
		if err := sink.Block(k, b); err != nil {
			return err
		}
	}
	return nil
}

// rotationTensor is the one tensor of a rotation's file.
const rotationTensor = "rotation"

// SaveRotation writes a matrix (n, n) as the F64 tensor "rotation" of a
// safetensors file.
func SaveRotation(path string, q []float64, n int) error {
	path = filepath.Clean(path)
	return writeFile(path, []checkpoint.NamedTensor{{Name: rotationTensor, Shape: []int{n, n}, Data: q}}, nil)
}

// LoadRotation reads the tensor "rotation" (n, n), F64 or another float type,
// of a safetensors file. One that is not orthogonal is an error.
func LoadRotation(path string, n int) ([]float64, error) {
	f, err := checkpoint.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, ok := f.Tensor(rotationTensor)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: no tensor %s", path, rotationTensor)
	case len(t.Shape) != 2 || t.Shape[0] != n || t.Shape[1] != n:
		return nil, fmt.Errorf("%s: tensor %s has the shape %v, expected [%d %d] as the model's hidden size", path, rotationTensor, t.Shape, n, n)
	}
	q := make([]float64, 0, n*n)
	if t.DType == checkpoint.F64 {
		for r := range n {
			for row := t.RowBytes(r); len(row) > 0; row = row[8:] {
				q = append(q, math.Float64frombits(binary.LittleEndian.Uint64(row)))
			}
		}
	} else {
		narrow, err := t.Float32(nil)
		if err != nil {
			return nil, err
		}
		for _, v := range narrow {
			q = append(q, float64(v))
		}
	}
	if err := checkRotation(q, n); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return q, nil
}

// Agreement says how near two models' results are.
type Agreement struct {
	Logit  float64 // largest difference of a logit
	Scale  float64 // largest magnitude of a logit of the first model
	Losses [2]float64
}

// Compare runs two models of one vocabulary on sequences. Losses are the mean
// of -log p of the second and later tokens, natural logarithm.
func Compare(ctx context.Context, a, b *decoder.Model, sequences [][]int32) (Agreement, error) {
	var all Agreement
	if a.Config.VocabSize != b.Config.VocabSize {
		return all, fmt.Errorf("models of %d and %d tokens", a.Config.VocabSize, b.Config.VocabSize)
	}
	models := [2]*decoder.Model{a, b}
	var walks [2]*walk
	for i, m := range models {
		var err error
		if walks[i], err = newWalk(m, sequences); err != nil {
			return all, err
		}
		if all.Losses[i], err = MeanLoss(ctx, m, sequences); err != nil {
			return all, err
		}
	}
	for _, ids := range sequences {
		var logits [2][]float32
		for i, m := range models {
			x, err := walks[i].final(ctx, ids)
			if err != nil {
				return all, err
			}
			out, err := m.Backend.Alloc(len(ids), m.Config.VocabSize)
			if err != nil {
				return all, err
			}
			m.Logits(out, x)
			logits[i] = make([]float32, len(ids)*m.Config.VocabSize)
			m.Backend.Download(logits[i], out)
			if err := m.Backend.Sync(); err != nil {
				return all, err
			}
		}
		for i, v := range logits[0] {
			// The built-in max keeps NaN, so that no comparison passes over it.
			all.Logit = max(all.Logit, math.Abs(float64(v)-float64(logits[1][i])))
			all.Scale = max(all.Scale, math.Abs(float64(v)))
		}
	}
	return all, nil
}
