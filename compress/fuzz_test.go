package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
)

// fuzzLimit keeps what a fuzzed header can ask for small.
const fuzzLimit = 1 << 16

// seeds are messages of each codec and several readings.
func seeds(f *testing.F) [][]byte {
	var out [][]byte
	add := func(name string, o Options, m Matrix) {
		msg, _, err := mustCodec(f, name, o).Encode(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, msg)
	}
	two := Matrix{2, 8, append(slices.Clone(workedRow), make([]float32, 8)...)}
	o := DefaultOptions()
	for _, name := range CodecNames() {
		add(name, o, two)
		add(name, o, Matrix{})
	}
	o.MaxActivationBits, o.SparseIndex, o.ScaleType, o.Granularity, o.AboveType = 8, "torch", "float32", "per_tensor", "float32"
	add("literal", o, two)
	add("packed", o, two)
	add("literal", o, Matrix{1, 300, slices.Repeat([]float32{1, -2, .1}, 100)})
	o = DefaultOptions()
	o.LowerBound = 1
	for i, lanes := range split1Lanes {
		o.Lanes, o.MaxActivationBits = lanes, 2+i%7
		add("split1", o, trainingRows(2, 8*lanes, uint64(i)))
	}
	return out
}

// fuzzTables are trained tables of 24 columns, one with centroids, for the
// targets that need some.
func fuzzTables(t testing.TB) [2]*Tables {
	o := DefaultOptions()
	o.Threshold = 3
	first := trainOn(t, trainingRows(80, 24, 1), o)
	o.Restore, o.MaxActivationBits, o.LowerBound = "centroid", 5, 2
	return [2]*Tables{first, trainOn(t, trainingRows(80, 24, 2), o)}
}

// trainedSeeds are messages that need the tables.
func trainedSeeds(f *testing.F, tables [2]*Tables) [][]byte {
	var out [][]byte
	for i, x := range tables {
		o := DefaultOptions()
		o.Threshold, o.Tables, o.Restore, o.MaxActivationBits = 2, x, "centroid", 4+i
		for rows := range 4 {
			msg, _, err := mustCodec(f, "split1", o).Encode(nil, trainingRows(rows, 24, uint64(rows)))
			if err != nil {
				f.Fatal(err)
			}
			out = append(out, msg)
		}
	}
	return out
}

// resealSplit1 returns b as a split1 message with a right checksum and length
// where its header allows that, and with the number of the tables if it is said
// to need some.
func resealSplit1(b []byte, tables *Tables) []byte {
	if len(b) < 8 {
		return b
	}
	b = slices.Clone(b)
	b[0] = split1Magic
	if tables != nil {
		b[1] |= split1Trained
		binary.LittleEndian.PutUint16(b[2:], tables.id)
	} else {
		b[1] &^= split1Trained
	}
	in := parser{b: b[2 : len(b)-4]}
	if tables != nil {
		in.take(2)
	} else {
		in.uvarint()
	}
	in.uvarint()
	if in.bad {
		return b
	}
	// The body is all that follows the length as it stands.
	head := b[:len(b)-4-len(in.b)]
	in.uvarint()
	out := binary.AppendUvarint(slices.Clone(head), uint64(len(in.b)))
	return sealSplit1(append(out, in.b...))
}

