package world

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"splitbench/tasks"
)

// counts is a bigram model of text with add-one smoothing; its unigram part alone is the unigram scorer.
type counts struct {
	words   map[string]float64
	pairs   map[[2]string]float64
	total   float64
	context map[string]float64
}

func newCounts() *counts {
	return &counts{words: map[string]float64{}, pairs: map[[2]string]float64{}, context: map[string]float64{}}
}

// tokens are the words and marks of a text, in lower case.
func tokens(s string) []string {
	return strings.Fields(spaced(strings.ToLower(s)))
}

func (c *counts) add(text string) {
	last := "<s>"
	for _, w := range tokens(text) {
		c.words[w]++
		c.total++
		c.pairs[[2]string{last, w}]++
		c.context[last]++
		last = w
	}
}

func (c *counts) unigram(w string) float64 {
	return math.Log((c.words[w] + 1) / (c.total + float64(len(c.words)) + 1))
}

func (c *counts) bigram(last, w string) float64 {
	return math.Log((c.pairs[[2]string{last, w}] + .1) / (c.context[last] + .1*float64(len(c.words)+1)))
}

// unigramScore and bigramScore are sums over a text without anything before it.
func (c *counts) unigramScore(text string) (sum, mean float64) {
	ws := tokens(text)
	for _, w := range ws {
		sum += c.unigram(w)
	}
	return sum, sum / float64(len(ws))
}

func (c *counts) bigramScore(text string) (sum, mean float64) {
	ws := tokens(text)
	last := "<s>"
	for _, w := range ws {
		sum += c.bigram(last, w)
		last = w
	}
	return sum, sum / float64(len(ws))
}

// association is naive co-occurrence: log p(choice word, context word) - log p(choice word) - log p(context word), over the train rows.
type association struct {
	left, right map[string]float64
	both        map[[2]string]float64
	n           float64
}

func newAssociation() *association {
	return &association{left: map[string]float64{}, right: map[string]float64{}, both: map[[2]string]float64{}}
}

func (a *association) add(context, answer string) {
	ls, rs := set(tokens(context)), set(tokens(answer))
	a.n++
	for l := range ls {
		a.left[l]++
		for r := range rs {
			a.both[[2]string{l, r}]++
		}
	}
	for r := range rs {
		a.right[r]++
	}
}

// score sums over words in text order, so that it does not depend on map order.
func (a *association) score(context, choice string) float64 {
	sum := 0.
	seen := map[string]bool{}
	var ls []string
	for _, l := range tokens(context) {
		if !seen[l] {
			seen[l], ls = true, append(ls, l)
		}
	}
	for _, r := range tokens(choice) {
		for _, l := range ls {
			sum += math.Log((a.both[[2]string{l, r}] + .1) * (a.n + 1) / ((a.left[l] + 1) * (a.right[r] + 1)))
		}
	}
	return sum
}

// question holds what the scorers may see.
type question struct {
	context string
	choices []string
	passage string // BoolQ: the context without the question
	ask     string // BoolQ: the question without the passage; WinoGrande: what follows the blank
	named   int    // WinoGrande: the choice that the context names first
	gold    int
}

func questionsOf(t testing.TB, s Split, name string) []question {
	var out []question
	for _, d := range load(t, s, name, tasks.JointBOS).Docs {
		q := question{context: d.Requests[0].Context, choices: d.Choices, gold: d.Gold}
		switch name {
		case "winogrande":
			q.choices = []string{optionOf(d, 0), optionOf(d, 1)}
			q.context = strings.TrimSuffix(q.context, q.choices[0])
			q.ask = d.Choices[0]
			if mention(q.context, q.choices[1]) < mention(q.context, q.choices[0]) {
				q.named = 1
			}
		case "boolq":
			q.passage, q.ask, _ = strings.Cut(q.context, "\n")
		}
		out = append(out, q)
	}
	return out
}

// mention is the place where a text names someone or something.
func mention(text, option string) int {
	words := tokens(option)
	return slices.Index(tokens(text), words[len(words)-1])
}

// accuracy of a scorer; equal best scores share the point.
func accuracy(qs []question, score func(q question, i int) float64) float64 {
	right := 0.
	for _, q := range qs {
		best, ties, hit := math.Inf(-1), 0, false
		for i := range q.choices {
			switch s := score(q, i); {
			case s > best+1e-9:
				best, ties, hit = s, 1, i == q.gold
			case s > best-1e-9:
				ties++
				hit = hit || i == q.gold
			}
		}
		if hit {
			right += 1 / float64(ties)
		}
	}
	return 100 * right / float64(len(qs))
}

