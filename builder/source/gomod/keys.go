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

// checkKeys compares the keys of a YAML mapping with the fields of the structure it will
// be decoded into, at every depth, and the kinds of the nodes with those of the fields.
func checkKeys(file string, n *yaml.Node, into any) []error {
	var problems []error
	walk(n, reflect.TypeOf(into), "", func(at *yaml.Node, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s:%d:%d: %s", file, at.Line, at.Column, fmt.Sprintf(format, args...)))
	})
	return problems
}

type reporter func(at *yaml.Node, format string, args ...any)

func walk(n *yaml.Node, t reflect.Type, path string, report reporter) {
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
		report(n, "%s is %s; it must be %s", name(path), kinds[n.Kind], kinds[want])
		return
	}
	switch t.Kind() {
	case reflect.Slice:
		for i, item := range n.Content {
			walk(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i), report)
		}
	case reflect.Map, reflect.Struct:
		walkMapping(n, t, path, report)
	}
}

func walkMapping(n *yaml.Node, t reflect.Type, path string, report reporter) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			report(key, "key %q appears twice in %s", key.Value, name(path))
		}
		seen[key.Value] = true
		child := strings.TrimPrefix(path+"."+key.Value, ".")
		if t.Kind() == reflect.Map {
			walk(value, t.Elem(), child, report)
			continue
		}
		field, allowed := fieldFor(t, key.Value)
		if field == nil {
			report(key, "unknown key %q in %s; allowed are %s", key.Value, name(path), strings.Join(allowed, ", "))
			continue
		}
		walk(value, field, child, report)
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
