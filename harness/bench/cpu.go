package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"splitbench/harness/exec"
	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
	"splitbench/models/decoder"
	"splitbench/models/tokenizer"
	"splitbench/results"
	"splitbench/tasks"
)

// Measurements of CPU.
const (
	GEMM          = "gemm"      // products of several rows, against the peak
	GEMV          = "gemv"      // products of one row with weights that are in no cache, against the bandwidth
	PassPrefill   = "prefill"   // one sequence, logits of its last token
	PassRagged    = "ragged"    // as many tokens in sequences of different lengths
	PassDecode    = "decode"    // token by token
	PassHellaSwag = "hellaswag" // tokenising and scoring documents of HellaSwag
)

// CPUMeasurements lists them.
func CPUMeasurements() []string {
	return []string{GEMM, GEMV, PassPrefill, PassRagged, PassDecode, PassHellaSwag}
}

// CPUOptions say what CPU measures.
type CPUOptions struct {
	Shapes  []Shape
	Threads []int
	Types   []string // see WeightTypes
	Measure []string // see CPUMeasurements
	Kernel  string   // of models/backend/cpu; empty: the fastest
	Rows    []int    // M of the products
	Tokens  int      // of a prefill
	Decode  int      // tokens decoded in one operation, from an empty cache
	Group   int      // weights that share a scale in int8 and int4; 0 = a row
	Cold    int64    // bytes of weights that GEMV walks over, more than caches hold
	Buffer  int      // bytes of the buffer for the bandwidth; 0 = what the backend takes
	Peak    time.Duration
	Memory  int64 // bytes available, 0 = unknown
	Rival   Rival
	Timing  Timing
	HellaSwag
	// Step, if not nil, is told what is measured next.
	Step func(what string)
}

// HellaSwag says what the pass of that name scores.
type HellaSwag struct {
	Data      *tasks.Dataset
	Tokenizer tokenizer.Tokenizer
	Rounds    int
}

func (o *CPUOptions) step(format string, args ...any) {
	if o.Step != nil {
		o.Step(fmt.Sprintf(format, args...))
	}
}

