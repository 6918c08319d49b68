// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	erofs "github.com/erofs/go-erofs"

	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// compare reads an image with another implementation and compares every file with the
// tree: names, types, modes, owners, times, links, devices, attributes and content.
func compare(t *testing.T, tr *tree.Tree, image io.ReaderAt, opts seal.Options) {
	t.Helper()
	fsys, err := erofs.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = fs.WalkDir(fsys, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		n := tr.Lookup(name)
		if n == nil {
			t.Errorf("%s: not in the tree", name)
			return nil
		}
		compareNode(t, tr, fsys, name, n, opts)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != tr.Len() {
		t.Errorf("the image has %d files, the tree %d", seen, tr.Len())
	}
}

func compareNode(t *testing.T, tr *tree.Tree, fsys fs.FS, name string, n *tree.Node, opts seal.Options) {
	t.Helper()
	info, err := fs.Lstat(fsys, name)
	if err != nil {
		t.Errorf("%s: %v", n.Path, err)
		return
	}
	st := info.Sys().(*erofs.Stat)
	want := n.FileMode()
	if n.Kind == tree.Symlink {
		want = fs.ModeSymlink | 0o777
	}
	if st.Mode != want || st.UID != n.UID || st.GID != n.GID {
		t.Errorf("%s: %v %d:%d, want %v %d:%d", n.Path, st.Mode, st.UID, st.GID, want, n.UID, n.GID)
	}
	if info.ModTime().Unix() != opts.Timestamp {
		t.Errorf("%s: modified %v", n.Path, info.ModTime())
	}
	got := map[string]string{}
	maps.Copy(got, st.Xattrs)
	for k, v := range n.Xattrs {
		if g, ok := got[k]; !ok || g != string(v) {
			t.Errorf("%s: attribute %s is %q, want %q", n.Path, k, g, v)
		}
	}
	if len(got) != len(n.Xattrs) {
		t.Errorf("%s: attributes %v, want %v", n.Path, got, n.Xattrs)
	}
	switch n.Kind {
	case tree.Regular:
		content, err := fs.ReadFile(fsys, name)
		wanted, _ := n.Content.ReadAll()
		if err != nil || !bytes.Equal(content, wanted) {
			t.Errorf("%s: other content (%d bytes, want %d): %v", n.Path, len(content), len(wanted), err)
		}
	case tree.Symlink:
		if target, err := fs.ReadLink(fsys, name); err != nil || target != n.Target {
			t.Errorf("%s: leads to %q, want %q: %v", n.Path, target, n.Target, err)
		}
	case tree.Directory:
		if links := 2 + subdirectories(tr, n.Path); int(st.Nlink) != links {
			t.Errorf("%s: %d links, want %d", n.Path, st.Nlink, links)
		}
	case tree.CharDevice, tree.BlockDevice:
		major := st.Rdev >> 8 & 0xfff
		minor := st.Rdev&0xff | st.Rdev>>12&0xfff00
		if major != n.Major || minor != n.Minor {
			t.Errorf("%s: device %d:%d, want %d:%d", n.Path, major, minor, n.Major, n.Minor)
		}
	}
}

func subdirectories(tr *tree.Tree, dir string) (count int) {
	for _, n := range tr.Nodes() {
		if n.Kind == tree.Directory && n.Path != "/" && path.Dir(n.Path) == dir {
			count++
		}
	}
	return count
}

func TestAnotherReaderAgrees(t *testing.T) {
	tr := sample(t)
	data, _, _ := sealed(t, tr, options)
	compare(t, tr, data, options)
}

func TestEmptyTree(t *testing.T) {
	data, hash, root := sealed(t, tree.New(), options)
	if root.DataSize != seal.BlockSize || root.HashSize != seal.BlockSize {
		t.Errorf("sizes %+v, want one block each", root.Sizes)
	}
	compare(t, tree.New(), data, options)
	verify(t, data, hash, root)
}

// FuzzTree seals trees that a seed makes up and reads them back.
func FuzzTree(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, uint16(20*seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, count uint16) {
		tr := randomTree(t, seed, int(count%500))
		data, hash, root := sealed(t, tr, options)
		compare(t, tr, data, options)
		verify(t, data, hash, root)
	})
}

func randomTree(t *testing.T, seed uint64, count int) *tree.Tree {
	r := rand.New(rand.NewPCG(seed, 1))
	tr := tree.New()
	dirs := []string{"/"}
	letters := []rune("ab!-.~Zé\x01 ")
	for range count {
		name := make([]rune, 1+r.IntN(60))
		for k := range name {
			name[k] = letters[r.IntN(len(letters))]
		}
		if s := string(name); s == "." || s == ".." || strings.Contains(s, "/") {
			continue
		}
		n := tree.Node{Path: path.Join(dirs[r.IntN(len(dirs))], string(name)), Mode: uint32(r.IntN(0o10000)), UID: uint32(r.IntN(70000)), GID: uint32(r.IntN(70000))}
		if tr.Lookup(n.Path) != nil {
			continue
		}
		switch n.Kind = tree.Kind(1 + r.IntN(6)); n.Kind {
		case tree.Directory:
			dirs = append(dirs, n.Path)
		case tree.Regular:
			n.Content = tree.Bytes(noise(uint64(r.IntN(5)), r.IntN(3*4096)))
			if r.IntN(4) == 0 {
				n.Content = tree.Bytes(noise(seed, r.IntN(5)*4096))
			}
		case tree.Symlink:
			n.Target = strings.Repeat("t", 1+r.IntN(4095))
		case tree.CharDevice, tree.BlockDevice:
			n.Major, n.Minor = uint32(r.IntN(4096)), uint32(r.IntN(1<<20))
		}
		if r.IntN(5) == 0 {
			n.Xattrs = map[string][]byte{fmt.Sprintf("user.%d", r.IntN(9)): noise(seed, r.IntN(3000))}
		}
		put(t, tr, n)
	}
	return tr
}

func TestNamesAreFoundInLargeDirectories(t *testing.T) {
	tr := tree.New()
	for k := range 3000 {
		put(t, tr, file(fmt.Sprintf("/d/%s%d", strings.Repeat("x", k%200), k), nil))
	}
	data, _, _ := sealed(t, tr, options)
	fsys, err := erofs.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tr.Paths()[2:] {
		if _, err := fs.Stat(fsys, p[1:]); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := fs.ReadDir(fsys, "d")
	if err != nil || len(entries) != 3000 || !slices.IsSortedFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) {
		t.Errorf("%d entries: %v", len(entries), err)
	}
}
