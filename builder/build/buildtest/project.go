// SPDX-License-Identifier: Apache-2.0

// Package buildtest makes checkouts for tests of whole builds: real packages, a real lock, a
// real component, real depmod, all of them tiny, and a mirror on the loopback interface that
// serves the packages. What is built from one is a complete image that lacks only programs
// worth booting.
package buildtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
	"github.com/imgbuild/imgbuild/builder/uki/ukitest"
)

// Release is the kernel release of the project's kernel package.
const Release = "6.12.0-test-amd64"

// Kernel is the name of the kernel package.
const Kernel = "linux-image-" + Release

// modified is when the mirror says its files were last changed.
var modified = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Project is a checkout in a temporary directory.
type Project struct {
	// Dir holds profiles/ and assets/.
	Dir    string
	Mirror *Mirror
	Lock   *lock.Lock

	packages []Package
}

// profiles are those of the project: node extends base.
var profiles = map[string]string{
	"profiles/base.yaml": `name: base
abstract: true
description: what every image of the test has
debian:
  suite: trixie
  packages: [base-files, base-passwd]
delivery: verity
`,
	"profiles/node.yaml": `name: node
extends: base
description: the smallest image
image:
  id: testnode
  version: 1.2.3
debian:
  packages: [hello]
kernel:
  package: ` + Kernel + `
  arguments: [quiet]
  modules: ["drivers/misc/*"]
initrd:
  packages: [base-files, hello, systemd-boot-efi]
  files: ["/usr/share/hello/greeting"]
  modules: ["drivers/misc/tiny"]
  assets:
    - {path: /etc/early.conf, source: early.conf}
components: [pause]
files:
  - {path: /etc/node.conf, source: node.conf}
layout:
  esp: 33MiB
  root: 64MiB
  sectorSize: 512
`,
	"assets/early.conf": "early = true\n",
	"assets/node.conf":  "size = small\n",
}

// New returns a project whose cache is cold. The test is skipped where there is no kmod.
func New(t testing.TB) *Project {
	t.Helper()
	p := &Project{Dir: t.TempDir(), packages: slices.Clone(packages(t))}
	for name, content := range profiles {
		p.Write(t, name, content)
	}
	p.copyComponent(t, "pause")
	p.Mirror = newMirror(t, p.packages)
	p.Lock = p.lock()
	p.SaveLock(t)
	return p
}

// made keeps the packages: compressing them once per process is enough.
var made struct {
	sync.Mutex
	packages []Package
}

func packages(t testing.TB) []Package {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.packages != nil {
		return made.packages
	}
	stub := string(ukitest.Stub("amd64"))
	made.packages = []Package{
		Deb(t, "base-files", "13", File{Path: "/bin", Link: "usr/bin"}, File{Path: "/lib", Link: "usr/lib"}, File{Path: "/lib64", Link: "usr/lib64"},
			File{Path: "/sbin", Link: "usr/sbin"}, File{Path: "/etc/debian_version", Content: "13.0\n"}),
		Deb(t, "base-passwd", "3", File{Path: "/usr/share/base-passwd/passwd.master", Content: "root:*:0:0:root:/root:/bin/bash\n"},
			File{Path: "/usr/share/base-passwd/group.master", Content: "root:*:0:\nshadow:*:42:\n"}),
		Deb(t, "hello", "2.10", File{Path: "/usr/share/hello/greeting", Content: strings.Repeat("hello, world\n", 1000)}),
		Deb(t, "kmod", "34", Kmod(t)...),
		kernel(t, "6.12.0-1", stub),
		Deb(t, "systemd-boot-efi", "257", File{Path: "/usr/lib/systemd/boot/efi/linuxx64.efi.stub", Content: stub},
			File{Path: "/usr/lib/systemd/boot/efi/systemd-bootx64.efi", Content: stub}),
	}
	return made.packages
}

// kernel returns the kernel package: an EFI program, one module and what describes it.
func kernel(t testing.TB, version, program string) Package {
	modules := "/usr/lib/modules/" + Release + "/"
	return Deb(t, Kernel, version, File{Path: "/boot/vmlinuz-" + Release, Content: program}, File{Path: modules + "modules.builtin", Content: "kernel/fs/ext4/ext4.ko\n"},
		File{Path: modules + "modules.order", Content: "kernel/drivers/misc/tiny.ko\n"}, File{Path: modules + "kernel/drivers/misc/tiny.ko", Content: Module(t, "tiny")})
}

