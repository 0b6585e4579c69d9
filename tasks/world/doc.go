// Package world generates English text about a small world of things, materials, tools, substances, animals and people, and six question
// sets and two corpora that follow from its rules.
package world
