// Package tasks holds the evaluation tasks: it reads their data files, writes the scoring requests of the three protocols, turns requests
// into token sequences for a given tokenizer, and computes the metrics from log-probabilities. It runs no model.
//
// The rules are those of EleutherAI/lm-evaluation-harness 0.3.0 (protocol legacy) and 0.4 (the two joint protocols), and of the block
// perplexity of GPTQ (github IST-DASLab/gptq, datautils.py).
package tasks

import (
	"fmt"
	"slices"
	"strings"
)

// Protocol names one of the three ways in which published tables tokenise, order and judge the same tasks.
type Protocol string

// The three protocols. They differ in the BOS token, in how a continuation is tokenised, in the order of the documents and in the order
// of the two BoolQ requests, and they give different numbers for the same model.
const (
	// Legacy is lm-evaluation-harness 0.3.0: no BOS, the continuation tokenised alone, documents shuffled by Python's Random(42).
	Legacy Protocol = "legacy"
	// JointNoBOS is lm-evaluation-harness 0.4.0 to 0.4.9.1: no BOS, the continuation cut from the joint encoding, dataset order.
	JointNoBOS Protocol = "joint-nobos"
	// JointBOS is lm-evaluation-harness 0.4.9.2 and later: as JointNoBOS, with the BOS token that the tokenizer adds by default.
	JointBOS Protocol = "joint-bos"
)

// Protocols returns the three protocols, oldest first.
func Protocols() []Protocol { return []Protocol{Legacy, JointNoBOS, JointBOS} }

// ParseProtocol returns the protocol that s names. The error lists the three names.
func ParseProtocol(s string) (Protocol, error) {
	p := Protocol(s)
	if slices.Contains(Protocols(), p) {
		return p, nil
	}
	return "", fmt.Errorf("unknown protocol %q, expected %s, %s or %s", s, Legacy, JointNoBOS, JointBOS)
}

// Kind says what a task measures and therefore how its documents are scored.
type Kind int

