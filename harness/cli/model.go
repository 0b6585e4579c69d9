package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/harness/runner"
	"splitbench/models/tokenizer"
)

// modelFlags are the flags of every verb that runs a model.
type modelFlags struct {
	source exec.Source
	method string
}

func (f *modelFlags) add(c *cobra.Command, withMethod bool) {
	c.Flags().StringVar(&f.source.Path, "model", "", "model: Hugging Face folder, llama2.c .bin file, ORG/NAME[@REVISION] in the hub cache, or builtin:NAME")
	c.Flags().StringVar(&f.source.Tokenizer, "tokenizer", "", "tokenizer file or folder (default: found beside the model)")
	c.Flags().IntVar(&f.source.MaxLength, "max-length", 0, "longest input in tokens; longer ones lose tokens on the left (default: the model's own limit)")
	c.Flags().IntVar(&f.source.BatchRows, "batch-tokens", exec.DefaultBatchRows, "tokens of one forward pass; results do not depend on it")
	c.Flags().IntVar(&f.source.Workers, "workers", 0, "CPU workers (default: all cores); results do not depend on it")
	c.Flags().StringVar(&f.source.Kernel, "kernel", "", "CPU kernel: avx512, avx2, neon or go (default: the fastest); results do not depend on it")
	if withMethod {
		c.Flags().StringVar(&f.method, "method", "", "YAML file with one method entry of a spec (split, codec, weight bits, quantizer)")
	}
	cobra.CheckErr(c.MarkFlagRequired("model"))
}

// open loads the model and the session of the method. progress gets lines while
// the model is quantized.
func (f *modelFlags) open(ctx context.Context, progress io.Writer) (*exec.Loaded, *exec.Session, error) {
	var method spec.Method
	if f.method != "" {
		m, err := spec.LoadMethod(f.method)
		if err != nil {
			return nil, nil, usageError{err}
		}
		method = m
	}
	if err := checkCompute(f.source.BatchRows, f.source.Workers); err != nil {
		return nil, nil, err
	}
	if f.source.MaxLength < 0 || f.source.MaxLength > maxLengthLimit {
		return nil, nil, usagef("--max-length %d, expected at most %d", f.source.MaxLength, maxLengthLimit)
	}
	if err := checkKernel(f.source.Kernel); err != nil {
		return nil, nil, err
	}
	src := f.source
	for _, path := range []*string{&src.Path, &src.Tokenizer} {
		var err error
		if *path, err = exec.Locate(*path); err != nil {
			return nil, nil, usageError{err}
		}
	}
	l, err := exec.Open(src)
	if err != nil {
		return nil, nil, err
	}
	tables, err := exec.LoadTables(method.Boundary)
	var m exec.Method
	if err == nil {
		m, err = exec.FromSpec(method, l.Checkpoint.Config, tables)
	}
	if err != nil {
		l.Close()
		return nil, nil, usageError{fmt.Errorf("%s: %w", f.method, err)}
	}
	if method.Quantized() {
		c := spec.Cell{Model: spec.Model{Name: f.source.Path, Path: src.Path, Tokenizer: src.Tokenizer, MaxLength: src.MaxLength}, Method: method}
		w := runner.NewWorkbench(runner.Compute{})
		if _, err = w.Quantize(ctx, l, c, func(line string) { fmt.Fprintln(progress, line) }); err != nil {
			l.Close()
			return nil, nil, usageError{fmt.Errorf("%s: %w", f.method, err)}
		}
	}
	s, err := l.Engine.NewSession(m)
	if err != nil {
		l.Close()
		if f.method != "" {
			err = usageError{fmt.Errorf("%s: %w", f.method, err)}
		}
		return nil, nil, err
	}
	return l, s, nil
}

// maxLengthLimit bounds --max-length: no model reads more tokens at once.
const maxLengthLimit = 1 << 24

