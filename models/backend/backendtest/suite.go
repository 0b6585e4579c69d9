// Package backendtest is the conformance suite of backend.Backend: every
// operation against a float64 computation written from its definition, and
// the promise that a row's result does not depend on its neighbours.
package backendtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"splitbench/models/backend"
)

// Tolerance of one operation: largest absolute deviation from float64,
// relative to the sum of the magnitudes that were added. Float32 rounding of
// n terms stays near n^(1/2)·6e-8; a wrong operand shows as 1e-2 or more.
const Tolerance = 2e-6

// Run checks the backend that open returns.
func Run(t *testing.T, open func(t *testing.T) backend.Backend) {
	t.Run("matmul", func(t *testing.T) { matmul(t, open(t)) })
	t.Run("packed", func(t *testing.T) { packed(t, open(t)) })
	t.Run("rmsnorm", func(t *testing.T) { rmsnorm(t, open(t)) })
	t.Run("rope", func(t *testing.T) { rope(t, open(t)) })
	t.Run("silu", func(t *testing.T) { silu(t, open(t)) })
	t.Run("maprows", func(t *testing.T) { mapRows(t, open(t)) })
	t.Run("attention", func(t *testing.T) { attention(t, open(t)) })
	t.Run("cache", func(t *testing.T) { cacheRoundTrip(t, open(t)) })
	t.Run("logprobs", func(t *testing.T) { logprobs(t, open(t)) })
}

func random(r *rand.Rand, n int, scale float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * scale)
	}
	return v
}

func upload(t *testing.T, b backend.Backend, rows, cols int, v []float32) backend.Matrix {
	t.Helper()
	m, err := b.Alloc(rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	b.Upload(m, v)
	return m
}

func download(b backend.Backend, m backend.Matrix) []float32 {
	v := make([]float32, m.Rows()*m.Cols())
	b.Download(v, m)
	return v
}

// near fails unless |have-want| <= Tolerance*(scale+1e-30).
func near(t *testing.T, what string, i int, have float32, want, scale float64) {
	t.Helper()
	if d := math.Abs(float64(have) - want); !(d <= Tolerance*(scale+1e-30)) {
		t.Fatalf("%s[%d] = %g, expected %g (deviation %g, allowed %g)", what, i, have, want, d, Tolerance*scale)
	}
}

func dense(w []float32, out, in int) backend.Dense {
	return backend.Dense{Out: out, In: in, Fill: func(dst []float32, from, to int) error {
		copy(dst, w[from*in:to*in])
		return nil
	}}
}

func matmul(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, s := range [][3]int{{1, 16, 16}, {3, 7, 5}, {8, 48, 300}, {9, 50, 257}, {17, 97, 512}, {65, 130, 33}, {2, 1, 1}} {
		rows, out, in := s[0], s[1], s[2]
		x, w, bias := random(r, rows*in, 1), random(r, out*in, 1), random(r, out, 1)
		wt, err := b.NewWeight(dense(w, out, in))
		if err != nil {
			t.Fatal(err)
		}
		bv, err := b.NewVector(bias)
		if err != nil {
			t.Fatal(err)
		}
		start := random(r, rows*out, 1)
		xm := upload(t, b, rows, in, x)
		for _, withBias := range []bool{false, true} {
			for _, accumulate := range []bool{false, true} {
				dst := upload(t, b, rows, out, start)
				var v backend.Vector
				if withBias {
					v = bv
				}
				b.MatMul(dst, xm, wt, v, accumulate)
				got := download(b, dst)
				for i := 0; i < rows; i++ {
					for j := 0; j < out; j++ {
						sum, mag := 0.0, 0.0
						if accumulate {
							sum, mag = float64(start[i*out+j]), math.Abs(float64(start[i*out+j]))
						}
						if withBias {
							sum += float64(bias[j])
							mag += math.Abs(float64(bias[j]))
						}
						for k := 0; k < in; k++ {
							p := float64(x[i*in+k]) * float64(w[j*in+k])
							sum += p
							mag += math.Abs(p)
						}
						near(t, "matmul", i*out+j, got[i*out+j], sum, mag)
					}
				}
				// One row alone gives the same bits as the row in company.
				one := upload(t, b, 1, out, start[(rows-1)*out:])
				b.MatMul(one, upload(t, b, 1, in, x[(rows-1)*in:]), wt, v, accumulate)
				for j, v := range download(b, one) {
					if v != got[(rows-1)*out+j] {
						t.Fatalf("%v: row %d alone differs at column %d: %g and %g", s, rows-1, j, v, got[(rows-1)*out+j])
					}
				}
			}
		}
	}
}

// packed: the product with packed codes has the bits of the product with the
// dequantised values.
func packed(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(2, 1))
	for _, bits := range []int{2, 3, 4, 8} {
		for _, s := range [][4]int{{1, 16, 32, 0}, {5, 50, 96, 32}, {9, 130, 300, 64}, {33, 48, 513, 0}} {
			rows, out, in, group := s[0], s[1], s[2], s[3]
			g := group
			if g == 0 {
				g = in
			}
			groups := (in + g - 1) / g
			rowBytes := (in*bits + 7) / 8
			p := backend.Packed{Out: out, In: in, Bits: bits, Group: group, Codes: make([]byte, out*rowBytes), Scales: make([]float32, out*groups), Zeros: make([]uint8, out*groups)}
			for i := range p.Scales {
				p.Scales[i] = float32(r.Float64()*.1 + .01)
				p.Zeros[i] = uint8(r.IntN(1 << bits))
			}
			w := make([]float32, out*in)
			for i := 0; i < out; i++ {
				for k := 0; k < in; k++ {
					code := r.IntN(1 << bits)
					for bit := 0; bit < bits; bit++ {
						at := k*bits + bit
						p.Codes[i*rowBytes+at/8] |= byte(code>>bit&1) << (at % 8)
					}
					w[i*in+k] = p.Scales[i*groups+k/g] * (float32(code) - float32(p.Zeros[i*groups+k/g]))
				}
			}
			pw, err := b.NewPackedWeight(p)
			if err != nil {
				t.Fatal(err)
			}
			dw, err := b.NewWeight(dense(w, out, in))
			if err != nil {
				t.Fatal(err)
			}
			xm := upload(t, b, rows, in, random(r, rows*in, 1))
			have, want := upload(t, b, rows, out, make([]float32, rows*out)), upload(t, b, rows, out, make([]float32, rows*out))
			b.MatMul(have, xm, pw, nil, false)
			b.MatMul(want, xm, dw, nil, false)
			h, v := download(b, have), download(b, want)
			for i := range h {
				if h[i] != v[i] {
					t.Fatalf("%d bits %v: element %d is %g packed, %g dense", bits, s, i, h[i], v[i])
				}
			}
			e, f := upload(t, b, 2, in, make([]float32, 2*in)), upload(t, b, 2, in, make([]float32, 2*in))
			b.Embed(e, pw, []int32{int32(out - 1), 0})
			b.Embed(f, dw, []int32{int32(out - 1), 0})
			h, v = download(b, e), download(b, f)
			for i := range h {
				if h[i] != v[i] || v[i] != w[[2]int{out - 1, 0}[i/in]*in+i%in] {
					t.Fatalf("%d bits: embedding element %d is %g packed, %g dense", bits, i, h[i], v[i])
				}
			}
			if pw.Bytes() >= dw.Bytes() {
				t.Errorf("%d bits: packed weight occupies %d bytes, dense %d", bits, pw.Bytes(), dw.Bytes())
			}
		}
	}
}

