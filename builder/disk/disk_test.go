// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/seal/referee"
	"github.com/imgbuild/imgbuild/builder/tree"
)

const mib = 1 << 20

// spec returns a small image.
func spec(t testing.TB, sectorSize int) disk.Spec {
	t.Helper()
	tr := tree.New()
	for k := range 50 {
		err := tr.Put(tree.Node{Path: fmt.Sprintf("/usr/lib/file%d", k), Kind: tree.Regular, Mode: 0o644,
			Content: tree.Bytes(bytes.Repeat([]byte{byte(k), 7}, 3000*k))})
		if err != nil {
			t.Fatal(err)
		}
	}
	esp := int64(40 * mib)
	if sectorSize == 4096 {
		esp = 260 * mib
	}
	return disk.Spec{
		Architecture: "amd64",
		Layout:       disk.Layout{ESP: esp, Root: 24 * mib, SectorSize: sectorSize},
		Label:        "controlplane_0.1.0",
		Tree:         tr,
		Timestamp:    1700000000,
		MakeESP: func(_ context.Context, root seal.Root) ([]disk.ESPFile, error) {
			return []disk.ESPFile{
				{Path: "EFI/BOOT/BOOTX64.EFI", Data: [][]byte{[]byte("loader")}},
				{Path: "EFI/Linux/controlplane_0.1.0.efi", Data: [][]byte{[]byte("roothash=" + root.Hash.String())}},
			}, nil
		},
	}
}

func write(t testing.TB, s disk.Spec) disk.Result {
	t.Helper()
	res, err := disk.Write(t.Context(), filepath.Join(t.TempDir(), "image.raw"), s, progress.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestImage(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		t.Run(fmt.Sprint(ss), func(t *testing.T) {
			res := write(t, spec(t, ss))
			f, err := os.Open(res.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			table, err := disk.ReadTable(f, res.Size)
			if err != nil {
				t.Fatal(err)
			}
			if table.SectorSize != ss || table.UUID != res.DiskUUID || len(table.Partitions) != len(res.Partitions) {
				t.Fatalf("read %+v", table)
			}
			for k, p := range res.Partitions {
				p.Used = 0 // the table does not say
				if table.Partitions[k] != p {
					t.Errorf("read %+v\nwant %+v", table.Partitions[k], p)
				}
			}
			root, hash := res.Partitions[1], res.Partitions[2]
			dir := t.TempDir()
			data, tree := filepath.Join(dir, "data"), filepath.Join(dir, "hash")
			extract(t, f, root, data)
			extract(t, f, hash, tree)
			referee.Must(t, "veritysetup", "verify", data, tree, res.Root.Hash.String())
			referee.Must(t, "fsck.erofs", data)
			extract(t, f, res.Partitions[0], filepath.Join(dir, "esp"))
			referee.Must(t, "fsck.fat", "-n", filepath.Join(dir, "esp"))
		})
	}
}

func extract(t *testing.T, f *os.File, p disk.Partition, path string) {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(f, p.Offset, p.Size)); err != nil {
		t.Fatal(err)
	}
}

func TestPartitioningToolsAgree(t *testing.T) {
	res := write(t, spec(t, 512))
	if out := referee.Must(t, "sgdisk", "-v", res.Path); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	for k, p := range res.Partitions {
		out := referee.Must(t, "sgdisk", "-i", fmt.Sprint(k+1), res.Path)
		for _, want := range []string{strings.ToUpper(p.Type), strings.ToUpper(p.UUID.String()), "'" + p.Label + "'", fmt.Sprintf("Attribute flags: %016X", p.Attributes), fmt.Sprintf("First sector: %d ", p.Offset/512)} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in:\n%s", p.Slot, want, out)
			}
		}
	}
}

func TestSfdiskAgrees(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		res := write(t, spec(t, ss))
		if out := referee.Must(t, "sfdisk", "--sector-size", fmt.Sprint(ss), "--verify", res.Path); !strings.Contains(out, "No errors detected") {
			t.Error(out)
		}
		dump := referee.Must(t, "sfdisk", "--sector-size", fmt.Sprint(ss), "--dump", res.Path)
		for _, p := range res.Partitions {
			want := fmt.Sprintf("start=%12d, size=%12d, type=%s, uuid=%s, name=%q", p.Offset/int64(ss), p.Size/int64(ss), strings.ToUpper(p.Type), strings.ToUpper(p.UUID.String()), p.Label)
			if !strings.Contains(dump, want) {
				t.Errorf("%s: no %q in:\n%s", p.Slot, want, dump)
			}
		}
	}
}

func TestSameInputSameBytes(t *testing.T) {
	a, b := write(t, spec(t, 512)), write(t, spec(t, 512))
	first, err := os.ReadFile(a.Path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two writes of one image differ")
	}
}

