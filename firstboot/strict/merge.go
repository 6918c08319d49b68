// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// Merge lays child over parent and returns the result; neither is changed. Mappings are
// merged by key, lists are appended (parent first), anything else of the child wins.
// Top-level keys in own are never inherited. Problems are not carried over: each document
// has its own.
func Merge(parent, child *Document, own ...string) *Document {
	out := &Document{File: child.File, files: map[*yaml.Node]string{}}
	if parent.root == nil || child.root == nil {
		return out
	}
	m := &merger{out: out, parent: parent, child: child}
	base := *parent.root
	base.Content = nil
	for i := 0; i+1 < len(parent.root.Content); i += 2 {
		if !slices.Contains(own, parent.root.Content[i].Value) {
			base.Content = append(base.Content, parent.root.Content[i], parent.root.Content[i+1])
		}
	}
	out.root = m.merge(&base, child.root)
	return out
}

type merger struct {
	out, parent, child *Document
}

func (m *merger) merge(p, c *yaml.Node) *yaml.Node {
	switch {
	case p.Kind == yaml.MappingNode && c.Kind == yaml.MappingNode:
		out := m.take(m.child, c, false)
		for i := 0; i+1 < len(p.Content); i += 2 {
			key, value := m.take(m.parent, p.Content[i], true), p.Content[i+1]
			if ownKey, own := find(c, key.Value); own != nil {
				out.Content = append(out.Content, m.take(m.child, ownKey, true), m.merge(value, own))
			} else {
				out.Content = append(out.Content, key, m.take(m.parent, value, true))
			}
		}
		for i := 0; i+1 < len(c.Content); i += 2 {
			if key, _ := find(p, c.Content[i].Value); key == nil {
				out.Content = append(out.Content, m.take(m.child, c.Content[i], true), m.take(m.child, c.Content[i+1], true))
			}
		}
		return out
	case p.Kind == yaml.SequenceNode && c.Kind == yaml.SequenceNode:
		out := m.take(m.child, c, false)
		for _, n := range p.Content {
			out.Content = append(out.Content, m.take(m.parent, n, true))
		}
		for _, n := range c.Content {
			out.Content = append(out.Content, m.take(m.child, n, true))
		}
		return out
	}
	return m.take(m.child, c, true)
}

// take copies a node of d into the result, remembering its file.
func (m *merger) take(d *Document, n *yaml.Node, deep bool) *yaml.Node {
	c := *n
	c.Content = nil
	m.out.files[&c] = d.fileOf(n)
	if deep {
		for _, child := range n.Content {
			c.Content = append(c.Content, m.take(d, child, true))
		}
	}
	return &c
}

// find returns a key of a mapping and its value, or nil.
func find(n *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}
