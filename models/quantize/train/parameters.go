package train

import (
	"fmt"

	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// parameter is one learned vector under the name that the original gives it.
type parameter struct {
	name   string
	values []float32
	scale  bool // of the equivalent transformation
}

// all lists what is there, in a fixed order.
func (p *Parameters) all() []parameter {
	var list []parameter
	for _, s := range []parameter{{"qkv_smooth_scale", p.QKV, true}, {"fc1_smooth_scale", p.FC1, true}, {"out_smooth_scale", p.Out, true}, {"qkt_smooth_scale", p.QK, true}} {
		if s.values != nil {
			list = append(list, s)
		}
	}
	for i, c := range p.Clip {
		if c != nil {
			name := decoder.LinearNames()[i] + ".weight_quantizer."
			list = append(list, parameter{name + "upbound_factor", c.Up, false}, parameter{name + "lowbound_factor", c.Low, false})
		}
	}
	return list
}

// like returns zeros of the shape of p.
func (p *Parameters) like() *Parameters {
	zeros := func(x []float32) []float32 {
		if x == nil {
			return nil
		}
		return make([]float32, len(x))
	}
	g := &Parameters{QKV: zeros(p.QKV), FC1: zeros(p.FC1), Out: zeros(p.Out), QK: zeros(p.QK)}
	for i, c := range p.Clip {
		if c != nil {
			g.Clip[i] = &quantize.Clipping{Up: zeros(c.Up), Low: zeros(c.Low)}
		}
	}
	return g
}

// Tensors names the parameters of block k, from 0, for a file: the original's
// names after the number of the block.
func (p *Parameters) Tensors(k int) []checkpoint.NamedTensor {
	var list []checkpoint.NamedTensor
	for _, v := range p.all() {
		list = append(list, checkpoint.NamedTensor{Name: fmt.Sprintf("%d.%s", k, v.name), Shape: []int{len(v.values)}, Data: v.values})
	}
	return list
}

// ReadParameters reads the parameters of block k, from 0, out of a file of
// Tensors; nil when it has none of the block.
func ReadParameters(f *checkpoint.File, k int) (*Parameters, error) {
	p := &Parameters{}
	found := false
	read := func(name string, to *[]float32) error {
		t, ok := f.Tensor(fmt.Sprintf("%d.%s", k, name))
		if !ok {
			return nil
		}
		found = true
		var err error
		*to, err = t.Float32(nil)
		return err
	}
	for _, s := range []struct {
		name string
		to   *[]float32
	}{{"qkv_smooth_scale", &p.QKV}, {"fc1_smooth_scale", &p.FC1}, {"out_smooth_scale", &p.Out}, {"qkt_smooth_scale", &p.QK}} {
		if err := read(s.name, s.to); err != nil {
			return nil, err
		}
	}
	for i, name := range decoder.LinearNames() {
		c := &quantize.Clipping{}
		if err := read(name+".weight_quantizer.upbound_factor", &c.Up); err != nil {
			return nil, err
		}
		if err := read(name+".weight_quantizer.lowbound_factor", &c.Low); err != nil {
			return nil, err
		}
		if c.Up != nil || c.Low != nil {
			p.Clip[i] = c
		}
	}
	if !found {
		return nil, nil
	}
	return p, nil
}
