package main

import "fmt"

// Kernels of training: backward passes of the element-wise functions, and the
// optimiser. Their plain forms are in training.go of the parent folder.

// trainingKernels emits all of them for one instruction set.
func trainingKernels(e *emitter, v vector) {
	siluBack(e, v)
	softmaxBack(e, v)
	normBack(e, v)
	adamStep(e, v)
}

// begin starts a function of one operand, whose address is in R15.
func begin(e *emitter, name, operand string) {
	fmt.Fprintf(e, "\n// func %s(t *%s)\nTEXT ·%s(SB), NOSPLIT, $0-8\n", name, operand, name)
	e.f("MOVQ t+0(FP), R15")
}

// load puts fields of the operand into registers.
func load(e *emitter, operand string, fields ...[2]string) {
	for _, f := range fields {
		e.f("MOVQ %s_%s(R15), %s", operand, f[0], f[1])
	}
}

func (v vector) end(e *emitter, loop, counter string, pointers ...string) {
	for _, r := range pointers {
		e.f("ADDQ $%d, %s", 4*v.lanes, r)
	}
	e.f("SUBQ $%d, %s", v.lanes, counter)
	e.f("JNZ %s", loop)
}

// siluBack: the gradients of gate and up from that of silu(gate)*up, n a
// positive multiple of 16.
func siluBack(e *emitter, v vector) {
	name := "siluBack" + v.isa
	begin(e, name, "siluBackCall")
	load(e, "siluBackCall", [][2]string{{"gate", "AX"}, {"up", "BX"}, {"d", "DX"}, {"dGate", "SI"}, {"dUp", "DI"}, {"n", "CX"}}...)
	g, s, xs, d := v.r(0), v.r(1), v.r(6), v.r(7)
	e.label(name + "_loop")
	e.f("VMOVUPS (AX), %s", g)
	if v.isa == "avx512" {
		e.f("VPXORQ %s, %s, %s", constant("sign"), g, s)
	} else {
		e.f("VXORPS %s, %s, %s", constant("sign"), g, s)
	}
	v.exp(e, s, s, 2)
	e.f("VADDPS %s, %s, %s", constant("one"), s, s)
	e.f("VMOVUPS %s, %s", constant("one"), v.r(2))
	e.f("VDIVPS %s, %s, %s", s, v.r(2), s)
	e.f("VMULPS %s, %s, %s", s, g, xs)
	e.f("VMOVUPS (DX), %s", d)
	e.f("VMULPS %s, %s, %s", xs, d, v.r(3))
	e.f("VSUBPS %s, %s, %s", s, v.r(2), v.r(2))
	e.f("VMULPS %s, %s, %s", v.r(2), xs, xs)
	e.f("VADDPS %s, %s, %s", xs, s, s)
	e.f("VMULPS (BX), %[1]s, %[1]s", d)
	e.f("VMULPS %s, %s, %s", s, d, d)
	e.f("VMOVUPS %s, (DI)", v.r(3))
	e.f("VMOVUPS %s, (SI)", d)
	v.end(e, name+"_loop", "CX", "AX", "BX", "DX", "SI", "DI")
	e.f("VZEROUPPER")
	e.f("RET")
}

// softmaxBack: x = weight*(x - mean)*scale by rows, columns a multiple of 16.
func softmaxBack(e *emitter, v vector) {
	name := "softmaxBack" + v.isa
	begin(e, name, "softmaxBackCall")
	load(e, "softmaxBackCall", [][2]string{{"x", "AX"}, {"weights", "BX"}, {"rows", "R8"}, {"padded", "R9"}, {"mean", "R10"}}...)
	e.f("VBROADCASTSS softmaxBackCall_scale(R15), %s", v.r(0))
	e.label(name + "_row")
	e.f("VBROADCASTSS (R10), %s", v.r(1))
	e.f("MOVQ R9, CX")
	e.label(name + "_loop")
	e.f("VMOVUPS (AX), %s", v.r(2))
	e.f("VSUBPS %[1]s, %[2]s, %[2]s", v.r(1), v.r(2))
	e.f("VMULPS (BX), %[1]s, %[1]s", v.r(2))
	e.f("VMULPS %[1]s, %[2]s, %[2]s", v.r(0), v.r(2))
	e.f("VMOVUPS %s, (AX)", v.r(2))
	v.end(e, name+"_loop", "CX", "AX", "BX")
	e.f("ADDQ $4, R10")
	e.f("DECQ R8")
	e.f("JNZ %s_row", name)
	e.f("VZEROUPPER")
	e.f("RET")
}

// addProducts adds the products of the float32 registers x and y, exact in
// float64, to the lanes in t, t+1; registers u to u+3 are lost.
func (v vector) addProducts(e *emitter, x, y, t, u int) {
	if v.isa == "avx512" {
		for i, r := range []int{x, y} {
			e.f("VCVTPS2PD Y%d, Z%d", r, u+i)
			e.f("VEXTRACTF64X4 $1, Z%d, Y%d", r, u+2+i)
			e.f("VCVTPS2PD Y%[1]d, Z%[1]d", u+2+i)
		}
		e.f("VMULPD Z%d, Z%d, Z%d", u+1, u, u)
		e.f("VMULPD Z%d, Z%d, Z%d", u+3, u+2, u+2)
		e.f("VADDPD Z%d, Z%[2]d, Z%[2]d", u, t)
		e.f("VADDPD Z%d, Z%[2]d, Z%[2]d", u+2, t)
		return
	}
	for i, r := range []int{x, y} {
		e.f("VCVTPS2PD X%d, Y%d", r, u+i)
		e.f("VEXTRACTF128 $1, Y%d, X%d", r, u+2+i)
		e.f("VCVTPS2PD X%[1]d, Y%[1]d", u+2+i)
	}
	e.f("VMULPD Y%d, Y%d, Y%d", u+1, u, u)
	e.f("VMULPD Y%d, Y%d, Y%d", u+3, u+2, u+2)
	e.f("VADDPD Y%d, Y%[2]d, Y%[2]d", u, t)
	e.f("VADDPD Y%d, Y%[2]d, Y%[2]d", u+2, t+1)
}

