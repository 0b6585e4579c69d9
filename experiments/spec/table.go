package spec

import "slices"

// shape is the type of a value as written.
type shape uint8

const (
	text shape = iota
	name       // letters, digits, . _ -
	path
	integer
	number
	boolean
	choice
	limit     // documents or a fraction
	threshold // a number, or a mapping with quantile or rms
	object    // a mapping with keys of its own
	sweep     // axes; checked by checkSweep
)

// need says which methods a key has a meaning for.
type need uint8

const (
	anyMethod need = iota
	weightMethod
	frontWeights
	backWeights
	splitMethod
	boundaryMethod
	presetMethod
	quantizerMethod
	frontQuantizer
	backQuantizer
	calibratedMethod
)

// A key is one row of the table: all that is known of one key of a spec.
type key struct {
	name     string
	shape    shape
	list     bool     // a list of such values, at least one
	empty    bool     // the list may be empty
	bare     bool     // include: one value may stand without a list; tasks: a plain string is a name
	lower    bool     // a name in lower case: it becomes a folder
	required bool     // must be written
	fields   []*key   // of an object
	low      float64  // smallest integer or number
	high     float64  // largest; 0: no limit
	ints     []int    // the only integers allowed, if any
	choices  []string // of a choice
	def      any      // int, float64, string, bool, Limit, Tau, []int or []string; nil: none

	axis    string // name in sweep; empty: cannot be swept
	mark    string // in Cell.Label; empty: axis
	always  bool   // shown in every label
	digest  string // the entry of extra that stands for this key in Cell.Canonical
	late    bool   // came after the first recorded specs, in which its default was meant: written only otherwise
	unkeyed bool   // of a late key: came after recorded cells in which it would have acted, so that Cell.Canonical has it only where it is not the default
	silent  bool   // never part of Cell.Canonical: a display name

	needs need
	when  func(c *Cell) bool // whether the knob can act at this point; nil: always
	ref   func(c *Cell) any  // its place: *int, *float64, *string, *bool, *Limit, *Tau, *[]int or *[]string

	unit   string
	symbol string
	doc    string
	shown  string // default in words where def does not say it
}

// The names under which Cell.Canonical takes digests. A digest stands for the paths it was made from.
const (
	DigestModel     = "model"
	DigestTokenizer = "tokenizer"
	DigestData      = "data"
	DigestTables    = "tables"
	DigestKVTables  = "kv_tables"
	// DigestQuantizer stands for all that is said of quantizers, and DigestCalibration for the tokens that they
	// are calibrated on.
	DigestQuantizer   = "quantizer"
	DigestCalibration = "calibration"
)

func searching(c *Cell) bool { return quantising(c) && c.Method.Boundary.Search == "tabq" }

func quantising(c *Cell) bool { return messages(c) && c.Method.Boundary.Codec != "raw16" }

// messages says whether rows cross as messages, and not as they are.
func messages(c *Cell) bool { return c.Method.Boundary.Codec != "none" }

// split1 is the codec with static tables; the keys for them act only there.
func split1(c *Cell) bool { return c.Method.Boundary.Codec == "split1" }

// indexed says whether values above the threshold travel as a sparse matrix with indices of a chosen width.
func indexed(c *Cell) bool { return quantising(c) && !split1(c) }

// sendsKV says whether keys and values may cross the boundary.
func sendsKV(c *Cell) bool { return c.Method.IncludeKV && c.Method.MaxTokens > 0 }

// tabled says whether a file of tables acts.
func tabled(c *Cell) bool {
	b := c.Method.Boundary
	return split1(c) && (b.Tables != "" || b.KVTables != "" && sendsKV(c))
}

// blockTasks are scored by the perplexity of fixed blocks.
var blockTasks = []string{"wikitext2", "c4", "c4-new"}

func isBlockTask(name string) bool { return slices.Contains(blockTasks, name) }

