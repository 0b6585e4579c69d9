package tokenizer

import (
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"
	"unsafe"
)

const (
	noSymbol = -1
	noRank   = ^uint32(0)
	markRune = '\u2581'

	// shortWord is the length in bytes up to which a word is merged in place on the stack and remembered.
	shortWord = 64
	// cacheBits is the binary logarithm of the number of remembered words.
	cacheBits = 16
)

// bpe is byte-pair encoding: a word starts as one symbol per character, or per byte with byteLevel, and the pair of
// neighbours with the lowest rank is merged, leftmost first among equals, until no neighbours have a merge.
//
// Without byteLevel a space and U+2581 are the same character in all texts: every such file maps one to the other.
type bpe struct {
	n     int // number of token ids; symbols from n on are characters that occur in tokens only
	extra []rune
	ascii [utf8.RuneSelf]int32
	pages [(utf8.MaxRune + 1) >> 8]*[256]int32
	pairs pairTable

	byteLevel    bool // words are bytes, each of which has a token
	byteFallback bool
	bytes        [256]int32 // token of a byte, noSymbol if there is none
	unk          int32      // token of an unknown character, noSymbol to drop it
	fuseUnk      bool
	// latePieces: an unknown character is looked at when all merges are done (SentencePiece), not before the first one
	// (Hugging Face). The two differ only where a token contains a character that is no token itself.
	latePieces bool

	// everyMark makes each U+2581 begin a word of its own, even after another one. Otherwise the text falls apart before
	// a U+2581 that follows something else, which changes no id if splits holds.
	everyMark bool
	// splits: no merge gives a token with a U+2581 behind another character, U+2581 is a token, and no unknown character
	// is dropped, so that no merge and no run of unknown characters crosses such a place.
	splits bool

	// whole holds the tokens if a pre-token that is a token needs no merges (ignore_merges), longest the bytes of the
	// longest of them.
	whole   *pieceSet
	longest int
	spelled bool // whole has GPT-2's alphabet for bytes

	seed  maphash.Seed
	cache []atomic.Pointer[cachedWord]
	pool  sync.Pool
}

// cachedWord is the encoding of one short word. It is never changed.
type cachedWord struct {
	word string
	ids  []int32
}

func newBPE(n int) *bpe {
	m := &bpe{n: n, unk: noSymbol, seed: maphash.MakeSeed()}
	for i := range m.ascii {
		m.ascii[i] = noSymbol
	}
	for i := range m.bytes {
		m.bytes[i] = noSymbol
	}
	m.pool.New = func() any { return new(longWord) }
	return m
}

// symbol returns the symbol of a character, noSymbol if there is none.
func (m *bpe) symbol(r rune) int32 {
	if r < utf8.RuneSelf {
		return m.ascii[r]
	}
	if p := m.pages[r>>8]; p != nil {
		return p[r&255]
	}
	return noSymbol
}

func (m *bpe) setSymbol(r rune, s int32) {
	if r < utf8.RuneSelf {
		m.ascii[r] = s
		return
	}
	p := m.pages[r>>8]
	if p == nil {
		p = new([256]int32)
		for i := range p {
			p[i] = noSymbol
		}
		m.pages[r>>8] = p
	}
	p[r&255] = s
}

// finish fixes the word boundaries once all symbols and merges are set; products are the tokens that merges make.
func (m *bpe) finish(products func(yield func(piece string) bool)) {
	m.cache = make([]atomic.Pointer[cachedWord], 1<<cacheBits)
	if m.byteLevel {
		return
	}
	if s := m.symbol(markRune); s != noSymbol {
		m.setSymbol(' ', s)
		drops := m.unk == noSymbol && (!m.byteFallback || slices.Contains(m.bytes[:], noSymbol))
		m.splits = int(s) < m.n && !drops
	} else {
		m.setSymbol(' ', noSymbol)
	}
	if m.splits {
		for p := range products {
			if rest := strings.TrimLeft(p, mark); strings.Contains(rest, mark) {
				m.splits = false
				break
			}
		}
	}
}

// encode appends the ids of text. With lead, a U+2581 is put before it.
func (m *bpe) encode(dst []int32, text string, lead bool) []int32 {
	if text == "" {
		return dst
	}
	if !m.everyMark && m.whole != nil && len(text) <= m.longest {
		if id, ok := m.token(text, lead); ok {
			return append(dst, id)
		}
	}
	if !m.splits && !m.everyMark {
		if lead {
			text = " " + text
		}
		return m.word(dst, text)
	}
	i := 0
	if lead {
		end := 0
		if !m.everyMark {
			end = marksEnd(text, 0)
		}
		if !m.everyMark || markAt(text, 0) == 0 {
			end = wordEnd(text, end)
		}
		dst = m.word(dst, " "+text[:end])
		i = end
	}
	for i < len(text) {
		end := i
		if m.everyMark {
			end += markAt(text, i)
		} else {
			end = marksEnd(text, i)
		}
		end = wordEnd(text, end)
		dst = m.word(dst, text[i:end])
		i = end
	}
	return dst
}

