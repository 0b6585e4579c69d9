package world

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Options says how much of a world to write.
type Options struct {
	// Seed decides which fact belongs to which split, and every draw. Data roots that belong together share it.
	Seed uint64
	// Questions is the least number of questions per task, 0 for 600. Whole groups are written: up to 3 more.
	Questions int
	// Documents is the number of C4-like documents, 0 for 500.
	Documents int
	// Articles is the number of WikiText-like articles, 0 for 1000.
	Articles int
}

// Limits on Options, far above any use.
const maxCount = 1 << 22

// questionTask is a task of questions: its file, how a group of questions is made and how one is written.
type questionTask struct {
	name  string
	file  string
	group func(*generator) []item
	row   func(i int, it item) any
}

var questionTasks = []questionTask{
	{"hellaswag", "hellaswag/hellaswag_val.jsonl", (*generator).hellaswag, hellaswagRow},
	{"piqa", "piqa/valid.jsonl", (*generator).piqa, piqaRow},
	{"arc_easy", "arc/ARC-Easy-Test.jsonl", (*generator).arcEasy, arcRow("World_E_")},
	{"arc_challenge", "arc/ARC-Challenge-Test.jsonl", (*generator).arcChallenge, arcRow("World_C_")},
	{"boolq", "boolq/val.jsonl", (*generator).boolq, boolqRow},
	{"winogrande", "winogrande/validation.jsonl", (*generator).winogrande, winograndeRow},
}

// Write writes one split of the world as a data root below dir: the six question sets and the two corpora, under the same names for every
// split. Folders are made as needed, files of the same names are replaced. The same options give the same bytes everywhere.
func Write(dir string, s Split, o Options) error {
	if s != Train && s != Validation && s != Test {
		return fmt.Errorf("world: split %d, expected Train, Validation or Test", int(s))
	}
	for _, c := range []struct {
		name  string
		value *int
		usual int
	}{{"questions", &o.Questions, 600}, {"documents", &o.Documents, 500}, {"articles", &o.Articles, 1000}} {
		if *c.value < 0 || *c.value > maxCount {
			return fmt.Errorf("world: %d %s, expected 0 (%d) to %d", *c.value, c.name, c.usual, maxCount)
		}
		if *c.value == 0 {
			*c.value = c.usual
		}
	}
	w := newWorld(o.Seed)
	generate := func(stream string) *generator {
		return &generator{world: w, random: newRandom(o.Seed, s.String()+" "+stream), split: s}
	}
	for _, t := range questionTasks {
		items := questions(generate(t.name), t.group, o.Questions)
		var labels bytes.Buffer // PIQA keeps them in a file of their own
		err := writeFile(dir, t.file, func(b *bufio.Writer) error {
			e := json.NewEncoder(b)
			e.SetEscapeHTML(false)
			for i, it := range items {
				if err := e.Encode(t.row(i, it)); err != nil {
					return err
				}
				labels.WriteString(strconv.Itoa(it.gold) + "\n")
			}
			return nil
		})
		if err == nil && t.name == "piqa" {
			err = writeFile(dir, "piqa/valid-labels.lst", func(b *bufio.Writer) error {
				_, err := labels.WriteTo(b)
				return err
			})
		}
		if err != nil {
			return err
		}
	}
	err := writeFile(dir, "wikitext2/wiki.test.raw", func(b *bufio.Writer) error {
		g := generate("wikitext")
		for range o.Articles {
			b.WriteString(g.article())
		}
		_, err := b.WriteString(" \n")
		return err
	})
	if err != nil {
		return err
	}
	return writeFile(dir, "c4/c4-validation.00000-of-00001.json", func(b *bufio.Writer) error {
		g := generate("c4")
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		for i := range o.Documents {
			row := struct {
				Text      string `json:"text"`
				Timestamp string `json:"timestamp"`
				URL       string `json:"url"`
			}{g.document(), "2019-04-25T12:57:54Z", fmt.Sprintf("https://world.example/%07d", i)}
			if err := e.Encode(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeFile makes a file below dir.
func writeFile(dir, name string, write func(*bufio.Writer) error) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := bufio.NewWriterSize(f, 1<<16)
	if err := write(b); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// questions makes at least n questions in whole groups and scatters them. In validation and test no two are alike, as far as the split's
// facts allow: after many groups in a row with a known question, repetition is let in.
func questions(g *generator, group func(*generator) []item, n int) []item {
	const patience = 200
	var items []item
	seen := make(map[string]bool)
	for refused := 0; len(items) < n; {
		fresh := group(g)
		if g.split != Train && refused < patience {
			known := false
			for _, it := range fresh {
				known = known || seen[it.key()]
			}
			if known {
				refused++
				continue
			}
		}
		refused = 0
		for _, it := range fresh {
			seen[it.key()] = true
		}
		items = append(items, fresh...)
	}
	for i := len(items) - 1; i > 0; i-- {
		j := g.below(i + 1)
		items[i], items[j] = items[j], items[i]
	}
	return items
}

// key identifies a question without its choices.
func (it item) key() string { return it.label + "\n" + it.context + "\n" + it.stem }

func hellaswagRow(i int, it item) any {
	return struct {
		Ind       int      `json:"ind"`
		Activity  string   `json:"activity_label"`
		CtxA      string   `json:"ctx_a"`
		CtxB      string   `json:"ctx_b"`
		Ctx       string   `json:"ctx"`
		Split     string   `json:"split"`
		SplitType string   `json:"split_type"`
		Label     int      `json:"label"`
		Endings   []string `json:"endings"`
		Source    string   `json:"source_id"`
	}{i, it.label, it.context, it.stem, it.context + " " + it.stem, "val", "indomain", it.gold, it.choices, fmt.Sprintf("world~%06d", i)}
}

func piqaRow(_ int, it item) any {
	return struct {
		Goal string `json:"goal"`
		Sol1 string `json:"sol1"`
		Sol2 string `json:"sol2"`
	}{it.stem, it.choices[0], it.choices[1]}
}

func arcRow(prefix string) func(int, item) any {
	type choice struct {
		Text  string `json:"text"`
		Label string `json:"label"`
	}
	type question struct {
		Stem    string   `json:"stem"`
		Choices []choice `json:"choices"`
	}
	return func(i int, it item) any {
		q := question{Stem: it.stem}
		for j, c := range it.choices {
			q.Choices = append(q.Choices, choice{c, string(rune('A' + j))})
		}
		return struct {
			ID       string   `json:"id"`
			Question question `json:"question"`
			Answer   string   `json:"answerKey"`
		}{fmt.Sprintf("%s%06d", prefix, i), q, q.Choices[it.gold].Label}
	}
}

// boolqRow is SuperGLUE's row, whose passage begins with its title.
func boolqRow(i int, it item) any {
	return struct {
		Question string `json:"question"`
		Passage  string `json:"passage"`
		Idx      int    `json:"idx"`
		Label    bool   `json:"label"`
	}{it.stem, it.label + " -- " + it.context, i, it.gold == 1}
}

func winograndeRow(_ int, it item) any {
	return struct {
		Sentence string `json:"sentence"`
		Option1  string `json:"option1"`
		Option2  string `json:"option2"`
		Answer   string `json:"answer"`
	}{it.stem, it.choices[0], it.choices[1], strconv.Itoa(it.gold + 1)}
}
