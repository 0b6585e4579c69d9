package world

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"splitbench/tasks"
)

// sizes of the roots that the tests share.
var testOptions = map[Split]Options{
	Train:      {Seed: 1, Questions: 6000, Documents: 6000, Articles: 3000},
	Validation: {Seed: 1},
	Test:       {Seed: 1},
}

var (
	rootsOnce sync.Once
	roots     map[Split]string
	rootsErr  error
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range roots {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// root returns the written data root of a split, made once for all tests.
func root(t testing.TB, s Split) string {
	t.Helper()
	rootsOnce.Do(func() {
		roots = make(map[Split]string)
		for s, o := range testOptions {
			dir, err := os.MkdirTemp("", "world")
			if err == nil {
				roots[s] = dir
				err = Write(dir, s, o)
			}
			if err != nil {
				rootsErr = err
			}
		}
	})
	if rootsErr != nil {
		t.Fatal(rootsErr)
	}
	return roots[s]
}

// loaded keeps the data sets that several tests read; none changes them.
var loaded = make(map[string]*tasks.Dataset)

// load reads a task of a split with the loader that evaluations use.
func load(t testing.TB, s Split, name string, p tasks.Protocol) *tasks.Dataset {
	t.Helper()
	key := s.String() + " " + name + " " + string(p)
	if ds := loaded[key]; ds != nil {
		return ds
	}
	path, err := tasks.DefaultPath(root(t, s), name)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := tasks.Load(name, tasks.Options{Path: path, Protocol: p})
	if err != nil {
		t.Fatal(err)
	}
	loaded[key] = ds
	return ds
}

var choiceTasks = []string{"hellaswag", "piqa", "arc_easy", "arc_challenge", "boolq", "winogrande"}

func choicesOf(name string) int {
	switch name {
	case "hellaswag", "arc_easy", "arc_challenge":
		return 4
	}
	return 2
}

func TestEveryTaskLoads(t *testing.T) {
	splits := []Split{Train, Validation, Test}
	for _, info := range tasks.List() {
		for _, p := range tasks.Protocols() {
			for _, s := range splits {
				ds := load(t, s, info.Name, p)
				o := testOptions[s]
				want := map[Split]int{Train: o.Questions, Validation: 600, Test: 600}[s]
				switch info.Name {
				case "wikitext":
					want = map[Split]int{Train: o.Articles, Validation: 1000, Test: 1000}[s]
				case "wikitext2":
					want = 1
				case "c4", "c4-new", "c4_documents":
					want = map[Split]int{Train: o.Documents, Validation: 500, Test: 500}[s]
				}
				if len(ds.Docs) != want {
					t.Errorf("%s %s %s: %d documents, want %d", s, info.Name, p, len(ds.Docs), want)
				}
				for _, d := range ds.Docs {
					if info.Kind == tasks.MultipleChoice && info.Name != "arc_letter" && len(d.Choices) != choicesOf(info.Name) {
						t.Fatalf("%s %s: %d choices", s, info.Name, len(d.Choices))
					}
				}
			}
		}
	}
}

// digest is the SHA-256 of all files below a folder with their names.
func digest(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", filepath.ToSlash(rel), len(data))
		h.Write(data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestBytes pins the test split: numbers measured on it stay comparable.
func TestBytes(t *testing.T) {
	const want = "pending"
	if got := digest(t, root(t, Test)); got != want {
		t.Errorf("test split of seed 1 has digest %s, want %s", got, want)
	}
	again := t.TempDir()
	if err := Write(again, Validation, Options{Seed: 1}); err != nil {
		t.Fatal(err)
	}
	if digest(t, again) != digest(t, root(t, Validation)) {
		t.Error("the same options gave other bytes")
	}
	other := t.TempDir()
	if err := Write(other, Validation, Options{Seed: 2}); err != nil {
		t.Fatal(err)
	}
	if digest(t, again) == digest(t, other) {
		t.Error("another seed gave the same bytes")
	}
}

// TestHash compares the hash that parts the facts with values computed by hand from FNV-1a's and SplitMix64's definitions.
func TestHash(t *testing.T) {
	fnv1a := func(data []byte) uint64 {
		x := uint64(14695981039346656037)
		for _, b := range data {
			x = (x ^ uint64(b)) * 1099511628211
		}
		return x
	}
	x := fnv1a([]byte("\x07\x00\x00\x00\x00\x00\x00\x00thing\x00vase\x00"))
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	if got := hash(7, "thing", "vase"); got != x {
		t.Errorf("hash %x, want %x", got, x)
	}
}

func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		split Split
		o     Options
		want  string
	}{
		{Split(3), Options{}, "split 3"},
		{Test, Options{Questions: -1}, "-1 questions"},
		{Test, Options{Documents: maxCount + 1}, "documents, expected"},
		{Test, Options{Articles: -5}, "-5 articles"},
	} {
		if err := Write(t.TempDir(), c.split, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %+v: error %v, want %q", c.split, c.o, err, c.want)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, Test, Options{Questions: 4, Documents: 1, Articles: 1}); err == nil {
		t.Error("a file as folder: no error")
	}
}

// handComputed are answers found by hand from the rules of the package comment. Every question whose context matches must have the answer.
var handComputed = []struct{ task, context, answer string }{
	{"hellaswag", `lets go of the vase`, "breaks into many pieces."},
	{"hellaswag", `a rubber (box|ball|toy).* lets go of the (box|ball|toy)`, "bounces up and down."},
	{"hellaswag", `burning coals.* The coat$`, "burns with a bad smell."},
	{"hellaswag", `lets the key slip`, "drops to the bottom."},
	{"hellaswag", `strikes the card`, "gets a round hole."},
	{"hellaswag", `forgets the gate in the garden`, "turns brown with rust."},
	{"hellaswag", `drag the tire in two`, "grows long and thin."},
	{"hellaswag", `with [A-Z][a-z]+ and the saddle on board`, "grows heavy and sinks."},
	{"hellaswag", `drops a vase on the hard floor.*The vase$`, "breaks into many pieces."},
	{"hellaswag", `a coat in the hot fire.*The coat$`, "burns with a bad smell."},
	{"piqa", `cut a window in half`, "Use a diamond wheel."},
	{"piqa", `cut a chair in half`, "Use a long saw."},
	{"piqa", `repair a tire with a crack`, "Use a round patch."},
	{"piqa", `clean a clay ball that is dirty`, "Use sand and water."},
	{"piqa", `put a name on a letter`, "Use pen and ink."},
	{"piqa", `carry some milk`, "Use a bucket."},
	{"piqa", `measure some apples`, "Use ten fingers."},
	{"piqa", `clear some salt`, "Use a stiff broom."},
	{"arc_easy", `an iron (box|ball|ring) when it stands in the rain`, "It turns brown with rust."},
	{"arc_easy", `a leather (box|ball|ring) when it is hit`, "It grows thin and flat."},
	{"arc_easy", `legs does (a|the) robin`, "two legs"},
	{"arc_easy", `legs does (a|the) trout`, "no legs"},
	{"arc_easy", `legs does (a|the|an) ant`, "six legs"},
	{"arc_easy", `is (a|the) horse covered`, "thick fur"},
	{"arc_easy", `is a baker. Where`, "in a bakery"},
	{"arc_easy", `is a smith. Which tool`, "an anvil"},
	{"arc_easy", `is a doctor. What does`, "sick people"},
	{"arc_challenge", `same material as a bottle.*falls on the hard floor`, "It breaks into many pieces."},
	{"arc_challenge", `same material as a map.*lies in the hot fire`, "It is gone in a flash."},
	{"arc_challenge", `(and a brick|a brick and).*hammer. What happens to the brick`, "It turns to fine dust."},
	{"arc_challenge", `works in a bakery. Which tool`, "an oven"},
	{"arc_challenge", `uses a net. Where`, "in a harbor"},
	{"arc_challenge", `: Anna is a miner and .*Where does Anna`, "in a mine"},
	{"arc_challenge", `a fisher and Anna is a .*Where does [^A]`, "in a harbor"},
	{"boolq", `The (hook|nail|key) falls into the deep river.\nQuestion: does it sink`, "yes"},
	{"boolq", `The (chair|table|bench) falls into the deep river.\nQuestion: does it sink`, "no"},
	{"boolq", `a woolen (box|ball|toy).*deep river.\nQuestion: does it take up water`, "yes"},
	{"boolq", `The (vase|jar|mirror) falls on the hard floor.\nQuestion: does it break`, "yes"},
	{"boolq", `The (hook|nail|key) falls on the hard floor.\nQuestion: does it make a loud noise`, "yes"},
	{"boolq", `The (hook|nail|key) falls on the hard floor.\nQuestion: does it break`, "no"},
	{"boolq", `sees a (robin|crow|swan).*\nQuestion: does this animal have more than three legs`, "no"},
	{"boolq", `sees a (horse|cow|goat).*\nQuestion: does this animal have more than three legs`, "yes"},
	{"boolq", `is a farmer in the town.*\nQuestion: does this person work in a building`, "no"},
	{"boolq", `is a baker in the town.*\nQuestion: does this person work in a building`, "yes"},
}

func TestHandComputedAnswers(t *testing.T) {
	for _, h := range handComputed {
		re := regexp.MustCompile(h.context)
		found := 0
		for _, s := range []Split{Train, Validation, Test} {
			for _, d := range load(t, s, h.task, tasks.JointBOS).Docs {
				if !re.MatchString(d.Requests[0].Context) {
					continue
				}
				found++
				if got := d.Choices[d.Gold]; got != h.answer {
					t.Errorf("%s: %q answered %q, by hand %q", h.task, d.Requests[0].Context, got, h.answer)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s: no question matches %q", h.task, h.context)
		}
	}
	// WinoGrande: the right option by hand, per pattern of the sentence.
	for _, h := range []struct{ context, follow, option string }{
		{`(the|The) vase and the \w+ on the hard floor`, "breaks into many pieces.", "the vase"},
		{`the \w+ and the vase on the hard floor`, "breaks into many pieces.", "the vase"},
		{`^Ben is taller than \w+`, "must look down.", "Ben"},
		{`^\w+ is taller than Ben`, "must look down.", "!Ben"},
		{`^Anna sells a house to`, "gets the house.", "!Anna"},
		{`sells a house to Anna`, "gets the house.", "Anna"},
		{`^The pot does not fit in the`, "is too large.", "the pot"},
		{`does not fit in the pot`, "is too large.", "!the pot"},
		{`Tom is a miner and \w+ is a`, "works in a mine.", "Tom"},
	} {
		re := regexp.MustCompile(h.context)
		found := 0
		for _, s := range []Split{Train, Validation, Test} {
			for _, d := range load(t, s, "winogrande", tasks.JointBOS).Docs {
				right := d.Requests[d.Gold].Context
				if d.Choices[0] != h.follow || !re.MatchString(right) {
					continue
				}
				found++
				want, not := strings.CutPrefix(h.option, "!")
				if strings.HasSuffix(right, " "+want) == not {
					t.Errorf("winogrande: %q %q, by hand %q", right, h.follow, h.option)
				}
			}
		}
		if found == 0 {
			t.Errorf("winogrande: no sentence matches %q", h.context)
		}
	}
}

// TestGroupsAreBalanced shows that within the questions that share their choices each choice is right equally often, and that right answers
// stand in every position equally often and not in a sequence.
func TestGroupsAreBalanced(t *testing.T) {
	for _, s := range []Split{Train, Validation, Test} {
		for _, name := range choiceTasks {
			docs := load(t, s, name, tasks.JointBOS).Docs
			right := make(map[string]map[string]int) // what all of a group share, to the right answer, to a count
			count := func(key, answer string, all []string) {
				if right[key] == nil {
					right[key] = make(map[string]int)
					for _, c := range all {
						right[key][c] = 0
					}
				}
				right[key][answer]++
			}
			positions := make([]int, choicesOf(name))
			same := 0
			for i, d := range docs {
				positions[d.Gold]++
				if i > 0 && docs[i-1].Gold == d.Gold {
					same++
				}
				switch name {
				case "boolq":
					_, question, _ := strings.Cut(d.Requests[0].Context, "\n")
					count(question, d.Choices[d.Gold], d.Choices)
				case "winogrande":
					options := []string{optionOf(d, 0), optionOf(d, 1)}
					answer := options[d.Gold]
					slices.Sort(options)
					count(strings.Join(options, "|"), answer, options)
				default:
					all := slices.Sorted(slices.Values(d.Choices))
					count(strings.Join(all, "|"), d.Choices[d.Gold], all)
				}
			}
			for _, key := range slices.Sorted(maps.Keys(right)) {
				first := -1
				for _, answer := range slices.Sorted(maps.Keys(right[key])) {
					n := right[key][answer]
					if first < 0 {
						first = n
					}
					if n != first {
						t.Errorf("%s %s: %q: right answers %v", s, name, key, right[key])
						break
					}
				}
			}
			for _, n := range positions {
				if n != len(docs)/len(positions) {
					t.Errorf("%s %s: right answers by position %v", s, name, positions)
					break
				}
			}
			if got, want := float64(same)/float64(len(docs)-1), 1/float64(len(positions)); got < want-.07 || got > want+.07 {
				t.Errorf("%s %s: the right position repeats in %.3f of the rows, chance is %.3f", s, name, got, want)
			}
		}
	}
}

// optionOf returns the option that request i of a WinoGrande document puts in place of the blank: what the two contexts do not share.
func optionOf(d tasks.Doc, i int) string {
	a, b := d.Requests[i].Context, d.Requests[1-i].Context
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	n = strings.LastIndexByte(a[:n], ' ') + 1
	if strings.HasSuffix(a[:n], " the ") && strings.HasPrefix(a[n:], "") && !isName(a[n:]) {
		n -= len("the ")
	}
	return a[n:]
}

func isName(s string) bool { return slices.Contains(names, s) }

// Patterns of the test's own that find facts in running text: who or what a text speaks of, and the relation.
var (
	actionPatterns = map[string]string{
		"fall": `hard floor|lets go of|slips away`, "fire": `hot fire|burning coals|house burns`, "river": `deep river|on a bridge|boat tips`,
		"hammer": `with a hammer|heavy tool|heavy rock`, "rain": `rain for a year|until next spring|wet seasons`,
		"pull": `pulled hard|pulls hard|between two carts|in two directions`,
		"cut":  `in half`, "mend": `with a crack`, "clean": `is dirty`, "mark": `put a name`,
	}
	substancePatterns = map[string]string{"carry": `across the yard`, "store": `for the winter`, "measure": `measure some`, "clear": `off the floor`}
	animalPatterns    = map[string]string{
		"cover": `cover|feel soft`, "legs": `many legs|has two|has no|has six|has four|than three`, "move": `moves |move |move?`, "sleep": `sleep`,
		"young": `its life|drink milk`, "winter": `winter`,
	}
	rolePatterns = map[string]string{
		"give": `gives the gold`, "teach": `to swim`, "tall": `taller`, "fast": `faster`, "old": `older`, "ask": `for the way`,
		"sell": `sells a house`, "hide": `hides from`, "fit": `not fit in`, "weight": `heavier`, "price": `costs more`,
	}
)

var (
	personWord = regexp.MustCompile(`\b([A-Z][a-z]+) (?:is an? |works in an? |uses an? |works with )([a-z]+(?: and [a-z]+| people| children| metal| colors)?)`)
	nameWord   = regexp.MustCompile(`\b[A-Z][a-z]+\b`)
)

// scanner finds the facts of a text by its words alone.
type scanner struct {
	things, substances, animals map[string]bool
	adjectives, shapes          map[string]bool
	professions                 map[string]string // profession, or a word of one of its attributes, to the profession
	names, vessels              map[string]bool
	patterns                    [4][]pattern
}

type pattern struct {
	name  string
	parts []string // one of them occurs in a text that speaks of the relation
}

func set(lists ...[]string) map[string]bool {
	out := make(map[string]bool)
	for _, l := range lists {
		for _, w := range l {
			out[w] = true
		}
	}
	return out
}

func newScanner() *scanner {
	s := &scanner{
		things: set(objects...), substances: set(substances...), animals: set(animals...), adjectives: set(materialAdjectives), shapes: set(shapes),
		professions: make(map[string]string), names: set(names), vessels: set(vessels),
	}
	for c, p := range professions {
		s.professions[p] = p
		for _, l := range personLookups {
			words := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(l.answers[c], "in "), "a "), "an ")
			s.professions[words] = p
		}
	}
	for i, m := range []map[string]string{actionPatterns, substancePatterns, animalPatterns, rolePatterns} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			s.patterns[i] = append(s.patterns[i], pattern{name, strings.Split(m[name], "|")})
		}
	}
	return s
}

// scan adds the facts of a text: every member it names, with every relation it speaks of. Of a text that names several things and several
// actions, a fact is what one sentence names.
func (s *scanner) scan(text string, facts map[string]bool) {
	if things, acts := s.thingsIn(text), s.matches(0, text); len(things) > 1 && len(acts) > 1 {
		for sentence := range strings.SplitSeq(text, ". ") {
			s.scanOne(sentence, facts)
		}
		return
	}
	s.scanOne(text, facts)
}

// plainWords returns the runs of lower-case letters.
func plainWords(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r < 'a' || r > 'z' })
}

