package runner

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"splitbench/compress"
	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/results"
	"splitbench/tasks"
)

// blockTokens is how many input tokens end a block of units: what a kill can
// lose is the work on fewer than this many tokens and one unit. Models of more
// than 120 million parameters have smaller blocks, of about the same work, but
// no smaller than smallBlock.
const (
	blockTokens = 8192
	smallBlock  = 256
)

func blockSize(parameters int64) int {
	const work = 2e12 // operations of one block
	return min(blockTokens, max(smallBlock, int(work/(2*float64(max(parameters, 1))))))
}

// ErrInterrupted says that a run stopped between two blocks because it was
// asked to; nothing is lost.
var ErrInterrupted = errors.New("interrupted")

// blocksOf cuts units into blocks; the cut depends on nothing else.
func blocksOf(units []Unit, size int) [][]Unit {
	var out [][]Unit
	from, tokens := 0, 0
	for i, u := range units {
		for _, r := range u.Requests {
			tokens += len(r.Input)
		}
		if tokens >= size || i == len(units)-1 {
			out = append(out, units[from:i+1])
			from, tokens = i+1, 0
		}
	}
	return out
}

// job is a cell with everything needed to run it.
type job struct {
	cell   spec.Cell
	key    string
	knobs  []byte
	extra  map[string]string
	tokens string // prepareKey
	// edge is equal for cells whose edges compute the same; "" for a cell
	// that shares none. Of those, last and sole say that no other comes
	// behind this one in the run, or at all.
	edge       string
	last, sole bool
}

// runCell scores a cell and commits it. A failure of the cell itself becomes
// its stored status; the error returned concerns the run (disk, interruption).
func (r *run) runCell(ctx context.Context, j job) (results.CellResult, error) {
	point, err := r.bench.Point(j.cell, j.extra)
	if err != nil {
		return results.CellResult{}, err
	}
	res := results.CellResult{
		Key: j.key, Label: j.cell.Label(), Point: point, Knobs: j.knobs, Status: results.StatusOK,
		Provenance: results.Provenance{
			Version: r.options.Version, GoVersion: runtime.Version(), Host: r.host,
			ModelDigest: j.extra[spec.DigestModel], TokenizerDigest: j.extra[spec.DigestTokenizer], DataDigest: j.extra[spec.DigestData],
		},
	}
	start := time.Now()
	rows, err := r.score(ctx, j, &res)
	switch {
	case err == nil:
	case errors.Is(err, ErrInterrupted), errors.Is(err, errStorage):
		return res, err
	case errors.Is(err, context.DeadlineExceeded):
		res.Status, res.Error = results.StatusTimeout, fmt.Sprintf("not done after %v", r.options.CellTimeout)
	case errors.Is(err, ErrMemory):
		res.Status, res.Error = results.StatusOOM, err.Error()
	default:
		res.Status, res.Error = results.StatusError, err.Error()
	}
	if res.Status != results.StatusOK {
		rows = nil
		res.Metrics, res.Docs = nil, 0
	}
	res.Measured.OtherSeconds = math.Max(0, time.Since(start).Seconds()-res.Measured.EdgeSeconds-res.Measured.CodecSeconds-res.Measured.CloudSeconds)
	if s := time.Since(start).Seconds(); s > 0 && res.Measured.Twin == "" {
		res.Measured.TokensPerSecond = float64(r.progress.cellTokens()) / s
	}
	if err := r.store.Commit(j.key, rows, res); err != nil {
		return res, fmt.Errorf("%w: %w", errStorage, err)
	}
	return res, nil
}

var errStorage = errors.New("cannot store results")

// ErrMemory says that a cell does not fit the memory it may use.
var ErrMemory = errors.New("not enough memory")

