package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func isKind(err, kind error) bool { return errors.Is(err, kind) }

// modelFiles is a small model: the etags of two files are known from outside.
func modelFiles() map[string]hubFile {
	return map[string]hubFile{
		"config.json":                {data: []byte(testContent)},
		"model.safetensors":          {data: []byte("abc"), large: true},
		"README.md":                  {data: nil},
		"pytorch_model.bin":          {data: []byte("bin"), large: true},
		"consolidated.safetensors":   {data: []byte("abc"), large: true},
		"original/tokenizer.model":   {data: []byte("spm")},
		"onnx/model.safetensors":     {data: []byte("onnx"), large: true},
		".gitattributes":             {data: []byte("*.bin")},
		"tokenizer.json":             {data: []byte("{}")},
		"model-q4.gguf":              {data: []byte("gguf"), large: true},
		"consolidated-1.safetensors": {data: []byte("abc"), large: true},
	}
}

const (
	emptyBlobID  = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" // git hash-object /dev/null
	bracesBlobID = "9e26dfeeb6e641a33dae4961196235bdb965b21b" // printf '{}' | git hash-object --stdin
)

// modelTree is what the layout of huggingface_hub holds for the default set of modelFiles.
var modelTree = []string{
	".locks/models--org--name/" + bracesBlobID + ".lock = ",
	".locks/models--org--name/" + abcSHA256 + ".lock = ",
	".locks/models--org--name/" + testContentID + ".lock = ",
	".locks/models--org--name/" + emptyBlobID + ".lock = ",
	".locks/models--org--name/fetch.lock = ",
	"models--org--name/blobs/" + bracesBlobID + " = {}",
	"models--org--name/blobs/" + abcSHA256 + " = abc",
	"models--org--name/blobs/" + testContentID + " = " + testContent,
	"models--org--name/blobs/" + emptyBlobID + " = ",
	"models--org--name/refs/main = " + commitA,
	"models--org--name/snapshots/" + commitA + "/README.md -> ../../blobs/" + emptyBlobID,
	"models--org--name/snapshots/" + commitA + "/config.json -> ../../blobs/" + testContentID,
	"models--org--name/snapshots/" + commitA + "/model.safetensors -> ../../blobs/" + abcSHA256,
	"models--org--name/snapshots/" + commitA + "/tokenizer.json -> ../../blobs/" + bracesBlobID,
}

func TestFetchLayout(t *testing.T) {
	h := newHub(t, modelFiles())
	cache := filepath.Join(t.TempDir(), "hub")
	result, err := h.client(cache).fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(modelTree, tree(t, cache)); diff != "" {
		t.Error(diff)
	}
	want := []File{
		{Name: "README.md", ETag: emptyBlobID},
		{Name: "config.json", Size: 13, ETag: testContentID},
		{Name: "model.safetensors", Size: 3, ETag: abcSHA256},
		{Name: "tokenizer.json", Size: 2, ETag: bracesBlobID},
	}
	if diff := cmp.Diff(want, result.Files); diff != "" || result.Downloaded != 18 || result.Commit != commitA {
		t.Error(diff, result)
	}
	found, err := Cache{cache}.Find(Repo{ID: "org/name"})
	if err != nil || found != result.Snapshot || found.Check() != nil {
		t.Error(found, err, found.Check())
	}

	// Again: the commit is asked for, and nothing else.
	h.forget()
	result, err = h.client(cache).fetch(t.Context())
	if err != nil || result.Downloaded != 0 || !result.Files[1].Cached || result.Files[1].ETag != testContentID {
		t.Error(result, err)
	}
	if h.count("") != 1 || h.count("home GET /api/models/org/name/revision/main") != 1 {
		t.Error(h.requests)
	}
}

// A new commit replaces the ref and shares the contents that stay.
func TestFetchNewCommit(t *testing.T) {
	h := newHub(t, modelFiles())
	cache := t.TempDir()
	if _, err := h.client(cache).fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.commit = commitB
	h.files["config.json"] = hubFile{data: []byte("new")}
	h.forget()
	result, err := h.client(cache).fetch(t.Context())
	if err != nil || result.Downloaded != 3 || result.Commit != commitB {
		t.Fatal(result, err)
	}
	if h.count("GET", "/resolve/") != 1 || h.count("HEAD") != 4 {
		t.Error(h.requests)
	}
	for revision, commit := range map[string]string{"": commitB, commitA: commitA, "0123f": commitB, "01234": commitA} {
		if s, err := (Cache{cache}).Find(Repo{ID: "org/name", Revision: revision}); err != nil || s.Commit != commit || s.Check() != nil {
			t.Error(revision, s, err)
		}
	}
}

