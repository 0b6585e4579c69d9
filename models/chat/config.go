package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// ErrNoTemplate says that a tokenizer has no chat template, as those of base models do not.
var ErrNoTemplate = errors.New("no chat template")

// maxConfigBytes bounds tokenizer_config.json; large ones describe a thousand added tokens in some 200 kB.
const maxConfigBytes = 16 << 20

// specialTokenNames are the keys of tokenizer_config.json that templates see as variables.
var specialTokenNames = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

type config struct {
	special   map[string]string
	templates map[string]string // by name; one without a name is "default"
}

// FromConfig reads the chat template and the special tokens of a tokenizer_config.json. chat_template is a string, or a list of objects with name and template:
// then "default" is taken, and "tool_use" if it is there for conversations with tools. The error is ErrNoTemplate (wrapped) when the key is absent or null.
func FromConfig(tokenizerConfigJSON []byte) (*Template, error) {
	c, err := parseConfig(tokenizerConfigJSON)
	if err != nil {
		return nil, err
	}
	return c.template("tokenizer_config.json")
}

// Load reads the chat template of a model folder: chat_template.jinja, with additional_chat_templates/tool_use.jinja, when it is there, else the one in tokenizer_config.json.
// Special tokens come from tokenizer_config.json. The error is ErrNoTemplate (wrapped) when there is neither.
func Load(dir string) (*Template, error) {
	c := &config{}
	data, err := readBounded(filepath.Join(dir, "tokenizer_config.json"), maxConfigBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if c, err = parseConfig(data); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	text, err := readBounded(filepath.Join(dir, "chat_template.jinja"), MaxTemplateBytes)
	switch {
	case err == nil:
		c.templates = map[string]string{"default": string(text)} // the file wins over the configuration
		tool, err := readBounded(filepath.Join(dir, "additional_chat_templates", "tool_use.jinja"), MaxTemplateBytes)
		if err == nil {
			c.templates["tool_use"] = string(tool)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return c.template(dir)
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return data, nil
}

func (c *config) template(source string) (*Template, error) {
	if len(c.templates) == 0 {
		return nil, fmt.Errorf("%s: %w", source, ErrNoTemplate)
	}
	text, ok := c.templates["default"]
	if !ok {
		names := make([]string, 0, len(c.templates))
		for n := range c.templates {
			names = append(names, n)
		}
		slices.Sort(names)
		return nil, fmt.Errorf(`%s: chat_template: "default" expected among %.200q`, source, names)
	}
	t, err := Parse(source, text)
	if err != nil {
		return nil, err
	}
	t.special = c.special
	if tool, ok := c.templates["tool_use"]; ok {
		if t.toolUse, err = Parse(source+" (tool_use)", tool); err != nil {
			return nil, err
		}
		t.toolUse.special = c.special
	}
	return t, nil
}

func parseConfig(data []byte) (*config, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	c := &config{special: map[string]string{}, templates: map[string]string{}}
	for _, name := range specialTokenNames {
		raw, ok := keys[name]
		if !ok || string(raw) == "null" {
			continue
		}
		var token struct{ Content *string }
		var text string
		switch err := json.Unmarshal(raw, &text); {
		case err == nil:
			c.special[name] = text
		case json.Unmarshal(raw, &token) == nil && token.Content != nil:
			c.special[name] = *token.Content
		default:
			return nil, fmt.Errorf("tokenizer_config.json: %s: string or object with content expected", name)
		}
	}
	raw, ok := keys["chat_template"]
	if !ok || string(raw) == "null" {
		return c, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		c.templates["default"] = text
		return c, nil
	}
	var named []struct{ Name, Template *string }
	if err := json.Unmarshal(raw, &named); err != nil {
		return nil, errors.New("tokenizer_config.json: chat_template: string or list of objects with name and template expected")
	}
	for i, n := range named {
		if n.Name == nil || n.Template == nil {
			return nil, fmt.Errorf("tokenizer_config.json: chat_template: entry %d: name and template expected", i)
		}
		if _, ok := c.templates[*n.Name]; ok {
			return nil, fmt.Errorf("tokenizer_config.json: chat_template: name %s is there twice", shortQuote(*n.Name))
		}
		c.templates[*n.Name] = *n.Template
	}
	return c, nil
}