// The kinds of task.
const (
	// MultipleChoice scores several continuations per document and takes the best.
	MultipleChoice Kind = iota
	// RollingPerplexity scores every token of each document in rolling windows (lm-eval's wikitext and c4).
	RollingPerplexity
	// BlockPerplexity scores blocks of equal length cut from one token stream (GPTQ).
	BlockPerplexity
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case MultipleChoice:
		return "multiple choice"
	case RollingPerplexity:
		return "rolling perplexity"
	case BlockPerplexity:
		return "block perplexity"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Names of the metrics, as lm-evaluation-harness prints them; acc_token is not one of its own but llama.cpp's way to score HellaSwag.
const (
	MetricAcc             = "acc"             // share of documents whose largest log-probability is the gold choice
	MetricAccNorm         = "acc_norm"        // the same with log-probabilities divided by the choice's Unicode code points
	MetricAccBytes        = "acc_bytes"       // the same with log-probabilities divided by the choice's UTF-8 bytes
	MetricAccToken        = "acc_token"       // the same with log-probabilities divided by the choice's tokens, which depends on the tokenizer
	MetricWordPerplexity  = "word_perplexity" // exp(-log-probability per word of the original text)
	MetricBytePerplexity  = "byte_perplexity" // exp(-log-probability per UTF-8 byte of the original text)
	MetricBitsPerByte     = "bits_per_byte"   // -log2 probability per UTF-8 byte of the original text
	MetricBlockPerplexity = "perplexity"      // exp(mean over blocks of the mean negative log-probability per token)
)

// HigherIsBetter says whether a larger value of the metric is the better one.
func HigherIsBetter(metric string) bool {
	return metric == MetricAcc || metric == MetricAccNorm || metric == MetricAccBytes || metric == MetricAccToken
}

// Info describes a task.
type Info struct {
	Name          string   // name in specs and results
	Kind          Kind     // how documents are scored
	Metrics       []string // metrics that the reference software reports, in its order
	Primary       string   // metric that the paper's tables print (arXiv 2511.04002, Tables 2-4)
	Version       int      // task version of lm-evaluation-harness 0.4; 0 where it has none
	LegacyVersion int      // task version of lm-evaluation-harness 0.3.0; 0 where it has none
	Dataset       string   // Hugging Face dataset id and configuration
	Split         string   // split that is scored
	Licence       string   // licence of the data
	Citation      string   // where the data was published
	Description   string   // one line
}

// clone keeps callers from changing the package's table.
func (i Info) clone() Info {
	i.Metrics = slices.Clone(i.Metrics)
	return i
}

// Request is one scoring request: the log-probability of Continuation after Context is wanted.
type Request struct {
	Context, Continuation string
}

// Doc is one document (one row) of a task.
type Doc struct {
	// ID is the row number in dataset order, counted from 0, whatever order the protocol scores documents in.
	ID int
	// Requests holds the requests of a multiple-choice document in the protocol's order (BoolQ: legacy asks yes, no; joint no, yes).
	Requests []Request
	// Choices holds the choice text of each request without the delimiter space: the lengths of acc_norm and acc_bytes come from it.
	Choices []string
	// Gold is the index into Requests of the right answer.
	Gold int
	// Label is the gold answer as the dataset counts it (BoolQ: 0 = no, 1 = yes). It equals Gold except for BoolQ under Legacy.
	Label int
	// Text is the text whose tokens are scored: detokenised for RollingPerplexity, as read for BlockPerplexity.
	Text string
	// Original is the document as read, before detokenisation (RollingPerplexity only).
	Original string
	// Words and Bytes are counted on Original: pieces between runs of white space, and UTF-8 bytes (RollingPerplexity only).
	Words, Bytes int
}

// task is an entry of the table: what is known of a task and how its rows become documents.
type task struct {
	Info
	folder string   // folder below a data root
	files  []string // patterns of known file names, tried in this order
	sample string   // what a row must hold, for messages
	// doc builds a document from one row (multiple choice only).
	doc func(r row, p Protocol) (Doc, error)
}

var accMetrics = []string{MetricAcc, MetricAccNorm, MetricAccBytes}

var perplexityMetrics = []string{MetricWordPerplexity, MetricBytePerplexity, MetricBitsPerByte}

const (
	arcCitation  = "Clark et al. 2018, Think you have Solved Question Answering? Try ARC, arXiv 1803.05457"
	wikiCitation = "Merity et al. 2016, Pointer Sentinel Mixture Models, arXiv 1609.07843"
	c4Citation   = "Raffel et al. 2020, Exploring the Limits of Transfer Learning, arXiv 1910.10683"
)

// table lists the tasks in the order of the paper's tables.
var table = []task{
	{
		Info: Info{
			Name: "hellaswag", Kind: MultipleChoice, Metrics: accMetrics, Primary: MetricAccNorm, Version: 1,
			Dataset: "Rowan/hellaswag", Split: "validation", Licence: "MIT",
			Citation:    "Zellers et al. 2019, HellaSwag: Can a Machine Really Finish Your Sentence?, arXiv 1905.07830",
			Description: "Choose the ending that continues a scene, 4 endings.",
		},
		folder: "hellaswag",
		files:  []string{"hellaswag_val_full.txt", "hellaswag_val.jsonl", "validation.jsonl", "validation-*.parquet", "data/validation-*.parquet", "default/validation-*.parquet"},
		sample: "activity_label, ctx_a, ctx_b, endings and label",
		doc:    hellaswagDoc,
	},
	{
		Info: Info{
			Name: "piqa", Kind: MultipleChoice, Metrics: accMetrics, Primary: MetricAccNorm, Version: 1,
			Dataset: "baber/piqa", Split: "validation", Licence: "AFL-3.0",
			Citation:    "Bisk et al. 2020, PIQA: Reasoning about Physical Commonsense in Natural Language, arXiv 1911.11641",
			Description: "Choose the way that reaches a goal in the physical world, 2 solutions.",
		},
		folder: "piqa",
		files:  []string{"valid.jsonl", "validation.jsonl", "validation-*.parquet", "data/validation-*.parquet", "plain_text/validation-*.parquet"},
		sample: "goal, sol1, sol2 and label",
		doc:    piqaDoc,
	},
	{
		Info: Info{
			Name: "arc_easy", Kind: MultipleChoice, Metrics: accMetrics, Primary: MetricAccNorm, Version: 1,
			Dataset: "allenai/ai2_arc ARC-Easy", Split: "test", Licence: "CC BY-SA 4.0", Citation: arcCitation,
			Description: "Grade-school science questions, easy part, 3 to 5 choices.",
		},
		folder: "arc",
		files:  []string{"ARC-Easy-Test.jsonl", "ARC-Easy/ARC-Easy-Test.jsonl", "ARC-Easy/test.jsonl", "ARC-Easy/test-*.parquet"},
		sample: "question, choices and answerKey",
		doc:    arcDoc,
	},
	{
		Info: Info{
			Name: "arc_challenge", Kind: MultipleChoice, Metrics: accMetrics, Primary: MetricAccNorm, Version: 1,
			Dataset: "allenai/ai2_arc ARC-Challenge", Split: "test", Licence: "CC BY-SA 4.0", Citation: arcCitation,
			Description: "Grade-school science questions, hard part, 3 to 5 choices.",
		},
		folder: "arc",
		files:  arcChallengeFiles,
		sample: "question, choices and answerKey",
		doc:    arcDoc,
	},
	{
		Info: Info{
			Name: "arc_letter", Kind: MultipleChoice, Metrics: accMetrics, Primary: MetricAcc, Version: 1,
			Dataset: "allenai/ai2_arc ARC-Challenge", Split: "test", Licence: "CC BY-SA 4.0", Citation: arcCitation,
			Description: "ARC-Challenge with the letter of the answer scored (log-likelihood form of arc_challenge_llama); questions without 4 choices are left out.",
		},
		folder: "arc",
		files:  arcChallengeFiles,
		sample: "question, choices and answerKey",
		doc:    arcLetterDoc,
	},
	{
		Info: Info{
			Name: "boolq", Kind: MultipleChoice, Metrics: []string{MetricAcc}, Primary: MetricAcc, Version: 2, LegacyVersion: 1,
			Dataset: "aps/super_glue boolq", Split: "validation", Licence: "CC BY-SA 3.0",
			Citation:    "Clark et al. 2019, BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions, arXiv 1905.10044",
			Description: "Yes/no questions about a passage (SuperGLUE copy, passages with titles).",
		},
		folder: "boolq",
		files:  []string{"superglue_val.jsonl", "val.jsonl", "boolq/validation-*.parquet", "validation-*.parquet", "validation.jsonl"},
		sample: "passage, question and label",
		doc:    boolqDoc,
	},
	{
		Info: Info{
			Name: "winogrande", Kind: MultipleChoice, Metrics: []string{MetricAcc}, Primary: MetricAcc, Version: 1,
			Dataset: "allenai/winogrande winogrande_xl", Split: "validation", Licence: "CC BY 2.0",
			Citation:    "Sakaguchi et al. 2019, WinoGrande: An Adversarial Winograd Schema Challenge at Scale, arXiv 1907.10641",
			Description: "Choose the name that fits the blank; the text after the blank is scored, 2 options.",
		},
		folder: "winogrande",
		files:  []string{"validation.jsonl", "dev.jsonl", "winogrande_xl/validation-*.parquet", "validation-*.parquet", "data/validation-*.parquet"},
		sample: "sentence, option1, option2 and answer",
		doc:    winograndeDoc,
	},
	{
		Info: Info{
			Name: "wikitext", Kind: RollingPerplexity, Metrics: perplexityMetrics, Primary: MetricWordPerplexity, Version: 2, LegacyVersion: 1,
			Dataset: "EleutherAI/wikitext_document_level wikitext-2-raw-v1", Split: "test", Licence: "CC BY-SA 3.0", Citation: wikiCitation,
			Description: "WikiText-2 by document, detokenised, rolling windows (lm-eval); not comparable with wikitext2.",
		},
		folder: "wikitext2",
		files:  wikitextFiles,
		sample: "page, or the rows text",
	},
	{
		Info: Info{
			Name: "c4_documents", Kind: RollingPerplexity, Metrics: perplexityMetrics, Primary: MetricWordPerplexity,
			Dataset: "allenai/c4 en", Split: "validation", Licence: "ODC-BY", Citation: c4Citation,
			Description: "C4 by document, rolling windows (lm-eval's task c4); not comparable with c4 or c4-new.",
		},
		folder: "c4",
		sample: "text",
	},
	{
		Info: Info{
			Name: "wikitext2", Kind: BlockPerplexity, Metrics: []string{MetricBlockPerplexity}, Primary: MetricBlockPerplexity,
			Dataset: "Salesforce/wikitext wikitext-2-raw-v1", Split: "test", Licence: "CC BY-SA 3.0", Citation: wikiCitation,
			Description: "WikiText-2 test as one text cut in blocks (GPTQ): the number of quantization tables.",
		},
		folder: "wikitext2",
		files:  wikitextFiles,
		sample: "text",
	},
	{
		Info: Info{
			Name: "c4", Kind: BlockPerplexity, Metrics: []string{MetricBlockPerplexity}, Primary: MetricBlockPerplexity,
			Dataset: "allenai/c4 en", Split: "validation shard 0", Licence: "ODC-BY", Citation: c4Citation,
			Description: "C4, 256 random windows of random documents (GPTQ's first recipe; OmniQuant, Atom).",
		},
		folder: "c4",
		sample: "text",
	},
	{
		Info: Info{
			Name: "c4-new", Kind: BlockPerplexity, Metrics: []string{MetricBlockPerplexity}, Primary: MetricBlockPerplexity,
			Dataset: "allenai/c4 en", Split: "validation shard 0", Licence: "ODC-BY", Citation: c4Citation,
			Description: "C4, the first 1,100 documents joined, first 256 blocks (GPTQ's second recipe).",
		},
		folder: "c4",
		sample: "text",
	},
}

var (
	arcChallengeFiles = []string{"ARC-Challenge-Test.jsonl", "ARC-Challenge/ARC-Challenge-Test.jsonl", "ARC-Challenge/test.jsonl", "ARC-Challenge/test-*.parquet"}
	wikitextFiles     = []string{"wiki.test.raw", "wikitext-2-raw/wiki.test.raw", "wikitext-2-raw-v1/test-*.parquet", "test-*.parquet"}
)

// List returns every task, those of the paper's tables first.
func List() []Info {
	out := make([]Info, len(table))
	for i, t := range table {
		out[i] = t.clone()
	}
	return out
}

// Lookup returns the task called name. The error names the nearest known task.
func Lookup(name string) (Info, error) {
	t, err := lookup(name)
	if err != nil {
		return Info{}, err
	}
	return t.clone(), nil
}

func lookup(name string) (*task, error) {
	best, distance := 0, -1
	for i := range table {
		if table[i].Name == name {
			return &table[i], nil
		}
		if d := editDistance(strings.ToLower(name), table[i].Name); distance < 0 || d < distance {
			best, distance = i, d
		}
	}
	return nil, fmt.Errorf("unknown task %q, the nearest known task is %q", name, table[best].Name)
}

// editDistance is the Levenshtein distance in bytes. Only the first 64 bytes of a count: task names are short.
func editDistance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
