package results

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

func encodeRows(t testing.TB, rows []Row) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteRows(&buf, rows); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func decodeRows(b []byte) ([]Row, error) { return ReadRows(bytes.NewReader(b), int64(len(b))) }

func TestParquetRoundTrip(t *testing.T) {
	for _, rows := range [][]Row{nil, fullRows(1), fullRows(10), testRows(testKey(1), 5000)} {
		got, err := decodeRows(encodeRows(t, rows))
		if err != nil {
			t.Fatalf("%d rows: %v", len(rows), err)
		}
		diff(t, "rows", got, rows)
	}
}

func TestParquetSameBytes(t *testing.T) {
	rows := testRows(testKey(1), 3000)
	a := encodeRows(t, rows)
	// The number of Write calls must not show either: Merge writes in parts.
	var buf bytes.Buffer
	w := newRowWriter(&buf)
	for len(rows) > 0 {
		n := min(len(rows), 700)
		if err := w.Write(rows[:n]); err != nil {
			t.Fatal(err)
		}
		rows = rows[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, buf.Bytes()) {
		t.Error("two files of the same rows differ")
	}
}

// TestParquetColumns reads a file as a stranger would: without the Row type.
func TestParquetColumns(t *testing.T) {
	rows := testRows(testKey(1), 4)
	v := 0.25
	rows[2].EdgeSeconds = &v
	b := encodeRows(t, rows)
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := f.Lookup("splitbench.schema_version"); !ok || got != "1" {
		t.Errorf("schema version %q", got)
	}
	if got := f.Metadata().CreatedBy; got != "splitbench version 1 (build results)" {
		t.Errorf("created by %q", got)
	}
	want := "cell model task protocol method split_layer weight_layer front_bits back_bits group_size back_group_size codec threshold tau_by " +
		"max_activation_bits delta search stop_rule comparison lower_bound granularity above_type sparse_index scale_type lanes restore tables kv_tables clamp max_tokens include_kv seed block doc_limit max_length preset quantizer back_quantizer activation_bits kv_bits back_activation_bits back_kv_bits alpha calibration doc choice gold context_tokens tokens log_prob greedy chars bytes words " +
		"dropped_left fallback payload_bytes payload_header payload_tables payload_codes payload_side payload_sparse kv_payload_bytes " +
		"payload_tokens edge_seconds cloud_seconds"
	var names []string
	for _, c := range f.Schema().Columns() {
		names = append(names, strings.Join(c, "."))
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("columns\n%s\nwant\n%s", got, want)
	}
	r := parquet.NewGenericReader[map[string]any](bytes.NewReader(b), f.Schema())
	defer r.Close()
	got := make([]map[string]any, 4)
	for i := range got {
		got[i] = map[string]any{}
	}
	if n, err := r.Read(got); n != 4 {
		t.Fatalf("%d rows, %v", n, err)
	}
	diff(t, "log_prob", got[3]["log_prob"], any(rows[3].LogProb))
	diff(t, "task", got[1]["task"], any("piqa"))
	diff(t, "threshold", got[1]["threshold"], any(5.0))
	diff(t, "edge_seconds", []any{got[1]["edge_seconds"], got[2]["edge_seconds"]}, []any{nil, 0.25})
}

// TestParquetFewerColumns reads a file of 51 columns, written by the program before
// the columns of split1 were there, and one of 56.
func TestParquetFewerColumns(t *testing.T) {
	b, err := os.ReadFile("testdata/columns51.parquet")
	if err != nil {
		t.Fatal(err)
	}
	want := testRows(testKey(1), 6)
	for i := range want {
		want[i].Search, want[i].LowerBound, want[i].Granularity = "tabq", 3, "per_token"
	}
	got, err := decodeRows(b)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "rows", got, want)
	// One of 56 columns came before the clamp.
	if b, err = os.ReadFile("testdata/columns56.parquet"); err != nil {
		t.Fatal(err)
	}
	want = testRows(testKey(1), 6)
	for i := range want {
		want[i].Codec, want[i].TauBy, want[i].Lanes, want[i].Restore = "split1", "rms", 8, "centroid"
	}
	if got, err = decodeRows(b); err != nil {
		t.Fatal(err)
	}
	diff(t, "rows of 56 columns", got, want)
	if b, err = os.ReadFile("testdata/columns51.parquet"); err != nil {
		t.Fatal(err)
	}
	// Some of the later columns are no form of a file.
	fewer := withFooter(t, b, func(m *format.FileMetaData) { m.Schema = m.Schema[:len(m.Schema)-1] })
	if _, err := decodeRows(fewer); err == nil || !strings.Contains(err.Error(), "50 columns in the Parquet file, expected 66") {
		t.Errorf("50 columns: %v", err)
	}
	renamed := withFooter(t, b, func(m *format.FileMetaData) { m.Schema[30].Name = "dok" })
	if _, err := decodeRows(renamed); err == nil || !strings.Contains(err.Error(), `expected "doc" INT32`) {
		t.Errorf("a renamed column: %v", err)
	}
}