// CPU measures the kernels and passes of the CPU backend on models of random
// weights, against the peak and the bandwidth of this machine.
func CPU(ctx context.Context, o CPUOptions) (*Report, error) {
	var types []weightType
	for _, name := range o.Types {
		types = append(types, weightTypes[slices.Index(WeightTypes(), name)])
	}
	// What does not fit is said before anything is measured.
	if o.passes() {
		for _, s := range o.Shapes {
			for _, t := range types {
				if n := s.needs(t, o.Group, o.rows()); o.Memory > 0 && n > o.Memory {
					return nil, fmt.Errorf("a %s model in %s needs %s of memory, %s are available", s.Name, t.name, gib(n), gib(o.Memory))
				}
			}
		}
	}
	r := &Report{}
	tables := cpuTables(&o)
	for _, threads := range o.Threads {
		if err := r.cpuThreads(ctx, &o, types, threads, tables); err != nil {
			return nil, err
		}
	}
	for _, t := range tables.all() {
		if len(t.Rows) > 0 {
			r.Tables = append(r.Tables, *t)
		}
	}
	return r, nil
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

func (o *CPUOptions) wants(what string) bool { return slices.Contains(o.Measure, what) }

// passes says whether a whole model is needed.
func (o *CPUOptions) passes() bool {
	return o.wants(PassPrefill) || o.wants(PassRagged) || o.wants(PassDecode) || o.wants(PassHellaSwag)
}

// rows is the number of rows of the largest pass.
func (o *CPUOptions) rows() int {
	n := max(o.Tokens, o.Decode)
	if o.wants(PassHellaSwag) {
		n = max(n, exec.DefaultBatchRows)
	}
	return n
}

// tables are the tables of CPU under construction.
type tables struct{ limits, gemm, gemv, pass, hellaswag results.Table }

func (t *tables) all() []*results.Table {
	return []*results.Table{&t.limits, &t.gemm, &t.gemv, &t.pass, &t.hellaswag}
}

func cpuTables(o *CPUOptions) *tables {
	median := fmt.Sprintf("Medians of %d interleaved rounds", o.Timing.Rounds)
	t := &tables{
		limits: results.Table{Name: "limits", Title: "Limits of this machine, measured: float32 products and sums in registers, and reading from memory.",
			Columns: append(plain("Kernel"), numeric("Threads", 0), numeric("Peak (GFLOP/s)", 1), numeric("Read (GB/s)", 1))},
		gemm: results.Table{Name: GEMM, Title: median + " of products (M, In) x (In, Out): GFLOP/s and, in brackets, the share of the peak. Weights stay in cache where they fit.",
			Columns: append(plain("Model", "Map", "Weights"), numeric("Out", 0), numeric("In", 0), numeric("Threads", 0))},
		gemv: results.Table{Name: GEMV, Title: median + " with the best round and quartiles of products of one row. The weights lie in memory: copies of more bytes than caches hold are used in turn.",
			Columns: append(plain("Model", "Map", "Weights"), numeric("Out", 0), numeric("In", 0), numeric("Threads", 0),
				numeric("Time (µs)", 1), numeric("Rate (GB/s)", 2), right("Best, quartiles"), numeric("Of bandwidth (%)", 1))},
		pass: results.Table{Name: "passes", Title: fmt.Sprintf("%s with the best round and quartiles of whole passes on random weights: prefill (one sequence, logits of the last token), ragged (the same number of tokens in sequences of different lengths), decode (from an empty cache). "+
			"The floor is operations / peak, for decode bytes / bandwidth.", median),
			Columns: append(plain("Model", "Weights"), numeric("Threads", 0), results.Column{Name: "Pass"}, numeric("Tokens", 0),
				numeric("Rate (tok/s)", 1), right("Best, quartiles"), numeric("Floor (tok/s)", 1), numeric("Of floor (%)", 1),
				numeric("Rival (tok/s)", 1), numeric("x rival", 2), numeric("Weights (MiB)", 1), numeric("Peak RSS (MiB)", 1))},
		hellaswag: results.Table{Name: PassHellaSwag, Title: "HellaSwag: tokenising and scoring the choices of the documents, medians over the rounds. The floor is operations / peak when what the choices of a document share is computed once.",
			Columns: append(plain("Model", "Weights"), numeric("Threads", 0), numeric("Documents", 0), numeric("Tokens", 0), numeric("Time (s)", 3), right("Best, quartiles"),
				numeric("Rate (documents/s)", 2), numeric("Floor (s)", 3), numeric("Of floor (%)", 1), numeric("Rival (s)", 3), numeric("x rival", 2), numeric("Peak RSS (MiB)", 1))},
	}
	for _, m := range o.Rows {
		t.gemm.Columns = append(t.gemm.Columns, right(fmt.Sprintf("M = %d", m)))
	}
	return t
}

// run is the measurement of one number of threads.
type run struct {
	*Report
	*CPUOptions
	tables  *tables
	threads int
	backend *cpu.Backend
	limits  cpu.Peak // the best of several measurements
	timing  Timing
	later   []func() // write what was measured, when the limits are known
}

// measureLimits takes the limits once more: a moment in which the machine was
// disturbed must not stand for it.
func (u *run) measureLimits() {
	p := u.backend.MeasurePeak(u.Peak, u.Buffer)
	u.limits.Flops = max(u.limits.Flops, p.Flops)
	u.limits.Bandwidth = max(u.limits.Bandwidth, p.Bandwidth)
}

func (r *Report) cpuThreads(ctx context.Context, o *CPUOptions, types []weightType, threads int, t *tables) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
	b, err := cpu.New(cpu.Options{Workers: threads, Kernel: o.Kernel})
	if err != nil {
		return err
	}
	defer b.Close()
	o.step("limits of the machine, %d threads", threads)
	u := &run{Report: r, CPUOptions: o, tables: t, threads: threads, backend: b, timing: o.Timing}
	u.timing.Threads = threads
	u.measureLimits()
	if err := u.measure(ctx, types); err != nil {
		return err
	}
	u.measureLimits()
	base := results.Measurement{Bench: "cpu", Table: t.limits.Name, Subject: b.Name(), Threads: int32(threads)}
	r.add(base, "peak", "GFLOP/s", u.limits.Flops*1e-9)
	r.add(base, "bandwidth", "GB/s", u.limits.Bandwidth*1e-9)
	t.limits.Rows = append(t.limits.Rows, []results.Value{text(b.Name()), integer(threads), number(u.limits.Flops * 1e-9), number(u.limits.Bandwidth * 1e-9)})
	for _, write := range u.later {
		write()
	}
	return nil
}

