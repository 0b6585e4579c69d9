package compress

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"
)

// TestLaneGuards runs the lane coder on rows, contexts, results and words that
// end, or start, at pages which cannot be touched.
func TestLaneGuards(t *testing.T) {
	eachLaneLoop(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 5))
		for _, lanes := range laneCounts {
			for _, n := range []int{1, lanes, 3*lanes + 1, 500} {
				for _, alphabet := range []int{9, 32} {
					var c laneCase
					c.randomTables(rng, alphabet, 4, 0)
					c.fill(rng, n, true)
					var m laneModel
					m.buildCase(&c)
					for _, front := range []bool{false, true} {
						symbols, contexts, got := guarded(t, n, front), guarded(t, n, front), guarded(t, n, front)
						copy(symbols, c.symbols)
						copy(contexts, c.contexts)
						states := slices.Repeat([]uint32{stateLow}, lanes)
						var w wordStack
						buf := guarded(t, wordSlack+2*n, front)
						w.buf, w.at = buf, len(buf)
						m.push(states, symbols, contexts, &w)
						words := guarded(t, len(w.words()), front)
						copy(words, w.words())
						used, ok := m.pop(states, got, contexts, 0, rounds(n, lanes), words, true)
						if !ok || used != len(words) || !bytes.Equal(got, symbols) {
							t.Fatalf("%d symbols of %d lanes: decodes differently", n, lanes)
						}
						clear(states)
						done := m.pushStart(states, symbols, contexts)
						m.pop(states, got, contexts, rounds(n, lanes)-done, rounds(n, lanes), nil, false)
					}
				}
			}
		}
	})
}

// FuzzLanes compares every set of loops with the plain one: states and words of
// an encoder on arbitrary symbols, and a decoder on arbitrary words.
func FuzzLanes(f *testing.F) {
	f.Add([]byte("some symbols"), []byte("and words, which are arbitrary"), uint64(1), uint8(5))
	f.Add(bytes.Repeat([]byte{0, 1, 31, 4}, 200), bytes.Repeat([]byte{0, 255}, 300), uint64(7), uint8(255))
	f.Fuzz(func(t *testing.T, row, words []byte, seed uint64, shape uint8) {
		if len(row) > 2000 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		lanes := laneCounts[int(shape)%len(laneCounts)]
		alphabet := 16 + int(shape/8)%2*16
		var c laneCase
		c.randomTables(rng, alphabet, 1+int(shape/16)%4, int(shape/64))
		symbols, contexts := make([]byte, len(row)), make([]byte, len(row))
		for i, b := range row {
			contexts[i] = b >> 5 & 3
			f := &c.freq[0]
			if int(contexts[i]) < c.classes {
				f = &c.freq[contexts[i]]
			}
			for symbols[i] = b % laneSymbols; f[symbols[i]] == 0; {
				symbols[i] = (symbols[i] + 1) % laneSymbols
			}
		}
		states := make([]uint32, lanes)
		for k := range states {
			states[k] = rng.Uint32() >> rng.IntN(17) // of any size, as from a stranger
		}
		type result struct {
			states, startStates, decodeStates []uint32
			words                             []byte
			symbols                           []byte
			start, used                       int
			ok                                bool
		}
		run := func(l laneLoop) (r result) {
			defer func(l laneLoop) { laneLoops = l }(laneLoops)
			laneLoops = l
			var m laneModel
			m.buildCase(&c)
			r.startStates = make([]uint32, lanes)
			r.start = m.pushStart(r.startStates, symbols, contexts)
			r.states = slices.Clone(states)
			for k := range r.states {
				r.states[k] |= stateLow
			}
			var w wordStack
			m.push(r.states, symbols, contexts, &w)
			r.words = bytes.Clone(w.words())
			r.symbols = make([]byte, len(row))
			r.decodeStates = slices.Clone(states)
			if r.used, r.ok = m.pop(r.decodeStates, r.symbols, contexts, 0, rounds(len(row), lanes), words, true); !r.ok {
				r.used, r.symbols, r.decodeStates = 0, nil, nil
			}
			return r
		}
		want := run(lanePlain)
		for _, l := range availableLaneLoops() {
			got := run(l)
			if !slices.Equal(got.states, want.states) || !bytes.Equal(got.words, want.words) {
				t.Fatalf("loop %d encodes differently", l)
			}
			if got.start != want.start || !slices.Equal(got.startStates, want.startStates) {
				t.Fatalf("loop %d starts differently: %d rounds, want %d", l, got.start, want.start)
			}
			if got.ok != want.ok || got.used != want.used || !bytes.Equal(got.symbols, want.symbols) || !slices.Equal(got.decodeStates, want.decodeStates) {
				t.Fatalf("loop %d decodes differently", l)
			}
		}
	})
}

