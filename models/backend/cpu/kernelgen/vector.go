package main

import (
	"fmt"
	"math"
)

// vector is an instruction set seen by the element-wise kernels.
type vector struct {
	isa   string
	reg   string // register class
	lanes int    // float32 per register
}

func (v vector) r(i int) string { return fmt.Sprintf("%s%d", v.reg, i) }

// expConstants are the constants of exp32 in exp.go, by name; every entry is
// repeated to the width of the largest register so that it can be an operand.
var expConstants = []struct {
	name string
	bits uint32
}{
	{"log2e", math.Float32bits(1.44269504088896341)},
	{"magic", math.Float32bits(12582912)},
	{"ln2hi", math.Float32bits(0.693359375)},
	{"ln2lo", math.Float32bits(-2.12194440e-4)},
	{"p0", math.Float32bits(1.9875691500e-4)},
	{"p1", math.Float32bits(1.3981999507e-3)},
	{"p2", math.Float32bits(8.3334519073e-3)},
	{"p3", math.Float32bits(4.1665795894e-2)},
	{"p4", math.Float32bits(1.6666665459e-1)},
	{"p5", math.Float32bits(5.0000001201e-1)},
	{"one", math.Float32bits(1)},
	{"low", math.Float32bits(-87.336540)},
	{"high", math.Float32bits(88.376260)},
	{"inf", math.Float32bits(float32(math.Inf(1)))},
	{"minf", math.Float32bits(float32(math.Inf(-1)))},
	{"bias", 127},
	{"sign", 1 << 31},
}

const constantBytes = 64

// constants emits the constants of exp32, each repeated over size bytes, and
// the mask of the last vector of a row.
func constants(e *emitter, size int) {
	fmt.Fprintf(e, "\n// Constants of exp32, each repeated over %d bytes.\n", size)
	for i, c := range expConstants {
		for b := 0; b < size; b += 8 {
			fmt.Fprintf(e, "DATA expConstants<>+%d(SB)/8, $0x%08x%08x // %s\n", i*size+b, c.bits, c.bits, c.name)
		}
	}
	fmt.Fprintf(e, "GLOBL expConstants<>(SB), RODATA|NOPTR, $%d\n", len(expConstants)*size)
	const half = 64
	e.WriteString("\n// 16 zeros, then 16 words of ones.\n")
	for b := 0; b < 2*half; b += 8 {
		bits := "0"
		if b >= half {
			bits = "-1"
		}
		fmt.Fprintf(e, "DATA tailMask<>+%d(SB)/8, $%s\n", b, bits)
	}
	fmt.Fprintf(e, "GLOBL tailMask<>(SB), RODATA|NOPTR, $%d\n", 2*half)
}

func constant(name string) string {
	for i, c := range expConstants {
		if c.name == name {
			return fmt.Sprintf("expConstants<>+%d(SB)", i*constantBytes)
		}
	}
	panic("kernelgen: no constant " + name)
}

