package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"splitbench/harness/exec"
	"splitbench/harness/quantise"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/quantize"
	"splitbench/models/tokenizer"
)

// quantizeFlags are the flags of the verb quantize.
type quantizeFlags struct {
	model, tokenizer, method, calibration, out, kernel string
	simulate, quiet                                    bool
	workers                                            int
}

func newQuantize(s streams) *cobra.Command {
	var f quantizeFlags
	c := &cobra.Command{
		Use:   "quantize --model DIR --method FILE.yaml --out DIR",
		Short: "Quantize a model by a baseline: RTN, GPTQ, SmoothQuant, OmniQuant, Atom, AWQ, QuaRot",
		Long: `The method is a YAML file with the keys of one method (method, weight, activation,
attention and the part of the algorithm), or the name of a preset. Calibration lines
are {"ids":[...]} or {"text":"..."}; each is one sequence, taken as it is: text gets
the tokenizer's own special tokens. The order of the lines matters to the last bit.

The folder gets packed integers with their scales and zeros, and in the metadata the
method with its treatment of activations, keys and values; run, score and generate
take it as a model and compute what the method computes. With --simulate it gets the
dequantized weights as an ordinary float32 checkpoint, for other programs: there
activations, keys and values stay as they are.`,
		Example: `  splitbench quantize --model DIR --method gptq.yaml --calibration train.jsonl --out DIR-gptq
  splitbench quantize --model DIR --method rtn-w4 --out DIR-rtn`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runQuantize(cmd.Context(), s, f) },
	}
	c.Flags().StringVar(&f.model, "model", "", "model: Hugging Face folder, ORG/NAME[@REVISION] in the hub cache, or builtin:NAME")
	c.Flags().StringVar(&f.method, "method", "", "YAML file of the method, or the name of a preset")
	c.Flags().StringVar(&f.calibration, "calibration", "", "file of calibration sequences, - for standard input; methods that look at weights alone need none")
	c.Flags().StringVar(&f.out, "out", "", "folder to write, which must not exist or be empty")
	c.Flags().StringVar(&f.tokenizer, "tokenizer", "", "tokenizer file or folder (default: found beside the model)")
	c.Flags().BoolVar(&f.simulate, "simulate", false, "write the dequantized weights as an ordinary checkpoint")
	c.Flags().BoolVar(&f.quiet, "quiet", false, "no progress on standard error")
	c.Flags().IntVar(&f.workers, "workers", 0, "CPU workers (default: all cores); results do not depend on it")
	c.Flags().StringVar(&f.kernel, "kernel", "", "CPU kernel: avx512, avx2 or go (default: the fastest); results do not depend on it")
	for _, name := range []string{"model", "method", "out"} {
		cobra.CheckErr(c.MarkFlagRequired(name))
	}
	return c
}

// loadQuantization reads a method file, or takes the preset of that name.
func loadQuantization(name string) (quantize.Method, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "./\\") {
		return quantize.Preset(name)
	}
	if err != nil {
		return quantize.Method{}, err
	}
	var m quantize.Method
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %s", name, strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " "))
	}
	if err := d.Decode(&yaml.Node{}); err != io.EOF {
		return m, fmt.Errorf("%s: more than one YAML document", name)
	}
	if err := m.Validate(); err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// readCalibration reads the lines of a calibration set.
func readCalibration(in io.Reader, name string, c checkpoint.Config, t func() (tokenizer.Tokenizer, error)) ([][]int32, error) {
	var all [][]int32
	err := jsonLines(in, name, func(line int, text []byte) error {
		var q struct {
			IDs  *[]int32 `json:"ids"`
			Text *string  `json:"text"`
		}
		if err := decodeLine(name, line, text, &q); err != nil {
			return err
		}
		var ids []int32
		switch {
		case (q.IDs == nil) == (q.Text == nil):
			return fmt.Errorf(`%s:%d: expected {"ids":[...]} or {"text":"..."}`, name, line)
		case q.IDs != nil:
			ids = *q.IDs
		default:
			tok, err := t()
			if err != nil {
				return err
			}
			ids = tok.Encode(*q.Text, true)
		}
		switch {
		case len(ids) == 0:
			return fmt.Errorf("%s:%d: no tokens", name, line)
		case len(ids) > c.MaxPositions:
			return fmt.Errorf("%s:%d: %d tokens, the model has %d positions", name, line, len(ids), c.MaxPositions)
		}
		for _, id := range ids {
			if id < 0 || int(id) >= c.VocabSize {
				return fmt.Errorf("%s:%d: token id %d is outside the vocabulary of %d", name, line, id, c.VocabSize)
			}
		}
		all = append(all, ids)
		return nil
	})
	return all, err
}

