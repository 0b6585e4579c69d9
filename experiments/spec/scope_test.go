package spec

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestScopes checks axes and tasks of single methods: own axes replace those of
// the experiment, and a method with tasks is scored on no others.
func TestScopes(t *testing.T) {
	const text = `name: x
models: [{name: m, path: /m}]
tasks: [{name: piqa, path: /p}, {name: boolq, path: /b}]
methods:
  - {name: whole, tasks: [boolq]}
  - {name: a, boundary: {}}
  - {name: b, boundary: {}, split_layer: 7, tasks: [piqa], sweep: {tau: [9], zip: [{max_activation_bits: [2, 8], max_tokens: [5, 6]}]}}
sweep: {split_layer: [1, 2], tau: [3, 4]}
`
	s := mustParse(t, text)
	cells, err := s.Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	type point struct {
		task, method                 string
		layer                        int
		tau                          float64
		maxActivationBits, maxTokens int
	}
	var got []point
	for _, c := range cells {
		p := point{task: c.Task.Name, method: c.Method.Name, layer: c.Method.SplitLayer, maxTokens: c.Method.MaxTokens}
		if b := c.Method.Boundary; b != nil {
			p.tau, p.maxActivationBits = b.Tau.Value, b.MaxActivationBits
		}
		got = append(got, p)
	}
	want := []point{
		{"piqa", "a", 1, 3, 4, 0}, {"piqa", "a", 1, 4, 4, 0}, {"piqa", "a", 2, 3, 4, 0}, {"piqa", "a", 2, 4, 4, 0},
		{"piqa", "b", 1, 9, 2, 5}, {"piqa", "b", 1, 9, 8, 6}, {"piqa", "b", 2, 9, 2, 5}, {"piqa", "b", 2, 9, 8, 6},
		{"boolq", "whole", 0, 0, 0, 0},
		{"boolq", "a", 1, 3, 4, 0}, {"boolq", "a", 1, 4, 4, 0}, {"boolq", "a", 2, 3, 4, 0}, {"boolq", "a", 2, 4, 4, 0},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(point{})); d != "" {
		t.Errorf("points (-want +got):\n%s", d)
	}
	again := mustParse(t, string(s.YAML()))
	if d := cmp.Diff(string(s.YAML()), string(again.YAML())); d != "" {
		t.Errorf("written again (-want +got):\n%s", d)
	}
	more, err := again.Cells(nil)
	if err != nil || len(more) != len(cells) {
		t.Errorf("%d points of the written spec, %v; want %d", len(more), err, len(cells))
	}
	for i := range min(len(more), len(cells)) {
		if more[i].Label() != cells[i].Label() {
			t.Errorf("point %d: %s, want %s", i, more[i].Label(), cells[i].Label())
		}
	}
}

func TestScopeFaults(t *testing.T) {
	for methods, want := range map[string]string{
		"{name: w, sweep: {tau: [1]}}":                                "4:29: method w has no use for axis tau, expected an axis that acts on it",
		"{name: w, sweep: {exclude: [{tau: 1}]}}":                     `4:29: unknown key "exclude" in methods.sweep, expected one of limit`,
		"{name: w, sweep: [1]}":                                       "4:28: methods.sweep is a list, expected a mapping from axes to lists of values",
		"{name: w, tasks: [boolq]}":                                   "4:29: there is no task boolq, expected one of piqa",
		"{name: w, tasks: [piqa, piqa]}":                              "4:35: tasks names piqa twice, expected each once",
		"{name: w, tasks: []}":                                        "4:28: methods.tasks is an empty list, expected at least one entry",
		"{name: w, boundary: {}, sweep: {tau: [1]}}":                  "4:11: split method w has no split_layer, expected split_layer in the method or in sweep",
		"{name: w, boundary: {}, sweep: {split_layer: [1], tau: []}}": "methods.sweep.tau is an empty list",
	} {
		_, err := Parse("x.yaml", []byte("name: x\nmodels: [{name: m, path: /m}]\ntasks: [{name: piqa, path: /p}]\nmethods: ["+methods+"]\n"), LoadOptions{})
		var all Errors
		if !errors.As(err, &all) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", methods, err, want)
		}
	}
}

// TestReplacedAxes checks what methods leave of the axes of the experiment.
func TestReplacedAxes(t *testing.T) {
	const a, b = "{name: a, split_layer: 1, boundary: {}, sweep: {tau: [1]}}", "{name: b, split_layer: 1, boundary: {}, sweep: {tau: [2]}}"
	for _, test := range []struct {
		methods, sweep, want string
		set                  []string
	}{
		{a + ", {name: whole}, " + b, "tau: [3, 4]", "5:9: every method has an axis tau of its own, expected an axis that acts on a method", nil},
		{a + ", " + b, "max_tokens: [3, 4]", "--set sweep.tau=[3]: every method has an axis tau of its own", []string{"sweep.tau=[3]"}},
		{a + ", {name: c, split_layer: 1, boundary: {}}", "tau: [3, 4]", "", nil},
		{a + ", {name: c, split_layer: 1, boundary: {}}", "zip: [{tau: [3, 4], max_tokens: [5, 6]}]", "4:59: axis tau of method a replaces one of a zip of the sweep and leaves its max_tokens, expected axes of its own for the whole zip", nil},
		{strings.Replace(a, "tau: [1]", "tau: [1], max_tokens: [7]", 1) + ", {name: c, split_layer: 1, boundary: {}}", "zip: [{tau: [3, 4], max_tokens: [5, 6]}]", "", nil},
		// What else is in the zip has no meaning for the method.
		{"{name: w, quantizer: {file: q.yaml}, sweep: {quantizer.activation_bits: [4]}}, {name: c, split_layer: 1, quantizer: {file: q.yaml}, boundary: {}}", "zip: [{quantizer.activation_bits: [3, 4], tau: [5, 6]}]", "", nil},
	} {
		_, err := Parse("x.yaml", []byte("name: x\nmodels: [{name: m, path: /m}]\ntasks: [{name: piqa, path: /p}]\nmethods: ["+test.methods+"]\nsweep: {"+test.sweep+"}\n"), LoadOptions{Set: test.set})
		var all Errors
		switch {
		case test.want == "" && err != nil, test.want != "" && (!errors.As(err, &all) || len(all) != 1 || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s, %s: %v, want %q", test.methods, test.sweep, err, test.want)
		}
	}
}

// TestPointsOfFewTasks: only the tasks that a method is scored on count against the limit.
func TestPointsOfFewTasks(t *testing.T) {
	var numbers []string
	for i := range 200 {
		numbers = append(numbers, strconv.Itoa(i+1))
	}
	list := "[" + strings.Join(numbers, ", ") + "]"
	for tasks, points := range map[string]int{"[boolq]": 40003, "[piqa, boolq, winogrande]": 0} {
		s := mustParse(t, "name: x\nmodels: [{name: m, path: /m}]\ntasks: [{name: piqa, path: /p}, {name: boolq, path: /b}, {name: winogrande, path: /w}]\n"+
			"methods:\n  - {name: whole}\n  - {name: a, split_layer: 1, boundary: {}, tasks: "+tasks+", sweep: {tau: "+list+", max_tokens: "+list+"}}\n")
		cells, err := s.Cells(nil)
		if points > 0 && (err != nil || len(cells) != points) || points == 0 && (err == nil || !strings.Contains(err.Error(), "more than 100000 points")) {
			t.Errorf("tasks %s: %d points, %v, want %d", tasks, len(cells), err, points)
		}
	}
}
