package tasks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The sha256 values and fake-score metrics are those that lm-evaluation-harness v0.3.0 stores in tests/testdata; HellaSwag's sha256 is
// that of the requests restored from llama.cpp's list (the original file is not at hand), its metrics are the stored ones.
var v030 = []struct {
	task, sha256       string
	acc, norm, stderr  float64
	normPrinted        bool
	word, byte_, inBit float64
}{
	{task: "piqa", sha256: "6048a3a2bb3ad1e6a3d98139618e06b4d7de766edd685bd38837596199c3f69f", acc: 0.514145810663765, norm: 0.5114254624591947, normPrinted: true, stderr: 0.011661154475524836},
	{task: "winogrande", sha256: "90a3eff49de9173964d46f5ed57bcf9a78a72dd1bfe0e5323b25cebb40b49ea9", acc: 0.516179952644041, stderr: 0.014045126130978606},
	{task: "boolq", sha256: "6577e0d88572772ef08e64f624c0e3df0953286ae1f118ccef15623b59ffeabf", acc: 0.5048929663608562, stderr: 0.00874463623355505},
	{task: "arc_easy", sha256: "ffa6e39a35a16299dcb015f17f986aaa598ad8b4840c4cebe0339a7042232741", acc: 0.2474747474747475, norm: 0.24074074074074073, normPrinted: true, stderr: 0.008855114414834707},
	{task: "arc_challenge", sha256: "41c34c96cca8ace661911d0033d630c554b283f5a3953bcdc50720ae6b00a9c1", acc: 0.24488054607508533, norm: 0.2440273037542662, normPrinted: true, stderr: 0.012566273985131354},
	{task: "hellaswag", acc: 0.24965146385182235, norm: 0.24756024696275641, normPrinted: true, stderr: 0.004319267432460666},
	{task: "wikitext", sha256: "b6f83e6cf7535ee41b0057c3e2ec2cf7f2fa5a9119b305c479a83091d1142b2c", word: 1.000118710696617, byte_: 1.0000221984224973, inBit: 3.202519859941674e-05},
}

func TestRequestsAndFakeScoresEqualV030(t *testing.T) {
	for _, want := range v030 {
		t.Run(want.task, func(t *testing.T) {
			ds := loadShared(t, want.task, Legacy, 0)
			if got := ds.RequestsSHA256(); want.sha256 != "" && got != want.sha256 {
				t.Errorf("requests sha256 %s, want %s", got, want.sha256)
			}
			fake := NewPyRandom(42)
			if ds.Kind == RollingPerplexity {
				var logProbs []float64
				var words, size []int
				for _, d := range ds.Docs {
					logProbs = append(logProbs, -fake.Float64())
					words, size = append(words, d.Words), append(size, d.Bytes)
				}
				p := DocumentPerplexity(logProbs, words, size)
				if p.Word != want.word || p.Byte != want.byte_ || p.BitsPerByte != want.inBit {
					t.Errorf("word %v byte %v bits %v, want %v %v %v", p.Word, p.Byte, p.BitsPerByte, want.word, want.byte_, want.inBit)
				}
				if p.Words != 241335 || p.Bytes != 1290527 {
					t.Errorf("%d words, %d bytes, want 241335 and 1290527", p.Words, p.Bytes)
				}
				return
			}
			var acc, norm []float64
			for _, d := range ds.Docs {
				scores := make([]ChoiceScore, len(d.Requests))
				for i := range scores {
					scores[i].LogProb = -fake.Float64()
				}
				r := Judge(ds.Info, Legacy, d, scores)
				acc, norm = append(acc, r.Acc), append(norm, r.AccNorm)
			}
			mean, stderr, ok := Mean(acc)
			if mean != want.acc || stderr != want.stderr || !ok {
				t.Errorf("acc %v ± %v, want %v ± %v", mean, stderr, want.acc, want.stderr)
			}
			if mean, _, _ := Mean(norm); want.normPrinted && mean != want.norm {
				t.Errorf("acc_norm %v, want %v", mean, want.norm)
			}
		})
	}
}

