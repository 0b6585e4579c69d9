package exec

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"splitbench/compress"
	"splitbench/experiments/spec"
)

// Tables are the static tables of a boundary's two streams, nil where those built
// in are used, with the SHA-256 of their files in hexadecimal.
type Tables struct {
	Hidden                 *compress.Tables
	KV                     *compress.KVTables
	HiddenDigest, KVDigest string
}

// LoadTables reads the files of tables that a boundary names; b may be nil.
func LoadTables(b *spec.Boundary) (t Tables, err error) {
	if b == nil || b.Codec != codecSplit1 {
		return Tables{}, nil
	}
	if b.Tables != "" {
		if t.Hidden, t.HiddenDigest, err = readTables("tables", b.Tables, compress.ParseTables); err != nil {
			return Tables{}, err
		}
	}
	if b.KVTables != "" {
		if t.KV, t.KVDigest, err = readTables("kv_tables", b.KVTables, compress.ParseKVTables); err != nil {
			return Tables{}, err
		}
	}
	return t, nil
}

// MaxTables bounds a file of tables, in bytes: the largest possible has some
// kilobytes per layer and a quarter of a byte per column.
const MaxTables = 64 << 20

// readTables reads the file that a key of the boundary names.
func readTables[T any](key, path string, parse func([]byte) (T, error)) (t T, digest string, err error) {
	b, err := ReadBounded(path, MaxTables)
	if err == nil {
		t, err = parse(b)
	}
	if err != nil {
		return t, "", fmt.Errorf("%s %s: %w", key, path, err)
	}
	return t, fmt.Sprintf("%x", sha256.Sum256(b)), nil
}

// ReadBounded reads a regular file of at most limit bytes. Its errors do not name
// the file.
func ReadBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
