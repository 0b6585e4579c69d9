//go:build amd64 && !noasm

package compress

import (
	"math/rand/v2"
	"testing"
)

// TestReciprocals compares the encoder kernels' quotient with the division for
// every frequency. The error of a reciprocal grows with the state, so the states
// on both sides of the last multiples decide; others are drawn.
func TestReciprocals(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for freq := uint64(1); freq <= probOne; freq++ {
		f := encodeFields(uint16(freq), 0)
		d, r := uint32(f[0])|uint32(f[1])<<16, uint64(f[2])|uint64(f[3])<<16
		inc, shift := uint64(d>>12&1), 32+uint(d>>15&31)
		check := func(x uint64) {
			if got := (x + inc) * r >> shift; got != x/freq || x+inc > 1<<32-1 {
				t.Fatalf("%d / %d is %d, want %d", x, freq, got, x/freq)
			}
		}
		if d>>20 != uint32(probOne-freq) {
			t.Fatalf("frequency %d: field %d, want %d", freq, d>>20, probOne-freq)
		}
		for q := range uint64(300) {
			check(freq<<20 - 1 - q*freq) // the last before a multiple
			check(freq<<20 - freq - q*freq)
			check(q)
			x := rng.Uint64N(freq << 20)
			check(x)
			check(x / freq * freq)
		}
	}
}
