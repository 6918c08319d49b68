// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/initrd"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/rootfs"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/imgbuild/imgbuild/firstboot/baseimage"
)

// initrdFile is what the entry of an initial RAM disk holds.
const initrdFile = "initrd.img"

func composeInitrd(ctx context.Context, w *work, s *plan.Step) error {
	entry, err := w.Store.Derive(ctx, s.Key, func(ctx context.Context, dir string) error {
		task := w.Sink.Start("compose initrd", 0)
		err := w.writeInitrd(ctx, task, filepath.Join(dir, initrdFile))
		task.Done(err)
		return err
	})
	if err != nil {
		return err
	}
	w.initrd, err = entryFile(entry, initrdFile)
	return err
}

// writeInitrd composes the initial RAM disk and stores it as an archive.
func (w *work) writeInitrd(ctx context.Context, task progress.Task, out string) error {
	set, err := w.lock.Set(lock.InitrdSet(w.profile.Name))
	if err != nil {
		return err
	}
	components, err := w.componentNodes(w.profile.Initrd.Components)
	if err != nil {
		return err
	}
	task.Note("files and libraries")
	t, err := initrd.Compose(initrd.Inputs{
		Profile: w.profile, Architecture: w.Arch, Packages: w.composePackages(set),
		Modules: w.early, Components: components, Assets: w.assets(),
	})
	if err != nil {
		return blame(ctx, fault.Config, err, correctProfile)
	}
	return writeFile(out, func(f io.Writer) error { return initrd.Write(counted{f, task}, t) })
}

// writeFile creates a file with what write gives it.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// counted reports what is written through it.
type counted struct {
	io.Writer
	task progress.Task
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.task.Add(int64(n))
	return n, err
}

func composeRoot(ctx context.Context, w *work, _ *plan.Step) error {
	set, err := w.lock.Set(lock.RootSet(w.profile.Name))
	if err != nil {
		return err
	}
	components, err := w.programs()
	if err != nil {
		return err
	}
	if w.manifest, err = w.newManifest(set); err != nil {
		return err
	}
	doc, err := json.MarshalIndent(w.manifest, "", "  ")
	if err != nil {
		return err
	}
	extra := []tree.Node{
		{Path: manifest.Path, Kind: tree.Regular, Mode: 0o644, Content: tree.Bytes(append(doc, '\n')), Origin: "step:manifest"},
		{Path: baseimage.ArchivePath, Kind: tree.Regular, Mode: 0o644, Content: w.baseImage, Origin: "step:base-image"},
	}
	w.root, _, err = rootfs.Compose(rootfs.Inputs{
		Profile: w.profile, Architecture: w.Arch, Packages: w.composePackages(set),
		Modules: w.modules, Components: components, Extra: extra, Assets: w.assets(),
	})
	return blame(ctx, fault.Config, err, correctProfile)
}

func (w *work) composePackages(set []lock.Package) []rootfs.Package {
	out := make([]rootfs.Package, len(set))
	for i, p := range set {
		out[i] = rootfs.Package{Name: p.Name, Version: p.Version, AddTo: w.unpacked[p.SHA256].AddTo}
	}
	return out
}

// componentNodes returns the programs of built components at their paths in the image.
func (w *work) componentNodes(names []string) ([]tree.Node, error) {
	t := tree.New()
	for _, name := range names {
		entry := w.built[name]
		outputs, err := gomod.Outputs(entry.Dir)
		if err != nil {
			return nil, err
		}
		if err := gomod.Place(t, name, entry.Dir, outputs); err != nil {
			return nil, err
		}
	}
	var nodes []tree.Node
	for _, n := range t.Nodes() {
		if n.Kind != tree.Directory {
			nodes = append(nodes, *n)
		}
	}
	return nodes, nil
}
