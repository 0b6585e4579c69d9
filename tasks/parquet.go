package tasks

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// Limits on a parquet file, checked before the parquet library allocates anything by the file's own numbers.
const (
	maxPage        = 256 << 20 // bytes of one page, decompressed; writers use about 1 MiB
	maxPageHeader  = 1 << 20   // bytes of one page header with its statistics
	maxThriftDepth = 32
)

// parquetRows calls yield with every row of a parquet file. Lists of text become lists, whether their inner column is called element or item.
func (in *input) parquetRows(yield func(row) error) (err error) {
	// The library panics on some damaged pages that the checks below cannot see into.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: damaged parquet file: %v", in.path, r)
		}
	}()
	if err := checkFooter(in.at, in.size); err != nil {
		return fmt.Errorf("%s: damaged parquet file: %w", in.path, err)
	}
	f, err := parquet.OpenFile(in.at, in.size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%s: damaged parquet file: %w", in.path, err)
	}
	if err := checkPages(in.at, in.size, f.Metadata()); err != nil {
		return fmt.Errorf("%s: damaged parquet file: %w", in.path, err)
	}
	columns := parquetColumns(f.Schema())
	n := 0
	for _, group := range f.RowGroups() {
		if err := in.rowGroup(group, columns, &n, yield); err != nil {
			return err
		}
	}
	return nil
}

// rowGroup reads one row group; n counts the rows of the file.
func (in *input) rowGroup(group parquet.RowGroup, columns []parquetColumn, n *int, yield func(row) error) error {
	rows := group.Rows()
	defer rows.Close()
	buf := make([]parquet.Row, 64)
	for {
		count, readErr := rows.ReadRows(buf)
		for _, values := range buf[:count] {
			*n++
			where := in.path + ": row " + strconv.Itoa(*n)
			r, err := parquetRecord(columns, values)
			if err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
			if err := yield(row{record: r, where: where}); err != nil {
				return err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("%s: row %d: damaged parquet file: %w", in.path, *n+1, readErr)
		}
		if count == 0 {
			return fmt.Errorf("%s: row %d: damaged parquet file: rows end early", in.path, *n+1)
		}
	}
}

// parquetColumn is a leaf column: its name as a path of keys, and whether its values form a list.
type parquetColumn struct {
	path []string
	list bool
	skip bool // nested deeper than any task needs
}

// parquetColumns names the leaf columns of a schema without the layers that only spell lists.
func parquetColumns(schema *parquet.Schema) []parquetColumn {
	paths := schema.Columns()
	out := make([]parquetColumn, len(paths))
	for i, path := range paths {
		c := &out[i]
		for j := 0; j < len(path); j++ {
			if j > 0 && j+1 < len(path) && (path[j] == "list" || path[j] == "bag") {
				j++ // list.element, list.item, bag.array_element
				continue
			}
			c.path = append(c.path, path[j])
		}
		if leaf, ok := schema.Lookup(path...); ok {
			c.list = leaf.MaxRepetitionLevel == 1
			c.skip = leaf.MaxRepetitionLevel > 1 || len(c.path) > 2
		}
	}
	return out
}

// parquetRecord makes a record of one row's values, which come in column order.
func parquetRecord(columns []parquetColumn, values parquet.Row) (record, error) {
	r := make(record, len(columns))
	for len(values) > 0 {
		column := values[0].Column()
		n := 1
		for n < len(values) && values[n].Column() == column {
			n++
		}
		own := values[:n]
		values = values[n:]
		if column < 0 || column >= len(columns) {
			return nil, fmt.Errorf("damaged parquet file: value of column %d of %d", column, len(columns))
		}
		c := columns[column]
		if c.skip {
			continue
		}
		var v any
		if c.list {
			list := make([]any, 0, n)
			for _, e := range own {
				if n == 1 && e.IsNull() { // an empty or absent list
					break
				}
				list = append(list, parquetValue(e))
			}
			v = list
		} else {
			v = parquetValue(own[0])
		}
		if s, bad := invalidText(v); bad {
			return nil, fmt.Errorf("column %q is not valid UTF-8: %q", strings.Join(c.path, "."), clip(s))
		}
		into := map[string]any(r)
		if len(c.path) == 2 {
			inner, ok := into[c.path[0]].(map[string]any)
			if !ok {
				inner = make(map[string]any)
				into[c.path[0]] = inner
			}
			into = inner
		}
		into[c.path[len(c.path)-1]] = v
	}
	return r, nil
}

func parquetValue(v parquet.Value) any {
	if v.IsNull() {
		return nil
	}
	switch v.Kind() {
	case parquet.Boolean:
		return v.Boolean()
	case parquet.Int32:
		return json.Number(strconv.FormatInt(int64(v.Int32()), 10))
	case parquet.Int64:
		return json.Number(strconv.FormatInt(v.Int64(), 10))
	case parquet.ByteArray:
		return string(v.ByteArray())
	}
	return map[string]any{} // a type that no task reads
}

// invalidText returns the first text in v that is not UTF-8.
func invalidText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, !utf8.ValidString(v)
	case []any:
		for _, e := range v {
			if s, bad := invalidText(e); bad {
				return s, true
			}
		}
	}
	return "", false
}

