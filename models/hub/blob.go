package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	copyBytes = 256 << 10
	// progressBytes is what a connection must bring to count as progress, so that a server which cuts after every
	// few bytes does not keep a download for ever.
	progressBytes = 64 << 10
	lockPoll      = 50 * time.Millisecond
)

func (f *fetcher) blobPath(file File) string { return filepath.Join(f.root, "blobs", file.ETag) }

// hasBlob says whether the content is in the cache. One of another size is damaged, and downloaded again.
func (f *fetcher) hasBlob(file File) bool {
	info, err := os.Stat(f.blobPath(file))
	return err == nil && info.Mode().IsRegular() && info.Size() == file.Size
}

// lock takes a lock of the repository. The tools in Python use the same files. what is for the note to the user.
func (f *fetcher) lock(ctx context.Context, name, what string) (unlock func(), err error) {
	dir := filepath.Join(f.Cache.Dir, ".locks", f.Repo.folder())
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	for waited := false; ; waited = true {
		unlock, err := tryLock(path)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if unlock != nil {
			return unlock, nil
		}
		if !waited {
			f.report(Progress{Note: what + ": waiting for another download of it to end"})
		}
		if err := sleep(ctx, lockPoll); err != nil {
			return nil, err
		}
	}
}

// digest returns the hash that makes the etag of a content of size bytes.
func digest(etag string, size int64) hash.Hash {
	if len(etag) == sha256Digits {
		return sha256.New()
	}
	h := sha1.New() // the id of a git blob
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}

// partial is the part of a content that has arrived, in a file, and its digest.
type partial struct {
	file *os.File
	hash hash.Hash
	blob File
	n    int64

	useless bool // whether the bytes are known to be wrong
}