// table holds every key of a spec. Validation, schema, documentation, expansion and the canonical form
// of a cell all come from it.
var table = []*key{
	{name: "name", shape: name, lower: true, required: true,
		doc: "Name of the experiment; its results go into a folder of this name."},
	{name: "include", shape: path, list: true, bare: true,
		doc: "Fragment files of top-level keys, relative to this file. A key written here replaces the fragment's; a later fragment replaces an earlier one's."},
	{name: "description", shape: text,
		doc: "What the experiment shows, for people."},
	{name: "models", shape: object, list: true, required: true, fields: []*key{
		{name: "name", shape: name, required: true, silent: true,
			ref: func(c *Cell) any { return &c.Model.Name },
			doc: "Name of the model in tables and on the command line."},
		{name: "path", shape: path, required: true, digest: DigestModel,
			ref: func(c *Cell) any { return &c.Model.Path },
			doc: "Checkpoint folder or file, or builtin:NAME."},
		{name: "tokenizer", shape: path, digest: DigestTokenizer, def: "", shown: "looked for beside the model",
			ref: func(c *Cell) any { return &c.Model.Tokenizer },
			doc: "Tokenizer file or folder."},
		{name: "max_length", shape: integer, high: 1 << 24, def: 0, shown: "0 = the model's own limit", unit: "tokens",
			ref: func(c *Cell) any { return &c.Model.MaxLength },
			doc: "Longest input of one forward pass; longer inputs are cut from the left as lm-eval does."},
	}, doc: "Checkpoints to run."},
	{name: "data", shape: path, shown: "${SPLITBENCH_SHARED}/data", digest: DigestData,
		ref: func(c *Cell) any { return &c.Data },
		doc: "Folder of the evaluation sets."},
	{name: "tasks", shape: object, list: true, bare: true, required: true, fields: []*key{
		{name: "name", shape: choice, required: true,
			choices: taskNames,
			ref:     func(c *Cell) any { return &c.Task.Name },
			doc:     "Evaluation set. wikitext and c4_documents are the document-level tasks of lm-eval; wikitext2, c4 and c4-new are the block perplexities of the quantisation papers."},
		{name: "limit", shape: limit, axis: "limit", def: Limit{}, shown: "0 = all", unit: "documents or blocks",
			ref: func(c *Cell) any { return &c.Task.Limit },
			doc: "How many documents (of a block perplexity: blocks) are used: a count, or a fraction below 1."},
		{name: "block", shape: integer, low: 2, high: 1 << 24, def: 2048, unit: "tokens",
			when: func(c *Cell) bool { return isBlockTask(c.Task.Name) },
			ref:  func(c *Cell) any { return &c.Task.Block },
			doc:  "Block length of a block perplexity (wikitext2, c4, c4-new)."},
		{name: "path", shape: path, digest: DigestData, def: "", shown: "found under data",
			ref: func(c *Cell) any { return &c.Task.Path },
			doc: "File of the evaluation set, or builtin:NAME."},
		{name: "labels", shape: path, digest: DigestData, def: "", shown: "the usual place",
			ref: func(c *Cell) any { return &c.Task.Labels },
			doc: "File of gold labels where they are kept apart (piqa)."},
	}, doc: "Evaluation sets; a plain name stands for {name: …}."},
	{name: "protocol", shape: choice, choices: []string{"legacy", "joint-nobos", "joint-bos"}, def: "joint-bos", axis: "protocol",
		ref: func(c *Cell) any { return &c.Protocol },
		doc: "How a request becomes tokens: legacy is lm-eval 0.3.0 (the paper's Tables 2 and 3), joint-nobos 0.4.0 to 0.4.9.1, joint-bos later versions."},
	{name: "chat", shape: choice, choices: []string{"off", "on"}, def: "off", axis: "chat",
		ref: func(c *Cell) any { return &c.Chat },
		doc: "Whether multiple-choice contexts go through the model's chat template, as one user message: off is the paper's protocol."},
	{name: "seed", shape: integer, high: 1<<31 - 1, def: 0, axis: "seed",
		ref: func(c *Cell) any { return &c.Seed },
		doc: "Seed of everything random: sampled blocks, resampling, builtin weights."},
	{name: "timing", shape: boolean, def: false,
		ref: func(c *Cell) any { return &c.Timing },
		doc: "Store edge and cloud seconds with each row. Rows then differ between runs."},
	{name: "methods", shape: object, list: true, required: true, fields: append(slices.Clone(methodKeys), scopeKeys...),
		doc: "Ways to run the models. A method with only a name runs the checkpoint as it is. One with front, back or l_w quantises weights. One with split_layer, boundary, max_tokens or include_kv is a split method and takes its split layer from itself or from the sweep."},
	{name: "sweep", shape: sweep,
		doc: "Axes and their values; the points are the cross product, the last axis varying fastest. An axis replaces the value in a method and touches only methods it has a meaning for; points that become equal are run once."},
	{name: "outputs", shape: choice, list: true, empty: true,
		choices: []string{"accuracy_vs_layer", "perplexity_vs_layer", "accuracy_vs_clamp", "bytes_vs_tokens", "share_vs_threshold", "activation_histogram", "method_bars", "method_pareto", "server_time_vs_devices", "server_tokens_vs_limit"},
		doc:     "Figures to make: accuracy against the split layer, the primary metric against the limit of magnitudes (Fig. 4a), bytes per token against W-bar (Fig. 6), shares above and below against the threshold (Fig. 7), magnitudes of the boundary tensor (Fig. 4b), methods side by side (Table 3), methods against the bits that a weight takes, and of the modelled server its time against the devices and its tokens against W-bar (Fig. 5)."},
	{name: "server", shape: object, silent: true, fields: serverKeys,
		doc: "Modelled server that many devices share (Fig. 5): continuous and static batching by the times of memory and arithmetic, for the dimensions of each model of the spec in 16 bits. Its tables and figures are marked as modelled."},
}

