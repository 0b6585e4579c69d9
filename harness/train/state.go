package train

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"splitbench/models/checkpoint"
)

// state is all that a training needs to go on.
type state struct {
	identity      string // of what is trained: see identity
	step          int    // taken
	tokens        int    // predictions learnt from
	pass, next    int    // place in the order of the data
	weights       []float32
	first, second []float32 // moments
	average       []float32 // nil: none
	log           []entry
	open          sums // of the log line to come
}

// entry is a line of the log. Validation is NaN where it was not measured.
type entry struct {
	Step, Tokens                 int
	Loss, Validation, Rate, Norm float64
}

// sums are those of the steps since the last line of the log.
type sums struct{ loss, weight, norm, steps float64 }

const (
	stateFormat = "splitbench training state 1"
	logColumns  = 6
)

// encode writes the state as a safetensors file.
func (s *state) encode(w io.Writer) error {
	n := len(s.weights)
	tensors := []checkpoint.NamedTensor{
		{Name: "weights", Shape: []int{n}, Data: s.weights},
		{Name: "first", Shape: []int{n}, Data: s.first},
		{Name: "second", Shape: []int{n}, Data: s.second},
		{Name: "open", Shape: []int{4}, Data: []float64{s.open.loss, s.open.weight, s.open.norm, s.open.steps}},
	}
	if s.average != nil {
		tensors = append(tensors, checkpoint.NamedTensor{Name: "average", Shape: []int{n}, Data: s.average})
	}
	if len(s.log) > 0 {
		var log []float64
		for _, e := range s.log {
			v := e.Validation
			if math.IsNaN(v) {
				v = -1 // files of tensors hold no NaN
			}
			log = append(log, float64(e.Step), float64(e.Tokens), e.Loss, v, e.Rate, e.Norm)
		}
		tensors = append(tensors, checkpoint.NamedTensor{Name: "log", Shape: []int{len(s.log), logColumns}, Data: log})
	}
	return checkpoint.WriteSafetensors(w, tensors, map[string]string{
		"format": stateFormat, "identity": s.identity, "step": strconv.Itoa(s.step), "tokens": strconv.Itoa(s.tokens),
		"pass": strconv.Itoa(s.pass), "next": strconv.Itoa(s.next),
	})
}

// errOther is returned for the state of another training.
var errOther = errors.New("it belongs to another training: the training file, the data or the tokenizer changed")

// readState reads the state of a training of the given identity with n parameters, with a running average or without.
// A file that is not there is os.ErrNotExist.
func readState(path, identity string, n int, average bool) (*state, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	f, err := checkpoint.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fail := func(err error) (*state, error) { return nil, fmt.Errorf("%s: %w", path, err) }
	m := f.Metadata()
	if m["format"] != stateFormat {
		return fail(fmt.Errorf("no state of a training, expected the format %q", stateFormat))
	}
	if m["identity"] != identity {
		return fail(errOther)
	}
	s := &state{identity: identity}
	for key, at := range map[string]*int{"step": &s.step, "tokens": &s.tokens, "pass": &s.pass, "next": &s.next} {
		if *at, err = strconv.Atoi(m[key]); err != nil || *at < 0 {
			return fail(fmt.Errorf("%s is %q, expected a number from 0", key, m[key]))
		}
	}
	var open, log []float64
	parts := []struct {
		name  string
		f32   *[]float32
		f64   *[]float64
		count int // -1: any number of lines
	}{
		{"weights", &s.weights, nil, n}, {"first", &s.first, nil, n}, {"second", &s.second, nil, n},
		{"open", nil, &open, 4}, {"log", nil, &log, -1}, {"average", &s.average, nil, n},
	}
	want := 0
	for _, p := range parts {
		t, ok := f.Tensor(p.name)
		if p.name == "log" && !ok || p.name == "average" && !average {
			continue
		}
		want++
		switch {
		case !ok:
			return fail(fmt.Errorf("no tensor %s", p.name))
		case p.count >= 0 && (len(t.Shape) != 1 || t.Shape[0] != p.count):
			return fail(fmt.Errorf("tensor %s has the shape %v, expected [%d]", p.name, t.Shape, p.count))
		case p.count < 0 && (len(t.Shape) != 2 || t.Shape[1] != logColumns):
			return fail(fmt.Errorf("tensor %s has the shape %v, expected [lines %d]", p.name, t.Shape, logColumns))
		case p.f32 != nil && t.DType != checkpoint.F32, p.f64 != nil && t.DType != checkpoint.F64:
			return fail(fmt.Errorf("tensor %s is of type %s", p.name, t.DType))
		}
		if p.f32 != nil {
			*p.f32, err = t.Float32(nil)
		} else {
			*p.f64, err = t.Float64(nil)
		}
		if err != nil {
			return fail(err)
		}
	}
	if got := len(f.Names()); got != want {
		return fail(fmt.Errorf("%d tensors, expected %d", got, want))
	}
	s.open = sums{open[0], open[1], open[2], open[3]}
	for ; len(log) > 0; log = log[logColumns:] {
		e := entry{int(log[0]), int(log[1]), log[2], log[3], log[4], log[5]}
		if e.Validation < 0 {
			e.Validation = math.NaN()
		}
		s.log = append(s.log, e)
	}
	return s, nil
}
