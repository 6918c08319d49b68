// SPDX-License-Identifier: Apache-2.0

package build

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/manifest"
	"github.com/imgbuild/imgbuild/builder/source/gomod"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// Contributor is an origin of bytes in the root file system.
type Contributor struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"` // bytes
	Files  int    `json:"files"`
}

// Contributors returns the origins of a tree's files, the largest first.
func Contributors(t *tree.Tree) []Contributor {
	sums := map[string]*Contributor{}
	for n := range t.All() {
		if n.Kind != tree.Regular {
			continue
		}
		c := sums[n.Origin]
		if c == nil {
			c = &Contributor{Origin: n.Origin}
			sums[n.Origin] = c
		}
		c.Size += n.Content.Size
		c.Files++
	}
	out := make([]Contributor, 0, len(sums))
	for _, c := range sums {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Contributor) int {
		if a.Size != b.Size {
			return int(b.Size - a.Size)
		}
		return strings.Compare(a.Origin, b.Origin)
	})
	return out
}

// newManifest describes the root file system about to be composed from set.
func (w *work) newManifest(set []lock.Package) (*manifest.Manifest, error) {
	m := &manifest.Manifest{
		Format: manifest.Format, Profile: w.profile.Name, Architecture: w.Arch,
		ImageID: w.profile.Image.ID, ImageVersion: w.profile.Image.Version,
		Key: string(w.Plan.Key), Timestamp: w.Plan.Timestamp, Debug: w.profile.Debug, Delivery: w.profile.Delivery,
	}
	for _, p := range set {
		m.Packages = append(m.Packages, manifest.Package{Name: p.Name, Version: p.Version, Source: p.Source, SHA256: p.SHA256})
	}
	slices.SortFunc(m.Packages, func(a, b manifest.Package) int { return strings.Compare(a.Name, b.Name) })
	for _, name := range slices.Sorted(slices.Values(w.profile.Components)) {
		c := w.components[name]
		recipe, err := c.Recipe()
		if err != nil {
			return nil, err
		}
		entry := manifest.Component{Name: name, Module: c.Module.Path, Version: c.Module.Version, Recipe: recipe, Go: w.toolchain, Files: map[string]string{}}
		outputs, err := gomod.Outputs(w.built[name].Dir)
		if err != nil {
			return nil, err
		}
		for _, o := range outputs {
			entry.Files[o.Path] = o.SHA256
		}
		m.Components = append(m.Components, entry)
	}
	for _, r := range w.profile.Releases {
		m.Releases = append(m.Releases, w.describeRelease(r))
	}
	return m, nil
}

// receipt stands beside an image and says which plan made it, so that a build that would
// make the same bytes again can see that they are there.
type receipt struct {
	Key     store.Key `json:"key"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"modTime"`
	Result  *Result   `json:"image"`
}

func (p *Project) receiptPath() string { return strings.TrimSuffix(p.Output, ".raw") + ".json" }

// record writes the receipt. The image is published already: a power cut before this
// point leaves a good image that the next build makes again.
func (p *Project) record(r *Result) error {
	info, err := os.Stat(p.Output)
	if err != nil {
		return err
	}
	doc, err := json.MarshalIndent(receipt{Key: p.Plan.Key, Size: info.Size(), ModTime: info.ModTime(), Result: r}, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(p.Output), ".receipt-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(doc, '\n'))
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), p.receiptPath())
}

// UpToDate returns the result of an earlier build of the same plan when its image is still
// there, with the size and modification time it was published with.
func (p *Project) UpToDate() (*Result, bool) {
	data, err := os.ReadFile(p.receiptPath())
	if err != nil {
		return nil, false
	}
	var r receipt
	if json.Unmarshal(data, &r) != nil || r.Key != p.Plan.Key || r.Result == nil {
		return nil, false
	}
	info, err := os.Stat(p.Output)
	if err != nil || info.Size() != r.Size || !info.ModTime().Equal(r.ModTime) {
		return nil, false
	}
	r.Result.Path = p.Output // the directory may have been moved since
	return r.Result, true
}
