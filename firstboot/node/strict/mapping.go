// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// keys yields each key and value of a mapping once and reports duplicates and keys that
// are not text.
func (d *decoder) keys(path string, n *yaml.Node, each func(key string, k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, n, "is "+kind(n), "a mapping")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			d.fail(path, k, "has a key that is not plain text", "plain keys")
			continue
		}
		if line, dup := seen[k.Value]; dup {
			d.fail(join(path, k.Value), k, "key is written twice, first on line "+strconv.Itoa(line), "each key once")
			continue
		}
		seen[k.Value] = k.Line
		each(k.Value, k, v)
	}
}

func (d *decoder) mapping(path string, n *yaml.Node, v reflect.Value, depth int) {
	fields, names := map[string]int{}, []string{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields[name] = i
		names = append(names, name)
	}
	d.keys(path, n, func(key string, k, val *yaml.Node) {
		i, ok := fields[key]
		if !ok {
			msg := "unknown key"
			if near := nearest(key, names); near != "" {
				msg += ", did you mean " + near + "?"
			}
			d.fail(join(path, key), k, msg, strings.Join(names, ", "))
			return
		}
		d.value(join(path, key), val, v.Field(i), depth+1)
	})
}

func (d *decoder) table(path string, n *yaml.Node, v reflect.Value, depth int) {
	v.Set(reflect.MakeMap(v.Type()))
	d.keys(path, n, func(key string, _, val *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(join(path, key), val, e, depth+1)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
	})
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
