package results

import "strconv"

// SchemaVersion is the version of the row columns and of the cell file. It is
// stored in every file and checked on reading; it belongs into a cell's key.
const SchemaVersion = 1

// Point names what was scored and with which knobs. It is the same for all rows
// of a cell; the knobs are columns so that DuckDB or pandas can group by them
// without parsing JSON.
type Point struct {
	Model    string `parquet:"model" json:"model"`
	Task     string `parquet:"task" json:"task"`
	Protocol string `parquet:"protocol" json:"protocol"`
	Method   string `parquet:"method" json:"method"`

	// SplitLayer is l: layers 1..l run on the edge. 0 means not split.
	SplitLayer int32 `parquet:"split_layer" json:"split_layer"`
	// WeightLayer is l_w, the precision boundary of the weights (arXiv
	// 2511.04002, section 2.2): layers 1..l_w have FrontBits, the others BackBits.
	WeightLayer int32 `parquet:"weight_layer" json:"weight_layer"`
	// FrontBits and BackBits are weight bits; 16 means not quantised.
	FrontBits int32 `parquet:"front_bits" json:"front_bits"`
	BackBits  int32 `parquet:"back_bits" json:"back_bits"`
	// Group is the number of weights that share one scale, 0 for a whole row: of the
	// front layers, or of the back layers where only those are quantised. BackGroup
	// is that of the back layers.
	Group     int32 `parquet:"group_size" json:"group_size"`
	BackGroup int32 `parquet:"back_group_size" json:"back_group_size"`
	// Codec names the boundary codec, "" when nothing is compressed.
	Codec string `parquet:"codec" json:"codec"`
	// Threshold is tau of threshold splitting (arXiv 2511.04002, Eq. 4).
	Threshold float64 `parquet:"threshold" json:"threshold"`
	// TauBy says what Threshold counts where the boundary quantises: value, quantile
	// (of a row's magnitudes) or rms (multiples of a row's root mean square).
	TauBy string `parquet:"tau_by" json:"tau_by"`
	// MaxActivationBits is Qa-bar, the sign bit included.
	MaxActivationBits int32 `parquet:"max_activation_bits" json:"max_activation_bits"`
	// Delta is the distortion bound of TAB-Q (arXiv 2511.04002, Algorithm 1).
	Delta float64 `parquet:"delta" json:"delta"`
	// The readings of the method that a quantising codec (literal, packed, split1) follows;
	// empty, and LowerBound 0, where they mean nothing. LowerBound is the smallest
	// width tried, in magnitude bits.
	Search      string `parquet:"search" json:"search"`
	StopRule    string `parquet:"stop_rule" json:"stop_rule"`
	Comparison  string `parquet:"comparison" json:"comparison"`
	LowerBound  int32  `parquet:"lower_bound" json:"lower_bound"`
	Granularity string `parquet:"granularity" json:"granularity"`
	AboveType   string `parquet:"above_type" json:"above_type"`
	SparseIndex string `parquet:"sparse_index" json:"sparse_index"`
	ScaleType   string `parquet:"scale_type" json:"scale_type"`
	// What only the codec split1 reads: the lanes of its coder (0: chosen by size),
	// what a code is restored to, and the first digits of the SHA-256 of its files of
	// tables, "" for those built in.
	Lanes    int32  `parquet:"lanes" json:"lanes"`
	Restore  string `parquet:"restore" json:"restore"`
	Tables   string `parquet:"tables" json:"tables"`
	KVTables string `parquet:"kv_tables" json:"kv_tables"`
	// Clamp is the largest magnitude that a value of the boundary tensor kept on its
	// way to the codec, 0 without a limit.
	Clamp float64 `parquet:"clamp" json:"clamp"`
	// MaxTokens is W-bar, the number of leading tokens run on the edge; 0 is all.
	MaxTokens int32 `parquet:"max_tokens" json:"max_tokens"`
	// IncludeKV is I_kv: the keys and values of the edge layers are sent too.
	IncludeKV bool  `parquet:"include_kv" json:"include_kv"`
	Seed      int64 `parquet:"seed" json:"seed"`
	// Block is the number of tokens per block of a block perplexity, 0 elsewhere.
	Block int32 `parquet:"block" json:"block"`
	// Limit says how many documents were used, as the spec writes it: a number, or a
	// share below 1; "" or "0" for all.
	Limit string `parquet:"doc_limit" json:"doc_limit"`
	// MaxLength is the longest input in tokens, 0 where it is not recorded.
	MaxLength int32 `parquet:"max_length" json:"max_length"`

	// Preset names a segment policy, "" for none. Quantizer says in a line what
	// quantization baseline layers 1..WeightLayer have (scheme, bits, groups,
	// clips, search), BackQuantizer that of the others; "" for none, else FrontBits,
	// Group, BackBits and BackGroup are theirs.
	Preset        string `parquet:"preset" json:"preset,omitempty"`
	Quantizer     string `parquet:"quantizer" json:"quantizer,omitempty"`
	BackQuantizer string `parquet:"back_quantizer" json:"back_quantizer,omitempty"`
	// ActivationBits and KVBits are the bits within the blocks that a baseline
	// quantises: of the inputs of linear maps, and of attention tensors. 16 means not
	// quantised, 0 that there is no baseline.
	ActivationBits     int32 `parquet:"activation_bits" json:"activation_bits,omitempty"`
	KVBits             int32 `parquet:"kv_bits" json:"kv_bits,omitempty"`
	BackActivationBits int32 `parquet:"back_activation_bits" json:"back_activation_bits,omitempty"`
	BackKVBits         int32 `parquet:"back_kv_bits" json:"back_kv_bits,omitempty"`
	// Alpha is the exponent of the smoothing or of the initial scales, as it was
	// chosen; 0 without.
	Alpha float64 `parquet:"alpha" json:"alpha,omitempty"`
	// Calibration holds the first digits of the SHA-256 of the tokens that the
	// baselines were calibrated on, "" where they look at none; two, with a space, when
	// the segments have different ones.
	Calibration string `parquet:"calibration" json:"calibration,omitempty"`
}

