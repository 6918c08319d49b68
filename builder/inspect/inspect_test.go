// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/disk/disktest"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/inspect"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/imgbuild/imgbuild/builder/uki"
	"github.com/imgbuild/imgbuild/builder/uki/ukitest"
)

const (
	mib     = 1 << 20
	release = "ID=imgbuild\nIMAGE_ID=controlplane\nIMAGE_VERSION=\"0.1.0\"\n# comment\nPRETTY_NAME='a \"b\"'\n"
)

// spec describes a small image; change alters it.
func spec(t testing.TB, sectorSize int, change func(*disk.Spec, *uki.Spec)) disk.Spec {
	t.Helper()
	tr := tree.New()
	for path, text := range map[string]string{
		"/usr/lib/os-release":  release,
		manifest.Path:          `{"pins": ["a", "b"]}`,
		"/usr/bin/placeholder": strings.Repeat("program ", 100000),
	} {
		if err := tr.Put(tree.Node{Path: path, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte(text))}); err != nil {
			t.Fatal(err)
		}
	}
	esp := int64(34 * mib)
	if sectorSize == 4096 {
		esp = 260 * mib
	}
	s := disk.Spec{
		Architecture: "amd64", Label: "controlplane_0.1.0", Tree: tr, Timestamp: 1700000000,
		Layout: disk.Layout{ESP: esp, Root: 4 * mib, SectorSize: sectorSize},
	}
	k := uki.Spec{
		Stub: ukitest.Stub("amd64"), Linux: ukitest.Stub("amd64"), Initrd: make([]byte, 100000),
		OSRelease: []byte(release), Uname: "6.12.48+deb13-amd64",
	}
	s.MakeESP = func(_ context.Context, root seal.Root) ([]disk.ESPFile, error) {
		if k.CommandLine == "" {
			k.CommandLine = "console=ttyS0 roothash=" + root.Hash.String() + " quiet"
		}
		image, err := uki.Assemble(k)
		return []disk.ESPFile{
			{Path: "EFI/BOOT/BOOTX64.EFI", Data: [][]byte{[]byte("loader")}},
			{Path: "EFI/Linux/controlplane_0.1.0.efi", Data: image},
		}, err
	}
	if change != nil {
		change(&s, &k)
	}
	return s
}

