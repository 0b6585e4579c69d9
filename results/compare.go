package results

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// CellInput is one side of a comparison: a cell and its rows.
type CellInput struct {
	Cell CellResult
	Rows []Row
}

// Comparison compares two cells on the documents both scored. Differences are A
// minus B.
type Comparison struct {
	LabelA, LabelB string
	Task           string
	// N is the number of common documents; OnlyA and OnlyB were scored by one.
	N, OnlyA, OnlyB int
	// Accuracy has a test for each of acc and acc_norm; it is empty when the
	// documents have no right choice.
	Accuracy []AccuracyTest
	// LogLikelihood compares the log-likelihood of the right choice, or of the
	// document or block.
	LogLikelihood MeanTest
	// Warnings say what makes the numbers doubtful.
	Warnings []string
}

// AccuracyTest is the exact McNemar test: given the documents that one of the two
// got right and the other wrong, two-sided binomial with probability 1/2.
type AccuracyTest struct {
	// Metric is acc (largest log-likelihood wins) or acc_norm (largest per
	// character), as lm-evaluation-harness defines them.
	Metric string
	// A and B are the accuracies on the common documents.
	A, B float64
	// OnlyA and OnlyB count the documents that only A or only B got right.
	OnlyA, OnlyB int
	P            float64
}

// MeanTest is a paired test of a mean difference, in nats.
type MeanTest struct {
	// Mean is the mean of A minus B, Stderr its standard error.
	Mean, Stderr float64
	// T has DF degrees of freedom; P is two-sided. With fewer than two documents
	// they and Stderr are NaN. When all differences are equal T is infinite, and P
	// 0; when they are all 0, T is 0 and P 1.
	T, DF, P float64
	// Low and High bound the mean at Level: percentile bootstrap of Draws
	// resamples drawn with Seed.
	Low, High, Level float64
	Draws            int
	Seed             uint64
}

const (
	bootstrapLevel = 0.95
	bootstrapDraws = 9999
	bootstrapSeed  = 1234
	// fewDocs is where a t-test leans on normality, and the percentile bootstrap
	// becomes too narrow.
	fewDocs = 30
)

// verdict is what the rows of one document say.
type verdict struct {
	doc, gold int32
	choices   int
	acc, norm bool
	ll        float64
	tokens    int64
	fallback  bool
}

// verdicts groups rows by document, in ascending order of the document.
func verdicts(rows []Row) ([]verdict, error) {
	sorted := make([]*Row, len(rows))
	for i := range rows {
		sorted[i] = &rows[i]
	}
	slices.SortStableFunc(sorted, func(a, b *Row) int {
		return cmp.Or(cmp.Compare(a.Doc, b.Doc), cmp.Compare(a.Choice, b.Choice))
	})
	var out []verdict
	for len(sorted) > 0 {
		doc := sorted[0].Doc
		n := 1
		for n < len(sorted) && sorted[n].Doc == doc {
			n++
		}
		v, err := judge(sorted[:n])
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", doc, err)
		}
		out = append(out, v)
		sorted = sorted[n:]
	}
	return out, nil
}

// judge takes the rows of one document, in the order of the choices. The first of
// equal choices wins.
func judge(rows []*Row) (verdict, error) {
	v := verdict{doc: rows[0].Doc, gold: rows[0].Gold, choices: len(rows)}
	best, bestNorm := 0, 0
	for i, r := range rows {
		if math.IsNaN(r.LogProb) || math.IsInf(r.LogProb, 0) {
			return v, fmt.Errorf("choice %d has log-likelihood %v, expected a finite one", r.Choice, r.LogProb)
		}
		if r.Gold != v.gold || int(r.Choice) != i {
			return v, errors.New("its rows do not have choices 0, 1, ... and one gold")
		}
		if r.LogProb > rows[best].LogProb {
			best = i
		}
		if perChar(r) > perChar(rows[bestNorm]) {
			bestNorm = i
		}
		v.tokens += int64(r.Tokens)
		v.fallback = v.fallback || r.Fallback
	}
	switch {
	case v.gold >= 0 && int(v.gold) < len(rows):
		v.acc, v.norm = best == int(v.gold), bestNorm == int(v.gold)
		v.ll = rows[v.gold].LogProb
	case v.gold == -1 && len(rows) == 1:
		v.ll = rows[0].LogProb
	default:
		return v, fmt.Errorf("gold %d of %d choices", v.gold, len(rows))
	}
	return v, nil
}

// perChar is the quantity acc_norm compares. An empty choice has length 1, so
// that it stays comparable.
func perChar(r *Row) float64 { return r.LogProb / float64(max(r.Chars, 1)) }

