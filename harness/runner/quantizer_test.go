package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/harness/quantise"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/quantize"
	"splitbench/results"
)

// quantizerSpec runs baselines of all kinds on the built-in model; its folder
// holds the files.
const quantizerSpec = `name: quantizers
models: [{name: tiny, path: "builtin:random-tiny"}]
tasks: [{name: wikitext2, block: 64, path: "builtin:toy", limit: 5}, {name: piqa, path: "builtin:toy", limit: 6}]
methods:
  - {name: fp32}
  - {name: rtn, quantizer: {preset: rtn-w4, weight_bits: 3}, calibration: &c {text: text.txt, sequences: 3, tokens: 48}}
  - {name: smooth, quantizer: {file: smooth.yaml}, calibration: *c}
  - {name: atom, quantizer: {file: atom.yaml}, calibration: *c}
  - {name: boundary, preset: ours-boundary, quantizer: {file: atom.yaml}, calibration: *c, split_layer: 3, boundary: {tau: 1}}
  - {name: front, preset: ours-front, quantizer: {file: atom.yaml}, calibration: *c, split_layer: 3, max_tokens: 20, boundary: {tau: 1}}
sweep: {zip: [{quantizer.activation_bits: [0, 3], max_activation_bits: [4, 3]}], exclude: [{method: rtn, quantizer.activation_bits: 3}]}
outputs: [method_bars, method_pareto]
`

var quantizerFiles = map[string]string{
	"smooth.yaml": "method: smoothquant\nweight: {bits: 8}\nactivation: {bits: 4}\nsmooth: {sweep: [0.2, 0.5, 0.8]}\n",
	"atom.yaml": "method: atom\nweight: {bits: 4, group: 16, clip: 0.85, shared_rows: 2}\nactivation: {bits: 4, group: 16, clip: 0.9}\n" +
		"attention: {place: cache, bits: 4}\nreorder: true\noutliers: {columns: 16, bits: 8}\ngptq: {}\n",
	"text.txt": strings.Repeat("The kettle is near the lamp, and the rope is under the boat behind one clock. ", 9),
}

