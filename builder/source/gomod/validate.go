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
	c   *Component
	all []error
}

// add reports a problem with the value at a path. What is missing has no position: then it
// is that of the nearest value around it.
func (p *problems) add(at, format string, args ...any) {
	where, known := p.c.positions[at]
	for near := at; !known && near != ""; {
		near = near[:max(0, strings.LastIndexAny(near, ".["))]
		where, known = p.c.positions[near]
	}
	p.all = append(p.all, fmt.Errorf("%s:%d:%d: %s %s", p.c.file, where.line, where.column, at, fmt.Sprintf(format, args...)))
}

// validate checks everything that can be checked without looking at other files.
func (c *Component) validate(wantName string) []error {
	p := &problems{c: c}
	if c.Name != wantName {
		p.add("name", "is %q; it must be that of the directory, %q", c.Name, wantName)
	}
	if c.Description == "" {
		p.add("description", "is missing; say in one line what the component is")
	}
	c.validateModule(p)
	c.validatePrograms(p)
	for _, t := range c.Tags {
		checkTag(p, "tags", t)
	}
	for name, value := range c.Variables {
		if !variableRE.MatchString(name) {
			p.add("variables", "has key %q; it must be an import path, a dot and a variable's name", name)
		}
		if strings.ContainsAny(value, "'\"\n") {
			p.add("variables["+name+"]", "is %q; quotes and line breaks cannot be passed to the linker", value)
		}
		checkPlaceholders(p, "variables["+name+"]", value)
	}
	for i, t := range c.Transforms {
		t.validate(p, fmt.Sprintf("transforms[%d]", i))
	}
	for i, k := range c.Checks {
		if len(k.Command) == 0 || k.Output == "" {
			p.add(fmt.Sprintf("checks[%d]", i), "needs a command and an output")
		} else if !slices.Contains(c.commands(), k.Command[0]) {
			p.add(fmt.Sprintf("checks[%d].command", i), "is %q; it must start with one of %s", k.Command, strings.Join(c.commands(), ", "))
		}
		checkPlaceholders(p, fmt.Sprintf("checks[%d].output", i), k.Output)
	}
	return p.all
}

func (c *Component) validateModule(p *problems) {
	m := c.Module
	if err := module.CheckPath(m.Path); err != nil {
		p.add("module.path", "is %q: %v", m.Path, err)
	}
	if m.Checkout {
		if m.Version != "" {
			p.add("module.version", "is %q; a component built from the checkout has no version of its own", m.Version)
		}
		if len(c.Inputs) == 0 {
			p.add("inputs", "is missing; list what of the checkout the component is built from")
		}
		if len(c.Transforms) > 0 {
			p.add("transforms", "cannot be used with module.checkout")
		}
	} else {
		if len(c.Inputs) > 0 {
			p.add("inputs", "can only be used with module.checkout")
		}
		if !semver.IsValid(m.Version) {
			p.add("module.version", "is %q; it must be an exact version such as v1.2.3", m.Version)
		}
	}
	for i, in := range c.Inputs {
		checkRelative(p, fmt.Sprintf("inputs[%d]", i), in)
	}
}

func (c *Component) validatePrograms(p *problems) {
	if len(c.Programs) == 0 {
		p.add("programs", "is empty; a component builds at least one")
	}
	taken := map[string]string{}
	place := func(at, file string) {
		if !path.IsAbs(file) || path.Clean(file) != file || file == "/" {
			p.add(at, "is %q; it must be a clean absolute path", file)
		}
		if other := taken[file]; other != "" {
			p.add(at, "is %q, which %s is already", file, other)
		}
		taken[file] = at
	}
	for i, prog := range c.Programs {
		at := fmt.Sprintf("programs[%d]", i)
		if rel, ok := strings.CutPrefix(prog.Package, "./"); ok {
			checkRelative(p, at+".package", rel)
		} else if prog.Package != "." && module.CheckImportPath(prog.Package) != nil {
			p.add(at+".package", "is %q; it must be \".\", a path starting with \"./\" or an import path", prog.Package)
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
		p.add(at+".module", "is %q: %v", t.Module, err)
	}
	for i, d := range t.Drop {
		checkRelative(p, fmt.Sprintf("%s.drop[%d]", at, i), d)
	}
	for i, d := range t.Libraries {
		checkRelative(p, fmt.Sprintf("%s.libraries[%d]", at, i), d)
	}
	for i, im := range t.Unimport {
		if err := module.CheckImportPath(im); err != nil {
			p.add(fmt.Sprintf("%s.unimport[%d]", at, i), "is %q: %v", im, err)
		}
	}
	if t.Overlay != "" {
		checkRelative(p, at+".overlay", t.Overlay)
	}
}

// validateFiles checks the description against go.mod and the directory.
func (c *Component) validateFiles() []error {
	p := &problems{c: c}
	for i, t := range c.Transforms {
		if t.Overlay == "" {
			continue
		}
		if st, err := os.Stat(filepath.Join(c.Dir(), t.Overlay)); err != nil || !st.IsDir() {
			p.add(fmt.Sprintf("transforms[%d].overlay", i), "is %q, which is not a directory of the component", t.Overlay)
		}
	}
	mod, err := c.goMod()
	if err != nil {
		p.add("module", "cannot be compared with go.mod: %v", err)
		return p.all
	}
	if c.Module.Checkout {
		if mod.Module.Mod.Path != c.Module.Path {
			p.add("module.path", "is %q; the checkout's go.mod says %q", c.Module.Path, mod.Module.Mod.Path)
		}
		return p.all
	}
	if got := required(mod, c.Module.Path); c.Module.Path != mod.Module.Mod.Path && got != c.Module.Version {
		p.add("module.version", "is %q; go.mod requires %s %q", c.Module.Version, c.Module.Path, got)
	}
	for i, t := range c.Transforms {
		if required(mod, t.Module) == "" {
			p.add(fmt.Sprintf("transforms[%d].module", i), "is %q, which go.mod does not require", t.Module)
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
		p.add(at, "has %q; a build tag is letters, digits, underscores and dots", tag)
	}
}

func checkRelative(p *problems, at, file string) {
	if !filepath.IsLocal(file) || path.Clean(file) != file {
		p.add(at, "is %q; it must be a clean relative path that does not leave its directory", file)
	}
}

func checkPlaceholders(p *problems, at, value string) {
	for _, m := range placeRE.FindAllString(value, -1) {
		if !slices.Contains([]string{"${version}", "${number}", "${major}", "${minor}"}, m) {
			p.add(at, "has %s; allowed are ${version}, ${number}, ${major} and ${minor}", m)
		}
	}
}
