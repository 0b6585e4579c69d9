package spec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const settable = `name: x
models: [{name: Llama-3.1-8B, path: /a}, {name: b, path: /b}]
tasks: [piqa, {name: wikitext2, block: 64}, {name: wikitext2, block: 32}]
data: /data
methods: [{name: fp32}, {name: split, boundary: {tau: 2}}]
sweep: {split_layer: [1, 3]}
`

func TestSet(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		sets []string
		get  func(s *Spec) any
		want any
	}{
		{[]string{"models.0.path=/new"}, func(s *Spec) any { return s.Models[0].Path }, "/new"},
		{[]string{"models.Llama-3.1-8B.max_length=77"}, func(s *Spec) any { return s.Models[0].MaxLength }, 77},
		{[]string{"tasks.piqa.limit=10"}, func(s *Spec) any { return s.Tasks[0] }, Task{Name: "piqa", Limit: Limit{Docs: 10}}},
		{[]string{"tasks.2.block=16"}, func(s *Spec) any { return s.Tasks[2].Block }, 16},
		{[]string{"tasks=[boolq]"}, func(s *Spec) any { return s.Tasks }, []Task{{Name: "boolq"}}},
		{[]string{"tasks.0=boolq"}, func(s *Spec) any { return s.Tasks[0].Name }, "boolq"},
		{[]string{"methods.split.boundary.tau=3"}, func(s *Spec) any { return s.Methods[1].Boundary.Tau }, Tau{TauValue, 3}},
		{[]string{"methods.split.boundary.tau={rms: 2.5}"}, func(s *Spec) any { return s.Methods[1].Boundary.Tau }, Tau{TauRMS, 2.5}},
		{[]string{"sweep.tau=[1, {quantile: .999}]"}, func(s *Spec) any { return s.Sweep.Groups[1][0].Values }, []any{Tau{TauValue, 1}, Tau{TauQuantile, 0.999}}},
		{[]string{"methods.split.boundary={codec: split1, tables: a.tables, restore: centroid, lanes: 2}"}, func(s *Spec) any { return *s.Methods[1].Boundary },
			Boundary{Codec: "split1", Tau: Tau{TauValue, 5}, MaxActivationBits: 4, Delta: 0.2, Search: "tabq", StopRule: "last_ok", Comparison: "floor",
				LowerBound: 3, Granularity: "per_token", AboveType: "exact", SparseIndex: "compact", ScaleType: "float16", Lanes: 2, Restore: "centroid", Tables: filepath.Join(here, "a.tables")}},
		{[]string{"methods.split.front.weight_bits=3"}, func(s *Spec) any { return s.Methods[1].Front }, WeightCoder{Bits: 3}},
		{[]string{"methods.1.boundary={codec: packed}"}, func(s *Spec) any { return s.Methods[1].Boundary.Codec }, "packed"},
		{[]string{"sweep.tau=[1,5]"}, func(s *Spec) any { return s.Sweep.Groups[1][0].Values }, []any{Tau{TauValue, 1}, Tau{TauValue, 5}}},
		{[]string{"sweep.front.weight_bits=[2]"}, func(s *Spec) any { return s.Sweep.Groups[1][0].Name }, "front.weight_bits"},
		{[]string{"sweep.split_layer=[2]", "sweep.split_layer=[4]"}, func(s *Spec) any { return s.Sweep.Groups[0][0].Values }, []any{4}},
		{[]string{"protocol=legacy"}, func(s *Spec) any { return s.Protocol }, "legacy"},
		{[]string{"description='5'"}, func(s *Spec) any { return s.Description }, "5"},
		{[]string{"outputs=[bytes_vs_tokens]"}, func(s *Spec) any { return s.Outputs }, []string{"bytes_vs_tokens"}},
	} {
		s := mustParse(t, settable, test.sets...)
		if d := cmp.Diff(test.want, test.get(s)); d != "" {
			t.Errorf("--set %q (-want +got):\n%s", test.sets, d)
		}
	}
}

