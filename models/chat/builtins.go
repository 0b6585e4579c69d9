package chat

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// What a template may name. Anything else of Jinja is an error of Parse.
var (
	filterNames = []string{"trim", "length", "count", "list", "join", "string", "tojson", "items", "select", "reject", "selectattr", "rejectattr", "first", "last", "default", "d"}
	testNames   = []string{"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "float", "boolean", "true", "false", "equalto", "eq", "ne", "in", "odd", "even"}
	methodNames = []string{"strip", "lstrip", "rstrip", "startswith", "endswith", "split", "replace", "items", "keys", "values", "get"}
)

// Attributes that Python's own types have. They hide a dict's keys behind a dot, and make "is defined" true, so one that is not done here is an error.
var (
	stringAttributes = strings.Fields("capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title translate upper zfill")
	dictAttributes   = strings.Fields("clear copy fromkeys get items keys pop popitem setdefault update values")
	listAttributes   = strings.Fields("append clear copy count extend index insert pop remove reverse sort")
	numberAttributes = strings.Fields("as_integer_ratio bit_count bit_length conjugate denominator from_bytes fromhex hex imag is_integer numerator real to_bytes")
)

// attribute is of.name: an attribute of the type, or failing that a key.
func (e *evaluator) attribute(line int, of any, name string) (any, error) {
	if strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__") {
		return nil, errorAt(line, "attribute %s is not supported", shortQuote(name))
	}
	var own []string
	switch of := of.(type) {
	case undefined:
		return nil, errorAt(line, "%s: attribute %s cannot be taken from it", of.reason, shortQuote(name))
	case *loopState:
		return of.attribute(line, name)
	case *namespace:
		if v, ok := of.values[name]; ok {
			return v, nil
		}
	case string:
		if m, ok := stringMethods[name]; ok {
			return &function{name, func(e *evaluator, line int, args []any, named map[string]any) (any, error) {
				return m(e, line, of, args, named)
			}}, nil
		}
		own = stringAttributes
	case *dict:
		if m, ok := dictMethods[name]; ok {
			return &function{name, func(e *evaluator, line int, args []any, named map[string]any) (any, error) {
				return m(e, line, of, args, named)
			}}, nil
		}
		if v, ok := of.values[name]; ok && !slices.Contains(dictAttributes, name) {
			return v, nil
		}
		own = dictAttributes
	case *list:
		own = listAttributes
	case bool, int64, float64:
		own = numberAttributes
	}
	if slices.Contains(own, name) {
		return nil, errorAt(line, "attribute %s of %s is not supported", shortQuote(name), typeName(of))
	}
	return undefined{typeName(of) + " object has no attribute " + shortQuote(name)}, nil
}

func (l *loopState) attribute(line int, name string) (any, error) {
	n, i := int64(len(l.items)), int64(l.index)
	switch name {
	case "index":
		return i + 1, nil
	case "index0":
		return i, nil
	case "revindex":
		return n - i, nil
	case "revindex0":
		return n - i - 1, nil
	case "first":
		return i == 0, nil
	case "last":
		return i == n-1, nil
	case "length":
		return n, nil
	case "depth": // Jinja counts the levels of recursive loops only
		return int64(1), nil
	case "depth0":
		return int64(0), nil
	case "previtem":
		if i == 0 {
			return undefined{"there is no previous item"}, nil
		}
		return l.items[i-1], nil
	case "nextitem":
		if i == n-1 {
			return undefined{"there is no next item"}, nil
		}
		return l.items[i+1], nil
	}
	return nil, errorAt(line, "attribute %s of loop is not supported", shortQuote(name))
}

// optional gives the only argument, by position or name, or fallback.
func optional(line int, what, name string, args []any, named map[string]any, fallback any) (any, error) {
	v, ok := named[name]
	rest := len(named)
	if ok {
		rest--
	} else if len(args) > 0 {
		v, args, ok = args[0], args[1:], true
	}
	if rest > 0 || len(args) > 0 {
		return nil, errorAt(line, "%s takes one argument at most", what)
	}
	if !ok {
		return fallback, nil
	}
	return v, nil
}

