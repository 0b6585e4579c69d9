package compress

import (
	"syscall"
	"testing"
)

// guarded returns n bytes that end at a page which cannot be touched, or, with
// front, start behind one: a read or write beyond that side is a fault.
func guarded(t testing.TB, n int, front bool) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	size := (n+page-1)/page*page + 2*page
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skipf("no memory map: %v", err)
	}
	t.Cleanup(func() { syscall.Munmap(b) })
	for _, edge := range [][]byte{b[:page], b[size-page:]} {
		if err := syscall.Mprotect(edge, syscall.PROT_NONE); err != nil {
			t.Skipf("no protection of memory: %v", err)
		}
	}
	if front {
		return b[page : page+n : page+n]
	}
	return b[size-page-n : size-page : size-page]
}
