package hub

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// rejectsLinks says whether the system refuses symbolic links, and remembers it.
func (f *fetcher) rejectsLinks() bool {
	probe := filepath.Join(f.root, ".link")
	os.Remove(probe)
	f.linksRejected = f.symlink("blobs", probe) != nil
	os.Remove(probe)
	return f.linksRejected
}

// place puts a file into the snapshot: a relative link to its content, or a copy where the system has no links.
func (f *fetcher) place(s Snapshot, file File) error {
	place := filepath.Join(s.Dir, filepath.FromSlash(file.Name))
	blob := f.blobPath(file)
	if info, err := os.Stat(place); err == nil && info.Mode().IsRegular() && info.Size() == file.Size {
		return nil // of one commit, so of one content
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o777); err != nil {
		return err
	}
	if err := os.Remove(place); err != nil && !errors.Is(err, os.ErrNotExist) { // a link to nothing
		return err
	}
	up := strings.Repeat("../", 2+strings.Count(file.Name, "/"))
	if !f.linksRejected {
		err := f.symlink(filepath.FromSlash(up+"blobs/"+file.ETag), place)
		if err == nil {
			return nil
		}
		if !f.rejectsLinks() {
			return err
		}
	}
	return copyFile(blob, place)
}

// copyFile copies by way of a file beside the blob, so that a half copy never has the final name.
func copyFile(blob, place string) error {
	from, err := os.Open(blob)
	if err != nil {
		return err
	}
	defer from.Close()
	return writeFile(place, blob+".copy"+incompleteSuffix, from)
}

// writeFile writes a file that has its name only when all of it is on the disk. half is its name until then.
func writeFile(name, half string, content io.Reader) error {
	to, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, content)
	if err == nil {
		err = to.Sync()
	}
	if closeErr := to.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(half, name)
	}
	if err != nil {
		os.Remove(half)
	}
	return err
}

// writeRef records the commit of the branch, tag or shortened commit that was fetched. A full commit has no ref.
func (f *fetcher) writeRef(commit string) error {
	revision := f.Repo.revision()
	if isCommit(revision) {
		return nil
	}
	ref := filepath.Join(f.root, "refs", filepath.FromSlash(revision))
	if data, err := readSmall(ref, maxRefBytes); err == nil && string(data) == commit {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(ref), 0o777); err != nil {
		return err
	}
	half := ref + ".lock" // a name that no ref can have; the lock of the repository is held
	if err := writeFile(ref, half, strings.NewReader(commit)); err != nil {
		return fmt.Errorf("the files are there, but not the ref: %w", err)
	}
	return nil
}
