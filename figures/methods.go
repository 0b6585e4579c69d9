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

// hasBaseline says whether some layers have a quantization baseline.
func hasBaseline(p *results.Point) bool { return p.Quantizer != "" || p.BackQuantizer != "" }

// baselineKnobs are the knobs of quantization baselines that the method's name and
// the weights' bits do not tell. Keys and values go without saying where they have
// the bits of the activations, and the layers behind those in front where one
// baseline has both.
func baselineKnobs() []knob {
	bits := func(name, prefix string, value func(*results.Point) int32) knob {
		return knob{name, func(p *results.Point) string {
			if v := value(p); v != 0 {
				return prefix + bitsText(v)
			}
			return ""
		}, func(p *results.Point) float64 { return float64(value(p)) }}
	}
	back := func(p *results.Point, v int32) int32 {
		if p.BackQuantizer == p.Quantizer {
			return 0
		}
		return v
	}
	unless := func(v, usual int32) int32 {
		if v == usual || v == 16 {
			return 0
		}
		return v
	}
	return []knob{
		bits("activations", "activations ", func(p *results.Point) int32 { return p.ActivationBits }),
		bits("kv_bits", "KV ", func(p *results.Point) int32 { return unless(p.KVBits, p.ActivationBits) }),
		bits("back_activations", "back activations ", func(p *results.Point) int32 { return back(p, p.BackActivationBits) }),
		bits("back_kv_bits", "back KV ", func(p *results.Point) int32 { return back(p, unless(p.BackKVBits, p.BackActivationBits)) }),
		{"calibration", func(p *results.Point) string {
			if p.Calibration == "" {
				return ""
			}
			return "calibration " + p.Calibration
		}, zero},
	}
}

// activationBits is what the paper's Table 3 calls Qa: the bits of the activations
// within the blocks, or where those are exact of the boundary's codes; 16 for
// neither.
func activationBits(p *results.Point) int32 {
	if a := p.ActivationBits; a != 0 && a != 16 {
		return a
	}
	if a := p.BackActivationBits; a != 0 && a != 16 {
		return a
	}
	if p.Quantising() {
		return p.MaxActivationBits
	}
	return 16
}

func activationText(p *results.Point) string {
	if a := activationBits(p); a != 16 {
		return "Qa = " + itoa(a)
	}
	return "weights alone"
}

// methodKnobs tell the methods of one run apart, those of the name first. without
// names the knobs that the figure shows by other means.
func methodKnobs(without ...string) []knob {
	all := []knob{{"method", func(p *results.Point) string { return p.Method }, zero}}
	all = append(all, knob{"layer", func(p *results.Point) string {
		if p.SplitLayer == 0 {
			return ""
		}
		return "l = " + itoa(p.SplitLayer)
	}, func(p *results.Point) float64 { return float64(p.SplitLayer) }}, knobTau(),
		knob{"Qa", activationText, func(p *results.Point) float64 { return -float64(activationBits(p)) }})
	all = append(all, knob{"weights", func(p *results.Point) string {
		if p.FrontBits == p.BackBits {
			return bitsText(p.FrontBits)
		}
		return "front " + bitsText(p.FrontBits) + ", back " + bitsText(p.BackBits)
	}, func(p *results.Point) float64 { return float64(p.FrontBits) }})
	all = append(all, dropKnobs(otherKnobs(), "method", "W", "kv", "activations", "front", "back")...)
	all = append(all, knob{"W", func(p *results.Point) string {
		if p.SplitLayer == 0 {
			return ""
		}
		return tokensText(p.MaxTokens)
	}, func(p *results.Point) float64 { return float64(p.MaxTokens) }})
	return dropKnobs(all, without...)
}

// methodPage is the cells of one model and protocol in a figure of methods.
type methodPage struct {
	model, protocol, suffix string
	cells                   []results.CellResult // with a baseline or reduced weights
	exact                   []results.CellResult // the checkpoint as it is
	tasks                   []string
	labels                  []string // of the methods, in the order of the run
	label                   func(*results.Point) string
}

// maxMethods is how many methods one picture shows.
const maxMethods = 12

