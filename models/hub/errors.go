package hub

import (
	"errors"
	"strings"
	"unicode"
)

// The kinds of failure, for errors.Is. The messages say in one line what to do.
var (
	// ErrNotCached says that a repository or a revision is not in the cache.
	ErrNotCached = errors.New("not in the cache")
	// ErrIncomplete says that a snapshot in the cache lacks files.
	ErrIncomplete = errors.New("incomplete snapshot")
	// ErrAccess says that the hub wants a token, an accepted licence, or a token with more rights.
	ErrAccess = errors.New("no access")
	// ErrNotFound says that the hub has no such repository, revision or file.
	ErrNotFound = errors.New("not found on the hub")
	// ErrWrongBytes says that a content has not the size or the digest that the hub declared.
	ErrWrongBytes = errors.New("wrong bytes")
	// ErrNoSpace says that the files do not fit on the disk.
	ErrNoSpace = errors.New("not enough disk space")
	// ErrUnavailable says that the hub could not be reached or did not answer as a hub does, after all retries.
	ErrUnavailable = errors.New("hub not available")
)

// fault is an error whose message does not repeat its kind.
type fault struct {
	kind  error
	text  string
	cause error // nil when there is none
}

func (e *fault) Error() string { return e.text }

func (e *fault) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// maxForeignText bounds what a message shows of a text from a server.
const maxForeignText = 200

// printable returns s fit for one line of a message: short and without control characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), 2*maxForeignText)])
	if len(s) > maxForeignText {
		s = strings.ToValidUTF8(s[:maxForeignText], "") + "..."
	}
	return s
}
