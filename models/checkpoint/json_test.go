package checkpoint

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// accepts runs the scanner over a whole text.
func accepts(text []byte) error {
	s := &scanner{data: text}
	return s.document(s.skip)
}

func TestScannerAgainstStandardLibrary(t *testing.T) {
	for _, text := range []string{
		`null`, `true`, `false`, `0`, `-0`, `1.5e+30`, `1E-2`, `"a"`, `[]`, `{}`, ` [ 1 , 2 ] `, `{"a" : {"b":[null,true]}}`, "\t\r\n{}\n",
		`"\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00"`, `"日本"`,
		``, ` `, `nul`, `nulL`, `tru`, `+1`, `01`, `1.`, `.5`, `1e`, `1e+`, `-`, `--1`, `NaN`, `Infinity`, `'a'`, `"a`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`,
		"\"a\nb\"", "\"\x00\"", `[1,]`, `[,1]`, `[1 2]`, `[1`, `[`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":1`, `{`, `1 2`, `{}}`, `]`, "\ufeff1",
		`// comment`, `{"a":1}//`,
	} {
		if got, want := accepts([]byte(text)) == nil, json.Valid([]byte(text)); got != want {
			t.Errorf("%q: accepted %v, want %v (%v)", text, got, want, accepts([]byte(text)))
		}
	}
	// What the standard library lets pass and this package does not.
	for text, want := range map[string]string{
		`{"a":1,"a":1}`:       "key a is declared twice",
		`{"a":1,"\u0061":1}`:  "key a is declared twice",
		`[{"b":{"":1,"":2}}]`: `key "" is declared twice`,
		"\"\xff\"":            "is not UTF-8 (byte 1)",
		`"\ud800"`:            "half of a surrogate pair",
		`"\ud800\u0041"`:      "half of a surrogate pair",
		`"\udc00"`:            "half of a surrogate pair",
		strings.Repeat("[", 65) + strings.Repeat("]", 65): "nested deeper than 64 levels",
	} {
		wantError(t, accepts([]byte(text)), want)
	}
	if err := accepts([]byte(strings.Repeat("[", 64) + strings.Repeat("]", 64))); err != nil {
		t.Error(err)
	}
}

func TestMessageTexts(t *testing.T) {
	long := strings.Repeat("é", 200)
	for in, want := range map[string]string{
		"":       `""`,
		"a.b":    "a.b",
		"a b":    `"a b"`,
		"a\nb":   `"a\nb"`,
		"größe":  `"größe"`,
		"\u202e": `"\u202e"`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) is %s, want %s", in, got, want)
		}
	}
	if got := printable(long); !utf8.ValidString(got) || len(got) > maxShown+3 {
		t.Errorf("printable of a long name has %d bytes: %q", len(got), got)
	}
	for in, want := range map[string]string{`null`: "null", `[1]`: "a list", `{}`: "an object", `"x"`: `the string "x"`, `1.50`: "1.50", `true`: "true"} {
		if got := value(in).String(); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true}, {"1e4", "10000", true}, {"1", "2", false}, {`"a"`, `"\u0061"`, true}, {`"a"`, `"b"`, false}, {`"1"`, "1", false},
		{"true", "true", true}, {"true", "false", false}, {"1", `"1"`, false},
	} {
		if got := value(c.a).equal(value(c.b)); got != c.want {
			t.Errorf("%s equals %s: %v", c.a, c.b, got)
		}
	}
}

// FuzzJSON compares the scanner with the standard library.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{`{"a":[1,-2.5e3,"x\u00e9\ud83d\ude00\\"],"b":{"c":null}}`, `[true,false]`, `"\ud800"`, `{"a":1,"a":2}`, "\"\xff\"", `01`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := accepts(data)
		valid := json.Valid(data)
		if err == nil && !valid {
			t.Fatal("accepted what is not JSON")
		}
		var twice *duplicateKeyError
		if err != nil && valid && !errors.As(err, &twice) && utf8.Valid(data) &&
			!strings.Contains(err.Error(), "nested deeper") && !strings.Contains(err.Error(), "surrogate") {
			t.Fatalf("refused JSON: %v", err)
		}
		if err != nil {
			return
		}
		if text, ok := value(strings.TrimSpace(string(data))).text(); ok {
			var want string
			if err := json.Unmarshal(data, &want); err != nil || text != want {
				t.Fatalf("%q, want %q, %v", text, want, err)
			}
		}
	})
}