// FuzzDecode decodes arbitrary bytes, as they are and with the fixed fields of
// the header and the checksum put right so that the parts behind are reached,
// with trained tables too. A message that decodes has the declared shape and
// cannot be larger than the limit; Inspect agrees.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	tables := fuzzTables(f)
	for _, s := range trainedSeeds(f, tables) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(b []byte, inspect func([]byte) (Info, error), decode func(dst []float32) (Matrix, error)) {
			m, err := decode(nil)
			if err != nil {
				if !errors.Is(err, ErrMessage) {
					t.Fatalf("error %v", err)
				}
				if _, err := inspect(b); err != nil && !errors.Is(err, ErrMessage) {
					t.Fatalf("Inspect gives %v", err)
				}
				return
			}
			if len(m.Data) != m.Rows*m.Cols || cap(m.Data) > fuzzLimit {
				t.Fatalf("%d x %d with %d values", m.Rows, m.Cols, len(m.Data))
			}
			info, err := inspect(b)
			if err != nil {
				t.Fatalf("decodes, but Inspect gives %v", err)
			}
			rows := 0
			for _, n := range info.QRows {
				rows += n
			}
			if info.Rows != m.Rows || info.Cols != m.Cols || info.Parts.Total() != len(b) || info.Codec != "raw16" && rows != m.Rows {
				t.Fatalf("Inspect says %+v of %d x %d in %d bytes", info, m.Rows, m.Cols, len(b))
			}
			again, err := decode(make([]float32, 0, len(m.Data)))
			if err != nil || !bytes.Equal(littleEndian(again.Data), littleEndian(m.Data)) {
				t.Fatalf("decodes differently a second time (%v)", err)
			}
		}
		try := func(b []byte) {
			check(b, Inspect, func(dst []float32) (Matrix, error) { return decode(dst, b, 0, fuzzLimit) })
		}
		try(b)
		for _, x := range tables {
			b := resealSplit1(b, x)
			check(b, x.Inspect, func(dst []float32) (Matrix, error) { return decodeSplit1(dst, b, x, new(scratch), fuzzLimit) })
			if _, err := Inspect(b); err != nil && !errors.Is(err, ErrMessage) {
				t.Fatalf("Inspect gives %v", err)
			}
		}
		try(resealSplit1(b, nil))
		if len(b) >= fixedSize {
			b = slices.Clone(b)
			copy(b, magic)
			b[3] = version
			binary.LittleEndian.PutUint32(b[crcAt:], checksum(b))
			try(b)
		}
	})
}

// FuzzKVDecode does so with messages of keys and values.
func FuzzKVDecode(f *testing.F) {
	o := DefaultOptions()
	x := fuzzTables(f)
	codecs := []*KVCodec{mustKV(f, o, nil), mustKV(f, o, &KVTables{Keys: x[:], Values: []*Tables{x[1], x[0]}})}
	for i, c := range codecs {
		for rows := range 3 {
			f.Add(encodeKV(f, c, kvCache(1+rows%2, rows, 24, rows, uint64(i))))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for i, c := range codecs {
			if len(b) < 10 {
				break
			}
			b := slices.Clone(b)
			b[0], b[1] = kvMagic, byte(i)
			if i > 0 {
				binary.LittleEndian.PutUint16(b[2:], c.id)
			}
			// The length as it should be, behind four other numbers.
			in := parser{b: b[2+2*i : len(b)-4]}
			for range 4 {
				in.uvarint()
			}
			if !in.bad {
				head := b[:len(b)-4-len(in.b)]
				if in.uvarint(); !in.bad {
					b = sealSplit1(append(binary.AppendUvarint(slices.Clone(head), uint64(len(in.b))), in.b...))
				}
			}
			kv, err := c.decode(b, fuzzLimit)
			if err != nil {
				if !errors.Is(err, ErrMessage) {
					t.Fatalf("error %v", err)
				}
				continue
			}
			n := 0
			for i := range kv.Keys {
				n += len(kv.Keys[i].Data) + len(kv.Values[i].Data)
			}
			if n > fuzzLimit || len(kv.Keys) != len(kv.Values) || kv.Position < 0 {
				t.Fatalf("%d values in %d and %d layers at %d", n, len(kv.Keys), len(kv.Values), kv.Position)
			}
			if again, err := c.decode(b, fuzzLimit); err != nil || len(again.Keys) != len(kv.Keys) {
				t.Fatalf("decodes differently a second time (%v)", err)
			}
			if msg, rest, err := Frame(b); err != nil || len(msg) != len(b) || len(rest) != 0 {
				t.Fatalf("decodes, but is cut into %d and %d bytes (%v)", len(msg), len(rest), err)
			}
			if _, _, err := c.Encode(nil, kv); err != nil {
				t.Fatalf("what was decoded cannot be encoded: %v", err)
			}
		}
	})
}

