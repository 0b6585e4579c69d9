package checkpoint

import (
	"maps"
	"slices"
	"strings"
)

// ropeKeys lists, for each rotary embedding type that an architecture may name, the settings it needs
// beside rope_theta.
var ropeKeys = map[string][]string{
	"default": {},
	"linear":  {"factor"},
	"llama3":  {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}

// ropeSetting is one setting of the rotary embedding and the key that states it.
type ropeSetting struct {
	from string
	v    value
}

// rope reads the settings of the rotary embedding in all spellings. Settings that contradict each other, and
// settings that the type does not use, are errors.
func (f *configFields) rope(arch *architecture) RopeConfig {
	settings := f.ropeSettings()
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
			f.fail("%s %s is not supported for %s (supported: %s)", s.from, s.v.plain(), arch.name, strings.Join(arch.ropeTypes, ", "))
		}
	}
	numbers := make(map[string]float64)
	for _, name := range ropeKeys[rope.Type] {
		s, ok := settings[name]
		if !ok {
			f.fail("%s.%s is missing, rope type %s needs it", f.ropePlace(), name, rope.Type)
			return RopeConfig{}
		}
		switch n := f.number(s.from, s.v); {
		case name == "factor" && n < 1:
			f.fail("%s must be at least 1, got %s", s.from, s.v)
		case n <= 0:
			f.fail("%s must be positive, got %s", s.from, s.v)
		default:
			numbers[name] = n
		}
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s := settings[name]
		switch {
		case slices.Contains(ropeKeys[rope.Type], name), name == "rope_type", name == "rope_theta":
		case name == "original_max_position_embeddings": // also written for types that make no use of it
		case name == "factor" || name == "partial_rotary_factor":
			if f.number(s.from, s.v) != 1 {
				f.fail("%s %s is not supported for %s with rope type %s (supported: 1)", s.from, s.v, arch.name, rope.Type)
			}
		default:
			f.fail("%s is not supported for %s with rope type %s", s.from, arch.name, rope.Type)
		}
	}

	rope.Factor = numbers["factor"]
	rope.LowFreqFactor, rope.HighFreqFactor = numbers["low_freq_factor"], numbers["high_freq_factor"]
	if s := settings["high_freq_factor"]; rope.Type == "llama3" && rope.HighFreqFactor <= rope.LowFreqFactor {
		f.fail("%s must be greater than low_freq_factor %g, got %s", s.from, rope.LowFreqFactor, s.v)
	}
	if s, ok := settings["original_max_position_embeddings"]; ok {
		n, _ := f.integer(s.from, s.v)
		if n <= 0 || n > maxPositions {
			f.fail("%s must be between 1 and %d, got %s", s.from, maxPositions, s.v)
		}
		if numbers["original_max_position_embeddings"] != 0 {
			rope.OriginalMaxPositions = int(n)
		}
	}
	return rope
}

// ropeSettings gathers the settings from the places where a config may state them: the top level, rope_scaling
// (transformers up to 4) and rope_parameters (from 5 on). The old name type becomes rope_type. A null states
// nothing; one setting stated twice must have one value.
func (f *configFields) ropeSettings() map[string]ropeSetting {
	settings := make(map[string]ropeSetting)
	note := func(name, from string, v value) {
		if v.isNull() {
			return
		}
		if other, twice := settings[name]; !twice {
			settings[name] = ropeSetting{from, v}
		} else if !other.v.equal(v) {
			f.fail("%s %s and %s %s contradict each other", other.from, other.v.plain(), from, v.plain())
		}
	}
	for _, name := range []string{"rope_theta", "original_max_position_embeddings"} {
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
