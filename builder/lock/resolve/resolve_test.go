// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/deb/debtest"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/store"
)

const base = `name: base
abstract: true
description: base
image: {id: x, version: "1"}
debian:
  suite: trixie
  packages: [systemd]
  omit: [{package: kmod, reason: not in the root}]
kernel: {package: linux, modules: [], arguments: []}
initrd: {packages: [kmod], files: [], modules: [], components: [ignition]}
layout: {esp: 512MiB, root: 1GiB, sectorSize: 512}
delivery: verity
`

// checkout writes a small checkout and returns its directory.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"profiles/base.yaml":                   base,
		"profiles/cp.yaml":                     "name: cp\nextends: base\ndescription: cp\ncomponents: [etcd]\n",
		"profiles/worker.yaml":                 "name: worker\nextends: base\ndescription: worker\ndebian: {packages: [runc]}\n",
		"assets/tools.yaml":                    "tools:\n  - {name: kmod, purpose: depmod, packages: [kmod]}\n",
		"assets/components/etcd/go.mod":        "",
		"assets/components/ignition/go.mod":    "",
		"assets/components/not-used-by/go.mod": "",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func archive(t *testing.T, systemd string) *debtest.Archive {
	return debtest.New(t,
		debtest.Package{Name: "systemd", Version: systemd, Fields: []string{"Depends: libc6, kmod"}},
		debtest.Package{Name: "libc6", Version: "2.41"}, debtest.Package{Name: "kmod", Version: "34", Fields: []string{"Depends: libc6"}},
		debtest.Package{Name: "linux", Version: "6.12"}, debtest.Package{Name: "runc", Version: "1.1"}, debtest.Package{Name: "unused", Version: "1"})
}

func options(t *testing.T, root string, a *debtest.Archive) Options {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Options{Root: root, Architecture: "amd64", Store: st, Now: a.Now, Keyring: a.Keyring, Fetch: fetch.Options{Attempts: 1},
		Mirror: deb.MirrorOptions{Flag: a.Mirror(), Getenv: func(string) string { return "" }},
		Modules: func(_ context.Context, names []string) ([]lock.Module, error) {
			var out []lock.Module
			for _, n := range slices.Backward(names) {
				out = append(out, lock.Module{Component: n, Recipe: strings.Repeat("0a", 32)})
			}
			return out, nil
		}}
}

func TestUpdate(t *testing.T) {
	root := checkout(t)
	o := options(t, root, archive(t, "257-1"))
	old, first, diff, err := Update(t.Context(), o)
	if err != nil || old != nil {
		t.Fatalf("old %v, %v", old, err)
	}
	wantSets := map[string][]string{
		"root/cp": {"libc6", "linux", "systemd"}, "root/worker": {"libc6", "linux", "runc", "systemd"},
		"initrd/cp": {"libc6", "kmod"}, "initrd/worker": {"libc6", "kmod"}, "tool/kmod": {"libc6", "kmod"},
	}
	if !reflect.DeepEqual(first.Sets, wantSets) {
		t.Errorf("sets %v, want %v", first.Sets, wantSets)
	}
	if len(first.Packages) != 5 || len(first.Modules) != 2 || first.Modules[0].Component != "etcd" || len(diff) != 3+5+2+5 {
		t.Errorf("packages %v, modules %v, diff %v", first.Packages, first.Modules, diff)
	}
	if _, err := os.Stat(o.Path()); err == nil {
		t.Error("Update wrote the lock")
	}
	if err := first.Save(o.Path()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Path())
	if err != nil || strings.Contains(string(text), root) || strings.Contains(string(text), "file:") {
		t.Errorf("the lock names a mirror, %v:\n%s", err, text)
	}
	stale := *first
	stale.Archives = slices.Clone(first.Archives)
	stale.Archives[0].Date = o.Now.AddDate(0, 0, 1).UTC().Format(time.RFC1123)
	if err := stale.Save(o.Path()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := Update(t.Context(), o); fault.ClassOf(err) != fault.Digest || !strings.Contains(err.Error(), "debian trixie: the mirror serves it as of") {
		t.Errorf("an archive older than the lock: %v", err)
	}
	if err := first.Save(o.Path()); err != nil {
		t.Fatal(err)
	}
	newer := options(t, root, archive(t, "257-2"))
	old, _, diff, err = Update(t.Context(), newer)
	if err != nil || !reflect.DeepEqual(old, first) {
		t.Fatalf("old %v, %v", old, err)
	}
	if !slices.Contains(diff, lock.Change{Kind: "package", Name: "systemd", Old: "257-1", New: "257-2"}) {
		t.Errorf("changes %v", diff)
	}
}

// A damaged lock is no obstacle to making a new one.
func TestUpdateReplacesDamagedLock(t *testing.T) {
	o := options(t, checkout(t), archive(t, "257-1"))
	write(t, o.Path(), "nonsense")
	old, new, _, err := Update(t.Context(), o)
	if err != nil || old != nil || new == nil {
		t.Errorf("%v, %v, %v", old, new, err)
	}
}

func TestUpdateReportsEverySet(t *testing.T) {
	root := checkout(t)
	write(t, filepath.Join(root, "profiles/cp.yaml"), "name: cp\nextends: base\ndescription: cp\ndebian: {packages: [nope]}\n")
	write(t, filepath.Join(root, "assets/tools.yaml"), "tools:\n  - {name: q, purpose: x, packages: [gone]}\n")
	_, _, _, err := Update(t.Context(), options(t, root, archive(t, "257-1")))
	if fault.ClassOf(err) != fault.Config {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"packages of root/cp", "nope: no archive has", "packages of tool/q", "gone: no archive has"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not contain %q:\n%v", want, err)
		}
	}
}

