// SPDX-License-Identifier: Apache-2.0

package fat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/disk/disktest"
	"github.com/imgbuild/imgbuild/builder/disk/fat"
	"github.com/imgbuild/imgbuild/builder/seal/referee"
)

const mib = 1 << 20

var stamp = fat.Options{Label: "ESP", ID: 0xcafe1234, Time: time.Date(2025, 8, 9, 13, 14, 16, 0, time.UTC), Hidden: 2048}

func files() []fat.File {
	out := []fat.File{
		{Path: "EFI/BOOT/BOOTX64.EFI", Data: [][]byte{[]byte("loader")}},
		{Path: "EFI/systemd/systemd-bootx64.efi", Data: [][]byte{bytes.Repeat([]byte("x"), 4096)}},
		{Path: "EFI/Linux/imgbuild-controlplane_0.1.0+3-0.efi", Data: [][]byte{bytes.Repeat([]byte("kernel"), 1<<20)}},
		{Path: "EFI/Linux/imgbuild-controlplane_0.2.0.efi", Data: [][]byte{bytes.Repeat([]byte("z"), 8193)}},
		{Path: "loader/loader.conf", Data: [][]byte{[]byte("timeout 0\n")}},
		{Path: "loader/empty", Data: nil},
		{Path: "loader/nothing", Data: [][]byte{{}}},
		{Path: "loader/pieces", Data: [][]byte{[]byte("one"), nil, bytes.Repeat([]byte("two"), 5000), []byte("three")}},
		{Path: "odd/.hidden", Data: [][]byte{[]byte("h")}},
		{Path: "odd/no extension and spaces", Data: [][]byte{[]byte("n")}},
		{Path: "odd/a.b.c.d", Data: [][]byte{[]byte("d")}},
		{Path: "odd/größe 😀.txt", Data: [][]byte{[]byte("u")}},
		{Path: "odd/" + strings.Repeat("l", 255), Data: [][]byte{[]byte("l")}},
		{Path: "odd/thirteen.char", Data: [][]byte{[]byte("13")}},
		{Path: "odd/LOWER.txt", Data: [][]byte{[]byte("c")}},
	}
	for k := range 300 { // a directory of several clusters, many of its names alike
		out = append(out, fat.File{Path: fmt.Sprintf("many/a long name that is alike %d.conf", k), Data: [][]byte{{byte(k)}}})
	}
	return out
}

// create writes a volume to a sparse file.
func create(t testing.TB, size int64, sectorSize int, list []fat.File) (string, fat.Geometry) {
	t.Helper()
	g, err := fat.Plan(size, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "esp")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := fat.Write(f, g, list, stamp); err != nil {
		t.Fatal(err)
	}
	return path, g
}

var volumes = []struct {
	size       int64
	sectorSize int
}{
	{fat.MinSize(512), 512}, {34 * mib, 512}, {64 * mib, 512}, {100*mib + 512, 512}, {260 * mib, 512}, {512 * mib, 512}, {2048 * mib, 512},
	{fat.MinSize(4096), 4096}, {260 * mib, 4096}, {512 * mib, 4096}, {1024*mib + 4096, 4096},
}

func TestFsckAgrees(t *testing.T) {
	for _, v := range volumes {
		t.Run(fmt.Sprintf("%d of %d", v.size, v.sectorSize), func(t *testing.T) {
			path, g := create(t, v.size, v.sectorSize, files())
			out := referee.Must(t, "fsck.fat", "-nv", path)
			for _, want := range []string{fmt.Sprintf("%d bytes per logical sector", v.sectorSize), fmt.Sprintf("%d data clusters", g.Clusters), "2 FATs, 32 bit entries"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			// It ends well even when it would correct something, so look for that.
			for _, bad := range []string{"Leaving", "ixing", "wrong", "orphan", "ninitialized", "ifferences", "nvalid", "Contains"} {
				if strings.Contains(out, bad) {
					t.Errorf("complaint:\n%s", out)
				}
			}
		})
	}
}

func TestReadBack(t *testing.T) {
	for _, v := range volumes {
		path, g := create(t, v.size, v.sectorSize, files())
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		vol, err := fat.Open(f, v.size)
		if err != nil {
			t.Fatal(err)
		}
		if vol.Geometry.ClusterSize() != g.ClusterSize() || vol.Label != "ESP" || vol.ID != stamp.ID {
			t.Errorf("geometry %+v, label %q, id %x", vol.Geometry, vol.Label, vol.ID)
		}
		entries, err := vol.Entries()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]fat.Entry{}
		for _, e := range entries {
			if !e.Dir {
				got[e.Path] = e
			}
			if !e.Time.Equal(stamp.Time) {
				t.Errorf("%s: time %v", e.Path, e.Time)
			}
		}
		if len(got) != len(files()) {
			t.Errorf("%d files, want %d", len(got), len(files()))
		}
		for _, want := range files() {
			r, err := vol.Open(got[want.Path])
			if err != nil {
				t.Fatalf("%s: %v", want.Path, err)
			}
			if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, bytes.Join(want.Data, nil)) {
				t.Errorf("%s: %d bytes, want %d: %v", want.Path, len(b), want.Size(), err)
			}
		}
	}
}

func TestMtoolsReadsOurFiles(t *testing.T) {
	path, _ := create(t, 64*mib, 512, files())
	for _, f := range files() {
		if strings.Contains(f.Path, "größe") {
			continue // mtools has another idea of the terminal's character set
		}
		out := filepath.Join(t.TempDir(), "out")
		referee.Must(t, "mcopy", "-i", path, "::"+f.Path, out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, bytes.Join(f.Data, nil)) {
			t.Errorf("%s: %d bytes, want %d: %v", f.Path, len(got), f.Size(), err)
		}
	}
}

