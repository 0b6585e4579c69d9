package results

import (
	"encoding/csv"
	"math"
	"strings"
	"testing"
)

func ptr(v float64) *float64 { return &v }

// tableCells is an unsplit baseline, two split points on two tasks, one of which
// ran out of memory.
func tableCells() []CellResult {
	base := Point{Model: "stories_260K", Protocol: "joint-bos", Method: "fp32", FrontBits: 16, BackBits: 16}
	split := Point{Model: "stories_260K", Protocol: "joint-bos", Method: "split", SplitLayer: 3, WeightLayer: 3, FrontBits: 4, BackBits: 16,
		Group: 32, Codec: "literal", Threshold: 5, MaxActivationBits: 4, Delta: 0.2}
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
