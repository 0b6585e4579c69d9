package spec

import (
	"bytes"

	"gopkg.in/yaml.v3"
)

// YAML returns the resolved spec: fragments and overrides applied, variables expanded, paths absolute,
// defaults written out. The text is the same for the same Spec, and Parse of it gives the same Spec back.
func (s *Spec) YAML() []byte {
	root := &yaml.Node{Kind: yaml.MappingNode}
	put(root, "name", scalar(s.Name))
	if s.Description != "" {
		put(root, "description", scalar(s.Description))
	}
	models := &yaml.Node{Kind: yaml.SequenceNode}
	for _, m := range s.Models {
		models.Content = append(models.Content, entry(field(table, "models").fields, &Cell{Model: m}))
	}
	put(root, "models", models)
	if s.Data != "" {
		put(root, "data", scalar(s.Data))
	}
	tasks := &yaml.Node{Kind: yaml.SequenceNode}
	for _, t := range s.Tasks {
		tasks.Content = append(tasks.Content, entry(field(table, "tasks").fields, &Cell{Task: t}))
	}
	put(root, "tasks", tasks)
	put(root, "protocol", scalar(s.Protocol))
	put(root, "chat", scalar(s.Chat))
	put(root, "seed", scalar(s.Seed))
	put(root, "timing", scalar(s.Timing))
	methods := &yaml.Node{Kind: yaml.SequenceNode}
	for i, m := range s.Methods {
		n := entry(methodKeys, &Cell{Method: m})
		if i < len(s.Scopes) {
			if own := s.Scopes[i]; own.Tasks != nil {
				put(n, "tasks", sequence(own.Tasks))
			}
			if own := s.Scopes[i]; own.Groups != nil {
				put(n, "sweep", Sweep{Groups: own.Groups}.node())
			}
		}
		methods.Content = append(methods.Content, n)
	}
	put(root, "methods", methods)
	if len(s.Sweep.Groups)+len(s.Sweep.Exclude) > 0 {
		put(root, "sweep", s.Sweep.node())
	}
	if len(s.Outputs) > 0 {
		put(root, "outputs", sequence(s.Outputs))
	}
	if s.Server != nil {
		put(root, "server", serverNode(s.Server))
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		// The tree was made above of mappings, lists and scalars only; writing to memory does not fail.
		panic("spec: " + err.Error())
	}
	return b.Bytes()
}

// entry writes a model, task or method: keys whose value is the zero value and is no default are left out,
// they cannot be written.
func entry(keys []*key, c *Cell) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for _, k := range keys {
		switch {
		case !k.suits(&c.Method), k.ref == nil && k.shape != object:
		case k.ref == nil:
			if k.name == "boundary" && c.Method.Boundary == nil {
				continue
			}
			if m := entry(k.fields, c); len(m.Content) > 0 {
				put(n, k.name, m)
			}
		case k.name == "block" && c.Task.Block == 0:
		default:
			v := k.load(c)
			if k.def == nil && (v == 0 || v == "") || k.shape == path && v == "" || k.late && v == k.def {
				continue
			}
			put(n, k.name, scalar(v))
		}
	}
	return n
}

func (s Sweep) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	var zip *yaml.Node
	for _, g := range s.Groups {
		into := n
		if len(g) > 1 {
			if zip == nil {
				zip = &yaml.Node{Kind: yaml.SequenceNode}
				put(n, "zip", zip)
			}
			into = &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
			zip.Content = append(zip.Content, into)
		}
		for _, a := range g {
			values := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
			for _, v := range a.Values {
				values.Content = append(values.Content, scalar(v))
			}
			put(into, a.Name, values)
		}
	}
	if len(s.Exclude) > 0 {
		exclude := &yaml.Node{Kind: yaml.SequenceNode}
		for _, p := range s.Exclude {
			point := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
			for _, e := range p {
				put(point, e.Name, scalar(e.Value))
			}
			exclude.Content = append(exclude.Content, point)
		}
		put(n, "exclude", exclude)
	}
	return n
}

func put(mapping *yaml.Node, name string, v *yaml.Node) {
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, v)
}

// sequence writes a list in one line.
func sequence[T any](list []T) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, v := range list {
		n.Content = append(n.Content, scalar(v))
	}
	return n
}

// scalar writes a value, a threshold in another unit as a mapping. Strings that YAML could take for something else, or would fold, are quoted.
func scalar(v any) *yaml.Node {
	if t, ok := v.(Tau); ok && t.By != TauValue {
		n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		put(n, t.By, scalar(t.Value))
		return n
	}
	switch list := v.(type) {
	case []int:
		return sequence(list)
	case []string:
		return sequence(list)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: valueText(v)}
	if _, ok := v.(string); ok {
		n.Tag = "!!str"
		if !plainString.MatchString(n.Value) {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	return n
}
