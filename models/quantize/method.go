package quantize

import (
	"fmt"
	"slices"
)

// Algorithm names a baseline.
type Algorithm string

// The baselines.
const (
	RTN         Algorithm = "rtn"
	GPTQMethod  Algorithm = "gptq"
	SmoothQuant Algorithm = "smoothquant"
	OmniQuant   Algorithm = "omniquant"
	Atom        Algorithm = "atom"
	AWQ         Algorithm = "awq"
	QuaRot      Algorithm = "quarot"
)

// Algorithms returns all baselines in a fixed order.
func Algorithms() []Algorithm {
	return []Algorithm{RTN, GPTQMethod, SmoothQuant, OmniQuant, Atom, AWQ, QuaRot}
}

// Unquantized is the bit width that leaves numbers as they are; 0 means it too.
const Unquantized = 16

// Precision describes the quantization of weights, activations or attention
// tensors: Quantizers of Method gives the scheme, these are its numbers.
type Precision struct {
	Bits  int     `yaml:"bits" json:"bits"`                                   // 2..8, or 16: not quantized
	Group int     `yaml:"group,omitempty" json:"group,omitempty"`             // columns of a scale; 0: per channel or token
	Clip  float64 `yaml:"clip,omitempty" json:"clip,omitempty"`               // 0 means 1
	Sym   bool    `yaml:"sym,omitempty" json:"sym,omitempty"`                 // symmetric where the library has both
	MSE   bool    `yaml:"mse,omitempty" json:"mse,omitempty"`                 // range search of weights
	Rows  int     `yaml:"shared_rows,omitempty" json:"shared_rows,omitempty"` // rows of a scale, Atom's 2
}

// On says whether anything is quantized.
func (p Precision) On() bool { return p.Bits != 0 && p.Bits != Unquantized }

// AttentionPlace says which tensors of attention are quantized.
type AttentionPlace string

// The places.
const (
	// AttentionNone: none.
	AttentionNone AttentionPlace = ""
	// AttentionOutputs: the outputs of q_proj, k_proj and v_proj, one scale per
	// token over all heads, before the rotary embedding (SmoothQuant's
	// quantize_bmm_input).
	AttentionOutputs AttentionPlace = "outputs"
	// AttentionHeads: queries and keys after the rotary embedding, and values,
	// per token and head (OmniQuant).
	AttentionHeads AttentionPlace = "heads"
	// AttentionCache: keys before the rotary embedding, and values, per token and
	// head (Atom).
	AttentionCache AttentionPlace = "cache"
	// AttentionRotated: keys after the rotary embedding and a Hadamard transform
	// of each head of queries and keys, and values, per token and head (QuaRot).
	AttentionRotated AttentionPlace = "rotated"
)

// Attention describes the quantization within attention.
type Attention struct {
	Place     AttentionPlace `yaml:"place,omitempty" json:"place,omitempty"`
	Precision `yaml:",inline"`
}

// Outliers describes Atom's mixed precision.
type Outliers struct {
	Columns int `yaml:"columns" json:"columns"` // at the end of the reordered input
	Bits    int `yaml:"bits" json:"bits"`       // 2..8, or 16: kept
	// Metric orders the channels: hessian (default) or abs_mean.
	Metric string `yaml:"metric,omitempty" json:"metric,omitempty"`
}

// GPTQOptions are the switches of GPTQ.
type GPTQOptions struct {
	Block          int     `yaml:"block,omitempty" json:"block,omitempty"` // columns, 0 means 128
	Damp           float64 `yaml:"damp,omitempty" json:"damp,omitempty"`   // share of the mean diagonal, 0 means 0.01
	ActOrder       bool    `yaml:"act_order,omitempty" json:"act_order,omitempty"`
	StaticGroups   bool    `yaml:"static_groups,omitempty" json:"static_groups,omitempty"`
	TrueSequential bool    `yaml:"true_sequential,omitempty" json:"true_sequential,omitempty"`
}

