package main

import "fmt"

// Offsets into laneTables of lanes_amd64.go, in bytes.
const (
	offSplit1  = 0       // [3][32]uint16: by context
	offSplit2  = 3 * 64  // [5][32]uint16: by context*4 + quarter
	offSplit3  = 8 * 64  // [64]uint16: by context*16 + sixteenth
	offFreq    = 10 * 64 // [32]uint16: by symbol, context 0
	offStart   = 11 * 64 // [32]uint16
	offEncode  = 12 * 64 // [4][128]uint16: freq-1, start, reciprocal low and high
	encodeSize = 4 * 64  // bytes of one of them
)

// Lanes returns the text of lanes_amd64.s.
func Lanes() string {
	e := newEmitter()
	var even, odd, low, high, slide []uint16
	for i := range uint16(32) {
		even = append(even, 2*i)
		odd = append(odd, 2*i+1)
		low = append(low, i/2+32*(i%2))
		high = append(high, 16+i/2+32*(i%2))
	}
	for i := range uint16(64) {
		slide = append(slide, i%32)
	}
	e.words("evenWords", even)
	e.words("oddWords", odd)
	e.words("joinLow", low)
	e.words("joinHigh", high)
	e.words("slide", slide)
	e.words("pairHalves", []uint16{0, 0, 4, 0, 1, 0, 5, 0, 2, 0, 6, 0, 3, 0, 7, 0}) // of 32 bits
	for _, k := range laneKernels() {
		k.decode(e)
		if k.start {
			k.decodeStart(e)
		}
	}
	for _, k := range laneKernels() {
		k.encode(e)
		if k.start {
			k.encodeStart(e)
		}
	}
	return e.String()
}

// laneKernel is one shape of the loops: groups of 32 lanes, a partial group, one
// context or four, at most 16 or 32 symbols.
type laneKernel struct {
	groups   int
	partial  bool // only the first lanes of the group take part
	contexts bool
	wide     bool // more than 16 symbols
	start    bool // also without words
}

func laneKernels() (ks []laneKernel) {
	for _, contexts := range []bool{false, true} {
		for _, wide := range []bool{false, true} {
			for _, groups := range []int{1, 2, 3} {
				ks = append(ks, laneKernel{groups: groups, contexts: contexts, wide: wide})
			}
			ks = append(ks, laneKernel{groups: 1, partial: true, contexts: contexts, wide: wide, start: true})
		}
	}
	return ks
}

// name returns the kernel's name: lanes, contexts, symbols.
func (k laneKernel) name(verb string) string {
	lanes := fmt.Sprint(32 * k.groups)
	if k.partial {
		lanes = "Few"
	}
	contexts, symbols := 1, 16
	if k.contexts {
		contexts = 4
	}
	if k.wide {
		symbols = 32
	}
	return fmt.Sprintf("%s%sx%dx%davx512", verb, lanes, contexts, symbols)
}

// maskLanes sets K6 to the lanes that take part and K4, K5 to its halves. It
// needs the number of lanes in CX.
func maskLanes(e *emitter) {
	e.f("MOVL $-1, AX")
	e.f("BZHIL CX, AX, AX")
	e.f("KMOVD AX, K6")
	e.f("KMOVW AX, K4")
	e.f("SHRL $16, AX")
	e.f("KMOVW AX, K5")
}

// decodeTables loads what the search needs into registers.
type decodeTables struct {
	split1, split2 []string
	split3         []string
	freq, start    string
	slotMask, one  string
	fields         string // mask of the symbol in an index with its context
}

func (k laneKernel) decode(e *emitter)      { k.decodeLoop(e, true) }
func (k laneKernel) decodeStart(e *emitter) { k.decodeLoop(e, false) }

