package quantise

import (
	"splitbench/models/backend"
	"splitbench/models/quantize"
)

// packedColumns divides the groups that a backend multiplies packed.
const packedColumns = 32

// packed returns the form in which a backend keeps the integers of a linear map
// and multiplies by them, to the bits that Values give; false where there is
// none and the values are kept in float32:
//
//   - groups that the order of activations has mixed, and groups of another
//     size than a multiple of packedColumns, or the row;
//   - zero points that are no integers of 0 to 255 above the least code;
//   - outliers that stay as they are.
//
// 5 to 7 bits are kept in 8. So are outliers with what they are outliers of: one
// matrix whose codes have the width of the outliers.
func (l *Linear) packed() (p backend.Packed, ok bool) {
	parts := []*quantize.Tensor{l.Body}
	group := 0 // 0: the row
	switch {
	case l.Body == nil:
		return p, false
	case l.Outlier != nil:
		parts = append(parts, l.Outlier)
		group = l.Outlier.Cols
		if q := l.Outlier.Quantizer; q.Group > 0 {
			group = common(group, q.Group)
		}
		group = common(group, l.Body.Cols)
	case l.Body.Cols != l.In:
		return p, false
	}
	if q := l.Body.Quantizer; q.Group > 0 && q.Group < l.Body.Cols {
		group = common(group, q.Group)
	} else if group == l.In {
		group = 0
	}
	if group%packedColumns != 0 {
		return p, false
	}
	for _, t := range parts {
		if t.GroupOf != nil || t.Quantizer.Granularity == quantize.PerTensor {
			return p, false
		}
		p.Bits = max(p.Bits, t.Quantizer.Bits)
	}
	if p.Bits > 4 {
		p.Bits = 8
	}
	p.Out, p.In, p.Group = l.Out, l.In, group
	groups := 1
	if group > 0 {
		groups = l.In / group
	}
	p.Scales, p.Zeros = make([]float32, l.Out*groups), make([]uint8, l.Out*groups)
	rowBytes := (l.In*p.Bits + 7) / 8
	p.Codes = make([]byte, l.Out*rowBytes)
	offset := 0
	for _, t := range parts {
		low, _ := t.Quantizer.Range()
		across, columns := 1, t.Cols
		if g := t.Quantizer.Group; g > 0 && g < t.Cols {
			if t.Cols%g != 0 {
				return p, false
			}
			across, columns = t.Cols/g, g
		}
		share := max(1, t.Quantizer.SharedRows)
		step := group
		if step == 0 {
			step = l.In
		}
		for r := range t.Rows {
			for c := 0; c < t.Cols; c += step {
				from, to := r/share*across+c/columns, r*groups+(offset+c)/step
				zero := t.Zero[from] - float32(low)
				p.Scales[to], p.Zeros[to] = t.Scale[from], uint8(max(0, min(zero, 255)))
				if float32(p.Zeros[to]) != zero {
					return p, false
				}
			}
			packBits(p.Codes[r*rowBytes:(r+1)*rowBytes], offset, t.Code[r*t.Cols:(r+1)*t.Cols], p.Bits)
		}
		offset += t.Cols
	}
	return p, true
}

// common is the greatest common divisor; that with 0 is the other number.
func common(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// packBits writes codes of a width to a row of zeros, least significant bit
// first, from a column on.
func packBits(row []byte, column int, codes []uint8, bits int) {
	for i, v := range codes {
		at := (column + i) * bits
		row[at/8] |= v << (at % 8)
		if at%8+bits > 8 {
			row[at/8+1] |= v >> (8 - at%8)
		}
	}
}
