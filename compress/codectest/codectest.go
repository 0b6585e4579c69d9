// Package codectest holds the tests that every compress.Codec must pass.
//
// [Run] states the contract: one message per matrix, the same bytes each time,
// shapes restored, values that travel exactly restored exactly, parts that sum
// to the length, and an error, never a panic, for anything that is not a whole
// undamaged message of the codec.
package codectest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"splitbench/compress"
)

// shapes are the row and column counts under test: no rows, one value, odd
// widths, hidden sizes of 7B and 13B models, and enough rows for many symbols.
var shapes = [][2]int{{0, 0}, {0, 7}, {1, 1}, {2, 1}, {1, 31}, {3, 31}, {64, 31}, {5, 128}, {1, 4096}, {2, 4096}, {1, 5120}}

// Activations returns a matrix shaped like the residual stream of a language
// model: a spread per row, a factor per channel, and a few massive values. All
// are finite and below 2000 in magnitude. The seed decides every value.
func Activations(rows, cols int, seed uint64) compress.Matrix {
	rng := rand.New(rand.NewPCG(seed, 1))
	channel := make([]float64, cols)
	for c := range channel {
		channel[c] = math.Exp(.25 * rng.NormFloat64())
		if rng.IntN(512) == 0 {
			channel[c] *= 6 + 6*rng.Float64()
		}
	}
	m := compress.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	for r := range rows {
		spread := .5 + .5*rng.Float64()
		row := m.Row(r)
		for c := range row {
			row[c] = float32(spread * channel[c] * rng.NormFloat64())
		}
		if rng.IntN(8) == 0 {
			row[rng.IntN(cols)] = float32(500 + 700*rng.Float64())
		}
	}
	return m
}

// Exact returns a matrix of values that every codec restores bit for bit: rows
// of +0 with NaNs and infinities among them, and rows of +0 alone.
func Exact(rows, cols int, seed uint64) compress.Matrix {
	rng := rand.New(rand.NewPCG(seed, 2))
	special := []float32{float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0x7fc00000)}
	m := compress.Matrix{Rows: rows, Cols: cols, Data: make([]float32, rows*cols)}
	for r := 0; r < rows; r += 2 {
		for range 1 + cols/16 {
			m.Row(r)[rng.IntN(cols)] = special[rng.IntN(len(special))]
		}
	}
	return m
}

// suite is a codec under test.
type suite struct {
	newCodec func() compress.Codec
	cols     int // of every matrix; 0: any, and no message needs tables
}

// Run runs the suite on the codecs that newCodec returns; each call must return
// one with the same settings.
func Run(t *testing.T, newCodec func() compress.Codec) { suite{newCodec: newCodec}.run(t) }

// RunTrained runs the suite on a codec with trained tables for cols columns: all
// matrices have that many, the package function Decode must refuse the messages
// for want of the tables, and Inspect must name them.
func RunTrained(t *testing.T, cols int, newCodec func() compress.Codec) {
	suite{newCodec, cols}.run(t)
}

// columns returns cols, or the columns that the codec is for.
func (s suite) columns(cols int) int {
	if s.cols > 0 {
		return s.cols
	}
	return cols
}

func (s suite) activations(rows, cols int, seed uint64) compress.Matrix {
	return Activations(rows, s.columns(cols), seed)
}

func (s suite) exactMatrix(rows, cols int, seed uint64) compress.Matrix {
	return Exact(rows, s.columns(cols), seed)
}

func (s suite) run(t *testing.T) {
	newCodec := s.newCodec
	t.Run("RoundTrip", func(t *testing.T) { s.roundTrip(t) })
	t.Run("Exact", func(t *testing.T) { s.exact(t, newCodec()) })
	t.Run("Buffers", func(t *testing.T) { s.buffers(t, newCodec()) })
	t.Run("Shape", func(t *testing.T) { badShapes(t, newCodec()) })
	t.Run("Truncated", func(t *testing.T) { s.truncated(t, newCodec()) })
	t.Run("Corrupted", func(t *testing.T) { s.corrupted(t, newCodec()) })
	t.Run("Trailing", func(t *testing.T) { s.trailing(t, newCodec()) })
	t.Run("Foreign", func(t *testing.T) { s.foreign(t, newCodec()) })
	if s.cols > 0 {
		t.Run("Columns", func(t *testing.T) { s.otherColumns(t, newCodec()) })
	}
	t.Run("Concurrent", func(t *testing.T) { s.concurrent(t, newCodec()) })
}

