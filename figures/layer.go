package figures

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"splitbench/results"
)

// metricByLayer draws the primary metrics that are higher, or lower, when better
// against the split layer, one panel per task.
func metricByLayer(in Input, higher bool) ([]*page, error) {
	direction, figure := "lower", "perplexity"
	if higher {
		direction, figure = "higher", "accuracy"
	}
	cells := slices.DeleteFunc(ok(in.Cells), func(c results.CellResult) bool {
		m, ok := c.PrimaryMetric()
		return !ok || m.HigherIsBetter != higher
	})
	if len(cells) == 0 {
		return nil, fmt.Errorf("%w: no cell with status ok has a primary metric that is %s when better", ErrNoData, direction)
	}
	cells, left := withoutClampSweep(cells)
	list := sources(cells, otherKnobs(), []knob{knobTau(), knobBits()})
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no cell with such a metric has split_layer above 0; the run needs a sweep over split_layer", ErrNoData)
	}
	var pages []*page
	for i := range list {
		s := &list[i]
		curves := layoutCurves(s.cells, s.series)
		p := &page{suffix: s.suffix}
		p.title = strings.ToUpper(figure[:1]) + figure[1:] + " by split layer: " + s.model
		wholes := wholeMethods(s.whole)
		tasks, byTask := partition(s.cells, func(c *results.CellResult) string { return c.Task })
		var panels []*plot.Plot
		dropped := false
		stderr := false
		for _, task := range tasks {
			panel := newLayerPanel(task, byTask[task], s.whole, wholes, curves, s.series, paperOf(in.Paper, s.model, task), higher)
			dropped = dropped || panel.dropped
			stderr = stderr || panel.stderr
			panels = append(panels, panel.plot)
		}
		p.notes = append(s.notes(), metricNotes(stderr, true, dropped)...)
		if left {
			p.notes = append(p.notes, "Clamped cells are left to accuracy_vs_clamp.")
		}
		p.setMetricPanels(panels)
		p.legend = append(p.legend, heading("split at layer l"))
		for _, c := range curves {
			p.legend = append(p.legend, lineEntry(c.label, c.style(), false, nil))
		}
		if len(wholes) > 0 {
			p.legend = append(p.legend, heading("not split"))
		}
		for k, w := range wholes {
			var band color.Color
			if k == 0 && stderr {
				band = bandGray
			}
			p.legend = append(p.legend, lineEntry(w, wholeStyle(k), false, band))
		}
		if paper := paperSeries(in.Paper, s.model, tasks); len(paper) > 0 {
			p.legend = append(p.legend, heading("arXiv 2511.04002, Table 2"))
			for k, name := range paper {
				p.legend = append(p.legend, lineEntry(name, paperStyle(k), true, nil))
			}
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// metricNotes says what the bars of a page are, and what it leaves out.
func metricNotes(stderr, band, dropped bool) []string {
	var parts []string
	switch {
	case stderr && band:
		parts = append(parts, "Error bars and the grey band are ± 1 standard error.")
	case stderr:
		parts = append(parts, "Error bars are ± 1 standard error.")
	}
	if dropped {
		parts = append(parts, "Infinite values are not shown.")
	}
	if parts == nil {
		return nil
	}
	return []string{strings.Join(parts, " ")}
}

// setMetricPanels places the panels of a page, one per task.
func (p *page) setMetricPanels(panels []*plot.Plot) {
	p.panelW, p.panelH = 3.1*vg.Inch, 2.5*vg.Inch
	if len(panels) == 1 {
		p.panelW, p.panelH = 4.4*vg.Inch, 3.2*vg.Inch
	}
	p.panels = grid(panels, 3)
}

// wholeKnobs are the knobs that mean something without a split.
var wholeKnobs = []string{"activations", "kv_bits", "back_activations", "back_kv_bits", "calibration", "front", "back", "group", "back_group", "l_w", "seed", "block", "limit", "max_length"}

// wholeLabel names a model that is not split: by its method, and by those of its
// weights, baseline, seed and extent of the task in which cells of the method
// differ.
func wholeLabel(c *results.CellResult, cells []results.CellResult) string {
	label := c.Method
	for _, k := range otherKnobs() {
		mine := k.text(&c.Point)
		if !slices.Contains(wholeKnobs, k.name) || mine == "" {
			continue
		}
		if slices.ContainsFunc(cells, func(o results.CellResult) bool {
			return o.Method == c.Method && k.text(&o.Point) != mine
		}) {
			label += ", " + mine
		}
	}
	return label
}

// wholeMethods lists the labels of models that are not split, those with the
// checkpoint's own weights first.
func wholeMethods(cells []results.CellResult) []string {
	var out []string
	for _, own := range []bool{true, false} {
		for i := range cells {
			c := &cells[i]
			if (c.FrontBits == 16 && c.BackBits == 16) == own {
				if l := wholeLabel(c, cells); !slices.Contains(out, l) {
					out = append(out, l)
				}
			}
		}
	}
	return out
}

func wholeStyle(k int) style {
	if k == 0 {
		return style{ink, nil, -1}
	}
	return style{faint, dashes[1+(k-1)%(len(dashes)-1)], -1}
}

type layerPanel struct {
	plot    *plot.Plot
	dropped bool // a value was not finite
	stderr  bool // a value has a standard error
}

// point is a value with its standard error, 0 for none.
type point struct{ x, y, err float64 }

// metricRange collects what the values of a panel have in common.
type metricRange struct {
	scale           float64
	lo, hi          float64 // of the finite values, with their standard errors
	name            string  // of the metric
	dropped, stderr bool    // a value was not finite; a value has a standard error
}

// newMetricRange begins a range; a metric that is higher when better is shown in percent.
func newMetricRange(higher bool) *metricRange {
	r := &metricRange{scale: 1, lo: math.Inf(1), hi: math.Inf(-1)}
	if higher {
		r.scale = 100
	}
	return r
}

// add takes the primary metric of a cell into the range of the panel and places
// it at x; it is false where the metric is not finite.
func (r *metricRange) add(c *results.CellResult, x float64) (point, bool) {
	m, _ := c.PrimaryMetric()
	r.name = m.Name
	p := point{x: x, y: m.Value * r.scale}
	if m.Stderr != nil && !math.IsNaN(*m.Stderr) && !math.IsInf(*m.Stderr, 0) {
		p.err = *m.Stderr * r.scale
		r.stderr = true
	}
	if math.IsNaN(p.y) || math.IsInf(p.y, 0) {
		r.dropped = true
		return p, false
	}
	r.lo, r.hi = math.Min(r.lo, p.y-p.err), math.Max(r.hi, p.y+p.err)
	return p, true
}

// unit labels the axis of the metric.
func (r *metricRange) unit() string {
	if r.scale != 1 {
		return r.name + " (%)"
	}
	return r.name
}

// addErrorCurves draws lines with their error bars, at the places that y gives.
// Lines are set side by side by dodge, so that error bars do not cover each other.
func addErrorCurves(p *plot.Plot, lines [][]point, styles []style, dodge float64, y func(float64) float64) {
	curves := make([]plotter.XYs, len(lines))
	for k, pts := range lines {
		slices.SortFunc(pts, func(a, b point) int { return cmp.Compare(a.x, b.x) })
		var errs plotter.YErrors
		for _, q := range pts {
			x := q.x + (float64(k)-float64(len(lines)-1)/2)*dodge
			v := y(q.y)
			curves[k] = append(curves[k], plotter.XY{X: x, Y: v})
			errs = append(errs, struct{ Low, High float64 }{v - y(q.y-q.err), y(q.y+q.err) - v})
		}
		if len(pts) > 0 {
			p.Add(&plotter.YErrorBars{XYs: curves[k], YErrors: errs, CapWidth: vg.Points(4),
				LineStyle: draw.LineStyle{Color: lighter(styles[k].color), Width: vg.Points(1)}})
		}
	}
	for k, xys := range curves { // all lines above all bars
		addCurve(p, xys, styles[k], false)
	}
}

func newLayerPanel(task string, cells, whole []results.CellResult, wholes []string, curves []curve, knobs []knob, paper []PaperPoint, higher bool) layerPanel {
	var out layerPanel
	r := newMetricRange(higher)
	lines := make([][]point, len(curves))
	for i := range cells {
		key := describe(&cells[i].Point, knobs)
		k := slices.IndexFunc(curves, func(c curve) bool { return c.key == key })
		if p, ok := r.add(&cells[i], float64(cells[i].SplitLayer)); ok {
			lines[k] = append(lines[k], p)
		}
	}
	levels := make([]*point, len(wholes))
	for i := range whole {
		if whole[i].Task != task {
			continue
		}
		k := slices.Index(wholes, wholeLabel(&whole[i], whole))
		if p, ok := r.add(&whole[i], 0); ok && levels[k] == nil {
			levels[k] = &p
		}
	}
	at := layers(cells)
	for _, pp := range paper {
		r.lo, r.hi = math.Min(r.lo, pp.Value), math.Max(r.hi, pp.Value)
		if !slices.Contains(at, pp.Layer) {
			at = append(at, pp.Layer)
		}
	}
	slices.Sort(at)
	step := math.Inf(1)
	for i := 1; i < len(at); i++ {
		step = math.Min(step, float64(at[i]-at[i-1]))
	}
	if math.IsInf(step, 1) {
		step = 1
	}
	out.dropped, out.stderr = r.dropped, r.stderr
	p := newPlot(task, "Split layer l", r.unit())
	p.X.Min, p.X.Max = float64(at[0])-0.5*step, float64(at[len(at)-1])+0.5*step
	var xt plot.ConstantTicks
	for _, l := range spread(at, 9) {
		xt = append(xt, plot.Tick{Value: float64(l), Label: itoa(l)})
	}
	p.X.Tick.Marker = xt
	y := setLayerY(p, r.lo, r.hi, higher)

	for k := len(levels) - 1; k >= 0; k-- {
		if l := levels[k]; l != nil {
			v := level{y: y(l.y), style: wholeStyle(k).line()}
			if k == 0 && l.err > 0 {
				v.band = [2]float64{y(l.y - l.err), y(l.y + l.err)}
			}
			p.Add(v)
		}
	}
	for k, name := range paperSeries(paper, "", nil) {
		var xys plotter.XYs
		for _, pp := range paper {
			if pp.Series == name {
				xys = append(xys, plotter.XY{X: float64(pp.Layer), Y: y(pp.Value)})
			}
		}
		addCurve(p, xys, paperStyle(k), true)
	}
	styles := make([]style, len(curves))
	for k, c := range curves {
		styles[k] = c.style()
	}
	addErrorCurves(p, lines, styles, math.Min(0.07, 0.5/float64(len(curves)))*step, y)
	out.plot = p
	return out
}

// setLayerY sets the range and ticks of a metric, and returns how a value is
// placed on the axis. A perplexity that spans more than a factor of 20 is placed
// by its logarithm.
func setLayerY(p *plot.Plot, lo, hi float64, higher bool) func(float64) float64 {
	if math.IsInf(lo, 1) {
		lo, hi = 0, 1
	}
	var ticks plot.ConstantTicks
	if !higher && lo > 0 && hi/lo > 20 {
		a, b := int(math.Floor(math.Log10(lo))), int(math.Ceil(math.Log10(hi)))
		p.Y.Min, p.Y.Max = float64(a), float64(b)
		p.Y.Tick.Marker = decades(a, b, 1+(b-a)/6)
		return math.Log10
	}
	pad := 0.04 * (hi - lo)
	from, to := lo-pad, hi+pad
	if higher {
		from, to = math.Max(from, math.Min(lo, 0)), math.Min(to, math.Max(hi, 100))
	}
	p.Y.Min, p.Y.Max, ticks = niceAxis(from, to, 5)
	p.Y.Tick.Marker = ticks
	return func(v float64) float64 { return v }
}

// addCurve draws a line and its markers.
func addCurve(p *plot.Plot, xys plotter.XYs, s style, open bool) {
	if len(xys) == 0 {
		return
	}
	p.Add(&plotter.Line{XYs: xys, LineStyle: s.line()})
	if s.marker >= 0 {
		p.Add(&plotter.Scatter{XYs: xys, GlyphStyle: s.glyph(open)})
	}
}

// level is a horizontal line across the panel, on a band if that is not empty.
type level struct {
	y     float64
	band  [2]float64
	style draw.LineStyle
}

// Plot implements plot.Plotter.
func (l level) Plot(c draw.Canvas, p *plot.Plot) {
	_, ty := p.Transforms(&c)
	if l.band[1] > l.band[0] {
		c.SetColor(bandGray)
		c.Fill(vg.Rectangle{
			Min: vg.Point{X: c.Min.X, Y: ty(math.Max(l.band[0], p.Y.Min))},
			Max: vg.Point{X: c.Max.X, Y: ty(math.Min(l.band[1], p.Y.Max))},
		}.Path())
	}
	c.StrokeLine2(l.style, c.Min.X, ty(l.y), c.Max.X, ty(l.y))
}
