package chat

import (
	"cmp"
	"math"
	"strings"
	"unicode/utf8"
)

// Bounds of one Render call. A step is one statement, expression or element looked at; memory is the sum of what strings and lists take, whether still in use or not.
const (
	maxSteps       = 5_000_000
	maxMemoryBytes = 64 << 20
)

type scope struct {
	names  map[string]any
	parent *scope
}

func (s *scope) get(name string) (any, bool) {
	for ; s != nil; s = s.parent {
		if v, ok := s.names[name]; ok {
			return v, true
		}
	}
	return nil, false
}

// set binds a name in this scope; the map is made on first use since most loop rounds set little.
func (s *scope) set(name string, v any) {
	if s.names == nil {
		s.names = map[string]any{}
	}
	s.names[name] = v
}

type evaluator struct {
	out    strings.Builder
	scope  *scope
	steps  int
	line   int // of the last thing evaluated that has one
	memory int
}

// jump tells what a break or continue statement does to the loop around it.
type jump uint8

const (
	jumpNone jump = iota
	jumpBreak
	jumpContinue
)

func (e *evaluator) step(line int) error {
	e.steps++
	if line != 0 {
		e.line = line
	}
	if e.steps > maxSteps {
		return errorAt(e.line, "rendering takes more than %d steps", maxSteps)
	}
	return nil
}

// nested counts a step at a depth of a value.
func (e *evaluator) nested(line, depth int) error {
	if depth > maxValueNesting {
		return errorAt(line, "value is nested more than %d deep", maxValueNesting)
	}
	return e.step(line)
}

// charge counts bytes of a new value.
func (e *evaluator) charge(line, n int) error {
	e.memory += n
	if e.memory > maxMemoryBytes {
		return errorAt(line, "rendering takes more than %d bytes of memory", maxMemoryBytes)
	}
	return e.work(line, n)
}

// work counts the reading of n bytes, as steps of 64.
func (e *evaluator) work(line, n int) error {
	e.steps += n / 64
	return e.step(line)
}

// newList makes a list and counts its memory.
func (e *evaluator) newList(line int, items []any, kind listKind) (any, error) {
	return &list{items, kind}, e.charge(line, 16*len(items))
}

func (e *evaluator) write(line int, s string) error {
	if e.out.Len()+len(s) > MaxOutputBytes {
		return errorAt(line, "output is longer than %d bytes", MaxOutputBytes)
	}
	e.out.WriteString(s)
	return nil
}

func (e *evaluator) run(body []node) (jump, error) {
	for _, n := range body {
		if err := e.step(lineOf(n)); err != nil {
			return jumpNone, err
		}
		switch n := n.(type) {
		case textNode:
			if err := e.write(n.line, n.text); err != nil {
				return jumpNone, err
			}
		case outputNode:
			v, err := e.eval(n.expr)
			if err != nil {
				return jumpNone, err
			}
			s, err := e.str(n.line, v)
			if err != nil {
				return jumpNone, err
			}
			if err := e.write(n.line, s); err != nil {
				return jumpNone, err
			}
		case ifNode:
			i := 0
			for ; i < len(n.tests); i++ {
				v, err := e.eval(n.tests[i])
				if err != nil {
					return jumpNone, err
				}
				if truth(v) {
					break
				}
			}
			if i < len(n.bodies) {
				if j, err := e.run(n.bodies[i]); j != jumpNone || err != nil {
					return j, err
				}
			}
		case forNode:
			// A jump in the else branch belongs to the loop around this one.
			if j, err := e.forLoop(n); j != jumpNone || err != nil {
				return j, err
			}
		case setNode:
			if err := e.assign(n); err != nil {
				return jumpNone, err
			}
		case jumpNode:
			if n.stop {
				return jumpBreak, nil
			}
			return jumpContinue, nil
		}
	}
	return jumpNone, nil
}

func (e *evaluator) assign(n setNode) error {
	v, err := e.eval(n.value)
	if err != nil {
		return err
	}
	if n.namespace == "" {
		return e.bind(n.line, n.targets, n.unpack, v)
	}
	of, ok := e.scope.get(n.namespace)
	ns, isNamespace := of.(*namespace)
	if !ok || !isNamespace {
		return errorAt(n.line, "%s is no namespace: its attribute cannot be set", n.namespace)
	}
	if _, ok := ns.values[n.targets[0]]; !ok {
		if err := e.charge(n.line, 64); err != nil {
			return err
		}
	}
	ns.values[n.targets[0]] = v
	return nil
}

