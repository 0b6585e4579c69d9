package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// DefaultParallel is the number of files that are downloaded at the same time.
const DefaultParallel = 4

// maxFileBytes bounds the size that a server may declare, so that sums do not overflow. The hub has 50 GB.
const maxFileBytes = 1 << 42

// Request says what to download. Only Repo must be set.
type Request struct {
	Repo Repo
	// Include and Exclude select files by patterns: * is any text, slashes too, ? one letter, [a-c] one of a set; a
	// slash at the end stands for all below the folder. Without Include, a model's configuration, tokenizer,
	// safetensors and licence are selected (at the top of the repository, without consolidated*.safetensors), and all
	// of a dataset.
	Include, Exclude []string

	Cache    Cache  // the zero Cache means DefaultCache
	Endpoint string // "" means HF_ENDPOINT, or else DefaultEndpoint
	Token    string // "" means HF_TOKEN, or else the token file; it goes to the endpoint only
	Parallel int    // files at the same time; 0 means DefaultParallel

	// Progress, when not nil, is told of what is done. It is never called twice at the same time.
	Progress func(Progress)
}

// Progress is the state of a download, or a note for the user. All sizes are in bytes.
type Progress struct {
	File       string // the file that has grown
	Done, Size int64  // of that file
	// AllDone and All are sums over the files that were not in the cache. What an earlier, interrupted download left
	// counts as done.
	AllDone, All int64

	// Note is one line on a retry or a wait. The other fields are then empty.
	Note string
}

// File is a file of a Result.
type File struct {
	Name   string // with slashes
	Size   int64  // bytes
	ETag   string // the name of its content in blobs: sha256, or git blob id; "" for a copy that was there before
	Cached bool   // whether the content was in the cache before
}

// Result says what Fetch has put into the cache.
type Result struct {
	Snapshot
	Files      []File // sorted by name
	Downloaded int64  // bytes that came over the network into the contents
}

// Fetch downloads the selected files of a repository into the cache, and afterwards the cache holds the revision:
// Cache.Find gives Result.Snapshot. What the cache has already is not downloaded again, an interrupted download
// goes on where it stopped, and every content is compared with its digest before it gets its name. Connections
// that break, silence, and the answers 408, 429 and 5xx are retried with growing waits.
//
// Two fetches of one repository wait for each other. When ctx ends or an error is returned, the ref is as it was,
// and what has arrived stays for the next Fetch. The errors are one line each, of the kinds ErrAccess,
// ErrNotFound, ErrWrongBytes, ErrNoSpace and ErrUnavailable, or errors of the file system or of ctx.
func Fetch(ctx context.Context, req Request) (Result, error) {
	f, err := newFetcher(req)
	if err != nil {
		return Result{}, err
	}
	defer f.transport.CloseIdleConnections()
	result, err := f.fetch(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%s: interrupted, the same command goes on from here: %w", req.Repo, context.Cause(ctx))
	}
	return result, err
}

// fetcher is one Fetch. The functions stand for the clock and the system.
type fetcher struct {
	Request
	base      *url.URL // the endpoint
	root      string   // the folder of the repository
	transport *http.Transport
	silence   time.Duration
	sleep     func(context.Context, time.Duration) error
	now       func() time.Time
	free      func(dir string) (uint64, error)
	symlink   func(target, link string) error

	mu            sync.Mutex // guards what follows, and calls of Progress
	allDone, all  int64
	downloaded    int64
	linksRejected bool // the system has no symbolic links
}

func newFetcher(req Request) (*fetcher, error) {
	if err := req.Repo.check(); err != nil {
		return nil, err
	}
	if isTrue("HF_HUB_OFFLINE") {
		return nil, fmt.Errorf("%s: HF_HUB_OFFLINE is set, so nothing is fetched", req.Repo)
	}
	f := &fetcher{Request: req, silence: longestSilence, sleep: sleep, now: time.Now, free: freeBytes, symlink: os.Symlink}
	var err error
	if f.base, err = parseEndpoint(req.Endpoint); err != nil {
		return nil, err
	}
	if f.Cache.Dir == "" {
		if f.Cache, err = DefaultCache(); err != nil {
			return nil, err
		}
	}
	if f.Token == "" {
		f.Token, err = tokenFromEnvironment()
	} else {
		f.Token, err = checkToken(f.Token, "token")
	}
	if err != nil {
		return nil, err
	}
	if f.Parallel <= 0 {
		f.Parallel = DefaultParallel
	}
	f.root = filepath.Join(f.Cache.Dir, f.Repo.folder())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	transport.MaxIdleConnsPerHost = f.Parallel
	f.transport = transport
	return f, nil
}

