package main

import "fmt"

// Quantise returns the text of quantise_amd64.s: threshold splitting, TAB-Q and
// the way back, on rows of any length. Reads and writes stay within the row.
func Quantise() string {
	e := newEmitter()
	splitRow(e)
	magnitudeKernel(e, "signedCodesavx512", "(dst *int16, row *float32, n, tauBits, scaleBits, top int) (sum int)", 2,
		[]string{"dst DI", "row SI", "n CX", "tauBits R8", "scaleBits R9", "top R10", "sum"},
		func(z func(int) string, tail bool) {
			// The sign, 0 or -1, in z(6).
			e.f("VPADDD %s, %s, %s", z(5), z(20), z(20))
			e.f("VPXORD %s, %s, %s", z(6), z(5), z(5))
			e.f("VPSUBD %s, %s, %s", z(6), z(5), z(5))
			if tail {
				e.f("VPMOVDW %s, K1, (DI)", z(5))
			} else {
				e.f("VPMOVDW %s, (DI)", z(5))
			}
		}, true)
	magnitudeKernel(e, "magnitudeCodesavx512", "(dst *uint8, row *float32, n, tauBits, scaleBits, top int)", 1,
		[]string{"dst DI", "row SI", "n CX", "tauBits R8", "scaleBits R9", "top R10"},
		func(z func(int) string, tail bool) {
			if tail {
				e.f("VPMOVDB %s, K1, (DI)", z(5))
			} else {
				e.f("VPMOVDB %s, (DI)", z(5))
			}
		}, false)
	magnitudeKernel(e, "distortionavx512", "(topCodes *uint8, row *float32, n, tauBits, scaleBits, top, half, shift int) (sum int)", 1,
		[]string{"topCodes DI", "row SI", "n CX", "tauBits R8", "scaleBits R9", "top R10", "half R11", "shift R12", "sum"},
		func(z func(int) string, tail bool) {
			if tail {
				e.f("VPMOVZXBD.Z (DI), K1, %s", z(7))
				e.f("VPADDD.Z %s, %s, K1, %s", z(21), z(7), z(7))
			} else {
				e.f("VPMOVZXBD (DI), %s", z(7))
				e.f("VPADDD %s, %s, %s", z(21), z(7), z(7))
			}
			e.f("VPSRLVD %s, %s, %s", z(22), z(7), z(7))
			e.f("VPSUBD %s, %s, %s", z(5), z(7), z(7))
			e.f("VPABSD %s, %s", z(7), z(7))
			e.f("VPADDD %s, %s, %s", z(7), z(20), z(20))
		}, true)
	restoreKernel(e, "restoreCodesavx512", "(dst *float32, codes *int16, n, scaleBits int)", 2,
		[]string{"dst DI", "codes SI", "n CX", "scaleBits R9"}, "VPMOVSXWD", false)
	restoreKernel(e, "restoreSymbolsavx512", "(dst *float32, symbols *byte, n, scaleBits, zero int) (worst int)", 1,
		[]string{"dst DI", "symbols SI", "n CX", "scaleBits R9", "zero R10", "worst"}, "VPMOVZXBD", true)
	symbolKernel(e)
	countKernel(e)
	return e.String()
}

func z(i int) string { return fmt.Sprintf("Z%d", i) }

// sixteens loops over n (CX) values, 16 at a time; for the last less than 16 it
// sets K1 to those that exist.
func (e *emitter) sixteens(body func(tail bool), advance func()) {
	e.label("loop")
	e.f("CMPQ CX, $16")
	e.jump("JLT", "tail")
	body(false)
	advance()
	e.f("SUBQ $16, CX")
	e.jump("JMP", "loop")
	e.label("tail")
	e.f("TESTQ CX, CX")
	e.jump("JZ", "done")
	e.f("MOVL $-1, AX")
	e.f("BZHIL CX, AX, AX")
	e.f("KMOVW AX, K1")
	body(true)
	e.label("done")
}

func (e *emitter) broadcast(v int, to string) {
	e.f("MOVL $0x%x, AX", v)
	e.f("VPBROADCASTD AX, %s", to)
}

