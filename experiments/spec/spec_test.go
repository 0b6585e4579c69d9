package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fixedEnv is an environment with only the given variables.
func fixedEnv(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// TestBadFiles compares the message for every file in testdata/bad with the hand-written .want beside it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/bad: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(f, ".yaml") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(f, LoadOptions{Env: fixedEnv("HOME", "/home/u")})
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.ReplaceAll(err.Error(), "testdata/bad/", "") + "\n"
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("messages (-want +got):\n%s", d)
			}
		})
	}
}

var exported = cmpopts.IgnoreUnexported(Spec{}, Axis{}, Cell{})

const small = `name: x
models: [{name: m, path: /m, max_length: 512}]
tasks: [{name: piqa, path: /p, limit: 100}]
`

func mustParse(t *testing.T, text string, sets ...string) *Spec {
	t.Helper()
	s, err := Parse("x.yaml", []byte(text), LoadOptions{Env: fixedEnv("HOME", "/home/u", "SHARED", "/sh"), Set: sets})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func labels(cells []Cell) []string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = c.Model.Name + "/" + c.Task.Name + "/" + c.Protocol + "/" + c.Label()
	}
	return out
}

func TestDefaults(t *testing.T) {
	s := mustParse(t, small+`
methods: [{name: fp32}, {name: w3, front: {weight_bits: 3}}, {name: split, split_layer: 2, boundary: {}}, {name: off, split_layer: 1}]
`)
	want := &Spec{
		Name:     "x",
		Models:   []Model{{Name: "m", Path: "/m", MaxLength: 512}},
		Tasks:    []Task{{Name: "piqa", Limit: Limit{Docs: 100}, Path: "/p"}},
		Protocol: "joint-bos", Chat: "off",
		Methods: []Method{
			{Name: "fp32", Kind: Whole, Front: WeightCoder{Bits: 16}, Back: WeightCoder{Bits: 16}},
			{Name: "w3", Kind: Weights, Front: WeightCoder{Bits: 3}, Back: WeightCoder{Bits: 16}},
			{Name: "split", Kind: Split, Front: WeightCoder{Bits: 16}, Back: WeightCoder{Bits: 16}, SplitLayer: 2, IncludeKV: true,
				Boundary: &Boundary{Codec: "literal", Tau: Tau{TauValue, 5}, MaxActivationBits: 4, Delta: 0.2, Search: "tabq", StopRule: "last_ok", Comparison: "floor",
					LowerBound: 3, Granularity: "per_token", AboveType: "exact", SparseIndex: "compact", ScaleType: "float16", Restore: "center"}},
			{Name: "off", Kind: Split, Front: WeightCoder{Bits: 16}, Back: WeightCoder{Bits: 16}, SplitLayer: 1, IncludeKV: true},
		},
	}
	if d := cmp.Diff(want, s, exported); d != "" {
		t.Errorf("spec (-want +got):\n%s", d)
	}
	cells, err := s.Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cells[2].Method.PrecisionLayer; got != 2 {
		t.Errorf("l_w of a resolved split method is %d, want its split layer 2", got)
	}
}

func TestPaths(t *testing.T) {
	s, err := Parse("/top/e/x.yaml", []byte(`
name: x
data: ~/data
models: [{name: a, path: "${SHARED}/a", tokenizer: ../tok}, {name: b, path: "builtin:tiny"}, {name: c, path: "hub:org/name@main"}]
tasks: [{name: piqa, path: p.jsonl, labels: "${SHARED}${HOME}"}, boolq]
methods: [{name: fp32}]
`), LoadOptions{Env: fixedEnv("HOME", "/home/u", "SHARED", "/sh")})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{s.Data, s.Models[0].Path, s.Models[0].Tokenizer, s.Models[1].Path, s.Models[2].Path, s.Tasks[0].Path, s.Tasks[0].Labels}
	want := []string{"/home/u/data", "/sh/a", "/top/tok", "builtin:tiny", "hub:org/name@main", "/top/e/p.jsonl", "/sh/home/u"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("paths (-want +got):\n%s", d)
	}
	s, err = Parse("x.yaml", []byte("name: x\nmodels: [{name: a, path: /a}]\ntasks: [piqa]\nmethods: [{name: fp32}]\n"), LoadOptions{Env: fixedEnv("SPLITBENCH_SHARED", "/sh")})
	if err != nil {
		t.Fatal(err)
	}
	if s.Data != "/sh/data" {
		t.Errorf("data root without the key data is %q, want /sh/data", s.Data)
	}
}

