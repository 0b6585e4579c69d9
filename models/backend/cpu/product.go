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
		for r := range n {
			for k, v := range b.Data[(from+r)*b.Stride:][:o.p.Terms] {
				panel[k*panelWidth+r] = v
			}
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

// turn writes rows [from, to) of A, which is stored transposed.
func (o *operandProduct) turn(from, to int) {
	k := o.p.Terms
	for t := range k {
		for r, v := range o.p.A.Data[t*o.p.A.Stride+from : t*o.p.A.Stride+to] {
			o.left[(from+r)*k+t] = v
		}
	}
}

// prepare sizes the buffers and returns the number of items.
func (o *operandProduct) prepare(panelBuffer, leftBuffer *[]float32) int {
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

// Product computes p with all workers. The result does not depend on their
// number: element sums are those of every product of this backend.
func (b *Backend) Product(p backend.Product[float32]) {
	o := &operandProduct{b: b, p: p}
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
