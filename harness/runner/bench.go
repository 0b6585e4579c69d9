// Package runner turns an experiment spec into a run directory.
//
//		spec -> cells -> (model, prepared task, session) -> rows -> journal -> cell files -> run.parquet, tables, figures
//
//	 1. Workbench opens models, tokenizers and data sets once and keeps them.
//	 2. Prepare turns a task into units (a document, or a block of tokens) of
//	    requests in token ids: no model is run for that.
//	 3. runCell scores the units block by block; every finished block is on disk
//	    before the next begins.
//	 4. Run does this for every cell that is not done, then merges and renders.
//	    Cells with the same edge run one after the other and share its boundary
//	    tensors; a cell whose knobs cannot act takes the scores of its twin; the
//	    next tasks are tokenised meanwhile.
package runner

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"splitbench/experiments/spec"
	"splitbench/harness/builtin"
	"splitbench/harness/exec"
	"splitbench/models/checkpoint"
	"splitbench/models/quantize"
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

// Workbench holds what several cells share. Prepare, and what reads models'
// configurations, tokenizers and data, may be called while a model is in use;
// other methods must not be called concurrently.
type Workbench struct {
	compute      Compute
	mu           sync.Mutex // of the maps
	configs      map[string]checkpoint.Config
	digests      map[string]string
	tokenizers   map[string]tokenizer.Tokenizer
	datasets     map[string]*tasks.Dataset
	prepared     map[string]*preparation
	tables       map[[2]string]exec.Tables  // by the paths of the boundary
	methods      map[string]quantize.Method // by the paths of quantizers
	calibrations map[calibrationKey][][]int32
	alphas       map[string]float64 // of quantized models, by path and name of the quantizer
	model        *exec.Loaded       // the model in use
	modelPath    string
}

// preparation is a task being prepared: done is closed when p and err are
// there.
type preparation struct {
	done chan struct{}
	p    *Prepared
	err  error
}

// NewWorkbench returns an empty workbench.
func NewWorkbench(c Compute) *Workbench {
	return &Workbench{compute: c, configs: map[string]checkpoint.Config{}, digests: map[string]string{}, tokenizers: map[string]tokenizer.Tokenizer{}, datasets: map[string]*tasks.Dataset{}, prepared: map[string]*preparation{}, tables: map[[2]string]exec.Tables{},
		methods: map[string]quantize.Method{}, calibrations: map[calibrationKey][][]int32{}, alphas: map[string]float64{}}
}

// Close frees the model in use.
func (w *Workbench) Close() error {
	if w.model == nil {
		return nil
	}
	err := w.model.Close()
	w.model = nil
	runtime.GC() // large weights lie outside of the heap: nothing else asks for them soon
	return err
}

