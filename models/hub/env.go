package hub

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// DefaultEndpoint is the public hub. HF_ENDPOINT replaces it, for a mirror or a hub of one's own.
const DefaultEndpoint = "https://huggingface.co"

// maxTokenBytes bounds the token file; tokens have about 40 characters.
const maxTokenBytes = 16 << 10

// firstEnv returns the first of the variables that is set and not empty.
func firstEnv(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// isTrue reads a switch in the environment as the Hugging Face tools do.
func isTrue(name string) bool {
	switch strings.ToUpper(os.Getenv(name)) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

// expandPath replaces a leading ~ and $VARIABLES; a variable that is not set stays as it is written.
func expandPath(p string) (string, error) {
	p = os.Expand(p, func(name string) string {
		if v, ok := os.LookupEnv(name); ok {
			return v
		}
		return "$" + name
	})
	if p != "~" && !strings.HasPrefix(p, "~/") && !strings.HasPrefix(p, `~\`) {
		return p, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%s: the home folder is not known: %w", p, err)
	}
	return filepath.Join(home, p[1:]), nil
}

// homeFolder returns HF_HOME, or huggingface below XDG_CACHE_HOME, or ~/.cache/huggingface.
func homeFolder() (string, error) {
	if home := firstEnv("HF_HOME"); home != "" {
		return expandPath(home)
	}
	base := firstEnv("XDG_CACHE_HOME")
	if base == "" {
		base = "~/.cache"
	}
	base, err := expandPath(base)
	return filepath.Join(base, "huggingface"), err
}

// tokenFile returns HF_TOKEN_PATH, or the file token in the home folder of the Hugging Face tools.
func tokenFile() (string, error) {
	if file := firstEnv("HF_TOKEN_PATH"); file != "" {
		return expandPath(file)
	}
	home, err := homeFolder()
	return filepath.Join(home, "token"), err
}

// tokenFromEnvironment returns HF_TOKEN, else the content of the token file, else "". HUGGING_FACE_HUB_TOKEN is
// the older name of HF_TOKEN. HF_HUB_DISABLE_IMPLICIT_TOKEN forbids to send a token that was not asked for.
func tokenFromEnvironment() (string, error) {
	if isTrue("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
		return "", nil
	}
	if token := firstEnv("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"); strings.TrimSpace(token) != "" {
		return checkToken(token, "HF_TOKEN")
	}
	file, err := tokenFile()
	if err != nil {
		return "", nil // no home folder, so no token file
	}
	data, err := readSmall(file, maxTokenBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("token file: %w", err)
	}
	return checkToken(string(data), file)
}

// checkToken refuses what cannot stand in a header. The message does not show the token.
func checkToken(token, where string) (string, error) {
	token = strings.TrimSpace(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r > unicode.MaxASCII || r <= ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%s: the token has a space, a control character or a letter outside ASCII", where)
	}
	return token, nil
}

// parseEndpoint reads the address of a hub. "" means HF_ENDPOINT, and without that DefaultEndpoint.
func parseEndpoint(s string) (*url.URL, error) {
	name := "endpoint"
	if s == "" {
		if s = firstEnv("HF_ENDPOINT"); s != "" {
			name = "HF_ENDPOINT"
		} else {
			s = DefaultEndpoint
		}
	}
	u, err := url.Parse(strings.TrimRight(s, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s must be http://host or https://host, without user, query or fragment", name)
	}
	return u, nil
}

// readSmall reads a file that must not have more than limit bytes.
func readSmall(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: the file is larger than %d bytes", file, limit)
	}
	return data, nil
}
