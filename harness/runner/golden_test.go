package runner

import (
	"bufio"
	"bytes"
	"compress/gzip"
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
	"splitbench/results"
	"splitbench/tasks"
)

// The limits of golden/lmeval/README.md.
const (
	logProbTolerance  = 1e-5 // of 1+|ll64|, per request
	blockTolerance    = 1e-5 // absolute, mean negative log-likelihood of a block
	documentTolerance = 1e-6 // relative, document log-likelihood
)

func sharedRoot(t testing.TB) string {
	t.Helper()
	root := os.Getenv("SPLITBENCH_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	abs, err := filepath.Abs(root)
	if err == nil {
		_, err = os.Stat(filepath.Join(abs, "golden"))
	}
	if err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data missing: %v", err)
		}
		t.Skipf("shared data missing (set SPLITBENCH_SHARED): %v", err)
	}
	return abs
}

// goldenModels are the models of golden/lmeval that this version runs.
func goldenModel(root, name string) spec.Model {
	switch name {
	case "stories260k":
		return spec.Model{Name: name, Path: filepath.Join(root, "data", "stories260k", "hf"), Tokenizer: filepath.Join(root, "data", "stories260k", "tok512.model")}
	case "babyllama105":
		return spec.Model{Name: name, Path: filepath.Join(root, "data", "babyllama105", "hf"), Tokenizer: filepath.Join(root, "data", "babyllama105", "tok105.model")}
	case "rand_llama3":
		return spec.Model{Name: name, Path: filepath.Join(root, "golden", "lmeval", "models", name), Tokenizer: filepath.Join(root, "data", "tok_llama3", "tokenizer.model")}
	case "rand_qwen2":
		return spec.Model{Name: name, Path: filepath.Join(root, "golden", "lmeval", "models", name), Tokenizer: filepath.Join(root, "data", "tok_qwen2")}
	case "rand_llama2":
		return spec.Model{Name: name, Path: filepath.Join(root, "golden", "lmeval", "models", name), Tokenizer: filepath.Join(root, "data", "tok_llama2", "tokenizer.model")}
	}
	panic(name)
}

