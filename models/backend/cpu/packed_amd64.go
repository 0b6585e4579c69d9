//go:build amd64 && !noasm

package cpu

import (
	"golang.org/x/sys/cpu"
	"splitbench/models/backend"
)

//go:generate go run ./kernelgen packed_amd64.s

// The kernels equal the plain forms that halfKernels and packedKernels name;
// see kernelgen.

//go:noescape
func widenBFloat16avx512(n int, b *uint16, dst *float32)

//go:noescape
func product4x16BFloat16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x32BFloat16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x16BFloat16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x32BFloat16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x16BFloat16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func widenFloat16avx512(n int, b *uint16, dst *float32)

//go:noescape
func product4x16Float16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x32Float16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x16Float16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x32Float16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x16Float16avx512(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func widenInt2avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int2avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int2avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int2avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt3avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int3avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int3avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int3avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt4avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int4avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int4avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int4avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt5avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt6avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt7avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt8avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int8avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int8avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int8avx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenCodebookavx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Codebookavx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Codebookavx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Codebookavx512(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenBFloat16avx2(n int, b *uint16, dst *float32)

//go:noescape
func product4x16BFloat16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x32BFloat16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x16BFloat16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x32BFloat16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x16BFloat16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func widenFloat16avx2(n int, b *uint16, dst *float32)

//go:noescape
func product4x16Float16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x32Float16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product2x16Float16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x32Float16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func product1x16Float16avx2(k int, a *float32, lda int, b *uint16, stride int, c *float32, ldc int)

//go:noescape
func widenInt2avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int2avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int2avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int2avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt3avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int3avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int3avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int3avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt4avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int4avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int4avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int4avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt5avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt6avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt7avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenInt8avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Int8avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Int8avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Int8avx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func widenCodebookavx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product4Codebookavx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product2Codebookavx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

//go:noescape
func product1Codebookavx2(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

// halfAsm and packedAsms hold the kernels by the name of the float32 kernel
// that they go with.
var halfAsm = map[string]map[backend.Element]*halfKernels{
	"avx512": {
		backend.BFloat16: {widenBFloat16avx512, []halfTile{
			{4, [2]func(int, *float32, int, *uint16, int, *float32, int){product4x16BFloat16avx512, nil}},
			{2, [2]func(int, *float32, int, *uint16, int, *float32, int){product2x16BFloat16avx512, product2x32BFloat16avx512}},
			{1, [2]func(int, *float32, int, *uint16, int, *float32, int){product1x16BFloat16avx512, product1x32BFloat16avx512}},
		}},
		backend.Float16: {widenFloat16avx512, []halfTile{
			{4, [2]func(int, *float32, int, *uint16, int, *float32, int){product4x16Float16avx512, nil}},
			{2, [2]func(int, *float32, int, *uint16, int, *float32, int){product2x16Float16avx512, product2x32Float16avx512}},
			{1, [2]func(int, *float32, int, *uint16, int, *float32, int){product1x16Float16avx512, product1x32Float16avx512}},
		}},
	},
	"avx2": {
		backend.BFloat16: {widenBFloat16avx2, []halfTile{
			{4, [2]func(int, *float32, int, *uint16, int, *float32, int){product4x16BFloat16avx2, nil}},
			{2, [2]func(int, *float32, int, *uint16, int, *float32, int){product2x16BFloat16avx2, product2x32BFloat16avx2}},
			{1, [2]func(int, *float32, int, *uint16, int, *float32, int){product1x16BFloat16avx2, product1x32BFloat16avx2}},
		}},
		backend.Float16: {widenFloat16avx2, []halfTile{
			{4, [2]func(int, *float32, int, *uint16, int, *float32, int){product4x16Float16avx2, nil}},
			{2, [2]func(int, *float32, int, *uint16, int, *float32, int){product2x16Float16avx2, product2x32Float16avx2}},
			{1, [2]func(int, *float32, int, *uint16, int, *float32, int){product1x16Float16avx2, product1x32Float16avx2}},
		}},
	},
}

type packedFormat struct {
	bits     int
	codebook bool
}

var packedAsms = map[string]map[packedFormat]*packedKernels{
	"avx512": {
		{2, false}: {widenInt2avx512, []packedTile{{4, product4Int2avx512}, {2, product2Int2avx512}, {1, product1Int2avx512}}},
		{3, false}: {widenInt3avx512, []packedTile{{4, product4Int3avx512}, {2, product2Int3avx512}, {1, product1Int3avx512}}},
		{4, false}: {widenInt4avx512, []packedTile{{4, product4Int4avx512}, {2, product2Int4avx512}, {1, product1Int4avx512}}},
		{5, false}: {widenInt5avx512, nil},
		{6, false}: {widenInt6avx512, nil},
		{7, false}: {widenInt7avx512, nil},
		{8, false}: {widenInt8avx512, []packedTile{{4, product4Int8avx512}, {2, product2Int8avx512}, {1, product1Int8avx512}}},
		{4, true}:  {widenCodebookavx512, []packedTile{{4, product4Codebookavx512}, {2, product2Codebookavx512}, {1, product1Codebookavx512}}},
	},
	"avx2": {
		{2, false}: {widenInt2avx2, []packedTile{{4, product4Int2avx2}, {2, product2Int2avx2}, {1, product1Int2avx2}}},
		{3, false}: {widenInt3avx2, []packedTile{{4, product4Int3avx2}, {2, product2Int3avx2}, {1, product1Int3avx2}}},
		{4, false}: {widenInt4avx2, []packedTile{{4, product4Int4avx2}, {2, product2Int4avx2}, {1, product1Int4avx2}}},
		{5, false}: {widenInt5avx2, nil},
		{6, false}: {widenInt6avx2, nil},
		{7, false}: {widenInt7avx2, nil},
		{8, false}: {widenInt8avx2, []packedTile{{4, product4Int8avx2}, {2, product2Int8avx2}, {1, product1Int8avx2}}},
		{4, true}:  {widenCodebookavx2, []packedTile{{4, product4Codebookavx2}, {2, product2Codebookavx2}, {1, product1Codebookavx2}}},
	},
}

// halfKernelsOf returns the kernels of a 16-bit type beside the named float32
// kernel, nil for none.
func halfKernelsOf(kernel string, e backend.Element) *halfKernels {
	if e == backend.Float16 && kernel == "avx2" && !cpu.X86.HasF16C {
		return nil
	}
	return halfAsm[kernel][e]
}

// packedKernelsOf returns the kernels of a width beside the named float32
// kernel, nil for none.
func packedKernelsOf(kernel string, bits int, codebook bool) *packedKernels {
	return packedAsms[kernel][packedFormat{bits, codebook}]
}
