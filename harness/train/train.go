package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"splitbench/experiments/spec"
	"splitbench/harness/builtin"
	"splitbench/models/backend/cpu"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/tokenizer"
	"splitbench/results"
)

// Options of Run.
type Options struct {
	Dir     string // folder of the trained model; its state lies there too while it is trained
	Workers int    // 0: all cores
	Kernel  string // "": the fastest

	// CopyTokenizer copies the files of a tokenizer from folder to folder.
	CopyTokenizer func(from, to string) error
	// Stage is told what begins, Progress what a step did; nil: nobody.
	Stage    func(string)
	Progress func(Progress)
}

// Progress is what a step did.
type Progress struct {
	Step, Steps     int
	Tokens          int     // predictions learnt from so far
	Loss, Norm      float64 // of this step: cross-entropy in nats, norm of the gradient before clipping
	Rate            float64
	Validation      float64 // NaN: not measured at this step
	TokensPerSecond float64 // of this step, validation and checkpoints not counted
	Flops           float64 // per second, see Result.FlopsPerToken
	Peak            float64 // of the machine, per second
	Left            time.Duration
}

// Result is what a training led to.
type Result struct {
	Dir           string
	Done          bool // there was nothing left to do
	Steps, Tokens int
	Parameters    int
	Vocabulary    int
	Loss          float64 // of the last line of the log
	// Validation is the loss of the float32 weights, Stored that of the weights as written; BySource that of each source
	// as written.
	Validation, Stored float64
	BySource           []SourceLoss
	// FlopsPerToken counts 6 for each multiplication of a weight with a token, attention scores not counted.
	FlopsPerToken float64
	// Seconds and Learnt are those of the steps of this call; Peak is the machine's rate in products.
	Seconds float64
	Learnt  int
	Peak    float64
}

// SourceLoss is the loss on one source of the validation data.
type SourceLoss struct {
	Name   string  `json:"name"`
	Loss   float64 `json:"loss"`
	Tokens int     `json:"tokens"`
}

// Share is the part of the machine's peak that the steps of this call reached.
func (r Result) Share() float64 {
	return float64(r.Learnt) * r.FlopsPerToken / r.Seconds / r.Peak
}

// ErrInterrupted is returned when the context ended: the state is on disk.
var ErrInterrupted = errors.New("interrupted")

// trainer is a training at work.
type trainer struct {
	spec   *spec.Training
	o      Options
	config checkpoint.Config
	tok    tokenizer.Tokenizer
	train  *set
	check  *set    // validation
	parts  [][]int // sequences of check that are measured, by source
	be     *cpu.Backend
	net    *decoder.Network[float32]
	adam   *decoder.AdamW[float32]
	steps  int
	peak   float64

	state     *state
	order     *order
	weights   *decoder.ModelValues[float32] // of state.weights
	gradients *decoder.ModelValues[float32]
	gradient  []float32
	moved     []decoder.Part[float32]

	tokenizerFile []byte // of a trained tokenizer
	ids           [][]int32
	lossWeights   [][]float32
	indices       []int
}

// Run trains a model, or goes on with a training that was interrupted, and writes it to a folder. The same training
// file, data and tokenizer give the same bytes, whatever the number of workers and however often it was interrupted.
func Run(ctx context.Context, s *spec.Training, o Options) (Result, error) {
	t := &trainer{spec: s, o: o}
	if err := t.readData(); err != nil {
		return Result{}, fmt.Errorf("training %s: %w", s.Name, err)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return Result{}, err
	}
	release, err := results.Lock(o.Dir)
	if err != nil {
		return Result{}, err
	}
	defer release()
	identity := t.identity()
	if r, err := readSummary(o.Dir, identity); !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	if t.be, err = cpu.New(cpu.Options{Workers: o.Workers, Kernel: o.Kernel}); err != nil {
		return Result{}, err
	}
	defer t.be.Close()
	if t.net, err = decoder.NewNetwork[float32](t.config, t.be); err != nil {
		return Result{}, err
	}
	if err := t.open(identity); err != nil {
		return Result{}, err
	}
	t.peak = t.be.MeasurePeak(20*time.Millisecond, 1<<20).Flops
	r := Result{Dir: o.Dir, Peak: t.peak, FlopsPerToken: 6 * float64(products(t.config)), Parameters: len(t.state.weights), Vocabulary: t.config.VocabSize}
	if err := t.loop(ctx, &r); err != nil {
		return r, fmt.Errorf("training %s: %w", s.Name, err)
	}
	return r, t.finish(&r)
}

