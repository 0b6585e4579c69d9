package figures

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/plot/plotter"

	"splitbench/results"
)

// ownData are the figures of data that few runs have.
var ownData = []string{"accuracy_vs_clamp", "method_bars", "method_pareto", "server_time_vs_devices", "server_tokens_vs_limit"}

// renderAll renders every figure but those of ownData and returns the file names and their contents.
func renderAll(t *testing.T, in Input) map[string][]byte {
	t.Helper()
	var names []string
	for _, f := range List() {
		if !slices.Contains(ownData, f.Name) {
			names = append(names, f.Name)
		}
	}
	return render(t, in, names...)
}

// render renders some figures and returns the file names and their contents.
func render(t *testing.T, in Input, names ...string) map[string][]byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "figures")
	files := map[string][]byte{}
	for _, name := range names {
		paths, err := Render(name, in, dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(paths) == 0 || len(paths)%3 != 0 {
			t.Fatalf("figure %s: files %v", name, paths)
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(p)] = b
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != len(files) {
		t.Errorf("%d files in the directory, %d named, %v", len(left), len(files), err)
	}
	return files
}

// svgTexts returns the texts of an SVG file, and fails if it is not well formed.
func svgTexts(t *testing.T, b []byte) []string {
	t.Helper()
	var texts []string
	d := xml.NewDecoder(bytes.NewReader(b))
	in := false
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := tok.(type) {
		case xml.StartElement:
			in = v.Name.Local == "text"
		case xml.EndElement:
			in = false
		case xml.CharData:
			if in {
				texts = append(texts, string(v))
			}
		}
	}
}

func TestRenderAll(t *testing.T) {
	smoke := renderAll(t, Input{Cells: realSmoke().cells()})
	paper := renderAll(t, Input{Cells: paperLike().cells(), Paper: PaperTable2("llama2-7b")})
	for _, tc := range []struct {
		files map[string][]byte
		name  string
		texts []string
	}{
		{smoke, "accuracy_vs_layer-stories260K-W50", []string{
			"Accuracy by split layer: stories260K", "protocol joint-bos, W = 50", "Error bars and the grey band are ± 1 standard error.",
			"hellaswag", "winogrande", "Split layer l", "acc_norm (%)", "split at layer l", "Qa = 3, tau = 1", "Qa = 8, tau = 5", "not split", "fp32", "1", "3", "5"}},
		{smoke, "accuracy_vs_layer-babyllama105-Wall", []string{"Accuracy by split layer: babyllama105", "protocol joint-bos, W = all"}},
		{smoke, "perplexity_vs_layer-stories260K-W50", []string{"wikitext2", "perplexity", "Qa = 4, tau = 5", "fp32"}},
		{smoke, "bytes_vs_tokens-stories260K", []string{"Payload by rows sent: stories260K", "Mean rows sent per request", "KB per request (1 KB = 1000 bytes)", "16-bit baseline", "Qa = 8, tau = 1", "l = 1", "l = 5",
			"Open markers: W = all.", "Measured means per request, one point per W. Pooled over 7 tasks."}},
		{smoke, "share_vs_threshold-babyllama105", []string{"Threshold tau", "Share of bytes (%)", "l = 3, Qa = 4", "header and tables", "above tau: sparse values",
			"below tau: codes, side information", "Pooled over 7 tasks and W. Numbers: share above the threshold in %."}},
		{smoke, "activation_histogram-stories260K", []string{"Counted on the first block of each cell.", "Pooled over 7 tasks. One line per split layer l.", "Magnitude |x| of a hidden-state value", "Share of values per bin", "l = 1", "l = 5", "threshold tau", "0.1", "1e-4"}},
		{paper, "accuracy_vs_layer-W350", []string{"arXiv 2511.04002, Table 2", "Ours", "Atom", "Qa = 2, tau = 10", "30"}},
		{paper, "bytes_vs_tokens", []string{"protocol legacy", "400"}},
		{paper, "share_vs_threshold", []string{"4 of 6 split layers are shown."}},
		{paper, "activation_histogram", []string{"l = 30", "10"}},
	} {
		texts := svgTexts(t, tc.files[tc.name+".svg"])
		for _, want := range tc.texts {
			if !slices.Contains(texts, want) {
				t.Errorf("%s lacks the text %q; it has %q", tc.name, want, texts)
			}
		}
	}
	// 2 models x 2 W for the metrics, 2 models for the others, 3 formats.
	if got, want := len(smoke), 3*(4+4+2+2+2); got != want {
		t.Errorf("%d files, want %d", got, want)
	}
	font := regexp.MustCompile(`font-size:([0-9.]+)px`)
	for name, b := range smoke {
		switch filepath.Ext(name) {
		case ".png":
			checkPNG(t, name, b)
		case ".svg":
			for _, m := range font.FindAllSubmatch(b, -1) {
				var size float64
				if _, err := fmt.Sscan(string(m[1]), &size); err != nil || size < 9 {
					t.Errorf("%s has text of size %s", name, m[1])
				}
			}
			if !strings.HasPrefix(name, "share") && !bytes.Contains(b, []byte("stroke-dasharray")) {
				t.Errorf("%s has no dashed line", name)
			}
		case ".pdf":
			if !bytes.HasPrefix(b, []byte("%PDF-")) || !bytes.Contains(b, []byte("/CreationDate (D:19700101000000)")) {
				t.Errorf("%s is no PDF, or has a date of its own", name)
			}
		}
	}
}

