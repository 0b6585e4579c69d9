// Package chat renders the chat templates of instruct models: it turns a conversation into the text that the model was trained on.
//
// A template is Jinja, rendered as the reference library renders it: a sandbox with trim_blocks, lstrip_blocks and loop controls,
// the functions raise_exception, strftime_now and namespace, and tojson as json.dumps without escaping. The package evaluates the part of Jinja
// that such templates use: if, for, set, break and continue, expressions with the usual operators, slices, conditions and tuples, and the filters,
// tests and methods listed in builtins.go. Anything else is an error that names the construct and its line; most such errors come from Parse.
//
// Templates come with checkpoints and are not trusted. They reach nothing but their input, and size, nesting, steps, memory and output are bounded.
// Three things differ from Python knowingly: integers have 64 bits, dicts have keys of type str only, and filters that Python computes on demand are
// computed at once.
package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxTemplateBytes is the largest template that Parse takes; published ones have some 20 kB at most.
	MaxTemplateBytes = 256 << 10
	// MaxOutputBytes is the longest text that Render gives.
	MaxOutputBytes = 16 << 20
)

// A Message is one turn of a conversation. Role and Content are always visible to the template, the other fields only when they are not empty.
type Message struct {
	Role    string
	Content string
	// Name is the name of the tool or person that speaks.
	Name string
	// ToolCalls is a JSON array of the calls that an assistant makes; the order of its keys is kept.
	ToolCalls json.RawMessage
	// ToolCallID is the call that a message of role tool answers.
	ToolCallID string
}

// Input is what a template is rendered with.
type Input struct {
	Messages []Message
	// AddGenerationPrompt asks for the header of the assistant's next turn at the end.
	AddGenerationPrompt bool
	// BOSToken and EOSToken are the texts of the special tokens. Empty means the tokenizer's own (see FromConfig); the variable is undefined when that has none.
	BOSToken, EOSToken string
	// Tools is a JSON array of function descriptions, whose key order is kept. Empty means none.
	Tools json.RawMessage
	// Extra holds further variables (such as date_string), of type nil, bool, int, int64, float64, string, []string or json.RawMessage.
	Extra map[string]any
	// Now is the clock of strftime_now. The zero time means that the function is not defined; a template then takes the date written in it.
	Now time.Time
}

// A Template is a parsed chat template. It can be rendered by several goroutines at a time.
type Template struct {
	name    string
	body    []node
	special map[string]string
	toolUse *Template // rendered instead when there are tools
}

// A RaisedError says that a template refused a conversation by raise_exception.
type RaisedError struct {
	Template string // name of the template
	Line     int    // 1-based
	Message  string // as the template wrote it
}

// Error gives one line.
func (e *RaisedError) Error() string {
	return fmt.Sprintf("chat template %s: line %d: refused: %s", e.Template, e.Line, strings.Join(strings.Fields(e.Message), " "))
}

// Parse reads a template; name stands in errors. A template larger than MaxTemplateBytes, one that is no UTF-8, and one that is outside the supported part of Jinja is an error.
func Parse(name, text string) (*Template, error) {
	if len(text) > MaxTemplateBytes {
		return nil, fmt.Errorf("chat template %s: %d bytes, at most %d expected", name, len(text), MaxTemplateBytes)
	}
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("chat template %s: not valid UTF-8", name)
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, fmt.Errorf("chat template %s: %w", name, err)
	}
	body, err := parse(tokens)
	if err != nil {
		return nil, fmt.Errorf("chat template %s: %w", name, err)
	}
	return &Template{name: name, body: body}, nil
}

// SpecialToken returns the text that the tokenizer's configuration gives for a name such as "bos_token", and "" for none.
func (t *Template) SpecialToken(name string) string { return t.special[name] }

