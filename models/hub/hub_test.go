package hub

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	commitA = "0123456789abcdef0123456789abcdef01234567"
	commitB = "0123fedcba9876543210fedcba98765432100000"

	// testContent and its git blob id are the example of "Pro Git" (S. Chacon, B. Straub), Git Internals, Git Objects.
	testContent   = "test content\n"
	testContentID = "d670460b4b4aece5915caf5c68d12f560a9fe3e4"
	// abcSHA256 is the first example of FIPS 180-2, appendix B.1.
	abcSHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
)

// cleanEnvironment removes what the machine says about the hub and gives the test a home of its own.
func cleanEnvironment(t *testing.T) string {
	home := t.TempDir()
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_ENDPOINT", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
		"HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HTTP_PROXY", "http_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	return home
}

// hubFile is a file of a hubServer. A large one lies in the store, and the hub redirects to it.
type hubFile struct {
	data  []byte
	large bool
}

func (f hubFile) etag() string {
	if f.large {
		return fmt.Sprintf("%x", sha256.Sum256(f.data))
	}
	return fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(f.data)), f.data...)))
}

// hubServer is a hub with one repository on one port, and a store of large files on another.
type hubServer struct {
	t           *testing.T
	path        string // of the repository: org/name or datasets/org/name
	commit      string
	files       map[string]hubFile
	home, store *httptest.Server

	// hook and storeHook answer a request themselves when they return true.
	hook, storeHook func(http.ResponseWriter, *http.Request) bool

	mu       sync.Mutex
	requests []string // "home GET /path [range] [auth]"
}

func newHub(t *testing.T, files map[string]hubFile) *hubServer {
	cleanEnvironment(t)
	h := &hubServer{t: t, path: "org/name", commit: commitA, files: files}
	h.home = httptest.NewServer(http.HandlerFunc(h.serveHome))
	h.store = httptest.NewServer(http.HandlerFunc(h.serveStore))
	t.Cleanup(h.home.Close)
	t.Cleanup(h.store.Close)
	return h
}

func (h *hubServer) log(where string, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	line := where + " " + r.Method + " " + r.URL.EscapedPath()
	for _, key := range []string{"Range", "Authorization"} {
		if v := r.Header.Get(key); v != "" {
			line += " " + v
		}
	}
	h.requests = append(h.requests, line)
}

// count returns how many requests contain all the texts, and forgets none.
func (h *hubServer) count(texts ...string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
next:
	for _, line := range h.requests {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		n++
	}
	return n
}

func (h *hubServer) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = nil
}

func (h *hubServer) serveHome(w http.ResponseWriter, r *http.Request) {
	h.log("home", r)
	if h.hook != nil && h.hook(w, r) {
		return
	}
	api := "/api/models/" + h.path + "/revision/"
	if strings.HasPrefix(h.path, datasetPrefix) {
		api = "/api/" + h.path + "/revision/"
	}
	if strings.HasPrefix(r.URL.Path, api) {
		type sibling struct {
			Name string `json:"rfilename"`
		}
		answer := struct {
			ID       string    `json:"id"`
			SHA      string    `json:"sha"`
			Siblings []sibling `json:"siblings"`
		}{ID: h.path, SHA: h.commit}
		for name := range h.files {
			answer.Siblings = append(answer.Siblings, sibling{name})
		}
		json.NewEncoder(w).Encode(answer)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/"+h.path+"/resolve/"+h.commit+"/")
	file, exists := h.files[name]
	if !ok || !exists {
		w.Header().Set("X-Error-Code", "EntryNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("X-Repo-Commit", h.commit)
	if file.large {
		w.Header().Set("X-Linked-Etag", `"`+file.etag()+`"`)
		w.Header().Set("X-Linked-Size", fmt.Sprint(len(file.data)))
		w.Header().Set("Location", h.store.URL+"/"+name+"?signature=secret")
		w.WriteHeader(http.StatusFound)
		return
	}
	w.Header().Set("ETag", `W/"`+file.etag()+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.data))
}

func (h *hubServer) serveStore(w http.ResponseWriter, r *http.Request) {
	h.log("store", r)
	if h.storeHook != nil && h.storeHook(w, r) {
		return
	}
	w.Header().Set("ETag", `"an-etag-of-the-store"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.files[strings.TrimPrefix(r.URL.Path, "/")].data))
}

// cut sends n bytes of an answer that promises all, and breaks the connection.
func cut(w http.ResponseWriter, data []byte, from, n int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(data[from:min(from+n, len(data))])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// rangeStart returns where the requested range begins.
func rangeStart(r *http.Request) int {
	var from int
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	return from
}

// client is a fetcher for the server whose waits are recorded instead of waited.
type client struct {
	*fetcher
	mu    sync.Mutex
	waits []time.Duration
	notes []string
}

func (h *hubServer) client(cache string, change ...func(*Request)) *client {
	h.t.Helper()
	req := Request{Repo: Repo{ID: h.path}, Endpoint: h.home.URL, Cache: Cache{cache}, Token: "hf_secret"}
	if id, ok := strings.CutPrefix(h.path, datasetPrefix); ok {
		req.Repo = Repo{ID: id, Dataset: true}
	}
	c := &client{}
	req.Progress = func(p Progress) {
		if p.Note != "" {
			c.notes = append(c.notes, p.Note)
		}
	}
	for _, f := range change {
		f(&req)
	}
	f, err := newFetcher(req)
	if err != nil {
		h.t.Fatal(err)
	}
	f.sleep = func(ctx context.Context, d time.Duration) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waits = append(c.waits, d)
		return context.Cause(ctx)
	}
	f.now = func() time.Time { return time.Date(2025, 11, 4, 12, 0, 0, 0, time.UTC) }
	c.fetcher = f
	h.t.Cleanup(f.transport.CloseIdleConnections)
	return c
}

// tree lists a folder: "path -> target" for a link, "path = content" for a file of at most 100 bytes.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		name = filepath.ToSlash(name)
		if e.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			lines = append(lines, name+" -> "+filepath.ToSlash(target))
			return err
		}
		data, err := os.ReadFile(p)
		if len(data) > 100 {
			data = fmt.Appendf(nil, "%d bytes", len(data))
		}
		lines = append(lines, name+" = "+string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// wantError checks kind and text of an error, and that it is one line without secrets.
func wantError(t *testing.T, err, kind error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, expected one with %q", texts)
	}
	message := err.Error()
	for _, text := range texts {
		if !strings.Contains(message, text) {
			t.Errorf("error %q does not say %q", message, text)
		}
	}
	if kind != nil && !isKind(err, kind) {
		t.Errorf("error %q is not of the kind %q", message, kind)
	}
	if strings.ContainsAny(message, "\n\r\x00") || len(message) > 1000 {
		t.Errorf("not one short line: %q", message)
	}
	if strings.Contains(message, "secret") {
		t.Errorf("the error shows a secret: %q", message)
	}
}

func writeTestFile(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

// pattern returns n bytes that do not repeat with a short period.
func pattern(n int) []byte {
	data := make([]byte, n)
	x := uint32(1)
	for i := range data {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	return data
}