// checkPNG wants a picture with something in it and nothing at its edge, where it
// would be cut.
func checkPNG(t *testing.T, name string, b []byte) {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r := img.Bounds()
	if r.Dx() < 800 || r.Dy() < 500 {
		t.Errorf("%s is %d x %d", name, r.Dx(), r.Dy())
	}
	white := func(x, y int) bool {
		c, _, _, _ := img.At(x, y).RGBA()
		return c == 0xffff
	}
	const edge = 6
	ink := 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if white(x, y) {
				continue
			}
			ink++
			if x < edge || y < edge || x >= r.Max.X-edge || y >= r.Max.Y-edge {
				t.Fatalf("%s: something at the edge, at %d, %d", name, x, y)
			}
		}
	}
	if ink < 2000 {
		t.Errorf("%s: %d pixels drawn", name, ink)
	}
}

func TestRenderSameBytes(t *testing.T) {
	s := realSmoke()
	s.models, s.layers = s.models[:1], s.layers[:2]
	a := renderAll(t, Input{Cells: s.cells()})
	b := renderAll(t, Input{Cells: s.cells()})
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("two renderings of %s differ", name)
		}
	}
}

func TestRenderMissingData(t *testing.T) {
	s := realSmoke()
	all := s.cells()
	only := func(keep func(*results.CellResult) bool) []results.CellResult {
		return slices.DeleteFunc(slices.Clone(all), func(c results.CellResult) bool { return !keep(&c) })
	}
	change := func(f func(*results.CellResult)) []results.CellResult {
		out := slices.Clone(all)
		for i := range out {
			f(&out[i])
		}
		return out
	}
	whole := only(func(c *results.CellResult) bool { return c.SplitLayer == 0 })
	failed := change(func(c *results.CellResult) { c.Status = results.StatusOOM })
	for _, tc := range []struct {
		figure string
		cells  []results.CellResult
		want   string
	}{
		{"accuracy_vs_layer", nil, "no cell with status ok has a primary metric that is higher when better"},
		{"accuracy_vs_layer", failed, "no cell with status ok"},
		{"accuracy_vs_layer", whole, "no cell with such a metric has split_layer above 0; the run needs a sweep over split_layer"},
		{"accuracy_vs_layer", only(func(c *results.CellResult) bool { return c.Task == "wikitext2" }), "higher when better"},
		{"perplexity_vs_layer", only(func(c *results.CellResult) bool { return c.Task != "wikitext2" }), "lower when better"},
		{"accuracy_vs_clamp", all, "no cell with status ok has a clamp; the run needs a sweep over clamp"},
		{"bytes_vs_tokens", nil, "no cell with status ok"},
		{"bytes_vs_tokens", whole, "no split cell has a codec and a payload"},
		{"bytes_vs_tokens", change(func(c *results.CellResult) { c.Payload.HiddenSize = 0 }), "does not name the hidden size"},
		{"share_vs_threshold", change(func(c *results.CellResult) { c.Codec = "" }), "no split cell has a codec and a payload"},
		{"activation_histogram", change(func(c *results.CellResult) { c.Activations = nil }), "no split cell with status ok has an activation histogram"},
		{"activation_histogram", change(func(c *results.CellResult) {
			if c.Activations != nil {
				c.Activations = &results.Histogram{Edges: []float64{0, 1}, Counts: []int64{1}}
			}
		}), "does not begin above 0"},
		{"activation_histogram", change(func(c *results.CellResult) {
			if c.Activations != nil && c.Task == "piqa" {
				c.Activations = &results.Histogram{Edges: []float64{1, 2}, Counts: []int64{1}}
			}
		}), "have different edges"},
	} {
		dir := filepath.Join(t.TempDir(), "none")
		_, err := Render(tc.figure, Input{Cells: tc.cells}, dir)
		if !errors.Is(err, ErrNoData) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.figure) {
			t.Errorf("%s: error %v, want ErrNoData with %q", tc.figure, err, tc.want)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a directory was made for nothing: %v", tc.figure, err)
		}
	}
	_, err := Render("accuracy", Input{}, t.TempDir())
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "expected one of accuracy_vs_layer, perplexity_vs_layer") {
		t.Errorf("unknown figure: %v", err)
	}
}

