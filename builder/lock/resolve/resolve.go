// SPDX-License-Identifier: Apache-2.0

// Package resolve makes lock files: it resolves what all profiles and tools of a checkout
// want against the signed Debian archive and asks for the pins of their components. It is
// apart from package lock because builds only read locks and never need an archive index.
package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/source/release"
	"github.com/imgbuild/imgbuild/builder/store"
)

// Options say what to resolve and where to look.
type Options struct {
	// Root is the directory that holds profiles/ and assets/.
	Root         string
	Architecture string
	Store        *store.Store
	// Mirror names where Debian mirrors come from; the profiles' own is filled in.
	Mirror deb.MirrorOptions
	// Modules returns the pins of components, which arrive sorted by name.
	Modules func(ctx context.Context, components []string) ([]lock.Module, error)
	// Now is the time that signatures are checked at.
	Now time.Time
	// Keyring holds the trusted keys; nil means those of Debian, which are embedded.
	Keyring openpgp.EntityList
	Fetch   fetch.Options
}

// Path returns the lock file that o is about.
func (o Options) Path() string {
	return lock.Path(o.Root, o.Architecture)
}

// Update resolves a new lock and compares it with the one on disk, which may be absent or
// unreadable: then old is nil. It writes nothing; the caller saves new to Options.Path.
//
// All profiles are resolved together, because the lock holds one version of a package
// for all of them.
func Update(ctx context.Context, o Options) (old, new *lock.Lock, diff lock.Diff, err error) {
	old, err = lock.Load(o.Path())
	if err != nil {
		if c := fault.ClassOf(err); c != fault.MissingPin && c != fault.Config {
			return nil, nil, nil, err
		}
		old = nil // missing or damaged: the new lock replaces it
	}
	if new, err = Resolve(ctx, o); err != nil {
		return old, nil, nil, err
	}
	if err := notOlder(old, new); err != nil {
		return old, nil, nil, err
	}
	return old, new, lock.Compare(old, new), nil
}

// notOlder refuses a mirror that serves an archive as it was before the old lock was made.
// Its signatures are good, but following it would bring back fixed vulnerabilities; the
// main suite has no date of expiry that would tell.
func notOlder(old, new *lock.Lock) error {
	if old == nil {
		return nil
	}
	var problems []error
	for _, a := range new.Archives {
		for _, b := range old.Archives {
			now, err := deb.ParseDate(a.Date)
			before, errOld := deb.ParseDate(b.Date)
			if a.Name == b.Name && a.Suite == b.Suite && err == nil && errOld == nil && now.Before(before) {
				problems = append(problems, fmt.Errorf("%s %s: the mirror serves it as of %s, the lock was made from %s", a.Name, a.Suite, a.Date, b.Date))
			}
		}
	}
	return fault.Wrap(fault.Digest, errors.Join(problems...), "use a current mirror with --mirror; to go back on purpose, remove the lock first")
}

