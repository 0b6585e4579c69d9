package runner

import (
	"fmt"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/results"
)

// holdBoundaries bounds the bytes of boundary tensors that cells share; a
// quarter of the memory that is available bounds them too, and what a cell may
// use beyond its need.
const holdBoundaries = 1 << 30

// holdEdge lets cells with the same edge use its boundary tensors; need is the
// bytes that the first of them takes without.
func (r *run) holdEdge(e *exec.Engine, j job, s *exec.Session, need int64) {
	if r.edge != j.edge {
		r.edge = j.edge
		limit := int64(0)
		if !j.sole && j.edge != "" {
			limit = holdBoundaries
			if free := AvailableMemory(); free > 0 {
				limit = min(limit, free/4)
			}
			if may := r.options.MemoryLimit; may > 0 {
				limit = min(limit, may-need)
			}
		}
		e.HoldBoundaries(limit)
	}
	s.Keep = j.edge != "" && !j.last
}

// outcomeOf identifies what the rows of a cell hold: cells of equal outcome
// differ in names and in knobs that cannot act on these inputs.
func (r *run) outcomeOf(j job, p *Prepared) (string, error) {
	key := func(j job) (string, error) {
		cfg, err := r.bench.Config(j.cell.Model)
		if err != nil {
			return "", err
		}
		t, err := r.bench.Tables(j.cell)
		if err != nil {
			return "", err
		}
		m := exec.OutcomeKey(j.cell.Method, cfg.Layers, p.Longest, t)
		return fmt.Sprintf("%s|%s|%s|%s", j.extra[spec.DigestModel], j.cell.Task.Name, p.Requested, m), nil
	}
	for _, done := range r.finished[j.tokens] {
		if done.cell.Timing {
			continue
		}
		k, err := key(done)
		if err != nil {
			return "", err
		}
		r.twins[k] = done.key
	}
	delete(r.finished, j.tokens)
	return key(j)
}

// takeTwin returns the rows of a cell as those of a finished one of the same
// outcome, with the cell's own names and knobs; nil when there is none.
func (r *run) takeTwin(j job, p *Prepared, twin string, res *results.CellResult) ([]results.Row, error) {
	if twin == "" {
		return nil, nil
	}
	c, done, err := r.store.Done(twin)
	if err != nil || !done || c.Status != results.StatusOK {
		return nil, nil // broken since: this cell is computed, and the twin by the next run
	}
	scores, err := r.store.Rows(twin)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	if !agree(scores, [][]Unit{p.Units}, 0) {
		return nil, nil
	}
	var rows []results.Row
	for _, u := range p.Units {
		for _, row := range u.Rows {
			from := &scores[len(rows)]
			row.Cell, row.Point = j.key, res.Point
			row.LogProb, row.Greedy = from.LogProb, from.Greedy
			row.PayloadBytes, row.PayloadHeader, row.PayloadTables = from.PayloadBytes, from.PayloadHeader, from.PayloadTables
			row.PayloadCodes, row.PayloadSide, row.PayloadSparse = from.PayloadCodes, from.PayloadSide, from.PayloadSparse
			row.KVPayloadBytes, row.PayloadTokens = from.KVPayloadBytes, from.PayloadTokens
			rows = append(rows, row)
		}
	}
	res.Activations, res.Measured.Twin, res.StoredBits = c.Activations, twin, c.StoredBits
	r.progress.twin(p, rows)
	return rows, describe(res, p, rows, int(c.Payload.HiddenSize))
}
