package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"splitbench/compress"
	"splitbench/harness/bench"
	"splitbench/results"
)

func newBench(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "bench VERB",
		Short: "Measure codecs and CPU kernels against rivals and the machine's limits",
		Long: `Contestants are measured in turn, round by round, so that what disturbs the machine
disturbs rivals alike; ratios are taken round by round. Figures are medians.`,
		Example: `  splitbench bench codec --input hidden.safetensors:0.hidden.3 --rival huff0
  splitbench bench cpu --preset 15M --threads 1,2`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBenchCodec(s))
	return c
}

// benchFlags are the flags of every benchmark.
type benchFlags struct {
	rounds  int
	least   time.Duration
	json    bool
	parquet string
}

func (f *benchFlags) add(c *cobra.Command, rounds int) {
	c.Flags().IntVar(&f.rounds, "rounds", rounds, "interleaved measurements of each contestant")
	c.Flags().DurationVar(&f.least, "min-time", bench.DefaultTiming().Least, "least duration of one measurement: short operations are repeated")
	c.Flags().BoolVar(&f.json, "json", false, "write one JSON object instead of the tables")
	c.Flags().StringVar(&f.parquet, "parquet", "", "also write the measurements to this Parquet file")
}

// timing checks the flags.
func (f *benchFlags) timing() (bench.Timing, error) {
	t := bench.DefaultTiming()
	if f.rounds < 1 || f.rounds > 10000 {
		return t, usagef("--rounds %d, expected 1 to 10000", f.rounds)
	}
	if f.least < 0 || f.least > time.Minute {
		return t, usagef("--min-time %v, expected 0s to 1m", f.least)
	}
	t.Rounds, t.Least = f.rounds, f.least
	return t, nil
}

// write prints a report in the form that the flags ask for.
func (f *benchFlags) write(s streams, r *bench.Report) error {
	setup := results.ThisSetup(Version(), bench.CPUFeatures())
	if f.parquet != "" {
		err := s.writeOutput(f.parquet, func(w io.Writer) error { return results.WriteMeasurements(w, setup, r.Measurements) })
		if err != nil {
			return err
		}
	}
	if f.json {
		return results.EncodeMeasurements(s.out, setup, r.Notes, r.Measurements)
	}
	machine := setup.CPUModel
	if machine == "" {
		machine = setup.Arch
	}
	r.Notes = append(r.Notes, fmt.Sprintf("%s, %d CPUs (%s); splitbench %s, %s %s/%s.", machine, setup.CPUs, setup.CPUFeatures, setup.Version, setup.GoVersion, setup.OS, setup.Arch))
	return r.Markdown(s.out)
}

// step tells someone who watches what is measured.
func (s streams) step(what string) {
	if isTerminal(s.err) {
		fmt.Fprintln(s.err, what)
	}
}

// distinct refuses empty lists and what is named twice.
func distinct[T comparable](flag string, list []T) error {
	if len(list) == 0 {
		return usagef("--%s is empty, expected at least one value", flag)
	}
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			return usagef("--%s names %v twice", flag, v)
		}
	}
	return nil
}

// choices checks a list of names.
func choices(flag string, list, known []string) error {
	for _, name := range list {
		if !slices.Contains(known, name) {
			return usagef("--%s %q, expected one of %s", flag, name, strings.Join(known, ", "))
		}
	}
	return nil
}

// parseSize reads ROWSxCOLUMNS.
func parseSize(flag, text string) (rows, cols int, err error) {
	a, b, ok := strings.Cut(text, "x")
	rows, err1 := strconv.Atoi(a)
	cols, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || rows < 1 || cols < 1 || rows > 1<<20 || cols > 1<<20 || rows*cols > compress.MaxValues/2 {
		return 0, 0, usagef("--%s %q, expected ROWSxCOLUMNS such as 128x4096", flag, text)
	}
	return rows, cols, nil
}

