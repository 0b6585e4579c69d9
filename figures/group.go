package figures

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"splitbench/results"
)

// Most of what one picture can show and still be read at a glance.
const (
	maxSeries = 9
	maxPanels = 6
)

// knob is a column of results.Point that tells series apart.
type knob struct {
	name string
	// text is the knob as written in a legend or title, "" where it means nothing.
	text func(*results.Point) string
	// order sorts the values of the knob.
	order func(*results.Point) float64
}

func hasCodec(p *results.Point) bool { return p.Codec != "" }

func itoa(v int32) string         { return strconv.Itoa(int(v)) }
func number(v float64) string     { return strconv.FormatFloat(v, 'g', -1, 64) }
func bitsText(v int32) string     { return itoa(v) + " bits" }
func zero(*results.Point) float64 { return 0 }

// tokensText writes W-bar.
func tokensText(w int32) string {
	if w == 0 {
		return "W = all"
	}
	return "W = " + itoa(w)
}

func knobTau() knob {
	return knob{"tau", func(p *results.Point) string {
		if !hasCodec(p) {
			return ""
		}
		return "tau = " + p.Tau()
	}, func(p *results.Point) float64 {
		// Magnitudes first, then the other units.
		return float64(slices.Index([]string{"quantile", "rms"}, p.TauBy)+1)*1e9 + p.Threshold
	}}
}

func knobBits() knob {
	return knob{"Qa", func(p *results.Point) string {
		if !hasCodec(p) {
			return ""
		}
		return "Qa = " + itoa(p.MaxActivationBits)
	}, func(p *results.Point) float64 { return float64(p.MaxActivationBits) }}
}

func knobClamp() knob {
	return knob{"clamp", func(p *results.Point) string {
		if p.Clamp == 0 {
			return "not clamped"
		}
		return "clamp = " + number(p.Clamp)
	}, func(p *results.Point) float64 {
		if p.Clamp == 0 {
			return math.Inf(1)
		}
		return p.Clamp
	}}
}

// wordKnob is a knob whose values are named by a word; it means nothing where the
// boundary does not quantise.
func wordKnob(name, prefix string, value func(*results.Point) string) knob {
	return knob{name, func(p *results.Point) string {
		if v := value(p); v != "" && p.Quantising() {
			return prefix + v
		}
		return ""
	}, zero}
}

// countKnob is a knob that means nothing where it is 0.
func countKnob(name, prefix string, value func(*results.Point) int32) knob {
	return knob{name, func(p *results.Point) string {
		if v := value(p); v != 0 {
			return prefix + itoa(v)
		}
		return ""
	}, func(p *results.Point) float64 { return float64(value(p)) }}
}

// readingKnobs are the readings of the method by which codecs differ.
func readingKnobs() []knob {
	return []knob{
		wordKnob("search", "search ", func(p *results.Point) string { return p.Search }),
		wordKnob("stop_rule", "stop ", func(p *results.Point) string { return p.StopRule }),
		wordKnob("comparison", "compare ", func(p *results.Point) string { return p.Comparison }),
		countKnob("lower_bound", "lower bound ", func(p *results.Point) int32 {
			if !p.Quantising() {
				return 0
			}
			return p.LowerBound
		}),
		wordKnob("granularity", "width ", func(p *results.Point) string { return p.Granularity }),
		wordKnob("above_type", "above ", func(p *results.Point) string { return p.AboveType }),
		wordKnob("sparse_index", "index ", func(p *results.Point) string { return p.SparseIndex }),
		wordKnob("scale_type", "scale ", func(p *results.Point) string { return p.ScaleType }),
		countKnob("lanes", "lanes ", func(p *results.Point) int32 { return p.Lanes }),
		wordKnob("restore", "restore ", func(p *results.Point) string { return p.Restore }),
		wordKnob("tables", "tables ", func(p *results.Point) string { return p.Tables }),
		wordKnob("kv_tables", "KV tables ", func(p *results.Point) string { return p.KVTables }),
	}
}

// anyLimit is the limit of a cell whose task has no other in the picture.
const anyLimit = "-"