func (r *run) score(ctx context.Context, j job, res *results.CellResult) ([]results.Row, error) {
	p, err := r.bench.Prepare(j.cell)
	if err != nil {
		return nil, err
	}
	res.Primary, res.Skipped = p.Info.Primary, p.Skipped
	need, err := r.bench.Memory(j.cell, p)
	if err != nil {
		return nil, err
	}
	if limit := r.options.MemoryLimit; limit > 0 && need.Total() > limit {
		return nil, fmt.Errorf("%w: the cell needs %s, may use %s", ErrMemory, bytesText(need.Total()), bytesText(limit))
	}
	model, err := r.bench.Open(j.cell.Model)
	if err != nil {
		return nil, err
	}
	m, err := r.bench.Method(j.cell)
	if err != nil {
		return nil, err
	}
	if err := r.quantize(ctx, model, j.cell, res); err != nil {
		return nil, err
	}
	outcome := ""
	if !j.cell.Timing {
		if outcome, err = r.outcomeOf(j, p); err != nil {
			return nil, err
		}
		if rows, err := r.takeTwin(j, p, r.twins[outcome], res); rows != nil || err != nil {
			return rows, err
		}
	}
	session, err := model.Engine.NewSession(m)
	if err != nil {
		return nil, err
	}
	session.Unshared = j.cell.Timing
	res.StoredBits = storedBits(session)
	r.holdEdge(model.Engine, j, session, need.Total())

	blocks := blocksOf(p.Units, blockSize(model.Checkpoint.Parameters()))
	journal, rows, last, err := r.store.Journal(j.key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	defer func() { journal.Close() }()
	point := res.Point
	work := context.WithoutCancel(ctx)
	if r.options.CellTimeout > 0 {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeout(work, r.options.CellTimeout)
		defer cancel()
	}
	// block scores one block; counts are the magnitudes at its boundary.
	block := func(b int) (fresh []results.Row, counts []int64, err error) {
		var h compress.Histogram
		if m.SplitLayer > 0 {
			session.Histogram = &h
		}
		fresh, err = scoreBlock(work, session, blocks[b], j.key, point, j.cell.Timing)
		if m.SplitLayer > 0 {
			counts = countsOf(&h)
		}
		return fresh, counts, err
	}
	counts := journal.Counts()
	keep := agree(rows, blocks, last) && (m.SplitLayer == 0 || last < 0 || len(counts) == len(countsOf(new(compress.Histogram))))
	if keep && last >= 0 {
		// Computing a block again shows whether what was kept is what this
		// program computes.
		again, _, err := block(0)
		if err != nil {
			return nil, err
		}
		keep = sameScores(again, rows[:len(again)])
	}
	if !keep {
		if journal, err = r.restart(journal, j.key); err != nil {
			return nil, err
		}
		rows, last, counts = nil, -1, nil
	}
	r.progress.resume(p, blocks[:last+1], rows)
	for b := last + 1; b < len(blocks); b++ {
		if ctx.Err() != nil {
			return nil, ErrInterrupted
		}
		fresh, add, err := block(b)
		if err != nil {
			return nil, err
		}
		if err := journal.AppendCounted(b, fresh, add); err != nil {
			return nil, fmt.Errorf("%w: %w", errStorage, err)
		}
		rows = append(rows, fresh...)
		if counts == nil {
			counts = make([]int64, len(add))
		}
		for i, n := range add {
			counts[i] += n
		}
		r.progress.block(p, blocks[b], fresh)
	}
	t := session.Times()
	res.Measured.EdgeSeconds, res.Measured.CodecSeconds, res.Measured.CloudSeconds = t.Edge, t.Codec, t.Cloud
	res.Measured.SharedEdge = session.SharedEdge()
	if err := describe(res, p, rows, model.Checkpoint.Config.HiddenSize); err != nil {
		return nil, err
	}
	if m.SplitLayer > 0 {
		res.Activations = histogramOf(counts)
	}
	if outcome != "" {
		r.twins[outcome] = j.key
	}
	return rows, nil
}

// quantize makes the quantized models of a cell ready.
func (r *run) quantize(ctx context.Context, model *exec.Loaded, c spec.Cell, res *results.CellResult) (err error) {
	if r.options.CellTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.options.CellTimeout)
		defer cancel()
	}
	res.Alpha, err = r.bench.Quantize(ctx, model, c, r.progress.note)
	if errors.Is(err, context.Canceled) {
		return ErrInterrupted
	}
	return err
}