func (t *trainer) stage(format string, args ...any) {
	if t.o.Stage != nil {
		t.o.Stage(fmt.Sprintf(format, args...))
	}
}

// readData reads the sources and the tokenizer, and makes the sequences.
func (t *trainer) readData() error {
	t.stage("reading the data")
	var sources [2][]source
	for i, list := range [2][]spec.TrainingSource{t.spec.Train, t.spec.Validation} {
		for _, s := range list {
			loaded, err := load(s)
			if err != nil {
				return err
			}
			sources[i] = append(sources[i], loaded)
		}
	}
	if k := t.spec.Tokenizer; k.Path != "" {
		path, err := builtin.Resolve(k.Path)
		if err != nil {
			return err
		}
		if t.tok, err = tokenizer.Load(path); err != nil {
			return err
		}
	} else {
		t.stage("training the tokenizer")
		var err error
		if t.tokenizerFile, err = tokenizer.TrainBPE(texts(sources[0]), tokenizer.TrainOptions{Vocabulary: k.Vocabulary, MinFrequency: int64(k.MinFrequency)}); err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "splitbench-tokenizer-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "tokenizer.json")
		if err := os.WriteFile(path, t.tokenizerFile, 0o644); err != nil {
			return err
		}
		if t.tok, err = tokenizer.Load(path); err != nil {
			return err
		}
	}
	var err error
	if t.config, err = config(t.spec.Model, t.tok.Size()); err != nil {
		return err
	}
	t.stage("encoding the data")
	length := t.spec.Steps.SequenceLength
	if t.train, err = encode(t.tok, sources[0], length); err != nil {
		return err
	}
	if t.check, err = encode(t.tok, sources[1], length); err != nil {
		return err
	}
	for k := range t.check.sources {
		part := t.check.spread(k, t.spec.Steps.ValidationTokens)
		if len(part) == 0 {
			return fmt.Errorf("validation source %s has no tokens", t.check.sources[k].name)
		}
		t.parts = append(t.parts, part)
	}
	for _, s := range []struct {
		what string
		set  *set
	}{{"training", t.train}, {"validation", t.check}} {
		cut := ""
		if s.set.cut > 0 {
			cut = fmt.Sprintf(", %d rows cut on the left", s.set.cut)
		}
		t.stage("%s data: %d sequences, %d tokens%s", s.what, s.set.len(), len(s.set.ids)-s.set.len(), cut)
	}
	p := t.spec.Steps
	if t.steps = p.Steps; t.steps == 0 {
		t.steps = (p.Tokens + p.BatchTokens - 1) / p.BatchTokens
	}
	return nil
}

