package compress

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLaneVector is the message of TestRANSVector with its frequencies scaled to
// 4096 (2048, 1280, 768; starts 0, 2048, 3328), worked by hand.
func TestLaneVector(t *testing.T) {
	var m laneModel
	m.build(&[laneContexts][laneSymbols]uint16{{2048, 1280, 768}}, 1)
	message := []byte{0, 2, 1, 0}
	states := []uint32{65536}
	var w wordStack
	w.reset(len(message))
	for i, want := range []uint32{
		65536 / 2048 * 4096, // 131072
		102*4096 + 512 + 2048,
		547*4096 + 256 + 3328,
		1095*4096 + 1536,
	} {
		m.pushRounds(states, message, nil, 3-i, 4-i, &w)
		if states[0] != want || len(w.words()) != 0 {
			t.Fatalf("push %d gives state %d and words %x, want %d and none", i, states[0], w.words(), want)
		}
	}
	got := make([]byte, 4)
	if used, ok := m.pop(states, got, nil, 0, 4, nil, true); used != 0 || !ok || !bytes.Equal(got, message) || states[0] != 65536 {
		t.Fatalf("pops %v and ends at %d with %d bytes used (%v)", got, states[0], used, ok)
	}
	// A state of 2048<<20 or more emits: 0x80001234 leaves word 0x1234 and
	// 0x8000 = 32768, which becomes 16*4096.
	states[0] = 0x80001234
	m.push(states, []byte{0}, nil, &w)
	if states[0] != 65536 || !bytes.Equal(w.words(), []byte{0x34, 0x12}) {
		t.Fatalf("state %d and words %x, want 65536 and 3412", states[0], w.words())
	}
}

// laneCase is a row with its model.
type laneCase struct {
	freq              [laneContexts][laneSymbols]uint16
	classes           int
	symbols, contexts []byte
}

// randomTables returns tables of the given alphabet; kind 0 is bell-shaped, 1
// has frequencies 1 and nearly 4096, 2 one symbol of 4096, 3 gaps.
func (c *laneCase) randomTables(rng *rand.Rand, alphabet, classes, kind int) {
	c.classes = classes
	for class := range classes {
		f := &c.freq[class]
		*f = [laneSymbols]uint16{}
		var counts [256]uint32
		for s := range alphabet {
			switch kind {
			case 0:
				d := float64(s) - float64(alphabet-1)/2
				counts[s] = 1 + uint32(1e6*math.Exp(-d*d/(2*float64(1+class)*float64(1+class))))
			case 1:
				counts[s] = 1
			case 3:
				counts[s] = uint32(rng.IntN(2) * rng.IntN(1000))
			}
		}
		if kind == 1 {
			counts[rng.IntN(alphabet)] = 1 << 24
		}
		if kind == 2 || kind == 3 {
			counts[rng.IntN(alphabet)] = 1000
		}
		var n frequencies
		n.normalise(&counts)
		copy(f[:], n.freq[:])
	}
}

// fill makes a row of n symbols that occur, mostly by their frequency.
func (c *laneCase) fill(rng *rand.Rand, n int, withContexts bool) {
	c.symbols, c.contexts = make([]byte, n), nil
	if withContexts {
		c.contexts = make([]byte, n)
	}
	for i := range c.symbols {
		f := &c.freq[0]
		if withContexts {
			c.contexts[i] = byte(rng.IntN(laneContexts))
			if int(c.contexts[i]) < c.classes {
				f = &c.freq[c.contexts[i]]
			}
		}
		for {
			if rng.IntN(8) == 0 { // a rare one
				if s := rng.IntN(laneSymbols); f[s] > 0 {
					c.symbols[i] = byte(s)
					break
				}
				continue
			}
			slot, s := uint16(rng.IntN(probOne)), 0
			for slot >= f[s] {
				slot -= f[s]
				s++
			}
			c.symbols[i] = byte(s)
			break
		}
	}
}

// symbol returns frequency and start of symbol i of the row.
func (c *laneCase) symbol(i int) (freq, start uint32) {
	f := &c.freq[0]
	if c.contexts != nil && int(c.contexts[i]) < c.classes {
		f = &c.freq[c.contexts[i]]
	}
	for _, n := range f[:c.symbols[i]] {
		start += uint32(n)
	}
	return uint32(f[c.symbols[i]]), start
}

// slowPush encodes symbols [from, to) of the row one at a time by the definition
// and returns the words in the order of decoding.
func (c *laneCase) slowPush(states []uint32, from, to int) []byte {
	var words []uint16
	for i := to - 1; i >= from; i-- {
		f, start := c.symbol(i)
		x := &states[i%len(states)]
		if uint64(*x) >= uint64(f)<<20 {
			words = append(words, uint16(*x))
			*x >>= 16
		}
		*x = *x/f*4096 + *x%f + start
	}
	slices.Reverse(words)
	var out []byte
	for _, w := range words {
		out = binary.LittleEndian.AppendUint16(out, w)
	}
	return out
}

func (m *laneModel) buildCase(c *laneCase) { m.build(&c.freq, c.classes) }

