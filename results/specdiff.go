package results

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxDiffs is how many differences of two specs are named.
const maxDiffs = 3

// specDiff names what differs between the recorded spec and a new one: the paths
// of the YAML values, or lines if one of them is no YAML. Specs that differ only
// in comments, layout or the order of keys have no difference.
func specDiff(recorded, now []byte) []string {
	if bytes.Equal(recorded, now) {
		return nil
	}
	a, errA := flatten(recorded)
	b, errB := flatten(now)
	if errA != nil || errB != nil {
		a, b = lines(recorded), lines(now)
	}
	var diffs []string
	for _, k := range union(a, b) {
		x, inA := a[k]
		y, inB := b[k]
		switch {
		case inA && !inB:
			diffs = append(diffs, fmt.Sprintf("%s: recorded %s, now absent", k, x))
		case !inA:
			diffs = append(diffs, fmt.Sprintf("%s: recorded absent, now %s", k, y))
		case x != y:
			diffs = append(diffs, fmt.Sprintf("%s: recorded %s, now %s", k, x, y))
		}
	}
	return diffs
}

func union(a, b map[string]string) []string {
	var keys []string
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func lines(b []byte) map[string]string {
	m := map[string]string{}
	for i, l := range strings.Split(string(b), "\n") {
		m[fmt.Sprintf("line %6d", i+1)] = fmt.Sprintf("%.60q", l)
	}
	return m
}

// flatten maps the path of every scalar, empty map and empty list to its text.
func flatten(b []byte) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	m := map[string]string{}
	if len(doc.Content) == 1 {
		if err := flattenNode(m, "", doc.Content[0], 0); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func flattenNode(m map[string]string, path string, n *yaml.Node, depth int) error {
	if depth > 64 || len(m) > 1<<16 { // an alias can contain itself
		return fmt.Errorf("nested too deeply")
	}
	join := func(k string) string {
		if path == "" {
			return k
		}
		return path + "." + k
	}
	switch {
	case n.Kind == yaml.AliasNode:
		return flattenNode(m, path, n.Alias, depth+1)
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := flattenNode(m, join(n.Content[i].Value), n.Content[i+1], depth+1); err != nil {
				return err
			}
		}
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		for i, c := range n.Content {
			if err := flattenNode(m, path+"["+strconv.Itoa(i)+"]", c, depth+1); err != nil {
				return err
			}
		}
	case n.Kind == yaml.MappingNode:
		m[path] = "{}"
	case n.Kind == yaml.SequenceNode:
		m[path] = "[]"
	default:
		v := n.Value
		if n.ShortTag() == "!!str" {
			v = fmt.Sprintf("%.60q", v)
		}
		m[path] = v
	}
	return nil
}
