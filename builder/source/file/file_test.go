// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// sample is a directory as a careless checkout leaves it: odd modes, a link.
func sample(t *testing.T, mask os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "conf")
	for p, data := range map[string]string{"a.conf": "a", "sub/run": "#!"} {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755&^mask); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(p, "run") {
			mode = 0o755
		}
		if err := os.WriteFile(p, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode&^mask); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.conf", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDirectory(t *testing.T) {
	tr := tree.New()
	s := Source{From: sample(t, 0o077), To: "/etc/thing", Origin: "profile:test"}
	if err := s.AddTo(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]struct {
		kind tree.Kind
		mode uint32
	}{
		"/etc/thing": {tree.Directory, 0o755}, "/etc/thing/a.conf": {tree.Regular, 0o644}, "/etc/thing/link": {tree.Symlink, 0o777},
		"/etc/thing/sub": {tree.Directory, 0o755}, "/etc/thing/sub/run": {tree.Regular, 0o755},
	} {
		n := tr.Lookup(p)
		if n == nil || n.Kind != want.kind || n.Mode != want.mode || n.UID != 0 || n.Origin != "profile:test" {
			t.Errorf("%s: %+v", p, n)
		}
	}
	if data, err := tr.Lookup("/etc/thing/a.conf").Content.ReadAll(); err != nil || string(data) != "a" {
		t.Errorf("content %q, %v", data, err)
	}
	if got := tr.Lookup("/etc/thing/link").Target; got != "a.conf" {
		t.Errorf("target %q", got)
	}
}

func TestExistingDirectoryKeepsItsMode(t *testing.T) {
	tr := tree.New()
	if err := tr.Put(tree.Node{Path: "/etc/thing", Kind: tree.Directory, Mode: 0o700, Origin: "deb:x"}); err != nil {
		t.Fatal(err)
	}
	if err := (Source{From: sample(t, 0), To: "/etc/thing"}).AddTo(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	if n := tr.Lookup("/etc/thing"); n.Mode != 0o700 || n.Origin != "deb:x" {
		t.Errorf("%+v", n)
	}
}

func TestModeOfAFile(t *testing.T) {
	dir := sample(t, 0)
	nodes, err := Source{From: filepath.Join(dir, "a.conf"), To: "/etc/a", Mode: 0o600}.Read(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Mode != 0o600 || nodes[0].Path != "/etc/a" {
		t.Errorf("%+v, %v", nodes, err)
	}
}

func TestPin(t *testing.T) {
	// The umask of a checkout must not change a pin.
	a, b := sample(t, 0), sample(t, 0o077)
	pin, err := Source{From: a, To: "/x"}.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Source{From: b, To: "/somewhere/else", SHA256: pin}).Read(t.Context()); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(string) error{
		"bytes":      func(d string) error { return os.WriteFile(filepath.Join(d, "a.conf"), []byte("b"), 0o644) },
		"name":       func(d string) error { return os.Rename(filepath.Join(d, "a.conf"), filepath.Join(d, "b.conf")) },
		"executable": func(d string) error { return os.Chmod(filepath.Join(d, "a.conf"), 0o755) },
		"new":        func(d string) error { return os.Mkdir(filepath.Join(d, "new"), 0o755) },
		"link": func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "link")), os.Symlink("sub/run", filepath.Join(d, "link")))
		},
	} {
		d := sample(t, 0)
		if err := change(d); err != nil {
			t.Fatal(err)
		}
		_, err := Source{From: d, To: "/x", SHA256: pin}.Read(t.Context())
		if fault.ClassOf(err) != fault.Digest || !strings.Contains(err.Error(), string(pin)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := filepath.Join(a, "a.conf")
	if _, err := (Source{From: f, To: "/x", SHA256: store.DigestOf([]byte("a"))}).Read(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := (Source{From: f, To: "/x", SHA256: store.DigestOf([]byte("b"))}).Read(t.Context()); fault.ClassOf(err) != fault.Digest {
		t.Errorf("got %v", err)
	}
}

func TestChangeAfterReadingIsNoticed(t *testing.T) {
	f := filepath.Join(sample(t, 0), "a.conf")
	nodes, err := Source{From: f, To: "/x"}.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f, []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[0].Content.ReadAll(); !errors.Is(err, tree.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestRefused(t *testing.T) {
	dir := sample(t, 0)
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Source{
		"missing":        {From: filepath.Join(dir, "none"), To: "/x", Origin: "profile:p"},
		"pipe":           {From: filepath.Join(dir, "pipe"), To: "/x"},
		"pipe inside":    {From: dir, To: "/x"},
		"mode too large": {From: filepath.Join(dir, "a.conf"), To: "/x", Mode: 0o100644},
	} {
		if _, err := s.Read(t.Context()); fault.ClassOf(err) != fault.Config {
			t.Errorf("%s: class %d: %v", name, fault.ClassOf(err), err)
		}
	}
}
