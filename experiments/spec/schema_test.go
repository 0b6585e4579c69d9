package spec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestSchemaKeys follows every documented key through the schema and asks for its description.
func TestSchemaKeys(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	if root["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %v", root["$schema"])
	}
	docs := Keys()
	if len(docs) < 40 {
		t.Fatalf("only %d keys are documented", len(docs))
	}
	for _, d := range docs {
		if d.Doc == "" || d.Type == "" || !strings.HasSuffix(d.Doc, ".") {
			t.Errorf("key %s is not documented: %+v", d.Path, d)
		}
		var at any = root
		for _, part := range strings.Split(d.Path, ".") {
			at = property(at, part)
		}
		s, ok := at.(map[string]any)
		if !ok {
			t.Errorf("key %s is not in the schema", d.Path)
			continue
		}
		if text, _ := s["description"].(string); !strings.HasPrefix(text, d.Doc) {
			t.Errorf("key %s has the description %q in the schema, want %q", d.Path, text, d.Doc)
		}
	}
	for _, k := range axes {
		if property(property(root, "sweep"), k.axis) == nil {
			t.Errorf("axis %s is not in the schema", k.axis)
		}
	}
}

// property finds a property in an object schema or in the objects of an array schema.
func property(at any, name string) any {
	s, _ := at.(map[string]any)
	if items, ok := s["items"].(map[string]any); ok {
		s = items
	}
	if of, ok := s["anyOf"].([]any); ok && s["properties"] == nil {
		for _, alternative := range of {
			if a, ok := alternative.(map[string]any); ok && a["properties"] != nil {
				s = a
			}
		}
	}
	properties, _ := s["properties"].(map[string]any)
	return properties[name]
}

// TestIssueAxes pins the names of the axes users write.
func TestIssueAxes(t *testing.T) {
	want := strings.Fields("limit protocol chat seed quantizer.weight_bits quantizer.activation_bits quantizer.kv_bits calibration.sequences calibration.tokens calibration.seed front.quantizer.weight_bits front.quantizer.activation_bits front.quantizer.kv_bits front.weight_bits front.group back.quantizer.weight_bits back.quantizer.activation_bits back.quantizer.kv_bits back.weight_bits back.group split_layer l_w max_tokens include_kv " +
		"codec tau max_activation_bits delta search stop_rule comparison lower_bound granularity above_type sparse_index scale_type clamp lanes restore")
	if got := axisNames(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("axes are %v, want %v", got, want)
	}
}

// TestDefaultsAreAllowed checks the table itself: a default is a right value of its own key.
func TestDefaultsAreAllowed(t *testing.T) {
	var walk func(keys []*key)
	walk = func(keys []*key) {
		for _, k := range keys {
			walk(k.fields)
			if k.def == nil || k.shape == path {
				continue
			}
			if k.list {
				n := &node{kind: listNode}
				switch list := k.def.(type) {
				case []int:
					for _, v := range list {
						n.items = append(n.items, &node{text: valueText(v), tag: "!!int"})
					}
				case []string:
					for _, v := range list {
						n.items = append(n.items, &node{text: v, tag: "!!str"})
					}
				}
				r := new(reader)
				if r.check(k, n, k.name); len(r.errs) > 0 || !reflect.DeepEqual(n.values(k), k.def) {
					t.Errorf("default %v of key %s reads back as %v (%v)", k.def, k.name, n.values(k), r.errs)
				}
				continue
			}
			n := &node{text: valueText(k.def), tag: "!!str"}
			if k.shape == integer || k.shape == number || k.shape == limit || k.shape == boolean {
				var y yaml.Node
				if err := yaml.Unmarshal([]byte(n.text), &y); err != nil {
					t.Fatal(err)
				}
				n.tag = y.Content[0].Tag
			}
			if v, problem := new(reader).scalar(k, n); problem != "" || v != k.def {
				t.Errorf("default %v of key %s reads back as %v (%s)", k.def, k.name, v, problem)
			}
		}
	}
	walk(table)
}

// FuzzParse checks that no text panics or grows without bound, and that a spec that can be read is the
// same after it is written and read again.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	shipped, _ := filepath.Glob("../*.yaml")
	for _, file := range append(files, shipped...) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "sweep.tau=[1,5]")
	}
	f.Add([]byte(rich), "tasks.piqa.limit=3")
	f.Add([]byte(settable), "models.Llama-3.1-8B.path=x")
	env := fixedEnv("HOME", "/home/u", "SHARED", "/sh", "SPLITBENCH_SHARED", "/shared")
	noFiles := func(string) ([]byte, error) { return nil, os.ErrNotExist }
	f.Fuzz(func(t *testing.T, data []byte, set string) {
		o := LoadOptions{Env: env, ReadFile: noFiles}
		if set != "" {
			o.Set = []string{set}
		}
		s, err := Parse("/e/x.yaml", data, o)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a message")
			}
			for _, e := range err.(Errors) {
				if strings.ContainsAny(e.Error(), "\n\r") {
					t.Errorf("a message of more than one line: %q", e.Error())
				}
			}
			return
		}
		again, err := Parse("/e/y.yaml", s.YAML(), LoadOptions{Env: env, ReadFile: noFiles})
		if err != nil {
			t.Fatalf("the resolved spec cannot be read: %v\n%s", err, s.YAML())
		}
		if string(s.YAML()) != string(again.YAML()) {
			t.Fatalf("the resolved spec changes:\n%s\n%s", s.YAML(), again.YAML())
		}
		cells, err := s.Cells(nil)
		if err != nil || len(cells) > 300 {
			return
		}
		seen := map[string]bool{}
		for _, c := range cells {
			id := c.Model.Name + " " + c.Key(nil)
			if seen[id] {
				t.Fatalf("two cells are equal: %s", c.Canonical(nil))
			}
			seen[id] = true
		}
	})
}
