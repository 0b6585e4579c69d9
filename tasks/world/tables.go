package world

// Materials, the classes of things. The order is that of every table by material below.
var materials = []string{"glass", "wood", "iron", "wool", "paper", "rubber", "clay", "leather"}

// materialAdjectives are the words that state the material of a shape: "a wooden box".
var materialAdjectives = []string{"glass", "wooden", "iron", "woolen", "paper", "rubber", "clay", "leather"}

// objects lists, by material, the things whose name implies what they are made of.
var objects = [][]string{
	{"window", "mirror", "bottle", "jar", "vase", "lamp", "lens", "flask"},
	{"table", "chair", "shelf", "door", "ladder", "bench", "barrel", "fence"},
	{"nail", "key", "chain", "sword", "pan", "gate", "hook", "anchor"},
	{"coat", "scarf", "sock", "blanket", "cap", "rug", "shawl", "sweater"},
	{"letter", "map", "card", "ticket", "poster", "note", "stamp", "page"},
	{"tire", "hose", "tube", "raft", "band", "mat", "plug", "balloon"},
	{"brick", "tile", "pot", "mug", "plate", "jug", "bowl", "urn"},
	{"shoe", "belt", "saddle", "purse", "boot", "strap", "whip", "wallet"},
}

// shapes are things of any material; the text says which.
var shapes = []string{"ball", "box", "ring", "toy", "cube", "wheel", "doll", "tray"}

// check is a yes/no question with the classes for which the answer is yes.
type check struct {
	question string
	yes      []string
}

// action is something that happens to a thing. Its effect depends on the material alone.
type action struct {
	name    string
	clause  string   // says it directly, the thing is the subject
	events  []string // say it indirectly: {n} is a person, {t} the thing
	deed    string   // a person {n} does it to {x}
	effects []string // by material, the thing is the subject
	checks  []check
}

var actions = []action{
	{
		name: "fall", clause: "falls on the hard floor",
		events: []string{"{n} trips on the stairs and lets go of {t}.", "{n} looks out of the tower, and {t} slips away onto the stones."},
		deed:   "{n} drops {x} on the hard floor",
		effects: []string{"breaks into many pieces", "knocks and lies still", "rings like a bell", "lands without a sound",
			"sails down very slowly", "bounces up and down", "cracks in two halves", "makes a dull thud"},
		checks: []check{{"make a loud noise", []string{"glass", "wood", "iron", "clay"}}, {"break", []string{"glass", "clay"}}},
	},
	{
		name: "fire", clause: "lies in the hot fire",
		events: []string{"{n} throws {t} onto the burning coals.", "The house burns, and {n} runs out without {t}."},
		deed:   "{n} puts {x} in the hot fire",
		effects: []string{"melts and runs away", "burns for an hour", "glows in bright red", "burns with a bad smell",
			"is gone in a flash", "gives off black smoke", "grows hard as stone", "curls up and shrinks"},
		checks: []check{{"burn", []string{"wood", "wool", "paper", "rubber"}}, {"turn to ash", []string{"wood", "wool", "paper"}}},
	},
	{
		name: "river", clause: "falls into the deep river",
		events: []string{"{n} stands on a bridge and lets {t} slip over the edge.", "The boat tips over with {n} and {t} on board."},
		deed:   "{n} throws {x} into the deep river",
		effects: []string{"sinks but stays clear", "floats on the water", "drops to the bottom", "drinks up the water",
			"turns soft and tears", "swims like a duck", "goes down in the mud", "grows heavy and sinks"},
		checks: []check{{"sink", []string{"glass", "iron", "clay", "leather"}}, {"take up water", []string{"wool", "paper", "leather"}}},
	},
	{
		name: "hammer", clause: "is hit with a hammer",
		events: []string{"{n} swings a heavy tool and strikes {t}.", "A heavy rock rolls down the hill onto {t}, and {n} sees it."},
		deed:   "{n} hits {x} with a hammer",
		effects: []string{"flies apart in sharp bits", "splits along the grain", "takes a new shape", "stays soft and whole",
			"gets a round hole", "springs back at once", "turns to fine dust", "grows thin and flat"},
		checks: []check{{"get broken", []string{"glass", "wood", "paper", "clay"}}, {"keep its shape", []string{"wool", "rubber"}}},
	},
	{
		name: "rain", clause: "stands in the rain for a year",
		events: []string{"{n} forgets {t} in the garden until next spring.", "{n} leaves {t} on the roof for four wet seasons."},
		deed:   "{n} leaves {x} in the rain for a year",
		effects: []string{"is washed very clean", "rots from the inside", "turns brown with rust", "dries again in the wind",
			"turns into gray mush", "sheds every single drop", "gathers some green moss", "grows stiff and pale"},
		checks: []check{{"go bad", []string{"wood", "iron", "paper", "leather"}}, {"change color", []string{"iron", "paper", "clay", "leather"}}},
	},
	{
		name: "pull", clause: "is pulled hard at both ends",
		events: []string{"{n} ties {t} between two carts, and they roll apart.", "{n} and a friend drag {t} in two directions."},
		deed:   "{n} pulls hard on {x}",
		effects: []string{"snaps with a clear sound", "creaks but does not move", "does not change at all", "loses all its threads",
			"tears down the middle", "grows long and thin", "breaks off at the edge", "gives way a little"},
		checks: []check{{"come apart", []string{"glass", "wool", "paper", "clay"}}, {"get longer", []string{"rubber", "leather"}}},
	},
}

