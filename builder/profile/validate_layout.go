// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"slices"
)

// The smallest FAT32 file system has 65525 clusters, each of at least one sector; the
// rest is what FATs and reserved sectors take, rounded up to a whole MiB. Firmware tells
// FAT16 from FAT32 by this count alone (EFI specification 13.3, FAT specification 3.5).
var smallestFAT32 = map[int]int64{512: 33 * MiB, 4096: 257 * MiB}

// smallestRoot is less than any bootable user space needs; it catches a wrong unit.
const smallestRoot = 64 * MiB

func (c *checker) layout() {
	l := c.p.Layout
	if l.SectorSize == 0 && !c.doc.Has("layout.sectorSize") {
		c.required("layout.sectorSize", "")
	} else if !slices.Contains(SectorSizes, l.SectorSize) {
		c.problem("layout.sectorSize", "is not a sector size", fmt.Sprint(SectorSizes[0]), fmt.Sprint(SectorSizes[1]))
	}
	c.partition("layout.esp", l.ESP, smallestFAT32[l.SectorSize], "is too small for FAT32")
	c.partition("layout.root", l.Root, smallestRoot, "is too small for a root file system")
}

func (c *checker) partition(path, v string, least int64, tooSmall string) {
	if !c.required(path, v) {
		return
	}
	n, err := ParseSize(v)
	switch {
	case err != nil:
		c.problem(path, "is not a size", "a whole number followed by KiB, MiB, GiB or TiB")
	case n%MiB != 0:
		c.problem(path, fmt.Sprintf("is not a whole number of MiB; partitions are aligned to it (next larger: %dMiB)", n/MiB+1))
	case n < least:
		c.problem(path, tooSmall, fmt.Sprintf("%dMiB or more", least/MiB))
	}
}
