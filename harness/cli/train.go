package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"splitbench/experiments/spec"
	"splitbench/harness/train"
)

func newTrain(s streams) *cobra.Command {
	var o train.Options
	var quiet, keys bool
	c := &cobra.Command{
		Use:   "train SPEC.yaml",
		Short: "Train a decoder model from random weights, with its tokenizer",
		Long: `Trains a Llama model with grouped queries on texts and on the rows of evaluation
sets (context and right answer), with AdamW, and writes it to results/<name>/ (or --out)
in the Hugging Face layout: config.json, model.safetensors, tokenizer.json and what
belongs to them, with training.yaml (resolved), train.csv (the log), loss.png, .svg and
.pdf, and summary.json. timing.csv alone differs from run to run.

The same training file and data give the same bytes, whatever the number of workers.
After a kill or Ctrl-C the same command goes on from the last checkpoint and writes what
a run without a stop writes. A folder that is whole is left as it is.

A training file (--keys explains every key):

  name: stories
  model: {hidden_size: 128, intermediate_size: 352, layers: 8, heads: 4, kv_heads: 2}
  tokenizer: {vocabulary: 1024}                    # trained; or {path: FILE}
  data:
    train:
      - {text: stories/train-*.txt, separator: "\n\n"}
      - {task: piqa, path: world/train, weight: 2}
    validation:
      - {task: piqa, path: world/validation}
  training: {tokens: 10000000, learning_rate: 0.003}`,
		Example: `  splitbench train stories.yaml
  splitbench train stories.yaml --out models/stories --workers 2`,
		Args: func(c *cobra.Command, args []string) error {
			if keys {
				return cobra.NoArgs(c, args)
			}
			return cobra.ExactArgs(1)(c, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if keys {
				return listTrainingKeys(s.out)
			}
			return runTrain(cmd.Context(), s, args[0], o, quiet)
		},
	}
	c.Flags().StringVar(&o.Dir, "out", "", "folder of the model (default results/<name>)")
	c.Flags().IntVar(&o.Workers, "workers", 0, "CPU workers (default: all cores); results do not depend on it")
	c.Flags().StringVar(&o.Kernel, "kernel", "", "CPU kernel: avx512, avx2, neon or go (default: the fastest); results do not depend on it")
	c.Flags().BoolVar(&quiet, "quiet", false, "no progress on standard error")
	c.Flags().BoolVar(&keys, "keys", false, "explain the keys of a training file")
	return c
}

func listTrainingKeys(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "key\tvalue\tdefault\twhat")
	for _, k := range spec.TrainingKeys() {
		value := k.Default
		if k.Required {
			value = "(required)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.Path, k.Type, value, k.Doc)
	}
	return t.Flush()
}

func runTrain(ctx context.Context, s streams, path string, o train.Options, quiet bool) error {
	if err := checkCompute(0, o.Workers); err != nil {
		return err
	}
	if err := checkKernel(o.Kernel); err != nil {
		return err
	}
	t, err := spec.LoadTraining(path, spec.LoadOptions{Env: lookupEnv})
	if err != nil {
		return usageError{err}
	}
	if o.Dir == "" {
		o.Dir = filepath.Join("results", t.Name)
	}
	o.CopyTokenizer = copyTokenizer
	if !quiet {
		p := &trainProgress{w: s.err, terminal: isTerminal(s.err)}
		defer p.stop()
		o.Stage, o.Progress = p.stage, p.step
	}
	ctx, stop := interruptible(ctx, s.err, "saving the state")
	defer stop()
	r, err := train.Run(ctx, t, o)
	if err != nil {
		return err
	}
	if r.Done {
		fmt.Fprintf(s.out, "%s is whole already\n", r.Dir)
	}
	fmt.Fprintf(s.out, "%d parameters, vocabulary of %d, %d steps, %d tokens\n", r.Parameters, r.Vocabulary, r.Steps, r.Tokens)
	fmt.Fprintf(s.out, "training loss %.4f at the end, validation loss %.4f in float32, %.4f as written\n", r.Loss, r.Validation, r.Stored)
	for _, l := range r.BySource {
		fmt.Fprintf(s.out, "  %s: %.4f on %d tokens\n", l.Name, l.Loss, l.Tokens)
	}
	if r.Seconds > 0 {
		fmt.Fprintf(s.err, "%d tokens in %s: %.0f tokens/s, %.1f GFLOP/s, %.0f%% of the machine's %.1f GFLOP/s\n",
			r.Learnt, time.Duration(r.Seconds*float64(time.Second)).Round(100*time.Millisecond), float64(r.Learnt)/r.Seconds,
			float64(r.Learnt)/r.Seconds*r.FlopsPerToken/1e9, 100*r.Share(), r.Peak/1e9)
	}
	fmt.Fprintf(s.out, "model in %s\n", r.Dir)
	return nil
}

// trainProgress shows the steps: a bar on a terminal, else a line every few
// seconds.
type trainProgress struct {
	w        io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	last     time.Time
}

func (p *trainProgress) stage(text string) { fmt.Fprintln(p.w, text) }

func (p *trainProgress) step(d train.Progress) {
	text := fmt.Sprintf("step %d/%d, loss %.3f, rate %.2g, norm %.2f, %.0f tokens/s, %.0f GFLOP/s (%.0f%% of peak)",
		d.Step, d.Steps, d.Loss, d.Rate, d.Norm, d.TokensPerSecond, d.Flops/1e9, 100*d.Flops/d.Peak)
	measured := !math.IsNaN(d.Validation)
	if measured {
		text += fmt.Sprintf(", validation %.4f", d.Validation)
	}
	if p.terminal {
		if p.bar == nil {
			p.bar = progressbar.NewOptions(d.Steps, progressbar.OptionSetWriter(p.w), progressbar.OptionSetPredictTime(true),
				progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(20), progressbar.OptionClearOnFinish())
		}
		if measured {
			p.bar.Clear()
			fmt.Fprintln(p.w, text)
		}
		p.bar.Describe(text)
		p.bar.Set(d.Step)
		return
	}
	if time.Since(p.last) < 5*time.Second && !measured && d.Step < d.Steps {
		return
	}
	p.last = time.Now()
	fmt.Fprintf(p.w, "%s, %s left\n", text, d.Left.Round(time.Second))
}

func (p *trainProgress) stop() {
	if p.bar != nil {
		p.bar.Finish()
	}
}
