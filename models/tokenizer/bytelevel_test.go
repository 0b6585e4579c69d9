package tokenizer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// byteFamilies are the byte-level goldens and the files that must give their ids.
var byteFamilies = []struct {
	golden string
	names  []string
	prefix []int32 // template
}{
	{"gpt2", []string{"gpt2", "gpt2.arrays", "gpt2.vocab"}, nil},
	{"llama3", []string{"llama3", "llama3.model", "llama3.vocab"}, []int32{128000}},
	{"phi4", []string{"phi4", "phi4.ranks"}, nil},
	{"qwen2", []string{"qwen2", "qwen2.arrays", "qwen2.ranks"}, nil},
	{"tekken", []string{"tekken", "tekken.arrays", "tekken.ranks"}, []int32{1}},
}

// eachByteFamily runs f for every file of every byte-level family.
func eachByteFamily(t *testing.T, f func(t *testing.T, golden string, tok Tokenizer, prefix []int32, c *counter)) {
	for _, b := range byteFamilies {
		for _, name := range b.names {
			t.Run(name, func(t *testing.T) {
				c := &counter{tb: t}
				f(t, b.golden, family(t, name), b.prefix, c)
				c.done()
			})
		}
	}
}

func TestByteLevelAdversarial(t *testing.T) {
	eachByteFamily(t, func(t *testing.T, golden string, tok Tokenizer, prefix []int32, c *counter) {
		strs, rows := adversarial(t, golden)
		for i, r := range rows {
			s := strs[i].s(t)
			c.check(r.ID+" parsed", tok.EncodeParsed(s, false), r.IDs)
			c.check(r.ID+" not parsed", tok.Encode(s, false), r.plain())
			c.check(r.ID+" with template", tok.Encode(s, true), append(slices.Clone(prefix), r.plain()...))
			c.check(r.ID+" parsed with template", tok.EncodeParsed(s, true), append(slices.Clone(prefix), r.IDs...))
			c.check(r.ID+" decode", decode(t, tok, r.IDs), r.Dec)
			c.check(r.ID+" decode without specials", decode(t, tok, SkipSpecial(tok, r.IDs)), r.decSkip())
		}
	})
}

func TestByteLevelDecode(t *testing.T) {
	type row struct {
		IDs     []int32 `json:"ids"`
		Dec     string  `json:"dec"`
		DecSkip string  `json:"dec_skip"`
	}
	eachByteFamily(t, func(t *testing.T, golden string, tok Tokenizer, _ []int32, c *counter) {
		for i, r := range jsonRows[row](t, "golden", "tokenizers", "decode", golden+".jsonl.gz") {
			c.check(fmt.Sprintf("row %d", i), decode(t, tok, r.IDs), r.Dec)
			c.check(fmt.Sprintf("row %d without specials", i), decode(t, tok, SkipSpecial(tok, r.IDs)), r.DecSkip)
		}
	})
}

func TestByteLevelStream(t *testing.T) {
	type row struct {
		IDs   []int32  `json:"ids"`
		Emit  []string `json:"emit"`
		Flush string   `json:"flush"`
		Dec   string   `json:"dec"`
	}
	eachByteFamily(t, func(t *testing.T, golden string, tok Tokenizer, _ []int32, c *counter) {
		st := NewStream(tok)
		for i, r := range jsonRows[row](t, "golden", "tokenizers", "stream", golden+".jsonl.gz") {
			var emit []string
			for _, id := range r.IDs {
				emit = append(emit, st.Push(id))
			}
			flush := st.Flush()
			c.check(fmt.Sprintf("row %d emit", i), fmt.Sprintf("%q", emit), fmt.Sprintf("%q", r.Emit))
			c.check(fmt.Sprintf("row %d flush", i), flush, r.Flush)
			c.check(fmt.Sprintf("row %d joined", i), strings.Join(emit, "")+flush, r.Dec)
			c.check(fmt.Sprintf("row %d decode", i), decode(t, tok, r.IDs), r.Dec)
		}
	})
}

func TestByteLevelWikiText(t *testing.T) {
	lines := wikiLines(t)
	eachByteFamily(t, func(t *testing.T, golden string, tok Tokenizer, _ []int32, c *counter) {
		for i, want := range jsonRows[[]int32](t, "golden", "tokenizers", "wikitext", golden+".jsonl.gz") {
			c.check(fmt.Sprintf("line %d", i), tok.Encode(lines[i], false), want)
			c.check(fmt.Sprintf("line %d back", i), decode(t, tok, want), lines[i])
		}
		for i, want := range jsonRows[[]int32](t, "golden", "tokenizers", "wikitext", golden+".special50.jsonl.gz") {
			c.check(fmt.Sprintf("line %d with template", i), tok.Encode(lines[i], true), want)
		}
	})
}

func TestByteLevelRequestPairs(t *testing.T) {
	for _, b := range byteFamilies {
		if b.golden == "gpt2" {
			continue // no pairs of it
		}
		for _, name := range b.names {
			t.Run(name, func(t *testing.T) { checkPairs(t, b.golden, family(t, name)) })
		}
	}
}

func TestByteLevelLlamaCppVectors(t *testing.T) {
	for vectors, names := range map[string][]string{
		"llama-bpe":        {"llama3", "llama3.model", "llama3.vocab"},
		"gpt-2":            {"gpt2", "gpt2.arrays", "gpt2.vocab"},
		"qwen2":            {"qwen2", "qwen2.arrays", "qwen2.ranks"},
		"deepseek-r1-qwen": {"qwen2", "qwen2.arrays", "qwen2.ranks"},
	} {
		for _, name := range names {
			t.Run(vectors+"/"+name, func(t *testing.T) { checkVectors(t, vectors, family(t, name)) })
		}
	}
}