// Config reads a model's configuration without its weights.
func (w *Workbench) Config(m spec.Model) (checkpoint.Config, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
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
	w.mu.Lock()
	defer w.mu.Unlock()
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
	cfg, err := w.Config(c.Model)
	if err != nil {
		return exec.Tables{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := [2]string{m.Boundary.Tables, m.Boundary.KVTables}
	t, ok := w.tables[key]
	if !ok {
		if t, err = exec.LoadTables(m.Boundary); err != nil {
			return t, fmt.Errorf("method %s: %w", m.Name, err)
		}
		w.tables[key] = t
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
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := w.digests[m.Path]; ok {
		return d, nil
	}
	path, err := exec.Locate(m.Path)
	if err != nil {
		return "", err
	}
	d, err := exec.Digest(path)
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
	Requested    string  // SHA-256 of the requests in token ids and of the rows' shape
	Longest      int     // tokens of the longest input
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
		root, err := builtin.Resolve(c.Data)
		if err != nil {
			return "", err
		}
		return tasks.DefaultPath(root, c.Task.Name)
	}
}

func limitOf(l spec.Limit) tasks.Limit {
	if l.Fraction > 0 {
		return tasks.Limit(l.Fraction)
	}
	return tasks.Limit(l.Docs)
}

// Prepare loads and tokenises the task of a cell for its model, once for all
// cells with the same tokens. It may be called from several goroutines; a task
// that another call is at work on is waited for.
func (w *Workbench) Prepare(c spec.Cell) (*Prepared, error) {
	key, err := w.prepareKey(c)
	if err != nil {
		return nil, named(c, err)
	}
	w.mu.Lock()
	at, ok := w.prepared[key]
	if !ok {
		at = &preparation{done: make(chan struct{})}
		w.prepared[key] = at
	}
	w.mu.Unlock()
	if ok {
		<-at.done
		return at.p, at.err
	}
	at.p, at.err = w.prepare(c)
	at.err = named(c, at.err)
	close(at.done)
	return at.p, at.err
}

// prepareKey is equal for cells with the same requests in the same tokens.
func (w *Workbench) prepareKey(c spec.Cell) (string, error) {
	t, err := w.Tokenizer(c.Model)
	if err != nil {
		return "", err
	}
	maxLength, err := w.MaxLength(c.Model)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%s|%d|%+v|%s|%s", t.Digest(), maxLength, c.Task, c.Data, c.Protocol)
	if c.Chat == chatOn {
		key += fmt.Sprintf("|chat %+v", c.Model)
	}
	if info, err := tasks.Lookup(c.Task.Name); err != nil || info.Kind == tasks.BlockPerplexity {
		key += fmt.Sprintf("|seed %d", c.Seed)
	}
	return key, nil
}

// named puts the task before an error that does not name it.
func named(c spec.Cell, err error) error {
	if prefix := "task " + c.Task.Name + ": "; err != nil && !strings.HasPrefix(err.Error(), prefix) {
		return fmt.Errorf("%s%w", prefix, err)
	}
	return err
}

// dataset reads a task's data once for all models.
func (w *Workbench) dataset(c spec.Cell) (*tasks.Dataset, error) {
	path, err := taskPath(c)
	if err != nil {
		return nil, err
	}
	o := tasks.Options{Path: path, Labels: c.Task.Labels, Protocol: tasks.Protocol(c.Protocol), Limit: limitOf(c.Task.Limit)}
	key := fmt.Sprintf("%s|%+v", c.Task.Name, o)
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := w.datasets[key]; ok {
		return d, nil
	}
	d, err := tasks.Load(c.Task.Name, o)
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
	protocol := tasks.Protocol(c.Protocol)
	var prompt *chatPrompt
	if c.Chat == chatOn {
		if prompt, err = w.chatPrompt(c.Model, t); err != nil {
			return nil, err
		}
	}
	ds, err := w.dataset(c)
	if err != nil {
		return nil, err
	}
	if prompt != nil && ds.Kind != tasks.MultipleChoice {
		return nil, fmt.Errorf("chat: on has no meaning for a %s task, expected a multiple-choice task", ds.Kind)
	}
	p := &Prepared{Info: ds.Info, Protocol: protocol, Digest: ds.Digest}
	switch ds.Kind {
	case tasks.MultipleChoice:
		var encode tasks.Tokenizer = t
		if prompt != nil {
			encode = prompt.tokenizer
		}
		err = p.addUnits(ds.Docs, func() func(*tasks.Doc) (Unit, error) {
			recent := &recentTexts{Tokenizer: encode}
			return func(d *tasks.Doc) (Unit, error) { return choiceUnit(protocol, recent, prompt, d, maxLength) }
		})
	case tasks.RollingPerplexity:
		err = p.addUnits(ds.Docs, func() func(*tasks.Doc) (Unit, error) {
			return func(d *tasks.Doc) (Unit, error) { return rollingUnit(protocol, t, d, maxLength) }
		})
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
	if err != nil {
		return nil, err
	}
	if len(p.Units) == 0 {
		return nil, fmt.Errorf("nothing to score: all %d documents are longer than the model's %d tokens", len(p.Skipped), maxLength)
	}
	p.measure()
	return p, nil
}

// measure counts the requests and hashes them.
func (p *Prepared) measure() {
	h := sha256.New()
	var b []byte
	for _, u := range p.Units {
		b = binary.AppendUvarint(b[:0], uint64(len(u.Rows)))
		for _, row := range u.Rows {
			b = binary.AppendVarint(binary.AppendVarint(b, int64(row.Doc)), int64(row.Choice))
		}
		b = binary.AppendUvarint(b, uint64(len(u.Requests)))
		for _, r := range u.Requests {
			p.Requests++
			p.InputTokens += int64(len(r.Input))
			p.ScoredTokens += int64(len(r.Targets))
			p.Longest = max(p.Longest, len(r.Input))
			for _, ids := range [][]int32{r.Input, r.Targets} {
				b = binary.AppendUvarint(b, uint64(len(ids)))
				for _, id := range ids {
					b = binary.LittleEndian.AppendUint32(b, uint32(id))
				}
			}
		}
		h.Write(b)
	}
	p.Requested = hex.EncodeToString(h.Sum(nil))
}

// addUnits makes the units of documents on all cores, in order; worker returns
// what one goroutine makes them with. A document that is too long is skipped;
// the error is that of the first document that has one.
func (p *Prepared) addUnits(docs []tasks.Doc, worker func() func(*tasks.Doc) (Unit, error)) error {
	const chunk = 64
	units, errs := make([]Unit, len(docs)), make([]error, len(docs))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(docs)+chunk-1)/chunk) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			unit := worker()
			for {
				to := int(next.Add(chunk))
				from := to - chunk
				if from >= len(docs) {
					return
				}
				for i := from; i < min(to, len(docs)); i++ {
					units[i], errs[i] = unit(&docs[i])
				}
			}
		}()
	}
	wg.Wait()
	for i, err := range errs {
		switch {
		case errors.Is(err, tasks.ErrTooLong):
			p.Skipped = append(p.Skipped, int32(docs[i].ID))
		case err != nil:
			return fmt.Errorf("document %d: %w", docs[i].ID, err)
		default:
			p.Units = append(p.Units, units[i])
		}
	}
	return nil
}

