package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ServerSchema is the version of the form of server.json.
const ServerSchema = 1

// maxServerJSON bounds the bytes of server.json that are read: some hundred bytes for each of at most some
// ten thousand points.
const maxServerJSON = 16 << 20

// Server is what a model of a server that many devices share gave (arXiv 2511.04002, Fig. 5): numbers of a
// simulation, of nothing that was run.
type Server struct {
	Schema int `json:"schema"` // set by WriteServer
	// Key identifies the settings and the models' dimensions.
	Key string `json:"key"`
	// Notes are the hardware and the workload, a line each.
	Notes  []string       `json:"notes"`
	Times  []ServerTime   `json:"times"`
	Tokens []ServerTokens `json:"tokens"`
}

// Estimate is a mean over seeds with its standard error, 0 where there is one seed.
type Estimate struct {
	Mean   float64 `json:"mean"`
	Stderr float64 `json:"stderr"`
}

// ServerTime is one point of a simulation. Times are in seconds; all values are of one run of all devices.
type ServerTime struct {
	Model string `json:"model"`
	// Panel says how jobs arrive and are batched: burst, closed, poisson or static.
	Panel string `json:"panel"`
	// MaxTokens is W-bar, 0 for cloud-only.
	MaxTokens int `json:"max_tokens"`
	Devices   int `json:"devices"`
	Seeds     int `json:"seeds"`
	// Residence is the sum over jobs of the time from arrival at the server to the end, Busy that of the
	// server's steps, Makespan the time to the end of the last job.
	Residence Estimate `json:"residence"`
	Busy      Estimate `json:"busy"`
	Makespan  Estimate `json:"makespan"`
	// Visits are the jobs that reach the server, Tokens those it generates, Batch the mean number of sequences
	// in a step, Preemptions the sequences that lost their cache.
	Visits      float64 `json:"visits"`
	Tokens      float64 `json:"tokens"`
	Batch       float64 `json:"batch"`
	Preemptions float64 `json:"preemptions"`
}

// ServerTokens is the expected number of tokens that the server generates for a request.
type ServerTokens struct {
	MaxTokens int     `json:"max_tokens"`
	Tokens    float64 `json:"tokens"`
}

// WriteServer stores s with the run; nil removes what is stored. What Server would not read is not written.
func (r *Run) WriteServer(s *Server) error {
	if s == nil {
		if err := os.Remove(r.serverPath()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	s.Schema = ServerSchema
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("server.json: %w", err)
	}
	b = append(b, '\n')
	if len(b) > maxServerJSON {
		return fmt.Errorf("server.json: %d bytes for %d points, expected at most %d bytes", len(b), len(s.Times)+len(s.Tokens), maxServerJSON)
	}
	if _, err := decodeServer(b); err != nil {
		return fmt.Errorf("server.json: %w", err)
	}
	return writeBytes(r.serverPath(), b)
}

func (r *Run) serverPath() string { return filepath.Join(r.Dir(), "server.json") }

// Server reads what is stored with the run, nil where there is none.
func (r *Run) Server() (*Server, error) {
	b, err := readLimited(r.serverPath(), maxServerJSON)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := decodeServer(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.serverPath(), err)
	}
	return s, nil
}

func decodeServer(b []byte) (*Server, error) {
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("no results of a modelled server: %w", err)
	}
	if head.Schema != ServerSchema {
		return nil, fmt.Errorf("%w %d, this program reads version %d", ErrSchema, head.Schema, ServerSchema)
	}
	var s Server
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("no results of a modelled server: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the JSON object")
	}
	for i, t := range s.Times {
		for _, v := range []float64{t.Residence.Mean, t.Residence.Stderr, t.Busy.Mean, t.Busy.Stderr, t.Makespan.Mean, t.Makespan.Stderr, t.Visits, t.Tokens, t.Batch, t.Preemptions} {
			if !(v >= 0) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("time %d has the value %v, expected 0 or more", i, v)
			}
		}
		if t.Devices < 1 || t.MaxTokens < 0 || t.Seeds < 1 {
			return nil, fmt.Errorf("time %d is of %d devices, %d tokens and %d seeds, expected counts", i, t.Devices, t.MaxTokens, t.Seeds)
		}
	}
	for i, t := range s.Tokens {
		if t.MaxTokens < 0 || !(t.Tokens >= 0) || math.IsInf(t.Tokens, 0) {
			return nil, fmt.Errorf("tokens %d are %+v, expected 0 or more", i, t)
		}
	}
	return &s, nil
}

