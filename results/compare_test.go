package results

import (
	"math"
	"strings"
	"testing"

	"gonum.org/v1/gonum/floats/scalar"
)

// tolP is for p-values of distributions computed by two libraries.
const tolP = 1e-12

func TestMcNemar(t *testing.T) {
	// scipy 1.17: stats.binomtest(b, b+c, 0.5).pvalue
	for _, tc := range []struct {
		b, c int
		want float64
	}{
		{3, 10, 0.09228515625},
		{10, 3, 0.09228515625},
		{0, 6, 0.03125},
		{1, 0, 1},
		{25, 14, 0.10812902140605732},
		{120, 157, 0.03035424984570024},
		{5, 5, 1},
		{0, 0, 1},
	} {
		if got := McNemar(tc.b, tc.c); !scalar.EqualWithinAbsOrRel(got, tc.want, tolP, tolP) {
			t.Errorf("McNemar(%d, %d) = %v, want %v", tc.b, tc.c, got, tc.want)
		}
	}
}

func TestHolm(t *testing.T) {
	nan := math.NaN()
	// statsmodels: multipletests(p, method="holm")[1]
	for _, tc := range []struct{ p, want []float64 }{
		{[]float64{0.01, 0.04, 0.03, 0.005, 0.5}, []float64{0.04, 0.09, 0.09, 0.025, 0.5}},
		{[]float64{0.9, 0.02, 0.6}, []float64{1, 0.06, 1}},
		{[]float64{0.02, nan, 0.6}, []float64{0.04, nan, 0.6}}, // two tests
		{nil, nil},
	} {
		got := Holm(tc.p)
		for i := range tc.want {
			if !scalar.EqualWithinAbs(got[i], tc.want[i], tolP) && !(math.IsNaN(got[i]) && math.IsNaN(tc.want[i])) {
				t.Errorf("Holm(%v) = %v, want %v", tc.p, got, tc.want)
				break
			}
		}
	}
}

func TestPairedMean(t *testing.T) {
	// scipy 1.17: a = [-12.5, -8.25, -30.125, -4, -15.75, -9.5],
	// b = [-13, -8.75, -29, -6.5, -16, -11.25]; stats.ttest_rel(a, b), stats.sem(a - b)
	got := PairedMean([]float64{0.5, 0.5, -1.125, 2.5, 0.25, 1.75}, 0.95, 99, 1)
	for _, tc := range []struct {
		what      string
		got, want float64
	}{
		{"mean", got.Mean, 0.7291666666666666},
		{"stderr", got.Stderr, 0.5147983693749536},
		{"t", got.T, 1.4164121528822826},
		{"p", got.P, 0.2158297305355851},
		{"df", got.DF, 5},
	} {
		if !scalar.EqualWithinAbsOrRel(tc.got, tc.want, tolP, tolP) {
			t.Errorf("%s = %v, want %v", tc.what, tc.got, tc.want)
		}
	}
}

func TestPairedMeanBootstrap(t *testing.T) {
	x := make([]float64, 101)
	for i := range x {
		x[i] = float64((i*37)%101-50)/10 + 0.3
	}
	got := PairedMean(x, 0.95, 9999, 1)
	// scipy 1.17: stats.bootstrap((x,), np.mean, n_resamples=99999, method="percentile",
	// rng=np.random.default_rng(1)) gives (-0.2663, 0.8693). The Monte Carlo error of
	// a 2.5 % quantile of 9999 draws is about 0.008 here (sqrt(.025*.975/9999) over
	// the density of N(0.3, 0.2915) at that quantile); four of those are allowed.
	const tol = 0.032
	if math.Abs(got.Low+0.26633663366336646) > tol || math.Abs(got.High-0.8693069306930693) > tol {
		t.Errorf("interval [%v, %v], want [-0.2663, 0.8693]", got.Low, got.High)
	}
	if again := PairedMean(x, 0.95, 9999, 1); again != got {
		t.Errorf("the same seed gives %v and %v", got, again)
	}
	if other := PairedMean(x, 0.95, 9999, 2); other.Low == got.Low {
		t.Error("another seed gives the same interval")
	}
}