// Compare compares two cells of one task, paired by document id. The log-
// likelihood compared is the sum over the tokens of the right choice (or of the
// document), so it depends on the tokenizer.
func Compare(a, b CellInput) (Comparison, error) {
	c := Comparison{LabelA: a.Cell.Label, LabelB: b.Cell.Label, Task: a.Cell.Task}
	if a.Cell.Task != b.Cell.Task {
		return c, fmt.Errorf("compare: cell %.12s is of task %q, cell %.12s of %q", a.Cell.Key, a.Cell.Task, b.Cell.Key, b.Cell.Task)
	}
	va, err := verdicts(a.Rows)
	if err != nil {
		return c, fmt.Errorf("compare: cell %.12s: %w", a.Cell.Key, err)
	}
	vb, err := verdicts(b.Rows)
	if err != nil {
		return c, fmt.Errorf("compare: cell %.12s: %w", b.Cell.Key, err)
	}
	var pairs [][2]verdict
	for i, j := 0, 0; i < len(va) || j < len(vb); {
		switch {
		case j == len(vb) || i < len(va) && va[i].doc < vb[j].doc:
			c.OnlyA++
			i++
		case i == len(va) || vb[j].doc < va[i].doc:
			c.OnlyB++
			j++
		default:
			if va[i].gold != vb[j].gold || va[i].choices != vb[j].choices {
				return c, fmt.Errorf("compare: document %d has gold %d of %d choices in cell %.12s and %d of %d in cell %.12s",
					va[i].doc, va[i].gold, va[i].choices, a.Cell.Key, vb[j].gold, vb[j].choices, b.Cell.Key)
			}
			pairs = append(pairs, [2]verdict{va[i], vb[j]})
			i++
			j++
		}
	}
	c.N = len(pairs)
	if c.N == 0 {
		return c, fmt.Errorf("compare: cells %.12s and %.12s of task %s have no document in common", a.Cell.Key, b.Cell.Key, c.Task)
	}
	diffs := make([]float64, c.N)
	choice, tokens, fallback := 0, 0, 0
	for i, p := range pairs {
		diffs[i] = p[0].ll - p[1].ll
		if p[0].gold >= 0 {
			choice++
		}
		if p[0].tokens != p[1].tokens {
			tokens++
		}
		if p[0].fallback || p[1].fallback {
			fallback++
		}
	}
	if choice == c.N {
		c.Accuracy = []AccuracyTest{
			accuracyTest("acc", pairs, func(v *verdict) bool { return v.acc }),
			accuracyTest("acc_norm", pairs, func(v *verdict) bool { return v.norm }),
		}
	}
	c.LogLikelihood = PairedMean(diffs, bootstrapLevel, bootstrapDraws, bootstrapSeed)
	warn := func(on bool, format string, args ...any) {
		if on {
			c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
		}
	}
	warn(c.N < fewDocs, "only %d documents", c.N)
	warn(c.OnlyA+c.OnlyB > 0, "%d documents only in A and %d only in B are left out", c.OnlyA, c.OnlyB)
	warn(a.Cell.Protocol != b.Cell.Protocol, "protocols differ: %s and %s", a.Cell.Protocol, b.Cell.Protocol)
	pa, pb := &a.Cell.Provenance, &b.Cell.Provenance
	warn(pa.DataDigest != pb.DataDigest, "data digests differ: equal document ids may not be equal documents")
	warn(pa.TokenizerDigest != pb.TokenizerDigest, "tokenizer digests differ: log-likelihoods may compare different tokens")
	warn(tokens > 0, "%d documents have different token counts: log-likelihoods compare different tokens", tokens)
	warn(fallback > 0, "%d documents have a continuation that was encoded alone", fallback)
	return c, nil
}

func accuracyTest(metric string, pairs [][2]verdict, right func(*verdict) bool) AccuracyTest {
	t := AccuracyTest{Metric: metric}
	for i := range pairs {
		a, b := right(&pairs[i][0]), right(&pairs[i][1])
		if a {
			t.A++
		}
		if b {
			t.B++
		}
		switch {
		case a && !b:
			t.OnlyA++
		case b && !a:
			t.OnlyB++
		}
	}
	t.A /= float64(len(pairs))
	t.B /= float64(len(pairs))
	t.P = McNemar(t.OnlyA, t.OnlyB)
	return t
}

// McNemar returns the two-sided p-value of the exact McNemar test for b and c
// discordant pairs: the binomial test of b successes in b+c trials of
// probability 1/2. Without discordant pairs it is 1.
func McNemar(b, c int) float64 {
	n := b + c
	if n == 0 || b == c {
		return 1
	}
	return min(1, 2*distuv.Binomial{N: float64(n), P: 0.5}.CDF(float64(min(b, c))))
}