// report calls Progress, one call at a time.
func (f *fetcher) report(p Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Progress != nil {
		f.Progress(p)
	}
}

// grow adds n bytes to what is done of a file, which then has done of size bytes.
func (f *fetcher) grow(name string, n, done, size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allDone += n
	if f.Progress != nil {
		f.Progress(Progress{File: name, Done: done, Size: size, AllDone: f.allDone, All: f.all})
	}
}

func (f *fetcher) fetch(ctx context.Context) (Result, error) {
	l, err := f.list(ctx)
	if err != nil {
		return Result{}, err
	}
	names, err := f.selectNames(l)
	if err != nil {
		return Result{}, err
	}
	result := Result{Snapshot: Snapshot{Repo: f.Repo, Commit: l.commit, Dir: filepath.Join(f.root, "snapshots", l.commit)}, Files: make([]File, len(names))}
	if err := os.MkdirAll(filepath.Join(f.root, "blobs"), 0o777); err != nil {
		return Result{}, err
	}
	unlock, err := f.lock(ctx, "fetch.lock", f.Repo.String())
	if err != nil {
		return Result{}, err
	}
	defer unlock()

	// What each file is: from the snapshot, which never changes for a commit, or from the hub.
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(f.Parallel)
	for i, name := range names {
		group.Go(func() (err error) {
			result.Files[i], err = f.describe(groupCtx, result.Snapshot, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Result{}, err
	}

	// The contents. Files with the same content share one.
	var blobs []File
	seen := make(map[string]bool)
	for i, file := range result.Files {
		if file.Cached || seen[file.ETag] {
			continue
		}
		seen[file.ETag] = true
		if f.hasBlob(file) {
			result.Files[i].Cached = true
			continue
		}
		blobs = append(blobs, file)
	}
	if err := f.checkSpace(blobs); err != nil {
		return Result{}, err
	}
	group, groupCtx = errgroup.WithContext(ctx)
	group.SetLimit(f.Parallel)
	for _, blob := range blobs {
		group.Go(func() error { return f.download(groupCtx, l.commit, blob) })
	}
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	result.Downloaded = f.downloaded

	for _, file := range result.Files {
		if err := f.place(result.Snapshot, file); err != nil {
			return Result{}, err
		}
	}
	return result, f.writeRef(l.commit)
}

// list asks the hub for the commit and the files of the revision.
func (f *fetcher) list(ctx context.Context) (l listing, err error) {
	address := f.base.String() + "/api/" + f.Repo.kind() + "s/" + f.Repo.ID + "/revision/" + url.PathEscape(f.Repo.revision())
	err = f.retry(ctx, f.Repo.String(), func() (bool, error) {
		resp, err := f.send(ctx, http.MethodGet, address, nil, nil)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false, f.statusError(resp, "")
		}
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxListingBytes+1))
		if err != nil {
			return false, err
		}
		if len(data) > maxListingBytes {
			return false, &fault{kind: ErrUnavailable, text: fmt.Sprintf("%s: the list of files has more than %d bytes", f.Repo, maxListingBytes)}
		}
		if l, err = decodeListing(data); err != nil {
			return false, &fault{kind: ErrUnavailable, cause: err, text: fmt.Sprintf("%s: %s: %v", f.Repo, f.base.Host, err)}
		}
		return false, nil
	})
	if err == nil && isCommit(f.Repo.revision()) && l.commit != strings.ToLower(f.Repo.revision()) {
		err = &fault{kind: ErrUnavailable, text: fmt.Sprintf("%s: %s answers with another commit, %s", f.Repo, f.base.Host, l.commit)}
	}
	return l, err
}

// selectNames returns the checked names of the files to fetch. Of a repository that is too large for a complete
// list, files can be fetched by their names only.
func (f *fetcher) selectNames(l listing) ([]string, error) {
	names := l.names
	if len(names) > completeListing {
		names = nil
		for _, pattern := range f.Include {
			if hasWildcard(pattern) {
				names = nil
				break
			}
			names = append(names, pattern)
		}
		if names == nil {
			return nil, fmt.Errorf("%s: the repository has more than %d files, too many for a complete list: name the files with --include, without wildcards", f.Repo, completeListing)
		}
	}
	selected, err := selectFiles(names, f.Repo, f.Include, f.Exclude)
	if err != nil {
		return nil, err
	}
	if err := checkFileNames(selected); err != nil {
		return nil, &fault{kind: ErrUnavailable, cause: err, text: fmt.Sprintf("%s: %v", f.Repo, err)}
	}
	return selected, nil
}

