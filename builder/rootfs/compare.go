// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Explain returns every difference that composing with a profile makes on purpose.
func Explain(p *profile.Profile) []Difference {
	out := append([]Difference(nil), Differences...)
	add := func(step, pattern, reason string, aspects ...Aspect) {
		for _, a := range aspects {
			out = append(out, Difference{Path: pattern, Aspect: a, Step: step, Reason: reason})
		}
	}
	for _, r := range p.Remove {
		add("removals", r.Path, r.Reason, Missing)
	}
	for link := range p.Alternatives {
		add("alternatives", link, "an alternative of the profile", Added, Replaced)
	}
	for _, f := range p.Files {
		add("files", f.Path, "a file of the profile", Added, Replaced)
	}
	for _, d := range p.Directories {
		add("files", d.Path, "a directory of the profile", Added, Replaced)
	}
	for _, l := range p.Symlinks {
		add("files", l.Path, "a link of the profile", Added, Replaced)
	}
	return out
}

// Unexplained is a difference that nothing accounts for.
type Unexplained struct {
	Path   string
	Aspect Aspect
	// Detail says what was found on both sides.
	Detail string
}

func (u Unexplained) String() string {
	return fmt.Sprintf("%s: %s: %s", u.Path, u.Aspect, u.Detail)
}

// Compare holds a composed tree against what its packages ship, path by path: kind, mode,
// owner, link target, extended attributes and content. It returns what the differences do
// not explain, and the differences that explained nothing. Paths that components and the
// build itself add are recognised by their origin.
func Compare(image *tree.Tree, shipped *tree.Tree, known []Difference) (unexplained []Unexplained, unused []Difference, err error) {
	c := comparer{used: make([]bool, len(known)), known: known, parents: map[string]bool{}, matchers: map[Aspect]*Matcher{}, index: map[Aspect][]int{}}
	if err := c.compile(); err != nil {
		return nil, nil, err
	}
	nodes := shipped.Nodes()
	for _, s := range nodes {
		c.parents[path.Dir(s.Path)] = true
	}
	for _, s := range nodes {
		if s.Path != "/" {
			c.compareNode(image.Lookup(s.Path), s)
		}
	}
	for _, n := range image.Nodes() {
		if shipped.Lookup(n.Path) == nil && !builtByUs(n) {
			c.report(n.Path, Added, fmt.Sprintf("%s from %s", n.Kind, n.Origin))
		}
	}
	for i, d := range known {
		if !c.used[i] {
			unused = append(unused, d)
		}
	}
	return c.out, unused, nil
}

// builtByUs tells nodes whose origin says which build step or program they come from, and
// directories, which exist for what is in them.
func builtByUs(n *tree.Node) bool {
	return n.Kind == tree.Directory || strings.HasPrefix(n.Origin, "component:") || strings.HasPrefix(n.Origin, "release:") || strings.HasPrefix(n.Origin, "kernel:") ||
		n.Origin == "step:manifest" || n.Origin == "step:base-image" ||
		n.Origin == "step:units" && strings.HasPrefix(n.Path, etcUnits+"/")
}

type comparer struct {
	known    []Difference
	used     []bool
	matchers map[Aspect]*Matcher
	index    map[Aspect][]int // matcher's pattern number to known's index
	parents  map[string]bool  // shipped directories that hold something
	out      []Unexplained
}

func (c *comparer) compile() error {
	patterns := map[Aspect][]string{}
	for i, d := range c.known {
		patterns[d.Aspect] = append(patterns[d.Aspect], d.Path)
		c.index[d.Aspect] = append(c.index[d.Aspect], i)
	}
	for aspect, p := range patterns {
		m, err := NewMatcher(p)
		if err != nil {
			return err
		}
		c.matchers[aspect] = m
	}
	return nil
}

// report records a difference unless something explains it.
func (c *comparer) report(p string, aspect Aspect, detail string) {
	explained := false
	if m := c.matchers[aspect]; m != nil {
		for _, i := range m.Match(p) {
			c.used[c.index[aspect][i]] = true
			explained = true
		}
	}
	if !explained {
		c.out = append(c.out, Unexplained{p, aspect, detail})
	}
}

func (c *comparer) compareNode(n, s *tree.Node) {
	if n == nil {
		// A directory is gone when all that packages put into it is.
		if s.Kind == tree.Directory && c.parents[s.Path] {
			return
		}
		c.report(s.Path, Missing, fmt.Sprintf("%s from %s", s.Kind, s.Origin))
		return
	}
	mode := s.Mode
	if s.Kind != tree.Directory && s.Mode&0o6000 != 0 {
		c.report(s.Path, SetID, fmt.Sprintf("mode %04o from %s", s.Mode, s.Origin))
		mode &^= 0o6000
	}
	if detail := unequal(n, s, mode); detail != "" {
		c.report(s.Path, Replaced, detail)
	}
}

// unequal says how two nodes differ, or returns "".
func unequal(n, s *tree.Node, mode uint32) string {
	switch {
	case n.Kind != s.Kind:
		return fmt.Sprintf("is a %s from %s, %s ships a %s", n.Kind, n.Origin, s.Origin, s.Kind)
	case n.Mode != mode:
		return fmt.Sprintf("mode %04o from %s, %s ships %04o", n.Mode, n.Origin, s.Origin, s.Mode)
	case n.UID != s.UID || n.GID != s.GID:
		return fmt.Sprintf("owner %d:%d, %s ships %d:%d", n.UID, n.GID, s.Origin, s.UID, s.GID)
	case n.Target != s.Target:
		return fmt.Sprintf("links to %s, %s ships %s", n.Target, s.Origin, s.Target)
	case n.Content.SHA256 != s.Content.SHA256:
		return fmt.Sprintf("content from %s differs from what %s ships", n.Origin, s.Origin)
	}
	for name, value := range s.Xattrs {
		if string(n.Xattrs[name]) != string(value) {
			return fmt.Sprintf("attribute %s differs from what %s ships", name, s.Origin)
		}
	}
	return ""
}