func encode(t testing.TB, c compress.Codec, m compress.Matrix) []byte {
	t.Helper()
	msg, parts, err := c.Encode(nil, m)
	if err != nil {
		t.Fatalf("Encode of %d x %d: %v", m.Rows, m.Cols, err)
	}
	if parts.Total() != len(msg) {
		t.Fatalf("parts %+v sum to %d, message has %d bytes", parts, parts.Total(), len(msg))
	}
	for _, n := range []int{parts.Header, parts.Tables, parts.Codes, parts.Side, parts.Sparse} {
		if n < 0 {
			t.Fatalf("negative part in %+v", parts)
		}
	}
	return msg
}

func decode(t testing.TB, c compress.Codec, msg []byte) compress.Matrix {
	t.Helper()
	m, err := c.Decode(nil, msg)
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	if len(m.Data) != m.Rows*m.Cols {
		t.Fatalf("%d values for %d x %d", len(m.Data), m.Rows, m.Cols)
	}
	return m
}

// same compares shape and bit patterns.
func same(a, b compress.Matrix) error {
	if a.Rows != b.Rows || a.Cols != b.Cols || len(a.Data) != len(b.Data) {
		return fmt.Errorf("shape %d x %d, want %d x %d", a.Rows, a.Cols, b.Rows, b.Cols)
	}
	for i, v := range a.Data {
		if math.Float32bits(v) != math.Float32bits(b.Data[i]) {
			return fmt.Errorf("row %d, column %d: %v (%08x), want %v (%08x)", i/a.Cols, i%a.Cols,
				v, math.Float32bits(v), b.Data[i], math.Float32bits(b.Data[i]))
		}
	}
	return nil
}

func (s suite) roundTrip(t *testing.T) {
	newCodec := s.newCodec
	c := newCodec()
	if c.Name() == "" || c.Name() != newCodec().Name() {
		t.Fatalf("names %q and %q", c.Name(), newCodec().Name())
	}
	for i, shape := range shapes {
		m := s.activations(shape[0], shape[1], uint64(i))
		before := slices.Clone(m.Data)
		msg := encode(t, c, m)
		if err := same(m, compress.Matrix{Rows: m.Rows, Cols: m.Cols, Data: before}); err != nil {
			t.Fatalf("Encode changed its input: %v", err)
		}
		if again := encode(t, newCodec(), m); !bytes.Equal(msg, again) {
			t.Fatalf("%v: a second encoding differs", shape)
		}
		out := decode(t, c, msg)
		if out.Rows != m.Rows || out.Cols != m.Cols {
			t.Fatalf("%v: decoded to %d x %d", shape, out.Rows, out.Cols)
		}
		if err := same(decode(t, newCodec(), msg), out); err != nil {
			t.Fatalf("%v: a second decoding differs: %v", shape, err)
		}
		byHeader, err := compress.Decode(nil, msg)
		if s.cols > 0 {
			if !errors.Is(err, compress.ErrMessage) || !strings.Contains(err.Error(), "needs tables") {
				t.Fatalf("%v: compress.Decode without the tables gives %v", shape, err)
			}
		} else if err != nil {
			t.Fatal(err)
		} else if err := same(byHeader, out); err != nil {
			t.Fatalf("%v: compress.Decode differs: %v", shape, err)
		}
		info, err := compress.Inspect(msg)
		if err != nil {
			t.Fatal(err)
		}
		cols := m.Cols
		if s.cols > 0 {
			cols = 0 // only the tables tell
		}
		if info.Codec != c.Name() || info.Rows != m.Rows || info.Cols != cols || (info.Tables != "") != (s.cols > 0) || info.Bytes != len(msg) || info.Parts.Total() != len(msg) {
			t.Fatalf("%v: Inspect says %+v", shape, info)
		}
		for j, v := range out.Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("%v: finite value %v became %v", shape, m.Data[j], v)
			}
		}
		// What was restored is again an input like any other.
		decode(t, c, encode(t, c, out))
	}
}

