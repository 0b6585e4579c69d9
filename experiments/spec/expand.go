package spec

import (
	"fmt"
	"strings"
)

// Cells returns the points of the experiment in a stable order: by model, task, method, then the groups
// of the sweep in written order, the last varying fastest. An axis is skipped for methods it has no
// meaning for, and of several points that compute the same thing the first is kept.
//
// layers returns the number of blocks L of a model; with it, a split layer or l_w beyond L is a fault at
// the place of the value. layers may be nil, then nothing is asked of the models. Faults are returned
// together as Errors.
func (s *Spec) Cells(layers func(Model) (int, error)) ([]Cell, error) {
	var errs Errors
	groups := make([][]Group, len(s.Methods))
	total := 0
	swept := make([][]string, len(s.Methods)) // axes with several values, by method
	for i := range s.Methods {
		groups[i] = s.groups(i)
		points := 1
		for _, g := range groups[i] {
			points = min(points*len(g[0].Values), maxCells+1)
			for _, a := range g {
				if len(a.Values) > 1 {
					swept[i] = append(swept[i], a.Name)
				}
			}
		}
		tasks := 0
		for _, task := range s.Tasks {
			if s.scores(i, task) {
				tasks++
			}
		}
		total += min(points*len(s.Models), maxCells+1) * tasks
	}
	if total > maxCells {
		return nil, Errors{s.sweepAt.fault(fmt.Sprintf("the experiment has more than %d points", maxCells), "a smaller sweep")}
	}

	var out []Cell
	seen := map[identity]int{}  // to the method that came first
	points := map[[2]int]bool{} // method, and method that computed its points first
	alive := map[int]bool{}     // methods with a point of their own
	excluded := map[int]bool{}  // methods that lost points to exclude
	for mi, model := range s.Models {
		depth := 0
		if layers != nil {
			var err error
			if depth, err = layers(model); err != nil {
				errs = append(errs, place(s.modelsAt, mi).fault("model "+model.Name+": "+oneLine(err.Error()), "a readable model"))
				continue
			}
		}
		for _, task := range s.Tasks {
			for i := range s.Methods {
				if !s.scores(i, task) {
					alive[i] = true // elsewhere
					continue
				}
				for index := make([]int, len(groups[i])); index != nil; index = advance(index, groups[i]) {
					c, at := s.point(model, task, i, groups[i], index)
					c.swept = swept[i]
					if s.excluded(&c) {
						excluded[i] = true
						continue
					}
					if depth > 0 {
						errs = append(errs, beyond(&c, at, depth)...)
					}
					c.clip()
					id := c.identity()
					if first, again := seen[id]; again {
						points[[2]int{i, first}] = true
						continue
					}
					seen[id] = i
					alive[i] = true
					out = append(out, c)
				}
			}
		}
	}
	if len(errs) > 0 {
		return nil, sorted(errs, nil)
	}
	for i, m := range s.Methods {
		if alive[i] || excluded[i] {
			continue
		}
		for j, other := range s.Methods[:i] {
			if points[[2]int{i, j}] {
				errs = append(errs, place(s.methodsAt, i).method.fault("method "+m.Name+" computes nothing that method "+other.Name+" does not", "methods that differ in what the sweep leaves them"))
				break
			}
		}
	}
	if len(out) == 0 && len(errs) == 0 {
		errs = append(errs, s.sweepAt.fault("no point is left", "an exclude that leaves some"))
	}
	if len(errs) > 0 {
		return nil, sorted(errs, nil)
	}
	return out, nil
}

