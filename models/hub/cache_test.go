package hub

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// handMade builds what huggingface_hub leaves in a cache, and returns the folder of the repository.
func handMade(t *testing.T, cache, folder, commit string) string {
	t.Helper()
	root := filepath.Join(cache, folder)
	writeTestFile(t, filepath.Join(root, "blobs", testContentID), testContent)
	writeTestFile(t, filepath.Join(root, "blobs", abcSHA256), "abc")
	writeTestFile(t, filepath.Join(root, "refs", "main"), commit)
	snapshot := filepath.Join(root, "snapshots", commit)
	if err := os.MkdirAll(filepath.Join(snapshot, "sub"), 0o777); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"config.json":       "../../blobs/" + testContentID,
		"model.safetensors": "../../blobs/" + abcSHA256,
		"sub/config.json":   "../../../blobs/" + testContentID,
	} {
		if err := os.Symlink(filepath.FromSlash(target), filepath.Join(snapshot, link)); err != nil {
			t.Skipf("this system has no symbolic links: %v", err)
		}
	}
	return root
}

func TestResolve(t *testing.T) {
	home := cleanEnvironment(t)
	cache := filepath.Join(home, ".cache", "huggingface", "hub")
	root := handMade(t, cache, "models--meta-llama--Llama-2-7b-hf", commitA)
	writeTestFile(t, filepath.Join(root, "refs", "refs", "pr", "1"), commitA)
	writeTestFile(t, filepath.Join(root, "refs", "v1.0"), commitA+"\n") // as an editor leaves it
	snapshot := filepath.Join(root, "snapshots", commitA)
	for _, revision := range []string{"", "@main", "@v1.0", "@refs/pr/1", "@" + commitA, "@" + strings.ToUpper(commitA), "@0123", "@0123456"} {
		dir, err := Resolve("meta-llama/Llama-2-7b-hf" + revision)
		if err != nil || dir != snapshot {
			t.Errorf("%s: %s, %v", revision, dir, err)
		}
	}
	handMade(t, cache, "models--gpt2", commitA)
	if dir, err := Resolve("gpt2"); err != nil || !strings.Contains(dir, "models--gpt2") {
		t.Error(dir, err)
	}
	handMade(t, cache, "datasets--org--set", commitB)
	s, err := Cache{cache}.Find(Repo{ID: "org/set", Dataset: true})
	if err != nil || s.Commit != commitB || s.Check() != nil {
		t.Error(s, err)
	}
	if dir, err := Resolve("datasets/org/set"); err != nil || dir != s.Dir {
		t.Error(dir, err)
	}
}