func (s suite) exact(t *testing.T, c compress.Codec) {
	for i, shape := range shapes {
		m := s.exactMatrix(shape[0], shape[1], uint64(i))
		msg := encode(t, c, m)
		out := decode(t, c, msg)
		if err := same(out, m); err != nil {
			t.Fatalf("%v: %v", shape, err)
		}
		if again := encode(t, c, out); !bytes.Equal(again, msg) {
			t.Fatalf("%v: the restored matrix encodes to other bytes", shape)
		}
	}
}

func (s suite) buffers(t *testing.T, c compress.Codec) {
	m, cols := s.activations(3, 31, 5), s.columns(31)
	msg := encode(t, c, m)
	want := decode(t, c, msg)
	prefix := []byte("prefix")
	dst, _, err := c.Encode(slices.Clone(prefix), m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(dst, append(slices.Clone(prefix), msg...)) {
		t.Fatal("Encode does not append")
	}
	// A large enough buffer is used, whatever it holds; what lies behind the
	// result is left alone.
	buf := make([]float32, 3*cols+1)
	for i := range buf {
		buf[i] = 12345
	}
	got, err := c.Decode(buf[:0:3*cols], msg)
	if err != nil {
		t.Fatal(err)
	}
	if &got.Data[0] != &buf[0] || buf[3*cols] != 12345 {
		t.Fatal("Decode does not keep to the given buffer")
	}
	if err := same(got, want); err != nil {
		t.Fatal(err)
	}
	if got, err = c.Decode(make([]float32, 5), msg); err != nil {
		t.Fatal(err)
	}
	if err := same(got, want); err != nil {
		t.Fatalf("buffer too small: %v", err)
	}
	// The result does not live in the message.
	clear(msg)
	if err := same(got, want); err != nil {
		t.Fatalf("after the message was overwritten: %v", err)
	}
}

func badShapes(t *testing.T, c compress.Codec) {
	for _, m := range []compress.Matrix{
		{Rows: 2, Cols: 3, Data: make([]float32, 5)},
		{Rows: 2, Cols: 3, Data: make([]float32, 7)},
		{Rows: 3, Cols: 0},
		{Rows: -1, Cols: -1, Data: make([]float32, 1)},
		{Rows: -1, Cols: 0},
		{Rows: 0, Cols: math.MaxInt},
		{Rows: 1 << 20, Cols: 1 << 20},
	} {
		dst, _, err := c.Encode([]byte("x"), m)
		if err == nil {
			t.Errorf("Encode takes %d x %d with %d values", m.Rows, m.Cols, len(m.Data))
		}
		if string(dst) != "x" {
			t.Errorf("a failed Encode returns %d bytes, want those given", len(dst))
		}
	}
}

// refused reports what is wrong when c, the package and Inspect do not all
// refuse msg as a bad message.
func refused(c compress.Codec, msg []byte) error {
	if _, err := c.Decode(nil, msg); !errors.Is(err, compress.ErrMessage) {
		return fmt.Errorf("method Decode gives %v, want an ErrMessage", err)
	}
	if _, err := compress.Decode(nil, msg); !errors.Is(err, compress.ErrMessage) {
		return fmt.Errorf("compress.Decode gives %v, want an ErrMessage", err)
	}
	if _, err := compress.Inspect(msg); !errors.Is(err, compress.ErrMessage) {
		return fmt.Errorf("compress.Inspect gives %v, want an ErrMessage", err)
	}
	return nil
}

func (s suite) truncated(t *testing.T, c compress.Codec) {
	for _, shape := range [][2]int{{0, 0}, {1, 1}, {3, 31}, {1, 4096}} {
		msg := encode(t, c, s.activations(shape[0], shape[1], 3))
		for n := range msg {
			if err := refused(c, msg[:n:n]); err != nil {
				t.Fatalf("%v cut to %d of %d bytes: %v", shape, n, len(msg), err)
			}
			if _, _, err := compress.Frame(msg[:n:n]); !errors.Is(err, compress.ErrMessage) {
				t.Fatalf("%v cut to %d of %d bytes: Frame gives %v", shape, n, len(msg), err)
			}
		}
	}
}

func (s suite) corrupted(t *testing.T, c compress.Codec) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, shape := range [][2]int{{0, 0}, {1, 1}, {3, 31}, {2, 4096}} {
		msg := encode(t, c, s.activations(shape[0], shape[1], 4))
		for i := range min(len(msg), 400) {
			bad := slices.Clone(msg)
			bad[i] ^= 1 << rng.IntN(8)
			if err := refused(c, bad); err != nil {
				t.Fatalf("%v, one bit of byte %d changed: %v", shape, i, err)
			}
		}
		for range 400 {
			bad := slices.Clone(msg)
			for range 1 + rng.IntN(4) {
				bad[rng.IntN(len(bad))] = byte(rng.Uint32())
			}
			if bytes.Equal(bad, msg) {
				continue
			}
			if err := refused(c, bad); err != nil {
				t.Fatalf("%v, random bytes changed: %v", shape, err)
			}
		}
	}
}

