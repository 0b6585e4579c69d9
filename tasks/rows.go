package tasks

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxChoices bounds the choices of one row; the largest of the known tasks is 5.
const maxChoices = 64

// multipleChoice fills the requests of a document from its context and choices.
func multipleChoice(context string, choices []string, gold int) Doc {
	d := Doc{Choices: choices, Gold: gold, Label: gold, Requests: make([]Request, len(choices))}
	for i, c := range choices {
		d.Requests[i] = Request{Context: context, Continuation: " " + c}
	}
	return d
}

// preprocess is lm-eval's HellaSwag clean-up of a text: strip, " [title]" to ". ", delete the shortest "[…]" runs, and two spaces to one
// in a single pass.
func preprocess(s string) string {
	s = strings.ReplaceAll(strip(s), " [title]", ". ")
	return strings.ReplaceAll(deleteBracketed(s), "  ", " ")
}

// deleteBracketed deletes every match of the regular expression \[.*?\] (the dot does not match a newline).
func deleteBracketed(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '[')
		if i < 0 {
			break
		}
		n := strings.IndexAny(s[i:], "]\n")
		if n < 0 {
			break
		}
		b.WriteString(s[:i])
		if s[i+n] == '\n' {
			b.WriteString(s[i : i+n+1])
		}
		s = s[i+n+1:]
	}
	b.WriteString(s)
	return b.String()
}

// hellaswagDoc reads the Hugging Face columns, or a row of the llama.cpp list, whose query hellaswagRestore has made.
func hellaswagDoc(r row, _ Protocol) (Doc, error) {
	activity, err1 := r.text("activity_label")
	ctxA, err2 := r.text("ctx_a")
	ctxB, err3 := r.text("ctx_b")
	endings, err4 := texts("endings", r.record["endings"])
	if r.restored != "" {
		err1, err2, err3 = nil, nil, nil
	}
	if err := firstOf(err1, err2, err3, err4); err != nil {
		return Doc{}, err
	}
	if len(endings) != 4 {
		return Doc{}, fmt.Errorf("key %q has %d texts, expected 4", "endings", len(endings))
	}
	gold, err := r.answer("label", indices(len(endings))...)
	if err != nil {
		return Doc{}, err
	}
	if r.restored != "" {
		return multipleChoice(r.restored, endings, gold), nil
	}
	for i, e := range endings {
		endings[i] = preprocess(e)
	}
	return multipleChoice(preprocess(activity+": "+ctxA+" "+capitalize(ctxB)), endings, gold), nil
}

// firstOf returns the first error of errs.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// hellaswagRestore turns the first line of a task in llama.cpp's HellaSwag list, "activity: ctx", into lm-eval's query. That list joined
// ctx_a and ctx_b without capitalising ctx_b; ctx_b is the text after the last sentence end, when it starts in lower case and the line
// does not end in a full stop. Leading spaces that lm-eval leaves before some endings are lost in the list and are not restored.
func hellaswagRestore(line string) (string, error) {
	activity, ctx, ok := strings.Cut(line, ": ")
	if !ok {
		return "", errors.New(`no ": " found, expected a line "activity: context"`)
	}
	if strings.HasSuffix(ctx, ".") {
		return line, nil
	}
	// The last run of spaces that follows a full stop, exclamation or question mark and is followed by something else than white space.
	for end := len(ctx); ; {
		i := strings.LastIndexByte(ctx[:end], ' ')
		if i < 0 {
			return line, nil
		}
		next, _ := utf8.DecodeRuneInString(ctx[i+1:])
		start := i
		for start > 0 && ctx[start-1] == ' ' {
			start--
		}
		if i+1 < len(ctx) && !isSpace(next) && start > 0 && strings.IndexByte(".!?", ctx[start-1]) >= 0 {
			if !isLower(next) {
				return line, nil
			}
			return activity + ": " + ctx[:i+1] + capitalize(ctx[i+1:]), nil
		}
		end = start
	}
}

func piqaDoc(r row, _ Protocol) (Doc, error) {
	goal, err1 := r.text("goal")
	sol1, err2 := r.text("sol1")
	sol2, err3 := r.text("sol2")
	if err := firstOf(err1, err2, err3); err != nil {
		return Doc{}, err
	}
	gold, err := r.answer("label", indices(2)...)
	return multipleChoice(question(goal), []string{sol1, sol2}, gold), err
}

func question(q string) string { return "Question: " + q + "\nAnswer:" }