// normBack: adds the gradient of normalised rows to dx, columns a multiple of 16.
func normBack(e *emitter, v vector) {
	name := "normBack" + v.isa
	begin(e, name, "normBackCall")
	load(e, "normBackCall", [][2]string{{"x", "AX"}, {"dx", "BX"}, {"dy", "DX"}, {"rows", "R8"}, {"cols", "R9"}, {"scale", "R10"}}...)
	e.label(name + "_row")
	v.zeroLanes(e, 2)
	e.f("MOVQ normBackCall_gain(R15), DI")
	e.f("XORQ SI, SI")
	e.f("MOVQ R9, CX")
	e.label(name + "_dot")
	e.f("VMOVUPS (DX)(SI*1), %s", v.r(4))
	e.f("VMULPS (DI)(SI*1), %[1]s, %[1]s", v.r(4))
	e.f("VMOVUPS (AX)(SI*1), %s", v.r(5))
	v.addProducts(e, 4, 5, 2, 6)
	v.end(e, name+"_dot", "CX", "SI")
	v.sumLanes(e, 2, 4)
	e.f("VXORPD X4, X4, X4")
	e.f("VCVTSI2SDQ R9, X4, X4")
	e.f("VDIVSD X4, X2, X2")
	e.f("VMOVSS (R10), X4")
	e.f("VCVTSS2SD X4, X4, X5")
	for range 3 {
		e.f("VMULSD X5, X2, X2")
	}
	e.f("VCVTSD2SS X2, X2, X2")
	e.f("VBROADCASTSS X2, %s", v.r(0))
	e.f("VBROADCASTSS X4, %s", v.r(1))
	e.f("XORQ SI, SI")
	e.f("MOVQ R9, CX")
	e.label(name + "_add")
	e.f("VMOVUPS (DX)(SI*1), %s", v.r(4))
	e.f("VMULPS (DI)(SI*1), %[1]s, %[1]s", v.r(4))
	e.f("VMULPS %[1]s, %[2]s, %[2]s", v.r(1), v.r(4))
	e.f("VMULPS (AX)(SI*1), %s, %s", v.r(0), v.r(5))
	e.f("VSUBPS %s, %[2]s, %[2]s", v.r(5), v.r(4))
	e.f("VADDPS (BX)(SI*1), %[1]s, %[1]s", v.r(4))
	e.f("VMOVUPS %s, (BX)(SI*1)", v.r(4))
	v.end(e, name+"_add", "CX", "SI")
	for _, r := range []string{"AX", "BX", "DX"} {
		e.f("ADDQ SI, %s", r)
	}
	e.f("ADDQ $4, R10")
	e.f("DECQ R8")
	e.f("JNZ %s_row", name)
	e.f("VZEROUPPER")
	e.f("RET")
}

// adamStep: one step of AdamW on n values, a positive multiple of 16.
func adamStep(e *emitter, v vector) {
	name := "adamStep" + v.isa
	begin(e, name, "adamCall")
	load(e, "adamCall", [][2]string{{"values", "AX"}, {"gradient", "BX"}, {"first", "DX"}, {"second", "SI"}, {"n", "CX"}}...)
	k := map[string]string{}
	for i, f := range []string{"scale", "first", "second", "rest", "epsilon", "root", "step", "keep"} { // backend.AdamFactors
		k[f] = v.r(8 + i)
		e.f("VBROADCASTSS (adamCall_k+%d)(R15), %s", 4*i, k[f])
	}
	d, m, s, x := v.r(0), v.r(1), v.r(2), v.r(3)
	e.label(name + "_loop")
	e.f("VMULPS (BX), %s, %s", k["scale"], d)
	e.f("VMOVUPS (DX), %s", m)
	e.f("VSUBPS %s, %s, %s", m, d, x)
	e.f("VMULPS %[1]s, %[2]s, %[2]s", k["first"], x)
	e.f("VADDPS %[1]s, %[2]s, %[2]s", x, m)
	e.f("VMOVUPS %s, (DX)", m)
	e.f("VMULPS %[1]s, %[1]s, %[1]s", d)
	e.f("VMULPS %[1]s, %[2]s, %[2]s", k["rest"], d)
	e.f("VMULPS (SI), %s, %s", k["second"], s)
	e.f("VADDPS %[1]s, %[2]s, %[2]s", d, s)
	e.f("VMOVUPS %s, (SI)", s)
	e.f("VSQRTPS %[1]s, %[1]s", s)
	e.f("VDIVPS %[1]s, %[2]s, %[2]s", k["root"], s)
	e.f("VADDPS %[1]s, %[2]s, %[2]s", k["epsilon"], s)
	e.f("VDIVPS %s, %s, %s", s, m, m)
	e.f("VMULPS %[1]s, %[2]s, %[2]s", k["step"], m)
	e.f("VMULPS (AX), %s, %s", k["keep"], x)
	e.f("VSUBPS %[1]s, %[2]s, %[2]s", m, x)
	e.f("VMOVUPS %s, (AX)", x)
	v.end(e, name+"_loop", "CX", "AX", "BX", "DX", "SI")
	e.f("VZEROUPPER")
	e.f("RET")
}
