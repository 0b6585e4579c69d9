package compress

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// crc32c computes the checksum bit by bit.
func crc32c(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78*(crc&1)
		}
	}
	return ^crc
}

// seal writes the checksum of msg into it.
func seal(msg []byte) []byte {
	rest := append(slices.Clone(msg[:7]), msg[11:]...)
	binary.LittleEndian.PutUint32(msg[7:], crc32c(rest))
	return msg
}

func TestChecksumVector(t *testing.T) {
	if got := crc32c([]byte("123456789")); got != 0xe3069283 { // RFC 3720, B.4 polynomial
		t.Fatalf("crc32c of the check string is %08x", got)
	}
}

// TestMessageBytes compares the messages of the worked row with bytes written by
// hand from the descriptions in message.go, packed.go, side.go and literal.go.
func TestMessageBytes(t *testing.T) {
	m := Matrix{1, 8, workedRow}
	side, sparse := "03 0038", "00000000 01000000 0600 40c7" // Q 3, scale 0.5; column 6, -7.25
	packed := seal(unhex(t, "53424d 01 02 0004 00000000 01 08 00 04 03 0c"+
		"58 2a e7 87"+ // codes 1 -2 3 -5 0 7 0 1, plus 7, in 4 bits each
		side+sparse))
	// literal: symbols 129 126 131 123 128 135 128 129, one lane; frequencies
	// of eighths of 4096.
	var f frequencies
	for s, n := range map[int]uint16{123: 512, 126: 512, 128: 1024, 129: 1024, 131: 512, 135: 512} {
		f.freq[s] = n
	}
	f.accumulate()
	stream := slowEncode([]byte{129, 126, 131, 123, 128, 135, 128, 129}, &f, 1)
	tables := "00 7b87 000200 000020 000040 000400 000200 000000 0002"
	literal := unhex(t, "53424d 01 01 0004 00000000 01 08 17 00 03 0c"+tables)
	literal[13], literal[14] = byte(len(unhex(t, tables))), byte(len(stream))
	literal = append(literal, stream...)
	literal = seal(append(literal, unhex(t, side+sparse)...))
	// raw16 in float16: .3 -.9 1.3 -2.6 0 3.5 -7.25 .7
	raw := seal(unhex(t, "53424d 01 03 0000 00000000 01 08 00 10 00 00"+"cd34 33bb 333d 33c1 0000 0043 40c7 9a39"))
	for name, want := range map[string][]byte{"packed": packed, "literal": literal, "raw16": raw} {
		got, _, err := mustCodec(t, name, DefaultOptions()).Encode(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x, want\n%x", name, got, want)
		}
	}
}

