// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/tree"
)

func unpackBytes(t testing.TB, data []byte) (*Unpacked, error) {
	t.Helper()
	dir := t.TempDir()
	if err := unpack(bytes.NewReader(data), int64(len(data)), dir); err != nil {
		return nil, err
	}
	return loadUnpacked(dir)
}

func TestUnpackAddsEveryKindOfEntry(t *testing.T) {
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		t.Run("compressed"+suffix, func(t *testing.T) {
			u, err := unpackBytes(t, sampleDeb(t, suffix))
			if err != nil {
				t.Fatal(err)
			}
			if u.Name != "sample" || u.Version != "1.0-1" || u.Fields.Get("Description") != "x\n y" {
				t.Errorf("control fields: %+v", u)
			}
			tr := tree.New()
			if err := u.AddTo(tr); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]tree.Node{
				"/usr/bin/ping":  {Kind: tree.Regular, Mode: 0o755},
				"/usr/bin/wall":  {Kind: tree.Regular, Mode: 0o2755, GID: 5},
				"/usr/bin/wall2": {Kind: tree.Regular, Mode: 0o2755, GID: 5},
				"/usr/bin/ping4": {Kind: tree.Symlink, Mode: 0o777, Target: "ping"},
				"/usr/lib/x":     {Kind: tree.Directory, Mode: 0o755},
				"/usr/lib/x/y":   {Kind: tree.Regular, Mode: 0o644},
				"/dev/null":      {Kind: tree.CharDevice, Mode: 0o666, Major: 1, Minor: 3},
				"/run/pipe":      {Kind: tree.Fifo, Mode: 0o600},
			} {
				n := tr.Lookup(path)
				if n == nil {
					t.Errorf("%s is missing", path)
					continue
				}
				if n.Kind != want.Kind || n.Mode != want.Mode || n.GID != want.GID || n.Target != want.Target || n.Major != want.Major || n.Minor != want.Minor || n.Origin != "deb:sample" {
					t.Errorf("%s: %+v, want %+v", path, n, want)
				}
			}
			if tr.Lookup("/lib") != nil {
				t.Error("/lib is in the tree, but its content belongs into /usr/lib")
			}
			if x := tr.Lookup("/usr/bin/ping").Xattrs["security.capability"]; string(x) != "\x01\x00\x00\x02" {
				t.Errorf("capability %q", x)
			}
			for path, want := range map[string]string{"/usr/bin/wall2": "content of ./usr/bin/wall", "/usr/lib/x/y": "content of ./lib/x/y"} {
				if got, err := tr.Lookup(path).Content.ReadAll(); err != nil || string(got) != want {
					t.Errorf("%s holds %q, %v", path, got, err)
				}
			}
		})
	}
}