// TestSetFaults pins one message per override; an override beside a faulty file is reported after it.
func TestSetFaults(t *testing.T) {
	const all = "name, include, description, models, data, tasks, protocol, chat, seed, timing, methods, sweep, outputs, server"
	for set, want := range map[string]string{
		"tau=3":                         `unknown key "tau", expected one of ` + all + ` (tau belongs in methods.boundary)`,
		"sed=3":                         `unknown key "sed", expected "seed"`,
		"seed":                          "there is no key and value, expected key=value",
		"=3":                            "there is no key and value, expected key=value",
		"seed=":                         "there is nothing here, expected YAML",
		"seed=010":                      "seed is 010 (octal), expected a decimal integer from 0 to 2147483647",
		"seed=[":                        "did not find expected node content, expected valid YAML",
		"seed.x=3":                      "seed has no keys, expected seed=3",
		"name.x=3":                      "name has no keys, expected name=3",
		"sweep.tua=[1]":                 `unknown key "tua" in sweep, expected "tau"`,
		"sweep.split_layer=3":           "sweep.split_layer is 3, expected a list of values, each a decimal integer from 1 to 10000",
		"models.2.path=/x":              "models has no entry 2, expected 0 to 1",
		"models.a.path=/x":              `there is no entry "a" in models, expected one of Llama-3.1-8B, b, or a number`,
		"models.b.pth=/x":               `unknown key "pth" in models.b, expected "path"`,
		"tasks.wikitext2.block=3":       "tasks has more than one entry wikitext2, expected its number",
		"methods.split.boundary.tau=no": `methods.boundary.tau is "no", expected a decimal number, 0 or more, {quantile: q} or {rms: m}`,
		"methods.fp32.tau=1":            `unknown key "tau" in methods.fp32, expected one of name, preset, quantizer, calibration, front, back, split_layer, l_w, max_tokens, include_kv, boundary, tasks, sweep (tau belongs in methods.boundary)`,
		"outputs.0=x":                   "there are no outputs to set 0 in, expected outputs=[…]",
		"include=x":                     "fragments cannot be overridden from here, expected the keys they hold",
		"methods.split.split_layer=2":   "the sweep has an axis split_layer that replaces this, expected sweep.split_layer=[…]",
		"methods.split.boundary.tau={quantile: 2}":         "methods.boundary.tau.quantile is 2, expected a number above 0 and up to 1",
		"methods.split.boundary.tau={rms: 0}":              "methods.boundary.tau.rms is 0, expected a number above 0 and up to 1e+06",
		"methods.split.boundary.tau={rms: [1]}":            "methods.boundary.tau.rms is a list, expected a number above 0 and up to 1e+06",
		"methods.split.boundary.tau={quantil: .9}":         `unknown key "quantil" in methods.boundary.tau, expected "quantile"`,
		"methods.split.boundary.tau={quantile: 1, rms: 1}": "methods.boundary.tau is a mapping of 2 keys, expected a decimal number, 0 or more, {quantile: q} or {rms: m}",
		"sweep.tau=[{rms: 1}, {rms: 1.0}]":                 "sweep.tau has the value 1rms twice, expected each value once",
		"methods.split.boundary.lanes=3":                   "methods.boundary.lanes is 3, expected a decimal integer (0, 1, 2, 4, 8, 16, 32, 64, 96)",
		"methods.split.boundary.restore=centroid":          "restore is centroid without a file of tables, expected tables or kv_tables beside it",
		"methods.split.boundary=3":                         "methods.boundary is 3, expected a mapping of keys",
	} {
		_, err := Parse("x.yaml", []byte(settable), LoadOptions{Env: fixedEnv(), Set: []string{set}})
		if err == nil {
			t.Errorf("--set %s: no error", set)
			continue
		}
		if d := cmp.Diff("--set "+set+": "+want, err.Error()); d != "" {
			t.Errorf("--set %s (-want +got):\n%s", set, d)
		}
	}
	_, err := Parse("x.yaml", []byte("name: x\nmodels: {}\ntasks: []\nmethods: 3\nsweep: 3\nfoo: 1\n"), LoadOptions{Env: fixedEnv(), Set: []string{"models.0.path=/x", "seed=x", "methods.a.b=1", "sweep.tau=[1]"}})
	const want = "x.yaml:2:9: models is a mapping, expected a list of mappings\n" +
		"x.yaml:3:8: tasks is an empty list, expected at least one entry\n" +
		"x.yaml:4:10: methods is 3, expected a list of mappings\n" +
		"x.yaml:5:8: sweep is 3, expected a mapping from axes to lists of values\n" +
		"x.yaml:6:1: unknown key \"foo\", expected one of " + all + "\n" +
		"--set models.0.path=/x: models is a mapping, expected a list\n" +
		"--set methods.a.b=1: methods is 3, expected a list\n" +
		"--set sweep.tau=[1]: sweep is 3, expected a mapping\n" +
		"--set seed=x: seed is \"x\", expected a decimal integer from 0 to 2147483647"
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("faults of file and overrides (-want +got):\n%s", d)
	}
}

