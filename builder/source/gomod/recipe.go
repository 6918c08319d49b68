// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// method is part of every key. It changes when this package starts to produce other bytes
// from the same recipe.
const method = "gomod 1"

// Recipe returns the SHA-256, in hex, over everything of the repository that a component
// is built from: for every file, sorted by path, its path, whether it is executable, its
// size and its content. Permission bits other than the executable one depend on the umask
// of whoever cloned the repository and are left out; so are tests, which no program links.
func (c *Component) Recipe() (string, error) {
	h := sha256.New()
	inputs := append([]string{filepath.Join(Directory, c.Name)}, c.Inputs...)
	slices.Sort(inputs)
	for _, in := range inputs {
		if err := hashTree(h, c.root, in); err != nil {
			return "", fault.Wrap(fault.Config, fmt.Errorf("component %s: %w", c.Name, err),
				"restore the file, or correct the inputs in "+c.file)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashTree(w io.Writer, root, below string) error {
	// WalkDir visits in lexical order.
	return filepath.WalkDir(filepath.Join(root, below), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		return hashFile(w, file, filepath.ToSlash(rel))
	})
}

func hashFile(w io.Writer, file, name string) error {
	st, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(w, "%q %t %d\n", name, st.Mode()&0o100 != 0, st.Size())
	_, err = io.CopyN(w, f, st.Size())
	return err
}

// Key returns the SHA-256, in hex, of everything that decides the bytes of the component's
// programs: the recipe (see Component.Recipe), the version of the Go toolchain
// ("go1.26.8") and the target. The store keeps results by it.
func Key(recipe, goVersion, goos, goarch string) string {
	h := sha256.New()
	for _, part := range []string{method, recipe, goVersion, goos, goarch} {
		fmt.Fprintf(h, "%q\n", part)
	}
	return hex.EncodeToString(h.Sum(nil))
}
