package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
	"splitbench/models/backend"
	"splitbench/models/backend/backendtest"
)

func open(t testing.TB, o Options) *Backend {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConformance(t *testing.T) {
	for _, k := range Kernels() {
		for _, w := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s-%d", k, w), func(t *testing.T) {
				backendtest.Run(t, func(t *testing.T) backend.Backend { return open(t, Options{Kernel: k, Workers: w}) })
			})
		}
	}
}

func TestUnknownKernel(t *testing.T) {
	if _, err := New(Options{Kernel: "mmx"}); err == nil {
		t.Error("an unknown kernel was accepted")
	}
}

// TestExp compares with the float64 exponential over the whole range: at most
// 1.5 units in the last place, exact at the ends.
func TestExp(t *testing.T) {
	worst := 0.0
	for x := -87.3; x < 88.37; x += 0.00037 {
		f := float32(x)
		want := math.Exp(float64(f))
		ulp := math.Abs(float64(math.Nextafter32(float32(want), math.MaxFloat32)) - float64(float32(want)))
		worst = math.Max(worst, math.Abs(float64(exp32(f))-want)/ulp)
	}
	if worst > 1.5 {
		t.Errorf("largest error %.2f units in the last place", worst)
	}
	inf := float32(math.Inf(1))
	for _, c := range []struct{ x, want float32 }{{0, 1}, {-inf, 0}, {inf, inf}, {-87.5, 0}, {-104, 0}, {88.5, inf}, {89, inf}} {
		if got := exp32(c.x); got != c.want {
			t.Errorf("exp32(%v) = %v, expected %v", c.x, got, c.want)
		}
	}
	if !math.IsNaN(float64(exp32(float32(math.NaN())))) {
		t.Error("exp32(NaN) is a number")
	}
}

const guard = 64

