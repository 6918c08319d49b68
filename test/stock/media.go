// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/erofs/go-erofs"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/inspect"
)

// Media is what stock machines are given.
//
// Where upstream's image could not be had without a registry, it is made here from the same
// sources as the node's own programs: one program per image, one gzip layer, no base
// distribution below it. That makes these images smaller than upstream's.
type Media struct {
	// Disk is the path of an EROFS with bin/, images/ and more/.
	Disk string
	// dir has the same content as files.
	dir string
}

// Prepare makes the disk below dir, which may hold what an earlier call left. root is the
// checkout, image the node image whose userland kube-proxy's image takes iptables from, and
// component asks imgbuild for the programs of a component, as "imgbuild component NAME" does.
func Prepare(ctx context.Context, root, image, dir string, component func(name string) ([]string, error)) (*Media, error) {
	built, err := build(ctx, root, dir, component)
	if err != nil {
		return nil, err
	}
	content := filepath.Join(dir, "content")
	m := &Media{Disk: filepath.Join(dir, "stock.erofs"), dir: content}
	key, err := inputs(built, image)
	if err != nil {
		return nil, err
	}
	receipt := filepath.Join(dir, "stock.key")
	if have, err := os.ReadFile(receipt); err == nil && string(have) == key {
		return m, nil
	}
	if err := errors.Join(os.RemoveAll(receipt), os.RemoveAll(content)); err != nil {
		return nil, err
	}
	for _, d := range []string{"bin", "images", "more"} {
		if err := os.MkdirAll(filepath.Join(content, d), 0o755); err != nil {
			return nil, err
		}
	}
	for _, p := range []string{"kubeadm", "ctr", "agent"} {
		data, err := os.ReadFile(built[p])
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(content, "bin", p), data, 0o755); err != nil {
			return nil, err
		}
	}
	node, closeNode, err := nodeRoot(ctx, image)
	if err != nil {
		return nil, err
	}
	defer closeNode()
	for _, i := range images() {
		if err := i.write(filepath.Join(content, "images"), built, node); err != nil {
			return nil, err
		}
	}
	if err := flannel().write(filepath.Join(content, "more"), built, node); err != nil {
		return nil, err
	}
	if err := pack(content, m.Disk); err != nil {
		return nil, err
	}
	return m, os.WriteFile(receipt, []byte(key), 0o644)
}

// inputs is a digest of what media are made from. A node image that was built again counts as
// another.
func inputs(programs programs, image string) (string, error) {
	info, err := os.Stat(image)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, info.Size(), info.ModTime().UnixNano())
	for _, name := range sortedKeys(programs) {
		data, err := os.ReadFile(programs[name])
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, name, sha256.Sum256(data))
	}
	for _, i := range append(images(), flannel()) {
		fmt.Fprintf(h, "%+v\n", i)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// nodeRoot opens the root file system inside a node image.
func nodeRoot(ctx context.Context, image string) (fs.FS, func(), error) {
	im, err := inspect.File(ctx, image, inspect.Options{})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range im.Partitions {
		if p.Slot == disk.RootA {
			f, err := os.Open(image)
			if err != nil {
				return nil, nil, err
			}
			fsys, err := erofs.Open(io.NewSectionReader(f, p.Offset, p.Size))
			if err != nil {
				f.Close()
				return nil, nil, err
			}
			return fsys, func() { f.Close() }, nil
		}
	}
	return nil, nil, fmt.Errorf("%s has no root partition", image)
}

// pack writes a directory as an EROFS, padded to whole mebibytes as a disk's size.
func pack(content, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := erofs.Create(f)
	if err := w.CopyFrom(os.DirFS(content)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const mib = 1 << 20
	return f.Truncate((info.Size() + mib - 1) / mib * mib)
}
