package spec

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// A Training is one training run of a decoder from random weights as read, with every default filled in.
type Training struct {
	Name        string // [a-z0-9._-]
	Description string
	Seed        int
	Model       TrainedModel
	Tokenizer   TrainedTokenizer
	// Train are the sources that the model learns from, Validation those that only its loss is measured on.
	Train, Validation []TrainingSource
	Steps             TrainingSteps
}

// A TrainedModel is the architecture of a Llama model with grouped queries.
type TrainedModel struct {
	HiddenSize, IntermediateSize, Layers, Heads, KVHeads, HeadDim int

	Vocabulary     int // 0: that of the tokenizer
	MaxPositions   int
	RopeTheta      float64
	NormEpsilon    float64
	TiedEmbeddings bool
	InitDeviation  float64 // standard deviation of the first weights
}

// A TrainedTokenizer is either a file, or one to be trained on the text of the training sources.
type TrainedTokenizer struct {
	Path         string // absolute, or builtin:NAME; empty: trained
	Vocabulary   int    // tokens, special ones included
	MinFrequency int
}

// A TrainingSource gives examples: the documents of text files, or the rows of an evaluation set with their right answers.
type TrainingSource struct {
	Name          string  // in logs; empty: the task, or the file
	Text          string  // absolute path or pattern of files; empty: a task
	Separator     string  // cuts a text file into documents; empty: a file is one document
	Task          string  // empty: text
	Path          string  // of the task's data: absolute, or builtin:NAME
	Limit         Limit   // documents used
	Weight        float64 // how often an example comes in one pass over the data, on average
	ContextWeight float64 // weight of the loss on the context of a row; its answer has 1
}

// TrainingSteps says how the weights move.
type TrainingSteps struct {
	Steps, Tokens                      int // one of them is 0
	BatchTokens, SequenceLength        int
	LearningRate, MinimumRate          float64 // MinimumRate is a share of LearningRate
	WarmupSteps                        int
	WeightDecay, Beta1, Beta2, Epsilon float64
	ClipNorm, ZLoss, Average           float64 // 0: none
	ValidationEvery, ValidationTokens  int     // steps; 0: at the end only. tokens; 0: all
	CheckpointEvery, LogEvery          int     // steps
	DType                              string
}

