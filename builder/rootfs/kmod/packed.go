// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// packing says which modules keep the compression they are shipped with, and remembers
// where their compressed bytes are.
type packing struct {
	globs []string

	mu      sync.Mutex
	hits    map[string]bool       // globs that matched a selected module
	modules map[string]*tree.Node // path below the release directory -> what the package ships
}

// newPacking refuses kernels that cannot load a compressed module. In an image that is the
// kernel's work: libkmod hands it the file as it is (finit_module(2),
// MODULE_INIT_COMPRESSED_FILE) when /sys/module/compression names the file's compression,
// and would need liblzma, which no image has to hold, when it does not.
func newPacking(t *tree.Tree, release string, globs []string) (*packing, error) {
	p := &packing{globs: globs, hits: map[string]bool{}, modules: map[string]*tree.Node{}}
	if len(globs) == 0 {
		return p, nil
	}
	file := "/boot/config-" + release
	n := t.Lookup(file)
	if n == nil {
		return nil, fmt.Errorf("%s is missing from the kernel package, so nothing says that the kernel unpacks modules; empty kernel.compressed", file)
	}
	config, err := n.Content.ReadAll()
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(config), "\n")
	for _, want := range []string{"CONFIG_MODULE_DECOMPRESS=y", "CONFIG_MODULE_COMPRESS_XZ=y"} {
		if !slices.Contains(lines, want) {
			return nil, fmt.Errorf("%s lacks %s: a node could not load compressed modules; empty kernel.compressed", file, want)
		}
	}
	return p, nil
}

// keep tells whether the module n, at rel below the release directory, stays compressed.
func (p *packing) keep(rel string, n *tree.Node) (bool, error) {
	stem, ok := strings.CutSuffix(strings.TrimPrefix(rel, "kernel/"), ".ko.xz")
	if !ok {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := false
	for _, g := range p.globs {
		ok, err := doublestar.Match(g, stem)
		if err != nil {
			return false, fmt.Errorf("kernel.compressed: glob %q: %w", g, err)
		}
		if ok {
			kept, p.hits[g] = true, true
		}
	}
	if kept {
		p.modules[rel] = n
	}
	return kept, nil
}

// unused reports the globs that matched no selected module, all in one error.
func (p *packing) unused() error {
	var problems []error
	for _, g := range p.globs {
		if !p.hits[g] {
			problems = append(problems, fmt.Errorf("kernel.compressed: glob %q matches no compressed module that kernel.modules selects; remove it or correct the path", g))
		}
	}
	return errors.Join(problems...)
}

// restore puts the shipped bytes of the packed modules in the place of the unpacked ones.
func (p *packing) restore(dir string) error {
	for rel, n := range p.modules {
		data, err := n.Content.ReadAll()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(rel)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