func (u *run) measure(ctx context.Context, types []weightType) error {
	o, threads := u.CPUOptions, u.threads
	for _, s := range o.Shapes {
		for _, w := range types {
			for _, m := range s.maps() {
				if m.name == "head" && w.other != nil {
					continue // measured as the type that it has
				}
				if o.wants(GEMM) {
					o.step("%s %s, %d threads: %s of %s", s.Name, w.name, threads, GEMM, m.name)
					if err := u.gemm(ctx, s, w, m); err != nil {
						return err
					}
				}
				if o.wants(GEMV) {
					o.step("%s %s, %d threads: %s of %s", s.Name, w.name, threads, GEMV, m.name)
					if err := u.gemv(ctx, s, w, m); err != nil {
						return err
					}
				}
			}
			if !o.passes() {
				continue
			}
			u.measureLimits()
			RestartPeakMemory()
			o.step("%s %s, %d threads: model", s.Name, w.name, threads)
			m, err := buildModel(u.backend, s, w, o.Group)
			if err != nil {
				return err
			}
			if err := u.passes(ctx, m, w); err != nil {
				return err
			}
			if o.wants(PassHellaSwag) {
				if err := u.hellaswag(ctx, m, w); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (u *run) put(w weightType, m linearMap, seed uint64) (backend.Weight, error) {
	return w.put(u.backend, random{m.out, m.in, seed}, u.Group)
}

// base is what the rows of a map have in common.
func (u *run) base(table string, s Shape, w weightType) results.Measurement {
	return results.Measurement{Bench: "cpu", Table: table, Input: s.Name, Subject: u.backend.Name(), Weights: w.name, Threads: int32(u.threads)}
}

func (u *run) gemm(ctx context.Context, s Shape, w weightType, m linearMap) error {
	weight, err := u.put(w, m, 1)
	if err != nil {
		return err
	}
	most := slices.Max(u.Rows)
	src, err := u.input(most, m.in)
	if err != nil {
		return err
	}
	dst, err := u.backend.Alloc(most, m.out)
	if err != nil {
		return err
	}
	var list []Contestant
	for _, rows := range u.Rows {
		d, x := dst.Slice(0, rows), src.Slice(0, rows)
		list = append(list, Contestant{Name: fmt.Sprint(rows), Work: 2 * float64(rows) * float64(m.out) * float64(m.in), Run: func(n int) error {
			for range n {
				u.backend.MatMul(d, x, weight, nil, false)
			}
			return u.backend.Sync()
		}})
	}
	samples, err := Measure(ctx, list, u.timing)
	if err != nil {
		return fmt.Errorf("%s %s %s: M = %w", s.Name, m.name, w.name, err)
	}
	u.later = append(u.later, func() {
		row := []results.Value{text(s.Name), text(m.name), text(w.name), integer(m.out), integer(m.in), integer(u.threads)}
		for i, rows := range u.Rows {
			rate := samples[i].Rate(1e-9)
			share := rate.Median / (u.limits.Flops * 1e-9)
			b := u.base(GEMM, s, w)
			b.Rows, b.Out, b.In = int32p(rows), int32p(m.out), int32p(m.in)
			u.addTimed(b, "rate", "GFLOP/s", rate, "peak", &Summary{Median: share})
			row = append(row, text(fmt.Sprintf("%.1f (%.0f %%)", rate.Median, 100*share)))
		}
		u.tables.gemm.Rows = append(u.tables.gemm.Rows, row)
	})
	return nil
}

// input is a matrix of random values, the same each time.
func (u *run) input(rows, cols int) (backend.Matrix, error) {
	m, err := u.backend.Alloc(rows, cols)
	if err != nil {
		return nil, err
	}
	v := make([]float32, rows*cols)
	if err := (random{rows, cols, 99}).fill(v, 0, rows); err != nil {
		return nil, err
	}
	u.backend.Upload(m, v)
	return m, nil
}

// maxCopies bounds the weights that gemv walks over.
const maxCopies = 1 << 12

func (u *run) gemv(ctx context.Context, s Shape, w weightType, m linearMap) error {
	var weights []backend.Weight
	for total := int64(0); len(weights) == 0 || total < u.Cold && len(weights) < maxCopies; {
		weight, err := u.put(w, m, uint64(len(weights)+1))
		if err != nil {
			return err
		}
		total += weight.Bytes()
		weights = append(weights, weight)
	}
	x, err := u.input(1, m.in)
	if err != nil {
		return err
	}
	y, err := u.backend.Alloc(1, m.out)
	if err != nil {
		return err
	}
	next := 0
	samples, err := Measure(ctx, []Contestant{{Name: GEMV, Work: float64(weights[0].Bytes()), Run: func(n int) error {
		for range n {
			u.backend.MatMul(y, x, weights[next], nil, false)
			next = (next + 1) % len(weights)
		}
		return u.backend.Sync()
	}}}, u.timing)
	if err != nil {
		return fmt.Errorf("%s %s %s: %w", s.Name, m.name, w.name, err)
	}
	u.later = append(u.later, func() {
		rate, times := samples[0].Rate(1e-9), samples[0].Time(1e6)
		share := rate.Median / (u.limits.Bandwidth * 1e-9)
		b := u.base(GEMV, s, w)
		b.Rows, b.Out, b.In = int32p(1), int32p(m.out), int32p(m.in)
		u.addTimed(b, "rate", "GB/s", rate, "bandwidth", &Summary{Median: share})
		u.addTimed(b, "time", "us", times, "", nil)
		u.tables.gemv.Rows = append(u.tables.gemv.Rows, []results.Value{text(s.Name), text(m.name), text(w.name), integer(m.out), integer(m.in), integer(u.threads),
			number(times.Median), number(rate.Median), spread(rate, 2), number(100 * share)})
	})
	return nil
}

// pass is a contestant that goes through the whole model.
type pass struct {
	name   string
	tokens int
	flops  float64 // operations that the peak bounds
	bytes  float64 // bytes that the bandwidth bounds; one of the two is 0
	run    func() error
}

// raggedLengths cuts tokens into sequences of 8 to 128 tokens; the last takes
// what is left. Equal tokens give equal lengths.
func raggedLengths(tokens int) (lengths []int) {
	rng := rand.New(rand.NewPCG(uint64(tokens), 7))
	for tokens > 0 {
		n := min(tokens, 8+rng.IntN(121))
		lengths = append(lengths, n)
		tokens -= n
	}
	return lengths
}

// randomIDs returns n token ids that are no special ones.
func randomIDs(n, vocab int) []int32 {
	rng := rand.New(rand.NewPCG(11, 8))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(3 + rng.IntN(vocab-3))
	}
	return ids
}

// forward runs the sequences of a batch and leaves the logits of the last row
// of each in out.
type forward struct {
	m            *testModel
	work         decoder.Workspace
	batch        decoder.Batch
	last, logits backend.Matrix
}

func (m *testModel) forward(sequences int) (*forward, error) {
	f := &forward{m: m}
	var err error
	if f.last, err = m.backend.Alloc(sequences, m.shape.Hidden); err != nil {
		return nil, err
	}
	f.logits, err = m.backend.Alloc(sequences, m.shape.Vocab)
	return f, err
}

func (f *forward) run() error {
	x, err := f.m.model.Embed(&f.work, &f.batch)
	if err != nil {
		return err
	}
	if err := f.m.model.Blocks(&f.work, x, &f.batch, 1, f.m.shape.Layers); err != nil {
		return err
	}
	for i, s := range f.batch.Sequences {
		end := s.Row + s.Count
		f.m.backend.Copy(f.last.Slice(i, i+1), x.Slice(end-1, end))
	}
	f.m.model.Normalise(f.last, f.last)
	f.m.model.Logits(f.logits, f.last)
	return f.m.backend.Sync()
}

// prefill is a pass over sequences of the given lengths.
func (u *run) prefill(m *testModel, name string, lengths []int) (pass, error) {
	f, err := m.forward(len(lengths))
	if err != nil {
		return pass{}, err
	}
	total := 0
	for _, n := range lengths {
		total += n
	}
	ids := randomIDs(total, m.shape.Vocab)
	for _, n := range lengths {
		c, err := m.model.NewCache(n)
		if err != nil {
			return pass{}, err
		}
		f.batch.Add(ids[:n], 0, c)
		ids = ids[n:]
	}
	return pass{name, total, m.shape.passFlops(lengths, 0, len(lengths)), 0, f.run}, nil
}

// decode is a pass that computes one token after the other, each the most
// probable one after those before.
func (u *run) decode(m *testModel, tokens int) (pass, error) {
	f, err := m.forward(1)
	if err != nil {
		return pass{}, err
	}
	c, err := m.model.NewCache(tokens)
	if err != nil {
		return pass{}, err
	}
	logits := make([]float32, m.shape.Vocab)
	shape := c.Shape()
	shape.Capacity = 1
	// Every step reads the weights and the keys and values up to its own.
	read := float64(tokens)*float64(m.layers+m.head) + float64(shape.Bytes())*float64(tokens)*float64(tokens+1)/2
	return pass{PassDecode, tokens, 0, read, func() error {
		id := int32(1)
		for i := range tokens {
			f.batch.Reset()
			f.batch.Add([]int32{id}, i, c)
			if err := f.run(); err != nil {
				return err
			}
			m.backend.Download(logits, f.logits)
			best := 0
			for j, v := range logits {
				if v > logits[best] {
					best = j
				}
			}
			id = int32(best)
		}
		return nil
	}}, nil
}

// mebibytes is n in MiB, or nothing for 0.
func mebibytes(n int64) results.Value {
	if n == 0 {
		return text(none)
	}
	return number(float64(n) / (1 << 20))
}

// withRival appends the rival to our contestant when it does the work of pass.
func (u *run) withRival(ctx context.Context, pass string, own Contestant) []Contestant {
	if u.Rival.Command == "" || u.Rival.Pass != pass {
		return []Contestant{own}
	}
	return []Contestant{own, u.Rival.contestant(ctx, u.threads, own.Work)}
}

func (u *run) passes(ctx context.Context, m *testModel, w weightType) error {
	var list []pass
	var err error
	add := func(p pass, perr error) {
		list = append(list, p)
		if err == nil {
			err = perr
		}
	}
	if u.wants(PassPrefill) {
		add(u.prefill(m, PassPrefill, []int{u.Tokens}))
	}
	if u.wants(PassRagged) {
		add(u.prefill(m, PassRagged, raggedLengths(u.Tokens)))
	}
	if u.wants(PassDecode) {
		add(u.decode(m, u.Decode))
	}
	if err != nil {
		return err
	}
	for _, p := range list {
		u.step("%s %s, %d threads: %s", m.shape.Name, w.name, u.threads, p.name)
		own := Contestant{Name: p.name, Work: float64(p.tokens), Run: func(n int) error {
			for range n {
				if err := p.run(); err != nil {
					return err
				}
			}
			return nil
		}}
		samples, err := Measure(ctx, u.withRival(ctx, p.name, own), u.timing)
		if err != nil {
			return fmt.Errorf("%s %s: %w", m.shape.Name, w.name, err)
		}
		u.later = append(u.later, u.passRow(m.shape, w, p, samples, m.total, PeakMemory()))
	}
	shape, total, peak := m.shape, m.total, PeakMemory()
	u.later = append(u.later, func() {
		b := u.base(u.tables.pass.Name, shape, w)
		u.add(b, "weights", "bytes", float64(total))
		if peak > 0 {
			u.add(b, "peak_rss", "bytes", float64(peak))
		}
	})
	return nil
}

// passRow returns what writes the row of a pass. It does not hold the model.
func (u *run) passRow(s Shape, w weightType, p pass, samples []Sample, weights, peak int64) func() {
	name, tokens, flops, bytes := p.name, p.tokens, p.flops, p.bytes
	return func() {
		rate := samples[0].Rate(1)
		limit, seconds := "peak", flops/u.limits.Flops
		if bytes > 0 {
			limit, seconds = "bandwidth", bytes/u.limits.Bandwidth
		}
		floor := float64(tokens) / seconds
		b := u.base(u.tables.pass.Name, s, w)
		b.Rows = int32p(tokens)
		u.addTimed(b, name, "tokens/s", rate, limit, &Summary{Median: rate.Median / floor})
		u.add(b, name+"_floor", "tokens/s", floor)
		theirs, ratio := text(none), text(none)
		if rival := find(samples, rivalName); rival != nil {
			their, x := rival.Rate(1), samples[0].Ratio(rival)
			theirs, ratio = number(their.Median), number(x.Median)
			u.addTimed(b, name, "tokens/s", rate, u.Rival.Command, &x)
			b.Subject = u.Rival.Command
			u.addTimed(b, name, "tokens/s", their, "", nil)
		}
		u.tables.pass.Rows = append(u.tables.pass.Rows, []results.Value{text(s.Name), text(w.name), integer(u.threads), text(name), integer(tokens),
			number(rate.Median), spread(rate, 1), number(floor), number(100 * rate.Median / floor), theirs, ratio, mebibytes(weights), mebibytes(peak)})
	}
}

// requests tokenises the documents of HellaSwag, ids modulo the vocabulary.
func (u *run) requests(vocab int) (list []exec.Request, documents [][]exec.Request, err error) {
	for i := range u.Data.Docs {
		d := &u.Data.Docs[i]
		start := len(list)
		for _, q := range d.Requests {
			pair, err := tasks.Tokenize(u.Data.Protocol, u.Tokenizer, q)
			if err != nil {
				return nil, nil, fmt.Errorf("document %d: %w", d.ID, err)
			}
			input, targets, _, err := tasks.Input(pair, benchPositions)
			if err != nil {
				return nil, nil, fmt.Errorf("document %d: %w", d.ID, err)
			}
			if u.Tokenizer.Size() > vocab {
				for _, ids := range [][]int32{input, targets} {
					for j := range ids {
						ids[j] %= int32(vocab)
					}
				}
			}
			list = append(list, exec.Request{Input: input, Targets: targets})
		}
		documents = append(documents, list[start:])
	}
	return list, documents, nil
}

func (u *run) hellaswag(ctx context.Context, m *testModel, w weightType) error {
	session, err := exec.NewEngine(m.model, 0).NewSession(exec.Method{})
	if err != nil {
		return err
	}
	_, documents, err := u.requests(m.shape.Vocab)
	if err != nil {
		return err
	}
	u.step("%s %s, %d threads: %s, %d documents", m.shape.Name, w.name, u.threads, PassHellaSwag, len(documents))
	tokens, flops := 0, 0.0
	for _, d := range documents {
		flops += m.shape.documentFlops(d)
		for _, r := range d {
			tokens += len(r.Input)
		}
	}
	own := Contestant{Name: PassHellaSwag, Work: float64(len(documents)), Run: func(n int) error {
		for range n {
			list, _, err := u.requests(m.shape.Vocab)
			if err != nil {
				return err
			}
			if _, err := session.Score(ctx, list); err != nil {
				return err
			}
		}
		return nil
	}, Warm: func() error {
		_, err := session.Score(ctx, documents[0])
		return err
	}}
	timing := u.timing
	timing.Rounds, timing.Least = u.HellaSwag.Rounds, 0
	samples, err := Measure(ctx, u.withRival(ctx, PassHellaSwag, own), timing)
	if err != nil {
		return fmt.Errorf("%s %s: %w", m.shape.Name, w.name, err)
	}
	shape, count, peak := m.shape, len(documents), PeakMemory()
	u.later = append(u.later, func() {
		times, rate := samples[0].Time(1), samples[0].Rate(1)
		floor := flops / u.limits.Flops
		b := u.base(PassHellaSwag, shape, w)
		b.Rows = int32p(count)
		u.addTimed(b, "time", "s", times, "peak", &Summary{Median: floor / times.Median})
		u.addTimed(b, "rate", "documents/s", rate, "", nil)
		u.add(b, "tokens", "tokens", float64(tokens))
		u.add(b, "floor", "s", floor)
		theirs, ratio := text(none), text(none)
		if rival := find(samples, rivalName); rival != nil {
			their, x := rival.Time(1), samples[0].Ratio(rival)
			theirs, ratio = number(their.Median), number(x.Median)
			u.addTimed(b, "time", "s", times, u.Rival.Command, &x)
			b.Subject = u.Rival.Command
			u.addTimed(b, "time", "s", their, "", nil)
		}
		if peak > 0 {
			b.Subject = u.backend.Name()
			u.add(b, "peak_rss", "bytes", float64(peak))
		}
		u.tables.hellaswag.Rows = append(u.tables.hellaswag.Rows, []results.Value{text(shape.Name), text(w.name), integer(u.threads), integer(count), integer(tokens),
			number(times.Median), spread(times, 3), number(rate.Median), number(floor), number(100 * floor / times.Median), theirs, ratio, mebibytes(peak)})
	})
	return nil
}

// documentFlops is the least work of the requests of one document: what their
// inputs begin with in common is computed once.
func (s Shape) documentFlops(list []exec.Request) float64 {
	shared := math.MaxInt
	for _, r := range list {
		n := 0
		for n < min(shared, len(r.Input), len(list[0].Input)) && r.Input[n] == list[0].Input[n] {
			n++
		}
		shared = n
	}
	// Every input keeps a row of its own, and scores are taken of all targets.
	flops := s.passFlops([]int{shared}, 0, 0)
	for _, r := range list {
		flops += s.passFlops([]int{len(r.Input) - shared}, shared, len(r.Targets))
	}
	return flops
}
