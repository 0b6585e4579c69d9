package main

import "fmt"

// AMD64 returns the text of gemm_amd64.s.
func AMD64() string {
	e := &emitter{}
	header(e, "!noasm")
	avx512, avx2 := vector{"avx512", "Z", 16}, vector{"avx2", "Y", 8}
	tile(e, avx512, 8, 3, true)
	for _, rows := range []int{8, 4, 2, 1} {
		for _, panels := range []int{3, 2, 1} {
			tile(e, avx512, rows, panels, false)
		}
	}
	tile(e, avx2, 6, 1, true)
	for _, rows := range []int{6, 4, 2, 1} {
		tile(e, avx2, rows, 1, false)
	}
	constants(e)
	for _, v := range []vector{avx512, avx2} {
		scaleMax(e, v)
		expSum(e, v)
		siluMul(e, v)
		peak(e, v)
		readMemory(e, v)
	}
	return e.String()
}

// rowAddr addresses row i of a matrix whose row 0 is at base, row 3 at base3,
// row 6 at base6 and whose row stride in bytes is in the register stride,
// plus an offset in bytes.
func rowAddr(i, offset int, base, base3, base6, stride string) string {
	var a string
	switch i {
	case 0:
		a = "(" + base + ")"
	case 1, 2, 4:
		a = fmt.Sprintf("(%s)(%s*%d)", base, stride, i)
	case 3:
		a = "(" + base3 + ")"
	case 5, 7:
		a = fmt.Sprintf("(%s)(%s*%d)", base3, stride, i-3)
	default: // 6
		a = "(" + base6 + ")"
	}
	if offset != 0 {
		a = fmt.Sprint(offset) + a
	}
	return a
}