// TestCells pins the order and the collapsing of points; the lists were written by hand.
func TestCells(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"order: model, task, method, then axes, the last fastest", `
name: x
models: [{name: a, path: /a}, {name: b, path: /b}]
tasks: [{name: piqa, path: /p}, {name: boolq, path: /q}]
methods: [{name: fp32}, {name: s, boundary: {}}]
sweep: {split_layer: [2, 1], tau: [1, 0.5]}
`, []string{
			"a/piqa/joint-bos/fp32", "a/piqa/joint-bos/s l=2 tau=1 Q=4", "a/piqa/joint-bos/s l=2 tau=0.5 Q=4", "a/piqa/joint-bos/s l=1 tau=1 Q=4", "a/piqa/joint-bos/s l=1 tau=0.5 Q=4",
			"a/boolq/joint-bos/fp32", "a/boolq/joint-bos/s l=2 tau=1 Q=4", "a/boolq/joint-bos/s l=2 tau=0.5 Q=4", "a/boolq/joint-bos/s l=1 tau=1 Q=4", "a/boolq/joint-bos/s l=1 tau=0.5 Q=4",
			"b/piqa/joint-bos/fp32", "b/piqa/joint-bos/s l=2 tau=1 Q=4", "b/piqa/joint-bos/s l=2 tau=0.5 Q=4", "b/piqa/joint-bos/s l=1 tau=1 Q=4", "b/piqa/joint-bos/s l=1 tau=0.5 Q=4",
			"b/boolq/joint-bos/fp32", "b/boolq/joint-bos/s l=2 tau=1 Q=4", "b/boolq/joint-bos/s l=2 tau=0.5 Q=4", "b/boolq/joint-bos/s l=1 tau=1 Q=4", "b/boolq/joint-bos/s l=1 tau=0.5 Q=4",
		}},
		{"zip, exclude and an axis for every method", small + `
methods: [{name: fp32}, {name: s, split_layer: 3, boundary: {}}]
sweep:
  protocol: [legacy, joint-bos]
  zip: [{tau: [1, 5], delta: [0.1, 0.2]}]
  max_activation_bits: [3, 8]
  exclude: [{tau: 5, max_activation_bits: 3}, {protocol: legacy, method: fp32}]
`, []string{
			"m/piqa/joint-bos/fp32",
			"m/piqa/legacy/s l=3 tau=1 Q=3 delta=0.1", "m/piqa/legacy/s l=3 tau=1 Q=8 delta=0.1", "m/piqa/legacy/s l=3 tau=5 Q=8 delta=0.2",
			"m/piqa/joint-bos/s l=3 tau=1 Q=3 delta=0.1", "m/piqa/joint-bos/s l=3 tau=1 Q=8 delta=0.1", "m/piqa/joint-bos/s l=3 tau=5 Q=8 delta=0.2",
		}},
		{"knobs that cannot act collapse", small + `
methods: [{name: s, split_layer: 3, boundary: {}}]
sweep: {codec: [none, raw16, packed], search: [fixed, tabq], delta: [0.1, 0.2]}
`, []string{
			"m/piqa/joint-bos/s l=3 codec=none",
			"m/piqa/joint-bos/s l=3 codec=raw16",
			"m/piqa/joint-bos/s l=3 tau=5 Q=4 codec=packed search=fixed",
			"m/piqa/joint-bos/s l=3 tau=5 Q=4 codec=packed delta=0.1 search=tabq",
			"m/piqa/joint-bos/s l=3 tau=5 Q=4 codec=packed delta=0.2 search=tabq",
		}},
		{"weights: group acts below 16 bits, l_w where front and back differ", small + `
methods: [{name: w, front: {}}, {name: s, split_layer: 2}]
sweep: {front.weight_bits: [4, 16], front.group: [0, 32], l_w: [1, 2]}
`, []string{
			"m/piqa/joint-bos/w w=4 g=0 l_w=1", "m/piqa/joint-bos/w w=4 g=0 l_w=2", "m/piqa/joint-bos/w w=4 g=32 l_w=1", "m/piqa/joint-bos/w w=4 g=32 l_w=2",
			"m/piqa/joint-bos/w w=16",
			"m/piqa/joint-bos/s l=2 w=4 g=0 l_w=1", "m/piqa/joint-bos/s l=2 w=4 g=0 l_w=2", "m/piqa/joint-bos/s l=2 w=4 g=32 l_w=1", "m/piqa/joint-bos/s l=2 w=4 g=32 l_w=2",
			"m/piqa/joint-bos/s l=2 w=16",
		}},
		{"two methods share a point", small + `
methods: [{name: a, split_layer: 2, boundary: {}}, {name: b, split_layer: 2, boundary: {sparse_index: torch}}]
sweep: {codec: [none, literal]}
`, []string{
			"m/piqa/joint-bos/a l=2 codec=none", "m/piqa/joint-bos/a l=2 tau=5 Q=4 codec=literal",
			"m/piqa/joint-bos/b l=2 tau=5 Q=4 codec=literal",
		}},
		{"thresholds in other units, and knobs of split1", small + `
methods: [{name: s, split_layer: 3, boundary: {tables: /t}}]
sweep: {codec: [literal, split1], tau: [5, {quantile: 0.999}, {rms: 3}], restore: [center, centroid], lanes: [0]}
`, []string{
			"m/piqa/joint-bos/s l=3 tau=5 Q=4 codec=literal", "m/piqa/joint-bos/s l=3 tau=q0.999 Q=4 codec=literal", "m/piqa/joint-bos/s l=3 tau=3rms Q=4 codec=literal",
			"m/piqa/joint-bos/s l=3 tau=5 Q=4 codec=split1 restore=center", "m/piqa/joint-bos/s l=3 tau=5 Q=4 codec=split1 restore=centroid",
			"m/piqa/joint-bos/s l=3 tau=q0.999 Q=4 codec=split1 restore=center", "m/piqa/joint-bos/s l=3 tau=q0.999 Q=4 codec=split1 restore=centroid",
			"m/piqa/joint-bos/s l=3 tau=3rms Q=4 codec=split1 restore=center", "m/piqa/joint-bos/s l=3 tau=3rms Q=4 codec=split1 restore=centroid",
		}},
		{"a clamp acts before every codec, and before none", small + `
methods: [{name: s, split_layer: 3, boundary: {}}]
sweep: {codec: [none, literal], clamp: [0, 100], tau: [1, 5], exclude: [{codec: literal, clamp: 0, tau: 1}, {codec: literal, clamp: 100, tau: 5}]}
`, []string{
			"m/piqa/joint-bos/s l=3 codec=none", "m/piqa/joint-bos/s l=3 codec=none clamp=100",
			"m/piqa/joint-bos/s l=3 tau=5 Q=4 codec=literal clamp=0", "m/piqa/joint-bos/s l=3 tau=1 Q=4 codec=literal clamp=100",
		}},
		{"exclude knows what is not clamped", small + `
methods: [{name: s, split_layer: 3, boundary: {codec: none}}]
sweep: {clamp: [0, 5, 9], exclude: [{clamp: 0}, {clamp: 9}]}
`, []string{"m/piqa/joint-bos/s l=3 clamp=5"}},
		{"limit and seed", small + `
methods: [{name: fp32}]
sweep: {limit: [10, 0.5], seed: [1, 2]}
`, []string{"m/piqa/joint-bos/fp32 limit=10 seed=1", "m/piqa/joint-bos/fp32 limit=10 seed=2", "m/piqa/joint-bos/fp32 limit=0.5 seed=1", "m/piqa/joint-bos/fp32 limit=0.5 seed=2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cells, err := mustParse(t, test.text).Cells(nil)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, labels(cells)); d != "" {
				t.Errorf("cells (-want +got):\n%s", d)
			}
		})
	}
}

