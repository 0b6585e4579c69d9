package cpu

import "splitbench/models/backend"

// operandProduct is a backend.Product at work: the operands are brought into
// the order of the kernels, B in panels and a transposed A in rows.
type operandProduct struct {
	b      *Backend
	p      backend.Product[float32]
	panels panels
	left   []float32 // A by rows, where it is stored transposed
	packs  int       // items that pack panels; the others transpose A
}

// transposeRows is the number of rows of A that one item transposes.
const transposeRows = 32

func (o *operandProduct) item(_, i int) {
	if i < o.packs {
		o.pack(i)
		return
	}
	o.turn((i-o.packs)*transposeRows, min(o.p.Rows, (i-o.packs+1)*transposeRows))
}

// pack fills panel i with 16 columns of B.
func (o *operandProduct) pack(i int) {
	from, b := i*panelWidth, o.p.B
	n := min(panelWidth, o.p.Cols-from)
	panel := o.panels.data[i*o.panels.stride:][:o.panels.stride]
	if b.Transposed {
		rows, k := b.Data[from*b.Stride:], 0
		if n == panelWidth && o.p.Terms >= 8 && o.b.kernel.elements.trains() {
			k = o.p.Terms &^ 7
			_ = rows[(panelWidth-1)*b.Stride+k-1]
			for r := 0; r < panelWidth; r += 8 {
				packRows(&panel[r], k, &rows[r*b.Stride], b.Stride, panelWidth)
			}
		}
		if k < o.p.Terms {
			transpose(panel[k*panelWidth:], rows[k:], n, o.p.Terms-k, b.Stride)
		}
	} else if n == panelWidth {
		for k := range o.p.Terms {
			*(*[panelWidth]float32)(panel[k*panelWidth:]) = [panelWidth]float32(b.Data[k*b.Stride+from:][:panelWidth])
		}
	} else {
		for k := range o.p.Terms {
			copy(panel[k*panelWidth:][:n], b.Data[k*b.Stride+from:][:n])
		}
	}
	if n < panelWidth { // what lies there may be of another product, even a NaN: its columns are never read
		for k := range o.p.Terms {
			clear(panel[k*panelWidth+n : (k+1)*panelWidth])
		}
	}
}

// turn writes rows [from, to) of A, which is stored transposed. It goes by way
// of a tile, so that each line of the result is written once: rows are often a
// power of two apart and would push each other out of the cache.
func (o *operandProduct) turn(from, to int) {
	const terms = 16
	var tile [transposeRows][terms]float32
	k := o.p.Terms
	for t0 := 0; t0 < k; t0 += terms {
		n := min(terms, k-t0)
		for t := range n {
			for r, v := range o.p.A.Data[(t0+t)*o.p.A.Stride+from:][:to-from] {
				tile[r][t] = v
			}
		}
		for r := range to - from {
			copy(o.left[(from+r)*k+t0:][:n], tile[r][:])
		}
	}
}

// check panics where the slices are too short for their shapes.
func (o *operandProduct) check() {
	p := &o.p
	mustFit := func(what string, x []float32, rows, cols, stride int) {
		if stride < cols || len(x) < (rows-1)*stride+cols {
			panic("cpu backend: " + what + " of a product is too short")
		}
	}
	shape := func(what string, x backend.Operand[float32], rows, cols int) {
		if x.Transposed {
			rows, cols = cols, rows
		}
		mustFit(what, x.Data, rows, cols, x.Stride)
	}
	if p.Rows < 1 || p.Cols < 1 || p.Terms < 1 {
		panic("cpu backend: product of an empty matrix")
	}
	shape("the left operand", p.A, p.Rows, p.Terms)
	shape("the right operand", p.B, p.Terms, p.Cols)
	mustFit("the result", p.C, p.Rows, p.Cols, p.Stride)
}

// prepare sizes the buffers and returns the number of items.
func (o *operandProduct) prepare(panelBuffer, leftBuffer *[]float32) int {
	p := &o.p
	o.packs = (p.Cols + panelWidth - 1) / panelWidth
	*panelBuffer = grow(*panelBuffer, o.packs*panelWidth*p.Terms)
	o.panels = panels{(*panelBuffer)[:o.packs*panelWidth*p.Terms], p.Cols, panelWidth * p.Terms}
	n := o.packs
	if p.A.Transposed {
		*leftBuffer = grow(*leftBuffer, p.Rows*p.Terms)
		o.left = *leftBuffer
		n += (p.Rows + transposeRows - 1) / transposeRows
	}
	return n
}

// rows is A as the kernels read it.
func (o *operandProduct) rows() rows {
	if o.p.A.Transposed {
		return rows{n: o.p.Rows, data: o.left, ld: o.p.Terms}
	}
	return rows{n: o.p.Rows, data: o.p.A.Data, ld: o.p.A.Stride}
}

