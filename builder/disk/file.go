// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/seal"
	"github.com/imgbuild/imgbuild/builder/store"
)

// tempInfix is between the final name and a random suffix in the name of an unfinished
// image. The file is locked for as long as a process works on it; one that is not locked
// was left by a process that was killed, and the next run removes it.
const tempInfix = ".incomplete-"

// output is an image being written.
type output struct {
	*os.File
	final string
	needs int64
	done  bool
}

// writebackSize is the size from which a write is handed to the disk at once instead of
// when everything is synced: the disk then works while the processors still do.
const writebackSize = 256 << 10

// WriteAt writes to the file and, for all but small pieces, starts its way to the disk.
func (o *output) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.File.WriteAt(p, off)
	if err == nil && n >= writebackSize {
		// Only a hint; what matters is the sync at the end.
		_ = unix.SyncFileRange(int(o.Fd()), off, int64(n), unix.SYNC_FILE_RANGE_WRITE)
	}
	return n, err
}

// create makes the temporary file, removing what earlier runs left behind, and refuses a
// disk that cannot hold the image.
func create(final string, size int64, root seal.Sizes) (*output, error) {
	dir, base := filepath.Split(final)
	if dir == "" {
		dir = "."
	}
	removeStale(dir, base)
	// An EFI system partition is mostly one kernel and its initrd; its exact size is not
	// known yet, so this is a first check and not a promise.
	o := &output{final: final, needs: root.DataSize + root.HashSize + 64<<20}
	if free, err := store.Free(dir); err == nil && free < o.needs {
		return nil, o.noSpace(free)
	}
	for {
		f, err := os.CreateTemp(dir, "."+base+tempInfix+"*")
		if err != nil {
			return nil, o.classify(err)
		}
		o.File = f
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil && o.stillThere() {
			break
		}
		f.Close() // another run took it for a leftover between the two calls
	}
	if err := o.Truncate(size); err != nil {
		o.discard()
		return nil, o.classify(err)
	}
	return o, nil
}

// stillThere reports whether the name still leads to the open file.
func (o *output) stillThere() bool {
	here, err1 := o.Stat()
	there, err2 := os.Stat(o.Name())
	return err1 == nil && err2 == nil && os.SameFile(here, there)
}

// removeStale deletes unfinished images of the same name that no process works on.
func removeStale(dir, base string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "."+base+tempInfix) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(name)
		}
		f.Close()
	}
}

// commit makes the image durable and gives it its name.
func (o *output) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := o.Chmod(0o644); err != nil {
		return err
	}
	if err := o.Sync(); err != nil {
		return err
	}
	if err := os.Rename(o.Name(), o.final); err != nil {
		return err
	}
	o.done = true
	// Without this a power cut may bring the old name back, which is a complete image too.
	dir, err := os.Open(filepath.Dir(o.final))
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(dir.Sync(), o.Close())
}

// discard removes the file unless it was committed.
func (o *output) discard() {
	if !o.done {
		os.Remove(o.Name())
		o.Close()
		o.done = true
	}
}

// explain gives an error from writing its class.
func (o *output) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return fault.Wrap(fault.Interrupted, err, "")
	}
	return o.classify(err)
}

func (o *output) classify(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		free, _ := store.Free(filepath.Dir(o.final))
		return fault.Wrap(fault.NoSpace, fmt.Errorf("%w (the image needs about %d MiB, %d MiB are free)", err, ceilMiB(o.needs), free>>20),
			"free space in "+filepath.Dir(o.final)+" or choose another output directory")
	}
	return err
}

func (o *output) noSpace(free int64) error {
	return fault.New(fault.NoSpace, "free space there or choose another output directory",
		"%s: the image needs about %d MiB, %d MiB are free", filepath.Dir(o.final), ceilMiB(o.needs), free>>20)
}