func TestParquetTruncated(t *testing.T) {
	b := encodeRows(t, testRows(testKey(1), 300))
	for n := 0; n < len(b); n += 1 + n/50 {
		if rows, err := decodeRows(b[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes gave %d rows", n, len(b), len(rows))
		}
	}
}

// TestParquetFlippedBits flips bits of the footer, in which sizes and counts lie.
// Reading must end with an error or with as many rows as before.
func TestParquetFlippedBits(t *testing.T) {
	b := encodeRows(t, testRows(testKey(1), 3))
	n := int(binary.LittleEndian.Uint32(b[len(b)-8:]))
	const step = 13 // odd, so that all bits of a byte have their turn
	for i := len(b) - 8 - n; i < len(b); i += step {
		mask := byte(1) << (i % 8)
		b[i] ^= mask
		if rows, err := decodeRows(b); err == nil && len(rows) != 3 {
			t.Fatalf("byte %d, mask %#x: %d rows", i, mask, len(rows))
		}
		b[i] ^= mask
	}
}

// withFooter returns b with its footer changed by edit.
func withFooter(t testing.TB, b []byte, edit func(*format.FileMetaData)) []byte {
	t.Helper()
	footer, err := readFooter(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	meta, err := decodeFooter(footer)
	if err != nil {
		t.Fatal(err)
	}
	edit(meta)
	changed, err := thrift.Marshal(new(thrift.CompactProtocol), meta)
	if err != nil {
		t.Fatal(err)
	}
	return reseal(b[:len(b)-8-len(footer)], changed)
}

// reseal makes a Parquet file of a body and the bytes of a footer.
func reseal(body, footer []byte) []byte {
	out := append(bytes.Clone(body), footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	return append(out, "PAR1"...)
}

func TestParquetRefuses(t *testing.T) {
	good := encodeRows(t, testRows(testKey(1), 10))
	edit := func(f func(*format.FileMetaData)) []byte { return withFooter(t, good, f) }
	column := func(m *format.FileMetaData, name string) *format.ColumnChunk {
		for i := range m.RowGroups[0].Columns {
			if c := &m.RowGroups[0].Columns[i]; c.MetaData.PathInSchema[0] == name {
				return c
			}
		}
		panic(name)
	}
	var other bytes.Buffer
	if err := parquet.Write(&other, []struct{ A int32 }{{1}}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		b          []byte
	}{
		{"empty", "0 bytes", nil},
		{"text", "does not begin with PAR1", []byte("hello, this is not Parquet")},
		{"no end", "does not end with PAR1", good[:len(good)-1]},
		{"other Parquet", "expected one written by splitbench", other.Bytes()},
		{"newer", "unsupported schema version \"2\", this program reads version 1", edit(func(m *format.FileMetaData) {
			for i := range m.KeyValueMetadata {
				m.KeyValueMetadata[i].Value = "2"
			}
		})},
		{"column renamed", `expected "doc" INT32`, edit(func(m *format.FileMetaData) { m.Schema[45].Name = "dok" })},
		{"column missing", "65 columns in the Parquet file, expected 66", edit(func(m *format.FileMetaData) { m.Schema = m.Schema[:len(m.Schema)-1] })},
		{"many rows", "row group of 1099511627776 rows", edit(func(m *format.FileMetaData) { m.RowGroups[0].NumRows = 1 << 40 })},
		{"more rows than values", "contradicts the schema", edit(func(m *format.FileMetaData) { m.RowGroups[0].NumRows = 11; m.NumRows = 11 })},
		{"more rows named", "11 rows named, row groups hold 10", edit(func(m *format.FileMetaData) { m.NumRows = 11 })},
		{"a row group twice", "larger than the file", edit(func(m *format.FileMetaData) {
			m.RowGroups = append(m.RowGroups, m.RowGroups[0])
		})},
		{"compressed log-probabilities", "compression", edit(func(m *format.FileMetaData) { column(m, "log_prob").MetaData.Codec = format.Gzip })},
		{"outside the file", "outside the file", edit(func(m *format.FileMetaData) { column(m, "doc").MetaData.DataPageOffset = 1 << 40 })},
		{"negative size", "larger than the file", edit(func(m *format.FileMetaData) { column(m, "doc").MetaData.TotalCompressedSize = -1 })},
		{"a list of 2^31 elements", "malformed Thrift", reseal(good[:4], []byte{0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0})},
		{"a nest of structs", "malformed Thrift", reseal(good[:4], bytes.Repeat([]byte{0x1c}, 100000))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, err := decodeRows(tc.b)
			if err == nil {
				t.Fatalf("%d rows and no error", len(rows))
			}
			if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", err, tc.want)
			}
		})
	}
	_, err := decodeRows(edit(func(m *format.FileMetaData) { m.KeyValueMetadata[0].Value = "7" }))
	if !errors.Is(err, ErrSchema) {
		t.Errorf("error %v, want ErrSchema", err)
	}
}

// TestParquetPageClaims gives pages that claim more than they hold; without the
// check the library would allocate it.
func TestParquetPageClaims(t *testing.T) {
	body := bytes.Repeat([]byte{0}, 80)
	page := func(h format.PageHeader) []byte {
		b, err := thrift.Marshal(new(thrift.CompactProtocol), &h)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, body...)
	}
	header := func(raw, packed, values int32) format.PageHeader {
		return format.PageHeader{Type: format.DataPage, UncompressedPageSize: raw, CompressedPageSize: packed,
			DataPageHeader: thrift.New(format.DataPageHeader{NumValues: values, Encoding: format.Plain, DefinitionLevelEncoding: format.RLE})}
	}
	if n, rest, err := checkPage(page(header(80, 80, 10)), format.Uncompressed, format.Double, false); n != 10 || len(rest) != 0 || err != nil {
		t.Fatalf("a good page: %d values, %d bytes left, %v", n, len(rest), err)
	}
	dictionary := header(80, 80, 10)
	dictionary.DataPageHeader.V.Encoding = format.RLEDictionary
	for _, tc := range []struct {
		name string
		h    format.PageHeader
		c    format.CompressionCodec
		opt  bool
	}{
		{"a page of 2 GB", header(1<<31-1, 80, 10), format.Snappy, false},
		{"stored bytes beyond the file", header(81, 81, 10), format.Uncompressed, false},
		{"Snappy of another length", header(80, 80, 10), format.Snappy, false},
		{"values without bytes", header(80, 80, 1<<30), format.Uncompressed, false},
		{"negative count", header(80, 80, -1), format.Uncompressed, false},
		{"dictionary", dictionary, format.Uncompressed, false},
		{"levels without a run", header(80, 80, 10), format.Uncompressed, true},
	} {
		if n, _, err := checkPage(page(tc.h), tc.c, format.Double, tc.opt); err == nil {
			t.Errorf("%s: %d values and no error", tc.name, n)
		}
	}
}