// checkCompute refuses sizes that make no sense.
func checkCompute(batchRows, workers int) error {
	if batchRows < 0 || batchRows > 1<<24 {
		return usagef("--batch-tokens %d, expected 0 (default) to %d", batchRows, 1<<24)
	}
	if workers < 0 || workers > 4096 {
		return usagef("--workers %d, expected 0 (all cores) to 4096", workers)
	}
	return nil
}

// checkKernel refuses a kernel that does not run here.
func checkKernel(name string) error {
	if name != "" && !slices.Contains(exec.Kernels(), name) {
		return usagef("--kernel %s is not available here, expected one of %s", name, strings.Join(exec.Kernels(), ", "))
	}
	return nil
}

// openTokenizer loads the tokenizer that the two flags name.
func openTokenizer(model, file string) (tokenizer.Tokenizer, error) {
	path := model
	if file != "" {
		path = file
	}
	path, err := exec.Locate(path)
	if err != nil {
		return nil, usageError{err}
	}
	return tokenizer.Load(path)
}

// maxLine bounds one line of JSON input, in bytes.
const maxLine = 64 << 20

// jsonLines calls each with the number (from 1) and the text of every line
// that is not blank.
func jsonLines(r io.Reader, name string, each func(line int, text []byte) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), maxLine)
	n := 0
	for sc.Scan() {
		n++
		if text := bytes.TrimSpace(sc.Bytes()); len(text) > 0 {
			if err := each(n, text); err != nil {
				return err
			}
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: line longer than %d bytes", name, n+1, maxLine)
	}
	return sc.Err()
}

// decodeLine reads one JSON object strictly: unknown keys and trailing data
// are errors.
func decodeLine(name string, line int, text []byte, into any) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("%s:%d: not UTF-8", name, line)
	}
	if err := exactKeys(text, into); err != nil {
		return fmt.Errorf("%s:%d: %w", name, line, err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s:%d: %s", name, line, jsonProblem(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%s:%d: data after the JSON object", name, line)
	}
	return nil
}

// exactKeys refuses what encoding/json lets pass: keys that differ in case,
// keys given twice, and null where a value or a list's element is expected. A
// text that is no object is left to the decoder.
func exactKeys(text []byte, into any) error {
	known := map[string]bool{}
	t := reflect.TypeOf(into).Elem()
	for i := range t.NumField() {
		known[t.Field(i).Tag.Get("json")] = true
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return nil
		}
		if !known[key] {
			return fmt.Errorf("unknown key %q", key)
		}
		if seen[key] {
			return fmt.Errorf("key %q is given twice", key)
		}
		seen[key] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil
		}
		if bytes.Equal(value, []byte("null")) {
			return fmt.Errorf("key %q is null", key)
		}
		var list []json.RawMessage
		if json.Unmarshal(value, &list) == nil {
			for i, e := range list {
				if bytes.Equal(e, []byte("null")) {
					return fmt.Errorf("key %q: element %d is null", key, i)
				}
			}
		}
	}
	return nil
}

func jsonProblem(err error) string {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		if t.Field == "" {
			return fmt.Sprintf("a JSON %s, expected an object", t.Value)
		}
		want := map[reflect.Kind]string{reflect.String: "a string", reflect.Int32: "a whole number of 32 bits"}[t.Type.Kind()]
		if want == "" {
			want = "a list of whole numbers"
		}
		return fmt.Sprintf("key %q is a JSON %s, expected %s", t.Field, t.Value, want)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "the JSON object is cut off"
	}
	if key, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return "unknown key " + key
	}
	return fmt.Sprintf("not a JSON object: %v", err)
}

// printer writes JSON lines without escaping <, > and &.
type printer struct {
	w *bufio.Writer
	e *json.Encoder
}

func newPrinter(w io.Writer) *printer {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return &printer{b, e}
}

func (p *printer) print(v any) error { return p.e.Encode(v) }
func (p *printer) flush() error      { return p.w.Flush() }

func displayName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}
