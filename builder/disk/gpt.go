// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/imgbuild/imgbuild/builder/seal"
)

// maxLabel is the length of a partition's name in UTF-16 units.
const maxLabel = 36

func checkLabel(label string) error {
	units := utf16.Encode([]rune(label))
	if len(units) == 0 || len(units) > maxLabel || label == EmptyLabel {
		return fmt.Errorf("partition label %q: must have 1 to %d characters and not be %s", label, maxLabel, EmptyLabel)
	}
	return nil
}

// writeTable writes protective MBR, partition table and its copy at the end of the disk.
func writeTable(w io.WriterAt, parts []Partition, guid seal.UUID, total int64, sectorSize int) error {
	table := &gpt.Table{
		LogicalSectorSize:  sectorSize,
		PhysicalSectorSize: sectorSize,
		GUID:               guid.String(),
		ProtectiveMBR:      true,
	}
	for _, p := range parts {
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index:      p.Number,
			Start:      uint64(p.Offset) / uint64(sectorSize),
			End:        uint64(p.Offset+p.Size)/uint64(sectorSize) - 1,
			Size:       uint64(p.Size),
			Type:       gpt.Type(p.Type),
			Name:       p.Label,
			GUID:       p.UUID.String(),
			Attributes: p.Attributes,
		})
	}
	return table.Write(writeOnly{w}, total)
}

// writeOnly is the part of go-diskfs's file interface that writing a table needs. It has
// no Sync method on purpose: the image is synced once, as a whole, before it gets its name.
type writeOnly struct{ io.WriterAt }

var errWriteOnly = errors.New("the image is only written")

func (writeOnly) Stat() (fs.FileInfo, error)        { return nil, errWriteOnly }
func (writeOnly) Read([]byte) (int, error)          { return 0, errWriteOnly }
func (writeOnly) ReadAt([]byte, int64) (int, error) { return 0, errWriteOnly }
func (writeOnly) Seek(int64, int) (int64, error)    { return 0, errWriteOnly }
func (writeOnly) Close() error                      { return nil }
