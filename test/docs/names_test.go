// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mention is `package.Name` or `Type.Method` in a document.
var mention = regexp.MustCompile("`([A-Za-z]+)\\.([A-Z][A-Za-z]+)`")

// declared returns the exported names of every package of the product, by package name,
// and its methods, by type name.
func declared(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	add := func(in, name string) {
		if all[in] == nil {
			all[in] = map[string]bool{}
		}
		all[in][name] = true
	}
	for _, top := range []string{"builder", "firstboot"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, decl := range f.Decls {
				switch d := decl.(type) {
				case *ast.FuncDecl:
					in := f.Name.Name
					if d.Recv != nil {
						in = receiver(d.Recv.List[0].Type)
					}
					add(in, d.Name.Name)
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						switch s := spec.(type) {
						case *ast.TypeSpec:
							add(f.Name.Name, s.Name.Name)
						case *ast.ValueSpec:
							for _, n := range s.Names {
								add(f.Name.Name, n.Name)
							}
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// receiver returns the name of a method's type.
func receiver(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

func TestNamesExist(t *testing.T) {
	all := declared(t)
	seen := 0
	for file, text := range documents(t) {
		for _, m := range mention.FindAllStringSubmatch(prose(text), -1) {
			seen++
			if m[1] == "io" || m[1] == "os" {
				continue // of the standard library
			}
			if !all[m[1]][m[2]] {
				t.Errorf("%s: there is no %s.%s", file, m[1], m[2])
			}
		}
	}
	if seen < 10 {
		t.Fatalf("only %d names found", seen)
	}
}

// TestPackagesAreDescribed holds the tables of the architecture to the directories.
func TestPackagesAreDescribed(t *testing.T) {
	text := documents(t)["docs/architecture.md"]
	for _, top := range []string{"builder", "firstboot"} {
		_, section, ok := strings.Cut(text, "| `"+top+"/` |")
		if !ok {
			t.Fatalf("docs/architecture.md has no table of %s/", top)
		}
		section, _, _ = strings.Cut(section, "\n\n")
		entries, err := os.ReadDir(filepath.Join(root, top))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() && !strings.Contains(section, "`"+e.Name()+"`") {
				t.Errorf("docs/architecture.md does not say what %s/%s is", top, e.Name())
			}
		}
	}
}

// unit is a systemd unit named in a document.
var unit = regexp.MustCompile("`([a-z][a-z0-9@.-]*\\.(service|path|target|timer|mount))`")

func TestUnitsExist(t *testing.T) {
	have := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, "assets"), func(name string, d fs.DirEntry, err error) error {
		have[filepath.Base(name)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for file, text := range documents(t) {
		for _, m := range unit.FindAllStringSubmatch(prose(text), -1) {
			seen++
			if !have[m[1]] {
				t.Errorf("%s: no asset is the unit %s", file, m[1])
			}
		}
	}
	if seen < 5 {
		t.Fatalf("only %d units found", seen)
	}
}
