// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

var (
	nameRE     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	tagRE      = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)
	variableRE = regexp.MustCompile(`^[A-Za-z0-9./_~-]+\.[A-Za-z_][A-Za-z0-9_]*$`)
	placeRE    = regexp.MustCompile(`\$\{[^}]*\}?`)
)

// problems collects what is wrong with one file.
type problems struct {
	file string
	all  []error
}

func (p *problems) add(format string, args ...any) {
	p.all = append(p.all, fmt.Errorf("%s: %s", p.file, fmt.Sprintf(format, args...)))
}

// validate checks everything that can be checked without looking at other files.
func (c *Component) validate(wantName string) []error {
	p := &problems{file: c.file}
	if c.Name != wantName {
		p.add("name is %q; it must be that of the directory, %q", c.Name, wantName)
	}
	if c.Description == "" {
		p.add("description is missing; say in one line what the component is")
	}
	c.validateModule(p)
	c.validatePrograms(p)
	for _, t := range c.Tags {
		checkTag(p, "tags", t)
	}
	for name, value := range c.Variables {
		if !variableRE.MatchString(name) {
			p.add("variables has key %q; it must be an import path, a dot and a variable's name", name)
		}
		if strings.ContainsAny(value, "'\"\n") {
			p.add("variables[%s] is %q; quotes and line breaks cannot be passed to the linker", name, value)
		}
		checkPlaceholders(p, "variables["+name+"]", value)
	}
	for i, t := range c.Transforms {
		t.validate(p, fmt.Sprintf("transforms[%d]", i))
	}
	for i, k := range c.Checks {
		if len(k.Command) == 0 || k.Output == "" {
			p.add("checks[%d] needs a command and an output", i)
		} else if !slices.Contains(c.commands(), k.Command[0]) {
			p.add("checks[%d].command is %q; it must be one of %s", i, k.Command[0], strings.Join(c.commands(), ", "))
		}
		checkPlaceholders(p, fmt.Sprintf("checks[%d].output", i), k.Output)
	}
	return p.all
}

func (c *Component) validateModule(p *problems) {
	m := c.Module
	if err := module.CheckPath(m.Path); err != nil {
		p.add("module.path is %q: %v", m.Path, err)
	}
	switch {
	case m.Checkout && m.Version != "":
		p.add("module.version is %q; a component built from the checkout has no version of its own", m.Version)
	case m.Checkout && len(c.Inputs) == 0:
		p.add("inputs is missing; list what of the checkout the component is built from")
	case m.Checkout && len(c.Transforms) > 0:
		p.add("transforms cannot be used with module.checkout")
	case !m.Checkout && len(c.Inputs) > 0:
		p.add("inputs can only be used with module.checkout")
	case !m.Checkout && !semver.IsValid(m.Version):
		p.add("module.version is %q; it must be an exact version such as v1.2.3", m.Version)
	}
	for i, in := range c.Inputs {
		checkRelative(p, fmt.Sprintf("inputs[%d]", i), in)
	}
}

func (c *Component) validatePrograms(p *problems) {
	if len(c.Programs) == 0 {
		p.add("programs is empty; a component builds at least one")
	}
	taken := map[string]string{}
	place := func(at, file string) {
		if !path.IsAbs(file) || path.Clean(file) != file || file == "/" {
			p.add("%s is %q; it must be a clean absolute path", at, file)
		}
		if other := taken[file]; other != "" {
			p.add("%s is %q, which %s is already", at, file, other)
		}
		taken[file] = at
	}
	for i, prog := range c.Programs {
		at := fmt.Sprintf("programs[%d]", i)
		if rel, ok := strings.CutPrefix(prog.Package, "./"); ok {
			checkRelative(p, at+".package", rel)
		} else if prog.Package != "." && module.CheckImportPath(prog.Package) != nil {
			p.add("%s.package is %q; it must be \".\", a path starting with \"./\" or an import path", at, prog.Package)
		}
		place(at+".path", prog.Path)
		for j, l := range prog.Links {
			place(fmt.Sprintf("%s.links[%d]", at, j), l)
		}
		for _, t := range prog.Tags {
			checkTag(p, at+".tags", t)
		}
	}
}

func (t Transform) validate(p *problems, at string) {
	if err := module.CheckPath(t.Module); err != nil {
		p.add("%s.module is %q: %v", at, t.Module, err)
	}
	for i, d := range t.Drop {
		checkRelative(p, fmt.Sprintf("%s.drop[%d]", at, i), d)
	}
	for i, d := range t.Libraries {
		checkRelative(p, fmt.Sprintf("%s.libraries[%d]", at, i), d)
	}
	for i, im := range t.Unimport {
		if err := module.CheckImportPath(im); err != nil {
			p.add("%s.unimport[%d] is %q: %v", at, i, im, err)
		}
	}
	if t.Overlay != "" {
		checkRelative(p, at+".overlay", t.Overlay)
	}
}

// validateFiles checks the description against go.mod and the directory.
func (c *Component) validateFiles() []error {
	p := &problems{file: c.file}
	for _, t := range c.Transforms {
		if t.Overlay == "" {
			continue
		}
		if st, err := os.Stat(filepath.Join(c.Dir(), t.Overlay)); err != nil || !st.IsDir() {
			p.add("overlay %q is not a directory of the component", t.Overlay)
		}
	}
	mod, err := c.goMod()
	if err != nil {
		p.add("%v", err)
		return p.all
	}
	if c.Module.Checkout {
		if mod.Module.Mod.Path != c.Module.Path {
			p.add("module.path is %q; the checkout's go.mod says %q", c.Module.Path, mod.Module.Mod.Path)
		}
		return p.all
	}
	if got := required(mod, c.Module.Path); c.Module.Path != mod.Module.Mod.Path && got != c.Module.Version {
		p.add("module.version is %q; go.mod requires %s %q", c.Module.Version, c.Module.Path, got)
	}
	for i, t := range c.Transforms {
		if required(mod, t.Module) == "" {
			p.add("transforms[%d].module is %q, which go.mod does not require", i, t.Module)
		}
	}
	return p.all
}

// goMod parses the go.mod that the component is built with.
func (c *Component) goMod() (*modfile.File, error) {
	name := filepath.Join(c.workDir(), "go.mod")
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(name, data, nil)
}

func required(mod *modfile.File, path string) string {
	for _, r := range mod.Require {
		if r.Mod.Path == path {
			return r.Mod.Version
		}
	}
	return ""
}

// commands returns the base names of every program and link.
func (c *Component) commands() []string {
	var all []string
	for _, prog := range c.Programs {
		all = append(all, path.Base(prog.Path))
		for _, l := range prog.Links {
			all = append(all, path.Base(l))
		}
	}
	return all
}

func checkTag(p *problems, at, tag string) {
	if !tagRE.MatchString(tag) {
		p.add("%s has %q; a build tag is letters, digits, underscores and dots", at, tag)
	}
}

func checkRelative(p *problems, at, file string) {
	if !filepath.IsLocal(file) || path.Clean(file) != file {
		p.add("%s is %q; it must be a clean relative path that does not leave its directory", at, file)
	}
}

func checkPlaceholders(p *problems, at, value string) {
	for _, m := range placeRE.FindAllString(value, -1) {
		if !slices.Contains([]string{"${version}", "${number}", "${major}", "${minor}"}, m) {
			p.add("%s has %s; allowed are ${version}, ${number}, ${major} and ${minor}", at, m)
		}
	}
}
