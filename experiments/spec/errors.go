package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Error is one fault of a spec, with the place it was found at.
type Error struct {
	File         string // as given to Load or Parse; empty for a --set override
	Line, Column int    // 1-based; 0 when the fault has no place in a file
	Set          string // the override "key=value" at fault, if any
	Message      string // what is wrong
	Expected     string // what would be right
}

// Error returns "file:line:col: message, expected …" or "--set key=value: message, expected …" on one line.
func (e Error) Error() string {
	var b strings.Builder
	switch {
	case e.Set != "":
		b.WriteString("--set " + oneLine(e.Set) + ": ")
	case e.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	case e.File != "":
		b.WriteString(e.File + ": ")
	}
	b.WriteString(e.Message)
	if e.Expected != "" {
		b.WriteString(", expected " + e.Expected)
	}
	return b.String()
}

// Errors are all faults of a spec: file by file in reading order, by line and column within a file,
// overrides last.
type Errors []Error

// Error joins the faults, one line each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// MethodFault is a fault of a method's quantizers, or of their calibration, that only the files they name
// show: it is placed where the spec names them.
func (s *Spec) MethodFault(method string, calibration bool, message, expected string) Error {
	for i, m := range s.Methods {
		if m.Name == method {
			at := place(s.methodsAt, i)
			if calibration {
				return at.calibration.fault(message, expected)
			}
			return at.quantizer.fault(message, expected)
		}
	}
	return Error{Message: message, Expected: expected}
}

// position is where a node was written: in a file, or in an override.
type position struct {
	file      string
	line, col int
	set       string
}

func (p position) fault(message, expected string) Error {
	return Error{File: p.file, Line: p.line, Column: p.col, Set: p.set, Message: message, Expected: expected}
}

// sorted orders the faults and drops repetitions, which arise when an anchored value is used twice.
func sorted(errs Errors, files []string) Errors {
	order := func(e Error) int {
		if e.Set != "" {
			return len(files) + 1
		}
		if i := slices.Index(files, e.File); i >= 0 {
			return i
		}
		return len(files)
	}
	out := slices.Clone(errs)
	slices.SortStableFunc(out, func(a, b Error) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	seen := make(map[Error]bool, len(out))
	return slices.DeleteFunc(out, func(e Error) bool {
		again := seen[e]
		seen[e] = true
		return again
	})
}

// oneLine makes outside text fit into one line of a message.
func oneLine(s string) string {
	const most = 80
	clean := func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return '·'
		}
		return r
	}
	s = strings.Map(clean, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}
