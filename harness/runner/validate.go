package runner

import (
	"errors"
	"fmt"
	"os"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/tasks"
)

// Validate checks what a spec's text alone cannot show, without loading
// weights or data: that models have a readable configuration and a tokenizer
// that fits, that data files are there, that blocks fit the model and weight
// groups its widths. It returns the number of cells; faults are joined, one
// line each, and the spec's own come with their places.
func (w *Workbench) Validate(s *spec.Spec) (int, error) {
	cells, err := s.Cells(w.Layers)
	if err != nil {
		return 0, err
	}
	var faults []error
	seen := map[string]bool{}
	add := func(format string, args ...any) {
		err := fmt.Errorf(format, args...)
		if !seen[err.Error()] {
			seen[err.Error()] = true
			faults = append(faults, fmt.Errorf("%s: %w", s.Name, err))
		}
	}
	place := func(e spec.Error) {
		if !seen[e.Error()] {
			seen[e.Error()] = true
			faults = append(faults, e)
		}
	}
	for _, c := range cells {
		cfg, err := w.Config(c.Model)
		if err != nil {
			return 0, err // reported by Cells already
		}
		if c.Model.MaxLength > cfg.MaxPositions {
			add("model %s: max_length %d, expected at most the model's %d positions", c.Model.Name, c.Model.MaxLength, cfg.MaxPositions)
		}
		if t, err := w.Tokenizer(c.Model); err != nil {
			add("%w", err)
		} else if t.Size() > cfg.VocabSize {
			add("model %s: the tokenizer has %d tokens, the model only %d", c.Model.Name, t.Size(), cfg.VocabSize)
		}
		narrowest := min(cfg.HiddenSize, cfg.QueryWidth(), cfg.IntermediateSize)
		for _, width := range []struct {
			key string
			spec.WeightCoder
		}{{"front", c.Method.Front}, {"back", c.Method.Back}} {
			if width.Bits != 0 && width.Bits != exec.FullPrecision && width.Group > narrowest {
				add("method %s, model %s: %s.group %d, expected at most %d, the inputs of the narrowest weight", c.Method.Name, c.Model.Name, width.key, width.Group, narrowest)
			}
		}
		if b, err := w.baselines(c); err != nil {
			place(s.MethodFault(c.Method.Name, false, "method "+c.Method.Name+": "+err.Error(), ""))
		} else {
			for _, q := range b.each() {
				if _, err := w.calibration(c, q.method); err != nil {
					place(s.MethodFault(c.Method.Name, true, "method "+c.Method.Name+": "+err.Error(), ""))
				}
			}
		}
		if _, err := w.Tables(c); err != nil {
			add("%w", err)
		}
		path, err := taskPath(c)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			add("task %s: %w", c.Task.Name, err)
		}
		info, err := tasks.Lookup(c.Task.Name)
		if err != nil {
			add("%w", err)
			continue
		}
		if max, err := w.MaxLength(c.Model); err == nil && info.Kind == tasks.BlockPerplexity && c.Task.Block > max {
			add("task %s, model %s: block %d, expected at most the model's length of %d", c.Task.Name, c.Model.Name, c.Task.Block, max)
		}
		if c.Chat == chatOn && info.Kind != tasks.MultipleChoice {
			add("task %s: chat: on has no meaning for a %s task, expected a multiple-choice task", c.Task.Name, info.Kind)
		}
	}
	if err := checkServer(w, s); err != nil {
		faults = append(faults, err)
	}
	return len(cells), errors.Join(faults...)
}
