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

func composeInitrd(ctx context.Context, w *work, s *plan.Step) error {
	const file = "initrd.cpio.zst"
	entry, err := w.Store.Derive(ctx, s.Key, func(ctx context.Context, dir string) error {
		scratch, err := os.MkdirTemp(filepath.Dir(dir), "modules-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(scratch)
		return w.writeInitrd(ctx, scratch, filepath.Join(dir, file))
	})
	if err != nil {
		return err
	}
	w.initrd, err = entryFile(entry, file)
	return err
}

func (w *work) writeInitrd(ctx context.Context, scratch, out string) error {
	task := w.Sink.Start("compose initrd", 0)
	err := func() error {
		task.Note("kernel modules")
		x, err := w.extractModules(ctx, w.profile.Initrd.Modules, scratch)
		if err != nil {
			return err
		}
		modules, err := x.Tree()
		if err != nil {
			return err
		}
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
			Modules: modules, Components: components, Assets: w.assets(),
		})
		if err != nil {
			return blame(ctx, fault.Config, err, correctProfile)
		}
		f, err := os.Create(out)
		if err != nil {
			return err
		}
		task.Note("compressing")
		return errors.Join(initrd.Write(counted{f, task}, t), f.Close())
	}()
	task.Done(err)
	return err
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
	components, err := w.componentNodes(w.profile.Components)
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
	w.root, w.report, err = rootfs.Compose(rootfs.Inputs{
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
