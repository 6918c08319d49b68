// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/store"
)

// digest returns a SHA-256 that begins with name's bytes.
func digest(name string) string {
	return fmt.Sprintf("%-64.64s", fmt.Sprintf("%x", name))[:64]
}

func hex(name string) string { return strings.ReplaceAll(digest(name), " ", "0") }

// sample returns a plan's input in which every kind of input occurs.
func sample() plan.Spec {
	pkg := func(name string) lock.Package {
		return lock.Package{Name: name, Version: "1", Archive: "debian", Suite: "trixie", Path: "pool/" + name, Size: 100, SHA256: hex(name)}
	}
	return plan.Spec{
		Profile: &profile.Profile{
			Name:       "node",
			Kernel:     profile.Kernel{Package: "linux-image-amd64", Modules: []string{"fs/*", "net/*"}},
			Components: []string{"agent", "pause"},
			Files:      []profile.File{{Path: "/etc/a", Source: "a"}},
			Initrd:     profile.Initrd{Components: []string{"ignition"}, Modules: []string{"md/*"}, Assets: []profile.File{{Path: "/etc/b", Source: "b"}}},
		},
		Lock: &lock.Lock{
			Architecture: "amd64",
			Archives: []lock.Archive{
				{Name: "debian", Suite: "trixie", Date: "Sat, 12 Sep 2026 07:55:41 UTC"},
				{Name: "debian", Suite: "trixie-updates", Date: "Fri, 20 Nov 2026 02:11:10 UTC"}},
			Packages: []lock.Package{pkg("base-files"), pkg("kmod"), pkg("libc6"), pkg("linux-image-6.12-amd64"), pkg("linux-image-amd64"), pkg("udev"), pkg("unused")},
			Sets: map[string][]string{
				"root/node":   {"base-files", "libc6", "linux-image-6.12-amd64", "linux-image-amd64"},
				"initrd/node": {"base-files", "libc6", "udev"},
				"tool/kmod":   {"libc6", "kmod"},
			},
		},
		Components: []plan.ComponentSpec{
			{Name: "agent", Version: "v1", Purpose: "agent", Key: store.Key(hex("agent"))},
			{Name: "ignition", Version: "v2", Purpose: "ignition", Key: store.Key(hex("ignition"))},
			{Name: "pause", Version: "v3", Purpose: "pause", Key: store.Key(hex("pause"))},
		},
		Assets:        map[string]string{"a": hex("asset a"), "b": hex("asset b")},
		ProfileDigest: hex("profile"), Builder: hex("builder"), Output: "out/node.raw",
		UnpackKey: func(p lock.Package) store.Key { return store.NewKey("unpacked", 1, p.SHA256) },
	}
}