// TestQwenAsGPT2Files: Qwen2 also publishes its vocabulary as vocab.json and merges.txt. Made here of its tokenizer.json,
// they give the same ids.
func TestQwenAsGPT2Files(t *testing.T) {
	var f struct {
		Model struct {
			Vocab  json.RawMessage `json:"vocab"`
			Merges []string        `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(readShared(t, families["qwen2"]...), &f); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"vocab.json":            f.Model.Vocab,
		"merges.txt":            []byte("#version: 0.2\n" + strings.Join(f.Model.Merges, "\n") + "\n"),
		"tokenizer_config.json": readShared(t, "golden", "tokenizers", "qwen2", "tokenizer_config.json"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	strs, rows := adversarial(t, "qwen2")
	c := counter{tb: t}
	for i, r := range rows {
		c.check(r.ID, tok.EncodeParsed(strs[i].s(t), false), r.IDs)
		c.check(r.ID+" decode", decode(t, tok, r.IDs), r.Dec)
	}
	c.done()
	if eos, ok := tok.EOS(); tok.Kind() != "vocab+merges" || tok.Size() != 151665 || eos != 151645 || !ok {
		t.Errorf("%s of %d tokens, EOS %d %t", tok.Kind(), tok.Size(), eos, ok)
	}
}

func TestByteLevelVocabularies(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		size       int
		id         int32
		piece      string
		bos, eos   int32 // -1: none
		bosText    string
	}{
		{"gpt2", "tokenizer.json", 50257, 262, "\u0120the", -1, -1, ""}, // no file beside it names them
		{"gpt2.vocab", "vocab+merges", 50257, 262, "\u0120the", 50256, 50256, "<|endoftext|>"},
		{"llama3", "tokenizer.json", 128256, 128009, "<|eot_id|>", 128000, -1, "<|begin_of_text|>"},
		{"llama3.model", "tiktoken", 128256, 279, " the", 128000, 128001, "<|begin_of_text|>"},
		{"llama3.vocab", "vocab+merges", 128256, 279, "\u0120the", 128000, 128001, "<|begin_of_text|>"},
		{"llama3.model", "tiktoken", 128256, 128255, "<|reserved_special_token_247|>", 128000, 128001, "<|begin_of_text|>"},
		{"phi4.ranks", "tiktoken", 100352, 100265, "<|im_end|>", 100257, 100265, "<|endoftext|>"},
		{"qwen2.ranks", "tiktoken", 151665, 151645, "<|im_end|>", -1, 151645, ""},
		{"tekken", "tokenizer.json", 3048, 1256, "\u0120t", 1, 2, "<s>"},
		{"tekken.ranks", "tekken.json", 3048, 1256, " t", 1, 2, "<s>"},
	} {
		tok := family(t, c.name)
		bos, eos := int32(-1), int32(-1)
		if id, ok := tok.BOS(); ok {
			bos = id
		}
		if id, ok := tok.EOS(); ok {
			eos = id
		}
		piece, _ := tok.Token(c.id)
		if tok.Kind() != c.kind || tok.Size() != c.size || bos != c.bos || eos != c.eos || tok.BOSText() != c.bosText || piece != c.piece {
			t.Errorf("%s: %s, %d tokens, BOS %d %q, EOS %d, token %d %q", c.name, tok.Kind(), tok.Size(), bos, tok.BOSText(), eos, c.id, piece)
		}
	}
	// The digest of a file that nothing beside it changes is that of SHA256SUMS of the data.
	if d := family(t, "llama3.model").Digest(); d != "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55" {
		t.Errorf("digest of Llama-3's tokenizer.model: %s", d)
	}
}

// TestNFC compares with package norm where both have the same data.
func TestNFC(t *testing.T) {
	plain := func(r rune) bool { // no character that the two take differently
		d := []rune(norm.NFD.String(string(r)))
		return utf8.ValidRune(r) && !slices.ContainsFunc(append(d, r), func(r rune) bool {
			return isLateMark(r) || r == 0x11930 || slices.Contains(lateComposites, r)
		}) && older(string(r))
	}
	var marks, starters []rune
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if r > 0x2FFFF && r < 0xE0000 || r >= 0xE1000 || !plain(r) {
			continue
		}
		s := string(r)
		if got, want := nfc(s), norm.NFC.String(s); got != want {
			t.Fatalf("nfc(%U) = %+q, want %+q", r, got, want)
		}
		if p := norm.NFC.PropertiesString(s); p.CCC() != 0 || !p.BoundaryBefore() {
			marks = append(marks, r)
		} else if p.Decomposition() != nil || r < 0x250 || r >= 0x1100 && r < 0x1200 {
			starters = append(starters, r)
		}
	}
	pcg := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		var s []rune
		for range 1 + pcg.IntN(8) {
			s = append(s, starters[pcg.IntN(len(starters))])
			for range pcg.IntN(5) {
				s = append(s, marks[pcg.IntN(len(marks))])
			}
		}
		s = append(s, 'x', rune(0xAC00+pcg.IntN(11172)), rune(0x11A7+pcg.IntN(28)))
		if got, want := nfc(string(s)), norm.NFC.String(string(s)); got != want {
			t.Fatalf("nfc(%+q) = %+q, want %+q", string(s), got, want)
		}
	}
	for in, want := range map[string]string{
		"a" + strings.Repeat("\u0301", 40): "\u00e1" + strings.Repeat("\u0301", 39), // no U+034F after 30 marks
		"\U00011935\U00011930":             "\U00011935\U00011930",
		"\U00011938":                       "\U00011938",
		"a\u0301\u1ac1\u0316":              "\u00e1\u1ac1\u0316", // U+1AC1 (220) has no class there, so nothing moves
		"a\u1ac1\u0301":                    "a\u1ac1\u0301",
		"a\u0301\u0316":                    "\u00e1\u0316",
		"a\u0316\u0301":                    "\u00e1\u0316",
		"\u1112\u1161\u11ab":               "\ud55c",
		"\u212b\u2126":                     "\u00c5\u03a9",
		"\u0958":                           "\u0915\u093c",
		"":                                 "",
	} {
		if got := nfc(in); got != want {
			t.Errorf("nfc(%+q) = %+q, want %+q", in, got, want)
		}
	}
}

// byteTokens is a small vocabulary by rank: the bytes in an order of their own, then tokens that overlap and tie, one of
// which no merge of two others makes.
func byteTokens() []string {
	var out []string
	for b := range 256 {
		out = append(out, string([]byte{byte(b) ^ 0x61}))
	}
	return append(out, " t", "he", " the", "aa", "aaa", "ab", "ba", "aab", "  ", "\n\n", "\xc3\xa9", "\xe6\x97", "\xe6\x97\xa5", "\x85 ", "11", "111", " a", "'s", "qzxq", "aaaa", "\xf0\x9f\x98", "!!", "!!!", "ss")
}

func rankFile(tokens []string) []byte {
	var b strings.Builder
	for i, t := range tokens {
		fmt.Fprintf(&b, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(t)), i)
	}
	return []byte(b.String())
}

// spell writes bytes in GPT-2's alphabet.
func spell(token string) string {
	var b strings.Builder
	for i := range len(token) {
		b.WriteRune(byteAlphabet[token[i]])
	}
	return b.String()
}

// mergesOf are the merges of two tokens into a third, in the order of its rank.
func mergesOf(tokens []string) (out []string) {
	for _, t := range tokens {
		for at := 1; at < len(t); at++ {
			if slices.Contains(tokens, t[:at]) && slices.Contains(tokens, t[at:]) {
				out = append(out, spell(t[:at])+" "+spell(t[at:]))
			}
		}
	}
	return out
}

func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func vocabJSON(tokens []string) string {
	var b strings.Builder
	for i, t := range tokens {
		fmt.Fprintf(&b, ", %s: %d", quoted(spell(t)), i)
	}
	return "{" + b.String()[2:] + "}"
}

// byteJSON is the vocabulary as a tokenizer.json, with two added tokens.
func byteJSON(tokens []string, pre string, ignoreMerges bool) string {
	return `{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [
{"id": 300, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
{"id": 301, "content": "<t>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": true, "special": false}],
"normalizer": null, "pre_tokenizer": ` + pre + `,
"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel", "trim_offsets": false}, {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
 "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}}}]},
"decoder": {"type": "ByteLevel"},
"model": {"type": "BPE", "ignore_merges": ` + fmt.Sprint(ignoreMerges) + `, "vocab": ` + vocabJSON(tokens) + `,
"merges": ` + quoted(mergesOf(tokens)) + `}}`
}

func splitBy(pattern string) string {
	return `{"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": ` + quoted(pattern) + `}, "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}`
}

const gpt2Pre = `{"type": "ByteLevel", "add_prefix_space": false}`

func tekkenJSON(tokens []string, pattern string) string {
	var b strings.Builder
	for i, t := range tokens {
		fmt.Fprintf(&b, `, {"rank": %d, "token_bytes": %q, "token_str": null}`, i, base64.StdEncoding.EncodeToString([]byte(t)))
	}
	return fmt.Sprintf(`{"config": {"pattern": %s, "num_vocab_tokens": %d, "default_vocab_size": %d, "default_num_special_tokens": 20, "version": "v3"}, "vocab": [%s]}`,
		quoted(pattern), len(tokens), len(tokens)+20, b.String()[2:])
}

var qwenSide = settings{class: "Qwen2Tokenizer", added: json.RawMessage(`{"300": {"content": "<s>", "special": true}}`)}

// byteOracle is byte-level BPE as tiktoken defines it, without any of this package's tables: the pattern is read by a
// backtracking matcher, and in a word the two neighbours whose joined bytes have the lowest rank are merged, the leftmost
// first, again and again.
type byteOracle struct {
	ranks   map[string]int32
	pattern rx
	whole   bool
	nfc     bool
}

func newByteOracle(tokens []string, pattern string, whole bool) *byteOracle {
	o := &byteOracle{ranks: make(map[string]int32), pattern: compileRX(pattern), whole: whole}
	for i, t := range tokens {
		if t != "" {
			o.ranks[t] = int32(i)
		}
	}
	return o
}

func (o *byteOracle) encode(text string) (out []int32) {
	for _, w := range o.pattern.words(text) {
		if id, ok := o.ranks[w]; ok && o.whole {
			out = append(out, id)
			continue
		}
		parts := strings.Split(w, "")[:0]
		for i := range len(w) {
			parts = append(parts, w[i:i+1])
		}
		for {
			best, low := -1, int32(0)
			for i := 0; i+1 < len(parts); i++ {
				if r, ok := o.ranks[parts[i]+parts[i+1]]; ok && (best < 0 || r < low) {
					best, low = i, r
				}
			}
			if best < 0 {
				break
			}
			parts = slices.Replace(parts, best, best+2, parts[best]+parts[best+1])
		}
		for _, p := range parts {
			out = append(out, o.ranks[p])
		}
	}
	return out
}

// smallByteLevel are the small vocabulary's files of every kind, with the oracle for each and the ids that its own begin at.
func smallByteLevel(tb testing.TB) (toks []Tokenizer, oracles []*byteOracle, offsets []int32) {
	tokens := byteTokens()
	add := func(t Tokenizer, err error, pattern string, whole, nfc bool, offset int32) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		o := newByteOracle(tokens, pattern, whole)
		o.nfc = nfc
		toks, oracles, offsets = append(toks, t), append(oracles, o), append(offsets, offset)
	}
	for _, whole := range []bool{false, true} {
		for _, pattern := range []string{patternLlama3, patternQwen2, patternTekken} {
			t, err := parse([]byte(byteJSON(tokens, splitBy(pattern), whole)), settings{})
			add(t, err, pattern, whole, false, 0)
		}
		t, err := parse([]byte(byteJSON(tokens, gpt2Pre, whole)), settings{})
		add(t, err, patternGPT2, whole, false, 0)
	}
	t, err := parse(rankFile(tokens), qwenSide)
	add(t, err, patternQwen2, true, true, 0)
	t, err = parse([]byte(tekkenJSON(tokens, patternTekken)), settings{})
	add(t, err, patternTekken, true, false, 20)
	side := qwenSide
	side.class, side.mergesName = "GPT2Tokenizer", "merges.txt"
	side.merges = []byte("#version: 0.2\n" + strings.Join(mergesOf(tokens), "\n"))
	t, err = parse([]byte(vocabJSON(tokens)), side)
	add(t, err, patternGPT2, false, false, 0)
	return toks, oracles, offsets
}

// checkBytes holds a text against the oracle and the rules of byte-level tokenizers.
func checkBytes(t *testing.T, tok Tokenizer, o *byteOracle, offset int32, s string) {
	t.Helper()
	fixed := repair(s)
	if o.nfc {
		fixed = nfc(fixed)
	}
	ids := tok.Encode(s, false)
	if back := decode(t, tok, ids); back != fixed {
		t.Fatalf("%q comes back as %q", s, back)
	}
	st, streamed := NewStream(tok), ""
	for _, id := range ids {
		part := st.Push(id)
		if !utf8.ValidString(part) {
			t.Fatalf("%q: half a character %q", s, part)
		}
		streamed += part
	}
	if streamed += st.Flush(); streamed != fixed {
		t.Fatalf("%q streams as %q", s, streamed)
	}
	if len(s) > 400 || !older(fixed) || strings.Contains(fixed, "<t>") {
		return
	}
	want := o.encode(fixed)
	for i := range want {
		want[i] += offset
	}
	if !slices.Equal(ids, want) {
		t.Fatalf("%T %q: %v, want %v", tok, s, ids, want)
	}
}

func TestByteLevelAgainstDefinition(t *testing.T) {
	toks, oracles, offsets := smallByteLevel(t)
	chars := []rune("aaab the'sS1 1\n日é😀!!qzx\u0301\t<s>")
	pcg := rand.New(rand.NewPCG(5, 6))
	for i, tok := range toks {
		for range 600 {
			s := make([]rune, pcg.IntN(30))
			for k := range s {
				s[k] = chars[pcg.IntN(len(chars))]
			}
			checkBytes(t, tok, oracles[i], offsets[i], string(s))
		}
		for _, s := range []string{"", strings.Repeat("a", 200), strings.Repeat("ab", 90), "qzxq qzxqa", "\xe6\x97 \xff", strings.Repeat(" ", 100), " aaaa"} {
			checkBytes(t, tok, oracles[i], offsets[i], s)
		}
	}
}

// TestRanksAgainstDefinition holds the published rank files against the definition on lines of real text.
func TestRanksAgainstDefinition(t *testing.T) {
	for _, c := range []struct{ name, pattern string }{{"llama3.model", patternLlama3}, {"qwen2.ranks", patternQwen2}, {"phi4.ranks", patternLlama3}} {
		v, err := parseRanks(readShared(t, families[c.name]...))
		if err != nil {
			t.Fatal(err)
		}
		o := newByteOracle(v.pieces, c.pattern, true)
		o.nfc = c.name == "qwen2.ranks"
		tok := family(t, c.name)
		for _, l := range wikiLines(t)[:150] {
			checkBytes(t, tok, o, 0, l[:min(len(l), 300)])
		}
		strs := jsonRows[testString](t, "golden", "tokenizers", "adversarial", "strings.jsonl")
		for _, s := range strs {
			if text := s.s(t); !strings.Contains(text, "<") && !strings.Contains(text, "[") { // no added tokens
				checkBytes(t, tok, o, 0, text)
			}
		}
	}
}

func FuzzByteLevel(f *testing.F) {
	toks, oracles, offsets := smallByteLevel(f)
	for _, s := range []string{"", " ", "  a the ab", "日本é😀", "\xff\xe4\xb8 a", "I'LL 'ſ 12345", "aAbB日B/\n/", "e\u0301\u0316", " \n \r\n  x", strings.Repeat("ab", 50), "<s>a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for i, tok := range toks {
			if !strings.Contains(s, "<t>") {
				checkBytes(t, tok, oracles[i], offsets[i], s)
			}
			tok.EncodeParsed(s, true)
		}
	})
}