// markAt returns the length of the space or U+2581 at s[i:], 0 if there is none.
func markAt(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == ' ':
		return 1
	case s[i] == mark[0] && len(s)-i >= len(mark) && s[i+1] == mark[1] && s[i+2] == mark[2]:
		return len(mark)
	}
	return 0
}

func marksEnd(s string, i int) int {
	for n := markAt(s, i); n > 0; n = markAt(s, i) {
		i += n
	}
	return i
}

// wordEnd returns the position of the next space or U+2581 at or after i.
func wordEnd(s string, i int) int {
	for ; i < len(s); i++ {
		if c := s[i]; c == ' ' || c == mark[0] && markAt(s, i) > 0 {
			break
		}
	}
	return i
}

// token returns the token that is a whole pre-token.
func (m *bpe) token(text string, lead bool) (int32, bool) {
	switch {
	case m.spelled:
		var buf [3 * shortWord]byte
		b := buf[:0]
		for i := range len(text) {
			b = utf8.AppendRune(b, byteAlphabet[text[i]])
		}
		// Added tokens have come to the set since; those are not seen here.
		id, ok := m.whole.find(view(b))
		return id, ok && int(id) < m.n
	case !m.byteLevel:
		if text = strings.ReplaceAll(text, " ", mark); lead {
			text = mark + text
		}
	}
	return m.whole.find(text)
}

// word appends the ids of one word, in which everything may merge with everything.
func (m *bpe) word(dst []int32, w string) []int32 {
	if len(w) > shortWord {
		if (m.everyMark || m.byteLevel) && m.whole != nil && len(w) <= m.longest {
			if id, ok := m.token(w, false); ok {
				return append(dst, id)
			}
		}
		return m.long(dst, w)
	}
	h := maphash.String(m.seed, w) >> (64 - cacheBits)
	slot := &m.cache[h]
	c := slot.Load()
	if c != nil && c.word == w {
		return append(dst, c.ids...)
	}
	if c != nil { // a second place for the word, in the same cache line
		slot = &m.cache[h^1]
		if c := slot.Load(); c != nil && c.word == w {
			return append(dst, c.ids...)
		}
	}
	start := len(dst)
	dst = m.short(dst, w)
	slot.Store(&cachedWord{strings.Clone(w), append([]int32(nil), dst[start:]...)})
	return dst
}

// short merges a word of at most shortWord bytes by scanning for the lowest rank.
func (m *bpe) short(dst []int32, w string) []int32 {
	if (m.everyMark || m.byteLevel) && m.whole != nil {
		if id, ok := m.token(w, false); ok {
			return append(dst, id)
		}
	}
	var symStore, mergedStore [shortWord]int32
	var ranks [shortWord]uint32
	sym := m.symbols(symStore[:0], w)
	if len(sym) > shortWord { // spaces that become the three bytes of an unknown U+2581
		return m.long(dst, w)
	}
	merged := mergedStore[:]
	n := len(sym)
	for i := 0; i+1 < n; i++ {
		ranks[i], merged[i] = m.pairs.find(sym[i], sym[i+1])
	}
	for n > 1 {
		at, low := 0, noRank
		for i, r := range ranks[:n-1] {
			if r < low {
				at, low = i, r
			}
		}
		if low == noRank {
			break
		}
		sym[at] = merged[at]
		copy(sym[at+1:n-1], sym[at+2:n])
		copy(ranks[at+1:n-1], ranks[at+2:n])
		copy(merged[at+1:n-1], merged[at+2:n])
		n--
		if at+1 < n {
			ranks[at], merged[at] = m.pairs.find(sym[at], sym[at+1])
		}
		if at > 0 {
			ranks[at-1], merged[at-1] = m.pairs.find(sym[at-1], sym[at])
		}
	}
	e := emitter{m: m, dst: dst}
	for _, s := range sym[:n] {
		e.emit(s)
	}
	return e.dst
}

// longWord is the scratch space of one long word: a linked list of symbols and a queue of merges.
type longWord struct {
	sym, merged, next, prev []int32
	rank                    []uint32
	queue                   []uint64 // rank<<32 | position, a 4-ary heap
}

// keepScratch is the number of symbols up to which scratch space is kept for the next word.
const keepScratch = 1 << 16

