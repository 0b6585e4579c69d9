package checkpoint

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ropeKeys lists, for each rotary embedding type that an architecture may name, the settings it uses beside
// rope_theta and partial_rotary_factor.
var ropeKeys = map[string]struct{ needs, takes []string }{
	"default":  {},
	"linear":   {needs: []string{"factor"}},
	"llama3":   {needs: []string{"factor", "low_freq_factor", "high_freq_factor", originalLength}},
	"yarn":     {needs: []string{"factor", originalLength}, takes: []string{"beta_fast", "beta_slow", "attention_factor"}},
	"longrope": {needs: []string{"short_factor", "long_factor", originalLength}, takes: []string{"factor", "attention_factor"}},
}

const originalLength = "original_max_position_embeddings"

// refusedRopeTypes gives the reason for types that are known and not computed.
var refusedRopeTypes = map[string]string{
	"dynamic": "its frequencies depend on the length of every call, so that cached and split runs have no defined result",
}

// ropeSetting is one setting of the rotary embedding and the key that states it.
type ropeSetting struct {
	from string
	v    value
}

// rope reads the settings of the rotary embedding in all spellings, for a model of the widths in c. Settings that
// contradict each other, and settings that the type does not use, are errors.
func (f *configFields) rope(arch *architecture, c Config) RopeConfig {
	settings := f.ropeSettings(arch)
	number := func(name string, absent float64) float64 {
		s, ok := settings[name]
		if !ok {
			return absent
		}
		n := f.number(s.from, s.v)
		if n <= 0 {
			f.fail("%s must be positive, got %s", s.from, s.v)
		}
		return n
	}
	rope := RopeConfig{Theta: 10000, Type: "default"} // as Llama-2, which states neither
	if s, ok := settings["rope_theta"]; ok {
		if rope.Theta = f.number(s.from, s.v); rope.Theta < 1 {
			f.fail("%s must be at least 1, got %s", s.from, s.v)
		}
	}
	if s, ok := settings["rope_type"]; ok {
		if rope.Type, ok = s.v.text(); !ok {
			f.fail("%s must be a string, got %s", s.from, s.v)
		}
		if !slices.Contains(arch.ropeTypes, rope.Type) {
			reason := " for " + arch.name
			if why, ok := refusedRopeTypes[rope.Type]; ok {
				reason = ": " + why
			}
			f.fail("%s %s is not supported%s (supported: %s)", s.from, s.v.plain(), reason, strings.Join(arch.ropeTypes, ", "))
		}
	}
	if arch.partialRotary {
		rope.Width = f.rotaryWidth(c.HeadDim, number("partial_rotary_factor", 1))
	}
	keys := ropeKeys[rope.Type]
	for _, name := range keys.needs {
		if _, ok := settings[name]; !ok {
			f.fail("%s.%s is missing, rope type %s needs it", f.ropePlace(), name, rope.Type)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s := settings[name]
		switch {
		case slices.Contains(keys.needs, name), slices.Contains(keys.takes, name), name == "rope_type", name == "rope_theta":
		case name == originalLength: // also written for types that make no use of it
		case name == "partial_rotary_factor" && arch.partialRotary:
		case name == "factor" || name == "partial_rotary_factor":
			if f.number(s.from, s.v) != 1 {
				f.fail("%s %s is not supported for %s with rope type %s (supported: 1)", s.from, s.v, arch.name, rope.Type)
			}
		case name == "truncate" && rope.Type == "yarn":
			if string(s.v) != "true" {
				f.fail("%s %s is not supported for %s with rope type yarn (supported: true)", s.from, s.v.plain(), arch.name)
			}
		default:
			f.fail("%s is not supported for %s with rope type %s", s.from, arch.name, rope.Type)
		}
	}
	original := 0
	if s, ok := settings[originalLength]; ok {
		n, _ := f.integer(s.from, s.v)
		if n <= 0 || n > maxPositions {
			f.fail("%s must be between 1 and %d, got %s", s.from, maxPositions, s.v)
		}
		original = int(n)
	}
	if f.err != nil {
		return RopeConfig{}
	}

	switch rope.Type {
	case "linear":
		rope.Factor = number("factor", 0)
	case "llama3":
		rope.Factor = number("factor", 0)
		rope.OriginalMaxPositions = original
		rope.LowFreqFactor, rope.HighFreqFactor = number("low_freq_factor", 0), number("high_freq_factor", 0)
		if s := settings["high_freq_factor"]; rope.HighFreqFactor <= rope.LowFreqFactor {
			f.fail("%s must be greater than low_freq_factor %g, got %s", s.from, rope.LowFreqFactor, s.v)
		}
	case "yarn":
		rope.Factor = number("factor", 0)
		rope.OriginalMaxPositions = original
		rope.BetaFast, rope.BetaSlow = number("beta_fast", 32), number("beta_slow", 1)
		rope.AttentionFactor = number("attention_factor", 0.1*math.Log(max(rope.Factor, 1))+1)
		if rope.BetaFast < rope.BetaSlow {
			f.fail("%s.beta_fast %g is less than beta_slow %g", f.ropePlace(), rope.BetaFast, rope.BetaSlow)
		}
		if rope.Theta == 1 {
			f.fail("rope_theta must be greater than 1 for rope type yarn, got 1")
		}
	case "longrope":
		half := c.HeadDim / 2
		if rope.Width > 0 {
			half = rope.Width / 2
		}
		rope.ShortFactors = f.factors(settings["short_factor"], half)
		rope.LongFactors = f.factors(settings["long_factor"], half)
		rope.OriginalMaxPositions = original
		stretch := float64(c.MaxPositions) / float64(original)
		if s, ok := settings["factor"]; ok && number("factor", 0) != stretch {
			f.fail("%s %s is not max_position_embeddings %d over %s %d", s.from, s.v, c.MaxPositions, originalLength, original)
		}
		if original == 1 {
			f.fail("%s must be greater than 1 for rope type longrope, got 1", settings[originalLength].from)
		}
		rope.AttentionFactor = 1
		if stretch > 1 {
			rope.AttentionFactor = math.Sqrt(1 + math.Log(stretch)/math.Log(float64(original)))
		}
		rope.AttentionFactor = number("attention_factor", rope.AttentionFactor)
	}
	if s := settings["factor"]; rope.Factor != 0 && rope.Factor < 1 {
		f.fail("%s must be at least 1, got %s", s.from, s.v)
	}
	return rope
}

// rotaryWidth returns how many dimensions of a head rotate, 0 for all.
func (f *configFields) rotaryWidth(headDim int, factor float64) int {
	width := int(float64(headDim) * min(factor, 2))
	switch {
	case f.err != nil || factor == 1:
		return 0
	case factor > 1 || width < 2 || width%2 != 0:
		f.fail("partial_rotary_factor %g of head_dim %d is not an even number of dimensions of the head", factor, headDim)
	}
	return width
}

// factors reads a list of n positive numbers.
func (f *configFields) factors(s ropeSetting, n int) []float64 {
	list, ok := s.v.elements()
	if !ok || len(list) != n {
		f.fail("%s must be a list of %d numbers, one for each rotated pair of dimensions", s.from, n)
		return nil
	}
	factors := make([]float64, n)
	for i, v := range list {
		if factors[i] = f.number(s.from, v); factors[i] <= 0 {
			f.fail("%s must be positive numbers, got %s", s.from, v)
		}
	}
	return factors
}

// ropeSettings gathers the settings from the places where a config may state them: the top level, rope_scaling
// (transformers up to 4) and rope_parameters (from 5 on). The old name type becomes rope_type, and old names of types
// the present ones. A null states nothing; one setting stated twice must have one value.
func (f *configFields) ropeSettings(arch *architecture) map[string]ropeSetting {
	settings := make(map[string]ropeSetting)
	note := func(name, from string, v value) {
		if v.isNull() {
			return
		}
		if t, ok := v.text(); ok && name == "rope_type" && arch.ropeAliases[t] != "" {
			v = value(strconv.Quote(arch.ropeAliases[t]))
		}
		if other, twice := settings[name]; !twice {
			settings[name] = ropeSetting{from, v}
		} else if !other.v.equal(v) {
			f.fail("%s %s and %s %s contradict each other", other.from, other.v.plain(), from, v.plain())
		}
	}
	for _, name := range []string{"rope_theta", "partial_rotary_factor", originalLength} {
		note(name, name, f.keys[name])
	}
	for _, place := range []string{"rope_scaling", "rope_parameters"} {
		v := f.keys[place]
		if v.isNull() {
			continue
		}
		inner, err := (&scanner{data: v}).fields()
		if err != nil {
			f.fail("%s must be an object, got %s", place, v)
			return nil
		}
		for _, key := range slices.Sorted(maps.Keys(inner)) {
			name := key
			if key == "type" {
				name = "rope_type"
			}
			note(name, place+"."+printable(key), inner[key])
		}
	}
	return settings
}

// ropePlace is the object in which this config states the rotary embedding.
func (f *configFields) ropePlace() string {
	if f.keys["rope_scaling"].isNull() {
		return "rope_parameters"
	}
	return "rope_scaling"
}
