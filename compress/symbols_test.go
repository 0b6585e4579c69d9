package compress

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestSymbolStream is a stream worked by hand: 3 symbols in one lane, 1 twice of
// frequency 2731 = 0xaab, 3 once of 1365 = 0x555. Pushed from the last to the
// first onto 65536: symbol 1: 23*4096 + 65536-23*2731 + 0 = 96931; symbol 3:
// 71*4096 + 96931-71*1365 + 2731 = 293563; symbol 1:
// 107*4096 + 293563-107*2731 = 439618.
func TestSymbolStream(t *testing.T) {
	got := AppendSymbols([]byte("x"), []byte{1, 3, 1})
	want := unhex(t, "78 03 00 01 03 ab0a00 5505 42b50600")
	if !bytes.Equal(got, want) {
		t.Fatalf("stream %x, want %x", got, want)
	}
	if b, err := os.ReadFile("FORMAT.md"); err != nil || !strings.Contains(string(b), "1, 3, 1 are `03 00 01 03 ab0a005505 42b50600`") {
		t.Errorf("FORMAT.md lacks the stream (%v)", err)
	}
	out, err := DecodeSymbols(nil, want[1:])
	if err != nil || !bytes.Equal(out, []byte{1, 3, 1}) {
		t.Fatalf("decodes to %v, %v", out, err)
	}
	for _, c := range []struct{ name, stream string }{
		{"empty", ""},
		{"long form of the count", "8000"},
		{"bytes after no symbols", "00 00"},
		{"lanes", "03 08 01 03 ab0a00 5505 42b50600"},
		{"symbol too large", "03 00 1f 20 ab0a00 5505 42b50600"},
		{"order", "03 00 03 01 ab0a00 5505 42b50600"},
		{"frequencies", "03 00 01 03 ab0a00 5405 42b50600"},
		{"short", "03 00 01 03 ab0a00 5505 42b506"},
		{"odd", "03 00 01 03 ab0a00 5505 42b50600 00"},
		{"left over", "03 00 01 03 ab0a00 5505 42b50600 0000"},
		{"low state", "03 00 01 03 ab0a00 5505 42b50000"},
		{"end", "03 00 01 03 ab0a00 5505 43b50600"},
		{"one symbol more", "04 00 01 03 ab0a00 5505 42b50600"},
		{"count over the limit", "8180808001 00 01 01 00000100"},
	} {
		if _, err := DecodeSymbols(nil, unhex(t, c.stream)); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: error %v, want one of the message", c.name, err)
		}
	}
}

// TestSymbolStreams encodes streams of every number of lanes with each set of
// loops, compares the bytes with those of the byte coder where that has as many
// lanes, and decodes.
func TestSymbolStreams(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	want := map[int][]byte{}
	for _, n := range []int{0, 1, 100, 1000, 5000, 20000, 1<<16 + 1, 300000} {
		syms := make([]byte, n)
		for i := range syms {
			syms[i] = byte(min(max(12+4*rng.NormFloat64(), 0), 31))
		}
		eachLaneLoop(t, func(t *testing.T) {
			got := AppendSymbols(nil, syms)
			if w, ok := want[n]; ok && !bytes.Equal(got, w) {
				t.Fatalf("%d symbols: loops differ", n)
			}
			want[n] = got
			if lanes := symbolLanes[symbolLanesFor(n)]; n > 0 && lanes <= maxLanes {
				counts := count(syms)
				var f frequencies
				f.normalise(&counts)
				if slow := slowEncode(syms, &f, lanes); !bytes.HasSuffix(got, slow) {
					t.Fatalf("%d symbols: states and words differ from the plain encoder", n)
				}
			}
			out, err := DecodeSymbols(nil, got)
			if err != nil || !bytes.Equal(out, syms) {
				t.Fatalf("%d symbols: decodes differently (%v)", n, err)
			}
		})
	}
	defer func() {
		if recover() == nil {
			t.Error("a symbol of 32 is accepted")
		}
	}()
	AppendSymbols(nil, []byte{32})
}

// TestSymbolsConcurrent shares nothing but the package between goroutines; it is
// for the race detector.
func TestSymbolsConcurrent(t *testing.T) {
	m, c := benchModel(2000, 31, 4)
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for range 20 {
				syms := bytes.Repeat([]byte{byte(g), 1, 30}, 500)
				out, err := DecodeSymbols(nil, AppendSymbols(nil, syms))
				if err != nil || !bytes.Equal(out, syms) {
					t.Errorf("decodes differently (%v)", err)
				}
				states := slices.Repeat([]uint32{stateLow}, 32)
				var w wordStack
				m.push(states, c.symbols, c.contexts, &w)
				got := make([]byte, len(c.symbols))
				if _, ok := m.pop(states, got, c.contexts, 0, rounds(len(got), 32), w.words(), true); !ok || !bytes.Equal(got, c.symbols) {
					t.Error("a shared model decodes differently")
				}
			}
		})
	}
	group.Wait()
}

// FuzzDecodeSymbols decodes arbitrary bytes: no panic, no more memory than the
// limit, and what decodes does so again and the same with every set of loops.
func FuzzDecodeSymbols(f *testing.F) {
	f.Add([]byte{3, 0, 1, 3, 0xab, 0x0a, 0, 0x55, 5, 0x42, 0xb5, 6, 0})
	f.Add(AppendSymbols(nil, bytes.Repeat([]byte{1, 2, 3, 1, 1, 31}, 300)))
	f.Add(AppendSymbols(nil, make([]byte, 5000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer func(l laneLoop) { laneLoops = l }(laneLoops)
		laneLoops = lanePlain
		want, wantErr := decodeSymbols(nil, b, fuzzLimit)
		if len(want) > fuzzLimit {
			t.Fatalf("%d symbols", len(want))
		}
		for _, laneLoops = range availableLaneLoops() {
			got, err := decodeSymbols(nil, b, fuzzLimit)
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
				t.Fatalf("loop %d: %d symbols and %v, want %d and %v, or others", laneLoops, len(got), err, len(want), wantErr)
			}
		}
	})
}
