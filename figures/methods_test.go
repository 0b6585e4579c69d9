package figures

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/results"
)

// methodCells are made-up cells in the form of a comparison of methods: a model as
// it is, two baselines at two activation widths, one on weights alone at three, and
// a split whose boundary has the width.
func methodCells(models ...string) []results.CellResult {
	var out []results.CellResult
	add := func(p results.Point, bits, loss float64) {
		for _, task := range []string{"piqa", "wikitext2"} {
			p.Task = task
			stderr := 0.03
			c := results.CellResult{Schema: results.SchemaVersion, Key: fmt.Sprintf("%064x", len(out)), Point: p, Status: results.StatusOK, StoredBits: bits}
			if task == "piqa" {
				c.Primary, c.Metrics = "acc_norm", []results.Metric{{Name: "acc_norm", Value: 1 - loss/10, Stderr: &stderr, HigherIsBetter: true, N: 50}}
			} else {
				c.Primary, c.Metrics = "perplexity", []results.Metric{{Name: "perplexity", Value: math.Exp(loss), Stderr: &stderr, N: 40}}
			}
			out = append(out, c)
		}
	}
	for _, model := range models {
		base := results.Point{Model: model, Protocol: "joint-bos", Method: "fp32", FrontBits: 16, BackBits: 16}
		add(base, 32, 1)
		for _, a := range []int32{4, 3} {
			for i, method := range []string{"SmoothQuant", "Atom"} {
				p := base
				p.Method, p.FrontBits, p.BackBits = method, 4, 4
				p.Quantizer = fmt.Sprintf("%s w4 a%d", method, a)
				p.BackQuantizer, p.ActivationBits, p.BackActivationBits, p.KVBits, p.BackKVBits = p.Quantizer, a, a, a, a
				add(p, 4.2+2*float64(i), 3-float64(i)+float64(4-a))
			}
			p := base
			p.Method, p.FrontBits, p.BackBits, p.SplitLayer, p.WeightLayer = "ours-boundary", 4, 4, 3, 3
			p.Preset, p.Quantizer, p.BackQuantizer, p.ActivationBits, p.BackActivationBits, p.KVBits, p.BackKVBits = "ours-boundary", "Atom w4", "Atom w4", 16, 16, 16, 16
			p.Codec, p.Threshold, p.TauBy, p.MaxActivationBits, p.Delta = "literal", 5, "value", a, 0.2
			add(p, 6.2, 1.2+float64(4-a)/5)
		}
		for _, w := range []int32{2, 3, 4} {
			p := base
			p.Method, p.FrontBits, p.BackBits = "GPTQ", w, w
			p.Quantizer = fmt.Sprintf("gptq w%d", w)
			p.BackQuantizer, p.ActivationBits, p.BackActivationBits, p.KVBits, p.BackKVBits = p.Quantizer, 16, 16, 16, 16
			add(p, float64(w)+.3, 4/float64(w))
		}
	}
	return out
}

func TestMethodFigures(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"method_bars", "method_pareto"} {
		for _, models := range [][]string{{"one"}, {"a", "b"}} {
			in := Input{Cells: methodCells(models...)}
			made, err := Render(name, in, dir)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Render(name, in, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for i := range made {
				a, errA := os.ReadFile(made[i])
				b, errB := os.ReadFile(again[i])
				if errA != nil || errB != nil || string(a) != string(b) {
					t.Errorf("%s: two renderings differ, %v, %v", made[i], errA, errB)
				}
				if filepath.Ext(made[i]) == ".png" {
					checkPNG(t, made[i], a)
				}
				files = append(files, filepath.Base(made[i]))
			}
		}
	}
	if len(files) != 2*3*3 {
		t.Errorf("files %v", files)
	}
	for name, want := range map[string][]string{
		"method_bars": {"Methods side by side: one", "protocol joint-bos", "piqa", "wikitext2", "acc_norm (%)", "perplexity", "Qa = 4", "Qa = 3", "weights alone",
			"SmoothQuant", "Atom", "ours-boundary", "GPTQ, 2 bits", "fp32", "Error bars and the grey band are ± 1 standard error."},
		"method_pareto": {"Methods by the bits that a weight takes: one", "Stored bits per weight", "SmoothQuant, Qa = 4", "Atom, Qa = 3", "ours-boundary, Qa = 3", "GPTQ", "fp32",
			"Grey steps: no point has fewer bits and a better value.", "not quantised", "20"},
	} {
		b, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		texts := svgTexts(t, b)
		for _, w := range want {
			if !slices.Contains(texts, w) {
				t.Errorf("%s lacks the text %q; it has %q", name, w, texts)
			}
		}
	}
}

