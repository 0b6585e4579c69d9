package figures

import (
	"image/color"
	"math"
	"strconv"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Font sizes in points. Nothing is set smaller than 9.
const (
	sizeTitle = 13
	sizePanel = 11
	sizeText  = 10
	sizeTick  = 9
)

// palette is that of Okabe and Ito, safe for colour-blind eyes, without black
// (the baselines) and yellow (too light for a line). The order keeps neighbours
// apart in lightness too.
var palette = []color.RGBA{
	{0x00, 0x72, 0xB2, 0xFF}, // blue
	{0xD5, 0x5E, 0x00, 0xFF}, // vermilion
	{0x00, 0x9E, 0x73, 0xFF}, // bluish green
	{0xCC, 0x79, 0xA7, 0xFF}, // reddish purple
	{0xE6, 0x9F, 0x00, 0xFF}, // orange
	{0x56, 0xB4, 0xE9, 0xFF}, // sky blue
}

var (
	ink      = color.RGBA{0x22, 0x22, 0x22, 0xFF}
	faint    = color.RGBA{0x66, 0x66, 0x66, 0xFF}
	gridGray = color.RGBA{0xE2, 0xE2, 0xE2, 0xFF}
	bandGray = color.RGBA{0xEC, 0xEC, 0xEC, 0xFF}
)

// dashes and markers are the second sign of a series, for print and for eyes that
// do not see colour.
var dashes = [][]vg.Length{
	nil,
	{vg.Points(6), vg.Points(2.5)},
	{vg.Points(1.5), vg.Points(2)},
	{vg.Points(7), vg.Points(2), vg.Points(1.5), vg.Points(2)},
	{vg.Points(3), vg.Points(1.5)},
	{vg.Points(9), vg.Points(3)},
}

var markers = []draw.GlyphDrawer{
	draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, diamondGlyph{}, invertedGlyph{}, draw.CrossGlyph{},
}

// openMarkers are the outlines of markers.
var openMarkers = []draw.GlyphDrawer{
	draw.RingGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, openDiamondGlyph{}, openInvertedGlyph{}, draw.PlusGlyph{},
}

func polygonPath(at vg.Point, r vg.Length, xy ...float64) vg.Path {
	var p vg.Path
	for i := 0; i < len(xy); i += 2 {
		pt := vg.Point{X: at.X + vg.Length(xy[i])*r, Y: at.Y + vg.Length(xy[i+1])*r}
		if i == 0 {
			p.Move(pt)
		} else {
			p.Line(pt)
		}
	}
	p.Close()
	return p
}

var diamond = []float64{0, 1.25, 1.25, 0, 0, -1.25, -1.25, 0}
var inverted = []float64{-1.1, 0.8, 1.1, 0.8, 0, -1.15}

type diamondGlyph struct{}

func (diamondGlyph) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.Fill(polygonPath(at, s.Radius, diamond...))
}

type openDiamondGlyph struct{}

func (openDiamondGlyph) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.SetLineStyle(draw.LineStyle{Color: s.Color, Width: vg.Points(0.8)})
	c.Stroke(polygonPath(at, s.Radius, diamond...))
}

type invertedGlyph struct{}

func (invertedGlyph) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.Fill(polygonPath(at, s.Radius, inverted...))
}

type openInvertedGlyph struct{}

func (openInvertedGlyph) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	c.SetLineStyle(draw.LineStyle{Color: s.Color, Width: vg.Points(0.8)})
	c.Stroke(polygonPath(at, s.Radius, inverted...))
}

// lighter mixes a colour with as much white.
func lighter(c color.Color) color.Color {
	r, g, b, _ := c.RGBA()
	mix := func(v uint32) uint8 { return uint8((v>>8 + 255) / 2) }
	return color.RGBA{mix(r), mix(g), mix(b), 255}
}

// style is how a series looks.
type style struct {
	color  color.Color
	dash   []vg.Length
	marker int // index of markers, -1 for none
}

