// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/module"
)

// apply changes the module in dir. Every instruction must find what it is about, so that
// one that upstream made pointless is noticed.
func (t Transform) apply(dir, overlay string) error {
	for _, d := range t.Drop {
		target := filepath.Join(dir, d)
		if _, err := os.Lstat(target); err != nil {
			return fmt.Errorf("drop %s: the module has no such file", d)
		}
		if err := os.RemoveAll(target); err != nil {
			return err
		}
	}
	if err := unimport(dir, t.Unimport); err != nil {
		return err
	}
	for _, d := range t.Libraries {
		if err := makeLibrary(filepath.Join(dir, d), libraryName(t.Module, d)); err != nil {
			return fmt.Errorf("library %s: %w", d, err)
		}
	}
	if overlay == "" {
		return nil
	}
	return copyTree(overlay, dir)
}

// libraryName turns the name of a directory of a module into that of a package. For the
// module's root, ".", it is the module's own.
func libraryName(mod, dir string) string {
	if prefix, _, ok := module.SplitPathVersion(mod); ok {
		mod = prefix
	}
	return strings.ReplaceAll(path.Base(path.Join(mod, dir)), "-", "")
}

// edit is a replacement of bytes [from, to) of a file.
type edit struct {
	from, to int
	text     string
}

// rewrite applies what edits returns for the parsed file and writes it if anything changed.
func rewrite(name string, edits func(*ast.File, func(token.Pos) int) []edit) (bool, error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return false, err
	}
	todo := edits(file, func(p token.Pos) int { return fset.Position(p).Offset })
	if len(todo) == 0 {
		return false, nil
	}
	slices.SortFunc(todo, func(a, b edit) int { return b.from - a.from })
	for _, e := range todo {
		src = slices.Concat(src[:e.from], []byte(e.text), src[e.to:])
	}
	return true, os.WriteFile(name, src, 0o644)
}

// unimport deletes the blank imports of packages from every Go file below dir.
func unimport(dir string, packages []string) error {
	missing := map[string]bool{}
	for _, p := range packages {
		missing[p] = true
	}
	if len(missing) == 0 {
		return nil
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		_, err = rewrite(name, func(f *ast.File, offset func(token.Pos) int) []edit {
			var all []edit
			for _, im := range f.Imports {
				p, _ := strconv.Unquote(im.Path.Value)
				if im.Name == nil || im.Name.Name != "_" || !slices.Contains(packages, p) {
					continue
				}
				delete(missing, p)
				all = append(all, edit{from: offset(im.Pos()), to: offset(im.End())})
			}
			return all
		})
		return err
	})
	if err != nil {
		return err
	}
	for p := range missing {
		return fmt.Errorf("unimport %s: no file has a blank import of it", p)
	}
	return nil
}

// makeLibrary renames package main in dir to name and its function main to Main. Files of
// other platforms are renamed too; tests are deleted, as they may call main.
func makeLibrary(dir, name string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	found := false
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			if err := os.Remove(file); err != nil {
				return err
			}
			continue
		}
		_, err := rewrite(file, func(f *ast.File, offset func(token.Pos) int) []edit {
			if f.Name.Name != "main" {
				return nil
			}
			all := []edit{{offset(f.Name.Pos()), offset(f.Name.End()), name}}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "main" {
					found = true
					all = append(all, edit{offset(fn.Name.Pos()), offset(fn.Name.End()), "Main"})
				}
			}
			return all
		})
		if err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no function main in %s", dir)
	}
	return nil
}
