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
	Train:      {Questions: 4000, Documents: 4000, Articles: 2000},
	Validation: {},
	Test:       {},
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

// TestBytes pins the test split, so that accuracies measured on it stay comparable, and the train split, so that a model trained on it can
// be trained again. The train split tested is a small one.
func TestBytes(t *testing.T) {
	for _, c := range []struct {
		split  Split
		digest string
	}{
		{Test, "d989403288d63e95e334789e4123ee0e166647a7c4e0dbaa6ab505af78d398b8"},
		{Train, "fb1f8beff70b09abda6a7495e33ecfb0e8a83e9edf388373469c1a9335bd49c4"},
	} {
		if got := digest(t, root(t, c.split)); got != c.digest {
			t.Errorf("%s split of %+v has digest %s, want %s", c.split, testOptions[c.split], got, c.digest)
		}
	}
	again := t.TempDir()
	if err := Write(again, Validation, Options{}); err != nil {
		t.Fatal(err)
	}
	if digest(t, again) != digest(t, root(t, Validation)) {
		t.Error("the same options gave other bytes")
	}
	other := t.TempDir()
	if err := Write(other, Validation, Options{Seed: 1}); err != nil {
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
	{"hellaswag", `: \w+ (has|buys|finds) a rubber \w+(\.| at | in ).*lets go of the`, "bounces up and down."},
	{"hellaswag", `burning coals.* The coat$`, "burns with a bad smell."},
	{"hellaswag", `lets the (pan|gate) slip`, "drops to the bottom."},
	{"hellaswag", `strikes the card`, "gets a round hole."},
	{"hellaswag", `forgets the (hook|pan|gate) in the garden`, "turns brown with rust."},
	{"hellaswag", `drag the (balloon|tube|plug) in two`, "grows long and thin."},
	{"hellaswag", `with [A-Z][a-z]+ and the saddle on board`, "grows heavy and sinks."},
	{"hellaswag", `drops a vase on the hard floor.*The vase$`, "breaks into many pieces."},
	{"hellaswag", `a coat in the hot fire.*The coat$`, "burns with a bad smell."},
	{"piqa", `cut a window in half`, "Use a diamond wheel."},
	{"piqa", `cut a chair in half`, "Use a long saw."},
	{"piqa", `repair a tire with a crack`, "Use a round patch."},
	{"piqa", `clean a clay ball that is dirty`, "Use sand and water."},
	{"piqa", `put a name on a (map|note|page|ticket)\b`, "Use pen and ink."},
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
	{"arc_challenge", `same material as a (bottle|vase|jar)\..*falls on the hard floor`, "It breaks into many pieces."},
	{"arc_challenge", `same material as a (map|note|page)\..*lies in the hot fire`, "It burns up very fast."},
	{"arc_challenge", `(and a brick|a brick and).*hammer. What happens to the brick`, "It turns to fine dust."},
	{"arc_challenge", `works in a bakery. Which tool`, "an oven"},
	{"arc_challenge", `uses a net. Where`, "in a harbor"},
	{"arc_challenge", `: [AB]\w+ is a miner and [C-Z].*Where does [AB]`, "in a mine"},
	{"arc_challenge", `a smith and [AB]\w+ is a .*Where does [C-Z]`, "in a forge"},
	{"boolq", `The (hook|nail|key) falls into the deep river.*\nQuestion: does it sink`, "yes"},
	{"boolq", `The (fence|ladder|chair) falls into the deep river.*\nQuestion: does it sink`, "no"},
	{"boolq", `a woolen (box|ball|toy).*deep river.*\nQuestion: does it take up water`, "yes"},
	{"boolq", `The (vase|jar|mirror) falls on the hard floor.*\nQuestion: does it break`, "yes"},
	{"boolq", `The (hook|nail|key) falls on the hard floor.*\nQuestion: does it make a loud noise`, "yes"},
	{"boolq", `The (door|bench|boot) falls on the hard floor.*\nQuestion: does it break`, "no"},
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
	// WinoGrande: which of two sentences, up to and with the option, is right before what follows.
	for _, h := range []struct{ sentence, follow, right string }{
		{`(the|The) vase and the \w+ on the hard floor`, "breaks into many pieces.", ` the vase$`},
		{`the \w+ and the vase on the hard floor`, "breaks into many pieces.", ` the vase$`},
		{`cut the stamp and the \w+ in half`, "needs small scissors.", ` the stamp$`},
		{`the (owl|parrot|hen|crow|eagle|swan|goose) and the`, "has two legs.", ` the (owl|parrot|hen|crow|eagle|swan|goose)$`},
		{`^[AB]\w+ is taller than [C-Z]`, "must look down.", ` [AB]\w+$`},
		{`^[C-Z]\w+ is taller than [AB]`, "must look down.", ` [C-Z]\w+$`},
		{`^[AB]\w+ sells a house to [C-Z]`, "gets the house.", ` [C-Z]\w+$`},
		{`^[AB]\w+ sells a house to [C-Z]`, "gets the money.", ` [AB]\w+$`},
		{`^The [a-m]\w+ does not fit in the [n-z]`, "is too large.", ` the [a-m]\w+$`},
		{`^The [a-m]\w+ does not fit in the [n-z]`, "is too small.", ` the [n-z]\w+$`},
		{`[C-Z]\w+ is a baker and [AB]\w+ is an? \w+`, "works in a bakery.", ` [C-Z]\w+$`},
		{`[AB]\w+ is an? \w+ and [C-Z]\w+ is a baker`, "works in a bakery.", ` [C-Z]\w+$`},
	} {
		sentence, right := regexp.MustCompile(h.sentence), regexp.MustCompile(h.right)
		found := 0
		for _, s := range []Split{Train, Validation, Test} {
			for _, d := range load(t, s, "winogrande", tasks.JointBOS).Docs {
				if c := d.Requests[d.Gold].Context; d.Choices[0] == h.follow && sentence.MatchString(c) {
					found++
					if !right.MatchString(c) {
						t.Errorf("winogrande: %q before %q, by hand %q", c, h.follow, h.right)
					}
				}
			}
		}
		if found == 0 {
			t.Errorf("winogrande: no sentence matches %q before %q", h.sentence, h.follow)
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
	if strings.HasSuffix(a[:n], " the ") && !isName(a[n:]) {
		n -= len("the ")
	}
	return a[n:]
}

func isName(s string) bool { return slices.Contains(names, s) }

// TestSplitsShareNoFact reads the written files of all splits and finds their facts with the test's own patterns.
func TestSplitsShareNoFact(t *testing.T) {
	sc := readOnce().scanner
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
	// The scan must find the facts there are, or it proves nothing. The pairs and the coined names are so many that the text tested here
	// lacks some.
	ordinary, coined, pairs := countFacts()
	words := set(slices.Concat(objects...), shapes, slices.Concat(substances...), slices.Concat(animals...), names)
	var ordinaryFound, coinedFound, pairsFound int
	for f := range where {
		fields := strings.Fields(f)
		switch _, role := rolePatterns[fields[0]]; {
		case role:
			pairsFound++
		case words[fields[len(fields)-1]]:
			ordinaryFound++
		default:
			coinedFound++
		}
	}
	t.Logf("found %d of %d facts of ordinary words, %d of %d of coined names, %d of %d of pairs", ordinaryFound, ordinary, coinedFound, coined, pairsFound, pairs)
	if ordinaryFound < ordinary*99/100 || ordinaryFound > ordinary || coinedFound < coined/2 || coinedFound > coined || pairsFound < pairs/3 || pairsFound > pairs {
		t.Error("the scan misses facts, or finds some that are none")
	}
}

// countFacts counts the facts from the tables: those of a member with an ordinary word, those of one with a coined name, those of a pair.
func countFacts() (ordinary, coined, pairs int) {
	ofThings := len(materials) * (len(actions) + len(thingMethods))
	ofAnimals := len(animals) * len(animalLookups)
	ordinary = ofThings*(len(objects[0])+len(shapes)) + ofAnimals*len(animals[0])
	ordinary += len(substances)*len(substances[0])*len(substanceMethods) + len(names)*len(professions)
	coined = ofThings*coinedGoods + ofAnimals*coinedBeasts
	return ordinary, coined, len(names)*(len(names)-1)/2*len(personRoles) + len(vessels)*(len(vessels)-1)/2*len(vesselRoles)
}

// TestTrainCovers shows that what is left out can be inferred: each rule has most of its members in train, each member most of its rules.
func TestTrainCovers(t *testing.T) {
	w := newWorld(0)
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
	if ordinary, coined, pairs := countFacts(); total != ordinary+coined+pairs {
		t.Errorf("%d facts in the splits, %d in the tables", total, ordinary+coined+pairs)
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
	tail := slices.Concat(slices.Concat(coined("good", len(materials), coinedGoods)...), slices.Concat(coined("beast", len(animals), coinedBeasts)...))
	distinct("coined names", tail)
	for w := range set(slices.Concat(objects...), shapes, slices.Concat(substances...), slices.Concat(animals...), vessels, professions, materials,
		materialAdjectives, animalKinds) {
		if slices.Contains(tail, w) {
			t.Errorf("%q is a coined name too", w)
		}
	}
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
	if err := Write(dir, Test, Options{}); err != nil {
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
	// Question: Ruth leaves a dolbok and a fokax in the rain for a year. What happens to the fokax?
	// Answer:
	// * It keeps the water out.
	//   It grows some green moss.
	//   It turns brown with rust.
	//   It grows stiff and pale.
}

// BenchmarkWrite writes train roots of 40,000 questions per task and as many documents; it reports the bytes of all files.
func BenchmarkWrite(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		if err := Write(dir, Train, Options{Questions: 40000, Documents: 40000, Articles: 20000}); err != nil {
			b.Fatal(err)
		}
		total := int64(0)
		filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if info, e := d.Info(); e == nil && !d.IsDir() {
				total += info.Size()
			}
			return err
		})
		b.SetBytes(total)
		b.StopTimer()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}

// TestVocabulary prints the number of word types and the mean length of the documents, and holds the bound of ordinary words that a
// vocabulary of about a thousand tokens is meant for; coined names are spelt of syllables.
func TestVocabulary(t *testing.T) {
	types := make(map[string]bool)
	words := regexp.MustCompile(`[A-Za-z]+`)
	for _, name := range append(slices.Clone(choiceTasks), "wikitext", "c4_documents") {
		docs := load(t, Train, name, tasks.JointBOS).Docs
		total := 0
		for _, d := range docs {
			text := d.Text
			if len(d.Requests) > 0 {
				text = d.Requests[d.Gold].Context + d.Requests[d.Gold].Continuation
			}
			for _, w := range words.FindAllString(text, -1) {
				types[strings.ToLower(w)] = true
				total++
			}
		}
		t.Logf("%s: %.1f words per document", name, float64(total)/float64(len(docs)))
	}
	longest := 0
	for _, d := range load(t, Test, "c4_documents", tasks.JointBOS).Docs {
		longest = max(longest, len(words.FindAllString(d.Text, -1)))
	}
	if longest < 150 { // the block perplexity draws windows from documents longer than a block
		t.Errorf("the longest document has %d words", longest)
	}
	coined := 0
	ordinary := set(slices.Concat(objects...), slices.Concat(animals...))
	for w := range readOnce().class {
		if types[w] && !ordinary[w] {
			coined++
		}
	}
	t.Logf("%d word types and %d coined names", len(types)-coined, coined)
	if n := len(types) - coined; n > 640 {
		t.Errorf("%d word types, expected at most 640", n)
	}
}
