package cpu

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

// microAsm computes one tile of an assembly kernel: c (rows, 16*panels) =
// (c +) a (rows, k) · b, with b panels at distance stride.
type microAsm func(k int, a *float32, lda int, b *float32, stride int, c *float32, ldc int, accumulate bool)

type tile struct {
	rows int
	fn   [2]microAsm // one panel, wide panels
}

// kernel is one implementation of the micro-kernel. All give the same bits.
type kernel struct {
	name     string
	wide     int // panels of the wide tiles
	tiles    []tile
	elements *elementwise // nil = plain Go
}

// genericKernel is plain Go: no tiles, see microGeneric.
var genericKernel = kernel{name: "go", wide: 1}

// run computes c (rows, 16*panels) = (c +) a·b for any number of rows;
// panels is 1 or kr.wide.
func (kr *kernel) run(rows, panels, k int, a []float32, lda int, b []float32, stride int, c []float32, ldc int, accumulate bool) {
	if kr.tiles == nil {
		for p := 0; p < panels; p++ {
			microGeneric(rows, k, a, lda, b[p*stride:], c[p*panelWidth:], ldc, accumulate)
		}
		return
	}
	// The kernels read and write through pointers: prove the bounds here.
	_ = a[(rows-1)*lda+k-1]
	_ = b[(panels-1)*stride+k*panelWidth-1]
	_ = c[(rows-1)*ldc+panels*panelWidth-1]
	wide := 0
	if panels > 1 {
		wide = 1
	}
	i := 0
	for _, t := range kr.tiles {
		for i+t.rows <= rows {
			t.fn[wide](k, &a[i*lda], lda, &b[0], stride, &c[i*ldc], ldc, accumulate)
			i += t.rows
		}
	}
}

// microGeneric computes c (rows, 16) = (c +) a (rows, k) · b (one panel).
// The conversions keep compilers from fusing product and sum.
func microGeneric(rows, k int, a []float32, lda int, b []float32, c []float32, ldc int, accumulate bool) {
	i := 0
	for ; i+2 <= rows; i += 2 {
		a0 := a[i*lda:][:k]
		a1 := a[(i+1)*lda:][:len(a0)]
		for j := 0; j < panelWidth; j += 4 {
			var s00, s01, s02, s03, s10, s11, s12, s13 float32
			bj := b[j:]
			for q, x0 := range a0 {
				x1 := a1[q]
				v := (*[4]float32)(bj[q*panelWidth:])
				s00 += float32(x0 * v[0])
				s01 += float32(x0 * v[1])
				s02 += float32(x0 * v[2])
				s03 += float32(x0 * v[3])
				s10 += float32(x1 * v[0])
				s11 += float32(x1 * v[1])
				s12 += float32(x1 * v[2])
				s13 += float32(x1 * v[3])
			}
			c0, c1 := (*[4]float32)(c[i*ldc+j:]), (*[4]float32)(c[(i+1)*ldc+j:])
			if accumulate {
				s00, s01, s02, s03 = c0[0]+s00, c0[1]+s01, c0[2]+s02, c0[3]+s03
				s10, s11, s12, s13 = c1[0]+s10, c1[1]+s11, c1[2]+s12, c1[3]+s13
			}
			*c0, *c1 = [4]float32{s00, s01, s02, s03}, [4]float32{s10, s11, s12, s13}
		}
	}
	if i < rows {
		a0 := a[i*lda:][:k]
		for j := 0; j < panelWidth; j += 4 {
			var s0, s1, s2, s3 float32
			bj := b[j:]
			for q, x := range a0 {
				v := (*[4]float32)(bj[q*panelWidth:])
				s0 += float32(x * v[0])
				s1 += float32(x * v[1])
				s2 += float32(x * v[2])
				s3 += float32(x * v[3])
			}
			c0 := (*[4]float32)(c[i*ldc+j:])
			if accumulate {
				s0, s1, s2, s3 = c0[0]+s0, c0[1]+s1, c0[2]+s2, c0[3]+s3
			}
			*c0 = [4]float32{s0, s1, s2, s3}
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

// multiply computes c (rows, p.cols) = (c +) a (rows, k) · p over panels
// [from, to). The terms run over [0, k) in blocks of blockK. edge is scratch
// for tiles that stick out of c, maxRows*maxPanels*panelWidth long.
func (kr *kernel) multiply(rows, k int, a []float32, lda int, p panels, from, to int, c []float32, ldc int, accumulate bool, edge []float32) {
	whole := min(to, p.cols/panelWidth)
	for k0 := 0; k0 < k && from < whole; k0 += blockK {
		kr.multiplyBlock(rows, min(blockK, k-k0), a[k0:], lda, p.data[k0*panelWidth:], p.stride, p.cols, from, whole, c, ldc, accumulate || k0 > 0, edge)
	}
	if whole == to {
		return
	}
	// The last panel sticks out: its tiles are made aside, all terms at once.
	col := max(from, whole) * panelWidth
	width := p.cols - col
	for i := 0; i < rows; i += maxRows {
		m := min(maxRows, rows-i)
		if accumulate {
			for r := 0; r < m; r++ {
				copy(edge[r*panelWidth:], c[(i+r)*ldc+col:][:width])
			}
		}
		for k0 := 0; k0 < k; k0 += blockK {
			kr.run(m, 1, min(blockK, k-k0), a[i*lda+k0:], lda, p.data[whole*p.stride+k0*panelWidth:], p.stride, edge, panelWidth, accumulate || k0 > 0)
		}
		for r := 0; r < m; r++ {
			copy(c[(i+r)*ldc+col:][:width], edge[r*panelWidth:])
		}
	}
}

// multiplyBlock is one block of terms; b starts at panel 0 of that block.
func (kr *kernel) multiplyBlock(rows, kn int, a []float32, lda int, b []float32, stride, cols, from, to int, c []float32, ldc int, accumulate bool, edge []float32) {
	for p := from; p < to; {
		n := 1
		if p+kr.wide <= to && (p+kr.wide)*panelWidth <= cols {
			n = kr.wide
		}
		col := p * panelWidth
		if col+n*panelWidth <= cols {
			kr.run(rows, n, kn, a, lda, b[p*stride:], stride, c[col:], ldc, accumulate)
			p += n
			continue
		}
		width := cols - col
		for i := 0; i < rows; i += maxRows {
			m := min(maxRows, rows-i)
			kr.run(m, n, kn, a[i*lda:], lda, b[p*stride:], stride, edge, panelWidth, false)
			for r := 0; r < m; r++ {
				dst, src := c[(i+r)*ldc+col:][:width], edge[r*panelWidth:][:width]
				if accumulate {
					for j, v := range src {
						dst[j] += v
					}
				} else {
					copy(dst, src)
				}
			}
		}
		p += n
	}
}