func TestReleasesComeFromThePinFile(t *testing.T) {
	root, sum := t.TempDir(), strings.Repeat("ab", 32)
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, "assets/pins"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "assets/pins/releases.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one := &profile.Profile{Releases: []profile.Release{{Name: "etcd", Version: "3.6.14"}}}
	if got, err := releases(Options{Root: root, Architecture: "arm64"}, []*profile.Profile{{}}); got != nil || err != nil {
		t.Errorf("profiles without releases: %v, %v", got, err)
	}
	write("version: 1\nreleases:\n  - name: etcd\n    version: 3.6.14\n    url: \"https://x.test/{v}/{a}\"\n    sha256: {arm64: " + sum + "}\n    files: [{path: /usr/bin/etcd}]\n")
	got, err := releases(Options{Root: root, Architecture: "arm64"}, []*profile.Profile{one, one})
	want := []lock.Release{{Name: "etcd", Version: "3.6.14", Architecture: "arm64", URL: "https://x.test/3.6.14/arm64", SHA256: sum}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("pins %+v, %v, want %+v", got, err, want)
	}
	other := &profile.Profile{Releases: []profile.Release{{Name: "runc", Version: "1.0"}}}
	_, err = releases(Options{Root: root, Architecture: "amd64"}, []*profile.Profile{one, other})
	for _, text := range []string{"etcd 3.6.14 is not pinned for amd64", "release runc is not pinned; pinned are: etcd"} {
		if fault.ClassOf(err) != fault.MissingPin || !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("error %v lacks %q", err, text)
		}
	}
}

func TestToolsProblems(t *testing.T) {
	_, err := decodeTools("t", []byte("tools:\n  - {name: a, purpose: x, packages: [p]}\n  - {name: a, packges: [p]}\n"))
	for _, want := range []string{"t:3:12: tools[1].name: value \"a\": is missing or given twice", "tools[1].purpose: is required", `did you mean "packages"?`} {
		if fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not contain %q:\n%v", want, err)
		}
	}
	tools, err := Tools("../../..")
	if err != nil || !slices.ContainsFunc(tools, func(t Tool) bool { return t.Name == "qemu" }) {
		t.Errorf("the repository's tools: %v, %v", tools, err)
	}
}

// The committed lock holds everything that the committed profiles name.
func TestCommittedLockIsCurrent(t *testing.T) {
	root := "../../.."
	l, err := lock.Load(lock.Path(root, "amd64"))
	if err != nil {
		t.Fatal(err)
	}
	profiles, err := loadProfiles(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range profiles {
		if err := l.Check(p); err != nil {
			t.Error(err)
		}
	}
	tools, err := Tools(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range tools {
		if _, err := l.Set(lock.ToolSet(tool.Name)); err != nil {
			t.Error(err)
		}
	}
}
