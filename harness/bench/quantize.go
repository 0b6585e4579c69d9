package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"splitbench/harness/quantise"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/quantize"
	"splitbench/results"
)

// QuantizeOptions say what Quantize measures.
type QuantizeOptions struct {
	Shape             Shape // whose layers are quantized by GPTQ; no layers: none
	Layers            int   // of them
	Bits, Group       int   // of GPTQ's weights
	Sequences, Tokens int   // of random calibration
	Threads           int   // 0 = all processors
	Kernel            string
	Model             *checkpoint.Checkpoint // quantized by Methods; nil: none
	ModelName         string
	Methods           []quantize.Method
	Rounds            int
	Peak              time.Duration // of measuring the limits of the machine
	Buffer            int           // bytes of the buffer for the bandwidth; 0 = what the backend takes
	Step              func(what string)
}

// Quantize measures GPTQ on a layer of a model of random weights, part by part
// against the peak of this machine, and whole methods on a model.
func Quantize(ctx context.Context, o QuantizeOptions) (*Report, error) {
	threads := o.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
	be, err := cpu.New(cpu.Options{Workers: threads, Kernel: o.Kernel})
	if err != nil {
		return nil, err
	}
	defer be.Close()
	if o.Step == nil {
		o.Step = func(string) {}
	}
	q := &quantizing{QuantizeOptions: &o, Report: &Report{}, be: be, threads: threads}
	q.limit()
	if o.Shape.Hidden > 0 {
		if err := q.layer(ctx); err != nil {
			return nil, err
		}
	}
	if o.Model != nil {
		if err := q.methods(ctx); err != nil {
			return nil, err
		}
	}
	return q.Report, nil
}

// quantizing is one call of Quantize.
type quantizing struct {
	*QuantizeOptions
	*Report
	be      *cpu.Backend
	threads int
	peak    float64 // products and sums per second, the best of several measurements
}

func (q *quantizing) limit() {
	q.peak = max(q.peak, q.be.MeasurePeak(q.Peak, q.Buffer).Flops)
}

// discard is the sink that keeps nothing.
type discard struct{}

func (discard) Ends(checkpoint.Config, *quantise.Ends) error { return nil }
func (discard) Block(int, *quantise.Block) error             { return nil }

// outcome is one quantization: its parts in order, in seconds and bytes.
type outcome struct {
	parts   []quantise.Part
	blocks  []float64
	beyond  int64 // peak memory beyond what was there before the first block
	started time.Time
}

func (q *quantizing) once(ctx context.Context, c *checkpoint.Checkpoint, m quantize.Method, calibration [][]int32) (*outcome, error) {
	var r outcome
	var before int64
	_, err := quantise.Quantize(ctx, c, q.be, m, calibration, quantise.Options{
		Part: func(p quantise.Part) { r.parts = append(r.parts, p) },
		Progress: func(s quantise.Step) {
			if s.Block == 0 {
				before = RestartPeakMemory()
			} else {
				r.blocks = append(r.blocks, time.Since(r.started).Seconds())
			}
			r.started = time.Now()
		},
	}, discard{})
	if before > 0 {
		r.beyond = PeakMemory() - before
	}
	return &r, err
}

// calibration returns random sequences.
func (q *quantizing) calibration(vocab int) [][]int32 {
	r := quantize.NewRandom(1)
	all := make([][]int32, q.Sequences)
	for i := range all {
		for range q.Tokens {
			all[i] = append(all[i], int32(r.Below(uint64(vocab))))
		}
	}
	return all
}

// layerVocab bounds the vocabulary of the model that stands for a shape: more
// than the channels of a layer, so that a Hessian has its full rank.
const layerVocab = 16384