func TestSameInputSameBytes(t *testing.T) {
	list := files()
	first, _ := create(t, 64*mib, 512, list)
	for k := range list { // the order of the list does not matter
		j := (k * 7) % len(list)
		list[k], list[j] = list[j], list[k]
	}
	second, _ := create(t, 64*mib, 512, list)
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("other bytes")
	}
}

func TestVolumeFilledToTheLastCluster(t *testing.T) {
	g, err := fat.Plan(34*mib, 512)
	if err != nil {
		t.Fatal(err)
	}
	room := (g.Clusters - 1) * g.ClusterSize() // the root directory takes one
	path, _ := create(t, 34*mib, 512, []fat.File{{Path: "ALL", Data: [][]byte{make([]byte, room)}}})
	if out := referee.Must(t, "fsck.fat", "-nv", path); strings.Contains(out, "ummary") && strings.Contains(out, "wrong") {
		t.Error(out)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = fat.Write(f, g, []fat.File{{Path: "ALL", Data: [][]byte{make([]byte, room+1)}}}, stamp)
	if !errors.Is(err, fat.ErrTooSmall) || !strings.Contains(err.Error(), fmt.Sprintf("%d too few", g.ClusterSize())) {
		t.Errorf("one byte more: error %v", err)
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct {
		size       int64
		sectorSize int
		want       string
	}{
		{fat.MinSize(512) - 512, 512, "512 too few"},
		{fat.MinSize(4096) - 4096, 4096, "4096 too few"},
		{200 * mib, 4096, "FAT32 with 4096-byte sectors needs"},
		{64*mib + 1, 512, "not a multiple"},
		{64 * mib, 1024, "only 512 and 4096"},
	} {
		if _, err := fat.Plan(c.size, c.sectorSize); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d bytes with sectors of %d: error %v, want one with %q", c.size, c.sectorSize, err, c.want)
		}
	}
}

// Every size has a geometry that covers it and that its tables can number.
func FuzzPlan(f *testing.F) {
	for _, v := range volumes {
		f.Add(v.size, v.sectorSize == 4096)
	}
	f.Fuzz(func(t *testing.T, size int64, large bool) {
		ss := 512
		if large {
			ss = 4096
		}
		size = size % (1 << 42) / int64(ss) * int64(ss)
		g, err := fat.Plan(size, ss)
		if err != nil {
			return
		}
		used := int64(g.Reserved) + 2*int64(g.FATSectors) + g.Clusters*int64(g.SectorsPerCluster)
		switch {
		case used > g.Sectors:
			t.Errorf("%d: %+v is larger than the volume", size, g)
		case g.Clusters < 65525 || g.Clusters > 0x0ffffff5:
			t.Errorf("%d: %+v is not FAT32", size, g)
		case (g.Clusters+2)*4 > int64(g.FATSectors)*int64(ss):
			t.Errorf("%d: %+v cannot number its clusters", size, g)
		case g.Sectors-used > int64(g.SectorsPerCluster)*4:
			t.Errorf("%d: %+v wastes %d sectors", size, g, g.Sectors-used)
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	g, err := fat.Plan(34*mib, 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		files []fat.File
		label string
		want  string
	}{
		{[]fat.File{{Path: "EFI/Linux"}, {Path: "EFI/Linux/x"}}, "", "collides"},
		{[]fat.File{{Path: "EFI/a"}, {Path: "efi/b"}}, "", "differ in case"},
		{[]fat.File{{Path: "a"}, {Path: "a"}}, "", "collides"},
		{[]fat.File{{Path: "/a"}}, "", "not a file name"},
		{[]fat.File{{Path: "a/../b"}}, "", "not a file name"},
		{[]fat.File{{Path: "a:b"}}, "", "does not allow"},
		{[]fat.File{{Path: "a\x01"}}, "", "does not allow"},
		{[]fat.File{{Path: "a."}}, "", "ends in a dot"},
		{[]fat.File{{Path: strings.Repeat("x", 256)}}, "", "at most 255"},
		{nil, "lower", "not allowed"},
		{nil, "TWELVE CHARS", "more than 11"},
	} {
		opts := stamp
		opts.Label = c.label
		if err := fat.Write(nil, g, c.files, opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %q: error %v, want one with %q", c.files, c.label, err, c.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	path, g := create(f, 34*mib, 512, files()[:13])
	image, err := os.Open(path)
	if err != nil {
		f.Fatal(err)
	}
	data := int64(g.Reserved+2*g.FATSectors) * 512
	f.Add(int64(11), []byte{0, 2, 1, 0, 0, 9})
	f.Add(int64(g.Reserved)*512+8, []byte{2, 0, 0, 0})
	f.Add(data+11, []byte{0x10, 1, 2})
	f.Fuzz(func(t *testing.T, at int64, b []byte) {
		v, err := fat.Open(disktest.Flipped{ReaderAt: image, At: at % (data + 64<<10), Bits: b}, 34*mib)
		if err != nil {
			return
		}
		entries, err := v.Entries()
		if err != nil {
			return
		}
		for _, e := range entries {
			if r, err := v.Open(e); err == nil {
				if n, err := io.Copy(io.Discard, r); err != nil || n != e.Size {
					t.Errorf("%q: %d of %d bytes: %v", e.Path, n, e.Size, err)
				}
			}
		}
	})
}