// bitWidths are the widths of a baseline's parts.
var bitWidths = []int{0, 2, 3, 4, 5, 6, 7, 8, 16}

// quantizerKeys are the keys of a quantizer at the path axis.
func quantizerKeys(axis, mark string, n need, ref func(c *Cell) *Quantizer) []*key {
	// Where only the boundary is quantised, nothing is within the blocks.
	within := func(c *Cell) bool { return n != quantizerMethod || c.Method.Preset != OursBoundary }
	return []*key{
		{name: "preset", shape: choice, choices: quantizerPresets, needs: n, digest: DigestQuantizer,
			ref: func(c *Cell) any { return &ref(c).Preset },
			doc: "Baseline by the name of a setting of its paper or scripts (models/quantize)."},
		{name: "file", shape: path, needs: n, digest: DigestQuantizer,
			ref: func(c *Cell) any { return &ref(c).File },
			doc: "File that describes a baseline, with the keys that the verb quantize takes."},
		{name: "weight_bits", shape: integer, ints: bitWidths, def: 0, late: true, axis: axis + ".weight_bits", mark: mark + "Qw", needs: n, digest: DigestQuantizer,
			unit: "bits", shown: "0 = as the baseline says",
			ref: func(c *Cell) any { return &ref(c).WeightBits },
			doc: "Bits of the body of a weight; 16 leaves weights as they are."},
		{name: "activation_bits", shape: integer, ints: bitWidths, def: 0, late: true, axis: axis + ".activation_bits", mark: mark + "Qa", needs: n, digest: DigestQuantizer, when: within,
			unit: "bits", shown: "0 = as the baseline says",
			ref: func(c *Cell) any { return &ref(c).ActivationBits },
			doc: "Bits of all that the baseline quantises within a block besides weights: inputs of linear maps, and queries, keys or values where it does; 16 is weights alone."},
		{name: "kv_bits", shape: integer, ints: bitWidths, def: 0, late: true, axis: axis + ".kv_bits", mark: mark + "Qkv", needs: n, digest: DigestQuantizer, when: within,
			unit: "bits", shown: "0 = as the activations",
			ref: func(c *Cell) any { return &ref(c).KVBits },
			doc: "Bits of the attention tensors that the baseline quantises (Atom: keys and values)."},
	}
}