// TestSmallRuns draws what a quick run has: one task, one layer, one setting.
func TestSmallRuns(t *testing.T) {
	s := sweep{models: []string{"Ωm/1 x"}, protocols: []string{"legacy", "joint-bos"}, tasks: []string{"piqa", "wikitext"}, layers: []int32{2},
		taus: []float64{5}, bits: []int32{4}, tokens: []int32{0}}
	files := renderAll(t, Input{Cells: s.cells()})
	if _, ok := files["accuracy_vs_layer-joint-bos.svg"]; !ok {
		t.Error("no page for a protocol of its own")
	}
	texts := svgTexts(t, files["accuracy_vs_layer-legacy.svg"])
	if !slices.Contains(texts, "Qa = 4, tau = 5") && !slices.Contains(texts, "tau = 5, Qa = 4") {
		t.Errorf("a single line is not labelled with its knobs: %q", texts)
	}
	// The same with values that cannot be drawn.
	cells := s.cells()
	for i := range cells {
		if cells[i].SplitLayer > 0 {
			cells[i].Metrics[0].Value = math.Inf(1)
		}
	}
	files = renderAll(t, Input{Cells: cells})
	if texts := svgTexts(t, files["perplexity_vs_layer-legacy.svg"]); !slices.Contains(texts, "Infinite values are not shown.") {
		t.Errorf("an infinite perplexity is dropped without a word: %q", texts)
	}
}

// TestManyKnobs has more lines than one picture can show.
func TestManyKnobs(t *testing.T) {
	s := realSmoke()
	s.models, s.tasks, s.layers = s.models[:1], []string{"piqa"}, []int32{1, 3}
	var cells []results.CellResult
	for _, delta := range []float64{0.1, 0.2} {
		for _, method := range []string{"split", "atom"} {
			for _, c := range s.cells() {
				if c.SplitLayer > 0 {
					c.Delta, c.Method = delta, method
				}
				cells = append(cells, c)
			}
		}
	}
	list := sources(cells, otherKnobs(), []knob{knobTau(), knobBits()})
	var got []string
	for i := range list {
		curves := layoutCurves(list[i].cells, list[i].series)
		if len(curves) > maxSeries {
			t.Errorf("page %s has %d lines", list[i].suffix, len(curves))
		}
		got = append(got, list[i].suffix)
	}
	// W, then delta, then the method get pages: 2 x 3 lines of tau and Qa are left.
	want := "W50-delta0.1-atom W50-delta0.1-split W50-delta0.2-atom W50-delta0.2-split Wall-delta0.1-atom Wall-delta0.1-split Wall-delta0.2-atom Wall-delta0.2-split"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("pages %s, want %s", s, want)
	}
}

func TestCurvesLookDifferent(t *testing.T) {
	for _, s := range []sweep{realSmoke(), paperLike()} {
		for _, src := range sources(s.cells(), otherKnobs(), []knob{knobTau(), knobBits()}) {
			seen := map[string]string{}
			for _, c := range layoutCurves(src.cells, src.series) {
				look := fmt.Sprint(c.style().color, c.style().marker)
				if other, ok := seen[look]; ok {
					t.Errorf("%s and %s look the same", c.label, other)
				}
				seen[look] = c.label
			}
		}
	}
}

