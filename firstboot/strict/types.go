// SPDX-License-Identifier: Apache-2.0

package strict

import "reflect"

// Secret marks types whose values appear in no problem. Nor does a value that stands where
// a mapping or list that holds secrets belongs: it may be one of them, misplaced.
type Secret interface{ Reveal() string }

var secretType = reflect.TypeFor[Secret]()

// holdsSecret reports whether a value of type t is a secret or can have one in it.
func holdsSecret(t reflect.Type) bool {
	return anyType(t, map[reflect.Type]bool{}, func(t reflect.Type) bool { return t.Implements(secretType) })
}

// anyType reports whether is holds for t or a type that values of t are made of.
func anyType(t reflect.Type, seen map[reflect.Type]bool, is func(reflect.Type) bool) bool {
	if is(t) {
		return true
	}
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return anyType(t.Elem(), seen, is)
	case reflect.Struct:
		for f := range t.Fields() {
			if anyType(f.Type, seen, is) {
				return true
			}
		}
	}
	return false
}

// plainly names a type in the words of the file format.
func plainly(t reflect.Type) string {
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		return "text"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return plainly(t.Elem())
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a mapping"
	case reflect.Bool:
		return "a truth value"
	case reflect.String:
		return "text"
	}
	return "a whole number"
}

// describe is plainly, and what lists and tables hold.
func describe(t reflect.Type) string {
	of := map[string]string{"a list": "lists", "a mapping": "mappings", "a truth value": "truth values", "a whole number": "whole numbers", "text": "text"}
	switch name := plainly(t); {
	case t.Kind() == reflect.Slice:
		return name + " of " + of[plainly(t.Elem())]
	case t.Kind() == reflect.Map:
		return name + " of names to " + of[plainly(t.Elem())]
	default:
		return name
	}
}
