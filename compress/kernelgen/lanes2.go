package main

import (
	"fmt"
	"strings"
)

// Offsets into shuffleTables of lanes_amd64.go, in bytes.
const (
	offReach         = 0                         // [7][16]uint16: start of a group of 4 symbols less 1, context 0 repeated
	offReachBy       = offReach + 7*32           // [7][8]uint16: the same by context
	offShuffleBounds = offReachBy + 7*16         // [5][4][8]uint16
	offShuffleEncode = offShuffleBounds + 5*4*16 // [8][8][16]byte
)

// Lanes2 returns the text of lanes2_amd64.s, the lane coder with AVX2. Tables are
// looked up by shuffles of 16 bytes.
func Lanes2() string {
	e := newEmitter()
	repeat := func(name string, w ...uint16) {
		var all []uint16
		for len(all) < 16 {
			all = append(all, w...)
		}
		e.words(name, all)
	}
	repeat("slotMask", 4095)
	repeat("ones", 1)
	repeat("threes", 3)
	repeat("symbolMask", 31)
	repeat("pairOrder", 0x0100)   // the two bytes of a word
	repeat("contextPair", 0x0202) // times a context, so that they are those of its word
	repeat("lowWords", 0xffff, 0) // of 32 bits, from here on
	repeat("allOnes", 0xffff)
	repeat("low20", 0xffff, 0x000f)
	repeat("low12", 0x0fff, 0)
	repeat("one32", 1, 0)
	repeat("five32", 31, 0)
	repeat("ofNoTable", 0x7070)
	for t := range 8 {
		repeat(fmt.Sprintf("table%d", t), uint16(t)*0x1010)
	}
	// Where the bytes of a group begin in each table, by context: with 16 symbols
	// a table has two contexts of four groups, with 32 one context of eight.
	for t := range uint16(4) {
		var narrow, wide [4]uint16
		for c := range uint16(4) {
			narrow[c] = 0x0100 + c&1*0x0808
			if c>>1 != t {
				narrow[c] |= 0x8080
			}
			wide[c] = 0x0100
			if c != t {
				wide[c] |= 0x8080
			}
		}
		if t < 2 {
			repeat(fmt.Sprintf("contextBase16x%d", t), narrow[:]...)
		}
		repeat(fmt.Sprintf("contextBase32x%d", t), wide[:]...)
	}
	e.words("evenDwords", []uint16{0, 0, 2, 0, 4, 0, 6, 0, 1, 0, 3, 0, 5, 0, 7, 0})
	// By a mask of 8 words: their shuffles to the set bits, and from the set
	// bits to the end.
	var expand, pack []uint16
	for mask := range 256 {
		var to, from [8]uint16
		n := uint16(0)
		for bit := range 8 {
			to[bit] = 0x8080
			if mask>>bit&1 != 0 {
				to[bit] = 0x0100 + 0x0202*n
				n++
			}
		}
		for i := range from {
			from[i] = 0x8080
		}
		for bit, at := 7, 7; bit >= 0; bit-- {
			if mask>>bit&1 != 0 {
				from[at] = 0x0100 + 0x0202*uint16(bit)
				at--
			}
		}
		expand, pack = append(expand, to[:]...), append(pack, from[:]...)
	}
	e.words("expandWords", expand)
	e.words("packWords", pack)
	ks := laneKernels2()
	signature := func(s string) string { return strings.Replace(s, "laneTables", "shuffleTables", 1) }
	e.dispatch("laneDecodeavx2", signature(decodeSignature), decodeArgs, kernelNames(ks, "laneDecode", "laneDecodeStart"))
	e.dispatch("laneEncodeavx2", signature(encodeSignature), encodeArgs, kernelNames(ks, "laneEncode", "laneEncodeStart"))
	for _, k := range ks {
		k.decode2(e)
		k.encode2(e)
	}
	return e.String()
}

// laneKernels2 returns the kernels in the order of their numbers, those of the
// AVX-512 kernels with the one without words, of 32 lanes, in place of the one
// of few lanes.
func laneKernels2() (ks []laneKernel) {
	for _, k := range laneKernels() {
		k.start, k.partial = k.partial, false
		ks = append(ks, k)
	}
	return ks
}

