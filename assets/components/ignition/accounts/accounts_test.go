// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"testing"
)

const passwd = `root:x:0:0:root:/root:/bin/sh
broken:x:zero:0::/:/bin/sh
short:x:5
etcd:x:901:902:etcd,,,:/var/lib/etcd:/usr/sbin/nologin
etcd:x:1:1:second:/:/bin/sh
+nis::::::
`

const group = `root:x:0:
etcd:x:902:etcd,other
bad:x:-1:
`

func sysroot(t *testing.T) string {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/share"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	// An absolute link must be followed inside the root and never to the host's file.
	write(t, filepath.Join(root, "usr/share/passwd"), passwd)
	if err := os.Symlink("/usr/share/passwd", filepath.Join(root, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "etc/group"), group)
	return root
}

func write(t *testing.T, name, content string) {
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUser(t *testing.T) {
	root := sysroot(t)
	u, err := User(root, "etcd")
	if err != nil {
		t.Fatal(err)
	}
	if u.Uid != "901" || u.Gid != "902" || u.HomeDir != "/var/lib/etcd" || u.Name != "etcd" {
		t.Errorf("got %+v, want the first entry of that name", u)
	}
	var unknown user.UnknownUserError
	for _, name := range []string{"broken", "short", "nobody", "", "+nis"} {
		if u, err := User(root, name); !errors.As(err, &unknown) {
			t.Errorf("%q: got %v, %v; want an unknown user", name, u, err)
		}
	}
}

func TestGroup(t *testing.T) {
	root := sysroot(t)
	if g, err := Group(root, "etcd"); err != nil || g.Gid != "902" {
		t.Errorf("got %+v, %v", g, err)
	}
	var unknown user.UnknownGroupError
	if g, err := Group(root, "bad"); !errors.As(err, &unknown) {
		t.Errorf("got %v, %v; want an unknown group", g, err)
	}
}

func TestMissingFiles(t *testing.T) {
	var unknown user.UnknownUserError
	if _, err := User(t.TempDir(), "root"); !errors.As(err, &unknown) {
		t.Errorf("no passwd file: got %v, want an unknown user", err)
	}
	if _, err := User("/nonexistent/root", "root"); err == nil || errors.As(err, &unknown) {
		t.Errorf("no root directory: got %v, want another error", err)
	}
}