// The hellaswag digest of golden/lmeval/README.md: dataset rows shuffled as the section 9 recipe says.
func TestRestoredHellaswagRequests(t *testing.T) {
	const want = "a95c505e4ace4e226883d240b7bc385bcd953833f4fd8993f41c27b88e36b13f"
	if got := loadShared(t, "hellaswag", Legacy, 0).RequestsSHA256(); got != want {
		t.Errorf("requests sha256 %s, want %s", got, want)
	}
}

func TestDigestIsTheFilesSHA256(t *testing.T) {
	sums := make(map[string]string)
	for _, line := range readLines(t, shared(t, "data", "SHA256SUMS"), false) {
		if f := strings.Fields(string(line)); len(f) == 2 {
			sums[strings.TrimPrefix(f[1], "*")] = f[0]
		}
	}
	for task, file := range map[string]string{
		"hellaswag": "hellaswag/hellaswag_val_full.txt.bz2", "arc_easy": "arc/ARC-Easy-Test.jsonl", "boolq": "boolq/superglue_val.jsonl",
		"wikitext2": "wikitext2/wiki.test.raw",
	} {
		ds := loadShared(t, task, JointBOS, 0)
		if want := sums[file]; want == "" || ds.Digest != want {
			t.Errorf("%s: digest %s, SHA256SUMS says %q", task, ds.Digest, want)
		}
	}
	// Two files: the SHA-256 of both digests, a line each.
	ds := loadShared(t, "piqa", JointBOS, 0)
	both := sha256.Sum256([]byte(sums["piqa/valid.jsonl"] + "\n" + sums["piqa/valid-labels.lst"] + "\n"))
	if want := hex.EncodeToString(both[:]); ds.Digest != want || len(ds.Files) != 2 {
		t.Errorf("piqa: digest %s of %q, want %s", ds.Digest, ds.Files, want)
	}
}

type goldenRequests struct {
	Doc, Gold int
	Req       [][2]string
}

// requestTexts are the texts that lm-evaluation-harness itself built from the same rows.
func TestRequestTextsEqualGolden(t *testing.T) {
	for _, task := range []string{"hellaswag", "piqa", "arc_easy", "arc_challenge", "arc_letter", "boolq", "winogrande"} {
		for _, p := range []Protocol{JointBOS, Legacy} {
			name := task
			if p == Legacy {
				if task == "arc_letter" {
					continue
				}
				name = "legacy_" + task
			}
			t.Run(name, func(t *testing.T) {
				golden := jsonLines[goldenRequests](t, shared(t, "golden", "lmeval", "requests", name+".jsonl.gz"))
				ds := loadShared(t, task, p, Limit(len(golden)))
				var got []goldenRequests
				for _, d := range ds.Docs {
					g := goldenRequests{Doc: d.ID, Gold: d.Label}
					for _, r := range d.Requests {
						g.Req = append(g.Req, [2]string{r.Context, r.Continuation})
					}
					got = append(got, g)
					if d.Requests[d.Gold].Continuation == "" {
						t.Errorf("doc %d: gold %d", d.ID, d.Gold)
					}
				}
				if diff := cmp.Diff(golden, got); diff != "" {
					t.Errorf("requests differ (-golden +got):\n%.2000s", diff)
				}
			})
		}
	}
}

// Gold must point at the right request in both orders of BoolQ.
func TestBoolQGold(t *testing.T) {
	for _, p := range Protocols() {
		for _, d := range loadShared(t, "boolq", p, 0).Docs {
			want := " no"
			if d.Label == 1 {
				want = " yes"
			}
			if got := d.Requests[d.Gold].Continuation; got != want {
				t.Fatalf("%s doc %d: gold request %q, want %q", p, d.ID, got, want)
			}
		}
	}
}

