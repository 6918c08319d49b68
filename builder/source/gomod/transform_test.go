// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// upstreamModule writes an upstream module to change.
func upstreamModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"main.go":               "package main\n\nimport (\n\t\"fmt\"\n\t_ \"example.org/up/cloud\"\n)\n\nfunc main() { fmt.Println() }\n",
		"cloud/cloud.go":        "package cloud\n",
		"tools/a-b/run.go":      "// Package main runs.\npackage main\n\nvar main_ = 1\n\ntype t struct{}\n\nfunc (t) main() {}\n\nfunc main() { t{}.main() }\n",
		"tools/a-b/more.go":     "package main\n\nfunc helper() {}\n",
		"tools/a-b/run_test.go": "package main\n\nfunc x() { main() }\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTransform(t *testing.T) {
	dir, overlay := upstreamModule(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(overlay, "extra.go"), []byte("package main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tr := Transform{Drop: []string{"cloud"}, Unimport: []string{"example.org/up/cloud"}, Libraries: []string{"tools/a-b"}}
	if err := tr.apply(dir, overlay); err != nil {
		t.Fatal(err)
	}
	if s := read(t, dir, "main.go"); strings.Contains(s, "cloud") || !strings.Contains(s, `"fmt"`) {
		t.Errorf("main.go is\n%s", s)
	}
	want := "// Package main runs.\npackage ab\n\nvar main_ = 1\n\ntype t struct{}\n\nfunc (t) main() {}\n\nfunc Main() { t{}.main() }\n"
	if s := read(t, dir, "tools/a-b/run.go"); s != want {
		t.Errorf("run.go is\n%s", s)
	}
	if s := read(t, dir, "tools/a-b/more.go"); !strings.HasPrefix(s, "package ab\n") {
		t.Errorf("more.go is\n%s", s)
	}
	for _, gone := range []string{"cloud", "tools/a-b/run_test.go"} {
		if _, err := os.Stat(filepath.Join(dir, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	read(t, dir, "extra.go")
}

// The module's root has the module's name, without its major version.
func TestRootLibrary(t *testing.T) {
	dir := upstreamModule(t)
	tr := Transform{Module: "example.org/up-stream/v2", Libraries: []string{"."}}
	if err := tr.apply(dir, ""); err != nil {
		t.Fatal(err)
	}
	if s := read(t, dir, "main.go"); !strings.HasPrefix(s, "package upstream\n") || !strings.Contains(s, "func Main()") {
		t.Errorf("main.go is\n%s", s)
	}
}

// An instruction that does nothing means that upstream changed.
func TestPointlessInstructions(t *testing.T) {
	for _, c := range []struct {
		tr   Transform
		want string
	}{
		{Transform{Drop: []string{"gone"}}, "drop gone: the module has no such file"},
		{Transform{Unimport: []string{"example.org/gone"}}, "unimport example.org/gone: no file has"},
		{Transform{Unimport: []string{"fmt"}}, "unimport fmt: no file has a blank import"},
		{Transform{Libraries: []string{"cloud"}}, "library cloud: there is no function main"},
	} {
		if err := c.tr.apply(upstreamModule(t), ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}
