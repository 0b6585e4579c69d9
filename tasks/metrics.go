package tasks

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// ChoiceScore is the score of one request: the sum of the log-probabilities (natural logarithm) of its continuation's tokens, and whether
// each of them was the most probable one. Tokens is their number, 0 if the caller does not know it.
type ChoiceScore struct {
	LogProb float64
	Greedy  bool
	Tokens  int
}

// DocResult is the outcome of a multiple-choice document. Metrics are 1 or 0, or NaN if a score is NaN; verdicts are indices into the
// document's requests, -1 if a score is NaN. AccToken is NaN, and its verdict -1, also if a number of tokens is not known.
type DocResult struct {
	Acc, AccNorm, AccBytes, AccToken                 float64
	Verdict, VerdictNorm, VerdictBytes, VerdictToken int
}

// Metric returns the value of one of the accuracy metrics.
func (r DocResult) Metric(name string) (value float64, ok bool) {
	switch name {
	case MetricAcc:
		return r.Acc, true
	case MetricAccNorm:
		return r.AccNorm, true
	case MetricAccBytes:
		return r.AccBytes, true
	case MetricAccToken:
		return r.AccToken, true
	}
	return 0, false
}

// Judge compares the scores of a document's requests. The first maximum wins, of the log-probabilities as they are, per Unicode code
// point, per UTF-8 byte and per token of the choice. Legacy BoolQ says yes only if yes is strictly larger. All metrics are computed; those
// that the reference software reports for a task are in its Info. It panics unless there is one score per request.
func Judge(info Info, p Protocol, d Doc, scores []ChoiceScore) DocResult {
	if len(scores) != len(d.Requests) || len(scores) != len(d.Choices) {
		panic(fmt.Sprintf("tasks: %d scores for %d requests", len(scores), len(d.Requests)))
	}
	for _, s := range scores {
		if math.IsNaN(s.LogProb) {
			return DocResult{math.NaN(), math.NaN(), math.NaN(), math.NaN(), -1, -1, -1, -1}
		}
	}
	verdict := func(length func(i int) int) int {
		best, high := 0, 0.0
		for i, s := range scores {
			v := s.LogProb / float64(length(i))
			// BoolQ under Legacy asks yes first, and a tie means no.
			if i == 0 || v > high || v == high && p == Legacy && info.Name == "boolq" {
				best, high = i, v
			}
		}
		return best
	}
	hit := func(verdict int) float64 {
		if verdict == d.Gold {
			return 1
		}
		return 0
	}
	var r DocResult
	r.Verdict = verdict(func(int) int { return 1 })
	r.VerdictNorm = verdict(func(i int) int { return utf8.RuneCountInString(d.Choices[i]) })
	r.VerdictBytes = verdict(func(i int) int { return len(d.Choices[i]) })
	r.Acc, r.AccNorm, r.AccBytes = hit(r.Verdict), hit(r.VerdictNorm), hit(r.VerdictBytes)
	r.AccToken, r.VerdictToken = math.NaN(), -1
	if !slices.ContainsFunc(scores, func(s ChoiceScore) bool { return s.Tokens <= 0 }) {
		r.VerdictToken = verdict(func(i int) int { return scores[i].Tokens })
		r.AccToken = hit(r.VerdictToken)
	}
	return r
}

// Mean returns the mean and its standard error, the sample standard deviation (n-1) over the square root of n. ok is false if there is no
// standard error (fewer than two values; lm-evaluation-harness prints N/A); the mean of no values is NaN.
func Mean(xs []float64) (mean, stderr float64, ok bool) {
	n := float64(len(xs))
	for _, x := range xs {
		mean += x
	}
	mean /= n
	if len(xs) < 2 {
		return mean, math.NaN(), false
	}
	var squares float64
	for _, x := range xs {
		d := x - mean
		squares += float64(d * d)
	}
	return mean, math.Sqrt(squares/(n-1)) / math.Sqrt(n), true
}

// GroupMean returns the mean of several tasks weighted by their document counts. It panics unless there is one mean per size.
func GroupMean(sizes []int, means []float64) float64 {
	if len(sizes) != len(means) {
		panic("tasks: GroupMean wants one mean per size")
	}
	var sum, total float64
	for i, n := range sizes {
		sum += float64(float64(n) * means[i])
		total += float64(n)
	}
	return sum / total
}

// GroupStderr returns the standard error of GroupMean, pooled as lm-evaluation-harness does:
// sqrt(sum (n_k-1) n_k se_k^2 / (sum n_k - K) / sum n_k). It panics unless there is one standard error per size.
func GroupStderr(sizes []int, stderrs []float64) float64 {
	if len(sizes) != len(stderrs) {
		panic("tasks: GroupStderr wants one standard error per size")
	}
	var sum, total float64
	for i, n := range sizes {
		v := float64(stderrs[i] * stderrs[i])
		sum += float64(float64(n-1) * v * float64(n))
		total += float64(n)
	}
	return math.Sqrt(sum / (total - float64(len(sizes))) / total)
}

// Perplexity is the outcome of a rolling perplexity over all documents. It has no standard error.
type Perplexity struct {
	Word        float64 // exp(-LogProb/Words)
	Byte        float64 // exp(-LogProb/Bytes)
	BitsPerByte float64 // -LogProb/Bytes in bits
	LogProb     float64 // sum over documents, natural logarithm
	Words       int
	Bytes       int
}

// DocumentPerplexity computes the perplexities per word and byte of the original text from each document's log-probability. It panics
// unless there is one word and one byte count per document.
func DocumentPerplexity(logProbs []float64, words, bytes []int) Perplexity {
	if len(words) != len(logProbs) || len(bytes) != len(logProbs) {
		panic("tasks: DocumentPerplexity wants one word and one byte count per document")
	}
	var p Perplexity
	for i, l := range logProbs {
		p.LogProb += l
		p.Words += words[i]
		p.Bytes += bytes[i]
	}
	perByte := -p.LogProb / float64(p.Bytes)
	p.Word = math.Exp(-p.LogProb / float64(p.Words))
	p.Byte = math.Exp(perByte)
	p.BitsPerByte = perByte / math.Ln2
	return p
}

// BlocksPerplexity returns exp of the mean over blocks of their mean negative log-likelihood per token; NaN for no blocks.
func BlocksPerplexity(meanNLL []float64) float64 {
	var sum float64
	for _, x := range meanNLL {
		sum += x
	}
	return math.Exp(sum / float64(len(meanNLL)))
}
