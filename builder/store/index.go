// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// EntryFile is one regular file of an entry.
type EntryFile struct {
	// Path is relative to Entry.Dir, slash separated.
	Path   string `json:"path"`
	Size   int64  `json:"size"` // bytes
	SHA256 Digest `json:"sha256"`
	// Mode holds permission bits only.
	Mode fs.FileMode `json:"mode"`
}

// EntryLink is one symbolic link of an entry.
type EntryLink struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// index is the content of an entry's index file: one header line with the SHA-256 of the
// rest, then JSON. The header makes a torn or edited index recognisable.
type index struct {
	Key   Key         `json:"key"`
	Files []EntryFile `json:"files"` // sorted by path
	Links []EntryLink `json:"links,omitempty"`
}

const indexHeader = "imgbuild entry 1 "

func (x *index) encode() ([]byte, error) {
	body, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	return append([]byte(indexHeader+string(DigestOf(body))+"\n"), body...), nil
}

func decodeIndex(data []byte, key Key) (*index, error) {
	head, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok || string(head) != indexHeader+string(DigestOf(body)) {
		return nil, fmt.Errorf("index of cached result %s does not match its checksum: %w", key, errDamaged)
	}
	var x index
	if err := json.Unmarshal(body, &x); err != nil {
		return nil, fmt.Errorf("index of cached result %s: %w: %w", key, err, errDamaged)
	}
	if x.Key != key {
		return nil, fmt.Errorf("index of cached result %s belongs to %s: %w", key, x.Key, errDamaged)
	}
	return &x, nil
}

// makeIndex lists and hashes everything below dir. The stamps are taken before hashing, in
// the order of the files.
func makeIndex(ctx context.Context, key Key, dir string) (*index, []stamp, error) {
	x := &index{Key: key, Files: []EntryFile{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch d.Type() {
		case 0:
			info, err := d.Info()
			if err != nil {
				return err
			}
			x.Files = append(x.Files, EntryFile{Path: rel, Mode: info.Mode().Perm()})
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			x.Links = append(x.Links, EntryLink{Path: rel, Target: target})
		default:
			return fmt.Errorf("%s: a cached result holds files, directories and links, not a %s", rel, d.Type())
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	stamps := make([]stamp, len(x.Files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range x.Files {
		f := &x.Files[i]
		g.Go(func() (err error) {
			path := filepath.Join(dir, filepath.FromSlash(f.Path))
			if stamps[i], err = stampOf(path); err != nil {
				return err
			}
			f.SHA256, f.Size, err = HashFile(ctx, path)
			return err
		})
	}
	return x, stamps, g.Wait()
}