// long merges a word of any length in O(n log n).
func (m *bpe) long(dst []int32, w string) []int32 {
	l := m.pool.Get().(*longWord)
	l.sym = m.symbols(l.sym[:0], w)
	n := len(l.sym)
	l.merged, l.next, l.prev = resize(l.merged, n), resize(l.next, n), resize(l.prev, n)
	l.rank, l.queue = resize(l.rank, n), l.queue[:0]
	for i := range n {
		l.next[i], l.prev[i], l.rank[i] = int32(i+1), int32(i-1), noRank
		if i+1 < n {
			if l.rank[i], l.merged[i] = m.pairs.find(l.sym[i], l.sym[i+1]); l.rank[i] != noRank {
				l.queue = append(l.queue, uint64(l.rank[i])<<32|uint64(i))
			}
		}
	}
	for i := (len(l.queue) - 2) / 4; i >= 0 && len(l.queue) > 1; i-- {
		l.down(i)
	}
	for len(l.queue) > 0 {
		top := l.pop()
		at := int32(uint32(top))
		// An entry is stale if its pair has changed since: ranks[at] is that of the pair that begins at at now.
		if l.rank[at] != uint32(top>>32) {
			continue
		}
		gone := l.next[at]
		l.sym[at] = l.merged[at]
		l.rank[gone] = noRank
		l.next[at] = l.next[gone]
		if int(l.next[gone]) < n {
			l.prev[l.next[gone]] = at
		}
		m.requeue(l, at)
		if l.prev[at] >= 0 {
			m.requeue(l, l.prev[at])
		}
	}
	e := emitter{m: m, dst: dst}
	for i := 0; i < n; i = int(l.next[i]) {
		e.emit(l.sym[i])
	}
	if n <= keepScratch {
		m.pool.Put(l)
	}
	return e.dst
}

