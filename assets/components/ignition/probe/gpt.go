// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// Disk is what a device's partition table says. Sectors are logical sectors.
type Disk struct {
	SectorSize int
	Partitions []Partition
}

// Partition is one used entry of a GPT. GUIDs are in upper case.
type Partition struct {
	Number         int
	Label          string
	GUID, TypeGUID string
	Start, Sectors int64
}

// ErrNotGPT reports a partition table of another kind.
var ErrNotGPT = errors.New("disk does not have a GPT")

// DiskOn reads the partition table of a device. A device without one has no partitions.
func DiskOn(device string) (Disk, error) {
	f, err := os.Open(device)
	if err != nil {
		return Disk{}, err
	}
	defer f.Close()
	sector, err := sectorSize(f)
	if err != nil {
		return Disk{}, fmt.Errorf("sector size of %s: %w", device, err)
	}
	size, err := f.Seek(0, io.SeekEnd) // block devices have no size in stat
	if err != nil {
		return Disk{}, err
	}
	partitions, err := readTable(f, size, int64(sector))
	if err != nil {
		return Disk{}, fmt.Errorf("%s: %w", device, err)
	}
	return Disk{SectorSize: sector, Partitions: partitions}, nil
}

func sectorSize(f *os.File) (int, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Mode().IsRegular() {
		return 512, nil
	}
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err == nil && (n <= 0 || n%512 != 0) {
		err = fmt.Errorf("%d is not a multiple of 512", n)
	}
	return n, err
}

// readTable returns the partitions of the primary GPT, or of the backup at the end of the
// disk when the primary is damaged. Like libblkid it takes neither for valid without a
// protective MBR.
func readTable(r io.ReaderAt, size, sector int64) ([]Partition, error) {
	mbr := make([]byte, 512)
	if _, err := r.ReadAt(mbr, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	switch mbrKind(mbr) {
	case noMBR:
		return nil, nil
	case plainMBR:
		return nil, ErrNotGPT
	}
	last := size/sector - 1
	for _, lba := range []int64{1, last} {
		h, err := readHeader(r, lba, last, sector)
		if err != nil {
			return nil, err
		}
		if h == nil {
			continue
		}
		entries, err := h.readEntries(r, sector)
		if err != nil {
			return nil, err
		}
		if entries != nil {
			return h.partitions(entries), nil
		}
	}
	return nil, nil
}

// What the first sector of a disk is.
const (
	noMBR = iota
	plainMBR
	protectiveMBR // UEFI specification, 5.2.3
)

func mbrKind(b []byte) int {
	if b[510] != 0x55 || b[511] != 0xaa {
		return noMBR
	}
	used, active := false, true
	for i := 446; i < 510; i += 16 {
		if b[i+4] == 0xee {
			return protectiveMBR
		}
		used = used || b[i+4] != 0
		active = active && b[i]&0x7f == 0 // 0 or 0x80
	}
	// A FAT, exFAT or NTFS boot sector ends with the same two bytes.
	bootSector := bytes.HasPrefix(b[3:], []byte("NTFS")) || bytes.HasPrefix(b[3:], []byte("EXFAT")) ||
		bytes.HasPrefix(b[54:], []byte("FAT")) || bytes.HasPrefix(b[82:], []byte("FAT"))
	if used && active && !bootSector {
		return plainMBR
	}
	return noMBR
}

// header holds the fields of a GPT header that are used here; UEFI specification, 5.3.2.
type header struct {
	firstUsable, lastUsable int64
	entriesLBA              int64
	count, entrySize        int64
	entriesCRC              uint32
}

// Bounds that keep a damaged header from asking for absurd amounts of memory.
const (
	maxHeader  = 512
	maxEntries = 1 << 24 // bytes
)

// readHeader returns nil for a sector that is not a valid GPT header.
func readHeader(r io.ReaderAt, lba, last, sector int64) (*header, error) {
	if lba < 1 || lba > last {
		return nil, nil
	}
	b := make([]byte, maxHeader)
	if _, err := r.ReadAt(b, lba*sector); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	size := le.Uint32(b[12:])
	if !bytes.HasPrefix(b, []byte("EFI PART")) || size < 92 || size > maxHeader {
		return nil, nil
	}
	sum := le.Uint32(b[16:])
	clear(b[16:20])
	if crc32.ChecksumIEEE(b[:size]) != sum || int64(le.Uint64(b[24:])) != lba {
		return nil, nil
	}
	h := &header{
		firstUsable: int64(le.Uint64(b[40:])), lastUsable: int64(le.Uint64(b[48:])),
		entriesLBA: int64(le.Uint64(b[72:])),
		count:      int64(le.Uint32(b[80:])), entrySize: int64(le.Uint32(b[84:])),
		entriesCRC: le.Uint32(b[88:]),
	}
	if h.firstUsable < 0 || h.lastUsable < h.firstUsable || h.lastUsable > last ||
		h.entriesLBA < 1 || h.entriesLBA > last || h.entrySize < 128 || h.count < 1 || h.count > maxEntries/h.entrySize {
		return nil, nil
	}
	return h, nil
}

// readEntries returns nil when the array does not have the checksum the header says.
func (h *header) readEntries(r io.ReaderAt, sector int64) ([]byte, error) {
	b := make([]byte, h.count*h.entrySize)
	if _, err := r.ReadAt(b, h.entriesLBA*sector); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if crc32.ChecksumIEEE(b) != h.entriesCRC {
		return nil, nil
	}
	return b, nil
}

func (h *header) partitions(entries []byte) []Partition {
	var all []Partition
	for i := range h.count {
		e := entries[i*h.entrySize:][:h.entrySize]
		first, last := int64(binary.LittleEndian.Uint64(e[32:])), int64(binary.LittleEndian.Uint64(e[40:]))
		unused := bytes.Equal(e[:16], make([]byte, 16))
		if unused || first < h.firstUsable || last > h.lastUsable || last < first {
			continue
		}
		all = append(all, Partition{
			Number: int(i) + 1, Label: label(e[56:128]), GUID: guid(e[16:32]), TypeGUID: guid(e[:16]),
			Start: first, Sectors: last - first + 1,
		})
	}
	return all
}

// label decodes UTF-16LE up to the first NUL.
func label(b []byte) string {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// guid formats a GUID, whose first three parts are little-endian on disk.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}
