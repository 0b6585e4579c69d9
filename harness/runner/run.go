package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"splitbench/experiments/spec"
	"splitbench/figures"
	"splitbench/harness/exec"
	"splitbench/results"
)

// Options of Run.
type Options struct {
	Compute
	Out         string        // run directory
	Wait        bool          // wait for another process in the same directory instead of refusing
	CellTimeout time.Duration // 0 = none
	MemoryLimit int64         // bytes a cell may need; 0 = no limit
	Version     string        // of the program
	Command     []string      // command line, for the manifest
	Progress    io.Writer     // where progress goes
	Bench       *Workbench    // of the same Compute, for what it has read already; nil: a new one
	Terminal    bool          // Progress is a terminal
}

// Summary is what Run did.
type Summary struct {
	Dir               string
	Cells             int // of the spec
	Skipped           int // done before
	Computed          int // done now, whatever their status
	Twins             int // of those: took the scores of another cell
	Failed            []results.CellResult
	Tables, Figures   []string // files written
	Rows              int64
	MergedCells       int
	Interrupted       bool
	FigureProblems    []string
	BrokenCellReports []string
}

type run struct {
	options  Options
	bench    *Workbench
	store    *results.Run
	host     results.Host
	progress *progress
	twins    map[string]string // outcome to the key of a finished cell that has it
	finished map[string][]job  // cells of earlier runs by prepareKey, until twins has them
	edge     string            // whose boundary tensors the engine holds
}

