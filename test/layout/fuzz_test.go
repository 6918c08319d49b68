// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryTargetIsFuzzed compares the targets that scripts/fuzz runs with those that Go's parser
// finds, in every module.
func TestEveryTargetIsFuzzed(t *testing.T) {
	const top = "../.."
	var want []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != top && (name[0] == '_' || name[0] == '.' || name == "testdata" || path == filepath.Join(top, "out")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, filepath.Dir(path))
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") {
				want = append(want, "== ./"+rel+" "+fn.Name.Name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(top+"/scripts/fuzz", "--list").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 40 || !slices.Equal(got, want) {
		t.Errorf("scripts/fuzz runs\n%s\nand there is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
