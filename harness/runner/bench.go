// Package runner turns an experiment spec into a run directory.
//
//		spec -> cells -> (model, prepared task, session) -> rows -> journal -> cell files -> run.parquet, tables, figures
//
//	 1. Workbench opens models, tokenizers and data sets once and keeps them.
//	 2. Prepare turns a task into units (a document, or a block of tokens) of
//	    requests in token ids: no model is run for that.
//	 3. RunCell scores the units block by block; every finished block is on disk
//	    before the next begins.
//	 4. Run does this for every cell that is not done, then merges and renders.
package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"splitbench/experiments/spec"
	"splitbench/harness/builtin"
	"splitbench/harness/exec"
	"splitbench/models/checkpoint"
	"splitbench/models/tokenizer"
	"splitbench/results"
	"splitbench/tasks"
)

// Compute says how models are run. It never changes a result.
type Compute struct {
	BatchRows int    // tokens of one forward pass; 0 = exec.DefaultBatchRows
	Workers   int    // CPU workers; 0 = all cores
	Kernel    string // CPU kernel; "" = the fastest
}

// Workbench holds what several cells share. It is not safe for concurrent
// use.
type Workbench struct {
	compute    Compute
	configs    map[string]checkpoint.Config
	digests    map[string]string
	tokenizers map[string]tokenizer.Tokenizer
	datasets   map[string]*tasks.Dataset
	prepared   map[string]*Prepared
	tables     map[[2]string]exec.Tables // by the paths of the boundary
	model      *exec.Loaded              // the model in use
	modelPath  string
}

// NewWorkbench returns an empty workbench.
func NewWorkbench(c Compute) *Workbench {
	return &Workbench{compute: c, configs: map[string]checkpoint.Config{}, digests: map[string]string{}, tokenizers: map[string]tokenizer.Tokenizer{}, datasets: map[string]*tasks.Dataset{}, prepared: map[string]*Prepared{}, tables: map[[2]string]exec.Tables{}}
}

// Close frees the model in use.
func (w *Workbench) Close() error {
	if w.model == nil {
		return nil
	}
	err := w.model.Close()
	w.model = nil
	return err
}

// Config reads a model's configuration without its weights.
func (w *Workbench) Config(m spec.Model) (checkpoint.Config, error) {
	if c, ok := w.configs[m.Path]; ok {
		return c, nil
	}
	path, err := exec.Locate(m.Path)
	if err != nil {
		return checkpoint.Config{}, err
	}
	c, err := checkpoint.ReadConfig(path)
	if err != nil {
		return checkpoint.Config{}, err
	}
	w.configs[m.Path] = c
	return c, nil
}

// Layers is the number of blocks of a model, for spec.Cells.
func (w *Workbench) Layers(m spec.Model) (int, error) {
	c, err := w.Config(m)
	return c.Layers, err
}

// Tokenizer opens a model's tokenizer.
func (w *Workbench) Tokenizer(m spec.Model) (tokenizer.Tokenizer, error) {
	key := m.Path + "\x00" + m.Tokenizer
	if t, ok := w.tokenizers[key]; ok {
		return t, nil
	}
	path, err := exec.Locate(m.Path)
	if err != nil {
		return nil, err
	}
	t, err := exec.OpenTokenizer(path, m.Tokenizer)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fmt.Errorf("model %s: no tokenizer beside %s, name one with the key tokenizer of the model", m.Name, m.Path)
	}
	w.tokenizers[key] = t
	return t, nil
}

// Tables returns the tables of a cell's method, of which each file is read once,
// and says whether they fit the model.
func (w *Workbench) Tables(c spec.Cell) (exec.Tables, error) {
	m := c.Method
	if m.Boundary == nil {
		return exec.Tables{}, nil
	}
	key := [2]string{m.Boundary.Tables, m.Boundary.KVTables}
	t, ok := w.tables[key]
	if !ok {
		var err error
		if t, err = exec.LoadTables(m.Boundary); err != nil {
			return t, fmt.Errorf("method %s: %w", m.Name, err)
		}
		w.tables[key] = t
	}
	cfg, err := w.Config(c.Model)
	if err != nil {
		return t, err
	}
	if err := t.Fit(m, cfg); err != nil {
		return t, fmt.Errorf("method %s, model %s: %w", m.Name, c.Model.Name, err)
	}
	return t, nil
}

