package spec

import (
	"math"
	"strconv"
)

// A Spec is one experiment as read: every default filled in, nothing expanded.
type Spec struct {
	Name        string // [a-z0-9._-]
	Description string
	Models      []Model
	Data        string // data root; empty when every task brings its own path and no default is known
	Tasks       []Task
	Protocol    string // "legacy", "joint-nobos" or "joint-bos"
	Chat        string // "off" or "on": contexts go through the model's chat template
	Seed        int
	Timing      bool // store edge and cloud seconds per row
	Methods     []Method
	Scopes      []Scope // of each method, in their order; nil when none has one
	Sweep       Sweep
	Outputs     []string // tables and figures to make
	Server      *Server  // modelled server; nil: none

	modelsAt  []position // where each entry was written
	methodsAt []written
	sweepAt   position
}

// written is where a method and those of its values that depend on the model were written.
type written struct {
	method, splitLayer, precisionLayer, quantizer, calibration position
}

// A Model is one checkpoint to run.
type Model struct {
	Name      string
	Path      string // absolute, builtin:NAME, or hub:ORG/NAME
	Tokenizer string // absolute; empty: looked for beside the model
	MaxLength int    // tokens in one forward pass; 0: the model's own limit
}

// A Task is one evaluation set.
type Task struct {
	Name   string
	Limit  Limit  // documents, or blocks of a block-perplexity task
	Block  int    // tokens per block of a block-perplexity task; 0 for other tasks
	Path   string // absolute, or builtin:NAME; empty: found under the data root
	Labels string // file of gold labels where they are kept apart; empty: the usual place
}

// A Limit says how many documents of a task are used: the first Docs if Docs > 0, else the share
// Fraction if Fraction > 0, else all. At most one of the two is set.
type Limit struct {
	Docs     int
	Fraction float64 // in (0, 1)
}

// Of returns the number of documents the limit leaves of n. A fraction is rounded up, as lm-eval does.
func (l Limit) Of(n int) int {
	switch {
	case l.Docs > 0:
		return min(l.Docs, n)
	case l.Fraction > 0:
		return min(int(math.Ceil(float64(n)*l.Fraction)), n)
	}
	return n
}

// String returns the limit as it is written in a spec; 0 means all.
func (l Limit) String() string {
	if l.Fraction > 0 {
		return strconv.FormatFloat(l.Fraction, 'g', -1, 64)
	}
	return strconv.Itoa(l.Docs)
}

// The kinds of method.
const (
	Whole   = "whole"   // the checkpoint as it is
	Weights = "weights" // all layers in one place, weights quantised (Table 4 of arXiv 2511.04002)
	Split   = "split"   // layers 1..SplitLayer on the edge, the rest on the server
)

// A Method is one way to run a model.
//
// In Spec.Methods the values are as written; in a Cell they are resolved: a split method has its split
// layer and precision layer, and a knob that cannot act has its default.
type Method struct {
	Name           string
	Kind           string      // Whole, Weights or Split
	Preset         string      // OursBoundary or OursFront: what Quantizer does where; "" for none
	Quantizer      Quantizer   // of all layers, or the one that Preset uses
	Calibration    Calibration // of all quantizers of the method
	Front, Back    WeightCoder // weights of layers 1..PrecisionLayer, and of those after
	SplitLayer     int         // l, 1-based; 0 unless split (in Spec.Methods also: left to the sweep)
	PrecisionLayer int         // l_w; 0: the split layer, or every layer of a weight-only method
	MaxTokens      int         // W-bar; 0: all rows pass the boundary
	IncludeKV      bool        // I_kv
	Boundary       *Boundary   // nil: the boundary is not compressed
}

// A WeightCoder says how the linear weights of some layers are stored.
type WeightCoder struct {
	Bits  int // 2, 3, 4 or 8; 16: not quantised
	Group int // inputs that share one scale; 0: the whole output channel
	// Quantizer, if set, stands in the place of Bits and Group. That of Back acts on the server's layers too.
	Quantizer Quantizer
}

// A Boundary is the compression of what crosses the split (arXiv 2511.04002, section 2.3).
type Boundary struct {
	Codec             string
	Tau               Tau     // threshold of Eq. 4
	MaxActivationBits int     // Qa-bar, sign included
	Delta             float64 // distortion tolerance of Algorithm 1
	Search            string
	StopRule          string
	Comparison        string
	LowerBound        int // magnitude bits
	Granularity       string
	AboveType         string
	SparseIndex       string
	ScaleType         string
	Clamp             float64 // upper limit of magnitudes before the codec; 0: none

	// Of the codec split1 alone.
	Lanes    int    // interleaved states of the coder; 0: chosen by size
	Restore  string // what a code stands for: "center" or "centroid"
	Tables   string // file of static tables for the hidden state, absolute; empty: those built in
	KVTables string // file of static tables for keys and values, absolute; empty: those built in
}

// Tau is a threshold and what it counts.
type Tau struct {
	By    string // TauValue, TauQuantile or TauRMS
	Value float64
}

// What a threshold counts.
const (
	TauValue    = "value"    // magnitudes
	TauQuantile = "quantile" // the share of a row's values that stay below it
	TauRMS      = "rms"      // multiples of a row's root mean square
)

// String returns the threshold as labels show it: 5, q0.999 or 3rms.
func (t Tau) String() string {
	v := strconv.FormatFloat(t.Value, 'g', -1, 64)
	switch t.By {
	case TauQuantile:
		return "q" + v
	case TauRMS:
		return v + "rms"
	}
	return v
}

// plain returns what a spec holds for the threshold: a number, or a mapping.
func (t Tau) plain() any {
	if t.By == TauValue {
		return t.Value
	}
	return map[string]any{t.By: t.Value}
}

// A Sweep is the set of points of an experiment: the cross product of its groups less the excluded points.
type Sweep struct {
	Groups  []Group // in written order; the last varies fastest
	Exclude []Point
}

// A Scope is what one method does not share with the others.
type Scope struct {
	Tasks  []string // names of the tasks it is scored on; nil: all
	Groups []Group  // axes of its own, in the place of those of the Sweep
}

// A Group is one axis, or several that advance together; all its axes have the same number of values.
type Group []Axis

// An Axis is one knob and the values it takes.
type Axis struct {
	Name   string // see KeyDoc.Axis
	Values []any  // int, float64, string, bool, Limit or Tau, as the key's type says

	name      position
	positions []position
}

// A Point is a partial description of cells; a cell matches when every entry agrees with it.
type Point []Entry

// An Entry is one condition of a Point: an axis name, or "model", "task" or "method" with a name.
type Entry struct {
	Name  string
	Value any
}
