package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
)

// llama2cMagic begins the files of version 1 and later ("ak42").
const llama2cMagic = 0x616b3432

// Sizes of the headers of llama2.c files in bytes.
const (
	llama2cLegacyHeader = 7 * 4
	llama2cHeader       = 256 // version 1: padded with zeros
)

// openLlama2c opens a llama2.c file.
func (c *Checkpoint) openLlama2c() error {
	if filepath.Ext(c.Dir) == ".safetensors" {
		return fmt.Errorf("%s: a checkpoint is the folder that holds this file and config.json", c.Dir)
	}
	m, err := openMapping(c.Dir)
	if err != nil {
		return err
	}
	c.files = append(c.files, m)
	return m.guard(func() (err error) {
		c.Config, c.weights, err = parseLlama2c(m)
		return err
	})
}

// parseLlama2c reads the header of a llama2.c file (export.py of that project: legacy_export and
// version1_export) and maps its tensors to Hugging Face names. The file's size must be exactly what the
// header implies. The query and key rows of the file are interleaved for the rotary embedding; the tensors
// show them in rotate-half order. The format fixes RMSNorm epsilon 1e-5, theta 10000 and the token ids 1
// (BOS) and 2 (EOS).
func parseLlama2c(m *mapping) (Config, map[string]Tensor, error) {
	fail := func(format string, args ...any) (Config, map[string]Tensor, error) {
		return Config{}, nil, fmt.Errorf("%s: %w", m.path, fmt.Errorf(format, args...))
	}
	data := m.data
	switch {
	case bytes.HasPrefix(data, []byte("GGUF")):
		return fail("this is a GGUF file, which is not supported")
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return fail("this is a torch.save (pickle) or zip file, which is not supported")
	case isGitLFS(data):
		return fail("%w", errGitLFS)
	}
	if len(data) < llama2cLegacyHeader {
		return fail("%d bytes are too few for the header of a llama2.c file (%d)", len(data), llama2cLegacyHeader)
	}
	word := func(i int) int { return int(int32(binary.LittleEndian.Uint32(data[4*i:]))) }
	legacy := uint32(word(0)) != llama2cMagic
	first := 0 // place of the seven sizes, in words
	if !legacy {
		switch version := word(1); {
		case version == 2:
			return fail("llama2.c version 2 (int8 quantized) is not supported, export version 1 or legacy float32")
		case version != 1:
			return fail("llama2.c version %d is not supported (supported: legacy, 1)", version)
		case len(data) < llama2cHeader:
			return fail("%d bytes are too few for the header of a llama2.c file of version 1 (%d)", len(data), llama2cHeader)
		}
		first = 2
	}

	vocab := word(first + 5)
	tied := vocab > 0
	if legacy {
		vocab = max(vocab, -vocab) // the sign says whether the head is the embedding
	} else {
		flag := data[4*(first+7)]
		if flag > 1 {
			return fail("llama2.c header: shared classifier flag is %d, expected 0 or 1", flag)
		}
		tied = flag == 1
	}
	c := Config{
		Architecture:     llama.name,
		HiddenSize:       word(first),
		IntermediateSize: word(first + 1),
		Layers:           word(first + 2),
		Heads:            word(first + 3),
		KVHeads:          word(first + 4),
		VocabSize:        vocab,
		MaxPositions:     word(first + 6),
		NormEpsilon:      1e-5,
		TiedEmbeddings:   tied,
		Rope:             RopeConfig{Theta: 10000, Type: "default"},
		BOS:              []int32{1},
		EOS:              []int32{2},
		StoredDType:      "float32",
	}
	for _, size := range []struct {
		name     string
		n, limit int
	}{
		{"dim", c.HiddenSize, maxWidth},
		{"hidden_dim", c.IntermediateSize, maxInner},
		{"n_layers", c.Layers, maxLayers},
		{"n_heads", c.Heads, maxWidth},
		{"n_kv_heads", c.KVHeads, maxWidth},
		{"vocab_size", c.VocabSize, maxVocab},
		{"seq_len", c.MaxPositions, maxPositions},
	} {
		if size.n < 1 || size.n > size.limit {
			return fail("llama2.c header: %s is %d, expected 1 to %d (is this a llama2.c model?)", size.name, size.n, size.limit)
		}
	}
	switch {
	case c.HiddenSize%(2*c.Heads) != 0:
		return fail("llama2.c header: dim %d is no even multiple of n_heads %d", c.HiddenSize, c.Heads)
	case c.Heads%c.KVHeads != 0:
		return fail("llama2.c header: n_heads %d is no multiple of n_kv_heads %d", c.Heads, c.KVHeads)
	}
	c.HeadDim = c.HiddenSize / c.Heads

	blocks, header := llama2cBlocks(c, legacy)
	want := int64(header)
	for _, b := range blocks {
		want += b.bytes(c.Layers)
	}
	if int64(len(data)) != want {
		return fail("the file has %d bytes, but a llama2.c model of these sizes has %d", len(data), want)
	}
	weights := make(map[string]Tensor)
	rest := data[header:]
	for _, b := range blocks {
		part := rest[:b.bytes(c.Layers)]
		rest = rest[len(part):]
		if b.name == "" {
			continue
		}
		names := []string{b.name}
		if b.perLayer {
			names = nil
			for layer := range c.Layers {
				names = append(names, fmt.Sprintf("%s%d.%s", layerPrefix, layer, b.name))
			}
		}
		size := len(part) / len(names)
		for i, name := range names {
			t := Tensor{Name: name, DType: F32, Shape: b.shape, m: m, data: part[i*size : (i+1)*size : (i+1)*size]}
			if b.rotary {
				t.interleavedHead = c.HeadDim
			}
			weights[name] = t
		}
	}
	return c, weights, nil
}