// layer measures GPTQ, part by part; of several rounds each part counts with
// its best.
func (q *quantizing) layer(ctx context.Context) error {
	s := q.Shape
	s.Layers, s.Vocab, s.Tied = max(1, q.Layers), min(max(s.Vocab, 4), layerVocab), true
	q.Step(fmt.Sprintf("%s: a layer of random weights", s.Name))
	dir, err := os.MkdirTemp("", "splitbench-quantize-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := s.write(dir); err != nil {
		return err
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	m := quantize.NewGPTQ(q.Bits, q.Group, false, quantize.GPTQOptions{})
	m.Calibration = quantize.CalibrationPlan{}
	calibration := q.calibration(s.Vocab)
	var best *outcome
	for i := range max(1, q.Rounds) {
		q.Step(fmt.Sprintf("%s: GPTQ, round %d", s.Name, i+1))
		r, err := q.once(ctx, c, m, calibration)
		if err != nil {
			return err
		}
		q.limit()
		if best == nil {
			best = r
			continue
		}
		for j, p := range r.parts {
			best.parts[j].Seconds = min(best.parts[j].Seconds, p.Seconds)
		}
		for j, b := range r.blocks {
			best.blocks[j] = min(best.blocks[j], b)
		}
		best.beyond = max(best.beyond, r.beyond)
	}
	t := results.Table{
		Name: "gptq",
		Title: fmt.Sprintf("GPTQ at %d bits on a layer of %s (hidden %d, intermediate %d, %d of %d heads for keys), %d sequences of %d tokens: the best of %d rounds. The floor is operations / peak (%.1f GFLOP/s with %d threads).",
			q.Bits, s.Name, s.Hidden, s.Intermediate, s.KVHeads, s.Heads, q.Sequences, q.Tokens, max(1, q.Rounds), q.peak*1e-9, q.threads),
		Columns: append(plain("Part", "Of"), numeric("Out", 0), numeric("In", 0), numeric("Time (s)", 3), numeric("GFLOP", 1), numeric("Rate (GFLOP/s)", 1), numeric("Floor (s)", 3), numeric("Of floor (%)", 1)),
	}
	base := results.Measurement{Bench: "quantize", Table: t.Name, Input: s.Name, Threads: int32(q.threads)}
	row := func(kind, of string, out, in int, flops, seconds float64) {
		values := []results.Value{text(kind), text(of), text(none), text(none), number(seconds), text(none), text(none), text(none), text(none)}
		b := base
		b.Subject = strings.TrimSpace(kind + " " + of)
		if out > 0 {
			values[2], values[3] = integer(out), integer(in)
			b.Out, b.In = int32p(out), int32p(in)
		}
		q.add(b, "time", "s", seconds)
		if flops > 0 {
			floor := flops / q.peak
			values[5], values[6], values[7], values[8] = number(flops*1e-9), number(flops/seconds*1e-9), number(floor), number(100*floor/seconds)
			q.add(b, "floor share", "%", 100*floor/seconds)
		}
		t.Rows = append(t.Rows, values)
	}
	var flops, linear float64
	of := len(best.parts) / s.Layers
	for _, p := range best.parts[:of] { // of the first layer
		if p.Flops > 0 || p.Kind == "load" {
			row(p.Kind, p.Name, p.Out, p.In, p.Flops, p.Seconds)
		}
		flops += p.Flops
		if p.Kind != "pass" {
			linear += p.Seconds
		}
	}
	row("layer", "", 0, 0, flops, best.blocks[0])
	block, hessian := quantise.Sizes(c.Config)
	t.Notes = append(t.Notes, fmt.Sprintf("%.3f s of the layer do not grow with the number of tokens but for the Hessians; pass is the way of the calibration set through the layer.", linear),
		memoryNote(best.beyond, block, hessian, passBytes(c.Config, q.Tokens)))
	q.add(base, "peak memory", "bytes", float64(best.beyond))
	q.Tables = append(q.Tables, t)
	return nil
}

// passBytes is the memory of the activations of a pass of as many rows.
func passBytes(c checkpoint.Config, rows int) int64 {
	return 4 * int64(rows) * int64(4*c.HiddenSize+2*c.QueryWidth()+2*c.KVWidth()+2*c.IntermediateSize+max(c.HiddenSize, c.IntermediateSize))
}

func memoryNote(beyond, block, hessian, pass int64) string {
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	return fmt.Sprintf("peak memory beyond embeddings and calibration rows: %.1f MiB; the layer at hand in float32 is %.1f MiB, another one and its largest Hessian %.1f MiB, the activations of a pass of one sequence %.1f MiB.",
		mib(beyond), mib(block), mib(block+hessian), mib(pass))
}

// methods measures whole methods on a model.
func (q *quantizing) methods(ctx context.Context) error {
	c := q.Model
	calibration := q.calibration(c.Config.VocabSize)
	block, hessian := quantise.Sizes(c.Config)
	mib := 1. / (1 << 20)
	t := results.Table{
		Name: "methods",
		Title: fmt.Sprintf("Methods on %s (%d layers), %d sequences of %d tokens: the best of %d rounds. Memory is the peak beyond embeddings and calibration rows; a layer in float32 is %.2f MiB, its largest Hessian %.2f MiB.",
			q.ModelName, c.Config.Layers, q.Sequences, q.Tokens, max(1, q.Rounds), float64(block)*mib, float64(hessian)*mib),
		Columns: append(plain("Method"), numeric("Weights (bits)", 0), numeric("Activations (bits)", 0), numeric("Per layer (s)", 3), numeric("Total (s)", 3), numeric("Memory (MiB)", 1)),
	}
	for _, m := range q.Methods {
		var total float64
		var beyond int64
		for i := range max(1, q.Rounds) {
			q.Step(fmt.Sprintf("%s: %s, round %d", q.ModelName, m.Name, i+1))
			r, err := q.once(ctx, c, m, calibration)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			var sum float64
			for _, b := range r.blocks {
				sum += b
			}
			if i == 0 || sum < total {
				total = sum
			}
			beyond = max(beyond, r.beyond)
		}
		b := results.Measurement{Bench: "quantize", Table: t.Name, Input: q.ModelName, Subject: m.Name, Threads: int32(q.threads)}
		q.add(b, "time", "s", total)
		q.add(b, "peak memory", "bytes", float64(beyond))
		t.Rows = append(t.Rows, []results.Value{text(m.Name), integer(m.Weight.Bits), integer(activationBits(m)), number(total / float64(c.Config.Layers)), number(total), number(float64(beyond) * mib)})
	}
	q.Tables = append(q.Tables, t)
	return nil
}

// activationBits are those of the inputs of linear maps, 16 where they stay as
// they are.
func activationBits(m quantize.Method) int {
	if !m.Activation.On() {
		return quantize.Unquantized
	}
	return m.Activation.Bits
}

// QuantizeMethods are the methods that are measured on a model, with groups and
// outliers of its size.
func QuantizeMethods(group, outliers int) []quantize.Method {
	list := []quantize.Method{
		quantize.NewRTN(4, group, false), quantize.NewGPTQ(4, group, false, quantize.GPTQOptions{}), quantize.NewSmoothQuant(4, 4, 0.5, true),
		quantize.NewOmniQuant(4, 4, 0, quantize.OmniOptions{LWC: true, LET: true}),
		quantize.NewOmniQuant(4, 4, 0, quantize.OmniOptions{LWC: true, LET: true, Epochs: 1}),
		quantize.NewAtom(4, 4, outliers, outliers), quantize.NewAWQ(4, group),
	}
	for i, name := range []string{"rtn", "gptq", "smoothquant", "omniquant, no epoch", "omniquant, 1 epoch", "atom", "awq"} {
		list[i].Name = name
	}
	return list
}

// write makes a checkpoint of the shape in bfloat16: random linear maps, and
// an embedding whose channels depend on their neighbours, so that a Hessian is
// not near a diagonal.
func (s Shape) write(dir string) error {
	config := fmt.Sprintf(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": %d, "intermediate_size": %d,
 "num_hidden_layers": %d, "num_attention_heads": %d, "num_key_value_heads": %d, "vocab_size": %d, "max_position_embeddings": %d,
 "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "bfloat16"}`,
		s.Hidden, s.Intermediate, s.Layers, s.Heads, s.KVHeads, s.Vocab, benchPositions)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		return err
	}
	var tensors []checkpoint.NamedTensor
	seed := uint64(0)
	add := func(name string, out, in int) error {
		seed++
		v := make([]float32, out*in)
		if err := (random{out, in, seed}).fill(v, 0, out); err != nil {
			return err
		}
		if name == "model.embed_tokens.weight" {
			for i := range v {
				if i%in > 0 {
					v[i] += float32(0.7 * v[i-1])
				}
			}
		}
		tensors = append(tensors, checkpoint.NamedTensor{Name: name, Shape: []int{out, in}, DType: checkpoint.BF16, Data: v})
		return nil
	}
	ones := func(name string) {
		v := make([]float32, s.Hidden)
		for i := range v {
			v[i] = 1
		}
		tensors = append(tensors, checkpoint.NamedTensor{Name: name, Shape: []int{s.Hidden}, DType: checkpoint.BF16, Data: v})
	}
	if err := add("model.embed_tokens.weight", s.Vocab, s.Hidden); err != nil {
		return err
	}
	kv := s.KVHeads * (s.Hidden / s.Heads)
	for k := range s.Layers {
		prefix := fmt.Sprintf("model.layers.%d.", k)
		ones(prefix + "input_layernorm.weight")
		ones(prefix + "post_attention_layernorm.weight")
		for _, l := range []linearMap{
			{"self_attn.q_proj", s.Hidden, s.Hidden}, {"self_attn.k_proj", kv, s.Hidden}, {"self_attn.v_proj", kv, s.Hidden}, {"self_attn.o_proj", s.Hidden, s.Hidden},
			{"mlp.gate_proj", s.Intermediate, s.Hidden}, {"mlp.up_proj", s.Intermediate, s.Hidden}, {"mlp.down_proj", s.Hidden, s.Intermediate},
		} {
			if err := add(prefix+l.name+".weight", l.out, l.in); err != nil {
				return err
			}
		}
	}
	ones("model.norm.weight")
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	if err := checkpoint.WriteSafetensors(f, tensors, nil); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
