package compress

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// benchRow is one token of 4096 channels with a heavy tail; about 0.5 % of it
// is above 5.
func benchRow() Matrix {
	rng := rand.New(rand.NewPCG(1, 1))
	m := Matrix{1, 4096, make([]float32, 4096)}
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64() * math.Exp(.5*rng.NormFloat64()))
	}
	return m
}

func benchOptions(bits int) Options {
	o := DefaultOptions()
	o.MaxActivationBits = bits
	return o
}

func BenchmarkQuantise(b *testing.B) {
	m := benchRow()
	for _, bits := range []int{4, 8} {
		b.Run(fmt.Sprintf("4096x1/bits%d", bits), func(b *testing.B) {
			r, err := benchOptions(bits).reading()
			if err != nil {
				b.Fatal(err)
			}
			var q Quantised
			b.SetBytes(4 * 4096)
			b.ReportAllocs()
			for b.Loop() {
				if err := q.quantise(m, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkToken times threshold splitting and TAB-Q of one token and the way
// back, with each set of loops.
func BenchmarkToken(b *testing.B) {
	m := benchRow()
	defer func(l rowLoop) { rowLoops = l }(rowLoops)
	for _, loops := range availableRowLoops() {
		for _, bits := range []int{4, 8} {
			b.Run(fmt.Sprintf("%s/bits%d", loops.name, bits), func(b *testing.B) {
				rowLoops = loops
				r, err := benchOptions(bits).reading()
				if err != nil {
					b.Fatal(err)
				}
				var q Quantised
				dst := make([]float32, len(m.Data))
				b.ReportAllocs()
				var best []float64
				for b.Loop() {
					best = race(500, func() {
						if err := q.quantise(m, &r); err != nil {
							b.Fatal(err)
						}
					}, func() { q.Restore(dst) })
				}
				b.ReportMetric(best[0]*1e6, "quantise_µs")
				b.ReportMetric(best[1]*1e6, "restore_µs")
			})
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	m := benchRow()
	for _, name := range CodecNames() {
		c := mustCodec(b, name, benchOptions(4))
		msg, _, err := c.Encode(nil, m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/encode", func(b *testing.B) {
			dst := make([]byte, 0, 2*len(msg))
			b.SetBytes(4 * 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.Encode(dst, m); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(msg)), "B/message")
		})
		b.Run(name+"/decode", func(b *testing.B) {
			dst := make([]float32, 4096)
			b.SetBytes(4 * 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Decode(dst, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRANS(b *testing.B) {
	syms := gaussianSymbols(512<<10, 1.7, 1)
	counts := count(syms)
	var f frequencies
	f.normalise(&counts)
	var enc encoderTable
	enc.build(&f)
	var dec decoderTable
	dec.build(&f)
	stream, buf := ransEncode(nil, syms, &enc, 32, nil)
	b.Run("encode512K", func(b *testing.B) {
		dst := make([]byte, 0, len(stream))
		b.SetBytes(int64(len(syms)))
		b.ReportAllocs()
		for b.Loop() {
			_, buf = ransEncode(dst, syms, &enc, 32, buf)
		}
	})
	b.Run("decode512K", func(b *testing.B) {
		b.SetBytes(int64(len(syms)))
		b.ReportAllocs()
		for b.Loop() {
			if err := ransDecode(syms, stream, &dec, 32); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tables", func(b *testing.B) {
		for b.Loop() {
			f.normalise(&counts)
			enc.build(&f)
			dec.build(&f)
		}
	})
}

func BenchmarkDequantise(b *testing.B) {
	m := benchRow()
	for _, bits := range []int{2, 3, 4, 8} {
		b.Run(fmt.Sprintf("4096/bits%d", bits), func(b *testing.B) {
			q, err := QuantiseWeights(m.Data, 1, 4096, WeightScheme{bits, 32})
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]float32, 4096)
			b.SetBytes(4 * 4096)
			for b.Loop() {
				q.Dequantise(dst, 0)
			}
		})
	}
}