func kernelNames(ks []laneKernel, verb, startVerb string) (names []string) {
	for _, k := range ks {
		if k.start {
			names = append(names, k.name(startVerb))
		} else {
			names = append(names, k.name(verb))
		}
	}
	return names
}

// tables returns how many tables of 16 bytes hold the bounds and the encoder's
// bytes of all symbols and contexts.
func (k laneKernel) tables() (bounds, encode int) {
	switch {
	case k.contexts && k.wide:
		return 4, 8
	case k.contexts:
		return 2, 4
	case k.wide:
		return 1, 2
	}
	return 1, 1
}

func x(y string) string { return "X" + y[1:] }

// takeN returns n registers.
func (e *emitter) takeN(n int) (r []string) {
	for range n {
		r = append(r, e.take())
	}
	return r
}

// stored says whether a decoder's states are in their places in memory, for want
// of registers.
func (k laneKernel) stored() bool { return k.groups > 1 || k.contexts && k.wide }

// decode2 writes a decoder in the way of decodeLoop: a state is two words. One
// vector has 16 lanes.
func (k laneKernel) decode2(e *emitter) {
	verb := "laneDecode"
	if k.start {
		verb = "laneDecodeStart"
	}
	e.local(k.name(verb), decodeArgs)
	e.registers("Y", 0, 15)
	e.f("LEAQ expandWords<>(SB), R12")
	e.f("XORL DX, DX")
	halves := 2 * k.groups
	low, high := make([]string, halves), make([]string, halves)
	for h := range halves {
		a, b, l, u := e.take(), e.take(), e.take(), e.take()
		e.f("VMOVDQU %d(DI), %s", 64*h, a)
		e.f("VMOVDQU %d(DI), %s", 64*h+32, b)
		e.f("VPAND lowWords<>(SB), %s, %s", a, l)
		e.f("VPAND lowWords<>(SB), %s, %s", b, u)
		e.f("VPACKUSDW %s, %s, %s", u, l, l)
		e.f("VPSRLD $16, %[1]s, %[1]s", a)
		e.f("VPSRLD $16, %[1]s, %[1]s", b)
		e.f("VPACKUSDW %s, %s, %s", b, a, u)
		e.f("VPERMQ $0xd8, %[1]s, %[1]s", l)
		e.f("VPERMQ $0xd8, %[1]s, %[1]s", u)
		e.give(a, b)
		if low[h], high[h] = l, u; k.stored() {
			k.state2(e, h, l, u)
		}
	}
	e.label("loop")
	e.f("TESTQ R10, R10")
	e.jump("JZ", "done")
	if !k.start {
		e.f("CMPQ DX, R9")
		e.jump("JGT", "done")
	}
	for g := range k.groups {
		var symbols [2]string
		for i := range symbols {
			h := 2*g + i
			if k.stored() {
				low[h], high[h] = e.take(), e.take()
				e.f("VMOVDQU %d(DI), %s", 64*h, low[h])
				e.f("VMOVDQU %d(DI), %s", 64*h+32, high[h])
			}
			symbols[i] = k.decodeHalf2(e, h, low[h], high[h])
			if k.stored() {
				k.state2(e, h, low[h], high[h])
			}
		}
		e.f("VPACKUSWB %s, %s, %s", symbols[1], symbols[0], symbols[0])
		e.f("VPERMQ $0xd8, %[1]s, %[1]s", symbols[0])
		e.f("VMOVDQU %s, %d(SI)", symbols[0], 32*g)
		e.give(symbols[:]...)
	}
	e.f("ADDQ $%d, SI", 32*k.groups)
	if k.contexts {
		e.f("ADDQ $%d, R8", 32*k.groups)
	}
	e.f("DECQ R10")
	e.jump("JMP", "loop")
	e.label("done")
	for h := range halves {
		if k.stored() {
			low[h], high[h] = e.take(), e.take()
			e.f("VMOVDQU %d(DI), %s", 64*h, low[h])
			e.f("VMOVDQU %d(DI), %s", 64*h+32, high[h])
		}
		a := e.take()
		e.f("VPERMQ $0xd8, %[1]s, %[1]s", low[h])
		e.f("VPERMQ $0xd8, %[1]s, %[1]s", high[h])
		e.f("VPUNPCKLWD %s, %s, %s", high[h], low[h], a)
		e.f("VPUNPCKHWD %s, %s, %s", high[h], low[h], high[h])
		k.state2(e, h, a, high[h])
		e.give(a)
		if k.stored() {
			e.give(low[h])
		} else {
			e.give(low[h], high[h])
		}
	}
	e.f("MOVQ R10, left+72(FP)")
	e.f("MOVQ DX, used+80(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}

// state2 stores the state of 16 lanes, and gives back the registers where states
// are in memory.
func (k laneKernel) state2(e *emitter, h int, low, high string) {
	e.f("VMOVDQU %s, %d(DI)", low, 64*h)
	e.f("VMOVDQU %s, %d(DI)", high, 64*h+32)
	if k.stored() {
		e.give(low, high)
	}
}

// decodeHalf2 writes one round of 16 lanes and returns the symbols as words. The
// search goes as in searchDifferences, with the group counted from the front.
func (k laneKernel) decodeHalf2(e *emitter, h int, low, high string) (symbol string) {
	tables, _ := k.tables()
	slot := e.take()
	e.f("VPAND slotMask<>(SB), %s, %s", low, slot)
	// Minus the group, in both bytes of each word.
	var pair, group string
	if k.contexts {
		pair = e.take()
		e.f("VPMOVZXBW %d(R8), %s", 16*h, pair)
		e.f("VPMULLW contextPair<>(SB), %s, %s", pair, pair)
		e.f("VPOR pairOrder<>(SB), %s, %s", pair, pair)
	}
	for i := range k.firsts() {
		r := e.take()
		if k.contexts {
			e.f("VBROADCASTI128 %d(R11), %s", offReachBy+16*i, r)
			e.f("VPSHUFB %s, %s, %s", pair, r, r)
			e.f("VPCMPGTW %s, %s, %s", r, slot, r)
		} else {
			e.f("VPCMPGTW %d(R11), %s, %s", offReach+32*i, slot, r)
		}
		if i == 0 {
			group = r
			continue
		}
		e.f("VPADDB %s, %s, %s", r, group, group)
		e.give(r)
	}
	e.f("VPADDB %[1]s, %[1]s, %[1]s", group)
	var index []string
	for t := range tables {
		r := e.take()
		if k.contexts {
			e.f("VMOVDQU contextBase%dx%d<>(SB), %s", k.alphabet(), t, r)
			e.f("VPSHUFB %s, %s, %s", pair, r, r)
		} else {
			e.f("VMOVDQU pairOrder<>(SB), %s", r)
		}
		e.f("VPSUBB %s, %s, %s", group, r, r)
		index = append(index, r)
	}
	if k.contexts {
		e.give(pair)
	}
	d := make([]string, 5)
	least, most := "", ""
	for i := range d {
		for t := range tables {
			r := e.take()
			e.f("VBROADCASTI128 %d(R11), %s", offShuffleBounds+64*i+16*t, r)
			e.f("VPSHUFB %s, %s, %s", index[t], r, r)
			if t == 0 {
				d[i] = r
				continue
			}
			e.f("VPOR %s, %s, %s", r, d[i], d[i])
			e.give(r)
		}
		e.f("VPSUBW %s, %s, %s", d[i], slot, d[i])
		switch i {
		case 1:
			least = d[0]
			e.f("VPMINUW %s, %s, %s", d[1], least, least)
		case 2:
			most = e.take()
			e.f("VPMINUW %s, %s, %s", d[2], least, least)
			e.f("VPMAXUW %s, %s, %s", d[2], d[1], most)
		case 3:
			e.f("VPMINUW %s, %s, %s", d[3], least, least)
			e.f("VPMAXUW %s, %s, %s", d[3], most, most)
		case 4:
			e.f("VPMAXUW %s, %s, %s", d[4], most, most)
		}
	}
	e.give(index...)
	e.give(d[4], slot)
	freq, rest := most, least
	e.f("VPSUBW %s, %s, %s", most, least, freq)
	// The symbol, off the way of the state: 4*group + 3 less the negative
	// differences in the group.
	symbol = d[1]
	for i := 1; i < 4; i++ {
		e.f("VPSRAW $15, %[1]s, %[1]s", d[i])
	}
	e.f("VPADDW %s, %s, %s", d[2], symbol, symbol)
	e.f("VPADDW %s, %s, %s", d[3], symbol, symbol)
	e.f("VPADDW %[1]s, %[1]s, %[1]s", group)
	e.f("VPSUBW %s, %s, %s", group, symbol, symbol)
	e.f("VPADDW threes<>(SB), %[1]s, %[1]s", symbol)
	e.f("VPAND symbolMask<>(SB), %[1]s, %[1]s", symbol)
	e.give(d[2], d[3], group)

	yl, yh, t := e.take(), e.take(), e.take()
	e.f("VPSRLW $12, %s, %s", low, yl)
	e.f("VPSLLW $4, %s, %s", high, t)
	e.f("VPOR %s, %s, %s", t, yl, yl)
	e.f("VPSRLW $12, %s, %s", high, yh)
	e.f("VPMULLW %s, %s, %s", yl, freq, low)
	e.f("VPMULHUW %s, %s, %s", yl, freq, high)
	e.f("VPMULLW %s, %s, %s", yh, freq, yh)
	e.f("VPADDW %s, %s, %s", rest, low, low)
	e.f("VPADDW %s, %s, %s", yh, high, high)
	e.f("VPMINUW %s, %s, %s", rest, low, t)
	e.f("VPCMPEQW %s, %s, %s", rest, t, t) // -1 without a carry
	e.f("VPADDW ones<>(SB), %[1]s, %[1]s", t)
	e.f("VPADDW %s, %s, %s", t, high, high)
	e.give(freq, rest, yl, yh)
	if !k.start {
		// The bits of the lanes whose high word is 0 are twice in AX, those of
		// the second 8 from bit 16 on.
		words, turn := e.take(), e.take()
		e.f("VPXOR %[1]s, %[1]s, %[1]s", t)
		e.f("VPCMPEQW %s, %s, %s", t, high, t)
		e.f("VPACKSSWB %s, %s, %s", t, t, words)
		e.f("VPMOVMSKB %s, AX", words)
		e.f("POPCNTL AX, R13")
		e.f("MOVBLZX AL, CX")
		e.f("SHRL $16, AX")
		e.f("MOVBLZX AL, AX")
		e.f("VMOVDQU (BX)(DX*1), %s", x(words))
		e.f("ADDQ DX, R13")
		e.f("SHLL $1, CX")
		e.f("SHLL $1, AX")
		e.f("VMOVDQU (R12)(CX*8), %s", x(turn))
		e.f("VINSERTI128 $1, (R12)(AX*8), %[1]s, %[1]s", turn)
		e.f("POPCNTL CX, CX")
		e.f("LEAQ (DX)(CX*2), DX")
		e.f("VINSERTI128 $1, (BX)(DX*1), %[1]s, %[1]s", words)
		e.f("VPSHUFB %s, %s, %s", turn, words, words)
		e.f("VPAND %s, %s, %s", t, low, turn)
		e.f("VPOR %s, %s, %s", turn, high, high)
		e.f("VPANDN %s, %s, %s", low, t, low)
		e.f("VPOR %s, %s, %s", words, low, low)
		e.f("MOVQ R13, DX")
		e.give(words, turn)
	}
	e.give(t)
	return symbol
}

// encode2 writes an encoder in the way of encodeLoop. A state is 32 bits; the
// fields of the symbols are looked up byte by byte.
func (k laneKernel) encode2(e *emitter) {
	verb := "laneEncode"
	if k.start {
		verb = "laneEncodeStart"
	}
	e.local(k.name(verb), encodeArgs)
	e.registers("Y", 0, 15)
	e.f("LEAQ packWords<>(SB), R12")
	// The last round comes first.
	e.f("IMUL3Q $%d, R10, AX", 32*k.groups)
	e.f("ADDQ AX, SI")
	if k.contexts {
		e.f("ADDQ AX, R8")
	}
	state := make([]string, 4*k.groups)
	for i := range state {
		if k.groups == 1 {
			state[i] = e.take()
			e.f("VMOVDQU %d(DI), %s", 32*i, state[i])
		}
	}
	e.label("loop")
	e.f("TESTQ R10, R10")
	e.jump("JZ", "done")
	e.f("SUBQ $%d, SI", 32*k.groups)
	if k.contexts {
		e.f("SUBQ $%d, R8", 32*k.groups)
	}
	for g := k.groups - 1; g >= 0; g-- {
		k.encodeGroup2(e, g, state[4*g:4*g+4])
	}
	e.f("DECQ R10")
	e.jump("JMP", "loop")
	e.label("done")
	if k.groups == 1 {
		for i, s := range state {
			e.f("VMOVDQU %s, %d(DI)", s, 32*i)
		}
	}
	e.f("MOVQ R10, left+72(FP)")
	e.f("MOVQ DX, down+80(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}

// encodeGroup2 writes one round of 32 lanes.
func (k laneKernel) encodeGroup2(e *emitter, g int, state []string) {
	// Symbols, with contexts above them, in the order that unpacking undoes.
	symbol, t := e.take(), e.take()
	e.f("VMOVDQU %d(SI), %s", 32*g, symbol)
	if k.contexts {
		shift := 4
		if k.wide {
			shift = 5
		}
		e.f("VMOVDQU %d(R8), %s", 32*g, t)
		e.f("VPSLLD $%d, %s, %s", shift, t, t)
		e.f("VPOR %s, %s, %s", t, symbol, symbol)
	}
	e.f("VMOVDQU evenDwords<>(SB), %s", t)
	e.f("VPERMD %s, %s, %s", symbol, t, symbol)
	e.give(t)
	fields := k.encodeFields2(e, symbol, 0)
	reciprocal := k.encodeFields2(e, symbol, 4)
	e.give(symbol)
	// stays compares: a state stays whole up to freq<<20 - 1, the complement
	// of the field above bit 20 with ones below.
	stays := func(state, field string) string {
		r := e.take()
		e.f("VPXOR allOnes<>(SB), %s, %s", field, r)
		e.f("VPOR low20<>(SB), %s, %s", r, r)
		e.f("VPMINUD %s, %s, %s", state, r, r)
		e.f("VPCMPEQD %s, %s, %s", state, r, r)
		return r
	}
	if k.start {
		all := ""
		for i, s := range state {
			r := stays(s, fields[i])
			if i == 0 {
				all = r
				continue
			}
			e.f("VPAND %s, %s, %s", r, all, all)
			e.give(r)
		}
		e.f("VMOVMSKPS %s, AX", all)
		e.f("CMPL AX, $0xff")
		e.jump("JNE", "done")
		e.give(all)
	}
	for pair := 1; pair >= 0; pair-- {
		var whole, state2 [2]string
		for v := range 2 {
			i := 2*pair + v
			if state2[v] = state[i]; k.groups > 1 {
				state2[v] = e.take()
				e.f("VMOVDQU %d(DI), %s", 128*g+32*i, state2[v])
			}
		}
		if !k.start {
			for v, s := range state2 {
				whole[v] = stays(s, fields[2*pair+v])
			}
			words, t := e.take(), e.take()
			e.f("VPAND lowWords<>(SB), %s, %s", state2[0], words)
			e.f("VPAND lowWords<>(SB), %s, %s", state2[1], t)
			e.f("VPACKUSDW %s, %s, %s", t, words, words)
			e.f("VPERMQ $0xd8, %[1]s, %[1]s", words)
			for v := 1; v >= 0; v-- {
				e.f("VMOVMSKPS %s, AX", whole[v])
				e.f("XORL $0xff, AX")
				e.f("POPCNTL AX, CX")
				e.f("SHLL $1, AX")
				e.f("ADDL CX, CX")
				if v == 1 {
					e.f("VEXTRACTI128 $1, %s, %s", words, x(t))
					e.f("VPSHUFB (R12)(AX*8), %[1]s, %[1]s", x(t))
					e.f("VMOVDQU %s, -16(BX)(DX*1)", x(t))
				} else {
					e.f("VPSHUFB (R12)(AX*8), %[1]s, %[1]s", x(words))
					e.f("VMOVDQU %s, -16(BX)(DX*1)", x(words))
				}
				e.f("SUBQ CX, DX")
			}
			e.give(words)
			for v, s := range state2 {
				e.f("VPSRLD $16, %s, %s", s, t)
				e.f("VPBLENDVB %s, %s, %s, %s", whole[v], s, t, s)
			}
			e.give(t, whole[0], whole[1])
		}
		for v, s := range state2 {
			i := 2*pair + v
			d, r := fields[i], reciprocal[i]
			u, odd, oddR := e.take(), e.take(), e.take()
			e.f("VPSRLD $12, %s, %s", d, u)
			e.f("VPAND one32<>(SB), %[1]s, %[1]s", u)
			e.f("VPADDD %s, %s, %s", s, u, u)
			e.f("VMOVSHDUP %s, %s", u, odd)
			e.f("VMOVSHDUP %s, %s", r, oddR)
			e.f("VPMULUDQ %s, %s, %s", r, u, u)
			e.f("VPMULUDQ %s, %s, %s", oddR, odd, odd)
			e.f("VMOVSHDUP %s, %s", u, u)
			e.f("VPBLENDD $0xaa, %s, %s, %s", odd, u, u)
			e.f("VPSRLD $15, %s, %s", d, r)
			e.f("VPAND five32<>(SB), %[1]s, %[1]s", r)
			e.f("VPSRLVD %s, %s, %s", r, u, u)
			e.f("VPSRLD $20, %s, %s", d, r)
			e.f("VPMULLD %s, %s, %s", r, u, u)
			e.f("VPAND low12<>(SB), %[1]s, %[1]s", d)
			e.f("VPADDD %s, %s, %s", d, s, s)
			e.f("VPADDD %s, %s, %s", u, s, s)
			e.give(u, odd, oddR, d, r)
			if k.groups > 1 {
				e.f("VMOVDQU %s, %d(DI)", s, 128*g+32*i)
				e.give(s)
			}
		}
	}
}

// encodeFields2 looks up four bytes, from the given one on, of every symbol and
// returns them as four vectors of 32 bits.
func (k laneKernel) encodeFields2(e *emitter, symbol string, first int) []string {
	_, tables := k.tables()
	b := e.takeN(4)
	for t := range tables {
		index := symbol
		if tables > 1 {
			// An index with bit 7 set, as all of other tables get, looks up 0.
			index = e.take()
			e.f("VPXOR table%d<>(SB), %s, %s", t, symbol, index)
			e.f("VPADDB ofNoTable<>(SB), %[1]s, %[1]s", index)
		}
		for i, r := range b {
			if t > 0 {
				r = e.take()
			}
			e.f("VBROADCASTI128 %d(R11), %s", offShuffleEncode+128*(first+i)+16*t, r)
			e.f("VPSHUFB %s, %s, %s", index, r, r)
			if t > 0 {
				e.f("VPOR %s, %s, %s", r, b[i], b[i])
				e.give(r)
			}
		}
		if tables > 1 {
			e.give(index)
		}
	}
	t := e.take()
	e.f("VPUNPCKHBW %s, %s, %s", b[1], b[0], t)
	e.f("VPUNPCKLBW %[2]s, %[1]s, %[1]s", b[0], b[1])
	e.f("VPUNPCKHBW %s, %s, %s", b[3], b[2], b[1])
	e.f("VPUNPCKLBW %[2]s, %[1]s, %[1]s", b[2], b[3])
	// b[0], t and b[2], b[1] are the low and high pairs of words.
	e.f("VPUNPCKHWD %s, %s, %s", b[2], b[0], b[3])
	e.f("VPUNPCKLWD %[2]s, %[1]s, %[1]s", b[0], b[2])
	e.f("VPUNPCKLWD %s, %s, %s", b[1], t, b[2])
	e.f("VPUNPCKHWD %[2]s, %[1]s, %[1]s", t, b[1])
	e.give(b[1])
	return []string{b[0], b[3], b[2], t}
}
