//go:build unix

package checkpoint

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps size bytes of f, read only and shared with the page cache. The error is errors.ErrUnsupported
// where the file cannot be mapped but can be read.
func mapFile(f *os.File, size int) (data []byte, unmap func() error, err error) {
	data, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err == unix.ENODEV || err == unix.EINVAL { // what file systems without mapping answer
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, nil, err
	}
	return data, func() error { return unix.Munmap(data) }, nil
}