// method is a goal with a thing or a substance {x} and the right tool by class.
type method struct {
	name  string
	goal  string
	tools []string
}

// thingMethods go by material.
var thingMethods = []method{
	{"cut", "cut {x} in half", []string{"a diamond wheel", "a long saw", "a hot torch", "a pair of shears",
		"small scissors", "a wet knife", "a thin wire", "a curved blade"}},
	{"mend", "repair {x} with a crack", []string{"clear glue", "screws and boards", "a welding flame", "needle and yarn",
		"sticky tape", "a round patch", "wet cement", "strong thread"}},
	{"clean", "clean {x} that is dirty", []string{"vinegar and a cloth", "warm wax", "a wire brush", "mild soap",
		"a dry feather", "a wet sponge", "sand and water", "oil and a rag"}},
	{"mark", "put a name on {x}", []string{"strong acid", "a sharp chisel", "a steel punch", "colored thread",
		"pen and ink", "white paint", "a pointed stick", "a hot rod"}},
}

// substances lists, by kind (liquid, loose, round, long), what can be carried and kept.
var substances = [][]string{
	{"water", "milk", "oil", "juice", "soup", "wine", "ink", "tea"},
	{"sand", "salt", "sugar", "rice", "flour", "wheat", "ash", "gravel"},
	{"apples", "eggs", "pears", "onions", "plums", "nuts", "lemons", "carrots"},
	{"poles", "planks", "pipes", "logs", "beams", "rails", "canes", "oars"},
}

var substanceKinds = []string{"liquid", "loose", "round", "long"}

// substanceMethods go by kind of substance.
var substanceMethods = []method{
	{"carry", "carry some {x} across the yard", []string{"a bucket", "a sack", "a basket", "a cart"}},
	{"store", "keep some {x} for the winter", []string{"a closed can", "a dry bin", "a cool cellar", "a flat rack"}},
	{"measure", "measure some {x} for a friend", []string{"a marked cup", "a kitchen scale", "ten fingers", "a folding rule"}},
	{"clear", "clear some {x} off the floor", []string{"a thick towel", "a stiff broom", "both hands", "a strong rope"}},
}

// animals lists the animals of each kind.
var animals = [][]string{
	{"robin", "crow", "owl", "eagle", "swan", "goose", "hen", "parrot"},
	{"trout", "salmon", "carp", "shark", "tuna", "cod", "pike", "eel"},
	{"ant", "bee", "wasp", "moth", "beetle", "flea", "cricket", "gnat"},
	{"horse", "cow", "goat", "deer", "fox", "wolf", "bear", "rabbit"},
}

var animalKinds = []string{"bird", "fish", "insect", "mammal"}

// lookup is an attribute of an animal or a person: a question about {x}, a verb that with the answer states it, and a yes/no question.
type lookup struct {
	name, ask, verb string
	answers         []string // by class
	check           check
}

// say states the attribute of someone of a class.
func (l lookup) say(who string, class int) string {
	return capital(who) + " " + l.verb + " " + l.answers[class] + "."
}

var animalLookups = []lookup{
	{"cover", "What is {x} covered with?", "is covered with",
		[]string{"soft feathers", "wet scales", "a hard shell", "thick fur"},
		check{"feel soft", []string{"bird", "mammal"}}},
	{"legs", "How many legs does {x} have?", "has",
		[]string{"two legs", "no legs", "six legs", "four legs"},
		check{"have more than three legs", []string{"insect", "mammal"}}},
	{"move", "How does {x} move?", "moves",
		[]string{"on wide wings", "with fins and a tail", "on many tiny feet", "on long strong legs"},
		check{"move on land", []string{"insect", "mammal"}}},
	{"sleep", "Where does {x} sleep?", "sleeps",
		[]string{"in a high nest", "deep in the lake", "under a small leaf", "on the dry grass"},
		check{"sleep in the open air", []string{"bird", "mammal"}}},
	{"young", "How does {x} begin its life?", "begins its life",
		[]string{"in a warm egg", "in a cold stream", "as a white worm", "with sweet milk"},
		check{"drink milk at first", []string{"mammal"}}},
	{"winter", "Where does {x} spend the winter?", "spends the winter",
		[]string{"in the warm south", "below the ice", "inside the soil", "in a dark cave"},
		check{"leave us in winter", []string{"bird"}}},
}

