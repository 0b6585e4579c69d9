package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds on outside input. A spec is a page of text; these are far above any real one.
const (
	maxFileBytes = 1 << 20 // bytes in one file
	maxNodes     = 1 << 16 // nodes of one spec with aliases expanded
	maxDepth     = 32      // nesting
	maxIncludes  = 64      // fragments read for one spec
	maxCells     = 100_000 // points before equal ones collapse
)

type nodeKind uint8

const (
	scalarNode nodeKind = iota
	listNode
	mappingNode
)

// A node is a YAML value with aliases expanded. No two nodes share children.
type node struct {
	kind  nodeKind
	pos   position
	text  string // scalar: as written, quotes removed
	tag   string // scalar: !!str, !!int, !!float, !!bool, !!null or another YAML tag
	quote bool   // scalar: written in quotes or as a block
	keys  []*node
	items []*node // list items, or the values that belong to keys
	value any     // set by check: int, float64, string, bool, Limit or Tau
}

// get returns the value of a key of a mapping, or nil.
func (n *node) get(name string) *node {
	if n == nil || n.kind != mappingNode {
		return nil
	}
	for i, k := range n.keys {
		if k.text == name {
			return n.items[i]
		}
	}
	return nil
}

// put sets a key of a mapping, replacing its value if it is there.
func (n *node) put(k, v *node) {
	for i := range n.keys {
		if n.keys[i].text == k.text {
			n.keys[i], n.items[i] = k, v
			return
		}
	}
	n.keys = append(n.keys, k)
	n.items = append(n.items, v)
}

// written returns a value as it stands in a message: its text, or that of a checked mapping.
func (n *node) written() string {
	if n.kind == scalarNode {
		return n.text
	}
	return valueText(n.value)
}

// describe says what a node is, for "… is X, expected Y".
func (n *node) describe() string {
	switch {
	case n.kind == mappingNode:
		return "a mapping"
	case n.kind == listNode:
		return "a list"
	case n.tag == "!!null":
		return "empty"
	case n.tag == "!!str" && n.quote:
		return "the string " + strconv.Quote(oneLine(n.text))
	case n.tag == "!!str":
		return strconv.Quote(oneLine(n.text))
	case n.tag == "!!int" && !decimalInt.MatchString(n.text):
		switch digits := strings.TrimLeft(n.text, "+-"); {
		case strings.Contains(digits, "_"):
			return oneLine(n.text) + " (with underscores)"
		case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0X"):
			return oneLine(n.text) + " (hexadecimal)"
		case strings.HasPrefix(digits, "0b"), strings.HasPrefix(digits, "0B"):
			return oneLine(n.text) + " (binary)"
		case strings.HasPrefix(digits, "0"):
			return oneLine(n.text) + " (octal)"
		}
	}
	return oneLine(n.text)
}