// jobsOf expands a spec to its cells with their keys. It reads models and data
// but makes no tokens.
func jobsOf(w *Workbench, s *spec.Spec) ([]job, error) {
	cells, err := s.Cells(w.Layers)
	if err != nil {
		return nil, err
	}
	jobs := make([]job, 0, len(cells))
	seen := map[string]bool{}
	for _, c := range cells {
		extra, err := w.Digests(c)
		if err != nil {
			return nil, err
		}
		j := job{cell: c, key: c.Key(extra), knobs: c.Canonical(extra), extra: extra}
		if seen[j.key] {
			continue // the same model or data under two names
		}
		seen[j.key] = true
		if j.tokens, err = w.prepareKey(c); err != nil {
			return nil, err
		}
		layers, err := w.Layers(c.Model)
		if err != nil {
			return nil, err
		}
		if edge := exec.Precision(c.Method, layers).EdgeKey(); edge != "" && !c.Timing {
			j.edge = fmt.Sprintf("%s|%s|%s", extra[spec.DigestModel], j.tokens, edge)
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// inOrder puts cells with the same edge behind the first of them; the others
// stay where they are.
func inOrder(jobs []job) []job {
	at := map[string]int{}
	var groups [][]job
	for _, j := range jobs {
		i, ok := at[j.edge]
		if !ok || j.edge == "" {
			i = len(groups)
			groups = append(groups, nil)
			at[j.edge] = i
		}
		groups[i] = append(groups[i], j)
	}
	out := make([]job, 0, len(jobs))
	for _, g := range groups {
		for i := range g {
			g[i].last = i == len(g)-1
			g[i].sole = len(g) == 1
		}
		out = append(out, g...)
	}
	return out
}

// errPreparation says that a task could not be turned into tokens.
var errPreparation = errors.New("cannot prepare a task")

// prepareAhead tokenises the tasks of jobs in their order until ctx ends. The
// first that fails ends the run.
func (r *run) prepareAhead(ctx context.Context, jobs []job, fail context.CancelCauseFunc) {
	seen := map[string]*Prepared{}
	for _, j := range jobs {
		p := seen[j.tokens]
		if p == nil {
			if ctx.Err() != nil {
				return
			}
			var err error
			if p, err = r.bench.Prepare(j.cell); err != nil {
				fail(fmt.Errorf("%w: %w", errPreparation, err))
				return
			}
			seen[j.tokens] = p
		}
		r.progress.expect(p.InputTokens)
	}
}

// Run computes every cell of s that is not done, then merges and renders. When
// ctx is cancelled it finishes the block in hand, saves and returns with
// Summary.Interrupted. Cells that fail are stored as such and listed.
func Run(ctx context.Context, s *spec.Spec, o Options) (_ *Summary, err error) {
	r := &run{options: o, bench: o.Bench, host: results.ThisHost(), twins: map[string]string{}, finished: map[string][]job{}}
	if r.bench == nil {
		r.bench = NewWorkbench(o.Compute)
	}
	defer r.bench.Close()
	r.progress = newProgress(o.Progress, o.Terminal)
	defer r.progress.stop()
	r.progress.stage("reading models and tasks")
	jobs, err := jobsOf(r.bench, s)
	if err != nil {
		return nil, err
	}
	if err := checkServer(r.bench, s); err != nil {
		return nil, err
	}
	for _, line := range r.bench.instructWarnings(s) {
		r.progress.stage(line)
	}
	now := time.Now()
	manifest := results.Manifest{Name: s.Name, Created: now, Version: o.Version, GoVersion: runtime.Version(), Host: r.host, Command: o.Command, Started: now, Digests: map[string]string{}}
	for _, j := range jobs {
		manifest.Cells = append(manifest.Cells, results.ManifestCell{Key: j.key, Label: j.cell.Label()})
		manifest.Digests["model "+j.cell.Model.Name] = j.extra[spec.DigestModel]
		manifest.Digests["tokenizer of "+j.cell.Model.Name] = j.extra[spec.DigestTokenizer]
		manifest.Digests["data of "+j.cell.Task.Name] = j.extra[spec.DigestData]
		for _, name := range []string{spec.DigestTables, spec.DigestKVTables, spec.DigestQuantizer, spec.DigestCalibration} {
			if d := j.extra[name]; d != "" && d != noCalibration {
				manifest.Digests[name+" of "+j.cell.Method.Name] = d
			}
		}
	}
	var options []results.Option
	if o.Wait {
		options = append(options, results.Wait(ctx, func(holder string) {
			r.progress.stage("waiting for " + holder)
		}))
	}
	if r.store, err = results.Create(o.Out, s.YAML(), manifest, options...); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.store.Close()) }()

	sum := &Summary{Dir: o.Out, Cells: len(jobs)}
	var todo []job
	for _, j := range jobs {
		c, done, err := r.store.Done(j.key)
		if err != nil && !errors.Is(err, results.ErrBroken) {
			return nil, err
		}
		if err != nil {
			sum.BrokenCellReports = append(sum.BrokenCellReports, err.Error())
		}
		if done && c.Status == results.StatusOK {
			sum.Skipped++
			r.finished[j.tokens] = append(r.finished[j.tokens], j)
			continue
		}
		todo = append(todo, j)
	}
	todo = inOrder(todo)
	ctx, fail := context.WithCancelCause(ctx)
	var preparing sync.WaitGroup
	defer func() {
		fail(nil)
		preparing.Wait()
	}()
	r.progress.begin(len(jobs), sum.Skipped, len(todo))
	preparing.Go(func() { r.prepareAhead(ctx, todo, fail) })
	for _, j := range todo {
		if ctx.Err() != nil {
			sum.Interrupted = true
			break
		}
		if j.cell.Timing {
			preparing.Wait() // tokenising beside the cell would count as its time
		}
		r.progress.cell(j)
		c, err := r.runCell(ctx, j)
		if errors.Is(err, ErrInterrupted) {
			sum.Interrupted = true
			break
		}
		if err != nil {
			return sum, err
		}
		sum.Computed++
		if c.Measured.Twin != "" {
			sum.Twins++
		}
		if c.Status != results.StatusOK {
			sum.Failed = append(sum.Failed, c)
		}
		r.progress.ended(c)
	}
	r.progress.stop()
	if err := context.Cause(ctx); errors.Is(err, errPreparation) {
		return sum, err
	}
	if sum.MergedCells, sum.Rows, err = r.store.Merge(nil); err != nil {
		return sum, err
	}
	if sum.Interrupted {
		return sum, nil
	}
	if err := simulateServer(ctx, r.bench, s, r.store); err != nil {
		return sum, err
	}
	if err := r.store.Finish(time.Now()); err != nil {
		return sum, err
	}
	if sum.Tables, err = WriteTables(r.store); err != nil {
		return sum, err
	}
	sum.Figures, sum.FigureProblems, err = WriteFigures(r.store, s.Outputs, true)
	return sum, err
}

// freshFolder empties a folder of a run that holds only what is made from its
// cells, so that nothing of an earlier state stays.
func freshFolder(run, name string) (string, error) {
	dir := filepath.Join(run, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// Tables returns the tables of a run's cells, and those of its modelled server.
func Tables(r *results.Run, cells []results.CellResult) ([]results.Table, error) {
	server, err := r.Server()
	if err != nil {
		return nil, err
	}
	tables := results.Tables(cells)
	if server != nil {
		tables = append(tables, server.Tables()...)
	}
	return tables, nil
}

// WriteTables writes the tables of a run to its folder tables.
func WriteTables(r *results.Run) ([]string, error) {
	cells, _, err := r.CellsTolerant()
	if err != nil {
		return nil, err
	}
	dir, err := freshFolder(r.Dir(), "tables")
	if err != nil {
		return nil, err
	}
	var files []string
	tables, err := Tables(r, cells)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		for _, form := range results.Formats {
			name := filepath.Join(dir, t.Name+form.Extension)
			f, err := os.Create(name)
			if err != nil {
				return files, err
			}
			if err := errors.Join(form.Write(&t, f), f.Close()); err != nil {
				return files, err
			}
			files = append(files, name)
		}
	}
	return files, nil
}

// WriteFigures renders the named figures of a run to its folder figures; a
// figure that the run has no data for is a problem, not an error. With all,
// names are all of the run's figures and older ones go.
func WriteFigures(r *results.Run, names []string, all bool) (files, problems []string, err error) {
	cells, _, err := r.CellsTolerant()
	if err != nil {
		return nil, nil, err
	}
	server, err := r.Server()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(r.Dir(), "figures")
	if all {
		dir, err = freshFolder(r.Dir(), "figures")
	} else {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		made, err := figures.Render(name, figures.Input{Cells: cells, Server: server}, dir)
		if err != nil {
			problems = append(problems, fmt.Sprintf("figure %s: %v", name, err))
			continue
		}
		files = append(files, made...)
	}
	return files, problems, nil
}
