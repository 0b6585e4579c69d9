package chat

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readShared returns the content of a shared file, unpacked if it ends in .gz, and skips the test if the shared data are not there.
func readShared(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	root := os.Getenv("SPLITBENCH_SHARED")
	if root == "" {
		dir, err := os.Getwd()
		if err != nil {
			tb.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
			if filepath.Dir(dir) == dir {
				tb.Fatal("no go.mod above the test")
			}
			dir = filepath.Dir(dir)
		}
		root = filepath.Join(filepath.Dir(dir), "shared")
	}
	data, err := os.ReadFile(filepath.Join(append([]string{root}, elem...)...))
	if err != nil {
		if os.Getenv("SPLITBENCH_REQUIRE_SHARED") == "1" {
			tb.Fatalf("shared data: %v", err)
		}
		tb.Skipf("shared data not found (set SPLITBENCH_SHARED): %v", err)
	}
	if strings.HasSuffix(elem[len(elem)-1], ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			tb.Fatal(err)
		}
		if data, err = io.ReadAll(z); err != nil {
			tb.Fatal(err)
		}
	}
	return data
}

func goldenTemplate(tb testing.TB, name string) string {
	tb.Helper()
	return string(readShared(tb, "golden", "tokenizers", "chat", "templates", name+".jinja"))
}

func goldenConversations(tb testing.TB) map[int][]Message {
	tb.Helper()
	var rows []struct {
		ID       int
		Messages []map[string]string
	}
	if err := json.Unmarshal(readShared(tb, "golden", "tokenizers", "chat", "conversations.json"), &rows); err != nil {
		tb.Fatal(err)
	}
	conversations := map[int][]Message{}
	for _, r := range rows {
		for _, m := range r.Messages {
			if len(m) != 2 {
				tb.Fatalf("conversation %d: a message has %d keys, role and content expected", r.ID, len(m))
			}
			conversations[r.ID] = append(conversations[r.ID], Message{Role: m["role"], Content: m["content"]})
		}
	}
	return conversations
}

// TestGoldenRenders compares with the renders of jinja2 in the settings of the reference library.
func TestGoldenRenders(t *testing.T) {
	conversations := goldenConversations(t)
	templates := map[string]*Template{}
	texts, refusals := 0, 0
	s := bufio.NewScanner(bytes.NewReader(readShared(t, "golden", "tokenizers", "chat", "renders.jsonl.gz")))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		var row struct {
			Template            string
			Conversation        int
			AddGenerationPrompt bool    `json:"add_generation_prompt"`
			BOS                 *string `json:"bos_token"`
			EOS                 *string `json:"eos_token"`
			Kwargs              map[string]json.RawMessage
			Text, Error         *string
		}
		if err := json.Unmarshal(s.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		tmpl := templates[row.Template]
		if tmpl == nil {
			var err error
			if tmpl, err = Parse(row.Template, goldenTemplate(t, row.Template)); err != nil {
				t.Fatal(err)
			}
			templates[row.Template] = tmpl
		}
		in := Input{Messages: conversations[row.Conversation], AddGenerationPrompt: row.AddGenerationPrompt, Extra: map[string]any{}, Now: time.Date(2025, 3, 7, 12, 0, 0, 0, time.UTC)}
		if row.BOS != nil {
			in.BOSToken = *row.BOS
		}
		if row.EOS != nil {
			in.EOSToken = *row.EOS
		}
		for k, v := range row.Kwargs {
			if k == "tools" {
				in.Tools = v
			} else {
				in.Extra[k] = v
			}
		}
		got, err := tmpl.Render(in)
		switch {
		case row.Error != nil:
			refusals++
			var raised *RaisedError
			if !errors.As(err, &raised) || raised.Message != *row.Error {
				t.Errorf("%s, conversation %d: error %v, want %q", row.Template, row.Conversation, err, *row.Error)
			}
		case row.Text == nil:
			t.Fatalf("%s, conversation %d: neither text nor error", row.Template, row.Conversation)
		case err != nil:
			t.Errorf("%s, conversation %d: %v", row.Template, row.Conversation, err)
		default:
			texts++
			if got != *row.Text {
				t.Errorf("%s, conversation %d, kwargs %s:\n got %q\nwant %q", row.Template, row.Conversation, row.Kwargs, got, *row.Text)
			}
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if texts+refusals != 295 || refusals != 14 {
		t.Errorf("%d texts and %d refusals compared, 281 and 14 expected", texts, refusals)
	}
}

// TestGoldenConfigs reads the published layout of each family.
func TestGoldenConfigs(t *testing.T) {
	for _, family := range []struct{ name, bos, eos, template string }{
		{"llama2", "<s>", "</s>", "llama2-chat"},
		{"llama3", "<|begin_of_text|>", "<|eot_id|>", "llama3.1-instruct"},
		{"qwen2", "", "<|im_end|>", "qwen2.5-instruct"},
		{"phi4", "<|endoftext|>", "<|im_end|>", "phi4"},
		{"tekken", "<s>", "</s>", "mistral-nemo-instruct-2407"},
	} {
		data := readShared(t, "golden", "tokenizers", family.name, "tokenizer_config.json")
		tmpl, err := FromConfig(data)
		if errors.Is(err, ErrNoTemplate) && !bytes.Contains(data, []byte(`"chat_template": "`)) {
			t.Logf("%s: no template in the configuration", family.name)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", family.name, err)
			continue
		}
		if bos, eos := tmpl.SpecialToken("bos_token"), tmpl.SpecialToken("eos_token"); bos != family.bos || eos != family.eos {
			t.Errorf("%s: special tokens %q and %q, want %q and %q", family.name, bos, eos, family.bos, family.eos)
		}
		file, err := Parse(family.template, goldenTemplate(t, family.template))
		if err != nil {
			t.Fatal(err)
		}
		in := Input{Messages: []Message{{Role: "user", Content: "Hello"}}, AddGenerationPrompt: true}
		got, err := tmpl.Render(in)
		if err != nil {
			t.Error(err)
		}
		in.BOSToken, in.EOSToken = family.bos, family.eos
		want, err := file.Render(in)
		if err != nil || got != want {
			t.Errorf("%s: %q, want %q (%v)", family.name, got, want, err)
		}
	}
}
