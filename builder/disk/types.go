// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"

	"github.com/imgbuild/imgbuild/builder/seal"
)

// Partition type GUIDs of the Discoverable Partitions Specification.
const (
	typeESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	// TypeLinux is "Linux filesystem data". The state partition that the machine makes for
	// itself has this type and the label "state". It is not the specification's /var type,
	// although /var is on it: that one is only mounted when its UUID is derived from the
	// machine's id, which does not exist yet when the partition is made, and it would be
	// mounted by automatic discovery besides our own unit.
	TypeLinux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
)

// rootTypes are the root and root verity types of an architecture. A firmware's or
// systemd's automatic discovery takes only those of its own architecture.
var rootTypes = map[string]struct{ data, hash string }{
	"amd64": {"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"},
	"arm64": {"b921b045-1df0-41c3-af44-4c6f280d3fae", "df3300ce-d69f-4c92-978c-9bfb0f38d820"},
}

// Attribute bits of the same specification, from systemd's <sd-gpt.h>.
const (
	attrReadOnly uint64 = 1 << 60
	attrNoAuto   uint64 = 1 << 63
)

// EmptyLabel marks a slot that holds nothing. systemd-sysupdate looks for it when it
// needs a place for an update, and discovery skips partitions that carry it.
const EmptyLabel = "_empty"

// TypeName returns a short name for a partition type ("root-amd64", "esp"), or "" when
// it is none that we write.
func TypeName(guid string) string {
	switch guid {
	case typeESP:
		return "esp"
	case TypeLinux:
		return "linux"
	}
	for arch, t := range rootTypes {
		switch guid {
		case t.data:
			return "root-" + arch
		case t.hash:
			return "root-" + arch + "-verity"
		}
	}
	return ""
}

// Partition is one entry of the partition table as written or read.
type Partition struct {
	Number int  `json:"number"`
	Slot   Slot `json:"slot,omitempty"`
	// Label is the name in the partition table.
	Label      string    `json:"label"`
	Type       string    `json:"type"`
	TypeName   string    `json:"typeName,omitempty"`
	UUID       seal.UUID `json:"uuid"`
	Attributes uint64    `json:"attributes"`
	// Offset and Size are in bytes. Used is how much of it holds content.
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
	Used   int64 `json:"used,omitempty"`
}

// describe returns the entries for the extents once the root hash is known. Every UUID
// follows from it, so that two disks with the same content are equal and two images
// never share a partition UUID.
func describe(extents []extent, arch, label string, root seal.Root) ([]Partition, error) {
	types, ok := rootTypes[arch]
	if !ok {
		return nil, fmt.Errorf("architecture %q: allowed are amd64 and arm64", arch)
	}
	var out []Partition
	for k, e := range extents {
		p := Partition{Number: k + 1, Slot: e.Slot, Offset: e.Offset, Size: e.Size}
		p.UUID = seal.DeriveUUID("imgbuild partition "+string(e.Slot), root.Hash[:])
		switch e.Slot {
		case ESP:
			p.Label, p.Type = "esp", typeESP
		case RootA:
			p.Label, p.Type, p.UUID = label, types.data, root.DataPartition
			p.Attributes, p.Used = attrReadOnly, root.DataSize
		case RootAVerity:
			p.Label, p.Type, p.UUID = label, types.hash, root.HashPartition
			p.Attributes, p.Used = attrReadOnly, root.HashSize
		case RootB:
			p.Label, p.Type, p.Attributes = EmptyLabel, types.data, attrReadOnly|attrNoAuto
		case RootBVerity:
			p.Label, p.Type, p.Attributes = EmptyLabel, types.hash, attrReadOnly|attrNoAuto
		}
		p.TypeName = TypeName(p.Type)
		out = append(out, p)
	}
	return out, nil
}