// otherColumns checks that a codec with tables takes no other matrices.
func (s suite) otherColumns(t *testing.T, c compress.Codec) {
	for _, cols := range []int{s.cols + 1, 2 * s.cols} {
		dst, _, err := c.Encode([]byte("x"), Activations(1, cols, 1))
		if err == nil || string(dst) != "x" {
			t.Errorf("Encode takes %d columns with tables for %d (%v)", cols, s.cols, err)
		}
	}
}

func (s suite) trailing(t *testing.T, c compress.Codec) {
	a, b := encode(t, c, s.activations(2, 31, 1)), encode(t, c, s.exactMatrix(1, 9, 2))
	if err := refused(c, append(slices.Clone(a), 0)); err != nil {
		t.Fatalf("a byte behind the message: %v", err)
	}
	both := append(slices.Clone(a), b...)
	if err := refused(c, both); err != nil {
		t.Fatalf("two messages: %v", err)
	}
	msg, rest, err := compress.Frame(both)
	if err != nil || !bytes.Equal(msg, a) || !bytes.Equal(rest, b) {
		t.Fatalf("Frame cuts %d and %d bytes, want %d and %d (%v)", len(msg), len(rest), len(a), len(b), err)
	}
	if msg, rest, err = compress.Frame(rest); err != nil || !bytes.Equal(msg, b) || len(rest) != 0 {
		t.Fatalf("Frame cuts %d and %d bytes, want %d and 0 (%v)", len(msg), len(rest), len(b), err)
	}
}

func (s suite) foreign(t *testing.T, c compress.Codec) {
	for _, name := range compress.CodecNames() {
		if name == c.Name() {
			continue
		}
		other, err := compress.NewCodec(name, compress.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		msg := encode(t, other, s.activations(1, 31, 1))
		if _, err := c.Decode(nil, msg); !errors.Is(err, compress.ErrMessage) {
			t.Errorf("a message of codec %s gives %v, want an ErrMessage", name, err)
		}
	}
}

func (s suite) concurrent(t *testing.T, c compress.Codec) {
	var wg sync.WaitGroup
	for g := range 4 {
		m := s.activations(1+g, 257*(g+1), uint64(g))
		msg := encode(t, c, m)
		want := decode(t, c, msg)
		wg.Go(func() {
			for range 20 {
				got, _, err := c.Encode(nil, m)
				if err != nil || !bytes.Equal(got, msg) {
					t.Errorf("an encoding beside others differs (%v)", err)
					return
				}
				out, err := c.Decode(nil, got)
				if err == nil {
					err = same(out, want)
				}
				if err != nil {
					t.Errorf("a decoding beside others: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}