// DefaultDamp is GPTQ's damping.
const DefaultDamp = 0.01

// SmoothOptions describe SmoothQuant's smoothing. With a Sweep the exponent is
// the one of its values with the least calibration perplexity.
type SmoothOptions struct {
	Alpha float64   `yaml:"alpha,omitempty" json:"alpha,omitempty"`
	Sweep []float64 `yaml:"sweep,omitempty" json:"sweep,omitempty"`
}

// OmniOptions describe OmniQuant's training of a block. With 0 epochs the
// initial values are used.
type OmniOptions struct {
	LWC    bool `yaml:"lwc" json:"lwc"` // learnable weight clipping
	LET    bool `yaml:"let" json:"let"` // learnable equivalent transformation
	Epochs int  `yaml:"epochs" json:"epochs"`
	// LWCRate and LETRate are learning rates, 0 means 1e-2 and 5e-3.
	LWCRate float64 `yaml:"lwc_lr,omitempty" json:"lwc_lr,omitempty"`
	LETRate float64 `yaml:"let_lr,omitempty" json:"let_lr,omitempty"`
	Alpha   float64 `yaml:"alpha,omitempty" json:"alpha,omitempty"` // of the initial scales, 0 means 0.5
	AugLoss bool    `yaml:"aug_loss,omitempty" json:"aug_loss,omitempty"`
	// TieQK gives a channel and its partner of the rotary embedding one scale
	// between queries and keys, which keeps the transformation exact.
	TieQK bool `yaml:"tie_qk,omitempty" json:"tie_qk,omitempty"`
}

// The learning rates of OmniQuant's code and the start of its scales.
const (
	DefaultLWCRate   = 1e-2
	DefaultLETRate   = 5e-3
	DefaultOmniAlpha = 0.5
)

// AWQOptions say which searches of AWQ run.
type AWQOptions struct {
	Scale bool `yaml:"scale" json:"scale"`
	Clip  bool `yaml:"clip" json:"clip"`
}

// QuaRotOptions describe QuaRot's rotation.
type QuaRotOptions struct {
	Seed uint32 `yaml:"seed" json:"seed"` // of the random signs
	// SubtractMean subtracts the mean of each embedding row, as the original
	// does although RMSNorm models change by it.
	SubtractMean bool `yaml:"subtract_mean,omitempty" json:"subtract_mean,omitempty"`
}

// CalibrationPlan is the calibration of a method's authors: Sequences windows
// of Tokens tokens, drawn with Seed.
type CalibrationPlan struct {
	Sequences int    `yaml:"sequences,omitempty" json:"sequences,omitempty"`
	Tokens    int    `yaml:"tokens,omitempty" json:"tokens,omitempty"`
	Seed      uint64 `yaml:"seed,omitempty" json:"seed,omitempty"`
}

// Method describes one quantization of a model. Fields that the algorithm does
// not know must be empty.
type Method struct {
	Name      string    `yaml:"name,omitempty" json:"name,omitempty"`
	Algorithm Algorithm `yaml:"method" json:"method"`
	// Quantizers names the library whose quantizers are used, as Algorithm;
	// empty means its own, and for rtn gptq's.
	Quantizers Algorithm `yaml:"quantizers,omitempty" json:"quantizers,omitempty"`

	Weight     Precision `yaml:"weight" json:"weight"`
	Activation Precision `yaml:"activation,omitempty" json:"activation,omitempty"`
	Attention  Attention `yaml:"attention,omitempty" json:"attention,omitempty"`

	Smooth   *SmoothOptions `yaml:"smooth,omitempty" json:"smooth,omitempty"`
	Omni     *OmniOptions   `yaml:"omniquant,omitempty" json:"omniquant,omitempty"`
	Reorder  bool           `yaml:"reorder,omitempty" json:"reorder,omitempty"`
	Outliers *Outliers      `yaml:"outliers,omitempty" json:"outliers,omitempty"`
	GPTQ     *GPTQOptions   `yaml:"gptq,omitempty" json:"gptq,omitempty"`
	AWQ      *AWQOptions    `yaml:"awq,omitempty" json:"awq,omitempty"`
	QuaRot   *QuaRotOptions `yaml:"quarot,omitempty" json:"quarot,omitempty"`

	Calibration CalibrationPlan `yaml:"calibration,omitempty" json:"calibration,omitempty"`
}

