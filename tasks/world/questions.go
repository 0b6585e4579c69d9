package world

import (
	"slices"
	"strings"
)

// item is one question. Which fields are used depends on the task.
type item struct {
	label   string // HellaSwag: activity; BoolQ: title
	context string // HellaSwag: ctx_a; BoolQ: passage without the title
	stem    string // question, goal, sentence, or HellaSwag's ctx_b
	choices []string
	gold    int
}

// generator draws questions and texts from the facts of one split.
type generator struct {
	*world
	random
	split Split
}

// fill puts words in place of {key}: fill(s, "n", "Anna", …).
func fill(s string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		s = strings.ReplaceAll(s, "{"+pairs[i]+"}", pairs[i+1])
	}
	return s
}

func (g *generator) name() string { return pick(g.random, names) }

// thing returns a thing of a material that the split knows in a relation (an action, or len(actions) + a method). In shapePercent of 100
// cases its material is stated.
func (g *generator) thing(relation, class, shapePercent int) member {
	d := g.things
	if g.chance(shapePercent) {
		d = g.shapes
	}
	return g.member(d.parts[relation][class][g.split])
}

// otherThing is thing with another noun than that of m.
func (g *generator) otherThing(m member, relation, class, shapePercent int) member {
	for {
		if o := g.thing(relation, class, shapePercent); o.noun != m.noun {
			return o
		}
	}
}

func (g *generator) animal(relation, class int) member {
	return g.member(g.animals.parts[relation][class][g.split])
}

// person returns someone of a profession, other than except.
func (g *generator) person(profession int, except string) string {
	for {
		if m := pick(g.random, g.people.parts[0][profession][g.split]); m.noun != except {
			return m.noun
		}
	}
}

// place orders the choices of a group of questions so that the right answers stand in every position equally often. order[i] is the choice
// that is right in question i.
func (g *generator) place(group []item, choices []string, order []int) []item {
	positions := g.distinct(len(choices), len(choices))
	for i := range group {
		right := order[i]
		gold := positions[i%len(positions)]
		own := make([]string, 0, len(choices))
		for _, c := range g.distinct(len(choices), len(choices)) {
			if c != right {
				own = append(own, choices[c])
			}
		}
		own = append(own[:gold], append([]string{choices[right]}, own[gold:]...)...)
		group[i].choices, group[i].gold = own, gold
	}
	return group
}

// upTo returns 0, 1, … n-1.
func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// hellaswag makes four questions with the same four endings. Either four materials meet one action, or two materials meet two.
func (g *generator) hellaswag() []item {
	form := g.weighted(40, 25, 35)
	var as, cs [4]int // actions and classes by question
	if form == 0 {
		a := g.below(len(actions))
		as, cs = [4]int{a, a, a, a}, [4]int(g.distinct(len(materials), 4))
	} else {
		a, c := g.distinct(len(actions), 2), g.distinct(len(materials), 2)
		as, cs = [4]int{a[0], a[1], a[0], a[1]}, [4]int{c[0], c[1], c[1], c[0]}
	}
	label := pick(g.random, labels)
	var group []item
	var effects []string
	for i := range 4 {
		effects = append(effects, actions[as[i]].effects[cs[i]]+".")
		if form == 2 && i%2 == 1 {
			continue // asked together with the one before
		}
		n, m := g.name(), g.thing(as[i], cs[i], 30)
		if form == 2 { // two things meet an action each, and either is asked about
			o := g.otherThing(m, as[i+1], cs[i+1], 30)
			first, second := fill(actions[as[i]].deed, "n", n, "x", m.a())+".", fill(actions[as[i+1]].deed, "n", n, "x", o.a())+"."
			if g.chance(50) {
				first, second = second, first
			}
			group = append(group, item{label: label, context: first + " " + second, stem: m.the()}, item{label: label, context: first + " " + second, stem: o.the()})
			continue
		}
		intro := fill(pick(g.random, intros), "n", n, "a", m.a())
		if other := cs[g.below(4)]; other != cs[i] && g.chance(50) { // a thing to which nothing happens
			o := g.otherThing(m, as[i], other, 30)
			a, b := m.a(), o.a()
			if g.chance(50) {
				a, b = b, a
			}
			intro = fill(pick(g.random, intros2), "n", n, "a", a, "b", b)
		}
		event := fill(pick(g.random, actions[as[i]].events), "n", n, "t", m.the())
		group = append(group, item{label: label, context: intro + " " + event, stem: m.the()})
	}
	return g.place(group, effects, upTo(4))
}

