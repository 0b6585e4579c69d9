package runner

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"splitbench/experiments/spec"
	"splitbench/harness/builtin"
	"splitbench/harness/exec"
	"splitbench/harness/quantise"
	"splitbench/models/quantize"
	"splitbench/models/tokenizer"
	"splitbench/results"
	"splitbench/tasks"
)

// baseline is a quantizer of a cell in full.
type baseline struct {
	name   string // by which exec.Method refers to it
	source string // preset, or name of the file, for people
	method quantize.Method
}

// baselines are the quantizers of a cell's segments; nil for none. Both are one
// where the segments have the same.
type baselines struct{ front, back *baseline }

// each lists the different ones.
func (b baselines) each() []*baseline {
	var all []*baseline
	if b.front != nil {
		all = append(all, b.front)
	}
	if b.back != nil && b.back != b.front {
		all = append(all, b.back)
	}
	return all
}

// maxMethodFile bounds a method file, and maxCalibration the text or the lines
// of calibration, in bytes.
const (
	maxMethodFile  = 1 << 20
	maxCalibration = 512 << 20
)

// describe returns the method of a quantizer of a spec: the preset or the file,
// with the spec's numbers in the place of its own.
func (w *Workbench) describe(q spec.Quantizer) (*baseline, error) {
	b := &baseline{source: q.Preset}
	var err error
	if q.Preset != "" {
		b.method, err = quantize.Preset(q.Preset)
	} else {
		b.source = strings.TrimSuffix(baseName(q.File), ".yaml")
		b.method, err = w.methodFile(q.File)
	}
	if err != nil {
		return nil, err
	}
	m := &b.method
	m.Name = b.source
	if q.WeightBits != 0 {
		m.Weight = withBits(m.Weight, q.WeightBits)
	}
	if q.ActivationBits != 0 {
		m.Activation = withBits(m.Activation, q.ActivationBits)
		if m.Attention.Place != quantize.AttentionNone {
			m.Attention.Precision = withBits(m.Attention.Precision, q.ActivationBits)
		}
	}
	if q.KVBits != 0 {
		m.Attention.Precision = withBits(m.Attention.Precision, q.KVBits)
	}
	if !m.Attention.On() {
		m.Attention = quantize.Attention{}
	}
	return b, m.Validate()
}

// withBits is a precision at other bits; without quantization its other numbers
// mean nothing.
func withBits(p quantize.Precision, bits int) quantize.Precision {
	p.Bits = bits
	if !p.On() {
		return quantize.Precision{Bits: quantize.Unquantized}
	}
	return p
}

