package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// segmented holds methods with quantizers of every kind.
const segmented = `
name: segmented
models: [{name: m, path: /m}]
data: /data
tasks: [{name: piqa, path: /p}, hellaswag]
methods:
  - {name: whole, quantizer: {preset: atom-w4a4, weight_bits: 3}, calibration: {text: /t, sequences: 4, tokens: 64, seed: 0}}
  - {name: mixed, front: {quantizer: {preset: omniquant-w4a16}}, back: {quantizer: {file: /q.yaml, kv_bits: 8}}, split_layer: 2, calibration: {task: c4}}
  - {name: half, front: {quantizer: {preset: rtn-w3}}, back: {weight_bits: 8, group: 32}, l_w: 2}
  - {name: boundary, preset: ours-boundary, quantizer: {file: /q.yaml, weight_bits: 8}, calibration: {file: /c.jsonl}, split_layer: 3}
  - {name: front, preset: ours-front, calibration: {file: /c.jsonl}, boundary: {codec: packed, max_activation_bits: 6}}
sweep:
  split_layer: [2, 3]
  calibration.seed: [-1, 1]
`

// TestSegments: what each method quantises where, by hand.
func TestSegments(t *testing.T) {
	s := mustParse(t, segmented)
	cells, err := s.Cells(nil)
	if err != nil {
		t.Fatal(err)
	}
	atom := Quantizer{Preset: "atom-w4a4", WeightBits: 3}
	q := Quantizer{File: "/q.yaml"}
	with := func(q Quantizer, weight, activations, kv int) Quantizer {
		q.WeightBits, q.ActivationBits, q.KVBits = weight, activations, kv
		return q
	}
	want := map[string][2]Quantizer{
		"whole":    {atom, atom},
		"mixed":    {{Preset: "omniquant-w4a16"}, with(q, 0, 0, 8)},
		"half":     {{Preset: "rtn-w3"}, {}},
		"boundary": {with(q, 8, 16, 0), with(q, 8, 16, 0)},
		"front":    {with(Quantizer{Preset: "atom-w4a4"}, 0, 6, 0), {}},
	}
	kinds := map[string]string{"whole": Weights, "half": Weights, "mixed": Split, "boundary": Split, "front": Split}
	count := map[string]int{}
	for _, c := range cells {
		m := c.Method
		front, back := m.Segments()
		if d := cmp.Diff(want[m.Name], [2]Quantizer{front, back}); d != "" || m.Kind != kinds[m.Name] {
			t.Errorf("method %s, kind %s, segments (-want +got):\n%s", m.Name, m.Kind, d)
		}
		count[m.Name]++
		if m.Name == "mixed" && m.Calibration.Data != "/data" {
			t.Errorf("task %s: the data of the calibration lie in %q", c.Task.Name, m.Calibration.Data)
		}
		if m.Name == "boundary" && (m.Boundary == nil || m.Boundary.Codec != "literal" || m.Boundary.Tau.Value != 5) {
			t.Errorf("the preset has the boundary %+v", m.Boundary)
		}
	}
	// Two tasks, two seeds of the calibration where there is one, two split layers of splits.
	if d := cmp.Diff(map[string]int{"whole": 4, "mixed": 8, "half": 2, "boundary": 8, "front": 8}, count); d != "" {
		t.Errorf("points (-want +got):\n%s", d)
	}
	again, err := Parse("y.yaml", s.YAML(), LoadOptions{Env: fixedEnv()})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.YAML())
	}
	if d := cmp.Diff(s, again, exported); d != "" {
		t.Errorf("spec after YAML and Parse (-want +got):\n%s", d)
	}
}

