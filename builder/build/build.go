// SPDX-License-Identifier: Apache-2.0

// Package build executes plans: it turns the steps that package plan describes into bytes,
// in parallel, keeping results in the store. It is the only place where the sources, the
// composers and the writers of an image meet.
package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
	"github.com/imgbuild/imgbuild/builder/source/release"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Env is what every build on a machine shares.
type Env struct {
	// Root is the directory that holds profiles/ and assets/.
	Root  string
	Store *store.Store
	Sink  progress.Sink
	// Arch is the target architecture, Debian's and Go's name.
	Arch string
	// Mirror overrides where Debian packages come from.
	Mirror string
	// ReleaseMirror is the base URL that official artefacts come from instead of their
	// origins, each below its origin's host; empty for the origins.
	ReleaseMirror string
	Offline       bool
}

func (e Env) assets() fs.FS { return os.DirFS(filepath.Join(e.Root, "assets")) }

func (e Env) fetchOptions() fetch.Options {
	return fetch.Options{Sink: e.Sink, Offline: e.Offline, UserAgent: "imgbuild"}
}

// mirrors finds the Debian mirrors when they are needed.
func (e Env) mirrors(ofProfile string) func() (deb.Mirrors, error) {
	return func() (deb.Mirrors, error) {
		return deb.FindMirrors(deb.MirrorOptions{Flag: e.Mirror, Profile: ofProfile})
	}
}

// Project is a loaded profile with its lock, components and plan: everything known before
// the first byte is written.
type Project struct {
	Env
	Output     string
	Plan       *plan.Plan
	profile    *profile.Profile
	lock       *lock.Lock
	host       *lock.Lock // of the machine that builds
	components map[string]*gomod.Component
	releases   map[string]*release.Release
	toolchain  string
}

// Result is a finished image.
type Result struct {
	disk.Result
	Manifest *manifest.Manifest `json:"manifest"`
	// Contributors are the largest origins of bytes in the root file system.
	Contributors []Contributor `json:"contributors"`
}

// work is the state of one execution. Steps write fields that later steps read; the order
// of steps is what makes that safe, and mu guards the maps several steps share.
type work struct {
	*Project
	mu        sync.Mutex
	packages  map[string]lock.Package // by SHA-256
	unpacked  map[string]*deb.Unpacked
	built     map[string]*store.Entry
	released  map[string]*store.Entry
	kmod      *tool.Set
	modules   *tree.Tree
	early     *tree.Tree // modules of the initial RAM disk
	baseImage tree.Content
	initrd    tree.Content
	root      *tree.Tree
	manifest  *manifest.Manifest
	result    disk.Result
}

// Execute carries the plan out. A store entry found damaged while its bytes were copied is
// dropped and made again, once; the image is not published before all of it was verified.
func (p *Project) Execute(ctx context.Context) (*Result, error) {
	result, err := p.execute(ctx)
	if !errors.Is(err, tree.ErrCorrupt) {
		return result, err
	}
	task := p.Sink.Start("repair the store", 0)
	healErr := p.Store.VerifyAll(ctx, func(store.Item, error) { task.Note("reading every entry") })
	task.Done(healErr)
	if healErr != nil {
		return nil, fmt.Errorf("%w; repairing the store: %w", err, healErr)
	}
	p.Plan.MarkCached(p.Store)
	result, err = p.execute(ctx)
	if errors.Is(err, tree.ErrCorrupt) {
		err = fault.Wrap(fault.Corrupt, err, "the disk or the memory of this machine gives back other bytes than it was given; build on another, or name another cache with --cache-dir")
	}
	return result, err
}

func (p *Project) execute(ctx context.Context) (*Result, error) {
	w := &work{Project: p, packages: map[string]lock.Package{}, unpacked: map[string]*deb.Unpacked{}, built: map[string]*store.Entry{}, released: map[string]*store.Entry{}}
	for _, pkg := range slices.Concat(p.lock.Packages, p.host.Packages) {
		w.packages[pkg.SHA256] = pkg
	}
	if err := w.run(ctx, p.Plan.Steps); err != nil {
		return nil, err
	}
	result := &Result{Result: w.result, Manifest: w.manifest, Contributors: Contributors(w.root)}
	return result, p.record(result)
}