// trainingTable holds every key of a training file; values are stored in t. Those of a source go to s.
func trainingTable(t *Training, s *TrainingSource) []*key {
	// at makes the place of a key: the table of experiments passes a cell, which is not needed here.
	at := func(place any) func(*Cell) any { return func(*Cell) any { return place } }
	m, k, p := &t.Model, &t.Tokenizer, &t.Steps
	source := []*key{
		{name: "name", shape: name, def: "", shown: "the task, or the file", ref: at(&s.Name),
			doc: "Name of the source in logs."},
		{name: "text", shape: path, def: "", ref: at(&s.Text),
			doc: "Text file, or a pattern of such as in stories/*.txt, in the order of their names. A file of JSON lines has its documents in the key text; files may be packed by gzip or bzip2."},
		{name: "separator", shape: text, def: "", shown: "a file is one document", ref: at(&s.Separator),
			doc: "What lies between the documents of a plain text file, as in \"\\n\\n\"."},
		{name: "task", shape: choice, choices: field(field(table, "tasks").fields, "name").choices, def: "", ref: at(&s.Task),
			doc: "Evaluation set whose rows are examples: context and right answer, or a text."},
		{name: "path", shape: path, def: "", ref: at(&s.Path),
			doc: "File or folder of the task's data, or builtin:NAME."},
		{name: "limit", shape: limit, def: Limit{}, shown: "0 = all", unit: "documents", ref: at(&s.Limit),
			doc: "How many documents are used: a count, or a fraction below 1."},
		{name: "weight", shape: number, low: 1e-3, high: 1000, def: 1.0, ref: at(&s.Weight),
			doc: "How often an example comes in one pass over the data, on average."},
		{name: "context_weight", shape: number, high: 1000, def: 1.0, ref: at(&s.ContextWeight),
			doc: "Weight of the loss on the tokens of a row's context; those of its answer have 1."},
	}
	return []*key{
		{name: "name", shape: name, lower: true, required: true, ref: at(&t.Name),
			doc: "Name of the training run; the model goes into a folder of this name."},
		{name: "description", shape: text, def: "", ref: at(&t.Description), doc: "What is trained, for people."},
		{name: "seed", shape: integer, high: 1<<31 - 1, def: 0, ref: at(&t.Seed),
			doc: "Seed of the first weights and of the order of the examples."},
		{name: "model", shape: object, required: true, fields: []*key{
			{name: "hidden_size", shape: integer, low: 2, high: 1 << 14, required: true, ref: at(&m.HiddenSize), doc: "Width of the residual stream."},
			{name: "intermediate_size", shape: integer, low: 1, high: 1 << 16, required: true, ref: at(&m.IntermediateSize), doc: "Width inside the feed-forward part."},
			{name: "layers", shape: integer, low: 1, high: 1 << 10, required: true, ref: at(&m.Layers), doc: "Decoder layers."},
			{name: "heads", shape: integer, low: 1, high: 1 << 10, required: true, ref: at(&m.Heads), doc: "Query heads."},
			{name: "kv_heads", shape: integer, low: 1, high: 1 << 10, ref: at(&m.KVHeads), shown: "heads", doc: "Key/value heads; heads is a multiple of it."},
			{name: "head_dim", shape: integer, low: 2, high: 1 << 12, ref: at(&m.HeadDim), shown: "hidden_size / heads", doc: "Width of one head, even."},
			{name: "vocabulary", shape: integer, high: 1 << 24, def: 0, shown: "0 = that of the tokenizer", unit: "tokens", ref: at(&m.Vocabulary), doc: "Rows of the embedding."},
			{name: "max_positions", shape: integer, low: 2, high: 1 << 24, def: 512, unit: "tokens", ref: at(&m.MaxPositions), doc: "The longest sequence that the configuration allows."},
			{name: "rope_theta", shape: number, low: 1, def: 10000.0, ref: at(&m.RopeTheta), doc: "Base of the rotary embedding."},
			{name: "norm_epsilon", shape: number, high: 1, def: 1e-5, ref: at(&m.NormEpsilon), doc: "Added to the mean square in RMSNorm."},
			{name: "tied_embeddings", shape: boolean, def: true, ref: at(&m.TiedEmbeddings), doc: "Whether the head is the embedding matrix."},
			{name: "init_deviation", shape: number, low: 1e-6, high: 10, def: 0.02, ref: at(&m.InitDeviation), doc: "Standard deviation of the first weights; of the two maps that write to the residual stream it is divided by the root of twice the layers."},
		}, doc: "Architecture: Llama with grouped queries."},
		{name: "tokenizer", shape: object, required: true, fields: []*key{
			{name: "path", shape: path, def: "", ref: at(&k.Path), doc: "Tokenizer file or folder that is there already, or builtin:NAME."},
			{name: "vocabulary", shape: integer, high: 1 << 20, def: 0, unit: "tokens", ref: at(&k.Vocabulary), doc: "Size of a byte-level BPE vocabulary to be trained on the text of the training sources."},
			{name: "min_frequency", shape: integer, low: 1, high: 1 << 30, def: 2, ref: at(&k.MinFrequency), doc: "How often a pair must come to be merged."},
		}, doc: "One of path and vocabulary."},
		{name: "data", shape: object, required: true, fields: []*key{
			{name: "train", shape: object, list: true, required: true, fields: source, doc: "Sources to learn from."},
			{name: "validation", shape: object, list: true, required: true, fields: source, doc: "Sources to measure the loss on."},
		}, doc: "Each source has text, or task with path."},
		{name: "training", shape: object, required: true, fields: []*key{
			{name: "steps", shape: integer, high: 1 << 30, def: 0, unit: "steps", ref: at(&p.Steps), doc: "Length of the training; one of steps and tokens."},
			{name: "tokens", shape: integer, high: 1 << 50, def: 0, unit: "tokens", ref: at(&p.Tokens), doc: "Length of the training; one of steps and tokens."},
			{name: "batch_tokens", shape: integer, low: 1, high: 1 << 24, def: 4096, unit: "tokens", ref: at(&p.BatchTokens), doc: "Tokens of a step at most; one sequence always fits."},
			{name: "sequence_length", shape: integer, low: 2, high: 1 << 24, shown: "256, or max_positions if that is less", unit: "tokens", ref: at(&p.SequenceLength), doc: "Longest sequence, BOS and EOS included. Longer texts are cut into several, each with BOS; longer rows lose tokens on the left."},
			{name: "learning_rate", shape: number, low: 1e-9, high: 10, required: true, ref: at(&p.LearningRate), doc: "Largest rate."},
			{name: "minimum_rate", shape: number, high: 1, def: 0.1, ref: at(&p.MinimumRate), doc: "Share of the learning rate at which the cosine ends."},
			{name: "warmup_steps", shape: integer, high: 1 << 30, def: 100, unit: "steps", ref: at(&p.WarmupSteps), doc: "Steps of linear rise."},
			{name: "weight_decay", shape: number, high: 10, def: 0.1, ref: at(&p.WeightDecay), doc: "Decay of AdamW on the matrices of the blocks and an untied head; embeddings and norms have none."},
			{name: "beta1", shape: number, high: 0.999999, def: 0.9, ref: at(&p.Beta1), doc: "Memory of the first moment."},
			{name: "beta2", shape: number, high: 0.999999, def: 0.95, ref: at(&p.Beta2), doc: "Memory of the second moment."},
			{name: "epsilon", shape: number, low: 1e-30, high: 1, def: 1e-8, ref: at(&p.Epsilon), doc: "Added to the root of the second moment."},
			{name: "clip_norm", shape: number, high: 1e6, def: 1.0, shown: "1; 0 = not at all", ref: at(&p.ClipNorm), doc: "Largest norm of the gradient of all parameters together."},
			{name: "z_loss", shape: number, high: 1, def: 0.0, shown: "0 = none", ref: at(&p.ZLoss), doc: "Factor of the mean squared log of the softmax sum, added to the loss."},
			{name: "average", shape: number, high: 0.999999, def: 0.0, shown: "0 = none", ref: at(&p.Average), doc: "Memory per step of a running average of the weights, which is then what is validated and written."},
			{name: "validation_every", shape: integer, high: 1 << 30, def: 200, unit: "steps", shown: "200; 0 = at the end only", ref: at(&p.ValidationEvery), doc: "Steps between measurements of the validation loss."},
			{name: "validation_tokens", shape: integer, high: 1 << 30, def: 65536, unit: "tokens", shown: "65536; 0 = all", ref: at(&p.ValidationTokens), doc: "Tokens per validation source that the loss is measured on, spread over the source."},
			{name: "checkpoint_every", shape: integer, low: 1, high: 1 << 30, def: 100, unit: "steps", ref: at(&p.CheckpointEvery), doc: "Steps between checkpoints: the most that a kill loses."},
			{name: "log_every", shape: integer, low: 1, high: 1 << 30, def: 10, unit: "steps", ref: at(&p.LogEvery), doc: "Steps per line of the log."},
			{name: "dtype", shape: choice, choices: []string{"bfloat16", "float32"}, def: "bfloat16", ref: at(&p.DType), doc: "Type of the weights written; the training is in float32."},
		}, doc: "Optimiser, schedule and what is kept."},
	}
}