// Resolve makes a lock from the profiles, tools and components of a checkout.
func Resolve(ctx context.Context, o Options) (*lock.Lock, error) {
	profiles, err := loadProfiles(o.Root)
	if err != nil {
		return nil, err
	}
	tools, err := Tools(o.Root)
	if err != nil {
		return nil, err
	}
	ix, err := loadIndex(ctx, o, profiles)
	if err != nil {
		return nil, err
	}
	l := &lock.Lock{Version: lock.FormatVersion, Architecture: o.Architecture, Archives: ix.Archives, Sets: map[string][]string{}}
	packages := map[string]lock.Package{}
	var problems []error
	for _, w := range wants(profiles, tools) {
		set, err := ix.Resolve(w)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		l.Sets[w.Set] = make([]string, len(set))
		for i, p := range set {
			packages[p.Name], l.Sets[w.Set][i] = p, p.Name
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	l.Packages = slices.SortedFunc(maps.Values(packages), func(a, b lock.Package) int { return strings.Compare(a.Name, b.Name) })
	if l.Modules, err = o.Modules(ctx, components(profiles)); err != nil {
		return nil, err
	}
	slices.SortFunc(l.Modules, func(a, b lock.Module) int { return cmp.Compare(a.Component, b.Component) })
	if l.Releases, err = releases(o, profiles); err != nil {
		return nil, err
	}
	return l, nil
}

// releases pins the official artefacts that profiles name, each version once. Their digests
// are those of the pin file, which come from the projects: nothing is downloaded.
func releases(o Options, profiles []*profile.Profile) ([]lock.Release, error) {
	wanted := map[profile.Release]bool{}
	for _, p := range profiles {
		for _, r := range p.Releases {
			wanted[r] = true
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	pins, err := release.Load(filepath.Join(o.Root, filepath.FromSlash(release.FileName)))
	if err != nil {
		return nil, err
	}
	var out []lock.Release
	var problems []error
	for w := range wanted {
		r, err := pins.Find(w.Name, w.Version)
		if err == nil {
			var pin lock.Release
			pin, err = r.Lock(o.Architecture)
			out = append(out, pin)
		}
		problems = append(problems, err)
	}
	slices.SortFunc(out, func(a, b lock.Release) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return out, errors.Join(problems...)
}

// loadProfiles returns the profiles that can be built; all that are invalid are reported.
func loadProfiles(root string) ([]*profile.Profile, error) {
	checkout := os.DirFS(root)
	names, err := profile.List(checkout)
	if err != nil {
		return nil, err
	}
	var out []*profile.Profile
	var problems []error
	for _, name := range names {
		p, err := profile.Load(checkout, name)
		switch {
		case err != nil:
			problems = append(problems, err)
		case !p.Abstract:
			out = append(out, p)
		}
	}
	if len(problems) == 0 && len(out) == 0 {
		problems = append(problems, fault.New(fault.Config, "add one, see docs/reference/profile.md", "%s has no profile that can be built", filepath.Join(root, profile.Dir)))
	}
	return out, errors.Join(problems...)
}

func loadIndex(ctx context.Context, o Options, profiles []*profile.Profile) (*deb.Index, error) {
	suite := profiles[0].Debian.Suite
	for _, p := range profiles {
		if p.Debian.Suite != suite {
			return nil, fault.New(fault.Config, "use one suite in all profiles", "profile %s uses suite %q and profile %s %q; a lock holds one", profiles[0].Name, suite, p.Name, p.Debian.Suite)
		}
		o.Mirror.Profile = cmp.Or(o.Mirror.Profile, p.Debian.Mirror)
	}
	mirrors, err := deb.FindMirrors(o.Mirror)
	if err != nil {
		return nil, err
	}
	return deb.LoadIndex(ctx, deb.IndexOptions{Store: o.Store, Mirrors: mirrors, Architecture: o.Architecture, Suite: suite, Now: o.Now, Keyring: o.Keyring, Fetch: o.Fetch})
}

// wants lists every set of a lock.
func wants(profiles []*profile.Profile, tools []Tool) []deb.Want {
	var out []deb.Want
	for _, p := range profiles {
		root := append([]string{p.Kernel.Package}, p.Debian.Packages...)
		out = append(out,
			deb.Want{Set: lock.RootSet(p.Name), Packages: root, Omit: omissions(p.Debian.Omit, nil)},
			deb.Want{Set: lock.InitrdSet(p.Name), Packages: p.Initrd.Packages, Omit: omissions(p.Debian.Omit, p.Initrd.Packages)})
	}
	for _, t := range tools {
		out = append(out, deb.Want{Set: lock.ToolSet(t.Name), Packages: t.Packages, Omit: omissions(t.Omit, nil)})
	}
	return out
}

// omissions maps packages to reasons, without those that are wanted by name: what the
// root file system leaves out, the initrd may need.
func omissions(list []profile.Omission, wanted []string) map[string]string {
	out := map[string]string{}
	for _, o := range list {
		if !slices.Contains(wanted, o.Package) {
			out[o.Package] = o.Reason
		}
	}
	return out
}

// components returns the names of all components of all profiles, sorted.
func components(profiles []*profile.Profile) []string {
	seen := map[string]bool{}
	for _, p := range profiles {
		for _, c := range append(slices.Clone(p.Components), p.Initrd.Components...) {
			seen[c] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