func (s *scanner) thingsIn(text string) []string {
	var things []string
	words := plainWords(text)
	for i, w := range words {
		switch {
		case s.shapes[w] && i > 0 && s.adjectives[words[i-1]]:
			things = append(things, words[i-1]+" "+w)
		case s.things[w]:
			things = append(things, w)
		}
	}
	slices.Sort(things)
	return slices.Compact(things)
}

// matches lists the relations of one sort that a text speaks of.
func (s *scanner) matches(sort int, text string) []string {
	var out []string
	for _, p := range s.patterns[sort] {
		if slices.ContainsFunc(p.parts, func(part string) bool { return strings.Contains(text, part) }) {
			out = append(out, p.name)
		}
	}
	return out
}

func (s *scanner) scanOne(text string, facts map[string]bool) {
	var goods, beasts, parties []string
	words := plainWords(text)
	for i, w := range words {
		switch {
		case s.substances[w]:
			goods = append(goods, w)
		case s.animals[w]:
			beasts = append(beasts, w)
		}
		if s.vessels[w] && i > 0 && (words[i-1] == "the" || words[i-1] == "he") { // "The" leaves "he"
			parties = append(parties, w)
		}
	}
	for i, members := range [][]string{s.thingsIn(text), goods, beasts} {
		if len(members) == 0 {
			continue
		}
		for _, relation := range s.matches(i, text) {
			for _, m := range members {
				facts[relation+" "+m] = true
			}
		}
	}
	for _, m := range personWord.FindAllStringSubmatch(text, -1) {
		if p := s.professions[m[2]]; p != "" && s.names[m[1]] {
			facts[p+" "+m[1]] = true
		}
	}
	var people []string
	for _, n := range nameWord.FindAllString(text, -1) {
		if s.names[n] {
			people = append(people, n)
		}
	}
	for _, relation := range s.matches(3, text) {
		who := people
		if vesselRole(relation) {
			who = parties
		}
		who = slices.Compact(slices.Sorted(slices.Values(who)))
		if len(who) == 2 {
			facts[relation+" "+who[0]+" "+who[1]] = true
		}
	}
}