// Library returns the algorithm whose quantizers the method uses.
func (m Method) Library() Algorithm {
	switch {
	case m.Quantizers != "":
		return m.Quantizers
	case m.Algorithm == RTN:
		return GPTQMethod
	}
	return m.Algorithm
}

// WeightQuantizer returns the quantizer of the body of every weight, and
// whether weights are quantized. For Atom it depends on the use of GPTQ.
func (m Method) WeightQuantizer() (Quantizer, bool) {
	p := m.Weight
	if !p.On() {
		return Quantizer{}, false
	}
	clip := p.Clip
	switch m.Library() {
	case SmoothQuant:
		return SmoothQuantWeight(p.Bits), true
	case OmniQuant:
		if p.Sym {
			return OmniQuantSymmetric(p.Bits, p.Group, true), true
		}
		return OmniQuantWeight(p.Bits, p.Group), true
	case Atom:
		if m.GPTQ != nil {
			return AtomGPTQWeight(p.Bits, p.Group, p.Rows, clip), true
		}
		return AtomWeight(p.Bits, p.Group, p.Rows, clip), true
	case AWQ:
		return AWQWeight(p.Bits, p.Group, !p.Sym), true
	case QuaRot:
		return QuaRotWeight(p.Bits, p.Sym, p.MSE), true
	}
	return GPTQWeight(p.Bits, p.Group, p.Sym, p.MSE), true
}

// ActivationQuantizer returns the quantizer of the inputs of linears, and
// whether they are quantized.
func (m Method) ActivationQuantizer() (Mixed, bool) {
	p := m.Activation
	if !p.On() {
		return Mixed{}, false
	}
	x := m.mixed()
	switch m.Library() {
	case SmoothQuant:
		x.Body = SmoothQuantActivation(p.Bits)
	case OmniQuant:
		x.Body = OmniQuantActivation(p.Bits, 0)
	case QuaRot:
		x.Body = QuaRotActivation(p.Bits, p.Group, p.Sym, p.Clip)
	default:
		x.Body = AtomActivation(p.Bits, p.Group, p.Clip)
	}
	return x, true
}

// mixed returns the outliers without a body.
func (m Method) mixed() Mixed {
	var x Mixed
	if o := m.Outliers; o != nil {
		x.Outliers = o.Columns
		if o.Bits != 0 && o.Bits != Unquantized {
			x.Outlier = AtomOutlier(o.Bits)
		}
	}
	return x
}

// WeightMixed returns WeightQuantizer with the outlier columns.
func (m Method) WeightMixed() (Mixed, bool) {
	q, ok := m.WeightQuantizer()
	x := m.mixed()
	x.Body = q
	return x, ok
}

// AttentionQuantizer returns the quantizer of the tensors at Attention.Place
// for heads of headDim channels, and whether they are quantized.
func (m Method) AttentionQuantizer(headDim int) (Quantizer, bool) {
	p := m.Attention.Precision
	if m.Attention.Place == AttentionNone || !p.On() {
		return Quantizer{}, false
	}
	switch m.Attention.Place {
	case AttentionOutputs:
		return SmoothQuantActivation(p.Bits), true
	case AttentionHeads:
		return OmniQuantActivation(p.Bits, headDim), true
	case AttentionRotated:
		q := QuaRotActivation(p.Bits, headDim, p.Sym, p.Clip)
		q.Granularity = PerHead
		return q, true
	}
	return AtomKV(p.Bits, headDim, p.Clip), true
}

