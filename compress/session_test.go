package compress

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// ends is a stream: an encoder and a decoder that follow the same steps.
type ends struct {
	t        testing.TB
	o        Options
	enc, dec *Session
}

func newEnds(t testing.TB, o Options) *ends {
	t.Helper()
	e := &ends{t: t, o: o}
	for _, s := range []**Session{&e.enc, &e.dec} {
		var err error
		if *s, err = NewSession(o); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// send passes m through the stream and compares with the quantiser.
func (e *ends) send(m Matrix) []byte {
	e.t.Helper()
	msg, parts, err := e.enc.Encode(nil, m)
	if err != nil {
		e.t.Fatal(err)
	}
	if parts.Total() != len(msg) {
		e.t.Fatalf("parts %+v of %d bytes", parts, len(msg))
	}
	out, err := e.dec.Decode(nil, msg)
	if err != nil {
		e.t.Fatal(err)
	}
	q, err := Quantise(m, e.o)
	if err != nil {
		e.t.Fatal(err)
	}
	want := q.Restore(nil)
	if out.Rows != want.Rows || out.Cols != want.Cols || !bytes.Equal(littleEndian(out.Data), littleEndian(want.Data)) {
		e.t.Fatal("the stream restores other values than the quantiser")
	}
	e.same()
	return msg
}

// train trains both ends.
func (e *ends) train() error {
	e.t.Helper()
	a, b := e.enc.Train(), e.dec.Train()
	if (a == nil) != (b == nil) {
		e.t.Fatalf("one end trains, the other gives %v and %v", a, b)
	}
	e.same()
	return a
}

// same compares the tables of both ends.
func (e *ends) same() {
	e.t.Helper()
	a, b := e.enc.Tables(), e.dec.Tables()
	if (a == nil) != (b == nil) || a != nil && !bytes.Equal(a.Append(nil), b.Append(nil)) {
		e.t.Fatal("the ends have different tables")
	}
}

func TestSession(t *testing.T) {
	for _, change := range []func(*Options){
		func(o *Options) {},
		func(o *Options) { o.MaxActivationBits, o.LowerBound, o.Threshold = 8, 1, 1 },
		func(o *Options) { o.Granularity, o.MaxActivationBits, o.Lanes = "per_tensor", 6, 8 },
		func(o *Options) { o.ThresholdBy, o.Threshold = "quantile", .95 },
	} {
		o := DefaultOptions()
		change(&o)
		e := newEnds(t, o)
		if e.train() == nil {
			t.Fatal("trains on nothing")
		}
		prompt, token := trainingRows(64, 48, 1), trainingRows(1, 48, 2)
		before := e.send(prompt)
		e.send(Matrix{0, 48, nil})
		e.send(Matrix{2, 48, make([]float32, 96)}) // no codes
		first := e.send(token)
		if e.enc.Tables() != nil {
			t.Fatal("tables without training")
		}
		if err := e.train(); err != nil {
			t.Fatal(err)
		}
		after := e.send(token)
		if bytes.Equal(first, after) || after[1]&split1Trained == 0 || e.enc.Tables().Cols() != 48 {
			t.Errorf("flags %02x after training", after[1])
		}
		for i := range uint64(20) {
			e.send(trainingRows(1, 48, 10+i))
		}
		trained := e.enc.Tables().ID()
		if err := e.train(); err != nil {
			t.Fatal(err)
		}
		if e.enc.Tables().ID() == trained {
			t.Error("training on more rows gives the same tables")
		}
		// From the start again: the same messages.
		e.enc.Reset()
		e.dec.Reset()
		e.same()
		if e.enc.Tables() != nil || !bytes.Equal(e.send(prompt), before) {
			t.Error("a reset does not go back to the start")
		}
		e.enc.Reset()
		e.dec.Reset()
		e.send(Matrix{1, 5, []float32{1, 2, 3, 4, 5}}) // other columns now
	}
}

// TestSessionGiven starts from given tables, to which a reset goes back.
func TestSessionGiven(t *testing.T) {
	o := DefaultOptions()
	given := trainOn(t, trainingRows(50, 20, 1), o)
	o.Tables = given
	e := newEnds(t, o)
	first := e.send(trainingRows(30, 20, 2))
	if err := e.train(); err != nil {
		t.Fatal(err)
	}
	if e.enc.Tables() == given {
		t.Fatal("training keeps the given tables")
	}
	e.send(trainingRows(1, 20, 3))
	e.enc.Reset()
	e.dec.Reset()
	if e.enc.Tables() != given || !bytes.Equal(e.send(trainingRows(30, 20, 2)), first) {
		t.Error("a reset does not go back to the given tables")
	}
	bad := DefaultOptions()
	bad.LowerBound = 0
	if _, err := NewSession(bad); err == nil {
		t.Error("options are not checked")
	}
}

// TestSessionMissed loses a message: after the next training the decoder refuses.
func TestSessionMissed(t *testing.T) {
	e := newEnds(t, DefaultOptions())
	e.send(trainingRows(30, 20, 1))
	if _, _, err := e.enc.Encode(nil, trainingRows(1, 20, 2)); err != nil { // lost
		t.Fatal(err)
	}
	e.send(trainingRows(1, 20, 3)) // the tables are still the same
	for _, s := range []*Session{e.enc, e.dec} {
		if err := s.Train(); err != nil {
			t.Fatal(err)
		}
	}
	msg, _, err := e.enc.Encode(nil, trainingRows(1, 20, 4))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.dec.Decode(nil, msg); !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), "needs tables") {
		t.Errorf("the decoder missed a message and gives %v", err)
	}
	// One end trains, the other does not.
	e = newEnds(t, DefaultOptions())
	e.send(trainingRows(30, 20, 1))
	if err := e.dec.Train(); err != nil {
		t.Fatal(err)
	}
	if msg, _, err = e.enc.Encode(nil, trainingRows(1, 20, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.dec.Decode(nil, msg); !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), "built-in tables") {
		t.Errorf("only the decoder trained and gives %v", err)
	}
}

