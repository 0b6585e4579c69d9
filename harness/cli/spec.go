package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/experiments/spec"
	"splitbench/harness/runner"
)

func newValidate(s streams) *cobra.Command {
	var set []string
	c := &cobra.Command{
		Use:   "validate SPEC.yaml...",
		Short: "Check specs without loading weights",
		Long: `Reports every fault of the specs, one line each: file:line:col: message, expected ...
Models, tokenizers and data must be on this machine: split layers, groups and blocks
are checked against the models' configurations.`,
		Example: `  splitbench validate experiments/real-smoke.yaml`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var files []string
			var faults []error
			for _, arg := range args {
				specs, err := spec.Members(arg)
				if err != nil {
					faults = append(faults, err)
				}
				files = append(files, specs...)
			}
			w := runner.NewWorkbench(runner.Compute{})
			for _, path := range files {
				sp, err := loadSpec(path, set)
				if err != nil {
					faults = append(faults, err)
					continue
				}
				cells, err := w.Validate(sp)
				if err != nil {
					faults = append(faults, err)
					continue
				}
				fmt.Fprintf(s.out, "%s: ok, %d models, %d tasks, %d methods, %d cells\n", path, len(sp.Models), len(sp.Tasks), len(sp.Methods), cells)
			}
			if len(faults) > 0 {
				return usageError{errors.Join(faults...)}
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&set, "set", nil, "override a key of the spec; may be repeated")
	return c
}

func newPlan(s streams) *cobra.Command {
	var set []string
	var o runner.Compute
	var memory string
	c := &cobra.Command{
		Use:   "plan SPEC.yaml",
		Short: "Show the cells of a spec, the tokens to score, memory and cost",
		Long: `Tokenises the tasks but loads no weights. Weights, quantised, KV and workspace are the
memory of this process; the columns of Eq. 1 and 2 are what the paper's edge device
would hold (layers 1..l). Cells that do not fit the memory of this machine (or
--memory-limit) are refused with the figure, exit code 1.`,
		Example: `  splitbench plan experiments/real-smoke.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			args, err := members(args)
			if err != nil {
				return err
			}
			if len(args) > 1 {
				return usagef("a suite of %d specs, expected one of %s", len(args), strings.Join(args, ", "))
			}
			sp, err := loadSpec(args[0], set)
			if err != nil {
				return err
			}
			w := runner.NewWorkbench(o)
			if _, err := w.Validate(sp); err != nil {
				return usageError{err}
			}
			p, err := runner.MakePlan(w, sp)
			if err != nil {
				var faults spec.Errors
				if errors.As(err, &faults) {
					return usageError{err}
				}
				return err
			}
			if err := p.Write(s.out); err != nil {
				return err
			}
			limit, err := memoryLimit(memory)
			if err != nil {
				return err
			}
			return p.Check(limit)
		},
	}
	c.Flags().StringArrayVar(&set, "set", nil, "override a key of the spec; may be repeated")
	c.Flags().IntVar(&o.BatchRows, "batch-tokens", 0, "tokens of one forward pass (default 2048)")
	c.Flags().StringVar(&memory, "memory-limit", "", "memory a cell may need, as in 8GiB (default: what this machine has available)")
	return c
}

func newSchema(s streams) *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON schema of specs, for editors",
		Example: `  splitbench schema > spec.schema.json`,
		Args:    cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			_, err := s.out.Write(spec.Schema())
			return err
		},
	}
}
