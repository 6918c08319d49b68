// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Action is what happened to a file, or would.
type Action string

// The actions.
const (
	Added     Action = "added"
	Changed   Action = "changed"
	Unchanged Action = "unchanged"
	Removed   Action = "removed"
)

// Change is one file of a rendered directory.
type Change struct {
	// File is relative to the directory.
	File   string `json:"file"`
	Action Action `json:"action"`
	// Subject is what the file is for: "control plane demo-cp-1".
	Subject string `json:"subject"`
	// Detail says what differs, never with content.
	Detail []string `json:"detail,omitempty"`
}

// output is a file to be.
type output struct {
	kubeadm.File
	Subject string
	// describe compares an old content with the new one.
	describe func(old, new []byte) []string
}

// changes compares outputs with what is there.
func changes(dir string, outputs []output) ([]Change, error) {
	var out []Change
	for _, o := range outputs {
		c := Change{File: strings.TrimPrefix(o.Path, "/"), Action: Added, Subject: o.Subject}
		at := filepath.Join(dir, o.Path)
		st, err := os.Lstat(at)
		if err == nil && !st.Mode().IsRegular() {
			return nil, fault.New(fault.Config, "move it away: a file of the cluster belongs there", "%s is not a regular file", at)
		}
		if err == nil {
			old, err := os.ReadFile(at)
			if err != nil {
				return nil, err
			}
			c.Action = Unchanged
			if !bytes.Equal(old, o.Data) {
				c.Action = Changed
				if o.describe != nil {
					c.Detail = o.describe(old, o.Data)
				}
			} else if st.Mode().Perm() != o.Mode {
				c.Action, c.Detail = Changed, []string{fmt.Sprintf("permissions %04o to %04o", st.Mode().Perm(), o.Mode)}
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// write brings the directory to the outputs, in their order, and takes the removed files
// away before the last of them, the index. Each file appears whole or not at all; secrets come
// first, so that whatever was derived from one never exists without it.
func write(dir string, outputs []output, removed []Change) error {
	last := len(outputs) - 1
	if err := writeAll(dir, outputs[:last]); err != nil {
		return err
	}
	for _, c := range removed {
		if err := remove(dir, c.File); err != nil {
			return err
		}
	}
	return writeAll(dir, outputs[last:])
}

// writeAll writes files, each whole or not at all, into directories that only the owner enters.
func writeAll(dir string, outputs []output) error {
	for _, o := range outputs {
		if err := private(dir, filepath.Dir(strings.TrimPrefix(o.Path, "/"))); err != nil {
			return err
		}
		if _, err := kubeadm.WriteFiles(dir, o.File); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// private makes a directory below dir, and those above it; one that is there stays as it is.
func private(dir, name string) error {
	if name == "." {
		return nil
	}
	if err := private(dir, filepath.Dir(name)); err != nil {
		return err
	}
	at := filepath.Join(dir, name)
	if err := os.Mkdir(at, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return kubeadm.SyncDir(filepath.Dir(at))
}

// told gives what the file system refused a class, and something to do.
func told(dir string, err error) error {
	is := func(list ...error) bool {
		return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
	}
	switch {
	case err == nil || fault.ClassOf(err) != fault.Unclassified:
		return err
	case is(unix.ENOSPC, unix.EDQUOT, unix.EFBIG):
		return fault.Wrap(fault.NoSpace, err, "make room there, or raise the limit of file sizes, and render again: that goes on where this ended")
	case is(unix.ENOTDIR):
		return fault.Wrap(fault.Usage, err, "name a directory with -o, with directories in it where the cluster has some")
	case is(unix.EISDIR):
		return fault.Wrap(fault.Config, err, "move the directory away: a file of the cluster belongs there")
	case is(fs.ErrPermission, unix.EROFS):
		return fault.Wrap(fault.Usage, err, "render as somebody who may read and write "+dir+", or name another directory with -o")
	}
	return err
}

// remove takes a file away for good, and the directories below dir that are empty without it.
func remove(dir, file string) error {
	if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for at := filepath.Dir(file); ; at = filepath.Dir(at) {
		if err := kubeadm.SyncDir(filepath.Join(dir, at)); err != nil {
			return err
		}
		if at == "." || os.Remove(filepath.Join(dir, at)) != nil { // it has more in it
			return nil
		}
	}
}

// claim makes the directory, private to its owner, and keeps others from rendering into it
// until release is called.
func claim(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.New(fault.Config, "wait for it to end", "%s: another rendering is at work", dir)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() { _ = d.Close() }, nil
}
