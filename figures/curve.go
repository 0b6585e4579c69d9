package figures

import (
	"fmt"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// Curve is a named line of points, drawn in order; points that are not finite are left out.
type Curve struct {
	Name string
	X, Y []float64
}

// Curves draws lines over one pair of axes and writes the picture as base.png, base.svg and base.pdf. It returns the
// paths of the files.
func Curves(title, xLabel, yLabel string, notes []string, curves []Curve, base string) ([]string, error) {
	p := &page{title: title, notes: notes, panelW: 5.6 * vg.Inch, panelH: 3.4 * vg.Inch}
	panel := newPlot("", xLabel, yLabel)
	left, right, low, high := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for i, c := range curves {
		if len(c.X) != len(c.Y) {
			return nil, fmt.Errorf("curve %s has %d places and %d values", c.Name, len(c.X), len(c.Y))
		}
		var xys plotter.XYs
		for k, y := range c.Y {
			if x := c.X[k]; !math.IsNaN(x - x + y - y) {
				xys = append(xys, plotter.XY{X: x, Y: y})
				left, right, low, high = min(left, x), max(right, x), min(low, y), max(high, y)
			}
		}
		s := style{palette[i%len(palette)], dashes[i%len(dashes)], -1}
		addCurve(panel, xys, s, false)
		p.legend = append(p.legend, lineEntry(c.Name, s, false, nil))
	}
	if math.IsInf(left, 1) {
		return nil, fmt.Errorf("%w: no curve has a point", ErrNoData)
	}
	var ticks plot.ConstantTicks
	panel.X.Min, panel.X.Max, ticks = niceAxis(left, right, 6)
	panel.X.Tick.Marker = ticks
	panel.Y.Min, panel.Y.Max, ticks = niceAxis(low, high, 6)
	panel.Y.Tick.Marker = ticks
	p.panels = grid([]*plot.Plot{panel}, 1)
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return nil, err
	}
	return p.write(base)
}
