// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// inode is one node with its place in the image.
type inode struct {
	node     *tree.Node
	parent   *inode // nil for the root
	children []entry
	serial   uint32 // i_ino, only informative
	links    uint32
	mtime    int64
	size     int64
	xattrs   []byte
	extended bool
	// offset of the inode in the metadata area, which begins at byte 0 of the image.
	offset int64
	// tail bytes follow the inode; the rest is in blocks from firstBlock on.
	tail       int
	firstBlock uint32
}

func (i *inode) headSize() int {
	if i.extended {
		return extendedSize
	}
	return compactSize
}

// tailOffset is where the inline tail begins.
func (i *inode) tailOffset() int64 { return i.offset + int64(i.headSize()+len(i.xattrs)) }

// run is the content of one or more equal files: read once, stored once.
type run struct {
	content    tree.Content
	firstBlock uint32
	blocks     uint32 // 0 when everything is inline
	inodes     []*inode
}

// Plan is the layout of a root: where every inode and every block goes. Making one reads
// no content.
type Plan struct {
	opts       Options
	id         Digest
	uuid       UUID
	verityUUID UUID
	salt       Digest
	inodes     []*inode
	runs       []*run
	metaBlocks uint32
	blocks     uint32
	shared     int64
}

// NewPlan lays the tree out. All problems of the tree are reported together.
func NewPlan(t *tree.Tree, opts Options) (*Plan, error) {
	nodes := t.Nodes()
	p := &Plan{opts: opts, id: identify(nodes, opts)}
	p.uuid = DeriveUUID("imgbuild erofs", p.id[:])
	p.verityUUID = DeriveUUID("imgbuild verity", p.id[:])
	p.salt = derive("imgbuild verity salt", p.id[:])

	var errs []error
	if len(opts.Volume) > 16 {
		errs = append(errs, fmt.Errorf("volume name %q has %d bytes, at most 16 are allowed", opts.Volume, len(opts.Volume)))
	}
	errs = append(errs, p.addInodes(nodes)...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p.placeInodes()
	if err := p.placeBlocks(); err != nil {
		return nil, err
	}
	return p, nil
}

// Sizes returns how much room the plan needs.
func (p *Plan) Sizes() Sizes {
	return Sizes{DataSize: int64(p.blocks) * BlockSize, HashSize: hashAreaSize(p.blocks)}
}

func (p *Plan) addInodes(nodes []*tree.Node) (errs []error) {
	byPath := make(map[string]*inode, len(nodes))
	p.inodes = make([]*inode, 0, len(nodes))
	for k, n := range nodes {
		i := &inode{node: n, serial: uint32(k + 1), links: 1, mtime: p.opts.Timestamp}
		byPath[n.Path] = i
		p.inodes = append(p.inodes, i)
		if err := i.check(); err != nil {
			errs = append(errs, err)
		}
		var err error
		if i.xattrs, err = encodeXattrs(n); err != nil {
			errs = append(errs, err)
		}
		if n.Kind == tree.Directory {
			i.links = 2
		}
		if n.Path == "/" {
			continue
		}
		i.parent = byPath[path.Dir(n.Path)] // nodes come parents first
		i.parent.children = append(i.parent.children, entry{path.Base(n.Path), i})
		if n.Kind == tree.Directory {
			i.parent.links++
		}
	}
	for _, i := range p.inodes {
		i.measure()
	}
	return errs
}

// check refuses what the format or the kernel cannot hold.
func (i *inode) check() error {
	n := i.node
	switch {
	case len(path.Base(n.Path)) > 255:
		return fmt.Errorf("%s: the name has %d bytes, at most 255 are allowed", n.Path, len(path.Base(n.Path)))
	case n.Kind == tree.Symlink && (len(n.Target) == 0 || len(n.Target) >= BlockSize):
		return fmt.Errorf("%s: the link's target has %d bytes, 1 to %d are allowed", n.Path, len(n.Target), BlockSize-1)
	case n.Kind == tree.Regular && n.Content.Size < 0:
		return fmt.Errorf("%s: negative size %d", n.Path, n.Content.Size)
	case n.Kind != tree.Regular && n.Content.Size != 0:
		return fmt.Errorf("%s: a %s cannot have content", n.Path, n.Kind)
	case (n.Kind == tree.CharDevice || n.Kind == tree.BlockDevice) && (n.Major > 0xfff || n.Minor > 0xfffff):
		return fmt.Errorf("%s: device number %d:%d is outside 4095:1048575", n.Path, n.Major, n.Minor)
	}
	return nil
}

// measure decides the inode's form and how much of its data is kept beside it.
func (i *inode) measure() {
	n := i.node
	switch n.Kind {
	case tree.Regular:
		i.size = n.Content.Size
	case tree.Symlink:
		i.size = int64(len(n.Target))
	case tree.Directory:
		i.size = directorySize(i.entries())
	}
	i.extended = n.UID > 0xffff || n.GID > 0xffff || i.links > 0xffff || i.size > 0xffffffff
	// The kernel wants an inline tail inside one block; ours share it with the inode.
	if tail := int(i.size % BlockSize); i.headSize()+len(i.xattrs)+tail <= BlockSize {
		i.tail = tail
	}
}

// openBlocks is how many partly filled metadata blocks are candidates for the next inode.
// More packs slightly better, fewer keeps neighbours in the tree neighbours on disk.
const openBlocks = 16

// placeInodes gives every inode an offset such that none crosses a block. The root comes
// first, as its number must fit 16 bits; the superblock takes the beginning of block 0.
func (p *Plan) placeInodes() {
	type open struct {
		start int64 // of the free space
		free  int
	}
	first := superOffset + superSize
	blocks := []open{{int64(first), BlockSize - first}}
	count := int64(1)
	for _, i := range p.inodes {
		need := i.headSize() + len(i.xattrs) + i.tail
		need = (need + slotSize - 1) / slotSize * slotSize
		best := -1
		for k, b := range blocks {
			if b.free >= need && (best < 0 || b.free < blocks[best].free) {
				best = k
			}
		}
		if best < 0 {
			if len(blocks) == openBlocks {
				fullest := slices.IndexFunc(blocks, func(b open) bool {
					return b.free == slices.MinFunc(blocks, func(x, y open) int { return cmp.Compare(x.free, y.free) }).free
				})
				blocks = slices.Delete(blocks, fullest, fullest+1)
			}
			blocks = append(blocks, open{count * BlockSize, BlockSize})
			count++
			best = len(blocks) - 1
		}
		i.offset = blocks[best].start
		blocks[best].start += int64(need)
		blocks[best].free -= need
	}
	p.metaBlocks = uint32(count)
}

// blocksOf returns how many whole blocks hold what is not inline.
func (i *inode) blocksOf() int64 {
	return (i.size - int64(i.tail) + BlockSize - 1) / BlockSize
}

// placeBlocks puts directories first, so that walking the tree reads one region, then
// file content in tree order, equal content once.
func (p *Plan) placeBlocks() error {
	next := int64(p.metaBlocks)
	for _, i := range p.inodes {
		if i.node.Kind == tree.Directory || i.node.Kind == tree.Symlink {
			i.firstBlock = uint32(next)
			next += i.blocksOf()
		}
	}
	// Equal content with and without an inline tail is stored twice: rare, and simple.
	type key struct {
		sum    [32]byte
		blocks int64
	}
	seen := make(map[key]*run)
	for _, i := range p.inodes {
		if i.node.Kind != tree.Regular || i.size == 0 {
			continue
		}
		k := key{i.node.Content.SHA256, i.blocksOf()}
		r := seen[k]
		if r == nil {
			r = &run{content: i.node.Content, firstBlock: uint32(next), blocks: uint32(k.blocks)}
			seen[k] = r
			p.runs = append(p.runs, r)
			next += k.blocks
		} else {
			p.shared += k.blocks * BlockSize
		}
		if r.content.Size != i.size {
			return fmt.Errorf("%s and %s have the same digest but %d and %d bytes", r.inodes[0].node.Path, i.node.Path, r.content.Size, i.size)
		}
		i.firstBlock = r.firstBlock
		r.inodes = append(r.inodes, i)
	}
	if next > 0xffffffff {
		return fmt.Errorf("the root needs %d blocks of %d bytes, more than the file system format can number", next, BlockSize)
	}
	p.blocks = uint32(next)
	return nil
}