// arcRow reads ARC's own layout (question.stem, question.choices) and the Hugging Face one (question, choices.text, choices.label).
func arcRow(r row) (stem string, choices []string, gold int, err error) {
	var labels []string
	if q, ok := r.record["question"].(map[string]any); ok {
		if stem, err = record(q).text("stem"); err != nil {
			return "", nil, 0, fmt.Errorf("in question: %w", err)
		}
		list, ok := q["choices"].([]any)
		if !ok {
			return "", nil, 0, errors.New(`key "question.choices" is no list, expected a list of objects with text and label`)
		}
		for i, e := range list {
			c, _ := e.(map[string]any)
			text, err1 := record(c).text("text")
			label, err2 := record(c).text("label")
			if err := firstOf(err1, err2); err != nil {
				return "", nil, 0, fmt.Errorf("in question.choices, element %d: %w", i+1, err)
			}
			choices, labels = append(choices, text), append(labels, label)
		}
	} else {
		if stem, err = r.text("question"); err != nil {
			return "", nil, 0, err
		}
		c, ok := r.record["choices"].(map[string]any)
		if !ok {
			return "", nil, 0, errors.New(`key "choices" is no object, expected an object with the lists text and label`)
		}
		var err1, err2 error
		choices, err1 = texts("choices.text", c["text"])
		labels, err2 = texts("choices.label", c["label"])
		if err := firstOf(err1, err2); err != nil {
			return "", nil, 0, err
		}
	}
	if len(choices) != len(labels) || len(choices) < 2 || len(choices) > maxChoices {
		return "", nil, 0, fmt.Errorf("%d choices with %d labels, expected 2 to %d of each", len(choices), len(labels), maxChoices)
	}
	// Labels are mostly A to D, but 1 to 4 and three or five choices occur: gold is found by label.
	spellings := make([][]string, len(labels))
	for i, l := range labels {
		if l == "" || slices.Contains(labels[:i], l) {
			return "", nil, 0, fmt.Errorf("choice label %q is empty or given twice, expected distinct labels", l)
		}
		spellings[i] = []string{l}
	}
	gold, err = r.answer("answerKey", spellings...)
	return stem, choices, gold, err
}

func arcDoc(r row, _ Protocol) (Doc, error) {
	stem, choices, gold, err := arcRow(r)
	return multipleChoice(question(stem), choices, gold), err
}

// errNotInTask marks a well-formed row that the task leaves out.
var errNotInTask = errors.New("row is not part of the task")

// arcLetterDoc is the log-likelihood form of lm-eval's arc_challenge_llama without a chat template: the letters are scored after the
// text that primes its answer.
func arcLetterDoc(r row, _ Protocol) (Doc, error) {
	stem, choices, gold, err := arcRow(r)
	if err != nil {
		return Doc{}, err
	}
	letters := []string{"A", "B", "C", "D"}
	if len(choices) != len(letters) {
		return Doc{}, errNotInTask
	}
	var b strings.Builder
	b.WriteString("Given the following question and four candidate answers (A, B, C and D), choose the best answer.\nQuestion: " + stem)
	for i, c := range choices {
		b.WriteString("\n" + letters[i] + ". " + c)
	}
	b.WriteString("\nYour response should end with \"The best answer is [the_answer_letter]\" where the [the_answer_letter] is one of A, B, C or D. The best answer is")
	return multipleChoice(b.String(), letters, gold), nil
}

// boolqDoc reads SuperGLUE's columns. Google's own file has no titles in its passages and would give other prompts, so it is refused.
func boolqDoc(r row, p Protocol) (Doc, error) {
	_, hasLabel := r.record["label"]
	if _, ok := r.record["answer"]; ok && !hasLabel {
		return Doc{}, errors.New(`this is the google/boolq layout (key "answer"), whose passages lack the title of the reference prompts; expected the SuperGLUE layout with key "label"`)
	}
	passage, err1 := r.text("passage")
	q, err2 := r.text("question")
	if err := firstOf(err1, err2); err != nil {
		return Doc{}, err
	}
	label, err := r.answer("label", []string{"false", "0", "False"}, []string{"true", "1", "True"})
	if err != nil {
		return Doc{}, err
	}
	context := passage + "\nQuestion: " + q + "?\nAnswer:"
	if p == Legacy {
		d := multipleChoice(context, []string{"yes", "no"}, 1-label)
		d.Label = label
		return d, nil
	}
	return multipleChoice(context, []string{"no", "yes"}, label), nil
}

func winograndeDoc(r row, _ Protocol) (Doc, error) {
	sentence, err1 := r.text("sentence")
	option1, err2 := r.text("option1")
	option2, err3 := r.text("option2")
	if err := firstOf(err1, err2, err3); err != nil {
		return Doc{}, err
	}
	before, after, ok := strings.Cut(sentence, "_")
	if !ok {
		return Doc{}, errors.New(`key "sentence" has no "_", expected one blank`)
	}
	gold, err := r.answer("answer", []string{"1"}, []string{"2"})
	rest := strip(after)
	return Doc{
		Requests: []Request{{before + option1, " " + rest}, {before + option2, " " + rest}},
		Choices:  []string{rest, rest}, Gold: gold, Label: gold,
	}, err
}

// parseLabels reads a label file: one label per line.
func parseLabels(path string, data []byte) ([]string, error) {
	var out []string
	for i, line := range strings.Split(strings.TrimRightFunc(string(data), unicode.IsSpace), "\n") {
		l := strip(line)
		if _, err := strconv.Atoi(l); err != nil {
			return nil, fmt.Errorf("%s:%d: label %q, expected 0 or 1", path, i+1, clip(l))
		}
		out = append(out, l)
	}
	return out, nil
}

// clip shortens a text for a message.
func clip(s string) string {
	if len(s) <= 40 {
		return s
	}
	n := 40
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
