package results

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// Host describes the computer that ran a cell.
type Host struct {
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	CPUs     int    `json:"cpus"`
	CPUModel string `json:"cpu_model,omitempty"`
}

// ThisHost describes the running computer. The CPU model is "" where the system
// does not say.
func ThisHost() Host {
	h := Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return h
	}
	defer f.Close()
	h.CPUModel = cpuModel(f)
	return h
}

// cpuModel reads the model of the first CPU that names one.
func cpuModel(r io.Reader) string {
	s := bufio.NewScanner(io.LimitReader(r, 1<<20))
	for s.Scan() {
		k, v, _ := strings.Cut(s.Text(), ":")
		switch strings.TrimSpace(k) {
		case "model name", "cpu model", "Model":
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// ManifestCell is one cell of a run.
type ManifestCell struct {
	Key   string `json:"key"`
	Label string `json:"label"`
}

// Manifest is the content of manifest.json: what made the run.
type Manifest struct {
	// Schema is set by Create.
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	// Created is when the run directory was made, in UTC.
	Created   time.Time `json:"created"`
	Version   string    `json:"version"`
	GoVersion string    `json:"go_version"`
	Host      Host      `json:"host"`
	Command   []string  `json:"command"`
	// Digests maps what was read (a model, a tokenizer, a data file) to its SHA-256.
	Digests map[string]string `json:"digests,omitempty"`
	// Cells are all cells of the spec, in its order.
	Cells []ManifestCell `json:"cells"`
	// Started is when the program last began to work on the run, Finished when it
	// last came to the end of it; nil while it has not.
	Started  time.Time  `json:"started"`
	Finished *time.Time `json:"finished"`
}

func (m *Manifest) check() error {
	seen := make(map[string]bool, len(m.Cells))
	for _, c := range m.Cells {
		if err := checkKey(c.Key); err != nil {
			return err
		}
		if seen[c.Key] {
			return fmt.Errorf("cell %s is listed twice", c.Key)
		}
		seen[c.Key] = true
	}
	return nil
}

func encodeManifest(m *Manifest) ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

func decodeManifest(b []byte) (Manifest, error) {
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Manifest{}, fmt.Errorf("not a manifest: %w", err)
	}
	if head.Schema == nil {
		return Manifest{}, errors.New(`not a manifest: no "schema"`)
	}
	if *head.Schema != SchemaVersion {
		return Manifest{}, fmt.Errorf("%w %d, this program reads version %d", ErrSchema, *head.Schema, SchemaVersion)
	}
	var m Manifest
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("not a manifest: %w", err)
	}
	return m, m.check()
}
