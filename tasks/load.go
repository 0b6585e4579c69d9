package tasks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Limit says how many documents (or blocks) of a task to use: 0 all, a whole number n >= 1 the first n, a fraction 0 < x < 1 that share,
// rounded up.
type Limit float64

// Count returns how many of total the limit leaves.
func (l Limit) Count(total int) (int, error) {
	x := float64(l)
	switch {
	case x == 0:
		return total, nil
	case x > 0 && x < 1:
		return int(math.Ceil(float64(total) * x)), nil
	case x >= 1 && x == math.Trunc(x):
		return int(math.Min(x, float64(total))), nil
	}
	return 0, fmt.Errorf("limit %v, expected 0 (all), a whole number from 1, or a fraction between 0 and 1", x)
}

// Options says where a task's data lies and how to prepare it.
type Options struct {
	// Path is the data file, or a folder that holds it under one of its usual names. C4 takes every shard of a folder in name order.
	Path string
	// Labels is PIQA's label file. Empty means the file NAME-labels.lst beside the data file NAME.jsonl, if the rows hold no label.
	Labels string
	// Protocol orders the documents and requests. It has no meaning for BlockPerplexity, which may leave it empty.
	Protocol Protocol
	// Limit cuts the documents, after the shuffle of Legacy; for BlockPerplexity it cuts the blocks that Blocks returns.
	Limit Limit
}

// Dataset is a task with its documents in scoring order.
type Dataset struct {
	Info
	Protocol Protocol
	// Docs holds the documents in scoring order. WikiText2 is one document (the joined text); c4 and c4-new hold every document.
	Docs []Doc
	// Total is the number of documents before the limit.
	Total int
	// Limit is the limit given to Load.
	Limit Limit
	// Files lists the files read, in order.
	Files []string
	// Digest is the SHA-256 of the file's bytes; of several files, the SHA-256 of their hexadecimal digests with a newline each.
	Digest string
}

// legacySeed is the seed with which lm-evaluation-harness 0.3.0 shuffles the documents of every task.
const legacySeed = 42

// Load reads the data of a task. Every error is one line that names the file, the line or row, and what was expected there.
func Load(name string, o Options) (*Dataset, error) {
	t, err := lookup(name)
	if err != nil {
		return nil, err
	}
	if t.Kind != BlockPerplexity || o.Protocol != "" {
		if _, err := ParseProtocol(string(o.Protocol)); err != nil {
			return nil, err
		}
	}
	if _, err := o.Limit.Count(1); err != nil {
		return nil, err
	}
	if o.Labels != "" && t.Name != "piqa" {
		return nil, fmt.Errorf("task %s takes no label file, only piqa does", t.Name)
	}
	l := &loader{task: t, options: o}
	files, err := locate(t, o.Path)
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		if err := l.read(path); err != nil {
			return nil, err
		}
	}
	docs, err := l.finish()
	if err != nil {
		return nil, err
	}
	return &Dataset{
		Info: t.clone(), Protocol: o.Protocol, Docs: docs, Total: l.total, Limit: o.Limit,
		Files: l.files, Digest: joinDigests(l.digests),
	}, nil
}

// loader collects the rows of a task's files.
type loader struct {
	task    *task
	options Options
	files   []string
	digests []string
	total   int

	docs []Doc // multiple choice
	rows int   // rows seen, including those that are not part of the task

	labels     []string // PIQA's label file
	labelsPath string

	texts  []string // documents or rows of the perplexity tasks
	column string   // the column that texts come from
}

// read reads one file and remembers its digest.
func (l *loader) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("task %s: %w", l.task.Name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("task %s: %w", l.task.Name, err)
	}
	digest, err := fileDigest(f, info.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	l.files, l.digests = append(l.files, path), append(l.digests, digest)
	return l.parse(path, f, info.Size())
}

// parse reads the rows of one file, whatever its layout.
func (l *loader) parse(path string, at io.ReaderAt, size int64) error {
	in, err := openInput(path, at, size)
	if err != nil {
		return err
	}
	before := l.rows
	switch {
	case in.parquet:
		err = in.parquetRows(l.add)
	case in.json:
		err = in.jsonRows(l.add)
	case l.task.Name == "hellaswag":
		err = in.hellaswagRows(l.add)
	case l.task.Name == "wikitext" || l.task.Name == "wikitext2":
		var text string
		if text, err = in.whole(); err == nil {
			err = l.addText(path, "raw", text)
		}
	default:
		return fmt.Errorf("%s:1: neither JSON lines nor parquet, expected rows with %s", path, l.task.sample)
	}
	if err != nil {
		return err
	}
	if l.rows == before {
		return fmt.Errorf("%s: no rows, expected rows with %s", path, l.task.sample)
	}
	return nil
}

// add takes one row.
func (l *loader) add(r row) error {
	if l.task.Kind != MultipleChoice {
		column := "text"
		if _, ok := r.record["page"]; ok && l.task.Name == "wikitext" {
			column = "page"
		}
		text, err := r.text(column)
		if err != nil {
			return fmt.Errorf("%s: %w", r.where, err)
		}
		return l.addText(r.where, column, text)
	}
	if l.task.Name == "piqa" {
		if err := l.label(&r); err != nil {
			return err
		}
	}
	d, err := l.task.doc(r, l.options.Protocol)
	id := l.rows
	l.rows++
	if errors.Is(err, errNotInTask) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.where, err)
	}
	d.ID = id
	l.docs = append(l.docs, d)
	return nil
}

