package tokenizer

import (
	"bytes"
	"container/heap"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// TrainOptions say what TrainBPE makes.
type TrainOptions struct {
	// Vocabulary is the number of tokens: <unk>, <s>, </s>, the 256 bytes, and merges for the rest.
	Vocabulary int
	// MinFrequency is the number of occurrences below which a pair is not merged; 0 is 1.
	MinFrequency int64
	// WordBytes bounds the memory: it is the largest sum of the lengths of the distinct words in bytes, each of which costs
	// 35 to 75 bytes of memory. More is an error. 0 is 16 MiB; 20 MB of English have less than 1 MiB.
	WordBytes int64
}

// The special tokens of a trained tokenizer, by id: the numbers of the Llama family. <unk> has its place for the sake of
// those numbers; no text is encoded to it.
var trainedSpecials = [...]string{"<unk>", "<s>", "</s>"}

// firstMerge is the id of the first token that a merge makes.
const firstMerge = len(trainedSpecials) + 256

// TrainBPE trains a byte-level BPE tokenizer on texts and returns it as the bytes of a tokenizer.json that Load and the
// Hugging Face libraries read (tokenizers from 0.20 on). Its encoding of a text begins with <s> where special tokens are
// asked for. The result depends on nothing but the multiset of texts and o.
//
// A text is repaired if it is no UTF-8, as at encoding, and cut into words by GPT-2's pattern; the text of a special token
// is ordinary text. A word starts as its bytes. Then the most frequent pair of neighbours becomes a token, everywhere from
// left to right, until there are o.Vocabulary tokens (R. Sennrich et al., "Neural machine translation of rare words with
// subword units", 2016, algorithm 1). These rules settle the rest, and are those of the BpeTrainer of Hugging Face's
// tokenizers 0.23, which gives the same file:
//
//   - Ids: the special tokens, the bytes in the order of their characters in GPT-2's alphabet, the merges in their order.
//   - Overlapping pairs count: the word aaa has the pair (a, a) twice.
//   - Among pairs of the same frequency the one with the smaller id on the left is first, then the smaller on the right.
//
// Texts with too few pairs for the vocabulary are an error that says how far they reach.
func TrainBPE(texts iter.Seq[string], o TrainOptions) ([]byte, error) {
	switch {
	case o.Vocabulary < firstMerge || o.Vocabulary > maxSymbols:
		return nil, fmt.Errorf("train a tokenizer: the vocabulary is %d, expected %d to %d tokens (%d special ones and the 256 bytes among them)", o.Vocabulary, firstMerge, maxSymbols, len(trainedSpecials))
	case o.MinFrequency < 0:
		return nil, fmt.Errorf("train a tokenizer: the minimum frequency is %d, expected 0 or more", o.MinFrequency)
	case o.WordBytes < 0 || o.WordBytes > maxWordBytes:
		return nil, fmt.Errorf("train a tokenizer: the bound on word bytes is %d, expected at most %d, or 0 for %d", o.WordBytes, maxWordBytes, defaultWordBytes)
	}
	t := newPairTrainer()
	if err := t.count(texts, o.WordBytes); err != nil {
		return nil, fmt.Errorf("train a tokenizer: %w", err)
	}
	t.train(o.Vocabulary, max(o.MinFrequency, 1))
	if n := len(t.pieces); n < o.Vocabulary {
		return nil, fmt.Errorf("train a tokenizer: the texts have %d distinct words, which give %d tokens at a minimum frequency of %d, expected enough for the vocabulary of %d", len(t.words), n, max(o.MinFrequency, 1), o.Vocabulary)
	}
	return t.file(), nil
}

// TrainedConfig returns the bytes of the tokenizer_config.json that belongs beside a file of TrainBPE. maxLength is the
// model's context in tokens.
func TrainedConfig(maxLength int) []byte {
	return fmt.Appendf(nil, `{
  "add_bos_token": true,
  "add_eos_token": false,
  "bos_token": "<s>",
  "clean_up_tokenization_spaces": false,
  "eos_token": "</s>",
  "model_max_length": %d,
  "tokenizer_class": "PreTrainedTokenizerFast",
  "unk_token": "<unk>"
}
`, maxLength)
}

const (
	defaultWordBytes = 16 << 20
	maxWordBytes     = 1 << 29 // so that words and pairs, at most three a byte, are numbered by an int32
)

// pairTrainer holds the distinct words of the texts as they are merged.
type pairTrainer struct {
	pieces []string   // by id, in GPT-2's alphabet
	bytes  [256]int32 // id of a byte
	merges [][2]int32

	words []trainedWord
	pairs map[[2]int32]int32 // index in stats
	stats []pairStat
	queue pairQueue
	grown []pairEntry // pairs whose count has gone up since the last enqueue
}

// trainedWord is a distinct word with its number of occurrences.
type trainedWord struct {
	symbols []int32
	n       int64
}

// pairStat is what is known of a pair of neighbours.
type pairStat struct {
	count   int64
	words   []int32 // all that have the pair, and some that had it
	isGrown bool
}

func newPairTrainer() *pairTrainer {
	t := &pairTrainer{pieces: slices.Clone(trainedSpecials[:]), pairs: make(map[[2]int32]int32)}
	for r, b := range alphabetByte {
		if b >= 0 {
			t.bytes[b] = int32(len(t.pieces))
			t.pieces = append(t.pieces, string(rune(r)))
		}
	}
	return t
}

// count enters the words of the texts. limit is TrainOptions.WordBytes.
func (t *pairTrainer) count(texts iter.Seq[string], limit int64) error {
	if limit == 0 {
		limit = defaultWordBytes
	}
	index, size := make(map[string]int32), int64(0)
	for text := range texts {
		text = repair(text)
		for i := 0; i < len(text); {
			end := scanGPT2(text, i)
			w := text[i:end]
			i = end
			if at, ok := index[w]; ok {
				t.words[at].n++
				continue
			}
			if size += int64(len(w)); size > limit {
				return fmt.Errorf("the distinct words have more than %d bytes, expected fewer: raise the bound or give less text", limit)
			}
			symbols := make([]int32, len(w))
			for k := range len(w) {
				symbols[k] = t.bytes[w[k]]
			}
			index[strings.Clone(w)] = int32(len(t.words)) // the text need not be kept
			t.words = append(t.words, trainedWord{symbols, 1})
		}
	}
	return nil
}

// train merges pairs of at least minFrequency occurrences until there are size tokens, or no such pair.
func (t *pairTrainer) train(size int, minFrequency int64) {
	for w := range t.words {
		s := t.words[w].symbols
		for i := range len(s) - 1 {
			t.change(s[i], s[i+1], int32(w), t.words[w].n)
		}
	}
	t.enqueue()
	for len(t.pieces) < size && len(t.queue) > 0 {
		// Every pair has an entry of at least its count: one that has fallen behind is put right when it comes up.
		top := &t.queue[0]
		stat := &t.stats[top.stat]
		if top.count != stat.count {
			if top.count = stat.count; top.count > 0 {
				heap.Fix(&t.queue, 0)
			} else {
				stat.words = nil
				heap.Pop(&t.queue)
			}
			continue
		}
		if stat.count < minFrequency {
			return
		}
		t.merge(*top)
		t.enqueue()
	}
}

// merge makes a token of a pair in all words.
//
// No two tokens have the same spelling, so that no pair comes up again. Where a stretch of symbols is one token in the end,
// no merge before crossed its ends, and those inside it went as they go in every such stretch: from left to right, a run
// of equal symbols that begins before it falls into pairs up to its start. And no word of GPT-2's pattern has both < and a
// letter, so that no merge spells a special token.
func (t *pairTrainer) merge(e pairEntry) {
	left, right := e.pair[0], e.pair[1]
	made := int32(len(t.pieces))
	t.pieces = append(t.pieces, t.pieces[left]+t.pieces[right])
	t.merges = append(t.merges, e.pair)
	words := t.stats[e.stat].words
	t.stats[e.stat].words = nil
	for _, w := range words {
		word := &t.words[w]
		s, out := word.symbols, word.symbols[:0]
		for i := 0; i < len(s); i++ {
			if s[i] != left || i+1 == len(s) || s[i+1] != right {
				out = append(out, s[i])
				continue
			}
			if n := len(out); n > 0 {
				t.change(out[n-1], left, w, -word.n)
				t.change(out[n-1], made, w, word.n)
			}
			if i++; i+1 < len(s) {
				t.change(right, s[i+1], w, -word.n)
				t.change(made, s[i+1], w, word.n)
			}
			out = append(out, made)
		}
		word.symbols = out
	}
	// No two neighbours are left that make the pair. What is counted still are overlaps: (a, a) in aaa.
	t.stats[e.stat].count = 0
}

// change adds n occurrences of a pair in a word.
func (t *pairTrainer) change(left, right, word int32, n int64) {
	pair := [2]int32{left, right}
	at, ok := t.pairs[pair]
	if !ok {
		at = int32(len(t.stats))
		t.pairs[pair] = at
		t.stats = append(t.stats, pairStat{})
	}
	s := &t.stats[at]
	s.count += n
	if n < 0 {
		return
	}
	if k := len(s.words); k == 0 || s.words[k-1] != word {
		s.words = append(s.words, word)
	}
	if !s.isGrown {
		s.isGrown = true
		t.grown = append(t.grown, pairEntry{pair: pair, stat: at})
	}
}

// enqueue enters the pairs that have grown.
func (t *pairTrainer) enqueue() {
	for _, e := range t.grown {
		s := &t.stats[e.stat]
		s.isGrown = false
		if e.count = s.count; e.count > 0 {
			heap.Push(&t.queue, e)
		}
	}
	t.grown = t.grown[:0]
}

// pairEntry is a pair in the queue, with the count that it had when it was put in its place.
type pairEntry struct {
	count int64
	pair  [2]int32
	stat  int32
}

// pairQueue is a heap with the pair to merge next on top.
type pairQueue []pairEntry

func (q pairQueue) Len() int      { return len(q) }
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q pairQueue) Less(i, j int) bool {
	a, b := &q[i], &q[j]
	if a.count != b.count {
		return a.count > b.count
	}
	return slices.Compare(a.pair[:], b.pair[:]) < 0
}
func (q *pairQueue) Push(e any) { *q = append(*q, e.(pairEntry)) }
func (q *pairQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

// trainedHead is a tokenizer.json up to the vocabulary, spelled as the Hugging Face library writes it.
const trainedHead = `{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
%s
  ],
  "normalizer": null,
  "pre_tokenizer": {
    "type": "ByteLevel",
    "add_prefix_space": false,
    "trim_offsets": true,
    "use_regex": true
  },
  "post_processor": {
    "type": "TemplateProcessing",
    "single": [
      {
        "SpecialToken": {
          "id": "<s>",
          "type_id": 0
        }
      },
      {
        "Sequence": {
          "id": "A",
          "type_id": 0
        }
      }
    ],
    "pair": [
      {
        "SpecialToken": {
          "id": "<s>",
          "type_id": 0
        }
      },
      {
        "Sequence": {
          "id": "A",
          "type_id": 0
        }
      },
      {
        "SpecialToken": {
          "id": "<s>",
          "type_id": 1
        }
      },
      {
        "Sequence": {
          "id": "B",
          "type_id": 1
        }
      }
    ],
    "special_tokens": {
      "<s>": {
        "id": "<s>",
        "ids": [
          1
        ],
        "tokens": [
          "<s>"
        ]
      }
    }
  },
  "decoder": {
    "type": "ByteLevel",
    "add_prefix_space": true,
    "trim_offsets": true,
    "use_regex": true
  },
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {
`

// file returns the tokenizer.json.
func (t *pairTrainer) file() []byte {
	var b bytes.Buffer
	var added []string
	for id, s := range trainedSpecials {
		added = append(added, fmt.Sprintf(`    {
      "id": %d,
      "content": "%s",
      "single_word": false,
      "lstrip": false,
      "rstrip": false,
      "normalized": false,
      "special": true
    }`, id, s))
	}
	fmt.Fprintf(&b, trainedHead, strings.Join(added, ",\n"))
	// No piece has a control character.
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	separator := ""
	for id, piece := range t.pieces {
		fmt.Fprintf(&b, "%s      \"%s\": %d", separator, quote.Replace(piece), id)
		separator = ",\n"
	}
	b.WriteString("\n    },\n    \"merges\": [")
	separator = "\n"
	for _, m := range t.merges {
		fmt.Fprintf(&b, "%s      [\n        \"%s\",\n        \"%s\"\n      ]", separator, quote.Replace(t.pieces[m[0]]), quote.Replace(t.pieces[m[1]]))
		separator = ",\n"
	}
	if len(t.merges) > 0 {
		b.WriteString("\n    ")
	}
	b.WriteString("]\n  }\n}")
	return b.Bytes()
}
