package chat

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// vectorInput is what the templates of testdata/jinja2.jsonl were rendered with by jinja2 3.1.6, with the clock fixed.
func vectorInput(tb testing.TB) Input {
	tb.Helper()
	data, err := os.ReadFile("testdata/variables.json")
	if err != nil {
		tb.Fatal(err)
	}
	var vars map[string]json.RawMessage
	if err := json.Unmarshal(data, &vars); err != nil {
		tb.Fatal(err)
	}
	in := Input{Extra: map[string]any{}, Now: time.Date(2025, 3, 7, 4, 5, 9, 0, time.UTC)}
	for k, v := range vars {
		in.Extra[k] = v
	}
	return in
}

type vector struct{ Template, Text string }

func vectors(tb testing.TB) []vector {
	tb.Helper()
	data, err := os.ReadFile("testdata/jinja2.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	var rows []vector
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		var v vector
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			tb.Fatal(err)
		}
		rows = append(rows, v)
	}
	return rows
}

// TestJinja2Vectors compares small templates, of white-space control above all, with what jinja2 made of them.
func TestJinja2Vectors(t *testing.T) {
	in := vectorInput(t)
	for _, v := range vectors(t) {
		tmpl, err := Parse("vector", v.Template)
		if err != nil {
			t.Errorf("%q: %v", v.Template, err)
			continue
		}
		if got, err := tmpl.Render(in); err != nil || got != v.Text {
			t.Errorf("%q:\n got %q, %v\nwant %q", v.Template, got, err, v.Text)
		}
	}
}

// render parses and renders with the vectors' variables.
func render(text string, in Input) (string, error) {
	tmpl, err := Parse("t", text)
	if err != nil {
		return "", err
	}
	return tmpl.Render(in)
}