// laterColumns came after the first files of this schema version, in this order of
// groups; files without the last groups hold points at which they have no meaning, or
// the one value that there was.
var laterColumns = [][]string{
	{"tau_by", "lanes", "restore", "tables", "kv_tables"},
	{"clamp"},
	{"preset", "quantizer", "back_quantizer", "activation_bits", "kv_bits", "back_activation_bits", "back_kv_bits", "alpha", "calibration"},
}

// complete fills in what a point of an older file does not say.
func (p *Point) complete() {
	if p.TauBy == "" && p.Quantising() {
		p.TauBy = "value"
	}
}

// Quantising says whether the boundary quantises, so that the readings of the
// method apply.
func (p *Point) Quantising() bool {
	return p.SplitLayer > 0 && (p.Codec == "literal" || p.Codec == "packed" || p.Codec == "split1")
}

// Tau returns the threshold as labels show it: 5, q0.999 or 3rms.
func (p *Point) Tau() string {
	v := strconv.FormatFloat(p.Threshold, 'g', -1, 64)
	switch p.TauBy {
	case "quantile":
		return "q" + v
	case "rms":
		return v + "rms"
	}
	return v
}

// Row is one scored choice (multiple choice), document (rolling perplexity) or
// block (block perplexity).
type Row struct {
	// Cell is the key of the cell, 64 lower-case hexadecimal digits.
	Cell string `parquet:"cell" json:"cell"`
	Point

	// Doc is the document id, Choice the index of the choice in it, and Gold the
	// index of the right one or -1 where there is none.
	Doc    int32 `parquet:"doc" json:"doc"`
	Choice int32 `parquet:"choice" json:"choice"`
	Gold   int32 `parquet:"gold" json:"gold"`
	// ContextTokens were read, Tokens were scored.
	ContextTokens int32 `parquet:"context_tokens" json:"context_tokens"`
	Tokens        int32 `parquet:"tokens" json:"tokens"`
	// LogProb is the sum of the natural logarithms of the scored tokens'
	// probabilities. Greedy says that each of them was the most probable one.
	LogProb float64 `parquet:"log_prob,uncompressed" json:"log_prob"`
	Greedy  bool    `parquet:"greedy" json:"greedy"`
	// Chars, Bytes and Words measure the scored text: Unicode code points, UTF-8
	// bytes, and words as the task counts them.
	Chars int32 `parquet:"chars" json:"chars"`
	Bytes int32 `parquet:"bytes" json:"bytes"`
	Words int32 `parquet:"words" json:"words"`
	// DroppedLeft is the number of context tokens cut off on the left. Fallback
	// says that the continuation had to be encoded alone.
	DroppedLeft int32 `parquet:"dropped_left" json:"dropped_left"`
	Fallback    bool  `parquet:"fallback" json:"fallback"`

	// PayloadBytes is the size of the boundary message or messages of this
	// request, in bytes, keys and values not included; the other Payload fields
	// are its parts and add up to it.
	PayloadBytes   int64 `parquet:"payload_bytes" json:"payload_bytes"`
	PayloadHeader  int64 `parquet:"payload_header" json:"payload_header"`
	PayloadTables  int64 `parquet:"payload_tables" json:"payload_tables"`
	PayloadCodes   int64 `parquet:"payload_codes" json:"payload_codes"`
	PayloadSide    int64 `parquet:"payload_side" json:"payload_side"`
	PayloadSparse  int64 `parquet:"payload_sparse" json:"payload_sparse"`
	KVPayloadBytes int64 `parquet:"kv_payload_bytes" json:"kv_payload_bytes"`
	// PayloadTokens is the number of hidden-state rows sent.
	PayloadTokens int32 `parquet:"payload_tokens" json:"payload_tokens"`

	// EdgeSeconds and CloudSeconds are null unless the spec asked for timing,
	// because measured times differ between two runs of one spec.
	EdgeSeconds  *float64 `parquet:"edge_seconds,optional,uncompressed" json:"edge_seconds,omitempty"`
	CloudSeconds *float64 `parquet:"cloud_seconds,optional,uncompressed" json:"cloud_seconds,omitempty"`
}