// texts checks that there are between low and high arguments, all of them strings.
func texts(line int, what string, args []any, named map[string]any, low, high int) ([]string, error) {
	if len(args) < low || len(args) > high || len(named) > 0 {
		return nil, errorAt(line, "%s takes %d to %d arguments without names", what, low, high)
	}
	out := make([]string, len(args))
	for i, a := range args {
		s, ok := a.(string)
		if !ok {
			return nil, errorAt(line, "argument %d of %s is of type %s: str expected", i+1, what, typeName(a))
		}
		out[i] = s
	}
	return out, nil
}

var stringMethods = map[string]func(e *evaluator, line int, s string, args []any, named map[string]any) (any, error){
	"strip":  stripMethod("strip", true, true),
	"lstrip": stripMethod("lstrip", true, false),
	"rstrip": stripMethod("rstrip", false, true),
	"startswith": func(e *evaluator, line int, s string, args []any, named map[string]any) (any, error) {
		t, err := texts(line, "startswith", args, named, 1, 1)
		if err != nil {
			return nil, err
		}
		return strings.HasPrefix(s, t[0]), e.work(line, len(t[0]))
	},
	"endswith": func(e *evaluator, line int, s string, args []any, named map[string]any) (any, error) {
		t, err := texts(line, "endswith", args, named, 1, 1)
		if err != nil {
			return nil, err
		}
		return strings.HasSuffix(s, t[0]), e.work(line, len(t[0]))
	},
	"split": func(e *evaluator, line int, s string, args []any, named map[string]any) (any, error) {
		t, err := texts(line, "split", args, named, 0, 1)
		if err != nil {
			return nil, err
		}
		var parts []string
		switch {
		case len(t) == 0:
			if err := e.charge(line, 16*len(s)); err != nil {
				return nil, err
			}
			parts = strings.FieldsFunc(s, isSpace)
		case t[0] == "":
			return nil, errorAt(line, "separator of split is empty")
		default:
			if err := e.charge(line, 32*(strings.Count(s, t[0])+1)+len(s)); err != nil {
				return nil, err
			}
			parts = strings.Split(s, t[0])
		}
		items := make([]any, len(parts))
		for i, p := range parts {
			items[i] = p
		}
		return e.newList(line, items, plainList)
	},
	"replace": func(e *evaluator, line int, s string, args []any, named map[string]any) (any, error) {
		t, err := texts(line, "replace", args, named, 2, 2)
		if err != nil {
			return nil, err
		}
		n := strings.Count(s, t[0])
		if err := e.charge(line, len(s)+n*len(t[1])); err != nil {
			return nil, err
		}
		return strings.ReplaceAll(s, t[0], t[1]), nil
	},
}

func stripMethod(name string, left, right bool) func(e *evaluator, line int, s string, args []any, named map[string]any) (any, error) {
	return func(e *evaluator, line int, s string, args []any, named map[string]any) (any, error) {
		cut := isSpace
		if len(args) != 1 || args[0] != nil {
			t, err := texts(line, name, args, named, 0, 1)
			if err != nil {
				return nil, err
			}
			if len(t) == 1 {
				cut = func(r rune) bool { return strings.ContainsRune(t[0], r) }
				if err := e.work(line, len(s)*len(t[0])); err != nil {
					return nil, err
				}
			}
		}
		return e.trim(line, s, left, right, cut)
	}
}

func (e *evaluator) trim(line int, s string, left, right bool, cut func(rune) bool) (any, error) {
	if left {
		s = strings.TrimLeftFunc(s, cut)
	}
	if right {
		s = strings.TrimRightFunc(s, cut)
	}
	return s, e.work(line, len(s))
}

