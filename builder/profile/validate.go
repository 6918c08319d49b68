// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// The values that a profile's enumerations allow.
var (
	Roles       = []string{"control-plane", "worker"}
	Deliveries  = []string{"verity"}
	SectorSizes = []int{512, 4096}
)

var (
	profileName    = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	packageName    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)
	releaseVersion = regexp.MustCompile(`^[0-9][0-9A-Za-z.+-]*$`)
	accountName    = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)
	suiteName      = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	imageID        = regexp.MustCompile(`^[a-z0-9._-]+$`)       // os-release(5), IMAGE_ID
	imageVersion   = regexp.MustCompile(`^[A-Za-z0-9.~^+_-]+$`) // UAPI version format
	unitName       = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|socket|target|timer|path|mount|automount|slice|swap|scope|device)$`)
)

// checker reports what is wrong with a merged profile to its document.
type checker struct {
	root fs.FS
	doc  *strict.Document
	p    *Profile
}

func (c *checker) problem(path, what string, allowed ...string) {
	c.doc.Report(path, what, allowed...)
}

// required reports a key that a profile which can be built must have.
func (c *checker) required(path, v string) bool {
	if v == "" && !c.p.Abstract {
		c.problem(path, "is required, here or in a profile this one extends")
	}
	return v != ""
}

func (c *checker) match(path, v string, re *regexp.Regexp, what string) {
	if v != "" && !re.MatchString(v) {
		c.problem(path, what, re.String())
	}
}

// validate checks the meaning of a merged profile.
func validate(root fs.FS, doc *strict.Document, p *Profile) {
	c := &checker{root: root, doc: doc, p: p}
	c.match("name", p.Name, profileName, "is not a profile name")
	if strings.TrimSpace(p.Description) == "" {
		c.problem("description", "is required; say in a sentence what the image is for")
	}
	for i, r := range p.Roles {
		if !slices.Contains(Roles, r) {
			c.problem(at("roles", i), "is not a role", Roles...)
		}
	}
	if c.required("image.id", p.Image.ID) {
		c.match("image.id", p.Image.ID, imageID, "is not an IMAGE_ID of os-release(5)")
	}
	if c.required("image.version", p.Image.Version) {
		c.match("image.version", p.Image.Version, imageVersion, "is not an IMAGE_VERSION of os-release(5)")
	}
	if c.required("delivery", p.Delivery) && !slices.Contains(Deliveries, p.Delivery) {
		c.problem("delivery", "is not a way to deliver control-plane programs", Deliveries...)
	}
	c.debian()
	c.kernel()
	c.components("components", p.Components)
	c.components("initrd.components", p.Initrd.Components)
	c.releases()
	c.placed("", p.Files, p.Directories, p.Symlinks)
	c.placed("initrd.", p.Initrd.Assets, nil, p.Initrd.Symlinks)
	c.accounts()
	c.units("units", p.Units)
	c.units("initrd.units", p.Initrd.Units)
	for _, link := range slices.Sorted(maps.Keys(p.Alternatives)) {
		c.absolute("alternatives."+link, link)
		c.absolute("alternatives."+link, p.Alternatives[link])
	}
	for i, r := range p.Remove {
		c.glob(at("remove", i)+".path", r.Path, true)
		c.reason(at("remove", i), r.Reason)
	}
	c.layout()
}

func at(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

func (c *checker) reason(path, v string) {
	if strings.TrimSpace(v) == "" {
		c.problem(path+".reason", "is required; say why, so that a reviewer can judge it")
	}
}

func (c *checker) debian() {
	d := c.p.Debian
	if c.required("debian.suite", d.Suite) {
		c.match("debian.suite", d.Suite, suiteName, "is not the code name of a Debian release")
	}
	if d.Mirror != "" {
		if u, err := url.Parse(d.Mirror); err != nil || !slices.Contains([]string{"http", "https", "file"}, u.Scheme) {
			c.problem("debian.mirror", "is not an http, https or file URL")
		}
	}
	if len(d.Packages) == 0 {
		c.required("debian.packages", "")
	}
	c.packages("debian.packages", d.Packages)
	c.packages("initrd.packages", c.p.Initrd.Packages)
	for i, o := range d.Omit {
		path := at("debian.omit", i)
		if !packageName.MatchString(o.Package) {
			c.problem(path+".package", "is not a Debian package name")
		}
		if slices.Contains(d.Packages, o.Package) {
			c.problem(path+".package", "is wanted under debian.packages and omitted at once")
		}
		c.reason(path, o.Reason)
	}
}

func (c *checker) packages(path string, names []string) {
	for i, name := range names {
		if !packageName.MatchString(name) {
			c.problem(at(path, i), "is not a Debian package name")
		}
	}
}

func (c *checker) kernel() {
	k := c.p.Kernel
	if c.required("kernel.package", k.Package) {
		c.match("kernel.package", k.Package, packageName, "is not a Debian package name")
	}
	for i, a := range k.Arguments {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r > '~' }) {
			c.problem(at("kernel.arguments", i), "is not one kernel argument in printable ASCII")
		} else if strings.Contains(a, " ") && !strings.Contains(a, `"`) {
			c.problem(at("kernel.arguments", i), "holds a blank outside quotes; list each argument by itself")
		}
	}
	for i, g := range k.Modules {
		c.glob(at("kernel.modules", i), g, false)
	}
	for i, g := range k.Compressed {
		c.glob(at("kernel.compressed", i), g, false)
	}
	for i, g := range c.p.Initrd.Modules {
		c.glob(at("initrd.modules", i), g, false)
	}
	for i, g := range c.p.Initrd.Files {
		c.glob(at("initrd.files", i), g, true)
	}
}

func (c *checker) components(path string, names []string) {
	var known []string
	entries, _ := fs.ReadDir(c.root, "assets/components")
	for _, e := range entries {
		if e.IsDir() {
			known = append(known, e.Name())
		}
	}
	for i, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		what := "is not a component (a directory below assets/components)"
		if near := strict.Nearest(name, known); near != "" {
			what += fmt.Sprintf("; did you mean %q?", near)
		}
		c.problem(at(path, i), what, known...)
	}
}

func (c *checker) releases() {
	seen := map[string]bool{}
	for i, r := range c.p.Releases {
		if !profileName.MatchString(r.Name) {
			c.problem(at("releases", i)+".name", "is not the name of a release", profileName.String())
		} else if seen[r.Name] {
			c.problem(at("releases", i)+".name", "is in the list twice; an image has one version of a release")
		}
		seen[r.Name] = true
		if !releaseVersion.MatchString(r.Version) {
			c.problem(at("releases", i)+".version", "is not a version", releaseVersion.String())
		}
	}
}

func (c *checker) units(path string, u Units) {
	for _, list := range []struct {
		key   string
		names []string
	}{{".enable", u.Enable}, {".mask", u.Mask}} {
		for i, name := range list.names {
			if !unitName.MatchString(name) {
				c.problem(at(path+list.key, i), "is not the name of a systemd unit with its suffix, such as kubelet.service")
			}
		}
	}
	for i, name := range u.Mask {
		if slices.Contains(u.Enable, name) {
			c.problem(at(path+".mask", i), "is enabled and masked at once")
		}
	}
	if u.Default != "" && !strings.HasSuffix(u.Default, ".target") {
		c.problem(path+".default", "is not a target unit, such as multi-user.target")
	}
}
