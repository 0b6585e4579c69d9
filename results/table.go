package results

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Table is a table ready to be rendered.
type Table struct {
	// Name is short and fit for a file name, Title is a sentence for a caption.
	Name, Title string
	Columns     []Column
	// Rows have one value per column.
	Rows [][]Value
	// Notes are lines below the table. CSV leaves them out.
	Notes []string
}

// Column is a column of a table.
type Column struct {
	// Name is the heading, with its unit.
	Name string
	// Numeric columns are aligned to the right and have Digits decimals.
	Numeric bool
	Digits  int
	// WithStderr says that values carry a standard error, which CSV puts into a
	// column of its own.
	WithStderr bool
	// Least writes a number below the last of the decimals as "<0.0001", as is usual
	// for p-values.
	Least bool
	// Better is 1 when higher is better, -1 when lower is, 0 when neither.
	Better int
}

// Value is one value of a table: a text, or a number with an optional standard
// error.
type Value struct {
	Text           string
	Number, Stderr *float64
	// Best marks the value; renderers set it in bold. See MarkBest.
	Best bool
}

func text(s string) Value       { return Value{Text: s} }
func numeric(v float64) Value   { return Value{Number: &v} }
func integer(v int64) Value     { return numeric(float64(v)) }
func (v *Value) isNumber() bool { return v.Number != nil }

// none stands where a value does not apply.
const none = "-"

// knob is a column of Point in a table.
type knob struct {
	name string
	// applies says whether the knob means anything at the point.
	applies func(*Point) bool
	text    func(*Point) string
	words   bool // its values are words, not numbers
	// usual, if not nil, says that the value at a point goes without saying. A knob
	// that is usual wherever it applies is in no table.
	usual func(*Point) bool
}

func isSplit(p *Point) bool     { return p.SplitLayer > 0 }
func isQuantized(p *Point) bool { return p.FrontBits != 16 || p.BackBits != 16 }
func hasCodec(p *Point) bool    { return isSplit(p) && p.Codec != "" }
func always(*Point) bool        { return true }

func hasReadings(p *Point) bool { return p.Quantising() }
func isSplit1(p *Point) bool    { return isSplit(p) && p.Codec == "split1" }

// reading returns the knob of a reading with its default.
func reading(name, usual string, value func(*Point) string) knob {
	return knob{
		name: name, text: value, words: true,
		applies: func(p *Point) bool { return hasReadings(p) && value(p) != "" },
		usual:   func(p *Point) bool { return value(p) == usual },
	}
}

// tablesKnob returns the knob of a file of tables.
func tablesKnob(name string, value func(*Point) string) knob {
	return knob{
		name: name, applies: isSplit1, words: true,
		text: func(p *Point) string {
			if v := value(p); v != "" {
				return v
			}
			return "built in"
		},
		usual: func(p *Point) bool { return value(p) == "" },
	}
}

// baselineBits returns a knob of the layers that a quantization baseline quantised:
// value gives the bits and the baseline.
func baselineBits(name string, value func(*Point) (int32, string), usual func(*Point) bool) knob {
	return knob{
		name:    name,
		applies: func(p *Point) bool { _, q := value(p); return q != "" },
		text:    func(p *Point) string { bits, _ := value(p); return int32Text(bits) },
		usual:   usual,
	}
}

func int32Text(v int32) string { return strconv.Itoa(int(v)) }
func floatText(v float64) string {
	return strconv.FormatFloat(v, 'g', -1, 64)
}

