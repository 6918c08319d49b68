// SPDX-License-Identifier: Apache-2.0

// Package plan describes a build before any of it happens: every step, what it needs,
// which inputs by digest it consumes and the key its result is stored under. A plan is
// data. Printing, comparing and executing it are other packages' business, and making one
// touches neither network nor disk.
package plan

import (
	"slices"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Kind says which function executes a step. The zero value is invalid.
type Kind string

// The kinds of step.
const (
	Fetch       Kind = "fetch"        // download packages into the store
	Unpack      Kind = "unpack"       // packages to indexed flat files
	Component   Kind = "component"    // compile a Go module
	Release     Kind = "release"      // an official artefact
	Tool        Kind = "tool"         // lay out a locked program to run it
	ModuleIndex Kind = "module-index" // depmod over the selected modules
	BaseImage   Kind = "base-image"   // the one preloaded OCI image
	Initrd      Kind = "initrd"       // the initial RAM disk
	Root        Kind = "root"         // the root file system in memory
	Image       Kind = "image"        // EROFS, verity, UKI, ESP, GPT

	// InitrdModules is ModuleIndex for the modules of the initial RAM disk.
	InitrdModules Kind = "initrd-modules"
)

// Input is something a step consumes, pinned by digest.
type Input struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// Digest is a hex SHA-256: of the bytes, or of what produces them.
	Digest string `json:"digest"`
	// Size is the number of bytes to download, when that is what obtains the input.
	Size   int64  `json:"size,omitempty"`
	Origin string `json:"origin,omitempty"`
	Cached bool   `json:"cached"`
}

// Step is one unit of work.
type Step struct {
	Name    string   `json:"name"`
	Kind    Kind     `json:"kind"`
	Purpose string   `json:"purpose"`
	Needs   []string `json:"needs,omitempty"`
	Inputs  []Input  `json:"inputs"`
	// Key is where the store keeps the result; empty for steps whose result is not kept.
	Key store.Key `json:"key,omitempty"`
	// Cached is filled by MarkCached: the store has the result already.
	Cached bool `json:"cached"`
}

// Plan is a build as data. Steps are in an order that satisfies every Needs.
type Plan struct {
	Profile      string `json:"profile"`
	Architecture string `json:"architecture"`
	// Key identifies the image: equal keys mean equal bytes.
	Key    store.Key `json:"key"`
	Output string    `json:"output"`
	// Timestamp is the time of every file in the image, in seconds since the epoch: the
	// date of the newest archive index the lock was made from.
	Timestamp int64   `json:"timestamp"`
	Steps     []*Step `json:"steps"`
}

// ComponentSpec is what the plan needs to know of a component.
type ComponentSpec struct {
	Name, Version, Purpose string
	Key                    store.Key
}

// ReleaseSpec is an official artefact, as the lock pins it.
type ReleaseSpec struct {
	Name, Version, SHA256, URL string
	// Key is where the store keeps its files.
	Key store.Key
}

// Spec is everything a plan is made from.
type Spec struct {
	Profile    *profile.Profile
	Lock       *lock.Lock
	Components []ComponentSpec
	// Assets holds the digest of every asset file the profile refers to, by path.
	Assets map[string]string
	// Host is the lock of the machine that builds, which the programs that run here come
	// from; nil when it is Lock.
	Host *lock.Lock
	// Releases are the official artefacts of the profile.
	Releases []ReleaseSpec
	// ProfileDigest is the SHA-256 of the merged profile in its canonical form.
	ProfileDigest string
	// Builder is the SHA-256 of the program that builds: changed code means a new image.
	Builder string
	Output  string
	// UnpackKey returns the store key of a package's unpacked form.
	UnpackKey func(lock.Package) store.Key
}

// New returns the plan of s. Errors have the classes MissingPin, for what the profile names
// and the lock lacks, and Config.
func New(s Spec) (*Plan, error) {
	b := &planner{Spec: s, p: &Plan{Profile: s.Profile.Name, Architecture: s.Lock.Architecture, Output: s.Output}}
	if err := b.readLock(); err != nil {
		return nil, err
	}
	b.packages()
	b.programs()
	if err := b.modules(); err != nil {
		return nil, err
	}
	b.baseImage()
	b.ramdisk()
	b.image()
	return b.p, nil
}

// Step returns the step of that name, or nil.
func (p *Plan) Step(name string) *Step {
	i := slices.IndexFunc(p.Steps, func(s *Step) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return p.Steps[i]
}
