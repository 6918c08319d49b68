// SPDX-License-Identifier: Apache-2.0

package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLongName  = 0x0f

	endOfChain = 0x0fffffff
)

// File is one file to put on the volume.
type File struct {
	// Path is slash separated without a leading slash; directories are made as needed.
	Path string
	// Data is the content, in pieces that follow each other.
	Data [][]byte
}

// Size returns the size of the content in bytes.
func (f File) Size() int64 {
	var size int64
	for _, piece := range f.Data {
		size += int64(len(piece))
	}
	return size
}

// Options describe the volume besides its files.
type Options struct {
	// Label has at most 11 characters of those allowed in short names, or spaces.
	Label string
	// ID is the volume serial number.
	ID uint32
	// Time is given to every file and directory, in UTC with a resolution of 2 seconds.
	Time time.Time
	// Hidden is the number of sectors before the partition.
	Hidden uint32
}

// node is a file or directory with its place.
type node struct {
	name     string
	short    [11]byte
	long     []byte // records before the short one
	dir      bool
	file     File
	children []*node
	parent   *node
	first    int64 // cluster; 0 for an empty file
	clusters int64
}

// Write writes a volume with geometry g to w, which must read as zeros.
func Write(w io.WriterAt, g Geometry, files []File, opts Options) error {
	root, err := buildTree(files)
	if err != nil {
		return err
	}
	if err := checkLabel(opts.Label); err != nil {
		return err
	}
	next := int64(2)
	root.place(g, &next)
	if used := next - 2; used > g.Clusters {
		return fmt.Errorf("%w: its files need %d bytes, it holds %d, %d too few", ErrTooSmall,
			used*g.ClusterSize(), g.Clusters*g.ClusterSize(), (used-g.Clusters)*g.ClusterSize())
	}
	v := &volume{w: w, g: g, opts: opts, fat: make([]byte, 4*next)}
	v.setFAT(0, 0x0ffffff8)
	v.setFAT(1, endOfChain)
	if err := v.writeNode(root); err != nil {
		return err
	}
	if err := v.writeFATs(); err != nil {
		return err
	}
	return v.writeBoot(next)
}

// Needed returns the bytes the files would take on a volume with geometry g.
func Needed(g Geometry, files []File) (int64, error) {
	root, err := buildTree(files)
	if err != nil {
		return 0, err
	}
	next := int64(2)
	root.place(g, &next)
	return (next - 2) * g.ClusterSize(), nil
}

func buildTree(files []File) (*node, error) {
	root := &node{dir: true}
	var errs []error
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range sorted {
		if err := root.add(f); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Path, err))
		}
	}
	return root, errors.Join(errs...)
}

func (n *node) add(f File) error {
	if size := f.Size(); size > 0xffffffff {
		return fmt.Errorf("the file has %d bytes, FAT32 allows 4 GiB less one", size)
	}
	dirs := strings.Split(f.Path, "/")
	for k, name := range dirs {
		if err := checkName(name); err != nil {
			return err
		}
		last := k == len(dirs)-1
		at := slices.IndexFunc(n.children, func(c *node) bool { return strings.EqualFold(c.name, name) })
		switch {
		case at < 0:
			child := &node{name: name, parent: n, dir: !last}
			if last {
				child.file = f
			}
			n.adopt(child)
			n = child
		case last || !n.children[at].dir || n.children[at].name != name:
			return fmt.Errorf("%q collides with %q: names that differ in case only are the same", name, n.children[at].name)
		default:
			n = n.children[at]
		}
	}
	return nil
}

// adopt adds a child and gives it a short name.
func (n *node) adopt(c *node) {
	taken := make(map[[11]byte]bool)
	for _, other := range n.children {
		taken[other.short] = true
	}
	short, exact := shortName(c.name)
	if !exact || taken[short] {
		short = alias(c.name, taken)
		c.long = longRecords(c.name, short)
	}
	c.short = short
	n.children = append(n.children, c)
}

// place numbers clusters: a directory, then what it holds.
func (n *node) place(g Geometry, next *int64) {
	size := n.file.Size()
	if n.dir {
		size = 2 * entrySize // the label in the root, "." and ".." elsewhere
		for _, c := range n.children {
			size += int64(len(c.long) + entrySize)
		}
	}
	n.clusters = (size + g.ClusterSize() - 1) / g.ClusterSize()
	if n.clusters > 0 {
		n.first = *next
		*next += n.clusters
	}
	for _, c := range n.children {
		c.place(g, next)
	}
}

type volume struct {
	w    io.WriterAt
	g    Geometry
	opts Options
	fat  []byte
}

func (v *volume) setFAT(cluster int64, value uint32) {
	binary.LittleEndian.PutUint32(v.fat[4*cluster:], value)
}

func (v *volume) writeNode(n *node) error {
	for c := n.first; c < n.first+n.clusters-1; c++ {
		v.setFAT(c, uint32(c+1))
	}
	data := n.file.Data
	if n.clusters > 0 {
		v.setFAT(n.first+n.clusters-1, endOfChain)
	}
	if n.dir {
		data = [][]byte{v.encodeDirectory(n)}
	}
	at := v.g.clusterOffset(n.first)
	for _, piece := range data {
		if len(piece) == 0 {
			continue // an empty file has no cluster that it could be in
		}
		if _, err := v.w.WriteAt(piece, at); err != nil {
			return err
		}
		at += int64(len(piece))
	}
	for _, c := range n.children {
		if err := v.writeNode(c); err != nil {
			return err
		}
	}
	return nil
}

func (v *volume) writeFATs() error {
	for k := range 2 {
		if _, err := v.w.WriteAt(v.fat, v.g.fatOffset(k)); err != nil {
			return err
		}
	}
	return nil
}
