package cpu

import (
	"encoding/binary"
	"fmt"

	"splitbench/models/backend"
)

// packedWeight keeps group-wise quantised codes in panels of 16 output
// channels. The codes of a channel are one stream of bits, least significant
// first, cut in 32-bit words; word j of channel c of panel p is at
// codes[(p*words+j)*16+c]. So blockK codes are exactly as many vectors of
// words as a code has bits, and code k of all 16 channels is found by one
// shift. Scales and zeros of group g of panel p start at (p*groups+g)*16.
type packedWeight struct {
	out, in       int
	bits          int
	group, groups int
	words         int // per channel
	kernels       *packedKernels
	codes         []uint32
	scales        []float32
	zeros         []uint8   // nil with a table
	table         []float32 // nil, or the codebook
}

// packedKernels are the assembly kernels of one width. Kernels work on whole
// blocks of blockK terms and on groups of whole blocks.
type packedKernels struct {
	widen packedAsm
	tiles []packedTile // products of few rows, most rows first; nil = none
}

type packedTile struct {
	rows int
	fn   packedAsm
}

// packedAsm dequantises blocks*blockK terms of one panel; the group of the
// first lasts left more blocks, others span. It writes them to c, 16 per term,
// or computes c (rows, 16) += a (rows, blocks*blockK) · terms in partial sums
// of blockK.
type packedAsm func(blocks int, codes *uint32, scales *float32, zeros *uint8, table *float32, left, span int, a *float32, lda int, c *float32, ldc int)

func (w *packedWeight) Out() int { return w.out }
func (w *packedWeight) In() int  { return w.in }
func (w *packedWeight) Bytes() int64 {
	return 4*int64(len(w.codes)) + 4*int64(len(w.scales)) + int64(len(w.zeros)) + 4*int64(len(w.table))
}

// NewPackedWeight lays the codes out for the kernels; p's slices stay the
// caller's.
func (b *Backend) NewPackedWeight(p backend.Packed) (backend.Weight, error) {
	if p.Out <= 0 || p.In <= 0 || p.Group < 0 {
		return nil, fmt.Errorf("cpu backend: packed weight of %d x %d in groups of %d", p.Out, p.In, p.Group)
	}
	if p.Bits < 1 || p.Bits > 8 {
		return nil, fmt.Errorf("cpu backend: packed weight of %d bits, expected 1..8", p.Bits)
	}
	w := &packedWeight{out: p.Out, in: p.In, bits: p.Bits, group: p.Group}
	if w.group == 0 || w.group > p.In {
		w.group = p.In
	}
	w.groups = (p.In + w.group - 1) / w.group
	w.words = (p.In*p.Bits + 31) / 32
	rowBytes, zeros := (p.In*p.Bits+7)/8, p.Out*w.groups
	if p.Codebook != nil {
		if p.Bits != 4 || len(p.Codebook) != 16 {
			return nil, fmt.Errorf("cpu backend: packed weight of %d bits with a codebook of %d values, expected 4 bits and 16 values", p.Bits, len(p.Codebook))
		}
		zeros = 0
		w.table = append([]float32(nil), p.Codebook...)
	}
	if len(p.Codes) != p.Out*rowBytes || len(p.Scales) != p.Out*w.groups || len(p.Zeros) != zeros {
		return nil, fmt.Errorf("cpu backend: packed weight %d x %d: %d code bytes, %d scales, %d zeros, expected %d, %d, %d",
			p.Out, p.In, len(p.Codes), len(p.Scales), len(p.Zeros), p.Out*rowBytes, p.Out*w.groups, zeros)
	}
	if w.group%blockK == 0 || w.groups == 1 {
		w.kernels = packedKernelsOf(b.kernel.name, p.Bits, w.table != nil)
	}
	np := (p.Out + panelWidth - 1) / panelWidth
	w.codes = allocate[uint32](w, np*w.words*panelWidth)
	w.scales = make([]float32, np*w.groups*panelWidth)
	if w.table == nil {
		w.zeros = make([]uint8, np*w.groups*panelWidth)
	}
	err := b.fillPanels(p.Out, p.In, func(_, panel, from, to int) error {
		codes := w.codes[panel*w.words*panelWidth:]
		transpose(w.scales[panel*w.groups*panelWidth:], p.Scales[from*w.groups:], to-from, w.groups, w.groups)
		if w.table == nil {
			transpose(w.zeros[panel*w.groups*panelWidth:], p.Zeros[from*w.groups:], to-from, w.groups, w.groups)
		}
		for r := from; r < to; r++ {
			row := p.Codes[r*rowBytes : (r+1)*rowBytes]
			column := codes[r-from:]
			whole := rowBytes / 4
			for j := range whole {
				column[j*panelWidth] = binary.LittleEndian.Uint32(row[4*j:])
			}
			for i, v := range row[4*whole:] {
				column[whole*panelWidth] |= uint32(v) << (8 * i)
			}
		}
		return nil
	})
	return w, err
}

