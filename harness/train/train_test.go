package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"splitbench/experiments/spec"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/tokenizer"
)

// TestMain is the program that TestResumeAfterKill kills, if the environment
// names a training file and a folder.
func TestMain(m *testing.M) {
	if file := os.Getenv("TRAIN_FILE"); file != "" {
		s, err := spec.LoadTraining(file, spec.LoadOptions{})
		if err == nil {
			_, err = Run(context.Background(), s, Options{Dir: os.Getenv("TRAIN_DIR"), Workers: 1})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const verse = `The rain it raineth every day upon the just and unjust fellow. But mainly upon the just, because the unjust has the umbrella of the just.`

// files writes a training file and its texts to a new folder.
func files(t testing.TB, steps string) string {
	t.Helper()
	dir := t.TempDir()
	var stories strings.Builder
	for i := range 60 {
		fmt.Fprintf(&stories, "%s cat number %d sat on a %s.\n\n", []string{"The", "A", "One"}[i%3], i, []string{"mat", "hat", "rug", "sofa"}[i%4])
	}
	for name, text := range map[string]string{
		"stories.txt": stories.String(),
		"held.txt":    "The cat number 7 sat on a sofa.\n\nOne cat number 70 sat on a mat.\n",
		"valid.jsonl": `{"goal":"Sit.","sol1":"Take the mat.","sol2":"Take the moon.","label":0}` + "\n" + `{"goal":"Sleep.","sol1":"Use the sun.","sol2":"Use the sofa.","label":1}` + "\n",
		"t.yaml": `name: cats
seed: 5
model: {hidden_size: 16, intermediate_size: 24, layers: 2, heads: 4, kv_heads: 2, max_positions: 64}
tokenizer: {vocabulary: 290}
data:
  train:
    - {text: stories.txt, separator: "\n\n", weight: 1.5}
    - {task: piqa, path: valid.jsonl, weight: 2, context_weight: 0.25}
  validation:
    - {text: held.txt, separator: "\n\n"}
training: {` + steps + `}
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "t.yaml")
}

func run(t testing.TB, file, dir string, workers int) Result {
	t.Helper()
	s, err := spec.LoadTraining(file, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(context.Background(), s, Options{Dir: dir, Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// contents reads the files of a folder but those that may differ.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == timingName {
			return err
		}
		b, err := os.ReadFile(path)
		all[d.Name()] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameFiles(t *testing.T, have, want map[string]string) {
	t.Helper()
	for name, b := range want {
		if have[name] != b {
			t.Errorf("%s differs", name)
		}
	}
	if len(have) != len(want) {
		t.Errorf("%d files, expected %d", len(have), len(want))
	}
}

// TestResumeAfterKill kills a training several times at different places and
// compares all it leaves with an undisturbed run on another number of workers.
func TestResumeAfterKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	file := files(t, "steps: 400, batch_tokens: 300, learning_rate: 0.01, warmup_steps: 20, validation_every: 33, log_every: 7, checkpoint_every: 10, average: 0.9, sequence_length: 32")
	want := filepath.Join(t.TempDir(), "whole")
	if r := run(t, file, want, 2); r.Steps != 400 || r.Done {
		t.Fatalf("%+v", r)
	}
	dir := filepath.Join(t.TempDir(), "killed")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kills := 0
	for round := 0; ; round++ {
		if round == 20 {
			t.Fatal("the training does not end")
		}
		c := exec.Command(program)
		c.Env = append(os.Environ(), "TRAIN_FILE="+file, "TRAIN_DIR="+dir)
		var message bytes.Buffer
		c.Stderr = &message
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		// Each round lets a few more checkpoints pass.
		err := await(ended, filepath.Join(dir, stateName), round+1)
		if err == nil && len(ended) == 0 && c.Process.Kill() == nil {
			<-ended
			kills++
			continue
		}
		if err := <-ended; err != nil {
			t.Fatalf("%v: %s", err, message.String())
		}
		break
	}
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	sameFiles(t, contents(t, dir), contents(t, want))
	if r := run(t, file, dir, 1); !r.Done || r.Steps != 400 {
		t.Errorf("a whole folder gives %+v", r)
	}
}

var errEnded = errors.New("ended")

// await returns when a file has changed n times, or an error when the process
// ended, whose result it leaves.
func await(ended chan error, file string, n int) error {
	var last time.Time
	if info, err := os.Stat(file); err == nil {
		last = info.ModTime()
	}
	for {
		if len(ended) > 0 {
			return errEnded
		}
		if info, err := os.Stat(file); err == nil && !info.ModTime().Equal(last) {
			last = info.ModTime()
			if n--; n == 0 {
				return nil
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// TestInterrupt stops a training by its context and lets it go on.
func TestInterrupt(t *testing.T) {
	file := files(t, "steps: 30, batch_tokens: 200, learning_rate: 0.01, checkpoint_every: 1000, log_every: 4")
	want, dir := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "stopped")
	run(t, file, want, 1)
	s, err := spec.LoadTraining(file, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = Run(ctx, s, Options{Dir: dir, Workers: 3, Progress: func(p Progress) {
		if p.Step == 13 {
			cancel()
		}
	}})
	if !errors.Is(err, ErrInterrupted) || !strings.Contains(err.Error(), "step 13 of 30") {
		t.Fatalf("%v, expected an interruption after step 13", err)
	}
	run(t, file, dir, 2)
	sameFiles(t, contents(t, dir), contents(t, want))

	// Another training does not go on from there, nor overwrite the result.
	changed := *s
	changed.Seed++
	if _, err := Run(context.Background(), &changed, Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "holds another trained model") {
		t.Errorf("a folder of another training: %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	half := filepath.Join(t.TempDir(), "half")
	if _, err := Run(ctx, s, Options{Dir: half}); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), &changed, Options{Dir: half}); !errors.Is(err, errOther) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a state of another training: %v", err)
	}
}

// TestOverfits trains a tiny model on a tiny text until it knows it by heart,
// and reads what it wrote with the loaders of the other packages.
func TestOverfits(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"verse.txt": verse, "t.yaml": `name: verse
model: {hidden_size: 32, intermediate_size: 64, layers: 2, heads: 4, kv_heads: 1, tied_embeddings: false}
tokenizer: {vocabulary: 280, min_frequency: 1}
data: {train: [{text: verse.txt}], validation: [{text: verse.txt}]}
training: {steps: 150, learning_rate: 0.02, warmup_steps: 10, batch_tokens: 100, validation_every: 0}
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	r := run(t, filepath.Join(dir, "t.yaml"), out, 0)
	if r.Validation > 0.05 {
		t.Errorf("the loss is %v after %d steps, expected at most 0.05", r.Validation, r.Steps)
	}
	c, err := checkpoint.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tok, err := tokenizer.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(out, "tokenizer.json")); err != nil || !bytes.Contains(text, []byte("</s>")) {
		t.Errorf("tokenizer.json: %v", err)
	}
	w, err := decoder.ModelValuesOf(c)
	if err != nil {
		t.Fatal(err)
	}
	// The stored loss is that of the float64 route on the stored weights.
	eos, _ := tok.EOS()
	want := plainLoss(c.Config, w, append(tok.Encode(verse, true), eos))
	if math.Abs(r.Stored-want) > 1e-4 {
		t.Errorf("loss of the weights as written %v, expected %v", r.Stored, want)
	}
	if c.Config.KVHeads != 1 || c.Config.TiedEmbeddings || c.Config.StoredDType != "bfloat16" || len(c.Config.BOS) != 1 {
		t.Errorf("configuration %+v", c.Config)
	}
}

// plainLoss is the loss of a sequence in float64, written down from the
// definition of the Llama architecture.
func plainLoss(c checkpoint.Config, w *decoder.ModelValues[float32], ids []int32) float64 {
	n, h, d := len(ids)-1, c.HiddenSize, c.HeadDim
	linear := func(x []float64, weight []float32) []float64 {
		y := make([]float64, len(weight)/len(x))
		for i := range y {
			for j, v := range x {
				y[i] += v * float64(weight[i*len(x)+j])
			}
		}
		return y
	}
	norm := func(x []float64, gain []float32) []float64 {
		sum := 0.0
		for _, v := range x {
			sum += v * v
		}
		y := make([]float64, len(x))
		for i, v := range x {
			y[i] = v / math.Sqrt(sum/float64(len(x))+c.NormEpsilon) * float64(gain[i])
		}
		return y
	}
	turn := func(x []float64, p int) {
		for head := 0; head < len(x); head += d {
			for i := range d / 2 {
				sin, cos := math.Sincos(float64(p) * math.Pow(c.Rope.Theta, -2*float64(i)/float64(d)))
				a, b := x[head+i], x[head+i+d/2]
				x[head+i], x[head+i+d/2] = a*cos-b*sin, b*cos+a*sin
			}
		}
	}
	x := make([][]float64, n)
	for p := range x {
		for _, v := range w.Embedding[int(ids[p])*h:][:h] {
			x[p] = append(x[p], float64(v))
		}
	}
	for _, b := range w.Blocks {
		var keys, values [][]float64
		for p := range x {
			in := norm(x[p], b.AttentionNorm)
			q, k := linear(in, b.Query.Weight), linear(in, b.Key.Weight)
			turn(q, p)
			turn(k, p)
			keys, values = append(keys, k), append(values, linear(in, b.Value.Weight))
			out := make([]float64, len(q))
			for head := range c.Heads {
				at := head * c.KVHeads / c.Heads * d
				weights, sum := make([]float64, p+1), 0.0
				for i := range weights {
					score := 0.0
					for j := range d {
						score += q[head*d+j] * keys[i][at+j]
					}
					weights[i] = math.Exp(score / math.Sqrt(float64(d)))
					sum += weights[i]
				}
				for i, weight := range weights {
					for j := range d {
						out[head*d+j] += weight / sum * values[i][at+j]
					}
				}
			}
			for i, v := range linear(out, b.Output.Weight) {
				x[p][i] += v
			}
			in = norm(x[p], b.MLPNorm)
			gate, up := linear(in, b.Gate.Weight), linear(in, b.Up.Weight)
			for i, g := range gate {
				up[i] *= g / (1 + math.Exp(-g))
			}
			for i, v := range linear(up, b.Down.Weight) {
				x[p][i] += v
			}
		}
	}
	head := w.Head
	if head == nil {
		head = w.Embedding
	}
	loss := 0.0
	for p := range x {
		logits := linear(norm(x[p], w.FinalNorm), head)
		sum := 0.0
		for _, v := range logits {
			sum += math.Exp(v)
		}
		loss += math.Log(sum) - logits[ids[p+1]]
	}
	return loss / float64(n)
}

// TestFirstSteps compares the losses and the weights of the first steps with a
// plain route: gradients in float64, clipping, the schedule and AdamW written
// down from their definitions.
func TestFirstSteps(t *testing.T) {
	file := files(t, "steps: 5, batch_tokens: 150, learning_rate: 0.01, warmup_steps: 2, minimum_rate: 0.2, weight_decay: 0.5, clip_norm: 0.7, log_every: 1, dtype: float32, z_loss: 0.01, sequence_length: 24")
	s, err := spec.LoadTraining(file, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Run(context.Background(), s, Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	tr := &trainer{spec: s}
	if err := tr.readData(); err != nil {
		t.Fatal(err)
	}
	net, err := decoder.NewNetwork[float64](tr.config, decoder.Plain[float64]{})
	if err != nil {
		t.Fatal(err)
	}
	_, start := decoder.NewModelValues[float32](tr.config)
	initialise(start, tr.config, 0.02, 5)
	w, x := decoder.NewModelValues[float64](tr.config)
	g, gradient := decoder.NewModelValues[float64](tr.config)
	for i, v := range start {
		x[i] = float64(v)
	}
	m, v := make([]float64, len(x)), make([]float64, len(x))
	lines := logLines(t, dir)
	o := newOrder(tr.train, 5, 0, 0)
	for step := 1; step <= 5; step++ {
		var ids [][]int32
		var weights [][]float32
		for _, i := range o.batch(nil, 150) {
			ids = append(ids, tr.train.sequence(i))
			weights = append(weights, tr.train.weights(nil, i))
		}
		clear(gradient)
		l, err := net.Losses(w, g, ids, decoder.Objective{Weights: weights, ZLoss: 0.01})
		if err != nil {
			t.Fatal(err)
		}
		if step == 1 { // by the definition, without the network
			values, memory := decoder.NewModelValues[float32](tr.config)
			copy(memory, start)
			sum, all := 0.0, 0.0
			for k, s := range ids {
				for p := 1; p < len(s); p++ {
					n := float64(p)
					nll := n * plainLoss(tr.config, values, s[:p+1])
					if p > 1 {
						nll -= (n - 1) * plainLoss(tr.config, values, s[:p])
					}
					sum += float64(weights[k][p-1]) * nll
					all += float64(weights[k][p-1])
				}
			}
			if math.Abs(sum/all-l.CrossEntropy) > 1e-9 {
				t.Errorf("the plain route has a loss of %v, expected %v", l.CrossEntropy, sum/all)
			}
		}
		norm := 0.0
		for _, d := range gradient {
			norm += d * d
		}
		norm = math.Sqrt(norm)
		rate := [...]float64{0.005, 0.01, 0.002 + 0.008*(1+math.Cos(math.Pi/3))/2, 0.002 + 0.008*(1+math.Cos(2*math.Pi/3))/2, 0.002}[step-1]
		for k, want := range map[int]float64{0: float64(step), 2: l.CrossEntropy, 4: rate, 5: norm} {
			if have := lines[step][k]; math.Abs(have-want) > 2e-5*max(1, math.Abs(want)) {
				t.Errorf("step %d: column %d is %v, expected %v", step, k, have, want)
			}
		}
		at := 0
		for _, span := range decoder.Spans(tr.config) {
			decay := 0.5
			if len(span.Shape) == 1 || span.Name == "model.embed_tokens.weight" {
				decay = 0
			}
			for range span.Len() {
				d := gradient[at] * min(1, 0.7/norm)
				m[at] = 0.9*m[at] + 0.1*d
				v[at] = 0.95*v[at] + 0.05*d*d
				x[at] -= rate*decay*x[at] + rate*(m[at]/(1-math.Pow(0.9, float64(step))))/(math.Sqrt(v[at]/(1-math.Pow(0.95, float64(step))))+1e-8)
				at++
			}
		}
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at := 0
	for _, span := range decoder.Spans(tr.config) {
		tensor, err := c.Tensor(span.Name)
		if err != nil {
			t.Fatal(err)
		}
		values, err := tensor.Float32(nil)
		if err != nil {
			t.Fatal(err)
		}
		// A step of Adam divides gradients by their own size: those near zero
		// make the largest differences between float32 and float64.
		var off, moved float64
		for _, have := range values {
			off += math.Pow(float64(have)-x[at], 2)
			moved += math.Pow(float64(start[at])-x[at], 2)
			at++
		}
		if math.Sqrt(off) > 1e-3*math.Sqrt(moved) {
			t.Errorf("%s is off by %.2g after it moved by %.2g", span.Name, math.Sqrt(off), math.Sqrt(moved))
		}
	}
}

// logLines reads train.csv, an empty field as NaN.
func logLines(t testing.TB, dir string) [][]float64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	all := [][]float64{nil}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n")[1:] {
		var numbers []float64
		for _, f := range strings.Split(line, ",") {
			v, err := strconv.ParseFloat(f, 64)
			if err != nil && f != "" {
				t.Fatal(err)
			}
			if f == "" {
				v = math.NaN()
			}
			numbers = append(numbers, v)
		}
		all = append(all, numbers)
	}
	return all
}

// TestDiverges checks that a loss that is no number ends in one line.
func TestDiverges(t *testing.T) {
	file := files(t, "steps: 300, batch_tokens: 200, learning_rate: 10, warmup_steps: 0, clip_norm: 0, weight_decay: 10, validation_every: 0")
	s, err := spec.LoadTraining(file, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(context.Background(), s, Options{Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "a smaller learning_rate may help") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v, expected an error about a loss that is no number", err)
	}
	// Whichever update is the last and whatever was saved before, the training and its repetition end in a whole
	// model or in one line.
	s.Steps.LearningRate = 1e30 // beyond what a training file may say, so that few steps are enough
	after := false
	for steps := 1; steps <= 12; steps++ {
		s.Steps.Steps, s.Steps.CheckpointEvery = steps, 1+steps%3
		if steps > 6 {
			s.Steps.LearningRate = 1e38 // whose first update leaves infinities
		}
		dir := t.TempDir()
		for range 2 {
			_, err := Run(context.Background(), s, Options{Dir: dir})
			if err == nil {
				t.Fatalf("%d steps at a rate of 1e30 give a model", steps)
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "a smaller learning_rate may help") {
				t.Errorf("%d steps: %v, expected one line about the learning rate", steps, err)
			}
			after = after || strings.Contains(err.Error(), "the validation loss is")
		}
		if _, err := os.Lstat(filepath.Join(dir, "model.safetensors")); err == nil {
			t.Errorf("%d steps leave a model", steps)
		}
	}
	if !after {
		t.Error("no training diverged in its last update")
	}
}

// TestOrder checks that a pass has every sequence as often as its weight says,
// and that going on in the middle gives the same batches.
func TestOrder(t *testing.T) {
	s := &set{sources: []source{{weight: 2}, {weight: 0.5}}}
	for i := range 2000 {
		s.ids = append(s.ids, make([]int32, 3+i%5)...)
		s.ends = append(s.ends, len(s.ids))
		s.from = append(s.from, int32(i/1000))
		s.context = append(s.context, 0)
	}
	o := newOrder(s, 9, 0, 0)
	first := slices.Clone(o.list)
	counts := make([]int, 2000)
	for _, i := range first {
		counts[i]++
	}
	half := 0
	for i, n := range counts {
		if i < 1000 && n != 2 || n > 2 {
			t.Fatalf("sequence %d comes %d times", i, n)
		}
		if i >= 1000 {
			half += n
		}
	}
	if half < 420 || half > 580 {
		t.Errorf("%d of 1000 sequences of weight 0.5 come", half)
	}
	var batches [][]int
	for range 1000 {
		b := o.batch(nil, 20)
		n := 0
		for _, i := range b {
			n += len(s.sequence(i)) - 1
		}
		if n > 20 {
			t.Fatalf("a batch of %d predictions", n)
		}
		batches = append(batches, b)
		if len(batches) == 700 {
			o = newOrder(s, 9, o.pass, o.next)
		}
	}
	o = newOrder(s, 9, 0, 0)
	for k, b := range batches {
		if !slices.Equal(o.batch(nil, 20), b) {
			t.Fatalf("batch %d differs after going on", k)
		}
	}
	if o.pass == 0 || slices.Equal(o.list, first) {
		t.Error("the second pass is the first again")
	}
	if b := newOrder(s, 1, 0, 0).batch(nil, 1); len(b) != 1 {
		t.Errorf("a batch of %d sequences, expected the one that always fits", len(b))
	}
}

// TestSequences checks how documents and rows become sequences.
func TestSequences(t *testing.T) {
	tok := bytesOnly{}
	sources := []source{
		{name: "text", documents: []document{{text: "abcdefghij"}, {text: "xy"}, {text: "abcdef"}}},
		{name: "rows", rows: true, context: 0.5, documents: []document{
			{request: request("ask", " yes")}, {request: request("a long question", " no")},
		}},
	}
	s, err := encode(tok, sources, 7)
	if err != nil {
		t.Fatal(err)
	}
	show := func(ids []int32) string {
		var b strings.Builder
		for _, id := range ids {
			b.WriteString(map[int32]string{256: "<", 257: ">"}[id])
			if id < 256 {
				b.WriteByte(byte(id))
			}
		}
		return b.String()
	}
	var have []string
	for i := range s.len() {
		have = append(have, show(s.sequence(i)))
	}
	want := []string{"<abcdef", "<ghij>", "<xy>", "<abcde", "<f>", "<k yes>", "<on no>"}
	if !slices.Equal(have, want) {
		t.Errorf("sequences %q, expected %q", have, want)
	}
	if s.cut != 2 {
		t.Errorf("%d rows were cut, expected 2", s.cut)
	}
	if w := s.weights(nil, 5); !slices.Equal(w, []float32{0.5, 1, 1, 1, 1, 1}) {
		t.Errorf("weights %v of %q", w, have[5])
	}
	if w := s.weights(nil, 0); !slices.Equal(w, []float32{1, 1, 1, 1, 1, 1}) {
		t.Errorf("weights %v of a text", w)
	}
	if all := s.spread(0, 10); !slices.Equal(all, []int{0, 2}) {
		t.Errorf("spread %v, expected two of five", all)
	}
}
