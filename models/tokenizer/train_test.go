package tokenizer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// trainedRow is a tokenizer that the Hugging Face library trained (testdata/make_trained.py).
type trainedRow struct {
	Name         string   `json:"name"`
	Texts        []string `json:"texts"`
	Vocabulary   int      `json:"vocabulary"`
	MinFrequency int64    `json:"min_frequency"`
	File         string   `json:"file"`
}

func trainedRows(tb testing.TB) (rows []trainedRow) {
	tb.Helper()
	packed, err := os.ReadFile("testdata/trained.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		tb.Fatal(err)
	}
	s := bufio.NewScanner(z)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var row trainedRow
		if err := json.Unmarshal(s.Bytes(), &row); err != nil {
			tb.Fatal(err)
		}
		rows = append(rows, row)
	}
	if s.Err() != nil || len(rows) < 30 {
		tb.Fatalf("%d rows, %v", len(rows), s.Err())
	}
	return rows
}

// trainedFile is what the tests read of a trained file, with encoding/json.
type trainedFile struct {
	Model struct {
		Vocab  map[string]int32
		Merges [][2]string
	}
}

func readTrained(tb testing.TB, file []byte) (f trainedFile) {
	tb.Helper()
	if err := json.Unmarshal(file, &f); err != nil {
		tb.Fatalf("the file is no JSON: %v", err)
	}
	return f
}

// TestTrainAsHuggingFace compares whole files, byte by byte.
func TestTrainAsHuggingFace(t *testing.T) {
	exhausted := 0
	for _, row := range trainedRows(t) {
		o := TrainOptions{Vocabulary: row.Vocabulary, MinFrequency: row.MinFrequency}
		if n := len(readTrained(t, []byte(row.File)).Model.Vocab); n < o.Vocabulary {
			exhausted++
			_, err := TrainBPE(slices.Values(row.Texts), o)
			checkError(t, row.Name, err, fmt.Sprintf("which give %d tokens", n))
			o.Vocabulary = n
		}
		file, err := TrainBPE(slices.Values(row.Texts), o)
		if err != nil {
			t.Errorf("%s: %v", row.Name, err)
			continue
		}
		if string(file) != row.File {
			got, want := strings.Split(string(file), "\n"), strings.Split(row.File, "\n")
			at := 0
			for at < min(len(got), len(want))-1 && got[at] == want[at] {
				at++
			}
			t.Errorf("%s: line %d of the file is %q, the library has %q", row.Name, at+1, got[at], want[at])
		}
		slices.Reverse(row.Texts)
		if again, err := TrainBPE(slices.Values(row.Texts), o); err != nil || !bytes.Equal(file, again) {
			t.Errorf("%s: another order of the texts gives another file (%v)", row.Name, err)
		}
	}
	if exhausted == 0 {
		t.Error("no row has texts that are too few")
	}
}

// merged trains by the definition, counting everything anew at every step, and returns the merges.
func merged(texts []string, size int, minFrequency int64) (merges [][2]string) {
	id := map[string]int{"<unk>": 0, "<s>": 1, "</s>": 2}
	for r := range rune(0x144) {
		if slices.Contains(byteAlphabet[:], r) {
			id[string(r)] = len(id)
		}
	}
	words := map[string]int64{}
	rx := compileRX(patternGPT2)
	for _, text := range texts {
		for _, w := range rx.words(repair(text)) {
			words[w]++
		}
	}
	split := map[string][]string{}
	for w := range words {
		for _, c := range []byte(w) {
			split[w] = append(split[w], string(byteAlphabet[c]))
		}
	}
	for len(id) < size {
		count := map[[2]string]int64{}
		for w, s := range split {
			for i := range len(s) - 1 {
				count[[2]string{s[i], s[i+1]}] += words[w]
			}
		}
		var best [2]string
		for p, n := range count {
			if b := count[best]; n > b || n == b && slices.Compare([]int{id[p[0]], id[p[1]]}, []int{id[best[0]], id[best[1]]}) < 0 {
				best = p
			}
		}
		if count[best] < max(minFrequency, 1) {
			break
		}
		id[best[0]+best[1]] = len(id)
		merges = append(merges, best)
		for w, s := range split {
			split[w] = applyMerge(s, best)
		}
	}
	return merges
}

// applyMerge joins a pair wherever it stands, from left to right.
func applyMerge(s []string, pair [2]string) (out []string) {
	for i := 0; i < len(s); i++ {
		if i+1 < len(s) && s[i] == pair[0] && s[i+1] == pair[1] {
			out = append(out, pair[0]+pair[1])
			i++
		} else {
			out = append(out, s[i])
		}
	}
	return out
}

