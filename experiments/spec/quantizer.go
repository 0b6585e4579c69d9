package spec

// A Quantizer names a quantization baseline, as models/quantize describes them, and the numbers of it that a
// spec replaces. The zero Quantizer is none.
type Quantizer struct {
	Preset string // name of a setting of the papers; "" with File
	File   string // absolute; a method file, as the verb quantize takes
	// 0 leaves what the baseline says. 16 bits are not quantised.
	WeightBits     int
	ActivationBits int // of everything that is quantised within a block besides weights
	KVBits         int // of the attention tensors alone, after ActivationBits
}

// Set says whether there is a quantizer.
func (q Quantizer) Set() bool { return q.Preset != "" || q.File != "" }

// A Calibration says which tokens quantizers are calibrated on. At most one of File, Text and Task is set.
type Calibration struct {
	File string // absolute; lines of {"ids":[…]} or {"text":"…"}, each one sequence
	Text string // absolute; a text that windows are drawn from
	Task string // an evaluation set whose texts windows are drawn from
	// Numbers of windows, tokens of each, and the seed of the draws; 0, 0 and -1 are the baseline's own. Of a
	// File, the first Sequences lines are used, and the first Tokens tokens of each.
	Sequences, Tokens, Seed int
	Data                    string // in a Cell: data root of Task
}

// Set says whether there is something to calibrate on.
func (c Calibration) Set() bool { return c.File != "" || c.Text != "" || c.Task != "" }

// The presets of a segment policy: two readings of the paper's own rows in Table 3 of arXiv 2511.04002.
const (
	// OursBoundary: weights of all layers quantised, everything within the blocks exact, and the hidden state
	// after the split layer through the boundary.
	OursBoundary = "ours-boundary"
	// OursFront: layers 1..l quantised with as many activation bits as the boundary's most, the others exact,
	// and the same boundary.
	OursFront = "ours-front"
)

// presetQuantizer is the quantizer of a preset that names none.
const presetQuantizer = "atom-w4a4"

// quantizerPresets are the names of models/quantize.Presets, which this package cannot ask.
var quantizerPresets = []string{
	"rtn-w4", "rtn-w4g128", "gptq-w4", "gptq-w4g128", "rtn-w3", "rtn-w3g128", "gptq-w3", "gptq-w3g128", "rtn-w2",
	"rtn-w2g128", "gptq-w2", "gptq-w2g128", "smoothquant-w8a8-llama2", "smoothquant-w8a8-llama2-70b",
	"smoothquant-w8a8-mistral", "smoothquant-w4a4", "smoothquant-asym-w4a4", "smoothquant-w4a3",
	"smoothquant-asym-w4a3", "omniquant-w4a4-llama1-7b", "omniquant-w4a4-llama1-30b", "omniquant-w4a4-llama2",
	"omniquant-w4a3-llama1-7b", "omniquant-w4a3-llama1-30b", "omniquant-w4a3-llama2", "omniquant-w6a6",
	"omniquant-w4a16", "omniquant-w4a16g128", "omniquant-w3a16", "omniquant-w3a16g128", "omniquant-w2a16",
	"omniquant-w2a16g64", "omniquant-w2a16g128", "atom-w4a4", "atom-w4a3", "atom-w3a3", "atom-w4a4-0base",
	"atom-w4a4-1keep_fp16", "atom-w4a4-2keep_int8", "atom-w4a4-3group", "atom-w4a4-4clip", "atom-w4a4-5gptq",
	"atom-w4a4-6kv", "awq-w4g128", "awq-w3g128", "quarot-w4a4kv4",
}

// Segments returns the quantizer of layers 1..PrecisionLayer and that of the layers after, as the preset, the
// method's quantizer, or front and back say.
func (m *Method) Segments() (front, back Quantizer) {
	q := m.Quantizer
	switch {
	case m.Preset == OursBoundary:
		q.ActivationBits = 16
		return q, q
	case m.Preset == OursFront:
		if m.Boundary != nil {
			q.ActivationBits = m.Boundary.MaxActivationBits
		}
		return q, Quantizer{}
	case q.Set():
		return q, q
	}
	return m.Front.Quantizer, m.Back.Quantizer
}

// Quantized says whether the method has a quantizer.
func (m *Method) Quantized() bool {
	front, back := m.Segments()
	return front.Set() || back.Set()
}

// checkSegments checks what quantizers, presets and calibration of a method say together.
func (r *reader) checkSegments(n *node) {
	front, back, preset, whole := n.get("front"), n.get("back"), n.get("preset"), n.get("quantizer")
	quantized := preset != nil || whole != nil
	for _, s := range []struct {
		key     string
		segment *node
	}{{"front", front}, {"back", back}} {
		q := s.segment.get("quantizer")
		quantized = quantized || q != nil
		r.checkQuantizer(q, s.key+".quantizer", false)
		switch {
		case s.segment == nil:
		case preset != nil:
			r.fault(s.segment.pos, s.key+" beside preset", "quantizer, which the preset puts where it belongs")
		case whole != nil:
			r.fault(s.segment.pos, s.key+" beside quantizer, which is for all layers", "one of the two; "+s.key+".quantizer is for a segment")
		case q != nil:
			for _, k := range []string{"weight_bits", "group"} {
				if v := s.segment.get(k); v != nil {
					r.fault(v.pos, s.key+"."+k+" beside "+s.key+".quantizer", "one of the two")
				}
			}
		}
	}
	r.checkQuantizer(whole, "quantizer", preset != nil)
	if preset != nil {
		if v := whole.get("activation_bits"); v != nil {
			what := "no such key: only the boundary is quantised"
			if stringOf(preset) == OursFront {
				what = "boundary.max_activation_bits, which both have"
			}
			r.fault(v.pos, "quantizer.activation_bits beside preset "+stringOf(preset), what)
		}
	}
	c := n.get("calibration")
	if c == nil {
		return
	}
	if !quantized {
		r.fault(c.pos, "calibration without a quantizer", "quantizer, preset, front.quantizer or back.quantizer beside it")
	}
	given := 0
	for _, k := range []string{"file", "text", "task"} {
		if c.get(k) != nil {
			given++
		}
	}
	if given != 1 && c.kind == mappingNode {
		r.fault(c.pos, "calibration names no source or several", "one of file, text and task")
	}
}

// checkQuantizer asks for the baseline that a quantizer changes, unless one goes without saying.
func (r *reader) checkQuantizer(q *node, where string, mayOmit bool) {
	if q != nil && q.kind == mappingNode && (q.get("preset") == nil) == (q.get("file") == nil) && !(mayOmit && q.get("file") == nil) {
		r.fault(q.pos, where+" names no baseline, or two", "one of preset and file")
	}
}
