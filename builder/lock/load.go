// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// FormatVersion is the version of the lock file's format.
const FormatVersion = 1

// Path returns where the lock of an architecture is in the checkout at root.
func Path(root, architecture string) string {
	return filepath.Join(root, profile.Dir, "lock."+architecture+".yaml")
}

// Load reads and validates the lock file name. Every problem is reported at once; the
// class is Config, or MissingPin when there is no such file.
func Load(name string) (*Lock, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.MissingPin, "run 'imgbuild lock' to make it", "there is no lock file %s", name)
	}
	if err != nil {
		return nil, err
	}
	return Decode(name, data)
}

// Decode is Load for bytes in memory; name is used in messages.
func Decode(name string, data []byte) (*Lock, error) {
	var l Lock
	doc := strict.Decode(name, data, &l)
	validate(doc, &l)
	if err := doc.Err(); err != nil {
		return nil, fault.Wrap(fault.Config, err, "run 'imgbuild lock' to write "+filepath.Base(name)+" anew; it is not meant to be edited by hand")
	}
	return &l, nil
}

// Package returns the pin of a Debian package.
func (l *Lock) Package(name string) (Package, bool) {
	for _, p := range l.Packages {
		if p.Name == name {
			return p, true
		}
	}
	return Package{}, false
}

// Set returns the packages of a set, dependencies first. The error is of class MissingPin
// when the lock does not have the set.
func (l *Lock) Set(name string) ([]Package, error) {
	names, ok := l.Sets[name]
	if !ok {
		return nil, fault.New(fault.MissingPin, "run 'imgbuild lock'", "the lock for %s has no set %q", l.Architecture, name)
	}
	byName := make(map[string]Package, len(l.Packages))
	for _, p := range l.Packages {
		byName[p.Name] = p
	}
	out := make([]Package, 0, len(names))
	for _, n := range names {
		p, ok := byName[n]
		if !ok {
			return nil, fault.New(fault.MissingPin, "run 'imgbuild lock'", "the lock for %s has no package %q, which its set %q names", l.Architecture, n, name)
		}
		out = append(out, p)
	}
	return out, nil
}

// Module returns the pin of a component.
func (l *Lock) Module(component string) (Module, error) {
	for _, m := range l.Modules {
		if m.Component == component {
			return m, nil
		}
	}
	return Module{}, fault.New(fault.MissingPin, "run 'imgbuild lock'", "the lock for %s does not pin the component %q", l.Architecture, component)
}

// Release returns the pin of a version of an official artefact.
func (l *Lock) Release(name, version string) (Release, error) {
	for _, r := range l.Releases {
		if r.Name == name && r.Version == version && r.Architecture == l.Architecture {
			return r, nil
		}
	}
	return Release{}, fault.New(fault.MissingPin, "run 'imgbuild lock'", "the lock for %s does not pin the release %s %s", l.Architecture, name, version)
}

// missingFrom describes every package of want that the set lacks.
func (l *Lock) missingFrom(set string, want []string) []string {
	have := map[string]bool{}
	for _, n := range l.Sets[set] {
		have[n] = true
	}
	var out []string
	for _, n := range want {
		if !have[n] {
			out = append(out, fmt.Sprintf("package %s of %s", n, set))
		}
	}
	return out
}