// fewTokens keeps the seeds of the loaders' fuzzing small.
func fewTokens() []string { return byteTokens()[:256+6] }

func FuzzLoadRanks(f *testing.F) {
	f.Add(rankFile(fewTokens()))
	f.Add([]byte("IQ== 0\r\nIg== 1\n\nIQ= 3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := loadRanks(data, qwenSide)
		checkLoaded(t, tok, err)
	})
}

func FuzzLoadTekken(f *testing.F) {
	f.Add([]byte(tekkenJSON(fewTokens(), patternTekken)))
	f.Add([]byte(`{"config": {"pattern": "x", "default_vocab_size": 1, "default_num_special_tokens": 65536}, "vocab": [], "special_tokens": [{"rank": 0, "token_str": "a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := loadTekken(data, settings{})
		checkLoaded(t, tok, err)
	})
}

func FuzzLoadVocabulary(f *testing.F) {
	f.Add([]byte(vocabJSON(fewTokens())), []byte(strings.Join(mergesOf(fewTokens()), "\n")))
	f.Add([]byte(`{"a": 0}`), []byte("#version\na b"))
	f.Fuzz(func(t *testing.T, data, merges []byte) {
		tok, err := loadVocabulary(data, merges, "merges.txt", qwenSide)
		checkLoaded(t, tok, err)
	})
}

func FuzzLoadByteJSON(f *testing.F) {
	f.Add([]byte(byteJSON(fewTokens(), gpt2Pre, true)))
	f.Add([]byte(byteJSON(fewTokens()[250:], splitBy(patternTekken), false)))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := loadHF(data, settings{})
		checkLoaded(t, tok, err)
	})
}

func checkLoaded(t *testing.T, tok Tokenizer, err error) {
	t.Helper()
	if err == nil {
		useLoaded(t, tok)
	} else if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

func TestBadByteLevelJSON(t *testing.T) {
	file := byteJSON(byteTokens(), splitBy(patternLlama3), true)
	for _, c := range [][3]string{ // old, new, what the error says
		{quoted(patternLlama3), `"\\w+|x"`, `pre_tokenizer Split: the pattern "\\w+|x" is not known, expected that of GPT-2`},
		{`{"Regex": `, `{"String": `, `is not supported, expected a Regex`},
		{`"behavior": "Isolated"`, `"behavior": "Removed"`, `Split with behavior "Removed" and invert false is not supported`},
		{`"use_regex": false`, `"use_regex": true`, `with use_regex true is not supported`},
		{`"add_prefix_space": false`, `"add_prefix_space": true`, `with add_prefix_space true is not supported, expected false`},
		{splitBy(patternLlama3), `{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}`, `with use_regex false and no Split`},
		{splitBy(patternLlama3), `null`, `pre_tokenizer null is not supported, expected ByteLevel`},
		{splitBy(patternLlama3), `{"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]}`, `pre_tokenizer Sequence[Digits, ByteLevel] is not supported`},
		{`"normalizer": null`, `"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}`, `normalizer Sequence[NFC, Lowercase]: Lowercase is not supported`},
		{`"decoder": {"type": "ByteLevel"}`, `"decoder": {"type": "Fuse"}`, `decoder Fuse is not supported with a byte-level pre_tokenizer`},
		{`"decoder": {"type": "ByteLevel"}`, `"decoder": null`, `decoder null is not supported with a byte-level`},
		{`{"type": "ByteLevel", "trim_offsets": false}, `, `{"type": "BertProcessing"}, `, `post_processor Sequence[BertProcessing, TemplateProcessing] is not supported`},
		{`"a": 0, `, ``, `model.vocab: no token of the byte 0x61`},
		{`"single_word": false`, `"single_word": true`, `has single_word true`},
		{`"type": "BPE"`, `"type": "WordPiece"`, `model type "WordPiece" is not supported, expected "BPE"`},
		{`"vocab": {`, `"vocab": [`, `line 8: '[', expected '{'`},
		{quoted(spell("aa") + " a"), `"aa zzzz"`, `line 9: model.merges[5]: "aa", "zzzz" and "aazzzz" are not all in model.vocab`},
	} {
		if !strings.Contains(file, c[0]) {
			t.Fatalf("%s is not in the file", c[0])
		}
		_, err := parse([]byte(strings.Replace(file, c[0], c[1], 1)), settings{})
		checkError(t, c[1], err, c[2])
	}
	// A Split that removes what does not match leaves the same, since the patterns match everything.
	same, err := parse([]byte(strings.Replace(file, `"behavior": "Isolated", "invert": false`, `"behavior": "Removed", "invert": true`, 1)), settings{})
	if err != nil {
		t.Fatal(err)
	}
	if ids := same.Encode(" the qzxqab", true); !slices.Equal(ids, []int32{300, 258, ' ' ^ 0x61, 'q' ^ 0x61, 'z' ^ 0x61, 'x' ^ 0x61, 'q' ^ 0x61, 261}) {
		t.Errorf("%v", ids)
	}
	for n := 0; n < len(file)-1; n += 7 {
		if _, err := parse([]byte(file[:n]), settings{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// TestByteLevelHandComputed checks ids worked out by hand for the small vocabulary: a byte b has the rank b^0x61, " t" is
// 256, "he" 257, " the" 258, "aa" 259, "aaa" 260, "ab" 261 and "qzxq", which no merge makes, 274.
func TestByteLevelHandComputed(t *testing.T) {
	b := func(c byte) int32 { return int32(c ^ 0x61) }
	for _, c := range []struct {
		pre    string
		whole  bool
		text   string
		plain  []int32
		parsed []int32
	}{
		{splitBy(patternLlama3), true, " the", []int32{258}, []int32{258}},
		{splitBy(patternLlama3), true, "qzxq", []int32{274}, []int32{274}},
		{splitBy(patternLlama3), false, "qzxq", []int32{b('q'), b('z'), b('x'), b('q')}, []int32{b('q'), b('z'), b('x'), b('q')}},
		{splitBy(patternLlama3), true, "aaaaa", []int32{259, 260}, []int32{259, 260}}, // aa aa a, then aaa, whose rank is below that of aaaa
		{splitBy(patternLlama3), true, "a<s>a", []int32{0, b('<'), b('s'), b('>'), 0}, []int32{0, 300, 0}},
		{splitBy(patternLlama3), true, "a <t>\n a", []int32{0, 301, 0}, []int32{0, 301, 0}}, // swallows the white space
		{gpt2Pre, false, "x'sS", []int32{b('x'), 273, b('S')}, []int32{b('x'), 273, b('S')}},
		{`{"type": "ByteLevel", "add_prefix_space": true}`, false, "the<s> the", []int32{258, b('<'), b('s'), b('>'), 258}, []int32{258, 300, 258}},
	} {
		tok, err := parse([]byte(byteJSON(byteTokens(), c.pre, c.whole)), settings{})
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode(c.text, false); !slices.Equal(got, c.plain) {
			t.Errorf("%q: %v, want %v", c.text, got, c.plain)
		}
		if got := tok.EncodeParsed(c.text, true); !slices.Equal(got, append([]int32{300}, c.parsed...)) {
			t.Errorf("%q parsed: %v, want 300 and %v", c.text, got, c.parsed)
		}
	}
}

func TestBadRanks(t *testing.T) {
	good := string(rankFile(byteTokens()))
	side := func(change func(s *settings)) settings {
		s := qwenSide
		change(&s)
		return s
	}
	for _, c := range []struct {
		old, new string
		side     settings
		want     string
	}{
		{"AA== 97\n", "", qwenSide, "no token of the byte 0x00"},
		{"AA== 97\n", "AA== x\n", qwenSide, `line 98 is "AA== x", expected a token in base64, a space and a rank`},
		{"AA== 97\n", "AA==97\n", qwenSide, `line 98 is "AA==97"`},
		{"AA== 97\n", "A=== 97\n", qwenSide, `line 98: "A===" is not base64`},
		{"AA== 97\n", "AA== 96\n", qwenSide, `line 98: id 96 belongs to two tokens`},
		{"AA== 97\n", "AQ== 97\n", qwenSide, `line 98: token "\x01" is defined twice, as 96 and as 97`},
		{"AA== 97\n", "AA== 99999\n", qwenSide, `has id 99999, expected 0 to`},
		{"AA== 97\n", "AA== 97\n" + base64.StdEncoding.EncodeToString(make([]byte, 1025)) + " 400\n", qwenSide, "line 99: a token of 1025 bytes, expected at most 1024"},
		{"", "", settings{}, "280 tokens of an unknown vocabulary, and nothing beside it says how text is cut"},
		{"", "", settings{class: "GPT2TokenizerFast"}, `tokenizer_class "GPT2TokenizerFast" beside it does not say`},
		{"", "", settings{class: "Qwen2Tokenizer"}, "the special tokens of a Qwen vocabulary differ between the models that use it, expected a tokenizer.json, or a tokenizer_config.json with added_tokens_decoder"},
		{"", "", side(func(s *settings) { s.added = json.RawMessage(`[]`) }), `tokenizer_config.json: added_tokens_decoder is "[]", expected an object`},
		{"", "", side(func(s *settings) { s.added = json.RawMessage(`{"x": {"content": "a"}}`) }), `added_tokens_decoder has the key "x", expected an id`},
		{"", "", side(func(s *settings) { s.added = json.RawMessage(`{"5": {}}`) }), `added_tokens_decoder 5 is "{}", expected an object with content`},
		{"", "", side(func(s *settings) { s.added = json.RawMessage(`{"5": {"content": "<s>"}}`) }), `id 5 belongs to a token of text, "d", and to the special token "<s>"`},
		{"", "", side(func(s *settings) { s.added = json.RawMessage(`{"999999": {"content": "<s>"}}`) }), `token "<s>" has id 999999`},
		{"", "", side(func(s *settings) { yes := true; s.addBOS = &yes }), "add_bos_token of tokenizer_config.json is true, but the tokenizer has no BOS"},
	} {
		_, err := parse([]byte(strings.Replace(good, c.old, c.new, 1)), c.side)
		checkError(t, c.new, err, c.want)
	}
	for n := 0; n < len(good)-2; n += 5 {
		if _, err := parse([]byte(good[:n]), settings{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	// A special token may be spelled like a token of text, and the numbering may have holes.
	tok, err := parse([]byte(strings.Replace(good, " 279\n", " 290\n", 1)), settings{class: "Qwen2Tokenizer", added: json.RawMessage(`{"300": {"content": "aa", "special": true}}`), eos: named{text: "aa", file: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	eos, _ := tok.EOS()
	if got, want := append(tok.Encode("aa", false), tok.EncodeParsed("aass", false)...), []int32{259, 300, 290}; !slices.Equal(got, want) || eos != 300 {
		t.Errorf("%v and EOS %d, want %v", got, eos, want)
	}
	if _, err := tok.Decode([]int32{280}); err == nil {
		t.Error("no error for a hole in the numbering")
	}
}

func TestBadTekken(t *testing.T) {
	good := tekkenJSON(byteTokens(), patternTekken)
	for _, c := range [][3]string{
		{quoted(patternTekken), `"."`, `config.pattern: the pattern "." is not known`},
		{`"config"`, `"confg"`, `unknown key "confg"`},
		{`"rank": 7,`, `"rank": 8,`, `vocab[7] has rank 8, expected 7`},
		{`"token_bytes": "YQ=="`, `"token_bytes": "Y"`, `vocab[0].token_bytes "Y" is not base64`},
		{`"token_bytes": "YQ=="`, `"token_bytes": "YA=="`, `vocab: token "` + "`" + `" is defined twice`},
		{`"token_bytes": "YQ=="`, `"bytes": "YQ=="`, `unknown key vocab[0]."bytes"`},
		{`"default_vocab_size": 300`, `"default_vocab_size": 301`, `vocab has 280 entries, expected at least the 281`},
		{`"default_vocab_size": 300`, `"default_vocab_size": 90000`, `config.default_vocab_size 90000 with default_num_special_tokens 20`},
		{`"default_num_special_tokens": 20`, `"default_num_special_tokens": -1`, `default_num_special_tokens -1`},
		{`"default_num_special_tokens": 20`, `"default_num_special_tokens": "x"`, `expected a int`},
		{`"default_num_special_tokens": 20, `, ``, `config without pattern`},
		{`{"config"`, `{"special_tokens": [{"rank": 20, "token_str": "<x>"}], "config"`, `special_tokens[0] "<x>" has rank 20, expected one of its own below 20`},
		{`{"config"`, `{"special_tokens": [{"rank": 2}], "config"`, `special_tokens[0] without rank or token_str`},
		{`"vocab": [`, `"vocab": {`, ``},
	} {
		if !strings.Contains(good, c[0]) {
			t.Fatalf("%s is not in the file", c[0])
		}
		_, err := parse([]byte(strings.Replace(good, c[0], c[1], 1)), settings{})
		checkError(t, c[1], err, c[2])
	}
	for n := 1; n < len(good)-1; n += 7 {
		if _, err := parse([]byte(good[:n]), settings{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	// Newer files list their special tokens.
	tok, err := parse([]byte(strings.Replace(good, `{"config"`, `{"special_tokens": [{"rank": 1, "token_str": "<s>", "is_control": true}, {"rank": 2, "token_str": "</s>"}, {"rank": 4, "token_str": "[X]"}], "config"`, 1)), settings{})
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.EncodeParsed("aa[X]", true); !slices.Equal(got, []int32{1, 279, 4}) {
		t.Errorf("%v", got)
	}
	if s, _ := tok.Token(5); s != "<SPECIAL_5>" {
		t.Errorf("token 5 is %q", s)
	}
}

func TestBadVocabulary(t *testing.T) {
	side := qwenSide
	side.mergesName = "merges.txt"
	for _, c := range [][3]string{ // vocabulary, merges, what the error says
		{vocabJSON(byteTokens()), "#version: 0.2\na b c\n", `merges.txt: line 2 is "a b c", expected two tokens with one space between`},
		{vocabJSON(byteTokens()), "a b\nb q\n", `merges.txt: line 2: "b", "q" and "bq" are not all in the vocabulary`},
		{vocabJSON(byteTokens())[:100], "a b\n", `line 1: a string without end`},
		{strings.Replace(vocabJSON(byteTokens()), `"a": 0`, `"a": "0"`, 1), "", `'"', expected a token id for the vocabulary "a"`},
		{vocabJSON(byteTokens()) + "x", "", "'x' behind the end"},
		{vocabJSON(byteTokens()[1:]), "", "no token of the byte 0x61"},
	} {
		s := side
		s.merges = []byte(c[1])
		_, err := loadVocabulary([]byte(c[0]), s.merges, s.mergesName, s)
		checkError(t, c[0][:20], err, c[2])
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vocab.json"), []byte(vocabJSON(byteTokens())), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := Load(dir)
	checkError(t, "no merges", err, "vocab.json: the file is a bare vocabulary of tokens and ids, expected a tokenizer.json with a model, or the list of merges beside it")
	for name, content := range map[string]string{"merges.txt": strings.Join(mergesOf(byteTokens()), "\n"), "tokenizer_config.json": `{"tokenizer_class": "GPT2Tokenizer"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Load(dir)
	checkError(t, "no special tokens", err, "the special tokens of a GPT-2 vocabulary differ")
}

// TestByteLevelStreamBrokenBytes follows the rule by hand: what no later byte can complete comes out at once as one U+FFFD
// for every maximal subpart, and only the beginning of a character is held back.
func TestByteLevelStreamBrokenBytes(t *testing.T) {
	tokens := byteTokens()
	tok, err := parse(rankFile(tokens), qwenSide)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in    []string // bytes of each token
		emit  []string
		flush string
	}{
		{[]string{"\xc3", "\xa9", "a"}, []string{"", "é", "a"}, ""},
		{[]string{"\xc3", "a"}, []string{"", "\uFFFDa"}, ""},
		{[]string{"\x80", "\xff"}, []string{"\uFFFD", "\uFFFD"}, ""},
		{[]string{"\xe6\x97", "\xc3", "\xa9"}, []string{"", "\uFFFD", "é"}, ""},
		{[]string{"\xf0\x9f\x98", "a"}, []string{"", "\uFFFDa"}, ""},
		{[]string{"\xf0\x9f\x98", "\x80"}, []string{"", "😀"}, ""},
		{[]string{"\xf0\x9f\x98"}, []string{""}, "\uFFFD"},
		{[]string{"\xe6\x97", "\x85 ", "\x85 "}, []string{"", "旅 ", "\uFFFD "}, ""},
		{[]string{"\xed", "\xa0", "\x80"}, []string{"", "\uFFFD\uFFFD", "\uFFFD"}, ""}, // a surrogate is ill-formed from its second byte on
	} {
		var ids []int32
		var emit []string
		st := NewStream(tok)
		for _, b := range c.in {
			ids = append(ids, int32(slices.Index(tokens, b)))
			emit = append(emit, st.Push(ids[len(ids)-1]))
		}
		flush := st.Flush()
		if !slices.Equal(emit, c.emit) || flush != c.flush {
			t.Errorf("stream of %q: %q and %q, want %q and %q", c.in, emit, flush, c.emit, c.flush)
		}
		if got := decode(t, tok, ids); got != strings.Join(c.emit, "")+c.flush {
			t.Errorf("decode of %q: %q", c.in, got)
		}
		if again := st.Push(0); again != "a" {
			t.Errorf("after a flush: %q", again)
		}
	}
	// Whatever the ids, the parts are whole characters and join to the decoding.
	pcg := rand.New(rand.NewPCG(9, 10))
	for _, name := range []string{"gpt2", "llama3", "tekken"} {
		big := family(t, name)
		for range 300 {
			var ids []int32
			st, joined := NewStream(big), ""
			for range pcg.IntN(40) {
				id := pcg.Int32N(int32(big.Size()))
				if pcg.IntN(2) == 0 {
					id = pcg.Int32N(1256) // bytes
				}
				part := st.Push(id)
				if !utf8.ValidString(part) {
					t.Fatalf("%v: half a character %q", ids, part)
				}
				ids, joined = append(ids, id), joined+part
			}
			if want := decode(t, big, ids); joined+st.Flush() != want {
				t.Fatalf("%s %v: streams as %q, decodes as %q", name, ids, joined, want)
			}
		}
	}
}

// TestBareSettings: what the files beside a file of ranks or merges say.
func TestBareSettings(t *testing.T) {
	tokens := append(byteTokens(), strings.Repeat("=", 70)) // too long to be remembered, and no merge makes it
	added := `{"300": {"content": "<b>", "special": true}, "301": {"content": "<e>", "special": true}}`
	for _, c := range []struct {
		config, model string
		want          []int32 // of "é" in two characters, with template
	}{
		{`{"tokenizer_class": "Qwen2TokenizerFast", "added_tokens_decoder": ` + added + `}`, `{}`, []int32{266}},
		{`{"added_tokens_decoder": ` + added + `}`, `{"model_type": "qwen2"}`, []int32{266}},
		{`{"added_tokens_decoder": ` + added + `, "bos_token": "<b>", "add_bos_token": true}`, `{"model_type": "qwen2", "eos_token_id": 301}`, []int32{300, 266}},
		{`{"added_tokens_decoder": ` + added + `, "eos_token": {"content": "<e>"}, "add_eos_token": true}`, `{"model_type": "qwen2"}`, []int32{266, 301}},
		{`{"added_tokens_decoder": ` + added + `}`, `{"model_type": "gpt2"}`, []int32{'e' ^ 0x61, 0xCC ^ 0x61, 0x81 ^ 0x61}}, // no NFC; needs merges
	} {
		dir := t.TempDir()
		files := map[string]string{"x.tiktoken": string(rankFile(tokens)), "tokenizer_config.json": c.config, "config.json": c.model}
		if strings.Contains(c.model, "gpt2") {
			delete(files, "x.tiktoken")
			files["vocab.json"], files["merges.txt"] = vocabJSON(tokens), strings.Join(mergesOf(tokens), "\r\n")
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		tok, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode("e\u0301", true); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.config, c.model, got, c.want)
		}
		wantLong := []int32{280}
		if tok.Kind() == "vocab+merges" {
			wantLong = slices.Repeat([]int32{'=' ^ 0x61}, 70)
		}
		if got := tok.Encode(strings.Repeat("=", 70), false); !slices.Equal(got, wantLong) {
			t.Errorf("%s: a long token is %v", tok.Kind(), got)
		}
	}
	for config, want := range map[string]string{
		`{"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": ` + added + `, "eos_token": "<x>"}`: `eos_token "<x>" of tokenizer_config.json is not in the vocabulary`,
		`{"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": 5}`:                                 `added_tokens_decoder is "5", expected an object`,
		`{"tokenizer_class": 7}`: `280 tokens of an unknown vocabulary`,
	} {
		dir := t.TempDir()
		for name, content := range map[string]string{"a.tiktoken": string(rankFile(byteTokens())), "tokenizer_config.json": config} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Load(dir)
		checkError(t, config, err, want)
	}
}

// TestWholeAddedTokens: ignore_merges knows the tokens of the model only, wherever the ids of added ones lie.
func TestWholeAddedTokens(t *testing.T) {
	tokens := byteTokens()
	for _, id := range []string{"300", "270"} {
		file := strings.Replace(byteJSON(tokens, gpt2Pre, true), `"id": 300, "content": "<s>"`, `"id": `+id+`, "content": "xyz"`, 1)
		file = strings.Replace(strings.ReplaceAll(file, `"ids": [300]`, `"ids": [`+id+`]`), `"11": 270, `, "", 1) // a hole
		tok, err := parse([]byte(strings.Replace(file, `,"1 1","1 11","11 1"`, "", 1)), settings{})
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode("xyz qzxq", false); !slices.Equal(got, []int32{'x' ^ 0x61, 'y' ^ 0x61, 'z' ^ 0x61, ' ' ^ 0x61, 'q' ^ 0x61, 'z' ^ 0x61, 'x' ^ 0x61, 'q' ^ 0x61}) {
			t.Errorf("id %s: %v", id, got)
		}
		if got := tok.Encode("qzxq", false); !slices.Equal(got, []int32{274}) {
			t.Errorf("id %s: %v", id, got)
		}
	}
}