// openPartial opens the file for the content and takes up what an earlier download left in it.
func openPartial(path string, blob File) (*partial, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	p := &partial{file: file, hash: digest(blob.ETag, blob.Size), blob: blob}
	p.n, err = io.CopyBuffer(struct{ io.Writer }{p.hash}, struct{ io.Reader }{io.LimitReader(file, blob.Size+1)}, make([]byte, copyBytes))
	if err == nil && p.n > blob.Size {
		err = p.reset()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return p, nil
}

// reset forgets what has arrived.
func (p *partial) reset() error {
	p.n = 0
	p.hash = digest(p.blob.ETag, p.blob.Size)
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

func (p *partial) Write(data []byte) (int, error) {
	n, err := p.file.Write(data)
	p.hash.Write(data[:n])
	p.n += int64(n)
	return n, err
}

// download brings one content into blobs.
func (f *fetcher) download(ctx context.Context, commit string, blob File) (err error) {
	unlock, err := f.lock(ctx, blob.ETag+".lock", blob.Name)
	if err != nil {
		return err
	}
	defer unlock()
	path := f.blobPath(blob)
	if f.hasBlob(blob) { // another program was faster
		f.grow(blob.Name, blob.Size, blob.Size, blob.Size)
		return nil
	}
	incomplete := path + incompleteSuffix
	p, err := openPartial(incomplete, blob)
	if err != nil {
		return err
	}
	defer func() {
		p.file.Close()
		if p.useless {
			os.Remove(incomplete)
		}
	}()
	resumed := p.n > 0
	f.grow(blob.Name, p.n, p.n, blob.Size)
	for {
		err := f.retry(ctx, f.Repo.String()+": "+blob.Name, func() (bool, error) {
			before := p.n
			err := f.receive(ctx, commit, p)
			return p.n-before >= progressBytes, err
		})
		if err != nil {
			return err
		}
		sum := hex.EncodeToString(p.hash.Sum(nil))
		if sum == blob.ETag {
			break
		}
		if !resumed {
			p.useless = true
			return &fault{kind: ErrWrongBytes, text: fmt.Sprintf("%s: %s: wrong bytes: expected %s %s, got %s: the download is removed", f.Repo, blob.Name, digestName(blob.ETag), blob.ETag, sum)}
		}
		// What an earlier download left may be the wrong part.
		resumed = false
		f.report(Progress{Note: fmt.Sprintf("%s: %s: the bytes of an earlier download do not fit; starting again", f.Repo, blob.Name)})
		f.grow(blob.Name, -p.n, 0, blob.Size)
		if err := p.reset(); err != nil {
			return err
		}
	}
	if err := p.file.Sync(); err != nil { // the name must not reach the disk before the bytes
		return err
	}
	if err := p.file.Close(); err != nil {
		return err
	}
	return os.Rename(incomplete, path)
}

func digestName(etag string) string {
	if len(etag) == sha256Digits {
		return "sha256"
	}
	return "git blob id"
}

// receive asks for the rest of a content and takes what comes. It returns nil when the content is complete.
func (f *fetcher) receive(ctx context.Context, commit string, p *partial) error {
	blob := p.blob
	if p.n == blob.Size {
		return nil
	}
	wrong := func(format string, args ...any) error {
		return &fault{kind: ErrWrongBytes, text: fmt.Sprintf("%s: %s: wrong size: expected %d bytes, %s", f.Repo, blob.Name, blob.Size, fmt.Sprintf(format, args...))}
	}
	header := http.Header{}
	if p.n > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", p.n))
	}
	resp, err := f.send(ctx, http.MethodGet, f.address(commit, blob.Name), header, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	host := resp.Request.URL.Host
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return &fault{kind: ErrUnavailable, text: fmt.Sprintf("%s: %s: %s sends the file compressed (%s), which was not asked for", f.Repo, blob.Name, host, printable(encoding))}
	}
	from := int64(0) // where the body begins in the content
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent:
		var total int64
		if from, total, err = parseContentRange(resp.Header.Get("Content-Range")); err != nil || from != p.n {
			return &fault{kind: ErrUnavailable, cause: err, text: fmt.Sprintf("%s: %s: %s sends the range %q, asked for was %d-", f.Repo, blob.Name, host, printable(resp.Header.Get("Content-Range")), p.n)}
		}
		if total >= 0 && total != blob.Size {
			return wrong("%s has %d", host, total)
		}
	case http.StatusRequestedRangeNotSatisfiable:
		f.grow(blob.Name, -p.n, 0, blob.Size)
		if err := p.reset(); err != nil {
			return err
		}
		return &transient{text: host + " answers 416: nothing after the bytes that are here"}
	default:
		return f.statusError(resp, blob.Name)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != blob.Size-from {
		return wrong("%s has %d", host, from+resp.ContentLength)
	}
	// A server that does not know ranges sends all: the bytes that are here are passed over.
	if _, err := io.CopyN(io.Discard, resp.Body, p.n-from); err != nil {
		if err == io.EOF {
			err = &transient{text: host + ": the connection was cut"}
		}
		return err
	}
	buf := make([]byte, copyBytes)
	for {
		n, err := resp.Body.Read(buf)
		if int64(n) > blob.Size-p.n {
			p.useless = true
			return wrong("%s sends more: the download is removed", host)
		}
		if n > 0 {
			if _, err := p.Write(buf[:n]); err != nil {
				return err
			}
			f.mu.Lock()
			f.downloaded += int64(n)
			f.mu.Unlock()
			f.grow(blob.Name, int64(n), p.n, blob.Size)
		}
		switch {
		case err == io.EOF && p.n == blob.Size:
			return nil
		case err == io.EOF:
			return &transient{text: fmt.Sprintf("%s: the connection was cut after %d of %d bytes", host, p.n, blob.Size)}
		case err != nil:
			return err
		}
	}
}

// parseContentRange reads "bytes FROM-TO/TOTAL"; the total is -1 when the server does not say it.
func parseContentRange(s string) (from, total int64, err error) {
	fail := func() (int64, int64, error) { return 0, 0, fmt.Errorf("%q is not a range of bytes", printable(s)) }
	rest, isBytes := strings.CutPrefix(s, "bytes ")
	span, totalText, hasTotal := strings.Cut(rest, "/")
	first, last, isSpan := strings.Cut(span, "-")
	if !isBytes || !hasTotal || !isSpan {
		return fail()
	}
	a, err1 := strconv.ParseUint(first, 10, 63)
	b, err2 := strconv.ParseUint(last, 10, 63)
	if err1 != nil || err2 != nil || b < a {
		return fail()
	}
	if totalText == "*" {
		return int64(a), -1, nil
	}
	t, err := strconv.ParseUint(totalText, 10, 63)
	if err != nil || b >= t {
		return fail()
	}
	return int64(a), int64(t), nil
}
