// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/builder/source/fetch"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// formatVersion is raised when the files derived from an artefact change.
const formatVersion = 1

// Item returns what to download for an architecture. With mirror set, a base URL, the
// artefact is taken from there instead of its origin: its host becomes the first element
// of the path, so that one mirror can serve several origins.
func (r *Release) Item(arch, mirror string) (fetch.Item, error) {
	pin, err := r.Lock(arch)
	if err != nil {
		return fetch.Item{}, err
	}
	from := pin.URL
	if mirror != "" {
		origin, err := url.Parse(pin.URL)
		if err != nil {
			return fetch.Item{}, err
		}
		base, err := url.Parse(mirror)
		if err != nil || base.Scheme == "" {
			return fetch.Item{}, fault.New(fault.Usage, "give a base URL such as https://mirror.example/releases", "release mirror %q is not a URL", mirror)
		}
		from = base.JoinPath(origin.Host, origin.Path).String()
	}
	return fetch.Item{Name: r.String() + " for " + arch, URLs: []string{from}, SHA256: store.Digest(pin.SHA256)}, nil
}

// Fetch makes sure the store holds the artefacts. Errors are those of fetch.Fetch.
func Fetch(ctx context.Context, st *store.Store, releases []*Release, arch, mirror string, opts fetch.Options) error {
	items := make([]fetch.Item, len(releases))
	for i, r := range releases {
		var err error
		if items[i], err = r.Item(arch, mirror); err != nil {
			return err
		}
	}
	return fetch.Fetch(ctx, st, items, opts)
}

// Key names the files that the release puts into the image: digest of the artefact and
// the rules.
func (r *Release) Key(arch string) (store.Key, error) {
	pin, err := r.Lock(arch)
	if err != nil {
		return "", err
	}
	inputs := []string{pin.SHA256, r.Archive}
	for _, f := range r.Files {
		inputs = append(inputs, r.expand(f.From, arch), r.target(f, arch))
	}
	return store.NewKey("release", formatVersion, inputs...), nil
}

// Unpack returns the entry with the release's files, at their places in the image. The
// artefact must be in the store.
func (r *Release) Unpack(ctx context.Context, st *store.Store, arch string) (*store.Entry, error) {
	pin, err := r.Lock(arch)
	if err != nil {
		return nil, err
	}
	key, err := r.Key(arch)
	if err != nil {
		return nil, err
	}
	entry, err := st.Derive(ctx, key, func(ctx context.Context, dir string) error {
		blob, err := st.Blob(store.Digest(pin.SHA256))
		if err != nil {
			return err
		}
		return r.unpackTo(ctx, blob, arch, dir)
	})
	if errors.Is(err, tree.ErrCorrupt) {
		// Verify makes the store forget that it took the artefact for sound.
		err = errors.Join(st.Verify(store.Digest(pin.SHA256)), err)
	}
	if err != nil && fault.ClassOf(err) == fault.Unclassified && !errors.Is(err, context.DeadlineExceeded) {
		err = fault.Wrap(fault.Build, err, "check the release's files in "+FileName)
	}
	if err != nil {
		return nil, fmt.Errorf("release %s for %s: %w", r, arch, err)
	}
	return entry, nil
}

func (r *Release) unpackTo(ctx context.Context, blob, arch, dir string) error {
	// The pin is checked once more while the bytes are used: a cached artefact may have
	// gone bad without its inode changing.
	content := tree.Content{File: blob, SHA256: store.Digest(r.SHA256[arch]).Sum()}
	info, err := os.Stat(blob)
	if err != nil {
		return err
	}
	content.Size = info.Size()
	in, err := content.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	if r.Archive == "" {
		return writeProgram(filepath.Join(dir, r.target(r.Files[0], arch)), in)
	}
	wanted, places := []string{}, map[string][]string{}
	for _, f := range r.Files {
		from := r.expand(f.From, arch)
		if !slices.Contains(wanted, from) {
			wanted = append(wanted, from)
		}
		places[from] = append(places[from], r.target(f, arch))
	}
	err = extract(ctx, in, wanted, func(name string, _ int64, content io.Reader) error {
		first := filepath.Join(dir, places[name][0])
		if err := writeProgram(first, content); err != nil {
			return err
		}
		for _, other := range places[name][1:] {
			if err := copyProgram(filepath.Join(dir, other), first); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in) // to the end, where the digest is compared
	return err
}

func writeProgram(to string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Chmod(0o755), f.Close())
}

func copyProgram(to, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return writeProgram(to, f)
}

// Place puts the files of an entry that Unpack returned into a tree, owned by root and of
// the origin "release:<name>".
func Place(t *tree.Tree, name string, e *store.Entry) error {
	for _, f := range e.Files {
		n := tree.Node{
			Path: "/" + strings.TrimPrefix(f.Path, "/"), Kind: tree.Regular, Mode: uint32(f.Mode), Origin: "release:" + name,
			Content: e.Content(f),
		}
		if err := t.Put(n); err != nil {
			return err
		}
	}
	return nil
}