// TestSentPoints is Fig. 6 by hand: 4096 values of 16 bits are 8.192 KB, so 350
// rows are 2867.2 KB; 4 of 16 bits are a quarter of that. Requests of fewer rows
// than W stand at what they sent: 100 rows in 3 requests.
func TestSentPoints(t *testing.T) {
	cell := func(w int32, requests, tokens, total int64) results.CellResult {
		p := results.Point{Model: "m", SplitLayer: 20, Codec: "packed", Threshold: 5, MaxActivationBits: 4, MaxTokens: w}
		return results.CellResult{Point: p, Status: results.StatusOK, Payload: results.Payload{Requests: requests, Tokens: tokens, Total: total, HiddenSize: 4096}}
	}
	cells := []results.CellResult{
		cell(350, 1, 350, 350*2048),
		cell(0, 4, 100, 100*2048), // all rows: 25 per request
		cell(50, 2, 60, 60*2048),  // pooled with the next
		cell(50, 1, 40, 40*4096),
	}
	if got := cells[0].Payload.RawPerToken() / 1000 * 350; math.Abs(got-2867.2) > 1e-9 {
		t.Errorf("baseline at 350 tokens %v KB, want 2867.2", got)
	}
	knobs := []knob{knobTau(), knobBits()}
	got := sentPoints(cells, layoutCurves(cells, knobs), knobs)
	want := []sent{{25, 51.2, true}, {100. / 3, (60*2.048 + 40*4.096) / 3, false}, {350, 716.8, false}}
	if len(got) != 1 || len(got[0]) != len(want) {
		t.Fatalf("points %v, want %v", got, want)
	}
	for i, w := range want {
		if g := got[0][i]; g.x != w.x || math.Abs(g.kb-w.kb) > 1e-9 || g.all != w.all {
			t.Errorf("point %d is %v, want %v", i, g, w)
		}
	}
}

// TestEveryKnobTellsSeriesApart changes one column of half of the split cells: no
// curve may then hold both halves.
func TestEveryKnobTellsSeriesApart(t *testing.T) {
	s := realSmoke()
	s.models, s.tasks, s.layers, s.tokens = s.models[:1], []string{"piqa", "wikitext2"}, []int32{1}, []int32{0}
	for name, change := range map[string]func(*results.Point){
		"search":      func(p *results.Point) { p.Search = "fixed" },
		"stop_rule":   func(p *results.Point) { p.StopRule = "first_exceed" },
		"comparison":  func(p *results.Point) { p.Comparison = "round" },
		"lower_bound": func(p *results.Point) { p.LowerBound = 2 },
		"granularity": func(p *results.Point) { p.Granularity = "per_tensor" },
		"above_type":  func(p *results.Point) { p.AboveType = "float16" },
		"sparse":      func(p *results.Point) { p.SparseIndex = "torch" },
		"scale":       func(p *results.Point) { p.ScaleType = "float32" },
		"clamp":       func(p *results.Point) { p.Clamp = 3 },
		"back_group":  func(p *results.Point) { p.BackGroup = 64 },
		"block":       func(p *results.Point) { p.Block = 256 },
		"limit":       func(p *results.Point) { p.Limit = "0.5" },
		"max_length":  func(p *results.Point) { p.MaxLength = 99 },
	} {
		var cells []results.CellResult
		for half := range 2 {
			for _, c := range s.cells() {
				p := &c.Point
				if c.SplitLayer == 0 {
					continue
				}
				p.BackBits, p.BackGroup, p.MaxLength = 8, p.Group, 128
				p.Search, p.StopRule, p.Comparison, p.LowerBound = "tabq", "last_ok", "floor", 3
				p.Granularity, p.AboveType, p.SparseIndex, p.ScaleType = "per_token", "exact", "compact", "float16"
				p.Limit = "100"
				if c.Task == "wikitext2" { // as in an ordinary run
					p.Limit, p.Block = "20", 128
				}
				if half == 1 {
					change(p)
				}
				cells = append(cells, c)
			}
		}
		pairs := map[string]int{}
		for _, src := range sources(cells, otherKnobs(), []knob{knobTau(), knobBits()}) {
			for i := range src.cells {
				c := &src.cells[i]
				pairs[src.suffix+"|"+c.Task+"|"+describe(&c.Point, src.series)]++
			}
		}
		if want := len(cells); len(pairs) != want {
			t.Errorf("%s: %d cells fall into %d series", name, want, len(pairs))
		}
	}
}

// TestExtentOfOrdinaryRuns: limits and blocks that differ only between tasks name
// no series.
func TestExtentOfOrdinaryRuns(t *testing.T) {
	s := realSmoke()
	s.models, s.tokens = s.models[:1], []int32{0}
	plain, extents := s.cells(), s.cells()
	for i := range extents {
		p := &extents[i].Point
		p.Limit, p.MaxLength = "100", 128
		if p.Task == "wikitext2" {
			p.Limit, p.Block = "20", 128
		}
	}
	for _, f := range List() {
		if slices.Contains(ownData, f.Name) {
			continue
		}
		a, errA := f.build(Input{Cells: plain})
		b, errB := f.build(Input{Cells: extents})
		if errA != nil || errB != nil || len(a) != len(b) {
			t.Fatalf("%s: %d and %d pages, %v, %v", f.Name, len(a), len(b), errA, errB)
		}
		for i := range a {
			if len(a[i].legend) != len(b[i].legend) || a[i].suffix != b[i].suffix {
				t.Errorf("%s: pages %q and %q with %d and %d entries", f.Name, a[i].suffix, b[i].suffix, len(a[i].legend), len(b[i].legend))
			}
		}
	}
}

