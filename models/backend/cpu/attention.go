package cpu

import (
	"fmt"
	"math"

	"splitbench/models/backend"
)

// cache lays keys and values out as kernel operands. Of every layer and
// key/value head, keys are panels along positions (panel t/16: headDim steps
// of 16 positions), values are panels along the head's dimensions (panel
// d/16: capacity steps of 16 dimensions).
type cache struct {
	shape       backend.CacheShape
	keys        []float32
	values      []float32
	keySize     int // floats of one head's keys
	valueSize   int // floats of one head's values
	valuePanels int
}

// NewCache allocates a zeroed cache.
func (b *Backend) NewCache(s backend.CacheShape) (backend.Cache, error) {
	if s.Layers <= 0 || s.KVHeads <= 0 || s.HeadDim <= 0 || s.Capacity < 0 {
		return nil, fmt.Errorf("cpu backend: cache of shape %+v", s)
	}
	blocks := (s.Capacity + panelWidth - 1) / panelWidth
	c := &cache{shape: s, valuePanels: (s.HeadDim + panelWidth - 1) / panelWidth}
	c.keySize = blocks * panelWidth * s.HeadDim
	c.valueSize = c.valuePanels * s.Capacity * panelWidth
	heads := s.Layers * s.KVHeads
	c.keys = make([]float32, heads*c.keySize)
	c.values = make([]float32, heads*c.valueSize)
	return c, nil
}

func (c *cache) Shape() backend.CacheShape { return c.shape }

func (c *cache) headKeys(layer, head int) []float32 {
	i := (layer*c.shape.KVHeads + head) * c.keySize
	return c.keys[i : i+c.keySize]
}

func (c *cache) headValues(layer, head int) []float32 {
	i := (layer*c.shape.KVHeads + head) * c.valueSize
	return c.values[i : i+c.valueSize]
}

func (c *cache) check(layer, from, rows int) {
	if layer < 0 || layer >= c.shape.Layers || from < 0 || from+rows > c.shape.Capacity {
		panic(fmt.Sprintf("cpu backend: positions [%d, %d) of layer %d in a cache of %d layers, %d positions", from, from+rows, layer, c.shape.Layers, c.shape.Capacity))
	}
}

// WriteKV implements backend.Cache.
func (c *cache) WriteKV(layer, from, rows int, k, v []float32) {
	c.check(layer, from, rows)
	dh := c.shape.HeadDim
	width := c.shape.KVHeads * dh
	for h := 0; h < c.shape.KVHeads; h++ {
		keys, values := c.headKeys(layer, h), c.headValues(layer, h)
		for r := 0; r < rows; r++ {
			t := from + r
			kr, vr := k[r*width+h*dh:][:dh], v[r*width+h*dh:][:dh]
			col := keys[t/panelWidth*panelWidth*dh+t%panelWidth:]
			for i, x := range kr {
				col[i*panelWidth] = x
			}
			for i := 0; i < dh; i += panelWidth {
				copy(values[(i/panelWidth*c.shape.Capacity+t)*panelWidth:], vr[i:min(dh, i+panelWidth)])
			}
		}
	}
}

// ReadKV implements backend.Cache.
func (c *cache) ReadKV(layer, from, to int, k, v []float32) {
	c.check(layer, from, to-from)
	dh := c.shape.HeadDim
	width := c.shape.KVHeads * dh
	for h := 0; h < c.shape.KVHeads; h++ {
		keys, values := c.headKeys(layer, h), c.headValues(layer, h)
		for t := from; t < to; t++ {
			kr, vr := k[(t-from)*width+h*dh:][:dh], v[(t-from)*width+h*dh:][:dh]
			col := keys[t/panelWidth*panelWidth*dh+t%panelWidth:]
			for i := range kr {
				kr[i] = col[i*panelWidth]
			}
			for i := 0; i < dh; i += panelWidth {
				copy(vr[i:min(dh, i+panelWidth)], values[(i/panelWidth*c.shape.Capacity+t)*panelWidth:])
			}
		}
	}
}

// Append stores new keys and values.
func (b *Backend) Append(layer int, k, v backend.Matrix, seqs []backend.Sequence) {
	km, vm := k.(*matrix), v.(*matrix)
	b.pool.do(len(seqs), float64(4*len(km.data)), func(_, i int) {
		s := seqs[i]
		c := s.Cache.(*cache)
		mustEqual("Append columns", km.cols, c.shape.KVHeads*c.shape.HeadDim)
		c.WriteKV(layer, s.Start, s.Count, km.data[s.Row*km.cols:], vm.data[s.Row*vm.cols:])
	})
}

var negativeInfinity = float32(math.Inf(-1))

// attentionRows is how many query rows share one pass over the keys.
const attentionRows = 32

