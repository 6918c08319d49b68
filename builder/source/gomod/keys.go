// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// position is a line and a column of a file, from 1.
type position struct{ line, column int }

// checker compares the keys of a YAML mapping with the fields of the structure it will be
// decoded into, at every depth, and the kinds of the nodes with those of the fields. It
// remembers where each value is, by its path ("programs[0].path").
type checker struct {
	file      string
	positions map[string]position
	problems  []error
}

func (k *checker) report(at *yaml.Node, format string, args ...any) {
	k.problems = append(k.problems, fmt.Errorf("%s:%d:%d: %s", k.file, at.Line, at.Column, fmt.Sprintf(format, args...)))
}

func (k *checker) walk(n *yaml.Node, t reflect.Type, path string) {
	k.positions[path] = position{n.Line, n.Column}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	want := yaml.ScalarNode
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		want = yaml.MappingNode
	case reflect.Slice:
		want = yaml.SequenceNode
	}
	if n.Kind != want {
		k.report(n, "%s is %s; it must be %s", name(path), kinds[n.Kind], kinds[want])
		return
	}
	switch t.Kind() {
	case reflect.Slice:
		for i, item := range n.Content {
			k.walk(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map, reflect.Struct:
		k.walkMapping(n, t, path)
	}
}

func (k *checker) walkMapping(n *yaml.Node, t reflect.Type, path string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			k.report(key, "key %q appears twice in %s", key.Value, name(path))
		}
		seen[key.Value] = true
		if t.Kind() == reflect.Map {
			k.walk(value, t.Elem(), fmt.Sprintf("%s[%s]", path, key.Value))
			continue
		}
		field, allowed := fieldFor(t, key.Value)
		if field == nil {
			k.report(key, "unknown key %q in %s; allowed are %s", key.Value, name(path), strings.Join(allowed, ", "))
			continue
		}
		k.walk(value, field, strings.TrimPrefix(path+"."+key.Value, "."))
	}
}

// fieldFor returns the type of the field with that YAML name, or nil and every name.
func fieldFor(t reflect.Type, key string) (reflect.Type, []string) {
	var allowed []string
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if tag == "" {
			continue
		}
		if tag == key {
			return f.Type, nil
		}
		allowed = append(allowed, tag)
	}
	slices.Sort(allowed)
	return nil, allowed
}

func name(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

var kinds = map[yaml.Kind]string{
	yaml.ScalarNode: "a single value", yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list",
	yaml.AliasNode: "an alias",
}

var typeNames = regexp.MustCompile(`\s+into \S+`)

// plain takes Go type names out of a YAML decoding error.
func plain(err error) string { return typeNames.ReplaceAllString(err.Error(), "") }