func (w *packedWeight) widen(dst []float32, p, k0, kn int) {
	if blocks := kn / blockK; blocks > 0 && w.kernels != nil {
		done := blocks * blockK
		span, left := w.spans(k0)
		codes := w.codes[(p*w.words+k0/blockK*w.bits)*panelWidth:][:blocks*w.bits*panelWidth]
		scales, zeros, table := w.grids(p, k0, done)
		c := dst[:done*panelWidth]
		w.kernels.widen(blocks, &codes[0], scales, zeros, table, left, span, nil, 0, &c[0], 0)
		dst, k0, kn = dst[done*panelWidth:], k0+done, kn-done
	}
	for k := 0; k < kn; k += blockK {
		w.widenBlock(dst[k*panelWidth:], p, k0+k, min(blockK, kn-k))
	}
}

// spans returns the blocks of a group, and of the group of term k0 from there
// on.
func (w *packedWeight) spans(k0 int) (span, left int) {
	if w.groups == 1 {
		return 1 << 40, 1 << 40
	}
	span = w.group / blockK
	return span, span - k0/blockK%span
}

// grids returns where the scales and zeros of the group of term k0 start, and
// proves that those of n terms exist.
func (w *packedWeight) grids(p, k0, n int) (scales *float32, zeros *uint8, table *float32) {
	from, to := (p*w.groups+k0/w.group)*panelWidth, (p*w.groups+(k0+n-1)/w.group+1)*panelWidth
	scales = &w.scales[from:to][0]
	if w.table != nil {
		return scales, nil, &w.table[0]
	}
	return scales, &w.zeros[from:to][0], nil
}

// widenBlock is the plain form of packedKernels.widen for n <= blockK terms
// from k0 on, any group size.
func (w *packedWeight) widenBlock(dst []float32, p, k0, n int) {
	words := w.codes[p*w.words*panelWidth:][:w.words*panelWidth]
	mask := uint32(1)<<w.bits - 1
	for k := k0; k < k0+n; {
		g := k / w.group
		scale := (*[panelWidth]float32)(w.scales[(p*w.groups+g)*panelWidth:])
		var zero [panelWidth]float32
		if w.table == nil {
			for c, z := range (*[panelWidth]uint8)(w.zeros[(p*w.groups+g)*panelWidth:]) {
				zero[c] = float32(z)
			}
		}
		for end := min(k0+n, (g+1)*w.group); k < end; k++ {
			bit := k * w.bits
			j, shift := bit>>5, bit&31
			codes := (*[panelWidth]uint32)(words[j*panelWidth:])
			if shift+w.bits > 32 { // the codes end in the next words
				var joined [panelWidth]uint32
				for c, v := range (*[panelWidth]uint32)(words[(j+1)*panelWidth:]) {
					joined[c] = v<<((32-shift)&31) | codes[c]>>(shift&31)
				}
				codes, shift = &joined, 0
			}
			out := (*[panelWidth]float32)(dst[(k-k0)*panelWidth:])
			if w.table != nil {
				table := (*[16]float32)(w.table)
				for c, v := range codes {
					out[c] = scale[c] * table[v>>(shift&31)&15]
				}
				continue
			}
			for c, v := range codes {
				out[c] = scale[c] * (float32(int32(v>>(shift&31)&mask)) - zero[c])
			}
		}
	}
}

func (w *packedWeight) few(rows int, a []float32, lda, p, panels int, c []float32, ldc int) int {
	blocks := w.in / blockK
	if w.kernels == nil || w.kernels.tiles == nil || blocks == 0 {
		return 0
	}
	done := blocks * blockK
	span, left := w.spans(0)
	// The kernels read and write through pointers: prove the bounds here.
	_ = a[(rows-1)*lda+done-1]
	_ = c[(rows-1)*ldc+panels*panelWidth-1]
	for q := range panels {
		codes := w.codes[(p+q)*w.words*panelWidth:][:blocks*w.bits*panelWidth]
		scales, zeros, table := w.grids(p+q, 0, done)
		i := 0
		for _, t := range w.kernels.tiles {
			for i+t.rows <= rows {
				t.fn(blocks, &codes[0], scales, zeros, table, left, span, &a[i*lda], lda, &c[i*ldc+q*panelWidth], ldc)
				i += t.rows
			}
		}
	}
	return done
}
