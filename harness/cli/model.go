package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
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
	c.Flags().StringVar(&f.source.Kernel, "kernel", "", "CPU kernel: avx512, avx2 or go (default: the fastest); results do not depend on it")
	if withMethod {
		c.Flags().StringVar(&f.method, "method", "", "YAML file with one method entry of a spec (split, codec, weight bits)")
	}
	cobra.CheckErr(c.MarkFlagRequired("model"))
}

// open loads the model and the session of the method.
func (f *modelFlags) open() (*exec.Loaded, *exec.Session, error) {
	var method spec.Method
	if f.method != "" {
		m, err := spec.LoadMethod(f.method)
		if err != nil {
			return nil, nil, usageError{err}
		}
		method = m
	}
	if f.source.MaxLength < 0 || f.source.BatchRows < 0 || f.source.Workers < 0 {
		return nil, nil, usagef("--max-length, --batch-tokens and --workers must not be negative")
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
	m, err := exec.FromSpec(method, l.Checkpoint.Config.Layers)
	if err != nil {
		l.Close()
		return nil, nil, usageError{fmt.Errorf("%s: %w", f.method, err)}
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

func jsonProblem(err error) string {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		return fmt.Sprintf("%q is a JSON %s, expected %s", t.Field, t.Value, t.Type)
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
