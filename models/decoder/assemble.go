package decoder

import (
	"fmt"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
)

// Parts are the weights of a model that are on a backend already.
type Parts struct {
	Embedding backend.Weight // (vocabulary, hidden)
	Layers    []Layer
	FinalNorm backend.Vector
	Head      backend.Weight // (vocabulary, hidden); nil: the embedding
}

// Assemble returns the model of configuration c made of p, for weights that do
// not come from a checkpoint. It has no reference weights: QuantisedLayer
// fails. The parts may be shared between models of one backend.
func Assemble(c checkpoint.Config, b backend.Backend, p Parts) (*Model, error) {
	if len(p.Layers) != c.Layers {
		return nil, fmt.Errorf("%d layers of weights, the configuration has %d", len(p.Layers), c.Layers)
	}
	check := func(name string, w backend.Weight, out, in int) error {
		if w.Out() != out || w.In() != in {
			return fmt.Errorf("%s is %d x %d, expected %d x %d", name, w.Out(), w.In(), out, in)
		}
		return nil
	}
	if p.Head == nil {
		p.Head = p.Embedding
	}
	if err := check("the embedding", p.Embedding, c.VocabSize, c.HiddenSize); err != nil {
		return nil, err
	}
	if err := check("the head", p.Head, c.VocabSize, c.HiddenSize); err != nil {
		return nil, err
	}
	for i := range p.Layers {
		for _, lin := range linears {
			out, in := shapeOf(c, lin.name)
			if err := check(fmt.Sprintf("layer %d: %s", i+1, lin.name), lin.of(&p.Layers[i]).Weight, out, in); err != nil {
				return nil, err
			}
		}
	}
	r, err := newRope(c)
	if err != nil {
		return nil, err
	}
	return &Model{
		Config: c, Backend: b, rope: r,
		embedding: p.Embedding, layers: p.Layers, finalNorm: p.FinalNorm, head: p.Head,
		source: &checkpoint.Checkpoint{Config: c, Dir: "model without checkpoint"},
	}, nil
}

// shapeOf is the shape of a linear map of a block.
func shapeOf(c checkpoint.Config, name string) (out, in int) {
	switch name {
	case "self_attn.q_proj":
		return c.QueryWidth(), c.HiddenSize
	case "self_attn.k_proj", "self_attn.v_proj":
		return c.KVWidth(), c.HiddenSize
	case "self_attn.o_proj":
		return c.HiddenSize, c.QueryWidth()
	case "mlp.down_proj":
		return c.HiddenSize, c.IntermediateSize
	default:
		return c.IntermediateSize, c.HiddenSize
	}
}

// BuildLayer returns a block whose linear maps are what weight makes for their
// names (such as self_attn.q_proj) and shapes, without biases, and whose norms
// are all ones.
func BuildLayer(c checkpoint.Config, b backend.Backend, weight func(name string, out, in int) (backend.Weight, error)) (Layer, error) {
	var l Layer
	ones := make([]float32, c.HiddenSize)
	for i := range ones {
		ones[i] = 1
	}
	for _, norm := range []*backend.Vector{&l.AttentionNorm, &l.MLPNorm} {
		v, err := b.NewVector(ones)
		if err != nil {
			return l, err
		}
		*norm = v
	}
	for _, lin := range linears {
		out, in := shapeOf(c, lin.name)
		w, err := weight(lin.name, out, in)
		if err != nil {
			return l, err
		}
		lin.of(&l).Weight = w
	}
	return l, nil
}
