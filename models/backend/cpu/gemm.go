package cpu

import "splitbench/models/backend"

//go:generate go run ./kernelgen gemm_amd64.s
//go:generate go run ./kernelgen tiles_amd64.go
//go:generate go run ./kernelgen gemm_arm64.s
//go:generate go run ./kernelgen tiles_arm64.go

// panelWidth is the number of output columns that share one packed panel: a
// panel stores, for k = 0, 1, ..., the panelWidth weights of column k.
const panelWidth = 16

// blockK is the length of the partial sums: an element of a product over K
// terms is ((s0 + s1) + s2) + ..., s_i the sum of terms [i*blockK,
// (i+1)*blockK) in order from zero. Short blocks keep the rounding error near
// that of a pairwise sum; longer ones are a few percent faster. The value is
// part of the definition of every score: changing it changes results.
const blockK = 32

// maxRows and maxPanels bound the tiles of all kernels.
const (
	maxRows   = 8
	maxPanels = 3
)

// edgeRows is how many rows the scratch of multiply holds.
const edgeRows = maxRows * maxPanels

// tileCall is the operand of a tile kernel: c = (c or 0) + a·b for tiles of
// the kernel's size, one below the other. Distances are in bytes.
type tileCall struct {
	k            int // terms
	tiles        int
	a            *float32
	lda          int // from row to row, of turned kernels from term to term; not read by kernels of packed rows
	nextA        int // from tile to tile
	b            *float32
	stride       int // from panel to panel, of turned kernels from term to term
	c            *float32
	ldc          int
	start        *float32 // what the sums start from: c or zeros
	startStride  int
	prefetch     *float32 // brought near while the first tile is computed: k*panelWidth floats
	nextPrefetch int
	mask         int       // columns of a single panel that are written, one bit each
	_            [0]func() // not comparable
}

// zeros starts sums that do not accumulate; its row stride is 0.
var zeros [maxPanels * panelWidth]float32

// tileKernel names an assembly kernel; its method run calls it.
type tileKernel uint8

// tile is the kernels of one number of rows, by panels less one.
type tile struct {
	rows int
	fn   [maxPanels]tileKernel
}

// kernel is one implementation of the tile kernels. All give the same bits.
type kernel struct {
	name     string
	wide     int        // panels of the widest tiles
	tiles    []tile     // falling rows, down to 1; nil = plain Go
	packed   tileKernel // tiles[0].rows x wide, on packed rows; 0 = none
	turned   []tile     // both operands as they lie in memory when terms are rows; falling rows, down to 1; nil = none
	packs    bool       // packRows is there, for tiles of 8 rows
	masks    bool       // tiles of one panel write only the columns of the mask
	elements elementwise
	limits   limits
}

// genericKernel is plain Go: no tiles, see microGeneric.
var genericKernel = kernel{name: "go", wide: 1, limits: limits{peak: peakGeneric, peakFlop: 16, read: readGeneric}}

// rows is the left operand of a product. packed, if not nil, holds its first
// rows in tiles: term k of row i of a tile of n rows at k*n+i, tiles one
// after the other, over all terms.
type rows struct {
	n      int // number of rows
	data   []float32
	ld     int
	packed []float32
}

// from returns the operand less its first k terms; tileRows is the height of
// the packed tiles.
func (r rows) from(k, tileRows int) rows {
	r.data = r.data[k:]
	if r.packed != nil {
		r.packed = r.packed[k*tileRows:]
	}
	return r
}

