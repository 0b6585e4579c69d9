package figures

import (
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"

	"splitbench/results"
)

// metricByClamp draws Fig. 4(a) of arXiv 2511.04002: the primary metric of each
// task against the limit of magnitudes in the boundary tensor.
func metricByClamp(in Input) ([]*page, error) {
	cells := slices.DeleteFunc(ok(in.Cells), func(c results.CellResult) bool {
		_, ok := c.PrimaryMetric()
		return !ok
	})
	if !slices.ContainsFunc(cells, func(c results.CellResult) bool { return c.Clamp > 0 }) {
		return nil, fmt.Errorf("%w: no cell with status ok has a clamp; the run needs a sweep over clamp", ErrNoData)
	}
	fixed := append(dropKnobs(otherKnobs(), "clamp"), knobTau(), knobBits())
	list := sourcesOf(cells, fixed, nil, true)
	var pages []*page
	for i := range list {
		if s := &list[i]; slices.ContainsFunc(s.cells, func(c results.CellResult) bool { return c.Clamp > 0 }) {
			pages = append(pages, clampPage(s))
		}
	}
	return pages, nil
}

// withoutClampSweep leaves out the clamped cells of a run that sweeps the limit
// and has others: they are what accuracy_vs_clamp shows.
func withoutClampSweep(cells []results.CellResult) (kept []results.CellResult, left bool) {
	limits, byLimit := partition(cells, func(c *results.CellResult) float64 { return c.Clamp })
	split := slices.ContainsFunc(byLimit[0], func(c results.CellResult) bool { return c.SplitLayer > 0 })
	if len(limits) < 3 || !split {
		return cells, false
	}
	return byLimit[0], true
}

// unclampedStyle is the line of what is not clamped, where that is the same at
// every layer.
var unclampedStyle = style{ink, nil, -1}

func clampPage(s *source) *page {
	p := &page{suffix: s.suffix, title: "Primary metric by limit of boundary magnitudes: " + s.model}
	at := spread(layers(s.cells), len(palette))
	styles := make([]style, len(at))
	for k := range at {
		styles[k] = style{palette[k], nil, k}
	}
	tasks, byTask := partition(s.cells, func(c *results.CellResult) string { return c.Task })
	_, wholes := partition(s.whole, func(c *results.CellResult) string { return c.Task })
	var panels []*plot.Plot
	stderr, dropped, one, several := false, false, false, false
	for _, task := range tasks {
		panel := newClampPanel(task, byTask[task], wholes[task], at, styles)
		panels = append(panels, panel.plot)
		stderr, dropped = stderr || panel.stderr, dropped || panel.dropped
		one, several = one || panel.levels == 1, several || panel.levels > 1
	}
	p.notes = append(s.notes("Values beyond the limit are set to it before the codec (arXiv 2511.04002, Fig. 4a)."), metricNotes(stderr, one, dropped)...)
	if all := layers(s.cells); len(at) < len(all) {
		p.notes = append(p.notes, fmt.Sprintf("%d of %d split layers are shown.", len(at), len(all)))
	}
	p.setMetricPanels(panels)
	p.legend = append(p.legend, heading("split at layer l"))
	for k, l := range at {
		p.legend = append(p.legend, lineEntry("l = "+itoa(l), styles[k], false, nil))
	}
	if one {
		var band color.Color
		if stderr {
			band = bandGray
		}
		p.legend = append(p.legend, lineEntry("not clamped", unclampedStyle, false, band))
	}
	if several {
		p.legend = append(p.legend, lineEntry("not clamped, by colour", style{faint, dashes[1], -1}, false, nil))
	}
	return p
}

type clampPanel struct {
	layerPanel
	levels int // horizontal lines
}

// newClampPanel draws one task. What is not clamped is a horizontal line for
// each layer, or one for all where they agree; without such cells it is the
// model that is not split, with its own weights.
func newClampPanel(task string, cells, whole []results.CellResult, at []int32, styles []style) clampPanel {
	var out clampPanel
	higher := false
	for i := range cells {
		m, _ := cells[i].PrimaryMetric()
		higher = m.HigherIsBetter
	}
	r := newMetricRange(higher)
	lines, levels := make([][]point, len(at)), make([]*point, len(at))
	var limits []float64
	for i := range cells {
		c := &cells[i]
		k := slices.Index(at, c.SplitLayer)
		if k < 0 {
			continue
		}
		q, finite := r.add(c, c.Clamp)
		switch {
		case !finite:
		case c.Clamp == 0:
			levels[k] = &q
		default:
			lines[k] = append(lines[k], q)
			if !slices.Contains(limits, c.Clamp) {
				limits = append(limits, c.Clamp)
			}
		}
	}
	levels = distinctLevels(levels)
	if len(levels) == 0 {
		for i := range whole {
			if c := &whole[i]; c.FrontBits == 16 && c.BackBits == 16 && len(levels) == 0 {
				if q, finite := r.add(c, 0); finite {
					levels = append(levels, &q)
				}
			}
		}
	}
	out.dropped, out.stderr = r.dropped, r.stderr
	p := newPlot(task, "Largest magnitude kept", r.unit())
	slices.Sort(limits)
	place, step := setLimits(p, limits)
	for _, line := range lines {
		for i := range line {
			line[i].x = place(line[i].x)
		}
	}
	y := setLayerY(p, r.lo, r.hi, higher)
	for k, l := range levels {
		if l == nil {
			continue
		}
		out.levels++
		v := level{y: y(l.y), style: unclampedStyle.line()}
		if len(levels) > 1 {
			v.style = style{styles[k].color, dashes[1], -1}.line()
		} else if l.err > 0 {
			v.band = [2]float64{y(l.y - l.err), y(l.y + l.err)}
		}
		p.Add(v)
	}
	addErrorCurves(p, lines, styles, 0.05*step, y)
	out.plot = p
	return out
}

// distinctLevels returns one level where all are equal, none where there are
// none, and else the levels as they are.
func distinctLevels(levels []*point) []*point {
	var first *point
	for _, l := range levels {
		switch {
		case l == nil:
		case first == nil:
			first = l
		case l.y != first.y || l.err != first.err:
			return levels
		}
	}
	if first == nil {
		return nil
	}
	return []*point{first}
}

// setLimits sets the range and ticks of the axis of limits, which ascend, and
// returns how one is placed on it and the least distance of two. Limits that span
// a factor of 8 are placed by their logarithms.
func setLimits(p *plot.Plot, limits []float64) (place func(float64) float64, step float64) {
	place = func(v float64) float64 { return v }
	if n := len(limits); n > 0 && limits[n-1] >= 8*limits[0] {
		place = math.Log10
	}
	if len(limits) == 0 { // no value was finite
		limits = []float64{1}
	}
	lo, hi := place(limits[0]), place(limits[len(limits)-1])
	step = math.Inf(1)
	for i := 1; i < len(limits); i++ {
		step = math.Min(step, place(limits[i])-place(limits[i-1]))
	}
	if math.IsInf(step, 1) {
		step = math.Max(0.1*math.Abs(lo), 0.1)
	}
	pad := math.Max(0.04*(hi-lo), 0.5*step)
	p.X.Min, p.X.Max = lo-pad, hi+pad
	var ticks plot.ConstantTicks
	last := math.Inf(-1)
	for _, v := range limits {
		t := plot.Tick{Value: place(v)}
		if t.Value-last > 0.11*(p.X.Max-p.X.Min) { // labels must not run together
			t.Label, last = number(v), t.Value
		}
		ticks = append(ticks, t)
	}
	p.X.Tick.Marker = ticks
	return place, step
}