func TestUnpackNoticesDamage(t *testing.T) {
	u, err := unpackBytes(t, sampleDeb(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(u.contents, bytes.Repeat([]byte("x"), 100), 0o644); err != nil {
		t.Fatal(err)
	}
	tr := tree.New()
	if err := u.AddTo(tr); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Lookup("/usr/bin/ping").Content.ReadAll(); err == nil {
		t.Error("damaged content was read without an error")
	}
}

func TestUnpackRefuses(t *testing.T) {
	good := sampleDeb(t, "")
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"not an archive":  {[]byte("hello, world"), "ar archive: starts with"},
		"empty":           {nil, "has only 0 bytes"},
		"truncated":       {good[:len(good)-600], "but only"},
		"header cut":      {append(slices.Clone(good), "data"...), ""},
		"other first":     {arFile("x", "2.0\n"), `first member is "x"`},
		"version":         {arFile("debian-binary", "3.0\n"), `format version "3.0"`},
		"no control":      {arFile("debian-binary", "2.0\n"), "has no control.tar"},
		"wrong order":     {arFile("debian-binary", "2.0\n", "data.tar", ""), "where control.tar should be"},
		"compression":     {arFile("debian-binary", "2.0\n", "control.tar.lzma", ""), `compression ".lzma"`},
		"outside":         {sampleDeb(t, "", file("./../etc/passwd", 0o644)), "leaves the package's root"},
		"twice":           {sampleDeb(t, "", file("./a", 0o644), file("./a", 0o644)), "in the archive twice"},
		"link to nothing": {sampleDeb(t, "", &tar.Header{Typeflag: tar.TypeLink, Name: "./b", Linkname: "./a"}), "hard link to /a"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpackBytes(t, c.data)
			if c.want == "" {
				if err != nil {
					t.Errorf("what follows the last part is not our business: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not contain %q", err, c.want)
			}
		})
	}
}

func TestAddToReportsEveryConflict(t *testing.T) {
	one, err := unpackBytes(t, sampleDeb(t, "", dir("./usr/"), file("./usr/a", 0o644), file("./usr/b", 0o644), file("./lib/c", 0o644)))
	if err != nil {
		t.Fatal(err)
	}
	two, err := unpackBytes(t, sampleDeb(t, "", &tar.Header{Typeflag: tar.TypeDir, Name: "./usr/", Mode: 0o700}, file("./usr/a", 0o644),
		file("./usr/b", 0o600), &tar.Header{Typeflag: tar.TypeSymlink, Name: "./usr/lib/c", Linkname: "d"}))
	if err != nil {
		t.Fatal(err)
	}
	two.Name = "other"
	tr := tree.New()
	if err := one.AddTo(tr); err != nil {
		t.Fatal(err)
	}
	err = two.AddTo(tr)
	if err == nil || strings.Contains(err.Error(), "/usr/a ") || !strings.Contains(err.Error(), "/usr/b (file) is also in deb:sample") || !strings.Contains(err.Error(), "/usr/lib/c (symlink)") {
		t.Errorf("error %v", err)
	}
	if n := tr.Lookup("/usr"); n.Mode != 0o755 {
		t.Errorf("the first package's directory mode was replaced by %o", n.Mode)
	}
}

func TestAddToFollowsLinks(t *testing.T) {
	base, _ := unpackBytes(t, sampleDeb(t, "", dir("./var/"), &tar.Header{Typeflag: tar.TypeSymlink, Name: "./var/run", Linkname: "/run"}, dir("./run/")))
	user, _ := unpackBytes(t, sampleDeb(t, "", dir("./var/"), dir("./var/run/"), file("./var/run/x", 0o644)))
	tr := tree.New()
	if err := base.AddTo(tr); err != nil {
		t.Fatal(err)
	}
	if err := user.AddTo(tr); err != nil {
		t.Fatal(err)
	}
	if tr.Lookup("/run/x") == nil || tr.Lookup("/var/run").Kind != tree.Symlink {
		t.Errorf("paths %v", tr.Paths())
	}
}

func FuzzAr(f *testing.F) {
	f.Add(arFile("debian-binary", "2.0\n", "x", "odd"))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := newArReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		var total int64
		for {
			m, err := a.next()
			if err != nil {
				if err != io.EOF && m != nil {
					t.Error("a member together with an error")
				}
				return
			}
			if n, err := io.Copy(io.Discard, m); err != nil || n != m.Size() {
				t.Errorf("member %q: read %d of %d bytes, %v", m.Name, n, m.Size(), err)
			}
			if total += m.Size() + arHeaderSize; total > int64(len(data)) {
				t.Errorf("members of %d bytes in a file of %d", total, len(data))
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		f.Add(sampleDeb(f, suffix))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := unpackBytes(t, data)
		if err != nil {
			return
		}
		for _, e := range u.Entries {
			if !strings.HasPrefix(e.Path, "/") || strings.Contains(e.Path+"/", "/../") {
				t.Errorf("path %q", e.Path)
			}
		}
	})
}