// GPTQSettings returns the description of GPTQ for a weight, and its damping;
// false where the method does not use GPTQ.
func (m Method) GPTQSettings() (GPTQ, float64, bool) {
	if m.GPTQ == nil || !m.Weight.On() {
		return GPTQ{}, 0, false
	}
	x, _ := m.WeightMixed()
	damp := m.GPTQ.Damp
	if damp == 0 {
		damp = DefaultDamp
	}
	return GPTQ{Quantizer: x.Body, Block: m.GPTQ.Block, StaticGroups: m.GPTQ.StaticGroups, Outliers: x.Outliers, Outlier: x.Outlier}, damp, true
}

// Validate says what is wrong with the description, in one line that names the
// key. Fit to a model's sizes is checked where the quantizers are applied.
func (m Method) Validate() error {
	bad := func(key, format string, args ...any) error {
		name := m.Name
		if name == "" {
			name = string(m.Algorithm)
		}
		return fmt.Errorf("method %q: %s: %s", name, key, fmt.Sprintf(format, args...))
	}
	if !slices.Contains(Algorithms(), m.Algorithm) {
		return bad("method", "%q: want one of %v", m.Algorithm, Algorithms())
	}
	if m.Quantizers != "" && (m.Quantizers == RTN || !slices.Contains(Algorithms(), m.Quantizers)) {
		return bad("quantizers", "%q: want one of %v", m.Quantizers, Algorithms()[1:])
	}
	for _, p := range []struct {
		key string
		p   Precision
	}{{"weight", m.Weight}, {"activation", m.Activation}, {"attention", m.Attention.Precision}} {
		if p.p.On() && (p.p.Bits < 2 || p.p.Bits > 8) {
			return bad(p.key+".bits", "%d: want 2..8, or 16 for none", p.p.Bits)
		}
		if !p.p.On() && p.p != (Precision{Bits: p.p.Bits}) {
			return bad(p.key+".bits", "%d: not quantized, but other keys are set", p.p.Bits)
		}
		if p.p.Group < 0 {
			return bad(p.key+".group", "%d: want 0 or more", p.p.Group)
		}
		if !(p.p.Clip >= 0 && p.p.Clip <= 1) {
			return bad(p.key+".clip", "%v: want more than 0, at most 1", p.p.Clip)
		}
		if p.key != "weight" && (p.p.MSE || p.p.Rows != 0) {
			return bad(p.key, "mse and shared_rows belong to weight")
		}
	}
	if err := m.validateKeys(bad); err != nil {
		return err
	}
	if q, ok := m.WeightQuantizer(); ok {
		if err := q.Validate(); err != nil {
			return bad("weight", "%v", err)
		}
	}
	if x, ok := m.ActivationQuantizer(); ok {
		if err := x.Body.Validate(); err != nil {
			return bad("activation", "%v", err)
		}
	}
	if q, ok := m.AttentionQuantizer(1); ok {
		if err := q.Validate(); err != nil {
			return bad("attention", "%v", err)
		}
	}
	return nil
}

// CheckLinear says whether the method fits a linear of a model, (out, in).
func (m Method) CheckLinear(name string, out, in int) error {
	if o := m.Outliers; o != nil && o.Columns >= in {
		return fmt.Errorf("%s: %d outlier columns of %d inputs", name, o.Columns, in)
	}
	for i, p := range []Precision{m.Weight, m.Activation} {
		if p.On() && p.Group > 0 && in%p.Group != 0 {
			return fmt.Errorf("%s: %s group %d does not divide %d inputs", name, []string{"weight", "activation"}[i], p.Group, in)
		}
	}
	if r := m.Weight.Rows; m.Weight.On() && r > 1 && out%r != 0 {
		return fmt.Errorf("%s: shared_rows %d does not divide %d outputs", name, r, out)
	}
	if m.QuaRot != nil {
		if _, err := HadamardOrder(in); err != nil {
			return fmt.Errorf("%s: %v", name, err)
		}
	}
	return nil
}