// TrainingKeys documents every key of a training file, in the order of its table.
func TrainingKeys() []KeyDoc {
	return documentKeys(nil, trainingTable(new(Training), new(TrainingSource)), "")
}

// LoadTraining reads a training file. Faults of the text are returned together as Errors. The overrides of o may not
// be given: a training file is what makes a model repeatable.
func LoadTraining(path string, o LoadOptions) (*Training, error) {
	data, err := readRegular(path)
	if err != nil {
		return nil, fmt.Errorf("training %s: %w", path, reason(err))
	}
	return ParseTraining(path, data, o)
}

// ParseTraining is LoadTraining on a text; name stands for the file in messages, and its folder is where relative
// paths are looked for.
func ParseTraining(name string, data []byte, o LoadOptions) (*Training, error) {
	r, err := newReader(name, o)
	if err != nil {
		return nil, err
	}
	r.docs = TrainingKeys()
	r.files = append(r.files, name)
	root := r.document(name, data, "")
	if root == nil {
		return nil, sorted(r.errs, r.files)
	}
	t := new(Training)
	keys := trainingTable(t, new(TrainingSource))
	r.checkObject(keys, root, "", true)
	if root.kind == mappingNode {
		bindKeys(keys, root, new(Cell))
		t.Train = r.bindSources(root.get("data").get("train"))
		t.Validation = r.bindSources(root.get("data").get("validation"))
		r.checkTraining(t, root)
	}
	if len(r.errs) > 0 {
		return nil, sorted(r.errs, r.files)
	}
	return t, nil
}

