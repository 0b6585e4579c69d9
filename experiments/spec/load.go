package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LoadOptions are what a spec depends on besides its text.
type LoadOptions struct {
	// Set holds overrides "key=value" in the order they apply. A key is a dotted path: keys of mappings,
	// numbers (from 0) or names of list entries, as in models.0.path, sweep.tau, tasks.piqa.limit or
	// methods.split.boundary.tau. A value is YAML, as in sweep.tau=[1,5].
	Set []string
	// Env looks up the variables in ${NAME}; nil is os.LookupEnv.
	Env func(name string) (value string, ok bool)
	// ReadFile reads included fragments by absolute path; nil reads regular files up to a bound.
	ReadFile func(path string) ([]byte, error)
}

// Load reads the spec in a file. Faults of the text are returned together as Errors; a file that cannot be
// read is an error of its own.
func Load(path string, o LoadOptions) (*Spec, error) {
	data, err := readRegular(path)
	if err != nil {
		return nil, fmt.Errorf("spec %s: %w", path, reason(err))
	}
	return Parse(path, data, o)
}

// Parse reads a spec from its text. The name stands for the file in messages, and its folder is where
// relative paths and fragments are looked for. Faults are returned together as Errors.
func Parse(name string, data []byte, o LoadOptions) (*Spec, error) {
	r, err := newReader(name, o)
	if err != nil {
		return nil, err
	}
	root := r.file(name, data, nil)
	if root == nil {
		return nil, sorted(r.errs, r.files)
	}
	for _, s := range o.Set {
		r.override(root, s)
	}
	r.checkObject(table, root, "", true)
	for _, p := range r.hidden {
		if k := field(table, p.key.text); k != nil {
			r.check(k, p.value, k.name)
		}
	}
	s := r.bind(root)
	if len(r.errs) > 0 {
		return nil, sorted(r.errs, r.files)
	}
	return s, nil
}

// LoadMethod reads a file that holds one method entry, as in the list methods of a spec. The method is
// resolved as in a Cell; a split method must state its split layer.
func LoadMethod(path string) (Method, error) {
	data, err := readRegular(path)
	if err != nil {
		return Method{}, fmt.Errorf("method %s: %w", path, reason(err))
	}
	return ParseMethod(path, data)
}

// ParseMethod is LoadMethod on a text; name stands for the file in messages.
func ParseMethod(name string, data []byte) (Method, error) {
	r, err := newReader(name, LoadOptions{})
	if err != nil {
		return Method{}, err
	}
	r.files = append(r.files, name)
	root := r.document(name, data, "")
	if root == nil {
		return Method{}, sorted(r.errs, r.files)
	}
	r.checkObject(methodKeys, root, "", true)
	c := Cell{}
	if root.kind == mappingNode {
		r.checkRestore(root.get("boundary"))
		r.checkSegments(root)
		c.Method = bindMethod(root)
		if c.Method.Kind == Split && c.Method.SplitLayer == 0 && root.get("split_layer") == nil {
			r.fault(root.pos, "the split method has no split_layer", "split_layer: 1 or more")
		}
	}
	if len(r.errs) > 0 {
		return Method{}, sorted(r.errs, r.files)
	}
	c.resolve()
	c.clip()
	return c.Method, nil
}

func newReader(name string, o LoadOptions) (*reader, error) {
	r := &reader{env: o.Env, readFile: o.ReadFile, folders: map[string]string{}, docs: keyDocs}
	if r.env == nil {
		r.env = os.LookupEnv
	}
	if r.readFile == nil {
		r.readFile = readRegular
	}
	for file, folder := range map[string]string{name: filepath.Dir(name), "": "."} {
		abs, err := filepath.Abs(folder)
		if err != nil {
			return nil, fmt.Errorf("spec %s: %w", name, err)
		}
		r.folders[file] = abs
	}
	return r, nil
}

// readRegular reads a regular file of bounded size: a spec named after a pipe or a device must not hang.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// reason drops the operation and path from a file error, which the message names already.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// file reads one file and the fragments it includes into one mapping. chain holds the absolute paths of
// the files that led here.
func (r *reader) file(name string, data []byte, chain []string) *node {
	r.files = append(r.files, name)
	root := r.document(name, data, "")
	if root == nil {
		return nil
	}
	if root.kind != mappingNode {
		r.fault(root.pos, "the file holds "+root.describe(), "a mapping of keys")
		return nil
	}
	include := root.get("include")
	if include == nil {
		return root
	}
	self, err := filepath.Abs(name)
	if err != nil {
		self = name
	}
	chain = append(slices.Clone(chain), self)
	merged := &node{kind: mappingNode, pos: root.pos}
	r.check(field(table, "include"), include, "include")
	entries := include.items
	if include.kind != listNode {
		entries = []*node{include}
	}
	for _, e := range entries {
		if path, ok := e.value.(string); ok {
			r.include(merged, e, path, chain)
		}
	}
	for i, k := range root.keys {
		if k.text != "include" {
			r.overlay(merged, k, root.items[i])
		}
	}
	return merged
}

func (r *reader) include(merged, at *node, path string, chain []string) {
	if slices.Contains(chain, path) {
		r.fault(at.pos, "include of "+oneLine(at.text)+" leads back to a file that includes it", "fragments without a cycle")
		return
	}
	if r.includes++; r.includes > maxIncludes {
		r.fault(at.pos, "too many fragments are included", fmt.Sprintf("at most %d", maxIncludes))
		return
	}
	data, err := r.readFile(path)
	if err != nil {
		r.fault(at.pos, "include of "+oneLine(at.text)+" fails: "+oneLine(reason(err).Error()), "a readable fragment file")
		return
	}
	shown := path
	if main := r.folders[r.files[0]]; !filepath.IsAbs(r.files[0]) {
		// Messages name fragments as the user would: relative, like the file on the command line.
		if rel, err := filepath.Rel(main, path); err == nil {
			shown = filepath.Join(filepath.Dir(r.files[0]), rel)
		}
	}
	r.folders[shown] = filepath.Dir(path)
	fragment := r.file(shown, data, chain)
	if fragment == nil {
		return
	}
	for i, k := range fragment.keys {
		r.overlay(merged, k, fragment.items[i])
	}
}

// overlay puts an entry over what earlier fragments say, and keeps what it hides for checking.
func (r *reader) overlay(merged, k, v *node) {
	for i, old := range merged.keys {
		if old.text == k.text {
			r.hidden = append(r.hidden, pair{old, merged.items[i]})
		}
	}
	merged.put(k, v)
}

// splitOverride cuts an override at its first equals sign.
func splitOverride(s string) (path []string, value string, ok bool) {
	before, value, found := strings.Cut(s, "=")
	if !found || before == "" {
		return nil, "", false
	}
	return strings.Split(before, "."), value, true
}