func vesselRole(name string) bool {
	return slices.ContainsFunc(vesselRoles, func(r role) bool { return r.name == name })
}

// TestSplitsShareNoFact reads the written files of all splits and finds their facts with the test's own patterns.
func TestSplitsShareNoFact(t *testing.T) {
	sc := newScanner()
	where := make(map[string]Split)
	for _, s := range []Split{Test, Validation, Train} {
		facts := make(map[string]bool)
		for _, name := range choiceTasks {
			for _, d := range load(t, s, name, tasks.JointBOS).Docs {
				q := d.Requests[d.Gold]
				sc.scan(q.Context+q.Continuation, facts)
			}
		}
		for _, name := range []string{"wikitext", "c4_documents"} {
			for _, d := range load(t, s, name, tasks.JointBOS).Docs {
				for line := range strings.SplitSeq(d.Text, "\n") {
					sc.scan(line, facts)
				}
			}
		}
		for _, f := range slices.Sorted(maps.Keys(facts)) {
			if other, ok := where[f]; ok {
				t.Errorf("fact %q is in %s and in %s", f, other, s)
			}
			where[f] = s
		}
		t.Logf("%s: %d facts found in the written text", s, len(facts))
	}
	// The scan must find the facts there are, or it proves nothing. The pairs are so many that the train text tested here lacks some.
	members, pairs := countFacts()
	found := [2]int{}
	for f := range where {
		if _, ok := rolePatterns[strings.Fields(f)[0]]; ok {
			found[1]++
		} else {
			found[0]++
		}
	}
	if found[0] != members || found[1] < pairs/2 || found[1] > pairs {
		t.Errorf("the scan found %d and %d facts, the tables have %d and %d", found[0], found[1], members, pairs)
	}
}