// tile emits one tile kernel. packed kernels read a term's rows side by side
// (a[k*rows+i]); the others read rows at distance lda. The running totals of
// the blocks lie in the frame: rows of c at a large stride would fall on few
// sets of the first-level cache.
func tile(e *emitter, v vector, rows, panels int, packed bool) {
	registers := 32
	if v.reg == "Y" {
		registers = 16
	}
	vectors := panels * 16 / v.lanes // accumulators of one row
	bytes := 4 * v.lanes
	acc := func(i, j int) string { return v.r(i*vectors + j) }
	// A single row takes b from memory, more rows from registers.
	bRegisters := vectors
	if rows == 1 {
		bRegisters = 0
	}
	b := func(j int) string { return v.r(rows*vectors + j) }
	free := rows*vectors + bRegisters
	spare := registers - free // broadcasts and products rotate over these
	if spare < 2 {
		panic("kernelgen: out of registers")
	}
	next := 0
	take := func() string { next++; return v.r(free + (next-1)%spare) }

	name := fmt.Sprintf("tile%dx%d", rows, panels*16)
	if packed {
		name += "packed"
	}
	name += v.isa
	const locals = 32 // bytes: tiles, a, c, start
	totalBytes := rows * vectors * bytes
	fmt.Fprintf(e, "\n// func %s(t *tileCall)\n", name)
	fmt.Fprintf(e, "TEXT ·%s(SB), 0, $%d-8\n", name, locals+totalBytes+64)
	e.f("MOVQ t+0(FP), R15")
	for _, l := range [][2]string{{"tiles", "0(SP)"}, {"a", "8(SP)"}, {"c", "16(SP)"}, {"start", "24(SP)"}} {
		e.f("MOVQ tileCall_%s(R15), AX", l[0])
		e.f("MOVQ AX, %s", l[1])
	}
	e.f("MOVQ tileCall_lda(R15), SI")
	e.f("MOVQ tileCall_stride(R15), DX")
	e.f("MOVQ tileCall_prefetch(R15), R14")

	perPanel := 16 / v.lanes
	bAddr := func(j, u int) string {
		panel, at := j/perPanel, j%perPanel*bytes+u*64
		if panel == 0 {
			return fmt.Sprintf("%d(BX)", at)
		}
		return fmt.Sprintf("%d(BX)(DX*%d)", at, panel)
	}
	// step adds (or, as the first of a block, sets) the products of term u
	// from the pointers on.
	step := func(u int, first bool) {
		if rows > 1 {
			for j := 0; j < vectors; j++ {
				e.f("VMOVUPS %s, %s", bAddr(j, u), b(j))
			}
		}
		for i := 0; i < rows; i++ {
			a := fmt.Sprintf("%d(AX)", 4*(u*rows+i))
			if !packed {
				a = rowAddr(i, 4*u, "AX", "R9", "R10", "SI")
			}
			// AVX-512 broadcasts inside the product: a broadcast into a register
			// of 64 bytes takes a turn of the pipes that add.
			inside := v.reg == "Z" && rows > 1
			bc := ""
			if !inside {
				bc = take()
				e.f("VBROADCASTSS %s, %s", a, bc)
			}
			for j := 0; j < vectors; j++ {
				p := acc(i, j)
				for !first && (p == bc || p == acc(i, j)) {
					p = take()
				}
				switch {
				case inside:
					e.f("VMULPS.BCST %s, %s, %s", a, b(j), p)
				case rows == 1:
					e.f("VMULPS %s, %s, %s", bAddr(j, u), bc, p)
				default:
					e.f("VMULPS %s, %s, %s", b(j), bc, p)
				}
				if !first {
					e.f("VADDPS %[1]s, %[2]s, %[2]s", p, acc(i, j))
				}
			}
		}
	}
	advance := func(steps int) {
		e.f("ADDQ $%d, BX", 64*steps)
		if packed {
			e.f("ADDQ $%d, AX", 4*rows*steps)
		} else {
			for i, r := range []string{"AX", "R9", "R10"} {
				if rows > 3*i {
					e.f("ADDQ $%d, %s", 4*steps, r)
				}
			}
		}
		if packed {
			for u := 0; u < steps; u++ {
				e.f("PREFETCHT1 %d(R14)", 64*u)
			}
			e.f("ADDQ $%d, R14", 64*steps)
		}
	}
	matrixRows := func(base, base3, base6, stride string) {
		if rows > 3 {
			e.f("LEAQ (%s)(%s*2), %s", base, stride, base3)
			e.f("ADDQ %s, %s", stride, base3)
		}
		if rows > 6 {
			e.f("LEAQ (%s)(%s*2), %s", base3, stride, base6)
			e.f("ADDQ %s, %s", stride, base6)
		}
	}
	each := func(body func(i, j int)) {
		for i := 0; i < rows; i++ {
			for j := 0; j < vectors; j++ {
				body(i, j)
			}
		}
	}
	// addPrevious adds the matrix at DI, row stride R8, to the accumulators.
	addPrevious := func() {
		matrixRows("DI", "R11", "R12", "R8")
		each(func(i, j int) {
			e.f("VADDPS %s, %[2]s, %[2]s", rowAddr(i, j*bytes, "DI", "R11", "R12", "R8"), acc(i, j))
		})
	}
	blockLength := func() {
		e.f("MOVQ $%d, CX", blockK)
		e.f("CMPQ R13, CX")
		e.f("CMOVQLT R13, CX")
		e.f("SUBQ CX, R13")
	}

	e.label(name + "_tile")
	e.f("MOVQ 8(SP), AX")
	if !packed {
		matrixRows("AX", "R9", "R10", "SI")
	}
	// Bring the tile of c near while the sums are made.
	e.f("MOVQ 16(SP), DI")
	e.f("MOVQ tileCall_ldc(R15), R8")
	matrixRows("DI", "R11", "R12", "R8")
	for i := 0; i < rows; i++ {
		for at := 0; at < vectors*bytes; at += 64 {
			e.f("PREFETCHT0 %s", rowAddr(i, at, "DI", "R11", "R12", "R8"))
		}
	}
	e.f("MOVQ tileCall_b(R15), BX")
	e.f("MOVQ tileCall_k(R15), R13")
	e.f("MOVQ 24(SP), DI")
	e.f("MOVQ tileCall_startStride(R15), R8")
	each(func(i, j int) {
		if v.reg == "Z" {
			e.f("VPXORQ %[1]s, %[1]s, %[1]s", acc(i, j))
		} else {
			e.f("VXORPS %[1]s, %[1]s, %[1]s", acc(i, j))
		}
	})
	blockLength()
	const unroll = 4
	e.label(name + "_block")
	e.f("SUBQ $%d, CX", unroll)
	e.f("JLT %s_rest", name)
	e.label(name + "_loop")
	for u := 0; u < unroll; u++ {
		step(u, false)
	}
	advance(unroll)
	e.f("SUBQ $%d, CX", unroll)
	e.f("JGE %s_loop", name)
	e.label(name + "_rest")
	e.f("ADDQ $%d, CX", unroll)
	e.f("JZ %s_flush", name)
	e.label(name + "_single")
	step(0, false)
	advance(1)
	e.f("DECQ CX")
	e.f("JNZ %s_single", name)
	e.label(name + "_flush")
	e.f("TESTQ R13, R13")
	e.f("JZ %s_last", name)
	addPrevious()
	e.f("LEAQ %d(SP), DI", locals+63)
	e.f("ANDQ $-64, DI")
	e.f("MOVQ $%d, R8", vectors*bytes)
	each(func(i, j int) { e.f("VMOVUPS %s, %d(DI)", acc(i, j), (i*vectors+j)*bytes) })
	blockLength()
	// The first term of a block needs no addition. (0 + -0 is 0 and not -0,
	// but the total, which started from 0 or took in such a sum, is never -0.)
	step(0, true)
	advance(1)
	e.f("DECQ CX")
	e.f("JMP %s_block", name)
	e.label(name + "_last")
	addPrevious()
	e.f("MOVQ 16(SP), DI")
	e.f("MOVQ tileCall_ldc(R15), R8")
	matrixRows("DI", "R11", "R12", "R8")
	each(func(i, j int) {
		e.f("VMOVUPS %s, %s", acc(i, j), rowAddr(i, j*bytes, "DI", "R11", "R12", "R8"))
	})
	e.f("MOVQ tileCall_nextA(R15), AX")
	e.f("ADDQ AX, 8(SP)")
	e.f("IMUL3Q $%d, R8, R8", rows)
	e.f("ADDQ R8, 16(SP)")
	e.f("MOVQ tileCall_startStride(R15), R8")
	e.f("IMUL3Q $%d, R8, R8", rows)
	e.f("ADDQ R8, 24(SP)")
	if packed {
		// The next tile prefetches the next panel.
		e.f("MOVQ tileCall_k(R15), AX")
		e.f("SHLQ $6, AX")
		e.f("SUBQ AX, R14")
		e.f("ADDQ tileCall_nextPrefetch(R15), R14")
	}
	e.f("DECQ 0(SP)")
	e.f("JNZ %s_tile", name)
	e.f("VZEROUPPER")
	e.f("RET")
}