// methodFile reads a method file once.
func (w *Workbench) methodFile(path string) (quantize.Method, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m, ok := w.methods[path]; ok {
		return m, nil
	}
	text, err := exec.ReadBounded(path, maxMethodFile)
	if err != nil {
		return quantize.Method{}, fmt.Errorf("%s: %w", path, err)
	}
	m, err := quantise.ParseMethod(path, text)
	if err == nil {
		w.methods[path] = m
	}
	return m, err
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// baselines returns the quantizers of a cell, and says whether they fit its
// model.
func (w *Workbench) baselines(c spec.Cell) (b baselines, err error) {
	front, back := c.Method.Segments()
	if b.front, err = w.segment(c, front); err != nil {
		return b, err
	}
	if b.back = b.front; back != front {
		b.back, err = w.segment(c, back)
	}
	if err == nil && b.front != b.back {
		for _, s := range b.each() {
			if s.method.QuaRot != nil {
				return b, fmt.Errorf("%s rotates the residual stream, so that it is for all layers: quantizer, not front.quantizer or back.quantizer", s.source)
			}
		}
	}
	return b, err
}

func (w *Workbench) segment(c spec.Cell, q spec.Quantizer) (*baseline, error) {
	if !q.Set() {
		return nil, nil
	}
	b, err := w.describe(q)
	if err != nil {
		return nil, err
	}
	b.name = exec.QuantizerName(q, c.Method.Calibration)
	path, err := exec.Locate(c.Model.Path)
	if err != nil {
		return nil, err
	}
	if quantise.IsStored(path) {
		return nil, fmt.Errorf("model %s is quantized already (%s)", c.Model.Name, path)
	}
	cfg, err := w.Config(c.Model)
	if err != nil {
		return nil, err
	}
	if err := quantise.Fits(b.method, cfg); err != nil {
		return nil, fmt.Errorf("%s does not fit model %s: %w", b.source, c.Model.Name, err)
	}
	return b, nil
}

// calibrationKey is equal for the same tokens.
type calibrationKey struct {
	spec.Calibration
	tokenizer string
	longest   int
}

// calibration returns the tokens that a quantizer of a cell is calibrated on,
// drawn once; nil for a quantizer that looks at weights alone.
func (w *Workbench) calibration(c spec.Cell, m quantize.Method) ([][]int32, error) {
	if !quantise.NeedsCalibration(m) {
		return nil, nil
	}
	from := c.Method.Calibration
	if !from.Set() {
		return nil, fmt.Errorf("quantizer %s needs calibration", m.Name)
	}
	longest, err := w.MaxLength(c.Model)
	if err != nil {
		return nil, err
	}
	if from.File == "" {
		if from, err = drawn(from, m.Calibration, longest); err != nil {
			return nil, fmt.Errorf("quantizer %s: %w", m.Name, err)
		}
	}
	t, err := w.Tokenizer(c.Model)
	if err != nil {
		return nil, err
	}
	key := calibrationKey{from, t.Digest(), longest}
	w.mu.Lock()
	ids, ok := w.calibrations[key]
	w.mu.Unlock()
	if ok {
		return ids, nil
	}
	cfg, err := w.Config(c.Model)
	if err != nil {
		return nil, err
	}
	switch {
	case from.File != "":
		ids, err = calibrationLines(from, t, longest, cfg.VocabSize)
	case from.Text != "":
		ids, err = calibrationText(from, t)
	default:
		ids, err = w.calibrationTask(c, from, t)
	}
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.calibrations[key] = ids
	w.mu.Unlock()
	return ids, nil
}

// drawn fills in the numbers of the method's authors. Their windows are as long
// as the model's inputs where those are shorter.
func drawn(c spec.Calibration, p quantize.CalibrationPlan, longest int) (spec.Calibration, error) {
	if c.Sequences == 0 {
		c.Sequences = p.Sequences
	}
	if c.Tokens == 0 {
		c.Tokens = min(p.Tokens, longest)
	}
	if c.Seed < 0 {
		c.Seed = int(p.Seed)
	}
	switch {
	case c.Sequences == 0 || c.Tokens == 0:
		return c, fmt.Errorf("the method states no number of windows or tokens, expected calibration.sequences and calibration.tokens")
	case c.Tokens > longest:
		return c, fmt.Errorf("windows of %d tokens, expected at most the model's length of %d", c.Tokens, longest)
	}
	return c, nil
}

// calibrationLines reads a file of sequences.
func calibrationLines(c spec.Calibration, t tokenizer.Tokenizer, longest, vocabulary int) ([][]int32, error) {
	path, err := builtin.Resolve(c.File)
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	data, err := exec.ReadBounded(path, maxCalibration)
	if err != nil {
		return nil, fmt.Errorf("calibration %s: %w", c.File, err)
	}
	var all [][]int32
	r := bufio.NewReader(bytes.NewReader(data))
	for line := 1; c.Sequences == 0 || len(all) < c.Sequences; line++ {
		text, err := r.ReadBytes('\n')
		if len(bytes.TrimSpace(text)) > 0 {
			ids, fault := calibrationLine(text, t)
			if c.Tokens > 0 {
				ids = ids[:min(c.Tokens, len(ids))]
			}
			switch {
			case fault != nil:
			case len(ids) == 0:
				fault = fmt.Errorf("no tokens")
			case len(ids) > longest:
				fault = fmt.Errorf("%d tokens, the model takes %d", len(ids), longest)
			}
			for _, id := range ids {
				if fault == nil && (id < 0 || int(id) >= vocabulary) {
					fault = fmt.Errorf("token id %d is outside the vocabulary of %d", id, vocabulary)
				}
			}
			if fault != nil {
				return nil, fmt.Errorf("%s:%d: %w", c.File, line, fault)
			}
			all = append(all, ids)
		}
		if err != nil {
			break
		}
	}
	if len(all) == 0 || len(all) < c.Sequences {
		return nil, fmt.Errorf("calibration %s: %d sequences, expected %d", c.File, len(all), max(1, c.Sequences))
	}
	return all, nil
}

func calibrationLine(line []byte, t tokenizer.Tokenizer) ([]int32, error) {
	var q struct {
		IDs  *[]int32 `json:"ids"`
		Text *string  `json:"text"`
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err := d.Decode(&q)
	if err == nil {
		if _, after := d.Token(); after != io.EOF {
			err = fmt.Errorf("text after the object")
		}
	}
	if err != nil || (q.IDs == nil) == (q.Text == nil) {
		return nil, fmt.Errorf(`expected {"ids":[…]} or {"text":"…"}`)
	}
	if q.IDs != nil {
		return *q.IDs, nil
	}
	return t.Encode(*q.Text, true), nil
}

// calibrationText draws windows from a text.
func calibrationText(c spec.Calibration, t tokenizer.Tokenizer) ([][]int32, error) {
	path, err := builtin.Resolve(c.Text)
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	data, err := exec.ReadBounded(path, maxCalibration)
	if err != nil {
		return nil, fmt.Errorf("calibration %s: %w", c.Text, err)
	}
	all, err := planOf(c).Draw([][]int32{t.Encode(string(data), true)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Text, err)
	}
	return all, nil
}

func planOf(c spec.Calibration) quantize.CalibrationPlan {
	return quantize.CalibrationPlan{Sequences: c.Sequences, Tokens: c.Tokens, Seed: uint64(c.Seed)}
}

// calibrationTask draws windows from the texts of an evaluation set.
func (w *Workbench) calibrationTask(c spec.Cell, from spec.Calibration, t tokenizer.Tokenizer) ([][]int32, error) {
	if from.Data == "" {
		return nil, fmt.Errorf("calibration: task %s: no data: set SPLITBENCH_SHARED, or the key data", from.Task)
	}
	root, err := builtin.Resolve(from.Data)
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	path, err := tasks.DefaultPath(root, from.Task)
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	ds, err := tasks.Load(from.Task, tasks.Options{Path: path, Protocol: tasks.Protocol(c.Protocol)})
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	var documents [][]int32
	for _, d := range ds.Docs {
		text := d.Text
		if ds.Kind == tasks.MultipleChoice {
			text = d.Requests[d.Gold].Context + d.Requests[d.Gold].Continuation
		}
		documents = append(documents, t.Encode(text, true))
	}
	all, err := planOf(from).Draw(documents)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", from.Task, err)
	}
	return all, nil
}

// quantizerDigests adds what a cell's key holds of its quantizers: the SHA-256
// of their methods in full, and of the tokens that they are calibrated on.
func (w *Workbench) quantizerDigests(c spec.Cell, digests map[string]string) error {
	b, err := w.baselines(c)
	if err != nil || len(b.each()) == 0 {
		return err
	}
	plain := func(b *baseline) *quantize.Method {
		if b == nil {
			return nil
		}
		m := b.method
		m.Name, m.Calibration = "", quantize.CalibrationPlan{}
		return &m
	}
	text, err := json.Marshal([]*quantize.Method{plain(b.front), plain(b.back)})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	digests[spec.DigestQuantizer] = hex.EncodeToString(sum[:])
	digests[spec.DigestCalibration] = noCalibration
	var sets []string
	for _, s := range b.each() {
		ids, err := w.calibration(c, s.method)
		if err != nil {
			return err
		}
		if ids != nil {
			sets = append(sets, quantise.CalibrationDigest(ids))
		}
	}
	if len(sets) == 2 && sets[0] == sets[1] {
		sets = sets[:1]
	}
	if len(sets) > 0 {
		digests[spec.DigestCalibration] = strings.Join(sets, " ")
	}
	return nil
}

// noCalibration stands for the digest of tokens where none are looked at.
const noCalibration = "none"

// Quantize puts the quantized models that a cell's method names onto the
// engine of its model, out of the user's cache folder where they are in it.
// tell gets lines on the progress of those that are made. It returns the alpha
// of the smoothing or of the initial scales of the first that has one, as it
// was chosen.
func (w *Workbench) Quantize(ctx context.Context, l *exec.Loaded, c spec.Cell, tell func(string)) (alpha float64, err error) {
	b, err := w.baselines(c)
	if err != nil {
		return 0, fmt.Errorf("method %s: %w", c.Method.Name, err)
	}
	for _, s := range b.each() {
		if !l.Engine.HasQuantized(s.name) {
			if err := w.load(ctx, l, c, s, tell); err != nil {
				return 0, fmt.Errorf("method %s: %w", c.Method.Name, err)
			}
		}
		if a := w.alphas[c.Model.Path+"\x00"+s.name]; alpha == 0 {
			alpha = a
		}
	}
	return alpha, nil
}

func (w *Workbench) load(ctx context.Context, l *exec.Loaded, c spec.Cell, s *baseline, tell func(string)) error {
	ids, err := w.calibration(c, s.method)
	if err != nil {
		return err
	}
	digest, err := w.ModelDigest(c.Model)
	if err != nil {
		return err
	}
	o := quantise.Options{
		Progress: func(p quantise.Step) {
			if p.Block > 0 {
				tell(fmt.Sprintf("%s: quantizing %s, layer %d of %d", c.Model.Name, s.source, p.Block, p.Blocks))
			}
		},
		Estimate: func(d time.Duration) {
			tell(fmt.Sprintf("%s: training %s will take about %s", c.Model.Name, s.source, d.Round(time.Second)))
		},
	}
	stored, model, err := quantise.Cached(ctx, quantise.CacheFolder(), l.Checkpoint, digest, l.Engine.Model().Backend, s.method, ids, o)
	if err != nil {
		return err
	}
	q := exec.Quantized{}
	if q.Bits, err = stored.WeightBits(); err != nil {
		return err
	}
	for k := range stored.Config.Layers {
		q.Layers = append(q.Layers, model.Layer(k+1))
	}
	if s.method.QuaRot != nil {
		q.Model = model
	}
	m := stored.Header.Method
	switch key := c.Model.Path + "\x00" + s.name; {
	case m.Smooth != nil:
		w.alphas[key] = m.Smooth.Alpha
	case m.Omni != nil && m.Omni.LET:
		if w.alphas[key] = m.Omni.Alpha; m.Omni.Alpha == 0 {
			w.alphas[key] = quantize.DefaultOmniAlpha
		}
	}
	return l.Engine.AddQuantized(s.name, q)
}

// point fills in the columns of a cell's quantizers.
func (b baselines) point(p *results.Point, c spec.Cell, digests map[string]string) {
	if len(b.each()) == 0 {
		return
	}
	p.Preset = c.Method.Preset
	if d := digests[spec.DigestCalibration]; d != noCalibration {
		var short []string
		for _, s := range strings.Fields(d) {
			short = append(short, s[:min(tableDigits, len(s))])
		}
		p.Calibration = strings.Join(short, " ")
	}
	if b.front != nil {
		m := b.front.method
		p.Quantizer = SchemeText(m)
		p.FrontBits, p.Group = columnBits(m.Weight), int32(m.Weight.Group)
		p.ActivationBits, p.KVBits = columnBits(m.Activation), columnBits(m.Attention.Precision)
	}
	if b.back != nil {
		m := b.back.method
		p.BackQuantizer = SchemeText(m)
		p.BackBits, p.BackGroup = columnBits(m.Weight), int32(m.Weight.Group)
		p.BackActivationBits, p.BackKVBits = columnBits(m.Activation), columnBits(m.Attention.Precision)
	}
}

func columnBits(p quantize.Precision) int32 {
	if !p.On() {
		return quantize.Unquantized
	}
	return int32(p.Bits)
}

// SchemeText says in a line what a baseline does: its name, and of weights (w),
// activations (a) and attention tensors (kv) the bits, scheme, group and clip,
// then its other parts.
func SchemeText(m quantize.Method) string {
	parts := []string{string(m.Algorithm)}
	if m.Quantizers != "" {
		parts[0] += "/" + string(m.Quantizers)
	}
	add := func(name string, p quantize.Precision, q quantize.Quantizer, on bool) {
		if !on {
			return
		}
		s := fmt.Sprintf("%s%d %s", name, p.Bits, q.Scheme)
		if p.Group > 0 {
			s += fmt.Sprintf(" g%d", p.Group)
		}
		if p.Rows > 1 {
			s += fmt.Sprintf("x%d", p.Rows)
		}
		if p.Clip != 0 && p.Clip != 1 {
			s += fmt.Sprintf(" clip %v", p.Clip)
		}
		if p.MSE {
			s += " mse"
		}
		parts = append(parts, s)
	}
	q, on := m.WeightQuantizer()
	add("w", m.Weight, q, on)
	x, on := m.ActivationQuantizer()
	add("a", m.Activation, x.Body, on)
	q, on = m.AttentionQuantizer(1)
	add(map[quantize.AttentionPlace]string{
		quantize.AttentionOutputs: "qkv", quantize.AttentionHeads: "qkv/head", quantize.AttentionCache: "kv", quantize.AttentionRotated: "rotated kv",
	}[m.Attention.Place], m.Attention.Precision, q, on)
	if o := m.Outliers; o != nil {
		parts = append(parts, fmt.Sprintf("outliers %d at %d", o.Columns, o.Bits))
	}
	if s := m.Smooth; s != nil {
		if len(s.Sweep) > 0 {
			parts = append(parts, fmt.Sprintf("alpha of %v..%v", s.Sweep[0], s.Sweep[len(s.Sweep)-1]))
		} else {
			parts = append(parts, fmt.Sprintf("alpha %v", s.Alpha))
		}
	}
	if g := m.GPTQ; g != nil {
		s := "gptq"
		for _, f := range []struct {
			on   bool
			name string
		}{{g.ActOrder, " act-order"}, {g.StaticGroups, " static"}, {g.TrueSequential, " sequential"}} {
			if f.on {
				s += f.name
			}
		}
		parts = append(parts, s)
	}
	if o := m.Omni; o != nil && (o.LWC || o.LET) {
		s := ""
		if o.LET {
			s += "let "
		}
		if o.LWC {
			s += "lwc "
		}
		parts = append(parts, fmt.Sprintf("%s%d epochs", s, o.Epochs))
	}
	if a := m.AWQ; a != nil {
		s := "awq"
		if a.Scale {
			s += " scale"
		}
		if a.Clip {
			s += " clip"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}
