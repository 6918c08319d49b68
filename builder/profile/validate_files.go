// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

var ownerText = regexp.MustCompile(`^([a-z_][a-z0-9_-]*|[0-9]+)(:([a-z_][a-z0-9_-]*|[0-9]+))?$`)

// placed checks files, directories and symbolic links. Prefix is "" or "initrd.".
func (c *checker) placed(prefix string, files []File, dirs []Directory, links []Symlink) {
	key := prefix + "files"
	if prefix != "" {
		key = prefix + "assets"
	}
	for i, f := range files {
		p := at(key, i)
		c.absolute(p+".path", f.Path)
		c.mode(p+".mode", f.Mode)
		c.owner(p+".owner", f.Owner)
		c.source(p, f)
	}
	for i, d := range dirs {
		p := at(prefix+"directories", i)
		c.absolute(p+".path", d.Path)
		c.mode(p+".mode", d.Mode)
		c.owner(p+".owner", d.Owner)
	}
	for i, l := range links {
		p := at(prefix+"symlinks", i)
		c.absolute(p+".path", l.Path)
		if l.Target == "" {
			c.problem(p+".target", "is required")
		}
	}
}

// source checks that exactly one of source and content is there and that an asset exists.
func (c *checker) source(p string, f File) {
	hasContent := c.doc.Has(p + ".content")
	switch {
	case f.Source != "" && hasContent:
		c.problem(p+".content", "is given beside source; a file has one of the two")
	case f.Source == "" && !hasContent:
		c.problem(p, "has neither source nor content; a file needs one of the two", "source, content")
	case f.Source != "":
		name := path.Join("assets", f.Source)
		if !fs.ValidPath(f.Source) {
			c.problem(p+".source", "is not a clean relative path below assets/")
			return
		}
		info, err := fs.Stat(c.root, name)
		if err != nil || !info.Mode().IsRegular() {
			c.problem(p+".source", "is not a file below assets/"+c.nearAsset(f.Source))
		}
	}
}

// nearAsset suggests an asset of the same directory.
func (c *checker) nearAsset(source string) string {
	entries, _ := fs.ReadDir(c.root, path.Join("assets", path.Dir(source)))
	var names []string
	for _, e := range entries {
		names = append(names, path.Join(path.Dir(source), e.Name()))
	}
	if near := strict.Nearest(source, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

func (c *checker) absolute(p, v string) {
	switch {
	case v == "":
		c.problem(p, "is required")
	case !path.IsAbs(v) || path.Clean(v) != v || v == "/":
		c.problem(p, "is not an absolute path without empty, \".\" or \"..\" elements")
	}
}

func (c *checker) mode(p, v string) {
	if v == "" {
		return
	}
	if _, err := ParseMode(v); err != nil {
		c.problem(p, "is not an octal file mode", "0000 to 7777")
	}
}

// ParseMode reads an octal mode of up to four digits after an optional leading zero.
func ParseMode(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o7777 || len(v) > 5 {
		return 0, fmt.Errorf("mode %q is not an octal number from 0000 to 7777", v)
	}
	return uint32(n), nil
}

func (c *checker) owner(p, v string) {
	if v != "" && !ownerText.MatchString(v) {
		c.problem(p, "is not an owner", "user", "user:group", "or numbers for either")
	}
}

// glob checks a pattern of path.Match in which "**" also crosses directories.
func (c *checker) glob(p, v string, abs bool) {
	if v == "" {
		c.problem(p, "is required")
		return
	}
	if abs && !strings.HasPrefix(v, "/") {
		c.problem(p, "is not an absolute path or pattern")
	}
	if !abs && strings.HasPrefix(v, "/") {
		c.problem(p, "is absolute; the pattern is relative to the directory of the modules")
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(v, "/"), "/") {
		if _, err := path.Match(part, "x"); err != nil {
			c.problem(p, fmt.Sprintf("element %q is not a valid pattern", part))
		}
		if part == "" || part == "." || part == ".." {
			c.problem(p, fmt.Sprintf("has an element %q", part))
		}
	}
}

// duplicatePaths reports a path that one profile file places twice. A child may place a
// path of its parent again: the later one wins.
func duplicatePaths(doc *strict.Document, p *Profile) {
	seen := map[string]string{}
	check := func(where, file string) {
		if first, ok := seen[file]; ok && file != "" {
			doc.Report(where+".path", "is already placed by "+first)
		}
		seen[file] = where
	}
	for i, f := range p.Files {
		check(at("files", i), f.Path)
	}
	for i, d := range p.Directories {
		check(at("directories", i), d.Path)
	}
	for i, l := range p.Symlinks {
		check(at("symlinks", i), l.Path)
	}
}
