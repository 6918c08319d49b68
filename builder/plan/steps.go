// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
)

// planner makes a plan step by step. The fields below the plan are results of earlier steps
// that later ones take as inputs.
type planner struct {
	Spec
	p *Plan

	rootSet, initrdSet, kmodSet []lock.Package
	component                   map[string]Input
	released                    []Input
	index, early, initrd        *Step // early is the index of the modules of the initrd
}

func (b *planner) add(s *Step) *Step {
	b.p.Steps = append(b.p.Steps, s)
	return s
}

// readLock takes out of the lock what the plan is about.
func (b *planner) readLock() (err error) {
	if b.rootSet, err = b.Lock.Set(lock.RootSet(b.Profile.Name)); err != nil {
		return err
	}
	if b.initrdSet, err = b.Lock.Set(lock.InitrdSet(b.Profile.Name)); err != nil {
		return err
	}
	host := b.Host
	if host == nil {
		host = b.Lock
	}
	if b.kmodSet, err = host.Set(lock.ToolSet("kmod")); err != nil {
		return err
	}
	b.p.Timestamp, err = timestamp(b.Lock)
	return err
}

func (b *planner) packages() {
	all := union(b.rootSet, b.initrdSet, b.kmodSet)
	b.add(&Step{Name: "fetch", Kind: Fetch, Purpose: "download what the lock pins into the store", Inputs: packageInputs(all)})
	unpack := b.add(&Step{Name: "unpack", Kind: Unpack, Purpose: "turn packages into indexed contents", Needs: []string{"fetch"}})
	for _, pkg := range all {
		unpack.Inputs = append(unpack.Inputs, Input{Name: pkg.Name, Version: pkg.Version, Digest: string(b.UnpackKey(pkg))})
	}
}

// programs are what does not come from packages.
func (b *planner) programs() {
	b.component = map[string]Input{}
	for _, c := range b.Components {
		in := Input{Name: c.Name, Version: c.Version, Digest: string(c.Key), Origin: "gomod"}
		b.component[c.Name] = in
		b.add(&Step{Name: "component/" + c.Name, Kind: Component, Purpose: c.Purpose, Inputs: []Input{in}, Key: c.Key})
	}
	for _, r := range b.Releases {
		in := Input{Name: r.Name, Version: r.Version, Digest: r.SHA256, Origin: r.URL}
		b.add(&Step{Name: "release/" + r.Name, Kind: Release, Purpose: "programs as their project releases them", Inputs: []Input{in}, Key: r.Key})
		b.released = append(b.released, Input{Name: "release " + r.Name, Version: r.Version, Digest: string(r.Key), Origin: r.URL})
	}
}

func (b *planner) modules() error {
	tool := b.add(&Step{Name: "tool/kmod", Kind: Tool, Purpose: "depmod, run through its own loader", Needs: []string{"unpack"},
		Inputs: packageInputs(b.kmodSet)})
	tool.Key = key(Tool, tool.Inputs)

	kernel := pick(b.rootSet, func(pkg lock.Package) bool { return IsKernel(pkg.Name) })
	if len(kernel) != 1 {
		return fault.New(fault.Config, "let kernel.package name one kernel, and no other package depend on another, then run 'imgbuild lock'",
			"profile %s: kernel.package %s brings %d kernels into the lock's set root/%[1]s, an image boots exactly one", b.Profile.Name, b.Profile.Kernel.Package, len(kernel))
	}
	b.index = b.add(&Step{Name: "module-index", Kind: ModuleIndex, Purpose: "select kernel modules and index them",
		Needs: []string{"unpack", "tool/kmod"}, Inputs: append(packageInputs(kernel), tool.Inputs...)})
	// No glob is absolute, so that none can be taken for the mark between the lists.
	b.index.Key = key(ModuleIndex, b.index.Inputs, slices.Concat(b.Profile.Kernel.Modules, []string{"/compressed"}, b.Profile.Kernel.Compressed)...)

	b.early = b.add(&Step{Name: "initrd-modules", Kind: InitrdModules, Purpose: "the same for the modules of the initial RAM disk",
		Needs: []string{"module-index"}, Inputs: b.index.Inputs})
	b.early.Key = key(InitrdModules, b.early.Inputs, b.Profile.Initrd.Modules...)
	return nil
}

func (b *planner) baseImage() {
	s := b.add(&Step{Name: "base-image", Kind: BaseImage, Purpose: "the image every control-plane pod starts from",
		Needs: []string{"component/pause"}, Inputs: []Input{b.component["pause"]}})
	s.Key = key(BaseImage, s.Inputs, b.Builder)
}

// code is the input of everything that this program composes by itself.
func (b *planner) code() []Input {
	return []Input{{Name: "profile", Digest: b.ProfileDigest, Origin: "profiles/"}, {Name: "imgbuild", Digest: b.Builder, Origin: "program"}}
}

func (b *planner) asset(source string) Input {
	return Input{Name: source, Digest: b.Assets[source], Origin: "assets/"}
}

func (b *planner) ramdisk() {
	b.initrd = b.add(&Step{Name: "initrd", Kind: Initrd, Purpose: "compose the initial RAM disk from locked packages",
		Needs:  []string{"unpack", "initrd-modules"},
		Inputs: slices.Concat(packageInputs(b.initrdSet), b.code(), []Input{{Name: b.early.Name, Digest: string(b.early.Key)}})})
	for _, name := range b.Profile.Initrd.Components {
		b.initrd.Needs = append(b.initrd.Needs, "component/"+name)
		b.initrd.Inputs = append(b.initrd.Inputs, b.component[name])
	}
	for _, f := range b.Profile.Initrd.Assets {
		if f.Source != "" {
			b.initrd.Inputs = append(b.initrd.Inputs, b.asset(f.Source))
		}
	}
	b.initrd.Key = key(Initrd, b.initrd.Inputs)
}

// image plans the root, which is kept in memory only, and the image around it.
func (b *planner) image() {
	root := b.add(&Step{Name: "root", Kind: Root, Purpose: "packages, components and declarative steps as one tree",
		Needs:  []string{"unpack", "module-index", "base-image"},
		Inputs: slices.Concat(packageInputs(b.rootSet), b.code(), []Input{dateInput(b.p.Timestamp), {Name: b.index.Name, Digest: string(b.index.Key)}})})
	for _, c := range b.Components {
		root.Needs = append(root.Needs, "component/"+c.Name)
		root.Inputs = append(root.Inputs, b.component[c.Name])
	}
	for i, r := range b.Releases {
		root.Needs = append(root.Needs, "release/"+r.Name)
		root.Inputs = append(root.Inputs, b.released[i])
	}
	for _, source := range sortedKeys(b.Assets) {
		root.Inputs = append(root.Inputs, b.asset(source))
	}
	image := b.add(&Step{Name: "image", Kind: Image, Purpose: "EROFS, dm-verity, UKI, ESP and GPT into " + b.Output,
		Needs:  []string{"root", "initrd"},
		Inputs: []Input{{Name: "root", Digest: string(key(Root, root.Inputs))}, {Name: "initrd", Digest: string(b.initrd.Key)}}})
	b.p.Key = key(Image, image.Inputs)
}