// storedBits is the mean number of bits that a linear weight takes.
func storedBits(s *exec.Session) float64 {
	bits, weights := s.StoredWeights()
	return float64(bits) / float64(weights)
}

// describe fills in what follows from a cell's rows.
func describe(res *results.CellResult, p *Prepared, rows []results.Row, hiddenSize int) (err error) {
	if res.Metrics, err = metrics(p, rows); err != nil {
		return err
	}
	for _, row := range rows {
		if row.DroppedLeft > 0 {
			res.Truncated++
		}
		if row.Fallback {
			res.Fallbacks++
		}
	}
	res.Docs = int64(len(p.Units))
	res.Payload = results.SummarizePayload(rows, hiddenSize)
	return nil
}

// restart throws a journal away and begins a new one.
func (r *run) restart(j *results.Journal, key string) (*results.Journal, error) {
	j.Close()
	if err := os.Remove(filepath.Join(r.store.Dir(), "cells", key+".journal")); err != nil {
		return nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	fresh, _, _, err := r.store.Journal(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	return fresh, nil
}

// sameScores says whether two computations of a block gave the same bits.
func sameScores(a, b []results.Row) bool {
	for i := range a {
		if a[i].LogProb != b[i].LogProb || a[i].PayloadBytes != b[i].PayloadBytes {
			return false
		}
	}
	return true
}

// scoreBlock runs the requests of a block and fills in its rows.
func scoreBlock(ctx context.Context, s *exec.Session, units []Unit, key string, point results.Point, timing bool) ([]results.Row, error) {
	var reqs []exec.Request
	for _, u := range units {
		reqs = append(reqs, u.Requests...)
	}
	answers, err := s.Score(ctx, reqs)
	if err != nil {
		return nil, err
	}
	var rows []results.Row
	next := 0
	for _, u := range units {
		perRequest := len(u.Rows) == len(u.Requests)
		first := len(rows)
		for _, row := range u.Rows {
			row.Cell, row.Point, row.Greedy = key, point, true
			if timing {
				row.EdgeSeconds, row.CloudSeconds = new(float64), new(float64)
			}
			rows = append(rows, row)
		}
		for i := range u.Requests {
			row := &rows[first]
			if perRequest {
				row = &rows[first+i]
			}
			a := &answers[next]
			next++
			if math.IsNaN(a.LogProb) || math.IsInf(a.LogProb, 0) {
				return nil, fmt.Errorf("document %d: log-probability %v: the activations overflowed", row.Doc, a.LogProb)
			}
			row.LogProb += a.LogProb
			row.Greedy = row.Greedy && a.Greedy
			h := a.Payload.Hidden
			row.PayloadBytes += int64(h.Total())
			row.PayloadHeader += int64(h.Header)
			row.PayloadTables += int64(h.Tables)
			row.PayloadCodes += int64(h.Codes)
			row.PayloadSide += int64(h.Side)
			row.PayloadSparse += int64(h.Sparse)
			row.KVPayloadBytes += int64(a.Payload.KV.Total())
			row.PayloadTokens += int32(a.Payload.Tokens)
			if timing {
				*row.EdgeSeconds += a.EdgeSeconds + a.CodecSeconds
				*row.CloudSeconds += a.CloudSeconds
			}
		}
	}
	return rows, nil
}

// agree says whether recovered rows are those of the first last+1 blocks.
func agree(rows []results.Row, blocks [][]Unit, last int) bool {
	if last >= len(blocks) {
		return false
	}
	next := 0
	for b := 0; b <= last; b++ {
		for _, u := range blocks[b] {
			for _, want := range u.Rows {
				if next >= len(rows) || rows[next].Doc != want.Doc || rows[next].Choice != want.Choice || rows[next].Tokens != want.Tokens {
					return false
				}
				next++
			}
		}
	}
	return next == len(rows)
}

// metrics aggregates the rows of a cell, in the order of the units.
func metrics(p *Prepared, rows []results.Row) ([]results.Metric, error) {
	add := func(ms []results.Metric, name string, value float64, stderr *float64, n int) []results.Metric {
		return append(ms, results.Metric{Name: name, Value: value, Stderr: stderr, N: int64(n), HigherIsBetter: tasks.HigherIsBetter(name)})
	}
	var out []results.Metric
	switch p.Info.Kind {
	case tasks.MultipleChoice:
		verdicts, err := judge(p, rows)
		if err != nil {
			return nil, err
		}
		names := p.Info.Metrics
		if slices.Contains(names, tasks.MetricAccNorm) {
			names = append(slices.Clone(names), tasks.MetricAccToken)
		}
		for _, name := range names {
			var xs []float64
			for _, v := range verdicts {
				x, ok := v.Metric(name)
				if !ok {
					return nil, fmt.Errorf("task %s: metric %s is not computed", p.Info.Name, name)
				}
				xs = append(xs, x)
			}
			mean, se, ok := tasks.Mean(xs)
			var stderr *float64
			if ok {
				stderr = &se
			}
			out = add(out, name, mean, stderr, len(xs))
		}
	case tasks.RollingPerplexity:
		var ll []float64
		var words, bytes []int
		for _, r := range rows {
			ll, words, bytes = append(ll, r.LogProb), append(words, int(r.Words)), append(bytes, int(r.Bytes))
		}
		d := tasks.DocumentPerplexity(ll, words, bytes)
		out = add(out, tasks.MetricWordPerplexity, d.Word, nil, len(rows))
		out = add(out, tasks.MetricBytePerplexity, d.Byte, nil, len(rows))
		out = add(out, tasks.MetricBitsPerByte, d.BitsPerByte, nil, len(rows))
	case tasks.BlockPerplexity:
		var nll []float64
		for _, r := range rows {
			nll = append(nll, -r.LogProb/float64(r.Tokens))
		}
		// The standard error by the delta method: ppl times that of the mean
		// negative log-likelihood over blocks.
		ppl := tasks.BlocksPerplexity(nll)
		var stderr *float64
		if _, se, ok := tasks.Mean(nll); ok {
			se *= ppl
			stderr = &se
		}
		out = add(out, tasks.MetricBlockPerplexity, ppl, stderr, len(rows))
	}
	return out, nil
}

// judge returns the verdict of every document.
func judge(p *Prepared, rows []results.Row) ([]tasks.DocResult, error) {
	var out []tasks.DocResult
	next := 0
	for _, u := range p.Units {
		if next+len(u.Rows) > len(rows) {
			return nil, fmt.Errorf("task %s: %d rows, expected those of %d documents", p.Info.Name, len(rows), len(p.Units))
		}
		var scores []tasks.ChoiceScore
		for range u.Rows {
			scores = append(scores, tasks.ChoiceScore{LogProb: rows[next].LogProb, Greedy: rows[next].Greedy, Tokens: int(rows[next].Tokens)})
			next++
		}
		out = append(out, tasks.Judge(p.Info, p.Protocol, *u.Doc, scores))
	}
	return out, nil
}

// countsOf lists the counts of a histogram: those below its edges, those
// beyond, then bin by bin.
func countsOf(h *compress.Histogram) []int64 {
	out := []int64{int64(h.Zero() + h.Underflow()), int64(h.Overflow() + h.NonFinite())}
	for _, n := range h.Counts() {
		out = append(out, int64(n))
	}
	return out
}

func histogramOf(counts []int64) *results.Histogram {
	return &results.Histogram{Edges: compress.HistogramEdges(), Under: counts[0], Over: counts[1], Counts: counts[2:]}
}