func TestCellsFaults(t *testing.T) {
	five := func(m Model) (int, error) {
		if m.Name == "broken" {
			return 0, errors.New("no config.json")
		}
		return 5, nil
	}
	for _, test := range []struct {
		name, text string
		sets       []string
		want       string
	}{
		{"own split layer", small + "methods:\n  - {name: s, split_layer: 6, l_w: 7, front: {weight_bits: 4}}\n", nil,
			"x.yaml:5:28: split_layer 6 is beyond the last layer of model m, expected 1 to 5\n" +
				"x.yaml:5:36: l_w 7 is beyond the last layer of model m, expected 1 to 5"},
		{"layers of the sweep", small + "methods: [{name: s, boundary: {}}]\nsweep: {split_layer: [1, 6, 5, 9], tau: [1, 2]}\n", nil,
			"x.yaml:5:26: split_layer 6 is beyond the last layer of model m, expected 1 to 5\n" +
				"x.yaml:5:32: split_layer 9 is beyond the last layer of model m, expected 1 to 5"},
		{"an override", small + "methods: [{name: s, boundary: {}}]\nsweep: {split_layer: [1]}\n", []string{"sweep.split_layer=[2, 8]"},
			"--set sweep.split_layer=[2, 8]: split_layer 8 is beyond the last layer of model m, expected 1 to 5"},
		{"an unreadable model", "name: x\nmodels: [{name: m, path: /m}, {name: broken, path: /b}]\ntasks: [{name: piqa, path: /p}]\nmethods: [{name: fp32}]\n", nil,
			"x.yaml:2:31: model broken: no config.json, expected a readable model"},
		{"nothing left", small + "methods: [{name: fp32}]\nsweep:\n  seed: [1]\n  exclude: [{seed: 1}]\n", nil,
			"x.yaml:6:3: no point is left, expected an exclude that leaves some"},
		{"one method repeats another", small + "methods: [{name: a, split_layer: 1}, {name: b, split_layer: 1}]\n", nil,
			"x.yaml:4:38: method b computes nothing that method a does not, expected methods that differ in what the sweep leaves them"},
		{"too many points", small + "methods: [{name: s, split_layer: 1}]\nsweep: {seed: [" + numbers(400) + "], max_tokens: [" + numbers(400) + "]}\n", nil,
			"x.yaml:5:8: the experiment has more than 100000 points, expected a smaller sweep"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cells, err := mustParse(t, test.text, test.sets...).Cells(five)
			if err == nil {
				t.Fatalf("no error, cells %v", labels(cells))
			}
			if d := cmp.Diff(test.want, err.Error()); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}

func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d, ", i)
	}
	return b.String()
}

