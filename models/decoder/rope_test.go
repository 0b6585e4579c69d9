package decoder

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"splitbench/models/checkpoint"
)

func openFile(t *testing.T, path string) *checkpoint.File {
	t.Helper()
	f, err := checkpoint.OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestGoldenFrequencies compares with the reference's float64 frequencies.
func TestGoldenFrequencies(t *testing.T) {
	tables := 0
	for _, model := range goldens {
		dir := shared(t, "golden", "models", model.name)
		c, err := checkpoint.ReadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		r, err := newRope(c)
		if err != nil {
			t.Fatal(err)
		}
		file := openFile(t, dir+"/golden.safetensors")
		for _, name := range file.Names() {
			middle, ok := strings.CutPrefix(name, "rope.inv_freq")
			if !ok || !strings.HasSuffix(name, "_true") {
				continue
			}
			tables++
			x, _ := file.Tensor(name)
			want, err := x.Float64(nil)
			if err != nil {
				t.Fatal(err)
			}
			have := r.short.frequencies
			length := 0
			if fmt.Sscanf(middle, ".len%d_true", &length); r.long != nil && length > r.limit {
				have = r.long.frequencies
			}
			if !slices.EqualFunc(have, want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-15*b }) {
				t.Errorf("%s %s: %v, expected %v", model.name, name, have, want)
			}
		}
	}
	if tables != 13+4 {
		t.Errorf("%d tables, expected 17", tables)
	}
}

// TestTableIsRoundedOnce checks rotations at a far position against values
// computed with 30 digits.
func TestTableIsRoundedOnce(t *testing.T) {
	c := checkpoint.Config{HeadDim: 4, Rope: checkpoint.RopeConfig{Theta: 1e4, Type: "yarn", Factor: 1, BetaFast: 32, BetaSlow: 1, OriginalMaxPositions: 4096, AttentionFactor: 1.25}}
	r, err := newRope(c)
	if err != nil {
		t.Fatal(err)
	}
	table := r.short.upTo(40000)
	if again := r.short.upTo(300); again != table {
		t.Error("a shorter table was made anew")
	}
	// cos and sin of 39999 and of 39999 times the float64 0.01.
	cosine := []float64{0.97078041299244054906, -0.53377912582167714368}
	sine := []float64{0.23996956004924158882, -0.84562393818827418573}
	for i := range cosine {
		if have, want := table.Cos[39999*2+i], float32(1.25*cosine[i]); have != want {
			t.Errorf("cosine %d is %v, expected %v", i, have, want)
		}
		if have, want := table.Sin[39999*2+i], float32(1.25*sine[i]); have != want {
			t.Errorf("sine %d is %v, expected %v", i, have, want)
		}
	}
	if _, err := newRope(checkpoint.Config{HeadDim: 4, Rope: checkpoint.RopeConfig{Theta: 1e4, Type: "spiral"}}); err == nil {
		t.Error("an unknown type was accepted")
	}
}

// TestFrequenciesOfRealSizes checks the scaled types at the sizes of published
// models against values computed with 30 digits, on both sides of every bend.
func TestFrequenciesOfRealSizes(t *testing.T) {
	for _, c := range []struct {
		name string
		dim  int
		rope checkpoint.RopeConfig
		want map[int]float64
	}{
		{"yarn as documented for Qwen2.5", 128,
			checkpoint.RopeConfig{Theta: 1e6, Type: "yarn", Factor: 4, BetaFast: 32, BetaSlow: 1, OriginalMaxPositions: 32768, AttentionFactor: 1},
			map[int]float64{0: 1, 23: 0.00697830584859866338, 24: 0.0053753214907901015, 30: 0.00106436098124700182,
				39: 0.0000649039432083702882, 40: 0.00004445698525097307, 63: 3.10234440187929892e-7}},
		{"yarn whose ramp has no width", 16,
			checkpoint.RopeConfig{Theta: 1e6, Type: "yarn", Factor: 4, BetaFast: 1, BetaSlow: 1, OriginalMaxPositions: 6, AttentionFactor: 1},
			map[int]float64{0: 1, 1: 0.04445698525097307, 2: 0.00790569415042094833, 7: 1.4058533129758727e-6}},
		{"llama3 of Llama-3.1", 128,
			checkpoint.RopeConfig{Theta: 5e5, Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 8192},
			map[int]float64{0: 1, 28: 0.00321144599475259102, 29: 0.00216657076350335861, 31: 0.000856751412919632081,
				34: 0.000178507812767996419, 35: 0.0000955621235396468302, 63: 3.06892598891451109e-7}},
	} {
		r, err := newRope(checkpoint.Config{HeadDim: c.dim, Rope: c.rope})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range c.want {
			if have := r.short.frequencies[i]; math.Abs(have-want) > 1e-14*want {
				t.Errorf("%s: frequency %d is %g, expected %g", c.name, i, have, want)
			}
		}
	}
}
