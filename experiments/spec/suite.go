package spec

import "fmt"

// suiteKeys are the keys of a suite: a file that stands for several specs.
var suiteKeys = []*key{
	{name: "description", shape: text, doc: "What the specs show together, for people."},
	{name: "suite", shape: path, list: true, required: true, doc: "Spec files, relative to this file, in the order in which they are run."},
}

// Members returns the spec files that a file stands for: those of a suite, or the file itself. Members of a
// suite are no suites. Faults of a suite are returned together as Errors; those of a spec are left to Load.
func Members(path string) ([]string, error) {
	data, err := readRegular(path)
	if err != nil {
		return nil, fmt.Errorf("spec %s: %w", path, reason(err))
	}
	r, err := newReader(path, LoadOptions{})
	if err != nil {
		return nil, err
	}
	r.files = append(r.files, path)
	root := r.document(path, data, "")
	if root == nil || root.kind != mappingNode || root.get("suite") == nil {
		return []string{path}, nil
	}
	r.checkObject(suiteKeys, root, "", true)
	if len(r.errs) > 0 {
		return nil, sorted(r.errs, r.files)
	}
	var members []string
	for _, item := range root.get("suite").items {
		members = append(members, stringOf(item))
	}
	return members, nil
}
