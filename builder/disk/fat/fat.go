// SPDX-License-Identifier: Apache-2.0

// Package fat writes and reads the FAT32 file system of an EFI system partition, as
// Microsoft's FAT32 File System Specification 1.03 defines it. A file system is planned
// as a whole and written once: every file is one run of clusters, nothing but what holds
// data is written, and there is no clock and no random number in it.
package fat

import (
	"errors"
	"fmt"
)

// The limits of the format. A volume with fewer clusters would be read as FAT16.
const (
	minClusters     = 65525
	maxClusters     = 0x0ffffff5
	reservedSectors = 32
	entrySize       = 32
	// clusterTarget is the preferred cluster size in bytes: the page size, so that the
	// blocks of a kernel image do not straddle pages.
	clusterTarget = 4096
)

// ErrTooSmall reports a volume that cannot hold FAT32 or what is to be put into it.
var ErrTooSmall = errors.New("the volume is too small")

// Geometry says where the parts of a volume lie. All numbers are in sectors.
type Geometry struct {
	SectorSize        int
	SectorsPerCluster int
	Reserved          int // before the first FAT
	FATSectors        int // of each of the two FATs
	Sectors           int64
	Clusters          int64
}

// ClusterSize returns the size of a cluster in bytes.
func (g Geometry) ClusterSize() int64 { return int64(g.SectorSize) * int64(g.SectorsPerCluster) }

func (g Geometry) fatOffset(k int) int64 {
	return int64(g.Reserved+k*g.FATSectors) * int64(g.SectorSize)
}

// clusterOffset returns where a cluster begins in bytes; they are numbered from 2.
func (g Geometry) clusterOffset(c int64) int64 {
	return g.fatOffset(2) + (c-2)*g.ClusterSize()
}

// MinSize returns the smallest size in bytes of a FAT32 volume with that sector size: a
// little over 32 MiB for 512-byte sectors, a little over 256 MiB for 4096-byte sectors.
func MinSize(sectorSize int) int64 {
	const clusters = minClusters + 16 // stay clear of the border, as some readers are off by a few
	fats := 2 * sectorsFor((clusters+2)*4, sectorSize)
	return int64(sectorSize) * (reservedSectors + 8 + fats + clusters)
}

// Plan chooses the geometry of a volume of size bytes.
func Plan(size int64, sectorSize int) (Geometry, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return Geometry{}, fmt.Errorf("sector size %d: only 512 and 4096 are supported", sectorSize)
	}
	if size%int64(sectorSize) != 0 {
		return Geometry{}, fmt.Errorf("volume size %d is not a multiple of the sector size %d", size, sectorSize)
	}
	if least := MinSize(sectorSize); size < least {
		return Geometry{}, fmt.Errorf("%w: FAT32 with %d-byte sectors needs %d bytes, the volume has %d, %d too few",
			ErrTooSmall, sectorSize, least, size, least-size)
	}
	g := Geometry{SectorSize: sectorSize, Sectors: size / int64(sectorSize)}
	if g.Sectors > 0xffffffff {
		return Geometry{}, fmt.Errorf("volume size %d is more than FAT32 can address", size)
	}
	for g.SectorsPerCluster = max(1, clusterTarget/sectorSize); ; g.SectorsPerCluster /= 2 {
		g.fit()
		if g.Clusters >= minClusters+16 || g.SectorsPerCluster == 1 {
			break
		}
	}
	for g.Clusters > maxClusters {
		g.SectorsPerCluster *= 2
		g.fit()
	}
	return g, nil
}

// fit takes the smallest FATs that can number the clusters which they leave room for, and
// puts the first cluster on a multiple of the cluster size. The number of clusters is not
// recorded on a volume: readers compute it as it is computed here.
func (g *Geometry) fit() {
	bytes := int64(g.SectorSize)
	enough := (g.Sectors - reservedSectors) / int64(g.SectorsPerCluster) // if FATs took no room
	g.layOut(int(sectorsFor((enough+2)*4, g.SectorSize)))
	for {
		smaller := *g
		smaller.layOut(g.FATSectors - 1)
		if (smaller.Clusters+2)*4 > int64(smaller.FATSectors)*bytes {
			return
		}
		*g = smaller
	}
}

func (g *Geometry) layOut(fatSectors int) {
	spc := int64(g.SectorsPerCluster)
	g.FATSectors = fatSectors
	for g.Reserved = reservedSectors; (int64(g.Reserved)+2*int64(fatSectors))%spc != 0; {
		g.Reserved++
	}
	g.Clusters = (g.Sectors - int64(g.Reserved) - 2*int64(fatSectors)) / spc
}

func sectorsFor(bytes int64, sectorSize int) int64 {
	return (bytes + int64(sectorSize) - 1) / int64(sectorSize)
}
