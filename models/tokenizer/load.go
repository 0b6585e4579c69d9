package tokenizer

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFileSize bounds what is read into memory; the largest published tokenizer files are below 40 MB.
const maxFileSize = 256 << 20

// Load reads a tokenizer from a file, or from a folder: there tokenizer.json is preferred, then tokenizer.model,
// tokenizer.bin, tekken.json, vocab.json, encoder.json, then the only file *.model or *.tiktoken. The list of merges of a
// vocab.json is the merges.txt beside it, that of an encoder.json the vocab.bpe.
//
// tokenizer_config.json, special_tokens_map.json and config.json beside the file are read for what the file itself does
// not say: add_bos_token and add_eos_token (for a tokenizer.json only if its post_processor has no template; by default
// SentencePiece models, llama2.c, tekken.json and Llama-3 have BOS, and nothing has EOS), the BOS and EOS of a byte-level
// file or a tokenizer.json whose template does not show them, and for ranks or merges the kind of vocabulary and its
// special tokens (see the package's documentation).
//
// Everything in a file that would change ids and is not supported is an error that names the file and the key.
func Load(path string) (Tokenizer, error) {
	file, err := locate(path)
	if err != nil {
		return nil, err
	}
	data, err := readFile(file, maxFileSize)
	if err != nil {
		return nil, err
	}
	side, err := settingsOf(file)
	if err != nil {
		return nil, err
	}
	t, err := parse(data, side)
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", file, err)
	}
	return t, nil
}

// vocabularyFiles are the bare vocabularies and the lists of merges that belong to them.
var vocabularyFiles = map[string]string{"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}

// locate returns the tokenizer file that path names.
func locate(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("tokenizer: %w", err)
	}
	if !info.IsDir() {
		return path, nil
	}
	for _, name := range []string{"tokenizer.json", "tokenizer.model", "tokenizer.bin", "tekken.json", "vocab.json", "encoder.json"} {
		file := filepath.Join(path, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file, nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("tokenizer: %w", err)
		}
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", fmt.Errorf("tokenizer: %w", err)
	}
	var models []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); (ext == ".model" || ext == ".tiktoken") && !e.IsDir() {
			models = append(models, e.Name())
		}
	}
	switch len(models) {
	case 1:
		return filepath.Join(path, models[0]), nil
	case 0:
		return "", fmt.Errorf("tokenizer %s: no tokenizer file in this folder, expected tokenizer.json, tokenizer.model, tokenizer.bin, tekken.json, vocab.json, encoder.json or one *.model or *.tiktoken", path)
	}
	return "", fmt.Errorf("tokenizer %s: %d files *.model and *.tiktoken (%s), expected one, or name the file", path, len(models), strings.Join(models, ", "))
}

// FolderFiles returns the content of the tokenizer file that path names and of the files beside it that Load reads for
// it, less the config.json of a model, by the names under which Load finds them in a folder: a file of another name gets
// the usual one of its format.
func FolderFiles(path string) (map[string][]byte, error) {
	file, err := locate(path)
	if err != nil {
		return nil, err
	}
	data, err := readFile(file, maxFileSize)
	if err != nil {
		return nil, err
	}
	name, beside := filepath.Base(file), []string{"tokenizer_config.json", "special_tokens_map.json"}
	if merges := vocabularyFiles[name]; merges != "" {
		beside = append(beside, merges)
	} else {
		name = folderName(name, data)
	}
	all := map[string][]byte{name: data}
	for _, n := range beside {
		data, err := readFile(filepath.Join(filepath.Dir(file), n), maxFileSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[n] = data
	}
	return all, nil
}

// folderName is the name of a tokenizer file in a model's folder.
func folderName(name string, data []byte) string {
	ext := filepath.Ext(name)
	head := bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n")
	head = head[:min(len(head), 256)]
	switch {
	case isBin(data):
		return "tokenizer.bin"
	case len(head) > 0 && head[0] == '{' && kindOfJSON(data) == jsonTekken:
		return "tekken.json"
	case len(head) > 0 && head[0] == '{':
		return "tokenizer.json"
	case ext == ".model" || ext == ".tiktoken":
		return name
	case isRanks(head):
		return "tokenizer.tiktoken"
	}
	return "tokenizer.model"
}

// readFile reads a whole regular file of at most limit bytes.
func readFile(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", file, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("tokenizer %s: larger than %d bytes, expected a tokenizer file", file, limit)
	}
	return data, nil
}