// piqa makes twins: two goals with the same two solutions.
func (g *generator) piqa() []item {
	var goals, tools []string
	switch g.weighted(45, 20, 35) {
	case 0: // one method, two materials
		m := g.below(len(thingMethods))
		for _, c := range g.distinct(len(materials), 2) {
			goals = append(goals, fill(thingMethods[m].goal, "x", g.thing(len(actions)+m, c, 40).a()))
			tools = append(tools, thingMethods[m].tools[c])
		}
	case 1: // two methods, one material
		c := g.below(len(materials))
		for _, m := range g.distinct(len(thingMethods), 2) {
			goals = append(goals, fill(thingMethods[m].goal, "x", g.thing(len(actions)+m, c, 40).a()))
			tools = append(tools, thingMethods[m].tools[c])
		}
	case 2:
		m := g.below(len(substanceMethods))
		for _, c := range g.distinct(len(substances), 2) {
			goals = append(goals, fill(substanceMethods[m].goal, "x", pick(g.random, g.substances.parts[m][c][g.split]).noun))
			tools = append(tools, substanceMethods[m].tools[c])
		}
	}
	var group []item
	form := pick(g.random, []string{"How to {g}?", "How can {n} {g}?", "{n} wants to {g}. How?"})
	for i := range goals {
		group = append(group, item{stem: fill(form, "g", goals[i], "n", g.name())})
		tools[i] = "Use " + tools[i] + "."
	}
	return g.place(group, tools, upTo(2))
}

// arcEasy makes four questions that one look-up answers, with the same four choices.
func (g *generator) arcEasy() []item {
	var group []item
	var choices []string
	switch g.weighted(30, 35, 35) {
	case 0: // the material is stated
		a := g.below(len(actions))
		for _, c := range g.distinct(len(materials), 4) {
			m := g.thing(a, c, 100)
			stem := "What happens to " + m.a() + " when it " + actions[a].clause + "?"
			if g.chance(50) {
				stem = fill("{n} has {a}. What happens to {t} when it {c}?", "n", g.name(), "a", m.a(), "t", m.the(), "c", actions[a].clause)
			}
			group = append(group, item{stem: stem})
			choices = append(choices, "It "+actions[a].effects[c]+".")
		}
	case 1:
		l := g.below(len(animalLookups))
		for _, c := range g.distinct(len(animals), 4) {
			m := g.animal(l, c)
			stem := fill(animalLookups[l].ask, "x", m.a())
			if g.chance(70) {
				stem = fill("{n} sees {a} {p}. ", "n", g.name(), "a", m.a(), "p", pick(g.random, places)) + fill(animalLookups[l].ask, "x", m.the())
			}
			group = append(group, item{stem: stem})
			choices = append(choices, animalLookups[l].answers[c])
		}
	case 2:
		l := g.below(len(personLookups))
		for _, c := range g.distinct(len(professions), 4) {
			n := g.person(c, "")
			group = append(group, item{stem: n + " is " + withArticle(professions[c]) + ". " + fill(personLookups[l].ask, "x", n)})
			choices = append(choices, personLookups[l].answers[c])
		}
	}
	return g.place(group, choices, upTo(4))
}

