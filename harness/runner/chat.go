package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"splitbench/experiments/spec"
	"splitbench/harness/exec"
	"splitbench/models/chat"
	"splitbench/models/tokenizer"
	"splitbench/tasks"
)

// chatOn is the value of the spec's key chat that applies the template.
const chatOn = "on"

// chatPrompt puts contexts through a model's chat template, as
// lm-evaluation-harness does with apply_chat_template: the context becomes one
// user message with the generation prompt behind it, the continuation loses
// the delimiter space, and special tokens written by the template become their
// ids.
type chatPrompt struct {
	template  *chat.Template
	tokenizer tasks.Tokenizer
}

// parsing is a tokenizer whose Encode turns special tokens in the text into
// their ids.
type parsing struct{ tokenizer.Tokenizer }

func (p parsing) Encode(text string, special bool) []int32 { return p.EncodeParsed(text, special) }

// templateDir is the folder that may hold a model's chat template.
func templateDir(m spec.Model) (string, error) {
	path := m.Path
	if m.Tokenizer != "" {
		path = m.Tokenizer
	}
	path, err := exec.Locate(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		path = filepath.Dir(path)
	}
	return path, nil
}

func (w *Workbench) chatPrompt(m spec.Model, t tokenizer.Tokenizer) (*chatPrompt, error) {
	dir, err := templateDir(m)
	if err != nil {
		return nil, err
	}
	template, err := chat.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("model %s: chat: on: %w", m.Name, err)
	}
	return &chatPrompt{template, parsing{t}}, nil
}

func (c *chatPrompt) apply(r tasks.Request) (tasks.Request, error) {
	text, err := c.template.Render(chat.Input{Messages: []chat.Message{{Role: "user", Content: r.Context}}, AddGenerationPrompt: true})
	if err != nil {
		return r, err
	}
	return tasks.Request{Context: text, Continuation: strings.TrimPrefix(r.Continuation, " ")}, nil
}

// instructWarnings names the models that have a chat template and are scored
// without it.
func (w *Workbench) instructWarnings(s *spec.Spec) []string {
	if s.Chat == chatOn {
		return nil
	}
	for _, g := range s.Sweep.Groups {
		for _, a := range g {
			if a.Name == "chat" {
				return nil // both are compared
			}
		}
	}
	var lines []string
	for _, m := range s.Models {
		dir, err := templateDir(m)
		if err != nil {
			continue // reported where the model is opened
		}
		if _, err := chat.Load(dir); err == nil || !errors.Is(err, chat.ErrNoTemplate) && !errors.Is(err, os.ErrNotExist) {
			lines = append(lines, fmt.Sprintf("model %s has a chat template and is scored without it (chat: off, the paper's protocol)", m.Name))
		}
	}
	return lines
}
