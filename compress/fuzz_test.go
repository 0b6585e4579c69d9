package compress

import (
	"bytes"
	"encoding/binary"
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
	return out
}

// FuzzDecode decodes arbitrary bytes, as they are and with the fixed fields of
// the header and the checksum put right so that the parts behind are reached.
// A message that decodes has the declared shape and cannot be larger than the
// limit; Inspect agrees.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		try := func(b []byte) {
			m, err := decode(nil, b, 0, fuzzLimit)
			if err != nil {
				return
			}
			if len(m.Data) != m.Rows*m.Cols || cap(m.Data) > fuzzLimit {
				t.Fatalf("%d x %d with %d values", m.Rows, m.Cols, len(m.Data))
			}
			info, err := Inspect(b)
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
			again, err := decode(make([]float32, 0, len(m.Data)), b, 0, fuzzLimit)
			if err != nil || !bytes.Equal(littleEndian(again.Data), littleEndian(m.Data)) {
				t.Fatalf("decodes differently a second time (%v)", err)
			}
		}
		try(b)
		if len(b) >= fixedSize {
			b = slices.Clone(b)
			copy(b, magic)
			b[3] = version
			binary.LittleEndian.PutUint32(b[crcAt:], checksum(b))
			try(b)
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
