package tasks

import (
	"bytes"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// bzip2 of one task of llama.cpp's HellaSwag list (the standard library cannot write bzip2).
const smallBzip2 = "QlpoOTFBWSZTWZ+3hsQAAAXdgAAQQAEgECAAvgGEgCAAIiaaDanqepoUwAE0RyOEDoLl2ZKsV8XckU4UJCft4bEA"

// fuzzParse runs one file of a task through the loader and checks what it made.
func fuzzParse(t *testing.T, task *task, p Protocol, data []byte) error {
	l := &loader{task: task, options: Options{Protocol: p}, files: []string{"absent/data"}}
	if err := l.parse("data", bytes.NewReader(data), int64(len(data))); err != nil {
		if strings.Contains(err.Error(), "\n") {
			t.Fatalf("error of more than one line: %q", err)
		}
		return err
	}
	docs, err := l.finish()
	if err != nil {
		return err
	}
	for _, d := range docs {
		if task.Kind == MultipleChoice && (d.Gold < 0 || d.Gold >= len(d.Requests) || len(d.Choices) != len(d.Requests)) {
			t.Fatalf("gold %d of %d requests", d.Gold, len(d.Requests))
		}
	}
	return nil
}

// FuzzRows gives arbitrary bytes to every task: JSON lines, plain text lists, raw text, gzip and bzip2 of them.
func FuzzRows(f *testing.F) {
	for i, seed := range []string{
		"A: One. two\n1\na\nb\nc\nd\n",
		`{"goal":"g","sol1":"a","sol2":"b","label":0}`,
		`{"id":"x","question":{"stem":"s","choices":[{"text":"t","label":"A"},{"text":"u","label":"B"}]},"answerKey":"A"}`,
		`{"question":"s","choices":{"text":["a","b","c","d"],"label":["1","2","3","4"]},"answerKey":"3"}`,
		`{"question":"q","passage":"t -- p","idx":0,"label":"true"}`,
		`{"sentence":"x _ y","option1":"a","option2":"b","answer":"2"}`,
		" = A = \n \n x , y . \n = B = \n",
		`{"text":"a \ud83d\ude00 ( b )\n"}` + "\n" + `{"text":""}`,
		`{"activity_label":"A","ctx_a":"[header] x [title] y","ctx_b":"Bc","endings":["[step] x","y","z","w"],"label":"3"}`,
		`{"page":" = P = \n"}`,
	} {
		f.Add(uint8(i), []byte(seed))
		f.Add(uint8(i), gzipBytes(f, []byte(seed)))
	}
	f.Add(uint8(0), mustBase64(smallBzip2))
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		if bytes.HasPrefix(data, []byte("PAR1")) {
			t.Skip("FuzzParquet's")
		}
		fuzzParse(t, &table[int(which)%len(table)], Protocols()[int(which)/len(table)%3], data)
	})
}

// FuzzParquet gives damaged parquet files to the loader.
func FuzzParquet(f *testing.F) {
	var arc arcRowElement
	arc.Question, arc.AnswerKey = "s", "2"
	arc.Choices.Text, arc.Choices.Label = []string{"t", "u"}, []string{"1", "2"}
	for version := 1; version <= 2; version++ {
		f.Add(uint8(1), parquetBytes(f, []piqaRow{{"g", "a", "b", 1}, {"g", "a", "b", 0}}, &parquet.Uncompressed, version))
		f.Add(uint8(3), parquetBytes(f, []arcRowElement{arc, arc}, &parquet.Snappy, version))
		f.Add(uint8(0), parquetBytes(f, []hellaswagRow{{1, "A", "b", "c", []string{"w", "x", "y", "z"}, "2"}}, &parquet.Gzip, version))
		f.Add(uint8(8), parquetBytes(f, []textRow{{"some text", "u"}, {"", ""}}, &parquet.Zstd, version))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		if !bytes.HasPrefix(data, []byte("PAR1")) {
			t.Skip("FuzzRows's")
		}
		fuzzParse(t, &table[int(which)%len(table)], JointBOS, data)
	})
}

// FuzzLabels gives arbitrary label files to the parser.
func FuzzLabels(f *testing.F) {
	for _, s := range []string{"", "0\n1\n", "1\r\n0", "\n\n", "x", "\xff\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		labels, err := parseLabels("labels", data)
		if err == nil && len(labels) > bytes.Count(data, []byte("\n"))+1 {
			t.Fatalf("%d labels of %q", len(labels), data)
		}
	})
}

// FuzzText checks the text functions against their definitions on arbitrary text.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a [b] c", "( x ) ' y '", "\u0130\u03a3 \ufb01", "= = = =", " [title] x  y", "A: b. c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := capitalize(s); s != "" && got == "" {
			t.Fatalf("capitalize(%q) is empty", s)
		}
		if got, want := wordCount(s), len(spaceRun.Split(s, -1)); got != want {
			t.Fatalf("wordCount(%q) = %d, want %d", s, got, want)
		}
		if got, want := deleteBracketed(s), bracketed.ReplaceAllString(s, ""); got != want {
			t.Fatalf("deleteBracketed(%q) = %q, want %q", s, got, want)
		}
		for _, b := range brackets {
			if got, want := tighten(s, b.open, b.close), b.re.ReplaceAllString(s, b.to); got != want {
				t.Fatalf("tighten(%q, %c) = %q, want %q", s, b.open, got, want)
			}
		}
		detokenize(s)
		preprocess(s)
		_, _ = hellaswagRestore(s)
		if err := decodeError(AppendJSONString(nil, s)); err != nil {
			t.Fatalf("AppendJSONString(%q): %v", s, err)
		}
	})
}