// guarded returns n random values between guard zones of NaN.
func guarded(r *rand.Rand, n int) []float32 {
	v := make([]float32, n+2*guard)
	for i := range v {
		v[i] = float32(math.NaN())
	}
	for i := guard; i < guard+n; i++ {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// tileCase runs every kernel on rows x 16*panelCount elements between guard
// zones, from plain and from packed rows, and compares it with plain Go bit
// for bit. The product starts at term skip of the packed rows.
func tileCase(t *testing.T, n, panelCount, skip, k int, accumulate bool, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	terms := skip + k
	lda, ldc, stride := terms+3, panelCount*panelWidth+5, k*panelWidth+32
	a := guarded(r, n*lda)
	b := guarded(r, panelCount*stride)
	c := guarded(r, n*ldc)
	if seed%3 == 0 { // signed zeros
		for i := range a {
			a[i] = float32(math.Copysign(0, float64(a[i])))
		}
		for i := range c {
			c[i] *= 0
		}
	}
	run := func(kr kernel, packed bool) []float32 {
		out := append([]float32(nil), c...)
		left := rows{n: n, data: a[guard:], ld: lda}
		height := 1
		if packed {
			height = kr.tiles[0].rows
			whole := n / height * height
			if whole == 0 {
				return nil
			}
			buffer := guarded(r, whole*terms)
			left.packed = buffer[guard : guard+whole*terms]
			kr.pack(left.packed, height, terms, left.data, lda, 0, whole)
			for i := range whole * terms {
				if v := left.data[(i/terms)*lda+i%terms]; v != left.packed[i/terms/height*height*terms+i%terms*height+i/terms%height] {
					t.Fatalf("%s: packed row %d, term %d is not %v", kr.name, i/terms, i%terms, v)
				}
			}
			for i := range guard {
				if v := buffer[i]; v == v || buffer[len(buffer)-1-i] == buffer[len(buffer)-1-i] {
					t.Fatalf("%s: packing %d x %d wrote outside", kr.name, whole, terms)
				}
			}
		}
		kr.run(left.from(skip, height), terms, panelCount*panelWidth, k, b[guard:], stride, b[guard:], out[guard:], ldc, accumulate)
		return out
	}
	want := run(genericKernel, false)
	for _, kr := range microKernels() {
		if panelCount > kr.wide {
			continue
		}
		for _, packed := range []bool{false, true} {
			if packed && (kr.packed == 0 || panelCount != kr.wide) {
				continue
			}
			for i, v := range run(kr, packed) {
				if math.Float32bits(v) != math.Float32bits(want[i]) && (v == v || want[i] == want[i]) {
					t.Fatalf("kernel %s (packed rows: %v), %d rows, %d panels, %d terms, accumulate %v: float %d (guards %d) is %v, plain Go has %v", kr.name, packed, n, panelCount, k, accumulate, i, guard, v, want[i])
				}
			}
		}
	}
}

func TestKernelsEqualPlainGo(t *testing.T) {
	for n := 1; n <= 19; n++ {
		for p := 1; p <= maxPanels; p++ {
			for _, k := range []int{1, 2, 7, 31, 32, 33, 34, 64, 100, 256} {
				for _, accumulate := range []bool{false, true} {
					tileCase(t, n, p, n%3, k, accumulate, uint64(n*1000+k))
				}
			}
		}
	}
	tileCase(t, 57, 3, 5, 70, true, 4) // more tiles than panels: the prefetching call and the rest
}

// elementCase runs the element-wise kernels of every instruction set on x
// between guard zones and compares them with plain Go bit for bit.
func elementCase(t *testing.T, x, u []float32, scale float32) {
	t.Helper()
	guarded := func(v []float32) []float32 {
		g := guarded(rand.New(rand.NewPCG(1, 1)), len(v))
		copy(g[guard:], v)
		return g
	}
	inside := func(g []float32) []float32 { return g[guard : len(g)-guard] }
	same := func(a, b float32) bool {
		return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
	}
	type outcome struct {
		top             float32
		sum             float64
		scaled, exp, si []float32
	}
	run := func(e elementwise) outcome {
		var o outcome
		o.scaled, o.exp, o.si = guarded(x), guarded(x), guarded(x)
		o.top = e.max(inside(o.scaled), scale)
		o.sum = e.sum(inside(o.exp), 1, inside(o.exp))
		if only := e.sum(x, 1, nil); math.Float64bits(only) != math.Float64bits(o.sum) && only == only {
			t.Fatalf("sum without terms %v, with terms %v", only, o.sum)
		}
		e.silu(inside(o.si), u)
		return o
	}
	want := run(plainGo)
	for _, k := range microKernels() {
		got := run(k.elements)
		if got.top != want.top || math.Float64bits(got.sum) != math.Float64bits(want.sum) && got.sum == got.sum {
			t.Fatalf("%s, %d elements: maximum %v, sum %v, plain Go has %v, %v", k.name, len(x), got.top, got.sum, want.top, want.sum)
		}
		for i := range want.exp {
			if !same(got.scaled[i], want.scaled[i]) || !same(got.exp[i], want.exp[i]) || !same(got.si[i], want.si[i]) {
				t.Fatalf("%s, %d elements, float %d (guards %d): %v %v %v, plain Go has %v %v %v", k.name, len(x), i, guard, got.scaled[i], got.exp[i], got.si[i], want.scaled[i], want.exp[i], want.si[i])
			}
		}
	}
}

func TestElementwiseEqualsPlainGo(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for n := 1; n < 100; n++ {
		x, u := make([]float32, n), make([]float32, n)
		for i := range x {
			x[i], u[i] = float32(r.NormFloat64()*40), float32(r.NormFloat64())
		}
		elementCase(t, x, u, .25)
	}
	inf := float32(math.Inf(1))
	x := []float32{-inf, inf, 0, -87.33654, -87.336, -87.34, 88.376, 88.377, 88.3762, 1e-40, -1e-40, 3e38, -3e38, 127, -126, -86.5, 1, 2, 3}
	elementCase(t, x, make([]float32, len(x)), 1)
}

func FuzzElementwise(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63, 0, 0, 200, 194}, float32(.5))
	f.Fuzz(func(t *testing.T, data []byte, scale float32) {
		var x []float32
		for i := 0; i+4 <= len(data); i += 4 {
			v := math.Float32frombits(uint32(data[i]) | uint32(data[i+1])<<8 | uint32(data[i+2])<<16 | uint32(data[i+3])<<24)
			if v == v { // the order of NaN in a maximum is not defined
				x = append(x, v)
			}
		}
		if len(x) == 0 || scale*scale != scale*scale || math.IsInf(float64(scale), 0) || scale == 0 {
			return
		}
		for len(x) < 40 {
			x = append(x, x...)
		}
		elementCase(t, x, x, scale)
	})
}

