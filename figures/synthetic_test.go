package figures

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"splitbench/results"
)

// sweep describes made-up cells in the form of a real run.
type sweep struct {
	models    []string
	protocols []string
	tasks     []string // a task whose name begins with "wikitext" has a perplexity
	layers    []int32
	taus      []float64
	bits      []int32
	tokens    []int32
}

func realSmoke() sweep {
	return sweep{
		models:    []string{"stories260K", "babyllama105"},
		protocols: []string{"joint-bos"},
		tasks:     []string{"hellaswag", "piqa", "arc_easy", "arc_challenge", "boolq", "winogrande", "wikitext2"},
		layers:    []int32{1, 3, 5},
		taus:      []float64{1, 5},
		bits:      []int32{3, 4, 8},
		tokens:    []int32{0, 50},
	}
}

func paperLike() sweep {
	return sweep{
		models:    []string{"llama2-7b"},
		protocols: []string{"legacy"},
		tasks:     []string{"piqa", "arc_easy", "boolq", "hellaswag", "winogrande", "wikitext2"},
		layers:    []int32{5, 10, 15, 20, 25, 30},
		taus:      []float64{1, 5, 10},
		bits:      []int32{2, 4, 8},
		tokens:    []int32{50, 150, 250, 350},
	}
}

const hidden = 64

// cells returns the cells of the sweep: fp32 for each task, then the split ones.
// Accuracy falls with the layer and with fewer bits, bytes per row grow with the
// bits and with a lower threshold.
func (s sweep) cells() []results.CellResult {
	r := rand.New(rand.NewPCG(3, 4))
	var out []results.CellResult
	for _, model := range s.models {
		for _, protocol := range s.protocols {
			for i, task := range s.tasks {
				base := results.Point{Model: model, Task: task, Protocol: protocol, Method: "fp32", FrontBits: 16, BackBits: 16}
				level := 0.45 + 0.05*float64(i)
				out = append(out, s.cell(base, level, r))
				for _, l := range s.layers {
					for _, tau := range s.taus {
						for _, q := range s.bits {
							for _, w := range s.tokens {
								p := base
								p.Method, p.SplitLayer, p.WeightLayer, p.FrontBits, p.Group = "split", l, l, 4, 32
								p.Codec, p.Threshold, p.MaxActivationBits, p.Delta, p.MaxTokens = "literal", tau, q, 0.2, w
								v := level - 0.004*float64(l) - 0.1/float64(q) - 0.002*tau + 0.01*r.NormFloat64()
								out = append(out, s.cell(p, v, r))
							}
						}
					}
				}
			}
		}
	}
	for i := range out {
		out[i].Key = fmt.Sprintf("%064x", i)
	}
	return out
}

func (s sweep) cell(p results.Point, level float64, r *rand.Rand) results.CellResult {
	stderr := 0.05
	if p.Protocol == "legacy" {
		stderr = 0.01
	}
	c := results.CellResult{Schema: results.SchemaVersion, Point: p, Status: results.StatusOK, Docs: 100}
	if strings.HasPrefix(p.Task, "wikitext") {
		c.Primary = "perplexity"
		c.Metrics = []results.Metric{{Name: "perplexity", Value: 6 / level, N: 40}}
	} else {
		c.Primary = "acc_norm"
		c.Metrics = []results.Metric{{Name: "acc_norm", Value: level, Stderr: &stderr, N: 100, HigherIsBetter: true}}
	}
	if p.SplitLayer == 0 {
		return c
	}
	rows := int64(39)
	if p.Protocol == "legacy" { // long documents
		rows = 400
	}
	if p.MaxTokens > 0 && int64(p.MaxTokens) < rows {
		rows = int64(p.MaxTokens)
	}
	n := 200 * rows
	above := math.Erfc(p.Threshold / 3)
	c.Payload = results.Payload{
		Requests: 200, Tokens: n, Header: 200 * 24, Tables: 200 * 60, Side: 3 * n,
		Codes: int64(float64(n) * hidden * float64(p.MaxActivationBits) / 8), Sparse: int64(float64(n) * hidden * above * 4), HiddenSize: hidden,
	}
	q := &c.Payload
	q.Total = q.Header + q.Tables + q.Side + q.Codes + q.Sparse

	// Magnitudes of a normal distribution that widens with the layer, with a few
	// outliers; ten bins a decade.
	h := &results.Histogram{}
	for e := -40; e <= 25; e++ {
		h.Edges = append(h.Edges, math.Pow(10, float64(e)/10))
	}
	h.Counts = make([]int64, len(h.Edges)-1)
	width := 0.3 + 0.25*float64(p.SplitLayer)
	for i := range h.Counts {
		share := math.Erf(h.Edges[i+1]/width) - math.Erf(h.Edges[i]/width)
		h.Counts[i] = int64(1e6 * share)
		if h.Edges[i] > 8 && h.Edges[i] < 60 && i%3 != 0 {
			h.Counts[i] += 1 + r.Int64N(20)
		}
	}
	h.Under = 7
	c.Activations = h
	return c
}