// What exists on the disk is taken as it is, also when a repository has the same name.
func TestResolveLocal(t *testing.T) {
	home := cleanEnvironment(t)
	handMade(t, filepath.Join(home, ".cache", "huggingface", "hub"), "models--org--name", commitA)
	t.Chdir(home)
	writeTestFile(t, "org/name/config.json", "{}")
	writeTestFile(t, "odd@name/config.json", "{}")
	writeTestFile(t, "stories.bin", "")
	for _, name := range []string{"org/name", "org/name/", "./org/name", filepath.Join(home, "org", "name"), "odd@name", "stories.bin", "."} {
		if got, err := Resolve(name); err != nil || got != name {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{"./absent", "/absent/folder", "a/b/c", "", "nowhere/..", "org/na me", `org\name`, "org--x/name"} {
		_, err := Resolve(name)
		wantError(t, err, fs.ErrNotExist, "is not the name of a", "hub")
		if errors.Is(err, ErrNotCached) {
			t.Error(err)
		}
	}
	_, err := Resolve("org/name@a..b")
	wantError(t, err, fs.ErrNotExist, `"a..b" is not a revision`)
}

func TestFindErrors(t *testing.T) {
	cleanEnvironment(t)
	cache := t.TempDir()
	root := handMade(t, cache, "models--org--name", commitA)
	if err := os.MkdirAll(filepath.Join(root, "snapshots", commitB), 0o777); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(root, "refs", "empty"), "")
	writeTestFile(t, filepath.Join(root, "refs", "path"), "../../../../etc")
	writeTestFile(t, filepath.Join(root, "refs", "huge"), strings.Repeat("0", maxRefBytes+1))
	writeTestFile(t, filepath.Join(root, "refs", "gone"), strings.Repeat("ab", 20))
	writeTestFile(t, filepath.Join(root, "refs", "folder", "x"), commitA)
	writeTestFile(t, filepath.Join(root, "snapshots", strings.Repeat("cd", 20)), "a file")
	for _, c := range []struct {
		repo  Repo
		kind  error
		texts []string
	}{
		{Repo{ID: "org/other"}, ErrNotCached, []string{"org/other: not in the cache " + cache, "run splitbench fetch org/other, or"}},
		{Repo{ID: "org/name", Dataset: true}, ErrNotCached, []string{"run splitbench fetch datasets/org/name, or"}},
		{Repo{ID: "org/name", Revision: "v2"}, ErrNotCached, []string{"run splitbench fetch org/name@v2, or"}},
		{Repo{ID: "org/name", Revision: "folder"}, ErrNotCached, []string{"org/name@folder"}},
		{Repo{ID: "org/name", Revision: "fff0"}, ErrNotCached, []string{"org/name@fff0"}},
		{Repo{ID: "org/name", Revision: "012"}, ErrNotCached, []string{"org/name@012"}},
		{Repo{ID: "org/name", Revision: strings.Repeat("ef", 20)}, ErrNotCached, []string{"this commit is not in the cache"}},
		{Repo{ID: "org/name", Revision: "0123"}, nil, []string{"2 commits in the cache begin with 0123", commitA, commitB, "give more digits"}},
		{Repo{ID: "org/name", Revision: "gone"}, ErrIncomplete, []string{"is commit abab", "which has no snapshot", "run splitbench fetch org/name@gone"}},
		{Repo{ID: "org/name", Revision: "empty"}, nil, []string{filepath.Join("refs", "empty"), "expected a commit of 40"}},
		{Repo{ID: "org/name", Revision: "path"}, nil, []string{filepath.Join("refs", "path"), "expected a commit of 40"}},
		{Repo{ID: "org/name", Revision: "huge"}, nil, []string{filepath.Join("refs", "huge"), "larger than 4096 bytes"}},
		{Repo{ID: "org/name", Revision: strings.Repeat("cd", 20)}, nil, []string{"expected a folder"}},
		{Repo{ID: "org/name", Revision: "../../x"}, nil, []string{"is not a revision"}},
		{Repo{ID: "../x"}, nil, []string{"is not the name of a repository"}},
	} {
		_, err := Cache{cache}.Find(c.repo)
		wantError(t, err, c.kind, c.texts...)
	}
}

func TestCheck(t *testing.T) {
	cleanEnvironment(t)
	for _, c := range []struct {
		name   string
		change func(root, snapshot string)
		text   string // "" means complete
	}{
		{"complete", func(string, string) {}, ""},
		{"content is gone", func(root, _ string) { os.Remove(filepath.Join(root, "blobs", abcSHA256)) }, "model.safetensors links to ../../blobs/" + abcSHA256 + ", which does not exist"},
		{"content of a deeper file is gone", func(root, snapshot string) {
			os.Remove(filepath.Join(snapshot, "config.json"))
			os.Remove(filepath.Join(root, "blobs", testContentID))
		}, filepath.Join("sub", "config.json") + " links to"},
		{"empty", func(_, snapshot string) { os.RemoveAll(snapshot); os.Mkdir(snapshot, 0o777) }, "no files"},
		{"weights under way", func(root, snapshot string) {
			os.Remove(filepath.Join(snapshot, "model.safetensors"))
			os.WriteFile(filepath.Join(root, "blobs", "ab.0011.incomplete"), nil, 0o666)
		}, "no weights, and 1 downloads are not finished"},
		{"no weights wanted", func(_, snapshot string) { os.Remove(filepath.Join(snapshot, "model.safetensors")) }, ""},
		{"shards are missing", func(_, snapshot string) {
			os.WriteFile(filepath.Join(snapshot, "model.safetensors.index.json"), []byte(`{"weight_map":{"a":"model.safetensors","b":"m-3.safetensors","c":"m-2.safetensors","d":"m-2.safetensors","e":"../../x"}}`), 0o666)
		}, "2 of the 3 shards that model.safetensors.index.json names are missing, the first is m-2.safetensors"},
		{"index is damaged", func(_, snapshot string) {
			os.WriteFile(filepath.Join(snapshot, "model.safetensors.index.json"), []byte(`{`), 0o666)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache := t.TempDir()
			root := handMade(t, cache, "models--org--name", commitA)
			s, err := Cache{cache}.Find(Repo{ID: "org/name"})
			if err != nil {
				t.Fatal(err)
			}
			c.change(root, s.Dir)
			if c.text == "" {
				if err := s.Check(); err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, s.Check(), ErrIncomplete, c.text, "run splitbench fetch org/name")
			t.Setenv("HF_HUB_CACHE", cache)
			_, err = Resolve("org/name")
			wantError(t, err, ErrIncomplete, c.text)
		})
	}
}

func TestDefaultCache(t *testing.T) {
	home := cleanEnvironment(t)
	t.Setenv("BASE", "/base")
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, home + "/.cache/huggingface/hub"},
		{[]string{"XDG_CACHE_HOME=/xdg"}, "/xdg/huggingface/hub"},
		{[]string{"XDG_CACHE_HOME=/xdg", "HF_HOME=/hf"}, "/hf/hub"},
		{[]string{"HF_HOME=~/hf"}, home + "/hf/hub"},
		{[]string{"HF_HOME=$BASE/${BASE}/$HUB_TEST_UNSET"}, "/base/base/$HUB_TEST_UNSET/hub"},
		{[]string{"HF_HOME=/hf", "HUGGINGFACE_HUB_CACHE=/old"}, "/old"},
		{[]string{"HF_HOME=/hf", "HUGGINGFACE_HUB_CACHE=/old", "HF_HUB_CACHE=/new"}, "/new"},
		{[]string{"HF_HUB_CACHE=~"}, home},
	} {
		t.Run(strings.Join(c.env, " "), func(t *testing.T) {
			for _, set := range c.env {
				name, value, _ := strings.Cut(set, "=")
				t.Setenv(name, value)
			}
			got, err := DefaultCache()
			if err != nil || filepath.Clean(filepath.ToSlash(got.Dir)) != filepath.ToSlash(c.want) {
				t.Error(got, err, c.want)
			}
		})
	}
	t.Setenv("HOME", "")
	t.Setenv("USERPROFILE", "")
	t.Setenv("home", "")
	_, err := DefaultCache()
	wantError(t, err, nil, "set HF_HUB_CACHE")
}