// exp emits y = exp32(x), the operations of exp.go in their order. It uses
// registers t..t+3 and leaves x as it is.
func (v vector) exp(e *emitter, x, y string, t int) {
	n, r, p, q := v.r(t), v.r(t+1), v.r(t+2), v.r(t+3)
	e.f("VMULPS %s, %s, %s", constant("log2e"), x, n)
	e.f("VADDPS %s, %s, %s", constant("magic"), n, n)
	e.f("VSUBPS %s, %s, %s", constant("magic"), n, n)
	e.f("VMULPS %s, %s, %s", constant("ln2hi"), n, q)
	e.f("VSUBPS %s, %s, %s", q, x, r)
	e.f("VMULPS %s, %s, %s", constant("ln2lo"), n, q)
	e.f("VSUBPS %s, %s, %s", q, r, r)
	e.f("VMULPS %s, %s, %s", constant("p0"), r, p)
	for i := 1; i <= 5; i++ {
		e.f("VADDPS %s, %s, %s", constant(fmt.Sprintf("p%d", i)), p, p)
		if i < 5 {
			e.f("VMULPS %s, %s, %s", r, p, p)
		}
	}
	e.f("VMULPS %s, %s, %s", r, r, q)
	e.f("VMULPS %s, %s, %s", q, p, p)
	e.f("VADDPS %s, %s, %s", r, p, p)
	e.f("VADDPS %s, %s, %s", constant("one"), p, p)
	e.f("VCVTPS2DQ %s, %s", n, n)
	e.f("VPADDD %s, %s, %s", constant("bias"), n, n)
	e.f("VPSLLD $23, %s, %s", n, n)
	e.f("VMULPS %s, %s, %s", n, p, p)
	// 0 where x <= low, +Inf where x > high, else p (NaN stays NaN).
	const lessOrEqual, greater = 0x12, 0x1e // LE_OQ, GT_OQ
	if v.isa == "avx512" {
		e.f("VCMPPS $%d, %s, %s, K1", lessOrEqual, constant("low"), x)
		e.f("VCMPPS $%d, %s, %s, K2", greater, constant("high"), x)
		e.f("VPXORQ %[1]s, %[1]s, %[1]s", q)
		e.f("VMOVAPS %s, K1, %s", q, p)
		e.f("VMOVUPS %s, K2, %s", constant("inf"), p)
		e.f("VMOVAPS %s, %s", p, y)
		return
	}
	e.f("VCMPPS $%d, %s, %s, %s", lessOrEqual, constant("low"), x, q)
	e.f("VANDNPS %s, %s, %s", p, q, p)
	e.f("VCMPPS $%d, %s, %s, %s", greater, constant("high"), x, q)
	e.f("VMOVUPS %s, %s", constant("inf"), n)
	e.f("VBLENDVPS %s, %s, %s, %s", q, n, p, y)
}

