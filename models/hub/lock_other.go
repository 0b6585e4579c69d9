//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package hub

// tryLock locks nothing here: two downloads of one content may write the same bytes twice, and its digest is
// checked as ever.
func tryLock(string) (unlock func(), err error) { return func() {}, nil }
