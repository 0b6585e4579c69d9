package tokenizer

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestFolderFiles names files by their content, with those that belong to them.
func TestFolderFiles(t *testing.T) {
	for _, c := range []struct {
		name, content string
		beside, want  []string
	}{
		{"own.json", `{"model":{"type":"BPE"}}`, []string{"tokenizer_config.json", "notes.txt", "config.json"}, []string{"tokenizer.json", "tokenizer_config.json"}},
		{"own.json", `{"config":{}}`, nil, []string{"tekken.json"}},
		{"own.txt", "IQ== 0\nIg== 1\n", nil, []string{"tokenizer.tiktoken"}},
		{"own.tiktoken", "IQ== 0\nIg== 1\n", nil, []string{"own.tiktoken"}},
		{"tokenizer.model", "IQ== 0\nIg== 1\n", nil, []string{"tokenizer.model"}},
		{"own.bin", "\x05\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00abc", nil, []string{"tokenizer.bin"}},
		{"own", "\x0a\x0e\x0a\x05<unk>", nil, []string{"tokenizer.model"}},
		{"vocab.json", `{"a":0}`, []string{"merges.txt", "vocab.bpe"}, []string{"merges.txt", "vocab.json"}},
		{"encoder.json", `{"a":0}`, []string{"vocab.bpe", "special_tokens_map.json"}, []string{"encoder.json", "special_tokens_map.json", "vocab.bpe"}},
	} {
		dir := t.TempDir()
		for _, n := range append([]string{c.name}, c.beside...) {
			content := "{}"
			if n == c.name {
				content = c.content
			}
			if err := os.WriteFile(filepath.Join(dir, n), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		files, err := FolderFiles(filepath.Join(dir, c.name))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if have := slices.Sorted(maps.Keys(files)); !slices.Equal(have, c.want) {
			t.Errorf("%s %q gives %q, expected %q", c.name, c.content, have, c.want)
		}
	}
	if _, err := FolderFiles(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there has files")
	}
}
