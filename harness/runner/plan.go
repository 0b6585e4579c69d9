package runner

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/results"
	"splitbench/sim"
)

// Plan describes what a run of a spec would do, without weights being loaded.
type Plan struct {
	Cells           []PlannedCell
	InputTokens     int64
	FLOP            float64
	FLOPPerSecond   float64 // measured by a short product on this machine
	EstimateSeconds float64
}

// PlannedCell is one cell of a plan.
type PlannedCell struct {
	Model, Task, Label string
	Documents          int
	Requests           int64
	InputTokens        int64
	ScoredTokens       int64
	Skipped            int
	Memory             Memory
	EdgeBits           int64 // M of Eq. 1: weights of the edge's layers, bits (edge_holds: front)
	CacheBits          int64 // B_kv of Eq. 2 at the longest served length, bits
	FLOP               float64
}

// MakePlan computes the plan of a spec.
func MakePlan(w *Workbench, s *spec.Spec) (*Plan, error) {
	cells, err := s.Cells(w.Layers)
	if err != nil {
		return nil, err
	}
	rate, err := measureRate(w.compute)
	if err != nil {
		return nil, err
	}
	plan := &Plan{FLOPPerSecond: rate}
	for _, c := range cells {
		p, err := w.Prepare(c)
		if err != nil {
			return nil, err
		}
		mem, err := w.Memory(c, p)
		if err != nil {
			return nil, err
		}
		cfg, err := w.Config(c.Model)
		if err != nil {
			return nil, err
		}
		perLayer, _ := cfg.ParameterCount()
		pc := PlannedCell{
			Model: c.Model.Name, Task: c.Task.Name, Label: c.Label(), Documents: len(p.Units), Requests: p.Requests,
			InputTokens: p.InputTokens, ScoredTokens: p.ScoredTokens, Skipped: len(p.Skipped), Memory: mem,
		}
		longest := 0.0
		for _, u := range p.Units {
			for _, r := range u.Requests {
				n := float64(len(r.Input))
				longest = max(longest, n)
				// Weights once per token, attention over all earlier positions, head on scored rows.
				pc.FLOP += n*2*float64(perLayer)*float64(cfg.Layers) + 2*n*n*float64(cfg.Heads*cfg.HeadDim*cfg.Layers) + float64(len(r.Targets))*2*float64(cfg.HiddenSize)*float64(cfg.VocabSize)
			}
		}
		if m := c.Method; m.SplitLayer > 0 {
			rows := int64(longest)
			if m.MaxTokens > 0 {
				rows = min(rows, int64(m.MaxTokens))
			}
			point, err := w.Point(c, nil)
			if err != nil {
				return nil, err
			}
			if pc.EdgeBits, pc.CacheBits, err = edgeMemory(shapeOf(cfg), point, rows); err != nil {
				return nil, err
			}
		}
		plan.Cells = append(plan.Cells, pc)
		plan.InputTokens += pc.InputTokens
		plan.FLOP += pc.FLOP
	}
	plan.EstimateSeconds = plan.FLOP / plan.FLOPPerSecond
	return plan, nil
}

// measureRate times a product of a layer's shape.
func measureRate(c Compute) (float64, error) {
	b, err := cpu.New(cpu.Options{Workers: c.Workers, Kernel: c.Kernel})
	if err != nil {
		return 0, err
	}
	defer b.Close()
	const rows, width = 256, 256
	w, err := b.NewWeight(backend.Dense{Out: width, In: width, Fill: func([]float32, int, int) error { return nil }})
	if err != nil {
		return 0, err
	}
	x, err := b.Alloc(rows, width)
	if err != nil {
		return 0, err
	}
	y, err := b.Alloc(rows, width)
	if err != nil {
		return 0, err
	}
	b.MatMul(y, x, w, nil, false)
	start := time.Now()
	n := 0
	for time.Since(start) < 50*time.Millisecond {
		b.MatMul(y, x, w, nil, false)
		n++
	}
	return 2 * rows * width * width * float64(n) / time.Since(start).Seconds(), nil
}

// Check returns an error that lists the cells which need more than limit
// bytes.
func (p *Plan) Check(limit int64) error {
	var lines []string
	for i, c := range p.Cells {
		if m := c.Memory; limit > 0 && m.Total() > limit {
			lines = append(lines, fmt.Sprintf("cell %d (%s %s, %s) needs %s (weights %s, quantised %s, KV %s, workspace %s), %s may be used",
				i+1, c.Model, c.Task, c.Label, bytesText(m.Total()), bytesText(m.Weights), bytesText(m.Quantised), bytesText(m.Cache), bytesText(m.Workspace), bytesText(limit)))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n%s", ErrMemory, strings.Join(lines, "\n"))
}

// Write prints the plan as a table.
func (p *Plan) Write(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "cell\tmodel\ttask\tmethod\tdocs\tskipped\trequests\ttokens\tscored\tweights\tquantised\tKV\tworkspace\tedge weights (Eq. 1)\tedge KV (Eq. 2)\tGFLOP")
	for i, c := range p.Cells {
		edge, kv := "-", "-"
		if c.EdgeBits > 0 {
			edge, kv = bytesText(c.EdgeBits/8), bytesText(c.CacheBits/8)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\n", i+1, c.Model, c.Task, c.Label, c.Documents, c.Skipped, c.Requests, c.InputTokens, c.ScoredTokens, bytesText(c.Memory.Weights), bytesText(c.Memory.Quantised), bytesText(c.Memory.Cache), bytesText(c.Memory.Workspace), edge, kv, c.FLOP/1e9)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%d cells, %d tokens, %.1f GFLOP: at least %s at the %.0f GFLOP/s that a short product reached here (small models and quantised layers run below that rate)\n",
		len(p.Cells), p.InputTokens, p.FLOP/1e9, (time.Duration(p.EstimateSeconds * float64(time.Second))).Round(100*time.Millisecond), p.FLOPPerSecond/1e9)
	return err
}

// edgeMemory evaluates Eq. 1 and 2 with the edge holding layers 1..l only, the
// widths of the method, and activations at the boundary's width, or at that of
// the keys and values where a baseline quantises them.
func edgeMemory(shape sim.Shape, p results.Point, rows int64) (weights, cache int64, err error) {
	activation := int64(16)
	if p.Codec != "" && p.Codec != "raw16" && p.Codec != exec.CodecNone {
		activation = int64(p.MaxActivationBits)
	}
	if p.KVBits != 0 && p.KVBits != exec.FullPrecision {
		activation = int64(p.KVBits)
	}
	precision := sim.Precision{
		PrecisionLayer: int64(p.WeightLayer), FrontWeightBits: int64(p.FrontBits), BackWeightBits: int64(p.BackBits),
		FrontActivationBits: activation, BackActivationBits: activation,
	}
	readings := sim.Readings{EdgeHolds: sim.FrontOnly}
	if weights, err = sim.WeightBits(shape, precision, int64(p.SplitLayer), readings); err != nil {
		return 0, 0, err
	}
	cache, err = sim.CacheBits(shape, precision, rows, int64(p.SplitLayer), readings)
	return weights, cache, err
}
