// SPDX-License-Identifier: Apache-2.0

package stricttest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

var index = regexp.MustCompile(`\[\d+\]`)

// Refused lets parse judge a document, one of whose problems has to be what is wanted, and then
// what Elsewhere makes of the document: it has to be refused in the same words. It notes where.
func (f *Fields) Refused(text, want string, parse func(text string) error) error {
	var problems strict.Problems
	err := parse(text)
	if !errors.As(err, &problems) || !strings.Contains(err.Error(), want) {
		return fmt.Errorf("%s\ngot  %v\nwant %s", text, err, want)
	}
	var wrong []error
	for _, p := range problems {
		if !strings.Contains(p.Error(), want) {
			continue
		}
		f.Saw(p.Path)
		for to, moved := range f.Elsewhere(text, p.Path) {
			err := parse(moved)
			if says(err, to, p.Message) {
				f.Saw(to)
			} else if _, bound := f.Bound[want]; bound {
				f.bound[want] = true
			} else {
				wrong = append(wrong, fmt.Errorf("%s\ngot  %v\nwant %s: %s", moved, err, to, p.Message))
			}
		}
	}
	return errors.Join(wrong...)
}

func says(err error, path, message string) bool {
	var problems strict.Problems
	return errors.As(err, &problems) && slices.ContainsFunc(problems, func(p strict.Problem) bool { return p.Path == path && p.Message == message })
}

// Elsewhere returns what a document becomes when something around the value at path moves to
// another place of the same type, for each such place by the path that the value has then: a
// refusal in one place is due in all of them.
func (f *Fields) Elsewhere(text, path string) map[string]string {
	out := map[string]string{}
	for from := parent(path); from != ""; from = parent(from) {
		place := index.ReplaceAllString(from, "[0]")
		for _, to := range f.others(place) {
			if moved := move(text, from, to); moved != "" {
				out[to+strings.TrimPrefix(path, from)] = moved
			}
		}
	}
	return out
}

// others returns where else there are values of the type that the one at a place has.
func (f *Fields) others(place string) []string {
	for _, places := range f.places {
		if slices.Contains(places, place) {
			return slices.DeleteFunc(slices.Clone(places), func(p string) bool { return p == place })
		}
	}
	return nil
}

func parent(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

// move returns a document with the value at one path at another, in the place of what is there;
// empty when the document has no such value.
func move(text, from, to string) string {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil || len(doc.Content) == 0 {
		return ""
	}
	in, i := find(doc.Content[0], from, false)
	if in == nil {
		return ""
	}
	value, first := in.Content[i], i
	if in.Kind == yaml.MappingNode {
		first-- // the key goes too
	}
	in.Content = slices.Delete(in.Content, first, i+1)
	in, i = find(doc.Content[0], to, true)
	in.Content[i] = value
	moved, err := yaml.Marshal(&doc)
	if err != nil {
		return ""
	}
	return string(moved)
}

var hop = regexp.MustCompile(`\[\d+\]|[^.\[]+`)

// find returns the mapping or list that holds the value at a path below n, and where. What is
// missing is made, or nil returned.
func find(n *yaml.Node, path string, missing bool) (in *yaml.Node, at int) {
	for _, key := range hop.FindAllString(path, -1) {
		if in != nil {
			n = in.Content[at]
		}
		kind := yaml.MappingNode
		if key[0] == '[' {
			kind = yaml.SequenceNode
		}
		if n.Kind != kind {
			if !missing {
				return nil, 0
			}
			*n = yaml.Node{Kind: kind}
		}
		if in, at = n, position(n, key); at >= 0 {
			continue
		}
		if !missing {
			return nil, 0
		}
		if kind == yaml.MappingNode {
			in.Content = append(in.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key})
		}
		in.Content = append(in.Content, &yaml.Node{})
		at = len(in.Content) - 1
	}
	return in, at
}

// position returns where a mapping or list has the value of a key or index, or -1.
func position(n *yaml.Node, key string) int {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				return i + 1
			}
		}
		return -1
	}
	if i, err := strconv.Atoi(strings.Trim(key, "[]")); err == nil && i < len(n.Content) {
		return i
	}
	return -1
}
