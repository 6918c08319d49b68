// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/rootfs/kmod"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/imgbuild/imgbuild/firstboot/baseimage"
)

func fetchPackages(ctx context.Context, w *work, s *plan.Step) error {
	var missing []lock.Package
	for _, in := range s.Inputs {
		if !in.Cached {
			missing = append(missing, w.packages[in.Digest])
		}
	}
	return deb.Fetch(ctx, w.Store, missing, w.mirrors(w.profile.Debian.Mirror), w.fetchOptions())
}

func unpackPackages(ctx context.Context, w *work, s *plan.Step) error {
	var all []lock.Package
	for _, in := range w.Plan.Step("fetch").Inputs {
		all = append(all, w.packages[in.Digest])
	}
	unpacked, err := deb.UnpackAll(ctx, w.Store, all, w.Sink)
	if err != nil {
		return err
	}
	for i, u := range unpacked {
		w.unpacked[all[i].SHA256] = u
	}
	return nil
}

func buildComponent(ctx context.Context, w *work, s *plan.Step) error {
	name := s.Inputs[0].Name
	entry, err := Component(ctx, w.Env, w.components[name], s.Key)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.built[name] = entry
	return nil
}

// Component returns the store entry with a component's programs, building it if needed.
func Component(ctx context.Context, env Env, c *gomod.Component, key store.Key) (*store.Entry, error) {
	return env.Store.Derive(ctx, key, func(ctx context.Context, dir string) error {
		go_, err := gomod.FindToolchain(ctx, env.Store.Dir())
		if err != nil {
			return err
		}
		_, err = go_.Build(ctx, c, gomod.Options{Arch: env.Arch, Dir: dir, Progress: env.Sink})
		return err
	})
}

func layOutTool(ctx context.Context, w *work, s *plan.Step) error {
	set, err := w.tool(ctx, s.Key, s.Inputs)
	if err != nil {
		return err
	}
	w.kmod = set
	return nil
}

// tool lays the packages of a tool out in a directory of the store.
func (w *work) tool(ctx context.Context, key store.Key, inputs []plan.Input) (*tool.Set, error) {
	t := tree.New()
	for _, in := range inputs {
		if err := w.unpacked[in.Digest].AddTo(t); err != nil {
			return nil, err
		}
	}
	return layOut(ctx, w.Store, key, t)
}

func layOut(ctx context.Context, st *store.Store, key store.Key, t *tree.Tree) (*tool.Set, error) {
	entry, err := st.Derive(ctx, key, func(ctx context.Context, dir string) error {
		return tool.Materialize(ctx, t, dir)
	})
	if err != nil {
		return nil, err
	}
	return tool.New(entry.Dir), nil
}

func indexModules(ctx context.Context, w *work, s *plan.Step) error {
	entry, err := w.Store.Derive(ctx, s.Key, func(ctx context.Context, dir string) error {
		kernel := tree.New()
		if err := w.unpacked[s.Inputs[0].Digest].AddTo(kernel); err != nil {
			return err
		}
		_, err := w.extractModules(ctx, kernel, kmod.Selection{Modules: w.profile.Kernel.Modules, Compressed: w.profile.Kernel.Compressed}, dir)
		return err
	})
	if err != nil {
		return err
	}
	w.modules, err = entryTree(entry, "deb:"+s.Inputs[0].Name)
	return err
}

func indexInitrdModules(ctx context.Context, w *work, s *plan.Step) error {
	entry, err := w.Store.Derive(ctx, s.Key, func(ctx context.Context, dir string) error {
		shipped := tree.New()
		if err := w.unpacked[s.Inputs[0].Digest].AddTo(shipped); err != nil {
			return err
		}
		kernel, err := kmod.Decompressed(shipped, w.modules)
		if err != nil {
			return err
		}
		x, err := w.extractModules(ctx, kernel, kmod.Selection{Modules: w.profile.Initrd.Modules}, dir)
		if err != nil {
			return err
		}
		return x.Trim()
	})
	if err != nil {
		return err
	}
	w.early, err = entryTree(entry, "deb:"+s.Inputs[0].Name)
	return err
}

// extractModules writes the kernel's modules that s selects, and their index, to dir.
func (w *work) extractModules(ctx context.Context, kernel *tree.Tree, s kmod.Selection, dir string) (*kmod.Extraction, error) {
	x, err := kmod.Extract(kernel, s, dir)
	if err != nil {
		return nil, blame(ctx, fault.Config, err, correctProfile)
	}
	err = x.Index(ctx, func(ctx context.Context, args ...string) (*exec.Cmd, error) {
		return w.kmod.Command(ctx, "depmod", args...)
	})
	return x, blame(ctx, fault.Build, err, "the lock's set tool/kmod must hold a depmod that runs here; 'imgbuild tool run kmod depmod --version' tries it")
}

func makeBaseImage(ctx context.Context, w *work, s *plan.Step) error {
	const file = "base-image.tar"
	entry, err := w.Store.Derive(ctx, s.Key, func(_ context.Context, dir string) error {
		built := w.built["pause"]
		outputs, err := gomod.Outputs(built.Dir)
		if err != nil {
			return err
		}
		pause, err := os.ReadFile(filepath.Join(built.Dir, outputs[0].File))
		if err != nil {
			return err
		}
		image, err := baseimage.Build(pause, w.Arch)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, file), image, 0o644)
	})
	if err != nil {
		return err
	}
	w.baseImage, err = entryFile(entry, file)
	return err
}