// identity is the SHA-256 of everything that decides the weights: the training file less what only names things, the
// tokenizer and the data.
func (t *trainer) identity() string {
	s := *t.spec
	s.Name, s.Description, s.Tokenizer.Path = "training", "", ""
	s.Train, s.Validation = nil, nil
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%s\n", stateFormat, s.YAML(), t.tok.Digest(), t.train.digest(), t.check.digest())
	for _, set := range []*set{t.train, t.check} {
		for _, source := range set.sources {
			fmt.Fprintf(h, "%v %v\n", source.weight, source.context)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

const stateName = ".training.safetensors"

// open reads the state on disk, or makes the first one.
func (t *trainer) open(identity string) error {
	p := t.spec.Steps
	v, memory := decoder.NewModelValues[float32](t.config)
	t.weights = v
	s, err := readState(filepath.Join(t.o.Dir, stateName), identity, len(memory), p.Average > 0)
	switch {
	case err == nil:
		copy(memory, s.weights)
		t.stage("going on after step %d of %d", s.step, t.steps)
	case errors.Is(err, os.ErrNotExist):
		initialise(memory, t.config, t.spec.Model.InitDeviation, uint64(t.spec.Seed))
		s = &state{identity: identity, first: make([]float32, len(memory)), second: make([]float32, len(memory))}
		if p.Average > 0 {
			s.average = append([]float32(nil), memory...)
		}
	default:
		return err
	}
	s.weights = memory
	t.state = s
	t.order = newOrder(t.train, uint64(t.spec.Seed), s.pass, s.next)
	if t.order.next > len(t.order.list) {
		return fmt.Errorf("%s: sequence %d of a pass of %d", stateName, t.order.next, len(t.order.list))
	}
	t.gradients, t.gradient = decoder.NewModelValues[float32](t.config)
	t.adam = decoder.NewAdamW[float32]()
	t.adam.Beta1, t.adam.Beta2, t.adam.Epsilon, t.adam.Steps = p.Beta1, p.Beta2, p.Epsilon, s.step
	at := 0
	for _, span := range decoder.Spans(t.config) {
		n := at + span.Len()
		part := decoder.Part[float32]{Values: memory[at:n], Gradient: t.gradient[at:n], First: s.first[at:n], Second: s.second[at:n]}
		if decays(span) {
			part.Decay = p.WeightDecay
		}
		t.moved = append(t.moved, part)
		at = n
	}
	return nil
}

// rate is the learning rate of step k, counted from 1: a linear rise, then a cosine.
func (t *trainer) rate(k int) float64 {
	p := t.spec.Steps
	if k <= p.WarmupSteps {
		return p.LearningRate * float64(k) / float64(p.WarmupSteps)
	}
	low := p.LearningRate * p.MinimumRate
	phase := float64(k-p.WarmupSteps) / float64(max(1, t.steps-p.WarmupSteps))
	return low + (p.LearningRate-low)*(1+math.Cos(math.Pi*min(1, phase)))/2
}

// loop takes the steps that are left.
func (t *trainer) loop(ctx context.Context, r *Result) error {
	s, p := t.state, t.spec.Steps
	timing, err := newTiming(t.o.Dir, s.step == 0)
	if err != nil {
		return err
	}
	defer timing.close()
	for s.step < t.steps {
		if ctx.Err() != nil {
			if err := t.save(); err != nil {
				return err
			}
			return fmt.Errorf("%w after step %d of %d; the same command goes on from there", ErrInterrupted, s.step, t.steps)
		}
		start := time.Now()
		did, err := t.step()
		if err != nil {
			return err
		}
		seconds := time.Since(start).Seconds()
		learnt := did.Tokens
		r.Seconds += seconds
		r.Learnt += learnt
		did.Tokens = s.tokens
		did.TokensPerSecond = float64(learnt) / seconds
		did.Flops = did.TokensPerSecond * r.FlopsPerToken
		did.Left = time.Duration(r.Seconds / float64(r.Learnt) * float64(learnt) * float64(t.steps-s.step) * float64(time.Second))
		if err := timing.add(s.step, learnt, seconds, did.Flops/t.peak); err != nil {
			return err
		}
		did.Validation = math.NaN()
		last := s.step == t.steps
		if last || p.ValidationEvery > 0 && s.step%p.ValidationEvery == 0 {
			if did.Validation, _, err = t.validate(t.result()); err != nil {
				return err
			}
			if err := t.finite(did.Validation); err != nil {
				return err
			}
		}
		if last || s.step%p.LogEvery == 0 || !math.IsNaN(did.Validation) {
			s.log = append(s.log, entry{s.step, s.tokens, s.open.loss / s.open.weight, did.Validation, did.Rate, s.open.norm / s.open.steps})
			s.open = sums{}
		}
		if t.o.Progress != nil {
			t.o.Progress(did)
		}
		if last || s.step%p.CheckpointEvery == 0 {
			if err := t.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// step takes one step. In what it returns Tokens are those of the step.
func (t *trainer) step() (Progress, error) {
	s, p := t.state, t.spec.Steps
	t.indices = t.order.batch(t.indices[:0], p.BatchTokens)
	s.pass, s.next = t.order.pass, t.order.next
	clear(t.gradient)
	loss, err := t.losses(t.weights, t.gradients, t.train, t.indices)
	if err != nil {
		return Progress{}, err
	}
	norm := math.Sqrt(decoder.SumSquares(t.be, t.gradient))
	if math.IsNaN(loss.CrossEntropy+norm) || math.IsInf(loss.CrossEntropy+norm, 0) {
		return Progress{}, fmt.Errorf("step %d: the loss is %v and the norm of the gradient %v, expected finite numbers; a smaller learning_rate may help", s.step+1, loss.CrossEntropy, norm)
	}
	scale := 1.0
	if p.ClipNorm > 0 && norm > p.ClipNorm {
		scale = p.ClipNorm / norm
	}
	rate := t.rate(s.step + 1)
	t.adam.Begin()
	t.adam.UpdateParts(t.be, t.moved, scale, rate)
	s.step++
	if s.average != nil {
		t.blend()
	}
	n := 0
	for _, i := range t.indices {
		n += len(t.train.sequence(i)) - 1
	}
	s.tokens += n
	s.open.loss += loss.CrossEntropy * loss.Weight
	s.open.weight += loss.Weight
	s.open.norm += norm
	s.open.steps++
	return Progress{Step: s.step, Steps: t.steps, Tokens: n, Loss: loss.CrossEntropy, Norm: norm, Rate: rate, Peak: t.peak}, nil
}

// losses is the loss of sequences of a set, with gradients if g is not nil.
func (t *trainer) losses(w, g *decoder.ModelValues[float32], s *set, indices []int) (decoder.Losses, error) {
	t.ids = t.ids[:0]
	for _, i := range indices {
		t.ids = append(t.ids, s.sequence(i))
	}
	o := decoder.Objective{ZLoss: t.spec.Steps.ZLoss}
	if s.weighted() {
		for len(t.lossWeights) < len(indices) {
			t.lossWeights = append(t.lossWeights, nil)
		}
		o.Weights = t.lossWeights[:len(indices)]
		all := float32(0)
		for k, i := range indices {
			o.Weights[k] = s.weights(o.Weights[k][:0], i)
			for _, w := range o.Weights[k] {
				all += w
			}
		}
		if all == 0 {
			return decoder.Losses{}, errors.New("a batch has only weights of 0, expected a larger batch_tokens or context_weight")
		}
	}
	return t.net.Losses(w, g, t.ids, o)
}

// blend moves the running average towards the weights. Its memory is short at first, so that the first weights are
// forgotten.
func (t *trainer) blend() {
	s := t.state
	keep := min(t.spec.Steps.Average, float64(1+s.step)/float64(10+s.step))
	a, w := s.average, s.weights
	k := float32(1 - keep)
	const at = 1 << 14
	t.be.Parallel((len(a)+at-1)/at, 4*float64(len(a)), func(_, i int) {
		for j := i * at; j < min(len(a), (i+1)*at); j++ {
			a[j] += float32(k * (w[j] - a[j]))
		}
	})
}

// result are the weights that the training is about: the running average where there is one.
func (t *trainer) result() []float32 {
	if t.state.average != nil {
		return t.state.average
	}
	return t.state.weights
}

// validate returns the mean loss of weights on the validation data, and that of each source.
func (t *trainer) validate(memory []float32) (float64, []SourceLoss, error) {
	w, own := decoder.NewModelValues[float32](t.config)
	copy(own, memory)
	var all []SourceLoss
	var sum, weight float64
	for k, part := range t.parts {
		var loss, total float64
		tokens := 0
		for len(part) > 0 {
			n, size := 0, 0
			for n < len(part) && (n == 0 || size < t.spec.Steps.BatchTokens) {
				size += len(t.check.sequence(part[n])) - 1
				n++
			}
			l, err := t.losses(w, nil, t.check, part[:n])
			if err != nil {
				return 0, nil, err
			}
			loss += l.CrossEntropy * l.Weight
			total += l.Weight
			tokens += size
			part = part[n:]
		}
		all = append(all, SourceLoss{t.check.sources[k].name, loss / total, tokens})
		sum, weight = sum+loss, weight+total
	}
	return sum / weight, all, nil
}

// finite refuses a validation loss that is no finite number: only the loss before an update is checked elsewhere, and
// the last update may be the one that diverges.
func (t *trainer) finite(loss float64) error {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return fmt.Errorf("step %d: the validation loss is %v, expected a finite number; a smaller learning_rate may help", t.state.step, loss)
	}
	return nil
}

// save puts the state on disk, if its weights are finite numbers: no training goes on from others.
func (t *trainer) save() error {
	if sum := decoder.SumSquares(t.be, t.state.weights); math.IsNaN(sum) || math.IsInf(sum, 0) {
		return fmt.Errorf("step %d: some weights are no finite numbers; a smaller learning_rate may help", t.state.step)
	}
	if err := t.writeLog(); err != nil {
		return err
	}
	return results.WriteFile(filepath.Join(t.o.Dir, stateName), func(w io.Writer) error { return t.state.encode(w) })
}