func TestToken(t *testing.T) {
	home := cleanEnvironment(t)
	token := func() string {
		t.Helper()
		token, err := tokenFromEnvironment()
		if err != nil {
			t.Error(err)
		}
		return token
	}
	if got := token(); got != "" {
		t.Error(got)
	}
	writeTestFile(t, filepath.Join(home, ".cache", "huggingface", "token"), "hf_home\n")
	if got := token(); got != "hf_home" {
		t.Error(got)
	}
	t.Setenv("HF_HOME", filepath.Join(home, "hf"))
	writeTestFile(t, filepath.Join(home, "hf", "token"), " hf_hf_home\r\n")
	if got := token(); got != "hf_hf_home" {
		t.Error(got)
	}
	t.Setenv("HF_TOKEN_PATH", "~/elsewhere")
	writeTestFile(t, filepath.Join(home, "elsewhere"), "hf_path")
	if got := token(); got != "hf_path" {
		t.Error(got)
	}
	t.Setenv("HUGGING_FACE_HUB_TOKEN", "hf_old")
	if got := token(); got != "hf_old" {
		t.Error(got)
	}
	t.Setenv("HF_TOKEN", "hf_env")
	if got := token(); got != "hf_env" {
		t.Error(got)
	}
	t.Setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "true")
	if got := token(); got != "" {
		t.Error(got)
	}
	t.Setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "")
	t.Setenv("HF_TOKEN", "hf secret")
	_, err := tokenFromEnvironment()
	wantError(t, err, nil, "HF_TOKEN: the token has a space")
	t.Setenv("HF_TOKEN", "")
	t.Setenv("HUGGING_FACE_HUB_TOKEN", "")
	t.Setenv("HF_TOKEN_PATH", home)
	_, err = tokenFromEnvironment()
	wantError(t, err, nil, "token file")
}