// bind sets names of the innermost scope, unpacking v when there are several.
func (e *evaluator) bind(line int, names []string, unpack bool, v any) error {
	if !unpack {
		e.scope.set(names[0], v)
		return nil
	}
	items, err := e.items(line, v)
	if err != nil {
		return err
	}
	if len(items) != len(names) {
		return errorAt(line, "%d values cannot be unpacked into %d names", len(items), len(names))
	}
	for i, name := range names {
		e.scope.set(name, items[i])
	}
	return nil
}

func (e *evaluator) forLoop(n forNode) (jump, error) {
	v, err := e.eval(n.iter)
	if err != nil {
		return jumpNone, err
	}
	items, err := e.items(n.line, v)
	if err != nil {
		return jumpNone, err
	}
	outer := e.scope
	defer func() { e.scope = outer }()
	if n.filter != nil {
		var kept []any
		for _, item := range items {
			e.scope = &scope{parent: outer}
			if err := e.bind(n.line, n.targets, n.unpack, item); err != nil {
				return jumpNone, err
			}
			v, err := e.eval(n.filter)
			if err != nil {
				return jumpNone, err
			}
			if truth(v) {
				kept = append(kept, item)
			}
		}
		items = kept
		if err := e.charge(n.line, 16*len(kept)); err != nil {
			return jumpNone, err
		}
	}
	state := &loopState{items: items}
	for i, item := range items {
		if err := e.step(n.line); err != nil {
			return jumpNone, err
		}
		state.index = i
		e.scope = &scope{parent: outer}
		e.scope.set("loop", state)
		if err := e.bind(n.line, n.targets, n.unpack, item); err != nil {
			return jumpNone, err
		}
		j, err := e.run(n.body)
		if err != nil {
			return jumpNone, err
		}
		if j == jumpBreak {
			break
		}
	}
	if len(items) > 0 || n.other == nil {
		return jumpNone, nil
	}
	e.scope = &scope{parent: outer}
	return e.run(n.other)
}

// items lists what iterating over v gives; a generator is empty afterwards.
func (e *evaluator) items(line int, v any) ([]any, error) {
	switch v := v.(type) {
	case undefined:
		return nil, nil
	case *list:
		items := v.items
		if v.kind == lazyList {
			v.items = nil
		}
		return items, e.step(line)
	case *dict:
		items := make([]any, len(v.keys))
		for i, k := range v.keys {
			items[i] = k
		}
		return items, e.charge(line, 32*len(items))
	case string:
		if err := e.charge(line, 32*utf8.RuneCountInString(v)); err != nil {
			return nil, err
		}
		var items []any
		for _, r := range v {
			items = append(items, string(r))
		}
		return items, nil
	}
	return nil, errorAt(line, "a value of type %s cannot be iterated over", typeName(v))
}

