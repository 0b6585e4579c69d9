package runner

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"splitbench/experiments/spec"
	"splitbench/results"
)

// The environment variables that turn this test binary into a run.
const (
	childSpec = "SPLITBENCH_TEST_SPEC"
	childOut  = "SPLITBENCH_TEST_OUT"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childSpec); path != "" {
		s, err := spec.Load(path, spec.LoadOptions{})
		if err == nil {
			_, err = Run(context.Background(), s, Options{Out: os.Getenv(childOut), Version: "test"})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "splitbench-runner")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CACHE_HOME", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// longSpec writes a spec whose cells have many blocks.
func longSpec(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	r := rand.New(rand.NewPCG(5, 5))
	words := strings.Fields("the lamp is near a rope under that boat behind one clock and each ladder")
	for text.Len() < 50_000 {
		text.WriteString(" " + words[r.IntN(len(words))])
		if r.IntN(15) == 0 {
			text.WriteString(" .\n")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "wiki.test.raw"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "long.yaml")
	yaml := `name: long
models: [{name: tiny, path: "builtin:random-tiny"}]
tasks: [{name: wikitext2, block: 128, path: wiki.test.raw}, {name: piqa, path: "builtin:toy"}]
methods:
  - {name: fp32}
  - {name: split, split_layer: 2, front: {weight_bits: 4, group: 32}, boundary: {codec: literal, max_activation_bits: 4}}
outputs: [perplexity_vs_layer]
`
	if err := os.WriteFile(path, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// runChild starts a run in a process of its own.
func runChild(t *testing.T, path, out string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), childSpec+"="+path, childOut+"="+out)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// fingerprint hashes what must be equal between two runs of one spec: every
// Parquet file, and the cell files without what was measured.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch filepath.Ext(path) {
		case ".parquet":
		case ".json":
			if filepath.Dir(rel) != "cells" {
				return nil
			}
			var c map[string]any
			if err := json.Unmarshal(data, &c); err != nil {
				return err
			}
			delete(c, "measured")
			if data, err = json.Marshal(c); err != nil {
				return err
			}
		default:
			return nil
		}
		out[rel] = fmt.Sprintf("%x", sha256.Sum256(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameFiles(t *testing.T, have, want map[string]string) {
	t.Helper()
	if len(have) != len(want) || len(want) < 5 {
		t.Fatalf("%d files, expected %d", len(have), len(want))
	}
	for name, sum := range want {
		if have[name] != sum {
			t.Errorf("%s differs from that of the undisturbed run", name)
		}
	}
}

// TestKill kills runs with SIGKILL at random moments and lets them go on: all
// files must equal those of an undisturbed run. SPLITBENCH_KILLS sets how
// many kills (default 3).
func TestKill(t *testing.T) {
	kills := 3
	if v := os.Getenv("SPLITBENCH_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	path := longSpec(t)
	calm := filepath.Join(t.TempDir(), "calm")
	start := time.Now()
	if err := runChild(t, path, calm).Wait(); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(start)
	want := fingerprint(t, calm)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	out := ""
	killed, finished, midCell := 0, 0, 0
	for killed < kills {
		if out == "" {
			out = filepath.Join(t.TempDir(), "run")
		}
		c := runChild(t, path, out)
		done := make(chan error, 1)
		go func() { done <- c.Wait() }()
		// Up to half of a whole run, so that several kills hit one run.
		wait := time.Duration(float64(whole) * (.05 + .45*r.Float64()))
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			sameFiles(t, fingerprint(t, out), want)
			finished++
			out = ""
			continue
		case <-time.After(wait):
		}
		c.Process.Kill()
		<-done
		killed++
		if found, _ := filepath.Glob(filepath.Join(out, "cells", "*.journal")); len(found) > 0 {
			midCell++
		}
	}
	if err := runChild(t, path, out).Wait(); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, fingerprint(t, out), want)
	t.Logf("%d kills, %d of them inside a cell; %d runs came to their end in between; an undisturbed run takes %v", killed, midCell, finished, whole.Round(time.Millisecond))
}

// TestResumeUsesJournal: an interrupted run keeps its blocks, says so and
// does not compute them again.
func TestResumeUsesJournal(t *testing.T) {
	path := longSpec(t)
	s, err := spec.Load(path, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	calm, out := filepath.Join(t.TempDir(), "calm"), filepath.Join(t.TempDir(), "run")
	if _, err := Run(context.Background(), s, Options{Out: calm, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	// Stop as soon as the first journal has blocks.
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for i := 0; i < 2000; i++ {
			time.Sleep(2 * time.Millisecond)
			found, _ := filepath.Glob(filepath.Join(out, "cells", "*.journal"))
			for _, f := range found {
				if info, err := os.Stat(f); err == nil && info.Size() > 8_000 {
					return
				}
			}
		}
	}()
	sum, err := Run(ctx, s, Options{Out: out, Version: "test"})
	if err != nil || !sum.Interrupted {
		t.Fatalf("interrupted %v, error %v", sum != nil && sum.Interrupted, err)
	}
	var log bytes.Buffer
	sum, err = Run(context.Background(), s, Options{Out: out, Version: "test", Progress: &log})
	if err != nil || sum.Interrupted {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "going on after") {
		t.Errorf("the resumed run does not say that it goes on:\n%s", log.String())
	}
	sameFiles(t, fingerprint(t, out), fingerprint(t, calm))
	// A third run has nothing to do.
	if sum, err = Run(context.Background(), s, Options{Out: out, Version: "test"}); err != nil || sum.Computed != 0 || sum.Skipped != sum.Cells {
		t.Errorf("the third run computed %d of %d cells, error %v", sum.Computed, sum.Cells, err)
	}
}

// TestForeignJournal: a journal whose rows are not those of this program is
// thrown away.
func TestForeignJournal(t *testing.T) {
	path := longSpec(t)
	s, err := spec.Load(path, spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	calm, out := filepath.Join(t.TempDir(), "calm"), filepath.Join(t.TempDir(), "run")
	if _, err := Run(context.Background(), s, Options{Out: calm, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	w := NewWorkbench(Compute{})
	jobs, err := jobsOf(w, s)
	if err != nil {
		t.Fatal(err)
	}
	store, err := results.Create(out, s.YAML(), results.Manifest{Name: s.Name})
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range jobs {
		p, err := w.Prepare(j.cell)
		if err != nil {
			t.Fatal(err)
		}
		journal, _, _, err := store.Journal(j.key)
		if err != nil {
			t.Fatal(err)
		}
		row := p.Units[0].Rows[0]
		row.Cell, row.Doc = j.key, row.Doc+int32(i)
		rows := []results.Row{row}
		if j.cell.Method.SplitLayer > 0 && i > 0 { // right rows, wrong scores
			rows = nil
			for _, u := range blocksOf(p.Units, blockTokens)[0] {
				for _, r := range u.Rows {
					r.Cell, r.Point, r.LogProb = j.key, Point(j.cell, j.extra), -1
					rows = append(rows, r)
				}
			}
		}
		if err := journal.Append(0, rows); err != nil {
			t.Fatal(err)
		}
		journal.Close()
	}
	store.Close()
	if _, err := Run(context.Background(), s, Options{Out: out, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	sameFiles(t, fingerprint(t, out), fingerprint(t, calm))
}

// TestFailedCells: failures become the status of their cell, the others run.
func TestFailedCells(t *testing.T) {
	s, err := spec.Load(longSpec(t), spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    Options
		want results.Status
	}{{Options{CellTimeout: time.Nanosecond}, results.StatusTimeout}, {Options{MemoryLimit: 1 << 20}, results.StatusOOM}} {
		c.o.Out, c.o.Version = filepath.Join(t.TempDir(), "run"), "test"
		sum, err := Run(context.Background(), s, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if len(sum.Failed) != sum.Cells {
			t.Fatalf("%d of %d cells failed, expected all", len(sum.Failed), sum.Cells)
		}
		for _, f := range sum.Failed {
			if f.Status != c.want || f.Error == "" || strings.Contains(f.Error, "\n") {
				t.Errorf("status %s, error %q, expected %s and one line", f.Status, f.Error, c.want)
			}
		}
		// Failed cells are tried again.
		c.o.CellTimeout, c.o.MemoryLimit = 0, 0
		if sum, err = Run(context.Background(), s, c.o); err != nil || len(sum.Failed) != 0 || sum.Computed != sum.Cells {
			t.Fatalf("second run: %d computed, %d failed, error %v", sum.Computed, len(sum.Failed), err)
		}
	}
}

// TestSecondRun: two runs of one spec in one directory do not mix.
func TestSecondRun(t *testing.T) {
	s, err := spec.Load(longSpec(t), spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "run")
	store, err := results.Create(out, s.YAML(), results.Manifest{Name: s.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := Run(context.Background(), s, Options{Out: out, Version: "test"}); !errors.Is(err, results.ErrLocked) {
		t.Errorf("error %v, expected %v", err, results.ErrLocked)
	}
}

// TestTiming: seconds per row exist only when the spec asks for them.
func TestTiming(t *testing.T) {
	for _, timing := range []bool{false, true} {
		s, err := spec.Load(longSpec(t), spec.LoadOptions{Set: []string{fmt.Sprintf("timing=%v", timing), "tasks.wikitext2.limit=3", "tasks.piqa.limit=3"}})
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "run")
		if _, err := Run(context.Background(), s, Options{Out: out, Version: "test"}); err != nil {
			t.Fatal(err)
		}
		rows, err := results.ReadFile(filepath.Join(out, "run.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if (r.EdgeSeconds != nil) != timing || timing && *r.CloudSeconds <= 0 {
				t.Fatalf("timing %v: row has seconds %v, %v", timing, r.EdgeSeconds, r.CloudSeconds)
			}
		}
	}
}

// TestMemory compares the estimate with a hand count: 8 layers of width 64,
// 4 query heads and 2 key/value heads of 16, intermediate 176, vocabulary 354.
func TestMemory(t *testing.T) {
	s, err := spec.Load(longSpec(t), spec.LoadOptions{Set: []string{"tasks.piqa.limit=2"}})
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorkbench(Compute{})
	cells, err := s.Cells(w.Layers)
	if err != nil {
		t.Fatal(err)
	}
	const layer = 64*64*2 + 2*64*32 + 3*64*176 + 2*64
	const total = 8*layer + 354*64 + 64
	for _, c := range cells {
		p, err := w.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		m, err := w.Memory(c, p)
		if err != nil {
			t.Fatal(err)
		}
		if m.Weights != 4*total {
			t.Errorf("%s: weights %d, expected %d", c.Label(), m.Weights, 4*total)
		}
		wantQ := int64(0)
		if c.Method.SplitLayer > 0 {
			linear := int64(layer - 2*64)
			wantQ = 2 * (linear*4/8 + 5*linear/32)
		}
		if m.Quantised != wantQ {
			t.Errorf("%s: quantised weights %d, expected %d", c.Label(), m.Quantised, wantQ)
		}
		rows := min(int64(2048), p.InputTokens)
		if m.Cache != 2*4*rows*32*8 {
			t.Errorf("%s: cache %d, expected %d", c.Label(), m.Cache, 2*4*rows*32*8)
		}
	}
}

func TestMeminfo(t *testing.T) {
	for text, want := range map[string]int64{"MemTotal: 5 kB\nMemAvailable:    1024 kB\n": 1 << 20, "": 0, "MemAvailable: x kB": 0, "MemAvailable: -5 kB": 0} {
		if got := meminfoAvailable(text); got != want {
			t.Errorf("%q: %d, expected %d", text, got, want)
		}
	}
}

// TestPlan: tokens and documents of a plan are those of the prepared tasks.
func TestPlan(t *testing.T) {
	s, err := spec.Load(longSpec(t), spec.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorkbench(Compute{})
	p, err := MakePlan(w, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Cells) != 4 {
		t.Fatalf("%d cells, expected 4", len(p.Cells))
	}
	var sum int64
	for _, c := range p.Cells {
		sum += c.InputTokens
		if c.Task == "piqa" && (c.Documents != 60 || c.Requests != 120) {
			t.Errorf("piqa has %d documents and %d requests, expected 60 and 120", c.Documents, c.Requests)
		}
		if c.Task == "wikitext2" && (c.InputTokens != int64(c.Documents)*127 || c.ScoredTokens != c.InputTokens) {
			t.Errorf("wikitext2: %d tokens read and %d scored in %d blocks of 128", c.InputTokens, c.ScoredTokens, c.Documents)
		}
	}
	if p.InputTokens != sum || p.FLOP <= 0 || p.EstimateSeconds <= 0 {
		t.Errorf("plan %d tokens, cells %d; %v operations, %v seconds", p.InputTokens, sum, p.FLOP, p.EstimateSeconds)
	}
	if err := p.Check(0); err != nil {
		t.Error(err)
	}
	if err := p.Check(1 << 20); !errors.Is(err, ErrMemory) || strings.Count(err.Error(), "needs") != 4 {
		t.Errorf("error %v, expected one line for each of the 4 cells", err)
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil || strings.Count(b.String(), "\n") != 6 {
		t.Errorf("plan text (error %v):\n%s", err, b.String())
	}
}