// methodPages groups cells by model and protocol; without are the knobs that the
// figure shows by other means than a method's label.
func methodPages(cells []results.CellResult, without ...string) ([]methodPage, error) {
	cells = slices.DeleteFunc(ok(cells), func(c results.CellResult) bool { _, ok := c.PrimaryMetric(); return !ok })
	type place struct{ model, protocol string }
	places, byPlace := partition(cells, func(c *results.CellResult) place { return place{c.Model, c.Protocol} })
	var pages []methodPage
	for _, at := range places {
		mine := ownExtents(byPlace[at])
		if !slices.ContainsFunc(mine, func(c results.CellResult) bool { return hasBaseline(&c.Point) }) {
			continue
		}
		p := methodPage{model: at.model, protocol: at.protocol}
		for _, c := range mine {
			if c.SplitLayer == 0 && c.FrontBits == 16 && c.BackBits == 16 && activationBits(&c.Point) == 16 {
				p.exact = append(p.exact, c)
			} else {
				p.cells = append(p.cells, c)
			}
		}
		p.tasks, _ = partition(mine, func(c *results.CellResult) string { return c.Task })
		var name []string
		for _, o := range places {
			if o.model != at.model && !slices.Contains(name, at.model) {
				name = append(name, at.model)
			}
		}
		for _, o := range places {
			if o.protocol != at.protocol && !slices.Contains(name, at.protocol) {
				name = append(name, at.protocol)
			}
		}
		p.suffix = strings.Join(name, "-")
		p.label = methodLabels(p.cells, methodKnobs(without...))
		p.labels, _ = partition(p.cells, func(c *results.CellResult) string { return p.label(&c.Point) })
		if len(p.labels) > maxMethods {
			return nil, fmt.Errorf("%w: %s has %d methods, expected at most %d in a picture", ErrNoData, at.model, len(p.labels), maxMethods)
		}
		pages = append(pages, p)
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("%w: no cell with status ok has a quantizer", ErrNoData)
	}
	return pages, nil
}

// methodLabels names a point by its method, and by the knobs that vary between the
// cells of that method.
func methodLabels(cells []results.CellResult, knobs []knob) func(*results.Point) string {
	_, byMethod := partition(cells, func(c *results.CellResult) string { return c.Method })
	varying := map[string][]knob{}
	for method, mine := range byMethod {
		varying[method] = slices.DeleteFunc(slices.Clone(knobs), func(k knob) bool { return k.name == "method" || !varies(mine, k) })
	}
	return func(p *results.Point) string {
		if d := describe(p, varying[p.Method]); d != "" {
			return p.Method + ", " + d
		}
		return p.Method
	}
}

// methodColor is the colour of method k; beyond the palette they get darker.
func methodColor(k int) color.RGBA {
	c := palette[k%len(palette)]
	if k >= len(palette) {
		c.R, c.G, c.B = c.R/2, c.G/2, c.B/2
	}
	return c
}

// metricAxis takes primary metrics into the range of a panel.
type metricAxis struct {
	scale           float64
	lo, hi          float64
	name            string
	higher, dropped bool
	stderr          bool
}

func newMetricAxis(cells []results.CellResult) *metricAxis {
	m, _ := cells[0].PrimaryMetric()
	a := &metricAxis{scale: 1, lo: math.Inf(1), hi: math.Inf(-1), name: m.Name, higher: m.HigherIsBetter}
	if a.higher {
		a.scale = 100
		a.name += " (%)"
	}
	return a
}

// setMetricY is setLayerY with a logarithmic axis for a perplexity that spans more
// than a factor of 3, since methods differ by factors.
func setMetricY(p *plot.Plot, lo, hi float64, higher bool) func(float64) float64 {
	if higher || !(lo > 0) || hi/lo <= 3 || hi/lo > 1000 {
		return setLayerY(p, lo, hi, higher)
	}
	var ticks plot.ConstantTicks
	for e := math.Floor(math.Log10(lo)) - 1; e <= math.Log10(hi)+1; e++ {
		for m := 1.0; m < 10; m++ {
			label := ""
			if m == 1 || m == 2 || m == 5 {
				label = number(m * math.Pow(10, e))
			}
			ticks = append(ticks, plot.Tick{Value: e + math.Log10(m), Label: label})
		}
	}
	// To the next labelled tick on both sides.
	p.Y.Min, p.Y.Max = math.Inf(-1), math.Inf(1)
	for _, t := range ticks {
		if t.Label == "" {
			continue
		}
		if t.Value <= math.Log10(lo)+1e-9 {
			p.Y.Min = t.Value
		}
		if t.Value >= math.Log10(hi)-1e-9 {
			p.Y.Max = math.Min(p.Y.Max, t.Value)
		}
	}
	p.Y.Tick.Marker = slices.DeleteFunc(ticks, func(t plot.Tick) bool { return t.Value < p.Y.Min-1e-9 || t.Value > p.Y.Max+1e-9 })
	return math.Log10
}