// run computes c (rows, cols) = (c +) a·b; cols is a multiple of 16, at most
// 16*kr.wide, or with kr.masks any number below 16. terms is the length of a
// whole row of a, k how many of them are summed. next are panels that the
// following call will read.
func (kr *kernel) run(a rows, terms, cols, k int, b []float32, stride int, next []float32, c []float32, ldc int, accumulate bool) {
	panels := (cols + panelWidth - 1) / panelWidth
	if kr.tiles == nil {
		for p := 0; p < panels; p++ {
			microGeneric(a.n, k, a.data, a.ld, b[p*stride:], c[p*panelWidth:], ldc, accumulate)
		}
		return
	}
	// The kernels read and write through pointers: prove the bounds here.
	_ = a.data[(a.n-1)*a.ld+k-1]
	_ = b[(panels-1)*stride+k*panelWidth-1]
	_ = c[(a.n-1)*ldc+cols-1]
	t := tileCall{
		k: k, b: &b[0], stride: 4 * stride, ldc: 4 * ldc,
		start: &zeros[0], prefetch: &b[0],
		mask: 1<<min(cols, panelWidth) - 1,
	}
	if accumulate {
		t.startStride = t.ldc
	}
	i := 0
	if a.packed != nil && panels == kr.wide {
		n := kr.tiles[0].rows
		if t.tiles = a.n / n; t.tiles > 0 {
			_ = a.packed[((t.tiles-1)*terms+k)*n-1]
			t.a, t.nextA = &a.packed[0], 4*n*terms
			t.c = &c[0]
			if accumulate {
				t.start = t.c
			}
			i = t.tiles * n
			if all := t.tiles; all > panels && len(next) >= (panels-1)*stride+k*panelWidth {
				// The first tiles fetch one panel each.
				t.prefetch, t.nextPrefetch = &next[0], t.stride
				t.tiles = panels
				kr.packed.run(&t)
				t.tiles = all - panels
				t.a, t.c = &a.packed[panels*n*terms], &c[panels*n*ldc]
				if accumulate {
					t.start = t.c
				}
				t.prefetch, t.nextPrefetch = &b[0], 0
			}
			kr.packed.run(&t)
		}
	}
	t.lda = 4 * a.ld
	for _, s := range kr.tiles {
		t.tiles = (a.n - i) / s.rows
		if t.tiles == 0 {
			continue
		}
		t.a, t.nextA = &a.data[i*a.ld], s.rows*t.lda
		t.c = &c[i*ldc]
		if accumulate {
			t.start = t.c
		}
		s.fn[panels-1].run(&t)
		i += t.tiles * s.rows
	}
}

// microGeneric computes c (n, 16) = (c +) a (n, k) · b (one panel). The
// conversions keep compilers from fusing product and sum.
func microGeneric(n, k int, a []float32, lda int, b []float32, c []float32, ldc int, accumulate bool) {
	b = b[:k*panelWidth]
	i := 0
	for ; i+2 <= n; i += 2 {
		a0, a1 := a[i*lda:][:k], a[(i+1)*lda:][:k]
		for j := 0; j < panelWidth; j += 4 {
			c0, c1 := (*[4]float32)(c[i*ldc+j:]), (*[4]float32)(c[(i+1)*ldc+j:])
			var t0, t1 [4]float32
			if accumulate {
				t0, t1 = *c0, *c1
			}
			bj := b[j:]
			for k0 := 0; k0 < k; k0 += blockK {
				var s00, s01, s02, s03, s10, s11, s12, s13 float32
				if k0+blockK <= k { // whole blocks need no bounds checks
					x0, x1 := (*[blockK]float32)(a0[k0:]), (*[blockK]float32)(a1[k0:])
					v := (*[(blockK-1)*panelWidth + 4]float32)(bj[k0*panelWidth:])
					for q := 0; q < blockK; q++ {
						u, w := x0[q], x1[q]
						v0, v1, v2, v3 := v[q*panelWidth], v[q*panelWidth+1], v[q*panelWidth+2], v[q*panelWidth+3]
						s00 += float32(u * v0)
						s10 += float32(w * v0)
						s01 += float32(u * v1)
						s11 += float32(w * v1)
						s02 += float32(u * v2)
						s12 += float32(w * v2)
						s03 += float32(u * v3)
						s13 += float32(w * v3)
					}
				} else {
					for q := k0; q < k; q++ {
						u, w := a0[q], a1[q]
						v := (*[4]float32)(bj[q*panelWidth:])
						s00 += float32(u * v[0])
						s10 += float32(w * v[0])
						s01 += float32(u * v[1])
						s11 += float32(w * v[1])
						s02 += float32(u * v[2])
						s12 += float32(w * v[2])
						s03 += float32(u * v[3])
						s13 += float32(w * v[3])
					}
				}
				t0 = [4]float32{t0[0] + s00, t0[1] + s01, t0[2] + s02, t0[3] + s03}
				t1 = [4]float32{t1[0] + s10, t1[1] + s11, t1[2] + s12, t1[3] + s13}
			}
			*c0, *c1 = t0, t1
		}
	}
	if i < n {
		a0 := a[i*lda:][:k]
		for j := 0; j < panelWidth; j += 4 {
			c0 := (*[4]float32)(c[i*ldc+j:])
			var t [4]float32
			if accumulate {
				t = *c0
			}
			for k0 := 0; k0 < k; k0 += blockK {
				bj := b[k0*panelWidth+j:]
				var s0, s1, s2, s3 float32
				for q, u := range a0[k0:min(k, k0+blockK)] {
					v := (*[4]float32)(bj[q*panelWidth:])
					s0 += float32(u * v[0])
					s1 += float32(u * v[1])
					s2 += float32(u * v[2])
					s3 += float32(u * v[3])
				}
				t = [4]float32{t[0] + s0, t[1] + s1, t[2] + s2, t[3] + s3}
			}
			*c0 = t
		}
	}
}

