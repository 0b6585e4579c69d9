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

	"splitbench/models/backend"
)

// Options of New; the zero value uses every core and the fastest kernels.
type Options struct {
	Workers int    // goroutines; 0 = GOMAXPROCS
	Kernel  string // "avx512", "avx2", "go"; "" = the fastest this CPU has
}

// Backend implements backend.Backend. Its operations must not be called
// concurrently; weights, vectors and caches of one Backend may be shared with
// no other.
type Backend struct {
	pool    *pool
	kernel  kernel
	scratch []scratch // per worker
	chunk   []float32 // logits of LogProbs

	packedRows []float32 // left operand of the product at work, in tiles
	product    productJob
}

// scratch is one worker's private memory.
type scratch struct {
	edge   [edgeRows * panelWidth]float32
	unpack []float32 // a block of dequantised panels
	scores []float32 // attention weights of a block of rows
	rows   []float32 // gathered queries or dequantised rows
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
}

func (m *matrix) Rows() int { return m.rows }
func (m *matrix) Cols() int { return m.cols }
func (m *matrix) Slice(from, to int) backend.Matrix {
	return &matrix{to - from, m.cols, m.data[from*m.cols : to*m.cols]}
}

func (m *matrix) row(i int) []float32 { return m.data[i*m.cols : (i+1)*m.cols] }

type vector []float32

func (v vector) Len() int { return len(v) }

// Alloc returns a zeroed matrix.
func (b *Backend) Alloc(rows, cols int) (backend.Matrix, error) {
	if rows < 0 || cols <= 0 || (rows > 0 && cols > math.MaxInt/4/rows) {
		return nil, fmt.Errorf("cpu backend: cannot allocate a matrix of %d x %d", rows, cols)
	}
	return &matrix{rows, cols, make([]float32, rows*cols)}, nil
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

// RMSNorm scales rows to unit root mean square; the mean is a float64 sum in
// eight interleaved lanes.
func (b *Backend) RMSNorm(dst, src backend.Matrix, gain backend.Vector, epsilon float64) {
	d, s, g := dst.(*matrix), src.(*matrix), gain.(vector)
	mustEqual("RMSNorm rows", d.rows, s.rows)
	mustEqual("RMSNorm columns", d.cols, s.cols)
	mustEqual("RMSNorm gain", len(g), s.cols)
	b.rowLoop(s.rows, 32, 4*float64(s.cols), func(_, from, to int) {
		for r := from; r < to; r++ {
			x, y := s.row(r), d.row(r)
			inv := float32(1 / math.Sqrt(sumSquares(x)/float64(len(x))+epsilon))
			for i, v := range x {
				y[i] = float32(float32(v*inv) * g[i])
			}
		}
	})
}

// sumSquares adds x[i]² in lanes i mod 8, then the lanes in pairs.
func sumSquares(x []float32) float64 {
	var l [8]float64
	i := 0
	for ; i+8 <= len(x); i += 8 {
		v := (*[8]float32)(x[i:])
		for j := range l {
			f := float64(v[j])
			l[j] += f * f // exact product: no fused difference
		}
	}
	for j := 0; i < len(x); i, j = i+1, j+1 {
		f := float64(x[i])
		l[j] += f * f
	}
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}

// Rope rotates pairs (i, i+Half) of every head.
func (b *Backend) Rope(x backend.Matrix, heads, headDim int, positions []int32, table *backend.RopeTable) {
	m := x.(*matrix)
	mustEqual("Rope columns", m.cols, heads*headDim)
	mustEqual("Rope positions", len(positions), m.rows)
	half := table.Half
	if 2*half > headDim {
		panic("cpu backend: RoPE rotates more dimensions than a head has")
	}
	b.rowLoop(m.rows, 64, 6*float64(m.cols), func(_, from, to int) {
		for r := from; r < to; r++ {
			p := int(positions[r])
			cos, sin := table.Cos[p*half:(p+1)*half], table.Sin[p*half:(p+1)*half]
			row := m.row(r)
			for h := 0; h < heads; h++ {
				lo, hi := row[h*headDim:][:half], row[h*headDim+half:][:half]
				for i, c := range cos {
					s := sin[i]
					u, v := lo[i], hi[i]
					lo[i] = float32(u*c) - float32(v*s)
					hi[i] = float32(v*c) + float32(u*s)
				}
			}
		}
	})
}

// SiluMul computes gate*sigmoid(gate)*up into gate.
func (b *Backend) SiluMul(gate, up backend.Matrix) {
	g, u := gate.(*matrix), up.(*matrix)
	mustEqual("SiluMul size", len(g.data), len(u.data))
	b.rowLoop(g.rows, 16, 20*float64(g.cols), func(_, from, to int) {
		x, y := g.data[from*g.cols:to*g.cols], u.data[from*g.cols:to*g.cols]
		b.kernel.elements.silu(x, y)
	})
}