func TestEndpoint(t *testing.T) {
	cleanEnvironment(t)
	for _, c := range []struct{ argument, environment, want string }{
		{"", "", DefaultEndpoint},
		{"", "http://mirror:8080/hub/", "http://mirror:8080/hub"},
		{"https://other", "http://mirror", "https://other"},
		{"", "mirror", ""}, {"ftp://x", "", ""}, {"http://", "", ""}, {"http://x?y", "", ""}, {"http://x/#y", "", ""}, {"http://[::1", "", ""}, {"http://a:b@x", "", ""},
	} {
		t.Setenv("HF_ENDPOINT", c.environment)
		u, err := parseEndpoint(c.argument)
		if c.want == "" {
			wantError(t, err, nil, "must be http://host")
		} else if err != nil || u.String() != c.want {
			t.Error(u, err)
		}
	}
}

func TestParseRepo(t *testing.T) {
	for s, want := range map[string]Repo{
		"meta-llama/Llama-2-7b-hf":           {ID: "meta-llama/Llama-2-7b-hf"},
		"Qwen/Qwen2.5-14B@main":              {ID: "Qwen/Qwen2.5-14B", Revision: "main"},
		"org/name@refs/pr/1":                 {ID: "org/name", Revision: "refs/pr/1"},
		"gpt2":                               {ID: "gpt2"},
		"datasets/allenai/c4":                {Dataset: true, ID: "allenai/c4"},
		"datasets/squad@v1.0":                {Dataset: true, ID: "squad", Revision: "v1.0"},
		"_a.b/c_@" + commitA:                 {ID: "_a.b/c_", Revision: commitA},
		"org/name@feature/x@y":               {ID: "org/name", Revision: "feature/x@y"},
		"org/" + strings.Repeat("a", 96):     {ID: "org/" + strings.Repeat("a", 96)},
		"org/name@" + strings.Repeat("é", 9): {ID: "org/name", Revision: strings.Repeat("é", 9)},
	} {
		got, err := ParseRepo(s)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(s, diff, err)
		}
		if got.String() != s {
			t.Error(got.String(), s)
		}
	}
	for _, s := range []string{"", "@", "org/name@", "/name", "org/", "a/b/c", "org/-name", "org/name.", "org/na--me", "org/na..me", "org/name.git", "org/na me", "org/näme",
		"../name", "org/" + strings.Repeat("a", 97), "datasets/", "datasets/a/b/c", "org/name@a b", "org/name@a..b", "org/name@/a", "org/name@a/", "org/name@a//b", "org/name@.a",
		"org/name@a/.b", "org/name@a.lock", "org/name@a\\b", "org/name@a\x00b", "org/name@a@{1}", "org/name@a.", "org/name@\xff", "org/name@" + strings.Repeat("a", 256)} {
		if got, err := ParseRepo(s); err == nil {
			t.Errorf("%q is taken as %+v", s, got)
		} else {
			wantError(t, err, nil)
		}
	}
}