func newBenchCodec(s streams) *cobra.Command {
	var f benchFlags
	var inputs, codecs, rivals []string
	var synthetic, train string
	var seed uint64
	var taus []float64
	var bits []int
	streams := 512 << 10
	c := &cobra.Command{
		Use:   "codec [--input FILE.safetensors[:TENSOR]]",
		Short: "Bytes, error and speed of the boundary codecs, and of entropy coders",
		Long: `Encodes and decodes the rows of each input, one message per token and one for all
rows, with every codec, threshold and width: bytes per token by part, overhead over
the order-0 entropy of each row's codes, error against the input, and time. Then
measures entropy coders on symbol streams: this project's and the rivals of Go.

--input may be given several times; TENSOR may be a pattern (dump.safetensors:*.hidden.3
takes the third layer of all sequences). Its last dimension is the row. Without --input
synthetic activations with heavy tails are measured. A codec with trained tables is
trained on --train, or on the first half of an input of more than 64 rows, which is then
not measured.`,
		Example: `  splitbench bench codec
  splitbench bench codec --input hidden.safetensors:0.hidden.3 --codec literal,packed --tau 1,5,10
  splitbench bench codec --input activations.safetensors:llm --train activations.safetensors:llm_train
  splitbench bench codec --rounds 21 --rival huff0 --json > codec.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			timing, err := f.timing()
			if err != nil {
				return err
			}
			o := bench.CodecOptions{Codecs: codecs, Rivals: rivals, Tau: taus, Bits: bits, Readings: compress.DefaultOptions(), Streams: streams, Timing: timing, Step: s.step}
			if err := errors.Join(distinct("tau", taus), distinct("max-activation-bits", bits), distinct("codec", codecs)); err != nil {
				return err
			}
			if err := choices("codec", codecs, compress.CodecNames()); err != nil {
				return err
			}
			if len(rivals) > 0 {
				if err := errors.Join(distinct("rival", rivals), choices("rival", rivals, bench.Rivals())); err != nil {
					return err
				}
			}
			if streams < 1 || streams > 1<<28 {
				return usagef("--symbols %d, expected 1 to %d", streams, 1<<28)
			}
			for _, tau := range taus {
				for _, n := range bits {
					r := o.Readings
					r.Threshold, r.MaxActivationBits = tau, n
					if err := r.Validate(); err != nil {
						return usageError{err}
					}
					if math.IsInf(tau, 0) {
						return usagef("--tau %v, expected a finite threshold", tau)
					}
				}
			}
			rows, cols, err := parseSize("synthetic", synthetic)
			if err != nil {
				return err
			}
			var other bench.Activations
			if train != "" {
				if len(inputs) == 0 {
					return usagef("--train is for --input; synthetic activations have rows to train on of their own")
				}
				if other, err = readActivations(train); err != nil {
					return err
				}
			}
			for _, name := range inputs {
				a, err := readActivations(name)
				if err != nil {
					return err
				}
				if other.Rows.Rows > 0 && other.Rows.Cols != a.Rows.Cols {
					return usagef("--train %s has rows of %d values, %s has %d", train, other.Rows.Cols, name, a.Rows.Cols)
				}
				a.Train = other.Rows
				o.Inputs = append(o.Inputs, a)
			}
			if len(inputs) == 0 || cmd.Flags().Changed("synthetic") {
				o.Inputs = append(o.Inputs, bench.Synthetic(rows, 4*rows, cols, seed))
			}
			r, err := bench.Codec(cmd.Context(), o)
			if err != nil {
				return err
			}
			return f.write(s, r)
		},
	}
	f.add(c, bench.DefaultTiming().Rounds)
	fl := c.Flags()
	fl.StringArrayVar(&inputs, "input", nil, "stored activations: FILE.safetensors[:TENSOR]")
	fl.StringVar(&train, "train", "", "other rows of the same origin to train tables on: FILE.safetensors[:TENSOR]")
	fl.StringVar(&synthetic, "synthetic", "128x4096", "size of the synthetic activations, ROWSxCOLUMNS; given beside --input, they are measured too")
	fl.Uint64Var(&seed, "seed", 1, "seed of the synthetic activations")
	fl.StringSliceVar(&codecs, "codec", compress.CodecNames(), "codecs: "+strings.Join(compress.CodecNames(), ", "))
	fl.StringSliceVar(&rivals, "rival", bench.Rivals(), "entropy coders to compare with: "+strings.Join(bench.Rivals(), ", ")+", or \"\" for none")
	fl.Float64SliceVar(&taus, "tau", []float64{1, 5, 10}, "thresholds tau")
	fl.IntSliceVar(&bits, "max-activation-bits", []int{2, 3, 4, 8}, "widths Qa-bar in bits, sign included")
	fl.IntVar(&streams, "symbols", streams, "length of the long symbol streams")
	return c
}

// readActivations reads stored rows; a file or tensor that is not there is a
// wrong command line.
func readActivations(name string) (bench.Activations, error) {
	a, err := bench.ReadActivations(name)
	if file, _ := bench.SplitName(name); err != nil {
		if _, serr := os.Stat(file); serr != nil {
			return a, usageError{err}
		}
	}
	return a, err
}