// panels is a matrix operand ready for the kernels: column block p (16
// columns) of all k starts at data[p*stride]; within it, column j of step k
// is at k*16+j. Columns beyond cols are padding.
type panels struct {
	data   []float32
	cols   int
	stride int
}

// depth is how many terms of the panels of a tile the rows pass at a time:
// depth x 48 floats are 96 KiB, which leaves the second-level cache room for
// the rows.
const depth = 16 * blockK

// depthGeneric is depth for plain Go, which passes each panel four times.
const depthGeneric = 4 * blockK

// shortest and longest are the terms between which a single row passes one
// panel at a time. Such a row reads its weights from memory as a rule, and
// processors fetch ahead along streams that they have seen for a while: panels
// of a few pages, side by side, are streams that end soon after. Shorter panels
// belong to models that the caches hold, where wide tiles are faster; on longer
// ones several streams at once are.
const shortest, longest = 256, 640

// multiply computes c (rows, p.cols) = (c +) a (rows, k) · p over panels
// [from, to). edge is scratch for the last panel where it sticks out of c,
// edgeRows*panelWidth long.
func (kr *kernel) multiply(n, k int, a []float32, lda int, p panels, from, to int, c []float32, ldc int, accumulate bool, edge []float32) {
	kr.multiplyRows(rows{n: n, data: a, ld: lda}, k, p, from, to, c, ldc, accumulate, edge)
}

// multiplyRows is multiply for rows that may be packed.
func (kr *kernel) multiplyRows(a rows, k int, p panels, from, to int, c []float32, ldc int, accumulate bool, edge []float32) {
	whole := min(to, p.cols/panelWidth)
	height := maxRows
	if kr.tiles != nil {
		height = kr.tiles[0].rows
	}
	// Few rows pass too seldom for the panels to be worth keeping: the
	// running totals stay in the kernel instead.
	step := k
	if kr.tiles == nil {
		step = depthGeneric
	} else if a.n > 2*height {
		step = depth
	}
	for g := from; g < whole; {
		n := kr.group(whole - g)
		if a.n == 1 && k >= shortest && k <= longest {
			n = 1
		}
		for k0 := 0; k0 < k; k0 += step {
			kn := min(step, k-k0)
			next := p.data[g*p.stride+min(k0+kn, k-1)*panelWidth:]
			if k0+kn == k {
				next = p.data[min(g+n, (len(p.data)-1)/p.stride)*p.stride:]
			}
			kr.run(a.from(k0, height), k, n*panelWidth, kn, p.data[g*p.stride+k0*panelWidth:], p.stride, next, c[g*panelWidth:], ldc, accumulate || k0 > 0)
		}
		g += n
	}
	if whole >= to {
		return
	}
	// The last panel sticks out: without masks its tiles are made aside.
	col := max(from, whole) * panelWidth
	width := p.cols - col
	a.packed = nil
	last := p.data[whole*p.stride:]
	if kr.masks {
		kr.run(a, k, width, k, last, p.stride, nil, c[col:], ldc, accumulate)
		return
	}
	for i := 0; i < a.n; i += edgeRows {
		part := rows{n: min(edgeRows, a.n-i), data: a.data[i*a.ld:], ld: a.ld}
		if accumulate {
			for r := 0; r < part.n; r++ {
				copy(edge[r*panelWidth:], c[(i+r)*ldc+col:][:width])
			}
		}
		kr.run(part, k, panelWidth, k, last, p.stride, nil, edge, panelWidth, accumulate)
		for r := 0; r < part.n; r++ {
			copy(c[(i+r)*ldc+col:][:width], edge[r*panelWidth:])
		}
	}
}

// group is how many of the n panels left the next tiles cover: 4 are better
// cut as 2 and 2.
func (kr *kernel) group(n int) int {
	if n == 4 && kr.wide == 3 {
		return 2
	}
	return min(n, kr.wide)
}

// pack writes whole tiles of rows of a (rows [from, to), k terms) side by
// side, as the packed kernel reads them.
func (kr *kernel) pack(dst []float32, height, k int, a []float32, lda, from, to int) {
	for i := from; i < to; i += height {
		tile := dst[i*k:][:height*k]
		done := 0
		if kr.packs && k >= 8 {
			done = k &^ 7
			_ = a[(i+7)*lda+done-1]
			packRows(&tile[0], done, &a[i*lda], lda, height)
		}
		for r := 0; r < height && done < k; r += 2 {
			x, y := a[(i+r)*lda+done:][:k-done], a[(i+r+1)*lda+done:][:k-done]
			d := tile[done*height+r:]
			for q, v := range x {
				p := (*[2]float32)(d[q*height:])
				p[0], p[1] = v, y[q]
			}
		}
	}
}