// TestCanonicalQuantizers: each knob of a quantizer and of its calibration changes the key while no digest
// stands for it, and with digests the ways to write one thing have one key.
func TestCanonicalQuantizers(t *testing.T) {
	keys := func(extra map[string]string, method string, sets ...string) map[string]string {
		s := mustParse(t, small+"data: /data\nmethods: ["+method+"]\n", sets...)
		cells, err := s.Cells(nil)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, c := range cells {
			out[c.Key(extra)] = c.Label()
		}
		return out
	}
	only := func(m map[string]string) (key string) {
		for k := range m {
			key = k
		}
		return key
	}
	const whole = "{name: q, quantizer: {preset: atom-w4a4}, calibration: {text: /t}}"
	seen := map[string]string{only(keys(nil, whole)): "the plain method"}
	for _, set := range []string{
		"methods.q.quantizer.preset=atom-w4a3", "methods.q.quantizer={file: /f}", "methods.q.quantizer.weight_bits=3", "methods.q.quantizer.activation_bits=16",
		"methods.q.quantizer.kv_bits=8", "methods.q.calibration={file: /t}", "methods.q.calibration.text=/u", "methods.q.calibration={task: c4}",
		"methods.q.calibration.sequences=3", "methods.q.calibration.tokens=3", "methods.q.calibration.seed=3",
	} {
		k := only(keys(nil, whole, set))
		if other, again := seen[k]; again {
			t.Errorf("%s has the key of %s", set, other)
		}
		seen[k] = set
	}
	// Digests stand for all of them.
	extra := map[string]string{DigestQuantizer: "a", DigestCalibration: "b"}
	plain := only(keys(extra, whole))
	if k := only(keys(extra, "{name: r, quantizer: {file: /f, weight_bits: 4, activation_bits: 4}, calibration: {file: /x, sequences: 9}}")); k != plain {
		t.Error("with digests the way to write a quantizer changes the key")
	}
	if k := only(keys(map[string]string{DigestQuantizer: "c", DigestCalibration: "b"}, whole)); k == plain {
		t.Error("another quantizer has the same key")
	}
	if k := only(keys(map[string]string{DigestQuantizer: "a", DigestCalibration: "d"}, whole)); k == plain {
		t.Error("another calibration has the same key")
	}
	// A preset is its segments.
	preset := "{name: p, preset: ours-boundary, quantizer: {file: /q}, calibration: {file: /c}, split_layer: 2, boundary: {}}"
	written := "{name: w, quantizer: {file: /q, activation_bits: 16}, calibration: {file: /c}, split_layer: 2, boundary: {}}"
	if only(keys(extra, preset)) != only(keys(extra, written)) {
		t.Error("a preset and its segments written out have different keys")
	}
	s := mustParse(t, small+"methods: ["+preset+", "+written+"]\n")
	if _, err := s.Cells(nil); err == nil || !strings.Contains(err.Error(), "method w computes nothing that method p does not") {
		t.Errorf("a method that repeats a preset: %v", err)
	}
	// The bits of ours-front are those of its boundary, whether or not that quantises.
	front := "{name: f, preset: ours-front, quantizer: {file: /q}, split_layer: 2}"
	for _, codec := range []string{"literal", "raw16", "none"} {
		if n := len(keys(nil, front, "sweep={max_activation_bits: [3, 4], quantizer.activation_bits: [2, 5]}", "methods.f.boundary={codec: "+codec+"}")); n != 2 {
			t.Errorf("codec %s: ours-front at two widths has %d points", codec, n)
		}
	}
	// A plain method has the canonical form that it had before there were quantizers.
	for k := range keys(nil, "{name: s, front: {weight_bits: 4, group: 32}, split_layer: 3}") {
		const before = `{"front":{"group":32,"weight_bits":4}`
		cells, err := mustParse(t, small+"methods: [{name: s, front: {weight_bits: 4, group: 32}, split_layer: 3}]\n").Cells(nil)
		if err != nil || cells[0].Key(nil) != k {
			t.Fatal(err)
		}
		if c := string(cells[0].Canonical(nil)); !strings.Contains(c, before[1:]) || strings.Contains(c, "quantizer") || strings.Contains(c, "calibration") {
			t.Errorf("canonical form %s", c)
		}
	}
}

// TestMethodFault places what only a quantizer's files show.
func TestMethodFault(t *testing.T) {
	s := mustParse(t, strings.TrimPrefix(segmented, "\n"))
	for _, test := range []struct {
		method      string
		calibration bool
		want        string
	}{
		{"whole", false, "x.yaml:6:30: m, expected e"},
		{"whole", true, "x.yaml:6:80: m, expected e"},
		{"mixed", false, "x.yaml:7:38: m, expected e"},
		{"boundary", false, "x.yaml:9:56: m, expected e"},
		{"front", false, "x.yaml:10:27: m, expected e"},
		{"nobody", false, "m, expected e"},
	} {
		if got := s.MethodFault(test.method, test.calibration, "m", "e").Error(); got != test.want {
			t.Errorf("method %s: %q, want %q", test.method, got, test.want)
		}
	}
}