// PairedMean tests whether the mean of paired differences is 0, by Student's t,
// and bounds it at the given level by a percentile bootstrap. The resamples
// depend on seed only.
func PairedMean(diffs []float64, level float64, draws int, seed uint64) MeanTest {
	n := float64(len(diffs))
	t := MeanTest{Level: level, Draws: draws, Seed: seed, DF: n - 1}
	mean, sd := stat.MeanStdDev(diffs, nil)
	t.Mean = mean
	if len(diffs) < 2 {
		t.Stderr, t.T, t.P = math.NaN(), math.NaN(), math.NaN()
		t.Low, t.High = math.NaN(), math.NaN()
		return t
	}
	t.Stderr = stat.StdErr(sd, n)
	switch {
	case t.Stderr > 0:
		t.T = t.Mean / t.Stderr
		t.P = 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: t.DF}.CDF(-math.Abs(t.T))
	case t.Mean == 0:
		t.P = 1
	default:
		t.T = math.Copysign(math.Inf(1), t.Mean)
	}
	t.Low, t.High = bootstrapMean(diffs, level, draws, seed)
	return t
}

func bootstrapMean(x []float64, level float64, draws int, seed uint64) (low, high float64) {
	r := rand.New(rand.NewPCG(seed, 0))
	means := make([]float64, draws)
	for i := range means {
		s := 0.0
		for range x {
			s += x[r.IntN(len(x))]
		}
		means[i] = s / float64(len(x))
	}
	slices.Sort(means)
	tail := (1 - level) / 2
	return stat.Quantile(tail, stat.LinInterp, means, nil), stat.Quantile(1-tail, stat.LinInterp, means, nil)
}

// Holm returns the p-values adjusted by Holm's step-down method, in the order of
// p: rejecting those at most alpha keeps the family-wise error rate at alpha. A
// NaN is no test: it stays NaN and is not counted.
func Holm(p []float64) []float64 {
	order := make([]int, 0, len(p))
	out := make([]float64, len(p))
	for i, v := range p {
		out[i] = v
		if !math.IsNaN(v) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(p[i], p[j]) })
	running := 0.0
	for k, i := range order {
		running = max(running, min(1, float64(len(order)-k)*p[i]))
		out[i] = running
	}
	return out
}

// CompareTable returns one row per test of the comparisons. The last column is
// the p-value after Holm's correction over the whole table.
func CompareTable(comparisons []Comparison) Table {
	t := Table{
		Name:  "compare",
		Title: fmt.Sprintf("Paired comparison, A minus B: exact McNemar for accuracies, t-test and %d-draw percentile bootstrap at %g for log-likelihoods (nats); Holm over this table.", bootstrapDraws, bootstrapLevel),
		Columns: []Column{
			{Name: "Task"}, {Name: "A"}, {Name: "B"}, {Name: "Measure"}, {Name: "N", Numeric: true},
			{Name: "Value A", Numeric: true, Digits: 4}, {Name: "Value B", Numeric: true, Digits: 4},
			{Name: "Difference", Numeric: true, Digits: 4},
			{Name: "Low", Numeric: true, Digits: 4}, {Name: "High", Numeric: true, Digits: 4},
			{Name: "Only A", Numeric: true}, {Name: "Only B", Numeric: true},
			{Name: "p", Numeric: true, Digits: 4, Least: true}, {Name: "p Holm", Numeric: true, Digits: 4, Least: true},
			{Name: "Warnings"},
		},
	}
	var ps []float64
	for _, c := range comparisons {
		warnings := ""
		for i, w := range c.Warnings {
			if i > 0 {
				warnings += "; "
			}
			warnings += w
		}
		add := func(measure string, p float64, values ...Value) {
			row := []Value{text(c.Task), text(c.LabelA), text(c.LabelB), text(measure), integer(int64(c.N))}
			t.Rows = append(t.Rows, append(append(row, values...), numeric(p), Value{}, text(warnings)))
			ps = append(ps, p)
		}
		for _, a := range c.Accuracy {
			add(a.Metric, a.P, numeric(a.A), numeric(a.B), numeric(a.A-a.B), text(none), text(none),
				integer(int64(a.OnlyA)), integer(int64(a.OnlyB)))
		}
		l := c.LogLikelihood
		add("log-likelihood", l.P, text(none), text(none), numeric(l.Mean), numeric(l.Low), numeric(l.High), text(none), text(none))
	}
	for i, p := range Holm(ps) {
		t.Rows[i][len(t.Columns)-2] = numeric(p)
	}
	return t
}