// TestKVNote: a payload with keys and values beside it says that they are left out.
func TestKVNote(t *testing.T) {
	s := realSmoke()
	s.models = s.models[:1]
	cells := s.cells()
	const note = "Keys and values not included."
	for _, kv := range []int64{0, 500} {
		for i := range cells {
			cells[i].Payload.KV = kv
		}
		pages, err := bytesByTokens(Input{Cells: cells})
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(pages[0].notes, note); got != (kv > 0) {
			t.Errorf("KV of %d bytes: notes %q", kv, pages[0].notes)
		}
	}
}

func TestRangesHoldTheData(t *testing.T) {
	for _, higher := range []bool{true, false} {
		pages, err := metricByLayer(Input{Cells: realSmoke().cells()}, higher)
		if err != nil {
			t.Fatal(err)
		}
		scale, checked := 1.0, 0
		if higher {
			scale = 100
		}
		for _, p := range pages {
			for _, row := range p.panels {
				for _, panel := range row {
					for _, c := range realSmoke().cells() {
						m, _ := c.PrimaryMetric()
						if c.Task != panel.Title.Text || m.HigherIsBetter != higher || !strings.Contains(p.title, c.Model) {
							continue
						}
						if c.SplitLayer > 0 && !strings.Contains(p.suffix, map[int32]string{0: "Wall", 50: "W50"}[c.MaxTokens]) {
							continue
						}
						checked++
						if v := m.Value * scale; v < panel.Y.Min || v > panel.Y.Max || float64(c.SplitLayer) > panel.X.Max {
							t.Errorf("%s, l = %d: %v is outside of [%v, %v]", c.Task, c.SplitLayer, v, panel.Y.Min, panel.Y.Max)
						}
					}
				}
			}
		}
		// Each split cell is on one page, each other on the two of its model.
		want := 2 * (3*2*3*2 + 2)
		if higher {
			want *= 6
		}
		if checked != want {
			t.Errorf("%d cells drawn, want %d", checked, want)
		}
	}
}

func TestLogarithmicPerplexity(t *testing.T) {
	s := realSmoke()
	cells := s.cells()
	for i := range cells {
		if cells[i].Task == "wikitext2" && cells[i].SplitLayer == 5 {
			cells[i].Metrics[0].Value = 5e4
		}
	}
	files := renderAll(t, Input{Cells: cells})
	texts := svgTexts(t, files["perplexity_vs_layer-stories260K-W50.svg"])
	for _, want := range []string{"1", "10", "100", "1000", "10000", "1e5"} {
		if !slices.Contains(texts, want) {
			t.Errorf("no tick %s: %q", want, texts)
		}
	}
}

func TestNiceAxis(t *testing.T) {
	for _, tc := range []struct {
		lo, hi   float64
		n        int
		min, max float64
		labels   string
	}{
		{0, 100, 5, 0, 100, "0 20 40 60 80 100"},
		{41.2, 58.9, 5, 40, 60, "40 45 50 55 60"},
		{0, 11.6, 5, 0, 12.5, "0.0 2.5 5.0 7.5 10.0 12.5"},
		{0.101, 0.109, 4, 0.1, 0.11, "0.100 0.102 0.104 0.106 0.108 0.110"},
		{-3, 3, 3, -4, 4, "-4 -2 0 2 4"},
		{7, 7, 5, 6.4, 7.6, "6.4 6.6 6.8 7.0 7.2 7.4 7.6"},
	} {
		min, max, ticks := niceAxis(tc.lo, tc.hi, tc.n)
		var labels []string
		for _, k := range ticks {
			labels = append(labels, k.Label)
		}
		if got := strings.Join(labels, " "); math.Abs(min-tc.min) > 1e-9 || math.Abs(max-tc.max) > 1e-9 || got != tc.labels {
			t.Errorf("[%v, %v]: [%v, %v] with %s, want [%v, %v] with %s", tc.lo, tc.hi, min, max, got, tc.min, tc.max, tc.labels)
		}
	}
}