// requeue looks up the pair that now begins at position at.
func (m *bpe) requeue(l *longWord, at int32) {
	l.rank[at] = noRank
	if int(l.next[at]) >= len(l.sym) {
		return
	}
	if l.rank[at], l.merged[at] = m.pairs.find(l.sym[at], l.sym[l.next[at]]); l.rank[at] != noRank {
		l.push(uint64(l.rank[at])<<32 | uint64(at))
	}
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

func (l *longWord) push(v uint64) {
	l.queue = append(l.queue, v)
	i := len(l.queue) - 1
	for i > 0 {
		up := (i - 1) / 4
		if l.queue[up] <= v {
			break
		}
		l.queue[i] = l.queue[up]
		i = up
	}
	l.queue[i] = v
}

func (l *longWord) pop() uint64 {
	top, last := l.queue[0], len(l.queue)-1
	l.queue[0] = l.queue[last]
	l.queue = l.queue[:last]
	if last > 1 {
		l.down(0)
	}
	return top
}

func (l *longWord) down(i int) {
	q := l.queue
	v := q[i]
	for {
		c := 4*i + 1
		if c >= len(q) {
			break
		}
		low := c
		for k := c + 1; k < min(c+4, len(q)); k++ {
			if q[k] < q[low] {
				low = k
			}
		}
		if v <= q[low] {
			break
		}
		q[i] = q[low]
		i = low
	}
	q[i] = v
}

// symbols appends the symbols that a word starts from.
func (m *bpe) symbols(dst []int32, w string) []int32 {
	if m.byteLevel {
		for i := range len(w) {
			dst = append(dst, m.bytes[w[i]])
		}
		return dst
	}
	pending := false // an unknown symbol that Hugging Face holds back until the next known character
	for i := 0; i < len(w); {
		r, size := rune(w[i]), 1
		var s int32
		if r < utf8.RuneSelf {
			s = m.ascii[r]
		} else {
			r, size = utf8.DecodeRuneInString(w[i:])
			s = m.symbol(r)
		}
		if s != noSymbol {
			if pending {
				dst, pending = append(dst, m.unk), false
			}
			dst = append(dst, s)
			i += size
			continue
		}
		char := w[i : i+size]
		if r == ' ' {
			char = mark
		}
		i += size
		if b, ok := m.byteTokens(char); ok {
			dst = append(dst, b[:len(char)]...)
			continue
		}
		if m.latePieces {
			dst = append(dst, noSymbol)
		} else if m.unk != noSymbol {
			if pending && !m.fuseUnk {
				dst = append(dst, m.unk)
			}
			pending = true
		}
	}
	if pending {
		dst = append(dst, m.unk)
	}
	return dst
}

// byteTokens returns the byte tokens of a character, and false if there are none for all of its bytes.
func (m *bpe) byteTokens(char string) (b [utf8.UTFMax]int32, ok bool) {
	if !m.byteFallback {
		return b, false
	}
	for k := range len(char) {
		if b[k] = m.bytes[char[k]]; b[k] == noSymbol {
			return b, false
		}
	}
	return b, true
}

// emitter writes the symbols of a merged word as ids.
type emitter struct {
	m   *bpe
	dst []int32
	unk bool // the last id stands for unknown characters
}

func (e *emitter) emit(s int32) {
	m := e.m
	if !m.latePieces {
		e.dst = append(e.dst, s)
		return
	}
	if s >= int32(m.n) {
		if b, ok := m.byteTokens(string(m.extra[int(s)-m.n])); ok {
			e.dst = append(e.dst, b[:utf8.RuneLen(m.extra[int(s)-m.n])]...)
			e.unk = false
			return
		}
		s = m.unk
	} else if s == noSymbol {
		s = m.unk
	}
	if s == m.unk && e.unk && m.fuseUnk {
		return
	}
	e.dst = append(e.dst, s)
	e.unk = s == m.unk
}

const (
	// maxSymbols bounds the symbols of a bpe, and maxMerges its merges, so that a place of a pairTable is one word.
	symbolBits = 20
	maxSymbols = 1 << symbolBits
	mergeBits  = 64 - 2*symbolBits
	maxMerges  = 1<<mergeBits - 1
)

// pairTable maps a pair of symbols to the rank of its merge and the token it makes. It is an open-addressing hash table. A
// slot has the pair in the upper bits and the number of the merge, counted from 1, in the lower ones. Merges are kept in
// the order in which they were set, which puts the frequent ones together.
type pairTable struct {
	slots  []uint64 // 0 is an empty slot
	shift  uint
	merges []merge
	full   bool // a merge was left out, since there were maxMerges already
}

type merge struct {
	rank uint32
	made int32
}

func newPairTable(n int) pairTable {
	b := max(bits.Len(uint(n+n/3)), 4)
	return pairTable{slots: make([]uint64, 1<<b), shift: uint(64 - b), merges: make([]merge, 0, n)}
}

// pairKey is the upper part of a slot. Both symbols are below maxSymbols.
func pairKey(left, right int32) uint64 {
	return uint64(uint32(left))<<symbolBits | uint64(uint32(right))
}

// slot is the place at which the search for a key begins.
func (t *pairTable) slot(key uint64) uint64 {
	// Fibonacci hashing of the folded key.
	return ((key ^ key>>29) * 0x9E3779B97F4A7C15) >> t.shift
}

// set stores a merge; a later one of the same pair replaces it.
func (t *pairTable) set(left, right int32, rank uint32, made int32) {
	if 4*len(t.merges) >= 3*len(t.slots) {
		old := t.slots
		t.slots, t.shift = make([]uint64, 2*len(old)), t.shift-1
		for _, s := range old {
			if s != 0 {
				i := t.slot(s >> mergeBits)
				for ; t.slots[i] != 0; i = (i + 1) & uint64(len(t.slots)-1) {
				}
				t.slots[i] = s
			}
		}
	}
	key := pairKey(left, right)
	for i := t.slot(key); ; i = (i + 1) & uint64(len(t.slots)-1) {
		switch s := t.slots[i]; {
		case s == 0 && len(t.merges) == maxMerges:
			t.full = true
			return
		case s == 0:
			t.merges = append(t.merges, merge{rank, made})
			t.slots[i] = key<<mergeBits | uint64(len(t.merges))
			return
		case s>>mergeBits == key:
			t.merges[s&maxMerges-1] = merge{rank, made}
			return
		}
	}
}

// check reports merges that were left out.
func (t *pairTable) check() error {
	if t.full {
		return fmt.Errorf("more than %d merges, which is not supported", maxMerges)
	}
	return nil
}

// find returns the rank of a pair and the token it makes; noRank if the pair has no merge.
func (t *pairTable) find(left, right int32) (uint32, int32) {
	if left < 0 || right < 0 {
		return noRank, noSymbol
	}
	key := pairKey(left, right)
	for i := t.slot(key); ; i = (i + 1) & uint64(len(t.slots)-1) {
		s := t.slots[i]
		if s>>mergeBits == key && s != 0 {
			m := &t.merges[s&maxMerges-1]
			return m.rank, m.made
		}
		if s == 0 {
			return noRank, noSymbol
		}
	}
}

// oneRune returns the only character of s, and false if s has another number of them.
func oneRune(s string) (rune, bool) {
	r, n := utf8.DecodeRuneInString(s)
	return r, n == len(s) && n > 0
}

// view returns the bytes of b as a string without copying; b is not changed afterwards.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
