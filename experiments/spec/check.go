package spec

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A reader turns texts into checked nodes and collects the faults on the way.
type reader struct {
	env      func(string) (string, bool)
	readFile func(string) ([]byte, error)
	files    []string // names in reading order, for sorting
	folders  map[string]string
	nodes    int
	includes int
	hidden   []pair // top-level entries of fragments that another file replaced
	set      []override
	docs     []KeyDoc // of every key that a file of this kind may have
	errs     Errors
}

// override is a knob that was set by --set outside the sweep.
type override struct {
	axis string
	at   position
}

// pair is one entry of a mapping.
type pair struct{ key, value *node }

func (r *reader) fault(p position, message, expected string) {
	r.errs = append(r.errs, p.fault(message, expected))
}

// checkObject checks a mapping against its keys. where names the mapping in messages; it is empty at the
// top. complete asks for the required keys.
func (r *reader) checkObject(keys []*key, n *node, where string, complete bool) {
	if n.kind != mappingNode {
		r.fault(n.pos, orTop(where)+" is "+n.describe(), "a mapping of keys")
		return
	}
	for i, kn := range n.keys {
		k := field(keys, kn.text)
		if k == nil {
			r.unknownKey(kn, names(keys), where)
			continue
		}
		r.check(k, n.items[i], dotted(where, k.name))
	}
	if !complete {
		return
	}
	for _, k := range keys {
		if k.required && n.get(k.name) == nil {
			r.fault(n.pos, orTop(where)+" has no "+k.name, k.expected())
		}
	}
}

func orTop(where string) string {
	if where == "" {
		return "the spec"
	}
	return where
}

func dotted(where, name string) string {
	if where == "" {
		return name
	}
	return where + "." + name
}

func names(keys []*key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = k.name
	}
	return out
}

// unknownKey reports a key that is not among known, with the nearest one or, for a key that exists
// elsewhere, its right place.
func (r *reader) unknownKey(kn *node, known []string, where string) {
	message := "unknown key " + strconv.Quote(oneLine(kn.text))
	if where != "" {
		message += " in " + where
	}
	if best := nearest(kn.text, known); best != "" {
		r.fault(kn.pos, message, strconv.Quote(best))
		return
	}
	for _, d := range r.docs {
		if at := strings.LastIndexByte(d.Path, '.'); at > 0 && d.Path[at+1:] == kn.text {
			r.fault(kn.pos, message, fmt.Sprintf("one of %s (%s belongs in %s)", strings.Join(known, ", "), kn.text, d.Path[:at]))
			return
		}
	}
	r.fault(kn.pos, message, "one of "+strings.Join(known, ", "))
}

// check checks the value of one key, which may be a list of values.
func (r *reader) check(k *key, n *node, where string) {
	switch {
	case k.shape == sweep:
		r.checkSweep(n, where)
		return
	case !k.list:
		r.checkOne(k, n, where)
		return
	case n.kind != listNode && k.bare && k.shape != object:
		r.checkOne(k, n, where)
		return
	case n.kind != listNode:
		r.fault(n.pos, where+" is "+n.describe(), k.expected())
		return
	case len(n.items) == 0 && !k.empty:
		r.fault(n.pos, where+" is an empty list", "at least one entry")
		return
	}
	for i, item := range n.items {
		if k.bare && k.shape == object && item.kind == scalarNode {
			// A plain string stands for an object with only a name.
			named := field(k.fields, "name")
			r.checkOne(named, item, where)
			if item.value != nil {
				*item = node{kind: mappingNode, pos: item.pos, keys: []*node{{text: "name", tag: "!!str", pos: item.pos}}, items: []*node{{text: item.text, tag: "!!str", quote: item.quote, pos: item.pos, value: item.value}}}
			}
			continue
		}
		r.checkOne(k, item, where)
		if (k.shape == choice || k.shape == integer) && item.value != nil && slices.ContainsFunc(n.items[:i], func(other *node) bool { return other.value == item.value }) {
			r.fault(item.pos, where+" names "+item.text+" twice", "each once")
		}
	}
}

