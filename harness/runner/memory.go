package runner

import (
	"fmt"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
)

// Memory is what a cell needs in this process, in bytes, computed from shapes.
type Memory struct {
	Weights   int64 // full-precision weights, as wide as they are stored
	Quantised int64 // packed codes, scales and zeros of the edge's layers; at most the float32 values of what a baseline quantised
	Cache     int64 // keys and values of one batch
	Workspace int64 // activations of one batch and the logits of a chunk
}

// Total is the sum.
func (m Memory) Total() int64 { return m.Weights + m.Quantised + m.Cache + m.Workspace }

// Memory estimates what a cell needs.
func (w *Workbench) Memory(c spec.Cell, p *Prepared) (Memory, error) {
	cfg, err := w.Config(c.Model)
	if err != nil {
		return Memory{}, err
	}
	_, total := cfg.ParameterCount()
	var m Memory
	m.Weights = 4 * total
	if cfg.StoredDType == "float16" || cfg.StoredDType == "bfloat16" {
		m.Weights = 2 * total // the backend keeps the patterns
	}
	hidden, inter := int64(cfg.HiddenSize), int64(cfg.IntermediateSize)
	query, kv := int64(cfg.Heads*cfg.HeadDim), int64(cfg.KVHeads*cfg.HeadDim)
	linear := hidden*query + 2*hidden*kv + query*hidden + 3*hidden*inter
	method := exec.Precision(c.Method, cfg.Layers)
	names := map[string]bool{"": true}
	for _, name := range []string{method.Front.Quantizer, method.Back.Quantizer} {
		if !names[name] {
			m.Quantised += 4 * total // the whole model is held
		}
		names[name] = true
	}
	for k := 1; k <= method.EdgeLayers(cfg.Layers); k++ {
		width, quantised := method.LayerWeights(k)
		if !quantised || width.Quantizer != "" {
			continue
		}
		m.Quantised += linear * int64(width.Bits) / 8
		group := int64(width.Group)
		if group == 0 {
			group = hidden
		}
		m.Quantised += 5 * linear / group // float32 scale and 8-bit zero
	}
	rows := int64(w.compute.BatchRows)
	if rows == 0 {
		rows = exec.DefaultBatchRows
	}
	longest := int64(0)
	for _, u := range p.Units {
		for _, r := range u.Requests {
			longest = max(longest, int64(len(r.Input)))
		}
	}
	rows = min(max(rows, longest), max(p.InputTokens, 1))
	m.Cache = 2 * 4 * rows * kv * int64(cfg.Layers)
	m.Workspace = 4*rows*(4*hidden+2*query+2*kv+2*inter) + 4*max(4<<20, int64(cfg.VocabSize))
	if method.SplitLayer > 0 {
		// Boundary rows before the codec and, of every choice by itself, after.
		const choices = 4
		m.Workspace += 4 * rows * hidden * (2 + choices)
	}
	return m, nil
}

// bytesText writes a number of bytes for people, in powers of 1024.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
