package results

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names within a run directory.
const (
	specName     = "spec.yaml"
	manifestName = "manifest.json"
	cellsName    = "cells"
	mergedName   = "run.parquet"
)

// maxManifest bounds the bytes of spec.yaml and manifest.json that are read.
const maxManifest = 256 << 20

// Errors of opening a run directory.
var (
	// ErrOtherSpec is returned by Create for a directory of a different spec.
	ErrOtherSpec = errors.New("run directory of a different spec")
	// ErrNotRun is returned for a directory that is not a run.
	ErrNotRun = errors.New("not a run directory")
	// ErrReadOnly is returned when a run opened by OpenRun is to be written.
	ErrReadOnly = errors.New("run was opened for reading")
)

// Run is a run directory. Its methods may be called from several goroutines as
// long as they concern different cells; Merge and Finish must be called alone.
type Run struct {
	dir      string
	spec     []byte
	manifest Manifest
	lock     *lock // nil when read only
}

// Option changes how Create works.
type Option func(*createOptions)

type createOptions struct {
	ctx     context.Context
	wait    bool
	waiting func(holder string)
}

// Wait makes Create wait until another process lets go of the run directory or
// ctx ends. waiting, if not nil, is called once, before waiting, with a few
// words on who holds it.
func Wait(ctx context.Context, waiting func(holder string)) Option {
	return func(o *createOptions) { o.ctx, o.wait, o.waiting = ctx, true, waiting }
}

// Create makes the run directory dir for spec, or reopens the one that is there
// if it is of the same spec. It takes the directory's lock, which Close gives
// back and which goes when the process dies. Reopening keeps the time of
// creation and replaces the rest of the manifest by m, because it describes the
// program that goes on. Unfinished files of a killed process are removed;
// journals are kept.
//
// Errors: ErrLocked if another process works there, ErrOtherSpec, ErrNotRun,
// ErrSchema.
func Create(dir string, spec []byte, m Manifest, options ...Option) (_ *Run, err error) {
	o := createOptions{ctx: context.Background()}
	for _, f := range options {
		f(&o)
	}
	m.Schema = SchemaVersion
	m.Created, m.Started = m.Created.UTC(), m.Started.UTC()
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, cellsName), 0o755); err != nil {
		return nil, err
	}
	l, err := acquire(o.ctx, dir, o.wait, o.waiting)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	r := &Run{dir: dir, spec: bytes.Clone(spec), manifest: m, lock: l}
	old, err := os.ReadFile(r.path(specName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := writeBytes(r.path(specName), spec); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if diffs := specDiff(old, spec); len(diffs) > 0 {
			more := ""
			if n := len(diffs) - maxDiffs; n > 0 {
				diffs, more = diffs[:maxDiffs], fmt.Sprintf("; and %d more", n)
			}
			return nil, fmt.Errorf("%s: %w: %s%s; choose another directory with --out", dir, ErrOtherSpec, strings.Join(diffs, "; "), more)
		}
		r.spec = old
		before, err := readManifest(dir)
		if err == nil {
			r.manifest.Created = before.Created
		} else if !errors.Is(err, fs.ErrNotExist) { // killed between spec and manifest
			return nil, err
		}
	}
	for _, d := range []string{dir, r.path(cellsName)} {
		if err := removeTemp(d); err != nil {
			return nil, err
		}
	}
	if err := r.writeManifest(); err != nil {
		return nil, err
	}
	return r, nil
}

// checkDir refuses a directory that holds something but no run.
func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	other := ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == specName:
			return nil
		case name != lockName && name != cellsName && !strings.Contains(name, tempMark):
			other = name
		}
	}
	if other != "" {
		return fmt.Errorf("%s: %w: it holds %s but no %s; choose another directory with --out", dir, ErrNotRun, other, specName)
	}
	return nil
}

// OpenRun opens a run directory for reading. It takes no lock: a run can be
// looked at while it goes on.
func OpenRun(dir string) (*Run, error) {
	m, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: no %s", dir, ErrNotRun, manifestName)
	}
	if err != nil {
		return nil, err
	}
	spec, err := readLimited(filepath.Join(dir, specName), maxManifest)
	if err != nil {
		return nil, err
	}
	return &Run{dir: dir, spec: spec, manifest: m}, nil
}