// FuzzParseTables parses arbitrary bytes with the checksum put right. Tables that
// parse are those that Append writes, and code a matrix.
func FuzzParseTables(f *testing.F) {
	for _, x := range fuzzTables(f) {
		f.Add(x.Append(nil))
	}
	o := DefaultOptions()
	o.MaxActivationBits = 2
	f.Add(trainOn(f, Matrix{1, 1, []float32{1}}, o).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return
		}
		b = append([]byte("SBT\x01"), b[4:len(b)-4]...)
		b = sealTables(b)
		x, err := ParseTables(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !bytes.Equal(x.Append(nil), b) {
			t.Fatal("written again they are other bytes")
		}
		if x.cols > 4096 {
			return
		}
		o := DefaultOptions()
		o.Tables, o.MaxActivationBits, o.LowerBound = x, 3+len(b)%6, 1
		if err := checkSplit1(o, trainingRows(2, x.cols, uint64(len(b)))); err != nil {
			t.Fatal(err)
		}
		o.Restore = "centroid"
		c := mustCodec(t, "split1", o)
		msg, _, err := c.Encode(nil, trainingRows(1, x.cols, 1))
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Decode(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatalf("a finite value became %v", v)
			}
		}
	})
}

// fuzzOptions makes readings from numbers.
func fuzzOptions(pick uint64, tau float32) Options {
	next := func(n int) int {
		i := int(pick % uint64(n))
		pick /= uint64(n)
		return i
	}
	o := DefaultOptions()
	o.Threshold = float64(tau)
	o.ThresholdBy = thresholdNames[next(3)]
	o.MaxActivationBits, o.LowerBound = 2+next(7), 1+next(7)
	o.Search = []string{"tabq", "fixed"}[next(2)]
	o.StopRule = []string{"last_ok", "first_exceed"}[next(2)]
	o.Comparison = []string{"floor", "round"}[next(2)]
	o.Granularity, o.ScaleType, o.AboveType = granularityNames[next(2)], scaleTypeNames[next(2)], []string{"exact", "float32"}[next(2)]
	o.Lanes = append([]int{0}, split1Lanes[:]...)[next(9)]
	o.Delta = []float64{.2, 0, .05}[next(3)]
	return o
}

