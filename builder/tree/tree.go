// SPDX-License-Identifier: Apache-2.0

// Package tree holds a file system in memory: what a node image will contain,
// before any of it is written. Metadata lives in the nodes, bytes stay where they
// are (a range of a file in the content store, or a short slice) until a writer
// such as package seal or package initrd reads them.
//
// A tree is a value without behaviour on disk: building one needs no privileges,
// and walking it always yields the same order (lexical by path), which is what
// makes every image derived from it reproducible.
package tree

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// Kind says what a node is. The zero value is invalid.
type Kind uint8

// The kinds of node a file system can hold.
const (
	Directory Kind = iota + 1
	Regular
	Symlink
	CharDevice
	BlockDevice
	Fifo
)

func (k Kind) String() string {
	switch k {
	case Directory:
		return "directory"
	case Regular:
		return "file"
	case Symlink:
		return "symlink"
	case CharDevice:
		return "character device"
	case BlockDevice:
		return "block device"
	case Fifo:
		return "fifo"
	}
	return "invalid"
}

// Node is one entry of a tree.
type Node struct {
	// Path is absolute, clean and slash separated: "/usr/bin/kubelet". The root is "/".
	Path string
	Kind Kind
	// Mode holds permission, set-id and sticky bits only (07777).
	Mode     uint32
	UID, GID uint32
	// Target is the text of a symbolic link, kept as its origin wrote it.
	Target string
	// Major and Minor identify a device node.
	Major, Minor uint32
	// Xattrs maps full names ("security.capability") to values.
	Xattrs map[string][]byte
	// Content holds the bytes of a regular file.
	Content Content
	// Origin names what put the node here: "deb:systemd", "component:etcd",
	// "profile:base", "step:users". It is what size reports and the manifest group by.
	Origin string
}

// Content refers to the bytes of a regular file without holding large ones in memory.
type Content struct {
	// File and Offset locate the bytes in a file that does not change while the tree
	// lives. File is empty when the bytes are in Data.
	File   string
	Offset int64
	Size   int64
	Data   []byte
	// SHA256 is the digest of the bytes. Readers that copy the content verify it, so
	// that a damaged store entry is noticed and never becomes part of an image.
	SHA256 [sha256.Size]byte
}

// Bytes returns content held in memory.
func Bytes(data []byte) Content {
	return Content{Data: data, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

// ErrCorrupt reports content whose bytes do not have the digest the tree recorded.
var ErrCorrupt = errors.New("content does not match its recorded digest")

// Open returns a reader over the content. Reading to the end verifies the digest: the
// last Read returns an error wrapping ErrCorrupt instead of io.EOF on a mismatch.
func (c Content) Open() (io.ReadCloser, error) {
	var r io.Reader = bytes.NewReader(c.Data)
	var closer io.Closer = io.NopCloser(nil)
	if c.File != "" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, err
		}
		r, closer = io.NewSectionReader(f, c.Offset, c.Size), f
	}
	return &verifier{r: r, c: closer, sum: sha256.New(), want: c}, nil
}

// ReadAll returns the whole content after verifying it.
func (c Content) ReadAll() ([]byte, error) {
	r, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// With room for one read more than there is, the buffer never grows: the read that
	// finds the end, and verifies, needs that room.
	all := bytes.NewBuffer(make([]byte, 0, c.Size+bytes.MinRead))
	_, err = all.ReadFrom(r)
	return all.Bytes(), err
}

// Tree is a set of nodes, each parent directory present.
type Tree struct {
	nodes map[string]*Node
}

// New returns a tree that holds the root directory only.
func New() *Tree {
	return &Tree{nodes: map[string]*Node{"/": {Path: "/", Kind: Directory, Mode: 0o755, Origin: "step:root"}}}
}

// Lookup returns the node at p without following links, or nil.
func (t *Tree) Lookup(p string) *Node { return t.nodes[Clean(p)] }

// Len returns the number of nodes, the root included.
func (t *Tree) Len() int { return len(t.nodes) }