// Attention computes softmax(scale·q·Kᵀ)·V per head. Weights of keys that a
// row does not see are exactly zero, so a row's result does not depend on the
// rows computed beside it.
func (b *Backend) Attention(dst, q backend.Matrix, layer int, seqs []backend.Sequence, shape backend.AttentionShape) {
	d, m := dst.(*matrix), q.(*matrix)
	dh := shape.HeadDim
	mustEqual("Attention columns", m.cols, shape.Heads*dh)
	mustEqual("Attention output", d.cols, m.cols)
	group := shape.Heads / shape.KVHeads
	e := b.kernel.elements
	type task struct{ seq, row int }
	var tasks []task
	cost := 0.0
	for i, s := range seqs {
		c := s.Cache.(*cache)
		c.check(layer, s.Start, s.Count)
		for r := 0; r < s.Count; r += attentionRows {
			tasks = append(tasks, task{i, r})
			cost += float64(min(attentionRows, s.Count-r)) * float64(s.Start+r) * 4 * float64(m.cols)
		}
	}
	b.pool.do(len(tasks)*shape.KVHeads, cost+float64(len(m.data)), func(worker, item int) {
		t, kvHead := tasks[item/shape.KVHeads], item%shape.KVHeads
		s := seqs[t.seq]
		c := s.Cache.(*cache)
		sc := &b.scratch[worker]
		rows := min(attentionRows, s.Count-t.row)
		keys := s.Start + t.row + rows // positions the last row sees
		padded := (keys + panelWidth - 1) / panelWidth * panelWidth
		sc.scores = grow(sc.scores, rows*padded)
		first := 0 // keys before it are outside every row's window
		if shape.Window > 0 {
			first = max(0, s.Start+t.row-shape.Window+1) / panelWidth * panelWidth
		}
		kp := panels{c.headKeys(layer, kvHead), padded, panelWidth * dh}
		vp := panels{c.headValues(layer, kvHead), dh, c.shape.Capacity * panelWidth}
		for h := kvHead * group; h < (kvHead+1)*group; h++ {
			qh := m.data[(s.Row+t.row)*m.cols+h*dh:]
			out := d.data[(s.Row+t.row)*d.cols+h*dh:]
			b.kernel.multiply(rows, dh, qh, m.cols, kp, first/panelWidth, padded/panelWidth, sc.scores, padded, false, sc.edge[:])
			for r := 0; r < rows; r++ {
				w := sc.scores[r*padded : (r+1)*padded]
				seen := s.Start + t.row + r + 1
				low := 0
				if shape.Window > 0 {
					low = max(0, seen-shape.Window)
				}
				// Keys that the row does not see weigh exp(-Inf) = 0: that fills
				// the last vector without changing a bit of the sum.
				end := seen
				if fill := low + (seen-low+vectorStep-1)/vectorStep*vectorStep; fill <= padded {
					for i := seen; i < fill; i++ {
						w[i] = negativeInfinity
					}
					end = fill
				}
				seenWeights := w[low:end]
				top := e.max(seenWeights, shape.Scale)
				inv := float32(1 / e.sum(seenWeights, top, seenWeights))
				clear(w[:low])
				clear(w[end:])
				// The normaliser goes on the shorter side of the product below.
				sc.rows = grow(sc.rows, max(attentionRows, len(sc.rows)))
				sc.rows[r] = inv
			}
			b.kernel.multiply(rows, keys, sc.scores, padded, vp, 0, c.valuePanels, out, d.cols, false, sc.edge[:])
			for r := 0; r < rows; r++ {
				o, inv := out[r*d.cols:][:dh], sc.rows[r]
				for i := range o {
					o[i] *= inv
				}
			}
		}
	})
}

// LogProbs computes the logits of the targets' rows in chunks that bound the
// memory, never all of them.
func (b *Backend) LogProbs(dst []backend.TokenScore, hidden backend.Matrix, head backend.Weight, targets []backend.Target) error {
	h := hidden.(*matrix)
	mustEqual("LogProbs results", len(dst), len(targets))
	vocab := head.Out()
	chunk := max(1, min(h.rows, (4<<20)/vocab))
	for from, next := 0, 0; from < h.rows && next < len(targets); from += chunk {
		to := min(h.rows, from+chunk)
		end := next
		for end < len(targets) && int(targets[end].Row) < to {
			t := targets[end]
			if t.ID < 0 || int(t.ID) >= vocab {
				return fmt.Errorf("token id %d is outside the vocabulary of %d", t.ID, vocab)
			}
			if end > 0 && targets[end-1].Row > t.Row {
				panic("cpu backend: LogProbs targets are not sorted by row")
			}
			end++
		}
		if end == next {
			continue
		}
		b.chunk = grow(b.chunk, (to-from)*vocab)
		logits := &matrix{to - from, vocab, b.chunk[:(to-from)*vocab]}
		b.matMul(logits, h.Slice(from, to).(*matrix), head, false)
		base := next
		b.pool.do(end-next, 20*float64(end-next)*float64(vocab), func(_, i int) {
			t := targets[base+i]
			row := logits.row(int(t.Row) - from)
			top := b.kernel.elements.max(row, 1)
			best := 0
			for row[best] != top {
				if best++; best == len(row) {
					best = 0 // the row holds NaN
					break
				}
			}
			sum := b.kernel.elements.sum(row, top, nil)
			dst[base+i] = backend.TokenScore{LogProb: float64(row[t.ID]-top) - math.Log(sum), Argmax: int32(best)}
		})
		next = end
	}
	return nil
}