func (e *evaluator) eval(n node) (any, error) {
	if err := e.step(lineOf(n)); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case literalNode:
		return n.value, nil
	case nameNode:
		if v, ok := e.scope.get(n.name); ok {
			return v, nil
		}
		return undefined{n.name + " is undefined"}, nil
	case listNode:
		items, err := e.evalAll(n.items)
		if err != nil {
			return nil, err
		}
		kind := plainList
		if n.tuple {
			kind = tupleList
		}
		return e.newList(n.line, items, kind)
	case dictNode:
		d := newDict()
		for i := range n.keys {
			k, err := e.eval(n.keys[i])
			if err != nil {
				return nil, err
			}
			s, ok := k.(string)
			if !ok {
				return nil, errorAt(n.line, "dict key of type %s is not supported: str expected", typeName(k))
			}
			v, err := e.eval(n.values[i])
			if err != nil {
				return nil, err
			}
			d.set(s, v)
		}
		return d, e.charge(n.line, 64*len(n.keys))
	case attrNode:
		of, err := e.eval(n.of)
		if err != nil {
			return nil, err
		}
		return e.attribute(n.line, of, n.name)
	case indexNode:
		of, err := e.eval(n.of)
		if err != nil {
			return nil, err
		}
		i, err := e.eval(n.index)
		if err != nil {
			return nil, err
		}
		return e.index(n.line, of, i)
	case sliceNode:
		return e.slice(n)
	case callNode:
		return e.callFunction(n)
	case filterNode:
		of, err := e.eval(n.of)
		if err != nil {
			return nil, err
		}
		args, named, err := e.arguments(n.args)
		if err != nil {
			return nil, err
		}
		return e.filter(n.line, n.name, of, args, named)
	case testNode:
		of, err := e.eval(n.of)
		if err != nil {
			return nil, err
		}
		args, named, err := e.arguments(n.args)
		if err != nil {
			return nil, err
		}
		if len(named) > 0 {
			return nil, errorAt(n.line, "test %q takes no named arguments", n.name)
		}
		return e.test(n.line, n.name, of, args)
	case unaryNode:
		return e.unary(n)
	case binaryNode:
		return e.binary(n)
	case compareNode:
		a, err := e.eval(n.first)
		if err != nil {
			return nil, err
		}
		for i, op := range n.ops {
			b, err := e.eval(n.operands[i])
			if err != nil {
				return nil, err
			}
			ok, err := e.compare(n.line, op, a, b)
			if !ok || err != nil {
				return false, err
			}
			a = b
		}
		return true, nil
	case condNode:
		t, err := e.eval(n.test)
		if err != nil {
			return nil, err
		}
		switch {
		case truth(t):
			return e.eval(n.yes)
		case n.not != nil:
			return e.eval(n.not)
		}
		return undefined{"the condition is false and has no else"}, nil
	}
	return nil, errorAt(0, "expression %T is not supported", n)
}

// lineOf gives the line of a node, or 0 where the nodes around it tell it.
func lineOf(n node) int {
	switch n := n.(type) {
	case textNode:
		return n.line
	case nameNode:
		return n.line
	case attrNode:
		return n.line
	case indexNode:
		return n.line
	case callNode:
		return n.line
	case filterNode:
		return n.line
	case binaryNode:
		return n.line
	case compareNode:
		return n.line
	}
	return 0
}