// llama2cBlock is a run of float32 values in the file: one tensor, or one per layer.
type llama2cBlock struct {
	name     string // Hugging Face name, after model.layers.N. when perLayer; "" for values not used
	perLayer bool
	rotary   bool // the rows are interleaved for the rotary embedding
	shape    []int
}

func (b llama2cBlock) bytes(layers int) int64 {
	n := 4 * int64(Tensor{Shape: b.shape}.Len())
	if b.perLayer {
		n *= int64(layers)
	}
	return n
}

// llama2cBlocks lists the blocks of a file in their order, and the size of its header.
func llama2cBlocks(c Config, legacy bool) (blocks []llama2cBlock, header int) {
	d, inner, q, kv := c.HiddenSize, c.IntermediateSize, c.QueryWidth(), c.KVWidth()
	embedding := llama2cBlock{embeddingName, false, false, []int{c.VocabSize, d}}
	attentionNorm := llama2cBlock{"input_layernorm.weight", true, false, []int{d}}
	mlpNorm := llama2cBlock{"post_attention_layernorm.weight", true, false, []int{d}}
	finalNorm := llama2cBlock{"model.norm.weight", false, false, []int{d}}
	attention := []llama2cBlock{
		{"self_attn.q_proj.weight", true, true, []int{q, d}},
		{"self_attn.k_proj.weight", true, true, []int{kv, d}},
		{"self_attn.v_proj.weight", true, false, []int{kv, d}},
		{"self_attn.o_proj.weight", true, false, []int{d, q}},
	}
	mlp := []llama2cBlock{
		{"mlp.gate_proj.weight", true, false, []int{inner, d}}, // w1
		{"mlp.down_proj.weight", true, false, []int{d, inner}}, // w2
		{"mlp.up_proj.weight", true, false, []int{inner, d}},   // w3
	}
	add := func(more ...llama2cBlock) { blocks = append(blocks, more...) }
	if legacy {
		add(embedding, attentionNorm)
		add(attention...)
		add(mlpNorm)
		add(mlp...)
		add(finalNorm)
		// Cosines and sines of the rotary embedding, which follow from theta.
		add(llama2cBlock{shape: []int{2, c.MaxPositions, c.HeadDim / 2}})
		header = llama2cLegacyHeader
	} else {
		add(attentionNorm, mlpNorm, finalNorm, embedding)
		add(attention...)
		add(mlp...)
		header = llama2cHeader
	}
	if !c.TiedEmbeddings {
		add(llama2cBlock{headName, false, false, []int{c.VocabSize, d}})
	}
	return blocks, header
}
