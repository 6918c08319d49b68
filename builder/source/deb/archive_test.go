// SPDX-License-Identifier: Apache-2.0

package deb_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/deb/debtest"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

func sampleArchive(t *testing.T) *debtest.Archive {
	return debtest.New(t,
		debtest.Package{Name: "hello", Version: "2.10-3", Fields: []string{"Depends: libhello (>= 2)"}, Files: map[string]string{"/usr/bin/hello": "hi"}},
		debtest.Package{Name: "libhello", Version: "2.0-1", Files: map[string]string{"/lib/libhello.so.2": "lib"}})
}

func options(t *testing.T, a *debtest.Archive, mirrors ...string) deb.IndexOptions {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := deb.Mirrors{}
	for _, base := range mirrors {
		m[deb.MainArchive] = append(m[deb.MainArchive], base)
		m[deb.SecurityArchive] = append(m[deb.SecurityArchive], base+"-security")
	}
	return deb.IndexOptions{Store: st, Mirrors: m, Architecture: "amd64", Suite: "trixie", Now: a.Now, Keyring: a.Keyring, Fetch: fetch.Options{Attempts: 1}}
}

// From a signed archive to a tree, and once more with the archive gone.
func TestArchiveToTree(t *testing.T) {
	a := sampleArchive(t)
	o := options(t, a, "file:///nowhere/debian", a.Mirror())
	ix, err := deb.LoadIndex(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(ix.Archives) != 3 || ix.Archives[2].Name != "debian-security" || len(ix.Archives[0].SignedBy) != 1 {
		t.Errorf("archives %+v", ix.Archives)
	}
	pkgs, err := ix.Resolve(deb.Want{Set: "test", Packages: []string{"hello"}})
	if err != nil || len(pkgs) != 2 {
		t.Fatalf("%v, %v", pkgs, err)
	}
	mirrors := func() (deb.Mirrors, error) { return o.Mirrors, nil }
	if err := deb.Fetch(t.Context(), o.Store, pkgs, mirrors, o.Fetch); err != nil {
		t.Fatal(err)
	}
	if _, ok := deb.LoadUnpacked(o.Store, pkgs[0]); ok {
		t.Error("a package is unpacked before anyone asked")
	}
	for _, when := range []string{"cold", "warm"} {
		all, err := deb.UnpackAll(t.Context(), o.Store, pkgs, progress.Discard)
		if err != nil {
			t.Fatal(when, err)
		}
		tr := tree.New()
		for _, u := range all {
			if err := u.AddTo(tr); err != nil {
				t.Fatal(when, err)
			}
		}
		for path, want := range map[string]string{"/usr/bin/hello": "hi", "/usr/lib/libhello.so.2": "lib"} {
			if got, err := tr.Lookup(path).Content.ReadAll(); err != nil || string(got) != want {
				t.Errorf("%s: %s holds %q, %v", when, path, got, err)
			}
		}
		if err := os.RemoveAll(a.Dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := deb.Fetch(t.Context(), o.Store, pkgs, func() (deb.Mirrors, error) { t.Error("a mirror is asked for"); return nil, nil }, o.Fetch); err != nil {
		t.Error(err)
	}
}

func TestLoadIndexRefuses(t *testing.T) {
	other := sampleArchive(t)
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		class  fault.Class
		want   string
	}{
		"another key": {func(t *testing.T, dir string) {
			replace(t, filepath.Join(dir, "debian/dists/trixie/InRelease"), filepath.Join(other.Dir, "debian/dists/trixie/InRelease"))
		}, fault.Digest, "no signature is by a trusted key"},
		"another suite": {func(t *testing.T, dir string) {
			replace(t, filepath.Join(dir, "debian/dists/trixie/InRelease"), filepath.Join(dir, "debian/dists/trixie-updates/InRelease"))
		}, fault.Digest, `is the Release file of "trixie-updates", not of "trixie"`},
		"other packages": {func(t *testing.T, dir string) {
			names, _ := filepath.Glob(filepath.Join(dir, "debian/dists/trixie/main/binary-amd64/by-hash/SHA256/*"))
			data, err := os.ReadFile(names[0])
			if err != nil {
				t.Fatal(err)
			}
			data[20] ^= 1
			if err := os.WriteFile(names[0], data, 0o644); err != nil {
				t.Fatal(err)
			}
		}, fault.Digest, "trixie package index"},
		"gone": {func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "debian-security")) }, fault.Network, "trixie-security/InRelease"},
	} {
		t.Run(name, func(t *testing.T) {
			a := sampleArchive(t)
			c.damage(t, a.Dir)
			_, err := deb.LoadIndex(t.Context(), options(t, a, a.Mirror()))
			if fault.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.want) {
				t.Errorf("class %d of error %v", fault.ClassOf(err), err)
			}
		})
	}
}

func replace(t *testing.T, name, by string) {
	t.Helper()
	data, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A package whose bytes at the mirror are not those of the index is not taken.
func TestFetchRefusesOtherBytes(t *testing.T) {
	a := sampleArchive(t)
	o := options(t, a, a.Mirror())
	ix, err := deb.LoadIndex(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	pkgs, err := ix.Resolve(deb.Want{Set: "test", Packages: []string{"libhello"}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(a.Dir, "debian", pkgs[0].Path)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	err = deb.Fetch(t.Context(), o.Store, pkgs, func() (deb.Mirrors, error) { return o.Mirrors, nil }, o.Fetch)
	if fault.ClassOf(err) != fault.Digest || !strings.Contains(err.Error(), "libhello 2.0-1") {
		t.Errorf("class %d of error %v", fault.ClassOf(err), err)
	}
	if _, err := deb.Unpack(t.Context(), o.Store, pkgs[0], progress.Discard); err == nil {
		t.Error("a package that was not fetched is unpacked")
	}
}
