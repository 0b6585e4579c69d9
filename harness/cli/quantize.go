package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"splitbench/harness/bench"
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
	plan                                               quantize.CalibrationPlan
	drawn                                              bool // a flag of the plan was given
}

func newQuantize(s streams) *cobra.Command {
	var f quantizeFlags
	c := &cobra.Command{
		Use:   "quantize --model DIR --method FILE.yaml --out DIR",
		Short: "Quantize a model by a baseline: RTN, GPTQ, SmoothQuant, OmniQuant, Atom, AWQ, QuaRot",
		Long: `The method is a YAML file with the keys of one method (method, weight, activation,
attention and the part of the algorithm), or the name of a preset.

Calibration lines are {"ids":[...]} or {"text":"..."}; each is one sequence, taken as
it is: text gets the tokenizer's own special tokens. The order of the lines matters to
the last bit. From a plain text file, from one line longer than the model has positions,
and wherever --sequences, --tokens or --seed is given, windows are drawn instead as the
methods' authors do, by Python's random: from one document as GPTQ, OmniQuant and Atom
draw them from WikiText2 (rows joined by blank lines), from several lines by their rule
for C4. What no flag says comes from the method's calibration plan.

The folder gets packed integers with their scales and zeros, and in the metadata the
method with its treatment of activations, keys and values; run, score and generate
take it as a model and compute what the method computes. With --simulate it gets the
dequantized weights as an ordinary float32 checkpoint, for other programs: there
activations, keys and values stay as they are.

Finished layers are kept in a hidden folder beside --out until all are there: after an
interruption the same command goes on behind them, to the same bytes.`,
		Example: `  splitbench quantize --model DIR --method gptq.yaml --calibration train.jsonl --out DIR-gptq
  splitbench quantize --model DIR --method gptq-w4 --calibration wiki.train.txt --tokens 512 --out DIR-gptq
  splitbench quantize --model DIR --method rtn-w4 --out DIR-rtn`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			changed := cmd.Flags().Changed
			m, err := loadQuantization(f.method)
			if err != nil {
				return usageError{err}
			}
			for _, v := range []struct {
				flag string
				set  func()
			}{
				{"sequences", func() { m.Calibration.Sequences = f.plan.Sequences }},
				{"tokens", func() { m.Calibration.Tokens = f.plan.Tokens }},
				{"seed", func() { m.Calibration.Seed = f.plan.Seed }},
			} {
				if changed(v.flag) {
					v.set()
					f.drawn = true
				}
			}
			if err := errors.Join(within("sequences", m.Calibration.Sequences, 0, 1<<20), within("tokens", m.Calibration.Tokens, 0, 1<<24)); err != nil {
				return err
			}
			return runQuantize(cmd.Context(), s, f, m)
		},
	}
	c.Flags().StringVar(&f.model, "model", "", "model: Hugging Face folder, ORG/NAME[@REVISION] in the hub cache, or builtin:NAME")
	c.Flags().StringVar(&f.method, "method", "", "YAML file of the method, or the name of a preset")
	c.Flags().StringVar(&f.calibration, "calibration", "", "calibration lines or a text file, - for standard input; methods that look at weights alone need none")
	c.Flags().IntVar(&f.plan.Sequences, "sequences", 0, "calibration windows to draw (default: the method's plan)")
	c.Flags().IntVar(&f.plan.Tokens, "tokens", 0, "tokens of a window (default: the method's plan)")
	c.Flags().Uint64Var(&f.plan.Seed, "seed", 0, "seed of the windows (default: the method's plan)")
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
	return quantise.ParseMethod(name, b)
}

// maxText bounds a calibration text in bytes.
const maxText = 1 << 30

// calibrationSource is a calibration set as it was given.
type calibrationSource struct {
	name      string
	documents [][]int32
	lines     []int // line of each document, nil for a text file
}

