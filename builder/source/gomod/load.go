// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/builder/fault"
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
	c, err := decode(file, data)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "correct "+file)
	}
	c.root = root
	problems := c.validate(name)
	if len(problems) == 0 {
		problems = c.validateFiles()
	}
	if len(problems) > 0 {
		return nil, fault.Wrap(fault.Config, errors.Join(problems...), "correct "+file)
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

// decode parses a component.yaml strictly: an unknown or repeated key is an error.
func decode(file string, data []byte) (*Component, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	c := &Component{file: file}
	if len(document.Content) == 0 {
		return nil, fmt.Errorf("%s: the file is empty", file)
	}
	k := &checker{file: file, positions: map[string]position{}}
	k.walk(document.Content[0], reflect.TypeOf(c), "")
	if len(k.problems) > 0 {
		return nil, errors.Join(k.problems...)
	}
	c.positions = k.positions
	if err := document.Decode(c); err != nil {
		return nil, fmt.Errorf("%s: %s", file, plain(err))
	}
	return c, nil
}