// value returns the value of a cell and its standard error on the axis, and
// whether it can be drawn.
func (a *metricAxis) value(c *results.CellResult) (v, err float64, ok bool) {
	m, _ := c.PrimaryMetric()
	v = m.Value * a.scale
	if math.IsNaN(v) || math.IsInf(v, 0) {
		a.dropped = true
		return 0, 0, false
	}
	if m.Stderr != nil && !math.IsNaN(*m.Stderr) && !math.IsInf(*m.Stderr, 0) {
		err = *m.Stderr * a.scale
		a.stderr = true
	}
	a.lo, a.hi = math.Min(a.lo, v-err), math.Max(a.hi, v+err)
	return v, err, true
}

// pageOf lays out the panels of a methodPage.
func (p *methodPage) pageOf(title string, panels []*plot.Plot, dropped, stderr bool, w, h vg.Length, notes ...string) *page {
	out := &page{suffix: p.suffix, title: title + ": " + p.model, notes: append([]string{"protocol " + p.protocol}, notes...), panelW: w, panelH: h}
	if stderr {
		out.notes = append(out.notes, "Error bars and the grey band are ± 1 standard error.")
	}
	if dropped {
		out.notes = append(out.notes, "Infinite values are not shown.")
	}
	out.panels = grid(panels, 3)
	return out
}

// exactLevel draws the metric of the checkpoint as it is across a panel.
func (p *methodPage) exactLevel(task string, a *metricAxis) (at point, found bool) {
	for i := range p.exact {
		if c := &p.exact[i]; c.Task == task {
			if v, err, ok := a.value(c); ok {
				return point{y: v, err: err}, true
			}
		}
	}
	return point{}, false
}

// addExact draws that line, and with over what has a panel of its own in front of
// the line's band.
func addExact(p *plot.Plot, at point, y func(float64) float64, over plot.Plotter) {
	l := level{y: y(at.y), style: wholeStyle(0).line()}
	l.style.Dashes = dashes[1]
	if over != nil {
		band := level{y: l.y}
		if at.err > 0 {
			band.band = [2]float64{y(at.y - at.err), y(at.y + at.err)}
		}
		p.Add(band, over)
	}
	p.Add(l)
}

func (p *methodPage) exactEntries(stderr bool) []entry {
	if len(p.exact) == 0 {
		return nil
	}
	var band color.Color
	if stderr {
		band = bandGray
	}
	s := wholeStyle(0)
	s.dash = dashes[1]
	return []entry{heading("not quantised"), lineEntry(p.exact[0].Method, s, false, band)}
}

// methodBars draws the methods side by side, one panel per task and one group of
// bars per activation width.
func methodBars(in Input) ([]*page, error) {
	list, err := methodPages(in.Cells, "Qa")
	if err != nil {
		return nil, err
	}
	var pages []*page
	for i := range list {
		p := &list[i]
		groups, byGroup := partition(p.cells, func(c *results.CellResult) string { return activationText(&c.Point) })
		slices.SortStableFunc(groups, func(a, b string) int {
			return cmp.Compare(activationBits(&byGroup[b][0].Point), activationBits(&byGroup[a][0].Point))
		})
		var panels []*plot.Plot
		dropped, stderr := false, false
		for _, task := range p.tasks {
			panel, a := p.barPanel(task, groups)
			if panel == nil {
				continue
			}
			panels = append(panels, panel)
			dropped, stderr = dropped || a.dropped, stderr || a.stderr
		}
		if len(panels) == 0 {
			return nil, fmt.Errorf("%w: no finite value of %s", ErrNoData, p.model)
		}
		out := p.pageOf("Methods side by side", panels, dropped, stderr, 3.3*vg.Inch, 2.6*vg.Inch,
			"Qa: bits of the activations within the blocks, or of the boundary where those are exact.")
		out.legend = append(out.legend, heading("bars, from the left"))
		for k, label := range p.labels {
			out.legend = append(out.legend, patchEntry(label, methodColor(k)))
		}
		out.legend = append(out.legend, p.exactEntries(stderr)...)
		pages = append(pages, out)
	}
	return pages, nil
}

