package results

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// syncDir does nothing: a directory cannot be synced here.
func syncDir(string) error { return nil }

// tryLock takes an exclusive lock on f and says whether it got it. It locks one
// byte far behind the text, so that others can still read who holds it.
func tryLock(f *os.File) (bool, error) {
	o := &windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, o)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
