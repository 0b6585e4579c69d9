package main

import "fmt"

// Quantise2 returns the text of quantise2_amd64.s, the loops of Quantise with
// AVX2. They take whole blocks of 8 values (splitting), 32 bytes (counting) or 16
// values (the others); the caller does the rest of a row.
func Quantise2() string {
	e := newEmitter()
	splitRow2(e)
	magnitudeKernel2(e, "signedCodesavx2", "(dst *int16, row *float32, n, tauBits, scaleBits, top int) (sum int)", 2,
		[]string{"dst DI", "row SI", "n CX", "tauBits R8", "scaleBits R9", "top R10", "sum"},
		func(i int, code, value string) {
			e.f("VPADDD %s, Y%[2]d, Y%[2]d", code, 8+i)
			e.f("VPSRAD $31, %[1]s, %[1]s", value)
			e.f("VPXOR %s, %[2]s, %[2]s", value, code)
			e.f("VPSUBD %s, %[2]s, %[2]s", value, code)
		}, func() {
			e.f("VPACKSSDW Y13, Y11, Y11")
			e.f("VPERMQ $0xd8, Y11, Y11")
			e.f("VMOVDQU Y11, (DI)")
		}, true)
	magnitudeKernel2(e, "magnitudeCodesavx2", "(dst *uint8, row *float32, n, tauBits, scaleBits, top int)", 1,
		[]string{"dst DI", "row SI", "n CX", "tauBits R8", "scaleBits R9", "top R10"},
		nil, func() {
			e.f("VPACKSSDW Y13, Y11, Y11")
			e.f("VPERMQ $0xd8, Y11, Y11")
			e.bytes2("11", "12")
			e.f("VMOVDQU X11, (DI)")
		}, false)
	magnitudeKernel2(e, "distortionavx2", "(topCodes *uint8, row *float32, n, tauBits, scaleBits, top, half, shift int) (sum int)", 1,
		[]string{"topCodes DI", "row SI", "n CX", "tauBits R8", "scaleBits R9", "top R10", "half R11", "shift R12", "sum"},
		func(i int, code, value string) {
			e.f("VPMOVZXBD %d(DI), %s", 8*i, value)
			e.f("VPADDD Y7, %[1]s, %[1]s", value)
			e.f("VPSRLD X15, %[1]s, %[1]s", value)
			e.f("VPSUBD %s, %[2]s, %[2]s", code, value)
			e.f("VPABSD %[1]s, %[1]s", value)
			e.f("VPADDD %s, Y%[2]d, Y%[2]d", value, 8+i)
		}, func() {}, true)
	restoreKernel2(e, "restoreCodesavx2", "(dst *float32, codes *int16, n, scaleBits int)", 2,
		[]string{"dst DI", "codes SI", "n CX", "scaleBits R9"}, "VPMOVSXWD", false)
	restoreKernel2(e, "restoreSymbolsavx2", "(dst *float32, symbols *byte, n, scaleBits, zero int) (worst int)", 1,
		[]string{"dst DI", "symbols SI", "n CX", "scaleBits R9", "zero R10", "worst"}, "VPMOVZXBD", true)
	symbolKernel2(e)
	countKernel2(e)
	return e.String()
}

// blocks loops over n (CX) elements, which are whole blocks of so many.
func (e *emitter) blocks(size int, body func()) {
	e.label("loop")
	e.f("SUBQ $%d, CX", size)
	e.jump("JLT", "done")
	body()
	e.jump("JMP", "loop")
	e.label("done")
}

func (e *emitter) broadcastFrom(r, to string) {
	e.f("VMOVD %s, X%s", r, to[1:])
	e.f("VPBROADCASTD X%s, %s", to[1:], to)
}

func (e *emitter) broadcast2(v int, to string) {
	e.f("MOVL $0x%x, AX", v)
	e.broadcastFrom("AX", to)
}

// bytes2 packs the low bytes of 16 words, each at most 255, to 16 bytes.
func (e *emitter) bytes2(r, spare string) {
	e.f("VEXTRACTI128 $1, Y%s, X%s", r, spare)
	e.f("VPACKUSWB X%s, X%[2]s, X%[2]s", spare, r)
}

