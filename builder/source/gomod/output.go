// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// recordName is the file in a build's directory that describes the others.
const recordName = "outputs.json"

// Output is one program that a build made.
type Output struct {
	// Path is where the program goes in the image; Links are symbolic links to it.
	Path  string   `json:"path"`
	Links []string `json:"links,omitempty"`
	// Mode holds permission bits, Size is in bytes, SHA256 in hex.
	Mode   uint32 `json:"mode"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// File is the program's base name in the build's directory.
	File string `json:"file"`
}

func newOutput(dir, name string, prog Program) (Output, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return Output{}, err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return Output{}, err
	}
	return Output{
		Path: prog.Path, Links: prog.Links, Mode: 0o755, Size: size,
		SHA256: hex.EncodeToString(h.Sum(nil)), File: name,
	}, nil
}

// record writes the description that Outputs reads.
func record(dir string, outputs []Output) error {
	data, err := json.MarshalIndent(outputs, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, recordName), append(data, '\n'), 0o644)
}

// Outputs returns what an earlier build put into dir.
func Outputs(dir string) ([]Output, error) {
	name := filepath.Join(dir, recordName)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, err, "remove "+dir+" and build again")
	}
	var outputs []Output
	if err := json.Unmarshal(data, &outputs); err != nil {
		return nil, fault.Wrap(fault.Corrupt, fmt.Errorf("%s: %w", name, err), "remove "+dir+" and build again")
	}
	return outputs, nil
}

// Place puts the programs of a build directory and their links into a tree, owned by root.
func Place(t *tree.Tree, component, dir string, outputs []Output) error {
	origin := "component:" + component
	for _, o := range outputs {
		content := tree.Content{File: filepath.Join(dir, o.File), Size: o.Size}
		sum, err := hex.DecodeString(o.SHA256)
		if err != nil || len(sum) != sha256.Size {
			return fault.New(fault.Corrupt, "remove "+dir+" and build again", "%s: %q is not a SHA-256", o.File, o.SHA256)
		}
		copy(content.SHA256[:], sum)
		if err := t.Put(tree.Node{Path: o.Path, Kind: tree.Regular, Mode: o.Mode, Content: content, Origin: origin}); err != nil {
			return err
		}
		for _, l := range o.Links {
			target := linkTarget(l, o.Path)
			if err := t.Put(tree.Node{Path: l, Kind: tree.Symlink, Mode: 0o777, Target: target, Origin: origin}); err != nil {
				return err
			}
		}
	}
	return nil
}

// linkTarget is relative, so that a link also works below a mount point.
func linkTarget(link, program string) string {
	rel, err := filepath.Rel(path.Dir(link), program)
	if err != nil { // both are absolute: validated when the component was loaded
		return program
	}
	return rel
}
