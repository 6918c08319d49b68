// SPDX-License-Identifier: Apache-2.0

// Package strict decodes YAML into Go structs without forgiving anything: unknown keys,
// duplicate keys, wrong kinds and values that do not fit are all problems, and every one of
// them is reported at once with file, line, column, path, value and what is allowed.
// Messages speak of the document only; no Go type name appears in them.
package strict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a document.
type Problem struct {
	File string `json:"file"`
	// Line and Column count from 1; 0 means the place is unknown (a missing key is
	// reported at the mapping that should hold it).
	Line   int `json:"line"`
	Column int `json:"column"`
	// Path is dotted, with list indexes in brackets: "cluster.controlPlanes[1].address".
	Path string `json:"path"`
	// Value is the offending value as written, shortened; empty when there is none.
	Value string `json:"value,omitempty"`
	// Message says what is wrong, Allowed what would be right.
	Message string `json:"message"`
	Allowed string `json:"allowed,omitempty"`
}

// String formats p on one line: file:line:column: path: message (value "x"; allowed: y).
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	var extra []string
	if p.Value != "" {
		extra = append(extra, fmt.Sprintf("value %q", p.Value))
	}
	if p.Allowed != "" {
		extra = append(extra, "allowed: "+p.Allowed)
	}
	if len(extra) > 0 {
		b.WriteString(" (" + strings.Join(extra, "; ") + ")")
	}
	return b.String()
}

// Problems is the error that carries them all, in document order, one per line.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err returns ps sorted by place, or nil when there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return ps
}

// nearest returns the candidate within two edits of s, or "".
func nearest(s string, candidates []string) string {
	best, dist := "", 3
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < dist {
			best, dist = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j]+cost, prev[j+1]+1, cur[j]+1)
		}
		prev = cur
	}
	return prev[len(b)]
}