// KernelOf returns another version of the kernel package, whose kernel has so many bytes.
func (p *Project) KernelOf(t testing.TB, size int) Package {
	t.Helper()
	stub := string(ukitest.Stub("amd64"))
	return kernel(t, "6.12.0-2", stub+strings.Repeat("\x00", size-len(stub)))
}

// lock returns the lock of the project.
func (p *Project) lock() *lock.Lock {
	digest := strings.Repeat("0a", 32)
	l := &lock.Lock{
		Version: lock.FormatVersion, Architecture: "amd64",
		Archives: []lock.Archive{{Name: "debian", Suite: "trixie", Date: modified.Format(time.RFC1123), InRelease: digest, SignedBy: []string{strings.Repeat("AB", 20)}}},
		Sets: map[string][]string{
			lock.RootSet("node"):   {"base-files", "base-passwd", "hello", Kernel},
			lock.InitrdSet("node"): {"base-files", "hello", "systemd-boot-efi"},
			lock.ToolSet("kmod"):   {"kmod"},
		},
	}
	for _, pkg := range p.packages {
		l.Packages = append(l.Packages, pkg.Pin)
	}
	return l
}

// SaveLock pins the component as it is and writes p.Lock to the checkout.
func (p *Project) SaveLock(t testing.TB) {
	t.Helper()
	c, err := gomod.Load(p.Dir, "pause")
	if err != nil {
		t.Fatal(err)
	}
	pin := lock.Module{Component: c.Name, Path: c.Module.Path, Version: c.Module.Version}
	if pin.Recipe, err = c.LockRecipe(); err != nil {
		t.Fatal(err)
	}
	p.Lock.Modules = []lock.Module{pin}
	if err := p.Lock.Save(lock.Path(p.Dir, "amd64")); err != nil {
		t.Fatal(err)
	}
}

// Package returns a package of the project.
func (p *Project) Package(t testing.TB, name string) Package {
	t.Helper()
	i := slices.IndexFunc(p.packages, func(pkg Package) bool { return pkg.Pin.Name == name })
	if i < 0 {
		t.Fatalf("the project has no package %s", name)
	}
	return p.packages[i]
}

// Packages returns how many packages the lock pins.
func (p *Project) Packages() int { return len(p.packages) }

// Replace publishes another version of a package and pins it.
func (p *Project) Replace(t testing.TB, pkg Package) {
	t.Helper()
	i := slices.IndexFunc(p.Lock.Packages, func(old lock.Package) bool { return old.Name == pkg.Pin.Name })
	p.Lock.Packages[i], p.packages[i] = pkg.Pin, pkg
	p.Mirror.mu.Lock()
	p.Mirror.files[pkg.Pin.Path] = pkg.Bytes
	p.Mirror.mu.Unlock()
	p.SaveLock(t)
}

// Write writes a file of the checkout.
func (p *Project) Write(t testing.TB, name, content string) {
	t.Helper()
	file := filepath.Join(p.Dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Edit replaces text in a file of the checkout.
func (p *Project) Edit(t testing.TB, name, old, new string) {
	t.Helper()
	content := read(t, filepath.Join(p.Dir, name))
	if !strings.Contains(content, old) {
		t.Fatalf("%s does not contain %q", name, old)
	}
	p.Write(t, name, strings.Replace(content, old, new, 1))
}

// copyComponent copies a component of this repository into the project.
func (p *Project) copyComponent(t testing.TB, name string) {
	t.Helper()
	dir := filepath.Join("assets/components", name)
	from := os.DirFS(filepath.Join(repository(t), dir))
	err := fs.WalkDir(from, ".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, err := fs.ReadFile(from, file)
			if err != nil {
				return err
			}
			p.Write(t, filepath.Join(dir, file), string(data))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// repository returns the directory with go.mod, above the running test's.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	t.Fatalf("there is no go.mod above %s", dir)
	return ""
}