func TestErrors(t *testing.T) {
	in := vectorInput(t)
	for _, c := range []struct{ template, want string }{
		{"a\n{% macro f() %}{% endmacro %}", `line 2: tag "macro" is not supported`},
		{"{% include '/etc/hostname' %}", `line 1: tag "include" is not supported`},
		{"{% import 'x' as y %}", `tag "import" is not supported`},
		{"{% raw %}{{ }{% endraw %}", `tag "raw" is not supported`},
		{"{% generation %}", `tag "generation" is not supported`},
		{"{% set x %}a{% endset %}", "block form"},
		{"{% for x in l recursive %}{% endfor %}", "recursive loops are not supported"},
		{"\n\n{{ l | sort }}", `line 3: filter "sort" is not supported`},
		{"{{ l is divisibleby 3 }}", `test "divisibleby" is not supported`},
		{"{{ l | select('divisibleby', 3) }}", `test "divisibleby" of filter select is not supported`},
		{"{{ range(3) }}", `function "range" is not supported`},
		{"{{ 'a'.upper() }}", `method "upper" is not supported`},
		{"{{ l.append(1) }}", `method "append" is not supported`},
		{"{{ 'a'.upper }}", `attribute "upper" of str is not supported`},
		{"{{ ''.__class__ }}", `attribute "__class__" is not supported`},
		{"{{ ''['__class__'] }}", `attribute "__class__" is not supported`},
		{"{{ 2 ** 3 }}", `operator "**" is not supported`},
		{"{{ f(*l) }}", `argument with "*" is not supported`},
		{"{{ 1", "tag without }}"},
		{"{% if 1 %}a", `line 1: tag "if" is not closed`},
		{"{% for a in l %}{% endif %}", `tag "endif" has no opening tag here`},
		{"{% endfor %}", "has no opening tag"},
		{"{# a", "comment without #}"},
		{"{{ 'a }}", "string without closing quote"},
		{"{{ 1 2 }}", `"}}" expected, found "2"`},
		{"{{ }}", "expression expected"},
		{"{{ $ }}", `unexpected character '$'`},
		{"{{ (1] }}", `unexpected "]"`},
		{"{{ 0x10 }}", "is not supported"},
		{"{{ 99999999999999999999 }}", "out of the 64-bit range"},
		{"{{ '\\N{DASH}' }}", "is not supported"},
		{"{{ '\\ud83d' }}", "is no character"},
		{"{% break %}", "break outside a loop"},
		{"{% set loop = 1 %}", "cannot be assigned to"},
		{"{% set v.x = 1 %}", "v is no namespace"},
		{"\n{{ q.x }}", `line 2: q is undefined: attribute "x"`},
		{"{{ v.q.x }}", `dict object has no attribute "q": attribute "x"`},
		{"{{ q + 'a' }}", `q is undefined: operator "+"`},
		{"{{ 'a' + 1 }}", `operator "+" does not work on str and int`},
		{"{{ 'a' * 3 }}", `operator "*" does not work on str and int`},
		{"{{ 1 < 'a' }}", `operator "<" does not work on int and str`},
		{"{{ 1 in 2 }}", `operator "in" does not work on int and int`},
		{"{{ 1 // 0 }}", "division by zero"},
		{"{{ 9223372036854775807 + 1 }}", "64-bit range"},
		{"{{ 9223372036854775807 * 2 }}", "64-bit range"},
		{"{{ n | length }}", "a value of type None has no length"},
		{"{{ l | select | length }}", "has no length"},
		{"{{ l | select }}", "cannot be printed"},
		{"{{ q | tojson }}", "cannot be written as JSON"},
		{"{{ namespace() | tojson }}", "cannot be written as JSON"},
		{"{% for a, b in [[1]] %}{% endfor %}", "1 values cannot be unpacked into 2 names"},
		{"{% for a in n %}{% endfor %}", "type None cannot be iterated over"},
		{"{{ q() }}", "q is undefined and cannot be called"},
		{"{{ l() }}", "cannot be called"},
		{"{{ l[::0] }}", "slice step is zero"},
		{"{{ l['a':] }}", "int expected"},
		{"{{ {1: 2} }}", "str expected"},
		{"{{ strftime_now('%Q') }}", `directive "%Q" is not supported`},
		{"{{ v | tojson(2) }}", "by name only"},
		{"{{ v | tojson(default=1) }}", `argument "default" of filter tojson is not supported`},
		{"{{ raise_exception('no\nway') }}", "refused: no way"},
		{"{{ loop.index }}", "loop is undefined"},
		{"{% for x in l %}{{ loop.cycle }}{% endfor %}", `attribute "cycle" of loop is not supported`},
		{strings.Repeat("{% if 1 %}", 100), "nested more than"},
		{"{{ " + strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000) + " }}", "nested more than"},
		{"{{ " + strings.Repeat("-", 1000) + "1 }}", "nested more than"},
		{"{{ " + strings.Repeat("not ", 1000) + "1 }}", "nested more than"},
		{"{{ 1" + strings.Repeat("+1", 1000) + " }}", "operations in a row"},
		{"{{ a" + strings.Repeat(".a", 1000) + " }}", "operations in a row"},
		{"{{ a" + strings.Repeat("|trim", 1000) + " }}", "operations in a row"},
		{strings.Repeat("x", MaxTemplateBytes+1), "bytes, at most"},
		{"\xff", "not valid UTF-8"},
	} {
		_, err := render(c.template, in)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "chat template t: ") {
			t.Errorf("%.80q: error %v, want one line with %q", c.template, err, c.want)
		}
	}
}

