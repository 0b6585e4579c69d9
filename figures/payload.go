package figures

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"splitbench/results"
)

// withPayload returns the split cells that went through a codec and sent
// something.
func withPayload(in Input) ([]results.CellResult, error) {
	cells := ok(in.Cells)
	if len(cells) == 0 {
		return nil, fmt.Errorf("%w: the run has no cell with status ok", ErrNoData)
	}
	var out []results.CellResult
	for _, c := range cells {
		if c.SplitLayer > 0 && c.Codec != "" && c.Payload.Tokens > 0 {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no split cell has a codec and a payload", ErrNoData)
	}
	return out, nil
}

// poolNote says over what the payloads of a page are pooled.
func poolNote(cells []results.CellResult, more string) string {
	tasks, _ := partition(cells, func(c *results.CellResult) string { return c.Task })
	if len(tasks) > 4 {
		return fmt.Sprintf("Pooled over %d tasks%s.", len(tasks), more)
	}
	return "Pooled over " + strings.Join(tasks, ", ") + more + "."
}

func pool(cells []results.CellResult) results.Payload {
	var p results.Payload
	for i := range cells {
		p = p.Add(cells[i].Payload)
	}
	return p
}

// bytesByTokens draws the measured mean payload of a request for each W, at the mean
// number of rows sent, beside that of as many rows in 16 bits, as Fig. 6 of arXiv
// 2511.04002 does for W rows. Keys and values are not in it.
func bytesByTokens(in Input) ([]*page, error) {
	cells, err := withPayload(in)
	if err != nil {
		return nil, err
	}
	for i := range cells {
		if cells[i].Payload.HiddenSize == 0 {
			return nil, fmt.Errorf("%w: cell %.12s does not name the hidden size, which the 16-bit baseline needs", ErrNoData, cells[i].Key)
		}
	}
	list := sources(cells, dropKnobs(otherKnobs(), "W"), []knob{knobTau(), knobBits()})
	var pages []*page
	for i := range list {
		s := &list[i]
		curves := layoutCurves(s.cells, s.series)
		p := &page{suffix: s.suffix, title: "Payload by rows sent: " + s.model, panelW: 3.3 * vg.Inch, panelH: 2.8 * vg.Inch}
		p.notes = s.notes("Measured means per request, one point per W. " + poolNote(s.cells, ""))
		if slices.ContainsFunc(s.cells, func(c results.CellResult) bool { return c.MaxTokens == 0 }) {
			p.notes = append(p.notes, "Open markers: W = all.")
		}
		if slices.ContainsFunc(s.cells, func(c results.CellResult) bool { return c.Payload.KV > 0 }) {
			p.notes = append(p.notes, "Keys and values not included.")
		}
		at := spread(layers(s.cells), maxPanels)
		if all := layers(s.cells); len(at) < len(all) {
			p.notes = append(p.notes, fmt.Sprintf("%d of %d split layers are shown.", len(at), len(all)))
		}
		baseline := style{ink, nil, 0}
		var panels []*plot.Plot
		for _, l := range at {
			layerCells := slices.DeleteFunc(slices.Clone(s.cells), func(c results.CellResult) bool { return c.SplitLayer != l })
			panels = append(panels, newBytesPanel("l = "+itoa(l), layerCells, curves, s.series, baseline))
		}
		if len(panels) == 1 {
			p.panelW, p.panelH = 4.8*vg.Inch, 3.6*vg.Inch
		}
		p.panels = grid(panels, 3)
		p.legend = append(p.legend, lineEntry("16-bit baseline", baseline, false, nil))
		for _, c := range curves {
			p.legend = append(p.legend, lineEntry(c.label, c.style(), false, nil))
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// sent is the mean payload in KB of requests that send x rows in the mean. all
// marks W = 0.
type sent struct {
	x, kb float64
	all   bool
}

// sentPoints returns the points of each curve, by ascending number of rows.
func sentPoints(cells []results.CellResult, curves []curve, knobs []knob) [][]sent {
	lines := make([][]sent, len(curves))
	for k, c := range curves {
		mine := slices.DeleteFunc(slices.Clone(cells), func(r results.CellResult) bool { return describe(&r.Point, knobs) != c.key })
		tokens, byTokens := partition(mine, func(r *results.CellResult) int32 { return r.MaxTokens })
		for _, w := range tokens {
			sum := pool(byTokens[w])
			if sum.Requests > 0 {
				lines[k] = append(lines[k], sent{sum.MeanTokens(), float64(sum.Total) / float64(sum.Requests) / 1000, w == 0})
			}
		}
		slices.SortStableFunc(lines[k], func(a, b sent) int { return cmp.Compare(a.x, b.x) })
	}
	return lines
}

func newBytesPanel(title string, cells []results.CellResult, curves []curve, knobs []knob, baseline style) *plot.Plot {
	p := newPlot(title, "Mean rows sent per request", "KB per request (1 KB = 1000 bytes)")
	raw := cells[0].Payload.RawPerToken() / 1000
	lines := sentPoints(cells, curves, knobs)
	var xmax, ymax float64
	var xs []float64
	for _, line := range lines {
		for _, q := range line {
			xmax, ymax = math.Max(xmax, q.x), math.Max(ymax, math.Max(q.kb, raw*q.x))
			if !slices.Contains(xs, q.x) {
				xs = append(xs, q.x)
			}
		}
	}
	slices.Sort(xs)
	var xt, yt plot.ConstantTicks
	p.X.Min, p.X.Max, xt = niceAxis(0, xmax*1.04, 5)
	p.Y.Min, p.Y.Max, yt = niceAxis(0, ymax*1.04, 5)
	p.X.Tick.Marker, p.Y.Tick.Marker = xt, yt
	base := plotter.XYs{{X: 0, Y: 0}}
	for _, x := range xs {
		base = append(base, plotter.XY{X: x, Y: raw * x})
	}
	p.Add(&plotter.Line{XYs: base, LineStyle: baseline.line()})
	p.Add(&plotter.Scatter{XYs: base[1:], GlyphStyle: baseline.glyph(false)})
	for k, c := range curves {
		var line, full, open plotter.XYs
		for _, q := range lines[k] {
			xy := plotter.XY{X: q.x, Y: q.kb}
			line = append(line, xy)
			if q.all {
				open = append(open, xy)
			} else {
				full = append(full, xy)
			}
		}
		if len(line) == 0 {
			continue
		}
		p.Add(&plotter.Line{XYs: line, LineStyle: c.style().line()})
		if len(full) > 0 {
			p.Add(&plotter.Scatter{XYs: full, GlyphStyle: c.style().glyph(false)})
		}
		if len(open) > 0 {
			// The line must not show through an open marker.
			hole := c.style().glyph(false)
			hole.Color = color.White
			p.Add(&plotter.Scatter{XYs: open, GlyphStyle: hole}, &plotter.Scatter{XYs: open, GlyphStyle: c.style().glyph(true)})
		}
	}
	return p
}

// Colours of the parts of a message.
var (
	belowColor = palette[5]
	aboveColor = palette[1]
	restColor  = color.RGBA{0xB0, 0xB0, 0xB0, 0xFF}
)

// shareByThreshold draws Fig. 7 of arXiv 2511.04002: what of the message holds
// values below and above the threshold, one panel per split layer and Qa.
func shareByThreshold(in Input) ([]*page, error) {
	cells, err := withPayload(in)
	if err != nil {
		return nil, err
	}
	// Every knob but those pooled over gets pages of its own.
	list := sourcesOf(cells, dropKnobs(otherKnobs(), "W", "seed"), nil, true)
	var pages []*page
	for i := range list {
		s := &list[i]
		p := &page{suffix: s.suffix, title: "Payload shares by threshold: " + s.model, panelW: 2.4 * vg.Inch, panelH: 2.2 * vg.Inch}
		more := ""
		if w := otherKnobs()[0]; varies(s.cells, w) {
			more = " and W"
		}
		p.notes = s.notes(poolNote(s.cells, more) + " Numbers: share above the threshold in %.")
		var bits []int32
		for i := range s.cells {
			if b := s.cells[i].MaxActivationBits; !slices.Contains(bits, b) {
				bits = append(bits, b)
			}
		}
		slices.Sort(bits)
		rows, cols := spread(layers(s.cells), 4), spread(bits, 4)
		if n := len(layers(s.cells)); len(rows) < n {
			p.notes = append(p.notes, fmt.Sprintf("%d of %d split layers are shown.", len(rows), n))
		}
		if len(cols) < len(bits) {
			p.notes = append(p.notes, fmt.Sprintf("%d of %d values of Qa are shown.", len(cols), len(bits)))
		}
		for r, l := range rows {
			var panels []*plot.Plot
			for k, b := range cols {
				mine := slices.DeleteFunc(slices.Clone(s.cells), func(c results.CellResult) bool {
					return c.SplitLayer != l || c.MaxActivationBits != b
				})
				if len(mine) == 0 {
					panels = append(panels, nil)
					continue
				}
				x, y := "", ""
				if r == len(rows)-1 {
					x = "Threshold tau"
				}
				if k == 0 {
					y = "Share of bytes (%)"
				}
				panels = append(panels, newSharePanel(fmt.Sprintf("l = %d, Qa = %d", l, b), x, y, mine))
			}
			p.panels = append(p.panels, panels)
		}
		p.legend = []entry{
			patchEntry("header and tables", restColor),
			patchEntry("above tau: sparse values", aboveColor),
			patchEntry("below tau: codes, side information", belowColor),
		}
		pages = append(pages, p)
	}
	return pages, nil
}

func newSharePanel(title, x, y string, cells []results.CellResult) *plot.Plot {
	p := newPlot(title, x, y)
	tau := knobTau()
	taus, byTau := partition(cells, func(c *results.CellResult) string { return tau.text(&c.Point) })
	slices.SortStableFunc(taus, func(a, b string) int {
		return comparePoints(&byTau[a][0].Point, &byTau[b][0].Point, []knob{tau})
	})
	var bars []shareBar
	var ticks plot.ConstantTicks
	for i, t := range taus {
		below, above, rest := pool(byTau[t]).Shares()
		bars = append(bars, shareBar{float64(i), below * 100, above * 100, rest * 100})
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: byTau[t][0].Point.Tau()})
	}
	p.X.Min, p.X.Max = -0.6, float64(len(taus))-0.4
	p.X.Tick.Marker = ticks
	p.X.Tick.LineStyle.Color = color.White // categories need no ticks, but the room
	p.Y.Min, p.Y.Max = 0, 112              // room for the numbers
	var yt plot.ConstantTicks
	for v := 0.0; v <= 100; v += 25 {
		yt = append(yt, plot.Tick{Value: v, Label: strconv.Itoa(int(v))})
	}
	p.Y.Tick.Marker = yt
	p.Add(shareBars(bars))
	return p
}

// shareBar is a stacked bar; the parts are in percent.
type shareBar struct{ x, below, above, rest float64 }

type shareBars []shareBar

// Plot implements plot.Plotter.
func (b shareBars) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	label := textStyle(sizeTick, false, ink)
	label.XAlign, label.YAlign = draw.XCenter, draw.YBottom
	for _, bar := range b {
		from := 0.0
		left, right := tx(bar.x-0.34), tx(bar.x+0.34)
		for _, part := range []struct {
			share float64
			fill  color.Color
		}{{bar.below, belowColor}, {bar.above, aboveColor}, {bar.rest, restColor}} {
			r := vg.Rectangle{Min: vg.Point{X: left, Y: ty(from)}, Max: vg.Point{X: right, Y: ty(from + part.share)}}
			c.SetColor(part.fill)
			c.Fill(r.Path())
			from += part.share
		}
		c.FillText(label, vg.Point{X: tx(bar.x), Y: ty(100) + vg.Points(2)}, percent(bar.above))
	}
}

// percent writes a share with two significant digits.
func percent(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.01:
		return "<0.01"
	case v < 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}
