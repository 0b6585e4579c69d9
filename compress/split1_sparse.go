package compress

import (
	"fmt"
	"math/bits"
)

// appendSparse appends the values above the threshold in the form that takes the
// fewest bytes: per row where they are, then all values.
func (s *scratch) appendSparse(dst []byte, t *Tables) ([]byte, byte) {
	a, rows, cols := &s.quantised.Above, s.quantised.Rows, s.quantised.Cols
	if len(a.Val) == 0 {
		return dst, sparseNone
	}
	gaps, mask := 0, rows*((len(t.hot)+7)/8)
	for r := range rows {
		at := a.Col[a.RowPtr[r]:a.RowPtr[r+1]]
		gaps += gapsSize(at)
		if len(t.hot) > 0 {
			s.others = t.others(s.others[:0], at)
			mask += gapsSize(s.others)
		}
	}
	form := byte(sparseGaps)
	if len(t.hot) > 0 && mask < gaps {
		form = sparseMask
	}
	if bitmap := rows * ((cols + 7) / 8); bitmap < gaps && (form == sparseGaps || bitmap < mask) {
		form = sparseBitmap
	}
	for r := range rows {
		at := a.Col[a.RowPtr[r]:a.RowPtr[r+1]]
		switch form {
		case sparseGaps:
			dst = appendGaps(dst, at)
		case sparseMask:
			start := len(dst)
			dst = append(dst, make([]byte, (len(t.hot)+7)/8)...)
			for _, j := range at {
				if h := t.hotIndex[j]; h > 0 {
					dst[start+int(h-1)/8] |= 1 << ((h - 1) % 8)
				}
			}
			dst = appendGaps(dst, t.others(s.others[:0], at))
		case sparseBitmap:
			start := len(dst)
			dst = append(dst, make([]byte, (cols+7)/8)...)
			for _, j := range at {
				dst[start+int(j/8)] |= 1 << (j % 8)
			}
		}
	}
	for _, v := range a.Val {
		dst = s.quantised.aboveType.append(dst, v)
	}
	return dst, form
}

// others appends the columns of at that are not hot.
func (t *Tables) others(dst, at []uint32) []uint32 {
	for _, j := range at {
		if t.hotIndex[j] == 0 {
			dst = append(dst, j)
		}
	}
	return dst
}

// parseSparse reads the sparse part into s.quantised.Above.
func (b *split1Body) parseSparse(in *parser) error {
	a := &b.s.quantised.Above
	a.reset(b.rows)
	form := b.sparseForm()
	for r := 0; r < b.rows && form != sparseNone; r++ {
		var err error
		switch form {
		case sparseGaps:
			a.Col, err = in.gaps(a.Col, b.cols, b.cols)
		case sparseMask:
			err = b.parseMask(in, a)
		case sparseBitmap:
			a.Col, err = in.bitmap(a.Col, b.cols)
		}
		if err != nil {
			return fmt.Errorf("sparse part: row %d: %w", r, err)
		}
		a.RowPtr = append(a.RowPtr, uint32(len(a.Col)))
	}
	if form == sparseNone {
		for range b.rows {
			a.RowPtr = append(a.RowPtr, 0)
		}
		return nil
	}
	if len(a.Col) == 0 {
		return fmt.Errorf("sparse part holds nothing")
	}
	t := b.valueType()
	values := in.take(len(a.Col) * t.size())
	if in.bad {
		return fmt.Errorf("sparse part: the values of %d columns are cut short", len(a.Col))
	}
	a.Val = resize(a.Val, len(a.Col))
	for i := range a.Val {
		a.Val[i] = t.value(values, i)
	}
	return nil
}

// bitmap reads a bit for each column and appends those set.
func (p *parser) bitmap(dst []uint32, cols int) ([]uint32, error) {
	mask := p.take((cols + 7) / 8)
	if p.bad {
		return dst, fmt.Errorf("a bit for each of %d columns is cut short", cols)
	}
	for i, byte := range mask {
		for ; byte != 0; byte &= byte - 1 {
			j := 8*i + bits.TrailingZeros8(byte)
			if j >= cols {
				return dst, fmt.Errorf("bit %d of %d is set", j, cols)
			}
			dst = append(dst, uint32(j))
		}
	}
	return dst, nil
}

// parseMask reads a row of the form sparseMask: the hot channels set, merged with
// the others in rising order.
func (b *split1Body) parseMask(in *parser, a *CSR) (err error) {
	if len(b.t.hot) == 0 {
		return fmt.Errorf("a mask of hot channels, the tables have none")
	}
	s := b.s
	if s.hot, err = in.bitmap(s.hot[:0], len(b.t.hot)); err != nil {
		return err
	}
	if s.others, err = in.gaps(s.others[:0], b.cols, b.cols); err != nil {
		return err
	}
	hot, others := s.hot, s.others
	for len(hot)+len(others) > 0 {
		if len(others) == 0 || len(hot) > 0 && b.t.hot[hot[0]] < others[0] {
			a.Col = append(a.Col, b.t.hot[hot[0]])
			hot = hot[1:]
			continue
		}
		if b.t.hotIndex[others[0]] > 0 {
			return fmt.Errorf("hot channel %d is not in the mask", others[0])
		}
		a.Col = append(a.Col, others[0])
		others = others[1:]
	}
	return nil
}
