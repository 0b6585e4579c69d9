package compress

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klauspost/compress/huff0"
)

// huffBlocks codes long streams with huff0, which takes blocks of up to 128 KiB.
type huffBlocks struct {
	enc, dec huff0.Scratch
	blocks   [][]byte // compressed, table first
	sizes    []int
}

const huffBlock = 128 << 10

func (h *huffBlocks) encode(b *testing.B, syms []byte) {
	h.blocks, h.sizes = h.blocks[:0], h.sizes[:0]
	for len(syms) > 0 {
		n := min(len(syms), huffBlock)
		h.enc.Reuse = huff0.ReusePolicyNone
		out, _, err := huff0.Compress4X(syms[:n], &h.enc)
		if err != nil {
			b.Fatal(err)
		}
		h.blocks = append(h.blocks, out)
		h.sizes = append(h.sizes, n)
		h.enc.Out = make([]byte, 0, cap(out))
		syms = syms[n:]
	}
}

// encodeAgain encodes without keeping the blocks.
func (h *huffBlocks) encodeAgain(b *testing.B, syms []byte) {
	for len(syms) > 0 {
		n := min(len(syms), huffBlock)
		if _, _, err := huff0.Compress4X(syms[:n], &h.enc); err != nil {
			b.Fatal(err)
		}
		syms = syms[n:]
	}
}

func (h *huffBlocks) decode(b *testing.B, dst []byte) {
	for i, block := range h.blocks {
		s, rest, err := huff0.ReadTable(block, &h.dec)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Decoder().Decompress4X(dst[:0:h.sizes[i]], rest); err != nil {
			b.Fatal(err)
		}
		dst = dst[h.sizes[i]:]
	}
}

// benchModel returns a model and symbols drawn from it, of about 15 or 31
// symbols and one or four contexts.
func benchModel(n, alphabet, classes int) (*laneModel, *laneCase) {
	rng := rand.New(rand.NewPCG(11, uint64(alphabet)))
	var c laneCase
	c.classes = classes
	for class := range classes {
		sigma := float64(alphabet) / 9 * (1 + .3*float64(class))
		var counts [256]uint32
		for _, s := range gaussianSymbols(1<<16, sigma, uint64(class)) {
			counts[min(max(int(s)-128+alphabet/2, 0), alphabet-1)]++
		}
		for s := range alphabet {
			counts[s]++
		}
		var f frequencies
		f.normalise(&counts)
		copy(c.freq[class][:], f.freq[:])
	}
	// Symbols by frequency only.
	c.symbols = make([]byte, n)
	if classes > 1 {
		c.contexts = make([]byte, n)
	}
	for i := range c.symbols {
		f := &c.freq[0]
		if classes > 1 {
			c.contexts[i] = byte(rng.IntN(classes))
			f = &c.freq[c.contexts[i]]
		}
		slot, s := uint16(rng.IntN(probOne)), 0
		for slot >= f[s] {
			slot -= f[s]
			s++
		}
		c.symbols[i] = byte(s)
	}
	m := new(laneModel)
	m.build(&c.freq, classes)
	return m, &c
}

// race runs the functions in turn and returns the least time of each in seconds.
func race(least int, fs ...func()) []float64 {
	best := make([]float64, len(fs))
	for i, f := range fs {
		f()
		best[i] = 1e9
	}
	for range least {
		for i, f := range fs {
			t := time.Now()
			f()
			best[i] = min(best[i], time.Since(t).Seconds())
		}
	}
	return best
}

// benchLaneLoops runs f with each of the loops that the processor has.
func benchLaneLoops(b *testing.B, f func(b *testing.B)) {
	defer func(l laneLoop) { laneLoops = l }(laneLoops)
	for _, laneLoops = range availableLaneLoops() {
		b.Run(laneLoopNames[laneLoops], f)
	}
}

// repeat returns a function that calls f so many times.
func repeat(calls int, f func()) func() {
	return func() {
		for range calls {
			f()
		}
	}
}

// BenchmarkLanesAgainstHuff0 reports the lane coder on a long stream and the
// ratio to huff0 in the same run, the least of interleaved calls.
func BenchmarkLanesAgainstHuff0(b *testing.B) {
	benchLaneLoops(b, func(b *testing.B) {
		const size = 512 << 10
		for _, alphabet := range []int{15, 31} {
			for _, lanes := range []int{32, 64, 96} {
				b.Run(fmt.Sprintf("symbols%d/lanes%d", alphabet, lanes), func(b *testing.B) {
					m, c := benchModel(size, alphabet, 1)
					m.buildSlots()
					var h huffBlocks
					h.encode(b, c.symbols)
					var w wordStack
					states := make([]uint32, lanes)
					encode := func() {
						for k := range states {
							states[k] = stateLow
						}
						w.reset(size)
						m.push(states, c.symbols, nil, &w)
					}
					encode()
					last := append([]uint32(nil), states...)
					dst := make([]byte, size)
					all := rounds(size, lanes)
					var best []float64
					for b.Loop() {
						best = race(100, encode, func() { h.encodeAgain(b, c.symbols) },
							func() {
								copy(states, last)
								if _, ok := m.pop(states, dst, nil, 0, all, w.words(), true); !ok {
									b.Fatal("words run out")
								}
							}, func() { h.decode(b, dst) },
							func() {
								copy(states, last)
								if _, ok := m.popPlain(states, dst, nil, 0, size, w.words(), true); !ok {
									b.Fatal("words run out")
								}
							})
					}
					b.ReportMetric(size/best[0]/1e9, "enc_GB/s")
					b.ReportMetric(best[1]/best[0], "enc/huff0")
					b.ReportMetric(size/best[2]/1e9, "dec_GB/s")
					b.ReportMetric(best[3]/best[2], "dec/huff0")
					b.ReportMetric(best[3]/best[4], "plain_dec/huff0")
				})
			}
		}
	})
}