// TestCanonical compares with testdata/cell.json, written by hand. The key is that of
//
//	sha256sum testdata/cell.json
func TestCanonical(t *testing.T) {
	s := mustParse(t, small+"methods: [{name: any-name, front: {weight_bits: 4, group: 32}, split_layer: 3, boundary: {}}]\n")
	cells, err := s.Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	extra := map[string]string{DigestModel: "m1", DigestTokenizer: "t1", DigestData: "d1", "schema": "1"}
	want, err := os.ReadFile("testdata/cell.json")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(cells[0].Canonical(extra))); d != "" {
		t.Errorf("canonical form (-want +got):\n%s", d)
	}
	const key = "86e839246ec2fea6f87ab98a10c9596e815e3f61cb806842e075fbe20dbcbcc3"
	if got := cells[0].Key(extra); got != key {
		t.Errorf("key %s, want %s", got, key)
	}

	// Without digests the paths identify model and data.
	s = mustParse(t, "name: x\nmodels: [{name: m, path: /m}]\ntasks: [{name: wikitext2, path: \"builtin:toy\", block: 64, limit: .25}]\nprotocol: legacy\nseed: 7\ntiming: true\nmethods: [{name: fp32}]\n")
	if cells, err = s.Cells(nil); err != nil {
		t.Fatal(err)
	}
	const bare = `{"chat":"off","data":"","method":{"kind":"whole"},"model":{"max_length":0,"path":"/m","tokenizer":""},"protocol":"legacy","seed":7,` +
		`"task":{"block":64,"labels":"","limit":0.25,"name":"wikitext2","path":"builtin:toy"},"timing":true}`
	if d := cmp.Diff(bare, string(cells[0].Canonical(nil))); d != "" {
		t.Errorf("canonical form without digests (-want +got):\n%s", d)
	}
}

// TestCanonicalSplit1 pins the boundary of a cell with thresholds in another unit and files of tables; the digests stand for the files.
func TestCanonicalSplit1(t *testing.T) {
	s := mustParse(t, small+"methods: [{name: s, split_layer: 3, max_tokens: 2, boundary: {codec: split1, tau: {quantile: 0.999}, tables: /t, kv_tables: /k}}]\n")
	cells, err := s.Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	const readings = `{"boundary":{"above_type":"exact","codec":"split1","comparison":"floor","delta":0.2,"granularity":"per_token",%s"lanes":0,"lower_bound":3,"max_activation_bits":4,` +
		`"restore":"center","scale_type":"float16","search":"tabq","stop_rule":"last_ok",%s"tau":{"quantile":0.999}}`
	for _, test := range []struct {
		extra      map[string]string
		kv, tables string
	}{
		{nil, `"kv_tables":"/k",`, `"tables":"/t",`},
		{map[string]string{DigestTables: "d", DigestKVTables: "e"}, "", ""},
	} {
		want := fmt.Sprintf(readings, test.kv, test.tables)[1:]
		if got := string(cells[0].Canonical(test.extra)); !strings.Contains(got, want) {
			t.Errorf("canonical form %s\nwithout %s", got, want)
		}
	}
}

