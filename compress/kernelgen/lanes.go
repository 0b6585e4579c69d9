package main

import (
	"fmt"
	"slices"
)

// Offsets into laneTables of lanes_amd64.go, in bytes.
const (
	offWide    = 0                // [7][32]uint16: starts of the groups of 4 symbols after the first, by context
	offBounds  = offWide + 7*64   // [5][32]uint16: starts of the symbols of a group and its end, by groupIndex
	offQuarter = offBounds + 5*64 // [32]uint16: starts of the quarters after the first
	offSplit   = offQuarter + 64  // [3][32]uint16: in a quarter, by quarter
	offHalf    = offSplit + 3*64  // [32]uint16: in a half of that, by sixteenth
	offFreq    = offHalf + 64     // [32]uint16: by symbol, context 0
	offStart   = offFreq + 64     // [32]uint16
	offEncode  = offStart + 64    // [4][128]uint16: the words of encodeFields
	encodeSize = 4 * 64           // bytes of one of them
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
	e.words("threeWords", slices.Repeat([]uint16{3}, 32))
	e.words("largest16", slices.Repeat([]uint16{15}, 32))
	e.words("largest32", slices.Repeat([]uint16{31}, 32))
	e.words("pairHalves", []uint16{0, 0, 4, 0, 1, 0, 5, 0, 2, 0, 6, 0, 3, 0, 7, 0}) // of 32 bits
	ks := laneKernels()
	names := func(verb string) []string {
		var names []string
		for _, k := range ks {
			names = append(names, k.name(verb))
		}
		for _, k := range ks {
			if k.start {
				names = append(names, k.name(verb+"Start"))
			}
		}
		return names
	}
	e.dispatch("laneDecodeavx512", decodeSignature, decodeArgs, names("laneDecode"))
	e.dispatch("laneEncodeavx512", encodeSignature, encodeArgs, names("laneEncode"))
	for _, k := range ks {
		k.decode(e)
		k.encode(e)
	}
	for _, k := range ks {
		if k.start {
			k.decodeStart(e)
			k.encodeStart(e)
		}
	}
	return e.String()
}

// The arguments of the kernels. The first says which of laneKernels to run.
const (
	decodeSignature = "(kernel int, states *uint32, symbols, contexts, words *byte, room, rounds, lanes int, t *laneTables) (left, used int)"
	encodeSignature = "(kernel int, states *uint32, symbols, contexts, words *byte, at, rounds, lanes int, t *laneTables) (left, down int)"
)

var (
	decodeArgs = []string{"kernel", "states DI", "symbols SI", "contexts R8", "words BX", "room R9", "rounds R10", "lanes CX", "t R11", "left", "used"}
	encodeArgs = []string{"kernel", "states DI", "symbols SI", "contexts R8", "words BX", "at DX", "rounds R10", "lanes CX", "t R11", "left", "down"}
)