// The worked examples of the reference's section 10.
func TestWorkedExamples(t *testing.T) {
	examples := []struct {
		task          string
		doc, gold     int
		context       string
		continuations []string
	}{
		{"piqa", 0, 0, "Question: How do I ready a guinea pig cage for it's new occupants?\nAnswer:", []string{
			" Provide the guinea pig with a cage full of a few inches of bedding made of ripped paper strips, you will also need to supply it with a water bottle and a food dish.",
			" Provide the guinea pig with a cage full of a few inches of bedding made of ripped jeans material, you will also need to supply it with a water bottle and a food dish."}},
		{"piqa", 1, 1, "Question: dresser\nAnswer:", []string{" replace drawer with bobby pin ", " finish, woodgrain with  bobby pin "}},
		{"arc_easy", 1, 1, "Question: Which piece of safety equipment is used to keep mold spores from entering the respiratory system?\nAnswer:",
			[]string{" safety goggles", " breathing mask", " rubber gloves", " lead apron"}},
		{"arc_challenge", 0, 2, "Question: An astronomer observes that a planet rotates faster after a meteorite impact. Which is the most likely effect of this increase in rotation?\nAnswer:",
			[]string{" Planetary density will decrease.", " Planetary years will become longer.", " Planetary days will become shorter.", " Planetary gravity will become stronger."}},
		{"hellaswag", 0, 3, "Roof shingle removal: A man is sitting on a roof. He", []string{
			" is using wrap to wrap a pair of skis.", " is ripping level tiles off.", " is holding a rubik's cube.", " starts pulling up roofing on a roof."}},
		{"hellaswag", 1, 3, "Clean and jerk: A lady walks to a barbell. She bends down and grabs the pole. The lady", []string{
			" swings and lands in her arms.", " pulls the barbell forward.", " pulls a rope attached to the barbell.", " stands and lifts the weight over her head."}},
	}
	for _, e := range examples {
		d := loadShared(t, e.task, JointBOS, Limit(e.doc+1)).Docs[e.doc]
		var got []string
		for _, r := range d.Requests {
			if r.Context != e.context {
				t.Errorf("%s %d: context %q, want %q", e.task, e.doc, r.Context, e.context)
			}
			got = append(got, r.Continuation)
		}
		if diff := cmp.Diff(e.continuations, got); diff != "" || d.Gold != e.gold {
			t.Errorf("%s %d: gold %d, want %d; %s", e.task, e.doc, d.Gold, e.gold, diff)
		}
	}
	for i, want := range []struct {
		gold int
		cont string
	}{{1, " always got the easier cases."}, {0, " always got the harder cases."}} {
		d := loadShared(t, "winogrande", JointBOS, 2).Docs[i]
		reqs := []Request{{"Sarah was a much better surgeon than Maria so Sarah", want.cont}, {"Sarah was a much better surgeon than Maria so Maria", want.cont}}
		if diff := cmp.Diff(reqs, d.Requests); diff != "" || d.Gold != want.gold {
			t.Errorf("winogrande %d: gold %d; %s", i, d.Gold, diff)
		}
	}
	if d := loadShared(t, "boolq", JointBOS, 1).Docs[0]; d.Label != 0 || !strings.HasPrefix(d.Requests[0].Context, "Ethanol fuel -- All biomass goes") ||
		!strings.HasSuffix(d.Requests[0].Context, "\nQuestion: does ethanol take more energy make that produces?\nAnswer:") {
		t.Errorf("boolq 0: label %d, context %q", d.Label, d.Requests[0].Context)
	}
	if d := loadShared(t, "wikitext", JointBOS, 1).Docs[0]; !strings.HasPrefix(d.Original, " = Robert Boulter = \n \n Robert Boulter is an English film , television and theatre actor . He had a guest @-@ starring role") ||
		!strings.Contains(d.Text, "film, television and theatre actor. He had a guest-starring role") {
		t.Errorf("wikitext 0: %.200q -> %.200q", d.Original, d.Text)
	}
}

type goldenDocument struct {
	Doc     int
	SHA256  string `json:"text_sha256"`
	Tokens  int
	Windows [][]float64
	Words   int
	Bytes   int
}