// readCalibration reads calibration lines, or a text that does not begin with
// a brace as one document.
func readCalibration(in io.Reader, name string, c checkpoint.Config, t func() (tokenizer.Tokenizer, error)) (*calibrationSource, error) {
	src := &calibrationSource{name: name}
	b := bufio.NewReader(in)
	if text, err := isText(b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	} else if text {
		all, err := io.ReadAll(io.LimitReader(b, maxText+1))
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		case len(all) > maxText:
			return nil, fmt.Errorf("%s: longer than %d bytes", name, maxText)
		case !utf8.Valid(all):
			return nil, fmt.Errorf("%s: not UTF-8", name)
		}
		tok, err := t()
		if err != nil {
			return nil, err
		}
		src.documents = [][]int32{tok.Encode(string(all), true)}
		return src, src.check(name, src.documents[0], c)
	}
	err := jsonLines(b, name, func(line int, text []byte) error {
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
		src.documents, src.lines = append(src.documents, ids), append(src.lines, line)
		return src.check(fmt.Sprintf("%s:%d", name, line), ids, c)
	})
	return src, err
}

// isText says whether the first character that is no blank is not a brace.
func isText(b *bufio.Reader) (bool, error) {
	head, err := b.Peek(b.Size())
	if err != nil && err != io.EOF {
		return false, err
	}
	head = bytes.TrimLeft(head, " \t\r\n\uFEFF")
	return len(head) > 0 && head[0] != '{', nil
}

func (s *calibrationSource) check(place string, ids []int32, c checkpoint.Config) error {
	if len(ids) == 0 {
		return fmt.Errorf("%s: no tokens", place)
	}
	for _, id := range ids {
		if id < 0 || int(id) >= c.VocabSize {
			return fmt.Errorf("%s: token id %d is outside the vocabulary of %d", place, id, c.VocabSize)
		}
	}
	return nil
}

// sequences returns the calibration sequences, and whether they are windows
// drawn by the plan: of a text, of one line that is longer than the model's
// positions, and where that is asked for.
func (s *calibrationSource) sequences(p quantize.CalibrationPlan, asked bool, c checkpoint.Config) (all [][]int32, drawn bool, err error) {
	if asked || s.lines == nil || len(s.documents) == 1 && len(s.documents[0]) > c.MaxPositions {
		switch {
		case p.Sequences == 0 || p.Tokens == 0:
			return nil, true, usagef("the method has no calibration plan: expected --sequences and --tokens to draw windows of %s", s.name)
		case p.Tokens > c.MaxPositions:
			return nil, true, usagef("windows of %d tokens, the model has %d positions: expected a smaller --tokens", p.Tokens, c.MaxPositions)
		}
		if all, err = p.Draw(s.documents); err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
		}
		return all, true, err
	}
	for i, ids := range s.documents {
		if len(ids) > c.MaxPositions {
			return nil, false, fmt.Errorf("%s:%d: %d tokens, the model has %d positions", s.name, s.lines[i], len(ids), c.MaxPositions)
		}
	}
	return s.documents, false, nil
}

