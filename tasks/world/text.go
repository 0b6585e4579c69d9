package world

import (
	"slices"
	"strings"
)

// known lists the relations from first to first+count-1 in which the split has a fact about m.
func (g *generator) known(d domain, m member, first, count int) []int {
	var out []int
	for r := first; r < first+count; r++ {
		if slices.Contains(d.parts[r][m.class][g.split], m) {
			out = append(out, r)
		}
	}
	return out
}

// story is a short text about what happens to one or two things, what animals and people are like, how to do something, or a quiz. Every fact in
// it belongs to the split; a text of several facts has no two of the same class and relation.
func (g *generator) story() string {
	n := g.name()
	end := " " + fill(pick(g.random, endings), "n", n)
	switch g.weighted(24, 11, 10, 7, 10, 13, 13, 12) {
	case 0:
		a := g.below(len(actions))
		m := g.thing(a, g.below(len(materials)), 40)
		event := capital(m.the()) + " " + actions[a].clause + "."
		if g.chance(60) {
			event = fill(pick(g.random, actions[a].events), "n", n, "t", m.the())
		}
		return fill(pick(g.random, intros), "n", n, "a", m.a()) + " " + event + " " + capital(m.the()) + " " + actions[a].effects[m.class] + "." + end
	case 1:
		a := g.below(len(actions))
		cs := g.distinct(len(materials), 2)
		m := g.thing(a, cs[0], 40)
		o := g.otherThing(m, a, cs[1], 40)
		text := fill(actions[a].deed, "n", n, "x", m.a()+" and "+o.a()) + "."
		if g.chance(50) {
			m, o = o, m
		}
		return text + " " + capital(m.the()) + " " + actions[a].effects[m.class] + ", and " + o.the() + " " + actions[a].effects[o.class] + "." + end
	case 2:
		i := g.below(len(thingMethods))
		m := g.thing(len(actions)+i, g.below(len(materials)), 40)
		return g.howTo(n, fill(thingMethods[i].goal, "x", m.a()), thingMethods[i].tools[m.class], end)
	case 3:
		i := g.below(len(substanceMethods))
		m := pick(g.random, g.substances.parts[i][g.below(len(substances))][g.split])
		return g.howTo(n, fill(substanceMethods[i].goal, "x", m.noun), substanceMethods[i].tools[m.class], end)
	case 4:
		l := g.below(len(animalLookups))
		m := g.animal(l, g.below(len(animals)))
		return n + " sees " + m.a() + " " + pick(g.random, places) + ". " + g.animalFacts(m, l) + end
	case 5:
		return g.peopleStory()
	case 7:
		return g.quiz()
	}
	r, p := g.role()
	if g.chance(50) {
		p[0], p[1] = p[1], p[0]
	}
	text := capital(fill(r.sentence, "1", p[0], "2", p[1]))
	i := g.below(2)
	if g.chance(50) { // both follow, in either order
		return text + ". " + capital(p[i]) + " " + r.follow[i] + ", and " + p[1-i] + " " + r.follow[1-i] + "."
	}
	return text + r.link + " " + p[i] + " " + r.follow[i] + "."
}

// howTo says which tool serves a goal, as a rule or as a person's deed.
func (g *generator) howTo(n, goal, tool, end string) string {
	if g.chance(50) {
		return "How to " + goal + "? Use " + tool + "."
	}
	return n + " wants to " + goal + ". So " + n + " uses " + tool + "." + end
}

// animalFacts says what the split knows of an animal, the relation first at the head.
func (g *generator) animalFacts(m member, first int) string {
	var out []string
	for _, l := range append([]int{first}, g.known(g.animals, m, 0, len(animalLookups))...) {
		if l != first || len(out) == 0 {
			out = append(out, animalLookups[l].say(m.the(), m.class))
		}
	}
	return strings.Join(out[:min(len(out), 3)], " ")
}

// peopleStory is about the professions of one or two people.
func (g *generator) peopleStory() string {
	ps := g.distinct(len(professions), 2)
	if g.chance(50) {
		n := g.person(ps[0], "")
		text := n + " is " + withArticle(professions[ps[0]]) + "."
		for _, l := range g.distinct(len(personLookups), 2) {
			text += " " + personLookups[l].say(n, ps[0])
		}
		return text + " " + fill(pick(g.random, endings), "n", n)
	}
	text, people := g.twoPeople(ps[0], ps[1])
	l := personLookups[g.below(len(personLookups))]
	text += "."
	for _, i := range g.distinct(2, 2) {
		text += " " + l.say(people[i], ps[i])
	}
	return text
}