// Texts, words, bytes and windows of the document-level perplexities, against lm-evaluation-harness's own run.
func TestDocumentsAndWindowsEqualGolden(t *testing.T) {
	maxLength := map[string]int{"stories260k": 512, "babyllama105": 256, "rand_llama2": 2048, "rand_qwen2": 256}
	for task, folder := range map[string]string{"wikitext": "wikitext", "c4_documents": "c4"} {
		ds := loadShared(t, task, JointBOS, 0)
		files, err := filepath.Glob(shared(t, "golden", "lmeval", folder, "*.jsonl.gz"))
		if err != nil || len(files) < 2 {
			t.Fatalf("golden files: %v %v", files, err)
		}
		for _, file := range files {
			model, _, _ := strings.Cut(filepath.Base(file), ".")
			length := maxLength[model]
			for _, g := range jsonLines[goldenDocument](t, file) {
				d := ds.Docs[g.Doc]
				sum := sha256.Sum256([]byte(d.Text))
				if hex.EncodeToString(sum[:]) != g.SHA256 || d.Words != g.Words || d.Bytes != g.Bytes {
					t.Errorf("%s %d: text %x, %d words, %d bytes; golden %s, %d, %d", file, g.Doc, sum, d.Words, d.Bytes, g.SHA256, g.Words, g.Bytes)
				}
				tokens := make([]int32, g.Tokens)
				for i := range tokens {
					tokens[i] = int32(i)
				}
				next := int32(0)
				windows := RollingWindows(tokens, -1, length)
				if len(windows) != len(g.Windows) {
					t.Fatalf("%s %d: %d windows, golden %d", file, g.Doc, len(windows), len(g.Windows))
				}
				for i, w := range windows {
					// lm-eval's context is the input less the rows that predict all targets but the first.
					context := len(w.Input) - (len(w.Targets) - 1)
					if context != int(g.Windows[i][0]) || len(w.Targets) != int(g.Windows[i][1]) {
						t.Fatalf("%s %d window %d: [%d %d], golden %v", file, g.Doc, i, context, len(w.Targets), g.Windows[i])
					}
					for _, v := range w.Targets {
						if v != next {
							t.Fatalf("%s %d window %d: target %d, want %d", file, g.Doc, i, v, next)
						}
						next++
					}
					if last := len(w.Input) - 1; w.Input[last] != next-2 {
						t.Fatalf("%s %d window %d: last input %d, want %d", file, g.Doc, i, w.Input[last], next-2)
					}
				}
			}
		}
	}
}

func TestGPTQText(t *testing.T) {
	ds, err := Load("wikitext2", Options{Path: shared(t, "data", "wikitext2", "wiki.test.raw")})
	if err != nil {
		t.Fatal(err)
	}
	text := ds.Docs[0].Text
	sum := sha256.Sum256([]byte(text))
	if got := hex.EncodeToString(sum[:]); len(text) != 1296370 || got != "696cca6b65a171b0a358a4be6732cdfdf2dd6164a32e20fd70e3c13fc4dfae83" {
		t.Errorf("%d bytes, sha256 %s", len(text), got)
	}
}

type goldenScores struct {
	Doc, Gold int
	Acc       float64
	Norm      *float64 `json:"acc_norm"`
	Bytes     *float64 `json:"acc_bytes"`
	LL        []float64
}

// Metrics per document and their means over whole tasks, from the reference harness's own log-likelihoods.
func TestJudgeAndMeanEqualGolden(t *testing.T) {
	var summary []map[string]any
	readJSON(t, shared(t, "golden", "lmeval", "summary_full.json"), &summary)
	if len(summary) < 10 {
		t.Fatalf("%d summaries", len(summary))
	}
	for _, s := range summary {
		model, task := s["model"].(string), s["task"].(string)
		ds := loadShared(t, task, JointBOS, 0)
		sums := make(map[string][]float64)
		for _, g := range jsonLines[goldenScores](t, shared(t, "golden", "lmeval", "full", model+".joint-bos."+task+".jsonl.gz")) {
			d := ds.Docs[g.Doc]
			var scores []ChoiceScore
			for _, l := range g.LL {
				scores = append(scores, ChoiceScore{LogProb: l})
			}
			r := Judge(ds.Info, JointBOS, d, scores)
			if d.Label != g.Gold || r.Acc != g.Acc || g.Norm != nil && r.AccNorm != *g.Norm || g.Bytes != nil && r.AccBytes != *g.Bytes {
				t.Fatalf("%s %s doc %d: %+v label %d, golden %+v", model, task, g.Doc, r, d.Label, g)
			}
			for _, m := range ds.Metrics {
				v, ok := r.Metric(m)
				if !ok {
					t.Fatalf("metric %s", m)
				}
				sums[m] = append(sums[m], v)
			}
		}
		for m, xs := range sums {
			mean, stderr, ok := Mean(xs)
			if !ok || math.Abs(mean-s[m].(float64)) > 1e-12 || math.Abs(stderr-s[m+"_stderr"].(float64)) > 1e-12 {
				t.Errorf("%s %s %s: %v ± %v, golden %v ± %v", model, task, m, mean, stderr, s[m], s[m+"_stderr"])
			}
		}
	}
}