// support says which numbers of Precision a library's quantizers know.
var support = map[Algorithm]struct{ weightGroup, weightClip, weightSym, mse, rows, actGroup, actClip, actSym, act bool }{
	GPTQMethod:  {weightGroup: true, weightSym: true, mse: true},
	SmoothQuant: {act: true},
	OmniQuant:   {weightGroup: true, weightSym: true, act: true},
	Atom:        {weightGroup: true, weightClip: true, rows: true, act: true, actGroup: true, actClip: true},
	AWQ:         {weightGroup: true, weightSym: true},
	QuaRot:      {weightSym: true, mse: true, act: true, actGroup: true, actClip: true, actSym: true},
}

// validateKeys checks that every part belongs to the algorithm.
func (m Method) validateKeys(bad func(key, format string, args ...any) error) error {
	lib := m.Library()
	s := support[lib]
	clips := func(p Precision) bool { return p.Clip != 0 && p.Clip != 1 }
	switch w, a := m.Weight, m.Activation; {
	case w.Group > 0 && !s.weightGroup:
		return bad("weight.group", "%s has no weight groups", lib)
	case clips(w) && !s.weightClip:
		return bad("weight.clip", "%s has no clip of weights", lib)
	case w.Sym && !s.weightSym:
		return bad("weight.sym", "%s has one weight scheme", lib)
	case w.MSE && !s.mse:
		return bad("weight.mse", "%s has no range search", lib)
	case w.Rows < 0 || w.Rows > 1 && !s.rows:
		return bad("weight.shared_rows", "%d: %s has one row per scale", w.Rows, lib)
	case a.On() && !s.act:
		return bad("activation", "%s quantizes weights alone", lib)
	case a.Group > 0 && !s.actGroup:
		return bad("activation.group", "%s has one scale per token", lib)
	case clips(a) && !s.actClip:
		return bad("activation.clip", "%s has no clip of activations", lib)
	case a.Sym && !s.actSym:
		return bad("activation.sym", "%s has one activation scheme", lib)
	}
	t := m.Attention
	switch t.Place {
	case AttentionNone:
		if t.On() {
			return bad("attention.place", "missing: want outputs, heads, cache or rotated")
		}
	case AttentionOutputs, AttentionHeads:
		if clips(t.Precision) || t.Sym {
			return bad("attention", "place %s has no clip and one scheme", t.Place)
		}
	case AttentionCache:
		if t.Sym {
			return bad("attention.sym", "place cache has one scheme")
		}
	case AttentionRotated:
		if m.Algorithm != QuaRot {
			return bad("attention.place", "rotated belongs to quarot")
		}
	default:
		return bad("attention.place", "%q: want outputs, heads, cache or rotated", t.Place)
	}
	if t.Group > 0 {
		return bad("attention.group", "%d: the group is head_dim", t.Group)
	}
	if m.Smooth != nil {
		if m.Algorithm != SmoothQuant {
			return bad("smooth", "belongs to smoothquant")
		}
		for _, a := range append([]float64{m.Smooth.Alpha}, m.Smooth.Sweep...) {
			if !(a >= 0 && a <= 1) {
				return bad("smooth.alpha", "%v: want 0..1", a)
			}
		}
		if m.Smooth.Alpha != 0 && len(m.Smooth.Sweep) > 0 {
			return bad("smooth", "alpha and sweep together")
		}
	}
	if o := m.Omni; o != nil {
		switch {
		case m.Algorithm != OmniQuant:
			return bad("omniquant", "belongs to omniquant")
		case o.Epochs < 0:
			return bad("omniquant.epochs", "%d: want 0 or more", o.Epochs)
		case o.Epochs > 0 && !o.LWC && !o.LET:
			return bad("omniquant.epochs", "%d: nothing to train without lwc and let", o.Epochs)
		case !(o.LWCRate >= 0) || !(o.LETRate >= 0):
			return bad("omniquant", "learning rates %v and %v: want 0 or more", o.LWCRate, o.LETRate)
		case !(o.Alpha >= 0 && o.Alpha <= 1):
			return bad("omniquant.alpha", "%v: want 0..1", o.Alpha)
		case o.LWC && m.Weight.Sym:
			return bad("omniquant.lwc", "its gradients exist for the asymmetric scheme")
		}
	} else if m.Algorithm == OmniQuant {
		return bad("omniquant", "missing: want at least {lwc: false, let: false, epochs: 0}")
	}
	if o := m.Outliers; o != nil {
		switch {
		case lib != Atom:
			return bad("outliers", "belong to atom")
		case o.Columns < 1:
			return bad("outliers.columns", "%d: want at least 1", o.Columns)
		case o.Bits != 0 && o.Bits != Unquantized && (o.Bits < 2 || o.Bits > 8):
			return bad("outliers.bits", "%d: want 2..8, or 16 to keep them", o.Bits)
		case o.Metric != "" && o.Metric != "hessian" && o.Metric != "abs_mean":
			return bad("outliers.metric", "%q: want hessian or abs_mean", o.Metric)
		case !m.Reorder:
			return bad("outliers", "without reorder: the last columns would be any")
		}
		for i, group := range []int{m.Weight.Group, m.Activation.Group} {
			if group > 0 && o.Columns%group != 0 {
				return bad([]string{"weight.group", "activation.group"}[i], "%d does not divide the %d outlier columns", group, o.Columns)
			}
		}
	}
	if m.Reorder && m.Algorithm != Atom {
		return bad("reorder", "belongs to atom")
	}
	if g := m.GPTQ; g != nil {
		switch {
		case m.Algorithm != GPTQMethod && m.Algorithm != Atom && m.Algorithm != QuaRot:
			return bad("gptq", "belongs to gptq, atom and quarot")
		case g.Block < 0:
			return bad("gptq.block", "%d: want 0 or more", g.Block)
		case !(g.Damp >= 0 && g.Damp <= maxDamp):
			return bad("gptq.damp", "%v: want 0..%v", g.Damp, maxDamp)
		case g.StaticGroups && m.Weight.Group == 0:
			return bad("gptq.static_groups", "without weight.group")
		case g.ActOrder && m.Outliers != nil:
			return bad("gptq.act_order", "with outliers: the reorder has ordered the columns")
		}
	} else if m.Algorithm == GPTQMethod {
		return bad("gptq", "missing: want at least {}")
	}
	if m.AWQ != nil && m.Algorithm != AWQ {
		return bad("awq", "belongs to awq")
	}
	if m.QuaRot != nil && m.Algorithm != QuaRot {
		return bad("quarot", "belongs to quarot")
	}
	if m.Algorithm == QuaRot && m.QuaRot == nil {
		return bad("quarot", "missing: want at least {seed: 0}")
	}
	if c := m.Calibration; c.Sequences < 0 || c.Tokens < 0 {
		return bad("calibration", "%d sequences of %d tokens", c.Sequences, c.Tokens)
	}
	return nil
}

