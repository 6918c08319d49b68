// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
	"github.com/imgbuild/imgbuild/builder/source/release"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Load reads a profile, its lock and its components and plans the build of an image. It
// writes nothing and does no network I/O. Output names the image file; empty takes
// out/<profile>-<arch>.raw below the root.
func Load(ctx context.Context, env Env, name, output string) (*Project, error) {
	// What takes longest needs nothing of the rest, so it begins first.
	toolchain := sync.OnceValues(func() (*gomod.Toolchain, error) { return gomod.FindToolchain(ctx, env.Store.Dir()) })
	program := sync.OnceValues(programDigest)
	go toolchain()
	go program()
	p := &Project{Env: env, components: map[string]*gomod.Component{}, releases: map[string]*release.Release{}}
	var err error
	if p.profile, err = profile.Load(os.DirFS(env.Root), name); err != nil {
		return nil, err
	}
	if p.profile.Abstract {
		return nil, fault.New(fault.Config, "see 'imgbuild profiles' for those that can be built", "profile %s is abstract", name)
	}
	if p.lock, err = lock.Load(lock.Path(env.Root, env.Arch)); err != nil {
		return nil, err
	}
	if err := p.lock.Check(p.profile); err != nil {
		return nil, err
	}
	p.host = p.lock
	if env.Arch != hostArch {
		if p.host, err = lock.Load(lock.Path(env.Root, hostArch)); err != nil {
			return nil, err
		}
	}
	p.Output = output
	if output == "" {
		p.Output = filepath.Join(env.Root, "out", ImageName(p.profile, env.Arch))
	}
	if err := p.checkOutput(); err != nil {
		return nil, err
	}
	go_, err := toolchain()
	if err != nil {
		return nil, err
	}
	p.toolchain = go_.Version
	spec := plan.Spec{Profile: p.profile, Lock: p.lock, Host: p.host, Output: p.Output, UnpackKey: deb.UnpackKey}
	if spec.Components, err = p.loadComponents(); err != nil {
		return nil, err
	}
	if spec.Releases, err = p.loadReleases(); err != nil {
		return nil, err
	}
	if spec.Assets, err = p.digestAssets(); err != nil {
		return nil, err
	}
	if spec.Builder, err = program(); err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(p.profile)
	if err != nil {
		return nil, err
	}
	spec.ProfileDigest = hexDigest(canonical)
	if p.Plan, err = plan.New(spec); err != nil {
		return nil, err
	}
	p.Plan.MarkCached(env.Store)
	return p, nil
}

// ImageName returns the file name of a profile's image. Debug images say so.
func ImageName(p *profile.Profile, arch string) string {
	if p.Debug {
		return p.Name + "-debug-" + arch + ".raw"
	}
	return p.Name + "-" + arch + ".raw"
}

// loadComponents loads what the profile and its initrd name, and the pause program that
// the base image is made of.
func (p *Project) loadComponents() ([]plan.ComponentSpec, error) {
	names := slices.Concat(p.profile.Components, p.profile.Initrd.Components, []string{"pause"})
	slices.Sort(names)
	var specs []plan.ComponentSpec
	var problems []error
	for _, name := range slices.Compact(names) {
		c, key, err := LoadComponent(p.Root, name, p.toolchain, p.Arch)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if err := p.checkPin(c); err != nil {
			problems = append(problems, err)
			continue
		}
		p.components[name] = c
		specs = append(specs, plan.ComponentSpec{Name: name, Version: c.Module.Version, Purpose: c.Description, Key: key})
	}
	return specs, errors.Join(problems...)
}

// checkPin refuses a component that is not the one the lock was made for. The lock says
// what an image is made of, to readers who do not have the checkout at hand: a build that
// uses something else would make it lie.
func (p *Project) checkPin(c *gomod.Component) error {
	pin, err := p.lock.Module(c.Name)
	if err != nil {
		return err
	}
	recipe, err := c.LockRecipe()
	if err != nil {
		return err
	}
	const hint = "run 'imgbuild lock', which pins it as it is now and shows what else changes"
	switch {
	case pin.Path != c.Module.Path || pin.Version != c.Module.Version:
		return fault.New(fault.MissingPin, hint, "component %s is %s %s, the lock for %s pins %s %s",
			c.Name, c.Module.Path, c.Module.Version, p.lock.Architecture, pin.Path, pin.Version)
	case pin.Recipe != recipe:
		return fault.New(fault.MissingPin, hint, "the files of component %s in %s changed after the lock for %s was written (recipe %.12s, the lock pins %.12s)",
			c.Name, path.Join(gomod.Directory, c.Name), p.lock.Architecture, recipe, pin.Recipe)
	}
	return nil
}

// LoadComponent returns a component and the key of its programs in the store.
func LoadComponent(root, name, toolchain, arch string) (*gomod.Component, store.Key, error) {
	c, err := gomod.Load(root, name)
	if err != nil {
		return nil, "", err
	}
	recipe, err := c.Recipe()
	if err != nil {
		return nil, "", err
	}
	return c, store.Key(gomod.Key(recipe, toolchain, "linux", arch)), nil
}

// digestAssets returns the digest of every asset the profile refers to.
func (p *Project) digestAssets() (map[string]string, error) {
	digests := map[string]string{}
	var problems []error
	for _, f := range slices.Concat(p.profile.Files, p.profile.Initrd.Assets) {
		if f.Source == "" {
			continue
		}
		data, err := fs.ReadFile(p.assets(), f.Source)
		if err != nil {
			problems = append(problems, fault.Wrap(fault.Config, fmt.Errorf("profile %s: file %s: source: %w", p.profile.Name, f.Path, err),
				"sources are paths below assets/"))
			continue
		}
		digests[f.Source] = hexDigest(data)
	}
	return digests, errors.Join(problems...)
}

// programDigest identifies the code that builds: the running executable.
func programDigest() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
