// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"cmp"
	"errors"
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

	"github.com/imgbuild/imgbuild/firstboot/strict"
)

var (
	nameRE     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	tagRE      = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)
	variableRE = regexp.MustCompile(`^[A-Za-z0-9./_~-]+\.[A-Za-z_][A-Za-z0-9_]*$`)
	placeRE    = regexp.MustCompile(`\$\{[^}]*\}?`)
)

// validate checks everything that can be checked without looking at other files.
func (c *Component) validate(doc *strict.Document, wantName string) {
	if c.Name != wantName {
		doc.Report("name", "is not the name of the directory", wantName)
	}
	if c.Description == "" {
		doc.Report("description", "is missing; say in one line what the component is")
	}
	c.validateModule(doc)
	c.validatePrograms(doc)
	for i, t := range c.Tags {
		checkTag(doc, fmt.Sprintf("tags[%d]", i), t)
	}
	for name, value := range c.Variables {
		if !variableRE.MatchString(name) {
			doc.Report("variables."+name, "is not set by the name of a variable", "an import path, a dot and a variable's name")
		}
		if strings.ContainsAny(value, "'\"\n") {
			doc.Report("variables."+name, "holds quotes or line breaks, which cannot be passed to the linker")
		}
		checkPlaceholders(doc, "variables."+name, value)
	}
	for i, t := range c.Transforms {
		t.validate(doc, fmt.Sprintf("transforms[%d]", i))
	}
	for i, k := range c.Checks {
		if len(k.Command) == 0 || k.Output == "" {
			doc.Report(fmt.Sprintf("checks[%d]", i), "needs a command and an output")
		} else if !slices.Contains(c.commands(), k.Command[0]) {
			doc.Report(fmt.Sprintf("checks[%d].command[0]", i), "is not the name of a program or link", c.commands()...)
		}
		checkPlaceholders(doc, fmt.Sprintf("checks[%d].output", i), k.Output)
	}
}

func (c *Component) validateModule(doc *strict.Document) {
	m := c.Module
	if err := module.CheckPath(m.Path); err != nil {
		doc.Report("module.path", "is not a module path: "+reason(err))
	}
	if m.Checkout {
		if m.Version != "" {
			doc.Report("module.version", "cannot be used with module.checkout: the checkout has no version of its own")
		}
		if len(c.Inputs) == 0 {
			doc.Report("inputs", "is missing; list what of the checkout the component is built from")
		}
		if len(c.Transforms) > 0 {
			doc.Report("transforms", "cannot be used with module.checkout")
		}
	} else {
		if len(c.Inputs) > 0 {
			doc.Report("inputs", "can only be used with module.checkout")
		}
		if !semver.IsValid(m.Version) {
			doc.Report("module.version", "is not an exact version", "a version such as v1.2.3")
		}
	}
	for i, in := range c.Inputs {
		checkRelative(doc, fmt.Sprintf("inputs[%d]", i), in)
	}
}

func (c *Component) validatePrograms(doc *strict.Document) {
	if len(c.Programs) == 0 {
		doc.Report("programs", "is empty; a component builds at least one")
	}
	taken := map[string]string{}
	place := func(at, file string) {
		if !path.IsAbs(file) || path.Clean(file) != file || file == "/" {
			doc.Report(at, "is not a clean absolute path")
		}
		if other := taken[file]; other != "" {
			doc.Report(at, "is already the path of "+other)
		}
		taken[file] = at
	}
	for i, prog := range c.Programs {
		at := fmt.Sprintf("programs[%d]", i)
		if rel, ok := strings.CutPrefix(prog.Package, "./"); ok {
			checkRelative(doc, at+".package", rel)
		} else if prog.Package != "." && module.CheckImportPath(prog.Package) != nil {
			doc.Report(at+".package", "is not a package", `"."`, `a path that starts with "./"`, "an import path")
		}
		place(at+".path", prog.Path)
		for j, l := range prog.Links {
			place(fmt.Sprintf("%s.links[%d]", at, j), l)
		}
		for j, t := range prog.Tags {
			checkTag(doc, fmt.Sprintf("%s.tags[%d]", at, j), t)
		}
	}
}

func (t Transform) validate(doc *strict.Document, at string) {
	if err := module.CheckPath(t.Module); err != nil {
		doc.Report(at+".module", "is not a module path: "+reason(err))
	}
	for i, d := range t.Drop {
		checkRelative(doc, fmt.Sprintf("%s.drop[%d]", at, i), d)
	}
	for i, d := range t.Libraries {
		checkRelative(doc, fmt.Sprintf("%s.libraries[%d]", at, i), d)
	}
	for i, im := range t.Unimport {
		if err := module.CheckImportPath(im); err != nil {
			doc.Report(fmt.Sprintf("%s.unimport[%d]", at, i), "is not an import path: "+reason(err))
		}
	}
	if t.Overlay != "" {
		checkRelative(doc, at+".overlay", t.Overlay)
	}
}

// validateFiles checks the description against go.mod and the directory.
func (c *Component) validateFiles(doc *strict.Document) {
	for i, t := range c.Transforms {
		if t.Overlay == "" {
			continue
		}
		if st, err := os.Stat(filepath.Join(c.Dir(), t.Overlay)); err != nil || !st.IsDir() {
			doc.Report(fmt.Sprintf("transforms[%d].overlay", i), "is not a directory of the component")
		}
	}
	mod, err := c.goMod()
	if err != nil {
		doc.Report("module", fmt.Sprintf("cannot be compared with go.mod: %v", err))
		return
	}
	if c.Module.Checkout {
		if mod.Module.Mod.Path != c.Module.Path {
			doc.Report("module.path", "is not the module of the checkout's go.mod", mod.Module.Mod.Path)
		}
		return
	}
	if got := required(mod, c.Module.Path); c.Module.Path != mod.Module.Mod.Path && got != c.Module.Version {
		doc.Report("module.version", fmt.Sprintf("is not what go.mod requires of %s", c.Module.Path), cmp.Or(got, "a requirement in go.mod"))
	}
	for i, t := range c.Transforms {
		if required(mod, t.Module) == "" {
			doc.Report(fmt.Sprintf("transforms[%d].module", i), "is not a module that go.mod requires")
		}
	}
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

func checkTag(doc *strict.Document, at, tag string) {
	if !tagRE.MatchString(tag) {
		doc.Report(at, "is not a build tag", "letters, digits, underscores and dots")
	}
}

func checkRelative(doc *strict.Document, at, file string) {
	if !filepath.IsLocal(file) || path.Clean(file) != file {
		doc.Report(at, "is not a clean relative path that stays in its directory")
	}
}

func checkPlaceholders(doc *strict.Document, at, value string) {
	known := []string{"${version}", "${number}", "${major}", "${minor}"}
	for _, m := range placeRE.FindAllString(value, -1) {
		if !slices.Contains(known, m) {
			doc.Report(at, "has "+m, known...)
		}
	}
}

// reason is why a path is invalid, without the path.
func reason(err error) string {
	var invalid *module.InvalidPathError
	if errors.As(err, &invalid) {
		err = invalid.Err
	}
	return err.Error()
}
