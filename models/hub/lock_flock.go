//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package hub

import (
	"os"
	"syscall"
)

// tryLock takes the lock on a file and returns how to give it back, or nil when another holds it. The system
// gives it back when the program ends in any way. On a file system without locks nothing is locked: two downloads
// of one content then may write the same bytes twice, and its digest is checked as ever.
func tryLock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o664)
	if err != nil {
		return nil, err
	}
	file.Chmod(0o664) // where a group shares the cache, all must be able to lock; not being the owner is no fault
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil, syscall.ENOSYS, syscall.ENOTSUP, syscall.ENOLCK:
	case syscall.EWOULDBLOCK, syscall.EINTR:
		return nil, file.Close()
	default:
		file.Close()
		return nil, err
	}
	// The lock must be that of the file which has the name now: others remove the file when they end.
	held, err := file.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = os.Stat(path); err == nil && os.SameFile(held, named) {
			return func() { file.Close() }, nil
		}
	}
	file.Close()
	if os.IsNotExist(err) {
		err = nil
	}
	return nil, err
}
