package spec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Cell is one point of an experiment: everything that says what is computed, and on what.
type Cell struct {
	Model    Model
	Data     string // data root; empty when the task brings its own path
	Task     Task
	Protocol string
	Chat     string
	Seed     int
	Timing   bool
	Method   Method // fully resolved

	swept  []string // axes of the sweep with several values, for Label
	server Server   // only while a spec is read or written: the place of its keys
}

// resolve fills in what follows from other knobs and gives knobs that cannot act their defaults, so that
// points that compute the same thing are equal.
func (c *Cell) resolve() {
	m := &c.Method
	if m.Preset == OursFront && m.Boundary != nil { // also where the boundary then does not quantise
		m.Quantizer.ActivationBits = m.Boundary.MaxActivationBits
	}
	if m.Boundary != nil && m.Boundary.Codec == "none" && m.Boundary.Clamp == 0 {
		m.Boundary = nil
	}
	for _, k := range slices.Concat(files, axes) {
		if k.suits(m) && k.when != nil && !k.when(c) {
			k.store(c, k.def)
		}
	}
	if m.Kind == Split && m.PrecisionLayer == 0 {
		m.PrecisionLayer = m.SplitLayer
	}
}

// clip gives l_w and the back weights of a split whose edge holds no layer
// beyond l_w the values of one that names neither: they cannot act.
func (c *Cell) clip() {
	if m := &c.Method; m.Kind == Split && m.PrecisionLayer >= m.SplitLayer {
		m.PrecisionLayer, m.Back = m.SplitLayer, WeightCoder{Bits: 16, Quantizer: m.Back.Quantizer}
	}
}

// Label returns a short name of the point for people, as in "split l=3 tau=5 Q=4": the method, its split
// layer, threshold and bits, and every other knob of the sweep that acts here. Protocol and task are not
// part of it: tables have columns for them.
func (c Cell) Label() string {
	var b strings.Builder
	b.WriteString(c.Method.Name)
	add := func(always bool) {
		for _, k := range axes {
			if k.always != always || k.axis == "protocol" || !always && !slices.Contains(c.swept, k.axis) || !k.acts(&c) {
				continue
			}
			mark := k.mark
			if mark == "" {
				mark = k.axis
			}
			b.WriteString(" " + mark + "=" + valueText(k.load(&c)))
		}
	}
	add(true)
	add(false)
	if c.Method.Boundary == nil && c.Method.Kind == Split && slices.Contains(c.swept, "codec") {
		b.WriteString(" codec=none")
	}
	return b.String()
}

// valueText writes a value as it is written in a spec.
func valueText(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

// Canonical returns the JSON form that identifies the cell: an object with sorted keys, no spaces and the
// shortest decimal of each number that reads back as it, holding every knob that acts at this point and
// extra. Names that are only shown, and knobs that cannot act, are left out. extra holds what the caller
// knows of the outside (digests of model, tokenizer and data, schema versions, …); under the names
// DigestModel, DigestTokenizer and DigestData it stands for the paths, which are then left out too.
func (c Cell) Canonical(extra map[string]string) []byte {
	top := map[string]any{}
	put := func(section string, keys []*key) {
		if m := c.canonical(keys, extra); len(m) > 0 {
			top[section] = m
		}
	}
	for name, v := range c.canonical(table, extra) {
		top[name] = v
	}
	put("model", field(table, "models").fields)
	put("task", field(table, "tasks").fields)
	method := c.canonical(methodKeys, extra)
	method["kind"] = c.Method.Kind
	top["method"] = method
	if len(extra) > 0 {
		top["extra"] = extra
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(top); err != nil {
		// Only numbers that are not finite could fail, and no spec holds any.
		panic("spec: " + err.Error())
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// canonical collects the keys that act, by name. Lists of objects at the top are the caller's.
func (c *Cell) canonical(keys []*key, extra map[string]string) map[string]any {
	out := map[string]any{}
	for _, k := range keys {
		_, known := extra[k.digest]
		switch {
		case k.list, k.silent, k.digest != "" && known, !k.suits(&c.Method):
		case k.ref == nil && len(k.fields) > 0:
			if k.name == "boundary" && c.Method.Boundary == nil {
				continue
			}
			if m := c.canonical(k.fields, extra); len(m) > 0 {
				out[k.name] = m
			}
		case k.ref != nil && k.acts(c):
			v := k.load(c)
			if k.unkeyed && v == k.def {
				continue
			}
			switch w := v.(type) {
			case Limit:
				if v = w.Docs; w.Fraction > 0 {
					v = w.Fraction
				}
			case Tau:
				v = w.plain()
			}
			out[k.name] = v
		}
	}
	return out
}

// Key returns the SHA-256 of Canonical in hexadecimal.
func (c Cell) Key(extra map[string]string) string {
	sum := sha256.Sum256(c.Canonical(extra))
	return hex.EncodeToString(sum[:])
}