func write(t testing.TB, s disk.Spec) disk.Result {
	t.Helper()
	res, err := disk.Write(t.Context(), filepath.Join(t.TempDir(), "image.raw"), s, progress.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestInspectAgreesWithTheWriter(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		res := write(t, spec(t, ss, nil))
		im, err := inspect.File(t.Context(), res.Path, inspect.Options{Verify: true})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(im.Files, res.Files) {
			t.Errorf("files %+v\nwant %+v", im.Files, res.Files)
		}
		for k, want := range res.Partitions {
			got := im.Partitions[k]
			if want.Slot == disk.ESP { // the writer counts directories, the reader files
				got.Used, want.Used = 0, 0
			}
			if got != want {
				t.Errorf("partition %+v\nwant %+v", got, want)
			}
		}
		r, w := im.Root, res.Root
		if r.Hash != w.Hash || r.Sizes != w.Sizes || r.Salt != w.Salt || r.UUID != w.UUID || r.VerityUUID != w.VerityUUID || int(r.Files) != w.Files || r.Timestamp != 1700000000 || !r.Verified {
			t.Errorf("root %+v\nwant %+v", r, w)
		}
		if im.Size != res.Size || im.SectorSize != ss || im.Architecture != "amd64" || im.DiskUUID != res.DiskUUID || im.Allocated == 0 {
			t.Errorf("image %+v", im)
		}
		if len(im.Kernels) != 1 || im.Kernels[0].Release != "6.12.48+deb13-amd64" || im.Kernels[0].RootHash != w.Hash || im.Kernels[0].OSRelease["IMAGE_ID"] != "controlplane" {
			t.Errorf("kernels %+v", im.Kernels)
		}
		if im.OSRelease["IMAGE_VERSION"] != "0.1.0" || im.OSRelease["PRETTY_NAME"] != `a "b"` {
			t.Errorf("os-release %v", im.OSRelease)
		}
		if string(im.Manifest) != `{"pins": ["a", "b"]}` {
			t.Errorf("manifest %s", im.Manifest)
		}
		if _, err := json.Marshal(im); err != nil {
			t.Error(err)
		}
	}
}

func TestContradictionsAreNamed(t *testing.T) {
	other := strings.Repeat("ab", 32)
	for _, c := range []struct {
		name   string
		change func(*disk.Spec, *uki.Spec)
		want   string
	}{
		{"other root hash", func(_ *disk.Spec, k *uki.Spec) { k.CommandLine = "roothash=" + other }, "no kernel's root hash belongs"},
		{"no root hash", func(_ *disk.Spec, k *uki.Spec) { k.CommandLine = "quiet" }, "has no roothash="},
		{"half a root hash", func(_ *disk.Spec, k *uki.Spec) { k.CommandLine = "roothash=abcd" }, "roothash= on the kernel command line"},
		{"other machine", func(_ *disk.Spec, k *uki.Spec) { k.Stub, k.Linux = ukitest.Stub("arm64"), ukitest.Stub("arm64") }, "is for arm64, the root for amd64"},
		{"no kernel", func(s *disk.Spec, _ *uki.Spec) {
			s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) { return nil, nil }
		}, "no unified kernel image"},
		{"kernel is no program", func(s *disk.Spec, _ *uki.Spec) {
			s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) {
				return []disk.ESPFile{{Path: "EFI/Linux/x.efi", Data: [][]byte{[]byte("text")}}}, nil
			}
		}, "EFI/Linux/x.efi: not a valid EFI program"},
		{"no os-release", func(s *disk.Spec, _ *uki.Spec) { s.Tree.Remove("/usr/lib/os-release") }, "has no os-release"},
		{"manifest is not JSON", func(s *disk.Spec, _ *uki.Spec) {
			_ = s.Tree.Put(tree.Node{Path: manifest.Path, Kind: tree.Regular, Content: tree.Bytes([]byte("{"))})
		}, "is not JSON"},
	} {
		res := write(t, spec(t, 512, c.change))
		_, err := inspect.File(t.Context(), res.Path, inspect.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
		if fault.ClassOf(err) != fault.Corrupt {
			t.Errorf("%s: class %d", c.name, fault.ClassOf(err))
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	res := write(t, spec(t, 512, nil))
	f, err := os.Open(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	esp, root, hash := res.Partitions[0].Offset, res.Partitions[1].Offset, res.Partitions[2].Offset
	for _, c := range []struct {
		name string
		at   int64
		want string
	}{
		{"partition table", 1024 + 5, "damaged partition table"},
		{"boot sector", esp + 510, "EFI system partition: damaged FAT32"},
		{"one allocation table", esp + 20000, "allocation tables differ"},
		{"file system superblock", root + 1024 + 40, "root: damaged root: checksum"},
		{"magic", root + 1024, "no EROFS"},
		{"verity superblock", hash + 64, "verity superblock is not one of ours"},
		{"salt", hash + 90, "does not have root hash " + res.Root.Hash.String()},
		{"hash tree", hash + 4096 + 7, "does not have root hash"},
		{"leaf hashes", hash + res.Root.HashSize - 4096 + 3, "block"},
		{"content", root + res.Root.DataSize - 5000, fmt.Sprintf("block %d of the file system (offset %d)", res.Root.DataSize/4096-2, res.Root.DataSize-8192)},
		{"first inode", root + 1156, "damaged root"},
	} {
		_, err := inspect.Read(t.Context(), disktest.Flipped{ReaderAt: f, At: c.at, Bits: []byte{1}}, res.Size, inspect.Options{Verify: true})
		if fault.ClassOf(err) != fault.Corrupt || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	for _, size := range []int64{0, 100, 4096, 10 * mib, res.Size - 512} {
		if _, err := inspect.Read(t.Context(), f, size, inspect.Options{}); fault.ClassOf(err) != fault.Corrupt {
			t.Errorf("cut to %d bytes: error %v", size, err)
		}
	}
}

func TestNotAnImage(t *testing.T) {
	if _, err := inspect.File(t.Context(), t.TempDir(), inspect.Options{}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("directory: %v", err)
	}
	if _, err := inspect.File(t.Context(), "/nonexistent", inspect.Options{}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("missing: %v", err)
	}
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(strings.Repeat("hello ", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := inspect.File(t.Context(), path, inspect.Options{}); fault.ClassOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "raw disk image") {
		t.Errorf("text: %v", err)
	}
}

// Whatever bytes change, inspecting ends with an error of the right class or a result.
func FuzzRead(f *testing.F) {
	res := write(f, spec(f, 512, nil))
	image, err := os.Open(res.Path)
	if err != nil {
		f.Fatal(err)
	}
	esp, root, hash := res.Partitions[0].Offset, res.Partitions[1].Offset, res.Partitions[2].Offset
	starts := []int64{0, esp, esp + 36*512, esp + 1064960, root, root + 1024, root + 1152, hash, hash + 4096, res.Size - 17*1024}
	for k := range starts {
		f.Add(uint8(k), uint32(64), []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, where uint8, at uint32, b []byte) {
		start := starts[int(where)%len(starts)]
		im, err := inspect.Read(t.Context(), disktest.Flipped{ReaderAt: image, At: start + int64(at%20000), Bits: b}, res.Size, inspect.Options{})
		if err != nil && fault.ClassOf(err) == fault.Unclassified {
			t.Errorf("unclassified: %v", err)
		}
		if err == nil && im.Root.Hash != res.Root.Hash {
			t.Errorf("another root hash passed: %s", im.Root.Hash)
		}
	})
}