func TestInclude(t *testing.T) {
	files := map[string]string{
		"/e/f/a.yaml": "include: ../b.yaml\nmodels: [{name: a, path: here}]\nseed: 1\nprotocol: legacy\n",
		"/e/b.yaml":   "seed: 2\ntiming: true\ndata: data\nsweep: {seed: [5]}\n",
		"/e/c.yaml":   "seed: 3\nprotocol: joint-nobos\n",
	}
	o := LoadOptions{Env: fixedEnv(), ReadFile: func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}}
	s, err := Parse("/e/x.yaml", []byte("include: [f/a.yaml, c.yaml]\nname: x\ntasks: [piqa]\nmethods: [{name: fp32}]\nsweep: {limit: [1]}\n"), o)
	if err != nil {
		t.Fatal(err)
	}
	// seed: b under a under c; protocol: a under c; sweep of b replaced as a whole; paths by their own file.
	got := []any{s.Seed, s.Protocol, s.Timing, s.Models[0].Path, s.Data, len(s.Sweep.Groups), s.Sweep.Groups[0][0].Name}
	want := []any{3, "joint-nobos", true, "/e/f/here", "/e/data", 1, "limit"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("included values (-want +got):\n%s", d)
	}

	files["/e/b.yaml"] = "include: x.yaml\n"
	_, err = Parse("/e/x.yaml", []byte("include: f/a.yaml\nname: x\ntasks: [piqa]\nmethods: [{name: fp32}]\n"), o)
	if want := "/e/b.yaml:1:10: include of x.yaml leads back to a file that includes it, expected fragments without a cycle"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("cycle: got %v, want %s", err, want)
	}

	// A fragment that includes two copies of the next doubles the work at each step; the bound stops it.
	for i := range 40 {
		files["/e/n"+strings.Repeat("i", i)] = "include: [n" + strings.Repeat("i", i+1) + ", n" + strings.Repeat("i", i+1) + "]\n"
	}
	_, err = Parse("/e/x.yaml", []byte("include: n\nname: x\n"), o)
	if err == nil || !strings.Contains(err.Error(), "too many fragments are included, expected at most 64") {
		t.Errorf("doubling fragments: got %v", err)
	}
}

