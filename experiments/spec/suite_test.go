package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMembers(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		t.Helper()
		p := filepath.Join(dir, "s.yaml")
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	got, err := Members(write("description: two\nsuite: [a/one.yaml, two.yaml]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{filepath.Join(dir, "a", "one.yaml"), filepath.Join(dir, "two.yaml")}, got); d != "" {
		t.Errorf("members (-want +got):\n%s", d)
	}
	for _, text := range []string{"name: x\nmodels: []\n", "[not, a, mapping]\n", "a: [\n"} { // Load says what is wrong with them
		p := write(text)
		if got, err := Members(p); err != nil || len(got) != 1 || got[0] != p {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"suite: []\n":            ":1:8: suite is an empty list, expected at least one entry",
		"suite: a.yaml\n":        ":1:8: suite is ",
		"suite: [a]\ntasks: [b]": `:2:1: unknown key "tasks", expected one of description, suite`,
	} {
		p := write(text)
		if _, err := Members(p); err == nil || !strings.Contains(err.Error(), p+want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := Members(filepath.Join(dir, "nothing.yaml")); err == nil {
		t.Error("a file that is not there has members")
	}
}
