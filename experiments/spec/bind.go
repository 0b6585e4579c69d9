package spec

import (
	"fmt"
	"slices"
	"strings"
)

// bind makes a Spec of a checked tree and checks what involves several keys. It goes on where parts of the
// tree are faulty, so that all faults come out together; the Spec is used only if there were none.
func (r *reader) bind(root *node) *Spec {
	s := &Spec{
		Name:        stringOf(root.get("name")),
		Description: stringOf(root.get("description")),
		sweepAt:     root.pos,
	}
	var c Cell
	bindKeys(table, root, &c)
	s.Protocol, s.Chat, s.Seed, s.Timing, s.Data = c.Protocol, c.Chat, c.Seed, c.Timing, c.Data
	if root.get("data") == nil {
		if p, err := r.expand("${SPLITBENCH_SHARED}/data", position{}); err == nil {
			s.Data = p
		}
	}
	for _, n := range entriesOf(root.get("models")) {
		var c Cell
		bindKeys(field(table, "models").fields, n, &c)
		s.Models = append(s.Models, c.Model)
		s.modelsAt = append(s.modelsAt, n.pos)
	}
	for _, n := range entriesOf(root.get("tasks")) {
		s.Tasks = append(s.Tasks, r.bindTask(n, s.Data == "" && root.get("data") == nil))
	}
	methods := entriesOf(root.get("methods"))
	for _, n := range methods {
		r.checkRestore(n.get("boundary"))
		r.checkSegments(n)
		s.Methods = append(s.Methods, bindMethod(n))
		w := written{method: n.pos}
		if v := n.get("split_layer"); v != nil {
			w.splitLayer = v.pos
		}
		if v := n.get("l_w"); v != nil {
			w.precisionLayer = v.pos
		}
		w.quantizer, w.calibration = n.pos, n.pos
		for _, v := range []*node{n.get("preset"), n.get("back").get("quantizer"), n.get("front").get("quantizer"), n.get("quantizer")} {
			if v != nil {
				w.quantizer, w.calibration = v.pos, v.pos
			}
		}
		if v := n.get("calibration"); v != nil {
			w.calibration = v.pos
		}
		s.methodsAt = append(s.methodsAt, w)
	}
	if n := root.get("outputs"); n != nil {
		for _, item := range n.items {
			s.Outputs = append(s.Outputs, stringOf(item))
		}
	}
	s.Server = r.bindServer(root, &c, s.Outputs)
	if n := root.get("sweep"); n != nil && n.kind == mappingNode {
		s.sweepAt = n.pos
		s.Sweep = bindSweep(n)
	}
	s.bindScopes(methods)
	r.distinctNames(root.get("models"), "model")
	r.distinctNames(root.get("methods"), "method")
	r.distinctTasks(entriesOf(root.get("tasks")), s.Tasks)
	r.checkSplitLayers(s, root.get("sweep"), methods)
	r.checkScopes(s, methods)
	r.checkAxesUsed(s, len(methods) > 0)
	r.checkOverrides(s)
	r.checkExclude(s, root.get("sweep").get("exclude"))
	return s
}

func stringOf(n *node) string {
	if n == nil {
		return ""
	}
	s, _ := n.value.(string)
	return s
}

// entriesOf returns the mappings of a list; other entries have been reported.
func entriesOf(n *node) []*node {
	if n == nil || n.kind != listNode {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(n.items), func(item *node) bool { return item.kind != mappingNode })
}

// bindKeys stores the checked values of a mapping, and defaults where nothing is written.
func bindKeys(keys []*key, n *node, c *Cell) {
	for _, k := range keys {
		v := n.get(k.name)
		switch {
		case k.ref != nil && k.list && v != nil:
			k.store(c, v.values(k))
		case k.ref != nil && (v == nil || v.value == nil):
			k.store(c, k.def)
		case k.ref != nil:
			k.store(c, v.value)
		case k.shape == object && !k.list:
			if k.name == "boundary" {
				if v == nil || v.kind != mappingNode {
					continue
				}
				c.Method.Boundary = &Boundary{}
			}
			bindKeys(k.fields, v, c)
		}
	}
}

// bindMethod makes a method of its checked entry. The keys that are written say what kind it is.
func bindMethod(n *node) Method {
	var c Cell
	bindKeys(methodKeys, n, &c)
	m := c.Method
	m.Kind = Whole
	for _, k := range methodKeys {
		switch {
		case n.get(k.name) == nil:
		case k.needs == splitMethod, k.needs == presetMethod:
			m.Kind = Split
		case (k.needs == weightMethod || k.needs == quantizerMethod) && m.Kind == Whole:
			m.Kind = Weights
		}
	}
	if !m.Calibration.Set() {
		m.Calibration = Calibration{}
	}
	if m.Preset != "" {
		if !m.Quantizer.Set() {
			m.Quantizer.Preset = presetQuantizer
		}
		if m.Boundary == nil {
			m.Boundary = &Boundary{}
			bindKeys(boundaryKeys, nil, &Cell{Method: m})
		}
	}
	if m.Kind != Split {
		m.MaxTokens, m.IncludeKV = 0, false
	}
	return m
}

