package exec

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"splitbench/compress"
)

// family is texts that begin alike, or one text. Its segments are computed one
// after the other in one cache: the prefix, then each leaf in the place of the
// leaf before.
type family struct {
	prefix *segment   // rows [0, P) of all leaves; nil when nothing is shared
	leaves []*segment // the rest of each text, longest first
	// prefixSends says that the edge stops within the prefix, so that one
	// message serves all leaves.
	prefixSends bool
	// detached leaves got other values for the prefix's boundary rows than
	// the first leaf did: the codec looked at the rest of the message too.
	// The cloud computes them whole.
	detached []*segment
	digest   [sha256.Size]byte // of everything that the cloud gets
	first    int               // smallest request, for a stable order
}

// coder is what one goroutine of send works with.
type coder struct {
	msg       []byte
	before    []float32 // rows of a message whose parts lie apart
	clamped   []float32 // rows of a message with their magnitudes limited
	histogram compress.Histogram
	bytes     []byte // float32 values on their way to a digest
}

// send moves the boundary rows of all texts through clamp and codec, one message
// for each text, and the keys and values of those that leave the edge. digest asks
// for the families' digests. The result does not depend on the number of
// goroutines.
func (s *Session) send(fams []*family, histogram *compress.Histogram, digest bool) error {
	start := time.Now()
	width := s.engine.model.Config.HiddenSize
	values, kv := 0, 0
	for _, f := range fams {
		for _, g := range f.senders() {
			values += g.messageRows() * width
		}
		for _, g := range f.segments() {
			kv += s.kvSize(g)
		}
	}
	outs, kvOuts := make([][]float32, len(fams)), make([][]float32, len(fams))
	if s.method.Codec == nil {
		kv = 0 // they cross as they are
	}
	if s.changesHidden() {
		s.back, s.kvOut = grow(s.back, values), grow(s.kvOut, kv)
		back, kvOut := s.back, s.kvOut
		for i, f := range fams {
			outs[i], kvOuts[i] = back, kvOut
			for _, g := range f.senders() {
				back = back[g.messageRows()*width:]
			}
			for _, g := range f.segments() {
				kvOut = kvOut[min(kv, s.kvSize(g)):]
			}
		}
	}
	workers := min(s.engine.workers, len(fams))
	for len(s.coder) < workers {
		s.coder = append(s.coder, coder{})
	}
	errs := make([]error, len(fams))
	var next atomic.Int64
	work := func(c *coder) {
		for i := int(next.Add(1)) - 1; i < len(fams); i = int(next.Add(1)) - 1 {
			if histogram != nil {
				c.count(s, fams[i])
			}
			if errs[i] = s.sendFamily(c, fams[i], outs[i], kvOuts[i]); errs[i] == nil && digest {
				fams[i].digest = c.digestOf(fams[i])
			}
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			work(&s.coder[w])
		}()
	}
	work(&s.coder[0])
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if histogram != nil {
		for w := range s.coder[:workers] {
			histogram.Merge(&s.coder[w].histogram)
			s.coder[w].histogram = compress.Histogram{}
		}
	}
	var all []*segment
	for _, f := range fams {
		all = append(all, f.senders()...)
	}
	share(all, (*segment).messageRows, time.Since(start), &s.seen.Codec, func(g *segment) *float64 { return &g.codecSeconds })
	if s.Boundary != nil {
		for _, f := range fams {
			s.show(f)
		}
	}
	return nil
}

// segments are the parts of a family in the order of their computation.
func (f *family) segments() []*segment {
	if f.prefix == nil {
		return f.leaves
	}
	return append([]*segment{f.prefix}, f.leaves...)
}

// senders are the segments at whose end a message is complete.
func (f *family) senders() []*segment {
	if f.prefixSends {
		return []*segment{f.prefix}
	}
	return f.leaves
}

// messageRows is how many rows the message has that ends with this segment.
func (g *segment) messageRows() int {
	n := g.edgeRows()
	if g.parent != nil {
		n += g.parent.edgeRows()
	}
	return n
}

// message returns the rows of the message, in buf when they lie apart.
func (g *segment) message(buf *[]float32) []float32 {
	if g.parent == nil {
		return g.before
	}
	*buf = append(append((*buf)[:0], g.parent.before...), g.before...)
	return *buf
}

// changesHidden says whether the cloud gets boundary rows other than the edge's.
func (s *Session) changesHidden() bool { return s.method.Codec != nil || s.method.Clamp > 0 }

// clamp returns the rows with their magnitudes limited, in the coder's memory;
// NaN stays.
func (c *coder) clamp(m compress.Matrix, limit float32) compress.Matrix {
	if limit == 0 {
		return m
	}
	c.clamped = append(c.clamped[:0], m.Data...)
	for i, v := range c.clamped {
		switch {
		case v > limit:
			c.clamped[i] = limit
		case v < -limit:
			c.clamped[i] = -limit
		}
	}
	m.Data = c.clamped
	return m
}

