package compress

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Options are the readings of TS and TAB-Q (arXiv 2511.04002, Eq. 4 to 7 and
// Algorithm 1). The zero value is not valid; start from [DefaultOptions].
// The codecs "literal", "packed" and "split1" follow them; "raw16" ignores them all.
type Options struct {
	// Threshold is tau of Eq. 4, compared in float32: a value is above it unless
	// |x| < tau. Zero or less puts every value above, +Inf only those that are
	// not finite. ThresholdBy may give it another unit.
	Threshold float64 `json:"tau"`
	// ThresholdBy says what Threshold counts: "value" (tau itself), "quantile" (tau
	// of a row is the magnitude of rank ceil(Threshold * columns) in rising order,
	// so that at most that many of its values stay below; 0 < Threshold <= 1) or
	// "rms" (tau is Threshold times the root mean square of the row's finite
	// values). The last two are ours; a threshold near the row's own spread makes
	// the step small where one channel would have made it large.
	ThresholdBy string `json:"tau_by"`
	// MaxActivationBits is Qa-bar, the width of a stored code in bits with its
	// sign, 2 to 8. The search starts from the "top" of MaxActivationBits-1
	// magnitude bits.
	MaxActivationBits int `json:"max_activation_bits"`
	// Delta is the distortion tolerance of Algorithm 1: the mean absolute
	// difference of integer codes, in steps of the lower resolution, compared in
	// float32.
	Delta float64 `json:"delta"`
	// Search is "tabq" (Algorithm 1) or "fixed" (no search: Q is the top).
	Search string `json:"search"`
	// StopRule says which Q comes back when the distortion exceeds Delta:
	// "last_ok" (the last Q within it, the top if there is none) or
	// "first_exceed" (the Q that exceeded it).
	StopRule string `json:"stop_rule"`
	// Comparison says how the top codes are brought to the lower resolution:
	// "floor" (shift, as printed) or "round" (half a step added first).
	Comparison string `json:"comparison"`
	// LowerBound is the smallest number of magnitude bits tried, 1 to 7; the
	// top itself where that is smaller.
	LowerBound int `json:"lower_bound"`
	// Granularity is "per_token" (one Q per row) or "per_tensor" (one Q for all
	// rows of a message, by the distortion over all of them; the scales stay per
	// row).
	Granularity string `json:"granularity"`
	// AboveType is the type in which values above the threshold travel: "exact"
	// (the smallest of float16, bfloat16 and float32, in this order, that holds
	// all of the message's bit for bit), "float16", "bfloat16" or "float32".
	// With the two short types a value is rounded to nearest, ties to even; a
	// finite value that would become infinite is an error.
	AboveType string `json:"above_type"`
	// SparseIndex is the width of the sparse matrix's indices: "compact" (uint32
	// row pointers, uint16 columns up to 65536 columns and uint32 beyond) or
	// "torch" (int64 for both). "split1" has neither and ignores it.
	SparseIndex string `json:"sparse_index"`
	// ScaleType is "float16" (the scale is rounded to float16 before it is used,
	// unless that gives zero, a subnormal or infinity: such a row keeps its
	// float32 scale) or "float32".
	ScaleType string `json:"scale_type"`

	// The rest concerns "split1" only.

	// Tables are static tables for the stream; nil means those built in.
	Tables *Tables `json:"-"`
	// Lanes is the number of interleaved states: 0 (chosen by size), a power of
	// two up to 32, 64 or 96. Fewer make a short message shorter, more are
	// decoded faster.
	Lanes int `json:"lanes"`
	// Restore says what a code stands for: "center" (code times scale, Eq. 7) or
	// "centroid" (the mean of the training values with that code, from the
	// tables; that of the bin where they hold none, as those built in and those of a
	// [Session]). Only the former restores what the paper's quantiser does.
	Restore string `json:"restore"`
}

// DefaultOptions returns the default readings: tau 5, 4 activation bits, delta
// 0.2, TAB-Q per token with floor comparison, last_ok, at least 3 magnitude
// bits, exact above values, compact indices and float16 scales.
func DefaultOptions() Options {
	return Options{
		Threshold: 5, ThresholdBy: "value", MaxActivationBits: 4, Delta: 0.2,
		Search: "tabq", StopRule: "last_ok", Comparison: "floor", LowerBound: 3,
		Granularity: "per_token", AboveType: "exact", SparseIndex: "compact", ScaleType: "float16",
		Restore: "center",
	}
}

// OptionError says which option of [Options] is wrong. Key is the name under
// which users write it.
type OptionError struct {
	Key     string // such as "max_activation_bits"
	Problem string // what was found and what was expected
}

func (e *OptionError) Error() string { return e.Key + " " + e.Problem }

// Validate returns nil or an [*OptionError] for the first option that is wrong.
func (o Options) Validate() error {
	_, err := o.reading()
	return err
}

// reading is Options in the form the loops use.
type reading struct {
	tauBits      uint32  // bits of the threshold as float32; 0 for a threshold of zero or less
	thresholdBy  int     // index in thresholdNames
	threshold    float64 // when thresholdBy is not byValue
	delta        float32 // tolerance
	top          int     // magnitude bits from which the search starts
	lowest       int     // last candidate
	fixed        bool    // no search
	firstExceed  bool
	roundCompare bool
	perTensor    bool
	exactAbove   bool
	above        valueType // when not exactAbove
	torchIndex   bool
	scale32      bool
	lanes        int
	centroids    bool
}

func (o Options) reading() (r reading, err error) {
	fail := func(key, format string, args ...any) (reading, error) {
		return reading{}, &OptionError{Key: key, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case math.IsNaN(o.Threshold):
		return fail("tau", "is not a number, expected a threshold")
	case o.MaxActivationBits < 2 || o.MaxActivationBits > 8:
		return fail("max_activation_bits", "is %d, expected 2 to 8", o.MaxActivationBits)
	case !(o.Delta >= 0) || math.IsInf(o.Delta, 1):
		return fail("delta", "is %v, expected a finite number, zero or more", o.Delta)
	case o.LowerBound < 1 || o.LowerBound > 7:
		return fail("lower_bound", "is %d, expected 1 to 7 magnitude bits", o.LowerBound)
	}
	if o.Lanes != 0 && !slices.Contains(split1Lanes[:], o.Lanes) {
		return fail("lanes", "is %d, expected 0, a power of two up to 32, 64 or 96", o.Lanes)
	}
	r.lanes = o.Lanes
	if t := float32(o.Threshold); t > 0 {
		r.tauBits = math.Float32bits(t)
	}
	r.delta = float32(o.Delta)
	r.top = o.MaxActivationBits - 1
	r.lowest = min(r.top, o.LowerBound)
	var above int
	for _, c := range []struct {
		key, value string
		set        func(i int)
		names      []string
	}{
		{"tau_by", o.ThresholdBy, func(i int) { r.thresholdBy = i }, thresholdNames[:]},
		{"search", o.Search, func(i int) { r.fixed = i == 1 }, []string{"tabq", "fixed"}},
		{"stop_rule", o.StopRule, func(i int) { r.firstExceed = i == 1 }, []string{"last_ok", "first_exceed"}},
		{"comparison", o.Comparison, func(i int) { r.roundCompare = i == 1 }, []string{"floor", "round"}},
		{"granularity", o.Granularity, func(i int) { r.perTensor = i == 1 }, granularityNames[:]},
		{"above_type", o.AboveType, func(i int) { above = i }, append([]string{"exact"}, valueTypeNames[:]...)},
		{"sparse_index", o.SparseIndex, func(i int) { r.torchIndex = i == 1 }, sparseIndexNames[:]},
		{"scale_type", o.ScaleType, func(i int) { r.scale32 = i == 1 }, scaleTypeNames[:]},
		{"restore", o.Restore, func(i int) { r.centroids = i == 1 }, []string{"center", "centroid"}},
	} {
		i := 0
		for i < len(c.names) && c.names[i] != c.value {
			i++
		}
		if i == len(c.names) {
			return fail(c.key, "is %q, expected %s", c.value, strings.Join(c.names, ", "))
		}
		c.set(i)
	}
	r.threshold = o.Threshold
	switch {
	case r.thresholdBy == byQuantile && !(o.Threshold > 0 && o.Threshold <= 1):
		return fail("tau", "is %v, expected a quantile above 0 and up to 1", o.Threshold)
	case r.thresholdBy == byRMS && !(o.Threshold > 0 && o.Threshold <= 1e6):
		return fail("tau", "is %v, expected a positive multiple of the root mean square", o.Threshold)
	}
	r.exactAbove = above == 0
	if above > 0 {
		r.above = valueType(above - 1)
	}
	return r, nil
}

const (
	byValue = iota
	byQuantile
	byRMS
)

var thresholdNames = [...]string{"value", "quantile", "rms"}

// Names of the readings that a message carries, by the bits that stand for them.
var (
	granularityNames = [...]string{"per_token", "per_tensor"}
	sparseIndexNames = [...]string{"compact", "torch"}
	scaleTypeNames   = [...]string{"float16", "float32"}
	valueTypeNames   = [...]string{"float16", "bfloat16", "float32"}
)