func rmsnorm(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, cols := range []int{1, 7, 64, 130} {
		rows := 5
		x, g := random(r, rows*cols, 3), random(r, cols, 1)
		gv, err := b.NewVector(g)
		if err != nil {
			t.Fatal(err)
		}
		xm := upload(t, b, rows, cols, x)
		dst := upload(t, b, rows, cols, x)
		b.RMSNorm(dst, xm, gv, 1e-5)
		got := download(b, dst)
		for i := 0; i < rows; i++ {
			sum := 0.0
			for k := 0; k < cols; k++ {
				sum += float64(x[i*cols+k]) * float64(x[i*cols+k])
			}
			inv := 1 / math.Sqrt(sum/float64(cols)+1e-5)
			for k := 0; k < cols; k++ {
				want := float64(x[i*cols+k]) * inv * float64(g[k])
				near(t, "rmsnorm", i*cols+k, got[i*cols+k], want, math.Abs(want))
			}
		}
	}
}

func rope(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(4, 1))
	heads, dh, half, rows := 3, 10, 4, 6 // dims 8 and 9 of a head do not rotate
	table := &backend.RopeTable{Half: half}
	for p := 0; p < 50; p++ {
		for i := 0; i < half; i++ {
			a := float64(p) * math.Pow(10000, -float64(i)/float64(half))
			table.Cos = append(table.Cos, float32(math.Cos(a)))
			table.Sin = append(table.Sin, float32(math.Sin(a)))
		}
	}
	x := random(r, rows*heads*dh, 1)
	pos := []int32{0, 1, 7, 49, 3, 3}
	m := upload(t, b, rows, heads*dh, x)
	b.Rope(m, heads, dh, pos, table)
	got := download(b, m)
	for i := range x {
		row, d := i/(heads*dh), i%dh
		want, mag := float64(x[i]), math.Abs(float64(x[i]))
		if d < 2*half {
			f := d % half
			a := float64(pos[row]) * math.Pow(10000, -float64(f)/float64(half))
			if d < half {
				want = float64(x[i])*math.Cos(a) - float64(x[i+half])*math.Sin(a)
				mag += math.Abs(float64(x[i+half]))
			} else {
				want = float64(x[i])*math.Cos(a) + float64(x[i-half])*math.Sin(a)
				mag += math.Abs(float64(x[i-half]))
			}
		}
		near(t, "rope", i, got[i], want, mag)
	}
}

