// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/disk/disktest"
)

func TestDamagedTables(t *testing.T) {
	res := write(t, spec(t, 512))
	f, err := os.Open(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name string
		at   int64
		size int64
		want string
	}{
		{"no table", 512, res.Size, "no GPT"},
		{"header", 512 + 40, res.Size, "main header: checksum"},
		{"entry", 1024 + 40, res.Size, "main header: checksum of the entries"},
		{"copy", res.Size - 512 + 60, res.Size, "header of the copy: checksum"},
		{"entry of the copy", res.Size - 512 - 16384 + 3, res.Size, "header of the copy: checksum of the entries"},
		{"cut short", 0, res.Size - 1<<20, "cut short"},
	} {
		_, err := disk.ReadTable(disktest.Flipped{ReaderAt: f, At: c.at, Bits: []byte{0xff, 0xee}}, c.size)
		if !errors.Is(err, disk.ErrTable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

func FuzzReadTable(f *testing.F) {
	res := write(f, spec(f, 512))
	image, err := os.Open(res.Path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(int64(512), []byte("EFI PART"))
	f.Add(int64(4096), []byte("EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, at int64, b []byte) {
		table, err := disk.ReadTable(disktest.Flipped{ReaderAt: image, At: at % (64 << 10), Bits: b}, res.Size)
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.Offset < 0 || p.Size <= 0 || p.Offset+p.Size > res.Size {
				t.Errorf("partition %+v outside the image", p)
			}
		}
	})
}