var dictMethods = map[string]func(e *evaluator, line int, d *dict, args []any, named map[string]any) (any, error){
	"items": func(e *evaluator, line int, d *dict, args []any, named map[string]any) (any, error) {
		if len(args)+len(named) > 0 {
			return nil, errorAt(line, "items takes no arguments")
		}
		return e.pairs(line, d, viewList)
	},
	"keys": func(e *evaluator, line int, d *dict, args []any, named map[string]any) (any, error) {
		if len(args)+len(named) > 0 {
			return nil, errorAt(line, "keys takes no arguments")
		}
		items, err := e.items(line, d)
		return &list{items, viewList}, err
	},
	"values": func(e *evaluator, line int, d *dict, args []any, named map[string]any) (any, error) {
		if len(args)+len(named) > 0 {
			return nil, errorAt(line, "values takes no arguments")
		}
		items := make([]any, len(d.keys))
		for i, k := range d.keys {
			items[i] = d.values[k]
		}
		return e.newList(line, items, viewList)
	},
	"get": func(e *evaluator, line int, d *dict, args []any, named map[string]any) (any, error) {
		if len(args) < 1 || len(args) > 2 || len(named) > 0 {
			return nil, errorAt(line, "get takes 1 to 2 arguments without names")
		}
		if k, ok := args[0].(string); ok {
			if err := e.work(line, len(k)); err != nil {
				return nil, err
			}
			if v, ok := d.values[k]; ok {
				return v, nil
			}
		}
		if len(args) == 2 {
			return args[1], nil
		}
		return nil, nil
	},
}

// pairs lists a dict's keys with their values.
func (e *evaluator) pairs(line int, d *dict, kind listKind) (any, error) {
	items := make([]any, len(d.keys))
	for i, k := range d.keys {
		items[i] = &list{[]any{k, d.values[k]}, tupleList}
	}
	return &list{items, kind}, e.charge(line, 96*len(items))
}

func (e *evaluator) filter(line int, name string, of any, args []any, named map[string]any) (any, error) {
	if u, ok := of.(undefined); ok && name == "items" || ok && name == "tojson" {
		if name == "items" {
			return &list{kind: lazyList}, nil
		}
		return nil, errorAt(line, "%s: it cannot be written as JSON", u.reason)
	}
	switch name {
	case "trim":
		chars, err := optional(line, "filter trim", "chars", args, named, nil)
		if err != nil {
			return nil, err
		}
		s, err := e.str(line, of)
		if err != nil {
			return nil, err
		}
		return stripMethod("filter trim", true, true)(e, line, s, []any{chars}, nil)
	case "tojson":
		return e.toJSON(line, of, args, named)
	case "join":
		return e.joinFilter(line, of, args, named)
	case "select", "reject", "selectattr", "rejectattr":
		return e.selectFilter(line, name, of, args, named)
	case "default", "d":
		return e.defaultFilter(line, of, args, named)
	}
	if len(args)+len(named) > 0 {
		return nil, errorAt(line, "filter %q takes no arguments", name)
	}
	switch name {
	case "length", "count":
		switch of := of.(type) {
		case string:
			return int64(utf8.RuneCountInString(of)), e.work(line, len(of))
		case *list:
			if of.kind != lazyList {
				return int64(len(of.items)), nil
			}
		case *dict:
			return int64(len(of.keys)), nil
		case undefined:
			return int64(0), nil
		}
		return nil, errorAt(line, "a value of type %s has no length", typeName(of))
	case "string":
		return e.str(line, of)
	case "items":
		d, ok := of.(*dict)
		if !ok {
			return nil, errorAt(line, "filter items works on a mapping, not on %s", typeName(of))
		}
		return e.pairs(line, d, lazyList)
	case "list":
		items, err := e.items(line, of)
		if err != nil {
			return nil, err
		}
		return e.newList(line, items, plainList)
	}
	if l, ok := of.(*list); name == "last" && ok && l.kind == lazyList {
		return nil, errorAt(line, "filter last does not work on a generator: list is missing")
	}
	items, err := e.items(line, of)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return undefined{"the sequence is empty: it has no " + name + " item"}, nil
	}
	if name == "first" {
		return items[0], nil
	}
	return items[len(items)-1], nil
}

