// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"

	"github.com/imgbuild/imgbuild/builder/disk/fat"
	"github.com/imgbuild/imgbuild/builder/seal"
)

// Alignment is where partitions begin and what their sizes are multiples of: 1 MiB, which
// every flash erase block, RAID stripe and sector size in use divides or is divided by.
const Alignment = 1 << 20

// Slot names what a partition is for, whatever its label says.
type Slot string

// The slots, in the order they have on the disk. Root A holds the image; root B is where
// the first update goes. The state partition is not part of an image: it is made on the
// machine, which knows how large its disk is.
const (
	ESP         Slot = "esp"
	RootA       Slot = "root-a"
	RootAVerity Slot = "root-a-verity"
	RootB       Slot = "root-b"
	RootBVerity Slot = "root-b-verity"
)

// Layout holds the sizes a profile decides, in bytes.
type Layout struct {
	// ESP is the size of the EFI system partition.
	ESP int64
	// Root is the capacity of each root slot. The verity partitions are as large as a
	// full slot needs.
	Root int64
	// SectorSize is the logical sector size of the disk: 512 or 4096. A partition table
	// is written for one of them and cannot be read with the other.
	SectorSize int
}

// extent is a slot's place on the disk in bytes.
type extent struct {
	Slot   Slot
	Offset int64
	Size   int64
}

// place checks the layout and returns where every slot goes and how large the disk is.
// All problems are reported together.
func (l Layout) place() ([]extent, int64, error) {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if l.SectorSize != 512 && l.SectorSize != 4096 {
		add("layout: sector size %d: allowed are 512 and 4096", l.SectorSize)
		return nil, 0, errors.Join(errs...)
	}
	for _, s := range []struct {
		name string
		size int64
	}{{"esp", l.ESP}, {"root", l.Root}} {
		if s.size <= 0 || s.size%Alignment != 0 {
			add("layout: %s is %d bytes: must be a positive multiple of 1 MiB", s.name, s.size)
		}
	}
	if least := fat.MinSize(l.SectorSize); l.ESP < least {
		add("layout: esp is %d bytes: FAT32 with %d-byte sectors needs at least %d MiB", l.ESP, l.SectorSize, ceilMiB(least))
	}
	if len(errs) > 0 {
		return nil, 0, errors.Join(errs...)
	}
	verity := align(seal.HashSize(l.Root))
	extents := []extent{
		{Slot: ESP, Size: l.ESP},
		{Slot: RootA, Size: l.Root},
		{Slot: RootAVerity, Size: verity},
		{Slot: RootB, Size: l.Root},
		{Slot: RootBVerity, Size: verity},
	}
	// The first MiB holds the partition table, the last one its copy.
	next := int64(Alignment)
	for k := range extents {
		extents[k].Offset = next
		next += extents[k].Size
	}
	total := next + Alignment
	return extents, total, checkExtents(extents, total, l.SectorSize)
}

// tableSectors is what a partition table of 128 entries of 128 bytes takes besides its
// header, in bytes.
const tableBytes = 128 * 128

// checkExtents verifies what no writer of partition tables checks for us: that partitions
// are aligned, do not overlap and stay clear of both tables.
func checkExtents(extents []extent, total int64, sectorSize int) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	first := int64(2*sectorSize + tableBytes)
	last := total - int64(sectorSize) - tableBytes
	for k, e := range extents {
		if e.Offset%Alignment != 0 || e.Size%Alignment != 0 {
			add("partition %s: offset %d and size %d must be multiples of 1 MiB", e.Slot, e.Offset, e.Size)
		}
		if e.Size <= 0 || e.Offset < first || e.Offset > last-e.Size {
			add("partition %s: bytes %d to %d are outside the usable %d to %d", e.Slot, e.Offset, e.Offset+e.Size, first, last)
		}
		for _, o := range extents[:k] {
			if e.Offset < o.Offset+o.Size && o.Offset < e.Offset+e.Size {
				add("partitions %s and %s overlap", o.Slot, e.Slot)
			}
		}
	}
	return errors.Join(errs...)
}

func align(n int64) int64 { return (n + Alignment - 1) / Alignment * Alignment }

func ceilMiB(n int64) int64 { return align(n) >> 20 }
