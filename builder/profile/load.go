// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// Dir is where profiles are, below the root of a checkout.
const Dir = "profiles"

// own are the keys a profile does not inherit.
var own = []string{"name", "extends", "abstract", "description"}

// Load reads the profile called name and those it extends from a checkout, merges and
// validates them. The checkout is needed as a whole because a profile names assets and
// components. Every problem of the chain is reported at once, in one error of class Config.
func Load(root fs.FS, name string) (*Profile, error) {
	chain, complete, err := readChain(root, name)
	if err != nil {
		return nil, fault.Wrap(fault.Config, err, "'imgbuild profiles' lists what there is")
	}
	var problems strict.Problems
	for _, doc := range chain {
		problems = append(problems, doc.Problems()...)
	}
	p := &Profile{}
	if complete {
		doc := chain[len(chain)-1]
		for _, child := range slices.Backward(chain[:len(chain)-1]) {
			doc = strict.Merge(doc, child, own...)
		}
		doc.Decode(p)
		validate(root, doc, p)
		problems = append(problems, doc.Problems()...)
	}
	if err := problems.Err(); err != nil {
		return nil, fault.Wrap(fault.Config, err, "correct the profile; docs/reference/profile.md describes every key")
	}
	p.Debian.Packages = unique(p.Debian.Packages)
	p.Initrd.Packages = unique(p.Initrd.Packages)
	return p, nil
}

// List returns the names of all profiles of a checkout, sorted; abstract ones included.
func List(root fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(root, Dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".yaml")
		if ok && !e.IsDir() && !strings.HasPrefix(name, "lock.") && !strings.HasPrefix(name, ".") {
			out = append(out, name)
		}
	}
	return out, nil
}

// readChain returns the documents from the profile to its root. Each is checked for its
// structure by itself, so that a mistake in a parent is not hidden by its child. Complete
// is false when a link of the chain is missing or cannot be read; the error is that of the
// first, which no document names.
func readChain(root fs.FS, name string) (chain []*strict.Document, complete bool, err error) {
	var names []string
	for name != "" {
		file := path.Join(Dir, name+".yaml")
		if slices.Contains(names, name) {
			chain[len(chain)-1].Report("extends", "leads back to itself: "+strings.Join(append(names, name), " -> "))
			return chain, false, nil
		}
		data, err := fs.ReadFile(root, file)
		if err != nil || !fs.ValidPath(file) {
			return chain, false, missing(root, chain, name, err)
		}
		doc := strict.Parse(file, data)
		names, chain = append(names, name), append(chain, doc)
		if doc.Err() != nil {
			return chain, false, nil
		}
		var p Profile
		doc.Decode(&p)
		if p.Name != name {
			doc.Report("name", "is not the name of the file", name)
		}
		duplicatePaths(doc, &p)
		name = p.Extends
	}
	return chain, true, nil
}

// missing says that a profile cannot be read, at the line that asked for it; when the user
// did, the error says so.
func missing(root fs.FS, chain []*strict.Document, name string, err error) error {
	known, _ := List(root)
	unreadable := err != nil && !errors.Is(err, fs.ErrNotExist)
	what := "there is no such profile"
	if near := strict.Nearest(name, known); near != "" {
		what += fmt.Sprintf("; did you mean %q?", near)
	}
	if unreadable {
		what = fmt.Sprintf("cannot be read: %v", err)
	}
	switch {
	case len(chain) > 0:
		chain[len(chain)-1].Report("extends", what, known...)
		return nil
	case unreadable:
		return fmt.Errorf("profile %q: %w", name, err)
	}
	return fmt.Errorf("profile %q: %s; known: %s", name, what, strings.Join(known, ", "))
}

// unique drops repetitions, keeping the first of each.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
