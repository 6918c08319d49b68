// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
			return nil, fmt.Errorf("%s is not a regular file; move it away", at)
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
	files := make([]kubeadm.File, len(outputs))
	for i, o := range outputs {
		files[i] = o.File
	}
	last := len(files) - 1
	if _, err := kubeadm.WriteFiles(dir, files[:last]...); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	for _, c := range removed {
		if err := remove(dir, c.File); err != nil {
			return err
		}
	}
	if _, err := kubeadm.WriteFiles(dir, files[last]); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
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