// splitRow2 writes threshold splitting as splitRow does, with room for 8 more.
func splitRow2(e *emitter) {
	// By a mask of 8 values: those that are set, first.
	var front []uint16
	for mask := range 256 {
		var order [8]uint16
		n := 0
		for bit := range uint16(8) {
			if mask>>bit&1 != 0 {
				order[n] = bit
				n++
			}
		}
		for i := 0; i < 8; i += 2 {
			front = append(front, order[i]|order[i+1]<<8)
		}
	}
	e.words("frontOrder", front)
	e.words("eightDwords", []uint16{0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0})
	e.function("splitRowavx2", "(row *float32, n, first, tauBits int, col *uint32, val *float32) (count, largest int)",
		"row SI", "n CX", "first R9", "tauBits R8", "col DI", "val BX", "count", "largest")
	e.broadcastFrom("R8", "Y1")
	e.broadcast2(1<<31-1, "Y2")
	e.broadcastFrom("R9", "Y3")
	e.f("VPADDD eightDwords<>(SB), Y3, Y3")
	e.broadcast2(8, "Y4")
	e.f("VPXOR Y0, Y0, Y0")
	e.f("XORL DX, DX")
	e.f("LEAQ frontOrder<>(SB), R12")
	e.blocks(8, func() {
		e.f("VMOVDQU (SI), Y5")
		e.f("VPAND Y2, Y5, Y6")
		e.f("VPCMPGTD Y6, Y1, Y7")
		e.f("VPAND Y7, Y6, Y6")
		e.f("VPMAXUD Y6, Y0, Y0")
		e.f("VMOVMSKPS Y7, AX")
		e.f("XORL $0xff, AX")
		e.jump("JZ", "next")
		e.f("VPMOVZXBD (R12)(AX*8), Y6")
		e.f("VPERMD Y3, Y6, Y7")
		e.f("VPERMD Y5, Y6, Y8")
		e.f("VMOVDQU Y7, (DI)(DX*4)")
		e.f("VMOVDQU Y8, (BX)(DX*4)")
		e.f("POPCNTL AX, AX")
		e.f("ADDQ AX, DX")
		e.label("next")
		e.f("VPADDD Y4, Y3, Y3")
		e.f("ADDQ $32, SI")
	})
	e.maximum2(0)
	e.f("MOVQ DX, count+48(FP)")
	e.f("MOVQ AX, largest+56(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}

// magnitudeKernel2 writes the loop of magnitudeKernel: each takes a code and its
// value in registers, 8 at a time, then both sees the codes in Y11 and Y13. Sums
// are in Y8 and Y9.
func magnitudeKernel2(e *emitter, name, signature string, size int, args []string, each func(i int, code, value string), both func(), sums bool) {
	e.function(name, signature, args...)
	e.broadcastFrom("R8", "Y1")
	e.broadcast2(1<<31-1, "Y2")
	e.broadcastFrom("R9", "Y3")
	e.broadcastFrom("R10", "Y4")
	e.broadcast2(0x4b000000, "Y5") // 2^23 as float32
	e.broadcast2(1<<23-1, "Y6")
	if sums {
		e.f("VPXOR Y8, Y8, Y8")
		e.f("VPXOR Y9, Y9, Y9")
	}
	if name == "distortionavx2" {
		e.broadcastFrom("R11", "Y7")
		e.f("VMOVQ R12, X15")
	}
	e.blocks(16, func() {
		for i := range 2 {
			value, code := fmt.Sprintf("Y%d", 10+2*i), fmt.Sprintf("Y%d", 11+2*i)
			e.f("VMOVDQU %d(SI), %s", 32*i, value)
			e.f("VPAND Y2, %s, %s", value, code)
			e.f("VPCMPGTD %s, Y1, Y14", code)
			e.f("VPAND Y14, %[1]s, %[1]s", code)
			e.f("VDIVPS Y3, %[1]s, %[1]s", code)
			e.f("VADDPS Y5, %[1]s, %[1]s", code)
			e.f("VPAND Y6, %[1]s, %[1]s", code)
			e.f("VPMINUD Y4, %[1]s, %[1]s", code)
			if each != nil {
				each(i, code, value)
			}
		}
		both()
		e.f("ADDQ $64, SI")
		e.f("ADDQ $%d, DI", 16*size)
	})
	if sums {
		// Sixteen sums of 32 bits to one of 64.
		for _, r := range []int{8, 9} {
			e.f("VEXTRACTI128 $1, Y%d, X10", r)
			e.f("VPMOVZXDQ X10, Y10")
			e.f("VPMOVZXDQ X%d, Y%[1]d", r)
			e.f("VPADDQ Y10, Y%d, Y%[1]d", r)
		}
		e.f("VPADDQ Y9, Y8, Y0")
		e.sum4()
		e.f("MOVQ AX, sum+%d(FP)", 8*(len(args)-1))
	}
	e.f("VZEROUPPER")
	e.f("RET")
}

// restoreKernel2 writes the loop of restoreKernel.
func restoreKernel2(e *emitter, name, signature string, size int, args []string, widen string, symbols bool) {
	e.function(name, signature, args...)
	e.broadcastFrom("R9", "Y3")
	if symbols {
		e.broadcastFrom("R10", "Y4")
		e.f("VPXOR Y0, Y0, Y0")
	}
	e.blocks(16, func() {
		for i := range 2 {
			e.f("%s %d(SI), Y5", widen, 8*size*i)
			if symbols {
				e.f("VPSUBD Y4, Y5, Y5")
				e.f("VPABSD Y5, Y6")
				e.f("VPMAXUD Y6, Y0, Y0")
			}
			e.f("VCVTDQ2PS Y5, Y5")
			e.f("VMULPS Y3, Y5, Y5")
			e.f("VMOVUPS Y5, %d(DI)", 32*i)
		}
		e.f("ADDQ $%d, SI", 16*size)
		e.f("ADDQ $64, DI")
	})
	if symbols {
		e.maximum2(0)
		e.f("MOVQ AX, worst+%d(FP)", 8*(len(args)-1))
	}
	e.f("VZEROUPPER")
	e.f("RET")
}

// symbolKernel2 writes code + zero as bytes.
func symbolKernel2(e *emitter) {
	e.function("codeSymbolsavx2", "(dst *byte, codes *int16, n, zero int)", "dst DI", "codes SI", "n CX", "zero R9")
	e.f("VMOVD R9, X3")
	e.f("VPBROADCASTW X3, Y3")
	e.broadcast2(0x00ff00ff, "Y4")
	e.blocks(16, func() {
		e.f("VPADDW (SI), Y3, Y5")
		e.f("VPAND Y4, Y5, Y5")
		e.bytes2("5", "6")
		e.f("VMOVDQU X5, (DI)")
		e.f("ADDQ $32, SI")
		e.f("ADDQ $16, DI")
	})
	e.f("VZEROUPPER")
	e.f("RET")
}

// countKernel2 adds the numbers of bytes that equal first, first+1, .. first+7 to
// counts, for first up to 24. A sum has a byte, so n is at most 255 blocks.
func countKernel2(e *emitter) {
	var each []uint16
	for s := range uint16(32) {
		for range 16 {
			each = append(each, s*0x0101)
		}
	}
	e.words("eachSymbol", each)
	e.function("countavx2", "(b *byte, n, first int, counts *[8]int)", "b SI", "n CX", "first AX", "counts DI")
	e.f("LEAQ eachSymbol<>(SB), BX")
	e.f("SHLQ $5, AX")
	e.f("ADDQ AX, BX")
	for i := range 8 {
		e.f("VPXOR Y%[1]d, Y%[1]d, Y%[1]d", i)
	}
	e.blocks(32, func() {
		e.f("VMOVDQU (SI), Y8")
		for i := range 8 {
			e.f("VPCMPEQB %d(BX), Y8, Y%d", 32*i, 9+i%4)
			e.f("VPSUBB Y%d, Y%[2]d, Y%[2]d", 9+i%4, i)
		}
		e.f("ADDQ $32, SI")
	})
	e.f("VPXOR Y9, Y9, Y9")
	for i := range 8 {
		if i > 0 {
			e.f("VMOVDQA Y%d, Y0", i)
		}
		e.f("VPSADBW Y9, Y0, Y0")
		e.sum4()
		e.f("ADDQ AX, %d(DI)", 8*i)
	}
	e.f("VZEROUPPER")
	e.f("RET")
}
