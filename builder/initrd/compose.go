// SPDX-License-Identifier: Apache-2.0

// Package initrd composes the initial RAM disk from locked packages: the files the
// profile names, the shared libraries they need, selected kernel modules, Ignition and
// our units. Like package rootfs it is a pure function and runs none of what it packs.
package initrd

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/rootfs"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Inputs is everything an initial RAM disk is a function of.
type Inputs struct {
	Profile      *profile.Profile
	Architecture string
	// Packages in dependency order; base-files before all others.
	Packages []rootfs.Package
	// Modules holds the selected kernel modules and their index below /usr/lib/modules.
	Modules *tree.Tree
	// Components are built programs, already at their final paths (Ignition).
	Components []tree.Node
	Assets     fs.FS
}

// Prefixes of the origin of nodes that are not copied from packages, components or kernel.
const (
	originSteps   = "step:"
	originProfile = "initrd:"
)

// Compose returns the tree of the initial RAM disk.
func Compose(in Inputs) (*tree.Tree, error) {
	all := tree.New()
	var problems []error
	for _, p := range in.Packages {
		problems = append(problems, p.AddTo(all))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("initrd: packages: %w", err)
	}
	s := &selector{from: all, to: tree.New()}
	spec := in.Profile.Initrd
	origin := originProfile + in.Profile.Name
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"skeleton", func() error { return skeleton(s.to, all, in) }},
		{"files", func() error { return s.globs(spec.Files) }},
		{"components", func() error { return putAll(s.to, in.Components) }},
		{"libraries", s.libraries},
		{"modules", func() error { return putModules(s.to, in.Modules) }},
		{"assets", func() error { return rootfs.PlaceFiles(s.to, in.Assets, spec.Assets, rootOwner, origin) }},
		{"symlinks", func() error { return rootfs.PlaceSymlinks(s.to, spec.Symlinks, origin) }},
		{"units", func() error { _, err := rootfs.EnableUnits(s.to, spec.Units, origin); return err }},
	} {
		if err := step.run(); err != nil {
			return nil, fmt.Errorf("initrd, step %s: %w", step.name, err)
		}
	}
	return s.to, nil
}

func rootOwner(s string) (uint32, uint32, error) {
	if s != "" && s != "root" && s != "root:root" {
		return 0, 0, fmt.Errorf("owner %q: everything in the initrd belongs to root", s)
	}
	return 0, 0, nil
}

func putAll(t *tree.Tree, nodes []tree.Node) error {
	var problems []error
	for _, n := range nodes {
		problems = append(problems, t.Put(n))
	}
	return errors.Join(problems...)
}

func putModules(t, modules *tree.Tree) error {
	if modules == nil {
		return nil
	}
	var problems []error
	for _, n := range modules.Nodes() {
		if n.Kind != tree.Directory {
			problems = append(problems, t.Put(*n))
		}
	}
	return errors.Join(problems...)
}

// skeleton makes the directories and files that exist in every initial RAM disk.
func skeleton(t, packages *tree.Tree, in Inputs) error {
	var problems []error
	put := func(n tree.Node) { n.Origin = originSteps + "skeleton"; problems = append(problems, t.Put(n)) }
	for _, d := range []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/var", "/root", "/sysroot", "/etc", "/usr/bin", "/usr/sbin", "/usr/lib", "/var/tmp"} {
		put(tree.Node{Path: d, Kind: tree.Directory, Mode: 0o755})
	}
	link := func(p, target string) { put(tree.Node{Path: p, Kind: tree.Symlink, Mode: 0o777, Target: target}) }
	file := func(p, text string) {
		put(tree.Node{Path: p, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes([]byte(text))})
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if n := packages.Lookup("/" + dir); n != nil && n.Kind == tree.Symlink {
			link("/"+dir, n.Target)
		}
	}
	link("/init", "usr/lib/systemd/systemd")
	link("/var/run", "../run")
	// systemd knows that it is in an initrd by this file (os-release(5)).
	file("/usr/lib/initrd-release", rootfs.OSRelease(in.Profile, in.Architecture))
	link("/etc/initrd-release", "../usr/lib/initrd-release")
	link("/etc/os-release", "../usr/lib/initrd-release")
	file("/etc/machine-id", "")
	file("/etc/passwd", "root:x:0:0:root:/root:/usr/sbin/nologin\nsystemd-network:x:998:998::/:/usr/sbin/nologin\nsystemd-resolve:x:997:997::/:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n")
	file("/etc/group", groups)
	file("/etc/shadow", "root:!*:::::::\n")
	file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
	file("/etc/fstab", "")
	link("/etc/resolv.conf", "../run/systemd/resolve/resolv.conf")
	return errors.Join(problems...)
}

// groups holds the names that udev's rules give devices to, with Debian's numbers.
const groups = "root:x:0:\ntty:x:5:\ndisk:x:6:\nlp:x:7:\nkmem:x:15:\ndialout:x:20:\ncdrom:x:24:\ntape:x:26:\n" +
	"audio:x:29:\nvideo:x:44:\nsystemd-journal:x:999:\nsystemd-network:x:998:\nsystemd-resolve:x:997:\ninput:x:994:\nsgx:x:993:\nkvm:x:992:\n" +
	"render:x:991:\nclock:x:990:\nnogroup:x:65534:\n"

// selector copies nodes from the packages to the RAM disk.
type selector struct {
	from, to *tree.Tree
}

// globs copies what matches; a glob that matches nothing is an error.
func (s *selector) globs(globs []string) error {
	var problems []error
	nodes := s.from.Nodes()
	for _, g := range globs {
		hit := false
		for _, n := range nodes {
			ok, err := doublestar.Match(g, n.Path)
			if err != nil {
				problems = append(problems, fmt.Errorf("file glob %q: %w", g, err))
				break
			}
			if !ok || n.Kind == tree.Directory {
				continue
			}
			hit = true
			problems = append(problems, s.copy(n.Path))
		}
		if !hit {
			problems = append(problems, fmt.Errorf("file glob %q matches nothing in the initrd's packages", g))
		}
	}
	return errors.Join(problems...)
}

// copy takes the node at p, and what it leads to when it is a link.
func (s *selector) copy(p string) error {
	n := s.from.Lookup(p)
	if n == nil || s.to.Lookup(p) != nil {
		return nil
	}
	out := *n
	out.Mode &^= 0o6000
	if err := s.to.Put(out); err != nil {
		return err
	}
	if n.Kind != tree.Symlink {
		return nil
	}
	target := n.Target
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(p), target)
	}
	dir, err := s.from.Resolve(path.Dir(target))
	if err != nil {
		return err
	}
	return s.copy(path.Join(dir, path.Base(target)))
}

// libraries adds the shared libraries and loaders of every ELF file, recursively.
func (s *selector) libraries() error {
	var problems []error
	seen := map[string]bool{}
	queue := s.to.Paths()
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		n := s.to.Lookup(p)
		if seen[p] || n == nil || n.Kind != tree.Regular || strings.HasPrefix(p, "/usr/lib/modules/") {
			continue
		}
		seen[p] = true
		deps, err := elfNeeds(n)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if deps == nil {
			continue
		}
		for _, name := range deps.needed {
			lib, err := s.findLibrary(name, path.Dir(p), deps)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", p, err))
				continue
			}
			if err := s.copy(lib); err != nil {
				problems = append(problems, err)
			}
			if final, err := s.to.Resolve(lib); err == nil {
				queue = append(queue, final)
			}
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}