func (e *evaluator) evalAll(nodes []node) ([]any, error) {
	values := make([]any, len(nodes))
	for i, n := range nodes {
		v, err := e.eval(n)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

func (e *evaluator) arguments(a arguments) ([]any, map[string]any, error) {
	args, err := e.evalAll(a.positional)
	if err != nil || len(a.named) == 0 {
		return args, nil, err
	}
	named := map[string]any{}
	for i, n := range a.named {
		if named[a.names[i]], err = e.eval(n); err != nil {
			return nil, nil, err
		}
	}
	return args, named, nil
}

func (e *evaluator) callFunction(n callNode) (any, error) {
	fn, err := e.eval(n.fn)
	if err != nil {
		return nil, err
	}
	args, named, err := e.arguments(n.args)
	if err != nil {
		return nil, err
	}
	switch f := fn.(type) {
	case *function:
		return f.call(e, n.line, args, named)
	case undefined:
		return nil, errorAt(n.line, "%s and cannot be called", f.reason)
	}
	return nil, errorAt(n.line, "a value of type %s cannot be called", typeName(fn))
}

func (e *evaluator) unary(n unaryNode) (any, error) {
	v, err := e.eval(n.of)
	if err != nil {
		return nil, err
	}
	if n.op == "not" {
		return !truth(v), nil
	}
	i, f, isInt, ok := number(v)
	switch {
	case !ok:
		return nil, e.operandError(n.line, n.op, v, nil, true)
	case n.op == "+" && isInt:
		return i, nil
	case n.op == "+":
		return f, nil
	case !isInt:
		return -f, nil
	case i == math.MinInt64:
		return nil, errorAt(n.line, "integer is out of the 64-bit range")
	}
	return -i, nil
}

func (e *evaluator) operandError(line int, op string, a, b any, single bool) error {
	for _, v := range []any{a, b} {
		if u, ok := v.(undefined); ok {
			return errorAt(line, "%s: operator %q needs a value", u.reason, op)
		}
	}
	if single {
		return errorAt(line, "operator %q does not work on %s", op, typeName(a))
	}
	return errorAt(line, "operator %q does not work on %s and %s", op, typeName(a), typeName(b))
}

func (e *evaluator) binary(n binaryNode) (any, error) {
	a, err := e.eval(n.a)
	if err != nil {
		return nil, err
	}
	if n.op == "and" && !truth(a) || n.op == "or" && truth(a) {
		return a, nil
	}
	b, err := e.eval(n.b)
	if err != nil || n.op == "and" || n.op == "or" {
		return b, err
	}
	if n.op == "~" {
		s, err := e.str(n.line, a)
		if err != nil {
			return nil, err
		}
		t, err := e.str(n.line, b)
		if err != nil {
			return nil, err
		}
		return e.join(n.line, s, t)
	}
	if n.op == "+" {
		s, aString := a.(string)
		t, bString := b.(string)
		if aString && bString {
			return e.join(n.line, s, t)
		}
		l, aList := a.(*list)
		m, bList := b.(*list)
		if aList && bList && l.kind == m.kind && l.kind < viewList {
			if err := e.charge(n.line, 16*(len(l.items)+len(m.items))); err != nil {
				return nil, err
			}
			return &list{append(append([]any(nil), l.items...), m.items...), l.kind}, nil
		}
	}
	return e.arithmetic(n.line, n.op, a, b)
}

// join concatenates two strings; the memory is counted before it is taken.
func (e *evaluator) join(line int, a, b string) (any, error) {
	if err := e.charge(line, len(a)+len(b)); err != nil {
		return nil, err
	}
	return a + b, nil
}

func (e *evaluator) arithmetic(line int, op string, a, b any) (any, error) {
	i, f, aInt, aNum := number(a)
	j, g, bInt, bNum := number(b)
	if !aNum || !bNum {
		return nil, e.operandError(line, op, a, b, false)
	}
	if (op == "/" || op == "//" || op == "%") && g == 0 {
		return nil, errorAt(line, "division by zero")
	}
	if op == "/" {
		return f / g, nil
	}
	if !aInt || !bInt {
		switch op {
		case "+":
			return f + g, nil
		case "-":
			return f - g, nil
		case "*":
			return f * g, nil
		}
		return nil, errorAt(line, "operator %q on floats is not supported", op)
	}
	r, exact := int64(0), true
	switch op {
	case "+":
		r = i + j
		exact = (r > i) == (j > 0)
	case "-":
		r = i - j
		exact = (r < i) == (j > 0)
	case "*":
		r = i * j
		exact = i == 0 || r/i == j && !(i == -1 && j == math.MinInt64)
	case "//":
		r = i / j
		if i%j != 0 && (i < 0) != (j < 0) { // rounds down, as Python does
			r--
		}
		exact = i != math.MinInt64 || j != -1
	case "%":
		r = i % j
		if r != 0 && (r < 0) != (j < 0) { // has the sign of the divisor
			r += j
		}
	}
	if !exact {
		return nil, errorAt(line, "integer is out of the 64-bit range")
	}
	return r, nil
}

func (e *evaluator) compare(line int, op string, a, b any) (bool, error) {
	switch op {
	case "==", "!=":
		same, err := e.equal(line, a, b, 0)
		return same == (op == "=="), err
	case "in", "not in":
		found, err := e.contains(line, b, a)
		return found == (op == "in"), err
	}
	order := 0
	s, aString := a.(string)
	t, bString := b.(string)
	i, f, aInt, aNum := number(a)
	j, g, bInt, bNum := number(b)
	switch {
	case aString && bString:
		if err := e.work(line, min(len(s), len(t))); err != nil {
			return false, err
		}
		order = strings.Compare(s, t)
	case aInt && bInt:
		order = cmp.Compare(i, j)
	case aNum && bNum:
		switch op { // not by an order: NaN has none
		case "<":
			return f < g, nil
		case "<=":
			return f <= g, nil
		case ">":
			return f > g, nil
		}
		return f >= g, nil
	default:
		return false, e.operandError(line, op, a, b, false)
	}
	switch op {
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	}
	return order >= 0, nil
}

// contains is Python's v in of.
func (e *evaluator) contains(line int, of, v any) (bool, error) {
	switch of := of.(type) {
	case string:
		s, ok := v.(string)
		if !ok {
			return false, e.operandError(line, "in", v, of, false)
		}
		return strings.Contains(of, s), e.work(line, len(of))
	case *dict:
		s, ok := v.(string)
		if !ok {
			return false, nil
		}
		_, found := of.values[s]
		return found, e.work(line, len(s))
	case undefined, *list:
		items, err := e.items(line, of)
		if err != nil {
			return false, err
		}
		for _, item := range items {
			if same, err := e.equal(line, item, v, 0); same || err != nil {
				return same, err
			}
		}
		return false, nil
	}
	return false, e.operandError(line, "in", v, of, false)
}

// index is of[i]: an element, or failing that an attribute, as in Jinja.
func (e *evaluator) index(line int, of, i any) (any, error) {
	name, isName := i.(string)
	if err := e.work(line, len(name)); err != nil {
		return nil, err
	}
	switch of := of.(type) {
	case undefined:
		return nil, errorAt(line, "%s: no element can be taken from it", of.reason)
	case *dict:
		if isName {
			if v, ok := of.values[name]; ok {
				return v, nil
			}
		}
	case *list:
		if k, _, isInt, ok := number(i); ok && isInt && of.kind < viewList {
			if k < 0 {
				k += int64(len(of.items))
			}
			if k >= 0 && k < int64(len(of.items)) {
				return of.items[k], nil
			}
			return undefined{typeName(of) + " object has no such element"}, nil
		}
	case string:
		if k, _, isInt, ok := number(i); ok && isInt {
			r, err := e.runes(line, of)
			if err != nil {
				return nil, err
			}
			if k < 0 {
				k += int64(len(r))
			}
			if k >= 0 && k < int64(len(r)) {
				return string(r[k]), nil
			}
			return undefined{"str object has no such element"}, nil
		}
	}
	if isName {
		return e.attribute(line, of, name)
	}
	return undefined{typeName(of) + " object has no such element"}, nil
}

// runes splits a string into code points.
func (e *evaluator) runes(line int, s string) ([]rune, error) {
	if err := e.charge(line, 4*len(s)); err != nil {
		return nil, err
	}
	return []rune(s), nil
}

func (e *evaluator) slice(n sliceNode) (any, error) {
	of, err := e.eval(n.of)
	if err != nil {
		return nil, err
	}
	var runes []rune
	length := 0
	l, isList := of.(*list)
	s, isString := of.(string)
	switch {
	case isList && l.kind < viewList:
		length = len(l.items)
	case isString:
		if runes, err = e.runes(n.line, s); err != nil {
			return nil, err
		}
		length = len(runes)
	default:
		if u, ok := of.(undefined); ok {
			return nil, errorAt(n.line, "%s: no slice can be taken from it", u.reason)
		}
		return nil, errorAt(n.line, "a value of type %s cannot be sliced", typeName(of))
	}
	start, stop, step, err := e.sliceBounds(n, length)
	if err != nil {
		return nil, err
	}
	var picked []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		picked = append(picked, i)
	}
	if isString {
		out := make([]rune, len(picked))
		for k, i := range picked {
			out[k] = runes[i]
		}
		return string(out), e.charge(n.line, 4*len(out))
	}
	items := make([]any, len(picked))
	for k, i := range picked {
		items[k] = l.items[i]
	}
	return e.newList(n.line, items, l.kind)
}

// sliceBounds is Python's slice.indices.
func (e *evaluator) sliceBounds(n sliceNode, length int) (start, stop, step int, err error) {
	at := func(part node, fallback, low, high int) (int, error) {
		if part == nil {
			return fallback, nil
		}
		v, err := e.eval(part)
		if err != nil || v == nil {
			return fallback, err
		}
		i, _, isInt, ok := number(v)
		if !ok || !isInt {
			return 0, errorAt(n.line, "slice bound of type %s: int expected", typeName(v))
		}
		if i < 0 && low != math.MinInt32 {
			i += int64(length)
		}
		return int(max(int64(low), min(int64(high), i))), nil
	}
	// Steps beyond the length all do the same, so they are cut to what cannot overflow.
	if step, err = at(n.step, 1, math.MinInt32, math.MaxInt32); err != nil {
		return 0, 0, 0, err
	}
	if step == 0 {
		return 0, 0, 0, errorAt(n.line, "slice step is zero")
	}
	low, high := 0, length
	first, last := 0, length
	if step < 0 {
		low, high = -1, length-1
		first, last = length-1, -1
	}
	if start, err = at(n.start, first, low, high); err != nil {
		return 0, 0, 0, err
	}
	stop, err = at(n.stop, last, low, high)
	return start, stop, step, err
}
