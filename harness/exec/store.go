package exec

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"splitbench/compress"
	"splitbench/models/backend"
)

// boundaryStore keeps what edge passes gave, for sessions that differ only in
// what happens behind the edge.
type boundaryStore struct {
	limit, used int64 // bytes
	batches     map[[sha256.Size]byte]*heldBatch
}

// heldBatch is the edge's part of one batch.
type heldBatch struct {
	rows      []float32 // boundary rows: prefixes, then the leaves round by round
	kv        []float32 // keys and values that are handed over
	histogram compress.Histogram
	complete  bool
	// outcomes are the scores that followed from what the cloud got, for the
	// targets asked of it. Knobs that send the same values by other messages,
	// or that change nothing here, need no cloud pass.
	outcomes map[[sha256.Size]byte][]backend.TokenScore
}

// HoldBoundaries lets sessions whose Keep is set store the boundary tensors of
// their edge passes, up to limit bytes in all, and lets later sessions of the
// same EdgeKey go on from them. What does not fit is computed again. It frees
// what was held before; limit 0 only does that.
func (e *Engine) HoldBoundaries(limit int64) {
	e.store = boundaryStore{limit: limit, batches: map[[sha256.Size]byte]*heldBatch{}}
}

// EdgeKey names what the edge computes with a method: methods with equal keys
// have equal boundary tensors before the codec. It is "" for a method without
// a split.
func (m Method) EdgeKey() string {
	if m.SplitLayer == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "l=%d W=%d kv=%v", m.SplitLayer, m.MaxTokens, m.IncludeKV && m.MaxTokens > 0)
	for k := 1; k <= m.SplitLayer; k++ {
		if w, quantised := m.LayerWeights(k); w.Quantizer != "" {
			fmt.Fprintf(&b, " %q", w.Quantizer)
		} else if quantised {
			fmt.Fprintf(&b, " %d/%d", w.Bits, w.Group)
		} else {
			b.WriteString(" full")
		}
	}
	return b.String()
}

// batchKey identifies the edge pass of a batch.
func (s *Session) batchKey(fams []*family) (key [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", s.method.EdgeKey())
	var b []byte
	for _, f := range fams {
		shared := 0
		if f.prefix != nil {
			shared = f.prefix.to
		}
		b = binary.AppendUvarint(b[:0], uint64(shared))
		b = binary.AppendUvarint(b, uint64(len(f.leaves)))
		for _, g := range f.leaves {
			b = appendTokens(b, g.ids)
		}
		h.Write(b)
	}
	h.Sum(key[:0])
	return key
}

// appendTokens appends the number of ids and the ids.
func appendTokens(b []byte, ids []int32) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return b
}

// heldOverhead is about the bytes of a held batch besides its values.
const heldOverhead = 4 << 10

// find returns what is held of a batch, and whether it was computed before.
// With keep, one of that many values that is not there is added when it fits.
func (b *boundaryStore) find(key [sha256.Size]byte, rows, kv int, keep bool) (h *heldBatch, known bool) {
	if h := b.batches[key]; h != nil {
		if !h.complete { // its session failed half-way
			h.histogram = compress.Histogram{}
		}
		return h, h.complete
	}
	size := 4*int64(rows+kv) + heldOverhead
	if !keep || b.used+size > b.limit {
		return nil, false
	}
	b.used += size
	h = &heldBatch{rows: make([]float32, rows), kv: make([]float32, kv), outcomes: map[[sha256.Size]byte][]backend.TokenScore{}}
	b.batches[key] = h
	return h, false
}

// outcomeKey identifies the cloud, what it got of a batch and what was asked of it.
func outcomeKey(w *scoring, fams []*family) (key [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", w.cloud)
	for _, f := range fams {
		h.Write(f.digest[:])
		var b []byte
		for _, g := range f.leaves {
			b = binary.AppendUvarint(b, uint64(len(g.requests)))
			for _, r := range g.requests {
				b = appendTokens(b, w.reqs[r].Targets)
			}
		}
		h.Write(b)
	}
	h.Sum(key[:0])
	return key
}

// recall fills in the scores of the batch when they are known: the cloud got,
// bit for bit, what it got in an earlier session.
func (h *heldBatch) recall(w *scoring, fams []*family) bool {
	if h == nil {
		return false
	}
	got, ok := h.outcomes[outcomeKey(w, fams)]
	if !ok {
		return false
	}
	eachRequest(fams, func(r int) {
		copy(w.scores[r], got)
		got = got[len(w.scores[r]):]
	})
	return true
}

// remember keeps the scores of a batch.
func (b *boundaryStore) remember(h *heldBatch, w *scoring, fams []*family) {
	if h == nil {
		return
	}
	h.complete = true
	var all []backend.TokenScore
	eachRequest(fams, func(r int) { all = append(all, w.scores[r]...) })
	if size := 16 * int64(len(all)); b.used+size <= b.limit {
		b.used += size
		h.outcomes[outcomeKey(w, fams)] = all
	}
}

func eachRequest(fams []*family, do func(r int)) {
	for _, f := range fams {
		for _, g := range f.leaves {
			for _, r := range g.requests {
				do(r)
			}
		}
	}
}