// bindSources makes the sources of a checked list.
func (r *reader) bindSources(list *node) []TrainingSource {
	var all []TrainingSource
	for _, n := range entriesOf(list) {
		var s TrainingSource
		bindKeys(sourceKeys(&s), n, new(Cell))
		switch {
		case (n.get("text") == nil) == (n.get("task") == nil):
			r.fault(n.pos, "a source needs one of text and task", "text: FILE, or task: NAME with path")
		case s.Task != "" && n.get("path") == nil:
			r.fault(n.pos, "the source of task "+s.Task+" has no path", "path: FOLDER or FILE")
		}
		for _, k := range []string{"path", "context_weight"} {
			if v := n.get(k); v != nil && n.get("task") == nil {
				r.fault(v.pos, "a source of text has no "+k, k+" only with task")
			}
		}
		if v := n.get("separator"); v != nil && n.get("text") == nil {
			r.fault(v.pos, "a source of a task has no separator", "separator only with text")
		}
		all = append(all, s)
	}
	return all
}

func sourceKeys(s *TrainingSource) []*key {
	return field(field(trainingTable(new(Training), s), "data").fields, "train").fields
}

// checkTraining fills in what follows from other keys and checks what involves several.
func (r *reader) checkTraining(t *Training, root *node) {
	at := func(path ...string) position {
		n := root
		for _, p := range path {
			if next := n.get(p); next != nil {
				n = next
			}
		}
		return n.pos
	}
	m := &t.Model
	if m.KVHeads == 0 {
		m.KVHeads = m.Heads
	}
	if m.HeadDim == 0 && m.Heads > 0 {
		if m.HeadDim = m.HiddenSize / m.Heads; m.HeadDim*m.Heads != m.HiddenSize {
			r.fault(at("model", "heads"), fmt.Sprintf("model.heads %d does not divide hidden_size %d", m.Heads, m.HiddenSize), "a divisor of it, or head_dim")
		}
	}
	if m.HeadDim%2 != 0 {
		r.fault(at("model", "head_dim"), fmt.Sprintf("the width of a head is %d", m.HeadDim), "an even number")
	}
	if m.KVHeads > 0 && m.Heads%m.KVHeads != 0 {
		r.fault(at("model", "kv_heads"), fmt.Sprintf("model.kv_heads %d does not divide heads %d", m.KVHeads, m.Heads), "a divisor of it")
	}
	if k := t.Tokenizer; (k.Path == "") == (k.Vocabulary == 0) {
		r.fault(at("tokenizer"), "tokenizer needs one of path and vocabulary", "path: FILE, or vocabulary: N")
	}
	p := &t.Steps
	if p.SequenceLength == 0 {
		p.SequenceLength = min(256, m.MaxPositions)
	}
	if (p.Steps == 0) == (p.Tokens == 0) {
		r.fault(at("training"), "training needs one of steps and tokens", "steps: N, or tokens: N")
	}
	if p.SequenceLength > m.MaxPositions {
		r.fault(at("training", "sequence_length"), fmt.Sprintf("training.sequence_length is %d, model.max_positions %d", p.SequenceLength, m.MaxPositions), "at most max_positions")
	}
}

// YAML returns the resolved training file: variables expanded, paths absolute, defaults written out. The text is the
// same for the same Training, and ParseTraining of it gives the same Training back.
func (t *Training) YAML() []byte {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range trainingTable(t, new(TrainingSource)) {
		switch {
		case k.name == "data":
			data := &yaml.Node{Kind: yaml.MappingNode}
			for _, part := range []struct {
				name    string
				sources []TrainingSource
			}{{"train", t.Train}, {"validation", t.Validation}} {
				list := &yaml.Node{Kind: yaml.SequenceNode}
				for i := range part.sources {
					n := entry(sourceKeys(&part.sources[i]), new(Cell))
					list.Content = append(list.Content, writtenSource(n, part.sources[i]))
				}
				put(data, part.name, list)
			}
			put(root, k.name, data)
		case k.shape == object:
			n := entry(k.fields, new(Cell))
			n.Style = 0
			put(root, k.name, n)
		case k.load(new(Cell)) != "":
			put(root, k.name, scalar(k.load(new(Cell))))
		}
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		panic("spec: " + err.Error()) // made above of mappings, lists and scalars only
	}
	return b.Bytes()
}

// writtenSource drops the keys of an entry that a source of its kind has not.
func writtenSource(n *yaml.Node, s TrainingSource) *yaml.Node {
	drop := map[string]bool{"name": s.Name == "", "task": s.Task == "", "path": s.Task == "", "context_weight": s.Task == "", "text": s.Text == "", "separator": s.Text == "" || s.Separator == ""}
	out := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for i := 0; i < len(n.Content); i += 2 {
		if !drop[n.Content[i].Value] {
			out.Content = append(out.Content, n.Content[i], n.Content[i+1])
		}
	}
	return out
}
