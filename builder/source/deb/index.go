// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/builder/lock"
)

// Candidate is one package version that an archive offers.
type Candidate struct {
	lock.Package
	Priority string

	depends, preDepends, provides, conflicts, breaks string
}

// Provider is a candidate that offers a virtual package.
type Provider struct {
	*Candidate
	// Version is that of the virtual package, empty when it has none.
	Version string
}

// Index holds what a set of signed archives offers for one architecture.
type Index struct {
	Architecture string
	// Archives records the signatures the index rests on, in the order they were added.
	Archives []lock.Archive

	packages  map[string][]*Candidate
	providers map[string][]Provider
}

// NewIndex returns an index that offers nothing.
func NewIndex(architecture string) *Index {
	return &Index{Architecture: architecture, packages: map[string][]*Candidate{}, providers: map[string][]Provider{}}
}

// Add parses a Packages file, named name in errors, as part of an archive and suite.
func (ix *Index) Add(archive, suite, name, data string) error {
	return Paragraphs(name, data, false, func(p Paragraph) error {
		c, err := parseCandidate(p)
		if err != nil {
			return fmt.Errorf("%s:%d:1: package %q: %w", name, p[0].Line, p.Get("Package"), err)
		}
		if c.Architecture != ix.Architecture && c.Architecture != "all" {
			return fmt.Errorf("%s:%d:1: package %q: architecture %q is not %q or \"all\"", name, p[0].Line, c.Name, c.Architecture, ix.Architecture)
		}
		c.Archive, c.Suite = archive, suite
		return ix.add(c)
	})
}

// add keeps candidates of a name in falling version order; of equal versions the archive
// that was added first comes first.
func (ix *Index) add(c *Candidate) error {
	list := append(ix.packages[c.Name], c)
	slices.SortStableFunc(list, func(a, b *Candidate) int { return CompareVersions(b.Version, a.Version) })
	ix.packages[c.Name] = list
	provides, err := ParseRelations(c.provides)
	if err != nil {
		return fmt.Errorf("package %s: Provides: %w", c.Name, err)
	}
	for _, p := range provides {
		ix.providers[p[0].Name] = append(ix.providers[p[0].Name], Provider{Candidate: c, Version: p[0].Version})
	}
	return nil
}

func parseCandidate(p Paragraph) (*Candidate, error) {
	c := &Candidate{}
	var size string
	for _, f := range p { // one pass: an archive has tens of thousands of paragraphs
		switch f.Name {
		case "Package":
			c.Name = f.Value
		case "Version":
			c.Version = f.Value
		case "Architecture":
			c.Architecture = f.Value
		case "Source":
			c.Source = f.Value
		case "Filename":
			c.Path = f.Value
		case "Size":
			size = f.Value
		case "SHA256":
			c.SHA256 = f.Value
		case "Priority":
			c.Priority = f.Value
		case "Depends":
			c.depends = f.Value
		case "Pre-Depends":
			c.preDepends = f.Value
		case "Provides":
			c.provides = f.Value
		case "Conflicts":
			c.conflicts = f.Value
		case "Breaks":
			c.breaks = f.Value
		}
	}
	if !validName(c.Name) {
		return nil, fmt.Errorf("the name is not valid")
	}
	if err := CheckVersion(c.Version); err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n <= 0 {
		return nil, fmt.Errorf("size %q is not a positive number of bytes", size)
	}
	c.Size = n
	if !validSHA256(c.SHA256) || strings.ToLower(c.SHA256) != c.SHA256 {
		return nil, fmt.Errorf("digest %q is not a SHA-256 in lower-case hexadecimal", clip(c.SHA256))
	}
	if c.Path != path.Clean(c.Path) || !strings.HasPrefix(c.Path, "pool/") || !strings.HasSuffix(c.Path, ".deb") {
		return nil, fmt.Errorf("file name %q is not the path of a .deb below pool/", clip(c.Path))
	}
	c.Source = sourceOf(c)
	return c, nil
}

// sourceOf returns "name version" of the source package. The Source field is absent when
// name and version equal the binary's, and has "(version)" only when that differs.
func sourceOf(c *Candidate) string {
	name, version, ok := strings.Cut(c.Source, "(")
	name = strings.TrimSpace(name)
	version = strings.TrimSuffix(strings.TrimSpace(version), ")")
	if name == "" {
		name = c.Name
	}
	if !ok {
		version = c.Version
	}
	return name + " " + version
}

// priorities orders providers of a virtual package (Debian policy 2.5).
var priorities = []string{"required", "important", "standard", "optional", "extra"}

// candidates returns what satisfies r: packages of that name first, newest first, then
// providers by priority, name and falling version.
func (ix *Index) candidates(r Relation) []*Candidate {
	var out []*Candidate
	for _, c := range ix.packages[r.Name] {
		if r.Allows(c.Version) && ix.qualifies(r, c) {
			out = append(out, c)
		}
	}
	var via []*Candidate
	for _, p := range ix.providers[r.Name] {
		// A versioned dependency is satisfied by a versioned provision only (policy 7.5).
		if r.Operator == "" || p.Version != "" && r.Allows(p.Version) {
			via = append(via, p.Candidate)
		}
	}
	rank := func(c *Candidate) int {
		if i := slices.Index(priorities, c.Priority); i >= 0 {
			return i
		}
		return len(priorities)
	}
	slices.SortStableFunc(via, func(a, b *Candidate) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name), CompareVersions(b.Version, a.Version))
	})
	return append(out, via...)
}

// qualifies checks an architecture qualifier against the one architecture there is.
func (ix *Index) qualifies(r Relation, c *Candidate) bool {
	switch r.Qualifier {
	case "", "any", "native":
		return true
	}
	return r.Qualifier == c.Architecture
}