// floatsOf returns the matrix of the bit patterns in data.
func floatsOf(data []byte, cols int) Matrix {
	m := Matrix{Rows: len(data) / 4 / cols, Cols: cols}
	m.Data = make([]float32, m.Rows*m.Cols)
	for i := range m.Data {
		m.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return m
}

// FuzzSplit1RoundTrip encodes arbitrary float32 bit patterns under arbitrary
// readings, with and without tables, compares with Quantised.Restore and the
// lengths with packed.
func FuzzSplit1RoundTrip(f *testing.F) {
	f.Add(littleEndian(workedRow), uint8(8), uint64(0), float32(5), uint8(0))
	f.Add(littleEndian(trainingRows(3, 24, 1).Data), uint8(24), uint64(12345), float32(.9), uint8(1))
	f.Add(littleEndian(trainingRows(2, 200, 1).Data), uint8(200), uint64(1<<40+7), float32(2), uint8(2))
	f.Add(littleEndian([]float32{1, 2, 3, 4, 1e-40, float32(math.Inf(1)), 1e-30, 7}), uint8(3), uint64(98765), float32(1), uint8(3))
	tables := fuzzTables(f)
	f.Fuzz(func(t *testing.T, data []byte, cols uint8, pick uint64, tau float32, which uint8) {
		o := fuzzOptions(pick, tau)
		if o.Validate() != nil || len(data) > 4*2048 {
			return
		}
		n := int(cols) + 1
		if which%4 < 2 {
			o.Tables, n = tables[which%4], 24
		}
		m := floatsOf(data, n)
		if err := checkSplit1(o, m); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
	})
}

// FuzzSession runs an arbitrary sequence of steps at both ends of a stream, with
// damaged and lost messages between them.
func FuzzSession(f *testing.F) {
	f.Add([]byte{0, 10, 1, 0, 11, 2, 0, 12, 3, 0, 13}, uint64(0), littleEndian(trainingRows(4, 24, 1).Data))
	f.Add([]byte{0, 0, 1, 0, 4, 0, 1, 0, 5, 0, 3, 0, 1, 0}, uint64(99), littleEndian(trainingRows(8, 24, 2).Data))
	tables := fuzzTables(f)
	f.Fuzz(func(t *testing.T, steps []byte, pick uint64, data []byte) {
		o := fuzzOptions(pick, 2)
		if o.Validate() != nil || len(steps) > 40 || len(data) > 4*1024 {
			return
		}
		cols := 24
		if pick%3 == 0 {
			o.Tables = tables[0]
		} else {
			cols = 1 + int(pick%31)
		}
		e := newEnds(t, o)
		for i, step := range steps {
			m := floatsOf(data[min(4*i, len(data)):], cols)
			switch step % 6 {
			default:
				e.send(m)
			case 1:
				e.train()
			case 2: // refused by the decoder: teaches nothing
				msg := sealSplit1([]byte{split1Magic, 0, 1, byte(cols), 1, 0x80})
				if _, err := e.dec.Decode(nil, msg); err == nil {
					t.Fatal("a bad message is taken")
				}
			case 3:
				e.enc.Reset()
				e.dec.Reset()
				e.same()
			case 4: // refused by the encoder: teaches nothing
				if _, _, err := e.enc.Encode(nil, Matrix{1, cols, nil}); err == nil {
					t.Fatal("a bad matrix is taken")
				}
			case 5: // a copy of the decoder's past is not needed: other ends start alike
				fresh := newEnds(t, o)
				fresh.send(m)
			}
		}
	})
}

// FuzzFrame cuts arbitrary bytes: what is cut is a prefix, never empty, and is
// cut the same when alone.
func FuzzFrame(f *testing.F) {
	var all []byte
	for _, s := range seeds(f) {
		f.Add(s)
		all = append(all, s...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			msg, next, err := Frame(rest)
			if err != nil {
				return
			}
			if len(msg) == 0 || !bytes.Equal(append(slices.Clone(msg), next...), rest) {
				t.Fatalf("cut into %d and %d of %d bytes", len(msg), len(next), len(rest))
			}
			if m, r, err := Frame(msg); err != nil || len(m) != len(msg) || len(r) != 0 {
				t.Fatalf("alone it is cut into %d and %d of %d bytes (%v)", len(m), len(r), len(msg), err)
			}
			rest = next
		}
	})
}

// FuzzRoundTrip encodes arbitrary float32 bit patterns under arbitrary readings
// and compares with the reference quantiser.
func FuzzRoundTrip(f *testing.F) {
	f.Add(littleEndian(workedRow), uint8(8), uint32(0), float32(5), float32(.2))
	f.Add(littleEndian([]float32{1, 2, 3, 4, 1e-40, float32(math.Inf(1)), 1e-30, 7}), uint8(3), uint32(0xffff), float32(1), float32(.1))
	f.Fuzz(func(t *testing.T, data []byte, cols uint8, bits uint32, tau, delta float32) {
		pick := func(names ...string) string {
			i := int(bits) % len(names)
			bits /= uint32(len(names))
			return names[i]
		}
		o := Options{
			Threshold: float64(tau), Delta: float64(delta),
			Search: pick("tabq", "tabq", "tabq", "fixed"), StopRule: pick("last_ok", "first_exceed"), Comparison: pick("floor", "round"),
			Granularity: pick(granularityNames[:]...), SparseIndex: pick(sparseIndexNames[:]...), ScaleType: pick(scaleTypeNames[:]...),
			AboveType: pick("exact", "float32"), MaxActivationBits: 2 + int(bits%7), LowerBound: 1 + int(bits/7%7),
		}
		if o.Validate() != nil {
			return
		}
		var m Matrix
		if m.Cols = int(cols%65) + 1; len(data) > 4*512 {
			return
		}
		m.Rows = len(data) / 4 / m.Cols
		m.Data = make([]float32, m.Rows*m.Cols)
		for i := range m.Data {
			m.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		if err := compareWithReference(m, o); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		msg, _, err := raw16{}.Encode(nil, m)
		if err != nil {
			return // an overflow of bfloat16
		}
		out, err := Decode(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := raw16{}.Encode(nil, out)
		if err != nil || !bytes.Equal(again, msg) {
			t.Fatalf("raw16: the restored values encode to other bytes (%v)", err)
		}
	})
}
