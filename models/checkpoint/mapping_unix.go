//go:build unix

package checkpoint

import (
	"errors"
	"os"
	"unsafe"

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

// releasePages drops the whole pages of a part of a mapping from this process; the page cache keeps them.
func releasePages(part []byte) {
	page := os.Getpagesize()
	from := int(-uintptr(unsafe.Pointer(unsafe.SliceData(part))) & uintptr(page-1))
	to := from + (len(part)-from)/page*page
	if from < to && to <= len(part) {
		_ = unix.Madvise(part[from:to], unix.MADV_DONTNEED) // advice: nothing depends on it
	}
}
