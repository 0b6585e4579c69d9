package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/experiments/spec"
	"splitbench/figures"
	"splitbench/harness/runner"
	"splitbench/results"
)

// openRun opens a run by its folder, or by its name below results/.
func openRun(name string) (*results.Run, error) {
	dir := name
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && !strings.ContainsRune(name, os.PathSeparator) {
		if below := filepath.Join("results", name); exists(below) {
			dir = below
		}
	}
	r, err := results.OpenRun(dir)
	if err != nil {
		return nil, usageError{err}
	}
	return r, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// writeTable prints a table in the format of that name.
func writeTable(s streams, t *results.Table, format string) error {
	for _, f := range results.Formats {
		if f.Name == format {
			return f.Write(t, s.out)
		}
	}
	return usagef("--format %q, expected markdown, csv or latex", format)
}

func newShow(s streams) *cobra.Command {
	var format string
	var long, best bool
	c := &cobra.Command{
		Use:     "show RUN",
		Short:   "Print the tables of a run",
		Long:    "RUN is a run directory, or its name below results/. A run that is still going on shows what is done.",
		Example: `  splitbench show real-smoke --format latex`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openRun(args[0])
			if err != nil {
				return err
			}
			cells, broken, err := r.CellsTolerant()
			if err != nil {
				return err
			}
			for _, b := range broken {
				fmt.Fprintln(s.err, b)
			}
			if len(cells) == 0 {
				return fmt.Errorf("%s: no cell is done yet (%d are planned)", args[0], len(r.Manifest().Cells))
			}
			tables, err := runner.Tables(r, cells)
			if err != nil {
				return err
			}
			for i, t := range tables {
				if !long && i > 0 {
					break
				}
				if best {
					t.MarkBest()
				}
				if err := writeTable(s, &t, format); err != nil {
					return err
				}
				fmt.Fprintln(s.out)
			}
			if n := len(r.Manifest().Cells) - len(cells); n > 0 {
				fmt.Fprintf(s.err, "%d of %d cells are not done\n", n, len(r.Manifest().Cells))
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "markdown", "markdown, csv or latex")
	c.Flags().BoolVar(&long, "all", false, "every table, not only the overview")
	c.Flags().BoolVar(&best, "best", false, "mark the best value of each column")
	return c
}

func newFigures(s streams) *cobra.Command {
	var names []string
	c := &cobra.Command{
		Use:     "figures RUN",
		Short:   "Render the figures of a run again (PNG, SVG, PDF)",
		Example: `  splitbench figures real-smoke --figure accuracy_vs_layer`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := openRun(args[0])
			if err != nil {
				return err
			}
			if len(names) == 0 {
				sp, err := spec.Parse("spec.yaml", r.Spec(), spec.LoadOptions{Env: anyEnv})
				if err != nil {
					return err
				}
				names = sp.Outputs
			}
			var known []string
			for _, f := range figures.List() {
				known = append(known, f.Name)
			}
			for _, name := range names {
				if !slices.Contains(known, name) {
					return usagef("--figure %q, expected one of %s", name, strings.Join(known, ", "))
				}
			}
			files, problems, err := runner.WriteFigures(r, names, false)
			for _, f := range files {
				fmt.Fprintln(s.out, f)
			}
			if err != nil {
				return err
			}
			if len(problems) > 0 {
				return errors.New(strings.Join(problems, "\n"))
			}
			return nil
		},
	}
	c.Flags().StringSliceVar(&names, "figure", nil, "figures to render (default: the spec's outputs); see list figures")
	return c
}

func newCompare(s streams) *cobra.Command {
	var in, format string
	c := &cobra.Command{
		Use:   "compare RUN RUN | compare --in RUN CELL CELL",
		Short: "Paired tests between two runs or two cells",
		Long: `Compares documents that both sides scored: exact McNemar test for accuracies, paired
t-test and bootstrap interval for the mean log-likelihood, Holm's correction over the
table. Two runs are compared on the cells that agree in model, task and protocol and
in their label, or that are the only ones of a task on each side. A cell is named by
the first digits of its key, or by RUN:KEY.`,
		Example: `  splitbench compare results/a results/b
  splitbench compare --in real-smoke 3fa2 91bc`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			var comparisons []results.Comparison
			a, aIsCell, err := resolveSide(in, args[0])
			if err != nil {
				return err
			}
			b, bIsCell, err := resolveSide(in, args[1])
			if err != nil {
				return err
			}
			if aIsCell != bIsCell {
				return usagef("compare two runs or two cells, not a run with a cell")
			}
			pairs, err := pairCells(a, b, aIsCell)
			if err != nil {
				return err
			}
			for _, p := range pairs {
				cmp, err := results.Compare(p[0], p[1])
				if err != nil {
					return err
				}
				comparisons = append(comparisons, cmp)
			}
			t := results.CompareTable(comparisons)
			err = writeTable(s, &t, format)
			for _, c := range comparisons {
				for _, w := range c.Warnings {
					fmt.Fprintf(s.err, "%s, %s against %s: %s\n", c.Task, c.LabelA, c.LabelB, w)
				}
			}
			return err
		},
	}
	c.Flags().StringVar(&in, "in", "", "run that the two cells belong to")
	c.Flags().StringVar(&format, "format", "markdown", "markdown, csv or latex")
	return c
}

