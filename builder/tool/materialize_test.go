// SPDX-License-Identifier: Apache-2.0

package tool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/tree"
)

func put(t *testing.T, tr *tree.Tree, nodes ...tree.Node) {
	t.Helper()
	for _, n := range nodes {
		if err := tr.Put(n); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMaterialize(t *testing.T) {
	tr := tree.New()
	put(t, tr,
		tree.Node{Path: "/usr/bin/tool", Kind: tree.Regular, Mode: 0o4755, Content: tree.Bytes([]byte("tool"))},
		tree.Node{Path: "/usr/lib/secret", Kind: tree.Regular, Mode: 0o040, UID: 7, Content: tree.Bytes([]byte("s"))},
		tree.Node{Path: "/usr/share", Kind: tree.Directory, Mode: 0o2555},
		tree.Node{Path: "/usr/share/doc", Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(nil)},
		tree.Node{Path: "/dev/null", Kind: tree.CharDevice, Mode: 0o666, Major: 1, Minor: 3},
		tree.Node{Path: "/run/pipe", Kind: tree.Fifo, Mode: 0o600},
	)
	dir := t.TempDir()
	if err := Materialize(t.Context(), tr, dir); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{
		"usr/bin/tool": 0o755, "usr/lib/secret": 0o440, "usr/share": os.ModeDir | 0o755, "usr/share/doc": 0o644,
	} {
		info, err := os.Lstat(filepath.Join(dir, p))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", p, info.Mode(), err, want)
		}
	}
	for _, p := range []string{"dev/null", "run/pipe"} {
		if _, err := os.Lstat(filepath.Join(dir, p)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was written: %v", p, err)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "usr/bin/tool")); string(got) != "tool" {
		t.Errorf("content %q", got)
	}
}

func TestMaterializeRefusesDamage(t *testing.T) {
	tr := tree.New()
	c := tree.Bytes([]byte("tool"))
	c.Data = []byte("fool")
	put(t, tr, tree.Node{Path: "/usr/bin/tool", Kind: tree.Regular, Mode: 0o755, Content: c, Origin: "deb:x"})
	err := Materialize(t.Context(), tr, t.TempDir())
	if !errors.Is(err, tree.ErrCorrupt) || !strings.Contains(err.Error(), "deb:x") {
		t.Errorf("got %v", err)
	}
}

// Wherever a link points in the tree, it must point to the same place below dir.
func TestLinksStayInside(t *testing.T) {
	tr := tree.New()
	put(t, tr, tree.Node{Path: "/usr/bin/real", Kind: tree.Regular, Mode: 0o755, Content: tree.Bytes([]byte("real"))})
	links := map[string]string{
		"/etc/alternatives/a": "/usr/bin/real",
		"/usr/sbin/b":         "../bin/real",
		"/c":                  "usr/bin/real",
		"/d":                  "/usr/bin/real",
		"/usr/e":              "../../../../usr/bin/real",
		"/usr/bin/f":          "real",
		"/opt/x/g":            "/opt/../usr/./bin/real",
		"/usr/lib/h":          "../../../usr/bin/real",
	}
	for p, target := range links {
		put(t, tr, tree.Node{Path: p, Kind: tree.Symlink, Mode: 0o777, Target: target})
	}
	dir := filepath.Join(t.TempDir(), "set")
	if err := Materialize(t.Context(), tr, dir); err != nil {
		t.Fatal(err)
	}
	want, _ := filepath.EvalSymlinks(filepath.Join(dir, "usr/bin/real"))
	for p := range links {
		got, err := filepath.EvalSymlinks(filepath.Join(dir, p))
		if err != nil || got != want {
			t.Errorf("%s leads to %s, %v", p, got, err)
		}
	}
}