// checkTrained compares the trainer with the definition, and the ids of the file that it writes with the merges taken one
// after another.
func checkTrained(t *testing.T, texts []string, vocabulary int, minFrequency int64) {
	t.Helper()
	want := merged(texts, vocabulary, minFrequency)
	o := TrainOptions{Vocabulary: firstMerge + len(want), MinFrequency: minFrequency}
	file, err := TrainBPE(slices.Values(texts), o)
	if err != nil {
		t.Fatalf("%q: %v, the definition finds %d merges", texts, err, len(want))
	}
	f := readTrained(t, file)
	if !slices.Equal(f.Model.Merges, want) {
		t.Fatalf("%q: the merges are %q, by definition %q", texts, f.Model.Merges, want)
	}
	if o.Vocabulary < vocabulary {
		o.Vocabulary = vocabulary
		_, err := TrainBPE(slices.Values(texts), o)
		checkError(t, "too few texts", err, fmt.Sprintf("give %d tokens", firstMerge+len(want)))
	}
	tok, err := parse(file, settings{bos: named{id: -1}, eos: named{id: -1}})
	if err != nil {
		t.Fatalf("the written file does not load: %v", err)
	}
	if tok.Size() != firstMerge+len(want) {
		t.Fatalf("the tokenizer has %d tokens, expected %d", tok.Size(), firstMerge+len(want))
	}
	rx := compileRX(patternGPT2)
	for _, text := range texts {
		text = repair(text)
		ids := []int32{1}
		for _, w := range rx.words(text) {
			var s []string
			for _, c := range []byte(w) {
				s = append(s, string(byteAlphabet[c]))
			}
			for _, m := range want {
				s = applyMerge(s, m)
			}
			for _, piece := range s {
				ids = append(ids, f.Model.Vocab[piece])
			}
		}
		got := tok.Encode(text, true)
		if !slices.Equal(got, ids) {
			t.Fatalf("%q is encoded to %v, the merges in order give %v", text, got, ids)
		}
		if back := decode(t, tok, got[1:]); back != text {
			t.Fatalf("%q is decoded to %q", text, back)
		}
	}
}

func TestTrainAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 150 {
		alphabet := []string{"a", "b", "c", " ", " ", "d", "A", "1", "'s", "é", "語", "\n", "\xff", "<s>", "\"", "\\"}[:3+rng.IntN(14)]
		var texts []string
		for range 1 + rng.IntN(4) {
			var b strings.Builder
			for range rng.IntN(120) {
				b.WriteString(alphabet[rng.IntN(len(alphabet))])
			}
			texts = append(texts, b.String())
		}
		checkTrained(t, texts, firstMerge+rng.IntN(60), rng.Int64N(4))
	}
}