// extentKnobs say how much of a task was scored. They differ between tasks as a
// matter of course: ownExtents takes out what tells no cells of one task apart.
func extentKnobs() []knob {
	return []knob{
		countKnob("block", "block ", func(p *results.Point) int32 { return p.Block }),
		{"limit", func(p *results.Point) string {
			switch p.Limit {
			case anyLimit:
				return ""
			case "", "0":
				return "all documents"
			}
			return "limit " + p.Limit
		}, func(p *results.Point) float64 {
			if v, err := strconv.ParseFloat(p.Limit, 64); err == nil && v > 0 {
				return v
			}
			return math.Inf(1)
		}},
		countKnob("max_length", "length ", func(p *results.Point) int32 { return p.MaxLength }),
	}
}

// ownExtents returns the cells without the block, limit or maximum length that all
// cells of their task have.
func ownExtents(cells []results.CellResult) []results.CellResult {
	cells = slices.Clone(cells)
	_, byTask := partition(cells, func(c *results.CellResult) string { return c.Task })
	knobs := extentKnobs()
	for i := range cells {
		p := &cells[i].Point
		same := byTask[p.Task]
		if !varies(same, knobs[0]) {
			p.Block = 0
		}
		if !varies(same, knobs[1]) {
			p.Limit = anyLimit
		}
		if !varies(same, knobs[2]) {
			p.MaxLength = 0
		}
	}
	return cells
}

// otherKnobs are those that neither tau nor Qa is, in the order in which they are
// given pictures of their own.
func otherKnobs() []knob {
	knobs := []knob{
		{"W", func(p *results.Point) string { return tokensText(p.MaxTokens) }, func(p *results.Point) float64 {
			if p.MaxTokens == 0 {
				return math.Inf(1)
			}
			return float64(p.MaxTokens)
		}},
		{"kv", func(p *results.Point) string {
			if p.IncludeKV {
				return "KV sent"
			}
			return "KV not sent"
		}, zero},
		{"seed", func(p *results.Point) string { return "seed " + strconv.FormatInt(p.Seed, 10) }, func(p *results.Point) float64 { return float64(p.Seed) }},
		{"l_w", func(p *results.Point) string {
			if p.WeightLayer == p.SplitLayer {
				return ""
			}
			return "weight layer " + itoa(p.WeightLayer)
		}, func(p *results.Point) float64 { return float64(p.WeightLayer) }},
		{"delta", func(p *results.Point) string {
			if !hasCodec(p) {
				return ""
			}
			return "delta = " + number(p.Delta)
		}, func(p *results.Point) float64 { return p.Delta }},
	}
	knobs = append(knobs, knobClamp())
	knobs = append(knobs, readingKnobs()...)
	knobs = append(knobs, baselineKnobs()...)
	knobs = append(knobs, extentKnobs()...)
	return append(knobs, []knob{
		{"group", func(p *results.Point) string {
			if p.FrontBits == 16 && p.BackBits == 16 {
				return ""
			}
			return "group " + itoa(p.Group)
		}, func(p *results.Point) float64 { return float64(p.Group) }},
		{"back_group", func(p *results.Point) string {
			if p.BackBits == 16 || p.BackGroup == p.Group {
				return ""
			}
			return "back group " + itoa(p.BackGroup)
		}, func(p *results.Point) float64 { return float64(p.BackGroup) }},
		{"back", func(p *results.Point) string { return "back " + bitsText(p.BackBits) }, func(p *results.Point) float64 { return float64(p.BackBits) }},
		{"front", func(p *results.Point) string { return "front " + bitsText(p.FrontBits) }, func(p *results.Point) float64 { return float64(p.FrontBits) }},
		{"codec", func(p *results.Point) string {
			if !hasCodec(p) {
				return "codec off"
			}
			return p.Codec
		}, zero},
		{"method", func(p *results.Point) string { return p.Method }, zero},
	}...)
}

// dropKnobs returns knobs without those of the given names.
func dropKnobs(knobs []knob, names ...string) []knob {
	return slices.DeleteFunc(slices.Clone(knobs), func(k knob) bool { return slices.Contains(names, k.name) })
}

