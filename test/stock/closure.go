// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

// libraries is where Debian keeps the libraries of amd64.
const libraries = "usr/lib/x86_64-linux-gnu"

// closure adds programs of the node's root and every library they need to files, iptables'
// extensions included.
func closure(root fs.FS, programs []string, files map[string][]byte) error {
	extensions, err := fs.Glob(root, libraries+"/xtables/*.so")
	if err != nil {
		return err
	}
	queue := append(slices.Clone(programs), extensions...)
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if files[name] != nil {
			continue
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return fmt.Errorf("the node's %s: %w", name, err)
		}
		files[name] = data
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("the node's %s: %w", name, err)
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("the node's %s: %w", name, err)
		}
		for _, n := range needed {
			if n == "ld-linux-x86-64.so.2" {
				continue
			}
			queue = append(queue, path.Join(libraries, n))
		}
		if f.Section(".interp") != nil {
			queue = append(queue, "usr/lib64/ld-linux-x86-64.so.2")
		}
	}
	return nil
}