// TestBounds runs templates that would never end or would fill the memory.
func TestBounds(t *testing.T) {
	in := vectorInput(t)
	digits := "[" + strings.Repeat("0,", 200) + "]"
	loops := func(depth int, body string) string {
		return "{% set r = " + digits + " %}" + strings.Repeat("{% for a in r %}", depth) + body + strings.Repeat("{% endfor %}", depth)
	}
	for _, c := range []struct{ template, want string }{
		{loops(4, ""), "steps"},
		{"{% set ns = namespace(s='x') %}" + loops(1, "{% set ns.s = ns.s + ns.s %}"), "bytes of memory"},
		{"{% set ns = namespace(s=['x']) %}" + loops(1, "{% set ns.s = ns.s + ns.s %}"), "bytes of memory"},
		{"{% set ns = namespace(s='xx') %}" + loops(1, "{% set ns.s = ns.s.replace('x', ns.s) %}"), "bytes of memory"},
		{"{% set ns = namespace(s=[1]) %}" + loops(1, "{% set ns.s = [ns.s, ns.s] %}") + "{{ ns.s }}", "deep"},
		{"{% set ns = namespace(s=[1]) %}" + "{% for a in " + "[" + strings.Repeat("0,", 60) + "]" + " %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == ns.s }}{{ ns.s | tojson }}", "than"},
		{loops(3, strings.Repeat("y", 1000)), "output is longer than"},
		{"{% set ns = namespace(s='xxxxxxxx') %}{% for a in [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0] %}{% set ns.s = ns.s + ns.s %}{% endfor %}{% set t = ns.s + 'a' %}{% set u = ns.s + 'b' %}" + loops(3, "{% if t == u %}{% endif %}"), "steps"},
	} {
		if _, err := render(c.template, in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q...: error %v, want %q", c.template, err, c.want)
		}
	}
}

// The values were worked out from the templates by hand and agree with jinja2.
func TestToolCalls(t *testing.T) {
	in := Input{BOSToken: "<s>", EOSToken: "</s>", Messages: []Message{
		{Role: "user", Content: "q"},
		{Role: "assistant", ToolCalls: json.RawMessage(`[{"id":"abcdefghi","function":{"name":"f","arguments":{"z":1,"a":[true,null]}}}]`)},
		{Role: "tool", Content: "42", ToolCallID: "abcdefghi"},
	}}
	for name, want := range map[string]string{
		"mistral-nemo-instruct-2407": `<s>[INST]q[/INST][TOOL_CALLS][{"name": "f", "arguments": {"z": 1, "a": [true, null]}, "id": "abcdefghi"}]</s>[TOOL_RESULTS]{"content": 42, "call_id": "abcdefghi"}[/TOOL_RESULTS]`,
		"qwen2.5-instruct": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n" +
			"<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": [true, null]}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n",
	} {
		got, err := render(goldenTemplate(t, name), in)
		if err != nil || got != want {
			t.Errorf("%s:\n got %q, %v\nwant %q", name, got, err, want)
		}
	}
}

func TestClock(t *testing.T) {
	got, err := render("{{ strftime_now is defined }}", Input{})
	if err != nil || got != "False" {
		t.Errorf("without a clock: %q, %v, want False", got, err)
	}
}

