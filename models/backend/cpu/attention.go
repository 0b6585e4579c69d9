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
	tasks := b.attention.tasks
	b.attention = attentionJob{b: b, appending: true, q: k.(*matrix), d: v.(*matrix), layer: layer, seqs: seqs}
	b.pool.run(len(seqs), float64(16*k.Rows()*k.Cols()), &b.attention)
	b.attention = attentionJob{tasks: tasks}
}

var negativeInfinity = float32(math.Inf(-1))

// attentionRows is how many query rows share one pass over the keys.
const attentionRows = 32

// attentionTask is up to attentionRows rows of a sequence.
type attentionTask struct{ seq, row int }

// attentionJob is one call of Attention, or of Append: then q and d are the
// keys and values.
type attentionJob struct {
	b         *Backend
	appending bool
	d, q      *matrix
	layer     int
	seqs      []backend.Sequence
	shape     backend.AttentionShape
	tasks     []attentionTask
}

// roundUp returns the smallest multiple of unit that is at least n.
func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// Attention computes softmax(scale·q·Kᵀ)·V per head. Weights of keys that a
// row does not see are exactly zero, so a row's result does not depend on the
// rows computed beside it.
func (b *Backend) Attention(dst, q backend.Matrix, layer int, seqs []backend.Sequence, shape backend.AttentionShape) {
	j := &b.attention
	*j = attentionJob{b: b, d: dst.(*matrix), q: q.(*matrix), layer: layer, seqs: seqs, shape: shape, tasks: j.tasks[:0]}
	mustEqual("Attention columns", j.q.cols, shape.Heads*shape.HeadDim)
	mustEqual("Attention output", j.d.cols, j.q.cols)
	cost, scores := 0.0, 0
	for i, s := range seqs {
		s.Cache.(*cache).check(layer, s.Start, s.Count)
		scores = max(scores, min(attentionRows, s.Count)*roundUp(s.Start+s.Count, panelWidth))
		for r := 0; r < s.Count; r += attentionRows {
			j.tasks = append(j.tasks, attentionTask{i, r})
			cost += float64(min(attentionRows, s.Count-r)) * float64(s.Start+r+panelWidth) * 8 * float64(j.q.cols)
		}
	}
	for w := range b.scratch {
		b.scratch[w].scores = grow(b.scratch[w].scores, scores)
	}
	b.pool.run(len(j.tasks)*shape.KVHeads, cost, j)
	*j = attentionJob{tasks: j.tasks}
}

func (j *attentionJob) item(worker, item int) {
	if j.appending {
		s := j.seqs[item]
		c := s.Cache.(*cache)
		cols := j.q.cols
		mustEqual("Append columns", cols, c.shape.KVHeads*c.shape.HeadDim)
		c.WriteKV(j.layer, s.Start, s.Count, j.q.data[s.Row*cols:], j.d.data[s.Row*cols:])
		return
	}
	b, m, d, shape := j.b, j.q, j.d, j.shape
	t, kvHead := j.tasks[item/shape.KVHeads], item%shape.KVHeads
	s := j.seqs[t.seq]
	c := s.Cache.(*cache)
	sc := &b.scratch[worker]
	dh := shape.HeadDim
	group := shape.Heads / shape.KVHeads
	rows := min(attentionRows, s.Count-t.row)
	keys := s.Start + t.row + rows // positions the last row sees
	padded := roundUp(keys, panelWidth)
	first := 0 // keys before it are outside every row's window
	if shape.Window > 0 {
		first = max(0, s.Start+t.row-shape.Window+1) / panelWidth * panelWidth
	}
	kp := panels{c.headKeys(j.layer, kvHead), padded, panelWidth * dh}
	vp := panels{c.headValues(j.layer, kvHead), dh, c.shape.Capacity * panelWidth}
	var inverse [attentionRows]float32
	for h := kvHead * group; h < (kvHead+1)*group; h++ {
		qh := m.data[(s.Row+t.row)*m.cols+h*dh:]
		out := d.data[(s.Row+t.row)*d.cols+h*dh:]
		b.kernel.multiply(rows, dh, qh, m.cols, kp, first/panelWidth, padded/panelWidth, sc.scores, padded, false, sc.edge[:])
		b.kernel.elements.softmax(sc.scores, rows, padded, s.Start+t.row+1, shape.Window, shape.Scale, inverse[:])
		// The normaliser goes on the shorter side of the product below.
		b.kernel.multiply(rows, keys, sc.scores, padded, vp, 0, c.valuePanels, out, d.cols, false, sc.edge[:])
		for r := 0; r < rows; r++ {
			o, inv := out[r*d.cols:][:dh], inverse[r]
			for i := range o {
				o[i] *= inv
			}
		}
	}
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
		b.logits = matrix{rows: to - from, cols: vocab, data: b.chunk[:(to-from)*vocab]}
		b.matMul(&b.logits, h.Slice(from, to).(*matrix), head, false)
		b.firsts = b.firsts[:0]
		for i := next; i < end; i++ {
			if i == next || targets[i].Row != targets[i-1].Row {
				b.firsts = append(b.firsts, i-next)
			}
		}
		rows := len(b.firsts)
		b.firsts = append(b.firsts, end-next)
		b.score = scoreJob{b, dst[next:end], targets[next:end], b.firsts, from}
		b.pool.run(rows, 40*float64(rows)*float64(vocab), &b.score)
		b.score = scoreJob{}
		next = end
	}
	return nil
}

// scoreJob scores targets from the logits of the rows from `from` on. Targets of
// one row are one item: the maximum is found by a loop that writes the row back.
type scoreJob struct {
	b       *Backend
	dst     []backend.TokenScore
	targets []backend.Target
	firsts  []int // the first target of each row that has any, and the end
	from    int
}

func (j *scoreJob) item(_, i int) {
	first, end := j.firsts[i], j.firsts[i+1]
	e := j.b.kernel.elements
	row := j.b.logits.row(int(j.targets[first].Row) - j.from)
	top := e.max(row, 1)
	best := 0
	for row[best] != top {
		if best++; best == len(row) {
			best = 0 // the row holds NaN
			break
		}
	}
	log := math.Log(e.sum(row, top, nil))
	for k := first; k < end; k++ {
		j.dst[k] = backend.TokenScore{LogProb: float64(row[j.targets[k].ID]-top) - log, Argmax: int32(best)}
	}
}
