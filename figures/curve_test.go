package figures

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCurves draws two curves twice: the same bytes, the names and labels in
// them, and no point that is not finite.
func TestCurves(t *testing.T) {
	curves := []Curve{{"training", []float64{1, 2, 3}, []float64{6.5, 4, 3.25}}, {"validation", []float64{1, 2, 3}, []float64{math.NaN(), math.Inf(1), 3.5}}}
	var first [][]byte
	for range 2 {
		dir := t.TempDir()
		paths, err := Curves("Loss: x", "Million tokens", "Nats", []string{"a note"}, curves, filepath.Join(dir, "in", "loss"))
		if err != nil {
			t.Fatal(err)
		}
		var all [][]byte
		for i, ext := range []string{"png", "svg", "pdf"} {
			if filepath.Base(paths[i]) != "loss."+ext {
				t.Errorf("file %s", paths[i])
			}
			b, err := os.ReadFile(paths[i])
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
		checkPNG(t, "loss", all[0])
		texts := svgTexts(t, all[1])
		for _, want := range []string{"Loss: x", "a note", "Million tokens", "Nats", "training", "validation", "6", "3"} {
			if !slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(s, want) }) {
				t.Errorf("no text %q in %q", want, texts)
			}
		}
		if bytes.Contains(all[1], []byte("NaN")) || bytes.Contains(all[1], []byte("Inf")) {
			t.Error("a point that is not finite was drawn")
		}
		if first == nil {
			first = all
		} else if !slices.EqualFunc(first, all, bytes.Equal) {
			t.Error("two drawings of the same curves differ")
		}
	}
	if _, err := Curves("", "", "", nil, []Curve{{"x", []float64{1}, []float64{math.NaN()}}}, filepath.Join(t.TempDir(), "x")); !errors.Is(err, ErrNoData) {
		t.Errorf("%v, expected %v", err, ErrNoData)
	}
	if _, err := Curves("", "", "", nil, []Curve{{"x", []float64{1}, nil}}, filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("no error for places without values")
	}
}
