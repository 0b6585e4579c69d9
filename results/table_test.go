package results

import (
	"encoding/csv"
	"math"
	"strconv"
	"strings"
	"testing"
)

func ptr(v float64) *float64 { return &v }

// tableCells is an unsplit baseline, two split points on two tasks, one of which
// ran out of memory.
func tableCells() []CellResult {
	base := Point{Model: "stories_260K", Protocol: "joint-bos", Method: "fp32", FrontBits: 16, BackBits: 16}
	split := Point{Model: "stories_260K", Protocol: "joint-bos", Method: "split", SplitLayer: 3, WeightLayer: 3, FrontBits: 4, BackBits: 16,
		Group: 32, Codec: "literal", Threshold: 5, TauBy: "value", MaxActivationBits: 4, Delta: 0.2}
	other := split
	other.Threshold = 1
	cell := func(p Point, task string, primary string, m ...Metric) CellResult {
		p.Task = task
		return CellResult{Key: testKey(1), Point: p, Status: StatusOK, Primary: primary, Metrics: m, Label: "x"}
	}
	acc := func(v, n float64) []Metric {
		return []Metric{
			{Name: "acc", Value: v, Stderr: ptr(0.0502), N: 100, HigherIsBetter: true},
			{Name: "acc_norm", Value: n, Stderr: ptr(0.05), N: 100, HigherIsBetter: true},
		}
	}
	ppl := func(v float64) []Metric { return []Metric{{Name: "perplexity", Value: v, N: 7}} }
	cells := []CellResult{
		cell(base, "piqa", "acc_norm", acc(0.53, 0.51234)...),
		cell(base, "wikitext2", "perplexity", ppl(12.25)...),
		cell(split, "piqa", "acc_norm", acc(0.5, 0.49)...),
		cell(split, "wikitext2", "perplexity", ppl(12.5)...),
		cell(other, "piqa", "acc_norm", acc(0.52, 0.51234)...),
		cell(other, "wikitext2", "perplexity"),
	}
	// 128 values of 16 bits are 256 bytes; 1000 bytes for 10 tokens and 2000 for 10
	// are 150 a token together, 58.59 % of that.
	cells[2].Payload = Payload{Requests: 2, Tokens: 10, Total: 1000, Header: 100, Tables: 100, Codes: 600, Side: 100, Sparse: 100, HiddenSize: 128}
	cells[3].Payload = Payload{Requests: 2, Tokens: 10, Total: 2000, Header: 100, Tables: 100, Codes: 1600, Side: 100, Sparse: 100, HiddenSize: 128}
	cells[4].Payload = Payload{Requests: 1, Tokens: 4, Total: 600, Codes: 200, Sparse: 400, HiddenSize: 128}
	cells[5].Status, cells[5].Error = StatusOOM, "needs 3 GB | has 2"
	return cells
}

func render(t *testing.T, f func(w *strings.Builder) error) string {
	t.Helper()
	var sb strings.Builder
	if err := f(&sb); err != nil {
		t.Fatal(err)
	}
	return sb.String()
}

