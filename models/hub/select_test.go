package hub

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The expected values are those of Python's fnmatch.fnmatchcase, which the Hugging Face tools use; for a slash at
// the end, those of huggingface_hub.utils.filter_repo_objects.
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"", "", true}, {"", "a", false}, {"?", "", false}, {"?", "é", true}, {"?", "ab", false},
		{"*.json", "config.json", true}, {"*.json", "a/b.json", true}, {"*.json", "config.jsonl", false}, {"*.JSON", "config.json", false},
		{"data/*.json", "data/sub/file.json", true}, {"data/", "data/x/y", true}, {"data/", "data", false}, {"*/", "a/b", true},
		{"[ab]c", "ac", true}, {"[ab]c", "cc", false}, {"[!ab]c", "cc", true}, {"[!ab]c", "bc", false}, {"[a-c]", "b", true}, {"[a-c]", "-", false},
		{"[c-a]", "b", false}, {"[!c-a]", "b", true}, {"[a-]", "-", true}, {"[-a]", "-", true}, {"[]a]", "]", true}, {"[!]a]", "]", false}, {"[!]a]", "x", true},
		{"[", "[", true}, {"[a", "[a", true}, {"[a", "a", false}, {"[]", "[]", true}, {"[!]", "[!]", true}, {"[!", "[!", true}, {"a[", "a[", true},
		{"[a-c-e]", "-", true}, {"[a-c-e]", "d", false}, {"[a-c-e]", "e", true}, {"[^a]", "b", false}, {"[^a]", "^", true},
		{"a*b*c", "aXbYc", true}, {"a*b*c", "abcb", false}, {"**", "x/y", true}, {"*a", "aaaab", false}, {"a.b", "axb", false}, {`\*`, `\x`, true}, {`[\]`, `\`, true},
		{"*\n", "a\n", true}, {"?", "\n", true}, {"[*]", "*", true}, {"[*]", "a", false},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestSelectFiles(t *testing.T) {
	llama := []string{".gitattributes", "LICENSE.txt", "README.md", "USE_POLICY.md", "config.json", "generation_config.json", "model-00001-of-00002.safetensors",
		"model-00002-of-00002.safetensors", "model.safetensors.index.json", "original/consolidated.00.pth", "original/params.json", "original/tokenizer.model",
		"pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json"}
	mistral := []string{"README.md", "config.json", "consolidated.safetensors", "consolidated-00001-of-00002.safetensors", "model.safetensors", "params.json", "tekken.json", "merges.txt", "vocab.json", "x.gguf"}
	for _, c := range []struct {
		names            []string
		repo             Repo
		include, exclude string
		want             string
	}{
		{llama, Repo{}, "", "", "LICENSE.txt README.md USE_POLICY.md config.json generation_config.json model-00001-of-00002.safetensors " +
			"model-00002-of-00002.safetensors model.safetensors.index.json special_tokens_map.json tokenizer.json tokenizer.model tokenizer_config.json"},
		{mistral, Repo{}, "", "", "README.md config.json merges.txt model.safetensors tekken.json vocab.json"},
		{mistral, Repo{}, "", "*.safetensors", "README.md config.json merges.txt tekken.json vocab.json"},
		{mistral, Repo{}, "consolidated* params.json", "*-of-*", "consolidated.safetensors params.json"},
		{llama, Repo{}, "original/", "*.pth", "original/params.json original/tokenizer.model"},
		{[]string{"b", "a/b", ".gitattributes"}, Repo{Dataset: true}, "", "", ".gitattributes a/b b"},
	} {
		got, err := selectFiles(c.names, c.repo, strings.Fields(c.include), strings.Fields(c.exclude))
		if diff := cmp.Diff(strings.Fields(c.want), got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
	_, err := selectFiles(llama, Repo{ID: "org/name"}, []string{"*.gguf"}, []string{"x"})
	wantError(t, err, ErrNotFound, `org/name: none of its 18 files is selected by ["*.gguf"] without ["x"]`)
}

// The time of a match does not explode with the number of stars.
func TestMatchManyStars(t *testing.T) {
	if match(strings.Repeat("*a", 1000), strings.Repeat("a", 2000)+"b") {
		t.Error("matches")
	}
}