func silu(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(5, 1))
	rows, cols := 4, 33
	g, u := random(r, rows*cols, 8), random(r, rows*cols, 1)
	copy(g, []float32{0, -100, 100, -87.5, 88.9, -0.001})
	gm, um := upload(t, b, rows, cols, g), upload(t, b, rows, cols, u)
	b.SiluMul(gm, um)
	for i, v := range download(b, gm) {
		want := float64(g[i]) / (1 + math.Exp(-float64(g[i]))) * float64(u[i])
		near(t, "silu", i, v, want, math.Abs(want)+1e-30)
	}
}

// mapRows checks that every row is seen once, whole, and that the error of the
// first row that has one is returned.
func mapRows(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(9, 1))
	for _, rows := range []int{0, 1, 37, 500} {
		const cols = 33
		x := random(r, rows*cols, 1)
		for i := range rows {
			x[i*cols] = float32(i)
		}
		m := upload(t, b, rows, cols, x)
		if err := b.MapRows(m, func(part []float32) error {
			for ; len(part) > 0; part = part[cols:] {
				for j := range part[:cols] {
					part[j] += part[0]
				}
				part[0] /= 2
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for i, v := range download(b, m) {
			// The first column was doubled before it was added to the others.
			want := x[i]
			if i%cols != 0 {
				want += 2 * float32(i/cols)
			}
			if v != want {
				t.Fatalf("%d rows: element %d is %v, expected %v", rows, i, v, want)
			}
		}
		if rows < 500 {
			continue
		}
		b.Upload(m, x)
		err := b.MapRows(m, func(part []float32) error {
			for ; len(part) > 0; part = part[cols:] {
				if part[0] >= 100 {
					return fmt.Errorf("row %v", part[0])
				}
			}
			return nil
		})
		if err == nil || err.Error() != "row 100" {
			t.Errorf("error %v, expected that of row 100", err)
		}
	}
}

func attention(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(6, 1))
	for _, s := range []struct{ heads, kv, dh, window int }{{4, 4, 12, 0}, {8, 2, 8, 0}, {2, 1, 40, 0}, {4, 2, 16, 5}, {2, 2, 16, 1}} {
		// Two sequences, laid in one batch, each computed in two parts.
		lengths := []int{70, 33}
		shape := backend.AttentionShape{Heads: s.heads, KVHeads: s.kv, HeadDim: s.dh, Scale: float32(1 / math.Sqrt(float64(s.dh))), Window: s.window}
		qw, kw := s.heads*s.dh, s.kv*s.dh
		var q, k, v [][]float32
		for _, n := range lengths {
			q, k, v = append(q, random(r, n*qw, 1.5)), append(k, random(r, n*kw, 1.5)), append(v, random(r, n*kw, 1))
		}
		run := func(cuts []int) [][]float32 {
			var caches []backend.Cache
			out := make([][]float32, len(lengths))
			for _, n := range lengths {
				c, err := b.NewCache(backend.CacheShape{Layers: 2, KVHeads: s.kv, HeadDim: s.dh, Capacity: n})
				if err != nil {
					t.Fatal(err)
				}
				caches = append(caches, c)
			}
			done := make([]int, len(lengths))
			for part := 0; part < 2; part++ {
				var seqs []backend.Sequence
				var qs, ks, vs []float32
				rows := 0
				for i, n := range lengths {
					end := n
					if part == 0 {
						end = cuts[i]
					}
					cnt := end - done[i]
					seqs = append(seqs, backend.Sequence{Row: rows, Count: cnt, Start: done[i], Cache: caches[i]})
					qs = append(qs, q[i][done[i]*qw:end*qw]...)
					ks = append(ks, k[i][done[i]*kw:end*kw]...)
					vs = append(vs, v[i][done[i]*kw:end*kw]...)
					rows += cnt
					done[i] = end
				}
				qm := upload(t, b, rows, qw, qs)
				b.Append(1, upload(t, b, rows, kw, ks), upload(t, b, rows, kw, vs), seqs)
				dst := upload(t, b, rows, qw, make([]float32, rows*qw))
				b.Attention(dst, qm, 1, seqs, shape)
				got := download(b, dst)
				for i, sq := range seqs {
					out[i] = append(out[i], got[sq.Row*qw:(sq.Row+sq.Count)*qw]...)
				}
			}
			return out
		}
		got, other := run([]int{20, 33}), run([]int{69, 1})
		for i, n := range lengths {
			for x := range got[i] {
				if got[i][x] != other[i][x] {
					t.Fatalf("%+v sequence %d element %d: %g when cut one way, %g the other", s, i, x, got[i][x], other[i][x])
				}
			}
			for p := 0; p < n; p++ {
				for h := 0; h < s.heads; h++ {
					g := h / (s.heads / s.kv)
					low := 0
					if s.window > 0 {
						low = max(0, p-s.window+1)
					}
					w := make([]float64, p+1)
					top := math.Inf(-1)
					for j := low; j <= p; j++ {
						for d := 0; d < s.dh; d++ {
							w[j] += float64(q[i][p*qw+h*s.dh+d]) * float64(k[i][j*kw+g*s.dh+d])
						}
						w[j] *= float64(shape.Scale)
						top = math.Max(top, w[j])
					}
					sum := 0.0
					for j := low; j <= p; j++ {
						w[j] = math.Exp(w[j] - top)
						sum += w[j]
					}
					for d := 0; d < s.dh; d++ {
						want, mag := 0.0, 0.0
						for j := low; j <= p; j++ {
							want += w[j] / sum * float64(v[i][j*kw+g*s.dh+d])
							mag += w[j] / sum * math.Abs(float64(v[i][j*kw+g*s.dh+d]))
						}
						near(t, "attention", p*qw+h*s.dh+d, got[i][p*qw+h*s.dh+d], want, 4*mag)
					}
				}
			}
		}
	}
}

func cacheRoundTrip(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(7, 1))
	s := backend.CacheShape{Layers: 3, KVHeads: 2, HeadDim: 20, Capacity: 37}
	c, err := b.NewCache(s)
	if err != nil {
		t.Fatal(err)
	}
	if s.Bytes() != 2*4*3*2*20*37 {
		t.Errorf("CacheShape.Bytes = %d", s.Bytes())
	}
	w := s.KVHeads * s.HeadDim
	k, v := random(r, s.Capacity*w, 1), random(r, s.Capacity*w, 1)
	c.WriteKV(2, 0, 30, k, v)
	c.WriteKV(2, 30, 7, k[30*w:], v[30*w:])
	gk, gv := make([]float32, 12*w), make([]float32, 12*w)
	c.ReadKV(2, 25, 37, gk, gv)
	for i := range gk {
		if gk[i] != k[25*w+i] || gv[i] != v[25*w+i] {
			t.Fatalf("element %d read back as %g, %g", i, gk[i], gv[i])
		}
	}
}