var knobs = []knob{
	{name: "Split layer", applies: isSplit, text: func(p *Point) string { return int32Text(p.SplitLayer) }},
	{name: "Weight layer", applies: isQuantized, text: func(p *Point) string { return int32Text(p.WeightLayer) },
		usual: func(p *Point) bool { return p.WeightLayer == p.SplitLayer }},
	{name: "Front (bits)", applies: always, text: func(p *Point) string { return int32Text(p.FrontBits) }},
	{name: "Back (bits)", applies: always, text: func(p *Point) string { return int32Text(p.BackBits) }},
	{name: "Group (weights)", applies: isQuantized, text: func(p *Point) string { return int32Text(p.Group) }},
	{name: "Back group (weights)", applies: func(p *Point) bool { return p.BackBits != 16 }, text: func(p *Point) string { return int32Text(p.BackGroup) },
		usual: func(p *Point) bool { return p.BackGroup == p.Group }},
	baselineBits("Activations (bits)", func(p *Point) (int32, string) { return p.ActivationBits, p.Quantizer }, nil),
	baselineBits("KV (bits)", func(p *Point) (int32, string) { return p.KVBits, p.Quantizer },
		func(p *Point) bool { return p.KVBits == p.ActivationBits || p.KVBits == 16 }),
	baselineBits("Back activations (bits)", func(p *Point) (int32, string) { return p.BackActivationBits, p.BackQuantizer },
		func(p *Point) bool { return p.BackQuantizer == p.Quantizer }),
	baselineBits("Back KV (bits)", func(p *Point) (int32, string) { return p.BackKVBits, p.BackQuantizer },
		func(p *Point) bool { return p.BackQuantizer == p.Quantizer }),
	{name: "Codec", applies: isSplit, text: func(p *Point) string {
		if p.Codec == "" {
			return "off"
		}
		return p.Codec
	}, words: true},
	{name: "Threshold", applies: hasCodec, text: (*Point).Tau},
	{name: "Max activation (bits)", applies: hasCodec, text: func(p *Point) string { return int32Text(p.MaxActivationBits) }},
	{name: "Delta", applies: hasCodec, text: func(p *Point) string { return floatText(p.Delta) }},
	reading("Search", "tabq", func(p *Point) string { return p.Search }),
	reading("Stop rule", "last_ok", func(p *Point) string { return p.StopRule }),
	reading("Comparison", "floor", func(p *Point) string { return p.Comparison }),
	{name: "Lower bound (bits)", applies: func(p *Point) bool { return hasReadings(p) && p.LowerBound != 0 }, text: func(p *Point) string { return int32Text(p.LowerBound) },
		usual: func(p *Point) bool { return p.LowerBound == 3 }},
	reading("Granularity", "per_token", func(p *Point) string { return p.Granularity }),
	reading("Above type", "exact", func(p *Point) string { return p.AboveType }),
	reading("Sparse index", "compact", func(p *Point) string { return p.SparseIndex }),
	reading("Scale type", "float16", func(p *Point) string { return p.ScaleType }),
	{name: "Lanes", applies: isSplit1, text: func(p *Point) string {
		if p.Lanes == 0 {
			return "by size"
		}
		return int32Text(p.Lanes)
	}, usual: func(p *Point) bool { return p.Lanes == 0 }},
	reading("Restore", "center", func(p *Point) string { return p.Restore }),
	tablesKnob("Tables", func(p *Point) string { return p.Tables }),
	tablesKnob("Tables of KV", func(p *Point) string { return p.KVTables }),
	{name: "Clamp", applies: isSplit, text: func(p *Point) string {
		if p.Clamp == 0 {
			return none
		}
		return floatText(p.Clamp)
	}, usual: func(p *Point) bool { return p.Clamp == 0 }},
	{name: "Max tokens", applies: isSplit, text: func(p *Point) string {
		if p.MaxTokens == 0 {
			return "all"
		}
		return int32Text(p.MaxTokens)
	}},
	{name: "Include KV", applies: isSplit, text: func(p *Point) string { return strconv.FormatBool(p.IncludeKV) }, words: true},
	{name: "Seed", applies: always, text: func(p *Point) string { return strconv.FormatInt(p.Seed, 10) }},
}