// peak: n rounds of independent multiplications and additions, the mix of the
// tile kernels without their memory accesses.
func peak(e *emitter, v vector) {
	name := "peak" + v.isa
	chains, products := 24, 6
	if v.reg == "Y" {
		chains, products = 12, 3
	}
	fmt.Fprintf(e, "\n// func %s(n int)\nTEXT ·%s(SB), NOSPLIT, $0-8\n", name, name)
	e.f("MOVQ n+0(FP), CX")
	for i := 0; i <= chains+products; i++ {
		if v.reg == "Z" {
			e.f("VPXORQ %[1]s, %[1]s, %[1]s", v.r(i))
		} else {
			e.f("VXORPS %[1]s, %[1]s, %[1]s", v.r(i))
		}
	}
	e.label(name + "_loop")
	for i := 0; i < chains; i++ {
		p := v.r(chains + i%products)
		e.f("VMULPS %[1]s, %[1]s, %[2]s", v.r(chains+products), p)
		e.f("VADDPS %[1]s, %[2]s, %[2]s", p, v.r(i))
	}
	e.f("DECQ CX")
	e.f("JNZ %s_loop", name)
	e.f("VZEROUPPER")
	e.f("RET")
}

// readMemory: reads n floats, a positive multiple of 128, in four streams.
func readMemory(e *emitter, v vector) {
	name := "readMemory" + v.isa
	fmt.Fprintf(e, "\n// func %s(x *float32, n int)\nTEXT ·%s(SB), NOSPLIT, $0-16\n", name, name)
	e.f("MOVQ x+0(FP), AX")
	e.f("MOVQ n+8(FP), CX")
	e.f("LEAQ (AX)(CX*1), BX")
	e.f("LEAQ (AX)(CX*2), DX")
	e.f("LEAQ (BX)(CX*2), SI")
	e.label(name + "_loop")
	for i, base := range []string{"AX", "BX", "DX", "SI"} {
		for o := 0; o < 128; o += 4 * v.lanes {
			e.f("VADDPS %d(%s), %[3]s, %[3]s", o, base, v.r(i*4+o/(4*v.lanes)))
		}
	}
	for _, base := range []string{"AX", "BX", "DX", "SI"} {
		e.f("ADDQ $128, %s", base)
	}
	e.f("SUBQ $128, CX")
	e.f("JNZ %s_loop", name)
	e.f("VZEROUPPER")
	e.f("RET")
}