// describe joins the texts of some knobs at a point.
func describe(p *results.Point, knobs []knob) string {
	var parts []string
	for _, k := range knobs {
		if s := k.text(p); s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ", ")
}

// partition splits cells by key, in the order of first appearance.
func partition[K comparable](cells []results.CellResult, key func(*results.CellResult) K) (keys []K, parts map[K][]results.CellResult) {
	parts = map[K][]results.CellResult{}
	for i := range cells {
		k := key(&cells[i])
		if _, ok := parts[k]; !ok {
			keys = append(keys, k)
		}
		parts[k] = append(parts[k], cells[i])
	}
	return keys, parts
}

// varies says whether the cells have more than one text of the knob.
func varies(cells []results.CellResult, k knob) bool {
	keys, _ := partition(cells, func(c *results.CellResult) string { return k.text(&c.Point) })
	return len(keys) > 1
}

// source is what a page is drawn from.
type source struct {
	model, protocol string
	cells           []results.CellResult // the split ones
	whole           []results.CellResult // those that are not split
	// fixed names the knobs this page has one value of where the run has several.
	fixed string
	// suffix tells the files of several pages apart.
	suffix string
	// series are the knobs that tell the lines of the page apart.
	series []knob
}

// sources groups the cells with status ok by model and protocol, and further by
// the first knobs of split that vary, until no more than maxSeries lines remain
// in a page. lines are the knobs that tell lines apart but never pages.
func sources(cells []results.CellResult, split, lines []knob) []source {
	return sourcesOf(cells, split, lines, false)
}

// sourcesOf is sources; with all it gives every value of the knobs of split a
// page of its own.
func sourcesOf(cells []results.CellResult, split, lines []knob, all bool) []source {
	type mp struct{ model, protocol string }
	models, byModel := partition(ok(cells), func(c *results.CellResult) mp { return mp{c.Model, c.Protocol} })
	models = slices.DeleteFunc(models, func(k mp) bool {
		return !slices.ContainsFunc(byModel[k], func(c results.CellResult) bool { return c.SplitLayer > 0 })
	})
	severalModels := slices.ContainsFunc(models, func(k mp) bool { return k.model != models[0].model })
	severalProtocols := slices.ContainsFunc(models, func(k mp) bool { return k.protocol != models[0].protocol })
	var out []source
	for _, m := range models {
		var s source
		s.model, s.protocol = m.model, m.protocol
		for _, c := range ownExtents(byModel[m]) {
			if c.SplitLayer > 0 {
				s.cells = append(s.cells, c)
			} else {
				s.whole = append(s.whole, c)
			}
		}
		var name []string
		if severalModels {
			name = append(name, m.model)
		}
		if severalProtocols {
			name = append(name, m.protocol)
		}
		varying := slices.DeleteFunc(slices.Clone(split), func(k knob) bool { return !varies(s.cells, k) })
		if slices.ContainsFunc(varying, func(k knob) bool { return k.name == "method" }) {
			// The method's name tells what all its cells have in common.
			_, byMethod := partition(s.cells, func(c *results.CellResult) string { return c.Method })
			varying = slices.DeleteFunc(varying, func(k knob) bool {
				for _, cells := range byMethod {
					if varies(cells, k) {
						return false
					}
				}
				return k.name != "method"
			})
		}
		series := append(slices.Clone(lines), varying...)
		n := 0
		for n < len(varying) && (all || tooMany(s.cells, series, varying[:n])) {
			n++
			series = append(slices.Clone(lines), varying[n:]...)
		}
		keys, parts := partition(s.cells, func(c *results.CellResult) string { return describe(&c.Point, varying[:n]) })
		slices.SortStableFunc(keys, func(a, b string) int {
			return comparePoints(&parts[a][0].Point, &parts[b][0].Point, varying[:n])
		})
		for _, k := range keys {
			p := s
			p.cells, p.fixed, p.series = parts[k], k, series
			sfx := slices.Clone(name)
			if k != "" {
				sfx = append(sfx, strings.NewReplacer(" = ", "", ", ", "-", " ", "").Replace(k))
			}
			p.suffix = strings.Join(sfx, "-")
			out = append(out, p)
		}
	}
	return out
}