func logprobs(t *testing.T, b backend.Backend) {
	r := rand.New(rand.NewPCG(8, 1))
	for _, s := range [][3]int{{5, 24, 100}, {40, 16, 33001}} {
		rows, width, vocab := s[0], s[1], s[2]
		x, w := random(r, rows*width, 1), random(r, vocab*width, .5)
		wt, err := b.NewWeight(dense(w, vocab, width))
		if err != nil {
			t.Fatal(err)
		}
		var targets []backend.Target
		for i := 0; i < rows; i++ {
			if i == 2 {
				continue // a row without target
			}
			targets = append(targets, backend.Target{Row: int32(i), ID: int32(r.IntN(vocab))}, backend.Target{Row: int32(i), ID: int32(vocab - 1)})
		}
		got := make([]backend.TokenScore, len(targets))
		if err := b.LogProbs(got, upload(t, b, rows, width, x), wt, targets); err != nil {
			t.Fatal(err)
		}
		for i, tg := range targets {
			logits := make([]float64, vocab)
			best := 0
			for j := range logits {
				for k := 0; k < width; k++ {
					logits[j] += float64(x[int(tg.Row)*width+k]) * float64(w[j*width+k])
				}
				if logits[j] > logits[best] {
					best = j
				}
			}
			sum := 0.0
			for _, l := range logits {
				sum += math.Exp(l - logits[best])
			}
			want := logits[tg.ID] - logits[best] - math.Log(sum)
			if math.Abs(got[i].LogProb-want) > 5e-6*(1+math.Abs(want)) || int(got[i].Argmax) != best {
				t.Fatalf("target %d: log-probability %v, argmax %d, expected %v, %d", i, got[i].LogProb, got[i].Argmax, want, best)
			}
		}
		if err := b.LogProbs(got[:1], upload(t, b, rows, width, x), wt, []backend.Target{{Row: 0, ID: int32(vocab)}}); err == nil {
			t.Error("a target outside the vocabulary gave no error")
		}
	}
}