func TestTablesMarkdown(t *testing.T) {
	var got string
	for _, table := range Tables(tableCells()) {
		got += "# " + table.Name + "\n" + render(t, func(w *strings.Builder) error { return table.Markdown(w) })
	}
	const constant = "Constant: back (bits) 16, group (weights) 32, codec literal, max activation (bits) 4, delta 0.2, max tokens all, include KV false, seed 0."
	want := `# summary
Primary metric of each task, value ± standard error. ` + strings.Replace(constant, "back", "split layer 3, back", 1) + `

| Model        | Protocol  | Method | Front (bits) | Threshold | piqa acc_norm ↑ | wikitext2 perplexity ↓ | Payload (bytes/token) |
| ------------ | --------- | ------ | -----------: | --------: | --------------: | ---------------------: | --------------------: |
| stories_260K | joint-bos | fp32   |           16 |         - | 0.5123 ± 0.0500 |                12.2500 |                     - |
| stories_260K | joint-bos | split  |            4 |         5 | 0.4900 ± 0.0500 |                12.5000 |                 150.0 |
| stories_260K | joint-bos | split  |            4 |         1 | 0.5123 ± 0.0500 |                    oom |                 150.0 |
# metrics
All metrics. ` + strings.Replace(constant, "back", "split layer 3, back", 1) + `

| Model        | Protocol  | Method | Front (bits) | Threshold | Task      | Metric     | Better |   Value | ±   | Stderr |   N |
| ------------ | --------- | ------ | -----------: | --------: | --------- | ---------- | ------ | ------: | --- | -----: | --: |
| stories_260K | joint-bos | fp32   |           16 |         - | piqa      | acc        | ↑      |  0.5300 | ±   | 0.0502 | 100 |
| stories_260K | joint-bos | fp32   |           16 |         - | piqa      | acc_norm   | ↑      |  0.5123 | ±   | 0.0500 | 100 |
| stories_260K | joint-bos | fp32   |           16 |         - | wikitext2 | perplexity | ↓      | 12.2500 | ±   |    N/A |   7 |
| stories_260K | joint-bos | split  |            4 |         5 | piqa      | acc        | ↑      |  0.5000 | ±   | 0.0502 | 100 |
| stories_260K | joint-bos | split  |            4 |         5 | piqa      | acc_norm   | ↑      |  0.4900 | ±   | 0.0500 | 100 |
| stories_260K | joint-bos | split  |            4 |         5 | wikitext2 | perplexity | ↓      | 12.5000 | ±   |    N/A |   7 |
| stories_260K | joint-bos | split  |            4 |         1 | piqa      | acc        | ↑      |  0.5200 | ±   | 0.0502 | 100 |
| stories_260K | joint-bos | split  |            4 |         1 | piqa      | acc_norm   | ↑      |  0.5123 | ±   | 0.0500 | 100 |
# payload
Bytes per hidden-state row sent, by part of the message; keys and values are not in the total. ` + strings.Replace(constant, "back", "split layer 3, back", 1) + `

| Model        | Protocol  | Method | Front (bits) | Threshold | Header (bytes/token) | Tables (bytes/token) | Codes (bytes/token) | Side (bytes/token) | Sparse (bytes/token) | Total (bytes/token) | KV (bytes/token) | Total (% of 16 bit) | Rows sent per request |
| ------------ | --------- | ------ | -----------: | --------: | -------------------: | -------------------: | ------------------: | -----------------: | -------------------: | ------------------: | ---------------: | ------------------: | --------------------: |
| stories_260K | joint-bos | split  |            4 |         5 |                10.00 |                10.00 |              110.00 |              10.00 |                10.00 |              150.00 |             0.00 |               58.59 |                   5.0 |
| stories_260K | joint-bos | split  |            4 |         1 |                 0.00 |                 0.00 |               50.00 |               0.00 |               100.00 |              150.00 |             0.00 |               58.59 |                   4.0 |
# failed
Cells that did not end well. ` + strings.Replace(constant, "back", "split layer 3, back", 1) + `

| Model        | Protocol  | Method | Front (bits) | Threshold | Task      | Status | Error               |
| ------------ | --------- | ------ | -----------: | --------: | --------- | ------ | ------------------- |
| stories_260K | joint-bos | split  |            4 |         1 | wikitext2 | oom    | needs 3 GB \| has 2 |
`
	diff(t, "tables", strings.Split(got, "\n"), strings.Split(want, "\n"))
}

func TestTableCSV(t *testing.T) {
	table := Tables(tableCells())[0]
	rows, err := csv.NewReader(strings.NewReader(render(t, func(w *strings.Builder) error { return table.CSV(w) }))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "CSV", rows, [][]string{
		{"Model", "Protocol", "Method", "Front (bits)", "Threshold", "piqa acc_norm ↑", "piqa acc_norm ↑ stderr",
			"wikitext2 perplexity ↓", "wikitext2 perplexity ↓ stderr", "Payload (bytes/token)"},
		{"stories_260K", "joint-bos", "fp32", "16", "-", "0.51234", "0.05", "12.25", "", "-"},
		{"stories_260K", "joint-bos", "split", "4", "5", "0.49", "0.05", "12.5", "", "150"},
		{"stories_260K", "joint-bos", "split", "4", "1", "0.51234", "0.05", "oom", "", "150"},
	})
}