func TestInputErrors(t *testing.T) {
	for _, c := range []struct {
		in   Input
		want string
	}{
		{Input{Tools: json.RawMessage(`{"a":1}`)}, "tools: JSON array expected, found dict"},
		{Input{Tools: json.RawMessage(`[`)}, "tools: unexpected EOF"},
		{Input{Tools: json.RawMessage(`[1] 2`)}, "more than one JSON value"},
		{Input{Tools: json.RawMessage(`[18446744073709551615]`)}, "64-bit range"},
		{Input{Tools: json.RawMessage(strings.Repeat("[", 500) + strings.Repeat("]", 500))}, "nested more than 128 deep"},
		{Input{Messages: []Message{{Role: "user", Content: "\xff"}}}, "message 0: content is not valid UTF-8"},
		{Input{Messages: []Message{{Role: "user", ToolCalls: json.RawMessage(`"x"`)}}}, "message 0: tool calls: JSON array expected, found str"},
		{Input{Extra: map[string]any{"messages": 1}}, "extra variable messages has a field of its own"},
		{Input{Extra: map[string]any{"x": struct{}{}}}, `extra variable "x": type struct {} is not supported`},
		{Input{BOSToken: "\xff"}, `variable "bos_token" is not valid UTF-8`},
	} {
		if _, err := render("x", c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %q", c.in, err, c.want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct{ config, plain, tools, failure string }{
		{`{"chat_template":"{{ bos_token }}|{{ eos_token }}|{{ unk_token }}","bos_token":"<s>","eos_token":{"__type":"AddedToken","content":"</s>"},"unk_token":null}`, "<s>|</s>|", "<s>|</s>|", ""},
		{`{"chat_template":[{"name":"default","template":"plain{{ bos_token }}"},{"name":"tool_use","template":"tools{{ bos_token }}"}],"bos_token":"B"}`, "plainB", "toolsB", ""},
		{`{"chat_template":[{"name":"rag","template":"x"}]}`, "", "", `"default" expected among ["rag"]`},
		{`{"chat_template":[{"name":"default","template":"x"},{"name":"default","template":"y"}]}`, "", "", `name "default" is there twice`},
		{`{"chat_template":[{"name":"default"}]}`, "", "", "entry 0: name and template expected"},
		{`{"chat_template":3}`, "", "", "string or list of objects"},
		{`{"chat_template":"{% x %}"}`, "", "", `chat template tokenizer_config.json: line 1: tag "x"`},
		{`{"chat_template":"x","bos_token":3}`, "", "", "bos_token: string or object with content expected"},
		{`{"bos_token":"<s>"}`, "", "", "no chat template"},
		{`{"chat_template":null}`, "", "", "no chat template"},
		{`[`, "", "", "tokenizer_config.json: "},
	} {
		tmpl, err := FromConfig([]byte(c.config))
		if c.failure != "" {
			if err == nil || !strings.Contains(err.Error(), c.failure) {
				t.Errorf("%s: error %v, want %q", c.config, err, c.failure)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.config, err)
			continue
		}
		for tools, want := range map[string]string{"": c.plain, "null": c.plain, `[{"type":"function"}]`: c.tools} {
			if got, err := tmpl.Render(Input{Tools: json.RawMessage(tools)}); err != nil || got != want {
				t.Errorf("%s, tools %q: %q, %v, want %q", c.config, tools, got, err, want)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, ErrNoTemplate) {
		t.Errorf("empty folder: error %v, want %v", err, ErrNoTemplate)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(tools, want string) {
		t.Helper()
		tmpl, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Render(Input{Tools: json.RawMessage(tools)}); err != nil || got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	write("tokenizer_config.json", `{"chat_template":"config{{ bos_token }}","bos_token":"B"}`)
	check("", "configB")
	write("chat_template.jinja", "file{{ bos_token }}\n")
	check("[]", "fileB")
	write("additional_chat_templates/tool_use.jinja", "tools{{ bos_token }}")
	check("", "fileB")
	check("[{}]", "toolsB")
	write("chat_template.jinja", strings.Repeat("x", MaxTemplateBytes+1))
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("large file: error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Template)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Parse("fuzz", text); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of more than one line: %v", err)
		}
	})
}

func FuzzRender(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Template, "user", "text", `[{"a":[1,2.5,null]}]`)
	}
	f.Fuzz(func(t *testing.T, text, role, content, tools string) {
		tmpl, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		in := Input{Messages: []Message{{Role: role, Content: content}}, Tools: json.RawMessage(tools), Extra: map[string]any{"l": []string{"a", "b"}, "v": json.RawMessage(`{"a":[1]}`)}}
		first, err := tmpl.Render(in)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of more than one line: %v", err)
			}
			return
		}
		if second, err := tmpl.Render(in); err != nil || first != second {
			t.Errorf("two renders differ: %q and %q, %v", first, second, err)
		}
	})
}
