package results

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// The Parquet library allocates what a file claims: list lengths of the footer,
// page sizes, decompressed sizes, run lengths. This file reads all of those
// claims first, without allocating for them, and accepts only files as
// rowWriter writes them, in which each claim is bounded by bytes that are there.

const (
	// maxFooter bounds the footer. 56 columns take some 8 kB per row group.
	maxFooter = 64 << 20
	// snappyRatio bounds decompressed over compressed bytes: the densest Snappy
	// element makes 64 bytes of 3.
	snappyRatio = 22
)

// checkParquet accepts only a whole file of rows of this schema version.
func checkParquet(r io.ReaderAt, size int64) (err error) {
	defer caught(&err)
	footer, err := readFooter(r, size)
	if err != nil {
		return err
	}
	meta, err := decodeFooter(footer)
	if err != nil {
		return err
	}
	version, ok := "", false
	for _, kv := range meta.KeyValueMetadata {
		if kv.Key == schemaKey {
			version, ok = kv.Value, true
		}
	}
	if !ok {
		return fmt.Errorf("no %s in the Parquet file, expected one written by splitbench", schemaKey)
	}
	if version != strconv.Itoa(SchemaVersion) {
		return fmt.Errorf("%w %.20q, this program reads version %d", ErrSchema, version, SchemaVersion)
	}
	columns, err := rowColumns()
	if err != nil {
		return err
	}
	earlier := columns
	for n := len(laterColumns) - 1; n >= 0; n-- {
		if earlier = without(earlier, laterColumns[n]); len(meta.Schema) == len(earlier) {
			columns = earlier
		}
	}
	if err := checkColumns(meta, columns); err != nil {
		return err
	}
	return checkRowGroups(r, size-int64(len(footer))-8, meta, columns)
}

// readFooter returns the Thrift bytes of the footer.
func readFooter(r io.ReaderAt, size int64) ([]byte, error) {
	const magic = "PAR1"
	if size < 12 {
		return nil, fmt.Errorf("not a Parquet file: %d bytes", size)
	}
	var head [4]byte
	var tail [8]byte
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	if err := readFull(r, tail[:], size-8); err != nil {
		return nil, err
	}
	if string(head[:]) != magic {
		return nil, errors.New("not a Parquet file: it does not begin with PAR1")
	}
	if string(tail[4:]) != magic {
		return nil, errors.New("truncated Parquet file: it does not end with PAR1")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	if n > size-12 || n > maxFooter {
		return nil, fmt.Errorf("damaged Parquet file: footer of %d bytes in a file of %d", n, size)
	}
	b := make([]byte, n)
	return b, readFull(r, b, size-8-n)
}

func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func decodeFooter(footer []byte) (*format.FileMetaData, error) {
	w := thriftWalk{b: footer, structs: len(footer)/8 + 256}
	if err := w.structure(0); err != nil {
		return nil, fmt.Errorf("damaged Parquet footer: %w", err)
	}
	if len(w.b) != 0 {
		return nil, fmt.Errorf("damaged Parquet footer: %d bytes after its end", len(w.b))
	}
	meta := new(format.FileMetaData)
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), footer, meta); err != nil {
		return nil, fmt.Errorf("damaged Parquet footer: %w", err)
	}
	return meta, nil
}

// thriftWalk passes over one value of the Thrift compact protocol. It proves
// that every list has the elements it claims, so that a decoder that allocates
// lists before reading them stays within a constant times the footer.
type thriftWalk struct {
	b []byte
	// structs is the number of structs in lists still allowed. In a real footer
	// such a struct takes more than 8 bytes on average.
	structs int
}

var errThrift = errors.New("malformed Thrift")

func (w *thriftWalk) take(n uint64) ([]byte, error) {
	if n > uint64(len(w.b)) {
		return nil, errThrift
	}
	b := w.b[:n]
	w.b = w.b[n:]
	return b, nil
}

