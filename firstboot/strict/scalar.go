// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// wholeNumber leaves out what readers disagree about: 010 is eight to some and ten to others.
var wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

func (w *walker) scalar(n *yaml.Node, path string, v reflect.Value) {
	t := v.Type()
	if !w.is(n, yaml.ScalarNode, path, t, "") {
		return
	}
	switch {
	case t.Kind() == reflect.String:
		// Numbers are kept as written ("1.10" stays "1.10"); only truth values are refused,
		// because a text field with one is a mistake more often than not.
		if n.Tag == "!!bool" {
			w.fail(n, path, t, "is a truth value, not text; put it in quotes if it is meant as text", "")
			return
		}
		v.SetString(n.Value)
	case t.Kind() == reflect.Bool:
		if n.Tag != "!!bool" || n.Value != "true" && n.Value != "false" {
			w.fail(n, path, t, "is not a truth value", "true, false")
			return
		}
		v.SetBool(n.Value == "true")
	case v.CanInt() || v.CanUint():
		w.number(n, path, v)
	default:
		panic("strict: the field at " + path + " has the unsupported type " + t.String())
	}
}

func (w *walker) number(n *yaml.Node, path string, v reflect.Value) {
	t := v.Type()
	var err error
	low, high := int64(math.MinInt64)>>(64-t.Bits()), uint64(math.MaxInt64)>>(64-t.Bits())
	if v.CanUint() {
		low, high = 0, math.MaxUint64>>(64-t.Bits())
	}
	allowed := fmt.Sprintf("%d to %d", low, high)
	if n.Tag != "!!int" || !wholeNumber.MatchString(n.Value) {
		w.fail(n, path, t, "is not a whole number", allowed)
		return
	}
	if v.CanUint() {
		var u uint64
		if u, err = strconv.ParseUint(n.Value, 10, t.Bits()); err == nil {
			v.SetUint(u)
		}
	} else {
		var i int64
		if i, err = strconv.ParseInt(n.Value, 10, t.Bits()); err == nil {
			v.SetInt(i)
		}
	}
	if err != nil {
		w.fail(n, path, t, "is out of range", allowed)
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping"
	case yaml.AliasNode:
		return "an alias"
	}
	return "a single value"
}
