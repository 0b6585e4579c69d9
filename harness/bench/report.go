package bench

import (
	"fmt"
	"io"
	"math"

	"splitbench/results"
)

// Report is what a benchmark found: tables for people and the same numbers,
// with more of their spread, for programs.
type Report struct {
	Tables       []results.Table
	Measurements []results.Measurement
	Notes        []string // below the last table, and in JSON
}

// Markdown writes the tables and the notes.
func (r *Report) Markdown(w io.Writer) error {
	for i := range r.Tables {
		t := r.Tables[i]
		if i == len(r.Tables)-1 {
			t.Notes = append(append([]string(nil), t.Notes...), r.Notes...)
		}
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if err := t.Markdown(w); err != nil {
			return err
		}
	}
	return nil
}

// add appends a counted number.
func (r *Report) add(m results.Measurement, metric, unit string, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return // such as the SNR of what came back exactly: there is no number
	}
	m.Metric, m.Unit, m.Value = metric, unit, value
	r.Measurements = append(r.Measurements, m)
}

// addTimed appends a timed number, with its ratio to a rival unless that is nil.
func (r *Report) addTimed(m results.Measurement, metric, unit string, s Summary, rival string, ratio *Summary) {
	m.Metric, m.Unit, m.Value, m.Rounds = metric, unit, s.Median, int32(s.Rounds)
	m.Best, m.Q1, m.Q3 = &s.Best, &s.Q1, &s.Q3
	if ratio != nil {
		m.Rival, m.Ratio = rival, &ratio.Median
	}
	r.Measurements = append(r.Measurements, m)
}

// none stands where a value does not apply.
const none = "-"

func text(s string) results.Value { return results.Value{Text: s} }

// number is v, or none where v is not finite.
func number(v float64) results.Value {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return text(none)
	}
	return results.Value{Number: &v}
}

func integer(v int) results.Value { return number(float64(v)) }

// spread writes the best round and the quartiles of a summary with the given
// decimals. The best one counts on a machine that others load.
func spread(s Summary, digits int) results.Value {
	return text(fmt.Sprintf("%.*f, %.*f-%.*f", digits, s.Best, digits, s.Q1, digits, s.Q3))
}

// numeric is a column of numbers.
func numeric(name string, digits int) results.Column {
	return results.Column{Name: name, Numeric: true, Digits: digits}
}

func plain(names ...string) (list []results.Column) {
	for _, n := range names {
		list = append(list, results.Column{Name: n})
	}
	return list
}

// right is a column of texts that are aligned like numbers.
func right(name string) results.Column { return results.Column{Name: name, Numeric: true} }

func int32p(v int) *int32 {
	n := int32(v)
	return &n
}
