// SPDX-License-Identifier: Apache-2.0

// Package strict decodes YAML into Go structs without forgiving anything: unknown and
// repeated keys, values of another kind, anchors, tags and further documents are problems,
// and all of them are reported at once, each with file, line, column, path, value and what
// is allowed. Messages speak of the document only: no Go type name and no secret is in them.
//
// A document remembers where every value came from, so that later checks of meaning point
// at the line too, also after the documents of an inheritance chain were merged:
//
//	doc := strict.Parse(file, data)
//	doc.Decode(&v)
//	if v.Port == 0 {
//		doc.Report("port", "is not a port", "1 to 65535")
//	}
//	return doc.Err()
package strict

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document is one parsed YAML mapping, or several merged ones, and everything that is
// known to be wrong with it.
type Document struct {
	// File is the name used in messages.
	File string
	// root is nil when the bytes hold no mapping.
	root *yaml.Node
	// files says which file a node is from, for nodes that are not from File.
	files map[*yaml.Node]string
	// unread are the problems of parsing, decoded those of the last Decode and of what was
	// reported after it.
	unread, decoded Problems

	places map[string]*yaml.Node
	secret map[string]bool
	// failed holds the paths of values that could not be decoded and of unknown keys.
	failed map[string]bool
}

// Parse reads one YAML document whose top level is a mapping. File is its name in messages.
// Whether it could be read is part of what Err says.
func Parse(file string, data []byte) *Document {
	d := &Document{File: file}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, more yaml.Node
	switch err := dec.Decode(&first); {
	case errors.Is(err, io.EOF):
		d.refuse(1, 1, "the document is empty; it must hold a mapping")
		return d
	case err != nil:
		d.syntax(err, data)
		return d
	}
	if err := dec.Decode(&more); err == nil {
		d.refuse(max(more.Line, 1), max(more.Column, 1), "a second document starts here; only one is allowed")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err, data)
	}
	switch root := first.Content[0]; {
	case root.Kind == yaml.MappingNode:
		d.root = root
	case isNull(root):
		d.refuse(root.Line, root.Column, "the document is empty; it must hold a mapping")
	default:
		d.refuse(root.Line, root.Column, "the top level is "+kindOf(root)+", not a mapping")
	}
	return d
}

// Decode is Parse followed by the method Decode.
func Decode(file string, data []byte, into any, options ...Option) *Document {
	d := Parse(file, data)
	d.Decode(into, options...)
	return d
}

func (d *Document) refuse(line, column int, message string) {
	d.unread = append(d.unread, Problem{File: d.File, Line: line, Column: column, Message: message})
}

// parserSays matches the library's errors whose lines count from 0; those of its scanner count
// from 1.
var parserSays = regexp.MustCompile(`^did not find expected (<|node content|'-' indicator|key|',' or)`)

// syntax turns "yaml: line 3: did not find ..." into the form of all others.
func (d *Document) syntax(err error, data []byte) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, message, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = max(n, 1), message
			if parserSays.MatchString(text) && line < lines(data) { // not behind the end
				line++
			}
		}
	}
	// The library quotes the name, which is the value itself when a value that begins with
	// an asterisk was meant.
	if strings.HasPrefix(text, "unknown anchor") {
		text = "an alias names no anchor; anchors and aliases are not supported: put a value that begins with * in quotes"
	}
	d.refuse(line, 1, "is not valid YAML: "+text)
}

func lines(data []byte) int { return 1 + bytes.Count(bytes.TrimRight(data, "\n"), []byte("\n")) }

// Report adds a problem with the value at path, or with the nearest enclosing value that is
// in the document when path itself is absent. It does nothing where decoding has reported
// the value, something around it or something in it already.
func (d *Document) Report(path, message string, allowed ...string) {
	if d.root == nil || d.isReported(path) {
		return
	}
	p := Problem{File: d.File, Line: 1, Column: 1, Path: path, Message: message, Allowed: strings.Join(allowed, ", ")}
	for at := path; ; at = parent(at) {
		if n := d.places[at]; n != nil {
			p.File, p.Line, p.Column = d.fileOf(n), n.Line, n.Column
			if at == path && !d.secret[path] {
				p.Value = valueOf(n)
			}
			break
		}
		if at == "" {
			break
		}
	}
	d.decoded = append(d.decoded, p)
}

// OneOf reports the value at path unless got, which was decoded from it, is one of allowed.
// It returns whether it is.
func OneOf[T ~string](d *Document, path string, got T, allowed ...T) bool {
	if slices.Contains(allowed, got) {
		return true
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	message := "is not known"
	if got == "" {
		message = "is missing"
	}
	d.Report(path, message, names...)
	return false
}

func (d *Document) isReported(path string) bool {
	for at := path; at != ""; at = parent(at) {
		if d.failed[at] {
			return true
		}
	}
	for failed := range d.failed {
		if strings.HasPrefix(failed, path+".") {
			return true
		}
	}
	return false
}

// Has reports whether the decoded document holds a value at path.
func (d *Document) Has(path string) bool { return d.places[path] != nil }

// Problems returns everything that is wrong, in the order of the document.
func (d *Document) Problems() Problems {
	return append(append(Problems{}, d.unread...), d.decoded...).sorted()
}

// Err returns everything that is wrong as a Problems, or nil.
func (d *Document) Err() error { return d.Problems().Err() }

func (d *Document) fileOf(n *yaml.Node) string {
	if f, ok := d.files[n]; ok {
		return f
	}
	return d.File
}

// parent returns the path of what holds the value at path; the top level is "".
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
