// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// Load reads and validates one component. Root is the root of the checkout. Every problem
// of the file is reported in one error of class Config, a line each.
func Load(root, name string) (*Component, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if !nameRE.MatchString(name) {
		return nil, fault.New(fault.Config, "component names are lower-case letters, digits and dashes",
			"%q is not the name of a component", name)
	}
	file := filepath.Join(Directory, name, FileName)
	data, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Config,
			fmt.Sprintf("name one of the directories of %s that has a %s", filepath.Join(root, Directory), FileName),
			"there is no component %q: %s does not exist", name, filepath.Join(root, file))
	}
	if err != nil {
		return nil, err
	}
	c, doc := decode(file, data)
	c.root = root
	c.validate(doc, name)
	if doc.Err() == nil {
		c.validateFiles(doc)
	}
	if err := doc.Err(); err != nil {
		return nil, fault.Wrap(fault.Config, err, "correct "+file)
	}
	return c, nil
}

// Names returns the names of all components of a checkout, sorted.
func Names(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, Directory, "*", FileName))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filepath.Base(filepath.Dir(f))
	}
	return names, nil
}

// decode reads a component.yaml strictly; what is wrong with it the document knows.
func decode(file string, data []byte) (*Component, *strict.Document) {
	c := &Component{file: file}
	return c, strict.Decode(file, data, c)
}
