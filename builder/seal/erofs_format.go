// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// The on-disk format is that of the Linux kernel's Documentation/filesystems/erofs.rst.
// All integers are little endian. Only the uncompressed subset is written: flat inodes
// whose data is one run of blocks, the last partial block kept beside the inode.
const (
	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2

	featureChecksum = 1 << 0 // the superblock carries a CRC32-C
	featureMtime    = 1 << 1 // timestamps are modification times

	compactSize  = 32
	extendedSize = 64
	slotSize     = 32 // an inode's number is its offset in units of this
	direntSize   = 12
	xattrHeader  = 12

	layoutPlain  = 0 // i_format bits 1 to 3
	layoutInline = 2
)

// fileTypes maps a kind to the dirent's file type and to the type bits of st_mode.
var fileTypes = map[tree.Kind]struct {
	dirent uint8
	mode   uint16
}{
	tree.Regular:     {1, 0o100000},
	tree.Directory:   {2, 0o040000},
	tree.CharDevice:  {3, 0o020000},
	tree.BlockDevice: {4, 0o060000},
	tree.Fifo:        {5, 0o010000},
	tree.Symlink:     {7, 0o120000},
}

// xattrNames maps name prefixes to the indexes that stand for them on disk. The ACL names
// are complete; for the others the rest of the name follows.
var xattrNames = []struct {
	index  uint8
	prefix string
	whole  bool
}{
	{1, "user.", false},
	{2, "system.posix_acl_access", true},
	{3, "system.posix_acl_default", true},
	{4, "trusted.", false},
	{6, "security.", false},
}

// encodeXattrs returns the extended attribute area of an inode, or nil when it has none.
func encodeXattrs(n *tree.Node) ([]byte, error) {
	if len(n.Xattrs) == 0 {
		return nil, nil
	}
	out := make([]byte, xattrHeader)
	for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
		index, suffix, err := splitXattr(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Path, err)
		}
		value := n.Xattrs[name]
		if len(suffix) > 255 || len(value) > 65535 {
			return nil, fmt.Errorf("%s: extended attribute %s is too long (value of %d bytes)", n.Path, name, len(value))
		}
		out = append(out, uint8(len(suffix)), index)
		out = binary.LittleEndian.AppendUint16(out, uint16(len(value)))
		out = append(out, suffix...)
		out = append(out, value...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	if limit := BlockSize - extendedSize; len(out) > limit {
		return nil, fmt.Errorf("%s: extended attributes take %d bytes, at most %d fit beside an inode", n.Path, len(out), limit)
	}
	return out, nil
}

func splitXattr(name string) (index uint8, suffix string, err error) {
	for _, x := range xattrNames {
		if x.whole && name == x.prefix {
			return x.index, "", nil
		}
		if !x.whole && strings.HasPrefix(name, x.prefix) && len(name) > len(x.prefix) {
			return x.index, name[len(x.prefix):], nil
		}
	}
	return 0, "", fmt.Errorf("extended attribute %q: the name must begin with user., trusted. or security., or be a POSIX ACL", name)
}

// encodeDevice packs a device number the way the kernel's new_encode_dev does.
func encodeDevice(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// encode writes the inode into its place in the metadata area.
func (i *inode) encode(meta []byte) {
	b := meta[i.offset:]
	n := i.node
	layout := uint16(layoutPlain)
	if i.tail > 0 {
		layout = layoutInline
	}
	format := layout << 1
	if i.extended {
		format |= 1
	}
	var xattrs uint16
	if len(i.xattrs) > 0 {
		xattrs = uint16((len(i.xattrs)-xattrHeader)/4 + 1)
	}
	mode := fileTypes[n.Kind].mode | uint16(n.Mode)
	if n.Kind == tree.Symlink {
		mode = fileTypes[n.Kind].mode | 0o777 // what every Linux file system reports
	}
	union := i.firstBlock
	if n.Kind == tree.CharDevice || n.Kind == tree.BlockDevice {
		union = encodeDevice(n.Major, n.Minor)
	}
	le := binary.LittleEndian
	le.PutUint16(b[0:], format)
	le.PutUint16(b[2:], xattrs)
	le.PutUint16(b[4:], mode)
	le.PutUint32(b[16:], union)
	le.PutUint32(b[20:], i.serial)
	if i.extended {
		le.PutUint64(b[8:], uint64(i.size))
		le.PutUint32(b[24:], n.UID)
		le.PutUint32(b[28:], n.GID)
		le.PutUint64(b[32:], uint64(i.mtime))
		le.PutUint32(b[44:], i.links)
	} else {
		le.PutUint16(b[6:], uint16(i.links))
		le.PutUint32(b[8:], uint32(i.size))
		le.PutUint16(b[24:], uint16(n.UID))
		le.PutUint16(b[26:], uint16(n.GID))
	}
	copy(b[i.headSize():], i.xattrs)
}

// encodeSuper fills in the superblock and its checksum, which covers the rest of the
// first block; everything else in that block must be there already.
func (p *Plan) encodeSuper(meta []byte) {
	b := meta[superOffset:BlockSize]
	le := binary.LittleEndian
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], featureChecksum|featureMtime)
	b[12] = 12 // log2 of the block size
	le.PutUint16(b[14:], uint16(p.inodes[0].offset/slotSize))
	le.PutUint64(b[16:], uint64(len(p.inodes)))
	le.PutUint64(b[24:], uint64(p.opts.Timestamp))
	le.PutUint32(b[36:], p.blocks)
	copy(b[48:64], p.uuid[:])
	copy(b[64:80], p.opts.Volume)
	// The kernel's CRC starts from all ones and is not inverted at the end.
	le.PutUint32(b[4:], ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}
