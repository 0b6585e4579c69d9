// Package figures draws the figures of a run from its cells. It runs nothing and
// reads no files: the caller gives it [results.CellResult] values.
//
//  1. Cells are grouped into pages: one per model, protocol and set of knobs that
//     does not fit into one picture (group.go).
//  2. A page holds panels, one per task or split layer, and one legend outside of
//     them (page.go).
//  3. Each page is written as PNG, SVG and PDF (write.go). The bytes depend on the
//     input only.
//
// [List] is the table of all figures.
package figures

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"splitbench/results"
)

// Figure is one kind of figure.
type Figure struct {
	// Name is used in a spec and begins the file names.
	Name  string
	Title string
	// Needs says what a run must have measured for it.
	Needs       string
	Description string

	build func(in Input) ([]*page, error)
}

// List returns all figures, in a fixed order.
func List() []Figure {
	return []Figure{
		{
			Name:        "accuracy_vs_layer",
			Title:       "Accuracy by split layer",
			Needs:       "a sweep over split_layer on a task whose primary metric is higher when better",
			Description: "The primary metric of each task against the split layer l, one line per threshold tau and maximum activation bits Qa, with standard errors; models that are not split as horizontal lines (arXiv 2511.04002, Table 2).",
			build:       func(in Input) ([]*page, error) { return metricByLayer(in, true) },
		},
		{
			Name:        "perplexity_vs_layer",
			Title:       "Perplexity by split layer",
			Needs:       "a sweep over split_layer on a task whose primary metric is lower when better",
			Description: "As accuracy_vs_layer, for perplexities (arXiv 2511.04002, Table 4).",
			build:       func(in Input) ([]*page, error) { return metricByLayer(in, false) },
		},
		{
			Name:        "accuracy_vs_clamp",
			Title:       "Primary metric by limit of boundary magnitudes",
			Needs:       "split cells with one or more values of clamp",
			Description: "The primary metric of each task against the largest magnitude that values of the boundary tensor keep, one line per split layer, with what is not clamped as a horizontal line (arXiv 2511.04002, Fig. 4a).",
			build:       metricByClamp,
		},
		{
			Name:        "bytes_vs_tokens",
			Title:       "Payload by rows sent",
			Needs:       "split cells with a codec, for one or more values of max_tokens",
			Description: "Measured mean size of the boundary message per request, keys and values not included, against the mean number of rows sent, one point per max_tokens W and one line per tau and Qa, with as many rows of 16-bit values as the baseline (arXiv 2511.04002, Fig. 6).",
			build:       bytesByTokens,
		},
		{
			Name:        "share_vs_threshold",
			Title:       "Payload shares by threshold",
			Needs:       "split cells with a codec that separates values above a threshold, for one or more thresholds",
			Description: "Shares of the message that hold values below the threshold (codes and side information), above it (sparse values), and neither, against tau (arXiv 2511.04002, Fig. 7).",
			build:       shareByThreshold,
		},
		{
			Name:        "activation_histogram",
			Title:       "Activation magnitudes at the boundary",
			Needs:       "split cells with an activation histogram",
			Description: "Distribution of |x| over the hidden state at the boundary, counted on the first block of each cell and pooled over tasks, one line per split layer, with the thresholds (arXiv 2511.04002, Fig. 4b).",
			build:       activationHistogram,
		},
		{
			Name:        "method_bars",
			Title:       "Methods side by side",
			Needs:       "methods with a quantizer",
			Description: "The primary metric of each task as bars, one per method, grouped by the bits of activations, with standard errors and the model as it is as a line (arXiv 2511.04002, Table 3).",
			build:       methodBars,
		},
		{
			Name:        "method_pareto",
			Title:       "Methods by the bits that a weight takes",
			Needs:       "methods with a quantizer, for one or more weight widths",
			Description: "The primary metric of each task against the mean number of bits that a linear weight takes as stored, scales, zeros, orders and outliers included: one line per method over its widths, and the points that no other beats in both.",
			build:       methodPareto,
		},
	}
}

// Input is what the figures are drawn from.
type Input struct {
	// Cells are those of one or several runs. Cells that did not end well and
	// cells of no use to a figure are left out of it.
	Cells []results.CellResult
	// Paper holds published numbers to be drawn beside the measured ones, where a
	// figure can.
	Paper []PaperPoint
}

// Errors of Render.
var (
	// ErrUnknown is returned for a name that is not in List.
	ErrUnknown = errors.New("unknown figure")
	// ErrNoData is returned when the cells lack what the figure shows.
	ErrNoData = errors.New("nothing to draw")
)

// Render draws the figure called name and writes it into dir, which it makes if
// needed, as PNG, SVG and PDF. It returns the paths of the files. A figure of
// several models, protocols or knobs becomes several pictures, whose names end
// in what they show.
func Render(name string, in Input, dir string) ([]string, error) {
	var names []string
	for _, f := range List() {
		names = append(names, f.Name)
		if f.Name != name {
			continue
		}
		pages, err := f.build(in)
		if err != nil {
			return nil, fmt.Errorf("figure %s: %w", name, err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		var paths []string
		taken := map[string]bool{}
		for _, p := range pages {
			base := name
			if p.suffix != "" {
				base += "-" + fileName(p.suffix)
			}
			for n := 2; taken[base]; n++ { // two names may clean up to the same
				base = fmt.Sprintf("%s-%s-%d", name, fileName(p.suffix), n)
			}
			taken[base] = true
			written, err := p.write(filepath.Join(dir, base))
			if err != nil {
				return nil, fmt.Errorf("figure %s: %w", name, err)
			}
			paths = append(paths, written...)
		}
		return paths, nil
	}
	return nil, fmt.Errorf("%w %q, expected one of %s", ErrUnknown, name, strings.Join(names, ", "))
}

// fileName replaces everything but letters, digits, dots and hyphens.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '_'
	}, s)
}