// scaleMax: x[i] *= scale; returns the largest, n a positive multiple of 16.
func scaleMax(e *emitter, v vector) {
	name := "scaleMax" + v.isa
	fmt.Fprintf(e, "\n// func %s(x *float32, n int, scale float32) float32\nTEXT ·%s(SB), NOSPLIT, $0-28\n", name, name)
	e.f("MOVQ x+0(FP), AX")
	e.f("MOVQ n+8(FP), CX")
	e.f("VBROADCASTSS scale+16(FP), %s", v.r(0))
	e.f("VMULPS (AX), %s, %s", v.r(0), v.r(1)) // first values start the maximum
	e.label(name + "_loop")
	e.f("VMULPS (AX), %s, %s", v.r(0), v.r(2))
	e.f("VMOVUPS %s, (AX)", v.r(2))
	e.f("VMAXPS %s, %s, %s", v.r(1), v.r(2), v.r(1))
	e.f("ADDQ $%d, AX", 4*v.lanes)
	e.f("SUBQ $%d, CX", v.lanes)
	e.f("JNZ %s_loop", name)
	v.reduceMax(e)
	e.f("VMOVSS X1, ret+24(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}

// expSum: y[i] = exp32(x[i]-top) (not stored when y is nil) and lanes[i%8] +=
// float64(y[i]), n a multiple of 16.
func expSum(e *emitter, v vector) {
	name := "expSum" + v.isa
	fmt.Fprintf(e, "\n// func %s(x *float32, n int, top float32, y *float32, lanes *[8]float64)\nTEXT ·%s(SB), NOSPLIT, $0-40\n", name, name)
	e.f("MOVQ x+0(FP), AX")
	e.f("MOVQ n+8(FP), CX")
	e.f("VBROADCASTSS top+16(FP), %s", v.r(0))
	e.f("MOVQ y+24(FP), DI")
	e.f("MOVQ lanes+32(FP), SI")
	if v.isa == "avx512" {
		e.f("VMOVUPD (SI), Z1")
	} else {
		e.f("VMOVUPD (SI), Y1")
		e.f("VMOVUPD 32(SI), Y2")
	}
	e.label(name + "_loop")
	e.f("VMOVUPS (AX), %s", v.r(3))
	e.f("VSUBPS %s, %s, %s", v.r(0), v.r(3), v.r(3))
	v.exp(e, v.r(3), v.r(8), 4)
	e.f("TESTQ DI, DI")
	e.f("JZ %s_sum", name)
	e.f("VMOVUPS %s, (DI)", v.r(8))
	e.f("ADDQ $%d, DI", 4*v.lanes)
	e.label(name + "_sum")
	v.addLanes(e, 8, 1, 9, false)
	e.f("ADDQ $%d, AX", 4*v.lanes)
	e.f("SUBQ $%d, CX", v.lanes)
	e.f("JNZ %s_loop", name)
	if v.isa == "avx512" {
		e.f("VMOVUPD Z1, (SI)")
	} else {
		e.f("VMOVUPD Y1, (SI)")
		e.f("VMOVUPD Y2, 32(SI)")
	}
	e.f("VZEROUPPER")
	e.f("RET")
}

// siluMul: gate[i] = gate[i]/(1+exp32(-gate[i])) * up[i], n a positive multiple of 16.
func siluMul(e *emitter, v vector) {
	name := "siluMul" + v.isa
	fmt.Fprintf(e, "\n// func %s(gate, up *float32, n int)\nTEXT ·%s(SB), NOSPLIT, $0-24\n", name, name)
	e.f("MOVQ gate+0(FP), AX")
	e.f("MOVQ up+8(FP), BX")
	e.f("MOVQ n+16(FP), CX")
	e.label(name + "_loop")
	e.f("VMOVUPS (AX), %s", v.r(0))
	if v.isa == "avx512" {
		e.f("VPXORQ %s, %s, %s", constant("sign"), v.r(0), v.r(1))
	} else {
		e.f("VXORPS %s, %s, %s", constant("sign"), v.r(0), v.r(1))
	}
	v.exp(e, v.r(1), v.r(6), 2)
	e.f("VADDPS %s, %s, %s", constant("one"), v.r(6), v.r(6))
	e.f("VDIVPS %s, %s, %s", v.r(6), v.r(0), v.r(0))
	e.f("VMULPS (BX), %s, %s", v.r(0), v.r(0))
	e.f("VMOVUPS %s, (AX)", v.r(0))
	e.f("ADDQ $%d, AX", 4*v.lanes)
	e.f("ADDQ $%d, BX", 4*v.lanes)
	e.f("SUBQ $%d, CX", v.lanes)
	e.f("JNZ %s_loop", name)
	e.f("VZEROUPPER")
	e.f("RET")
}

// reduceMax emits the largest lane of register 1 into lane 0 of it, register
// 2 is lost.
func (v vector) reduceMax(e *emitter) {
	if v.isa == "avx512" {
		e.f("VEXTRACTF64X4 $1, Z1, Y2")
		e.f("VMAXPS Y2, Y1, Y1")
	}
	e.f("VEXTRACTF128 $1, Y1, X2")
	e.f("VMAXPS X2, X1, X1")
	e.f("VPERMILPS $0x4e, X1, X2")
	e.f("VMAXPS X2, X1, X1")
	e.f("VPERMILPS $0xb1, X1, X2")
	e.f("VMAXPS X2, X1, X1")
}

// zeroLanes clears the eight float64 lanes in registers t and t+1 (one
// register is enough for AVX-512).
func (v vector) zeroLanes(e *emitter, t int) {
	if v.isa == "avx512" {
		e.f("VPXORQ Z%[1]d, Z%[1]d, Z%[1]d", t)
		return
	}
	e.f("VXORPD Y%[1]d, Y%[1]d, Y%[1]d", t)
	e.f("VXORPD Y%[1]d, Y%[1]d, Y%[1]d", t+1)
}

// addLanes adds the float32 register x to the lanes, element i to lane i
// mod 8; registers u, u+1 are lost. squared adds the squares.
func (v vector) addLanes(e *emitter, x, t, u int, squared bool) {
	square := func(reg string) {
		if squared {
			e.f("VMULPD %[1]s, %[1]s, %[1]s", reg)
		}
	}
	if v.isa == "avx512" {
		e.f("VCVTPS2PD Y%d, Z%d", x, u)
		e.f("VEXTRACTF64X4 $1, Z%d, Y%d", x, u+1)
		e.f("VCVTPS2PD Y%[1]d, Z%[1]d", u+1)
		square(fmt.Sprintf("Z%d", u))
		square(fmt.Sprintf("Z%d", u+1))
		e.f("VADDPD Z%d, Z%[2]d, Z%[2]d", u, t)
		e.f("VADDPD Z%d, Z%[2]d, Z%[2]d", u+1, t)
		return
	}
	e.f("VCVTPS2PD X%d, Y%d", x, u)
	e.f("VEXTRACTF128 $1, Y%d, X%d", x, u+1)
	e.f("VCVTPS2PD X%[1]d, Y%[1]d", u+1)
	square(fmt.Sprintf("Y%d", u))
	square(fmt.Sprintf("Y%d", u+1))
	e.f("VADDPD Y%d, Y%[2]d, Y%[2]d", u, t)
	e.f("VADDPD Y%d, Y%[2]d, Y%[2]d", u+1, t+1)
}

// sumLanes leaves the sum of the lanes, ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)),
// in the first lane of register t; register u is lost.
func (v vector) sumLanes(e *emitter, t, u int) {
	if v.isa == "avx512" {
		e.f("VEXTRACTF64X4 $1, Z%d, Y%d", t, u)
		e.f("VADDPD Y%d, Y%[2]d, Y%[2]d", u, t)
	} else {
		e.f("VADDPD Y%d, Y%[2]d, Y%[2]d", t+1, t)
	}
	e.f("VEXTRACTF128 $1, Y%d, X%d", t, u)
	e.f("VADDPD X%d, X%[2]d, X%[2]d", u, t)
	e.f("VPERMILPD $1, X%d, X%d", t, u)
	e.f("VADDSD X%d, X%[2]d, X%[2]d", u, t)
}

// softmaxRows: the weights of attention, for rows that see one key more each.
func softmaxRows(e *emitter, v vector) {
	name := "softmaxRows" + v.isa
	bytes := 4 * v.lanes
	fmt.Fprintf(e, "\n// func %s(t *softmaxCall)\nTEXT ·%s(SB), NOSPLIT, $0-8\n", name, name)
	e.f("MOVQ t+0(FP), R15")
	e.f("MOVQ softmaxCall_x(R15), AX")
	e.f("MOVQ softmaxCall_ld(R15), SI")
	e.f("MOVQ softmaxCall_seen(R15), BX")
	e.f("MOVQ softmaxCall_rows(R15), R8")
	e.f("MOVQ softmaxCall_padded(R15), R9")
	e.f("MOVQ softmaxCall_inverse(R15), R10")
	e.f("VBROADCASTSS softmaxCall_scale(R15), %s", v.r(0))
	e.label(name + "_row")
	// -Inf from the first key not seen to the end of its vectors of 16.
	e.f("LEAQ 15(BX), CX")
	e.f("ANDQ $-16, CX") // elements to the end of the vectors
	e.f("LEAQ tailMask<>(SB), DI")
	e.f("MOVQ BX, DX")
	e.f("SUBQ CX, DX") // -(elements of the last vector not seen)
	e.f("SHLQ $2, DX")
	e.f("SUBQ DX, DI") // mask: 16 - n zeros, then n ones
	e.f("LEAQ -64(AX)(CX*4), DX")
	for o := 0; o < 64; o += bytes {
		if v.isa == "avx512" {
			// -Inf is the exponent without sign: mask it in.
			e.f("VMOVUPS (DI), Z2")
			e.f("VPTESTMD Z2, Z2, K1")
			e.f("VMOVUPS (DX), Z3")
			e.f("VBROADCASTSS %s, K1, Z3", constant("minf"))
			e.f("VMOVUPS Z3, (DX)")
			continue
		}
		e.f("VMOVUPS %d(DI), Y2", o)
		e.f("VMOVUPS %d(DX), Y3", o)
		e.f("VMOVUPS %s, Y4", constant("minf"))
		e.f("VBLENDVPS Y2, Y4, Y3, Y3")
		e.f("VMOVUPS Y3, %d(DX)", o)
	}
	e.f("MOVQ AX, DI")
	e.f("MOVQ CX, DX")
	e.f("VMOVUPS %s, %s", constant("minf"), v.r(1))
	e.label(name + "_max")
	e.f("VMULPS (DI), %s, %s", v.r(0), v.r(2))
	e.f("VMOVUPS %s, (DI)", v.r(2))
	e.f("VMAXPS %s, %s, %s", v.r(1), v.r(2), v.r(1))
	e.f("ADDQ $%d, DI", bytes)
	e.f("SUBQ $%d, DX", v.lanes)
	e.f("JNZ %s_max", name)
	v.reduceMax(e)
	e.f("VBROADCASTSS X1, %s", v.r(1))
	e.f("MOVQ AX, DI")
	e.f("MOVQ CX, DX")
	v.zeroLanes(e, 2)
	e.label(name + "_exp")
	e.f("VMOVUPS (DI), %s", v.r(4))
	e.f("VSUBPS %s, %s, %s", v.r(1), v.r(4), v.r(4))
	v.exp(e, v.r(4), v.r(9), 5)
	e.f("VMOVUPS %s, (DI)", v.r(9))
	v.addLanes(e, 9, 2, 10, false)
	e.f("ADDQ $%d, DI", bytes)
	e.f("SUBQ $%d, DX", v.lanes)
	e.f("JNZ %s_exp", name)
	v.sumLanes(e, 2, 4)
	e.f("MOVQ $0x3ff0000000000000, DX")
	e.f("VMOVQ DX, X4")
	e.f("VDIVSD X2, X4, X4")
	e.f("VCVTSD2SS X4, X4, X4")
	e.f("VMOVSS X4, (R10)")
	e.f("MOVQ R9, DX")
	if v.isa == "avx512" {
		e.f("VPXORQ Z4, Z4, Z4")
	} else {
		e.f("VXORPS Y4, Y4, Y4")
	}
	e.f("SUBQ CX, DX")
	e.f("JZ %s_next", name)
	e.label(name + "_clear")
	e.f("VMOVUPS %s, (DI)", v.r(4))
	e.f("ADDQ $%d, DI", bytes)
	e.f("SUBQ $%d, DX", v.lanes)
	e.f("JNZ %s_clear", name)
	e.label(name + "_next")
	e.f("ADDQ SI, AX")
	e.f("INCQ BX")
	e.f("ADDQ $4, R10")
	e.f("DECQ R8")
	e.f("JNZ %s_row", name)
	e.f("VZEROUPPER")
	e.f("RET")
}

// normRows: y = x / sqrt(mean(x²) + epsilon) * gain, columns a multiple of 16.
func normRows(e *emitter, v vector) {
	name := "normRows" + v.isa
	bytes := 4 * v.lanes
	fmt.Fprintf(e, "\n// func %s(t *normCall)\nTEXT ·%s(SB), NOSPLIT, $0-8\n", name, name)
	e.f("MOVQ t+0(FP), R15")
	e.f("MOVQ normCall_x(R15), AX")
	e.f("MOVQ normCall_y(R15), BX")
	e.f("MOVQ normCall_rows(R15), R8")
	e.f("MOVQ normCall_cols(R15), CX")
	e.label(name + "_row")
	v.zeroLanes(e, 2)
	e.f("MOVQ AX, DI")
	e.f("MOVQ CX, DX")
	e.label(name + "_square")
	e.f("VMOVUPS (DI), %s", v.r(4))
	v.addLanes(e, 4, 2, 5, true)
	e.f("ADDQ $%d, DI", bytes)
	e.f("SUBQ $%d, DX", v.lanes)
	e.f("JNZ %s_square", name)
	v.sumLanes(e, 2, 4)
	e.f("VXORPD X4, X4, X4")
	e.f("VCVTSI2SDQ CX, X4, X4")
	e.f("VDIVSD X4, X2, X2")
	e.f("VADDSD normCall_epsilon(R15), X2, X2")
	e.f("VSQRTSD X2, X2, X2")
	e.f("MOVQ $0x3ff0000000000000, DX")
	e.f("VMOVQ DX, X4")
	e.f("VDIVSD X2, X4, X4")
	e.f("VCVTSD2SS X4, X4, X4")
	e.f("VBROADCASTSS X4, %s", v.r(0))
	e.f("MOVQ normCall_inverse(R15), SI")
	e.f("TESTQ SI, SI")
	e.f("JZ %s_gain", name)
	e.f("VMOVSS X4, (SI)")
	e.f("ADDQ $4, SI")
	e.f("MOVQ SI, normCall_inverse(R15)")
	e.label(name + "_gain")
	e.f("MOVQ normCall_gain(R15), SI")
	e.f("MOVQ CX, DX")
	e.label(name + "_scale")
	e.f("VMULPS (AX), %s, %s", v.r(0), v.r(1))
	e.f("VMULPS (SI), %[1]s, %[1]s", v.r(1))
	e.f("VMOVUPS %s, (BX)", v.r(1))
	for _, r := range []string{"AX", "BX", "SI"} {
		e.f("ADDQ $%d, %s", bytes, r)
	}
	e.f("SUBQ $%d, DX", v.lanes)
	e.f("JNZ %s_scale", name)
	e.f("DECQ R8")
	e.f("JNZ %s_row", name)
	e.f("VZEROUPPER")
	e.f("RET")
}

// rotateRow: the pairs of every head of a row, four at a time: heads are short.
func rotateRow(e *emitter) {
	const name = "rotateRowavx2"
	fmt.Fprintf(e, "\n// func %s(t *rotateCall)\nTEXT ·%s(SB), NOSPLIT, $0-8\n", name, name)
	e.f("MOVQ t+0(FP), R15")
	e.f("MOVQ rotateCall_x(R15), AX")
	e.f("MOVQ rotateCall_heads(R15), R8")
	e.f("MOVQ rotateCall_headBytes(R15), R9")
	e.f("MOVQ rotateCall_half(R15), R10")
	e.f("MOVQ rotateCall_cos(R15), R11")
	e.f("MOVQ rotateCall_sin(R15), R12")
	e.label(name + "_head")
	e.f("XORQ CX, CX")
	e.f("LEAQ (AX)(R10*4), BX")
	e.label(name + "_loop")
	e.f("VMOVUPS (AX)(CX*4), X0")
	e.f("VMOVUPS (BX)(CX*4), X1")
	e.f("VMOVUPS (R11)(CX*4), X2")
	e.f("VMOVUPS (R12)(CX*4), X3")
	e.f("VMULPS X2, X0, X4")
	e.f("VMULPS X3, X1, X5")
	e.f("VSUBPS X5, X4, X4")
	e.f("VMULPS X2, X1, X1")
	e.f("VMULPS X3, X0, X0")
	e.f("VADDPS X0, X1, X1")
	e.f("VMOVUPS X4, (AX)(CX*4)")
	e.f("VMOVUPS X1, (BX)(CX*4)")
	e.f("ADDQ $4, CX")
	e.f("CMPQ CX, R10")
	e.f("JLT %s_loop", name)
	e.f("ADDQ R9, AX")
	e.f("DECQ R8")
	e.f("JNZ %s_head", name)
	e.f("RET")
}