func weightKeys(axis, mark string, plain, quantized need, ref func(c *Cell) *WeightCoder) []*key {
	return []*key{
		{name: "quantizer", shape: object, needs: quantized, fields: quantizerKeys(axis+".quantizer", mark, quantized, func(c *Cell) *Quantizer { return &ref(c).Quantizer }),
			doc: "Baseline that quantises these layers, in the place of weight_bits and group."},
		{name: "weight_bits", shape: integer, ints: []int{2, 3, 4, 8, 16}, def: 16, axis: axis + ".weight_bits", mark: mark + "w", needs: plain,
			symbol: "Qw", unit: "bits", shown: "16 = not quantised",
			ref: func(c *Cell) any { return &ref(c).Bits },
			doc: "Bits of one linear weight."},
		{name: "group", shape: integer, high: 1 << 20, def: 0, axis: axis + ".group", mark: mark + "g", needs: plain,
			shown: "0 = the whole output channel", unit: "weights",
			when: func(c *Cell) bool { return ref(c).Bits < 16 },
			ref:  func(c *Cell) any { return &ref(c).Group },
			doc:  "Inputs of an output channel that share one scale and zero point."},
	}
}

// scopeKeys say where a method of an experiment is run; a method on its own has none.
var scopeKeys = []*key{
	{name: "tasks", shape: name, list: true,
		doc: "Names of the tasks that this method is scored on; all of them if it is not given."},
	{name: "sweep", shape: sweep,
		doc: "Axes of this method alone: each takes the place of the axis of that name in the experiment's sweep."},
}

var methodKeys = []*key{
	{name: "name", shape: name, required: true, silent: true,
		ref: func(c *Cell) any { return &c.Method.Name },
		doc: "Name of the method in tables and on the command line."},
	{name: "preset", shape: choice, choices: []string{OursBoundary, OursFront}, needs: presetMethod, digest: DigestQuantizer,
		ref: func(c *Cell) any { return &c.Method.Preset },
		doc: "Segment policy of the paper's own rows of Table 3, in two readings: ours-boundary quantises the weights of all layers and nothing within the blocks, and sends the hidden state at the split through the boundary; ours-front quantises layers 1..l, weights, activations at max_activation_bits and KV, and leaves the others exact. The quantizer is {preset: atom-w4a4} unless one is written, the boundary its defaults."},
	{name: "quantizer", shape: object, needs: quantizerMethod,
		fields: quantizerKeys("quantizer", "", quantizerMethod, func(c *Cell) *Quantizer { return &c.Method.Quantizer }),
		doc:    "Baseline that quantises all layers (front.quantizer and back.quantizer: those of a segment). Quantised weights are kept in the user's cache folder."},
	{name: "calibration", shape: object, needs: calibratedMethod, fields: calibrationKeys,
		doc: "Tokens that the method's quantizers are calibrated on; baselines that look at weights alone need none."},
	{name: "front", shape: object, needs: weightMethod, symbol: "Qw1",
		fields: weightKeys("front", "", frontWeights, frontQuantizer, func(c *Cell) *WeightCoder { return &c.Method.Front }),
		doc:    "Weights of layers 1..l_w (OPSC, Eq. 1)."},
	{name: "back", shape: object, needs: weightMethod, symbol: "Qw2",
		fields: weightKeys("back", "back.", backWeights, backQuantizer, func(c *Cell) *WeightCoder { return &c.Method.Back }),
		doc:    "Weights of layers l_w+1..L where the edge holds them; back.quantizer is also that of the server's layers."},
	{name: "split_layer", shape: integer, low: 1, high: 10000, axis: "split_layer", mark: "l", always: true, needs: splitMethod,
		symbol: "l", shown: "from sweep",
		ref: func(c *Cell) any { return &c.Method.SplitLayer },
		doc: "Last layer on the edge, counted from 1."},
	{name: "l_w", shape: integer, low: 1, high: 10000, axis: "l_w", needs: weightMethod,
		symbol: "l_w", shown: "split_layer, or every layer of a weight-only method",
		when: func(c *Cell) bool {
			front, back := c.Method.Segments()
			return c.Method.Front != c.Method.Back || front != back
		},
		ref: func(c *Cell) any { return &c.Method.PrecisionLayer },
		doc: "Last layer with front weights."},
	{name: "max_tokens", shape: integer, high: 1 << 24, def: 0, axis: "max_tokens", mark: "W", needs: splitMethod,
		symbol: "W-bar", shown: "0 = all rows", unit: "tokens",
		ref: func(c *Cell) any { return &c.Method.MaxTokens },
		doc: "Rows computed on the edge; the server computes the later ones alone."},
	{name: "include_kv", shape: boolean, def: true, axis: "include_kv", mark: "kv", needs: splitMethod,
		symbol: "I_kv",
		ref:    func(c *Cell) any { return &c.Method.IncludeKV },
		doc:    "Whether the edge's keys and values are sent for the rows after W-bar (Eq. 3), or recomputed by the server."},
	{name: "boundary", shape: object, needs: splitMethod, fields: boundaryKeys,
		doc: "Compression of what crosses the split; without it nothing is compressed."},
}

