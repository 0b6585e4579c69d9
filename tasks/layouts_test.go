package tasks

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

// Rows in the Hugging Face column layout, written as parquet by the field's Go library and as JSON lines.
type (
	hellaswagRow struct {
		Ind           int32    `parquet:"ind" json:"ind"`
		ActivityLabel string   `parquet:"activity_label" json:"activity_label"`
		CtxA          string   `parquet:"ctx_a" json:"ctx_a"`
		CtxB          string   `parquet:"ctx_b" json:"ctx_b"`
		Endings       []string `parquet:"endings,list" json:"endings"`
		Label         string   `parquet:"label,dict" json:"label"`
	}
	piqaRow struct {
		Goal  string `parquet:"goal,plain" json:"goal"`
		Sol1  string `parquet:"sol1,plain" json:"sol1"`
		Sol2  string `parquet:"sol2,plain" json:"sol2"`
		Label int64  `parquet:"label" json:"label"`
	}
	arcRowElement struct {
		ID       string `parquet:"id" json:"id"`
		Question string `parquet:"question" json:"question"`
		Choices  struct {
			Text  []string `parquet:"text,list" json:"text"`
			Label []string `parquet:"label,list" json:"label"`
		} `parquet:"choices" json:"choices"`
		AnswerKey string `parquet:"answerKey" json:"answerKey"`
	}
	items struct {
		List []struct {
			Item string `parquet:"item"`
		} `parquet:"list"`
	}
	// arcRowItem is what older writers make: the inner column is called item.
	arcRowItem struct {
		Question string `parquet:"question"`
		Choices  struct {
			Text  items `parquet:"text,optional"`
			Label items `parquet:"label,optional"`
		} `parquet:"choices,optional"`
		AnswerKey string `parquet:"answerKey,optional"`
	}
	boolqRow struct {
		Question string `parquet:"question,optional" json:"question"`
		Passage  string `parquet:"passage,optional" json:"passage"`
		Idx      int32  `parquet:"idx,optional" json:"idx"`
		Label    int64  `parquet:"label" json:"label"`
	}
	winograndeRow struct {
		Sentence string `parquet:"sentence" json:"sentence"`
		Option1  string `parquet:"option1" json:"option1"`
		Option2  string `parquet:"option2" json:"option2"`
		Answer   string `parquet:"answer" json:"answer"`
	}
	pageRow struct {
		Page string `parquet:"page" json:"page"`
	}
	textRow struct {
		Text string `parquet:"text" json:"text"`
		URL  string `parquet:"url" json:"url"`
	}
)