func TestPairedMeanDegenerate(t *testing.T) {
	if got := PairedMean([]float64{0, 0, 0}, 0.95, 9, 1); got.T != 0 || got.P != 1 || got.Low != 0 || got.High != 0 {
		t.Errorf("all equal: %+v", got)
	}
	if got := PairedMean([]float64{-2, -2}, 0.95, 9, 1); !math.IsInf(got.T, -1) || got.P != 0 || got.Low != -2 {
		t.Errorf("all differ by the same: %+v", got)
	}
	if got := PairedMean([]float64{3}, 0.95, 9, 1); got.Mean != 3 || !math.IsNaN(got.P) || !math.IsNaN(got.Low) {
		t.Errorf("one document: %+v", got)
	}
}

// choices makes the rows of a document: gold, then log-probability and characters
// of each choice.
func choices(doc, gold int32, v ...float64) []Row {
	var rows []Row
	for i := 0; i < len(v); i += 2 {
		rows = append(rows, Row{Doc: doc, Choice: int32(i / 2), Gold: gold, LogProb: v[i], Chars: int32(v[i+1]), Tokens: 4})
	}
	return rows
}

func join(parts ...[]Row) (rows []Row) {
	for _, p := range parts {
		rows = append(rows, p...)
	}
	return rows
}

func input(label string, rows []Row) CellInput {
	return CellInput{CellResult{Key: testKey(len(label)), Label: label, Point: Point{Task: "piqa", Protocol: "joint-bos"}}, rows}
}

func TestCompare(t *testing.T) {
	// By hand. Document 1: A right by acc (-4 > -5) but not per character
	// (-4/10 < -5/20), B wrong in both. Document 2: a tie, the first choice wins, and
	// it is gold; B right too. Document 3: A wrong, B right. 7 and 9 are not common.
	a := input("A", join(
		choices(1, 0, -4, 10, -5, 20),
		choices(2, 0, -3, 10, -3, 10),
		choices(3, 1, -1, 10, -2, 10),
		choices(7, 0, -1, 10, -2, 10)))
	b := input("B", join(
		choices(9, 0, -1, 10, -2, 10),
		choices(1, 0, -6, 10, -5, 10),
		choices(3, 1, -2, 10, -1.5, 10),
		choices(2, 0, -1, 10, -8, 10)))
	c, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if c.N != 3 || c.OnlyA != 1 || c.OnlyB != 1 {
		t.Errorf("%d common, %d and %d alone; want 3, 1, 1", c.N, c.OnlyA, c.OnlyB)
	}
	diff(t, "accuracy", c.Accuracy, []AccuracyTest{
		{Metric: "acc", A: 2. / 3, B: 2. / 3, OnlyA: 1, OnlyB: 1, P: 1},
		{Metric: "acc_norm", A: 1. / 3, B: 2. / 3, OnlyA: 0, OnlyB: 1, P: 1},
	})
	// Gold log-likelihoods: -4+6, -3+1, -2+1.5.
	if want := (2. - 2 - 0.5) / 3; !scalar.EqualWithinAbs(c.LogLikelihood.Mean, want, 1e-15) {
		t.Errorf("mean difference %v, want %v", c.LogLikelihood.Mean, want)
	}
	diff(t, "warnings", c.Warnings, []string{"only 3 documents", "1 documents only in A and 1 only in B are left out"})
}