// point makes the resolved cell at an index into the groups of method i, and says where its layers are written.
func (s *Spec) point(model Model, task Task, i int, groups []Group, index []int) (Cell, written) {
	c := Cell{Model: model, Data: s.Data, Task: task, Protocol: s.Protocol, Chat: s.Chat, Seed: s.Seed, Timing: s.Timing, Method: s.Methods[i]}
	if task.Path != "" {
		c.Data = ""
	}
	if c.Method.Boundary != nil {
		b := *c.Method.Boundary
		c.Method.Boundary = &b
	}
	at := place(s.methodsAt, i)
	for g, group := range groups {
		for _, a := range group {
			axisKey(a.Name).store(&c, a.Values[index[g]])
			switch a.Name {
			case "split_layer":
				at.splitLayer = place(a.positions, index[g])
			case "l_w":
				at.precisionLayer = place(a.positions, index[g])
			}
		}
	}
	if c.Method.Calibration.Task != "" {
		c.Method.Calibration.Data = s.Data
	}
	c.resolve()
	return c, at
}

// place returns entry i; a Spec that was not read from a text has none.
func place[T any](at []T, i int) T {
	if i < len(at) {
		return at[i]
	}
	var none T
	return none
}

// advance steps an index over the groups, the last fastest; it returns nil after the last point.
func advance(index []int, groups []Group) []int {
	for g := len(index) - 1; g >= 0; g-- {
		if index[g]++; index[g] < len(groups[g][0].Values) {
			return index
		}
		index[g] = 0
	}
	return nil
}

// beyond reports layers of a cell that its model does not have.
func beyond(c *Cell, at written, depth int) Errors {
	var errs Errors
	expected := fmt.Sprintf("1 to %d", depth)
	if l := c.Method.SplitLayer; c.Method.Kind == Split && l > depth {
		errs = append(errs, at.splitLayer.fault(fmt.Sprintf("split_layer %d is beyond the last layer of model %s", l, c.Model.Name), expected))
	}
	if l := c.Method.PrecisionLayer; l > depth && (c.Method.Kind != Split || l != c.Method.SplitLayer) {
		errs = append(errs, at.precisionLayer.fault(fmt.Sprintf("l_w %d is beyond the last layer of model %s", l, c.Model.Name), expected))
	}
	return errs
}

// excluded reports whether an entry of exclude matches the cell.
func (s *Spec) excluded(c *Cell) bool {
	for _, p := range s.Sweep.Exclude {
		if p.matches(c) {
			return true
		}
	}
	return false
}

// matches reports whether all entries agree with the cell. A knob that does not act agrees with nothing.
func (p Point) matches(c *Cell) bool {
	for _, e := range p {
		var v any
		switch e.Name {
		case "model":
			v = c.Model.Name
		case "task":
			v = c.Task.Name
		case "method":
			v = c.Method.Name
		case "codec":
			if v = "none"; c.Method.Boundary != nil {
				v = c.Method.Boundary.Codec
			}
			if c.Method.Kind != Split {
				return false
			}
		case "clamp":
			if v = 0.0; c.Method.Boundary != nil {
				v = c.Method.Boundary.Clamp
			}
			if c.Method.Kind != Split {
				return false
			}
		default:
			k := axisKey(strings.TrimSpace(e.Name))
			if k == nil || !k.acts(c) {
				return false
			}
			v = k.load(c)
		}
		if v != e.Value {
			return false
		}
	}
	return len(p) > 0
}

// identity is a cell without the names of its method; of resolved cells with one model, two have equal
// identities exactly when they have equal canonical forms.
type identity struct {
	model      Model
	task       Task
	protocol   string
	chat       string
	seed       int
	method     Method
	boundary   Boundary
	compressed bool
}

func (c *Cell) identity() identity {
	id := identity{model: c.Model, task: c.Task, protocol: c.Protocol, chat: c.Chat, seed: c.Seed, method: c.Method}
	id.method.Name, id.method.Boundary = "", nil
	front, back := c.Method.Segments()
	id.method.Preset, id.method.Quantizer = "", Quantizer{}
	id.method.Front.Quantizer, id.method.Back.Quantizer = front, back
	if !front.Set() && !back.Set() {
		id.method.Calibration = Calibration{}
	}
	if c.Method.Boundary != nil {
		id.boundary, id.compressed = *c.Method.Boundary, true
	}
	return id
}