// multiplyWeight multiplies by blocks of rows and panels, with the weight that
// b.product names; each task owns a disjoint part of d.
func (b *Backend) multiplyWeight(d, s *matrix, w backend.Weight, accumulate bool) {
	b.multiplyRows(rows{n: s.rows, data: s.data, ld: s.cols}, s.cols, d.data, d.cols, w.Out(), accumulate)
}

// multiplyRows is multiplyWeight on rows a of k terms, into c (a.n, out).
func (b *Backend) multiplyRows(a rows, k int, c []float32, ldc, out int, accumulate bool) {
	const rowsAtOnce = 512 // bounds the packed copy of the rows
	for r := 0; r < a.n; r += rowsAtOnce {
		b.multiplyPart(a, k, r, min(a.n, r+rowsAtOnce), c, ldc, out, accumulate)
	}
}

// packAbove is the number of output columns from which the rows are packed:
// fewer do not repay the copy.
const packAbove = 768

// multiplyPart computes rows [from, to) of c (rows, out) = (c +) a times the
// weight, a having k terms.
func (b *Backend) multiplyPart(a rows, k, from, to int, c []float32, ldc, out int, accumulate bool) {
	j := &b.product
	*j = productJob{b: b, k: k, dense: j.dense, narrow: j.narrow, accumulate: accumulate, c: c[from*ldc:], ldc: ldc}
	j.a = rows{n: to - from, data: a.data[from*a.ld:], ld: a.ld}
	j.height = maxRows
	if b.kernel.tiles != nil {
		j.height = b.kernel.tiles[0].rows
	}
	if tiles := j.a.n / j.height; b.kernel.packed != 0 && tiles > 1 && out >= packAbove {
		b.packedRows = grow(b.packedRows, tiles*j.height*k)
		j.a.packed = b.packedRows[:tiles*j.height*k]
		j.packing = true
		b.pool.run(tiles, float64(8*len(j.a.packed)), j)
		j.packing = false
	}
	j.panels = (out + panelWidth - 1) / panelWidth
	j.plan(b.pool.workers)
	cost := 2 * float64(j.a.n) * float64(k) * float64(out)
	b.pool.run(j.rowTasks*j.colTasks, cost, j)
}

// productJob is one product with a weight, dense or narrow, shared by the
// workers.
type productJob struct {
	b                  *Backend
	a                  rows
	k, height, panels  int
	dense              *denseWeight
	narrow             narrow
	c                  []float32
	ldc                int
	accumulate         bool
	packing            bool
	rowBlock, colBlock int // rows, panels of a task
	rowTasks, colTasks int
}

// plan cuts the product in tasks: large enough to use the caches well, small
// enough for every worker to have several.
func (j *productJob) plan(workers int) {
	wide := j.b.kernel.wide
	j.rowBlock, j.colBlock = j.a.n, max(wide, 12/wide*wide)
	count := func() int {
		j.rowTasks = (j.a.n + j.rowBlock - 1) / j.rowBlock
		j.colTasks = (j.panels + j.colBlock - 1) / j.colBlock
		return j.rowTasks * j.colTasks
	}
	if workers == 1 {
		j.colBlock = j.panels
		count()
		return
	}
	for count() < 4*workers {
		switch {
		case j.colBlock > 2*wide:
			j.colBlock -= wide
		case j.rowBlock > 8*j.height:
			j.rowBlock = (j.rowBlock/2 + j.height - 1) / j.height * j.height
		case j.colBlock > wide:
			j.colBlock -= wide
		default:
			return
		}
	}
}

func (j *productJob) item(worker, i int) {
	if j.packing {
		j.b.kernel.pack(j.a.packed, j.height, j.k, j.a.data, j.a.ld, i*j.height, (i+1)*j.height)
		return
	}
	r0 := i % j.rowTasks * j.rowBlock
	part := rows{n: min(j.rowBlock, j.a.n-r0), data: j.a.data[r0*j.a.ld:], ld: j.a.ld}
	if j.a.packed != nil && r0 < len(j.a.packed)/j.k {
		part.packed = j.a.packed[r0*j.k:]
	}
	from := i / j.rowTasks * j.colBlock
	to := min(j.panels, from+j.colBlock)
	if j.narrow != nil {
		j.b.multiplyWidened(&j.b.scratch[worker], part, 0, j.k, j.narrow, from, to, j.c[r0*j.ldc:], j.ldc, j.accumulate)
		return
	}
	j.b.kernel.multiplyRows(part, j.k, j.dense.panels, from, to, j.c[r0*j.ldc:], j.ldc, j.accumulate, j.b.scratch[worker].edge[:])
}

var _ backend.Backend = (*Backend)(nil)
