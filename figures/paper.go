package figures

import (
	"image/color"
	"slices"
	"strings"
)

// PaperPoint is a published value to compare with.
type PaperPoint struct {
	// Model and Task are names as in the run; the point is drawn where both are met.
	Model, Task string
	// Series is the method's name in the paper.
	Series string
	Layer  int32
	// Value is in percent.
	Value float64
}

// PaperTable2 returns Table 2 of arXiv 2511.04002 (Llama-2-7B, W-bar 50, tau 5,
// Qa-bar 4), as points of the model called model. By their size the values are
// acc_norm for piqa, arc_easy and hellaswag, acc for boolq and winogrande, under
// the protocol "legacy"; the paper does not say so.
func PaperTable2(model string) []PaperPoint {
	tasks := []string{"piqa", "arc_easy", "boolq", "hellaswag", "winogrande"}
	rows := []struct {
		layer  int32
		series string
		values [5]float64
	}{
		{5, "Atom", [5]float64{75.63, 52.69, 67.71, 67.18, 64.48}},
		{5, "Ours", [5]float64{76.50, 54.12, 70.67, 70.73, 67.32}},
		{10, "Atom", [5]float64{74.86, 51.73, 65.84, 66.57, 63.69}},
		{10, "Ours", [5]float64{76.01, 52.15, 68.84, 68.35, 66.38}},
		{15, "Atom", [5]float64{75.08, 51.43, 67.98, 67.81, 64.56}},
		{15, "Ours", [5]float64{76.33, 52.44, 69.60, 68.57, 65.27}},
		{20, "Atom", [5]float64{75.73, 52.40, 67.25, 68.23, 65.04}},
		{20, "Ours", [5]float64{76.17, 53.37, 67.22, 68.63, 65.11}},
		{25, "Atom", [5]float64{75.63, 52.69, 67.28, 68.56, 65.04}},
		{25, "Ours", [5]float64{75.79, 53.11, 68.17, 68.65, 65.90}},
		{30, "Atom", [5]float64{76.06, 52.40, 67.19, 68.49, 64.40}},
		{30, "Ours", [5]float64{76.12, 52.57, 67.31, 68.55, 64.25}},
	}
	var out []PaperPoint
	for _, r := range rows {
		for i, t := range tasks {
			out = append(out, PaperPoint{model, t, r.series, r.layer, r.values[i]})
		}
	}
	return out
}

// paperOf returns the points of one panel.
func paperOf(points []PaperPoint, model, task string) []PaperPoint {
	return slices.DeleteFunc(slices.Clone(points), func(p PaperPoint) bool {
		return !strings.EqualFold(p.Model, model) || p.Task != task
	})
}

// paperSeries returns the names of the series of the points, in order; of all
// points if tasks is nil.
func paperSeries(points []PaperPoint, model string, tasks []string) []string {
	var out []string
	for _, p := range points {
		if tasks != nil && (!strings.EqualFold(p.Model, model) || !slices.Contains(tasks, p.Task)) {
			continue
		}
		if !slices.Contains(out, p.Series) {
			out = append(out, p.Series)
		}
	}
	slices.Sort(out)
	return out
}

// paperStyle draws published values in grey with open markers.
func paperStyle(k int) style {
	grays := []color.RGBA{{0x99, 0x99, 0x99, 0xFF}, {0x44, 0x44, 0x44, 0xFF}}
	return style{grays[k%len(grays)], dashes[2], k % len(openMarkers)}
}
