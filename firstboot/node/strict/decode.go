// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds nesting, so that no document can exhaust the stack.
const maxDepth = 64

// Secret marks string types whose values must not appear in a problem.
type Secret interface{ Reveal() string }

// Document remembers where every path of a decoded document stands, so that validation
// can report problems with a place.
type Document struct {
	File   string
	places map[string]*yaml.Node
	secret map[string]bool
}

// Problem returns a problem at path. Where the path is not in the document the place is
// that of its nearest parent that is.
func (d *Document) Problem(path, message, allowed string) Problem {
	p := Problem{File: d.File, Path: path, Message: message, Allowed: allowed}
	for at := path; ; at = parent(at) {
		if n := d.places[at]; n != nil {
			p.Line, p.Column = n.Line, n.Column
			if at == path && n.Kind == yaml.ScalarNode && !d.secret[path] {
				p.Value = shorten(n.Value)
			}
			return p
		}
		if at == "" {
			return p
		}
	}
}

// Has reports whether the document writes the path.
func (d *Document) Has(path string) bool { return d.places[path] != nil }

func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// shorten keeps the value readable and on one line.
func shorten(s string) string {
	if line, _, cut := strings.Cut(s, "\n"); cut {
		s = line + "..."
	}
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	return s
}

type decoder struct {
	doc      *Document
	problems Problems
}

// Decode reads exactly one YAML document into out, a pointer to a struct with yaml tags.
// The returned document is usable for reporting even when the error is not nil; the error
// is then a Problems.
func Decode(file string, data []byte, out any) (*Document, error) {
	d := &decoder{doc: &Document{File: file, places: map[string]*yaml.Node{}, secret: map[string]bool{}}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	if err := dec.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return d.doc, Problems{{File: file, Line: 1, Column: 1, Message: "the document is empty"}}
		}
		return d.doc, Problems{syntax(file, err)}
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		d.problems = append(d.problems, Problem{File: file, Line: more.Line, Column: more.Column, Message: "a second document follows", Allowed: "one document"})
	} else if !errors.Is(err, io.EOF) {
		d.problems = append(d.problems, syntax(file, err))
	}
	if len(root.Content) == 1 {
		d.value("", root.Content[0], reflect.ValueOf(out).Elem(), 0)
	}
	return d.doc, d.problems.Err()
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// syntax turns the YAML library's message into a problem with a line.
func syntax(file string, err error) Problem {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{File: file, Line: 1, Column: 1}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		msg = strings.Replace(msg, m[0], "", 1)
	}
	p.Message = "not YAML: " + msg
	return p
}

func (d *decoder) fail(path string, n *yaml.Node, message, allowed string) {
	p := Problem{File: d.doc.File, Line: n.Line, Column: n.Column, Path: path, Message: message, Allowed: allowed}
	if n.Kind == yaml.ScalarNode && !d.doc.secret[path] {
		p.Value = shorten(n.Value)
	}
	d.problems = append(d.problems, p)
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *decoder) value(path string, n *yaml.Node, v reflect.Value, depth int) {
	if depth > maxDepth {
		d.fail(path, n, "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
		return
	}
	if n.Kind == yaml.AliasNode {
		d.fail(path, n, "anchors and aliases are not supported", "plain values")
		return
	}
	d.doc.places[path] = n
	if v.CanAddr() {
		if _, ok := v.Interface().(Secret); ok {
			d.doc.secret[path] = true
		}
	}
	isNull := n.Kind == yaml.ScalarNode && n.Tag == "!!null"
	switch {
	case v.Kind() == reflect.Pointer:
		if isNull {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		delete(d.doc.places, path)
		d.value(path, n, v.Elem(), depth)
	case isNull:
		// "key:" with nothing behind it leaves the zero value.
	case v.CanAddr() && v.Addr().Type().Implements(textUnmarshaler):
		if !d.scalar(path, n, "text") {
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			d.fail(path, n, err.Error(), "")
		}
	case v.Kind() == reflect.Struct:
		d.mapping(path, n, v, depth)
	case v.Kind() == reflect.Map:
		d.table(path, n, v, depth)
	case v.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			d.fail(path, n, "is "+kind(n), "a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, c := range n.Content {
			d.value(fmt.Sprintf("%s[%d]", path, i), c, v.Index(i), depth+1)
		}
	default:
		d.plain(path, n, v)
	}
}

func (d *decoder) scalar(path string, n *yaml.Node, want string) bool {
	if n.Kind != yaml.ScalarNode {
		d.fail(path, n, "is "+kind(n), want)
		return false
	}
	return true
}

// plain decodes strings, booleans and numbers. Text is taken as written even where YAML
// would read a number, so that version 1.10 stays "1.10".
func (d *decoder) plain(path string, n *yaml.Node, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if d.scalar(path, n, "text") {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		if !d.scalar(path, n, "true or false") {
			return
		}
		if n.Value != "true" && n.Value != "false" {
			d.fail(path, n, "is not a boolean", "true or false")
			return
		}
		v.SetBool(n.Value == "true")
	case reflect.Int, reflect.Int32, reflect.Int64:
		if !d.scalar(path, n, "a whole number") {
			return
		}
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if err != nil {
			hi := int64(math.MaxInt64)
			if v.Type().Bits() == 32 {
				hi = math.MaxInt32
			}
			d.fail(path, n, "is not a whole number in range", fmt.Sprintf("%d to %d", -hi-1, hi))
			return
		}
		v.SetInt(i)
	default:
		panic("strict: unsupported field type " + v.Type().String() + " at " + path)
	}
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return "a plain value"
	}
	return "something else"
}
