package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"splitbench/experiments/spec"
	"splitbench/harness/runner"
	"splitbench/results"
)

// loadSpec reads a spec; every fault is a usage error.
func loadSpec(path string, set []string) (*spec.Spec, error) {
	s, err := spec.Load(path, spec.LoadOptions{Set: set, Env: lookupEnv})
	if err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

// members replaces suites by the specs they stand for.
func members(paths []string) ([]string, error) {
	var all []string
	var faults []error
	for _, path := range paths {
		specs, err := spec.Members(path)
		if err != nil {
			faults = append(faults, err)
		}
		all = append(all, specs...)
	}
	if len(faults) > 0 {
		return nil, usageError{errors.Join(faults...)}
	}
	return all, nil
}

// lookupEnv is the environment with one default: SPLITBENCH_SHARED is the
// folder shared beside the working directory's when that exists.
func lookupEnv(name string) (string, bool) {
	if v, ok := os.LookupEnv(name); ok {
		return v, true
	}
	if name == "SPLITBENCH_SHARED" {
		if abs, err := filepath.Abs(filepath.Join("..", "shared")); err == nil {
			if _, err := os.Stat(abs); err == nil {
				return abs, true
			}
		}
	}
	return "", false
}

func newRun(s streams) *cobra.Command {
	var o runner.Options
	var set []string
	var memory string
	c := &cobra.Command{
		Use:   "run SPEC.yaml...",
		Short: "Run experiments: rows, tables and figures in results/<name>/",
		Long: `Computes every cell (one point of the spec) that is not done yet and writes to
results/<name>/ (or --out): spec.yaml (resolved), manifest.json, cells/<key>.parquet
and .json, run.parquet (all rows), tables/ and figures/.

A file with the key suite, a list of spec files, stands for all of them.

Running the same spec again skips finished cells. After a kill the run goes on behind
the last finished block: a block is the documents of about 8192 input tokens.
Ctrl-C once finishes the block in hand and saves; twice stops at once.`,
		Example: `  splitbench run experiments/quickstart.yaml
  splitbench run experiments/real-smoke.yaml --set tasks.piqa.limit=20 --out try`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			args, err := members(args)
			if err != nil {
				return err
			}
			if o.Out != "" && len(args) > 1 {
				return usagef("--out is for one spec, %d were given", len(args))
			}
			if o.MemoryLimit, err = memoryLimit(memory); err != nil {
				return err
			}
			if err := checkKernel(o.Kernel); err != nil {
				return err
			}
			if err := checkCompute(o.BatchRows, o.Workers); err != nil {
				return err
			}
			if o.CellTimeout < 0 {
				return usagef("--cell-timeout %v, expected a positive time", o.CellTimeout)
			}
			ctx, stop := interruptible(cmd.Context(), s.err, "finishing the block in hand")
			defer stop()
			specs := make([]*spec.Spec, len(args))
			var faults []error
			for i, path := range args {
				if specs[i], err = loadSpec(path, set); err != nil {
					faults = append(faults, err)
				}
			}
			if len(faults) > 0 {
				return usageError{errors.Join(faults...)}
			}
			w := runner.NewWorkbench(o.Compute)
			for _, sp := range specs {
				if _, err := w.Validate(sp); err != nil {
					faults = append(faults, err)
				}
			}
			if len(faults) > 0 {
				return usageError{errors.Join(faults...)}
			}
			for _, sp := range specs {
				opts := o
				opts.Bench = w
				opts.Version, opts.Command = Version(), append([]string{"splitbench"}, os.Args[1:]...)
				opts.Progress = s.err
				opts.Terminal = isTerminal(s.err)
				if opts.Out == "" {
					opts.Out = filepath.Join("results", sp.Name)
				}
				// What fails in one experiment does not keep the next from running.
				if err := runOne(ctx, s, sp, opts); err != nil {
					if faults = append(faults, err); ctx.Err() != nil {
						break
					}
				}
			}
			return errors.Join(faults...)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Out, "out", "", "run directory (default results/<name>)")
	f.StringArrayVar(&set, "set", nil, "override a key of the spec, as in sweep.tau=[1,5]; may be repeated")
	f.BoolVar(&o.Wait, "wait", false, "wait when another process works in the run directory, instead of refusing")
	f.DurationVar(&o.CellTimeout, "cell-timeout", 0, "give up on a cell after this time, as in 30m (its status becomes timeout)")
	f.StringVar(&memory, "memory-limit", "", "do not start cells that need more, as in 8GiB (their status becomes oom; default: what this machine has available)")
	f.IntVar(&o.BatchRows, "batch-tokens", 0, "tokens of one forward pass (default 2048); results do not depend on it")
	f.IntVar(&o.Workers, "workers", 0, "CPU workers (default: all cores); results do not depend on it")
	f.StringVar(&o.Kernel, "kernel", "", "CPU kernel: avx512, avx2, neon or go (default: the fastest); results do not depend on it")
	return c
}

// interruptible returns a context that the first interrupt cancels; the
// second one ends the program.
func interruptible(ctx context.Context, errOut io.Writer, then string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt)
	go func() {
		select {
		case <-ctx.Done():
			signal.Stop(signals)
			return
		case <-signals:
		}
		fmt.Fprintf(errOut, "\n%s (interrupt again to stop at once)\n", then)
		cancel()
		<-signals
		os.Exit(exitFailed)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

func runOne(ctx context.Context, s streams, sp *spec.Spec, o runner.Options) error {
	start := time.Now()
	sum, err := runner.Run(ctx, sp, o)
	if err != nil {
		var faults spec.Errors
		if errors.As(err, &faults) {
			return usageError{err}
		}
		return err
	}
	for _, line := range sum.BrokenCellReports {
		fmt.Fprintf(s.err, "computed again: %s\n", line)
	}
	if sum.Interrupted {
		return fmt.Errorf("interrupted: %d of %d cells are saved in %s; go on with: %s", sum.Skipped+sum.Computed-len(sum.Failed), sum.Cells, sum.Dir, commandLine(o.Command))
	}
	r, err := results.OpenRun(sum.Dir)
	if err != nil {
		return err
	}
	cells, err := r.Cells()
	if err != nil {
		return err
	}
	if tables := results.Tables(cells); len(tables) > 0 {
		if err := tables[0].Markdown(s.out); err != nil {
			return err
		}
	}
	for _, p := range sum.FigureProblems {
		fmt.Fprintln(s.err, p)
	}
	fmt.Fprintf(s.out, "\n%d cells (%d done before), %d rows in %s, %s\n", sum.Cells, sum.Skipped, sum.Rows, filepath.Join(sum.Dir, "run.parquet"), time.Since(start).Round(100*time.Millisecond))
	fmt.Fprintf(s.out, "tables in %s, figures in %s\n", filepath.Join(sum.Dir, "tables"), filepath.Join(sum.Dir, "figures"))
	if len(sum.Failed) > 0 {
		lines := []string{fmt.Sprintf("%d of %d cells failed:", len(sum.Failed), sum.Cells)}
		for _, c := range sum.Failed {
			lines = append(lines, fmt.Sprintf("%s %s, %s: %s: %s", c.Model, c.Task, c.Label, c.Status, c.Error))
		}
		return errors.New(strings.Join(lines, "\n"))
	}
	if len(sum.FigureProblems) > 0 {
		return fmt.Errorf("%d figures could not be made", len(sum.FigureProblems))
	}
	return nil
}

// commandLine joins arguments as a shell reads them.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if quoted[i] = a; a == "" || strings.ContainsAny(a, " \t\n\"'\\$`*?[]{}()<>|&;#~!") {
			quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// memoryLimit is the flag's value, or what this machine has available.
func memoryLimit(text string) (int64, error) {
	if text == "" {
		return runner.AvailableMemory(), nil
	}
	n, err := parseBytes(text)
	if err != nil {
		return 0, usageError{err}
	}
	return n, nil
}

// parseBytes reads a size such as 8GiB, 512MiB, 4GB or a number of bytes.
func parseBytes(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	units := []struct {
		suffix string
		size   float64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}, {"", 1}}
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			var v float64
			if n, err := fmt.Sscanf(number+"\n", "%g\n", &v); n == 1 && err == nil && v > 0 && v*u.size < 1<<60 {
				return int64(v * u.size), nil
			}
			break
		}
	}
	return 0, fmt.Errorf("--memory-limit %q, expected a size such as 8GiB or 512MiB", text)
}
