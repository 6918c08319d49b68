// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// untransform copies the tidy go.mod and go.sum of a staged component back to where they
// came from, without the replacements that staging added and with the digests of the
// modules that were replaced, which tidy has no use for and fetching them does.
func (t *Toolchain) untransform(ctx context.Context, c *Component, staged string) error {
	name := filepath.Join(staged, "go.mod")
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(name, data, nil)
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(staged, "go.sum"))
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	for _, tr := range c.Transforms {
		if err := mod.DropReplace(tr.Module, ""); err != nil {
			return err
		}
		d, err := t.fetch(ctx, c.Dir(), tr.Module, required(mod, tr.Module), nil)
		if err != nil {
			return err
		}
		lines = append(lines,
			fmt.Sprintf("%s %s %s", d.Path, d.Version, d.Sum),
			fmt.Sprintf("%s %s/go.mod %s", d.Path, d.Version, d.GoModSum))
	}
	slices.Sort(lines)
	sums = []byte(strings.Join(slices.Compact(lines), "\n") + "\n")
	if err := os.WriteFile(filepath.Join(c.Dir(), "go.sum"), sums, 0o644); err != nil {
		return err
	}
	return writeMod(filepath.Join(c.Dir(), "go.mod"), mod)
}