// Put adds n or replaces the node at its path. Missing parents are created as 0755
// directories of the same origin. Replacing a directory that has children by something
// else is an error, and so is placing a node below something that is not a directory:
// callers resolve links first (see Resolve).
func (t *Tree) Put(n Node) error {
	n.Path = Clean(n.Path)
	if n.Kind < Directory || n.Kind > Fifo {
		return fmt.Errorf("%s: invalid node kind %d", n.Path, n.Kind)
	}
	if n.Mode&^0o7777 != 0 {
		return fmt.Errorf("%s: mode %o has bits outside 07777", n.Path, n.Mode)
	}
	if old := t.nodes[n.Path]; old != nil && old.Kind == Directory && n.Kind != Directory && t.hasChildren(n.Path) {
		return fmt.Errorf("%s: %s from %s would replace a directory with content from %s", n.Path, n.Kind, n.Origin, old.Origin)
	}
	for dir := path.Dir(n.Path); dir != "/"; dir = path.Dir(dir) {
		p := t.nodes[dir]
		if p == nil {
			t.nodes[dir] = &Node{Path: dir, Kind: Directory, Mode: 0o755, Origin: n.Origin}
			continue
		}
		if p.Kind != Directory {
			return fmt.Errorf("%s: parent %s is a %s (from %s), not a directory", n.Path, dir, p.Kind, p.Origin)
		}
		break
	}
	t.nodes[n.Path] = &n
	return nil
}

// Remove deletes the node at p and everything below it, and returns how many went.
func (t *Tree) Remove(p string) int {
	p = Clean(p)
	below := p + "/"
	removed := 0
	for name := range t.nodes {
		if name == p || strings.HasPrefix(name, below) {
			delete(t.nodes, name)
			removed++
		}
	}
	return removed
}

// Delete removes the node at p alone. Callers make sure that nothing is left below it;
// unlike Remove it does not look at the rest of the tree.
func (t *Tree) Delete(p string) { delete(t.nodes, Clean(p)) }

// Paths returns every path in lexical order, parents before children.
func (t *Tree) Paths() []string {
	out := make([]string, 0, len(t.nodes))
	for p := range t.nodes {
		out = append(out, p)
	}
	slices.SortFunc(out, comparePaths)
	return out
}

// Nodes returns every node, parents before children and siblings by name.
func (t *Tree) Nodes() []*Node {
	out := make([]*Node, 0, len(t.nodes))
	for _, p := range t.Paths() {
		out = append(out, t.nodes[p])
	}
	return out
}

// Below returns every node below the directory dir, in the order of Nodes.
func (t *Tree) Below(dir string) []*Node {
	below := strings.TrimSuffix(Clean(dir), "/") + "/"
	var out []*Node
	for p, n := range t.nodes {
		if len(p) > len(below) && strings.HasPrefix(p, below) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *Node) int { return comparePaths(a.Path, b.Path) })
	return out
}

// All returns every node, in no particular order: for sums and for changes that look at
// one node at a time, which need not wait for thousands of paths to be sorted.
func (t *Tree) All() iter.Seq[*Node] { return maps.Values(t.nodes) }

// Resolve follows symbolic links inside the tree, in every component of p, and returns
// the path of the final node, which need not exist. Links never leave the tree.
func (t *Tree) Resolve(p string) (string, error) { return t.resolve(Clean(p), 0) }

func (t *Tree) resolve(p string, depth int) (string, error) {
	if depth > 40 { // the kernel's own limit, MAXSYMLINKS
		return "", fmt.Errorf("%s: too many levels of symbolic links", p)
	}
	cur := "/"
	parts := strings.Split(strings.TrimPrefix(p, "/"), "/")
	for i, part := range parts {
		if part == "" {
			continue
		}
		next := path.Join(cur, part)
		if n := t.nodes[next]; n != nil && n.Kind == Symlink {
			target := n.Target
			if !path.IsAbs(target) {
				target = path.Join(cur, target)
			}
			return t.resolve(path.Join(append([]string{target}, parts[i+1:]...)...), depth+1)
		}
		cur = next
	}
	return cur, nil
}

// Size returns the sum of the sizes of all regular files in bytes.
func (t *Tree) Size() int64 {
	var total int64
	for n := range t.All() {
		if n.Kind == Regular {
			total += n.Content.Size
		}
	}
	return total
}

func (t *Tree) hasChildren(p string) bool {
	below := p + "/"
	for name := range t.nodes {
		if strings.HasPrefix(name, below) {
			return true
		}
	}
	return false
}

// Clean returns p as a tree path: absolute, without dot elements or a trailing slash.
func Clean(p string) string { return path.Clean("/" + p) }

// comparePaths orders by element, so that "/a/b" comes before "/a-b".
func comparePaths(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}

// FileMode converts the kind and mode bits of n to the standard library's form.
func (n *Node) FileMode() fs.FileMode {
	m := fs.FileMode(n.Mode & 0o777)
	if n.Mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if n.Mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if n.Mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	switch n.Kind {
	case Directory:
		m |= fs.ModeDir
	case Symlink:
		m |= fs.ModeSymlink
	case CharDevice:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case BlockDevice:
		m |= fs.ModeDevice
	case Fifo:
		m |= fs.ModeNamedPipe
	}
	return m
}
