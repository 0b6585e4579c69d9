package figures

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"gonum.org/v1/plot"

	"splitbench/results"
)

// clampCells are made-up cells of a sweep over the limit: accuracy falls where
// the limit cuts the large values of a layer, and stays at that of the model
// that is not split else.
func clampCells(codecs ...string) []results.CellResult {
	s := realSmoke()
	s.models, s.layers, s.bits, s.taus, s.tokens = s.models[:1], []int32{1, 3, 5}, []int32{4}, []float64{5}, []int32{0}
	s.tasks = []string{"hellaswag", "piqa", "wikitext2"}
	var out []results.CellResult
	for _, c := range s.cells() {
		if c.SplitLayer == 0 {
			out = append(out, c)
			continue
		}
		for _, codec := range codecs {
			for _, limit := range []float64{0, 1, 3, 10, 30, 100, 300} {
				c := c
				c.Clamp, c.Codec = limit, codec
				c.Metrics = slices.Clone(c.Metrics)
				m := &c.Metrics[0]
				i := slices.IndexFunc(out, func(o results.CellResult) bool { return o.Task == c.Task && o.SplitLayer == 0 })
				m.Value = out[i].Metrics[0].Value
				if codec != "" {
					m.Value *= 1 - 0.01*float64(c.SplitLayer)
				}
				if limit > 0 {
					loss := 0.3 / (1 + math.Pow(limit/float64(4*c.SplitLayer), 2))
					if m.HigherIsBetter {
						m.Value -= loss
					} else {
						m.Value *= 1 + 40*loss
					}
				}
				c.Key = fmt.Sprintf("%064x", len(out))
				out = append(out, c)
			}
		}
	}
	return out
}

func TestClampFigure(t *testing.T) {
	files := render(t, Input{Cells: clampCells("", "literal")}, "accuracy_vs_clamp", "accuracy_vs_layer", "perplexity_vs_layer")
	for name, want := range map[string][]string{
		"codecoff": {"Primary metric by limit of boundary magnitudes: stories260K", "protocol joint-bos, codec off", "Largest magnitude kept", "hellaswag", "acc_norm (%)", "perplexity",
			"Values beyond the limit are set to it before the codec (arXiv 2511.04002, Fig. 4a).", "l = 1", "l = 5", "not clamped", "1", "30", "300"},
		"delta0.2-literal-tau5-Qa4": {"not clamped, by colour", "l = 3"},
	} {
		base := "accuracy_vs_clamp-" + name
		texts := svgTexts(t, files[base+".svg"])
		for _, w := range want {
			if !slices.Contains(texts, w) {
				t.Errorf("%s lacks the text %q; it has %q", base, w, texts)
			}
		}
		checkPNG(t, base, files[base+".png"])
	}
	for _, name := range []string{"accuracy_vs_layer.svg", "perplexity_vs_layer.svg"} { // one page each, of what is not clamped
		if texts := svgTexts(t, files[name]); !slices.Contains(texts, "Clamped cells are left to accuracy_vs_clamp.") {
			t.Errorf("%s: %q", name, texts)
		}
	}
	again := render(t, Input{Cells: clampCells("", "literal")}, "accuracy_vs_clamp")
	for name := range again {
		if !bytes.Equal(files[name], again[name]) {
			t.Errorf("two renderings of %s differ", name)
		}
	}
}

// TestClampLevels: without cells that are not clamped the line is the model that
// is not split, and equal levels are one line.
func TestClampLevels(t *testing.T) {
	cells := clampCells("")
	count := func(cells []results.CellResult) int {
		list := sourcesOf(cells, nil, nil, true)
		s := &list[0]
		mine := func(cells []results.CellResult) []results.CellResult {
			return slices.DeleteFunc(slices.Clone(cells), func(c results.CellResult) bool { return c.Task != "piqa" })
		}
		styles := []style{{palette[0], nil, 0}, {palette[1], nil, 1}, {palette[2], nil, 2}}
		return newClampPanel("piqa", mine(s.cells), mine(s.whole), []int32{1, 3, 5}, styles).levels
	}
	if n := count(cells); n != 1 {
		t.Errorf("%d lines where all layers agree", n)
	}
	if n := count(clampCells("literal")); n != 3 {
		t.Errorf("%d lines of three layers", n)
	}
	clamped := slices.DeleteFunc(slices.Clone(cells), func(c results.CellResult) bool { return c.SplitLayer > 0 && c.Clamp == 0 })
	if n := count(clamped); n != 1 {
		t.Errorf("%d lines of the model that is not split", n)
	}
	if n := count(slices.DeleteFunc(clamped, func(c results.CellResult) bool { return c.SplitLayer == 0 })); n != 0 {
		t.Errorf("%d lines of nothing", n)
	}
}

// TestSetLimits: a narrow range is linear, a wide one logarithmic, and holds all.
func TestSetLimits(t *testing.T) {
	for _, c := range []struct {
		limits []float64
		want   float64 // place of the last
	}{{[]float64{2, 4, 10}, 10}, {[]float64{1, 10, 100}, 2}, {[]float64{5}, 5}} {
		p := plot.New()
		place, step := setLimits(p, c.limits)
		last := c.limits[len(c.limits)-1]
		if got := place(last); math.Abs(got-c.want) > 1e-12 || got > p.X.Max || place(c.limits[0]) < p.X.Min || !(step > 0) {
			t.Errorf("limits %v: the last at %v of [%v, %v], step %v", c.limits, got, p.X.Min, p.X.Max, step)
		}
	}
}