// guardedOf returns n elements in guarded memory.
func guardedOf[T any](t testing.TB, n int) []T {
	var zero T
	b := guarded(t, max(n, 1)*int(unsafe.Sizeof(zero)), false)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), max(n, 1))[:n]
}

// compareRowLoops runs every set of loops on one row between guard pages and
// compares with the plain one. The bits are arbitrary.
func compareRowLoops(t *testing.T, values []float32, codeBytes []byte, tauBits uint32, s float32, top uint32, shift uint) {
	n := len(values)
	row := guardedOf[float32](t, n)
	copy(row, values)
	type result struct {
		above    CSR
		codes    []int16
		symbols  []byte
		tops     []byte
		restored []float32
		fromSyms []float32
		largest  uint32
		worst    uint32
		sum      uint64
		distance uint64
		counts   [256]uint32
	}
	symbolsIn := guardedOf[byte](t, n)
	for i := range symbolsIn {
		symbolsIn[i] = codeBytes[i%len(codeBytes)]
	}
	run := func(l *rowLoop) (r result) {
		r.codes, r.symbols, r.tops = guardedOf[int16](t, n), guardedOf[byte](t, n), guardedOf[byte](t, n)
		r.restored, r.fromSyms = guardedOf[float32](t, n), guardedOf[float32](t, n)
		r.above.Col, r.above.Val = []uint32{77}, []float32{7}
		r.largest = l.split(row, 100, tauBits, &r.above)
		r.sum = l.codes(r.codes, row, tauBits, s, top)
		l.magnitudes(r.tops, row, tauBits, s, top)
		r.distance = l.distortion(symbolsIn, row, tauBits, s, top, 1<<shift>>1, shift)
		l.restore(r.restored, r.codes, s)
		r.worst = l.restoreSymbols(r.fromSyms, symbolsIn, int32(top), s)
		l.symbols(r.symbols, r.codes, int32(top))
		r.counts = l.count(symbolsIn)
		return r
	}
	want := run(&plainRowLoop)
	for _, l := range availableRowLoops() {
		got := run(&l)
		switch {
		case !slices.Equal(got.above.Col, want.above.Col) || !bytes.Equal(littleEndian(got.above.Val), littleEndian(want.above.Val)) || got.largest != want.largest:
			t.Fatalf("%s splits differently: %v, largest %d, want %v, %d", l.name, got.above, got.largest, want.above, want.largest)
		case !slices.Equal(got.codes, want.codes) || got.sum != want.sum:
			t.Fatalf("%s: codes %v of sum %d, want %v, %d", l.name, got.codes, got.sum, want.codes, want.sum)
		case !bytes.Equal(got.tops, want.tops):
			t.Fatalf("%s: codes of magnitudes %v, want %v", l.name, got.tops, want.tops)
		case got.counts != want.counts:
			t.Fatalf("%s counts %v, want %v", l.name, got.counts, want.counts)
		case got.distance != want.distance:
			t.Fatalf("%s: distortion %d, want %d", l.name, got.distance, want.distance)
		case !bytes.Equal(littleEndian(got.restored), littleEndian(want.restored)):
			t.Fatalf("%s restores %v, want %v", l.name, got.restored, want.restored)
		case !bytes.Equal(littleEndian(got.fromSyms), littleEndian(want.fromSyms)) || got.worst != want.worst:
			t.Fatalf("%s restores symbols as %v, worst %d, want %v, %d", l.name, got.fromSyms, got.worst, want.fromSyms, want.worst)
		case !bytes.Equal(got.symbols, want.symbols):
			t.Fatalf("%s: symbols %v, want %v", l.name, got.symbols, want.symbols)
		}
	}
}

