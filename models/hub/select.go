package hub

import (
	"fmt"
	"slices"
	"strings"
)

// defaultModelFiles are the files of a model that this program or a reader of its results needs. They lie at the
// top of the repository: folders hold other forms of the same weights.
var defaultModelFiles = []string{
	"config.json", "generation_config.json",
	"*.safetensors", "*.safetensors.index.json",
	"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
	"vocab.json", "merges.txt", "tekken.json", "*.tiktoken", "chat_template.jinja", "chat_template.json",
	"README*", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*",
}

// consolidatedWeights are the weights of a model once more, in the layout of its authors.
const consolidatedWeights = "consolidated*.safetensors"

// selectFiles returns the names that include or, where it is empty, the default set of the repository selects and
// exclude does not, sorted.
func selectFiles(names []string, repo Repo, include, exclude []string) ([]string, error) {
	var selected []string
	for _, name := range names {
		wanted := matchAny(include, name)
		switch {
		case len(include) > 0:
		case repo.Dataset:
			wanted = true
		default:
			wanted = !strings.Contains(name, "/") && matchAny(defaultModelFiles, name) && !match(consolidatedWeights, name)
		}
		if wanted && !matchAny(exclude, name) {
			selected = append(selected, name)
		}
	}
	slices.Sort(selected)
	if len(selected) == 0 {
		patterns := "the default set"
		if len(include) > 0 {
			patterns = fmt.Sprintf("%q", include)
		}
		if len(exclude) > 0 {
			patterns += fmt.Sprintf(" without %q", exclude)
		}
		return nil, &fault{kind: ErrNotFound, text: fmt.Sprintf("%s: none of its %d files is selected by %s", repo, len(names), patterns)}
	}
	isWeights := func(name string) bool { return match("*.safetensors", name) }
	if !repo.Dataset && len(include) == 0 && len(exclude) == 0 && !slices.ContainsFunc(selected, isWeights) {
		text := fmt.Sprintf("%s: the repository has no .safetensors file at its top", repo)
		if i := slices.IndexFunc(names, func(name string) bool { return matchAny([]string{"*.bin", "*.pth", "*.gguf", "*.safetensors"}, name) }); i >= 0 {
			text += fmt.Sprintf(" (but %s)", printable(names[i]))
		}
		return nil, &fault{kind: ErrNotFound, text: text + ": name the files to fetch with --include"}
	}
	return selected, nil
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

// hasWildcard says whether a pattern can match more than one name.
func hasWildcard(pattern string) bool {
	return strings.ContainsAny(pattern, "*?[") || strings.HasSuffix(pattern, "/")
}

// match says whether name matches a pattern as the Hugging Face tools understand it (Python's fnmatchcase): * is
// any text, slashes too; ? is one letter; [ab-c] and [!ab-c] are one letter of a set and not of it; a slash at
// the end stands for all below the folder. The time is at most the product of both lengths.
func match(pattern, name string) bool {
	if strings.HasSuffix(pattern, "/") {
		pattern += "*"
	}
	p, s := []rune(pattern), []rune(name)
	i, j := 0, 0
	star, mark := -1, 0 // the last star, and the position in s up to which it reaches
	for j < len(s) {
		if i < len(p) && p[i] == '*' {
			star, mark = i, j
			i++
			continue
		}
		if i < len(p) {
			if n, ok := matchOne(p[i:], s[j]); ok {
				i += n
				j++
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		i, j = star+1, mark
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// matchOne matches one letter with the first element of p, which is n runes long.
func matchOne(p []rune, r rune) (n int, ok bool) {
	switch p[0] {
	case '?':
		return 1, true
	case '[':
		end := 1
		if end < len(p) && p[end] == '!' {
			end++
		}
		if end < len(p) && p[end] == ']' { // a bracket at the first place is a letter
			end++
		}
		for end < len(p) && p[end] != ']' {
			end++
		}
		if end == len(p) { // never closed: a letter
			return 1, r == '['
		}
		set := p[1:end]
		negated := set[0] == '!'
		if negated {
			set = set[1:]
		}
		return end + 1, inSet(set, r) != negated
	}
	return 1, p[0] == r
}

// inSet says whether r is one of the letters and ranges of set.
func inSet(set []rune, r rune) bool {
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			if set[i] <= r && r <= set[i+2] {
				return true
			}
			i += 2
		} else if set[i] == r {
			return true
		}
	}
	return false
}