// TestGiveAway shows that scorers which do not read the context stay at chance on the test split. For honesty it also prints how far
// scorers get that read parts of it or all of it as a bag of words. Co-occurrence is above chance since an answer is a look-up by a noun of
// the context: whoever has counted in train what goes with the noun knows something of its class. In WinoGrande's sentences about two roles
// the follow-up alone decides whether the first or the second named is meant, whatever the order of the options. Run it with -v for the
// table.
func TestGiveAway(t *testing.T) {
	text := newCounts()
	for _, name := range []string{"wikitext", "c4_documents"} {
		for _, d := range load(t, Train, name, tasks.JointBOS).Docs {
			for line := range strings.SplitSeq(d.Text, "\n") {
				text.add(line)
			}
		}
	}
	train := make(map[string][]question)
	for _, name := range choiceTasks {
		train[name] = questionsOf(t, Train, name)
		for _, q := range train[name] {
			text.add(q.context + " " + q.choices[q.gold] + " " + q.ask)
		}
	}
	type result struct {
		scorer string
		blind  bool // does not read the context
	}
	scorers := []result{
		{"unigram, sum", true}, {"unigram, mean", true}, {"shortest", true}, {"longest", true}, {"first choice", true},
		{"bigram, sum", true}, {"bigram, mean", true}, {"answers of train, unigram", true}, {"answers of train, bigram", true},
		{"question or suffix alone", true}, {"choice and suffix, bigram", true}, {"passage alone", false},
		{"choice with suffix", false}, {"suffix, order of mention", false}, {"word overlap", false}, {"co-occurrence", false},
	}
	table := make(map[string][]float64)
	for _, name := range choiceTasks {
		qs := questionsOf(t, Test, name)
		answers := newCounts()
		places, mentions, passages, suffixes, together := newAssociation(), newAssociation(), newAssociation(), newAssociation(), newAssociation()
		for _, q := range train[name] {
			answer := q.choices[q.gold]
			answers.add(answer)
			places.add(q.ask+" .", strconv.Itoa(q.gold))
			mentions.add(q.ask+" .", strconv.FormatBool(q.gold == q.named))
			passages.add(q.passage+" .", answer)
			suffixes.add(q.ask+" .", answer)
			together.add(q.context+" "+q.ask, answer)
		}
		chance := 100 / float64(choicesOf(name))
		for _, s := range scorers {
			var score func(q question, i int) float64
			switch s.scorer {
			case "unigram, sum":
				score = func(q question, i int) float64 { v, _ := text.unigramScore(q.choices[i]); return v }
			case "unigram, mean":
				score = func(q question, i int) float64 { _, v := text.unigramScore(q.choices[i]); return v }
			case "shortest":
				score = func(q question, i int) float64 { return -float64(len(q.choices[i])) }
			case "longest":
				score = func(q question, i int) float64 { return float64(len(q.choices[i])) }
			case "first choice":
				score = func(q question, i int) float64 { return -float64(i) }
			case "bigram, sum":
				score = func(q question, i int) float64 { v, _ := text.bigramScore(q.choices[i]); return v }
			case "bigram, mean":
				score = func(q question, i int) float64 { _, v := text.bigramScore(q.choices[i]); return v }
			case "answers of train, unigram":
				score = func(q question, i int) float64 { v, _ := answers.unigramScore(q.choices[i]); return v }
			case "answers of train, bigram":
				score = func(q question, i int) float64 { v, _ := answers.bigramScore(q.choices[i]); return v }
			case "question or suffix alone": // which place is right; for the tasks without, nothing but how often a place is
				score = func(q question, i int) float64 { return places.score(q.ask+" .", strconv.Itoa(i)) }
			case "choice and suffix, bigram":
				score = func(q question, i int) float64 { v, _ := text.bigramScore(q.choices[i] + " " + q.ask); return v }
			case "passage alone":
				score = func(q question, i int) float64 { return passages.score(q.passage+" .", q.choices[i]) }
			case "choice with suffix":
				score = func(q question, i int) float64 { return suffixes.score(q.ask+" .", q.choices[i]) }
			case "suffix, order of mention":
				score = func(q question, i int) float64 { return mentions.score(q.ask+" .", strconv.FormatBool(i == q.named)) }
			case "word overlap":
				score = func(q question, i int) float64 {
					words, n := set(tokens(q.context)), 0.
					for _, w := range tokens(q.choices[i]) {
						if words[w] {
							n++
						}
					}
					return n
				}
			case "co-occurrence":
				score = func(q question, i int) float64 { return together.score(q.context+" "+q.ask, q.choices[i]) }
			}
			got := accuracy(qs, score)
			table[s.scorer] = append(table[s.scorer], got)
			if s.blind && math.Abs(got-chance) > 3 {
				t.Errorf("%s: scorer %q is right in %.1f %%, chance is %.0f %%", name, s.scorer, got, chance)
			}
			if s.scorer == "word overlap" && got > chance+10 {
				t.Errorf("%s: scorer %q is right in %.1f %%, chance is %.0f %%", name, s.scorer, got, chance)
			}
		}
	}
	head := fmt.Sprintf("%-28s", "accuracy on test, %")
	for _, name := range choiceTasks {
		head += fmt.Sprintf("%15s", name)
	}
	t.Log(head)
	for _, s := range scorers {
		line := fmt.Sprintf("%-28s", s.scorer)
		for _, v := range table[s.scorer] {
			line += fmt.Sprintf("%15.1f", v)
		}
		t.Log(line)
	}
}
