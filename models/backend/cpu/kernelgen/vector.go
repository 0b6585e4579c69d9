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
	{"bias", 127},
	{"sign", 1 << 31},
}

const constantBytes = 64

func constants(e *emitter) {
	e.WriteString("\n// Constants of exp32, each repeated over 64 bytes.\n")
	for i, c := range expConstants {
		for b := 0; b < constantBytes; b += 8 {
			fmt.Fprintf(e, "DATA expConstants<>+%d(SB)/8, $0x%08x%08x // %s\n", i*constantBytes+b, c.bits, c.bits, c.name)
		}
	}
	fmt.Fprintf(e, "GLOBL expConstants<>(SB), RODATA|NOPTR, $%d\n", len(expConstants)*constantBytes)
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
	if v.isa == "avx512" {
		e.f("VCVTPS2PD Y8, Z9")
		e.f("VEXTRACTF64X4 $1, Z8, Y10")
		e.f("VCVTPS2PD Y10, Z10")
		e.f("VADDPD Z9, Z1, Z1")
		e.f("VADDPD Z10, Z1, Z1")
	} else {
		e.f("VCVTPS2PD X8, Y9")
		e.f("VEXTRACTF128 $1, Y8, X10")
		e.f("VCVTPS2PD X10, Y10")
		e.f("VADDPD Y9, Y1, Y1")
		e.f("VADDPD Y10, Y2, Y2")
	}
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