// parse makes a tokenizer from the content of a file, which is not changed afterwards. The implementation of Tokenizer is
// chosen here, or by loadHF for the kinds of tokenizer.json.
func parse(data []byte, side settings) (Tokenizer, error) {
	head := bytes.TrimPrefix(data, []byte("\ufeff"))
	head = bytes.TrimLeft(head[:min(len(head), 256)], " \t\r\n")
	switch {
	case len(data) == 0:
		return nil, errors.New("the file is empty, expected a tokenizer")
	case bytes.HasPrefix(data, []byte("version https://git-lfs")):
		return nil, errors.New("the file is a Git LFS pointer, expected the file that it stands for")
	case isBin(data):
		return wrap(loadBin(data, side))
	case len(head) > 0 && head[0] == '{':
		switch kindOfJSON(data) {
		case jsonTekken:
			return wrap(loadTekken(data, side))
		case jsonVocabulary:
			if side.merges == nil {
				return nil, errors.New("the file is a bare vocabulary of tokens and ids, expected a tokenizer.json with a model, or the list of merges beside it (merges.txt beside vocab.json, vocab.bpe beside encoder.json)")
			}
			return wrap(loadVocabulary(data, side.merges, side.mergesName, side))
		}
		return loadHF(data, side)
	case isRanks(head):
		return wrap(loadRanks(data, side))
	case bytes.HasPrefix(head, []byte("#version")) || isMerge(head):
		return nil, errors.New("the file is a list of merges, expected the vocabulary beside it (vocab.json or encoder.json)")
	case len(data) > 1 && data[1] != 0 && bytes.IndexByte([]byte{1<<3 | 2, 2<<3 | 2, 3<<3 | 2, 5<<3 | 2}, data[0]) >= 0:
		return wrap(loadSPM(data, side))
	}
	return nil, fmt.Errorf("the file begins with % x, which is none of tokenizer.json, tekken.json, a SentencePiece model, a tiktoken file and llama2.c's tokenizer.bin", data[:min(len(data), 8)])
}

// wrap keeps a nil pointer from becoming an interface that is not nil.
func wrap[T Tokenizer](t T, err error) (Tokenizer, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}

// isBin reports whether data begins as llama2.c's tokenizer.bin does: the small length of the longest token, a score, and
// the length of the first token, which is no larger.
func isBin(data []byte) bool {
	if len(data) < 12 {
		return false
	}
	longest, first := binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[8:])
	return longest > 0 && longest < 1<<16 && first <= longest
}

// isRanks reports whether head begins with a line of a tiktoken file: base64, a space, a number.
func isRanks(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	token, rank, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	if !ok || len(token) == 0 || len(token)%4 != 0 || len(rank) == 0 {
		return false
	}
	for _, c := range token {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '=') {
			return false
		}
	}
	return len(bytes.Trim(rank, "0123456789")) == 0
}

// isMerge reports whether head begins with the first merge of a published byte-level vocabulary: two pieces of GPT-2's
// alphabet with a space between.
func isMerge(head []byte) bool {
	line, _, ok := bytes.Cut(head, []byte("\n"))
	return ok && bytes.HasPrefix(line, []byte("\u0120 "))
}

// The JSON files that a tokenizer is read from.
const (
	jsonHF = iota
	jsonTekken
	jsonVocabulary
)

// kindOfJSON decides by the first key that tells.
func kindOfJSON(data []byte) (kind int) {
	r := &jsonReader{s: view(bytes.TrimPrefix(data, []byte("\ufeff")))}
	stop := errors.New("")
	_ = r.object(func(key string) error {
		switch c := r.peek(); {
		case key == "config" && c == '{' || key == "vocab" && c == '[':
			kind = jsonTekken
			return stop
		case '0' <= c && c <= '9':
			kind = jsonVocabulary
			return stop
		case key == "type" || key == "image" || key == "multimodal" || key == "audio" || key == "special_tokens":
			return r.skip()
		}
		return stop
	})
	return kind
}

