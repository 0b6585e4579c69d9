package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// override applies one --set "key=value" to the tree of a spec. The value is checked later with the rest
// of the tree; here the key must lead somewhere.
func (r *reader) override(root *node, set string) {
	at := position{set: set}
	elements, text, ok := splitOverride(set)
	if !ok {
		r.fault(at, "there is no key and value", "key=value")
		return
	}
	if elements[0] == "include" {
		r.fault(at, "fragments cannot be overridden from here", "the keys they hold")
		return
	}
	value := r.document("", []byte(text), set)
	if value == nil {
		return
	}
	o := overrider{r: r, at: at, value: value}
	o.object(table, root, elements, "")
}

type overrider struct {
	r     *reader
	at    position
	value *node
}

func (o *overrider) scalarNode(text string) *node {
	return &node{text: text, tag: "!!str", pos: o.at}
}

func (o *overrider) fault(message, expected string) { o.r.fault(o.at, message, expected) }

// object follows the rest of the key into a mapping with known keys.
func (o *overrider) object(keys []*key, n *node, rest []string, where string) {
	if n.kind != mappingNode {
		o.fault(orTop(where)+" is "+n.describe(), "a mapping to set "+strings.Join(rest, ".")+" in")
		return
	}
	k := field(keys, rest[0])
	if k == nil {
		kn := o.scalarNode(rest[0])
		o.r.unknownKey(kn, names(keys), where)
		return
	}
	where = dotted(where, k.name)
	rest = rest[1:]
	if len(rest) == 0 {
		n.put(o.scalarNode(k.name), o.value)
		if k.axis != "" {
			o.r.set = append(o.r.set, override{k.axis, o.at})
		}
		return
	}
	child := n.get(k.name)
	switch {
	case k.shape != object && k.shape != sweep && !k.list:
		o.fault(where+" has no keys", where+"="+oneLine(o.value.text))
		return
	case child == nil && k.list:
		o.fault("there are no "+where+" to set "+strings.Join(rest, ".")+" in", where+"=[…]")
		return
	case child == nil:
		child = &node{kind: mappingNode, pos: o.at}
		n.put(o.scalarNode(k.name), child)
	}
	switch {
	case k.shape == sweep:
		o.sweep(child, rest, where)
	case k.list:
		o.list(k, child, rest, where)
	default:
		o.object(k.fields, child, rest, where)
	}
}

// list follows the rest of the key to an entry, by number or by name.
func (o *overrider) list(k *key, n *node, rest []string, where string) {
	if n.kind != listNode {
		o.fault(where+" is "+n.describe(), "a list")
		return
	}
	index, used, ok := o.entry(n, rest, where)
	if !ok {
		return
	}
	where += "." + strings.Join(rest[:used], ".")
	rest = rest[used:]
	switch {
	case len(rest) == 0:
		n.items[index] = o.value
		return
	case k.shape != object:
		o.fault(where+" has no keys", "a key that ends here")
		return
	}
	item := n.items[index]
	if item.kind == scalarNode && k.bare {
		// A task written as a plain name gets room for its other keys.
		*item = node{kind: mappingNode, pos: item.pos, keys: []*node{{text: "name", tag: "!!str", pos: item.pos}}, items: []*node{{text: item.text, tag: item.tag, quote: item.quote, pos: item.pos}}}
	}
	o.object(k.fields, item, rest, where)
}

// entry finds the list entry that a key goes through and how many of its elements name it: names may hold
// dots, so the longest that fits is taken.
func (o *overrider) entry(n *node, rest []string, where string) (index, used int, ok bool) {
	if i, err := strconv.Atoi(rest[0]); err == nil {
		if i < 0 || i >= len(n.items) {
			o.fault(fmt.Sprintf("%s has no entry %d", where, i), fmt.Sprintf("0 to %d", len(n.items)-1))
			return 0, 0, false
		}
		return i, 1, true
	}
	var known []string
	for i, item := range n.items {
		name := item.text
		if item.kind == mappingNode {
			name = ""
			if v := item.get("name"); v != nil {
				name = v.text
			}
		}
		if name == "" {
			continue
		}
		known = append(known, name)
		parts := strings.Split(name, ".")
		if len(parts) > len(rest) || strings.Join(rest[:len(parts)], ".") != name || len(parts) < used {
			continue
		}
		if len(parts) == used {
			o.fault(fmt.Sprintf("%s has more than one entry %s", where, name), "its number")
			return 0, 0, false
		}
		index, used = i, len(parts)
	}
	if used == 0 {
		o.fault("there is no entry "+strconv.Quote(oneLine(rest[0]))+" in "+where, "one of "+oneLine(strings.Join(known, ", "))+", or a number")
		return 0, 0, false
	}
	return index, used, true
}

// sweep sets an axis, whose name may hold a dot, or all of zip or exclude.
func (o *overrider) sweep(n *node, rest []string, where string) {
	if n.kind != mappingNode {
		o.fault(where+" is "+n.describe(), "a mapping")
		return
	}
	name := strings.Join(rest, ".")
	if known := sweepNames(where); !slices.Contains(known, name) {
		o.r.unknownKey(o.scalarNode(name), known, where)
		return
	}
	n.put(o.scalarNode(name), o.value)
}