// arcChallenge makes four questions that need two steps, with the same four choices.
func (g *generator) arcChallenge() []item {
	var group []item
	var choices []string
	switch form := g.weighted(25, 25, 20, 15, 15); form {
	case 0, 1, 2:
		a := g.below(len(actions))
		classes := g.distinct(len(materials), 4)
		for _, c := range classes {
			choices = append(choices, "It "+actions[a].effects[c]+".")
		}
		for i := 0; i < 4; i++ {
			n, m := g.name(), g.thing(a, classes[i], 30)
			switch form {
			case 0: // a shape of a material that another thing implies
				m = g.thing(a, classes[i], 0)
				group = append(group, item{stem: fill("The {s} of {n} is made of the same material as {a}. What happens to the {s} when it {c}?",
					"s", pick(g.random, shapes), "n", n, "a", m.a(), "c", actions[a].clause)})
			case 1: // two things, one of them asked about; the next question asks about the other
				o := g.otherThing(m, a, classes[i+1], 30)
				first, second := m, o
				if g.chance(50) {
					first, second = o, m
				}
				story := fill(actions[a].deed, "n", n, "x", first.a()+" and "+second.a()) + ". What happens to "
				group = append(group, item{stem: story + m.the() + "?"}, item{stem: story + o.the() + "?"})
				i++
			case 2: // the action is told, not named
				group = append(group, item{stem: fill(pick(g.random, intros)+" "+pick(g.random, actions[a].events)+" What happens to {t}?",
					"n", n, "a", m.a(), "t", m.the())})
			}
		}
	case 3: // from one attribute of a profession to another
		ls := g.distinct(len(personLookups), 2)
		for _, c := range g.distinct(len(professions), 4) {
			n := g.person(c, "")
			group = append(group, item{stem: personLookups[ls[0]].say(n, c) + " " +
				fill(personLookups[ls[1]].ask, "x", n)})
			choices = append(choices, personLookups[ls[1]].answers[c])
		}
	case 4: // two people, one of them asked about; the next question asks about the other
		l := g.below(len(personLookups))
		cs := g.distinct(len(professions), 4)
		for i := 0; i < 4; i += 2 {
			story, people := g.twoPeople(cs[i], cs[i+1])
			for j, n := range people {
				group = append(group, item{stem: story + ". " + fill(personLookups[l].ask, "x", n)})
				choices = append(choices, personLookups[l].answers[cs[i+j]])
			}
		}
	}
	return g.place(group, choices, upTo(4))
}

// twoPeople says what two people are, in either order, without a full stop. The people are returned in the order of the professions.
func (g *generator) twoPeople(p, q int) (string, []string) {
	n := g.person(p, "")
	m := g.person(q, n)
	first, second := n+" is "+withArticle(professions[p]), m+" is "+withArticle(professions[q])
	if g.chance(50) {
		first, second = second, first
	}
	return first + " and " + second, []string{n, m}
}

// boolq makes twins: one question about two passages, true of the first. Half of the passages state what the rule says, in words other
// than the question's, and half leave it to the reader.
func (g *generator) boolq() []item {
	title, stated := g.name(), g.chance(50)
	last := " " + pick(g.random, fillers)
	var q string
	var passages [2]string
	switch g.weighted(60, 20, 20) {
	case 0:
		a := g.below(len(actions))
		c := pick(g.random, actions[a].checks)
		q = "does it " + c.question
		intro, shape := pick(g.random, intros), 100*g.below(2)
		for i, class := range g.yesAndNo(c, materials) {
			m := g.thing(a, class, shape)
			if stated {
				last = " It " + actions[a].effects[class] + "."
			}
			passages[i] = fill(intro, "n", title, "a", m.a()) + " " + capital(m.the()) + " " + actions[a].clause + "." + last
		}
	case 1:
		l := g.below(len(animalLookups))
		q = "does this animal " + animalLookups[l].check.question
		place := pick(g.random, places)
		for i, class := range g.yesAndNo(animalLookups[l].check, animalKinds) {
			if stated {
				last = " " + animalLookups[l].say("it", class)
			}
			passages[i] = title + " sees " + g.animal(l, class).a() + " " + place + "." + last
		}
	case 2:
		l := g.below(len(personLookups))
		q = "does this person " + personLookups[l].check.question
		title = "The town"
		for i, class := range g.yesAndNo(personLookups[l].check, professions) {
			n := g.person(class, "")
			if stated {
				last = " " + personLookups[l].say(n, class)
			}
			passages[i] = n + " is " + withArticle(professions[class]) + " in the town." + last
		}
	}
	return []item{{label: title, context: passages[0], stem: q, gold: 1}, {label: title, context: passages[1], stem: q}}
}