// bindTask makes a task of its checked entry. nowhere says that no data root is known.
func (r *reader) bindTask(n *node, nowhere bool) Task {
	var c Cell
	bindKeys(field(table, "tasks").fields, n, &c)
	t := c.Task
	if t.Name == "" {
		return t
	}
	if b := n.get("block"); !isBlockTask(t.Name) {
		t.Block = 0
		if b != nil {
			r.fault(b.pos, "task "+t.Name+" has no blocks", "block only with "+strings.Join(blockTasks, ", "))
		}
	}
	if nowhere && n.get("path") == nil {
		r.fault(n.pos, "nothing says where the data of task "+t.Name+" are", "a path in the task, the key data, or the environment variable SPLITBENCH_SHARED")
	}
	return t
}

// checkRestore asks for the tables that hold the centroids of restore.
func (r *reader) checkRestore(boundary *node) {
	if v := boundary.get("restore"); stringOf(v) == "centroid" && boundary.get("tables") == nil && boundary.get("kv_tables") == nil {
		r.fault(v.pos, "restore is centroid without a file of tables", "tables or kv_tables beside it")
	}
}

func (r *reader) distinctNames(n *node, what string) {
	seen := map[string]bool{}
	for _, entry := range entriesOf(n) {
		v := entry.get("name")
		name := stringOf(v)
		if name != "" && seen[name] {
			r.fault(v.pos, "a second "+what+" is named "+name, "distinct names")
		}
		seen[name] = true
	}
}

// distinctTasks lets one evaluation set come twice only with different settings.
func (r *reader) distinctTasks(entries []*node, tasks []Task) {
	for i, t := range tasks {
		if t.Name != "" && slices.Contains(tasks[:i], t) {
			r.fault(entries[i].pos, "task "+t.Name+" appears twice with the same settings", "each task once")
		}
	}
}

// checkSplitLayers asks that every split method gets a split layer from somewhere.
func (r *reader) checkSplitLayers(s *Spec, sweep *node, methods []*node) {
	given := func(n *node) bool {
		zip := n.get("zip")
		return n.get("split_layer") != nil || zip != nil && slices.ContainsFunc(zip.items, func(g *node) bool { return g.get("split_layer") != nil })
	}
	if given(sweep) {
		return
	}
	for i, m := range s.Methods {
		if m.Kind == Split && methods[i].get("split_layer") == nil && !given(methods[i].get("sweep")) {
			r.fault(methods[i].pos, "split method "+m.Name+" has no split_layer", "split_layer in the method or in sweep")
		}
	}
}

// checkAxesUsed reports axes that touch no method: the sweep would not do what it says.
func (r *reader) checkAxesUsed(s *Spec, any bool) {
	for _, g := range s.Sweep.Groups {
		for _, a := range g {
			k := axisKey(a.Name)
			suited, own := 0, 0
			for i := range s.Methods {
				if k.suits(&s.Methods[i]) {
					suited++
					if s.ownAxis(i, a.Name) != nil {
						own++
					}
				}
			}
			if suited > 0 && own == suited {
				r.fault(a.name, "every method has an axis "+a.Name+" of its own", "an axis that acts on a method")
			}
			if any && suited == 0 {
				r.fault(a.name, "no method has a use for axis "+a.Name, [...]string{
					frontWeights:     "a method with front, back, l_w or a split, and without a quantizer there",
					backWeights:      "a method with front, back, l_w or a split, and without a quantizer there",
					weightMethod:     "a method with front, back, l_w, a quantizer or a split",
					splitMethod:      "a split method: one with split_layer, boundary, preset, max_tokens or include_kv",
					boundaryMethod:   "a method with a boundary",
					quantizerMethod:  "a method with a quantizer",
					frontQuantizer:   "a method with front.quantizer",
					backQuantizer:    "a method with back.quantizer",
					calibratedMethod: "a method with calibration",
				}[k.needs])
			}
		}
	}
}

// checkOverrides reports knobs that were set from outside for nothing, because the sweep replaces them.
func (r *reader) checkOverrides(s *Spec) {
	for _, o := range r.set {
		for _, g := range s.Sweep.Groups {
			if slices.ContainsFunc(g, func(a Axis) bool { return a.Name == o.axis }) {
				r.fault(o.at, "the sweep has an axis "+o.axis+" that replaces this", "sweep."+o.axis+"=[…]")
			}
		}
	}
}

// checkExclude asks that the names in exclude exist.
func (r *reader) checkExclude(s *Spec, n *node) {
	if n == nil || n.kind != listNode {
		return
	}
	var models, tasks, methods []string
	for _, m := range s.Models {
		models = append(models, m.Name)
	}
	for _, t := range s.Tasks {
		tasks = append(tasks, t.Name)
	}
	for _, m := range s.Methods {
		methods = append(methods, m.Name)
	}
	for _, point := range n.items {
		for what, known := range map[string][]string{"model": models, "task": tasks, "method": methods} {
			if v := point.get(what); v != nil && stringOf(v) != "" && !slices.Contains(known, stringOf(v)) {
				r.fault(v.pos, fmt.Sprintf("there is no %s %s", what, stringOf(v)), "one of "+strings.Join(known, ", "))
			}
		}
	}
}

