package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Values of the evaluator are nil (none), bool, int64, float64, string and the types below. Lists and dicts never change
// once made, so that values have no cycles except through a namespace, whose content is never printed or compared.
type (
	// undefined is what a name or attribute that is not there gives; reason says what is missing.
	undefined struct{ reason string }

	list struct {
		items []any
		kind  listKind
	}

	dict struct {
		keys   []string // in order of insertion
		values map[string]any
	}

	namespace struct{ values map[string]any }

	// loopState is the variable loop of a for statement.
	loopState struct {
		items []any
		index int
	}

	// function is a builtin or a method with its receiver.
	function struct {
		name string
		call func(e *evaluator, line int, args []any, named map[string]any) (any, error)
	}
)

type listKind uint8

const (
	plainList listKind = iota
	tupleList
	viewList // what items, keys and values of a dict give: no index
	lazyList // what select and its like give in Python: no length, no index, read once
)

// maxValueNesting bounds how deep values nest, of the input and of what a template builds.
const maxValueNesting = 128

func newDict() *dict { return &dict{values: map[string]any{}} }

func (d *dict) set(key string, v any) {
	if _, ok := d.values[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[key] = v
}

// decodeJSON reads one JSON value and keeps the order of keys; whole numbers become int64.
func decodeJSON(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return v, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxValueNesting {
		return nil, fmt.Errorf("JSON is nested more than %d deep", maxValueNesting)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if !strings.ContainsAny(t.String(), ".eE") {
			i, err := strconv.ParseInt(t.String(), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("integer %s is out of the 64-bit range", shortQuote(t.String()))
			}
			return i, nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			l := &list{}
			for d.More() {
				v, err := decodeValue(d, depth+1)
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, v)
			}
			_, err := d.Token()
			return l, err
		}
		m := newDict()
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			m.set(k.(string), v) // the decoder gives nothing else here
		}
		_, err := d.Token()
		return m, err
	}
	return t, nil // nil, bool or string
}

// typeName is Python's name of a value's type.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case *list:
		return []string{"list", "tuple", "view", "generator"}[v.kind]
	case *dict:
		return "dict"
	case undefined:
		return "Undefined"
	case *namespace:
		return "namespace"
	case *loopState:
		return "loop"
	}
	return "function"
}

// truth is Python's bool(v).
func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *list:
		return v.kind == lazyList || len(v.items) > 0
	case *dict:
		return len(v.keys) > 0
	}
	return true
}

// number gives v as an integer or a float; a bool counts as 0 or 1.
func number(v any) (i int64, f float64, isInt, ok bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, 1, true, true
		}
		return 0, 0, true, true
	case int64:
		return v, float64(v), true, true
	case float64:
		return 0, v, false, true
	}
	return 0, 0, false, false
}

// equal is Python's a == b. It is charged by what it looks at.
func (e *evaluator) equal(line int, a, b any, depth int) (bool, error) {
	if err := e.nested(line, depth); err != nil {
		return false, err
	}
	ai, af, aInt, aNum := number(a)
	bi, bf, bInt, bNum := number(b)
	if aNum && bNum {
		if aInt && bInt {
			return ai == bi, nil
		}
		return af == bf, nil
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case undefined:
		_, ok := b.(undefined)
		return ok, nil
	case string:
		s, ok := b.(string)
		return ok && a == s, e.work(line, min(len(a), len(s)))
	case *list:
		l, ok := b.(*list)
		if ok && a.kind == viewList && l.kind == viewList {
			return false, errorAt(line, "comparing views is not supported: list is missing")
		}
		if !ok || a.kind != l.kind || a.kind == lazyList || len(a.items) != len(l.items) {
			return ok && a == l, nil
		}
		for i := range a.items {
			if same, err := e.equal(line, a.items[i], l.items[i], depth+1); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case *dict:
		d, ok := b.(*dict)
		if !ok || len(a.keys) != len(d.keys) {
			return false, nil
		}
		for _, k := range a.keys {
			v, ok := d.values[k]
			if !ok {
				return false, nil
			}
			if same, err := e.equal(line, a.values[k], v, depth+1); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case *namespace, *loopState, *function:
		return a == b, nil
	}
	return false, nil
}

// str is Python's str(v), which is also what is printed.
func (e *evaluator) str(line int, v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case undefined:
		return "", nil
	}
	var b strings.Builder
	if err := e.repr(&b, line, v, 0); err != nil {
		return "", err
	}
	return b.String(), e.charge(line, b.Len())
}

// repr writes Python's repr(v).
func (e *evaluator) repr(b *strings.Builder, line int, v any, depth int) error {
	if err := e.nested(line, depth); err != nil {
		return err
	}
	if b.Len() > MaxOutputBytes {
		return errorAt(line, "value is longer than %d bytes when printed", MaxOutputBytes)
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		b.WriteString(map[bool]string{false: "False", true: "True"}[v])
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatRepr(v, "inf", "nan"))
	case string:
		reprString(b, v)
	case undefined:
		b.WriteString("Undefined")
	case *list:
		if v.kind >= viewList {
			return errorAt(line, "a %s cannot be printed: list is missing", typeName(v))
		}
		brackets := "[]"
		if v.kind == tupleList {
			brackets = "()"
		}
		b.WriteByte(brackets[0])
		for i, item := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := e.repr(b, line, item, depth+1); err != nil {
				return err
			}
		}
		if v.kind == tupleList && len(v.items) == 1 {
			b.WriteByte(',')
		}
		b.WriteByte(brackets[1])
	case *dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			reprString(b, k)
			b.WriteString(": ")
			if err := e.repr(b, line, v.values[k], depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		return errorAt(line, "printing a value of type %s is not supported", typeName(v))
	}
	return nil
}