// yesAndNo draws a class for which a check holds and one for which it does not.
func (g *generator) yesAndNo(c check, classes []string) [2]int {
	var out [2]int
	for i, want := range []bool{true, false} {
		for out[i] = g.below(len(classes)); slices.Contains(c.yes, classes[out[i]]) != want; {
			out[i] = g.below(len(classes))
		}
	}
	return out
}

// winogrande makes four sentences about the same two parties: each party mentioned first, and right, once with the other.
func (g *generator) winogrande() []item {
	var stories, options, follow []string // two orders of mention, two options, two endings
	order := [4]int{0, 1, 0, 1}           // right option of story i, ending j at 2*i+j
	switch g.weighted(35, 15, 15, 15, 20) {
	case 0: // the effect fits one of two things
		a := g.below(len(actions))
		cs := g.distinct(len(materials), 2)
		n := g.name()
		options = []string{g.thing(a, cs[0], 0).the(), g.thing(a, cs[1], 0).the()}
		for i, c := range cs {
			stories = append(stories, fill(actions[a].deed, "n", n, "x", options[i]+" and "+options[1-i])+", and")
			follow = append(follow, actions[a].effects[c])
		}
	case 1: // the tool fits one of two things
		m := g.below(len(thingMethods))
		cs := g.distinct(len(materials), 2)
		n := g.name()
		options = []string{g.thing(len(actions)+m, cs[0], 0).the(), g.thing(len(actions)+m, cs[1], 0).the()}
		for i, c := range cs {
			stories = append(stories, fill("{n} wants to {g}, and", "n", n, "g", fill(thingMethods[m].goal, "x", options[i]+" and "+options[1-i])))
			follow = append(follow, "needs "+thingMethods[m].tools[c])
		}
	case 2: // the attribute fits one of two animals
		l := g.below(len(animalLookups))
		cs := g.distinct(len(animals), 2)
		n, p := g.name(), pick(g.random, places)
		options = []string{g.animal(l, cs[0]).the(), g.animal(l, cs[1]).the()}
		for i, c := range cs {
			stories = append(stories, n+" sees "+options[i]+" and "+options[1-i]+" "+p+", and")
			follow = append(follow, animalLookups[l].verb+" "+animalLookups[l].answers[c])
		}
	case 3: // the attribute fits one of two people
		l := g.below(len(personLookups))
		cs := g.distinct(len(professions), 2)
		n := g.person(cs[0], "")
		options = []string{n, g.person(cs[1], n)}
		for i, c := range cs {
			stories = append(stories, options[i]+" is "+withArticle(professions[c])+" and "+options[1-i]+" is "+withArticle(professions[cs[1-i]])+", so")
			follow = append(follow, personLookups[l].verb+" "+personLookups[l].answers[c])
		}
	case 4: // the follow-up fits one of two roles
		r, pair := g.role()
		options = pair[:]
		for i := range 2 {
			stories = append(stories, capital(fill(r.sentence, "1", options[i], "2", options[1-i]))+r.link)
		}
		follow = r.follow[:]
		order = [4]int{0, 1, 1, 0}
	}
	var group []item
	flip := g.chance(50)
	for i, right := range order {
		it := item{stem: stories[i/2] + " _ " + follow[i%2] + ".", choices: options, gold: right}
		if flip {
			it.choices, it.gold = []string{options[1], options[0]}, 1-right
		}
		group = append(group, it)
	}
	return group
}

// role returns a role and the pair of parties of a fact, things with their article.
func (g *generator) role() (role, [2]string) {
	if g.chance(60) {
		i := g.below(len(personRoles))
		return personRoles[i], pick(g.random, g.persons[i][g.split])
	}
	i := g.below(len(vesselRoles))
	p := pick(g.random, g.vessels[i][g.split])
	return vesselRoles[i], [2]string{"the " + p[0], "the " + p[1]}
}