// The legacy half: the same with yes before no in BoolQ, from the small runs.
func TestJudgeLegacyEqualsGolden(t *testing.T) {
	type request struct{ LL float64 }
	type document struct {
		Doc, Gold int
		Acc       float64
		Norm      *float64 `json:"acc_norm"`
		Req       []request
	}
	for _, task := range []string{"hellaswag", "piqa", "arc_easy", "arc_challenge", "boolq", "winogrande"} {
		ds := loadShared(t, task, Legacy, 0)
		byID := make(map[int]Doc)
		for _, d := range ds.Docs {
			byID[d.ID] = d
		}
		for _, model := range []string{"stories260k", "rand_llama2"} {
			for _, g := range jsonLines[document](t, shared(t, "golden", "lmeval", "small", model, "legacy", task+".jsonl.gz")) {
				var scores []ChoiceScore
				for _, r := range g.Req {
					scores = append(scores, ChoiceScore{LogProb: r.LL})
				}
				r := Judge(ds.Info, Legacy, byID[g.Doc], scores)
				if r.Acc != g.Acc || g.Norm != nil && r.AccNorm != *g.Norm || byID[g.Doc].Label != g.Gold {
					t.Fatalf("%s %s doc %d: %+v, golden %+v", model, task, g.Doc, r, g)
				}
			}
		}
	}
}

func TestBlockPerplexityEqualsGolden(t *testing.T) {
	files, err := filepath.Glob(shared(t, "golden", "lmeval", "gptq_ppl", "*.json.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v", err)
	}
	for _, file := range files {
		var g struct {
			PPL    float64
			Blocks [][3]*float64
		}
		readJSON(t, file, &g)
		var nll []float64
		for _, b := range g.Blocks {
			nll = append(nll, *b[1])
		}
		if got := BlocksPerplexity(nll); math.Abs(got/g.PPL-1) > 1e-12 {
			t.Errorf("%s: %v, golden %v", file, got, g.PPL)
		}
	}
}

// counter is a tokenizer that gives each text a known number of tokens, so that cuts can be followed: text i has ids i<<16, i<<16+1, ….
type counter map[string][2]int

func (c counter) Encode(text string, special bool) []int32 {
	e, ok := c[text]
	if !ok || !special {
		panic(fmt.Sprintf("unexpected call for %.40q", text))
	}
	out := make([]int32, e[1])
	for i := range out {
		out[i] = int32(e[0]<<16 + i)
	}
	return out
}
func (counter) BOS() (int32, bool) { return 0, false }
func (counter) EOS() (int32, bool) { return 0, false }
func (counter) BOSText() string    { return "" }

