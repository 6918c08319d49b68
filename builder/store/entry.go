// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Entry is a derived result in the store. Its files do not change.
type Entry struct {
	// Dir is the absolute path of the directory the files are in.
	Dir string
	Key Key
	// Files are sorted by path.
	Files []EntryFile
	Links []EntryLink
}

// File returns the record of the file at name, which is relative to Dir.
func (e *Entry) File(name string) (EntryFile, error) {
	i, ok := slices.BinarySearchFunc(e.Files, name, func(f EntryFile, n string) int { return strings.Compare(f.Path, n) })
	if !ok {
		return EntryFile{}, fmt.Errorf("cached result %.12s has no file %q: %w", e.Key, name, fs.ErrNotExist)
	}
	return e.Files[i], nil
}

// Path returns the absolute path of the file at name.
func (e *Entry) Path(name string) (string, error) {
	if _, err := e.File(name); err != nil {
		return "", err
	}
	return filepath.Join(e.Dir, filepath.FromSlash(name)), nil
}

// Content refers to the bytes of a file of the entry.
func (e *Entry) Content(f EntryFile) tree.Content {
	return tree.Content{File: filepath.Join(e.Dir, filepath.FromSlash(f.Path)), Size: f.Size, SHA256: f.SHA256.Sum()}
}

// Open returns a reader of the file at name. Reading to the end verifies the digest: the
// last Read fails with an error of class Corrupt instead of io.EOF on a mismatch.
func (e *Entry) Open(name string) (io.ReadCloser, error) {
	rec, err := e.File(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(e.Dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	return &checked{File: f, sum: sha256.New(), want: rec}, nil
}

// checked hashes what is read through it. Only Read and Close of the file are offered.
type checked struct {
	File *os.File
	sum  hash.Hash
	want EntryFile
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	c.sum.Write(p[:n])
	if err == io.EOF && [sha256.Size]byte(c.sum.Sum(nil)) != c.want.SHA256.Sum() {
		err = fault.Wrap(fault.Corrupt, fmt.Errorf("%s: %w", c.File.Name(), errDamaged), "run 'imgbuild cache verify', then the build again")
	}
	return n, err
}

func (c *checked) Close() error { return c.File.Close() }

// Verify reads every file and link and returns an error of class Corrupt that lists all
// which differ from the index.
func (e *Entry) Verify(ctx context.Context) error {
	bad, err := e.compare(ctx, func(int, stamp) bool { return false }, nil)
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return fault.Wrap(fault.Corrupt, fmt.Errorf("cached result %s: %w: %s", e.Key, errDamaged, strings.Join(bad, ", ")),
			"run the build again: it derives the result anew")
	}
	return nil
}

// compare returns the paths that are not what the index says. Files for which unchanged
// returns true are not read. The stamps seen are stored in seen when it is not nil.
func (e *Entry) compare(ctx context.Context, unchanged func(int, stamp) bool, seen []stamp) ([]string, error) {
	var bad []string
	for _, l := range e.Links {
		if got, err := os.Readlink(filepath.Join(e.Dir, filepath.FromSlash(l.Path))); err != nil || got != l.Target {
			bad = append(bad, l.Path)
		}
	}
	damaged := make([]bool, len(e.Files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range e.Files {
		path := filepath.Join(e.Dir, filepath.FromSlash(f.Path))
		now, err := stampOf(path)
		if seen != nil {
			seen[i] = now
		}
		if err != nil || now.Size != f.Size {
			damaged[i] = true
			continue
		}
		if unchanged(i, now) {
			continue
		}
		g.Go(func() error {
			got, _, err := HashFile(ctx, path)
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			damaged[i] = err != nil || got != f.SHA256
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, d := range damaged {
		if d {
			bad = append(bad, e.Files[i].Path)
		}
	}
	return bad, nil
}
