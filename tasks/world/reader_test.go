package world

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"splitbench/tasks"
)

// Patterns of the test's own that find facts in running text: who or what a text speaks of, and the relation.
var (
	actionPatterns = map[string]string{
		"fall": `hard floor|lets go of|opens both hands`, "fire": `hot fire|burning coals|house burns`, "river": `deep river|on a bridge|boat tips`,
		"hammer": `with a hammer|heavy tool|heavy rock`, "rain": `rain for a year|until next spring|wet roof`,
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
		"sell": `sells a house`, "hide": `hides from`, "fit": `not fit in`, "weight": `heavier`,
	}
)

var (
	personWord = regexp.MustCompile(`\b([A-Z][a-z]+) (?:is an? |works in an? |uses an? |works with )([a-z]+(?: and [a-z]+| people| children| metal)?)`)
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

// newScanner makes a scanner for the things and animals that a reader has met.
func newScanner(r *reader) *scanner {
	s := &scanner{
		things: make(map[string]bool), substances: set(substances...), animals: make(map[string]bool), adjectives: set(materialAdjectives), shapes: set(shapes),
		professions: make(map[string]string), names: set(names), vessels: set(vessels),
	}
	for noun, class := range r.class {
		if slices.Contains(animalKinds, class) {
			s.animals[noun] = true
		} else {
			s.things[noun] = true
		}
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

// reader knows what the running text of train says, and nothing else of the world: of which material a thing and of which kind an animal
// is, and what follows for a class.
type reader struct {
	*scanner
	class      map[string]string            // "vase" to "glass", "robin" to "bird"
	adjectives map[string]string            // "wooden" to "wood"
	rules      map[string]string            // "fall glass" to "breaks into many pieces", "place baker" to "works in a bakery", …
	workers    map[string]string            // "works in a bakery" to "baker"
	uses       map[string]map[string]string // "milk" to "carry" to "a bucket"
}

var (
	statedMaterial = regexp.MustCompile(`^An? (?:([a-z]+) )?([a-z]+) is made of ([a-z]+)\.`)
	statedKind     = regexp.MustCompile(`^The ([a-z]+) is an? ([a-z]+)\.`)
	statedEffect   = regexp.MustCompile(`When it ([^,.]*), it ([^,.]*)\.`)
	statedTool     = regexp.MustCompile(`To ([^,.]*), people use ([^,.]*)\.`)
	goalAndTool    = regexp.MustCompile(`^How to ([^?]*)\? Use ([^.]*)\.`)
	statedPerson   = regexp.MustCompile(`^[A-Z][a-z]+ is an? ([a-z]+)\. `)
	wonder         = regexp.MustCompile(`does (it|this animal|this person) ([^?.]*)\?`)
	reply          = regexp.MustCompile(`Answer: (yes|no)\.`)
	ownedThing     = regexp.MustCompile(`(?:has|buys|finds) an? (?:([a-z]+) )?([a-z]+)(?: at| in|\.)`)
	seenAnimal     = regexp.MustCompile(`sees an? ([a-z]+) `)
	statedOfPerson = regexp.MustCompile(`\b([A-Z][a-z]+) (?:is an? ([a-z]+)|((?:works|uses) [a-z ]+))`)
	aboutPerson    = regexp.MustCompile(` is an? ([a-z]+)`)
)

var readOnce = sync.OnceValue(func() *reader {
	r := &reader{
		class: make(map[string]string), adjectives: make(map[string]string), rules: make(map[string]string), workers: make(map[string]string),
		uses: make(map[string]map[string]string),
	}
	generate := func(stream string) *generator {
		return &generator{world: newWorld(0), random: newRandom(0, stream), split: Train}
	}
	plain := strings.NewReplacer(" .", ".", " ,", ",", " ?", "?", " :", ":")
	var lines []string
	g := generate("articles to read")
	for range 120000 { // enough to meet every coined name
		for line := range strings.SplitSeq(g.article(), "\n") {
			lines = append(lines, plain.Replace(strings.TrimSpace(line)))
		}
	}
	g = generate("stories to read")
	for range 20000 {
		lines = append(lines, g.story())
	}
	for _, line := range lines {
		r.readStatement(line)
	}
	r.scanner = newScanner(r)
	for _, line := range lines {
		r.readRule(line)
	}
	return r
})

// readStatement takes in what a line says that something is.
func (r *reader) readStatement(line string) {
	if m := statedMaterial.FindStringSubmatch(line); m != nil && m[1] == "" {
		r.class[m[2]] = m[3]
	} else if m != nil {
		r.adjectives[m[1]] = m[3]
	} else if m := statedKind.FindStringSubmatch(line); m != nil {
		r.class[m[1]] = m[2]
	}
}

// readRule takes in what a line says that follows for a class, and which tool serves what.
func (r *reader) readRule(line string) {
	switch {
	case statedMaterial.MatchString(line):
		material := statedMaterial.FindStringSubmatch(line)[3]
		for _, m := range statedEffect.FindAllStringSubmatch(line, -1) {
			r.rules[r.one(0, m[1])+" "+material] = m[2]
		}
	case statedTool.MatchString(line):
		for _, m := range statedTool.FindAllStringSubmatch(line, -1) {
			r.rules[r.one(0, m[1])+" "+r.materialIn(m[1])] = m[2]
		}
	case goalAndTool.MatchString(line):
		m := goalAndTool.FindStringSubmatch(line)
		if relation := r.one(0, m[1]); relation != "" {
			r.rules[relation+" "+r.materialIn(m[1])] = m[2]
		}
		for _, noun := range r.substancesIn(m[1]) {
			if r.uses[noun] == nil {
				r.uses[noun] = make(map[string]string)
			}
			r.uses[noun][r.one(1, m[1])] = m[2]
		}
	case statedKind.MatchString(line):
		kind := statedKind.FindStringSubmatch(line)[2]
		for sentence := range strings.SplitSeq(line, ".") {
			if words := strings.Fields(sentence); len(words) > 3 && r.class[words[1]] == kind && words[3] != kind {
				predicate := strings.Join(words[2:], " ")
				if relation := r.one(2, predicate+" "); relation != "" {
					r.rules[relation+" "+kind] = predicate
				}
			}
		}
	case strings.Contains(line, "Question: "):
		passage, quiz, _ := strings.Cut(line, " Question: ")
		answers := reply.FindAllStringSubmatch(quiz, -1)
		for i, m := range wonder.FindAllStringSubmatch(quiz, -1) {
			r.rules[r.checkKey(passage, m[1], m[2])] = answers[i][1]
		}
	case statedPerson.MatchString(line):
		profession := statedPerson.FindStringSubmatch(line)[1]
		for sentence := range strings.SplitSeq(line, ". ") {
			_, predicate, _ := strings.Cut(strings.TrimSuffix(sentence, "."), " ")
			if relation := personRelation(predicate); relation != "" {
				r.rules[relation+" "+profession], r.workers[predicate] = predicate, profession
			}
		}
	default:
		r.readRole(line)
	}
}

// personRelation names what a predicate says of a person.
func personRelation(predicate string) string {
	for _, p := range [][2]string{{"works in", "place"}, {"uses", "tool"}, {"works with", "with"}} {
		if strings.HasPrefix(predicate, p[0]+" ") {
			return p[1]
		}
	}
	return ""
}

// readRole takes in which follow-ups fit the first party of a sentence.
func (r *reader) readRole(line string) {
	role := r.one(3, line)
	m := roleParties.FindStringSubmatch(line)
	if role == "" || m == nil {
		return
	}
	for i, party := range m[1:3] {
		party = strings.ToLower(party)
		for part := range strings.SplitSeq(strings.TrimSuffix(m[3], "."), ", and ") {
			part = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(strings.TrimLeft(part, "., "), "because "), "so "))
			if follow, ok := strings.CutPrefix(strings.ToLower(part), party+" "); ok {
				r.rules[role+" "+follow] = []string{"first", "second"}[i]
			}
		}
	}
}

// roleParties finds the two parties of a sentence and what follows it.
var roleParties = regexp.MustCompile(`^(The [a-z]+|[A-Z][a-z]+) (?:gives the gold to|teaches|is taller than|runs faster than|is older than|asks|sells a house to|` +
	`hides from|does not fit in|is heavier than) (the [a-z]+|[A-Z][a-z]+)(?: to swim| for the way)?(.*)$`)

// one names the one relation of a sort that a text speaks of, "" if there is none or several.
func (r *reader) one(sort int, text string) string {
	if found := r.matches(sort, text); len(found) == 1 {
		return found[0]
	}
	return ""
}

// material says what a thing is made of: what the text says, or what train says of it.
func (r *reader) material(text, noun string) string {
	words := plainWords(text)
	for i, w := range words[:max(len(words)-1, 0)] {
		if words[i+1] == noun && r.adjectives[w] != "" {
			return r.adjectives[w]
		}
	}
	return r.class[noun]
}

// materialIn says of what the one thing is that a text names.
func (r *reader) materialIn(text string) string {
	if things := r.thingsIn(text); len(things) == 1 {
		words := strings.Fields(things[0])
		return r.material(things[0], words[len(words)-1])
	}
	return ""
}

func (r *reader) substancesIn(text string) []string {
	return slices.DeleteFunc(plainWords(text), func(w string) bool { return !r.substances[w] })
}

// tool says what serves a goal. For a substance it is what serves one that is like it in another relation.
func (r *reader) tool(goal string) string {
	if relation := r.one(0, goal); relation != "" {
		return r.rules[relation+" "+r.materialIn(goal)]
	}
	relation := r.one(1, goal)
	for _, noun := range r.substancesIn(goal) {
		if tool := r.uses[noun][relation]; tool != "" {
			return tool
		}
		for _, other := range slices.Sorted(maps.Keys(r.uses)) {
			for _, known := range slices.Sorted(maps.Keys(r.uses[noun])) {
				if tool := r.uses[other][relation]; tool != "" && r.uses[other][known] == r.uses[noun][known] {
					return tool
				}
			}
		}
	}
	return ""
}

// effect says what happens to a thing in a text: in the sentence that names it and an action.
func (r *reader) effect(text, noun string) string {
	for sentence := range strings.SplitSeq(text, ". ") {
		if relation := r.one(0, sentence); relation != "" && slices.Contains(plainWords(sentence), noun) {
			return r.rules[relation+" "+r.material(text, noun)]
		}
	}
	return ""
}

// checkKey names a yes/no question and the class that decides it.
func (r *reader) checkKey(passage, subject, check string) string {
	var relation, class string
	switch subject {
	case "it":
		if m := ownedThing.FindStringSubmatch(passage); m != nil {
			relation, class = r.one(0, passage), r.material(passage, m[2])
		}
	case "this animal":
		if m := seenAnimal.FindStringSubmatch(passage); m != nil {
			class = r.class[m[1]]
		}
	case "this person":
		if m := aboutPerson.FindStringSubmatch(passage); m != nil {
			class = m[1]
		}
	}
	if class == "" {
		return "?"
	}
	return strings.Join([]string{"check", relation, class, check}, " ")
}

// professionOf says what the person of a name is in a text.
func (r *reader) professionOf(text, name string) string {
	for _, m := range statedOfPerson.FindAllStringSubmatch(text, -1) {
		if m[1] == name {
			return cmp.Or(m[2], r.workers[m[3]])
		}
	}
	return ""
}

var (
	askedThing   = regexp.MustCompile(`What happens to (?:an?|the) (?:[a-z]+ )?([a-z]+)(?: when|\?)`)
	sameMaterial = regexp.MustCompile(`same material as an? ([a-z]+)\. .* when it (.*)\?`)
	askedPerson  = regexp.MustCompile(`(Where|Which tool|What) does ([A-Z][a-z]+) (?:work|use)`)
	askedAnimal  = regexp.MustCompile(`(?:Where|How|What)[a-z ]* (?:does|is) (?:an?|the) ([a-z]+) [a-z ]*\?`)
)

// answer says what the right choice of a question of four choices, of PIQA or of BoolQ must be or end with.
func (r *reader) answer(task, context string) string {
	text := strings.TrimSuffix(context, "\nAnswer:")
	text = text[strings.Index(text, ": ")+1:]
	switch task {
	case "hellaswag":
		words := strings.Fields(text)
		return r.effect(text, words[len(words)-1])
	case "piqa":
		return r.tool(text)
	case "boolq":
		m := wonder.FindStringSubmatch(context)
		passage, _, _ := strings.Cut(context, "\n")
		return r.rules[r.checkKey(passage, m[1], m[2])]
	}
	if m := sameMaterial.FindStringSubmatch(text); m != nil {
		return r.rules[r.one(0, m[2])+" "+r.class[m[1]]]
	}
	if m := askedThing.FindStringSubmatch(text); m != nil {
		return r.effect(text, m[1])
	}
	if m := askedPerson.FindStringSubmatch(text); m != nil {
		relation := map[string]string{"Where": "place", "Which tool": "tool", "What": "with"}[m[1]]
		return r.rules[relation+" "+r.professionOf(text, m[2])]
	}
	if m := askedAnimal.FindStringSubmatch(text); m != nil {
		return r.rules[r.one(2, m[0])+" "+r.class[m[1]]]
	}
	return ""
}

// fits says whether an option of a WinoGrande sentence fits what follows it.
func (r *reader) fits(before, option, follow string) bool {
	noun := option[strings.LastIndexByte(option, ' ')+1:]
	switch {
	case r.one(3, before) != "":
		m := roleParties.FindStringSubmatch(before)
		return m != nil && strings.EqualFold(m[map[string]int{"first": 1, "second": 2}[r.rules[r.one(3, before)+" "+follow]]], option)
	case strings.HasPrefix(follow, "needs "):
		return r.rules[r.one(0, before)+" "+r.class[noun]] == follow[len("needs "):]
	case r.one(0, before) != "":
		return r.effect(before, noun) == follow
	case isName(noun):
		return r.rules[personRelation(follow)+" "+r.professionOf(before, noun)] == follow
	}
	return r.rules[r.one(2, follow+" ")+" "+r.class[noun]] == follow
}

// TestAnswersFollowFromTrain answers every question of every split with what the running text of train says. It shows that the answers
// are right, that one choice alone is, and that what train leaves out can be inferred from it.
func TestAnswersFollowFromTrain(t *testing.T) {
	r := readOnce()
	for _, s := range []Split{Train, Validation, Test} {
		for _, name := range choiceTasks {
			wrong := 0
			for _, d := range load(t, s, name, tasks.JointBOS).Docs {
				var right []int
				var asked string
				if name == "winogrande" {
					asked = d.Requests[0].Context + " " + d.Choices[0]
					for i := range d.Requests {
						option := optionOf(d, i)
						before := strings.TrimSuffix(d.Requests[i].Context, option)
						if r.fits(before, option, strings.TrimSuffix(d.Choices[i], ".")) {
							right = append(right, i)
						}
					}
				} else {
					asked = d.Requests[0].Context
					answer := r.answer(name, asked)
					for i, c := range d.Choices {
						if c = strings.TrimSuffix(c, "."); answer != "" && (c == answer || strings.HasSuffix(answer, " "+c) || strings.HasSuffix(c, " "+answer)) {
							right = append(right, i)
						}
					}
				}
				if !slices.Equal(right, []int{d.Gold}) {
					if wrong++; wrong <= 3 {
						t.Errorf("%s %s: %q: by the text of train %v of %q, the file says %d", s, name, asked, right, d.Choices, d.Gold)
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%s %s: %d questions", s, name, wrong)
			}
		}
	}
}
