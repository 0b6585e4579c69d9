package tasks

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits on what a data file may make the program hold. They are far above the known data sets.
const (
	maxLine  = 16 << 20  // bytes of one line
	maxText  = 256 << 20 // bytes of a text that is read whole, decompressed
	maxTotal = 8 << 30   // bytes of all lines of a file, decompressed
)

// input is an opened data file: its kind of content is known from its first bytes, never from its name.
type input struct {
	path    string
	parquet bool
	json    bool          // JSON lines; else plain text
	text    *bufio.Reader // decompressed content, unless parquet
	at      io.ReaderAt
	size    int64
}

// openInput looks at the first bytes of a file: parquet, gzip, bzip2 or plain.
func openInput(path string, at io.ReaderAt, size int64) (*input, error) {
	in := &input{path: path, at: at, size: size}
	raw := bufio.NewReaderSize(io.NewSectionReader(at, 0, size), 1<<16)
	magic, err := raw.Peek(4)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case len(magic) == 0:
		return nil, fmt.Errorf("%s: file is empty", path)
	case string(magic) == "PAR1":
		in.parquet = true
		return in, nil
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: gzip: %w", path, err)
		}
		in.text = bufio.NewReaderSize(z, 1<<16)
	case bytes.HasPrefix(magic, []byte("BZh")):
		in.text = bufio.NewReaderSize(bzip2.NewReader(raw), 1<<16)
	default:
		in.text = raw
	}
	head, err := in.text.Peek(64)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(head) == 0 {
		return nil, fmt.Errorf("%s: file is empty", path)
	}
	in.json = bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{"))
	return in, nil
}

// lines calls yield with every line of the file without its line end, numbered from 1. An empty last line is left out.
func (in *input) lines(yield func(n int, line []byte) error) error {
	var line []byte
	var total int64
	for n := 1; ; n++ {
		line = line[:0]
		for {
			part, err := in.text.ReadSlice('\n')
			line = append(line, part...)
			total += int64(len(part))
			if len(line) > maxLine {
				return fmt.Errorf("%s:%d: line is longer than %d bytes", in.path, n, maxLine)
			}
			if total > maxTotal {
				return fmt.Errorf("%s:%d: file holds more than %d bytes", in.path, n, int64(maxTotal))
			}
			if err == bufio.ErrBufferFull {
				continue
			}
			if err == io.EOF {
				if len(line) == 0 {
					return nil
				}
				break
			}
			if err != nil {
				return fmt.Errorf("%s:%d: %w", in.path, n, err)
			}
			break
		}
		text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if !utf8.Valid(text) {
			return fmt.Errorf("%s:%d: line is not valid UTF-8", in.path, n)
		}
		if err := yield(n, text); err != nil {
			return err
		}
	}
}