// BenchmarkLanesRow times one token of 4096 symbols in 32 lanes as a message has
// it: the first rounds that are encoded have no words.
func BenchmarkLanesRow(b *testing.B) {
	benchLaneLoops(b, func(b *testing.B) {
		const size, lanes = 4096, 32
		for _, alphabet := range []int{15, 31} {
			for _, classes := range []int{1, 4} {
				b.Run(fmt.Sprintf("symbols%d/contexts%d", alphabet, classes), func(b *testing.B) {
					m, c := benchModel(size, alphabet, classes)
					var w wordStack
					states := make([]uint32, lanes)
					var start int
					const calls = 16 // in one reading of the clock, which takes time too
					encode := func() {
						clear(states)
						start = m.pushStart(states, c.symbols, c.contexts)
						for k := range states {
							states[k] += stateLow
						}
						w.reset(size)
						m.pushRounds(states, c.symbols, c.contexts, 0, size/lanes-start, &w)
					}
					encode()
					last := append([]uint32(nil), states...)
					dst := make([]byte, size)
					var best []float64
					for b.Loop() {
						best = race(300, repeat(calls, encode), repeat(calls, func() {
							copy(states, last)
							if _, ok := m.pop(states, dst, c.contexts, 0, size/lanes-start, w.words(), true); !ok {
								b.Fatal("words run out")
							}
							for k := range states {
								states[k] -= stateLow
							}
							m.pop(states, dst, c.contexts, size/lanes-start, size/lanes, nil, false)
						}))
					}
					if !bytes.Equal(dst, c.symbols) {
						b.Fatal("decodes differently")
					}
					b.ReportMetric(best[0]*1e6/calls, "enc_µs")
					b.ReportMetric(best[1]*1e6/calls, "dec_µs")
					b.ReportMetric((best[0]+best[1])*1e6/calls, "both_µs")
				})
			}
		}
	})
}

// BenchmarkSymbolsAgainstHuff0 does the same with whole streams: counting and
// tables included on both sides.
func BenchmarkSymbolsAgainstHuff0(b *testing.B) {
	benchLaneLoops(b, func(b *testing.B) {
		const size = 512 << 10
		for _, alphabet := range []int{15, 31} {
			b.Run(fmt.Sprintf("symbols%d", alphabet), func(b *testing.B) {
				_, c := benchModel(size, alphabet, 1)
				var h huffBlocks
				h.encode(b, c.symbols)
				stream := AppendSymbols(nil, c.symbols)
				dst := make([]byte, size)
				out := make([]byte, 0, len(stream))
				var best []float64
				for b.Loop() {
					best = race(100, func() { out = AppendSymbols(out[:0], c.symbols) }, func() { h.encodeAgain(b, c.symbols) },
						func() {
							if _, err := DecodeSymbols(dst, stream); err != nil {
								b.Fatal(err)
							}
						}, func() { h.decode(b, dst) })
				}
				huff := 0
				for _, block := range h.blocks {
					huff += len(block)
				}
				b.ReportMetric(size/best[0]/1e9, "enc_GB/s")
				b.ReportMetric(best[1]/best[0], "enc/huff0")
				b.ReportMetric(size/best[2]/1e9, "dec_GB/s")
				b.ReportMetric(best[3]/best[2], "dec/huff0")
				b.ReportMetric(float64(len(stream))/float64(huff), "size/huff0")
			})
		}
	})
}

// BenchmarkCount reports the counting of symbols with each set of loops.
func BenchmarkCount(b *testing.B) {
	for _, alphabet := range []int{15, 31} {
		_, c := benchModel(512<<10, alphabet, 1)
		for _, l := range availableRowLoops() {
			b.Run(fmt.Sprintf("%s/symbols%d", l.name, alphabet), func(b *testing.B) {
				var best []float64
				for b.Loop() {
					best = race(50, func() { l.count(c.symbols) })
				}
				b.ReportMetric(float64(len(c.symbols))/best[0]/1e9, "GB/s")
			})
		}
	}
}
