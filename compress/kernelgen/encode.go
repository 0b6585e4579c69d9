package main

import "fmt"

func (k laneKernel) encode(e *emitter)      { k.encodeLoop(e, true) }
func (k laneKernel) encodeStart(e *emitter) { k.encodeLoop(e, false) }

// encodeLoop writes an encoder. States are 32-bit lanes in two vectors of 16.
// The quotient by the frequency is (x + inc) * reciprocal >> 32+shift, exact for
// every state that the step divides; see encodeFields in lanes_amd64.go.
//
// The words of a group are packed to the front of a vector, turned so that they
// end at its end, and stored whole below the words written before; what else the
// store writes is overwritten by the next or lies in the slack of the buffer.
//
// Without words the loop ends before the first round in which a lane would emit.
func (k laneKernel) encodeLoop(e *emitter, emit bool) {
	verb := "laneEncode"
	if !emit {
		verb = "laneEncodeStart"
	}
	e.local(k.name(verb), encodeArgs)
	e.registers("Z", 0, 31)
	// The first 64 entries of each table stay in registers as far as they are
	// used, and of 128 the third 32; the others are read where needed.
	tables := encodeTables{size: 32}
	if k.contexts {
		tables.size = 64
		if k.wide {
			tables.size = 128
		}
	}
	for i := range 4 {
		for at := 0; at < tables.size; at += 64 {
			r := e.take()
			e.f("VMOVDQU64 %d(R11), %s", offEncode+i*encodeSize+2*at, r)
			tables.part[i] = append(tables.part[i], r)
		}
	}
	constant := func(v int) string {
		r := e.take()
		e.f("MOVL $%d, AX", v)
		e.f("VPBROADCASTD AX, %s", r)
		return r
	}
	t := &tables
	t.low20, t.low12, t.one, t.inc = constant(1<<20-1), constant(4095), constant(1), constant(1<<12)
	t.zero = e.take()
	e.f("VPXORQ %[1]s, %[1]s, %[1]s", t.zero)
	t.halves = e.take()
	e.f("VMOVDQU pairHalves<>(SB), %s", "Y"+t.halves[1:])
	if emit {
		e.f("LEAQ slide<>(SB), R12")
		t.evens = e.take()
		e.f("VMOVDQU64 evenWords<>(SB), %s", t.evens)
	}
	if tables.size == 128 {
		e.f("MOVL $64, AX")
		t.upper = e.take()
		e.f("VPBROADCASTW AX, %s", t.upper)
	}
	e.f("MOVL $0x5555, AX")
	e.f("KMOVW AX, K7")
	if k.partial {
		maskLanes(e)
	}
	// The last round comes first.
	if k.partial {
		e.f("MOVQ CX, AX")
		e.f("IMULQ R10, AX")
	} else {
		e.f("IMUL3Q $%d, R10, AX", 32*k.groups)
	}
	e.f("ADDQ AX, SI")
	if k.contexts {
		e.f("ADDQ AX, R8")
	}
	var state []string
	for g := range 2 * k.groups {
		state = append(state, e.take())
		e.f("VMOVDQU64 %d(DI), %s", 64*g, state[g])
	}
	e.label("loop")
	e.f("TESTQ R10, R10")
	e.jump("JZ", "done")
	step := fmt.Sprintf("$%d", 32*k.groups)
	if k.partial {
		step = "CX"
	}
	e.f("SUBQ %s, SI", step)
	if k.contexts {
		e.f("SUBQ %s, R8", step)
	}
	for g := k.groups - 1; g >= 0; g-- {
		k.encodeGroup(e, g, t, state[2*g:2*g+2], emit)
	}
	e.f("DECQ R10")
	e.jump("JMP", "loop")
	e.label("done")
	for g := range 2 * k.groups {
		if k.partial {
			e.f("VMOVDQU32 %s, K%d, %d(DI)", state[g], 4+g, 64*g)
		} else {
			e.f("VMOVDQU64 %s, %d(DI)", state[g], 64*g)
		}
	}
	e.f("MOVQ R10, left+72(FP)")
	e.f("MOVQ DX, down+80(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}

// encodeTables are the registers that a group reads.
type encodeTables struct {
	size                         int
	part                         [4][]string
	low20, low12, one, inc, zero string
	halves, evens                string
	upper                        string // bit that selects the upper half of 128 entries
}

// encodeGroup writes one round of 32 lanes. The words written before start at DX.
func (k laneKernel) encodeGroup(e *emitter, g int, t *encodeTables, state []string, emit bool) {
	// Symbols, with contexts above them, in the order that unpacking undoes.
	index := e.take()
	y := "Y" + index[1:]
	load := func(at string) string {
		r := e.take()
		if k.partial {
			e.f("VMOVDQU8.Z (%s), K6, Y%s", at, r[1:])
		} else {
			e.f("VMOVDQU64 %d(%s), Y%s", 32*g, at, r[1:])
		}
		return r
	}
	symbols := load("SI")
	if k.contexts {
		contexts := load("R8")
		shift := 4
		if k.wide {
			shift = 5
		}
		e.f("VPSLLD $%d, Y%s, Y%s", shift, contexts[1:], contexts[1:])
		e.f("VPORQ Y%s, Y%s, Y%s", contexts[1:], symbols[1:], symbols[1:])
		e.give(contexts)
	}
	e.f("VPERMD Y%s, Y%s, %s", symbols[1:], t.halves[1:], y)
	e.f("VPMOVZXBW %s, %s", y, index)
	e.give(symbols)
	if t.size == 128 {
		e.f("VPTESTMW %s, %s, K1", t.upper, index)
	}
	var field [4]string
	for i := range field {
		field[i] = e.take()
		table := offEncode + i*encodeSize
		if t.size == 32 {
			e.f("VPERMW %s, %s, %s", t.part[i][0], index, field[i])
			continue
		}
		e.f("VMOVDQA64 %s, %s", index, field[i])
		e.f("VPERMI2W %d(R11), %s, %s", table+64, t.part[i][0], field[i])
		if t.size == 128 {
			r := e.take()
			e.f("VMOVDQA64 %s, %s", index, r)
			e.f("VPERMI2W %d(R11), %s, %s", table+192, t.part[i][1], r)
			e.f("VMOVDQU16 %s, K1, %s", r, field[i])
			e.give(r)
		}
	}
	e.give(index)
	// Pairs of words to the dwords of encodeFields.
	var fields, reciprocal [2]string
	for v, op := range []string{"VPUNPCKLWD", "VPUNPCKHWD"} {
		fields[v], reciprocal[v] = e.take(), e.take()
		e.f("%s %s, %s, %s", op, field[1], field[0], fields[v])
		e.f("%s %s, %s, %s", op, field[3], field[2], reciprocal[v])
	}
	e.give(field[:]...)
	for v, x := range state {
		// A word leaves when x > freq<<20 - 1, the complement of the field
		// above bit 20 with ones below.
		limit := e.take()
		e.f("VMOVDQA64 %s, %s", t.low20, limit)
		e.f("VPTERNLOGD $0xf3, %s, %s, %s", limit, fields[v], limit) // dst | ^b
		mask := ""
		if k.partial {
			mask = fmt.Sprintf("K%d, ", 4+v)
		}
		e.f("VPCMPUD $6, %s, %s, %sK%d", limit, x, mask, 1+v)
		e.give(limit)
	}
	words := ""
	if emit {
		words = e.take()
		e.f("VMOVDQA64 %s, %s", t.evens, words)
		e.f("VPERMI2W %s, %s, %s", state[1], state[0], words)
		e.f("KUNPCKWD K1, K2, K3")
	} else {
		e.f("KORTESTW K1, K2")
		e.jump("JNZ", "done")
	}
	for v, x := range state {
		if emit {
			e.f("VPSRLD $16, %s, K%d, %s", x, 1+v, x)
		}
		d, r := fields[v], reciprocal[v]
		u, odd, oddR, s := e.take(), e.take(), e.take(), e.take()
		e.f("VPTESTMD %s, %s, K%d", t.inc, d, 1+v)
		e.f("VMOVDQA64 %s, %s", x, u)
		e.f("VPADDD %s, %s, K%d, %s", t.one, u, 1+v, u)
		e.f("VMOVSHDUP %s, %s", r, oddR)
		e.f("VMOVSHDUP %s, %s", u, odd)
		e.f("VPMULUDQ %s, %s, %s", r, u, u)
		e.f("VPMULUDQ %s, %s, %s", oddR, odd, odd)
		e.f("VPSRLD $15, %s, %s", d, s)
		e.f("VMOVSHDUP %s, K7, %s", u, odd)
		e.f("VPSHRDVD %s, %s, %s", s, t.zero, odd) // shifts by the low five bits
		e.f("VPSRLD $20, %s, %s", d, s)
		e.f("VPMULLD %s, %s, %s", s, odd, odd)
		e.f("VPANDQ %s, %s, %s", t.low12, d, d)
		e.f("VPADDD %s, %s, %s", d, x, x)
		e.f("VPADDD %s, %s, %s", odd, x, x)
		e.give(u, odd, oddR, s, d, r)
	}
	if emit {
		turn := e.take()
		e.f("VPCOMPRESSW.Z %s, K3, %s", words, words)
		e.f("KMOVD K3, AX")
		e.f("POPCNTL AX, AX")
		e.f("VMOVDQU64 (R12)(AX*2), %s", turn)
		e.f("VPERMW %s, %s, %s", words, turn, words)
		e.f("VMOVDQU64 %s, -64(BX)(DX*1)", words)
		e.f("ADDQ AX, AX")
		e.f("SUBQ AX, DX")
		e.give(words, turn)
	}
}
