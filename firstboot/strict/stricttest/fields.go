// SPDX-License-Identifier: Apache-2.0

// Package stricttest helps tests prove that every key of a format is refused when it is wrong.
// It knows keys from the types that package strict decodes into, so that a new field without
// a negative case fails a test.
package stricttest

import (
	"encoding"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Fields are the keys of a format, by the type that holds them: "Host.address". A type that
// is used in several places counts once.
type Fields struct {
	root reflect.Type
	// at holds, for each field, a path that leads to it.
	at   map[string]string
	kind map[string]reflect.Type
	seen map[string]bool
}

// Of returns the keys of documents that decode into a T.
func Of[T any]() *Fields {
	f := &Fields{root: reflect.TypeFor[T](), at: map[string]string{}, kind: map[string]reflect.Type{}, seen: map[string]bool{}}
	f.walk(f.root, "")
	return f
}

func (f *Fields) walk(t reflect.Type, at string) {
	t, lists := bare(t)
	at += strings.Repeat("[0]", lists)
	if t.Kind() != reflect.Struct {
		return
	}
	for field := range t.Fields() {
		key := keyOf(field)
		if key == "" {
			continue
		}
		name, path := t.Name()+"."+key, strings.TrimPrefix(at+"."+key, ".")
		if _, known := f.at[name]; known {
			continue
		}
		f.at[name], f.kind[name] = path, field.Type
		f.walk(field.Type, path)
	}
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// bare returns what pointers and lists lead to, and through how many lists.
func bare(t reflect.Type) (of reflect.Type, lists int) {
	for {
		switch {
		case t.Kind() == reflect.Pointer:
			t = t.Elem()
		case t.Kind() == reflect.Slice && !reflect.PointerTo(t).Implements(textUnmarshaler):
			t, lists = t.Elem(), lists+1
		default:
			return t, lists
		}
	}
}

func keyOf(field reflect.StructField) string {
	key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	if key == "-" {
		return ""
	}
	return key
}

var step = regexp.MustCompile(`^\.?([^.\[]*)((?:\[\d+\])*)`)

// Saw notes that a problem was reported at a path. A problem with something in a mapping of
// names is one with the mapping.
func (f *Fields) Saw(path string) {
	t, name := f.root, ""
	for path != "" {
		if t, _ = bare(t); t.Kind() != reflect.Struct {
			break
		}
		m := step.FindStringSubmatch(path)
		field, ok := reflect.StructField{}, false
		for one := range t.Fields() {
			if keyOf(one) == m[1] {
				field, ok = one, true
			}
		}
		if !ok {
			return // an unknown key is a problem of no field
		}
		name, t, path = t.Name()+"."+m[1], field.Type, path[len(m[0]):]
	}
	f.seen[name] = true
}

// Missing returns the fields with values of their own at which no problem was seen, without
// those in except. Except gives a reason for each; one that is no field, or was seen after
// all, is returned too.
func (f *Fields) Missing(except map[string]string) (missing []string) {
	for name := range f.at {
		t, _ := bare(f.kind[name])
		_, excused := except[name]
		if t.Kind() != reflect.Struct && !f.seen[name] && !excused {
			missing = append(missing, name+" (at "+f.at[name]+")")
		}
	}
	for name := range except {
		if f.at[name] == "" || f.seen[name] {
			missing = append(missing, name+" needs no exception")
		}
	}
	slices.Sort(missing)
	return missing
}

// WrongKinds returns, for the path of every field, a document in which only that field is
// given, with a value of another kind: a list where one value belongs, or one value where a
// list or mapping does.
func (f *Fields) WrongKinds() map[string]string {
	out := map[string]string{}
	for name, path := range f.at {
		t := f.kind[name]
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		wrong := "[x]"
		if k := t.Kind(); (k == reflect.Struct || k == reflect.Slice || k == reflect.Map) && !reflect.PointerTo(t).Implements(textUnmarshaler) {
			wrong = "x"
		}
		steps := strings.Split(path, ".")
		for _, s := range slices.Backward(steps) {
			key, lists, _ := strings.Cut(s, "[")
			for range strings.Count(lists, "]") {
				wrong = "[" + wrong + "]"
			}
			wrong = "{" + key + ": " + wrong + "}"
		}
		out[path] = wrong
	}
	return out
}

// Names returns the names of all fields, sorted.
func (f *Fields) Names() []string { return slices.Sorted(maps.Keys(f.at)) }
