package hub

import (
	"encoding/json"
	"fmt"
	"strings"
)

const (
	// maxListingBytes bounds the answer with the list of files, about 60 bytes per file.
	maxListingBytes = 64 << 20
	// completeListing is the number of files above which the hub may leave some out of the list.
	completeListing = 50_000
)

// listing is what the hub says of a repository at one revision.
type listing struct {
	commit string
	names  []string // as the hub gives them: not checked
}

// decodeListing reads the answer to api/models/ID/revision/REVISION.
func decodeListing(data []byte) (listing, error) {
	var decoded struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(data, &decoded); err != nil {
		return listing{}, fmt.Errorf("the list of files is not the JSON of a hub: %s", printable(err.Error()))
	}
	if !isHex(decoded.SHA, commitDigits) {
		return listing{}, fmt.Errorf("the list of files must name its commit as sha, %d hexadecimal digits, got %q", commitDigits, printable(decoded.SHA))
	}
	l := listing{commit: decoded.SHA, names: make([]string, len(decoded.Siblings))}
	for i, s := range decoded.Siblings {
		l.names[i] = s.Name
	}
	return l, nil
}

// checkFileNames checks every name, and that none is named twice or is the folder of another.
func checkFileNames(names []string) error {
	files := make(map[string]bool, len(names))
	for _, name := range names {
		if err := checkFileName(name); err != nil {
			return err
		}
		if files[name] {
			return fmt.Errorf("file name %q is listed twice", printable(name))
		}
		files[name] = true
	}
	for _, name := range names {
		for i, c := range name {
			if c == '/' && files[name[:i]] {
				return fmt.Errorf("file name %q is refused: %q is a file", printable(name), printable(name[:i]))
			}
		}
	}
	return nil
}

// etagOf returns the value of an ETag header without the marks around it.
func etagOf(header string) string {
	return strings.Trim(strings.TrimPrefix(strings.TrimSpace(header), "W/"), `"`)
}