// Render returns the text of a conversation. It already holds the special tokens that the template writes, so it is encoded with special tokens parsed
// and without adding any. A conversation that the template refuses gives a *RaisedError.
func (t *Template) Render(in Input) (string, error) {
	if string(bytes.TrimSpace(in.Tools)) == "null" {
		in.Tools = nil
	}
	if t.toolUse != nil && len(in.Tools) > 0 {
		t = t.toolUse
	}
	top, err := variables(in, t.special)
	if err != nil {
		return "", fmt.Errorf("chat template %s: %w", t.name, err)
	}
	e := &evaluator{scope: &scope{names: top, parent: &scope{names: globals(in.Now)}}}
	if _, err := e.run(t.body); err != nil {
		var raised *RaisedError
		if errors.As(err, &raised) {
			raised.Template = t.name
			return "", raised
		}
		return "", fmt.Errorf("chat template %s: %w", t.name, err)
	}
	return e.out.String(), nil
}

// variables are the names that a template sees at its start.
func variables(in Input, special map[string]string) (map[string]any, error) {
	vars := map[string]any{"add_generation_prompt": in.AddGenerationPrompt, "tools": nil, "documents": nil}
	for k, v := range special {
		vars[k] = v
	}
	if in.BOSToken != "" {
		vars["bos_token"] = in.BOSToken
	}
	if in.EOSToken != "" {
		vars["eos_token"] = in.EOSToken
	}
	messages := &list{items: make([]any, len(in.Messages))}
	for i, m := range in.Messages {
		d, err := m.value()
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		messages.items[i] = d
	}
	vars["messages"] = messages
	if len(in.Tools) > 0 {
		tools, err := decodeJSON(in.Tools)
		if err != nil {
			return nil, fmt.Errorf("tools: %w", err)
		}
		if _, ok := tools.(*list); !ok {
			return nil, fmt.Errorf("tools: JSON array expected, found %s", typeName(tools))
		}
		vars["tools"] = tools
	}
	for _, k := range sortedKeys(in.Extra) {
		if slices.Contains([]string{"messages", "tools", "add_generation_prompt"}, k) {
			return nil, fmt.Errorf("extra variable %s has a field of its own", k)
		}
		v, err := extraValue(in.Extra[k])
		if err != nil {
			return nil, fmt.Errorf("extra variable %s: %w", shortQuote(k), err)
		}
		vars[k] = v
	}
	for _, k := range sortedKeys(vars) {
		if s, ok := vars[k].(string); ok && !utf8.ValidString(s) {
			return nil, fmt.Errorf("variable %s is not valid UTF-8", shortQuote(k))
		}
	}
	return vars, nil
}

func (m Message) value() (any, error) {
	d := newDict()
	d.set("role", m.Role)
	d.set("content", m.Content)
	if m.Name != "" {
		d.set("name", m.Name)
	}
	if len(m.ToolCalls) > 0 {
		calls, err := decodeJSON(m.ToolCalls)
		if err != nil {
			return nil, fmt.Errorf("tool calls: %w", err)
		}
		if _, ok := calls.(*list); !ok {
			return nil, fmt.Errorf("tool calls: JSON array expected, found %s", typeName(calls))
		}
		d.set("tool_calls", calls)
	}
	if m.ToolCallID != "" {
		d.set("tool_call_id", m.ToolCallID)
	}
	for _, k := range d.keys {
		if s, ok := d.values[k].(string); ok && !utf8.ValidString(s) {
			return nil, fmt.Errorf("%s is not valid UTF-8", k)
		}
	}
	return d, nil
}

func extraValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, float64, string:
		return v, nil
	case int:
		return int64(v), nil
	case []string:
		l := &list{}
		for _, s := range v {
			if !utf8.ValidString(s) {
				return nil, errors.New("not valid UTF-8")
			}
			l.items = append(l.items, s)
		}
		return l, nil
	case json.RawMessage:
		return decodeJSON(v)
	}
	return nil, fmt.Errorf("type %T is not supported", v)
}
