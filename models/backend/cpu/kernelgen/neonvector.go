package main

import "fmt"

// Registers that hold the constants of exp32 in the NEON functions, from
// neonConstants on, in the order of expConstants. The others are free for
// values.
const neonConstants = 15

func neonConstant(name string) int {
	for i, c := range expConstants {
		if c.name == name {
			return neonConstants + i
		}
	}
	panic("kernelgen: no constant " + name)
}

// neonBases are the words of instructions on registers d, n and m.
var neonBases = map[string]uint32{
	"FADD": 0x4e20d400, "FSUB": 0x4ea0d400, "FMUL": 0x6e20dc00, "FDIV": 0x6e20fc00, "FMAX": 0x4e20f400, // 4 floats
	"FADD2D": 0x4e60d400, "FMUL2D": 0x6e60dc00, // 2 doubles
	"FCMGE": 0x6e20e400, "FCMGT": 0x6ea0e400, "BIC": 0x4e601c00, "BIT": 0x6ea01c00, "ADD": 0x4ea08400,
}

// neonPairs are the words of instructions on registers d and n.
var neonPairs = map[string]uint32{
	"FCVTNS": 0x4e21a800, "FCVTL": 0x0e617800, "FCVTL2": 0x4e617800, "FMAXV": 0x6e30f800, "FADDP": 0x7e70d800,
}

// three emits d = n op m.
func three(e *emitter, op string, d, n, m int) {
	e.f("WORD $%#08x // %s V%d, V%d, V%d", neonBases[op]|uint32(m)<<16|uint32(n)<<5|uint32(d), op, d, n, m)
}

// two emits d = op n.
func two(e *emitter, op string, d, n int) {
	e.f("WORD $%#08x // %s V%d, V%d", neonPairs[op]|uint32(n)<<5|uint32(d), op, d, n)
}

// neonLoadConstants fills the constant registers; it uses R25.
func neonLoadConstants(e *emitter) {
	e.f("MOVD $expConstants<>(SB), R25")
	for i := range expConstants {
		e.f("VLD1.P %d(R25), [V%d.S4]", 16, neonConstants+i)
	}
}

// neonExp emits y = exp32(x), the operations of exp.go in their order, with
// registers t..t+3; x keeps its value.
func neonExp(e *emitter, x, y, t int) {
	n, r, p, q := t, t+1, t+2, t+3
	c := neonConstant
	three(e, "FMUL", n, x, c("log2e"))
	three(e, "FADD", n, n, c("magic"))
	three(e, "FSUB", n, n, c("magic"))
	three(e, "FMUL", q, n, c("ln2hi"))
	three(e, "FSUB", r, x, q)
	three(e, "FMUL", q, n, c("ln2lo"))
	three(e, "FSUB", r, r, q)
	three(e, "FMUL", p, r, c("p0"))
	for i := 1; i <= 5; i++ {
		three(e, "FADD", p, p, c(fmt.Sprintf("p%d", i)))
		if i < 5 {
			three(e, "FMUL", p, p, r)
		}
	}
	three(e, "FMUL", q, r, r)
	three(e, "FMUL", p, p, q)
	three(e, "FADD", p, p, r)
	three(e, "FADD", p, p, c("one"))
	two(e, "FCVTNS", n, n)
	three(e, "ADD", n, n, c("bias"))
	e.f("VSHL $23, V%[1]d.S4, V%[1]d.S4", n)
	three(e, "FMUL", p, p, n)
	// 0 where x <= low, +Inf where x > high, else p (NaN stays NaN).
	three(e, "FCMGE", q, c("low"), x)
	three(e, "BIC", p, p, q)
	three(e, "FCMGT", q, x, c("high"))
	three(e, "BIT", p, c("inf"), q)
	e.f("VMOV V%d.B16, V%d.B16", p, y)
}