// recentTexts remembers the last few encodings: the choices of a question
// repeat its context. What Encode returns must not be changed. It is for one
// goroutine.
type recentTexts struct {
	tasks.Tokenizer
	last [3]encoding // most recently used first
}

type encoding struct {
	text    string
	special bool
	ids     []int32
	known   bool
}

func (t *recentTexts) Encode(text string, special bool) []int32 {
	i := 0
	for i < len(t.last)-1 && !(t.last[i].known && t.last[i].special == special && t.last[i].text == text) {
		i++
	}
	e := t.last[i]
	if !e.known || e.special != special || e.text != text {
		e = encoding{text, special, t.Tokenizer.Encode(text, special), true}
	}
	copy(t.last[1:i+1], t.last[:i])
	t.last[0] = e
	return e.ids
}

func choiceUnit(p tasks.Protocol, t tasks.Tokenizer, prompt *chatPrompt, d *tasks.Doc, maxLength int) (Unit, error) {
	u := Unit{Doc: d}
	for i, r := range d.Requests {
		if prompt != nil {
			var err error
			if r, err = prompt.apply(r); err != nil {
				return u, err
			}
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
func (w *Workbench) Point(c spec.Cell, digests map[string]string) (results.Point, error) {
	p := Point(c, digests)
	b, err := w.baselines(c)
	if err == nil {
		b.point(&p, c, digests)
	}
	return p, err
}

// Point is Workbench.Point for a cell without quantizers.
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
	if m.Boundary != nil {
		p.Clamp = m.Boundary.Clamp
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

// Digests are what a cell's key holds besides its knobs. They take the data
// but no tokens.
func (w *Workbench) Digests(c spec.Cell) (map[string]string, error) {
	model, err := w.ModelDigest(c.Model)
	if err != nil {
		return nil, err
	}
	t, err := w.Tokenizer(c.Model)
	if err != nil {
		return nil, err
	}
	ds, err := w.dataset(c)
	if err != nil {
		return nil, named(c, err)
	}
	digests := map[string]string{
		spec.DigestModel: model, spec.DigestTokenizer: t.Digest(), spec.DigestData: ds.Digest,
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
	if err := w.quantizerDigests(c, digests); err != nil {
		return nil, fmt.Errorf("method %s: %w", c.Method.Name, err)
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