// Method returns the runnable form of a cell's method.
func (w *Workbench) Method(c spec.Cell) (exec.Method, error) {
	cfg, err := w.Config(c.Model)
	if err != nil {
		return exec.Method{}, err
	}
	t, err := w.Tables(c)
	if err != nil {
		return exec.Method{}, err
	}
	return exec.FromSpec(c.Method, cfg, t)
}

// ModelDigest is the SHA-256 of a model's configuration and weights.
func (w *Workbench) ModelDigest(m spec.Model) (string, error) {
	if d, ok := w.digests[m.Path]; ok {
		return d, nil
	}
	path, err := exec.Locate(m.Path)
	if err != nil {
		return "", err
	}
	c, err := checkpoint.Open(path)
	if err != nil {
		return "", err
	}
	defer c.Close()
	d, err := c.Digest()
	if err == nil {
		w.digests[m.Path] = d
	}
	return d, err
}

// MaxLength is the longest input of a model in tokens.
func (w *Workbench) MaxLength(m spec.Model) (int, error) {
	c, err := w.Config(m)
	if err != nil {
		return 0, err
	}
	if m.MaxLength > 0 {
		return m.MaxLength, nil
	}
	return c.MaxPositions, nil
}

// Open loads a model and frees the one before.
func (w *Workbench) Open(m spec.Model) (*exec.Loaded, error) {
	key := m.Path + "\x00" + m.Tokenizer
	if w.model != nil && w.modelPath == key {
		return w.model, nil
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	path, err := exec.Locate(m.Path)
	if err != nil {
		return nil, err
	}
	l, err := exec.Open(exec.Source{Path: path, Tokenizer: m.Tokenizer, MaxLength: m.MaxLength, BatchRows: w.compute.BatchRows, Workers: w.compute.Workers, Kernel: w.compute.Kernel})
	if err != nil {
		return nil, err
	}
	w.model, w.modelPath = l, key
	return l, nil
}

// Unit is what is scored and stored as one: a document or a block of tokens.
type Unit struct {
	Doc      *tasks.Doc // nil for a block of tokens
	Requests []exec.Request
	// Rows are the unit's result rows without scores: one per request, except
	// that all windows of a rolling perplexity make one row.
	Rows []results.Row
}

// Prepared is a task in the tokens of one model.
type Prepared struct {
	Info         tasks.Info
	Protocol     tasks.Protocol
	Units        []Unit
	Skipped      []int32 // documents whose continuation exceeds the model's length
	Digest       string  // of the data files
	InputTokens  int64   // tokens that a pass over everything reads
	ScoredTokens int64
	Requests     int64
}

// taskPath returns the data file or folder of a task.
func taskPath(c spec.Cell) (string, error) {
	switch {
	case strings.HasPrefix(c.Task.Path, builtin.Prefix):
		root, err := builtin.Resolve(c.Task.Path)
		if err != nil {
			return "", err
		}
		return tasks.DefaultPath(root, c.Task.Name)
	case c.Task.Path != "":
		return c.Task.Path, nil
	case c.Data == "":
		return "", fmt.Errorf("task %s: no data: set SPLITBENCH_SHARED, or the key data or path", c.Task.Name)
	default:
		return tasks.DefaultPath(c.Data, c.Task.Name)
	}
}

func limitOf(l spec.Limit) tasks.Limit {
	if l.Fraction > 0 {
		return tasks.Limit(l.Fraction)
	}
	return tasks.Limit(l.Docs)
}

// Prepare loads and tokenises the task of a cell for its model.
func (w *Workbench) Prepare(c spec.Cell) (*Prepared, error) {
	key := fmt.Sprintf("%+v|%+v|%s|%s|%s|%d", c.Model, c.Task, c.Data, c.Protocol, c.Chat, c.Seed)
	if p, ok := w.prepared[key]; ok {
		return p, nil
	}
	p, err := w.prepare(c)
	if prefix := "task " + c.Task.Name + ": "; err != nil && !strings.HasPrefix(err.Error(), prefix) {
		err = fmt.Errorf("%s%w", prefix, err)
	}
	if err != nil {
		return nil, err
	}
	w.prepared[key] = p
	return p, nil
}

// dataset reads a task's data once for all models.
func (w *Workbench) dataset(name string, o tasks.Options) (*tasks.Dataset, error) {
	key := fmt.Sprintf("%s|%+v", name, o)
	if d, ok := w.datasets[key]; ok {
		return d, nil
	}
	d, err := tasks.Load(name, o)
	if err == nil {
		w.datasets[key] = d
	}
	return d, err
}

func (w *Workbench) prepare(c spec.Cell) (*Prepared, error) {
	t, err := w.Tokenizer(c.Model)
	if err != nil {
		return nil, err
	}
	maxLength, err := w.MaxLength(c.Model)
	if err != nil {
		return nil, err
	}
	path, err := taskPath(c)
	if err != nil {
		return nil, err
	}
	protocol := tasks.Protocol(c.Protocol)
	var prompt *chatPrompt
	if c.Chat == chatOn {
		if prompt, err = w.chatPrompt(c.Model, t); err != nil {
			return nil, err
		}
	}
	ds, err := w.dataset(c.Task.Name, tasks.Options{Path: path, Labels: c.Task.Labels, Protocol: protocol, Limit: limitOf(c.Task.Limit)})
	if err != nil {
		return nil, err
	}
	if prompt != nil && ds.Kind != tasks.MultipleChoice {
		return nil, fmt.Errorf("chat: on has no meaning for a %s task, expected a multiple-choice task", ds.Kind)
	}
	p := &Prepared{Info: ds.Info, Protocol: protocol, Digest: ds.Digest}
	switch ds.Kind {
	case tasks.MultipleChoice:
		for i := range ds.Docs {
			u, err := choiceUnit(protocol, t, prompt, &ds.Docs[i], maxLength)
			if errors.Is(err, tasks.ErrTooLong) {
				p.Skipped = append(p.Skipped, int32(ds.Docs[i].ID))
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("document %d: %w", ds.Docs[i].ID, err)
			}
			p.Units = append(p.Units, u)
		}
	case tasks.RollingPerplexity:
		for i := range ds.Docs {
			u, err := rollingUnit(protocol, t, &ds.Docs[i], maxLength)
			if err != nil {
				return nil, fmt.Errorf("document %d: %w", ds.Docs[i].ID, err)
			}
			p.Units = append(p.Units, u)
		}
	case tasks.BlockPerplexity:
		length := c.Task.Block
		if length < 2 || length > maxLength {
			return nil, fmt.Errorf("block of %d tokens, expected 2 to the model's length of %d", length, maxLength)
		}
		blocks, _, err := tasks.Blocks(t, ds, length, c.Seed)
		if err != nil {
			return nil, err
		}
		for i, b := range blocks {
			p.Units = append(p.Units, Unit{
				Requests: []exec.Request{{Input: b[:len(b)-1], Targets: b[1:]}},
				Rows:     []results.Row{{Doc: int32(i), Gold: -1, ContextTokens: 1, Tokens: int32(len(b) - 1)}},
			})
		}
	}
	if len(p.Units) == 0 {
		return nil, fmt.Errorf("nothing to score: all %d documents are longer than the model's %d tokens", len(p.Skipped), maxLength)
	}
	for _, u := range p.Units {
		for _, r := range u.Requests {
			p.Requests++
			p.InputTokens += int64(len(r.Input))
			p.ScoredTokens += int64(len(r.Targets))
		}
	}
	return p, nil
}

func choiceUnit(p tasks.Protocol, t tasks.Tokenizer, prompt *chatPrompt, d *tasks.Doc, maxLength int) (Unit, error) {
	u := Unit{Doc: d}
	for i, r := range d.Requests {
		if prompt != nil {
			var err error
			if r, err = prompt.apply(r); err != nil {
				return u, err
			}
			t = prompt.tokenizer
		}
		pair, err := tasks.Tokenize(p, t, r)
		if err != nil {
			return u, err
		}
		input, targets, dropped, err := tasks.Input(pair, maxLength)
		if err != nil {
			return u, err
		}
		u.Requests = append(u.Requests, exec.Request{Input: input, Targets: targets})
		row := results.Row{
			Doc: int32(d.ID), Choice: int32(i), Gold: int32(d.Gold), ContextTokens: int32(len(pair.Context)), Tokens: int32(len(targets)),
			DroppedLeft: int32(dropped), Fallback: pair.Fallback,
		}
		measure(&row, d.Choices[i])
		u.Rows = append(u.Rows, row)
	}
	return u, nil
}

func rollingUnit(p tasks.Protocol, t tokenizer.Tokenizer, d *tasks.Doc, maxLength int) (Unit, error) {
	u := Unit{Doc: d}
	tokens, prefix, err := tasks.RollingTokens(p, t, d.Text)
	if err != nil {
		return u, err
	}
	for _, w := range tasks.RollingWindows(tokens, prefix, maxLength) {
		u.Requests = append(u.Requests, exec.Request{Input: w.Input, Targets: w.Targets})
	}
	row := results.Row{Doc: int32(d.ID), Gold: -1, ContextTokens: 1, Tokens: int32(len(tokens))}
	measure(&row, d.Original)
	row.Words, row.Bytes = int32(d.Words), int32(d.Bytes)
	u.Rows = []results.Row{row}
	return u, nil
}

// measure sets the lengths of a scored text.
func measure(r *results.Row, text string) {
	r.Chars, r.Bytes, r.Words = int32(len([]rune(text))), int32(len(text)), int32(len(strings.Fields(text)))
}

// tableDigits is how many digits of a digest a column of results has.
const tableDigits = 12

// Point returns the result columns of a cell; digests are those of [Workbench.Digests].
func Point(c spec.Cell, digests map[string]string) results.Point {
	m := c.Method
	p := results.Point{
		Model: c.Model.Name, Task: c.Task.Name, Protocol: c.Protocol, Method: m.Name,
		SplitLayer: int32(m.SplitLayer), WeightLayer: int32(m.PrecisionLayer),
		FrontBits: exec.FullPrecision, BackBits: exec.FullPrecision,
		MaxTokens: int32(m.MaxTokens), IncludeKV: m.IncludeKV, Seed: int64(c.Seed),
	}
	if c.Chat == chatOn {
		p.Protocol += "+chat"
	}
	if m.Front.Bits != 0 {
		p.FrontBits, p.Group = int32(m.Front.Bits), int32(m.Front.Group)
	}
	if m.Back.Bits != 0 {
		p.BackBits, p.BackGroup = int32(m.Back.Bits), int32(m.Back.Group)
		if p.FrontBits == exec.FullPrecision {
			p.Group = p.BackGroup
		}
		if p.BackBits == exec.FullPrecision {
			p.BackGroup = p.Group
		}
	}
	if b := m.Boundary; b != nil && b.Codec != exec.CodecNone {
		p.Codec, p.Threshold, p.MaxActivationBits, p.Delta = b.Codec, b.Tau.Value, int32(b.MaxActivationBits), b.Delta
		if b.Codec != "raw16" {
			p.Search, p.StopRule, p.Comparison, p.LowerBound, p.Granularity = b.Search, b.StopRule, b.Comparison, int32(b.LowerBound), b.Granularity
			p.AboveType, p.SparseIndex, p.ScaleType, p.TauBy = b.AboveType, b.SparseIndex, b.ScaleType, b.Tau.By
		}
		if b.Codec == "split1" {
			p.Lanes, p.Restore = int32(b.Lanes), b.Restore
			p.Tables, p.KVTables = digests[spec.DigestTables], digests[spec.DigestKVTables]
			p.Tables, p.KVTables = p.Tables[:min(tableDigits, len(p.Tables))], p.KVTables[:min(tableDigits, len(p.KVTables))]
		}
	}
	p.Limit, p.MaxLength = c.Task.Limit.String(), int32(c.Model.MaxLength)
	if info, err := tasks.Lookup(c.Task.Name); err == nil && info.Kind == tasks.BlockPerplexity {
		p.Block = int32(c.Task.Block)
	}
	return p
}

// Digests are what a cell's key holds besides its knobs.
func (w *Workbench) Digests(c spec.Cell, p *Prepared) (map[string]string, error) {
	model, err := w.ModelDigest(c.Model)
	if err != nil {
		return nil, err
	}
	t, err := w.Tokenizer(c.Model)
	if err != nil {
		return nil, err
	}
	digests := map[string]string{
		spec.DigestModel: model, spec.DigestTokenizer: t.Digest(), spec.DigestData: p.Digest,
		"schema": fmt.Sprint(results.SchemaVersion), "backend": "cpu-float32",
	}
	tables, err := w.Tables(c)
	if err != nil {
		return nil, err
	}
	// Cells without files of tables have the keys they always had.
	if tables.Hidden != nil {
		digests[spec.DigestTables] = tables.HiddenDigest
	}
	if tables.KV != nil {
		digests[spec.DigestKVTables] = tables.KVDigest
	}
	return digests, nil
}

// Experiments lists the specs that ship with the program, found beside the
// working directory.
func Experiments() []string {
	found, _ := filepath.Glob(filepath.Join("experiments", "*.yaml"))
	if _, err := os.Stat("experiments"); err != nil {
		return nil
	}
	return found
}
