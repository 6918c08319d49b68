// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func put(t *testing.T, tr *Tree, nodes ...Node) {
	t.Helper()
	for _, n := range nodes {
		if err := tr.Put(n); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOrderIsByElementAndParentsComeFirst(t *testing.T) {
	tr := New()
	put(t, tr,
		Node{Path: "/a-b", Kind: Regular},
		Node{Path: "/a/z", Kind: Regular, Origin: "deb:x"},
		Node{Path: "a/b/c/", Kind: Directory})
	want := []string{"/", "/a", "/a/b", "/a/b/c", "/a/z", "/a-b"}
	if got := tr.Paths(); !reflect.DeepEqual(got, want) {
		t.Errorf("paths %v, want %v", got, want)
	}
	if parent := tr.Lookup("/a"); parent.Mode != 0o755 || parent.Origin != "deb:x" {
		t.Errorf("implied parent %+v, want mode 0755 and the child's origin", parent)
	}
}

func TestBelow(t *testing.T) {
	tr := New()
	put(t, tr,
		Node{Path: "/a-b", Kind: Regular},
		Node{Path: "/a/z", Kind: Regular},
		Node{Path: "/a/b-c", Kind: Regular},
		Node{Path: "/a/b/c", Kind: Regular})
	for dir, want := range map[string][]string{
		"/":      tr.Paths()[1:],
		"/a":     {"/a/b", "/a/b/c", "/a/b-c", "/a/z"},
		"/a/b/":  {"/a/b/c"},
		"/a-b":   nil,
		"/other": nil,
	} {
		var got []string
		for _, n := range tr.Below(dir) {
			got = append(got, n.Path)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("below %s: %v, want %v", dir, got, want)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	tr := New()
	put(t, tr, Node{Path: "/etc/passwd", Kind: Regular}, Node{Path: "/bin", Kind: Symlink, Target: "usr/bin"})
	for name, n := range map[string]Node{
		"no kind":                             {Path: "/x"},
		"file type bits in the mode":          {Path: "/x", Kind: Regular, Mode: 0o100644},
		"a child of a file":                   {Path: "/etc/passwd/x", Kind: Regular},
		"a child of a link":                   {Path: "/bin/sh", Kind: Regular},
		"a link in place of a full directory": {Path: "/etc", Kind: Symlink, Target: "x"},
	} {
		if err := tr.Put(n); err == nil {
			t.Errorf("%s: accepted %+v", name, n)
		}
	}
}

func TestRemove(t *testing.T) {
	tr := New()
	put(t, tr, Node{Path: "/usr/share/doc/a/copyright", Kind: Regular}, Node{Path: "/usr/share/docs", Kind: Directory})
	if n := tr.Remove("/usr/share/doc"); n != 3 {
		t.Errorf("removed %d nodes, want 3", n)
	}
	if tr.Lookup("/usr/share/docs") == nil || tr.Lookup("/usr/share/doc") != nil {
		t.Error("removal by prefix took the wrong nodes")
	}
}

func TestResolve(t *testing.T) {
	tr := New()
	put(t, tr,
		Node{Path: "/usr/bin/mawk", Kind: Regular},
		Node{Path: "/bin", Kind: Symlink, Target: "usr/bin"},
		Node{Path: "/usr/bin/awk", Kind: Symlink, Target: "/etc/alternatives/awk"},
		Node{Path: "/etc/alternatives/awk", Kind: Symlink, Target: "../../../../usr/bin/mawk"},
		Node{Path: "/loop", Kind: Symlink, Target: "loop"})
	for in, want := range map[string]string{
		"/bin/awk": "/usr/bin/mawk", "/bin/new": "/usr/bin/new", "/": "/", "/usr/bin/../bin/mawk": "/usr/bin/mawk",
	} {
		if got, err := tr.Resolve(in); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := tr.Resolve("/loop/x"); err == nil {
		t.Error("a loop of links resolved")
	}
}

func TestContentVerifiesItself(t *testing.T) {
	file := filepath.Join(t.TempDir(), "flat")
	if err := os.WriteFile(file, []byte("xxhelloyy"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := Content{File: file, Offset: 2, Size: 5, SHA256: Bytes([]byte("hello")).SHA256}
	if data, err := good.ReadAll(); err != nil || string(data) != "hello" {
		t.Fatalf("ReadAll = %q, %v", data, err)
	}
	if data, err := Bytes([]byte("in memory")).ReadAll(); err != nil || string(data) != "in memory" {
		t.Errorf("ReadAll = %q, %v", data, err)
	}
	flipped, truncated := good, good
	flipped.Offset = 1
	truncated.Offset = 6
	for name, c := range map[string]Content{"other bytes": flipped, "short file": truncated} {
		if _, err := c.ReadAll(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v, want ErrCorrupt", name, err)
		}
	}
	r, err := good.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, 2); err != nil {
		t.Errorf("a partial read must not verify: %v", err)
	}
}

func TestFileMode(t *testing.T) {
	for want, n := range map[fs.FileMode]Node{
		fs.ModeSetuid | 0o755:                     {Kind: Regular, Mode: 0o4755},
		fs.ModeDir | fs.ModeSticky | 0o777:        {Kind: Directory, Mode: 0o1777},
		fs.ModeDevice | fs.ModeCharDevice | 0o600: {Kind: CharDevice, Mode: 0o600},
		fs.ModeSymlink | 0o777:                    {Kind: Symlink, Mode: 0o777},
		fs.ModeNamedPipe | fs.ModeSetgid | 0o640:  {Kind: Fifo, Mode: 0o2640},
		fs.ModeDevice | 0o660:                     {Kind: BlockDevice, Mode: 0o660},
	} {
		if got := n.FileMode(); got != want {
			t.Errorf("%v %o: %v, want %v", n.Kind, n.Mode, got, want)
		}
	}
}
