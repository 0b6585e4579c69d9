//go:build !race

package compress

import (
	"runtime/debug"
	"testing"
)

// TestSplit1Allocations checks that a stream of one-token messages takes no
// memory once it has run for a while: not the coding, with scratch of its own or
// shared, and not a session beyond what it keeps of the rows.
func TestSplit1Allocations(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the shared scratch
	const cols = 4096
	o := DefaultOptions()
	row := trainingRows(1, cols, 1)
	tables := trainOn(t, trainingRows(64, cols, 2), o)
	for _, bits := range []int{4, 8} {
		for _, x := range []*Tables{nil, tables} {
			o.MaxActivationBits, o.Tables, o.Restore = bits, x, "centroid"
			c := mustCodec(t, "split1", o)
			msg, _, err := c.Encode(nil, row)
			if err != nil {
				t.Fatal(err)
			}
			dst, out := make([]byte, 0, 2*len(msg)), make([]float32, cols)
			if n := testing.AllocsPerRun(50, func() {
				if _, _, err := c.Encode(dst, row); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%d bits: an encoding allocates %v times", bits, n)
			}
			if n := testing.AllocsPerRun(50, func() {
				if _, err := c.Decode(out, msg); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%d bits: a decoding allocates %v times", bits, n)
			}
			e := newEnds(t, o)
			for _, s := range []*Session{e.enc, e.dec} {
				s.sample = newSample(cols)
				s.sample.codes = make([]int8, 0, 200*cols)
				s.sample.q = make([]uint8, 0, 200)
			}
			if n := testing.AllocsPerRun(50, func() {
				if _, _, err := e.enc.Encode(dst, row); err != nil {
					t.Fatal(err)
				}
				if _, err := e.dec.Decode(out, msg); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%d bits: a session allocates %v times per token", bits, n)
			}
		}
	}
}