func TestInspect(t *testing.T) {
	m := Matrix{3, 8, append(append(slices.Clone(workedRow), make([]float32, 8)...), 1, 2, 3, 4, -4, -3, -2, -1)}
	o := DefaultOptions()
	o.SparseIndex, o.ScaleType, o.Granularity, o.MaxActivationBits, o.LowerBound = "torch", "float32", "per_tensor", 5, 4
	msg, _, err := mustCodec(t, "packed", o).Encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Inspect(msg)
	if err != nil {
		t.Fatal(err)
	}
	want := Info{
		Codec: "packed", Version: 1, Rows: 3, Cols: 8, Bytes: 17 + 10 + 11 + 42,
		Parts:     Parts{Header: 17, Codes: 2 * 5, Side: 5 + 1 + 5, Sparse: 4*8 + 8 + 2},
		ValueType: "float16", MaxActivationBits: 5, Granularity: "per_tensor", SparseIndex: "torch", ScaleType: "float32",
		QRows: []int{1, 0, 0, 0, 2, 0, 0, 0}, Above: 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Inspect (-want +got):\n%s", d)
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"codec":"packed","version":1,"rows":3,"cols":8,"bytes":80,"parts":{"header":17,"tables":0,"codes":10,"side":11,"sparse":42},` +
		`"value_type":"float16","max_activation_bits":5,"granularity":"per_tensor","sparse_index":"torch","scale_type":"float32","q_rows":[1,0,0,0,2,0,0,0],"above":1}`; string(b) != want {
		t.Errorf("JSON is\n%s, want\n%s", b, want)
	}
	raw, _, err := mustCodec(t, "raw16", o).Encode(nil, Matrix{1, 1, []float32{1e20}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err = Inspect(raw); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Info{Codec: "raw16", Version: 1, Rows: 1, Cols: 1, Bytes: 19, Parts: Parts{Header: 17, Codes: 2}, ValueType: "bfloat16"}, got); d != "" {
		t.Errorf("Inspect (-want +got):\n%s", d)
	}
	sum := Parts{1, 2, 3, 4, 5}
	if sum.Add(Parts{10, 20, 30, 40, 50}); sum != (Parts{11, 22, 33, 44, 55}) || sum.Total() != 165 {
		t.Errorf("sum %+v, total %d", sum, sum.Total())
	}
}

// TestBadMessages changes messages with a right checksum, so that what lies
// behind it has to find the fault.
func TestBadMessages(t *testing.T) {
	const (
		packed   = "53424d 01 02 0004 00000000 01 08 00 04 03 0c 582ae787 030038 00000000 01000000 0600 40c7"
		raw      = "53424d 01 03 0000 00000000 01 02 00 04 00 00 003c 0040"
		zeros    = "53424d 01 01 0004 00000000 01 02 00 00 01 08 00 0000000000000000"
		literal1 = "53424d 01 01 0004 00000000 01 02 03 04 03 08 00 8080 00000100 030038 0000000000000000"
	)
	for _, ok := range []string{packed, raw, zeros, literal1} {
		if _, err := Decode(nil, seal(unhex(t, ok))); err != nil {
			t.Fatalf("%s: %v", ok, err)
		}
	}
	for _, c := range []struct{ name, b, want string }{
		{"magic", "53424e" + packed[6:], `starts with "SBN"`},
		{"version", "53424d 02" + packed[9:], "version 2, expected 1"},
		{"codec 0", "53424d 01 00" + packed[12:], "codec number 0"},
		{"codec 4", "53424d 01 04" + packed[12:], "codec number 4"},
		{"flag", "53424d 01 02 2004" + packed[17:], "flags 0x0420"},
		{"type 3", "53424d 01 02 0304" + packed[17:], "flags 0x0403"},
		{"1 bit", "53424d 01 02 0001" + packed[17:], "flags 0x0100"},
		{"9 bits", "53424d 01 02 0009" + packed[17:], "flags 0x0900"},
		{"raw16 with bits", "53424d 01 03 0004" + raw[17:], "flags 0x0400"},
		{"raw16 in float32", "53424d 01 03 0200" + raw[17:], "flags 0x0002"},
		{"long form of a length", "53424d 01 03 0000 00000000 8100 02 00 04 00 00 003c 0040", "shortest form"},
		{"length of 11 bytes", "53424d 01 03 0000 00000000 ffffffffffffffffffff01 02 00 04 00 00", "cut short"},
		{"too many values", "53424d 01 03 0000 00000000 01 8180808001 00 00 00 00", "expected at most 268435456 values"},
		{"product too large", "53424d 01 03 0000 00000000 808002 808002 00 00 00 00", "expected at most 268435456 values"},
		{"product wraps", "53424d 01 03 0000 00000000 80808080808080808001 02 00 00 00 00", "expected at most"},
		{"rows without columns", "53424d 01 03 0000 00000000 01 00 00 00 00 00", "1 rows without columns"},
		{"part longer than the rest", "53424d 01 03 0000 00000000 01 02 00 05 00 00 003c 0040", "asks for more"},
		{"parts wrap", "53424d 01 03 0000 00000000 01 02 ffffffffffffffffff01 05 00 00 003c 0040", "asks for more"},
		{"raw16 size", "53424d 01 03 0000 00000000 01 03 00 04 00 00 003c 0040", "expected 6 and 0"},
		{"raw16 with side", "53424d 01 03 0000 00000000 01 01 00 02 02 00 003c 0040", "other parts 2"},
		{"packed codes short", "53424d 01 02 0004 00000000 01 08 00 03 03 0c 582ae7 030038 00000000 01000000 0600 40c7", "expected 0 and 4"},
		{"packed with tables", "53424d 01 02 0004 00000000 01 08 01 04 03 0c 00 582ae787 030038 00000000 01000000 0600 40c7", "have 1 and 4 bytes"},
		{"packed code out of range", strings.Replace(packed, "58", "5f", 1), "row 0, column 0: code 8 does not fit Q 3"},
		{"packed padding", "53424d 01 02 0004 00000000 01 01 00 01 03 08 18 030038 0000000000000000", "padding"},
		{"side Q 0 with scale", strings.Replace(packed, "030038", "800038", 1), "tag 0x80"},
		{"side Q above top", strings.Replace(packed, "030038", "040038", 1), "tag 0x04"},
		{"side tag bits", strings.Replace(packed, "030038", "430038", 1), "tag 0x43"},
		{"side cut", strings.Replace(packed, "030038", "830038", 1), "side part ends at row 0"},
		{"side too long", strings.Replace(packed, "030038", "000038", 1), "2 bytes too many"},
		{"side too short", "53424d 01 01 0004 00000000 02 02 00 00 01 0c 00 000000000000000000000000", "1 bytes for 2 rows"},
		{"side ends early", "53424d 01 02 0004 00000000 02 01 00 01 03 0c 08 030038 000000000000000000000000", "side part ends at row 1 of 2"},
		{"scale 0", strings.Replace(packed, "030038", "030000", 1), "scale 0"},
		{"scale negative", strings.Replace(packed, "030038", "0300b8", 1), "scale -0.5"},
		{"scale infinite", strings.Replace(packed, "030038", "03007c", 1), "scale +Inf"},
		{"scale NaN", strings.Replace(packed, "030038", "03007e", 1), "scale NaN"},
		{"short scale under scale_type float32", strings.Replace(packed, "0004", "0804", 1), "tag 0x03"},
		{"two Q under per_tensor", "53424d 01 02 1004 00000000 02 01 00 02 06 0c 08 08 030038 020038 000000000000000000000000", "expected 3 in all rows"},
		{"sparse", strings.Replace(packed, "0600 40c7", "0800 40c7", 1), "column 8, expected 0 to 7"},
		{"value where a code is", strings.Replace(packed, "0600 40c7", "0500 40c7", 1), "column 5 has both"},
		{"codes without rows", "53424d 01 01 0004 00000000 01 02 00 04 01 08 00000100 00 0000000000000000", "without a row that has codes"},
		{"no tables", "53424d 01 01 0004 00000000 01 02 00 04 03 08 00000100 030038 0000000000000000", "number of lanes"},
		{"64 lanes", strings.Replace(literal1, "00 8080", "06 8080", 1), "number of lanes"},
		{"tables cut", "53424d 01 01 0004 00000000 01 02 02 04 03 08 00 80 00000100 030038 0000000000000000", "frequency table has 1 bytes"},
		{"states cut", strings.Replace(literal1, "00 8080", "01 8080", 1), "4 bytes for 2 symbols"},
		{"codes too long", "53424d 01 01 0004 00000000 01 02 03 0a 03 08 00 8080 00000100 000000000000 030038 0000000000000000", "10 bytes for 2 symbols"},
		{"odd codes", "53424d 01 01 0004 00000000 01 02 03 05 03 08 00 8080 00000100 00 030038 0000000000000000", "5 bytes for 1 states"},
		{"state too small", strings.Replace(literal1, "00000100", "ffff0000", 1), "state 65535 of lane 0"},
		{"state at the end", strings.Replace(literal1, "00000100", "01000100", 1), "ends in state 65537"},
		{"literal code out of range", strings.Replace(literal1, "8080", "8888", 1), "row 0, column 0: code 8 does not fit Q 3"},
		{"literal code below range", strings.Replace(literal1, "8080", "0000", 1), "row 0, column 0: code -128 does not fit Q 3"},
	} {
		msg := seal(unhex(t, c.b))
		_, err := Decode(nil, msg)
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want an ErrMessage with %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error of several lines: %v", c.name, err)
		}
	}
	// A state that asks for a word that is not there.
	msg := seal(unhex(t, "53424d 01 01 0004 00000000 01 02 06 04 03 08 00 8081 000880 00000100 030038 0000000000000000"))
	if _, err := Decode(nil, msg); !errors.Is(err, errRANS) || !errors.Is(err, ErrMessage) {
		t.Errorf("words missing: %v", err)
	}
}

// TestDecodeAllocation checks that a short message that declares a large shape
// is refused before any memory for it is taken.
func TestDecodeAllocation(t *testing.T) {
	for _, c := range []struct {
		name, b string
		limit   int
	}{
		{"raw16", "53424d 01 03 0000 00000000 808001 808001 00 00 00 00", MaxValues},
		{"packed", "53424d 01 02 0004 00000000 808001 808001 00 00 00 00", MaxValues},
		{"literal, side for one row", "53424d 01 01 0004 00000000 808001 808001 00 00 01 08 00 0000000000000000", MaxValues},
		{"literal, one row, no codes", "53424d 01 01 0004 00000000 01 8080808001 00 00 03 08 030038 0000000000000000", MaxValues},
		{"row of zeros above the limit", "53424d 01 01 0004 00000000 01 8080808001 00 00 01 08 00 0000000000000000", 1 << 20},
	} {
		msg := seal(unhex(t, c.b))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decode(nil, msg, 0, c.limit)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMessage) {
			t.Errorf("%s: error %v", c.name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: a message of %d bytes takes %d bytes of memory", c.name, len(msg), n)
		}
	}
}

// TestRaw16 checks the choice of type and the rounding.
func TestRaw16(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	c := mustCodec(t, "raw16", DefaultOptions())
	for _, x := range []struct{ in, want []float32 }{
		{[]float32{1, -.1, 65519, inf, nan}, []float32{1, float32(referenceFloat16(-.1)), 65504, inf, nan}},
		{[]float32{1, -.1, 65520, -inf, nan}, []float32{1, float32(referenceBfloat16(-.1)), 65536, -inf, nan}},
		{[]float32{3.38e38, 0x1p-30}, []float32{float32(referenceBfloat16(3.38e38)), 0x1p-30}},
	} {
		msg, parts, err := c.Encode(nil, Matrix{1, len(x.in), x.in})
		if err != nil {
			t.Fatal(err)
		}
		if parts.Codes != 2*len(x.in) {
			t.Errorf("%v: %+v", x.in, parts)
		}
		m, err := c.Decode(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range m.Data {
			if !sameValue(v, x.want[i]) {
				t.Errorf("%v: value %d is %v, want %v", x.in, i, v, x.want[i])
			}
		}
		again, _, err := c.Encode(nil, m)
		if err != nil || !bytes.Equal(again, msg) {
			t.Errorf("%v: the restored values encode to other bytes (%v)", x.in, err)
		}
	}
	dst, _, err := c.Encode([]byte("x"), Matrix{2, 2, []float32{1, 2, 3, -3.4e38}})
	if want := "compress: row 1, column 1: -3.4e+38 overflows bfloat16"; err == nil || err.Error() != want || string(dst) != "x" {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestLiteralRows checks that rows of different Q share one table and that rows
// without codes have no symbols, by the bytes.
func TestLiteralRows(t *testing.T) {
	o := DefaultOptions()
	o.MaxActivationBits, o.LowerBound = 8, 1
	m := Matrix{4, 4, []float32{
		0, 0, 0, 0,
		127, 1.4, 2, 3, // at 6 bits 1.4 has code 1, its top code 1 shifted is 0: the top stays
		9, 0, 9, 0,
		0, 0, 0, 0,
	}}
	o.Threshold, o.Delta = 1000, 0
	q, err := Quantise(m, o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(q.Q, []uint8{0, 7, 1, 0}) {
		t.Fatalf("Q %v", q.Q)
	}
	msg, parts, err := mustCodec(t, "literal", o).Encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	// Symbols 128 to 255: a byte of lanes, two bounds, 128 frequencies.
	if parts.Tables != 1+2+192 || parts.Side != 1+3+3+1 {
		t.Errorf("parts %+v", parts)
	}
	out, err := Decode(nil, msg)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(m.Data)
	want[5] = 1
	if !slices.Equal(out.Data, want) {
		t.Errorf("restored %v, want %v", out.Data, want)
	}
}
