// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/source/release"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// loadReleases finds what the profile names in the pin file and holds it to the lock.
func (p *Project) loadReleases() ([]plan.ReleaseSpec, error) {
	if len(p.profile.Releases) == 0 {
		return nil, nil
	}
	pins, err := release.Load(filepath.Join(p.Root, filepath.FromSlash(release.FileName)))
	if err != nil {
		return nil, err
	}
	var specs []plan.ReleaseSpec
	var problems []error
	for _, want := range p.profile.Releases {
		r, err := pins.Find(want.Name, want.Version)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		spec, err := p.checkRelease(r)
		problems = append(problems, err)
		p.releases[want.Name] = r
		specs = append(specs, spec)
	}
	return specs, errors.Join(problems...)
}

// checkRelease refuses a release that the pin file describes otherwise than the lock.
func (p *Project) checkRelease(r *release.Release) (plan.ReleaseSpec, error) {
	locked, err := p.lock.Release(r.Name, r.Version)
	if err != nil {
		return plan.ReleaseSpec{}, err
	}
	pin, err := r.Lock(p.Arch)
	if err != nil {
		return plan.ReleaseSpec{}, err
	}
	if pin.URL != locked.URL || pin.SHA256 != locked.SHA256 {
		return plan.ReleaseSpec{}, fault.New(fault.MissingPin, "compare "+release.FileName+" with what the project published, then run 'imgbuild lock'",
			"release %s is %s (%.12s), the lock for %s pins %s (%.12s)", r, pin.URL, pin.SHA256, p.Arch, locked.URL, locked.SHA256)
	}
	key, err := r.Key(p.Arch)
	return plan.ReleaseSpec{Name: r.Name, Version: r.Version, SHA256: pin.SHA256, URL: pin.URL, Key: key}, err
}

// takeRelease downloads an artefact, unless its files are in the store, and unpacks it.
func takeRelease(ctx context.Context, w *work, s *plan.Step) error {
	r := w.releases[s.Inputs[0].Name]
	if _, ok := w.Store.Lookup(s.Key); !ok {
		if err := release.Fetch(ctx, w.Store, []*release.Release{r}, w.Arch, w.ReleaseMirror, w.fetchOptions()); err != nil {
			return err
		}
	}
	entry, err := r.Unpack(ctx, w.Store, w.Arch)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released[r.Name] = entry
	return nil
}

// programs returns those of components and releases. Two that want the same place are an
// error: one of them would be missing from the image without anybody noticing.
func (w *work) programs() ([]tree.Node, error) {
	nodes, err := w.componentNodes(w.profile.Components)
	if err != nil {
		return nil, err
	}
	origin := map[string]string{}
	for _, n := range nodes {
		origin[n.Path] = n.Origin
	}
	var problems []error
	for _, r := range w.profile.Releases {
		t := tree.New()
		if err := release.Place(t, r.Name, w.released[r.Name]); err != nil {
			return nil, err
		}
		for _, n := range t.Nodes() {
			if n.Kind == tree.Directory {
				continue
			}
			if other := origin[n.Path]; other != "" {
				problems = append(problems, fault.New(fault.Config, "leave one of them out of the profile", "%s comes from %s and from %s", n.Path, other, n.Origin))
			}
			origin[n.Path] = n.Origin
			nodes = append(nodes, *n)
		}
	}
	return nodes, errors.Join(problems...)
}

// describeRelease returns what the manifest says about a release.
func (w *work) describeRelease(r profile.Release) manifest.Release {
	out := manifest.Release{Name: r.Name, Version: r.Version, Files: map[string]string{}}
	if pin, err := w.lock.Release(r.Name, r.Version); err == nil { // Load has checked it
		out.URL, out.SHA256 = pin.URL, pin.SHA256
	}
	for _, f := range w.released[r.Name].Files {
		out.Files["/"+f.Path] = string(f.SHA256)
	}
	return out
}