// extent is how much of a task was scored, and how. It differs between the tasks
// of a run as a matter of course.
type extent struct {
	block     int32
	limit     string
	maxLength int32
}

func extentOf(p *Point) extent {
	e := extent{p.Block, p.Limit, p.MaxLength}
	if e.limit == "0" {
		e.limit = ""
	}
	return e
}

// split returns the point without its task and extent, and those.
func split(p Point) (method Point, task string, e extent) {
	task, e = p.Task, extentOf(&p)
	p.Task, p.Block, p.Limit, p.MaxLength = "", 0, "", 0
	return p, task, e
}

// differing says which parts of the extent tell points apart.
type differing struct{ block, limit, maxLength bool }

func (d differing) or(o differing) differing {
	return differing{d.block || o.block, d.limit || o.limit, d.maxLength || o.maxLength}
}

// of keeps the parts of an extent that tell points apart.
func (d differing) of(e extent) extent {
	if !d.block {
		e.block = 0
	}
	if !d.limit {
		e.limit = ""
	}
	if !d.maxLength {
		e.maxLength = 0
	}
	return e
}

// extents says for each method point which parts of the extent differ between its
// cells of one task, and which do at any point.
func extents(cells []CellResult) (byPoint map[Point]differing, some differing) {
	type place struct {
		point Point
		task  string
	}
	byPoint = map[Point]differing{}
	first := map[place]extent{}
	for i := range cells {
		p, task, e := split(cells[i].Point)
		f, ok := first[place{p, task}]
		if !ok {
			first[place{p, task}] = e
			continue
		}
		d := differing{f.block != e.block, f.limit != e.limit, f.maxLength != e.maxLength}
		byPoint[p] = byPoint[p].or(d)
		some = some.or(d)
	}
	return byPoint, some
}

// extentKnobs are columns where some cells of one task and method point differ in
// them.
func extentKnobs(d differing) (knobs []knob) {
	if d.block {
		knobs = append(knobs, knob{name: "Block (tokens)", applies: func(p *Point) bool { return p.Block != 0 }, text: func(p *Point) string { return int32Text(p.Block) }})
	}
	if d.limit {
		knobs = append(knobs, knob{name: "Limit (documents)", applies: always, text: func(p *Point) string {
			if p.Limit == "" || p.Limit == "0" {
				return "all"
			}
			return p.Limit
		}})
	}
	if d.maxLength {
		knobs = append(knobs, knob{name: "Max length (tokens)", applies: func(p *Point) bool { return p.MaxLength != 0 }, text: func(p *Point) string { return int32Text(p.MaxLength) }})
	}
	return knobs
}

// varyingKnobs returns the knobs with more than one value where they apply, and
// a phrase that names the others.
func varyingKnobs(cells []CellResult) (varying []knob, constant string) {
	var phrases []string
	for _, k := range knobs {
		var values []string
		usual := true
		for i := range cells {
			p := &cells[i].Point
			if !k.applies(p) {
				continue
			}
			usual = usual && k.usual != nil && k.usual(p)
			if !slices.Contains(values, k.text(p)) {
				values = append(values, k.text(p))
			}
		}
		switch {
		case usual:
		case len(values) > 1:
			varying = append(varying, k)
		case len(values) == 1:
			phrases = append(phrases, strings.ToLower(k.name[:1])+k.name[1:]+" "+values[0])
		}
	}
	_, some := extents(cells)
	return append(varying, extentKnobs(some)...), strings.Join(phrases, ", ")
}

// pointRow is the cells of one model, protocol and method point, one per task.
type pointRow struct {
	// point has no task. Where its cells differ in a part of the extent, that part
	// is 0, or none.
	point Point
	cells []*CellResult
}