var calibrationKeys = []*key{
	{name: "file", shape: path, needs: calibratedMethod, digest: DigestCalibration,
		ref: func(c *Cell) any { return &c.Method.Calibration.File },
		doc: "Lines of {\"ids\":[…]} or {\"text\":\"…\"}; each is one sequence, taken as it is."},
	{name: "text", shape: path, needs: calibratedMethod, digest: DigestCalibration,
		ref: func(c *Cell) any { return &c.Method.Calibration.Text },
		doc: "Text that is tokenised as one, and windows drawn from as GPTQ, OmniQuant and Atom do."},
	{name: "task", shape: choice, choices: taskNames, needs: calibratedMethod, digest: DigestCalibration,
		ref: func(c *Cell) any { return &c.Method.Calibration.Task },
		doc: "Evaluation set under data whose texts are calibrated on: one document as text, several by the rule for C4 (a random document that is long enough, a window in it)."},
	{name: "sequences", shape: integer, high: 1 << 20, def: 0, late: true, axis: "calibration.sequences", mark: "n", needs: calibratedMethod, digest: DigestCalibration,
		shown: "0 = as the baseline says; of a file, all lines",
		ref:   func(c *Cell) any { return &c.Method.Calibration.Sequences },
		doc:   "Number of windows, or of the lines of the file that are used."},
	{name: "tokens", shape: integer, high: 1 << 24, def: 0, late: true, axis: "calibration.tokens", needs: calibratedMethod, digest: DigestCalibration,
		shown: "0 = as the baseline says, at most the model's length; of a file, whole lines", unit: "tokens",
		ref: func(c *Cell) any { return &c.Method.Calibration.Tokens },
		doc: "Tokens of a window, or the most of a line that are used."},
	{name: "seed", shape: integer, low: -1, high: 1<<31 - 1, def: -1, late: true, axis: "calibration.seed", needs: calibratedMethod, digest: DigestCalibration,
		shown: "-1 = as the baseline says",
		ref:   func(c *Cell) any { return &c.Method.Calibration.Seed },
		doc:   "Seed of the draws."},
}

// taskNames are the evaluation sets.
var taskNames = []string{"hellaswag", "piqa", "arc_easy", "arc_challenge", "arc_letter", "boolq", "winogrande", "wikitext", "c4_documents", "wikitext2", "c4", "c4-new"}

