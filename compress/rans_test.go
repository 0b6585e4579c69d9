package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestRANSVector is the check vector of codec-notes B: frequencies 8, 5, 3 of
// 16, message 0 2 1 0 pushed in reverse.
func TestRANSVector(t *testing.T) {
	freq, start := []uint32{8, 5, 3}, []uint32{0, 8, 13}
	message := []int{0, 2, 1, 0}
	x := uint32(65536)
	for i, want := range []uint32{131072, 419434, 2236990, 4473974} {
		s := message[len(message)-1-i]
		var emit bool
		x, _, emit = ransPush(x, freq[s], start[s], 4)
		if x != want || emit {
			t.Fatalf("push %d gives state %d, word emitted: %v, want %d and none", s, x, emit, want)
		}
	}
	for _, want := range message {
		slot, s := x&15, 2
		for slot < start[s] {
			s--
		}
		x = freq[s]*(x>>4) + slot - start[s]
		if s != want {
			t.Fatalf("pops %d, want %d", s, want)
		}
	}
	if x != 65536 {
		t.Fatalf("ends at %d, want 65536", x)
	}
}

// TestRANSEmits checks the limit of the notes: a word leaves at freq << 28.
func TestRANSEmits(t *testing.T) {
	if _, _, emit := ransPush(5<<28-1, 5, 8, 4); emit {
		t.Error("a word leaves below freq << 28")
	}
	// 5<<28 = 0x50000000: the word is 0, the state 0x5000 = 20480.
	if x, word, emit := ransPush(5<<28|7, 5, 8, 4); !emit || word != 7 || x != 4096<<4+0+8 {
		t.Errorf("push gives %d, word %d, %v, want 65544, 7, true", x, word, emit)
	}
	if x, _, emit := ransPush(math.MaxUint32, 4096, 0, 12); emit || x != math.MaxUint32 {
		t.Errorf("a certain symbol changes the state to %d", x)
	}
}

// slowEncode encodes with ransPush, keeping the words of all lanes in the order
// in which the decoder needs them.
func slowEncode(syms []byte, f *frequencies, lanes int) []byte {
	states := slices.Repeat([]uint32{65536}, lanes)
	var words []uint16
	for i := len(syms) - 1; i >= 0; i-- {
		s := syms[i]
		x, w, emit := ransPush(states[i%lanes], uint32(f.freq[s]), uint32(f.start[s]), probBits)
		if emit {
			words = append(words, w)
		}
		states[i%lanes] = x
	}
	slices.Reverse(words)
	var out []byte
	for _, x := range states {
		out = binary.LittleEndian.AppendUint32(out, x)
	}
	for _, w := range words {
		out = binary.LittleEndian.AppendUint16(out, w)
	}
	return out
}

// gaussianSymbols returns n bytes around 128.
func gaussianSymbols(n int, sigma float64, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 4))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(math.Round(min(max(128+sigma*rng.NormFloat64(), 0), 255)))
	}
	return out
}

func count(syms []byte) (n [256]uint32) {
	for _, s := range syms {
		n[s]++
	}
	return n
}

// TestRANSStreams compares the encoder with the plain one byte for byte, decodes,
// and compares the size with the entropy under the model.
func TestRANSStreams(t *testing.T) {
	all := make([]byte, 1000)
	for i := range all {
		all[i] = byte(i * 77)
	}
	skewed := make([]byte, 20000) // one symbol nearly certain
	skewed[77], skewed[15000] = 255, 3
	for _, c := range []struct {
		name string
		syms []byte
	}{
		{"one", []byte{7}}, {"one symbol", bytes.Repeat([]byte{200}, 5000)}, {"two", []byte{1, 2}},
		{"all bytes", all}, {"skewed", skewed},
		{"narrow", gaussianSymbols(4096, 1.5, 1)}, {"wide", gaussianSymbols(4097, 40, 2)},
		{"31", gaussianSymbols(31, 3, 3)}, {"32", gaussianSymbols(32, 3, 4)}, {"33", gaussianSymbols(33, 3, 5)},
		{"long", gaussianSymbols(100001, 2.5, 6)},
	} {
		counts := count(c.syms)
		var f frequencies
		f.normalise(&counts)
		var enc encoderTable
		enc.build(&f)
		var dec decoderTable
		dec.build(&f)
		var entropy float64 // bits
		for s, n := range counts {
			if n > 0 {
				entropy += float64(n) * math.Log2(probOne/float64(f.freq[s]))
			}
		}
		for lanes := 1; lanes <= maxLanes; lanes *= 2 {
			out, _ := ransEncode([]byte("x"), c.syms, &enc, lanes, nil)
			stream := out[1:]
			if !bytes.Equal(stream, slowEncode(c.syms, &f, lanes)) {
				t.Fatalf("%s, %d lanes: differs from the plain encoder", c.name, lanes)
			}
			got := make([]byte, len(c.syms))
			if err := ransDecode(got, stream, &dec, lanes); err != nil {
				t.Fatalf("%s, %d lanes: %v", c.name, lanes, err)
			}
			if !bytes.Equal(got, c.syms) {
				t.Fatalf("%s, %d lanes: decodes to other symbols", c.name, lanes)
			}
			// States hold 16 to 32 bits each at the end, so 2 to 4 bytes per
			// lane are lost at most.
			if low, high := entropy/8+2*float64(lanes)-1, entropy/8*1.0005+4*float64(lanes)+1; float64(len(stream)) < low || float64(len(stream)) > high {
				t.Errorf("%s, %d lanes: %d bytes, expected %.1f to %.1f", c.name, lanes, len(stream), low, high)
			}
			for n := range min(len(stream), 300) {
				if err := ransDecode(got, stream[:n], &dec, lanes); !errors.Is(err, errRANS) {
					t.Fatalf("%s, %d lanes, cut to %d bytes: %v", c.name, lanes, n, err)
				}
			}
			if err := ransDecode(got, append(slices.Clone(stream), 0, 0), &dec, lanes); !errors.Is(err, errRANS) {
				t.Fatalf("%s, %d lanes, a word too many: %v", c.name, lanes, err)
			}
		}
	}
}

