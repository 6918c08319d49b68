// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tool"
)

// prepare puts the overlay and the firmware's variables into s.Dir. What is already there
// stays: it is the machine's disk and its memory of boot entries. A kill at any point leaves
// each of the files whole or absent, and no disk without a word about its image.
func prepare(ctx context.Context, t *tool.Set, s Spec) error {
	if s.Image != "" {
		if err := createOverlay(ctx, t, s); err != nil {
			return err
		}
	}
	vars := filepath.Join(s.Dir, varsFile)
	if _, err := os.Stat(vars); err == nil {
		return nil
	}
	_, template := firmware(t.Dir)
	return appear(vars, func(temporary string) error { return copyFile(template, temporary) })
}

func createOverlay(ctx context.Context, t *tool.Set, s Spec) error {
	overlay := filepath.Join(s.Dir, overlayFile)
	image, err := filepath.Abs(s.Image)
	if err != nil {
		return err
	}
	if _, err := os.Stat(overlay); err == nil {
		return sameBase(s.Dir, image)
	}
	is, err := identify(image)
	if err != nil {
		return err
	}
	if err := is.write(s.Dir); err != nil {
		return err
	}
	size := max(s.DiskSize, is.Size)
	return appear(overlay, func(temporary string) error {
		_, err := t.Run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw",
			"-o", "cluster_size=64k,lazy_refcounts=on", "-b", image, temporary, strconv.FormatInt(size, 10))
		if err != nil {
			err = fmt.Errorf("creating the overlay of %s: %w", image, err)
		}
		return fault.Wrap(fault.Machine, err, "check the free space and the permissions of "+s.Dir)
	})
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Machine, fmt.Errorf("UEFI firmware: %w", err), "the tool set must hold the package ovmf")
	}
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