// bars is the bars of one panel.
type bars struct {
	base  float64
	boxes []bar
}

type bar struct {
	x0, x1, y, low, high float64
	color                color.Color
}

// Plot implements plot.Plotter.
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	for _, r := range b.boxes {
		c.SetColor(r.color)
		c.Fill(vg.Rectangle{Min: vg.Point{X: tx(r.x0), Y: ty(b.base)}, Max: vg.Point{X: tx(r.x1), Y: ty(r.y)}}.Path())
		if r.high > r.low {
			x := tx((r.x0 + r.x1) / 2)
			s := draw.LineStyle{Color: ink, Width: vg.Points(0.8)}
			c.StrokeLine2(s, x, ty(r.low), x, ty(r.high))
			for _, y := range []float64{r.low, r.high} {
				c.StrokeLine2(s, x-vg.Points(2), ty(y), x+vg.Points(2), ty(y))
			}
		}
	}
}

func (p *methodPage) barPanel(task string, groups []string) (*plot.Plot, *metricAxis) {
	cells := slices.DeleteFunc(slices.Clone(p.cells), func(c results.CellResult) bool { return c.Task != task })
	if len(cells) == 0 {
		return nil, nil
	}
	a := newMetricAxis(cells)
	type value struct {
		group, method int
		point
	}
	var values []value
	for i := range cells {
		c := &cells[i]
		if v, err, ok := a.value(c); ok {
			values = append(values, value{slices.Index(groups, activationText(&c.Point)), slices.Index(p.labels, p.label(&c.Point)), point{y: v, err: err}})
		}
	}
	exact, hasExact := p.exactLevel(task, a)
	if len(values) == 0 {
		return nil, a
	}
	panel := newPlot(task, "", a.name)
	// A bar's length means something from a base only: 0 for a share, and for a
	// perplexity 1, or a power of ten on a logarithmic axis.
	lo := 0.0
	if !a.higher {
		lo = 1
	}
	y := setMetricY(panel, math.Min(lo, a.lo), a.hi, a.higher)
	if a.lo >= lo {
		panel.Y.Min = y(lo)
	}
	base := panel.Y.Min
	panel.X.Min, panel.X.Max = -0.5, float64(len(groups))-0.5
	var ticks plot.ConstantTicks
	for g, name := range groups {
		ticks = append(ticks, plot.Tick{Value: float64(g), Label: name})
	}
	panel.X.Tick.Marker = ticks
	panel.X.Tick.LineStyle.Width = 0
	// Within a group stand the methods that have a value there, in the middle.
	drawn := bars{base: base}
	for g := range groups {
		var mine []value
		for _, v := range values {
			if v.group == g {
				mine = append(mine, v)
			}
		}
		slices.SortStableFunc(mine, func(a, b value) int { return a.method - b.method })
		width := 0.84 / float64(max(len(p.labels), 3))
		left := float64(g) - width*float64(len(mine))/2
		for i, v := range mine {
			x := left + width*float64(i)
			drawn.boxes = append(drawn.boxes, bar{x + 0.06*width, x + 0.94*width, y(v.y), y(v.y - v.err), y(v.y + v.err), methodColor(v.method)})
		}
	}
	if hasExact {
		addExact(panel, exact, y, drawn)
	} else {
		panel.Add(drawn)
	}
	return panel, a
}

