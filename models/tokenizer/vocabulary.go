package tokenizer

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
)

// pieceSeed is the seed of all tables of pieces.
var pieceSeed = maphash.MakeSeed()

// pieceSet maps texts to ids. It is an open-addressing hash table that keeps no text of its own: a slot is the upper half
// of the hash and the id plus one, and the text is that of pieces.
type pieceSet struct {
	slots  []uint64 // 0 is an empty slot
	used   int
	pieces []string // by id
}

func newPieceSet(n int) pieceSet {
	return pieceSet{slots: make([]uint64, 1<<max(bits.Len(uint(n+n/2)), 4))}
}

// find returns the id of a text, and false if there is none.
func (p *pieceSet) find(text string) (int32, bool) { return p.findHashed(text, hashPiece(text)) }

// hashPiece is the part of a text's hash that a slot keeps.
func hashPiece(text string) uint64 { return maphash.String(pieceSeed, text) >> 32 }

func (p *pieceSet) findHashed(text string, h uint64) (int32, bool) {
	for i, mask := h, uint64(len(p.slots)-1); ; i++ {
		s := p.slots[i&mask]
		if s == 0 {
			return noSymbol, false
		}
		if s>>32 == h {
			if id := int32(uint32(s)) - 1; p.pieces[id] == text {
				return id, true
			}
		}
	}
}

// touchSlot and touchPiece read what findHashed will read, so that several texts are fetched at the same time.
func (p *pieceSet) touchSlot(h uint64) uint64 { return p.slots[h&uint64(len(p.slots)-1)] }

func (p *pieceSet) touchPiece(h uint64) uint64 {
	if s := p.touchSlot(h); s != 0 {
		if piece := p.pieces[uint32(s)-1]; piece != "" {
			return uint64(piece[0])
		}
	}
	return 0
}

// insert enters a text with its id, which pieces[id] is to be afterwards. If the text is there already, its id is returned
// and false.
func (p *pieceSet) insert(text string, id int32) (int32, bool) {
	if 4*p.used >= 3*len(p.slots) {
		old := p.slots
		p.slots = make([]uint64, 2*len(old))
		for _, s := range old {
			if s != 0 {
				p.put(s)
			}
		}
	}
	h := hashPiece(text)
	for i, mask := h, uint64(len(p.slots)-1); ; i++ {
		s := p.slots[i&mask]
		if s == 0 {
			p.slots[i&mask] = h<<32 | uint64(uint32(id+1))
			p.used++
			return id, true
		}
		if s>>32 == h {
			if old := int32(uint32(s)) - 1; p.pieces[old] == text {
				return old, false
			}
		}
	}
}

func (p *pieceSet) put(s uint64) {
	i, mask := s>>32, uint64(len(p.slots)-1)
	for ; p.slots[i&mask] != 0; i++ {
	}
	p.slots[i&mask] = s
}

// vocabulary maps surfaces to ids and refuses what a table cannot hold.
type vocabulary struct {
	pieceSet
	kinds []pieceKind
}

func newVocabulary(n int) *vocabulary {
	v := &vocabulary{pieceSet: newPieceSet(n), kinds: make([]pieceKind, 0, n)}
	v.pieces = make([]string, 0, n)
	return v
}

// whole returns the tokens of now as a set that later additions do not change.
func (v *vocabulary) whole() *pieceSet {
	return &pieceSet{slots: slices.Clone(v.slots), used: v.used, pieces: slices.Clone(v.pieces)}
}

// add gives piece the number id. limit is the largest id plus one that the file's size allows.
func (v *vocabulary) add(piece string, id int64, kind pieceKind, limit int) error {
	if piece == "" {
		return fmt.Errorf("token %d is empty, expected at least one character", id)
	}
	if id < 0 || id >= int64(limit) {
		return fmt.Errorf("token %.40q has id %d, expected 0 to %d at most for a file of this size", piece, id, limit-1)
	}
	if id >= maxSymbols {
		return fmt.Errorf("token %.40q has id %d, expected at most %d", piece, id, maxSymbols-1)
	}
	for len(v.pieces) <= int(id) {
		v.pieces, v.kinds = append(v.pieces, ""), append(v.kinds, pieceAbsent)
	}
	if old, ok := v.insert(piece, int32(id)); !ok {
		return fmt.Errorf("token %.40q is defined twice, as %d and as %d", piece, old, id)
	}
	if v.kinds[id] != pieceAbsent {
		return fmt.Errorf("id %d belongs to two tokens, %.40q and %.40q", id, v.pieces[id], piece)
	}
	v.pieces[id], v.kinds[id] = piece, kind
	return nil
}

// read enters a JSON object of tokens and ids.
func (v *vocabulary) read(r *jsonReader, name string, limit int) error {
	return r.object(func(piece string) error {
		id, err := r.id()
		if err != nil {
			return fmt.Errorf("%w for %s %.40q", err, name, piece)
		}
		if err := v.add(piece, id, pieceText, limit); err != nil {
			return r.fail("%s: %v", name, err)
		}
		return nil
	})
}
