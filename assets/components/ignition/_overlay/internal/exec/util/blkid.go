// SPDX-License-Identifier: Apache-2.0

package util

import (
	"fmt"

	"github.com/imgbuild/imgbuild/assets/components/ignition/probe"
)

// DiskInfo describes a disk with a GPT, or with no partitions.
type DiskInfo struct {
	LogicalSectorSize int
	Partitions        []PartitionInfo
}

// PartitionInfo describes one partition, in logical sectors.
type PartitionInfo struct {
	Label         string
	GUID          string
	TypeGUID      string
	StartSector   int64
	SizeInSectors int64
	Number        int
}

// FilesystemInfo describes what a device holds; all fields are empty for nothing.
type FilesystemInfo struct {
	Type  string
	UUID  string
	Label string
}

// GetPartition returns the partition with that number.
func (d DiskInfo) GetPartition(number int) (PartitionInfo, bool) {
	for _, p := range d.Partitions {
		if p.Number == number {
			return p, true
		}
	}
	return PartitionInfo{}, false
}

// GetFilesystemInfo fails on a device with traces of several file systems unless
// allowAmbivalent is set.
func GetFilesystemInfo(device string, allowAmbivalent bool) (FilesystemInfo, error) {
	fs, err := probe.FilesystemOn(device, allowAmbivalent)
	if err != nil {
		return FilesystemInfo{}, fmt.Errorf("probing %q: %w", device, err)
	}
	return FilesystemInfo(fs), nil
}

// DumpDisk returns the partitions of a device.
func DumpDisk(device string) (DiskInfo, error) {
	disk, err := probe.DiskOn(device)
	if err != nil {
		return DiskInfo{}, fmt.Errorf("reading the partition table of %q: %w", device, err)
	}
	info := DiskInfo{LogicalSectorSize: disk.SectorSize}
	for _, p := range disk.Partitions {
		info.Partitions = append(info.Partitions, PartitionInfo{
			Label: p.Label, GUID: p.GUID, TypeGUID: p.TypeGUID,
			StartSector: p.Start, SizeInSectors: p.Sectors, Number: p.Number,
		})
	}
	return info, nil
}

// GetBlockDevices returns the devices that hold a file system of that type.
func GetBlockDevices(fstype string) ([]string, error) { return probe.Devices(fstype) }