func readManifest(dir string) (Manifest, error) {
	path := filepath.Join(dir, manifestName)
	b, err := readLimited(path, maxManifest)
	if err != nil {
		return Manifest{}, err
	}
	m, err := decodeManifest(b)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Close gives back the lock. The run must not be used afterwards.
func (r *Run) Close() error {
	if r.lock == nil {
		return nil
	}
	l := r.lock
	r.lock = nil
	return l.release()
}

// Dir returns the directory of the run.
func (r *Run) Dir() string { return r.dir }

// Spec returns the recorded spec. The caller must not change it.
func (r *Run) Spec() []byte { return r.spec }

// Manifest returns the manifest. The caller must not change its cells or digests.
func (r *Run) Manifest() Manifest { return r.manifest }

// MergedPath returns the path of run.parquet.
func (r *Run) MergedPath() string { return r.path(mergedName) }

// Finish records that the run came to its end.
func (r *Run) Finish(at time.Time) error {
	if r.lock == nil {
		return ErrReadOnly
	}
	at = at.UTC()
	r.manifest.Finished = &at
	return r.writeManifest()
}

func (r *Run) writeManifest() error {
	b, err := encodeManifest(&r.manifest)
	if err != nil {
		return err
	}
	return writeBytes(r.path(manifestName), b)
}

func (r *Run) path(name string) string { return filepath.Join(r.dir, name) }

func (r *Run) cell(key, ext string) string { return filepath.Join(r.dir, cellsName, key+ext) }

// Done says whether the cell is finished and whole: its JSON and its Parquet file
// are there under their final names, of this schema version, and the JSON's row
// count and SHA-256 are those of the Parquet file. A cell that failed (status
// oom, error, timeout) is finished too. With ErrBroken the cell counts as not done
// and is to be run again; the error says what is wrong with its files. Any other
// error must stop the caller: the disk failed, or the cell is of a newer schema
// version (ErrSchema) and must not be overwritten.
func (r *Run) Done(key string) (CellResult, bool, error) {
	if err := checkKey(key); err != nil {
		return CellResult{}, false, err
	}
	c, err := r.readCell(key)
	if errors.Is(err, fs.ErrNotExist) {
		// A Parquet file alone is what a crash between the two renames leaves.
		return CellResult{}, false, nil
	}
	if err != nil {
		return CellResult{}, false, err
	}
	if err := r.verify(&c); err != nil {
		return CellResult{}, false, err
	}
	if r.lock != nil && c.Status != StatusTimeout {
		// The crash may have come after the last rename of Commit.
		if err := removeIfThere(r.cell(key, ".journal")); err != nil {
			return CellResult{}, false, err
		}
	}
	return c, true, nil
}

func (r *Run) readCell(key string) (CellResult, error) {
	path := r.cell(key, ".json")
	b, err := readLimited(path, maxCellJSON)
	if err != nil {
		return CellResult{}, err
	}
	c, err := DecodeCell(b)
	if err == nil && c.Key != key {
		err = fmt.Errorf("it is of cell %s", c.Key)
	}
	if errors.Is(err, ErrSchema) {
		return CellResult{}, fmt.Errorf("%s: %w", path, err)
	}
	if err != nil {
		return CellResult{}, fmt.Errorf("%w: %s: %w", ErrBroken, path, err)
	}
	return c, nil
}

// verify compares the Parquet file with what the JSON says of it.
func (r *Run) verify(c *CellResult) error {
	path := r.cell(c.Key, ".parquet")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s: missing", ErrBroken, path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != c.RowsSHA256 {
		return fmt.Errorf("%w: %s: its SHA-256 is %s, recorded %s", ErrBroken, path, sum, c.RowsSHA256)
	}
	rows, err := countRows(f, size)
	if err == nil && rows != c.Rows {
		err = fmt.Errorf("%d rows, recorded %d", rows, c.Rows)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBroken, path, err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Journal opens the journal of an unfinished cell. It returns the rows of the
// blocks that reached the disk, in the order they were appended, and the number
// of the last of these blocks, -1 when there is none. What a crash left of a
// further block is dropped, and so is a file whose header is not that of the
// cell's journal; one of a newer schema version is ErrSchema. The caller goes on with the block after lastBlock
// and closes the journal before Commit.
func (r *Run) Journal(key string) (j *Journal, recovered []Row, lastBlock int, err error) {
	if r.lock == nil {
		return nil, nil, -1, ErrReadOnly
	}
	if err := checkKey(key); err != nil {
		return nil, nil, -1, err
	}
	return openJournal(r.cell(key, ".journal"), key)
}

// Commit finishes a cell: it writes its rows, then res with Schema, Key, Rows and
// RowsSHA256 filled in, and removes the journal, except that of a cell that timed
// out: the next run goes on from there. The cell is done once the last
// rename is; before that it is as if Commit had not been called, except that an
// earlier result of the cell is gone.
func (r *Run) Commit(key string, rows []Row, res CellResult) error {
	if r.lock == nil {
		return ErrReadOnly
	}
	res.Schema, res.Key, res.Rows = SchemaVersion, key, int64(len(rows))
	if err := res.check(); err != nil {
		return fmt.Errorf("cell %s: %w", key, err)
	}
	for i := range rows {
		if rows[i].Cell != key {
			return fmt.Errorf("cell %s: row %d is of cell %q", key, i, rows[i].Cell)
		}
	}
	// An old JSON beside new rows would look broken after a crash.
	if err := removeIfThere(r.cell(key, ".json")); err != nil {
		return err
	}
	h := sha256.New()
	err := writeFile(r.cell(key, ".parquet"), func(w io.Writer) error {
		return WriteRows(io.MultiWriter(w, h), rows)
	})
	if err != nil {
		return err
	}
	res.RowsSHA256 = hex.EncodeToString(h.Sum(nil))
	var buf bytes.Buffer
	if err := EncodeCell(&buf, &res); err != nil {
		return err
	}
	if buf.Len() > maxCellJSON {
		return fmt.Errorf("cell %s: its JSON has %d bytes, at most %d can be read back", key, buf.Len(), maxCellJSON)
	}
	if err := writeBytes(r.cell(key, ".json"), buf.Bytes()); err != nil {
		return err
	}
	if res.Status == StatusTimeout {
		return nil // another run may go on behind the blocks that are there
	}
	return removeIfThere(r.cell(key, ".journal"))
}

// Rows returns the rows of a finished cell.
func (r *Run) Rows(key string) ([]Row, error) {
	var rows []Row
	err := r.scan(key, func(part []Row) error {
		rows = append(rows, part...)
		return nil
	})
	return rows, err
}

func (r *Run) scan(key string, f func([]Row) error) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return scanFile(r.cell(key, ".parquet"), f)
}

func scanFile(path string, f func([]Row) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := ScanRows(file, info.Size(), f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// ReadFile reads the rows of a Parquet file, one of a cell or run.parquet.
func ReadFile(path string) ([]Row, error) {
	var rows []Row
	err := scanFile(path, func(part []Row) error {
		rows = append(rows, part...)
		return nil
	})
	return rows, err
}

// Cells returns the finished cells in the manifest's order. An error names the
// cells with damaged files; the others are returned with it.
func (r *Run) Cells() ([]CellResult, error) {
	cells, broken, err := r.CellsTolerant()
	return cells, errors.Join(append(broken, err)...)
}

// CellsTolerant returns the finished cells in the manifest's order, and apart from
// them one error, wrapping ErrBroken, for each cell with damaged files. err is
// about the others that could not be read: the disk failed, or they are of a newer
// schema version (ErrSchema).
func (r *Run) CellsTolerant() (cells []CellResult, broken []error, err error) {
	var errs []error
	for _, m := range r.manifest.Cells {
		c, ok, err := r.Done(m.Key)
		switch {
		case errors.Is(err, ErrBroken):
			broken = append(broken, err)
		case err != nil:
			errs = append(errs, err)
		case ok:
			cells = append(cells, c)
		}
	}
	return cells, broken, errors.Join(errs...)
}

// Merge writes run.parquet: the rows of all finished cells in the order of keys,
// or in the manifest's order if keys is nil. It holds a bounded part of the rows
// at a time. It returns how many cells and rows it wrote; cells that are not done
// are left out. A cell with damaged files is an error.
func (r *Run) Merge(keys []string) (cells int, rows int64, err error) {
	if r.lock == nil {
		return 0, 0, ErrReadOnly
	}
	if keys == nil {
		for _, c := range r.manifest.Cells {
			keys = append(keys, c.Key)
		}
	}
	err = writeFile(r.path(mergedName), func(w io.Writer) error {
		cells, rows = 0, 0
		rw := newRowWriter(w)
		for _, k := range keys {
			_, ok, err := r.Done(k)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			err = r.scan(k, func(part []Row) error {
				rows += int64(len(part))
				return rw.Write(part)
			})
			if err != nil {
				return err
			}
			cells++
		}
		return rw.Close()
	})
	return cells, rows, err
}

// MetricFunc computes the aggregates of a cell from its rows.
type MetricFunc func(rows []Row) ([]Metric, error)

// Metrics computes the aggregates of a finished cell anew from its stored rows.
func (r *Run) Metrics(key string, f MetricFunc) ([]Metric, error) {
	rows, err := r.Rows(key)
	if err != nil {
		return nil, err
	}
	m, err := f(rows)
	if err != nil {
		return nil, fmt.Errorf("cell %s: %w", key, err)
	}
	return m, nil
}
