// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"encoding/binary"
	"slices"
	"strings"
)

// entry is one name in a directory.
type entry struct {
	name string
	to   *inode
}

// entries returns what the directory holds, "." and ".." included, in the byte order that
// the kernel's binary search relies on.
func (i *inode) entries() []entry {
	parent := i.parent
	if parent == nil {
		parent = i
	}
	out := make([]entry, 0, len(i.children)+2)
	out = append(out, entry{".", i}, entry{"..", parent})
	out = append(out, i.children...)
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return out
}

// split cuts entries into runs that fit a block each: a block holds its records first,
// then their names, and no name crosses into the next block.
func split(all []entry) [][]entry {
	var runs [][]entry
	start, used := 0, 0
	for k, e := range all {
		need := direntSize + len(e.name)
		if used+need > BlockSize {
			runs = append(runs, all[start:k])
			start, used = k, 0
		}
		used += need
	}
	return append(runs, all[start:])
}

// directorySize returns the size of an encoded directory: full blocks and what the last
// one uses.
func directorySize(all []entry) int64 {
	runs := split(all)
	size := int64(len(runs)-1) * BlockSize
	for _, e := range runs[len(runs)-1] {
		size += int64(direntSize + len(e.name))
	}
	return size
}

// encodeDirectory returns the bytes of a directory. Every inode must have its offset.
func encodeDirectory(all []entry) []byte {
	var out []byte
	for k, run := range split(all) {
		if k > 0 {
			out = append(out, make([]byte, int64(k)*BlockSize-int64(len(out)))...)
		}
		nameOffset := len(run) * direntSize
		for _, e := range run {
			out = binary.LittleEndian.AppendUint64(out, uint64(e.to.offset/slotSize))
			out = binary.LittleEndian.AppendUint16(out, uint16(nameOffset))
			out = append(out, fileTypes[e.to.node.Kind].dirent, 0)
			nameOffset += len(e.name)
		}
		for _, e := range run {
			out = append(out, e.name...)
		}
	}
	return out
}
