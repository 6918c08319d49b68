// SPDX-License-Identifier: Apache-2.0

// Package kmod takes the kernel modules an image needs out of a kernel package: those
// that match the profile's globs and, recursively, those they depend on. Modules are
// stored decompressed, because a virtual machine's processor unpacks XZ slower than a
// disk reads the difference, and because the image as a whole is compressed for
// transport anyway; those that few nodes load may stay compressed to save space. The
// index files are made by depmod (kmod project).
package kmod

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/imgbuild/imgbuild/builder/tree"
	"github.com/ulikunitz/xz"
	"golang.org/x/sync/errgroup"
)

// Root is where module trees live in an image; depmod and the kernel agree on it.
const Root = "/usr/lib/modules"

// Release returns the kernel release whose modules t holds. Exactly one must be present.
func Release(t *tree.Tree) (string, error) {
	var found []string
	for _, n := range t.Below(Root) {
		if path.Dir(n.Path) == Root && n.Kind == tree.Directory {
			found = append(found, path.Base(n.Path))
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s: want the modules of exactly one kernel, found %d %v", Root, len(found), found)
	}
	return found[0], nil
}

// Selection says which modules of a kernel to take. A glob is matched against the path
// below "kernel/" without the suffix .ko or .ko.xz, and may end in "/**".
type Selection struct {
	// Modules are globs; what the matching modules depend on is added.
	Modules []string
	// Compressed are globs of those among them that stay as they are shipped (.ko.xz). A
	// kernel that does not unpack modules itself is refused.
	Compressed []string
}

// Extraction is a directory that holds selected modules and, after Index, their index.
type Extraction struct {
	// Dir is the root of the module tree: Dir/usr/lib/modules/<Release>/...
	Dir     string
	Release string
	// Modules are the paths of the selected modules below the release directory, with the
	// names they have in the image ("kernel/fs/erofs/erofs.ko"), sorted.
	Modules []string

	packed *packing
}

// Extract writes the modules of t that s selects, with everything they depend on, to dir.
// Those that stay compressed have their name but not yet their content: see Index. Globs
// that match neither a module nor a built-in are all reported in one error, and so are
// globs for compression that match no selected module.
func Extract(t *tree.Tree, s Selection, dir string) (*Extraction, error) {
	release, err := Release(t)
	if err != nil {
		return nil, err
	}
	base := path.Join(Root, release)
	avail := map[string]*tree.Node{} // module name -> node
	paths := map[string]string{}     // path without suffix -> module name
	for _, n := range t.Nodes() {
		rel, ok := strings.CutPrefix(n.Path, base+"/kernel/")
		if !ok || n.Kind != tree.Regular {
			continue
		}
		if stem, ok := moduleStem(rel); ok {
			avail[Name(stem)] = n
			paths[stem] = Name(stem)
		}
	}
	builtin, err := builtins(t, base)
	if err != nil {
		return nil, err
	}
	queue, err := match(paths, builtin, s.Modules)
	if err != nil {
		return nil, err
	}
	packed, err := newPacking(t, release, s.Compressed)
	if err != nil {
		return nil, err
	}
	x := &Extraction{Dir: dir, Release: release, packed: packed}
	if err := x.prepare(t, base); err != nil {
		return nil, err
	}
	if err := x.closure(queue, avail, builtin, base); err != nil {
		return nil, err
	}
	slices.Sort(x.Modules)
	return x, packed.unused()
}

// Name returns the module name of a path: its base name with dashes as underscores,
// which is how modules refer to each other.
func Name(p string) string { return strings.ReplaceAll(path.Base(p), "-", "_") }

// Decompressed returns a kernel package's tree with those modules replaced that an earlier
// extraction has decompressed already. Unpacking XZ is most of what Extract does.
func Decompressed(kernel, extracted *tree.Tree) (*tree.Tree, error) {
	out := tree.New()
	for _, n := range kernel.Nodes() {
		if plain := strings.TrimSuffix(n.Path, ".xz"); plain != n.Path {
			if have := extracted.Lookup(plain); have != nil {
				n = have
			}
		}
		if err := out.Put(*n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func moduleStem(p string) (string, bool) {
	for _, suffix := range []string{".ko", ".ko.xz"} {
		if s, ok := strings.CutSuffix(p, suffix); ok {
			return s, true
		}
	}
	return "", false
}

func builtins(t *tree.Tree, base string) (map[string]string, error) {
	out := map[string]string{}
	n := t.Lookup(base + "/modules.builtin")
	if n == nil {
		return nil, fmt.Errorf("%s/modules.builtin is missing from the kernel package", base)
	}
	data, err := n.Content.ReadAll()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "kernel/")
		if stem, ok := moduleStem(line); ok {
			out[stem] = Name(stem)
		}
	}
	return out, nil
}

// match resolves globs to module names.
func match(paths, builtin map[string]string, globs []string) ([]string, error) {
	var names []string
	var problems []error
	for _, g := range globs {
		hit := false
		for _, set := range []map[string]string{paths, builtin} {
			for p, name := range set {
				ok, err := doublestar.Match(g, p)
				if err != nil {
					problems = append(problems, fmt.Errorf("module glob %q: %w", g, err))
					break
				}
				if ok {
					names, hit = append(names, name), true
				}
			}
		}
		if !hit {
			problems = append(problems, fmt.Errorf("module glob %q matches no module of this kernel; remove it or correct the path", g))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), errors.Join(problems...)
}

// prepare writes what depmod reads besides the modules.
func (x *Extraction) prepare(t *tree.Tree, base string) error {
	to := x.moduleDir()
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	// depmod looks below <dir>/lib/modules or <dir>/usr/lib/modules, depending on how
	// it was configured; the link serves both.
	if err := os.Symlink("usr/lib", filepath.Join(x.Dir, "lib")); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		n := t.Lookup(path.Join(base, name))
		if n == nil {
			continue
		}
		data, err := n.Content.ReadAll()
		if err != nil {
			return err
		}
		if name == "modules.order" {
			data = []byte(strings.ReplaceAll(string(data), ".ko.xz\n", ".ko\n"))
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (x *Extraction) moduleDir() string {
	return filepath.Join(x.Dir, filepath.FromSlash(Root), x.Release)
}

// closure extracts modules level by level until no new dependency appears.
func (x *Extraction) closure(queue []string, avail map[string]*tree.Node, builtin map[string]string, base string) error {
	isBuiltin := map[string]bool{}
	for _, name := range builtin {
		isBuiltin[name] = true
	}
	seen := map[string]bool{}
	for len(queue) > 0 {
		var mu sync.Mutex
		var next []string
		var g errgroup.Group
		g.SetLimit(runtime.GOMAXPROCS(0))
		for _, name := range queue {
			n := avail[name]
			if seen[name] || n == nil {
				continue // built in, or an optional soft dependency this kernel lacks
			}
			seen[name] = true
			g.Go(func() error {
				rel, info, err := x.extract(n, base)
				if err != nil {
					return err
				}
				for _, d := range info.Depends {
					if avail[d] == nil && !isBuiltin[d] {
						return fmt.Errorf("module %s depends on %s, which the kernel package does not hold", rel, d)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				x.Modules = append(x.Modules, rel)
				next = append(next, info.Depends...)
				next = append(next, info.Soft...)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		slices.Sort(next)
		queue = slices.Compact(next)
	}
	return nil
}

func (x *Extraction) extract(n *tree.Node, base string) (string, Info, error) {
	data, err := Decompress(n)
	if err != nil {
		return "", Info{}, err
	}
	info, err := ParseInfo(data)
	if err != nil {
		return "", Info{}, fmt.Errorf("%s: %w", n.Path, err)
	}
	rel := strings.TrimPrefix(n.Path, base+"/")
	keep, err := x.packed.keep(rel, n)
	if err != nil {
		return "", Info{}, err
	}
	if !keep {
		rel = strings.TrimSuffix(rel, ".xz")
	}
	to := filepath.Join(x.moduleDir(), filepath.FromSlash(rel))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", Info{}, err
	}
	return rel, info, os.WriteFile(to, data, 0o644)
}

// Decompress returns the bytes of a module, unpacked when its name ends in .xz.
func Decompress(n *tree.Node) ([]byte, error) {
	if !strings.HasSuffix(n.Path, ".xz") {
		return n.Content.ReadAll()
	}
	r, err := n.Content.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	zr, err := xz.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Path, err)
	}
	data, err := io.ReadAll(zr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Path, err)
	}
	return data, nil
}
