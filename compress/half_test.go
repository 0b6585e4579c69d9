package compress

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestFloat16 goes through all of float16: each value survives, and so do the
// rules between neighbours (nearest, the middle to even). The oracle is
// arithmetic in float64.
func TestFloat16(t *testing.T) {
	for h := range 1 << 16 {
		v := fromFloat16(uint16(h))
		e, m := h>>10&31, float64(h&1023)
		want := math.Ldexp(1024+m, e-25)
		switch {
		case e == 0:
			want = math.Ldexp(m, -24)
		case e == 31 && m == 0:
			want = math.Inf(1)
		case e == 31:
			want = math.NaN()
		}
		if h >= 1<<15 {
			want = -want
		}
		if float64(v) != want && !math.IsNaN(want) || math.IsNaN(want) != (v != v) || math.Signbit(want) != math.Signbit(float64(v)) && v == v {
			t.Fatalf("fromFloat16(%04x) = %v, want %v", h, v, want)
		}
		if got := toFloat16(v); int(got) != h {
			t.Fatalf("toFloat16(fromFloat16(%04x)) = %04x", h, got)
		}
	}
	for h := uint16(0); h < 0x7bff; h++ {
		a, b := fromFloat16(h), fromFloat16(h+1)
		mid := a + (b-a)/2
		even := h + h&1
		for _, c := range []struct {
			x    float32
			want uint16
		}{{mid, even}, {math.Nextafter32(mid, 0), h}, {math.Nextafter32(mid, b), h + 1}, {-mid, even | 0x8000}} {
			if got := toFloat16(c.x); got != c.want {
				t.Fatalf("toFloat16(%v) = %04x, want %04x", c.x, got, c.want)
			}
		}
	}
}

func TestShortTypesAgainstReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range 300000 {
		v := math.Float32frombits(rng.Uint32())
		for _, c := range []struct {
			t    valueType
			want float64
		}{{typeFloat16, referenceFloat16(float64(v))}, {typeBfloat16, referenceBfloat16(float64(v))}, {typeFloat32, float64(v)}} {
			got := c.t.round(v)
			if !sameValue(got, float32(c.want)) {
				t.Fatalf("%s of %v (%08x) = %v, want %v", c.t, v, math.Float32bits(v), got, c.want)
			}
			if stored := c.t.value(c.t.append(nil, v), 0); !sameValue(stored, got) || len(c.t.append(nil, v)) != c.t.size() {
				t.Fatalf("%s of %v is stored as %v", c.t, v, stored)
			}
			if inf := math.IsInf(c.want, 0) && !math.IsInf(float64(v), 0); inf != c.t.becomesInfinite(v) {
				t.Fatalf("%s of %v becomes infinite: %v", c.t, v, !inf)
			}
		}
	}
}
