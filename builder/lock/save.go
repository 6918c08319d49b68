// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const header = `# SPDX-License-Identifier: Apache-2.0
# Written by "imgbuild lock". Do not edit: change a profile and run it again.
`

// Encode returns the lock file's bytes. Equal locks have equal bytes.
func (l *Lock) Encode() ([]byte, error) {
	c := *l
	c.Packages = slices.Clone(l.Packages)
	slices.SortFunc(c.Packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	c.Modules = slices.Clone(l.Modules)
	slices.SortFunc(c.Modules, func(a, b Module) int { return strings.Compare(a.Component, b.Component) })
	c.Releases = slices.Clone(l.Releases)
	slices.SortFunc(c.Releases, func(a, b Release) int {
		return strings.Compare(a.Name+"\x00"+a.Architecture+"\x00"+a.Version, b.Name+"\x00"+b.Architecture+"\x00"+b.Version)
	})
	var b bytes.Buffer
	b.WriteString(header)
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// Save writes the lock file name. The old file stays whole until the new one is on disk:
// the bytes go to a temporary file beside it, are synced, and take its place by a rename.
func (l *Lock) Save(name string) error {
	data, err := l.Encode()
	if err != nil {
		return err
	}
	if _, err := Decode(name, data); err != nil {
		return fmt.Errorf("the new lock is not valid, %s is unchanged: %w", name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	// Without this the rename itself could be lost in a power cut, which leaves the old file.
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
