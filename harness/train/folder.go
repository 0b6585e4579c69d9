package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"splitbench/figures"
	"splitbench/harness/builtin"
	"splitbench/models/checkpoint"
	"splitbench/models/tokenizer"
	"splitbench/results"
)

// The files of a trained model beside those of its layout.
const (
	specName    = "training.yaml"
	logName     = "train.csv"
	timingName  = "timing.csv" // differs from run to run
	summaryName = "summary.json"
	curveName   = "loss" // .png, .svg, .pdf
)

// summary is what summary.json holds. It is written last: a folder that has it is whole.
type summary struct {
	Identity         string       `json:"identity"`
	Name             string       `json:"name"`
	Parameters       int          `json:"parameters"`
	Vocabulary       int          `json:"vocabulary"`
	Steps            int          `json:"steps"`
	Tokens           int          `json:"tokens"`
	DType            string       `json:"dtype"`
	Loss             float64      `json:"loss"`
	Validation       float64      `json:"validation_loss_float32"`
	Stored           float64      `json:"validation_loss"`
	BySource         []SourceLoss `json:"validation_by_source"`
	TokenizerDigest  string       `json:"tokenizer_sha256"`
	TrainingDigest   string       `json:"training_data_sha256"`
	ValidationDigest string       `json:"validation_data_sha256"`
}

// maxSummary bounds a summary, which has a few kilobytes.
const maxSummary = 1 << 20

// readSummary reads the summary of a folder that is whole. An error that is os.ErrNotExist says that there is none.
func readSummary(dir, identity string) (Result, error) {
	path := filepath.Join(dir, summaryName)
	f, err := os.Open(path)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSummary+1))
	if err != nil {
		return Result{}, err
	}
	var s summary
	if err := json.Unmarshal(b, &s); err != nil || len(b) > maxSummary {
		return Result{}, fmt.Errorf("%s: no summary of a training: %v", path, err)
	}
	if s.Identity != identity {
		return Result{}, fmt.Errorf("%s holds another trained model: the training file, the data or the tokenizer changed; choose another folder with --out", dir)
	}
	return Result{Dir: dir, Done: true, Steps: s.Steps, Tokens: s.Tokens, Parameters: s.Parameters, Vocabulary: s.Vocabulary,
		Loss: s.Loss, Validation: s.Validation, Stored: s.Stored, BySource: s.BySource}, nil
}

func (t *trainer) write(name string, data []byte) error {
	return results.WriteFile(filepath.Join(t.o.Dir, name), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// finish writes the model and removes the state.
func (t *trainer) finish(r *Result) error {
	s, dtype := t.state, t.spec.Steps.DType
	memory := t.result()
	bos, _ := t.tok.BOS()
	eos, _ := t.tok.EOS()
	var err error
	r.Steps, r.Tokens = s.step, s.tokens
	if n := len(s.log); n > 0 {
		r.Loss = s.log[n-1].Loss
	}
	if r.Validation, _, err = t.validate(memory); err != nil {
		return err
	}
	if r.Stored, r.BySource, err = t.validate(rounded(memory, dtype)); err != nil {
		return err
	}
	for _, loss := range []float64{r.Validation, r.Stored} {
		if err := t.finite(loss); err != nil {
			return fmt.Errorf("training %s: %w", t.spec.Name, err)
		}
	}
	if err := t.writeTokenizer(); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		specName:                 t.spec.YAML(),
		"config.json":            configJSON(t.config, dtype, bos, eos),
		"generation_config.json": indented(map[string]any{"bos_token_id": bos, "eos_token_id": eos, "do_sample": false}),
	} {
		if err := t.write(name, data); err != nil {
			return err
		}
	}
	if err := t.writeLog(); err != nil {
		return err
	}
	if err := t.writeCurve(); err != nil {
		return err
	}
	err = results.WriteFile(filepath.Join(t.o.Dir, "model.safetensors"), func(w io.Writer) error {
		return checkpoint.WriteSafetensors(w, named(memory, t.config, dtype), map[string]string{"format": "pt"})
	})
	if err != nil {
		return err
	}
	err = t.write(summaryName, indented(summary{
		Identity: s.identity, Name: t.spec.Name, Parameters: r.Parameters, Vocabulary: r.Vocabulary, Steps: r.Steps, Tokens: r.Tokens, DType: dtype,
		Loss: r.Loss, Validation: r.Validation, Stored: r.Stored, BySource: r.BySource,
		TokenizerDigest: t.tok.Digest(), TrainingDigest: t.train.digest(), ValidationDigest: t.check.digest(),
	}))
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(t.o.Dir, stateName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeTokenizer puts the tokenizer beside the model.
func (t *trainer) writeTokenizer() error {
	if t.tokenizerFile != nil {
		if err := t.write("tokenizer.json", t.tokenizerFile); err != nil {
			return err
		}
		return t.write("tokenizer_config.json", tokenizer.TrainedConfig(t.config.MaxPositions))
	}
	path, err := builtin.Resolve(t.spec.Tokenizer.Path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return t.o.CopyTokenizer(path, t.o.Dir)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return t.write(filepath.Base(path), data)
}

// writeLog writes the log, which holds nothing that differs from run to run.
func (t *trainer) writeLog() error {
	b := []byte("step,tokens,loss,validation_loss,rate,gradient_norm\n")
	number := func(v float64) {
		b = append(b, ',')
		if !math.IsNaN(v) {
			b = strconv.AppendFloat(b, v, 'g', -1, 64)
		}
	}
	for _, e := range t.state.log {
		b = fmt.Appendf(b, "%d,%d", e.Step, e.Tokens)
		number(e.Loss)
		number(e.Validation)
		number(e.Rate)
		number(e.Norm)
		b = append(b, '\n')
	}
	return t.write(logName, b)
}

// writeCurve draws the losses of the log.
func (t *trainer) writeCurve() error {
	training, validation := figures.Curve{Name: "training"}, figures.Curve{Name: "validation"}
	for _, e := range t.state.log {
		x := float64(e.Tokens) / 1e6
		training.X, training.Y = append(training.X, x), append(training.Y, e.Loss)
		validation.X, validation.Y = append(validation.X, x), append(validation.Y, e.Validation)
	}
	_, err := figures.Curves("Loss: "+t.spec.Name, "Million tokens", "Cross-entropy (nats per token)",
		[]string{fmt.Sprintf("%d parameters, %d tokens, seed %d", len(t.state.weights), t.state.tokens, t.spec.Seed)},
		[]figures.Curve{training, validation}, filepath.Join(t.o.Dir, curveName))
	return err
}

// timing is the file of the times, which differ from run to run.
type timing struct{ f *os.File }

// newTiming opens the file to go on with it, or begins it.
func newTiming(dir string, anew bool) (*timing, error) {
	mode := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if anew {
		mode |= os.O_TRUNC
	}
	f, err := os.OpenFile(filepath.Join(dir, timingName), mode, 0o644)
	if err != nil {
		return nil, err
	}
	if anew {
		if _, err := f.WriteString("step,tokens,seconds,share_of_peak\n"); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return &timing{f}, nil
}

func (t *timing) add(step, tokens int, seconds, share float64) error {
	_, err := fmt.Fprintf(t.f, "%d,%d,%.4f,%.3f\n", step, tokens, seconds, share)
	return err
}

func (t *timing) close() error { return t.f.Close() }