// readLines decodes the JSON lines of a golden file, .gz or plain.
func readLines[T any](t testing.TB, path string) []T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(z); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	var out []T
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, len(data)+1)
	for sc.Scan() {
		var v T
		if err := json.Unmarshal(sc.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return out
}

// part is how many documents of a golden a test takes: all with
// SPLITBENCH_FULL=1, else the first few, which keep the suite short.
func part(all, few int) int {
	if os.Getenv("SPLITBENCH_FULL") == "1" {
		return all
	}
	return min(all, few)
}

type goldenDoc struct {
	Doc      int32     `json:"doc"`
	Gold     int32     `json:"gold"`
	Acc      float64   `json:"acc"`
	AccNorm  *float64  `json:"acc_norm"`
	AccBytes *float64  `json:"acc_bytes"`
	NCont    []int     `json:"n_cont"`
	LL       []float64 `json:"ll"`
	LL64     []float64 `json:"ll64"`
	Req      []struct {
		IDs         []int32 `json:"ids"`
		NCont       int     `json:"n_cont"`
		LL          float64 `json:"ll"`
		LL64        float64 `json:"ll64"`
		Greedy      bool    `json:"greedy"`
		DroppedLeft int32   `json:"dropped_left"`
	} `json:"req"`
}

func bench(t testing.TB) *Workbench {
	w := NewWorkbench(Compute{})
	t.Cleanup(func() { w.Close() })
	return w
}

// scoreAll runs a prepared task and returns its rows.
func scoreAll(t testing.TB, w *Workbench, c spec.Cell, p *Prepared) []results.Row {
	t.Helper()
	l, err := w.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	m, err := w.Method(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Engine.NewSession(m)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := scoreBlock(context.Background(), s, p.Units, "", Point(c, nil), false)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestGoldenSmallRuns compares every request of the small runs with the
// reference harness: token ids, truncation, log-likelihoods, greedy flags and
// per-document verdicts.
func TestGoldenSmallRuns(t *testing.T) {
	root := sharedRoot(t)
	w := bench(t)
	requests, worst := 0, 0.0
	for _, name := range []string{"stories260k", "babyllama105", "rand_llama2", "rand_llama3", "rand_qwen2"} {
		for _, protocol := range tasks.Protocols() {
			for _, task := range []string{"hellaswag", "piqa", "arc_easy", "arc_challenge", "boolq", "winogrande", "arc_letter"} {
				if task == "arc_letter" && protocol == tasks.Legacy {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", name, protocol, task), func(t *testing.T) {
					limit := 100
					if strings.HasPrefix(name, "rand_") {
						limit = 40
					}
					if task == "arc_letter" {
						limit = 50
					}
					c := spec.Cell{Model: goldenModel(root, name), Data: filepath.Join(root, "data"), Task: spec.Task{Name: task, Limit: spec.Limit{Docs: limit}}, Protocol: string(protocol)}
					p, err := w.Prepare(c)
					if err != nil {
						t.Fatal(err)
					}
					docs := readLines[goldenDoc](t, filepath.Join(root, "golden", "lmeval", "small", name, string(protocol), task+".jsonl.gz"))
					if len(docs) != len(p.Units) {
						t.Fatalf("%d documents, expected %d", len(p.Units), len(docs))
					}
					l, err := w.Open(c.Model)
					if err != nil {
						t.Fatal(err)
					}
					max := l.MaxLength
					for i, d := range docs {
						u := p.Units[i]
						if u.Rows[0].Doc != d.Doc || u.Doc.Label != int(d.Gold) || len(u.Requests) != len(d.Req) {
							t.Fatalf("unit %d is document %d (label %d, %d requests), expected %d (%d, %d)", i, u.Rows[0].Doc, u.Doc.Label, len(u.Requests), d.Doc, d.Gold, len(d.Req))
						}
						for k, r := range d.Req {
							want := r.IDs[len(r.IDs)-min(len(r.IDs), max+1):]
							got := append(slices.Clone(u.Requests[k].Input), u.Requests[k].Targets[len(u.Requests[k].Targets)-1])
							if !slices.Equal(got, want) || len(u.Requests[k].Targets) != r.NCont || u.Rows[k].DroppedLeft != r.DroppedLeft {
								t.Fatalf("document %d request %d: ids %v (%d scored, %d dropped), expected %v (%d, %d)", d.Doc, k, got, len(u.Requests[k].Targets), u.Rows[k].DroppedLeft, want, r.NCont, r.DroppedLeft)
							}
						}
					}
					few := 100
					switch name {
					case "babyllama105":
						few = 25 // a token per character: four times the work
					case "rand_llama3", "rand_qwen2":
						few = 8 // heads of 128,256 and 151,936 tokens
					}
					docs = docs[:part(len(docs), few)]
					some := &Prepared{Info: p.Info, Protocol: p.Protocol, Units: p.Units[:len(docs)]}
					rows := scoreAll(t, w, c, some)
					verdicts, err := judge(some, rows)
					if err != nil {
						t.Fatal(err)
					}
					next := 0
					for i, d := range docs {
						for k, r := range d.Req {
							row := rows[next]
							next++
							requests++
							dev := math.Abs(row.LogProb-r.LL64) / (1 + math.Abs(r.LL64))
							worst = math.Max(worst, dev)
							if dev > logProbTolerance || row.Greedy != r.Greedy {
								t.Errorf("document %d request %d: log-likelihood %v greedy %v, expected %v %v", d.Doc, k, row.LogProb, row.Greedy, r.LL64, r.Greedy)
							}
						}
						v := verdicts[i]
						if v.Acc != d.Acc || d.AccNorm != nil && v.AccNorm != *d.AccNorm || d.AccBytes != nil && v.AccBytes != *d.AccBytes {
							t.Errorf("document %d: acc %v, acc_norm %v, acc_bytes %v, expected %v, %v, %v", d.Doc, v.Acc, v.AccNorm, v.AccBytes, d.Acc, d.AccNorm, d.AccBytes)
						}
					}
				})
			}
		}
	}
	t.Logf("%d requests, largest deviation %.2g of the scale 1+|ll64| (allowed %.0g)", requests, worst, logProbTolerance)
}

// TestGoldenIDs scores stored token ids of a model whose tokenizer is of
// another family, and the edge cases of every model.
func TestGoldenIDs(t *testing.T) {
	root := sharedRoot(t)
	for _, name := range []string{"rand_llama3", "rand_qwen2", "stories260k", "babyllama105", "rand_llama2"} {
		dir := filepath.Join(root, "golden", "lmeval", "models", name)
		if name == "stories260k" || name == "babyllama105" {
			dir = filepath.Join(root, "data", name, "hf")
		}
		l, err := exec.Open(exec.Source{Path: dir})
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Engine.NewSession(exec.Method{})
		if err != nil {
			t.Fatal(err)
		}
		var reqs []exec.Request
		var want []float64
		add := func(context, continuation []int32, max int, ll float64) {
			in, targets, _, err := tasks.Input(tasks.Pair{Context: context, Continuation: continuation}, max)
			if err != nil {
				t.Fatal(err)
			}
			reqs, want = append(reqs, exec.Request{Input: in, Targets: targets}), append(want, ll)
		}
		for _, protocol := range []string{"joint-bos", "joint-nobos"} {
			type edge struct {
				MaxLength int      `json:"max_length"`
				Context   []int32  `json:"ctx_ids"`
				Scored    []int32  `json:"cont_ids"`
				LL64      *float64 `json:"ll64"`
			}
			for _, e := range readLines[edge](t, filepath.Join(root, "golden", "lmeval", "edges", name+"."+protocol+".jsonl")) {
				if e.LL64 == nil {
					continue
				}
				max := e.MaxLength
				if max == 0 {
					max = min(l.MaxLength, 512)
				}
				add(e.Context, e.Scored, max, *e.LL64)
			}
		}
		if name == "rand_llama3" || name == "rand_qwen2" {
			for _, task := range []string{"piqa", "arc_easy", "winogrande", "boolq"} {
				for _, d := range readLines[goldenDoc](t, filepath.Join(root, "golden", "lmeval", "small", name, "joint-bos", task+".jsonl.gz"))[:10] {
					for _, r := range d.Req {
						cut := len(r.IDs) - r.NCont
						add(r.IDs[:cut], r.IDs[cut:], l.MaxLength, r.LL64)
					}
				}
			}
		}
		answers, err := s.Score(context.Background(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for i, a := range answers {
			dev := math.Abs(a.LogProb-want[i]) / (1 + math.Abs(want[i]))
			worst = math.Max(worst, dev)
			if dev > logProbTolerance {
				t.Errorf("%s request %d: log-likelihood %v, expected %v", name, i, a.LogProb, want[i])
			}
		}
		t.Logf("%s: %d requests, largest deviation %.2g", name, len(reqs), worst)
		l.Close()
	}
}

// TestGoldenTruncation checks inputs that are cut on the left.
func TestGoldenTruncation(t *testing.T) {
	root := sharedRoot(t)
	w := bench(t)
	files, err := filepath.Glob(filepath.Join(root, "golden", "lmeval", "truncation", "*.jsonl.gz"))
	if err != nil || len(files) == 0 {
		t.Fatal("no truncation goldens")
	}
	for _, f := range files {
		parts := strings.Split(filepath.Base(f), ".")
		var max int
		if _, err := fmt.Sscanf(parts[2], "max%d", &max); err != nil {
			t.Fatal(err)
		}
		m := goldenModel(root, parts[0])
		m.MaxLength = max
		docs := readLines[goldenDoc](t, f)
		c := spec.Cell{Model: m, Data: filepath.Join(root, "data"), Task: spec.Task{Name: parts[1], Limit: spec.Limit{Docs: 30}}, Protocol: "joint-bos"}
		p, err := w.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Units) != len(docs) {
			t.Fatalf("%s: %d documents, expected %d", f, len(p.Units), len(docs))
		}
		rows := scoreAll(t, w, c, p)
		next, cut := 0, 0
		for i, d := range docs {
			for k, r := range d.Req {
				row := rows[next]
				next++
				if row.DroppedLeft > 0 {
					cut++
				}
				if row.DroppedLeft != r.DroppedLeft || math.Abs(row.LogProb-r.LL64) > logProbTolerance*(1+math.Abs(r.LL64)) {
					t.Errorf("%s unit %d request %d: %v (%d dropped), expected %v (%d)", filepath.Base(f), i, k, row.LogProb, row.DroppedLeft, r.LL64, r.DroppedLeft)
				}
			}
		}
		if cut == 0 {
			t.Errorf("%s: no request was cut", f)
		}
	}
}

// TestGoldenDocuments checks rolling perplexities, by document and window.
func TestGoldenDocuments(t *testing.T) {
	root := sharedRoot(t)
	w := bench(t)
	for _, g := range []struct {
		model, protocol, task, folder string
		docs                          int
	}{
		{"stories260k", "joint-bos", "wikitext", "wikitext", 4},
		{"stories260k", "joint-nobos", "wikitext", "wikitext", 2},
		{"stories260k", "legacy", "wikitext", "wikitext", 2},
		{"babyllama105", "joint-bos", "wikitext", "wikitext", 2},
		{"stories260k", "joint-bos", "c4_documents", "c4", 10},
		{"babyllama105", "joint-bos", "c4_documents", "c4", 10},
		{"rand_llama2", "joint-bos", "wikitext", "wikitext", 1},
	} {
		type doc struct {
			Doc     int32       `json:"doc"`
			Tokens  int32       `json:"tokens"`
			Windows [][]float64 `json:"windows"`
			Words   int32       `json:"words"`
			Bytes   int32       `json:"bytes"`
			LL64    float64     `json:"ll64"`
		}
		want := readLines[doc](t, filepath.Join(root, "golden", "lmeval", g.folder, g.model+"."+g.protocol+".jsonl.gz"))
		c := spec.Cell{Model: goldenModel(root, g.model), Data: filepath.Join(root, "data"), Task: spec.Task{Name: g.task}, Protocol: g.protocol}
		p, err := w.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		byDoc := map[int32]*Unit{}
		for i := range p.Units {
			byDoc[p.Units[i].Rows[0].Doc] = &p.Units[i]
		}
		chosen := &Prepared{Info: p.Info, Protocol: p.Protocol}
		for _, d := range want[:g.docs] {
			u := byDoc[d.Doc]
			if u == nil {
				t.Fatalf("%s %s: no document %d", g.model, g.task, d.Doc)
			}
			if len(u.Requests) != len(d.Windows) || u.Rows[0].Tokens != d.Tokens || u.Rows[0].Words != d.Words || u.Rows[0].Bytes != d.Bytes {
				t.Errorf("%s %s document %d: %d windows, %d tokens, %d words, %d bytes, expected %d, %d, %d, %d", g.model, g.task, d.Doc, len(u.Requests), u.Rows[0].Tokens, u.Rows[0].Words, u.Rows[0].Bytes, len(d.Windows), d.Tokens, d.Words, d.Bytes)
			}
			for k, win := range d.Windows {
				if r := u.Requests[k]; len(r.Targets) != int(win[1]) || len(r.Input) != int(win[0])+int(win[1])-1 {
					t.Errorf("%s %s document %d window %d: %d read, %d scored, expected %v", g.model, g.task, d.Doc, k, len(r.Input), len(r.Targets), win)
				}
			}
			chosen.Units = append(chosen.Units, *u)
		}
		rows := scoreAll(t, w, c, chosen)
		worst := 0.0
		for i, d := range want[:g.docs] {
			dev := math.Abs(rows[i].LogProb/d.LL64 - 1)
			worst = math.Max(worst, dev)
			if dev > documentTolerance {
				t.Errorf("%s %s %s document %d: %v, expected %v", g.model, g.protocol, g.task, d.Doc, rows[i].LogProb, d.LL64)
			}
		}
		t.Logf("%s %s %s: %d documents, largest relative deviation %.1g", g.model, g.protocol, g.task, g.docs, worst)
	}
}

// TestGoldenBlocks checks GPTQ-style perplexities block by block.
func TestGoldenBlocks(t *testing.T) {
	root := sharedRoot(t)
	w := bench(t)
	type golden struct {
		Kind   string       `json:"kind"`
		Model  string       `json:"model"`
		SeqLen int          `json:"seqlen"`
		Tokens int          `json:"tokens"`
		Total  int          `json:"blocks_total"`
		Blocks [][]*float64 `json:"blocks"`
	}
	files, err := filepath.Glob(filepath.Join(root, "golden", "lmeval", "gptq_ppl", "*.json.gz"))
	if err != nil || len(files) == 0 {
		t.Fatal("no block goldens")
	}
	for _, f := range files {
		g := readLines[golden](t, f)[0]
		names := map[string]string{"wikitext2": "wikitext2", "c4-old": "c4", "c4-new": "c4-new"}
		c := spec.Cell{Model: goldenModel(root, g.Model), Data: filepath.Join(root, "data"), Task: spec.Task{Name: names[g.Kind], Block: g.SeqLen}, Protocol: "joint-bos"}
		p, err := w.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		total := g.Total
		if g.Kind == "c4-old" {
			total = max(total, len(p.Units)) // the goldens of random models draw fewer windows
		}
		if len(p.Units) != total {
			t.Errorf("%s: %d blocks, expected %d", filepath.Base(f), len(p.Units), g.Total)
			continue
		}
		n := min(len(g.Blocks), 32)
		if strings.HasPrefix(g.Model, "rand_") {
			n = min(n, 3)
		}
		chosen := &Prepared{Info: p.Info, Protocol: p.Protocol, Units: p.Units[:n]}
		rows := scoreAll(t, w, c, chosen)
		worst := 0.0
		for i, r := range rows {
			want := *g.Blocks[i][2]
			dev := math.Abs(-r.LogProb/float64(r.Tokens) - want)
			worst = math.Max(worst, dev)
			if dev > blockTolerance {
				t.Errorf("%s block %d: %v, expected %v", filepath.Base(f), i, -r.LogProb/float64(r.Tokens), want)
			}
		}
		t.Logf("%s: %d blocks, largest deviation %.1g", filepath.Base(f), n, worst)
	}
}

// quantMethod is the method of a golden of rtn/ or split/.
func quantMethod(t *testing.T, kind, model, config string) spec.Method {
	t.Helper()
	w4g32, w4ch := spec.WeightCoder{Bits: 4, Group: 32}, spec.WeightCoder{Bits: 4}
	if kind == "rtn" {
		m := spec.Method{Name: config, Kind: spec.Weights}
		switch config {
		case "fp32":
			m.Kind = spec.Whole
		case "w4ch":
			m.Front = w4ch
		case "w3ch":
			m.Front = spec.WeightCoder{Bits: 3}
		case "w4g32":
			m.Front = w4g32
		case "w3g32":
			m.Front = spec.WeightCoder{Bits: 3, Group: 32}
		default:
			t.Fatalf("unknown configuration %s", config)
		}
		return m
	}
	m := spec.Method{Name: config, Kind: spec.Split, Front: w4g32, SplitLayer: 3, PrecisionLayer: 3}
	if model == "stories260k" {
		m.Front, m.SplitLayer, m.PrecisionLayer = w4ch, 4, 4
	}
	b := spec.Boundary{Codec: "literal", Tau: spec.Tau{By: spec.TauValue, Value: 5}, MaxActivationBits: 4, Delta: .2, Search: "tabq", StopRule: "last_ok", Comparison: "floor", LowerBound: 3, Granularity: "per_token", AboveType: "exact", SparseIndex: "compact", ScaleType: "float16", Restore: "center"}
	switch config {
	case "exact":
		return m
	case "q4":
	case "q8fixed":
		b.MaxActivationBits, b.Search = 8, "fixed"
	case "q8tabq":
		b.MaxActivationBits = 8
	case "q4_tau0.1":
		b.Tau.Value = .1
	case "q8tabq_tau0.1":
		b.MaxActivationBits, b.Tau.Value = 8, .1
	default:
		t.Fatalf("unknown configuration %s", config)
	}
	m.Boundary = &b
	return m
}

// TestGoldenQuantised checks quantised weights and the split pipeline. Codes
// near a rounding tie may fall on the other side in float32, so a split run
// has limits on the distribution of deviations (golden/lmeval/README.md).
func TestGoldenQuantised(t *testing.T) {
	root := sharedRoot(t)
	w := bench(t)
	for _, kind := range []string{"rtn", "split"} {
		files, err := filepath.Glob(filepath.Join(root, "golden", "lmeval", kind, "*.jsonl.gz"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no goldens in %s", kind)
		}
		for _, f := range files {
			base := strings.TrimSuffix(filepath.Base(f), ".jsonl.gz")
			model, rest, _ := strings.Cut(base, ".")
			cut := strings.LastIndexByte(rest, '.')
			config, task := rest[:cut], rest[cut+1:]
			t.Run(kind+"/"+base, func(t *testing.T) {
				c := spec.Cell{Model: goldenModel(root, model), Data: filepath.Join(root, "data"), Protocol: "joint-bos", Method: quantMethod(t, kind, model, config)}
				exact := kind == "rtn" || config == "exact"
				if task == "stories" {
					checkStories(t, w, c, root, f, exact)
					return
				}
				c.Task = spec.Task{Name: task, Limit: spec.Limit{Docs: 100}}
				p, err := w.Prepare(c)
				if err != nil {
					t.Fatal(err)
				}
				docs := readLines[goldenDoc](t, f)
				if len(docs) != len(p.Units) {
					t.Fatalf("%d documents, expected %d", len(p.Units), len(docs))
				}
				docs = docs[:part(len(docs), 20)]
				some := &Prepared{Info: p.Info, Protocol: p.Protocol, Units: p.Units[:len(docs)]}
				rows := scoreAll(t, w, c, some)
				verdicts, err := judge(some, rows)
				if err != nil {
					t.Fatal(err)
				}
				var devs []float64
				next, flips := 0, 0
				for i, d := range docs {
					for _, want := range d.LL64 {
						dev := math.Abs(rows[next].LogProb - want)
						if exact && dev > logProbTolerance*(1+math.Abs(want)) {
							t.Errorf("document %d: %v, expected %v", d.Doc, rows[next].LogProb, want)
						}
						devs = append(devs, dev)
						next++
					}
					if verdicts[i].Acc != d.Acc {
						flips++
					}
				}
				checkDeviations(t, devs, exact)
				if allowed := map[bool]int{true: 0, false: 2}[exact]; flips > allowed {
					t.Errorf("%d documents are judged differently, allowed %d", flips, allowed)
				}
			})
		}
	}
}

func checkDeviations(t *testing.T, devs []float64, exact bool) {
	t.Helper()
	slices.Sort(devs)
	median, p99, top := devs[len(devs)/2], devs[int(float64(len(devs))*.99)], devs[len(devs)-1]
	if !exact && (median > 1e-4 || p99 > .2 || top > .6) {
		t.Errorf("deviations: median %.2g, 99th percentile %.2g, largest %.2g, allowed 1e-4, 0.2, 0.6", median, p99, top)
	}
}

// storyPieces cuts tinystories_slice.txt as the goldens do: before every
// paragraph that begins with "Once upon a time".
func storyPieces(t *testing.T, root string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "data", "tinystories", "tinystories_slice.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out, cur []string
	for _, p := range strings.Split(string(data), "\n\n") {
		if strings.HasPrefix(p, "Once upon a time") && len(cur) > 0 {
			out = append(out, strings.TrimSpace(strings.Join(cur, "\n\n")))
			cur = nil
		}
		cur = append(cur, p)
	}
	return append(out, strings.TrimSpace(strings.Join(cur, "\n\n")))
}

func checkStories(t *testing.T, w *Workbench, c spec.Cell, root, file string, exact bool) {
	t.Helper()
	type story struct {
		Tokens int32   `json:"tokens"`
		LL64   float64 `json:"ll64"`
	}
	want := readLines[story](t, file)
	tok, err := w.Tokenizer(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.Open(c.Model)
	if err != nil {
		t.Fatal(err)
	}
	p := &Prepared{Info: tasks.Info{Kind: tasks.RollingPerplexity}, Protocol: tasks.JointBOS}
	n := part(75, 8)
	for i, text := range storyPieces(t, root)[:n] {
		u, err := rollingUnit(tasks.JointBOS, tok, &tasks.Doc{ID: i, Text: text}, l.MaxLength)
		if err != nil {
			t.Fatal(err)
		}
		if u.Rows[0].Tokens != want[i].Tokens {
			t.Fatalf("story %d has %d tokens, expected %d", i, u.Rows[0].Tokens, want[i].Tokens)
		}
		p.Units = append(p.Units, u)
	}
	for i, r := range scoreAll(t, w, c, p) {
		limit := 5e-6 * math.Abs(want[i].LL64)
		if !exact {
			limit = .6
		}
		if d := math.Abs(r.LogProb - want[i].LL64); d > limit {
			t.Errorf("story %d: %v, expected %v", i, r.LogProb, want[i].LL64)
		}
	}
}

// TestGoldenWholeTasks compares whole tasks: all that are stored with
// SPLITBENCH_FULL=1 (minutes of work), else the quickest two.
func TestGoldenWholeTasks(t *testing.T) {
	quick := []string{"stories260k.joint-bos.piqa.jsonl.gz", "stories260k.joint-bos.winogrande.jsonl.gz"}
	root := sharedRoot(t)
	w := bench(t)
	files, err := filepath.Glob(filepath.Join(root, "golden", "lmeval", "full", "*.jsonl.gz"))
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens of whole tasks")
	}
	for _, f := range files {
		if os.Getenv("SPLITBENCH_FULL") != "1" && !slices.Contains(quick, filepath.Base(f)) {
			continue
		}
		parts := strings.Split(filepath.Base(f), ".")
		t.Run(parts[0]+"/"+parts[2], func(t *testing.T) {
			c := spec.Cell{Model: goldenModel(root, parts[0]), Data: filepath.Join(root, "data"), Task: spec.Task{Name: parts[2]}, Protocol: parts[1]}
			p, err := w.Prepare(c)
			if err != nil {
				t.Fatal(err)
			}
			docs := readLines[goldenDoc](t, f)
			if len(docs) != len(p.Units) {
				t.Fatalf("%d documents, expected %d", len(p.Units), len(docs))
			}
			rows := scoreAll(t, w, c, p)
			verdicts, err := judge(p, rows)
			if err != nil {
				t.Fatal(err)
			}
			next, compared, worst := 0, 0, 0.0
			for i, d := range docs {
				for k := range d.LL {
					row := rows[next]
					next++
					if int(row.Tokens) != d.NCont[k] {
						t.Errorf("document %d request %d: %d tokens, expected %d", i, k, row.Tokens, d.NCont[k])
					}
					if len(d.LL64) == 0 {
						continue
					}
					dev := math.Abs(row.LogProb-d.LL64[k]) / (1 + math.Abs(d.LL64[k]))
					worst = math.Max(worst, dev)
					compared++
					if dev > logProbTolerance {
						t.Errorf("document %d request %d: %v, expected %v", i, k, row.LogProb, d.LL64[k])
					}
				}
				v := verdicts[i]
				if v.Acc != d.Acc || d.AccNorm != nil && v.AccNorm != *d.AccNorm || d.AccBytes != nil && v.AccBytes != *d.AccBytes {
					t.Errorf("document %d: acc %v, acc_norm %v, acc_bytes %v, expected %v, %v, %v", i, v.Acc, v.AccNorm, v.AccBytes, d.Acc, d.AccNorm, d.AccBytes)
				}
			}
			t.Logf("%d documents, %d log-likelihoods compared, largest deviation %.2g", len(docs), compared, worst)
		})
	}
}