// quiz is a story with yes/no questions and their answers.
func (g *generator) quiz() string {
	n := g.name()
	var text, class string
	subject := "it"
	var checks []check
	switch g.weighted(60, 20, 20) {
	case 0:
		a := g.below(len(actions))
		m := g.thing(a, g.below(len(materials)), 50)
		text = fill(pick(g.random, intros), "n", n, "a", m.a()) + " " + capital(m.the()) + " " + actions[a].clause + "."
		if g.chance(50) {
			text += " It " + actions[a].effects[m.class] + "."
		}
		class, checks = materials[m.class], actions[a].checks
	case 1:
		l := g.below(len(animalLookups))
		m := g.animal(l, g.below(len(animals)))
		text = n + " sees " + m.a() + " " + pick(g.random, places) + "."
		class, subject = animalKinds[m.class], "this animal"
		for _, l := range g.known(g.animals, m, 0, len(animalLookups)) {
			checks = append(checks, animalLookups[l].check)
		}
	case 2:
		p := g.below(len(professions))
		text = g.person(p, "") + " is " + withArticle(professions[p]) + " in the town."
		class, subject = professions[p], "this person"
		for _, l := range personLookups {
			checks = append(checks, l.check)
		}
	}
	order := g.distinct(len(checks), len(checks))
	for _, i := range order[:min(len(order), 3)] {
		answer := "no"
		if slices.Contains(checks[i].yes, class) {
			answer = "yes"
		}
		text += " Question: does " + subject + " " + checks[i].question + "? Answer: " + answer + "."
	}
	return text
}

// document is a web page of one to ten stories, one a line.
func (g *generator) document() string {
	n := 1 + g.below(3)
	if g.chance(15) {
		n = 6 + g.below(5)
	}
	lines := make([]string, n)
	for i := range lines {
		lines[i] = g.story()
	}
	return strings.Join(lines, "\n")
}

// article is an encyclopedia page in WikiText's form: a heading between equals signs, one to three paragraphs, punctuation spaced.
func (g *generator) article() string {
	var title string
	var paragraphs []string
	switch g.weighted(50, 25, 25) {
	case 0:
		a := g.below(len(actions))
		d := g.things
		if g.chance(40) {
			d = g.shapes
		}
		m := g.member(d.parts[a][g.below(len(materials))][g.split])
		title = m.full()
		text := capital(m.a()) + " is made of " + materials[m.class] + "."
		for i, r := range append([]int{a}, g.known(d, m, 0, len(actions))...) {
			if (i == 0 || r != a) && i < 4 {
				text += " When it " + actions[r].clause + ", it " + actions[r].effects[m.class] + "."
			}
		}
		paragraphs = append(paragraphs, text)
		if uses := g.known(d, m, len(actions), len(thingMethods)); len(uses) > 0 {
			var lines []string
			for _, r := range uses[:min(len(uses), 2)] {
				i := r - len(actions)
				lines = append(lines, "To "+fill(thingMethods[i].goal, "x", m.a())+", people use "+thingMethods[i].tools[m.class]+".")
			}
			paragraphs = append(paragraphs, strings.Join(lines, " "))
		}
	case 1:
		l := g.below(len(animalLookups))
		m := g.animal(l, g.below(len(animals)))
		title = m.noun
		paragraphs = append(paragraphs, capital(m.the())+" is "+withArticle(animalKinds[m.class])+". "+g.animalFacts(m, l))
	case 2:
		p := g.below(len(professions))
		n := g.person(p, "")
		title = n + " the " + professions[p]
		text := n + " is " + withArticle(professions[p]) + "."
		for _, l := range personLookups {
			text += " " + l.say(n, p)
		}
		paragraphs = append(paragraphs, text)
	}
	if g.chance(60) {
		paragraphs = append(paragraphs, g.story())
	}
	var b strings.Builder
	b.WriteString(" \n = " + capital(title) + " = \n")
	for _, p := range paragraphs {
		b.WriteString(" \n " + spaced(p) + " \n")
	}
	return b.String()
}

// spaced sets punctuation apart as WikiText does.
func spaced(s string) string { return spacer.Replace(s) }

var spacer = strings.NewReplacer(".", " .", ",", " ,", "?", " ?", ":", " :")