// dispatch writes a function that jumps to one of the kernels. They have its
// frame, so that they return to its caller. One function that Go knows keeps the
// arguments from escaping, which calls through a table would not.
func (e *emitter) dispatch(name, signature string, args, names []string) {
	e.function(name, signature, args...)
	e.f("MOVQ kernel+0(FP), AX")
	var choose func(lo, hi int)
	choose = func(lo, hi int) {
		if hi-lo == 1 {
			e.f("JMP %s<>(SB)", names[lo])
			return
		}
		middle := (lo + hi) / 2
		l := fmt.Sprintf("from%d", middle)
		e.f("CMPQ AX, $%d", middle)
		e.jump("JGE", l)
		choose(lo, middle)
		e.label(l)
		choose(middle, hi)
	}
	choose(0, len(names))
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

// laneKernels returns all kernels in the order of their numbers, which lanes_amd64.go
// computes; the numbers of those without words follow.
func laneKernels() (ks []laneKernel) {
	for _, contexts := range []bool{false, true} {
		for _, wide := range []bool{false, true} {
			ks = append(ks, laneKernel{groups: 1, partial: true, contexts: contexts, wide: wide, start: true})
			for _, groups := range []int{1, 2, 3} {
				ks = append(ks, laneKernel{groups: groups, contexts: contexts, wide: wide})
			}
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
	return fmt.Sprintf("%s%sx%dx%d", verb, lanes, contexts, symbols)
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

func (k laneKernel) decode(e *emitter)      { k.decodeLoop(e, true) }
func (k laneKernel) decodeStart(e *emitter) { k.decodeLoop(e, false) }

// decodeTables are the registers that a group reads.
type decodeTables struct {
	slotMask, one string
	// Of the search by differences.
	first               []string // starts of the groups; empty where they depend on the context
	bounds              []string
	boundsAbove         []string // those of index 16 and more, where a vector holds 16
	three, largest      string   // in memory, off the way of the state
	bit12, bit13, bit14 string
	spread              string
	zero                string
	// Of the search by comparisons.
	quarter, split []string
	half           string
	freq, start    string
}

// decodeLoop writes a decoder. A state is two words, high and low, in vectors of
// 32 lanes, so that a search, a lookup and a renormalisation are single
// operations on 32 lanes:
//
//	slot = low & 4095, found among the starts of the symbols;
//	x>>12 = yh<<16 + yl; x = freq*(x>>12) + slot - start.
//
// A lane takes a word when its high word is 0: the low word moves up and the
// next word comes in below.
//
// One group of 32 lanes waits for its own results, so its search takes the
// shortest way (searchDifferences), and two vectors of 16 lanes are faster than
// one: lookups of half the size end sooner, and the words of the second half, which
// begin behind those of the first, are a part of a round late all the time.
// Several groups of one context fill the time and take the search of the fewest
// operations (searchComparisons).
func (k laneKernel) decodeLoop(e *emitter, renormalise bool) {
	verb := "laneDecode"
	if !renormalise {
		verb = "laneDecodeStart"
	}
	e.local(k.name(verb), decodeArgs)
	class, units := "Z", k.groups
	if k.halved() {
		class, units = "Y", 2
	}
	e.registers(class, 0, 31)
	var t decodeTables
	load := func(off int) string {
		r := e.take()
		e.f("VMOVDQU64 %d(R11), %s", off, r)
		return r
	}
	repeat := func(off int) string {
		r := e.take()
		e.f("VPBROADCASTW %d(R11), %s", off, r)
		return r
	}
	constant := func(v int) string {
		r := e.take()
		e.f("MOVL $%d, AX", v)
		e.f("VPBROADCASTW AX, %s", r)
		return r
	}
	t.slotMask, t.one = constant(4095), constant(1)
	compare := !k.contexts && k.groups > 1
	if compare {
		for i := range 3 {
			t.quarter = append(t.quarter, repeat(offQuarter+2*i))
			t.split = append(t.split, load(offSplit+64*i))
		}
		if k.wide {
			t.half = load(offHalf)
		}
		t.freq, t.start = load(offFreq), load(offStart)
	} else {
		for i := range 5 {
			t.bounds = append(t.bounds, load(offBounds+64*i))
			if k.halved() && k.contexts && k.wide {
				t.boundsAbove = append(t.boundsAbove, load(offBounds+64*i+32))
			}
		}
		t.three, t.largest = "threeWords<>(SB)", fmt.Sprintf("largest%d<>(SB)", k.alphabet())
		t.bit12, t.bit13 = constant(1<<12), constant(1<<13)
		if k.wide {
			t.bit14 = constant(1 << 14)
		}
		if k.contexts {
			t.spread = constant(1<<11 | k.alphabet()<<9) // the high bit at 14 or 15
		}
		if !k.contexts {
			t.zero = e.take()
			e.f("VPXORQ %[1]s, %[1]s, %[1]s", t.zero)
			for i := range k.firsts() {
				t.first = append(t.first, repeat(offWide+64*i))
			}
		}
	}
	if k.partial {
		maskLanes(e)
	}
	e.f("XORL DX, DX")
	var high, low []string
	even, odd := e.take(), e.take()
	e.f("VMOVDQU64 evenWords<>(SB), %s", zmm(even))
	e.f("VMOVDQU64 oddWords<>(SB), %s", zmm(odd))
	for g := range k.groups {
		h, l := e.take(), e.take()
		high, low = append(high, h), append(low, l)
		h, l, even, odd := zmm(h), zmm(l), zmm(even), zmm(odd)
		e.f("VMOVDQU64 %d(DI), %s", 128*g, l)
		e.f("VMOVDQA64 %s, %s", l, h)
		e.f("VPERMT2W %d(DI), %s, %s", 128*g+64, even, l)
		e.f("VPERMT2W %d(DI), %s, %s", 128*g+64, odd, h)
	}
	e.give(even, odd)
	if k.halved() {
		high, low = append(high, e.take()), append(low, e.take())
		e.f("VEXTRACTI64X4 $1, %s, %s", zmm(high[0]), high[1])
		e.f("VEXTRACTI64X4 $1, %s, %s", zmm(low[0]), low[1])
	}
	e.label("loop")
	e.f("TESTQ R10, R10")
	e.jump("JZ", "done")
	if renormalise {
		e.f("CMPQ DX, R9")
		e.jump("JGT", "done")
	}
	for g := range units {
		slot := e.take()
		e.f("VPANDQ %s, %s, %s", t.slotMask, low[g], slot)
		var symbol func() string
		var freq, rest string
		var y [2]string
		wait := func() { y = k.quotient(e, high[g], low[g], renormalise) }
		if compare {
			symbol, freq, rest = k.searchComparisons(e, &t, slot, wait)
		} else {
			symbol, freq, rest = k.searchDifferences(e, &t, g, slot, wait)
		}
		k.decodeGroup(e, &t, g, high[g], low[g], symbol, freq, rest, y, renormalise)
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
	if k.halved() {
		e.f("VINSERTI64X4 $1, %s, %[2]s, %[2]s", high[1], zmm(high[0]))
		e.f("VINSERTI64X4 $1, %s, %[2]s, %[2]s", low[1], zmm(low[0]))
	}
	for g := range k.groups {
		joinLow, joinHigh := zmm(e.take()), zmm(e.take())
		high, low := zmm(high[g]), zmm(low[g])
		e.f("VMOVDQU64 joinLow<>(SB), %s", joinLow)
		e.f("VMOVDQU64 joinHigh<>(SB), %s", joinHigh)
		e.f("VPERMI2W %s, %s, %s", high, low, joinLow)
		e.f("VPERMI2W %s, %s, %s", high, low, joinHigh)
		if k.partial {
			e.f("VMOVDQU32 %s, K4, %d(DI)", joinLow, 128*g)
			e.f("VMOVDQU32 %s, K5, %d(DI)", joinHigh, 128*g+64)
		} else {
			e.f("VMOVDQU64 %s, %d(DI)", joinLow, 128*g)
			e.f("VMOVDQU64 %s, %d(DI)", joinHigh, 128*g+64)
		}
		e.give(joinLow, joinHigh)
	}
	e.f("MOVQ R10, left+72(FP)")
	e.f("MOVQ DX, used+80(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}

// halved says whether a decoder has vectors of 16 lanes.
func (k laneKernel) halved() bool { return k.groups == 1 && !k.partial }

// unit returns how many lanes a decoder's vector has.
func (k laneKernel) unit() int {
	if k.halved() {
		return 16
	}
	return 32
}

func zmm(r string) string { return "Z" + r[1:] }

// alphabet returns the number of symbols that the tables have room for.
func (k laneKernel) alphabet() int {
	if k.wide {
		return 32
	}
	return 16
}

// firsts returns the number of groups of 4 symbols after the first.
func (k laneKernel) firsts() int { return k.alphabet()/4 - 1 }

// The functions of VPTERNLOGD $f, c, b, dst that are used.
const (
	xor3      = 0x96 // dst ^ b ^ c
	keepWhere = 0xe4 // c ? dst : b
	takeWhere = 0xd8 // c ? b : dst
)

// searchDifferences finds the symbol of the slot from the differences of the
// slot and the starts; no operation goes through a mask register. The signs of
// the differences from the starts of the groups of 4 symbols give the group: n of
// them are negative, and, as the starts rise, bit 0 of n is the parity of all
// signs, bit 1 that of every second and bit 2 that of every fourth. Bits 12 to 15
// of a difference all are its sign, which leaves room to join the bits of n and
// of the context in one word, groupIndex = the word >> 11:
//
//	bit 0: low bit of the context, bits 1-3: n, bit 4: high bit of the context;
//	with at most 16 symbols bit 3 repeats bit 0.
//
// In the group, slot - start is the least of the differences from its starts,
// taken as unsigned, and slot - end the greatest, so that their difference is
// the frequency.
func (k laneKernel) searchDifferences(e *emitter, t *decodeTables, g int, slot string, wait func()) (symbol func() string, freq, rest string) {
	ternary := func(f int, c, b, dst string) { e.f("VPTERNLOGD $0x%02x, %s, %s, %s", f, c, b, dst) }
	join, first := t.zero, t.first
	if k.contexts {
		context := e.take()
		if k.partial {
			e.f("VPMOVZXBW.Z (R8), K6, %s", context)
		} else {
			e.f("VPMOVZXBW %d(R8), %s", k.unit()*g, context)
		}
		for i := range k.firsts() {
			first = append(first, e.take())
			e.f("VPERMW %d(R11), %s, %s", offWide+64*i, context, first[i])
		}
		e.f("VPMULLW %s, %s, %s", t.spread, context, context)
		join = context
	}
	var d []string
	for i := range first {
		d = append(d, e.take())
		e.f("VPSUBW %s, %s, %s", first[i], slot, d[i])
		if k.contexts {
			e.give(first[i])
		}
	}
	// The bits of index that are not the parity gather in join on the way.
	index := d[0]
	ternary(xor3, d[2], d[1], index)
	if k.wide {
		ternary(xor3, d[6], d[5], d[4])
		ternary(xor3, d[5], d[3], d[1])
		ternary(xor3, d[4], d[3], index)
		ternary(keepWhere, t.bit14, join, d[3])
		if k.contexts {
			e.give(join)
		}
		join = d[3]
		e.give(d[4], d[5], d[6])
	}
	ternary(keepWhere, t.bit13, join, d[1])
	if join != t.zero {
		e.give(join)
	}
	ternary(keepWhere, t.bit12, d[1], index)
	e.give(d[1], d[2])
	e.f("VPSRLW $11, %s, %s", index, index)
	// One lookup after another ends, so the least and the greatest take them up
	// in turn.
	b := make([]string, 5)
	for i := range b {
		b[i] = e.take()
		if t.boundsAbove != nil {
			e.f("VMOVDQA64 %s, %s", index, b[i])
			e.f("VPERMI2W %s, %s, %s", t.boundsAbove[i], t.bounds[i], b[i])
			continue
		}
		e.f("VPERMW %s, %s, %s", t.bounds[i], index, b[i])
	}
	wait()
	least, most := b[0], e.take()
	for i := range b {
		e.f("VPSUBW %s, %s, %s", b[i], slot, b[i])
		switch i {
		case 1:
			e.f("VPMINUW %s, %s, %s", b[1], least, least)
		case 2:
			e.f("VPMINUW %s, %s, %s", b[2], least, least)
			e.f("VPMAXUW %s, %s, %s", b[1], b[2], most)
		case 3:
			e.f("VPMINUW %s, %s, %s", b[3], least, least)
			e.f("VPMAXUW %s, %s, %s", b[3], most, most)
		case 4:
			e.f("VPMAXUW %s, %s, %s", b[4], most, most)
		}
	}
	e.f("VPSUBW %s, %s, %s", most, least, most)
	e.give(b[4], slot)
	// The symbol, off the way of the state: m of the differences in the group
	// are negative, so it is the largest symbol less 4n + m.
	symbol = func() string {
		ternary(xor3, b[3], b[2], b[1])
		ternary(takeWhere, t.bit13, b[2], b[1])
		e.f("VPSRLW $12, %s, %s", b[1], b[1])
		e.f("VPADDW %s, %s, %s", index, index, index)
		ternary(takeWhere, t.three, b[1], index)
		e.f("VPANDNQ %s, %s, %s", t.largest, index, index)
		e.give(b[1:4]...)
		return index
	}
	return symbol, most, least
}

// searchComparisons finds the symbol of the slot in three steps: the quarter of
// the alphabet, in it the quarter (of 4 or 8 symbols) by three comparisons each,
// and with more than 16 symbols the half.
func (k laneKernel) searchComparisons(e *emitter, t *decodeTables, slot string, wait func()) (symbol func() string, freq, rest string) {
	const ge = 5
	index := e.take()
	for i := range 3 {
		e.f("VPCMPUW $%d, %s, %s, K%d", ge, t.quarter[i], slot, i+1)
	}
	e.f("VMOVDQU16.Z %s, K1, %s", t.one, index)
	e.f("VPADDW %s, %s, K2, %s", t.one, index, index)
	e.f("VPADDW %s, %s, K3, %s", t.one, index, index)
	bound := e.take()
	for i := range 3 {
		e.f("VPERMW %s, %s, %s", t.split[i], index, bound)
		e.f("VPCMPUW $%d, %s, %s, K%d", ge, bound, slot, i+1)
	}
	e.f("VPSLLW $2, %s, %s", index, index)
	for i := range 3 {
		e.f("VPADDW %s, %s, K%d, %s", t.one, index, i+1, index)
	}
	if k.wide {
		e.f("VPERMW %s, %s, %s", t.half, index, bound)
		e.f("VPCMPUW $%d, %s, %s, K1", ge, bound, slot)
		e.f("VPADDW %s, %s, %s", index, index, index)
		e.f("VPADDW %s, %s, K1, %s", t.one, index, index)
	}
	freq = e.take()
	wait()
	e.f("VPERMW %s, %s, %s", t.freq, index, freq)
	e.f("VPERMW %s, %s, %s", t.start, index, bound)
	e.f("VPSUBW %s, %s, %s", bound, slot, bound)
	e.give(slot)
	return func() string { return index }, freq, bound
}

// quotient writes the two words of x>>12, low and high, and sets K1 where the high
// one is 0.
func (k laneKernel) quotient(e *emitter, high, low string, renormalise bool) [2]string {
	yl, yh := e.take(), e.take()
	e.f("VPSHLDW $4, %s, %s, %s", low, high, yl)
	e.f("VPSRLW $12, %s, %s", high, yh)
	if renormalise {
		mask := ""
		if k.partial {
			mask = "K6, "
		}
		e.f("VPTESTNMW %s, %s, %sK1", yh, yh, mask)
	}
	return [2]string{yl, yh}
}

// decodeGroup writes the rest of a round of 32 lanes: the symbols, the new states
// and the words.
func (k laneKernel) decodeGroup(e *emitter, t *decodeTables, g int, high, low string, symbol func() string, freq, rest string, y [2]string, renormalise bool) {
	const gt = 6
	yl, yh := y[0], y[1]
	e.f("VPMULHUW %s, %s, %s", yl, freq, high)
	if renormalise {
		// The state is below 65536 when no product of high parts is above 0
		// and the low ones have no carry.
		e.f("VPTESTNMW %s, %s, K1, K1", high, high)
	}
	e.f("VPMULLW %s, %s, %s", yl, freq, low)
	// The sum of low and rest has a carry where low is above the complement of
	// rest.
	most := e.take()
	e.f("VPTERNLOGD $0x33, %s, %s, %s", rest, rest, most) // ^b
	e.f("VPCMPUW $%d, %s, %s, K3", gt, most, low)
	e.f("VPADDW %s, %s, %s", rest, low, low)
	e.give(most)
	if renormalise {
		e.f("KANDND K1, K3, K2")
	}
	e.f("VPMULLW %s, %s, %s", yh, freq, yh)
	e.f("VPADDW %s, %s, %s", yh, high, high)
	e.f("VPADDW %s, %s, K3, %s", t.one, high, high)
	if renormalise {
		words := e.take()
		e.f("VMOVDQU64 (BX)(DX*1), %s", words)
		e.f("VMOVDQU16 %s, K2, %s", low, high)
		e.f("VPEXPANDW %s, K2, %s", words, low)
		e.f("KMOVD K2, AX")
		e.f("POPCNTL AX, AX")
		e.f("LEAQ (DX)(AX*2), DX")
		e.give(words)
	}
	e.give(yl, yh, freq, rest)
	word := symbol()
	bytes := "Y" + word[1:]
	if k.halved() {
		bytes = "X" + word[1:]
	}
	e.f("VPMOVWB %s, %s", word, bytes)
	if k.partial {
		e.f("VMOVDQU8 %s, K6, (SI)", bytes)
	} else {
		e.f("VMOVDQU64 %s, %d(SI)", bytes, k.unit()*g)
	}
	e.give(word)
}
