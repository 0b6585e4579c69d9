package hub

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Repo names a repository of the hub at one revision.
type Repo struct {
	Dataset  bool   // false for a model
	ID       string // "org/name", or "name" for the oldest repositories
	Revision string // a branch, a tag, or a commit in full or shortened; "" means "main"
}

// datasetPrefix marks a dataset in the written form of a Repo, as in the addresses of the hub.
const datasetPrefix = "datasets/"

// ParseRepo reads "org/name" or "org/name@revision"; a leading "datasets/" makes it a dataset.
func ParseRepo(s string) (Repo, error) {
	var r Repo
	var pinned bool
	rest, dataset := strings.CutPrefix(s, datasetPrefix)
	r.Dataset = dataset
	r.ID, r.Revision, pinned = strings.Cut(rest, "@")
	if pinned && r.Revision == "" {
		return Repo{}, fmt.Errorf("%q: a revision must follow the @", printable(s))
	}
	if err := r.check(); err != nil {
		return Repo{}, err
	}
	return r, nil
}

// String returns the form that ParseRepo reads.
func (r Repo) String() string {
	s := r.path()
	if r.Revision != "" {
		s += "@" + r.Revision
	}
	return s
}

// path returns the address of the repository below the endpoint.
func (r Repo) path() string {
	if r.Dataset {
		return datasetPrefix + r.ID
	}
	return r.ID
}

// folder returns the name of the repository's folder in the cache.
func (r Repo) folder() string {
	return strings.ReplaceAll(r.kind()+"s/"+r.ID, "/", "--")
}

func (r Repo) kind() string {
	if r.Dataset {
		return "dataset"
	}
	return "model"
}

func (r Repo) revision() string {
	if r.Revision == "" {
		return "main"
	}
	return r.Revision
}

func (r Repo) check() error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	return checkRevision(r.revision())
}

// checkID accepts the names that the hub gives: one or two parts of letters, digits, "-", "_" and ".". "--" is
// refused because it separates the parts in the name of the folder.
func checkID(id string) error {
	fail := func(why string) error {
		return fmt.Errorf("%q is not the name of a repository (org/name): %s", printable(id), why)
	}
	parts := strings.Split(id, "/")
	if len(parts) > 2 {
		return fail("it has more than two parts")
	}
	for _, part := range parts {
		switch {
		case part == "":
			return fail("a part is empty")
		case len(part) > 96:
			return fail("a part is longer than 96 characters")
		case strings.Trim(part, "-.") != part:
			return fail("a part begins or ends with - or .")
		}
		for _, c := range []byte(part) {
			if !isLetterOrDigit(c) && c != '-' && c != '_' && c != '.' {
				return fail("letters, digits, -, _ and . are allowed")
			}
		}
	}
	switch {
	case strings.Contains(id, "--"), strings.Contains(id, ".."):
		return fail("-- and .. are not allowed")
	case strings.HasSuffix(id, ".git"):
		return fail(".git at the end is not allowed")
	}
	return nil
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// checkRevision accepts what git accepts as a ref (git-check-ref-format), so that the name of a ref is a path
// below refs/.
func checkRevision(revision string) error {
	fail := func(why string) error {
		return fmt.Errorf("%q is not a revision: %s", printable(revision), why)
	}
	switch {
	case revision == "":
		return fail("it is empty")
	case len(revision) > 255:
		return fail("it is longer than 255 bytes")
	case !utf8.ValidString(revision):
		return fail("it is not UTF-8")
	case strings.ContainsAny(revision, " ~^:?*[\\") || strings.ContainsFunc(revision, unicode.IsControl):
		return fail(`spaces, control characters and ~ ^ : ? * [ \ are not allowed`)
	case strings.Contains(revision, ".."), strings.Contains(revision, "@{"), strings.HasSuffix(revision, "."):
		return fail(`"..", "@{" and a dot at the end are not allowed`)
	}
	for part := range strings.SplitSeq(revision, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return fail("a part between slashes is empty, begins with a dot or ends with .lock")
		}
	}
	if !filepath.IsLocal(filepath.FromSlash(revision)) {
		return fail("it is not a path on this system")
	}
	return nil
}

// isHex says whether s consists of n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

const (
	commitDigits = 40 // git SHA-1: of a commit, or of a blob
	sha256Digits = 64
)

// checkFileName accepts the name of a file in a repository as a path below its snapshot: relative, with slashes,
// in its shortest form, and without anything that a system could read in another way.
func checkFileName(name string) error {
	fail := func(why string) error {
		return fmt.Errorf("file name %q is refused: %s", printable(name), why)
	}
	switch {
	case name == "":
		return fail("it is empty")
	case len(name) > 1024:
		return fail("it is longer than 1024 bytes")
	case !utf8.ValidString(name):
		return fail("it is not UTF-8")
	case strings.Contains(name, `\`):
		return fail("it has a backslash")
	case strings.ContainsFunc(name, unicode.IsControl):
		return fail("it has a control character")
	case name[0] == '/':
		return fail("it is absolute")
	case path.Clean(name) != name || name == "." || name == ".." || strings.HasPrefix(name, "../"):
		return fail("it has an empty part, . or ..")
	case !filepath.IsLocal(filepath.FromSlash(name)):
		return fail("it is not a path below a folder on this system")
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 255 {
			return fail("a part is longer than 255 bytes")
		}
	}
	return nil
}