var (
	decimalInt   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	decimalFloat = regexp.MustCompile(`^-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
	parserFault  = regexp.MustCompile(`^did not find expected (<|node content|'-'|key|',')|^found (duplicate %|incompatible YAML|undefined tag)`)
	yamlLine     = regexp.MustCompile(`^line ([0-9]+): `)
)

// document parses the one YAML document of a text. It returns nil after reporting a fault that leaves
// no tree. With set not empty the text is the value of that override.
func (r *reader) document(file string, data []byte, set string) *node {
	at := func(line, col int) position {
		if set != "" {
			return position{set: set}
		}
		return position{file, line, col, ""}
	}
	if len(data) > maxFileBytes {
		r.fault(at(1, 1), fmt.Sprintf("the text has %d bytes", len(data)), fmt.Sprintf("at most %d", maxFileBytes))
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decode(dec, &doc); {
	case errors.Is(err, io.EOF):
		r.fault(at(1, 1), "there is nothing here", "YAML")
		return nil
	case err != nil:
		line, message := syntaxError(err)
		r.fault(at(line, 1), message, "valid YAML")
		return nil
	}
	if len(doc.Content) != 1 {
		r.fault(at(1, 1), "there is nothing here", "YAML")
		return nil
	}
	switch err := decode(dec, &second); {
	case err == nil:
		r.fault(at(max(second.Line, 1), max(second.Column, 1)), "a second document begins here", "one document")
	case !errors.Is(err, io.EOF):
		line, message := syntaxError(err)
		r.fault(at(line, 1), message, "valid YAML")
	}
	c := converter{r: r, at: at}
	n := c.node(doc.Content[0], 0)
	if c.stopped {
		return nil
	}
	return n
}

// decode reads one document. The YAML library reports faults of the text by its own panics, and has had
// others; a fault of the text must not end the program.
func decode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("yaml: %v", v)
		}
	}()
	return dec.Decode(n)
}

func syntaxError(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	line = 1
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
		message = message[len(m[0]):]
		// The library counts lines from 0 in faults of its parser and from 1 in those of its scanner.
		if parserFault.MatchString(message) {
			line++
		}
	}
	return line, oneLine(message)
}

// A converter copies YAML nodes into ours and counts what it makes.
type converter struct {
	r       *reader
	at      func(line, col int) position
	stopped bool
}

// stop reports a bound that was passed and ends the conversion: a fault per node would say the same
// thing sixty thousand times.
func (c *converter) stop(y *yaml.Node, message, expected string) *node {
	if !c.stopped {
		c.r.fault(c.at(y.Line, y.Column), message, expected)
	}
	c.stopped = true
	return nil
}

func (c *converter) node(y *yaml.Node, depth int) *node {
	if c.stopped {
		return nil
	}
	if c.r.nodes++; c.r.nodes > maxNodes {
		return c.stop(y, "the spec grows too large when its aliases are expanded", fmt.Sprintf("at most %d values", maxNodes))
	}
	if depth > maxDepth {
		return c.stop(y, "the nesting is too deep, or an alias contains itself", fmt.Sprintf("at most %d levels", maxDepth))
	}
	if y.Kind == yaml.AliasNode {
		return c.node(y.Alias, depth+1)
	}
	n := &node{pos: c.at(y.Line, y.Column)}
	if y.Style&yaml.TaggedStyle != 0 {
		c.r.fault(n.pos, "the tag "+oneLine(y.Tag)+" is given", "a value without a tag")
	}
	switch y.Kind {
	case yaml.ScalarNode:
		n.text, n.tag = y.Value, y.ShortTag()
		n.quote = y.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	case yaml.SequenceNode:
		n.kind = listNode
		for _, item := range y.Content {
			if v := c.node(item, depth+1); v != nil {
				n.items = append(n.items, v)
			}
		}
	case yaml.MappingNode:
		n.kind = mappingNode
		c.mapping(n, y, depth)
	}
	return n
}

func (c *converter) mapping(n *node, y *yaml.Node, depth int) {
	var merged []*node
	seen := map[string]bool{}
	add := func(k, v *node) {
		seen[k.text] = true
		n.keys = append(n.keys, k)
		n.items = append(n.items, v)
	}
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := c.node(y.Content[i], depth+1), c.node(y.Content[i+1], depth+1)
		switch {
		case k == nil || v == nil:
			return
		case k.kind != scalarNode:
			c.r.fault(k.pos, "a key is "+k.describe(), "a name")
		case k.tag == "!!merge" && !k.quote:
			merged = append(merged, v)
		case seen[k.text]:
			c.r.fault(k.pos, "key "+strconv.Quote(oneLine(k.text))+" is repeated", "each key once")
		default:
			add(k, v)
		}
	}
	// Merge keys: what is written wins, then the earlier of several merged mappings.
	for _, m := range merged {
		sources := []*node{m}
		if m.kind == listNode {
			sources = m.items
		}
		for _, src := range sources {
			if src.kind != mappingNode {
				c.r.fault(src.pos, "the merged value is "+src.describe(), "a mapping")
				continue
			}
			for i, k := range src.keys {
				if !seen[k.text] {
					add(k, src.items[i])
				}
			}
		}
	}
}
