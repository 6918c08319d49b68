// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Decode fills into, a pointer to a struct whose fields have yaml tags, and returns every
// problem found on the way. What could be decoded is, so that checks of meaning can go on
// and report together with these.
func (d *Document) Decode(into any) []error {
	d.paths = map[string]*yaml.Node{}
	w := &walker{d: d}
	w.value(d.root, "", reflect.ValueOf(into).Elem())
	return w.problems
}

type walker struct {
	d        *Document
	problems []error
}

func (w *walker) report(n *yaml.Node, path, what, allowed string) {
	p := &Problem{File: w.d.fileOf(n), Line: n.Line, Column: n.Column, Path: path, What: what, Allowed: allowed}
	if n.Kind == yaml.ScalarNode {
		p.Value, p.HasValue = n.Value, true
	}
	w.problems = append(w.problems, p)
}

func (w *walker) value(n *yaml.Node, path string, v reflect.Value) {
	w.d.paths[path] = n
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		w.report(n, path, "anchors and aliases are not supported; write the value out", "")
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		w.report(n, path, "is empty; leave the key out or give it a value", describe(v.Type()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		w.structure(n, path, v)
	case reflect.Slice:
		w.list(n, path, v)
	case reflect.Map:
		w.mapping(n, path, v)
	default:
		w.scalar(n, path, v)
	}
}

func (w *walker) list(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		w.report(n, path, "is "+kindOf(n)+", not a list", describe(v.Type()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		w.value(item, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
	}
}

func (w *walker) mapping(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		w.report(n, path, "is "+kindOf(n)+", not a mapping", describe(v.Type()))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	w.keys(n, path, func(key, value *yaml.Node) {
		elem := reflect.New(v.Type().Elem()).Elem()
		w.value(value, join(path, key.Value), elem)
		v.SetMapIndex(reflect.ValueOf(key.Value), elem)
	})
}

func (w *walker) structure(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		w.report(n, path, "is "+kindOf(n)+", not a mapping", strings.Join(Keys(v.Type()), ", "))
		return
	}
	w.keys(n, path, func(key, value *yaml.Node) {
		names := Keys(v.Type())
		for i, name := range names {
			if name == key.Value {
				w.value(value, join(path, name), v.Field(i))
				return
			}
		}
		what := "is not a known key"
		if near := Nearest(key.Value, names); near != "" {
			what += "; did you mean " + strconv.Quote(near) + "?"
		}
		w.problems = append(w.problems, &Problem{File: w.d.fileOf(key), Line: key.Line, Column: key.Column, Path: join(path, key.Value), What: what, Allowed: strings.Join(names, ", ")})
	})
}

// keys calls yield for each pair of a mapping and reports keys that are not plain
// scalars or were given before.
func (w *walker) keys(n *yaml.Node, path string, yield func(key, value *yaml.Node)) {
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			w.report(key, path, "has a key that is not plain text", "")
			continue
		}
		if first := seen[key.Value]; first != nil {
			w.problems = append(w.problems, &Problem{File: w.d.fileOf(key), Line: key.Line, Column: key.Column, Path: join(path, key.Value),
				What: fmt.Sprintf("was already given on line %d", first.Line)})
			continue
		}
		seen[key.Value] = key
		yield(key, value)
	}
}

func (w *walker) scalar(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		w.report(n, path, "is "+kindOf(n)+", not "+describe(v.Type()), "")
		return
	}
	switch v.Kind() {
	case reflect.String:
		// Numbers are kept as written ("1.36" stays "1.36"); only truth values are refused,
		// because a text field with one is a mistake more often than not.
		if n.Tag == "!!bool" {
			w.report(n, path, "is a truth value, not text; put it in quotes if it is meant as text", "")
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Tag != "!!bool" {
			w.report(n, path, "is not a truth value", "true, false")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int, reflect.Int64:
		var i int64
		if n.Tag != "!!int" || n.Decode(&i) != nil {
			w.report(n, path, "is not a whole number", "")
			return
		}
		v.SetInt(i)
	case reflect.Uint32:
		var i int64
		if n.Tag != "!!int" || n.Decode(&i) != nil || i < 0 || i > math.MaxUint32 {
			w.report(n, path, "is not a whole number", "0 to 4294967295")
			return
		}
		v.SetUint(uint64(i))
	default:
		panic("strict: a field has type " + v.Type().String())
	}
}

// Keys returns the YAML keys of a struct type in the order of its fields.
func Keys(t reflect.Type) []string {
	out := make([]string, t.NumField())
	for i := range out {
		out[i], _, _ = strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
	}
	return out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// describe names a type in the words of the file format.
func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "a list of mappings"
		}
		return "a list of " + strings.TrimPrefix(describe(t.Elem()), "a ")
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return "a whole number"
	}
	return "text"
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping"
	}
	return "a single value"
}
