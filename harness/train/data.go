package train

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"splitbench/experiments/spec"
	"splitbench/harness/builtin"
	"splitbench/models/tokenizer"
	"splitbench/tasks"
)

// Limits on what a text file may make the program hold.
const (
	maxText = 1 << 30   // bytes of one file, unpacked
	maxLine = 64 << 20  // bytes of one line of JSON
	maxIDs  = 1<<31 - 1 // tokens of all sources
)

// document is a text or a row before it becomes tokens.
type document struct {
	text    string        // of a text
	request tasks.Request // of a row, text being empty
}

// source is a source with its documents.
type source struct {
	name      string
	rows      bool // documents are rows of an evaluation set
	documents []document
	weight    float64
	context   float64
}

// load reads the documents of a source.
func load(s spec.TrainingSource) (source, error) {
	out := source{name: s.Name, weight: s.Weight, context: s.ContextWeight}
	if s.Task == "" {
		if out.name == "" {
			out.name = filepath.Base(s.Text)
		}
		path, err := builtin.Resolve(s.Text)
		if err != nil {
			return out, err
		}
		if err = out.readTexts(path, s.Separator); err == nil {
			out.documents = out.documents[:s.Limit.Of(len(out.documents))]
		}
		return out, err
	}
	if out.name == "" {
		out.name = s.Task
	}
	path, err := builtin.Resolve(s.Path)
	if err != nil {
		return out, err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		// The folder of a task, or one that holds those of several.
		if inner, err := tasks.DefaultPath(path, s.Task); err == nil {
			path = inner
		}
	}
	set, err := tasks.Load(s.Task, tasks.Options{Path: path, Protocol: tasks.JointBOS})
	if err != nil {
		return out, err
	}
	out.rows = set.Kind == tasks.MultipleChoice
	for _, d := range set.Docs[:s.Limit.Of(len(set.Docs))] {
		if out.rows {
			out.documents = append(out.documents, document{request: d.Requests[d.Gold]})
		} else if d.Text != "" {
			out.documents = append(out.documents, document{text: d.Text})
		}
	}
	if len(out.documents) == 0 {
		return out, fmt.Errorf("%s: no documents", path)
	}
	return out, nil
}

// readTexts reads the files that a pattern names, in the order of their names.
func (s *source) readTexts(pattern, separator string) error {
	files := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if files, err = filepath.Glob(pattern); err != nil {
			return fmt.Errorf("%s: %w", pattern, err)
		}
		slices.Sort(files)
	}
	for _, f := range files {
		if err := s.readText(f, separator); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	if len(s.documents) == 0 {
		return fmt.Errorf("%s: no documents, expected files with text", pattern)
	}
	return nil
}

// readText reads one file.
func (s *source) readText(path, separator string) error {
	f, err := os.Open(path)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			return p.Err
		}
		return err
	}
	defer f.Close()
	return s.parseText(f, separator)
}

// parseText reads JSON lines or plain text, packed or not: the content says which.
func (s *source) parseText(r io.Reader, separator string) error {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(3)
	switch {
	case err != nil && err != io.EOF:
		return err
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = bufio.NewReaderSize(z, 1<<16)
	case bytes.HasPrefix(head, []byte("BZh")):
		in = bufio.NewReaderSize(bzip2.NewReader(in), 1<<16)
	}
	if head, err = in.Peek(64); err != nil && err != io.EOF {
		return err
	}
	if bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) {
		return s.parseLines(in, maxText, maxLine)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxText+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxText:
		return fmt.Errorf("more than %d bytes of text", maxText)
	case !utf8.Valid(data):
		return errors.New("the text is not valid UTF-8")
	}
	text := string(data)
	texts := []string{text}
	if separator != "" {
		texts = strings.Split(text, separator)
	}
	for _, t := range texts {
		if strings.TrimSpace(t) != "" {
			s.documents = append(s.documents, document{text: t})
		}
	}
	return nil
}

