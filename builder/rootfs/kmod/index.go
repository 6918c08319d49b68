// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// Depmod returns a command that runs depmod with the arguments given.
type Depmod func(ctx context.Context, args ...string) (*exec.Cmd, error)

// Index runs depmod over the extraction and then packs the modules that stay compressed.
// In that order, because depmod takes their names from the directory and looks at the
// first bytes of a file to learn whether it is compressed: it names the files as they
// will be, needs no library that unpacks them, and does not unpack them a second time.
func (x *Extraction) Index(ctx context.Context, depmod Depmod) error {
	cmd, err := depmod(ctx, "-b", x.Dir, x.Release)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	for _, name := range []string{"modules.dep.bin", "modules.alias.bin"} {
		if st, err := os.Stat(filepath.Join(x.moduleDir(), name)); err != nil || st.Size() == 0 {
			return fmt.Errorf("%s ran but wrote no %s", strings.Join(cmd.Args, " "), name)
		}
	}
	return x.packed.restore(x.moduleDir())
}

// Trim removes from an indexed extraction what is for depmod and for people alone.
func (x *Extraction) Trim() error {
	var problems []error
	for name := range textOnly {
		if err := os.Remove(filepath.Join(x.moduleDir(), name)); !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
	}
	return errors.Join(append(problems, os.Remove(filepath.Join(x.Dir, "lib")))...)
}

// textOnly are index files that exist for people; programs read the .bin form.
var textOnly = map[string]bool{
	"modules.alias": true, "modules.symbols": true, "modules.builtin.modinfo": true, "modules.order": true,
}

// Tree returns the modules and their index as nodes below /usr/lib/modules. Content
// stays in the extraction's directory, which must not change while the tree lives.
func (x *Extraction) Tree() (*tree.Tree, error) {
	t := tree.New()
	err := filepath.WalkDir(x.moduleDir(), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || textOnly[d.Name()] {
			return err
		}
		rel, err := filepath.Rel(x.Dir, p)
		if err != nil {
			return err
		}
		c, err := fileContent(p)
		if err != nil {
			return err
		}
		return t.Put(tree.Node{Path: "/" + filepath.ToSlash(rel), Kind: tree.Regular, Mode: 0o644, Content: c, Origin: "kernel:" + x.Release})
	})
	return t, err
}

func fileContent(p string) (tree.Content, error) {
	f, err := os.Open(p)
	if err != nil {
		return tree.Content{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return tree.Content{}, err
	}
	return tree.Content{File: p, Size: n, SHA256: [32]byte(h.Sum(nil))}, nil
}
