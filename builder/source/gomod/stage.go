// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// upstream is where a staged component keeps its changed copies of modules.
const upstream = "_upstream"

// stage prepares the directory a component is built in and returns it. Without transforms
// that is where the component is; with them it is a copy below scratch, with changed
// copies of upstream modules beside it and replace directives that point at them. The
// directives are relative, so that nothing in the result depends on where scratch is.
func (t *Toolchain) stage(ctx context.Context, c *Component, scratch string, line func(string)) (string, error) {
	if len(c.Transforms) == 0 {
		return c.workDir(), nil
	}
	dir := filepath.Join(scratch, c.Name)
	if err := copyTree(c.Dir(), dir); err != nil {
		return "", err
	}
	mod, err := c.goMod()
	if err != nil {
		return "", err
	}
	for i, tr := range c.Transforms {
		version := required(mod, tr.Module)
		d, err := t.fetch(ctx, c.Dir(), tr.Module, version, line)
		if err != nil {
			return "", err
		}
		local := fmt.Sprintf("./%s/%d", upstream, i)
		to := filepath.Join(dir, local)
		if err := copyTree(d.Dir, to); err != nil {
			return "", err
		}
		overlay := ""
		if tr.Overlay != "" {
			overlay = filepath.Join(c.Dir(), tr.Overlay)
		}
		if err := tr.apply(to, overlay); err != nil {
			return "", fault.Wrap(fault.Build, fmt.Errorf("component %s: %s@%s: %w", c.Name, tr.Module, version, err),
				"upstream changed: adapt the transforms in "+c.file)
		}
		if err := mod.AddReplace(tr.Module, "", local, ""); err != nil {
			return "", err
		}
	}
	return dir, writeMod(filepath.Join(dir, "go.mod"), mod)
}

func writeMod(name string, mod *modfile.File) error {
	mod.Cleanup()
	data, err := mod.Format()
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// copyTree copies directories and regular files, writable by the owner: files of the
// module cache are not, and the copy is there to be changed.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", file)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o644)
	})
}
