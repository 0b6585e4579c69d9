package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxRedirects = 10
	maxRetries   = 5
	// firstWait doubles with each retry, up to longestWait.
	firstWait   = time.Second
	longestWait = 8 * time.Second
	// longestOrderedWait bounds what a Retry-After may ask for: the hub counts requests in windows of 5 minutes.
	longestOrderedWait = 6 * time.Minute
	// longestSilence ends a request whose server sends nothing.
	longestSilence = time.Minute
)

var errSilence = errors.New("no data arrived")

// transient is an error that may go away: it is worth another try.
type transient struct {
	text  string
	cause error         // nil when there is none
	after time.Duration // what the server asks to wait, 0 when it does not say
}

func (e *transient) Error() string { return e.text }

func (e *transient) Unwrap() error { return e.cause }

// refusal is an error of a connection that another try does not mend.
type refusal struct {
	text  string
	cause error // nil when there is none
}

func (e *refusal) Error() string { return e.text }

func (e *refusal) Unwrap() error { return e.cause }

// retry repeats try as long as it fails with a transient error, and waits between. maxRetries failures without
// progress between them end it. what stands before the errors of connections.
func (f *fetcher) retry(ctx context.Context, what string, try func() (progress bool, err error)) error {
	failures := 0
	for {
		progress, err := try()
		if err == nil {
			return nil
		}
		var refused *refusal
		if errors.As(err, &refused) {
			return &fault{kind: ErrUnavailable, cause: err, text: what + ": " + err.Error()}
		}
		var t *transient
		if !errors.As(err, &t) || ctx.Err() != nil {
			return err
		}
		if progress {
			failures = 0
		}
		failures++
		if failures > maxRetries {
			return &fault{kind: ErrUnavailable, cause: err, text: fmt.Sprintf("%s: %v (tried %d times)", what, err, failures)}
		}
		if t.after > longestOrderedWait {
			return &fault{kind: ErrUnavailable, cause: err, text: fmt.Sprintf("%s: %v: the server asks to wait %v", what, err, t.after)}
		}
		wait := max(min(firstWait<<(failures-1), longestWait), t.after)
		f.report(Progress{Note: fmt.Sprintf("%s: %v; next try in %v", what, err, wait)})
		if err := f.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// origin returns what the token belongs to: scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// send makes a request and follows redirects. The token goes only to the origin of the endpoint, and no longer
// once a redirect has led elsewhere; a redirect from https to http is refused. look, when not nil, sees every
// answer and whether it redirects to another origin; it says whether such an answer is to be returned instead of
// followed. The caller closes the body; reading from it fails when the server is silent for too long.
func (f *fetcher) send(ctx context.Context, method, address string, header http.Header, look func(resp *http.Response, leaves bool) (stop bool)) (*http.Response, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	home := true
	for range maxRedirects {
		resp, err := f.sendOnce(ctx, method, u, header, home)
		if err != nil {
			return nil, err
		}
		location := resp.Header.Get("Location")
		next, err := u.Parse(location)
		leaves := err == nil && origin(next) != origin(u)
		if look != nil && look(resp, leaves) && leaves || !isRedirect(resp.StatusCode) {
			return resp, nil
		}
		resp.Body.Close()
		switch {
		case err != nil || location == "":
			return nil, &refusal{text: u.Host + " redirects without a usable address"}
		case next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "":
			return nil, &refusal{text: u.Host + " redirects to an address that is not http or https"}
		case u.Scheme == "https" && next.Scheme == "http":
			return nil, &refusal{text: fmt.Sprintf("%s redirects from https to plain http at %s: refused", u.Host, printable(next.Host))}
		}
		next.User = nil
		home = home && origin(next) == origin(f.base)
		u = next
	}
	return nil, &refusal{text: fmt.Sprintf("%s: more than %d redirects", f.base.Host, maxRedirects)}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// sendOnce makes one request. Messages name the host only: the address of a file store is a key to the file.
func (f *fetcher) sendOnce(ctx context.Context, method string, u *url.URL, header http.Header, withToken bool) (*http.Response, error) {
	inner, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(inner, method, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("request to %s: %w", u.Host, err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", "splitbench")
	req.Header.Set("Accept-Encoding", "identity") // else sizes and digests are not those of the file
	if withToken && f.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.Token)
	}
	timer := time.AfterFunc(f.silence, func() { cancel(errSilence) })
	resp, err := f.transport.RoundTrip(req) // not an http.Client, which has redirects, cookies and users of its own
	timer.Stop()
	if err != nil {
		err = f.networkError(ctx, inner, u, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &body{resp.Body, f, ctx, inner, cancel, timer, u}
	return resp, nil
}

// networkError sorts the errors of a connection into those that may go away and the others.
func (f *fetcher) networkError(ctx, inner context.Context, u *url.URL, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if context.Cause(inner) == errSilence {
		return &transient{text: fmt.Sprintf("%s: no data for %v", u.Host, f.silence), cause: errSilence}
	}
	text := fmt.Sprintf("%s: %s", u.Host, printable(err.Error()))
	var lookup *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &lookup) && lookup.IsNotFound, errors.As(err, &certificate):
		return &refusal{text, err}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		text = u.Host + ": the connection was cut"
	}
	return &transient{text: text, cause: err}
}

// body is the body of an answer with a limit on the silence of the server.
type body struct {
	io.ReadCloser
	f          *fetcher
	ctx, inner context.Context
	cancel     context.CancelCauseFunc
	timer      *time.Timer
	u          *url.URL
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.f.silence)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop() // what the caller does with the data is no silence of the server
	if err != nil && err != io.EOF {
		err = b.f.networkError(b.ctx, b.inner, b.u, err)
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// statusError explains an answer that is not a success. file is "" for the list of files.
func (f *fetcher) statusError(resp *http.Response, file string) error {
	subject := f.Repo.String()
	if file != "" {
		subject += ": " + printable(file)
	}
	status := resp.StatusCode
	host := resp.Request.URL.Host
	code, message := resp.Header.Get("X-Error-Code"), printable(resp.Header.Get("X-Error-Message"))
	if message != "" {
		message = " (" + message + ")"
	}
	atHome := origin(resp.Request.URL) == origin(f.base)
	page := f.base.String() + "/" + f.Repo.path()
	access := func(format string, args ...any) error {
		return &fault{kind: ErrAccess, text: subject + ": " + fmt.Sprintf(format, args...)}
	}
	switch {
	case status == http.StatusTooManyRequests:
		return &transient{text: fmt.Sprintf("%s answers 429: too many requests", host), after: f.orderedWait(resp.Header)}
	case status == http.StatusRequestTimeout || status >= 500:
		return &transient{text: fmt.Sprintf("%s answers %d %s", host, status, http.StatusText(status)), after: f.orderedWait(resp.Header)}
	case !atHome && status == http.StatusForbidden: // an address in a file store is good for a short time; each try gets a new one
		return &transient{text: fmt.Sprintf("%s answers %d %s", host, status, http.StatusText(status))}
	case code == "GatedRepo" && f.Token == "":
		return access("access is gated: accept the terms on the page %s, then set HF_TOKEN to a token of that account (or write it to the token file)", page)
	case code == "GatedRepo":
		return access("access is gated and the account of the token is not admitted: accept the terms on the page %s", page)
	case code == "RevisionNotFound":
		return &fault{kind: ErrNotFound, text: fmt.Sprintf("%s: no revision %s in %s on %s", subject, f.Repo.revision(), f.Repo.path(), f.base.Host)}
	case !atHome: // which has not seen the token
	case status == http.StatusUnauthorized && f.Token == "":
		return access("the hub answers 401%s: the repository does not exist, or is private or gated: look at the page %s, accept its terms if it has some, and set HF_TOKEN (or write the token file)", message, page)
	case status == http.StatusUnauthorized:
		return access("the hub answers 401%s: the token is not valid, or the repository does not exist: look at the page %s and check HF_TOKEN or the token file", message, page)
	case status == http.StatusForbidden && f.Token == "":
		return access("the hub answers 403%s: look at the page %s, accept its terms if it has some, and set HF_TOKEN (or write the token file)", message, page)
	case status == http.StatusForbidden:
		return access("the hub answers 403%s: the token lacks the right to read this repository: look at the page %s and at the rights of the token", message, page)
	case status == http.StatusNotFound && file != "":
		return &fault{kind: ErrNotFound, text: fmt.Sprintf("%s: no such file at this revision on %s", subject, f.base.Host)}
	case status == http.StatusNotFound && code == "RepoNotFound":
		return &fault{kind: ErrNotFound, text: fmt.Sprintf("%s: no such %s on %s", subject, f.Repo.kind(), f.base.Host)}
	case status == http.StatusNotFound:
		return &fault{kind: ErrNotFound, text: fmt.Sprintf("%s: no such %s, or no revision %s of it, on %s", subject, f.Repo.kind(), f.Repo.revision(), f.base.Host)}
	}
	return &fault{kind: ErrUnavailable, text: fmt.Sprintf("%s: %s answers %d %s%s", subject, host, status, http.StatusText(status), message)}
}

// orderedWait returns what the server asks to wait: Retry-After in seconds or as a date, or the end of the window
// in the RateLimit header of the hub. 0 means that it does not say.
func (f *fetcher) orderedWait(h http.Header) time.Duration {
	const most = 24 * time.Hour // far above what is waited for, and far below overflow
	s := strings.TrimSpace(h.Get("Retry-After"))
	if s == "" {
		// "api";r=0;t=55 (draft-ietf-httpapi-ratelimit-headers): nothing remains, a new window in 55 s.
		rest, remaining := "", ""
		for part := range strings.SplitSeq(h.Get("RateLimit"), ";") {
			switch key, value, _ := strings.Cut(strings.TrimSpace(part), "="); key {
			case "r":
				remaining = value
			case "t":
				rest = value
			}
		}
		if remaining != "0" {
			return 0
		}
		s = rest
	}
	if seconds, err := strconv.ParseUint(s, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(most/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(at.Sub(f.now()), 0), most)
	}
	return 0
}