func runQuantize(ctx context.Context, s streams, f quantizeFlags) error {
	m, err := loadQuantization(f.method)
	if err != nil {
		return usageError{err}
	}
	if err := checkCompute(0, f.workers); err != nil {
		return err
	}
	if err := checkKernel(f.kernel); err != nil {
		return err
	}
	path, err := exec.Locate(f.model)
	if err != nil {
		return usageError{err}
	}
	if quantise.IsStored(path) {
		return usagef("%s is quantized already", path)
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return usagef("%s is a file, expected a Hugging Face folder", path)
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	var calibration [][]int32
	if f.calibration == "" && quantise.NeedsCalibration(m) {
		return usagef("method %s needs --calibration", f.method)
	}
	if f.calibration != "" {
		in, err := s.openInput(f.calibration)
		if err != nil {
			return usageError{err}
		}
		var tok tokenizer.Tokenizer
		calibration, err = readCalibration(in, displayName(f.calibration), c.Config, func() (tokenizer.Tokenizer, error) {
			if tok != nil {
				return tok, nil
			}
			var err error
			tok, err = openTokenizer(f.model, f.tokenizer)
			return tok, err
		})
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	if entries, err := os.ReadDir(f.out); err == nil && len(entries) > 0 {
		return usagef("--out %s is not empty", f.out)
	}
	digest, err := c.Digest()
	if err != nil {
		return err
	}
	be, err := cpu.New(cpu.Options{Workers: f.workers, Kernel: f.kernel})
	if err != nil {
		return err
	}
	defer be.Close()
	// What is written appears under its name when it is whole.
	out := filepath.Clean(f.out)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".splitbench-quantize-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := copyTokenizer(path, dir); err != nil {
		return err
	}
	if m, err = quantise.Resolve(ctx, c, be, m, calibration); err != nil {
		return err
	}
	var sink quantise.Sink = quantise.NewWriter(dir, path, quantise.NewHeader(digest, m, calibration))
	if f.simulate {
		sink = quantise.NewSimulated(dir, path, m)
	}
	progress := func(p quantise.Step) {
		if !f.quiet {
			fmt.Fprintf(s.err, "layer %d of %d%s\n", p.Block, p.Blocks, lossText(p.Loss))
		}
	}
	estimate := func(d time.Duration) {
		if !f.quiet {
			fmt.Fprintf(s.err, "the training will take about %s\n", d.Round(time.Second))
		}
	}
	if _, err := quantise.Quantize(ctx, c, be, m, calibration, quantise.Options{Progress: progress, Estimate: estimate}, sink); err != nil {
		return err
	}
	if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(dir, out)
}

func lossText(loss float64) string {
	if loss == 0 {
		return ""
	}
	return fmt.Sprintf(", loss %.6g", loss)
}

// tokenizerFiles are what may lie beside a model for its tokenizer and its
// chat template.
var tokenizerFiles = []string{
	"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tokenizer.bin", "tekken.json", "vocab.json", "merges.txt",
	"encoder.json", "vocab.bpe", "special_tokens_map.json", "added_tokens.json", "generation_config.json", "chat_template.jinja", "chat_template.json",
}

// copyTokenizer copies the files of a tokenizer.
func copyTokenizer(from, to string) error {
	names := tokenizerFiles
	for _, pattern := range []string{"*.tiktoken", "*.model"} {
		found, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return err
		}
		for _, p := range found {
			names = append(names[:len(names):len(names)], filepath.Base(p))
		}
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(from, n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, n), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
