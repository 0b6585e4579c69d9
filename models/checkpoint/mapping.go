package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"sync/atomic"
)

// mapping is the content of one file, mapped into memory where the system can do so, else read.
type mapping struct {
	path   string
	data   []byte
	unmap  func() error // nil when data lies in ordinary memory
	closed atomic.Bool
}

// errGitLFS says that the file only stands for the weights.
var errGitLFS = errors.New("this is a Git LFS pointer, the content was not downloaded: run \"git lfs pull\"")

// openMapping maps the regular file at path.
func openMapping(path string) (*mapping, error) { return openWith(path, mapFile) }

// openWith is openMapping with the system's way of mapping; where that is unsupported the file is read.
func openWith(path string, mapFile func(*os.File, int) ([]byte, func() error, error)) (*mapping, error) {
	st, err := os.Stat(path) // before Open, which would wait on a named pipe
	if err != nil {
		return nil, missing(path, err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return nil, err
	}
	if st.Size() > math.MaxInt {
		return nil, fmt.Errorf("%s: %d bytes are more than this system can address", path, st.Size())
	}
	m := &mapping{path: path}
	if st.Size() > 0 {
		m.data, m.unmap, err = mapFile(f, int(st.Size()))
		if errors.Is(err, errors.ErrUnsupported) {
			m.data = make([]byte, st.Size())
			_, err = io.ReadFull(f, m.data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return m, nil
}

// absentError says in its own words that a file does not exist.
type absentError struct{ message string }

func (e *absentError) Error() string { return e.message }
func (e *absentError) Unwrap() error { return fs.ErrNotExist }

// missing makes the message of a file that does not exist; other errors already name the path.
func missing(path string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return &absentError{path + " is a link to a file that does not exist"}
	}
	return &absentError{path + " does not exist"}
}

// isGitLFS reports whether data is the text that Git LFS leaves in place of a large file.
func isGitLFS(data []byte) bool {
	return bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/spec/"))
}

// release drops the pages that lie whole in part, a part of data, from memory; reading them maps them again.
func (m *mapping) release(part []byte) {
	if m.unmap != nil && !m.closed.Load() {
		releasePages(part)
	}
}

// close releases the bytes. Views of them must not be used any more.
func (m *mapping) close() error {
	if m.closed.Swap(true) || m.unmap == nil {
		return nil
	}
	if err := m.unmap(); err != nil {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	return nil
}

// guard runs read, which touches the mapped bytes. A page that cannot be had (the file became shorter,
// the disk fails) faults; guard turns that into an error.
func (m *mapping) guard(read func() error) (err error) {
	if m.closed.Load() {
		return fmt.Errorf("%s: read after Close", m.path)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if _, fault := r.(interface{ Addr() uintptr }); !fault {
			panic(r)
		}
		err = fmt.Errorf("%s: a part of the file cannot be read: it was changed after opening, or the disk failed", m.path)
	}()
	return read()
}

// readSmall reads a text file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	defer m.close()
	if int64(len(m.data)) > limit {
		return nil, fmt.Errorf("%s: %d bytes, expected at most %d", path, len(m.data), limit)
	}
	var data []byte
	err = m.guard(func() error {
		data = bytes.Clone(m.data)
		return nil
	})
	return data, err
}
