// SPDX-License-Identifier: Apache-2.0

// Package release takes programs as upstream projects release them: an artefact at a URL
// with a SHA-256, either the program itself or an archive of which rules pick the files.
// What comes out has the places in the image that the same programs have when they are
// built from source (package gomod).
//
// The pins are data, assets/pins/releases.yaml. An artefact that does not have its digest
// is refused, whatever serves it.
package release

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// FileName is where the pins are, below the root of the checkout.
const FileName = "assets/pins/releases.yaml"

// FormatVersion is the version of the pin file's format.
const FormatVersion = 1

// Pins is the content of the pin file.
type Pins struct {
	Version  int       `yaml:"version"`
	Releases []Release `yaml:"releases"`

	file string
}

// Release is one version of one project's artefact, for every architecture.
type Release struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
	// URL may hold {v} for the version and {a} for the architecture.
	URL string `yaml:"url"`
	// Archive is "tar.gz", or empty when the artefact is the program itself.
	Archive string `yaml:"archive,omitempty"`
	// SHA256 of the artefact by architecture.
	SHA256 map[string]string `yaml:"sha256"`
	Files  []File            `yaml:"files"`
}

// File says where one file goes.
type File struct {
	// From is the path of a member of the archive, with {v} and {a} as in URL; empty when
	// the artefact is the file.
	From string `yaml:"from,omitempty"`
	// Path in the image is absolute; one that ends in a slash keeps the base name of From.
	Path string `yaml:"path"`
}

// Load reads and validates the pin file. Every problem is in one error of class Config.
func Load(file string) (*Pins, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Config, err, "the release source needs the pin file "+filepath.Base(file))
	}
	if err != nil {
		return nil, err
	}
	return Decode(file, data)
}

// Decode is Load for bytes in memory; file is used in messages.
func Decode(file string, data []byte) (*Pins, error) {
	p := &Pins{file: file}
	doc := strict.Decode(file, data, p)
	validate(doc, p)
	if err := doc.Err(); err != nil {
		return nil, fault.Wrap(fault.Config, err, "correct "+filepath.Base(file))
	}
	return p, nil
}

// Find returns the pin of a version of a project. The error is of class MissingPin and
// lists what is pinned.
func (p *Pins) Find(name, version string) (*Release, error) {
	var versions, names []string
	for i := range p.Releases {
		r := &p.Releases[i]
		if r.Name == name && r.Version == version {
			return r, nil
		}
		if r.Name == name {
			versions = append(versions, r.Version)
		}
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	hint := "add it to " + p.file + " with the digests its project published"
	if len(versions) > 0 {
		return nil, fault.New(fault.MissingPin, hint, "release %s %s is not pinned; pinned versions: %s", name, version, strings.Join(versions, ", "))
	}
	return nil, fault.New(fault.MissingPin, hint, "release %s is not pinned; pinned are: %s", name, strings.Join(names, ", "))
}

// Lock returns the lock entry of the release for an architecture.
func (r *Release) Lock(arch string) (lock.Release, error) {
	sum, ok := r.SHA256[arch]
	if !ok {
		return lock.Release{}, fault.New(fault.MissingPin, "add the digest its project published",
			"release %s %s is not pinned for %s; pinned are: %s", r.Name, r.Version, arch, strings.Join(slices.Sorted(maps.Keys(r.SHA256)), ", "))
	}
	return lock.Release{Name: r.Name, Version: r.Version, Architecture: arch, URL: r.expand(r.URL, arch), SHA256: sum}, nil
}

// expand replaces {v} and {a}.
func (r *Release) expand(text, arch string) string {
	return strings.NewReplacer("{v}", r.Version, "{a}", arch).Replace(text)
}

// target returns where the file of a rule goes.
func (r *Release) target(f File, arch string) string {
	if strings.HasSuffix(f.Path, "/") {
		return path.Join(f.Path, path.Base(r.expand(f.From, arch)))
	}
	return r.expand(f.Path, arch)
}

// String names the release in messages.
func (r *Release) String() string { return fmt.Sprintf("%s %s", r.Name, r.Version) }
