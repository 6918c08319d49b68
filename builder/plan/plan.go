// SPDX-License-Identifier: Apache-2.0

// Package plan describes a build before any of it happens: every step, what it needs,
// which inputs by digest it consumes and the key its result is stored under. A plan is
// data. Printing, comparing and executing it are other packages' business, and making one
// touches neither network nor disk.
package plan

import (
	"slices"

	"github.com/imgbuild/imgbuild/builder/fault"
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
	root, err := s.Lock.Set("root/" + s.Profile.Name)
	if err != nil {
		return nil, err
	}
	ramdisk, err := s.Lock.Set("initrd/" + s.Profile.Name)
	if err != nil {
		return nil, err
	}
	host := s.Host
	if host == nil {
		host = s.Lock
	}
	kmod, err := host.Set("tool/kmod")
	if err != nil {
		return nil, err
	}

	dated, err := timestamp(s.Lock)
	if err != nil {
		return nil, err
	}
	p := &Plan{Profile: s.Profile.Name, Architecture: s.Lock.Architecture, Output: s.Output, Timestamp: dated}
	all := union(root, ramdisk, kmod)
	p.add(&Step{Name: "fetch", Kind: Fetch, Purpose: "download what the lock pins into the store", Inputs: packageInputs(all)})
	unpack := p.add(&Step{Name: "unpack", Kind: Unpack, Purpose: "turn packages into indexed contents", Needs: []string{"fetch"}})
	for _, pkg := range all {
		unpack.Inputs = append(unpack.Inputs, Input{Name: pkg.Name, Version: pkg.Version, Digest: string(s.UnpackKey(pkg))})
	}
	components := map[string]Input{}
	for _, c := range s.Components {
		in := Input{Name: c.Name, Version: c.Version, Digest: string(c.Key), Origin: "gomod"}
		components[c.Name] = in
		p.add(&Step{Name: "component/" + c.Name, Kind: Component, Purpose: c.Purpose, Inputs: []Input{in}, Key: c.Key})
	}
	var released []Input
	for _, r := range s.Releases {
		in := Input{Name: r.Name, Version: r.Version, Digest: r.SHA256, Origin: r.URL}
		p.add(&Step{Name: "release/" + r.Name, Kind: Release, Purpose: "programs as their project releases them", Inputs: []Input{in}, Key: r.Key})
		released = append(released, Input{Name: "release " + r.Name, Version: r.Version, Digest: string(r.Key), Origin: r.URL})
	}

	tool := p.add(&Step{Name: "tool/kmod", Kind: Tool, Purpose: "depmod, run through its own loader", Needs: []string{"unpack"},
		Inputs: packageInputs(kmod)})
	tool.Key = key(Tool, tool.Inputs)

	kernel := pick(root, func(pkg lock.Package) bool { return IsKernel(pkg.Name) })
	if len(kernel) != 1 {
		return nil, fault.New(fault.Config, "let kernel.package name one kernel, and no other package depend on another, then run 'imgbuild lock'",
			"profile %s: kernel.package %s brings %d kernels into the lock's set root/%[1]s, an image boots exactly one", s.Profile.Name, s.Profile.Kernel.Package, len(kernel))
	}
	index := p.add(&Step{Name: "module-index", Kind: ModuleIndex, Purpose: "select kernel modules and index them",
		Needs: []string{"unpack", "tool/kmod"}, Inputs: packageInputs(kernel)})
	index.Inputs = append(index.Inputs, tool.Inputs...)
	// No glob is absolute, so that none can be taken for the mark between the lists.
	index.Key = key(ModuleIndex, index.Inputs, slices.Concat(s.Profile.Kernel.Modules, []string{"/compressed"}, s.Profile.Kernel.Compressed)...)

	early := p.add(&Step{Name: "initrd-modules", Kind: InitrdModules, Purpose: "the same for the modules of the initial RAM disk",
		Needs: []string{"module-index"}, Inputs: index.Inputs})
	early.Key = key(InitrdModules, early.Inputs, s.Profile.Initrd.Modules...)

	base := p.add(&Step{Name: "base-image", Kind: BaseImage, Purpose: "the image every control-plane pod starts from",
		Needs: []string{"component/pause"}, Inputs: []Input{components["pause"]}})
	base.Key = key(BaseImage, base.Inputs, s.Builder)

	profileInput := Input{Name: "profile", Digest: s.ProfileDigest, Origin: "profiles/"}
	code := Input{Name: "imgbuild", Digest: s.Builder, Origin: "program"}
	date := dateInput(dated)
	rd := p.add(&Step{Name: "initrd", Kind: Initrd, Purpose: "compose the initial RAM disk from locked packages",
		Needs:  []string{"unpack", "initrd-modules"},
		Inputs: append(packageInputs(ramdisk), profileInput, code, Input{Name: early.Name, Digest: string(early.Key)})})
	for _, name := range s.Profile.Initrd.Components {
		rd.Needs = append(rd.Needs, "component/"+name)
		rd.Inputs = append(rd.Inputs, components[name])
	}
	for _, f := range s.Profile.Initrd.Assets {
		if f.Source != "" {
			rd.Inputs = append(rd.Inputs, Input{Name: f.Source, Digest: s.Assets[f.Source], Origin: "assets/"})
		}
	}
	rd.Key = key(Initrd, rd.Inputs)

	fs := p.add(&Step{Name: "root", Kind: Root, Purpose: "packages, components and declarative steps as one tree",
		Needs: []string{"unpack", "module-index", "base-image"}, Inputs: append(packageInputs(root), profileInput, code, date, Input{Name: index.Name, Digest: string(index.Key)})})
	for _, c := range s.Components {
		fs.Needs = append(fs.Needs, "component/"+c.Name)
		fs.Inputs = append(fs.Inputs, components[c.Name])
	}
	for i, r := range s.Releases {
		fs.Needs = append(fs.Needs, "release/"+r.Name)
		fs.Inputs = append(fs.Inputs, released[i])
	}
	for _, source := range sortedKeys(s.Assets) {
		fs.Inputs = append(fs.Inputs, Input{Name: source, Digest: s.Assets[source], Origin: "assets/"})
	}
	image := p.add(&Step{Name: "image", Kind: Image, Purpose: "EROFS, dm-verity, UKI, ESP and GPT into " + s.Output,
		Needs:  []string{"root", "initrd"},
		Inputs: []Input{{Name: "root", Digest: string(key(Root, fs.Inputs))}, {Name: "initrd", Digest: string(rd.Key)}}})
	p.Key = key(Image, image.Inputs)
	return p, nil
}

// Step returns the step of that name, or nil.
func (p *Plan) Step(name string) *Step {
	i := slices.IndexFunc(p.Steps, func(s *Step) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return p.Steps[i]
}

func (p *Plan) add(s *Step) *Step {
	p.Steps = append(p.Steps, s)
	return s
}
