package tasks

import (
	"fmt"
	"strings"
)

// Sizes of the two C4 recipes of GPTQ (datautils.py: get_c4, get_c4_new).
const (
	c4Blocks    = 256
	c4Documents = 1100
)

// BlockInfo says where the blocks of a block perplexity come from.
type BlockInfo struct {
	Tokens    int      // tokens of the whole stream that is cut (c4: of the windows)
	Total     int      // full blocks before the limit
	Documents int      // documents joined (wikitext2, c4-new) or drawn from (c4)
	Draws     [][2]int // c4 only: document and first token of each window
	Seed      int      // c4 only: seed of the draws
}

// Blocks cuts a data set of kind BlockPerplexity into blocks of blockLength tokens, each to be scored on its own from position 0: the
// tokens 1..blockLength-1 are predicted, and the block's value is the mean negative log-likelihood. Texts are tokenised with the
// tokenizer's default special tokens, so only the first block begins with BOS.
//
// wikitext2 tokenises the joined text once and drops the tail. c4-new does the same with the first 1,100 documents joined by a space, up
// to 256 blocks. c4 draws 256 windows with Python's Random(seed): a document of more than blockLength tokens, then a start in it; GPTQ
// uses seed 0. The limit of the data set keeps the first blocks.
func Blocks(tok Tokenizer, ds *Dataset, blockLength, seed int) ([][]int32, BlockInfo, error) {
	info := BlockInfo{Documents: len(ds.Docs)}
	if ds.Kind != BlockPerplexity {
		return nil, info, fmt.Errorf("task %s is a %s task, expected a block perplexity", ds.Name, ds.Kind)
	}
	if blockLength < 2 {
		return nil, info, fmt.Errorf("block length %d, expected at least 2", blockLength)
	}
	var blocks [][]int32
	if ds.Name == "c4" {
		tokens := make(map[int][]int32)
		encode := func(doc int) []int32 {
			t, ok := tokens[doc]
			if !ok {
				t = tok.Encode(ds.Docs[doc].Text, true)
				tokens[doc] = t
			}
			return t
		}
		windows, err := ds.Limit.Count(c4Blocks)
		if err != nil {
			return nil, info, err
		}
		info.Draws, err = drawWindows(seed, len(ds.Docs), windows, blockLength, func(doc int) int { return len(encode(doc)) })
		if err != nil {
			return nil, info, fmt.Errorf("task %s: %w", ds.Name, err)
		}
		for _, d := range info.Draws {
			blocks = append(blocks, encode(d[0])[d[1]:d[1]+blockLength])
		}
		info.Seed, info.Total, info.Tokens = seed, c4Blocks, c4Blocks*blockLength
		return blocks, info, nil
	}
	docs := ds.Docs
	if ds.Name == "c4-new" {
		docs = docs[:min(len(docs), c4Documents)]
		info.Documents = len(docs)
	}
	texts := make([]string, len(docs))
	for i, d := range docs {
		texts[i] = d.Text
	}
	stream := tok.Encode(strings.Join(texts, " "), true)
	if ds.Name == "c4-new" {
		stream = stream[:min(len(stream), c4Blocks*blockLength)]
	}
	info.Tokens, info.Total = len(stream), len(stream)/blockLength
	if info.Total == 0 {
		return nil, info, fmt.Errorf("task %s: the text has %d tokens, expected at least one block of %d", ds.Name, len(stream), blockLength)
	}
	n, err := ds.Limit.Count(info.Total)
	if err != nil {
		return nil, info, err
	}
	for i := range n {
		blocks = append(blocks, stream[i*blockLength:(i+1)*blockLength:(i+1)*blockLength])
	}
	return blocks, info, nil
}

// drawWindows draws (document, first token) pairs as GPTQ's get_c4 does. A document of exactly length tokens, on which the original
// fails, is drawn again.
func drawWindows(seed, documents, windows, length int, tokens func(doc int) int) ([][2]int, error) {
	if documents == 0 {
		return nil, fmt.Errorf("no documents to draw windows of %d tokens from", length)
	}
	r := NewPyRandom(int64(seed))
	short := make(map[int]bool) // documents found too short
	out := make([][2]int, 0, windows)
	for len(out) < windows {
		doc := r.Int(0, documents-1)
		if tokens(doc) <= length {
			if short[doc] = true; len(short) == documents {
				return nil, fmt.Errorf("none of the %d documents has more than %d tokens, expected a shorter block length", documents, length)
			}
			continue
		}
		out = append(out, [2]int{doc, r.Int(0, tokens(doc)-length-1)})
	}
	return out, nil
}