// TokenNotes are the notes that matter for Tokens: no hardware is part of them.
func (s *Server) TokenNotes() []string {
	var out []string
	for _, n := range s.Notes {
		if strings.HasPrefix(n, "Requests:") || strings.HasPrefix(n, "Handover:") {
			out = append(out, n)
		}
	}
	return out
}

// Arm names a curve: cloud-only, or the split with its W-bar.
func (t *ServerTime) Arm() string {
	if t.MaxTokens == 0 {
		return "cloud-only"
	}
	return "split, W = " + strconv.Itoa(t.MaxTokens)
}

// BusierThanCloud says where the server works longer with the split than without, one line, or none.
func BusierThanCloud(times []ServerTime) []string {
	type place struct {
		model, panel string
		devices      int
	}
	cloud := map[place]float64{}
	for _, t := range times {
		if t.MaxTokens == 0 {
			cloud[place{t.Model, t.Panel, t.Devices}] = t.Busy.Mean
		}
	}
	var order []string
	at := map[string][]string{}
	for _, t := range times {
		whole, ok := cloud[place{t.Model, t.Panel, t.Devices}]
		if !ok || t.MaxTokens == 0 || t.Busy.Mean <= whole*(1+1e-9) {
			continue
		}
		name := fmt.Sprintf("%s, %s, W = %d: N = ", t.Model, t.Panel, t.MaxTokens)
		if at[name] == nil {
			order = append(order, name)
		}
		at[name] = append(at[name], strconv.Itoa(t.Devices))
	}
	if order == nil {
		return nil
	}
	out := []string{"Warning: the server is BUSY LONGER with the split than cloud-only where jobs arrive spread out and batches are thin:"}
	for _, name := range order {
		out = append(out, name+strings.Join(at[name], ", "))
	}
	return out
}

// Tables returns the tables of the modelled server: its times, and its tokens.
func (s *Server) Tables() []Table {
	const kind = "modelled"
	notes := append([]string{"Modelled by a simulation, not measured."}, s.Notes...)
	times := Table{
		Name: "server_time", Title: "Modelled time of a server that many devices share, mean ± standard error over seeds.",
		Columns: []Column{{Name: "Kind"}, {Name: "Model"}, {Name: "Arrivals"}, {Name: "Arm"}, {Name: "Devices", Numeric: true}, {Name: "Seeds", Numeric: true},
			{Name: "Residence (min)", Numeric: true, Digits: 3, WithStderr: true}, {Name: "Busy (min)", Numeric: true, Digits: 3, WithStderr: true}, {Name: "Makespan (min)", Numeric: true, Digits: 3, WithStderr: true},
			{Name: "Jobs on the server", Numeric: true, Digits: 1}, {Name: "Tokens", Numeric: true, Digits: 1}, {Name: "Sequences per step", Numeric: true, Digits: 2}, {Name: "Preemptions", Numeric: true, Digits: 1}},
		Notes: append(append([]string{}, notes...), BusierThanCloud(s.Times)...),
	}
	minutes := func(e Estimate) Value {
		mean, stderr := e.Mean/60, e.Stderr/60
		return Value{Number: &mean, Stderr: &stderr}
	}
	for i := range s.Times {
		t := &s.Times[i]
		times.Rows = append(times.Rows, []Value{text(kind), text(t.Model), text(t.Panel), text(t.Arm()), integer(int64(t.Devices)), integer(int64(t.Seeds)),
			minutes(t.Residence), minutes(t.Busy), minutes(t.Makespan), numeric(t.Visits), numeric(t.Tokens), numeric(t.Batch), numeric(t.Preemptions)})
	}
	tokens := Table{
		Name: "server_tokens", Title: "Modelled tokens that the server generates per request, by the tokens on the edge W.",
		Columns: []Column{{Name: "Kind"}, {Name: "W (tokens)", Numeric: true}, {Name: "Server tokens per request", Numeric: true, Digits: 1}},
		Notes:   append(notes[:1:1], s.TokenNotes()...),
	}
	for _, t := range s.Tokens {
		tokens.Rows = append(tokens.Rows, []Value{text(kind), integer(int64(t.MaxTokens)), numeric(t.Tokens)})
	}
	var out []Table
	for _, t := range []Table{times, tokens} {
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}
