// SPDX-License-Identifier: Apache-2.0

package strict

import "go.yaml.in/yaml/v3"

// Merge lays child over parent and returns the result; neither is changed. Mappings are
// merged by key, lists are appended (parent first), anything else of the child wins.
// Top-level keys in own are never inherited.
func Merge(parent, child *Document, own ...string) *Document {
	out := &Document{File: child.File, files: map[*yaml.Node]string{}}
	m := &merger{out: out, parent: parent, child: child}
	base := *parent.root
	base.Content = nil
	for i := 0; i+1 < len(parent.root.Content); i += 2 {
		if !contains(own, parent.root.Content[i].Value) {
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
			key := m.take(m.parent, p.Content[i], true)
			if own := find(c, key.Value); own != nil {
				out.Content = append(out.Content, m.take(m.child, key, true), m.merge(p.Content[i+1], own))
			} else {
				out.Content = append(out.Content, key, m.take(m.parent, p.Content[i+1], true))
			}
		}
		for i := 0; i+1 < len(c.Content); i += 2 {
			if find(p, c.Content[i].Value) == nil {
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

// find returns the value of a key of a mapping.
func find(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