// TestCountLevels uses vectors of the RLE and bit-packing hybrid written by hand
// after the Parquet format's Encodings.md.
func TestCountLevels(t *testing.T) {
	for _, tc := range []struct {
		b    []byte
		n    int64
		want int64
		ok   bool
	}{
		{[]byte{20, 1}, 10, 10, true},                 // run of ten ones
		{[]byte{20, 0}, 10, 0, true},                  // run of ten zeros
		{[]byte{3, 0b00010101}, 5, 3, true},           // one bit-packed group, five of eight used
		{[]byte{3, 0xff, 4, 1}, 10, 10, true},         // a group and a run of two
		{[]byte{22, 1}, 10, 0, false},                 // a run of eleven
		{[]byte{20, 2}, 10, 0, false},                 // a level of two
		{[]byte{20}, 10, 0, false},                    // no value
		{[]byte{0, 1}, 10, 0, false},                  // an empty run
		{[]byte{0xff, 0xff, 0xff, 7}, 10, 0, false},   // more groups than bytes
		{[]byte{20, 1, 0}, 10, 0, false},              // bytes left over
		{[]byte{8, 1}, 10, 0, false},                  // too few
		{bytes.Repeat([]byte{0xff}, 20), 1, 0, false}, // an endless number
	} {
		got, err := countLevels(tc.b, tc.n)
		if (err == nil) != tc.ok || tc.ok && got != tc.want {
			t.Errorf("%v: %d, %v; want %d, ok %v", tc.b, got, err, tc.want, tc.ok)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.parquet")
	rows := testRows(testKey(3), 5)
	if err := os.WriteFile(path, encodeRows(t, rows), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "rows", got, rows)
	if err := os.WriteFile(path, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), "x.parquet: not a Parquet file") {
		t.Errorf("error %v", err)
	}
}

func FuzzReadParquet(f *testing.F) {
	f.Add(encodeRows(f, nil))
	f.Add(encodeRows(f, fullRows(3)))
	f.Add(encodeRows(f, testRows(testKey(1), 40)))
	f.Add([]byte("PAR1\x00\x00\x00\x00PAR1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := decodeRows(b)
		if err == nil && len(rows) > len(b)/8 {
			t.Fatalf("%d rows from %d bytes", len(rows), len(b))
		}
	})
}

func BenchmarkWriteRows(b *testing.B) {
	rows := testRows(testKey(1), 10000)
	for b.Loop() {
		if err := WriteRows(new(bytes.Buffer), rows); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadRows(b *testing.B) {
	data := encodeRows(b, testRows(testKey(1), 10000))
	for b.Loop() {
		if _, err := decodeRows(data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(data))/10000, "bytes/row")
}
