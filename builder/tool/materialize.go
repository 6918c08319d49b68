// SPDX-License-Identifier: Apache-2.0

package tool

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// Materialize writes the tree t below dir as an ordinary user can: owners and extended
// attributes are dropped, and so are device nodes, pipes and set-id bits; files are at
// least readable and directories writable by their owner. Symbolic links are made relative
// where they were absolute, and cut off at the root where they would leave it, so that
// they resolve inside dir. The digest of every file is verified on the way.
func Materialize(ctx context.Context, t *tree.Tree, dir string) error {
	var files []*tree.Node
	for _, n := range t.Nodes() {
		p := filepath.Join(dir, filepath.FromSlash(n.Path))
		var err error
		switch n.Kind {
		case tree.Directory:
			if err = os.MkdirAll(p, 0o700); err == nil {
				err = os.Chmod(p, os.FileMode(n.Mode&0o777|0o700))
			}
		case tree.Symlink:
			err = os.Symlink(linkInside(n), p)
		case tree.Regular:
			files = append(files, n)
		}
		if err != nil {
			return fmt.Errorf("laying out %s from %s: %w", n.Path, n.Origin, err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, n := range files {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := writeFile(n, filepath.Join(dir, filepath.FromSlash(n.Path))); err != nil {
				return fmt.Errorf("laying out %s from %s: %w", n.Path, n.Origin, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func writeFile(n *tree.Node, to string) error {
	r, err := n.Content.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(os.FileMode(n.Mode&0o777 | 0o400))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// linkInside returns the target of a link such that it resolves below the directory the
// tree is laid out in. A tree's parent directories are never links, so the link's own
// place is known and ".." can be counted.
func linkInside(n *tree.Node) string {
	at := path.Dir(n.Path)
	if path.IsAbs(n.Target) {
		rel, err := filepath.Rel(at, path.Clean(n.Target))
		if err != nil {
			return n.Target
		}
		return rel
	}
	depth := strings.Count(strings.Trim(at, "/"), "/") + 1
	if at == "/" {
		depth = 0
	}
	for _, part := range strings.Split(n.Target, "/") {
		switch part {
		case "..":
			depth--
		case "", ".":
		default:
			depth++
		}
		if depth < 0 {
			// The kernel stays at the root there; below dir it would not.
			rel, err := filepath.Rel(at, path.Join(at, n.Target))
			if err != nil {
				return n.Target
			}
			return rel
		}
	}
	return n.Target
}