func TestCompareDocuments(t *testing.T) {
	// Perplexity: one row per document, no gold, no accuracy.
	doc := func(id int32, ll float64) []Row { return []Row{{Doc: id, Gold: -1, LogProb: ll, Tokens: 9}} }
	a := input("A", join(doc(0, -10), doc(1, -20)))
	b := input("B", join(doc(0, -11), doc(1, -23)))
	b.Rows[1].Tokens = 8
	b.Cell.Protocol = "legacy"
	b.Cell.Provenance = Provenance{DataDigest: "d", TokenizerDigest: "t"}
	c, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if c.Accuracy != nil || c.LogLikelihood.Mean != 2 {
		t.Errorf("accuracy %v, mean %v; want none and 2", c.Accuracy, c.LogLikelihood.Mean)
	}
	if got := strings.Join(c.Warnings, "|"); !strings.Contains(got, "data digests differ") || !strings.Contains(got, "tokenizer digests differ") || !strings.Contains(got, "protocols differ: joint-bos and legacy") || !strings.Contains(got, "1 documents have different token counts") {
		t.Errorf("warnings %q", got)
	}
}

func TestCompareRefuses(t *testing.T) {
	good := input("A", choices(1, 0, -4, 10, -5, 10))
	otherTask := input("B", good.Rows)
	otherTask.Cell.Task = "arc_easy"
	for _, tc := range []struct {
		name, want string
		b          CellInput
	}{
		{"task", `of task "piqa", cell 100000000000 of "arc_easy"`, otherTask},
		{"no common document", "no document in common", input("B", choices(2, 0, -4, 10, -5, 10))},
		{"other gold", "document 1 has gold 0 of 2 choices", input("B", choices(1, 1, -4, 10, -5, 10))},
		{"other choices", "and 0 of 3 in cell", input("B", choices(1, 0, -4, 10, -5, 10, -6, 10))},
		{"not a number", "document 1: choice 1 has log-likelihood NaN", input("B", choices(1, 0, -4, 10, math.NaN(), 10))},
		{"gold out of range", "document 1: gold 5 of 2 choices", input("B", choices(1, 5, -4, 10, -5, 10))},
		{"a choice twice", "choices 0, 1, ...", input("B", join(choices(1, 0, -4, 10), choices(1, 0, -4, 10)))},
		{"no rows", "no document in common", input("B", nil)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Compare(good, tc.b); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestSmallP(t *testing.T) {
	table := CompareTable([]Comparison{{Task: "piqa", Accuracy: []AccuracyTest{{Metric: "acc", P: 0.00004}}, LogLikelihood: MeanTest{P: 0.0002}}})
	n := len(table.Columns)
	for i, want := range []string{"<0.0001", "0.0002"} {
		if got := table.Columns[n-3].format(&table.Rows[i][n-3]); got != want {
			t.Errorf("row %d: p %s, want %s", i, got, want)
		}
	}
	if got := table.Columns[n-2].format(&table.Rows[0][n-2]); got != "<0.0001" { // twice 0.00004
		t.Errorf("p after Holm %s", got)
	}
}

func TestCompareTable(t *testing.T) {
	a := input("A", join(choices(1, 0, -4, 10, -5, 20), choices(2, 0, -3, 10, -4, 10)))
	b := input("B", join(choices(1, 0, -6, 10, -5, 10), choices(2, 0, -9, 10, -8, 10)))
	c, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	table := CompareTable([]Comparison{c, c})
	if len(table.Rows) != 6 {
		t.Fatalf("%d rows, want 6", len(table.Rows))
	}
	// Six tests. acc: 2 against 0, p 0.5. acc_norm: 1 against 0, p 1.
	// Log-likelihood: differences 2 and 6, t = 4/2 with one degree of freedom;
	// scipy: stats.ttest_1samp([2, 6], 0).pvalue = 0.2951672353008665; six times that is over 1.
	holm := len(table.Columns) - 2
	for i, want := range []float64{0.5, 1, 0.2951672353008665, 0.5, 1, 0.2951672353008665} {
		if got := *table.Rows[i][holm-1].Number; !scalar.EqualWithinAbs(got, want, tolP) {
			t.Errorf("row %d: p %v, want %v", i, got, want)
		}
		if got := *table.Rows[i][holm].Number; got != 1 {
			t.Errorf("row %d: p after Holm %v, want 1", i, got)
		}
	}
	var sb strings.Builder
	if err := table.Markdown(&sb); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(sb.String(), "only 2 documents") {
		t.Error("the warnings are not in the table")
	}
}