// whole returns a plain text file with line ends as "\n", as Python reads it in text mode.
func (in *input) whole() (string, error) {
	data, err := io.ReadAll(io.LimitReader(in.text, maxText+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", in.path, err)
	}
	if len(data) > maxText {
		return "", fmt.Errorf("%s: text is longer than %d bytes", in.path, maxText)
	}
	if !utf8.Valid(data) {
		line := 1
		for len(data) > 0 {
			r, n := utf8.DecodeRune(data)
			if r == utf8.RuneError && n == 1 {
				break
			}
			if r == '\n' {
				line++
			}
			data = data[n:]
		}
		return "", fmt.Errorf("%s:%d: text is not valid UTF-8", in.path, line)
	}
	text := string(data)
	if strings.Contains(text, "\r") {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	return text, nil
}

// jsonRows calls yield with every row of a JSON lines file.
func (in *input) jsonRows(yield func(row) error) error {
	blank := 0
	return in.lines(func(n int, line []byte) error {
		where := fmt.Sprintf("%s:%d", in.path, n)
		if len(bytes.TrimSpace(line)) == 0 {
			if blank == 0 {
				blank = n
			}
			return nil
		}
		if blank != 0 {
			return fmt.Errorf("%s:%d: line is empty, expected a JSON object", in.path, blank)
		}
		r, err := decodeRecord(line)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		return yield(row{record: r, where: where})
	})
}

// decodeRecord reads one JSON object.
func decodeRecord(line []byte) (record, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var r record
	if err := d.Decode(&r); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends too early")
		}
		return nil, fmt.Errorf("malformed JSON: %w; expected one JSON object per line", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("malformed JSON: text after the object; expected one JSON object per line")
	}
	if r == nil {
		return nil, errors.New("malformed JSON: null; expected one JSON object per line")
	}
	if loneSurrogate(line) {
		return nil, errors.New(`malformed JSON: half of a surrogate pair (\ud800 to \udfff); expected whole characters`)
	}
	return r, nil
}

// loneSurrogate says whether valid JSON holds an escape of half a surrogate pair, which encoding/json would replace silently.
func loneSurrogate(line []byte) bool {
	unit := func(i int) (v int, ok bool) {
		if i+6 > len(line) || line[i] != '\\' || line[i+1] != 'u' {
			return 0, false
		}
		for _, c := range line[i+2 : i+6] {
			d := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
			if d < 0 {
				return 0, false
			}
			v = v<<4 | d
		}
		return v, true
	}
	for i := 0; i < len(line); i++ {
		if line[i] != '\\' {
			continue
		}
		v, ok := unit(i)
		switch {
		case !ok:
			i++ // a short escape
		case v>>11 != 0xd800>>11:
			i += 5
		default:
			low, ok := unit(i + 6)
			if v >= 0xdc00 || !ok || low>>10 != 0xdc00>>10 {
				return true
			}
			i += 11
		}
	}
	return false
}

// hellaswagRows calls yield with every task of llama.cpp's HellaSwag list: "activity: context", the gold index, four endings.
func (in *input) hellaswagRows(yield func(row) error) error {
	const perTask = 6
	var task [perTask]string
	last := 0
	err := in.lines(func(n int, line []byte) error {
		last = n
		task[(n-1)%perTask] = string(line)
		if n%perTask != 0 {
			return nil
		}
		first := n - perTask + 1
		query, err := hellaswagRestore(task[0])
		if err != nil {
			return fmt.Errorf("%s:%d: %w", in.path, first, err)
		}
		endings := make([]any, 0, 4)
		for _, e := range task[2:] {
			endings = append(endings, e)
		}
		return yield(row{
			record:   record{"label": task[1], "endings": endings},
			where:    fmt.Sprintf("%s:%d", in.path, first+1),
			restored: query,
		})
	})
	if err != nil {
		return err
	}
	if last%perTask != 0 {
		return fmt.Errorf("%s:%d: file ends within a task, expected 6 lines per task (context, gold index, 4 endings)", in.path, last)
	}
	return nil
}

// fileDigest returns the SHA-256 of a file's bytes as they lie on disk.
func fileDigest(at io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(at, 0, size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// joinDigests makes one digest of several: that of one file is kept; of more, the SHA-256 of the digests, each with a newline.
func joinDigests(digests []string) string {
	if len(digests) == 1 {
		return digests[0]
	}
	h := sha256.New()
	for _, d := range digests {
		io.WriteString(h, d+"\n")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// DefaultPath returns the file or folder of a task below a data root that is laid out as hellaswag/, piqa/, arc/, boolq/, winogrande/,
// wikitext2/ and c4/. The error names the files looked for.
func DefaultPath(root, name string) (string, error) {
	t, err := lookup(name)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(root, t.folder)
	files, err := locate(t, folder)
	if err != nil {
		return "", err
	}
	if len(files) == 1 {
		return files[0], nil
	}
	return folder, nil
}

// locate returns the data files that path, a file or a folder, holds for a task, in dataset order.
func locate(t *task, path string) ([]string, error) {
	if path == "" {
		return nil, fmt.Errorf("task %s: no data path given, expected a file or a folder", t.Name)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", t.Name, err)
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("task %s: %s is no regular file", t.Name, path)
		}
		return []string{path}, nil
	}
	if t.files == nil {
		return c4Files(t, path)
	}
	entries := make(map[string][]string) // folder to the names in it
	for _, pattern := range t.files {
		sub, base := filepath.Split(filepath.FromSlash(pattern))
		folder := filepath.Join(path, sub)
		names, ok := entries[folder]
		if !ok {
			list, err := os.ReadDir(folder)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("task %s: %w", t.Name, err)
			}
			for _, e := range list { // sorted by name
				if !e.IsDir() {
					names = append(names, e.Name())
				}
			}
			entries[folder] = names
		}
		var found []string
		for _, n := range names {
			plain := strings.TrimSuffix(strings.TrimSuffix(n, ".gz"), ".bz2")
			if ok, _ := filepath.Match(base, plain); ok {
				found = append(found, filepath.Join(folder, n))
			}
		}
		// Several shards of one parquet file belong together; two forms of one text file do not.
		if len(found) > 1 && !strings.HasSuffix(base, ".parquet") {
			return nil, fmt.Errorf("task %s: %s and %s are both there, expected one; name the file", t.Name, found[0], found[1])
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, fmt.Errorf("task %s: no data file in %s, expected one of %s (also .gz, .bz2)", t.Name, path, strings.Join(t.files, ", "))
}

// c4Files returns the C4 shards of a folder in the order of their names.
func c4Files(t *task, path string) ([]string, error) {
	list, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", t.Name, err)
	}
	var found []string
	for _, e := range list {
		plain := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".gz"), ".bz2")
		if !e.IsDir() && slices.Contains([]string{".json", ".jsonl", ".parquet"}, filepath.Ext(plain)) {
			found = append(found, filepath.Join(path, e.Name()))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("task %s: no data file in %s, expected *.json, *.jsonl or *.parquet (also .gz, .bz2)", t.Name, path)
	}
	slices.Sort(found)
	return found, nil
}
