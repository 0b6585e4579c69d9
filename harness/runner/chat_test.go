package runner

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"splitbench/experiments/spec"
	"splitbench/harness/builtin"
)

// TestChat: with chat: on the model sees its template around the context and
// the bare choice behind it; the protocol column says so.
func TestChat(t *testing.T) {
	tiny, err := builtin.Resolve("builtin:random-tiny")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.model"} {
		data, err := os.ReadFile(filepath.Join(tiny, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := `{"bos_token":"<s>","eos_token":"</s>","chat_template":"{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"}`
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	w := bench(t)
	cell := func(chat, task string) spec.Cell {
		return spec.Cell{Model: spec.Model{Name: "m", Path: dir}, Task: spec.Task{Name: task, Path: "builtin:toy", Limit: spec.Limit{Docs: 3}, Block: 32}, Protocol: "joint-bos", Chat: chat}
	}
	on, err := w.Prepare(cell("on", "piqa"))
	if err != nil {
		t.Fatal(err)
	}
	off, err := w.Prepare(cell("off", "piqa"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := w.Tokenizer(spec.Model{Name: "m", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range on.Units {
		for k, r := range u.Doc.Requests {
			choice := strings.TrimPrefix(r.Continuation, " ")
			want := tok.EncodeParsed("<s>[user] "+r.Context+"</s>[assistant] "+choice, false)
			got := append(slices.Clone(u.Requests[k].Input), u.Requests[k].Targets[len(u.Requests[k].Targets)-1])
			if !slices.Equal(got, want) {
				t.Errorf("document %d choice %d: ids %v, expected %v", i, k, got, want)
			}
			if n := strings.Count(choice, ""); len(u.Requests[k].Targets) < n-1 {
				t.Errorf("document %d choice %d: %d tokens scored of %q", i, k, len(u.Requests[k].Targets), choice)
			}
			if slices.Equal(u.Requests[k].Input, off.Units[i].Requests[k].Input) {
				t.Errorf("document %d choice %d: chat changes nothing", i, k)
			}
		}
	}
	if p := Point(cell("on", "piqa"), nil).Protocol; p != "joint-bos+chat" {
		t.Errorf("protocol column %q, expected joint-bos+chat", p)
	}
	if _, err := w.Prepare(cell("on", "wikitext2")); err == nil || !strings.Contains(err.Error(), "chat: on has no meaning") {
		t.Errorf("perplexity with chat: error %v", err)
	}
	if _, err := w.Prepare(spec.Cell{Model: spec.Model{Name: "m", Path: "builtin:random-tiny"}, Task: spec.Task{Name: "piqa", Path: "builtin:toy"}, Protocol: "joint-bos", Chat: "on"}); err == nil {
		t.Error("chat: on was accepted for a model without template")
	}
	s := &spec.Spec{Chat: "off", Models: []spec.Model{{Name: "m", Path: dir}, {Name: "tiny", Path: "builtin:random-tiny"}}}
	if lines := w.instructWarnings(s); len(lines) != 1 || !strings.Contains(lines[0], "model m ") {
		t.Errorf("warnings %q, expected one for model m", lines)
	}
}
