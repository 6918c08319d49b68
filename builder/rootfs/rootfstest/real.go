// SPDX-License-Identifier: Apache-2.0

// Package rootfstest gives tests the real inputs of an image: the profiles of this
// repository and the packages its lock pins, from the content store. What the store lacks
// is fetched the way a build fetches it.
package rootfstest

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/rootfs"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Arch is the architecture that tests compose.
const Arch = "amd64"

// Real is what a profile resolves to.
type Real struct {
	Profile *profile.Profile
	Assets  fs.FS
	// Root and Initrd are the packages of the two trees.
	Root, Initrd []rootfs.Package
}

// Load returns the real inputs of a profile.
func Load(t testing.TB, name string) *Real {
	t.Helper()
	top := repository(t)
	p, err := profile.Load(os.DirFS(top), name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lock.Load(lock.Path(top, Arch))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := store.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &Real{Profile: p, Assets: os.DirFS(filepath.Join(top, "assets"))}
	r.Root = packages(t, st, l, p, lock.RootSet(name))
	r.Initrd = packages(t, st, l, p, lock.InitrdSet(name))
	return r
}

func packages(t testing.TB, st *store.Store, l *lock.Lock, p *profile.Profile, set string) []rootfs.Package {
	t.Helper()
	pins, err := l.Set(set)
	if err != nil {
		t.Fatal(err)
	}
	var missing []lock.Package
	for _, pin := range pins {
		if _, ok := deb.LoadUnpacked(st, pin); !ok {
			missing = append(missing, pin)
		}
	}
	ctx := context.Background()
	if len(missing) > 0 {
		mirrors := func() (deb.Mirrors, error) {
			return deb.FindMirrors(deb.MirrorOptions{Profile: p.Debian.Mirror})
		}
		if err := deb.Fetch(ctx, st, missing, mirrors, fetch.Options{Sink: progress.Discard, UserAgent: "imgbuild"}); err != nil {
			t.Fatal(err)
		}
	}
	unpacked, err := deb.UnpackAll(ctx, st, pins, progress.Discard)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]rootfs.Package, len(unpacked))
	for i, u := range unpacked {
		out[i] = rootfs.Package{Name: u.Name, Version: u.Version, AddTo: u.AddTo}
	}
	return out
}

// repository returns the directory that holds go.mod, upwards from the test's.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = parent
	}
}