// TestSessionErrors checks that what fails teaches nothing, at either end.
func TestSessionErrors(t *testing.T) {
	o := DefaultOptions()
	o.AboveType = "float16"
	clean, e := newEnds(t, o), newEnds(t, o)
	clean.send(trainingRows(30, 20, 1))
	msg := e.send(trainingRows(30, 20, 1))
	for _, m := range []Matrix{
		{1, 19, make([]float32, 19)}, // not the stream's columns
		{1, 20, make([]float32, 19)},
		{1, 20, append(make([]float32, 19), 1e30)}, // overflows float16
	} {
		dst, _, err := e.enc.Encode([]byte("x"), m)
		if err == nil || string(dst) != "x" {
			t.Errorf("%d x %d: no error", m.Rows, m.Cols)
		}
	}
	other, _, err := mustCodec(t, "split1", o).Encode(nil, trainingRows(1, 19, 2))
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := mustCodec(t, "raw16", o).Encode(nil, trainingRows(1, 20, 2))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(msg)
	damaged[len(damaged)/2] ^= 1
	for name, b := range map[string][]byte{
		"cut": msg[:len(msg)-1], "damaged": damaged, "trailing": append(bytes.Clone(msg), 0), "other columns": other, "codec": raw, "empty": nil,
		// Two packed rows of Q 1, codes 0 but for the last four, which are none.
		"codes": sealSplit1(unhex(t, "a1 08 02 14 10 01003c 01003c 5555555555 55555555ff")),
	} {
		if _, err := e.dec.Decode(nil, b); !errors.Is(err, ErrMessage) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	e.send(trainingRows(2, 20, 3))
	clean.send(trainingRows(2, 20, 3))
	if err := e.train(); err != nil {
		t.Fatal(err)
	}
	if err := clean.train(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.enc.Tables().Append(nil), clean.enc.Tables().Append(nil)) || !bytes.Equal(e.dec.Tables().Append(nil), clean.dec.Tables().Append(nil)) {
		t.Error("errors were learned from")
	}
	// Too many columns, before memory for them is taken.
	s, err := NewSession(DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	wide := Matrix{1, maxTableCols + 1, make([]float32, maxTableCols+1)}
	if _, _, err := s.Encode(nil, wide); err == nil || !strings.Contains(err.Error(), "a session takes at most 131072") {
		t.Errorf("a wide matrix: %v", err)
	}
	if b, _, err := mustCodec(t, "split1", DefaultOptions()).Encode(nil, wide); err != nil {
		t.Error(err)
	} else if _, err := s.Decode(nil, b); !errors.Is(err, ErrMessage) || s.sample != nil {
		t.Errorf("a wide message: %v", err)
	}
}

// TestSessionBound is a stream with room for one more row.
func TestSessionBound(t *testing.T) {
	e := newEnds(t, DefaultOptions())
	row := trainingRows(1, maxTableCols, 1)
	e.send(row)
	const rows = maxTrainingBytes / (maxTableCols + 1)
	for _, s := range []*Session{e.enc, e.dec} {
		s.sample.q = slices.Repeat(s.sample.q, rows-1)
		s.sample.codes = slices.Repeat(s.sample.codes, rows-1)
	}
	for range 3 {
		e.send(row)
		for _, s := range []*Session{e.enc, e.dec} {
			if len(s.sample.q) != rows || s.sample.rows != 2 {
				t.Fatalf("%d rows are kept, %d counted, want %d and 2", len(s.sample.q), s.sample.rows, rows)
			}
		}
	}
}
