package spec

import (
	"bytes"
	"encoding/json"
	"slices"
)

// A KeyDoc documents one key of a spec. All of it comes from the table that validates.
type KeyDoc struct {
	Path     string   // dotted path without list positions, as in methods.boundary.tau
	Type     string   // what a right value looks like, ranges and choices included
	Default  string   // as written or in words; empty: none
	Required bool     // must be written where its mapping is written
	Choices  []string // of a key with fixed values
	Unit     string
	Symbol   string // in arXiv 2511.04002
	Axis     string // its name in sweep; empty: cannot be swept
	Doc      string
}

var keyDocs = documentKeys(nil, table, "")

// Keys documents every key of a spec in the order of the table.
func Keys() []KeyDoc { return slices.Clone(keyDocs) }

func documentKeys(out []KeyDoc, keys []*key, where string) []KeyDoc {
	for _, k := range keys {
		out = append(out, KeyDoc{
			Path: dotted(where, k.name), Type: k.expected(), Default: k.defaultText(), Required: k.required,
			Choices: k.choices, Unit: k.unit, Symbol: k.symbol, Axis: k.axis, Doc: k.doc,
		})
		out = documentKeys(out, k.fields, dotted(where, k.name))
		if k.shape == sweep {
			at := dotted(where, k.name)
			out = append(out, KeyDoc{Path: dotted(at, "zip"), Type: "a list of mappings from axes to lists of equal length", Doc: zipDoc})
			if slices.Contains(sweepNames(at), "exclude") {
				out = append(out, KeyDoc{Path: dotted(at, "exclude"), Type: "a list of mappings from axes, model, task or method to one value each", Doc: excludeDoc})
			}
		}
	}
	return out
}

const (
	zipDoc     = "Axes that advance together instead of forming a cross product."
	excludeDoc = "Points to drop: those that agree with every value of an entry."
)

func (k *key) defaultText() string {
	switch {
	case k.shown != "":
		return k.shown
	case k.def == nil:
		return ""
	}
	return valueText(k.def)
}

// Schema returns a JSON schema (draft 2020-12) of spec files for editors. It is made from the table that
// validates; the same program always returns the same bytes.
func Schema() []byte {
	root := objectSchema(table)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "splitbench experiment"
	// A file that includes fragments may leave the required keys to them.
	required := root["required"]
	delete(root, "required")
	root["anyOf"] = []any{map[string]any{"required": required}, map[string]any{"required": []string{"include"}}}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic("spec: " + err.Error()) // made above of strings, numbers and lists only
	}
	return b.Bytes()
}

type schema = map[string]any

func objectSchema(keys []*key) schema {
	properties, required := schema{}, []string{}
	for _, k := range keys {
		properties[k.name] = k.schema()
		if k.required {
			required = append(required, k.name)
		}
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// schema returns the schema of a key's value with its documentation.
func (k *key) schema() schema {
	s := k.valueSchema()
	if k.list {
		one := s
		if k.bare && k.shape == object {
			one = schema{"anyOf": []any{field(k.fields, "name").valueSchema(), s}}
		}
		s = schema{"type": "array", "items": one}
		if !k.empty {
			s["minItems"] = 1
		}
		if k.shape == choice || k.shape == integer {
			s["uniqueItems"] = true
		}
		if k.bare && k.shape != object {
			s = schema{"anyOf": []any{one, s}}
		}
	}
	s["description"] = k.description()
	if k.def != nil && k.shape != limit {
		s["default"] = k.def
		if t, ok := k.def.(Tau); ok {
			s["default"] = t.plain()
		}
	}
	return s
}

func (k *key) description() string {
	s := k.doc
	if k.unit != "" {
		s += " Unit: " + k.unit + "."
	}
	if k.symbol != "" {
		s += " In the paper: " + k.symbol + "."
	}
	if d := k.defaultText(); d != "" {
		s += " Default: " + d + "."
	}
	return s
}

func (k *key) valueSchema() schema {
	switch k.shape {
	case text:
		return schema{"type": "string"}
	case path:
		return schema{"type": "string", "minLength": 1}
	case name:
		form := nameForm.String()
		if k.lower {
			form = lowerNameForm
		}
		return schema{"type": "string", "pattern": form, "maxLength": maxName}
	case boolean:
		return schema{"type": "boolean"}
	case choice:
		return schema{"type": "string", "enum": k.choices}
	case limit:
		return schema{"anyOf": []any{
			schema{"type": "integer", "minimum": 0},
			schema{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
		}}
	case threshold:
		one := []any{schema{"type": "number", "minimum": k.low}}
		for _, u := range tauUnits {
			one = append(one, schema{"type": "object", "additionalProperties": false, "required": []string{u.name},
				"properties": schema{u.name: schema{"type": "number", "exclusiveMinimum": 0, "maximum": u.high}}})
		}
		return schema{"anyOf": one}
	case integer, number:
		s := schema{"type": "integer"}
		if k.shape == number {
			s["type"] = "number"
		}
		if k.ints != nil {
			s["enum"] = k.ints
			return s
		}
		s["minimum"] = k.low
		if k.high != 0 {
			s["maximum"] = k.high
		}
		return s
	case sweep:
		return sweepSchema(k == field(table, "sweep"))
	}
	return objectSchema(k.fields)
}

// sweepSchema is that of the experiment, or of one method, whose sweep excludes nothing.
func sweepSchema(whole bool) schema {
	properties, points := schema{}, schema{}
	lists := schema{}
	for _, k := range axes {
		one := k.valueSchema()
		properties[k.axis] = schema{"type": "array", "items": one, "minItems": 1, "uniqueItems": true, "description": k.description()}
		lists[k.axis] = schema{"type": "array", "items": one, "minItems": 1, "description": k.description()}
		points[k.axis] = k.schema()
	}
	for _, what := range []string{"model", "task", "method"} {
		s := nameKey.valueSchema()
		s["description"] = "Name of a " + what + " of this experiment."
		points[what] = s
	}
	properties["zip"] = schema{"type": "array", "minItems": 1, "description": zipDoc,
		"items": schema{"type": "object", "additionalProperties": false, "minProperties": 2, "properties": lists}}
	if !whole {
		return schema{"type": "object", "additionalProperties": false, "properties": properties}
	}
	properties["exclude"] = schema{"type": "array", "minItems": 1, "description": excludeDoc,
		"items": schema{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": points}}
	return schema{"type": "object", "additionalProperties": false, "properties": properties}
}