// ok returns the cells that ended well.
func ok(cells []results.CellResult) []results.CellResult {
	return slices.DeleteFunc(slices.Clone(cells), func(c results.CellResult) bool { return c.Status != results.StatusOK })
}

// tooMany says whether any page, if cells were split by fixed, had more series
// or colours than can be told apart.
func tooMany(cells []results.CellResult, series, fixed []knob) bool {
	keys, parts := partition(cells, func(c *results.CellResult) string { return describe(&c.Point, fixed) })
	for _, k := range keys {
		l := layoutCurves(parts[k], series)
		if len(l) > maxSeries || slices.ContainsFunc(l, func(s curve) bool { return s.colorIndex >= len(palette) || s.dashIndex >= len(dashes) }) {
			return true
		}
	}
	return false
}

func comparePoints(a, b *results.Point, knobs []knob) int {
	for _, k := range knobs {
		if c := cmp.Or(cmp.Compare(k.order(a), k.order(b)), strings.Compare(k.text(a), k.text(b))); c != 0 {
			return c
		}
	}
	return 0
}

// curve is one line of a page. Colour shows everything but tau, dash and marker
// show tau; where tau does not vary they repeat the colour.
type curve struct {
	key, label            string
	colorIndex, dashIndex int
}

func (s curve) style() style {
	return style{palette[s.colorIndex%len(palette)], dashes[s.dashIndex%len(dashes)], s.dashIndex % len(markers)}
}

// layoutCurves returns the lines of some split cells, sorted, with labels that
// name only the knobs that vary.
func layoutCurves(cells []results.CellResult, knobs []knob) []curve {
	keys, parts := partition(cells, func(c *results.CellResult) string { return describe(&c.Point, knobs) })
	first := func(k string) *results.Point { return &parts[k][0].Point }
	// Colours first, so that the legend lists lines of one colour together.
	byColor := append(dropKnobs(knobs, "tau"), knobTau())
	slices.SortStableFunc(keys, func(a, b string) int { return comparePoints(first(a), first(b), byColor) })
	varying := slices.DeleteFunc(slices.Clone(byColor), func(k knob) bool { return !varies(cells, k) })
	colorKnobs := dropKnobs(varying, "tau")
	var colors, taus []string
	index := func(list *[]string, s string) int {
		if i := slices.Index(*list, s); i >= 0 {
			return i
		}
		*list = append(*list, s)
		return len(*list) - 1
	}
	tau := knobTau()
	byTau := slices.Clone(keys)
	slices.SortStableFunc(byTau, func(a, b string) int { return comparePoints(first(a), first(b), []knob{tau}) })
	for _, k := range byTau {
		index(&taus, tau.text(first(k)))
	}
	var out []curve
	for _, k := range keys {
		p := first(k)
		s := curve{key: k, label: describe(p, varying), colorIndex: index(&colors, describe(p, colorKnobs))}
		s.dashIndex = index(&taus, tau.text(p))
		if len(taus) == 1 {
			s.dashIndex = s.colorIndex
		} else if len(colorKnobs) == 0 {
			s.colorIndex = s.dashIndex
		}
		if s.label == "" { // a single line
			s.label = describe(p, knobs)
		}
		out = append(out, s)
	}
	return out
}

// notes returns the lines below the title: protocol and fixed knobs, then more.
func (s *source) notes(more ...string) []string {
	first := "protocol " + s.protocol
	if s.fixed != "" {
		first += ", " + s.fixed
	}
	return append([]string{first}, more...)
}

// layers returns the split layers of cells in ascending order.
func layers(cells []results.CellResult) []int32 {
	var out []int32
	for i := range cells {
		if !slices.Contains(out, cells[i].SplitLayer) {
			out = append(out, cells[i].SplitLayer)
		}
	}
	slices.Sort(out)
	return out
}

// spread picks at most n of the values, evenly, with the first and the last.
func spread[T any](v []T, n int) []T {
	if len(v) <= n {
		return v
	}
	out := make([]T, n)
	for i := range out {
		out[i] = v[i*(len(v)-1)/(n-1)]
	}
	return out
}
