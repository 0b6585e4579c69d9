package cpu

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"splitbench/models/backend"
)

// benchWeights are the storage forms of a random (out, in) weight.
func benchWeights(b *testing.B, be *Backend, out, in int) map[string]backend.Weight {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	ws := map[string]backend.Weight{}
	add := func(name string, w backend.Weight, err error) {
		if err != nil {
			b.Fatal(err)
		}
		ws[name] = w
	}
	row := randomFloats(r, in)
	w, err := be.NewWeight(backend.Dense{Out: out, In: in, Fill: func(dst []float32, from, to int) error {
		for i := from; i < to; i++ {
			copy(dst[(i-from)*in:], row)
		}
		return nil
	}})
	add("float32", w, err)
	for name, e := range map[string]backend.Element{"bfloat16": backend.BFloat16, "float16": backend.Float16} {
		halves := randomHalf(r, e, in)
		for i, v := range halves {
			if v&0x7f80 == 0 {
				halves[i] |= 0x3f00 // a normal number: sums of subnormal ones are slow
			}
		}
		w, err := be.NewWeight(backend.Dense{Out: out, In: in, Element: e, Fill16: func(dst []uint16, from, to int) error {
			for i := from; i < to; i++ {
				copy(dst[(i-from)*in:], halves)
			}
			return nil
		}})
		add(name, w, err)
	}
	for _, f := range []struct {
		bits, group int
		codebook    bool
	}{{2, 64, false}, {3, 64, false}, {4, 64, false}, {4, 0, false}, {8, 0, false}, {6, 64, false}, {4, 64, true}} {
		group := f.group
		if group == 0 {
			group = in
		}
		p := backend.Packed{Out: out, In: in, Bits: f.bits, Group: f.group, Codes: make([]byte, out*in*f.bits/8), Scales: randomFloats(r, out*in/group)}
		for i := range p.Codes {
			p.Codes[i] = byte(r.Uint32())
		}
		if f.codebook {
			p.Codebook = randomFloats(r, 16)
		} else {
			p.Zeros = make([]uint8, len(p.Scales))
		}
		w, err := be.NewPackedWeight(p)
		name := fmt.Sprintf("int%d/%d", f.bits, f.group)
		if f.codebook {
			name = "codebook/64"
		}
		add(name, w, err)
	}
	return ws
}

// BenchmarkNarrow reports products with every storage form of a weight: the
// bytes of weight read per second at one row, and GFLOP/s.
func BenchmarkNarrow(b *testing.B) {
	const out, in = 5632, 2048
	for _, k := range Kernels()[:len(Kernels())-1] {
		for _, workers := range []int{1, 2} {
			be := open(b, Options{Kernel: k, Workers: workers})
			ws := benchWeights(b, be, out, in)
			for _, rows := range []int{1, 4, 64, 256, 512} {
				for _, name := range []string{"float32", "bfloat16", "float16", "int8/0", "int6/64", "int4/0", "int4/64", "codebook/64", "int3/64", "int2/64"} {
					w := ws[name]
					b.Run(fmt.Sprintf("%s-%d/%d-rows/%s", k, workers, rows, name), func(b *testing.B) {
						x := &matrix{rows: rows, cols: in, data: randomFloats(rand.New(rand.NewPCG(3, 3)), rows*in)}
						dst := &matrix{rows: rows, cols: out, data: make([]float32, rows*out)}
						for b.Loop() {
							be.MatMul(dst, x, w, nil, false)
						}
						seconds := b.Elapsed().Seconds() / float64(b.N)
						b.ReportMetric(2*float64(rows)*out*in/seconds/1e9, "GFLOP/s")
						b.ReportMetric(float64(w.Bytes())/seconds/1e9, "GB/s")
					})
				}
			}
		}
	}
}

// BenchmarkRead reports how fast one core reads memory that no cache holds, by
// a search with the widest loads of the runtime: the floor of a product with
// one row.
func BenchmarkRead(b *testing.B) {
	data := make([]byte, 256<<20)
	for i := 0; i < len(data); i += 512 {
		data[i] = 2 // pages of its own, not the one of zeros
	}
	for b.Loop() {
		if bytes.IndexByte(data, 1) >= 0 {
			b.Fatal("found what is not there")
		}
	}
	b.ReportMetric(float64(len(data))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
}
