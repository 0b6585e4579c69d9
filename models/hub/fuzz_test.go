package hub

import (
	"path"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// oneLine checks that an error is one short line.
func oneLine(t *testing.T, err error) {
	if err != nil && (len(err.Error()) > 1500 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(err.Error())) {
		t.Errorf("not one short line: %q", err)
	}
}

func FuzzListing(f *testing.F) {
	for _, seed := range []string{
		`{"id":"org/name","sha":"` + commitA + `","gated":"manual","siblings":[{"rfilename":"config.json"},{"rfilename":"a/b.safetensors","size":3}]}`,
		`{"sha":"` + commitA + `","siblings":[{"rfilename":"../x"},{"rfilename":"a"},{"rfilename":"a/b"},{}]}`,
		`{"sha":"` + strings.ToUpper(commitA) + `"}`, `{"sha":1}`, `{"siblings":null}`, `[]`, ``, `{"error":"Repository not found"}`, strings.Repeat("[", 20000),
		`{"sha":"` + commitA + `","siblings":[{"rfilename":"\ud800"},{"rfilename":"\u0000"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := decodeListing(data)
		oneLine(t, err)
		if err != nil {
			return
		}
		if len(l.commit) != 40 || len(l.names) > len(data) {
			t.Error(l)
		}
		for _, repo := range []Repo{{ID: "org/name"}, {ID: "org/name", Dataset: true}} {
			names, err := selectFiles(l.names, repo, nil, nil)
			oneLine(t, err)
			if err != nil {
				continue
			}
			err = checkFileNames(names)
			oneLine(t, err)
			if err != nil {
				continue
			}
			for _, name := range names {
				checkInside(t, name)
			}
		}
	})
}

// checkInside checks that an accepted name stays below a folder, for every way in which a system reads it.
func checkInside(t *testing.T, name string) {
	if !strings.HasPrefix(filepath.Join("/snapshot", filepath.FromSlash(name))+"/", filepath.FromSlash("/snapshot/")) || filepath.Join("/snapshot", name) == filepath.FromSlash("/snapshot") {
		t.Errorf("%q leaves the folder", name)
	}
	if path.IsAbs(name) || filepath.IsAbs(name) || strings.ContainsAny(name, "\\\x00\n") || name != path.Clean(name) {
		t.Errorf("%q is accepted", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			t.Errorf("%q is accepted", name)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, seed := range []string{"config.json", "a/b/c", "../a", "a/../b", "/a", `a\b`, "a//b", ".", "..", "", "a/.", "...", "..a", "C:a", "a\x00", "\u202e", "\xff", "con/nul", "a/..b/c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := checkFileName(name)
		oneLine(t, err)
		if err == nil {
			checkInside(t, name)
		}
	})
}

func FuzzParseRepo(f *testing.F) {
	for _, seed := range []string{"org/name", "org/name@main", "datasets/org/name@refs/pr/1", "gpt2", "a/b/c", "org/name@../../x", "@", "org/na--me", "org/name@a@{b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRepo(s)
		oneLine(t, err)
		if err != nil {
			return
		}
		if r.String() != s {
			t.Errorf("%q becomes %q", s, r)
		}
		checkInside(t, r.folder())
		checkInside(t, "refs/"+r.revision())
		if strings.Contains(r.folder(), "/") || strings.Count(r.folder(), "--") != 1+strings.Count(r.ID, "/") {
			t.Errorf("%q has the folder %q", s, r.folder())
		}
	})
}

func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{{"*.json", "config.json"}, {"[!a-c]*", "x"}, {"[", "["}, {"a*b*", "aab"}, {"[]-a]", "]"}, {"dir/", "dir/x"}, {"\xff*", "\xff"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 200 || len(name) > 200 {
			return
		}
		match(pattern, name)
		if !match("*", name) || !match(strings.Repeat("?", utf8.RuneCountInString(name)), name) {
			t.Errorf("%q is not matched by wildcards", name)
		}
		if !hasWildcard(pattern) && match(pattern, name) != (string([]rune(pattern)) == string([]rune(name))) {
			t.Errorf("match(%q, %q)", pattern, name)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-9/10", "bytes 5-9/*", "bytes */10", "bytes 9-5/10", "bytes 0-9/9", "bytes -1-2/3", "", "bytes 0-18446744073709551615/*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, total, err := parseContentRange(s)
		oneLine(t, err)
		if err == nil && (from < 0 || total < -1 || total >= 0 && from >= total) {
			t.Errorf("%q gives %d of %d", s, from, total)
		}
	})
}