// NewRTN is GPTQ's round-to-nearest.
func NewRTN(weightBits, group int, sym bool) Method {
	return Method{Algorithm: RTN, Weight: Precision{Bits: weightBits, Group: group, Sym: sym}}
}

// NewGPTQ is GPTQ on weights alone.
func NewGPTQ(weightBits, group int, sym bool, o GPTQOptions) Method {
	return Method{Algorithm: GPTQMethod, Weight: Precision{Bits: weightBits, Group: group, Sym: sym}, GPTQ: &o, Calibration: CalibrationPlan{128, 2048, 0}}
}

// NewSmoothQuant is SmoothQuant as released at other bits. bmm quantizes the
// outputs of q, k and v as well, as its perplexity script does.
func NewSmoothQuant(weightBits, activationBits int, alpha float64, bmm bool) Method {
	m := Method{
		Algorithm: SmoothQuant, Weight: Precision{Bits: weightBits}, Activation: Precision{Bits: activationBits},
		Smooth: &SmoothOptions{Alpha: alpha}, Calibration: CalibrationPlan{512, 512, 42},
	}
	if bmm {
		m.Attention = Attention{AttentionOutputs, Precision{Bits: activationBits}}
	}
	return m
}

// NewOmniQuant is OmniQuant with queries, keys and values at the bits of the
// activations, or on weights alone at 16 activation bits.
func NewOmniQuant(weightBits, activationBits, group int, o OmniOptions) Method {
	m := Method{
		Algorithm: OmniQuant, Weight: Precision{Bits: weightBits, Group: group}, Omni: &o,
		Activation: Precision{Bits: activationBits}, Calibration: CalibrationPlan{128, 2048, 2},
	}
	if m.Activation.On() {
		m.Attention = Attention{AttentionHeads, Precision{Bits: activationBits}}
	}
	return m
}

