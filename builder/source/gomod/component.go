// SPDX-License-Identifier: Apache-2.0

// Package gomod builds the programs of a node image from Go modules. A component is a
// directory under assets/components: a small Go module that pins upstream by its go.mod
// and go.sum, and a component.yaml that says what to build from it and where the results
// go. Integrity is Go's own: go.sum and the checksum database.
//
// Building is a pure function of the recipe (the component's directory), the version of
// the Go toolchain and the target architecture; Key names that function's input, so that
// results can be kept in the content store. No C compiler is involved.
package gomod

import (
	"path/filepath"
	"strings"
)

// Directory is where components live, below the root of the checkout.
const Directory = "assets/components"

// FileName is the name of a component's description inside its directory.
const FileName = "component.yaml"

// Component is one decoded component.yaml.
type Component struct {
	// Name is the component's name and that of its directory.
	Name string `yaml:"name"`
	// Description says in a few words what the component is.
	Description string `yaml:"description"`
	// Module is what the component is built from and what its version means.
	Module Module `yaml:"module"`
	// Tags are build tags for every program.
	Tags []string `yaml:"tags,omitempty"`
	// Variables are string variables set by the linker, by import path and name. The
	// values may use ${version} (v1.36.3), ${number} (1.36.3), ${major} and ${minor}.
	Variables map[string]string `yaml:"variables,omitempty"`
	// Programs are the files to build.
	Programs []Program `yaml:"programs"`
	// Transforms change copies of upstream modules before the build, mechanically.
	Transforms []Transform `yaml:"transforms,omitempty"`
	// Inputs are the files and directories, below the root of the checkout, that a
	// component built from the checkout itself depends on. Only for Module.Checkout.
	Inputs []string `yaml:"inputs,omitempty"`
	// Checks say what the programs print about themselves.
	Checks []Check `yaml:"checks,omitempty"`

	root string // of the checkout, absolute
	file string // path of component.yaml as shown in messages
}

// Module names an upstream module.
type Module struct {
	// Path is the module's path.
	Path string `yaml:"path"`
	// Version is the exact version that the component's go.mod must require.
	Version string `yaml:"version,omitempty"`
	// Checkout means that the module is this repository itself.
	Checkout bool `yaml:"checkout,omitempty"`
}

// Program is one main package and where its file goes.
type Program struct {
	// Package is a path relative to the component's module ("." or "./shim"; for a
	// checkout relative to its root), or an import path.
	Package string `yaml:"package"`
	// Path is the absolute path of the file in the image.
	Path string `yaml:"path"`
	// Links are absolute paths of symbolic links to the file. A program that serves
	// several purposes chooses by the name it is called by.
	Links []string `yaml:"links,omitempty"`
	// Tags are added to those of the component.
	Tags []string `yaml:"tags,omitempty"`
}

// Transform changes a copy of one upstream module. Upstream's files are never kept in
// this repository: what is kept is how to change them.
type Transform struct {
	// Module is the path of the module; its version is the one go.mod selects.
	Module string `yaml:"module"`
	// Drop lists files and directories to delete, relative to the module.
	Drop []string `yaml:"drop,omitempty"`
	// Unimport lists packages whose blank imports are deleted from every file.
	Unimport []string `yaml:"unimport,omitempty"`
	// Libraries lists directories whose package main becomes a library package with an
	// exported function Main, so that several programs can be linked into one.
	Libraries []string `yaml:"libraries,omitempty"`
	// Overlay is a directory of the component whose files are added to the module,
	// replacing those of the same name.
	Overlay string `yaml:"overlay,omitempty"`
}

// Check is one command and what the first line of its output must be.
type Check struct {
	// Command is the base name of a program or link and its arguments.
	Command []string `yaml:"command"`
	// Output is the wanted first line; variables are replaced as in Variables.
	Output string `yaml:"output"`
}

// Dir returns the component's directory.
func (c *Component) Dir() string { return filepath.Join(c.root, Directory, c.Name) }

// workDir is the directory a build without transforms runs in.
func (c *Component) workDir() string {
	if c.Module.Checkout {
		return c.root
	}
	return c.Dir()
}

// expand replaces the variables a component.yaml may use.
func (c *Component) expand(s string) string {
	number := strings.TrimPrefix(c.Module.Version, "v")
	parts := append(strings.SplitN(number, ".", 3), "", "")
	return strings.NewReplacer(
		"${version}", c.Module.Version,
		"${number}", number,
		"${major}", parts[0],
		"${minor}", parts[1],
	).Replace(s)
}
