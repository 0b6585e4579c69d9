package tokenizer

// mergeBatch enters merges into a bpe, many at a time. The tables are larger than the fast memory, so that a merge is a
// dozen waits for a place of a table that nothing foretells; going through a batch place by place lets them overlap.
type mergeBatch struct {
	m     *bpe
	v     *vocabulary
	items [64]mergeItem
	n     int
	last  int32  // product of the merge before
	made  []bool // by id: some merge makes it; may be nil
	skip  bool   // a merge of unknown tokens is passed over
	text  []byte
	touch uint64
}

// mergeItem is a merge that is not entered yet.
type mergeItem struct {
	left, right string
	hl, hr      uint64 // their hashes
	l, r        int32
	to          int32 // noSymbol if it is still to be found
	rank        uint32
	at          int // where in the file it stands
}

// add enters a merge, and returns one that is not made of tokens of the vocabulary if there is one among those entered now.
func (b *mergeBatch) add(it mergeItem) *mergeItem {
	b.items[b.n] = it
	if b.n++; b.n == len(b.items) {
		return b.flush()
	}
	return nil
}

func (b *mergeBatch) flush() (bad *mergeItem) {
	items := b.items[:b.n]
	b.n = 0
	sum := b.touch
	for i := range items {
		it := &items[i]
		it.hl, it.hr = hashPiece(it.left), hashPiece(it.right)
		sum += b.v.touchSlot(it.hl) + b.v.touchSlot(it.hr)
	}
	for i := range items {
		sum += b.v.touchPiece(items[i].hl) + b.v.touchPiece(items[i].hr)
	}
	for i := range items {
		it := &items[i]
		var lok, rok, ok bool
		it.l, lok = b.v.findHashed(it.left, it.hl)
		it.r, rok = b.v.findHashed(it.right, it.hr)
		if ok = it.to >= 0; !ok {
			it.to, ok = b.product(it)
		}
		if !lok || !rok || !ok {
			if !b.skip {
				return it
			}
			it.l = noSymbol
			continue
		}
		sum += b.m.pairs.slots[b.m.pairs.slot(pairKey(it.l, it.r))]
	}
	for i := range items {
		it := &items[i]
		if it.l == noSymbol {
			continue
		}
		b.m.pairs.set(it.l, it.r, it.rank, it.to)
		if b.made != nil {
			b.made[it.to] = true
		}
	}
	b.touch = sum
	return nil
}

// product finds the token that a merge makes. In published files it is that of the merge before, or the token behind it.
func (b *mergeBatch) product(it *mergeItem) (int32, bool) {
	b.text = append(append(b.text[:0], it.left...), it.right...)
	joined := view(b.text)
	for k := b.last; k < b.last+2 && int(k) < len(b.v.pieces); k++ {
		if b.v.pieces[k] == joined {
			b.last = k
			return k, true
		}
	}
	to, ok := b.v.find(joined)
	b.last = max(to, 0)
	return to, ok
}