// TestProductIndependentOfCut: a large product has the same bits whatever the
// kernel, the number of workers and the number of rows at once, and those of
// the definition at blockK.
func TestProductIndependentOfCut(t *testing.T) {
	const n, out, in = 530, 819, 530 // more rows than are packed at once, ragged everywhere
	r := rand.New(rand.NewPCG(6, 6))
	x, w := make([]float32, n*in), make([]float32, out*in)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	product := func(o Options, rows int) []float32 {
		b := open(t, o)
		wt, err := b.NewWeight(backend.Dense{Out: out, In: in, Fill: func(dst []float32, from, to int) error { copy(dst, w[from*in:to*in]); return nil }})
		if err != nil {
			t.Fatal(err)
		}
		xm, _ := b.Alloc(n, in)
		dst, _ := b.Alloc(n, out)
		b.Upload(xm, x)
		for i := 0; i < n; i += rows {
			to := min(n, i+rows)
			b.MatMul(dst.Slice(i, to), xm.Slice(i, to), wt, nil, false)
		}
		got := make([]float32, n*out)
		b.Download(got, dst)
		return got
	}
	want := product(Options{Kernel: "go", Workers: 2}, n)
	for _, at := range []int{0, 17, 818, 819*529 + 800, 819*530 - 1} {
		total := float32(0)
		for k0 := 0; k0 < in; k0 += blockK {
			s := float32(0)
			for k := k0; k < min(in, k0+blockK); k++ {
				s += float32(x[at/out*in+k] * w[at%out*in+k])
			}
			total += s
		}
		if math.Float32bits(total) != math.Float32bits(want[at]) {
			t.Fatalf("element %d is %v, the definition gives %v", at, want[at], total)
		}
	}
	for _, k := range Kernels() {
		if k == "go" {
			continue
		}
		for _, c := range [][2]int{{1, n}, {2, n}, {3, n}, {2, 100}, {1, 7}} {
			for i, v := range product(Options{Kernel: k, Workers: c[0]}, c[1]) {
				if math.Float32bits(v) != math.Float32bits(want[i]) {
					t.Fatalf("%s, %d workers, %d rows at once: element %d is %v, plain Go has %v", k, c[0], c[1], i, v, want[i])
				}
			}
		}
	}
}

// rowsCase runs softmax, norm and rotation of every instruction set on n rows between
// guard zones and compares them with plain Go bit for bit.
func rowsCase(t *testing.T, n, first, extra, window, cols int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 4))
	padded := roundUp(first+n-1, vectorStep) + extra*vectorStep
	scores, x, gain := guarded(r, n*padded), guarded(r, n*cols), guarded(r, cols)
	for i := range scores {
		scores[i] *= 30
	}
	half := cols / 2 // pairs; the rows are the heads
	cos, sin := guarded(r, half), guarded(r, half)
	type outcome struct{ weights, inverse, norm, rotated []float32 }
	run := func(e elementwise) outcome {
		o := outcome{append([]float32(nil), scores...), guarded(rand.New(rand.NewPCG(1, 1)), n), append([]float32(nil), x...), append([]float32(nil), x...)}
		e.softmax(o.weights[guard:guard+n*padded], n, padded, first, window, .25, o.inverse[guard:guard+n])
		y := o.norm[guard : guard+n*cols]
		e.norm(y, y, n, cols, gain[guard:guard+cols], 1e-5, nil)
		e.rotate(o.rotated[guard:guard+n*cols], n, cols, cos[guard:guard+half], sin[guard:guard+half])
		return o
	}
	want := run(plainGo)
	for _, k := range microKernels() {
		got := run(k.elements)
		for _, c := range []struct {
			what       string
			have, want []float32
		}{{"weight", got.weights, want.weights}, {"inverse", got.inverse, want.inverse}, {"norm", got.norm, want.norm}, {"rotated", got.rotated, want.rotated}} {
			for i, v := range c.have {
				if math.Float32bits(v) != math.Float32bits(c.want[i]) && (v == v || c.want[i] == c.want[i]) {
					t.Fatalf("%s, %d rows, first sees %d of %d, window %d, %d columns: %s %d (guards %d) is %v, plain Go has %v", k.name, n, first, padded, window, cols, c.what, i, guard, v, c.want[i])
				}
			}
		}
	}
}

func TestRowsEqualPlainGo(t *testing.T) {
	for n := 1; n <= attentionRows; n += 3 {
		for _, first := range []int{1, 2, 15, 16, 17, 31, 100} {
			for _, cols := range []int{1, 16, 40, 64, 288} {
				rowsCase(t, n, first, n%3, 0, cols, uint64(n))
			}
			rowsCase(t, n, first, 1, first, 16, 7)
			rowsCase(t, n, first, 0, 5, 32, 8)
		}
	}
}

func FuzzRows(f *testing.F) {
	f.Add(uint8(3), uint8(5), uint8(1), uint8(0), uint8(64), uint64(1))
	f.Fuzz(func(t *testing.T, n, first, extra, window, cols uint8, seed uint64) {
		rowsCase(t, int(n)%attentionRows+1, int(first)+1, int(extra)%3, int(window), int(cols)+1, seed)
	})
}