func (s style) line() draw.LineStyle {
	return draw.LineStyle{Color: s.color, Width: vg.Points(1.5), Dashes: s.dash}
}

func (s style) glyph(open bool) draw.GlyphStyle {
	g := draw.GlyphStyle{Color: s.color, Radius: vg.Points(3), Shape: markers[s.marker]}
	if open {
		g.Shape = openMarkers[s.marker]
	}
	return g
}

func textStyle(size float64, bold bool, c color.Color) text.Style {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: font.Length(size)}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return text.Style{Color: c, Font: f, Handler: plot.DefaultTextHandler}
}

// newPlot returns an empty panel in the theme.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text = title
	p.Title.Padding = vg.Points(5)
	ts := textStyle(sizePanel, true, ink)
	ts.XAlign, ts.YAlign = draw.XCenter, draw.YTop
	p.Title.TextStyle = ts
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle = draw.LineStyle{Color: ink, Width: vg.Points(0.7)}
		a.Tick.LineStyle = a.LineStyle
		a.Tick.Length = vg.Points(3.5)
		a.Padding = 0
		s := a.Label.TextStyle
		a.Label.TextStyle = textStyle(sizeText, false, ink)
		a.Label.TextStyle.XAlign, a.Label.TextStyle.YAlign, a.Label.TextStyle.Rotation = s.XAlign, s.YAlign, s.Rotation
		a.Label.Padding = vg.Points(4)
		s = a.Tick.Label
		a.Tick.Label = textStyle(sizeTick, false, ink)
		a.Tick.Label.XAlign, a.Tick.Label.YAlign, a.Tick.Label.Rotation = s.XAlign, s.YAlign, s.Rotation
	}
	p.X.Label.Text, p.Y.Label.Text = x, y
	g := plotter.NewGrid()
	g.Vertical.Width = 0
	g.Horizontal = draw.LineStyle{Color: gridGray, Width: vg.Points(0.6)}
	p.Add(g)
	return p
}

// niceAxis returns round bounds around [lo, hi] and ticks for them, about n.
func niceAxis(lo, hi float64, n int) (min, max float64, ticks plot.ConstantTicks) {
	if !(hi > lo) {
		d := math.Max(math.Abs(lo)*0.05, 0.5)
		lo, hi = lo-d, hi+d
	}
	raw := (hi - lo) / float64(n)
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*step >= raw*(1-1e-9) {
			step *= m
			break
		}
	}
	first, last := math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
	decimals := 0
	for d := step; decimals < 12 && math.Abs(d-math.Round(d)) > 1e-9*step; d *= 10 {
		decimals++
		d = math.Round(d*1e9) / 1e9
	}
	for k := first; k <= last; k++ {
		v := k * step
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', decimals, 64)})
	}
	return first * step, last * step, ticks
}

// A logarithmic axis is drawn as a linear one of exponents: the plotting library
// reserves the room for the label of a logarithmic axis in the wrong place.

// decades returns the ticks of an axis of the exponents lo to hi, labelled at
// every n-th.
func decades(lo, hi, n int) (ticks plot.ConstantTicks) {
	for e := lo; e <= hi; e++ {
		label := ""
		if (e-lo)%n == 0 {
			label = powerLabel(e)
		}
		ticks = append(ticks, plot.Tick{Value: float64(e), Label: label})
		if e < hi && n == 1 {
			for m := 2.0; m < 10; m++ {
				ticks = append(ticks, plot.Tick{Value: float64(e) + math.Log10(m)})
			}
		}
	}
	return ticks
}

// powerLabel writes a power of ten as a plain number while that is short.
func powerLabel(e int) string {
	if e >= -3 && e <= 4 {
		return strconv.FormatFloat(math.Pow(10, float64(e)), 'f', max(0, -e), 64)
	}
	return "1e" + strconv.Itoa(e)
}