var names = []string{
	"Anna", "Clara", "Emma", "Grace", "Kate", "Mary", "Nora", "Ruth", "Tina", "Vera", "Alice", "Ella",
	"Ben", "David", "Frank", "Henry", "Jack", "Leo", "Max", "Oscar", "Paul", "Sam", "Tom", "Hugo",
}

var professions = []string{"baker", "doctor", "farmer", "teacher", "tailor", "smith", "fisher", "painter", "carpenter", "miner", "barber", "gardener"}

// The first personLookups entry, the workplace, also serves as a way to say what someone's profession is.
var personLookups = []lookup{
	{"place", "Where does {x} work?", "works",
		[]string{"in a bakery", "in a hospital", "in a field", "in a school", "in a shop", "in a forge",
			"in a harbor", "in a studio", "in a workshop", "in a mine", "in a salon", "in a park"},
		check{"work in a building", []string{"baker", "doctor", "teacher", "tailor", "smith", "painter", "carpenter", "barber"}}},
	{"tool", "Which tool does {x} use?", "uses",
		[]string{"an oven", "a syringe", "a plow", "a blackboard", "a ruler", "an anvil",
			"a net", "a brush", "a drill", "a pick", "a comb", "a rake"},
		check{"use a heavy tool", []string{"baker", "farmer", "teacher", "smith", "carpenter", "miner"}}},
	{"with", "What does {x} work with?", "works with",
		[]string{"bread and cake", "sick people", "corn and hay", "young children", "cloth and buttons", "hot metal",
			"ropes and crabs", "bright colors", "boards and screws", "coal and rocks", "hair and beards", "roses and seeds"},
		check{"work with living things", []string{"doctor", "farmer", "teacher", "fisher", "barber", "gardener"}}},
}

// role is a sentence about two parties {1} and {2} with a follow-up that fits only the first and one that fits only the second.
type role struct {
	name, sentence, link string
	follow               [2]string
}

var personRoles = []role{
	{"give", "{1} gives the gold to {2}", ", and now", [2]string{"has no gold", "has the gold"}},
	{"teach", "{1} teaches {2} to swim", " because", [2]string{"swims very well", "wants to learn it"}},
	{"tall", "{1} is taller than {2}", ", so", [2]string{"must look down", "must look up"}},
	{"fast", "{1} runs faster than {2}", ", so", [2]string{"wins the race", "comes in last"}},
	{"old", "{1} is older than {2}", ", so", [2]string{"was born first", "was born later"}},
	{"ask", "{1} asks {2} for the way", " because", [2]string{"is lost", "knows the town"}},
	{"sell", "{1} sells a house to {2}", ", so", [2]string{"gets the money", "gets the house"}},
	{"hide", "{1} hides from {2}", ", so", [2]string{"sits very still", "looks everywhere"}},
}

var vessels = []string{"bottle", "jar", "barrel", "pot", "mug", "bowl", "jug", "purse", "box", "bucket", "sack", "basket"}

var vesselRoles = []role{
	{"fit", "{1} does not fit in {2}", " because", [2]string{"is too large", "is too small"}},
	{"weight", "{1} is heavier than {2}", ", so", [2]string{"is harder to lift", "is easier to lift"}},
	{"price", "{1} costs more than {2}", ", so", [2]string{"is for the rich", "is for the poor"}},
}

// Words without a rule, for variety.
var (
	intros  = []string{"{n} has {a}.", "{n} buys {a} at the market.", "{n} finds {a} in the house."}
	intros2 = []string{"{n} has {a} and {b}.", "{n} buys {a} and {b} at the market."}
	fillers = []string{"It is a warm day.", "The house is quiet.", "The market is full of people.", "A friend is there too."}
	endings = []string{"{n} is not surprised.", "{n} laughs and goes home.", "{n} tells a friend about it.", "That is how it always is."}
	labels  = []string{"At home", "On the farm", "In town", "On a trip"}
	places  = []string{"in a picture", "on a trip", "at the zoo"}
)