func TestTableLaTeX(t *testing.T) {
	table := Tables(tableCells())[0]
	table.Title = `100 % of {a_b} & "c" ~ \d^2 $3 #4 <5>`
	table.MarkBest()
	got := render(t, func(w *strings.Builder) error { return table.LaTeX(w) })
	want := `\begin{table}
\centering
\caption{100 \% of \{a\_b\} \& \textquotedbl{}c\textquotedbl{} \textasciitilde{} \textbackslash{}d\textasciicircum{}2 \$3 \#4 \textless{}5\textgreater{}}
\label{tab:summary}
\begin{tabular}{lllrrrrr}
\toprule
Model & Protocol & Method & Front (bits) & Threshold & piqa acc\_norm $\uparrow$ & wikitext2 perplexity $\downarrow$ & Payload (bytes/token) \\
\midrule
stories\_260K & joint-bos & fp32 & 16 & - & \textbf{0.5123 $\pm$ 0.0500} & \textbf{12.2500} & - \\
stories\_260K & joint-bos & split & 4 & 5 & 0.4900 $\pm$ 0.0500 & 12.5000 & \textbf{150.0} \\
stories\_260K & joint-bos & split & 4 & 1 & \textbf{0.5123 $\pm$ 0.0500} & oom & \textbf{150.0} \\
\bottomrule
\end{tabular}
\end{table}
`
	diff(t, "LaTeX", strings.Split(got, "\n"), strings.Split(want, "\n"))
}

func TestMarkBestStaysWithinModelAndProtocol(t *testing.T) {
	cells := tableCells()
	for i := range cells[2:] {
		cells[2+i].Protocol = "legacy"
	}
	table := Tables(cells)[0]
	for _, row := range table.Rows {
		for i := range row {
			if row[i].Best {
				t.Fatal("a value is marked without MarkBest")
			}
		}
	}
	table.MarkBest()
	got := render(t, func(w *strings.Builder) error { return table.Markdown(w) })
	if n := strings.Count(got, "**0.5123 ± 0.0500**"); n != 2 {
		t.Errorf("%d values are marked, want one per protocol:\n%s", n, got)
	}
	if !strings.Contains(got, "**12.5000**") {
		t.Errorf("the only value of legacy is not marked:\n%s", got)
	}
}

