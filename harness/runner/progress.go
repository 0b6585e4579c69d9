package runner

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"splitbench/results"
	"splitbench/tasks"
)

// plainEvery is how often a line is written when progress is no terminal.
const plainEvery = 5 * time.Second

// progress reports on a run: a bar on a terminal, plain lines elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	mu       sync.Mutex
	bar      *progressbar.ProgressBar

	cells, index int
	pending      int   // cells whose tokens are not counted yet
	total, done  int64 // tokens of the run, as far as they are counted
	inCell       int64 // tokens of the cell
	computed     int64 // tokens computed now, for the rate
	label        string
	start        time.Time
	lastLine     time.Time
	right, seen  float64 // running accuracy
	nll, tokens  float64 // running mean negative log-likelihood
}

func newProgress(w io.Writer, terminal bool) *progress {
	if w == nil {
		w = io.Discard
	}
	return &progress{w: w, terminal: terminal}
}

func (p *progress) stage(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s\n", text)
}

func (p *progress) begin(cells, skipped, todo int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cells, p.index, p.pending, p.start = cells, skipped, todo, time.Now()
	if skipped > 0 {
		fmt.Fprintf(p.w, "%d of %d cells are done already\n", skipped, cells)
	}
	if p.terminal && todo > 0 {
		p.bar = progressbar.NewOptions64(1, progressbar.OptionSetWriter(p.w), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("tok"), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetWidth(20), progressbar.OptionClearOnFinish())
	}
}

// expect adds the tokens of a cell to those of the run.
func (p *progress) expect(tokens int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending--
	p.total += tokens
	p.stretch()
}

// stretch sets the length of the bar; while cells are not counted it stays
// ahead of what is done. p.mu is held.
func (p *progress) stretch() {
	if p.bar == nil {
		return
	}
	length := max(p.total, 1)
	if p.pending > 0 {
		length = max(p.total, p.done) + 1
	}
	p.bar.ChangeMax64(length)
}

func (p *progress) cell(j job) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index++
	p.inCell, p.right, p.seen, p.nll, p.tokens = 0, 0, 0, 0, 0
	p.label = fmt.Sprintf("%s %s, %s", j.cell.Model.Name, j.cell.Task.Name, j.cell.Label())
	p.show()
}

// resume counts blocks that were on disk already.
func (p *progress) resume(prep *Prepared, blocks [][]Unit, rows []results.Row) {
	if len(blocks) == 0 {
		return
	}
	n := 0
	for _, b := range blocks {
		n += len(b)
	}
	p.mu.Lock()
	p.line(fmt.Sprintf("%s: going on after %d documents that are on disk", p.label, n))
	p.mu.Unlock()
	for _, b := range blocks {
		p.count(prep, b, rows, false)
		rows = rows[rowsOf(b):]
	}
}

// twin counts a cell whose scores are those of another one.
func (p *progress) twin(prep *Prepared, rows []results.Row) {
	p.mu.Lock()
	p.line(fmt.Sprintf("%s: scores as those of a cell that differs in knobs without effect", p.label))
	p.mu.Unlock()
	p.count(prep, prep.Units, rows, false)
}

func rowsOf(units []Unit) (n int) {
	for _, u := range units {
		n += len(u.Rows)
	}
	return n
}

func (p *progress) block(prep *Prepared, units []Unit, rows []results.Row) {
	p.count(prep, units, rows, true)
}

func (p *progress) count(prep *Prepared, units []Unit, rows []results.Row, computed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, u := range units {
		for _, r := range u.Requests {
			n += int64(len(r.Input))
		}
		own := rows[:len(u.Rows)]
		rows = rows[len(u.Rows):]
		if prep.Info.Kind == tasks.MultipleChoice {
			var s []tasks.ChoiceScore
			for _, r := range own {
				s = append(s, tasks.ChoiceScore{LogProb: r.LogProb, Greedy: r.Greedy})
			}
			p.right += tasks.Judge(prep.Info, prep.Protocol, *u.Doc, s).Acc
			p.seen++
		}
		for _, r := range own {
			p.nll -= r.LogProb
			p.tokens += float64(r.Tokens)
		}
	}
	p.inCell += n
	p.done += n
	if computed {
		p.computed += n
	}
	p.show()
	if p.bar != nil {
		p.stretch()
		p.bar.Add64(n)
	}
}

// show writes the state; p.mu is held.
func (p *progress) show() {
	state := ""
	switch {
	case p.seen > 0:
		state = fmt.Sprintf(", acc %.3f", p.right/p.seen)
	case p.tokens > 0:
		state = fmt.Sprintf(", nll %.3f", p.nll/p.tokens)
	}
	text := fmt.Sprintf("cell %d/%d %s%s", p.index, p.cells, p.label, state)
	if p.bar != nil {
		p.bar.Describe(text)
		return
	}
	if p.terminal || time.Since(p.lastLine) < plainEvery {
		return
	}
	p.lastLine = time.Now()
	elapsed := time.Since(p.start)
	rate := float64(p.computed) / elapsed.Seconds()
	share, eta := "?", "?"
	if p.pending == 0 {
		share = fmt.Sprintf("%.0f", 100*float64(p.done)/float64(max(p.total, 1)))
	}
	if rate > 0 && p.pending == 0 {
		eta = (time.Duration(float64(p.total-p.done)/rate) * time.Second).String()
	}
	fmt.Fprintf(p.w, "%s, %.0f tokens/s, %s%% done, %s left\n", text, rate, share, eta)
}

func (p *progress) ended(c results.CellResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Status != results.StatusOK {
		p.line(fmt.Sprintf("cell %d/%d %s: %s: %s", p.index, p.cells, p.label, c.Status, c.Error))
	}
}

// note writes a line between those of cells.
func (p *progress) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(text)
}

func (p *progress) line(text string) {
	if p.bar != nil {
		p.bar.Clear()
	}
	fmt.Fprintln(p.w, text)
}

func (p *progress) cellTokens() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inCell
}

func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Finish()
		p.bar = nil
	}
}