// NewAtom is Atom's full pipeline (the last rung of AtomLadder).
func NewAtom(weightBits, activationBits, keeper, group int) Method {
	l := AtomLadder(weightBits, activationBits, keeper, group)
	m := l[len(l)-1]
	m.Name = ""
	return m
}

// AtomLadder is Atom's ablation, each rung adding one part: round to nearest,
// outliers kept, outliers in INT8, groups (with row pairs), clip, GPTQ, KV
// cache.
func AtomLadder(weightBits, activationBits, keeper, group int) []Method {
	m := Method{
		Algorithm: Atom, Weight: Precision{Bits: weightBits}, Activation: Precision{Bits: activationBits},
		Calibration: CalibrationPlan{128, 2048, 0},
	}
	var ladder []Method
	rung := func(name string) {
		c := m
		c.Name = name
		ladder = append(ladder, c)
	}
	rung("0base")
	m.Reorder, m.Outliers = true, &Outliers{Columns: keeper, Bits: Unquantized}
	rung("1keep_fp16")
	m.Outliers = &Outliers{Columns: keeper, Bits: 8}
	rung("2keep_int8")
	m.Weight.Group, m.Weight.Rows, m.Activation.Group = group, 2, group
	rung("3group")
	m.Weight.Clip, m.Activation.Clip = 0.85, 0.9
	rung("4clip")
	m.GPTQ = &GPTQOptions{}
	rung("5gptq")
	m.Attention = Attention{AttentionCache, Precision{Bits: activationBits}}
	rung("6kv")
	return ladder
}

// NewAWQ is AWQ with both searches.
func NewAWQ(weightBits, group int) Method {
	return Method{
		Algorithm: AWQ, Weight: Precision{Bits: weightBits, Group: group}, AWQ: &AWQOptions{Scale: true, Clip: true},
		Calibration: CalibrationPlan{512, 512, 42},
	}
}

// NewQuaRot is QuaRot with GPTQ, keys and values asymmetric with clip 0.95.
func NewQuaRot(weightBits, activationBits, cacheBits int) Method {
	return Method{
		Algorithm: QuaRot, Weight: Precision{Bits: weightBits, Sym: true, MSE: true}, Activation: Precision{Bits: activationBits, Sym: true},
		Attention: Attention{AttentionRotated, Precision{Bits: cacheBits, Clip: 0.95}},
		GPTQ:      &GPTQOptions{TrueSequential: true}, QuaRot: &QuaRotOptions{}, Calibration: CalibrationPlan{128, 2048, 0},
	}
}