func (e *evaluator) defaultFilter(line int, of any, args []any, named map[string]any) (any, error) {
	values := []any{"", false}
	if len(args) > 2 {
		return nil, errorAt(line, "filter default takes two arguments at most")
	}
	copy(values, args)
	for k, v := range named {
		i := slices.Index([]string{"default_value", "boolean"}, k)
		if i < len(args) {
			return nil, errorAt(line, "filter default does not take argument %s here", shortQuote(k))
		}
		values[i] = v
	}
	if _, ok := of.(undefined); ok || truth(values[1]) && !truth(of) {
		return values[0], nil
	}
	return of, nil
}

func (e *evaluator) joinFilter(line int, of any, args []any, named map[string]any) (any, error) {
	d, err := optional(line, "filter join", "d", args, named, "")
	if err != nil {
		return nil, err
	}
	separator, ok := d.(string)
	if !ok {
		return nil, errorAt(line, "separator of join is of type %s: str expected", typeName(d))
	}
	items, err := e.items(line, of)
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(items))
	for i, item := range items {
		if parts[i], err = e.str(line, item); err != nil {
			return nil, err
		}
		if err := e.charge(line, len(separator)+len(parts[i])+16); err != nil {
			return nil, err
		}
	}
	return strings.Join(parts, separator), nil
}

// selectFilter is select, reject, selectattr and rejectattr: the items that pass a test, or do not, by themselves or by an attribute.
func (e *evaluator) selectFilter(line int, name string, of any, args []any, named map[string]any) (any, error) {
	if len(named) > 0 {
		return nil, errorAt(line, "filter %q takes no named arguments", name)
	}
	var path []string
	if strings.HasSuffix(name, "attr") {
		if len(args) == 0 {
			return nil, errorAt(line, "filter %q needs an attribute", name)
		}
		s, ok := args[0].(string)
		if !ok {
			return nil, errorAt(line, "attribute of filter %q is of type %s: str expected", name, typeName(args[0]))
		}
		path = strings.Split(s, ".")
		args = args[1:]
		for _, p := range path {
			if p == "" || p[0] >= '0' && p[0] <= '9' {
				return nil, errorAt(line, "attribute %s of filter %q is not supported: names with dots expected", shortQuote(s), name)
			}
		}
	}
	test := ""
	if len(args) > 0 {
		s, ok := args[0].(string)
		if !ok || !slices.Contains(testNames, s) {
			return nil, errorAt(line, "test of filter %q is not supported", name)
		}
		test, args = s, args[1:]
	}
	items, err := e.items(line, of)
	if err != nil {
		return nil, err
	}
	want := strings.HasPrefix(name, "select")
	var kept []any
	for _, item := range items {
		v := item
		for _, p := range path {
			if v, err = e.index(line, v, p); err != nil {
				return nil, err
			}
		}
		ok := truth(v)
		if test != "" {
			if ok, err = e.test(line, test, v, args); err != nil {
				return nil, err
			}
		}
		if err := e.step(line); err != nil {
			return nil, err
		}
		if ok == want {
			kept = append(kept, item)
		}
	}
	return e.newList(line, kept, lazyList)
}