func runQuantize(ctx context.Context, s streams, f quantizeFlags, m quantize.Method) (err error) {
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
	if err := checkOut(f.out); err != nil {
		return err
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	calibration, err := openCalibration(s, f, &m, c.Config)
	if err != nil {
		return err
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
	// What is written appears under its name when it is whole. Until then it
	// lies beside it, under the key of all that decides its bytes.
	out := filepath.Clean(f.out)
	key, err := quantise.NewHeader(digest, m, calibration).Key()
	if err != nil {
		return err
	}
	work := filepath.Join(filepath.Dir(out), fmt.Sprintf(".%s-%.16s", filepath.Base(out), key))
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	layers := c.Config.Layers
	var w *quantise.Writer
	defer func() {
		if err == nil {
			return
		}
		if n := 0; w != nil {
			if n = w.Kept(layers); n > 0 {
				err = fmt.Errorf("%w; %d of %d layers are kept in %s, the same command goes on behind them", err, n, layers, work)
				return
			}
		}
		os.RemoveAll(work)
	}()
	if err := copyTokenizer(path, work); err != nil {
		return err
	}
	if k, err := quantise.OpenStored(work); err == nil {
		m = k.Header.Method // with what was chosen on the calibration set
	}
	if m, err = quantise.Resolve(ctx, c, be, m, calibration); err != nil {
		return err
	}
	w = quantise.NewWriter(work, path, quantise.NewHeader(digest, m, calibration))
	o := quantizeProgress(s.err, c.Config, f.quiet)
	if _, err := quantise.Quantize(ctx, c, be, m, calibration, o, w); err != nil {
		return err
	}
	if err := w.Finish(); err != nil {
		return err
	}
	result := work
	if f.simulate {
		if result, err = simulate(work, path, m, out); err != nil {
			return err
		}
	}
	if err := place(result, out); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// openCalibration reads the calibration set of the flags, with windows drawn by
// the plan of the method, which is emptied where sequences are taken as they
// are.
func openCalibration(s streams, f quantizeFlags, m *quantize.Method, c checkpoint.Config) ([][]int32, error) {
	if f.calibration == "" {
		if quantise.NeedsCalibration(*m) {
			return nil, usagef("method %s needs --calibration", f.method)
		}
		if f.drawn {
			return nil, usagef("--sequences, --tokens and --seed are for --calibration")
		}
		m.Calibration = quantize.CalibrationPlan{}
		return nil, nil
	}
	in, err := s.openInput(f.calibration)
	if err != nil {
		return nil, usageError{err}
	}
	var tok tokenizer.Tokenizer
	src, err := readCalibration(in, displayName(f.calibration), c, func() (tokenizer.Tokenizer, error) {
		if tok != nil {
			return tok, nil
		}
		var err error
		tok, err = openTokenizer(f.model, f.tokenizer)
		return tok, err
	})
	if err := errors.Join(err, in.Close()); err != nil {
		return nil, err
	}
	all, drawn, err := src.sequences(m.Calibration, f.drawn, c)
	if err != nil {
		return nil, err
	}
	if !drawn {
		m.Calibration = quantize.CalibrationPlan{}
	} else if !f.quiet {
		p := m.Calibration
		fmt.Fprintf(s.err, "calibration: %d windows of %d tokens, seed %d, of %d documents\n", p.Sequences, p.Tokens, p.Seed, len(src.documents))
	}
	return all, nil
}

// simulate writes the checkpoint in work as an ordinary one and returns its
// folder, beside out.
func simulate(work, source string, m quantize.Method, out string) (string, error) {
	st, err := quantise.OpenStored(work)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".splitbench-quantize-*")
	if err != nil {
		return "", err
	}
	err = os.Chmod(dir, 0o755)
	if err == nil {
		err = copyTokenizer(work, dir)
	}
	if err == nil {
		err = st.Send(quantise.NewSimulated(dir, source, m))
	}
	if err != nil {
		os.RemoveAll(dir)
	}
	return dir, err
}

// quantizeProgress tells of the layers as they get ready, with the time that
// each took, and in the end of the time and the memory of all.
func quantizeProgress(to io.Writer, c checkpoint.Config, quiet bool) quantise.Options {
	if quiet {
		return quantise.Options{}
	}
	var started, last time.Time
	var before int64
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	return quantise.Options{
		Estimate: func(d time.Duration) {
			fmt.Fprintf(to, "the training will take about %s\n", d.Round(time.Second))
		},
		Progress: func(p quantise.Step) {
			now := time.Now()
			switch {
			case p.Block == 0:
				before = bench.RestartPeakMemory()
				started, last = now, now
				return
			case p.Kept:
				fmt.Fprintf(to, "layer %d of %d: kept\n", p.Block, p.Blocks)
			default:
				fmt.Fprintf(to, "layer %d of %d: %.2f s%s\n", p.Block, p.Blocks, now.Sub(last).Seconds(), lossText(p.Loss))
			}
			last = now
			if p.Block < p.Blocks {
				return
			}
			fmt.Fprintf(to, "%d layers in %.2f s\n", p.Blocks, now.Sub(started).Seconds())
			if peak := bench.PeakMemory(); peak > 0 && before > 0 {
				block, hessian := quantise.Sizes(c)
				fmt.Fprintf(to, "peak memory %.1f MiB: %.1f MiB before the first layer, %.1f MiB beyond; in float32 a layer is %.1f MiB, its largest Hessian %.1f MiB\n",
					mib(peak), mib(before), mib(peak-before), mib(block), mib(hessian))
			}
		},
	}
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
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		n := e.Name()
		if ext := filepath.Ext(n); e.IsDir() || !slices.Contains(tokenizerFiles, n) && ext != ".tiktoken" && ext != ".model" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, n))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, n), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