func TestFetchDataset(t *testing.T) {
	h := newHub(t, map[string]hubFile{
		"data/a/train.parquet": {data: []byte("abc"), large: true},
		"data/b/train.parquet": {data: []byte("abc"), large: true}, // the same content
		"README.md":            {data: []byte(testContent)},
		"with space #1?.txt":   {data: []byte("{}")},
	})
	h.path = "datasets/org/set"
	cache := t.TempDir()
	result, err := h.client(cache, func(r *Request) { r.Repo.Revision = "refs/convert/x" }).fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h.count("home GET /api/datasets/org/set/revision/refs%2Fconvert%2Fx") != 1 || h.count("store GET") != 1 {
		t.Error(h.requests)
	}
	if len(result.Files) != 4 || result.Downloaded != 18 {
		t.Error(result)
	}
	got := slices.DeleteFunc(tree(t, filepath.Join(cache, "datasets--org--set")), func(s string) bool { return strings.HasPrefix(s, "blobs/") })
	want := []string{
		"refs/refs/convert/x = " + commitA,
		"snapshots/" + commitA + "/README.md -> ../../blobs/" + testContentID,
		"snapshots/" + commitA + "/data/a/train.parquet -> ../../../../blobs/" + abcSHA256,
		"snapshots/" + commitA + "/data/b/train.parquet -> ../../../../blobs/" + abcSHA256,
		"snapshots/" + commitA + "/with space #1?.txt -> ../../blobs/" + bracesBlobID,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s, err := (Cache{cache}).Find(Repo{ID: "org/set", Dataset: true, Revision: "refs/convert/x"}); err != nil || s.Check() != nil {
		t.Error(s, err)
	}
}

func TestTokenStaysAtHome(t *testing.T) {
	h := newHub(t, modelFiles())
	if _, err := h.client(t.TempDir()).fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if home, with := h.count("home"), h.count("home", "Bearer hf_secret"); home != with || home == 0 {
		t.Errorf("%d of %d requests to the endpoint have the token", with, home)
	}
	if h.count("store") == 0 || h.count("store", "Bearer") != 0 {
		t.Error(h.requests)
	}
}

// The token follows a redirect within the endpoint (a renamed repository), and does not come back with a redirect
// that has been elsewhere.
func TestTokenAfterRedirects(t *testing.T) {
	h := newHub(t, modelFiles())
	h.hook = func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/models/org/old/"):
			http.Redirect(w, r, strings.Replace(r.URL.Path, "old", "name", 1), http.StatusTemporaryRedirect)
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/config.json") && r.URL.RawQuery == "":
			http.Redirect(w, r, h.store.URL+"/back", http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/org/old/"):
			http.Redirect(w, r, strings.Replace(r.URL.Path, "old", "name", 1), http.StatusPermanentRedirect)
		default:
			return false
		}
		return true
	}
	h.storeHook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/back" {
			w.Header().Set("Location", "http://user:password@"+h.home.Listener.Addr().String()+"/org/name/resolve/"+commitA+"/config.json?back")
			w.WriteHeader(http.StatusFound)
			return true
		}
		return false
	}
	if _, err := h.client(t.TempDir(), func(r *Request) { r.Repo.ID = "org/old" }).fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := "/org/name/resolve/" + commitA + "/config.json"
	if h.count("home HEAD "+path+" Bearer hf_secret") != 1 || h.count("home GET "+path) != 1 || h.count("home GET "+path+" Bearer") != 0 {
		t.Error(strings.Join(h.requests, "\n"))
	}
	if h.count("store", "Bearer") != 0 || h.count("Basic") != 0 {
		t.Error(strings.Join(h.requests, "\n"))
	}
}

func TestRedirectsRefused(t *testing.T) {
	cleanEnvironment(t)
	var location string
	home := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	}))
	defer home.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed to plain http") }))
	defer plain.Close()
	f, err := newFetcher(Request{Repo: Repo{ID: "org/name"}, Endpoint: home.URL, Cache: Cache{t.TempDir()}, Token: "hf_secret"})
	if err != nil {
		t.Fatal(err)
	}
	f.transport.TLSClientConfig = home.Client().Transport.(*http.Transport).TLSClientConfig
	f.sleep = func(context.Context, time.Duration) error { t.Error("waits"); return nil }
	for _, c := range []struct{ location, text string }{
		{plain.URL + "/x", "from https to plain http"},
		{"file:///etc/passwd", "not http or https"},
		{"", "without a usable address"},
		{"http://[::1", "without a usable address"},
		{"/again", "more than 10 redirects"},
	} {
		location = c.location
		_, err := f.fetch(t.Context())
		wantError(t, err, ErrUnavailable, "org/name: 127.0.0.1", c.text)
	}
}

