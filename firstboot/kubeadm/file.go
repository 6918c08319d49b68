// SPDX-License-Identifier: Apache-2.0

package kubeadm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File is one file to be on the node: absolute path, permission bits, content.
type File struct {
	Path string
	Mode fs.FileMode
	Data []byte
}

// String names the file and never its content.
func (f File) String() string { return fmt.Sprintf("%s (%04o, %d bytes)", f.Path, f.Mode, len(f.Data)) }

// GoString is String, so that %#v reveals no content either.
func (f File) GoString() string { return f.String() }

// Unfinished is the name that a file has while it is written, beside its place. A power cut may
// leave one; neither the kubelet nor anything else reads it.
func Unfinished(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// WriteFiles puts files below root, creating directories with kubeadm's modes. Each file is
// written beside its place, synced and renamed, and its directory is synced after that: a
// power cut leaves the old file or the new one. A file that already has the wanted content
// and mode is not touched; changed lists those that were.
func WriteFiles(root string, files ...File) (changed []string, err error) {
	for _, f := range files {
		wrote, err := writeFile(root, f)
		if err != nil {
			return changed, err
		}
		if wrote {
			changed = append(changed, f.Path)
		}
	}
	return changed, nil
}

func writeFile(root string, f File) (bool, error) {
	path := filepath.Join(root, f.Path)
	if st, err := os.Lstat(path); err == nil && st.Mode() == f.Mode {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, f.Data) {
			return false, nil
		}
	}
	dir := filepath.Dir(path)
	if err := MakeDir(root, filepath.Dir(f.Path)); err != nil {
		return false, err
	}
	// The name is fixed so that a run after a power cut reuses what the cut left behind.
	tmp, err := os.OpenFile(Unfinished(path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, fmt.Errorf("writing %s: %w", f.Path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(f.Data)
	if err == nil {
		err = tmp.Chmod(f.Mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = SyncDir(dir)
	}
	if err != nil {
		return false, fmt.Errorf("writing %s: %w", f.Path, err)
	}
	return true, nil
}

// dirMode is the mode of a directory that its first file creates.
func dirMode(dir string) fs.FileMode {
	switch dir {
	case ManifestsDir, EtcdDataDir, KubeletDir, KubeletDir + "/pki":
		return 0o700
	}
	return 0o755
}

// MakeDir creates dir and its parents below root, each with kubeadm's mode for it whatever the
// umask, and syncs what it was created in. Directories that exist are left as they are.
func MakeDir(root, dir string) error {
	path := filepath.Join(root, dir)
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := MakeDir(root, parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, dirMode(dir)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating %s: %w", dir, err)
	}
	if err := os.Chmod(path, dirMode(dir)); err != nil {
		return fmt.Errorf("setting the mode of %s: %w", dir, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names that were created in or renamed into dir survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
