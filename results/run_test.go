package results

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Environment of a re-executed test binary: what it shall do, and where.
const (
	childEnv = "SPLITBENCH_RESULTS_CHILD"
	dirEnv   = "SPLITBENCH_RESULTS_DIR"
)

// TestLockRemovesTemp takes the lock of a folder in which a writer was killed.
func TestLockRemovesTemp(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".training.safetensors.tmp-123", "model.safetensors"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	release, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Who does not get the lock removes nothing: the writer may be at work.
	half := filepath.Join(dir, "train.csv.tmp-4")
	if err := os.WriteFile(half, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{lockName, "model.safetensors", "train.csv.tmp-4"}; !slices.Equal(names, want) {
		t.Errorf("the folder has %q, expected %q", names, want)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "hold":
		os.Exit(childHold())
	case "work":
		os.Exit(childWork())
	}
}

// childHold takes the lock of a run directory, says so, and holds it until its
// standard input ends.
func childHold() int {
	r, err := Create(os.Getenv(dirEnv), testSpec, testManifest(1))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin)
	if err := r.Close(); err != nil {
		return 1
	}
	return 0
}

// The work of childWork: workCells cells of workBlocks blocks.
const (
	workCells  = 4
	workBlocks = 6
)

// childWork does what is left of the work, and says each step before it.
func childWork() int {
	err := work(os.Getenv(dirEnv), func(step string) { fmt.Println(step) })
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

func work(dir string, step func(string)) error {
	r, err := Create(dir, testSpec, testManifest(workCells))
	if err != nil {
		return err
	}
	defer r.Close()
	for c := range workCells {
		key := testKey(c + 1)
		_, done, err := r.Done(key)
		if err != nil {
			return err
		}
		if done {
			continue
		}
		j, rows, last, err := r.Journal(key)
		if err != nil {
			return err
		}
		all := testRows(key, 10*workBlocks)
		for b := last + 1; b < workBlocks; b++ {
			step(fmt.Sprintf("append %d %d", c, b))
			part := all[10*b : 10*(b+1)]
			if err := j.Append(b, part); err != nil {
				return err
			}
			rows = append(rows, part...)
		}
		if err := j.Close(); err != nil {
			return err
		}
		step("commit")
		if err := r.Commit(key, rows, testCell(key)); err != nil {
			return err
		}
	}
	step("merge")
	if _, _, err := r.Merge(nil); err != nil {
		return err
	}
	return nil
}

func child(what, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what, dirEnv+"="+dir)
	return cmd
}

var testSpec = []byte("name: test\nsweep:\n  tau: [1, 5]\n  split_layer: [1, 3]\n")

func testManifest(cells int) Manifest {
	m := Manifest{
		Name: "test", Version: "v0", GoVersion: "go1.26", Host: Host{OS: "linux", Arch: "amd64", CPUs: 2},
		Created: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC),
		Started: time.Date(2025, 1, 2, 3, 4, 6, 0, time.UTC),
		Command: []string{"splitbench", "run", "spec.yaml"},
		Digests: map[string]string{"model": "ab", "data": "cd"},
	}
	for i := range cells {
		m.Cells = append(m.Cells, ManifestCell{testKey(i + 1), fmt.Sprint("cell ", i)})
	}
	return m
}

func testCell(key string) CellResult {
	stderr := 0.05
	return CellResult{
		Label: "piqa split", Point: testRows(key, 1)[0].Point, Knobs: json.RawMessage(`{"l":3,"name":"a<b & \"c\""}`), Status: StatusOK, Docs: 2,
		Primary: "acc_norm",
		Metrics: []Metric{
			{Name: "acc", Value: 0.5, Stderr: &stderr, N: 2, HigherIsBetter: true},
			{Name: "acc_norm", Value: 0.75, Stderr: &stderr, N: 2, HigherIsBetter: true},
		},
		Payload:     SummarizePayload(testRows(key, 4), 64),
		Activations: &Histogram{Edges: []float64{0.1, 1, 10}, Counts: []int64{5, 6}, Under: 1, Over: 2},
	}
}

func mustCreate(t *testing.T, dir string, cells int) *Run {
	t.Helper()
	r, err := Create(dir, testSpec, testManifest(cells))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func wantError(t *testing.T, err, is error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("error %q is not %q", err, is)
	}
	for _, p := range append(parts, "") {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has more than one line", err)
	}
}

func TestRunLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "run")
	r := mustCreate(t, dir, 3)
	for i := range 2 { // the third cell stays undone
		key := testKey(i + 1)
		if _, ok, err := r.Done(key); ok || err != nil {
			t.Fatalf("a new cell is done: %v, %v", ok, err)
		}
		j, rows, last, err := r.Journal(key)
		if err != nil || rows != nil || last != -1 {
			t.Fatalf("new journal: %v, %d, %v", rows, last, err)
		}
		if err := j.Append(0, testRows(key, 6)); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.Commit(key, testRows(key, 6), testCell(key)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(r.cell(key, ".journal")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the journal is still there: %v", err)
		}
	}
	if n, rows, err := r.Merge(nil); n != 2 || rows != 12 || err != nil {
		t.Errorf("merged %d cells and %d rows, %v; want 2 and 12", n, rows, err)
	}
	if err := r.Finish(time.Date(2025, 1, 2, 4, 0, 0, 0, time.FixedZone("", 3600))); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	o, err := OpenRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	cells, err := o.Cells()
	if err != nil || len(cells) != 2 {
		t.Fatalf("%d cells, %v", len(cells), err)
	}
	want := testCell(testKey(1))
	want.Schema, want.Key, want.Rows, want.RowsSHA256 = 1, testKey(1), 6, cells[0].RowsSHA256
	diff(t, "cell", cells[0], want)
	rows, err := o.Rows(testKey(2))
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "rows", rows, testRows(testKey(2), 6))
	merged, err := ReadFile(o.MergedPath())
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "merged rows", merged, append(testRows(testKey(1), 6), testRows(testKey(2), 6)...))
	m := o.Manifest()
	wantManifest := testManifest(3)
	wantManifest.Schema = 1
	at := time.Date(2025, 1, 2, 3, 0, 0, 0, time.UTC)
	wantManifest.Finished = &at
	diff(t, "manifest", m, wantManifest)
	diff(t, "spec", string(o.Spec()), string(testSpec))

	// One read aggregate, by hand: the mean of six log-probabilities.
	got, err := o.Metrics(testKey(1), func(rows []Row) ([]Metric, error) {
		s := 0.0
		for _, r := range rows {
			s += r.LogProb
		}
		return []Metric{{Name: "sum", Value: s, N: int64(len(rows))}}, nil
	})
	if err != nil || got[0].N != 6 || !(got[0].Value < 0) {
		t.Errorf("metrics %v, %v", got, err)
	}
}