// countFacts counts the facts from the tables: those of one member, and those of a pair.
func countFacts() (members, pairs int) {
	n := len(materials) * (len(objects[0]) + len(shapes)) * (len(actions) + len(thingMethods))
	n += len(substances) * len(substances[0]) * len(substanceMethods)
	n += len(animals) * len(animals[0]) * len(animalLookups)
	n += len(names) * len(professions)
	return n, len(names)*(len(names)-1)/2*len(personRoles) + len(vessels)*(len(vessels)-1)/2*len(vesselRoles)
}

// TestTrainCovers shows that what is left out can be inferred: each rule has most of its members in train, each member most of its rules.
func TestTrainCovers(t *testing.T) {
	w := newWorld(1)
	total := 0
	check := func(name string, d domain) {
		relations := make(map[member]int)
		for r, classes := range d.parts {
			for c, p := range classes {
				all := len(p[Train]) + len(p[Validation]) + len(p[Test])
				total += all
				if len(p[Train])*4 < all*3 || len(p[Validation]) == 0 || len(p[Test]) == 0 {
					t.Errorf("%s relation %d class %d: %d, %d, %d facts", name, r, c, len(p[Train]), len(p[Validation]), len(p[Test]))
				}
				for _, m := range p[Train] {
					relations[m]++
				}
			}
		}
		for m, n := range relations {
			if len(d.parts) > 1 && n*3 < 2*len(d.parts) {
				t.Errorf("%s %s: %d of %d relations in train", name, m.full(), n, len(d.parts))
			}
		}
	}
	check("thing", w.things)
	check("shape", w.shapes)
	check("substance", w.substances)
	check("animal", w.animals)
	check("person", w.people)
	for _, roles := range [][][3][][2]string{w.persons, w.vessels} {
		for _, p := range roles {
			total += len(p[Train]) + len(p[Validation]) + len(p[Test])
		}
	}
	if members, pairs := countFacts(); total != members+pairs {
		t.Errorf("%d facts in the splits, %d in the tables", total, members+pairs)
	}
}

