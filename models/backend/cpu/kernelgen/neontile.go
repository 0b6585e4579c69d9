package main

import (
	"fmt"
	"strings"
)

// ARM64 returns the text of gemm_arm64.s. The assembler lacks mnemonics for
// vector float arithmetic: those instructions are written as words.
func ARM64() string {
	e := &emitter{}
	header(e, "!noasm")
	for _, t := range neonTiles {
		neonTile(e, t)
	}
	neonVectors(e)
	neonPeak(e)
	neonRead(e)
	return e.String()
}

var neon = vector{"neon", "V", 4}

var neonTiles = []tileShape{
	{neon, 6, 1, false, false}, {neon, 4, 1, false, false}, {neon, 2, 1, false, false}, {neon, 1, 1, false, false},
}

// list is the operand of a load or store of n registers of four floats.
func list(from, n int) string {
	var r []string
	for i := range n {
		r = append(r, fmt.Sprintf("V%d.S4", from+i))
	}
	return "[" + strings.Join(r, ", ") + "]"
}

// neonTile emits one tile kernel of up to 6 rows x 16 columns: the sums in
// V0-V23, b in V24-V27, products in V28-V30, an element of a in V31. Rows of
// a are at R11-R16, b at R17.
func neonTile(e *emitter, t tileShape) {
	const vectors, b, element = 4, 24, 31
	name, rows := t.name(), t.rows
	acc := func(i, j int) int { return i*vectors + j }
	row := func(i int) string { return fmt.Sprintf("R%d", 11+i) }
	fmt.Fprintf(e, "\n// func %s(t *tileCall)\n", name)
	fmt.Fprintf(e, "TEXT ·%s(SB), 0, $%d-8\n", name, rows*64+32)
	e.f("MOVD t+0(FP), R0")
	for _, l := range [][2]string{{"tiles", "R1"}, {"a", "R2"}, {"lda", "R3"}, {"c", "R5"}, {"ldc", "R6"}, {"start", "R7"}, {"startStride", "R8"}, {"nextA", "R20"}} {
		e.f("MOVD tileCall_%s(R0), %s", l[0], l[1])
	}
	product := 0
	step := func(first bool) {
		e.f("VLD1.P 64(R17), %s", list(b, vectors))
		for i := range rows {
			e.f("VLD1R.P 4(%s), [V%d.S4]", row(i), element)
			for j := range vectors {
				if first {
					three(e, "FMUL", acc(i, j), b+j, element)
					continue
				}
				p := 28 + product%3
				product++
				three(e, "FMUL", p, b+j, element)
				three(e, "FADD", acc(i, j), acc(i, j), p)
			}
		}
	}
	// addPrevious adds the matrix at R21, row stride R22.
	addPrevious := func() {
		for i := range rows {
			e.f("VLD1 (R21), %s", list(b, vectors))
			for j := range vectors {
				three(e, "FADD", acc(i, j), acc(i, j), b+j)
			}
			e.f("ADD R22, R21, R21")
		}
	}
	blockLength := func() {
		e.f("MOVD $%d, R10", blockK)
		e.f("CMP R10, R9")
		e.f("CSEL LT, R9, R10, R10")
		e.f("SUB R10, R9, R9")
	}
	e.label(name + "_tile")
	e.f("MOVD R2, R11")
	for i := 1; i < rows; i++ {
		e.f("ADD R3, %s, %s", row(i-1), row(i))
	}
	e.f("MOVD tileCall_b(R0), R17")
	e.f("MOVD tileCall_k(R0), R9")
	e.f("MOVD R7, R21")
	e.f("MOVD R8, R22")
	for i := range rows * vectors {
		e.f("VEOR V%[1]d.B16, V%[1]d.B16, V%[1]d.B16", i)
	}
	blockLength()
	e.label(name + "_loop")
	e.f("CBZ R10, %s_flush", name)
	step(false)
	e.f("SUB $1, R10, R10")
	e.f("B %s_loop", name)
	e.label(name + "_flush")
	e.f("CBZ R9, %s_last", name)
	addPrevious()
	e.f("ADD $16, RSP, R21")
	for i := range rows {
		e.f("VST1.P %s, 64(R21)", list(acc(i, 0), vectors))
	}
	e.f("ADD $16, RSP, R21")
	e.f("MOVD $64, R22")
	blockLength()
	// The first term of a block needs no addition: see the note at tile.
	step(true)
	e.f("SUB $1, R10, R10")
	e.f("B %s_loop", name)
	e.label(name + "_last")
	addPrevious()
	e.f("MOVD R5, R21")
	for i := range rows {
		e.f("VST1 %s, (R21)", list(acc(i, 0), vectors))
		e.f("ADD R6, R21, R21")
	}
	e.f("MOVD R21, R5")
	e.f("ADD R20, R2, R2")
	e.f("MOVD $%d, R23", rows)
	e.f("MADD R8, R7, R23, R7")
	e.f("SUBS $1, R1, R1")
	e.f("BNE %s_tile", name)
	e.f("RET")
}

// neonPeak: n rounds of independent multiplications and additions.
func neonPeak(e *emitter) {
	const chains, products = 24, 6
	e.WriteString("\n// func peakneon(n int)\nTEXT ·peakneon(SB), NOSPLIT, $0-8\n")
	e.f("MOVD n+0(FP), R0")
	for i := 0; i <= chains+products; i++ {
		e.f("VEOR V%[1]d.B16, V%[1]d.B16, V%[1]d.B16", i)
	}
	e.label("peakneon_loop")
	for i := range chains {
		p := chains + i%products
		three(e, "FMUL", p, chains+products, chains+products)
		three(e, "FADD", i, i, p)
	}
	e.f("SUBS $1, R0, R0")
	e.f("BNE peakneon_loop")
	e.f("RET")
}

// neonRead: reads n floats, a positive multiple of 128, in four streams.
func neonRead(e *emitter) {
	e.WriteString("\n// func readMemoryneon(x *float32, n int)\nTEXT ·readMemoryneon(SB), NOSPLIT, $0-16\n")
	e.f("MOVD x+0(FP), R0")
	e.f("MOVD n+8(FP), R1")
	for i := 1; i < 4; i++ {
		e.f("ADD R1, R%d, R%d", []int{0, 0, 2, 3}[i], i+1)
	}
	e.label("readMemoryneon_loop")
	for i, r := range []string{"R0", "R2", "R3", "R4"} {
		for range 2 {
			e.f("VLD1.P 64(%s), %s", r, list(16, 4))
			for j := range 4 {
				three(e, "FADD", 4*i+j, 4*i+j, 16+j)
			}
		}
	}
	e.f("SUBS $128, R1, R1")
	e.f("BNE readMemoryneon_loop")
	e.f("RET")
}