func TestOutline(t *testing.T) {
	h := &results.Histogram{Edges: []float64{1, 10, 100, 1000, 10000}, Counts: []int64{10, 0, 80, 10}}
	got := outline(h, -3)
	want := []plotter.XYs{
		{{X: 0, Y: -1}, {X: 1, Y: -1}, {X: 1, Y: -3}},
		{{X: 2, Y: -3}, {X: 2, Y: math.Log10(0.8)}, {X: 3, Y: math.Log10(0.8)}, {X: 3, Y: -1}, {X: 4, Y: -1}},
	}
	near := func(a, b plotter.XY) bool { return math.Abs(a.X-b.X) < 1e-12 && math.Abs(a.Y-b.Y) < 1e-12 }
	if !slices.EqualFunc(got, want, func(a, b plotter.XYs) bool { return slices.EqualFunc(a, b, near) }) {
		t.Errorf("outline %v, want %v", got, want)
	}
}

func TestPercent(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.004: "<0.01", 0.5: "0.50", 6.44: "6.4", 85.2: "85", 100: "100"} {
		if got := percent(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// TestPalette wants the colours of Okabe and Ito (2008), and lines that stand out
// from white: a contrast of 2 at least, by the WCAG 2 formula.
func TestPalette(t *testing.T) {
	known := []color.RGBA{{0, 0x72, 0xB2, 255}, {0xD5, 0x5E, 0, 255}, {0, 0x9E, 0x73, 255}, {0xCC, 0x79, 0xA7, 255}, {0xE6, 0x9F, 0, 255}, {0x56, 0xB4, 0xE9, 255}}
	linear := func(v uint8) float64 {
		c := float64(v) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	for i, c := range palette {
		if !slices.Contains(known, c) || slices.Contains(palette[:i], c) {
			t.Errorf("colour %v", c)
		}
		y := 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
		if contrast := 1.05 / (y + 0.05); contrast < 2 {
			t.Errorf("colour %v has contrast %.2f to white", c, contrast)
		}
	}
}

// TestPaperTable2 compares with the text of the paper.
func TestPaperTable2(t *testing.T) {
	points := PaperTable2("m")
	if len(points) != 6*2*5 {
		t.Fatalf("%d points, want 60", len(points))
	}
	b, err := os.ReadFile(filepath.Join(shared(t), "paper", "2511.04002-adaptive-split-computing.txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "Table 2: Performance comparison")
	if !ok {
		t.Fatal("no Table 2 in the paper")
	}
	text, _, _ = strings.Cut(text, "Table 3:")
	for len(points) > 0 {
		row := points[:5]
		points = points[5:]
		line := row[0].Series
		for _, p := range row {
			line += fmt.Sprintf(" %.2f", p.Value)
		}
		if row[0].Series == "Atom" { // the layer stands before the first of two rows
			line = fmt.Sprintf("%d %s", row[0].Layer, line)
		}
		_, rest, ok := strings.Cut(text, "\n"+line+"\n")
		if !ok {
			t.Errorf("no row %q in the paper's Table 2, or not in this order", line)
			continue
		}
		text = "\n" + rest
	}
}

// shared returns the directory of the shared reference data.
func shared(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SPLITBENCH_SHARED")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if root == filepath.Dir(root) {
				t.Fatal("no go.mod above the test")
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared")
	}
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("SPLITBENCH_REQUIRE_SHARED is set, but the shared data is not there: %v", err)
		}
		t.Skipf("the shared data is not there: %v", err)
	}
	return dir
}

func BenchmarkRender(b *testing.B) {
	in := Input{Cells: realSmoke().cells()}
	dir := b.TempDir()
	for b.Loop() {
		if _, err := Render("bytes_vs_tokens", in, dir); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPerplexityErrorBars: a perplexity with a standard error has bars, one
// without has none.
func TestPerplexityErrorBars(t *testing.T) {
	s := realSmoke()
	s.models, s.tasks = s.models[:1], []string{"wikitext2"}
	stderr := 0.5
	for _, with := range []bool{false, true} {
		cells := s.cells()
		for i := range cells {
			if with {
				cells[i].Metrics[0].Stderr = &stderr
			}
		}
		pages, err := metricByLayer(Input{Cells: cells}, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(pages[0].notes, "Error bars and the grey band are ± 1 standard error."); got != with {
			t.Errorf("standard errors %v: notes %q", with, pages[0].notes)
		}
	}
}