// bindScopes collects what methods keep to themselves.
func (s *Spec) bindScopes(methods []*node) {
	for i, n := range methods {
		var own Scope
		if tasks := n.get("tasks"); tasks != nil {
			for _, item := range tasks.items {
				own.Tasks = append(own.Tasks, stringOf(item))
			}
		}
		if v := n.get("sweep"); v != nil && v.kind == mappingNode {
			own.Groups = bindSweep(v).Groups
		}
		if own.Tasks == nil && own.Groups == nil {
			continue
		}
		if s.Scopes == nil {
			s.Scopes = make([]Scope, len(methods))
		}
		s.Scopes[i] = own
	}
}

// checkScopes asks that a method's tasks are there, and that it has a use for its axes.
func (r *reader) checkScopes(s *Spec, methods []*node) {
	var known []string
	for _, t := range s.Tasks {
		known = append(known, t.Name)
	}
	for i, own := range s.Scopes {
		if tasks := methods[i].get("tasks"); tasks != nil {
			for j, item := range tasks.items {
				switch name := stringOf(item); {
				case name == "":
				case !slices.Contains(known, name):
					r.fault(item.pos, "there is no task "+name, "one of "+strings.Join(known, ", "))
				case slices.Contains(own.Tasks[:j], name):
					r.fault(item.pos, "tasks names "+name+" twice", "each once")
				}
			}
		}
		for _, g := range own.Groups {
			for _, a := range g {
				if !axisKey(a.Name).suits(&s.Methods[i]) {
					r.fault(a.name, "method "+s.Methods[i].Name+" has no use for axis "+a.Name, "an axis that acts on it")
				}
			}
		}
		for _, g := range s.Sweep.Groups {
			r.checkZip(s, i, g)
		}
	}
}

// checkZip asks that a method replaces all axes of a group of the experiment or none: the values of a zip belong together.
func (r *reader) checkZip(s *Spec, i int, g Group) {
	var replaced []*Axis
	left := ""
	for _, a := range g {
		if own := s.ownAxis(i, a.Name); own != nil {
			replaced = append(replaced, own)
		} else if axisKey(a.Name).suits(&s.Methods[i]) {
			left = a.Name
		}
	}
	if left == "" {
		return
	}
	for _, own := range replaced {
		r.fault(own.name, "axis "+own.Name+" of method "+s.Methods[i].Name+" replaces one of a zip of the sweep and leaves its "+left, "axes of its own for the whole zip")
	}
}

// ownAxis returns the axis of a name that method i has of its own, nil where it has none.
func (s *Spec) ownAxis(i int, name string) *Axis {
	if i >= len(s.Scopes) {
		return nil
	}
	for _, g := range s.Scopes[i].Groups {
		for k := range g {
			if g[k].Name == name {
				return &g[k]
			}
		}
	}
	return nil
}

// groups are the groups of axes that method i is swept over: those of the experiment that suit it and that it has no
// axes of its own for, then its own.
func (s *Spec) groups(i int) []Group {
	var own []Group
	if i < len(s.Scopes) {
		own = s.Scopes[i].Groups
	}
	var out []Group
	for _, g := range s.Sweep.Groups {
		g = slices.DeleteFunc(slices.Clone(g), func(a Axis) bool {
			return !axisKey(a.Name).suits(&s.Methods[i]) || s.ownAxis(i, a.Name) != nil
		})
		if len(g) > 0 {
			out = append(out, g)
		}
	}
	return append(out, own...)
}

// scores says whether method i is scored on a task.
func (s *Spec) scores(i int, task Task) bool {
	return i >= len(s.Scopes) || s.Scopes[i].Tasks == nil || slices.Contains(s.Scopes[i].Tasks, task.Name)
}

// bindSweep collects the axes in written order.
func bindSweep(n *node) (s Sweep) {
	for i, kn := range n.keys {
		v := n.items[i]
		switch {
		case kn.text == "zip" && v.kind == listNode:
			for _, g := range v.items {
				var group Group
				for j, an := range g.keys {
					group = appendAxis(group, an, g.items[j])
				}
				if len(group) > 0 {
					s.Groups = append(s.Groups, group)
				}
			}
		case kn.text == "exclude" && v.kind == listNode:
			for _, p := range v.items {
				var point Point
				for j, en := range p.keys {
					point = append(point, Entry{Name: en.text, Value: p.items[j].value})
				}
				s.Exclude = append(s.Exclude, point)
			}
		default:
			if g := appendAxis(nil, kn, v); len(g) > 0 {
				s.Groups = append(s.Groups, g)
			}
		}
	}
	return s
}

func appendAxis(g Group, kn, values *node) Group {
	if axisKey(kn.text) == nil || values.kind != listNode {
		return g
	}
	a := Axis{Name: kn.text, name: kn.pos}
	for _, item := range values.items {
		a.Values = append(a.Values, item.value)
		a.positions = append(a.positions, item.pos)
	}
	return append(g, a)
}
