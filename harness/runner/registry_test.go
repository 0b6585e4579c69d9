package runner

import (
	"slices"
	"testing"

	"splitbench/compress"
	"splitbench/experiments/spec"
	"splitbench/figures"
	"splitbench/harness/exec"
	"splitbench/sim"
	"splitbench/tasks"
)

// TestNames: the names that specs accept are those of the parts that bear
// them; spec is a leaf and cannot ask.
func TestNames(t *testing.T) {
	choices := map[string][]string{}
	for _, k := range spec.Keys() {
		choices[k.Path] = k.Choices
	}
	var taskNames, figureNames []string
	for _, i := range tasks.List() {
		taskNames = append(taskNames, i.Name)
	}
	for _, f := range figures.List() {
		figureNames = append(figureNames, f.Name)
	}
	var protocols []string
	for _, p := range tasks.Protocols() {
		protocols = append(protocols, string(p))
	}
	var shapes []string
	for _, m := range sim.Models() {
		shapes = append(shapes, m.Name)
	}
	var panels []string
	for p := range arrivalOf {
		panels = append(panels, p)
	}
	for key, want := range map[string][]string{
		"tasks.name": taskNames, "outputs": figureNames, "protocol": protocols, "server.shapes": shapes, "server.panels": panels,
		"methods.boundary.codec": append([]string{exec.CodecNone}, compress.CodecNames()...),
	} {
		have := slices.Clone(choices[key])
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			t.Errorf("key %s accepts %v, expected %v", key, have, want)
		}
	}
}