// checkOne checks one value and stores it in the node.
func (r *reader) checkOne(k *key, n *node, where string) {
	if k.shape == object {
		r.checkObject(k.fields, n, where, true)
		return
	}
	if k.shape == threshold && n.kind == mappingNode {
		r.checkTau(k, n, where)
		return
	}
	v, problem := r.scalar(k, n)
	if problem != "" {
		r.fault(n.pos, where+" "+problem, k.expectedOne())
		return
	}
	n.value = v
}

// tauUnits are the units of a threshold other than magnitudes, and their largest values.
var tauUnits = []struct {
	name string
	high float64
}{{TauQuantile, 1}, {TauRMS, 1e6}}

// checkTau checks a threshold that is written as a mapping with its unit.
func (r *reader) checkTau(k *key, n *node, where string) {
	if len(n.keys) != 1 {
		r.fault(n.pos, fmt.Sprintf("%s is a mapping of %d keys", where, len(n.keys)), k.expectedOne())
		return
	}
	unit, value := n.keys[0], n.items[0]
	for _, u := range tauUnits {
		if u.name != unit.text {
			continue
		}
		f, ok := 0.0, false
		if value.kind == scalarNode && !value.quote {
			f, ok = parseNumber(value.text)
		}
		if !ok || f <= 0 || f > u.high {
			r.fault(value.pos, where+"."+u.name+" is "+value.describe(), fmt.Sprintf("a number above 0 and up to %g", u.high))
			return
		}
		n.value = Tau{u.name, f}
		return
	}
	r.unknownKey(unit, []string{TauQuantile, TauRMS}, where)
}

// scalar returns the value of a scalar node as the key's type, or what is wrong with it.
func (r *reader) scalar(k *key, n *node) (v any, problem string) {
	wrong := "is " + n.describe()
	if n.kind != scalarNode {
		return nil, wrong
	}
	switch k.shape {
	case text, name, path, choice:
		if n.tag != "!!str" {
			return nil, wrong
		}
	default:
		if n.quote || n.tag == "!!null" {
			return nil, wrong
		}
	}
	switch k.shape {
	case text:
		return n.text, ""
	case name:
		if !nameForm.MatchString(n.text) || len(n.text) > maxName || k.lower && strings.ToLower(n.text) != n.text {
			return nil, wrong
		}
		return n.text, ""
	case choice:
		if !slices.Contains(k.choices, n.text) {
			return nil, wrong
		}
		return n.text, ""
	case boolean:
		switch n.text {
		case "true", "True", "TRUE":
			return true, ""
		case "false", "False", "FALSE":
			return false, ""
		}
		return nil, wrong
	case path:
		p, err := r.expand(n.text, n.pos)
		if err != nil {
			return nil, "is " + strconv.Quote(oneLine(n.text)) + ": " + err.Error()
		}
		return p, ""
	case integer:
		if !decimalInt.MatchString(n.text) {
			return nil, wrong
		}
		i, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil || !k.allows(int(i)) {
			return nil, wrong
		}
		return int(i), ""
	case number:
		f, ok := parseNumber(n.text)
		if !ok || f < k.low || k.high != 0 && f > k.high {
			return nil, wrong
		}
		return f, ""
	case threshold:
		f, ok := parseNumber(n.text)
		if !ok || f < k.low {
			return nil, wrong
		}
		return Tau{TauValue, f}, ""
	case limit:
		if decimalInt.MatchString(n.text) {
			i, err := strconv.ParseInt(n.text, 10, 32)
			if err != nil || i < 0 {
				return nil, wrong
			}
			return Limit{Docs: int(i)}, ""
		}
		f, ok := parseNumber(n.text)
		if !ok || !(f > 0 && f < 1) {
			return nil, wrong
		}
		return Limit{Fraction: f}, ""
	}
	return nil, wrong
}

const (
	maxName       = 100 // bytes of a name
	lowerNameForm = `^[a-z0-9][a-z0-9._-]*$`
)