// side is the cells of one side of a comparison.
type side struct {
	run   *results.Run
	cells []results.CellResult
}

// resolveSide opens a run, or finds a cell in one.
func resolveSide(in, name string) (side, bool, error) {
	run, key, isCell := in, name, in != ""
	if !isCell {
		run = name
		if i := strings.LastIndexByte(name, ':'); i > 0 && !exists(name) {
			run, key, isCell = name[:i], name[i+1:], true
		}
	}
	r, err := openRun(run)
	if err != nil {
		return side{}, false, err
	}
	cells, _, err := r.CellsTolerant()
	if err != nil {
		return side{}, false, err
	}
	if !isCell {
		return side{r, cells}, false, nil
	}
	var found []results.CellResult
	for _, c := range cells {
		if strings.HasPrefix(c.Key, key) && key != "" {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return side{}, false, usagef("%s: %d finished cells have a key that begins with %q, expected one", run, len(found), key)
	}
	return side{r, found}, true, nil
}

// knobsOf is a cell's canonical form without what stands for the outside
// (digests and versions).
func knobsOf(c *results.CellResult) string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(c.Knobs, &m); err != nil {
		return string(c.Knobs)
	}
	delete(m, "extra")
	text, err := json.Marshal(m)
	if err != nil {
		return string(c.Knobs)
	}
	return string(text)
}

// pairCells finds the cells that answer each other.
func pairCells(a, b side, cells bool) ([][2]results.CellInput, error) {
	load := func(s side, c results.CellResult) (results.CellInput, error) {
		rows, err := s.run.Rows(c.Key)
		return results.CellInput{Cell: c, Rows: rows}, err
	}
	same := func(x, y *results.CellResult) bool {
		return x.Model == y.Model && x.Task == y.Task && x.Protocol == y.Protocol
	}
	var out [][2]results.CellInput
	for i := range a.cells {
		x := &a.cells[i]
		var match, labelled, alone *results.CellResult
		others, namesakes := 0, 0
		for j := range b.cells {
			y := &b.cells[j]
			if y.Status != results.StatusOK {
				continue
			}
			if cells {
				match = y
				break
			}
			if same(x, y) {
				others++
				alone = y
				if string(x.Knobs) != "" && knobsOf(x) == knobsOf(y) {
					match = y
				}
				if x.Label == y.Label {
					namesakes++
					labelled = y
				}
			}
		}
		mine := 0
		for j := range a.cells {
			if same(x, &a.cells[j]) {
				mine++
			}
		}
		if match == nil && namesakes == 1 {
			match = labelled
		}
		if match == nil && others == 1 && mine == 1 {
			match = alone
		}
		if match == nil || x.Status != results.StatusOK {
			continue
		}
		p, err := load(a, *x)
		if err != nil {
			return nil, err
		}
		q, err := load(b, *match)
		if err != nil {
			return nil, err
		}
		out = append(out, [2]results.CellInput{p, q})
	}
	if len(out) == 0 {
		return nil, errors.New("no finished cells of the two sides answer each other (same model, task, protocol and label)")
	}
	return out, nil
}
