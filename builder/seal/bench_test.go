// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	erofs "github.com/erofs/go-erofs"

	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// nodeImage returns a tree shaped like a node image: a few large programs, some dozens of
// libraries and thousands of small files, about 550 MB, all ranges of a few package files.
func nodeImage(b *testing.B) *tree.Tree {
	b.Helper()
	tr := tree.New()
	dir := b.TempDir()
	sizes := []int{139 << 20, 60 << 20, 55 << 20, 45 << 20, 30 << 20, 25 << 20}
	for range 60 {
		sizes = append(sizes, 2<<20+12345)
	}
	for k := range 7000 {
		sizes = append(sizes, 200+k*37%17000)
	}
	var pack *os.File
	var offset int64
	for k, size := range sizes {
		if pack == nil || offset > 64<<20 {
			var err error
			if pack, err = os.Create(filepath.Join(dir, fmt.Sprint(k))); err != nil {
				b.Fatal(err)
			}
			defer pack.Close()
			offset = 0
		}
		data := noise(uint64(k), size)
		if _, err := pack.Write(data); err != nil {
			b.Fatal(err)
		}
		put(b, tr, tree.Node{Path: fmt.Sprintf("/usr/%d/%d", k%300, k), Kind: tree.Regular, Mode: 0o644,
			Content: tree.Content{File: pack.Name(), Offset: offset, Size: int64(size), SHA256: sha256.Sum256(data)}})
		offset += int64(size)
	}
	return tr
}

// BenchmarkWriteRoot measures planning, EROFS and the verity tree, without a sync.
func BenchmarkWriteRoot(b *testing.B) { benchmarkWriteRoot(b, func(*os.File) error { return nil }) }

// BenchmarkWriteRootSync is BenchmarkWriteRoot with the image made durable.
func BenchmarkWriteRootSync(b *testing.B) { benchmarkWriteRoot(b, (*os.File).Sync) }

func benchmarkWriteRoot(b *testing.B, finish func(*os.File) error) {
	tr := nodeImage(b)
	b.SetBytes(tr.Size())
	for b.Loop() {
		out, err := os.CreateTemp(b.TempDir(), "image")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := writeRoot(b.Context(), out, io.NewOffsetWriter(out, 1<<30), tr, seal.Options{}); err != nil {
			b.Fatal(err)
		}
		if err := finish(out); err != nil {
			b.Fatal(err)
		}
		out.Close()
		b.StopTimer()
		os.Remove(out.Name())
		b.StartTimer()
	}
}

// BenchmarkCopySync is the yardstick: cp and sync of a finished root.
func BenchmarkCopySync(b *testing.B) {
	tr := nodeImage(b)
	dir := b.TempDir()
	image := filepath.Join(dir, "image")
	out, err := os.Create(image)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := writeRoot(b.Context(), out, io.NewOffsetWriter(out, 600<<20), tr, seal.Options{}); err != nil {
		b.Fatal(err)
	}
	if err := out.Sync(); err != nil {
		b.Fatal(err)
	}
	out.Close()
	b.SetBytes(tr.Size())
	for b.Loop() {
		dst := filepath.Join(dir, "copy")
		if err := exec.Command("cp", image, dst).Run(); err != nil {
			b.Fatal(err)
		}
		if err := exec.Command("sync", dst).Run(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		os.Remove(dst)
		b.StartTimer()
	}
}

// BenchmarkLibrary is go-erofs writing the same files, digests verified, without a
// verity tree: what our own writer is measured against.
func BenchmarkLibrary(b *testing.B) {
	tr := nodeImage(b)
	b.SetBytes(tr.Size())
	for b.Loop() {
		out, err := os.CreateTemp(b.TempDir(), "image")
		if err != nil {
			b.Fatal(err)
		}
		w := erofs.Create(out, erofs.WithBuildTime(0, 0), erofs.WithTempDir(b.TempDir()))
		for _, n := range tr.Nodes() {
			if n.Kind != tree.Regular {
				continue
			}
			f, err := w.Create(n.Path)
			if err != nil {
				b.Fatal(err)
			}
			r, err := n.Content.Open()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(f, r); err != nil {
				b.Fatal(err)
			}
			r.Close()
			f.Close()
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		out.Close()
		b.StopTimer()
		os.Remove(out.Name())
		b.StartTimer()
	}
}