func TestTrainHandComputed(t *testing.T) {
	repeat := func(counts map[string]int) iter.Seq[string] {
		return func(yield func(string) bool) {
			for w, n := range counts {
				for range n {
					if !yield(w) {
						return
					}
				}
			}
		}
	}
	for _, c := range []struct {
		words  map[string]int
		merges string
	}{
		// The words of Sennrich et al., section 3.2. Pairs: es 9, st 9, we 8, lo 7, ow 7, ne 6, ew 6, wi 3, id 3, de 3, er 2.
		{map[string]int{"low": 5, "lower": 2, "newest": 6, "widest": 3}, "e s, es t, l o, lo w, e w, n ew, new est, d est, i dest, w idest, e r, low er"},
		// Both pairs of aaa count, so that it comes before bc, although it can be joined once only.
		{map[string]int{"aaa": 2, "bc": 3}, "a a, b c, aa a"},
		// Six letters: three pairs at first, which are two overlapping pairs then.
		{map[string]int{"aaaaaa": 1, "bc": 3}, "a a, b c, aa aa, aaaa aa"},
	} {
		want := strings.Split(c.merges, ", ")
		file, err := TrainBPE(repeat(c.words), TrainOptions{Vocabulary: firstMerge + len(want)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range readTrained(t, file).Model.Merges {
			got = append(got, m[0]+" "+m[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v gives the merges %q, expected %q", c.words, got, want)
		}
		_, err = TrainBPE(repeat(c.words), TrainOptions{Vocabulary: firstMerge + len(want) + 1})
		checkError(t, c.merges, err, fmt.Sprintf("give %d tokens", firstMerge+len(want)))
	}
}

// TestTrainedFolder reads a trained tokenizer with its config beside it, as a model's folder has them.
func TestTrainedFolder(t *testing.T) {
	row := trainedRows(t)[0]
	file, err := TrainBPE(slices.Values(row.Texts), TrainOptions{Vocabulary: 300})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"tokenizer.json": file, "tokenizer_config.json": TrainedConfig(512), "config.json": []byte(`{"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	bos, hasBOS := tok.BOS()
	eos, hasEOS := tok.EOS()
	if bos != 1 || eos != 2 || !hasBOS || !hasEOS || tok.BOSText() != "<s>" || tok.Size() != 300 || tok.Kind() != "tokenizer.json" {
		t.Errorf("BOS %d %t %q, EOS %d %t, size %d, kind %s, expected 1, 2 and 300 tokens", bos, hasBOS, tok.BOSText(), eos, hasEOS, tok.Size(), tok.Kind())
	}
	if sum := sha256.Sum256(file); tok.Digest() != hex.EncodeToString(sum[:]) {
		t.Error("the config beside the tokenizer changes its digest")
	}
	if ids := tok.Encode("", true); !slices.Equal(ids, []int32{1}) {
		t.Errorf("the empty text is encoded to %v, expected <s>", ids)
	}
	if ids := tok.EncodeParsed("</s><unk>", true); !slices.Equal(ids, []int32{1, 2, 0}) {
		t.Errorf("special tokens are parsed to %v, expected 1 2 0", ids)
	}
	if ids := tok.Encode("<s>", false); slices.Contains(ids, 1) {
		t.Errorf("the text <s> is encoded to %v, expected ordinary text", ids)
	}
	var config map[string]any
	if err := json.Unmarshal(TrainedConfig(512), &config); err != nil || config["model_max_length"] != 512.0 || config["bos_token"] != "<s>" {
		t.Errorf("the config is %v (%v)", config, err)
	}
}

func TestBadTrainOptions(t *testing.T) {
	texts := []string{"some words and some other words"}
	for _, c := range []struct {
		o    TrainOptions
		want string
	}{
		{TrainOptions{}, "the vocabulary is 0, expected 259 to"},
		{TrainOptions{Vocabulary: 258}, "the vocabulary is 258, expected 259 to"},
		{TrainOptions{Vocabulary: maxSymbols + 1}, "expected 259 to 1048576 tokens"},
		{TrainOptions{Vocabulary: 300, MinFrequency: -1}, "the minimum frequency is -1"},
		{TrainOptions{Vocabulary: 300, WordBytes: -1}, "the bound on word bytes is -1"},
		{TrainOptions{Vocabulary: 300, WordBytes: maxWordBytes + 1}, "the bound on word bytes is 536870913, expected at most 536870912"},
		{TrainOptions{Vocabulary: 262, WordBytes: 21}, "the distinct words have more than 21 bytes"},
		{TrainOptions{Vocabulary: 300, MinFrequency: 2}, "5 distinct words, which give 267 tokens at a minimum frequency of 2"},
	} {
		_, err := TrainBPE(slices.Values(texts), c.o)
		checkError(t, fmt.Sprintf("%+v", c.o), err, c.want)
	}
	// some, " words", " and", " some", " other" are 26 bytes.
	if _, err := TrainBPE(slices.Values(texts), TrainOptions{Vocabulary: 262, WordBytes: 26}); err != nil {
		t.Errorf("a bound that is kept: %v", err)
	}
	if _, err := TrainBPE(slices.Values([]string(nil)), TrainOptions{Vocabulary: 259}); err != nil {
		t.Errorf("no text and no merge: %v", err)
	}
}

func FuzzTrainBPE(f *testing.F) {
	f.Add("low low lower newest widest", "aaa aaaa\xff\"\\", byte(20), byte(0))
	f.Add("ababab\n\n  baba", "", byte(40), byte(2))
	f.Fuzz(func(t *testing.T, a, b string, merges, minFrequency byte) {
		if len(a)+len(b) > 1000 {
			t.Skip("longer than the definition can do")
		}
		checkTrained(t, []string{a, b, a}, firstMerge+int(merges), int64(minFrequency))
	})
}

// BenchmarkTrainBPE trains on 20 MB of made-up words with a frequency of one through their rank.
func BenchmarkTrainBPE(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 60000)
	for i := range words {
		for range 1 + rng.IntN(4) {
			words[i] += string("bcdfghklmnprstvw"[rng.IntN(16)]) + string("aeiou"[rng.IntN(5)])
		}
	}
	zipf := rand.NewZipf(rng, 1.05, 1, uint64(len(words)-1))
	var texts []string
	total := 0
	for total < 20e6 {
		var s strings.Builder
		for range 50 {
			s.WriteString(words[zipf.Uint64()])
			s.WriteByte(' ')
		}
		texts = append(texts, s.String())
		total += s.Len()
	}
	for _, vocabulary := range []int{2000, 32000} {
		b.Run(fmt.Sprint(vocabulary), func(b *testing.B) {
			timed(b, total, func() {
				if _, err := TrainBPE(slices.Values(texts), TrainOptions{Vocabulary: vocabulary}); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
