// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"

	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// entryFile returns a file of a store entry as content that verifies itself.
func entryFile(e *store.Entry, name string) (tree.Content, error) {
	f, err := e.File(name)
	if err != nil {
		return tree.Content{}, err
	}
	return e.Content(f), nil
}

// entryTree returns the files and links of a store entry as a tree owned by root.
func entryTree(e *store.Entry, origin string) (*tree.Tree, error) {
	t := tree.New()
	var problems []error
	for _, f := range e.Files {
		problems = append(problems, t.Put(tree.Node{
			Path: "/" + f.Path, Kind: tree.Regular, Mode: uint32(f.Mode.Perm()), Content: e.Content(f), Origin: origin}))
	}
	for _, l := range e.Links {
		problems = append(problems, t.Put(tree.Node{Path: "/" + l.Path, Kind: tree.Symlink, Mode: 0o777, Target: l.Target, Origin: origin}))
	}
	return t, errors.Join(problems...)
}
