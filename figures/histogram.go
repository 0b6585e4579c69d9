package figures

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"splitbench/results"
)

// activationHistogram draws Fig. 4(b) of arXiv 2511.04002 for each split layer.
// The histogram is taken before the codec, so cells that differ only in codec
// knobs count the same values again and are pooled.
func activationHistogram(in Input) ([]*page, error) {
	var cells []results.CellResult
	for _, c := range ok(in.Cells) {
		if c.SplitLayer > 0 && c.Activations != nil && c.Activations.Total() > 0 {
			cells = append(cells, c)
		}
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("%w: no split cell with status ok has an activation histogram", ErrNoData)
	}
	for i := range cells {
		h := cells[i].Activations
		if len(h.Edges) != len(h.Counts)+1 || !(h.Edges[0] > 0) {
			return nil, fmt.Errorf("%w: the histogram of cell %.12s does not begin above 0, as a logarithmic axis needs", ErrNoData, cells[i].Key)
		}
	}
	list := sourcesOf(cells, dropKnobs(otherKnobs(), codecKnobs()...), nil, true)
	var pages []*page
	for i := range list {
		p, err := histogramPage(&list[i])
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	return pages, nil
}

// codecKnobs are the knobs that act behind the place where activations are
// counted, or choose how many of them are.
func codecKnobs() []string {
	names := []string{"W", "seed", "kv", "delta", "codec", "clamp"}
	for _, k := range readingKnobs() {
		names = append(names, k.name)
	}
	return names
}

// addHistogram adds b to a, which has the same edges.
func addHistogram(a, b *results.Histogram) error {
	if !slices.Equal(a.Edges, b.Edges) {
		return fmt.Errorf("%w: the histograms of one split layer have different edges", ErrNoData)
	}
	for i, n := range b.Counts {
		a.Counts[i] += n
	}
	a.Under += b.Under
	a.Over += b.Over
	return nil
}

func histogramPage(s *source) (*page, error) {
	p := &page{suffix: s.suffix, title: "Activation magnitudes at the boundary: " + s.model, panelW: 5.6 * vg.Inch, panelH: 3.7 * vg.Inch}
	p.notes = s.notes(poolNote(s.cells, "")+" One line per split layer l.", "Counted on the first block of each cell.")
	at := spread(layers(s.cells), maxPanels)
	if all := layers(s.cells); len(at) < len(all) {
		p.notes = append(p.notes, fmt.Sprintf("%d of %d split layers are shown.", len(at), len(all)))
	}
	lo, hi, least := math.Inf(1), math.Inf(-1), math.Inf(1)
	var sums []*results.Histogram
	for _, l := range at {
		var sum *results.Histogram
		for i := range s.cells {
			c := &s.cells[i]
			if c.SplitLayer != l {
				continue
			}
			if sum == nil {
				sum = &results.Histogram{Edges: c.Activations.Edges, Counts: make([]int64, len(c.Activations.Counts))}
			}
			if err := addHistogram(sum, c.Activations); err != nil {
				return nil, err
			}
		}
		n := float64(sum.Total())
		for i, c := range sum.Counts {
			if c > 0 {
				lo, hi = math.Min(lo, sum.Edges[i]), math.Max(hi, sum.Edges[i+1])
				least = math.Min(least, float64(c)/n)
			}
		}
		sums = append(sums, sum)
	}
	if math.IsInf(lo, 1) {
		return nil, fmt.Errorf("%w: all activations of %s lie outside the edges of the histograms", ErrNoData, s.model)
	}
	var taus []float64
	for i := range s.cells {
		if t := s.cells[i].Threshold; s.cells[i].Codec != "" && slices.Contains([]string{"", "value"}, s.cells[i].TauBy) && t > 0 && !slices.Contains(taus, t) {
			taus = append(taus, t)
		}
	}
	slices.Sort(taus)
	for _, t := range taus {
		lo, hi = math.Min(lo, t), math.Max(hi, t*1.05)
	}
	x0, x1 := int(math.Floor(math.Log10(lo)+1e-9)), int(math.Ceil(math.Log10(hi)-1e-9))
	y0 := int(math.Floor(math.Log10(least) + 1e-9))
	// The title's place is for the values of tau.
	panel := newPlot(" ", "Magnitude |x| of a hidden-state value", "Share of values per bin")
	panel.X.Min, panel.X.Max = float64(x0), float64(x1)
	panel.Y.Min, panel.Y.Max = float64(y0), 0
	panel.X.Tick.Marker = decades(x0, x1, 1+(x1-x0)/8)
	panel.Y.Tick.Marker = decades(y0, 0, 1+(-y0)/8)
	panel.Add(thresholds(taus))
	for k, sum := range sums {
		st := style{palette[k], dashes[k], -1}
		for _, xys := range outline(sum, panel.Y.Min) {
			panel.Add(&plotter.Line{XYs: xys, LineStyle: st.line()})
		}
		p.legend = append(p.legend, lineEntry("l = "+itoa(at[k]), st, false, nil))
	}
	if len(taus) > 0 {
		p.legend = append(p.legend, lineEntry("threshold tau", style{faint, thresholdLine.Dashes, -1}, false, nil))
	}
	p.panels = [][]*plot.Plot{{panel}}
	return p, nil
}

// outline returns the upper edge of the bins as shares of all values, in powers of
// ten, a line for each group of neighbouring bins that hold any. A group ends at
// the floor, except where the histogram ends.
func outline(h *results.Histogram, floor float64) (lines []plotter.XYs) {
	n := float64(h.Total())
	var line plotter.XYs
	for i, c := range h.Counts {
		left, right := math.Log10(h.Edges[i]), math.Log10(h.Edges[i+1])
		if c == 0 {
			if line != nil {
				lines = append(lines, append(line, plotter.XY{X: left, Y: floor}))
				line = nil
			}
			continue
		}
		y := math.Log10(float64(c) / n)
		if line == nil && i > 0 {
			line = plotter.XYs{{X: left, Y: floor}}
		}
		line = append(line, plotter.XY{X: left, Y: y}, plotter.XY{X: right, Y: y})
	}
	if line != nil {
		lines = append(lines, line)
	}
	return lines
}

var thresholdLine = draw.LineStyle{Color: faint, Width: vg.Points(0.9), Dashes: []vg.Length{vg.Points(2), vg.Points(2)}}

// thresholds are vertical lines with their values above the data area.
type thresholds []float64

// Plot implements plot.Plotter.
func (t thresholds) Plot(c draw.Canvas, p *plot.Plot) {
	tx, _ := p.Transforms(&c)
	label := textStyle(sizeTick, false, ink)
	label.XAlign, label.YAlign = draw.XCenter, draw.YBottom
	last := vg.Length(math.Inf(-1))
	for _, v := range t {
		x := tx(math.Log10(v))
		c.StrokeLine2(thresholdLine, x, c.Min.Y, x, c.Max.Y)
		s := number(v)
		if w := label.Width(s); x-w/2 > last { // labels must not run together
			c.FillText(label, vg.Point{X: x, Y: c.Max.Y + vg.Points(3)}, s)
			last = x + w/2 + vg.Points(2)
		}
	}
}