// TestTables holds what the generator takes for granted of the tables.
func TestTables(t *testing.T) {
	distinct := func(name string, words []string) {
		if len(words) != len(set(words)) {
			t.Errorf("%s: a word occurs twice in %q", name, words)
		}
	}
	subset := func(c check, classes []string) {
		for _, y := range c.yes {
			if !slices.Contains(classes, y) {
				t.Errorf("%s: %q is no class", c.question, y)
			}
		}
		if len(c.yes) == 0 || len(c.yes) == len(classes) {
			t.Errorf("%s: yes for %d of %d classes", c.question, len(c.yes), len(classes))
		}
	}
	distinct("members", slices.Concat(slices.Concat(objects...), shapes, slices.Concat(substances...), slices.Concat(animals...)))
	distinct("names", names)
	for _, a := range actions {
		distinct(a.name, a.effects)
		for _, c := range a.checks {
			subset(c, materials)
		}
		if len(a.effects) != len(materials) {
			t.Errorf("%s: %d effects", a.name, len(a.effects))
		}
	}
	for _, m := range thingMethods {
		distinct(m.name, m.tools)
	}
	for _, l := range animalLookups {
		distinct(l.name, l.answers)
		subset(l.check, animalKinds)
	}
	for _, l := range personLookups {
		distinct(l.name, l.answers)
		subset(l.check, professions)
	}
}

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "world")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := Write(dir, Test, Options{Seed: 1}); err != nil {
		panic(err)
	}
	path, err := tasks.DefaultPath(dir, "arc_challenge")
	if err != nil {
		panic(err)
	}
	ds, err := tasks.Load("arc_challenge", tasks.Options{Path: path, Protocol: tasks.JointBOS, Limit: 1})
	if err != nil {
		panic(err)
	}
	d := ds.Docs[0]
	io.WriteString(os.Stdout, d.Requests[0].Context+"\n")
	for i, c := range d.Choices {
		mark := " "
		if i == d.Gold {
			mark = "*"
		}
		fmt.Println(mark, c)
	}
	// Output:
}