func TestMethodFiguresWithoutData(t *testing.T) {
	cells := methodCells("m")
	plain := slices.DeleteFunc(slices.Clone(cells), func(c results.CellResult) bool { return c.Quantizer != "" })
	infinite := slices.Clone(cells)
	for i := range infinite {
		infinite[i].Metrics = []results.Metric{{Name: infinite[i].Primary, Value: math.Inf(1)}}
	}
	unmeasured := slices.Clone(cells)
	for i := range unmeasured {
		unmeasured[i].StoredBits = 0
	}
	many := slices.Clone(cells)
	for i := range 13 {
		c := cells[2]
		c.Method = fmt.Sprint("m", i)
		many = append(many, c)
	}
	for _, test := range []struct {
		figure, want string
		cells        []results.CellResult
	}{
		{"method_bars", "no cell with status ok has a quantizer", plain},
		{"method_pareto", "no cell with status ok has a quantizer", nil},
		{"method_bars", "no finite value of m", infinite},
		{"method_pareto", "no finite value of m", infinite},
		{"method_pareto", "do not say how many bits", unmeasured},
		{"method_bars", "methods, expected at most 12", many},
	} {
		if _, err := Render(test.figure, Input{Cells: test.cells}, t.TempDir()); !errors.Is(err, ErrNoData) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, expected %q", test.figure, err, test.want)
		}
	}
	// One infinite value is left out and said so.
	some := methodCells("m")
	for i := range some {
		if some[i].Task == "wikitext2" && some[i].Method == "GPTQ" && some[i].FrontBits == 2 {
			some[i].Metrics[0].Value = math.Inf(1)
		}
	}
	for _, build := range []func(Input) ([]*page, error){methodBars, methodPareto} {
		pages, err := build(Input{Cells: some})
		if err != nil || !slices.Contains(pages[0].notes, "Infinite values are not shown.") {
			t.Errorf("an infinite value is dropped without a word: %v", err)
		}
	}
}

// TestMethodRanges: every value lies within its panel, bars begin where a share is 0
// and a perplexity 1, and no two methods look alike.
func TestMethodRanges(t *testing.T) {
	cells := methodCells("m")
	bars, err := methodBars(Input{Cells: cells})
	if err != nil {
		t.Fatal(err)
	}
	pareto, err := methodPareto(Input{Cells: cells})
	if err != nil {
		t.Fatal(err)
	}
	for k, pages := range [][]*page{bars, pareto} {
		panels := pages[0].panels[0]
		for i, at := range []float64{100, 1} {
			lo, hi := math.Inf(1), math.Inf(-1)
			for _, c := range cells {
				if (c.Task == "piqa") == (i == 0) {
					v := c.Metrics[0].Value * at
					if i == 1 {
						v = math.Log10(v)
					}
					lo, hi = min(lo, v), max(hi, v)
				}
			}
			if p := panels[i]; !(p.Y.Min <= lo && hi <= p.Y.Max) || k == 0 && p.Y.Min != 0 {
				t.Errorf("figure %d, panel %s: [%v, %v] for values of %v to %v", k, p.Title.Text, p.Y.Min, p.Y.Max, lo, hi)
			}
		}
	}
	looks := map[string]int{}
	for k := range maxMethods {
		s := methodStyle(k)
		for _, look := range []string{fmt.Sprint(methodColor(k)), fmt.Sprint(s.color, s.marker)} {
			if other, ok := looks[look]; ok && other != k {
				t.Errorf("methods %d and %d look the same", k, other)
			}
			looks[look] = k
		}
	}
}

// TestParetoFront by hand: of equal bits the better value, and nothing that a point
// with fewer bits beats.
func TestParetoFront(t *testing.T) {
	points := []point{{x: 4, y: 3}, {x: 2, y: 9}, {x: 3, y: 3}, {x: 3, y: 4}, {x: 5, y: 2}, {x: 6, y: 2}, {x: 2, y: 10}}
	if got, want := fmt.Sprint(paretoFront(points, false)), "[{2 9 0} {3 3 0} {5 2 0}]"; got != want {
		t.Errorf("lower is better: %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(paretoFront(points, true)), "[{2 10 0}]"; got != want {
		t.Errorf("higher is better: %s, want %s", got, want)
	}
}