// Draws, token counts and block counts of the three block perplexities, given the documents' token counts.
func TestBlocksEqualGolden(t *testing.T) {
	files, err := filepath.Glob(shared(t, "golden", "lmeval", "gptq_ppl", "*.json.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v", err)
	}
	names := map[string]string{"c4-old": "c4", "c4-new": "c4-new", "wikitext2": "wikitext2"}
	for _, file := range files {
		var g struct {
			Kind                 string
			Seqlen, Tokens, Seed int
			Total                int      `json:"blocks_total"`
			Draws                [][2]int `json:"draws_doc_start"`
			DocTokens            []int    `json:"doc_tokens"`
		}
		readJSON(t, file, &g)
		limit := Limit(0)
		if g.Kind == "c4-old" {
			limit = Limit(len(g.Draws))
		}
		ds := loadShared(t, names[g.Kind], JointBOS, limit)
		tok := make(counter)
		switch g.Kind {
		case "c4-old":
			for i, d := range ds.Docs {
				tok[d.Text] = [2]int{i, g.DocTokens[i]}
			}
		case "c4-new":
			var texts []string
			for _, d := range ds.Docs {
				texts = append(texts, d.Text)
			}
			// The golden token count is that after the cut to 256 blocks; more tokens before it must change nothing.
			tok[strings.Join(texts, " ")] = [2]int{0, g.Tokens}
		default:
			tok[ds.Docs[0].Text] = [2]int{0, g.Tokens}
		}
		blocks, info, err := Blocks(tok, ds, g.Seqlen, g.Seed)
		if err != nil {
			t.Fatal(err)
		}
		if g.Kind == "c4-old" {
			if diff := cmp.Diff(g.Draws, info.Draws); diff != "" {
				t.Errorf("%s: draws differ (-golden +got):\n%.500s", file, diff)
			}
			for i, b := range blocks {
				first := int32(g.Draws[i][0]<<16 + g.Draws[i][1])
				if len(b) != g.Seqlen || b[0] != first || b[len(b)-1] != first+int32(g.Seqlen)-1 {
					t.Fatalf("%s: block %d is %d tokens from %d, want %d from %d", file, i, len(b), b[0], g.Seqlen, first)
				}
			}
			continue
		}
		if info.Tokens != g.Tokens || info.Total != g.Total || len(blocks) != g.Total {
			t.Errorf("%s: %d tokens, %d blocks; golden %d, %d", file, info.Tokens, info.Total, g.Tokens, g.Total)
		}
		for i, b := range blocks {
			if len(b) != g.Seqlen || b[0] != int32(i*g.Seqlen) {
				t.Fatalf("%s: block %d begins at token %d", file, i, b[0])
			}
		}
	}
}

// HellaSwag in the Hugging Face layout must give the requests that lm-eval's own process_docs gave. The golden queries are taken apart
// into raw columns: WikiHow's headings and steps get their brackets back, ActivityNet's last sentence its lower case.
func TestHellaswagRawLayoutEqualsGolden(t *testing.T) {
	for _, name := range []string{"hellaswag", "hellaswag_wikihow"} {
		golden := jsonLines[goldenRequests](t, shared(t, "golden", "lmeval", "requests", name+".jsonl.gz"))
		var file bytes.Buffer
		quote := func(s string) string { return string(AppendJSONString(nil, s)) }
		for _, g := range golden {
			activity, ctxA, _ := strings.Cut(g.Req[0][0], ": ")
			ctxB := ""
			var endings []string
			if name == "hellaswag" {
				if i := strings.LastIndex(ctxA, ". "); i > 0 {
					ctxA, ctxB = ctxA[:i+1], strings.ToLower(ctxA[i+2:i+3])+ctxA[i+3:]
				}
			} else {
				if title, rest, ok := strings.Cut(ctxA, ". "); ok {
					ctxA = "[header] " + title + " [title] " + rest
				}
				// "[header] " leaves a leading space behind the colon, which the single pass of P closes up.
			}
			for _, r := range g.Req {
				e := strings.TrimPrefix(r[1], " ")
				if strings.HasPrefix(e, " ") {
					e = "[substeps]" + e
				}
				endings = append(endings, quote(e))
			}
			fmt.Fprintf(&file, `{"ind": %d, "activity_label": %s, "ctx_a": %s, "ctx_b": %s, "endings": [%s], "label": "%d"}`+"\n",
				g.Doc, quote(activity), quote(ctxA), quote(ctxB), strings.Join(endings, ", "), g.Gold)
		}
		dir := write(t, map[string]string{"validation.jsonl": file.String()})
		ds, err := Load("hellaswag", Options{Path: dir, Protocol: JointNoBOS})
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range ds.Docs {
			for j, r := range d.Requests {
				if want := golden[i].Req[j]; r.Context != want[0] || r.Continuation != want[1] || d.Gold != golden[i].Gold {
					t.Fatalf("%s row %d choice %d: %q %q, golden %q", name, i, j, r.Context, r.Continuation, want)
				}
			}
		}
	}
}

