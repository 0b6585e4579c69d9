package train

import (
	"bytes"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"splitbench/experiments/spec"
	"splitbench/models/tokenizer"
	"splitbench/tasks"
)

// bytesOnly is a tokenizer whose tokens are bytes, BOS 256 and EOS 257.
type bytesOnly struct{ tokenizer.Tokenizer }

func (bytesOnly) Encode(text string, special bool) []int32 {
	var ids []int32
	if special {
		ids = append(ids, 256)
	}
	for _, b := range []byte(text) {
		ids = append(ids, int32(b))
	}
	return ids
}
func (bytesOnly) BOS() (int32, bool) { return 256, true }
func (bytesOnly) EOS() (int32, bool) { return 257, true }
func (bytesOnly) BOSText() string    { return "" }

func request(context, continuation string) tasks.Request {
	return tasks.Request{Context: context, Continuation: continuation}
}

// TestTexts reads the forms of text files.
func TestTexts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if strings.HasSuffix(name, ".gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			z.Write([]byte(text))
			z.Close()
			text = b.String()
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.txt", "one\n\n\n\ntwo\n\nthree")
	write("b.txt", "four")
	write("c.jsonl", "{\"text\":\"five\"}\n\n{\"text\":\" \"}\n{\"other\":1,\"text\":\"six\"}\n")
	write("d.json.gz", "{\"text\":\"seven\"}\n")
	write("bad.jsonl", "{\"text\":\"x\"}\n{\"txt\":\"x\"}\n")
	write("worse.jsonl", "{\"text\":\n")
	write("latin.txt", "caf\xe9")
	write("latin.jsonl", "{\"text\":\"a\"}\n{\"text\":\"caf\xe9\"}\n")
	write("empty.txt", " \n")
	for _, c := range []struct{ pattern, separator, want string }{
		{"a.txt", "\n\n", "one|two|three"},
		{"a.txt", "", "one\n\n\n\ntwo\n\nthree"},
		{"[ab].txt", "\n\n", "one|two|three|four"},
		{"c.jsonl", "\n", "five|six"},
		{"d.json.gz", "", "seven"},
	} {
		s, err := load(spec.TrainingSource{Text: filepath.Join(dir, c.pattern), Separator: c.separator, Weight: 1})
		var all []string
		for _, d := range s.documents {
			all = append(all, d.text)
		}
		if have := strings.Join(all, "|"); err != nil || have != c.want {
			t.Errorf("%s: %q (%v), expected %q", c.pattern, have, err, c.want)
		}
	}
	for pattern, want := range map[string]string{
		"bad.jsonl": "bad.jsonl: line 2: no key text", "worse.jsonl": "worse.jsonl: line 1: ", "latin.txt": "latin.txt: the text is not valid UTF-8",
		"latin.jsonl": "latin.jsonl: line 2: the text is not valid UTF-8",
		"empty.txt":   "empty.txt: no documents", "none.txt": "none.txt: no such file", "*.none": "*.none: no documents",
	} {
		if _, err := load(spec.TrainingSource{Text: filepath.Join(dir, pattern)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", pattern, err, want)
		}
	}
	if s, err := load(spec.TrainingSource{Text: filepath.Join(dir, "a.txt"), Separator: "\n\n", Limit: spec.Limit{Docs: 2}}); err != nil || len(s.documents) != 2 {
		t.Errorf("%d documents (%v), expected 2", len(s.documents), err)
	}
}

// TestLineLimits reads lines at the limits and beyond: nothing is cut silently.
func TestLineLimits(t *testing.T) {
	text := "{\"text\":\"one\"}\n{\"text\":\"longer\"}\n" // 15 and 18 bytes with their ends
	for _, c := range []struct {
		text, line int
		want       string
	}{
		{33, 19, ""}, {32, 19, "more than 32 bytes of text"}, {14, 19, "more than 14 bytes of text"},
		{33, 16, "line 2: longer than 16 bytes"}, {33, 8, "line 1: longer than 8 bytes"},
	} {
		var s source
		err := s.parseLines(strings.NewReader(text), c.text, c.line)
		if c.want == "" {
			if err != nil || len(s.documents) != 2 || s.documents[1].text != "longer" {
				t.Errorf("%+v (%v), expected two documents", s.documents, err)
			}
		} else if err == nil || err.Error() != c.want {
			t.Errorf("limits %d and %d: %v, expected %q", c.text, c.line, err, c.want)
		}
	}
}

// TestBuiltinText reads a file of a built-in folder.
func TestBuiltinText(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	s, err := load(spec.TrainingSource{Text: "builtin:toy/wikitext2/wiki.test.raw"})
	if err != nil || s.name != "wiki.test.raw" || len(s.documents) != 1 || !strings.Contains(s.documents[0].text, " = The ") {
		t.Errorf("%d documents of %q (%v)", len(s.documents), s.name, err)
	}
	if _, err := load(spec.TrainingSource{Text: "builtin:none/x"}); err == nil || !strings.Contains(err.Error(), "unknown built-in") {
		t.Errorf("a built-in that is not there: %v", err)
	}
}

// TestTaskRows reads the built-in questions: the right answers are what is learnt.
func TestTaskRows(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	s, err := load(spec.TrainingSource{Task: "piqa", Path: "builtin:toy", Weight: 1, ContextWeight: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.documents) != 60 || !s.rows || s.name != "piqa" {
		t.Errorf("%d documents of %s", len(s.documents), s.name)
	}
	for _, d := range s.documents {
		if !strings.HasPrefix(d.request.Context, "Question: ") || d.request.Continuation == "" || d.text != "" {
			t.Fatalf("row %+v", d)
		}
	}
	if s, err = load(spec.TrainingSource{Task: "wikitext2", Path: "builtin:toy"}); err != nil || s.rows || len(s.documents) != 1 {
		t.Errorf("%d texts (%v), expected 1", len(s.documents), err)
	}
	if _, err = load(spec.TrainingSource{Task: "boolq", Path: t.TempDir()}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a folder without the task: %v", err)
	}
}

func FuzzTexts(f *testing.F) {
	f.Add([]byte("one\n\ntwo"), "\n\n")
	f.Add([]byte("{\"text\":\"x\"}\n{\"text\":3}\n"), "")
	f.Add([]byte("\x1f\x8b\x08\x00"), "")
	f.Add([]byte("BZh9"), "x")
	f.Fuzz(func(t *testing.T, data []byte, separator string) {
		var s source
		if err := s.parseText(bytes.NewReader(data), separator); err != nil {
			return
		}
		for _, d := range s.documents {
			if strings.TrimSpace(d.text) == "" {
				t.Error("an empty document")
			}
		}
	})
}

func testState() *state {
	return &state{identity: "x", step: 3, tokens: 70, pass: 1, next: 2, weights: []float32{1, 2, 3}, first: []float32{4, 5, 6}, second: []float32{7, 8, 9},
		average: []float32{1, 1, 2}, log: []entry{{1, 20, 3.5, math.NaN(), 0.1, 2}, {3, 70, 3.25, 3.125, 0.2, 1}}, open: sums{1, 2, 3, 4}}
}

func encodeState(t testing.TB, s *state) []byte {
	var b bytes.Buffer
	if err := s.encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(encodeState(t, testState()))
	s, err := readState(path, "x", 3, true)
	if err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(s.log[0].Validation) {
		t.Errorf("validation loss %v, expected none", s.log[0].Validation)
	}
	want := testState()
	s.log[0].Validation, want.log[0].Validation = 0, 0
	if !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, expected %+v", s, want)
	}
	for _, c := range []struct {
		change   func(*state)
		identity string
		n        int
		average  bool
		want     string
	}{
		{func(s *state) {}, "y", 3, true, "another training"},
		{func(s *state) {}, "x", 4, true, "shape [3], expected [4]"},
		{func(s *state) {}, "x", 3, false, "6 tensors, expected 5"},
		{func(s *state) { s.average = nil }, "x", 3, true, "no tensor average"},
		{func(s *state) { s.step = -1 }, "x", 3, true, `step is "-1", expected a number from 0`},
	} {
		s := testState()
		c.change(s)
		write(encodeState(t, s))
		if _, err := readState(path, c.identity, c.n, c.average); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, expected %q", err, c.want)
		}
	}
}

func FuzzState(f *testing.F) {
	whole := encodeState(f, testState())
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(bytes.Replace(whole, []byte(`"step":"3"`), []byte(`"step":"z"`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := readState(path, "x", 3, true)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			return
		}
		if len(s.weights) != 3 || len(s.second) != 3 || s.step < 0 || s.next < 0 {
			t.Errorf("state %+v", s)
		}
	})
}
