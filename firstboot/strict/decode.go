// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds nesting, so that no document can exhaust the stack.
const maxDepth = 64

// Option changes what Decode takes.
type Option int

// EmptyIsZero takes a key with nothing behind it as if the key were left out.
const EmptyIsZero Option = 1

// Decode fills into, a pointer to a struct whose fields have yaml tags, and remembers every
// problem. What could be decoded is, so that checks of meaning can go on and report
// together with these. Fields are structs, maps with text as keys, slices, strings,
// integers, booleans, types that implement encoding.TextUnmarshaler, and pointers to any of
// them; another type is a mistake of the program and panics.
func (d *Document) Decode(into any, options ...Option) {
	d.places, d.secret, d.failed, d.decoded = map[string]*yaml.Node{}, map[string]bool{}, map[string]bool{}, nil
	if d.root == nil {
		return
	}
	w := &walker{Document: d, emptyIsZero: slices.Contains(options, EmptyIsZero)}
	w.value(d.root, "", reflect.ValueOf(into).Elem(), 0)
}

type walker struct {
	*Document
	emptyIsZero bool
}

// fail reports a value that cannot be decoded into t.
func (w *walker) fail(n *yaml.Node, path string, t reflect.Type, message, allowed string) {
	w.failed[path] = true
	p := w.at(n, path, message, allowed)
	if !holdsSecret(t) {
		p.Value = valueOf(n)
	}
	w.decoded = append(w.decoded, p)
}

// at returns a problem at a node that shows no value.
func (w *walker) at(n *yaml.Node, path, message, allowed string) Problem {
	return Problem{File: w.fileOf(n), Line: n.Line, Column: n.Column, Path: path, Message: message, Allowed: allowed}
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func (w *walker) value(n *yaml.Node, path string, v reflect.Value, depth int) {
	t := v.Type()
	w.places[path] = n
	if t.Implements(secretType) {
		w.secret[path] = true
	}
	switch {
	case depth > maxDepth:
		w.fail(n, path, t, "is nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		w.fail(n, path, t, "anchors and aliases are not supported; write the value out", "")
	case n.Style&yaml.TaggedStyle != 0:
		w.fail(n, path, t, "tags are not supported; write the value without its tag", "")
	case isNull(n):
		if !w.emptyIsZero {
			w.fail(n, path, t, "is empty; leave the key out or give it a value", describe(t))
		}
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		w.value(n, path, v.Elem(), depth)
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		if !w.is(n, yaml.ScalarNode, path, t, "") {
			return
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			w.fail(n, path, t, err.Error(), "")
		}
	case t.Kind() == reflect.Struct:
		w.structure(n, path, v, depth)
	case t.Kind() == reflect.Map:
		w.table(n, path, v, depth)
	case t.Kind() == reflect.Slice:
		w.list(n, path, v, depth)
	default:
		w.scalar(n, path, v)
	}
}

// is reports a node that is not of the kind that t needs.
func (w *walker) is(n *yaml.Node, want yaml.Kind, path string, t reflect.Type, allowed string) bool {
	if n.Kind != want {
		w.fail(n, path, t, "is "+kindOf(n)+", not "+plainly(t), allowed)
	}
	return n.Kind == want
}

func (w *walker) list(n *yaml.Node, path string, v reflect.Value, depth int) {
	if !w.is(n, yaml.SequenceNode, path, v.Type(), describe(v.Type())) {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		w.value(item, fmt.Sprintf("%s[%d]", path, i), v.Index(i), depth+1)
	}
}

func (w *walker) table(n *yaml.Node, path string, v reflect.Value, depth int) {
	t := v.Type()
	if !w.is(n, yaml.MappingNode, path, t, describe(t)) {
		return
	}
	v.Set(reflect.MakeMap(t))
	w.keys(n, path, func(key, value *yaml.Node) {
		e := reflect.New(t.Elem()).Elem()
		w.value(value, join(path, key.Value), e, depth+1)
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(t.Key()), e)
	})
}

func (w *walker) structure(n *yaml.Node, path string, v reflect.Value, depth int) {
	fields, names := fieldsOf(v.Type())
	if !w.is(n, yaml.MappingNode, path, v.Type(), strings.Join(names, ", ")) {
		return
	}
	w.keys(n, path, func(key, value *yaml.Node) {
		at := join(path, key.Value)
		if field, ok := fields[key.Value]; ok {
			w.value(value, at, v.Field(field), depth+1)
			return
		}
		message := "is not a known key"
		if near := Nearest(key.Value, names); near != "" {
			message += "; did you mean " + strconv.Quote(near) + "?"
		}
		w.failed[at] = true
		w.decoded = append(w.decoded, w.at(key, at, message, strings.Join(names, ", ")))
	})
}

// keys yields each pair of a mapping and reports keys that are not plain text or were given
// before.
func (w *walker) keys(n *yaml.Node, path string, yield func(key, value *yaml.Node)) {
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 {
			w.decoded = append(w.decoded, w.at(key, path, "has a key that is not plain text", ""))
			continue
		}
		if first := seen[key.Value]; first != nil {
			w.decoded = append(w.decoded, w.at(key, join(path, key.Value), fmt.Sprintf("was already given on line %d", first.Line), ""))
			continue
		}
		seen[key.Value] = key
		yield(key, value)
	}
}

// fieldsOf returns the fields of a struct type by their YAML keys, and the keys in order.
func fieldsOf(t reflect.Type) (fields map[string]int, names []string) {
	fields = map[string]int{}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); name != "" && name != "-" {
			fields[name], names = i, append(names, name)
		}
	}
	return fields, names
}
