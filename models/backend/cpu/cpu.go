// Package cpu is the reference backend: float32 on the host's cores, plain
// Go with optional assembly kernels that give the same bits.
//
// The results of every operation are a function of the operands alone: each
// output element has one fixed order of additions (see blockK), whatever the
// number of rows, workers or the instruction set.
package cpu

import (
	"fmt"
	"math"
	"sync/atomic"

	"splitbench/models/backend"
)

// Options of New; the zero value uses every core and the fastest kernels.
type Options struct {
	Workers int    // goroutines; 0 = GOMAXPROCS, 1 where the CPU quota is no more
	Kernel  string // "avx512", "avx2", "neon", "go"; "" = the fastest this CPU has
}

// Backend implements backend.Backend. Its operations must not be called
// concurrently; weights, vectors and caches of one Backend may be shared with
// no other.
type Backend struct {
	pool    *pool
	kernel  kernel
	scratch []scratch // per worker
	chunk   []float32 // logits of LogProbs
	logits  matrix    // chunk as a matrix

	packedRows []float32 // left operand of the product at work, in tiles

	productPanels, productRows []float32 // operands of Product in the order of the kernels

	product   productJob
	few       fewJob
	rowJob    rowJob
	attention attentionJob
	score     scoreJob
	firsts    []int // of scoreJob
}

// scratch is one worker's private memory.
type scratch struct {
	edge   [edgeRows * panelWidth]float32
	unpack []float32 // a block of dequantised panels
	scores []float32 // attention weights of a block of rows
	rows   []float32 // gathered queries or dequantised rows
	rows16 []uint16  // rows of a 16-bit weight
}

// Kernels lists the kernels available on this CPU, fastest first.
func Kernels() []string {
	var names []string
	for _, k := range microKernels() {
		names = append(names, k.name)
	}
	return names
}

// New starts a backend; Close stops its workers.
func New(o Options) (*Backend, error) {
	ks := microKernels()
	k := ks[0]
	if o.Kernel != "" {
		found := false
		for _, c := range ks {
			if c.name == o.Kernel {
				k, found = c, true
			}
		}
		if !found {
			return nil, fmt.Errorf("cpu backend: kernel %q is not available here, expected one of %v", o.Kernel, Kernels())
		}
	}
	p := newPool(o.Workers)
	return &Backend{pool: p, kernel: k, scratch: make([]scratch, p.workers)}, nil
}

// Name is "cpu/" and the kernel in use.
func (b *Backend) Name() string { return "cpu/" + b.kernel.name }

// Workers is the number of goroutines that share the work.
func (b *Backend) Workers() int { return b.pool.workers }

// Close stops the workers.
func (b *Backend) Close() error { b.pool.close(); return nil }

// Sync returns nil: operations finish before they return.
func (b *Backend) Sync() error { return nil }

// matrix implements backend.Matrix on host memory, dense rows.
type matrix struct {
	rows, cols int
	data       []float32 // rows*cols
	view       atomic.Pointer[matrix]
	from       int // of a view: its first row
}

func (m *matrix) Rows() int { return m.rows }
func (m *matrix) Cols() int { return m.cols }

// Slice keeps the last view: who asks for the same rows again, pass after
// pass, allocates nothing.
func (m *matrix) Slice(from, to int) backend.Matrix {
	if v := m.view.Load(); v != nil && v.from == from && v.rows == to-from {
		return v
	}
	v := &matrix{rows: to - from, cols: m.cols, data: m.data[from*m.cols : to*m.cols], from: from}
	m.view.Store(v)
	return v
}

func (m *matrix) row(i int) []float32 { return m.data[i*m.cols : (i+1)*m.cols] }

type vector []float32

func (v vector) Len() int { return len(v) }

// Alloc returns a zeroed matrix.
func (b *Backend) Alloc(rows, cols int) (backend.Matrix, error) {
	if rows < 0 || cols <= 0 || (rows > 0 && cols > math.MaxInt/4/rows) {
		return nil, fmt.Errorf("cpu backend: cannot allocate a matrix of %d x %d", rows, cols)
	}
	return &matrix{rows: rows, cols: cols, data: make([]float32, rows*cols)}, nil
}

// Upload copies rows*cols values to dst.
func (b *Backend) Upload(dst backend.Matrix, src []float32) {
	d := dst.(*matrix)
	mustEqual("Upload length", len(src), len(d.data))
	copy(d.data, src)
}

// Download copies the rows*cols values of src.
func (b *Backend) Download(dst []float32, src backend.Matrix) {
	s := src.(*matrix)
	mustEqual("Download length", len(dst), len(s.data))
	copy(dst, s.data)
}

// Copy copies src to dst.
func (b *Backend) Copy(dst, src backend.Matrix) {
	d, s := dst.(*matrix), src.(*matrix)
	mustEqual("Copy rows", s.rows, d.rows)
	mustEqual("Copy columns", s.cols, d.cols)
	copy(d.data, s.data)
}