func TestSlotsFollowTheSpecification(t *testing.T) {
	types := map[string][2]string{
		"amd64": {"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"},
		"arm64": {"b921b045-1df0-41c3-af44-4c6f280d3fae", "df3300ce-d69f-4c92-978c-9bfb0f38d820"},
	}
	for arch, want := range types {
		s := spec(t, 512)
		s.Architecture = arch
		res := write(t, s)
		hash := res.Root.Hash.String()
		squeeze := func(u seal.UUID) string { return strings.ReplaceAll(u.String(), "-", "") }
		p := res.Partitions
		if squeeze(p[1].UUID) != hash[:32] || squeeze(p[2].UUID) != hash[32:] {
			t.Errorf("%s: UUIDs %s and %s do not make up root hash %s", arch, p[1].UUID, p[2].UUID, hash)
		}
		for k, typ := range []string{"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", want[0], want[1], want[0], want[1]} {
			if p[k].Type != typ {
				t.Errorf("%s: %s has type %s, want %s", arch, p[k].Slot, p[k].Type, typ)
			}
		}
		for _, empty := range p[3:] {
			if empty.Label != "_empty" || empty.Attributes>>63 != 1 {
				t.Errorf("%s: %s could be taken for a root: %+v", arch, empty.Slot, empty)
			}
		}
		if p[1].Size != p[3].Size || p[2].Size != p[4].Size {
			t.Errorf("%s: slots of different sizes", arch)
		}
	}
}

func TestTooSmallSaysByHowMuch(t *testing.T) {
	s := spec(t, 512)
	s.Layout.Root = 2 * mib
	plan, err := seal.NewPlan(s.Tree, seal.Options{Timestamp: s.Timestamp, Volume: "root"})
	if err != nil {
		t.Fatal(err)
	}
	sizes := plan.Sizes()
	dir := t.TempDir()
	_, err = disk.Write(t.Context(), filepath.Join(dir, "image.raw"), s, progress.Discard)
	if fault.ClassOf(err) != fault.TooSmall || !strings.Contains(err.Error(), fmt.Sprintf("%d bytes", sizes.DataSize-2*mib)) {
		t.Errorf("root: error %v, want one that says %d bytes", err, sizes.DataSize-2*mib)
	}
	s = spec(t, 512)
	s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) {
		return []disk.ESPFile{{Path: "EFI/Linux/big.efi", Data: [][]byte{make([]byte, 50*mib)}}}, nil
	}
	_, err = disk.Write(t.Context(), filepath.Join(dir, "image.raw"), s, progress.Discard)
	if fault.ClassOf(err) != fault.TooSmall || !strings.Contains(err.Error(), "too few") {
		t.Errorf("ESP: error %v", err)
	}
	empty(t, dir)
}

// empty checks that nothing was left in dir.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	broken := errors.New("no kernel")
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name  string
		ctx   context.Context
		spec  func(*disk.Spec)
		class fault.Class
		want  error
	}{
		{"failing callback", t.Context(), func(s *disk.Spec) {
			s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) { return nil, broken }
		}, fault.Unclassified, broken},
		{"cancelled in the middle", ctx, func(s *disk.Spec) {
			s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) { cancel(); return nil, nil }
		}, fault.Interrupted, context.Canceled},
		{"damaged content", t.Context(), func(s *disk.Spec) {
			n := *s.Tree.Lookup("/usr/lib/file9")
			n.Content.Data = bytes.Clone(n.Content.Data)
			n.Content.Data[0] ^= 1
			_ = s.Tree.Put(n)
		}, fault.Unclassified, tree.ErrCorrupt},
		{"architecture", t.Context(), func(s *disk.Spec) { s.Architecture = "s390x" }, fault.Config, nil},
	} {
		dir := t.TempDir()
		s := spec(t, 512)
		c.spec(&s)
		_, err := disk.Write(c.ctx, filepath.Join(dir, "image.raw"), s, progress.Discard)
		if err == nil || fault.ClassOf(err) != c.class || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: error %v of class %d", c.name, err, fault.ClassOf(err))
		}
		empty(t, dir)
	}
}

func TestFailureKeepsTheOldImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.raw")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := spec(t, 512)
	s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) { return nil, errors.New("no") }
	if _, err := disk.Write(t.Context(), path, s, progress.Discard); err == nil {
		t.Fatal("no error")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
		t.Errorf("the old image is %q: %v", b, err)
	}
}

func TestTheFileIsSparse(t *testing.T) {
	res := write(t, spec(t, 512))
	allocated := allocated(t, res.Path)
	if limit := res.Root.DataSize + res.Root.HashSize + 4*mib; allocated > limit {
		t.Errorf("%d bytes on disk for an image of %d, want at most %d", allocated, res.Size, limit)
	}
}
