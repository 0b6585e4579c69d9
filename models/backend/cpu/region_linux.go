package cpu

import "golang.org/x/sys/unix"

// mapMemory returns size zeroed bytes and what releases them, nil when the
// system has none to give.
func mapMemory(size int) (region []byte, release func([]byte)) {
	r, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil
	}
	return r, func(r []byte) { _ = unix.Munmap(r) }
}