// laneCounts are the numbers of lanes.
var laneCounts = []int{1, 2, 4, 8, 16, 32, 64, 96}

// TestLanes compares states and words with the definition, over whole rows and
// over rounds, and decodes them.
func TestLanes(t *testing.T) {
	eachLaneLoop(t, func(t *testing.T) {
		for _, lanes := range laneCounts {
			testLanes(t, lanes)
		}
	})
}

var laneLoopNames = [...]string{"plain", "avx2", "avx512"}

// eachLaneLoop runs f with each of the loops that the processor has.
func eachLaneLoop(t *testing.T, f func(t *testing.T)) {
	defer func(l laneLoop) { laneLoops = l }(laneLoops)
	for _, laneLoops = range availableLaneLoops() {
		t.Run(laneLoopNames[laneLoops], f)
	}
}

func testLanes(t *testing.T, lanes int) {
	{
		t.Run(fmt.Sprint(lanes), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, uint64(lanes)))
			var m laneModel
			for _, n := range []int{0, 1, lanes - 1, lanes, lanes + 1, 5*lanes + 3, 33, 100, 1000, 4096} {
				for kind := range 4 {
					for _, alphabet := range []int{1, 2, 7, 15, 16, 17, 31, 32} {
						classes := 1 + rng.IntN(laneContexts)
						var c laneCase
						c.randomTables(rng, alphabet, classes, kind)
						c.fill(rng, n, classes > 1 || rng.IntN(2) == 0)
						m.buildCase(&c)
						checkLanes(t, &m, &c, lanes, rng)
					}
				}
			}
		})
	}
}

func checkLanes(t *testing.T, m *laneModel, c *laneCase, lanes int, rng *rand.Rand) {
	t.Helper()
	n := len(c.symbols)
	all := rounds(n, lanes)
	states := make([]uint32, lanes)
	for k := range states {
		states[k] = uint32(65536 + rng.Uint64N(1<<32-65536))
		if rng.IntN(8) == 0 {
			states[k] = []uint32{65536, math.MaxUint32, 1 << 31}[rng.IntN(3)]
		}
	}
	first, want := slices.Clone(states), slices.Clone(states)
	words := c.slowPush(want, 0, n)
	var w wordStack
	w.reset(n)
	cut := rng.IntN(all + 1)
	m.pushRounds(states, c.symbols, c.contexts, cut, all, &w)
	m.pushRounds(states, c.symbols, c.contexts, 0, cut, &w)
	if !slices.Equal(states, want) || !bytes.Equal(w.words(), words) {
		t.Fatalf("%d symbols, cut at round %d: states or words differ from the definition", n, cut)
	}
	w.reset(n)
	copy(states, first)
	m.push(states, c.symbols, c.contexts, &w)
	if !slices.Equal(states, want) || !bytes.Equal(w.words(), words) {
		t.Fatalf("%d symbols: states or words differ from the definition", n)
	}
	// Words of a longer message follow.
	src := append(slices.Clone(words), make([]byte, rng.IntN(3)*50)...)
	got := make([]byte, n)
	cut = rng.IntN(all + 1)
	used, ok := m.pop(states, got, c.contexts, 0, cut, src, true)
	if !ok {
		t.Fatal("words run out")
	}
	more, ok := m.pop(states, got, c.contexts, cut, all, src[used:], true)
	if !ok || used+more != len(words) || !bytes.Equal(got, c.symbols) || !slices.Equal(states, first) {
		t.Fatalf("%d symbols of %d lanes, cut at round %d: decodes differently, %d of %d bytes used (%v)", n, lanes, cut, used+more, len(words), ok)
	}
	if len(words) > 0 { // one word too few
		copy(states, want)
		if _, ok := m.pop(states, got, c.contexts, 0, all, words[:len(words)-2], true); ok {
			t.Fatal("decodes with a word missing")
		}
	}
	checkStart(t, m, c, lanes)
}

// checkStart compares pushStart with the definition and takes it back.
func checkStart(t *testing.T, m *laneModel, c *laneCase, lanes int) {
	t.Helper()
	n := len(c.symbols)
	all := rounds(n, lanes)
	states, want := make([]uint32, lanes), make([]uint32, lanes)
	done := m.pushStart(states, c.symbols, c.contexts)
	round := all
	for round > 0 {
		next := slices.Clone(want)
		if words := c.slowPush(next, (round-1)*lanes, min(round*lanes, n)); len(words) > 0 {
			break
		}
		copy(want, next)
		round--
	}
	if done != all-round || !slices.Equal(states, want) {
		t.Fatalf("%d symbols: %d start rounds, want %d, or states differ", n, done, all-round)
	}
	got := slices.Clone(c.symbols)
	clear(got[min(n, round*lanes):])
	used, ok := m.pop(states, got, c.contexts, round, all, nil, false)
	if used != 0 || !ok || !bytes.Equal(got, c.symbols) || slices.Max(states) != 0 {
		t.Fatalf("%d symbols: start rounds decode differently, %d bytes used (%v)", n, used, ok)
	}
}
