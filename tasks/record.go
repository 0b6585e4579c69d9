package tasks

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// record is one row: column name to string, json.Number, bool, nil, []any or map[string]any, whatever file layout it came from.
type record map[string]any

// row is a record with its place and, for a row of llama.cpp's HellaSwag list, the query in lm-eval's form.
type row struct {
	record
	where    string // file:line, or file and row of a parquet file
	restored string
}

// typeName says in words what JSON type v has.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "text"
	case json.Number:
		return "the number " + v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		return "a list"
	}
	return "an object"
}

// text returns the text of column key.
func (r record) text(key string) (string, error) {
	v, ok := r[key]
	if !ok {
		return "", fmt.Errorf("key %q is missing, expected text", key)
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("key %q is %s, expected text", key, typeName(v))
	}
	return s, nil
}

// texts returns a list of texts.
func texts(key string, v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return nil, fmt.Errorf("key %q is missing, expected a list of texts", key)
		}
		return nil, fmt.Errorf("key %q is %s, expected a list of texts", key, typeName(v))
	}
	out := make([]string, len(list))
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			return nil, fmt.Errorf("key %q: element %d is %s, expected text", key, i+1, typeName(e))
		}
		out[i] = s
	}
	return out, nil
}

// answer returns the gold answer in column key as the index of one of the accepted spellings. Numbers and booleans are compared by their
// spelling. Each index may have several spellings.
func (r record) answer(key string, spellings ...[]string) (int, error) {
	var want []string
	for _, s := range spellings {
		want = append(want, s[0])
	}
	expected := "expected " + strings.Join(want, ", ")
	v, ok := r[key]
	if !ok || v == nil {
		return 0, fmt.Errorf("gold answer missing: no key %q, %s", key, expected)
	}
	var got string
	switch v := v.(type) {
	case string:
		got = v
	case json.Number:
		got = v.String()
	case bool:
		got = strconv.FormatBool(v)
	default:
		return 0, fmt.Errorf("key %q is %s, %s", key, typeName(v), expected)
	}
	if got == "" {
		return 0, fmt.Errorf("gold answer missing: key %q is empty, %s", key, expected)
	}
	for i, s := range spellings {
		for _, e := range s {
			if e == got {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("unknown answer %q in key %q, %s", got, key, expected)
}

// indices returns the spellings "0", "1", … of n answers.
func indices(n int) [][]string {
	out := make([][]string, n)
	for i := range out {
		out[i] = []string{strconv.Itoa(i)}
	}
	return out
}