// TestCanonicalClamp pins the boundary of a cell that is clamped and not coded: knobs of codecs are not part of it.
func TestCanonicalClamp(t *testing.T) {
	s := mustParse(t, small+"methods: [{name: s, split_layer: 3, boundary: {codec: none, clamp: 2.5, tau: 7, search: fixed, max_activation_bits: 8}}]\n")
	cells, err := s.Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(cells[0].Canonical(nil)); !strings.Contains(got, `"boundary":{"clamp":2.5,"codec":"none"}`) {
		t.Errorf("canonical form %s", got)
	}
}

// TestCanonicalKnobs checks that each knob of a cell changes its key, and names do not.
func TestCanonicalKnobs(t *testing.T) {
	extra := map[string]string{DigestModel: "m", DigestTokenizer: "t", DigestData: "d"}
	const methods = "methods: [{name: s, front: {weight_bits: 4, group: 32}, back: {weight_bits: 8, group: 8}, split_layer: 3, l_w: 2, boundary: {}}]\n"
	key := func(sets ...string) string {
		cells, err := mustParse(t, small+methods, sets...).Cells(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cells[0].Key(extra)
	}
	seen := map[string]string{key(): "the plain spec"}
	for _, set := range []string{
		"models.m.max_length=7", "tasks.piqa.limit=7", "tasks.0=boolq", "tasks.0={name: wikitext2, block: 8}", "protocol=legacy", "chat=on", "seed=7", "timing=true",
		"methods.s.front.weight_bits=3", "methods.s.front.group=7", "methods.s.back.weight_bits=3", "methods.s.back.group=7",
		"methods.s.split_layer=4", "methods.s.l_w=1", "methods.s.max_tokens=7", "methods.s.include_kv=false", "methods.s.boundary.codec=none",
		"methods.s.boundary.codec=raw16", "methods.s.boundary.codec=packed", "methods.s.boundary.tau=7", "methods.s.boundary.max_activation_bits=7",
		"methods.s.boundary.delta=7", "methods.s.boundary.search=fixed", "methods.s.boundary.stop_rule=first_exceed", "methods.s.boundary.comparison=round",
		"methods.s.boundary.lower_bound=2", "methods.s.boundary.granularity=per_tensor", "methods.s.boundary.above_type=bfloat16",
		"methods.s.boundary.sparse_index=torch", "methods.s.boundary.scale_type=float32",
		"methods.s.boundary.tau={quantile: 0.5}", "methods.s.boundary.tau={rms: 0.5}",
		"methods.s.boundary={codec: split1}", "methods.s.boundary={codec: split1, lanes: 2}", "methods.s.boundary={codec: split1, tables: /t}",
		"methods.s.boundary={codec: split1, tables: /t, restore: centroid}",
		"methods.s.boundary.clamp=100", "methods.s.boundary={codec: none, clamp: 100}", "methods.s.boundary={codec: none, clamp: 10}", "methods.s.boundary={codec: split1, clamp: 100}",
	} {
		var sets []string
		if strings.HasPrefix(set, "tasks.0=") {
			sets = []string{"data=/d"}
		}
		k := key(append(sets, set)...)
		if other, again := seen[k]; again {
			t.Errorf("%s has the key of %s", set, other)
		}
		seen[k] = set
	}
	for _, set := range []string{"name=other", "description=other", "models.m.name=other", "models.m.path=/other", "models.m.tokenizer=/other",
		"tasks.piqa.path=/other", "tasks.piqa.labels=/other", "data=/other", "methods.s.name=other", "outputs=[bytes_vs_tokens]", "methods.s.boundary={}",
		"methods.s.boundary.clamp=0", "methods.s.boundary.lanes=2", "methods.s.boundary.tables=/t", "methods.s.boundary={restore: centroid, kv_tables: /t}"} {
		if k := key(set); seen[k] != "the plain spec" {
			t.Errorf("%s changes the key", set)
		}
	}
}

const rich = `
name: rich-1.0_x
description: "tricky: \"quotes\", # hash\n  and lines\n"
models: [{name: "010", path: "/m/true", max_length: 9}, {name: b, path: "${SHARED}/x y", tokenizer: ~/tok}]
data: /data
tasks: [hellaswag, {name: piqa, limit: 0.125, labels: /l}, {name: wikitext2, block: 64, limit: 3}, {name: wikitext2, block: 32}]
protocol: legacy
seed: 42
timing: true
methods:
  - {name: fp32}
  - {name: "null", front: &w {weight_bits: 3, group: 16}, l_w: 2}
  - {name: s, front: *w, back: {<<: *w, weight_bits: 8}, boundary: {codec: packed, tau: 1e-7, delta: 1e21}}
  - {name: t, split_layer: 2, max_tokens: 3, boundary: {codec: split1, tau: {rms: 2.5}, lanes: 8, restore: centroid, tables: "${SHARED}/t", kv_tables: k.tables}}
  - {name: off, split_layer: 1, include_kv: false, max_tokens: 5}
  - {name: limited, split_layer: 1, boundary: {codec: none, clamp: 2.5}}
sweep:
  split_layer: [3, 1]
  zip: [{tau: [.5, 5, .5], max_activation_bits: [2, 3, 4]}, {limit: [0, 0.5], seed: [1, 2]}]
  include_kv: [true, false]
  codec: [none, packed]
  exclude: [{tau: 5, model: b}, {include_kv: false, codec: none, method: s, limit: 0.5}]
outputs: [share_vs_threshold, bytes_vs_tokens]
`

func TestYAMLRoundTrip(t *testing.T) {
	for _, text := range []string{rich, small + "methods: [{name: fp32}]\n"} {
		s := mustParse(t, text)
		again, err := Parse("elsewhere/y.yaml", s.YAML(), LoadOptions{Env: fixedEnv()})
		if err != nil {
			t.Fatalf("%v\n%s", err, s.YAML())
		}
		if d := cmp.Diff(s, again, exported); d != "" {
			t.Errorf("spec after YAML and Parse (-want +got):\n%s", d)
		}
		if d := cmp.Diff(string(s.YAML()), string(again.YAML())); d != "" {
			t.Errorf("text (-first +second):\n%s", d)
		}
		one, err1 := s.Cells(nil)
		two, err2 := again.Cells(nil)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if d := cmp.Diff(labels(one), labels(two)); d != "" {
			t.Errorf("cells (-want +got):\n%s", d)
		}
		keys := map[string]bool{}
		for _, c := range one {
			keys[c.Model.Name+c.Key(nil)] = true
		}
		if len(keys) != len(one) {
			t.Errorf("%d cells have %d keys", len(one), len(keys))
		}
	}
}

// TestShape reads a spec with every form the documentation shows.
func TestShape(t *testing.T) {
	s := mustParse(t, `
name: real-smoke
models: [{name: stories260K, path: "${SHARED}/data/stories260k/hf", tokenizer: "${SHARED}/data/stories260k/tok512.model"}]
data: "${SHARED}/data"
tasks: [{name: piqa, limit: 100}, {name: wikitext2, block: 256}]
protocol: joint-bos
methods:
  - {name: fp32}
  - name: split
    front: {weight_bits: 4, group: 32}
    boundary: {codec: literal, tau: 5, max_activation_bits: 4, delta: 0.2}
sweep: {split_layer: [1, 3, 5], tau: [1, 5], max_activation_bits: [3, 4, 8], max_tokens: [0, 50]}
outputs: [accuracy_vs_layer, bytes_vs_tokens]
`)
	cells, err := s.Cells(func(Model) (int, error) { return 5, nil })
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * (1 + 3*2*3*2); len(cells) != want {
		t.Fatalf("%d cells, want %d", len(cells), want)
	}
	if got, want := cells[1].Label(), "split l=1 tau=1 Q=3 W=0"; got != want {
		t.Errorf("label %q, want %q", got, want)
	}
	if got, want := cells[37].Label(), "fp32"; got != want || cells[37].Task.Name != "wikitext2" {
		t.Errorf("label %q of task %s, want %q of wikitext2", got, cells[37].Task.Name, want)
	}
}
