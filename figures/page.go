package figures

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// page is one picture: a title, panels in rows, and a legend to the right of them.
type page struct {
	suffix string // of the file name
	title  string
	notes  []string // small lines below the title
	panels [][]*plot.Plot
	// panelW and panelH are the size of a panel, axes included.
	panelW, panelH vg.Length
	legend         []entry
}

// entry is a line of the legend. An entry without mark is a heading.
type entry struct {
	text string
	mark func(c *draw.Canvas, box vg.Rectangle)
}

const (
	margin    = vg.Length(12)
	gap       = vg.Length(16)
	thumbW    = vg.Length(30)
	thumbGap  = vg.Length(7)
	lineRatio = 1.5 // line spacing of the legend
)

func lineHeight(size float64) vg.Length { return vg.Points(size * lineRatio) }

// headHeight is the height of title and notes.
func (p *page) headHeight() vg.Length {
	return lineHeight(sizeTitle) + vg.Length(len(p.notes))*lineHeight(sizeText) + vg.Points(6)
}

func (p *page) legendWidth() vg.Length {
	var w vg.Length
	s := textStyle(sizeText, false, ink)
	for _, e := range p.legend {
		x := s.Width(e.text)
		if e.mark != nil {
			x += thumbW + thumbGap
		}
		w = max(w, x)
	}
	return w
}

// size returns the width and height of the picture: the panels as they were asked
// for, and whatever the text needs.
func (p *page) size() (w, h vg.Length) {
	rows, cols := vg.Length(len(p.panels)), vg.Length(len(p.panels[0]))
	w = 2*margin + cols*p.panelW + (cols-1)*gap
	if len(p.legend) > 0 {
		w += gap + p.legendWidth()
	}
	text := textStyle(sizeTitle, true, ink).Width(p.title)
	for _, n := range p.notes {
		text = max(text, textStyle(sizeText, false, faint).Width(n))
	}
	w = max(w, text+2*margin)
	h = rows*p.panelH + (rows-1)*gap
	h = max(h, vg.Length(len(p.legend))*lineHeight(sizeText)+vg.Points(20))
	return w, h + 2*margin + p.headHeight()
}

func (p *page) draw(c draw.Canvas) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	c = draw.Crop(c, margin, -margin, margin, -margin)

	y := c.Max.Y - vg.Points(sizeTitle)
	c.FillText(textStyle(sizeTitle, true, ink), vg.Point{X: c.Min.X, Y: y}, p.title)
	for _, n := range p.notes {
		y -= lineHeight(sizeText)
		c.FillText(textStyle(sizeText, false, faint), vg.Point{X: c.Min.X, Y: y}, n)
	}
	c = draw.Crop(c, 0, 0, 0, -p.headHeight())

	area := c
	if len(p.legend) > 0 {
		w := p.legendWidth()
		p.drawLegend(draw.Crop(c, c.Max.X-c.Min.X-w, 0, 0, -vg.Points(18)))
		area = draw.Crop(c, 0, -w-gap, 0, 0)
	}
	tiles := draw.Tiles{Rows: len(p.panels), Cols: len(p.panels[0]), PadX: gap, PadY: gap, PadRight: vg.Points(4)}
	canvases := plot.Align(p.panels, tiles, area)
	for i, row := range p.panels {
		for j, panel := range row {
			if panel != nil {
				panel.Draw(canvases[i][j])
			}
		}
	}
}

func (p *page) drawLegend(c draw.Canvas) {
	h := lineHeight(sizeText)
	y := c.Max.Y
	for _, e := range p.legend {
		y -= h
		base := y + (h-vg.Points(sizeText))/2 + vg.Points(1.5)
		if e.mark == nil {
			c.FillText(textStyle(sizeText, false, faint), vg.Point{X: c.Min.X, Y: base}, e.text)
			continue
		}
		e.mark(&c, vg.Rectangle{Min: vg.Point{X: c.Min.X, Y: y + h*0.15}, Max: vg.Point{X: c.Min.X + thumbW, Y: y + h*0.85}})
		c.FillText(textStyle(sizeText, false, ink), vg.Point{X: c.Min.X + thumbW + thumbGap, Y: base}, e.text)
	}
}

// lineEntry shows a line with its marker, on a band if band is not nil.
func lineEntry(text string, s style, open bool, band color.Color) entry {
	return entry{text, func(c *draw.Canvas, b vg.Rectangle) {
		if band != nil {
			c.SetColor(band)
			c.Fill(b.Path())
		}
		y := (b.Min.Y + b.Max.Y) / 2
		c.StrokeLine2(s.line(), b.Min.X, y, b.Max.X, y)
		if s.marker >= 0 {
			c.DrawGlyphNoClip(s.glyph(open), vg.Point{X: (b.Min.X + b.Max.X) / 2, Y: y})
		}
	}}
}

// patchEntry shows a filled area.
func patchEntry(text string, fill color.Color) entry {
	return entry{text, func(c *draw.Canvas, b vg.Rectangle) {
		c.SetColor(fill)
		c.Fill(b.Path())
	}}
}

func heading(text string) entry { return entry{text: text} }

// grid puts panels into rows of at most cols.
func grid(panels []*plot.Plot, cols int) [][]*plot.Plot {
	cols = min(cols, len(panels))
	var rows [][]*plot.Plot
	for len(panels) > 0 {
		row := make([]*plot.Plot, cols)
		n := copy(row, panels)
		rows = append(rows, row)
		panels = panels[n:]
	}
	return rows
}
