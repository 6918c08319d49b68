// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// Architectures are those a lock can be for, by Debian's and Go's common name.
var Architectures = []string{"amd64", "arm64"}

var (
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)
	setName     = regexp.MustCompile(`^(root|initrd|tool)/[a-z0-9][a-z0-9-]*$`)
	fingerprint = regexp.MustCompile(`^[0-9A-F]{40,64}$`)
)

// checker reports what is wrong with one lock to its document.
type checker struct{ doc *strict.Document }

func (c *checker) problem(path, what string, allowed ...string) {
	c.doc.Report(path, what, allowed...)
}

func validate(doc *strict.Document, l *Lock) {
	c := &checker{doc: doc}
	if l.Version != FormatVersion {
		c.problem("version", "is not the format this imgbuild reads", fmt.Sprint(FormatVersion))
	}
	if !slices.Contains(Architectures, l.Architecture) {
		c.problem("architecture", "is not known", Architectures...)
	}
	for i, a := range l.Archives {
		c.archive(fmt.Sprintf("archives[%d]", i), a)
	}
	seen := map[string]bool{}
	for i, p := range l.Packages {
		at := fmt.Sprintf("packages[%d]", i)
		c.pkg(at, l, p)
		if seen[p.Name] {
			c.problem(at+".name", "is pinned twice")
		}
		seen[p.Name] = true
		if i > 0 && l.Packages[i-1].Name > p.Name {
			c.problem(at+".name", "is out of order; packages are sorted by name")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Sets)) {
		c.set(name, l.Sets[name], seen)
	}
	components := map[string]bool{}
	for i, m := range l.Modules {
		at := fmt.Sprintf("modules[%d]", i)
		c.module(at, m)
		if components[m.Component] {
			c.problem(at+".component", "is pinned twice")
		}
		components[m.Component] = true
	}
	for i, r := range l.Releases {
		c.release(fmt.Sprintf("releases[%d]", i), r)
	}
}

func (c *checker) archive(at string, a Archive) {
	c.text(at+".name", a.Name)
	c.text(at+".suite", a.Suite)
	c.text(at+".date", a.Date)
	c.digest(at+".inRelease", a.InRelease)
	if len(a.SignedBy) == 0 {
		c.problem(at+".signedBy", "is missing; it lists the keys that signed the index")
	}
	for i, f := range a.SignedBy {
		if !fingerprint.MatchString(f) {
			c.problem(fmt.Sprintf("%s.signedBy[%d]", at, i), "is not a key fingerprint in upper-case hexadecimal")
		}
	}
}

func (c *checker) pkg(at string, l *Lock, p Package) {
	if !packageName.MatchString(p.Name) {
		c.problem(at+".name", "is not a Debian package name")
	}
	c.text(at+".version", p.Version)
	if p.Architecture != l.Architecture && p.Architecture != "all" {
		c.problem(at+".architecture", "is not the lock's", l.Architecture, "all")
	}
	c.text(at+".archive", p.Archive)
	c.text(at+".suite", p.Suite)
	if !strings.HasPrefix(p.Path, "pool/") || path.Clean(p.Path) != p.Path || !strings.HasSuffix(p.Path, ".deb") {
		c.problem(at+".path", "is not the path of a .deb below pool/")
	}
	c.size(at+".size", p.Size)
	c.digest(at+".sha256", p.SHA256)
}

func (c *checker) set(name string, members []string, known map[string]bool) {
	at := "sets." + name
	if !setName.MatchString(name) {
		c.problem(at, "is not the name of a set", "root/PROFILE", "initrd/PROFILE", "tool/NAME")
	}
	seen := map[string]bool{}
	for i, m := range members {
		if !known[m] {
			c.problem(fmt.Sprintf("%s[%d]", at, i), "is not pinned under packages")
		}
		if seen[m] {
			c.problem(fmt.Sprintf("%s[%d]", at, i), "is in the set twice")
		}
		seen[m] = true
	}
}

// module accepts entries without path, version and sum: components of this repository
// itself have no upstream module, only a recipe.
func (c *checker) module(at string, m Module) {
	c.text(at+".component", m.Component)
	c.digest(at+".recipe", m.Recipe)
	if m.Sum == "" {
		return
	}
	c.text(at+".path", m.Path)
	c.text(at+".version", m.Version)
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if !strings.HasPrefix(m.Sum, "h1:") || err != nil || len(b) != 32 {
		c.problem(at+".sum", "is not a module digest as in go.sum (h1:...)")
	}
	if m.Size < 0 {
		c.problem(at+".size", "is negative")
	}
}

func (c *checker) release(at string, r Release) {
	c.text(at+".name", r.Name)
	c.text(at+".version", r.Version)
	c.text(at+".architecture", r.Architecture)
	if u, err := url.Parse(r.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file" {
		c.problem(at+".url", "is not an http, https or file URL")
	}
	if r.Size < 0 {
		c.problem(at+".size", "is negative")
	}
	c.digest(at+".sha256", r.SHA256)
}

func (c *checker) text(at, v string) {
	switch {
	case v == "":
		c.problem(at, "is missing or empty")
	case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }):
		c.problem(at, "holds a control character")
	}
}

func (c *checker) size(at string, v int64) {
	if v <= 0 {
		c.problem(at, "is not a positive number of bytes")
	}
}

func (c *checker) digest(at, v string) {
	if b, err := hex.DecodeString(v); err != nil || len(b) != 32 || strings.ToLower(v) != v {
		c.problem(at, "is not a SHA-256: 64 lower-case hexadecimal digits")
	}
}