// checkFooter walks the footer of a parquet file: every length and count in it must fit in the bytes that are there.
func checkFooter(at io.ReaderAt, size int64) error {
	const ends = 12 // magic, footer length, magic
	if size < ends {
		return fmt.Errorf("%d bytes, expected at least %d", size, ends)
	}
	var tail [8]byte
	if _, err := at.ReadAt(tail[:], size-8); err != nil && err != io.EOF {
		return err
	}
	if string(tail[4:]) != "PAR1" {
		return errors.New("no PAR1 at the end, the file is cut short or encrypted")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n > size-ends {
		return fmt.Errorf("footer of %d bytes in a file of %d", n, size)
	}
	footer := make([]byte, n)
	if _, err := at.ReadAt(footer, size-8-n); err != nil {
		return err
	}
	t := thrift{data: footer}
	if err := t.skip(thriftStruct, 0); err != nil {
		return fmt.Errorf("footer: %w", err)
	}
	return nil
}

// checkPages reads every page header: sizes must lie within the file and the limits.
func checkPages(at io.ReaderAt, size int64, meta *format.FileMetaData) error {
	// A row of a task holds text, so a file has fewer rows than bytes; a list has few values per row.
	maxValues := 8 * size
	var rows int64
	for _, g := range meta.RowGroups {
		if g.NumRows < 0 || g.NumRows > size || rows > size {
			return fmt.Errorf("%d rows in a file of %d bytes", g.NumRows, size)
		}
		rows += g.NumRows
		for _, c := range g.Columns {
			m := &c.MetaData
			name := strings.Join(m.PathInSchema, ".")
			start := m.DataPageOffset
			if d := m.DictionaryPageOffset; d > 0 && d < start {
				start = d
			}
			end := start + m.TotalCompressedSize
			if start < 4 || m.TotalCompressedSize < 0 || end < start || end > size {
				return fmt.Errorf("column %q lies at bytes %d to %d of %d", name, start, end, size)
			}
			switch m.Codec {
			case format.Uncompressed, format.Snappy, format.Gzip, format.Zstd:
			default:
				return fmt.Errorf("column %q is compressed by %s, expected no compression, SNAPPY, GZIP or ZSTD", name, m.Codec)
			}
			for start < end {
				h, err := readPageHeader(at, start, end)
				if err != nil {
					return fmt.Errorf("column %q, page at byte %d: %w", name, start, err)
				}
				body := start + h.size
				if err := h.check(at, body, end, maxValues, m.Codec); err != nil {
					return fmt.Errorf("column %q, page at byte %d: %w", name, start, err)
				}
				start = body + h.compressed
			}
		}
	}
	return nil
}

// pageHeader is what of a page header decides about allocations.
type pageHeader struct {
	size                     int64 // of the header itself
	compressed, uncompressed int64
	values                   int64
	levels                   int64 // bytes of uncompressed levels before the values (version 2 pages)
	v2                       bool
}

func (h pageHeader) check(at io.ReaderAt, body, end, maxValues int64, codec format.CompressionCodec) error {
	switch {
	case h.compressed < 0 || h.compressed > end-body:
		return fmt.Errorf("%d bytes of data in a column chunk with %d left", h.compressed, end-body)
	case h.uncompressed < 0 || h.uncompressed > maxPage:
		return fmt.Errorf("%d bytes decompressed, expected at most %d", h.uncompressed, maxPage)
	case h.values < 0 || h.values > maxValues:
		return fmt.Errorf("%d values, expected at most %d in this file", h.values, maxValues)
	case h.levels < 0 || h.levels > h.compressed || h.levels > h.uncompressed:
		return fmt.Errorf("%d bytes of levels in a page of %d", h.levels, h.compressed)
	}
	if codec != format.Snappy && codec != format.Zstd || h.compressed == h.levels {
		return nil
	}
	// These two state the decompressed size in their first bytes, and decoders allocate by it.
	head := make([]byte, min(18, h.compressed-h.levels))
	if _, err := at.ReadAt(head, body+h.levels); err != nil {
		return err
	}
	var stated uint64
	ok := true
	if codec == format.Snappy {
		n := 0
		stated, n = binary.Uvarint(head)
		ok = n > 0
	} else {
		stated, ok = zstdContentSize(head)
	}
	// A version 2 page may hold uncompressed values although its column has a codec.
	if (!ok || stated > uint64(h.uncompressed-h.levels)) && !(h.v2 && h.compressed == h.uncompressed) {
		return fmt.Errorf("compressed data states no size or more than the %d bytes of its header", h.uncompressed-h.levels)
	}
	return nil
}

// zstdContentSize returns the decompressed size in a Zstandard frame header (RFC 8878, section 3.1.1.1).
func zstdContentSize(head []byte) (uint64, bool) {
	if len(head) < 5 || binary.LittleEndian.Uint32(head) != 0xfd2fb528 {
		return 0, false
	}
	descriptor := head[4]
	single := descriptor>>5&1 == 1
	at := 5 + []int{0, 1, 2, 4}[descriptor&3]
	if !single {
		at++ // window descriptor
	}
	n := []int{0, 2, 4, 8}[descriptor>>6]
	if n == 0 && single {
		n = 1
	}
	if n == 0 || at+n > len(head) {
		return 0, false
	}
	var b [8]byte
	copy(b[:], head[at:at+n])
	size := binary.LittleEndian.Uint64(b[:])
	if n == 2 {
		size += 256
	}
	return size, true
}

// readPageHeader reads the header that starts at byte start of a column chunk.
func readPageHeader(at io.ReaderAt, start, end int64) (pageHeader, error) {
	for window := int64(4 << 10); ; window *= 16 {
		window = min(window, end-start, maxPageHeader)
		data := make([]byte, window)
		if _, err := at.ReadAt(data, start); err != nil {
			return pageHeader{}, err
		}
		h, err := parsePageHeader(data)
		if err == nil || window == end-start || window == maxPageHeader {
			return h, err
		}
	}
}

func parsePageHeader(data []byte) (h pageHeader, err error) {
	t := thrift{data: data}
	page := map[int]*int64{2: &h.uncompressed, 3: &h.compressed}
	inner := map[int]*int64{1: &h.values}
	var repetition, definition int64
	err = t.fields(0, func(id int, kind byte) (bool, error) {
		if to := page[id]; to != nil && kind == thriftI32 {
			*to, err = t.varint()
			return true, err
		}
		if (id == 5 || id == 7 || id == 8) && kind == thriftStruct {
			fields := inner
			if id == 8 {
				h.v2 = true
				fields = map[int]*int64{1: &h.values, 5: &definition, 6: &repetition}
			}
			return true, t.fields(1, func(id int, kind byte) (bool, error) {
				if to := fields[id]; to != nil && kind == thriftI32 {
					*to, err = t.varint()
					return true, err
				}
				return false, nil
			})
		}
		return false, nil
	})
	if repetition < 0 || definition < 0 {
		return h, errors.New("negative size of levels")
	}
	h.levels = repetition + definition
	h.size = int64(t.at)
	return h, err
}

// thrift walks the Thrift compact protocol without allocating.
type thrift struct {
	data []byte
	at   int
}

// Type codes of the compact protocol.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

var errThriftShort = errors.New("structure ends too early")

func (t *thrift) byte() (byte, error) {
	if t.at >= len(t.data) {
		return 0, errThriftShort
	}
	t.at++
	return t.data[t.at-1], nil
}

func (t *thrift) uvarint() (uint64, error) {
	v, n := binary.Uvarint(t.data[t.at:])
	if n <= 0 {
		return 0, errThriftShort
	}
	t.at += n
	return v, nil
}

// varint reads a zigzag number.
func (t *thrift) varint() (int64, error) {
	v, err := t.uvarint()
	return int64(v>>1) ^ -int64(v&1), err
}

// count reads a length or number of elements, each of which takes at least one byte.
func (t *thrift) count() (int, error) {
	v, err := t.uvarint()
	if err != nil {
		return 0, err
	}
	if v > uint64(len(t.data)-t.at) {
		return 0, fmt.Errorf("%d elements or bytes with %d bytes left", v, len(t.data)-t.at)
	}
	return int(v), nil
}

// fields walks the fields of a struct; visit says whether it has read the field's value.
func (t *thrift) fields(depth int, visit func(id int, kind byte) (bool, error)) error {
	id := 0
	for {
		b, err := t.byte()
		if err != nil {
			return err
		}
		if b == 0 {
			return nil
		}
		if delta := int(b >> 4); delta != 0 {
			id += delta
		} else {
			v, err := t.varint()
			if err != nil {
				return err
			}
			id = int(int16(v))
		}
		kind := b & 15
		done, err := visit(id, kind)
		if err != nil {
			return err
		}
		if done || kind == thriftTrue || kind == thriftFalse {
			continue // the value of a boolean field is its type code
		}
		if err := t.skip(kind, depth+1); err != nil {
			return err
		}
	}
}

// skip walks over one value.
func (t *thrift) skip(kind byte, depth int) error {
	if depth > maxThriftDepth {
		return fmt.Errorf("structures nested deeper than %d", maxThriftDepth)
	}
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		_, err := t.byte()
		return err
	case thriftI16, thriftI32, thriftI64:
		_, err := t.uvarint()
		return err
	case thriftDouble:
		if len(t.data)-t.at < 8 {
			return errThriftShort
		}
		t.at += 8
		return nil
	case thriftBinary:
		n, err := t.count()
		t.at += n
		return err
	case thriftList, thriftSet:
		head, err := t.byte()
		if err != nil {
			return err
		}
		n := int(head >> 4)
		if n == 15 {
			if n, err = t.count(); err != nil {
				return err
			}
		}
		for range n {
			if err := t.skip(head&15, depth+1); err != nil {
				return err
			}
		}
		return nil
	case thriftMap:
		n, err := t.count()
		if err != nil || n == 0 {
			return err
		}
		types, err := t.byte()
		if err != nil {
			return err
		}
		for range n {
			if err := t.skip(types>>4, depth+1); err != nil {
				return err
			}
			if err := t.skip(types&15, depth+1); err != nil {
				return err
			}
		}
		return nil
	case thriftStruct:
		return t.fields(depth, func(int, byte) (bool, error) { return false, nil })
	}
	return fmt.Errorf("unknown type code %d", kind)
}
