package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Status says how a cell ended.
type Status string

// The ways a cell can end. All of them are results: a point that does not fit
// into memory stays in the tables as such.
const (
	StatusOK      Status = "ok"
	StatusOOM     Status = "oom"
	StatusError   Status = "error"
	StatusTimeout Status = "timeout"
)

// Errors of reading stored files; each is wrapped with the file at fault.
var (
	// ErrBroken marks a cell whose files are missing, damaged or contradict each
	// other. Such a cell counts as not done.
	ErrBroken = errors.New("broken cell")
	// ErrSchema marks a file of another schema version. A cell of an older one is
	// ErrBroken instead: it is to be run again.
	ErrSchema = errors.New("unsupported schema version")
)

// maxCellJSON bounds the bytes of a cell file that are read. The largest part,
// an activation histogram, has at most a few hundred bins.
const maxCellJSON = 16 << 20

// Metric is one aggregate of a cell.
type Metric struct {
	Name string `json:"name"`
	// Value is the aggregate, not in percent. It may be infinite (a perplexity);
	// JSON then holds the string "Inf", "-Inf" or "NaN".
	Value float64 `json:"value"`
	// Stderr is the standard error of Value, nil where there is none.
	Stderr *float64 `json:"stderr"`
	// N is the number of documents or blocks aggregated.
	N              int64 `json:"n"`
	HigherIsBetter bool  `json:"higher_is_better"`
}

// number is a float64 that JSON can hold even when it is not finite.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	v := float64(n)
	switch {
	case math.IsNaN(v):
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Inf"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Inf"`), nil
	}
	return json.Marshal(v)
}

func (n *number) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"NaN"`:
		*n = number(math.NaN())
		return nil
	case `"Inf"`:
		*n = number(math.Inf(1))
		return nil
	case `"-Inf"`:
		*n = number(math.Inf(-1))
		return nil
	case "null":
		return errors.New("a number is null")
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("%.40s is not a number", b)
	}
	*n = number(v)
	return nil
}

type metricJSON struct {
	Name           string  `json:"name"`
	Value          *number `json:"value"`
	Stderr         *number `json:"stderr"`
	N              int64   `json:"n"`
	HigherIsBetter bool    `json:"higher_is_better"`
}

// MarshalJSON implements json.Marshaler.
func (m Metric) MarshalJSON() ([]byte, error) {
	return json.Marshal(metricJSON{m.Name, (*number)(&m.Value), (*number)(m.Stderr), m.N, m.HigherIsBetter})
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Metric) UnmarshalJSON(b []byte) error {
	var j metricJSON
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return err
	}
	if j.Value == nil {
		return fmt.Errorf("metric %q has no value", j.Name)
	}
	*m = Metric{j.Name, float64(*j.Value), (*float64)(j.Stderr), j.N, j.HigherIsBetter}
	return nil
}

// Payload sums what the requests of a cell sent over the boundary, in bytes.
type Payload struct {
	// Requests counts the rows that sent anything, Tokens the hidden-state rows
	// they sent.
	Requests int64 `json:"requests"`
	Tokens   int64 `json:"tokens"`
	// Total is the sum of the five parts; KV is counted apart.
	Total  int64 `json:"total"`
	Header int64 `json:"header"`
	Tables int64 `json:"tables"`
	Codes  int64 `json:"codes"`
	Side   int64 `json:"side"`
	Sparse int64 `json:"sparse"`
	KV     int64 `json:"kv"`
	// HiddenSize is the width of a hidden-state row in values.
	HiddenSize int64 `json:"hidden_size"`
}

// SummarizePayload adds up the payload columns of rows. hiddenSize is the width
// of the model's hidden state in values.
func SummarizePayload(rows []Row, hiddenSize int) Payload {
	p := Payload{HiddenSize: int64(hiddenSize)}
	for i := range rows {
		r := &rows[i]
		if r.PayloadTokens > 0 || r.PayloadBytes > 0 {
			p.Requests++
		}
		p.Tokens += int64(r.PayloadTokens)
		p.Total += r.PayloadBytes
		p.Header += r.PayloadHeader
		p.Tables += r.PayloadTables
		p.Codes += r.PayloadCodes
		p.Side += r.PayloadSide
		p.Sparse += r.PayloadSparse
		p.KV += r.KVPayloadBytes
	}
	return p
}