// floatRepr is Python's repr of a float: the shortest digits, with an exponent below 1e-4 and from 1e16.
func floatRepr(f float64, inf, nan string) string {
	switch {
	case math.IsNaN(f):
		return nan
	case math.IsInf(f, 1):
		return inf
	case math.IsInf(f, -1):
		return "-" + inf
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func reprString(b *strings.Builder, s string) {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
	}
	b.WriteRune(quote)
}

// jsonStyle holds the arguments of json.dumps.
type jsonStyle struct {
	ascii, sorted  bool
	indent         int // below 0: one line
	item, keyValue string
}

// writeJSON writes v as Python's json.dumps does.
func (e *evaluator) writeJSON(b *strings.Builder, line int, v any, style jsonStyle, depth int) error {
	if err := e.nested(line, depth); err != nil {
		return err
	}
	if b.Len() > MaxOutputBytes {
		return errorAt(line, "value is longer than %d bytes as JSON", MaxOutputBytes)
	}
	newline := func(depth int) {
		if style.indent >= 0 {
			b.WriteByte('\n')
			for range style.indent * depth {
				b.WriteByte(' ')
			}
		}
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatRepr(v, "Infinity", "NaN"))
	case string:
		jsonString(b, v, style.ascii)
	case *list:
		if v.kind >= viewList {
			return errorAt(line, "a %s cannot be written as JSON: list is missing", typeName(v))
		}
		b.WriteByte('[')
		for i, item := range v.items {
			if i > 0 {
				b.WriteString(style.item)
			}
			newline(depth + 1)
			if err := e.writeJSON(b, line, item, style, depth+1); err != nil {
				return err
			}
		}
		if len(v.items) > 0 {
			newline(depth)
		}
		b.WriteByte(']')
	case *dict:
		keys := v.keys
		if style.sorted {
			keys = slices.Sorted(slices.Values(keys))
		}
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteString(style.item)
			}
			newline(depth + 1)
			jsonString(b, k, style.ascii)
			b.WriteString(style.keyValue)
			if err := e.writeJSON(b, line, v.values[k], style, depth+1); err != nil {
				return err
			}
		}
		if len(keys) > 0 {
			newline(depth)
		}
		b.WriteByte('}')
	default:
		return errorAt(line, "a value of type %s cannot be written as JSON", typeName(v))
	}
	return nil
}

func jsonString(b *strings.Builder, s string, ascii bool) {
	const names, values = "\"\\\n\r\t\f\b", `"\nrtfb`
	b.WriteByte('"')
	for _, r := range s {
		i := -1
		if r < utf8.RuneSelf {
			i = strings.IndexByte(names, byte(r))
		}
		switch {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte(values[i])
		case r < 0x20 || ascii && r > 0x7f && r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		case ascii && r >= 0x10000:
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}
