package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lockName is the file that holds the lock and names its holder. It stays when
// the lock goes: removing it would let two processes lock two files.
const lockName = ".lock"

// ErrLocked is returned when another process writes to the run directory.
var ErrLocked = errors.New("run directory is in use")

// Lock takes the lock of a folder that is there, as Create does, or returns an
// error that wraps ErrLocked and names the holder. What writers that were killed
// left of WriteFile is removed. release gives the lock back.
func Lock(dir string) (release func() error, err error) {
	l, err := acquire(context.Background(), dir, false, nil)
	if err != nil {
		return nil, err
	}
	if err := removeTemp(dir); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l.release, nil
}

type lock struct{ f *os.File }

// acquire takes the lock of dir. Without wait it gives up at once; with wait it
// tries until ctx ends, after telling waiting, if not nil, who holds it.
func acquire(ctx context.Context, dir string, wait bool, waiting func(holder string)) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	told := false
	for {
		ok, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if ok {
			break
		}
		who := holder(f)
		if !wait {
			f.Close()
			return nil, fmt.Errorf("%s: %w by %s; wait for it to end or choose another directory with --out", dir, ErrLocked, who)
		}
		if !told && waiting != nil {
			waiting(who)
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("%s: %w by %s: %w", dir, ErrLocked, who, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "pid %d host %s\n", os.Getpid(), host), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &lock{f}, nil
}

// holder reads who wrote the lock file.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 256))
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	if s := strings.TrimSpace(string(line)); err == nil && s != "" {
		return s
	}
	return "another process"
}

func (l *lock) release() error {
	// Closing drops the lock; the text must go before that.
	return errors.Join(l.f.Truncate(0), l.f.Close())
}