// decodeLoop writes a decoder. A state is two words, high and low, in vectors of
// 32 lanes, so that a search, a lookup and a renormalisation are single
// operations on 32 lanes:
//
//	slot = low & 4095, found among the starts of the symbols by comparing with
//	three of them at once, twice (and once more with one);
//	x>>12 = yh<<16 + yl; x = freq*(x>>12) + slot - start.
//
// A lane takes a word when its high word is 0: the low word moves up and the
// next word comes in below.
func (k laneKernel) decodeLoop(e *emitter, renormalise bool) {
	verb := "laneDecode"
	if !renormalise {
		verb = "laneDecodeStart"
	}
	e.function(k.name(verb), "(states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)",
		"states DI", "symbols SI", "contexts R8", "words BX", "room R9", "rounds R10", "lanes CX", "t R11", "left", "used")
	e.registers("Z", 0, 31)
	var t decodeTables
	load := func(off int) string {
		r := e.take()
		if !k.contexts && off < offSplit2 {
			e.f("VPBROADCASTW %d(R11), %s", off, r)
		} else {
			e.f("VMOVDQU64 %d(R11), %s", off, r)
		}
		return r
	}
	// With several groups the lookup of frequency and start at the end costs
	// fewer operations than keeping both bounds of the search.
	lookup := !k.contexts && k.groups > 1
	for i := range 3 {
		t.split1 = append(t.split1, load(offSplit1+64*i))
	}
	for i := range 5 {
		if lookup && (i == 0 || i == 4) {
			t.split2 = append(t.split2, "")
			continue
		}
		t.split2 = append(t.split2, load(offSplit2+64*i))
	}
	if k.wide {
		t.split3 = append(t.split3, load(offSplit3))
		if k.contexts {
			t.split3 = append(t.split3, load(offSplit3+64))
		}
	}
	if lookup {
		t.freq, t.start = load(offFreq), load(offStart)
	}
	constant := func(v int) string {
		r := e.take()
		e.f("MOVL $%d, AX", v)
		e.f("VPBROADCASTW AX, %s", r)
		return r
	}
	t.slotMask, t.one = constant(4095), constant(1)
	if k.contexts {
		t.fields = constant(15)
		if k.wide {
			e.give(t.fields)
			t.fields = constant(31)
		}
	}
	if k.partial {
		maskLanes(e)
	}
	e.f("XORL DX, DX")
	var high, low []string
	even, odd := e.take(), e.take()
	e.f("VMOVDQU64 evenWords<>(SB), %s", even)
	e.f("VMOVDQU64 oddWords<>(SB), %s", odd)
	for g := range k.groups {
		h, l := e.take(), e.take()
		e.f("VMOVDQU64 %d(DI), %s", 128*g, l)
		e.f("VMOVDQA64 %s, %s", l, h)
		e.f("VPERMT2W %d(DI), %s, %s", 128*g+64, even, l)
		e.f("VPERMT2W %d(DI), %s, %s", 128*g+64, odd, h)
		high, low = append(high, h), append(low, l)
	}
	e.give(even, odd)
	e.label("loop")
	e.f("TESTQ R10, R10")
	e.jump("JZ", "done")
	if renormalise {
		e.f("CMPQ DX, R9")
		e.jump("JGT", "done")
	}
	for g := range k.groups {
		k.decodeGroup(e, &t, g, high[g], low[g], lookup, renormalise)
	}
	step := fmt.Sprintf("$%d", 32*k.groups)
	if k.partial {
		step = "CX"
	}
	e.f("ADDQ %s, SI", step)
	if k.contexts {
		e.f("ADDQ %s, R8", step)
	}
	e.f("DECQ R10")
	e.jump("JMP", "loop")
	e.label("done")
	joinLow, joinHigh := e.take(), e.take()
	e.f("VMOVDQU64 joinLow<>(SB), %s", joinLow)
	e.f("VMOVDQU64 joinHigh<>(SB), %s", joinHigh)
	for g := range k.groups {
		e.f("VPERMI2W %s, %s, %s", high[g], low[g], joinLow)
		e.f("VPERMI2W %s, %s, %s", high[g], low[g], joinHigh)
		if k.partial {
			e.f("VMOVDQU32 %s, K4, %d(DI)", joinLow, 128*g)
			e.f("VMOVDQU32 %s, K5, %d(DI)", joinHigh, 128*g+64)
		} else {
			e.f("VMOVDQU64 %s, %d(DI)", joinLow, 128*g)
			e.f("VMOVDQU64 %s, %d(DI)", joinHigh, 128*g+64)
		}
		if g < k.groups-1 {
			e.f("VMOVDQU64 joinLow<>(SB), %s", joinLow)
			e.f("VMOVDQU64 joinHigh<>(SB), %s", joinHigh)
		}
	}
	e.f("MOVQ R10, left+64(FP)")
	e.f("MOVQ DX, used+72(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}

// decodeGroup writes one round of 32 lanes.
func (k laneKernel) decodeGroup(e *emitter, t *decodeTables, g int, high, low string, lookup, renormalise bool) {
	const ge, lt = 5, 1
	slot, words := e.take(), e.take()
	if renormalise {
		e.f("VMOVDQU64 (BX)(DX*1), %s", words)
	}
	e.f("VPANDQ %s, %s, %s", t.slotMask, low, slot)
	index := e.take()
	first := t.split1
	if k.contexts {
		if k.partial {
			e.f("VPMOVZXBW.Z (R8), K6, %s", index)
		} else {
			e.f("VPMOVZXBW %d(R8), %s", 32*g, index)
		}
		first = nil
		for i := range 3 {
			r := e.take()
			e.f("VPERMW %s, %s, %s", t.split1[i], index, r)
			first = append(first, r)
		}
		e.f("VPSLLW $2, %s, %s", index, index)
	}
	for i := range 3 {
		e.f("VPCMPUW $%d, %s, %s, K%d", ge, first[i], slot, i+1)
	}
	for i := range 3 {
		if i == 0 && !k.contexts {
			e.f("VMOVDQU16.Z %s, K1, %s", t.one, index)
		} else {
			e.f("VPADDW %s, %s, K%d, %s", t.one, index, i+1, index)
		}
	}
	if k.contexts {
		e.give(first...)
	}
	bound := make([]string, 5) // of the symbols that are left
	for _, i := range []int{1, 2, 3, 0, 4} {
		if t.split2[i] != "" {
			bound[i] = e.take()
			e.f("VPERMW %s, %s, %s", t.split2[i], index, bound[i])
		}
	}
	for i := range 3 {
		e.f("VPCMPUW $%d, %s, %s, K%d", ge, bound[i+1], slot, i+1)
	}
	if !lookup {
		// Lower bound in bound[0], upper bound in bound[1].
		for i := range 3 {
			e.f("VMOVDQU16 %s, K%d, %s", bound[i+1], i+1, bound[0])
		}
		for i := range 3 {
			e.f("VMOVDQU16 %s, K%d, %s", bound[i+2], i+1, bound[1])
		}
	}
	e.f("VPSLLW $2, %s, %s", index, index)
	for i := range 3 {
		e.f("VPADDW %s, %s, K%d, %s", t.one, index, i+1, index)
	}
	if k.wide {
		middle := e.take()
		if k.contexts {
			e.f("VMOVDQA64 %s, %s", index, middle)
			e.f("VPERMI2W %s, %s, %s", t.split3[1], t.split3[0], middle)
		} else {
			e.f("VPERMW %s, %s, %s", t.split3[0], index, middle)
		}
		e.f("VPCMPUW $%d, %s, %s, K1", ge, middle, slot)
		e.f("VPADDW %s, %s, %s", index, index, index)
		e.f("VPADDW %s, %s, K1, %s", t.one, index, index)
		if !lookup {
			e.f("VMOVDQU16 %s, K1, %s", middle, bound[0])
			e.f("VMOVDQU16 %s, K1, %s", bound[1], middle)
			bound[1], middle = middle, bound[1]
		}
		e.give(middle)
	}
	var freq, rest string // frequency, slot - start
	if lookup {
		freq, rest = bound[1], bound[2]
		e.f("VPERMW %s, %s, %s", t.freq, index, freq)
		e.f("VPERMW %s, %s, %s", t.start, index, rest)
		e.f("VPSUBW %s, %s, %s", rest, slot, rest)
		e.give(bound[3])
	} else {
		freq, rest = bound[1], slot
		e.f("VPSUBW %s, %s, %s", bound[0], freq, freq)
		e.f("VPSUBW %s, %s, %s", bound[0], slot, rest)
		slot = bound[0]
		e.give(bound[2], bound[3], bound[4])
	}
	if k.contexts {
		e.f("VPANDQ %s, %s, %s", t.fields, index, index)
	}
	bytes := "Y" + index[1:]
	e.f("VPMOVWB %s, %s", index, bytes)
	if k.partial {
		e.f("VMOVDQU8 %s, K6, (SI)", bytes)
	} else {
		e.f("VMOVDQU64 %s, %d(SI)", bytes, 32*g)
	}
	e.give(index)
	yl, yh := slot, e.take()
	e.f("VPSHLDW $4, %s, %s, %s", low, high, yl)
	e.f("VPSRLW $12, %s, %s", high, yh)
	e.f("VPMULLW %s, %s, %s", yl, freq, low)
	e.f("VPMULHUW %s, %s, %s", yl, freq, yl)
	e.f("VPMULLW %s, %s, %s", yh, freq, yh)
	e.f("VPADDW %s, %s, %s", rest, low, low)
	e.f("VPADDW %s, %s, %s", yl, yh, high)
	if renormalise {
		// The state is below 65536 when the high part is 0 and the sum of the
		// low parts has no carry.
		if k.partial {
			e.f("VPTESTNMW %s, %s, K6, K1", high, high)
		} else {
			e.f("VPTESTNMW %s, %s, K1", high, high)
		}
		e.f("VPCMPUW $%d, %s, %s, K1, K2", ge, rest, low)
	}
	e.f("VPCMPUW $%d, %s, %s, K3", lt, rest, low)
	e.f("VPADDW %s, %s, K3, %s", t.one, high, high)
	if renormalise {
		e.f("VMOVDQU16 %s, K2, %s", low, high)
		e.f("VPEXPANDW %s, K2, %s", words, low)
		e.f("KMOVD K2, AX")
		e.f("POPCNTL AX, AX")
		e.f("LEAQ (DX)(AX*2), DX")
	}
	e.give(yl, yh, freq, rest, words)
}
