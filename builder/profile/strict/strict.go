// SPDX-License-Identifier: Apache-2.0

// Package strict decodes YAML into Go structs and reports everything that is wrong at
// once, each problem with file, line, column, path, value and what is allowed. Unknown and
// repeated keys, values of another type, nulls, anchors and further documents are errors.
//
// It remembers where every value came from, so that later checks of meaning can point at
// the line too, also after the documents of an inheritance chain were merged.
package strict

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is one parsed YAML mapping, or several merged ones.
type Document struct {
	// File is the name used in messages.
	File string
	root *yaml.Node
	// files says which file a node is from, for nodes that are not from File.
	files map[*yaml.Node]string
	paths map[string]*yaml.Node
}

// Problem is one thing that is wrong with a document.
type Problem struct {
	File         string
	Line, Column int
	// Path names the value: "files[3].mode". Empty for the document as a whole.
	Path string
	// Value is the offending text, quoted in the message when HasValue is set.
	Value    string
	HasValue bool
	// What is wrong, and what is allowed instead when that can be listed.
	What, Allowed string
}

func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		b.WriteString(p.Path)
		if p.HasValue {
			b.WriteString(": value " + quote(p.Value))
		}
		b.WriteString(": ")
	}
	b.WriteString(p.What)
	if p.Allowed != "" {
		b.WriteString("; allowed: " + p.Allowed)
	}
	return b.String()
}

func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Sprintf("%q", s)
}

// Parse reads one YAML document whose top level is a mapping.
func Parse(file string, data []byte) (*Document, error) {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var n yaml.Node
	if err := dec.Decode(&n); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Problem{File: file, Line: 1, Column: 1, What: "the file is empty; it must hold a mapping"}
		}
		return nil, syntaxProblem(file, err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, &Problem{File: file, Line: max(more.Line, 1), Column: max(more.Column, 1), What: "a second document starts here; only one is allowed"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(file, err)
	}
	root := n.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, &Problem{File: file, Line: root.Line, Column: root.Column, What: "the top level is not a mapping of keys to values"}
	}
	return &Document{File: file, root: root, files: map[*yaml.Node]string{}}, nil
}

// syntaxProblem turns "yaml: line 3: did not find ..." into the form of all others.
func syntaxProblem(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if n, _ := fmt.Sscanf(rest, "%d:", &line); n == 1 {
			_, text, _ = strings.Cut(rest, ": ")
		}
	}
	return &Problem{File: file, Line: line, Column: 1, What: "is not valid YAML: " + text}
}

// Problem returns a problem with the value at path, or with the nearest enclosing value
// that is in the document when path itself is absent.
func (d *Document) Problem(path, what, allowed string) *Problem {
	p := &Problem{File: d.File, Line: 1, Column: 1, Path: path, What: what, Allowed: allowed}
	for at := path; ; at = parent(at) {
		if n := d.paths[at]; n != nil {
			p.File, p.Line, p.Column = d.fileOf(n), n.Line, n.Column
			if at == path && n.Kind == yaml.ScalarNode {
				p.Value, p.HasValue = n.Value, true
			}
			return p
		}
		if at == "" {
			return p
		}
	}
}

// Has reports whether the document holds a value at path.
func (d *Document) Has(path string) bool { return d.paths[path] != nil }

// FileOf returns the file that the value at path is from.
func (d *Document) FileOf(path string) string {
	if n := d.paths[path]; n != nil {
		return d.fileOf(n)
	}
	return d.File
}

// Scalar returns the text of the scalar at path, "" when there is none.
func (d *Document) Scalar(path string) string {
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if k, v := d.root.Content[i], d.root.Content[i+1]; k.Value == path && v.Kind == yaml.ScalarNode {
			return v.Value
		}
	}
	return ""
}

func (d *Document) fileOf(n *yaml.Node) string {
	if f, ok := d.files[n]; ok {
		return f
	}
	return d.File
}

func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// Sort orders problems by file, line and column, and drops repetitions: those that say the
// same of the same place, which a document and a merged copy of it both report.
func Sort(problems []error) []error {
	slices.SortStableFunc(problems, func(a, b error) int {
		p, q := &Problem{}, &Problem{}
		errors.As(a, &p)
		errors.As(b, &q)
		if c := strings.Compare(p.File, q.File); c != 0 {
			return c
		}
		if p.Line != q.Line {
			return p.Line - q.Line
		}
		return p.Column - q.Column
	})
	return slices.CompactFunc(problems, func(a, b error) bool {
		var p, q *Problem
		if errors.As(a, &p) && errors.As(b, &q) {
			return p.File == q.File && p.Line == q.Line && p.Column == q.Column && p.What == q.What
		}
		return a.Error() == b.Error()
	})
}