// pointRows groups cells by point, and by those parts of the extent in which cells
// of one task differ: else a row carries tasks of any extent. Cells whose points agree in every column but
// whose labels differ (a knob without a column was swept) stay apart: their
// rows have the label in place of the method's name.
func pointRows(cells []CellResult) []pointRow {
	type place struct {
		point Point
		label string
	}
	byPoint, _ := extents(cells)
	identity := func(p Point) Point {
		method, _, e := split(p)
		e = byPoint[method].of(e)
		method.Block, method.Limit, method.MaxLength = e.block, e.limit, e.maxLength
		return method
	}
	labels := map[Point]string{} // "" once there are several
	for i := range cells {
		p := identity(cells[i].Point)
		if l, ok := labels[p]; !ok {
			labels[p] = cells[i].Label
		} else if l != cells[i].Label {
			labels[p] = ""
		}
	}
	var rows []pointRow
	at := map[place]int{}
	for i := range cells {
		p := identity(cells[i].Point)
		key := place{p, cells[i].Label}
		k, ok := at[key]
		if !ok {
			k = len(rows)
			at[key] = k
			if labels[p] == "" && cells[i].Label != "" {
				p.Method = cells[i].Label
			}
			e := extentOf(&cells[i].Point)
			p.Block, p.Limit, p.MaxLength = e.block, e.limit, e.maxLength
			rows = append(rows, pointRow{point: p})
		}
		r := &rows[k]
		e := extentOf(&cells[i].Point)
		if r.point.Block != e.block {
			r.point.Block = 0
		}
		if r.point.Limit != e.limit {
			r.point.Limit = none
		}
		if r.point.MaxLength != e.maxLength {
			r.point.MaxLength = 0
		}
		r.cells = append(r.cells, &cells[i])
	}
	return rows
}

func headColumns(varying []knob) []Column {
	columns := []Column{{Name: "Model"}, {Name: "Protocol"}, {Name: "Method"}}
	for _, k := range varying {
		columns = append(columns, Column{Name: k.name, Numeric: !k.words})
	}
	return columns
}

func headValues(p *Point, varying []knob) []Value {
	values := []Value{text(p.Model), text(p.Protocol), text(p.Method)}
	for _, k := range varying {
		if k.applies(p) {
			values = append(values, text(k.text(p)))
		} else {
			values = append(values, text(none))
		}
	}
	return values
}

func metricColumn(task string, m Metric) Column {
	c := Column{Name: task + " " + m.Name + " ↓", Numeric: true, Digits: 4, WithStderr: true, Better: -1}
	if m.HigherIsBetter {
		c.Name, c.Better = task+" "+m.Name+" ↑", 1
	}
	return c
}

// Tables returns the tables of cells, in their order:
//
//   - "summary": one row per method point and model, one column with the primary
//     metric of each task, and the bytes per hidden-state row sent;
//   - "metrics": one row per metric of each cell;
//   - "quantization": what the quantization baselines of each point are, if there are
//     any, and the bits that a weight takes;
//   - "payload": the bytes per row sent by part, if anything was sent;
//   - "failed": the cells that did not end well, if there are any.
//
// Knobs that do not differ between the cells are named in the title instead of
// having a column, except readings with their defaults. Block, limit and maximum
// length tell points apart only where one point has a task twice. Values are not in percent.
func Tables(cells []CellResult) []Table {
	varying, constant := varyingKnobs(cells)
	if constant != "" {
		constant = " Constant: " + constant + "."
	}
	tables := []Table{summary(cells, varying, constant), metricTable(cells, varying, constant)}
	if t := quantizationTable(cells, varying, constant); len(t.Rows) > 0 {
		tables = append(tables, t)
	}
	if t := payloadTable(cells, varying, constant); len(t.Rows) > 0 {
		tables = append(tables, t)
	}
	if t := failedTable(cells, varying, constant); len(t.Rows) > 0 {
		tables = append(tables, t)
	}
	return tables
}

