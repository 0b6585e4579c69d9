// Package cli holds the verbs of the splitbench program, one file per verb.
//
// Every verb is a function of its options and of the three streams, so tests
// call it as the program does. A verb only parses and prints; the work is
// done by harness/runner and harness/exec.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes of the program.
const (
	exitOK     = 0
	exitFailed = 1 // the run, or a part of it, failed
	exitUsage  = 2 // the command line or the spec is wrong
)

// usageError is a mistake in the command line or in a spec: exit code 2.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// streams are the program's standard files.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs one command line and returns the exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	s := streams{in, out, errOut}
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return exitOK
	}
	var u usageError
	usage := errors.As(err, &u)
	// One line per fault; a list of faults (a spec's) has one each.
	for _, line := range strings.Split(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintf(errOut, "splitbench: %s\n", line)
	}
	if usage {
		return exitUsage
	}
	return exitFailed
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "splitbench VERB",
		Short: "Evaluate language models that are split between an edge device and a cloud",
		Long: `splitbench runs YAML experiment specs on language models whose first layers run
on an edge device with low-bit weights, whose activation at the split layer is
compressed and sent, and whose remaining layers run in full precision.

Start here:
  splitbench run experiments/quickstart.yaml     a complete experiment, no download
  splitbench run experiments/real-smoke.yaml     real weights, real evaluation data
  splitbench list experiments                    what else is there

Exit codes: 0 done, 1 the run failed, 2 the command line or the spec is wrong.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          func(_ *cobra.Command, args []string) error { return unknownVerb(args) },
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return misuse(c, err)
	})
	// Asked here as well, because cobra's own check is no usage error.
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := c.ValidateRequiredFlags(); err != nil {
			return misuse(c, err)
		}
		if err := c.ValidateFlagGroups(); err != nil {
			return misuse(c, err)
		}
		return nil
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	for _, v := range verbs {
		root.AddCommand(usageArgs(v(s)))
	}
	return root
}

// verbs is the table of the program's verbs, in the order of the help text.
var verbs = []func(streams) *cobra.Command{
	newRun, newValidate, newPlan, newShow, newFigures, newCompare, newExplain, newList,
	newFetch, newScore, newGenerate, newTokenize, newDump, newMagnitudes, newQuantize, newRotate, newTrain, newCodec, newBench, newSchema, newVersion,
}

func unknownVerb(args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, v := range verbs {
		names = append(names, v(streams{}).Name())
	}
	return usagef("unknown verb %q, expected one of %s", args[0], strings.Join(names, ", "))
}

// misuse says what is wrong with the command line of c.
func misuse(c *cobra.Command, err error) error {
	path := c.CommandPath()
	if _, verb, ok := strings.Cut(path, " "); ok {
		return usagef("%s: %w (see %s -h)", verb, err, path)
	}
	return usagef("%w (see %s -h)", err, path)
}

// usageArgs makes wrong arguments of a command and of those below it usage
// errors.
func usageArgs(c *cobra.Command) *cobra.Command {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return misuse(c, err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		usageArgs(sub)
	}
	return c
}

// openInput opens a file, or standard input for "-".
func (s streams) openInput(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(s.in), nil
	}
	return os.Open(name)
}

// writeOutput calls write with a file that appears under its name only when
// write succeeds, or with standard output for "-".
func (s streams) writeOutput(name string, write func(io.Writer) error) error {
	if name == "-" || name == "" {
		return write(s.out)
	}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real // the link stays
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return usagef("%s is a folder, expected a file to write", name)
	} else if err == nil && !info.Mode().IsRegular() {
		// A device or a pipe is written to, not replaced.
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".splitbench-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// isTerminal says whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
