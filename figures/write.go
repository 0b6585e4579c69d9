package figures

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"

	"codeberg.org/go-pdf/fpdf"
	xfont "golang.org/x/image/font"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgpdf"
	"gonum.org/v1/plot/vg/vgsvg"
)

// pngDPI makes text crisp in a README on a dense screen.
const pngDPI = 160

// write writes the page as base.png, base.svg and base.pdf.
func (p *page) write(base string) ([]string, error) {
	w, h := p.size()
	var paths []string
	for _, format := range []string{"png", "svg", "pdf"} {
		var buf bytes.Buffer
		if err := p.encode(&buf, format, w, h); err != nil {
			return nil, err
		}
		path := base + "." + format
		if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (p *page) encode(out io.Writer, format string, w, h vg.Length) error {
	var c interface {
		vg.CanvasSizer
		io.WriterTo
	}
	switch format {
	case "png":
		c = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(pngDPI))}
	case "svg":
		c = vgsvg.New(w, h)
	default:
		fixPDF()
		c = pdfCanvas{vgpdf.New(w, h)}
	}
	p.draw(draw.New(c))
	if format != "svg" {
		_, err := c.WriteTo(out)
		return err
	}
	var buf bytes.Buffer
	if _, err := c.WriteTo(&buf); err != nil {
		return err
	}
	// Arial and Helvetica have the same widths; a viewer without any of them must
	// not take a serif font.
	_, err := out.Write(bytes.ReplaceAll(buf.Bytes(),
		[]byte("font-family:Liberation Sans;"),
		[]byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;")))
	return err
}

// fixPDF takes the clock and the order of maps out of PDF files. The plotting
// library does not hand out its document, so the defaults must do.
var fixPDF = sync.OnceFunc(func() {
	fpdf.SetDefaultCatalogSort(true)
	fpdf.SetDefaultCreationDate(time.Unix(0, 0).UTC())
	fpdf.SetDefaultModificationDate(time.Unix(0, 0).UTC())
})

// pdfCanvas gives the PDF writer its text in the code page for which it embeds
// fonts; it would take the bytes of UTF-8 for that. Bold text is drawn as
// outlines, because the writer embeds one font file only.
type pdfCanvas struct{ *vgpdf.Canvas }

func (c pdfCanvas) FillString(f font.Face, at vg.Point, s string) {
	if f.Font.Weight == xfont.WeightBold {
		if p, err := textPath(f, at, s); err == nil {
			c.Fill(p)
			return
		}
		f.Font.Weight = xfont.WeightNormal // the one that is embedded
	}
	if t, err := encoding.ReplaceUnsupported(charmap.Windows1252.NewEncoder()).String(s); err == nil {
		s = t
	}
	c.Canvas.FillString(f, at, s)
}

// textPath returns the outlines of a text that begins at a point of the baseline.
func textPath(f font.Face, at vg.Point, s string) (vg.Path, error) {
	var path vg.Path
	var buf sfnt.Buffer
	units := fixed.I(int(f.Face.UnitsPerEm()))
	scale := f.Font.Size / vg.Length(units)
	x := at.X
	for _, r := range s {
		glyph, err := f.Face.GlyphIndex(&buf, r)
		if err != nil {
			return nil, err
		}
		segments, err := f.Face.LoadGlyph(&buf, glyph, units, nil)
		if err != nil {
			return nil, err
		}
		to := func(p fixed.Point26_6) vg.Point { // font coordinates point down
			return vg.Point{X: x + vg.Length(p.X)*scale, Y: at.Y - vg.Length(p.Y)*scale}
		}
		for i, g := range segments {
			switch g.Op {
			case sfnt.SegmentOpMoveTo:
				if i > 0 {
					path.Close()
				}
				path.Move(to(g.Args[0]))
			case sfnt.SegmentOpLineTo:
				path.Line(to(g.Args[0]))
			case sfnt.SegmentOpQuadTo:
				path.QuadTo(to(g.Args[0]), to(g.Args[1]))
			case sfnt.SegmentOpCubeTo:
				path.CubeTo(to(g.Args[0]), to(g.Args[1]), to(g.Args[2]))
			}
		}
		if len(segments) > 0 {
			path.Close()
		}
		advance, err := f.Face.GlyphAdvance(&buf, glyph, units, xfont.HintingNone)
		if err != nil {
			return nil, err
		}
		x += vg.Length(advance) * scale
	}
	return path, nil
}