// splitRow writes threshold splitting. Positions above are packed to the front of
// a vector and stored whole: col and val have room for 16 more than the row.
func splitRow(e *emitter) {
	e.function("splitRowavx512", "(row *float32, n, first, tauBits int, col *uint32, val *float32) (count, largest int)",
		"row SI", "n CX", "first R9", "tauBits R8", "col DI", "val BX", "count", "largest")
	e.f("VPBROADCASTD R8, Z1")
	e.broadcast(1<<31-1, "Z2")
	e.f("VPMOVZXBD sixteenBytes<>(SB), Z3")
	e.f("VPBROADCASTD R9, Z4")
	e.f("VPADDD Z4, Z3, Z3")
	e.broadcast(16, "Z4")
	e.f("VPXORD Z0, Z0, Z0")
	e.f("XORL DX, DX")
	e.sixteens(func(tail bool) {
		end := "next"
		if tail {
			end = "last"
			e.f("VMOVDQU32.Z (SI), K1, Z5")
		} else {
			e.f("VMOVDQU32 (SI), Z5")
		}
		e.f("VPANDD Z2, Z5, Z6")
		if tail {
			e.f("VPCMPUD $5, Z1, Z6, K1, K2")
		} else {
			e.f("VPCMPUD $5, Z1, Z6, K2")
		}
		e.f("KORTESTW K2, K2")
		e.jump("JZ", end)
		e.f("VPXORD Z6, Z6, K2, Z6")
		e.f("VPCOMPRESSD Z3, K2, Z7")
		e.f("VPCOMPRESSD Z5, K2, Z8")
		e.f("VMOVDQU32 Z7, (DI)(DX*4)")
		e.f("VMOVDQU32 Z8, (BX)(DX*4)")
		e.f("KMOVW K2, AX")
		e.f("POPCNTL AX, AX")
		e.f("ADDQ AX, DX")
		e.label(end)
		e.f("VPMAXUD Z6, Z0, Z0")
	}, func() {
		e.f("VPADDD Z4, Z3, Z3")
		e.f("ADDQ $64, SI")
	})
	e.maximum(0)
	e.f("MOVQ DX, count+48(FP)")
	e.f("MOVQ AX, largest+56(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
	e.WriteString("\nDATA sixteenBytes<>+0(SB)/8, $0x0706050403020100\nDATA sixteenBytes<>+8(SB)/8, $0x0f0e0d0c0b0a0908\nGLOBL sixteenBytes<>(SB), RODATA|NOPTR, $16\n")
}

// maximum sets AX to the greatest of the 16 unsigned numbers in register r.
func (e *emitter) maximum(r int) {
	e.f("VEXTRACTI64X4 $1, Z%d, Y15", r)
	e.f("VPMAXUD Y15, Y%[1]d, Y%[1]d", r)
	e.maximum2(r)
}

// maximum2 does so with 8 numbers.
func (e *emitter) maximum2(r int) {
	e.f("VEXTRACTI128 $1, Y%d, X15", r)
	e.f("VPMAXUD X15, X%[1]d, X%[1]d", r)
	for _, order := range []int{0x4e, 0xb1} {
		e.f("VPSHUFD $0x%02x, X%d, X15", order, r)
		e.f("VPMAXUD X15, X%[1]d, X%[1]d", r)
	}
	e.f("VMOVD X%d, AX", r)
}

// sum4 sets AX to the sum of the four numbers in Y0.
func (e *emitter) sum4() {
	e.f("VEXTRACTI128 $1, Y0, X15")
	e.f("VPADDQ X15, X0, X0")
	e.f("VPSHUFD $0x4e, X0, X15")
	e.f("VPADDQ X15, X0, X0")
	e.f("VMOVQ X0, AX")
}

// magnitudeKernel writes a loop over the magnitudes of a row, 0 where the value is
// above the threshold. The codes of 16 of them, as magnitudeCode computes them,
// are in z(5) when use is emitted.
func magnitudeKernel(e *emitter, name, signature string, size int, args []string, use func(z func(int) string, tail bool), sums bool) {
	e.function(name, signature, args...)
	e.f("VPBROADCASTD R8, Z1")
	e.broadcast(1<<31-1, "Z2")
	e.f("VPBROADCASTD R9, Z3")
	e.f("VPBROADCASTD R10, Z4")
	e.broadcast(0x4b000000, "Z16") // 2^23 as float32
	e.broadcast(1<<23-1, "Z17")
	if sums {
		e.f("VPXORD Z20, Z20, Z20")
	}
	if name == "distortionavx512" {
		e.f("VPBROADCASTD R11, Z21")
		e.f("VPBROADCASTD R12, Z22")
	}
	e.sixteens(func(tail bool) {
		if tail {
			e.f("VMOVDQU32.Z (SI), K1, Z6")
		} else {
			e.f("VMOVDQU32 (SI), Z6")
		}
		e.f("VPANDD Z2, Z6, Z5")
		e.f("VPCMPUD $1, Z1, Z5, K2")
		e.f("VMOVDQU32.Z Z5, K2, Z5")
		e.f("VPSRAD $31, Z6, Z6")
		e.f("VDIVPS Z3, Z5, Z5")
		e.f("VADDPS Z16, Z5, Z5")
		e.f("VPANDD Z17, Z5, Z5")
		e.f("VPMINUD Z4, Z5, Z5")
		use(z, tail)
	}, func() {
		e.f("ADDQ $64, SI")
		e.f("ADDQ $%d, DI", 16*size)
	})
	if sums {
		// Sixteen sums of 32 bits to one of 64.
		e.f("VEXTRACTI64X4 $1, Z20, Y5")
		e.f("VPMOVZXDQ Y5, Z5")
		e.f("VPMOVZXDQ Y20, Z20")
		e.f("VPADDQ Z5, Z20, Z0")
		e.f("VEXTRACTI64X4 $1, Z0, Y5")
		e.f("VPADDQ Y5, Y0, Y0")
		e.sum4()
		e.f("MOVQ AX, sum+%d(FP)", 8*(len(args)-1))
	}
	e.f("VZEROUPPER")
	e.f("RET")
}

// restoreKernel writes code * scale, from signed words or from bytes that stand
// for code + zero; then it also returns the greatest magnitude of a code.
func restoreKernel(e *emitter, name, signature string, size int, args []string, widen string, symbols bool) {
	e.function(name, signature, args...)
	e.f("VPBROADCASTD R9, Z3")
	if symbols {
		e.f("VPBROADCASTD R10, Z4")
		e.f("VPXORD Z0, Z0, Z0")
	}
	e.sixteens(func(tail bool) {
		if tail {
			e.f("%s.Z (SI), K1, Z5", widen)
		} else {
			e.f("%s (SI), Z5", widen)
		}
		if symbols {
			if tail {
				e.f("VPSUBD.Z Z4, Z5, K1, Z5")
			} else {
				e.f("VPSUBD Z4, Z5, Z5")
			}
			e.f("VPABSD Z5, Z6")
			e.f("VPMAXUD Z6, Z0, Z0")
		}
		e.f("VCVTDQ2PS Z5, Z5")
		e.f("VMULPS Z3, Z5, Z5")
		if tail {
			e.f("VMOVUPS Z5, K1, (DI)")
		} else {
			e.f("VMOVUPS Z5, (DI)")
		}
	}, func() {
		e.f("ADDQ $%d, SI", 16*size)
		e.f("ADDQ $64, DI")
	})
	if symbols {
		e.maximum(0)
		e.f("MOVQ AX, worst+%d(FP)", 8*(len(args)-1))
	}
	e.f("VZEROUPPER")
	e.f("RET")
}

// symbolKernel writes code + zero as bytes.
func symbolKernel(e *emitter) {
	e.function("codeSymbolsavx512", "(dst *byte, codes *int16, n, zero int)", "dst DI", "codes SI", "n CX", "zero R9")
	e.f("VPBROADCASTD R9, Z3")
	e.sixteens(func(tail bool) {
		if tail {
			e.f("VPMOVSXWD.Z (SI), K1, Z5")
		} else {
			e.f("VPMOVSXWD (SI), Z5")
		}
		e.f("VPADDD Z3, Z5, Z5")
		if tail {
			e.f("VPMOVDB Z5, K1, (DI)")
		} else {
			e.f("VPMOVDB Z5, (DI)")
		}
	}, func() {
		e.f("ADDQ $32, SI")
		e.f("ADDQ $16, DI")
	})
	e.f("VZEROUPPER")
	e.f("RET")
}

// countKernel counts the bytes from first to first+15, first being 0 or 16: a
// permutation gives each of 8 symbols a bit, and as a matrix of 8 x 8 bits, turned,
// 8 bytes become 8 sets of bits to count, one for each symbol. Sums have a byte for
// up to 31 vectors and a word after that: byte 2i+j of the qwords for symbol 2i+j
// adds to words i of counts[j], of the first 8 symbols, and of counts[2+j]. The
// number of bytes is a multiple of 64, below 2^18. It returns the disjunction of
// all bytes, in 8 parts.
func countKernel(e *emitter) {
	var bit []uint16
	for at := 0; at < 64*4; at += 2 {
		w := uint16(0)
		for j := range 2 {
			table, s := at/64, (at+j)%64
			if s/8 == table {
				w |= 1 << (s % 8) << (8 * j)
			}
		}
		bit = append(bit, w)
	}
	e.words("symbolBit", bit)
	e.function("countavx512", "(b *byte, n, first int, counts *[4][32]uint16) (all int)", "b SI", "n CX", "first AX", "counts DI", "all")
	e.f("LEAQ symbolBit<>(SB), BX")
	e.f("VMOVDQU64 (BX)(AX*8), Z0")
	e.f("VMOVDQU64 64(BX)(AX*8), Z1")
	e.f("MOVQ $0x8040201008040201, AX")
	e.f("VPBROADCASTQ AX, Z2")
	e.f("MOVL $0x00ff, AX")
	e.f("VPBROADCASTW AX, Z3")
	for i := range 5 {
		e.f("VPXORQ Z%[1]d, Z%[1]d, Z%[1]d", 4+i)
	}
	e.f("SHRQ $6, CX")
	e.label("block")
	e.f("TESTQ CX, CX")
	e.jump("JZ", "done")
	e.f("MOVQ CX, DX")
	e.f("CMPQ DX, $31")
	e.jump("JLE", "start")
	e.f("MOVL $31, DX")
	e.label("start")
	e.f("SUBQ DX, CX")
	e.f("VPXORQ Z9, Z9, Z9")
	e.f("VPXORQ Z10, Z10, Z10")
	e.label("loop")
	e.f("VMOVDQU64 (SI), Z11")
	e.f("VPORQ Z11, Z8, Z8")
	for i := range 2 {
		e.f("VPERMB Z%d, Z11, Z%d", i, 12+i)
		e.f("VGF2P8AFFINEQB $0, Z%[1]d, Z2, Z%[1]d", 12+i)
		e.f("VPOPCNTB Z%[1]d, Z%[1]d", 12+i)
		e.f("VPADDB Z%d, Z%[2]d, Z%[2]d", 12+i, 9+i)
	}
	e.f("ADDQ $64, SI")
	e.f("DECQ DX")
	e.jump("JNZ", "loop")
	for i := range 2 {
		e.f("VPANDQ Z3, Z%d, Z12", 9+i)
		e.f("VPADDW Z12, Z%d, Z%[1]d", 4+2*i)
		e.f("VPSRLW $8, Z%d, Z12", 9+i)
		e.f("VPADDW Z12, Z%d, Z%[1]d", 5+2*i)
	}
	e.jump("JMP", "block")
	e.label("done")
	for i := range 4 {
		e.f("VMOVDQU64 Z%d, %d(DI)", 4+i, 64*i)
	}
	e.f("VEXTRACTI64X4 $1, Z8, Y9")
	e.f("VPOR Y9, Y8, Y8")
	e.f("VEXTRACTI128 $1, Y8, X9")
	e.f("VPOR X9, X8, X8")
	e.f("VPSHUFD $0x4e, X8, X9")
	e.f("VPOR X9, X8, X8")
	e.f("VMOVQ X8, AX")
	e.f("MOVQ AX, all+32(FP)")
	e.f("VZEROUPPER")
	e.f("RET")
}
