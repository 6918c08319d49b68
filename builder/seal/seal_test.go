// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// memory is an io.WriterAt and io.ReaderAt that grows. Goroutines may write to different
// places of it once it has its size, as they may to a file.
type memory struct{ b []byte }

func newMemory(size int64) *memory { return &memory{make([]byte, size)} }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(m.b)) {
		return 0, errors.New("write beyond the planned size")
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, off)
}

// sealed writes a tree to memory.
func sealed(t testing.TB, tr *tree.Tree, opts seal.Options) (data, hash *memory, root seal.Root) {
	t.Helper()
	sizes, err := measure(tr, opts)
	if err != nil {
		t.Fatal(err)
	}
	data, hash = newMemory(sizes.DataSize), newMemory(sizes.HashSize)
	root, err = writeRoot(t.Context(), data, hash, tr, opts)
	if err != nil {
		t.Fatal(err)
	}
	if root.Sizes != sizes {
		t.Fatalf("measured %+v, wrote %+v", sizes, root.Sizes)
	}
	return data, hash, root
}

// onDisk writes both parts to files for programs that want paths.
func onDisk(t testing.TB, data, hash *memory) (dataPath, hashPath string) {
	t.Helper()
	dir := t.TempDir()
	dataPath, hashPath = filepath.Join(dir, "data"), filepath.Join(dir, "hash")
	for path, m := range map[string]*memory{dataPath: data, hashPath: hash} {
		if err := os.WriteFile(path, m.b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dataPath, hashPath
}

var options = seal.Options{Timestamp: 1700000000, Volume: "root"}

func TestSameInputSameBytes(t *testing.T) {
	tr := sample(t)
	data, hash, root := sealed(t, tr, options)
	for _, workers := range []int{1, 3, 16} {
		opts := options
		opts.Workers = workers
		again, againHash, againRoot := sealed(t, tr, opts)
		if !bytes.Equal(data.b, again.b) || !bytes.Equal(hash.b, againHash.b) || root != againRoot {
			t.Errorf("%d workers: other bytes", workers)
		}
	}
	// A tree put together in another order.
	reversed := tree.New()
	nodes := tr.Nodes()
	for k := len(nodes) - 1; k >= 0; k-- {
		put(t, reversed, *nodes[k])
	}
	if again, _, _ := sealed(t, reversed, options); !bytes.Equal(data.b, again.b) {
		t.Error("the order of insertion shows in the image")
	}
}

func TestEveryInputCounts(t *testing.T) {
	base := func() *tree.Tree {
		tr := tree.New()
		put(t, tr, tree.Node{Path: "/f", Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte("x")), Xattrs: map[string][]byte{"user.a": {1}}})
		put(t, tr, tree.Node{Path: "/l", Kind: tree.Symlink, Target: "f"})
		put(t, tr, tree.Node{Path: "/d", Kind: tree.CharDevice, Mode: 0o600, Major: 1, Minor: 2})
		return tr
	}
	hashes := map[seal.Digest]string{}
	try := func(name string, opts seal.Options, change func(f, l, d *tree.Node)) {
		tr := base()
		f, l, d := *tr.Lookup("/f"), *tr.Lookup("/l"), *tr.Lookup("/d")
		change(&f, &l, &d)
		for _, n := range []tree.Node{f, l, d} {
			put(t, tr, n)
		}
		_, _, root := sealed(t, tr, opts)
		if other, taken := hashes[root.Hash]; taken {
			t.Errorf("%s has the root hash of %s", name, other)
		}
		hashes[root.Hash] = name
	}
	nothing := func(f, l, d *tree.Node) {}
	try("base", options, nothing)
	try("timestamp", seal.Options{Timestamp: 1, Volume: "root"}, nothing)
	try("volume", seal.Options{Timestamp: 1700000000, Volume: "other"}, nothing)
	try("mode", options, func(f, l, d *tree.Node) { f.Mode = 0o600 })
	try("setuid", options, func(f, l, d *tree.Node) { f.Mode = 0o4644 })
	try("uid", options, func(f, l, d *tree.Node) { f.UID = 1 })
	try("gid", options, func(f, l, d *tree.Node) { f.GID = 1 })
	try("content", options, func(f, l, d *tree.Node) { f.Content = tree.Bytes([]byte("y")) })
	try("xattr value", options, func(f, l, d *tree.Node) { f.Xattrs = map[string][]byte{"user.a": {2}} })
	try("xattr name", options, func(f, l, d *tree.Node) { f.Xattrs = map[string][]byte{"user.b": {1}} })
	try("target", options, func(f, l, d *tree.Node) { l.Target = "g" })
	try("major", options, func(f, l, d *tree.Node) { d.Major = 2 })
	try("minor", options, func(f, l, d *tree.Node) { d.Minor = 3 })
	try("kind", options, func(f, l, d *tree.Node) { d.Kind = tree.BlockDevice })
}

func TestDamagedContentIsRefused(t *testing.T) {
	good := noise(9, 10<<20)
	flipped := bytes.Clone(good)
	flipped[9<<20] ^= 4
	for _, c := range []struct {
		name   string
		stored []byte // nil: no file at all
		size   int
	}{
		{"flipped bit, large file", flipped, len(good)},
		{"flipped bit, small file", flipped[9<<20:], 5000},
		{"cut short", good[:4097], 5000},
		{"emptied", []byte{}, 5000},
		{"missing", nil, 5000},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := good
			if c.size == 5000 && c.stored != nil && len(c.stored) > 5000 {
				source = good[9<<20:]
			}
			content := tree.Bytes(source[:c.size])
			content.Data, content.File = nil, filepath.Join(t.TempDir(), "blob")
			if c.stored != nil {
				if err := os.WriteFile(content.File, c.stored, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tr := tree.New()
			put(t, tr, tree.Node{Path: "/usr/bin/tool", Kind: tree.Regular, Mode: 0o755, Content: content})
			sizes, err := measure(tr, options)
			if err != nil {
				t.Fatal(err)
			}
			_, err = writeRoot(t.Context(), newMemory(sizes.DataSize), newMemory(sizes.HashSize), tr, options)
			var corrupt *seal.CorruptError
			if !errors.As(err, &corrupt) || !errors.Is(err, tree.ErrCorrupt) {
				t.Fatalf("error %v, want a CorruptError", err)
			}
			if corrupt.File != content.File || corrupt.Path != "/usr/bin/tool" {
				t.Errorf("the error names %s from %s", corrupt.Path, corrupt.File)
			}
		})
	}
}

func TestCancelledWrite(t *testing.T) {
	tr := sample(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sizes, err := measure(tr, options)
	if err != nil {
		t.Fatal(err)
	}
	_, err = writeRoot(ctx, newMemory(sizes.DataSize), newMemory(sizes.HashSize), tr, options)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want that of the context", err)
	}
}

// full fails like a full disk after so many bytes.
type full struct{ left int64 }

var errFull = errors.New("disk full")

func (f *full) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.left {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrorsAreReported(t *testing.T) {
	tr := sample(t)
	sizes, err := measure(tr, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{0, seal.BlockSize, sizes.DataSize / 2, sizes.DataSize - 1} {
		if _, err := writeRoot(t.Context(), &full{limit}, newMemory(sizes.HashSize), tr, options); !errors.Is(err, errFull) {
			t.Errorf("data full after %d bytes: error %v", limit, err)
		}
	}
	for _, limit := range []int64{0, seal.BlockSize, sizes.HashSize - 1} {
		if _, err := writeRoot(t.Context(), newMemory(sizes.DataSize), &full{limit}, tr, options); !errors.Is(err, errFull) {
			t.Errorf("hash tree full after %d bytes: error %v", limit, err)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	tr := tree.New()
	put(t, tr, file("/"+strings.Repeat("n", 256), nil))
	put(t, tr, tree.Node{Path: "/empty", Kind: tree.Symlink})
	put(t, tr, tree.Node{Path: "/long", Kind: tree.Symlink, Target: strings.Repeat("t", 4096)})
	put(t, tr, tree.Node{Path: "/dev", Kind: tree.CharDevice, Major: 4096})
	put(t, tr, tree.Node{Path: "/pipe", Kind: tree.Fifo, Content: tree.Bytes([]byte("x"))})
	put(t, tr, tree.Node{Path: "/name", Kind: tree.Regular, Xattrs: map[string][]byte{"security": nil}})
	put(t, tr, tree.Node{Path: "/big", Kind: tree.Regular, Xattrs: map[string][]byte{"user.x": make([]byte, 5000)}})
	_, err := measure(tr, seal.Options{Volume: "seventeen letters"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"at most 255", "/empty", "/long", "/dev: device number 4096:0", "/pipe", `"security"`, "/big", "seventeen letters"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in:\n%v", want, err)
		}
	}
}

func TestEqualContentIsStoredOnce(t *testing.T) {
	tr := tree.New()
	one := noise(1, 64<<10)
	put(t, tr, file("/a", one))
	_, _, single := sealed(t, tr, options)
	put(t, tr, file("/b", one))
	_, _, double := sealed(t, tr, options)
	if double.DataSize != single.DataSize || double.Shared != 64<<10 {
		t.Errorf("%d bytes for one, %d for two, %d shared", single.DataSize, double.DataSize, double.Shared)
	}
}