var (
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	plainString = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_/.+-]*$`) // needs no quotes unless it is a YAML word
)

// parseNumber reads a finite decimal number. Minus zero becomes zero, so that equal values are one value.
func parseNumber(s string) (float64, bool) {
	if !decimalFloat.MatchString(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, false
	}
	return f + 0, true
}

func (k *key) allows(i int) bool {
	if k.ints != nil {
		return slices.Contains(k.ints, i)
	}
	return float64(i) >= k.low && (k.high == 0 || float64(i) <= k.high)
}

// expected says what a right value of the key looks like, lists included.
func (k *key) expected() string {
	switch {
	case k.list && k.shape == object:
		return "a list of mappings"
	case k.list:
		return "a list, each " + k.expectedOne()
	}
	return k.expectedOne()
}

func (k *key) expectedOne() string {
	switch k.shape {
	case text:
		return "a string (in quotes if it looks like something else)"
	case name:
		if k.lower {
			return "a name of lower-case letters, digits, dots, dashes and underscores"
		}
		return "a name of letters, digits, dots, dashes and underscores"
	case path:
		return "a path"
	case integer:
		return "a decimal integer" + k.rangeText()
	case number:
		return "a decimal number" + k.rangeText()
	case boolean:
		return "true or false"
	case choice:
		return "one of " + strings.Join(k.choices, ", ")
	case limit:
		return "a count (0 = all) or a fraction between 0 and 1"
	case threshold:
		return "a decimal number" + k.rangeText() + ", {quantile: q} or {rms: m}"
	case sweep:
		return "a mapping from axes to lists of values"
	}
	return "a mapping of keys"
}

func (k *key) rangeText() string {
	show := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	switch {
	case k.ints != nil:
		all := make([]string, len(k.ints))
		for i, v := range k.ints {
			all[i] = strconv.Itoa(v)
		}
		return " (" + strings.Join(all, ", ") + ")"
	case k.high != 0:
		return " from " + show(k.low) + " to " + show(k.high)
	}
	return ", " + show(k.low) + " or more"
}

// expand resolves ~/ and ${NAME} in a path and makes it absolute. The forms builtin:NAME and hub:NAME stay
// as they are.
func (r *reader) expand(s string, at position) (string, error) {
	if s == "" {
		return "", errors.New("the path is empty")
	}
	if rest, ok := strings.CutPrefix(s, "hub:"); ok {
		if rest == "" {
			return "", errors.New("hub: is followed by no name")
		}
		return s, nil
	}
	if rest, ok := strings.CutPrefix(s, "builtin:"); ok {
		if !nameForm.MatchString(rest) {
			return "", errors.New("builtin: is followed by no name")
		}
		return s, nil
	}
	var b strings.Builder
	rest := s
	if rest == "~" || strings.HasPrefix(rest, "~/") {
		rest = "${HOME}" + rest[1:]
	} else if rest[0] == '~' {
		return "", errors.New("~ is followed by a name")
	}
	for {
		before, after, found := strings.Cut(rest, "${")
		b.WriteString(before)
		if !found {
			break
		}
		variable, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", errors.New("${ has no }")
		}
		v, _ := r.env(variable)
		if v == "" {
			return "", fmt.Errorf("the environment variable %s is not set", oneLine(strconv.Quote(variable)))
		}
		b.WriteString(v)
		if b.Len() > maxFileBytes {
			return "", errors.New("the path grows too long")
		}
		rest = tail
	}
	p := b.String()
	if strings.Contains(p, "${") || strings.HasPrefix(p, "~") || strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		// The resolved spec is written out and read again: what would be expanded twice cannot stay.
		return "", errors.New("the path holds ${, a leading ~ or a control character after expansion")
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(r.folders[at.file], p)
	}
	return filepath.Clean(p), nil
}

// checkSweep checks the axes of a sweep, its zip and its exclude, which only that of the experiment has.
func (r *reader) checkSweep(n *node, where string) {
	if n.kind != mappingNode {
		r.fault(n.pos, where+" is "+n.describe(), field(table, "sweep").expected())
		return
	}
	known := sweepNames(where)
	used := map[string]bool{}
	for i, kn := range n.keys {
		v := n.items[i]
		switch kn.text {
		case "zip":
			r.checkList(v, where+".zip", func(group *node) {
				if group.kind != mappingNode || len(group.keys) < 2 {
					r.fault(group.pos, "an entry of "+where+".zip is "+group.describe(), "a mapping with two axes or more")
					return
				}
				length := -1
				for j, an := range group.keys {
					r.checkAxis(an, group.items[j], axisNames(), where+".zip", used)
					values := group.items[j]
					if values.kind != listNode {
						continue
					}
					if length >= 0 && len(values.items) != length {
						r.fault(values.pos, fmt.Sprintf("%s has %d values", an.text, len(values.items)), fmt.Sprintf("%d, as many as the first axis of the zip", length))
					}
					if length < 0 {
						length = len(values.items)
					}
				}
			})
		case "exclude":
			if !slices.Contains(known, kn.text) {
				r.unknownKey(kn, known, where)
				continue
			}
			r.checkList(v, where+".exclude", r.checkPoint)
		default:
			r.checkAxis(kn, v, known, where, used)
		}
	}
}

// sweepNames are the keys of a sweep.
func sweepNames(where string) []string {
	if where != "sweep" {
		return axisNames("zip")
	}
	return axisNames("zip", "exclude")
}

func axisNames(more ...string) []string {
	out := make([]string, 0, len(axes)+len(more))
	for _, k := range axes {
		out = append(out, k.axis)
	}
	return append(out, more...)
}

func (r *reader) checkList(n *node, where string, each func(*node)) {
	if n.kind != listNode || len(n.items) == 0 {
		r.fault(n.pos, where+" is "+n.describe(), "a list of mappings")
		return
	}
	for _, item := range n.items {
		each(item)
	}
}

func (r *reader) checkAxis(kn, values *node, known []string, where string, used map[string]bool) {
	k := axisKey(kn.text)
	if k == nil {
		r.unknownKey(kn, known, where)
		return
	}
	if used[k.axis] {
		r.fault(kn.pos, "axis "+k.axis+" appears twice in the sweep", "each axis once")
	}
	used[k.axis] = true
	if values.kind != listNode || len(values.items) == 0 {
		what := values.describe()
		if values.kind == listNode {
			what = "an empty list"
		}
		r.fault(values.pos, where+"."+k.axis+" is "+what, "a list of values, each "+k.expectedOne())
		return
	}
	zipped := strings.HasSuffix(where, ".zip") // there a value may come again beside another partner
	seen := map[any]bool{}
	for _, item := range values.items {
		r.checkOne(k, item, where+"."+k.axis)
		if item.value == nil {
			continue
		}
		if seen[item.value] && !zipped {
			r.fault(item.pos, where+"."+k.axis+" has the value "+oneLine(item.written())+" twice", "each value once")
		}
		seen[item.value] = true
	}
}

// checkPoint checks one entry of exclude.
func (r *reader) checkPoint(n *node) {
	if n.kind != mappingNode || len(n.keys) == 0 {
		r.fault(n.pos, "an entry of sweep.exclude is "+n.describe(), "a mapping from axes, model, task or method to one value each")
		return
	}
	for i, kn := range n.keys {
		switch k := axisKey(kn.text); {
		case k != nil:
			r.checkOne(k, n.items[i], "sweep.exclude."+k.axis)
		case kn.text == "model" || kn.text == "task" || kn.text == "method":
			r.checkOne(nameKey, n.items[i], "sweep.exclude."+kn.text)
		default:
			r.unknownKey(kn, axisNames("model", "task", "method"), "sweep.exclude")
		}
	}
}

var nameKey = &key{name: "name", shape: name}

// nearest returns the known word closest to s by edits, or "" when none is close.
func nearest(s string, known []string) string {
	if len(s) > 64 {
		return ""
	}
	best, least := "", 1+max(1, len(s)/3)
	for _, k := range known {
		if d := edits(s, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance with swapped neighbours counted as one edit (optimal string alignment).
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
