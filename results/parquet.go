package results

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// schemaKey is the key of the Parquet metadata that holds the schema's version.
const schemaKey = "splitbench.schema_version"

// rowsPerGroup bounds what a reader must hold at once; DuckDB parallelises over
// row groups of about this size.
const rowsPerGroup = 1 << 17

// rowWriter writes rows as Parquet. Every column is PLAIN: with Snappy a
// repeated knob costs a few bits per row all the same, and the size of a page
// then bounds the number of its values, which is what makes reading a hostile
// file safe (parquetcheck.go). The bytes depend on nothing but the rows.
type rowWriter struct {
	w *parquet.GenericWriter[Row]
}

func newRowWriter(w io.Writer) *rowWriter {
	return &rowWriter{newParquetWriter[Row](w, SchemaVersion)}
}

// newParquetWriter returns a writer of rows of type T whose file names the
// version of its schema.
func newParquetWriter[T any](w io.Writer, schema int) *parquet.GenericWriter[T] {
	return parquet.NewGenericWriter[T](w,
		&parquet.WriterConfig{
			CreatedBy: "splitbench version 1 (build results)",
			// Version 1 pages are read by every Parquet implementation.
			DataPageVersion: 1,
		},
		parquet.Compression(&parquet.Snappy),
		parquet.DefaultEncoding(&parquet.Plain),
		parquet.MaxRowsPerRowGroup(rowsPerGroup),
		parquet.KeyValueMetadata(schemaKey, strconv.Itoa(schema)),
	)
}

func (w *rowWriter) Write(rows []Row) error {
	n, err := w.w.Write(rows)
	if err == nil && n != len(rows) {
		err = io.ErrShortWrite
	}
	return err
}

func (w *rowWriter) Close() error { return w.w.Close() }

// WriteRows writes rows to w as one Parquet file. Equal rows give equal bytes.
func WriteRows(w io.Writer, rows []Row) error {
	rw := newRowWriter(w)
	if err := rw.Write(rows); err != nil {
		return err
	}
	return rw.Close()
}

// ReadRows reads all rows of a Parquet file of size bytes written by WriteRows
// or Run.Merge. Its memory is bounded by a constant times size, whatever the
// file claims.
func ReadRows(r io.ReaderAt, size int64) ([]Row, error) {
	var rows []Row
	err := ScanRows(r, size, func(part []Row) error {
		rows = append(rows, part...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// ScanRows calls f with the rows of a Parquet file of size bytes, in order and
// some at a time. f may keep the rows but not the slice. An error of f ends the
// scan and is returned.
func ScanRows(r io.ReaderAt, size int64, f func([]Row) error) error {
	if err := checkParquet(r, size); err != nil {
		return err
	}
	s, err := openScan(r, size)
	if err != nil {
		return err
	}
	batch := make([]Row, min(1024, s.rows))
	for left := s.rows; left > 0; {
		n, err := s.read(batch)
		if n > 0 {
			if int64(n) > left {
				return fmt.Errorf("the Parquet file has more rows than the %d it names", s.rows)
			}
			left -= int64(n)
			s.intern(batch[:n])
			for i := range batch[:n] {
				batch[i].Point.complete()
			}
			if err := f(batch[:n]); err != nil {
				return err
			}
			clear(batch[:n])
		}
		if left > 0 && (err != nil || n == 0) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("reading Parquet: row %d of %d: %w", s.rows-left, s.rows, err)
		}
	}
	return nil
}

type scan struct {
	r    *parquet.GenericReader[Row]
	rows int64
	seen map[string]string
}

// caught turns a panic of the Parquet library on damaged input into an error.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("damaged Parquet file: %v", p)
	}
}

func openScan(r io.ReaderAt, size int64) (s *scan, err error) {
	defer caught(&err)
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("damaged Parquet file: %w", err)
	}
	return &scan{parquet.NewGenericReader[Row](f), f.NumRows(), map[string]string{}}, nil
}

func (s *scan) read(batch []Row) (n int, err error) {
	defer caught(&err)
	return s.r.Read(batch)
}

// intern makes equal strings of the rows share one copy: they repeat in every
// row of a cell.
func (s *scan) intern(rows []Row) {
	for i := range rows {
		r := &rows[i]
		for _, p := range append(r.Point.strings(), &r.Cell) {
			v, ok := s.seen[*p]
			if !ok {
				v = string([]byte(*p))
				s.seen[v] = v
			}
			*p = v
		}
	}
}

// countRows returns the number of rows of a Parquet file without reading them.
func countRows(r io.ReaderAt, size int64) (int64, error) {
	if err := checkParquet(r, size); err != nil {
		return 0, err
	}
	footer, err := readFooter(r, size)
	if err != nil {
		return 0, err
	}
	meta, err := decodeFooter(footer)
	if err != nil {
		return 0, err
	}
	return meta.NumRows, nil
}