func TestLoadErrors(t *testing.T) {
	_, err := Load("testdata/nowhere.yaml", LoadOptions{})
	if err == nil || err.Error() != "spec testdata/nowhere.yaml: no such file or directory" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	_, err = Load("testdata", LoadOptions{})
	if err == nil || err.Error() != "spec testdata: not a regular file" {
		t.Errorf("folder: %v", err)
	}
	big := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(big, make([]byte, maxFileBytes+5), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Load(big, LoadOptions{})
	var faults Errors
	if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Line != 1 || !strings.Contains(faults[0].Message, "1048577 bytes") {
		t.Errorf("file beyond the bound: %v", err)
	}
	if _, err := Parse("x.yaml", []byte("a: \xff\xfe"), LoadOptions{}); err == nil {
		t.Error("text that is not UTF-8: no error")
	}
}

func TestLoadMethod(t *testing.T) {
	write := func(text string) string {
		p := filepath.Join(t.TempDir(), "m.yaml")
		if err := os.WriteFile(p, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return p
	}
	m, err := LoadMethod(write("name: s\nfront: {weight_bits: 4, group: 32}\nsplit_layer: 3\nboundary: {tau: 1, search: fixed, delta: 9}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Method{Name: "s", Kind: Split, Front: WeightCoder{Bits: 4, Group: 32}, Back: WeightCoder{Bits: 16}, SplitLayer: 3, PrecisionLayer: 3, IncludeKV: true,
		Boundary: &Boundary{Codec: "literal", Tau: Tau{TauValue, 1}, MaxActivationBits: 4, Delta: 0.2, Search: "fixed", StopRule: "last_ok", Comparison: "floor",
			LowerBound: 3, Granularity: "per_token", AboveType: "exact", SparseIndex: "compact", ScaleType: "float16", Restore: "center"}}
	if d := cmp.Diff(want, m); d != "" {
		t.Errorf("method (-want +got):\n%s", d)
	}
	if m, err = LoadMethod(write("name: off\nsplit_layer: 3\nboundary: {codec: none}\n")); err != nil || m.Boundary != nil || m.Kind != Split {
		t.Errorf("codec none: %+v, %v", m, err)
	}
	for text, want := range map[string]string{
		"name: s\nboundary: {}\n":      "1:1: the split method has no split_layer, expected split_layer: 1 or more",
		"- name: s\n":                  "1:1: the spec is a list, expected a mapping of keys",
		"name: s\nsplit_layers: 3\n":   `2:1: unknown key "split_layers", expected "split_layer"`,
		"front: {weight_bits: 6}\n":    "1:1: the spec has no name, expected a name of letters, digits, dots, dashes and underscores",
		"name: s\n---\nname: t\n":      "2:1: a second document begins here, expected one document",
		"name: s\nsplit_layer: 0x1\n":  "2:14: split_layer is 0x1 (hexadecimal), expected a decimal integer from 1 to 10000",
		"name: s\nmethods: [a]\n":      `2:1: unknown key "methods", expected one of name, preset, quantizer, calibration, front, back, split_layer, l_w, max_tokens, include_kv, boundary`,
		"name: {a: b}\nsplit_layer: 2": "1:7: name is a mapping, expected a name of letters, digits, dots, dashes and underscores",
	} {
		p := write(text)
		_, err := LoadMethod(p)
		if err == nil || !strings.Contains(err.Error(), p+":"+want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, err := LoadMethod("testdata/nowhere.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestLimit(t *testing.T) {
	for _, test := range []struct {
		l       Limit
		of, all int
		text    string
	}{
		{Limit{}, 7, 7, "0"}, {Limit{Docs: 3}, 3, 7, "3"}, {Limit{Docs: 30}, 7, 7, "30"},
		{Limit{Fraction: 0.5}, 4, 7, "0.5"},     // ceil(3.5), as lm-eval does
		{Limit{Fraction: 0.07}, 8, 100, "0.07"}, // 100*0.07 is just above 7 in float64, in Python too
		{Limit{Fraction: 1e-9}, 1, 100, "1e-09"},
	} {
		if got := test.l.Of(test.all); got != test.of || test.l.String() != test.text {
			t.Errorf("%+v of %d is %d (%s), want %d (%s)", test.l, test.all, got, test.l, test.of, test.text)
		}
	}
}

func TestEdits(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"tau", "tau", 0}, {"tua", "tau", 1}, {"kitten", "sitting", 3}, {"limt", "limit", 1}, {"ca", "abc", 3}} {
		if got := edits(test.a, test.b); got != test.want {
			t.Errorf("edits(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
		if got := edits(test.b, test.a); got != test.want {
			t.Errorf("edits(%q, %q) = %d, want %d", test.b, test.a, got, test.want)
		}
	}
}
