package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"splitbench/models/backend"
)

// halfValue is the number that a 16-bit pattern stands for, from the
// definition of its type.
func halfValue(e backend.Element, v uint16) float64 {
	mantissaBits, bias := 10, 15
	if e == backend.BFloat16 {
		mantissaBits, bias = 7, 127
	}
	exponent := int(v>>mantissaBits) & (1<<(15-mantissaBits) - 1)
	mantissa := float64(v & (1<<mantissaBits - 1))
	sign := 1.0
	if v>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 1<<(15-mantissaBits) - 1:
		if mantissa != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	case 0:
		return sign * math.Ldexp(mantissa, 1-bias-mantissaBits)
	}
	return sign * math.Ldexp(mantissa+math.Ldexp(1, mantissaBits), exponent-bias-mantissaBits)
}

// TestWidenHalves converts every 16-bit pattern in plain Go and with every
// kernel; a row has an odd number of them.
func TestWidenHalves(t *testing.T) {
	const in = 1<<12 + 1
	for _, e := range []backend.Element{backend.BFloat16, backend.Float16} {
		for _, k := range Kernels() {
			b := open(t, Options{Kernel: k})
			w, err := b.NewWeight(backend.Dense{Out: panelWidth, In: in, Element: e, Fill16: func(dst []uint16, from, to int) error {
				for i := range dst {
					dst[i] = uint16(from*in + i)
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			panel := make([]float32, panelWidth*in)
			w.(*halfWeight).widen(panel, 0, 0, in)
			for i := range panel {
				pattern := uint16(i%panelWidth*in + i/panelWidth)
				have, want := panel[i], halfValue(e, pattern)
				if float64(have) != want && (have == have || want == want) || math.Signbit(float64(have)) != (pattern>>15 == 1) {
					t.Fatalf("%s, type %d: %#04x became %v, expected %v", k, e, pattern, have, want)
				}
				if quiet := math.Float32bits(have)>>22&1 == 1; have != have && e == backend.Float16 && !quiet {
					t.Fatalf("%s: %#04x became a signalling NaN", k, pattern)
				}
			}
		}
	}
}

func sameBits(t *testing.T, what string, have, want []float32) {
	t.Helper()
	for i, v := range want {
		if math.Float32bits(have[i]) != math.Float32bits(v) {
			t.Fatalf("%s: value %d is %v (%#x), expected %v (%#x)", what, i, have[i], math.Float32bits(have[i]), v, math.Float32bits(v))
		}
	}
}

// randomHalf draws finite patterns of magnitudes about 1, and some
// subnormals.
func randomHalf(r *rand.Rand, e backend.Element, n int) []uint16 {
	v := make([]uint16, n)
	for i := range v {
		sign := uint16(r.IntN(2)) << 15
		switch {
		case r.IntN(20) == 0:
			v[i] = sign | uint16(r.IntN(1<<7)) // zero and subnormals
		case e == backend.BFloat16:
			v[i] = sign | uint16(0x3f00+r.IntN(0x100))
		default:
			v[i] = sign | uint16(0x3400+r.IntN(0x0c00))
		}
	}
	return v
}

func randomFloats(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func fillFrom[T any](w []T, in int) func(dst []T, from, to int) error {
	return func(dst []T, from, to int) error { copy(dst, w[from*in:to*in]); return nil }
}

// equalWeights compares all uses of a narrow weight with those of the weight
// of its values, bit for bit, for every kernel and several numbers of rows.
func equalWeights(t *testing.T, name string, out, in int, seed uint64, values []float32, narrow func(b *Backend) (backend.Weight, error)) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	const most = 11
	x, start, bias := randomFloats(r, most*in), randomFloats(r, most*out), randomFloats(r, out)
	reference := open(t, Options{Kernel: "go", Workers: 1})
	dense, err := reference.NewWeight(backend.Dense{Out: out, In: in, Fill: fillFrom(values, in)})
	if err != nil {
		t.Fatal(err)
	}
	use := func(b *Backend, w backend.Weight, rows int, accumulate bool) []float32 {
		xm, dst := &matrix{rows: rows, cols: in, data: x[:rows*in]}, &matrix{rows: rows, cols: out, data: slices.Clone(start[:rows*out])}
		var v backend.Vector
		if rows%3 == 0 {
			v = vector(bias)
		}
		b.MatMul(dst, xm, w, v, accumulate)
		ids := make([]int32, rows)
		for i := range ids {
			ids[i] = int32((i*7 + rows) % out)
		}
		e := &matrix{rows: rows, cols: in, data: make([]float32, rows*in)}
		b.Embed(e, w, ids)
		return append(dst.data, e.data...)
	}
	for _, k := range Kernels() {
		for _, workers := range []int{1, 3} {
			b := open(t, Options{Kernel: k, Workers: workers})
			w, err := narrow(b)
			if err != nil {
				t.Fatal(err)
			}
			for rows := 1; rows <= most; rows += 1 + rows/6 {
				sameBits(t, fmt.Sprintf("%s %dx%d, kernel %s, %d workers, %d rows", name, out, in, k, workers, rows), use(b, w, rows, rows%2 == 0), use(reference, dense, rows, rows%2 == 0))
			}
		}
	}
}

var narrowShapes = [][2]int{{16, 32}, {1, 1}, {48, 288}, {33, 64}, {50, 97}, {80, 513}, {7, 31}, {130, 600}}

func TestHalfWeightEqualsFloat32(t *testing.T) {
	for _, e := range []backend.Element{backend.BFloat16, backend.Float16} {
		for i, s := range narrowShapes {
			out, in := s[0], s[1]
			halves := randomHalf(rand.New(rand.NewPCG(uint64(i), uint64(e))), e, out*in)
			values := make([]float32, len(halves))
			for i, v := range halves {
				values[i] = float32(halfValue(e, v))
			}
			equalWeights(t, fmt.Sprintf("type %d", e), out, in, uint64(i), values, func(b *Backend) (backend.Weight, error) {
				w, err := b.NewWeight(backend.Dense{Out: out, In: in, Element: e, Fill16: fillFrom(halves, in), Fill: fillFrom(values, in)})
				padded := (out + 15) / 16 * 16 * in
				if e == backend.BFloat16 {
					padded += padded / in * (in % 2)
				}
				if err == nil && w.Bytes() != int64(2*padded) {
					t.Errorf("%dx%d weight of type %d occupies %d bytes", out, in, e, w.Bytes())
				}
				return w, err
			})
		}
	}
}

// randomPacked draws a packed weight and computes its values from the
// definition.
func randomPacked(r *rand.Rand, out, in, bits, group int, codebook bool) (backend.Packed, []float32) {
	g := group
	if g == 0 {
		g = in
	}
	groups, rowBytes := (in+g-1)/g, (in*bits+7)/8
	p := backend.Packed{Out: out, In: in, Bits: bits, Group: group, Codes: make([]byte, out*rowBytes), Scales: make([]float32, out*groups)}
	for i := range p.Scales {
		p.Scales[i] = float32(r.Float64()*.1 + .01)
	}
	if codebook {
		p.Codebook = randomFloats(r, 16)
	} else {
		p.Zeros = make([]uint8, out*groups)
		for i := range p.Zeros {
			p.Zeros[i] = uint8(r.IntN(1 << bits))
		}
	}
	values := make([]float32, out*in)
	for i := range out {
		for k := range in {
			code := r.IntN(1 << bits)
			for bit := range bits {
				at := k*bits + bit
				p.Codes[i*rowBytes+at/8] |= byte(code>>bit&1) << (at % 8)
			}
			v := float32(code)
			if codebook {
				v = p.Codebook[code]
			} else {
				v -= float32(p.Zeros[i*groups+k/g])
			}
			values[i*in+k] = p.Scales[i*groups+k/g] * v
		}
	}
	return p, values
}

func TestPackedWeightEqualsFloat32(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for bits := 1; bits <= 8; bits++ {
		for i, s := range narrowShapes {
			group := []int{0, 32, 64, 128, 48, 7}[(bits+i)%6]
			p, values := randomPacked(r, s[0], s[1], bits, group, false)
			equalWeights(t, fmt.Sprintf("%d bits in groups of %d", bits, group), s[0], s[1], uint64(i), values, func(b *Backend) (backend.Weight, error) { return b.NewPackedWeight(p) })
		}
	}
	for i, s := range narrowShapes {
		p, values := randomPacked(r, s[0], s[1], 4, []int{32, 0, 64, 20}[i%4], true)
		equalWeights(t, "codebook", s[0], s[1], uint64(i), values, func(b *Backend) (backend.Weight, error) { return b.NewPackedWeight(p) })
	}
}

func TestBadPackedWeights(t *testing.T) {
	b := open(t, Options{})
	good, _ := randomPacked(rand.New(rand.NewPCG(1, 1)), 4, 40, 4, 8, false)
	for name, change := range map[string]func(p *backend.Packed){
		"no outputs":      func(p *backend.Packed) { p.Out = 0 },
		"9 bits":          func(p *backend.Packed) { p.Bits = 9 },
		"negative group":  func(p *backend.Packed) { p.Group = -1 },
		"a code short":    func(p *backend.Packed) { p.Codes = p.Codes[1:] },
		"a scale short":   func(p *backend.Packed) { p.Scales = p.Scales[1:] },
		"no zeros":        func(p *backend.Packed) { p.Zeros = nil },
		"zeros and table": func(p *backend.Packed) { p.Codebook = make([]float32, 16) },
		"a short table":   func(p *backend.Packed) { p.Codebook, p.Zeros = make([]float32, 15), nil },
		"a 3-bit table":   func(p *backend.Packed) { p.Bits, p.Codebook, p.Zeros = 3, make([]float32, 16), nil },
	} {
		p := good
		change(&p)
		if _, err := b.NewPackedWeight(p); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := b.NewWeight(backend.Dense{Out: 40, In: 4, Element: backend.Float16, Fill16: func([]uint16, int, int) error { return fmt.Errorf("no data") }}); err == nil {
		t.Error("an error of Fill16 is lost")
	}
}

// guardFloats is how many NaN lie before and behind the operands of a kernel.
const guardFloats = 64

func guardedFloats(r *rand.Rand, n int) []float32 {
	v := make([]float32, n+2*guardFloats)
	for i := range v {
		v[i] = float32(math.NaN())
	}
	copy(v[guardFloats:], randomFloats(r, n))
	return v
}

// halfCase compares the products of a 16-bit type with the plain product of
// the widened values, between guard zones.
func halfCase(t *testing.T, e backend.Element, k int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 3))
	stride := (k+1)/2*2*panelWidth + 64
	b := randomHalf(r, e, 2*stride)
	wide := make([]float32, len(b))
	widenHalves(e, wide, b) // the strides are whole pairs of terms
	for _, name := range Kernels() {
		kernels := halfKernelsOf(name, e)
		if kernels == nil {
			continue
		}
		for _, tile := range kernels.tiles {
			for i, fn := range tile.fn {
				if fn == nil {
					continue
				}
				n := i + 1
				lda, ldc := k+3, n*panelWidth+5
				a, c := guardedFloats(r, tile.rows*lda), guardedFloats(r, tile.rows*ldc)
				want := slices.Clone(c)
				for q := range n {
					for k0 := 0; k0 < k; k0 += blockK {
						microGeneric(tile.rows, min(blockK, k-k0), a[guardFloats+k0:], lda, wide[q*stride+k0*panelWidth:], want[guardFloats+q*panelWidth:], ldc, true)
					}
				}
				fn(k, &a[guardFloats], lda, &b[0], stride, &c[guardFloats], ldc)
				sameBits(t, fmt.Sprintf("%s, type %d, %d rows, %d panels, %d terms", name, e, tile.rows, n, k), c, want)
			}
		}
	}
}

// packedCase compares the kernels of a packed format with widenBlock and the
// plain product, between guard zones.
func packedCase(t *testing.T, bits int, codebook bool, blocks, group int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 4))
	k := blocks * blockK
	p, _ := randomPacked(r, 2*panelWidth, k, bits, group, codebook)
	for _, name := range Kernels() {
		b := open(t, Options{Kernel: name, Workers: 1})
		weight, err := b.NewPackedWeight(p)
		if err != nil {
			t.Fatal(err)
		}
		w := weight.(*packedWeight)
		if w.kernels == nil {
			continue
		}
		from := int(seed) % blocks
		terms := (blocks - from) * blockK
		plain := make([]float32, k*panelWidth)
		for k0 := 0; k0 < k; k0 += blockK {
			w.widenBlock(plain[k0*panelWidth:], 1, k0, blockK)
		}
		wide := guardedFloats(r, terms*panelWidth)
		want := slices.Clone(wide)
		copy(want[guardFloats:], plain[from*blockK*panelWidth:])
		w.widen(wide[guardFloats:][:terms*panelWidth], 1, from*blockK, terms)
		what := fmt.Sprintf("%s, %d bits (codebook %v), %d blocks, groups of %d", name, bits, codebook, blocks, group)
		sameBits(t, what+", widened", wide, want)
		for _, tile := range w.kernels.tiles {
			lda, ldc := k+3, panelWidth+5
			a, c := guardedFloats(r, tile.rows*lda), guardedFloats(r, tile.rows*ldc)
			want := slices.Clone(c)
			for k0 := 0; k0 < k; k0 += blockK {
				microGeneric(tile.rows, blockK, a[guardFloats+k0:], lda, plain[k0*panelWidth:], want[guardFloats:], ldc, true)
			}
			span, left := w.spans(0)
			scales, zeros, table := w.grids(1, 0, k)
			tile.fn(blocks, &w.codes[w.words*panelWidth], scales, zeros, table, left, span, &a[guardFloats], lda, &c[guardFloats], ldc)
			sameBits(t, fmt.Sprintf("%s, %d rows", what, tile.rows), c, want)
		}
	}
}

func TestNarrowKernelsEqualPlainGo(t *testing.T) {
	for _, k := range []int{1, 2, 31, 32, 33, 96, 257} {
		halfCase(t, backend.BFloat16, k, uint64(k))
		halfCase(t, backend.Float16, k, uint64(k))
	}
	for blocks := 1; blocks <= 7; blocks += 2 {
		for bits := 1; bits <= 8; bits++ {
			packedCase(t, bits, false, blocks, []int{0, 32, 64, 96}[(bits+blocks)%4], uint64(blocks))
		}
		packedCase(t, 4, true, blocks, 32*(blocks%3), uint64(blocks))
	}
}

func FuzzNarrowKernels(f *testing.F) {
	f.Add(uint8(3), uint8(5), uint8(2), uint64(1))
	f.Add(uint8(8), uint8(1), uint8(0), uint64(2))
	f.Fuzz(func(t *testing.T, bits, blocks, span uint8, seed uint64) {
		n := int(blocks%9) + 1
		halfCase(t, backend.BFloat16, int(seed%97)+1, seed)
		halfCase(t, backend.Float16, int(seed%97)+1, seed)
		packedCase(t, int(bits%8)+1, false, n, blockK*int(span%4), seed>>1)
		packedCase(t, 4, true, n, blockK*int(span%4), seed>>1)
	})
}