func parquetBytes[T any](t testing.TB, rows []T, codec compress.Codec, version int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(4096), parquet.MaxRowsPerRowGroup(700))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jsonlBytes[T any](t testing.TB, rows []T) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, r := range rows {
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func gzipBytes(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// between returns the context's text between two marks.
func between(s, before, after string) string {
	s = strings.TrimPrefix(s, before)
	return strings.TrimSuffix(s, after)
}

// Every Hugging Face layout must give the very requests of the official layout, whose digest is checked against v0.3.0.
func TestHuggingFaceLayoutsEqualOfficialOnes(t *testing.T) {
	check := func(t *testing.T, task, file string, content []byte, want *Dataset) {
		t.Helper()
		path := filepath.Join(t.TempDir(), file)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := Load(task, Options{Path: path, Protocol: want.Protocol})
		if err != nil {
			t.Fatal(err)
		}
		if got.Total != want.Total || !reflect.DeepEqual(got.Docs, want.Docs) {
			t.Errorf("%s %s: documents differ: %.1000s", task, file, cmp.Diff(want.Docs[:3], got.Docs[:3]))
		}
	}
	t.Run("piqa", func(t *testing.T) {
		want := loadShared(t, "piqa", JointBOS, 0)
		var rows []piqaRow
		for _, d := range want.Docs {
			rows = append(rows, piqaRow{between(d.Requests[0].Context, "Question: ", "\nAnswer:"), d.Choices[0], d.Choices[1], int64(d.Gold)})
		}
		check(t, "piqa", "validation.jsonl", jsonlBytes(t, rows), want)
		check(t, "piqa", "validation.jsonl.gz", gzipBytes(t, jsonlBytes(t, rows)), want)
		for name, codec := range map[string]compress.Codec{"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip, "zstd": &parquet.Zstd} {
			for version := 1; version <= 2; version++ {
				check(t, "piqa", fmt.Sprintf("%s-%d.parquet", name, version), parquetBytes(t, rows, codec, version), want)
			}
		}
	})
	t.Run("arc", func(t *testing.T) {
		want := loadShared(t, "arc_challenge", JointBOS, 0)
		var rows []arcRowElement
		var old []arcRowItem
		for _, d := range want.Docs {
			r := arcRowElement{ID: "x", Question: between(d.Requests[0].Context, "Question: ", "\nAnswer:")}
			r.Choices.Text = d.Choices
			o := arcRowItem{Question: r.Question}
			for i, c := range d.Choices {
				label := string(rune('1' + i))
				r.Choices.Label = append(r.Choices.Label, label)
				o.Choices.Text.List = append(o.Choices.Text.List, struct {
					Item string `parquet:"item"`
				}{c})
				o.Choices.Label.List = append(o.Choices.Label.List, struct {
					Item string `parquet:"item"`
				}{label})
			}
			r.AnswerKey = string(rune('1' + d.Gold))
			o.AnswerKey = r.AnswerKey
			rows, old = append(rows, r), append(old, o)
		}
		check(t, "arc_challenge", "test.jsonl", jsonlBytes(t, rows), want)
		check(t, "arc_challenge", "element.parquet", parquetBytes(t, rows, &parquet.Snappy, 1), want)
		check(t, "arc_challenge", "item.parquet", parquetBytes(t, old, &parquet.Snappy, 1), want)
		check(t, "arc_letter", "item.parquet", parquetBytes(t, old, &parquet.Snappy, 2), loadShared(t, "arc_letter", JointBOS, 0))
	})
	t.Run("boolq", func(t *testing.T) {
		want := loadShared(t, "boolq", Legacy, 0)
		byRow := make([]boolqRow, want.Total)
		for _, d := range want.Docs {
			passage, question, _ := strings.Cut(d.Requests[0].Context, "\nQuestion: ")
			byRow[d.ID] = boolqRow{between(question, "", "?\nAnswer:"), passage, int32(d.ID), int64(d.Label)}
		}
		check(t, "boolq", "validation.jsonl", jsonlBytes(t, byRow), want)
		check(t, "boolq", "validation.parquet", parquetBytes(t, byRow, &parquet.Snappy, 1), want)
	})
	t.Run("winogrande", func(t *testing.T) {
		want := loadShared(t, "winogrande", JointBOS, 0)
		rows := jsonLines[winograndeRow](t, shared(t, "data", "winogrande", "validation.jsonl"))
		check(t, "winogrande", "validation.parquet", parquetBytes(t, rows, &parquet.Snappy, 1), want)
	})
	t.Run("hellaswag", func(t *testing.T) {
		// Rows without brackets or double spaces come through the clean-up unchanged, except those that end in white space.
		list := loadShared(t, "hellaswag", JointBOS, 100)
		var rows []hellaswagRow
		for _, d := range list.Docs {
			activity, ctx, _ := strings.Cut(d.Requests[0].Context, ": ")
			rows = append(rows, hellaswagRow{int32(d.ID), activity, ctx, "", d.Choices, fmt.Sprint(d.Gold)})
		}
		list.Total = 100
		check(t, "hellaswag", "validation.jsonl", jsonlBytes(t, rows), list)
		check(t, "hellaswag", "validation.parquet", parquetBytes(t, rows, &parquet.Snappy, 1), list)
	})
	t.Run("wikitext", func(t *testing.T) {
		want := loadShared(t, "wikitext", JointBOS, 0)
		var pages []pageRow
		for _, d := range want.Docs {
			pages = append(pages, pageRow{d.Original})
		}
		check(t, "wikitext", "pages.parquet", parquetBytes(t, pages, &parquet.Snappy, 1), want)
		check(t, "wikitext", "pages.jsonl", jsonlBytes(t, pages), want)
		// Dataset rows: the lines of the raw file with their newline, blank ones empty.
		raw := string(readLines(t, shared(t, "data", "wikitext2", "wiki.test.raw"), true)[0])
		var rows []textRow
		for line := range strings.Lines(raw) {
			if strip(line) == "" {
				line = ""
			}
			rows = append(rows, textRow{Text: line})
		}
		if len(rows) != 4358 {
			t.Fatalf("%d rows", len(rows))
		}
		check(t, "wikitext", "rows.parquet", parquetBytes(t, rows, &parquet.Snappy, 1), want)
		check(t, "wikitext", "crlf.raw", []byte(strings.ReplaceAll(raw, "\n", "\r\n")), want)
		blocks := loadShared(t, "wikitext2", "", 0)
		check(t, "wikitext2", "rows.parquet", parquetBytes(t, rows, &parquet.Snappy, 1), blocks)
		check(t, "wikitext2", "wiki.test.raw.gz", gzipBytes(t, []byte(raw)), blocks)
	})
	t.Run("c4", func(t *testing.T) {
		want := loadShared(t, "c4_documents", JointBOS, 0)
		if want.Total != 40 || len(want.Files) != 4 {
			t.Fatalf("%d documents of %q", want.Total, want.Files)
		}
		var rows []textRow
		for _, d := range want.Docs {
			rows = append(rows, textRow{d.Original, "https://example.org"})
		}
		check(t, "c4_documents", "c4.parquet", parquetBytes(t, rows, &parquet.Snappy, 1), want)
	})
}

func TestFoldersAndShards(t *testing.T) {
	dir := t.TempDir()
	rows := []piqaRow{{"g0", "a", "b", 0}, {"g1", "a", "b", 1}, {"g2", "a", "b", 0}}
	for i, part := range [][]piqaRow{rows[:2], rows[2:]} {
		name := filepath.Join(dir, fmt.Sprintf("validation-%05d-of-00002.parquet", i))
		if err := os.WriteFile(name, parquetBytes(t, part, &parquet.Snappy, 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ds, err := Load("piqa", Options{Path: dir, Protocol: JointBOS})
	if err != nil || ds.Total != 3 || len(ds.Files) != 2 || ds.Docs[2].ID != 2 || ds.Docs[2].Requests[0].Context != "Question: g2\nAnswer:" {
		t.Errorf("%+v %v", ds, err)
	}
	root := write(t, map[string]string{"piqa/valid.jsonl": "{}", "piqa/valid.jsonl.gz": "{}"})
	if _, err := DefaultPath(root, "piqa"); err == nil || !strings.Contains(err.Error(), "both there") {
		t.Errorf("two forms of one file: %v", err)
	}
	if _, err := DefaultPath(root, "boolq"); err == nil {
		t.Error("no boolq folder, but no error")
	}
	if _, err := DefaultPath(root, "bolq"); err == nil || !strings.Contains(err.Error(), `"boolq"`) {
		t.Errorf("unknown task: %v", err)
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		limit Limit
		want  int
	}{{0, 7}, {3, 3}, {100, 7}, {0.5, 4}, {0.01, 1}, {1, 1}} {
		if got, err := c.limit.Count(7); err != nil || got != c.want {
			t.Errorf("limit %v of 7: %d %v, want %d", c.limit, got, err, c.want)
		}
	}
	for _, bad := range []Limit{-1, 1.5, Limit(math.NaN()), Limit(math.Inf(1)) - Limit(math.Inf(1))} {
		if _, err := bad.Count(7); err == nil {
			t.Errorf("limit %v was taken", bad)
		}
	}
	// Legacy shuffles first, then cuts: the first documents are those of the whole shuffle.
	all, some := loadShared(t, "piqa", Legacy, 0), loadShared(t, "piqa", Legacy, 0.01)
	if some.Total != 1838 || len(some.Docs) != 19 || !reflect.DeepEqual(all.Docs[:19], some.Docs) {
		t.Errorf("%d of %d", len(some.Docs), some.Total)
	}
}

func TestProtocolsAndTasks(t *testing.T) {
	for _, p := range Protocols() {
		if got, err := ParseProtocol(string(p)); err != nil || got != p {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := ParseProtocol("joint"); err == nil || err.Error() != `unknown protocol "joint", expected legacy, joint-nobos or joint-bos` {
		t.Error(err)
	}
	if _, err := Lookup("helaswag"); err == nil || err.Error() != `unknown task "helaswag", the nearest known task is "hellaswag"` {
		t.Error(err)
	}
	if _, err := Lookup("C4_new"); err == nil || !strings.Contains(err.Error(), `"c4-new"`) {
		t.Error(err)
	}
	for _, info := range List() {
		got, err := Lookup(info.Name)
		if err != nil || !reflect.DeepEqual(got, info) {
			t.Errorf("%s: %v", info.Name, err)
		}
		if info.Primary == "" || info.Licence == "" || info.Citation == "" || info.Description == "" || info.Dataset == "" || info.Split == "" || strings.Contains(info.Kind.String(), "Kind(") {
			t.Errorf("%s: a field is empty: %+v", info.Name, info)
		}
		higher := info.Kind == MultipleChoice
		for _, m := range info.Metrics {
			if HigherIsBetter(m) != higher {
				t.Errorf("%s %s: higher is better: %v", info.Name, m, !higher)
			}
		}
		info.Metrics[0] = "changed"
		if again, _ := Lookup(info.Name); again.Metrics[0] == "changed" {
			t.Fatal("List gives away the package's own slices")
		}
	}
	if Kind(9).String() != "Kind(9)" {
		t.Error(Kind(9))
	}
}

// Wrong input must give one line that names the file, the place in it and what was expected.
func TestBadInput(t *testing.T) {
	const arc = `{"id":"x","question":{"stem":"s","choices":[{"text":"t","label":"A"},{"text":"u","label":"B"}]}`
	for _, c := range []struct {
		task, file, content string
		want                string // after the folder
	}{
		{"piqa", "a.jsonl", "", "a.jsonl: file is empty"},
		{"piqa", "a.jsonl", "\n\n", "a.jsonl:1: neither JSON lines nor parquet, expected rows with goal, sol1, sol2 and label"},
		{"piqa", "a.txt", "goal\tsol1\n", "a.txt:1: neither JSON lines nor parquet, expected rows with goal, sol1, sol2 and label"},
		{"piqa", "a.jsonl", `{"goal":"g","sol1":"a","sol2":"b","label":0}` + "\n" + `{"goal":"g","sol1":`, "a.jsonl:2: malformed JSON: it ends too early; expected one JSON object per line"},
		{"piqa", "a.jsonl", `{"goal":"g","sol1":"a","sol2":"b","label":0}` + "\n\n" + `{"goal":"g","sol1":"a","sol2":"b","label":0}`, "a.jsonl:2: line is empty, expected a JSON object"},
		{"piqa", "a.jsonl", `{"goal":"g"} {}`, "a.jsonl:1: malformed JSON: text after the object; expected one JSON object per line"},
		{"piqa", "a.jsonl", `{"goal":"g","sol1":"a","sol2":"b"}`, `a.jsonl:1: gold answer missing: no key "label" and no label file a-labels.lst beside the data, expected one of them`},
		{"piqa", "a.jsonl", `{"goal":"g","sol1":"a","sol2":"b","label":-1}`, `a.jsonl:1: unknown answer "-1" in key "label", expected 0, 1`},
		{"piqa", "a.jsonl", `{"goal":"g","sol1":"a","label":1}`, `a.jsonl:1: key "sol2" is missing, expected text`},
		{"piqa", "a.jsonl", `{"goal":5,"sol1":"a","sol2":"b","label":1}`, `a.jsonl:1: key "goal" is the number 5, expected text`},
		{"piqa", "a.jsonl", `{"goal":"g","sol1":"a","sol2":"b","label":[1]}`, `a.jsonl:1: key "label" is a list, expected 0, 1`},
		{"piqa", "a.jsonl", `{"goal":"\ud800","sol1":"a","sol2":"b","label":1}`, `a.jsonl:1: malformed JSON: half of a surrogate pair (\ud800 to \udfff); expected whole characters`},
		{"piqa", "a.jsonl", "{\"goal\":\"\xff\"}", "a.jsonl:1: line is not valid UTF-8"},
		{"piqa", "a.jsonl.gz", "\x1f\x8bnonsense", "a.jsonl.gz: gzip: "},
		{"arc_easy", "a.jsonl", arc + "}", `a.jsonl:1: gold answer missing: no key "answerKey", expected A, B`},
		{"arc_easy", "a.jsonl", arc + `,"answerKey":""}`, `a.jsonl:1: gold answer missing: key "answerKey" is empty, expected A, B`},
		{"arc_easy", "a.jsonl", arc + `,"answerKey":"E"}`, `a.jsonl:1: unknown answer "E" in key "answerKey", expected A, B`},
		{"arc_easy", "a.jsonl", `{"question":{"stem":"s","choices":[{"text":"t"}]},"answerKey":"A"}`, `a.jsonl:1: in question.choices, element 1: key "label" is missing, expected text`},
		{"arc_easy", "a.jsonl", `{"question":{"stem":"s"},"answerKey":"A"}`, `a.jsonl:1: key "question.choices" is no list, expected a list of objects with text and label`},
		{"arc_easy", "a.jsonl", `{"question":{"stem":1},"answerKey":"A"}`, `a.jsonl:1: in question: key "stem" is the number 1, expected text`},
		{"arc_easy", "a.jsonl", `{"question":"s","answerKey":"A"}`, `a.jsonl:1: key "choices" is no object, expected an object with the lists text and label`},
		{"arc_easy", "a.jsonl", `{"question":"s","choices":{"text":["t","u"],"label":["A"]},"answerKey":"A"}`, "a.jsonl:1: 2 choices with 1 labels, expected 2 to 64 of each"},
		{"arc_easy", "a.jsonl", `{"question":"s","choices":{"text":["t","u"],"label":["A","A"]},"answerKey":"A"}`, `a.jsonl:1: choice label "A" is empty or given twice, expected distinct labels`},
		{"arc_easy", "a.jsonl", `{"question":"s","choices":{"text":["t",null],"label":["A","B"]},"answerKey":"A"}`, `a.jsonl:1: key "choices.text": element 2 is null, expected text`},
		{"arc_easy", "a.jsonl", `{"question":"s","choices":{"text":true,"label":["A","B"]},"answerKey":"A"}`, `a.jsonl:1: key "choices.text" is true, expected a list of texts`},
		{"arc_easy", "a.jsonl", `{"question":"s","choices":{"label":["A","B"]},"answerKey":"A"}`, `a.jsonl:1: key "choices.text" is missing, expected a list of texts`},
		{"arc_letter", "a.jsonl", arc + `,"answerKey":"A"}`, "a.jsonl: no documents for task arc_letter, expected rows with question, choices and answerKey"},
		{"boolq", "a.jsonl", `{"question":"q","answer":true,"passage":"p"}`, `a.jsonl:1: this is the google/boolq layout (key "answer"), whose passages lack the title of the reference prompts; expected the SuperGLUE layout with key "label"`},
		{"boolq", "a.jsonl", `{"question":"q","passage":"p"}`, `a.jsonl:1: gold answer missing: no key "label", expected false, true`},
		{"boolq", "a.jsonl", `{"question":"q","passage":"p","label":2}`, `a.jsonl:1: unknown answer "2" in key "label", expected false, true`},
		{"winogrande", "a.jsonl", `{"sentence":"no blank","option1":"a","option2":"b","answer":"1"}`, `a.jsonl:1: key "sentence" has no "_", expected one blank`},
		{"winogrande", "a.jsonl", `{"sentence":"a _ b","option1":"a","option2":"b","answer":"3"}`, `a.jsonl:1: unknown answer "3" in key "answer", expected 1, 2`},
		{"winogrande", "a.jsonl", `{"sentence":"a _ b","option1":"a","option2":"b","answer":""}`, `a.jsonl:1: gold answer missing: key "answer" is empty, expected 1, 2`},
		{"hellaswag", "a.txt", "A: x\n0\na\nb\nc\nd\nB: y\n", "a.txt:7: file ends within a task, expected 6 lines per task (context, gold index, 4 endings)"},
		{"hellaswag", "a.txt", "A: x\n4\na\nb\nc\nd\n", `a.txt:2: unknown answer "4" in key "label", expected 0, 1, 2, 3`},
		{"hellaswag", "a.txt", "A x\n1\na\nb\nc\nd\n", `a.txt:1: no ": " found, expected a line "activity: context"`},
		{"hellaswag", "a.jsonl", `{"activity_label":"A","ctx_a":"a","ctx_b":"b","endings":["x","y"],"label":"0"}`, `a.jsonl:1: key "endings" has 2 texts, expected 4`},
		{"hellaswag", "a.jsonl", `{"activity_label":"A","ctx_a":"a","ctx_b":"b","endings":["x","y","z","w"],"label":""}`, `a.jsonl:1: gold answer missing: key "label" is empty, expected 0, 1, 2, 3`},
		{"wikitext", "a.raw", "x \xff\n", "a.raw:1: text is not valid UTF-8"},
		{"wikitext", "a.raw", " \n\n", "a.raw: no documents for task wikitext, expected rows with page, or the rows text"},
		{"wikitext", "a.jsonl", `{"text":"x\n"}` + "\n" + `{"page":"x\n"}`, `a.jsonl:2: text in the form "page" after text in the form "text", expected one form and one raw file`},
		{"wikitext2", "a.jsonl", `{"page":"x\n"}`, `a.jsonl:1: key "text" is missing, expected text`},
		{"wikitext2", "a.jsonl", `{"text":"no line end"}`, `a.jsonl:1: row "no line end" does not end in a newline, expected the rows of the Hugging Face dataset`},
		{"c4", "a.jsonl", `{"text":null}`, `a.jsonl:1: key "text" is null, expected text`},
		{"c4", "a.parquet", "PAR1", "a.parquet: damaged parquet file: 4 bytes, expected at least 12"},
		{"c4", "a.parquet", "PAR1....PAR1", "a.parquet: damaged parquet file: footer of "},
		{"c4", "a.parquet", "PAR1........", "a.parquet: damaged parquet file: no PAR1 at the end, the file is cut short or encrypted"},
	} {
		dir := write(t, map[string]string{c.file: c.content})
		_, err := Load(c.task, Options{Path: filepath.Join(dir, c.file), Protocol: JointBOS})
		if err == nil {
			t.Errorf("%s %.60q was taken", c.task, c.content)
			continue
		}
		got := strings.TrimPrefix(err.Error(), dir+string(filepath.Separator))
		if got != c.want && !(strings.HasSuffix(c.want, " ") && strings.HasPrefix(got, c.want)) || strings.Contains(got, "\n") {
			t.Errorf("%s %.60q:\n got %s\nwant %s", c.task, c.content, got, c.want)
		}
	}
}

func TestBadOptions(t *testing.T) {
	row := `{"goal":"g","sol1":"a","sol2":"b"}` + "\n"
	dir := write(t, map[string]string{
		"piqa/valid.jsonl": row + row, "piqa/valid-labels.lst": "0\n", "piqa/many.lst": "0\n1\n0\n", "piqa/bad.lst": "0\nx\n", "piqa/good.lst": "1\r\n0\r\n",
		"boolq/validation.jsonl": "{}",
	})
	valid := filepath.Join(dir, "piqa", "valid.jsonl")
	for _, c := range []struct {
		task string
		o    Options
		want string
	}{
		{"piqa", Options{Path: valid, Protocol: JointBOS}, "valid.jsonl:2: gold answer missing: " + filepath.Join(dir, "piqa", "valid-labels.lst") + " has only 1 labels"},
		{"piqa", Options{Path: valid, Protocol: JointBOS, Labels: filepath.Join(dir, "piqa", "many.lst")}, "many.lst: 3 labels for 2 rows"},
		{"piqa", Options{Path: valid, Protocol: JointBOS, Labels: filepath.Join(dir, "piqa", "bad.lst")}, `bad.lst:2: label "x", expected 0 or 1`},
		{"piqa", Options{Path: valid, Protocol: JointBOS, Labels: filepath.Join(dir, "none")}, "label file: open"},
		{"boolq", Options{Path: dir, Protocol: JointBOS, Labels: valid}, "task boolq takes no label file, only piqa does"},
		{"piqa", Options{Path: valid}, `unknown protocol ""`},
		{"piqa", Options{Path: valid, Protocol: JointBOS, Limit: -2}, "limit -2, expected 0 (all)"},
		{"piqa", Options{Protocol: JointBOS}, "task piqa: no data path given"},
		{"piqa", Options{Path: filepath.Join(dir, "absent"), Protocol: JointBOS}, "no such file"},
		{"piqa", Options{Path: dir, Protocol: JointBOS}, "task piqa: no data file in " + dir + ", expected one of valid.jsonl, "},
		{"c4", Options{Path: dir}, "task c4: no data file in " + dir + ", expected *.json, *.jsonl or *.parquet"},
		{"pica", Options{Path: dir}, `the nearest known task is "piqa"`},
	} {
		if _, err := Load(c.task, c.o); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %+v:\n got %v\nwant %s", c.task, c.o, err, c.want)
		}
	}
	ds, err := Load("piqa", Options{Path: valid, Protocol: JointBOS, Labels: filepath.Join(dir, "piqa", "good.lst")})
	if err != nil || ds.Docs[0].Gold != 1 || ds.Docs[1].Gold != 0 {
		t.Errorf("%+v %v", ds, err)
	}
}

// Parquet files that lie about sizes must be refused before anything is allocated by those sizes.
func TestDamagedParquet(t *testing.T) {
	rows := []piqaRow{{"goal", "one", "two", 1}, {"goal", "one", "two", 0}}
	good := parquetBytes(t, rows, &parquet.Snappy, 1)
	load := func(data []byte) error {
		l := &loader{task: must(lookup("piqa")), options: Options{Protocol: JointBOS}}
		return l.parse("a.parquet", bytes.NewReader(data), int64(len(data)))
	}
	if err := load(good); err != nil {
		t.Fatal(err)
	}
	for n := range len(good) {
		if err := load(good[:n]); err == nil {
			t.Errorf("a file cut to %d of %d bytes was taken", n, len(good))
		}
	}
	for i := 4; i < len(good)-8; i++ {
		for _, v := range []byte{0, 0x7f, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] = v
			if err := load(bad); err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("byte %d = %#x: more than one line: %v", i, v, err)
			}
		}
	}
	if err := load(parquetBytes(t, rows, &parquet.Brotli, 1)); err == nil || !strings.Contains(err.Error(), "is compressed by BROTLI, expected no compression, SNAPPY, GZIP or ZSTD") {
		t.Errorf("brotli: %v", err)
	}
	if err := load(parquetBytes(t, []boolqRow{{"q", "p", 0, 1}}, &parquet.Snappy, 1)); err == nil || err.Error() != `a.parquet: row 1: key "goal" is missing, expected text` {
		t.Errorf("other columns: %v", err)
	}
	if err := load(parquetBytes(t, []piqaRow{{"g", "\xff", "b", 0}}, &parquet.Snappy, 1)); err == nil || err.Error() != `a.parquet: row 1: column "sol1" is not valid UTF-8: "\xff"` {
		t.Errorf("not UTF-8: %v", err)
	}
	if err := load(parquetBytes(t, []piqaRow{}, &parquet.Snappy, 1)); err == nil || err.Error() != "a.parquet: no rows, expected rows with goal, sol1, sol2 and label" {
		t.Errorf("no rows: %v", err)
	}
}

// A page header by hand (Thrift compact protocol): fields 1 type, 2 and 3 sizes, 5 data page header with 1 num_values.
func TestPageHeader(t *testing.T) {
	h, err := parsePageHeader([]byte{0x15, 0x00, 0x15, 0x80, 0x02, 0x15, 0x14, 0x2c, 0x15, 0x0e, 0x15, 0x00, 0x00, 0x00, 0xaa})
	if err != nil || h.uncompressed != 128 || h.compressed != 10 || h.values != 7 || h.size != 14 || h.v2 {
		t.Errorf("%+v %v", h, err)
	}
	for _, bad := range [][]byte{{}, {0x15}, {0x15, 0x80}, {0x1c, 0x1c}, {0x18, 0x05, 'a'}, {0x19, 0xf5, 0xff, 0xff, 0x7f}, {0x1d, 0x00}, bytes.Repeat([]byte{0x1c}, 100)} {
		if _, err := parsePageHeader(bad); err == nil {
			t.Errorf("% x was taken", bad)
		}
	}
}

// Frame headers by hand after RFC 8878: single segment with 1, 2 and 4 bytes of size, and with a window and no size.
func TestZstdContentSize(t *testing.T) {
	magic := "\x28\xb5\x2f\xfd"
	for in, want := range map[string]uint64{
		magic + "\x20\x07":                 7,
		magic + "\x60\x01\x00":             257,
		magic + "\xa0\x00\x00\x01\x00":     65536,
		magic + "\xa1\x99\x00\x00\x01\x00": 65536, // dictionary id
	} {
		if got, ok := zstdContentSize([]byte(in)); !ok || got != want {
			t.Errorf("% x: %d %v, want %d", in, got, ok, want)
		}
	}
	for _, in := range []string{"", magic, magic + "\x00\x50", magic + "\x60\x01", "abcdefgh"} {
		if got, ok := zstdContentSize([]byte(in)); ok {
			t.Errorf("% x: %d", in, got)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestMetricsByHand(t *testing.T) {
	info := must(Lookup("arc_easy"))
	d := Doc{Requests: make([]Request, 3), Choices: []string{"\u00e9\u00e9", "abcd", "ab"}, Gold: 1}
	// Per code point -2, -1.5, -2; per byte -1, -1.5, -2; per token -4, -2, -1.
	r := Judge(info, JointBOS, d, []ChoiceScore{{LogProb: -4, Tokens: 1}, {LogProb: -6, Tokens: 3}, {LogProb: -4, Tokens: 4}})
	if r != (DocResult{0, 1, 0, 0, 0, 1, 0, 2}) {
		t.Errorf("%+v", r)
	}
	if r := Judge(info, JointBOS, d, []ChoiceScore{{LogProb: -4, Tokens: 1}, {LogProb: -6}, {LogProb: -4, Tokens: 4}}); !math.IsNaN(r.AccToken) || r.VerdictToken != -1 || r.AccNorm != 1 {
		t.Errorf("%+v", r)
	}
	if v, ok := r.Metric(MetricAccNorm); v != 1 || !ok {
		t.Error(v, ok)
	}
	if _, ok := r.Metric("f1"); ok {
		t.Error("f1")
	}
	r = Judge(info, JointBOS, d, []ChoiceScore{{LogProb: math.NaN()}, {}, {}})
	if !math.IsNaN(r.Acc) || !math.IsNaN(r.AccNorm) || !math.IsNaN(r.AccBytes) || r.Verdict != -1 {
		t.Errorf("%+v", r)
	}
	// BoolQ ties: no, in both orders.
	boolq := must(Lookup("boolq"))
	legacy := Doc{Requests: make([]Request, 2), Choices: []string{"yes", "no"}, Gold: 1, Label: 0}
	joint := Doc{Requests: make([]Request, 2), Choices: []string{"no", "yes"}, Gold: 0, Label: 0}
	tie := []ChoiceScore{{LogProb: -1}, {LogProb: -1}}
	if a, b := Judge(boolq, Legacy, legacy, tie), Judge(boolq, JointBOS, joint, tie); a.Acc != 1 || a.Verdict != 1 || b.Acc != 1 || b.Verdict != 0 {
		t.Errorf("%+v %+v", a, b)
	}
	// Mean 2, squares 2, stderr sqrt(2/2)/sqrt(3).
	if mean, stderr, ok := Mean([]float64{1, 2, 3}); mean != 2 || stderr != 1/math.Sqrt(3) || !ok {
		t.Error(mean, stderr, ok)
	}
	if mean, stderr, ok := Mean([]float64{1}); mean != 1 || !math.IsNaN(stderr) || ok {
		t.Error(mean, stderr, ok)
	}
	if mean, _, ok := Mean(nil); !math.IsNaN(mean) || ok {
		t.Error(mean, ok)
	}
	// Sizes 2 and 4, means 1 and 0.25; pooled: (1*2*0.01 + 3*4*0.04)/(6-2)/6 = 0.5/24.
	if got := GroupMean([]int{2, 4}, []float64{1, 0.25}); got != 0.5 {
		t.Error(got)
	}
	if got := GroupStderr([]int{2, 4}, []float64{0.1, 0.2}); math.Abs(got-math.Sqrt(0.5/24)) > 1e-15 {
		t.Error(got)
	}
	// 2 documents, -8 ln 2 over 4 words and 16 bytes.
	p := DocumentPerplexity([]float64{-3 * math.Ln2, -5 * math.Ln2}, []int{1, 3}, []int{6, 10})
	if math.Abs(p.Word-4) > 1e-14 || math.Abs(p.Byte-math.Sqrt2) > 1e-14 || math.Abs(p.BitsPerByte-0.5) > 1e-15 {
		t.Errorf("%+v", p)
	}
	if got := BlocksPerplexity([]float64{1, 3}); got != math.Exp(2) {
		t.Error(got)
	}
}

func mustBase64(s string) []byte { return must(base64.StdEncoding.DecodeString(s)) }
