//go:build darwin || dragonfly || freebsd || linux

package hub

import "syscall"

// freeBytes returns the bytes that this user may still write below dir.
func freeBytes(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(max(s.Bavail, 0)) * uint64(s.Bsize), nil
}
