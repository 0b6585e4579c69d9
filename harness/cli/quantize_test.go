//go:build unix

package cli

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/models/checkpoint"
	"splitbench/models/quantize"
	"splitbench/models/tokenizer"
)

// sharedData returns a path below the shared data folder, or skips the test
// without it.
func sharedData(t *testing.T, parts ...string) string {
	t.Helper()
	root := os.Getenv("SPLITBENCH_SHARED")
	if root == "" {
		root = filepath.Join(moduleRoot(t), "..", "shared")
	}
	if _, err := os.Stat(root); err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			t.Fatalf("shared data required but missing: %v", err)
		}
		t.Skipf("needs the shared data folder (set SPLITBENCH_SHARED): %v", err)
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

// folderSum hashes the files of a folder by name.
func folderSum(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		all[e.Name()] = hex.EncodeToString(sum[:])
	}
	return all
}

// TestQuantizeKill kills splitbench quantize with SIGKILL while it is at its
// second layer, and again while it is at the third: the layers that were ready
// are not computed again, and the folder has the bytes of an undisturbed run.
func TestQuantizeKill(t *testing.T) {
	model := sharedData(t, "golden", "quant", "tiny", "mha")
	var tokens struct{ Calibration [][]int32 }
	text, err := os.ReadFile(filepath.Join(model, "tokens.json"))
	if err == nil {
		err = json.Unmarshal(text, &tokens)
	}
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var lines strings.Builder
	for _, ids := range tokens.Calibration[:6] {
		b, err := json.Marshal(map[string]any{"ids": ids})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s\n", b)
	}
	calibration := write("calibration.jsonl", lines.String())
	for name, method := range map[string]string{
		"omniquant": "method: omniquant\nweight: {bits: 4}\nactivation: {bits: 4}\nattention: {place: heads, bits: 4}\nomniquant: {lwc: true, let: true, epochs: 2}\n",
		"atom": "method: atom\nweight: {bits: 4, group: 16, shared_rows: 2, clip: 0.85}\nactivation: {bits: 4, group: 16, clip: 0.9}\n" +
			"attention: {place: cache, bits: 4}\nreorder: true\noutliers: {columns: 16, bits: 8}\ngptq: {}\n",
		"awq":         "method: awq\nweight: {bits: 4, group: 32}\nawq: {scale: true, clip: true}\n",
		"smoothquant": "method: smoothquant\nweight: {bits: 4}\nactivation: {bits: 4}\nsmooth: {sweep: [0.3, 0.8]}\n",
		"quarot":      "method: quarot\nweight: {bits: 4, sym: true}\nactivation: {bits: 4, sym: true}\ngptq: {true_sequential: true}\nquarot: {seed: 0}\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := write(name+".yaml", method)
			// run runs to the end, or kills the process when stop says so of a
			// line of its output; it returns the lines.
			run := func(out string, extra []string, stop func(line string) bool) (lines []string) {
				c := exec.Command("splitbench", append([]string{"quantize", "--model", model, "--method", file, "--calibration", calibration, "--out", out}, extra...)...)
				pipe, err := c.StderrPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				killed := false
				for s := bufio.NewScanner(pipe); s.Scan(); {
					lines = append(lines, s.Text())
					if !killed && stop != nil && stop(s.Text()) {
						killed = true
						if err := c.Process.Kill(); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := c.Wait(); err != nil && !killed {
					t.Fatalf("%v: %s", err, lines)
				}
				return lines
			}
			hidden := func() []string {
				found, err := filepath.Glob(filepath.Join(folder, ".*"))
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			computed := func(line string) bool {
				return strings.HasPrefix(line, "layer ") && !strings.HasSuffix(line, "kept")
			}
			for _, simulate := range [][]string{nil, {"--simulate"}} {
				calm, out := filepath.Join(folder, name+"-calm"+fmt.Sprint(simulate)), filepath.Join(folder, name+"-killed"+fmt.Sprint(simulate))
				run(calm, simulate, nil)
				for range 5 { // a busy machine may deliver the signal too late
					run(out, simulate, computed)
					if _, err := os.Stat(out); err != nil {
						break
					}
					if err := os.RemoveAll(out); err != nil {
						t.Fatal(err)
					}
				}
				if found := hidden(); len(found) != 1 {
					t.Fatalf("kept in %v, expected one folder", found)
				}
				if _, err := os.Stat(out); err == nil {
					t.Fatal("an unfinished checkpoint has its name")
				}
				second := run(out, simulate, computed)
				if !slices.Contains(second, "layer 1 of 3: kept") {
					t.Errorf("the second run says %q", second)
				}
				if _, err := os.Stat(out); err != nil {
					if last := run(out, simulate, nil); !slices.Contains(last, "layer 2 of 3: kept") {
						t.Errorf("the last run says %q", last)
					}
				}
				have, want := folderSum(t, out), folderSum(t, calm)
				if len(have) != len(want) {
					t.Errorf("files %v, expected %v", have, want)
				}
				for f, sum := range want {
					if have[f] != sum {
						t.Errorf("%s differs from that of the undisturbed run", f)
					}
				}
				if found := hidden(); len(found) > 0 {
					t.Errorf("left behind: %v", found)
				}
				if name == "omniquant" {
					break // the ordinary checkpoint is made of the other one
				}
			}
		})
	}
}

// TestCalibrationWindows reads the text of WikiText2 as the original loaders
// see it and draws their windows: the digests of the text's ids and of all
// windows are those of Python's.
func TestCalibrationWindows(t *testing.T) {
	var golden struct {
		Wiki struct {
			Tokens  int    `json:"n_tokens"`
			Text    string `json:"text_sha256"`
			IDs     string `json:"ids_sha256_int32_le"`
			Windows []struct {
				L, N int
				Seed uint64
				SHA  string `json:"sha256_of_all_windows_int32_le"`
			}
		} `json:"wikitext2_test_llama2"`
	}
	raw, err := os.ReadFile(sharedData(t, "golden", "quant", "mt19937.json"))
	if err == nil {
		err = json.Unmarshal(raw, &golden)
	}
	if err != nil {
		t.Fatal(err)
	}
	wiki, err := os.ReadFile(sharedData(t, "data", "wikitext2", "wiki.test.raw"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(wiki)) {
		if strings.TrimSpace(line) == "" {
			line = ""
		}
		rows = append(rows, line)
	}
	text := strings.Join(rows, "\n\n")
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	if have := sum([]byte(text)); have != golden.Wiki.Text {
		t.Fatalf("text of digest %s, expected %s", have, golden.Wiki.Text)
	}
	c := checkpoint.Config{VocabSize: 32000, MaxPositions: 4096}
	src, err := readCalibration(strings.NewReader(text), "wiki.txt", c, func() (tokenizer.Tokenizer, error) {
		return tokenizer.Load(sharedData(t, "data", "tok_llama2"))
	})
	if err != nil {
		t.Fatal(err)
	}
	digest := func(all ...[]int32) string {
		var b []byte
		for _, ids := range all {
			for _, id := range ids {
				b = binary.LittleEndian.AppendUint32(b, uint32(id))
			}
		}
		return sum(b)
	}
	if n := len(src.documents[0]); n != golden.Wiki.Tokens || digest(src.documents...) != golden.Wiki.IDs {
		t.Errorf("%d tokens of digest %s, expected %d of %s", n, digest(src.documents...), golden.Wiki.Tokens, golden.Wiki.IDs)
	}
	if len(golden.Wiki.Windows) == 0 {
		t.Fatal("no windows")
	}
	for _, w := range golden.Wiki.Windows {
		all, drawn, err := src.sequences(quantize.CalibrationPlan{Sequences: w.N, Tokens: w.L, Seed: w.Seed}, false, c)
		if err != nil || !drawn || len(all) != w.N || digest(all...) != w.SHA {
			t.Errorf("seed %d: %d windows of digest %s, %v, expected %s", w.Seed, len(all), digest(all...), err, w.SHA)
		}
	}
	if _, _, err := src.sequences(quantize.CalibrationPlan{}, true, c); err == nil {
		t.Error("no plan: no error")
	}
	if _, _, err := src.sequences(quantize.CalibrationPlan{Sequences: 1, Tokens: 4097}, true, c); err == nil {
		t.Error("windows longer than the positions: no error")
	}
}
