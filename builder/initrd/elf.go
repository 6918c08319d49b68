// SPDX-License-Identifier: Apache-2.0

package initrd

import (
	"bytes"
	"debug/elf"
	"fmt"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// elfDeps is what the dynamic section of a file asks the loader for.
type elfDeps struct {
	needed  []string // DT_NEEDED, and the interpreter as an absolute path
	runpath []string // DT_RUNPATH or DT_RPATH, $ORIGIN not yet replaced
	machine elf.Machine
}

// elfNeeds returns nil for files that are not ELF.
func elfNeeds(n *tree.Node) (*elfDeps, error) {
	if n.Content.Size < 64 {
		return nil, nil
	}
	r, err := n.Content.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	magic := make([]byte, 4)
	if _, err := r.Read(magic); err != nil || string(magic) != elf.ELFMAG {
		return nil, nil
	}
	data, err := n.Content.ReadAll()
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Path, err)
	}
	defer f.Close()
	d := &elfDeps{machine: f.Machine}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			interp := make([]byte, p.Filesz)
			if _, err := p.ReadAt(interp, 0); err != nil {
				return nil, fmt.Errorf("%s: %w", n.Path, err)
			}
			d.needed = append(d.needed, strings.TrimRight(string(interp), "\x00"))
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Path, err)
	}
	d.needed = append(d.needed, libs...)
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := f.DynString(tag)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Path, err)
		}
		for _, v := range values {
			d.runpath = append(d.runpath, strings.Split(v, ":")...)
		}
	}
	return d, nil
}

// libraryDirs are the directories Debian's loader searches without a cache.
func libraryDirs(m elf.Machine) []string {
	triplet := "x86_64-linux-gnu"
	if m == elf.EM_AARCH64 {
		triplet = "aarch64-linux-gnu"
	}
	return []string{"/usr/lib/" + triplet, "/usr/lib"}
}

// findLibrary returns the path, in the packages, of a library as its user names it.
func (s *selector) findLibrary(name, origin string, d *elfDeps) (string, error) {
	dirs := []string{""}
	if !strings.Contains(name, "/") {
		dirs = nil
		for _, dir := range d.runpath {
			dirs = append(dirs, strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(dir))
		}
		dirs = append(dirs, libraryDirs(d.machine)...)
		// A private library may rely on its program having loaded the other one already,
		// which the loader then finds by name: it lies beside it.
		dirs = append(dirs, origin)
	}
	for _, dir := range dirs {
		p := path.Join(dir, name)
		parent, err := s.from.Resolve(path.Dir(p))
		if err != nil {
			return "", err
		}
		p = path.Join(parent, path.Base(p))
		if s.from.Lookup(p) != nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("needs %s, which none of the initrd's packages holds (searched %s)", name, strings.Join(dirs, ", "))
}

// MissingLibraries returns one error for every program or library of a tree that needs a
// shared library the tree does not hold.
func MissingLibraries(t *tree.Tree) []error {
	s := &selector{from: t, to: tree.New()}
	var problems []error
	for _, n := range t.Nodes() {
		if n.Kind != tree.Regular || strings.HasPrefix(n.Path, "/usr/lib/modules/") {
			continue
		}
		deps, err := elfNeeds(n)
		if err != nil {
			problems = append(problems, err)
		}
		if deps == nil {
			continue
		}
		for _, name := range deps.needed {
			if _, err := s.findLibrary(name, path.Dir(n.Path), deps); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", n.Path, err))
			}
		}
	}
	return problems
}