// writeFiles writes the files of quantizerSpec and loads it.
func writeFiles(t *testing.T, dir, text string) *spec.Spec {
	t.Helper()
	for name, content := range quantizerFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := spec.Parse(filepath.Join(dir, "q.yaml"), []byte(text), spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func runQuantizers(t *testing.T, s *spec.Spec, out string, c Compute) *Summary {
	t.Helper()
	sum, err := Run(context.Background(), s, Options{Out: out, Version: "test", Compute: c})
	if err != nil {
		t.Fatal(err)
	}
	if len(sum.Failed) > 0 || len(sum.FigureProblems) > 0 {
		t.Fatalf("failed %+v, figures %v", sum.Failed, sum.FigureProblems)
	}
	return sum
}

func cellsOf(t *testing.T, out string) (*results.Run, []results.CellResult) {
	t.Helper()
	store, err := results.OpenRun(out)
	if err != nil {
		t.Fatal(err)
	}
	cells, err := store.Cells()
	if err != nil {
		t.Fatal(err)
	}
	return store, cells
}

// TestQuantizers: what a run stores of baselines is what harness/quantise
// computes of the same model, method, windows and blocks; it depends neither on
// the batch size nor on the cache; and only what changes is computed again.
func TestQuantizers(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	s := writeFiles(t, dir, quantizerSpec)
	out := filepath.Join(dir, "out")
	if sum := runQuantizers(t, s, out, Compute{}); sum.Cells != 20 || sum.Computed != 20 {
		t.Fatalf("%d cells, %d computed, expected 20", sum.Cells, sum.Computed)
	}
	store, cells := cellsOf(t, out)

	path, err := exec.Locate("builtin:random-tiny")
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	be, err := cpu.New(cpu.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	tok, err := exec.OpenTokenizer(path, "")
	if err != nil {
		t.Fatal(err)
	}
	// The windows as the original repositories draw them: randint(0, N-L-1).
	ids := tok.Encode(quantizerFiles["text.txt"], true)
	windowsOf := func(seed uint64) (all [][]int32) {
		r := quantize.NewRandom(seed)
		for range 3 {
			start, err := r.Int(0, len(ids)-48-1)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, ids[start:start+48])
		}
		return all
	}
	w := NewWorkbench(Compute{})
	defer w.Close()
	jobs, err := jobsOf(w, s)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.Prepare(jobs[0].cell)
	if err != nil {
		t.Fatal(err)
	}
	sweep := []float64{0.2, 0.5, 0.8}
	smooth := quantize.NewSmoothQuant(8, 4, 0, false)
	smooth.Smooth.Sweep = sweep
	smooth3 := smooth
	smooth3.Activation.Bits = 3
	wholes := map[string]quantize.Method{
		"rtn Qa=0": quantize.NewRTN(3, 0, false), "smooth Qa=0": smooth, "smooth Qa=3": smooth3, "atom Qa=0": quantize.NewAtom(4, 4, 16, 16), "atom Qa=3": quantize.NewAtom(4, 3, 16, 16),
	}
	checked := 0
	for _, cell := range cells {
		m, ok := wholes[cell.Label]
		if !ok || cell.Task != "wikitext2" {
			continue
		}
		checked++
		model, m, err := quantise.Model(context.Background(), c, be, m, windowsOf(0), quantise.Options{})
		if err != nil {
			t.Fatal(err)
		}
		rows, err := store.Rows(cell.Key)
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range p.Units {
			block := append(slices.Clone(u.Requests[0].Input[:1]), u.Requests[0].Targets...)
			loss, err := quantise.TokenLoss(context.Background(), model, [][]int32{block})
			if err != nil {
				t.Fatal(err)
			}
			want := 0.0
			for _, v := range loss[0] {
				want -= v
			}
			if rows[i].LogProb != want {
				t.Errorf("%s, block %d: %v, expected %v", cell.Label, i, rows[i].LogProb, want)
			}
		}
		alpha := 0.0
		if m.Smooth != nil {
			alpha = m.Smooth.Alpha
		}
		set := quantise.CalibrationDigest(windowsOf(0))[:tableDigits]
		if cell.Label == "rtn Qa=0" {
			set = ""
		}
		if cell.Alpha != alpha || cell.Calibration != set || m.Smooth != nil && !slices.Contains(sweep, alpha) {
			t.Errorf("%s: alpha %v, calibration %s, expected %v, %s", cell.Label, cell.Alpha, cell.Calibration, alpha, set)
		}
	}
	if checked != len(wholes) {
		t.Errorf("%d cells of %d whole methods", checked, len(wholes))
	}
	checkColumns(t, cells)

	// Again, from the cache and in small batches: the same bytes.
	other := filepath.Join(dir, "other")
	runQuantizers(t, s, other, Compute{BatchRows: 70, Workers: 1})
	sameFiles(t, fingerprint(t, other), fingerprint(t, out))

	// Nothing is left to do, unless a method or its calibration changes.
	recomputed := func(text string) (methods string) {
		again := writeFiles(t, dir, text)
		jobs, err := jobsOf(NewWorkbench(Compute{}), again)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, j := range jobs {
			if _, done, _ := store.Done(j.key); !done && !slices.Contains(names, j.cell.Method.Name) {
				names = append(names, j.cell.Method.Name)
			}
		}
		return strings.Join(names, " ")
	}
	old := map[string]string{}
	for k, v := range quantizerFiles {
		old[k] = v
	}
	for _, test := range []struct{ name, file, from, to, want string }{
		{"nothing", "atom.yaml", "gptq", "gptq", ""},
		{"order of keys and comments", "smooth.yaml", "method: smoothquant\n", "# the same\nname: renamed\nmethod: smoothquant\n", ""},
		{"a clip", "atom.yaml", "0.85", "0.84", "atom boundary front"},
		{"a sweep", "smooth.yaml", "0.8]", "0.7]", "smooth"},
		{"the text", "text.txt", "kettle", "Kettle", "smooth atom boundary front"},
	} {
		quantizerFiles[test.file] = strings.ReplaceAll(old[test.file], test.from, test.to)
		if got := recomputed(quantizerSpec); got != test.want {
			t.Errorf("%s changes: %q are computed again, expected %q", test.name, got, test.want)
		}
		quantizerFiles[test.file] = old[test.file]
	}
	for _, test := range [][3]string{
		{"sequences: 3", "sequences: 2", "smooth atom boundary front"},
		{"tokens: 48", "tokens: 48, seed: 0", ""}, // the authors' own
		{"tokens: 48", "tokens: 48, seed: 1", "smooth atom boundary front"},
		{"weight_bits: 3", "weight_bits: 4", "rtn"},
	} {
		if got := recomputed(strings.Replace(quantizerSpec, test[0], test[1], 1)); got != test[2] {
			t.Errorf("%s: %q are computed again, expected %q", test[1], got, test[2])
		}
	}

	// A damaged cache is made anew.
	entries, err := os.ReadDir(quantise.CacheFolder())
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d folders in the cache, %v", len(entries), err)
	}
	for i, e := range entries {
		file := filepath.Join(quantise.CacheFolder(), e.Name(), []string{"quantized.safetensors", "quantized-layer-00002.safetensors"}[i%2])
		if err := os.Truncate(file, 100); err != nil {
			t.Fatal(err)
		}
	}
	mended := filepath.Join(dir, "mended")
	runQuantizers(t, s, mended, Compute{})
	sameFiles(t, fingerprint(t, mended), fingerprint(t, out))
}

// checkColumns checks what the results say of each method, by hand.
func checkColumns(t *testing.T, cells []results.CellResult) {
	t.Helper()
	const (
		rtn     = "rtn, w3 asym"
		weights = "atom, w4 sym-shift g16x2 clip 0.85"
		rest    = "outliers 16 at 8, gptq"
	)
	activations := func(bits int) string {
		return fmt.Sprintf("%s, a%d sym-full g16 clip 0.9, kv%d asym, %s", weights, bits, bits, rest)
	}
	type columns struct {
		preset, front, back            string
		weight, activation, kv, backWt int32
	}
	for label, want := range map[string]columns{
		"fp32":                     {"", "", "", 16, 0, 0, 16},
		"rtn Qa=0":                 {"", rtn, rtn, 3, 16, 16, 3},
		"atom Qa=0":                {"", activations(4), activations(4), 4, 4, 4, 4},
		"atom Qa=3":                {"", activations(3), activations(3), 4, 3, 3, 4},
		"boundary l=3 tau=1 Q=4":   {"ours-boundary", weights + ", " + rest, weights + ", " + rest, 4, 16, 16, 4},
		"front l=3 tau=1 Q=3 Qa=3": {"ours-front", activations(3), "", 4, 3, 3, 16},
	} {
		i := slices.IndexFunc(cells, func(c results.CellResult) bool { return c.Label == label })
		if i < 0 {
			t.Errorf("no cell %s", label)
			continue
		}
		p := cells[i].Point
		if got := (columns{p.Preset, p.Quantizer, p.BackQuantizer, p.FrontBits, p.ActivationBits, p.KVBits, p.BackBits}); got != want {
			t.Errorf("%s:\n%+v, expected\n%+v", label, got, want)
		}
	}
	// A block has 2 x 64 x 64 + 2 x 32 x 64 + 3 x 176 x 64 weights, here of 3 bits,
	// and 608 rows with a scale of 4 bytes and a zero of 2 each.
	for label, want := range map[string]float64{"fp32": 32, "rtn Qa=0": 3 + 608*48/46080.} {
		for _, c := range cells {
			if c.Label == label && math.Abs(c.StoredBits-want) > 1e-12 {
				t.Errorf("%s: %v bits per weight, expected %v", label, c.StoredBits, want)
			}
		}
	}
}

// TestGoldenQuantizers runs method files on the model, the calibration and the
// evaluation tokens of the goldens, by way of a spec: the mean losses are those
// of the original code.
func TestGoldenQuantizers(t *testing.T) {
	root := sharedRoot(t)
	golden := filepath.Join(root, "golden", "quant", "babyllama")
	var tokens struct{ Calibration, Evaluation [][]int32 }
	var table []struct {
		Method, ID string
		Mean       float64 `json:"mean_nll"`
		Tolerance  float64
	}
	for name, v := range map[string]any{"tokens.json": &tokens, "table.json": &table} {
		b, err := os.ReadFile(filepath.Join(golden, name))
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	var lines strings.Builder
	for _, ids := range tokens.Calibration {
		b, err := json.Marshal(map[string][]int32{"ids": ids})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(b, '\n'))
	}
	calibration := filepath.Join(dir, "calibration.jsonl")
	if err := os.WriteFile(calibration, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	var reqs []exec.Request
	for _, ids := range tokens.Evaluation {
		reqs = append(reqs, exec.Request{Input: ids[:len(ids)-1], Targets: ids[1:]})
	}
	files, err := filepath.Abs(filepath.Join("..", "..", "experiments", "baselines"))
	if err != nil {
		t.Fatal(err)
	}
	var methods []string
	want := map[string]int{}
	for i, r := range table {
		name := r.Method + "_" + r.ID
		switch name {
		case "rtn_w3_asym_g32", "gptq_w4_asym_g-1", "smoothquant_a0.5_w4a4_bmm", "omniquant_w4a4_rtn_e0", "atom_w4a3_6kv":
		default:
			if os.Getenv("SPLITBENCH_FULL") != "1" || r.Method == "fp32" || strings.Contains(r.ID, "let") { // that is of another model
				continue
			}
		}
		sequences := 0
		if r.Method == "awq" {
			sequences = 8
		}
		want[name] = i
		methods = append(methods, fmt.Sprintf("  - {name: %s, quantizer: {file: %q}, calibration: {file: %q, sequences: %d}}\n", name, filepath.Join(files, name+".yaml"), calibration, sequences))
	}
	m := goldenModel(root, "babyllama105")
	s := loadText(t, fmt.Sprintf("name: golden\nmodels: [{name: m, path: %q, tokenizer: %q}]\ntasks: [{name: piqa, path: \"builtin:toy\"}]\nmethods:\n%s", m.Path, m.Tokenizer, strings.Join(methods, "")))
	w := NewWorkbench(Compute{})
	defer w.Close()
	cells, err := s.Cells(w.Layers)
	if err != nil || len(cells) != len(want) {
		t.Fatalf("%d cells, %v", len(cells), err)
	}
	for _, c := range cells {
		l, err := w.Open(c.Model)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Quantize(context.Background(), l, c, func(string) {}); err != nil {
			t.Fatal(err)
		}
		method, err := w.Method(c)
		if err != nil {
			t.Fatal(err)
		}
		session, err := l.Engine.NewSession(method)
		if err != nil {
			t.Fatal(err)
		}
		answers, err := session.Score(context.Background(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		sum, n := 0.0, 0
		for _, a := range answers {
			sum, n = sum-a.LogProb, n+len(a.TokenLogProbs)
		}
		r := table[want[c.Method.Name]]
		have := sum / float64(n)
		t.Logf("%-36s %.4f, the original's %.4f ±%.4f", c.Method.Name, have, r.Mean, r.Tolerance)
		if !(math.Abs(have-r.Mean) <= r.Tolerance) {
			t.Errorf("%s: mean loss %.6f, the original's %.6f ±%.4f", c.Method.Name, have, r.Mean, r.Tolerance)
		}
	}
}

// TestCalibration draws tokens from every source.
func TestCalibration(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	w := NewWorkbench(Compute{})
	defer w.Close()
	m := spec.Model{Name: "tiny", Path: "builtin:random-tiny"}
	tok, err := w.Tokenizer(m)
	if err != nil {
		t.Fatal(err)
	}
	long, err := w.MaxLength(m)
	if err != nil {
		t.Fatal(err)
	}
	method := quantize.NewGPTQ(4, 0, false, quantize.GPTQOptions{})
	method.Name = "g"
	draw := func(c spec.Calibration, plan quantize.CalibrationPlan) ([][]int32, error) {
		q := method
		q.Calibration = plan
		return w.calibration(spec.Cell{Model: m, Protocol: "joint-bos", Method: spec.Method{Quantizer: spec.Quantizer{Preset: "gptq-w4"}, Calibration: c}}, q)
	}
	text := write("t.txt", quantizerFiles["text.txt"])
	ids := tok.Encode(quantizerFiles["text.txt"], true)
	plan := quantize.CalibrationPlan{Sequences: 5, Tokens: 4096, Seed: 7}
	got, err := draw(spec.Calibration{Text: text, Seed: -1}, quantize.CalibrationPlan{Sequences: 5, Tokens: 100, Seed: 7})
	if err != nil || len(got) != 5 {
		t.Fatalf("%d windows, %v", len(got), err)
	}
	r := quantize.NewRandom(7)
	for i, window := range got {
		if start, _ := r.Int(0, len(ids)-100-1); !slices.Equal(window, ids[start:start+100]) {
			t.Errorf("window %d does not begin at %d", i, start)
		}
	}
	lines := write("c.jsonl", "{\"ids\":[1,2,3]}\n\n{\"text\":\"the lamp\"}\n{\"ids\":[4]}\n")
	if got, err = draw(spec.Calibration{File: lines, Sequences: 2, Tokens: 2, Seed: -1}, plan); err != nil || len(got) != 2 || !slices.Equal(got[0], []int32{1, 2}) || !slices.Equal(got[1], tok.Encode("the lamp", true)[:2]) {
		t.Errorf("lines: %v, %v", got, err)
	}
	if got, err = draw(spec.Calibration{File: lines, Seed: -1}, plan); err != nil || len(got) != 3 || !slices.Equal(got[2], []int32{4}) {
		t.Errorf("all lines: %v, %v", got, err)
	}
	for _, test := range []struct {
		want string
		c    spec.Calibration
		plan quantize.CalibrationPlan
	}{
		{"quantizer g needs calibration", spec.Calibration{}, plan},
		{"short.txt: calibration: ", spec.Calibration{Text: write("short.txt", "the lamp"), Seed: -1}, plan},
		{fmt.Sprintf("windows of %d tokens, expected at most the model's length of %d", long+1, long), spec.Calibration{Text: text, Tokens: long + 1, Seed: -1}, plan},
		{"the method states no number of windows", spec.Calibration{Text: text, Seed: -1}, quantize.CalibrationPlan{}},
		{"nowhere.txt: no such file", spec.Calibration{Text: filepath.Join(dir, "nowhere.txt"), Seed: -1}, plan},
		{`bad.jsonl:2: expected {"ids":[…]}`, spec.Calibration{File: write("bad.jsonl", "{\"ids\":[1]}\n{\"id\":[1]}\n"), Seed: -1}, plan},
		{"out.jsonl:1: token id 99999 is outside the vocabulary", spec.Calibration{File: write("out.jsonl", "{\"ids\":[99999]}\n"), Seed: -1}, plan},
		{"none.jsonl:1: no tokens", spec.Calibration{File: write("none.jsonl", "{\"ids\":[]}\n"), Seed: -1}, plan},
		{"empty.jsonl: 0 sequences, expected 1", spec.Calibration{File: write("empty.jsonl", "\n"), Seed: -1}, plan},
		{"c.jsonl: 3 sequences, expected 4", spec.Calibration{File: lines, Sequences: 4, Seed: -1}, plan},
		{"task c4: no data", spec.Calibration{Task: "c4", Seed: -1}, plan},
	} {
		if _, err := draw(test.c, test.plan); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, expected %q", test.c, err, test.want)
		}
	}
	// Several documents: a random one that is long enough, a window in it.
	var documents [][]int32
	var rows strings.Builder
	for i := range 6 {
		text := strings.Repeat(fmt.Sprintf("clock %d and rope ", i), 1+3*i)
		documents = append(documents, tok.Encode(text, true))
		fmt.Fprintf(&rows, "{\"text\":%q}\n", text)
	}
	if err := os.MkdirAll(filepath.Join(dir, "c4"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join("c4", "c4-sample.json"), rows.String())
	got, err = draw(spec.Calibration{Task: "c4_documents", Data: dir, Sequences: 4, Tokens: 60, Seed: 3}, plan)
	if err != nil || len(got) != 4 {
		t.Fatalf("%d windows, %v", len(got), err)
	}
	r = quantize.NewRandom(3)
	for i, window := range got {
		d, _ := r.Int(0, len(documents)-1)
		for len(documents[d]) < 60 {
			d, _ = r.Int(0, len(documents)-1)
		}
		if start, _ := r.Int(0, len(documents[d])-60-1); !slices.Equal(window, documents[d][start:start+60]) {
			t.Errorf("window %d is not of document %d from %d", i, d, start)
		}
	}
}

// TestValidateQuantizers places what only files and models show.
func TestValidateQuantizers(t *testing.T) {
	dir := t.TempDir()
	s := writeFiles(t, dir, `name: faults
models: [{name: tiny, path: "builtin:random-tiny"}]
tasks: [{name: piqa, path: "builtin:toy"}]
methods:
  - {name: a, quantizer: {file: nowhere.yaml}}
  - {name: b, quantizer: {file: text.txt}}
  - {name: c, quantizer: {preset: atom-w4a4}, calibration: {text: text.txt}}
  - {name: d, quantizer: {preset: gptq-w4}}
  - {name: e, quantizer: {preset: gptq-w4}, calibration: {text: text.txt, tokens: 100000}}
  - {name: f, quantizer: {preset: rtn-w4, activation_bits: 4}}
  - {name: g, front: {quantizer: {preset: quarot-w4a4kv4}}, split_layer: 2, calibration: {text: text.txt}}
  - {name: h, quantizer: {preset: rtn-w4}}
`)
	_, err := NewWorkbench(Compute{}).Validate(s)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"q.yaml:5:26: method a: ", "nowhere.yaml: no such file",
		"q.yaml:6:26: method b: ", "text.txt: ",
		"q.yaml:7:26: method c: atom-w4a4 does not fit model tiny: self_attn.q_proj: 128 outlier columns of 64 inputs",
		"q.yaml:8:26: method d: quantizer gptq-w4 needs calibration",
		"q.yaml:9:58: method e: quantizer gptq-w4: windows of 100000 tokens",
		`q.yaml:10:26: method f: method "rtn-w4": activation: gptq quantizes weights alone`,
		"q.yaml:11:34: method g: quarot-w4a4kv4 rotates the residual stream",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 7 {
		t.Errorf("%d lines, expected 7:\n%v", len(lines), err)
	}
}

// TestQuantizerMemory: a plan counts the quantized models at float32, and each
// once.
func TestQuantizerMemory(t *testing.T) {
	s := writeFiles(t, t.TempDir(), quantizerSpec)
	w := NewWorkbench(Compute{})
	plan, err := MakePlan(w, s)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := w.Config(spec.Model{Path: "builtin:random-tiny"})
	if err != nil {
		t.Fatal(err)
	}
	_, total := cfg.ParameterCount()
	linear := int64(2*cfg.HiddenSize*cfg.QueryWidth() + 2*cfg.HiddenSize*cfg.KVWidth() + 3*cfg.HiddenSize*cfg.IntermediateSize)
	for _, c := range plan.Cells {
		want := 4 * total
		if c.Label == "fp32" {
			want = 0
		}
		if c.Memory.Quantised != want {
			t.Errorf("%s: %d bytes, expected %d", c.Label, c.Memory.Quantised, want)
		}
		if strings.HasPrefix(c.Label, "front") && (c.EdgeBits < 3*4*linear || c.EdgeBits > 3*5*linear) {
			t.Errorf("%s: %d bits of Eq. 1, expected three layers of 4 bits, %d weights each", c.Label, c.EdgeBits, linear)
		}
	}
}