// NewVector copies v.
func (b *Backend) NewVector(v []float32) (backend.Vector, error) {
	return vector(append([]float32(nil), v...)), nil
}

// mustEqual reports a caller's bug.
func mustEqual(what string, have, want int) {
	if have != want {
		panic(fmt.Sprintf("cpu backend: %s is %d, expected %d", what, have, want))
	}
}

// rowLoop calls body for blocks of rows.
func (b *Backend) rowLoop(rows, block int, costPerRow float64, body func(worker, from, to int)) {
	n := (rows + block - 1) / block
	b.pool.do(n, costPerRow*float64(rows), func(w, i int) {
		body(w, i*block, min(rows, (i+1)*block))
	})
}

// RMSNorm scales rows to unit root mean square.
func (b *Backend) RMSNorm(dst, src backend.Matrix, gain backend.Vector, epsilon float64) {
	d, s, g := dst.(*matrix), src.(*matrix), gain.(vector)
	mustEqual("RMSNorm rows", d.rows, s.rows)
	mustEqual("RMSNorm columns", d.cols, s.cols)
	mustEqual("RMSNorm gain", len(g), s.cols)
	b.rows(rowJob{kind: normRow, d: d, s: s, gain: g, epsilon: epsilon}, s.rows, 2*float64(s.cols))
}

// Rope rotates pairs (i, i+Half) of every head.
func (b *Backend) Rope(x backend.Matrix, heads, headDim int, positions []int32, table *backend.RopeTable) {
	m := x.(*matrix)
	mustEqual("Rope columns", m.cols, heads*headDim)
	mustEqual("Rope positions", len(positions), m.rows)
	if 2*table.Half > headDim {
		panic("cpu backend: RoPE rotates more dimensions than a head has")
	}
	b.rows(rowJob{kind: ropeRow, d: m, heads: heads, headDim: headDim, positions: positions, table: table}, m.rows, 4*float64(m.cols))
}

// SiluMul computes gate*sigmoid(gate)*up into gate.
func (b *Backend) SiluMul(gate, up backend.Matrix) {
	g, u := gate.(*matrix), up.(*matrix)
	mustEqual("SiluMul size", len(g.data), len(u.data))
	b.rows(rowJob{kind: siluRow, d: g, s: u}, g.rows, 40*float64(g.cols))
}

// MapRows calls f on runs of rows in place.
func (b *Backend) MapRows(x backend.Matrix, f func(rows []float32) error) error {
	m := x.(*matrix)
	const run = 16
	failed := make([]error, (m.rows+run-1)/run)
	b.rowLoop(m.rows, run, 100*float64(m.cols), func(_, from, to int) {
		failed[from/run] = f(m.data[from*m.cols : to*m.cols])
	})
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// rowJob is an operation on each row of d by itself.
type rowJob struct {
	kind           rowKind
	d, s           *matrix
	gain           vector
	epsilon        float64
	heads, headDim int
	positions      []int32
	table          *backend.RopeTable
	ids            []int32
	dense          *denseWeight
	b              *Backend
	block          int // rows of an item
}

type rowKind int

const (
	normRow rowKind = iota
	embedRow
	ropeRow
	siluRow
)

// rows runs j over n rows; cost is that of a row in floating-point operations
// at the speed of a product.
func (b *Backend) rows(j rowJob, n int, cost float64) {
	j.b = b
	j.block = max(1, min(64, n/(2*b.pool.workers)))
	b.rowJob = j
	b.pool.run((n+j.block-1)/j.block, 8*cost*float64(n), &b.rowJob)
	b.rowJob = rowJob{}
}

func (j *rowJob) item(_, i int) {
	cols := j.d.cols
	from := i * j.block
	to := min(j.d.rows, from+j.block)
	y := j.d.data[from*cols : to*cols]
	e := j.b.kernel.elements
	switch j.kind {
	case normRow:
		e.norm(y, j.s.data[from*cols:to*cols], to-from, cols, j.gain, j.epsilon, nil)
	case siluRow:
		e.silu(y, j.s.data[from*cols:to*cols])
	case embedRow:
		for r := from; r < to; r++ {
			id := int(j.ids[r])
			panel := j.dense.panels.data[id/panelWidth*j.dense.panels.stride+id%panelWidth:]
			for k := range j.d.row(r) {
				j.d.data[r*cols+k] = panel[k*panelWidth]
			}
		}
	case ropeRow:
		for r := from; r < to; r++ {
			p, half := int(j.positions[r]), j.table.Half
			e.rotate(j.d.row(r), j.heads, j.headDim, j.table.Cos[p*half:(p+1)*half], j.table.Sin[p*half:(p+1)*half])
		}
	}
}