var boundaryKeys = []*key{
	{name: "codec", shape: choice, choices: []string{"none", "literal", "packed", "raw16", "split1"}, def: "literal", axis: "codec", needs: boundaryMethod,
		ref: func(c *Cell) any { return &c.Method.Boundary.Codec },
		doc: "Message form: none sends rows as they are, literal is the paper's (entropy coded), packed has fixed-width codes, raw16 sends 16-bit values, split1 restores what literal does from shorter messages (static tables, FORMAT.md of package compress)."},
	{name: "tau", shape: threshold, def: Tau{TauValue, 5}, axis: "tau", always: true, needs: boundaryMethod, when: quantising,
		symbol: "tau",
		ref:    func(c *Cell) any { return &c.Method.Boundary.Tau },
		doc:    "Threshold splitting (Eq. 4): values of this magnitude and more are sent exactly. 0 sends all so. {quantile: q} keeps the share q of each row below it, {rms: m} takes m times the row's root mean square."},
	{name: "max_activation_bits", shape: integer, low: 2, high: 8, def: 4, axis: "max_activation_bits", mark: "Q", always: true, needs: boundaryMethod,
		when:   func(c *Cell) bool { return quantising(c) || c.Method.Preset == OursFront },
		symbol: "Qa-bar", unit: "bits",
		ref: func(c *Cell) any { return &c.Method.Boundary.MaxActivationBits },
		doc: "Most bits of one code, sign included (Algorithm 1)."},
	{name: "delta", shape: number, def: 0.2, axis: "delta", needs: boundaryMethod, when: searching,
		symbol: "Delta", unit: "steps of the lower resolution",
		ref: func(c *Cell) any { return &c.Method.Boundary.Delta },
		doc: "Distortion tolerance of TAB-Q (Algorithm 1)."},
	{name: "search", shape: choice, choices: []string{"tabq", "fixed"}, def: "tabq", axis: "search", needs: boundaryMethod, when: quantising,
		ref: func(c *Cell) any { return &c.Method.Boundary.Search },
		doc: "tabq looks for fewer bits row by row, fixed always uses max_activation_bits."},
	{name: "stop_rule", shape: choice, choices: []string{"last_ok", "first_exceed"}, def: "last_ok", axis: "stop_rule", needs: boundaryMethod, when: searching,
		ref: func(c *Cell) any { return &c.Method.Boundary.StopRule },
		doc: "Which width the search returns: the last within delta, or the first beyond it as the listing says."},
	{name: "comparison", shape: choice, choices: []string{"floor", "round"}, def: "floor", axis: "comparison", needs: boundaryMethod, when: searching,
		ref: func(c *Cell) any { return &c.Method.Boundary.Comparison },
		doc: "How codes of two widths are compared: by a plain shift as printed, or rounding first."},
	{name: "lower_bound", shape: integer, low: 1, high: 7, def: 3, axis: "lower_bound", needs: boundaryMethod, when: searching,
		unit: "magnitude bits",
		ref:  func(c *Cell) any { return &c.Method.Boundary.LowerBound },
		doc:  "Fewest magnitude bits the search tries; the paper gives no value."},
	{name: "granularity", shape: choice, choices: []string{"per_token", "per_tensor"}, def: "per_token", axis: "granularity", needs: boundaryMethod, when: searching,
		ref: func(c *Cell) any { return &c.Method.Boundary.Granularity },
		doc: "One width per row, or one for all rows of a message. Scales are per row in both."},
	{name: "above_type", shape: choice, choices: []string{"exact", "float16", "bfloat16", "float32"}, def: "exact", axis: "above_type", needs: boundaryMethod, when: quantising,
		ref: func(c *Cell) any { return &c.Method.Boundary.AboveType },
		doc: "Type of the values at or above the threshold; exact is the smallest that holds all of a message bit for bit."},
	{name: "sparse_index", shape: choice, choices: []string{"compact", "torch"}, def: "compact", axis: "sparse_index", needs: boundaryMethod, when: indexed,
		ref: func(c *Cell) any { return &c.Method.Boundary.SparseIndex },
		doc: "Widths of the sparse part's indices: compact is u32 row pointers and u16 columns, torch int64 for both."},
	{name: "scale_type", shape: choice, choices: []string{"float16", "float32"}, def: "float16", axis: "scale_type", needs: boundaryMethod, when: quantising,
		ref: func(c *Cell) any { return &c.Method.Boundary.ScaleType },
		doc: "Type of a row's scale; it is rounded to this type before it is used."},
	{name: "clamp", shape: number, high: 1e9, def: 0.0, axis: "clamp", late: true, unkeyed: true, needs: boundaryMethod,
		shown: "0 = none",
		ref:   func(c *Cell) any { return &c.Method.Boundary.Clamp },
		doc:   "Upper limit of magnitudes: values of the boundary tensor beyond it are set to it before the codec, none included (Fig. 4a). Keys and values are not limited."},
	{name: "lanes", shape: integer, ints: []int{0, 1, 2, 4, 8, 16, 32, 64, 96}, def: 0, axis: "lanes", late: true, needs: boundaryMethod, when: split1,
		shown: "0 = chosen by size",
		ref:   func(c *Cell) any { return &c.Method.Boundary.Lanes },
		doc:   "Interleaved states of split1's coder: fewer make a short message shorter, more decode faster."},
	{name: "restore", shape: choice, choices: []string{"center", "centroid"}, def: "center", axis: "restore", late: true, needs: boundaryMethod, when: tabled,
		ref: func(c *Cell) any { return &c.Method.Boundary.Restore },
		doc: "What a code of split1 stands for: code times scale (Eq. 7), or the mean of the training values with that code, from the tables."},
	{name: "tables", shape: path, digest: DigestTables, def: "", shown: "those built in", needs: boundaryMethod, when: split1,
		ref: func(c *Cell) any { return &c.Method.Boundary.Tables },
		doc: "File of split1's static tables for the hidden state, made by codec train."},
	{name: "kv_tables", shape: path, digest: DigestKVTables, def: "", shown: "those built in", needs: boundaryMethod, when: func(c *Cell) bool { return split1(c) && sendsKV(c) },
		ref: func(c *Cell) any { return &c.Method.Boundary.KVTables },
		doc: "File of split1's static tables for keys and values, made by codec train --kv; they cross only with include_kv and max_tokens."},
}