// Add returns the sum of two payloads. The hidden size is p's, or q's where p
// has none.
func (p Payload) Add(q Payload) Payload {
	p.Requests += q.Requests
	p.Tokens += q.Tokens
	p.Total += q.Total
	p.Header += q.Header
	p.Tables += q.Tables
	p.Codes += q.Codes
	p.Side += q.Side
	p.Sparse += q.Sparse
	p.KV += q.KV
	if p.HiddenSize == 0 {
		p.HiddenSize = q.HiddenSize
	}
	return p
}

// PerToken returns bytes per hidden-state row sent, 0 when none was.
func (p Payload) PerToken(bytes int64) float64 {
	if p.Tokens == 0 {
		return 0
	}
	return float64(bytes) / float64(p.Tokens)
}

// MeanTokens returns the mean number of hidden-state rows per sending request.
func (p Payload) MeanTokens() float64 {
	if p.Requests == 0 {
		return 0
	}
	return float64(p.Tokens) / float64(p.Requests)
}

// RawPerToken returns the bytes of one hidden-state row in 16-bit values.
func (p Payload) RawPerToken() float64 { return 2 * float64(p.HiddenSize) }

// Below returns the bytes of the values below the threshold: codes and the side
// information of their quantiser. Sparse holds those above it.
func (p Payload) Below() int64 { return p.Codes + p.Side }

// Shares returns the shares of Total that lie below the threshold, above it, and
// in neither (header and tables). They add up to 1, or are 0 without payload.
func (p Payload) Shares() (below, above, rest float64) {
	if p.Total == 0 {
		return 0, 0, 0
	}
	t := float64(p.Total)
	return float64(p.Below()) / t, float64(p.Sparse) / t, float64(p.Header+p.Tables) / t
}

// Histogram counts activation magnitudes |x| at the boundary.
type Histogram struct {
	// Edges are ascending; bin i holds Edges[i] <= |x| < Edges[i+1], so there is
	// one edge more than there are counts.
	Edges  []float64 `json:"edges"`
	Counts []int64   `json:"counts"`
	// Under counts |x| < Edges[0], exact zeros among them; Over counts |x| not
	// below the last edge, infinities and NaN among them.
	Under int64 `json:"under"`
	Over  int64 `json:"over"`
}

// Total returns the number of values counted.
func (h *Histogram) Total() int64 {
	n := h.Under + h.Over
	for _, c := range h.Counts {
		n += c
	}
	return n
}

func (h *Histogram) check() error {
	if len(h.Edges) != len(h.Counts)+1 || len(h.Counts) == 0 {
		return fmt.Errorf("histogram has %d edges and %d counts, expected one edge more than counts", len(h.Edges), len(h.Counts))
	}
	for i := 1; i < len(h.Edges); i++ {
		if !(h.Edges[i] > h.Edges[i-1]) {
			return fmt.Errorf("histogram edge %d is not above edge %d", i, i-1)
		}
	}
	for i, c := range h.Counts {
		if c < 0 {
			return fmt.Errorf("histogram count %d is negative", i)
		}
	}
	if h.Under < 0 || h.Over < 0 {
		return errors.New("histogram count outside the edges is negative")
	}
	return nil
}

// Provenance says what made a cell.
type Provenance struct {
	Version         string `json:"version"`
	GoVersion       string `json:"go_version"`
	ModelDigest     string `json:"model_digest"`
	TokenizerDigest string `json:"tokenizer_digest"`
	DataDigest      string `json:"data_digest"`
	Host            Host   `json:"host"`
}