func TestRunIsReadOnly(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, 1).Close()
	o, err := OpenRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, jerr := o.Journal(testKey(1))
	_, _, merr := o.Merge(nil)
	for _, err := range []error{jerr, merr, o.Commit(testKey(1), nil, CellResult{}), o.Finish(time.Time{})} {
		wantError(t, err, ErrReadOnly)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

func TestCreateOtherSpec(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, 1).Close()
	spec := []byte("name: test\nsweep:\n  tau: [1, 10]\n  split_layer: [1, 3]\nseed: 3\n")
	_, err := Create(dir, spec, testManifest(1))
	wantError(t, err, ErrOtherSpec, "sweep.tau[1]: recorded 5, now 10", "seed: recorded absent, now 3", "--out")
	// The same values in another layout are the same spec.
	same := []byte("# a comment\nsweep: {split_layer: [1, 3], tau: [1, 5]}\nname: test\n")
	r, err := Create(dir, same, testManifest(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	diff(t, "spec", string(r.Spec()), string(testSpec))
}

func TestSpecDiff(t *testing.T) {
	for _, tc := range []struct{ a, b, want string }{
		{"a: 1", "a: '1'", `a: recorded 1, now "1"`},
		{"a: [1, 2]", "a: []", "a: recorded absent, now []|a[0]: recorded 1, now absent|a[1]: recorded 2, now absent"},
		{"a: &x {b: 1}\nc: *x", "a: {b: 1}\nc: {b: 1}", ""},
		{"a: 1", "a: {", `line      1: recorded "a: 1", now "a: {"`},
		{"", "a: 1", "a: recorded absent, now 1"},
	} {
		if got := strings.Join(specDiff([]byte(tc.a), []byte(tc.b)), "|"); got != tc.want {
			t.Errorf("%q and %q: %q, want %q", tc.a, tc.b, got, tc.want)
		}
	}
	self := "a: &x\n  b: *x\n" // an alias within its own anchor
	if got := specDiff([]byte(self), []byte("a: 1")); len(got) == 0 {
		t.Error("no difference to a spec that contains itself")
	}
}

func TestCreateRefusesOtherDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Create(dir, testSpec, testManifest(1))
	wantError(t, err, ErrNotRun, "thesis.tex", "--out")
	_, err = OpenRun(dir)
	wantError(t, err, ErrNotRun, "no manifest.json")
	_, err = Create(t.TempDir(), testSpec, Manifest{Cells: []ManifestCell{{Key: "abc"}}})
	wantError(t, err, nil, "64 hexadecimal digits")
	_, err = Create(t.TempDir(), testSpec, Manifest{Cells: []ManifestCell{{Key: testKey(1)}, {Key: testKey(1)}}})
	wantError(t, err, nil, "listed twice")
}

func TestManifestVersion(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, 1).Close()
	path := filepath.Join(dir, "manifest.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		b    []byte
		is   error
		want string
	}{
		{bytes.Replace(b, []byte(`"schema": 1`), []byte(`"schema": 2`), 1), ErrSchema, "version 2, this program reads version 1"},
		{bytes.Replace(b, []byte(`"schema"`), []byte(`"shema"`), 1), nil, `no "schema"`},
		{bytes.Replace(b, []byte(`"name"`), []byte(`"nome"`), 1), nil, `unknown field "nome"`},
		{b[:50], nil, "not a manifest"},
	} {
		if err := os.WriteFile(path, tc.b, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := OpenRun(dir)
		wantError(t, err, tc.is, tc.want, "manifest.json")
		_, err = Create(dir, testSpec, testManifest(1))
		wantError(t, err, tc.is, tc.want)
	}
}

func TestReopenKeepsCreation(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, 1).Close()
	m := testManifest(1)
	m.Created, m.Started, m.Version = m.Created.AddDate(1, 0, 0), m.Started.AddDate(1, 0, 0), "v1"
	r, err := Create(dir, testSpec, m)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := r.Manifest()
	if got.Created.Year() != 2025 || got.Started.Year() != 2026 || got.Version != "v1" {
		t.Errorf("created %v, started %v, version %s", got.Created, got.Started, got.Version)
	}
}