func (w *thriftWalk) byte() (byte, error) {
	b, err := w.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (w *thriftWalk) uvarint() (uint64, error) {
	v, n := binary.Uvarint(w.b)
	if n <= 0 {
		return 0, errThrift
	}
	w.b = w.b[n:]
	return v, nil
}

func (w *thriftWalk) structure(depth int) error {
	if depth > 16 {
		return errThrift
	}
	for {
		h, err := w.byte()
		if err != nil {
			return err
		}
		t := thrift.Type(h & 15)
		if t == thrift.STOP {
			return nil
		}
		if h>>4 == 0 { // long form: the field id follows
			if _, err := w.uvarint(); err != nil {
				return err
			}
		}
		if t == thrift.TRUE || t == thrift.FALSE {
			continue // the value is in the type
		}
		if err := w.value(t, depth); err != nil {
			return err
		}
	}
}

func (w *thriftWalk) value(t thrift.Type, depth int) error {
	var err error
	switch t {
	case thrift.TRUE, thrift.FALSE, thrift.I8:
		_, err = w.byte()
	case thrift.I16, thrift.I32, thrift.I64:
		_, err = w.uvarint()
	case thrift.DOUBLE:
		_, err = w.take(8)
	case thrift.BINARY:
		var n uint64
		if n, err = w.uvarint(); err == nil {
			_, err = w.take(n)
		}
	case thrift.LIST, thrift.SET:
		err = w.list(depth + 1)
	case thrift.STRUCT:
		err = w.structure(depth + 1)
	default: // maps and UUIDs do not occur in a Parquet footer
		err = errThrift
	}
	return err
}

func (w *thriftWalk) list(depth int) error {
	if depth > 16 {
		return errThrift
	}
	h, err := w.byte()
	if err != nil {
		return err
	}
	n := uint64(h >> 4)
	if n == 15 {
		if n, err = w.uvarint(); err != nil {
			return err
		}
	}
	t := thrift.Type(h & 15)
	if n > uint64(len(w.b)) { // every element takes a byte at least
		return errThrift
	}
	if t == thrift.STRUCT {
		if uint64(w.structs) < n {
			return errThrift
		}
		w.structs -= int(n)
	}
	for range n {
		if err := w.value(t, depth); err != nil {
			return err
		}
	}
	return nil
}

// rowColumns returns the schema elements of Row as rowWriter writes them, the
// root first.
var rowColumns = sync.OnceValues(func() ([]format.SchemaElement, error) {
	var buf bytes.Buffer
	if err := WriteRows(&buf, nil); err != nil {
		return nil, err
	}
	footer, err := readFooter(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		return nil, err
	}
	meta, err := decodeFooter(footer)
	if err != nil {
		return nil, err
	}
	var columns []format.SchemaElement
	columns = append(columns, meta.Schema...)
	return columns, nil
})

// without returns the columns but for those of the given names.
func without(columns []format.SchemaElement, names []string) []format.SchemaElement {
	columns = slices.DeleteFunc(slices.Clone(columns), func(e format.SchemaElement) bool { return slices.Contains(names, e.Name) })
	columns[0].NumChildren = thrift.New(columns[0].NumChildren.V - int32(len(names)))
	return columns
}

func checkColumns(meta *format.FileMetaData, want []format.SchemaElement) error {
	if len(meta.Schema) != len(want) {
		return fmt.Errorf("%d columns in the Parquet file, expected %d", len(meta.Schema)-1, len(want)-1)
	}
	for i, got := range meta.Schema {
		w := want[i]
		if got.Name != w.Name || got.Type != w.Type || got.NumChildren != w.NumChildren || got.RepetitionType != w.RepetitionType {
			return fmt.Errorf("column %d of the Parquet file is %.40q %s, expected %q %s", i-1, got.Name, got.Type.V, w.Name, w.Type.V)
		}
	}
	return nil
}

// checkRowGroups checks all pages. end is where the footer begins.
func checkRowGroups(r io.ReaderAt, end int64, meta *format.FileMetaData, columns []format.SchemaElement) error {
	var rows, used int64
	for _, g := range meta.RowGroups {
		if len(g.Columns) != len(columns)-1 {
			return fmt.Errorf("damaged Parquet file: row group with %d columns, expected %d", len(g.Columns), len(columns)-1)
		}
		if g.NumRows < 0 || g.NumRows > end {
			return fmt.Errorf("damaged Parquet file: row group of %d rows", g.NumRows)
		}
		rows += g.NumRows
		for i := range g.Columns {
			c, e := &g.Columns[i], &columns[i+1]
			n := c.MetaData.TotalCompressedSize
			if used += n; n < 0 || used > end {
				return errors.New("damaged Parquet file: the columns are larger than the file")
			}
			if err := checkChunk(r, end, c, e, g.NumRows); err != nil {
				return fmt.Errorf("damaged Parquet file: column %s: %w", e.Name, err)
			}
		}
	}
	if rows != meta.NumRows {
		return fmt.Errorf("damaged Parquet file: %d rows named, row groups hold %d", meta.NumRows, rows)
	}
	return nil
}

// fixedBits is the width of one PLAIN value in bits, 0 for strings.
func fixedBits(t format.Type) (int64, error) {
	switch t {
	case format.Boolean:
		return 1, nil
	case format.Int32:
		return 32, nil
	case format.Int64, format.Double:
		return 64, nil
	case format.ByteArray:
		return 0, nil
	}
	return 0, fmt.Errorf("type %s", t)
}

func checkChunk(r io.ReaderAt, end int64, c *format.ColumnChunk, e *format.SchemaElement, rows int64) error {
	m := &c.MetaData
	if m.Type != e.Type.V || m.NumValues != rows || m.DictionaryPageOffset != 0 || c.FilePath != "" || len(c.EncryptedColumnMetadata) != 0 {
		return errors.New("its metadata contradicts the schema")
	}
	optional := e.RepetitionType.V == format.Optional
	// These two are stored uncompressed, as their tags say: log-probabilities do
	// not compress, and so bound the rows by the size of the file; of the optional
	// ones the run lengths must be seen.
	plain := e.Name == "log_prob" || optional
	if m.Codec != format.Snappy && m.Codec != format.Uncompressed || plain && m.Codec != format.Uncompressed {
		return fmt.Errorf("compression %s", m.Codec)
	}
	if m.DataPageOffset < 4 || m.DataPageOffset > end-m.TotalCompressedSize {
		return errors.New("it lies outside the file")
	}
	b := make([]byte, m.TotalCompressedSize)
	if err := readFull(r, b, m.DataPageOffset); err != nil {
		return err
	}
	for page := 0; len(b) > 0; page++ {
		n, rest, err := checkPage(b, m.Codec, e.Type.V, optional)
		if err != nil {
			return fmt.Errorf("page %d: %w", page, err)
		}
		if rows -= n; rows < 0 {
			return errors.New("its pages hold more values than there are rows")
		}
		b = rest
	}
	if rows != 0 {
		return fmt.Errorf("its pages lack %d values", rows)
	}
	return nil
}

// checkPage checks the page at the start of b and returns its number of values.
func checkPage(b []byte, codec format.CompressionCodec, t format.Type, optional bool) (values int64, rest []byte, err error) {
	var h format.PageHeader
	pr := new(thrift.CompactProtocol).NewReaderFromBytes(b)
	if err := thrift.NewDecoder(pr).Decode(&h); err != nil {
		return 0, nil, fmt.Errorf("header: %w", err)
	}
	b = b[pr.BytesRead():]
	packed, raw := int64(h.CompressedPageSize), int64(h.UncompressedPageSize)
	if h.Type != format.DataPage || !h.DataPageHeader.Valid || h.DataPageHeader.V.Encoding != format.Plain {
		return 0, nil, errors.New("not a plain data page of version 1")
	}
	if packed < 0 || packed > int64(len(b)) || raw < 0 || raw > snappyRatio*packed {
		return 0, nil, fmt.Errorf("claims %d bytes, %d of them stored, where %d are left", raw, packed, len(b))
	}
	body := b[:packed]
	if codec == format.Snappy {
		// The block begins with the length it decompresses to.
		if n, k := binary.Uvarint(body); k <= 0 || n != uint64(raw) {
			return 0, nil, errors.New("a Snappy block of another length than the page")
		}
	} else if raw != packed {
		return 0, nil, errors.New("uncompressed page of two lengths")
	}
	values = int64(h.DataPageHeader.V.NumValues)
	if values < 0 {
		return 0, nil, fmt.Errorf("%d values", values)
	}
	stored := values
	if optional {
		if h.DataPageHeader.V.DefinitionLevelEncoding != format.RLE {
			return 0, nil, errors.New("definition levels not run-length encoded")
		}
		if len(body) < 4 || int64(binary.LittleEndian.Uint32(body)) > int64(len(body)-4) {
			return 0, nil, errors.New("definition levels exceed the page")
		}
		n := 4 + int64(binary.LittleEndian.Uint32(body))
		if stored, err = countLevels(body[4:n], values); err != nil {
			return 0, nil, err
		}
		raw -= n
	}
	bits, err := fixedBits(t)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case bits == 0 && raw < 4*stored, // a string takes four bytes at least
		bits != 0 && raw != (bits*stored+7)/8:
		return 0, nil, fmt.Errorf("%d bytes for %d values", raw, stored)
	}
	return values, b[packed:], nil
}

// countLevels returns how many of n definition levels of one bit are set. The
// levels are runs of the RLE and bit-packing hybrid.
func countLevels(b []byte, n int64) (set int64, err error) {
	errLevels := errors.New("malformed definition levels")
	for n > 0 {
		h, k := binary.Uvarint(b)
		if k <= 0 {
			return 0, errLevels
		}
		b = b[k:]
		if h&1 == 0 { // a run of one value
			run := h >> 1
			if run == 0 || run > uint64(n) || len(b) == 0 || b[0] > 1 {
				return 0, errLevels
			}
			set += int64(run) * int64(b[0])
			n -= int64(run)
			b = b[1:]
			continue
		}
		groups := h >> 1
		if groups == 0 || groups > uint64(len(b)) {
			return 0, errLevels
		}
		for _, v := range b[:groups] {
			for i := 0; i < 8 && n > 0; i++ {
				set += int64(v>>i) & 1
				n--
			}
		}
		b = b[groups:]
	}
	if len(b) != 0 {
		return 0, errLevels
	}
	return set, nil
}