func TestDecimal(t *testing.T) {
	c := Column{Digits: 4}
	for v, want := range map[float64]string{
		0.5: "0.5000", -0.00004: "-0.0000", 1e6: "1000000.0000", 123456789: "1.2346e+08",
		math.Inf(1): "+Inf", math.Inf(-1): "-Inf",
	} {
		if got := c.decimal(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if got := c.decimal(math.NaN()); got != "NaN" {
		t.Errorf("NaN: %q", got)
	}
}

func TestTablesOfNothing(t *testing.T) {
	for _, table := range Tables(nil) {
		if len(table.Rows) != 0 {
			t.Errorf("table %s has rows", table.Name)
		}
	}
}

// TestLabelsSeparateRows: a swept knob without a column must not merge two
// points into one row.
func TestLabelsSeparateRows(t *testing.T) {
	cell := func(label string, acc float64) CellResult {
		return CellResult{
			Label: label, Point: Point{Model: "m", Task: "piqa", Protocol: "joint-bos", Method: "split", SplitLayer: 2, FrontBits: 4, BackBits: 16, Codec: "literal"},
			Status: StatusOK, Primary: "acc", Metrics: []Metric{{Name: "acc", Value: acc, N: 1, HigherIsBetter: true}},
		}
	}
	tables := Tables([]CellResult{cell("split search=tabq", .25), cell("split search=fixed", .75)})
	if len(tables[0].Rows) != 2 {
		t.Fatalf("%d rows, expected 2", len(tables[0].Rows))
	}
	for i, want := range []string{"split search=tabq", "split search=fixed"} {
		if got := tables[0].Rows[i][2].Text; got != want {
			t.Errorf("row %d has method %q, expected %q", i, got, want)
		}
	}
}

// TestReadingsInTables: readings with their defaults are in no caption, others are,
// and those that vary are columns.
func TestReadingsInTables(t *testing.T) {
	point := Point{Model: "m", Task: "piqa", Method: "split", SplitLayer: 2, WeightLayer: 2, FrontBits: 4, BackBits: 8, Group: 32, BackGroup: 32, Codec: "literal",
		Search: "tabq", StopRule: "last_ok", Comparison: "floor", LowerBound: 3, Granularity: "per_token", AboveType: "exact", SparseIndex: "compact", ScaleType: "float16"}
	cells := []CellResult{{Point: point, Status: StatusOK}, {Point: point, Status: StatusOK}}
	caption := func(want string) {
		t.Helper()
		if got := Tables(cells)[0].Title; got != "Primary metric of each task, value ± standard error. Constant: "+want+"." {
			t.Errorf("title %q", got)
		}
	}
	const before = "split layer 2, front (bits) 4, back (bits) 8, group (weights) 32, "
	const codec = "codec literal, threshold 0, max activation (bits) 0, delta 0, "
	const after = "max tokens all, include KV false, seed 0"
	caption(before + codec + after)
	for i := range cells {
		cells[i].LowerBound, cells[i].BackGroup, cells[i].WeightLayer = 2, 64, 1
	}
	caption("split layer 2, weight layer 1, front (bits) 4, back (bits) 8, group (weights) 32, back group (weights) 64, " + codec + "lower bound (bits) 2, " + after)
	cells[0].Search, cells[1].Limit = "fixed", "50"
	table := Tables(cells)[0]
	// The limits are those of different points: no task is there twice at one.
	if len(table.Rows) != 2 || table.Columns[3].Name != "Search" || table.Columns[4].Name != "Payload (bytes/token)" {
		t.Errorf("%d rows, columns %v", len(table.Rows), table.Columns)
	}
}

// TestExtentsInTables: tasks of different limits share a row, limits of one task
// do not.
func TestExtentsInTables(t *testing.T) {
	cell := func(task, limit string, block int32, v float64) CellResult {
		return CellResult{
			Point:  Point{Model: "m", Task: task, Protocol: "legacy", Method: "fp32", FrontBits: 16, BackBits: 16, Limit: limit, Block: block, MaxLength: 128},
			Status: StatusOK, Primary: "v", Metrics: []Metric{{Name: "v", Value: v, N: 5}}}
	}
	ordinary := []CellResult{cell("piqa", "100", 0, 1), cell("wikitext2", "20", 128, 2)}
	table := func(cells []CellResult) string {
		t.Helper()
		s := Tables(cells)[0]
		return render(t, func(w *strings.Builder) error { return s.CSV(w) })
	}
	diff(t, "ordinary", table(ordinary), "Model,Protocol,Method,piqa v ↓,piqa v ↓ stderr,wikitext2 v ↓,wikitext2 v ↓ stderr,Payload (bytes/token)\nm,legacy,fp32,1,,2,,-\n")
	twice := append(ordinary, cell("wikitext2", "20", 256, 3))
	diff(t, "two blocks", table(twice), `Model,Protocol,Method,Block (tokens),piqa v ↓,piqa v ↓ stderr,wikitext2 v ↓,wikitext2 v ↓ stderr,Payload (bytes/token)
m,legacy,fp32,-,1,,-,,-
m,legacy,fp32,128,-,,2,,-
m,legacy,fp32,256,-,,3,,-
`)
	all := append(ordinary, cell("piqa", "0", 0, 4))
	diff(t, "two limits", table(all), `Model,Protocol,Method,Limit (documents),piqa v ↓,piqa v ↓ stderr,wikitext2 v ↓,wikitext2 v ↓ stderr,Payload (bytes/token)
m,legacy,fp32,100,1,,-,,-
m,legacy,fp32,20,-,,2,,-
m,legacy,fp32,all,4,,-,,-
`)
}

func TestNotes(t *testing.T) {
	cell := func(model string, docs, skipped int, truncated, fallbacks int64) CellResult {
		return CellResult{
			Point: Point{Model: model, Task: "piqa", Method: "fp32", FrontBits: 16, BackBits: 16}, Status: StatusOK, Primary: "acc",
			Metrics: []Metric{{Name: "acc", Value: 0.5, N: int64(docs), HigherIsBetter: true}},
			Docs:    int64(docs), Skipped: make([]int32, skipped), Rows: int64(2 * docs), Truncated: truncated, Fallbacks: fallbacks,
		}
	}
	cells := []CellResult{cell("a_1", 94, 6, 0, 0), cell("a_1", 94, 6, 0, 0), cell("b", 100, 0, 180, 3), cell("b", 90, 10, 180, 2)}
	table := Tables(cells)[0]
	diff(t, "notes", table.Notes, []string{
		"piqa, a_1: 94 of 100 documents scored, 6 skipped (continuation longer than the model)",
		"piqa, b: 90 to 100 of 100 documents scored, 0 to 10 skipped (continuation longer than the model)",
		"piqa, b: 180 of 180 to 200 requests lost context tokens on the left",
		"piqa, b: 2 to 3 of 180 to 200 continuations were encoded alone",
		"piqa acc: N is 94 (a_1), 90 to 100 (b)",
	})
	if got := render(t, func(w *strings.Builder) error { return table.Markdown(w) }); !strings.Contains(got, "|\n\n- piqa, a_1: 94 of") || !strings.HasSuffix(got, "\n- piqa acc: N is 94 (a_1), 90 to 100 (b)\n") {
		t.Errorf("Markdown:\n%s", got)
	}
	if got := render(t, func(w *strings.Builder) error { return table.LaTeX(w) }); !strings.Contains(got, "\\end{tabular}\n\\par{\\footnotesize piqa, a\\_1: 94 of") {
		t.Errorf("LaTeX:\n%s", got)
	}
	if got := render(t, func(w *strings.Builder) error { return table.CSV(w) }); strings.Contains(got, "skipped") {
		t.Errorf("CSV:\n%s", got)
	}
	if got := Tables(cells[:2])[0].Notes; len(got) != 1 {
		t.Errorf("notes of one model %q", got)
	}
}

// TestPayloadWithoutCodec: no message, no bytes.
func TestPayloadWithoutCodec(t *testing.T) {
	cells := tableCells()[2:5]
	cells[2].Codec, cells[2].Payload = "", Payload{Requests: 2, Tokens: 10, HiddenSize: 128}
	for _, table := range Tables(cells) {
		if table.Name != "payload" {
			continue
		}
		table.MarkBest()
		row := table.Rows[1]
		n := len(row)
		for _, v := range row[n-9 : n-1] {
			if v.Text != "-" || v.Best {
				t.Errorf("%+v, want no number", v)
			}
		}
		if *row[n-1].Number != 5 || !table.Rows[0][n-2].Best {
			t.Errorf("rows per request %v, best of the others %v", *row[n-1].Number, table.Rows[0][n-2].Best)
		}
		return
	}
	t.Error("no payload table")
}

// TestQuantizationTable: what the baselines of each point are, by hand.
func TestQuantizationTable(t *testing.T) {
	cell := func(change func(*CellResult)) CellResult {
		c := CellResult{
			Key: testKey(1), Status: StatusOK, Primary: "acc", Metrics: []Metric{{Name: "acc", Value: 0.5, N: 4, HigherIsBetter: true}}, StoredBits: 32,
			Point: Point{Model: "m", Task: "boolq", Protocol: "legacy", Method: "fp32", FrontBits: 16, BackBits: 16},
		}
		change(&c)
		return c
	}
	whole := func(bits int32, alpha float64) CellResult {
		return cell(func(c *CellResult) {
			c.Method, c.FrontBits, c.BackBits, c.ActivationBits, c.BackActivationBits, c.KVBits, c.BackKVBits = "E1", 4, 4, bits, bits, 16, 16
			c.Quantizer, c.Alpha, c.Calibration, c.StoredBits = "smoothquant, w4, a"+strconv.Itoa(int(bits)), alpha, "0123456789ab", 4.25
			c.BackQuantizer = c.Quantizer
		})
	}
	front := cell(func(c *CellResult) {
		c.Method, c.Preset, c.SplitLayer, c.WeightLayer, c.FrontBits, c.ActivationBits, c.KVBits = "front", "ours-front", 2, 2, 4, 4, 4
		c.Codec, c.Threshold, c.TauBy, c.MaxActivationBits, c.Delta, c.Quantizer, c.StoredBits = "literal", 5, "value", 4, 0.2, "atom, w4, a4, kv4", 18.125
	})
	cells := []CellResult{cell(func(*CellResult) {}), whole(4, 0.5), whole(3, 0.8), front}
	var table *Table
	for _, c := range Tables(cells) {
		if c.Name == "quantization" {
			table = &c
		}
	}
	if table == nil {
		t.Fatal("no table")
	}
	var b strings.Builder
	if err := table.CSV(&b); err != nil {
		t.Fatal(err)
	}
	want := `Model,Protocol,Method,Front (bits),Back (bits),Activations (bits),Preset,Layers to l_w,Layers after,Alpha,Calibration (SHA-256),Stored (bits/weight)
m,legacy,fp32,16,16,-,-,-,-,-,-,32
m,legacy,E1,4,4,4,-,"smoothquant, w4, a4",the same,0.5,0123456789ab,4.25
m,legacy,E1,4,4,3,-,"smoothquant, w4, a3",the same,0.8,0123456789ab,4.25
m,legacy,front,4,16,4,ours-front,"atom, w4, a4, kv4",-,-,-,18.125
`
	diff(t, "table", b.String(), want)
	for _, c := range Tables(cells[:1]) {
		if c.Name == "quantization" {
			t.Error("a run without baselines has a table of them")
		}
	}
}
