// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// removals takes out what the profile lists. A removal that matches nothing is a
// mistake: the package changed, or the path is misspelled.
func (c *composer) removals() error {
	var problems []error
	patterns := make([]string, len(c.Profile.Remove))
	for i, r := range c.Profile.Remove {
		patterns[i] = r.Path
	}
	m, err := NewMatcher(patterns)
	if err != nil {
		return err
	}
	matched := map[string]int{}
	gone := map[string]bool{}
	// Of each directory, the patterns that match it or one above: parents come first.
	covering := map[string][]int{}
	for _, n := range c.t.Nodes() {
		covers := slices.Concat(covering[path.Dir(n.Path)], m.here(n.Path))
		if n.Kind == tree.Directory {
			covering[n.Path] = covers
		}
		if !strings.HasPrefix(n.Origin, "deb:") {
			continue
		}
		for _, i := range covers {
			matched[patterns[i]]++
			gone[n.Path] = true
		}
	}
	for _, r := range c.Profile.Remove {
		if matched[r.Path] == 0 {
			problems = append(problems, fmt.Errorf("remove %q matches nothing that packages ship; delete the entry or correct it", r.Path))
		}
		c.report.Removed[r.Path] = matched[r.Path]
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	removeAll(c.t, gone)
	return nil
}

// removeAll deletes paths, then directories that only held such paths.
func removeAll(t *tree.Tree, gone map[string]bool) {
	paths := t.Paths()
	children := map[string]int{}
	for _, p := range paths[1:] {
		children[path.Dir(p)]++
	}
	for i := len(paths) - 1; i > 0; i-- { // children before parents
		p := paths[i]
		if !gone[p] {
			continue
		}
		if children[p] > 0 && t.Lookup(p).Kind == tree.Directory {
			continue // something below it stays
		}
		t.Delete(p)
		dir := path.Dir(p)
		children[dir]--
		if children[dir] == 0 && strings.HasPrefix(t.Lookup(dir).Origin, "deb:") && strings.Count(dir, "/") > 1 {
			gone[dir] = true // emptied by removals alone
		}
	}
}

// setID clears set-id bits. The system has no unprivileged login to grant anything to.
func (c *composer) setID() error {
	for n := range c.t.All() {
		if n.Kind != tree.Directory {
			n.Mode &^= 0o6000
		}
	}
	return nil
}

// state turns directories below /var into tmpfiles.d lines.
func (c *composer) state() error {
	var b strings.Builder
	b.WriteString("# Directories that packages expect under /var, created on the state partition.\n")
	var problems []error
	below := c.t.Below("/var")
	for _, n := range below {
		switch n.Kind {
		case tree.Directory:
			fmt.Fprintf(&b, "d %s %04o %d %d -\n", n.Path, n.Mode, n.UID, n.GID)
			c.report.StateDirs = append(c.report.StateDirs, n.Path)
		case tree.Symlink:
			fmt.Fprintf(&b, "L %s - - - - %s\n", n.Path, n.Target)
		default:
			problems = append(problems, fmt.Errorf("%s (%s) is a %s under /var, which is the state partition; remove it in the profile", n.Path, n.Origin, n.Kind))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	for _, n := range below {
		c.t.Delete(n.Path)
	}
	return c.put("state", "/usr/lib/tmpfiles.d/imgbuild-state.conf", b.String())
}
