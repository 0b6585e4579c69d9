// Package world generates English text about a small world of things, materials, tools, substances, animals and people, and six question
// sets and two corpora that follow from its rules. Everything is synthetic: it measures whether a model has learnt these rules and applies
// them to combinations that it has not seen, and nothing about language or the real world. Scores are not comparable with those on the
// data sets whose file formats it borrows.
//
// # Rules
//
// Every answer is a look-up by class, or two look-ups in a row:
//
//   - A thing has a material: a vase is of glass, a key of iron (8 materials, 8 things each). A shape (ball, box, …) is of the material that
//     the text states. When something happens to a thing (it falls, lies in the fire, falls into the river, is hit, stands in the rain, is
//     pulled), the material decides the effect: glass breaks into many pieces, rubber bounces up and down. The material also decides which
//     tool cuts, repairs, cleans and marks a thing.
//   - A substance is a liquid, loose, round or long, which decides how to carry, store, measure and clear it.
//   - An animal is a bird, a fish, an insect or a mammal, which decides its cover, legs, way to move, place to sleep, start of life and winter.
//   - A person has a profession, which the text states and which decides workplace, tool and what the person works with.
//   - In a sentence about two parties (Anna is taller than Ben; the jar does not fit in the pot), a follow-up fits the one named first or
//     the one named second.
//
// # Facts and splits
//
// A fact is a relation with a member: (falls, vase), (falls, wooden box), (cut, letter), (carry, milk), (sleeps, robin), (baker, Anna), or a
// kind of sentence with two parties in either order: (taller, Anna and Ben). Every fact belongs to exactly one split, decided by the seed:
// of each relation and class one eighth of the members is left out for test and one eighth for validation, and a tenth of the pairs each.
// A text or question of a split speaks of that split's facts alone. What train leaves out can be inferred from it: every thing, substance and
// animal keeps at least two thirds of its relations in train, and every relation three quarters of each class. There are 1,840 facts of one
// member with an ordinary word, 16,512 of one with a coined name and 2,340 of two parties. The rules, the classes and the sentence forms are
// the same in all splits.
//
// # The tail
//
// Beside the 64 things and 32 animals with ordinary words there are 1,536 things (192 of each material) and 192 animals (48 of each kind)
// with coined names: "A gortaf is made of wood." A coined name says nothing of its class; only train does, in articles that state it and in
// what it lets happen to the thing. The names of a class are ranked, and one of rank r is drawn 8/(8+r) times as often as an ordinary word.
// In a train split of 40,000 questions per task, 20,000 documents and 10,000 articles an ordinary thing is mentioned in about 780 lines, a
// coined one of rank 1 in 600, of rank 64 in 77 and of rank 192 in 23; an ordinary animal in about 480, and a coined one of rank 48 in 66.
// Almost three quarters of the mentions of things that are not shapes, and two thirds of those of animals, are of coined names. The tail is
// there so that a model holds facts that it has met rarely, by small margins: those are the ones that quantization is expected to lose
// first, while it may spare the ordinary words. Questions are drawn by the same weights as texts; those of validation and test differ from
// each other, which favors the tail a little.
//
// The train text has about 630 ordinary word types and 1,728 coined names, which a tokenizer of a thousand tokens spells in syllables.
//
// # Questions
//
//   - HellaSwag: a story in one or two steps, four endings. The material is mostly implied. In a third of the groups two things meet two
//     different actions and the ending must fit the right one.
//   - PIQA: a goal and two tools.
//   - ARC-Easy: one look-up (stated material and action, animal, stated profession), four answers.
//   - ARC-Challenge: two look-ups: a shape of the same material as a thing, two things or two people of which one is asked about, an action
//     that is told and not named, a profession known by its workplace or tool.
//   - BoolQ: a passage and a yes/no question about the outcome, the animal or the person. Half of the passages state the outcome or attribute,
//     and the question asks what follows from it; half leave that to the reader too.
//   - WinoGrande: two things, animals, people or vessels, and what follows for one of them.
//
// Questions come in groups that share their choices, and in which each choice is right equally often: four questions for four choices,
// twins for two. BoolQ asks the same question about two passages; WinoGrande names the same two options in both orders, each right with
// its own follow-up. A scorer that sees the choices alone is therefore right by chance, exactly; one that sees BoolQ's question or
// WinoGrande's follow-up too stays near it. Positions of right answers are balanced in each group, and the groups are scattered.
//
// A scorer that reads the context as a bag of words can be better than chance, since the answer is a look-up by one of its nouns: counting
// which words go together in train gives 68 % in PIQA, 72 % in BoolQ, 40 % in ARC-Easy, 38 % in ARC-Challenge, 31 % in HellaSwag and 49 % in
// WinoGrande. In WinoGrande's sentences about two parties in a relation (a fifth) the follow-up alone says whether the first or the second
// named is meant, so that counting by follow-up and order of mention gives 60 %.
//
// # Files
//
// [Write] writes a split under the file names that package tasks finds below a data root, the same for every split: a folder for train has
// an ARC-Easy-Test.jsonl too. WikiText-like articles are in wikitext2/wiki.test.raw, C4-like documents of one to ten stories in c4.
package world