// Presets returns the settings of the papers and their scripts, each with its
// name, in a fixed order.
func Presets() []Method {
	var all []Method
	add := func(name string, m Method) {
		m.Name = name
		all = append(all, m)
	}
	for _, b := range []int{4, 3, 2} {
		add(fmt.Sprintf("rtn-w%d", b), NewRTN(b, 0, false))
		add(fmt.Sprintf("rtn-w%dg128", b), NewRTN(b, 128, false))
		add(fmt.Sprintf("gptq-w%d", b), NewGPTQ(b, 0, false, GPTQOptions{ActOrder: true, TrueSequential: true}))
		add(fmt.Sprintf("gptq-w%dg128", b), NewGPTQ(b, 128, false, GPTQOptions{}))
	}
	add("smoothquant-w8a8-llama2", NewSmoothQuant(8, 8, 0.85, true))
	add("smoothquant-w8a8-llama2-70b", NewSmoothQuant(8, 8, 0.9, true))
	add("smoothquant-w8a8-mistral", NewSmoothQuant(8, 8, 0.8, true))
	var sweep []float64
	for i := 30; i <= 90; i += 5 {
		sweep = append(sweep, float64(i)/100)
	}
	for _, a := range []int{4, 3} {
		m := NewSmoothQuant(4, a, 0, false)
		m.Smooth.Sweep = sweep
		add(fmt.Sprintf("smoothquant-w4a%d", a), m)
		m = NewSmoothQuant(4, a, 0, false)
		m.Smooth.Sweep = sweep
		m.Quantizers, m.Attention = OmniQuant, Attention{AttentionHeads, Precision{Bits: a}}
		add(fmt.Sprintf("smoothquant-asym-w4a%d", a), m)
	}
	train := OmniOptions{LWC: true, LET: true, Epochs: 20}
	with := func(f func(o *OmniOptions)) OmniOptions {
		o := train
		f(&o)
		return o
	}
	for _, a := range []int{4, 3} {
		add(fmt.Sprintf("omniquant-w4a%d-llama1-7b", a), NewOmniQuant(4, a, 0, with(func(o *OmniOptions) { o.AugLoss = true })))
		add(fmt.Sprintf("omniquant-w4a%d-llama1-30b", a), NewOmniQuant(4, a, 0, with(func(o *OmniOptions) { o.AugLoss, o.Alpha = true, 0.75 })))
		add(fmt.Sprintf("omniquant-w4a%d-llama2", a), NewOmniQuant(4, a, 0, with(func(o *OmniOptions) { o.LETRate, o.Alpha = 1e-3, 0.75 })))
	}
	add("omniquant-w6a6", NewOmniQuant(6, 6, 0, train))
	for _, b := range []int{4, 3} {
		for _, g := range []int{0, 128} {
			add(fmt.Sprintf("omniquant-w%da16%s", b, groupName(g)), NewOmniQuant(b, Unquantized, g, OmniOptions{LWC: true, Epochs: 20}))
		}
	}
	for _, g := range []int{0, 64, 128} {
		add("omniquant-w2a16"+groupName(g), NewOmniQuant(2, Unquantized, g, OmniOptions{LWC: true, Epochs: 40, AugLoss: true}))
	}
	for _, b := range [][2]int{{4, 4}, {4, 3}, {3, 3}} {
		add(fmt.Sprintf("atom-w%da%d", b[0], b[1]), NewAtom(b[0], b[1], 128, 128))
	}
	for _, m := range AtomLadder(4, 4, 128, 128) {
		add("atom-w4a4-"+m.Name, m)
	}
	add("awq-w4g128", NewAWQ(4, 128))
	add("awq-w3g128", NewAWQ(3, 128))
	add("quarot-w4a4kv4", NewQuaRot(4, 4, 4))
	return all
}

func groupName(g int) string {
	if g == 0 {
		return ""
	}
	return fmt.Sprintf("g%d", g)
}

// Preset returns one of Presets by name.
func Preset(name string) (Method, error) {
	var names []string
	for _, m := range Presets() {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Method{}, fmt.Errorf("method %q: unknown: want one of %v", name, names)
}
