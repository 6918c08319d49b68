// SPDX-License-Identifier: Apache-2.0

// Command gendocs writes docs/reference: pages that follow from the code and from nothing
// else. `make generate` runs it; a test of this package fails when a page on disk differs.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run .

// root of the checkout, seen from this directory, where go generate and go test run.
const root = "../.."

func main() {
	if err := write(root); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// write makes the directory of generated pages hold exactly what pages returns.
func write(root string) error {
	want, err := pages(root)
	if err != nil {
		return err
	}
	have, err := present(root)
	if err != nil {
		return err
	}
	for _, name := range have {
		if _, ok := want[name]; !ok {
			if err := os.Remove(filepath.Join(root, name)); err != nil {
				return err
			}
		}
	}
	for name, text := range want {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
