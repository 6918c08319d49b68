// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// Unpacked is a binary package whose content is in the store.
type Unpacked struct {
	// Name and Version are what the package says of itself.
	Name, Version string
	// Fields is the package's control paragraph.
	Fields Paragraph
	// Entries are the paths it ships, in archive order.
	Entries []Entry

	contents string
}

// loadUnpacked reads what unpack wrote into dir.
func loadUnpacked(dir string) (*Unpacked, error) {
	data, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		return nil, err
	}
	var ix index
	if err := json.Unmarshal(data, &ix); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, indexFile), err)
	}
	fields, err := parseControl(ix.Control["control"])
	if err != nil {
		return nil, err
	}
	return &Unpacked{Name: ix.Package, Version: ix.Version, Fields: fields, Entries: ix.Entries, contents: filepath.Join(dir, contentsFile)}, nil
}

// mergedDirs are the top-level directories that a usr-merged system has as links.
var mergedDirs = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// MergedPath maps a path as shipped to where it is on a usr-merged system: "/bin/sh"
// becomes "/usr/bin/sh". The aliased directory names themselves stay.
func MergedPath(p string) string {
	for _, dir := range mergedDirs {
		if strings.HasPrefix(p, dir+"/") {
			return "/usr" + p
		}
	}
	return p
}

// AddTo puts the package's paths into t with the origin "deb:<name>". Paths below /bin,
// /sbin and /lib* land in /usr; links that are already in the tree are followed. A
// directory that another package put there keeps its first owner and mode, as dpkg does;
// a file that differs from what another package put there is an error, all of them at once.
func (u *Unpacked) AddTo(t *tree.Tree) error {
	var problems []error
	for i := range u.Entries {
		if err := u.addEntry(t, &u.Entries[i]); err != nil {
			problems = append(problems, fmt.Errorf("package %s: %w", u.Name, err))
		}
	}
	return errors.Join(problems...)
}

func (u *Unpacked) addEntry(t *tree.Tree, e *Entry) error {
	if e.Path == "/" {
		return nil
	}
	p := MergedPath(e.Path)
	if e.Kind == tree.Directory && p == e.Path {
		for _, dir := range mergedDirs {
			if p == dir {
				return nil // base-files ships the link
			}
		}
	}
	dir, err := t.Resolve(path.Dir(p))
	if err != nil {
		return err
	}
	n, err := u.node(e)
	if err != nil {
		return err
	}
	n.Path = path.Join(dir, path.Base(p))
	old := t.Lookup(n.Path)
	if old == nil || !strings.HasPrefix(old.Origin, "deb:") {
		return t.Put(n)
	}
	if n.Kind == tree.Directory && (old.Kind == tree.Directory || old.Kind == tree.Symlink) {
		return nil
	}
	if same(old, &n) {
		return nil
	}
	return fmt.Errorf("%s (%s) is also in %s, as another %s", n.Path, n.Kind, old.Origin, old.Kind)
}

func (u *Unpacked) node(e *Entry) (tree.Node, error) {
	n := tree.Node{Kind: e.Kind, Mode: e.Mode, UID: e.UID, GID: e.GID, Target: e.Target, Major: e.Major, Minor: e.Minor, Xattrs: e.Xattrs, Origin: "deb:" + u.Name}
	if e.Kind != tree.Regular {
		return n, nil
	}
	n.Content = tree.Content{File: u.contents, Offset: e.Offset, Size: e.Size}
	if _, err := hex.Decode(n.Content.SHA256[:], []byte(e.SHA256)); err != nil || len(e.SHA256) != 64 {
		return n, fmt.Errorf("%s: stored digest %q is not a SHA-256", e.Path, e.SHA256)
	}
	return n, nil
}

func same(a, b *tree.Node) bool {
	return a.Kind == b.Kind && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Target == b.Target &&
		a.Content.SHA256 == b.Content.SHA256 && a.Major == b.Major && a.Minor == b.Minor
}