func FuzzKernels(f *testing.F) {
	f.Add(uint8(3), uint8(5), uint8(1), uint8(2), true, uint64(1))
	f.Fuzz(func(t *testing.T, n, k, skip, panelCount uint8, accumulate bool, seed uint64) {
		tileCase(t, int(n)%40+1, int(panelCount)%maxPanels+1, int(skip)%50, int(k)+1, accumulate, seed)
	})
}

// peaks are measured once per kernel and number of workers.
var peaks = map[string]Peak{}

func peakOf(b *testing.B, be *Backend) Peak {
	key := fmt.Sprintf("%s %d", be.Name(), be.Workers())
	p, ok := peaks[key]
	if !ok {
		p = be.MeasurePeak(20*time.Millisecond, 0)
		peaks[key] = p
		b.Logf("%s: %.1f GFLOP/s, %.1f GB/s", key, p.Flops/1e9, p.Bandwidth/1e9)
	}
	return p
}

// BenchmarkMatMul reports the fastest product of a run at shapes of real
// layers: GFLOP/s, the bytes of weights per second, and both as parts of what
// the machine reaches in the same run with operands in registers and in a
// plain read of memory. gonum's blas32 runs beside it.
func BenchmarkMatMul(b *testing.B) {
	for _, s := range [][3]int{{1, 2048, 2048}, {1, 32000, 2048}, {8, 2048, 2048}, {64, 2048, 2048}, {64, 2048, 5632}, {256, 512, 512}, {512, 2048, 2048}, {512, 768, 288}, {2048, 172, 64}} {
		rows, out, in := s[0], s[1], s[2]
		r := rand.New(rand.NewPCG(1, 1))
		x, w := make([]float32, rows*in), make([]float32, out*in)
		for i := range x {
			x[i] = r.Float32()
		}
		for i := range w {
			w[i] = r.Float32()
		}
		flop := 2 * float64(rows) * float64(out) * float64(in)
		report := func(b *testing.B, product func()) (flops, bytes float64) {
			best := math.Inf(1)
			for b.Loop() {
				t := time.Now()
				product()
				best = min(best, time.Since(t).Seconds())
			}
			flops, bytes = flop/best, 4*float64(out)*float64(in)/best
			b.ReportMetric(flops/1e9, "best-GFLOP/s")
			b.ReportMetric(bytes/1e9, "best-GB/s")
			return flops, bytes
		}
		for _, k := range Kernels() {
			for workers := 1; workers <= runtime.GOMAXPROCS(0); workers *= 2 {
				b.Run(fmt.Sprintf("%dx%dx%d/%s-%d", rows, out, in, k, workers), func(b *testing.B) {
					be := open(b, Options{Kernel: k, Workers: workers})
					p := peakOf(b, be)
					wt, err := be.NewWeight(backend.Dense{Out: out, In: in, Fill: func(dst []float32, from, to int) error { copy(dst, w[from*in:to*in]); return nil }})
					if err != nil {
						b.Fatal(err)
					}
					xm, _ := be.Alloc(rows, in)
					be.Upload(xm, x)
					dst, _ := be.Alloc(rows, out)
					flops, bytes := report(b, func() { be.MatMul(dst, xm, wt, nil, false) })
					b.ReportMetric(flops/p.Flops, "of-peak")
					b.ReportMetric(bytes/p.Bandwidth, "of-bandwidth")
				})
			}
		}
		b.Run(fmt.Sprintf("%dx%dx%d/gonum", rows, out, in), func(b *testing.B) {
			dst := make([]float32, rows*out)
			report(b, func() {
				blas32.Gemm(blas.NoTrans, blas.Trans, 1, blas32.General{Rows: rows, Cols: in, Stride: in, Data: x}, blas32.General{Rows: out, Cols: in, Stride: in, Data: w}, 0, blas32.General{Rows: rows, Cols: out, Stride: out, Data: dst})
			})
		})
	}
}

// TestMeasurePeak: the measuring loops of every kernel end and count something.
func TestMeasurePeak(t *testing.T) {
	for _, k := range Kernels() {
		p := open(t, Options{Kernel: k, Workers: 2}).MeasurePeak(time.Millisecond, 1<<20)
		if !(p.Flops > 0) || !(p.Bandwidth > 0) || math.IsInf(p.Flops, 0) || math.IsInf(p.Bandwidth, 0) {
			t.Errorf("%s: %+v", k, p)
		}
	}
}
