// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/lock"
)

// download is what "go mod download -json" says about one module.
type download struct {
	Path, Version, Error string
	Zip, Dir             string
	Sum, GoModSum        string
}

// fetch downloads a module, verified against the go.sum in dir, and says where it is.
func (t *Toolchain) fetch(ctx context.Context, dir, path, version string, line func(string)) (*download, error) {
	argv := []string{t.Path, "mod", "download", "-json", path + "@" + version}
	out, err := command{argv: argv, dir: dir, env: t.target("amd64"), line: line}.run(ctx)
	var d download
	if jsonErr := json.Unmarshal(out, &d); jsonErr != nil {
		if err == nil {
			err = fault.Wrap(fault.Build, fmt.Errorf("%q: %w", argv, jsonErr), "check that the Go installation works")
		}
		return nil, err
	}
	if d.Error != "" { // the details are on standard output only
		return nil, classify(&Failed{Argv: argv, Dir: dir, Status: 1, Output: d.Error})
	}
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// Pin returns the component's entry for the lock file. It downloads the component's main
// module unless Go's module cache holds it. The entry of a component whose module is part
// of this repository has no sum and no size: its recipe pins it.
func (t *Toolchain) Pin(ctx context.Context, c *Component) (lock.Module, error) {
	recipe, err := c.LockRecipe()
	if err != nil {
		return lock.Module{}, err
	}
	pin := lock.Module{Component: c.Name, Path: c.Module.Path, Version: c.Module.Version, Recipe: recipe}
	if c.own() {
		return pin, nil
	}
	d, err := t.fetch(ctx, c.Dir(), c.Module.Path, c.Module.Version, nil)
	if err != nil {
		return lock.Module{}, fmt.Errorf("component %s: %w", c.Name, err)
	}
	st, err := os.Stat(d.Zip)
	if err != nil {
		return lock.Module{}, fault.Wrap(fault.Build, err, "clear Go's module cache with go clean -modcache")
	}
	pin.Sum, pin.Size = d.Sum, st.Size()
	return pin, nil
}

// LockRecipe returns the digest that the lock records of a component: its recipe. The code
// of a component built from the checkout changes with every commit, which is what pins it;
// of those the digest is over component.yaml alone.
func (c *Component) LockRecipe() (string, error) {
	if !c.Module.Checkout {
		return c.Recipe()
	}
	data, err := os.ReadFile(filepath.Join(c.Dir(), FileName))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// own says whether the component's code is part of this repository.
func (c *Component) own() bool {
	return c.Module.Checkout || strings.HasSuffix(c.Module.Path, "/"+filepath.ToSlash(Directory)+"/"+c.Name)
}
