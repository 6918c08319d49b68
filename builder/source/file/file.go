// SPDX-License-Identifier: Apache-2.0

// Package file takes files and directories of the machine imgbuild runs on into a tree.
// Only names, types, permission bits and bytes matter: owners, times and extended
// attributes of the source do not reach the image, so that the same checkout gives the
// same image for every user.
package file

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Source is one file or directory and where it goes.
type Source struct {
	// From is a path on this machine.
	From string
	// To is an absolute path in the image. A directory's content goes below it.
	To string
	// Mode replaces the permission bits of files, in a directory of all of them. Zero
	// gives 0755 to what its owner may execute and 0644 to the rest, and 0755 to
	// directories, whatever the umask of the checkout was.
	Mode uint32
	// SHA256 pins the bytes of a file, or the Digest of a directory; empty for no pin.
	SHA256 store.Digest
	// Origin is recorded in the nodes: "profile:base".
	Origin string
}

// Read returns the nodes of the source, parents before children. Contents stay on disk and
// are verified against the digest computed here when an image is written, so a file that
// changes in between is an error and never a mixture. A mismatch with the pin is of class
// Digest, a missing source of class Config.
func (s Source) Read(ctx context.Context) ([]tree.Node, error) {
	info, err := os.Stat(s.From) // From itself may be a link: the user named it
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Config, fmt.Errorf("%s: source for %s: %w", s.Origin, s.To, err), "correct the path or create the file")
	}
	if err != nil {
		return nil, err
	}
	if s.Mode&^0o7777 != 0 {
		return nil, fault.New(fault.Config, "give permission bits up to 07777", "%s: mode %o of %s", s.Origin, s.Mode, s.To)
	}
	var nodes []tree.Node
	if info.IsDir() {
		nodes, err = s.readDir(ctx)
	} else {
		var n tree.Node
		n, err = s.readFile(ctx, s.From, s.To, info)
		nodes = []tree.Node{n}
	}
	if err != nil {
		return nil, err
	}
	if s.SHA256 != "" {
		if got := s.digest(nodes, info.IsDir()); got != s.SHA256 {
			return nil, fault.New(fault.Digest, "if the change is wanted, pin the new digest",
				"%s: %s: expected SHA-256 %s, got %s", s.Origin, s.From, s.SHA256, got)
		}
	}
	return nodes, nil
}

// AddTo reads the source and puts it into t.
func (s Source) AddTo(ctx context.Context, t *tree.Tree) error {
	nodes, err := s.Read(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if old := t.Lookup(n.Path); old != nil && old.Kind == tree.Directory && n.Kind == tree.Directory {
			continue // a directory that is there keeps its owner and mode
		}
		if err := t.Put(n); err != nil {
			return err
		}
	}
	return nil
}

func (s Source) readDir(ctx context.Context) ([]tree.Node, error) {
	var nodes []tree.Node
	root, err := filepath.EvalSymlinks(s.From) // WalkDir does not follow a link at its root
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		n := tree.Node{Path: path.Join(tree.Clean(s.To), filepath.ToSlash(rel)), Origin: s.Origin}
		switch d.Type() {
		case fs.ModeDir:
			n.Kind, n.Mode = tree.Directory, 0o755
		case fs.ModeSymlink:
			n.Kind, n.Mode = tree.Symlink, 0o777
			if n.Target, err = os.Readlink(p); err != nil {
				return err
			}
		case 0:
			info, err := d.Info()
			if err != nil {
				return err
			}
			if n, err = s.readFile(ctx, p, n.Path, info); err != nil {
				return err
			}
		default:
			return fault.New(fault.Config, "remove it from the directory", "%s: %s is neither file, directory nor link", s.Origin, p)
		}
		nodes = append(nodes, n)
		return nil
	})
	return nodes, err
}

func (s Source) readFile(ctx context.Context, from, to string, info fs.FileInfo) (tree.Node, error) {
	if !info.Mode().IsRegular() {
		return tree.Node{}, fault.New(fault.Config, "name a regular file or a directory", "%s: %s is neither", s.Origin, from)
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		return tree.Node{}, err
	}
	sum, size, err := store.HashFile(ctx, abs)
	if err != nil {
		return tree.Node{}, err
	}
	mode := s.Mode
	if mode == 0 {
		mode = 0o644
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
	}
	return tree.Node{
		Path: tree.Clean(to), Kind: tree.Regular, Mode: mode, Origin: s.Origin,
		Content: tree.Content{File: abs, Size: size, SHA256: sum.Sum()},
	}, nil
}

// digest is what a pin of the source is compared with: of a file the SHA-256 of its bytes;
// of a directory one over names, types, modes, link targets and digests of all below it.
func (s Source) digest(nodes []tree.Node, dir bool) store.Digest {
	if !dir {
		return store.Digest(hex.EncodeToString(nodes[0].Content.SHA256[:]))
	}
	var parts []string
	base := tree.Clean(s.To)
	for _, n := range nodes {
		rel := "."
		if n.Path != base {
			rel, _ = filepath.Rel(base, n.Path) // both absolute: cannot fail
		}
		parts = append(parts, rel, n.Kind.String(), fmt.Sprintf("%o", n.Mode), n.Target)
		if n.Kind == tree.Regular {
			parts = append(parts, hex.EncodeToString(n.Content.SHA256[:]))
		}
	}
	return store.Digest(store.NewKey("file source", 1, parts...))
}

// Digest returns what to write as the pin of the source as it is now.
func (s Source) Digest(ctx context.Context) (store.Digest, error) {
	s.SHA256 = ""
	nodes, err := s.Read(ctx)
	if err != nil {
		return "", err
	}
	return s.digest(nodes, len(nodes) != 1 || nodes[0].Kind == tree.Directory), nil
}
