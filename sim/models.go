package sim

import (
	"errors"
	"fmt"
)

// Dimensions are the widths of a decoder with gated feed-forward blocks (Llama, Mistral, Qwen2, Phi-3).
type Dimensions struct {
	Layers       int64
	Hidden       int64 // width of the residual stream, d
	QueryWidth   int64 // query heads times head width; 0: Hidden
	KVWidth      int64 // key-value heads times head width, d_kv
	Intermediate int64 // width of the feed-forward block
	Vocab        int64
	QKVBias      bool // query, key and value projections have a bias (Qwen2)
	Tied         bool // embedding and output head share one matrix
}

// A Shape holds what the memory model needs of a decoder. The counts are exact.
type Shape struct {
	Layers          int64 // L
	Hidden          int64 // d
	KVWidth         int64 // d_kv: values of K (and of V) per token and layer
	Vocab           int64
	LayerParameters int64 // all parameters of one block: linear weights, biases, two norms
	LayerLinear     int64 // linear weights of one block
	LayerGroups     int64 // groups of GroupSize inputs in them, the last of a row possibly shorter
	EmbeddingRows   int64 // rows of width Hidden in embedding and output head: 2 Vocab, or Vocab when tied
	TotalParameters int64 // all blocks, embedding, output head, final norm
}

// GroupSize is the number of inputs that share one 16-bit scale in the grouped reading of Eq. 1.
const GroupSize = 128

// Shape computes the parameter counts of a decoder:
//
//	linear weights of a block = 2·d·q + 2·d·d_kv + 3·d·f        (q, o; k, v; gate, up, down)
//	parameters of a block     = linear weights + 2·d (+ q + 2·d_kv with biases)
//	parameters of the model   = L · block + 2·vocab·d + d       (vocab·d when tied)
func (m Dimensions) Shape() (Shape, error) {
	q := m.QueryWidth
	if q == 0 {
		q = m.Hidden
	}
	for _, f := range []struct {
		name  string
		value int64
	}{{"layers", m.Layers}, {"hidden", m.Hidden}, {"query width", q}, {"kv width", m.KVWidth}, {"intermediate", m.Intermediate}, {"vocab", m.Vocab}} {
		if f.value < 1 {
			return Shape{}, fmt.Errorf("sim: %s is %d, expected 1 or more", f.name, f.value)
		}
	}
	var c counter
	groups := func(rows, inputs int64) int64 { return c.mul(rows, c.add(inputs, GroupSize-1)/GroupSize) }
	s := Shape{Layers: m.Layers, Hidden: m.Hidden, KVWidth: m.KVWidth, Vocab: m.Vocab}
	s.LayerLinear = c.add(c.mul(2, m.Hidden, q), c.mul(2, m.Hidden, m.KVWidth), c.mul(3, m.Hidden, m.Intermediate))
	s.LayerGroups = c.add(groups(c.add(q, c.mul(2, m.KVWidth), c.mul(2, m.Intermediate)), m.Hidden), groups(m.Hidden, q), groups(m.Hidden, m.Intermediate))
	s.LayerParameters = c.add(s.LayerLinear, c.mul(2, m.Hidden))
	if m.QKVBias {
		s.LayerParameters = c.add(s.LayerParameters, q, c.mul(2, m.KVWidth))
	}
	s.EmbeddingRows = c.mul(2, m.Vocab)
	if m.Tied {
		s.EmbeddingRows = m.Vocab
	}
	s.TotalParameters = c.add(c.mul(m.Layers, s.LayerParameters), c.mul(s.EmbeddingRows, m.Hidden), m.Hidden)
	return s, c.err
}

// KVBits returns the size of the keys and values of one token in all layers at the given width, in bits.
func (s Shape) KVBits(activationBits int64) (int64, error) {
	var c counter
	n := c.mul(2, s.Layers, s.KVWidth, activationBits)
	return n, c.err
}

// A Model is a named shape.
type Model struct {
	Name       string
	Dimensions Dimensions
}

// Models lists the models of the paper's experiments (section 3).
func Models() []Model {
	return []Model{
		{"Llama-2-7B", Dimensions{Layers: 32, Hidden: 4096, KVWidth: 4096, Intermediate: 11008, Vocab: 32000}},
		{"Llama-2-13B", Dimensions{Layers: 40, Hidden: 5120, KVWidth: 5120, Intermediate: 13824, Vocab: 32000}},
		{"Llama-3.1-8B", Dimensions{Layers: 32, Hidden: 4096, KVWidth: 1024, Intermediate: 14336, Vocab: 128256}},
		{"Mistral-Nemo-2407", Dimensions{Layers: 40, Hidden: 5120, QueryWidth: 4096, KVWidth: 1024, Intermediate: 14336, Vocab: 131072}},
		{"Qwen2.5-14B", Dimensions{Layers: 48, Hidden: 5120, KVWidth: 1024, Intermediate: 13824, Vocab: 152064, QKVBias: true}},
		{"Phi-4", Dimensions{Layers: 40, Hidden: 5120, KVWidth: 1280, Intermediate: 17920, Vocab: 100352}},
	}
}

// ErrOverflow says that a size does not fit in 63 bits.
var ErrOverflow = errors.New("sim: the size does not fit in 63 bits")