// axes are the keys that may be swept, in table order, by the name used in sweep.
var axes = collectAxes(nil, table)

func collectAxes(out, keys []*key) []*key {
	for _, k := range keys {
		if k.axis != "" {
			out = append(out, k)
		}
		out = collectAxes(out, k.fields)
	}
	return out
}

// files are the keys of the boundary that name files.
var files = slices.DeleteFunc(slices.Clone(boundaryKeys), func(k *key) bool { return k.shape != path })

func axisKey(name string) *key {
	for _, k := range axes {
		if k.axis == name {
			return k
		}
	}
	return nil
}

func field(keys []*key, name string) *key {
	for _, k := range keys {
		if k.name == name {
			return k
		}
	}
	return nil
}

// suits reports whether a key has a meaning for methods like m.
func (k *key) suits(m *Method) bool {
	switch k.needs {
	case weightMethod:
		return m.Kind != Whole
	case frontWeights:
		return m.Kind != Whole && !m.Quantizer.Set() && !m.Front.Quantizer.Set()
	case backWeights:
		return m.Kind != Whole && !m.Quantizer.Set() && !m.Back.Quantizer.Set()
	case splitMethod:
		return m.Kind == Split
	case boundaryMethod:
		return m.Kind == Split && m.Boundary != nil
	case presetMethod:
		return m.Preset != ""
	case quantizerMethod:
		return m.Quantizer.Set()
	case frontQuantizer:
		return m.Front.Quantizer.Set()
	case backQuantizer:
		return m.Back.Quantizer.Set()
	case calibratedMethod:
		return m.Quantized() && m.Calibration.Set()
	}
	return true
}

// acts reports whether the knob can change anything at a resolved point.
func (k *key) acts(c *Cell) bool {
	return k.suits(&c.Method) && (k.when == nil || k.when(c))
}

// load returns the value at the key's place in c.
func (k *key) load(c *Cell) any {
	switch p := k.ref(c).(type) {
	case *int:
		return *p
	case *float64:
		return *p
	case *string:
		return *p
	case *bool:
		return *p
	case *Limit:
		return *p
	case *Tau:
		return *p
	case *[]int:
		return *p
	case *[]string:
		return *p
	}
	panic("spec: the table gives key " + k.name + " a place of an unknown type")
}

// store puts a value of the key's type at its place in c; nil stores the zero value.
func (k *key) store(c *Cell, v any) {
	switch p := k.ref(c).(type) {
	case *int:
		*p, _ = v.(int)
	case *float64:
		*p, _ = v.(float64)
	case *string:
		*p, _ = v.(string)
	case *bool:
		*p, _ = v.(bool)
	case *Limit:
		*p, _ = v.(Limit)
	case *Tau:
		*p, _ = v.(Tau)
	case *[]int:
		*p, _ = v.([]int)
	case *[]string:
		*p, _ = v.([]string)
	}
}
