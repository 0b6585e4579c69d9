package results

import (
	"encoding/json"
	"io"
	"runtime"
	"strings"
)

// MeasurementSchema is the version of the form of Measurement in files.
const MeasurementSchema = 1

// Measurement is one number of a benchmark: counted (bytes) or timed over
// several rounds, with what it belongs to. Columns that have no meaning for a
// measurement are empty or nil. It holds no date, so that equal counted numbers
// of two runs are equal rows.
type Measurement struct {
	Bench   string `parquet:"bench" json:"bench"`     // the benchmark: codec or cpu
	Table   string `parquet:"table" json:"table"`     // the table of the benchmark that shows it
	Input   string `parquet:"input" json:"input"`     // data set, shape or model measured on
	Subject string `parquet:"subject" json:"subject"` // codec, coder, kernel or program measured
	Metric  string `parquet:"metric" json:"metric"`
	Unit    string `parquet:"unit" json:"unit"`

	Threshold         *float64 `parquet:"threshold,optional" json:"threshold,omitempty"`                     // tau
	MaxActivationBits *int32   `parquet:"max_activation_bits,optional" json:"max_activation_bits,omitempty"` // Qa-bar
	MessageTokens     *int32   `parquet:"message_tokens,optional" json:"message_tokens,omitempty"`           // tokens of one message
	Weights           string   `parquet:"weights" json:"weights,omitempty"`                                  // type of the weights
	Rows              *int32   `parquet:"rows,optional" json:"rows,omitempty"`                               // M of a product, tokens of a pass
	Out               *int32   `parquet:"out,optional" json:"out,omitempty"`                                 // outputs of a linear map
	In                *int32   `parquet:"in,optional" json:"in,omitempty"`                                   // inputs of a linear map
	Threads           int32    `parquet:"threads" json:"threads"`

	// Value is the median over Rounds where Rounds is positive, else a count.
	Value float64 `parquet:"value" json:"value"`
	// Best, Q1 and Q3 are the best round and the quartiles of a timed value.
	Best *float64 `parquet:"best,optional" json:"best,omitempty"`
	Q1   *float64 `parquet:"q1,optional" json:"q1,omitempty"`
	Q3   *float64 `parquet:"q3,optional" json:"q3,omitempty"`
	// Rounds is the number of interleaved rounds, 0 for what is not timed.
	Rounds int32 `parquet:"rounds" json:"rounds"`
	// Rival names what Ratio compares with: the median over the rounds of the
	// subject's rate divided by the rival's in the same round.
	Rival string   `parquet:"rival" json:"rival,omitempty"`
	Ratio *float64 `parquet:"ratio,optional" json:"ratio,omitempty"`
}

// Setup says what made measurements: the program, its toolchain and the computer.
type Setup struct {
	Version     string `parquet:"version" json:"version"`
	GoVersion   string `parquet:"go_version" json:"go_version"`
	OS          string `parquet:"os" json:"os"`
	Arch        string `parquet:"arch" json:"arch"`
	CPUs        int32  `parquet:"cpus" json:"cpus"`
	CPUModel    string `parquet:"cpu_model" json:"cpu_model"`
	CPUFeatures string `parquet:"cpu_features" json:"cpu_features"` // separated by spaces
}

// ThisSetup describes the running program, of the given version, on this
// computer. The features are those of the CPU that kernels choose by.
func ThisSetup(version string, features []string) Setup {
	h := ThisHost()
	return Setup{
		Version: version, GoVersion: runtime.Version(), OS: h.OS, Arch: h.Arch,
		CPUs: int32(h.CPUs), CPUModel: h.CPUModel, CPUFeatures: strings.Join(features, " "),
	}
}

// MeasurementRow is a Measurement as one row of a Parquet file, which has no
// other place for its setup.
type MeasurementRow struct {
	Measurement
	Setup
}

// WriteMeasurements writes measurements as one Parquet file. Equal measurements
// give equal bytes.
func WriteMeasurements(w io.Writer, p Setup, list []Measurement) error {
	rows := make([]MeasurementRow, len(list))
	for i, m := range list {
		rows[i] = MeasurementRow{m, p}
	}
	pw := newParquetWriter[MeasurementRow](w, MeasurementSchema)
	if _, err := pw.Write(rows); err != nil {
		return err
	}
	return pw.Close()
}

// EncodeMeasurements writes measurements as one JSON object with the keys
// schema, provenance, notes and measurements.
func EncodeMeasurements(w io.Writer, p Setup, notes []string, list []Measurement) error {
	if notes == nil {
		notes = []string{}
	}
	if list == nil {
		list = []Measurement{}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Schema       int           `json:"schema"`
		Provenance   Setup         `json:"provenance"`
		Notes        []string      `json:"notes"`
		Measurements []Measurement `json:"measurements"`
	}{MeasurementSchema, p, notes, list})
}
