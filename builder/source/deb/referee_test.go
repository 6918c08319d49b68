// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// dpkg-deb, where there is one, must see the same files in a package as we do. The
// packages are a made-up one and, when the cache has them, real ones.
func TestUnpackAgainstDpkgDeb(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Skip("dpkg-deb is not on this machine: ", err)
	}
	for _, suffix := range []string{".gz", ".xz", ".zst"} {
		t.Run("sample"+suffix, func(t *testing.T) { compareWithDpkg(t, dpkg, sampleDeb(t, suffix)) })
	}
	for _, name := range cachedDebs(t, 12) {
		t.Run(filepath.Base(name)[:12], func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			compareWithDpkg(t, dpkg, data)
		})
	}
}

// cachedDebs returns up to n packages of moderate size from the user's cache.
func cachedDebs(t *testing.T, n int) []string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil
	}
	names, _ := filepath.Glob(filepath.Join(cache, "imgbuild", "blobs", "*", "*"))
	var out []string
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		magic := make([]byte, len(arMagic))
		_, err = io.ReadFull(f, magic)
		info, _ := f.Stat()
		f.Close()
		if err == nil && string(magic) == arMagic && info.Size() < 2<<20 {
			out = append(out, name)
		}
		if len(out) == n {
			break
		}
	}
	t.Logf("%d packages of the cache", len(out))
	return out
}

func compareWithDpkg(t *testing.T, dpkg string, data []byte) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.deb")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	plain, err := exec.Command(dpkg, "--fsys-tarfile", name).Output()
	if err != nil {
		t.Fatalf("dpkg-deb --fsys-tarfile: %v", err)
	}
	u, err := unpackBytes(t, data)
	if err != nil {
		t.Fatal(err)
	}
	field, err := exec.Command(dpkg, "--field", name, "Package").Output()
	if err != nil || string(bytes.TrimSpace(field)) != u.Name {
		t.Errorf("dpkg-deb calls it %q (%v), we %q", field, err, u.Name)
	}
	tr := tar.NewReader(bytes.NewReader(plain))
	n := 0
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == len(u.Entries) {
			t.Fatalf("dpkg-deb has %s and more, we end", h.Name)
		}
		e := u.Entries[n]
		n++
		if filepath.Clean("/"+h.Name) != e.Path || e.Kind != tree.Symlink && h.Typeflag != tar.TypeLink && uint32(h.Mode)&0o7777 != e.Mode || e.Kind == tree.Symlink && h.Linkname != e.Target {
			t.Errorf("dpkg-deb has %s %o %s, we %+v", h.Name, h.Mode, h.Linkname, e)
		}
		if h.Typeflag == tar.TypeReg {
			sum := sha256.New()
			if _, err := io.Copy(sum, tr); err != nil || hex.EncodeToString(sum.Sum(nil)) != e.SHA256 {
				t.Errorf("%s: content differs", h.Name)
			}
		}
	}
	if n != len(u.Entries) {
		t.Errorf("dpkg-deb has %d entries, we %d", n, len(u.Entries))
	}
}
