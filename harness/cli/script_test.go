//go:build unix

package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"splitbench/models/checkpoint"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"splitbench": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/script/*.txtar. Besides testscript's own commands
// and those of scriptCommands, a script has the condition [shared] and the
// variables EXPERIMENTS and, where the data is there, SPLITBENCH_SHARED.
func TestScripts(t *testing.T) {
	root := moduleRoot(t)
	shared := os.Getenv("SPLITBENCH_SHARED")
	if shared == "" {
		shared = filepath.Join(root, "..", "shared")
	}
	if _, err := os.Stat(shared); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data is required: %v", err)
		}
		shared = ""
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// Built-in models are made in the cache folder, which must be the script's own.
			e.Setenv("HOME", filepath.Join(e.WorkDir, ".home"))
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, ".cache"))
			e.Setenv("EXPERIMENTS", filepath.Join(root, "experiments"))
			if shared != "" {
				e.Setenv("SPLITBENCH_SHARED", shared)
				e.Setenv("GOLDEN", filepath.Join(shared, "golden"))
				e.Setenv("STORIES", filepath.Join(shared, "data", "stories260k"))
			}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "shared" {
				return shared != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: scriptCommands,
	})
}

func moduleRoot(t *testing.T) string {
	dir, err := os.Getwd()
	for err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			err = errors.New("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal(err)
	return ""
}

// scriptCommands are the commands of the scripts beyond testscript's own.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"code":      scriptCode,
	"fails":     scriptFails,
	"jsoncheck": scriptJSONCheck,
	"json":      scriptJSON,
	"json-sum":  scriptJSONSum,
	"samecells": scriptSameCells,
	"cellkey":   scriptCellKey,
	"tensors":   scriptTensors,
	"near":      scriptNear,
	"restored":  scriptRestored,
	"corrupt":   scriptCorrupt,
	"flip":      scriptFlip,
	"truncate":  scriptTruncate,
	"append":    scriptAppend,
	"await":     scriptAwait,
	"signal":    scriptSignal,
	"golden":    scriptGolden,
}

func usage(ts *testscript.TestScript, neg bool, ok bool, form string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", form)
	}
}

// exitCode runs a command and returns its exit code; its output is what the
// script looks at next.
func exitCode(ts *testscript.TestScript, name string, args ...string) int {
	err := ts.Exec(name, args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// code N COMMAND...: the command ends with exit code N.
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "code N COMMAND...")
	if got := strconv.Itoa(exitCode(ts, args[1], args[2:]...)); got != args[0] {
		ts.Fatalf("exit code %s, expected %s\n%s", got, args[0], ts.ReadFile("stderr"))
	}
}

// fails N PATTERN ARGS...: splitbench ARGS ends with exit code N and writes
// nothing but one line to stderr, which matches PATTERN. The line that run
// writes while it reads the models does not count.
func scriptFails(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 3, "fails N PATTERN ARGS...")
	code := exitCode(ts, "splitbench", args[2:]...)
	stderr := strings.TrimPrefix(ts.ReadFile("stderr"), "reading models and tasks\n")
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, expected %s\n%s", got, args[0], stderr)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout holds %q, expected nothing", out)
	}
	if fault := oneLineMatching(stderr, args[1]); fault != "" {
		ts.Fatalf("%s", fault)
	}
}

// oneLineMatching says what is wrong with an error message, "" if nothing is.
func oneLineMatching(stderr, pattern string) string {
	line, ok := strings.CutSuffix(stderr, "\n")
	if !ok || strings.Contains(line, "\n") || !strings.HasPrefix(line, "splitbench: ") {
		return fmt.Sprintf("stderr is not one line that begins with the program's name:\n%s", stderr)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err.Error()
	}
	if !re.MatchString(line) {
		return fmt.Sprintf("no match for %q in:\n%s", pattern, line)
	}
	return ""
}

// jsoncheck FILE [N]: the file is one JSON document, or N lines with one each.
func scriptJSONCheck(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1 || len(args) == 2, "jsoncheck FILE [LINES]")
	text := ts.ReadFile(args[0])
	if len(args) == 1 {
		if !json.Valid([]byte(text)) {
			ts.Fatalf("%s is not JSON", args[0])
		}
		return
	}
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] != "" {
		ts.Fatalf("%s does not end in a newline", args[0])
	}
	lines = lines[:len(lines)-1]
	if strconv.Itoa(len(lines)) != args[1] {
		ts.Fatalf("%s has %d lines, expected %s", args[0], len(lines), args[1])
	}
	for i, l := range lines {
		if !json.Valid([]byte(l)) {
			ts.Fatalf("%s:%d: not JSON: %s", args[0], i+1, l)
		}
	}
}

// readJSONLines reads a file of JSON lines, numbers as written.
func readJSONLines(ts *testscript.TestScript, file string) []map[string]any {
	var all []map[string]any
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	d.UseNumber()
	for d.More() {
		var v map[string]any
		ts.Check(d.Decode(&v))
		all = append(all, v)
	}
	return all
}

// lookup follows a dotted path of keys and indices.
func lookup(ts *testscript.TestScript, v any, path string) any {
	for _, key := range strings.Split(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[key]
			if !ok {
				ts.Fatalf("no key %q of %s", key, path)
			}
			v = next
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(at) {
				ts.Fatalf("no entry %q of %s among %d", key, path, len(at))
			}
			v = at[i]
		default:
			ts.Fatalf("nothing below %v for %q of %s", at, key, path)
		}
	}
	return v
}

// json FILE PATH...: print a line per object of FILE with its values at the
// dotted paths, as JSON.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) >= 2, "json FILE PATH...")
	var out strings.Builder
	for _, v := range readJSONLines(ts, args[0]) {
		for i, path := range args[1:] {
			if i > 0 {
				out.WriteByte(' ')
			}
			text, err := json.Marshal(lookup(ts, v, path))
			ts.Check(err)
			out.Write(text)
		}
		out.WriteByte('\n')
	}
	fmt.Fprint(ts.Stdout(), out.String())
}

// json-sum FILE LIST SUM: in every object the entries of LIST, added in order,
// are SUM to the last digits; with several LISTs separated by commas, single
// numbers are added.
func scriptJSONSum(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3, "json-sum FILE LIST[,LIST...] SUM")
	for i, v := range readJSONLines(ts, args[0]) {
		total := 0.0
		for _, path := range strings.Split(args[1], ",") {
			list, ok := lookup(ts, v, path).([]any)
			if !ok {
				list = []any{lookup(ts, v, path)}
			}
			for _, item := range list {
				total += number(ts, item)
			}
		}
		if want := number(ts, lookup(ts, v, args[2])); math.Abs(total-want) > 1e-12*max(1, math.Abs(want)) {
			ts.Fatalf("%s: object %d: %s add up to %v, %s is %v", args[0], i, args[1], total, args[2], want)
		}
	}
}

func number(ts *testscript.TestScript, v any) float64 {
	n, ok := v.(json.Number)
	if !ok {
		ts.Fatalf("%v is no number", v)
	}
	f, err := n.Float64()
	ts.Check(err)
	return f
}

// cellFiles returns the SHA-256 of the row file of every cell of a run.
func cellFiles(ts *testscript.TestScript, run string) map[string]string {
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(run), "cells", "*.parquet"))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("%s has no finished cells", run)
	}
	sums := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		ts.Check(err)
		sums[filepath.Base(f)] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return sums
}

// samecells RUN RUN N: both runs have the same N cells with the same bytes.
func scriptSameCells(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3, "samecells RUN RUN N")
	a, b := cellFiles(ts, args[0]), cellFiles(ts, args[1])
	for _, x := range []map[string]string{a, b} {
		if strconv.Itoa(len(x)) != args[2] {
			ts.Fatalf("%s has %d cells, %s has %d, expected %s", args[0], len(a), args[1], len(b), args[2])
		}
	}
	for name, sum := range a {
		if b[name] != sum {
			ts.Fatalf("cells/%s is %s in %s, %q in %s", name, sum, args[0], b[name], args[1])
		}
	}
}

// cellkey VARIABLE RUN TASK LABEL: set the variable to the key of the cell.
func scriptCellKey(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 4, "cellkey VARIABLE RUN TASK LABEL")
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[1]), "cells", "*.json"))
	ts.Check(err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		ts.Check(err)
		var c struct{ Key, Task, Label string }
		ts.Check(json.Unmarshal(text, &c))
		if c.Task == args[2] && c.Label == args[3] {
			ts.Setenv(args[0], c.Key)
			return
		}
	}
	ts.Fatalf("%s: none of %d cells is of task %q with label %q", args[1], len(files), args[2], args[3])
}

// tensors FILE: print the name, type and shape of every tensor.
func scriptTensors(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "tensors FILE.safetensors")
	f, err := checkpoint.OpenSafetensors(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		fmt.Fprintln(ts.Stdout(), name, t.DType, t.Shape)
	}
}

// tensor reads the values of NAME, or of entry I of its first dimension for
// NAME:I.
func tensor(ts *testscript.TestScript, file, name string) []float32 {
	f, err := checkpoint.OpenSafetensors(ts.MkAbs(file))
	ts.Check(err)
	defer f.Close()
	name, index, part := strings.Cut(name, ":")
	t, ok := f.Tensor(name)
	if !ok {
		ts.Fatalf("%s has no tensor %q, only %v", file, name, f.Names())
	}
	v, err := t.Float32(nil)
	ts.Check(err)
	if part {
		i, err := strconv.Atoi(index)
		ts.Check(err)
		n := len(v) / t.Shape[0]
		v = v[i*n : (i+1)*n]
	}
	return v
}

// near TOLERANCE FILE NAME FILE NAME: the tensors have as many values, which
// differ by the tolerance at most.
func scriptNear(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 5, "near TOLERANCE FILE NAME FILE NAME")
	tolerance, err := strconv.ParseFloat(args[0], 64)
	ts.Check(err)
	a, b := tensor(ts, args[1], args[2]), tensor(ts, args[3], args[4])
	if d := distance(a, b); !(d <= tolerance) {
		ts.Fatalf("%s and %s differ by %g, more than %g (%d and %d values)", args[2], args[4], d, tolerance, len(a), len(b))
	}
}

// distance is the largest difference, infinite for lists of different length.
func distance(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if math.IsNaN(d) {
			return d
		}
		worst = max(worst, d)
	}
	return worst
}

// restored FILE INPUT TAU BITS: the tensor restored of FILE has the SHA-256
// that the codec golden gives for this input, threshold and width.
func scriptRestored(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 4, "restored FILE INPUT TAU BITS")
	var golden struct {
		Cases []struct {
			Input    string
			Tau      float64
			Bits     int    `json:"max_activation_bits"`
			Restored string `json:"restored_sha256"`
		}
	}
	text, err := os.ReadFile(filepath.Join(ts.Getenv("GOLDEN"), "codec", "golden.json"))
	ts.Check(err)
	ts.Check(json.Unmarshal(text, &golden))
	h := sha256.New()
	for _, v := range tensor(ts, args[0], "restored") {
		ts.Check(binary.Write(h, binary.LittleEndian, v))
	}
	got := fmt.Sprintf("%x", h.Sum(nil))
	for _, c := range golden.Cases {
		if c.Input == args[1] && fmt.Sprint(c.Tau) == args[2] && fmt.Sprint(c.Bits) == args[3] {
			if got != c.Restored {
				ts.Fatalf("SHA-256 of the restored rows is %s, expected %s", got, c.Restored)
			}
			return
		}
	}
	ts.Fatalf("no golden case with input %s, tau %s and %s bits", args[1], args[2], args[3])
}

// corrupt TABLE: every broken checkpoint of the golden set is refused by
// generate and by dump with exit code 1 and one line, which names the folder
// and matches the pattern that TABLE has for the case; every odd but good one
// gives the stored logits.
func scriptCorrupt(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "corrupt TABLE")
	wants := map[string]string{}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		name, pattern, _ := strings.Cut(strings.TrimSpace(line), " ")
		wants[name] = strings.TrimSpace(pattern)
	}
	dir := filepath.Join(ts.Getenv("GOLDEN"), "models", "corrupt")
	text, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	ts.Check(err)
	var golden struct {
		IDs   []int
		Cases []struct{ Case, Kind string }
	}
	ts.Check(json.Unmarshal(text, &golden))
	line, err := json.Marshal(map[string]any{"ids": golden.IDs})
	ts.Check(err)
	ids := ts.MkAbs("corrupt-ids.jsonl")
	ts.Check(os.WriteFile(ids, line, 0o644))
	var faults []string
	for i, c := range golden.Cases {
		model := filepath.Join(dir, c.Case)
		out := ts.MkAbs(c.Case + ".safetensors")
		verb := []string{"dump", "--model", model, "--ids", ids, "--out", out}
		if c.Kind == "load" {
			want := "base"
			if strings.HasPrefix(c.Case, "ok-tied") {
				want = "ok-tied"
			}
			if code := exitCode(ts, "splitbench", verb...); code != 0 {
				faults = append(faults, fmt.Sprintf("%s: exit code %d: %s", c.Case, code, ts.ReadFile("stderr")))
			} else if d := distance(tensor(ts, out, "0.logits"), tensor(ts, filepath.Join(dir, want, "golden.safetensors"), "logits")); !(d <= 1e-4) {
				faults = append(faults, fmt.Sprintf("%s: the logits differ by %g from the stored ones", c.Case, d))
			}
			continue
		}
		if i%2 == 0 { // the two verbs open models in the same way
			verb = []string{"generate", "--model", model, "--ids", "1", "--max-new-tokens", "1"}
		}
		pattern, ok := wants[c.Case]
		if !ok || pattern == "" {
			faults = append(faults, fmt.Sprintf("%s: not in %s", c.Case, args[0]))
			continue
		}
		delete(wants, c.Case)
		code := exitCode(ts, "splitbench", verb...)
		fault := oneLineMatching(ts.ReadFile("stderr"), regexp.QuoteMeta(model)+".*"+pattern)
		if code != exitFailed || fault != "" || ts.ReadFile("stdout") != "" {
			faults = append(faults, fmt.Sprintf("%s: %s: exit code %d: %s", c.Case, verb[0], code, cmp.Or(fault, ts.ReadFile("stdout"))))
		}
		if _, err := os.Stat(out); err == nil {
			faults = append(faults, fmt.Sprintf("%s: an output file was written", c.Case))
		}
	}
	for name := range wants {
		faults = append(faults, fmt.Sprintf("%s: in %s, but no case that is refused", name, args[0]))
	}
	if len(faults) > 0 {
		slices.Sort(faults)
		ts.Fatalf("%d faults:\n%s", len(faults), strings.Join(faults, "\n"))
	}
}

// flip FILE OFFSET: invert the bits of one byte.
func scriptFlip(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "flip FILE OFFSET")
	data := []byte(ts.ReadFile(args[0]))
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	data[at] ^= 0xff
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// truncate FILE N: keep the first N bytes, or drop the last -N.
func scriptTruncate(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "truncate FILE N")
	data := ts.ReadFile(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	if n < 0 {
		n += len(data)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(data[:n]), 0o644))
}

// append FILE MORE: put the bytes of MORE behind those of FILE.
func scriptAppend(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "append FILE MORE")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.ReadFile(args[0])+ts.ReadFile(args[1])), 0o644))
}

// await FILE PATTERN: wait until the file is there and holds the pattern.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "await FILE PATTERN")
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	var text []byte
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		files, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		for _, f := range files {
			if text, err = os.ReadFile(f); err == nil && re.Match(text) {
				return
			}
		}
	}
	ts.Fatalf("%s never matched %q, it holds %q", args[0], args[1], text)
}

// signal INT|STOP|KILL RUN: send the signal to the process that holds the
// lock of a run directory.
func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "signal INT|STOP|KILL RUN")
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "STOP": syscall.SIGSTOP, "KILL": syscall.SIGKILL}
	s, ok := signals[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	var pid int
	text := ts.ReadFile(filepath.Join(args[1], ".lock"))
	if _, err := fmt.Sscanf(text, "pid %d ", &pid); err != nil || pid <= 1 {
		ts.Fatalf("%s/.lock names no process: %q", args[1], text)
	}
	// Only a process of this script may be signalled.
	cmds := ts.BackgroundCmds()
	i := slices.IndexFunc(cmds, func(c *exec.Cmd) bool { return c.Process.Pid == pid })
	if i < 0 {
		ts.Fatalf("process %d was not started by this script", pid)
	}
	ts.Check(cmds[i].Process.Signal(s))
	if s == syscall.SIGSTOP {
		// A script that fails here interrupts and awaits its processes.
		ts.Defer(func() { _ = cmds[i].Process.Signal(syscall.SIGCONT) })
	}
}

// golden MODEL: take from the golden of a model the token sequence s2 (to
// ids.jsonl), the layer whose cache is stored ($KV), and a prompt ($PROMPT)
// with the tokens that must follow it (to greedy.json).
func scriptGolden(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "golden MODEL")
	text, err := os.ReadFile(filepath.Join(ts.Getenv("GOLDEN"), "models", args[0], "golden.json"))
	ts.Check(err)
	var g struct {
		Sequences []struct {
			Name    string
			IDs     []int
			KVLayer *int `json:"kv_layer"`
		}
		Greedy []struct{ Prompt, Tokens []int }
	}
	ts.Check(json.Unmarshal(text, &g))
	var kv *int
	for _, s := range g.Sequences {
		if s.Name != "s2" {
			continue
		}
		line, err := json.Marshal(map[string]any{"ids": s.IDs})
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("ids.jsonl"), append(line, '\n'), 0o644))
		kv = s.KVLayer
	}
	if kv == nil || len(g.Greedy) == 0 {
		ts.Fatalf("the golden of %s has no kv_layer or no greedy run", args[0])
	}
	ts.Setenv("KV", strconv.Itoa(*kv))
	ts.Setenv("PROMPT", strings.ReplaceAll(strings.Trim(fmt.Sprint(g.Greedy[0].Prompt), "[]"), " ", ","))
	ts.Setenv("STEPS", strconv.Itoa(len(g.Greedy[0].Tokens)))
	line, err := json.Marshal(g.Greedy[0].Tokens)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("greedy.json"), append(line, '\n'), 0o644))
}