// neonLanes adds the eight floats of registers x and x+1 (their squares) to
// the float64 lanes in registers t..t+3; register u is lost.
func neonLanes(e *emitter, x, t, u int, squared bool) {
	for i := range 4 {
		two(e, []string{"FCVTL", "FCVTL2"}[i%2], u, x+i/2)
		if squared {
			three(e, "FMUL2D", u, u, u)
		}
		three(e, "FADD2D", t+i, t+i, u)
	}
}

// neonSumLanes leaves the sum of the lanes in the first of register t.
func neonSumLanes(e *emitter, t int) {
	three(e, "FADD2D", t, t, t+2)
	three(e, "FADD2D", t+1, t+1, t+3)
	three(e, "FADD2D", t, t, t+1)
	two(e, "FADDP", t, t)
}

func neonZero(e *emitter, from, n int) {
	for i := range n {
		e.f("VEOR V%[1]d.B16, V%[1]d.B16, V%[1]d.B16", from+i)
	}
}

// neonVectors emits the element-wise functions of exp.go.
func neonVectors(e *emitter) {
	constants(e, 16)
	text := func(name, arguments string, size int) {
		fmt.Fprintf(e, "\n// func %[1]s(%[2]s)\nTEXT ·%[1]s(SB), NOSPLIT, $0-%[3]d\n", name, arguments, size)
	}
	next := func(counter, label string, step int) {
		e.f("SUBS $%d, %s, %s", step, counter, counter)
		e.f("BNE %s", label)
	}

	text("scaleMaxneon", "x *float32, n int, scale float32) (ret float32", 28)
	e.f("MOVD x+0(FP), R0")
	e.f("MOVD n+8(FP), R1")
	e.f("FMOVS scale+16(FP), F0")
	e.f("VDUP V0.S[0], V0.S4")
	e.f("VLD1 (R0), [V1.S4]")
	three(e, "FMUL", 1, 1, 0) // first values start the maximum
	e.label("scaleMaxneon_loop")
	e.f("VLD1 (R0), [V2.S4]")
	three(e, "FMUL", 2, 2, 0)
	e.f("VST1.P [V2.S4], 16(R0)")
	three(e, "FMAX", 1, 1, 2)
	next("R1", "scaleMaxneon_loop", 4)
	two(e, "FMAXV", 1, 1)
	e.f("FMOVS F1, ret+24(FP)")
	e.f("RET")

	text("expSumneon", "x *float32, n int, top float32, y *float32, lanes *[8]float64", 40)
	e.f("MOVD x+0(FP), R0")
	e.f("MOVD n+8(FP), R1")
	e.f("FMOVS top+16(FP), F0")
	e.f("VDUP V0.S[0], V0.S4")
	e.f("MOVD y+24(FP), R2")
	e.f("MOVD lanes+32(FP), R3")
	neonLoadConstants(e)
	e.f("VLD1 (R3), [V1.D2, V2.D2, V3.D2, V4.D2]")
	e.label("expSumneon_loop")
	e.f("VLD1.P 32(R0), [V5.S4, V6.S4]")
	for i := 5; i <= 6; i++ {
		three(e, "FSUB", i, i, 0)
		neonExp(e, i, i, 8)
	}
	e.f("CBZ R2, expSumneon_sum")
	e.f("VST1.P [V5.S4, V6.S4], 32(R2)")
	e.label("expSumneon_sum")
	neonLanes(e, 5, 1, 7, false)
	next("R1", "expSumneon_loop", 8)
	e.f("VST1 [V1.D2, V2.D2, V3.D2, V4.D2], (R3)")
	e.f("RET")

	text("siluMulneon", "gate, up *float32, n int", 24)
	e.f("MOVD gate+0(FP), R0")
	e.f("MOVD up+8(FP), R1")
	e.f("MOVD n+16(FP), R2")
	neonLoadConstants(e)
	e.label("siluMulneon_loop")
	e.f("VLD1 (R0), [V0.S4]")
	e.f("VEOR V0.B16, V%d.B16, V1.B16", neonConstant("sign"))
	neonExp(e, 1, 1, 8)
	three(e, "FADD", 1, 1, neonConstant("one"))
	three(e, "FDIV", 0, 0, 1)
	e.f("VLD1.P 16(R1), [V1.S4]")
	three(e, "FMUL", 0, 0, 1)
	e.f("VST1.P [V0.S4], 16(R0)")
	next("R2", "siluMulneon_loop", 4)
	e.f("RET")

	// R0 call, R1 row, R2 row stride, R3 seen, R4 rows, R5 padded, R6 inverse,
	// R7 elements to the end of the vectors of 16.
	text("softmaxRowsneon", "t *softmaxCall", 8)
	e.f("MOVD t+0(FP), R0")
	for _, l := range [][2]string{{"x", "R1"}, {"ld", "R2"}, {"seen", "R3"}, {"rows", "R4"}, {"padded", "R5"}, {"inverse", "R6"}} {
		e.f("MOVD softmaxCall_%s(R0), %s", l[0], l[1])
	}
	e.f("FMOVS softmaxCall_scale(R0), F0")
	e.f("VDUP V0.S[0], V0.S4")
	neonLoadConstants(e)
	e.label("softmaxRowsneon_row")
	e.f("ADD $15, R3, R7")
	e.f("AND $~15, R7, R7")
	e.f("SUB R3, R7, R8") // elements of the last vector not seen
	e.f("MOVD $tailMask<>(SB), R9")
	e.f("ADD R8<<2, R9, R9")
	e.f("ADD R7<<2, R1, R10")
	e.f("SUB $64, R10, R10")
	e.f("VLD1 (R9), [V1.S4, V2.S4, V3.S4, V4.S4]")
	e.f("VLD1 (R10), [V5.S4, V6.S4, V7.S4, V8.S4]")
	for i := range 4 {
		three(e, "BIT", 5+i, neonConstant("minf"), 1+i)
	}
	e.f("VST1 [V5.S4, V6.S4, V7.S4, V8.S4], (R10)")
	e.f("MOVD R1, R8")
	e.f("MOVD R7, R9")
	e.f("VMOV V%d.B16, V1.B16", neonConstant("minf"))
	e.label("softmaxRowsneon_max")
	e.f("VLD1 (R8), [V2.S4]")
	three(e, "FMUL", 2, 2, 0)
	e.f("VST1.P [V2.S4], 16(R8)")
	three(e, "FMAX", 1, 1, 2)
	next("R9", "softmaxRowsneon_max", 4)
	two(e, "FMAXV", 1, 1)
	e.f("VDUP V1.S[0], V14.S4")
	e.f("MOVD R1, R8")
	e.f("MOVD R7, R9")
	neonZero(e, 1, 4)
	e.label("softmaxRowsneon_exp")
	e.f("VLD1 (R8), [V5.S4, V6.S4]")
	for i := 5; i <= 6; i++ {
		three(e, "FSUB", i, i, 14)
		neonExp(e, i, i, 8)
	}
	e.f("VST1.P [V5.S4, V6.S4], 32(R8)")
	neonLanes(e, 5, 1, 7, false)
	next("R9", "softmaxRowsneon_exp", 8)
	neonSumLanes(e, 1)
	e.f("FMOVD $1.0, F2")
	e.f("FDIVD F1, F2, F2")
	e.f("FCVTDS F2, F2")
	e.f("FMOVS F2, (R6)")
	neonZero(e, 1, 1)
	e.f("SUBS R7, R5, R9")
	e.f("BEQ softmaxRowsneon_next")
	e.label("softmaxRowsneon_clear")
	e.f("VST1.P [V1.S4], 16(R8)")
	next("R9", "softmaxRowsneon_clear", 4)
	e.label("softmaxRowsneon_next")
	e.f("ADD R2, R1, R1")
	e.f("ADD $1, R3, R3")
	e.f("ADD $4, R6, R6")
	next("R4", "softmaxRowsneon_row", 1)
	e.f("RET")

	text("normRowsneon", "t *normCall", 8)
	e.f("MOVD t+0(FP), R0")
	for _, l := range [][2]string{{"x", "R1"}, {"y", "R2"}, {"rows", "R4"}, {"cols", "R5"}} {
		e.f("MOVD normCall_%s(R0), %s", l[0], l[1])
	}
	e.f("FMOVD normCall_epsilon(R0), F9")
	e.f("SCVTFD R5, F10")
	e.f("FMOVD $1.0, F11")
	e.label("normRowsneon_row")
	neonZero(e, 1, 4)
	e.f("MOVD R1, R8")
	e.f("MOVD R5, R9")
	e.label("normRowsneon_square")
	e.f("VLD1.P 32(R8), [V5.S4, V6.S4]")
	neonLanes(e, 5, 1, 7, true)
	next("R9", "normRowsneon_square", 8)
	neonSumLanes(e, 1)
	e.f("FDIVD F10, F1, F1")
	e.f("FADDD F9, F1, F1")
	e.f("FSQRTD F1, F1")
	e.f("FDIVD F1, F11, F1")
	e.f("FCVTDS F1, F1")
	e.f("VDUP V1.S[0], V0.S4")
	e.f("MOVD normCall_inverse(R0), R8")
	e.f("CBZ R8, normRowsneon_gain")
	e.f("FMOVS F1, (R8)")
	e.f("ADD $4, R8, R8")
	e.f("MOVD R8, normCall_inverse(R0)")
	e.label("normRowsneon_gain")
	e.f("MOVD normCall_gain(R0), R8")
	e.f("MOVD R5, R9")
	e.label("normRowsneon_scale")
	e.f("VLD1.P 16(R1), [V1.S4]")
	e.f("VLD1.P 16(R8), [V2.S4]")
	three(e, "FMUL", 1, 1, 0)
	three(e, "FMUL", 1, 1, 2)
	e.f("VST1.P [V1.S4], 16(R2)")
	next("R9", "normRowsneon_scale", 4)
	next("R4", "normRowsneon_row", 1)
	e.f("RET")

	text("rotateRowneon", "t *rotateCall", 8)
	e.f("MOVD t+0(FP), R0")
	for _, l := range [][2]string{{"x", "R1"}, {"heads", "R2"}, {"headBytes", "R3"}, {"half", "R4"}} {
		e.f("MOVD rotateCall_%s(R0), %s", l[0], l[1])
	}
	e.label("rotateRowneon_head")
	e.f("MOVD rotateCall_cos(R0), R5")
	e.f("MOVD rotateCall_sin(R0), R6")
	e.f("MOVD R1, R7")
	e.f("ADD R4<<2, R1, R8")
	e.f("MOVD R4, R9")
	e.label("rotateRowneon_loop")
	e.f("VLD1 (R7), [V0.S4]")
	e.f("VLD1 (R8), [V1.S4]")
	e.f("VLD1.P 16(R5), [V2.S4]")
	e.f("VLD1.P 16(R6), [V3.S4]")
	three(e, "FMUL", 4, 0, 2)
	three(e, "FMUL", 5, 1, 3)
	three(e, "FSUB", 4, 4, 5)
	three(e, "FMUL", 1, 1, 2)
	three(e, "FMUL", 0, 0, 3)
	three(e, "FADD", 1, 1, 0)
	e.f("VST1.P [V4.S4], 16(R7)")
	e.f("VST1.P [V1.S4], 16(R8)")
	next("R9", "rotateRowneon_loop", 4)
	e.f("ADD R3, R1, R1")
	next("R2", "rotateRowneon_head", 1)
	e.f("RET")
}
