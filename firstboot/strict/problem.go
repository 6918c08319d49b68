// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	File string `json:"file"`
	// Line and Column count from 1. A key that is missing is reported at the mapping that
	// should hold it.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Path is dotted, with list indexes in brackets: "files[3].mode". It is empty for the
	// document as a whole.
	Path string `json:"path"`
	// Value is the offending value as written, shortened; nil when there is none or it is
	// a secret.
	Value *string `json:"value,omitempty"`
	// Message says what is wrong, Allowed what would be right when that can be listed.
	Message string `json:"message"`
	Allowed string `json:"allowed,omitempty"`
}

// Error formats p on one line: file:line:column: path: value "x": message; allowed: y.
func (p Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		b.WriteString(printable(p.Path) + ": ")
	}
	if p.Value != nil {
		fmt.Fprintf(&b, "value %q: ", *p.Value)
	}
	b.WriteString(p.Message)
	if p.Allowed != "" {
		b.WriteString("; allowed: " + p.Allowed)
	}
	return b.String()
}

// printable quotes a path with a key that would break the line or the terminal.
func printable(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(path)
	}
	return path
}

// userInfo is the part of a URL that may be a password.
var userInfo = regexp.MustCompile(`://[^/?#\s]*@`)

// valueOf returns the text of a scalar, readable and on one line.
func valueOf(n *yaml.Node) *string {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return nil
	}
	const most = 80
	s, _, cut := strings.Cut(userInfo.ReplaceAllString(n.Value, "://...@"), "\n")
	if r := []rune(s); len(r) > most {
		s, cut = string(r[:most]), true
	}
	if cut {
		s += "..."
	}
	return &s
}

// Problems is the error that carries them all, one per line.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Err returns the problems ordered by file, line and column, or nil when there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps.sorted()
}

// sorted also drops repetitions: a document and a merged copy of it report the same of the
// same place, though the indexes of their lists differ.
func (ps Problems) sorted() Problems {
	ps = slices.Clone(ps)
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	type saying struct {
		file         string
		line, column int
		leaf         string
		message      string
	}
	seen := map[saying]bool{}
	return slices.DeleteFunc(ps, func(p Problem) bool {
		s := saying{p.File, p.Line, p.Column, leaf(p.Path), p.Message}
		repeated := seen[s]
		seen[s] = true
		return repeated
	})
}

// leaf returns the last key of a path, without indexes.
func leaf(path string) string {
	key, _, _ := strings.Cut(path[strings.LastIndexByte(path, '.')+1:], "[")
	return key
}
