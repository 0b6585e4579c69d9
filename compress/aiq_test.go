package compress

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestZeroPoint is the check of codec-notes B: magnitudes 2 to 5 at 2 bits,
// step 1.
func TestZeroPoint(t *testing.T) {
	g := newGrid(2, 5, 2)
	if g.scale != 1 || g.zero != -2 {
		t.Fatalf("scale %v, zero %d, want 1, -2", g.scale, g.zero)
	}
	for i, x := range []float32{2, 3, 4, 5} {
		if q := g.code(x); q != int32(i) || g.value(q) != x {
			t.Errorf("%v has code %d, which is %v, want code %d", x, q, g.value(q), i)
		}
	}
	// As printed, z = +2: codes 4 to 7, out of 0 to 3, yet they invert.
	printed := grid{scale: 1, zero: 2, top: 7}
	for i, x := range []float32{2, 3, 4, 5} {
		if q := printed.code(x); q != int32(i)+4 || printed.value(q) != x {
			t.Errorf("as printed, %v has code %d, which is %v, want code %d", x, q, printed.value(q), i+4)
		}
	}
	// -3: magnitude code 1. The printed order subtracts z from the signed code.
	if q := g.code(3); q != 1 || g.signedValue(q, true) != -3 || g.signedValue(q, false) != 3 {
		t.Errorf("-3 restores as %v", g.signedValue(g.code(3), true))
	}
	if got := g.value(-1); got != 1 {
		t.Errorf("Eq. 7 as printed gives %v for the signed code -1, expected the wrong +1", got)
	}
	if q := g.code(9); q != 3 {
		t.Errorf("a value beyond the range has code %d, want 3", q)
	}
	if q := g.code(-9); q != 0 {
		t.Errorf("a value below the range has code %d, want 0", q)
	}
}

func TestRounding(t *testing.T) {
	for _, x := range []float32{0, .5, 1.5, 2.5, -.5, -1.5, -2.5, .49999997, .50000006, 1e6, -1e6, 2097151.5, -2097150.5} {
		if got, want := roundEven(x), int32(math.RoundToEven(float64(x))); got != want {
			t.Errorf("roundEven(%v) = %d, want %d", x, got, want)
		}
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 100000 {
		m, s := rng.Float32()*300, rng.Float32()+.01
		if s == 0 {
			continue
		}
		want := min(uint32(math.RoundToEven(float64(m/s))), 127)
		if got := magnitudeCode(m, s, 127); got != want {
			t.Fatalf("magnitudeCode(%v, %v) = %d, want %d", m, s, got, want)
		}
	}
}

// TestMagnitudeScale checks codec-notes A 12.
func TestMagnitudeScale(t *testing.T) {
	for _, c := range []struct {
		largest float32
		bits    int
		scale32 bool
		want    float32
	}{
		{3.5, 3, false, .5},
		{3.5, 2, false, 1.1669921875},
		{3.5, 2, true, float32(3.5) / 3},
		{0x1p-14, 1, false, 0x1p-14},         // smallest normal float16
		{0x1.ff8p-15, 1, false, 0x1.ff8p-15}, // the largest subnormal float16 stays float32
		{0x1.ffffp-15, 1, false, 0x1p-14},    // rounds up to the smallest normal
		{65519, 1, false, 65504},             // largest float16
		{65520, 1, false, 65520},             // would be infinite
		{1e30, 1, false, 1e30},               //
		{math.SmallestNonzeroFloat32, 7, false, math.SmallestNonzeroFloat32},               // never 0
		{3 * math.SmallestNonzeroFloat32, 1, true, 3 * math.SmallestNonzeroFloat32},        //
		{math.MaxFloat32, 7, false, float32(math.MaxFloat32 / 127)},                        //
		{2 * math.SmallestNonzeroFloat32 * 127, 7, false, 2 * math.SmallestNonzeroFloat32}, //
	} {
		if got := magnitudeScale(c.largest, c.bits, c.scale32); got != c.want {
			t.Errorf("magnitudeScale(%v, %d, %v) = %v, want %v", c.largest, c.bits, c.scale32, got, c.want)
		}
	}
}
