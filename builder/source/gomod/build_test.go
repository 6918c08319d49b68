// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"bytes"
	"debug/elf"
	"flag"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/tree"
)

// The large components take minutes; building an image builds them, so that by default
// only the smallest is built here.
var (
	components = flag.String("components", "pause", "comma-separated components to build and check, or all")
	keep       = flag.String("keep", "", "directory to keep the built programs in")
)

func wanted(t *testing.T) []string {
	if *components != "all" {
		return strings.Split(*components, ",")
	}
	names, err := Names(checkout)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestBuildAndCheck(t *testing.T) {
	tc := toolchain(t)
	for _, name := range wanted(t) {
		t.Run(name, func(t *testing.T) {
			c, err := Load(checkout, name)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if *keep != "" {
				if dir = filepath.Join(*keep, name); os.MkdirAll(dir, 0o755) != nil {
					t.Fatalf("cannot make %s", dir)
				}
			}
			outputs, err := tc.Build(t.Context(), c, Options{Arch: runtime.GOARCH, Dir: dir, Jobs: 2})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range outputs {
				checkStatic(t, filepath.Join(dir, o.File))
			}
			for _, k := range c.Checks {
				runCheck(t, c, k, dir, outputs)
			}
			checkPlaced(t, c, dir, outputs)
		})
	}
}

// checkStatic lets the ELF reader of the standard library judge: no interpreter, no
// libraries, no symbol table.
func checkStatic(t *testing.T, file string) {
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s has a %v segment", file, p.Type)
		}
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Errorf("%s has symbols", file)
	}
}

func runCheck(t *testing.T, c *Component, k Check, dir string, outputs []Output) {
	cmd := exec.Command(programFor(t, k.Command[0], dir, outputs), k.Command[1:]...)
	cmd.Args[0] = k.Command[0]
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v: %s", k.Command, err, out)
		return
	}
	first, _, _ := bytes.Cut(out, []byte("\n"))
	if want := c.expand(k.Output); strings.TrimSpace(string(first)) != want {
		t.Errorf("%q printed %q, want %q", k.Command, first, want)
	}
}

// programFor returns the file that a base name in the image leads to.
func programFor(t *testing.T, name, dir string, outputs []Output) string {
	for _, o := range outputs {
		for _, p := range append([]string{o.Path}, o.Links...) {
			if path.Base(p) == name {
				return filepath.Join(dir, o.File)
			}
		}
	}
	t.Fatalf("no output is called %s", name)
	return ""
}

// checkPlaced puts the outputs into a tree as read back from the record, and reads every
// file through its links.
func checkPlaced(t *testing.T, c *Component, dir string, built []Output) {
	outputs, err := Outputs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(outputs) != len(built) {
		t.Fatalf("recorded %d outputs of %d", len(outputs), len(built))
	}
	tr := tree.New()
	if err := Place(tr, c.Name, dir, outputs); err != nil {
		t.Fatal(err)
	}
	for _, prog := range c.Programs {
		for _, p := range append([]string{prog.Path}, prog.Links...) {
			at, err := tr.Resolve(p)
			if err != nil {
				t.Fatal(err)
			}
			n := tr.Lookup(at)
			if n == nil || n.Kind != tree.Regular || n.Mode != 0o755 || n.Origin != "component:"+c.Name {
				t.Fatalf("%s leads to %s: %+v", p, at, n)
			}
			if at != prog.Path {
				t.Errorf("%s leads to %s, want %s", p, at, prog.Path)
			}
		}
		if _, err := tr.Lookup(prog.Path).Content.ReadAll(); err != nil {
			t.Error(err)
		}
	}
}

// Planning asks for the toolchain, too, and promises to write nothing.
func TestFindingTheToolchainWritesNothing(t *testing.T) {
	home := t.TempDir()
	there := filepath.Join(home, "there")
	if err := os.Mkdir(there, 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(there)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", there)
	t.Setenv("GOMODCACHE", filepath.Join(home, "new", "mod"))
	t.Setenv("GOPATH", filepath.Join(home, "new"))
	cache := filepath.Join(home, "cache")
	tc, err := FindToolchain(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(there)
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("%s was written to (%v)", there, err)
	}
	if entries, _ := os.ReadDir(home); len(entries) != 1 {
		t.Errorf("wrote %v", entries)
	}
	for _, want := range []string{"GOCACHE=" + there, "GOPATH=" + filepath.Join(home, "new")} {
		if !slices.Contains(tc.env, want) {
			t.Errorf("the environment lacks %s", want)
		}
	}
}

func TestUsable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{dir: true, filepath.Join(dir, "a/b"): true, file: false, filepath.Join(file, "a"): false,
		filepath.Join(dir, "dangling"): false, "relative": false, "": false, "/dev/null/x": false} {
		if usable(name) != want {
			t.Errorf("usable(%q) = %t", name, !want)
		}
	}
}