func TestNormalise(t *testing.T) {
	for _, c := range []struct {
		name   string
		counts map[int]uint32
		want   map[int]uint16
	}{
		{"one", map[int]uint32{9: 3}, map[int]uint16{9: 4096}},
		{"exact", map[int]uint32{0: 8, 1: 5, 2: 3}, map[int]uint16{0: 2048, 1: 1280, 2: 768}},
		{"rare", map[int]uint32{0: 1 << 28, 255: 1}, map[int]uint16{0: 4095, 255: 1}},
		{"thirds", map[int]uint32{3: 1, 4: 1, 5: 1}, map[int]uint16{3: 1366, 4: 1365, 5: 1365}}, // 1365 each, one left for the first
	} {
		var counts [256]uint32
		for s, n := range c.counts {
			counts[s] = n
		}
		var f frequencies
		f.normalise(&counts)
		sum := uint16(0)
		for s, n := range f.freq {
			if n != c.want[s] {
				t.Errorf("%s: symbol %d has frequency %d, want %d", c.name, s, n, c.want[s])
			}
			if n > 0 && f.start[s] != sum {
				t.Errorf("%s: symbol %d starts at %d, want %d", c.name, s, f.start[s], sum)
			}
			sum += n
		}
	}
	// 255 rare symbols need 255 of 4096, more than their share.
	var counts [256]uint32
	for s := range counts {
		counts[s] = 1
	}
	counts[7] = 1 << 20
	var f frequencies
	f.normalise(&counts)
	if f.freq[7] != 4096-255 {
		t.Errorf("frequency %d, want %d", f.freq[7], 4096-255)
	}
}

// TestFrequencyTable compares the stored form with bytes written by hand:
// 12-bit numbers from the first symbol to the last, low bits first.
func TestFrequencyTable(t *testing.T) {
	var counts [256]uint32
	counts[10], counts[12] = 3, 1 // 3072 = 0xc00, 0, 1024 = 0x400
	var f frequencies
	f.normalise(&counts)
	b := f.append(nil)
	if want := unhex(t, "0a0c 00 0c 00 00 04"); !bytes.Equal(b, want) {
		t.Fatalf("table is %x, want %x", b, want)
	}
	var g frequencies
	if err := g.parse(b); err != nil || g != f {
		t.Fatalf("read back as %v, %v", g, err)
	}
	counts = [256]uint32{200: 5}
	f.normalise(&counts)
	if b = f.append(nil); !bytes.Equal(b, []byte{200, 200}) {
		t.Fatalf("table of one symbol is %x", b)
	}
	if err := g.parse(b); err != nil || g != f {
		t.Fatalf("read back as %v, %v", g, err)
	}
	for _, c := range []struct{ name, b, want string }{
		{"empty", "", "has 0 bytes"},
		{"order", "0c0a", "from symbol 12 to 10"},
		{"one symbol with frequencies", "0a0a 00", "1 bytes too many"},
		{"short", "0a0c 00 0c 00 00", "4 bytes of frequencies, expected 5"},
		{"long", "0a0c 00 0c 00 00 04 00", "6 bytes of frequencies, expected 5"},
		{"sum", "0a0c 00 0c 00 01 04", "sums to"},
		{"padding", "0a0c 00 0c 00 00 14", "sums to 4096"},
		{"first is 0", "0a0b 00 00 00", "sums to 0"},
		{"last is 0", "0a0c 00 0c 40 00 00", "sums to 4096"},
	} {
		if err := g.parse(unhex(t, c.b)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestBits(t *testing.T) {
	var w bitWriter
	var b []byte
	b = w.write(b, 5, 3)  // 101
	b = w.write(b, 2, 4)  // 0010
	b = w.write(b, 1, 1)  // 1
	b = w.write(b, 7, 32) // two words
	b = w.flush(b)
	if want := []byte{0x95, 7, 0, 0, 0}; !bytes.Equal(b, want) {
		t.Fatalf("%x, want %x", b, want)
	}
	r := bitReader{b: b}
	for _, c := range []struct {
		n    uint
		want uint32
	}{{3, 5}, {4, 2}, {1, 1}, {32, 7}} {
		if got := r.read(c.n); got != c.want {
			t.Fatalf("%d bits are %d, want %d", c.n, got, c.want)
		}
	}
	if !r.restIsZero() {
		t.Fatal("bits are left")
	}
}