// turnable says whether p is the product of a transposed and a plain matrix,
// such as a sum over the positions of a batch, that the kernels compute on the
// operands as they lie in memory.
func (kr *kernel) turnable(p *backend.Product[float32]) bool {
	return kr.turned != nil && p.A.Transposed && !p.B.Transposed && (kr.masks || p.Cols%panelWidth == 0)
}

// turnedTerms is how many terms tiles sum at a time: so many rows of the
// operands stay in the caches while all tiles pass over them.
const turnedTerms = 4 * blockK

// multiplyTurned computes rows [from, to) of a turnable p.
func (kr *kernel) multiplyTurned(p *backend.Product[float32], from, to int) {
	// The kernels read and write through pointers: prove the bounds here.
	_ = p.A.Data[(p.Terms-1)*p.A.Stride+to-1]
	_ = p.B.Data[(p.Terms-1)*p.B.Stride+p.Cols-1]
	_ = p.C[(to-1)*p.Stride+p.Cols-1]
	t := tileCall{lda: 4 * p.A.Stride, stride: 4 * p.B.Stride, ldc: 4 * p.Stride}
	for k0 := 0; k0 < p.Terms; k0 += turnedTerms {
		t.k = min(turnedTerms, p.Terms-k0)
		accumulate := p.Accumulate || k0 > 0
		t.startStride = 0
		if accumulate {
			t.startStride = t.ldc
		}
		for col := 0; col < p.Cols; {
			n := kr.group((p.Cols - col + panelWidth - 1) / panelWidth)
			if n > 1 && col+n*panelWidth > p.Cols {
				n-- // the panel that sticks out goes alone
			}
			t.mask = 1<<min(p.Cols-col, panelWidth) - 1
			t.b = &p.B.Data[k0*p.B.Stride+col]
			i := from
			for _, s := range kr.turned {
				t.tiles = (to - i) / s.rows
				if t.tiles == 0 {
					continue
				}
				t.a, t.nextA = &p.A.Data[k0*p.A.Stride+i], 4*s.rows
				t.c, t.start = &p.C[i*p.Stride+col], &zeros[0]
				if accumulate {
					t.start = t.c
				}
				s.fn[n-1].run(&t)
				i += t.tiles * s.rows
			}
			col += n * panelWidth
		}
	}
}

// turnedJob is a turnable product shared by the workers, by blocks of rows.
type turnedJob struct {
	b     *Backend
	p     backend.Product[float32]
	block int
}

func (j *turnedJob) item(_, i int) {
	j.b.kernel.multiplyTurned(&j.p, i*j.block, min(j.p.Rows, (i+1)*j.block))
}

// Product computes p with all workers. The result does not depend on their
// number: element sums are those of every product of this backend.
func (b *Backend) Product(p backend.Product[float32]) {
	o := &operandProduct{b: b, p: p}
	if o.check(); b.kernel.turnable(&p) {
		height := b.kernel.turned[0].rows
		block := roundUp((p.Rows+2*b.pool.workers-1)/(2*b.pool.workers), height)
		b.pool.run((p.Rows+block-1)/block, 2*float64(p.Rows)*float64(p.Cols)*float64(p.Terms), &turnedJob{b, p, block})
		return
	}
	n := o.prepare(&b.productPanels, &b.productRows)
	b.pool.run(n, 2*float64(p.Terms)*float64(p.Rows+p.Cols), o)
	b.product.dense = &denseWeight{out: p.Cols, in: p.Terms, panels: o.panels}
	b.multiplyRows(o.rows(), p.Terms, p.C, p.Stride, p.Cols, p.Accumulate)
	b.product = productJob{}
}

// ProductOn is Product on the calling goroutine, from within Parallel: worker
// is the number that it passed.
func (b *Backend) ProductOn(worker int, p backend.Product[float32]) {
	s := &b.scratch[worker]
	o := operandProduct{b: b, p: p}
	if o.check(); b.kernel.turnable(&p) {
		b.kernel.multiplyTurned(&p, 0, p.Rows)
		return
	}
	n := o.prepare(&s.unpack, &s.rows)
	for i := range n {
		o.item(worker, i)
	}
	b.kernel.multiply(p.Rows, p.Terms, o.rows().data, o.rows().ld, o.panels, 0, o.packs, p.C, p.Stride, p.Accumulate, s.edge[:])
}

// Parallel calls f for items 0 .. n-1, on all workers where cost, the work of
// the whole loop in floating-point operations, is worth it. f may call
// ProductOn and ExpSum, no other method.
func (b *Backend) Parallel(n int, cost float64, f func(worker, item int)) { b.pool.do(n, cost, f) }

// ExpSum writes exp(x[i]-top) to dst, which may be x, and returns their sum.
// An exponent below -87.3 gives 0.
func (b *Backend) ExpSum(dst, x []float32, top float32) float64 {
	mustEqual("ExpSum length", len(dst), len(x))
	if len(x) == 0 {
		return 0
	}
	return b.kernel.elements.sum(x, top, dst)
}
