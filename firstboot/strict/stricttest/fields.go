// SPDX-License-Identifier: Apache-2.0

// Package stricttest helps tests prove that every key of a format is refused when it is wrong.
// It knows keys from the types that package strict decodes into, so that a new field without
// a negative case fails a test, and so does a place where a type is used and not checked.
package stricttest

import (
	"encoding"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Fields are the keys of a format by their paths, in lists with the index 0:
// "hosts[0].match.mac". A type that is used in several places counts in each.
type Fields struct {
	// Bound gives a reason for each refusal, by what is wanted of it, that is not due in every
	// place of the type.
	Bound map[string]string

	root reflect.Type
	kind map[string]reflect.Type
	// places are the paths of all values of a struct type.
	places map[reflect.Type][]string
	// seen are paths, bound keys of Bound, that tests came across.
	seen, bound map[string]bool
}

// Of returns the keys of documents that decode into a T.
func Of[T any]() *Fields {
	f := &Fields{root: reflect.TypeFor[T](), kind: map[string]reflect.Type{}, places: map[reflect.Type][]string{}, seen: map[string]bool{}, bound: map[string]bool{}}
	f.walk(f.root, "", nil)
	return f
}

// walk notes what values of t, the one at a path, are made of. A type within itself is left out.
func (f *Fields) walk(t reflect.Type, at string, within []reflect.Type) {
	t, lists := bare(t)
	at += strings.Repeat("[0]", lists)
	if t.Kind() != reflect.Struct || slices.Contains(within, t) {
		return
	}
	f.places[t] = append(f.places[t], at)
	for field := range t.Fields() {
		if key := keyOf(field); key != "" {
			path := strings.TrimPrefix(at+"."+key, ".")
			f.kind[path] = field.Type
			f.walk(field.Type, path, append(slices.Clone(within), t))
		}
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
	t, at, name := f.root, "", ""
	for path != "" {
		var lists int
		if t, lists = bare(t); t.Kind() != reflect.Struct {
			break
		}
		m := step.FindStringSubmatch(path)
		at += strings.Repeat("[0]", lists)
		name, path = strings.TrimPrefix(at+"."+m[1], "."), path[len(m[0]):]
		if t = f.kind[name]; t == nil {
			return // an unknown key is a problem of no field
		}
		at = name
	}
	f.seen[name] = true
}

// Missing returns the fields with values of their own at which no problem was seen, without
// those in except. Except gives a reason for each; one that is no field, or was seen after
// all, is returned too, and so is what Bound has without need.
func (f *Fields) Missing(except map[string]string) (missing []string) {
	for path, t := range f.kind {
		t, _ = bare(t)
		_, excused := except[path]
		if t.Kind() != reflect.Struct && !f.seen[path] && !excused {
			missing = append(missing, path)
		}
	}
	for path := range except {
		if f.kind[path] == nil || f.seen[path] {
			missing = append(missing, path+" needs no exception")
		}
	}
	for want := range f.Bound {
		if !f.bound[want] {
			missing = append(missing, want+" is bound to no place")
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
	for path, t := range f.kind {
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

// Paths returns the paths of all fields, sorted.
func (f *Fields) Paths() []string { return slices.Sorted(maps.Keys(f.kind)) }