// Measured holds everything of a cell that may differ between two runs.
type Measured struct {
	EdgeSeconds     float64 `json:"edge_seconds"`
	CodecSeconds    float64 `json:"codec_seconds"`
	CloudSeconds    float64 `json:"cloud_seconds"`
	OtherSeconds    float64 `json:"other_seconds"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	// SharedEdge says that boundary tensors of an earlier cell with the same edge
	// were used: EdgeSeconds are those of the rest.
	SharedEdge bool `json:"shared_edge,omitempty"`
	// Twin is the key of the cell whose scores were taken, because the knobs in
	// which the two differ cannot act on these inputs; "" for a cell that was
	// computed.
	Twin string `json:"twin,omitempty"`
}

// CellResult is the content of cells/<key>.json.
type CellResult struct {
	// Schema is set by Commit.
	Schema int    `json:"schema"`
	Key    string `json:"key"`
	Label  string `json:"label"`
	Point
	// Knobs is the canonical JSON whose SHA-256 is Key, without white space between
	// its tokens. A file has it indented; DecodeCell undoes that.
	Knobs json.RawMessage `json:"knobs,omitempty"`

	Status Status `json:"status"`
	// Error is one line, empty when Status is ok.
	Error string `json:"error,omitempty"`

	// Docs is the number of documents or blocks scored, Skipped the ids of those
	// that could not be.
	Docs    int64   `json:"docs"`
	Skipped []int32 `json:"skipped,omitempty"`
	// Truncated counts the requests that lost context tokens on the left, Fallbacks
	// the continuations that were encoded alone; both are counts of rows.
	Truncated int64 `json:"truncated,omitempty"`
	Fallbacks int64 `json:"fallbacks,omitempty"`

	// Rows and RowsSHA256 (of cells/<key>.parquet) are set by Commit.
	Rows       int64  `json:"rows"`
	RowsSHA256 string `json:"rows_sha256"`

	// Primary names the metric that stands for the task in a table.
	Primary string   `json:"primary"`
	Metrics []Metric `json:"metrics"`

	Payload Payload `json:"payload"`
	// StoredBits is the mean number of bits that a linear weight takes as edge and
	// cloud store it, with scales, zeros, orders and outliers; 0 where it is not
	// recorded.
	StoredBits float64 `json:"stored_bits,omitempty"`
	// Activations is nil when the boundary was not looked at.
	Activations *Histogram `json:"activations,omitempty"`

	Provenance Provenance `json:"provenance"`
	Measured   Measured   `json:"measured"`
}

// Metric returns the metric of that name.
func (c *CellResult) Metric(name string) (Metric, bool) {
	for _, m := range c.Metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// PrimaryMetric returns the metric that stands for the task.
func (c *CellResult) PrimaryMetric() (Metric, bool) { return c.Metric(c.Primary) }

func (c *CellResult) check() error {
	if err := checkKey(c.Key); err != nil {
		return err
	}
	switch c.Status {
	case StatusOK, StatusOOM, StatusError, StatusTimeout:
	default:
		return fmt.Errorf("status %q, expected ok, oom, error or timeout", c.Status)
	}
	if c.Rows < 0 || c.Docs < 0 || c.Truncated < 0 || c.Fallbacks < 0 {
		return errors.New("a negative count of rows, docs, truncated or fallbacks")
	}
	if c.Status == StatusOK {
		if _, ok := c.PrimaryMetric(); !ok && len(c.Metrics) > 0 {
			return fmt.Errorf("primary metric %q is not among the metrics", c.Primary)
		}
	}
	if c.Activations != nil {
		return c.Activations.check()
	}
	return nil
}

func checkKey(key string) error {
	if len(key) != 64 {
		return fmt.Errorf("cell key %.80q has %d characters, expected 64 hexadecimal digits", key, len(key))
	}
	for _, c := range []byte(key) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("cell key %q is not 64 lower-case hexadecimal digits", key)
		}
	}
	return nil
}

// EncodeCell writes c as indented JSON with a final newline.
func EncodeCell(w io.Writer, c *CellResult) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // the knobs must come back as they were hashed
	if err := e.Encode(c); err != nil {
		return fmt.Errorf("cell %s: %w", c.Key, err)
	}
	return nil
}

// DecodeCell reads one cell file. The schema version is looked at first, so that
// a newer file is reported as such and not as one with unknown fields.
func DecodeCell(b []byte) (CellResult, error) {
	if len(b) > maxCellJSON {
		return CellResult{}, fmt.Errorf("%d bytes, expected at most %d", len(b), maxCellJSON)
	}
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return CellResult{}, fmt.Errorf("not a cell file: %w", err)
	}
	if head.Schema == nil {
		return CellResult{}, errors.New(`not a cell file: no "schema"`)
	}
	if *head.Schema > SchemaVersion {
		return CellResult{}, fmt.Errorf("%w %d, this program reads version %d", ErrSchema, *head.Schema, SchemaVersion)
	}
	if *head.Schema < SchemaVersion {
		return CellResult{}, fmt.Errorf("schema version %d, this program reads version %d", *head.Schema, SchemaVersion)
	}
	var c CellResult
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return CellResult{}, fmt.Errorf("not a cell file: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return CellResult{}, errors.New("not a cell file: text after the JSON object")
	}
	if err := c.check(); err != nil {
		return CellResult{}, err
	}
	c.Point.complete()
	if len(c.Knobs) > 0 {
		var compact bytes.Buffer
		if err := json.Compact(&compact, c.Knobs); err != nil {
			return CellResult{}, err
		}
		c.Knobs = compact.Bytes()
	}
	return c, nil
}