// toJSON is the filter tojson as chat templates have it: json.dumps, with ensure_ascii off and nothing escaped for HTML.
func (e *evaluator) toJSON(line int, v any, args []any, named map[string]any) (any, error) {
	if len(args) > 0 {
		return nil, errorAt(line, "filter tojson takes arguments by name only")
	}
	style := jsonStyle{indent: -1, item: ", ", keyValue: ": "}
	if n := named["indent"]; n != nil {
		i, _, isInt, ok := number(n)
		if !ok || !isInt || i < 0 || i > 16 {
			return nil, errorAt(line, "indent of tojson must be an integer from 0 to 16")
		}
		style.indent, style.item = int(i), ","
	}
	if s := named["separators"]; s != nil {
		l, ok := s.(*list)
		if !ok || len(l.items) != 2 {
			return nil, errorAt(line, "separators of tojson must be two strings")
		}
		t, err := texts(line, "separators of tojson", l.items, nil, 2, 2)
		if err != nil {
			return nil, err
		}
		style.item, style.keyValue = t[0], t[1]
	}
	style.ascii, style.sorted = truth(named["ensure_ascii"]), truth(named["sort_keys"])
	for _, k := range sortedKeys(named) {
		if !slices.Contains([]string{"indent", "separators", "ensure_ascii", "sort_keys"}, k) {
			return nil, errorAt(line, "argument %s of filter tojson is not supported", shortQuote(k))
		}
	}
	var b strings.Builder
	if err := e.writeJSON(&b, line, v, style, 0); err != nil {
		return nil, err
	}
	return b.String(), e.charge(line, b.Len())
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (e *evaluator) test(line int, name string, v any, args []any) (bool, error) {
	want := 0
	if slices.Contains([]string{"equalto", "eq", "ne", "in"}, name) {
		want = 1
	}
	if len(args) != want {
		return false, errorAt(line, "test %q takes %d arguments, not %d", name, want, len(args))
	}
	_, isUndefined := v.(undefined)
	switch name {
	case "defined":
		return !isUndefined, nil
	case "undefined":
		return isUndefined, nil
	case "none":
		return v == nil, nil
	case "equalto", "eq":
		return e.equal(line, v, args[0], 0)
	case "ne":
		same, err := e.equal(line, v, args[0], 0)
		return !same, err
	case "in":
		return e.contains(line, args[0], v)
	case "odd", "even":
		i, _, isInt, ok := number(v)
		if !ok || !isInt {
			return false, errorAt(line, "test %q works on an integer, not on %s", name, typeName(v))
		}
		return (i%2 == 0) == (name == "even"), nil
	}
	switch v := v.(type) {
	case bool:
		return name == "boolean" || name == "number" || name == "true" && v || name == "false" && !v, nil
	case int64:
		return name == "integer" || name == "number", nil
	case float64:
		return name == "float" || name == "number", nil
	case string:
		return name == "string" || name == "sequence" || name == "iterable", nil
	case *dict:
		return name == "mapping" || name == "sequence" || name == "iterable", nil
	case *list:
		return name == "iterable" || name == "sequence" && v.kind < viewList, nil
	case undefined:
		return name == "sequence" || name == "iterable", nil
	case *loopState:
		return name == "iterable", nil
	}
	return false, nil
}

// globals are the functions that every template has. strftime_now is there only with a clock.
func globals(now time.Time) map[string]any {
	g := map[string]any{
		"namespace": &function{"namespace", func(e *evaluator, line int, args []any, named map[string]any) (any, error) {
			if len(args) > 0 {
				return nil, errorAt(line, "namespace takes arguments by name only")
			}
			ns := &namespace{map[string]any{}}
			for k, v := range named {
				ns.values[k] = v
			}
			return ns, e.charge(line, 64*(len(named)+1))
		}},
		"raise_exception": &function{"raise_exception", func(e *evaluator, line int, args []any, named map[string]any) (any, error) {
			v, err := optional(line, "raise_exception", "message", args, named, "")
			if err != nil {
				return nil, err
			}
			s, err := e.str(line, v)
			if err != nil {
				return nil, err
			}
			return nil, &RaisedError{Line: line, Message: s}
		}},
	}
	if !now.IsZero() {
		g["strftime_now"] = &function{"strftime_now", func(e *evaluator, line int, args []any, named map[string]any) (any, error) {
			t, err := texts(line, "strftime_now", args, named, 1, 1)
			if err != nil {
				return nil, err
			}
			s, err := strftime(line, now, t[0])
			if err != nil {
				return nil, err
			}
			return s, e.charge(line, len(s))
		}}
	}
	return g
}

// strftimeLayouts gives Go's layout of a strftime directive in the C locale.
var strftimeLayouts = map[byte]string{'d': "02", 'e': "_2", 'm': "01", 'Y': "2006", 'y': "06", 'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday",
	'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'j': "002", 'F': "2006-01-02", 'T': "15:04:05"}

func strftime(line int, t time.Time, format string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		if i < len(format) && format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		layout := ""
		if i < len(format) {
			layout = strftimeLayouts[format[i]]
		}
		if layout == "" {
			return "", errorAt(line, "date format %s: directive %s is not supported", shortQuote(format), shortQuote(format[i-1:min(i+1, len(format))]))
		}
		b.WriteString(t.Format(layout))
	}
	return b.String(), nil
}
