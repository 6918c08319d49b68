// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/plan"
	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/rootfs"
	"github.com/imgbuild/imgbuild/builder/rootfs/kmod"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/imgbuild/imgbuild/builder/uki"
)

// efiNames holds what differs between architectures in the EFI system partition: the
// fallback path every firmware tries (UEFI specification, 3.5.1.1) and systemd's names.
var efiNames = map[string]struct{ fallback, loader, stub string }{
	"amd64": {"EFI/BOOT/BOOTX64.EFI", "systemd-bootx64.efi", "linuxx64.efi.stub"},
	"arm64": {"EFI/BOOT/BOOTAA64.EFI", "systemd-bootaa64.efi", "linuxaa64.efi.stub"},
}

// loaderConf keeps the menu away: a node boots, nobody chooses.
const loaderConf = "timeout 0\neditor no\n"

func writeImage(ctx context.Context, w *work, s *plan.Step) error {
	layout, err := diskLayout(w.profile.Layout)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(w.Output), 0o755); err != nil {
		return err
	}
	// Beside the root, which keeps them waiting for its hash only.
	boot := sync.OnceValues(w.bootFiles)
	go boot()
	w.result, err = disk.Write(ctx, w.Output, disk.Spec{
		Architecture: w.Arch,
		Layout:       layout,
		Label:        w.profile.Image.ID + "_" + w.profile.Image.Version,
		Tree:         w.root,
		Timestamp:    w.manifest.Timestamp,
		MakeESP: func(ctx context.Context, root seal.Root) ([]disk.ESPFile, error) {
			files, err := boot()
			if err != nil {
				return nil, blame(ctx, fault.Config, err, correctProfile)
			}
			return w.esp(ctx, root, files)
		},
	}, w.Sink)
	return err
}

func diskLayout(l profile.Layout) (disk.Layout, error) {
	esp, err := profile.ParseSize(l.ESP)
	if err != nil {
		return disk.Layout{}, err
	}
	root, err := profile.ParseSize(l.Root)
	return disk.Layout{ESP: esp, Root: root, SectorSize: l.SectorSize}, err
}

// esp returns the files of the EFI system partition for a root hash.
func (w *work) esp(ctx context.Context, root seal.Root, boot bootFiles) ([]disk.ESPFile, error) {
	names := efiNames[w.Arch]
	arguments := append([]string{"roothash=" + root.Hash.String()}, w.profile.Kernel.Arguments...)
	image, err := uki.Assemble(uki.Spec{
		Stub: boot.stub, Linux: boot.kernel, Initrd: boot.initrd, Uname: boot.release,
		OSRelease:   []byte(rootfs.OSRelease(w.profile, w.Arch)),
		CommandLine: strings.Join(arguments, " "),
	})
	if err != nil {
		return nil, blame(ctx, fault.Config, fmt.Errorf("unified kernel image: %w", err), correctProfile)
	}
	name := w.profile.Image.ID + "_" + w.profile.Image.Version
	return []disk.ESPFile{
		{Path: names.fallback, Data: [][]byte{boot.loader}},
		{Path: "EFI/systemd/" + names.loader, Data: [][]byte{boot.loader}},
		{Path: "EFI/Linux/" + name + ".efi", Data: image},
		{Path: "loader/loader.conf", Data: [][]byte{[]byte(loaderConf)}},
	}, nil
}

// bootFiles are what the EFI system partition holds whatever the root hash is.
type bootFiles struct {
	stub, loader, kernel, initrd []byte
	release                      string
}

func (w *work) bootFiles() (b bootFiles, err error) {
	names := efiNames[w.Arch]
	if b.initrd, err = w.initrd.ReadAll(); err != nil {
		return b, err
	}
	root, err := w.lock.Set(lock.RootSet(w.profile.Name))
	if err != nil {
		return b, err
	}
	ramdisk, err := w.lock.Set(lock.InitrdSet(w.profile.Name))
	if err != nil {
		return b, err
	}
	t := tree.New()
	for _, p := range slices.Concat(root, ramdisk) {
		if p.Name == "systemd-boot-efi" || plan.IsKernel(p.Name) {
			if err := w.unpacked[p.SHA256].AddTo(t); err != nil {
				return b, err
			}
		}
	}
	if b.release, err = kmod.Release(t); err != nil {
		return b, err
	}
	for _, f := range []struct {
		to   *[]byte
		path string
	}{
		{&b.stub, "/usr/lib/systemd/boot/efi/" + names.stub},
		{&b.loader, "/usr/lib/systemd/boot/efi/" + names.loader},
		{&b.kernel, "/boot/vmlinuz-" + b.release},
	} {
		n := t.Lookup(f.path)
		if n == nil {
			return b, fmt.Errorf("no package of profile %s ships %s", w.profile.Name, f.path)
		}
		if *f.to, err = n.Content.ReadAll(); err != nil {
			return b, fmt.Errorf("%s: %w", path.Base(f.path), err)
		}
	}
	return b, nil
}