// A certificate that is not trusted is no reason to try again.
func TestUntrustedCertificate(t *testing.T) {
	cleanEnvironment(t)
	home := httptest.NewUnstartedServer(http.NotFoundHandler())
	home.Config.ErrorLog = log.New(io.Discard, "", 0)
	home.StartTLS()
	defer home.Close()
	f, err := newFetcher(Request{Repo: Repo{ID: "org/name"}, Endpoint: home.URL, Cache: Cache{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	f.sleep = func(context.Context, time.Duration) error { t.Error("waits"); return nil }
	_, err = f.fetch(t.Context())
	wantError(t, err, ErrUnavailable, "certificate")
}

func TestStatus(t *testing.T) {
	const token, noToken = "hf_secret", ""
	page := " on the page http://127.0.0.1:"
	for _, c := range []struct {
		name, token, code, message string
		status                     int
		atFile                     bool // whether the answer is to the HEAD of a file
		kind                       error
		tries                      int
		texts                      []string
	}{
		{"gated without token", noToken, "GatedRepo", "", 401, true, ErrAccess, 1, []string{"org/name: config.json", "accept the terms" + page, "/org/name", "HF_TOKEN"}},
		{"gated, not admitted", token, "GatedRepo", "", 403, true, ErrAccess, 1, []string{"not admitted", "accept the terms" + page, "/org/name"}},
		{"private or absent", noToken, "RepoNotFound", "", 401, false, ErrAccess, 1, []string{"does not exist, or is private or gated", "/org/name", "HF_TOKEN"}},
		{"bad token", token, "", "Invalid credentials in Authorization header", 401, false, ErrAccess, 1, []string{"401", "Invalid credentials", "not valid"}},
		{"no rights", token, "", "Please enable access to public gated repositories in your fine-grained token settings", 403, true, ErrAccess, 1, []string{"403", "fine-grained", "lacks the right", "/org/name"}},
		{"403 without token", noToken, "", "", 403, false, ErrAccess, 1, []string{"403", "HF_TOKEN", "/org/name"}},
		{"no repository", token, "RepoNotFound", "", 404, false, ErrNotFound, 1, []string{"no such model"}},
		{"no revision", token, "RevisionNotFound", "", 404, false, ErrNotFound, 1, []string{"no revision main in org/name"}},
		{"no repository or revision", token, "", "", 404, false, ErrNotFound, 1, []string{"no such model, or no revision main"}},
		{"no file", token, "EntryNotFound", "", 404, true, ErrNotFound, 1, []string{"org/name: config.json: no such file"}},
		{"too many", token, "", "", 429, true, ErrUnavailable, 6, []string{"429: too many requests", "tried 6 times", "config.json"}},
		{"server error", token, "", "", 500, false, ErrUnavailable, 6, []string{"500 Internal Server Error", "tried 6 times"}},
		{"gateway", token, "", "", 503, true, ErrUnavailable, 6, []string{"503", "tried 6 times"}},
		{"teapot", token, "", "short\u202eand stout", 418, true, ErrUnavailable, 1, []string{"418 I'm a teapot (short?and stout)"}},
		{"not modified", token, "", "", 304, false, ErrUnavailable, 1, []string{"304"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, modelFiles())
			h.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if c.atFile != strings.HasSuffix(r.URL.Path, "/config.json") {
					return false
				}
				for key, value := range map[string]string{"X-Error-Code": c.code, "X-Error-Message": c.message} {
					if value != "" {
						w.Header()[key] = []string{value}
					}
				}
				w.WriteHeader(c.status)
				return true
			}
			cache := t.TempDir()
			cl := h.client(cache, func(r *Request) { r.Token = c.token })
			_, err := cl.fetch(t.Context())
			wantError(t, err, c.kind, c.texts...)
			what := "/api/"
			if c.atFile {
				what = "/config.json"
			}
			if n := h.count(what); n != c.tries {
				t.Errorf("%d requests, expected %d", n, c.tries)
			}
			if c.tries == 6 {
				want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second}
				if diff := cmp.Diff(want, cl.waits); diff != "" {
					t.Error(diff)
				}
				if len(cl.notes) != 5 || !strings.Contains(cl.notes[0], "next try in 1s") {
					t.Error(cl.notes)
				}
			}
			if _, err := (Cache{cache}).Find(Repo{ID: "org/name"}); !errors.Is(err, ErrNotCached) {
				t.Error(err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		key, value string
		wait       time.Duration // 0: gives up at once
	}{
		{"Retry-After", "37", 37 * time.Second},
		{"Retry-After", "0", time.Second},
		{"Retry-After", "nonsense", time.Second},
		{"Retry-After", "Tue, 04 Nov 2025 12:01:30 GMT", 90 * time.Second},
		{"Retry-After", "Tue, 04 Nov 2025 11:00:00 GMT", time.Second},
		{"Retry-After", "3600", 0},
		{"Retry-After", "18446744073709551615", 0},
		{"Ratelimit", `"api";r=0;t=55`, 55 * time.Second},
		{"Ratelimit", `"api";r=10;t=55`, time.Second},
	} {
		t.Run(c.key+" "+c.value, func(t *testing.T) {
			h := newHub(t, modelFiles())
			var n atomic.Int32
			h.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if n.Add(1) > 1 {
					return false
				}
				w.Header().Set(c.key, c.value)
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			cl := h.client(t.TempDir())
			_, err := cl.fetch(t.Context())
			if c.wait == 0 {
				wantError(t, err, ErrUnavailable, "asks to wait")
				return
			}
			if err != nil || len(cl.waits) != 1 || cl.waits[0] != c.wait {
				t.Error(err, cl.waits)
			}
		})
	}
}

// large returns a hub with one large file, and its content.
func large(t *testing.T, n int) (*hubServer, []byte) {
	data := pattern(n)
	return newHub(t, map[string]hubFile{"model.safetensors": {data: data, large: true}}), data
}

func checkContent(t *testing.T, result Result, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(result.Dir, "model.safetensors"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, expected %d: %v", len(got), len(want), err)
	}
	left, err := filepath.Glob(filepath.Join(result.Dir, "..", "..", "blobs", "*"+incompleteSuffix))
	if err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func TestCutConnections(t *testing.T) {
	const n = 1_000_000
	h, data := large(t, n)
	h.storeHook = func(w http.ResponseWriter, r *http.Request) bool {
		cut(w, data, rangeStart(r), 100_000) // the tenth request brings the last byte
		return true
	}
	cl := h.client(t.TempDir())
	var last Progress
	note := cl.Progress
	cl.Progress = func(p Progress) {
		if note(p); p.Note == "" {
			if p.AllDone < last.AllDone || p.AllDone != p.Done || p.All != n || p.Size != n {
				t.Error(p, last)
			}
			last = p
		}
	}
	result, err := cl.fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkContent(t, result, data)
	if result.Downloaded != n || last.AllDone != n || last.File != "model.safetensors" {
		t.Error(result.Downloaded, last)
	}
	for i := range 10 {
		want := "store GET /model.safetensors"
		if i > 0 {
			want += fmt.Sprintf(" bytes=%d-", i*100_000)
		}
		if h.count(want) == 0 {
			t.Errorf("no request %q", want)
		}
	}
	for _, wait := range cl.waits {
		if wait != time.Second { // progress between the failures: no growth
			t.Error(cl.waits)
		}
	}
}

// A server that brings next to nothing each time does not hold the program for ever.
func TestTinyPieces(t *testing.T) {
	h, data := large(t, 100_000)
	h.storeHook = func(w http.ResponseWriter, r *http.Request) bool {
		cut(w, data, rangeStart(r), 10)
		return true
	}
	cache := t.TempDir()
	_, err := h.client(cache).fetch(t.Context())
	wantError(t, err, ErrUnavailable, "model.safetensors", "the connection was cut", "tried 6 times")
	_, err = Cache{cache}.Find(Repo{ID: "org/name"})
	wantError(t, err, ErrIncomplete, "not finished (1 files are partly there)", "splitbench fetch org/name")
	h.storeHook = nil
	h.forget()
	result, err := h.client(cache).fetch(t.Context())
	if err != nil || result.Downloaded != 100_000-60 || h.count("store", "bytes=60-") != 1 {
		t.Fatal(err, result.Downloaded, h.requests)
	}
	checkContent(t, result, data)
}

// The first bytes are there from an earlier download; the server or the bytes are not as they should be.
func TestResume(t *testing.T) {
	const n = 200_000
	data := pattern(n)
	spoiled := append([]byte("X"), data[1:100_000]...)
	ignoresRange := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(n))
		w.Write(data)
		return true
	}
	for _, c := range []struct {
		name       string
		left       []byte
		store      func(http.ResponseWriter, *http.Request) bool
		downloaded int64
	}{
		{"plain", data[:100_000], nil, n - 100_000},
		{"complete", data, nil, 0},
		{"too long", append(slices.Clone(data), 1), nil, n},
		{"spoiled", spoiled, nil, n + 100_000},
		{"server ignores ranges", data[:100_000], ignoresRange, n - 100_000},
		{"spoiled, server ignores ranges", spoiled, ignoresRange, n + 100_000},
		{"range without total", data[:100_000], func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 100000-%d/*", n-1))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(data[100_000:])
			return true
		}, n - 100_000},
		{"416", data[:100_000], func(w http.ResponseWriter, r *http.Request) bool {
			if rangeStart(r) == 0 {
				return false
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}, n},
		{"cut while passing over", data[:100_000], func() func(http.ResponseWriter, *http.Request) bool {
			var tries atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) bool {
				switch tries.Add(1) {
				case 1:
					cut(w, data, 0, 50_000)
				case 2: // ends without a length
					w.(http.Flusher).Flush()
					w.Write(data[:50_000])
					return true
				}
				return ignoresRange(w, r)
			}
		}(), n - 100_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := large(t, n)
			h.storeHook = c.store
			cache := t.TempDir()
			writeTestFile(t, filepath.Join(cache, "models--org--name", "blobs", h.files["model.safetensors"].etag()+incompleteSuffix), string(c.left))
			cl := h.client(cache)
			result, err := cl.fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			checkContent(t, result, data)
			if result.Downloaded != c.downloaded {
				t.Errorf("downloaded %d, expected %d", result.Downloaded, c.downloaded)
			}
			if cl.allDone != n || cl.all != n {
				t.Errorf("progress ends at %d of %d", cl.allDone, cl.all)
			}
		})
	}
}

func TestWrongAnswers(t *testing.T) {
	data := pattern(100_000)
	other := slices.Clone(data)
	other[50_000]++
	sum := hubFile{data: other, large: true}.etag()
	for _, c := range []struct {
		name    string
		left    int // bytes from an earlier download
		store   func(http.ResponseWriter, *http.Request)
		kind    error
		removed bool
		texts   []string
	}{
		{"wrong bytes", 0, func(w http.ResponseWriter, r *http.Request) { w.Write(other) }, ErrWrongBytes, true,
			[]string{"org/name: model.safetensors: wrong bytes: expected sha256 " + hubFile{data: data, large: true}.etag(), "got " + sum}},
		{"declared too short", 10, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "99999")
			w.Write(data[:99_999])
		}, ErrWrongBytes, false, []string{"model.safetensors: wrong size: expected 100000 bytes", "has 99999"}},
		{"declared too long", 0, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100001")
			w.Write(append(slices.Clone(data), 0))
		}, ErrWrongBytes, false, []string{"has 100001"}},
		{"too long without a length", 0, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(append(slices.Clone(data), 0))
		}, ErrWrongBytes, true, []string{"expected 100000 bytes", "sends more"}},
		{"too short without a length", 0, func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			if rangeStart(r) == 0 {
				w.Write(data[:99_000])
			}
		}, ErrUnavailable, false, []string{"the connection was cut (tried 6 times)"}},
		{"range of another size", 10, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 10-99999/100001")
			w.WriteHeader(http.StatusPartialContent)
		}, ErrWrongBytes, false, []string{"has 100001"}},
		{"another range", 10, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-99999/100000")
			w.WriteHeader(http.StatusPartialContent)
		}, ErrUnavailable, false, []string{"sends the range", "asked for was 10-"}},
		{"no range", 10, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusPartialContent) }, ErrUnavailable, false, []string{"sends the range"}},
		{"compressed", 0, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(data)
		}, ErrUnavailable, false, []string{"compressed (gzip)"}},
		{"expired address", 10, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }, ErrUnavailable, false, []string{"403 Forbidden (tried 6 times)"}},
		{"absent in the store", 10, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusGone) }, ErrUnavailable, false, []string{"410 Gone"}},
		{"store without access", 10, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, ErrUnavailable, false, []string{"answers 401"}},
		{"breaks at once", 0, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, ErrUnavailable, false, []string{"the connection was cut (tried 6 times)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := large(t, len(data))
			h.storeHook = func(w http.ResponseWriter, r *http.Request) bool { c.store(w, r); return true }
			cache := t.TempDir()
			blob := filepath.Join(cache, "models--org--name", "blobs", h.files["model.safetensors"].etag())
			if c.left > 0 {
				writeTestFile(t, blob+incompleteSuffix, string(data[:c.left]))
			}
			ref := filepath.Join(cache, "models--org--name", "refs", "main")
			writeTestFile(t, ref, commitB)
			_, err := h.client(cache).fetch(t.Context())
			wantError(t, err, c.kind, c.texts...)
			if _, err := os.Stat(blob); err == nil {
				t.Error("the content has its final name")
			}
			if _, err := os.Stat(blob + incompleteSuffix); (err != nil) != c.removed {
				t.Error("what has arrived:", err)
			}
			if got, _ := os.ReadFile(ref); string(got) != commitB {
				t.Errorf("the ref changed to %s", got)
			}
			if _, err := os.Stat(filepath.Join(cache, "models--org--name", "snapshots")); err == nil {
				t.Error("there is a snapshot")
			}
		})
	}
}

func TestWrongSmallFile(t *testing.T) {
	h := newHub(t, map[string]hubFile{"config.json": {data: []byte(testContent)}, "model.safetensors": {data: []byte("abc")}})
	h.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/config.json") {
			w.Write([]byte("Test content\n"))
			return true
		}
		return false
	}
	_, err := h.client(t.TempDir()).fetch(t.Context())
	wantError(t, err, ErrWrongBytes, "config.json", "expected git blob id "+testContentID, "got ")
}

func TestHeadRefused(t *testing.T) {
	for _, c := range []struct{ key, value, text string }{
		{"X-Repo-Commit", "", "X-Repo-Commit is missing"},
		{"X-Repo-Commit", commitB, "answers with commit"},
		{"ETag", `"../../../../etc/passwd"`, "expected a git blob id"},
		{"ETag", "", "expected a git blob id"},
		{"ETag", `"D670460B4B4AECE5915CAF5C68D12F560A9FE3E4"`, "expected a git blob id"},
		{"X-Linked-Etag", "5", "expected a git blob id"},
		{"X-Linked-Size", "-1", "does not give a size"},
		{"X-Linked-Size", "12x", "gives the size"},
		{"X-Linked-Size", "9223372036854775807", "none that can be"},
		{"Content-Length", "", "does not give a size"},
	} {
		t.Run(c.key+" "+c.value, func(t *testing.T) {
			h := newHub(t, map[string]hubFile{"model.safetensors": {data: []byte("abc")}})
			h.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodHead {
					return false
				}
				w.Header().Set("X-Repo-Commit", commitA)
				w.Header().Set("ETag", `"`+testContentID+`"`)
				w.Header().Set("Content-Length", "13")
				w.Header().Set(c.key, c.value)
				if c.value == "" {
					w.Header().Del(c.key)
				}
				w.WriteHeader(http.StatusOK)
				return true
			}
			_, err := h.client(t.TempDir()).fetch(t.Context())
			wantError(t, err, ErrUnavailable, "model.safetensors", c.text)
		})
	}
}

func TestSilence(t *testing.T) {
	h, data := large(t, 300_000)
	release := make(chan struct{})
	var tries atomic.Int32
	h.storeHook = func(w http.ResponseWriter, r *http.Request) bool {
		switch tries.Add(1) {
		case 1: // no answer at all
			<-release
			return true
		case 2: // half an answer
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			w.Write(data[:100_000])
			w.(http.Flusher).Flush()
			<-release
			return true
		}
		// slow, but never silent
		from := rangeStart(r)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		for piece := range slices.Chunk(data[from:], 20_000) {
			w.Write(piece)
			w.(http.Flusher).Flush()
			time.Sleep(15 * time.Millisecond)
		}
		return true
	}
	defer close(release)
	cl := h.client(t.TempDir())
	cl.silence = 100 * time.Millisecond
	result, err := cl.fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkContent(t, result, data)
	if len(cl.notes) != 2 || !strings.Contains(cl.notes[1], "no data for 100ms") || tries.Load() != 3 || h.count("store", "bytes=100000-") != 1 {
		t.Error(cl.notes, h.requests)
	}
}

func TestSpace(t *testing.T) {
	h, data := large(t, 100_000)
	cache := t.TempDir()
	incomplete := filepath.Join(cache, "models--org--name", "blobs", h.files["model.safetensors"].etag()+incompleteSuffix)
	writeTestFile(t, incomplete, string(data[:40_000]))
	var where string
	fetch := func(free uint64, err error, links bool) error {
		cl := h.client(cache)
		cl.free = func(dir string) (uint64, error) { where = dir; return free, err }
		if !links {
			cl.symlink = func(string, string) error { return errors.ErrUnsupported }
		}
		_, err = cl.fetch(t.Context())
		return err
	}
	wantError(t, fetch(59_999, nil, true), ErrNoSpace, "the files need 60000 bytes", "59999 bytes are free")
	wantError(t, fetch(159_999, nil, false), ErrNoSpace, "the files need 160000 bytes") // and the copy
	wantError(t, fetch(0, errors.New("broken"), true), nil, "free space: broken")
	if h.count("store") != 0 {
		t.Error("downloaded without space")
	}
	if err := fetch(60_000, nil, true); err != nil || where != filepath.Join(cache, "models--org--name") {
		t.Error(err, where)
	}
	if err := os.RemoveAll(filepath.Dir(filepath.Dir(incomplete))); err != nil {
		t.Fatal(err)
	}
	if err := fetch(0, errors.ErrUnsupported, true); err != nil { // not known: not checked
		t.Error(err)
	}
	if err := fetch(0, nil, true); err != nil { // nothing to write
		t.Error(err)
	}
	if free, err := freeBytes(cache); err != nil && !errors.Is(err, errors.ErrUnsupported) || err == nil && free == 0 {
		t.Error(free, err)
	}
	for n, want := range map[uint64]string{999_999: "999999 bytes", 1_000_000: "1.0 MB", 13_476_900_000: "13.5 GB", 2e12: "2.0 TB"} {
		if got := sizeText(n); got != want {
			t.Error(got, want)
		}
	}
}

func TestWithoutLinks(t *testing.T) {
	h := newHub(t, modelFiles())
	cache := t.TempDir()
	cl := h.client(cache)
	cl.symlink = func(string, string) error { return errors.ErrUnsupported }
	result, err := cl.fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"README.md = ", "config.json = " + testContent, "model.safetensors = abc", "tokenizer.json = {}"}
	if diff := cmp.Diff(want, tree(t, result.Dir)); diff != "" {
		t.Error(diff)
	}
	if left := unfinished(filepath.Join(cache, "models--org--name")); left != 0 || result.Check() != nil {
		t.Error(left, result.Check())
	}
	h.forget()
	if _, err := h.client(cache).fetch(t.Context()); err != nil || h.count("") != 1 {
		t.Error(err, h.requests)
	}
}

// A link to nothing and a content of the wrong size are made good.
func TestRepair(t *testing.T) {
	h := newHub(t, modelFiles())
	cache := t.TempDir()
	result, err := h.client(cache).fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blobs := filepath.Join(cache, "models--org--name", "blobs")
	if err := os.Remove(filepath.Join(blobs, abcSHA256)); err != nil {
		t.Fatal(err)
	}
	wantError(t, result.Check(), ErrIncomplete, "model.safetensors links to ../../blobs/"+abcSHA256, "which does not exist", "splitbench fetch org/name")
	if err := os.Remove(filepath.Join(result.Dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(blobs, testContentID), "half")
	if _, err := h.client(cache).fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(modelTree, tree(t, cache)); diff != "" {
		t.Error(diff)
	}
}

func TestInterrupted(t *testing.T) {
	h, data := large(t, 500_000)
	ctx, cancel := context.WithCancel(t.Context())
	h.storeHook = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:200_000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	cache := t.TempDir()
	_, err := Fetch(ctx, Request{Repo: Repo{ID: "org/name"}, Endpoint: h.home.URL, Cache: Cache{cache}, Progress: func(p Progress) {
		if p.Done == 200_000 {
			cancel()
		}
	}})
	wantError(t, err, context.Canceled, "org/name: interrupted, the same command goes on from here")
	h.storeHook = nil
	h.forget()
	result, err := Fetch(t.Context(), Request{Repo: Repo{ID: "org/name"}, Endpoint: h.home.URL, Cache: Cache{cache}})
	if err != nil || result.Downloaded != 300_000 || h.count("store", "bytes=200000-") != 1 {
		t.Fatal(err, result.Downloaded, h.requests)
	}
	checkContent(t, result, data)
}

// TestKilled ends another process in the middle of a download, as kill -9 does, and goes on.
func TestKilled(t *testing.T) {
	if endpoint := os.Getenv("HUB_TEST_ENDPOINT"); endpoint != "" {
		_, err := Fetch(t.Context(), Request{Repo: Repo{ID: "org/name"}, Endpoint: endpoint, Cache: Cache{os.Getenv("HUB_TEST_CACHE")}, Progress: func(p Progress) {
			if p.File == "model.safetensors" && p.Done >= 300_000 {
				fmt.Println("arrived")
			}
		}})
		t.Fatal("the download ended:", err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h, data := large(t, 500_000)
	h.files["config.json"] = hubFile{data: []byte(testContent)}
	h.storeHook = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:300_000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	cache := t.TempDir()
	h.forget() // orders what is set above before the requests of the process
	cmd := exec.Command(program, "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "HUB_TEST_ENDPOINT="+h.home.URL, "HUB_TEST_CACHE="+cache)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read, err := out.Read(make([]byte, 100)) // blocks until the process has 300000 bytes
	if killErr := cmd.Process.Kill(); killErr != nil || read == 0 {
		t.Fatal(err, killErr)
	}
	cmd.Wait()
	if _, err := (Cache{cache}).Find(Repo{ID: "org/name"}); !errors.Is(err, ErrIncomplete) {
		t.Error(err)
	}
	h.storeHook = nil
	h.forget()
	result, err := h.client(cache).fetch(t.Context()) // the locks of the dead process are free
	if err != nil || h.count("store", "bytes=300000-") != 1 {
		t.Fatal(err, h.requests)
	}
	checkContent(t, result, data)
}

// Many fetches of one repository at once download each content once.
func TestConcurrentFetches(t *testing.T) {
	files := map[string]hubFile{"config.json": {data: []byte(testContent)}}
	for i := range 6 {
		files[fmt.Sprintf("model-%d.safetensors", i)] = hubFile{data: pattern(50_000 + i), large: true}
	}
	h := newHub(t, files)
	var now, most atomic.Int32
	h.storeHook = func(w http.ResponseWriter, r *http.Request) bool {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		now.Add(-1)
		return false
	}
	cache := t.TempDir()
	var wg sync.WaitGroup
	var downloaded atomic.Int64
	for range 5 {
		cl := h.client(cache, func(r *Request) { r.Parallel = 2 })
		wg.Go(func() {
			result, err := cl.fetch(t.Context())
			if err != nil {
				t.Error(err)
			}
			downloaded.Add(result.Downloaded)
		})
	}
	wg.Wait()
	if want := int64(13 + 6*50_000 + 15); downloaded.Load() != want || h.count("store GET") != 6 || h.count("home GET", "config.json") != 1 {
		t.Errorf("downloaded %d bytes in %d requests", downloaded.Load(), h.count("store GET"))
	}
	if most.Load() > 2 {
		t.Errorf("%d downloads at once, allowed are 2", most.Load())
	}
}

// A content that another program locks is waited for, and taken when it is there.
func TestWaitForBlob(t *testing.T) {
	h, data := large(t, 1000)
	cache := t.TempDir()
	etag := h.files["model.safetensors"].etag()
	lock := filepath.Join(cache, ".locks", "models--org--name", etag+".lock")
	writeTestFile(t, lock, "")
	unlock, err := tryLock(lock)
	if err != nil || unlock == nil {
		t.Fatal(err)
	}
	if again, err := tryLock(lock); again != nil || err != nil {
		t.Fatal("locked twice", err)
	}
	cl := h.client(cache)
	note := cl.Progress
	cl.Progress = func(p Progress) {
		if note(p); strings.Contains(p.Note, "waiting for another download") {
			writeTestFile(t, filepath.Join(cache, "models--org--name", "blobs", etag), string(data))
			unlock()
		}
	}
	result, err := cl.fetch(t.Context())
	if err != nil || result.Downloaded != 0 || len(cl.notes) != 1 || h.count("store") != 0 {
		t.Fatal(err, result, cl.notes)
	}
	checkContent(t, result, data)

	held, err := tryLock(filepath.Join(cache, ".locks", "models--org--name", "fetch.lock"))
	if err != nil || held == nil {
		t.Fatal(err)
	}
	defer held()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.client(cache).fetch(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestListingRefused(t *testing.T) {
	names := make([]string, completeListing+1)
	for i := range names {
		names[i] = fmt.Sprintf(`{"rfilename":"%d"}`, i)
	}
	many := `{"sha":"` + commitA + `","siblings":[` + strings.Join(names, ",") + "]}"
	for _, c := range []struct{ name, listing, text string }{
		{"page", "<html>", "not the JSON of a hub"},
		{"empty", "", "not the JSON of a hub"},
		{"no commit", "{}", "must name its commit"},
		{"commit is a path", `{"sha":"../../../../../../../../../../../../etc/"}`, "must name its commit"},
		{"no files", `{"sha":"` + commitA + `"}`, "none of its 0 files"},
		{"only pickles", `{"sha":"` + commitA + `","siblings":[{"rfilename":"config.json"},{"rfilename":"pytorch_model.bin"}]}`, "no .safetensors file at its top (but pytorch_model.bin)"},
		{"too many", many, "name the files with --include"},
		{"names of wrong type", `{"sha":"` + commitA + `","siblings":[{"rfilename":1}]}`, "not the JSON of a hub"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, nil)
			h.hook = func(w http.ResponseWriter, r *http.Request) bool { w.Write([]byte(c.listing)); return true }
			cache := filepath.Join(t.TempDir(), "hub")
			_, err := h.client(cache).fetch(t.Context())
			wantError(t, err, nil, "org/name", c.text)
			if _, err := os.Stat(cache); err == nil {
				t.Error("the cache was written")
			}
		})
	}
	t.Run("too large", func(t *testing.T) {
		h := newHub(t, nil)
		h.hook = func(w http.ResponseWriter, r *http.Request) bool {
			for spaces := make([]byte, 1<<20); ; {
				if _, err := w.Write(spaces); err != nil {
					return true
				}
			}
		}
		_, err := h.client(t.TempDir()).fetch(t.Context())
		wantError(t, err, ErrUnavailable, "more than 67108864 bytes")
	})
	t.Run("another commit", func(t *testing.T) {
		h := newHub(t, modelFiles())
		_, err := h.client(t.TempDir(), func(r *Request) { r.Repo.Revision = commitB }).fetch(t.Context())
		wantError(t, err, ErrUnavailable, "another commit")
	})
	t.Run("files of a large repository by name", func(t *testing.T) {
		h := newHub(t, map[string]hubFile{"en/c4-validation.json.gz": {data: []byte("abc"), large: true}})
		h.path = "datasets/org/c4"
		h.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/api/") {
				w.Write([]byte(many))
				return true
			}
			return false
		}
		fetch := func(include ...string) error {
			_, err := h.client(t.TempDir(), func(r *Request) { r.Include = include }).fetch(t.Context())
			return err
		}
		if err := fetch("en/c4-validation.json.gz"); err != nil {
			t.Error(err)
		}
		wantError(t, fetch("en/c4-validation.json.gz", "en/c4-train.json.gz"), ErrNotFound, "en/c4-train.json.gz: no such file")
		wantError(t, fetch("en/"), nil, "without wildcards")
		wantError(t, fetch("../x"), ErrUnavailable, "is refused")
	})
}

// Names from the hub that would leave the snapshot end the fetch before anything is written.
func TestHostileNames(t *testing.T) {
	for _, names := range [][]string{
		{"../../../evil"}, {"/etc/evil"}, {`a\..\evil`}, {"a/../../evil"}, {"a//b"}, {"./a"}, {"a/"}, {""}, {"."}, {".."},
		{"a\x00b"}, {"a\nb"}, {strings.Repeat("a", 256)}, {strings.Repeat("a/", 600) + "b"}, {"a", "a/b"}, {"b", "b"}, {"d/e/f", "d"},
	} {
		h := newHub(t, nil)
		h.path = "datasets/org/set"
		h.hook = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/api/") {
				t.Errorf("%q: asked for %s", names, r.URL)
			}
			var siblings []map[string]string
			for _, name := range names {
				siblings = append(siblings, map[string]string{"rfilename": name})
			}
			json.NewEncoder(w).Encode(map[string]any{"sha": commitA, "siblings": siblings})
			return true
		}
		dir := t.TempDir()
		_, err := h.client(filepath.Join(dir, "deep", "hub")).fetch(t.Context())
		wantError(t, err, ErrUnavailable, "file name")
		if left := tree(t, dir); len(left) > 0 {
			t.Error(left)
		}
	}
}

func TestRequestRefused(t *testing.T) {
	cleanEnvironment(t)
	for _, c := range []struct {
		req  Request
		text string
	}{
		{Request{}, "a part is empty"},
		{Request{Repo: Repo{ID: "org/name"}, Endpoint: "ftp://host"}, "http://host"},
		{Request{Repo: Repo{ID: "org/name"}, Endpoint: "https://user:secret@host"}, "without user"},
		{Request{Repo: Repo{ID: "org/name"}, Token: "hf_secret\nX: y"}, "control character"},
	} {
		_, err := Fetch(t.Context(), c.req)
		wantError(t, err, nil, c.text)
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	_, err := Fetch(t.Context(), Request{Repo: Repo{ID: "org/name"}})
	wantError(t, err, nil, "HF_HUB_OFFLINE is set")
}

// A host that does not exist is no reason to wait, a name server that does not answer is one.
func TestLookup(t *testing.T) {
	cleanEnvironment(t)
	f, err := newFetcher(Request{Repo: Repo{ID: "org/name"}, Endpoint: "http://hub.invalid", Cache: Cache{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	waits := 0
	f.sleep = func(context.Context, time.Duration) error { waits++; return nil }
	lookup := &net.DNSError{Err: "no such host", Name: "hub.invalid", IsNotFound: true}
	f.transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, lookup }
	_, err = f.fetch(t.Context())
	wantError(t, err, ErrUnavailable, "org/name: hub.invalid: lookup hub.invalid: no such host")
	if waits != 0 {
		t.Errorf("%d waits", waits)
	}
	lookup = &net.DNSError{Err: "server misbehaving", Name: "hub.invalid", IsTemporary: true}
	_, err = f.fetch(t.Context())
	wantError(t, err, ErrUnavailable, "server misbehaving (tried 6 times)")
	if waits != 5 || !errors.Is(err, lookup) {
		t.Errorf("%d waits, %v", waits, err)
	}
}

// Endpoint, token and cache come from the environment.
func TestFetchEnvironment(t *testing.T) {
	h := newHub(t, modelFiles())
	home := t.TempDir()
	t.Setenv("HF_ENDPOINT", h.home.URL+"/")
	t.Setenv("HF_HOME", home)
	writeTestFile(t, filepath.Join(home, "token"), "hf_file\n")
	result, err := Fetch(t.Context(), Request{Repo: Repo{ID: "org/name"}, Include: []string{"*.json"}})
	if err != nil || len(result.Files) != 2 || h.count("home", "Bearer hf_file") != h.count("home") {
		t.Fatal(result, err, h.requests)
	}
	if dir, err := Resolve("org/name"); err != nil || dir != result.Dir || dir != filepath.Join(home, "hub", "models--org--name", "snapshots", commitA) {
		t.Error(dir, err)
	}
}

// What stands in the way on the disk is named.
func TestObstacles(t *testing.T) {
	for _, c := range []struct {
		obstacle, text string // obstacle: a file where a folder is to be, or a folder (with a slash) where a file is to be
	}{
		{".locks", ".locks"},
		{".locks/models--org--name/fetch.lock/", "fetch.lock"},
		{"models--org--name", "models--org--name"},
		{"models--org--name/snapshots", "snapshots"},
		{"models--org--name/snapshots/" + commitA + "/config.json/", "config.json"},
		{"models--org--name/blobs/" + testContentID + incompleteSuffix + "/", testContentID},
		{"models--org--name/blobs/" + testContentID + "/", testContentID},
		{"models--org--name/refs", "refs"},
		{"models--org--name/refs/main/", "the files are there, but not the ref"},
	} {
		h := newHub(t, modelFiles())
		cache := t.TempDir()
		place := filepath.Join(cache, filepath.FromSlash(c.obstacle))
		if strings.HasSuffix(c.obstacle, "/") {
			place = filepath.Join(place, "in the way")
		}
		writeTestFile(t, place, "")
		_, err := h.client(cache).fetch(t.Context())
		wantError(t, err, nil, c.text)
		if s, err := (Cache{cache}).Find(Repo{ID: "org/name"}); err == nil {
			t.Errorf("%s: found %s", c.obstacle, s.Dir)
		}
	}
}
