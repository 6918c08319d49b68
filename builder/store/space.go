// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// Free returns the bytes an ordinary user may still write on the file system that holds
// dir, or will hold it once it is created.
func Free(dir string) (int64, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return int64(st.Bavail) * st.Bsize, nil
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, unix.ENOENT) || parent == dir {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		dir = parent
	}
}

// classify gives a full disk, an exceeded quota and an interruption their class. Needed
// is how many bytes the work still wanted to write, 0 when unknown.
func (s *Store) classify(err error, needed int64) error {
	if err == nil || fault.ClassOf(err) != fault.Unclassified {
		return err
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return s.noSpace(err, needed)
	case errors.Is(err, context.Canceled):
		return fault.Wrap(fault.Interrupted, err, "")
	}
	return err
}

func (s *Store) noSpace(err error, needed int64) error {
	free, ferr := Free(s.dir)
	text := fmt.Sprintf("cache %s has %d bytes free", s.dir, free)
	if ferr != nil {
		text = "cache " + s.dir
	}
	if needed > 0 {
		text += fmt.Sprintf(", %d more are needed", needed)
	}
	return fault.Wrap(fault.NoSpace, fmt.Errorf("%s: %w", text, err),
		"free space, run 'imgbuild cache prune', or name a directory on another disk with --cache-dir")
}
