package exec

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"

	"splitbench/compress"
	"splitbench/harness/quantise"
)

// TestBoundaryInAxes sends the residual stream of a trained model at 3 bits,
// in the basis of its principal axes. Known beforehand of this model, from
// another program: a loss of 1.00 without threshold splitting, 0.89 when the top
// 1 % of the values are kept, 0.79 with 10 %, 0.77 in full precision, on a text
// like this one.
func TestBoundaryInAxes(t *testing.T) {
	const layer = 3
	original := openShared(t, "data", "babyllama105", "hf")
	ctx := context.Background()
	var tokens struct{ Calibration [][]int32 }
	b, err := os.ReadFile(sharedPath(t, "golden", "quant", "babyllama", "tokens.json"))
	if err == nil {
		err = json.Unmarshal(b, &tokens)
	}
	if err != nil {
		t.Fatal(err)
	}
	sequences := tokens.Calibration[:16]
	axes, err := quantise.PrincipalAxes(ctx, original.Engine.Model(), sequences, layer, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := quantise.Rotate(ctx, original.Checkpoint, axes.Rotation, quantise.NewRotated(dir, original.Checkpoint.Dir, "")); err != nil {
		t.Fatal(err)
	}
	l, err := Open(Source{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sizes, err := quantise.Measure(ctx, l.Engine.Model(), sequences, quantise.MagnitudeOptions{Shares: []float64{.01, .1}})
	if err != nil {
		t.Fatal(err)
	}
	var reqs []Request
	for _, ids := range sequences {
		reqs = append(reqs, Request{Input: ids[:len(ids)-1], Targets: ids[1:]})
	}
	loss := func(l *Loaded, m Method) float64 {
		t.Helper()
		var sum float64
		n := 0
		for _, a := range score(t, l, m, reqs) {
			sum -= a.LogProb
			n += len(a.TokenLogProbs)
		}
		return sum / float64(n)
	}
	full := loss(original, Method{})
	if have := loss(l, Method{}); !(math.Abs(have-full) < 1e-6) {
		t.Errorf("loss %v in the axes, %v before", have, full)
	}
	last := math.Inf(1)
	for _, c := range []struct {
		name        string
		tau, excess float64 // excess over full precision, with its tolerance
		tolerance   float64
	}{
		{"without threshold splitting", math.Inf(1), 1.00 - .77, .05},
		{"keeping the top 1 %", sizes[layer].Reached[0], .89 - .77, .04},
		{"keeping the top 10 %", sizes[layer].Reached[1], .79 - .77, .02},
	} {
		have := loss(l, Method{SplitLayer: layer, WeightLayer: layer, Codec: codec(t, "literal", func(o *compress.Options) {
			o.MaxActivationBits, o.Search, o.Threshold = 3, "fixed", c.tau
		})})
		t.Logf("3 bits %s: %.3f, in full precision %.3f", c.name, have, full)
		if !(math.Abs(have-full-c.excess) <= c.tolerance) || have >= last || have <= full {
			t.Errorf("3 bits %s: %.3f over the loss in full precision, expected %.2f", c.name, have-full, c.excess)
		}
		last = have
	}
}
