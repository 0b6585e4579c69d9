// Package spec reads experiment files.
//
// An experiment is one YAML file that names models, tasks, methods and a sweep.
// The way from the file to the points that are run is:
//
//  1. The YAML text becomes a tree of nodes with positions; aliases are expanded under a bound,
//     repeated keys and second documents are reported (node.go).
//  2. Fragments named by include are laid under the file, --set overrides on top (load.go, set.go).
//  3. Every value is checked against one table of keys: its type as written, its range, its choices
//     (table.go, check.go). The same table makes the JSON schema for editors and the key
//     documentation (schema.go).
//  4. The checked tree becomes a Spec, and what can only be seen across keys is checked (bind.go).
//  5. Cells expands the sweep into points in a stable order (expand.go). A Cell has a canonical JSON
//     form of every knob that can change its outcome, and the SHA-256 of that form is its key (cell.go).
//
// Nothing is guessed: YAML 1.1 leftovers such as 010, 0x10, 1_000, yes and no, explicit tags, and
// numbers of the wrong kind are errors. All errors of a file are reported at once, one line each:
// file:line:col: message, expected what.
//
// Paths may hold ${NAME} and begin with ~/; a relative path is relative to the folder of the file it is
// written in (for --set: to the working directory). Paths of the forms builtin:NAME and
// hub:ORG/NAME (with @REVISION) are passed on as they are.
// In sweep, zip holds lists of axes that advance together and exclude drops the points that match
// all of its entries; an axis replaces the value a method states itself.
package spec