// settings are what the files beside a tokenizer file say.
type settings struct {
	addBOS, addEOS *bool
	bos, eos       named
	class          string          // tokenizer_class
	modelType      string          // model_type
	added          json.RawMessage // added_tokens_decoder, nil if there is none
	merges         []byte          // the list of merges beside a bare vocabulary, nil if there is none
	mergesName     string
}

// named is a special token as the files beside the tokenizer name it.
type named struct {
	text string // by tokenizer_config.json or special_tokens_map.json
	id   int64  // by config.json, -1 if not
	file string // that says so, "" if none does
}

// settingsOf reads the files beside a tokenizer file.
func settingsOf(file string) (settings, error) {
	s, err := readSettings(filepath.Dir(file))
	if merges := vocabularyFiles[filepath.Base(file)]; merges != "" && err == nil {
		s.mergesName = merges
		s.merges, err = readFile(filepath.Join(filepath.Dir(file), merges), maxFileSize)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return s, err
}

func readSettings(dir string) (settings, error) {
	s := settings{bos: named{id: -1}, eos: named{id: -1}}
	for _, name := range []string{"tokenizer_config.json", "special_tokens_map.json", "config.json"} {
		data, err := readFile(filepath.Join(dir, name), maxFileSize)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			if err = s.add(name, data); err != nil {
				err = fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
			}
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// add enters one of the files. What an earlier file says stays.
func (s *settings) add(name string, data []byte) error {
	var f struct {
		AddBOS *bool           `json:"add_bos_token"`
		AddEOS *bool           `json:"add_eos_token"`
		BOS    json.RawMessage `json:"bos_token"`
		EOS    json.RawMessage `json:"eos_token"`
		BOSID  json.RawMessage `json:"bos_token_id"`
		EOSID  json.RawMessage `json:"eos_token_id"`

		Class     json.RawMessage `json:"tokenizer_class"`
		ModelType json.RawMessage `json:"model_type"`
		Added     json.RawMessage `json:"added_tokens_decoder"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%w, expected a JSON object", err)
	}
	if name == "config.json" {
		_ = json.Unmarshal(f.ModelType, &s.modelType) // what is no string names no class
		if err := s.bos.setID(name, "bos_token_id", f.BOSID); err != nil {
			return err
		}
		return s.eos.setID(name, "eos_token_id", f.EOSID)
	}
	if name == "tokenizer_config.json" {
		s.addBOS, s.addEOS = f.AddBOS, f.AddEOS
		_ = json.Unmarshal(f.Class, &s.class)
		s.added = f.Added
	}
	if err := s.bos.setText(name, "bos_token", f.BOS); err != nil {
		return err
	}
	return s.eos.setText(name, "eos_token", f.EOS)
}

// setText takes a name in either form, "<s>" or {"content": "<s>"}. null says that there is no such token.
func (n *named) setText(file, key string, raw json.RawMessage) error {
	if n.file != "" || raw == nil {
		return nil
	}
	var token struct {
		Content *string `json:"content"`
	}
	err := json.Unmarshal(raw, &n.text)
	if err != nil && json.Unmarshal(raw, &token) == nil && token.Content != nil {
		n.text, err = *token.Content, nil
	}
	if err != nil {
		return fmt.Errorf("%s is %.40q, expected a string, null or an object with content", key, raw)
	}
	n.file = file
	return nil
}

// setID takes an id, or the first of a list of them.
func (n *named) setID(file, key string, raw json.RawMessage) error {
	if n.file != "" || raw == nil || string(raw) == "null" {
		return nil
	}
	var ids []int64
	err := json.Unmarshal(raw, &n.id)
	if err != nil && json.Unmarshal(raw, &ids) == nil && len(ids) > 0 {
		n.id, err = ids[0], nil
	}
	if err != nil || n.id < 0 {
		return fmt.Errorf("%s is %.40q, expected an id, a list of ids or null", key, raw)
	}
	n.file = file
	return nil
}

// find returns the id of the token in a vocabulary, -1 if there is to be none.
func (n named) find(key string, c *core, v *vocabulary) (int32, error) {
	switch {
	case n.text != "":
		id, ok := v.find(n.text)
		if !ok {
			return -1, fmt.Errorf("%s %.40q of %s is not in the vocabulary", key, n.text, n.file)
		}
		return id, nil
	case n.id >= 0:
		if n.id >= int64(c.Size()) || !c.has(int32(n.id)) {
			return -1, fmt.Errorf("%s_id %d of %s is not in the vocabulary, expected 0 to %d", key, n.id, n.file, c.Size()-1)
		}
		return int32(n.id), nil
	}
	return -1, nil
}

// setTemplate gives a SentencePiece or llama2.c file its template and digest.
func (t *spmTokenizer) setTemplate(data []byte, side settings) error {
	addBOS, addEOS := t.bos >= 0, false
	note := ""
	if side.addBOS != nil && *side.addBOS != addBOS {
		addBOS = *side.addBOS
		note += fmt.Sprintf(" add_bos_token=%t", addBOS)
	}
	if side.addEOS != nil && *side.addEOS != addEOS {
		addEOS = *side.addEOS
		note += fmt.Sprintf(" add_eos_token=%t", addEOS)
	}
	return t.setAffixes(addBOS, addEOS, data, note)
}

// setAffixes sets a template of BOS before and EOS behind the text, and the digest. note is what files beside the
// tokenizer file changed.
func (c *core) setAffixes(addBOS, addEOS bool, data []byte, note string) error {
	if addBOS {
		if c.bos < 0 {
			return errors.New("add_bos_token of tokenizer_config.json is true, but the tokenizer has no BOS")
		}
		c.prefix = []int32{c.bos}
	}
	if addEOS {
		if c.eos < 0 {
			return errors.New("add_eos_token of tokenizer_config.json is true, but the tokenizer has no EOS")
		}
		c.suffix = []int32{c.eos}
	}
	sum := sha256.Sum256(data)
	c.digest = hex.EncodeToString(sum[:])
	if note != "" {
		sum = sha256.Sum256([]byte(c.digest + note))
		c.digest = hex.EncodeToString(sum[:])
	}
	return nil
}

// setSpecials settles BOS, EOS, template and digest of a tokenizer.json with the vocabulary v. given says that the file
// has a template.
func (c *core) setSpecials(data []byte, v *vocabulary, side settings, given bool) error {
	note, err := c.settle(v, side, "<s>", "</s>")
	if err != nil {
		return err
	}
	addBOS, addEOS := false, false
	if !given {
		addBOS = side.addBOS != nil && *side.addBOS
		addEOS = side.addEOS != nil && *side.addEOS
		if addBOS || addEOS {
			note += fmt.Sprintf(" add_bos_token=%t add_eos_token=%t", addBOS, addEOS)
		}
	}
	return c.setAffixes(addBOS, addEOS, data, note)
}

// setBare settles BOS, EOS, template and digest of a file that says nothing of them.
func (c *core) setBare(data []byte, v *vocabulary, k *knownVocabulary, side settings, note string) error {
	c.bos, c.eos = -1, -1
	more, err := c.settle(v, side, k.bos, k.eos)
	if err != nil {
		return err
	}
	note += more
	addBOS, addEOS := k.addBOS, false
	if side.addBOS != nil && *side.addBOS != addBOS {
		addBOS = *side.addBOS
		note += fmt.Sprintf(" add_bos_token=%t", addBOS)
	}
	if side.addEOS != nil && *side.addEOS {
		addEOS = true
		note += " add_eos_token=true"
	}
	return c.setAffixes(addBOS, addEOS, data, note)
}

// settle finds BOS and EOS where they are not known yet: by the files beside the tokenizer file, or by their usual names.
// note is what those files changed.
func (c *core) settle(v *vocabulary, side settings, usualBOS, usualEOS string) (note string, err error) {
	one := func(to *int32, key, usual string, n named) error {
		if *to >= 0 {
			return nil
		}
		if id, ok := v.find(usual); ok && (c.kinds[id] == pieceControl || c.kinds[id] == pieceShown) {
			*to = id
		}
		if n.file == "" {
			return nil
		}
		id, err := n.find(key, c, v)
		if id != *to {
			*to = id
			note += fmt.Sprintf(" %s=%d", key, id)
		}
		return err
	}
	if err := one(&c.bos, "bos_token", usualBOS, side.bos); err != nil {
		return "", err
	}
	if err := one(&c.eos, "eos_token", usualEOS, side.eos); err != nil {
		return "", err
	}
	if c.bos >= 0 {
		c.bosText = c.pieces[c.bos]
	}
	return note, nil
}