func TestPyRandomVectors(t *testing.T) {
	// Vectors of CPython's random module.
	r := NewPyRandom(42)
	for _, want := range []float64{0.6394267984578837, 0.025010755222666936, 0.27502931836911926} {
		if got := r.Float64(); got != want {
			t.Errorf("seed 42: %v, want %v", got, want)
		}
	}
	xs := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	NewPyRandom(42).Shuffle(len(xs), func(i, j int) { xs[i], xs[j] = xs[j], xs[i] })
	if diff := cmp.Diff([]int{7, 3, 2, 8, 5, 6, 9, 4, 0, 1}, xs); diff != "" {
		t.Error(diff)
	}
	for seed, want := range map[int64][]int{0: {1615835, 1764005, 169803, 1085975}, 2: {237193, 384134, 355978, 1514384}} {
		r := NewPyRandom(seed)
		for _, w := range want {
			if got := r.Int(0, 2800000); got != w {
				t.Errorf("seed %d: %d, want %d", seed, got, w)
			}
		}
	}
	// random.Random(-3).random() and getrandbits(40), getrandbits(64) of Random(7), by CPython 3.11.
	if got := NewPyRandom(-3).Float64(); got != 0.23796462709189137 {
		t.Errorf("seed -3: %v", got)
	}
	r = NewPyRandom(7)
	if a, b, c := r.Bits(40), r.Bits(64), r.Bits(0); a != 1040772936760 || b != 7283207964119141687 || c != 0 {
		t.Errorf("bits %d %d %d", a, b, c)
	}
}

func TestPyRandomGolden(t *testing.T) {
	path := shared(t, "golden", "quant", "mt19937.json")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	var g struct {
		Vectors []map[string]any
		Windows []struct {
			L, Seed int
			N       int `json:"N"`
			Count   int `json:"n"`
			Starts  []int
		}
		Rule []struct {
			L, Seed int
			Draws   [][2]int `json:"document_and_start"`
		} `json:"c4_rule"`
		Lengths []int `json:"c4_rule_document_lengths"`
	}
	readJSON(t, path, &g)
	if len(g.Vectors) != 5 || len(g.Windows) == 0 || len(g.Rule) == 0 {
		t.Fatal("golden file has another shape")
	}
	for _, v := range g.Vectors {
		r := NewPyRandom(int64(v["seed"].(float64)))
		for i, want := range v["random"].([]any) {
			if got := r.Float64(); got != want.(float64) {
				t.Errorf("seed %v random %d: %v, want %v", v["seed"], i, got, want)
			}
		}
		for _, n := range []int{1, 2, 3, 10, 1000, 1 << 20, 1<<20 + 1, 1<<31 - 1, 1<<32 - 1} {
			for _, want := range v[fmt.Sprintf("randbelow_%d", n)].([]any) {
				if got := r.Below(n); got != int(want.(float64)) {
					t.Errorf("seed %v below %d: %d, want %v", v["seed"], n, got, want)
				}
			}
		}
		order := make([]int, 50)
		for i := range order {
			order[i] = i
		}
		r.Shuffle(50, func(i, j int) { order[i], order[j] = order[j], order[i] })
		for i, want := range v["shuffle_50_after_the_above"].([]any) {
			if order[i] != int(want.(float64)) {
				t.Fatalf("seed %v: shuffle %v", v["seed"], order)
			}
		}
	}
	for _, w := range g.Windows {
		r := NewPyRandom(int64(w.Seed))
		for i, want := range w.Starts {
			if got := r.Int(0, w.N-w.L-1); got != want {
				t.Fatalf("seed %d N %d L %d start %d: %d, want %d", w.Seed, w.N, w.L, i, got, want)
			}
		}
	}
	for _, rule := range g.Rule {
		got, err := drawWindows(rule.Seed, len(g.Lengths), len(rule.Draws), rule.L, func(doc int) int { return g.Lengths[doc] })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(rule.Draws, got); diff != "" {
			t.Errorf("seed %d: draws differ (-golden +got):\n%s", rule.Seed, diff)
		}
	}
}

func BenchmarkLoadHellaswag(b *testing.B) {
	path := shared(b, "data", "hellaswag", "hellaswag_val_full.txt.bz2")
	for b.Loop() {
		if _, err := Load("hellaswag", Options{Path: path, Protocol: JointBOS}); err != nil {
			b.Fatal(err)
		}
	}
}