// TestLockBetweenProcesses needs a second process: a lock is not felt by the
// process that has it on every system.
func TestLockBetweenProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	cmd := child("hold", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q", line)
	}
	pid := fmt.Sprintf("pid %d", cmd.Process.Pid)

	_, err = Create(dir, testSpec, testManifest(1))
	wantError(t, err, ErrLocked, dir, pid, "host", "--out")
	if _, err := OpenRun(dir); err != nil {
		t.Errorf("reading a run in use: %v", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	_, err = Create(dir, testSpec, testManifest(1), Wait(ctx, func(holder string) {
		if !strings.Contains(holder, pid) {
			t.Errorf("waiting for %q, want %q", holder, pid)
		}
		cancel()
	}))
	wantError(t, err, context.Canceled, pid)

	// Told that we wait, the other process ends; then the lock is ours.
	r, err := Create(dir, testSpec, testManifest(1), Wait(context.Background(), func(string) { in.Close() }))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestKilledAtAnyStep kills a working process at each of some steps, lets
// another one go on, and wants the files of an undisturbed run, byte for byte.
func TestKilledAtAnyStep(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a kill that gives no notice")
	}
	want := filepath.Join(t.TempDir(), "run")
	steps := 0
	if err := work(want, func(string) { steps++ }); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "run")
	for kills := range 6 {
		cmd := child("work", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s := bufio.NewScanner(out)
		// The process is killed while it does the step it named last.
		for n := 0; n < 2+kills && s.Scan(); n++ {
			if strings.HasPrefix(s.Text(), "error") {
				t.Fatal(s.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Log("the process had ended before the kill")
		}
	}
	if err := work(dir, func(string) {}); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(want, "cells", "*"))
	if err != nil || len(names) != 2*workCells {
		t.Fatalf("%d files of cells, %v", len(names), err)
	}
	for _, name := range append(names, filepath.Join(want, "run.parquet")) {
		rel, err := filepath.Rel(want, name)
		if err != nil {
			t.Fatal(err)
		}
		a, errA := os.ReadFile(name)
		b, errB := os.ReadFile(filepath.Join(dir, rel))
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs from that of an undisturbed run", rel)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "cells"))
	if err != nil || len(left) != 2*workCells {
		t.Errorf("%d files of cells after the kills, want %d, %v", len(left), 2*workCells, err)
	}
}

// TestCommitCrashPoints builds the states that a crash within Commit can leave.
func TestCommitCrashPoints(t *testing.T) {
	key := testKey(1)
	rows := testRows(key, 8)
	finished := func(t *testing.T) *Run {
		r := mustCreate(t, filepath.Join(t.TempDir(), "run"), 1)
		if err := r.Commit(key, rows, testCell(key)); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tc := range []struct {
		name string
		undo func(r *Run) error
		done bool
	}{
		{"temporary Parquet file", func(r *Run) error {
			return errors.Join(os.Rename(r.cell(key, ".parquet"), r.cell(key, ".parquet.tmp-1")), os.Remove(r.cell(key, ".json")))
		}, false},
		{"Parquet file alone", func(r *Run) error { return os.Remove(r.cell(key, ".json")) }, false},
		{"temporary JSON", func(r *Run) error { return os.Rename(r.cell(key, ".json"), r.cell(key, ".json.tmp-1")) }, false},
		{"journal not yet removed", func(r *Run) error {
			j, _, _, err := r.Journal(key)
			if err != nil {
				return err
			}
			return errors.Join(j.Append(0, rows), j.Close())
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := finished(t)
			if err := tc.undo(r); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r = mustCreate(t, r.Dir(), 1)
			_, done, err := r.Done(key)
			if done != tc.done || err != nil {
				t.Fatalf("done %v, %v; want %v", done, err, tc.done)
			}
			if !done {
				if err := r.Commit(key, rows, testCell(key)); err != nil {
					t.Fatal(err)
				}
			}
			files, err := os.ReadDir(filepath.Join(r.Dir(), "cells"))
			if err != nil || len(files) != 2 {
				t.Errorf("files %v, %v; want the two of the cell", files, err)
			}
		})
	}
}

func TestDoneReportsBrokenCells(t *testing.T) {
	key := testKey(1)
	write := func(ext string, edit func([]byte) []byte) func(r *Run) error {
		return func(r *Run) error {
			b, err := os.ReadFile(r.cell(key, ext))
			if err != nil {
				return err
			}
			return os.WriteFile(r.cell(key, ext), edit(b), 0o644)
		}
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				panic("no " + old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	for _, tc := range []struct {
		name  string
		spoil func(r *Run) error
		want  string
	}{
		{"Parquet missing", func(r *Run) error { return os.Remove(r.cell(key, ".parquet")) }, ".parquet: missing"},
		{"Parquet cut", write(".parquet", func(b []byte) []byte { return b[:len(b)/2] }), "its SHA-256 is"},
		{"Parquet of another cell", write(".parquet", func([]byte) []byte { return encodeRows(t, nil) }), "its SHA-256 is"},
		{"row count", write(".json", replace(`"rows": 8`, `"rows": 9`)), "8 rows, recorded 9"},
		{"older schema", write(".json", replace(`"schema": 1`, `"schema": 0`)), "schema version 0, this program reads version 1"},
		{"JSON cut", write(".json", func(b []byte) []byte { return b[:len(b)/2] }), "not a cell file"},
		{"JSON of another cell", write(".json", replace(key, testKey(2))), "it is of cell " + testKey(2)},
		{"unknown status", write(".json", replace(`"status": "ok"`, `"status": "fine"`)), `status "fine", expected ok`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := mustCreate(t, filepath.Join(t.TempDir(), "run"), 1)
			if err := r.Commit(key, testRows(key, 8), testCell(key)); err != nil {
				t.Fatal(err)
			}
			if err := tc.spoil(r); err != nil {
				t.Fatal(err)
			}
			_, done, err := r.Done(key)
			if done {
				t.Error("a broken cell is done")
			}
			wantError(t, err, ErrBroken, tc.want, key)
			if cells, err := r.Cells(); len(cells) != 0 || !errors.Is(err, ErrBroken) {
				t.Errorf("%d cells, %v", len(cells), err)
			}
			if _, _, err := r.Merge(nil); !errors.Is(err, ErrBroken) {
				t.Errorf("merge: %v", err)
			}
			// Running the cell again mends it.
			if err := r.Commit(key, testRows(key, 8), testCell(key)); err != nil {
				t.Fatal(err)
			}
			if _, done, err := r.Done(key); !done || err != nil {
				t.Errorf("after a second commit: done %v, %v", done, err)
			}
		})
	}
}

// TestNewerCellIsRefused: a cell of a newer program is neither done nor to be run
// again.
func TestNewerCellIsRefused(t *testing.T) {
	r := mustCreate(t, t.TempDir(), 3)
	for i := range 3 {
		if err := r.Commit(testKey(i+1), testRows(testKey(i+1), 2), testCell(testKey(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	path := r.cell(testKey(2), ".json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(`"schema": 1`), []byte(`"schema": 3, "more": 1`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.cell(testKey(3), ".parquet")); err != nil {
		t.Fatal(err)
	}
	_, done, err := r.Done(testKey(2))
	if done || errors.Is(err, ErrBroken) {
		t.Errorf("done %v, %v", done, err)
	}
	wantError(t, err, ErrSchema, "version 3, this program reads version 1", path)
	cells, broken, err := r.CellsTolerant()
	if len(cells) != 1 || cells[0].Key != testKey(1) || len(broken) != 1 {
		t.Fatalf("%d cells, broken %v", len(cells), broken)
	}
	wantError(t, broken[0], ErrBroken, testKey(3))
	wantError(t, err, ErrSchema, testKey(2))
	cells, err = r.Cells()
	if len(cells) != 1 || !errors.Is(err, ErrBroken) || !errors.Is(err, ErrSchema) {
		t.Errorf("%d cells, %v", len(cells), err)
	}
}

func TestCommitRefuses(t *testing.T) {
	r := mustCreate(t, t.TempDir(), 1)
	key := testKey(1)
	wantError(t, r.Commit(key, testRows(testKey(2), 3), testCell(key)), nil, "row 0 is of cell")
	bad := testCell(key)
	bad.Primary = "f1"
	wantError(t, r.Commit(key, nil, bad), nil, `primary metric "f1" is not among the metrics`)
	bad = testCell(key)
	bad.Activations.Counts = bad.Activations.Counts[:1]
	wantError(t, r.Commit(key, nil, bad), nil, "3 edges and 1 counts")
	bad.Activations = &Histogram{Edges: []float64{1, math.NaN()}, Counts: []int64{1}}
	wantError(t, r.Commit(key, nil, bad), nil, "edge 1 is not above edge 0")
	wantError(t, r.Commit("../../etc/passwd", nil, testCell(key)), nil, "64 hexadecimal digits")
	_, _, err := r.Done(strings.Repeat("Z", 64))
	wantError(t, err, nil, "hexadecimal")
	_, err = r.Rows("x")
	wantError(t, err, nil, "hexadecimal")
}

// TestFailedCell stores a cell that did not end well, with no rows.
func TestFailedCell(t *testing.T) {
	r := mustCreate(t, t.TempDir(), 1)
	key := testKey(1)
	c := CellResult{Status: StatusOOM, Error: "needs 3 GB, 2 GB allowed", Primary: "acc"}
	if err := r.Commit(key, nil, c); err != nil {
		t.Fatal(err)
	}
	got, done, err := r.Done(key)
	if !done || err != nil || got.Status != StatusOOM || got.Error != c.Error || got.Rows != 0 {
		t.Errorf("%+v, done %v, %v", got, done, err)
	}
	if n, rows, err := r.Merge([]string{key, testKey(2)}); n != 1 || rows != 0 || err != nil {
		t.Errorf("merged %d cells, %d rows, %v", n, rows, err)
	}
}

// TestCellJSONIsStable pins the text of a cell file: other programs read it.
func TestCellJSONIsStable(t *testing.T) {
	stderr := 0.25
	c := CellResult{
		Schema: 1, Key: testKey(1), Label: "x", Status: StatusOK, Primary: "perplexity",
		Metrics: []Metric{{Name: "perplexity", Value: math.Inf(1), N: 3}, {Name: "acc", Value: 0.5, Stderr: &stderr, N: 3, HigherIsBetter: true}},
	}
	var buf bytes.Buffer
	if err := EncodeCell(&buf, &c); err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	if err := json.Unmarshal(buf.Bytes(), &top); err != nil {
		t.Fatal(err)
	}
	diff(t, "metrics", top["metrics"], any([]any{
		map[string]any{"name": "perplexity", "value": "Inf", "stderr": nil, "n": 3.0, "higher_is_better": false},
		map[string]any{"name": "acc", "value": 0.5, "stderr": 0.25, "n": 3.0, "higher_is_better": true},
	}))
	for _, k := range []string{"schema", "key", "label", "model", "task", "protocol", "method", "split_layer", "threshold",
		"status", "docs", "rows", "rows_sha256", "primary", "payload", "provenance", "measured"} {
		if _, ok := top[k]; !ok {
			t.Errorf("no %q in the cell file", k)
		}
	}
	back, err := DecodeCell(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "cell", back, c)
	for _, v := range []float64{math.NaN(), math.Inf(-1), math.Copysign(0, -1), 1e300} {
		b, err := json.Marshal(Metric{Name: "m", Value: v})
		if err != nil {
			t.Fatal(err)
		}
		var m Metric
		if err := json.Unmarshal(b, &m); err != nil || m.Value != v && !(math.IsNaN(v) && math.IsNaN(m.Value)) {
			t.Errorf("%v came back as %v from %s, %v", v, m.Value, b, err)
		}
	}
	for _, bad := range []string{`{"name":"a"}`, `{"name":"a","value":"x"}`, `{"name":"a","value":true}`, `{"value":1,"more":2}`} {
		var m Metric
		if err := json.Unmarshal([]byte(bad), &m); err == nil {
			t.Errorf("%s was taken as a metric", bad)
		}
	}
}

func FuzzReadCellJSON(f *testing.F) {
	var buf bytes.Buffer
	c := testCell(testKey(1))
	c.Schema, c.Key = 1, testKey(1)
	if err := EncodeCell(&buf, &c); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add([]byte(`{"schema":2}`))
	f.Add([]byte(`{"schema":1,"key":"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCell(b)
		if err != nil {
			return
		}
		var buf bytes.Buffer
		if err := EncodeCell(&buf, &c); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeCell(buf.Bytes()); err != nil {
			t.Fatalf("a cell that was read is not readable once written: %v\n%s", err, buf.Bytes())
		}
	})
}

func TestHost(t *testing.T) {
	if h := ThisHost(); h.OS != runtime.GOOS || h.Arch != runtime.GOARCH || h.CPUs < 1 {
		t.Errorf("host %+v", h)
	}
	if got := cpuModel(strings.NewReader("processor\t: 0\nmodel name\t: Big Chip 9000\nmodel name\t: other\n")); got != "Big Chip 9000" {
		t.Errorf("CPU model %q", got)
	}
	if got := cpuModel(strings.NewReader("processor: 0\n")); got != "" {
		t.Errorf("CPU model %q of none", got)
	}
}

func TestPayload(t *testing.T) {
	// By hand: two requests that send 10 and 30 rows, one that sends nothing.
	rows := []Row{
		{PayloadTokens: 10, PayloadBytes: 100, PayloadHeader: 5, PayloadTables: 5, PayloadCodes: 60, PayloadSide: 10, PayloadSparse: 20},
		{PayloadTokens: 30, PayloadBytes: 300, PayloadHeader: 5, PayloadTables: 25, PayloadCodes: 200, PayloadSide: 30, PayloadSparse: 40, KVPayloadBytes: 80},
		{},
	}
	p := SummarizePayload(rows, 8)
	diff(t, "payload", p, Payload{Requests: 2, Tokens: 40, Total: 400, Header: 10, Tables: 30, Codes: 260, Side: 40, Sparse: 60, KV: 80, HiddenSize: 8})
	below, above, rest := p.Shares()
	diff(t, "figures", []float64{p.PerToken(p.Total), p.PerToken(p.KV), p.MeanTokens(), p.RawPerToken(), below, above, rest},
		[]float64{10, 2, 20, 16, 0.75, 0.15, 0.1})
	diff(t, "sum", Payload{}.Add(p).Add(Payload{Requests: 1, Tokens: 10, Total: 100}).PerToken(500), 10.0)
	var none Payload
	if b, a, r := none.Shares(); b != 0 || a != 0 || r != 0 || none.PerToken(5) != 0 || none.MeanTokens() != 0 {
		t.Error("a payload of nothing has figures")
	}
	if got := testCell(testKey(1)).Activations.Total(); got != 14 {
		t.Errorf("histogram of %d values, want 14", got)
	}
}