func (l *loader) addText(where, column, text string) error {
	if l.column == "" {
		l.column = column
	}
	if column != l.column || column == "raw" && l.rows > 0 {
		return fmt.Errorf("%s: text in the form %q after text in the form %q, expected one form and one raw file", where, column, l.column)
	}
	if column == "text" && strings.HasPrefix(l.task.Name, "wikitext") && text != "" && !strings.HasSuffix(text, "\n") {
		return fmt.Errorf("%s: row %q does not end in a newline, expected the rows of the Hugging Face dataset", where, clip(text))
	}
	l.texts = append(l.texts, text)
	l.rows++
	return nil
}

// label gives a PIQA row its label from the label file, unless it has one.
func (l *loader) label(r *row) error {
	if _, ok := r.record["label"]; ok && l.options.Labels == "" {
		return nil
	}
	if l.labelsPath == "" {
		path := l.options.Labels
		if path == "" {
			data := l.files[len(l.files)-1]
			stem := strings.TrimSuffix(strings.TrimSuffix(data, ".gz"), ".bz2")
			path = strings.TrimSuffix(stem, filepath.Ext(stem)) + "-labels.lst"
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf(`%s: gold answer missing: no key "label" and no label file %s beside the data, expected one of them`, r.where, filepath.Base(path))
			}
		}
		// A label and its line end take 2 or 3 bytes, so this bound is generous.
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("label file: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxLine+1))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if len(data) > maxLine {
			return fmt.Errorf("%s: label file is longer than %d bytes", path, maxLine)
		}
		if l.labels, err = parseLabels(path, data); err != nil {
			return err
		}
		digest, err := fileDigest(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		l.labelsPath = path
		l.files, l.digests = append(l.files, path), append(l.digests, digest)
	}
	if l.rows >= len(l.labels) {
		return fmt.Errorf("%s: gold answer missing: %s has only %d labels, expected one per row", r.where, l.labelsPath, len(l.labels))
	}
	r.record["label"] = l.labels[l.rows]
	return nil
}

// finish makes the documents in scoring order and cuts them to the limit.
func (l *loader) finish() ([]Doc, error) {
	if l.labelsPath != "" && len(l.labels) != l.rows {
		return nil, fmt.Errorf("%s: %d labels for %d rows, expected one per row", l.labelsPath, len(l.labels), l.rows)
	}
	if l.task.Kind == BlockPerplexity {
		return l.blockDocs()
	}
	if l.task.Kind == RollingPerplexity {
		pages := l.texts
		if l.task.Name == "wikitext" && l.column != "page" {
			raw := l.texts[0]
			if l.column == "text" {
				raw = wikitextRaw(l.texts)
			}
			pages = wikitextPages(raw)
		}
		for i, p := range pages {
			l.docs = append(l.docs, Doc{ID: i, Original: p})
		}
	}
	if len(l.docs) == 0 {
		return nil, fmt.Errorf("%s: no documents for task %s, expected rows with %s", l.options.Path, l.task.Name, l.task.sample)
	}
	l.total = len(l.docs)
	if l.options.Protocol == Legacy {
		NewPyRandom(legacySeed).Shuffle(len(l.docs), func(i, j int) { l.docs[i], l.docs[j] = l.docs[j], l.docs[i] })
	}
	n, err := l.options.Limit.Count(l.total)
	if err != nil {
		return nil, err
	}
	docs := l.docs[:n:n]
	if l.task.Kind == RollingPerplexity {
		for i := range docs {
			d := &docs[i]
			d.Text = detokenize(d.Original)
			d.Words, d.Bytes = wordCount(d.Original), len(d.Original)
		}
	}
	return docs, nil
}

// blockDocs makes the documents of the block perplexities.
func (l *loader) blockDocs() ([]Doc, error) {
	texts := l.texts
	if l.task.Name == "wikitext2" {
		raw := texts[0]
		if l.column == "text" {
			raw = wikitextRaw(texts)
		}
		texts = []string{GPTQText(raw)}
	}
	docs := make([]Doc, len(texts))
	for i, text := range texts {
		docs[i] = Doc{ID: i, Text: text}
	}
	l.total = len(docs)
	return docs, nil
}

// RequestsSHA256 returns the SHA-256 of the data set's requests in scoring order: a JSON array of [context, continuation] (of [text] for
// RollingPerplexity) as Python's json.dumps writes it. Under Legacy without a limit it is the value that lm-evaluation-harness 0.3.0
// stores in tests/testdata.
func (d *Dataset) RequestsSHA256() string {
	h := sha256.New()
	buf := []byte{'['}
	item := func(texts ...string) {
		if len(buf) != 1 || buf[0] != '[' {
			buf = append(buf, ", "...)
		}
		buf = append(buf, '[')
		for i, s := range texts {
			if i > 0 {
				buf = append(buf, ", "...)
			}
			buf = AppendJSONString(buf, s)
		}
		buf = append(buf, ']')
		h.Write(buf)
		buf = buf[:0]
	}
	for _, doc := range d.Docs {
		if d.Kind != MultipleChoice {
			item(doc.Text)
			continue
		}
		for _, r := range doc.Requests {
			item(r.Context, r.Continuation)
		}
	}
	h.Write(append(buf, ']'))
	return hex.EncodeToString(h.Sum(nil))
}