func mustPlan(t *testing.T, s plan.Spec) *plan.Plan {
	t.Helper()
	p, err := plan.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOrderSatisfiesNeeds(t *testing.T) {
	p := mustPlan(t, sample())
	done := map[string]bool{}
	for _, s := range p.Steps {
		if done[s.Name] {
			t.Errorf("two steps are called %s", s.Name)
		}
		for _, need := range s.Needs {
			if !done[need] {
				t.Errorf("%s needs %s, which does not come before it", s.Name, need)
			}
		}
		if s.Purpose == "" || s.Kind == "" || len(s.Inputs) == 0 {
			t.Errorf("step %+v lacks a purpose, a kind or inputs", s)
		}
		for _, in := range s.Inputs {
			if len(in.Digest) != 64 || in.Name == "" {
				t.Errorf("%s: input %+v is not pinned", s.Name, in)
			}
		}
		done[s.Name] = true
	}
	for _, name := range []string{"fetch", "unpack", "component/pause", "tool/kmod", "module-index", "initrd-modules", "base-image", "initrd", "root", "image"} {
		if p.Step(name) == nil {
			t.Errorf("there is no step %s", name)
		}
	}
	if p.Step("none") != nil {
		t.Error("there is a step none")
	}
	if p.Timestamp != 1795140670 { // date -ud 'Fri, 20 Nov 2026 02:11:10 UTC' +%s
		t.Errorf("timestamp %d is not that of the newest archive", p.Timestamp)
	}
}

// fetched are the packages of any set once, and no others.
func TestFetchesEachPackageOnce(t *testing.T) {
	var got []string
	for _, in := range mustPlan(t, sample()).Step("fetch").Inputs {
		got = append(got, in.Name)
	}
	if want := []string{"base-files", "kmod", "libc6", "linux-image-6.12-amd64", "linux-image-amd64", "udev"}; !slices.Equal(got, want) {
		t.Errorf("fetches %q, want %q", got, want)
	}
}

// keys returns every key of a plan by step; the image's is the plan's.
func keys(p *plan.Plan) map[string]string {
	out := map[string]string{"image": string(p.Key)}
	for _, s := range p.Steps {
		if s.Key != "" {
			out[s.Name] = string(s.Key)
		}
	}
	return out
}

func TestKeysChangeWithInputsOnly(t *testing.T) {
	before := keys(mustPlan(t, sample()))
	repin := func(name string) func(*plan.Spec) {
		return func(s *plan.Spec) {
			for i := range s.Lock.Packages {
				if s.Lock.Packages[i].Name == name {
					s.Lock.Packages[i].SHA256 = hex("new " + name)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*plan.Spec)
		want   []string // steps whose key changes
	}{
		"nothing":                  {func(*plan.Spec) {}, nil},
		"output":                   {func(s *plan.Spec) { s.Output = "/elsewhere.raw" }, nil},
		"package of no set":        {repin("unused"), nil},
		"package of the root":      {repin("linux-image-amd64"), []string{"image"}},
		"package of the initrd":    {repin("udev"), []string{"image", "initrd"}},
		"kernel":                   {repin("linux-image-6.12-amd64"), []string{"image", "initrd", "initrd-modules", "module-index"}},
		"depmod":                   {repin("kmod"), []string{"image", "initrd", "initrd-modules", "module-index", "tool/kmod"}},
		"package of everything":    {repin("libc6"), []string{"image", "initrd", "initrd-modules", "module-index", "tool/kmod"}},
		"version without bytes":    {func(s *plan.Spec) { s.Lock.Packages[2].Version = "2" }, nil},
		"component of the root":    {func(s *plan.Spec) { s.Components[0].Key = store.Key(hex("x")) }, []string{"component/agent", "image"}},
		"component of the initrd":  {func(s *plan.Spec) { s.Components[1].Key = store.Key(hex("x")) }, []string{"component/ignition", "image", "initrd"}},
		"component of the pods":    {func(s *plan.Spec) { s.Components[2].Key = store.Key(hex("x")) }, []string{"base-image", "component/pause", "image"}},
		"asset of the root":        {func(s *plan.Spec) { s.Assets["a"] = hex("x") }, []string{"image"}},
		"asset of the initrd":      {func(s *plan.Spec) { s.Assets["b"] = hex("x") }, []string{"image", "initrd"}},
		"profile":                  {func(s *plan.Spec) { s.ProfileDigest = hex("x") }, []string{"image", "initrd"}},
		"program":                  {func(s *plan.Spec) { s.Builder = hex("x") }, []string{"base-image", "image", "initrd"}},
		"date of the newest index": {func(s *plan.Spec) { s.Lock.Archives[1].Date = "Fri, 20 Nov 2026 02:11:11 UTC" }, []string{"image"}},
		"date of an older index":   {func(s *plan.Spec) { s.Lock.Archives[0].Date = "Sun, 13 Sep 2026 07:55:41 UTC" }, nil},
		"modules of the kernel":    {func(s *plan.Spec) { s.Profile.Kernel.Modules = []string{"fs/*"} }, []string{"image", "module-index"}},
		"modules of the initrd":    {func(s *plan.Spec) { s.Profile.Initrd.Modules = nil }, []string{"image", "initrd", "initrd-modules"}},
		"compression of modules":   {func(s *plan.Spec) { s.Profile.Kernel.Compressed = []string{"fs/*"} }, []string{"image", "module-index"}},
		// The same list of globs, cut elsewhere.
		"modules moved to the compressed": {func(s *plan.Spec) {
			k := &s.Profile.Kernel
			k.Modules, k.Compressed = k.Modules[:1], k.Modules[1:]
		}, []string{"image", "module-index"}},
		"modules moved to the initrd": {func(s *plan.Spec) {
			s.Profile.Kernel.Modules, s.Profile.Initrd.Modules = []string{"fs/*"}, []string{"net/*", "md/*"}
		}, []string{"image", "initrd", "initrd-modules", "module-index"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := sample()
			c.change(&s)
			var changed []string
			after := keys(mustPlan(t, s))
			for _, step := range slices.Sorted(maps.Keys(after)) {
				if after[step] != before[step] {
					changed = append(changed, step)
				}
			}
			if !slices.Equal(changed, c.want) {
				t.Errorf("changes the keys of %q, want %q", changed, c.want)
			}
		})
	}
}

// Programs that run here come from the lock of this machine, whatever the image is for.
func TestToolsOfTheHost(t *testing.T) {
	s := sample()
	host := *s.Lock
	host.Packages = []lock.Package{{Name: "kmod", Version: "1", SHA256: hex("kmod here")}}
	host.Sets = map[string][]string{"tool/kmod": {"kmod"}}
	s.Lock.Architecture, s.Host = "arm64", &host
	delete(s.Lock.Sets, "tool/kmod")
	p := mustPlan(t, s)
	if in := p.Step("tool/kmod").Inputs; len(in) != 1 || in[0].Digest != hex("kmod here") {
		t.Errorf("the tool is made of %+v", in)
	}
	if !slices.ContainsFunc(p.Step("fetch").Inputs, func(in plan.Input) bool { return in.Digest == hex("kmod here") }) {
		t.Error("the host's package is not fetched")
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*plan.Spec)
		class  fault.Class
		want   string
	}{
		"no root":   {func(s *plan.Spec) { delete(s.Lock.Sets, "root/node") }, fault.MissingPin, "root/node"},
		"no initrd": {func(s *plan.Spec) { delete(s.Lock.Sets, "initrd/node") }, fault.MissingPin, "initrd/node"},
		"no depmod": {func(s *plan.Spec) { delete(s.Lock.Sets, "tool/kmod") }, fault.MissingPin, "tool/kmod"},
		"no kernel": {func(s *plan.Spec) { s.Lock.Sets["root/node"] = []string{"libc6"} }, fault.Config, "brings 0 kernels"},
		"two kernels": {func(s *plan.Spec) {
			s.Lock.Packages[0].Name, s.Lock.Sets["root/node"][0] = "linux-image-6.1", "linux-image-6.1"
			s.Lock.Sets["initrd/node"] = nil
		}, fault.Config, "brings 2 kernels"},
		"date": {func(s *plan.Spec) { s.Lock.Archives[0].Date = "yesterday" }, fault.Config, "yesterday"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sample()
			c.change(&s)
			_, err := plan.New(s)
			if fault.ClassOf(err) != c.class || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("error %v, want class %d with %q", err, c.class, c.want)
			}
		})
	}
}

func TestIsKernel(t *testing.T) {
	for name, want := range map[string]bool{"linux-image-6.12.107+deb13-amd64": true, "linux-image-amd64": false, "linux-image-": false, "linux-base": false} {
		if plan.IsKernel(name) != want {
			t.Errorf("IsKernel(%q) = %t", name, !want)
		}
	}
}
