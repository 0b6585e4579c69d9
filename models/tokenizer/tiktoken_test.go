package tokenizer

import (
	"encoding/base64"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pkoukk/tiktoken-go"
)

// TestTiktoken compares three vocabularies with an independent
// implementation that reads the same ranks and the pattern as a regular
// expression: lines of WikiText-2 and random strings that mix scripts, white
// space and repetition.
func TestTiktoken(t *testing.T) {
	const llama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	wiki, err := os.ReadFile(shared(t, "data", "wikitext2", "wiki.test.raw"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i, line := range strings.Split(string(wiki), "\n") {
		if i%20 == 0 {
			texts = append(texts, line)
		}
	}
	random := rand.New(rand.NewPCG(7, 8))
	runes := []rune(string(wiki[:200_000]) + strings.Repeat(" \t\n\r'sSdlLreV日本é😀\u00a0٣½0123456789ABCd", 300))
	for range 800 {
		s := make([]rune, random.IntN(40))
		for i := range s {
			if s[i] = runes[random.IntN(len(runes))]; i > 0 && random.IntN(4) == 0 {
				s[i] = s[i-1]
			}
		}
		texts = append(texts, string(s))
	}
	for _, c := range []struct{ folder, file, pattern string }{
		{"tok_llama3", "tokenizer.model", llama3},
		{"tok_phi4", "cl100k_base.tiktoken", llama3},
		{"tok_qwen2", "qwen.tiktoken", strings.Replace(llama3, `\p{N}{1,3}`, `\p{N}`, 1)},
	} {
		path := shared(t, "data", c.folder, c.file)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ranks := map[string]int{}
		for _, line := range strings.Split(string(data), "\n") {
			token, rank, ok := strings.Cut(line, " ")
			if !ok {
				continue
			}
			b, err := base64.StdEncoding.DecodeString(token)
			if err != nil {
				t.Fatal(err)
			}
			if ranks[string(b)], err = strconv.Atoi(rank); err != nil {
				t.Fatal(err)
			}
		}
		core, err := tiktoken.NewCoreBPE(ranks, map[string]int{}, c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		other := tiktoken.NewTiktoken(core, &tiktoken.Encoding{Name: c.folder, PatStr: c.pattern, MergeableRanks: ranks}, map[string]any{})
		ours, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range texts {
			var want []int32
			for _, id := range other.EncodeOrdinary(s) {
				want = append(want, int32(id))
			}
			if got := ours.Encode(s, false); !slices.Equal(got, want) {
				t.Errorf("%s %q: ids %v, expected %v", c.folder, s, got, want)
			}
		}
	}
}