// address returns where a file of a commit is downloaded.
func (f *fetcher) address(commit, name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return f.base.String() + "/" + f.Repo.path() + "/resolve/" + commit + "/" + strings.Join(parts, "/")
}

// describe returns size and etag of a file: from the snapshot when it has the file, else from the hub.
func (f *fetcher) describe(ctx context.Context, s Snapshot, name string) (File, error) {
	file := File{Name: name}
	place := filepath.Join(s.Dir, filepath.FromSlash(name))
	if info, err := os.Stat(place); err == nil && info.Mode().IsRegular() {
		file.Size, file.Cached = info.Size(), true
		if target, err := os.Readlink(place); err == nil {
			file.ETag = filepath.Base(target)
		}
		return file, nil
	}
	err := f.retry(ctx, f.Repo.String()+": "+name, func() (bool, error) { return false, f.head(ctx, s.Commit, &file) })
	return file, err
}

// head fills in size and etag of a file. A file store behind the hub has etags of its own, so the headers that the
// hub gives with its redirect (X-Linked-*) count, and such a redirect is not followed.
func (f *fetcher) head(ctx context.Context, commit string, file *File) error {
	var repoCommit string
	resp, err := f.send(ctx, http.MethodHead, f.address(commit, file.Name), nil, func(resp *http.Response, leaves bool) bool {
		if repoCommit == "" {
			repoCommit = resp.Header.Get("X-Repo-Commit")
		}
		return leaves && resp.Header.Get("X-Linked-Etag") != ""
	})
	if err != nil {
		return err
	}
	resp.Body.Close()
	linked := resp.Header.Get("X-Linked-Etag")
	if resp.StatusCode != http.StatusOK && !isRedirect(resp.StatusCode) {
		return f.statusError(resp, file.Name)
	}
	fail := func(format string, args ...any) error {
		return &fault{kind: ErrUnavailable, text: fmt.Sprintf("%s: %s: %s %s", f.Repo, file.Name, resp.Request.URL.Host, fmt.Sprintf(format, args...))}
	}
	switch {
	case repoCommit == "":
		return fail("does not answer as a hub: the header X-Repo-Commit is missing (check HF_ENDPOINT and the proxy)")
	case repoCommit != commit:
		return fail("answers with commit %q instead of %s", printable(repoCommit), commit)
	}
	file.Size = resp.ContentLength
	if size := resp.Header.Get("X-Linked-Size"); size != "" {
		if file.Size, err = strconv.ParseInt(size, 10, 64); err != nil {
			return fail("gives the size %q", printable(size))
		}
	} else if resp.StatusCode != http.StatusOK {
		file.Size = -1 // the length is that of the redirect
	}
	if file.Size < 0 || file.Size > maxFileBytes {
		return fail("does not give a size for the file, or none that can be (%d)", file.Size)
	}
	if linked == "" {
		linked = resp.Header.Get("ETag")
	}
	file.ETag = etagOf(linked)
	if !isHex(file.ETag, commitDigits) && !isHex(file.ETag, sha256Digits) {
		return fail("gives the etag %q: expected a git blob id (%d hexadecimal digits) or a sha256 (%d)", printable(linked), commitDigits, sha256Digits)
	}
	return nil
}

// checkSpace compares what is to be written with what is free.
func (f *fetcher) checkSpace(blobs []File) error {
	var need int64
	for _, blob := range blobs {
		f.all += blob.Size
		need += blob.Size
		if info, err := os.Stat(f.blobPath(blob) + incompleteSuffix); err == nil {
			need -= min(info.Size(), blob.Size)
		}
	}
	if need == 0 {
		return nil
	}
	if f.rejectsLinks() { // then each snapshot has a copy
		need += f.all
	}
	free, err := f.free(f.root)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: free space: %w", f.root, err)
	}
	if need < 0 || uint64(need) > free {
		return &fault{kind: ErrNoSpace, text: fmt.Sprintf("%s: the files need %s in %s, and %s are free", f.Repo, sizeText(uint64(need)), f.root, sizeText(free))}
	}
	return nil
}

// sizeText writes a number of bytes in a decimal unit.
func sizeText(n uint64) string {
	for _, unit := range []struct {
		name  string
		bytes uint64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