// sendFamily limits the magnitudes of one family's messages, encodes and decodes
// them; out and kvOut have room for what is decoded.
func (s *Session) sendFamily(c *coder, f *family, out, kvOut []float32) error {
	codec, p := s.method.Codec, f.prefix
	shared := 0 // values of the prefix in the message of a leaf
	if p != nil && !f.prefixSends {
		shared = len(p.before)
	}
	for i, g := range f.senders() {
		g.payload.Tokens += g.messageRows()
		if !s.changesHidden() {
			g.after = g.before
			if shared > 0 && i == 0 {
				p.after = p.before
			}
			continue
		}
		before := s.hiddenMatrix(g.message(&c.before))
		if before.Rows == 0 {
			g.after = nil
			continue
		}
		n := len(before.Data)
		restored, limited := out[:n:n], c.clamp(before, s.method.Clamp)
		if codec == nil {
			copy(restored, limited.Data)
		} else {
			var parts compress.Parts
			var err error
			if restored, parts, err = s.transmit(c, restored, limited); err != nil {
				return fmt.Errorf("boundary tensor at layer %d: %w", s.method.SplitLayer, err)
			}
			g.payload.Hidden.Add(parts)
		}
		out = out[n:]
		g.after = restored[shared:]
		switch {
		case shared == 0:
		case i == 0:
			p.after = restored[:shared:shared]
		case !sameBits(p.after, restored[:shared]):
			g.after = restored
			f.detached = append(f.detached, g)
		}
	}
	for _, g := range f.segments() {
		g.kvAfter = g.kv
		if g.kv == nil || codec == nil {
			continue
		}
		n := len(g.kv)
		g.kvAfter, kvOut = kvOut[:n:n], kvOut[n:]
		send := s.sendKVTensors
		if s.method.KVCodec != nil {
			send = s.sendKVMessage
		}
		parts, err := send(c, g)
		if err != nil {
			return err
		}
		g.payload.KV.Add(parts)
	}
	if f.prefixSends {
		for _, g := range f.leaves {
			g.payload = p.payload
			if g.to <= g.edgeEnd {
				g.payload.KV = compress.Parts{} // it does not leave the edge
			}
		}
	}
	return nil
}

// sendKVTensors puts what the cloud receives of a segment's keys and values into
// kvAfter: a message for each tensor.
func (s *Session) sendKVTensors(c *coder, g *segment) (sum compress.Parts, err error) {
	at := 0
	s.eachKV(g, g.kv, func(layer int, k, v []float32) {
		for _, t := range [][]float32{k, v} {
			if err != nil {
				return
			}
			var parts compress.Parts
			var restored []float32
			restored, parts, err = s.transmit(c, g.kvAfter[at:at+len(t):at+len(t)], s.kvMatrix(g, t))
			if err != nil {
				err = fmt.Errorf("keys and values of layer %d: %w", layer+1, err)
				return
			}
			copy(g.kvAfter[at:], restored)
			sum.Add(parts)
			at += len(t)
		}
	})
	return sum, err
}

// sendKVMessage is sendKVTensors with one message.
func (s *Session) sendKVMessage(c *coder, g *segment) (compress.Parts, error) {
	var kv compress.KV
	s.eachKV(g, g.kv, func(_ int, k, v []float32) {
		kv.Keys, kv.Values = append(kv.Keys, s.kvMatrix(g, k)), append(kv.Values, s.kvMatrix(g, v))
	})
	msg, parts, err := s.method.KVCodec.Encode(c.msg[:0], kv)
	if err == nil {
		c.msg = msg
		kv, err = s.method.KVCodec.Decode(msg)
	}
	if err != nil {
		return parts, fmt.Errorf("keys and values: %w", err)
	}
	s.eachKV(g, g.kvAfter, func(layer int, k, v []float32) {
		copy(k, kv.Keys[layer].Data)
		copy(v, kv.Values[layer].Data)
	})
	return parts, nil
}

// kvMatrix is a segment's keys or values of one layer.
func (s *Session) kvMatrix(g *segment, t []float32) compress.Matrix {
	return compress.Matrix{Rows: g.edgeEnd, Cols: s.engine.model.Config.KVWidth(), Data: t}
}

// transmit encodes m and returns what the receiver decodes, in dst's memory.
func (s *Session) transmit(c *coder, dst []float32, m compress.Matrix) ([]float32, compress.Parts, error) {
	msg, parts, err := s.method.Codec.Encode(c.msg[:0], m)
	if err != nil {
		return nil, parts, err
	}
	c.msg = msg
	r, err := s.method.Codec.Decode(dst, msg)
	return r.Data, parts, err
}

func sameBits(a, b []float32) bool {
	for i, v := range a {
		if math.Float32bits(v) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

// count adds the magnitudes of every text's boundary rows to the histogram.
func (c *coder) count(s *Session, f *family) {
	if f.prefix != nil {
		var h compress.Histogram
		h.Add(s.hiddenMatrix(f.prefix.before))
		for range f.leaves {
			c.histogram.Merge(&h)
		}
	}
	for _, g := range f.leaves {
		c.histogram.Add(s.hiddenMatrix(g.before))
	}
}

// digestOf hashes what the cloud gets of a family, bit for bit.
func (c *coder) digestOf(f *family) (sum [sha256.Size]byte) {
	h := sha256.New()
	put := func(values []float32) {
		c.bytes = binary.LittleEndian.AppendUint64(c.bytes[:0], uint64(len(values)))
		for _, v := range values {
			c.bytes = binary.LittleEndian.AppendUint32(c.bytes, math.Float32bits(v))
		}
		h.Write(c.bytes)
	}
	// The lengths tell detached leaves from the others.
	for _, g := range f.segments() {
		put(g.after)
		put(g.kvAfter)
	}
	h.Sum(sum[:0])
	return sum
}

// show hands the boundary tensors of a family's texts to Boundary.
func (s *Session) show(f *family) {
	var before, after []float32
	for _, g := range f.leaves {
		sender := g
		if f.prefixSends {
			sender = f.prefix
		}
		if sender.messageRows() == 0 {
			continue
		}
		after = append(after[:0], sender.after...)
		if p := sender.parent; p != nil && len(after) < sender.messageRows()*s.engine.model.Config.HiddenSize {
			after = append(append(after[:0], p.after...), sender.after...)
		}
		s.Boundary(s.hiddenMatrix(sender.message(&before)), s.hiddenMatrix(after))
	}
}
