// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// nodeImage returns the specification of an image of the usual size: about 550 MB of root
// in a few large programs and thousands of small files, and a kernel image of 60 MB.
func nodeImage(b *testing.B) disk.Spec {
	b.Helper()
	s := spec(b, 512)
	s.Layout = disk.Layout{ESP: 512 * mib, Root: 768 * mib, SectorSize: 512}
	kernel := make([]byte, 60*mib)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(kernel)
	s.MakeESP = func(context.Context, seal.Root) ([]disk.ESPFile, error) {
		return []disk.ESPFile{{Path: "EFI/Linux/node.efi", Data: [][]byte{kernel}}}, nil
	}
	sizes := []int{139 * mib, 60 * mib, 55 * mib, 45 * mib, 30 * mib, 25 * mib}
	for k := range 7060 {
		sizes = append(sizes, map[bool]int{true: 2*mib + 12345, false: 200 + k*37%17000}[k < 60])
	}
	pack := filepath.Join(b.TempDir(), "pack")
	f, err := os.Create(pack)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var offset int64
	for k, size := range sizes {
		data := make([]byte, size)
		_, _ = random.Read(data)
		if _, err := f.Write(data); err != nil {
			b.Fatal(err)
		}
		n := tree.Node{Path: fmt.Sprintf("/usr/%d/%d", k%300, k), Kind: tree.Regular, Mode: 0o644,
			Content: tree.Content{File: pack, Offset: offset, Size: int64(size), SHA256: sha256.Sum256(data)}}
		if err := s.Tree.Put(n); err != nil {
			b.Fatal(err)
		}
		offset += int64(size)
	}
	return s
}

// BenchmarkWrite measures a whole image, made durable.
func BenchmarkWrite(b *testing.B) {
	s := nodeImage(b)
	path := filepath.Join(b.TempDir(), "image.raw")
	for b.Loop() {
		if _, err := disk.Write(b.Context(), path, s, progress.Discard); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		os.Remove(path)
		b.StartTimer()
	}
}

// BenchmarkCopySync is the yardstick: cp and sync of that image.
func BenchmarkCopySync(b *testing.B) {
	dir := b.TempDir()
	image, dst := filepath.Join(dir, "image.raw"), filepath.Join(dir, "copy")
	if _, err := disk.Write(b.Context(), image, nodeImage(b), progress.Discard); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, argv := range [][]string{{"cp", image, dst}, {"sync", dst}} {
			if err := exec.Command(argv[0], argv[1:]...).Run(); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		os.Remove(dst)
		b.StartTimer()
	}
}