func summary(cells []CellResult, varying []knob, constant string) Table {
	t := Table{
		Name:    "summary",
		Title:   "Primary metric of each task, value ± standard error." + constant,
		Columns: headColumns(varying),
	}
	first := len(t.Columns)
	find := func(name string) int {
		return slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
	}
	kv := false
	for i := range cells {
		if m, ok := cells[i].PrimaryMetric(); ok {
			if c := metricColumn(cells[i].Task, m); find(c.Name) < 0 {
				t.Columns = append(t.Columns, c)
			}
		}
		kv = kv || cells[i].Payload.KV > 0
	}
	payload := len(t.Columns)
	t.Columns = append(t.Columns, Column{Name: "Payload (bytes/token)", Numeric: true, Digits: 1, Better: -1})
	if kv {
		t.Columns = append(t.Columns, Column{Name: "KV (bytes/token)", Numeric: true, Digits: 1, Better: -1})
	}
	for _, r := range pointRows(cells) {
		row := headValues(&r.point, varying)
		for len(row) < len(t.Columns) {
			row = append(row, text(none))
		}
		var sent Payload
		for _, c := range r.cells {
			sent = sent.Add(c.Payload)
			if m, ok := c.PrimaryMetric(); ok && c.Status == StatusOK {
				row[find(metricColumn(c.Task, m).Name)] = Value{Number: &m.Value, Stderr: m.Stderr}
				continue
			}
			// A failed cell knows its metric only from its neighbours.
			for k := first; k < payload; k++ {
				if strings.HasPrefix(t.Columns[k].Name, c.Task+" ") && !row[k].isNumber() {
					row[k] = text(string(c.Status))
				}
			}
		}
		if sent.Tokens > 0 && r.point.Codec != "" { // sent exactly, without a message: no size to show
			row[payload] = numeric(sent.PerToken(sent.Total))
			if kv {
				row[payload+1] = numeric(sent.PerToken(sent.KV))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	t.Notes = notes(cells)
	return t
}

// span is the range of a count.
type span struct{ low, high int64 }

func (s *span) add(v int64, first bool) {
	if first {
		*s = span{v, v}
	}
	s.low, s.high = min(s.low, v), max(s.high, v)
}

func (s span) String() string {
	if s.low == s.high {
		return strconv.FormatInt(s.low, 10)
	}
	return fmt.Sprintf("%d to %d", s.low, s.high)
}

// notes says of each model and task what was not scored as a whole: documents
// skipped, contexts cut, continuations encoded alone. A count that differs between
// the points is given as a range. Then it names the columns whose values are not
// of equally many documents.
func notes(cells []CellResult) []string {
	type place struct{ model, task string }
	type counts struct{ docs, all, skipped, rows, truncated, fallbacks span }
	var order []place
	seen := map[place]*counts{}
	for i := range cells {
		c := &cells[i]
		if c.Status != StatusOK {
			continue
		}
		at := place{c.Model, c.Task}
		n := seen[at]
		first := n == nil
		if first {
			n = &counts{}
			seen[at] = n
			order = append(order, at)
		}
		skipped := int64(len(c.Skipped))
		n.docs.add(c.Docs, first)
		n.all.add(c.Docs+skipped, first)
		n.skipped.add(skipped, first)
		n.rows.add(c.Rows, first)
		n.truncated.add(c.Truncated, first)
		n.fallbacks.add(c.Fallbacks, first)
	}
	var out []string
	for _, at := range order {
		n := seen[at]
		head := at.task + ", " + at.model + ": "
		if n.skipped.high > 0 {
			out = append(out, fmt.Sprintf("%s%v of %v documents scored, %v skipped (continuation longer than the model)", head, n.docs, n.all, n.skipped))
		}
		if n.truncated.high > 0 {
			out = append(out, fmt.Sprintf("%s%v of %v requests lost context tokens on the left", head, n.truncated, n.rows))
		}
		if n.fallbacks.high > 0 {
			out = append(out, fmt.Sprintf("%s%v of %v continuations were encoded alone", head, n.fallbacks, n.rows))
		}
	}
	return append(out, sizeNotes(cells)...)
}

// sizeNotes names the columns in which N differs, with N by model.
func sizeNotes(cells []CellResult) []string {
	type place struct{ column, model string }
	var columns []string
	models := map[string][]string{}
	sizes := map[place]*span{}
	for i := range cells {
		c := &cells[i]
		m, ok := c.PrimaryMetric()
		if !ok || c.Status != StatusOK {
			continue
		}
		name := c.Task + " " + m.Name
		if models[name] == nil {
			columns = append(columns, name)
		}
		at := place{name, c.Model}
		s := sizes[at]
		first := s == nil
		if first {
			s = &span{}
			sizes[at] = s
			models[name] = append(models[name], c.Model)
		}
		s.add(m.N, first)
	}
	var out []string
	for _, name := range columns {
		all := *sizes[place{name, models[name][0]}]
		var parts []string
		for _, model := range models[name] {
			s := sizes[place{name, model}]
			all = span{min(all.low, s.low), max(all.high, s.high)}
			parts = append(parts, fmt.Sprintf("%v (%s)", *s, model))
		}
		if all.low != all.high {
			out = append(out, name+": N is "+strings.Join(parts, ", "))
		}
	}
	return out
}

func metricTable(cells []CellResult, varying []knob, constant string) Table {
	t := Table{
		Name:    "metrics",
		Title:   "All metrics." + constant,
		Columns: headColumns(varying),
	}
	t.Columns = append(t.Columns,
		Column{Name: "Task"}, Column{Name: "Metric"}, Column{Name: "Better"},
		Column{Name: "Value", Numeric: true, Digits: 4}, Column{Name: "±"},
		Column{Name: "Stderr", Numeric: true, Digits: 4}, Column{Name: "N", Numeric: true})
	for i := range cells {
		c := &cells[i]
		for _, m := range c.Metrics {
			better, stderr := "↓", text("N/A")
			if m.HigherIsBetter {
				better = "↑"
			}
			if m.Stderr != nil {
				stderr = Value{Number: m.Stderr}
			}
			t.Rows = append(t.Rows, append(headValues(&c.Point, varying),
				text(c.Task), text(m.Name), text(better), numeric(m.Value), text("±"), stderr, integer(m.N)))
		}
	}
	return t
}

// quantizationTable lists the points of a run with quantization baselines, those
// without any for comparison.
func quantizationTable(cells []CellResult, varying []knob, constant string) Table {
	t := Table{
		Name:    "quantization",
		Title:   "Quantization of each point: w of weights, a of activations, kv and qkv of attention tensors, each with bits, scheme, group and clip." + constant,
		Columns: headColumns(varying),
	}
	t.Columns = append(t.Columns, Column{Name: "Preset"}, Column{Name: "Layers to l_w"}, Column{Name: "Layers after"},
		Column{Name: "Alpha", Numeric: true}, Column{Name: "Calibration (SHA-256)"}, Column{Name: "Stored (bits/weight)", Numeric: true, Digits: 3})
	some := false
	for _, r := range pointRows(cells) {
		p := &r.point
		some = some || p.Quantizer != "" || p.BackQuantizer != ""
		or := func(s, other string) Value {
			if s == "" {
				s = other
			}
			return text(s)
		}
		after := or(p.BackQuantizer, none)
		if p.Quantizer != "" && p.BackQuantizer == p.Quantizer {
			after = text("the same")
		}
		alpha, stored := text(none), text(none)
		if p.Alpha != 0 {
			alpha = text(floatText(p.Alpha))
		}
		for _, c := range r.cells {
			if c.StoredBits > 0 {
				stored = numeric(c.StoredBits)
			}
		}
		t.Rows = append(t.Rows, append(headValues(p, varying), or(p.Preset, none), or(p.Quantizer, none), after, alpha, or(p.Calibration, none), stored))
	}
	if !some {
		t.Rows = nil
	}
	return t
}

func payloadTable(cells []CellResult, varying []knob, constant string) Table {
	t := Table{
		Name:    "payload",
		Title:   "Bytes per hidden-state row sent, by part of the message; keys and values are not in the total." + constant,
		Columns: headColumns(varying),
	}
	for _, n := range []string{"Header", "Tables", "Codes", "Side", "Sparse", "Total", "KV"} {
		t.Columns = append(t.Columns, Column{Name: n + " (bytes/token)", Numeric: true, Digits: 2})
	}
	t.Columns = append(t.Columns,
		Column{Name: "Total (% of 16 bit)", Numeric: true, Digits: 2, Better: -1},
		Column{Name: "Rows sent per request", Numeric: true, Digits: 1})
	for _, r := range pointRows(cells) {
		var p Payload
		for _, c := range r.cells {
			p = p.Add(c.Payload)
		}
		if p.Tokens == 0 {
			continue
		}
		row := headValues(&r.point, varying)
		message := r.point.Codec != "" // without a codec there is no message to measure
		for _, n := range []int64{p.Header, p.Tables, p.Codes, p.Side, p.Sparse, p.Total, p.KV} {
			if message {
				row = append(row, numeric(p.PerToken(n)))
			} else {
				row = append(row, text(none))
			}
		}
		raw := text(none)
		if message && p.HiddenSize > 0 {
			raw = numeric(100 * p.PerToken(p.Total) / p.RawPerToken())
		}
		t.Rows = append(t.Rows, append(row, raw, numeric(p.MeanTokens())))
	}
	return t
}

func failedTable(cells []CellResult, varying []knob, constant string) Table {
	t := Table{
		Name:    "failed",
		Title:   "Cells that did not end well." + constant,
		Columns: append(headColumns(varying), Column{Name: "Task"}, Column{Name: "Status"}, Column{Name: "Error"}),
	}
	for i := range cells {
		if c := &cells[i]; c.Status != StatusOK {
			t.Rows = append(t.Rows, append(headValues(&c.Point, varying), text(c.Task), text(string(c.Status)), text(c.Error)))
		}
	}
	return t
}

// MarkBest marks the best value of each column that has a better direction,
// among the rows of one model and protocol: other rows do not compare. Equal
// values are all marked.
func (t *Table) MarkBest() {
	group := func(row []Value) string {
		s := ""
		for i, c := range t.Columns {
			if c.Name == "Model" || c.Name == "Protocol" {
				s += row[i].Text + "\x00"
			}
		}
		return s
	}
	for i, c := range t.Columns {
		if c.Better == 0 {
			continue
		}
		best := map[string]float64{}
		for _, row := range t.Rows {
			if v := row[i].Number; v != nil && !math.IsNaN(*v) {
				b, ok := best[group(row)]
				if !ok || float64(c.Better)*(*v-b) > 0 {
					best[group(row)] = *v
				}
			}
		}
		for _, row := range t.Rows {
			if v := row[i].Number; v != nil {
				b, ok := best[group(row)]
				row[i].Best = ok && *v == b
			}
		}
	}
}

// format returns the text of a value without markup.
func (c *Column) format(v *Value) string {
	if v.Number == nil {
		return v.Text
	}
	if least := math.Pow10(-c.Digits); c.Least && *v.Number < least {
		return "<" + c.decimal(least)
	}
	s := c.decimal(*v.Number)
	if c.WithStderr && v.Stderr != nil {
		s += " ± " + c.decimal(*v.Stderr)
	}
	return s
}

func (c *Column) decimal(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return fmt.Sprint(v)
	case math.Abs(v) >= 1e7: // a diverged perplexity
		return strconv.FormatFloat(v, 'e', c.Digits, 64)
	}
	return strconv.FormatFloat(v, 'f', c.Digits, 64)
}
