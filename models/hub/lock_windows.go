package hub

import (
	"os"
	"syscall"
	"unsafe"
)

var (
	kernel32             = syscall.NewLazyDLL("kernel32.dll")
	procLockFileEx       = kernel32.NewProc("LockFileEx")
	procGetDiskFreeSpace = kernel32.NewProc("GetDiskFreeSpaceExW")
)

const (
	lockfileFailImmediately = 1
	lockfileExclusiveLock   = 2
	errorLockViolation      = syscall.Errno(33)
)

// tryLock takes the lock on the first byte of a file and returns how to give it back, or nil when another holds
// it. The system gives it back when the program ends in any way.
func tryLock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	var overlapped syscall.Overlapped
	ok, _, err := procLockFileEx.Call(file.Fd(), lockfileFailImmediately|lockfileExclusiveLock, 0, 1, 0, uintptr(unsafe.Pointer(&overlapped)))
	switch {
	case ok != 0:
		return func() { file.Close() }, nil
	case err == errorLockViolation || err == syscall.ERROR_IO_PENDING:
		return nil, file.Close()
	}
	file.Close()
	return nil, err
}

// freeBytes returns the bytes that this user may still write below dir.
func freeBytes(dir string) (uint64, error) {
	name, err := syscall.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if ok, _, err := procGetDiskFreeSpace.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&free)), 0, 0); ok == 0 {
		return 0, err
	}
	return free, nil
}
