// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/builder/profile"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// files places what the profile asks for. Directories come first, so that a file's
// parent has the mode the profile gave it.
func (c *composer) files() error {
	origin := "profile:" + c.Profile.Name
	return errors.Join(
		PlaceDirectories(c.t, c.Profile.Directories, c.ids.owner, origin),
		PlaceFiles(c.t, c.Assets, c.Profile.Files, c.ids.owner, origin),
		PlaceSymlinks(c.t, c.Profile.Symlinks, origin),
	)
}

// Owner resolves "user[:group]" to ids; empty means root.
type Owner func(string) (uid, gid uint32, err error)

// PlaceDirectories puts the directories of a profile into t.
func PlaceDirectories(t *tree.Tree, dirs []profile.Directory, owner Owner, origin string) error {
	var problems []error
	for _, d := range dirs {
		n := tree.Node{Path: d.Path, Kind: tree.Directory, Origin: origin}
		problems = append(problems, finish(t, &n, d.Mode, 0o755, d.Owner, owner))
	}
	return errors.Join(problems...)
}

// PlaceFiles puts the files of a profile into t; sources are read from assets.
func PlaceFiles(t *tree.Tree, assets fs.FS, files []profile.File, owner Owner, origin string) error {
	var problems []error
	for _, f := range files {
		data := []byte(f.Content)
		if f.Source != "" {
			var err error
			if data, err = fs.ReadFile(assets, f.Source); err != nil {
				problems = append(problems, fmt.Errorf("file %s: asset: %w", f.Path, err))
				continue
			}
		}
		n := tree.Node{Path: f.Path, Kind: tree.Regular, Content: tree.Bytes(data), Origin: origin}
		problems = append(problems, finish(t, &n, f.Mode, 0o644, f.Owner, owner))
	}
	return errors.Join(problems...)
}

// PlaceSymlinks puts the links of a profile into t.
func PlaceSymlinks(t *tree.Tree, links []profile.Symlink, origin string) error {
	var problems []error
	for _, l := range links {
		n := tree.Node{Path: l.Path, Kind: tree.Symlink, Mode: 0o777, Target: l.Target, Origin: origin}
		problems = append(problems, t.Put(n))
	}
	return errors.Join(problems...)
}

func finish(t *tree.Tree, n *tree.Node, mode string, fallback uint32, who string, owner Owner) error {
	n.Mode = fallback
	if mode != "" {
		m, err := profile.ParseMode(mode)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
		n.Mode = m
	}
	var err error
	if n.UID, n.GID, err = owner(who); err != nil {
		return fmt.Errorf("%s: %w", n.Path, err)
	}
	return t.Put(*n)
}

// alternatives makes each link; the target must exist in the image.
func (c *composer) alternatives() error {
	var problems []error
	for _, p := range slices.Sorted(maps.Keys(c.Profile.Alternatives)) {
		target := c.Profile.Alternatives[p]
		if !strings.HasPrefix(p, "/") || !strings.HasPrefix(target, "/") {
			problems = append(problems, fmt.Errorf("alternative %s -> %s: both must be absolute paths", p, target))
			continue
		}
		if final, err := c.t.Resolve(target); err != nil || c.t.Lookup(final) == nil {
			problems = append(problems, fmt.Errorf("alternative %s: target %s is not in the image", p, target))
			continue
		}
		problems = append(problems, c.link("alternatives", p, target))
	}
	return errors.Join(problems...)
}
