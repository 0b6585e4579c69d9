package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"splitbench/harness/exec"
	"splitbench/harness/quantise"
	"splitbench/models/quantize"
	"splitbench/results"
)

// magnitudeFlags are the flags of the verbs that measure magnitudes.
type magnitudeFlags struct {
	calibration, format string
	plan                quantize.CalibrationPlan
	drawn               func() bool // a flag of the plan was given
	options             quantise.MagnitudeOptions
}

// Windows drawn of a text unless flags say otherwise.
const (
	measuredWindows = 32
	measuredTokens  = 512
)

func (f *magnitudeFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.calibration, "calibration", "", `lines {"ids":[...]} or {"text":"..."}, each one sequence, or a text file, of which windows are drawn; - for standard input`)
	c.Flags().IntVar(&f.plan.Sequences, "sequences", measuredWindows, "windows to draw, as quantize does")
	c.Flags().IntVar(&f.plan.Tokens, "tokens", 0, "tokens of a window (default: 512, or the model's positions where they are fewer)")
	c.Flags().Uint64Var(&f.plan.Seed, "seed", 0, "seed of the windows")
	f.drawn = func() bool {
		return c.Flags().Changed("sequences") || c.Flags().Changed("tokens") || c.Flags().Changed("seed")
	}
	c.Flags().Float64SliceVar(&f.options.Thresholds, "tau", []float64{1, 5, 10}, "thresholds, with commas between them: the share of values with |x| >= tau")
	c.Flags().BoolVar(&f.options.SkipFirst, "skip-first", false, "leave out position 0 of every sequence, whose values may be extreme")
	c.Flags().StringVar(&f.format, "format", "markdown", "markdown, csv or latex")
	cobra.CheckErr(c.MarkFlagRequired("calibration"))
	f.options.Shares = []float64{.1, .01, .001}
}

// check refuses what makes no sense before a model is loaded.
func (f *magnitudeFlags) check() error {
	for _, t := range f.options.Thresholds {
		if !(t >= 0) || math.IsInf(t, 0) {
			return usagef("--tau %v, expected finite numbers, zero or more", t)
		}
	}
	if err := errors.Join(within("sequences", f.plan.Sequences, 1, 1<<20), within("tokens", f.plan.Tokens, 0, 1<<24)); err != nil {
		return err
	}
	for _, known := range results.Formats {
		if known.Name == f.format {
			return nil
		}
	}
	return usagef("--format %q, expected markdown, csv or latex", f.format)
}

// sequences reads the calibration file.
func (f *magnitudeFlags) sequences(s streams, l *exec.Loaded) ([][]int32, error) {
	in, err := s.openInput(f.calibration)
	if err != nil {
		return nil, usageError{err}
	}
	c := l.Checkpoint.Config
	c.MaxPositions = l.MaxLength
	source, err := readCalibration(in, displayName(f.calibration), c, l.RequireTokenizer)
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, err
	}
	if len(source.documents) == 0 {
		return nil, fmt.Errorf("%s: no sequences", displayName(f.calibration))
	}
	plan := f.plan
	if plan.Tokens == 0 {
		plan.Tokens = min(measuredTokens, c.MaxPositions)
	}
	all, _, err := source.sequences(plan, f.drawn(), c)
	return all, err
}

func newMagnitudes(s streams) *cobra.Command {
	var f modelFlags
	var m magnitudeFlags
	c := &cobra.Command{
		Use:   "magnitudes --model DIR --calibration FILE.jsonl",
		Short: "Measure the values of the residual stream at every layer",
		Long: `Layer 0 is the embeddings, layer k the residual stream after block k, which a split
there sends. Kurtosis is the fourth central moment of all values of a layer over the
square of their variance: 3 for normal ones, more where few values are large. "1 % reach"
is the magnitude that so many of the values reach, to 8 bits: a tau that keeps them.
Energy is the sum of squares; its share in the largest channel, in 1 % and 10 % of the
channels (rounded up), and in position 0 of the sequences.`,
		Example: `  splitbench magnitudes --model DIR --calibration text.jsonl --tau 1,5,10`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := m.check(); err != nil {
				return err
			}
			l, _, err := f.open(cmd.Context(), s.err)
			if err != nil {
				return err
			}
			defer l.Close()
			sequences, err := m.sequences(s, l)
			if err != nil {
				return err
			}
			layers, err := quantise.Measure(cmd.Context(), l.Engine.Model(), sequences, m.options)
			if err != nil {
				return err
			}
			return writeTable(s, magnitudeTable(m.options, []string{""}, layers), m.format)
		},
	}
	f.add(c, false)
	m.add(c)
	return c
}

// magnitudeTable lays out layers measured in one or several bases. Names, when
// there are several, tell them apart.
func magnitudeTable(o quantise.MagnitudeOptions, names []string, bases ...[]quantise.Magnitudes) *results.Table {
	t := &results.Table{
		Name:  "magnitudes",
		Title: fmt.Sprintf("Values of the residual stream, %d tokens", bases[0][0].Rows),
	}
	column := func(name string, digits int) {
		t.Columns = append(t.Columns, results.Column{Name: name, Numeric: digits >= 0, Digits: max(0, digits)})
	}
	column("layer", 0)
	if len(bases) > 1 {
		column("basis", -1)
	}
	column("RMS", 3)
	column("kurtosis", 2)
	column("max abs", 2)
	for _, share := range o.Shares {
		column(strconv.FormatFloat(100*share, 'g', -1, 64)+" % reach", 3)
	}
	for _, tau := range o.Thresholds {
		column("above "+strconv.FormatFloat(tau, 'g', -1, 64)+" [%]", 3)
	}
	column("energy in top channel [%]", 1)
	column("in top 1 % [%]", 1)
	column("in top 10 % [%]", 1)
	column("at position 0 [%]", 1)
	channels := len(bases[0][0].Energy)
	for k := range bases[0] {
		for i, b := range bases {
			m := b[k]
			var row []results.Value
			add := func(v float64) { row = append(row, results.Value{Number: &v}) }
			add(float64(m.Layer))
			if len(bases) > 1 {
				row = append(row, results.Value{Text: names[i]})
			}
			add(m.RMS)
			add(m.Kurtosis)
			add(m.Max)
			for _, v := range m.Reached {
				add(v)
			}
			for _, a := range m.Above {
				add(100 * a)
			}
			add(100 * m.Top(1))
			add(100 * m.Top((channels+99)/100))
			add(100 * m.Top((channels+9)/10))
			add(100 * m.First)
			t.Rows = append(t.Rows, row)
		}
	}
	if o.SkipFirst {
		t.Notes = append(t.Notes, "Position 0 of every sequence is left out but for its share of the energy.")
	}
	return t
}