// methodPareto draws primary metrics against the bits that a linear weight takes,
// one line per method over its bit widths.
func methodPareto(in Input) ([]*page, error) {
	list, err := methodPages(in.Cells, "weights", "group", "back_group")
	if err != nil {
		return nil, err
	}
	var pages []*page
	for i := range list {
		p := &list[i]
		p.cells = slices.DeleteFunc(p.cells, func(c results.CellResult) bool { return !(c.StoredBits > 0) })
		if len(p.cells) == 0 {
			return nil, fmt.Errorf("%w: the cells of %s do not say how many bits their weights take", ErrNoData, p.model)
		}
		var panels []*plot.Plot
		dropped := false
		for _, task := range p.tasks {
			panel, a := p.paretoPanel(task)
			if panel == nil {
				continue
			}
			panels = append(panels, panel)
			dropped = dropped || a.dropped
		}
		if len(panels) == 0 {
			return nil, fmt.Errorf("%w: no finite value of %s", ErrNoData, p.model)
		}
		w, h := vg.Length(3.3)*vg.Inch, vg.Length(2.7)*vg.Inch
		if len(panels) == 1 {
			w, h = 5*vg.Inch, 3.6*vg.Inch
		}
		out := p.pageOf("Methods by the bits that a weight takes", panels, dropped, false, w, h,
			"Bits of the linear weights as stored: codes, scales, zeros, orders and outliers, mean over all layers.",
			"Grey steps: no point has fewer bits and a better value.")
		out.legend = append(out.legend, heading("points: weight bits of a method"))
		for k, label := range p.labels {
			out.legend = append(out.legend, lineEntry(label, methodStyle(k), false, nil))
		}
		out.legend = append(out.legend, p.exactEntries(false)...)
		pages = append(pages, out)
	}
	return pages, nil
}

func methodStyle(k int) style {
	return style{methodColor(k), dashes[k%len(dashes)], k % len(markers)}
}

func (p *methodPage) paretoPanel(task string) (*plot.Plot, *metricAxis) {
	cells := slices.DeleteFunc(slices.Clone(p.cells), func(c results.CellResult) bool { return c.Task != task })
	if len(cells) == 0 {
		return nil, nil
	}
	a := newMetricAxis(cells)
	lines := make([][]point, len(p.labels))
	var all []point
	most := 0.0
	for i := range cells {
		c := &cells[i]
		v, _, ok := a.value(c)
		if !ok {
			continue
		}
		k := slices.Index(p.labels, p.label(&c.Point))
		q := point{x: c.StoredBits, y: v}
		lines[k] = append(lines[k], q)
		all = append(all, q)
		most = math.Max(most, q.x)
	}
	if len(all) == 0 {
		return nil, a
	}
	exact, hasExact := p.exactLevel(task, a)
	panel := newPlot(task, "Stored bits per weight", a.name)
	y := setMetricY(panel, a.lo, a.hi, a.higher)
	least := most
	for _, q := range all {
		least = math.Min(least, q.x)
	}
	var ticks plot.ConstantTicks
	panel.X.Min, panel.X.Max, ticks = niceAxis(least-0.03*(most-least), most+0.03*(most-least), 5)
	panel.X.Tick.Marker = ticks
	if hasExact {
		addExact(panel, exact, y, nil)
	}
	if steps := paretoFront(all, a.higher); len(steps) > 0 {
		var xys plotter.XYs
		for i, q := range steps {
			if i > 0 {
				xys = append(xys, plotter.XY{X: q.x, Y: y(steps[i-1].y)})
			}
			xys = append(xys, plotter.XY{X: q.x, Y: y(q.y)})
		}
		xys = append(xys, plotter.XY{X: panel.X.Max, Y: y(steps[len(steps)-1].y)})
		panel.Add(&plotter.Line{XYs: xys, LineStyle: draw.LineStyle{Color: gridGray, Width: vg.Points(4)}})
	}
	for k, pts := range lines {
		slices.SortFunc(pts, func(a, b point) int { return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(a.y, b.y)) })
		var xys plotter.XYs
		for _, q := range pts {
			xys = append(xys, plotter.XY{X: q.x, Y: y(q.y)})
		}
		addCurve(panel, xys, methodStyle(k), false)
	}
	return panel, a
}

// paretoFront returns the points that none of the others has both fewer bits (or as
// many) and a better value than, by bits.
func paretoFront(points []point, higher bool) []point {
	points = slices.Clone(points)
	sign := 1.0
	if higher {
		sign = -1
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(sign*a.y, sign*b.y)) })
	var front []point
	for _, q := range points {
		if n := len(front); n == 0 || sign*q.y < sign*front[n-1].y {
			front = append(front, q)
		}
	}
	return front
}
