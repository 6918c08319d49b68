// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"unicode/utf16"
)

func TestParseExport(t *testing.T) {
	out := "DEVNAME=/dev/vda1\nLABEL=two\\ words\\$x\nUUID=1234-ABCD\nBLOCK_SIZE=512\nTYPE=vfat\nPARTLABEL=state\n"
	want := Filesystem{Type: "vfat", UUID: "1234-ABCD", Label: "two words$x"}
	if got := parseExport([]byte(out)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parseExport([]byte("PTUUID=1\nPTTYPE=gpt\n")); got != (Filesystem{}) {
		t.Errorf("a partition table: got %+v, want nothing", got)
	}
}

func TestParseSignatures(t *testing.T) {
	out := `{"signatures":[{"usage":"partition-table","type":"gpt","uuid":"p","label":null},
		{"usage":"filesystem","type":"ext4","uuid":"u","label":"l"},{"usage":"other","type":"swap","uuid":null,"label":null}]}`
	got, err := parseSignatures([]byte(out))
	if err != nil || got != (Filesystem{Type: "ext4", UUID: "u", Label: "l"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := parseSignatures(nil); err != nil || got != (Filesystem{}) {
		t.Errorf("no output: got %+v, %v", got, err)
	}
	if _, err := parseSignatures([]byte("{")); err == nil {
		t.Error("no error for broken output")
	}
}

func TestMissingDevice(t *testing.T) {
	for _, allow := range []bool{false, true} {
		if _, err := FilesystemOn(filepath.Join(t.TempDir(), "none"), allow); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v, want that the device does not exist", err)
		}
	}
}

// gpt builds a disk of 128 sectors with a GPT in both places.
func gpt(sector int64, entries []Partition) []byte {
	const sectors, arrayLBA = 128, 2
	disk := make([]byte, sectors*sector)
	disk[510], disk[511], disk[446+4] = 0x55, 0xaa, 0xee
	array := make([]byte, 128*128)
	for _, e := range entries {
		b := array[(e.Number-1)*128:]
		b[0], b[16] = 0xa1, byte(e.Number)
		binary.LittleEndian.PutUint64(b[32:], uint64(e.Start))
		binary.LittleEndian.PutUint64(b[40:], uint64(e.Start+e.Sectors-1))
		for i, u := range utf16.Encode([]rune(e.Label)) {
			binary.LittleEndian.PutUint16(b[56+2*i:], u)
		}
	}
	space := int64(len(array)) / sector
	put := func(lba, at int64) {
		copy(disk[at*sector:], array)
		h := make([]byte, 92)
		copy(h, "EFI PART")
		le := binary.LittleEndian
		le.PutUint32(h[8:], 0x10000)
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[24:], uint64(lba))
		le.PutUint64(h[40:], uint64(arrayLBA+space))
		le.PutUint64(h[48:], uint64(sectors-2-space))
		le.PutUint64(h[72:], uint64(at))
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		copy(disk[lba*sector:], h)
	}
	put(1, arrayLBA)
	put(sectors-1, sectors-1-space)
	return disk
}

func sample() []Partition {
	return []Partition{
		{Number: 1, Label: "ESP", Start: 40, Sectors: 8},
		{Number: 4, Label: "zustände", Start: 60, Sectors: 1},
	}
}

func TestReadTable(t *testing.T) {
	for _, sector := range []int64{512, 4096} {
		disk := gpt(sector, append(sample(), Partition{Number: 7, Label: "outside", Start: 1, Sectors: 2}))
		check := func(what string) {
			t.Helper()
			got, err := readTable(bytes.NewReader(disk), int64(len(disk)), sector)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			want := sample()
			want[0].GUID, want[0].TypeGUID = "00000001-0000-0000-0000-000000000000", "000000A1-0000-0000-0000-000000000000"
			want[1].GUID, want[1].TypeGUID = "00000004-0000-0000-0000-000000000000", "000000A1-0000-0000-0000-000000000000"
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, sectors of %d: got %+v", what, sector, got)
			}
		}
		check("primary")
		disk[sector+70]++ // damages the primary header
		check("backup")
		disk[int64(len(disk))-sector+70]++
		if got, err := readTable(bytes.NewReader(disk), int64(len(disk)), sector); err != nil || got != nil {
			t.Errorf("both damaged: got %v, %v", got, err)
		}
	}
}

func TestOtherDisks(t *testing.T) {
	mbr := make([]byte, 64<<10)
	mbr[510], mbr[511] = 0x55, 0xaa
	fat := bytes.Clone(mbr)
	copy(fat[54:], "FAT16")
	fat[446+4] = 0x20
	mbr[446+4] = 0x83
	noProtection := gpt(512, sample())
	noProtection[510] = 0
	for _, c := range []struct {
		name string
		disk []byte
		want error
	}{
		{"empty", make([]byte, 64<<10), nil},
		{"tiny", make([]byte, 100), nil},
		{"a DOS partition table", mbr, ErrNotGPT},
		{"a FAT file system", fat, nil},
		{"a GPT without a protective MBR", noProtection, nil},
	} {
		name := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(name, c.disk, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := DiskOn(name)
		if !errors.Is(err, c.want) || len(d.Partitions) != 0 {
			t.Errorf("%s: got %v, %v; want %v", c.name, d.Partitions, err, c.want)
		}
	}
}

func TestGUID(t *testing.T) {
	esp := []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
	if got := guid(esp); got != "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" { // UEFI specification, table 5-7
		t.Errorf("got %s", got)
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add(gpt(512, sample()), int64(512))
	f.Add(gpt(4096, sample()), int64(4096))
	f.Fuzz(func(t *testing.T, disk []byte, sector int64) {
		if sector < 512 || sector > 1<<16 || sector%512 != 0 {
			return
		}
		all, err := readTable(bytes.NewReader(disk), int64(len(disk)), sector)
		if err != nil {
			return
		}
		for _, p := range all {
			if p.Number < 1 || p.Start < 0 || p.Sectors < 1 || p.Start+p.Sectors > int64(len(disk))/sector {
				t.Errorf("%+v is not on a disk of %d bytes", p, len(disk))
			}
		}
	})
}
