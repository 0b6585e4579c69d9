package checkpoint

import (
	"math"
	"testing"
)

// float16Value and bfloat16Value are the values by definition: sign x significand x 2^exponent.
func float16Value(h uint16) float64  { return smallFloatValue(h, 10, 15) }
func bfloat16Value(b uint16) float64 { return smallFloatValue(b, 7, 127) }

func smallFloatValue(b uint16, fraction, bias int) float64 {
	sign := 1.0
	if b&0x8000 != 0 {
		sign = -1
	}
	mask := 1<<fraction - 1
	significand, exponent := int(b)&mask, int(b&0x7fff)>>fraction
	switch exponent {
	case 2*bias + 1:
		if significand != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	case 0:
		return sign * math.Ldexp(float64(significand), 1-bias-fraction)
	}
	return sign * math.Ldexp(float64(significand+mask+1), exponent-bias-fraction)
}

func TestHalfFormatsExhaustively(t *testing.T) {
	for _, f := range []struct {
		name   string
		value  func(uint16) float64
		widen  func(uint16) float32
		narrow func(float32) uint16
		inf    uint16
	}{
		{"float16", float16Value, Float16ToFloat32, Float32ToFloat16, 0x7c00},
		{"bfloat16", bfloat16Value, BFloat16ToFloat32, Float32ToBFloat16, 0x7f80},
	} {
		for i := range 1 << 16 {
			h := uint16(i)
			got, want := f.widen(h), f.value(h)
			if math.IsNaN(want) {
				if back := f.narrow(got); got == got || back&f.inf != f.inf || back&^(f.inf|0x8000) == 0 || back&0x8000 != h&0x8000 {
					t.Fatalf("%s %#04x: %v, back %#04x, want NaN", f.name, h, got, back)
				}
				continue
			}
			if float64(got) != want || math.Signbit(float64(got)) != (h&0x8000 != 0) {
				t.Fatalf("%s %#04x: %v, want %v", f.name, h, got, want)
			}
			if back := f.narrow(got); back != h {
				t.Fatalf("%s %v: %#04x, want %#04x", f.name, got, back, h)
			}
			// Between h and the next value up, the midpoint goes to the even one, and all else to the nearer.
			if h&0x7fff >= f.inf {
				continue
			}
			up := f.value(h + 1)
			if (h+1)&0x7fff == f.inf { // the largest finite value: the next one would be 2^16 or 2^128
				up = 2*want - f.value(h-1)
			}
			middle := float32((want + up) / 2)
			if float64(middle) != (want+up)/2 {
				t.Fatalf("%s %#04x: the midpoint is no float32", f.name, h)
			}
			even := h + h&1
			away := float32(up)
			for _, c := range []struct {
				x    float32
				want uint16
			}{{middle, even}, {math.Nextafter32(middle, float32(want)), h}, {math.Nextafter32(middle, away), h + 1}} {
				if got := f.narrow(c.x); got != c.want {
					t.Fatalf("%s of %v: %#04x, want %#04x", f.name, c.x, got, c.want)
				}
			}
		}
		for _, x := range []float32{math.MaxFloat32, float32(math.Inf(1))} {
			if got := f.narrow(x); got != f.inf {
				t.Errorf("%s of %v: %#04x, want infinity", f.name, x, got)
			}
			if got := f.narrow(-x); got != f.inf|0x8000 {
				t.Errorf("%s of %v: %#04x, want -infinity", f.name, -x, got)
			}
		}
	}
}
