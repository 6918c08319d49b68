// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/imgbuild/imgbuild/builder/seal"
)

// ErrTable reports a partition table that is missing or damaged.
var ErrTable = errors.New("damaged partition table")

// Table is a partition table as read from an image.
type Table struct {
	SectorSize int
	UUID       seal.UUID
	Partitions []Partition
}

const (
	gptMagic      = "EFI PART"
	gptHeaderSize = 92
	gptEntrySize  = 128
	gptMaxEntries = 1024
)

// ReadTable reads the partition table of an image of size bytes and checks it: both
// copies must be whole and equal, and no partition may overlap another or leave the disk.
// The sector size is the one with which a table is found.
func ReadTable(r io.ReaderAt, size int64) (*Table, error) {
	sector := make([]byte, 512)
	for _, ss := range []int{512, 4096} {
		if _, err := r.ReadAt(sector, int64(ss)); err == nil && string(sector[:8]) == gptMagic {
			return readTable(r, size, ss)
		}
	}
	return nil, fmt.Errorf("%w: no GPT with sectors of 512 or 4096 bytes; is this a raw disk image?", ErrTable)
}

func readTable(r io.ReaderAt, size int64, ss int) (*Table, error) {
	main, err := readHeader(r, size, ss, 1)
	if err != nil {
		return nil, fmt.Errorf("%w: main header: %w", ErrTable, err)
	}
	if last := uint64(size/int64(ss)) - 1; main.other != last {
		return nil, fmt.Errorf("%w: the copy should be in sector %d but the image ends with sector %d; is it cut short?", ErrTable, main.other, last)
	}
	backup, err := readHeader(r, size, ss, main.other)
	if err != nil {
		return nil, fmt.Errorf("%w: header of the copy: %w", ErrTable, err)
	}
	if !bytes.Equal(main.entries, backup.entries) || main.uuid != backup.uuid {
		return nil, fmt.Errorf("%w: the table and its copy differ", ErrTable)
	}
	t := &Table{SectorSize: ss, UUID: main.uuid}
	for k := 0; k+gptEntrySize <= len(main.entries); k += gptEntrySize {
		e := main.entries[k : k+gptEntrySize]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		p, err := parseEntry(e, ss, size)
		if err != nil {
			return nil, fmt.Errorf("%w: partition %d: %w", ErrTable, k/gptEntrySize+1, err)
		}
		p.Number = k/gptEntrySize + 1
		for _, o := range t.Partitions {
			if p.Offset < o.Offset+o.Size && o.Offset < p.Offset+p.Size {
				return nil, fmt.Errorf("%w: partitions %d and %d overlap", ErrTable, o.Number, p.Number)
			}
		}
		t.Partitions = append(t.Partitions, p)
	}
	t.assignSlots()
	return t, nil
}

type header struct {
	other   uint64
	uuid    seal.UUID
	entries []byte
}

// readHeader reads the header in sector lba and the entries it refers to.
func readHeader(r io.ReaderAt, size int64, ss int, lba uint64) (*header, error) {
	b := make([]byte, ss)
	if _, err := r.ReadAt(b, int64(lba)*int64(ss)); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(b[:8]) != gptMagic || le.Uint32(b[12:]) != gptHeaderSize {
		return nil, fmt.Errorf("sector %d is not a header", lba)
	}
	want := le.Uint32(b[16:])
	le.PutUint32(b[16:], 0)
	if got := crc32.ChecksumIEEE(b[:gptHeaderSize]); got != want {
		return nil, fmt.Errorf("checksum %08x, recorded %08x", got, want)
	}
	h := &header{other: le.Uint64(b[32:]), uuid: guid(b[56:])}
	if here := le.Uint64(b[24:]); here != lba {
		return nil, fmt.Errorf("it belongs in sector %d and was found in %d", here, lba)
	}
	at, count := le.Uint64(b[72:]), le.Uint32(b[80:])
	if le.Uint32(b[84:]) != gptEntrySize || count > gptMaxEntries || at > uint64(size)/uint64(ss) {
		return nil, fmt.Errorf("%d entries of %d bytes in sector %d", count, le.Uint32(b[84:]), at)
	}
	h.entries = make([]byte, int(count)*gptEntrySize)
	if _, err := r.ReadAt(h.entries, int64(at)*int64(ss)); err != nil {
		return nil, err
	}
	if got := crc32.ChecksumIEEE(h.entries); got != le.Uint32(b[88:]) {
		return nil, fmt.Errorf("checksum of the entries %08x, recorded %08x", got, le.Uint32(b[88:]))
	}
	return h, nil
}

func parseEntry(e []byte, ss int, size int64) (Partition, error) {
	le := binary.LittleEndian
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	if sectors := uint64(size) / uint64(ss); first > last || last >= sectors {
		return Partition{}, fmt.Errorf("sectors %d to %d on a disk of %d", first, last, sectors)
	}
	var units []uint16
	for k := 56; k < gptEntrySize && le.Uint16(e[k:]) != 0; k += 2 {
		units = append(units, le.Uint16(e[k:]))
	}
	typ := guid(e).String()
	return Partition{
		Label:      string(utf16.Decode(units)),
		Type:       typ,
		TypeName:   TypeName(typ),
		UUID:       guid(e[16:]),
		Attributes: le.Uint64(e[48:]),
		Offset:     int64(first) * int64(ss),
		Size:       int64(last-first+1) * int64(ss),
	}, nil
}

// guid reads a GUID as tables store it: the first three fields are little endian.
func guid(b []byte) seal.UUID {
	return seal.UUID{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// assignSlots names the partitions by type and order.
func (t *Table) assignSlots() {
	var roots, hashes int
	for k := range t.Partitions {
		p := &t.Partitions[k]
		switch name := p.TypeName; {
		case name == "esp":
			p.Slot = ESP
		case strings.HasPrefix(name, "root-") && strings.HasSuffix(name, "-verity"):
			p.Slot = pick(&hashes, RootAVerity, RootBVerity)
		case strings.HasPrefix(name, "root-"):
			p.Slot = pick(&roots, RootA, RootB)
		}
	}
}

func pick(n *int, a, b Slot) Slot {
	*n++
	switch *n {
	case 1:
		return a
	case 2:
		return b
	}
	return ""
}

// Slot returns the partition in a slot, or nil.
func (t *Table) Slot(s Slot) *Partition {
	for k := range t.Partitions {
		if t.Partitions[k].Slot == s {
			return &t.Partitions[k]
		}
	}
	return nil
}
