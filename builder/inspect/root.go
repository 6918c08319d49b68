// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	erofs "github.com/erofs/go-erofs"

	"github.com/imgbuild/imgbuild/builder/disk"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/progress"
	"github.com/imgbuild/imgbuild/builder/seal"
)

// readRoot finds the kernel that belongs to the root in slot A and checks that
// superblocks, partition UUIDs and root hash fit together.
func (im *Image) readRoot(ctx context.Context, r io.ReaderAt, data, hash *disk.Partition, opts Options) error {
	for _, k := range im.Kernels {
		if d, h := seal.PartitionUUIDs(k.RootHash); d == data.UUID && h == hash.UUID {
			im.Root.Hash, im.Root.Kernel = k.RootHash, k.Path
			if k.Architecture != im.Architecture {
				return damaged("%s is for %s, the root for %s", k.Path, k.Architecture, im.Architecture)
			}
		}
	}
	if im.Root.Kernel == "" {
		return damaged("no kernel's root hash belongs to the partitions %s and %s", data.UUID, hash.UUID)
	}
	super, err := seal.ReadSuper(section(r, data), data.Size)
	if err != nil {
		return err
	}
	verity, err := seal.ReadVeritySuper(section(r, hash), hash.Size)
	if err != nil {
		return err
	}
	if super.DataSize != verity.DataSize {
		return damaged("the file system has %d bytes, the hash tree covers %d", super.DataSize, verity.DataSize)
	}
	im.Root.DataSize, im.Root.HashSize = verity.DataSize, verity.HashSize
	im.Root.Salt, im.Root.VerityUUID = verity.Salt, verity.UUID
	im.Root.UUID, im.Root.Files, im.Root.Timestamp = super.UUID, super.Files, super.Timestamp
	data.Used, hash.Used = verity.DataSize, verity.HashSize
	if !opts.Verify {
		return nil
	}
	sink := opts.Sink
	if sink == nil {
		sink = progress.Discard
	}
	task := sink.Start("verify root", verity.DataSize)
	err = seal.Verify(ctx, section(r, data), section(r, hash), verity, im.Root.Hash, task)
	task.Done(err)
	im.Root.Verified = err == nil
	return err
}

// maxText is more than any file that inspect reads from the root has.
const maxText = 64 << 20

// readContent reads os-release and the manifest from the root. Only the first must exist.
func (im *Image) readContent(r io.ReaderAt) error {
	release, err := readFile(r, "usr/lib/os-release")
	if errors.Is(err, fs.ErrNotExist) {
		release, err = readFile(r, "etc/os-release")
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return damaged("the root has no os-release")
	case err != nil:
		return fmt.Errorf("root: os-release: %w", err)
	}
	im.OSRelease = parseOSRelease(string(release))
	doc, err := readFile(r, strings.TrimPrefix(manifest.Path, "/"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("root: %s: %w", manifest.Path, err)
	case !json.Valid(doc):
		return damaged("%s is not JSON", manifest.Path)
	}
	im.Manifest = doc
	return nil
}

// readFile reads a regular file from an EROFS file system. It uses a reader that is not
// the writer's, so that each vouches for the other.
func readFile(r io.ReaderAt, name string) (content []byte, err error) {
	defer func() {
		// The block hashes were not necessarily checked, so the reader may meet anything.
		if p := recover(); p != nil {
			err = damaged("the file system cannot be read: %v", p)
		}
	}()
	fsys, err := erofs.Open(r)
	if err != nil {
		return nil, damaged("%v", err)
	}
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if err != nil {
		return nil, damaged("%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, damaged("%v", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxText {
		return nil, damaged("%v of %d bytes is not a file that belongs here", info.Mode(), info.Size())
	}
	content, err = io.ReadAll(io.LimitReader(f, maxText))
	if err != nil || int64(len(content)) != info.Size() {
		return nil, damaged("read %d of %d bytes: %v", len(content), info.Size(), err)
	}
	return content, nil
}