// TestRowLoops covers every length of a tail, thresholds at the edges and values
// of every kind.
func TestRowLoops(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1e-40, -1e-45, math.MaxFloat32, .5, 1.5, 2.5}
	for n := range 70 {
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(rng.NormFloat64() * 3)
			if rng.IntN(6) == 0 {
				values[i] = special[rng.IntN(len(special))]
			}
		}
		for _, tau := range []float32{0, 1, 5, float32(math.Inf(1))} {
			bits := 1 + rng.IntN(7)
			compareRowLoops(t, values, []byte{byte(n), 255, 0, 128}, math.Float32bits(tau), magnitudeScale(min(tau, 6)+1e-3, bits, false), 1<<bits-1, uint(rng.IntN(7)))
		}
	}
}

// TestCount compares the counts of bytes below 32 and others, in rows of several
// parts.
func TestCount(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for _, n := range []int{0, 1, 31, 63, 64, 65, 1984, 2048, 4096, 4097, 10000, 70000} {
		for _, top := range []int{1, 7, 8, 9, 16, 32, 33, 256} {
			b := guardedOf[byte](t, n)
			var want [256]uint32
			for i := range b {
				b[i] = byte(rng.IntN(top))
				want[b[i]]++
			}
			for _, l := range availableRowLoops() {
				if got := l.count(b); got != want {
					t.Fatalf("%s: %d bytes below %d: %v, want %v", l.name, n, top, got, want)
				}
			}
		}
	}
}

// FuzzRowLoops does what TestRowLoops does on arbitrary bits.
func FuzzRowLoops(f *testing.F) {
	f.Add(littleEndian(workedRow), uint32(0x40a00000), uint32(0x3f000000), uint8(3))
	f.Add(bytes.Repeat([]byte{0, 0, 128, 127, 1, 0, 0, 128}, 20), uint32(0x7f800000), uint32(1), uint8(77))
	f.Fuzz(func(t *testing.T, data []byte, tauBits, scale uint32, shape uint8) {
		if len(data) < 4 || len(data) > 1024 {
			return
		}
		tauBits = min(tauBits, 0x7f800000)
		s := math.Float32frombits(max(1, scale&math.MaxInt32) % 0x7f800000)
		if s == 0 {
			return
		}
		values := make([]float32, len(data)/4)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		compareRowLoops(t, values, data, tauBits, s, 1<<(shape%8)-1, uint(shape/8)%7)
	})
}

// TestNoAllocation: after warm-up a token takes no memory, in the quantiser, the
// lane coder or a stream of symbols.
func TestNoAllocation(t *testing.T) {
	m := benchRow()
	r, err := benchOptions(8).reading()
	if err != nil {
		t.Fatal(err)
	}
	var q Quantised
	dst := make([]float32, len(m.Data))
	model, c := benchModel(4096, 15, 4)
	states, symbols := make([]uint32, 16), make([]byte, len(c.symbols))
	var w wordStack
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the shared scratch
	var stream, back []byte
	if n := testing.AllocsPerRun(20, func() {
		stream = AppendSymbols(stream[:0], c.symbols)
		if back, err = DecodeSymbols(back, stream); err != nil {
			t.Fatal(err)
		}
		if err := q.quantise(m, &r); err != nil {
			t.Fatal(err)
		}
		q.Restore(dst)
		w.reset(len(c.symbols))
		for k := range states {
			states[k] = stateLow
		}
		model.push(states, c.symbols, c.contexts, &w)
		model.pop(states, symbols, c.contexts, 0, rounds(len(symbols), len(states)), w.words(), true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