// parseLines reads one JSON object a line; its key text is a document. The limits are in bytes: of all, and of a line
// with its end.
func (s *source) parseLines(in io.Reader, maxText, maxLine int) error {
	limited := &io.LimitedReader{R: in, N: int64(maxText) + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxLine)
	n := 1
	for ; lines.Scan(); n++ {
		if limited.N == 0 {
			break
		}
		line := lines.Bytes()
		if !utf8.Valid(line) {
			return fmt.Errorf("line %d: the text is not valid UTF-8", n)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var row struct {
			Text *string `json:"text"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if row.Text == nil {
			return fmt.Errorf("line %d: no key text, expected {\"text\":\"...\"}", n)
		}
		if strings.TrimSpace(*row.Text) != "" {
			s.documents = append(s.documents, document{text: *row.Text})
		}
	}
	switch err := lines.Err(); {
	case limited.N == 0:
		return fmt.Errorf("more than %d bytes of text", maxText)
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("line %d: longer than %d bytes", n, maxLine)
	case err != nil:
		return fmt.Errorf("line %d: %w", n, err)
	}
	return nil
}

// texts yields everything that a tokenizer is trained on.
func texts(sources []source) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, s := range sources {
			for _, d := range s.documents {
				if d.text != "" {
					if !yield(d.text) {
						return
					}
				} else if !yield(d.request.Context + d.request.Continuation) {
					return
				}
			}
		}
	}
}

// set is sequences end to end.
type set struct {
	sources []source // their documents dropped
	ids     []int32
	ends    []int   // of each sequence
	context []int32 // leading tokens of each sequence that are context
	from    []int32 // source of each sequence
	cut     int     // sequences that lost tokens on the left
}

func (s *set) len() int { return len(s.ends) }

// sequence returns the tokens of sequence i; they are the set's.
func (s *set) sequence(i int) []int32 {
	start := 0
	if i > 0 {
		start = s.ends[i-1]
	}
	return s.ids[start:s.ends[i]]
}

// longest is the number of tokens of the longest sequence.
func (s *set) longest() int {
	n := 0
	for i := range s.len() {
		n = max(n, len(s.sequence(i)))
	}
	return n
}

// weights appends the weights of the predictions of sequence i to dst.
func (s *set) weights(dst []float32, i int) []float32 {
	context := float32(s.sources[s.from[i]].context)
	for k := range len(s.sequence(i)) - 1 {
		if k+1 < int(s.context[i]) {
			dst = append(dst, context)
		} else {
			dst = append(dst, 1)
		}
	}
	return dst
}

// weighted says whether any weight may differ from 1.
func (s *set) weighted() bool {
	return slices.ContainsFunc(s.sources, func(s source) bool { return s.rows && s.context != 1 })
}

// digest is the SHA-256 of the sequences and of what is known of each.
func (s *set) digest() string {
	h := sha256.New()
	var b []byte
	for i := range s.ends {
		b = binary.LittleEndian.AppendUint64(b[:0], uint64(s.ends[i]))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.context[i]))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.from[i]))
		for _, id := range s.sequence(i) {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// encode makes sequences of at most length tokens of all documents. Sequences begin with BOS; the last one of a
// document ends with EOS.
func encode(tok tokenizer.Tokenizer, sources []source, length int) (*set, error) {
	bos, ok := tok.BOS()
	eos, also := tok.EOS()
	if !ok || !also {
		return nil, errors.New("the tokenizer has no BOS or no EOS, expected both")
	}
	out := &set{}
	for k, s := range sources {
		before := out.len()
		parts := make([]part, (len(s.documents)+documentsAtOnce-1)/documentsAtOnce)
		var wg sync.WaitGroup
		free := make(chan struct{}, runtime.GOMAXPROCS(0))
		for i := range parts {
			wg.Go(func() {
				free <- struct{}{}
				defer func() { <-free }()
				p := &parts[i]
				for _, d := range s.documents[i*documentsAtOnce : min(len(s.documents), (i+1)*documentsAtOnce)] {
					if p.err = p.add(tok, d, bos, eos, length); p.err != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		for _, p := range parts {
			if p.err != nil {
				return nil, fmt.Errorf("source %s: %w", s.name, p.err)
			}
			if len(out.ids)+len(p.ids) > maxIDs {
				return nil, fmt.Errorf("source %s: more than %d tokens", s.name, maxIDs)
			}
			for i, n := range p.lengths {
				start := 0
				if len(out.ends) > 0 {
					start = out.ends[len(out.ends)-1]
				}
				out.ends = append(out.ends, start+n)
				out.context = append(out.context, p.context[i])
				out.from = append(out.from, int32(k))
			}
			out.ids = append(out.ids, p.ids...)
			out.cut += p.cut
		}
		if out.len() == before {
			return nil, fmt.Errorf("source %s has no tokens", s.name)
		}
		s.documents = nil
		out.sources = append(out.sources, s)
	}
	if out.len() == 0 {
		return nil, errors.New("the sources have no tokens")
	}
	return out, nil
}

// documentsAtOnce is how many documents one item of encode takes.
const documentsAtOnce = 256

// part is the sequences of some documents.
type part struct {
	ids     []int32
	lengths []int
	context []int32
	cut     int
	err     error
}

func (p *part) add(tok tokenizer.Tokenizer, d document, bos, eos int32, length int) error {
	if d.text == "" {
		pair, err := tasks.Tokenize(tasks.JointBOS, tok, d.request)
		if err != nil {
			return err
		}
		ids := slices.Concat(pair.Context, pair.Continuation, []int32{eos})
		context := len(pair.Context)
		if ids[0] != bos {
			ids = slices.Insert(ids, 0, bos)
			context++
		}
		if drop := len(ids) - length; drop > 0 {
			ids = slices.Delete(ids, 1, 1+drop)
			context = max(1, context-drop)
			p.cut++
		}
		p.push(ids, context)
		return nil
	}
	ids := append(tok.Encode(d.text, false), eos)
	for len(ids) > 0 {
		n := min(len(ids), length-1)
		if len(ids)-n == 1 && n > 1 {
			n-- // an EOS alone would teach nothing but the length
		}
		p.push(append([]int32{bos}, ids[:n]...), 0)
		ids = ids[n:]
	}
	return nil
}

func (p *part) push(ids []int32, context int) {
	p.ids = append(p.ids, ids...)
	p.lengths = append(p.lengths, len(ids))
	p.context = append(p.context, int32(context))
}

// spread returns the indices of sequences of one source, evenly spaced over it, that hold about the given number of
// tokens; 0: all.
func (s *set) spread(from, tokens int) []int {
	var own []int
	total := 0
	for i, f := range s.from {
		if int(f) == from {
			own = append(own, i)
			total += len(s.sequence(i)) - 1
		}
	}
	if tokens == 0 || total <= tokens {
		return own
	}
	n := max(1, len(own)*tokens/total)
	out := make([]int, n)
	for i := range out {
		out[i] = own[i*len(own)/n]
	}
	return out
}
